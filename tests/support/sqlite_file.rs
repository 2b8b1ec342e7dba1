//! SQLite as the tests' other side: a file, looked into by its own connection.

use crate::databases::{Database, Log};
use crate::support::program::Place;
use retally::sinks::{Applied, Reached, Sink, Sqlite};
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A database that is not there yet.
pub struct SqliteFile {
    path: PathBuf,
}

impl SqliteFile {
    pub fn new(place: &Place, name: &str) -> SqliteFile {
        SqliteFile { path: place.path(name) }
    }

    pub fn connect(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }
}

impl Database for SqliteFile {
    fn out(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn execute(&self, statements: &str) {
        self.connect().execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let connection = self.connect();
        let mut statement = connection.prepare(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let width = statement.column_count();
        let text = |value: ValueRef<'_>| match value {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            // Times always have microseconds here.
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap().replace(".000000Z", "Z"),
            ValueRef::Blob(bytes) => panic!("bytes {bytes:?}"),
        };
        let rows = statement.query_map([], |row| (0..width).map(|place| row.get_ref(place).map(text)).collect());
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn tables(&self) -> Vec<String> {
        self.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").into_iter().flatten().collect()
    }

    fn truths(&self) -> [&'static str; 2] {
        ["1", "0"]
    }

    fn watch(&self, table: &str) {
        self.execute("CREATE TABLE IF NOT EXISTS written (place TEXT, kind TEXT)");
        for kind in ["INSERT", "UPDATE", "DELETE"] {
            let body = format!("BEGIN INSERT INTO written VALUES ('{table}', '{kind}'); END");
            self.execute(&format!("CREATE TRIGGER watch_{table}_{kind} AFTER {kind} ON {table} {body}"));
        }
    }

    fn take_log(&self) -> Log {
        let rows = self.rows("SELECT place, kind, count(*) FROM written GROUP BY 1, 2");
        self.execute("DELETE FROM written");
        rows.into_iter().map(|row| ((row[0].clone(), row[1].clone()), row[2].parse().unwrap())).collect()
    }

    fn sink(&self, tables: &[Table]) -> Box<dyn retally::sinks::Sink> {
        Box::new(Sqlite::open(&self.path, tables.iter()).unwrap())
    }

    fn apply(&self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&Reached; 2]) {
        let applied = Sqlite::open(&self.path, tables.iter()).unwrap().apply(tables, changes, reached).unwrap();
        assert_eq!(applied, Applied::Done);
    }
}
