//! Ids that are any text: serial numbers, MAC addresses, hashes of e-mail addresses.
//!
//! Graphs know ids as numbers, of 64 or of 128 bits. With [`Ids::Text`](crate::ids::Ids::Text) that number is a hash of the text, so a text id costs a graph what
//! a number does. The workers of a process share its [`Texts`]: the text of each hash, once. Whoever reads a record adds the texts of its
//! ids before the record leaves, and tells the other processes ([`crate::decode`]); rows of tables get the texts in place of the hashes
//! when they leave the graph ([`crate::publish`]). So nothing that is kept or shown depends on the hash.
//!
//! Two texts with the same 64 bits can't be told apart: they are noticed, and the second is refused by name, never counted as the first.
//! Among ten million ids the chance that two such texts exist is 1 in 370,000.
//!
//! # Limits
//! An id has at most [`BYTES_MAX`] bytes. A text stays until the process ends, also when its records are retracted. Where a page says that
//! an id decides between two records (a tie), it is the hash that does, not the letters.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::cell::RefCell;
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

type Part = RwLock<HashMap<u64, Box<str>, FixedState>>;

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
        self.parts.get(usize::try_from(id >> 58).unwrap_or(0))
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

    /// Gives the text of an id to `read`.
    ///
    /// # Panics
    /// When the text is not known. A row whose epoch is complete holds ids of records that were read, so that is a bug.
    pub(crate) fn read<T>(&self, id: u64, read: impl FnOnce(&str) -> T) -> T {
        let part = self.part(id).map(|part| part.read().unwrap_or_else(PoisonError::into_inner));
        match part.as_ref().and_then(|part| part.get(&id)) {
            Some(text) => read(text),
            None => panic!("nobody read an id with the hash {id:016x}"),
        }
    }

    /// The text of an id of a record, once the epoch of the record is complete.
    ///
    /// # Panics
    /// When there was no such record.
    pub fn text(&self, id: u128) -> String {
        self.read(lower(id), str::to_string)
    }
}

/// What makes ids of texts, for one reader.
#[derive(Clone, Debug)]
pub struct Interner {
    texts: Arc<Texts>,
    /// What this reader has seen.
    known: RefCell<Seen>,
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
        self.known.borrow().has(id).then_some(id)
    }

    /// The id of a text.
    pub(crate) fn add(&self, text: &str) -> Result<u128, SameHash> {
        let id = id_of(text);
        self.texts.add(lower(id), text)?;
        self.known.borrow_mut().insert(id);
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

/// A set of ids. A look for one mostly takes a single cache line, where a hash table takes two: there are several in each record, and far
/// more ids than fit into a core's cache.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The upper halves of ids, by some bits of the lower ones. What finds no room in its line is in the table alone.
    lines: Vec<CacheLine>,
    /// Both halves of all ids.
    halves: HashMap<u64, u64, FixedState>,
}

/// Zeros stand for nothing.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct CacheLine([u64; 8]);

/// So many ids to a line, when lines are made.
const IDS_PER_LINE: usize = 2;
/// And so many at most, on average, before there are more lines.
const IDS_PER_LINE_MAX: usize = 4;

impl Seen {
    #[inline]
    fn has(&self, id: u128) -> bool {
        let upper = lower(id >> 64);
        let line = self.lines.get(place(id, self.lines.len()));
        (upper != 0 && line.is_some_and(|line| line.0.contains(&upper))) || self.is_in_table(id)
    }

    #[cold]
    fn is_in_table(&self, id: u128) -> bool {
        self.halves.get(&lower(id)) == Some(&lower(id >> 64))
    }

    fn insert(&mut self, id: u128) {
        self.halves.insert(lower(id), lower(id >> 64));
        if self.halves.len() <= self.lines.len() * IDS_PER_LINE_MAX {
            return into_line(&mut self.lines, id);
        }
        self.lines = vec![CacheLine::default(); (self.halves.len() / IDS_PER_LINE).next_power_of_two()];
        for (low, up) in &self.halves {
            into_line(&mut self.lines, (u128::from(*up) << 64) | u128::from(*low));
        }
    }
}

/// The place of an id's line among so many: a power of two, or none.
#[inline]
fn place(id: u128, lines: usize) -> usize {
    usize::try_from(lower(id)).unwrap_or(0) & lines.wrapping_sub(1)
}

fn into_line(lines: &mut [CacheLine], id: u128) {
    let place = place(id, lines.len());
    let free = lines.get_mut(place).and_then(|line| line.0.iter_mut().find(|half| **half == 0));
    free.into_iter().for_each(|half| *half = lower(id >> 64));
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
    fn what_was_seen_is_known_and_nothing_else() {
        let id = |number: u64| match number % 4 {
            // Halves that are zero, and many ids for one line.
            0 => u128::from(number),
            1 => u128::from(number << 40) | (u128::from(number) << 64),
            _ => id_of(&number.to_string()),
        };
        let mut seen = Seen::default();
        for number in 1..5_000 {
            assert!(!seen.has(id(number)), "{number}");
            seen.insert(id(number));
            assert!(seen.has(id(number)), "{number}");
        }
        assert!((1..5_000).all(|number| seen.has(id(number))) && (5_000..10_000).all(|number| !seen.has(id(number))));
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
    fn the_other_processes_are_told_by_their_first_workers() {
        assert_eq!(Texts::of_workers(3).others(4, 9), [0, 6]);
        assert_eq!(Texts::of_workers(2).others(1, 2), [0; 0]);
        assert_eq!(Texts::of_workers(1).others(0, 3), [1, 2]);
    }
}
