//! One writer per place: a lock that names its holder, and goes with it.
//!
//! The lock is the system's, on a file beside the tables, so that it ends with the process, however that ends. What stands in the file is
//! for the one that finds it locked. Whoever has the lock removes the file when it is done; what a dead process left is taken over.
//!
//! # Limits
//! It keeps writers of this program away, and no others. Where the file system knows no locks, none is missed.

use crate::interrupt::Temporary;
use crate::staged::{is_at, lock};
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How often the file is opened again, when its holder has removed it meanwhile.
const TRIES_MAX: usize = 100;
/// Who holds a lock is said in less.
const HOLDER_BYTES_MAX: u64 = 4096;

/// A lock that is held.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    _temporary: Temporary,
}

/// Why there is none.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it: which one, in words.
    Held(String),
    /// Its file can't be opened.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock whose file is at `path`, in a folder that is there.
    pub(crate) fn take(path: &Path) -> Result<Lock, LockError> {
        for _ in 0..TRIES_MAX {
            let mut held = None;
            let made = Temporary::make(|| {
                let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
                if !lock(&file) {
                    held = Some(Holder::read(&mut file));
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok((file, path.to_path_buf()))
            });
            match (made, held) {
                (_, Some(holder)) => return Err(LockError::Held(holder)),
                (Err(error), None) => return Err(LockError::Io(error)),
                // Its holder may have removed the file before it was locked here.
                (Ok((file, temporary)), None) if is_at(&file, path) => {
                    let lock = Lock { file, path: path.into(), _temporary: temporary };
                    // Without a word about its holder it is a lock all the same.
                    Holder::current().write(&lock.file).ok();
                    return Ok(lock);
                }
                (Ok(_), None) => {}
            }
        }
        Err(LockError::Held("another process".into()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Who holds a lock.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    since: String,
    command: String,
}

impl Holder {
    fn current() -> Holder {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = Moment(i64::try_from(since.as_secs()).unwrap_or(0).saturating_mul(1_000_000)).to_string();
        Holder { pid: std::process::id(), host: host(), since, command: command(std::env::args()) }
    }

    fn write(&self, mut file: &File) -> io::Result<()> {
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    /// In words, from a file that its holder may be writing.
    fn read(file: &mut File) -> String {
        let mut text = Vec::new();
        let read = file.take(HOLDER_BYTES_MAX).read_to_end(&mut text).is_ok();
        match serde_json::from_slice::<Holder>(&text) {
            Ok(holder) if read => holder.words(),
            _ => "another process".into(),
        }
    }

    fn words(&self) -> String {
        let Holder { pid, host, since, command } = self;
        format!("process {pid} on {host:?} ({command:?}, since {since})")
    }
}

/// This process, in the words in which others are told who it is.
pub(crate) fn holder() -> String {
    Holder::current().words()
}

pub(crate) fn host() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "?".into())
}

/// What was run, without what may hold secrets: flags and all that comes after them.
fn command(mut words: impl Iterator<Item = String>) -> String {
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rest = words.take_while(|word| !word.starts_with('-') && !word.contains('='));
    [program].into_iter().chain(rest).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // What a dead process left is taken over.
        std::fs::write(&path, "{\"pid\":1,\"host\":\"gone\",\"since\":\"\",\"command\":\"\"}").unwrap();
        let first = Lock::take(&path).unwrap();
        let LockError::Held(holder) = Lock::take(&path).unwrap_err() else { panic!("no error of the system") };
        assert!(holder.starts_with(&format!("process {} on \"", std::process::id())) && holder.contains(", since 2"), "{holder}");
        drop(first);
        assert!(!path.exists());
        drop(Lock::take(&path).unwrap());
        assert!(!path.exists());
        assert!(matches!(Lock::take(&dir.path().join("no folder/lock")), Err(LockError::Io(_))));
    }

    #[test]
    fn of_a_command_nothing_is_told_that_may_be_secret() {
        let words = ["/usr/bin/retally", "run", "online", "events=https://me:secret@host/", "--out", "x"];
        assert_eq!(command(words.iter().map(ToString::to_string)), "retally run online");
        assert_eq!(command(std::iter::empty()), "");
    }
}
