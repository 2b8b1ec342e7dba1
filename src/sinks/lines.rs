//! Rows as lines of text, made by all processors and written in order.

use crate::tables::TableState;
use retally_core::row::RowBatch;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows whose text is made at once have about this many bytes.
const CHUNK_BYTES: usize = if cfg!(test) { 64 } else { 1 << 16 };
/// A table of fewer rows than this has no second thread, one of twice as many no third.
const THREAD_ROWS: u64 = if cfg!(test) { 4 } else { 1 << 12 };

/// Rows that have not been taken, and where it is said whose text comes next.
struct Rest<R> {
    rows: R,
    order: SyncSender<mpsc::Receiver<Vec<u8>>>,
}

impl<'a, R: Iterator<Item = &'a [u8]>> Rest<R> {
    /// The next rows, and where their text is awaited. Nothing when there are no more, or when nobody awaits them.
    fn take(&mut self) -> Option<(RowBatch, SyncSender<Vec<u8>>)> {
        let mut chunk = RowBatch::default();
        while chunk.bytes() < CHUNK_BYTES
            && let Some(row) = self.rows.next()
        {
            chunk.push(row, 1);
        }
        let (text, made) = mpsc::sync_channel(1);
        (!chunk.is_empty() && self.order.send(made).is_ok()).then_some((chunk, text))
    }
}

/// Writes each row as what `line` appends for it.
pub(super) fn write(state: &TableState, out: &mut dyn Write, line: impl Fn(&mut Vec<u8>, &[u8]) + Sync) -> io::Result<()> {
    let parts = usize::try_from(1 + state.len() / THREAD_ROWS).unwrap_or(usize::MAX);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(parts);
    let (order, coming) = mpsc::sync_channel(2 * threads);
    let rest = Arc::new(Mutex::new(Rest { rows: state.rows(), order }));
    let make = |rest: Arc<Mutex<Rest<_>>>| {
        let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        while let Some((chunk, text)) = next() {
            let mut lines = Vec::with_capacity(2 * CHUNK_BYTES);
            chunk.iter().for_each(|(row, _)| line(&mut lines, row));
            // When writing has failed, nobody awaits it.
            let _ = text.send(lines);
        }
    };
    std::thread::scope(|scope| {
        let makers: Vec<_> = std::iter::repeat_n(rest, threads).map(|rest| scope.spawn(|| make(rest))).collect();
        // A text that does not come is that of a maker that panicked.
        let written = coming.into_iter().flatten().try_for_each(|text| out.write_all(&text));
        makers.into_iter().for_each(|maker| maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        written
    })
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::state;
    use super::*;
    use retally_core::row::{Column, ColumnType, Row};

    fn numbers(rows: u64) -> TableState {
        let mut state = state(
            vec![Column::new("number", ColumnType::UInt, "")],
            (0..rows).filter(|row| row % 3 > 0).map(|row| Row::default().uint(row)),
        );
        // As a second run.
        state.apply((0..rows).step_by(3).flat_map(|row| retally_core::row::batches(vec![(Row::default().uint(row), 1)])).collect());
        state
    }

    fn number(lines: &mut Vec<u8>, row: &[u8]) {
        lines.extend(format!("{}\n", u64::from_be_bytes(row.try_into().unwrap())).bytes());
    }

    #[test]
    fn lines_come_in_order() {
        for rows in [0, 1, 2, 7, 8, 9, 10_000] {
            let mut out = Vec::new();
            write(&numbers(rows), &mut out, number).unwrap();
            assert!(String::from_utf8(out).unwrap().lines().map(|line| line.parse::<u64>().unwrap()).eq(0..rows), "{rows} rows");
        }
    }

    #[test]
    fn a_failure_ends_all_makers() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write(&numbers(10_000), &mut full, number).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_maker_that_panics_is_no_end_of_a_table() {
        let line = |lines: &mut Vec<u8>, row: &[u8]| if row.ends_with(&[200]) { panic!("made up") } else { number(lines, row) };
        let written = std::panic::catch_unwind(|| write(&numbers(10_000), &mut Vec::new(), line));
        assert_eq!(written.unwrap_err().downcast_ref(), Some(&"made up"));
    }
}
