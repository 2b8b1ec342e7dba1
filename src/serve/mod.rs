//! The service: batches in by HTTP, tables and changes out, for as long as it is left alone.
//!
//! - [`service`] is what all parts share; [`http`] is the door
//! - [`pipeline`] is the way of a batch: journal and engine side by side, tables, answer
//! - [`folding`] keeps the journal from growing for ever
//! - [`recent`] keeps the last changes for those who follow them; [`metrics`] counts
//! - [`sinks`] are databases, folders and servers that get the tables or their changes besides; [`out`] says which, and [`further`] is what
//!   they and the rest tell each other
//! - [`demo`] delivers what was generated; [`clock`] moves as-of on where that is the machine's clock
//! - [`watch`] delivers what is in folders
//! - [`recovery`] decides what is done with what is there when it starts; [`damaged`] is what is left to do where that can't be read
//!
//! The journal is the truth, the tables are in SQLite, and memory is that of the graphs. Reads are answered from SQLite, as of one epoch:
//! they wait for no batch, and no batch waits for them.
//!
//! # Limits
//! Process 0 does all but computing; others are [`member`]s. What is not understood is refused by name; everything has a limit
//! ([`limits::Limits`]).

mod clock;
mod damaged;
pub mod demo;
mod door;
mod folding;
pub mod further;
pub mod http;
pub mod limits;
pub mod member;
pub mod metrics;
pub mod out;
pub mod pipeline;
pub mod recent;
pub mod recovery;
pub mod served;
pub mod service;
pub mod sinks;
pub mod sources;
pub mod watch;
pub mod why;

use crate::cluster::Cluster;
use crate::engine::host::{self, Host};
use crate::engine::{EngineError, Job, Passing};
use crate::failure;
use crate::interrupt;
use crate::points::store::outlet::OpenStore;
use crate::points::store::{Store, StoreError};
use crate::points::{Destination, PointsError};
use crate::sinks::SinkError;
use crate::sinks::live::read::Readers;
use crate::sinks::live::{BatchRow, Live};
use crate::state::folders::Folder;
use crate::state::home::Home;
use crate::state::{State, StateError};
use demo::Demo;
use door::Door;
use further::{Further, Wanted};
use http::auth::Tokens;
use limits::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pipeline::Shared;
use recovery::{Decision, Facts, Reached};
use retally_core::Epoch;
use served::Served;
use service::{Incoming, Phase, Service};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use watch::Watched;

/// What a service is.
pub struct Options {
    /// Where it listens: HOST:PORT.
    pub listen: String,
    /// Its state.
    pub state: Home,
    /// Its workers and processes, of which this is the first.
    pub cluster: Cluster,
    /// What it may be asked for.
    pub limits: Limits,
    /// Where tables go besides.
    pub sinks: Vec<Wanted>,
    /// Folders that are watched: the dataflow's place, and the folder.
    pub watched: Vec<(usize, Folder)>,
    /// Brokers whose messages become batches.
    pub sources: Vec<sources::Wanted>,
    /// What keeps arriving of itself.
    pub demo: Vec<Demo>,
    /// How long a file must have stayed the same before it is taken.
    pub settle: Duration,
    /// Who may ask; nothing where all may.
    pub tokens: Option<Tokens>,
    /// What proves who it is, where it is asked by HTTPS.
    pub tls: Option<TlsAcceptor>,
    /// Says what happened to who runs it.
    pub told: fn(&str),
}

/// Why a service did not start, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state can't be used, or not be written any more.
    #[error(transparent)]
    State(#[from] StateError),
    /// The tables can't be used.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The engine has failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It can't listen.
    #[error("could not listen on {address:?}: {}", failure::words(cause))]
    Listen {
        /// The address.
        address: String,
        /// Why.
        cause: io::Error,
    },
    /// Anybody could reach it.
    #[error("would listen on {0:?}, where others can reach it, without knowing who may ask")]
    Unprotected(String),
    /// The system has failed.
    #[error("could not start the service: {}", failure::words(.0))]
    System(#[from] io::Error),
}

impl ServeError {
    /// Whether a file of the state is not what was written. Of what can't be read before it takes batches, that is so.
    fn is_damage(&self) -> bool {
        matches!(self, ServeError::State(StateError::Damaged { .. }) | ServeError::Engine(EngineError::Read(_)))
    }
}

/// What happens to a service.
enum Event {
    Asked,
    Journal(Result<(), ServeError>),
    Commit(Result<(), ServeError>),
}

/// Serves until a signal asks it to end. `listening` is called when it takes requests.
///
/// Where the state is damaged, what the tables hold can still be read, and the error is returned when it ends.
pub fn run(dataflows: Vec<Served>, mut options: Options, listening: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    raise_open_files();
    let mut found = match find(&dataflows, &options) {
        Err(error) if error.is_damage() => return damaged::run(dataflows, options, listening, error),
        found => found?,
    };
    let (sender, queue) = mpsc::sync_channel(options.limits.waiting);
    let readers = Readers::new(found.live.path());
    let service = Arc::new(Service::new(dataflows, found.state.files().clone(), readers, &options, sender));
    service.set_store(found.store.take());
    for (place, decision) in found.decisions.iter().enumerate() {
        if let Decision::Compare(epoch) = decision {
            service.publish(&[(place, *epoch)]);
        }
    }
    let door = Door::open(&service, &mut options)?;
    let (events, happened) = mpsc::channel();
    ask(&service, &events)?;
    listening(door.address());
    let ended = work(&service, found, &mut options, &events, &happened, queue);
    if let Err(error) = &ended
        && error.is_damage()
        && service.phase() == Phase::Recovering
    {
        let _lock = State::lock(&options.state)?;
        damaged::remain(&service, error, &happened);
    }
    // Where it ends by itself, requests that wait and streams have to hear of it.
    service.end();
    door.close();
    ended
}

/// What was there.
struct Found {
    state: State,
    live: Live,
    decisions: Vec<Decision>,
    jobs: Vec<Job>,
    /// The store of points, where dataflows have one.
    store: Option<Arc<Store>>,
}

fn find(dataflows: &[Served], options: &Options) -> Result<Found, ServeError> {
    let state = State::open(&options.state)?;
    if state.torn() > 0 {
        let journal = state.path().join("journal");
        (options.told)(&format!("{journal:?} ends with a batch that was not there yet when its process ended; it is cut off"));
    }
    let dir = options.state.local();
    if state.is_scratch_new() {
        (options.told)(&format!("the scratch folder {dir:?} was that of another state: all in it is rebuilt"));
    }
    let mut live = Live::open(&State::tables(dir))?;
    let decisions = dataflows.iter().map(|served| look(&state, &mut live, served)).collect::<Result<_, _>>()?;
    let (store, jobs) = open_store(dataflows)?;
    Ok(Found { state, live, decisions, jobs, store })
}

/// Has signals ask the service to end.
fn ask(service: &Arc<Service>, events: &Sender<Event>) -> io::Result<()> {
    let (asked, ending) = (events.clone(), Arc::clone(service));
    interrupt::listen_and_ask(move || {
        let is_recovering = ending.phase() == Phase::Recovering;
        ending.end();
        if is_recovering {
            // Nothing is under way but what is there already.
            interrupt::exit(0);
        }
        asked.send(Event::Asked).ok();
    })
}

/// Takes up what was there, and then takes batches until it is asked to end.
fn work(
    service: &Arc<Service>,
    found: Found,
    options: &mut Options,
    events: &Sender<Event>,
    happened: &Receiver<Event>,
    queue: Receiver<Incoming>,
) -> Result<(), ServeError> {
    let Found { mut state, mut live, decisions, jobs, .. } = found;
    let (host, completed) = host::start(jobs, options.cluster.clone(), Passing::Values)?;
    let (host, shared) = (Arc::new(host.joined()?), Arc::new(Shared::default()));
    let reached = take_up(service, &state, &mut live, &host, &shared, &decisions)?;
    let made: Vec<bool> = decisions.iter().map(|decision| matches!(decision, Decision::Make(_))).collect();
    spawn("tables", events, Event::Commit, {
        let (service, shared) = (Arc::clone(service), Arc::clone(&shared));
        move || {
            let ended = pipeline::commit(&service, live, &completed, &shared, &made);
            // Whoever waits for what is under way waits in vain.
            shared.fail();
            ended
        }
    })?;
    pipeline::catch_up(service, &state, &host, &shared, &reached)?;
    let is_ready = shared.drained();
    let began = service.readable().borrow().clone();
    let mut writing = Vec::new();
    if is_ready {
        let watched = watched(service, &state, &options.watched, options.settle)?;
        let brokers = sources::known(service, &state, &options.sources)?;
        state.forget_frames();
        spawn("journal", events, Event::Journal, {
            let (service, shared, host) = (Arc::clone(service), Arc::clone(&shared), Arc::clone(&host));
            move || pipeline::journal(&service, state, &host, &queue, &shared)
        })?;
        service.enter(Phase::Ready);
        notify("READY=1");
        writing = start_sinks(service, &began)?;
        start_watching(service, watched)?;
        sources::start(service, brokers)?;
        if service.dataflows.iter().any(Served::is_of_clock) {
            let service = Arc::clone(service);
            std::thread::Builder::new().name("clock".into()).spawn(move || clock::run(&service))?;
        }
        for demo in std::mem::take(&mut options.demo) {
            let service = Arc::clone(service);
            std::thread::Builder::new().name("demo".into()).spawn(move || demo.run(&service))?;
        }
    }
    let ended = until_ended(happened, service, &shared, is_ready);
    // Where the engine has failed, that is why the others ended.
    if !matches!(ended, Err(ServeError::State(_) | ServeError::Sink(_)))
        && let Some(host) = Arc::into_inner(host)
    {
        host.close()?;
    }
    service.set_store(None);
    ended?;
    service.further.iter().for_each(Further::end);
    writing.into_iter().for_each(|thread: JoinHandle<()>| drop(thread.join()));
    Ok(())
}

/// Starts the further sinks, which have seen nothing of what was taken up before these epochs.
fn start_sinks(service: &Arc<Service>, began: &[Option<Epoch>]) -> io::Result<Vec<JoinHandle<()>>> {
    let start = |number| {
        let (service, began) = (Arc::clone(service), began.to_vec());
        let run = move || service.further.iter().skip(number).take(1).for_each(|further| sinks::run(further, &service, &began));
        std::thread::Builder::new().name(format!("sink-{number}")).spawn(run)
    };
    (0..service.further.len()).map(start).collect()
}

fn start_watching(service: &Arc<Service>, watched: Vec<Watched>) -> io::Result<()> {
    for (number, folder) in watched.into_iter().enumerate() {
        let service = Arc::clone(service);
        let run = move || {
            if let Some(status) = service.watched.get(number) {
                folder.run(&service, status);
            }
        };
        std::thread::Builder::new().name(format!("folder-{number}")).spawn(run)?;
    }
    Ok(())
}

/// Waits until both threads have ended, because they were asked to or because one has failed; the first of them only where it `has_begun`.
fn until_ended(happened: &Receiver<Event>, service: &Service, shared: &Shared, has_begun: bool) -> Result<(), ServeError> {
    let (mut journal, mut tables) = (!has_begun, false);
    let mut first = None;
    while !(journal && tables) {
        let Ok(event) = happened.recv() else { break };
        let ended = match event {
            Event::Asked => {
                notify("STOPPING=1");
                service.tell("ending: what has been taken is finished");
                continue;
            }
            Event::Journal(ended) => {
                journal = true;
                ended
            }
            Event::Commit(ended) => {
                tables = true;
                ended
            }
        };
        // Of one that ends before it was asked to, the other has to hear.
        if ended.is_err() || service.phase() != Phase::Ending {
            shared.fail();
            if has_begun {
                service.end();
            }
        }
        first = first.or(ended.err());
    }
    first.map_or(Ok(()), Err)
}

/// Opens the store of points, where dataflows have one. What is there of their points is rewritten: what has changed since the process
/// before this one ended is not known.
fn open_store(dataflows: &[Served]) -> Result<(Option<Arc<Store>>, Vec<Job>), ServeError> {
    let failed = |error: StoreError| EngineError::from(PointsError::from(error));
    let (mut open, mut jobs): (Option<OpenStore>, Vec<Job>) = (None, Vec::new());
    for served in dataflows {
        let mut job = served.job.clone();
        if let Destination::Store(dir) = &job.points {
            let store = match &open {
                Some(open) => open.clone(),
                None => open.insert(OpenStore::open(dir).map_err(failed)?).clone(),
            };
            job.graph.measurements().iter().try_for_each(|measurement| store.store().clear(measurement.name)).map_err(failed)?;
            job.points = Destination::OpenStore(store);
        }
        jobs.push(job);
    }
    Ok((open.map(|open| Arc::clone(open.store())), jobs))
}

/// As many files and connections may be open as the system allows: shells give a process few at first.
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where that is refused, fewer streams can be open.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

/// Tells systemd, where it wants to know.
fn notify(state: &str) {
    // Without it nothing is lost.
    sd_notify::notify(&[sd_notify::NotifyState::Custom(state)]).ok();
}

fn spawn(
    name: &str,
    events: &Sender<Event>,
    ended: fn(Result<(), ServeError>) -> Event,
    work: impl FnOnce() -> Result<(), ServeError> + Send + 'static,
) -> io::Result<()> {
    let events = events.clone();
    let run = move || drop(events.send(ended(work())));
    std::thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// What is done with a dataflow, and its batches written down that are in the journal alone.
fn look(state: &State, live: &mut Live, served: &Served) -> Result<Decision, ServeError> {
    let name = served.name();
    let tables = live.reached(name)?;
    let fingerprint = &served.fingerprint;
    let tables = tables.map(|tables| Reached { epoch: tables.epoch, same_settings: tables.fingerprint == *fingerprint });
    let decision = recovery::decide(Facts { journal: state.epoch(name), folded: state.folded(name), tables });
    if let Decision::Refuse { tables } = decision {
        state.check_reached(name, tables)?;
    }
    let (_, left_out) = served.job.divided();
    live.leave_out(name, &left_out)?;
    // Names and texts.
    live.set_settings(name, fingerprint, &served.job.settings_json())?;
    let last = live.last_batch(name)?;
    let missing: Vec<BatchRow> = state.frames(name).filter(|frame| frame.epoch > last).map(pipeline::batch_row).collect();
    if !missing.is_empty() {
        live.add_batches(name, &missing)?;
    }
    Ok(decision)
}

/// Gives the engine what the tables have reached, as one epoch of each dataflow. Returns these epochs.
fn take_up(
    service: &Service,
    state: &State,
    live: &mut Live,
    host: &Host,
    shared: &Shared,
    decisions: &[Decision],
) -> Result<Vec<Epoch>, ServeError> {
    let mut reached = Vec::new();
    for (place, (served, decision)) in service.dataflows.iter().zip(decisions).enumerate() {
        let (until, is_made) = match decision {
            Decision::Compare(until) => (*until, false),
            Decision::Make(until) => (*until, true),
            Decision::Refuse { tables } => (*tables, false),
        };
        match state.replay(served.of(), until)? {
            Some((epoch, plan)) => {
                shared.replaying();
                host.replay(place, epoch, plan)?;
            }
            None => pipeline::take_up(service, live, place, 0, BTreeMap::new(), Vec::new(), is_made)?,
        }
        reached.push(until);
    }
    Ok(reached)
}

/// The folders that are watched, with what the journal knows of them.
fn watched(service: &Service, state: &State, folders: &[(usize, Folder)], settle: Duration) -> Result<Vec<Watched>, ServeError> {
    let mut watched = Vec::new();
    for (place, folder) in folders {
        let Some(served) = service.dataflows.get(*place) else { continue };
        let Some(input) = served.job.definition.inputs.get(folder.input) else { continue };
        watched.push(Watched::new(*place, input, folder.clone(), settle, state.frames(served.name()))?);
    }
    Ok(watched)
}
