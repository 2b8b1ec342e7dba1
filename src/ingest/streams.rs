//! The streams of datasets: files here or elsewhere, packed or not. A stream that failed is opened again after a while, longer each time. A
//! file that is not what was planned is not: no attempt would read that.

use super::file::InputFile;
use super::format::{self, Mark, looks_like_utf16};
use super::look;
use super::remote::{self, Ready, Remote, Resolved};
use super::unpack::{Counted, decoded, unpacked};
use super::version::{self, Changed, Guard};
use crate::shown;
use retally_core::split::{ByteStream, Chunk, Dataset, FileVersion, Packing, SourceFile, SplitError, StreamError, Version};
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a dataset is tried.
pub const ATTEMPTS_MAX: u32 = 4;
/// The pause before the second attempt; before each later one it is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// So many first bytes of a stream are waited for: any mark is among them. Behind one of an encoding, so many show whether it is one. So
/// many are looked at where they are there.
const MARK_BYTES: usize = 16;
const MARKED_BYTES: usize = 256;
const FIRST_BYTES: usize = 512;
/// What to do about a file that changes.
const CHANGED_HINT: &str = "no table was written; give a copy of the dataset that nobody writes to";

/// The stream of a dataset at this place of its list, for this attempt. It is opened when it is read. An error calls it by its name, where
/// there is one; where it is another file than that of process 0, with this process, where there are several.
pub fn stream(
    dataset: &Dataset,
    place: usize,
    attempt: u32,
    process: Option<Arc<str>>,
    cancelled: &Arc<AtomicBool>,
) -> Box<dyn ByteStream> {
    let location = dataset.streams.get(place).cloned().unwrap_or_default();
    Box::new(Stream {
        name: dataset.names.get(place).cloned().unwrap_or_else(|| shown::location(&location).into_owned()),
        planned: dataset.versions.get(place).copied().flatten(),
        encoding: dataset.encoding.clone(),
        location,
        process,
        not_before: Instant::now() + pause(attempt),
        open: None,
        bytes_read: Arc::default(),
        cancelled: Arc::clone(cancelled),
    })
}

/// The pause before an attempt: none before the first, which is 0.
pub fn pause(attempt: u32) -> Duration {
    attempt.checked_sub(1).map_or(Duration::ZERO, |pauses| FIRST_PAUSE * 4u32.saturating_pow(pauses.min(8)))
}

/// What tells whether a stream is still what it was, where that can be known.
pub fn version(location: &str) -> Option<String> {
    match remote::resolve(location).ok()? {
        Resolved::Local(path) => {
            let metadata = std::fs::metadata(&*path).ok()?;
            let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(format!("{} bytes of {} ns", metadata.len(), modified.as_nanos()))
        }
        Resolved::Remote(Remote::Object(object)) => remote::version(&object).ok()?,
        Resolved::Remote(Remote::Web(_)) | Resolved::Unknown => None,
    }
}

/// What a stream is, for those who open it later: a file of this machine that is there.
pub fn file(location: &str) -> Option<FileVersion> {
    match remote::resolve(location).ok()? {
        Resolved::Local(path) => std::fs::metadata(&*path).ok().filter(std::fs::Metadata::is_file).map(|metadata| version::seen(&metadata)),
        Resolved::Remote(_) | Resolved::Unknown => None,
    }
}

/// Why a stream of this name could not be opened.
pub fn could_not_open(name: &str, error: &io::Error) -> String {
    format!("could not open {name:?}: {error}")
}

/// A stream that was opened.
struct OpenStream {
    stream: Box<dyn Read>,
    ready: Option<Ready>,
    guard: Option<Guard>,
    /// What is known of it before it is looked at. `None` behind its first bytes.
    named: Option<Named>,
}

/// What a stream's name says that it holds, and its input.
struct Named {
    /// `None` where the name says nothing: the first bytes do.
    packing: Option<Packing>,
    encoding: Option<String>,
}

impl OpenStream {
    /// Reads on.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(named) = self.named.take() {
            let packed = std::mem::replace(&mut self.stream, Box::new(io::empty()));
            self.stream = text(packed, &named)?;
        }
        retried(|| self.stream.read(buffer))
    }
}

/// The text of a stream, by its name and its first bytes, as [`look`] looks at other inputs. What begins with a mark of UTF-16 is decoded
/// only where it looks like it: a first line that is broken may begin so, and is skipped.
fn text(mut packed: Box<dyn Read>, named: &Named) -> io::Result<Box<dyn Read>> {
    let other = |found: &str| io::Error::new(io::ErrorKind::InvalidData, format!("it holds {found}"));
    let mut first = beginning(&mut *packed)?;
    let packing = named.packing.unwrap_or_else(|| match format::mark(&first) {
        Some(Mark::Packed(packing)) => packing,
        _ => Packing::Plain,
    });
    let mut stream = packed;
    if packing != Packing::Plain {
        look::packed_as_named(packing, &first).map_err(other)?;
        stream = unpacked(Cursor::new(first).chain(stream), packing)?;
        first = beginning(&mut *stream)?;
    }
    let encoding = match format::mark(&first) {
        Some(Mark::Utf16(_)) if !looks_like_utf16(&first) => named.encoding.as_deref(),
        _ => look::text_encoding(&first, named.encoding.as_deref()).map_err(other)?,
    };
    Ok(decoded(Box::new(Cursor::new(first).chain(stream)), encoding))
}

/// The first bytes of a stream: those that are there, and those that tell what it holds.
fn beginning(stream: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut first = vec![0; FIRST_BYTES];
    let mut length = 0;
    let is_marked = |first: Option<&[u8]>| first.is_some_and(|first| matches!(format::mark(first), Some(Mark::Utf16(_))));
    while length < MARK_BYTES || (length < MARKED_BYTES && is_marked(first.get(..length))) {
        match retried(|| stream.read(first.get_mut(length..).unwrap_or_default()))? {
            0 => break,
            more => length += more,
        }
    }
    first.truncate(length);
    Ok(first)
}

fn retried(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// How a stream is packed, by its name; `None` where that says nothing.
fn named_packing(location: &str) -> Option<Packing> {
    // What a web server wants to be told stands behind the name.
    let name = if location.contains("://") { location.split(['?', '#']).next().unwrap_or(location) } else { location };
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("gz") => Some(Packing::Gzip),
        Some("zst") => Some(Packing::Zstd),
        Some("bz2") => Some(Packing::Bzip2),
        Some("xz") => Some(Packing::Xz),
        _ => format::kind(name).map(|_| Packing::Plain),
    }
}

fn open(location: &str, planned: Option<FileVersion>, encoding: Option<String>, bytes_read: &Arc<AtomicU64>) -> io::Result<OpenStream> {
    let source = match planned {
        Some(planned) => open_planned(location, planned)?,
        None => InputFile::open(location)?,
    };
    let (ready, guard) = (source.ready(), source.guard());
    let named = Some(Named { packing: named_packing(location), encoding });
    Ok(OpenStream { stream: Box::new(Counted { stream: source, read: Arc::clone(bytes_read) }), ready, guard, named })
}

fn open_planned(location: &str, planned: FileVersion) -> io::Result<InputFile> {
    let file = SourceFile { location: location.into(), version: Version::File(planned) };
    InputFile::open_planned(&file, 0, None).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Changed::between(&planned, "missing").into(),
        _ => error,
    })
}

struct Stream {
    location: String,
    name: String,
    planned: Option<FileVersion>,
    encoding: Option<String>,
    process: Option<Arc<str>>,
    not_before: Instant,
    open: Option<OpenStream>,
    bytes_read: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
}

impl Stream {
    /// The error of this stream, of which `what` was tried.
    fn failed(&self, what: &str, behind: &str, error: &io::Error) -> StreamError {
        let name = &self.name;
        let Some(changed) = Changed::of(error) else { return StreamError::Broken(format!("could not {what} {name:?}{behind}: {error}")) };
        let process = self.process.as_ref().map_or(String::new(), |process| format!(" on {process}"));
        let hint = if matches!(changed, Changed::Since { .. }) { CHANGED_HINT } else { changed.hint() };
        let message = format!("could not {what} {name:?}{process}{behind}: {error}");
        StreamError::Changed(SplitError { message, hint: Some(hint.into()) })
    }
}

impl ByteStream for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, StreamError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(Chunk::End);
        }
        let open = match &mut self.open {
            Some(open) => open,
            None if Instant::now() < self.not_before => return Ok(Chunk::Wait),
            None => match open(&self.location, self.planned, self.encoding.clone(), &self.bytes_read) {
                Ok(opened) => self.open.insert(opened),
                Err(error) => return Err(self.failed("open", "", &error)),
            },
        };
        if open.ready.as_ref().is_some_and(|ready| !ready.is_ready()) {
            return Ok(Chunk::Wait);
        }
        let read = match open.read(buffer) {
            // Where it changed, that is why it ends or can't be read.
            Ok(0) | Err(_) if let Some(Err(changed)) = open.guard.as_ref().map(Guard::check) => Err(changed),
            read => read,
        };
        match read {
            Ok(0) => Ok(Chunk::End),
            Ok(bytes) => Ok(Chunk::Bytes(bytes)),
            Err(error) => {
                let at = self.bytes_read.load(Ordering::Relaxed);
                Err(self.failed("read", &format!(" after byte {at}"), &error))
            }
        }
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A stream that was not planned.
    fn stream(location: &str, attempt: u32) -> Box<dyn ByteStream> {
        super::stream(&Dataset::new(Vec::new(), vec![location.into()]), 0, attempt, None, &Arc::default())
    }

    /// One that was planned, in a process of several.
    fn planned(location: &str, planned: FileVersion) -> Box<dyn ByteStream> {
        let dataset = Dataset { versions: vec![Some(planned)], ..Dataset::new(Vec::new(), vec![location.into()]) };
        super::stream(&dataset, 0, 0, Some("process 1 (b:2102)".into()), &Arc::default())
    }

    fn all(location: &str, attempt: u32) -> (Vec<u8>, Option<String>) {
        read(&mut *stream(location, attempt))
    }

    fn read(stream: &mut dyn ByteStream) -> (Vec<u8>, Option<String>) {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 100]);
        loop {
            match stream.read(&mut buffer) {
                Ok(Chunk::Bytes(length)) => bytes.extend_from_slice(&buffer[..length]),
                Ok(Chunk::Wait) => std::thread::yield_now(),
                Ok(Chunk::End) => return (bytes, None),
                Err(error) => return (bytes, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn files_are_unpacked_and_what_breaks_off_is_an_error_after_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        let text: Vec<u8> = (0..20_000u32).flat_map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        std::fs::write(place("plain.csv"), &text).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&text).unwrap();
        let packed = packed.finish().unwrap();
        std::fs::write(place("packed.csv.gz"), &packed).unwrap();
        std::fs::write(place("broken.csv.gz"), &packed[..packed.len() / 2]).unwrap();
        std::fs::write(place("packed.csv.zst"), zstd::encode_all(text.as_slice(), 1).unwrap()).unwrap();
        for name in ["plain.csv", "packed.csv.gz", "packed.csv.zst"] {
            assert!(all(&place(name), 0) == (text.clone(), None), "{name}");
        }
        assert!(all(&format!("file://{}", place("plain.csv")), 1).0 == text);
        let (bytes, error) = all(&place("broken.csv.gz"), 0);
        assert!(!bytes.is_empty() && text.starts_with(&bytes));
        assert!(error.unwrap().starts_with(&format!("could not read {:?} after byte ", place("broken.csv.gz"))));
        let error = all(&place("none.csv"), 0).1.unwrap();
        assert!(error.starts_with(&format!("could not open {:?}: ", place("none.csv"))), "{error}");
        assert!(all("gs://bucket/x", 0).1.unwrap().contains("URLs of this kind are not read"));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x.csv").display().to_string();
        for change in [&b"shorter"[..], &[b'x'; 400]] {
            std::fs::write(&place, [b'x'; 300]).unwrap();
            let mut stream = stream(&place, 0);
            assert_eq!(stream.read(&mut [0; 100]), Ok(Chunk::Bytes(100)));
            std::fs::write(&place, change).unwrap();
            let error = loop {
                match stream.read(&mut [0; 100]) {
                    Ok(chunk) => assert!(matches!(chunk, Chunk::Bytes(_)), "{chunk:?}"),
                    Err(error) => break error,
                }
            };
            let StreamError::Changed(SplitError { message, hint }) = error else { panic!("{error}") };
            assert!(message.contains("it changed while the run was reading: it was 300 bytes of "), "{message}");
            assert!(hint.is_some_and(|hint| hint.contains("a copy of the dataset")));
        }
    }

    /// Between planning and opening: written to, replaced by another of the same size, removed, a device in its place.
    #[test]
    fn a_file_that_is_not_what_was_planned_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x.csv");
        let location = place.display().to_string();
        let replace = || {
            std::fs::write(place.with_extension("new"), [b'y'; 300]).unwrap();
            std::fs::rename(place.with_extension("new"), &place).unwrap();
        };
        let remove = || std::fs::remove_file(&place).unwrap();
        let device = || {
            remove();
            std::os::unix::fs::symlink("/dev/null", &place).unwrap();
        };
        let changes: [(&dyn Fn(), &str); 4] = [
            (&|| std::fs::write(&place, [b'x'; 400]).unwrap(), "and is 400 bytes of "),
            (&replace, "and is 300 bytes of "),
            (&remove, "and is missing"),
            (&device, "and is no regular file"),
        ];
        for (change, found) in changes {
            std::fs::remove_file(&place).ok();
            std::fs::write(&place, [b'x'; 300]).unwrap();
            let version = file(&location).unwrap();
            assert_eq!(read(&mut *planned(&location, version)), (vec![b'x'; 300], None));
            change();
            let (bytes, error) = read(&mut *planned(&location, version));
            let error = error.unwrap();
            let begin =
                format!("could not open {location:?} on process 1 (b:2102): it changed while the run was reading: it was 300 bytes of ");
            assert!(bytes.is_empty() && error.starts_with(&begin) && error.contains(found), "{error}");
        }
        assert!(file("http://x/y").is_none() && file("/dev/null").is_none() && file(folder.path().to_str().unwrap()).is_none());
    }

    #[test]
    fn another_file_on_another_process_is_refused_and_a_copy_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x.csv").display().to_string();
        std::fs::write(&place, [b'x'; 300]).unwrap();
        let opened = Guard::new(&Arc::new(std::fs::File::open(&place).unwrap())).unwrap().unwrap();
        let here = opened.version();
        let elsewhere = FileVersion { seen_by: here.seen_by.wrapping_add(1), ends: Some(opened.ends().unwrap()), modified_ns: 0, ..here };
        assert_eq!(read(&mut *planned(&place, elsewhere)), (vec![b'x'; 300], None));
        std::fs::write(&place, [b'x'; 100]).unwrap();
        let error = planned(&place, elsewhere).read(&mut [0]).unwrap_err();
        let StreamError::Changed(SplitError { message, hint }) = error else { panic!("{error}") };
        let begin =
            format!("could not open {place:?} on process 1 (b:2102): it is another file than that of process 0: there it is 300 bytes");
        assert!(message.starts_with(&begin) && message.contains("and here 100 bytes with ends of hash"), "{message}");
        assert!(hint.is_some_and(|hint| hint.contains("every process must have the same files")));
        std::fs::remove_file(&place).unwrap();
        let error = planned(&place, elsewhere).read(&mut [0]).unwrap_err().to_string();
        assert!(error.starts_with(&begin) && error.ends_with("and here missing"), "{error}");
    }

    #[test]
    fn utf16_with_a_mark_is_read_as_text_and_errors_have_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        let utf16 = |mark: u16, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            std::iter::once(mark).chain("0,3,0.5\n".repeat(100).encode_utf16()).flat_map(bytes).collect()
        };
        for (name, bytes) in [("le.csv", utf16(0xfeff, u16::to_le_bytes)), ("be.csv", utf16(0xfeff, u16::to_be_bytes))] {
            std::fs::write(place(name), bytes).unwrap();
            let (read, error) = all(&place(name), 0);
            let text = String::from_utf8(read).unwrap();
            assert_eq!((text.trim_start_matches('\u{feff}'), error), ("0,3,0.5\n".repeat(100).as_str(), None), "{name}");
        }
        // A first line that is garbage may begin as UTF-16 does.
        let garbage = [b"\xff\xfe\0garbage\n".as_slice(), "1,12,0.057\n".repeat(100).as_bytes()].concat();
        for other in [b"".as_slice(), b"\xff", b"0", b"\xff\xfe", &garbage, &garbage[..20]] {
            std::fs::write(place("other.csv"), other).unwrap();
            assert_eq!(all(&place("other.csv"), 0), (other.into(), None));
        }
        let named = Dataset { names: vec!["given/none.csv".into()], ..Dataset::new(Vec::new(), vec![place("none.csv")]) };
        let error = super::stream(&named, 0, 0, None, &Arc::default()).read(&mut [0]).unwrap_err().to_string();
        assert!(error.starts_with("could not open \"given/none.csv\": "), "{error}");
    }

    #[test]
    fn what_a_stream_holds_is_looked_at_as_in_other_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        let text = "0,3,0.5\n".repeat(100);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        // A name that says nothing, and one in capitals.
        for (name, bytes) in [("stream", packed.as_slice()), ("stream", text.as_bytes()), ("A.CSV.GZ", &packed)] {
            std::fs::write(place(name), bytes).unwrap();
            assert_eq!(all(&place(name), 0), (text.clone().into_bytes(), None), "{name}");
        }
        for (name, bytes, found) in [
            ("a.csv", packed.as_slice(), "gzip"),
            ("a.jsonlines", b"PAR1\x15\x04".as_slice(), "Parquet"),
            ("a.csv.gz", text.as_bytes(), "something that is not packed as its name says"),
            ("a.csv.zst", &packed, "gzip"),
            ("a.csv.zst", &zstd::encode_all(packed.as_slice(), 1).unwrap(), "gzip"),
            ("stream", b"PK\x03\x04\x14", "a zip archive (or a spreadsheet)"),
            ("a.csv", &utf16, "UTF-16 text without a byte order mark (--encoding utf-16le or utf-16be says which)"),
        ] {
            std::fs::write(place(name), bytes).unwrap();
            let (read, error) = all(&place(name), 0);
            let error = error.unwrap();
            assert!(read.is_empty() && error.starts_with(&format!("could not read {:?} after byte ", place(name))), "{error}");
            assert!(error.ends_with(&format!(": it holds {found}")), "{error}");
        }
        let said = Dataset { encoding: Some("utf-16le".into()), ..Dataset::new(Vec::new(), vec![place("a.csv")]) };
        assert_eq!(read(&mut *super::stream(&said, 0, 0, None, &Arc::default())), (text.clone().into_bytes(), None));
        // What a loss of power left is lines that are skipped.
        let zeros = [vec![0; 4_096], text.into_bytes()].concat();
        std::fs::write(place("a.csv"), &zeros).unwrap();
        assert_eq!(all(&place("a.csv"), 0), (zeros, None));
    }

    #[test]
    fn a_later_attempt_waits() {
        let mut stream = stream("/dev/null", 3);
        assert_eq!(stream.read(&mut [0]), Ok(Chunk::Wait));
    }

    #[test]
    fn versions_tell_files_apart() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x").display().to_string();
        assert_eq!(version(&place), None);
        std::fs::write(&place, "1").unwrap();
        let first = version(&place);
        assert!(first.is_some() && first == version(&place));
        std::fs::write(&place, "12").unwrap();
        assert_ne!(version(&place), first);
        assert_eq!(version("http://x/y"), None);
    }
}
