//! The workers of a process: how they are started and connected, and what worker 0 of process 0 does with them.
//!
//! All workers build the same dataflows in the same order, and step. Worker 0 of process 0 has a [`Core`], through which it feeds batches
//! and takes complete epochs, and a closure that drives it: [`super::run`] or [`super::host`].

use super::errors::EngineError;
use super::hosted::{Commit, Hosted, Offer};
use super::job::{Job, agreement, terms};
use super::summary::Progress;
use crate::cluster::Cluster;
use crate::cluster::mesh::{self, Meeting, MeshError};
use crate::cluster::shared::{Sight, Unseen};
use crate::ingest::read::FileOpener;
use crate::points::relay::wire::Known;
use crate::points::relay::{self, Relay};
use crate::points::staged::{self, Staged, StagedPoints, Staging};
use crate::points::{Dropped, Outlet, PointsError};
use retally_core::gather::gather;
use retally_core::ids::Ids;
use retally_core::texts::Texts;
use retally_core::{Epoch, VecStream};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::scheduling::SyncActivator;
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

/// How long an idle worker of a single process looks for work before it parks: waking up takes longer than an epoch's steps are apart.
const IDLE_SPIN: Duration = Duration::from_micros(50);
/// How long a worker that drives parks at most while something is under way, so that progress is reported.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How long what process 0 shows is looked for: a file system of several hosts may need a moment.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How the workers of one process pass data to one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passing {
    /// As values.
    #[default]
    Values,
    /// As bytes, as between processes: for tests.
    Bytes,
}

/// Runs jobs on this process's workers, and `drive` on worker 0 of process 0; returns what it returns. On other processes it returns
/// nothing, when process 0 has ended.
///
/// When `drive` fails, all processes end with an error.
pub fn on_workers<T: Send + 'static>(
    jobs: &[Job],
    cluster: &Cluster,
    passing: Passing,
    drive: impl FnOnce(&mut Worker, &mut Core) -> Result<T, EngineError> + Send + 'static,
) -> Result<Option<T>, EngineError> {
    let hooks = Hooks::default;
    let begun = jobs.iter().map(|job| Staging::begin(&job.points, cluster.process, cluster.processes()));
    let staging: Vec<Staging> = begun.collect::<Result<_, _>>()?;
    let mut mark = 0;
    let (mut ties, mut relays) = (None, Vec::new());
    let (builders, guard): (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>) = if cluster.processes() > 1 {
        if cluster.process == 0 {
            mark = staged::mark();
            staging.iter().try_for_each(|staging| staging.show(mark))?;
            show(cluster, mark)?;
        }
        let sees = |mark| look(cluster, &staging, mark);
        let meeting = Meeting { fingerprint: agreement(jobs), terms: terms(jobs), shown: mark, relays: stores(jobs), sees: &sees };
        let mesh = mesh::connect(cluster, &meeting, cluster.membership.lost)?;
        mark = mesh.shown;
        (ties, relays) = (Some(mesh.ties), mesh.relays);
        let threads = ProcessBuilder::new_typed_vector(cluster.workers, hooks().refill, None);
        let (builders, guard) = initialize_networking_from_sockets(threads, mesh.links, cluster.process, cluster.workers, hooks())
            .map_err(|error| EngineError::Start(error.to_string()))?;
        (builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard))
    } else {
        let config = match passing {
            Passing::Values => CommunicationConfig::Process(cluster.workers),
            Passing::Bytes => CommunicationConfig::ProcessBinary(cluster.workers),
        };
        config.try_build().map_err(EngineError::Start)?
    };
    (cluster.membership.met)();
    let (mut outlets, mut points, mut files, mut parts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let begun = |error: std::io::Error| EngineError::Start(error.to_string());
    let relay = relays.pop_if(|_| cluster.process > 0).map(Relay::start).transpose().map_err(begun)?;
    let mut store = None;
    for staging in staging {
        let Staged { destination, file, part } = staging.meet(mark, cluster.processes());
        let outlet: Box<dyn Outlet> = match &relay {
            Some(relay) if destination.is_store() => Box::new(relay.outlet()),
            _ => destination.open(cluster.process)?,
        };
        if destination.is_store() {
            store.get_or_insert_with(|| outlet.points());
        }
        points.push(outlet.points());
        outlets.push(outlet);
        files.push(file);
        parts.push(part);
    }
    if let Some(store) = store {
        for stream in relays {
            relay::receive(stream, &store, measurements(jobs)).map_err(begun)?;
        }
    }
    let opener = match cluster.addresses.get(cluster.process) {
        Some(address) => FileOpener::of_process(&format!("process {} ({address})", cluster.process)),
        None => FileOpener::default(),
    };
    let texts = |job: &Job| (job.graph.ids() == Ids::Text).then(|| Texts::of_workers(cluster.workers));
    let texts = jobs.iter().map(texts).collect();
    let process = Process { outlets: Arc::new(Mutex::new(Some(outlets))), failure: Failure::default(), opener, texts };
    let failure = Arc::clone(&process.failure);
    let once = Arc::new(Mutex::new(Some((drive, files))));
    let jobs = jobs.to_vec();
    let work = move |worker: &mut Worker| -> Result<Option<T>, EngineError> {
        let mut core = Core::build(worker, &jobs, &points, &process);
        if worker.index() != 0 {
            return Ok(None);
        }
        let Some((drive, files)) = taken(&once) else { return Ok(None) };
        core.staged = files;
        let result = drive(worker, &mut core);
        if let Err(error) = &result {
            core.stop(error);
        }
        result.map(Some)
    };
    // What comes from another process comes through threads that read and write: a worker that looks for it would keep them waiting.
    let spin = if cluster.processes() > 1 { Duration::ZERO } else { IDLE_SPIN };
    let config = WorkerConfig::default().idle_spin(spin);
    let guards = timely::execute::execute_from(builders, guard, config, work).map_err(EngineError::Start)?;
    // All workers have ended then, and those of the other processes have heard it.
    let results = guards.join();
    if let Some(ties) = ties {
        ties.finish();
    }
    let mut driven = None;
    for result in results {
        driven = result.map_err(EngineError::Start)??.or(driven);
    }
    // Those of a run that failed go, and none is there any more of one that did not.
    drop(parts);
    match failure.get() {
        Some(why) => Err(EngineError::Elsewhere(why.clone())),
        None => Ok(driven),
    }
}

/// Shows other processes what they must see of this one.
fn show(cluster: &Cluster, mark: u64) -> Result<(), MeshError> {
    let Some(shared) = &cluster.membership.shared else { return Ok(()) };
    shared.show(mark).map_err(|error| MeshError::Unshown { name: shared.name(), why: error.to_string() })
}

/// Looks for what process 0 shows.
fn look(cluster: &Cluster, staging: &[Staging], mark: u64) -> Result<(), Unseen> {
    if !staging.iter().all(|staging| staging.sees(mark)) {
        return Err(Unseen { sight: Sight::NotPoints, why: "it is another one, or is not there".into() });
    }
    let Some(shared) = &cluster.membership.shared else { return Ok(()) };
    let deadline = Instant::now() + LOOK_MAX;
    loop {
        match shared.sees(mark) {
            Err(why) if Instant::now() >= deadline => return Err(Unseen { sight: Sight::NotState, why }),
            Err(_) => std::thread::sleep(LOOK_MAX / 5),
            Ok(()) => return Ok(()),
        }
    }
}

/// Whether points of any job go to a store, which is written by process 0.
fn stores(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| job.points.is_store())
}

/// The kinds of points of all jobs, by name.
fn measurements(jobs: &[Job]) -> Known {
    let all = jobs.iter().flat_map(|job| job.graph.measurements());
    all.map(|measurement| (measurement.name, Arc::new(measurement))).collect()
}

fn taken<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Why process 0 failed, once the workers of a process have heard of it.
type Failure = Arc<OnceLock<String>>;

/// What the workers of a process share.
struct Process {
    /// Where points go, until that is finished.
    outlets: Arc<Mutex<Option<Vec<Box<dyn Outlet>>>>>,
    failure: Failure,
    opener: FileOpener,
    /// The texts of ids, for each job.
    texts: Vec<Option<Arc<Texts>>>,
}

/// What worker 0 of process 0 tells the workers of all processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// There are no more points: all are to be written for good.
    Finish,
    /// The run has failed, and why.
    Stop(String),
}

/// What came of a process's points.
type Finished = Result<Dropped, String>;

/// All dataflows, on the worker that feeds them.
pub struct Core {
    hosted: Vec<Hosted>,
    /// At time 0 until points are finished, then at 1.
    orders: InputHandleVec<Epoch, Order>,
    /// Whether all processes have followed the orders.
    followed: ProbeHandle<Epoch>,
    finished: Rc<RefCell<Vec<Finished>>>,
    staged: Vec<Option<StagedPoints>>,
    opener: FileOpener,
    waker: SyncActivator,
}

impl Core {
    fn build(worker: &mut Worker, jobs: &[Job], points: &[Arc<dyn retally_core::points::Points>], process: &Process) -> Core {
        let finished = Rc::new(RefCell::new(Vec::new()));
        let followed = ProbeHandle::new();
        let arrived = Rc::clone(&finished);
        let mut address = Vec::new();
        let orders = worker.dataflow_named::<Epoch, _, _>("orders", |scope| {
            let (orders, told) = scope.new_input::<Order>();
            let gathered = gather(follow(told.broadcast(), process, &mut address), "gather what finished", move |finished| {
                arrived.borrow_mut().append(finished);
            });
            gathered.probe_with(&followed);
            orders
        });
        let build = |(place, (job, points)): (usize, (&Job, _))| {
            let texts = process.texts.get(place).cloned().flatten();
            Hosted::build(worker, place, job, &process.opener, points, texts)
        };
        let hosted = jobs.iter().zip(points).enumerate().map(build).collect();
        let waker = worker.sync_activator_for(address);
        Core { hosted, orders, followed, finished, staged: Vec::new(), opener: process.opener.clone(), waker }
    }

    /// What wakes this worker from another thread.
    pub fn waker(&self) -> SyncActivator {
        self.waker.clone()
    }

    /// Takes a batch of a dataflow, which is fed with the next step.
    pub fn offer(&mut self, dataflow: usize, offer: Offer) {
        if let Some(hosted) = self.hosted.get_mut(dataflow) {
            hosted.offer(offer);
        }
    }

    /// Steps all dataflows, or parks where there is nothing to do, for so long at most. Moves epochs that are complete to `complete`: those
    /// of a dataflow in order.
    pub fn step(&mut self, worker: &mut Worker, park_max: Option<Duration>, complete: &mut Vec<Commit>) -> Result<(), EngineError> {
        self.hosted.iter_mut().for_each(Hosted::feed);
        worker.step_or_park(park_max);
        self.hosted.iter_mut().try_for_each(|hosted| hosted.poll(complete))
    }

    /// Whether a batch is under way in any dataflow.
    pub fn is_busy(&self) -> bool {
        self.hosted.iter().any(Hosted::is_busy)
    }

    /// How far the first epoch of a dataflow is that is in flight.
    pub fn progress(&self, dataflow: usize) -> Option<Progress> {
        self.hosted.get(dataflow)?.progress()
    }

    /// Has all processes write the last of their points. Returns what destinations refused, and the files to be put in their places.
    pub fn finish_points(&mut self, worker: &mut Worker) -> Result<(Dropped, Vec<StagedPoints>), EngineError> {
        self.orders.send(Order::Finish);
        self.orders.advance_to(1);
        self.orders.flush();
        while self.followed.less_than(&1) {
            worker.step_or_park(Some(PROGRESS_EVERY));
        }
        let mut dropped = Dropped::default();
        for finished in self.finished.take() {
            dropped.join(finished.map_err(PointsError::Write)?);
        }
        let mut files: Vec<StagedPoints> = self.staged.drain(..).flatten().collect();
        files.iter_mut().try_for_each(StagedPoints::collect)?;
        Ok((dropped, files))
    }

    /// Tells all processes that the run has failed.
    fn stop(&mut self, error: &EngineError) {
        self.opener.cancel();
        self.orders.send(Order::Stop(error.to_string()));
    }
}

/// Follows orders on a worker. The first of its process that is told to finish does so for all of them. `address` becomes that of the
/// operator.
fn follow<'s>(told: VecStream<'s, Order>, process: &Process, address: &mut Vec<usize>) -> VecStream<'s, Finished> {
    let (outlets, failure, reading) = (Arc::clone(&process.outlets), Arc::clone(&process.failure), process.opener.clone());
    told.unary::<CapacityContainerBuilder<Vec<Finished>>, _, _, _>(Pipeline, "follow orders", |_, info| {
        *address = info.address.to_vec();
        move |input, output| {
            input.for_each(|capability, orders| {
                let mut session = output.session(&capability);
                for order in orders.drain(..) {
                    match order {
                        Order::Finish => {
                            for outlet in taken(&outlets).into_iter().flatten() {
                                session.give(outlet.finish().map_err(|error| error.to_string()));
                            }
                        }
                        Order::Stop(why) => {
                            reading.cancel();
                            failure.set(why).ok();
                        }
                    }
                }
            });
        }
    })
}
