//! The first few records of a collection, in their order.
//!
//! Each worker keeps its records in order and reports which of them are the first; one worker does the same with what all report.
//! A record that comes or goes behind these changes nothing. (The last few are the first of records in the opposite order.)
//!
//! State: each distinct record, and on one worker as many as are asked for of each. Cost of a change: O(log n + count).

use super::by_key::{Each, Emitter, State, by_key, exchange};
use crate::Collection;
use crate::hash::hash;
use differential_dataflow::ExchangeData;
use std::collections::BTreeMap;
use std::hash::Hash;
use timely::dataflow::channels::pact::Exchange;

/// Records with how often each is there.
struct Records<D>(BTreeMap<D, isize>);

impl<D> Default for Records<D> {
    fn default() -> Self {
        Records(BTreeMap::new())
    }
}

impl<D: 'static> State for Records<D> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<D: Ord + Clone + 'static> Records<D> {
    fn first(&self, count: usize) -> Vec<D> {
        self.0.iter().filter(|(_, there)| **there > 0).take(count).map(|(record, _)| record.clone()).collect()
    }

    fn change(&mut self, changes: &mut Vec<(D, isize)>, count: usize, emitter: &mut Each<D>) {
        let before = self.first(count);
        for (record, diff) in changes.drain(..) {
            let there = self.0.entry(record.clone()).or_default();
            *there += diff;
            if *there == 0 {
                self.0.remove(&record);
            }
        }
        // Equal ones cancel out.
        self.first(count).into_iter().for_each(|record| emitter.give(record, 1));
        before.into_iter().for_each(|record| emitter.give(record, -1));
    }
}

/// The first `count` distinct records that are there.
pub fn first<'s, D: ExchangeData + Hash>(records: Collection<'s, D>, count: usize, name: &str) -> Collection<'s, D> {
    let change = move |(): &(), changes: &mut Vec<(D, isize)>, records: &mut Records<D>, emitter: &mut Each<D>| {
        records.change(changes, count, emitter);
    };
    // Equal records meet on one worker, so that they are counted to the end.
    let by_record = Exchange::new(|(((), record), _, _): &(((), D), _, _)| hash(record));
    let of_worker = by_key(records.map(|record| ((), record)), by_record, &format!("{name}: of the worker"), change);
    by_key(of_worker.map(|record| ((), record)), exchange(), &format!("{name}: of all"), change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Config, check_operator, proptests, updates};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(proptests())]

        #[test]
        fn the_first_of_a_sorted_list(epochs in updates(0i64..20, 8, 8), count in 0usize..6, config in Config::any()) {
            let naive = |records: &BTreeMap<i64, isize>| {
                records.iter().filter(|(_, there)| **there > 0).take(count).map(|(record, _)| (*record, 1)).collect()
            };
            check_operator(config, epochs, naive, move |records| first(records, count, "first"));
        }
    }
}
