//! Streams that can be read once: standard input, pipes, devices. Whoever plans a batch opens and looks at them; they wait here, with what
//! has been looked at put back, for the worker that reads them.
//!
//! What is read from its end, as Parquet is, is copied into a file without a name: it is gone when the process is, whatever ends that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// A stream that can be read once.
pub type Stream = Box<dyn Read + Send>;

/// What waits to be read.
pub enum Waiting {
    /// A stream.
    Stream(Stream),
    /// A copy of one, and so many bytes.
    Copy(Arc<File>, u64),
}

/// What waits, and the number of the next one.
static WAITING: Mutex<(u64, BTreeMap<u64, Waiting>)> = Mutex::new((0, BTreeMap::new()));

/// Keeps what waits until it is read. Returns its number.
pub fn keep(what: Waiting) -> u64 {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let (next, all) = &mut *waiting;
    *next += 1;
    all.insert(*next, what);
    *next
}

/// Takes a stream, which is there once.
pub fn take_stream(id: u64) -> io::Result<Stream> {
    match take(id) {
        Some(Waiting::Stream(stream)) => Ok(stream),
        _ => Err(is_gone()),
    }
}

/// Takes a copy and its length, which are there once.
pub fn take_copy(id: u64) -> io::Result<(Arc<File>, u64)> {
    match take(id) {
        Some(Waiting::Copy(file, bytes)) => Ok((file, bytes)),
        _ => Err(is_gone()),
    }
}

fn take(id: u64) -> Option<Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&id)
}

fn is_gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it was read already")
}

/// Copies a stream to its end.
pub fn copy(mut stream: impl Read) -> io::Result<(Arc<File>, u64)> {
    let folder = std::env::temp_dir();
    let in_folder = |error: io::Error| io::Error::new(error.kind(), format!("it is copied into {}, and {error}", folder.display()));
    let mut file = tempfile::tempfile_in(&folder).map_err(in_folder)?;
    let bytes = io::copy(&mut stream, &mut file).map_err(in_folder)?;
    Ok((Arc::new(file), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_once() {
        let id = keep(Waiting::Stream(Box::new(&b"text"[..])));
        let mut text = String::new();
        take_stream(id).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(take_stream(id).is_err());
    }
}
