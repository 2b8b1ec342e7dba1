//! A file that gets all changes, `changes:FILE`: epoch by epoch, each of them once, whatever ends the process.
//!
//! What is written comes from where the service keeps its changes, and where to go on stands in the file itself. Where it can't go on, it
//! gets a `reset` and all rows of the tables as they are: in a file that is new or was put away, when the settings are others, when changes
//! are not kept any more, and of a table with too many changes in an epoch.
//!
//! # Limits
//! The table `rejected` is not in it, as in streams of changes.

use super::super::further::Further;
use super::super::service::Service;
use super::follower::{Follower, Trouble, any_behind};
use crate::sinks::SinkError;
use crate::sinks::change_log::{ChangeLog, Position};
use crate::sinks::live::read::{Question, Snapshot};
use retally_core::Epoch;
use retally_core::contract::Table;
use std::path::Path;

/// So many epochs are written before the file is synced.
const EPOCHS_MAX: Epoch = 256;

/// The file, on its way.
pub(super) struct Changes<'s> {
    further: &'s Further,
    service: &'s Service,
    path: &'s Path,
    log: Option<ChangeLog>,
}

impl<'s> Changes<'s> {
    /// One that is opened when there is something to write.
    pub(super) fn new(further: &'s Further, service: &'s Service, path: &'s Path) -> Changes<'s> {
        Changes { further, service, path, log: None }
    }

    /// Where a dataflow is in the file, under the settings that it has now.
    fn position(&self, log: &ChangeLog, place: usize) -> Option<Position> {
        let served = self.service.dataflows.get(place)?;
        log.reached(served.name()).filter(|position| position.fingerprint == served.fingerprint)
    }

    /// Writes what a dataflow has more. Returns whether there may be more still.
    fn advance(&self, log: &mut ChangeLog, place: usize) -> Result<bool, SinkError> {
        let Some(served) = self.service.dataflows.get(place) else { return Ok(false) };
        let name = served.name();
        let (position, fingerprint) = (self.position(log, place), served.fingerprint.clone());
        let (epoch, now) = self.service.readers.read(|snapshot| {
            let now = snapshot.epoch(name)?;
            let kept_from = snapshot.changes_from(name)?;
            // A file that is further is of another state.
            let after = position.map(|position| position.epoch).filter(|epoch| (kept_from..=now).contains(epoch));
            if after == Some(now) {
                return Ok((now, now));
            }
            let writing = Block { log, snapshot, name, fingerprint, now };
            let epoch = match after {
                Some(after) => writing.epochs(&served.tables, after)?,
                None => writing.anew(&served.tables)?,
            };
            Ok::<_, SinkError>((epoch, now))
        })?;
        log.sync()?;
        self.further.set_reached(place, Some(epoch));
        Ok(epoch < now)
    }
}

impl Follower for Changes<'_> {
    fn is_behind(&self, readable: &[Option<Epoch>]) -> bool {
        let Some(log) = &self.log else { return readable.iter().any(Option::is_some) };
        let is_behind = any_behind(self.further, readable, |place| self.position(log, place).map(|position| position.epoch));
        is_behind || !log.is_in_place()
    }

    fn step(&mut self) -> Result<(), Trouble> {
        let mut log = match self.log.take().filter(ChangeLog::is_in_place) {
            Some(log) => log,
            None => ChangeLog::open(self.path)?,
        };
        // Where that fails, it is opened again, and what is not whole is cut off.
        for place in (0..self.service.dataflows.len()).filter(|place| self.further.wanted().follows(*place)) {
            while self.advance(&mut log, place)? {}
        }
        self.log = Some(log);
        Ok(())
    }

    fn close(&mut self) {
        self.log = None;
    }
}

/// What is written of a dataflow as of one commit.
struct Block<'b> {
    log: &'b mut ChangeLog,
    snapshot: &'b Snapshot<'b>,
    name: &'static str,
    fingerprint: String,
    now: Epoch,
}

impl Block<'_> {
    fn progress(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.log.progress(self.name, &Position { epoch, fingerprint: self.fingerprint.clone() })
    }

    /// All rows of a table.
    fn reset(&mut self, table: &Table) -> Result<(), SinkError> {
        let Block { log, snapshot, name, now, .. } = self;
        log.reset(name, *now, table.name)?;
        snapshot.rows(table, name, &Question::default(), |row| log.change(name, *now, table, row, 1))
    }

    /// All rows of all tables.
    fn anew(mut self, tables: &[Table]) -> Result<Epoch, SinkError> {
        tables.iter().try_for_each(|table| self.reset(table))?;
        self.progress(self.now)?;
        Ok(self.now)
    }

    /// The epochs behind one, so many at most. Returns the last one.
    fn epochs(mut self, tables: &[Table], after: Epoch) -> Result<Epoch, SinkError> {
        let lost = self.snapshot.not_kept(self.name, (after, self.now))?;
        // Between two epochs such a table is as it is now, and so are all others then.
        let until = if lost.is_empty() { self.now.min(after + EPOCHS_MAX) } else { self.now };
        let kept: Vec<&Table> = tables.iter().filter(|table| !lost.contains(table.name)).collect();
        let (snapshot, name) = (self.snapshot, self.name);
        let (mut whole, mut written) = (after, Ok(()));
        snapshot.changes(name, &kept, (after, until), |epoch, table, change| {
            if written.is_err() {
                return;
            }
            while lost.is_empty() && whole + 1 < epoch && written.is_ok() {
                whole += 1;
                written = self.progress(whole);
            }
            if let (Some((diff, row)), Ok(())) = (change, &written) {
                written = self.log.change(name, epoch, table, row, diff);
            }
        })?;
        written?;
        tables.iter().filter(|table| lost.contains(table.name)).try_for_each(|table| self.reset(table))?;
        let rest = if lost.is_empty() { whole + 1 } else { until };
        (rest..=until).try_for_each(|epoch| self.progress(epoch))?;
        Ok(until)
    }
}
