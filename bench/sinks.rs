//! `sinks`: tables into databases. All rows into an empty one, the same rows again, some rows changed, and an epoch's changes.
//!
//! The rows are made here, in the shape of two tables of `online`: a narrow one, and one whose six columns are all key. Nothing but the
//! sink is measured: rows in memory, until they are committed.

use crate::Result;
use crate::numbers::Sorted;
use crate::options::{Common, Measured};
use crate::results::Line;
use clap::Args;
use postgres::{Client, NoTls};
use retally::sinks::{Applied, Deletions, Postgres, Reached, Sink, Sqlite};
use retally::tables::TableState;
use retally_core::calendar::Day;
use retally_core::contract::{Settings, Table};
use retally_core::row::{Row, RowBatch, batches};
use retally_core::time::{Moment, SECOND};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Options of `sinks`.
#[derive(Args)]
pub struct SinksOptions {
    #[command(flatten)]
    common: Common,
    /// Rows of a table (default: 2,000,000)
    #[arg(long)]
    rows: Option<u64>,
    /// An empty PostgreSQL database, which is empty again afterwards: postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
}

/// One row in so many is changed.
const CHANGED_ONE_IN: u64 = 100;
/// Rows that an epoch changes.
const EPOCH_ROWS: u64 = 10_000;

/// A kind of database.
trait Database {
    fn name(&self) -> &'static str;
    /// Without any table of ours.
    fn empty(&self) -> Result<()>;
    fn bring(&self, state: &TableState, epoch: u64) -> Result<()>;
    fn apply(&self, table: &Table, changes: Vec<RowBatch>, epoch: u64) -> Result<()>;
}

/// Runs the bench.
pub fn main(options: &SinksOptions) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tables.sqlite");
    let mut databases: Vec<Box<dyn Database>> = vec![Box::new(SqliteDatabase(&path))];
    match &options.postgres {
        Some(url) => {
            let database = PostgresDatabase(url);
            if database.client()?.query_opt("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() LIMIT 1", &[])?.is_some() {
                return Err("the database of --postgres has tables: give an empty one".into());
            }
            databases.push(Box::new(database));
        }
        None => crate::results::note("PostgreSQL is not measured: --postgres names no database"),
    }
    let rows = options.rows.unwrap_or(if options.common.smoke { 20_000 } else { 2_000_000 });
    for database in &databases {
        for (name, row) in [("online_daily", daily_row as fn(u64, u64) -> Row), ("online_intervals", interval_row)] {
            measure(&options.common, database.as_ref(), &table(name)?, rows, row)?;
        }
    }
    Ok(())
}

fn measure(common: &Common, database: &dyn Database, table: &Table, rows: u64, row: fn(u64, u64) -> Row) -> Result<()> {
    let state = |changed: u64| {
        let mut state = TableState::new(table.clone());
        let one = |index: u64| (row(index, u64::from(changed > 0 && index.is_multiple_of(changed))), 1);
        state.apply(batches((0..rows).map(one).collect()));
        state
    };
    let changes = || {
        let step = (rows / EPOCH_ROWS).max(1);
        let one = |index: u64| [(row(index, 0), -1), (row(index, 1), 1)];
        batches((0..rows).step_by(usize::try_from(step).unwrap_or(1)).flat_map(one).collect())
    };
    let (before, after) = (state(0), state(CHANGED_ONE_IN));
    let (mut load, mut same, mut changed, mut epoch) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..common.repeat.max(1) {
        database.empty()?;
        load.push(timed(|| database.bring(&before, 1))?);
        same.push(timed(|| database.bring(&before, 2))?);
        changed.push(timed(|| database.bring(&after, 3))?);
        // The changes of the epoch are of the rows as they were.
        database.bring(&before, 4)?;
        let changes = changes();
        epoch.push(timed(|| database.apply(table, changes, 5))?);
    }
    database.empty()?;
    let [load, same, changed, epoch] = [load, same, changed, epoch].map(|times| Sorted::new(times).median());
    Line::new("sinks", "online")
        .with("database", database.name())
        .with("table", table.name)
        .with("columns", table.columns.len())
        .with("rows", rows)
        .with("repeats", common.repeat.max(1))
        .measured("load_s", load)
        .measured("load_rows_per_s", rows as f64 / load)
        .measured("same_again_s", same)
        .with("changed_rows", rows.div_ceil(CHANGED_ONE_IN))
        .measured("changed_s", changed)
        .with("epoch_rows", EPOCH_ROWS.min(rows))
        .measured("epoch_s", epoch)
        .publish(common)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

fn table(name: &str) -> Result<Table> {
    let graph = Measured::Online.dataflow()?.graph(&Settings::defaults(&Measured::Online.dataflow()?.definition().settings))?;
    graph.tables().into_iter().find(|table| table.name == name).ok_or_else(|| format!("online has no table {name:?}").into())
}

fn daily_row(index: u64, change: u64) -> Row {
    let day = Day(i32::try_from(index / 4).unwrap_or(i32::MAX));
    Row::default().day(day).label(u16::try_from(index % 4).unwrap_or_default()).uint(index % 1_000 + change)
}

fn interval_row(index: u64, change: u64) -> Row {
    let from = Moment(1_700_000_000 * SECOND + i64::try_from(index * 77_777 + change).unwrap_or_default());
    let row = Row::default().uint(100_000 + index / 20).uint(index / 50).uint(index % 50);
    row.time(from).time(from.plus(3600 * SECOND)).text("offline")
}

/// Changes that were not applied measure nothing.
fn done(applied: Applied) -> Result<()> {
    if applied == Applied::Done { Ok(()) } else { Err("the changes were not applied".into()) }
}

fn reached(epoch: u64) -> Reached {
    Reached { dataflow: "online".into(), epoch, fingerprint: "bench".into() }
}

struct SqliteDatabase<'a>(&'a Path);

impl Database for SqliteDatabase<'_> {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn empty(&self) -> Result<()> {
        if self.0.exists() {
            std::fs::remove_file(self.0)?;
        }
        Ok(())
    }

    fn bring(&self, state: &TableState, epoch: u64) -> Result<()> {
        Sqlite::open(self.0, [state.table()].into_iter())?.bring(&[state], &reached(epoch), Deletions::Any)?;
        Ok(())
    }

    fn apply(&self, table: &Table, changes: Vec<RowBatch>, epoch: u64) -> Result<()> {
        let changes = BTreeMap::from([(table.name.to_string(), changes)]);
        let tables = std::slice::from_ref(table);
        done(Sqlite::open(self.0, tables.iter())?.apply(tables, &changes, [&reached(epoch - 1), &reached(epoch)])?)
    }
}

struct PostgresDatabase<'a>(&'a str);

impl PostgresDatabase<'_> {
    fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.0, NoTls)?)
    }
}

impl Database for PostgresDatabase<'_> {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn empty(&self) -> Result<()> {
        Ok(self.client()?.batch_execute("DROP TABLE IF EXISTS online_daily, online_intervals, retally_progress; CHECKPOINT")?)
    }

    fn bring(&self, state: &TableState, epoch: u64) -> Result<()> {
        Postgres::open(self.0, [state.table()].into_iter())?.bring(&[state], &reached(epoch), Deletions::Any)?;
        Ok(())
    }

    fn apply(&self, table: &Table, changes: Vec<RowBatch>, epoch: u64) -> Result<()> {
        let changes = BTreeMap::from([(table.name.to_string(), changes)]);
        let tables = std::slice::from_ref(table);
        done(Postgres::open(self.0, tables.iter())?.apply(tables, &changes, [&reached(epoch - 1), &reached(epoch)])?)
    }
}
