//! The updates of epochs that are not complete, and the epoch that is being handled.

use super::Update;
use crate::Epoch;
use crate::hash::hash;
use std::collections::BTreeMap;
use std::hash::Hash;
use timely::dataflow::operators::Capability;

/// Above this many updates an epoch is cut into partitions.
const FLAT_MAX: usize = 1 << 15;
/// The number of partitions: so few that the places to write to stay in the cache of addresses (256 cost 6 % of a load), so many that ten
/// million updates make some of 160,000.
const PARTITIONS: usize = 64;
/// Partitions grow by chunks of this many updates, so that growing copies nothing.
const CHUNK: usize = 1 << 10;

pub(super) type Updates<K, V> = Vec<(K, V, isize)>;

/// A list that is copied nowhere as it grows.
struct ChunkedList<D> {
    filling: Vec<D>,
    full: Vec<Vec<D>>,
}

impl<D> Default for ChunkedList<D> {
    fn default() -> Self {
        ChunkedList { filling: Vec::new(), full: Vec::new() }
    }
}

impl<D> ChunkedList<D> {
    fn push(&mut self, data: D) {
        if self.filling.len() == self.filling.capacity() {
            let full = std::mem::replace(&mut self.filling, Vec::with_capacity(CHUNK));
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
    added: ChunkedList<(K, V)>,
    others: ChunkedList<(K, V, isize)>,
}

impl<K, V> Default for Partition<K, V> {
    fn default() -> Self {
        Partition { added: ChunkedList::default(), others: ChunkedList::default() }
    }
}

impl<K, V> Partition<K, V> {
    fn push(&mut self, (key, value, diff): (K, V, isize)) {
        if diff == 1 { self.added.push((key, value)) } else { self.others.push((key, value, diff)) }
    }

    fn gathered(self) -> Updates<K, V> {
        let mut gathered = Vec::with_capacity(self.added.len() + self.others.len());
        self.added.into_iter().for_each(|(key, value)| gathered.push((key, value, 1)));
        self.others.into_iter().for_each(|update| gathered.push(update));
        gathered
    }
}

/// The updates of an epoch that is not complete: few of them as they came, many by partition.
struct Stash<K, V> {
    flat: Updates<K, V>,
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

    /// Returns the partitions, which are popped from the end.
    fn seal(self) -> Vec<Partition<K, V>> {
        match self.partitions.is_empty() {
            true => vec![Partition { added: ChunkedList::default(), others: ChunkedList { filling: self.flat, full: Vec::new() } }],
            false => self.partitions,
        }
    }
}

/// The epochs under way: those that wait to be complete, and the one that is being handled.
pub(super) struct Epochs<K, V> {
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
    pub(super) fn stash(&mut self, updates: impl Iterator<Item = Update<K, V>>, delayed: impl Fn(&Epoch) -> Capability<Epoch>) {
        let mut updates = updates.peekable();
        while let Some(((key, value), epoch, diff)) = updates.next() {
            let (_, stash) = self.waiting.entry(epoch).or_insert_with(|| (delayed(&epoch), Stash::default()));
            stash.push((key, value, diff));
            while let Some(((key, value), _, diff)) = updates.next_if(|(_, next, _)| *next == epoch) {
                stash.push((key, value, diff));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.working.is_none() && self.waiting.is_empty()
    }

    /// The capability of the earliest epoch that is not done.
    pub(super) fn first_capability(&self) -> Option<&Capability<Epoch>> {
        let working = self.working.as_ref().map(|working| &working.capability);
        let first = self.begun.as_ref().or(working);
        first.or_else(|| self.waiting.first_key_value().map(|(_, (capability, _))| capability))
    }

    /// The earliest epoch with updates.
    pub(super) fn first(&self) -> Option<Epoch> {
        let working = self.working.as_ref().map(|working| *working.capability.time());
        working.or_else(|| self.waiting.keys().next().copied())
    }

    /// The next partition to handle, and whether it is the epoch's last one.
    ///
    /// An epoch is taken up when it is `complete`; or, with `enough` updates, when it is `current`: nothing earlier can come.
    pub(super) fn next(
        &mut self,
        complete: impl Fn(&Epoch) -> bool,
        current: impl Fn(&Epoch) -> bool,
        enough: Option<usize>,
    ) -> Option<(Capability<Epoch>, Updates<K, V>, bool)> {
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
    pub(super) fn owed(&mut self, complete: impl Fn(&Epoch) -> bool) -> Option<Capability<Epoch>> {
        self.begun.take_if(|begun| complete(begun.time()) && self.working.is_none() && !self.waiting.contains_key(begun.time()))
    }
}
