//! Packed text that several workers can read: zstd frames, of which some begin with a line, and at the end a list of where these are.
//!
//! It is a `.zst` file like any other: the list stands in a frame that is passed over by whoever unpacks it. Only files that this program
//! has kept are cut so: where a line begins depends on quotes, and who packs them has read them all. So it is with a line that may be a
//! header: who does not know it would not know the columns of those behind it.

use super::within::Suspects;
use memchr::{memchr, memrchr};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Text of so many bytes makes a frame.
const FRAME_BYTES: usize = 4 << 20;
/// Fast: the disk is slower than this.
const PACKING_LEVEL: i32 = 1;
/// What the frame of the list begins with: one of those that are passed over.
const LIST_MARK: u32 = 0x184d_2a57;
/// What the list ends with, after the number of its entries.
const LIST_END: &[u8; 8] = b"RtCuts1\n";
/// What stands behind the entries: their number, and the end.
const LIST_END_BYTES: u32 = 4 + 8;
/// A list has so many entries at most: of a terabyte of text.
const CUTS_MAX: u32 = 1 << 18;

/// Packs text.
pub struct Packer<W> {
    to: W,
    compressor: zstd::bulk::Compressor<'static>,
    /// Text that is not packed yet.
    text: Vec<u8>,
    /// Bytes written.
    at: u64,
    /// Where frames are that begin with a line, but for the first.
    cuts: Vec<u64>,
    /// Whether the next frame begins with a line.
    at_line: bool,
    /// Whether newlines may be in quotes, as in CSV, and whether they may from here on.
    has_quotes: bool,
    is_quoted: bool,
    /// Tells lines that may be headers.
    suspects: Suspects,
}

impl<W: Write> Packer<W> {
    /// Writes to a file that is empty. Text that `has_quotes` may have newlines in them.
    pub fn new(to: W, has_quotes: bool) -> io::Result<Packer<W>> {
        let mut compressor = zstd::bulk::Compressor::new(PACKING_LEVEL)?;
        compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        let text = Vec::with_capacity(FRAME_BYTES);
        let suspects = Suspects::default();
        Ok(Packer { to, compressor, text, at: 0, cuts: Vec::new(), at_line: true, has_quotes, is_quoted: false, suspects })
    }

    /// Writes a frame of the first bytes of the text.
    fn frame(&mut self, length: usize) -> io::Result<()> {
        let rest = self.text.split_off(length);
        let frame = self.compressor.compress(&self.text)?;
        if self.at_line && self.at > 0 {
            self.cuts.push(self.at);
        }
        if self.has_quotes && !self.is_quoted {
            // A frame that begins within a line has no other lines, or the end of the text.
            self.is_quoted = memchr(b'"', &self.text).is_some() || self.suspects.look(&self.text);
        }
        self.at_line = self.text.ends_with(b"\n") && !self.is_quoted;
        self.to.write_all(&frame)?;
        self.at += frame.len() as u64;
        self.text = rest;
        self.text.reserve(FRAME_BYTES.saturating_sub(self.text.len()));
        Ok(())
    }

    /// Writes what is left, and the list.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.text.is_empty() || self.at == 0 {
            self.frame(self.text.len())?;
        }
        let count = u32::try_from(self.cuts.len()).ok().filter(|count| (1..=CUTS_MAX).contains(count));
        let Some(count) = count else { return self.to.flush() };
        let bytes = count * 8 + LIST_END_BYTES;
        let mut list = [LIST_MARK.to_le_bytes(), bytes.to_le_bytes()].concat();
        self.cuts.iter().for_each(|cut| list.extend_from_slice(&cut.to_le_bytes()));
        list.extend_from_slice(&count.to_le_bytes());
        list.extend_from_slice(LIST_END);
        self.to.write_all(&list)?;
        self.to.flush()
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..FRAME_BYTES - self.text.len()).unwrap_or(bytes);
        self.text.extend_from_slice(taken);
        if self.text.len() >= FRAME_BYTES {
            let line = memrchr(b'\n', &self.text).map_or(self.text.len(), |newline| newline + 1);
            self.frame(line)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Where a file of so many bytes can be cut, in order. It has no list where it was packed by others, or is small; what is no list is none.
pub fn read(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<Vec<u64>> {
    let Some(at) = bytes.checked_sub(LIST_END_BYTES.into()) else { return Ok(Vec::new()) };
    file.seek(SeekFrom::Start(at))?;
    let mut count = [0; 4];
    file.read_exact(&mut count)?;
    let mut mark = [0; 8];
    file.read_exact(&mut mark)?;
    let count = u32::from_le_bytes(count);
    let list = Some(u64::from(count) * 8).filter(|_| mark == *LIST_END && (1..=CUTS_MAX).contains(&count));
    let Some(at) = list.and_then(|list| at.checked_sub(list)) else {
        file.seek(SeekFrom::Start(0))?;
        return Ok(Vec::new());
    };
    file.seek(SeekFrom::Start(at))?;
    let mut list = vec![0; count as usize * 8];
    file.read_exact(&mut list)?;
    file.seek(SeekFrom::Start(0))?;
    let cuts: Vec<u64> = list.as_chunks::<8>().0.iter().map(|cut| u64::from_le_bytes(*cut)).collect();
    let is_right = cuts.is_sorted_by(|one, next| one < next) && cuts.first() > Some(&0) && cuts.last() < Some(&at);
    Ok(if is_right { cuts } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn packed(text: &[u8]) -> Vec<u8> {
        packed_as(text, true)
    }

    fn packed_as(text: &[u8], has_quotes: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes, has_quotes).unwrap();
        // As much as comes at a time makes no difference.
        text.chunks(100_003).for_each(|chunk| packer.write_all(chunk).unwrap());
        packer.finish().unwrap();
        bytes
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text).unwrap();
        text
    }

    /// The parts between the cuts.
    fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
        let cuts = read(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
        let cuts: Vec<usize> = cuts.into_iter().map(|cut| usize::try_from(cut).unwrap()).collect();
        let from = std::iter::once(0).chain(cuts.iter().copied());
        let until = cuts.iter().copied().chain([bytes.len()]);
        from.zip(until).map(|(from, until)| unpacked(&bytes[from..until])).collect()
    }

    #[test]
    fn parts_are_whole_lines_and_all_of_the_text() {
        let lines: String = (0..1_200_000).map(|number| format!("{number},{}\n", number % 977)).collect();
        let bytes = packed(lines.as_bytes());
        assert!(unpacked(&bytes) == lines.as_bytes());
        let parts = parts(&bytes);
        assert!(parts.len() == lines.len().div_ceil(FRAME_BYTES) && parts.len() > 2, "{}", parts.len());
        assert!(parts.iter().all(|part| part.ends_with(b"\n")));
        assert!(parts.concat() == lines.as_bytes());
    }

    #[test]
    fn behind_a_quote_and_within_a_line_nothing_is_cut() {
        let line = "a line of some length, to be repeated\n";
        let plain = line.repeat(5 * FRAME_BYTES / line.len());
        let quoted = format!("{plain}\"in quotes\n\n\"{plain}");
        assert_eq!(parts(&packed(quoted.as_bytes())).len(), parts(&packed(plain.as_bytes())).len());
        assert!(parts(&packed(quoted.as_bytes())).concat() == quoted.as_bytes());
        assert!(parts(&packed_as(quoted.as_bytes(), false)).len() > 8, "of JSON, a newline is the end of a line");
        let long = vec![b'x'; 3 * FRAME_BYTES + 5];
        assert_eq!(parts(&packed(&long)), [long]);
        let mut mixed = plain.clone().into_bytes();
        mixed.extend_from_slice(&long_line());
        mixed.extend_from_slice(plain.as_bytes());
        let parts = parts(&packed(&mixed));
        assert!(parts.concat() == mixed && parts.iter().all(|part| part.ends_with(b"\n")) && parts.len() > 5);
    }

    fn long_line() -> Vec<u8> {
        [vec![b'x'; 2 * FRAME_BYTES], vec![b'\n']].concat()
    }

    #[test]
    fn what_has_no_list_is_whole() {
        assert_eq!(parts(&packed(b"")), [b""]);
        assert_eq!(parts(&packed(b"a\nb\n")), [b"a\nb\n"]);
        let other = zstd::encode_all(&b"a\nb\n"[..], 1).unwrap();
        assert_eq!(parts(&other), [b"a\nb\n"]);
        let text = "line\n".repeat(2 * FRAME_BYTES / 5);
        let bytes = packed(text.as_bytes());
        for place in bytes.len() - 40..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x80;
            let cuts = read(&mut Cursor::new(&flipped), flipped.len() as u64).unwrap();
            assert!(cuts.iter().all(|cut| *cut > 0 && *cut < flipped.len() as u64), "{place}: {cuts:?}");
        }
    }
}
