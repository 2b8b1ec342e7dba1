//! The frame of the operators here: state by key, changed an epoch at a time.
//!
//! Updates of an epoch wait until it is complete; then they are sorted by key and value, consolidated, and given to the
//! operator's logic key by key, which changes the key's state and returns which differences follow. An update
//! is handled once, so its cost is that of the logic: no history is read again.
//!
//! A large epoch (a bulk load) is cut by hash into partitions, and those once more into parts that are sorted within the cache. An
//! activation ends after some milliseconds, between two keys, so that other operators run in between, and other dataflows.
//!
//! # Limits
//! A key is handled at once, however much it takes; and so are all keys when a horizon moves. A partition is taken up at once, before the
//! first key: of 10 million updates that is 160,000. Where cheap keys and expensive ones are mixed, an activation may end some tens of keys
//! late.

mod emitter;
mod pause;
mod sorting;
mod stash;
mod timing;
mod with_horizon;

pub use emitter::{DaySums, Each, Emitter, Summed};
pub use timing::Timing;
pub use with_horizon::{WithHorizon, by_key_with_horizon};

use crate::hash::hash;
use crate::{Collection, Epoch};
use differential_dataflow::{AsCollection, Data};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pause::{ACTIVATION_MAX, Pause};
use sorting::Sorting;
use stash::Epochs;
use std::hash::Hash;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// An update of a keyed collection.
pub type Update<K, V> = ((K, V), Epoch, isize);

/// Brings the updates of a key to one worker.
pub fn exchange<K: Hash + 'static, V: 'static>() -> Exchange<Update<K, V>, impl FnMut(&Update<K, V>) -> u64 + 'static>
where
    (K, V): Clone,
{
    Exchange::new(|((key, _), _, _): &Update<K, V>| hash(key))
}

/// The state of a key.
pub trait State: Default + 'static {
    /// Whether it holds no more than a key that is not there.
    fn is_empty(&self) -> bool;
}

/// An operator with state by key, at each epoch's completion.
pub fn by_key<'s, K, V, S, O, E, P>(
    updates: Collection<'s, (K, V)>,
    pact: P,
    name: &str,
    logic: impl FnMut(&K, &mut Vec<(V, isize)>, &mut S, &mut E) + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    V: Data,
    S: State,
    O: Data,
    E: Emitter<O>,
    P: ParallelizationContract<Epoch, Vec<Update<K, V>>>,
{
    by_key_timed(updates, pact, name, Timing::Complete, logic)
}

/// An operator with state by key.
///
/// `logic` gets the key, its changes (sorted, consolidated, none of them 0), its state, and where to leave what follows.
/// `pact` must bring the updates of a key to one worker: [`exchange`], or `Pipeline` where they are already there.
pub fn by_key_timed<'s, K, V, S, O, E, P>(
    updates: Collection<'s, (K, V)>,
    pact: P,
    name: &str,
    timing: Timing,
    mut logic: impl FnMut(&K, &mut Vec<(V, isize)>, &mut S, &mut E) + 'static,
) -> Collection<'s, O>
where
    K: Data + Hash,
    V: Data,
    S: State,
    O: Data,
    E: Emitter<O>,
    P: ParallelizationContract<Epoch, Vec<Update<K, V>>>,
{
    let scope = updates.scope();
    let stream = updates.inner.unary_frontier(pact, name, |_, info| {
        let activator = scope.activator_for(info.address);
        let mut epochs = Epochs::default();
        let mut states: HashMap<K, S, FixedState> = HashMap::default();
        let mut emitter = E::default();
        let mut handling = Handling::default();
        move |(input, frontier), output| {
            input.for_each(|capability, data| epochs.stash(data.drain(..), |epoch| capability.delayed(epoch, 0)));
            let complete = |epoch: &Epoch| !frontier.frontier().less_equal(epoch);
            let early = |epoch: &Epoch| !frontier.frontier().less_than(epoch);
            let enough = timing.enough();
            // What is handled early comes in small parts, and would wait in memory.
            let mut pause = Pause::after(if enough.is_some() { 8 * ACTIVATION_MAX } else { ACTIVATION_MAX });
            let mut more = true;
            // Epochs that are complete go together, as of the first of them.
            let Some(first) = handling.capability().or(epochs.first_capability()).cloned() else { return };
            let mut session = output.session(&first);
            let mut output = |update| session.give(update);
            while more && (handling.is_under_way() || handling.begin(epochs.next(complete, early, enough), timing)) {
                let mut each = |key, changes: &mut Vec<_>| change_state(&mut states, key, changes, &mut emitter, &mut logic);
                more = handling.go_on(&mut pause, &mut each);
                handling.send(more, &mut emitter, &mut output);
            }
            let owed = if handling.is_under_way() { None } else { epochs.owed(complete) };
            if let Some(capability) = &owed {
                send(&mut emitter, true, *capability.time(), &mut output);
            }
            // What was done may have been all that the next epoch waited for.
            if !more || (owed.is_some() && !epochs.is_empty()) {
                activator.activate();
            }
        }
    });
    stream.as_collection()
}

/// The partition that is being handled, perhaps over several activations.
struct Handling<K, V> {
    sorting: Sorting<K, V>,
    /// Its capability, and whether it is the last of its epoch; nothing when it is done.
    partition: Option<(Capability<Epoch>, bool)>,
}

impl<K, V> Default for Handling<K, V> {
    fn default() -> Self {
        Handling { sorting: Sorting::default(), partition: None }
    }
}

impl<K: Ord + Hash, V: Ord> Handling<K, V> {
    /// Whether a partition is not done.
    fn is_under_way(&self) -> bool {
        self.partition.is_some()
    }

    /// The capability of the partition.
    fn capability(&self) -> Option<&Capability<Epoch>> {
        self.partition.as_ref().map(|(capability, _)| capability)
    }

    /// Takes up a partition. Returns whether there is one.
    fn begin(&mut self, next: Option<(Capability<Epoch>, stash::Updates<K, V>, bool)>, timing: Timing) -> bool {
        let Some((capability, updates, last)) = next else { return false };
        match timing {
            Timing::AsTheyCome => self.sorting.begin_runs(updates),
            Timing::Complete | Timing::Early(_) => self.sorting.begin(updates),
        }
        self.partition = Some((capability, last));
        true
    }

    /// Gives out keys until all are done or it is time for a pause. Returns whether all are done.
    fn go_on(&mut self, pause: &mut Pause, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) -> bool {
        while let Some((key, changes)) = self.sorting.next_key() {
            each(key, changes);
            if pause.is_due() {
                return false;
            }
        }
        true
    }

    /// Sends what the emitter lets go after some keys: all that there is, when the partition is done and was the last of its epoch.
    fn send<O: Data>(&mut self, done: bool, emitter: &mut impl Emitter<O>, output: &mut impl FnMut((O, Epoch, isize))) {
        let Some((capability, last)) = &self.partition else { return };
        send(emitter, done && *last, *capability.time(), output);
        if done {
            self.partition = None;
        }
    }
}

/// Sends what an emitter lets go.
fn send<O: Data>(emitter: &mut impl Emitter<O>, end_of_epoch: bool, epoch: Epoch, output: &mut impl FnMut((O, Epoch, isize))) {
    emitter.drain(end_of_epoch, |data, diff| output((data, epoch, diff)));
}

/// Finds a key's state, has it changed, and forgets it when nothing is left.
fn change_state<K: Hash + Eq, V, S: State, O, E: Emitter<O>>(
    states: &mut HashMap<K, S, FixedState>,
    key: K,
    changes: &mut Vec<(V, isize)>,
    emitter: &mut E,
    logic: &mut impl FnMut(&K, &mut Vec<(V, isize)>, &mut S, &mut E),
) {
    if let Some(state) = states.get_mut(&key) {
        logic(&key, changes, state, emitter);
        emitter.end_key(true);
        if state.is_empty() {
            states.remove(&key);
        }
    } else {
        let mut state = S::default();
        logic(&key, changes, &mut state, emitter);
        emitter.end_key(false);
        if !state.is_empty() {
            states.insert(key, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::vec::Input;
    use timely::dataflow::operators::{Inspect, Probe};

    #[derive(Default)]
    struct Sum(isize);

    impl State for Sum {
        fn is_empty(&self) -> bool {
            self.0 == 0
        }
    }

    /// Two epochs are complete at once: the second has only the first one's end to wait for, and no message comes to wake it. The first may
    /// have been begun early, with or without more to come.
    #[test]
    fn epochs_that_are_complete_together_are_all_handled() {
        for (timing, more) in [Timing::Complete, Timing::AsTheyCome, Timing::Early(1), Timing::Early(3)]
            .into_iter()
            .flat_map(|timing| [(timing, 0), (timing, 1)])
        {
            let sums = timely::execute_directly(move |worker| {
                let told = Rc::new(RefCell::new(Vec::new()));
                let (mut input, probe) = worker.dataflow::<Epoch, _, _>(|scope| {
                    let (input, stream) = scope.new_input::<Update<u64, u64>>();
                    let sums = by_key_timed(
                        stream.as_collection(),
                        Pipeline,
                        "sum",
                        timing,
                        |key: &u64, changes, sum: &mut Sum, emitter: &mut Each<_>| {
                            let before = sum.0;
                            sum.0 += changes.drain(..).map(|(_, diff)| diff).sum::<isize>();
                            emitter.give((*key, before), -1);
                            emitter.give((*key, sum.0), 1);
                        },
                    );
                    let heard = Rc::clone(&told);
                    let (probe, _) = sums.inner.inspect(move |update| heard.borrow_mut().push(*update)).probe();
                    (input, probe)
                });
                input.advance_to(1);
                input.send(((7, 0), 1, 1));
                input.flush();
                (0..10).for_each(|_| {
                    worker.step();
                });
                (0..more).for_each(|_| input.send(((7, 1), 1, 1)));
                input.advance_to(2);
                (0..2).for_each(|value| input.send(((7, value), 2, 1)));
                input.advance_to(3);
                input.flush();
                let steps = (0..1_000).take_while(|_| probe.less_than(&3)).map(|_| worker.step()).count();
                assert!(steps < 1_000, "epochs are not over after {steps} steps, {timing:?}, {more} more");
                differential_dataflow::consolidation::consolidate_updates(&mut told.borrow_mut());
                told.take()
            });
            let (first, second) = (1 + more, 3 + more);
            assert_eq!(sums, [((7, 0), 1, -1), ((7, first), 1, 1), ((7, first), 2, -1), ((7, second), 2, 1)], "{timing:?}, {more} more");
        }
    }

    /// A dataflow with much to do in an epoch, and another one on the same worker with little. (Here an activation ends after each key.)
    #[test]
    fn a_long_epoch_holds_up_no_other_dataflow() {
        const KEYS: u64 = 1_000;
        timely::execute_directly(move |worker| {
            let build = |worker: &mut timely::worker::Worker| {
                worker.dataflow::<Epoch, _, _>(|scope| {
                    let (input, stream) = scope.new_input::<Update<u64, u64>>();
                    let logic = |key: &u64, changes: &mut Vec<(u64, isize)>, sum: &mut Sum, emitter: &mut Each<u64>| {
                        sum.0 += changes.drain(..).map(|(_, diff)| diff).sum::<isize>();
                        emitter.give(*key, 1);
                    };
                    let (probe, _) = by_key(stream.as_collection(), Pipeline, "sum", logic).inner.probe();
                    (input, probe)
                })
            };
            let ((mut long, long_probe), (mut short, short_probe)) = (build(worker), build(worker));
            (0..KEYS).for_each(|key| long.send(((key, 0), 0, 1)));
            short.send(((0, 0), 0, 1));
            long.advance_to(1);
            short.advance_to(1);
            let steps = (0..KEYS).take_while(|_| short_probe.less_than(&1)).map(|_| worker.step()).count();
            assert!(steps < 20, "the short epoch took {steps} steps");
            assert!(long_probe.less_than(&1), "the long one took no longer");
            let steps = (0..2 * KEYS).take_while(|_| long_probe.less_than(&1)).map(|_| worker.step()).count();
            assert!(!long_probe.less_than(&1), "the long epoch is not over after {steps} steps");
        });
    }
}
