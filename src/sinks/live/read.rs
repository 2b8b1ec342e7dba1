//! Reading the database of a service: rows of tables, batches and changes, as of one epoch.

use super::super::cells::append_day;
use super::super::relation::quoted;
use super::super::sqlite::unreadable;
use super::super::{SinkError, csv, json};
use super::{changes, stored};
use crate::ingest::nearest::there_are;
use crate::ingest::rejected::RecordId;
use crate::tables::TableState;
use retally_core::Epoch;
use retally_core::calendar::{Calendar, Day};
use retally_core::contract::Table;
use retally_core::reasons::kind as kind_of_reason;
use retally_core::row::{Column, ColumnType, Row, RowBatch};
use retally_core::time::{DAY, Moment};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params_from_iter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// How long a checkpoint is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// The largest number that SQLite has as one; a larger id is a text.
const INTEGER_MAX: u64 = i64::MAX.unsigned_abs();

/// A connection that reads.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    place: String,
}

/// The database as of one commit.
#[derive(Debug)]
pub struct Snapshot<'r> {
    pub(super) transaction: Transaction<'r>,
    place: &'r str,
}

/// Which rows of a table, in which order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Conditions, all of which hold.
    conditions: Vec<String>,
    parameters: Vec<Value>,
    /// The column that comes first, and whether it descends.
    order: Option<(usize, bool)>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// So many are passed over.
    pub offset: u64,
}

/// What can't be asked of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// There is no such column.
    #[error("{table} has no column {column:?}")]
    Column {
        /// The table.
        table: &'static str,
        /// What was asked for.
        column: String,
        /// The columns that there are.
        known: Vec<&'static str>,
    },
    /// A value that the column can't have.
    #[error("{value:?} is no value of {column}, which holds {kind}")]
    Value {
        /// The column.
        column: &'static str,
        /// What was given.
        value: String,
        /// What it holds, in words.
        kind: String,
    },
    /// A row is told by its key, and this is another one.
    #[error("a row of {table} is told by {columns}")]
    Key {
        /// The table.
        table: &'static str,
        /// The columns of its key.
        columns: String,
    },
    /// Too much is asked for at once.
    #[error("more than {VALUES_MAX} values are asked for")]
    TooMany,
    /// A range, where nothing has a time.
    #[error("{0} has no column of days or times")]
    NoTime(&'static str),
}

/// What columns of days and of times hold, in words.
const DAYS: &str = "days";
const TIMES: &str = "times";

/// So many values rows may be asked for by.
const VALUES_MAX: usize = 10_000;

/// Why the history of a row can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It is no row of the table.
    #[error(transparent)]
    Bad(#[from] BadQuestion),
    /// The database could not be read.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl BadQuestion {
    /// What one can do about it.
    pub fn hint(&self) -> String {
        match self {
            BadQuestion::Column { column, known, .. } => there_are(column, known),
            BadQuestion::Value { kind, .. } => match kind.as_str() {
                DAYS => "give a day, such as 2026-03-01".into(),
                TIMES => "give a time, such as 2026-03-01T12:00:00Z".into(),
                other if other.starts_with("one of ") || other.starts_with("true ") => format!("give {other}"),
                _ => "give a value as the table has it".into(),
            },
            BadQuestion::Key { .. } => "give a value for each of them, and for nothing else".into(),
            BadQuestion::TooMany => "ask for some of them at a time".into(),
            BadQuestion::NoTime(_) => "leave from and to out".into(),
        }
    }
}

impl Question {
    /// Only rows that have these values in these columns; of a column that is given more than once, any of them.
    pub fn conditions<'g>(&mut self, table: &Table, given: impl Iterator<Item = (&'g str, &'g str)>) -> Result<(), BadQuestion> {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        given.for_each(|(column, value)| values.entry(column).or_default().push(value));
        values.iter().try_for_each(|(column, values)| self.only(table, column, values))
    }

    /// Only rows whose column has one of these values; an empty one is a missing one.
    fn only(&mut self, table: &Table, column: &str, values: &[&str]) -> Result<(), BadQuestion> {
        let (_, column) = named(table, column)?;
        let (mut is_missing, mut texts) = (false, 0);
        for value in values {
            is_missing |= value.is_empty() && column.nullable;
            if !value.is_empty() || column.kind == ColumnType::Text {
                self.parameters.push(parsed(column, value)?);
                texts += 1;
            } else if !column.nullable {
                return Err(bad_value(column, value));
            }
        }
        if self.parameters.len() > VALUES_MAX {
            return Err(BadQuestion::TooMany);
        }
        let name = quoted(column.name);
        let one_of = (texts > 0).then(|| format!("{name} IN ({})", vec!["?"; texts].join(", ")));
        let missing = is_missing.then(|| format!("{name} IS NULL"));
        let conditions: Vec<String> = missing.into_iter().chain(one_of).collect();
        self.conditions.push(format!("({})", conditions.join(" OR ")));
        Ok(())
    }

    /// Only rows from a day or time on, and up to another without it.
    pub fn range(&mut self, table: &Table, from: Option<&str>, to: Option<&str>) -> Result<(), BadQuestion> {
        let dated = |column: &&Column| matches!(column.kind, ColumnType::Day | ColumnType::Time);
        for (bound, is_from) in [(from, true), (to, false)] {
            let Some(bound) = bound else { continue };
            let column = table.columns.iter().find(dated).ok_or(BadQuestion::NoTime(table.name))?;
            let midnight = if column.kind == ColumnType::Day { next_midnight(bound) } else { None };
            self.parameters.push(parsed(column, midnight.as_deref().unwrap_or(bound))?);
            self.conditions.push(format!("{} {} ?", quoted(column.name), if is_from { ">=" } else { "<" }));
        }
        Ok(())
    }

    /// By this column first; `-COLUMN` from the greatest on.
    pub fn order(&mut self, table: &Table, order: &str) -> Result<(), BadQuestion> {
        let (column, descends) = order.strip_prefix('-').map_or((order, false), |column| (column, true));
        self.order = Some((named(table, column)?.0, descends));
        Ok(())
    }
}

/// The day that begins next after a time which is no midnight: a day is its beginning, and one that has begun is before.
fn next_midnight(text: &str) -> Option<String> {
    let moment = Calendar::utc().parse(text.as_bytes()).ok()?;
    (moment.0.rem_euclid(DAY) != 0).then(|| Calendar::utc().day(moment).plus(1).to_string())
}

pub(super) fn named<'t>(table: &'t Table, name: &str) -> Result<(usize, &'t Column), BadQuestion> {
    let found = table.columns.iter().enumerate().find(|(_, column)| column.name == name);
    found.ok_or_else(|| BadQuestion::Column {
        table: table.name,
        column: name.into(),
        known: table.columns.iter().map(|column| column.name).collect(),
    })
}

pub(super) fn bad_value(column: &Column, value: &str) -> BadQuestion {
    BadQuestion::Value { column: column.name, value: value.into(), kind: kind(&column.kind) }
}

/// What a column holds, in words.
pub fn kind(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Day => DAYS.into(),
        ColumnType::Time => TIMES.into(),
        ColumnType::UInt | ColumnType::Int => "integers".into(),
        ColumnType::Id => "ids that are numbers".into(),
        ColumnType::Float => "numbers".into(),
        ColumnType::Bool => "true or false".into(),
        ColumnType::Text | ColumnType::TextId(_) => "texts".into(),
        ColumnType::Uuid => "UUIDs".into(),
        ColumnType::Label(labels) => format!("one of {}", labels.join(", ")),
    }
}

/// A value as the database has it.
pub(super) fn parsed(column: &Column, value: &str) -> Result<Value, BadQuestion> {
    let bad = || bad_value(column, value);
    let time = |text: &str| Calendar::utc().parse(text.as_bytes()).ok();
    Ok(match &column.kind {
        ColumnType::Day => Value::Text(day_text(Calendar::utc().day(time(value).ok_or_else(bad)?))),
        ColumnType::Time => Value::Text(super::text_of(time(value).ok_or_else(bad)?)),
        ColumnType::UInt | ColumnType::Int => Value::Integer(value.parse().map_err(|_| bad())?),
        ColumnType::Id => match value.parse::<u64>().map_err(|_| bad())? {
            number if number <= INTEGER_MAX => Value::Integer(number.cast_signed()),
            number => Value::Text(number.to_string()),
        },
        ColumnType::Float => Value::Real(value.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(bad)?),
        ColumnType::Bool => match value {
            "true" | "1" => Value::Integer(1),
            "false" | "0" => Value::Integer(0),
            _ => return Err(bad()),
        },
        ColumnType::Text | ColumnType::TextId(_) => Value::Text(value.into()),
        ColumnType::Uuid => Value::Text(Uuid::parse_str(value).map_err(|_| bad())?.hyphenated().to_string()),
        ColumnType::Label(labels) => Value::Text(labels.iter().find(|label| *label == value).ok_or_else(bad)?.clone()),
    })
}

fn day_text(day: Day) -> String {
    let mut text = Vec::new();
    append_day(&mut text, day);
    String::from_utf8_lossy(&text).into_owned()
}

impl Reader {
    /// Opens the database, which is there.
    pub fn open(path: &Path) -> Result<Reader, SinkError> {
        let place = format!("sqlite:{}", path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_WAIT)?;
            Ok(connection)
        });
        Ok(Reader { connection: connection.map_err(|error| unreadable(&place, &error))?, place })
    }

    /// The database as it is now.
    pub fn snapshot(&mut self) -> Result<Snapshot<'_>, SinkError> {
        let transaction = self.connection.transaction().map_err(|error| unreadable(&self.place, &error))?;
        Ok(Snapshot { transaction, place: &self.place })
    }
}

impl Snapshot<'_> {
    pub(super) fn failed(&self, error: &rusqlite::Error) -> SinkError {
        unreadable(self.place, error)
    }

    /// What the tables of a dataflow have reached.
    pub fn epoch(&self, dataflow: &str) -> Result<Epoch, SinkError> {
        Ok(self.number("SELECT epoch FROM retally_progress WHERE dataflow = ?1", dataflow)?.unwrap_or(0))
    }

    /// What distinguishes a batch from the one of this number in another history: of another state, or of one that was restored. Nothing
    /// where it is not known.
    pub fn mark(&self, dataflow: &str, epoch: Epoch) -> Result<Option<String>, SinkError> {
        if epoch == 0 {
            return Ok(Some("0".into()));
        }
        let query = "SELECT arrived FROM retally_batches WHERE dataflow = ?1 AND epoch = ?2";
        let parameters = rusqlite::params![dataflow, i64::try_from(epoch).unwrap_or(i64::MAX)];
        let arrived = self.transaction.query_row(query, parameters, |row| row.get::<_, String>(0)).optional();
        let mark = |arrived: String| format!("{:016x}", xxh3_64(format!("{epoch} {arrived}").as_bytes()));
        Ok(arrived.map_err(|error| self.failed(&error))?.map(mark))
    }

    /// From which position on the changes of a dataflow can be followed.
    pub fn changes_from(&self, dataflow: &str) -> Result<Epoch, SinkError> {
        Ok(self.number("SELECT changes_from FROM retally_feeds WHERE dataflow = ?1", dataflow)?.unwrap_or(0))
    }

    fn number(&self, query: &str, dataflow: &str) -> Result<Option<u64>, SinkError> {
        let found = self.transaction.query_row(query, [dataflow], |row| row.get::<_, i64>(0)).optional();
        found.map(|found| found.map(i64::unsigned_abs)).map_err(|error| self.failed(&error))
    }

    /// The settings of a dataflow, where they are written down.
    pub fn settings(&self, dataflow: &str) -> Result<Option<BTreeMap<String, String>>, SinkError> {
        if !self.has("retally_settings")? {
            return Ok(None);
        }
        let query = "SELECT s.settings FROM retally_settings AS s JOIN retally_progress AS p ON p.dataflow = s.dataflow \
                     WHERE s.dataflow = ?1 AND p.fingerprint = s.fingerprint";
        let found = self.transaction.query_row(query, [dataflow], |row| row.get::<_, String>(0)).optional();
        let text = found.map_err(|error| self.failed(&error))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Whether it is of a service, which keeps changes, and not of runs alone.
    pub fn keeps_changes(&self) -> Result<bool, SinkError> {
        self.has("retally_changes")
    }

    /// Whether it has a table of this name.
    pub fn has(&self, table: &str) -> Result<bool, SinkError> {
        let query = "SELECT 1 FROM sqlite_master WHERE name = ?1";
        let found = self.transaction.query_row(query, [table], |_| Ok(())).optional();
        Ok(found.map_err(|error| self.failed(&error))?.is_some())
    }

    /// The dataflows whose tables it has.
    pub fn dataflows(&self) -> Result<Vec<String>, SinkError> {
        if !self.has("retally_progress")? {
            return Ok(Vec::new());
        }
        let read = || {
            let mut statement = self.transaction.prepare("SELECT dataflow FROM retally_progress ORDER BY dataflow")?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(&error))
    }

    /// The number of rows of each table of a dataflow.
    pub fn row_counts(&self, dataflow: &str) -> Result<BTreeMap<String, u64>, SinkError> {
        let read = || {
            let mut statement = self.transaction.prepare("SELECT \"table\", \"rows\" FROM retally_tables WHERE dataflow = ?1")?;
            let rows = statement.query_map([dataflow], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(&error))
    }

    /// Hands the rows that are asked for to `each`, until it returns an error.
    pub fn rows<E: From<SinkError>>(
        &self,
        table: &Table,
        dataflow: &str,
        question: &Question,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| self.failed(&error);
        let (mut conditions, mut parameters) = (question.conditions.clone(), question.parameters.clone());
        if table.key_columns == 0 {
            conditions.push("dataflow = ?".into());
            parameters.push(Value::Text(dataflow.into()));
        }
        let mut query = format!("SELECT {} FROM {}", names(&table.columns), quoted(table.name));
        if !conditions.is_empty() {
            query += &format!(" WHERE {}", conditions.join(" AND "));
        }
        let order = self.order(table, question.order, &mut parameters).map_err(failed)?;
        if !order.is_empty() {
            query += &format!(" ORDER BY {order}");
        }
        query += " LIMIT ? OFFSET ?";
        parameters.push(Value::Integer(question.limit.map_or(-1, stored)));
        parameters.push(Value::Integer(stored(question.offset)));
        let mut statement = self.transaction.prepare(&query).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(parameters)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut bytes = Row::default();
            for (place, column) in table.columns.iter().enumerate() {
                bytes = row.get_ref(place).and_then(|value| append(bytes, column, place, value)).map_err(failed)?;
            }
            each(&bytes.0)?;
        }
        Ok(())
    }

    /// The rows that are asked for.
    pub fn state(&self, table: &Table, dataflow: &str, question: &Question) -> Result<TableState, SinkError> {
        let (mut batches, mut batch) = (Vec::new(), RowBatch::default());
        self.rows::<SinkError>(table, dataflow, question, |row| {
            if batch.is_full_for(row.len()) {
                batches.push(std::mem::take(&mut batch));
            }
            batch.push(row, 1);
            Ok(())
        })?;
        batches.push(batch);
        let mut state = TableState::new(table.clone());
        state.apply(batches);
        Ok(state)
    }

    /// The order of rows: as in files, where texts do not sort as the database's do.
    fn order(&self, table: &Table, first: Option<(usize, bool)>, parameters: &mut Vec<Value>) -> rusqlite::Result<String> {
        let keys = (0..table.key_columns).filter(|place| first.is_none_or(|(first, _)| first != *place)).map(|place| (place, false));
        let mut order = Vec::new();
        for (place, descends) in first.into_iter().chain(keys) {
            let Some(column) = table.columns.get(place) else { continue };
            let (name, direction) = (quoted(column.name), if descends { " DESC" } else { "" });
            match &column.kind {
                ColumnType::Label(labels) => {
                    let cases: String = (0..labels.len()).map(|place| format!(" WHEN ? THEN {place}")).collect();
                    parameters.extend(labels.iter().cloned().map(Value::Text));
                    order.push(format!("CASE {name}{cases} END{direction}"));
                }
                // Large ids are texts, of two lengths. Where there are none, rows are read as they lie.
                ColumnType::Id if !order.is_empty() || self.has_large(table, &name)? => {
                    order.push(format!("typeof({name}) = 'text'{direction}, length({name}){direction}, {name}{direction}"));
                }
                _ => order.push(format!("{name}{direction}")),
            }
        }
        Ok(order.join(", "))
    }

    fn has_large(&self, table: &Table, column: &str) -> rusqlite::Result<bool> {
        let query = format!("SELECT 1 FROM {} WHERE {column} > {INTEGER_MAX} LIMIT 1", quoted(table.name));
        self.transaction.query_row(&query, [], |_| Ok(())).optional().map(|found| found.is_some())
    }

    /// Hands the changes of tables in epochs of a range to `each`, in order: the epoch, the table, the difference and the row; no row where
    /// the table must be read again. Tables that are none of these are passed over.
    pub fn changes(
        &self,
        dataflow: &str,
        tables: &[&Table],
        (after, until): (Epoch, Epoch),
        mut each: impl FnMut(Epoch, &Table, Option<(i64, &[u8])>),
    ) -> Result<(), SinkError> {
        let query = "SELECT epoch, \"table\", \"rows\" FROM retally_changes WHERE dataflow = ?1 AND epoch > ?2 AND epoch <= ?3 \
                     ORDER BY epoch, \"table\"";
        let mut read = || {
            let mut statement = self.transaction.prepare(query)?;
            let mut rows = statement.query(rusqlite::params![dataflow, stored(after), stored(until)])?;
            while let Some(row) = rows.next()? {
                let epoch = row.get::<_, i64>(0)?.unsigned_abs();
                let name = row.get_ref(1)?.as_str()?;
                let Some(table) = tables.iter().find(|table| table.name == name) else { continue };
                match row.get_ref(2)?.as_blob_or_null()? {
                    None => each(epoch, table, None),
                    Some(kept) => changes::read(kept, |diff, row| each(epoch, table, Some((diff, row)))).map_err(not_read)?,
                }
            }
            Ok(())
        };
        read().map_err(|error: rusqlite::Error| self.failed(&error))
    }

    /// The epoch at which the tables of a dataflow were rebuilt, all at once: what they held at the same epoch before is not known.
    pub fn remade(&self, dataflow: &str) -> Result<Option<Epoch>, SinkError> {
        self.number("SELECT epoch FROM retally_remade WHERE dataflow = ?1 AND epoch > 0", dataflow)
    }

    /// The tables of which the changes in epochs of a range are not kept row by row.
    pub fn not_kept(&self, dataflow: &str, (after, until): (Epoch, Epoch)) -> Result<BTreeSet<String>, SinkError> {
        let query =
            "SELECT DISTINCT \"table\" FROM retally_changes WHERE dataflow = ?1 AND epoch > ?2 AND epoch <= ?3 AND \"rows\" IS NULL";
        let read = || {
            let mut statement = self.transaction.prepare(query)?;
            let rows = statement.query_map(rusqlite::params![dataflow, stored(after), stored(until)], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(&error))
    }

    /// The first epoch of a range in which a table has changed.
    pub fn next_change(&self, dataflow: &str, table: &Table, (after, until): (Epoch, Epoch)) -> Result<Option<Epoch>, SinkError> {
        let query = "SELECT epoch FROM retally_changes WHERE dataflow = ?1 AND epoch > ?2 AND epoch <= ?3 AND \"table\" = ?4 \
                     ORDER BY epoch LIMIT 1";
        let parameters = rusqlite::params![dataflow, stored(after), stored(until), table.name];
        let found = self.transaction.query_row(query, parameters, |row| row.get::<_, i64>(0)).optional();
        found.map(|found| found.map(i64::unsigned_abs)).map_err(|error| self.failed(&error))
    }

    /// The changes of the row with this key, a value for each of its columns, the last first: each with its epoch and batch, and the row
    /// before and after.
    pub fn history(
        &self,
        table: &Table,
        dataflow: &str,
        key: &[(String, String)],
        limit: u64,
    ) -> Result<Vec<serde_json::Value>, HistoryError> {
        let columns = table.columns.iter().take(table.key_columns);
        let value_of = |column: &Column| Some(key.iter().find(|(given, _)| given == column.name)?.1.as_str());
        let values: Option<Vec<&str>> = columns.clone().map(value_of).collect();
        let Some(values) = values.filter(|values| values.len() == key.len()) else {
            let names: Vec<&str> = columns.map(|column| column.name).collect();
            return Err(BadQuestion::Key { table: table.name, columns: names.join(", ") }.into());
        };
        let mut row = Row::default();
        for (column, value) in columns.zip(values) {
            let is_missing = value.is_empty() && column.nullable;
            let value = if is_missing { Value::Null } else { parsed(column, value)? };
            row = append(row, column, 0, ValueRef::from(&value)).map_err(|error| self.failed(&error))?;
        }
        let query = "SELECT c.epoch, c.\"rows\", b.arrived, b.name, b.parts, b.\"key\", b.late FROM retally_changes AS c \
                     LEFT JOIN retally_batches AS b ON b.dataflow = c.dataflow AND b.epoch = c.epoch \
                     WHERE c.dataflow = ?1 AND c.\"table\" = ?2 AND c.\"rows\" IS NOT NULL ORDER BY c.epoch DESC";
        let as_json = |row: &[u8]| serde_json::from_str::<serde_json::Value>(&changes::json(table, row)).unwrap_or_default();
        let read = || -> rusqlite::Result<Vec<serde_json::Value>> {
            let mut statement = self.transaction.prepare(query)?;
            let mut rows = statement.query(rusqlite::params![dataflow, table.name])?;
            let mut history: Vec<serde_json::Value> = Vec::new();
            while let Some(found) = rows.next()? {
                let (mut old, mut new) = (None, None);
                let each = |diff, changed: &[u8]| {
                    // A key ends where it ends: no other one begins with it.
                    if changed.starts_with(&row.0) {
                        *(if diff > 0 { &mut new } else { &mut old }) = Some(as_json(changed));
                    }
                };
                changes::read(found.get_ref(1)?.as_blob()?, each).map_err(not_read)?;
                if old.is_none() && new.is_none() {
                    continue;
                }
                let arrived = found.get::<_, Option<String>>(2)?.and_then(|text| moment(&text)).map(|moment| moment.to_string());
                let (name, parts) = (found.get::<_, Option<String>>(3)?, found.get::<_, Option<i64>>(4)?);
                let (key, late) = (found.get::<_, Option<String>>(5)?, found.get::<_, Option<i64>>(6)?);
                history.push(serde_json::json!({
                    "epoch": found.get::<_, i64>(0)?, "arrived": arrived, "batch": {"name": name, "parts": parts, "key": key},
                    "late": late.map(|late| late > 0), "old": old, "new": new,
                }));
                if history.len() as u64 >= limit {
                    break;
                }
            }
            Ok(history)
        };
        Ok(read().map_err(|error| self.failed(&error))?)
    }

    /// The last batches of a dataflow, the last one first, as JSON objects.
    pub fn batches(&self, dataflow: &str, limit: u64) -> Result<Vec<serde_json::Value>, SinkError> {
        let query = "SELECT epoch, arrived, parts, name, \"key\", accepted, late, rejected, changed, ms FROM retally_batches \
                     WHERE dataflow = ?1 ORDER BY epoch DESC LIMIT ?2";
        let read = || {
            let mut statement = self.transaction.prepare(query)?;
            let rows = statement.query_map(rusqlite::params![dataflow, stored(limit)], |row| {
                let number = |place| row.get::<_, Option<i64>>(place);
                let changed = row.get::<_, Option<String>>(8)?.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
                let arrived: String = row.get(1)?;
                Ok(serde_json::json!({
                    "epoch": number(0)?,
                    "arrived": moment(&arrived).map(|moment| moment.to_string()),
                    "parts": number(2)?,
                    "name": row.get::<_, Option<String>>(3)?,
                    "key": row.get::<_, Option<String>>(4)?,
                    "accepted": number(5)?,
                    "late": number(6)?,
                    "rejected": number(7)?,
                    "changed": changed,
                    "ms": row.get::<_, Option<f64>>(9)?,
                }))
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(&error))
    }

    /// Whether `rejected` names the batch that each record came with: not so where runs alone have written it.
    pub fn has_batches_of_rejected(&self) -> Result<bool, SinkError> {
        let query = "SELECT 1 FROM pragma_table_info('rejected') WHERE name = 'id'";
        self.transaction.query_row(query, [], |_| Ok(())).optional().map(|found| found.is_some()).map_err(|error| self.failed(&error))
    }

    /// Whether a record with this id was refused, and still is.
    pub fn is_rejected(&self, dataflow: &str, id: &RecordId) -> Result<bool, SinkError> {
        let query = "SELECT 1 FROM rejected WHERE id = ?1 AND dataflow = ?2 LIMIT 1";
        let found = self.transaction.query_row(query, rusqlite::params![id.to_string(), dataflow], |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(|error| self.failed(&error))
    }

    /// The records that were refused for a reason, or for one of this kind: a reason without its values. At most so many.
    pub fn rejected_for(&self, dataflow: &str, reason: &str, records_max: usize) -> Result<BTreeSet<RecordId>, SinkError> {
        let read = || {
            let mut statement = self.transaction.prepare("SELECT id, reason FROM rejected WHERE dataflow = ?1 AND id IS NOT NULL")?;
            let (mut rows, mut found) = (statement.query([dataflow])?, BTreeSet::new());
            while let Some(row) = rows.next()? {
                let found_for = row.get_ref(1)?.as_str()?;
                if (found_for == reason || kind_of_reason(found_for) == reason)
                    && let Ok(id) = row.get_ref(0)?.as_str()?.parse()
                {
                    found.insert(id);
                }
                if found.len() >= records_max {
                    break;
                }
            }
            Ok(found)
        };
        read().map_err(|error: rusqlite::Error| self.failed(&error))
    }

    /// What was fed to a dataflow in all.
    pub fn fed(&self, dataflow: &str) -> Result<Fed, SinkError> {
        let query = "SELECT count(*), sum(accepted), sum(late), sum(rejected), max(arrived) FROM retally_batches WHERE dataflow = ?1";
        let fed = |row: &rusqlite::Row<'_>| {
            let count = |place| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(place)?.unwrap_or(0).unsigned_abs());
            let last = row.get::<_, Option<String>>(4)?.and_then(|text| moment(&text)).map(|moment| moment.to_string());
            Ok(Fed { batches: count(0)?, accepted: count(1)?, late: count(2)?, rejected: count(3)?, last })
        };
        self.transaction.query_row(query, [dataflow], fed).map_err(|error| self.failed(&error))
    }

    /// The batch that came under a key: its epoch, the hash of its body, and what came of it.
    pub fn batch_of_key(&self, dataflow: &str, key: &str, since: Moment) -> Result<Option<KnownBatch>, SinkError> {
        let query = "SELECT epoch, body, accepted, late, rejected, changed, ms FROM retally_batches \
                     WHERE dataflow = ?1 AND \"key\" = ?2 AND arrived >= ?3 ORDER BY epoch DESC LIMIT 1";
        let known = |row: &rusqlite::Row<'_>| {
            let count = |place| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(place)?.unwrap_or(0).unsigned_abs());
            let answer = super::BatchAnswer {
                accepted: count(2)?,
                late: count(3)?,
                rejected: count(4)?,
                changed: row.get::<_, Option<String>>(5)?.unwrap_or_else(|| "{}".into()),
                ms: row.get::<_, Option<f64>>(6)?.unwrap_or(0.0),
            };
            Ok(KnownBatch { epoch: count(0)?, body: row.get(1)?, answer })
        };
        let found = self.transaction.query_row(query, rusqlite::params![dataflow, key, super::text_of(since)], known).optional();
        found.map_err(|error| self.failed(&error))
    }
}

/// What was fed to a dataflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// How many batches.
    pub batches: u64,
    /// Their records that were accepted.
    pub accepted: u64,
    /// Of these, late ones.
    pub late: u64,
    /// Those that were refused.
    pub rejected: u64,
    /// When the last batch arrived.
    pub last: Option<String>,
}

/// A batch that came under a key before.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownBatch {
    /// Its epoch.
    pub epoch: Epoch,
    /// The hash of what was sent.
    pub body: String,
    /// What came of it.
    pub answer: super::BatchAnswer,
}

fn not_read(error: std::io::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error.into())
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| quoted(column.name)).collect::<Vec<_>>().join(", ")
}

/// A time from its text in the database.
fn moment(text: &str) -> Option<Moment> {
    Calendar::utc().parse(text.as_bytes()).ok()
}

/// Appends a value as it is in a row.
pub(super) fn append(row: Row, column: &Column, place: usize, value: ValueRef<'_>) -> rusqlite::Result<Row> {
    if column.nullable {
        if value == ValueRef::Null {
            return Ok(row.optional(None::<()>, |row, ()| row));
        }
        // What a value that is there begins with.
        let plain = Column { nullable: false, ..column.clone() };
        let mut whole = row.optional(Some(()), |row, ()| row);
        whole = append(whole, &plain, place, value)?;
        return Ok(whole);
    }
    let wrong = || rusqlite::Error::InvalidColumnType(place, column.name.into(), value.data_type());
    let text = || value.as_str().map_err(|_| wrong());
    let integer = || value.as_i64().map_err(|_| wrong());
    Ok(match &column.kind {
        ColumnType::Day => row.day(Calendar::utc().day(moment(text()?).ok_or_else(wrong)?)),
        ColumnType::Time => row.time(moment(text()?).ok_or_else(wrong)?),
        ColumnType::UInt => row.uint(integer()?.unsigned_abs()),
        ColumnType::Id => match value {
            ValueRef::Integer(number) => row.uint(number.unsigned_abs()),
            _ => row.uint(text()?.parse().map_err(|_| wrong())?),
        },
        ColumnType::Int => row.int(integer()?),
        ColumnType::Float => row.float(value.as_f64().map_err(|_| wrong())?),
        ColumnType::Bool => row.bool(integer()? != 0),
        ColumnType::Text | ColumnType::TextId(_) => row.text(text()?),
        ColumnType::Uuid => row.uuid(Uuid::parse_str(text()?).map_err(|_| wrong())?.as_u128()),
        ColumnType::Label(labels) => {
            let label = text()?;
            let place = labels.iter().position(|known| known == label).ok_or_else(wrong)?;
            row.label(u16::try_from(place).map_err(|_| wrong())?)
        }
    })
}

/// How rows are written for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// As in a CSV file.
    Csv,
    /// An array of objects, one a line.
    Json,
}

impl Text {
    /// What comes before the rows.
    pub fn begin(self, table: &Table, out: &mut Vec<u8>) {
        match self {
            Text::Csv => csv::append_header(out, table),
            Text::Json => out.push(b'['),
        }
    }

    /// A row, which is the first or not.
    pub fn row(self, table: &Table, row: &[u8], is_first: bool, out: &mut Vec<u8>) {
        match self {
            Text::Csv => csv::append_row(out, table, row),
            Text::Json => {
                out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                json::append_row(out, table, row);
            }
        }
    }

    /// What comes behind them.
    pub fn end(self, out: &mut Vec<u8>) {
        if self == Text::Json {
            out.extend_from_slice(b"\n]\n");
        }
    }
}

/// Where the database of a service is, for who reads it.
#[derive(Debug)]
pub struct Readers {
    path: PathBuf,
    idle: std::sync::Mutex<Vec<Reader>>,
}

impl Readers {
    /// Those of a database, which is there.
    pub fn new(path: &Path) -> Readers {
        Readers { path: path.into(), idle: std::sync::Mutex::default() }
    }

    /// Reads the database as it is now.
    pub fn read<T, E: From<SinkError>>(&self, work: impl FnOnce(&Snapshot<'_>) -> Result<T, E>) -> Result<T, E> {
        let idle = || self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let kept = idle().pop();
        let mut reader = kept.map_or_else(|| Reader::open(&self.path), Ok)?;
        let answer = work(&reader.snapshot()?);
        idle().push(reader);
        answer
    }
}
