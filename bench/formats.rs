//! Formats of messages between processes: how a list of records becomes bytes, and bytes a list of records.

use crate::Result;
use columnar::bytes::stash::Stash;
use columnar::{Columnar, Index, Len};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A format for messages of these records.
pub struct Format<R> {
    /// Its name.
    pub name: &'static str,
    /// Writes a message.
    pub write: fn(&[R]) -> Result<Vec<u8>>,
    /// Reads one. What it returns are records of their own, as operators keep them.
    pub read: fn(Vec<u8>) -> Result<Vec<R>>,
}

/// What timely's channels of vectors do: fixed-width integers, lengths of 8 bytes.
pub fn bincode<R: Serialize + DeserializeOwned>() -> Format<R> {
    fn write<R: Serialize>(records: &[R]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(bincode::serialized_size(records)?)?);
        bincode::serialize_into(&mut bytes, records)?;
        Ok(bytes)
    }
    Format { name: "bincode 1", write: write::<R>, read: |bytes| Ok(bincode::deserialize(&bytes)?) }
}

/// A column for each field, which can be read as they lie.
pub fn columns<R: Columnar>() -> Format<R> {
    fn write<R: Columnar>(records: &[R]) -> Result<Vec<u8>> {
        let columns: Stash<R::Container, Vec<u8>> = Stash::Typed(R::as_columns(records));
        let mut bytes = Vec::with_capacity(columns.length_in_bytes());
        columns.write_bytes(&mut bytes)?;
        Ok(bytes)
    }
    fn read<R: Columnar>(bytes: Vec<u8>) -> Result<Vec<R>> {
        let columns: Stash<R::Container, Vec<u8>> = Stash::try_from_bytes(bytes)?;
        let columns = columns.borrow();
        Ok((0..columns.len()).map(|place| R::into_owned(columns.get(place))).collect())
    }
    Format { name: "columnar", write: write::<R>, read: read::<R> }
}

/// Memory as it lies.
///
/// This is for comparison alone: reading it makes values of bytes that may be none, and padding is read (RUSTSEC-2021-0120).
#[cfg(feature = "abomonation")]
#[allow(unsafe_code)]
pub fn memory<R: abomonation::Abomonation + Clone>() -> Format<R> {
    fn write<R: abomonation::Abomonation + Clone>(records: &[R]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(size_of_val(records));
        // SAFETY: none. The bytes do not leave this process.
        unsafe { abomonation::encode(&records.to_vec(), &mut bytes)? };
        Ok(bytes)
    }
    fn read<R: abomonation::Abomonation + Clone>(mut bytes: Vec<u8>) -> Result<Vec<R>> {
        // SAFETY: none. They are those that were written above, by the same program.
        let records = unsafe { abomonation::decode::<Vec<R>>(&mut bytes) };
        Ok(records.ok_or("bytes are missing")?.0.clone())
    }
    Format { name: "abomonation", write: write::<R>, read: read::<R> }
}
