//! A stream of bytes in blocks that can be cut: what is not used up of a block is there again, before more of the stream.

use std::io::{self, Read};

/// How much is read at a time: enough that a call to the system costs nothing, little enough to stay in the cache.
pub const BLOCK_BYTES: usize = 256 << 10;
/// The first block: most batches of a service are smaller, and to clear a large one would take longer than reading them.
const FIRST_BYTES: usize = 8 << 10;

/// A buffered stream.
pub struct Blocks<R> {
    stream: R,
    buffer: Vec<u8>,
    /// The part of the buffer that is filled and not used up.
    start: usize,
    end: usize,
    /// Whether the stream has ended.
    ended: bool,
    /// The bytes that have been used up.
    consumed: u64,
}

impl<R: Read> Blocks<R> {
    /// The blocks of a stream.
    pub fn new(stream: R) -> Blocks<R> {
        Blocks { stream, buffer: vec![0; FIRST_BYTES], start: 0, end: 0, ended: false, consumed: 0 }
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether nothing comes after [`Self::bytes`].
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// How many bytes have been used up.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Uses up the first bytes.
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
        self.consumed += bytes as u64;
    }

    /// Reads on: at least a byte more, or to the end. A buffer grows that is full of what has not been used up; so does the first one that
    /// was full.
    pub fn fill(&mut self) -> io::Result<()> {
        let was_too_small = self.end == self.buffer.len() && self.end < BLOCK_BYTES;
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if was_too_small || self.buffer.len() - self.end < self.buffer.len() / 2 {
            self.buffer.resize((self.buffer.len() * 2).max(BLOCK_BYTES), 0);
        }
        loop {
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(free) {
                Ok(0) => self.ended = true,
                Ok(bytes) => self.end += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}
