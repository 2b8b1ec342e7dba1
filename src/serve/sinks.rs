//! Further sinks of a service: databases and folders besides its own tables, each on a thread of its own.
//!
//! A sink is brought to the truth by the difference when it is opened, and then gets the changes of each epoch, or of several that follow one
//! another: rows and the epoch reached are one transaction. One that is away holds up nobody: what it misses is bounded, and when that is
//! too much it is brought to the truth again. A folder of files is written as a whole, every so often and at the end.
//!
//! # Limits
//! To be brought to the truth, all rows of a dataflow's tables are held in memory for a while.

use super::service::Service;
use crate::sinks::live::read::Question;
use crate::sinks::{Applied, Deletions, Destination, Format, Reached, Sink, SinkError};
use crate::tables::{Run, TableState, consolidated};
use retally_core::Epoch;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// More bytes of changes of a dataflow do not wait for a sink.
const BYTES_MAX: usize = 64 << 20;
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a sink that waits looks whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a further sink is.
#[derive(Clone)]
pub struct Wanted {
    /// Where it is.
    pub destination: Destination,
    /// How it is called, without secrets.
    pub shown: String,
    /// How its files are written, where it has files.
    pub format: Format,
    /// How often these are written.
    pub every: Duration,
    /// Whether anything may be deleted there at first.
    pub replace: bool,
    /// How long a server may be silent.
    pub silence_max: Duration,
}

/// The changes of an epoch.
#[derive(Debug)]
pub struct Changed {
    /// The epoch.
    pub epoch: Epoch,
    /// By table, in order.
    pub tables: BTreeMap<String, Run>,
    /// Rows that `rejected` gets.
    pub rejected: Vec<RowBatch>,
}

impl Changed {
    fn bytes(&self) -> usize {
        self.tables.values().flatten().map(|batch| batch.bytes()).chain(self.rejected.iter().map(RowBatch::bytes)).sum()
    }
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
}

#[derive(Clone, Debug, Default)]
struct Waiting {
    epochs: VecDeque<Arc<Changed>>,
    bytes: usize,
}

/// The sink while it is open.
struct Opened {
    sink: Box<dyn Sink>,
    /// What it holds of each dataflow, where it is known to hold what follows from the journal.
    positions: Vec<Option<Epoch>>,
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

    /// An epoch of a dataflow is there. It waits, unless that is too much.
    pub fn push(&self, place: usize, changed: &Arc<Changed>) {
        let mut known = self.known();
        if let Some(waiting) = known.waiting.get_mut(place).filter(|_| !self.wanted.destination.has_files()) {
            waiting.bytes += changed.bytes();
            waiting.epochs.push_back(Arc::clone(changed));
            if waiting.bytes > BYTES_MAX {
                *waiting = Waiting::default();
            }
        }
        drop(known);
        self.changed.notify_all();
    }

    /// No more epochs come: what is there is written once more.
    pub fn end(&self) {
        self.known().ending = true;
        self.changed.notify_all();
    }

    /// Waits until it has an epoch of a dataflow.
    pub async fn has(&self, place: usize, epoch: Epoch) {
        let mut reached = self.reached.subscribe();
        let has = |reached: &Vec<Option<Epoch>>| reached.get(place).copied().flatten().is_some_and(|reached| reached >= epoch);
        reached.wait_for(has).await.ok();
    }

    /// How it is.
    pub fn status(&self, service: &Service) -> Value {
        let (reached, readable) = (self.reached.borrow().clone(), service.readable().borrow().clone());
        let mut dataflows = Map::new();
        for (place, served) in service.dataflows.iter().enumerate() {
            let [reached, readable] = [&reached, &readable].map(|epochs| epochs.get(place).copied().flatten());
            let behind = readable.unwrap_or(0).saturating_sub(reached.unwrap_or(0));
            dataflows.insert(served.name().into(), json!({"reached": reached, "behind": behind}));
        }
        json!({"place": self.wanted.shown, "dataflows": dataflows, "error": self.known().error})
    }

    /// Writes what comes, until nothing more does.
    pub fn run(&self, service: &Service) {
        let mut opened = None;
        let (mut pause, mut written) = (PAUSE, None::<Instant>);
        loop {
            let is_ending = self.wait(service, opened.as_ref(), written);
            match self.step(service, &mut opened) {
                Ok(()) => {
                    if self.known().error.take().is_some() {
                        service.tell(&format!("{} is written again", self.wanted.shown));
                    }
                    (pause, written) = (PAUSE, Some(Instant::now()));
                }
                Err(error) => {
                    opened = None;
                    let text = error.to_string();
                    let is_new = self.known().error.replace(text.clone()).is_none_or(|before| before != text);
                    if is_new {
                        service.tell(&format!("{text}; trying again"));
                    }
                    self.pause(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            if is_ending {
                return;
            }
        }
    }

    /// Waits until there is something to do. Returns whether it ends.
    fn wait(&self, service: &Service, opened: Option<&Opened>, written: Option<Instant>) -> bool {
        let mut known = self.known();
        loop {
            if known.ending {
                return true;
            }
            let readable = service.readable().borrow().clone();
            let is_there = |place: usize| opened.and_then(|opened| opened.positions.get(place).copied().flatten());
            let is_behind = (0..).zip(&readable).any(|(place, readable)| *readable > is_there(place));
            let is_time = !self.wanted.destination.has_files() || written.is_none_or(|written| written.elapsed() >= self.wanted.every);
            if is_behind && is_time {
                return false;
            }
            known = self.changed.wait_timeout(known, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut known = self.known();
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|_| !known.ending) {
            known = self.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Brings it to what can be read now.
    fn step(&self, service: &Service, opened: &mut Option<Opened>) -> Result<(), SinkError> {
        let Opened { sink, positions } = match opened {
            Some(opened) => opened,
            None => {
                let rejected = Table::rejected();
                let tables = service.dataflows.iter().flat_map(|served| &served.tables).chain([&rejected]);
                let sink = self.wanted.destination.open(self.wanted.format, tables, self.wanted.silence_max)?;
                opened.insert(Opened { sink, positions: vec![None; service.dataflows.len()] })
            }
        };
        let readable = service.readable().borrow().clone();
        for (place, readable) in readable.into_iter().enumerate() {
            let (Some(readable), Some(position)) = (readable, positions.get_mut(place)) else { continue };
            if *position >= Some(readable) {
                continue;
            }
            *position = self.advance(service, sink.as_mut(), place, *position)?;
            let reached = *position;
            self.reached.send_modify(|all| all.iter_mut().skip(place).take(1).for_each(|epoch| *epoch = reached));
        }
        Ok(())
    }

    /// Brings it further with a dataflow. Returns how far it is.
    fn advance(&self, service: &Service, sink: &mut dyn Sink, place: usize, position: Option<Epoch>) -> Result<Option<Epoch>, SinkError> {
        let Some(served) = service.dataflows.get(place) else { return Ok(position) };
        let (name, fingerprint) = (served.name(), served.job.fingerprint());
        let there = match position {
            Some(position) => Some(Reached { dataflow: name.into(), epoch: position, fingerprint: fingerprint.clone() }),
            None => sink.reached(name)?,
        };
        let is_ours = there.as_ref().filter(|there| there.fingerprint == fingerprint);
        if let Some(epochs) = is_ours.and_then(|there| self.following(place, there.epoch))
            && let Some(last) = epochs.last().map(|changed| changed.epoch)
        {
            let mut tables = served.tables.clone();
            tables.push(Table::rejected());
            let mut changes: BTreeMap<String, Vec<RowBatch>> = BTreeMap::new();
            for changed in &epochs {
                for (table, run) in &changed.tables {
                    changes.entry(table.clone()).or_default().extend(run.iter().map(|batch| RowBatch::clone(batch)));
                }
                changes.entry("rejected".into()).or_default().extend(changed.rejected.iter().cloned());
            }
            if epochs.len() > 1 {
                for (table, batches) in &mut changes {
                    if table != "rejected" {
                        let all = consolidated(std::mem::take(batches));
                        *batches = all.into_iter().map(Arc::unwrap_or_clone).collect();
                    }
                }
            }
            let reached = Reached { dataflow: name.into(), epoch: last, fingerprint: fingerprint.clone() };
            if sink.apply(&tables, &changes, &reached)? != Applied::MustBring {
                self.forget(place, last);
                return Ok(Some(last));
            }
        }
        // What is there was brought by this state, as far as one can see; anything else is not deleted in silence.
        let (states, epoch) = rows(service, place)?;
        let is_known = position.is_some() || there.is_some_and(|there| there.epoch <= epoch);
        let deletions = if is_known || self.wanted.replace { Deletions::Any } else { Deletions::Guarded };
        let reached = Reached { dataflow: name.into(), epoch, fingerprint };
        sink.bring(&states.iter().collect::<Vec<_>>(), &reached, deletions)?;
        sink.remarks().iter().for_each(|remark| service.tell(remark));
        self.forget(place, epoch);
        Ok(Some(epoch))
    }

    /// The epochs that follow one, where none between is missing.
    fn following(&self, place: usize, epoch: Epoch) -> Option<Vec<Arc<Changed>>> {
        let known = self.known();
        let following: Vec<Arc<Changed>> =
            known.waiting.get(place)?.epochs.iter().filter(|changed| changed.epoch > epoch).map(Arc::clone).collect();
        following.first().is_some_and(|first| first.epoch == epoch + 1).then_some(following)
    }

    /// It has all up to an epoch.
    fn forget(&self, place: usize, epoch: Epoch) {
        let mut known = self.known();
        let Some(waiting) = known.waiting.get_mut(place) else { return };
        while let Some(first) = waiting.epochs.pop_front_if(|first| first.epoch <= epoch) {
            waiting.bytes -= first.bytes();
        }
    }
}

/// All rows of a dataflow's tables, and their epoch.
pub fn rows(service: &Service, place: usize) -> Result<(Vec<TableState>, Epoch), SinkError> {
    let Some(served) = service.dataflows.get(place) else { return Ok((Vec::new(), 0)) };
    service.readers.read(|snapshot| {
        let rejected = Table::rejected();
        let tables = served.tables.iter().chain([&rejected]);
        let states = tables.map(|table| snapshot.state(table, served.name(), &Question::default())).collect::<Result<_, SinkError>>()?;
        Ok((states, snapshot.epoch(served.name())?))
    })
}
