//! The tables of a dataflow as the process that commits holds them.
//!
//! [`TableState`] is one table. [`Tables`] are all that a dataflow maintains, with the changes of the epoch that was applied last: what
//! `run` and `demo` write, print and draw.

mod state;

pub use state::{Run, TableState, consolidated, merged_all};

use retally_core::contract::{Graph, Table};
use retally_core::key_chart::KeyChart;
use retally_core::row::RowBatch;
use std::collections::{BTreeMap, BTreeSet};

/// The tables of a dataflow, of which some are built.
#[derive(Debug)]
pub struct Tables {
    /// In the dataflow's order.
    states: Vec<TableState>,
    /// What charts of single keys are drawn from.
    pieces: Vec<TableState>,
    rejected: TableState,
}

impl Tables {
    /// The tables of a graph that are `built`, without rows.
    pub fn new(graph: &dyn Graph, built: &BTreeSet<String>) -> Tables {
        let of = |tables: Vec<Table>| tables.into_iter().filter(|table| built.contains(table.name)).map(TableState::new).collect();
        let pieces = graph.key_charts().iter().map(KeyChart::pieces).collect();
        Tables { states: of(graph.tables()), pieces: of(pieces), rejected: TableState::new(Table::rejected()) }
    }

    /// Applies the changes of an epoch. Returns the consolidated changes by table, without those of pieces and of `rejected`.
    pub fn apply(&mut self, mut changes: BTreeMap<String, Vec<RowBatch>>, rejected: Vec<RowBatch>) -> BTreeMap<&'static str, Run> {
        self.rejected.apply(rejected);
        for pieces in &mut self.pieces {
            if let Some(batches) = changes.remove(pieces.table().name) {
                pieces.apply(batches);
            }
        }
        let applied = self.states.iter_mut().filter_map(|state| {
            let batches = changes.remove(state.table().name)?;
            Some((state.table().name, state.apply(batches)))
        });
        applied.collect()
    }

    /// The table of this name, where it is built. (`rejected` is none of the dataflow's.)
    pub fn get(&self, name: &str) -> Option<&TableState> {
        self.states.iter().find(|state| state.table().name == name)
    }

    /// The tables in the order of the dataflow, `rejected` last.
    pub fn all(&self) -> Vec<&TableState> {
        self.states.iter().chain([&self.rejected]).collect()
    }

    /// The pieces that a chart of single keys is drawn from, where they are built.
    pub fn pieces_of(&self, chart: &KeyChart) -> Option<&TableState> {
        self.pieces.iter().find(|pieces| pieces.table().name == chart.table)
    }
}
