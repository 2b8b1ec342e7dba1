//! A file of line protocol: the destination `file:PATH`.
//!
//! Processes of a run append whole buffers of whole lines to the same file; process 0 empties it first. (It is one on its way, and is on
//! the disk when it is whole: see [`super::staged`].)

use super::queue::{self, Drain, Queued};
use super::{Dropped, PointsError};
use crate::staged::why;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Opens the file, which is made empty by process 0.
pub fn open(path: &Path, process: usize) -> Result<Queued, PointsError> {
    let name = path.display().to_string();
    let opened = create(path, process).map_err(|source| PointsError::NotOpened { name: name.clone(), source })?;
    Ok(queue::start(vec![Lines { file: opened, name, is_part: process > 0 }]))
}

fn create(path: &Path, process: usize) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    // A device or a pipe can't be made empty, and is.
    if process == 0 && file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

struct Lines {
    file: File,
    name: String,
    /// Another process reads it, maybe on another host.
    is_part: bool,
}

impl Lines {
    fn failed(&self, error: &io::Error) -> String {
        format!("could not write points to {:?}: {}", self.name, why(error))
    }
}

impl Drain for Lines {
    fn write(&mut self, lines: &[u8]) -> Result<(), String> {
        self.file.write_all(lines).map_err(|error| self.failed(&error))
    }

    fn finish(&mut self) -> Result<Dropped, String> {
        if self.is_part {
            self.file.sync_all().map_err(|error| self.failed(&error))?;
        }
        Ok(Dropped::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Outlet;

    #[test]
    fn the_first_process_empties_the_file_and_others_append() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/points.lp");
        let write = |process: usize, text: &str| {
            let mut lines = Lines { file: create(&path, process).unwrap(), name: String::new(), is_part: process > 0 };
            lines.write(text.as_bytes()).unwrap();
            lines.finish().unwrap();
        };
        write(0, "a\n");
        write(1, "b\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
        write(0, "c\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c\n");
    }

    #[test]
    fn a_device_is_no_file_to_be_emptied_or_synced() {
        Box::new(open(Path::new("/dev/null"), 0).unwrap()).finish().unwrap();
    }

    #[test]
    fn what_can_not_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path(), 0).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("could not open") && error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
