//! Counts over days, from range ends: running sums that change where ends change.
//!
//! [`count_steps`] keeps for every key how many of its ranges cover a day, and applies a rule where that number
//! changes; [`daily`] turns ends into one record per day, up to the day of as-of.
//!
//! State: the days on which a key's number changes, 8 bytes each. Cost of a change: O(log n), and the ends (for `daily`:
//! the days, since each is a record that changes) under the changed range.

use super::by_key::{DaySums, Each, Emitter, State, Timing, Update, WithHorizon, by_key_timed, by_key_with_horizon, exchange};
use super::steps::Steps;
use crate::calendar::Day;
use crate::{Collection, Epoch};
use differential_dataflow::Data;
use std::hash::Hash;
use timely::dataflow::channels::pact::ParallelizationContract;

/// A load is counted in parts of this many ends: a key's ends come together in one part or a few, and none waits for all.
const ENOUGH: usize = 1 << 20;

/// Sums up, over all keys, what each contributes on a day on which `n` of its ranges of a kind cover that day.
///
/// `measure(kind, n, give)` leaves contributions for n ≠ 0 (for 0 there are none). The answer is ends again: of the sums by contributed
/// thing, from that day on. They are summed up over all keys of an epoch before they go anywhere, so there should be few things.
pub fn count_steps<'s, K, C, O, P>(
    ends: Collection<'s, (K, (C, Day))>,
    pact: P,
    name: &str,
    measure: impl Fn(C, i32, &mut dyn FnMut(O, isize)) + 'static,
) -> Collection<'s, (O, Day)>
where
    K: Data + Hash,
    C: Data + Copy,
    O: Data,
    P: ParallelizationContract<Epoch, Vec<Update<K, (C, Day)>>>,
{
    let mut ends_of_kind = Vec::new();
    let mut amounts: Vec<(O, isize)> = Vec::new();
    by_key_timed(ends, pact, name, Timing::Early(ENOUGH), move |_, changes, state: &mut Kinds<C>, emitter: &mut DaySums<O>| {
        for changes in changes.chunk_by(|((kind, _), _), ((next, _), _)| kind == next) {
            let Some(((kind, _), _)) = changes.first() else { continue };
            ends_of_kind.clear();
            ends_of_kind.extend(changes.iter().map(|((_, day), diff)| (*day, *diff)));
            let Some((_, steps)) = state.of(*kind) else { continue };
            steps.add(&ends_of_kind, |(from, until, old, new)| {
                // A number that changes by little mostly contributes to the same things.
                for (count, sign) in [(old, -1), (new, 1)] {
                    if count != 0 {
                        measure(*kind, count, &mut |thing, amount| match amounts.iter_mut().find(|(other, _)| *other == thing) {
                            Some((_, sum)) => *sum += sign * amount,
                            None => amounts.push((thing, sign * amount)),
                        });
                    }
                }
                for (thing, amount) in amounts.drain(..).filter(|(_, amount)| *amount != 0) {
                    emitter.give_range(thing, from, until, amount);
                }
            });
        }
        state.by_kind.retain(|(_, steps)| !steps.is_empty());
    })
}

/// How many ranges of a key cover a day, by kind.
struct Kinds<C> {
    by_kind: Vec<(C, Steps<Day>)>,
}

impl<C> Default for Kinds<C> {
    fn default() -> Self {
        Kinds { by_kind: Vec::new() }
    }
}

impl<C: PartialEq> Kinds<C> {
    fn of(&mut self, kind: C) -> Option<&mut (C, Steps<Day>)> {
        let place = self.by_kind.iter().position(|(other, _)| *other == kind).unwrap_or_else(|| {
            self.by_kind.reserve_exact(1);
            self.by_kind.push((kind, Steps::default()));
            self.by_kind.len() - 1
        });
        self.by_kind.get_mut(place)
    }
}

impl<C: 'static> State for Kinds<C> {
    fn is_empty(&self) -> bool {
        self.by_kind.is_empty()
    }
}

/// The running sums of ends: a record `(key, day, sum)` for every day up to the horizon on which the sum is not 0.
pub fn daily<'s, K>(ends: Collection<'s, (K, Day)>, horizon: Collection<'s, Day>, name: &str) -> Collection<'s, (K, Day, i64)>
where
    K: differential_dataflow::ExchangeData + Hash,
{
    by_key_with_horizon::<_, _, Steps<Day, i64>, _, Each<_>, _, _>(ends, horizon, exchange(), name, Daily)
}

struct Daily;

impl Daily {
    fn give<K: Clone>(key: &K, value: i64, days: std::ops::RangeInclusive<i32>, diff: isize, emitter: &mut impl Emitter<(K, Day, i64)>) {
        if value != 0 {
            days.for_each(|day| emitter.give((key.clone(), Day(day), value), diff));
        }
    }
}

impl<K: Data> WithHorizon<K, Day, Steps<Day, i64>, (K, Day, i64)> for Daily {
    type Horizon = Day;

    fn apply(
        &mut self,
        key: &K,
        changes: &mut Vec<(Day, isize)>,
        state: &mut Steps<Day, i64>,
        horizon: Option<&Day>,
        emitter: &mut impl Emitter<(K, Day, i64)>,
    ) {
        state.add(changes, |(from, until, old, new)| {
            let Some(horizon) = horizon else { return };
            let last = until.map_or(horizon.0, |until| horizon.0.min(until.0 - 1));
            Daily::give(key, old, from.0..=last, -1, emitter);
            Daily::give(key, new, from.0..=last, 1, emitter);
        });
    }

    fn moved(
        &mut self,
        key: &K,
        state: &mut Steps<Day, i64>,
        from: Option<&Day>,
        to: Option<&Day>,
        emitter: &mut impl Emitter<(K, Day, i64)>,
    ) {
        // Without a horizon there are no rows: it stands before the first point.
        let Some((first, _)) = state.points().next() else { return };
        let (from, to) = (from.map_or(first.0 - 1, |day| day.0), to.map_or(first.0 - 1, |day| day.0));
        let (low, high, diff) = if from < to { (from, to, 1) } else { (to, from, -1) };
        let mut since = (low + 1, state.at(Day(low + 1)));
        for (point, value) in state.from(Day(low + 2)).take_while(|(point, _)| point.0 <= high) {
            Daily::give(key, since.1, since.0..=point.0 - 1, diff, emitter);
            since = (point.0, value);
        }
        Daily::give(key, since.1, since.0..=high, diff, emitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Either a range of a key, or a horizon.
    type Input = Result<(u8, i32, i32), i32>;

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![6 => (0u8..3, 0i32..30, 1i32..12).prop_map(Ok), 1 => (0i32..45).prop_map(Err)]
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn counts_equal_the_naive_computation(epochs in updates((0u8..6, 0i32..30, 1i32..12), 6, 20), config in Config::any()) {
            // Keys of the records are a key and a kind of the operator's.
            let naive = |ranges: &BTreeMap<(u8, i32, i32), isize>| {
                let mut ends = BTreeMap::new();
                for key in 0..6 {
                    let count = |day: i32| -> isize {
                        ranges.iter().filter(|((k, from, length), _)| *k == key && (*from..from + length).contains(&day)).map(|(_, count)| *count).sum()
                    };
                    // A key with n ranges of a kind contributes n things (kind, n > 2).
                    for day in -1..45 {
                        for (n, sign) in [(count(day - 1), -1), (count(day), 1)] {
                            *ends.entry(((key % 2 == 1, n > 2), Day(day))).or_default() += sign * n;
                        }
                    }
                }
                ends.retain(|_, sum: &mut isize| *sum != 0);
                ends
            };
            check_operator(config, epochs, naive, |ranges| {
                let ends = ranges.clone().map(|(key, from, _)| (key / 2, (key % 2 == 1, Day(from))));
                let ends = ends.concat(ranges.map(|(key, from, length)| (key / 2, (key % 2 == 1, Day(from + length)))).negate());
                count_steps(ends, exchange(), "counts", |kind, n, give| give((kind, n > 2), n as isize))
            });
        }

        #[test]
        fn days_equal_the_naive_computation(epochs in updates(input(), 8, 12), config in Config::any()) {
            let naive = |inputs: &BTreeMap<Input, isize>| {
                let horizon = inputs.iter().filter(|(_, count)| **count > 0).filter_map(|(input, _)| input.err()).max();
                let mut rows = BTreeMap::new();
                for day in 0..=horizon.unwrap_or(-1) {
                    for key in 0..3 {
                        let covering = inputs.iter().filter(|(input, _)| input.is_ok_and(|(k, from, length)| k == key && (from..from + length).contains(&day)));
                        let sum: i64 = covering.map(|(_, count)| *count as i64).sum();
                        if sum != 0 {
                            rows.insert((key, Day(day), sum), 1);
                        }
                    }
                }
                rows
            };
            check_operator(config, epochs, naive, |inputs| {
                let ranges = inputs.clone().flat_map(Result::ok);
                let times = inputs.flat_map(Result::err).map(|day| crate::time::Moment(i64::from(day)));
                let horizon = super::super::horizon::latest(times, "latest").map(|moment| Day(i32::try_from(moment.0).unwrap()));
                let ends = ranges.clone().map(|(key, from, _)| (key, Day(from)));
                let ends = ends.concat(ranges.map(|(key, from, length)| (key, Day(from + length))).negate());
                daily(ends, horizon, "daily")
            });
        }
    }
}
