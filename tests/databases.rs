//! Tables in databases: what both hold, and what a second run writes.
//!
//! Each test goes through [`Database`], once for SQLite and once for a PostgreSQL server of its own.

use crate::support::postgres_server::{PASSWORD_IN_URL, Server};
use crate::support::program::Place;
use crate::support::proxy::{Cut, Proxy};
use crate::support::sqlite_file::SqliteFile;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally::failure::Outcome;
use retally::sinks::{Applied, Deletions, Postgres, Reached, Sink, SinkError};
use retally::tables::TableState;
use retally_core::calendar::Day;
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType, Row, RowBatch, batches, values};
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many rows of a table were inserted, updated, deleted.
pub type Log = BTreeMap<(String, String), u64>;

/// A database, seen from the other side.
pub trait Database {
    /// What `--out` calls it.
    fn out(&self) -> String;
    fn execute(&self, statements: &str);
    /// The rows of a query, each value as in CSV.
    fn rows(&self, query: &str) -> Vec<Vec<String>>;
    fn tables(&self) -> Vec<String>;
    /// How it writes true and false.
    fn truths(&self) -> [&'static str; 2];
    /// From now on, what is written to a table is counted.
    fn watch(&self, table: &str);
    /// What was written since the last time.
    fn take_log(&self) -> Log;
    fn sink(&self, tables: &[Table]) -> Box<dyn Sink>;
    fn apply(&self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&Reached; 2]);

    /// The rows of a table, sorted as text.
    fn table(&self, table: &str) -> Vec<Vec<String>> {
        let mut rows = self.rows(&format!("SELECT * FROM {table}"));
        rows.sort();
        rows
    }

    /// All there is.
    fn all(&self) -> BTreeMap<String, Vec<Vec<String>>> {
        self.tables().into_iter().map(|table| (table.clone(), self.table(&table))).collect()
    }
}

pub const ONLINE: &str = "run online events=in/events.csv events=in/bad.csv servers=in/servers.csv";
pub const ACTIVE: &str = "run active events=in/events.jsonl";
/// Points are no matter here.
const SENSORS: &str = "run sensors mapping=in/mapping.csv data=in/data.csv --points file:/dev/null";

/// A dataflow with its input.
struct Known {
    /// With the input in it.
    place: fn() -> Place,
    run: &'static str,
    /// What comes late.
    late: &'static str,
    /// Its tables with the number of their key columns.
    tables: &'static [(&'static str, usize)],
    /// The place of one that late records change.
    one: usize,
    refused: usize,
}

const KNOWN_ONLINE: Known =
    Known { place: online, run: ONLINE, late: "events=in/late/events.csv", tables: &ONLINE_TABLES, one: 0, refused: 4 };
const KNOWN_ACTIVE: Known =
    Known { place: active, run: ACTIVE, late: "events=in/late/events.jsonl", tables: &ACTIVE_TABLES, one: 0, refused: 0 };
const KNOWN_SENSORS: Known =
    Known { place: sensors, run: SENSORS, late: "data=in/late/data.csv", tables: &SENSORS_TABLES, one: 1, refused: 2 };

const SENSORS_TABLES: [(&str, usize); 7] = [
    ("sensor_mapping", 2),
    ("sensor_summary", 2),
    ("sensor_segments", 3),
    ("sensor_anomalies", 4),
    ("sensor_incidents", 3),
    ("sensor_unusual", 4),
    ("sensor_issues", 1),
];
const ONLINE_TABLES: [(&str, usize); 6] = [
    ("online_daily", 2),
    ("online_rolling_28d", 2),
    ("online_intervals", 6),
    ("online_summary", 1),
    ("online_projection", 2),
    ("online_issues", 1),
];
const ACTIVE_TABLES: [(&str, usize); 3] = [("active_user_table", 1), ("active_rolling", 2), ("active_issues", 1)];

/// Messy input, ids of 64 bits, garbage with zero bytes, and events that come late.
pub fn online() -> Place {
    let place = Place::new();
    place.run("generate online --out in --devices 60 --days 40 --late 40 --mess 0.1").succeeds();
    place.write(
        "in/bad.csv",
        "timestamp,device_id,user_id,server_id,connected\n2023-01-03T08:00:00Z,18446744073709551615,9223372036854775808,9223372036854775807,true\n\
         2023-01-03T08:00:00Z,1\n2023-01-03T08:00:00Z,1\nzero \0 byte\nit's \"\u{e9}\";--\n",
    );
    place
}

pub fn active() -> Place {
    let place = Place::new();
    place.run("generate active --out in --users 80 --days 20 --late 40").succeeds();
    place
}

/// Sensors with faults, one of them without a name, another with two, and two lines that are no measurements.
pub fn sensors() -> Place {
    let place = Place::new();
    place.run("generate sensors --out in --sensors 6 --days 21 --interval 900 --late 60 --mess 0").succeeds();
    let mapping = place.read("in/mapping.csv");
    let uuid = |line: usize| mapping.lines().nth(line).unwrap().split(',').nth(1).unwrap().to_string();
    let named: String = mapping.lines().filter(|line| !line.starts_with("sensor_00002,")).map(|line| format!("{line}\n")).collect();
    place.write("in/mapping.csv", format!("{named}it's \"5\",{}\nzz,{}\n", uuid(5), uuid(4)));
    let wrong = format!("2024-03-05T00:00:00Z,{},NaN\n2024-03-05T00:00:00Z,{},1e309\n", uuid(1), uuid(1));
    place.write("in/data.csv", place.read("in/data.csv") + &wrong);
    place
}

/// The rows of a CSV file, sorted as text.
fn csv(place: &Place, file: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(place.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut rows: Vec<Vec<String>> = reader.records().map(|row| row.unwrap().iter().map(String::from).collect()).collect();
    rows.sort();
    rows
}

/// What is written when rows `old` become `new`.
fn difference(table: &str, key: usize, old: &[Vec<String>], new: &[Vec<String>]) -> Log {
    let keyed = |rows: &[Vec<String>]| -> BTreeMap<Vec<String>, Vec<String>> {
        rows.iter().map(|row| (row[..key].to_vec(), row[key..].to_vec())).collect()
    };
    let (old, new) = (keyed(old), keyed(new));
    let count = |kind: &str, keys: usize| ((table.to_string(), kind.to_string()), keys as u64);
    let log = [
        count("INSERT", new.keys().filter(|key| !old.contains_key(*key)).count()),
        count("UPDATE", new.iter().filter(|(key, values)| old.get(*key).is_some_and(|old| old != *values)).count()),
        count("DELETE", old.keys().filter(|key| !new.contains_key(*key)).count()),
    ];
    log.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The rows of a CSV file as the database writes them, sorted as text.
fn csv_in(database: &dyn Database, place: &Place, file: &str) -> Vec<Vec<String>> {
    let mut rows = csv(place, file);
    let [yes, no] = database.truths();
    for value in rows.iter_mut().flatten().filter(|value| *value == "true" || *value == "false") {
        *value = if value == "true" { yes } else { no }.into();
    }
    rows.sort();
    rows
}

/// The tables in the database are those that the same run writes as CSV.
fn holds(database: &dyn Database, place: &Place, words: &str, tables: &[(&str, usize)]) {
    place.run(&format!("{words} --out csv")).succeeds();
    for (table, _) in tables {
        let expected = csv_in(database, place, &format!("csv/{table}.csv"));
        assert_eq!(database.table(table), expected, "{table} after {words}");
        assert!(!expected.is_empty() || *table == "online_projection", "{table}");
    }
}

fn values_are_those_of_csv(database: &dyn Database, known: &Known) {
    let (place, Known { run, late, tables, .. }) = ((known.place)(), known);
    let (input, path) = late.split_once('=').unwrap();
    for words in [run.to_string(), format!("{run} --then {late}"), format!("{run} --then {late} --then {input}-={path}")] {
        let ran = place.run(&format!("{words} --out '{}'", database.out())).succeeds();
        assert!(ran.stdout.is_empty() && ran.stderr.contains(&format!("wrote {} to ", tables[0].0)), "{}", ran.stderr);
        holds(database, &place, &words, tables);
        let dataflow = words.split(' ').nth(1).unwrap();
        // PostgreSQL's text has no zero bytes: they are written otherwise.
        let shown = |mut rows: Vec<Vec<String>>| {
            rows.iter_mut().flatten().for_each(|value| *value = value.replace('\0', "\u{2400}0"));
            rows
        };
        let mut rejected = csv(&place, "csv/rejected.csv");
        rejected.iter_mut().for_each(|row| row.push(dataflow.into()));
        let found = database.table(&format!("rejected WHERE dataflow = '{dataflow}'"));
        assert!(known.refused <= found.len() && shown(found) == shown(rejected), "rejected after {words}");
        let epoch = (1 + words.matches("--then").count()).to_string();
        let progress = database.rows("SELECT dataflow, epoch, fingerprint FROM retally_progress");
        let ours: Vec<_> = progress.iter().filter(|row| row[0] == dataflow).collect();
        assert!(matches!(ours.as_slice(), [row] if row[1] == epoch && row[2].len() == 16), "{progress:?}");
    }
}

#[test]
fn sqlite_values_are_those_of_csv() {
    let place = Place::new();
    let database = SqliteFile::new(&place, "tables.sqlite");
    // All dataflows share a file.
    [KNOWN_ONLINE, KNOWN_ACTIVE, KNOWN_SENSORS].iter().for_each(|known| values_are_those_of_csv(&database, known));
    assert_eq!(database.rows("SELECT count(*) FROM retally_progress"), [["3"]]);
    assert_eq!(database.rows("SELECT count(*) FROM rejected WHERE dataflow = 'online'"), [["4"]], "others leave them alone");
}

/// The run of today over the files of yesterday and today writes the rows that are new and different, and no other.
fn a_second_run_writes_the_difference(database: &dyn Database, known: &Known) {
    let (place, Known { run: yesterday, late, tables, .. }) = ((known.place)(), known);
    let run = |words: &str| place.run(&format!("{words} --out '{}' -q", database.out())).succeeds();
    let after = |words: &str, folder: &str| {
        place.run(&format!("{words} --out {folder}")).succeeds();
    };
    let today = format!("{yesterday} {late}");
    run(yesterday);
    after(yesterday, "yesterday");
    after(&today, "today");
    tables.iter().for_each(|(table, _)| database.watch(table));
    let logs = |from: &str, to: &str| -> Log {
        let log = |(table, key): &(&str, usize)| {
            difference(table, *key, &csv(&place, &format!("{from}/{table}.csv")), &csv(&place, &format!("{to}/{table}.csv")))
        };
        tables.iter().flat_map(log).collect()
    };
    run(yesterday);
    assert_eq!(database.take_log(), Log::new(), "the same again");
    let expected = logs("yesterday", "today");
    let kinds: BTreeSet<&str> = expected.keys().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["INSERT", "UPDATE", "DELETE"]), "the input has late records of every kind");
    run(&today);
    assert_eq!(database.take_log(), expected);
    holds(database, &place, &today, tables);
    run(yesterday);
    assert_eq!(database.take_log(), logs("today", "yesterday"), "and back");
    // Other tables are left alone.
    let before = database.all();
    let (one, last) = (tables[known.one].0, tables[tables.len() - 1].0);
    run(&format!("{today} --tables {one}"));
    let written = database.take_log();
    assert!(!written.is_empty() && written.keys().all(|(table, _)| table == one), "{written:?}");
    assert!(database.all().iter().all(|(table, rows)| table == one || table == "written" || before[table] == *rows));
    // Settings that differ are seen.
    let fingerprint = || database.rows("SELECT fingerprint FROM retally_progress");
    let first = fingerprint();
    run(&format!("{yesterday} --tables {last}"));
    assert_eq!(fingerprint(), first);
    run(&format!("{yesterday} --timezone Asia/Tokyo"));
    assert_ne!(fingerprint(), first);
}

#[test]
fn sqlite_a_second_run_writes_the_difference() {
    let place = Place::new();
    a_second_run_writes_the_difference(&SqliteFile::new(&place, "online.sqlite"), &KNOWN_ONLINE);
    a_second_run_writes_the_difference(&SqliteFile::new(&place, "sensors.sqlite"), &KNOWN_SENSORS);
}

/// Every type, and two key columns whose values may be missing.
fn sample(name: &'static str, key: usize) -> Table {
    let labels = ["small".to_string(), "big".to_string(), "a".to_string()];
    let columns = vec![
        Column::new("day", ColumnType::Day, ""),
        Column::nullable("time", ColumnType::Time, ""),
        Column::nullable("order", ColumnType::Text, ""),
        Column::new("size", ColumnType::Label(labels.into()), ""),
        Column::new("id", ColumnType::Id, ""),
        Column::nullable("int", ColumnType::Int, ""),
        Column::new("count", ColumnType::UInt, ""),
        Column::nullable("float", ColumnType::Float, ""),
        Column::nullable("bool", ColumnType::Bool, ""),
        Column::nullable("uuid", ColumnType::Uuid, ""),
    ];
    Table::new(name, "", key, columns)
}

/// A row whose first `key` columns are of few values, and no other row's.
fn random_row(random: &mut ChaCha8Rng) -> Row {
    let days = Day::from_civil(2024, 2, 28).0;
    let row = Row::default().day(Day(days + random.random_range(0..4)));
    let times = [None, Some(0), Some(1_709_000_000_000_000), Some(1_709_000_000_000_001)];
    let row = row.optional(times[random.random_range(0..4)], |row, time| row.time(Moment(time)));
    let texts = [None, Some(""), Some("it's \"\\\t\u{e9}"), Some("A")];
    let row = row.optional(texts[random.random_range(0..4)], Row::text);
    let row = row.label(random.random_range(0..3));
    let row = row.uint([0, 1, 9_999, 10_000, 1 << 63, u64::MAX, 99_990_000][random.random_range(0..7)]);
    let row = row.optional([None, Some(i64::MIN), Some(-1), Some(i64::MAX)][random.random_range(0..4)], Row::int);
    let row = row.uint(random.random_range(0..3));
    let row = row.optional([None, Some(0.1), Some(-12667.465150833334)][random.random_range(0..3)], Row::float);
    let row = row.optional([None, Some(true), Some(false)][random.random_range(0..3)], Row::bool);
    row.optional([None, Some(0), Some(1), Some(u128::MAX - 1)][random.random_range(0..4)], Row::uuid)
}

/// A set of rows, by their keys' text.
fn random_rows(random: &mut ChaCha8Rng, table: &Table, count: usize) -> BTreeMap<Vec<String>, Row> {
    let row = |_| {
        let row = random_row(random);
        let key = values(&table.columns, &row.0).take(table.key_columns).map(|value| format!("{value:?}")).collect();
        (key, row)
    };
    (0..count).map(row).collect()
}

/// Whatever the rows were, they are what they should be afterwards: brought there, or by the changes of an epoch.
fn any_rows_become_any_others(database: &dyn Database) {
    let mut rows_seen = 0;
    for seed in 0..6u64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tables = [sample("three_keys", 3), sample("one_key", 1), sample("all_keys", 10)];
        let mut now: Vec<BTreeMap<Vec<String>, Row>> = tables.iter().map(|_| BTreeMap::new()).collect();
        for epoch in 1..6 {
            let to = |epoch| Reached { dataflow: "it's".into(), epoch, fingerprint: "x".into() };
            let reached = to(epoch);
            let mut some = |table| {
                let count = [0, 5, 40, 300][random.random_range(0..4)];
                random_rows(&mut random, table, count)
            };
            let next: Vec<_> = tables.iter().map(&mut some).collect();
            let next: Vec<_> = if epoch == 4 { tables.iter().map(|_| BTreeMap::new()).collect() } else { next };
            // Some of the rows stay.
            let next: Vec<BTreeMap<_, _>> = now
                .iter()
                .zip(next)
                .map(|(now, next)| next.into_iter().chain(now.clone().into_iter().filter(|_| epoch != 4 && random.random())).collect())
                .collect();
            if epoch == 1 || random.random() {
                let states: Vec<TableState> = tables.iter().zip(&next).map(|(table, rows)| state(table, rows.values())).collect();
                database.sink(&tables).bring(&states.iter().collect::<Vec<_>>(), &reached, Deletions::Any).unwrap();
            } else {
                let changes = tables.iter().zip(now.iter().zip(&next)).map(|(table, (now, next))| {
                    let gone = now.iter().filter(|(key, row)| next.get(*key) != Some(*row)).map(|(_, row)| (row.clone(), -1));
                    let new = next.iter().filter(|(key, row)| now.get(*key) != Some(*row)).map(|(_, row)| (row.clone(), 1));
                    (table.name.to_string(), batches(gone.chain(new).collect()))
                });
                database.apply(&tables, &changes.collect(), [&to(epoch - 1), &reached]);
            }
            for (table, rows) in tables.iter().zip(&next) {
                let text = |row: &Row| -> Vec<String> { values(&table.columns, &row.0).map(|value| value.to_string()).collect() };
                let mut expected: Vec<Vec<String>> = rows.values().map(text).collect();
                expected.sort();
                let mut found = database.table(table.name);
                let [yes, no] = database.truths();
                let truth = |text: &str| match text {
                    _ if text == yes => "true".to_string(),
                    _ if text == no => "false".to_string(),
                    other => other.to_string(),
                };
                found.iter_mut().for_each(|row| row[8] = truth(&row[8]));
                assert_eq!(found, expected, "{}, seed {seed}, epoch {epoch}", table.name);
            }
            rows_seen += next.iter().map(BTreeMap::len).sum::<usize>();
            assert_eq!(database.rows("SELECT epoch FROM retally_progress"), [[epoch.to_string()]]);
            now = next;
        }
    }
    assert!(rows_seen > 500, "only {rows_seen} rows were compared");
}

fn state<'r>(table: &Table, rows: impl Iterator<Item = &'r Row>) -> TableState {
    let mut state = TableState::new(table.clone());
    state.apply(batches(rows.map(|row| (row.clone(), 1)).collect()));
    state
}

/// Changes are applied once, to tables that they fit, by one sink whose connection is `cut` in between.
fn changes_are_applied_once(database: &dyn Database, cut: impl Fn()) {
    let table = sample("one_key", 1);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let [first, second] = [1, 9].map(|rows| random_rows(&mut random, &table, rows));
    let to = |epoch, fingerprint: &str| Reached { dataflow: "sample".into(), epoch, fingerprint: fingerprint.into() };
    let changes: BTreeMap<String, Vec<RowBatch>> = {
        let new = second.iter().filter(|(key, _)| !first.contains_key(*key)).map(|(_, row)| (row.clone(), 1));
        BTreeMap::from([(table.name.to_string(), batches(new.collect()))])
    };
    let tables = std::slice::from_ref(&table);
    let mut sink = database.sink(tables);
    assert_eq!(sink.reached("sample").unwrap(), None);
    let apply = |sink: &mut dyn Sink, from: Reached, to: Reached| sink.apply(tables, &changes, [&from, &to]).unwrap();
    assert_eq!(apply(&mut *sink, to(0, "x"), to(1, "x")), Applied::MustBring, "nothing was ever brought");
    sink.bring(&[&state(&table, first.values())], &to(3, "x"), Deletions::Any).unwrap();
    assert_eq!(sink.reached("sample").unwrap(), Some(to(3, "x")));
    assert_eq!(sink.reached("another").unwrap(), None);
    let before = database.all();
    assert_eq!(apply(&mut *sink, to(2, "x"), to(3, "x")), Applied::Already);
    assert_eq!(apply(&mut *sink, to(3, "other settings"), to(4, "other settings")), Applied::MustBring);
    assert_eq!(apply(&mut *sink, to(4, "x"), to(5, "x")), Applied::MustBring, "it was put back to what it was");
    assert_eq!(apply(&mut *sink, to(1, "x"), to(2, "x")), Applied::MustBring, "it is further than this state");
    assert_eq!(database.all(), before);
    cut();
    // Epochs without changes need not come.
    assert_eq!(apply(&mut *sink, to(3, "x"), to(6, "x")), Applied::Done);
    let after = database.all();
    assert_ne!(after, before);
    assert_eq!(apply(&mut *sink, to(3, "x"), to(6, "x")), Applied::Already);
    cut();
    assert_eq!((sink.reached("sample").unwrap(), database.all()), (Some(to(6, "x")), after));
}

/// Rows without a key may be there more than once; where some are gone, changes can't say which.
fn rows_without_a_key_are_counted(database: &dyn Database) {
    let table = Table::rejected();
    let tables = std::slice::from_ref(&table);
    let row = |line| Row::default().text("events").text("a.csv").uint(line).text("no time").text("x");
    let changes = |rows: Vec<(Row, isize)>| BTreeMap::from([(table.name.to_string(), batches(rows))]);
    let to = |epoch| Reached { dataflow: "sample".into(), epoch, fingerprint: "x".into() };
    let count = || database.rows("SELECT * FROM rejected").len();
    let mut sink = database.sink(tables);
    sink.bring(&[&state(&table, [&row(1)].into_iter())], &to(1), Deletions::Any).unwrap();
    assert_eq!(sink.apply(tables, &changes(vec![(row(1), 2), (row(2), 1)]), [&to(1), &to(2)]).unwrap(), Applied::Done);
    assert_eq!(count(), 4);
    assert_eq!(sink.apply(tables, &changes(vec![(row(1), -1), (row(3), 1)]), [&to(2), &to(3)]).unwrap(), Applied::MustBring);
    assert_eq!((count(), sink.reached("sample").unwrap()), (4, Some(to(2))), "nothing is written");
}

#[test]
fn sqlite_rows_without_a_key_are_counted() {
    let place = Place::new();
    rows_without_a_key_are_counted(&SqliteFile::new(&place, "tables.sqlite"));
}

#[test]
fn postgres_rows_without_a_key_are_counted() {
    rows_without_a_key_are_counted(&Server::start());
}

#[test]
fn sqlite_changes_are_applied_once() {
    let place = Place::new();
    changes_are_applied_once(&SqliteFile::new(&place, "tables.sqlite"), || {});
    let path = place.path("tables.sqlite");
    // A file that comes to stand in its place is written, and not the one that is gone.
    let copy = || {
        std::fs::copy(&path, place.path("copy")).unwrap();
        std::fs::rename(place.path("copy"), &path).unwrap();
    };
    std::fs::remove_file(&path).unwrap();
    changes_are_applied_once(&SqliteFile::new(&place, "tables.sqlite"), copy);
}

#[test]
fn postgres_changes_are_applied_once() {
    let server = Server::start();
    changes_are_applied_once(&server, || {
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'retally%'");
    });
}

/// The answer to a COMMIT is lost: the server is asked what became of it, and that is told as it is.
#[test]
fn postgres_whose_answer_to_a_commit_is_lost() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let url = format!("postgres://keeper:{PASSWORD_IN_URL}@127.0.0.1:{}/tables?options=-c%20timezone%3DUTC", proxy.port);
    let table = sample("one_key", 1);
    let tables = std::slice::from_ref(&table);
    let rows = random_rows(&mut ChaCha8Rng::seed_from_u64(7), &table, 9);
    let to = |epoch| Reached { dataflow: "sample".into(), epoch, fingerprint: "x".into() };
    let patience = Duration::from_secs(3);
    let mut sink = Postgres::open_within(&url, tables.iter(), patience).unwrap();
    sink.bring(&[&state(&table, rows.values().take(1))], &to(1), Deletions::Any).unwrap();
    let changes = BTreeMap::from([(table.name.to_string(), batches(rows.values().skip(1).map(|row| (row.clone(), 1)).collect()))]);
    // The server never had the message.
    proxy.cut(b"COMMIT", Cut::Message);
    let error = sink.apply(tables, &changes, [&to(1), &to(2)]).unwrap_err();
    assert!(matches!(&error, SinkError::Database { .. }) && error.to_string().contains("the server has rolled all of it back"), "{error}");
    assert_eq!((error.outcome(), server.table("one_key").len()), (Outcome::NotDone, 1));
    // It had, and did it.
    proxy.cut(b"COMMIT", Cut::Answer);
    assert_eq!(sink.apply(tables, &changes, [&to(1), &to(2)]).unwrap(), Applied::Done);
    assert_eq!(sink.reached("sample").unwrap(), Some(to(2)));
    assert_eq!(sink.apply(tables, &changes, [&to(1), &to(2)]).unwrap(), Applied::Already);
    assert_eq!(server.table("one_key").len(), rows.len());
    // It can't be asked: whether it was done is open.
    proxy.cut(b"COMMIT", Cut::AnswerAndServer);
    let error = sink.bring(&[&state(&table, rows.values().take(1))], &to(3), Deletions::Any).unwrap_err();
    assert!(matches!(&error, SinkError::Undecided { .. }) && error.to_string().contains("and it can't be looked up: "), "{error}");
    assert_eq!(error.outcome(), Outcome::MaybeDone);
}

/// A message is lost and the connection stays: the server waits for us, and we do not wait for it without end.
#[test]
fn postgres_that_never_hears_us() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let url = format!("postgres://keeper:{PASSWORD_IN_URL}@127.0.0.1:{}/tables", proxy.port);
    let table = sample("one_key", 1);
    let rows = random_rows(&mut ChaCha8Rng::seed_from_u64(7), &table, 9);
    let reached = Reached { dataflow: "sample".into(), epoch: 1, fingerprint: "x".into() };
    let mut sink = Postgres::open_within(&url, [&table].into_iter(), Duration::from_secs(3)).unwrap();
    proxy.cut(b"CREATE TABLE", Cut::MessageAlone);
    let error = sink.bring(&[&state(&table, rows.values())], &reached, Deletions::Any).unwrap_err();
    assert!(error.to_string().contains("the server has given no answer for 3s, and is waiting for what it has not received"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--network-timeout")));
}

/// Triggers that swallow or change rows are noticed, and nothing is written; those that look on do no harm.
fn rows_that_triggers_swallow_are_missed(database: &dyn Database, swallow: impl Fn(&str, &str)) {
    let columns = vec![Column::new("day", ColumnType::Day, ""), Column::new("count", ColumnType::UInt, "")];
    let keyed = Table::new("keyed", "", 1, columns.clone());
    let row = |day: i32, count: u64| Row::default().day(Day(day)).uint(count);
    let reached = |epoch| Reached { dataflow: "sample".into(), epoch, fingerprint: "x".into() };
    let old = [row(1, 1), row(2, 2), row(3, 3)];
    for (kind, new) in [("INSERT", [row(1, 1), row(2, 2), row(4, 4)]), ("UPDATE", [row(1, 1), row(2, 2), row(3, 9)])] {
        database.sink(std::slice::from_ref(&keyed)).bring(&[&state(&keyed, old.iter())], &reached(1), Deletions::Any).unwrap();
        swallow("keyed", kind);
        let before = database.table("keyed");
        let mut sink = database.sink(std::slice::from_ref(&keyed));
        let error = sink.bring(&[&state(&keyed, new.iter())], &reached(2), Deletions::Any).unwrap_err();
        assert!(matches!(&error, SinkError::Meddled { expected: 3, right: 2, .. }), "{kind}: {error}");
        assert!(error.to_string().starts_with("wrote 3 rows of table \"keyed\" in "), "{error}");
        assert_eq!(database.table("keyed"), before, "{kind}");
        database.execute("DROP TABLE keyed");
        drop(sink);
    }
    // Changes of an epoch, one by one.
    database.sink(std::slice::from_ref(&keyed)).bring(&[&state(&keyed, old.iter())], &reached(3), Deletions::Any).unwrap();
    swallow("keyed", "INSERT");
    let changes = BTreeMap::from([("keyed".to_string(), batches(vec![(row(4, 4), 1)]))]);
    let error =
        database.sink(std::slice::from_ref(&keyed)).apply(std::slice::from_ref(&keyed), &changes, [&reached(3), &reached(4)]).unwrap_err();
    assert!(matches!(&error, SinkError::Meddled { expected: 1, right: 0, .. }), "{error}");
    assert_eq!(database.table("keyed").len(), 3);
}

#[test]
fn sqlite_rows_that_triggers_swallow_are_missed() {
    let place = Place::new();
    let database = SqliteFile::new(&place, "tables.sqlite");
    rows_that_triggers_swallow_are_missed(&database, |table, kind| {
        let body = "WHEN NEW.count >= 4 BEGIN SELECT RAISE(IGNORE); END";
        database.execute(&format!("CREATE TRIGGER swallow_{kind} BEFORE {kind} ON {table} {body}"));
    });
}

#[test]
fn postgres_rows_that_triggers_swallow_are_missed() {
    let server = Server::start();
    server.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF NEW.count >= 4 THEN RETURN NULL; END IF; RETURN NEW; END'",
    );
    rows_that_triggers_swallow_are_missed(&server, |table, kind| {
        server.execute(&format!("CREATE TRIGGER swallow BEFORE {kind} ON {table} FOR EACH ROW EXECUTE FUNCTION swallow()"));
    });
}

/// Somebody has tables of the names that temporary ones have here, and a search path under which those come first.
#[test]
fn postgres_tables_of_others_that_are_called_as_temporary_ones() {
    let server = Server::start();
    let table = sample("all_keys", 10);
    let tables = std::slice::from_ref(&table);
    let rows = random_rows(&mut ChaCha8Rng::seed_from_u64(3), &table, 300);
    assert!(rows.len() > 250, "so many that they are not written one by one");
    server.execute("CREATE TABLE retally_new (x INT); INSERT INTO retally_new VALUES (1); CREATE TABLE retally_gone (LIKE retally_new)");
    let url = format!("{}?options=-c%20search_path%3Dpublic%2Cpg_temp", server.out());
    let mut sink = Postgres::open(&url, tables.iter()).unwrap();
    let to = |epoch| Reached { dataflow: "sample".into(), epoch, fingerprint: "x".into() };
    sink.bring(&[&state(&table, rows.values().take(3))], &to(1), Deletions::Any).unwrap();
    sink.bring(&[&state(&table, rows.values().take(150))], &to(2), Deletions::Any).unwrap();
    let changes = rows.values().enumerate().skip(1).map(|(place, row)| (row.clone(), if place < 150 { -1 } else { 1 }));
    let changes = BTreeMap::from([(table.name.to_string(), batches(changes.collect()))]);
    assert_eq!(sink.apply(tables, &changes, [&to(2), &to(3)]).unwrap(), Applied::Done);
    assert_eq!(server.table("all_keys").len(), rows.len() - 149);
    assert_eq!((server.table("retally_new"), server.table("retally_gone").len()), (vec![vec!["1".to_string()]], 0));
}

/// Keys that differ only in what PostgreSQL's text can't hold remain different.
#[test]
fn postgres_keys_that_differ_by_a_zero_byte() {
    let server = Server::start();
    let table = Table::new("texts", "", 1, vec![Column::new("text", ColumnType::Text, ""), Column::new("count", ColumnType::UInt, "")]);
    let texts = ["a", "a\0", "a\0\0", "a\u{fffd}", "a\u{2400}", "a\u{2400}0", "a\u{2400}\u{2400}", "a\x000", "\0", "\u{2400}"];
    let rows: Vec<Row> = texts.iter().map(|text| Row::default().text(text).uint(1)).collect();
    let to = |epoch| Reached { dataflow: "sample".into(), epoch, fingerprint: "x".into() };
    for epoch in [1, 2] {
        server.sink(std::slice::from_ref(&table)).bring(&[&state(&table, rows.iter())], &to(epoch), Deletions::Any).unwrap();
        assert_eq!(server.table("texts").len(), texts.len());
    }
    assert!(server.table("texts").contains(&vec!["a\u{2400}0\u{2400}0".to_string(), "1".into()]));
}

/// Some tables are not written beside others that were computed with other settings.
fn tables_of_other_settings_are_not_mixed(database: &dyn Database) {
    let place = online();
    let run = |words: &str| place.run(&format!("{ONLINE} --out '{}' --changes changes {words}", database.out()));
    run("--tables online_daily --timezone Asia/Tokyo").succeeds();
    // There are no others yet.
    run("--tables online_daily").succeeds();
    run("").succeeds();
    std::fs::remove_file(place.path("changes")).unwrap();
    let before = database.all();
    let failure = run("--tables online_daily --timezone Asia/Tokyo").fails();
    let failure = failure.names(&["with other settings", "\"online_summary\"", "keeper@127.0.0.1"].map(|part| match part {
        "keeper@127.0.0.1" if database.out().starts_with("sqlite") => "sqlite:",
        part => part,
    }));
    assert!(failure.hint.is_some_and(|hint| hint.contains("write all tables")));
    assert!(database.all() == before && !place.has("changes"));
    run("--tables online_daily").succeeds();
    run("--timezone Asia/Tokyo --replace").succeeds();
    run("--tables online_daily --timezone Asia/Tokyo").succeeds();
}

/// `retally verify` compares a database, whatever was done to it since, and leaves it alone.
fn what_was_written_is_verified(database: &dyn Database) {
    let place = online();
    let verify = || place.run(&format!("verify --state state -w 1 --out '{}'", database.out()));
    place.run(&format!("{ONLINE} --state state")).succeeds();
    database.execute("CREATE TABLE others (id INTEGER)");
    verify().fails_after("online_daily: ").names(&["holds no tables of \"state\""]);
    let write = || place.run(&format!("{ONLINE} --state state --out '{}'", database.out())).succeeds();
    write();
    let verified = verify().succeeds().stdout;
    assert_eq!(verified.matches(", as they should be\n").count(), 14, "six tables and rejected, in both places: {verified}");
    assert!(verified.contains(" as of batch 2:\n") && verified.ends_with("nothing differs\n"), "{verified}");
    database.execute("DELETE FROM online_daily WHERE day = (SELECT min(day) FROM online_daily)");
    database.execute("UPDATE online_summary SET users = users + 1");
    database.execute("DELETE FROM rejected WHERE reason = (SELECT min(reason) FROM rejected)");
    database.execute("INSERT INTO online_issues (issue, events) VALUES ('none of ours', 1)");
    let (before, summary) = (database.all(), database.rows("SELECT day FROM online_summary").len());
    let both = format!("    missing: {summary}\n    too many: {summary}\n");
    let ran = verify();
    assert!(ran.stdout.contains(&both) && ran.stdout.contains(" should be there, and 1 differ\n    too many: 1\n"), "{}", ran.stdout);
    ran.fails_after("rejected: ").names(&["differ from what follows from the journal"]);
    assert_eq!(database.all(), before);
    write();
    verify().succeeds();
}

#[test]
fn sqlite_what_was_written_is_verified() {
    let place = Place::new();
    what_was_written_is_verified(&SqliteFile::new(&place, "tables.sqlite"));
}

#[test]
fn postgres_what_was_written_is_verified() {
    what_was_written_is_verified(&Server::start());
}

#[test]
fn sqlite_tables_of_other_settings_are_not_mixed() {
    let place = Place::new();
    tables_of_other_settings_are_not_mixed(&SqliteFile::new(&place, "tables.sqlite"));
}

#[test]
fn postgres_tables_of_other_settings_are_not_mixed() {
    tables_of_other_settings_are_not_mixed(&Server::start());
}

#[test]
fn sqlite_any_rows_become_any_others() {
    let place = Place::new();
    any_rows_become_any_others(&SqliteFile::new(&place, "tables.sqlite"));
}

#[test]
fn sqlite_columns_and_keys() {
    let place = online();
    let database = SqliteFile::new(&place, "tables.sqlite");
    place.run(&format!("{ONLINE} --out sqlite:tables.sqlite")).succeeds();
    let columns = |table: &str| -> Vec<String> {
        let rows = database.rows(&format!("SELECT name, type, pk FROM pragma_table_info('{table}')"));
        rows.iter().map(|row| format!("{} {} {}", row[0], row[1], row[2])).collect()
    };
    assert_eq!(columns("online_daily"), ["day TEXT 1", "fleet_size TEXT 2", "devices INTEGER 0"]);
    let summary = ["day TEXT 1", "devices INTEGER 0", "users INTEGER 0", "online_hours REAL 0", "new_devices INTEGER 0"];
    assert_eq!(columns("online_summary"), summary);
    // Numbers above 2^63 are text, and exact.
    let ids = database.rows("SELECT user_id, typeof(device_id), typeof(user_id), typeof(server_id) FROM online_intervals WHERE device_id = '18446744073709551615'");
    assert_eq!(ids, [["9223372036854775808", "text", "text", "integer"]]);
    // Times sort as text, and SQLite's own functions read them.
    let connection = database.connect();
    let times: Vec<String> = {
        let mut statement = connection.prepare("SELECT online_from FROM online_intervals ORDER BY online_from").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert!(times.iter().all(|time| time.len() == "2024-03-01T08:00:00.000000Z".len()), "{times:?}");
    assert_eq!(database.rows("SELECT count(*) FROM online_intervals WHERE julianday(online_from) IS NULL"), [["0"]]);
}

#[test]
fn postgres_values_are_those_of_csv() {
    let server = Server::start();
    [KNOWN_ONLINE, KNOWN_ACTIVE, KNOWN_SENSORS].iter().for_each(|known| values_are_those_of_csv(&server, known));
    assert_eq!(server.rows("SELECT count(*) FROM retally_progress"), [["3"]]);
    let columns = |table: &str| -> Vec<String> {
        let query = format!(
            "SELECT column_name || ' ' || data_type || ' ' || is_nullable FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
        );
        server.rows(&query).into_iter().flatten().collect()
    };
    assert_eq!(columns("online_daily"), ["day date NO", "fleet_size text NO", "devices bigint NO"]);
    assert_eq!(columns("active_user_table"), ["date date NO", "active_user_count bigint NO"]);
    let id = |name: &str| format!("{name} numeric NO");
    let time = |name: &str| format!("{name} timestamp with time zone NO");
    let intervals =
        [id("device_id"), id("user_id"), id("server_id"), time("online_from"), time("online_until"), "end_reason text NO".into()];
    assert_eq!(columns("online_intervals"), intervals);
    assert_eq!(columns("online_summary")[3], "online_hours double precision NO");
    let keys = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid::regclass::text LIKE '%daily'";
    assert_eq!(server.rows(keys), [["PRIMARY KEY (day, fleet_size)"]]);
    assert_eq!(columns("sensor_mapping"), ["sensor_name text NO", "sensor_uuid uuid NO"]);
    let [float, count, flag] = ["double precision", "bigint", "boolean"].map(|kind| move |name: &str| format!("{name} {kind} NO"));
    let named = || vec!["sensor_name text NO".to_string(), "sensor_uuid uuid NO".into()];
    let anomalies = [time("timestamp"), float("value"), float("expected"), float("residual"), float("score"), count("severity")];
    let more = ["kind text NO".into(), "model text NO".into(), flag("incident_start")];
    assert_eq!(columns("sensor_anomalies"), [named(), anomalies.into(), more.into()].concat());
    let segments = [time("start_time"), time("end_time"), count("measurements")];
    let line = ["intercept", "slope_per_hour", "r2", "sigma"].map(float);
    assert_eq!(columns("sensor_segments"), [named(), segments.into(), line.into()].concat());
    let keys = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid::regclass::text LIKE 'sensor_a%'";
    assert_eq!(server.rows(keys), [["PRIMARY KEY (sensor_name, sensor_uuid, \"timestamp\", value)"]]);
}

#[test]
fn postgres_a_second_run_writes_the_difference() {
    a_second_run_writes_the_difference(&Server::start(), &KNOWN_ONLINE);
    a_second_run_writes_the_difference(&Server::start(), &KNOWN_SENSORS);
}

#[test]
fn postgres_any_rows_become_any_others() {
    any_rows_become_any_others(&Server::start());
}
