//! Tables in an SQLite database: `sqlite:PATH`.
//!
//! Days and times are text that sorts, times always with microseconds; truth values are 0 and 1; numbers that name things are integers up
//! to 2^63 - 1, and text above, since SQLite has no larger ones. All that a run writes is one transaction.
//!
//! One process of ours writes at a time: it holds a lock, `PATH.lock`, from the time that the database is opened.
//!
//! # Limits
//! Another program that writes is waited for, [`BUSY_WAIT`] long.

use super::cells::{Cell, Fraction, append_day, append_time, append_uint};
use super::relation::{Dialect, Existing, Kind, Relation};
use super::relational::{self, PROGRESS, Reached, Session};
use super::{Applied, Deletions, Held, Sink, SinkError};
use crate::interrupt::Section;
use crate::lock::{Lock, LockError};
use crate::staged::{beside, parent, why};
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Statement, TransactionBehavior};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another writer is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Pages that are held in memory before they are written, in KiB.
const CACHE_KIB: i32 = 32 << 10;
/// So many statements are kept prepared.
const STATEMENTS_KEPT: usize = 256;

/// A database in a file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    place: String,
    kept: Option<Kept>,
    /// It is read while it is written, and written often: commits are appended to a log beside it.
    is_live: bool,
    _lock: Lock,
}

/// A connection that is kept between calls, and the file that it is to: another one may come to stand in its place.
#[derive(Debug)]
struct Kept {
    connection: Connection,
    file: (u64, u64),
}

impl Sqlite {
    /// The database in this file, which need not exist. Refuses one that could not take these tables.
    pub fn open<'t>(path: impl Into<PathBuf>, tables: impl Iterator<Item = &'t Table>) -> Result<Sqlite, SinkError> {
        let path = path.into();
        let place = format!("sqlite:{}", path.display());
        let refused = |why, hint| SinkError::Database { place: place.clone(), why, hint };
        match std::fs::metadata(&path) {
            Ok(there) if there.is_dir() => return Err(refused("it can't be opened: it is a directory".into(), "look at the path")),
            Ok(there) if !there.is_file() => return Err(refused("it can't be opened: it is no regular file".into(), "look at the path")),
            Err(_) if !parent(&path).is_dir() => {
                return Err(refused(format!("there is no folder {:?}", parent(&path)), "create the folder first"));
            }
            Ok(_) | Err(_) => {}
        }
        // Of the file itself, whatever links lead to it; and a path from the root has no meaning of its own for SQLite.
        let path = path.canonicalize().or_else(|_| std::path::absolute(&path)).map_err(|error| refused(why(&error), "look at the path"))?;
        let lock = Lock::take(&beside(&path, ".lock")).map_err(|error| match error {
            LockError::Held(holder) => SinkError::InUse { place: place.clone(), holder },
            LockError::Io(error) => refused(why(&error), "look at who may write there: a file beside it is needed too"),
        })?;
        let mut sqlite = Sqlite { place, path, kept: None, is_live: false, _lock: lock };
        if sqlite.path.exists() {
            sqlite.read(|session| relational::check(session, tables))?;
        }
        Ok(sqlite)
    }

    /// As the database of a service: it is read while it is written. What a crash of the machine takes away are the last commits.
    pub(super) fn live(self) -> Sqlite {
        Sqlite { is_live: true, kept: None, ..self }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn connect(&self) -> Result<Connection, SinkError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| self.failed(&error);
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
        // A file that may only be read is opened all the same.
        if connection.is_readonly("main").map_err(failed)? {
            return Err(SinkError::Database { place: self.place.clone(), why: READ_ONLY.into(), hint: "look at who may write it" });
        }
        if self.is_live {
            connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
            connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(connection)
    }

    /// The connection that was kept, if its file is still there; otherwise a new one.
    fn connection(&mut self) -> Result<Connection, SinkError> {
        let file = file(&self.path);
        match self.kept.take().filter(|kept| Some(kept.file) == file) {
            Some(kept) => Ok(kept.connection),
            None => self.connect(),
        }
    }

    fn keep(&mut self, connection: Connection) {
        self.kept = file(&self.path).map(|file| Kept { connection, file });
    }

    /// Reads a file that is there.
    pub(super) fn read<T>(&mut self, work: impl FnOnce(&mut Transaction<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let mut connection = self.connection()?;
        let transaction = connection.transaction().map_err(|error| self.failed(&error))?;
        let answer = work(&mut Transaction { transaction, place: &self.place })?;
        self.keep(connection);
        Ok(answer)
    }

    /// All in one transaction, or nothing: not even a file.
    pub(super) fn write<T>(&mut self, work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let section = Section::begin();
        let there = self.path.exists();
        let written = self.connection().and_then(|mut connection| Ok((self.transact(&section, &mut connection, work)?, connection)));
        match written {
            Ok((answer, connection)) => {
                self.keep(connection);
                section.published();
                Ok(answer)
            }
            Err(error) => {
                // What never became a database is of no use to anyone; whatever another program has written to it stays.
                if !there && std::fs::metadata(&self.path).is_ok_and(|file| file.len() == 0) && !beside(&self.path, "-journal").exists() {
                    std::fs::remove_file(&self.path).ok();
                }
                Err(error)
            }
        }
    }

    fn transact<T>(
        &self,
        section: &Section,
        connection: &mut Connection,
        work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let interrupt = connection.get_interrupt_handle();
        section.stopped_by(move || interrupt.interrupt());
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| self.failed(&e))?;
        let mut open = Transaction { transaction, place: &self.place };
        let answer = work(&mut open)?;
        open.transaction.commit().map_err(|e| self.failed(&e))?;
        Ok(answer)
    }

    fn failed(&self, error: &rusqlite::Error) -> SinkError {
        failed(&self.place, error)
    }
}

/// All in one transaction, in a database that is there. Another connection of this process may have it open.
pub(super) fn write_beside<T>(path: &Path, work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
    let place = format!("sqlite:{}", path.display());
    let failed = |error: rusqlite::Error| failed(&place, &error);
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let mut open = Transaction { transaction, place: &place };
    let answer = work(&mut open)?;
    open.transaction.commit().map_err(failed)?;
    Ok(answer)
}

impl Sink for Sqlite {
    fn bring(&mut self, tables: &[&TableState], reached: &Reached, deletions: Deletions) -> Result<Vec<String>, SinkError> {
        let differences = self.write(&mut |session| relational::bring(session, tables, reached, deletions))?;
        Ok(super::differences(tables, &differences, &self.place))
    }

    fn reached(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        if !self.path.exists() {
            return Ok(None);
        }
        self.read(|session| relational::reached(session, dataflow))
    }

    fn apply(&mut self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&Reached; 2]) -> Result<Applied, SinkError> {
        if !self.path.exists() {
            return Ok(Applied::MustBring);
        }
        self.write(&mut |session| relational::apply(session, tables, changes, reached))
    }

    fn compare(&mut self, tables: &[&TableState], dataflow: &str) -> Result<Option<Held>, SinkError> {
        if !self.path.exists() {
            return Ok(None);
        }
        self.read(|session| relational::compare(session, tables, dataflow))
    }

    fn check_left_out(&mut self, left_out: &[Table], dataflow: &str, fingerprint: &str) -> Result<(), SinkError> {
        if !self.path.exists() {
            return Ok(());
        }
        self.read(|session| relational::check_left_out(session, left_out, dataflow, fingerprint))
    }
}

/// What distinguishes one file from another.
fn file(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A transaction under way.
pub(super) struct Transaction<'c> {
    pub(super) transaction: rusqlite::Transaction<'c>,
    place: &'c str,
}

impl Transaction<'_> {
    pub(super) fn failed(&self, error: &rusqlite::Error) -> SinkError {
        failed(self.place, error)
    }
}

impl Transaction<'_> {
    /// Runs a statement for each row, whose first cells are its parameters. Returns how many rows that wrote.
    fn run(&mut self, statement: &str, relation: &Relation, cells: usize, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<u64, SinkError> {
        let mut statement = self.transaction.prepare_cached(statement).map_err(|error| self.failed(&error))?;
        let (mut count, mut text) = (0, Vec::new());
        for row in rows {
            let mut place = 0;
            relation.cells(row, |column, kind, cell| {
                place += 1;
                if place > cells {
                    return Ok(());
                }
                bind(&mut statement, place, kind, cell, &mut text).map_err(|error| match error {
                    rusqlite::Error::IntegralValueOutOfRange(..) => SinkError::too_large(self.place, relation.name, column),
                    error => self.failed(&error),
                })
            })?;
            count += statement.raw_execute().map_err(|error| self.failed(&error))? as u64;
        }
        Ok(count)
    }
}

impl Session for Transaction<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn place(&self) -> &str {
        self.place
    }

    fn execute(&mut self, statement: &str) -> Result<u64, SinkError> {
        self.transaction.execute(statement, []).map(|rows| rows as u64).map_err(|error| self.failed(&error))
    }

    fn existing(&mut self, name: &str) -> Result<Option<Existing>, SinkError> {
        let read = || {
            let mut existing = Existing::default();
            let mut columns = self.transaction.prepare("SELECT name, type, pk FROM pragma_table_info(?1, 'main') ORDER BY cid")?;
            let mut primary: Vec<(i64, String)> = Vec::new();
            let mut rows = columns.query([name])?;
            while let Some(row) = rows.next()? {
                let (name, place): (String, i64) = (row.get(0)?, row.get(2)?);
                existing.columns.push((name.clone(), row.get(1)?));
                if place > 0 {
                    primary.push((place, name));
                }
            }
            existing.keys.push(primary.into_iter().map(|(_, name)| name).collect());
            let query = "SELECT l.name, i.name FROM pragma_index_list(?1, 'main') AS l, pragma_index_info(l.name, 'main') AS i \
                         WHERE l.\"unique\" AND NOT l.partial AND i.name IS NOT NULL";
            let mut indices: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let mut columns = self.transaction.prepare(query)?;
            let mut rows = columns.query([name])?;
            while let Some(row) = rows.next()? {
                indices.entry(row.get(0)?).or_default().push(row.get(1)?);
            }
            existing.keys.extend(indices.into_values());
            Ok((!existing.columns.is_empty()).then_some(existing))
        };
        read().map_err(|error| self.failed(&error))
    }

    fn meddlers(&mut self, name: &str) -> Result<bool, SinkError> {
        let query = "SELECT 'any' FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE LIMIT 1";
        let found = self.transaction.query_row(query, [name], |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(|error| self.failed(&error))
    }

    fn progress(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        let query = format!("SELECT epoch, fingerprint FROM {PROGRESS} WHERE dataflow = ?");
        let reached = |row: &rusqlite::Row<'_>| {
            Ok(Reached { dataflow: dataflow.into(), epoch: row.get::<_, i64>(0)?.unsigned_abs(), fingerprint: row.get(1)? })
        };
        self.transaction.query_row(&query, [dataflow], reached).optional().map_err(|error| self.failed(&error))
    }

    fn first(&mut self, query: &str, width: usize) -> Result<Option<Vec<Option<String>>>, SinkError> {
        let texts = |row: &rusqlite::Row<'_>| (0..width).map(|place| row.get(place)).collect();
        self.transaction.query_row(query, [], texts).optional().map_err(|error| self.failed(&error))
    }

    /// The transaction has locked the whole file already.
    fn lock(&mut self, _: &str) -> Result<(), SinkError> {
        Ok(())
    }

    fn load(&mut self, into: &str, relation: &Relation, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<u64, SinkError> {
        let places = vec!["?"; relation.width()].join(", ");
        self.run(&format!("INSERT INTO {into} ({}) VALUES ({places})", relation.names()), relation, relation.width(), rows)
    }

    fn each(&mut self, statement: &str, relation: &Relation, cells: usize, rows: &[&[u8]]) -> Result<u64, SinkError> {
        self.run(statement, relation, cells, &mut rows.iter().copied())
    }

    /// Its statistics are not worth their time for a table that is read once, with one way to do it.
    fn analyze(&mut self, _: &str) -> Result<(), SinkError> {
        Ok(())
    }
}

fn bind(statement: &mut Statement<'_>, place: usize, kind: Kind, cell: &Cell<'_>, text: &mut Vec<u8>) -> rusqlite::Result<()> {
    text.clear();
    let value = match cell {
        Cell::Null => return statement.raw_bind_parameter(place, Null),
        Cell::UInt(number) => match i64::try_from(*number) {
            Ok(number) => ValueRef::Integer(number),
            Err(_) if kind == Kind::Id => {
                append_uint(text, *number);
                ValueRef::Text(text)
            }
            Err(_) => return Err(rusqlite::Error::IntegralValueOutOfRange(place, i64::MAX)),
        },
        Cell::Int(number) => ValueRef::Integer(*number),
        Cell::Bool(truth) => ValueRef::Integer((*truth).into()),
        Cell::Float(number) => ValueRef::Real(*number),
        Cell::Text(text) => ValueRef::Text(text.as_bytes()),
        Cell::Uuid(_) => {
            cell.append(text);
            ValueRef::Text(text)
        }
        Cell::Day(day) => {
            append_day(text, *day);
            ValueRef::Text(text)
        }
        Cell::Time(moment) => {
            append_time(text, *moment, Fraction::Always);
            ValueRef::Text(text)
        }
    };
    statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(value))
}

const READ_ONLY: &str = "it may only be read";
/// What to do about a file that is none.
pub(super) const NO_DATABASE: &str = "give another file, or restore this one";

/// What an error is, and what to do about it where it was met in writing and in reading.
fn explained(error: &rusqlite::Error) -> (String, &'static str, &'static str) {
    let of_both = |why, hint| (why, hint, hint);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            format!("another process has been using it for {} s", BUSY_WAIT.as_secs()),
            "nothing was written; run again when it is done",
            "run again when it is done",
        ),
        Some(ErrorCode::DiskFull) => {
            ("no space is left on the disk".into(), "nothing was written; make room and run again", "make room and run again")
        }
        Some(ErrorCode::ReadOnly) => of_both(READ_ONLY.into(), "look at who may write it"),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => of_both(error.to_string(), NO_DATABASE),
        Some(ErrorCode::CannotOpen) => of_both("the file can't be opened".into(), "look at the path, and at who may write there"),
        _ => (
            error.to_string(),
            "nothing was written",
            "see that it is the database of a state, and was written by this version of the program",
        ),
    }
}

/// Why the database could not be written.
pub(super) fn failed(place: &str, error: &rusqlite::Error) -> SinkError {
    let (why, hint, _) = explained(error);
    SinkError::Database { place: place.into(), why, hint }
}

/// Why the database could not be read.
pub(super) fn unreadable(place: &str, error: &rusqlite::Error) -> SinkError {
    let (why, _, hint) = explained(error);
    SinkError::Unreadable { place: place.into(), why, hint }
}
