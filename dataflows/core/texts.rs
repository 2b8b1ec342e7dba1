//! Ids that are any text: serial numbers, MAC addresses, hashes of e-mail addresses.
//!
//! Graphs know ids as numbers, of 64 or of 128 bits. With [`Ids::Text`](crate::ids::Ids::Text) that number is a hash of the text, so a text
//! id costs a graph what a number does. The workers of a process share its [`Texts`]: the text of each hash, once. Whoever reads a record
//! adds the texts of its ids before the record leaves, and tells the other processes ([`crate::decode`]); rows of tables get the texts in
//! place of the hashes when they leave the graph ([`crate::publish`]). Where an id decides between two records (a tie), their texts are
//! compared, byte by byte ([`crate::operators::order`]). So nothing that is kept or shown depends on the hash.
//!
//! Two texts with the same 64 bits can't be told apart: they are noticed, and the second is refused by name, never counted as the first.
//! Among ten million ids the chance that two such texts exist is 1 in 370,000.
//!
//! # Limits
//! An id has at most [`BYTES_MAX`] bytes. A text stays until the process ends, also when its records are retracted.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_128;

/// The longest id, in bytes.
pub const BYTES_MAX: usize = 1_024;

/// The id that a text has, whether it was read or not: a hash. As an id of 64 bits it is the lower half.
pub fn id_of(text: &str) -> u128 {
    xxh3_128(text.as_bytes())
}

/// The 64 bits by which a text is found.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is meant")]
pub(crate) fn lower(id: u128) -> u64 {
    id as u64
}

/// So many parts have a lock of their own.
const PARTS: usize = 64;

type Part = RwLock<TextsById>;
type TextsById = HashMap<u64, Box<str>, FixedState>;

/// The part that an id is in.
fn part_of(id: u64) -> usize {
    usize::try_from(id >> 58).unwrap_or(0)
}

/// The text of an id of a part.
///
/// # Panics
/// When the text is not known. A row whose epoch is complete holds ids of records that were read, so that is a bug.
fn text_in(part: &TextsById, id: u64) -> &str {
    part.get(&id).unwrap_or_else(|| panic!("nobody read an id with the hash {id:016x}"))
}

/// The texts of a process's ids.
pub struct Texts {
    parts: Vec<Part>,
    workers: usize,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Two texts whose ids are the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{new:?} can't be told from {known:?}: the hashes of both texts are the same")]
pub struct SameHash {
    known: Box<str>,
    new: Box<str>,
}

impl Texts {
    /// No texts, to be shared by so many workers: those of a process.
    pub fn of_workers(workers: usize) -> Arc<Texts> {
        Arc::new(Texts { parts: (0..PARTS).map(|_| Part::default()).collect(), workers: workers.max(1) })
    }

    /// The first worker of each process that `worker` of `peers` is not in.
    pub(crate) fn others(&self, worker: usize, peers: usize) -> Vec<u64> {
        (0..peers).step_by(self.workers).filter(|first| worker / self.workers != first / self.workers).map(|first| first as u64).collect()
    }

    fn part(&self, id: u64) -> Option<&Part> {
        self.parts.get(part_of(id))
    }

    /// Adds the text of an id.
    pub(crate) fn add(&self, id: u64, text: &str) -> Result<(), SameHash> {
        let Some(part) = self.part(id) else { return Ok(()) };
        match part.write().unwrap_or_else(PoisonError::into_inner).entry(id) {
            Entry::Vacant(vacant) => {
                vacant.insert(text.into());
                Ok(())
            }
            Entry::Occupied(known) if **known.get() == *text => Ok(()),
            Entry::Occupied(known) => Err(SameHash { known: known.get().clone(), new: text.into() }),
        }
    }

    /// Gives the part that an id is in to `read`.
    fn read_part<T>(&self, id: u64, read: impl FnOnce(&TextsById) -> T) -> T {
        match self.part(id) {
            Some(part) => read(&part.read().unwrap_or_else(PoisonError::into_inner)),
            None => read(&TextsById::default()),
        }
    }

    /// Gives the text of an id to `read`.
    ///
    /// # Panics
    /// When the text is not known: see [`text_in`].
    pub(crate) fn read<T>(&self, id: u64, read: impl FnOnce(&str) -> T) -> T {
        self.read_part(id, |part| read(text_in(part, id)))
    }

    /// The text of an id of a record, once the epoch of the record is complete.
    ///
    /// # Panics
    /// When there was no such record.
    pub fn text(&self, id: u128) -> String {
        self.read(lower(id), str::to_string)
    }

    /// Compares two ids of records by their texts, byte by byte, once the epochs of the records are complete.
    ///
    /// # Panics
    /// When there were no such records.
    pub fn compare(&self, left: u128, right: u128) -> Ordering {
        let (left, right) = (lower(left), lower(right));
        match part_of(left).cmp(&part_of(right)) {
            _ if left == right => Ordering::Equal,
            // Who asks for a part may wait for a thread that waits to write in it. So no thread asks for a part that it holds, and all take
            // the first of two parts first.
            Ordering::Equal => self.read_part(left, |part| text_in(part, left).cmp(text_in(part, right))),
            Ordering::Less => self.read(left, |left| self.read(right, |right| left.cmp(right))),
            Ordering::Greater => self.read(right, |right| self.read(left, |left| left.cmp(right))),
        }
    }
}

/// What makes ids of texts, for one reader.
#[derive(Clone, Debug)]
pub struct Interner {
    texts: Arc<Texts>,
    /// Both halves of the hashes that this reader has seen.
    known: RefCell<HashMap<u64, u64, FixedState>>,
    /// Texts that were new to this reader, where others are to be told.
    new: Option<RefCell<Vec<(u64, Box<str>)>>>,
}

impl Interner {
    /// For a reader that adds to these texts; whether it must say which were new to it.
    pub(crate) fn new(texts: Arc<Texts>, told: bool) -> Interner {
        Interner { texts, known: RefCell::default(), new: told.then(RefCell::default) }
    }

    /// The id of a text that was seen before.
    #[inline]
    pub(crate) fn known(&self, text: &[u8]) -> Option<u128> {
        let id = xxh3_128(text);
        let upper = *self.known.borrow().get(&lower(id))?;
        (upper == lower(id >> 64)).then_some(id)
    }

    /// The id of a text.
    pub(crate) fn add(&self, text: &str) -> Result<u128, SameHash> {
        let id = id_of(text);
        self.texts.add(lower(id), text)?;
        self.known.borrow_mut().insert(lower(id), lower(id >> 64));
        if let Some(new) = &self.new {
            new.borrow_mut().push((lower(id), text.into()));
        }
        Ok(id)
    }

    /// Takes the texts that were new since the last time.
    pub(crate) fn take_new(&self) -> Vec<(u64, Box<str>)> {
        self.new.as_ref().map(RefCell::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_can_not_be_told_from_another_is_refused_by_name() {
        let texts = Texts::of_workers(1);
        let id = lower(id_of("second"));
        texts.add(id, "first").unwrap();
        let interner = Interner::new(Arc::clone(&texts), false);
        let refused = interner.add("second").unwrap_err().to_string();
        assert_eq!(refused, "\"second\" can't be told from \"first\": the hashes of both texts are the same");
        assert_eq!(interner.known(b"second"), None);
        assert_eq!(texts.text(id.into()), "first");
        assert_eq!(texts.add(id, "first"), Ok(()));
    }

    #[test]
    fn a_reader_tells_what_is_new_to_it_once() {
        let texts = Texts::of_workers(1);
        let (one, other) = (Interner::new(Arc::clone(&texts), true), Interner::new(Arc::clone(&texts), true));
        assert_eq!(one.known(b"a"), None);
        let id = one.add("a").unwrap();
        assert_eq!(one.known(b"a"), Some(id));
        assert_eq!(other.known(b"a"), None, "what one reader has told may not have arrived where the records of another do");
        assert_eq!(other.add("a"), Ok(id));
        assert_eq!((one.take_new().len(), one.take_new().len(), other.take_new().len()), (1, 0, 1));
        assert_eq!(texts.text(id), "a");
    }

    #[test]
    fn ids_are_compared_by_the_bytes_of_their_texts() {
        let texts = Texts::of_workers(1);
        let mut sorted: Vec<String> =
            (0..300).map(|n| format!("{n}")).chain(["", "é", "z", "Z", "日本", "2024-03-01"].map(String::from)).collect();
        sorted.sort();
        let ids: Vec<u128> = sorted.iter().map(|text| id_of(text)).collect();
        ids.iter().zip(&sorted).for_each(|(id, text)| texts.add(lower(*id), text).unwrap());
        for (place, left) in ids.iter().enumerate() {
            for (other, right) in ids.iter().enumerate() {
                assert_eq!(texts.compare(*left, *right), place.cmp(&other), "{:?} and {:?}", sorted[place], sorted[other]);
            }
        }
        assert!(!ids.is_sorted_by_key(|id| lower(*id)) && !ids.is_sorted());
    }

    /// Threads compare the same ids, one way and the other, while others add texts to the same parts.
    #[test]
    fn comparing_waits_for_nobody_that_waits_for_it() {
        let texts = Texts::of_workers(4);
        let ids: Vec<u128> = (0..200).map(|n| id_of(&format!("{n}"))).collect();
        ids.iter().zip(0..).for_each(|(id, n)| texts.add(lower(*id), &n.to_string()).unwrap());
        std::thread::scope(|scope| {
            for backwards in [false, true] {
                let (texts, ids) = (&texts, &ids);
                scope.spawn(move || {
                    for (place, left) in ids.iter().enumerate() {
                        for (other, right) in ids.iter().enumerate() {
                            let (one, two, expected) = if backwards { (right, left, other) } else { (left, right, place) };
                            let against = if backwards { place } else { other };
                            assert_eq!(texts.compare(*one, *two), expected.to_string().cmp(&against.to_string()));
                        }
                    }
                });
                scope.spawn(move || {
                    for n in 0..20_000 {
                        let text = format!("new {n} {backwards}");
                        texts.add(lower(id_of(&text)), &text).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn the_other_processes_are_told_by_their_first_workers() {
        assert_eq!(Texts::of_workers(3).others(4, 9), [0, 6]);
        assert_eq!(Texts::of_workers(2).others(1, 2), [0; 0]);
        assert_eq!(Texts::of_workers(1).others(0, 3), [1, 2]);
    }
}
