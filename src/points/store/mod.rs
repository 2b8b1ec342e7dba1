//! The embedded store: the destination `store:DIR`, and what `retally query` reads.
//!
//! A log-structured merge tree (`fjall`) of three keyspaces: measurements with their fields, series with their numbers, and [blocks](block)
//! of points, by number of the series and time of their first point. So a range of a series is one scan, whatever else is there. Blocks of
//! a series do not overlap: a point that comes late is put into the block around it, which is read, changed and written, and cut in two
//! when it gets too long ([`write`](mod@write)).
//!
//! A point is replaced as a whole by one of the same series and time. A retracted point is deleted, and a series too, at once with all its
//! points. What was flushed is synced.
//!
//! A store stays between runs: points that a run does not write remain. While nobody has it open, a [`seal`] says what its files are: what
//! a disk has changed or lost is an error. A store whose making was cut short is made again by the next run.
//!
//! # Limits
//! One process at a time, be it to read: the tree is locked. Blocks that lose points are not joined with their neighbours. The name of a
//! series, with its tags, takes [`SERIES_BYTES_MAX`] at most.

pub mod ask;
pub mod block;
mod lock;
pub mod merge;
pub mod outlet;
pub mod queue;
pub mod read;
mod seal;
pub mod series;
pub mod thinned;
pub mod write;

use crate::failure;
use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable};
use lock::{LOCK_FILE, Lock};
use seal::Seal;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
/// That file, as it is written.
const NEW_FORMAT_FILE: &str = "FORMAT.new";
/// The folder of the tree.
const TREE: &str = "tree";
/// What the tree writes last when it is made.
const TREE_MADE: &str = "version";
/// Libraries that read a tree.
const LIBRARIES: [&str; 6] = ["/fjall-", "/lsm-tree-", "/sfa-", "/byteview-", "/lz4_flex-", "/varint-rs-"];
/// The stores that this process has open.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// So many blocks are removed at once.
const CLEARED_TOGETHER: usize = 4_096;

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
    #[error("the store {dir:?} is in use by another process{}", holder.map(|holder| format!(", {holder}")).unwrap_or_default())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Its number, where that is known.
        holder: Option<u32>,
    },
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
    #[error("could not {what} the store {dir:?}: {}", failure::words(source))]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The folder.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// An open store. What is dropped last stands last: the tree, the seal, the lock.
pub struct Store {
    dir: PathBuf,
    tree: Database,
    measurements: Keyspace,
    series: Keyspace,
    blocks: Keyspace,
    seal: Seal,
    _open: Opened,
    _lock: Lock,
}

/// A store in the list of those that are open.
struct Opened(PathBuf);

impl Opened {
    fn new(dir: &Path) -> Opened {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(dir.into());
        Opened(dir.into())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).retain(|dir| *dir != self.0);
    }
}

/// The store that is damaged when a library panics at this place of its source: the libraries check most of what they read, and not all.
pub fn damaged_at(source_file: &str) -> Option<PathBuf> {
    let ours = LIBRARIES.iter().any(|library| source_file.contains(library));
    OPEN.try_lock().ok()?.last().filter(|_| ours).cloned()
}

impl Store {
    /// Opens the store in a folder, which is made where there is none. What is there of one whose making was cut short is made again.
    pub fn create(dir: &Path) -> Result<Store, StoreError> {
        let failed = |source| StoreError::Failed { what: "make", dir: dir.into(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        if format_of(dir).is_none() {
            let others = fs::read_dir(dir).map_err(failed)?.flatten();
            if others.map(|entry| entry.file_name()).any(|name| name != LOCK_FILE && name != NEW_FORMAT_FILE && name != FORMAT_FILE) {
                return Err(StoreError::NoStore(dir.into()));
            }
        } else {
            check_format(dir)?;
        }
        let lock = Lock::take(dir)?;
        if is_begun(dir) {
            make(dir).map_err(failed)?;
        }
        Store::open_tree(dir, lock)
    }

    /// Opens the store in a folder.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        check_format(dir)?;
        if is_begun(dir) {
            return Err(StoreError::NoStore(dir.into()));
        }
        Store::open_tree(dir, Lock::take(dir)?)
    }

    /// Whether whoever had it open before closed it.
    pub fn was_closed(&self) -> bool {
        self.seal.was_sealed()
    }

    /// Writes what is only in the journal into tables.
    pub fn flush(&self) -> Result<(), StoreError> {
        let keyspaces = [&self.measurements, &self.series, &self.blocks];
        keyspaces.into_iter().try_for_each(Keyspace::rotate_memtable_and_wait).map_err(self.failed("write"))
    }

    /// Removes all points of a measurement, and its series.
    pub fn clear(&self, measurement: &str) -> Result<(), StoreError> {
        let failed = |error| self.failed("write")(error);
        for series in self.series(measurement, &BTreeMap::new())? {
            let (first, last) = (block_key(series.number, i64::MIN), block_key(series.number, i64::MAX));
            let mut batch = self.tree.batch();
            for (number, entry) in self.tree.snapshot().range(&self.blocks, first..=last).enumerate() {
                batch.remove(&self.blocks, entry.key().map_err(self.failed("read"))?);
                if number % CLEARED_TOGETHER == CLEARED_TOGETHER - 1 {
                    std::mem::replace(&mut batch, self.tree.batch()).commit().map_err(failed)?;
                }
            }
            batch.remove(&self.series, series::stored_key(measurement, &series.tags));
            batch.commit().map_err(failed)?;
        }
        Ok(())
    }

    fn open_tree(dir: &Path, lock: Lock) -> Result<Store, StoreError> {
        let seal = Seal::open(dir)?;
        let tree = dir.join(TREE);
        if tree.exists() && !tree.join(TREE_MADE).exists() {
            return Err(StoreError::Damaged { dir: dir.into(), what: format!("{TREE}/{TREE_MADE} is missing") });
        }
        let open = Opened::new(dir);
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
            seal,
            _open: open,
            _lock: lock,
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

/// What the file of the format holds; `None` where it is not there, or not all of it.
fn format_of(dir: &Path) -> Option<String> {
    let text = fs::read(dir.join(FORMAT_FILE)).ok()?;
    let all = format!("{FORMAT_START}{FORMAT}\n");
    let is_part = text.len() < all.len() && all.as_bytes().starts_with(&text);
    (!is_part).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Whether a folder is a store, and of this format.
fn check_format(dir: &Path) -> Result<(), StoreError> {
    let no_store = || StoreError::NoStore(dir.into());
    match format_of(dir).ok_or_else(no_store)?.strip_prefix(FORMAT_START).map(str::trim_end) {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::OtherFormat { dir: dir.into(), found: found.into() }),
        None => Err(no_store()),
    }
}

/// Whether the making of a store was cut short: nothing can have been written to it.
fn is_begun(dir: &Path) -> bool {
    let tree = dir.join(TREE);
    let has_tables = || {
        let files = walkdir::WalkDir::new(&tree).into_iter().flatten();
        files.into_iter().any(|entry| entry.file_type().is_file() && entry.path().parent().is_some_and(|parent| parent.ends_with("tables")))
    };
    format_of(dir).is_none() || (!tree.join(TREE_MADE).exists() && !dir.join(seal::SEAL_FILE).exists() && !has_tables())
}

/// Makes a folder an empty store, but for its tree.
fn make(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir.join(TREE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let new = dir.join(NEW_FORMAT_FILE);
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{FORMAT_START}{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FORMAT_FILE))?;
    fs::File::open(dir)?.sync_all()
}

fn failure(dir: &Path, what: &'static str, error: fjall::Error) -> StoreError {
    let dir = dir.to_path_buf();
    match error {
        fjall::Error::Locked => StoreError::InUse { dir, holder: None },
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
