//! A dataflow that is served.

use super::recent::Recent;
use crate::engine::Job;
use crate::points::Destination;
use crate::points::store::Store;
use crate::state::Of;
use retally_core::chart::Chart;
use retally_core::contract::{Definition, Table};
use retally_core::time::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// A dataflow that is served.
pub struct Served {
    /// Its definition without what people say of their files.
    pub plain: Definition,
    /// What is run.
    pub job: Job,
    /// Of its settings.
    pub fingerprint: String,
    /// Its tables, in its order.
    pub tables: Vec<Table>,
    /// The changes of its last epochs.
    pub recent: Recent,
    /// Its points are what follows from the journal.
    pub has_points: AtomicBool,
    /// The latest event that it was given, in microseconds since 1970; before any, the least number.
    latest: AtomicI64,
}

impl Served {
    /// A dataflow with these settings.
    pub fn new(plain: Definition, job: Job) -> Served {
        let (tables, _) = job.divided();
        Served {
            plain,
            fingerprint: job.fingerprint(),
            job,
            tables,
            recent: Recent::default(),
            has_points: AtomicBool::new(false),
            latest: AtomicI64::new(i64::MIN),
        }
    }

    /// The latest event that it was given: the time of as-of.
    pub fn latest(&self) -> Option<Moment> {
        Some(self.latest.load(Ordering::Relaxed)).filter(|micros| *micros != i64::MIN).map(Moment)
    }

    /// Says which event is the latest, where there is one.
    pub fn set_latest(&self, latest: Option<Moment>) {
        latest.into_iter().for_each(|latest| self.latest.store(latest.0, Ordering::Relaxed));
    }

    /// Whether it writes points: then it must not get a batch before the disk has it.
    pub fn writes_points(&self) -> bool {
        self.job.points != Destination::Nowhere
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.plain.name
    }

    /// The charts of its tables.
    pub fn charts(&self) -> Vec<Chart> {
        let mut charts = self.job.graph.charts();
        charts.retain(|chart| chart.can_be_drawn(|table| self.job.tables.contains(table)));
        charts
    }

    /// Its settings, by name.
    pub fn settings(&self) -> BTreeMap<&str, &str> {
        self.job.named_settings().collect()
    }

    /// For what batches are kept and planned.
    pub fn of(&self) -> Of<'_> {
        Of { plain: &self.plain, definition: &self.job.definition }
    }
}

/// Where the points of a dataflow are.
pub enum PointsOf {
    /// In this store.
    Store(Arc<Store>),
    /// Not in a store of this service.
    Elsewhere,
    /// They are being written.
    Later,
}
