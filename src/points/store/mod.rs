//! The embedded store: the destination `store:DIR`, and what `retally query` reads.
//!
//! A log-structured merge tree (`fjall`) of three keyspaces: measurements with their fields, series with their numbers, and [blocks](block)
//! of points, by number of the series and time of their first point. So a range of a series is one scan, whatever else is there. Blocks of
//! a series do not overlap: a point that comes late is put into the block around it, which is read, changed and written, and cut in two
//! when it gets too long ([`write`](mod@write)).
//!
//! A point is replaced as a whole by one of the same series and time. A retracted point is deleted, and a series too, at once with all its
//! points. What has settled is synced.
//!
//! A store stays between runs: points that a run does not write remain.
//!
//! # Limits
//! One process at a time, be it to read: the tree is locked. Blocks that lose points are not joined with their neighbours. The name of a
//! series, with its tags, takes [`SERIES_BYTES_MAX`] at most.

pub mod block;
pub mod merge;
pub mod outlet;
pub mod read;
pub mod series;
pub mod write;

use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How long a block is that was made from many points.
pub const BLOCK_POINTS: usize = 1_024;
/// A block that grows longer is cut.
pub const BLOCK_POINTS_MAX: usize = 2 * BLOCK_POINTS;
/// How long the key of a series may be.
pub const SERIES_BYTES_MAX: usize = 60_000;

/// The file that says that a folder is a store, and of which format.
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_START: &str = "retally points, format ";
/// The format that is written. What changes the meaning of keys or blocks gets another.
const FORMAT: &str = "1";
/// The folder of the tree.
const TREE: &str = "tree";

/// Of what is read, this is kept in memory.
const CACHE_BYTES: u64 = 32 << 20;
/// Blocks are kept in memory until there is so much of them.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// The journal of blocks that are only in memory.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// What is read from a file at once: some blocks.
const PAGE_BYTES: u32 = 16 << 10;

/// Why a store can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such folder, or something else is in it: give another.
    #[error("{0:?} is no store of points")]
    NoStore(PathBuf),
    /// Another version of the program wrote it: use that, or write the points again.
    #[error("the store {dir:?} has format {found:?}, and not {FORMAT:?}")]
    OtherFormat {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: String,
    },
    /// Another process has it: wait until it is done.
    #[error("the store {0:?} is in use by another process")]
    InUse(PathBuf),
    /// A field of a measurement is of another kind in the store: write to another.
    #[error("field {field:?} of {measurement:?} is stored as {stored}, and comes as {given}")]
    OtherKind {
        /// The measurement.
        measurement: String,
        /// The field.
        field: String,
        /// How it is stored.
        stored: &'static str,
        /// How it comes.
        given: &'static str,
    },
    /// Tags are longer than the tree takes.
    #[error("a series of {measurement:?} has tags of more than {SERIES_BYTES_MAX} bytes")]
    TagsTooLong {
        /// The measurement.
        measurement: String,
    },
    /// What is stored can't be read: restore it, or write the points again.
    #[error("the store {dir:?} is damaged: {what}")]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk or the tree does not do it.
    #[error("could not {what} the store {dir:?}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The folder.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// An open store.
pub struct Store {
    dir: PathBuf,
    tree: Database,
    measurements: Keyspace,
    series: Keyspace,
    blocks: Keyspace,
}

impl Store {
    /// Opens the store in a folder, which is made where there is none.
    pub fn create(dir: &Path) -> Result<Store, StoreError> {
        let failed = |source| StoreError::Failed { what: "make", dir: dir.into(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        if fs::read_dir(dir).map_err(failed)?.next().is_none() {
            let format = dir.join(FORMAT_FILE);
            fs::write(&format, format!("{FORMAT_START}{FORMAT}\n")).map_err(failed)?;
            fs::File::open(&format).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        Store::open(dir)
    }

    /// Opens the store in a folder.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let format = fs::read_to_string(dir.join(FORMAT_FILE)).map_err(|_| StoreError::NoStore(dir.into()))?;
        match format.strip_prefix(FORMAT_START).map(str::trim_end) {
            Some(FORMAT) => {}
            Some(found) => return Err(StoreError::OtherFormat { dir: dir.into(), found: found.into() }),
            None => return Err(StoreError::NoStore(dir.into())),
        }
        let failed = |error| failure(dir, "open", error);
        let tree = Database::builder(dir.join(TREE))
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let names = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES / 4);
        // Blocks are found by ranges alone, which filters do not help.
        let blocks = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_size_policy(BlockSizePolicy::all(PAGE_BYTES))
                .filter_policy(FilterPolicy::disabled())
        };
        Ok(Store {
            dir: dir.into(),
            measurements: tree.keyspace("measurements", names).map_err(failed)?,
            series: tree.keyspace("series", names).map_err(failed)?,
            blocks: tree.keyspace("blocks", blocks).map_err(failed)?,
            tree,
        })
    }

    fn failed(&self, what: &'static str) -> impl Fn(fjall::Error) -> StoreError {
        let dir = self.dir.clone();
        move |error| failure(&dir, what, error)
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { dir: self.dir.clone(), what: what.into() }
    }
}

fn failure(dir: &Path, what: &'static str, error: fjall::Error) -> StoreError {
    let dir = dir.to_path_buf();
    match error {
        fjall::Error::Locked => StoreError::InUse(dir),
        fjall::Error::Io(source) => StoreError::Failed { what, dir, source },
        fjall::Error::Storage(fjall::LsmError::Io(source)) => StoreError::Failed { what, dir, source },
        fjall::Error::InvalidVersion(found) => {
            let found = found.map_or("unknown".into(), |version| format!("tree {version}"));
            StoreError::OtherFormat { dir, found }
        }
        other => StoreError::Damaged { dir, what: other.to_string() },
    }
}

/// The key of a block: blocks of a series are together, in the order of time.
fn block_key(series: u64, first_ns: i64) -> [u8; 16] {
    // Numbers below zero sort before others when their sign is turned around.
    let time = first_ns.cast_unsigned() ^ (1 << 63);
    (u128::from(series) << 64 | u128::from(time)).to_be_bytes()
}

/// The time in the key of a block.
fn first_of(key: &[u8]) -> Option<i64> {
    let time = u64::from_be_bytes(*key.last_chunk()?);
    Some((time ^ (1 << 63)).cast_signed())
}

#[cfg(test)]
mod tests;
