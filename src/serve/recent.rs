//! The changes of the last epochs, as they are sent to those who follow them. Who falls further behind reads them from the database.

use crate::sinks::live::Changes;
use axum::body::Bytes;
use retally_core::Epoch;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

/// So many bytes of changes of a dataflow are kept in memory.
const BYTES_MAX: usize = 32 << 20;
/// And so many epochs.
const EPOCHS_MAX: usize = 4_096;

/// An epoch of a dataflow, as events.
#[derive(Debug)]
pub struct EpochEvents {
    /// The epoch.
    pub epoch: Epoch,
    /// The events of each table that changed.
    pub tables: Vec<(String, Bytes)>,
}

impl EpochEvents {
    fn bytes(&self) -> usize {
        self.tables.iter().map(|(_, events)| events.len()).sum()
    }
}

/// The last epochs of a dataflow.
#[derive(Debug, Default)]
pub struct Recent {
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    epochs: VecDeque<Arc<EpochEvents>>,
    bytes: usize,
}

impl Recent {
    /// Adds an epoch, which follows the one before.
    pub fn add(&self, events: EpochEvents) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += events.bytes();
        kept.epochs.push_back(Arc::new(events));
        while kept.bytes > BYTES_MAX || kept.epochs.len() > EPOCHS_MAX {
            let Some(oldest) = kept.epochs.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
    }

    /// The epochs that follow this one, up to another, at most so many; nothing where the first is not here any more.
    pub fn after(&self, epoch: Epoch, until: Epoch, count_max: usize) -> Option<Vec<Arc<EpochEvents>>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let first = kept.epochs.front()?.epoch;
        let place = usize::try_from((epoch + 1).checked_sub(first)?).ok()?;
        let following = kept.epochs.iter().skip(place).take(count_max);
        Some(following.take_while(|events| events.epoch <= until).cloned().collect())
    }
}

/// The events of a table's changes in an epoch.
pub fn events(dataflow: &str, epoch: Epoch, table: &str, changes: &Changes) -> Bytes {
    let mut text = String::new();
    match changes {
        Changes::Reset => reset(&mut text, dataflow, epoch, table),
        Changes::Rows(rows) => rows.iter().for_each(|(diff, row)| change(&mut text, dataflow, epoch, table, *diff, row)),
    }
    text.into()
}

/// A row that came or went.
pub fn change(text: &mut String, dataflow: &str, epoch: Epoch, table: &str, diff: i64, row: &str) {
    // Names are ours, and a row is JSON on one line. Writing to a text can't fail.
    let data = format_args!("{{\"dataflow\":\"{dataflow}\",\"epoch\":{epoch},\"table\":\"{table}\",\"row\":{row},\"diff\":{diff}}}");
    writeln!(text, "event: change\ndata: {data}\n").ok();
}

/// A table that must be read anew.
pub fn reset(text: &mut String, dataflow: &str, epoch: Epoch, table: &str) {
    writeln!(text, "event: reset\ndata: {{\"dataflow\":\"{dataflow}\",\"epoch\":{epoch},\"table\":\"{table}\"}}\n").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(epoch: Epoch, bytes: usize) -> EpochEvents {
        EpochEvents { epoch, tables: vec![("t".into(), vec![0; bytes].into())] }
    }

    fn epochs(recent: &Recent, after: Epoch, until: Epoch) -> Option<Vec<Epoch>> {
        Some(recent.after(after, until, 100)?.iter().map(|events| events.epoch).collect())
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
        recent.add(of(9, BYTES_MAX - 5));
        assert_eq!((epochs(&recent, 7, 9), epochs(&recent, 8, 9)), (None, Some(vec![9])));
        (10..=10 + EPOCHS_MAX as u64).for_each(|epoch| recent.add(of(epoch, 0)));
        assert_eq!(epochs(&recent, 9, 11), None);
    }
}
