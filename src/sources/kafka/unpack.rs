//! How batches of messages are packed: by gzip, snappy, LZ4 or zstd.
//!
//! # Limits
//! What a batch becomes has [`UNPACKED_BYTES_MAX`] bytes at most.

use crate::ingest::unpack::all_within;
use bytes::{Buf, Bytes};
use std::io::{self, Read};

/// A batch becomes so many bytes at most: 128 MiB, twice the longest message.
pub const UNPACKED_BYTES_MAX: usize = 128 << 20;

/// The mark of snappy in frames, as most clients write it.
const SNAPPY_FRAMES: &[u8] = b"\x82SNAPPY\0";
/// Behind it stand two versions.
const SNAPPY_HEAD_BYTES: usize = 16;

/// The records of a batch, packed in the way that this number of its head says.
pub fn unpacked(codec: u8, bytes: Bytes) -> Result<Bytes, String> {
    let failed = |why: io::Error| format!("its batch can't be unpacked: {why}");
    let read = match codec {
        0 => return Ok(bytes),
        1 => all(flate2::read::MultiGzDecoder::new(bytes.reader())),
        2 => snappy(bytes),
        3 => all(lz4_flex::frame::FrameDecoder::new(bytes.reader())),
        4 => zstd::Decoder::with_buffer(bytes.reader()).and_then(all),
        _ => Err(io::Error::other("it is packed in a way that is not known")),
    };
    read.map(Bytes::from).map_err(failed)
}

fn all(packed: impl Read) -> io::Result<Vec<u8>> {
    all_within(packed, UNPACKED_BYTES_MAX as u64)?.ok_or_else(too_long)
}

fn snappy(mut bytes: Bytes) -> io::Result<Vec<u8>> {
    if !bytes.starts_with(SNAPPY_FRAMES) {
        let mut all = Vec::new();
        snappy_block(&bytes, &mut all)?;
        return Ok(all);
    }
    if bytes.len() < SNAPPY_HEAD_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.advance(SNAPPY_HEAD_BYTES);
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.try_get_u32()? as usize;
        if length > bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        snappy_block(&bytes.split_to(length), &mut all)?;
    }
    Ok(all)
}

fn snappy_block(packed: &[u8], all: &mut Vec<u8>) -> io::Result<()> {
    let length = snap::raw::decompress_len(packed)?;
    if all.len() + length > UNPACKED_BYTES_MAX {
        return Err(too_long());
    }
    all.extend(snap::raw::Decoder::new().decompress_vec(packed)?);
    Ok(())
}

fn too_long() -> io::Error {
    io::Error::other(format!("it becomes more than {} MiB", UNPACKED_BYTES_MAX >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn each_way_of_packing_is_read() {
        let text = b"some text, some text, some text".repeat(9);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&text).unwrap();
        let block = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        let mut framed = [SNAPPY_FRAMES, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for _ in 0..2 {
            framed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            framed.extend(&block);
        }
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for (codec, packed) in [(0, text.clone()), (1, gzip.finish().unwrap()), (2, block), (3, lz4.finish().unwrap()), (4, zstd)] {
            assert_eq!(unpacked(codec, packed.into()).unwrap(), text, "{codec}");
        }
        assert_eq!(unpacked(2, framed.clone().into()).unwrap(), text.repeat(2));
        // What is cut short, or is none, says so.
        framed.truncate(framed.len() - 1);
        for (codec, packed) in [(1, vec![1, 2, 3]), (2, framed), (2, SNAPPY_FRAMES.to_vec()), (3, vec![9; 9]), (4, vec![9; 9]), (5, vec![])]
        {
            let error = unpacked(codec, packed.into()).unwrap_err();
            assert!(error.starts_with("its batch can't be unpacked: "), "{error}");
        }
    }

    #[test]
    fn little_that_becomes_too_much_is_refused() {
        let bomb = zstd::encode_all(&vec![0; UNPACKED_BYTES_MAX + 1][..], 1).unwrap();
        assert_eq!(unpacked(4, bomb.into()).unwrap_err(), "its batch can't be unpacked: it becomes more than 128 MiB");
    }
}
