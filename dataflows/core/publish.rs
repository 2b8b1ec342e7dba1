//! The dataflow's way out: rows of tables, consolidated by epoch and gathered by the worker that commits.

use crate::decode::Inputs;
use crate::definition::Table;
use crate::gather::gather;
use crate::row::{Column, ColumnType, Row, RowBatch, with_texts};
use crate::row_sorter::RowSorter;
use crate::texts::Texts;
use crate::{Collection, Epoch, VecStream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Capability, Concatenate};

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
    tables: Vec<(String, Collection<'s, Row>)>,
}

impl<'s> Outputs<'s> {
    /// Outputs of which the `wanted` tables are built.
    pub fn new(wanted: BTreeSet<String>) -> Outputs<'s> {
        Outputs { wanted, tables: Vec::new() }
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
            self.tables.push((table.into(), rows));
        }
    }

    /// The names of the published tables, by their places.
    pub fn names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Gathers the changes of all tables, once the graph of `inputs` is built: see [`gather`]. For each epoch and table they are
    /// consolidated batches by worker, so a row may be in several of them. Ids that are texts are written as texts, in the columns of
    /// `tables`.
    ///
    /// # Panics
    /// When a wanted table was not published, which is a bug of the dataflow.
    pub fn gather(self, inputs: &Inputs<'s>, tables: &[Table], take: impl FnMut(&mut Vec<Published>) + 'static) -> VecStream<'s, ()> {
        let missing: Vec<_> = self.wanted.iter().filter(|name| self.tables.iter().all(|(table, _)| table != *name)).collect();
        assert!(missing.is_empty(), "the dataflow did not publish {missing:?}");
        let streams = self.tables.into_iter().enumerate().map(|(place, (name, rows))| {
            let columns = tables.iter().find(|table| table.name == name).map(|table| table.columns.as_slice()).unwrap_or_default();
            let has_texts = columns.iter().any(|column| matches!(column.kind, ColumnType::TextId(_)));
            let Some(texts) = inputs.texts().filter(|_| has_texts) else { return consolidated(rows, &name, place, |_| {}) };
            let rows = inputs.awaiting_texts(rows);
            let (texts, columns) = (Arc::clone(texts), columns.to_vec());
            consolidated(rows, &name, place, move |rows| put_texts(&texts, &columns, rows))
        });
        gather(inputs.scope().concatenate(streams.collect::<Vec<_>>()), "gather changes", take)
    }
}

fn put_texts(texts: &Texts, columns: &[Column], rows: &mut [(Row, isize)]) {
    rows.iter_mut().for_each(|(row, _)| *row = with_texts(columns, row, texts));
}

/// Holds the rows of an epoch until it is complete, finishes them, and lets what remains of them go.
fn consolidated<'s>(
    rows: Collection<'s, Row>,
    table: &str,
    place: usize,
    finish: impl Fn(&mut [(Row, isize)]) + 'static,
) -> VecStream<'s, Published> {
    rows.inner.unary_frontier(Pipeline, &format!("publish {table}"), |_, _| {
        let mut stash: BTreeMap<Epoch, (Capability<Epoch>, RowSorter)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each(|capability, data| {
                for (row, epoch, diff) in data.drain(..) {
                    let (_, rows) = stash.entry(epoch).or_insert_with(|| (capability.delayed(&epoch, 0), RowSorter::default()));
                    rows.push(row, diff, &finish);
                }
            });
            // Epochs that are complete go together.
            let Some(first) = stash.first_entry().map(|entry| entry.get().0.clone()) else { return };
            let mut session = output.session(&first);
            while let Some(entry) = stash.first_entry() {
                if frontier.frontier().less_equal(entry.key()) {
                    break;
                }
                let epoch = *entry.key();
                let (_, rows) = entry.remove();
                session.give_iterator(rows.sorted(&finish).into_iter().map(|rows| Published { table: place, epoch, rows }));
            }
        }
    })
}
