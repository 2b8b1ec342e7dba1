//! What a batch was and did.

use crate::ingest::plan::Plan;
use retally_core::reasons::Reasons;
use retally_core::split::{Done, Location};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its epoch.
    pub epoch: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes to read.
    pub bytes_all: u64,
    /// Records accepted.
    pub records: u64,
}

/// What a batch was, and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its epoch.
    pub epoch: u64,
    /// Files read, but for those of datasets.
    pub files: usize,
    /// Datasets read, where an input is one of datasets.
    pub datasets: Option<usize>,
    /// Their bytes.
    pub bytes: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Records retracted.
    pub retracted: u64,
    /// Of all of them, those whose time is earlier than one accepted before the batch.
    pub late: u64,
    /// Lines refused.
    pub rejected: u64,
    /// Why they were.
    pub reasons: Reasons,
    /// Files in folders that were passed over.
    pub passed_over: Vec<String>,
    /// What people should know of.
    pub notes: Vec<String>,
    /// Rows changed, by table.
    pub changed: BTreeMap<String, u64>,
    /// From the batch's arrival until its changes were there.
    pub time: Duration,
}

impl Summary {
    /// The summary of a batch that has been read.
    pub fn new(epoch: u64, plan: &Plan, done: &[Done], time: Duration) -> Summary {
        // Where datasets come from, every split is one, or a job that was refused.
        let of_jobs = |first: u64| {
            let split = usize::try_from(first).ok().and_then(|place| plan.splits.get(place));
            split.is_some_and(|split| matches!(split.location, Location::Dataset(_) | Location::Refused(_)))
        };
        let queues = plan.files.iter().filter(|file| of_jobs(file.first_split)).count();
        let datasets = plan.splits.iter().filter(|split| matches!(split.location, Location::Dataset(_))).count();
        let mut summary = Summary {
            epoch,
            files: plan.files.len() - queues,
            datasets: (queues > 0).then_some(datasets),
            bytes: plan.bytes,
            time,
            passed_over: plan.passed_over.clone(),
            notes: plan.notes.clone(),
            ..Summary::default()
        };
        for done in done {
            let split = usize::try_from(done.sequence).ok().and_then(|place| plan.splits.get(place));
            if split.is_some_and(|split| split.sign < 0) {
                summary.retracted += done.accepted;
            } else {
                summary.delivered += done.accepted;
            }
            summary.late += done.late;
            summary.rejected += done.rejected;
        }
        summary
    }

    /// So many records were there before, and have been delivered again.
    pub fn leave_out(&mut self, records: u64) {
        let delivered = self.delivered.min(records);
        self.delivered -= delivered;
        self.retracted = self.retracted.saturating_sub(records - delivered);
        self.late = self.late.min(self.delivered);
    }
}
