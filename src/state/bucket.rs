//! The files of a state below a prefix of a bucket.
//!
//! They are laid out as in a folder, but for two things. The journal is numbered objects ([`super::objects`]). And a blob stands in a
//! folder that has the number with which its process began, `blobs/00000007/HASH.csv.zst`, and no process relies on a blob that is there
//! unless the journal says so: one that folds the journal, and does not know that another has begun since, may remove what came before,
//! and never what the other has kept.
//!
//! Blobs are read from the scratch folder; those that are not there are fetched when the state is opened.

use super::StateError;
use super::frame::Writer;
use super::journal::{self, Read};
use super::objects::{Creating, ObjectTail, ReadTail, fenced, first_frame, shown};
use super::shelf::{EachFile, Shelf};
use super::snapshot;
use super::tail::Tail;
use crate::ingest::remote::{Created, Prefix};
use crate::lock;
use crate::staged::Staged;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The folder of blobs.
const BLOBS: &str = "blobs";
/// So many blobs are fetched at a time.
const FETCHED_AT_ONCE: usize = 8;
/// How long the bucket may be away while a process begins.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often another process may begin while this one does.
const BEGIN_TRIES: usize = 10;

/// The files of a state in a bucket.
#[derive(Debug)]
pub struct Bucket {
    prefix: Prefix,
    /// The folder of this machine in which blobs are read, and files on their way are.
    scratch: PathBuf,
    /// With what this process has begun to write.
    begun: OnceLock<Begun>,
    kept: Mutex<Kept>,
    changed: Condvar,
    /// Where blobs were when they were looked at one by one.
    listed: OnceLock<BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Begun {
    writer: String,
    number: u64,
}

/// The blobs of this process.
#[derive(Debug, Default)]
struct Kept {
    /// They are in the bucket.
    there: BTreeSet<String>,
    /// They are being removed.
    going: BTreeSet<String>,
}

impl Bucket {
    /// Those below a prefix.
    pub fn new(prefix: Prefix, scratch: &Path) -> Bucket {
        Bucket {
            prefix,
            scratch: scratch.into(),
            begun: OnceLock::new(),
            kept: Mutex::default(),
            changed: Condvar::new(),
            listed: OnceLock::new(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of an end that was torn when the server lost its power, where there is one: it is in the last object.
    fn torn(&self, number: u64) -> Result<Option<u64>, StateError> {
        let path = shown(&self.prefix, number);
        let bytes = self.prefix.get(&journal::name(number)).map_err(StateError::io("read", &path))?;
        let whole = Read::default().file(&path, &bytes)?;
        Ok((whole < bytes.len() || bytes.is_empty()).then_some((bytes.len() - whole) as u64))
    }

    /// An error where the server creates what is there already: then two processes could write, and neither would know.
    fn check_conditions(&self, number: u64, bytes: &bytes::Bytes) -> Result<(), StateError> {
        let path = shown(&self.prefix, number);
        let created = self.prefix.create(&journal::name(number), bytes.clone()).map_err(StateError::io("write", &path))?;
        match created {
            Created::Done => Err(StateError::Unconditional(self.prefix.url())),
            // Without an answer nothing is known, and nothing was promised.
            Created::Exists | Created::Unknown(_) => Ok(()),
        }
    }

    /// Where the newest of each blob is.
    fn newest(&self) -> io::Result<BTreeMap<String, String>> {
        let mut newest: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for (number, blob, name) in self.blobs()? {
            let known = newest.entry(blob).or_default();
            if number >= known.0 {
                *known = (number, name);
            }
        }
        Ok(newest.into_iter().map(|(blob, (_, name))| (blob, name)).collect())
    }

    /// All blobs: the number of the process that kept it, the blob, and its name in the bucket.
    fn blobs(&self) -> io::Result<Vec<(u64, String, String)>> {
        let listed = self.prefix.list(BLOBS)?.into_iter().filter_map(|found| {
            let (number, blob) = found.name.split_once('/')?;
            Some((number.parse().ok()?, blob.into(), format!("{BLOBS}/{}", found.name)))
        });
        Ok(listed.collect())
    }

    /// A copy of an object, which is gone when it is closed.
    fn copy(&self, name: &str) -> io::Result<File> {
        let mut file = if self.scratch.is_dir() { tempfile::tempfile_in(&self.scratch)? } else { tempfile::tempfile()? };
        self.prefix.download(name, &mut file)?;
        file.rewind()?;
        Ok(file)
    }

    fn fetch(&self, name: &str, blob: &str) -> Result<(), StateError> {
        let folder = self.scratch.join(BLOBS);
        let path = folder.join(blob);
        let mut staged = Staged::create(&folder.join("incoming")).map_err(StateError::io("write", &folder))?;
        match self.prefix.download(name, staged.file()) {
            // Whoever needs it says that it is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            fetched => fetched.map_err(StateError::io("fetch", &self.path(name)))?,
        }
        staged.sync().and_then(|()| staged.publish_as(&path)).map_err(StateError::io("write", &path))
    }
}

impl Shelf for Bucket {
    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.prefix.url()).join(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Ok(self.prefix.list(folder)?.into_iter().map(|found| found.name).collect())
    }

    fn bytes(&self, folder: &str) -> Result<u64, StateError> {
        let listed = self.prefix.list(folder).map_err(StateError::io("list", &self.path(folder)))?;
        Ok(listed.iter().map(|found| found.bytes).sum())
    }

    fn open(&self, name: &str) -> Result<File, StateError> {
        let failed = StateError::io("read", &self.path(name));
        self.copy(name).map_err(failed)
    }

    fn each(&self, names: &[String], each: EachFile<'_>) -> Result<(), StateError> {
        self.prefix.each(names, &|name, error| StateError::io("read", &self.path(name))(error), each)
    }

    fn write(&self, name: &str, fill: &mut dyn FnMut(&mut File) -> io::Result<()>) -> Result<(), StateError> {
        let mut write = || {
            let mut file = tempfile::tempfile_in(&self.scratch)?;
            fill(&mut file)?;
            file.rewind()?;
            self.prefix.upload(name, &mut file)
        };
        write().map_err(StateError::io("write", &self.path(name)))
    }

    fn create(&self, name: &str, text: &str) -> Result<(), StateError> {
        let failed = StateError::io("write", &self.path(name));
        match self.prefix.create(name, bytes::Bytes::copy_from_slice(text.as_bytes())) {
            Ok(Created::Done | Created::Exists) => Ok(()),
            Ok(Created::Unknown(error)) | Err(error) => Err(failed(error)),
        }
    }

    fn remove(&self, names: &[String]) -> Result<(), StateError> {
        // Who only reads it removes nothing.
        let (Some(first), Some(_)) = (names.first(), self.begun.get()) else { return Ok(()) };
        self.prefix.remove(names).map_err(StateError::io("remove", &self.path(first)))
    }

    fn is_bucket(&self) -> bool {
        true
    }

    fn begin(&self) -> Result<u64, StateError> {
        let writer = uuid::Uuid::new_v4().simple().to_string();
        let mut last_other = None;
        for _ in 0..BEGIN_TRIES {
            let last_object = journal::numbers(self)?.last().copied().unwrap_or(0);
            let folded = snapshot::numbers(self)?.last().copied().unwrap_or(0);
            let last = last_object.max(folded);
            let torn = if last_object > folded { self.torn(last)? } else { None };
            let first = Writer { writer: writer.clone(), begins: Some(lock::holder()), left_out: torn.map(|_| last) };
            let bytes: bytes::Bytes = first_frame(first).map_err(StateError::io("write", &shown(&self.prefix, last + 1)))?.into();
            let creating = Creating { prefix: &self.prefix, number: last + 1, writer: &writer, patience: PATIENCE };
            last_other = creating.create(&bytes, &mut |_| {}).map_err(|error| match error {
                // Nothing of a batch was to be written.
                StateError::Unsynced { path, cause } => StateError::Io { what: "write", path, cause },
                error => error,
            })?;
            if last_other.is_none() {
                self.check_conditions(last + 1, &bytes)?;
                // It is begun once.
                self.begun.set(Begun { writer, number: last + 1 }).ok();
                return Ok(torn.unwrap_or(0));
            }
        }
        Err(last_other.map_or_else(|| StateError::Missing(self.path("")), |other| fenced(&self.prefix, other)))
    }

    fn tail(&self, last: u64, _: Option<u64>, folded: u64) -> Result<Box<dyn Tail>, StateError> {
        let Some(Begun { writer, number }) = self.begun.get() else {
            return Ok(Box::new(ReadTail { path: shown(&self.prefix, last) }));
        };
        // That another process has begun since shows when the next object is written.
        Ok(Box::new(ObjectTail::new(self.prefix.clone(), writer.clone(), *number, folded)))
    }

    fn keep_blob(&self, name: &str, file: &mut File) -> Result<(), StateError> {
        let path = self.path(&format!("{BLOBS}/{name}"));
        let Some(Begun { number, .. }) = self.begun.get() else {
            return Err(StateError::Io { what: "write", path, cause: io::Error::other("the state is open to be read") });
        };
        let kept = self.kept();
        let kept = self.changed.wait_while(kept, |kept| kept.going.contains(name)).unwrap_or_else(PoisonError::into_inner);
        if kept.there.contains(name) {
            return Ok(());
        }
        drop(kept);
        let upload = file.rewind().and_then(|()| self.prefix.upload(&format!("{BLOBS}/{number:08}/{name}"), file));
        upload.map_err(StateError::io("write", &path))?;
        self.kept().there.insert(name.into());
        Ok(())
    }

    fn open_blob(&self, name: &str) -> io::Result<File> {
        let newest = match self.listed.get() {
            Some(newest) => newest,
            None => {
                let newest = self.newest()?;
                self.listed.get_or_init(|| newest)
            }
        };
        self.copy(newest.get(name).ok_or(io::ErrorKind::NotFound)?)
    }

    fn fetch_blobs(&self, names: &[&str]) -> Result<(), StateError> {
        let folder = self.scratch.join(BLOBS);
        std::fs::create_dir_all(&folder).map_err(StateError::io("create", &folder))?;
        let missing: Vec<&str> = names.iter().copied().filter(|name| !folder.join(name).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let newest = self.newest().map_err(StateError::io("list", &self.path(BLOBS)))?;
        let queue = Mutex::new(missing.into_iter().filter_map(|blob| newest.get_key_value(blob)));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let fetch = || {
            while let Some((blob, name)) = next() {
                self.fetch(name, blob)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..FETCHED_AT_ONCE).map(|_| scope.spawn(fetch)).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<(), StateError>>| {
                let failed = |_| StateError::Io { what: "fetch", path: self.path(BLOBS), cause: io::Error::other("a thread has failed") };
                thread.join().map_err(failed).flatten()
            };
            // All of them have ended before the first error is told.
            threads.into_iter().map(ended).collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn retain_blobs(&self, is_needed: &dyn Fn(&str) -> bool) -> Result<(), StateError> {
        let Some(Begun { number, .. }) = self.begun.get() else { return Ok(()) };
        let failed = StateError::io("list", &self.path(BLOBS));
        let listed = self.blobs().map_err(failed)?;
        let mut kept = self.kept();
        // Whoever began later knows what it needs.
        let removed: Vec<(String, String)> =
            listed.into_iter().filter(|(of, blob, _)| of <= number && !is_needed(blob)).map(|(_, blob, name)| (blob, name)).collect();
        for (blob, _) in &removed {
            kept.there.remove(blob);
            kept.going.insert(blob.clone());
        }
        drop(kept);
        let names: Vec<String> = removed.into_iter().map(|(_, name)| name).collect();
        let done = self.remove(&names);
        self.kept().going.clear();
        self.changed.notify_all();
        done
    }
}
