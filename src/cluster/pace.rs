//! When what is on its way is gathered, instead of being sent piece by piece.
//!
//! Each write wakes a thread at both ends, and stops workers for it, which costs more than the bytes do. While many records are exchanged,
//! pieces of some KB follow one another without an end. Then the thread that writes waits a moment after each, and finds more the next
//! time. What is said about progress is shorter, and a small batch is over before: neither waits.

use std::time::{Duration, Instant};

/// What is written at a time while records are exchanged, at least.
const PIECE_BYTES: usize = 4 << 10;
/// What is written at a time has been gathered: half of timely's buffer.
const GATHERED_BYTES: usize = 32 << 10;
/// So many pieces in a row are the beginning of many.
const ROW_MIN: u32 = 8;
/// What comes later than this is another row.
const ROW_GAP: Duration = Duration::from_millis(5);
/// How long more is gathered. With this, threads change a third as often in a load on two processes.
const GATHER: Duration = Duration::from_micros(200);

/// The pace of a connection.
#[derive(Debug, Default)]
pub struct Pace {
    row: u32,
    last: Option<Instant>,
}

impl Pace {
    /// How long to wait after so many bytes were written.
    pub fn after(&mut self, written: usize, now: Instant) -> Duration {
        if written < PIECE_BYTES {
            return Duration::ZERO;
        }
        let is_row = self.last.replace(now).is_some_and(|last| now.saturating_duration_since(last) < ROW_GAP);
        self.row = if is_row { self.row.saturating_add(1) } else { 0 };
        if self.row >= ROW_MIN && written < GATHERED_BYTES { GATHER } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many of these writes one waits, a millisecond after the other.
    fn waits(writes: &[usize]) -> usize {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let waits = |(number, written): (usize, &usize)| pace.after(*written, began + Duration::from_millis(number as u64));
        writes.iter().enumerate().map(waits).filter(|wait| !wait.is_zero()).count()
    }

    #[test]
    fn many_pieces_in_a_row_are_gathered_and_nothing_else() {
        assert_eq!(waits(&[8 << 10; 20]), 12);
        assert_eq!(waits(&[8 << 10; 8]), 0, "a small batch");
        assert_eq!(waits(&[200; 100]), 0, "progress");
        assert_eq!(waits(&[64 << 10; 100]), 0, "gathered");
        // Progress between pieces is none of the row, and does not end it.
        assert_eq!(waits(&[8 << 10, 200].repeat(10)), 2);
        // After a rest, another row begins.
        let rest = [[8 << 10; 8].as_slice(), &[200; 10], &[8 << 10; 8]].concat();
        assert_eq!(waits(&rest), 0);
    }
}
