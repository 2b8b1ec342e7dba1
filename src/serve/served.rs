//! A dataflow that is served.

use super::recent::Recent;
use crate::engine::Job;
use crate::points::Destination;
use crate::points::store::Store;
use crate::state::Of;
use retally_core::contract::{Definition, Table};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
}

impl Served {
    /// A dataflow with these settings.
    pub fn new(plain: Definition, job: Job) -> Served {
        let tables = job.graph.tables().into_iter().filter(|table| job.tables.contains(table.name)).collect();
        Served { plain, fingerprint: job.fingerprint(), job, tables, recent: Recent::default(), has_points: AtomicBool::new(false) }
    }

    /// Whether it writes points: then it must not get a batch before the disk has it.
    pub fn writes_points(&self) -> bool {
        self.job.points != Destination::Nowhere
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.plain.name
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
