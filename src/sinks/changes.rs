//! Changes as NDJSON: a line for every row that came or went.
//!
//! `{"epoch":2,"table":"online_daily","row":{"day":"2026-03-01",…},"diff":-1}`
//!
//! Adding up `diff` by table and row gives the tables as they were after any epoch.

use super::cells::{append_int, append_uint};
use super::json;
use retally_core::contract::Table;
use std::io::{self, Write};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 16;

/// Writes changes to a file or a pipe.
///
/// Lines are collected, and go out when there are many or on [`flush`](ChangesWriter::flush), which one calls when an epoch is
/// complete: what was collected and not flushed is lost with the writer.
#[derive(Debug)]
pub struct ChangesWriter<W: Write> {
    out: W,
    lines: Vec<u8>,
}

impl<W: Write> ChangesWriter<W> {
    /// A writer to `out`, which needs no buffer of its own.
    pub fn new(out: W) -> ChangesWriter<W> {
        ChangesWriter { out, lines: Vec::new() }
    }

    /// Writes the change of a row.
    ///
    /// # Panics
    /// When the bytes are not a row of this table.
    pub fn write(&mut self, table: &Table, epoch: u64, row: &[u8], diff: i64) -> io::Result<()> {
        let lines = &mut self.lines;
        lines.extend_from_slice(b"{\"epoch\":");
        append_uint(lines, epoch);
        lines.extend_from_slice(b",\"table\":");
        json::append_text(lines, table.name);
        lines.extend_from_slice(b",\"row\":");
        json::append_row(lines, table, row);
        lines.extend_from_slice(b",\"diff\":");
        append_int(lines, diff);
        lines.extend_from_slice(b"}\n");
        if self.lines.len() >= BUFFER_BYTES { self.pass_on() } else { Ok(()) }
    }

    /// Hands all lines to the operating system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.out.flush()
    }

    /// Flushes, and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.out.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::row::Row;

    #[test]
    fn a_line_a_change() {
        let mut writer = ChangesWriter::new(Vec::new());
        let row = Row::default().text("events").text("a \"b\".csv").uint(3).text("no time").text("x");
        writer.write(&Table::rejected(), 2, &row.0, -1).unwrap();
        writer.write(&Table::rejected(), 3, &row.0, 1).unwrap();
        let row = r#"{"input":"events","source":"a \"b\".csv","line":3,"reason":"no time","raw":"x"}"#;
        let expected = format!(
            "{{\"epoch\":2,\"table\":\"rejected\",\"row\":{row},\"diff\":-1}}\n{{\"epoch\":3,\"table\":\"rejected\",\"row\":{row},\"diff\":1}}\n"
        );
        assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = ChangesWriter::new(full);
        let row = Row::default().text("").text("").uint(3).text("").text("");
        let failed = (0..10_000).find_map(|_| writer.write(&Table::rejected(), 1, &row.0, 1).err());
        assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
