//! Opens splits on the workers.

use super::SPLIT_BYTES;
use super::archive::ArchiveReader;
use super::file::InputFile;
use super::lexer::Lexer;
use super::parquet::ParquetReader;
use super::pipes;
use super::remote::Ready;
use super::streams;
use super::unpack::{Counted, decoded, unpacked, without_bom};
use crate::shown;
use retally_core::contract::Input;
use retally_core::split::{ByteStream, Format, Line, Location, Opener, Split, SplitReader};
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A split that starts within a file is asked for up to so much behind its end, where its last line ends.
const BEHIND_BYTES: u64 = SPLIT_BYTES / 64;

/// Opens splits; stops reading when told to.
#[derive(Clone, Debug, Default)]
pub struct FileOpener {
    cancelled: Arc<AtomicBool>,
    /// What is on its way, by location and range.
    announced: Arc<Mutex<Vec<(String, (u64, u64), InputFile)>>>,
}

impl FileOpener {
    /// Ends all reading: what is read now is of no use any more.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// What was announced, or is opened now.
    fn source(&self, path: &str, range: (u64, u64)) -> io::Result<InputFile> {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        match announced.iter().position(|(known, at, _)| known == path && *at == range) {
            Some(place) => Ok(announced.swap_remove(place).2),
            None => {
                drop(announced);
                source(path, range)
            }
        }
    }
}

/// Opens a file at the byte before a split, whose newline says that a line begins there.
fn source(path: &str, range: (u64, u64)) -> io::Result<InputFile> {
    let until = (range.1 < u64::MAX).then(|| range.1 + BEHIND_BYTES);
    InputFile::open_range(path, range.0.saturating_sub(1), until)
}

/// How a source names itself in errors.
fn name(location: &Location) -> &str {
    match location {
        Location::File(path) | Location::Stream { name: path, .. } => path,
        Location::Inline(_) => "the batch's bytes",
        Location::Dataset(_) | Location::Refused(_) => "a dataset",
    }
}

impl Opener for FileOpener {
    fn open(&self, split: &Split, input: &Input) -> Result<Box<dyn SplitReader>, String> {
        let path = name(&split.location).to_string();
        let failed = |error: io::Error| format!("could not open {:?}: {error}", shown::location(&path));
        let cancelled = Arc::clone(&self.cancelled);
        if let (Format::Archive(archive), Location::File(_)) = (&split.format, &split.location) {
            let reader = ArchiveReader::open(&path, *archive, split.packing, split.range, input, cancelled);
            return Ok(Box::new(reader.map_err(failed)?));
        }
        if split.format == Format::Parquet {
            return Ok(Box::new(ParquetReader::open(&path, split.range, input, cancelled).map_err(failed)?));
        }
        let opened = self.open_stream(split).map_err(failed)?;
        let until = split.range.1.saturating_sub(opened.start);
        let lexer = Lexer::new(opened.stream, until, &split.format, input, split.range.0 == 0);
        Ok(Box::new(FileReader { lexer, path, read: opened.read, start: opened.start, ready: opened.ready, cancelled }))
    }

    fn announce(&self, split: &Split) {
        let Location::File(path) = &split.location else { return };
        if !path.contains("://") || matches!(split.format, Format::Archive(_) | Format::Parquet) {
            return;
        }
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        let known = announced.iter().any(|(known, range, _)| known == path && *range == split.range);
        // What can't be opened says so when its turn comes.
        if !known && let Ok(source) = source(path, split.range) {
            announced.push((path.clone(), split.range, source));
        }
    }

    fn stream(&self, location: &str, attempt: u32) -> Box<dyn ByteStream> {
        streams::stream(location, attempt, &self.cancelled)
    }

    fn attempts_max(&self) -> u32 {
        streams::ATTEMPTS_MAX
    }

    fn version(&self, location: &str) -> Option<String> {
        streams::version(location)
    }
}

/// A stream that starts at a line.
struct Opened {
    stream: Box<dyn Read>,
    /// Bytes read of the file, packed as it is.
    read: Arc<AtomicU64>,
    /// Where in the unpacked stream it starts.
    start: u64,
    ready: Option<Ready>,
}

impl FileOpener {
    fn open_stream(&self, split: &Split) -> io::Result<Opened> {
        let read = Arc::new(AtomicU64::new(0));
        let (from, _) = split.range;
        let (mut start, mut ready) = (0, None);
        let packed: Box<dyn Read> = match &split.location {
            Location::Inline(bytes) => {
                start = from;
                Box::new(Cursor::new(bytes.clone()))
            }
            Location::File(path) => {
                let source = self.source(path, split.range)?;
                ready = source.ready();
                if from > 0 {
                    let (at, rest) = from_line(source, from)?;
                    start = at;
                    Box::new(rest)
                } else {
                    Box::new(source)
                }
            }
            Location::Stream { id, .. } => Box::new(pipes::take(*id)?),
            Location::Dataset(_) | Location::Refused(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has several streams and no records"));
            }
        };
        let counted = Counted { stream: packed, read: Arc::clone(&read) };
        let unpacked = decoded(unpacked(counted, split.packing)?, split.encoding.as_deref());
        if from > 0 {
            return Ok(Opened { stream: unpacked, read, start, ready });
        }
        let (bom, stream) = without_bom(unpacked)?;
        Ok(Opened { stream: Box::new(stream), read, start: bom, ready })
    }
}

/// From the first line on that begins at byte `from` of a stream or later, where the stream is at the byte before. Returns where that is.
fn from_line(mut stream: impl Read, from: u64) -> io::Result<(u64, impl Read)> {
    let mut at = from - 1;
    let mut block = vec![0; 64 << 10];
    let rest = loop {
        let length = stream.read(&mut block)?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { break Vec::new() };
        if let Some(newline) = memchr::memchr(b'\n', bytes) {
            at += newline as u64 + 1;
            break bytes.get(newline + 1..).unwrap_or_default().to_vec();
        }
        at += length as u64;
    };
    Ok((at, Cursor::new(rest).chain(stream)))
}

struct FileReader {
    lexer: Lexer,
    path: String,
    read: Arc<AtomicU64>,
    start: u64,
    ready: Option<Ready>,
    cancelled: Arc<AtomicBool>,
}

impl SplitReader for FileReader {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, String> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.lexer.read(each).map_err(|error| {
            let at = self.start + self.read.load(Ordering::Relaxed);
            format!("could not read {:?} after byte {at}: {error}", shown::location(&self.path))
        })
    }

    fn is_ready(&self) -> bool {
        self.ready.as_ref().is_none_or(Ready::is_ready) || self.cancelled.load(Ordering::Relaxed)
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn lines_read(&self) -> u64 {
        self.lexer.lines()
    }
}
