//! How results look on a terminal.

use super::{table, terminal};
use crate::engine::summary::Summary;
use crate::numbers::counted;
use crate::shown;
use crate::tables::TableState;
use indicatif::{HumanBytes, HumanCount};
use std::fmt::Write;

/// Tables with more rows are shown as a head and a count.
pub const ROWS_MAX: usize = 12;
/// So many kinds of reasons for which records were refused are shown.
const REASONS_MAX: usize = 10;

/// A table, or its head.
pub fn table(state: &TableState) -> String {
    table::render(state, ROWS_MAX, None)
}

/// That a destination refused points.
pub fn dropped(points: u64, first: &str) -> String {
    format!("warning: the server refused {}, the first with {first}", counted(points, "point"))
}

/// That tags were written with other characters.
pub fn replaced(points: u64, first: &str) -> String {
    let points = counted(points, "point");
    format!("note: wrote {points} with _ for characters of tags that line protocol has no form for; the first tag: {first:?}")
}

/// A number of batches.
pub fn batches(number: u64) -> String {
    format!("{} {}", HumanCount(number), if number == 1 { "batch" } else { "batches" })
}

/// What was taken up of a state.
pub fn taken_up(dir: &str, batches: u64, summary: &Summary) -> String {
    let batches = self::batches(batches);
    let records = counted(summary.delivered, "record");
    let retracted = if summary.retracted > 0 { format!(", {} retracted", HumanCount(summary.retracted)) } else { String::new() };
    format!("took up {dir}: {batches} with {records}{retracted}, {} rejected, in {:.1?}", HumanCount(summary.rejected), summary.time)
}

/// What a batch was and did.
pub fn summary(summary: &Summary) -> String {
    let count = |number: u64| HumanCount(number).to_string();
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        write!(text, "batch {}: {}", summary.epoch, counted(summary.delivered, "record"))?;
        if summary.retracted > 0 {
            write!(text, ", {} retracted", count(summary.retracted))?;
        }
        write!(text, ", {} late, {} rejected", count(summary.late), count(summary.rejected))?;
        let files = counted(summary.files as u64, "file");
        let sources = match summary.datasets.map(|datasets| counted(datasets as u64, "dataset")) {
            None => files,
            Some(datasets) if summary.files == 0 => datasets,
            Some(datasets) => format!("{files} and {datasets}"),
        };
        writeln!(text, ", from {sources} ({}) in {:.1?}", HumanBytes(summary.bytes), summary.time)?;
        for (table, rows) in &summary.changed {
            writeln!(text, "  {table}: {} changed", counted(*rows, "row"))?;
        }
        let reasons = summary.reasons.most_frequent(REASONS_MAX);
        for (reason, count) in &reasons {
            writeln!(text, "  rejected {}: {reason}", HumanCount(*count))?;
        }
        let others = summary.rejected.saturating_sub(reasons.iter().map(|(_, count)| count).sum());
        if others > 0 {
            writeln!(text, "  rejected {} for other reasons", HumanCount(others))?;
        }
        for note in &summary.notes {
            writeln!(text, "  {}", terminal::line(note))?;
        }
        if let Some(first) = summary.passed_over.first().map(|first| shown::location(first)) {
            writeln!(text, "  passed over {} files whose names are not those of input, {first:?} the first", summary.passed_over.len())?;
        }
        Ok(())
    };
    // Writing to a string can't fail.
    write().ok();
    text
}
