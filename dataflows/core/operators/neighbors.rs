//! For every record of a set the next one of its key: what rules about "the event after this one" are made of.
//!
//! The input is a multiset (records come twice, or are retracted before they are delivered); the operator keeps how often
//! each record was delivered and works on the set of those that were delivered more often than retracted.
//!
//! State: the records themselves, in an ordered list by key, and a count for those that were not delivered exactly once.
//! Cost of a change: finding its place, O(log n) in the key's records, and asking the caller's rule again about the
//! record and the one before it. Where ties are asked for, the records that are tied with the changed one are read too. The key's other
//! records are not looked at.

use super::by_key::{Each, Emitter, Update, by_key};
use super::history::History;
use super::order::{Order, OwnOrder};
use super::ordered::{ListPosition, OrderedList};
use crate::{Collection, Epoch};
use differential_dataflow::Data;
use std::hash::Hash;
use timely::dataflow::channels::pact::ParallelizationContract;

/// Applies `rule` to every record of the set and the next one of its key in the order of `V`.
///
/// The rule leaves what follows from the pair; it must leave the same for the same pair. `pact` as in [`by_key`].
pub fn neighbors<'s, K, V, O, P>(
    records: Collection<'s, (K, V)>,
    pact: P,
    name: &str,
    rule: impl FnMut(&K, &V, Option<&V>, &mut dyn FnMut(O)) + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    V: Data,
    O: Data,
    P: ParallelizationContract<Epoch, Vec<Update<K, V>>>,
{
    neighbors_and_ties(records, pact, name, OwnOrder, rule, |_| None::<()>, |_| None)
}

/// As [`neighbors`], by this order; and applies `tie` to every run of two or more records of a key for which `run` returns the same.
///
/// The records of a run must stand together in the order; those without a run are in no tie. `tie` returns what follows from a run, and how
/// often. It must return the same for the same run.
///
/// # Limits
/// A change reads the run that it lies in, before and after. Runs are expected to be short.
pub fn neighbors_and_ties<'s, K, V, O, P, R>(
    records: Collection<'s, (K, V)>,
    pact: P,
    name: &str,
    order: impl Order<V>,
    mut rule: impl FnMut(&K, &V, Option<&V>, &mut dyn FnMut(O)) + 'static,
    run: impl Fn(&V) -> Option<R> + 'static,
    tie: impl Fn(&mut dyn Iterator<Item = &V>) -> Option<(O, isize)> + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    V: Data,
    O: Data,
    R: Eq,
    P: ParallelizationContract<Epoch, Vec<Update<K, V>>>,
{
    by_key(records, pact, name, move |key, changes, history: &mut History<V>, emitter: &mut Each<O>| {
        let toggled = history.count_by(&order, changes.drain(..));
        if history.present().is_empty() {
            history.toggle_by(&order, &toggled);
            let mut records = history.present().iter().peekable();
            while let Some(record) = records.next() {
                rule(key, record, records.peek().copied(), &mut |output| emitter.give(output, 1));
            }
            all_ties(history.present(), &run, |records| give_tie(&tie, records, emitter, 1));
        } else {
            say(history.present(), &order, &toggled, |record, next| rule(key, record, next, &mut |output| emitter.give(output, -1)));
            ties(history.present(), &order, &toggled, &run, |records| give_tie(&tie, records, emitter, -1));
            history.toggle_by(&order, &toggled);
            say(history.present(), &order, &toggled, |record, next| rule(key, record, next, &mut |output| emitter.give(output, 1)));
            ties(history.present(), &order, &toggled, &run, |records| give_tie(&tie, records, emitter, 1));
        }
    })
}

fn give_tie<V, O: Data>(
    tie: &impl Fn(&mut dyn Iterator<Item = &V>) -> Option<(O, isize)>,
    records: &mut dyn Iterator<Item = &V>,
    emitter: &mut Each<O>,
    sign: isize,
) {
    if let Some((output, count)) = tie(records) {
        emitter.give(output, sign * count);
    }
}

/// Names each record, with its next, that is toggled or stands before one that is.
fn say<V: PartialEq>(list: &OrderedList<V>, order: &impl Order<V>, toggled: &[V], mut each: impl FnMut(&V, Option<&V>)) {
    let mut said: Option<ListPosition> = None;
    let mut once = |place: ListPosition| {
        if said.is_none_or(|said| said < place) {
            said = Some(place);
            if let Some(record) = list.get(place) {
                each(record, list.get(list.after(place)));
            }
        }
    };
    for record in toggled {
        let place = list.place_by(order, record);
        list.before(place).into_iter().for_each(&mut once);
        if list.get(place) == Some(record) {
            once(place);
        }
    }
}

/// Gives each run of two or more records to which a toggled one belongs, once.
fn ties<V, R: Eq>(
    list: &OrderedList<V>,
    order: &impl Order<V>,
    toggled: &[V],
    run: impl Fn(&V) -> Option<R>,
    mut each: impl FnMut(&mut dyn Iterator<Item = &V>),
) {
    let mut before = None;
    for record in toggled {
        let Some(mine) = run(record) else { continue };
        let is_mine = |other: &V| run(other).is_some_and(|other| other == mine);
        // Toggled records are in order: those of a run follow one another.
        if before.replace(record).is_some_and(is_mine) {
            continue;
        }
        let mut start = list.place_by(order, record);
        while let Some(place) = list.before(start).filter(|place| list.get(*place).is_some_and(is_mine)) {
            start = place;
        }
        let mut records = list.from(start).take_while(|other| is_mine(other));
        if records.clone().nth(1).is_some() {
            each(&mut records);
        }
    }
}

/// Gives each run of two or more records.
fn all_ties<V, R: Eq>(list: &OrderedList<V>, run: impl Fn(&V) -> Option<R>, mut each: impl FnMut(&mut dyn Iterator<Item = &V>)) {
    let mut rest = list.from((0, 0));
    loop {
        let from = rest.clone();
        let Some(record) = rest.next() else { return };
        let Some(mine) = run(record) else { continue };
        let others = rest.clone().take_while(|other| run(other).is_some_and(|other| other == mine)).count();
        if let Some(last) = others.checked_sub(1) {
            each(&mut from.take(others + 1));
            rest.nth(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_key::exchange;
    use super::super::order::OrderBy;
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Pair = (u8, u16, Option<u16>);

    fn naive(records: &BTreeMap<(u8, u16), isize>) -> BTreeMap<Pair, isize> {
        let present: Vec<(u8, u16)> = records.iter().filter(|(_, count)| **count > 0).map(|(record, _)| *record).collect();
        let next = |index: usize| present.get(index + 1).filter(|next| next.0 == present[index].0).map(|next| next.1);
        present.iter().enumerate().map(|(index, (key, value))| ((*key, *value, next(index)), 1)).collect()
    }

    /// Runs of values with the same tens, as key, tens, and the sum of the run; as often as the run is long.
    type Tie = (u8, u16, u16);

    fn naive_ties(records: &BTreeMap<(u8, u16), isize>) -> BTreeMap<Tie, isize> {
        let mut runs: BTreeMap<(u8, u16), Vec<u16>> = BTreeMap::new();
        for ((key, value), _) in records.iter().filter(|(_, count)| **count > 0) {
            runs.entry((*key, value / 10)).or_default().push(*value);
        }
        let ties = runs.into_iter().filter(|(_, run)| run.len() > 1);
        ties.map(|((key, tens), run)| ((key, tens, run.iter().sum()), run.len() as isize)).collect()
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn ties_equal_the_naive_computation_at_every_epoch(epochs in updates((0u8..4, 0u16..60), 6, 40), config in Config::any()) {
            check_operator(config, epochs, naive_ties, |records| {
                let records = records.map(|(key, value)| (key, (key, value)));
                neighbors_and_ties(records, exchange(), "ties", OwnOrder, |_, _, _, _| (), |(_, value)| Some(value / 10), |run| {
                    let (mut first, mut sum, mut count) = (None, 0, 0);
                    for (key, value) in run {
                        first = first.or(Some((*key, value / 10)));
                        sum += value;
                        count += 1;
                    }
                    first.map(|(key, tens)| ((key, tens, sum), count))
                })
            });
        }

        #[test]
        fn equals_the_naive_computation_at_every_epoch(epochs in updates((0u8..4, 0u16..30), 6, 40), config in Config::any()) {
            check_operator(config, epochs, naive, |records| {
                neighbors(records, exchange(), "neighbors", |key, record, next, give| give((*key, *record, next.copied())))
            });
        }

        /// Tens in order, and within each the greatest first; and runs of the same tens.
        #[test]
        fn in_another_order(epochs in updates((0u8..4, 0u16..60), 6, 40), config in Config::any()) {
            let naive = |records: &BTreeMap<(u8, u16), isize>| {
                let mut present: Vec<(u8, u16)> = records.iter().filter(|(_, count)| **count > 0).map(|(record, _)| *record).collect();
                present.sort_by_key(|(key, value)| (*key, value / 10, u16::MAX - value));
                let next = |index: usize| present.get(index + 1).filter(|next| next.0 == present[index].0).map(|next| next.1);
                let pairs = present.iter().enumerate().map(|(index, (key, value))| ((*key, *value, next(index)), 1));
                // The greatest of a run is the first of it.
                let mut runs: BTreeMap<(u8, u16), Vec<u16>> = BTreeMap::new();
                present.iter().for_each(|(key, value)| runs.entry((*key, value / 10)).or_default().push(*value));
                let ties = runs.into_iter().filter(|(_, run)| run.len() > 1).map(|((key, _), run)| ((key, 1_000 + run[0], None), 1));
                pairs.chain(ties).collect()
            };
            check_operator(config, epochs, naive, |records| {
                let tens = |record: &(u8, u16)| record.1 / 10;
                let by_tens = move |left: &(u8, u16), right: &(u8, u16)| tens(left).cmp(&tens(right)).then(right.1.cmp(&left.1));
                let records = records.map(|(key, value)| (key, (key, value)));
                let rule = |key: &u8, (_, value): &(u8, u16), next: Option<&(u8, u16)>, give: &mut dyn FnMut(Pair)| {
                    give((*key, *value, next.map(|next| next.1)));
                };
                neighbors_and_ties(records, exchange(), "neighbors", OrderBy::new(by_tens), rule, |(_, value)| Some(value / 10), |run| {
                    run.next().map(|(key, value)| ((*key, 1_000 + value, None), 1))
                })
            });
        }

        /// A key with enough records for several chunks, and single changes to it.
        #[test]
        fn long_histories(
            history in proptest::collection::btree_set(0u16..6_000, 2_000..2_500),
            late in updates((Just(0u8), 0u16..6_000), 5, 3),
        ) {
            let mut epochs = vec![history.into_iter().map(|value| ((0u8, value), 1)).collect::<Vec<_>>()];
            epochs.extend(late);
            check_operator(Config::default(), epochs, naive, |records| {
                neighbors(records, exchange(), "neighbors", |key, record, next, give| give((*key, *record, next.copied())))
            });
        }
    }
}
