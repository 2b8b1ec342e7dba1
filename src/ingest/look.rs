//! A look at the beginning of a file, a body or a file in an archive: what it holds, and how that becomes records.

use super::IngestError;
use super::format::{Content, Mark, json_format, looks_like_utf16, mark};
use super::header;
use super::unpack::{decoded, packing_name, without_bom};
use super::wide;
use retally_core::calendar::Calendar;
use retally_core::contract::Input;
use retally_core::record::Context;
use retally_core::split::{Format, Packing};
use std::io::{Cursor, Read, Seek, SeekFrom};

/// So much is looked at first.
const FIRST_BYTES: u64 = 16 << 10;
/// And so much where that is not enough: 1 MiB.
pub const LOOKED_BYTES_MAX: u64 = 1 << 20;

/// What a look tells.
#[derive(Debug)]
pub struct Found {
    pub format: Format,
    /// The encoding of the text, where it is not UTF-8.
    pub encoding: Option<String>,
}

/// Looks at streams of an input, and gives them back whole.
#[derive(Clone, Debug)]
pub struct Looker {
    input: Input,
    context: Context,
}

impl Looker {
    /// For streams of this input.
    pub fn new(input: &Input) -> Looker {
        // Whether a line is a record doesn't depend on the zone.
        Looker { input: input.clone(), context: input.context(Calendar::utc()) }
    }

    /// Looks at an unpacked stream. What it is read from on follows: the text, without a byte order mark, from its beginning.
    ///
    /// What a name says that it holds is refused where its first bytes are the mark of something else.
    pub fn look(&self, name: &str, content: Option<Content>, mut stream: Box<dyn Read>) -> Result<(Found, Box<dyn Read>), IngestError> {
        let io = |source| IngestError::Io { what: "read", path: name.into(), source };
        let mut first = Vec::new();
        stream.by_ref().take(FIRST_BYTES).read_to_end(&mut first).map_err(io)?;
        let other = |found: &str| IngestError::OtherContent { path: name.into(), found: found.into() };
        let encoding = text_encoding(&first, self.input.files.encoding.as_deref()).map_err(other)?.map(String::from);
        let whole: Box<dyn Read> = Box::new(Cursor::new(first).chain(stream));
        let (_, mut text) = without_bom(decoded(whole, encoding.as_deref())).map_err(io)?;
        let mut beginning = Vec::new();
        let mut limit = FIRST_BYTES;
        let format = loop {
            let wanted = limit.saturating_sub(beginning.len() as u64);
            let read = text.by_ref().take(wanted).read_to_end(&mut beginning).map_err(io)?;
            let is_all = (read as u64) < wanted || limit >= LOOKED_BYTES_MAX;
            if let Some(format) = self.format(name, content, &beginning, is_all)? {
                break format;
            }
            limit = LOOKED_BYTES_MAX;
        };
        Ok((Found { format, encoding }, Box::new(Cursor::new(beginning).chain(text))))
    }

    /// What is looked for in streams.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// How a text becomes records, by its beginning. `None` where more of it must be seen.
    fn format(&self, name: &str, content: Option<Content>, text: &[u8], is_all: bool) -> Result<Option<Format>, IngestError> {
        let content = content.or(self.input.files.format.map(Content::from));
        let content = match (content, text.trim_ascii_start().first()) {
            (Some(content), _) => content,
            (None, Some(b'{' | b'[')) => Content::Json,
            (None, Some(_)) => Content::Csv,
            (None, None) if !is_all => return Ok(None),
            (None, None) => Content::Csv,
        };
        if content == Content::Csv {
            let columns = match self.input.files.wide {
                None => header::columns(name, text, is_all, &self.input, &self.context, self.input.files.skip_rows),
                Some(wide) => wide::columns(name, text, is_all, &self.input, wide),
            };
            return columns.transpose().map(|columns| columns.map(Format::Csv));
        }
        if self.input.files.wide.is_some() {
            return Err(IngestError::NotWide { path: name.into() });
        }
        Ok(json_format(text, is_all, &self.context))
    }
}

/// The encoding of the text that begins so, where it is not UTF-8: its mark counts more than what was given. An error is the name of what
/// is there instead of text.
pub fn text_encoding<'e>(first: &[u8], given: Option<&'e str>) -> Result<Option<&'e str>, &'static str> {
    match mark(first) {
        Some(Mark::Utf16(encoding)) => Ok(Some(encoding)),
        Some(Mark::Packed(packing)) => Err(packing_name(packing).unwrap_or_default()),
        Some(Mark::Other(found)) => Err(found),
        None if given.is_none() && looks_like_utf16(first) => {
            Err("UTF-16 text without a byte order mark (--encoding utf-16le or utf-16be says which)")
        }
        None => Ok(given),
    }
}

/// Whether what begins so is packed as its name says. An error is the name of what is there instead.
pub fn packed_as_named(packing: Packing, first: &[u8]) -> Result<(), &'static str> {
    Err(match mark(first) {
        Some(Mark::Packed(found)) if found == packing => return Ok(()),
        Some(Mark::Packed(found)) => packing_name(found).unwrap_or_default(),
        Some(Mark::Other(found)) => found,
        // Whoever unpacks it reports that.
        None if first.is_empty() => return Ok(()),
        Some(Mark::Utf16(_)) => "UTF-16 text",
        // Frames that are passed over have marks of their own.
        None if packing == Packing::Zstd && first.get(1..4) == Some(b"\x2a\x4d\x18") => return Ok(()),
        None => "something that is not packed as its name says",
    })
}

/// The first bytes of a stream, which is left at its beginning.
fn first_bytes(name: &str, stream: &mut (impl Read + Seek)) -> Result<Vec<u8>, IngestError> {
    let io = |source| IngestError::Io { what: "read", path: name.into(), source };
    let mut first = Vec::new();
    stream.by_ref().take(16).read_to_end(&mut first).map_err(io)?;
    stream.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(first)
}

/// Whether a stream begins with some bytes; it is left at its beginning.
pub fn begins_with(name: &str, bytes: &[u8], stream: &mut (impl Read + Seek)) -> Result<bool, IngestError> {
    Ok(first_bytes(name, stream)?.starts_with(bytes))
}

/// How a stream is packed, by its first bytes; it is left at its beginning.
pub fn packing(name: &str, stream: &mut (impl Read + Seek)) -> Result<Packing, IngestError> {
    Ok(match mark(&first_bytes(name, stream)?) {
        Some(Mark::Packed(packing)) => packing,
        _ => Packing::Plain,
    })
}

/// What can be read of a stream that may be cut off.
pub fn beginning(stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = stream.take(LOOKED_BYTES_MAX);
    let mut block = vec![0; 16 << 10];
    while let Ok(length) = stream.read(&mut block) {
        match block.get(..length) {
            Some(read) if length > 0 => bytes.extend_from_slice(read),
            _ => break,
        }
    }
    bytes
}

/// Refuses a packed stream whose first bytes are not those of its packing; it is left at its beginning.
pub fn check_packing(name: &str, packing: Packing, stream: &mut (impl Read + Seek)) -> Result<(), IngestError> {
    let first = first_bytes(name, stream)?;
    packed_as_named(packing, &first).map_err(|found| IngestError::OtherContent { path: name.into(), found: found.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;
    use retally_core::definition::FileOptions;

    fn looked(bytes: &'static [u8], files: FileOptions) -> Result<(Format, Option<String>, String), String> {
        let looker = Looker::new(&Input { files, ..sample::input() });
        let (found, mut stream) = looker.look("x", None, Box::new(bytes)).map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Ok((found.format, found.encoding, text))
    }

    fn plain(bytes: &'static [u8]) -> Result<(Format, Option<String>, String), String> {
        looked(bytes, FileOptions::default())
    }

    #[test]
    fn texts_of_any_encoding_are_read_from_their_beginning() {
        let (format, encoding, text) = plain(b"\xef\xbb\xbfid,time\n7,x\n").unwrap();
        assert!(matches!(format, Format::Csv(columns) if columns.header));
        assert_eq!((encoding, text.as_str()), (None, "id,time\n7,x\n"));
        let (format, encoding, text) = plain(b"\xff\xfei\0d\0,\0t\0i\0m\0e\0\n\0").unwrap();
        assert!(matches!(format, Format::Csv(columns) if columns.header));
        assert_eq!((encoding.as_deref(), text.as_str()), (Some("utf-16le"), "id,time\n"));
        let latin = FileOptions { encoding: Some("windows-1252".into()), ..FileOptions::default() };
        assert_eq!(looked(b"id;time;\xb0C\n", latin).unwrap().2, "id;time;°C\n");
        assert_eq!(plain(b" {\"id\":1}\n").unwrap().0, Format::JsonLines);
        assert_eq!(plain(b"").unwrap().2, "");
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_name() {
        for (bytes, found) in [
            (b"PAR1\x15\x04".as_slice(), "Parquet"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"PK\x03\x04\x14", "a zip archive (or a spreadsheet)"),
            (b"t\0i\0m\0e\0,\0i\0d\0", "UTF-16 text without a byte order mark"),
        ] {
            let error = plain(bytes).unwrap_err();
            assert!(error.starts_with(&format!("could not read \"x\": it holds {found}")), "{error}");
        }
        assert!(check_packing("x.gz", Packing::Gzip, &mut Cursor::new(b"\x1f\x8b\x08")).is_ok());
        assert!(check_packing("x.gz", Packing::Gzip, &mut Cursor::new(b"")).is_ok(), "said by who unpacks it");
        let error = check_packing("x.gz", Packing::Gzip, &mut Cursor::new(b"id,time\n")).unwrap_err().to_string();
        assert_eq!(error, "could not read \"x.gz\": it holds something that is not packed as its name says");
    }
}
