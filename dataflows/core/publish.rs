//! The dataflow's way out: rows of tables, consolidated by epoch and gathered by the worker that commits.

use crate::gather::gather;
use crate::row::{Row, RowBatch};
use crate::{Collection, Epoch, VecStream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::generic::Operator;

/// Changes of a table in an epoch; one worker's, sorted and consolidated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The table's place among the published ones.
    pub table: usize,
    /// The epoch.
    pub epoch: Epoch,
    /// The rows that came or went.
    pub rows: RowBatch,
}

/// The tables of a dataflow under construction.
pub struct Outputs<'s> {
    wanted: BTreeSet<String>,
    streams: Vec<(String, VecStream<'s, Published>)>,
}

impl<'s> Outputs<'s> {
    /// Outputs of which the `wanted` tables are built.
    pub fn new(wanted: BTreeSet<String>) -> Outputs<'s> {
        Outputs { wanted, streams: Vec::new() }
    }

    /// Whether a table is to be built.
    pub fn wants(&self, table: &str) -> bool {
        self.wanted.contains(table)
    }

    /// Whether any of these tables is to be built.
    pub fn wants_any(&self, tables: &[&str]) -> bool {
        tables.iter().any(|table| self.wants(table))
    }

    /// Publishes the rows of a table, when it is wanted.
    pub fn table(&mut self, table: &str, rows: Collection<'s, Row>) {
        if self.wants(table) {
            let place = self.streams.len();
            self.streams.push((table.into(), consolidated(rows, table, place)));
        }
    }

    /// The names of the published tables, by their places.
    pub fn names(&self) -> Vec<String> {
        self.streams.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Gathers the changes of all tables: see [`gather`]. For each epoch and table they are consolidated batches by worker, so a row may be in
    /// several of them.
    ///
    /// # Panics
    /// When a wanted table was not published, which is a bug of the dataflow.
    pub fn gather(self, scope: Scope<'s, Epoch>, take: impl FnMut(Epoch, &mut Vec<Published>) + 'static) -> VecStream<'s, ()> {
        let (names, streams): (Vec<_>, Vec<_>) = self.streams.into_iter().unzip();
        let missing: Vec<_> = self.wanted.iter().filter(|name| !names.contains(name)).collect();
        assert!(missing.is_empty(), "the dataflow did not publish {missing:?}");
        gather(scope.concatenate(streams), "gather changes", take)
    }
}

/// Holds the rows of an epoch until it is complete, and lets what remains of them go.
fn consolidated<'s>(rows: Collection<'s, Row>, table: &str, place: usize) -> VecStream<'s, Published> {
    rows.inner.unary_frontier(Pipeline, &format!("publish {table}"), |_, _| {
        let mut stash = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each(|capability, data| {
                for (row, epoch, diff) in data.drain(..) {
                    let (_, rows) = stash.entry(epoch).or_insert_with(|| (capability.delayed(&epoch, 0), Vec::new()));
                    rows.push((row, diff));
                }
            });
            while let Some(entry) = stash.first_entry() {
                if frontier.frontier().less_equal(entry.key()) {
                    break;
                }
                let epoch = *entry.key();
                let (capability, rows) = entry.remove();
                let batches = crate::row::batches(rows);
                output.session(&capability).give_iterator(batches.into_iter().map(|rows| Published { table: place, epoch, rows }));
            }
        }
    })
}
