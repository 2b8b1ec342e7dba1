//! How many records of a batch have some values: for who asks why a row is what it is.

use super::erase::{each_line, input_of};
use super::files::Files;
use super::frame::{Content, Frame, Inline, Only, Part};
use super::snapshot::Snapshot;
use super::{Of, StateError, journal};
use crate::ingest::plan::Origin;
use retally_core::Epoch;
use retally_core::condition::{Condition, all_hold};
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
        let found = self.parts_of(plain.name, batches)?;
        let (mut counts, mut left) = (BTreeMap::new(), BYTES_MAX);
        for (epoch, parts) in found.into_iter().rev() {
            let is_whole = |(_, part): &(Origin, Part)| part.only.is_empty() && part.again.is_none();
            let bytes = parts.iter().map(|(_, part)| bytes(part)).sum::<u64>();
            if batches.get(&epoch) != Some(&(parts.len() as u64)) || !parts.iter().all(is_whole) || bytes > left.min(BATCH_BYTES_MAX) {
                continue;
            }
            left -= bytes;
            let count = parts.iter().map(|(origin, part)| self.records_in(plain, *origin, part, sought)).sum::<Result<u64, _>>()?;
            counts.insert(epoch, count);
        }
        Ok(counts)
    }

    /// The parts of batches, as the journal has them now. Another thread may be appending to it.
    fn parts_of(&self, dataflow: &str, batches: &BTreeMap<Epoch, u64>) -> Result<BTreeMap<Epoch, Vec<(Origin, Part)>>, StateError> {
        Snapshot::with_newest(self.shelf(), |Snapshot { segment, frames, .. }| {
            let mut found: BTreeMap<Epoch, Vec<(Origin, Part)>> = BTreeMap::new();
            let mut look = |frame: &Frame| {
                let of_dataflow = if frame.dataflow == dataflow { frame.parts.as_slice() } else { &[] };
                for (place, part) in of_dataflow.iter().enumerate() {
                    let origin = frame.origin(place);
                    // What batches were folded into has a number behind those of the last one's parts.
                    if batches.get(&origin.batch).is_some_and(|parts| origin.part <= *parts) {
                        found.entry(origin.batch).or_default().push((origin, part.clone()));
                    }
                }
            };
            frames.iter().for_each(&mut look);
            drop(frames);
            journal::each(self.shelf(), segment, look)?;
            Ok(found)
        })
    }

    fn records_in(&self, plain: &Definition, origin: Origin, part: &Part, sought: &[Sought<'_>]) -> Result<u64, StateError> {
        let mut count = 0;
        for split in &self.plan_again(Of { plain, definition: plain }, &[(origin, part)])?.splits {
            let Some((input, context)) = input_of(plain, split) else { continue };
            let own = sought.iter().filter(|sought| sought.input == input.name);
            let conditions: Vec<Condition> = own.filter_map(|sought| sought.only.condition(&input)).collect();
            if conditions.is_empty() {
                continue;
            }
            each_line(split, &input, &mut |line| {
                count += u64::from(line.record.is_ok_and(|raw| all_hold(&conditions, raw, input.fields, &context)));
                Ok(())
            })?;
        }
        Ok(count)
    }
}

fn bytes(part: &Part) -> u64 {
    match &part.content {
        Content::Inline(Inline { text, .. }) => text.len() as u64,
        _ => part.blobs().iter().map(|blob| blob.bytes).sum(),
    }
}
