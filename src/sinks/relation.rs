//! A table of a database as we want it: its columns and key, and the statements that make it and change it.
//!
//! The primary key of a relation is the table's key columns. Where one of them may be missing, which no primary key allows, a unique index
//! `<table>_key` stands for it, and keys are compared with missing being the same as missing. A table whose rows nothing identifies
//! (`rejected`) has a last column `dataflow`, since all dataflows share it, and is replaced as a whole.
//!
//! Two databases speak almost the same language; [`Dialect`] is where they differ.

use super::SinkError;
use super::cells::{Cell, take};
use retally_core::contract::Table;
use retally_core::row::ColumnType;

/// The column with the owner of each row of a shared table.
const OWNER: &str = "dataflow";
/// The columns that a service adds to `rejected`.
const OF_SERVICE: [&str; 2] = ["batch", "id"];
/// The temporary table of rows that are true now.
const NEW: &str = "retally_new";
/// The temporary table of keys that are gone.
const GONE: &str = "retally_gone";

/// The databases, as far as their languages differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// What a column of a relation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Day,
    Time,
    Integer,
    Id,
    Uuid,
    Float,
    Bool,
    Text,
}

#[derive(Clone, Debug)]
struct RelationColumn {
    name: &'static str,
    kind: Kind,
    nullable: bool,
}

/// A table of a database, as we want it.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    dialect: Dialect,
    pub(super) name: &'static str,
    columns: Vec<RelationColumn>,
    /// How many of the columns, from the first, are the key; with 0, nothing identifies a row.
    pub(super) key: usize,
    /// The table whose rows it holds.
    table: Table,
    /// The value of the last column, in a table that dataflows share.
    owner: Option<String>,
}

/// A table of a database, as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Existing {
    /// Names and types of its columns.
    pub(super) columns: Vec<(String, String)>,
    /// The columns of each unique index.
    pub(super) keys: Vec<Vec<String>>,
}

impl Relation {
    pub(super) fn new(dialect: Dialect, table: &Table, dataflow: &str) -> Relation {
        let column = |column: &retally_core::row::Column| {
            let kind = match column.kind {
                ColumnType::Day => Kind::Day,
                ColumnType::Time => Kind::Time,
                ColumnType::UInt | ColumnType::Int => Kind::Integer,
                ColumnType::Id => Kind::Id,
                ColumnType::Uuid => Kind::Uuid,
                ColumnType::Float => Kind::Float,
                ColumnType::Bool => Kind::Bool,
                ColumnType::Text | ColumnType::TextId(_) | ColumnType::Label(_) => Kind::Text,
            };
            RelationColumn { name: column.name, kind, nullable: column.nullable }
        };
        let mut columns: Vec<RelationColumn> = table.columns.iter().map(column).collect();
        let shared = table.key_columns == 0;
        if shared {
            columns.push(RelationColumn { name: OWNER, kind: Kind::Text, nullable: false });
        }
        let owner = shared.then(|| dataflow.to_string());
        Relation { dialect, name: table.name, columns, key: table.key_columns, table: table.clone(), owner }
    }

    /// Hands the cells of a row to `each`, with their columns' names and kinds.
    pub(super) fn cells<E>(&self, row: &[u8], mut each: impl FnMut(&'static str, Kind, &Cell<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut rest = row;
        for (column, sql) in self.table.columns.iter().zip(&self.columns) {
            each(sql.name, sql.kind, &take(column, &mut rest))?;
        }
        self.owner.as_ref().map_or(Ok(()), |owner| each(OWNER, Kind::Text, &Cell::Text(owner.as_str().into())))
    }

    /// The number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The columns' names, as in a statement.
    pub(super) fn names(&self) -> String {
        joined(&self.columns, ", ", |column| quoted(column.name))
    }

    fn key_columns(&self) -> &[RelationColumn] {
        self.columns.get(..self.key).unwrap_or_default()
    }

    pub(super) fn key_is_primary(&self) -> bool {
        self.key > 0 && self.key_columns().iter().all(|column| !column.nullable)
    }

    /// Sees to it that a relation of this name is what we would have made.
    pub(super) fn recognise(&self, existing: &Existing, place: &str) -> Result<(), SinkError> {
        let foreign = |why: String| SinkError::Foreign { place: place.into(), table: self.name.into(), why };
        for column in &self.columns {
            let wanted = self.dialect.type_name(column.kind);
            match existing.columns.iter().find(|(name, _)| name == column.name) {
                None => return Err(foreign(format!("it has no column {:?}", column.name))),
                Some((_, kind)) if !kind.eq_ignore_ascii_case(self.dialect.type_shown(column.kind)) => {
                    let wanted = if wanted.is_empty() { "without a type" } else { wanted };
                    return Err(foreign(format!("its column {:?} is {kind:?} and not {wanted}", column.name)));
                }
                Some(_) => {}
            }
        }
        // A service adds columns of its own to a table of its state that nothing identifies, and a run leaves them empty.
        let is_of_service = |name: &str| self.key == 0 && self.dialect == Dialect::Sqlite && OF_SERVICE.contains(&name);
        let is_other = |name: &str| self.columns.iter().all(|column| column.name != name) && !is_of_service(name);
        if let Some((name, _)) = existing.columns.iter().find(|(name, _)| is_other(name)) {
            return Err(foreign(format!("it has a column {name:?} that is none of ours")));
        }
        let mut key: Vec<&str> = self.key_columns().iter().map(|column| column.name).collect();
        key.sort_unstable();
        let keyed = existing.keys.iter().any(|columns| {
            let mut columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            columns.sort_unstable();
            columns == key
        });
        if self.key > 0 && !keyed {
            let key = joined(self.key_columns(), ", ", |column| column.name.into());
            return Err(foreign(format!("it has no primary key or unique index ({key})")));
        }
        Ok(())
    }

    fn columns_declared(&self) -> String {
        joined(&self.columns, ", ", |column| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            let collation = if self.dialect == Dialect::Postgres && column.kind == Kind::Text { " COLLATE \"C\"" } else { "" };
            format!("{} {}{collation}{null}", quoted(column.name), self.dialect.type_name(column.kind))
        })
    }

    fn key_names(&self) -> String {
        joined(self.key_columns(), ", ", |column| quoted(column.name))
    }

    pub(super) fn create(&self) -> String {
        let (name, columns) = (quoted(self.name), self.columns_declared());
        match self.dialect {
            // Rows lie in their key: one tree instead of two.
            Dialect::Sqlite if self.key_is_primary() => {
                format!("CREATE TABLE {name} ({columns}, PRIMARY KEY ({})) WITHOUT ROWID", self.key_names())
            }
            _ => format!("CREATE TABLE {name} ({columns})"),
        }
    }

    /// Gives a new table its key, where it does not have it yet: an index that is built at once is built faster.
    pub(super) fn add_key(&self) -> Option<String> {
        let (name, keys) = (quoted(self.name), self.key_names());
        match self.dialect {
            _ if self.key == 0 => None,
            Dialect::Sqlite if self.key_is_primary() => None,
            Dialect::Postgres if self.key_is_primary() => Some(format!("ALTER TABLE {name} ADD PRIMARY KEY ({keys})")),
            // Databases hold missing values distinct; that a key with one is there once is for the statements below to see to.
            _ => Some(format!("CREATE UNIQUE INDEX {} ON {name} ({keys})", quoted(&format!("{}_key", self.name)))),
        }
    }

    /// The temporary table of rows that are true now. Its schema is always said: a table of that name that is somebody's is none of ours.
    pub(super) fn loaded(&self) -> String {
        self.dialect.temporary(NEW)
    }

    /// The temporary table of keys that are gone.
    pub(super) fn gone(&self) -> String {
        self.dialect.temporary(GONE)
    }

    /// A temporary table of the same columns; `indexed`, where keys will be looked up in it.
    pub(super) fn create_temporary(&self, name: &str, indexed: bool) -> String {
        let columns = self.columns_declared();
        if indexed && self.dialect == Dialect::Sqlite && self.key_is_primary() {
            return format!("CREATE TEMP TABLE {name} ({columns}, PRIMARY KEY ({})) WITHOUT ROWID", self.key_names());
        }
        format!("CREATE TEMP TABLE {name} ({columns})")
    }

    pub(super) fn delete_owned(&self) -> String {
        format!("DELETE FROM {}{}", quoted(self.name), self.owned())
    }

    /// Which rows of a table that dataflows share are ours; of any other table all are.
    fn owned(&self) -> String {
        self.owner.as_ref().map(|owner| format!(" WHERE {OWNER} = {}", literal(owner))).unwrap_or_default()
    }

    pub(super) fn delete_missing(&self) -> String {
        format!("DELETE FROM {} AS t WHERE {}", quoted(self.name), self.is_missing())
    }

    /// The least and the greatest value of a column among the rows that are gone, as texts.
    pub(super) fn span_of_missing(&self, column: &str) -> String {
        let column = format!("t.{}", quoted(column));
        let columns = format!("CAST(min({column}) AS TEXT), CAST(max({column}) AS TEXT)");
        format!("SELECT {columns} FROM {} AS t WHERE {}", quoted(self.name), self.is_missing())
    }

    fn is_missing(&self) -> String {
        format!("NOT EXISTS (SELECT 1 FROM {} AS n WHERE {})", self.loaded(), self.same_key())
    }

    pub(super) fn delete_gone(&self) -> String {
        let (name, keys) = (quoted(self.name), self.key_names());
        if self.key_is_primary() {
            // So the few that are gone are looked up, and the table is not read.
            return format!("DELETE FROM {name} WHERE ({keys}) IN (SELECT {keys} FROM {})", self.gone());
        }
        format!("DELETE FROM {name} AS t WHERE EXISTS (SELECT 1 FROM {} AS n WHERE {})", self.gone(), self.same_key())
    }

    /// Deletes a row by its key, whose values are the parameters.
    pub(super) fn delete_one(&self) -> String {
        let mut place = 0;
        let same = joined(self.key_columns(), " AND ", |column| {
            place += 1;
            let (name, parameter) = (quoted(column.name), self.dialect.parameter(place));
            match self.dialect {
                _ if !column.nullable => format!("{name} = {parameter}"),
                Dialect::Sqlite => format!("{name} IS {parameter}"),
                Dialect::Postgres => format!("{name} IS NOT DISTINCT FROM {parameter}"),
            }
        });
        format!("DELETE FROM {} WHERE {same}", quoted(self.name))
    }

    /// Inserts a row, whose values are the parameters; in place of one with its key, where keys are never missing.
    pub(super) fn insert_one(&self) -> String {
        let parameters: Vec<String> = (1..=self.width()).map(|place| self.dialect.parameter(place)).collect();
        let insert = format!("INSERT INTO {} ({}) VALUES ({})", quoted(self.name), self.names(), parameters.join(", "));
        if !self.key_is_primary() {
            return insert;
        }
        let values = self.columns.get(self.key..).unwrap_or_default();
        let set = joined(values, ", ", |column| format!("{0} = excluded.{0}", quoted(column.name)));
        let instead = if values.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {set}") };
        format!("{insert} ON CONFLICT ({}) DO {instead}", self.key_names())
    }

    /// Nothing, where all columns are key.
    pub(super) fn update(&self) -> Option<String> {
        let values = self.columns.get(self.key..).filter(|values| !values.is_empty())?;
        let set = joined(values, ", ", |column| format!("{0} = n.{0}", quoted(column.name)));
        let (name, new, same, differ) = (quoted(self.name), self.loaded(), self.same_key(), self.differ());
        Some(format!("UPDATE {name} AS t SET {set} FROM {new} AS n WHERE {same} AND ({differ})"))
    }

    pub(super) fn insert(&self) -> String {
        let (name, names, new, same) = (quoted(self.name), self.names(), self.loaded(), self.same_key());
        format!("INSERT INTO {name} ({names}) SELECT {names} FROM {new} AS n WHERE NOT EXISTS (SELECT 1 FROM {name} AS t WHERE {same})")
    }

    /// How many rows are there as they should be, and how many are there at all, as texts.
    pub(super) fn count_right(&self) -> String {
        let (name, new, same) = (quoted(self.name), self.loaded(), self.same_key());
        let differ = if self.columns.len() > self.key { self.differ() } else { "false".into() };
        format!(
            "SELECT CAST((SELECT count(*) FROM {new} AS n WHERE EXISTS (SELECT 1 FROM {name} AS t WHERE {same} AND NOT ({differ}))) AS TEXT), \
             CAST((SELECT count(*) FROM {name}) AS TEXT)"
        )
    }

    /// How many rows are missing, and how many are there that should not be, as texts.
    pub(super) fn count_deviations(&self) -> String {
        let (name, new, names, owned) = (quoted(self.name), self.loaded(), self.names(), self.owned());
        format!(
            "SELECT CAST(coalesce(sum(CASE WHEN times > 0 THEN times END), 0) AS TEXT), \
             CAST(coalesce(sum(CASE WHEN times < 0 THEN -times END), 0) AS TEXT) FROM (SELECT sum(once) AS times FROM \
             (SELECT {names}, 1 AS once FROM {new} UNION ALL SELECT {names}, -1 AS once FROM {name}{owned}) AS both_sides \
             GROUP BY {names}) AS counted"
        )
    }

    /// Whether the rows `t` and `n` differ in what is not their key.
    fn differ(&self) -> String {
        let values = self.columns.get(self.key..).unwrap_or_default();
        joined(values, " OR ", |column| format!("t.{0} IS DISTINCT FROM n.{0}", quoted(column.name)))
    }

    /// Whether the rows `t` and `n` have the same key.
    fn same_key(&self) -> String {
        joined(self.key_columns(), " AND ", |column| {
            let name = quoted(column.name);
            match self.dialect {
                _ if !column.nullable => format!("t.{name} = n.{name}"),
                Dialect::Sqlite => format!("t.{name} IS n.{name}"),
                // PostgreSQL can hash equalities, and nothing else.
                Dialect::Postgres => {
                    let none = column.kind.stand_in();
                    format!("(t.{name} IS NULL) = (n.{name} IS NULL) AND coalesce(t.{name}, {none}) = coalesce(n.{name}, {none})")
                }
            }
        })
    }

    /// Parts changes, which are in order, into the rows that are there now, and the rows whose keys are gone.
    pub(super) fn sort_changes<'c>(
        &self,
        changes: impl Iterator<Item = (&'c [u8], i64)>,
        new: &mut Vec<&'c [u8]>,
        gone: &mut Vec<&'c [u8]>,
    ) {
        let key = |row: &'c [u8]| {
            let mut rest = row;
            self.table.columns.iter().take(self.key).for_each(|column| drop(take(column, &mut rest)));
            row.get(..row.len() - rest.len()).unwrap_or_default()
        };
        let mut changes = changes.peekable();
        while let Some((row, diff)) = changes.next() {
            let (mut there, mut before) = (None, None);
            if diff > 0 {
                there = Some(row)
            } else {
                before = Some(row)
            }
            while let Some((row, diff)) = changes.next_if(|(next, _)| self.key > 0 && key(next) == key(row)) {
                if diff > 0 { there = Some(row) } else { before = Some(row) }
            }
            match there {
                Some(row) => new.push(row),
                None => gone.extend(before),
            }
        }
    }
}

impl Dialect {
    fn temporary(self, name: &str) -> String {
        match self {
            Dialect::Sqlite => format!("temp.{name}"),
            Dialect::Postgres => format!("pg_temp.{name}"),
        }
    }

    fn parameter(self, place: usize) -> String {
        match self {
            Dialect::Sqlite => format!("?{place}"),
            Dialect::Postgres => format!("${place}"),
        }
    }

    fn type_name(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Dialect::Sqlite, Kind::Day | Kind::Time | Kind::Uuid | Kind::Text) | (Dialect::Postgres, Kind::Text) => "TEXT",
            (Dialect::Sqlite, Kind::Integer | Kind::Bool) => "INTEGER",
            // Without a type, SQLite keeps a value as it was given: with one of its number types, it would round 2^64 - 1.
            (Dialect::Sqlite, Kind::Id) => "",
            (Dialect::Sqlite, Kind::Float) => "REAL",
            (Dialect::Postgres, Kind::Day) => "DATE",
            (Dialect::Postgres, Kind::Time) => "TIMESTAMPTZ",
            (Dialect::Postgres, Kind::Integer) => "BIGINT",
            (Dialect::Postgres, Kind::Id) => "NUMERIC(20,0)",
            (Dialect::Postgres, Kind::Uuid) => "UUID",
            (Dialect::Postgres, Kind::Float) => "DOUBLE PRECISION",
            (Dialect::Postgres, Kind::Bool) => "BOOLEAN",
        }
    }

    /// The type as the database calls it.
    fn type_shown(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Dialect::Postgres, Kind::Time) => "timestamp with time zone",
            _ => self.type_name(kind),
        }
    }
}

impl Kind {
    /// A value that PostgreSQL compares where there is none.
    fn stand_in(self) -> &'static str {
        match self {
            Kind::Day | Kind::Time => "'epoch'",
            Kind::Integer | Kind::Id | Kind::Float => "0",
            Kind::Uuid => "'00000000-0000-0000-0000-000000000000'",
            Kind::Bool => "false",
            Kind::Text => "''",
        }
    }
}

fn joined(columns: &[RelationColumn], between: &str, text: impl FnMut(&RelationColumn) -> String) -> String {
    columns.iter().map(text).collect::<Vec<_>>().join(between)
}

/// A name in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in a statement.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
