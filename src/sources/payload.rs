//! What a message holds: text, as it is or packed by gzip, zstd, bzip2 or xz, which its first bytes tell.

use crate::ingest::format::{Mark, mark};
use crate::ingest::unpack::{all_within, unpacked};
use bytes::Bytes;
use std::borrow::Cow;
use std::io::Cursor;

/// A message has at most so many bytes, packed or not: 64 MiB.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The text of a message, or why there is none.
pub fn text(payload: &Bytes) -> Result<Cow<'_, str>, String> {
    let too_long = || format!("the message is longer than {} MiB", MESSAGE_BYTES_MAX >> 20);
    if payload.len() > MESSAGE_BYTES_MAX {
        return Err(too_long());
    }
    let text = match mark(payload) {
        None => Cow::Borrowed(std::str::from_utf8(payload).map_err(|_| "the message is not UTF-8")?),
        Some(Mark::Packed(packing)) => {
            let stream = unpacked(Cursor::new(payload.clone()), packing);
            let bytes = stream.and_then(|stream| all_within(stream, MESSAGE_BYTES_MAX as u64));
            let bytes = bytes.map_err(|error| format!("the message can't be unpacked: {error}"))?.ok_or_else(too_long)?;
            Cow::Owned(String::from_utf8(bytes).map_err(|_| "the message is not UTF-8")?)
        }
        Some(Mark::Other(found)) => return Err(format!("the message holds {found}")),
        Some(Mark::Utf16(_)) => return Err("the message is not UTF-8".into()),
    };
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}')),
        Cow::Owned(text) => Cow::Owned(text),
    };
    if text.trim().is_empty() { Err("the message is empty".into()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap().into()
    }

    #[test]
    fn packed_messages_are_seen() {
        assert_eq!(text(&Bytes::from_static(b"1,2")).unwrap(), "1,2");
        assert_eq!(text(&Bytes::from_static(b"\xef\xbb\xbf1,2")).unwrap(), "1,2");
        assert_eq!(text(&gzip(b"1,2\n")).unwrap(), "1,2\n");
        let zstd = zstd::encode_all(&b"1,2\n"[..], 1).unwrap();
        assert_eq!(text(&zstd.into()).unwrap(), "1,2\n");
    }

    #[test]
    fn what_can_t_be_read_says_why() {
        let why = |payload: Bytes| text(&payload).unwrap_err();
        assert_eq!(why(Bytes::new()), "the message is empty");
        assert_eq!(why(gzip(b" \n")), "the message is empty");
        assert_eq!(why(Bytes::from_static(b"\xff\x00")), "the message is not UTF-8");
        assert_eq!(why(Bytes::from_static(b"PAR1....")), "the message holds Parquet");
        let cut = gzip(&[b'x'; 100_000]);
        assert!(why(cut.slice(..cut.len() / 2)).starts_with("the message can't be unpacked: "));
        // 64 KiB that become more than may be.
        let bomb = gzip(&vec![b'x'; MESSAGE_BYTES_MAX + 1]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(why(bomb), "the message is longer than 64 MiB");
    }
}
