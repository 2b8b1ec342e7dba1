//! What each day's rows were when the day was first known whole, from the changes that are kept.
//!
//! The first rows of a day are those that stood when it was over: before the epoch in which the table got its first row of a later day.
//! Where the day came in that epoch or later, as in a load of old files, they are those that it came with. So what grows while a day
//! lasts is no correction, and whatever moves afterwards is one: late events, retractions, replays.
//!
//! # Limits
//! Changes are kept for a while (`--keep-changes`), and those of an epoch of very many are not: of a day that was there before, only the
//! rows that changed since are known to have been others.

use retally_core::Epoch;
use retally_core::calendar::Day;
use retally_core::contract::Table;
use retally_core::row::{ColumnType, RowBatch, Value, values};
use std::collections::BTreeMap;

/// So many changes are read; of more, the last ones do not count.
pub const CHANGES_MAX: usize = 1_000_000;

/// The text of each column of a row's key.
type Key = Vec<String>;
type Rows = BTreeMap<Key, Vec<u8>>;

/// Follows the changes of a table, epoch by epoch.
#[derive(Debug)]
pub struct First<'t> {
    table: &'t Table,
    /// The place of the column of days.
    day: usize,
    /// The last day before this epoch.
    last: Option<Day>,
    /// Days that are not over, with their rows.
    open: BTreeMap<Day, Rows>,
    /// Days that are.
    over: BTreeMap<Day, Over>,
    /// The changes of this epoch.
    changes: BTreeMap<(Day, Key), Change>,
    epoch: Epoch,
    count: usize,
}

/// The first rows of a day.
#[derive(Debug, Default)]
struct Over {
    rows: Rows,
    /// Whether the day was followed from its beginning. Otherwise rows are known that have changed since.
    is_whole: bool,
}

/// What came of a row in an epoch.
#[derive(Debug, Default)]
struct Change {
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

impl<'t> First<'t> {
    /// Of a table whose rows have a day in this column.
    pub fn new(table: &'t Table, day: &str) -> Option<First<'t>> {
        let day = table.columns.iter().position(|column| column.name == day && column.kind == ColumnType::Day)?;
        let (open, over, changes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Some(First { table, day, last: None, open, over, changes, epoch: 0, count: 0 })
    }

    /// Takes a change of an epoch: the difference and the row; nothing where the table's changes in it are not kept.
    pub fn take(&mut self, epoch: Epoch, change: Option<(i64, &[u8])>) {
        if epoch != self.epoch {
            self.close();
            self.epoch = epoch;
        }
        let Some((diff, row)) = change else {
            // What was before can't be told from what comes now.
            (self.last, self.open, self.over) = (None, BTreeMap::new(), BTreeMap::new());
            return;
        };
        self.count += 1;
        let (Some((day, key)), true) = (self.key(row), self.count <= CHANGES_MAX) else { return };
        let change = self.changes.entry((day, key)).or_default();
        *(if diff > 0 { &mut change.new } else { &mut change.old }) = Some(row.into());
    }

    fn key(&self, row: &[u8]) -> Option<(Day, Key)> {
        let cells: Vec<Value> = values(&self.table.columns, row).collect();
        let Some(Value::Day(day)) = cells.get(self.day) else { return None };
        Some((*day, cells.iter().take(self.table.key_columns).map(ToString::to_string).collect()))
    }

    /// Ends an epoch.
    fn close(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let came = changes.iter().filter(|(_, change)| change.new.is_some()).map(|((day, _), _)| *day).max();
        self.last = self.last.max(came);
        let Some(last) = self.last else { return };
        // Days that it has ended are as they were before it.
        let still_open = self.open.split_off(&last);
        for (day, rows) in std::mem::replace(&mut self.open, still_open) {
            self.over.insert(day, Over { rows, is_whole: true });
        }
        let mut came_late: BTreeMap<Day, Over> = BTreeMap::new();
        for ((day, key), Change { old, new }) in changes {
            if let Some(over) = self.over.get_mut(&day) {
                if let (false, Some(old)) = (over.is_whole, old) {
                    over.rows.entry(key).or_insert(old);
                }
            } else if !self.open.contains_key(&day) && (old.is_some() || came_late.get(&day).is_some_and(|over| !over.is_whole)) {
                // It was there before what is kept.
                let over = came_late.entry(day).or_default();
                over.is_whole = false;
                over.rows.extend(old.map(|old| (key, old)));
            } else if day < last && !self.open.contains_key(&day) {
                let over = came_late.entry(day).or_insert_with(|| Over { is_whole: true, ..Over::default() });
                over.rows.extend(new.map(|new| (key, new)));
            } else {
                let rows = self.open.entry(day).or_default();
                match new {
                    Some(new) => drop(rows.insert(key, new)),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        self.over.append(&mut came_late);
    }

    /// The first rows of all days, given the rows as they are now.
    pub fn finish<'r>(mut self, now: impl Iterator<Item = &'r [u8]>) -> Vec<RowBatch> {
        self.close();
        let mut batches = Batches::default();
        for row in now {
            let over = self.key(row).and_then(|(day, key)| Some((self.over.get(&day)?, key)));
            // Those of days that are whole follow.
            if over.is_none_or(|(over, key)| !over.is_whole && !over.rows.contains_key(&key)) {
                batches.push(row);
            }
        }
        self.over.values().flat_map(|over| over.rows.values()).for_each(|row| batches.push(row));
        batches.finish()
    }
}

#[derive(Default)]
struct Batches {
    full: Vec<RowBatch>,
    last: RowBatch,
}

impl Batches {
    fn push(&mut self, row: &[u8]) {
        if self.last.is_full_for(row.len()) {
            self.full.push(std::mem::take(&mut self.last));
        }
        self.last.push(row, 1);
    }

    fn finish(mut self) -> Vec<RowBatch> {
        self.full.push(self.last);
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::row::{Column, Row};

    fn table() -> Table {
        let columns = vec![
            Column::new("day", ColumnType::Day, "the day"),
            Column::new("size", ColumnType::UInt, "which"),
            Column::new("devices", ColumnType::UInt, "how many"),
        ];
        Table::new("t", "a table", 2, columns)
    }

    fn row((day, size, devices): (i32, u64, u64)) -> Vec<u8> {
        Row::default().day(Day(day)).uint(size).uint(devices).0
    }

    /// Epochs of changes (the difference, and day, size and devices), the rows that are there in the end, and the first ones.
    fn check(epochs: &[&[(i64, (i32, u64, u64))]], now: &[(i32, u64, u64)], expect: &[(i32, u64, u64)]) {
        let table = table();
        let mut first = First::new(&table, "day").unwrap();
        for (epoch, changes) in (1..).zip(epochs) {
            changes.iter().for_each(|(diff, cells)| first.take(epoch, Some((*diff, &row(*cells)))));
        }
        let now: Vec<Vec<u8>> = now.iter().map(|cells| row(*cells)).collect();
        let mut found: Vec<Vec<u8>> =
            first.finish(now.iter().map(Vec::as_slice)).iter().flat_map(|batch| batch.iter()).map(|(row, _)| row.to_vec()).collect();
        found.sort_unstable();
        assert_eq!(found, expect.iter().map(|cells| row(*cells)).collect::<Vec<_>>());
    }

    #[test]
    fn a_day_counts_as_it_stood_when_it_was_over() {
        // It grows while it lasts, in either order of what goes and comes; then day 2 comes, and late events of day 1 with it and behind
        // it.
        let grows: &[&[_]] = &[
            &[(1, (1, 0, 5))],
            &[(-1, (1, 0, 5)), (1, (1, 0, 7))],
            &[(1, (1, 0, 6)), (-1, (1, 0, 7))],
            &[(-1, (1, 0, 6)), (1, (1, 0, 8)), (1, (2, 0, 1))],
            &[(-1, (1, 0, 8)), (1, (1, 0, 9)), (1, (1, 3, 4))],
        ];
        check(grows, &[(1, 0, 9), (1, 3, 4), (2, 0, 1)], &[(1, 0, 6), (2, 0, 1)]);
    }

    #[test]
    fn old_days_count_as_they_came() {
        let loaded: &[&[_]] = &[&[(1, (1, 0, 5)), (1, (2, 0, 6)), (1, (3, 0, 7))], &[(-1, (1, 0, 5)), (-1, (2, 0, 6)), (1, (2, 0, 9))]];
        check(loaded, &[(2, 0, 9), (3, 0, 7)], &[(1, 0, 5), (2, 0, 6), (3, 0, 7)]);
    }

    #[test]
    fn of_days_before_what_is_kept_rows_that_changed_are_known() {
        let changed: &[&[_]] = &[&[(-1, (1, 0, 5)), (1, (1, 0, 6))], &[(-1, (1, 0, 6)), (1, (1, 0, 8))]];
        check(changed, &[(1, 0, 8), (1, 1, 2), (2, 0, 3)], &[(1, 0, 5), (1, 1, 2), (2, 0, 3)]);
    }

    #[test]
    fn a_gap_in_what_is_kept_begins_anew() {
        let table = table();
        let mut first = First::new(&table, "day").unwrap();
        first.take(1, Some((1, &row((1, 0, 5)))));
        first.take(2, Some((1, &row((2, 0, 5)))));
        first.take(3, None);
        first.take(4, Some((-1, &row((1, 0, 7)))));
        first.take(4, Some((1, &row((1, 0, 8)))));
        let now = [row((1, 0, 8)), row((2, 0, 6))];
        let rows = first.finish(now.iter().map(Vec::as_slice));
        let mut rows: Vec<Vec<u8>> = rows.iter().flat_map(|batch| batch.iter()).map(|(row, _)| row.to_vec()).collect();
        rows.sort_unstable();
        assert_eq!(rows, [row((1, 0, 7)), row((2, 0, 6))]);
        assert!(First::new(&table, "size").is_none());
    }
}
