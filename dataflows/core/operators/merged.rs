//! A sorted list to which much is added at once: what came last waits beside it, and is merged when it is a quarter of it.
//!
//! Adding costs O(1) and, now and then, a merge: some five moves of an item in all, however many there are. So it suits what is written
//! in bulk and read seldom; [`ordered`](super::ordered) suits what is read at each change. State: the items themselves, and up to a half
//! of them again where they grow.

/// So many changes wait at least.
const WAITING_MIN: usize = 64;

/// A sorted list; equal items may be in it more than once.
#[derive(Clone, Debug)]
pub struct MergedList<T> {
    sorted: Vec<T>,
    /// Items that are not in `sorted` yet.
    added: Vec<T>,
    /// Items that are still in `sorted` or `added`.
    removed: Vec<T>,
}

impl<T> Default for MergedList<T> {
    fn default() -> Self {
        MergedList { sorted: Vec::new(), added: Vec::new(), removed: Vec::new() }
    }
}

impl<T: Copy + Ord> MergedList<T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        (self.sorted.len() + self.added.len()).saturating_sub(self.removed.len())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an item.
    pub fn add(&mut self, item: T) {
        self.added.push(item);
        self.merge_if_many();
    }

    /// Takes an item out, which must be there.
    pub fn remove(&mut self, item: T) {
        self.removed.push(item);
        self.merge_if_many();
    }

    /// Adds an item so many times, or takes it out.
    pub fn change(&mut self, item: T, diff: isize) {
        (0..diff.unsigned_abs()).for_each(|_| if diff > 0 { self.add(item) } else { self.remove(item) });
    }

    /// The items, in order.
    pub fn sorted(&mut self) -> &[T] {
        if !self.added.is_empty() || !self.removed.is_empty() {
            self.merge();
        }
        &self.sorted
    }

    fn merge_if_many(&mut self) {
        if self.added.len() + self.removed.len() > WAITING_MIN.max(self.sorted.len() / 4) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let (added, mut removed) = (std::mem::take(&mut self.added), std::mem::take(&mut self.removed));
        self.sorted.reserve_exact(added.len());
        self.sorted.extend(added);
        // Finds the run that is sorted already, and merges.
        self.sorted.sort();
        if removed.is_empty() {
            return;
        }
        removed.sort_unstable();
        let mut removed = removed.into_iter().peekable();
        self.sorted.retain(|item| {
            while removed.next_if(|gone| gone < item).is_some() {}
            removed.next_if(|gone| gone == item).is_none()
        });
        if self.sorted.len() < self.sorted.capacity() / 2 {
            self.sorted.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn is_what_was_added_and_not_removed(changes in proptest::collection::vec((0u8..40, proptest::bool::weighted(0.7)), 0..600), every in 1usize..200) {
            let (mut list, mut plain) = (MergedList::default(), Vec::new());
            for (number, (item, added)) in changes.into_iter().enumerate() {
                match plain.iter().position(|other| *other == item) {
                    Some(place) if !added => {
                        plain.swap_remove(place);
                        list.remove(item);
                    }
                    _ => {
                        plain.push(item);
                        list.add(item);
                    }
                }
                prop_assert_eq!(list.len(), plain.len());
                if number % every == 0 {
                    plain.sort_unstable();
                    prop_assert_eq!(list.sorted(), &plain);
                }
            }
            plain.sort_unstable();
            prop_assert_eq!(list.sorted(), &plain);
        }
    }
}
