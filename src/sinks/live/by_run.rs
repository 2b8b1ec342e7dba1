//! The tables of a state, as a run writes them.

use super::super::relation::{Dialect, Relation};
use super::super::relational::{self, Reached, Session};
use super::super::sqlite::{Sqlite, Transaction};
use super::super::{Applied, Deletions, Held, Sink, SinkError, differences};
use super::{drop_left_out, drop_others};
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::path::Path;

/// Tables of other settings or of another version are this state's all the same: they are dropped when the run's own are written, and not
/// before, since a run may fail. Tables that are not built go with them, as those of a service do: what follows from the journal is there
/// as of its last batch, or not at all.
pub struct ByRun {
    sqlite: Sqlite,
    /// All tables of the dataflow, whether they are built or not.
    all: Vec<Table>,
    remarks: Vec<String>,
}

impl ByRun {
    /// Opens the database, which need not be there yet.
    pub fn open(path: &Path, all: Vec<Table>) -> Result<ByRun, SinkError> {
        Ok(ByRun { sqlite: Sqlite::open(path, [Table::rejected()].iter())?, all, remarks: Vec::new() })
    }
}

impl Sink for ByRun {
    fn bring(&mut self, tables: &[&TableState], reached: &Reached, deletions: Deletions) -> Result<Vec<String>, SinkError> {
        let all = &self.all;
        let is_built = |table: &&Table| tables.iter().any(|state| state.table().name == table.name);
        let (written, dropped) = self.sqlite.write(&mut |open| {
            drop_others(open, all.iter().filter(is_built), &reached.dataflow)?;
            let dropped = drop_left_out(open, all.iter().filter(|table| !is_built(table)), &reached.dataflow)?;
            Ok((relational::bring(open, tables, reached, deletions)?, dropped))
        })?;
        if !dropped.is_empty() {
            self.remarks.push(format!("dropped from {}: {}, which --tables leaves out", self.sqlite.place(), dropped.join(", ")));
        }
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

    fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }
}

/// Whether a table is there that is none of these settings, or of another version.
pub(super) fn is_of_others(open: &mut Transaction<'_>, table: &Table, dataflow: &str) -> Result<bool, SinkError> {
    let relation = Relation::new(Dialect::Sqlite, table, dataflow);
    let existing = open.existing(relation.name)?;
    Ok(existing.is_some_and(|existing| relation.recognise(&existing, "").is_err()))
}
