//! The union of day ranges, by key, as range ends: +1 on the day from which a key is covered, -1 on the day from which it is not.
//!
//! Ranges go in as ends too, `(key, from): +1` and `(key, until): -1`, and an open range is one without its end. Ends
//! add up: what covers a day twice counts once, and ranges that touch are one. Out come the ends of the union, and of
//! the union within each of several [windows](super::rolling), from one index.
//!
//! State: the days on which a key's number of covering ranges changes, 8 bytes each; at most two per range, and at most one
//! per day of the calendar. Cost of a change: O(log n) and the ends that lie under the changed range.

use super::by_key::{DaySums, Each, Emitter, State, Timing, Update, by_key_timed};
use super::rolling::{Gap, Window, gap_ends};
use super::steps::{Level, Steps, groups};
use crate::calendar::Day;
use crate::{Collection, Epoch};
use differential_dataflow::Data;
use std::hash::Hash;
use timely::dataflow::channels::pact::ParallelizationContract;

impl<P: Copy + Ord + 'static, V: Level> State for Steps<P, V> {
    fn is_empty(&self) -> bool {
        Steps::is_empty(self)
    }
}

/// The ends of the union of a key's ranges, within each of `windows`: `out(key, window, day)` is the record of an end.
pub fn day_ranges<'s, K, O, P>(
    ends: Collection<'s, (K, Day)>,
    pact: P,
    name: &str,
    windows: Vec<Window>,
    out: impl Fn(&K, Window, Day) -> O + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    O: Data,
    P: ParallelizationContract<Epoch, Vec<Update<K, Day>>>,
{
    ranges::<_, _, _, Each<_>>(ends, pact, name, windows, out)
}

/// As [`day_ranges`], the ends summed up over all keys of an epoch before they go anywhere: `out(key, window)` names few things.
pub fn summed_day_ranges<'s, K, O, P>(
    ends: Collection<'s, (K, Day)>,
    pact: P,
    name: &str,
    windows: Vec<Window>,
    out: impl Fn(&K, Window) -> O + 'static,
) -> Collection<'s, (O, Day)>
where
    K: Data + Hash,
    O: Data,
    P: ParallelizationContract<Epoch, Vec<Update<K, Day>>>,
{
    ranges::<_, _, _, DaySums<_>>(ends, pact, name, windows, move |key, window, day| (out(key, window), day))
}

fn ranges<'s, K, O, P, E>(
    ends: Collection<'s, (K, Day)>,
    pact: P,
    name: &str,
    windows: Vec<Window>,
    out: impl Fn(&K, Window, Day) -> O + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    O: Data,
    P: ParallelizationContract<Epoch, Vec<Update<K, Day>>>,
    E: Emitter<O>,
{
    // As they come: a load would otherwise wait twice, as what comes in and as what goes out.
    by_key_timed(ends, pact, name, Timing::AsTheyCome, move |key, changes, steps: &mut Steps<Day>, emitter: &mut E| {
        // Ends that cancel leave what is behind them as it was: each group is looked at by itself.
        for group in groups(changes) {
            for sign in [-1, 1] {
                if sign == 1 {
                    steps.add_group(&group, &mut |_| {});
                }
                gaps(steps, group.start, group.last, |gap| {
                    for window in &windows {
                        gap_ends(*window, gap, |day, diff| emitter.give(out(key, *window, day), sign * diff));
                    }
                });
            }
        }
    })
}

/// The gaps that touch the days from `start` to `last` (`None`: to the end of time).
fn gaps(steps: &Steps<Day>, start: Day, last: Option<Day>, mut each: impl FnMut(Gap)) {
    // Within an epoch more ranges can have ended than begun; what is not above 0 is not covered.
    let mut open = match steps.last_before(start) {
        None => Some(None),
        Some((_, value)) if value > 0 => None,
        Some((from, _)) => Some(gap_start(steps, from)),
    };
    for (point, value) in steps.from(start) {
        let beyond = last.is_some_and(|last| point > last);
        match open {
            Some(from) if value > 0 => {
                each((from, Some(point)));
                open = None;
            }
            None if value <= 0 && !beyond => open = Some(Some(point)),
            _ => {}
        }
        if beyond && open.is_none() {
            // A gap that was open has found its end, or there was none.
            return;
        }
    }
    if let Some(from) = open {
        each((from, None));
    }
}

/// The first day of the gap that `day`, a point of the function, lies in; `None` for the beginning of time.
fn gap_start(steps: &Steps<Day>, day: Day) -> Option<Day> {
    let mut from = day;
    while let Some((before, value)) = steps.last_before(from) {
        if value > 0 {
            return Some(from);
        }
        from = before;
    }
    // Before its first point the function is 0.
    None
}

#[cfg(test)]
mod tests {
    use super::super::by_key::exchange;
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const WINDOWS: [Window; 4] = [Window::Days(1), Window::Days(3), Window::Days(9), Window::Ever];

    /// Day by day: covered on any day of the window that ends with it, and not the day before, or the other way round.
    fn naive(ranges: &BTreeMap<(u8, i32, Option<i32>), isize>) -> BTreeMap<((u8, Window), Day), isize> {
        let mut covered: BTreeMap<u8, BTreeSet<i32>> = BTreeMap::new();
        for ((key, from, length), count) in ranges {
            if *count > 0 {
                covered.entry(*key).or_default().extend(*from..length.map_or(100, |length| from + length));
            }
        }
        let mut ends = BTreeMap::new();
        for (key, days) in covered {
            for window in WINDOWS {
                let first = |day: i32| match window {
                    Window::Days(days) => day + 1 - i32::from(days),
                    Window::Ever => -10,
                };
                let within = |day: i32| days.range(first(day)..=day).next().is_some();
                for day in 0..90 {
                    let diff = isize::from(within(day)) - isize::from(within(day - 1));
                    if diff != 0 {
                        ends.insert(((key, window), Day(day)), diff);
                    }
                }
            }
        }
        ends
    }

    fn range() -> impl Strategy<Value = (u8, i32, Option<i32>)> {
        (0u8..3, 0i32..40, prop_oneof![8 => (1i32..12).prop_map(Some), 1 => Just(None)])
    }

    /// The updates without those that retract below zero: the operator stands behind those that make sets.
    fn sets(epochs: Vec<Vec<((u8, i32, Option<i32>), isize)>>) -> Vec<Vec<((u8, i32, Option<i32>), isize)>> {
        let mut counts = BTreeMap::new();
        epochs
            .into_iter()
            .map(|epoch| {
                epoch
                    .into_iter()
                    .filter(|(range, diff)| {
                        let count: &mut isize = counts.entry(*range).or_default();
                        let fits = *count + diff >= 0;
                        *count += if fits { *diff } else { 0 };
                        fits
                    })
                    .collect()
            })
            .collect()
    }

    fn ends(ranges: Collection<'_, (u8, i32, Option<i32>)>) -> Collection<'_, (u8, Day)> {
        let starts = ranges.clone().map(|(key, from, _)| (key, Day(from)));
        starts.concat(ranges.flat_map(|(key, from, length)| Some((key, Day(from + length?)))).negate())
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn equals_the_naive_computation_at_every_epoch(epochs in updates(range(), 6, 20), config in Config::any()) {
            check_operator(config, sets(epochs), naive, |ranges| {
                day_ranges(ends(ranges), exchange(), "day ranges", WINDOWS.into(), |key, window, day| ((*key, window), day))
            });
        }

        #[test]
        fn sums_equal_those_of_the_naive_computation(epochs in updates(range(), 6, 20), config in Config::any()) {
            let naive = |ranges: &BTreeMap<_, _>| {
                let mut sums = BTreeMap::new();
                naive(ranges).into_iter().for_each(|(((_, window), day), diff)| *sums.entry((window, day)).or_default() += diff);
                sums.retain(|_, sum: &mut isize| *sum != 0);
                sums
            };
            check_operator(config, sets(epochs), naive, |ranges| {
                summed_day_ranges(ends(ranges), exchange(), "summed day ranges", WINDOWS.into(), |_, window| window)
            });
        }
    }
}
