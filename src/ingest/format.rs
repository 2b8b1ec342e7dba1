//! What a file holds: by its name, by its first bytes, and by the text that it begins with.

use super::json;
use retally_core::definition::TextFormat;
use retally_core::record::Context;
use retally_core::split::{Archive, Format, Packing};

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
    /// Values between delimiters.
    Csv,
    /// JSON objects, by line or one after the other, in arrays or not.
    Json,
    /// Rows of columns.
    Parquet,
    /// Files of the text formats.
    Archive(Archive),
}

impl From<TextFormat> for Content {
    fn from(format: TextFormat) -> Content {
        match format {
            TextFormat::Csv => Content::Csv,
            TextFormat::Json => Content::Json,
        }
    }
}

/// The endings of names, for messages.
pub const ENDINGS: &str =
    ".csv, .tsv, .txt, .json, .jsonl, .ndjson, .jsons, .jsonlines, .tar (each also with .gz, .zst, .bz2 or .xz), .zip or .parquet";

/// Reads a file's kind from its name.
pub fn kind(path: &str) -> Option<Kind> {
    kind_with(path, None)
}

/// Likewise, where a format is given for files whose names don't say theirs: `.txt` says no more than that it is text.
pub fn kind_with(path: &str, format: Option<TextFormat>) -> Option<Kind> {
    let name = path.rsplit('/').next()?.to_ascii_lowercase();
    let packings = [(".gz", Packing::Gzip), (".zst", Packing::Zstd), (".bz2", Packing::Bzip2), (".xz", Packing::Xz)];
    let packed = packings.into_iter().find_map(|(ending, packing)| Some((name.strip_suffix(ending)?, packing)));
    let (name, packing) = packed.unwrap_or((&name, Packing::Plain));
    let (content, packing) = match (name.rsplit_once('.')?.1, packing) {
        ("txt", _) => (format.map_or(Content::Csv, Content::from), packing),
        ("csv" | "tsv", _) => (Content::Csv, packing),
        ("json" | "jsonl" | "ndjson" | "jsons" | "jsonlines", _) => (Content::Json, packing),
        ("parquet", Packing::Plain) => (Content::Parquet, packing),
        ("tar", _) => (Content::Archive(Archive::Tar), packing),
        ("tgz", Packing::Plain) => (Content::Archive(Archive::Tar), Packing::Gzip),
        ("txz", Packing::Plain) => (Content::Archive(Archive::Tar), Packing::Xz),
        ("zip", Packing::Plain) => (Content::Archive(Archive::Zip), packing),
        _ => return None,
    };
    Some(Kind { content, packing })
}

/// Whether a file's name says that it is text, and not packed.
pub fn is_plain_text(path: &str) -> bool {
    matches!(kind(path), Some(Kind { content: Content::Csv | Content::Json, packing: Packing::Plain }))
}

/// What a Parquet file begins with.
pub const PARQUET: &[u8] = b"PAR1";

/// What some first bytes are the mark of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something packed.
    Packed(Packing),
    /// Text in two bytes a character: the name of its encoding.
    Utf16(&'static str),
    /// Something that is no text, and is not read: what people call it.
    Other(&'static str),
}

/// What the first bytes of a file say of it, where they are a mark of anything. Some of a tar would be.
pub fn mark(first: &[u8]) -> Option<Mark> {
    const MARKS: [(&[u8], Mark); 14] = [
        (b"\x1f\x8b", Mark::Packed(Packing::Gzip)),
        (b"\x28\xb5\x2f\xfd", Mark::Packed(Packing::Zstd)),
        (b"BZh", Mark::Packed(Packing::Bzip2)),
        (b"\xfd7zXZ\0", Mark::Packed(Packing::Xz)),
        (b"\xff\xfe\0\0", Mark::Other("UTF-32 text")),
        (b"\0\0\xfe\xff", Mark::Other("UTF-32 text")),
        (b"\xff\xfe", Mark::Utf16("utf-16le")),
        (b"\xfe\xff", Mark::Utf16("utf-16be")),
        (b"PK\x03\x04", Mark::Other("a zip archive (or a spreadsheet)")),
        (PARQUET, Mark::Other("Parquet")),
        (b"Obj\x01", Mark::Other("Avro")),
        (b"ORC", Mark::Other("ORC")),
        (b"SQLite format 3\0", Mark::Other("a SQLite database")),
        (b"%PDF-", Mark::Other("PDF")),
    ];
    let is_tar = first.get(TAR_AT..).is_some_and(|rest| rest.starts_with(b"ustar"));
    let found = MARKS.into_iter().find(|(bytes, _)| first.starts_with(bytes)).map(|(_, mark)| mark);
    found.or(is_tar.then_some(Mark::Other("a tar archive")))
}

/// Where a tar archive has its mark.
const TAR_AT: usize = 257;

/// Whether some bytes look like text of two bytes a character without a mark: nearly every second one is zero. A block of zeros, as a loss
/// of power leaves in a file, is no text.
pub fn looks_like_utf16(first: &[u8]) -> bool {
    let first = first.get(..256).unwrap_or(first);
    let zeros = memchr::memchr_iter(0, first).count();
    first.len() >= 8 && zeros * 5 >= first.len() * 2 && zeros * 5 <= first.len() * 3
}

/// How JSON becomes records, by the text that it begins with. `None` where more of it must be seen.
pub fn json_format(text: &[u8], is_all: bool, context: &Context) -> Option<Format> {
    let text = text.trim_ascii_start();
    if !text.starts_with(b"{") {
        // An array, nothing, or what is refused line by line.
        return match text {
            [] if !is_all => None,
            [b'[', ..] => Some(Format::Json { wrapper: None }),
            _ => Some(Format::JsonLines),
        };
    }
    let end = json::element(text);
    if end.is_none() && !is_all {
        return None;
    }
    let object = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let behind = text.get(object.len()..).unwrap_or_default();
    let wrapper = json::wrapper(object, |key| context.knows(key));
    let line_ends = behind.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
    if wrapper.is_none() && !object.contains(&b'\n') && line_ends.is_none_or(|byte| *byte == b'\n') {
        return Some(Format::JsonLines);
    }
    Some(Format::Json { wrapper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;

    #[test]
    fn names_say_format_and_packing() {
        let kind_of = |name| kind(name).map(|kind| (kind.content, kind.packing));
        assert_eq!(kind_of("a/b.csv"), Some((Content::Csv, Packing::Plain)));
        assert_eq!(kind_of("b.CSV.GZ"), Some((Content::Csv, Packing::Gzip)));
        assert_eq!(kind_of("b.txt"), Some((Content::Csv, Packing::Plain)));
        assert_eq!(kind_of("b.tsv.bz2"), Some((Content::Csv, Packing::Bzip2)));
        assert_eq!(kind_of("b.json.xz"), Some((Content::Json, Packing::Xz)));
        assert_eq!(kind_of("b.jsons.zst"), Some((Content::Json, Packing::Zstd)));
        assert_eq!(kind_of("b.zip"), Some((Content::Archive(Archive::Zip), Packing::Plain)));
        for name in ["b.tar.gz", "b.csv.tar.gz", "B.TGZ"] {
            assert_eq!(kind_of(name), Some((Content::Archive(Archive::Tar), Packing::Gzip)), "{name}");
        }
        for name in ["b", "b.parquet.gz", "b.zip.gz", "b.tgz.gz", "b.log", "b.gz", "csv", "b.csv.lz4", "a.csv/b", "b.csv.gz.gz"] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }

    #[test]
    fn first_bytes_are_marks() {
        assert_eq!(mark(b"\x1f\x8b\x08"), Some(Mark::Packed(Packing::Gzip)));
        assert_eq!(mark(b"\xff\xfet\0"), Some(Mark::Utf16("utf-16le")));
        assert_eq!(mark(b"\xff\xfe\0\0t"), Some(Mark::Other("UTF-32 text")));
        assert_eq!(mark(b"timestamp,id"), None);
        assert_eq!(mark(b""), None);
        assert!(looks_like_utf16(b"t\0i\0m\0e\0,\0") && !looks_like_utf16(b"time,id\n12\0,5\n") && !looks_like_utf16(&[0; 512]));
    }

    #[test]
    fn shapes_of_json() {
        let input = sample::input();
        let context = input.context(retally_core::calendar::Calendar::utc());
        let format = |text: &str| json_format(text.as_bytes(), true, &context).unwrap();
        for lines in ["", "\n{\"id\":1}\r\n{", "{\"id\":1}", "  {\"id\":1} \n", "x"] {
            assert_eq!(format(lines), Format::JsonLines, "{lines}");
        }
        for values in ["[", " [{}]", "{\n\"id\":1}", "{\"id\":1}{\"id\":2}", "{\"id\":1} , {\"id\":2}"] {
            assert_eq!(format(values), Format::Json { wrapper: None }, "{values}");
        }
        assert_eq!(format(r#"{"Records":[{"id":1}]}"#), Format::Json { wrapper: Some("Records".into()) });
        assert_eq!(format(r#"{ "Records" : [ ] }"#), Format::Json { wrapper: Some("Records".into()) }, "of a quiet hour");
        for record in [r#"{"tags":[],"x":1}"#, r#"{"id":[]}"#, r#"{"tags":[]"#] {
            let is_wrapped = matches!(format(record), Format::Json { wrapper: Some(_) });
            assert_eq!(is_wrapped, !record.contains("x") && !record.contains("id"), "{record}");
        }
        assert_eq!(json_format(b"{\"id\":", false, &context), None);
        assert_eq!(json_format(b" ", false, &context), None);
    }
}
