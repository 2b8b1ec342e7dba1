//! Whether what is written to another process arrives there.
//!
//! Signs of life come on a connection of their own, so a connection of workers could stand still beside them for ever: packets of one
//! connection may be dropped on their way, and something between the hosts may take bytes and keep them. So each process counts what it
//! reads from workers of the others, and reports that with each sign of life. Where bytes are under way, and none of them arrives for some
//! time, the connection is taken for lost.
//!
//! This does not take a slow process for a lost one: what comes from workers is read by a thread that does nothing else, and is queued in
//! memory, however busy the workers are. Nor a slow network: each byte that arrives counts. Time in which no signs of life come does not
//! count either, so a connection that was cut as a whole may find its way again.

use super::messages::Passed;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a process has sent and received over all its connections of workers, and when it heard of each of the others.
#[derive(Debug, Default)]
pub struct Totals {
    sent: Mutex<Sent>,
    received: AtomicU64,
    heard: Mutex<BTreeMap<usize, Instant>>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes.
    pub bytes: u64,
    /// In so many writes.
    pub writes: u64,
    /// Messages that begin in them.
    pub messages: u64,
    /// Messages for all workers of a process, where it has several: what is said about progress.
    pub progress: u64,
    /// The bytes of those.
    pub progress_bytes: u64,
}

impl Totals {
    /// What was sent until now.
    pub fn sent(&self) -> Sent {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes were received until now.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// A process gave a sign of life at this time.
    pub fn hear(&self, process: usize, heard: Instant) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(process, heard);
    }

    /// For how long each of the others has given no sign of life.
    pub fn silent(&self, now: Instant) -> Vec<(usize, Duration)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(process, heard)| (*process, now.saturating_duration_since(*heard))).collect()
    }

    fn add(&self, bytes: usize, passed: Passed) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.bytes += bytes as u64;
        sent.writes += 1;
        sent.messages += passed.count;
        sent.progress += passed.to_several;
        sent.progress_bytes += passed.to_several_bytes;
    }
}

/// The bytes of a connection of workers, as its threads count them.
#[derive(Debug, Default)]
pub struct Traffic {
    totals: Arc<Totals>,
    written: AtomicU64,
    read: AtomicU64,
    is_read: AtomicBool,
}

impl Traffic {
    /// That of a connection, which adds to what the process has sent.
    pub fn of(totals: &Arc<Totals>) -> Traffic {
        Traffic { totals: Arc::clone(totals), ..Traffic::default() }
    }

    /// So many more were written, in which these messages begin.
    pub fn wrote(&self, bytes: usize, passed: Passed) {
        self.totals.add(bytes, passed);
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// From now on, all that comes is read.
    pub fn reads(&self) {
        if !self.is_read.load(Ordering::Relaxed) {
            self.is_read.store(true, Ordering::Relaxed);
        }
    }

    /// So many more were read.
    pub fn has_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        self.totals.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes were written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many were read, once that has begun: workers may not be there yet.
    pub fn read(&self) -> Option<u64> {
        self.is_read.load(Ordering::Relaxed).then(|| self.read.load(Ordering::Relaxed))
    }
}

/// What is known of the bytes that are on their way to another process.
#[derive(Debug)]
pub struct Delivery {
    arrived: Option<u64>,
    /// When it was last so that some had arrived, or none was under way.
    moved: Instant,
}

impl Delivery {
    /// Nothing was sent.
    pub fn new(now: Instant) -> Delivery {
        Delivery { arrived: None, moved: now }
    }

    /// The other end has said how much has arrived.
    pub fn hear(&mut self, arrived: Option<u64>, now: Instant) {
        if arrived.is_none() || arrived > self.arrived {
            self.moved = now;
        }
        self.arrived = arrived;
    }

    /// Time that does not count.
    pub fn excuse(&mut self, gap: Duration) {
        self.moved += gap;
    }

    /// How long bytes have been under way of which none arrived, where so many were written.
    pub fn stalled(&mut self, written: u64, now: Instant) -> Duration {
        if self.arrived.is_none_or(|arrived| arrived >= written) {
            self.moved = now;
        }
        now.saturating_duration_since(self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is looked at, at each second: how much has arrived, where that is said, and how much was written.
    fn stalled(seconds: &[(Option<u64>, u64)]) -> Vec<u64> {
        let began = Instant::now();
        let mut delivery = Delivery::new(began);
        let at = |second: usize| began + Duration::from_secs(second as u64);
        let look = |(second, (arrived, written)): (usize, &(Option<u64>, u64))| {
            delivery.hear(*arrived, at(second));
            delivery.stalled(*written, at(second)).as_secs()
        };
        seconds.iter().enumerate().map(look).collect()
    }

    #[test]
    fn bytes_that_do_not_arrive_stand_still_and_slow_ones_do_not() {
        let none = None;
        for (seconds, expected) in [
            // Nobody reads yet.
            (vec![(none, 0), (none, 9), (none, 9), (Some(0), 9), (Some(0), 9)], vec![0, 0, 0, 0, 1]),
            // All has arrived, or is said to before it is counted here.
            (vec![(Some(0), 0), (Some(5), 5), (Some(5), 5), (Some(7), 5)], vec![0, 0, 0, 0]),
            // Slow, and then not at all.
            (vec![(Some(0), 9), (Some(1), 9), (Some(2), 90), (Some(2), 90), (Some(2), 900), (Some(3), 900)], vec![0, 0, 0, 1, 2, 0]),
            // After a rest, time counts from what is written then.
            (vec![(Some(4), 4), (Some(4), 4), (Some(4), 4), (Some(4), 5), (Some(4), 5)], vec![0, 0, 0, 1, 2]),
        ] {
            assert_eq!(stalled(&seconds), expected, "{seconds:?}");
        }
    }

    #[test]
    fn a_pause_is_excused() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let mut delivery = Delivery::new(began);
        delivery.hear(Some(0), began);
        assert_eq!(delivery.stalled(1, began + second * 4), second * 4);
        delivery.excuse(second * 3);
        assert_eq!(delivery.stalled(1, began + second * 4), second);
    }

    #[test]
    fn nothing_is_said_of_a_connection_that_nobody_reads() {
        let totals = Arc::<Totals>::default();
        let traffic = Traffic::of(&totals);
        traffic.wrote(3, Passed { count: 1, ..Passed::default() });
        assert_eq!(totals.sent(), Sent { bytes: 3, writes: 1, messages: 1, ..Sent::default() });
        assert_eq!((traffic.written(), traffic.read()), (3, None));
        traffic.reads();
        traffic.has_read(2);
        assert_eq!((traffic.written(), traffic.read()), (3, Some(2)));
        assert_eq!(totals.received(), 2);
    }
}
