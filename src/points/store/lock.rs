//! Who has a store: a lock on a file in its folder, which says the number of the process.

use super::StoreError;
use crate::staged::lock;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// The file.
pub const LOCK_FILE: &str = "LOCK";
/// No number of a process is longer.
const NUMBER_BYTES_MAX: u64 = 20;

/// A lock, which goes with the process at the latest.
pub struct Lock {
    _locked: File,
}

impl Lock {
    /// Takes the store in a folder.
    pub fn take(dir: &Path) -> Result<Lock, StoreError> {
        let failed = |source| StoreError::Failed { what: "lock", dir: dir.into(), source };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(dir.join(LOCK_FILE)).map_err(failed)?;
        // Where the file system knows no locks, none is missed: the tree has one of its own.
        if !lock(&file) {
            let mut holder = String::new();
            // It may have written nothing yet.
            file.take(NUMBER_BYTES_MAX).read_to_string(&mut holder).ok();
            return Err(StoreError::InUse { dir: dir.into(), holder: holder.trim().parse().ok() });
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Lock { _locked: file })
    }
}
