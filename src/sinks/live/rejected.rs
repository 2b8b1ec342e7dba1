//! The refused records in the database of a service: the table `rejected`, with the batch of each and its id.
//!
//! A run writes the table without these two columns, or leaves them empty; a service then rewrites it. A row leaves when its record is
//! delivered once more.

use super::super::SinkError;
use super::super::relation::{Dialect, Existing, Relation, quoted};
use super::super::relational::Session;
use super::super::sqlite::Transaction;
use super::run;
use retally_core::contract::Table;
use retally_core::row::{RowBatch, Value, values};
use rusqlite::params;

/// The relation of a dataflow.
fn relation(dataflow: &str) -> Relation {
    Relation::new(Dialect::Sqlite, &Table::rejected_by_batch(), dataflow)
}

/// Gives the table its columns, where there is one.
pub(super) fn prepare(open: &mut Transaction<'_>) -> Result<(), SinkError> {
    let relation = relation("");
    let Some(Existing { columns, .. }) = open.existing(relation.name)? else { return Ok(()) };
    for (name, kind) in [("batch", "INTEGER"), ("id", "TEXT")] {
        if columns.iter().all(|(column, _)| column != name) {
            open.execute(&format!("ALTER TABLE {} ADD COLUMN {name} {kind}", quoted(relation.name)))?;
        }
    }
    index(open, &relation)
}

fn index(open: &mut Transaction<'_>, relation: &Relation) -> Result<(), SinkError> {
    open.execute(&format!("CREATE INDEX IF NOT EXISTS retally_rejected_id ON {} (id)", quoted(relation.name))).map(drop)
}

/// Whether all rows of a dataflow have their batches.
pub(super) fn is_whole(open: &mut Transaction<'_>, dataflow: &str) -> Result<bool, SinkError> {
    let relation = relation(dataflow);
    if open.existing(relation.name)?.is_none() {
        return Ok(false);
    }
    let query = format!("SELECT NOT EXISTS (SELECT 1 FROM {} WHERE id IS NULL AND dataflow = ?1)", quoted(relation.name));
    open.transaction.query_row(&query, [dataflow], |row| row.get(0)).map_err(|error| open.failed(&error))
}

/// Brings the rows of a dataflow to these.
pub(super) fn bring(open: &mut Transaction<'_>, dataflow: &str, rejected: &[RowBatch]) -> Result<(), SinkError> {
    let relation = relation(dataflow);
    match open.existing(relation.name)? {
        Some(existing) => relation.recognise(&existing, open.place())?,
        None => {
            open.execute(&relation.create())?;
            index(open, &relation)?;
        }
    }
    open.execute(&relation.delete_owned())?;
    apply(open, dataflow, rejected)
}

/// Lines of a file in which something stands that was forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The dataflow.
    pub dataflow: String,
    /// How the ids of the file's lines begin.
    pub ids: String,
    /// What the file is called: a run writes rows without ids.
    pub source: String,
    /// One of these stands in each line. Where there are none, all lines are meant that have ids.
    pub values: Vec<String>,
}

/// Takes away the rows of lines that were forgotten.
pub(super) fn forget(open: &mut Transaction<'_>, gone: &Forgotten) -> Result<(), SinkError> {
    let Forgotten { dataflow, ids, source, values } = gone;
    let relation = relation(dataflow);
    let Some(Existing { columns, .. }) = open.existing(relation.name)? else { return Ok(()) };
    let has_ids = columns.iter().any(|(column, _)| column == "id");
    let is_of_file = if has_ids { "(id GLOB ?2 OR (id IS NULL AND source = ?3))" } else { "source = ?3" };
    let ids = format!("{ids}*");
    if values.is_empty() {
        // Of rows without ids, nothing says which delivery of a file they are of.
        let statement = format!("DELETE FROM {} WHERE dataflow = ?1 AND id GLOB ?2", quoted(relation.name));
        return if has_ids { run(open, &statement, params![dataflow, ids]) } else { Ok(()) };
    }
    let statement = format!("DELETE FROM {} WHERE dataflow = ?1 AND {is_of_file} AND instr(raw, ?4) > 0", quoted(relation.name));
    values.iter().try_for_each(|value| run(open, &statement, params![dataflow, ids, source, value]))
}

/// Adds rows, and takes away those that leave.
pub(super) fn apply(open: &mut Transaction<'_>, dataflow: &str, rejected: &[RowBatch]) -> Result<(), SinkError> {
    let relation = relation(dataflow);
    let rows = || rejected.iter().flat_map(RowBatch::iter);
    let one =
        format!("DELETE FROM {0} WHERE rowid = (SELECT rowid FROM {0} WHERE id = ?1 AND dataflow = ?2 LIMIT 1)", quoted(relation.name));
    for (row, diff) in rows().filter(|(_, diff)| *diff < 0) {
        let Some(Value::Text(id)) = values(&Table::rejected_by_batch().columns, row).last() else { continue };
        (0..diff.unsigned_abs()).try_for_each(|_| run(open, &one, params![id, dataflow]))?;
    }
    let times = |(row, diff)| std::iter::repeat_n(row, usize::try_from(diff).unwrap_or(0));
    open.load(&quoted(relation.name), &relation, &mut rows().flat_map(times)).map(drop)
}
