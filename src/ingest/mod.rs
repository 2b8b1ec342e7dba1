//! From paths on a command line to records in the graph.
//!
//! - [`batch`] is what is delivered
//! - [`body`] unpacks and looks at what comes as bytes
//! - [`paths`] finds the files that a path means: a file, a folder, a bucket's prefix, a glob
//! - [`file`](mod@file) reads a file, wherever it is: here, or ([`remote`]) in a bucket or on a web server; [`version`] tells it from
//!   another one at the same place
//! - [`unpack`] unpacks it, [`look`] tells what it holds, with [`format`](mod@format) and [`header`], and [`quotes`] or [`cuts`] whether it
//!   can be cut
//! - [`within`] tells headers among the lines of a file
//! - [`plan`] looks at the beginning of each file and cuts a batch into splits
//! - [`read`] opens splits on the workers; [`lexer`], with [`csv`] and [`json`], cuts bytes into records
//! - [`jobs`] finds datasets, and [`streams`] opens what they are made of
//! - [`archive`] reads the files of an archive, which [`members`] takes out of it
//! - [`messages`] tells which messages of a live source the lines of a body are
//! - [`rejected`] keeps what was refused
//!
//! A module uses only those that stand above it in this order: `batch`, `blocks`, `version`, `remote`, `file`, `pipes`, `nearest`,
//! `unpack`, `names`, `within`, `csv`, `json`, `lexer`, `format`, `header`, `wide`, `look`, `quotes`, `cuts`, `parquet/`, `paths`,
//! `streams`, `members`, `archive`, `jobs`, `body`, `read`, `messages`, `plan`, `overlap`, `rejected`.

pub mod archive;
pub mod batch;
pub mod blocks;
pub mod body;
pub mod check;
pub mod csv;
pub mod cuts;
pub mod file;
pub mod format;
pub mod header;
pub mod jobs;
mod json;
mod lexer;
pub(crate) mod look;
mod members;
pub mod messages;
mod names;
pub mod nearest;
pub mod overlap;

pub mod parquet;
pub mod paths;
mod pipes;
pub mod plan;
mod quotes;
pub mod read;
pub mod rejected;
pub mod remote;
#[cfg(test)]
mod sample;
pub mod streams;
pub mod unpack;
pub mod version;
mod wide;
mod within;

use crate::failure::{self, Kind};
use crate::shown::location;
use retally_core::split::SplitError;
use std::io::{self, ErrorKind};
use unpack::Broken;
use version::Changed;

/// A record longer than this is refused: 64 MiB.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Large files are cut into splits of this size: 4 MiB.
pub const SPLIT_BYTES: u64 = 4 << 20;

/// Why input could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A path names nothing that is read.
    #[error("found no file for {:?}{}", location(path), passed(passed_over))]
    NotFound {
        /// As given.
        path: String,
        /// Files that are there, and whose names do not say that they are input.
        passed_over: Vec<String>,
    },
    /// An archive has files, and none that is read.
    #[error("found no file in {:?}{}", location(path), passed(passed_over))]
    NoMember {
        /// The archive.
        path: String,
        /// The files in it.
        passed_over: Vec<String>,
    },
    /// A folder holds no datasets.
    #[error("found no dataset below {:?}: its folder holds {expected}", location(path))]
    NoDatasets {
        /// As given.
        path: String,
        /// The names of a dataset's files.
        expected: String,
    },
    /// A glob can't be read.
    #[error("could not read {:?} as a glob: {why}", location(path))]
    BadGlob {
        /// As given.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file's name does not say what is in it.
    #[error("could not tell the format of {:?}: names end in {expected}", location(path))]
    UnknownFormat {
        /// The file.
        path: String,
        /// The endings that are read.
        expected: &'static str,
    },
    /// A URL of a kind that is not read.
    #[error("could not read {:?}: URLs of input are s3://BUCKET/KEY and file:///PATH", location(path))]
    UnsupportedUrl {
        /// As given.
        path: String,
    },
    /// Bytes that can't be unpacked, are cut off, or would be too large. Nothing of them has been used.
    #[error("could not unpack {name:?}: {why}")]
    Body {
        /// What they are called.
        name: String,
        /// What is wrong with them.
        why: String,
    },
    /// A file's first bytes are the mark of something that its name does not say.
    #[error("could not read {:?}: it holds {found}", location(path))]
    OtherContent {
        /// The file.
        path: String,
        /// What it holds.
        found: String,
    },
    /// The header of a CSV file can't be used, or the lack of one.
    #[error("could not use the header of {:?}: {why}{}{columns}", location(path), if columns.is_empty() { "" } else { "; its columns are " })]
    Header {
        /// The file.
        path: String,
        /// Why not.
        why: String,
        /// The columns that are there.
        columns: String,
        /// What to do about it, where that can be said.
        hint: String,
    },
    /// A file that is no CSV, where files have a column for each name.
    #[error("could not read {path:?} with a column for each name: only CSV is read so")]
    NotWide {
        /// The file.
        path: String,
    },
    /// Some files of an input have a header, and others have none.
    #[error("could not tell the columns of {:?}: it has no header, and {:?} has one", location(without), location(with))]
    MixedHeaders {
        /// A file with a header.
        with: String,
        /// A file without.
        without: String,
    },
    /// A file has no header, and one of an earlier batch has one.
    #[error(
        "could not tell the columns of {:?}: it has no header, and {:?} of an earlier batch has one in another order than the fields",
        location(without),
        location(with)
    )]
    HeaderBefore {
        /// The file of the earlier batch.
        with: String,
        /// The file without.
        without: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file has a header in its middle, with other columns than its own.
    #[error("could not use {:?}: line {line} is a second header, with other columns than {}", location(path), own(*own_line))]
    SecondHeader {
        /// The file.
        path: String,
        /// Where it stands, from 1.
        line: u64,
        /// Where the file's own header ends, from 1; 0 where it has none.
        own_line: u64,
    },
    /// A file can't be opened or read.
    #[error("could not {what} {:?}: {}", location(path), failure::words(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// So many files that were passed over are named.
const PASSED_OVER_SHOWN_MAX: usize = 3;

/// What was passed over where nothing else is there, as the end of a message.
fn passed(over: &[String]) -> String {
    let shown: Vec<String> = over.iter().take(PASSED_OVER_SHOWN_MAX).map(|name| format!("{:?}", location(name))).collect();
    let more = over.len() - shown.len();
    match (shown.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(" whose name says what it holds: passed over {}", shown.join(", ")),
        (false, _) => format!(" whose name says what it holds: passed over {} and {more} more", shown.join(", ")),
    }
}

/// A file's own header, by its line.
fn own(line: u64) -> String {
    if line == 0 { "the file, which begins without one".into() } else { format!("the one in line {line}") }
}

/// The error of a split that could not be read: what was tried, and why it failed.
fn could_not(what: &str, why: &io::Error) -> SplitError {
    let hint = Changed::of(why).map(Changed::hint).or(Broken::of(why).map(Broken::hint)).or(failure::hint(why));
    SplitError { message: format!("could not {what}: {}", failure::words(why)), hint: hint.map(String::from) }
}

/// Where files are looked at while they are read.
impl From<IngestError> for io::Error {
    fn from(error: IngestError) -> io::Error {
        match error {
            IngestError::Io { source, .. } => source,
            other => io::Error::new(ErrorKind::InvalidData, other),
        }
    }
}

impl IngestError {
    /// What to do about it, where more can be said than that.
    pub fn hint(&self) -> Option<&str> {
        match self {
            IngestError::Header { hint, .. } if !hint.is_empty() => Some(hint),
            IngestError::MixedHeaders { .. } => Some(header::FIRST_HEADER_HINT),
            IngestError::HeaderBefore { hint, .. } => Some(hint),
            IngestError::SecondHeader { .. } => Some("nothing was written; give the files by themselves: a folder, or several INPUT=PATH"),
            IngestError::NotFound { passed_over, .. } if !passed_over.is_empty() => {
                Some("give files an ending that says it (.csv, .jsonl); or give each by itself, with --input-format")
            }
            IngestError::NoMember { .. } => Some("nothing was written; give files an ending that says what they hold (.csv, .jsonl)"),
            IngestError::NotFound { path, .. } if path.contains(['*', '?', '[', '{']) => {
                Some("check the path: no name matches; * stays within a folder, and ** goes into those below")
            }
            IngestError::UnknownFormat { .. } => Some("--input-format csv or json says what it holds"),
            // What it holds says what to do.
            IngestError::OtherContent { found, .. } if found.contains("--encoding") => None,
            IngestError::OtherContent { .. } => Some("give it a name that says what it holds"),
            _ => None,
        }
    }

    /// What can be done about it. A file that is not there, may not be read, or holds what it should not is wrong; other failures of
    /// reading may pass.
    pub fn kind(&self) -> Kind {
        match self {
            IngestError::Io { source, .. } => match source.kind() {
                ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidData
                | ErrorKind::UnexpectedEof
                | ErrorKind::IsADirectory
                | ErrorKind::Unsupported => Kind::BadInput,
                _ => Kind::TryAgain,
            },
            IngestError::NotFound { .. }
            | IngestError::NoDatasets { .. }
            | IngestError::BadGlob { .. }
            | IngestError::UnknownFormat { .. }
            | IngestError::UnsupportedUrl { .. }
            | IngestError::Body { .. }
            | IngestError::OtherContent { .. }
            | IngestError::Header { .. }
            | IngestError::NotWide { .. }
            | IngestError::NoMember { .. }
            | IngestError::HeaderBefore { .. }
            | IngestError::SecondHeader { .. }
            | IngestError::MixedHeaders { .. } => Kind::BadInput,
        }
    }
}
