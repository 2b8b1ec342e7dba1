//! Further sinks of a service: databases and folders besides its own tables, each on a thread of its own.
//!
//! A sink is brought to the truth by the difference when it is opened, and then gets the changes of each epoch, or of several that follow one
//! another: rows and the epoch reached are one transaction. One that is away holds up nobody: what it misses is bounded, and when that is
//! too much it is brought to the truth again. A folder of files is written as a whole, every so often and at the end.
//!
//! # Limits
//! To be brought to the truth, all rows of a dataflow's tables are held in memory for a while.

use super::further::{Further, Reported};
use super::service::Service;
use crate::sinks::live::read::Question;
use crate::sinks::{Applied, Deletions, Reached, Sink, SinkError};
use crate::tables::{TableState, consolidated};
use retally_core::Epoch;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a sink that waits looks whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The sink while it is open.
struct Opened {
    sink: Box<dyn Sink>,
    /// What it holds of each dataflow, where it is known to hold what follows from the journal.
    positions: Vec<Option<Epoch>>,
}

/// Writes to a sink what comes, until nothing more does.
pub fn run(further: &Further, service: &Service) {
    let writer = Writer { further, service };
    let mut opened = None;
    let (mut pause, mut written) = (PAUSE, None::<Instant>);
    loop {
        let is_ending = writer.wait(opened.as_ref(), written);
        let done = writer.step(&mut opened);
        let error = done.as_ref().err().map(ToString::to_string);
        match further.report(error.as_deref()) {
            Reported::New => service.tell(&format!("{}; trying again", error.unwrap_or_default())),
            Reported::Over => service.tell(&format!("{} is written again", further.wanted().shown)),
            Reported::Nothing => {}
        }
        if done.is_ok() {
            (pause, written) = (PAUSE, Some(Instant::now()));
        } else {
            opened = None;
            further.pause(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        if is_ending {
            return;
        }
    }
}

/// Who writes to a sink.
struct Writer<'s> {
    further: &'s Further,
    service: &'s Service,
}

impl Writer<'_> {
    /// Waits until there is something to do. Returns whether it ends.
    fn wait(&self, opened: Option<&Opened>, written: Option<Instant>) -> bool {
        let wanted = self.further.wanted();
        loop {
            let readable = self.service.readable().borrow().clone();
            let is_there = |place: usize| opened.and_then(|opened| opened.positions.get(place).copied().flatten());
            let is_behind = (0..).zip(&readable).any(|(place, readable)| *readable > is_there(place));
            let is_time = !wanted.destination.has_files() || written.is_none_or(|written| written.elapsed() >= wanted.every);
            if is_behind && is_time {
                return false;
            }
            if self.further.wait(LOOK_EVERY) {
                return true;
            }
        }
    }

    /// Brings it to what can be read now.
    fn step(&self, opened: &mut Option<Opened>) -> Result<(), SinkError> {
        let Opened { sink, positions } = match opened {
            Some(opened) => opened,
            None => {
                let rejected = Table::rejected();
                let (wanted, service) = (self.further.wanted(), self.service);
                let tables = service.dataflows.iter().flat_map(|served| &served.tables).chain([&rejected]);
                let sink = wanted.destination.open(wanted.format, tables, wanted.silence_max)?;
                opened.insert(Opened { sink, positions: vec![None; service.dataflows.len()] })
            }
        };
        let readable = self.service.readable().borrow().clone();
        for (place, readable) in readable.into_iter().enumerate() {
            let (Some(readable), Some(position)) = (readable, positions.get_mut(place)) else { continue };
            if *position >= Some(readable) {
                continue;
            }
            *position = self.advance(sink.as_mut(), place, *position)?;
            self.further.set_reached(place, *position);
        }
        Ok(())
    }

    /// Brings it further with a dataflow. Returns how far it is.
    fn advance(&self, sink: &mut dyn Sink, place: usize, position: Option<Epoch>) -> Result<Option<Epoch>, SinkError> {
        let (further, service) = (self.further, self.service);
        let Some(served) = service.dataflows.get(place) else { return Ok(position) };
        let (name, fingerprint) = (served.name(), served.job.fingerprint());
        let there = match position {
            Some(position) => Some(Reached { dataflow: name.into(), epoch: position, fingerprint: fingerprint.clone() }),
            None => sink.reached(name)?,
        };
        let is_ours = there.as_ref().filter(|there| there.fingerprint == fingerprint);
        if let Some(epochs) = is_ours.and_then(|there| further.following(place, there.epoch))
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
                further.forget(place, last);
                return Ok(Some(last));
            }
        }
        // What is there was brought by this state, as far as one can see; anything else is not deleted in silence.
        let (states, epoch) = rows(service, place)?;
        let is_known = position.is_some() || there.is_some_and(|there| there.epoch <= epoch);
        let deletions = if is_known || further.wanted().replace { Deletions::Any } else { Deletions::Guarded };
        let reached = Reached { dataflow: name.into(), epoch, fingerprint };
        sink.bring(&states.iter().collect::<Vec<_>>(), &reached, deletions)?;
        sink.remarks().iter().for_each(|remark| service.tell(remark));
        further.forget(place, epoch);
        Ok(Some(epoch))
    }
}

/// All rows of a dataflow's tables, and their epoch.
fn rows(service: &Service, place: usize) -> Result<(Vec<TableState>, Epoch), SinkError> {
    let Some(served) = service.dataflows.get(place) else { return Ok((Vec::new(), 0)) };
    service.readers.read(|snapshot| {
        let rejected = Table::rejected();
        let tables = served.tables.iter().chain([&rejected]);
        let states = tables.map(|table| snapshot.state(table, served.name(), &Question::default())).collect::<Result<_, SinkError>>()?;
        Ok((states, snapshot.epoch(served.name())?))
    })
}
