//! The streams of datasets: files, packed or not. A stream that failed is opened again after a while, longer each time.
//!
//! To read from elsewhere: a line in [`open`], and something that reads; what can make a worker wait belongs on a thread of its own, behind a bounded channel.

use super::read::unpacked;
use retally_core::split::{ByteStream, Chunk, Packing};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a dataset is tried.
pub const ATTEMPTS_MAX: u32 = 4;
/// The pause before the second attempt; before each later one it is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The stream at a path or URL, for this attempt. It is opened when it is read.
pub fn stream(location: &str, attempt: u32, cancelled: &Arc<AtomicBool>) -> Box<dyn ByteStream> {
    let pause = attempt.checked_sub(1).map_or(Duration::ZERO, |pauses| FIRST_PAUSE * 4u32.saturating_pow(pauses.min(8)));
    Box::new(Stream {
        location: location.into(),
        not_before: Instant::now() + pause,
        open: None,
        bytes_read: Arc::default(),
        cancelled: Arc::clone(cancelled),
    })
}

/// What tells whether a file is still what it was.
pub fn version(location: &str) -> Option<String> {
    let metadata = std::fs::metadata(path(location)?).ok()?;
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} bytes of {} ns", metadata.len(), modified.as_nanos()))
}

/// The path that a location means; `None` for URLs of other kinds.
fn path(location: &str) -> Option<&str> {
    match location.split_once("://") {
        None => Some(location),
        Some(("file", path)) => Some(path),
        Some(_) => None,
    }
}

fn open(location: &str, bytes_read: &Arc<AtomicU64>) -> io::Result<Box<dyn Read>> {
    let Some(path) = path(location) else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "URLs of this kind are not supported yet; give a path"));
    };
    let packing = match path.rsplit_once('.') {
        Some((_, "gz")) => Packing::Gzip,
        Some((_, "zst")) => Packing::Zstd,
        _ => Packing::Plain,
    };
    unpacked(Counted { file: File::open(path)?, bytes_read: Arc::clone(bytes_read) }, packing)
}

struct Stream {
    location: String,
    not_before: Instant,
    open: Option<Box<dyn Read>>,
    bytes_read: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
}

impl ByteStream for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, String> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(Chunk::End);
        }
        let stream = match &mut self.open {
            Some(stream) => stream,
            None if Instant::now() < self.not_before => return Ok(Chunk::Wait),
            None => {
                let opened = open(&self.location, &self.bytes_read);
                self.open.insert(opened.map_err(|error| format!("could not open {:?}: {error}", self.location))?)
            }
        };
        loop {
            match stream.read(buffer) {
                Ok(0) => return Ok(Chunk::End),
                Ok(bytes) => return Ok(Chunk::Bytes(bytes)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let at = self.bytes_read.load(Ordering::Relaxed);
                    return Err(format!("could not read {:?} after byte {at}: {error}", self.location));
                }
            }
        }
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    file: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.bytes_read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(location: &str, attempt: u32) -> (Vec<u8>, Option<String>) {
        let mut stream = stream(location, attempt, &Arc::default());
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 100]);
        loop {
            match stream.read(&mut buffer) {
                Ok(Chunk::Bytes(length)) => bytes.extend_from_slice(&buffer[..length]),
                Ok(Chunk::Wait) => std::thread::yield_now(),
                Ok(Chunk::End) => return (bytes, None),
                Err(error) => return (bytes, Some(error)),
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
        assert!(all("s3://bucket/x", 0).1.unwrap().contains("not supported yet"));
    }

    #[test]
    fn a_later_attempt_waits() {
        let mut stream = stream("/dev/null", 3, &Arc::default());
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
