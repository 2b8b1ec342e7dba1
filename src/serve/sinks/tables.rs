//! Databases and folders, which have the tables.
//!
//! A sink is brought to the truth by the difference when it is opened, and then gets the changes of each epoch, or of several that follow
//! one another: rows and the epoch reached are one transaction. One that is away holds up nobody: what it misses is bounded, and when that
//! is too much it is brought to the truth again. A folder of files is written as a whole, every so often and at the end.
//!
//! # Limits
//! To be brought to the truth, all rows of a dataflow's tables are held in memory for a while.

use super::super::further::Further;
use super::super::served::Served;
use super::super::service::Service;
use super::follower::{Follower, Trouble, any_behind};
use crate::sinks::live::read::{Question, Snapshot};
use crate::sinks::{Applied, Deletions, Destination, Format, Reached, Sink, SinkError};
use crate::tables::{TableState, consolidated};
use retally_core::Epoch;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A sink of tables, on its way.
pub(super) struct Writer<'s> {
    further: &'s Further,
    service: &'s Service,
    destination: &'s Destination,
    format: Format,
    opened: Option<Opened>,
    /// Something else has failed than its connection: what is there may not be what was written.
    is_doubtful: bool,
}

/// The sink while it is open.
struct Opened {
    sink: Box<dyn Sink>,
    /// What it holds of each dataflow, where it is known to hold what follows from the journal.
    positions: Vec<Option<Reached>>,
}

impl<'s> Writer<'s> {
    /// One that is opened when there is something to write.
    pub(super) fn new(further: &'s Further, service: &'s Service, destination: &'s Destination, format: Format) -> Writer<'s> {
        Writer { further, service, destination, format, opened: None, is_doubtful: false }
    }
}

impl Follower for Writer<'_> {
    fn is_behind(&self, readable: &[Option<Epoch>]) -> bool {
        let position = |place: usize| Some(self.opened.as_ref()?.positions.get(place)?.as_ref()?.epoch);
        self.further.is_doubtful() || any_behind(self.further, readable, position)
    }

    fn step(&mut self) -> Result<(), Trouble> {
        if self.further.take_doubt() {
            (self.opened, self.is_doubtful) = (None, true);
        }
        let done = self.write();
        match &done {
            Ok(()) => self.is_doubtful = false,
            Err(error) => self.is_doubtful |= !matches!(error, SinkError::Away { .. } | SinkError::InUse { .. }),
        }
        Ok(done?)
    }

    fn close(&mut self) {
        self.opened = None;
    }
}

impl Writer<'_> {
    fn write(&mut self) -> Result<(), SinkError> {
        let Writer { further, service, destination, format, opened, is_doubtful } = self;
        let Opened { sink, positions } = match opened {
            Some(opened) => opened,
            None => {
                let rejected = Table::rejected();
                let followed = service.dataflows.iter().enumerate().filter(|(place, _)| further.wanted().follows(*place));
                let tables = followed.flat_map(|(_, served)| &served.tables).chain([&rejected]);
                let sink = destination.open(*format, tables, further.wanted().silence_max)?;
                opened.insert(Opened { sink, positions: vec![None; service.dataflows.len()] })
            }
        };
        let readable = service.readable().borrow().clone();
        for (place, readable) in readable.into_iter().enumerate() {
            let (Some(readable), Some(position)) = (readable, positions.get_mut(place)) else { continue };
            let epoch = |position: &Option<Reached>| position.as_ref().map(|reached| reached.epoch);
            if epoch(position) >= Some(readable) || !further.wanted().follows(place) {
                continue;
            }
            *position = advance(further, service, sink.as_mut(), place, position.as_ref(), *is_doubtful)?;
            further.set_reached(place, epoch(position));
        }
        Ok(())
    }
}

/// Brings a sink further with a dataflow. Returns how far it is.
fn advance(
    further: &Further,
    service: &Service,
    sink: &mut dyn Sink,
    place: usize,
    position: Option<&Reached>,
    is_doubtful: bool,
) -> Result<Option<Reached>, SinkError> {
    let Some(served) = service.dataflows.get(place) else { return Ok(position.cloned()) };
    let name = served.name();
    let there = match position {
        Some(position) => Some(position.clone()),
        None => sink.reached(name)?,
    };
    let ours = match there {
        Some(there) if position.is_some() || here(service, served, there.epoch)? == there => Some(there),
        Some(_) | None => None,
    };
    if let Some(there) = ours.as_ref().filter(|_| !is_doubtful)
        && let Some(epochs) = further.following(place, there.epoch)
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
        let reached = here(service, served, last)?;
        if sink.apply(&tables, &changes, [there, &reached])? != Applied::MustBring {
            further.forget(place, last);
            return Ok(Some(reached));
        }
    }
    // What is there was brought by this state, as far as one can see; anything else is not deleted in silence. Somebody may have put it
    // back to what it was, or brought another state there meanwhile.
    let is_known = match sink.reached(name)? {
        Some(there) => there.mark().is_some() && here(service, served, there.epoch)?.mark() == there.mark(),
        None => position.is_some(),
    };
    let (states, reached) = rows(service, served)?;
    let deletions = if is_known || further.wanted().replace { Deletions::Any } else { Deletions::Guarded };
    sink.bring(&states.iter().collect::<Vec<_>>(), &reached, deletions)?;
    sink.remarks().iter().for_each(|remark| service.tell(remark));
    further.forget(place, reached.epoch);
    Ok(Some(reached))
}

/// All rows of a dataflow's tables, and what they have reached.
fn rows(service: &Service, served: &Served) -> Result<(Vec<TableState>, Reached), SinkError> {
    service.readers.read(|snapshot| {
        let rejected = Table::rejected();
        let tables = served.tables.iter().chain([&rejected]);
        let states = tables.map(|table| snapshot.state(table, served.name(), &Question::default())).collect::<Result<_, SinkError>>()?;
        Ok((states, marked(snapshot, served, snapshot.epoch(served.name())?)?))
    })
}

/// What a sink has that this state brought to an epoch under the settings of now. What another state brought there, or this one before it
/// was restored, has another mark.
fn here(service: &Service, served: &Served, epoch: Epoch) -> Result<Reached, SinkError> {
    service.readers.read(|snapshot| marked(snapshot, served, epoch))
}

/// What a sink has that was brought to a batch of this history.
fn marked(snapshot: &Snapshot<'_>, served: &Served, epoch: Epoch) -> Result<Reached, SinkError> {
    let mark = snapshot.mark(served.name(), epoch)?;
    let fingerprint = mark.map_or_else(|| served.fingerprint.clone(), |mark| Reached::marked(&served.fingerprint, &mark));
    Ok(Reached { dataflow: served.name().into(), epoch, fingerprint })
}
