//! Points in a file that appears complete or not at all.
//!
//! All processes of a run write to one file beside the one that was asked for, `points.lp.partial`, whose name they all know. Process 0
//! holds a lock on it, so that no other run writes to it as well, and gives it its name when the run has done all else. A run that fails
//! removes it. So the file that was there before is the old one, or all of the new one.
//!
//! # Limits
//! Only regular files: a device or a pipe is written as points come. A run that is killed leaves the partial file; the next one begins it
//! anew.

use super::{Destination, PointsError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often the file is opened anew, when others have put it in its place meanwhile.
const LOCK_TRIES_MAX: usize = 100;

/// A file of points on its way.
#[derive(Debug)]
pub struct StagedPoints {
    partial: PathBuf,
    path: PathBuf,
    published: bool,
    /// Its lock goes with it.
    _locked: File,
}

/// Where the points of a run are to be written first; and on process 0, what puts them in their place.
pub fn stage(destination: &Destination, process: usize) -> Result<(Destination, Option<StagedPoints>), PointsError> {
    let Destination::File(path) = destination else { return Ok((destination.clone(), None)) };
    let failed = |source: io::Error| PointsError::Open { name: path.display().to_string(), source };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(found) if !found.is_file() => return Ok((destination.clone(), None)),
        _ => {}
    }
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let staged = match process {
        0 => Some(StagedPoints {
            _locked: locked(&partial).map_err(failed)?,
            partial: partial.clone(),
            path: path.clone(),
            published: false,
        }),
        _ => None,
    };
    Ok((Destination::File(partial), staged))
}

fn locked(partial: &Path) -> io::Result<File> {
    if let Some(folder) = partial.parent() {
        std::fs::create_dir_all(folder)?;
    }
    for _ in 0..LOCK_TRIES_MAX {
        let file = OpenOptions::new().create(true).append(true).open(partial)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another run is writing it")),
            // Where the file system knows no locks, none is missed.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Another run may have put the file in its place before it was locked here.
        if std::fs::metadata(partial).is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino())) {
            return Ok(file);
        }
    }
    Err(io::Error::other("others put it in place again and again"))
}

impl StagedPoints {
    /// Gives the file its name. All that write to it must be done.
    pub fn publish(mut self) -> Result<(), PointsError> {
        let place = || {
            std::fs::rename(&self.partial, &self.path)?;
            // The new name is on the disk once the directory is.
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        place().map_err(|source| PointsError::Publish { name: self.path.display().to_string(), source })?;
        self.published = true;
        Ok(())
    }
}

impl Drop for StagedPoints {
    fn drop(&mut self) {
        if !self.published {
            // It may be gone, and then there is nothing to remove.
            std::fs::remove_file(&self.partial).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_published_and_one_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/points.lp");
        let destination = Destination::File(path.clone());
        let (first, staged) = stage(&destination, 0).unwrap();
        let (second, none) = stage(&destination, 1).unwrap();
        assert_eq!((&first, none.is_none()), (&second, true));
        for (process, destination) in [first, second].iter().enumerate() {
            destination.open(process).unwrap().finish().unwrap();
        }
        assert_eq!(names(path.parent().unwrap()), ["points.lp.partial"]);
        staged.unwrap().publish().unwrap();
        assert_eq!(names(path.parent().unwrap()), ["points.lp"]);
        std::fs::write(&path, "old\n").unwrap();
        drop(stage(&destination, 0).unwrap());
        assert_eq!((names(path.parent().unwrap()), std::fs::read(&path).unwrap()), (vec!["points.lp".into()], b"old\n".to_vec()));
    }

    #[test]
    fn no_two_runs_write_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::File(folder.path().join("points.lp"));
        let staged = stage(&destination, 0).unwrap();
        let error = stage(&destination, 0).unwrap_err().to_string();
        assert!(error.starts_with("could not open") && error.ends_with("points.lp\" for points: another run is writing it"), "{error}");
        assert_eq!(names(folder.path()), ["points.lp.partial"], "it is left to the other");
        drop(staged);
        stage(&destination, 0).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_written_as_it_is() {
        let device = Destination::File("/dev/null".into());
        let (destination, staged) = stage(&device, 0).unwrap();
        assert!(destination == device && staged.is_none());
        let folder = tempfile::tempdir().unwrap();
        let error = stage(&Destination::File(folder.path().into()), 0).unwrap_err().to_string();
        assert!(error.contains("could not open"), "{error}");
    }
}
