//! Text that is collected, and written in large pieces.

use std::io::{self, Write};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 18;
/// Text on its way to a writer.
pub(super) struct TextBuffer<'a> {
    bytes: Vec<u8>,
    out: &'a mut dyn Write,
}

impl<'a> TextBuffer<'a> {
    /// A buffer in front of `out`.
    pub(super) fn new(out: &'a mut dyn Write) -> TextBuffer<'a> {
        TextBuffer { bytes: Vec::with_capacity(BUFFER_BYTES + 4096), out }
    }

    /// Adds what `write` appends.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        write(&mut self.bytes);
        if self.bytes.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what has been collected.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
