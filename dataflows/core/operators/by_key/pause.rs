//! When an activation ends, so that other operators of the worker, and other dataflows, get their turn.
//!
//! Operators here read the clock for this alone: it decides when they go on, and never what they compute. Where keys cost little, the clock
//! is read for some tens of them together; where each costs milliseconds, after each.

// No result depends on it.
#![allow(clippy::disallowed_types)]

use std::time::{Duration, Instant};

/// How long an activation may take: with half of it, what follows gets so little at a time that a load takes a sixth longer. In the tests
/// of this crate, no time at all: it ends after each key.
pub(super) const ACTIVATION_MAX: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 8 });
/// Keys that took less than this together are cheap.
const CHEAP: Duration = Duration::from_micros(100);
/// The clock is read once for so many cheap keys at most.
const STRIDE_MAX: u32 = 64;

/// The time of an activation.
pub(super) struct Pause {
    until: Instant,
    read: Instant,
    stride: u32,
    left: u32,
}

impl Pause {
    /// A pause that comes after this long.
    pub(super) fn after(time: Duration) -> Pause {
        let read = Instant::now();
        Pause { until: read + time, read, stride: 1, left: 1 }
    }

    /// Whether it is time for a pause, after one more key.
    pub(super) fn is_due(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        let now = Instant::now();
        self.stride = if now - self.read < CHEAP { (self.stride * 2).min(STRIDE_MAX) } else { 1 };
        self.left = self.stride;
        self.read = now;
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many keys the clock is read for together: none is too many before the end, and each is after it.
    #[test]
    fn a_pause_is_due_when_its_time_has_come() {
        let mut long = Pause::after(Duration::from_secs(3_600));
        assert!((0..10 * STRIDE_MAX).all(|_| !long.is_due()));
        assert!(long.stride <= STRIDE_MAX);
        long.until = long.read;
        assert!((0..STRIDE_MAX).any(|_| long.is_due()));
        assert!(Pause::after(Duration::ZERO).is_due());
    }
}
