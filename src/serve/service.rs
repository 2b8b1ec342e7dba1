//! What the parts of a service share: where batches go in, and what can be read.

use super::Options;
use super::further::{Further, WatchStatus};
use super::limits::Limits;
use super::metrics::Metrics;
use super::served::{PointsOf, Served};
use crate::cluster::traffic::Totals;
use crate::ingest::plan::Plan;
use crate::points::Destination;
use crate::points::store::Store;
use crate::sinks::live::read::Readers;
use crate::sources::status::Status;
use crate::state::files::Files;
use crate::state::frame::{Answer, Key, Part, Position};
use retally_core::Epoch;
use retally_core::time::{DAY, Moment};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot, watch};

/// How long the answer to a key is kept.
const KEY_KEPT: i64 = 7 * DAY;

/// So many tables are read at a time.
const READS_MAX: usize = 64;

/// What a service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes up what was there: nothing is taken, and what is there can be read.
    Recovering,
    /// It takes batches.
    Ready,
    /// The tables can't be written: why. Nothing is taken until they can.
    Stuck(String),
    /// A file of the state is not what was written: which, and how that shows. What the tables hold can be read, and nothing is taken.
    Damaged(String),
    /// It has been asked to end.
    Ending,
}

/// How far a batch must be for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The disk has it.
    Durable,
    /// Its changes can be read.
    Visible,
    /// And all further sinks have them.
    Sinks,
}

/// A batch that has been kept and planned.
#[derive(Debug)]
pub struct Incoming {
    /// The dataflow's place.
    pub dataflow: usize,
    /// What the journal keeps of it.
    pub parts: Vec<Part>,
    /// Its splits.
    pub plan: Plan,
    /// How far live sources have been read with it.
    pub positions: Vec<Position>,
    /// What its sender calls it.
    pub key: Option<(Key, KeyGuard)>,
    /// When it arrived.
    pub arrived: Moment,
    /// Likewise, for the time that it takes.
    pub began: Instant,
    /// When it is answered.
    pub wait: Wait,
    /// To whom.
    pub reply: oneshot::Sender<Result<Reply, Refused>>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Its epoch.
    pub epoch: Epoch,
    /// What came of it; nothing where that was not waited for.
    pub answer: Option<Answer>,
}

/// Why a batch was not taken. Nothing of it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not now.
    Phase(Phase),
    /// Too many wait.
    Full(usize),
    /// The disk did not take it: why.
    Disk(String),
}

/// What the parts of a service share.
pub struct Service {
    /// What is served.
    pub dataflows: Vec<Served>,
    /// The folder of this machine in which its tables are: that of its state, or the scratch folder.
    pub local: PathBuf,
    /// Where files are kept.
    pub files: Files,
    /// The tables.
    pub readers: Readers,
    /// The store of points, until it ends.
    store: Mutex<Option<Arc<Store>>>,
    /// Tables that are read at a time.
    pub reads: Arc<Semaphore>,
    /// What it may be asked for.
    pub limits: Limits,
    /// Where tables go besides.
    pub further: Vec<Further>,
    /// How the watched folders are.
    pub watched: Vec<WatchStatus>,
    /// How the live sources are.
    pub sources: Vec<Arc<Status>>,
    /// Held by who takes back or delivers once more what came before: each once at a time.
    pub looking_back: tokio::sync::Mutex<()>,
    /// What it counts.
    pub metrics: Metrics,
    /// What passes between its processes.
    pub traffic: Arc<Totals>,
    /// When it began.
    pub began: Instant,
    /// How many workers each of its processes has.
    pub workers: usize,
    /// How many processes it has.
    pub processes: usize,
    /// Says what happened to who runs it.
    told: fn(&str),
    phase: watch::Sender<Phase>,
    /// The epoch of each dataflow that can be read, where any can.
    readable: watch::Sender<Vec<Option<Epoch>>>,
    queue: Mutex<Option<SyncSender<Incoming>>>,
    /// Those who may wait until batches are taken.
    early: Semaphore,
    keys: Arc<Mutex<BTreeSet<(usize, String)>>>,
}

/// A key whose batch is under way. No other batch comes in under it until this is dropped.
#[derive(Debug)]
pub struct KeyGuard {
    keys: Arc<Mutex<BTreeSet<(usize, String)>>>,
    key: (usize, String),
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        locked(&self.keys).remove(&self.key);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// A service that takes batches into a queue.
    pub fn new(dataflows: Vec<Served>, files: Files, readers: Readers, options: &Options, queue: SyncSender<Incoming>) -> Service {
        let Options { limits, told, .. } = *options;
        let (workers, processes) = (options.cluster.workers, options.cluster.processes());
        let further = options.sinks.iter().map(|wanted| Further::new(wanted.clone(), dataflows.len())).collect();
        let watched = options.watched.iter().map(|(dataflow, _)| WatchStatus::of(*dataflow)).collect();
        let sources = options.sources.iter().filter_map(|wanted| {
            let definition = &dataflows.get(wanted.dataflow)?.job.definition;
            Some(Arc::new(wanted.status(definition.name, definition.inputs.get(wanted.input)?.name)))
        });
        let sources = sources.collect();
        let readable = watch::Sender::new(vec![None; dataflows.len()]);
        let metrics = Metrics::new(&limits);
        let (phase, queue) = (watch::Sender::new(Phase::Recovering), Mutex::new(Some(queue)));
        let early = Semaphore::new(limits.waiting);
        Service {
            dataflows,
            local: options.state.local().into(),
            files,
            readers,
            store: Mutex::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            limits,
            further,
            watched,
            sources,
            looking_back: tokio::sync::Mutex::default(),
            metrics,
            traffic: Arc::clone(&options.cluster.membership.traffic),
            began: Instant::now(),
            workers,
            processes,
            told,
            phase,
            readable,
            queue,
            early,
            keys: Arc::default(),
        }
    }

    /// Its points are in this store, until there is none any more.
    pub fn set_store(&self, store: Option<Arc<Store>>) {
        *locked(&self.store) = store;
    }

    /// Where the points of a dataflow are.
    pub fn points_of(&self, name: &str) -> PointsOf {
        let served = self.dataflows.iter().find(|served| served.name() == name);
        match (served.map(|served| (&served.job.points, served.has_points.load(Ordering::Acquire))), locked(&self.store).clone()) {
            (Some((Destination::Store(_), true)), Some(store)) => PointsOf::Store(store),
            (Some((Destination::Store(_), _)), _) => PointsOf::Later,
            _ => PointsOf::Elsewhere,
        }
    }

    /// Says what happened to who runs it.
    pub fn tell(&self, what: &str) {
        (self.told)(what);
    }

    /// The place of the dataflow of this name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.dataflows.iter().position(|served| served.name() == name)
    }

    /// What it does now.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// To be told of what it does.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits until it has taken up what was there, among so many as batches may wait. Returns what it does then.
    pub async fn recovered(&self) -> Phase {
        let Ok(_waiting) = self.early.try_acquire() else { return self.phase() };
        // Whoever sends is here as long as this is.
        self.phases().wait_for(|phase| *phase != Phase::Recovering).await.map_or(Phase::Ending, |phase| phase.clone())
    }

    /// Waits until it ends.
    pub async fn ending(&self) {
        // Whoever sends is here as long as this is.
        self.phases().wait_for(|phase| *phase == Phase::Ending).await.ok();
    }

    /// Waits until the tables can't be written. Returns why.
    pub async fn stuck(&self) -> Phase {
        let is_so = |phase: &Phase| matches!(phase, Phase::Stuck(_));
        // Whoever sends is here as long as this is.
        self.phases().wait_for(is_so).await.map_or(Phase::Ending, |phase| phase.clone())
    }

    /// Goes over to another phase; from the last one there is no way back.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let differs = *now != Phase::Ending && *now != phase;
            if differs {
                *now = phase;
            }
            differs
        });
    }

    /// Takes no more batches: what has been taken is finished.
    pub fn end(&self) {
        self.enter(Phase::Ending);
        locked(&self.queue).take();
    }

    /// Which epochs can be read.
    pub fn readable(&self) -> watch::Receiver<Vec<Option<Epoch>>> {
        self.readable.subscribe()
    }

    /// From now on these epochs can be read.
    pub fn publish(&self, epochs: &[(usize, Epoch)]) {
        self.readable.send_modify(|readable| {
            for (place, epoch) in epochs {
                if let Some(last) = readable.get_mut(*place) {
                    *last = Some(*epoch);
                }
            }
        });
    }

    /// Reserves a key, while its batch is under way; nothing where one is.
    pub fn reserve(&self, dataflow: usize, key: &str) -> Option<KeyGuard> {
        let key = (dataflow, key.to_string());
        let is_new = locked(&self.keys).insert(key.clone());
        is_new.then(|| KeyGuard { keys: Arc::clone(&self.keys), key })
    }

    /// From when on keys are known.
    pub fn keys_since(&self) -> Moment {
        crate::engine::now().plus(-KEY_KEPT)
    }

    fn queue(&self) -> Result<SyncSender<Incoming>, Refused> {
        locked(&self.queue).clone().ok_or(Refused::Phase(Phase::Ending))
    }

    /// Takes a batch, which is answered by its `reply`; none where too many wait.
    pub fn take(&self, incoming: Incoming) -> Result<(), Refused> {
        self.queue()?.try_send(incoming).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full(self.limits.waiting),
            TrySendError::Disconnected(_) => Refused::Phase(Phase::Ending),
        })?;
        self.metrics.waiting.inc();
        Ok(())
    }

    /// Takes a batch as soon as not too many wait.
    pub fn take_in_turn(&self, incoming: Incoming) -> Result<(), Refused> {
        self.queue()?.send(incoming).map_err(|_| Refused::Phase(Phase::Ending))?;
        self.metrics.waiting.inc();
        Ok(())
    }

    /// How long it has been there.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}
