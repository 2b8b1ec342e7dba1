//! Forgetting all records of a device, a user or a sensor: what they were in is taken back, so far as it was theirs.
//!
//! Each file that has such records is given once more, with the opposite sign, and only they are meant. That is a batch like any other, and
//! numbers follow from it. What the files themselves hold is removed when the state is compacted ([`super::erase`]).
//!
//! # Limits
//! Lines that were refused are no records, and nothing follows from them: they go when the files are written anew.

use super::erase::{Context, each_line, part_context};
use super::files::Files;
use super::frame::{Content, Frame, Only, Part};
use super::{Of, StateError};
use retally_core::condition::all_hold;
use retally_core::contract::{Input, InputKind};
use std::collections::HashMap;

/// A batch that takes back all records of which a field holds a value.
#[derive(Clone, Debug, Default)]
pub struct Forgetting {
    /// Its parts; none where there are no such records.
    pub parts: Vec<Part>,
    /// How many records it takes back, those that were given back before with it. Of datasets, how many of these.
    pub records: u64,
}

impl Files {
    /// The batch that takes back all records of an input of which this holds, that are in some batches.
    pub fn forget<'f>(
        &self,
        of: Of<'_>,
        frames: impl Iterator<Item = &'f Frame>,
        input: &Input,
        only: &Only,
    ) -> Result<Forgetting, StateError> {
        let parts = frames.flat_map(|frame| &frame.parts).filter(|part| part.input == input.name);
        match input.kind {
            InputKind::Records => self.forget_records(of, parts, only),
            InputKind::Datasets(files) => {
                let place = files.keys.iter().position(|key| *key == only.field);
                Ok(forget_datasets(parts, place, &only.value))
            }
        }
    }

    fn forget_records<'f>(&self, of: Of<'_>, parts: impl Iterator<Item = &'f Part>, only: &Only) -> Result<Forgetting, StateError> {
        let mut forgetting = Forgetting::default();
        // A file that was delivered more than once is read once.
        let mut known: HashMap<String, u64> = HashMap::new();
        for part in parts {
            let mut mine = Part { sign: -part.sign, ..part.clone() };
            mine.only.push(only.clone());
            let what = serde_json::to_string(&(&mine.content, &mine.shape, &mine.only)).unwrap_or_default();
            let records = match known.get(&what) {
                Some(records) => *records,
                None => {
                    let records = self.count(of, &mine)?;
                    known.insert(what, records);
                    records
                }
            };
            if records > 0 {
                forgetting.records += records;
                forgetting.parts.push(mine);
            }
        }
        Ok(forgetting)
    }

    /// How many records a part is of.
    fn count(&self, of: Of<'_>, part: &Part) -> Result<u64, StateError> {
        if matches!(part.content, Content::Refused { .. }) {
            return Ok(0);
        }
        let Context { input, context } = part_context(of.plain, part)?;
        let mut records = 0;
        for split in &self.plan(of, &[part])?.splits {
            each_line(split, &input, &mut |line| {
                records +=
                    u64::from(split.counts(&line) && line.record.is_ok_and(|raw| all_hold(&split.conditions, raw, input.fields, &context)));
                Ok(())
            })?;
        }
        Ok(records)
    }
}

/// Of a dataset the last delivery counts: it is taken back.
fn forget_datasets<'f>(parts: impl Iterator<Item = &'f Part>, place: Option<usize>, value: &str) -> Forgetting {
    let mut last: Vec<&Part> = Vec::new();
    for part in parts {
        let Some((_, key)) = part.dataset() else { continue };
        if place.and_then(|place| key.get(place)).is_none_or(|found| found != value) {
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
