//! Records that were refused, delivered once more: under the settings of now, and the bounds of the clock.
//!
//! It takes two parts. One undoes the lines as they were delivered, of the same file, read in the same way: they are refused as they were,
//! and leave the table `rejected`; should other settings take them by now, they are taken back, and do not count twice. The other delivers
//! them as files are read today. So a batch in the journal says all of it, and comes to the same whenever it is applied.

use super::files::{Files, made, shape};
use super::frame::{Again, Content, Frame, InFolder, LineOf, Part};
use super::snapshot::Snapshot;
use super::{Of, StateError, journal};
use crate::ingest::batch::Arrival;
use crate::ingest::plan::Origin;
use crate::ingest::rejected::RecordId;
use retally_core::contract::Input;
use std::collections::{BTreeMap, BTreeSet};

/// A part that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The part.
    pub part: Part,
    /// It is of a file of a folder, which is gone since, or another one.
    pub is_gone: bool,
}

/// Why records can't be delivered once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAgain {
    /// A line of a dataset.
    #[error("it is a line of a dataset, which is delivered as a whole")]
    Dataset,
    /// Its columns are known from another file.
    #[error("its columns are those of another file's header")]
    Header,
    /// Its file is gone.
    #[error("its file is not in the folder any more, or another one")]
    Gone,
    /// Its input is gone.
    #[error("the dataflow has no such input any more")]
    Input,
}

impl Frame {
    /// Where a part of it comes from, by its place.
    pub fn origin(&self, place: usize) -> Origin {
        let folded = self.parts.get(place).and_then(|part| part.origin);
        folded.unwrap_or(Origin { batch: self.epoch, part: place as u64 + 1 })
    }
}

impl Files {
    /// The parts of a dataflow that are wanted, as the journal has them now.
    pub fn delivered(&self, dataflow: &str, wanted: &BTreeSet<Origin>) -> Result<BTreeMap<Origin, Delivered>, StateError> {
        self.found_of(dataflow, |frame, found: &mut BTreeMap<Origin, Delivered>| {
            for (place, part) in frame.parts.iter().enumerate() {
                if let (Some(folder), None) = (&part.folder, &part.again) {
                    let is_same = |other: &InFolder| (&other.path, &other.file) == (&folder.path, &folder.file);
                    let of_file = found.values_mut().filter(|found| found.part.folder.as_ref().is_some_and(is_same));
                    of_file.for_each(|found| found.is_gone = true);
                }
                let origin = frame.origin(place);
                if wanted.contains(&origin) {
                    let is_gone = part.folder.is_some() && part.again.is_none() && part.sign < 0;
                    found.insert(origin, Delivered { part: part.clone(), is_gone });
                }
            }
        })
    }

    /// What `look` finds in the batches of a dataflow, as the journal has them now. Another thread may be appending to it.
    pub(super) fn found_of<T: Default>(&self, dataflow: &str, look: impl Fn(&Frame, &mut T)) -> Result<T, StateError> {
        Snapshot::with_newest(self.shelf(), |Snapshot { segment, frames, .. }| {
            let mut found = T::default();
            let mut look = |frame: &Frame| {
                if frame.dataflow == dataflow {
                    look(frame, &mut found);
                }
            };
            frames.iter().for_each(&mut look);
            drop(frames);
            journal::each(self.shelf(), segment, look)?;
            Ok(found)
        })
    }

    /// What delivers these lines of a part once more, as of `arrival`.
    pub fn again(&self, of: Of<'_>, delivered: &Delivered, lines: &[RecordId], arrival: Arrival) -> Result<[Part; 2], NotAgain> {
        let Delivered { part, is_gone } = delivered;
        let input: &Input = of.definition.inputs.iter().find(|input| input.name == part.input).ok_or(NotAgain::Input)?;
        let Some(origin) = lines.first().map(|id| id.origin) else { return Err(NotAgain::Gone) };
        let is_by_first_header = part.shape.as_ref().is_some_and(|shape| shape.files.first_header);
        match &part.content {
            _ if *is_gone => return Err(NotAgain::Gone),
            Content::Dataset { .. } => return Err(NotAgain::Dataset),
            _ if is_by_first_header && origin.part > 1 => return Err(NotAgain::Header),
            Content::Blob(_) | Content::Inline(_) | Content::Refused { .. } => {}
        }
        let lines: Vec<LineOf> = match &part.content {
            Content::Refused { .. } => Vec::new(),
            _ => lines.iter().map(|id| LineOf { line: id.line, nth: id.nth, member: id.member.clone() }).collect(),
        };
        let undone =
            Part { sign: -part.sign, origin: None, again: Some(Again { lines: lines.clone(), undoes: Some(origin) }), ..part.clone() };
        let now = made(input, part.sign.into(), &part.name, part.content.clone(), shape(of.plain, input), arrival);
        let now = Part { folder: part.folder.clone(), messages: part.messages.clone(), again: Some(Again { lines, undoes: None }), ..now };
        Ok([undone, now])
    }
}
