//! Files as they are packed.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// Bytes as a member of a gzip file.
pub fn gzip(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes.as_ref()).unwrap();
    packed.finish().unwrap()
}

/// Bytes as a frame of a zstd file.
pub fn zstd(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Vec<u8> {
    zstd::encode_all(bytes.as_ref(), 1).unwrap()
}
