//! How tables of a database are brought to the truth, by the difference alone.
//!
//! What is true now is loaded beside the table, into a temporary one, and the database compares the two: keys that are gone are deleted,
//! rows whose other columns differ are updated, new keys are inserted. So rows that stay the same are not written, the order in which a
//! database sorts does not matter, and memory is bounded by the database's own settings. A table without rows is loaded directly. A few
//! changes of an epoch are made one by one, by prepared statements.
//!
//! Where triggers, rules or policies of others stand on a table, what came of the rows is looked at before it is committed.
//!
//! # Limits
//! A relation whose columns or key are not ours is refused, not altered.

use super::relation::{Dialect, Existing, Relation, literal, quoted};
use super::{Applied, DELETED_MAX, Deletions, Deviation, Held, SinkError};
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
    /// What the tables were computed with: two that differ are of different settings. Behind it, of a service, a mark of the batch: two
    /// that differ are of different histories.
    pub fingerprint: String,
}

impl Reached {
    /// What the tables were computed with, without a mark of the batch.
    pub fn settings(&self) -> &str {
        self.fingerprint.split_once(MARKED).map_or(&self.fingerprint, |(settings, _)| settings)
    }

    /// The mark of the batch, where there is one.
    pub fn mark(&self) -> Option<&str> {
        self.fingerprint.split_once(MARKED).map(|(_, mark)| mark)
    }

    /// The fingerprint of settings with a mark of the batch.
    pub fn marked(settings: &str, mark: &str) -> String {
        format!("{settings}{MARKED}{mark}")
    }
}

/// Between settings and the mark of a batch.
const MARKED: char = '-';

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
    /// Whether something of others stands on a table that may change what is written: a trigger, a rule, a policy.
    fn meddlers(&mut self, name: &str) -> Result<bool, SinkError>;
    /// Adds rows of `relation` to the table `into`. Returns how many were written.
    fn load(&mut self, into: &str, relation: &Relation, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<u64, SinkError>;
    /// Runs a prepared statement for each row, whose first cells are its parameters. Returns how many rows that wrote.
    fn each(&mut self, statement: &str, relation: &Relation, cells: usize, rows: &[&[u8]]) -> Result<u64, SinkError>;
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

/// Refuses to write some tables of a dataflow where the others, which are left out, were computed with other settings: the row of what has
/// been reached is of all of them.
pub(super) fn check_left_out(session: &mut impl Session, left_out: &[Table], dataflow: &str, fingerprint: &str) -> Result<(), SinkError> {
    let Some(there) = reached(session, dataflow)?.filter(|there| there.settings() != fingerprint) else { return Ok(()) };
    let mut others = Vec::new();
    for table in left_out {
        if session.existing(table.name)?.is_some() {
            others.push(format!("{:?}", table.name));
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    let (place, others) = (session.place().to_string(), others.join(", "));
    Err(SinkError::OtherSettings { place, others, theirs: there.fingerprint, ours: fingerprint.into() })
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
    let Some(existing) = session.existing(relation.name)? else {
        session.execute(&relation.create())?;
        let inserted = load_all(session, &relation, state)?;
        relation.add_key().map_or(Ok(0), |statement| session.execute(&statement))?;
        return Ok(Difference { inserted, ..Difference::default() });
    };
    relation.recognise(&existing, session.place())?;
    session.lock(relation.name)?;
    let deleted = if relation.key == 0 { session.execute(&relation.delete_owned())? } else { 0 };
    let has_meddlers = session.meddlers(relation.name)?;
    if relation.key == 0 || (!has_meddlers && is_empty(session, &relation)?) {
        let inserted = load_all(session, &relation, state)?;
        return Ok(Difference { inserted, deleted, updated: 0 });
    }
    let new = relation.loaded();
    session.execute(&relation.create_temporary(&new, true))?;
    let loaded = session.load(&new, &relation, &mut state.rows())?;
    session.analyze(&new)?;
    let deleted = match deletions {
        Deletions::Any => session.execute(&relation.delete_missing())?,
        Deletions::Guarded => delete_guarded(session, &relation, state.table())?,
    };
    let updated = relation.update().map_or(Ok(0), |statement| session.execute(&statement))?;
    let inserted = session.execute(&relation.insert())?;
    if has_meddlers {
        check_written(session, &relation, loaded)?;
    }
    session.execute(&format!("DROP TABLE {new}"))?;
    Ok(Difference { inserted, updated, deleted })
}

fn is_empty(session: &mut impl Session, relation: &Relation) -> Result<bool, SinkError> {
    Ok(session.first(&format!("SELECT 'any' FROM {} LIMIT 1", quoted(relation.name)), 1)?.is_none())
}

/// Loads all rows into a table that has none of them.
fn load_all(session: &mut impl Session, relation: &Relation, state: &TableState) -> Result<u64, SinkError> {
    let loaded = session.load(&quoted(relation.name), relation, &mut state.rows())?;
    expect(session, relation, state.len(), [loaded, loaded])?;
    Ok(loaded)
}

/// Sees to it that a table has the rows that were loaded beside it, and no others.
fn check_written(session: &mut impl Session, relation: &Relation, loaded: u64) -> Result<(), SinkError> {
    let counts = counts(session, &relation.count_right())?;
    expect(session, relation, loaded, counts)
}

/// The two numbers that a query has as texts.
fn counts(session: &mut impl Session, query: &str) -> Result<[u64; 2], SinkError> {
    let counts = session.first(query, 2)?.unwrap_or_default();
    Ok([0, 1].map(|place| counts.get(place).and_then(|text| text.as_deref()?.parse().ok()).unwrap_or(0)))
}

/// Compares relations with these tables, in a transaction that is rolled back.
pub(super) fn compare(session: &mut impl Session, tables: &[&TableState], dataflow: &str) -> Result<Option<Held>, SinkError> {
    let Some(Reached { epoch, .. }) = reached(session, dataflow)? else { return Ok(None) };
    let deviation = |state: &&TableState| {
        let relation = Relation::new(session.dialect(), state.table(), dataflow);
        let Some(existing) = session.existing(relation.name)? else { return Ok(Deviation { missing: state.len(), others: 0 }) };
        relation.recognise(&existing, session.place())?;
        let expected = relation.loaded();
        session.execute(&relation.create_temporary(&expected, false))?;
        session.load(&expected, &relation, &mut state.rows())?;
        let [missing, others] = counts(session, &relation.count_deviations())?;
        session.execute(&format!("DROP TABLE {expected}"))?;
        Ok(Deviation { missing, others })
    };
    Ok(Some(Held { epoch, deviations: tables.iter().map(deviation).collect::<Result<_, _>>()? }))
}

/// An error, unless a table has all the rows that it should have, and no others: how many are right, and how many there are.
fn expect(session: &impl Session, relation: &Relation, expected: u64, [right, all]: [u64; 2]) -> Result<(), SinkError> {
    if [right, all] == [expected, expected] {
        return Ok(());
    }
    let (place, table) = (session.place().to_string(), relation.name.to_string());
    Err(SinkError::Meddled { place, table, expected, right, others: all.saturating_sub(right) })
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

/// Applies changes to relations that were brought to what stands before them.
pub(super) fn apply(
    session: &mut impl Session,
    tables: &[Table],
    changes: &BTreeMap<String, Vec<RowBatch>>,
    [from, to]: [&Reached; 2],
) -> Result<Applied, SinkError> {
    match reached(session, &to.dataflow)? {
        Some(there) if there == *from => {}
        Some(there) if there == *to => return Ok(Applied::Already),
        // It may have been put back to what it was, or be of another history.
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
            let count = batches.iter().flat_map(RowBatch::iter).flat_map(times).count() as u64;
            let loaded = session.load(&quoted(relation.name), &relation, &mut batches.iter().flat_map(RowBatch::iter).flat_map(times))?;
            expect(session, &relation, count, [loaded, loaded])?;
            continue;
        }
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        relation.sort_changes(batches.iter().flat_map(RowBatch::iter), &mut new, &mut gone);
        if new.len() + gone.len() <= ONE_BY_ONE_MAX {
            session.each(&relation.delete_one(), &relation, relation.key, &gone)?;
            if !relation.key_is_primary() {
                session.each(&relation.delete_one(), &relation, relation.key, &new)?;
            }
            let inserted = session.each(&relation.insert_one(), &relation, relation.width(), &new)?;
            // Where a row has nothing but a key, one that is there is left alone.
            if relation.width() > relation.key {
                expect(session, &relation, new.len() as u64, [inserted, inserted])?;
            }
            continue;
        }
        for (temporary, rows) in [(relation.loaded(), new), (relation.gone(), gone)] {
            session.execute(&relation.create_temporary(&temporary, false))?;
            session.load(&temporary, &relation, &mut rows.into_iter())?;
            session.analyze(&temporary)?;
        }
        session.execute(&relation.delete_gone())?;
        relation.update().map_or(Ok(0), |statement| session.execute(&statement))?;
        session.execute(&relation.insert())?;
        session.execute(&format!("DROP TABLE {}", relation.loaded()))?;
        session.execute(&format!("DROP TABLE {}", relation.gone()))?;
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
