//! Where a state is: in a folder, or below a prefix of a bucket with a scratch folder on this machine.

use super::MEETING;
use super::bucket::Bucket;
use super::shelf::{Folder, Shelf, text};
use super::{FORMAT, StateError};
use crate::ingest::remote::Prefix;
use crate::staged::is_temporary;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In a folder.
    Folder(PathBuf),
    /// Below a prefix of a bucket.
    Bucket {
        /// `s3://BUCKET/PREFIX`.
        url: String,
        /// Where tables, points and copies of files are. All of it can be rebuilt.
        scratch: PathBuf,
    },
}

impl Home {
    /// Whether a text names a bucket.
    pub fn is_bucket(text: &str) -> bool {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.is_some_and(|scheme| scheme == "s3" || scheme == "s3a")
    }

    /// The folder of this machine in which tables and points are.
    pub fn local(&self) -> &Path {
        match self {
            Home::Folder(dir) => dir,
            Home::Bucket { scratch, .. } => scratch,
        }
    }

    /// Where it is, as it is shown.
    pub fn path(&self) -> PathBuf {
        match self {
            Home::Folder(dir) => dir.clone(),
            Home::Bucket { url, .. } => url.into(),
        }
    }

    pub(super) fn shelf(&self) -> Result<Arc<dyn Shelf>, StateError> {
        Ok(match self {
            Home::Folder(dir) => Arc::new(Folder::new(dir)),
            Home::Bucket { url, scratch } => {
                let prefix = Prefix::new(url).map_err(StateError::io("open", Path::new(url)))?;
                Arc::new(Bucket::new(prefix, scratch))
            }
        })
    }

    /// Whether there is a state; an error where there is something else.
    pub(super) fn check_format(&self, shelf: &dyn Shelf) -> Result<bool, StateError> {
        let others = match text(shelf, "format")? {
            Some(found) if found == FORMAT => return Ok(true),
            Some(found) => {
                let found = found.trim().chars().take(40).collect();
                return Err(StateError::Format { dir: self.path(), found, expected: FORMAT.trim() });
            }
            None => match self {
                Home::Folder(dir) => has_others(dir)?,
                Home::Bucket { .. } => !shelf.list("").map_err(StateError::io("list", &self.path()))?.is_empty(),
            },
        };
        if others { Err(StateError::NoState(self.path())) } else { Ok(false) }
    }
}

/// Whether a folder holds more than what a process leaves that was killed while it began to use it.
pub(super) fn has_others(dir: &Path) -> Result<bool, StateError> {
    let is_ours = |name: &std::ffi::OsStr| name == "lock" || name == MEETING || is_temporary(name);
    let entries = std::fs::read_dir(dir).map_err(StateError::io("list", dir))?;
    Ok(entries.filter_map(io::Result::ok).any(|entry| !is_ours(&entry.file_name())))
}
