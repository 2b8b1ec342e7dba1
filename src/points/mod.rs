//! Where points go: the destinations of `--points`.
//!
//! A destination is opened once in each process, and gives each worker a writer. A writer makes bytes of points on its worker, and hands
//! them to a thread of the process that writes them ([`queue`]); the [`store`] gets points as they are. To add a destination: a variant of
//! [`Destination`], a line where it is parsed, and one where it is opened.

pub mod file;
pub mod http;
mod in_order;
pub mod line_protocol;
pub mod queue;
pub mod relay;
pub mod staged;
pub mod store;

use crate::shown;
use crate::staged::why;
use http::url::Target;
use line_protocol::Replaced;
use retally_core::points::{Nowhere, Points};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use store::StoreError;
use store::outlet::OpenStore;

/// Where points go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: they are not made.
    #[default]
    Nowhere,
    /// A file of line protocol.
    File(PathBuf),
    /// A server that takes line protocol.
    Http(Target),
    /// The embedded store in a folder.
    Store(PathBuf),
    /// One that this process has open.
    OpenStore(OpenStore),
}

/// An open destination.
pub trait Outlet: Send {
    /// For the workers.
    fn points(&self) -> Arc<dyn Points>;

    /// Ends it, once all writers have flushed. Returns what the destination refused for good.
    fn finish(self: Box<Self>) -> Result<Dropped, PointsError>;
}

/// What a destination did not take as it was, while it took others: points that it refused, and tags that it has no form for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many points it refused.
    pub points: u64,
    /// The first of them, and why.
    pub first: Option<String>,
    /// Points that were written with other tags than they have.
    pub replaced: Replaced,
}

impl Dropped {
    /// Counts some more.
    fn add(&mut self, points: u64, why: impl FnOnce() -> String) {
        self.points += points;
        self.first.get_or_insert_with(why);
    }

    /// Counts what another thread or process has counted.
    pub(crate) fn join(&mut self, other: Dropped) {
        self.points += other.points;
        self.first = self.first.take().or(other.first);
        self.replaced.join(other.replaced);
    }
}

/// Why points could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PointsError {
    /// The text names no destination.
    #[error("--points {:?} is no destination", shown::location(_0))]
    Unknown(String),
    /// The text is a URL that is none, and may have a password in it.
    #[error("the URL of --points is no destination: {0}")]
    BadUrl(&'static str),
    /// The server's certificate can't be checked: install those of authorities (Debian's package `ca-certificates`).
    #[error("could not open {0:?} for points: this machine has no certificates of authorities")]
    NoCertificates(String),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A destination can't be opened: look at its path, and at who may write there.
    #[error("could not open {name:?} for points: {}", why(source))]
    NotOpened {
        /// The destination.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Several processes would write to a device or a pipe: give a file.
    #[error("several processes can't write points to {0:?}: it is no regular file")]
    NoFile(String),
    /// What another process wrote can't be brought together.
    #[error("could not collect points from {name:?}: {}", why(source))]
    Collect {
        /// The part of that process.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The complete file could not be given its name.
    #[error("could not put the complete points in place at {name:?}: {}", why(source))]
    Publish {
        /// What it was to become.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Points could not be written for good. What a server or a store took before is there.
    #[error("{0}")]
    Write(String),
}

impl FromStr for Destination {
    type Err = PointsError;

    fn from_str(text: &str) -> Result<Destination, PointsError> {
        // A URL would become the names of folders, with whatever secret is in it.
        let is_path = |path: &str| !path.is_empty() && !path.contains("://") && !shown::has_secret(path);
        match text.split_once(':') {
            Some(("file", path)) if is_path(path) => Ok(Destination::File(path.strip_prefix("//").unwrap_or(path).into())),
            Some(("store", path)) if is_path(path) => Ok(Destination::Store(path.strip_prefix("//").unwrap_or(path).into())),
            Some(("http" | "https", _)) => Target::parse(text).map(Destination::Http).map_err(PointsError::BadUrl),
            _ => Err(PointsError::Unknown(text.into())),
        }
    }
}

impl Destination {
    /// What processes must agree on, without secrets: which kind of destination it is, and which server. Whether processes see the same
    /// file is proven in another way ([`staged`]).
    pub fn agreement(&self) -> String {
        match self {
            Destination::Nowhere => "nowhere".into(),
            Destination::File(_) => "file".into(),
            Destination::Http(target) => target.agreement(),
            Destination::Store(_) | Destination::OpenStore(_) => "store".into(),
        }
    }

    /// Whether it is a store, which one process writes.
    pub fn is_store(&self) -> bool {
        matches!(self, Destination::Store(_) | Destination::OpenStore(_))
    }

    /// Opens it, in the process of this number. Process 0 makes it new; it must do so before others write.
    pub fn open(&self, process: usize) -> Result<Box<dyn Outlet>, PointsError> {
        match self {
            Destination::Nowhere => Ok(Box::new(Nothing)),
            Destination::File(path) => Ok(Box::new(file::open(path, process)?)),
            Destination::Http(target) => Ok(Box::new(http::open(target, http::Patience::default())?)),
            Destination::Store(path) => Ok(Box::new(store::outlet::open(path)?)),
            Destination::OpenStore(store) => Ok(Box::new(store.outlet())),
        }
    }
}

/// The destination of points that nobody wants.
struct Nothing;

impl Outlet for Nothing {
    fn points(&self) -> Arc<dyn Points> {
        Arc::new(Nowhere)
    }

    fn finish(self: Box<Self>) -> Result<Dropped, PointsError> {
        Ok(Dropped::default())
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
        assert_eq!(parse("store:a/b"), Ok(Destination::Store("a/b".into())));
        for url in ["http://localhost:8428", "https://u:p@x/api/v2/write?org=o&bucket=b"] {
            assert_eq!(parse(url), Ok(Destination::Http(Target::parse(url).unwrap())));
        }
        assert_eq!(parse("http://u:secret@"), Err("the URL of --points is no destination: it is no URL".into()));
        for text in ["", "file:", "store:", "points.lp", "ftp://x"] {
            assert_eq!(parse(text), Err(format!("--points {text:?} is no destination")));
        }
    }
}
