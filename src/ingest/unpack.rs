//! Streams as they are read: unpacked, without a byte order mark, and counted.

use flate2::read::MultiGzDecoder;
use retally_core::split::Packing;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a packed stream holds.
pub(super) fn unpacked(stream: impl Read + 'static, packing: Packing) -> io::Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::Plain => Box::new(stream),
        Packing::Gzip => Box::new(MultiGzDecoder::new(stream)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(stream)?),
    })
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
