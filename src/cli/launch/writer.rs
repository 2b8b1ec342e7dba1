//! Lines on their way to whoever reads them, written by a thread of its own: whoever prints never waits for whoever reads.
//!
//! Lines wait in a queue that has a limit. Where it is full, [`Writer::offer`] drops a line and counts it, and the count is written where
//! these lines would have stood, once there is room again. [`Writer::put`] drops nothing: it waits for room.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many bytes of lines wait, and one line more.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Writes lines. Any thread may give them.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The lines that wait.
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    /// So many were dropped behind the last one.
    dropped: u64,
    /// The line that says so.
    tells_dropped: fn(u64) -> String,
    /// One is being written.
    is_writing: bool,
}

impl Waiting {
    fn push(&mut self, line: String) {
        if self.dropped > 0 {
            let told = (self.tells_dropped)(std::mem::take(&mut self.dropped));
            self.push(told);
        }
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn offer(&mut self, line: String) {
        // Once some were dropped, there is to be room for many before others are taken.
        let limit = if self.dropped == 0 { WAITING_BYTES_MAX } else { WAITING_BYTES_MAX / 2 };
        if self.bytes < limit { self.push(line) } else { self.dropped += 1 }
    }

    fn next(&mut self) -> Option<String> {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
            return Some(line);
        }
        (self.dropped > 0).then(|| (self.tells_dropped)(std::mem::take(&mut self.dropped)))
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.is_writing
    }
}

impl Writer {
    /// Begins to write. `tells_dropped` makes a line of how many were dropped.
    pub fn start(name: &str, mut into: impl Write + Send + 'static, tells_dropped: fn(u64) -> String) -> io::Result<Writer> {
        let waiting = Waiting { lines: VecDeque::new(), bytes: 0, dropped: 0, tells_dropped, is_writing: false };
        let writer = Writer(Arc::new(Shared { waiting: Mutex::new(waiting), changed: Condvar::new() }));
        let writes = writer.clone();
        let run = move || {
            loop {
                let line = writes.next();
                // Where nobody listens any more, nothing is lost by going on.
                into.write_all(format!("{line}\n").as_bytes()).and_then(|()| into.flush()).ok();
                writes.lock().is_writing = false;
                writes.0.changed.notify_all();
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(writer)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a line that is to be written.
    fn next(&self) -> String {
        let mut waiting = self.lock();
        loop {
            if let Some(line) = waiting.next() {
                waiting.is_writing = true;
                self.0.changed.notify_all();
                return line;
            }
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a line, where there is room.
    pub fn offer(&self, line: String) {
        self.lock().offer(line);
        self.0.changed.notify_all();
    }

    /// Writes a line, as soon as there is room.
    pub fn put(&self, line: String) {
        let mut waiting = self.lock();
        while waiting.bytes >= WAITING_BYTES_MAX {
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.push(line);
        self.0.changed.notify_all();
    }

    /// Writes the last lines, whether there is room or not, and waits until all is written; for so long at most.
    pub fn end(&self, lines: impl IntoIterator<Item = String>, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut waiting = self.lock();
        lines.into_iter().for_each(|line| waiting.push(line));
        self.0.changed.notify_all();
        while !waiting.is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = self.0.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether all is written.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, pipe};

    fn told(count: u64) -> String {
        format!("{count} dropped")
    }

    #[test]
    fn lines_are_written_in_order() {
        let (reader, into) = pipe().unwrap();
        let writer = Writer::start("test", into, told).unwrap();
        (0..100).for_each(|number| writer.offer(number.to_string()));
        writer.end(["end".to_string()], Duration::from_secs(60));
        assert!(writer.is_idle());
        let lines: Vec<String> = BufReader::new(reader).lines().take(101).collect::<io::Result<_>>().unwrap();
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).chain(["end".to_string()]).collect();
        assert_eq!(lines, expected);
    }

    /// Nobody who offers a line waits, and what was dropped is said in its place.
    #[test]
    fn where_nobody_reads_lines_are_dropped_and_counted() {
        let (reader, into) = pipe().unwrap();
        let writer = Writer::start("test", into, told).unwrap();
        let long = "x".repeat(1 << 20);
        (0..20).for_each(|_| writer.offer(long.clone()));
        let began = Instant::now();
        writer.end(["end".to_string()], Duration::from_millis(20));
        assert!(!writer.is_idle() && began.elapsed() < Duration::from_secs(30));
        let lines: Vec<String> = BufReader::new(reader).lines().map_while(Result::ok).take_while(|line| line != "end").collect();
        // One of them may have left the queue for the pipe by then.
        let written = lines.iter().filter(|line| **line == long).count();
        assert!((4..=5).contains(&written), "{written}");
        assert_eq!(lines[written..], [told(20 - written as u64)]);
    }

    #[test]
    fn who_drops_nothing_is_held_back() {
        let (reader, into) = pipe().unwrap();
        let writer = Writer::start("test", into, told).unwrap();
        let puts = writer.clone();
        let long = "x".repeat(1 << 20);
        let line = long.clone();
        let putting = std::thread::spawn(move || (0..20).for_each(|_| puts.put(line.clone())));
        assert!(!putting.is_finished());
        let lines: Vec<String> = BufReader::new(reader).lines().take(20).collect::<io::Result<_>>().unwrap();
        putting.join().unwrap();
        assert!(lines.iter().all(|line| *line == long));
    }
}
