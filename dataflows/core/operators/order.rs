//! In which order an operator keeps the records of a key: their own, or one in which ids that are texts are compared as texts.
//!
//! A graph knows a text id as a hash ([`crate::texts`]), and records with ids sort by it. Where the order of records decides, as between
//! two at the same time, it is that of the texts. An operator is built for one order or the other, so ids that are numbers cost no look.
//!
//! The order of texts looks at them, and only where two ids have to be compared. So their texts must be there: the records come from
//! [`Inputs::awaiting_texts`](crate::decode::Inputs::awaiting_texts), and are handled when their epoch is complete.

use std::cmp::Ordering;

/// An order of records, in which those that are equal are the same.
pub trait Order<V>: 'static {
    /// Compares two records.
    fn compare(&self, left: &V, right: &V) -> Ordering;

    /// Brings changes into this order. They come in the order of `V`.
    fn sorted(&self, changes: impl Iterator<Item = (V, isize)>) -> impl Iterator<Item = (V, isize)>;
}

/// The order of the records themselves.
#[derive(Clone, Copy, Debug)]
pub struct OwnOrder;

impl<V: Ord> Order<V> for OwnOrder {
    fn compare(&self, left: &V, right: &V) -> Ordering {
        left.cmp(right)
    }

    fn sorted(&self, changes: impl Iterator<Item = (V, isize)>) -> impl Iterator<Item = (V, isize)> {
        changes
    }
}

/// The order that a function gives.
#[derive(Clone, Copy, Debug)]
pub struct OrderBy<F>(F);

impl<F> OrderBy<F> {
    /// The order in which `compare` returns how two records stand.
    pub fn new<V>(compare: F) -> OrderBy<F>
    where
        F: Fn(&V, &V) -> Ordering,
    {
        OrderBy(compare)
    }
}

impl<V, F: Fn(&V, &V) -> Ordering + 'static> Order<V> for OrderBy<F> {
    fn compare(&self, left: &V, right: &V) -> Ordering {
        (self.0)(left, right)
    }

    fn sorted(&self, changes: impl Iterator<Item = (V, isize)>) -> impl Iterator<Item = (V, isize)> {
        let mut changes: Vec<_> = changes.collect();
        // All but ties are in order already, which a stable sort finds at once.
        changes.sort_by(|(left, _), (right, _)| self.compare(left, right));
        changes.into_iter()
    }
}
