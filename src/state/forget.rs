//! Forgetting all records of a device, a user or a sensor: what they were in is taken back, so far as it was theirs.
//!
//! Each file that has such records is given once more, with the opposite sign, and only they are meant. That is a batch like any other, and
//! numbers follow from it. What the files themselves hold is removed when the state is compacted ([`super::erase`]).
//!
//! # Limits
//! Lines that were refused are no records, and nothing follows from them: they go when the files are rewritten.

use super::erase::{each_line, input_of};
use super::files::Files;
use super::frame::{Content, Only, Part};
use super::snapshot::whole_lines;
use super::{Of, State, StateError};
use retally_core::condition::all_hold;
use retally_core::contract::{Input, InputKind};
use retally_core::decode::At;
use retally_core::field::Holds;
use retally_core::split::Line;
use std::collections::{BTreeMap, BTreeSet};

/// A batch that takes back all records of which a field holds a value.
#[derive(Clone, Debug, Default)]
pub struct Forgetting {
    /// Its parts; none where there are no such records.
    pub parts: Vec<Part>,
    /// How many records it takes back, those that were given back before with it. Of datasets, how many of these.
    pub records: u64,
}

/// Why nothing is taken back.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Records are not told by this.
    #[error("the records of {input} have no {field:?}; they are told by {}", known.join(", "))]
    Field {
        /// The input.
        input: &'static str,
        /// What was given.
        field: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// There are no such records.
    #[error("no record of {input} has {field} = {value:?}")]
    None {
        /// The input.
        input: &'static str,
        /// The field.
        field: String,
        /// What it should hold.
        value: String,
    },
    /// The state can't be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What to do where nothing is taken back.
pub const NOT_THERE: &str = "nothing was changed; give the value as the records have it: it may have been taken back before";

impl Files {
    /// The batch that takes back all records of an input of which this holds, that are in the journal.
    pub fn forget(&self, of: Of<'_>, input: &Input, only: &Only) -> Result<Forgetting, ForgetError> {
        let known: Vec<&'static str> = match input.kind {
            InputKind::Records => input.fields.iter().map(|field| field.name).collect(),
            InputKind::Datasets(files) => files.keys.to_vec(),
        };
        let Some(place) = known.iter().position(|known| *known == only.field) else {
            return Err(ForgetError::Field { input: input.name, field: only.field.clone(), known });
        };
        let (frames, _) = State::look_at(self.shelf())?;
        let parts = frames.iter().filter(|frame| frame.dataflow == of.plain.name).flat_map(|frame| &frame.parts);
        let parts = parts.filter(|part| part.input == input.name);
        let is_text = input.fields.get(place).is_some_and(|field| field.holds == Holds::Text);
        let only = &Only { exact: only.exact || is_text, ..only.clone() };
        let forgetting = match input.kind {
            InputKind::Records => self.forget_records(of, parts, only)?,
            InputKind::Datasets(_) => forget_datasets(parts, place, &only.value),
        };
        if forgetting.parts.is_empty() {
            return Err(ForgetError::None { input: input.name, field: only.field.clone(), value: only.value.clone() });
        }
        Ok(forgetting)
    }

    fn forget_records<'f>(&self, of: Of<'_>, parts: impl Iterator<Item = &'f Part>, only: &Only) -> Result<Forgetting, StateError> {
        // Of each file, how often those of its records count that hold this and, in part, what was forgotten before.
        let mut files: BTreeMap<String, (&Part, BTreeMap<BTreeSet<Only>, i64>)> = BTreeMap::new();
        for part in parts {
            let (_, counts) = files.entry(whole_lines(part)).or_insert_with(|| (part, BTreeMap::new()));
            let meant = part.only.iter().chain([only]).cloned().collect();
            *counts.entry(meant).or_default() += i64::from(part.sign);
        }
        let mut forgetting = Forgetting::default();
        for (part, counts) in files.into_values() {
            for (meant, count) in counts.into_iter().filter(|(_, count)| *count != 0) {
                let (sign, times) = (if count > 0 { -1 } else { 1 }, count.unsigned_abs());
                let mine = Part { sign, only: meant.into_iter().collect(), origin: None, ..part.clone() };
                let records = self.count(of, &mine)? * times;
                if records > 0 {
                    forgetting.records += records;
                    forgetting.parts.extend(std::iter::repeat_n(mine, usize::try_from(times).unwrap_or(usize::MAX)));
                }
            }
        }
        Ok(forgetting)
    }

    /// How many records a part is of.
    pub(super) fn count(&self, of: Of<'_>, part: &Part) -> Result<u64, StateError> {
        if matches!(part.content, Content::Refused { .. }) {
            return Ok(0);
        }
        let mut records = 0;
        let of = Of { definition: of.plain, ..of };
        for split in &self.plan(of, &[part])?.splits {
            let Some((input, context)) = input_of(of.plain, split) else { continue };
            let mut at = At::default();
            let is_meant = |line: Line<'_>| line.record.is_ok_and(|raw| all_hold(&split.conditions, raw, input.fields, &context));
            each_line(split, &input, &mut |line| {
                records += u64::from(at.counts(&line, split) && is_meant(line));
                Ok(())
            })?;
        }
        Ok(records)
    }
}

/// Of a dataset the last delivery counts: it is taken back.
fn forget_datasets<'f>(parts: impl Iterator<Item = &'f Part>, place: usize, value: &str) -> Forgetting {
    let mut last: Vec<&Part> = Vec::new();
    for part in parts {
        let Some((_, key)) = part.dataset() else { continue };
        if key.get(place).is_none_or(|found| found != value) {
            continue;
        }
        match last.iter_mut().find(|other| other.dataset() == part.dataset()) {
            Some(other) => *other = part,
            None => last.push(part),
        }
    }
    let parts: Vec<Part> = last.into_iter().filter(|part| part.sign > 0).map(|part| Part { sign: -1, ..part.clone() }).collect();
    Forgetting { records: parts.len() as u64, parts }
}
