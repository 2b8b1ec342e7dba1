//! A sorted list in chunks: the ordered index of a key's records.
//!
//! A list of up to [`CHUNK_MAX`] items is one vector; longer ones are a vector of such vectors. Finding an item is
//! two binary searches. Changing one moves the items behind it in its chunk, and now and then the list of
//! chunks: for a million items of 24 bytes that is a copy of some ten kilobytes, about a microsecond.
//! Beside the items there is one allocation per chunk, so short histories cost little more than their items.

use super::order::Order;
use std::cmp::Ordering;
use std::ops::{Deref, DerefMut, Range};

/// A chunk is split when it grows beyond this.
pub const CHUNK_MAX: usize = 512;

/// A position in a list: chunk and index in it. The position behind the last item is `(chunks, 0)`.
pub type ListPosition = (usize, usize);

/// A sorted list. The order is the caller's: all searches take a comparison.
#[derive(Clone, Debug)]
pub struct OrderedList<V> {
    chunks: Chunks<V>,
}

impl<V> Default for OrderedList<V> {
    fn default() -> Self {
        OrderedList { chunks: Chunks::One(Vec::new()) }
    }
}

/// The chunks of a list, of which none is empty. Most lists have one, which costs as much as a vector.
#[allow(clippy::box_collection, reason = "so that it is no larger than a vector")]
#[derive(Clone, Debug)]
enum Chunks<V> {
    /// One chunk, or none where it is empty.
    One(Vec<V>),
    /// Two or more.
    Many(Box<Vec<Vec<V>>>),
}

impl<V> Deref for Chunks<V> {
    type Target = [Vec<V>];

    fn deref(&self) -> &[Vec<V>] {
        match self {
            Chunks::One(items) if items.is_empty() => &[],
            Chunks::One(items) => std::slice::from_ref(items),
            Chunks::Many(chunks) => chunks,
        }
    }
}

impl<V> DerefMut for Chunks<V> {
    fn deref_mut(&mut self) -> &mut [Vec<V>] {
        match self {
            Chunks::One(items) if items.is_empty() => &mut [],
            Chunks::One(items) => std::slice::from_mut(items),
            Chunks::Many(chunks) => chunks,
        }
    }
}

impl<V> Chunks<V> {
    /// Puts others in the place of some.
    fn splice(&mut self, range: Range<usize>, others: Vec<Vec<V>>) {
        let mut chunks = match std::mem::replace(self, Chunks::One(Vec::new())) {
            Chunks::One(items) if items.is_empty() => Vec::new(),
            Chunks::One(items) => vec![items],
            Chunks::Many(chunks) => *chunks,
        };
        chunks.splice(range, others);
        *self = if chunks.len() > 1 { Chunks::Many(Box::new(chunks)) } else { Chunks::One(chunks.pop().unwrap_or_default()) };
    }

    /// Removes a chunk that has become empty.
    fn remove_empty(&mut self, chunk: usize) {
        match self {
            Chunks::One(items) => *items = Vec::new(),
            Chunks::Many(_) => self.splice(chunk..chunk + 1, Vec::new()),
        }
    }
}

impl<V> OrderedList<V> {
    /// The list of items that are sorted already.
    pub fn from_sorted(items: Vec<V>) -> OrderedList<V> {
        let mut list = OrderedList::default();
        list.chunks.splice(0..0, cut(items));
        list
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// The place of the first item that is not less than what is sought; `order` compares an item with it.
    pub fn lower_bound(&self, order: impl Fn(&V) -> Ordering) -> ListPosition {
        let behind = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| order(first) == Ordering::Less));
        let Some(chunk) = behind.checked_sub(1) else { return (0, 0) };
        let index = self.chunks.get(chunk).map_or(0, |items| items.partition_point(|item| order(item) == Ordering::Less));
        self.normal((chunk, index))
    }

    /// The place of an item, or where it would be, in a list in the order of `V`.
    pub fn place_of(&self, item: &V) -> ListPosition
    where
        V: Ord,
    {
        self.lower_bound(|other| other.cmp(item))
    }

    /// The place of an item, or where it would be, in a list in this order.
    pub fn place_by(&self, order: &impl Order<V>, item: &V) -> ListPosition {
        self.lower_bound(|other| order.compare(other, item))
    }

    /// The item at a place.
    pub fn get(&self, (chunk, index): ListPosition) -> Option<&V> {
        self.chunks.get(chunk)?.get(index)
    }

    /// The item at a place, to be changed into one that sorts alike.
    pub fn get_mut(&mut self, (chunk, index): ListPosition) -> Option<&mut V> {
        self.chunks.get_mut(chunk)?.get_mut(index)
    }

    /// The place after `place`.
    pub fn after(&self, (chunk, index): ListPosition) -> ListPosition {
        self.normal((chunk, index + 1))
    }

    /// The place before `place`, when there is one.
    pub fn before(&self, (chunk, index): ListPosition) -> Option<ListPosition> {
        match index.checked_sub(1) {
            Some(index) => Some((chunk, index)),
            None => {
                let chunk = chunk.checked_sub(1)?;
                Some((chunk, self.chunks.get(chunk)?.len() - 1))
            }
        }
    }

    /// The item before `place`.
    pub fn item_before(&self, place: ListPosition) -> Option<&V> {
        self.get(self.before(place)?)
    }

    /// The items from `place` on.
    pub fn from(&self, (chunk, index): ListPosition) -> impl Iterator<Item = &V> + Clone {
        let first = self.chunks.get(chunk).and_then(|items| items.get(index..)).unwrap_or_default();
        first.iter().chain(self.chunks.get(chunk + 1..).unwrap_or_default().iter().flatten())
    }

    /// The last item.
    pub fn last(&self) -> Option<&V> {
        self.chunks.last()?.last()
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.from((0, 0))
    }

    /// Puts one item at a place.
    pub fn insert(&mut self, place: ListPosition, item: V) {
        // Behind the last item means at the end of the last chunk.
        let (chunk, index) = match self.before(place) {
            Some((chunk, index)) if place.1 == 0 => (chunk, index + 1),
            _ => place,
        };
        let Some(items) = self.chunks.get_mut(chunk) else {
            self.chunks.splice(chunk..chunk, vec![vec![item]]);
            return;
        };
        if items.len() == items.capacity() {
            items.reserve_exact(items.len() / 8 + 2);
        }
        items.insert(index, item);
        if items.len() > CHUNK_MAX {
            let upper = items.split_off(items.len() / 2);
            items.shrink_to_fit();
            self.chunks.splice(chunk + 1..chunk + 1, vec![upper]);
        }
    }

    /// Puts an item that sorts alike in the place of another.
    pub fn set(&mut self, (chunk, index): ListPosition, item: V) {
        if let Some(slot) = self.chunks.get_mut(chunk).and_then(|items| items.get_mut(index)) {
            *slot = item;
        }
    }

    /// Takes out the item at a place.
    pub fn remove(&mut self, (chunk, index): ListPosition) -> Option<V> {
        let items = self.chunks.get_mut(chunk)?;
        let item = (index < items.len()).then(|| items.remove(index))?;
        if items.is_empty() {
            self.chunks.remove_empty(chunk);
        }
        Some(item)
    }

    /// Puts sorted items in the place of those in `range`.
    pub fn replace(&mut self, range: Range<ListPosition>, items: Vec<V>) {
        let (start, end) = (range.start, range.end);
        // Small changes within a chunk stay there.
        if let (true, Some(chunk)) = (start.0 == end.0, self.chunks.get_mut(start.0))
            && !chunk.is_empty()
            && chunk.len() + items.len() <= CHUNK_MAX + (end.1 - start.1)
        {
            let growth = items.len().saturating_sub(end.1 - start.1);
            if chunk.len() + growth > chunk.capacity() {
                chunk.reserve_exact(growth + chunk.len() / 8);
            }
            chunk.splice(start.1..end.1, items);
            if chunk.is_empty() {
                self.chunks.remove_empty(start.0);
            }
            return;
        }
        // Otherwise the chunks that the range touches are cut anew.
        let mut tail = Vec::new();
        if let Some(last) = self.chunks.get_mut(end.0) {
            tail = last.split_off(end.1);
        }
        let mut head = match self.chunks.get_mut(start.0) {
            Some(first) => {
                first.truncate(start.1);
                std::mem::take(first)
            }
            None => Vec::new(),
        };
        let touched = start.0..(end.0 + 1).min(self.chunks.len()).max(start.0);
        head.extend(items);
        head.extend(tail);
        self.chunks.splice(touched, cut(head));
    }

    /// A place whose index is within its chunk, or the place behind the last item.
    fn normal(&self, (chunk, index): ListPosition) -> ListPosition {
        match self.chunks.get(chunk) {
            Some(items) if index >= items.len() => (chunk + 1, 0),
            _ => (chunk, index),
        }
    }
}

/// Cuts items into chunks, of exactly the size needed and far enough from the limit not to be split at once.
fn cut<V>(mut items: Vec<V>) -> Vec<Vec<V>> {
    if items.len() <= CHUNK_MAX {
        items.shrink_to_fit();
        return if items.is_empty() { Vec::new() } else { vec![items] };
    }
    let count = items.len().div_ceil(CHUNK_MAX * 3 / 4);
    let size = items.len().div_ceil(count);
    let mut items = items.into_iter();
    let mut chunks = Vec::with_capacity(count);
    loop {
        let mut chunk = Vec::with_capacity(size.min(items.len()));
        chunk.extend(items.by_ref().take(size));
        if chunk.is_empty() {
            return chunks;
        }
        chunks.push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(list: &OrderedList<u32>, model: &BTreeSet<u32>) {
        assert!(list.iter().eq(model.iter()));
        assert!(list.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
        assert_eq!(list.len(), model.len());
        assert_eq!(matches!(list.chunks, Chunks::Many(_)), list.chunks.len() > 1);
    }

    #[test]
    fn a_list_is_as_large_as_a_vector() {
        assert_eq!(size_of::<OrderedList<u32>>(), size_of::<Vec<u32>>());
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn is_a_sorted_set(
            start in proptest::collection::btree_set(0u32..4_000, 0..2_500),
            changes in proptest::collection::vec((0u32..4_000, 0u32..1_500, proptest::collection::btree_set(0u32..4_000, 0..900)), 0..12),
            singles in proptest::collection::vec(0u32..4_000, 0..600),
        ) {
            let mut model = start.clone();
            let mut list = OrderedList::from_sorted(start.into_iter().collect());
            check(&list, &model);
            for item in singles {
                let place = list.lower_bound(|other| other.cmp(&item));
                prop_assert_eq!(list.item_before(place), model.range(..item).next_back());
                prop_assert_eq!(list.get(place), model.range(item..).next());
                prop_assert_eq!((list.place_of(&item), list.last()), (place, model.last()));
                if model.remove(&item) {
                    prop_assert_eq!(list.remove(place), Some(item));
                } else {
                    list.insert(place, item);
                    model.insert(item);
                }
            }
            check(&list, &model);
            for (from, length, items) in changes {
                let until = from + length;
                let items: Vec<u32> = items.into_iter().filter(|item| (from..until).contains(item)).collect();
                let range = list.lower_bound(|other| other.cmp(&from))..list.lower_bound(|other| other.cmp(&until));
                model.retain(|item| !(from..until).contains(item));
                model.extend(&items);
                list.replace(range, items);
                check(&list, &model);
                let place = list.lower_bound(|other| other.cmp(&from));
                prop_assert!(list.from(place).eq(model.range(from..)));
                let mut walked = place;
                for item in model.range(from..).take(600) {
                    prop_assert_eq!(list.get(walked), Some(item));
                    walked = list.after(walked);
                }
            }
        }
    }
}
