//! The file of `--changes`: complete in its place, or not there at all.

use super::error::CliError;
use crate::failure;
use crate::sinks::changes::ChangesWriter;
use crate::staged::{Staged, parent, sweep, why};
use retally_core::contract::Table;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file of `--changes`: written beside its place, and put there when all is done.
pub struct ChangesFile {
    /// Where it is to be.
    pub path: PathBuf,
    writer: ChangesWriter<Target>,
}

/// A pipe or a device can't be replaced: it is written as changes come.
enum Target {
    Staged(Staged),
    Direct(File),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Staged(staged) => staged.file().write(bytes),
            // The reader of a pipe that has seen enough is no error.
            Target::Direct(file) => match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
                written => written,
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Staged(staged) => staged.file().flush(),
            Target::Direct(file) => file.flush(),
        }
    }
}

impl ChangesFile {
    /// A new file on its way to `path`.
    pub fn create(path: &Path) -> Result<ChangesFile, CliError> {
        sweep(parent(path));
        let special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let target =
            if special { File::options().write(true).open(path).map(Target::Direct) } else { Staged::create(path).map(Target::Staged) };
        let writer = ChangesWriter::new(target.map_err(|error| failed(path, &error))?);
        Ok(ChangesFile { path: path.into(), writer })
    }

    /// Writes the change of a row.
    pub fn write(&mut self, table: &Table, epoch: u64, row: &[u8], diff: i64) -> Result<(), CliError> {
        self.writer.write(table, epoch, row, diff).map_err(|error| failed(&self.path, &error))
    }

    /// Puts the file in its place.
    pub fn keep(self) -> Result<(), CliError> {
        let ChangesFile { path, writer } = self;
        let published = writer.finish().and_then(|target| match target {
            Target::Staged(staged) => staged.sync().and_then(|()| staged.publish().map(drop)),
            Target::Direct(_) => Ok(()),
        });
        published.map_err(|error| failed(&path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    let message = format!("could not write changes to {:?}: {}", path.display().to_string(), why(error));
    CliError::failed(message).hint(failure::hint_of_writing(error))
}
