//! The law for ids that are text: a history with other ids has the same tables, but for the ids.

use super::{Config, Delivery, Tables, run_graph};
use crate::contract::{Graph, Input};
use crate::row::{ColumnType, TextId};
use crate::texts::{id_of, lower};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A history, and the same with text ids.
pub struct Renamed<'a> {
    /// The graph for ids as they are declared.
    pub declared: &'a Arc<dyn Graph>,
    /// The graph for text ids.
    pub text: &'a Arc<dyn Graph>,
    /// The inputs.
    pub inputs: &'a [Input],
    /// The ids that occur, as tables show them, in the order of their numbers.
    pub ids: Vec<String>,
    /// How a graph writes them.
    pub width: TextId,
}

impl Renamed<'_> {
    /// Checks that both graphs have the same tables after every batch. `rename` puts texts in the place of a line's ids.
    ///
    /// Where an id decides a tie it is the text that does. So texts are in the order of the ids, and their hashes in the opposite one.
    pub fn check(&self, config: Config, batches: &[Vec<Delivery>], rename: impl Fn(&Delivery, &dyn Fn(&str) -> String) -> String) {
        let first_bits = |text: &str| match self.width {
            TextId::Number => lower(id_of(text)) >> 32,
            TextId::Uuid => lower(id_of(text) >> 96),
        };
        // Of as many parts of all hashes as there are ids, the one before the last.
        let mut candidates = (0u64..).map(|n| format!("sérial {:010}/{n}", n * 7919));
        let count = self.ids.len() as u64;
        let of_part = |part| candidates.find(|text| (first_bits(text) * count) >> 32 == part);
        let texts: Vec<String> = (0..count).rev().filter_map(of_part).collect();
        let to_text: BTreeMap<&str, &str> = self.ids.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        let to_id: BTreeMap<&str, &str> = to_text.iter().map(|(id, text)| (*text, *id)).collect();
        let renamed = |delivery: &Delivery| Delivery { line: rename(delivery, &|id| to_text[id].to_string()), ..delivery.clone() };
        let texts: Vec<Vec<Delivery>> = batches.iter().map(|batch| batch.iter().map(renamed).collect()).collect();

        let columns: BTreeMap<String, Vec<ColumnType>> = self
            .text
            .tables()
            .into_iter()
            .map(|table| (table.name.into(), table.columns.into_iter().map(|column| column.kind).collect()))
            .collect();
        let back = |table: &str, row: Vec<String>| -> Vec<String> {
            let cells = row.into_iter().zip(&columns[table]);
            cells
                .map(|(cell, kind)| if cell.is_empty() || !matches!(kind, ColumnType::TextId(_)) { cell } else { to_id[&*cell].into() })
                .collect()
        };
        let sorted = |tables: Tables, back: &dyn Fn(&str, Vec<String>) -> Vec<String>| -> Tables {
            let each = |(name, rows): (String, Vec<Vec<String>>)| {
                let mut rows: Vec<Vec<String>> = rows.into_iter().map(|row| back(&name, row)).collect();
                rows.sort();
                (name, rows)
            };
            tables.into_iter().map(each).collect()
        };
        let expected = run_graph(Config::default(), self.declared, self.inputs, batches);
        let found = run_graph(config, self.text, self.inputs, &texts);
        for (epoch, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            assert_eq!(sorted(found, &back), sorted(expected, &|_, row| row), "after batch {} of {texts:#?}, {config:?}", epoch + 1);
        }
    }
}
