//! A table as the process that commits holds it: sorted runs of changes, merged as they grow.
//!
//! A change costs what it costs to merge it now and then (each row is merged O(log n) times; a load's rows by all processors), and rows are
//! read in order by merging the runs. Rows stay in the batches they came in, without an allocation of their own; whoever is told of an
//! epoch's changes shares them.

use retally_core::contract::Table;
use retally_core::row::{Packed, RowBatch};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows with their differences, in order, in batches of bounded size.
pub type Run = Vec<Arc<RowBatch>>;

/// The rows of a table.
#[derive(Debug)]
pub struct TableState {
    table: Table,
    /// Each at least twice as long as the next.
    runs: Vec<Run>,
    /// The number of rows.
    rows: i64,
}

impl TableState {
    /// A table without rows.
    pub fn new(table: Table) -> TableState {
        TableState { table, runs: Vec::new(), rows: 0 }
    }

    /// What it is called, and its columns.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Applies the changes of an epoch, which may come in several sorted batches with rows in common.
    ///
    /// Returns the consolidated changes, in order.
    pub fn apply(&mut self, changes: Vec<RowBatch>) -> Run {
        let run = consolidated(changes);
        self.rows += run.iter().flat_map(|batch| batch.iter()).map(|(_, diff)| diff).sum::<i64>();
        if !run.is_empty() {
            self.runs.push(run.clone());
            self.merge_runs();
        }
        run
    }

    /// Merges the last runs until each is at least twice as long as the next.
    fn merge_runs(&mut self) {
        while let [.., before, last] = self.runs.as_slice() {
            if length(before) >= 2 * length(last) {
                return;
            }
            if let (Some(last), Some(before)) = (self.runs.pop(), self.runs.pop()) {
                let merged = merge(before, last);
                if !merged.is_empty() {
                    self.runs.push(merged);
                }
            }
        }
    }

    /// The rows that are there, in order. (`rejected`, which is about deliveries, may hold a row more than once.)
    ///
    /// # Panics
    /// When a row is there less than never: a bug of the dataflow.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        merged(&self.runs).flat_map(|(row, diff)| {
            let times = usize::try_from(diff).unwrap_or_else(|_| panic!("table {} holds the row {row:02x?} {diff} times", self.table.name));
            std::iter::repeat_n(row, times)
        })
    }

    /// The number of rows.
    pub fn len(&self) -> u64 {
        self.rows.unsigned_abs()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The changes of an epoch in order, each row once. They may come in several sorted batches with rows in common.
pub fn consolidated(changes: Vec<RowBatch>) -> Run {
    merged_all(changes.into_iter().map(|batch| vec![Arc::new(batch)]).collect())
}

/// The changes of several epochs as those of one.
pub fn merged_all(mut runs: Vec<Run>) -> Run {
    // Batches of the same worker follow one another; merging by pairs keeps this at n log n for any number of them.
    while runs.len() > 1 {
        let mut pairs = runs.into_iter();
        let mut merged = Vec::new();
        while let Some(left) = pairs.next() {
            merged.push(match pairs.next() {
                Some(right) => merge(left, right),
                None => left,
            });
        }
        runs = merged;
    }
    runs.pop().unwrap_or_default()
}

fn length(run: &Run) -> usize {
    run.iter().map(|batch| batch.len()).sum()
}

fn merge(left: Run, right: Run) -> Run {
    if left.len() + right.len() < 2 * CUT_BATCHES || ends_before(&left, &right) {
        return merge_part(left, right);
    }
    merge_by_threads(cuts(left, right))
}

fn merge_part(mut left: Run, mut right: Run) -> Run {
    // Runs that do not overlap are joined as they are, but for small batches where they meet.
    if ends_before(&left, &right) {
        let small = |batch: Option<&Arc<RowBatch>>| batch.is_some_and(|batch| batch.bytes() <= RowBatch::BYTES_MAX / 2);
        if small(left.last()) && small(right.first()) {
            let met = [vec![left.remove(left.len() - 1)], vec![right.remove(0)]];
            left.extend(packed(&met));
        }
        left.append(&mut right);
        return left;
    }
    packed(&[left, right])
}

/// Large runs are merged in parts of about twice this many batches, by all processors; what has been merged is given back.
const CUT_BATCHES: usize = 16;

/// Merges parts that follow one another.
fn merge_by_threads(parts: Vec<(Run, Run)>) -> Run {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len());
    let parts = Mutex::new(parts.into_iter().enumerate());
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).map(|(place, (left, right))| (place, merge_part(left, right))).collect();
    let mut merged: Vec<(usize, Run)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut merged: Vec<_> = work();
        for other in others {
            merged.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        merged
    });
    merged.sort_unstable_by_key(|(place, _)| *place);
    merged.into_iter().flat_map(|(_, run)| run).collect()
}

/// Cuts two runs at the same rows.
fn cuts(mut left: Run, mut right: Run) -> Vec<(Run, Run)> {
    let mut parts = Vec::new();
    // From the end, so that what is before stays where it is.
    loop {
        let longer = if left.len() < right.len() { &right } else { &left };
        let middle = longer.len().checked_sub(CUT_BATCHES).filter(|place| *place > 0).and_then(|place| longer.get(place)).map(Arc::clone);
        let Some((row, _)) = middle.as_ref().and_then(|batch| batch.get(0)) else { break };
        parts.push((cut_off(&mut left, row), cut_off(&mut right, row)));
    }
    parts.push((left, right));
    parts.reverse();
    parts
}

/// Takes the rows from `row` on out of a run.
fn cut_off(run: &mut Run, row: &[u8]) -> Run {
    let below = |(other, _): (&[u8], i64)| other < row;
    let mut rest = run.split_off(run.partition_point(|batch| batch.get(0).is_some_and(below)));
    if let Some(last) = run.pop() {
        let (mut before, mut behind) = (RowBatch::default(), RowBatch::default());
        last.iter().for_each(|(other, diff)| if other < row { before.push(other, diff) } else { behind.push(other, diff) });
        if behind.is_empty() {
            run.push(last);
        } else {
            run.push(Arc::new(before));
            rest.insert(0, Arc::new(behind));
        }
    }
    rest
}

/// Whether all rows of a run come before those of another; so they do where there are none.
fn ends_before(left: &Run, right: &Run) -> bool {
    let last = left.last().and_then(|batch| batch.get(batch.len().checked_sub(1)?));
    let first = right.first().and_then(|batch| batch.get(0));
    last.zip(first).is_none_or(|((last, _), (first, _))| last < first)
}

/// The rows of several runs as one, in full batches.
fn packed(runs: &[Run]) -> Run {
    let mut packed = Packed::default();
    merged(runs).for_each(|(row, diff)| packed.push(row, diff));
    packed.finish().into_iter().map(Arc::new).collect()
}

/// The rows of several runs in order, each once, with the sum of its differences where that is not 0.
fn merged(runs: &[Run]) -> impl Iterator<Item = (&[u8], i64)> {
    let mut heads: Vec<_> = runs.iter().map(|run| run.iter().flat_map(|batch| batch.iter()).peekable()).collect();
    std::iter::from_fn(move || {
        loop {
            let row = heads.iter_mut().filter_map(|head| head.peek().map(|(row, _)| *row)).min()?;
            let sum: i64 = heads.iter_mut().filter_map(|head| head.next_if(|(next, _)| *next == row)).map(|(_, diff)| diff).sum();
            if sum != 0 {
                return Some((row, sum));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use retally_core::row::{Row, batches};
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn equals_a_map(epochs in proptest::collection::vec(proptest::collection::vec(proptest::collection::btree_map(0u64..50, any::<bool>(), 0..20), 1..3), 1..12)) {
            let mut state = TableState::new(Table::rejected());
            let mut model: BTreeMap<u64, i64> = BTreeMap::new();
            for epoch in epochs {
                // Each worker's changes; together they make rows be there once or not at all.
                let mut before = model.clone();
                let mut sent = Vec::new();
                for worker in epoch {
                    let mut rows = Vec::new();
                    for (row, there) in worker {
                        let diff = i64::from(there) - model.get(&row).copied().unwrap_or(0);
                        *model.entry(row).or_insert(0) += diff;
                        rows.push((Row::default().uint(row), isize::try_from(diff).unwrap()));
                    }
                    sent.extend(batches(rows));
                }
                for batch in state.apply(sent) {
                    for (row, diff) in batch.iter() {
                        let row = u64::from_be_bytes(row.try_into().unwrap());
                        *before.entry(row).or_insert(0) += diff;
                    }
                }
                before.retain(|_, count| *count != 0);
                model.retain(|_, count| *count != 0);
                prop_assert_eq!(&before, &model);
                let rows: Vec<u64> = state.rows().map(|row| u64::from_be_bytes(row.try_into().unwrap())).collect();
                prop_assert!(rows.iter().eq(model.keys()));
                prop_assert_eq!(state.len(), rows.len() as u64);
            }
        }
    }

    /// Two workers' rows, some megabytes of them, in turn, in stretches, and some in common that cancel.
    #[test]
    fn large_runs_are_merged_in_parts() {
        let filling = "x".repeat(10_000);
        let row = |number: u64| Row::default().uint(number).text(&filling);
        let of = |worker: u64| {
            (0..12_000).filter(move |number| [number % 2, u64::from(number % 1_000 < 700)][(number / 4_000 % 2) as usize] == worker)
        };
        let common = |number: &u64| number.is_multiple_of(97);
        let mut sent = Vec::new();
        for worker in 0..2 {
            let others = (0..12_000).filter(|number| worker == 1 && common(number)).map(|number| (row(number), -1));
            sent.extend(batches(of(worker).map(|number| (row(number), 1)).chain(others).collect()));
        }
        assert!(sent.len() > 4 * CUT_BATCHES, "{} batches", sent.len());
        let mut state = TableState::new(Table::rejected());
        state.apply(sent);
        let rows: Vec<u64> = state.rows().map(|row| u64::from_be_bytes(*row.first_chunk().unwrap())).collect();
        let expected: Vec<u64> = (0..12_000).filter(|number| !common(number)).collect();
        assert!(rows == expected, "{} rows", rows.len());
        assert_eq!(state.len(), expected.len() as u64);
    }

    /// A batch an epoch, each behind the one before.
    #[test]
    fn rows_that_come_in_order_are_packed() {
        let mut state = TableState::new(Table::rejected());
        for row in 0..1_000 {
            state.apply(batches(vec![(Row::default().uint(row), 1)]));
        }
        let kept: usize = state.runs.iter().map(Vec::len).sum();
        assert!(kept <= 10, "{kept} batches for 8 kB");
        assert_eq!((state.len(), state.rows().count()), (1_000, 1_000));
    }
}
