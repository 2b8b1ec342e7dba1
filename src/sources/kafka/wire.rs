//! How Kafka writes values: numbers from their highest byte on, texts and lists behind their lengths.
//!
//! Newer versions of a request are *flexible*: lengths are varints, one more than they say, and a structure ends with tagged fields, of
//! which none is needed here.
//!
//! # Limits
//! What a broker sends is bounded by its frame: a length that goes beyond is an error, and nothing is reserved for it before.

use bytes::{Buf, Bytes};

/// What a broker sends is not what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker sends something else than an answer")]
pub struct Malformed;

/// A request as it is written.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    is_flexible: bool,
}

impl Writer {
    /// Of a version that is flexible.
    pub fn flexible() -> Writer {
        Writer { bytes: Vec::new(), is_flexible: true }
    }

    /// Of a version that is not.
    pub fn fixed() -> Writer {
        Writer::default()
    }

    /// What is written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the version is flexible.
    pub fn is_flexible(&self) -> bool {
        self.is_flexible
    }

    /// A number of 8 bits, or a truth value.
    pub fn i8(&mut self, value: i8) -> &mut Writer {
        self.raw(&value.to_be_bytes())
    }

    /// A number of 16 bits.
    pub fn i16(&mut self, value: i16) -> &mut Writer {
        self.raw(&value.to_be_bytes())
    }

    /// A number of 32 bits.
    pub fn i32(&mut self, value: i32) -> &mut Writer {
        self.raw(&value.to_be_bytes())
    }

    /// A number of 64 bits.
    pub fn i64(&mut self, value: i64) -> &mut Writer {
        self.raw(&value.to_be_bytes())
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Writer {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Writer {
        if self.is_flexible {
            self.varint(text.len() + 1);
        } else {
            self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.raw(text.as_bytes())
    }

    /// Bytes behind their length.
    pub fn blob(&mut self, bytes: &[u8]) -> &mut Writer {
        self.list(bytes.len());
        self.raw(bytes)
    }

    /// The length of a list that follows.
    pub fn list(&mut self, length: usize) -> &mut Writer {
        if self.is_flexible { self.varint(length + 1) } else { self.i32(i32::try_from(length).unwrap_or(i32::MAX)) }
    }

    /// The end of a structure.
    pub fn end(&mut self) -> &mut Writer {
        if self.is_flexible { self.raw(&[0]) } else { self }
    }

    fn varint(&mut self, mut value: usize) -> &mut Writer {
        let low = |value: usize| {
            let [low, ..] = value.to_le_bytes();
            low & 0x7f
        };
        while value > 0x7f {
            self.bytes.push(low(value) | 0x80);
            value >>= 7;
        }
        self.bytes.push(low(value));
        self
    }
}

/// An answer as it is read.
#[derive(Clone, Debug)]
pub struct Fields {
    bytes: Bytes,
    is_flexible: bool,
}

impl Fields {
    /// Of an answer.
    pub fn new(bytes: Bytes, is_flexible: bool) -> Fields {
        Fields { bytes, is_flexible }
    }

    /// So many bytes as they are.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.bytes.len() { Err(Malformed) } else { Ok(self.bytes.split_to(count)) }
    }

    /// A number of 8 bits.
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.bytes.try_get_i8().map_err(|_| Malformed)
    }

    /// A number of 16 bits.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.bytes.try_get_i16().map_err(|_| Malformed)
    }

    /// A number of 32 bits.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.bytes.try_get_i32().map_err(|_| Malformed)
    }

    /// A number of 64 bits.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.bytes.try_get_i64().map_err(|_| Malformed)
    }

    /// A text; empty where there is none.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let length = if self.is_flexible { self.compact()? } else { usize::try_from(self.i16()?).unwrap_or(0) };
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Malformed)
    }

    /// Bytes behind their length; empty where there are none.
    pub fn blob(&mut self) -> Result<Bytes, Malformed> {
        let length = self.list()?;
        self.take(length)
    }

    /// The length of a list; 0 where there is none. Each entry of a list has a byte at least.
    pub fn list(&mut self) -> Result<usize, Malformed> {
        let length = if self.is_flexible { self.compact()? } else { usize::try_from(self.i32()?).unwrap_or(0) };
        if length > self.bytes.len() { Err(Malformed) } else { Ok(length) }
    }

    /// A list, each entry of which is read by `entry`.
    pub fn all<T>(&mut self, mut entry: impl FnMut(&mut Fields) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let length = self.list()?;
        (0..length).map(|_| entry(self)).collect()
    }

    /// The end of a structure.
    pub fn end(&mut self) -> Result<(), Malformed> {
        if self.is_flexible {
            for _ in 0..self.unsigned()? {
                self.unsigned()?;
                let length = usize::try_from(self.unsigned()?).map_err(|_| Malformed)?;
                self.take(length)?;
            }
        }
        Ok(())
    }

    /// A varint with its sign in the lowest bit, as records have them.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.unsigned()?;
        let magnitude = (value >> 1).cast_signed();
        Ok(if value & 1 == 1 { !magnitude } else { magnitude })
    }

    fn compact(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.unsigned()?.saturating_sub(1)).map_err(|_| Malformed)
    }

    fn unsigned(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes.try_get_u8().map_err(|_| Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for mut writer in [Writer::flexible(), Writer::fixed()] {
            writer.i8(-1).i16(2).i32(-3).i64(4).text("é").list(2).i32(5).i32(6).blob(&[7; 200]).end();
            let mut fields = Fields::new(Bytes::copy_from_slice(writer.bytes()), writer.is_flexible());
            assert_eq!((fields.i8(), fields.i16(), fields.i32(), fields.i64()), (Ok(-1), Ok(2), Ok(-3), Ok(4)));
            assert_eq!((fields.text(), fields.all(Fields::i32)), (Ok("é".into()), Ok(vec![5, 6])));
            assert_eq!((fields.blob().map(|bytes| bytes.len()), fields.end(), fields.bytes.len()), (Ok(200), Ok(()), 0));
        }
    }

    #[test]
    fn signs_stand_in_the_lowest_bit() {
        for (bytes, value) in [(&[0][..], 0), (&[1], -1), (&[2], 1), (&[0xff, 1], -128), (&[0x80, 2], 128)] {
            assert_eq!(Fields::new(Bytes::copy_from_slice(bytes), false).signed(), Ok(value));
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_errors() {
        let fields = |bytes: &'static [u8], is_flexible| Fields::new(Bytes::from_static(bytes), is_flexible);
        assert_eq!(fields(&[0x7f, 0xff, 0xff, 0xff], false).list(), Err(Malformed));
        assert_eq!(fields(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).list(), Err(Malformed));
        assert_eq!(fields(&[0xff; 11], true).end(), Err(Malformed));
        assert_eq!(fields(&[1, 0, 9], true).end(), Err(Malformed));
        assert_eq!(fields(&[0, 3, b'a'], false).text(), Err(Malformed));
        assert_eq!(fields(&[0xff, 0xff, 0xff, 0xff], false).list(), Ok(0), "no list");
    }
}
