//! The database of a service: the tables of its dataflows, and beside them what was fed and what changed.
//!
//! - `retally_progress`: the epoch that the tables of a dataflow have reached
//! - `retally_batches`: what each batch was, and did
//! - `retally_changes`: each row that came or went, by epoch; of an epoch with too many, that there were
//! - `retally_tables`: the number of rows of each table, and a checksum of them, which tells a table from another without reading it
//! - `retally_feeds`: from which epoch on the changes of a dataflow are kept
//! - `retally_remade`: at which epoch its tables were rebuilt, where other rows had been there
//! - `retally_settings`: the settings of a dataflow, as a JSON object, with the fingerprint of tables that they are of
//!
//! The changes of any number of epochs are one transaction ([`Live::apply`]), so that who reads sees whole epochs. It is read
//! ([`read::Reader`]) while it is written, and neither waits for the other.

mod by_run;
pub mod changes;
pub mod filter;
pub mod read;
pub mod reasons;
mod rejected;

pub use by_run::ByRun;
pub use rejected::Forgotten;

use super::cells::{Fraction, append_time};
use super::relation::{Dialect, Relation, quoted};
use super::relational::{self, Reached, Session};
use super::sqlite::{NO_DATABASE, Sqlite, Transaction, write_beside};
use super::{Deletions, SinkError};
use crate::tables::{Run, TableState, merged_all};
use by_run::is_of_others;
use retally_core::Epoch;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use retally_core::time::Moment;
use rusqlite::{Params, params};
use std::collections::BTreeMap;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS retally_batches (dataflow TEXT NOT NULL, epoch INTEGER NOT NULL, arrived TEXT NOT NULL, parts INTEGER NOT NULL,
    name TEXT, bytes INTEGER, \"key\" TEXT, body TEXT, accepted INTEGER, late INTEGER, rejected INTEGER, changed TEXT, ms REAL,
    PRIMARY KEY (dataflow, epoch)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS retally_batches_key ON retally_batches (dataflow, \"key\") WHERE \"key\" IS NOT NULL;
CREATE TABLE IF NOT EXISTS retally_changes (dataflow TEXT NOT NULL, epoch INTEGER NOT NULL, \"table\" TEXT NOT NULL, \"rows\" BLOB,
    PRIMARY KEY (dataflow, epoch, \"table\"));
CREATE TABLE IF NOT EXISTS retally_tables (dataflow TEXT NOT NULL, \"table\" TEXT NOT NULL, epoch INTEGER NOT NULL, \"rows\" INTEGER NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (dataflow, \"table\")) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retally_remade (dataflow TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retally_feeds (dataflow TEXT PRIMARY KEY, changes_from INTEGER NOT NULL) WITHOUT ROWID;
";

const SETTINGS: &str = "
CREATE TABLE IF NOT EXISTS retally_settings (dataflow TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, settings TEXT NOT NULL) WITHOUT ROWID;
";

/// The database, as it is written.
#[derive(Debug)]
pub struct Live {
    sqlite: Sqlite,
    sums: BTreeMap<(String, String), Sum>,
}

/// What a table holds, so that it is told from another: it does not depend on the order of rows, and changes with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The number of rows.
    pub rows: i64,
    /// The sum of the hashes of all rows, which wraps.
    pub checksum: i64,
}

impl Sum {
    /// Adds changes.
    pub fn add<'r>(&mut self, changes: impl Iterator<Item = (&'r [u8], i64)>) {
        for (row, diff) in changes {
            self.rows += diff;
            self.checksum = self.checksum.wrapping_add(xxh3_64(row).cast_signed().wrapping_mul(diff));
        }
    }
}

/// What a batch was, and did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchRow {
    /// Its epoch.
    pub epoch: Epoch,
    /// When it arrived.
    pub arrived: Moment,
    /// The number of its parts.
    pub parts: u64,
    /// What the first of them is called.
    pub name: String,
    /// What its sender calls it, and the hash of what was sent.
    pub key: Option<(String, String)>,
    /// What came of it, where that is known.
    pub answer: Option<BatchAnswer>,
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchAnswer {
    /// Records accepted.
    pub accepted: u64,
    /// Of these, late ones.
    pub late: u64,
    /// Records refused.
    pub rejected: u64,
    /// Rows changed by table, as a JSON object.
    pub changed: String,
    /// From its arrival until its changes were computed, in milliseconds.
    pub ms: f64,
}

/// An epoch to be applied.
#[derive(Debug)]
pub struct LiveEpoch<'e> {
    /// The dataflow.
    pub dataflow: &'static str,
    /// What changed, in order.
    pub changes: Vec<(&'e Table, &'e Run)>,
    /// Rows that `rejected` gets or loses, with their batches.
    pub rejected: &'e [RowBatch],
    /// The batch.
    pub batch: &'e BatchRow,
}

impl Live {
    /// The database in this file, which need not exist.
    pub fn open(path: &Path) -> Result<Live, SinkError> {
        Live::opened(path).map_err(|error| match error {
            SinkError::Database { place, why, hint: NO_DATABASE } => {
                SinkError::Database { place, why, hint: "remove it: its tables are rebuilt, as the journal has them" }
            }
            error => error,
        })
    }

    fn opened(path: &Path) -> Result<Live, SinkError> {
        let mut sqlite = Sqlite::open(path, std::iter::empty())?.live();
        let sums = sqlite.write(&mut |open| {
            open.transaction.execute_batch(SCHEMA).map_err(|error| open.failed(&error))?;
            rejected::prepare(open)?;
            let mut sums = BTreeMap::new();
            let mut read = || {
                let mut statement = open.transaction.prepare("SELECT dataflow, \"table\", \"rows\", checksum FROM retally_tables")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    sums.insert((row.get(0)?, row.get(1)?), Sum { rows: row.get(2)?, checksum: row.get(3)? });
                }
                Ok(())
            };
            read().map_err(|error: rusqlite::Error| open.failed(&error))?;
            Ok(sums)
        })?;
        Ok(Live { sqlite, sums })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.sqlite.path()
    }

    /// What the tables of a dataflow have been brought to.
    pub fn reached(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        self.sqlite.read(|open| relational::reached(open, dataflow))
    }

    /// Whether these rows are what the tables of a dataflow hold as of an epoch.
    pub fn holds(&mut self, tables: &[&TableState], reached: &Reached) -> Result<bool, SinkError> {
        let sums = sums(tables);
        self.sqlite.read(|open| {
            let mut statement = open
                .transaction
                .prepare("SELECT \"table\", \"rows\", checksum FROM retally_tables WHERE dataflow = ?1 AND epoch = ?2")
                .map_err(|error| open.failed(&error))?;
            let mut found = BTreeMap::new();
            let mut read = || {
                let mut rows = statement.query(params![reached.dataflow, stored(reached.epoch)])?;
                while let Some(row) = rows.next()? {
                    found.insert(row.get::<_, String>(0)?, Sum { rows: row.get(1)?, checksum: row.get(2)? });
                }
                Ok(())
            };
            read().map_err(|error: rusqlite::Error| open.failed(&error))?;
            Ok(found.len() == sums.len() && sums.iter().all(|(table, sum)| found.get(*table) == Some(sum)))
        })
    }

    /// Brings the tables of a dataflow to their rows, and `rejected` to its own. Changes before are not kept: who followed them reads the
    /// tables anew.
    pub fn bring(&mut self, tables: &[&TableState], rejected: &[RowBatch], reached: &Reached) -> Result<(), SinkError> {
        let dataflow = reached.dataflow.as_str();
        let sums = sums(tables);
        let tables: Vec<&TableState> = tables.iter().copied().filter(|state| state.table().key_columns > 0).collect();
        self.sqlite.write(&mut |open| {
            drop_others(open, tables.iter().map(|state| state.table()), dataflow)?;
            relational::bring(open, &tables, reached, Deletions::Any)?;
            rejected::bring(open, dataflow, rejected)?;
            run(open, "DELETE FROM retally_changes WHERE dataflow = ?1", [dataflow])?;
            run(open, "DELETE FROM retally_tables WHERE dataflow = ?1", [dataflow])?;
            for (table, sum) in &sums {
                set_sum(open, dataflow, table, reached.epoch, *sum)?;
            }
            let feed = "INSERT INTO retally_feeds (dataflow, changes_from) VALUES (?1, ?2) \
                        ON CONFLICT (dataflow) DO UPDATE SET changes_from = excluded.changes_from";
            run(open, feed, params![dataflow, stored(reached.epoch)])?;
            run(open, "INSERT OR REPLACE INTO retally_remade (dataflow, epoch) VALUES (?1, ?2)", params![dataflow, stored(reached.epoch)])
        })?;
        self.sums.retain(|(of, _), _| of != dataflow);
        self.sums.extend(sums.into_iter().map(|(table, sum)| ((dataflow.to_string(), table.to_string()), sum)));
        Ok(())
    }

    /// Gives the rows of `rejected` their batches, where some have none: a run has written them.
    pub fn bring_rejected(&mut self, dataflow: &str, rejected: &[RowBatch]) -> Result<(), SinkError> {
        self.sqlite.write(&mut |open| {
            if rejected::is_whole(open, dataflow)? { Ok(()) } else { rejected::bring(open, dataflow, rejected) }
        })
    }

    /// Drops tables of a dataflow that are not built: nothing would follow in them what is fed.
    pub fn leave_out(&mut self, dataflow: &str, left_out: &[Table]) -> Result<(), SinkError> {
        if left_out.is_empty() {
            return Ok(());
        }
        self.sqlite.write(&mut |open| drop_left_out(open, left_out.iter(), dataflow).map(drop))
    }

    /// Writes down the settings of a dataflow, as a JSON object, which tables of this fingerprint are computed with.
    pub fn set_settings(&mut self, dataflow: &str, fingerprint: &str, settings: &str) -> Result<(), SinkError> {
        self.sqlite.write(&mut |open| set_settings(open, dataflow, fingerprint, settings))
    }

    /// Writes down batches that are not yet.
    pub fn add_batches(&mut self, dataflow: &str, batches: &[BatchRow]) -> Result<(), SinkError> {
        self.sqlite.write(&mut |open| batches.iter().try_for_each(|batch| add_batch(open, dataflow, batch, "IGNORE")))
    }

    /// The epoch of the last batch of a dataflow that is written down.
    pub fn last_batch(&mut self, dataflow: &str) -> Result<Epoch, SinkError> {
        self.sqlite.read(|open| {
            let query = "SELECT max(epoch) FROM retally_batches WHERE dataflow = ?1";
            let last: rusqlite::Result<Option<i64>> = open.transaction.query_row(query, [dataflow], |row| row.get(0));
            last.map(|last| last.unwrap_or(0).unsigned_abs()).map_err(|error| open.failed(&error))
        })
    }

    /// Applies epochs, those of a dataflow in order, in one transaction.
    pub fn apply(&mut self, epochs: &[LiveEpoch<'_>]) -> Result<(), SinkError> {
        let Live { sqlite, sums } = self;
        let changed = sqlite.write(&mut |open| {
            let mut runs: BTreeMap<(&str, &str), (&Table, Vec<Run>)> = BTreeMap::new();
            let mut reached: BTreeMap<&str, (Epoch, Epoch)> = BTreeMap::new();
            for LiveEpoch { dataflow, changes, rejected, batch } in epochs {
                for (table, run) in changes {
                    runs.entry((*dataflow, table.name)).or_insert((*table, Vec::new())).1.push((*run).clone());
                    add_changes(open, dataflow, batch.epoch, table.name, run)?;
                }
                rejected::apply(open, dataflow, rejected)?;
                add_batch(open, dataflow, batch, "REPLACE")?;
                reached.entry(dataflow).or_insert((batch.epoch, batch.epoch)).1 = batch.epoch;
            }
            // What one epoch writes and the next one takes back is not written at all.
            let mut changed: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
            for ((dataflow, name), (table, runs)) in runs {
                let run = merged_all(runs);
                let mut sum = sums.get(&(dataflow.to_string(), name.to_string())).copied().unwrap_or_default();
                let is_empty = sum.rows == 0;
                sum.add(run.iter().flat_map(|batch| batch.iter()));
                apply_changes(open, table, &run, is_empty)?;
                let epoch = reached.get(dataflow).map_or(0, |(_, last)| *last);
                set_sum(open, dataflow, name, epoch, sum)?;
                changed.insert((dataflow, name), sum);
            }
            for (dataflow, (first, last)) in &reached {
                run(open, "UPDATE retally_tables SET epoch = ?2 WHERE dataflow = ?1", params![dataflow, stored(*last)])?;
                let step = "UPDATE retally_progress SET epoch = ?2 WHERE dataflow = ?1 AND epoch = ?3";
                let rows = execute(open, step, params![dataflow, stored(*last), stored(first - 1)])?;
                assert_eq!(rows, 1, "epoch {first} of {dataflow} does not follow what its tables have reached");
            }
            Ok(changed)
        })?;
        let own = |((dataflow, table), sum): ((&str, &str), Sum)| ((dataflow.to_string(), table.to_string()), sum);
        sums.extend(changed.into_iter().map(own));
        Ok(())
    }

    /// Forgets the changes of epochs that arrived before a time, and what of the oldest is more than so many bytes of them.
    pub fn forget_changes(&mut self, dataflow: &str, before: Moment, bytes_max: u64) -> Result<(), SinkError> {
        self.sqlite.write(&mut |open| {
            let epoch = |query: &str, parameter: &dyn rusqlite::ToSql| {
                let found: rusqlite::Result<Option<i64>> =
                    open.transaction.query_row(query, params![dataflow, parameter], |row| row.get(0));
                found.map_err(|error| open.failed(&error))
            };
            let by_time = epoch("SELECT max(epoch) FROM retally_batches WHERE dataflow = ?1 AND arrived < ?2", &text_of(before))?;
            let bytes = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
            let bytes: rusqlite::Result<i64> = open.transaction.query_row(bytes, [], |row| row.get(0));
            // There can't be more changes than there is of the database.
            let is_large = bytes.map_err(|error| open.failed(&error))?.unsigned_abs() > bytes_max;
            let query = "SELECT max(epoch) FROM (SELECT epoch, sum(length(\"rows\") + 64) OVER (ORDER BY epoch DESC) AS bytes \
                         FROM retally_changes WHERE dataflow = ?1) WHERE bytes > ?2";
            let by_bytes = if is_large { epoch(query, &stored(bytes_max))? } else { None };
            let Some(until) = by_time.max(by_bytes) else { return Ok(()) };
            run(open, "DELETE FROM retally_changes WHERE dataflow = ?1 AND epoch <= ?2", params![dataflow, until])?;
            run(open, "UPDATE retally_feeds SET changes_from = max(changes_from, ?2) WHERE dataflow = ?1", params![dataflow, until])
        })
    }
}

/// Writes down the settings of a run, in a database that may be no service's, as [`Live::set_settings`] does.
pub fn note_settings(path: &Path, dataflow: &str, fingerprint: &str, settings: &str) -> Result<(), SinkError> {
    Sqlite::open(path, std::iter::empty())?.write(&mut |open| set_settings(open, dataflow, fingerprint, settings))
}

/// A table of other settings or of another version is ours all the same.
fn drop_others<'t>(open: &mut Transaction<'_>, tables: impl Iterator<Item = &'t Table>, dataflow: &str) -> Result<(), SinkError> {
    for table in tables {
        if is_of_others(open, table, dataflow)? {
            open.execute(&format!("DROP TABLE {}", quoted(table.name)))?;
        }
    }
    Ok(())
}

/// Drops tables of a dataflow that are not built, and what a service knows of them. Returns the names of those that were there.
fn drop_left_out<'t>(
    open: &mut Transaction<'_>,
    left_out: impl Iterator<Item = &'t Table>,
    dataflow: &str,
) -> Result<Vec<&'static str>, SinkError> {
    // Of runs alone, there are no sums.
    let has_sums = open.existing("retally_tables")?.is_some();
    let mut dropped = Vec::new();
    for table in left_out {
        if open.existing(table.name)?.is_some() {
            open.execute(&format!("DROP TABLE {}", quoted(table.name)))?;
            dropped.push(table.name);
        }
        if has_sums {
            run(open, "DELETE FROM retally_tables WHERE dataflow = ?1 AND \"table\" = ?2", [dataflow, table.name])?;
        }
    }
    Ok(dropped)
}

/// Takes rows away from `rejected` whose lines are in no file any more. The database may be open in this process, and in no other one.
pub fn forget_rejected(path: &Path, gone: &[Forgotten]) -> Result<(), SinkError> {
    if gone.is_empty() || !path.exists() {
        return Ok(());
    }
    write_beside(path, &mut |open| gone.iter().try_for_each(|gone| rejected::forget(open, gone)))
}

fn set_settings(open: &mut Transaction<'_>, dataflow: &str, fingerprint: &str, settings: &str) -> Result<(), SinkError> {
    open.transaction.execute_batch(SETTINGS).map_err(|error| open.failed(&error))?;
    let statement = "INSERT OR REPLACE INTO retally_settings (dataflow, fingerprint, settings) VALUES (?1, ?2, ?3)";
    run(open, statement, [dataflow, fingerprint, settings])
}

/// The sums of tables; `rejected`, which is about deliveries, has none.
fn sums<'t>(tables: &[&'t TableState]) -> BTreeMap<&'t str, Sum> {
    let sum = |state: &&'t TableState| {
        let mut sum = Sum::default();
        sum.add(state.rows().map(|row| (row, 1)));
        (state.table().name, sum)
    };
    tables.iter().filter(|state| state.table().key_columns > 0).map(sum).collect()
}

/// Applies changes to a table, which has no rows or has some.
fn apply_changes(open: &mut Transaction<'_>, table: &Table, changes: &Run, is_empty: bool) -> Result<(), SinkError> {
    let relation = Relation::new(Dialect::Sqlite, table, "");
    let (mut new, mut gone) = (Vec::new(), Vec::new());
    relation.sort_changes(changes.iter().flat_map(|batch| batch.iter()), &mut new, &mut gone);
    if is_empty && gone.is_empty() {
        return open.load(&quoted(relation.name), &relation, &mut new.into_iter()).map(drop);
    }
    open.each(&relation.delete_one(), &relation, relation.key, &gone)?;
    if !relation.key_is_primary() {
        open.each(&relation.delete_one(), &relation, relation.key, &new)?;
    }
    open.each(&relation.insert_one(), &relation, relation.width(), &new)?;
    Ok(())
}

fn add_changes(open: &mut Transaction<'_>, dataflow: &str, epoch: Epoch, table: &str, changes: &Run) -> Result<(), SinkError> {
    let kept = changes::kept(changes).map_err(|error| open.failed(&rusqlite::Error::ToSqlConversionFailure(error.into())))?;
    let statement = "INSERT INTO retally_changes (dataflow, epoch, \"table\", \"rows\") VALUES (?1, ?2, ?3, ?4)";
    run(open, statement, params![dataflow, stored(epoch), table, kept])
}

fn add_batch(open: &mut Transaction<'_>, dataflow: &str, batch: &BatchRow, otherwise: &str) -> Result<(), SinkError> {
    let BatchRow { epoch, arrived, parts, name, key, answer } = batch;
    let statement = format!(
        "INSERT OR {otherwise} INTO retally_batches (dataflow, epoch, arrived, parts, name, \"key\", body, accepted, late, rejected, changed, ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
    );
    let count = |count: fn(&BatchAnswer) -> u64| answer.as_ref().map(|answer| stored(count(answer)));
    let (accepted, late, rejected) = (count(|answer| answer.accepted), count(|answer| answer.late), count(|answer| answer.rejected));
    let (key, body) = key.as_ref().map_or((None, None), |(key, body)| (Some(key), Some(body)));
    let (changed, ms) = (answer.as_ref().map(|answer| &answer.changed), answer.as_ref().map(|answer| answer.ms));
    let parameters =
        params![dataflow, stored(*epoch), text_of(*arrived), stored(*parts), name, key, body, accepted, late, rejected, changed, ms];
    run(open, &statement, parameters)
}

fn set_sum(open: &mut Transaction<'_>, dataflow: &str, table: &str, epoch: Epoch, sum: Sum) -> Result<(), SinkError> {
    let statement = "INSERT INTO retally_tables (dataflow, \"table\", epoch, \"rows\", checksum) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT \
                     (dataflow, \"table\") DO UPDATE SET epoch = excluded.epoch, \"rows\" = excluded.\"rows\", checksum = excluded.checksum";
    run(open, statement, params![dataflow, table, stored(epoch), sum.rows, sum.checksum])
}

fn execute(open: &mut Transaction<'_>, statement: &str, parameters: impl Params) -> Result<usize, SinkError> {
    let done = open.transaction.prepare_cached(statement).and_then(|mut statement| statement.execute(parameters));
    done.map_err(|error| open.failed(&error))
}

fn run(open: &mut Transaction<'_>, statement: &str, parameters: impl Params) -> Result<(), SinkError> {
    execute(open, statement, parameters).map(drop)
}

/// As the database keeps it: epochs and counts are less than 2^63.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as the database has it.
fn text_of(moment: Moment) -> String {
    let mut text = Vec::new();
    append_time(&mut text, moment, Fraction::Always);
    String::from_utf8_lossy(&text).into_owned()
}
