//! How tables of a database are brought to the truth, by the difference alone.
//!
//! What is true now is loaded beside the table, into a temporary one, and the database compares the two: keys that are gone are deleted,
//! rows whose other columns differ are updated, new keys are inserted. So rows that stay the same are not written, the order in which a
//! database sorts does not matter, and memory is bounded by the database's own settings. A table without rows is loaded directly. A few
//! changes of an epoch are made one by one, by prepared statements.
//!
//! # Limits
//! A relation whose columns or key are not ours is refused, not altered.

use super::relation::{Dialect, Existing, GONE, NEW, Relation, literal, quoted};
use super::{Applied, DELETED_MAX, Deletions, SinkError};
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType, RowBatch};
use std::collections::BTreeMap;

/// Up to so many changes of a table are made one by one; more are loaded beside it.
const ONE_BY_ONE_MAX: usize = 100;

/// The table of what has been reached.
pub(super) const PROGRESS: &str = "retally_progress";

/// What a database has been brought to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The dataflow.
    pub dataflow: String,
    /// Its epoch.
    pub epoch: u64,
    /// What the tables were computed with: two that differ are of different settings.
    pub fingerprint: String,
}

/// How many rows of a table were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows whose key was not there.
    pub inserted: u64,
    /// Rows whose other columns were different.
    pub updated: u64,
    /// Rows whose key is gone.
    pub deleted: u64,
}

/// A transaction in a database.
pub(super) trait Session {
    /// Which database.
    fn dialect(&self) -> Dialect;
    /// How messages call it, without secrets.
    fn place(&self) -> &str;
    /// Runs a statement, and returns how many rows it wrote.
    fn execute(&mut self, statement: &str) -> Result<u64, SinkError>;
    /// The table of this name, where there is one.
    fn existing(&mut self, name: &str) -> Result<Option<Existing>, SinkError>;
    /// The texts of a query's first row; nothing where there is no row.
    fn first(&mut self, query: &str, width: usize) -> Result<Option<Vec<Option<String>>>, SinkError>;
    /// The row of a dataflow in the table of what has been reached, which is there.
    fn progress(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError>;
    /// Keeps other writers away from a table that exists.
    fn lock(&mut self, name: &str) -> Result<(), SinkError>;
    /// Adds rows of `relation` to the table `into`.
    fn load(&mut self, into: &str, relation: &Relation, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<u64, SinkError>;
    /// Runs a prepared statement for each row, whose first cells are its parameters.
    fn each(&mut self, statement: &str, relation: &Relation, cells: usize, rows: &[&[u8]]) -> Result<(), SinkError>;
    /// Lets the database look at what was loaded, to plan by.
    fn analyze(&mut self, table: &str) -> Result<(), SinkError>;
}

/// Refuses relations that others made, before anything is computed.
pub(super) fn check<'t>(session: &mut impl Session, tables: impl Iterator<Item = &'t Table>) -> Result<(), SinkError> {
    let dialect = session.dialect();
    for relation in tables.map(|table| Relation::new(dialect, table, "")).chain([progress_relation(dialect)]) {
        if let Some(existing) = session.existing(relation.name)? {
            relation.recognise(&existing, session.place())?;
        }
    }
    Ok(())
}

/// Brings relations to these tables, and returns what that changed.
pub(super) fn bring(
    session: &mut impl Session,
    tables: &[&TableState],
    reached: &Reached,
    deletions: Deletions,
) -> Result<Vec<Difference>, SinkError> {
    let bring = |state: &&TableState| bring_table(session, state, &reached.dataflow, deletions);
    let differences = tables.iter().map(bring).collect::<Result<_, _>>()?;
    match session.existing(PROGRESS)? {
        Some(existing) => progress_relation(session.dialect()).recognise(&existing, session.place())?,
        None => {
            let relation = progress_relation(session.dialect());
            session.execute(&relation.create())?;
            relation.add_key().map_or(Ok(0), |statement| session.execute(&statement))?;
        }
    }
    set_progress(session, reached)?;
    Ok(differences)
}

fn bring_table(session: &mut impl Session, state: &TableState, dataflow: &str, deletions: Deletions) -> Result<Difference, SinkError> {
    let relation = Relation::new(session.dialect(), state.table(), dataflow);
    let rows = &mut state.rows();
    let Some(existing) = session.existing(relation.name)? else {
        session.execute(&relation.create())?;
        let inserted = session.load(&quoted(relation.name), &relation, rows)?;
        relation.add_key().map_or(Ok(0), |statement| session.execute(&statement))?;
        return Ok(Difference { inserted, ..Difference::default() });
    };
    relation.recognise(&existing, session.place())?;
    session.lock(relation.name)?;
    let deleted = if relation.key == 0 { session.execute(&relation.delete_owned())? } else { 0 };
    if relation.key == 0 || session.first(&format!("SELECT 'any' FROM {} LIMIT 1", quoted(relation.name)), 1)?.is_none() {
        let inserted = session.load(&quoted(relation.name), &relation, rows)?;
        return Ok(Difference { inserted, deleted, updated: 0 });
    }
    session.execute(&relation.create_temporary(NEW, true))?;
    session.load(NEW, &relation, rows)?;
    session.analyze(NEW)?;
    let deleted = match deletions {
        Deletions::Any => session.execute(&relation.delete_missing())?,
        Deletions::Guarded => delete_guarded(session, &relation, state.table())?,
    };
    let updated = relation.update().map_or(Ok(0), |statement| session.execute(&statement))?;
    let inserted = session.execute(&relation.insert())?;
    session.execute(&format!("DROP TABLE {NEW}"))?;
    Ok(Difference { inserted, updated, deleted })
}

/// Deletes the rows that are gone, when they are not most of them.
fn delete_guarded(session: &mut impl Session, relation: &Relation, table: &Table) -> Result<u64, SinkError> {
    session.execute("SAVEPOINT before_deletions")?;
    let deleted = session.execute(&relation.delete_missing())?;
    if deleted > DELETED_MAX {
        let name = quoted(relation.name);
        let left = session.first(&format!("SELECT CAST(count(*) AS TEXT) FROM {name}"), 1)?;
        let left = left.and_then(|row| row.first()?.as_deref()?.parse::<u64>().ok()).unwrap_or(0);
        if deleted > left {
            session.execute("ROLLBACK TO SAVEPOINT before_deletions")?;
            let span = span(session, relation, table)?;
            let (place, table) = (session.place().to_string(), relation.name.to_string());
            return Err(SinkError::WouldDelete { place, table, deleted, rows: deleted + left, span });
        }
    }
    session.execute("RELEASE SAVEPOINT before_deletions")?;
    Ok(deleted)
}

/// From which day or time to which the rows are that are gone, where the table has such a column.
fn span(session: &mut impl Session, relation: &Relation, table: &Table) -> Result<String, SinkError> {
    let dated = |column: &&Column| matches!(column.kind, ColumnType::Day | ColumnType::Time);
    let Some(column) = table.columns.iter().find(dated) else { return Ok(String::new()) };
    let row = session.first(&relation.span_of_missing(column.name), 2)?.unwrap_or_default();
    match row.as_slice() {
        [Some(first), Some(last)] => Ok(format!(", {} {first} to {last}", column.name)),
        _ => Ok(String::new()),
    }
}

/// What a dataflow's relations have been brought to.
pub(super) fn reached(session: &mut impl Session, dataflow: &str) -> Result<Option<Reached>, SinkError> {
    let Some(existing) = session.existing(PROGRESS)? else { return Ok(None) };
    progress_relation(session.dialect()).recognise(&existing, session.place())?;
    session.progress(dataflow)
}

/// Applies changes to relations that were brought to an epoch before.
pub(super) fn apply(
    session: &mut impl Session,
    tables: &[Table],
    changes: &BTreeMap<String, Vec<RowBatch>>,
    to: &Reached,
) -> Result<Applied, SinkError> {
    match reached(session, &to.dataflow)? {
        Some(there) if there.fingerprint == to.fingerprint && there.epoch < to.epoch => {}
        Some(there) if there.fingerprint == to.fingerprint => return Ok(Applied::Already),
        Some(_) | None => return Ok(Applied::MustBring),
    }
    let changed = || tables.iter().filter_map(|table| Some((table, changes.get(table.name).filter(|batches| !batches.is_empty())?)));
    // Nothing tells which of several same rows without a key is gone.
    if changed().any(|(table, batches)| table.key_columns == 0 && batches.iter().flat_map(RowBatch::iter).any(|(_, diff)| diff < 0)) {
        return Ok(Applied::MustBring);
    }
    for (table, batches) in changed() {
        let relation = Relation::new(session.dialect(), table, &to.dataflow);
        if relation.key == 0 {
            let times = |(row, diff)| std::iter::repeat_n(row, usize::try_from(diff).unwrap_or(0));
            session.load(&quoted(relation.name), &relation, &mut batches.iter().flat_map(RowBatch::iter).flat_map(times))?;
            continue;
        }
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        relation.sort_changes(batches, &mut new, &mut gone);
        if new.len() + gone.len() <= ONE_BY_ONE_MAX {
            session.each(&relation.delete_one(), &relation, relation.key, &gone)?;
            if !relation.key_is_primary() {
                session.each(&relation.delete_one(), &relation, relation.key, &new)?;
            }
            session.each(&relation.insert_one(), &relation, relation.width(), &new)?;
            continue;
        }
        for (temporary, rows) in [(NEW, new), (GONE, gone)] {
            session.execute(&relation.create_temporary(temporary, false))?;
            session.load(temporary, &relation, &mut rows.into_iter())?;
            session.analyze(temporary)?;
        }
        session.execute(&relation.delete_gone())?;
        relation.update().map_or(Ok(0), |statement| session.execute(&statement))?;
        session.execute(&relation.insert())?;
        session.execute(&format!("DROP TABLE {NEW}"))?;
        session.execute(&format!("DROP TABLE {GONE}"))?;
    }
    set_progress(session, to)?;
    Ok(Applied::Done)
}

/// Writes what has been reached into its table, which is there.
fn set_progress(session: &mut impl Session, reached: &Reached) -> Result<(), SinkError> {
    let Reached { dataflow, epoch, fingerprint } = reached;
    session.execute(&format!("DELETE FROM {PROGRESS} WHERE dataflow = {}", literal(dataflow)))?;
    let values = format!("{}, {epoch}, {}", literal(dataflow), literal(fingerprint));
    session.execute(&format!("INSERT INTO {PROGRESS} (dataflow, epoch, fingerprint) VALUES ({values})")).map(drop)
}

fn progress_relation(dialect: Dialect) -> Relation {
    let text = |name| Column::new(name, ColumnType::Text, "");
    let columns = vec![text("dataflow"), Column::new("epoch", ColumnType::UInt, ""), text("fingerprint")];
    Relation::new(dialect, &Table::new(PROGRESS, "", 1, columns), "")
}
