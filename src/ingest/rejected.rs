//! The refused records of a batch, as rows of the table `rejected`.

use super::plan::{Plan, PlannedFile};
use retally_core::contract::Definition;
use retally_core::row::Row;
use retally_core::split::{Done, Rejected};

/// The rows of refused records. A reader knows the line in its split; when all splits have been read, it is known in the file.
pub fn rows(definition: &Definition, plan: &Plan, done: &[Done], rejected: Vec<Rejected>) -> Vec<(Row, isize)> {
    let mut lines = vec![0u64; plan.splits.len()];
    for done in done {
        usize::try_from(done.sequence).ok().and_then(|place| lines.get_mut(place)).into_iter().for_each(|lines| *lines = done.lines);
    }
    // For each split, the lines of the file's splits before it.
    let mut before = Vec::with_capacity(lines.len());
    let mut sum = 0;
    for (split, lines) in plan.splits.iter().zip(&lines) {
        if split.range.0 == 0 {
            sum = 0;
        }
        before.push(sum);
        sum += lines;
    }
    let row = |rejected: Rejected| {
        let file = file_of(plan, rejected.sequence)?;
        let input = definition.inputs.get(file.input)?;
        let before = usize::try_from(rejected.sequence).ok().and_then(|place| before.get(place)).copied().unwrap_or(0);
        let row = Row::with_capacity(64 + rejected.raw.len()).text(input.name).text(&file.name);
        let row = row.uint(before + rejected.line + 1).text(&rejected.reason).text(&String::from_utf8_lossy(&rejected.raw));
        Some((row, 1))
    };
    rejected.into_iter().filter_map(row).collect()
}

/// The first of the records refused so far: its file, its line where that is known already, and the reason.
pub fn first(plan: &Plan, rejected: &[Rejected]) -> Option<String> {
    let first = rejected.iter().min()?;
    let file = file_of(plan, first.sequence)?;
    let line = if file.first_split == first.sequence { format!(":{}", first.line + 1) } else { String::new() };
    Some(format!("{}{line}: {}", file.name, first.reason))
}

/// The file that a split is of.
pub fn file_of(plan: &Plan, sequence: u64) -> Option<&PlannedFile> {
    let behind = plan.files.partition_point(|file| file.first_split <= sequence);
    plan.files.get(behind.checked_sub(1)?)
}
