//! What a service and its further sinks and watched folders tell each other.

use super::metrics::Metrics;
use super::out::Out;
use crate::state::frame::Part;
use crate::tables::Run;
use retally_core::Epoch;
use retally_core::row::RowBatch;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{MutexGuard as MutexGuardOfTokio, watch};

/// More bytes of changes of a dataflow do not wait for a sink.
const BYTES_MAX: usize = 64 << 20;

/// What a further sink is.
#[derive(Clone)]
pub struct Wanted {
    /// Where it is.
    pub out: Out,
    /// The places of the dataflows whose tables go there.
    pub of: Vec<usize>,
    /// How it is called, without secrets.
    pub shown: String,
    /// How often it is written, where it is written as a whole.
    pub every: Duration,
    /// Whether anything may be deleted there at first.
    pub replace: bool,
    /// How long a server may be silent.
    pub silence_max: Duration,
    /// How long it is tried again before it is given up; without end where that is nothing.
    pub patience: Option<Duration>,
    /// What requests are signed with.
    pub secret: Option<Arc<[u8]>>,
}

impl Wanted {
    /// Whether it is told anything of the dataflow in this place.
    pub fn follows(&self, place: usize) -> bool {
        self.out.follows(place).unwrap_or_else(|| self.of.contains(&place))
    }
}

/// The changes of an epoch.
#[derive(Debug)]
pub struct Changed {
    /// The epoch.
    pub epoch: Epoch,
    /// By table, in order.
    pub tables: BTreeMap<String, Run>,
    /// Rows that `rejected` gets or loses.
    pub rejected: Vec<RowBatch>,
}

impl Changed {
    fn bytes(&self) -> usize {
        self.tables.values().flatten().map(|batch| batch.bytes()).chain(self.rejected.iter().map(RowBatch::bytes)).sum()
    }
}

/// What is to be told of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is known, or there is none.
    Nothing,
    /// It is another one than before.
    New,
    /// There is none any more.
    Over,
}

/// A further sink.
pub struct Further {
    wanted: Wanted,
    known: Mutex<Known>,
    changed: Condvar,
    reached: watch::Sender<Vec<Option<Epoch>>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What waits, by dataflow.
    waiting: Vec<Waiting>,
    ending: bool,
    error: Option<String>,
    failed: bool,
    /// What it holds may be more than what follows from the state.
    is_doubtful: bool,
    /// How many wait until it has an epoch.
    asked: usize,
}

/// Somebody waits for a sink.
struct Asking<'f>(&'f Further);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.known().asked -= 1;
    }
}

#[derive(Clone, Debug, Default)]
struct Waiting {
    epochs: VecDeque<Arc<Changed>>,
    bytes: usize,
}

impl Further {
    /// A sink for so many dataflows.
    pub fn new(wanted: Wanted, dataflows: usize) -> Further {
        let known = Known { waiting: vec![Waiting::default(); dataflows], ..Known::default() };
        Further { wanted, known: Mutex::new(known), changed: Condvar::new(), reached: watch::Sender::new(vec![None; dataflows]) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows left the state without a batch: all that it holds has to be looked at.
    pub fn doubt(&self) {
        self.known().is_doubtful = true;
        self.changed.notify_all();
    }

    /// Whether all that it holds has to be looked at.
    pub fn is_doubtful(&self) -> bool {
        self.known().is_doubtful
    }

    /// The same; who asks looks.
    pub fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.known().is_doubtful)
    }

    /// An epoch of a dataflow is there. It waits, unless that is too much.
    pub fn push(&self, place: usize, changed: &Arc<Changed>) {
        let mut known = self.known();
        if let Some(waiting) = known.waiting.get_mut(place).filter(|_| self.wanted.out.takes_epochs() && self.wanted.follows(place)) {
            waiting.bytes += changed.bytes();
            waiting.epochs.push_back(Arc::clone(changed));
            if waiting.bytes > BYTES_MAX {
                *waiting = Waiting::default();
            }
        }
        drop(known);
        self.changed.notify_all();
    }

    /// An error that is new is told; without one, that it is over.
    pub fn report(&self, error: Option<&str>) -> Reported {
        let before = std::mem::replace(&mut self.known().error, error.map(String::from));
        match (before, error) {
            (None, None) => Reported::Nothing,
            (Some(_), None) => Reported::Over,
            (before, Some(error)) if before.as_deref() == Some(error) => Reported::Nothing,
            (_, Some(_)) => Reported::New,
        }
    }

    /// It is not tried again.
    pub fn give_up(&self) {
        self.known().failed = true;
        self.reached.send_modify(|_| {});
    }

    /// Whether somebody waits until it has what there is: then it is not left until its time has come.
    pub fn is_asked_for(&self) -> bool {
        self.known().asked > 0
    }

    /// Whether no more is to be begun.
    pub fn is_ending(&self) -> bool {
        self.known().ending
    }

    /// Waits a while, unless it ends.
    pub fn pause(&self, pause: Duration) {
        let is_going_on = |known: &mut Known| !known.ending;
        drop(self.changed.wait_timeout_while(self.known(), pause, is_going_on));
    }

    /// Waits for an epoch, or a while. Returns whether it ends.
    pub fn wait(&self, wait: Duration) -> bool {
        let known = self.known();
        if known.ending {
            return true;
        }
        self.changed.wait_timeout(known, wait).unwrap_or_else(PoisonError::into_inner).0.ending
    }

    /// What it is.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// It has a dataflow up to an epoch.
    pub fn set_reached(&self, place: usize, epoch: Option<Epoch>) {
        self.reached.send_modify(|all| all.iter_mut().skip(place).take(1).for_each(|reached| *reached = epoch));
    }

    /// No more epochs come: what is there is written once more.
    pub fn end(&self) {
        self.known().ending = true;
        self.changed.notify_all();
    }

    /// Waits until it has an epoch of a dataflow, where it is told of any. Returns whether it has: it may be given up.
    pub async fn has(&self, place: usize, epoch: Epoch) -> bool {
        if !self.wanted.follows(place) {
            return true;
        }
        self.known().asked += 1;
        let _asking = Asking(self);
        self.changed.notify_all();
        let mut reached = self.reached.subscribe();
        let has = |reached: &Vec<Option<Epoch>>| reached.get(place).copied().flatten().is_some_and(|reached| reached >= epoch);
        reached.wait_for(|reached| has(reached) || self.known().failed).await.is_ok_and(|reached| has(&reached))
    }

    /// What it has reached of a dataflow that it follows, and how far it is behind, where these epochs can be read.
    fn behind(&self, place: usize, readable: &[Option<Epoch>]) -> Option<(Option<Epoch>, u64)> {
        let of = |epochs: &[Option<Epoch>]| epochs.get(place).copied().flatten();
        let reached = of(&self.reached.borrow());
        let behind = of(readable).unwrap_or(0).saturating_sub(reached.unwrap_or(0));
        self.wanted.follows(place).then_some((reached, behind))
    }

    /// Counts how it is, where these epochs of these dataflows can be read.
    pub fn count(&self, metrics: &Metrics, names: impl Iterator<Item = &'static str>, readable: &[Option<Epoch>]) {
        let behind = names.enumerate().filter_map(|(place, name)| Some((name, self.behind(place, readable)?.1)));
        metrics.sink(&self.wanted.shown, behind, self.known().error.is_some());
    }

    /// How it is, where these epochs of these dataflows can be read.
    pub fn status<'n>(&self, names: impl Iterator<Item = &'n str>, readable: &[Option<Epoch>]) -> Value {
        let mut dataflows = Map::new();
        for (place, name) in names.enumerate() {
            if let Some((reached, behind)) = self.behind(place, readable) {
                dataflows.insert(name.into(), json!({"reached": reached, "behind": behind}));
            }
        }
        let known = self.known();
        json!({"place": self.wanted.shown, "dataflows": dataflows, "error": known.error, "failed": known.failed})
    }

    /// The epochs that follow one, where none between is missing.
    pub fn following(&self, place: usize, epoch: Epoch) -> Option<Vec<Arc<Changed>>> {
        let known = self.known();
        let following: Vec<Arc<Changed>> =
            known.waiting.get(place)?.epochs.iter().filter(|changed| changed.epoch > epoch).map(Arc::clone).collect();
        following.first().is_some_and(|first| first.epoch == epoch + 1).then_some(following)
    }

    /// It has all up to an epoch.
    pub fn forget(&self, place: usize, epoch: Epoch) {
        let mut known = self.known();
        let Some(waiting) = known.waiting.get_mut(place) else { return };
        while let Some(first) = waiting.epochs.pop_front_if(|first| first.epoch <= epoch) {
            waiting.bytes -= first.bytes();
        }
    }
}

/// How a watched folder is, for who asks; and what others deliver of it.
#[derive(Debug, Default)]
pub struct WatchStatus {
    /// The dataflow's place.
    pub dataflow: usize,
    value: Mutex<Value>,
    /// Lines of its files that were delivered once more, and that who watches does not know of yet.
    again: tokio::sync::Mutex<Vec<Part>>,
}

impl WatchStatus {
    /// That of a folder of a dataflow.
    pub fn of(dataflow: usize) -> WatchStatus {
        WatchStatus { dataflow, ..WatchStatus::default() }
    }

    /// As JSON.
    pub fn value(&self) -> Value {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is so now.
    pub fn set(&self, value: Value) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    /// What was delivered once more. As long as this is held, nothing else is delivered of the folder. For a thread of its own.
    pub fn again(&self) -> MutexGuardOfTokio<'_, Vec<Part>> {
        self.again.blocking_lock()
    }

    /// Likewise, for who may not hold up a thread.
    pub async fn hold(&self) -> MutexGuardOfTokio<'_, Vec<Part>> {
        self.again.lock().await
    }
}
