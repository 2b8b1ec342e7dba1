//! Where points go: the destinations of `--points`.
//!
//! A destination is opened once in each process, and gives each worker a writer. A writer makes bytes of points on its worker, and hands
//! them to the process's one thread that writes them ([`queue`]). To add a destination: a variant of [`Destination`],
//! a line where it is parsed, and one where it is opened.

pub mod file;
pub mod line_protocol;
pub mod queue;

use retally_core::points::{Nowhere, Points};
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where points go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: they are not made.
    #[default]
    Nowhere,
    /// A file of line protocol.
    File(PathBuf),
}

/// An open destination.
pub trait Outlet {
    /// For the workers.
    fn points(&self) -> Arc<dyn Points>;

    /// Ends it, once all writers have settled.
    fn finish(self: Box<Self>) -> Result<(), PointsError>;
}

/// Why points could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PointsError {
    /// The text names no destination.
    #[error("--points {0:?} is no destination")]
    Unknown(String),
    /// A destination that is not there yet.
    #[error("--points {0:?} is not supported yet")]
    NotYet(String),
    /// A destination can't be opened: look at its path, and at who may write there.
    #[error("could not open {name:?} for points: {source}")]
    Open {
        /// The destination.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Points could not be written for good. What was written before is there.
    #[error("{0}")]
    Write(String),
}

impl FromStr for Destination {
    type Err = PointsError;

    fn from_str(text: &str) -> Result<Destination, PointsError> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Destination::File(path.strip_prefix("//").unwrap_or(path).into())),
            Some(("http" | "https" | "store", _)) => Err(PointsError::NotYet(text.into())),
            _ => Err(PointsError::Unknown(text.into())),
        }
    }
}

impl Destination {
    /// Opens it, in the process of this number. Process 0 makes it new; it must do so before others write.
    pub fn open(&self, process: usize) -> Result<Box<dyn Outlet>, PointsError> {
        match self {
            Destination::Nowhere => Ok(Box::new(Nothing)),
            Destination::File(path) => Ok(Box::new(file::open(path, process)?)),
        }
    }
}

/// The destination of points that nobody wants.
struct Nothing;

impl Outlet for Nothing {
    fn points(&self) -> Arc<dyn Points> {
        Arc::new(Nowhere)
    }

    fn finish(self: Box<Self>) -> Result<(), PointsError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_apart_by_what_is_before_the_colon() {
        let parse = |text: &str| text.parse::<Destination>().map_err(|error| error.to_string());
        assert_eq!(parse("file:a/b.lp"), Ok(Destination::File("a/b.lp".into())));
        assert_eq!(parse("file:///a/b.lp"), Ok(Destination::File("/a/b.lp".into())));
        assert_eq!(parse("file:/dev/null"), Ok(Destination::File("/dev/null".into())));
        for text in ["http://localhost:8428", "https://x", "store:points"] {
            assert_eq!(parse(text), Err(format!("--points {text:?} is not supported yet")));
        }
        for text in ["", "file:", "points.lp", "ftp://x"] {
            assert_eq!(parse(text), Err(format!("--points {text:?} is no destination")));
        }
    }
}
