//! Opens splits on the workers.

use super::archive::{Accepted, ArchiveReader};
use super::csv::Csv;
use super::json::{JsonArray, JsonLines};
use super::streams;
use flate2::read::MultiGzDecoder;
use retally_core::record::Field;
use retally_core::split::{ByteStream, Format, Line, Location, Opener, Packing, Split, SplitReader};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Opens splits; stops reading when told to.
#[derive(Clone, Debug, Default)]
pub struct FileOpener {
    cancelled: Arc<AtomicBool>,
}

impl FileOpener {
    /// Ends all reading: what is read now is of no use any more.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// How a source names itself in errors.
fn name(location: &Location) -> &str {
    match location {
        Location::File(path) => path,
        Location::Inline(_) => "the batch's bytes",
        Location::Dataset(_) | Location::Refused(_) => "a dataset",
    }
}

impl Opener for FileOpener {
    fn open(&self, split: &Split, fields: &'static [Field]) -> Result<Box<dyn SplitReader>, String> {
        let path = name(&split.location).to_string();
        let failed = |error: io::Error| format!("could not open {path:?}: {error}");
        let cancelled = Arc::clone(&self.cancelled);
        if let (Format::Archive { archive, csv }, Location::File(_)) = (&split.format, &split.location) {
            let reader = ArchiveReader::open(&path, *archive, split.packing, split.range, Accepted { csv: *csv, fields }, cancelled);
            return Ok(Box::new(reader.map_err(failed)?));
        }
        let opened = open(split).map_err(failed)?;
        let until = split.range.1.saturating_sub(opened.start);
        let lexer = Lexer::new(opened.stream, until, &split.format, fields, split.range.0 == 0);
        Ok(Box::new(FileReader { lexer, path, read: opened.read, start: opened.start, cancelled }))
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
}

fn open(split: &Split) -> io::Result<Opened> {
    let read = Arc::new(AtomicU64::new(0));
    let (from, _) = split.range;
    let mut start = 0;
    let packed: Box<dyn Read> = match &split.location {
        Location::Inline(bytes) => Box::new(Cursor::new(bytes.clone())),
        Location::File(path) => {
            let mut file = File::open(path)?;
            if from > 0 {
                start = line_start(&mut file, from)?;
                file.seek(SeekFrom::Start(start))?;
            }
            Box::new(file)
        }
        Location::Dataset(_) | Location::Refused(_) => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has several streams and no records"));
        }
    };
    let counted = Counted { stream: packed, read: Arc::clone(&read) };
    let unpacked = unpacked(counted, split.packing)?;
    if from > 0 {
        return Ok(Opened { stream: unpacked, read, start });
    }
    let (bom, stream) = without_bom(unpacked)?;
    Ok(Opened { stream: Box::new(stream), read, start: bom })
}

/// What a packed stream holds.
pub(super) fn unpacked(stream: impl Read + 'static, packing: Packing) -> io::Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::Plain => Box::new(stream),
        Packing::Gzip => Box::new(MultiGzDecoder::new(stream)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(stream)?),
    })
}

/// The first byte after the first newline at or after `from - 1`.
fn line_start(file: &mut File, from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from - 1))?;
    let mut at = from - 1;
    let mut block = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut block)?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(at) };
        if let Some(newline) = memchr::memchr(b'\n', bytes) {
            return Ok(at + newline as u64 + 1);
        }
        at += length as u64;
    }
}

/// A stream without the byte order mark that some programs begin files with, and how many bytes that was.
pub(super) fn without_bom(mut stream: impl Read) -> io::Result<(u64, impl Read)> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let mut first = Vec::with_capacity(BOM.len());
    stream.by_ref().take(BOM.len() as u64).read_to_end(&mut first)?;
    let bytes = if first == BOM { first.drain(..).len() as u64 } else { 0 };
    Ok((bytes, Cursor::new(first).chain(stream)))
}

/// A stream that counts what is read of it.
pub(super) struct Counted<R> {
    pub stream: R,
    pub read: Arc<AtomicU64>,
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.stream.seek(to)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Cuts a stream into records.
pub(super) enum Lexer {
    Csv(Box<Csv<Box<dyn Read>>>),
    JsonLines(JsonLines<Box<dyn Read>>),
    JsonArray(JsonArray<Box<dyn Read>>),
}

impl Lexer {
    /// Cuts a stream that starts at a line, up to the end of the last line that starts before byte `until` of it.
    pub fn new(stream: Box<dyn Read>, until: u64, format: &Format, fields: &'static [Field], at_file_start: bool) -> Lexer {
        match format {
            Format::Csv { delimiter, header } => {
                Lexer::Csv(Box::new(Csv::new(stream, until, *delimiter, fields, header.clone(), at_file_start)))
            }
            Format::JsonArray => Lexer::JsonArray(JsonArray::new(stream)),
            Format::JsonLines | Format::Archive { .. } => Lexer::JsonLines(JsonLines::new(stream, until)),
        }
    }

    /// Reads a block. Answers whether there is more.
    pub fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        match self {
            Lexer::Csv(csv) => csv.read(each),
            Lexer::JsonLines(lines) => lines.read(each),
            Lexer::JsonArray(array) => array.read(each),
        }
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        match self {
            Lexer::Csv(csv) => csv.lines(),
            Lexer::JsonLines(lines) => lines.lines(),
            Lexer::JsonArray(array) => array.lines(),
        }
    }
}

struct FileReader {
    lexer: Lexer,
    path: String,
    read: Arc<AtomicU64>,
    start: u64,
    cancelled: Arc<AtomicBool>,
}

impl SplitReader for FileReader {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, String> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.lexer.read(each).map_err(|error| {
            let at = self.start + self.read.load(Ordering::Relaxed);
            format!("could not read {:?} after byte {at}: {error}", self.path)
        })
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn lines_read(&self) -> u64 {
        self.lexer.lines()
    }
}
