//! What a file holds, by its name and its first line.

use retally_core::record::Field;
use retally_core::split::{Archive, Format, Packing};
use std::io::{self, Read};

/// How much of a file is looked at for its first line.
pub const FIRST_LINE_BYTES_MAX: u64 = 1 << 20;

/// What a file's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What it holds.
    pub content: Content,
    /// How it is packed.
    pub packing: Packing,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Comma-separated values.
    Csv,
    /// JSON, by line or as an array.
    Json,
    /// Files of these kinds.
    Archive(Archive),
}

/// Reads a file's kind from its name.
pub fn kind(path: &str) -> Option<Kind> {
    let name = path.rsplit('/').next()?.to_ascii_lowercase();
    let (name, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(name), _) => (name, Packing::Gzip),
        (_, Some(name)) => (name, Packing::Zstd),
        _ => (name.as_str(), Packing::Plain),
    };
    let (content, packing) = match (name.rsplit_once('.')?.1, packing) {
        ("csv", _) => (Content::Csv, packing),
        ("json" | "jsonl" | "ndjson" | "jsons" | "jsonlines", _) => (Content::Json, packing),
        ("tar", _) => (Content::Archive(Archive::Tar), packing),
        ("tgz", Packing::Plain) => (Content::Archive(Archive::Tar), Packing::Gzip),
        ("zip", Packing::Plain) => (Content::Archive(Archive::Zip), packing),
        _ => return None,
    };
    Some(Kind { content, packing })
}

/// How a file's bytes become records, by its first line.
pub fn format_of(content: Content, first_line: &[u8], fields: &'static [Field]) -> Format {
    match content {
        Content::Csv => csv_format(first_line, fields),
        _ if first_line.trim_ascii_start().starts_with(b"[") => Format::JsonArray,
        _ => Format::JsonLines,
    }
}

/// The beginning of a stream.
pub struct FirstLine {
    /// The first line that is not blank, with the blank ones before it.
    pub line: Vec<u8>,
    /// All that was read of the stream.
    pub read: Vec<u8>,
}

/// Reads the first line that is not blank.
pub fn first_line(stream: impl Read) -> io::Result<FirstLine> {
    let mut stream = stream.take(FIRST_LINE_BYTES_MAX);
    let mut read = Vec::new();
    let mut block = vec![0; 4 << 10];
    loop {
        let length = stream.read(&mut block)?;
        read.extend_from_slice(block.get(..length).unwrap_or_default());
        let line = first_line_of(&read);
        if line.len() < read.len() || length == 0 {
            return Ok(FirstLine { line: line.to_vec(), read });
        }
    }
}

/// The first line of some bytes that is not blank, with the blank ones before it.
pub fn first_line_of(bytes: &[u8]) -> &[u8] {
    let blank = bytes.len() - bytes.trim_ascii_start().len();
    let end = bytes.get(blank..).and_then(|rest| memchr::memchr(b'\n', rest)).map_or(bytes.len(), |end| blank + end);
    bytes.get(..end).unwrap_or_default()
}

/// The delimiter that the first line has most of; and the header, when the first line names a field.
fn csv_format(first: &[u8], fields: &'static [Field]) -> Format {
    // A header stands in the very first line.
    let leads = !first.starts_with(b"\n") && !first.starts_with(b"\r");
    let count = |delimiter: u8| memchr::memchr_iter(delimiter, first).count();
    let delimiter = [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',');
    let place = |column: &[u8]| fields.iter().position(|field| column.trim_ascii().eq_ignore_ascii_case(field.name.as_bytes()));
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(first);
    let columns = reader.byte_records().next().and_then(Result::ok).unwrap_or_default();
    let places: Vec<Option<usize>> = columns.iter().map(place).collect();
    // Lines that end in a carriage return alone would all be in that header, and none be missed: they are refused instead.
    let whole = memchr::memchr(b'\r', first.strip_suffix(b"\r").unwrap_or(first)).is_none();
    let header = (leads && whole && places.iter().any(Option::is_some)).then_some(places);
    Format::Csv { delimiter, header }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[Field { name: "time", about: "" }, Field { name: "id", about: "" }];

    #[test]
    fn names_say_format_and_packing() {
        let kind_of = |name| kind(name).map(|kind| (kind.content, kind.packing));
        assert_eq!(kind_of("a/b.csv"), Some((Content::Csv, Packing::Plain)));
        assert_eq!(kind_of("b.CSV.GZ"), Some((Content::Csv, Packing::Gzip)));
        assert_eq!(kind_of("b.jsons.zst"), Some((Content::Json, Packing::Zstd)));
        assert_eq!(kind_of("b.zip"), Some((Content::Archive(Archive::Zip), Packing::Plain)));
        for name in ["b.tar.gz", "b.csv.tar.gz", "B.TGZ"] {
            assert_eq!(kind_of(name), Some((Content::Archive(Archive::Tar), Packing::Gzip)), "{name}");
        }
        for name in ["b", "b.zip.gz", "b.tgz.gz", "b.txt", "b.gz", "csv", "b.csv.bz2", "a.csv/b"] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }

    #[test]
    fn delimiters_and_headers() {
        let format = |first: &str| match csv_format(first.as_bytes(), FIELDS) {
            Format::Csv { delimiter, header } => (delimiter as char, header),
            other => panic!("{other:?}"),
        };
        assert_eq!(format("2026-01-01 00:00:00,1"), (',', None));
        assert_eq!(format("time,id"), (',', Some(vec![Some(0), Some(1)])));
        assert_eq!(format("x;\"ID\"; Time"), (';', Some(vec![None, Some(1), Some(0)])));
        assert_eq!(format("id\tx\r"), ('\t', Some(vec![Some(1), None])));
        assert_eq!(format(""), (',', None));
        assert_eq!(format("\n\ntime,id"), (',', None));
        assert_eq!(format("  \nid,time"), (',', None), "a line of spaces is the first line");
        assert_eq!(format("time,id\r2026-01-01 00:00:00,1"), (',', None));
    }
}
