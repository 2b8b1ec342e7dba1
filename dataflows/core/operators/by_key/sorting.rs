//! Sorting a partition's updates within the cache, and giving them out key by key.

use super::stash::Piece;
use crate::hash::hash;
use std::hash::Hash;

/// Space for sorting partitions, used again and again.
pub(super) struct Scratch<K, V> {
    buckets: Vec<Piece<K, V>>,
    changes: Vec<(V, isize)>,
}

impl<K, V> Default for Scratch<K, V> {
    fn default() -> Self {
        Scratch { buckets: Vec::new(), changes: Vec::new() }
    }
}

/// A partition with more updates than this is cut by hash once more before it is sorted, to about a key a bucket.
const SORTED_MAX: usize = 1 << 12;
const BUCKETS: usize = 256;
/// Runs of this many updates of a key, on average, are handled as they are.
const RUN_MIN: usize = 4;

impl<K: Ord + Hash, V: Ord> Scratch<K, V> {
    /// Sorts and consolidates a partition, and gives it out key by key.
    pub(super) fn for_each_key(&mut self, mut partition: Piece<K, V>, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) {
        if partition.len() <= SORTED_MAX {
            partition.sort_unstable();
            return self.each_of_sorted(&mut partition, each);
        }
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.resize_with(BUCKETS, Vec::new);
        for update in partition {
            // The highest bits chose the partition.
            let bucket = (hash(&update.0) >> 40) as usize % BUCKETS;
            if let Some(bucket) = buckets.get_mut(bucket) {
                bucket.push(update);
            }
        }
        for bucket in &mut buckets {
            bucket.sort_unstable();
            self.each_of_sorted(bucket, each);
        }
        self.buckets = buckets;
    }

    /// As [`Self::for_each_key`], a key's changes perhaps in several parts.
    pub(super) fn for_each_run(&mut self, mut partition: Piece<K, V>, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) {
        let runs = partition.chunk_by(|(key, _, _), (next, _, _)| key == next).count();
        if runs * RUN_MIN > partition.len() {
            return self.for_each_key(partition, each);
        }
        for run in partition.chunk_by_mut(|(key, _, _), (next, _, _)| key == next) {
            run.sort_unstable_by(|(_, value, _), (_, other, _)| value.cmp(other));
        }
        self.each_of_sorted(&mut partition, each);
    }

    fn each_of_sorted(&mut self, updates: &mut Piece<K, V>, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) {
        let changes = &mut self.changes;
        let mut updates = updates.drain(..).peekable();
        while let Some((key, value, diff)) = updates.next() {
            changes.push((value, diff));
            while let Some((_, value, diff)) = updates.next_if(|(next, _, _)| *next == key) {
                match changes.last_mut() {
                    Some((last, sum)) if *last == value => *sum += diff,
                    _ => changes.push((value, diff)),
                }
            }
            changes.retain(|(_, diff)| *diff != 0);
            if !changes.is_empty() {
                each(key, changes);
                changes.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        /// Keys in runs, long and short, the same keys again and again.
        #[test]
        fn runs_say_what_keys_say(runs in proptest::collection::vec((0u8..4, proptest::collection::vec((0u8..6, -1isize..3), 1..14)), 0..12)) {
            let flat = || runs.iter().flat_map(|(key, run)| run.iter().map(|(value, diff)| (*key, *value, *diff)));
            let mut sums = BTreeMap::new();
            flat().for_each(|(key, value, diff)| *sums.entry((key, value)).or_default() += diff);
            sums.retain(|_, sum: &mut isize| *sum != 0);

            let mut said = BTreeMap::new();
            let mut parts = 0;
            Scratch::default().for_each_run(flat().collect(), &mut |key, changes| {
                parts += 1;
                assert!(changes.is_sorted_by(|(value, _), (next, _)| value < next) && changes.iter().all(|(_, diff)| *diff != 0));
                changes.iter().for_each(|(value, diff)| *said.entry((key, *value)).or_default() += diff);
            });
            said.retain(|_, sum: &mut isize| *sum != 0);
            prop_assert_eq!(said, sums);
            prop_assert!(parts <= runs.len().max(4));
        }
    }
}
