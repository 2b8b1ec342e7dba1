//! Streams as they are read: unpacked, as UTF-8, without a byte order mark, and counted.

use bzip2::bufread::BzDecoder;
use encoding_rs::Encoding;
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use retally_core::split::Packing;
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is wrong with something packed.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Nothing is there.
    #[error("it is empty, and {0} packs even nothing as some bytes")]
    Empty(&'static str),
    /// Its end is missing.
    #[error("it is cut off: its {packing} data has no end ({why})")]
    CutOff {
        /// How it is packed.
        packing: &'static str,
        /// What the unpacker found.
        why: String,
    },
    /// It is not what was packed.
    #[error("it is damaged: its {packing} data is not what was packed ({why})")]
    Damaged {
        /// How it is packed.
        packing: &'static str,
        /// What the unpacker found.
        why: String,
    },
    /// All of it is there, and something else.
    #[error("there is something else behind what is packed as {0}")]
    Behind(&'static str),
}

impl Broken {
    /// What is wrong with something packed, where an error is about that.
    pub fn of(error: &io::Error) -> Option<&Broken> {
        error.get_ref()?.downcast_ref()
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Broken::Empty(_) | Broken::CutOff { .. } | Broken::Damaged { .. } => {
                "nothing was written; get the file again from where it was packed, and see there that it can be unpacked"
            }
            Broken::Behind(_) => "nothing was written; give what is packed alone, or unpack it first",
        }
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        let kind = match broken {
            Broken::Empty(_) | Broken::CutOff { .. } => io::ErrorKind::UnexpectedEof,
            Broken::Damaged { .. } | Broken::Behind(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, broken)
    }
}

/// What people call a way of packing; nothing where it is none.
pub fn packing_name(packing: Packing) -> Option<&'static str> {
    match packing {
        Packing::Plain => None,
        Packing::Gzip => Some("gzip"),
        Packing::Zstd => Some("zstd"),
        Packing::Bzip2 => Some("bzip2"),
        Packing::Xz => Some("xz"),
    }
}

/// What a packed stream holds. What is wrong with it is [`Broken`]; errors of the stream itself are what they were.
pub fn unpacked(stream: impl Read + 'static, packing: Packing) -> io::Result<Box<dyn Read>> {
    let seen = Rc::new(Seen::default());
    let packed = Packed { stream, seen: Rc::clone(&seen) };
    let unpacker: Box<dyn Read> = match packing {
        Packing::Plain => return Ok(Box::new(packed.stream)),
        Packing::Gzip => Box::new(Members::new(BufReader::new(packed), GzDecoder::new, GzDecoder::into_inner, b"\x1f\x8b", "gzip")),
        Packing::Bzip2 => Box::new(Members::new(BufReader::new(packed), BzDecoder::new, BzDecoder::into_inner, b"BZh", "bzip2")),
        Packing::Xz => Box::new(Members::new(BufReader::new(packed), XzDecoder::new, XzDecoder::into_inner, b"\xfd7zXZ\0", "xz")),
        // Frames may be small: its own decoder goes on with the next one at no cost.
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(packed)?),
    };
    Ok(Box::new(Unpacked { unpacker, packing: packing_name(packing).unwrap_or_default(), seen, any: false }))
}

/// What became of a packed stream, for whoever unpacks it.
#[derive(Default)]
struct Seen {
    /// It could not be read.
    failed: Cell<bool>,
    /// It had a byte.
    any: Cell<bool>,
}

/// A packed stream.
struct Packed<R> {
    stream: R,
    seen: Rc<Seen>,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        match &read {
            Ok(length) => self.seen.any.set(self.seen.any.get() || *length > 0),
            Err(_) => self.seen.failed.set(true),
        }
        read
    }
}

/// What is unpacked of a stream, with errors in words.
struct Unpacked {
    unpacker: Box<dyn Read>,
    packing: &'static str,
    seen: Rc<Seen>,
    /// Something has been unpacked.
    any: bool,
}

impl Unpacked {
    fn broken(&self, error: &io::Error) -> Broken {
        /// What zstd says where a frame should begin.
        const NO_FRAME: &str = "Unknown frame descriptor";
        let (packing, why) = (self.packing, error.to_string());
        match error.kind() {
            io::ErrorKind::UnexpectedEof if !self.seen.any.get() => Broken::Empty(packing),
            io::ErrorKind::UnexpectedEof => Broken::CutOff { packing, why },
            _ if self.any && why == NO_FRAME => Broken::Behind(packing),
            _ => Broken::Damaged { packing, why },
        }
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.unpacker.read(buffer) {
            Ok(length) => {
                self.any |= length > 0;
                Ok(length)
            }
            Err(error) if self.seen.failed.take() || Broken::of(&error).is_some() => Err(error),
            Err(error) => Err(self.broken(&error).into()),
        }
    }
}

/// What a stream holds, where that is not more than so many bytes.
pub fn all_within(stream: impl Read, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // A byte more than may be, to see that there is one.
    stream.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// Any number of packed members, one after the other, and zeros behind them: tapes and some tools fill up blocks.
struct Members<R, D> {
    /// The member that is being read.
    member: Option<D>,
    begin: fn(R) -> D,
    end: fn(D) -> R,
    /// What each of them begins with.
    mark: &'static [u8],
    packing: &'static str,
}

impl<R: BufRead, D: Read> Members<R, D> {
    fn new(stream: R, begin: fn(R) -> D, end: fn(D) -> R, mark: &'static [u8], packing: &'static str) -> Members<R, D> {
        Members { member: Some(begin(stream)), begin, end, mark, packing }
    }

    /// Begins the next member. Returns whether there is one.
    fn next(&mut self, mut stream: R) -> io::Result<bool> {
        loop {
            let bytes = stream.fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            // Of the mark, some may be in the next block.
            if bytes.iter().zip(self.mark).all(|(byte, mark)| byte == mark) {
                self.member = Some((self.begin)(stream));
                return Ok(true);
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                return Err(Broken::Behind(self.packing).into());
            }
            stream.consume(zeros);
        }
    }
}

impl<R: BufRead, D: Read> Read for Members<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let Some(stream) = self.member.take().map(self.end) else { return Ok(0) };
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
        assert_eq!(read([bzip2(b"one\n"), vec![0; 512]].concat(), Packing::Bzip2), Ok("one\n".into()));
        assert_eq!(read([xz(b"one\n"), vec![0; 4], xz(b"two\n")].concat(), Packing::Xz), Ok("one\ntwo\n".into()));
        assert!(read(b"time,id\n".to_vec(), Packing::Xz).is_err() && read(b"time,id\n".to_vec(), Packing::Bzip2).is_err());
        let whole = xz(&b"x".repeat(10_000));
        assert!(read(whole[..whole.len() / 2].to_vec(), Packing::Xz).is_err(), "cut off");
    }

    /// Whole, cut off anywhere, with a byte changed, and with something behind it.
    #[test]
    fn what_is_wrong_is_said_of_every_packing_in_the_same_words() {
        let text = (0..20_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect::<Vec<_>>();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.include_checksum(true).unwrap();
        for packer in [&mut bzip2 as &mut dyn Write, &mut xz, &mut zstd] {
            packer.write_all(&text).unwrap();
        }
        let all = [
            (Packing::Gzip, "gzip", gzip(&text)),
            (Packing::Zstd, "zstd", zstd.finish().unwrap()),
            (Packing::Bzip2, "bzip2", bzip2.finish().unwrap()),
            (Packing::Xz, "xz", xz.finish().unwrap()),
        ];
        for (packing, name, whole) in all {
            let error = |bytes: &[u8]| {
                let mut stream = unpacked(Cursor::new(bytes.to_vec()), packing).unwrap();
                let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
                assert!(Broken::of(&error).is_some_and(|broken| broken.hint().starts_with("nothing was written; ")), "{error}");
                error.to_string()
            };
            let half = whole.len() / 2;
            for length in [8, half, whole.len() - 3] {
                let error = error(&whole[..length]);
                assert!(error.starts_with(&format!("it is cut off: its {name} data has no end (")), "{length} of {name}: {error}");
            }
            let mut damaged = whole.clone();
            damaged[half..half + 4].iter_mut().for_each(|byte| *byte ^= 0x55);
            let damaged = error(&damaged);
            assert!(damaged.starts_with(&format!("it is damaged: its {name} data is not what was packed (")), "{damaged}");
            for behind in ["rubbish\n", "rubbish that is longer than a header of any of them\n"] {
                let error = error(&[&whole, behind.as_bytes()].concat());
                assert_eq!(error, format!("there is something else behind what is packed as {name}"));
            }
            assert_eq!(error(b""), format!("it is empty, and {name} packs even nothing as some bytes"));
        }
    }

    /// Errors of what is unpacked are not of its packing.
    #[test]
    fn a_stream_that_fails_is_not_called_damaged() {
        struct Fails(Cursor<Vec<u8>>);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.read(buffer)? {
                    0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the server is silent")),
                    length => Ok(length),
                }
            }
        }
        let packed = gzip(&b"x".repeat(100_000));
        for packing in [Packing::Gzip, Packing::Zstd, Packing::Bzip2, Packing::Xz] {
            let first = if packing == Packing::Gzip { packed[..packed.len() / 2].to_vec() } else { Vec::new() };
            let mut stream = unpacked(Fails(Cursor::new(first)), packing).unwrap();
            let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "the server is silent"), "{packing:?}");
        }
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
