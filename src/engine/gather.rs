//! What workers send to worker 0, by epoch.

use super::errors::EngineError;
use crate::ingest::plan::Plan;
use crate::ingest::rejected::Refused;
use crate::points::PointsError;
use retally_core::Epoch;
use retally_core::publish::Published;
use retally_core::row::RowBatch;
use retally_core::split::{Done, Report};
use retally_core::time::Moment;
use std::collections::BTreeMap;

/// What has arrived at worker 0 of one dataflow, and has not been taken. Workers are ahead of one another, so epochs come mixed.
#[derive(Default)]
pub struct Gathered {
    changes: BTreeMap<Epoch, Vec<Published>>,
    /// Reports in the order of their arrival.
    pub reports: Vec<(Epoch, Report)>,
}

impl Gathered {
    /// Adds changes.
    pub fn add_changes(&mut self, changes: &mut Vec<Published>) {
        for change in changes.drain(..) {
            self.changes.entry(change.epoch).or_default().push(change);
        }
    }

    /// Takes the changes of an epoch that is complete, by table.
    pub fn take_changes(&mut self, epoch: Epoch, tables: &[String]) -> BTreeMap<String, Vec<RowBatch>> {
        let mut changes: BTreeMap<String, Vec<RowBatch>> = BTreeMap::new();
        for change in self.changes.remove(&epoch).unwrap_or_default() {
            if let Some(name) = tables.get(change.table) {
                changes.entry(name.clone()).or_default().push(change.rows);
            }
        }
        changes
    }
}

/// What readers have reported of an epoch.
#[derive(Default)]
pub struct EpochReports {
    /// Bytes read.
    pub bytes: u64,
    /// Records accepted.
    pub records: u64,
    /// What each split held that has been read to its end.
    pub done: Vec<Done>,
    /// Refused records.
    pub rejected: Refused,
    /// Those of parts that were refused before, and leave the table `rejected`.
    pub undone: Refused,
    /// Records of those parts that other settings accept by now: they are undone and delivered again, and are no news.
    pub undone_accepted: u64,
    /// Files of archives that were passed over.
    pub passed_over: Vec<String>,
    /// What people should know of.
    pub notes: Vec<String>,
}

impl EpochReports {
    /// Of an epoch of which so many refused records are kept, by the batches that it is of ([`limits`](crate::ingest::rejected::limits)).
    pub fn new(rejected_kept: &[(u64, u64)]) -> EpochReports {
        EpochReports { rejected: Refused::within(rejected_kept), undone: Refused::within(rejected_kept), ..EpochReports::default() }
    }

    /// Adds a report of a planned batch. One that ends the run is an error.
    pub fn add(&mut self, report: Report, plan: &Plan) -> Result<(), EngineError> {
        let is_undone = |sequence| plan.part_of(sequence).is_some_and(|part| part.undone);
        match report {
            Report::Progress { bytes, records, refused } => {
                self.bytes += bytes;
                self.records += records;
                self.rejected.add_count(refused);
            }
            Report::Rejected(rejected) if is_undone(rejected.sequence) => self.undone.push(&rejected),
            Report::Rejected(rejected) => self.rejected.push(&rejected),
            Report::PassedOver { members, .. } => self.passed_over.extend(members),
            Report::Done(mut done) if is_undone(done.sequence) => {
                // They are no records of this batch.
                self.undone_accepted += done.accepted;
                (done.accepted, done.late, done.rejected) = (0, 0, 0);
                self.done.push(done);
            }
            Report::Done(mut done) => {
                self.rejected.add_reasons(std::mem::take(&mut done.reasons));
                self.done.push(done);
            }
            Report::Failed { error, .. } => return Err(EngineError::Read(error)),
            Report::Note(note) => self.notes.push(note),
            Report::PointsFailed(error) => return Err(PointsError::Write(error).into()),
        }
        Ok(())
    }

    /// How many records were refused so far. Of datasets only the first are kept, and the rest are known when they have been read.
    pub fn rejected_count(&self) -> u64 {
        self.rejected.len().max(self.done.iter().map(|done| done.rejected).sum())
    }

    /// The latest event delivered so far.
    pub fn latest(&self) -> Option<Moment> {
        self.done.iter().filter_map(|done| done.latest).max()
    }

    /// Decides which of the events that were left open are late, by the latest event of all epochs before.
    pub fn decide_late(&mut self, late_before: Moment) {
        for done in &mut self.done {
            let late = std::mem::take(&mut done.undecided).into_iter().filter(|time| *time < late_before).count();
            done.late += late as u64;
        }
    }
}
