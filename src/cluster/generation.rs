//! Generations: the starts of a cluster.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bits that are by chance; those above are milliseconds of UNIX time.
const CHANCE_BITS: u32 = 20;

/// A start of all processes together, by number. Process 0 mints it; a later one is greater, as long as its host's clock goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

impl Generation {
    /// Before process 0 has told.
    pub const UNKNOWN: Generation = Generation(0);

    /// A new one.
    pub fn mint(chance: u64) -> Generation {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = u64::try_from(since).unwrap_or(u64::MAX).max(1);
        Generation(millis << CHANCE_BITS | chance >> (u64::BITS - CHANCE_BITS))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ones_are_greater_and_those_of_a_moment_differ() {
        let (first, other) = (Generation::mint(u64::MAX), Generation::mint(0));
        assert_ne!(first, other);
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(Generation::mint(0) > first.max(other));
        assert!(first > Generation::UNKNOWN);
    }
}
