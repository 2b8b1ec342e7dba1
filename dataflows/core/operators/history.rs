//! The records of a key as a set, in order: which of them were delivered more often than retracted.
//!
//! Inputs are multisets (records come twice, or are retracted before they are delivered). A history keeps the records
//! that are there in an ordered list, and a count only for those that were not delivered exactly once.
//!
//! Cost of a change: O(log n), and at most 512 records moved.

use super::by_key::State;
use super::order::{Order, OwnOrder};
use super::ordered::OrderedList;
use std::cmp::Ordering;

/// The records of a key.
///
/// They are in their own order, or in another one: the same in all calls.
pub struct History<V> {
    /// Those that are there.
    present: OrderedList<V>,
    /// How often, for records delivered twice or more, and for those retracted more often than delivered. In the order of `V`; few keys
    /// have any.
    counts: Option<Box<OrderedList<(V, isize)>>>,
}

impl<V> Default for History<V> {
    fn default() -> Self {
        History { present: OrderedList::default(), counts: None }
    }
}

impl<V: 'static> State for History<V> {
    fn is_empty(&self) -> bool {
        self.present.is_empty() && self.counts.is_none()
    }
}

impl<V: Ord + Clone> History<V> {
    /// The records that are there.
    pub fn present(&self) -> &OrderedList<V> {
        &self.present
    }

    /// Counts deliveries, which are sorted; returns which records come or go, in order. They come and go when they are toggled.
    pub fn count(&mut self, changes: impl IntoIterator<Item = (V, isize)>) -> Vec<V> {
        self.count_by(&OwnOrder, changes)
    }

    /// As [`Self::count`], where records are in this order; deliveries come in the order of `V`.
    pub fn count_by(&mut self, order: &impl Order<V>, changes: impl IntoIterator<Item = (V, isize)>) -> Vec<V> {
        let changes = order.sorted(changes.into_iter());
        let mut counts = self.counts.take().map_or_else(OrderedList::default, |counts| *counts);
        let mut toggled = Vec::with_capacity(changes.size_hint().0);
        for (record, diff) in changes {
            let at = counts.lower_bound(|(other, _)| other.cmp(&record));
            let exceptional = counts.get(at).filter(|(other, _)| *other == record).map(|(_, count)| *count);
            let before =
                exceptional.unwrap_or_else(|| isize::from(self.present.get(self.present.place_by(order, &record)) == Some(&record)));
            let after = before + diff;
            if exceptional.is_some() {
                counts.remove(at);
            }
            if after != 0 && after != 1 {
                let at = counts.lower_bound(|(other, _)| other.cmp(&record));
                counts.insert(at, (record.clone(), after));
            }
            if (before > 0) != (after > 0) {
                toggled.push(record);
            }
        }
        self.counts = (!counts.is_empty()).then(|| Box::new(counts));
        toggled
    }

    /// Puts in what is not there, and takes out what is. Many changes are merged in one pass.
    pub fn toggle(&mut self, toggled: &[V]) {
        self.toggle_by(&OwnOrder, toggled);
    }

    /// As [`Self::toggle`], where records are in this order.
    pub fn toggle_by(&mut self, order: &impl Order<V>, toggled: &[V]) {
        let list = &mut self.present;
        if list.is_empty() {
            *list = OrderedList::from_sorted(toggled.to_vec());
            return;
        }
        if toggled.len() * 16 > list.len() {
            let mut merged = Vec::with_capacity(list.len() + toggled.len());
            let mut old = list.iter().peekable();
            for record in toggled {
                while let Some(kept) = old.next_if(|other| order.compare(other, record).is_lt()) {
                    merged.push(kept.clone());
                }
                if old.next_if(|other| *other == record).is_none() {
                    merged.push(record.clone());
                }
            }
            merged.extend(old.cloned());
            *list = OrderedList::from_sorted(merged);
            return;
        }
        for record in toggled {
            let place = list.place_by(order, record);
            match list.get(place).map(|other| other.cmp(record)) {
                Some(Ordering::Equal) => drop(list.remove(place)),
                _ => list.insert(place, record.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::OrderBy;
    use super::*;
    use crate::testing::updates;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn in_another_order_it_is_the_same_set(epochs in updates(0u16..300, 8, 120)) {
            // Tens in order, and within each the greatest first.
            let order = OrderBy::new(|left: &u16, right: &u16| (left / 10).cmp(&(right / 10)).then(right.cmp(left)));
            let (mut own, mut other) = (History::default(), History::default());
            for mut changes in epochs {
                differential_dataflow::consolidation::consolidate(&mut changes);
                let mut expected = own.count(changes.clone());
                let toggled = other.count_by(&order, changes);
                prop_assert!(toggled.is_sorted_by(|left, right| order.compare(left, right).is_lt()));
                own.toggle(&expected);
                other.toggle_by(&order, &toggled);
                expected.sort_by(|left, right| order.compare(left, right));
                prop_assert_eq!(toggled, expected);
                prop_assert!(other.present().iter().is_sorted_by(|left, right| order.compare(left, right).is_lt()));
                let mut present: Vec<&u16> = other.present().iter().collect();
                present.sort_unstable();
                prop_assert!(own.present().iter().eq(present));
                prop_assert_eq!(own.is_empty(), other.is_empty());
            }
        }

        #[test]
        fn is_the_set_of_what_was_delivered_more_often_than_retracted(epochs in updates(0u16..300, 8, 120)) {
            let mut history = History::default();
            let mut counts: BTreeMap<u16, isize> = BTreeMap::new();
            for mut changes in epochs {
                differential_dataflow::consolidation::consolidate(&mut changes);
                let before = counts.clone();
                changes.iter().for_each(|(record, diff)| *counts.entry(*record).or_default() += diff);
                let there = |counts: &BTreeMap<u16, isize>, record: &u16| counts.get(record).is_some_and(|count| *count > 0);
                let expected: Vec<u16> = counts.keys().copied().filter(|record| there(&before, record) != there(&counts, record)).collect();
                let toggled = history.count(changes);
                prop_assert_eq!(&toggled, &expected);
                history.toggle(&toggled);
                prop_assert!(history.present().iter().eq(counts.iter().filter(|(_, count)| **count > 0).map(|(record, _)| record)));
                prop_assert_eq!(history.is_empty(), counts.values().all(|count| *count == 0));
            }
        }
    }
}
