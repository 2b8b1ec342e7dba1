//! The bytes of a Parquet file, part by part.

use super::pages::blamed_on;
use crate::ingest::file::{InputFile, size};
use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use retally_core::split::SourceFile;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A file in parts.
#[derive(Clone)]
pub enum Parts {
    /// Each part must be of what was planned.
    Planned(Arc<SourceFile>),
    /// A copy of a stream that can be read once, and so many bytes.
    Copied(Arc<File>, u64),
}

impl Parts {
    fn bytes(&self) -> u64 {
        match self {
            Parts::Planned(file) => size(&file.version),
            Parts::Copied(_, bytes) => *bytes,
        }
    }

    fn open(&self, from: u64, until: Option<u64>) -> io::Result<Part> {
        match self {
            Parts::Planned(file) => InputFile::open_planned(file, from, until).map(Part::Planned),
            Parts::Copied(file, _) => Ok(Part::Copied(Arc::clone(file), from)),
        }
    }
}

/// A part that is being read.
pub enum Part {
    /// Of a file.
    Planned(InputFile),
    /// Of a copy, from a byte on.
    Copied(Arc<File>, u64),
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Part::Planned(file) => file.read(buffer),
            Part::Copied(file, at) => {
                let read = file.read_at(buffer, *at)?;
                *at += read as u64;
                Ok(read)
            }
        }
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.bytes()
    }
}

impl ChunkReader for Parts {
    type T = BufReader<Part>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(self.open(start, None)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let until = start.saturating_add(length as u64);
        let mut bytes = Vec::with_capacity(length);
        self.open(start, Some(until))?.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("it ends at byte {}", start + bytes.len() as u64)));
        }
        Ok(bytes.into())
    }
}

/// A file whose metadata have been read.
pub type Reader = SerializedFileReader<Parts>;

/// Opens a file, and reads its description of its parts.
///
/// Where that panics, the file is called by this name.
pub fn open(name: &str, parts: &Parts) -> io::Result<Reader> {
    let reader = blamed_on(name, || SerializedFileReader::new(parts.clone())).map_err(failed)?;
    let size = parts.bytes();
    // The library takes for granted that what a file says of its parts is true.
    let within = |offset: i64| u64::try_from(offset).is_ok_and(|offset| offset <= size);
    for group in reader.metadata().row_groups() {
        let sound = group.num_rows() >= 0
            && group.columns().iter().all(|column| {
                let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
                let (length, values) = (column.compressed_size(), column.num_values());
                values >= 0 && within(column.data_page_offset()) && within(start) && within(length) && within(start.saturating_add(length))
            });
        if !sound {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what it says of its row groups can't be"));
        }
    }
    Ok(reader)
}

/// An error of the library's as one of reading.
pub fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::new(io::ErrorKind::InvalidData, cause.to_string()),
        },
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
