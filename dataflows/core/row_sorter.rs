//! Rows of an epoch, sorted and consolidated: many of them in parts that lie in the cache, which are merged in the end.
//!
//! A part that is sorted is packed, so that what waits for the end of a load takes little more than its bytes.

use crate::row::{Packed, Row, RowBatch, batches};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// A part is sorted when it has this many rows.
const PART: usize = if cfg!(test) { 8 } else { 1 << 16 };

/// Rows that come in any order.
#[derive(Default)]
pub struct RowSorter {
    part: Vec<(Row, isize)>,
    sorted: Vec<Vec<RowBatch>>,
}

impl RowSorter {
    /// Adds a row; `finish` has the last word about rows before they are sorted.
    pub fn push(&mut self, row: Row, diff: isize, finish: &impl Fn(&mut [(Row, isize)])) {
        self.part.push((row, diff));
        if self.part.len() >= PART {
            self.sort_part(finish);
        }
    }

    fn sort_part(&mut self, finish: &impl Fn(&mut [(Row, isize)])) {
        let mut part = std::mem::take(&mut self.part);
        finish(&mut part);
        self.sorted.push(batches(part));
    }

    /// All rows in order, each once, with the sum of its differences where that is not 0.
    pub fn sorted(mut self, finish: &impl Fn(&mut [(Row, isize)])) -> Vec<RowBatch> {
        if !self.part.is_empty() {
            self.sort_part(finish);
        }
        match self.sorted.len() {
            0 | 1 => self.sorted.pop().unwrap_or_default(),
            _ => merged(self.sorted),
        }
    }
}

/// Rows that are sorted, of which one is the next.
struct Cursor {
    batches: VecDeque<RowBatch>,
    place: usize,
}

impl Cursor {
    fn row(&self) -> Option<(&[u8], i64)> {
        self.batches.front()?.get(self.place)
    }

    /// Goes to the next row; a batch that has been read is given back.
    fn advance(&mut self) {
        self.place += 1;
        if self.batches.front().is_some_and(|batch| batch.len() <= self.place) {
            self.batches.pop_front();
            self.place = 0;
        }
    }
}

/// Cursors as a heap: the one with the least row is the first, and those at their end are the last.
struct Heap(Vec<Cursor>);

impl Heap {
    fn new(runs: Vec<Vec<RowBatch>>) -> Heap {
        let mut heap = Heap(runs.into_iter().map(|batches| Cursor { batches: batches.into(), place: 0 }).collect());
        (0..heap.0.len() / 2).rev().for_each(|place| heap.sink(place));
        heap
    }

    fn order(&self, left: usize, right: usize) -> Ordering {
        let row = |place: usize| self.0.get(place).and_then(Cursor::row).map(|(row, _)| row);
        match (row(left), row(right)) {
            (Some(left), Some(right)) => left.cmp(right),
            (left, right) => right.is_some().cmp(&left.is_some()),
        }
    }

    /// Moves a cursor down until none below it is less.
    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= self.0.len() {
                return;
            }
            let least = if right < self.0.len() && self.order(right, left).is_lt() { right } else { left };
            if self.order(least, place).is_ge() {
                return;
            }
            self.0.swap(place, least);
            place = least;
        }
    }

    fn first(&self) -> Option<(&[u8], i64)> {
        self.0.first()?.row()
    }

    fn advance(&mut self) {
        if let Some(first) = self.0.first_mut() {
            first.advance();
        }
        self.sink(0);
    }
}

fn merged(runs: Vec<Vec<RowBatch>>) -> Vec<RowBatch> {
    let mut heap = Heap::new(runs);
    let (mut packed, mut row) = (Packed::default(), Vec::new());
    while let Some((first, mut sum)) = heap.first() {
        row.clear();
        row.extend_from_slice(first);
        heap.advance();
        while let Some((_, more)) = heap.first().filter(|(next, _)| *next == row) {
            sum += more;
            heap.advance();
        }
        if sum != 0 {
            packed.push(&row, sum);
        }
    }
    packed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn rows_come_in_order_each_once(updates in proptest::collection::vec((0u64..60, -2isize..3), 0..200)) {
            let mut sorter = RowSorter::default();
            let mut sums: BTreeMap<Row, i64> = BTreeMap::new();
            for (number, diff) in updates {
                let row = || Row::with_capacity(8).uint(number);
                sorter.push(row(), diff, &|_| {});
                *sums.entry(row()).or_default() += diff as i64;
            }
            sums.retain(|_, sum| *sum != 0);
            let sorted = sorter.sorted(&|_| {});
            let told: Vec<(Vec<u8>, i64)> = sorted.iter().flat_map(RowBatch::iter).map(|(row, diff)| (row.to_vec(), diff)).collect();
            prop_assert_eq!(told, sums.into_iter().map(|(row, sum)| (row.0.to_vec(), sum)).collect::<Vec<_>>());
        }
    }
}
