//! A file that appears complete or not at all.
//!
//! It is written under a temporary name in its own directory, synced, and then renamed: whoever opens the final name
//! sees the old file or the new one. Dropped before that, it leaves nothing behind.
//!
//! The new file has the mode of the old one. A symbolic link stays one: what it leads to is replaced, in its own directory.
//!
//! Who writes a temporary file holds a lock on it. So one without a lock is of a process that was killed, and [`sweep`] removes it,
//! however young it is.
//!
//! # Limits
//! A replaced file is a new one: its other names (hard links) keep the old content, and it belongs to whoever wrote it.

use crate::interrupt::Temporary;
use std::ffi::OsStr;
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What the names of temporary files begin and end with.
const PREFIX: &str = ".retally-";
const SUFFIX: &str = ".tmp";
/// How often a temporary file is created again, when it was swept away before it was locked.
const CREATE_TRIES_MAX: usize = 100;
/// As many links are followed, as by the system itself.
const LINKS_MAX: usize = 40;

/// A file on its way.
#[derive(Debug)]
pub(crate) struct Staged {
    file: NamedTempFile,
    /// What was asked for.
    path: PathBuf,
    /// Where that leads to.
    target: PathBuf,
    _temporary: Temporary,
}

impl Staged {
    /// A new, empty file that is to become `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Staged> {
        let target = target(path)?;
        let mode = match std::fs::metadata(&target) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => return Err(io::Error::other("it is no regular file")),
            Ok(there) => Some(there.permissions()),
            Err(_) => None,
        };
        for _ in 0..CREATE_TRIES_MAX {
            let (file, temporary) = Temporary::make(|| {
                let mut builder = tempfile::Builder::new();
                let file = builder.prefix(PREFIX).suffix(SUFFIX).permissions(readable()).tempfile_in(parent(&target))?;
                let path = file.path().to_path_buf();
                Ok((file, path))
            })?;
            if lock(file.as_file()) && is_at(file.as_file(), file.path()) {
                mode.map_or(Ok(()), |mode| file.as_file().set_permissions(mode))?;
                return Ok(Staged { file, path: path.into(), target, _temporary: temporary });
            }
        }
        Err(io::Error::other("its temporary file was removed again and again"))
    }

    /// A file of these bytes, on the disk, that is to become `path`.
    pub(crate) fn of(path: &Path, bytes: &[u8]) -> io::Result<Staged> {
        let mut staged = Staged::create(path)?;
        staged.file().write_all(bytes)?;
        staged.sync()?;
        Ok(staged)
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
        let (target, path) = (self.target.clone(), self.path.clone());
        self.publish_as(&target)?;
        Ok(path)
    }

    /// Gives it a name in the directory that it was created for, instead of a file that has it.
    pub(crate) fn publish_as(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map_err(|failed| failed.error)?;
        // The new name is on the disk once the directory is.
        File::open(parent(path))?.sync_all()
    }
}

/// Whether a file of this name is one on its way, by whichever process.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// Removes the temporary files of processes that are dead from a directory. What can't be removed or looked at stays.
pub(crate) fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| is_temporary(&entry.file_name())) {
        let path = entry.path();
        // A link or a pipe of that name is none of ours, and opening it might not end.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && File::open(&path).is_ok_and(|file| file.try_lock().is_ok() && is_at(&file, &path)) {
            std::fs::remove_file(&path).ok();
        }
    }
}

/// The file beside another one whose name has this behind it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Locks a file for this process, unless another has locked it. Where the file system knows no locks, none is missed.
pub(crate) fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether a file is still the one of this name.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let same = |ours: std::fs::Metadata, there: std::fs::Metadata| (ours.dev(), ours.ino()) == (there.dev(), there.ino());
    file.metadata().is_ok_and(|ours| std::fs::metadata(path).is_ok_and(|there| same(ours, there)))
}

/// Where a path leads to, that of a file which is not there yet among them.
pub(crate) fn target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            // A relative link begins where it stands.
            Ok(next) => target = parent(&target).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("its links lead nowhere"))
}

pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// As of any new file, by the process's mask; a temporary file is otherwise its owner's alone.
fn readable() -> Permissions {
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
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        Staged::create(&ours).unwrap().publish().unwrap();
        File::create(&other).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&other));
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_link_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::fs::write(path("elsewhere/file"), "old").unwrap();
        std::fs::set_permissions(path("elsewhere/file"), Permissions::from_mode(0o640)).unwrap();
        std::fs::hard_link(path("elsewhere/file"), path("other name")).unwrap();
        std::os::unix::fs::symlink("elsewhere/file", path("link")).unwrap();
        std::os::unix::fs::symlink("link", path("link to link")).unwrap();
        std::os::unix::fs::symlink("elsewhere/new", path("link to nothing")).unwrap();
        for name in ["link", "link to link", "link to nothing"] {
            let mut staged = Staged::create(&path(name)).unwrap();
            staged.file().write_all(name.as_bytes()).unwrap();
            assert_eq!(staged.publish().unwrap(), path(name));
            assert!(std::fs::symlink_metadata(path(name)).unwrap().is_symlink(), "{name}");
            assert_eq!(std::fs::read_to_string(path(name)).unwrap(), name);
        }
        assert_eq!(path("elsewhere/file").metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_to_string(path("elsewhere/new")).unwrap(), "link to nothing");
        assert_eq!(std::fs::read_to_string(path("other name")).unwrap(), "old", "another name keeps the old file");
        std::os::unix::fs::symlink("circle", path("circle")).unwrap();
        assert_eq!(Staged::create(&path("circle")).unwrap_err().to_string(), "its links lead nowhere");
        assert_eq!(Staged::create(Path::new("/dev/null")).unwrap_err().to_string(), "it is no regular file");
    }

    #[test]
    fn what_dead_processes_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let living = Staged::create(&path("table.csv")).unwrap();
        for name in [".retally-dead.tmp", ".retally-note", "retally-x.tmp", ".other.tmp"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", path(".retally-link.tmp")).unwrap();
        sweep(dir.path());
        assert!(!path(".retally-dead.tmp").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
        living.publish().unwrap();
        sweep(&path("no such folder"));
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
