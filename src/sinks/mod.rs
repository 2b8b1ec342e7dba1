//! Where complete tables go.
//!
//! A [`Sink`] is a place that holds tables: today a directory of files; databases and object stores stand behind the same
//! door. Whatever the place, a reader never sees half a table.

mod cells;
pub mod changes;
mod csv;
mod directory;
mod json;
mod parquet;
pub(crate) mod staged;

pub use changes::ChangesWriter;
pub use directory::{Directory, write_directory};

use crate::engine::table::TableState;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

/// A place that holds tables.
pub trait Sink {
    /// Replaces what is there of these tables by their rows. Answers where each is now, in words for a summary.
    fn write(&mut self, tables: &[&TableState]) -> Result<Vec<String>, SinkError>;
}

/// How a file holds a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    #[default]
    Csv,
    /// A JSON object a line.
    Json,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// What file names end in.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Parquet => "parquet",
        }
    }
}

/// The text is not a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format; there are csv, json and parquet")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        let formats = [Format::Csv, Format::Json, Format::Parquet];
        formats.into_iter().find(|format| format.extension() == text).ok_or_else(|| UnknownFormat(text.into()))
    }
}

/// Why tables were not written. Until the last of them is complete, nothing is replaced.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The directory could not be created: look at its path, and at who may write there.
    #[error("could not create directory {path:?}: {}", staged::why(cause))]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// A table could not be written, for lack of space or permission. Nothing is left of it.
    #[error("could not write table {path:?}: {}", staged::why(cause))]
    Write {
        /// The file that it was to become.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// A complete table could not be given its name. Tables before it in the list are new, those from it on are old.
    #[error("could not put the complete table in place at {path:?}: {}", staged::why(cause))]
    Publish {
        /// The file that it was to become.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
}
