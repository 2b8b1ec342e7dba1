//! A stream of bytes as lines, in bounded memory: a line that is too long is skipped as it passes.

use retally_core::split::{ByteStream, Chunk, StreamError};
use std::ops::Range;

/// A stream as lines.
pub struct Lines {
    stream: Box<dyn ByteStream>,
    /// A line that does not fit is too long.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to here, from `start` on, there is no end of a line: a long line that comes in small pieces is looked at once.
    searched: usize,
    /// Nothing comes after what is in the buffer.
    ended: bool,
    /// The beginning of a line was too long and is gone; its end is to come.
    dropping: bool,
    /// Nothing has been read yet: there may be a byte order mark.
    fresh: bool,
    /// How many lines have been given or used up.
    count: u64,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its end; see [`Lines::line`].
    Line(Range<usize>),
    /// A line that is too long.
    TooLong,
    /// The buffer has to be filled.
    Fill,
    /// There are no more.
    End,
}

/// What filling the buffer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// There is more in it, or the end has been reached.
    Some,
    /// There is nothing yet.
    Wait,
}

impl Lines {
    /// The lines of `stream`, each shorter than `bytes_max`.
    pub fn new(stream: Box<dyn ByteStream>, bytes_max: usize) -> Lines {
        Lines { stream, buffer: vec![0; bytes_max], start: 0, end: 0, searched: 0, ended: false, dropping: false, fresh: true, count: 0 }
    }

    /// What is in the buffer and not used up.
    pub fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Uses up the first bytes of [`Self::rest`], which are so many lines.
    pub fn consume(&mut self, bytes: usize, lines: u64) {
        self.start = (self.start + bytes).min(self.end);
        self.count += lines;
    }

    /// The number of the line that was given last, from 0.
    pub fn number(&self) -> u64 {
        self.count.saturating_sub(1)
    }

    /// The bytes of a line.
    pub fn line(&self, range: Range<usize>) -> &[u8] {
        let line = self.buffer.get(range).unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// Whether the beginning of a line is missing from [`Self::rest`].
    pub fn is_dropping(&self) -> bool {
        self.dropping
    }

    /// How many bytes of the file have been read.
    pub fn bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }

    /// The next line of the buffer.
    pub fn next(&mut self) -> Next {
        let from = self.searched.max(self.start);
        if let Some(length) = memchr::memchr(b'\n', self.buffer.get(from..self.end).unwrap_or_default()) {
            let line = self.start..from + length;
            self.start = from + length + 1;
            self.count += 1;
            return if std::mem::take(&mut self.dropping) { Next::TooLong } else { Next::Line(line) };
        }
        self.searched = self.end;
        if !self.ended {
            if self.end - self.start == self.buffer.len() {
                self.start = self.end;
                self.dropping = true;
            }
            return Next::Fill;
        }
        let line = self.start..self.end;
        self.start = self.end;
        let dropped = std::mem::take(&mut self.dropping);
        self.count += u64::from(dropped || !line.is_empty());
        match dropped {
            true => Next::TooLong,
            false if line.is_empty() => Next::End,
            false => Next::Line(line),
        }
    }

    /// Reads on.
    pub fn fill(&mut self) -> Result<Filled, StreamError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.searched = self.searched.saturating_sub(self.start);
            self.end -= self.start;
            self.start = 0;
        }
        match self.stream.read(self.buffer.get_mut(self.end..).unwrap_or_default())? {
            Chunk::Bytes(bytes) => self.end += bytes,
            Chunk::Wait => return Ok(Filled::Wait),
            Chunk::End => self.ended = true,
        }
        // Bytes may come one by one: it is a mark, or the beginning of one, or none.
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.fresh && (self.ended || !MARK.starts_with(self.rest()) || self.rest().len() >= MARK.len()) {
            self.fresh = false;
            if self.rest().starts_with(MARK) {
                self.start = MARK.len();
            }
        }
        Ok(Filled::Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a time, and nothing in between.
    struct Trickle(Vec<u8>, usize, bool);

    impl ByteStream for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, StreamError> {
            self.2 = !self.2;
            if self.2 {
                return Ok(Chunk::Wait);
            }
            let bytes = self.0.len().min(self.1).min(buffer.len());
            if bytes == 0 {
                assert!(self.0.is_empty(), "asked for no bytes");
                return Ok(Chunk::End);
            }
            buffer[..bytes].copy_from_slice(&self.0[..bytes]);
            self.0.drain(..bytes);
            Ok(Chunk::Bytes(bytes))
        }

        fn bytes_read(&self) -> u64 {
            0
        }
    }

    fn lines(text: &str, chunk: usize) -> Vec<String> {
        let mut lines = Lines::new(Box::new(Trickle(text.into(), chunk, false)), 8);
        let mut found = Vec::new();
        loop {
            match lines.next() {
                Next::Line(range) => found.push(String::from_utf8(lines.line(range).to_vec()).unwrap()),
                Next::TooLong => found.push("TOO LONG".into()),
                Next::Fill => {
                    lines.fill().unwrap();
                }
                Next::End => return found,
            }
            assert_eq!(lines.number(), (found.len() as u64).saturating_sub(1));
        }
    }

    #[test]
    fn lines_do_not_depend_on_the_chunks_they_come_in() {
        for chunk in 1..10 {
            assert_eq!(lines("", chunk), [""; 0]);
            assert_eq!(lines("a\r\n\nb", chunk), ["a", "", "b"]);
            assert_eq!(lines("\u{feff}a\n", chunk), ["a"]);
            assert_eq!(lines("1234567\n12345678\n123456789\nx\n", chunk), ["1234567", "TOO LONG", "TOO LONG", "x"]);
            assert_eq!(lines("x\n1234567890123456789", chunk), ["x", "TOO LONG"]);
            assert_eq!(lines("x\n12345678", chunk), ["x", "TOO LONG"]);
        }
    }
}
