//! Streams as they are read: unpacked, as UTF-8, without a byte order mark, and counted.

use bzip2::read::MultiBzDecoder;
use encoding_rs::Encoding;
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::bufread::GzDecoder;
use liblzma::read::XzDecoder;
use retally_core::split::Packing;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a packed stream holds.
pub fn unpacked(stream: impl Read + 'static, packing: Packing) -> io::Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::Plain => Box::new(stream),
        Packing::Gzip => Box::new(GzipMembers::new(BufReader::new(stream))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(stream)?),
        Packing::Bzip2 => Box::new(MultiBzDecoder::new(stream)),
        Packing::Xz => Box::new(XzDecoder::new_multi_decoder(stream)),
    })
}

/// What a stream holds, where that is not more than so many bytes.
pub fn all_within(stream: impl Read, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // A byte more than may be, to see that there is one.
    stream.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// Any number of gzip members, one after the other, and zeros behind them: tapes and some tools fill up blocks.
struct GzipMembers<R> {
    /// The member that is being read, or the stream between two.
    member: Option<GzDecoder<R>>,
    /// A member has been read to its end.
    any: bool,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(stream: R) -> GzipMembers<R> {
        GzipMembers { member: Some(GzDecoder::new(stream)), any: false }
    }

    /// Begins the next member. Returns whether there is one.
    fn next(&mut self, mut stream: R) -> io::Result<bool> {
        loop {
            let bytes = stream.fill_buf()?;
            let Some(&first) = bytes.first() else { return Ok(false) };
            if first == 0x1f {
                self.member = Some(GzDecoder::new(stream));
                return Ok(true);
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "there is something else behind what is packed as gzip"));
            }
            stream.consume(zeros);
        }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            self.any = true;
            let Some(stream) = self.member.take().map(GzDecoder::into_inner) else { return Ok(0) };
            if !self.next(stream)? {
                return Ok(0);
            }
        }
    }
}

/// What would be more than so many bytes when it is unpacked.
pub(super) fn too_large(bytes_max: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it holds more than {bytes_max} bytes"))
}

/// An encoding of text by its usual name, such as `windows-1252`; `None` where there is none of this name.
pub fn encoding(name: &str) -> Option<&'static Encoding> {
    Encoding::for_label(name.as_bytes())
}

/// A stream's text as UTF-8. What is no text in its encoding is none of UTF-8 either. A byte order mark knows better.
pub(super) fn decoded(stream: Box<dyn Read>, encoding_name: Option<&str>) -> Box<dyn Read> {
    match encoding_name.and_then(encoding) {
        None => stream,
        Some(encoding) => {
            let stream = DecodeReaderBytesBuilder::new().encoding(Some(encoding)).bom_override(true).build(stream);
            Box::new(WithFaults { stream, text: Vec::new(), given: 0, ended: false })
        }
    }
}

/// U+FFFD, which decoders put where there is no text: it would be text, and two ids that differ there one.
const REPLACED: &[u8] = "\u{fffd}".as_bytes();

/// Decoded text, with bytes that are no UTF-8 in place of U+FFFD.
struct WithFaults<R> {
    stream: R,
    text: Vec<u8>,
    /// So many of its bytes have been given.
    given: usize,
    ended: bool,
}

impl<R: Read> WithFaults<R> {
    /// What of the text can be given: its end may be the beginning of U+FFFD.
    fn ready(&self) -> &[u8] {
        let begun = (1..REPLACED.len()).find(|length| REPLACED.get(..*length).is_some_and(|begun| self.text.ends_with(begun)));
        let held = if self.ended { 0 } else { begun.unwrap_or(0) };
        self.text.get(self.given..self.text.len() - held).unwrap_or_default()
    }

    fn fill(&mut self) -> io::Result<()> {
        const BLOCK_BYTES: usize = 64 << 10;
        self.text.drain(..self.given);
        self.given = 0;
        let known = self.text.len();
        self.text.resize(known + BLOCK_BYTES, 0);
        let read = self.stream.read(self.text.get_mut(known..).unwrap_or_default());
        self.text.truncate(known + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        let faults: Vec<usize> = memchr::memmem::find_iter(&self.text, REPLACED).collect();
        for fault in faults {
            self.text.get_mut(fault..fault + REPLACED.len()).into_iter().for_each(|bytes| bytes.fill(0xff));
        }
        Ok(())
    }
}

impl<R: Read> Read for WithFaults<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready().is_empty() && !self.ended {
            self.fill()?;
        }
        let length = self.ready().read(buffer)?;
        self.given += length;
        Ok(length)
    }
}

/// A stream without the byte order mark that some programs begin files with, and how many bytes that was.
pub(super) fn without_bom(mut stream: impl Read) -> io::Result<(u64, impl Read)> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let mut first = Vec::with_capacity(BOM.len());
    stream.by_ref().take(BOM.len() as u64).read_to_end(&mut first)?;
    let bytes = if first == BOM { first.drain(..).len() as u64 } else { 0 };
    Ok((bytes, Cursor::new(first).chain(stream)))
}

/// A stream that counts what is read of it.
pub(super) struct Counted<R> {
    pub stream: R,
    pub read: Arc<AtomicU64>,
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.stream.seek(to)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    fn read(bytes: Vec<u8>, packing: Packing) -> Result<String, String> {
        let mut text = String::new();
        let mut stream = unpacked(Cursor::new(bytes), packing).map_err(|error| error.to_string())?;
        stream.read_to_string(&mut text).map(|_| text).map_err(|error| error.to_string())
    }

    #[test]
    fn members_and_what_stands_behind_them() {
        let two = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(read(two.clone(), Packing::Gzip), Ok("one\ntwo\n".into()));
        assert_eq!(read([two.clone(), vec![0; 70_000]].concat(), Packing::Gzip), Ok("one\ntwo\n".into()));
        assert_eq!(read([gzip(b"one\n"), vec![0; 3], gzip(b"two\n")].concat(), Packing::Gzip), Ok("one\ntwo\n".into()));
        for behind in [b"\r\n".as_slice(), b"\0\0x"] {
            let error = read([two.clone(), behind.to_vec()].concat(), Packing::Gzip).unwrap_err();
            assert_eq!(error, "there is something else behind what is packed as gzip");
        }
        assert!(read(two[..two.len() - 3].to_vec(), Packing::Gzip).is_err(), "cut off");
        assert!(read(b"time,id\n".to_vec(), Packing::Gzip).is_err());
    }

    #[test]
    fn bzip2_and_xz_of_several_streams() {
        let bzip2 = |text: &[u8]| {
            let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            packed.write_all(text).unwrap();
            packed.finish().unwrap()
        };
        let xz = |text: &[u8]| {
            let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
            packed.write_all(text).unwrap();
            packed.finish().unwrap()
        };
        assert_eq!(read([bzip2(b"one\n"), bzip2(b"two\n")].concat(), Packing::Bzip2), Ok("one\ntwo\n".into()));
        assert_eq!(read([xz(b"one\n"), xz(b"two\n")].concat(), Packing::Xz), Ok("one\ntwo\n".into()));
        assert!(read(b"time,id\n".to_vec(), Packing::Xz).is_err() && read(b"time,id\n".to_vec(), Packing::Bzip2).is_err());
        let whole = xz(&b"x".repeat(10_000));
        assert!(read(whole[..whole.len() / 2].to_vec(), Packing::Xz).is_err(), "cut off");
    }

    #[test]
    fn text_of_other_encodings() {
        let decode = |bytes: &'static [u8], name| {
            let mut text = String::new();
            decoded(Box::new(bytes), Some(name)).read_to_string(&mut text).unwrap();
            text.trim_start_matches('\u{feff}').to_string()
        };
        assert_eq!(decode(b"\xff\xfeA\0\xe4\0", "utf-16le"), "Aä");
        assert_eq!(decode(b"\xfe\xff\0A\0\xe4", "utf-16be"), "Aä");
        assert_eq!(decode(b"Au\xdfen", "windows-1252"), "Außen");
        // What is no text there is none here: in whatever pieces it comes.
        let text = "aé\u{3bb}".repeat(50_000);
        let mut bytes = text.clone().into_bytes();
        bytes.splice(70_000..70_000, *b"\xe4x\xff");
        let mut read = Vec::new();
        decoded(Box::new(Cursor::new(bytes)), Some("utf-8")).read_to_end(&mut read).unwrap();
        let mut expected = text.into_bytes();
        expected.splice(70_000..70_000, *b"\xff\xff\xffx\xff\xff\xff");
        assert!(read == expected);
        assert!(encoding("latin9000").is_none() && encoding("ISO-8859-1").is_some());
    }
}
