//! What a dataflow declares: its inputs with their fields, its settings, and its tables.
//!
//! Parser, `--help`, sinks and tests use these declarations; [`crate::contract`] is what is built with them.

use crate::calendar::Calendar;
use crate::mapping::Mapping;
use crate::record::{Context, Field, Raw, Record, Refusal};
use crate::row::Column;
use crate::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a dataflow is called, and what it takes.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name on the command line.
    pub name: &'static str,
    /// The question it answers, in a line.
    pub about: &'static str,
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The settings, `timezone` among them. (`as-of` is there for all.)
    pub settings: Vec<Setting>,
    /// The settings of the generator.
    pub generator: Vec<Setting>,
}

/// A named stream of records.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// The fields of its records.
    pub fields: &'static [Field],
    /// Whether a run without it is refused.
    pub required: bool,
    /// What a delivery is.
    pub kind: InputKind,
    /// How the fields are called and written in the data at hand.
    pub mapping: Mapping,
    /// How its files are read.
    pub files: FileOptions,
    /// What may be said of files whose header lacks fields: what kind of file it could be, and the flag that says so.
    pub other_layout: Option<&'static str>,
    /// Reads a record as the dataflow does, and returns its time: for those who look at data before it is read.
    pub read: fn(Raw<'_>, &Context) -> Result<Option<Moment>, Refusal>,
}

impl Input {
    /// An input of records, which is required.
    pub fn records<R: Record>(name: &'static str, about: &'static str) -> Input {
        let read = |raw: Raw<'_>, context: &Context| R::decode_raw(raw, context).map(|record| record.time());
        Input {
            name,
            about,
            fields: R::FIELDS,
            required: true,
            kind: InputKind::Records,
            mapping: Mapping::default(),
            files: FileOptions::default(),
            other_layout: None,
            read,
        }
    }

    /// An input of datasets, which is required; `fields` are those of a job.
    pub fn datasets(name: &'static str, about: &'static str, fields: &'static [Field], files: &'static DatasetFiles) -> Input {
        let read = |_: Raw<'_>, _: &Context| Err("is a job and no record".into());
        Input {
            name,
            about,
            fields,
            required: true,
            kind: InputKind::Datasets(files),
            mapping: Mapping::default(),
            files: FileOptions::default(),
            other_layout: None,
            read,
        }
    }

    /// What its records are read with; local times are those of a calendar.
    pub fn context(&self, calendar: Calendar) -> Context {
        Context::mapped(calendar, self.fields, self.mapping.clone())
    }

    /// How its files become records.
    pub fn shape(&self) -> Shape {
        Shape { mapping: self.mapping.clone(), files: self.files.clone() }
    }

    /// With files of another shape.
    #[must_use]
    pub fn shaped(&self, shape: &Shape) -> Input {
        Input { mapping: shape.mapping.clone(), files: shape.files.clone(), ..self.clone() }
    }

    /// With what may be said of files whose header lacks fields.
    #[must_use]
    pub fn or_with(self, other_layout: &'static str) -> Input {
        Input { other_layout: Some(other_layout), ..self }
    }

    /// A run may do without it.
    #[must_use]
    pub fn optional(self) -> Input {
        Input { required: false, ..self }
    }
}

/// How files become records: what people say of them, and what is kept with files that are to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How the fields are called and written.
    pub mapping: Mapping,
    /// How the files are read.
    pub files: FileOptions,
}

/// How files are read, where neither their names nor their first bytes say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOptions {
    /// What files hold whose names don't say it, and what comes from a pipe.
    pub format: Option<TextFormat>,
    /// The encoding of text that has no byte order mark, by its usual name. UTF-8 otherwise.
    pub encoding: Option<String>,
    /// Whether the header of the first CSV file of an input counts for those without one.
    pub first_header: bool,
    /// So many lines are passed over at the beginning of each CSV file; of wide ones, behind the header.
    pub skip_rows: u64,
    /// Whether CSV files are wide, and what their columns are then.
    pub wide: Option<Wide>,
}

impl FileOptions {
    /// What is said of files, for people: the option as a command line has it, and its value.
    pub fn described(&self) -> impl Iterator<Item = (&'static str, String)> {
        let format = self.format.map(|format| ("input-format", format!("{format:?}").to_lowercase()));
        let encoding = self.encoding.clone().map(|encoding| ("encoding", encoding));
        let header = self.first_header.then(|| ("header", "first".into()));
        let skipped = (self.skip_rows > 0).then(|| ("skip-rows", self.skip_rows.to_string()));
        let layout = self.wide.map(|_| ("layout", "wide".into()));
        [format, encoding, header, skipped, layout].into_iter().flatten()
    }
}

/// Of a wide file, each cell is a record. The places of its fields:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wide {
    /// What the cells of a line share: a time, in a column of its own.
    pub line: usize,
    /// What the cells of a column share: the name in the header.
    pub column: usize,
    /// What stands in the cell.
    pub cell: usize,
}

/// What a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextFormat {
    /// Values between delimiters, with a header or without.
    Csv,
    /// JSON objects: by line, one after the other, or in arrays.
    Json,
}

/// What is delivered for an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Records: files of lines, or of an array.
    Records,
    /// Datasets, each with several streams that belong together and are read by one worker: a directory of them, or jobs, a JSON
    /// object a line that names them. `fields` are those of a job.
    Datasets(&'static DatasetFiles),
}

/// How a dataset lies in a directory, and what a job names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetFiles {
    /// What identifies a dataset: the names of its folders from the outermost on, and the fields of a job. A job may leave the last one
    /// out; then its `job_id` is taken.
    pub keys: &'static [&'static str],
    /// Its streams: the field of a job, and the file in the folder.
    pub streams: &'static [(&'static str, &'static str)],
}

/// A setting with its default, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: `fleet-sizes` is `--fleet-sizes`.
    pub name: &'static str,
    /// What a value looks like, in capitals.
    pub value: &'static str,
    /// The default; `None` where it may be absent.
    pub default: Option<&'static str>,
    /// What it does.
    pub about: &'static str,
}

/// A maintained result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What a row holds.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// How many columns, from the first, identify a row. With 0, none do: a row may be there more than once.
    pub key_columns: usize,
}

/// The time up to which open facts are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    /// The latest event in the data.
    #[default]
    Latest,
    /// This time; later events are left out.
    At(Moment),
    /// The machine's clock, as a service knows it; the latest event where that is later.
    Now,
}

/// The values of settings.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
    as_of: AsOf,
}

/// A setting whose value can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{name} {value:?} {why}")]
pub struct SettingError {
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

impl Settings {
    /// The defaults of `declared`.
    pub fn defaults(declared: &[Setting]) -> Settings {
        let values = declared.iter().filter_map(|setting| Some((setting.name.to_string(), setting.default?.to_string()))).collect();
        Settings { values, as_of: AsOf::Latest }
    }

    /// With this value instead.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Settings {
        self.values.insert(name.into(), value.into());
        self
    }

    /// With this as-of.
    #[must_use]
    pub fn with_as_of(mut self, as_of: AsOf) -> Settings {
        self.as_of = as_of;
        self
    }

    /// The as-of time.
    pub fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// A value as text; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// A value of any type that reads from text.
    pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, SettingError> {
        self.text(name).parse().map_err(|error: T::Err| self.error(name, format!("can't be used: {error}")))
    }

    /// The zone under `timezone`; UTC where there is no such setting.
    pub fn calendar(&self) -> Result<Calendar, SettingError> {
        match self.values.get("timezone") {
            None => Ok(Calendar::utc()),
            Some(zone) => Calendar::named(zone)
                .map_err(|_| self.error("timezone", "is neither an IANA time zone such as Europe/Berlin nor an offset such as +02:00")),
        }
    }

    /// An error about the value of `name`.
    pub fn error(&self, name: &str, why: impl Into<String>) -> SettingError {
        SettingError { name: name.into(), value: self.text(name).into(), why: why.into() }
    }
}

impl Table {
    /// A table whose rows are identified by their first `key_columns` columns.
    pub fn new(name: &'static str, about: &'static str, key_columns: usize, columns: Vec<Column>) -> Table {
        Table { name, about, columns, key_columns }
    }

    /// The table of refused records, which every dataflow has. It is about deliveries, not about the set of records.
    pub fn rejected() -> Table {
        use crate::row::ColumnType::{Text, UInt};
        let columns = vec![
            Column::new("input", Text, "the input it was delivered for"),
            Column::new("source", Text, "the file, as given"),
            Column::new("line", UInt, "from 1"),
            Column::new("reason", Text, "why it was refused"),
            Column::new("raw", Text, "its first 1,024 bytes"),
        ];
        Table::new("rejected", "records that could not be read", 0, columns)
    }

    /// The same as a service has it: with the batch, and a text that identifies the record. Neither is known of what a run has written.
    pub fn rejected_by_batch() -> Table {
        use crate::row::ColumnType::{Text, UInt};
        let mut table = Table::rejected();
        table.columns.push(Column::nullable("batch", UInt, "the batch that it came with"));
        table.columns.push(Column::nullable("id", Text, "batch, part and line: what `rejected replay` takes"));
        table
    }
}
