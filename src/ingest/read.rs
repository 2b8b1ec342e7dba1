//! Opens splits on the workers.

use super::SPLIT_BYTES;
use super::archive::ArchiveReader;
use super::could_not;
use super::file::InputFile;
use super::lexer::Lexer;
use super::parquet::{ParquetReader, parts::Parts};
use super::pipes;
use super::remote::Ready;
use super::streams;
use super::unpack::{Counted, decoded, unpacked, without_bom};
use super::version::{Guard, guarded};
use crate::shown;
use retally_core::contract::Input;
use retally_core::split::{ByteStream, Dataset, Format, Line, Location, Opener, Packing, RefusedJob, SecondHeader};
use retally_core::split::{SourceFile, Split, SplitError, SplitReader};
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A split that starts within a file is asked for up to so much behind its end, where its last line ends.
const BEHIND_BYTES: u64 = SPLIT_BYTES / 64;

/// Opens splits; stops reading when told to.
#[derive(Clone, Debug, Default)]
pub struct FileOpener {
    cancelled: Arc<AtomicBool>,
    /// What is on its way, by file and range.
    announced: Arc<Mutex<Vec<(Arc<SourceFile>, (u64, u64), InputFile)>>>,
    /// What errors call this process, where there are several.
    process: Option<Arc<str>>,
}

impl FileOpener {
    /// For one process of several, which errors name.
    pub fn of_process(name: &str) -> FileOpener {
        FileOpener { process: Some(name.into()), ..FileOpener::default() }
    }

    /// Ends all reading: what is read now is of no use any more.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// What was announced, or is opened now.
    fn source(&self, file: &Arc<SourceFile>, range: (u64, u64)) -> io::Result<InputFile> {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        match announced.iter().position(|(known, at, _)| known == file && *at == range) {
            Some(place) => Ok(announced.swap_remove(place).2),
            None => {
                drop(announced);
                source(file, range)
            }
        }
    }

    /// What is read, as errors name it.
    fn named(&self, location: &Location) -> String {
        let process = self.process.as_ref().map_or(String::new(), |process| format!(" on {process}"));
        format!("{:?}{process}", shown::location(name(location)))
    }
}

/// Opens a file at the byte before a split, whose newline says that a line begins there.
fn source(file: &SourceFile, range: (u64, u64)) -> io::Result<InputFile> {
    let until = (range.1 < u64::MAX).then(|| range.1 + BEHIND_BYTES);
    InputFile::open_planned(file, range.0.saturating_sub(1), until)
}

/// How a source names itself in errors.
fn name(location: &Location) -> &str {
    match location {
        Location::File(file) => &file.location,
        Location::Stream { name, .. } => name,
        Location::Inline(_) => "the batch's bytes",
        Location::Dataset(_) | Location::Refused(_) => "a dataset",
    }
}

impl Opener for FileOpener {
    fn open(&self, split: &Split, input: &Input) -> Result<Box<dyn SplitReader>, SplitError> {
        let name = self.named(&split.location);
        let failed = |error: io::Error| could_not(&format!("open {name}"), &error);
        let cancelled = Arc::clone(&self.cancelled);
        match (&split.format, &split.location) {
            (Format::Archive(archive), Location::File(file)) => {
                let process = self.process.clone();
                let reader = ArchiveReader::open(file, *archive, split.packing, split.range, input, process, cancelled);
                return Ok(Box::new(reader.map_err(failed)?));
            }
            (Format::Parquet, Location::File(file)) => {
                let parts = Parts::Planned(Arc::clone(file));
                return Ok(Box::new(ParquetReader::open(parts, name.clone(), split.range, input, cancelled).map_err(failed)?));
            }
            (Format::Parquet, Location::Stream { id, .. }) => {
                let (file, bytes) = pipes::take_copy(*id).map_err(failed)?;
                let parts = Parts::Copied(file, bytes);
                return Ok(Box::new(ParquetReader::open(parts, name.clone(), split.range, input, cancelled).map_err(failed)?));
            }
            (_, Location::Refused(refused)) => return Ok(Box::new(RefusedReader { refused: refused.clone(), is_read: false })),
            _ => {}
        }
        let Opened { stream, read, start, until, ready, guard } = self.open_stream(split).map_err(failed)?;
        let until = until.saturating_sub(start);
        let lexer = Lexer::new(stream, until, &split.format, input, split.range.0 == 0);
        Ok(Box::new(FileReader { lexer, name, guard, read, start, ready, cancelled }))
    }

    fn announce(&self, split: &Split) {
        let Location::File(file) = &split.location else { return };
        if !file.location.contains("://") || matches!(split.format, Format::Archive(_) | Format::Parquet) {
            return;
        }
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        let known = announced.iter().any(|(known, range, _)| known == file && *range == split.range);
        // What can't be opened says so when its turn comes.
        if !known && let Ok(source) = source(file, split.range) {
            announced.push((Arc::clone(file), split.range, source));
        }
    }

    fn stream(&self, dataset: &Dataset, place: usize, attempt: u32) -> Box<dyn ByteStream> {
        streams::stream(dataset, place, attempt, self.process.clone(), &self.cancelled)
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
    /// Where in the unpacked stream it starts, and where the last line begins before.
    start: u64,
    until: u64,
    ready: Option<Ready>,
    guard: Option<Guard>,
}

impl FileOpener {
    /// What stands before the first record of a file, of which this is the first split: so many bytes of its text.
    pub fn head(&self, split: &Split, bytes: u64) -> Result<Vec<u8>, SplitError> {
        let mut head = Vec::new();
        let read = self.open_stream(split).and_then(|opened| opened.stream.take(bytes).read_to_end(&mut head));
        read.map(|_| head).map_err(|error| could_not(&format!("read {}", self.named(&split.location)), &error))
    }

    fn open_stream(&self, split: &Split) -> io::Result<Opened> {
        let read = Arc::new(AtomicU64::new(0));
        let (from, mut until) = split.range;
        let (mut start, mut ready, mut guard) = (0, None, None);
        let packed: Box<dyn Read> = match &split.location {
            Location::Inline(bytes) => {
                start = from;
                Box::new(Cursor::new(bytes.clone()))
            }
            // A part of a packed file is whole lines, all of which are its own.
            Location::File(file) if split.packing != Packing::Plain && split.range != (0, u64::MAX) => {
                let end = Some(until).filter(|until| *until < u64::MAX);
                let source = InputFile::open_planned(file, from, end)?;
                (ready, guard) = (source.ready(), source.guard());
                let part = source.take(until - from);
                until = u64::MAX;
                Box::new(part)
            }
            Location::File(file) => {
                let source = self.source(file, split.range)?;
                (ready, guard) = (source.ready(), source.guard());
                if from > 0 {
                    match from_line(source, from, until)? {
                        Some((at, rest)) => {
                            start = at;
                            Box::new(rest)
                        }
                        // All of it is within a line of an earlier split.
                        None => {
                            start = until;
                            ready = None;
                            Box::new(io::empty())
                        }
                    }
                } else {
                    Box::new(source)
                }
            }
            Location::Stream { id, .. } => pipes::take_stream(*id)?,
            Location::Dataset(_) | Location::Refused(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has several streams and no records"));
            }
        };
        let counted = Counted { stream: packed, read: Arc::clone(&read) };
        let unpacked = decoded(unpacked(counted, split.packing)?, split.encoding.as_deref());
        if from > 0 {
            return Ok(Opened { stream: unpacked, read, start, until, ready, guard });
        }
        let (bom, stream) = without_bom(unpacked)?;
        Ok(Opened { stream: Box::new(stream), read, start: bom, until, ready, guard })
    }
}

/// From the first line on that begins at byte `from` of a stream or later, where the stream is at the byte before. Returns where that is,
/// or `None` where no line begins before byte `until`: what lies behind it is not read.
fn from_line<R: Read>(mut stream: R, from: u64, until: u64) -> io::Result<Option<(u64, impl Read + use<R>)>> {
    let mut at = from - 1;
    let mut block = vec![0; 64 << 10];
    while at + 1 < until {
        let length = match stream.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        if let Some(newline) = memchr::memchr(b'\n', bytes) {
            at += newline as u64 + 1;
            let rest = bytes.get(newline + 1..).unwrap_or_default().to_vec();
            return Ok((at < until).then(|| (at, Cursor::new(rest).chain(stream))));
        }
        at += length as u64;
    }
    Ok(None)
}

/// Gives a record that was refused before it came here.
struct RefusedReader {
    refused: RefusedJob,
    is_read: bool,
}

impl SplitReader for RefusedReader {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, SplitError> {
        let RefusedJob { line, reason, raw } = &self.refused;
        if !std::mem::replace(&mut self.is_read, true) {
            each(Line { member: None, number: *line, bytes: raw, record: Err(reason) });
        }
        Ok(false)
    }

    fn bytes_read(&self) -> u64 {
        0
    }

    fn lines_read(&self) -> u64 {
        u64::from(self.is_read)
    }
}

struct FileReader {
    lexer: Lexer,
    name: String,
    guard: Option<Guard>,
    read: Arc<AtomicU64>,
    start: u64,
    ready: Option<Ready>,
    cancelled: Arc<AtomicBool>,
}

impl SplitReader for FileReader {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, SplitError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        guarded(self.guard.as_ref(), self.lexer.read(each)).map_err(|error| {
            let at = self.start + self.read.load(Ordering::Relaxed);
            could_not(&format!("read {} after byte {at}", self.name), &error)
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

    fn second_header(&self) -> Option<SecondHeader> {
        let (line, own_line) = self.lexer.second_header()?;
        Some(SecondHeader { member: None, line, own_line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::batch::{Arrival, Batch, Part, Source};
    use crate::ingest::plan::{Plan, plan};
    use crate::ingest::sample;
    use retally_core::split::{FileVersion, Version};
    use retally_core::time::Moment;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn planned(path: &Path) -> Plan {
        let batch = Batch { parts: vec![Part { input: 0, sign: 1, source: Source::Path(path.display().to_string()) }] };
        plan(&sample::definition(), &batch, Arrival { accept_from: Moment::FIRST, accept_until: Moment::LAST }).unwrap()
    }

    /// Reads a split. Returns how many lines it has, and how many bytes were read of it.
    fn read(opener: &FileOpener, split: &Split) -> Result<(u64, u64), SplitError> {
        let mut lines = 0;
        let mut reader = opener.open(split, &sample::input())?;
        while reader.read(&mut |_| lines += 1)? {}
        Ok((lines, reader.bytes_read()))
    }

    fn all(plan: &Plan) -> Result<u64, SplitError> {
        plan.splits.iter().map(|split| Ok(read(&FileOpener::default(), split)?.0)).sum()
    }

    const LINE: &[u8] = b"2026-01-01T00:00:00Z,7\n";

    /// Files of all kinds that are opened by their names, each of more than a split where it can be cut.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let text = LINE.repeat(400_000);
        let packed = zstd::encode_all(&text[..], 1).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, "x.csv", &text[..]).unwrap();
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("x.csv", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &text).unwrap();
        let (tar, zip) = (tar.into_inner().unwrap(), zip.finish().unwrap().into_inner());
        let file = |(name, bytes): (&str, Vec<u8>)| {
            fs::write(folder.join(name), bytes).unwrap();
            folder.join(name)
        };
        [("plain.csv", text), ("packed.csv.zst", packed), ("a.tar", tar), ("b.zip", zip)].map(file).to_vec()
    }

    /// Between planning and reading: cut off, written to, replaced by another of the same size.
    #[test]
    fn a_file_that_is_not_what_was_planned_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in files(folder.path()) {
            let bytes = fs::read(&path).unwrap();
            let changes: [&dyn Fn(); 3] = [
                &|| fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                &|| fs::write(&path, [&bytes[..], LINE].concat()).unwrap(),
                &|| {
                    fs::write(folder.path().join("other"), &bytes).unwrap();
                    fs::rename(folder.path().join("other"), &path).unwrap();
                },
            ];
            for change in changes {
                fs::write(&path, &bytes).unwrap();
                let plan = planned(&path);
                assert_eq!(all(&plan), Ok(400_000), "{}", path.display());
                change();
                for split in &plan.splits {
                    let error = read(&FileOpener::default(), split).unwrap_err();
                    let (was, is) = (format!("it was {} bytes of ", bytes.len()), fs::metadata(&path).unwrap().len());
                    assert!(
                        error.message.starts_with(&format!("could not open {:?}: it changed while", path.display().to_string())),
                        "{error}"
                    );
                    assert!(error.message.contains(&was) && error.message.contains(&format!("and is {is} bytes of ")), "{error}");
                    assert!(error.hint.is_some_and(|hint| hint.contains("a copy")));
                }
            }
        }
    }

    /// After it was opened, and before its end.
    #[test]
    fn a_file_that_is_cut_off_while_it_is_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in files(folder.path()) {
            let plan = planned(&path);
            let mut readers: Vec<_> =
                plan.splits.iter().map(|split| FileOpener::default().open(split, &sample::input()).unwrap()).collect();
            assert_eq!(readers[0].read(&mut |_| {}), Ok(true));
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(fs::metadata(&path).unwrap().len() / 2).unwrap();
            for reader in &mut readers {
                let error = loop {
                    if let Err(error) = reader.read(&mut |_| {}).map(|more| assert!(more, "it was read to its end: {}", path.display())) {
                        break error;
                    }
                };
                assert!(error.message.contains(": it changed while the run was reading: "), "{error}");
            }
        }
    }

    /// Another process may have a copy, and not another file.
    #[test]
    fn another_file_on_another_process_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, LINE.repeat(10)).unwrap();
        let mut plan = planned(&path);
        plan.identify_for_others().unwrap();
        assert_eq!(all(&plan), Ok(10));
        let Location::File(file) = &mut plan.splits[0].location else { panic!("no file") };
        let Version::File(version) = &file.version else { panic!("no file") };
        assert!(version.ends.is_some());
        let elsewhere = FileVersion { seen_by: version.seen_by.wrapping_add(1), ..*version };
        *file = Arc::new(SourceFile { location: file.location.clone(), version: Version::File(elsewhere) });
        let process = FileOpener::of_process("process 1 (b:2102)");
        fs::write(folder.path().join("other"), LINE.repeat(10)).unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(read(&process, &plan.splits[0]).map(|(lines, _)| lines), Ok(10), "a copy");
        fs::write(&path, LINE.repeat(5)).unwrap();
        let error = read(&process, &plan.splits[0]).unwrap_err();
        let expected =
            format!("could not open {:?} on process 1 (b:2102): it is another file than that of process 0: ", path.display().to_string());
        assert!(error.message.starts_with(&expected), "{error}");
    }

    /// Of what has no line end, each split reads its own part at most: all together twice the file, and not its square.
    #[test]
    fn a_split_without_the_beginning_of_a_line_reads_no_further_than_its_end() {
        let counted = |text: &[u8], from: u64, until: u64| {
            let read = Arc::new(AtomicU64::new(0));
            let from_byte = usize::try_from(from).unwrap() - 1;
            let stream = Counted { stream: Cursor::new(text[from_byte..].to_vec()), read: Arc::clone(&read) };
            let at = from_line(stream, from, until).unwrap().map(|(at, _)| at);
            (at, read.load(Ordering::Relaxed))
        };
        let text = vec![b'x'; 1 << 20];
        assert_eq!(counted(&text, 1, 128 << 10), (None, 128 << 10), "two blocks");
        assert_eq!(counted(&text, 1 << 19, u64::MAX), (None, (1 << 19) + 1));
        assert_eq!(counted(b"ab\ncd\n", 1, 3), (None, 6), "it begins where the split ends");
        assert_eq!(counted(b"ab\ncd\n", 1, 4), (Some(3), 6));
        assert_eq!(counted(b"ab\ncd\n", 3, 4), (Some(3), 4));
        assert_eq!(counted(b"ab\ncd\n", 4, 9), (Some(6), 3));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let size = usize::try_from(SPLIT_BYTES).unwrap() * 25;
        for name in ["x.csv", "x.jsonl"] {
            let path = path.with_file_name(name);
            let mut text = vec![b'x'; size];
            text[..LINE.len()].copy_from_slice(LINE);
            fs::write(&path, text).unwrap();
            let plan = planned(&path);
            assert_eq!(plan.splits.len(), 25);
            let reads: Vec<(u64, u64)> = plan.splits.iter().map(|split| read(&FileOpener::default(), split).unwrap()).collect();
            assert_eq!(reads.iter().map(|(lines, _)| lines).sum::<u64>(), 2, "one line, and one that is refused");
            let bytes: u64 = reads.iter().map(|(_, bytes)| bytes).sum();
            assert!(bytes < 80 << 20, "the line is refused after 64 MiB, and no reader goes on: {bytes}");
        }
    }
}
