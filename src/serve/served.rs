//! A dataflow that is served.

use super::recent::Recent;
use crate::engine::Job;
use crate::numbers::counted;
use crate::points::Destination;
use crate::points::store::Store;
use crate::state::Of;
use crate::state::frame::Answer;
use retally_core::chart::Chart;
use retally_core::contract::{AsOf, Definition, Table};
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
    /// As-of, in microseconds since 1970; where there is none yet, the least number.
    as_of: AtomicI64,
    /// It was said that a few records change very many rows.
    told: AtomicBool,
}

/// So many records are few.
const FEW_RECORDS: u64 = 100;
/// So many rows of a table are very many for those: they take tenths of a second, each time.
const MANY_ROWS: u64 = 10_000;

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
            as_of: AtomicI64::new(i64::MIN),
            told: AtomicBool::new(false),
        }
    }

    /// The time of as-of.
    pub fn as_of(&self) -> Option<Moment> {
        Some(self.as_of.load(Ordering::Relaxed)).filter(|micros| *micros != i64::MIN).map(Moment)
    }

    /// Says what it is from now on, where there is one.
    pub fn set_as_of(&self, as_of: Option<Moment>) {
        as_of.into_iter().for_each(|as_of| self.as_of.store(as_of.0, Ordering::Relaxed));
    }

    /// What to say, once, where as-of has moved to here with a few records, and very many rows with it.
    pub fn advice(&self, as_of: Option<Moment>, answer: &Answer) -> Option<String> {
        if self.job.settings.as_of() != AsOf::Latest || as_of == self.as_of() || answer.accepted > FEW_RECORDS {
            return None;
        }
        let (table, rows) = answer.changed.iter().find(|(_, rows)| **rows >= MANY_ROWS)?;
        let advice = || {
            format!(
                "{}: a batch of {} changed {} of {table}: what is open ends at the latest event, and changes with each later one; with \
                 --as-of now it changes once a minute",
                self.name(),
                counted(answer.accepted, "record"),
                counted(*rows, "row"),
            )
        };
        (!self.told.swap(true, Ordering::Relaxed)).then(advice)
    }

    /// Whether it is the machine's clock.
    pub fn is_of_clock(&self) -> bool {
        self.job.settings.as_of() == AsOf::Now
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
