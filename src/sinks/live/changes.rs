//! How the changes of a table in an epoch are kept: rows as they are in tables, with their differences, packed.
//!
//! They become JSON when somebody asks for them, which is seldom, and not when they are written, which is often.

use super::super::json;
use crate::tables::Run;
use retally_core::contract::Table;
use std::cell::RefCell;
use std::io;
use zstd::bulk::Compressor;

/// An epoch with more changes of a table is kept as one that must be read again.
pub const CHANGES_KEPT_MAX: usize = 100_000;
/// Fewer bytes are not packed.
const PACKED_BYTES_MIN: usize = 512;
/// Fast: it is on the way of each batch.
const PACKING_LEVEL: i32 = 1;
/// What stands before bytes that are packed, and before those that are not.
const PACKED: u8 = 1;
const PLAIN: u8 = 0;
/// A difference, and the length of a row.
const HEAD_BYTES: usize = 8 + 4;

/// The number of rows that came or went.
pub fn count(run: &Run) -> usize {
    run.iter().map(|batch| batch.len()).sum()
}

/// Changes as they are kept; nothing where there are too many.
pub fn kept(run: &Run) -> io::Result<Option<Vec<u8>>> {
    if count(run) > CHANGES_KEPT_MAX {
        return Ok(None);
    }
    let mut bytes = vec![PLAIN];
    for (row, diff) in run.iter().flat_map(|batch| batch.iter()) {
        bytes.extend_from_slice(&diff.to_le_bytes());
        // A record has 64 MiB at most, and so has a row.
        bytes.extend_from_slice(&u32::try_from(row.len()).map_err(io::Error::other)?.to_le_bytes());
        bytes.extend_from_slice(row);
    }
    if bytes.len() < PACKED_BYTES_MIN {
        return Ok(Some(bytes));
    }
    let packed = with_packer(|packer| packer.compress(bytes.get(1..).unwrap_or_default()))?;
    Ok(Some([&[PACKED], packed.as_slice()].concat()))
}

/// A packer is larger than what it packs here, so that each thread keeps one.
fn with_packer<T>(pack: impl FnOnce(&mut Compressor<'static>) -> io::Result<T>) -> io::Result<T> {
    thread_local! {
        static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    PACKER.with_borrow_mut(|packer| match packer {
        Some(packer) => pack(packer),
        None => pack(packer.insert(Compressor::new(PACKING_LEVEL)?)),
    })
}

/// Hands kept changes to `each`: the difference and the row.
pub fn read(kept: &[u8], mut each: impl FnMut(i64, &[u8])) -> io::Result<()> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "changes are not what was written");
    let (how, bytes) = kept.split_first().ok_or_else(damaged)?;
    let unpacked;
    let mut rest = match *how {
        PLAIN => bytes,
        PACKED => {
            unpacked = zstd::stream::decode_all(bytes)?;
            &unpacked
        }
        _ => return Err(damaged()),
    };
    while !rest.is_empty() {
        let (head, behind) = rest.split_first_chunk::<HEAD_BYTES>().ok_or_else(damaged)?;
        let (diff, length) = head.split_first_chunk::<8>().ok_or_else(damaged)?;
        let length = u32::from_le_bytes(length.try_into().map_err(|_| damaged())?);
        let (row, behind) = behind.split_at_checked(length as usize).ok_or_else(damaged)?;
        each(i64::from_le_bytes(*diff), row);
        rest = behind;
    }
    Ok(())
}

/// A row as a JSON object.
pub fn json(table: &Table, row: &[u8]) -> String {
    let mut text = Vec::new();
    json::append_row(&mut text, table, row);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::consolidated;
    use retally_core::row::{Row, batches};

    fn run(rows: u64) -> Run {
        let change =
            |number: u64| (Row::default().uint(number).text(&format!("row {number}")), if number.is_multiple_of(3) { -1 } else { 1 });
        consolidated(batches((0..rows).map(change).collect()))
    }

    #[test]
    fn what_is_kept_is_read_back() {
        for rows in [0, 1, 10, 1_000] {
            let run = run(rows);
            let bytes = kept(&run).unwrap().unwrap();
            let mut found = Vec::new();
            read(&bytes, |diff, row| found.push((row.to_vec(), diff))).unwrap();
            let expected: Vec<(Vec<u8>, i64)> = run.iter().flat_map(|batch| batch.iter()).map(|(row, diff)| (row.to_vec(), diff)).collect();
            assert!(found == expected, "{rows}");
            for cut in 1..bytes.len().min(200) {
                let is_read = read(&bytes[..bytes.len() - cut], |_, _| {}).is_ok();
                assert!(!is_read || rows <= 10, "{rows} {cut}");
            }
        }
        assert_eq!(kept(&run(CHANGES_KEPT_MAX as u64 + 1)).unwrap(), None);
        assert!(read(&[], |_, _| {}).is_err() && read(&[7, 0], |_, _| {}).is_err());
    }
}
