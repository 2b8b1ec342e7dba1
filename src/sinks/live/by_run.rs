//! The tables of a state, as a run writes them.

use super::super::relation::{Dialect, Relation};
use super::super::relational::{self, Reached, Session};
use super::super::sqlite::{Sqlite, Transaction};
use super::super::{Applied, Deletions, Held, Sink, SinkError, differences};
use super::drop_others;
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::path::Path;

/// Tables of other settings or of another version are this state's all the same: they are dropped when the run's own are written, and not
/// before, since a run may fail.
pub struct ByRun {
    sqlite: Sqlite,
    /// All tables of the dataflow, whether they are built or not.
    all: Vec<Table>,
}

impl ByRun {
    /// Opens the database, which need not be there yet.
    pub fn open(path: &Path, all: Vec<Table>) -> Result<ByRun, SinkError> {
        Ok(ByRun { sqlite: Sqlite::open(path, [Table::rejected()].iter())?, all })
    }
}

impl Sink for ByRun {
    fn bring(&mut self, tables: &[&TableState], reached: &Reached, deletions: Deletions) -> Result<Vec<String>, SinkError> {
        let all = &self.all;
        let written = self.sqlite.write(&mut |open| {
            drop_others(open, all.iter(), &reached.dataflow)?;
            relational::bring(open, tables, reached, deletions)
        })?;
        Ok(differences(tables, &written, self.sqlite.place()))
    }

    fn reached(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        self.sqlite.reached(dataflow)
    }

    fn apply(&mut self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&Reached; 2]) -> Result<Applied, SinkError> {
        self.sqlite.apply(tables, changes, reached)
    }

    fn compare(&mut self, tables: &[&TableState], dataflow: &str) -> Result<Option<Held>, SinkError> {
        self.sqlite.compare(tables, dataflow)
    }

    fn check_left_out(&mut self, left_out: &[Table], dataflow: &str, fingerprint: &str) -> Result<(), SinkError> {
        if !self.sqlite.path().exists() {
            return Ok(());
        }
        self.sqlite.read(|open| {
            let mut stay = Vec::new();
            for table in left_out {
                if !is_of_others(open, table, dataflow)? {
                    stay.push(table.clone());
                }
            }
            relational::check_left_out(open, &stay, dataflow, fingerprint)
        })
    }
}

/// Whether a table is there that is none of these settings, or of another version.
pub(super) fn is_of_others(open: &mut Transaction<'_>, table: &Table, dataflow: &str) -> Result<bool, SinkError> {
    let relation = Relation::new(Dialect::Sqlite, table, dataflow);
    let existing = open.existing(relation.name)?;
    Ok(existing.is_some_and(|existing| relation.recognise(&existing, "").is_err()))
}
