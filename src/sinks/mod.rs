//! Where complete tables go.
//!
//! A [`Sink`] is a place that holds tables: a directory of files, or a database. Whatever the place, a reader never sees half a table.
//! [`Destination`] is what a user calls it.

mod cells;
pub mod change_log;
pub mod changes;
mod compare;
mod copy;
mod csv;
mod destination;
mod directory;
mod json;
mod lines;
pub mod live;
mod manifest;
mod parquet;
mod postgres;
mod relation;
mod relational;
mod server;
mod server_error;
mod sqlite;
mod tls;

pub use changes::ChangesWriter;
pub use compare::Deviation;
pub use destination::{Destination, UnknownDestination};
pub use directory::Directory;
pub(crate) use manifest::NAME as MANIFEST;
pub use postgres::Postgres;
pub use relational::Reached;
pub use sqlite::Sqlite;

use crate::failure::{self, Outcome};
use crate::points::PointsError;
use crate::points::staged::StagedPoints;
use crate::staged::why;
use crate::tables::TableState;
use relational::Difference;
use retally_core::Epoch;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// A place that holds tables. Databases keep their connection between calls, and open it again when it was lost.
pub trait Sink: Send {
    /// What the place has been brought to for a dataflow. Nothing where it never was, or, as a folder of files, does not keep that.
    fn reached(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError>;

    /// Brings what is there of these tables to their rows, and leaves other tables alone. Returns for each where it is now, or what was
    /// done to it, in words for a summary.
    fn bring(&mut self, tables: &[&TableState], reached: &Reached, deletions: Deletions) -> Result<Vec<String>, SinkError>;

    /// Applies changes to tables that were brought to the first of `reached`, which brings them to the second: those of one epoch, or of
    /// several that follow one another, consolidated. What is there is looked at first, so changes that come twice are applied once.
    fn apply(&mut self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&Reached; 2]) -> Result<Applied, SinkError>;

    /// Compares what is there of a dataflow's tables with their rows, and changes nothing. Nothing, where it was never brought to any.
    fn compare(&mut self, tables: &[&TableState], dataflow: &str) -> Result<Option<Held>, SinkError>;

    /// Refuses to write some tables of a dataflow where those that are left out were computed with other settings, if the place keeps that.
    fn check_left_out(&mut self, _left_out: &[Table], _dataflow: &str, _fingerprint: &str) -> Result<(), SinkError> {
        Ok(())
    }

    /// Takes points that belong into the same folder as the tables: [`Sink::bring`] brings both to their places. Gives other points back.
    fn take_points(&mut self, points: StagedPoints) -> Option<StagedPoints> {
        Some(points)
    }

    /// What is to be told of the place besides: that it was repaired, or is not whole. Each is told once.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What a place was found to hold of a dataflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it has been brought to.
    pub epoch: Epoch,
    /// Of each table.
    pub deviations: Vec<Deviation>,
}

/// How much of a table in a database may be deleted when it is brought to other rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletions {
    /// Up to [`DELETED_MAX`] rows, or half of them. More is refused: somebody who gives the files of two days does not mean that all other
    /// days never were.
    Guarded,
    /// Any number.
    Any,
}

/// So many rows of a table may always be deleted.
pub const DELETED_MAX: u64 = 100;

/// What became of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// They are there now.
    Done,
    /// The place had been brought there before.
    Already,
    /// The place does not hold tables that changes could be applied to: it must be brought to all rows with [`Sink::bring`].
    MustBring,
}

/// What was done to each table of a database, in words.
fn differences(tables: &[&TableState], differences: &[Difference], place: &str) -> Vec<String> {
    let count = |number| indicatif::HumanCount(number).to_string();
    let line = |(state, difference): (&&TableState, &Difference)| {
        let Difference { inserted, updated, deleted } = *difference;
        let rows = format!("{} inserted, {} updated, {} deleted", count(inserted), count(updated), count(deleted));
        format!("{} to {place}: {rows}", state.table().name)
    };
    tables.iter().zip(differences).map(line).collect()
}

/// How a file holds a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    #[default]
    Csv,
    /// The same, where no text is what a spreadsheet would run.
    CsvSafe,
    /// A JSON object a line.
    Json,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// All that have a name, the default first.
    pub const ALL: [Format; 3] = [Format::Csv, Format::Json, Format::Parquet];

    /// The format of this name, which is that of its extension.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.extension() == name)
    }

    fn write(self, table: &TableState, out: &mut (impl Write + Send)) -> io::Result<()> {
        match self {
            Format::Csv => csv::write(table, out),
            Format::CsvSafe => csv::write_safe(table, out),
            Format::Json => json::write(table, out),
            Format::Parquet => parquet::write(table, out),
        }
    }

    /// What file names end in.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv | Format::CsvSafe => "csv",
            Format::Json => "json",
            Format::Parquet => "parquet",
        }
    }
}

/// A table as the bytes of a Parquet file.
pub fn parquet(state: &TableState) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    parquet::write(state, &mut file)?;
    Ok(file)
}

/// Why tables were not written. Until the last of them is complete, nothing is replaced.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The directory could not be created: look at its path, and at who may write there.
    #[error("could not create directory {path:?}: {}", why(cause))]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
    /// A table could not be written, for lack of space or permission. Nothing is left of it.
    #[error("could not write table {path:?}: {}", why(cause))]
    Write {
        /// The file that it was to become.
        path: PathBuf,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
    /// A table that was written could not be read again.
    #[error("could not read table {path:?}: {}", why(cause))]
    Read {
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
    /// A complete table could not be given its name. Tables before it in the list are new, those from it on are old; `retally.json` names
    /// them all as pending.
    #[error("could not put the complete table in place at {path:?}: {}", why(cause))]
    Publish {
        /// The file that it was to become.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// The points in the folder of the tables could not be given their name. The tables are new; `retally.json` names all as pending.
    #[error(transparent)]
    Points(PointsError),
    /// Another process writes there. Nothing is written.
    #[error("could not write tables to {place:?}: {holder} is writing there")]
    InUse {
        /// The place.
        place: String,
        /// Which process, in words.
        holder: String,
    },
    /// A database could not be reached, or refused. It is as it was before.
    #[error("could not write tables to {place:?}: {why}")]
    Database {
        /// The database, without its password.
        place: String,
        /// What went wrong.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A database could not be read.
    #[error("could not read tables of {place:?}: {why}")]
    Unreadable {
        /// The database, without its password.
        place: String,
        /// What went wrong.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A server could not be reached, or was lost. Its database is as it was before.
    #[error("could not write tables to {place:?}: {why}")]
    Away {
        /// The database, without its password.
        place: String,
        /// What went wrong.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The connection broke off at the very end of a transaction. It may be there, in whole, or not at all.
    #[error("could not learn whether tables were written to {place:?}: {why}")]
    Undecided {
        /// The database, without its password.
        place: String,
        /// What went wrong.
        why: String,
    },
    /// More than half of a table's rows would be deleted. Nothing is written.
    #[error("would delete {deleted} of the {rows} rows of table {table:?} in {place:?}{span}: they are not in this input")]
    WouldDelete {
        /// The database.
        place: String,
        /// The table.
        table: String,
        /// How many rows would go.
        deleted: u64,
        /// How many are there.
        rows: u64,
        /// From when to when they are, as text after a comma, where the table knows.
        span: String,
    },
    /// After all was written, a table did not have the rows that were written. All is rolled back.
    #[error(
        "wrote {expected} rows of table {table:?} in {place:?} and found {right} of them there, and {others} others: \
         a trigger, a rule or a policy changes what is written"
    )]
    Meddled {
        /// The database.
        place: String,
        /// The table.
        table: String,
        /// How many rows it should have.
        expected: u64,
        /// How many of these it has.
        right: u64,
        /// How many others it has.
        others: u64,
    },
    /// Some tables of a dataflow were to be written, and the others were computed with other settings. Nothing is written.
    #[error("would write some tables to {place:?} with other settings (job {ours}) than those of {others} there (job {theirs})")]
    OtherSettings {
        /// The database.
        place: String,
        /// The tables that are left out.
        others: String,
        /// The fingerprint of their settings.
        theirs: String,
        /// That of the settings now.
        ours: String,
    },
    /// A table of the database is not what this program would have made. It is left alone, and nothing else is written.
    #[error("table {table:?} of {place:?} was not made by this program: {why}")]
    Foreign {
        /// The database.
        place: String,
        /// The table.
        table: String,
        /// What is different.
        why: String,
    },
}

impl SinkError {
    /// What one can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SinkError::Database { hint, .. } | SinkError::Unreadable { hint, .. } | SinkError::Away { hint, .. } => Some(hint),
            SinkError::Undecided { .. } => Some("run again: what is there is compared, and stays where it is right"),
            SinkError::WouldDelete { .. } => Some("give the files of all days, or say that these rows may go: --replace"),
            SinkError::Meddled { .. } => Some("nothing was written; drop or disable what stands on that table, or give another database"),
            SinkError::OtherSettings { .. } => {
                Some("nothing was written; give settings, mappings and as-of as before, or write all tables, or give another database")
            }
            SinkError::Foreign { .. } => Some("rename or drop that table, or give another database"),
            SinkError::InUse { .. } => Some("nothing was written; run again when it is done: its lock ends with it"),
            SinkError::Publish { .. } | SinkError::Points(_) => {
                Some("retally.json in that folder says which tables are not of one run; run again to write them all")
            }
            SinkError::CreateDirectory { cause, .. } | SinkError::Write { cause, .. } => Some(failure::hint_of_writing(cause)),
            SinkError::Read { .. } => Some("see that it is there, and that you may read it; a run writes it anew"),
        }
    }

    /// What became of the tables.
    pub fn outcome(&self) -> Outcome {
        match self {
            SinkError::Undecided { .. } | SinkError::Publish { .. } | SinkError::Points(_) => Outcome::MaybeDone,
            SinkError::CreateDirectory { .. }
            | SinkError::Write { .. }
            | SinkError::Read { .. }
            | SinkError::InUse { .. }
            | SinkError::Database { .. }
            | SinkError::Unreadable { .. }
            | SinkError::Away { .. }
            | SinkError::WouldDelete { .. }
            | SinkError::Meddled { .. }
            | SinkError::OtherSettings { .. }
            | SinkError::Foreign { .. } => Outcome::NotDone,
        }
    }

    fn too_large(place: &str, table: &str, column: &str) -> SinkError {
        let why = format!("a value of {column:?} in table {table:?} is larger than its column can hold");
        SinkError::Database { place: place.into(), why, hint: "nothing was written; write files instead" }
    }
}
