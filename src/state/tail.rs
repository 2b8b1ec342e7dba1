//! The end of a journal, to which batches are appended: a file that grows, or in a bucket numbered objects ([`super::objects`]).

use super::StateError;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The folder of a journal.
pub const JOURNAL: &str = "journal";
/// A file of so many bytes gets no further frames.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The end of a journal.
pub trait Tail: Debug + Send {
    /// Writes frames. Where they are not taken, it is as it was before, and others may be written later.
    fn write(&mut self, frames: &[u8]) -> Result<(), StateError>;
    /// Waits until what was written is there for good. `away` is told why that takes longer than usual. After an error nothing more is
    /// written: what is there is not known, and the next who opens the journal looks.
    fn sync(&mut self, away: &mut dyn FnMut(&str)) -> Result<(), StateError>;
    /// Returns the number of the last file, to which nothing is added any more.
    fn seal(&mut self) -> Result<u64, StateError>;
    /// Whether there are so many files since the last seal that they should be folded, however small they are.
    fn is_long(&self) -> bool;
}

/// The name of a file of a journal.
pub fn file_name(number: u64) -> String {
    format!("{number:08}.log")
}

/// A file that is appended to, and synced.
#[derive(Debug)]
pub struct FileTail {
    dir: PathBuf,
    /// The number of the last file.
    segment: u64,
    file: File,
    bytes: u64,
    /// A write or a sync failed: what is on the disk is not known any more.
    failed: bool,
}

impl FileTail {
    /// Opens the last file in a folder, which is there, at its end. An end that is `torn` is cut off.
    pub fn open(dir: &Path, segment: u64, torn: Option<u64>) -> Result<FileTail, StateError> {
        if let Some(whole) = torn {
            let path = dir.join(file_name(segment));
            let file = OpenOptions::new().write(true).open(&path).map_err(StateError::io("open", &path))?;
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(StateError::io("cut", &path))?;
        }
        let (file, bytes) = begin(dir, segment)?;
        Ok(FileTail { dir: dir.into(), segment, file, bytes, failed: false })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(file_name(self.segment))
    }
}

impl Tail for FileTail {
    fn write(&mut self, frames: &[u8]) -> Result<(), StateError> {
        let path = self.path();
        if self.failed {
            return Err(StateError::Unsynced { path, cause: io::Error::other("a write before it failed") });
        }
        if let Err(cause) = self.file.write_all(frames) {
            let cut = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
            self.failed = cut.is_err();
            return Err(match cut {
                Ok(_) => StateError::Io { what: "write", path, cause },
                Err(_) => StateError::Unsynced { path, cause },
            });
        }
        self.bytes += frames.len() as u64;
        Ok(())
    }

    fn sync(&mut self, _: &mut dyn FnMut(&str)) -> Result<(), StateError> {
        let failed = |cause| StateError::Unsynced { path: self.path(), cause };
        if self.failed {
            return Err(failed(io::Error::other("a write before it failed")));
        }
        if let Err(cause) = self.file.sync_data() {
            self.failed = true;
            return Err(StateError::Unsynced { path: self.path(), cause });
        }
        if self.bytes >= SEGMENT_BYTES {
            self.seal()?;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<u64, StateError> {
        let sealed = self.segment;
        (self.file, self.bytes) = begin(&self.dir, sealed + 1)?;
        self.segment = sealed + 1;
        Ok(sealed)
    }

    fn is_long(&self) -> bool {
        false
    }
}

/// Opens a file of the journal at its end; it and its name are on the disk.
fn begin(dir: &Path, segment: u64) -> Result<(File, u64), StateError> {
    let path = dir.join(file_name(segment));
    let begin = || {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let bytes = file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok((file, bytes))
    };
    begin().map_err(StateError::io("open", &path))
}
