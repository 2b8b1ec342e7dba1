//! A hash of keys, by which they find their worker, their partition and their place.

use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hash};

/// A hash that is the same in all processes. Never stored: it may change with the library.
pub fn hash<K: Hash + ?Sized>(key: &K) -> u64 {
    FixedState::with_seed(0x7265_7461_6c6c_7921).hash_one(key)
}
