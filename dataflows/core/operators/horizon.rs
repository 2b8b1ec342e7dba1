//! The as-of time: the latest time of a collection, known to all workers, and what depends on it.
//!
//! - [`latest`] keeps the latest time: each worker that of its own records, one worker the latest of these, and all are told when it moves.
//! - [`under`] states records together with what they need to know of the as-of time.
//!
//! Cost of a record: O(log n). Cost of a move: for [`under`] all its records, but only when the part of the as-of time that matters to them
//! changes.

use super::by_key::{Each, Emitter, State, WithHorizon, by_key, by_key_with_horizon, exchange};
use crate::Collection;
use crate::contract::AsOf;
use crate::hash::hash;
use crate::time::Moment;
use differential_dataflow::{AsCollection, Data, ExchangeData};
use std::collections::BTreeMap;
use std::hash::Hash;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::vec::Broadcast;

/// Times, with how often each is there.
#[derive(Default)]
struct Times(BTreeMap<Moment, isize>);

impl State for Times {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Times {
    fn latest(&self) -> Option<Moment> {
        self.0.iter().rev().find(|(_, count)| **count > 0).map(|(time, _)| *time)
    }

    /// Counts changes, and emits the latest time when it moves.
    fn change<K>(_key: &K, changes: &mut Vec<(Moment, isize)>, times: &mut Times, emitter: &mut Each<Moment>) {
        let before = times.latest();
        for (time, diff) in changes.drain(..) {
            let count = times.0.entry(time).or_default();
            *count += diff;
            if *count == 0 {
                times.0.remove(&time);
            }
        }
        let after = times.latest();
        if before != after {
            before.into_iter().for_each(|time| emitter.give(time, -1));
            after.into_iter().for_each(|time| emitter.give(time, 1));
        }
    }
}

/// The latest time that is there, on every worker: a collection of at most one record.
pub fn latest<'s>(times: Collection<'s, Moment>, name: &str) -> Collection<'s, Moment> {
    let keyed = times.map(|time| ((), time));
    // Equal times meet on one worker, so that each worker's times are counted to the end.
    let by_time = Exchange::new(|(((), time), _, _): &((_, Moment), _, _)| hash(time));
    let of_worker = by_key(keyed, by_time, &format!("{name}: of the worker"), Times::change);
    let of_all = by_key(of_worker.map(|time| ((), time)), exchange(), &format!("{name}: of all"), Times::change);
    of_all.inner.broadcast().as_collection()
}

/// The as-of time on every worker: the latest of `times`, unless it is set.
///
/// Where it is the clock's, that is one of `times`, and as-of is the end of the latest one's minute: what depends on as-of changes once a
/// minute then, and not with each event that is the latest.
pub fn as_of<'s>(times: Collection<'s, Moment>, as_of: AsOf, name: &str) -> Collection<'s, Moment> {
    match as_of {
        AsOf::Latest => latest(times, name),
        AsOf::Now => latest(times.map(Moment::end_of_minute), name),
        AsOf::At(moment) => constant(&times, moment),
    }
}

/// The records up to as-of, where that is a given time. (Where it is the latest event, there are no later ones.)
pub fn up_to<'s, D: Data>(records: Collection<'s, D>, as_of: AsOf, time: impl Fn(&D) -> Moment + 'static) -> Collection<'s, D> {
    match as_of {
        AsOf::Latest | AsOf::Now => records,
        AsOf::At(moment) => records.filter(move |record| time(record) <= moment),
    }
}

/// A collection of one record on every worker, in the scope of another.
fn constant<'s, D: Data, E: Data>(other: &Collection<'s, E>, data: D) -> Collection<'s, D> {
    use timely::dataflow::operators::vec::ToStream;
    std::iter::once((data, 0, 1)).to_stream(other.scope()).as_collection()
}

/// States each record under the as-of time: `rule(record, part)`, where `part` is what `project` takes of the as-of time.
///
/// Without an as-of time there is nothing to state (and no event either).
pub fn under<'s, D, G, O>(
    records: Collection<'s, D>,
    horizon: Collection<'s, Moment>,
    name: &str,
    project: impl Fn(Moment) -> G + 'static,
    rule: impl FnMut(&D, &G) -> O + 'static,
) -> Collection<'s, O>
where
    D: ExchangeData + Hash,
    G: ExchangeData,
    O: Data,
{
    let parts = horizon.map(project);
    by_key_with_horizon::<_, _, Held, _, Each<O>, _, _>(
        records.map(|record| (record, ())),
        parts,
        Pipeline,
        name,
        Under { rule, part: std::marker::PhantomData },
    )
}

/// How often a record is there.
#[derive(Default)]
struct Held(isize);

impl State for Held {
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

struct Under<L, G> {
    rule: L,
    part: std::marker::PhantomData<G>,
}

impl<D: Data, G: Data, O: Data, L: FnMut(&D, &G) -> O + 'static> WithHorizon<D, (), Held, O> for Under<L, G> {
    type Horizon = G;

    fn apply(&mut self, record: &D, changes: &mut Vec<((), isize)>, state: &mut Held, horizon: Option<&G>, emitter: &mut impl Emitter<O>) {
        for ((), diff) in changes.drain(..) {
            state.0 += diff;
            horizon.into_iter().for_each(|part| emitter.give((self.rule)(record, part), diff));
        }
    }

    fn moved(&mut self, record: &D, state: &mut Held, from: Option<&G>, to: Option<&G>, emitter: &mut impl Emitter<O>) {
        from.into_iter().for_each(|part| emitter.give((self.rule)(record, part), -state.0));
        to.into_iter().for_each(|part| emitter.give((self.rule)(record, part), state.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A time, and the time at which a record is reached.
    type Input = (i64, i64);

    fn latest_of(inputs: &BTreeMap<Input, isize>) -> Option<i64> {
        let mut times: BTreeMap<i64, isize> = BTreeMap::new();
        inputs.iter().for_each(|((time, _), count)| *times.entry(*time).or_default() += count);
        times.into_iter().filter(|(_, count)| *count > 0).map(|(time, _)| time).max()
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn records_are_stated_under_the_latest_time(epochs in updates((0i64..50, 0i64..9), 8, 6), config in Config::any()) {
            let naive = |inputs: &BTreeMap<Input, isize>| {
                let latest = latest_of(inputs);
                inputs.iter().filter_map(|((time, n), count)| Some(((*time, *n, latest? / 10), *count))).collect()
            };
            check_operator(config, epochs, naive, |inputs| {
                let horizon = latest(inputs.clone().map(|(time, _)| Moment(time)), "latest");
                under(inputs, horizon, "under", |moment| moment.0 / 10, |(time, n), tens| (*time, *n, *tens))
            });
        }
    }
}
