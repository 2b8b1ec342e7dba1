//! Whether processes are started again after one was lost, and when: decided from how often that was lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long the first restart waits. Each further one waits twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// How long any restart waits at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Where all were at work for so long before one was lost, the next restart is a first one again: what it was has passed.
const WELL_MIN: Duration = PAUSE_MAX;

/// The restarts of late, and how many there may be.
#[derive(Debug)]
pub struct Restarts {
    max: usize,
    window: Duration,
    recent: VecDeque<Instant>,
    /// So many of them came one after the other.
    in_a_row: u32,
}

impl Restarts {
    /// There may be so many within a window of time.
    pub fn new(max: usize, window: Duration) -> Restarts {
        Restarts { max, window, recent: VecDeque::new(), in_a_row: 0 }
    }

    /// How long the next restart waits, which counts from now on; nothing where there were too many. Before the loss, all processes were at
    /// work for as long as `well`.
    pub fn next(&mut self, now: Instant, well: Duration) -> Option<Duration> {
        self.recent.retain(|at| now.saturating_duration_since(*at) < self.window);
        if self.recent.len() >= self.max {
            return None;
        }
        if well >= WELL_MIN || self.recent.is_empty() {
            self.in_a_row = 0;
        }
        let doubled = 2_u32.checked_pow(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1);
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
        let soon = Duration::from_secs(1);
        let mut restarts = Restarts::new(8, Duration::from_secs(60));
        let pauses: Vec<_> = (0..9).map(|second| millis(restarts.next(at(second), soon))).collect();
        let expected = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000].map(Some);
        assert_eq!((&pauses[..8], pauses[8], restarts.count()), (&expected[..], None, 8));
        // The first two are out of the window.
        assert_eq!(
            (millis(restarts.next(at(61), soon)), millis(restarts.next(at(61), soon)), restarts.next(at(61), soon)),
            (Some(10_000), Some(10_000), None)
        );
        assert_eq!((millis(restarts.next(at(1000), soon)), restarts.count()), (Some(200), 1));
        assert_eq!(Restarts::new(0, Duration::from_secs(60)).next(began, soon), None);
        let mut many = Restarts::new(100, Duration::from_secs(60));
        assert!((0..100).all(|_| many.next(began, soon).is_some_and(|pause| pause <= PAUSE_MAX)));
    }

    /// Losses that are far apart don't slow one another down, and all count for how many there may be.
    #[test]
    fn pauses_begin_anew_where_all_was_well_for_a_while() {
        let began = Instant::now();
        let mut restarts = Restarts::new(8, Duration::from_secs(600));
        let [soon, long] = [Duration::from_secs(9), Duration::from_secs(10)];
        let wells = [soon, soon, soon, long, soon, long, long, soon];
        let pauses: Vec<_> = wells.iter().map(|well| restarts.next(began, *well).unwrap().as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 200, 400, 200, 200, 400]);
        assert_eq!((restarts.next(began, long), restarts.count()), (None, 8));
    }
}
