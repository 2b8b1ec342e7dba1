//! Whether processes are started again after one was lost, and when: decided from how often that was lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long the first restart waits. Each further one within the window waits twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// How long any restart waits at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The restarts of late, and how many there may be.
#[derive(Debug)]
pub struct Restarts {
    max: usize,
    window: Duration,
    recent: VecDeque<Instant>,
}

impl Restarts {
    /// There may be so many within a window of time.
    pub fn new(max: usize, window: Duration) -> Restarts {
        Restarts { max, window, recent: VecDeque::new() }
    }

    /// How long the next restart waits, which counts from now on; nothing where there were too many.
    pub fn next(&mut self, now: Instant) -> Option<Duration> {
        self.recent.retain(|at| now.saturating_duration_since(*at) < self.window);
        if self.recent.len() >= self.max {
            return None;
        }
        let doubled = u32::try_from(self.recent.len()).ok().and_then(|times| 2_u32.checked_pow(times));
        self.recent.push_back(now);
        Some(doubled.map_or(PAUSE_MAX, |times| PAUSE_FIRST.saturating_mul(times).min(PAUSE_MAX)))
    }

    /// How many there were within the window.
    pub fn count(&self) -> usize {
        self.recent.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_and_what_is_long_ago_does_not_count() {
        let began = Instant::now();
        let at = |second: u64| began + Duration::from_secs(second);
        let millis = |pause: Option<Duration>| pause.map(|pause| pause.as_millis());
        let mut restarts = Restarts::new(8, Duration::from_secs(60));
        let pauses: Vec<_> = (0..9).map(|second| millis(restarts.next(at(second)))).collect();
        let expected = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000].map(Some);
        assert_eq!((&pauses[..8], pauses[8], restarts.count()), (&expected[..], None, 8));
        // The first two are out of the window.
        assert_eq!(
            (millis(restarts.next(at(61))), millis(restarts.next(at(61))), restarts.next(at(61))),
            (Some(10_000), Some(10_000), None)
        );
        assert_eq!((millis(restarts.next(at(1000))), restarts.count()), (Some(200), 1));
        assert_eq!(Restarts::new(0, Duration::from_secs(60)).next(began), None);
        let mut many = Restarts::new(100, Duration::from_secs(60));
        assert!((0..100).all(|_| many.next(began).is_some_and(|pause| pause <= PAUSE_MAX)));
    }
}
