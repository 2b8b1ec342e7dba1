//! The folder of this machine that belongs to a state in a bucket: tables, points, and copies of files that were delivered.
//!
//! It names the state that it belongs to. All in it follows from that state, so whatever is lost of it is rebuilt; and what belongs to
//! another one is removed.

use super::StateError;
use super::home::has_others;
use crate::staged::Staged;
use std::io;
use std::path::Path;

/// The file that names the state that it belongs to.
const MARK: &str = "scratch";
/// What stands in it before the state's name.
const FORMAT: &str = "retally scratch 1";
/// What is in it besides.
const CONTENT: [&str; 6] = ["tables.sqlite", "tables.sqlite-wal", "tables.sqlite-shm", "points", "blobs", "webhooks"];

/// Takes a folder, which is there and locked, as that of the state of this name. Returns whether it was that of another one, of which
/// nothing is left. An error where it is no such folder.
pub fn take(dir: &Path, id: &str) -> Result<bool, StateError> {
    let path = dir.join(MARK);
    let mark = format!("{FORMAT}\n{id}\n");
    let is_other = match std::fs::read_to_string(&path) {
        Ok(found) if found == mark => return Ok(false),
        Ok(found) if found.starts_with("retally scratch ") => true,
        Ok(_) => return Err(StateError::NoScratch(dir.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !has_others(dir)? => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::NoScratch(dir.into())),
        Err(error) => return Err(StateError::io("read", &path)(error)),
    };
    for name in CONTENT {
        let path = dir.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StateError::io("remove", &path)(error)),
            _ => {}
        }
    }
    let staged = Staged::of(&path, mark.as_bytes()).and_then(Staged::publish);
    staged.map_err(StateError::io("write", &path))?;
    Ok(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_state_and_what_is_of_another_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let lay = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        lay("lock");
        assert!(!take(dir.path(), "a").unwrap());
        lay("tables.sqlite");
        std::fs::create_dir(dir.path().join("blobs")).unwrap();
        lay("blobs/x");
        assert!(!take(dir.path(), "a").unwrap());
        assert!(dir.path().join("tables.sqlite").exists());
        assert!(take(dir.path(), "b").unwrap());
        assert!(!dir.path().join("tables.sqlite").exists() && !dir.path().join("blobs").exists());
        assert!(!take(dir.path(), "b").unwrap());
        // A folder of something else is left alone.
        std::fs::remove_file(dir.path().join(MARK)).unwrap();
        lay("letters.txt");
        assert!(matches!(take(dir.path(), "b"), Err(StateError::NoScratch(_))));
        assert!(dir.path().join("letters.txt").exists());
    }
}
