//! Exact medians, counts and sums of integers, by key.
//!
//! A key's values are kept in order with how often each is there, in chunks that know how many they hold. The median is found by
//! adding up the chunks' numbers and then those within one chunk. It is answered as the two values in the middle, which are the same
//! where there is an odd number: what is between them is a fraction, and up to who writes it.
//!
//! State: 16 bytes for each distinct value. Cost of a change: O(log n), at most 512 values moved, and for each epoch that
//! touches the key the addition of n / 256 numbers: for a million values a few microseconds. Not of O(log n), but below
//! anything else that a change costs up to some millions of values a key.

use super::by_key::{Each, Emitter, State, Update, by_key};
use super::ordered::CHUNK_MAX;
use crate::{Collection, Epoch};
use differential_dataflow::Data;
use serde::{Deserialize, Serialize};
use std::hash::Hash;
use timely::dataflow::channels::pact::ParallelizationContract;

/// What is known of a key's values; there is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Distribution {
    /// How many there are.
    pub count: u64,
    /// Their sum.
    pub sum: i128,
    /// The last value of the lower half; of an odd number the one in the middle.
    pub lower: i64,
    /// The first value of the upper half; of an odd number the one in the middle.
    pub upper: i64,
}

/// The distribution of the values of each key that has any. A value counts as often as it is there. `pact` as in [`by_key`].
pub fn distributions<'s, K, P>(values: Collection<'s, (K, i64)>, pact: P, name: &str) -> Collection<'s, (K, Distribution)>
where
    K: Data + Hash,
    P: ParallelizationContract<Epoch, Vec<Update<K, i64>>>,
{
    by_key(values, pact, name, |key, changes, values: &mut Values, emitter: &mut Each<(K, Distribution)>| {
        let before = values.distribution();
        values.change(changes);
        let after = values.distribution();
        if before != after {
            before.into_iter().for_each(|old| emitter.give((key.clone(), old), -1));
            after.into_iter().for_each(|new| emitter.give((key.clone(), new), 1));
        }
    })
}

/// Values with how often they are there; below zero is not there.
#[derive(Default)]
struct Values {
    /// In order; none of them is empty.
    chunks: Vec<Chunk>,
    count: u64,
    sum: i128,
}

#[derive(Default)]
struct Chunk {
    /// How many values there are, each as often as it is there.
    count: u64,
    /// In order, with counts that are not 0.
    values: Vec<(i64, i64)>,
}

impl State for Values {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// How often a value is there.
fn weight(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl Chunk {
    fn new(values: Vec<(i64, i64)>) -> Chunk {
        Chunk { count: values.iter().map(|(_, count)| weight(*count)).sum(), values }
    }

    /// The value at a rank, from 0.
    fn at(&self, mut rank: u64) -> Option<i64> {
        for (value, count) in &self.values {
            match rank.checked_sub(weight(*count)) {
                Some(left) => rank = left,
                None => return Some(*value),
            }
        }
        None
    }
}

impl Values {
    fn distribution(&self) -> Option<Distribution> {
        let above = self.count.checked_sub(1)?;
        Some(Distribution { count: self.count, sum: self.sum, lower: self.at(above / 2)?, upper: self.at(self.count / 2)? })
    }

    /// The value at a rank, from 0.
    fn at(&self, mut rank: u64) -> Option<i64> {
        for chunk in &self.chunks {
            match rank.checked_sub(chunk.count) {
                Some(left) => rank = left,
                None => return chunk.at(rank),
            }
        }
        None
    }

    /// Adds sorted differences of counts.
    fn change(&mut self, changes: &mut Vec<(i64, isize)>) {
        let held: usize = self.chunks.iter().map(|chunk| chunk.values.len()).sum();
        if changes.len() * 16 > held {
            return self.merge(changes);
        }
        for (value, diff) in changes.drain(..) {
            self.add(value, diff as i64);
        }
    }

    fn add(&mut self, value: i64, diff: i64) {
        let behind = self.chunks.partition_point(|chunk| chunk.values.first().is_some_and(|(first, _)| *first <= value));
        let place = behind.saturating_sub(1);
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let Some(chunk) = self.chunks.get_mut(place) else { return };
        let found = chunk.values.binary_search_by(|(other, _)| other.cmp(&value));
        let before = found.ok().and_then(|index| chunk.values.get(index)).map_or(0, |(_, count)| *count);
        let after = before + diff;
        match (found, after) {
            (Ok(index), 0) => drop(chunk.values.remove(index)),
            (Ok(index), _) => chunk.values.get_mut(index).into_iter().for_each(|(_, count)| *count = after),
            (Err(_), 0) => {}
            (Err(index), _) => chunk.values.insert(index, (value, after)),
        }
        chunk.count = chunk.count - weight(before) + weight(after);
        self.count = self.count - weight(before) + weight(after);
        self.sum += i128::from(value) * (i128::from(weight(after)) - i128::from(weight(before)));
        if chunk.values.is_empty() {
            self.chunks.remove(place);
        } else if chunk.values.len() > CHUNK_MAX {
            let upper = chunk.values.split_off(chunk.values.len() / 2);
            *chunk = Chunk::new(std::mem::take(&mut chunk.values));
            self.chunks.insert(place + 1, Chunk::new(upper));
        }
    }

    /// Many changes are merged in one pass.
    fn merge(&mut self, changes: &mut Vec<(i64, isize)>) {
        let mut changes = changes.drain(..).map(|(value, diff)| (value, diff as i64)).peekable();
        let mut merged = Vec::new();
        for (value, count) in std::mem::take(&mut self.chunks).into_iter().flat_map(|chunk| chunk.values) {
            while let Some(change) = changes.next_if(|(other, _)| *other < value) {
                merged.push(change);
            }
            let diff = changes.next_if(|(other, _)| *other == value).map_or(0, |(_, diff)| diff);
            if count + diff != 0 {
                merged.push((value, count + diff));
            }
        }
        merged.extend(changes);
        self.sum = merged.iter().map(|(value, count)| i128::from(*value) * i128::from(weight(*count))).sum();
        // Chunks of two thirds, far from being split at once.
        self.chunks = merged.chunks(CHUNK_MAX * 2 / 3).map(|values| Chunk::new(values.to_vec())).collect();
        self.count = self.chunks.iter().map(|chunk| chunk.count).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_key::exchange;
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// All values of a key in a row.
    fn naive(values: &BTreeMap<(u8, i64), isize>) -> BTreeMap<(u8, Distribution), isize> {
        let mut rows: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        for ((key, value), count) in values {
            (0..*count).for_each(|_| rows.entry(*key).or_default().push(*value));
        }
        let of = |row: Vec<i64>| Distribution {
            count: row.len() as u64,
            sum: row.iter().map(|value| i128::from(*value)).sum(),
            lower: row[(row.len() - 1) / 2],
            upper: row[row.len() / 2],
        };
        rows.into_iter().map(|(key, row)| ((key, of(row)), 1)).collect()
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn equals_the_naive_computation_at_every_epoch(epochs in updates((0u8..3, -20i64..20), 8, 30), config in Config::any()) {
            check_operator(config, epochs, naive, |values| distributions(values, exchange(), "lengths"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, ..crate::testing::proptests() })]

        /// Keys with enough values for several chunks, which are then changed one by one, and taken away.
        #[test]
        fn long_histories(
            history in prop::collection::vec((0u8..2, 0i64..4_000), 3_000..4_000),
            late in updates((0u8..2, 0i64..4_000), 4, 60),
        ) {
            let mut epochs = vec![history.iter().map(|value| (*value, 1)).collect::<Vec<_>>()];
            epochs.extend(late);
            epochs.extend(history.chunks(150).map(|part| part.iter().map(|value| (*value, -1)).collect()));
            check_operator(Config::default(), epochs, naive, |values| distributions(values, exchange(), "lengths"));
        }
    }

    /// Growing one by one, chunks are split and ranks stay right.
    #[test]
    fn chunks_are_split() {
        let mut values = Values::default();
        for value in 0..5_000i64 {
            values.add(value * 7 % 5_000, 1);
            if value % 100 == 0 {
                let expected: Vec<i64> = {
                    let mut all: Vec<i64> = (0..=value).map(|v| v * 7 % 5_000).collect();
                    all.sort_unstable();
                    all
                };
                assert_eq!(values.at(value as u64 / 3), Some(expected[expected.len().saturating_sub(1) / 3]));
            }
        }
        assert!(values.chunks.len() >= 10 && values.chunks.iter().all(|chunk| chunk.values.len() <= CHUNK_MAX));
        assert_eq!(values.distribution(), Some(Distribution { count: 5_000, sum: 12_497_500, lower: 2_499, upper: 2_500 }));
    }
}
