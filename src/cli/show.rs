//! How results look on a terminal.

use super::table;
use crate::engine::summary::Summary;
use crate::engine::table::TableState;
use indicatif::{HumanBytes, HumanCount};
use std::fmt::Write;

/// Tables with more rows are shown as a head and a count.
pub const ROWS_MAX: usize = 12;

/// A table, or its head.
pub fn table(state: &TableState) -> String {
    table::render(state, ROWS_MAX, None)
}

/// That a destination refused points.
pub fn dropped(points: u64, first: &str) -> String {
    let (points, noun) = (HumanCount(points), if points == 1 { "point" } else { "points" });
    format!("warning: the server refused {points} {noun}, the first with {first}")
}

/// What a batch was and did.
pub fn summary(summary: &Summary) -> String {
    let count = |number: u64| HumanCount(number).to_string();
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        let noun = if summary.delivered == 1 { "record" } else { "records" };
        write!(text, "batch {}: {} {noun}", summary.epoch, count(summary.delivered))?;
        if summary.retracted > 0 {
            write!(text, ", {} retracted", count(summary.retracted))?;
        }
        write!(text, ", {} late, {} rejected", count(summary.late), count(summary.rejected))?;
        let files = if summary.files == 1 { "1 file".to_string() } else { format!("{} files", summary.files) };
        writeln!(text, ", from {files} ({}) in {:.1?}", HumanBytes(summary.bytes), summary.time)?;
        for (table, rows) in &summary.changed {
            writeln!(text, "  {table}: {} rows changed", count(*rows))?;
        }
        if let Some(first) = summary.passed_over.first() {
            writeln!(text, "  passed over {} files whose names are not those of input, {first:?} the first", summary.passed_over.len())?;
        }
        Ok(())
    };
    // Writing to a string can't fail.
    write().ok();
    text
}
