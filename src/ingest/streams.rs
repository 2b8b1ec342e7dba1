//! The streams of datasets: files here or elsewhere, packed or not. A stream that failed is opened again after a while, longer each time. A
//! file that is not what was planned is not: no attempt would read that.

use super::file::InputFile;
use super::format::{self, Mark, looks_like_utf16};
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
/// The first bytes of a stream, which may be the mark of an encoding; and behind a mark, those that show whether it is one.
const MARK_BYTES: usize = 4;
const MARKED_BYTES: usize = 256;
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
    /// Nothing has been read of it.
    is_new: bool,
}

impl OpenStream {
    /// Reads on. What begins with a mark of UTF-16, and looks like it, is decoded from there on: a first line that is broken may begin so.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = retried(|| self.stream.read(buffer))?;
        if !std::mem::take(&mut self.is_new) {
            return Ok(length);
        }
        let is_marked = |first: Option<&[u8]>| first.is_some_and(|first| matches!(format::mark(first), Some(Mark::Utf16(_))));
        while length > 0
            && length < if is_marked(buffer.get(..length)) { MARKED_BYTES } else { MARK_BYTES }
            && let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty())
        {
            match retried(|| self.stream.read(rest))? {
                0 => break,
                more => length += more,
            }
        }
        let first = buffer.get(..length).unwrap_or_default();
        let Some(Mark::Utf16(encoding)) = format::mark(first).filter(|_| looks_like_utf16(first)) else { return Ok(length) };
        let whole = Cursor::new(first.to_vec()).chain(std::mem::replace(&mut self.stream, Box::new(io::empty())));
        self.stream = decoded(Box::new(whole), Some(encoding));
        self.stream.read(buffer)
    }
}

fn retried(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn open(location: &str, planned: Option<FileVersion>, bytes_read: &Arc<AtomicU64>) -> io::Result<OpenStream> {
    let source = match planned {
        Some(planned) => open_planned(location, planned)?,
        None => InputFile::open(location)?,
    };
    // What a web server wants to be told stands behind the name.
    let name = if location.contains("://") { location.split(['?', '#']).next().unwrap_or(location) } else { location };
    let packing = match name.rsplit_once('.') {
        Some((_, "gz")) => Packing::Gzip,
        Some((_, "zst")) => Packing::Zstd,
        Some((_, "bz2")) => Packing::Bzip2,
        Some((_, "xz")) => Packing::Xz,
        _ => Packing::Plain,
    };
    let (ready, guard) = (source.ready(), source.guard());
    Ok(OpenStream { stream: unpacked(Counted { stream: source, read: Arc::clone(bytes_read) }, packing)?, ready, guard, is_new: true })
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
            None => match open(&self.location, self.planned, &self.bytes_read) {
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
