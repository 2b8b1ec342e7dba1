//! The changes of the last epochs, as they are sent to those who follow them. Who falls further behind reads them from the database.

use crate::sinks::live::changes::{self, CHANGES_KEPT_MAX};
use crate::tables::Run;
use axum::body::Bytes;
use retally_core::Epoch;
use retally_core::contract::Table;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// So many bytes of rows of a dataflow are kept in memory.
const BYTES_MAX: usize = 16 << 20;
/// And so many epochs.
const EPOCHS_MAX: usize = 4_096;

/// An epoch of a dataflow.
#[derive(Debug)]
pub struct EpochChanges {
    /// The epoch.
    pub epoch: Epoch,
    tables: Vec<TableChanges>,
}

/// What changed of a table in an epoch.
#[derive(Debug)]
struct TableChanges {
    name: &'static str,
    /// Nothing where there is too much.
    run: Option<Run>,
    /// As events, since somebody asked.
    events: OnceLock<Bytes>,
}

impl EpochChanges {
    /// An epoch with changes of some tables.
    pub fn new<'r>(epoch: Epoch, changed: impl Iterator<Item = (&'static str, &'r Run)>) -> EpochChanges {
        let table = |(name, run): (&'static str, &Run)| {
            let run = Some(run).filter(|run| changes::count(run) <= CHANGES_KEPT_MAX).cloned();
            TableChanges { name, run, events: OnceLock::new() }
        };
        EpochChanges { epoch, tables: changed.map(table).collect() }
    }

    /// The events of a table; nothing where it did not change.
    pub fn events(&self, dataflow: &str, table: &Table) -> Option<Bytes> {
        let TableChanges { name, run, events } = self.tables.iter().find(|changed| changed.name == table.name)?;
        let make = || {
            let mut text = String::new();
            match run {
                None => reset(&mut text, dataflow, self.epoch, name),
                Some(run) => {
                    let rows = run.iter().flat_map(|batch| batch.iter());
                    rows.for_each(|(row, diff)| change(&mut text, dataflow, self.epoch, table, diff, row));
                }
            }
            text.into()
        };
        Some(events.get_or_init(make).clone())
    }

    fn bytes(&self) -> usize {
        self.tables.iter().filter_map(|changed| changed.run.as_ref()).flatten().map(|batch| batch.bytes()).sum()
    }
}

/// The last epochs of a dataflow.
#[derive(Debug, Default)]
pub struct Recent {
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    epochs: VecDeque<Arc<EpochChanges>>,
    bytes: usize,
}

impl Recent {
    /// Adds an epoch, which follows the one before.
    pub fn add(&self, changes: EpochChanges) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += changes.bytes();
        kept.epochs.push_back(Arc::new(changes));
        while kept.bytes > BYTES_MAX || kept.epochs.len() > EPOCHS_MAX {
            let Some(oldest) = kept.epochs.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
    }

    /// The epochs that follow this one, up to another, at most so many; nothing where the first is not here any more.
    pub fn after(&self, epoch: Epoch, until: Epoch, count_max: usize) -> Option<Vec<Arc<EpochChanges>>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let first = kept.epochs.front()?.epoch;
        let place = usize::try_from((epoch + 1).checked_sub(first)?).ok()?;
        let following = kept.epochs.iter().skip(place).take(count_max);
        Some(following.take_while(|events| events.epoch <= until).cloned().collect())
    }
}

/// A row that came or went.
pub fn change(text: &mut String, dataflow: &str, epoch: Epoch, table: &Table, diff: i64, row: &[u8]) {
    // Names are ours, and a row is JSON on one line. Writing to a text can't fail.
    let (name, row) = (table.name, changes::json(table, row));
    let data = format_args!("{{\"dataflow\":\"{dataflow}\",\"epoch\":{epoch},\"table\":\"{name}\",\"row\":{row},\"diff\":{diff}}}");
    writeln!(text, "event: change\ndata: {data}\n").ok();
}

/// A table that must be read again.
pub fn reset(text: &mut String, dataflow: &str, epoch: Epoch, table: &str) {
    writeln!(text, "event: reset\ndata: {{\"dataflow\":\"{dataflow}\",\"epoch\":{epoch},\"table\":\"{table}\"}}\n").ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::consolidated;
    use retally_core::row::{Row, batches};

    fn of(epoch: Epoch, bytes: usize) -> EpochChanges {
        let run = consolidated(batches(vec![(Row::default().text(&"x".repeat(bytes)), 1)]));
        EpochChanges::new(epoch, std::iter::once(("t", &run)))
    }

    fn epochs(recent: &Recent, after: Epoch, until: Epoch) -> Option<Vec<Epoch>> {
        Some(recent.after(after, until, 100)?.iter().map(|changes| changes.epoch).collect())
    }

    #[test]
    fn who_is_too_far_behind_finds_nothing() {
        let recent = Recent::default();
        assert_eq!(epochs(&recent, 0, 9), None);
        (5..=8).for_each(|epoch| recent.add(of(epoch, 10)));
        assert_eq!(epochs(&recent, 3, 9), None);
        assert_eq!(epochs(&recent, 4, 9), Some(vec![5, 6, 7, 8]));
        assert_eq!(epochs(&recent, 6, 7), Some(vec![7]));
        assert_eq!(epochs(&recent, 8, 9), Some(vec![]));
        recent.add(of(9, BYTES_MAX - 30));
        assert_eq!((epochs(&recent, 5, 9), epochs(&recent, 8, 9)), (None, Some(vec![9])));
        (10..=10 + EPOCHS_MAX as u64).for_each(|epoch| recent.add(of(epoch, 0)));
        assert_eq!(epochs(&recent, 9, 11), None);
    }
}
