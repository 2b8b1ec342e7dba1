//! Where the files of a state are: a folder, or a bucket. All that is asked of either is here, and in [`super::tail`].
//!
//! Files are named by their place in the state, such as `snapshot/00000003.json.zst`.

use super::StateError;
use super::tail::{FileTail, JOURNAL, Tail};
use crate::staged::{Staged, sweep};
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A small file has no more: 4 KiB.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// What is done with each file that is read: it gets its name and what it holds.
pub type EachFile<'e> = &'e mut dyn FnMut(&str, Vec<u8>) -> Result<(), StateError>;

/// The files of a state. Any thread may use them.
pub trait Shelf: Debug + Send + Sync {
    /// A file as it is shown.
    fn path(&self, name: &str) -> PathBuf;
    /// The names of the files in a folder, in any order; an error of the kind `NotFound` where a folder of the disk is not there.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// The bytes of all files in a folder.
    fn bytes(&self, folder: &str) -> Result<u64, StateError>;
    /// Opens a file.
    fn open(&self, name: &str) -> Result<File, StateError>;
    /// Reads files whole, in this order. Few of them are in memory at a time.
    fn each(&self, names: &[String], each: EachFile<'_>) -> Result<(), StateError>;
    /// Writes a file. It is there complete, and for good, when this returns; before that it is not there.
    fn write(&self, name: &str, fill: &mut dyn FnMut(&mut File) -> io::Result<()>) -> Result<(), StateError>;
    /// Writes a small file, unless it is there; for good.
    fn create(&self, name: &str, text: &str) -> Result<(), StateError>;
    /// Removes files. One that is not there is removed.
    fn remove(&self, names: &[String]) -> Result<(), StateError>;
    /// Whether it is a bucket: no file grows, and each is there as a whole.
    fn is_bucket(&self) -> bool;
    /// Keeps others that have it open from writing, where that is not what its lock does. Returns the bytes of a torn end that is left out.
    fn begin(&self) -> Result<u64, StateError>;
    /// The end of the journal: the number of its last file, where a torn end begins in it, and the file up to which it is folded.
    fn tail(&self, last: u64, torn: Option<u64>, folded: u64) -> Result<Box<dyn Tail>, StateError>;
    /// Keeps a blob that is in a file of this machine, unless it is there already.
    fn keep_blob(&self, name: &str, file: &mut File) -> Result<(), StateError>;
    /// Opens a blob, of a bucket a copy of what is there.
    fn open_blob(&self, name: &str) -> io::Result<File>;
    /// Brings blobs to the folder of this machine in which they are read. Of those that are not there nothing is said.
    fn fetch_blobs(&self, names: &[&str]) -> Result<(), StateError>;
    /// Removes the blobs that nobody needs, but those that are in the folder of this machine.
    fn retain_blobs(&self, is_needed: &dyn Fn(&str) -> bool) -> Result<(), StateError>;
}

/// What a small file holds; nothing where there is none.
pub fn text(shelf: &dyn Shelf, name: &str) -> Result<Option<String>, StateError> {
    let mut text = String::new();
    match shelf.open(name) {
        Err(StateError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => {
            opened?.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(StateError::io("read", &shelf.path(name)))?;
            Ok(Some(text))
        }
    }
}

/// The numbers of the files in a folder whose names are a number and this ending, in order.
pub fn numbered(shelf: &dyn Shelf, folder: &str, ending: &str) -> Result<Vec<u64>, StateError> {
    let names = shelf.list(folder).map_err(StateError::io("list", &shelf.path(folder)))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(ending)?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The files of a state in a folder.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Those in this folder.
    pub fn new(dir: &Path) -> Folder {
        Folder { dir: dir.into() }
    }
}

impl Shelf for Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(self.dir.join(folder))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn bytes(&self, folder: &str) -> Result<u64, StateError> {
        let folder = self.dir.join(folder);
        let mut bytes = 0;
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            bytes += entry.and_then(|entry| entry.metadata()).map_err(StateError::io("list", &folder))?.len();
        }
        Ok(bytes)
    }

    fn open(&self, name: &str) -> Result<File, StateError> {
        let path = self.path(name);
        File::open(&path).map_err(StateError::io("open", &path))
    }

    fn each(&self, names: &[String], each: EachFile<'_>) -> Result<(), StateError> {
        for name in names {
            let path = self.path(name);
            let mut bytes = Vec::new();
            let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
            read.map_err(StateError::io("read", &path))?;
            each(name, bytes)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, fill: &mut dyn FnMut(&mut File) -> io::Result<()>) -> Result<(), StateError> {
        let path = self.path(name);
        let mut write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
                sweep(folder);
            }
            let mut staged = Staged::create(&path)?;
            fill(staged.file())?;
            staged.sync()?;
            staged.publish()
        };
        write().map_err(StateError::io("write", &path)).map(drop)
    }

    fn create(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path(name);
        if path.exists() {
            return Ok(());
        }
        let staged = Staged::of(&path, text.as_bytes()).and_then(Staged::publish);
        staged.map_err(StateError::io("write", &path)).map(drop)
    }

    fn remove(&self, names: &[String]) -> Result<(), StateError> {
        for name in names {
            let path = self.path(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StateError::io("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_bucket(&self) -> bool {
        false
    }

    fn begin(&self) -> Result<u64, StateError> {
        let journal = self.path(JOURNAL);
        std::fs::create_dir_all(&journal).map_err(StateError::io("create", &journal))?;
        Ok(0)
    }

    fn tail(&self, last: u64, torn: Option<u64>, _: u64) -> Result<Box<dyn Tail>, StateError> {
        Ok(Box::new(FileTail::open(&self.path(JOURNAL), last, torn)?))
    }

    fn keep_blob(&self, _: &str, _: &mut File) -> Result<(), StateError> {
        Ok(())
    }

    fn open_blob(&self, name: &str) -> io::Result<File> {
        File::open(self.dir.join("blobs").join(name))
    }

    fn fetch_blobs(&self, _: &[&str]) -> Result<(), StateError> {
        Ok(())
    }

    fn retain_blobs(&self, _: &dyn Fn(&str) -> bool) -> Result<(), StateError> {
        Ok(())
    }
}
