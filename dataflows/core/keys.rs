//! The keys of JSON objects that name fields, at any depth.

use crate::field::Field;
use crate::mapping::Mapping;

/// The keys of objects that name fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(crate) entries: Vec<Entry>,
}

/// A key at some depth.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Whether it is known in any case: names that a mapping gives are not.
    any_case: bool,
    pub(crate) targets: Vec<Target>,
    /// Whether the value is wanted as it stands: it may be nested, or lead to others.
    pub(crate) raw: bool,
    pub(crate) inner: Keys,
}

/// A field whose value stands under a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) place: usize,
    /// Of several keys of a field, the one with the least rank that holds anything counts.
    pub(crate) rank: u8,
    pub(crate) nested: bool,
}

impl Keys {
    pub(crate) fn new(fields: &'static [Field], mapping: &Mapping) -> Keys {
        let mut keys = Keys::default();
        for (place, field) in fields.iter().enumerate() {
            let (paths, any_case) = mapping.paths(place, field);
            for (rank, path) in (0..).zip(paths) {
                keys.add(&path, any_case, Target { place, rank, nested: field.nested });
            }
        }
        keys
    }

    fn add(&mut self, path: &[String], any_case: bool, target: Target) {
        let Some((key, rest)) = path.split_first() else { return };
        let found = self.entries.iter().position(|entry| entry.key == *key && entry.any_case == any_case);
        let place = found.unwrap_or_else(|| {
            self.entries.push(Entry { key: key.clone(), any_case, targets: Vec::new(), raw: false, inner: Keys::default() });
            self.entries.len() - 1
        });
        let Some(entry) = self.entries.get_mut(place) else { return };
        entry.raw |= target.nested || !rest.is_empty();
        if rest.is_empty() { entry.targets.push(target) } else { entry.inner.add(rest, any_case, target) }
    }

    /// The place of a key: as it is, or else in another case.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        self.find_from(0, key)
    }

    /// The same, looked for from a place on.
    #[inline]
    pub(crate) fn find_from(&self, next: usize, key: &str) -> Option<usize> {
        let (before, from) = self.entries.split_at_checked(next).unwrap_or((&self.entries, &[]));
        // Keys are short: a call to compare them takes longer than the comparison.
        let same = |entry: &Entry| entry.key.len() == key.len() && entry.key.bytes().eq(key.bytes());
        let exact = from.iter().position(same).map(|place| next + place).or_else(|| before.iter().position(same));
        exact.or_else(|| self.entries.iter().position(|entry| entry.any_case && entry.key.eq_ignore_ascii_case(key)))
    }
}
