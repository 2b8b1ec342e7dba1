//! Dataflows that are fed from other threads: the engine of a service.
//!
//! A [`Host`] takes planned batches of any of its dataflows, and gives each the next epoch of its dataflow. [`Completed`] gives out the
//! epochs that are complete, those of a dataflow in order, to the thread that commits. Neither waits for the other: any number of epochs
//! may be in flight, up to [`OFFERS_MAX`] of each dataflow, and what is complete is committed while the next are computed.
//!
//! Batches are planned before they are offered, by any thread; what can't be planned never gets here, and leaves all else as it is. What
//! fails after that fails the host: a batch that has reached a dataflow can't be taken back.
//!
//! # Limits
//! One process offers and commits, process 0; others [`follow`] it. Worker 0 parks when nothing is under way, and is woken by an offer.

use super::errors::EngineError;
use super::hosted::{Commit, Offer};
use super::workers::{Core, PROGRESS_EVERY, Passing, on_workers};
use super::{Job, publish};
use crate::cluster::Cluster;
use crate::ingest::plan::Plan;
use crate::points::Dropped;
use retally_core::Epoch;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timely::scheduling::SyncActivator;

/// So many batches of a dataflow may be offered and not complete.
pub const OFFERS_MAX: usize = 1_024;

/// What worker 0 is sent.
enum Message {
    Offer(usize, Box<Offer>),
    /// There are no more offers: end when all are complete.
    Close,
}

/// A dataflow as those who offer see it.
struct Door {
    name: &'static str,
    /// The epoch of the last offer.
    epoch: Epoch,
    /// How many offers are not complete.
    under_way: Arc<AtomicUsize>,
}

/// Takes batches of dataflows. Any thread may offer.
pub struct Host {
    doors: Mutex<Vec<Door>>,
    inbox: Sender<Message>,
    /// Set as soon as worker 0 is there; before, it looks by itself.
    waker: Arc<OnceLock<SyncActivator>>,
    thread: JoinHandle<Result<Option<Dropped>, EngineError>>,
    /// Whether batches are read by other processes, too.
    is_shared: bool,
}

/// Gives out complete epochs.
pub struct Completed {
    commits: Receiver<Commit>,
    under_way: Vec<Arc<AtomicUsize>>,
}

/// How often it is looked whether all processes are connected.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Starts jobs on the workers of process 0. Other processes are awaited meanwhile: see [`Host::joined`].
pub fn start(jobs: Vec<Job>, cluster: Cluster, passing: Passing) -> Result<(Host, Completed), EngineError> {
    let under_way: Vec<Arc<AtomicUsize>> = jobs.iter().map(|_| Arc::default()).collect();
    let door = |(job, under_way): (&Job, &Arc<AtomicUsize>)| Door { name: job.definition.name, epoch: 0, under_way: Arc::clone(under_way) };
    let doors = Mutex::new(jobs.iter().zip(&under_way).map(door).collect());
    let (inbox, offers) = mpsc::channel();
    let (complete, commits) = mpsc::channel();
    let waker: Arc<OnceLock<SyncActivator>> = Arc::default();
    let here = Arc::clone(&waker);
    let drive = move |worker: &mut timely::worker::Worker, core: &mut Core| {
        here.set(core.waker()).ok();
        serve(worker, core, &offers, &complete)?;
        let (dropped, points) = core.finish_points(worker)?;
        publish(points)?;
        Ok(dropped)
    };
    let is_shared = cluster.processes() > 1;
    let run = move || on_workers(&jobs, &cluster, passing, drive);
    let thread = std::thread::Builder::new().name("host".into()).spawn(run).map_err(|error| EngineError::Start(error.to_string()))?;
    Ok((Host { doors, inbox, waker, thread, is_shared }, Completed { commits, under_way }))
}

/// Gives workers to the host on process 0, until that ends. An error where it failed, or where the processes could not be connected.
pub fn follow(jobs: &[Job], cluster: &Cluster) -> Result<(), EngineError> {
    on_workers(jobs, cluster, Passing::Values, |_, _| Ok(())).map(drop)
}

/// Worker 0's loop: take offers, step, give out what is complete.
fn serve(
    worker: &mut timely::worker::Worker,
    core: &mut Core,
    offers: &Receiver<Message>,
    complete: &Sender<Commit>,
) -> Result<(), EngineError> {
    let mut open = true;
    let mut commits = Vec::new();
    while open || core.is_busy() {
        loop {
            match offers.try_recv() {
                Ok(Message::Offer(dataflow, offer)) => core.offer(dataflow, *offer),
                Ok(Message::Close) | Err(TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        // An offer that comes now has activated an operator, so this does not park.
        let park_max = (core.is_busy() || !open).then_some(PROGRESS_EVERY);
        core.step(worker, park_max, &mut commits)?;
        // Nobody has to listen.
        commits.drain(..).for_each(|commit| drop(complete.send(commit)));
    }
    Ok(())
}

impl Host {
    /// Waits until all processes are connected, and worker 0 is there. An error where that can't be: why.
    pub fn joined(self) -> Result<Host, EngineError> {
        while self.waker.get().is_none() {
            if self.thread.is_finished() {
                return self.close().and(Err(EngineError::Ended));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(self)
    }

    /// Offers a planned batch of a dataflow, named by its place among the jobs. Returns its epoch.
    ///
    /// The time in its summary counts from `arrived`.
    pub fn offer(&self, dataflow: usize, plan: Plan, arrived: Instant) -> Result<Epoch, EngineError> {
        self.enter(dataflow, plan, arrived, None)
    }

    /// Offers what a dataflow was given before, up to an epoch, as one. It is the first of its dataflow.
    pub fn replay(&self, dataflow: usize, until: Epoch, plan: Plan) -> Result<Epoch, EngineError> {
        self.enter(dataflow, plan, Instant::now(), Some(until))
    }

    fn enter(&self, dataflow: usize, mut plan: Plan, arrived: Instant, replayed: Option<Epoch>) -> Result<Epoch, EngineError> {
        if self.is_shared {
            plan.identify_for_others()?;
        }
        // Epochs reach worker 0 in the order of their numbers: both happen under the lock.
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(door) = doors.get_mut(dataflow) else { return Err(EngineError::Ended) };
        if door.under_way.load(Ordering::Relaxed) >= OFFERS_MAX {
            return Err(EngineError::Full { dataflow: door.name, limit: OFFERS_MAX });
        }
        let epoch = replayed.unwrap_or(door.epoch + 1);
        let offer = Offer { epoch, plan, arrived, is_replay: replayed.is_some() };
        self.inbox.send(Message::Offer(dataflow, Box::new(offer))).map_err(|_| EngineError::Ended)?;
        door.epoch = epoch;
        door.under_way.fetch_add(1, Ordering::Relaxed);
        drop(doors);
        self.wake();
        Ok(epoch)
    }

    fn wake(&self) {
        // Before worker 0 is there, and after it has ended, there is nobody to wake.
        if let Some(waker) = self.waker.get() {
            waker.activate().ok();
        }
    }

    /// There will be no more offers: the workers end when all are complete.
    pub fn end(&self) {
        self.inbox.send(Message::Close).ok();
        self.wake();
    }

    /// Waits until all offers are complete and all points are written, and ends the workers. Returns the points that destinations refused,
    /// or why the workers ended before.
    pub fn close(self) -> Result<Dropped, EngineError> {
        self.end();
        let ended = self.thread.join().map_err(|_| EngineError::Start("a worker has panicked".into()))?;
        Ok(ended?.unwrap_or_default())
    }
}

impl Completed {
    /// All epochs that are complete, as soon as there is one, or none after `wait`. An error when there can't be any more: [`Host::close`]
    /// tells why.
    pub fn poll(&self, wait: Duration) -> Result<Vec<Commit>, EngineError> {
        let first = match self.commits.recv_timeout(wait) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return Err(EngineError::Ended),
        };
        let run: Vec<Commit> = std::iter::once(first).chain(self.commits.try_iter()).collect();
        for commit in &run {
            if let Some(count) = self.under_way.get(commit.dataflow) {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(run)
    }
}
