//! The state of a key as of a time: points × steps.
//!
//! A *step* is what a key's state is from a time on, until the next step: a device is assigned to a school. A *point* asks for the
//! state at a time: a session starts. Each point is answered with the latest step at or before its time, or none; of steps
//! at the same time the last by the caller's order counts.
//!
//! State: points and steps, each in an ordered list by key. Cost of a change: O(log n) to find its place; a point asks the caller's
//! rule once, and a step asks it again about the points from its time up to the next step, before and after. Other points
//! are not looked at, however many there are.

use super::by_key::{Each, Emitter, State, Update, by_key};
use super::history::History;
use super::order::Order;
use super::ordered::OrderedList;
use crate::time::Moment;
use crate::{Collection, Epoch};
use differential_dataflow::Data;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::hash::Hash;
use timely::dataflow::channels::pact::ParallelizationContract;

/// What has a time, by which it is ordered first of all.
pub trait At: Ord {
    /// Its time.
    fn at(&self) -> Moment;
}

/// A record of a key. (Steps come first, so that sorted changes are two slices.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Entry<P, S> {
    /// What the state is from a time on.
    Step(S),
    /// A question for the state at a time.
    Point(P),
}

/// The records of a key.
struct Line<P, S> {
    points: History<P>,
    steps: History<S>,
}

impl<P, S> Default for Line<P, S> {
    fn default() -> Self {
        Line { points: History::default(), steps: History::default() }
    }
}

impl<P: 'static, S: 'static> State for Line<P, S> {
    fn is_empty(&self) -> bool {
        State::is_empty(&self.points) && State::is_empty(&self.steps)
    }
}

/// Applies `rule` to every point of the set and the latest step of its key at or before its time.
///
/// The order is that of steps, first of all by time. The rule leaves what follows from the pair; it must leave the same for the same pair.
/// `pact` as in [`by_key`].
pub fn as_of<'s, K, P, S, O, C>(
    entries: Collection<'s, (K, Entry<P, S>)>,
    pact: C,
    name: &str,
    order: impl Order<S>,
    mut rule: impl FnMut(&K, &P, Option<&S>, &mut dyn FnMut(O)) + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    P: Data + At,
    S: Data + At,
    O: Data,
    C: ParallelizationContract<Epoch, Vec<Update<K, Entry<P, S>>>>,
{
    by_key(entries, pact, name, move |key, changes, line: &mut Line<P, S>, emitter: &mut Each<O>| {
        let first_point = changes.partition_point(|(entry, _)| matches!(entry, Entry::Step(_)));
        let points = changes.drain(first_point..).filter_map(|(entry, diff)| Some((entry.point()?, diff)));
        let points = line.points.count(points);
        let steps = line.steps.count_by(&order, changes.drain(..).filter_map(|(entry, diff)| Some((entry.step()?, diff))));
        if !line.points.present().is_empty() {
            let touched = Touched::by(&order, &steps, line.steps.present());
            touched.say(line, &points, |point, step| rule(key, point, step, &mut |output| emitter.give(output, -1)));
            line.points.toggle(&points);
            line.steps.toggle_by(&order, &steps);
            touched.say(line, &points, |point, step| rule(key, point, step, &mut |output| emitter.give(output, 1)));
            return;
        }
        line.points.toggle(&points);
        line.steps.toggle_by(&order, &steps);
        let mut steps = line.steps.present().iter().peekable();
        let mut step = None;
        for point in line.points.present().iter() {
            while let Some(next) = steps.next_if(|next| next.at() <= point.at()) {
                step = Some(next);
            }
            rule(key, point, step, &mut |output| emitter.give(output, 1));
        }
    })
}

impl<P, S> Entry<P, S> {
    fn point(self) -> Option<P> {
        if let Entry::Point(point) = self { Some(point) } else { None }
    }

    fn step(self) -> Option<S> {
        if let Entry::Step(step) = self { Some(step) } else { None }
    }
}

/// The stretches of time, from and until (`None`: for ever), in which steps that come or go may change the state. In order, and
/// none of them empty; within each the state is the same, before the change and after it.
struct Touched(Vec<(Moment, Option<Moment>)>);

impl Touched {
    /// `toggled` come or go among `old` steps.
    fn by<S: At>(order: &impl Order<S>, toggled: &[S], old: &OrderedList<S>) -> Touched {
        let mut stretches = Vec::with_capacity(toggled.len());
        let mut rest = toggled.iter();
        while let Some(step) = rest.next() {
            let next_old = old.get(old.lower_bound(|other| order.compare(other, step).then(Ordering::Less)));
            let next_toggled = rest.as_slice().first();
            let until = next_old.into_iter().chain(next_toggled).map(At::at).min();
            // Of steps at the same time the last one counts.
            if until != Some(step.at()) {
                stretches.push((step.at(), until));
            }
        }
        Touched(stretches)
    }

    fn contains(&self, moment: Moment) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= moment);
        let stretch = after.checked_sub(1).and_then(|place| self.0.get(place));
        stretch.is_some_and(|(_, until)| until.is_none_or(|until| moment < until))
    }

    /// Names the points that are there and touched, by steps or because they are toggled themselves, each once.
    fn say<P: At + Clone, S: At + Clone>(&self, line: &Line<P, S>, toggled: &[P], mut each: impl FnMut(&P, Option<&S>)) {
        let (points, steps) = (line.points.present(), line.steps.present());
        for (from, until) in &self.0 {
            let step = state(steps, *from);
            let first = points.lower_bound(|point| point.at().cmp(from));
            for point in points.from(first).take_while(|point| until.is_none_or(|until| point.at() < until)) {
                each(point, step);
            }
        }
        for point in toggled.iter().filter(|point| !self.contains(point.at())) {
            if points.get(points.place_of(point)) == Some(point) {
                each(point, state(steps, point.at()));
            }
        }
    }
}

/// The latest step at or before a moment.
fn state<S: At>(steps: &OrderedList<S>, moment: Moment) -> Option<&S> {
    steps.item_before(steps.lower_bound(|step| if step.at() <= moment { Ordering::Less } else { Ordering::Greater }))
}

#[cfg(test)]
mod tests {
    use super::super::by_key::exchange;
    use super::super::order::{OrderBy, OwnOrder};
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    /// A time and what it is the time of.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Thing(i64, u8);

    impl At for Thing {
        fn at(&self) -> Moment {
            Moment(self.0)
        }
    }

    type Input = (u8, Entry<Thing, Thing>);
    type Answer = (u8, Thing, Option<Thing>);

    /// For each point a look at all steps. Of those at the same time the one with the greatest rank counts.
    fn naive_by<R: Ord>(rank: impl Fn(&Thing) -> R, inputs: &BTreeMap<Input, isize>) -> BTreeMap<Answer, isize> {
        let there = || inputs.iter().filter(|(_, count)| **count > 0).map(|(input, _)| input);
        let answer = |(key, entry): &Input| {
            let Entry::Point(point) = entry else { return None };
            let steps = there().filter_map(|(other, entry)| match entry {
                Entry::Step(step) if other == key && step.0 <= point.0 => Some(*step),
                _ => None,
            });
            Some(((*key, *point, steps.max_by_key(|step| (step.0, rank(step)))), 1))
        };
        there().filter_map(answer).collect()
    }

    fn naive(inputs: &BTreeMap<Input, isize>) -> BTreeMap<Answer, isize> {
        naive_by(|step| step.1, inputs)
    }

    fn input(times: i64) -> impl Strategy<Value = Input> {
        let thing = (0..times, 0u8..3).prop_map(|(time, name)| Thing(time, name));
        (0u8..3, thing, prop_oneof![2 => Just(true), 1 => Just(false)])
            .prop_map(|(key, thing, point)| (key, if point { Entry::Point(thing) } else { Entry::Step(thing) }))
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn equals_the_naive_computation_at_every_epoch(epochs in updates(input(25), 6, 40), config in Config::any()) {
            check_operator(config, epochs, naive, |entries| {
                as_of(entries, exchange(), "as of", OwnOrder, |key, point, step, give| give((*key, *point, step.copied())))
            });
        }

        /// Of steps at the same time the least counts.
        #[test]
        fn in_another_order(epochs in updates(input(10), 6, 40), config in Config::any()) {
            check_operator(config, epochs, |inputs| naive_by(|step| u8::MAX - step.1, inputs), |entries| {
                let order = OrderBy::new(|left: &Thing, right: &Thing| left.0.cmp(&right.0).then(right.1.cmp(&left.1)));
                as_of(entries, exchange(), "as of", order, |key, point, step, give| give((*key, *point, step.copied())))
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, ..crate::testing::proptests() })]

        /// Keys with enough points for several chunks, and single changes to them.
        #[test]
        fn long_histories(history in prop::collection::vec(input(3_000), 3_500), late in updates(input(3_000), 5, 3)) {
            let mut epochs = vec![history.into_iter().map(|input| (input, 1)).collect::<Vec<_>>()];
            epochs.extend(late);
            check_operator(Config::default(), epochs, naive, |entries| {
                as_of(entries, exchange(), "as of", OwnOrder, |key, point, step, give| give((*key, *point, step.copied())))
            });
        }
    }

    /// The rule is asked about the points between the late step and the next one, and about no other.
    #[test]
    fn a_late_step_asks_about_the_points_up_to_the_next_one() {
        Config::default().execute(|worker| {
            let asked = Rc::new(Cell::new(0));
            let count = Rc::clone(&asked);
            let (mut input, probe) = worker.dataflow::<Epoch, _, _>(|scope| {
                let mut input = differential_dataflow::input::InputSession::<Epoch, (u8, Entry<Thing, Thing>), isize>::new();
                let answers = as_of(input.to_collection(scope), exchange(), "as of", OwnOrder, move |_, point, step, give| {
                    count.set(count.get() + 1);
                    give((*point, step.copied()));
                });
                let (probe, _) = answers.probe();
                (input, probe)
            });
            let mut feed = |entries: Vec<Entry<Thing, Thing>>, epoch| {
                input.advance_to(epoch);
                entries.into_iter().for_each(|entry| input.update((0, entry), 1));
                input.advance_to(epoch + 1);
                input.flush();
                worker.step_or_park_while(None, || probe.less_than(&(epoch + 1)));
                asked.take()
            };
            let points = (0..10_000).map(|time| Entry::Point(Thing(time, 0)));
            assert_eq!(feed(points.chain([Entry::Step(Thing(5_000, 0))]).collect(), 1), 10_000);
            assert_eq!(feed(vec![Entry::Step(Thing(4_990, 0))], 2), 2 * 10, "before and after");
            assert_eq!(feed(vec![Entry::Point(Thing(7_777, 1))], 3), 1);
        });
    }
}
