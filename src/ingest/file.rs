//! A file to be read, wherever it is.

use super::remote::{Ready, RemoteReader, Resolved, resolve};
use super::version::{Changed, Guard};
use retally_core::split::{SourceFile, Version};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Of something far away, so much is asked for to look at it.
const FIRST_BYTES: u64 = 64 << 10;

/// A file to be read.
#[derive(Debug)]
pub enum InputFile {
    /// Of this machine.
    Local(LocalFile),
    /// Elsewhere.
    Remote(Box<RemoteReader>),
}

/// A file of this machine.
#[derive(Debug)]
pub struct LocalFile {
    file: Arc<File>,
    /// Where it can change.
    guard: Option<Guard>,
}

impl InputFile {
    /// Opens a file, to be read from its beginning to its end.
    pub fn open(location: &str) -> io::Result<InputFile> {
        open(location, 0, None, None)
    }

    /// Opens a file that was planned, to be read from a byte on, up to about another. An error where it is another file, or has changed.
    pub fn open_planned(planned: &SourceFile, from: u64, until: Option<u64>) -> io::Result<InputFile> {
        let mut file = open(&planned.location, from, until, Some(&planned.version))?;
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(file)
    }

    /// Opens a file to look at its beginning, or at some of it here and there.
    pub fn look(location: &str) -> io::Result<InputFile> {
        open(location, 0, Some(FIRST_BYTES), None)
    }

    /// Opens a file that was planned, to look at some of it here and there.
    pub fn look_planned(planned: &SourceFile) -> io::Result<InputFile> {
        InputFile::open_planned(planned, 0, Some(FIRST_BYTES))
    }

    /// What it is, for those who open it later.
    pub fn version(&mut self) -> io::Result<Version> {
        match self {
            InputFile::Local(LocalFile { guard: Some(guard), .. }) => Ok(Version::File(guard.version())),
            InputFile::Local(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
            InputFile::Remote(reader) => reader.version(),
        }
    }

    /// What tells whether it changes while it is read. What is elsewhere checks that itself.
    pub fn guard(&self) -> Option<Guard> {
        match self {
            InputFile::Local(local) => local.guard.clone(),
            InputFile::Remote(_) => None,
        }
    }

    /// Whether a read would wait, where that can be.
    pub fn ready(&self) -> Option<Ready> {
        match self {
            InputFile::Local(_) => None,
            InputFile::Remote(reader) => Some(reader.ready()),
        }
    }
}

/// The size of what was planned.
pub fn size(version: &Version) -> u64 {
    match version {
        Version::File(file) => file.bytes,
        Version::Object { bytes, .. } => *bytes,
    }
}

fn open(location: &str, from: u64, until: Option<u64>, planned: Option<&Version>) -> io::Result<InputFile> {
    match resolve(location)? {
        Resolved::Local(path) => {
            let file = Arc::new(File::open(&*path)?);
            let guard = Guard::new(&file)?;
            match (planned, &guard) {
                (Some(Version::File(planned)), Some(guard)) => guard.check_planned(planned)?,
                (Some(Version::File(planned)), None) => return Err(Changed::between(planned, "no regular file").into()),
                _ => {}
            }
            Ok(InputFile::Local(LocalFile { file, guard }))
        }
        Resolved::Remote(remote) => Ok(InputFile::Remote(Box::new(RemoteReader::open(remote, from, until, planned)?))),
        Resolved::Unknown => Err(io::Error::new(io::ErrorKind::Unsupported, "URLs of this kind are not read")),
    }
}

impl Read for InputFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            InputFile::Local(local) => (&*local.file).read(buffer),
            InputFile::Remote(reader) => reader.read(buffer),
        }
    }
}

impl Seek for InputFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            InputFile::Local(local) => (&*local.file).seek(to),
            InputFile::Remote(reader) => reader.seek(to),
        }
    }
}
