//! Lines of a generated file, some of which wait until others are written: as events do that come late.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A file of lines, some of which wait.
pub struct LateLines {
    file: BufWriter<Box<dyn Write>>,
    written: u64,
    /// By the number of lines after which they come, and a number of their own.
    waiting: BTreeMap<(u64, u64), String>,
}

impl LateLines {
    /// Lines for this file.
    pub fn new(file: Box<dyn Write>) -> LateLines {
        LateLines { file: BufWriter::with_capacity(BUFFER_BYTES, file), written: 0, waiting: BTreeMap::new() }
    }

    /// How many lines are written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes a line.
    pub fn write(&mut self, line: &str) -> io::Result<()> {
        self.written += 1;
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")
    }

    /// Keeps a line until so many others are written. Of those that then wait, the one with the lowest `turn` goes first.
    pub fn delay(&mut self, line: &str, others: u64, turn: u64) {
        self.waiting.insert((self.written + others, turn), line.into());
    }

    /// Writes the lines that have waited long enough.
    pub fn write_due(&mut self) -> io::Result<()> {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= self.written) {
            let line = entry.remove();
            self.write(&line)?;
        }
        Ok(())
    }

    /// Writes all that wait.
    pub fn finish(mut self) -> io::Result<()> {
        for line in std::mem::take(&mut self.waiting).into_values() {
            self.write(&line)?;
        }
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Files;
    use crate::testing::files::Memory;

    #[test]
    fn a_line_comes_after_as_many_others_as_it_waits_for() {
        let mut memory = Memory::default();
        let mut lines = LateLines::new(memory.create("lines").unwrap());
        lines.delay("late", 2, 1);
        lines.delay("last", 9, 0);
        lines.delay("as late, and before", 2, 0);
        for line in ["a", "b", "c"] {
            lines.write(line).unwrap();
            lines.write_due().unwrap();
        }
        assert_eq!(lines.written(), 5);
        lines.finish().unwrap();
        assert_eq!(memory.texts()["lines"], "a\nb\nas late, and before\nlate\nc\nlast\n");
    }
}
