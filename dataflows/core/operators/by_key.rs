//! The frame of the operators here: state by key, changed an epoch at a time.
//!
//! Updates of an epoch wait until it is complete; then they are sorted by key and value, consolidated, and given to the
//! operator's logic key by key, which changes the key's state and says which differences follow. An update
//! is handled once, so its cost is that of the logic: no history is read again.
//!
//! A large epoch (a bulk load) is cut by hash into partitions, and those once more into parts that are sorted within the cache. A
//! partition is handled per activation, so that other operators run in between.

use crate::calendar::Day;
use crate::{Collection, Epoch};
use differential_dataflow::{AsCollection, Data};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::generic::OutputBuilderSession;

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

/// When an operator handles the updates of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// When the epoch is complete: each key's changes at once.
    Complete,
    /// As soon as no earlier epoch can change and this many updates are there; the rest when the epoch is complete. For logic that says
    /// the difference between two states whatever lies between them: what is said too early is taken back within the epoch. It
    /// saves the memory of waiting, and costs what is said in vain.
    Early(usize),
    /// As [`Early`](Timing::Early), from the first update on; and where a key's updates come together as it is, as from an operator by the
    /// same key, they are not brought together once more.
    AsTheyCome,
}

impl Timing {
    /// How many updates are enough to begin early.
    fn enough(self) -> Option<usize> {
        match self {
            Timing::Complete => None,
            Timing::Early(enough) => Some(enough),
            Timing::AsTheyCome => Some(1),
        }
    }
}

/// Sums up differences of (thing, day) over all keys of an epoch: as [`Summed`], where things are few and days lie together.
pub struct DaySums<O> {
    things: Vec<(O, Days)>,
}

/// Sums by day.
struct Days {
    first: i32,
    sums: Vec<isize>,
}

impl Days {
    fn add(&mut self, day: i32, diff: isize) {
        if self.sums.is_empty() {
            self.first = day;
        }
        if day < self.first {
            // Room for the same number of days again, so that days going backwards are not moved one by one.
            let room = (self.first - day).max(i32::try_from(self.sums.len()).unwrap_or(i32::MAX));
            self.sums.splice(0..0, std::iter::repeat_n(0, room.unsigned_abs() as usize));
            self.first -= room;
        }
        let place = (day - self.first).unsigned_abs() as usize;
        if place >= self.sums.len() {
            self.sums.resize(place + 1, 0);
        }
        if let Some(sum) = self.sums.get_mut(place) {
            *sum += diff;
        }
    }
}

impl<O> Default for DaySums<O> {
    fn default() -> Self {
        DaySums { things: Vec::new() }
    }
}

impl<O: Eq> DaySums<O> {
    /// Both ends of a range.
    pub fn give_range(&mut self, thing: O, from: Day, until: Option<Day>, diff: isize) {
        let Some((_, days)) = self.of(thing) else { return };
        days.add(from.0, diff);
        if let Some(until) = until {
            days.add(until.0, -diff);
        }
    }

    fn of(&mut self, thing: O) -> Option<&mut (O, Days)> {
        let place = self.things.iter().position(|(other, _)| *other == thing).unwrap_or_else(|| {
            self.things.push((thing, Days { first: 0, sums: Vec::new() }));
            self.things.len() - 1
        });
        self.things.get_mut(place)
    }
}

impl<O: Eq + Clone + 'static> Emitter<(O, Day)> for DaySums<O> {
    fn give(&mut self, (thing, day): (O, Day), diff: isize) {
        if let Some((_, days)) = self.of(thing) {
            days.add(day.0, diff);
        }
    }

    fn end_key(&mut self, _known: bool) {}

    fn drain(&mut self, end_of_epoch: bool, mut send: impl FnMut((O, Day), isize)) {
        if !end_of_epoch {
            return;
        }
        for (thing, days) in self.things.drain(..) {
            for (day, sum) in (days.first..).zip(days.sums) {
                if sum != 0 {
                    send((thing.clone(), Day(day)), sum);
                }
            }
        }
    }
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
        let mut scratch = Scratch::default();
        move |(input, frontier), output| {
            input.for_each(|capability, data| epochs.stash(data.drain(..), |epoch| capability.delayed(epoch, 0)));
            let complete = |epoch: &Epoch| !frontier.frontier().less_equal(epoch);
            let early = |epoch: &Epoch| !frontier.frontier().less_than(epoch);
            let enough = timing.enough();
            let (mut handled, most) = (0, if enough.is_some() { 8 * HANDLED_MAX } else { HANDLED_MAX });
            while handled < most {
                let Some((capability, partition, last)) = epochs.next(complete, early, enough) else { break };
                handled += partition.len();
                let mut each = |key, changes: &mut Vec<_>| change_state(&mut states, key, changes, &mut emitter, &mut logic);
                match timing {
                    Timing::AsTheyCome => scratch.for_each_run(partition, &mut each),
                    Timing::Complete | Timing::Early(_) => scratch.for_each_key(partition, &mut each),
                }
                send(&mut emitter, last, &capability, output);
            }
            let owed = epochs.owed(complete);
            if let Some(capability) = &owed {
                send(&mut emitter, true, capability, output);
            }
            // What was done may have been all that the next epoch waited for.
            if (handled > 0 || owed.is_some()) && !epochs.is_empty() {
                activator.activate();
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
    fn apply(
        &mut self,
        key: &K,
        changes: &mut Vec<(V, isize)>,
        state: &mut S,
        horizon: Option<&Self::Horizon>,
        emitter: &mut impl Emitter<O>,
    );

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
        // The horizon's changes wait beside those of the records.
        let mut horizons: BTreeMap<Epoch, (Capability<Epoch>, Vec<(L::Horizon, isize)>)> = BTreeMap::new();
        let mut horizon: Option<L::Horizon> = None;
        let mut states: HashMap<K, S, FixedState> = HashMap::default();
        let mut emitter = E::default();
        let mut scratch = Scratch::default();
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
            if let Some((capability, partition, last)) = epochs.next(complete, |_| false, None) {
                scratch.for_each_key(partition, &mut |key, changes: &mut Vec<_>| {
                    change_state(&mut states, key, changes, &mut emitter, &mut |key, changes, state, emitter| {
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

/// Space for sorting partitions, used again and again.
struct Scratch<K, V> {
    buckets: Vec<Piece<K, V>>,
    changes: Vec<(V, isize)>,
}

impl<K, V> Default for Scratch<K, V> {
    fn default() -> Self {
        Scratch { buckets: Vec::new(), changes: Vec::new() }
    }
}

/// A partition with more updates than this is cut by hash once more before it is sorted, to about a key a bucket.
const SORTED_MAX: usize = 1 << 12;
const BUCKETS: usize = 256;
/// Runs of this many updates of a key, on average, are handled as they are.
const RUN_MIN: usize = 4;

impl<K: Ord + Hash, V: Ord> Scratch<K, V> {
    /// Sorts and consolidates a partition, and gives it out key by key.
    fn for_each_key(&mut self, mut partition: Piece<K, V>, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) {
        if partition.len() <= SORTED_MAX {
            partition.sort_unstable();
            return self.each_of_sorted(&mut partition, each);
        }
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.resize_with(BUCKETS, Vec::new);
        for update in partition {
            // The highest bits chose the partition.
            let bucket = (hash(&update.0) >> 40) as usize % BUCKETS;
            if let Some(bucket) = buckets.get_mut(bucket) {
                bucket.push(update);
            }
        }
        for bucket in &mut buckets {
            bucket.sort_unstable();
            self.each_of_sorted(bucket, each);
        }
        self.buckets = buckets;
    }

    /// As [`Self::for_each_key`], a key's changes perhaps in several parts.
    fn for_each_run(&mut self, mut partition: Piece<K, V>, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) {
        let runs = partition.chunk_by(|(key, _, _), (next, _, _)| key == next).count();
        if runs * RUN_MIN > partition.len() {
            return self.for_each_key(partition, each);
        }
        for run in partition.chunk_by_mut(|(key, _, _), (next, _, _)| key == next) {
            run.sort_unstable_by(|(_, value, _), (_, other, _)| value.cmp(other));
        }
        self.each_of_sorted(&mut partition, each);
    }

    fn each_of_sorted(&mut self, updates: &mut Piece<K, V>, each: &mut impl FnMut(K, &mut Vec<(V, isize)>)) {
        let changes = &mut self.changes;
        let mut updates = updates.drain(..).peekable();
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
                each(key, changes);
                changes.clear();
            }
        }
    }
}

/// An activation ends after about this many updates, some milliseconds' worth, and lets other operators run.
const HANDLED_MAX: usize = 1 << 15;
/// Above this many updates an epoch is cut into partitions.
const FLAT_MAX: usize = 1 << 15;
/// The number of partitions: so few that the places to write to stay in the cache of addresses (256 cost 6 % of a load), so many that ten million
/// updates make some of 160,000.
const PARTITIONS: usize = 64;
/// Partitions grow by pieces of this many updates, so that growing copies nothing.
const PIECE: usize = 1 << 10;

type Piece<K, V> = Vec<(K, V, isize)>;

/// A list that is copied nowhere as it grows.
struct Pieces<D> {
    filling: Vec<D>,
    full: Vec<Vec<D>>,
}

impl<D> Default for Pieces<D> {
    fn default() -> Self {
        Pieces { filling: Vec::new(), full: Vec::new() }
    }
}

impl<D> Pieces<D> {
    fn push(&mut self, data: D) {
        if self.filling.len() == self.filling.capacity() {
            let full = std::mem::replace(&mut self.filling, Vec::with_capacity(PIECE));
            self.full.push(full);
        }
        self.filling.push(data);
    }

    fn len(&self) -> usize {
        self.full.iter().map(Vec::len).sum::<usize>() + self.filling.len()
    }

    fn into_iter(self) -> impl Iterator<Item = D> {
        self.full.into_iter().chain([self.filling]).flatten()
    }
}

/// A part of an epoch's updates: those that add one record, and the others.
struct Partition<K, V> {
    added: Pieces<(K, V)>,
    others: Pieces<(K, V, isize)>,
}

impl<K, V> Default for Partition<K, V> {
    fn default() -> Self {
        Partition { added: Pieces::default(), others: Pieces::default() }
    }
}

impl<K, V> Partition<K, V> {
    fn push(&mut self, (key, value, diff): (K, V, isize)) {
        if diff == 1 { self.added.push((key, value)) } else { self.others.push((key, value, diff)) }
    }

    fn gathered(self) -> Piece<K, V> {
        let mut gathered = Vec::with_capacity(self.added.len() + self.others.len());
        self.added.into_iter().for_each(|(key, value)| gathered.push((key, value, 1)));
        self.others.into_iter().for_each(|update| gathered.push(update));
        gathered
    }
}

/// The updates of an epoch that is not complete: few of them as they came, many by partition.
struct Stash<K, V> {
    flat: Piece<K, V>,
    partitions: Vec<Partition<K, V>>,
    length: usize,
}

impl<K, V> Default for Stash<K, V> {
    fn default() -> Self {
        Stash { flat: Vec::new(), partitions: Vec::new(), length: 0 }
    }
}

impl<K: Hash, V> Stash<K, V> {
    fn push(&mut self, update: (K, V, isize)) {
        self.length += 1;
        if !self.partitions.is_empty() {
            return self.distribute(update);
        }
        self.flat.push(update);
        if self.flat.len() >= FLAT_MAX {
            self.partitions.resize_with(PARTITIONS, Partition::default);
            std::mem::take(&mut self.flat).into_iter().for_each(|update| self.distribute(update));
        }
    }

    fn distribute(&mut self, update: (K, V, isize)) {
        // The exchange between workers went by the low bits.
        let partition = (hash(&update.0) >> 56) as usize % PARTITIONS;
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.push(update);
        }
    }

    /// The partitions, in the order to take them in from the end.
    fn seal(self) -> Vec<Partition<K, V>> {
        match self.partitions.is_empty() {
            true => vec![Partition { added: Pieces::default(), others: Pieces { filling: self.flat, full: Vec::new() } }],
            false => self.partitions,
        }
    }
}

/// The epochs under way: those that wait to be complete, and the one that is being handled.
struct Epochs<K, V> {
    waiting: BTreeMap<Epoch, (Capability<Epoch>, Stash<K, V>)>,
    working: Option<Working<K, V>>,
    /// An epoch that was begun early, and to which an end is owed.
    begun: Option<Capability<Epoch>>,
}

struct Working<K, V> {
    capability: Capability<Epoch>,
    partitions: Vec<Partition<K, V>>,
    /// Whether nothing more of the epoch can come.
    complete: bool,
}

impl<K, V> Default for Epochs<K, V> {
    fn default() -> Self {
        Epochs { waiting: BTreeMap::new(), working: None, begun: None }
    }
}

impl<K: Hash, V> Epochs<K, V> {
    fn stash(&mut self, updates: impl Iterator<Item = Update<K, V>>, delayed: impl Fn(&Epoch) -> Capability<Epoch>) {
        let mut updates = updates.peekable();
        while let Some(((key, value), epoch, diff)) = updates.next() {
            let (_, stash) = self.waiting.entry(epoch).or_insert_with(|| (delayed(&epoch), Stash::default()));
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
        let working = self.working.as_ref().map(|working| *working.capability.time());
        working.or_else(|| self.waiting.keys().next().copied())
    }

    /// The next partition to handle, and whether it is the epoch's last one.
    ///
    /// An epoch is taken up when it is `complete`; or, with `enough` updates, when it is `current`: nothing earlier can come.
    fn next(
        &mut self,
        complete: impl Fn(&Epoch) -> bool,
        current: impl Fn(&Epoch) -> bool,
        enough: Option<usize>,
    ) -> Option<(Capability<Epoch>, Piece<K, V>, bool)> {
        if self.working.is_none() {
            let entry = self.waiting.first_entry()?;
            // The end of an epoch that was begun early comes before the next one.
            if self.begun.as_ref().is_some_and(|begun| begun.time() < entry.key()) {
                return None;
            }
            let complete = complete(entry.key());
            let early = || enough.is_some_and(|enough| entry.get().1.length >= enough) && current(entry.key());
            if !complete && !early() {
                return None;
            }
            let (capability, stash) = entry.remove();
            self.begun = (!complete).then(|| capability.clone());
            self.working = Some(Working { capability, partitions: stash.seal(), complete });
        }
        let working = self.working.as_mut()?;
        let partition = working.partitions.pop().map(Partition::gathered).unwrap_or_default();
        let capability = working.capability.clone();
        let last = working.partitions.is_empty() && working.complete;
        if working.partitions.is_empty() {
            self.working = None;
        }
        Some((capability, partition, last))
    }

    /// The capability of an epoch that was begun early, is complete, and has nothing left to handle.
    fn owed(&mut self, complete: impl Fn(&Epoch) -> bool) -> Option<Capability<Epoch>> {
        self.begun.take_if(|begun| complete(begun.time()) && self.working.is_none() && !self.waiting.contains_key(begun.time()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;
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
            Scratch::default().for_each_run(flat().collect(), &mut |key, changes| {
                parts += 1;
                assert!(changes.is_sorted_by(|(value, _), (next, _)| value < next) && changes.iter().all(|(_, diff)| *diff != 0));
                changes.iter().for_each(|(value, diff)| *said.entry((key, *value)).or_default() += diff);
            });
            said.retain(|_, sum: &mut isize| *sum != 0);
            prop_assert_eq!(said, sums);
            prop_assert!(parts <= runs.len().max(4));
        }
    }
}
