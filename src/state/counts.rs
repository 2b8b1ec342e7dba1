//! How many records of a batch have some values: for who asks why a row is what it is.

use super::files::Files;
use super::frame::{Only, Part};
use super::{Of, StateError};
use retally_core::Epoch;
use retally_core::contract::Definition;
use std::collections::BTreeMap;

/// A batch of more bytes is not read for this.
const BATCH_BYTES_MAX: u64 = 8 << 20;
/// Nor are more bytes of all of them.
const BYTES_MAX: u64 = 64 << 20;

/// A value of a field of an input.
pub struct Sought<'a> {
    /// The input.
    pub input: &'a str,
    /// The field and its value.
    pub only: Only,
}

impl Files {
    /// How many records of batches have all these values; records of other inputs do not count. With each batch the number of its parts is
    /// given: one whose parts are not all in the journal any more has no number, and so has one that would take long to read.
    pub fn records_with(
        &self,
        plain: &Definition,
        batches: &BTreeMap<Epoch, u64>,
        sought: &[Sought<'_>],
    ) -> Result<BTreeMap<Epoch, u64>, StateError> {
        let found = self.found_of(plain.name, |frame, found: &mut BTreeMap<Epoch, Vec<Part>>| {
            for (place, part) in frame.parts.iter().enumerate() {
                let origin = frame.origin(place);
                // What batches were folded into has a number behind those of the last one's parts.
                if batches.get(&origin.batch).is_some_and(|parts| origin.part <= *parts) {
                    found.entry(origin.batch).or_default().push(part.clone());
                }
            }
        })?;
        let (mut counts, mut left) = (BTreeMap::new(), BYTES_MAX);
        for (epoch, parts) in found.into_iter().rev() {
            let is_whole = |part: &Part| part.only.is_empty() && part.again.is_none();
            let bytes = parts.iter().map(Part::bytes).sum::<u64>();
            if batches.get(&epoch) != Some(&(parts.len() as u64)) || !parts.iter().all(is_whole) || bytes > left.min(BATCH_BYTES_MAX) {
                continue;
            }
            left -= bytes;
            let count = parts.into_iter().map(|part| self.records_in(plain, part, sought)).sum::<Result<u64, _>>()?;
            counts.insert(epoch, count);
        }
        Ok(counts)
    }

    fn records_in(&self, plain: &Definition, part: Part, sought: &[Sought<'_>]) -> Result<u64, StateError> {
        let own = sought.iter().filter(|sought| sought.input == part.input);
        let only: Vec<Only> = own.map(|sought| sought.only.clone()).collect();
        if only.is_empty() { Ok(0) } else { self.count(Of { plain, definition: plain }, &Part { only, ..part }) }
    }
}
