//! Streams that can be read once: standard input, pipes, devices. Whoever plans a batch opens and looks at them; they wait here, with what
//! has been looked at put back, for the worker that reads them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::PoisonError;

type Stream = Box<dyn Read + Send>;

/// The streams that wait, and the number of the next one.
static WAITING: Mutex<(u64, BTreeMap<u64, Stream>)> = Mutex::new((0, BTreeMap::new()));

/// Keeps a stream until it is read. Returns its number.
pub fn keep(stream: Stream) -> u64 {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let (next, streams) = &mut *waiting;
    *next += 1;
    streams.insert(*next, stream);
    *next
}

/// Takes a stream, which is there once.
pub fn take(id: u64) -> io::Result<Stream> {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.1.remove(&id).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it was read already"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_once() {
        let id = keep(Box::new(&b"text"[..]));
        let mut text = String::new();
        take(id).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(take(id).is_err());
    }
}
