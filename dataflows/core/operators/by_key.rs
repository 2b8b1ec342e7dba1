//! The frame of the operators here: state by key, changed an epoch at a time.
//!
//! Updates of an epoch wait until it is complete; then they are sorted by key and value, consolidated, and given to the
//! operator's logic key by key, which changes the key's state and says which differences follow. An update
//! is handled once, so its cost is that of the logic: no history is read again.
//!
//! A large epoch (a bulk load) is cut by hash into partitions that are sorted within the cache, and a
//! partition is handled per activation, so that other operators run in between.

use crate::{Collection, Epoch};
use differential_dataflow::{AsCollection, Data};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::Operator;

/// An update of a keyed collection.
pub type Update<K, V> = ((K, V), Epoch, isize);

/// A hash that is the same in all processes. Never stored: it may change with the library.
pub fn hash<K: Hash + ?Sized>(key: &K) -> u64 {
    FixedState::with_seed(0x7265_7461_6c6c_7921).hash_one(key)
}

/// Brings the updates of a key to one worker.
pub fn exchange<K: Hash + 'static, V: 'static>() -> Exchange<Update<K, V>, impl FnMut(&Update<K, V>) -> u64 + 'static>
where
    (K, V): Clone,
{
    Exchange::new(|((key, _), _, _): &Update<K, V>| hash(key))
}

/// The state of a key.
pub trait State: Default + 'static {
    /// Whether it says no more than a key that is not there.
    fn is_empty(&self) -> bool;
}

/// Where the logic of an operator leaves its differences.
pub trait Emitter<O>: Default + 'static {
    /// One more difference.
    fn give(&mut self, data: O, diff: isize);
    /// All differences of a key have been given; `known`: the key had a state before.
    fn end_key(&mut self, known: bool);
    /// The differences that can go now; all that there are, at the end of the epoch.
    fn drain(&mut self, end_of_epoch: bool, send: impl FnMut(O, isize));
}

/// Emits each key's differences by themselves.
pub struct Each<O> {
    done: Vec<(O, isize)>,
    key_start: usize,
}

impl<O> Default for Each<O> {
    fn default() -> Self {
        Each { done: Vec::new(), key_start: 0 }
    }
}

impl<O: Ord + 'static> Emitter<O> for Each<O> {
    fn give(&mut self, data: O, diff: isize) {
        self.done.push((data, diff));
    }

    fn end_key(&mut self, known: bool) {
        // What a key says anew about its neighbours is often what it said before.
        if known && self.done.len() > self.key_start + 1 {
            let mut mine = self.done.split_off(self.key_start);
            differential_dataflow::consolidation::consolidate(&mut mine);
            self.done.append(&mut mine);
        }
        self.key_start = self.done.len();
    }

    fn drain(&mut self, _end_of_epoch: bool, mut send: impl FnMut(O, isize)) {
        self.done.drain(..).for_each(|(data, diff)| send(data, diff));
        self.key_start = 0;
    }
}

/// Sums up differences over all keys of an epoch: for operators that say little about much.
pub struct Summed<O> {
    sums: HashMap<O, isize, FixedState>,
}

impl<O> Default for Summed<O> {
    fn default() -> Self {
        Summed { sums: HashMap::default() }
    }
}

impl<O: Hash + Eq + 'static> Emitter<O> for Summed<O> {
    fn give(&mut self, data: O, diff: isize) {
        *self.sums.entry(data).or_default() += diff;
    }

    fn end_key(&mut self, _known: bool) {}

    fn drain(&mut self, end_of_epoch: bool, mut send: impl FnMut(O, isize)) {
        if end_of_epoch {
            self.sums.drain().filter(|(_, diff)| *diff != 0).for_each(|(data, diff)| send(data, diff));
        }
    }
}

/// An operator with state by key.
///
/// `logic` gets the key, its changes (sorted, consolidated, none of them 0), its state, and where to leave what follows.
/// `pact` must bring the updates of a key to one worker: [`exchange`], or `Pipeline` where they are already there.
pub fn by_key<'s, K, V, S, O, E, P>(
    updates: Collection<'s, (K, V)>,
    pact: P,
    name: &str,
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
        move |(input, frontier), output| {
            input.for_each(|capability, data| epochs.stash(data.drain(..), |epoch| capability.delayed(epoch, 0)));
            if let Some((capability, partition, last)) = epochs.next(|epoch| !frontier.frontier().less_equal(epoch)) {
                for_each_key(partition, |key, changes| {
                    change_state(&mut states, key, changes, &mut emitter, |key, changes, state, emitter| logic(key, changes, state, emitter));
                });
                send(&mut emitter, last, &capability, output);
                if !epochs.is_empty() {
                    activator.activate();
                }
            }
        }
    });
    stream.as_collection()
}

/// What an operator with a horizon is told.
///
/// A horizon is a value that all workers see, such as the as-of time. It changes seldom, and then for all keys.
pub trait WithHorizon<K, V, S, O>: 'static {
    /// The horizon's type.
    type Horizon: Data;

    /// The changes of a key's records, under the horizon of the epoch.
    fn apply(&mut self, key: &K, changes: &mut Vec<(V, isize)>, state: &mut S, horizon: Option<&Self::Horizon>, emitter: &mut impl Emitter<O>);

    /// The horizon moved; called before the epoch's changes, for each key that has a state.
    fn moved(&mut self, key: &K, state: &mut S, from: Option<&Self::Horizon>, to: Option<&Self::Horizon>, emitter: &mut impl Emitter<O>);
}

/// As [`by_key`], with a horizon: a collection of at most one record, which is told to all workers.
pub fn by_key_with_horizon<'s, K, V, S, O, E, P, L>(
    updates: Collection<'s, (K, V)>,
    horizon: Collection<'s, L::Horizon>,
    pact: P,
    name: &str,
    mut logic: L,
) -> Collection<'s, O>
where
    K: Data + Hash,
    V: Data,
    S: State,
    O: Data,
    E: Emitter<O>,
    P: ParallelizationContract<Epoch, Vec<Update<K, V>>>,
    L: WithHorizon<K, V, S, O>,
{
    let scope = updates.scope();
    let stream = updates.inner.binary_frontier(horizon.inner, pact, Pipeline, name, |_, info| {
        let activator = scope.activator_for(info.address);
        let mut epochs = Epochs::default();
        // The horizon's changes ride in a stash of their own, as updates of the key ().
        let mut horizons: BTreeMap<Epoch, (Capability<Epoch>, Vec<(L::Horizon, isize)>)> = BTreeMap::new();
        let mut horizon: Option<L::Horizon> = None;
        let mut states: HashMap<K, S, FixedState> = HashMap::default();
        let mut emitter = E::default();
        move |(input, frontier), (horizon_input, horizon_frontier), output| {
            input.for_each(|capability, data| epochs.stash(data.drain(..), |epoch| capability.delayed(epoch, 0)));
            horizon_input.for_each(|capability, data| {
                for (value, epoch, diff) in data.drain(..) {
                    horizons.entry(epoch).or_insert_with(|| (capability.delayed(&epoch, 0), Vec::new())).1.push((value, diff));
                }
            });
            let complete = |epoch: &Epoch| !frontier.frontier().less_equal(epoch) && !horizon_frontier.frontier().less_equal(epoch);
            // Epochs in order, and in each the horizon first, unless the epoch is under way already.
            while let Some(entry) = horizons.first_entry() {
                if !complete(entry.key()) || epochs.first().is_some_and(|epoch| epoch < *entry.key()) {
                    break;
                }
                let (capability, mut changes) = entry.remove();
                differential_dataflow::consolidation::consolidate(&mut changes);
                let to = changes.iter().find(|(_, diff)| *diff > 0).map(|(value, _)| value.clone());
                if changes.is_empty() {
                    continue;
                }
                for (key, state) in &mut states {
                    logic.moved(key, state, horizon.as_ref(), to.as_ref(), &mut emitter);
                    emitter.end_key(true);
                }
                states.retain(|_, state| !state.is_empty());
                horizon = to;
                send(&mut emitter, true, &capability, output);
            }
            if let Some((capability, partition, last)) = epochs.next(complete) {
                for_each_key(partition, |key, changes| {
                    change_state(&mut states, key, changes, &mut emitter, |key, changes, state, emitter| {
                        logic.apply(key, changes, state, horizon.as_ref(), emitter);
                    });
                });
                send(&mut emitter, last, &capability, output);
                if !epochs.is_empty() || !horizons.is_empty() {
                    activator.activate();
                }
            }
        }
    });
    stream.as_collection()
}

/// Sends what an emitter lets go.
fn send<O: Data>(
    emitter: &mut impl Emitter<O>,
    end_of_epoch: bool,
    capability: &Capability<Epoch>,
    output: &mut OutputBuilderSession<'_, Epoch, CapacityContainerBuilder<Vec<(O, Epoch, isize)>>>,
) {
    let mut session = output.session(capability);
    emitter.drain(end_of_epoch, |data, diff| session.give((data, *capability.time(), diff)));
}

/// Finds a key's state, has it changed, and forgets it when nothing is left.
fn change_state<K: Hash + Eq, V, S: State, O, E: Emitter<O>>(
    states: &mut HashMap<K, S, FixedState>,
    key: K,
    changes: &mut Vec<(V, isize)>,
    emitter: &mut E,
    logic: impl FnOnce(&K, &mut Vec<(V, isize)>, &mut S, &mut E),
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

/// Sorts and consolidates a partition, and gives it out key by key.
fn for_each_key<K: Ord, V: Ord>(mut partition: Vec<(K, V, isize)>, mut each: impl FnMut(K, &mut Vec<(V, isize)>)) {
    partition.sort_unstable();
    let mut changes: Vec<(V, isize)> = Vec::new();
    let mut updates = partition.into_iter().peekable();
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
            each(key, &mut changes);
            changes.clear();
        }
    }
}

/// Above this many updates an epoch is cut into partitions.
const FLAT_MAX: usize = 1 << 15;
/// The number of partitions; ten million updates make some of 40,000, which are sorted within the cache.
const PARTITIONS: usize = 256;
/// Partitions grow by pieces of this many updates, so that growing copies nothing.
const PIECE: usize = 1 << 10;

type Piece<K, V> = Vec<(K, V, isize)>;

/// The updates of an epoch that is not complete.
struct Stash<K, V> {
    flat: Piece<K, V>,
    partitions: Vec<Vec<Piece<K, V>>>,
}

impl<K: Hash, V> Stash<K, V> {
    fn push(&mut self, update: (K, V, isize)) {
        self.flat.push(update);
        if self.flat.len() >= FLAT_MAX {
            self.distribute();
        }
    }

    fn distribute(&mut self) {
        self.partitions.resize_with(PARTITIONS, Vec::new);
        for update in self.flat.drain(..) {
            // The exchange between workers went by the low bits.
            let partition = (hash(&update.0) >> 56) as usize % PARTITIONS;
            let Some(pieces) = self.partitions.get_mut(partition) else { continue };
            match pieces.last_mut() {
                Some(piece) if piece.len() < PIECE => piece.push(update),
                _ => {
                    let mut piece = Vec::with_capacity(PIECE);
                    piece.push(update);
                    pieces.push(piece);
                }
            }
        }
    }

    /// The partitions, in the order to take them in from the end.
    fn seal(mut self) -> Vec<Vec<Piece<K, V>>> {
        if self.partitions.is_empty() {
            return vec![vec![self.flat]];
        }
        self.distribute();
        self.partitions.retain(|pieces| !pieces.is_empty());
        self.partitions
    }
}

/// The epochs under way: those that wait to be complete, and the one that is being handled.
struct Epochs<K, V> {
    waiting: BTreeMap<Epoch, (Capability<Epoch>, Stash<K, V>)>,
    working: Option<(Capability<Epoch>, Vec<Vec<Piece<K, V>>>)>,
}

impl<K, V> Default for Epochs<K, V> {
    fn default() -> Self {
        Epochs { waiting: BTreeMap::new(), working: None }
    }
}

impl<K: Hash, V> Epochs<K, V> {
    fn stash(&mut self, updates: impl Iterator<Item = Update<K, V>>, delayed: impl Fn(&Epoch) -> Capability<Epoch>) {
        let mut updates = updates.peekable();
        while let Some(((key, value), epoch, diff)) = updates.next() {
            let empty = || (delayed(&epoch), Stash { flat: Vec::new(), partitions: Vec::new() });
            let (_, stash) = self.waiting.entry(epoch).or_insert_with(empty);
            stash.push((key, value, diff));
            while let Some(((key, value), _, diff)) = updates.next_if(|(_, next, _)| *next == epoch) {
                stash.push((key, value, diff));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.working.is_none() && self.waiting.is_empty()
    }

    /// The earliest epoch with updates.
    fn first(&self) -> Option<Epoch> {
        let working = self.working.as_ref().map(|(capability, _)| *capability.time());
        working.or_else(|| self.waiting.keys().next().copied())
    }

    /// The next partition to handle, and whether it is the last one of its epoch.
    fn next(&mut self, complete: impl Fn(&Epoch) -> bool) -> Option<(Capability<Epoch>, Piece<K, V>, bool)> {
        if self.working.is_none() {
            let entry = self.waiting.first_entry()?;
            if !complete(entry.key()) {
                return None;
            }
            let (capability, stash) = entry.remove();
            self.working = Some((capability, stash.seal()));
        }
        let (capability, partitions) = self.working.as_mut()?;
        let pieces = partitions.pop().unwrap_or_default();
        let capability = capability.clone();
        let last = partitions.is_empty();
        if last {
            self.working = None;
        }
        let mut pieces = pieces.into_iter();
        let mut partition = pieces.next().unwrap_or_default();
        partition.reserve_exact(pieces.as_slice().iter().map(Vec::len).sum());
        pieces.for_each(|mut piece| partition.append(&mut piece));
        Some((capability, partition, last))
    }
}
