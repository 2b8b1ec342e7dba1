//! A step function in one integer coordinate: how many, from where on.
//!
//! Kept as the points where the value changes, with the value from there on (before the first it is 0). So a
//! range added or taken away is found by binary search, and costs the points under it; nothing is summed
//! up from the beginning. Values that do not change leave no point: adjacent ranges cost what one does.

use super::ordered::OrderedList;

/// What a step function counts in: `i32` where it is kept for very many keys, `i64` for sums.
pub trait Level: Copy + Eq + Default + Into<i64> + TryFrom<i64> + 'static {}

impl Level for i32 {}
impl Level for i64 {}

/// A step function over `P`.
#[derive(Clone, Debug)]
pub struct Steps<P, V = i32> {
    /// Adjacent values differ, and the first is not 0.
    points: OrderedList<(P, V)>,
}

impl<P, V> Default for Steps<P, V> {
    fn default() -> Self {
        Steps { points: OrderedList::default() }
    }
}

/// A stretch on which the value changed: from, until (`None`: for ever), the old value and the new one.
pub type Stretch<P, V = i32> = (P, Option<P>, V, V);

impl<P: Copy + Ord, V: Level> Steps<P, V> {
    /// Whether the value is 0 everywhere.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The value at a point.
    pub fn at(&self, point: P) -> V {
        let place = self.points.lower_bound(|(other, _)| other.cmp(&point));
        match self.points.get(place) {
            Some((found, value)) if *found == point => *value,
            _ => self.points.item_before(place).map_or(V::default(), |(_, value)| *value),
        }
    }

    /// The value just before a point.
    pub fn before(&self, point: P) -> V {
        let place = self.points.lower_bound(|(other, _)| other.cmp(&point));
        self.points.item_before(place).map_or(V::default(), |(_, value)| *value)
    }

    /// The points at or after `point`, with their values.
    pub fn from(&self, point: P) -> impl Iterator<Item = (P, V)> {
        self.points.from(self.points.lower_bound(|(other, _)| other.cmp(&point))).copied()
    }

    /// All points, with their values.
    pub fn points(&self) -> impl Iterator<Item = (P, V)> {
        self.points.iter().copied()
    }

    /// The last point before `point`, with its value.
    pub fn last_before(&self, point: P) -> Option<(P, V)> {
        let place = self.points.lower_bound(|(other, _)| other.cmp(&point));
        self.points.item_before(place).copied()
    }

    /// Adds range ends: from each point on, the value is greater by its difference. `ends` are sorted by point.
    ///
    /// Each stretch whose value changes is given to `changed`, in order; stretches that touch have different old or new values.
    pub fn add(&mut self, ends: &[(P, isize)], mut changed: impl FnMut(Stretch<P, V>)) {
        for group in groups(ends) {
            self.add_group(&group, &mut changed);
        }
    }

    /// Adds one group of ends.
    pub fn add_group(&mut self, group: &Group<'_, P>, changed: &mut impl FnMut(Stretch<P, V>)) {
        let (start, last) = (group.start, group.last);
        let from = self.points.lower_bound(|(other, _)| other.cmp(&start));
        let until = match last {
            // The point at `last` is looked at too: it may have become superfluous.
            Some(last) => {
                let place = self.points.lower_bound(|(other, _)| other.cmp(&last));
                if self.points.get(place).is_some_and(|(point, _)| *point == last) { self.points.after(place) } else { place }
            }
            None => self.points.lower_bound(|_| std::cmp::Ordering::Less),
        };
        let mut old = self.points.item_before(from).map_or(V::default(), |(_, value)| *value);
        let mut written = old;
        let mut delta = 0i64;
        let mut items = Vec::new();
        let mut open: Option<(P, V, V)> = None;

        let mut group = group.ends.iter().copied().peekable();
        let mut place = from;
        loop {
            let mine = if place < until { self.points.get(place).copied() } else { None };
            let point = match (mine, group.peek()) {
                (Some((a, _)), Some((b, _))) => a.min(*b),
                (Some((a, _)), None) => a,
                (None, Some((b, _))) => *b,
                (None, None) => break,
            };
            if let Some((_, value)) = mine.filter(|(at, _)| *at == point) {
                old = value;
                place = self.points.after(place);
            }
            while let Some((_, diff)) = group.next_if(|(at, _)| *at == point) {
                delta += diff as i64;
            }
            let new = level(old.into() + delta);
            if new != written {
                items.push((point, new));
                written = new;
            }
            if let Some((since, before, after)) = open.take_if(|(_, before, after)| (*before, *after) != (old, new)) {
                changed((since, Some(point), before, after));
            }
            if open.is_none() && old != new {
                open = Some((point, old, new));
            }
        }
        if let Some((since, before, after)) = open {
            changed((since, None, before, after));
        }
        self.points.replace(from..until, items);
    }
}

/// Ends that cancel: they change the function from `start` to `last`, and not beyond.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a, P> {
    /// The ends, sorted by point; they are not empty.
    pub ends: &'a [(P, isize)],
    /// The first point.
    pub start: P,
    /// The last point; `None` where the ends do not cancel, and the function changes for ever.
    pub last: Option<P>,
}

/// Cuts sorted ends into groups that cancel.
pub fn groups<P: Copy>(ends: &[(P, isize)]) -> impl Iterator<Item = Group<'_, P>> {
    let mut rest = ends;
    std::iter::from_fn(move || {
        let (start, _) = *rest.first()?;
        let mut sum = 0;
        let cancelled = rest.iter().position(|(_, diff)| {
            sum += diff;
            sum == 0
        });
        let (ends, behind) = rest.split_at(cancelled.map_or(rest.len(), |index| index + 1));
        rest = behind;
        let last = cancelled.and(ends.last()).map(|(point, _)| *point);
        Some(Group { ends, start, last })
    })
}

/// Counts stay far below this limit: it would take two billion open ranges of one key.
fn level<V: Level>(value: i64) -> V {
    V::try_from(value).unwrap_or_else(|_| panic!("a count of {value} is beyond its type"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn equals_the_running_sum(
            batches in proptest::collection::vec(proptest::collection::btree_map(0i32..60, -3isize..4, 0..12), 1..8),
        ) {
            let mut steps: Steps<i32> = Steps::default();
            let mut deltas: BTreeMap<i32, isize> = BTreeMap::new();
            let value = |deltas: &BTreeMap<i32, isize>, at: i32| -> i32 { deltas.range(..=at).map(|(_, d)| *d).sum::<isize>().try_into().unwrap() };
            for batch in batches {
                let ends: Vec<(i32, isize)> = batch.iter().filter(|(_, d)| **d != 0).map(|(p, d)| (*p, *d)).collect();
                let before = deltas.clone();
                for (point, diff) in &ends { *deltas.entry(*point).or_default() += diff; }
                let mut changes = BTreeMap::new();
                steps.add(&ends, |(from, until, old, new)| {
                    for at in from..until.unwrap_or(70) {
                        assert_eq!(changes.insert(at, (old, new)), None);
                    }
                });
                for at in -1..70 {
                    let (old, new) = (value(&before, at), value(&deltas, at));
                    prop_assert_eq!(steps.at(at), new);
                    prop_assert_eq!(steps.before(at + 1), new);
                    prop_assert_eq!(changes.get(&at).copied(), (old != new).then_some((old, new)));
                }
                let points: Vec<(i32, i32)> = steps.points().collect();
                prop_assert!(points.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1));
                prop_assert!(points.first().is_none_or(|(_, value)| *value != 0));
            }
        }
    }
}
