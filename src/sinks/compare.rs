//! How the rows of a table that a place holds differ from those that it should hold.
//!
//! A file that has the size and the checksum of what would be written is right. Of any other one the rows are counted: those that are
//! missing, and those that should not be there, in whatever order they stand.
//!
//! # Limits
//! To count, the rows as they should be are written to a temporary file of the system, and 16 bytes are held for each.

use super::Format;
use crate::tables::TableState;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;

/// How many rows of a table are not as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deviation {
    /// Rows that should be there.
    pub missing: u64,
    /// Rows that should not.
    pub others: u64,
}

impl Deviation {
    /// Both.
    pub fn rows(self) -> u64 {
        self.missing + self.others
    }
}

/// Compares the file of a table with its rows.
pub(super) fn file(table: &TableState, format: Format, path: &Path) -> io::Result<Deviation> {
    let (mut there, mut expected) = (Summed::new(io::sink()), Summed::new(io::sink()));
    let mut file = File::open(path)?;
    io::copy(&mut file, &mut there)?;
    format.write(table, &mut expected)?;
    if there.is_same(&expected) {
        return Ok(Deviation::default());
    }
    // One that was made to be opened by a spreadsheet is right, too.
    if format == Format::Csv && is_safe(table, &there)? {
        return Ok(Deviation::default());
    }
    let mut expected = tempfile::tempfile()?;
    format.write(table, &mut expected)?;
    let mut times: HashMap<u64, i64> = HashMap::new();
    for (mut file, once) in [(expected, 1), (file, -1)] {
        file.rewind()?;
        rows(file, format, |row| *times.entry(row).or_insert(0) += once)?;
    }
    let sum = |of: fn(&i64) -> bool| times.values().filter(|times| of(times)).map(|times| times.unsigned_abs()).sum();
    Ok(Deviation { missing: sum(|times| *times > 0), others: sum(|times| *times < 0) })
}

fn is_safe(table: &TableState, there: &Summed<io::Sink>) -> io::Result<bool> {
    let mut safe = Summed::new(io::sink());
    Format::CsvSafe.write(table, &mut safe)?;
    Ok(there.is_same(&safe))
}

/// Hands on what distinguishes each row of a file from the others.
fn rows(file: File, format: Format, mut each: impl FnMut(u64)) -> io::Result<()> {
    match format {
        Format::Csv | Format::CsvSafe => {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
            let mut record = csv::ByteRecord::new();
            while reader.read_byte_record(&mut record)? {
                each(hash(record.iter().collect::<Vec<_>>()));
            }
        }
        Format::Json => {
            let mut lines = BufReader::new(file);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 {
                each(hash(line.trim_ascii_end()));
                line.clear();
            }
        }
        Format::Parquet => {
            let reader = SerializedFileReader::new(file).map_err(io::Error::other)?;
            for row in reader.get_row_iter(None).map_err(io::Error::other)? {
                each(hash(row.map_err(io::Error::other)?.to_string()));
            }
        }
    }
    Ok(())
}

fn hash(row: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

/// What is written, with its size and checksum.
pub(super) struct Summed<W> {
    out: W,
    pub(super) size: u64,
    sum: crc32fast::Hasher,
}

impl<W> Summed<W> {
    pub(super) fn new(out: W) -> Summed<W> {
        Summed { out, size: 0, sum: crc32fast::Hasher::new() }
    }

    pub(super) fn crc32(&self) -> u32 {
        self.sum.clone().finalize()
    }

    fn is_same<V>(&self, other: &Summed<V>) -> bool {
        (self.size, self.crc32()) == (other.size, other.crc32())
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.sum.update(bytes.get(..length).unwrap_or_default());
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::{sample, state};
    use super::*;

    #[test]
    fn rows_that_are_missing_and_others() {
        let (full, none) = (sample(), state(sample().table().columns.clone(), []));
        let rows = full.len();
        for format in Format::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("table");
            let written = |table: &TableState| {
                let mut bytes = Vec::new();
                format.write(table, &mut bytes).unwrap();
                std::fs::write(&path, bytes).unwrap();
            };
            written(&full);
            assert_eq!(file(&full, format, &path).unwrap(), Deviation::default());
            assert_eq!(file(&none, format, &path).unwrap(), Deviation { missing: 0, others: rows }, "{format:?}");
            written(&none);
            assert_eq!(file(&full, format, &path).unwrap(), Deviation { missing: rows, others: 0 }, "{format:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        // In another order, with a row changed.
        let mut lines = Vec::new();
        Format::Json.write(&full, &mut lines).unwrap();
        let mut lines: Vec<String> = String::from_utf8(lines).unwrap().lines().map(|line| format!("{line}\n")).collect();
        lines.reverse();
        std::fs::write(&path, lines.concat()).unwrap();
        assert_eq!(file(&full, Format::Json, &path).unwrap(), Deviation::default());
        lines[0] = lines[0].replace('}', ",\"more\":1}");
        std::fs::write(&path, lines.concat()).unwrap();
        assert_eq!(file(&full, Format::Json, &path).unwrap(), Deviation { missing: 1, others: 1 });
        std::fs::write(&path, "no such file").unwrap();
        assert!(file(&full, Format::Parquet, &path).is_err());
    }
}
