//! A partition's updates, sorted within the cache, and given out key by key: as many as there is time for.

use super::stash::Updates;
use crate::hash::hash;
use std::collections::VecDeque;
use std::hash::Hash;

/// The partition that is being handled. Its space is used again and again.
pub(super) struct Sorting<K, V> {
    /// What has not been sorted.
    buckets: Vec<Updates<K, V>>,
    /// The bucket that comes next.
    next: usize,
    /// What has been sorted and not been given out.
    sorted: VecDeque<(K, V, isize)>,
    /// Whether that is a bucket, and not a whole partition.
    of_bucket: bool,
    changes: Vec<(V, isize)>,
}

impl<K, V> Default for Sorting<K, V> {
    fn default() -> Self {
        Sorting { buckets: Vec::new(), next: BUCKETS, sorted: VecDeque::new(), of_bucket: false, changes: Vec::new() }
    }
}

/// A partition with more updates than this is cut by hash once more before it is sorted, to about a key a bucket.
const SORTED_MAX: usize = 1 << 12;
const BUCKETS: usize = 256;
/// Runs of this many updates of a key, on average, are handled as they are.
const RUN_MIN: usize = 4;

impl<K: Ord + Hash, V: Ord> Sorting<K, V> {
    /// Takes up a partition, whose updates are sorted and consolidated. All of the one before must have been given out.
    pub(super) fn begin(&mut self, mut partition: Updates<K, V>) {
        if partition.len() <= SORTED_MAX {
            partition.sort_unstable();
            self.sorted = partition.into();
            return;
        }
        self.buckets.resize_with(BUCKETS, Vec::new);
        self.next = 0;
        for update in partition {
            // The highest bits chose the partition.
            let bucket = (hash(&update.0) >> 40) as usize % BUCKETS;
            if let Some(bucket) = self.buckets.get_mut(bucket) {
                bucket.push(update);
            }
        }
    }

    /// As [`Self::begin`], where a key's changes may be given out in several parts.
    pub(super) fn begin_runs(&mut self, mut partition: Updates<K, V>) {
        let runs = partition.chunk_by(|(key, _, _), (next, _, _)| key == next).count();
        if runs * RUN_MIN > partition.len() {
            return self.begin(partition);
        }
        for run in partition.chunk_by_mut(|(key, _, _), (next, _, _)| key == next) {
            run.sort_unstable_by(|(_, value, _), (_, other, _)| value.cmp(other));
        }
        self.sorted = partition.into();
    }

    /// The next key with its changes; nothing at the end of the partition.
    pub(super) fn next_key(&mut self) -> Option<(K, &mut Vec<(V, isize)>)> {
        loop {
            let Some((key, value, diff)) = self.sorted.pop_front() else {
                self.sort_bucket()?;
                continue;
            };
            let changes = &mut self.changes;
            changes.clear();
            changes.push((value, diff));
            while self.sorted.front().is_some_and(|(next, _, _)| *next == key) {
                let Some((_, value, diff)) = self.sorted.pop_front() else { break };
                match changes.last_mut() {
                    Some((last, sum)) if *last == value => *sum += diff,
                    _ => changes.push((value, diff)),
                }
            }
            changes.retain(|(_, diff)| *diff != 0);
            if !self.changes.is_empty() {
                return Some((key, &mut self.changes));
            }
        }
    }

    /// Sorts the next bucket. The space of the one before is kept for the next partition; that of a whole partition is given back.
    fn sort_bucket(&mut self) -> Option<()> {
        let used = std::mem::take(&mut self.sorted);
        let before = self.next.checked_sub(1).filter(|_| std::mem::take(&mut self.of_bucket));
        if let Some(place) = before.and_then(|place| self.buckets.get_mut(place)) {
            *place = used.into();
        }
        let mut bucket = std::mem::take(self.buckets.get_mut(self.next)?);
        self.next += 1;
        bucket.sort_unstable();
        (self.sorted, self.of_bucket) = (bucket.into(), true);
        Some(())
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
            let mut sorting = Sorting::default();
            sorting.begin_runs(flat().collect());
            while let Some((key, changes)) = sorting.next_key() {
                parts += 1;
                assert!(changes.is_sorted_by(|(value, _), (next, _)| value < next) && changes.iter().all(|(_, diff)| *diff != 0));
                changes.iter().for_each(|(value, diff)| *said.entry((key, *value)).or_default() += diff);
            }
            said.retain(|_, sum: &mut isize| *sum != 0);
            prop_assert_eq!(said, sums);
            prop_assert!(parts <= runs.len().max(4));
        }
    }
}
