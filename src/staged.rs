//! A file that appears complete or not at all.
//!
//! It is written under a temporary name in its own directory, synced, and then renamed: whoever opens the final name
//! sees the old file or the new one. Dropped before that, it leaves nothing behind.
//!
//! # Limits
//! A process that is killed in between leaves the temporary file (`.tmp…`), which nothing reads.

use std::fs::{File, Permissions};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file on its way.
#[derive(Debug)]
pub(crate) struct Staged {
    file: NamedTempFile,
    path: PathBuf,
}

impl Staged {
    /// A new, empty file that is to become `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Staged> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut builder = tempfile::Builder::new();
        let file = builder.permissions(readable()).tempfile_in(parent(path))?;
        Ok(Staged { file, path: path.into() })
    }

    /// Where it is written.
    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// What it is to become.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the disk has what was written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.as_file().sync_all()
    }

    /// Gives it its name, instead of a file that has it.
    pub(crate) fn publish(self) -> io::Result<PathBuf> {
        self.file.persist(&self.path).map_err(|failed| failed.error)?;
        // The new name is on the disk once the directory is.
        File::open(parent(&self.path))?.sync_all()?;
        Ok(self.path)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// As of any new file, by the process's mask; a temporary file is otherwise its owner's alone.
fn readable() -> Permissions {
    use std::os::unix::fs::PermissionsExt;
    Permissions::from_mode(0o666)
}

/// Why an operation failed, as it ends an error's text.
pub(crate) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "no space is left on the disk".into(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "a file stands where a directory is needed".into(),
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::IsADirectory => "it is a directory".into(),
        // The kind of a system's error says all there is, where it has one; its own text ends in a number.
        kind if error.raw_os_error().is_some() && format!("{kind:?}") != "Uncategorized" => kind.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_appears_when_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.csv");
        std::fs::write(&path, "old").unwrap();
        let mut staged = Staged::create(&path).unwrap();
        staged.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(staged.publish().unwrap(), path);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        drop(Staged::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of a file that was given up");
    }

    #[test]
    fn files_are_as_readable_as_any() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        Staged::create(&ours).unwrap().publish().unwrap();
        File::create(&other).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&other));
    }

    #[test]
    fn reasons_are_words() {
        let of = |kind: io::ErrorKind| why(&kind.into());
        assert_eq!(of(io::ErrorKind::IsADirectory), "it is a directory");
        assert_eq!(why(&File::open("/no/such/file").unwrap_err()), "no such file or directory");
        assert_eq!(why(&io::Error::from_raw_os_error(28)), "no space is left on the disk");
        assert_eq!(why(&io::Error::other("the disk hums")), "the disk hums");
    }
}
