//! A file to be read, wherever it is.

use super::remote::{Place, Ready, RemoteReader, place};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Of something far away, so much is asked for to look at it.
const FIRST_BYTES: u64 = 64 << 10;

/// A file to be read.
#[derive(Debug)]
pub enum InputFile {
    /// Of this machine.
    File(File),
    /// Elsewhere.
    Remote(Box<RemoteReader>),
}

impl InputFile {
    /// Opens a file, to be read from its beginning to its end.
    pub fn open(location: &str) -> io::Result<InputFile> {
        open(location, 0, None)
    }

    /// Opens a file, to be read from a byte on, up to about another.
    pub fn open_range(location: &str, from: u64, until: Option<u64>) -> io::Result<InputFile> {
        let mut file = open(location, from, until)?;
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(file)
    }

    /// Opens a file to look at its beginning, or at some of it here and there.
    pub fn look(location: &str) -> io::Result<InputFile> {
        open(location, 0, Some(FIRST_BYTES))
    }

    /// Its size.
    pub fn size(&mut self) -> io::Result<u64> {
        match self {
            InputFile::File(file) => Ok(file.metadata()?.len()),
            InputFile::Remote(reader) => reader.size(),
        }
    }

    /// Whether it can be read more than once, and be sought in: a pipe can't.
    pub fn is_regular(&self) -> io::Result<bool> {
        match self {
            InputFile::File(file) => Ok(file.metadata()?.is_file()),
            InputFile::Remote(_) => Ok(true),
        }
    }

    /// Whether a read would wait, where that can be.
    pub fn ready(&self) -> Option<Ready> {
        match self {
            InputFile::File(_) => None,
            InputFile::Remote(reader) => Some(reader.ready()),
        }
    }
}

fn open(location: &str, from: u64, until: Option<u64>) -> io::Result<InputFile> {
    match place(location)? {
        Place::Local(path) => Ok(InputFile::File(File::open(&*path)?)),
        Place::Remote(remote) => Ok(InputFile::Remote(Box::new(RemoteReader::open(remote, from, until)?))),
        Place::Unknown => Err(io::Error::new(io::ErrorKind::Unsupported, "URLs of this kind are not read")),
    }
}

impl Read for InputFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            InputFile::File(file) => file.read(buffer),
            InputFile::Remote(reader) => reader.read(buffer),
        }
    }
}

impl Seek for InputFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            InputFile::File(file) => file.seek(to),
            InputFile::Remote(reader) => reader.seek(to),
        }
    }
}
