//! `retally check`: what is understood of some files, and what would be refused, before anything is built.

use super::error::{CliError, unless_broken_pipe};
use super::job::{self, InputConfig};
use super::{table, terminal};
use crate::engine::{EngineError, now};
use crate::ingest::batch::{Arrival, Part, Source};
use crate::ingest::check::{Checked, check};
use crate::ingest::plan;
use crate::numbers::counted;
use crate::registry;
use clap::ArgMatches;
use retally_core::time::DAY;
use std::fmt::Write as _;
use std::io::{Write as _, stdout};

/// So many reasons are shown.
const REASONS_MAX: usize = 10;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let InputConfig { definition, settings, accept_from, .. } = job::input_config(dataflow, matches)?;
    let graph = dataflow.graph(&settings).map_err(|error| CliError::usage(error.to_string()))?;
    let inputs: Vec<String> = matches.get_many("inputs").into_iter().flatten().cloned().collect();
    let arrival = Arrival { accept_from, accept_until: now().plus(DAY) };
    let mut unread = 0;
    for given in &inputs {
        let batch = job::batch(&definition, std::slice::from_ref(given))?;
        let plan = plan::plan(&definition, &batch, arrival).map_err(EngineError::Ingest)?;
        for (place, file) in plan.files.iter().enumerate() {
            let Some(input) = definition.inputs.get(file.input) else { continue };
            let seen = check(&*graph, input, &plan, place).map_err(EngineError::Read)?;
            unread += u64::from(seen.accepted == 0 && seen.refused > 0);
            unless_broken_pipe(stdout().write_all(report(&seen).as_bytes()))?;
        }
        for note in &plan.notes {
            unless_broken_pipe(writeln!(stdout(), "{note}"))?;
        }
        for file in &plan.passed_over {
            unless_broken_pipe(writeln!(stdout(), "passed over {file}"))?;
        }
    }
    // Files may be good by themselves, and not together. What can be read once is gone.
    let batch = job::batch(&definition, &inputs)?;
    let is_pipe = |part: &Part| matches!(&part.source, Source::Path(path) if plan::is_pipe(path));
    if inputs.len() > 1 && !batch.parts.iter().any(is_pipe) {
        plan::plan(&definition, &batch, arrival).map_err(EngineError::Ingest)?;
    }
    match unread {
        0 => Ok(()),
        _ => {
            Err(CliError::failed(format!("nothing could be read of {unread} files")).hint("a run would refuse them; see the reasons above"))
        }
    }
}

/// What a look at the first datasets found.
fn datasets(seen: &Checked, text: &mut String) -> std::fmt::Result {
    let first = if seen.more { "the first " } else { "" };
    let (good, bad) = (seen.accepted, seen.refused);
    writeln!(text, "  {first}{} by their beginnings: {good} can be read, {bad} can't", good + bad)?;
    if seen.skipped_lines > 0 {
        writeln!(text, "  of those that can be read, {} would be skipped", counted(seen.skipped_lines, "line"))?;
    }
    for reason in seen.reasons.iter().take(REASONS_MAX) {
        let first = reason.dataset.as_ref().map_or_else(|| format!("first in line {}", reason.line), |key| format!("{key:?} the first"));
        writeln!(text, "  refused {}, {}: {}", reason.records, terminal::line(&first), terminal::line(&reason.reason))?;
    }
    if seen.reasons.len() > REASONS_MAX {
        writeln!(text, "  and {}", counted((seen.reasons.len() - REASONS_MAX) as u64, "other reason"))?;
    }
    writeln!(text)
}

/// A number of things, as it is.
fn report(seen: &Checked) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        let (input, name) = (seen.input, terminal::line(&seen.name));
        if let Some(all) = seen.datasets {
            writeln!(text, "{input} {name}: {}", counted(all as u64, "dataset"))?;
            return datasets(seen, &mut text);
        }
        if seen.format.is_empty() {
            return Ok(());
        }
        writeln!(text, "{input} {name}: {}", terminal::line(&seen.format))?;
        for (field, origin) in &seen.fields {
            writeln!(text, "  {field:<26} {}", terminal::line(origin))?;
        }
        let all = if seen.more { "the first " } else { "" };
        let records = counted(seen.accepted + seen.refused, "record");
        writeln!(text, "  {all}{records}: {} can be read, {} are refused", seen.accepted, seen.refused)?;
        if let Some(zone) = &seen.zone {
            writeln!(text, "  times without an offset are read in {zone}")?;
        }
        if !seen.samples.is_empty() {
            let columns: Vec<(&str, bool)> = seen.fields.iter().map(|(field, _)| (*field, false)).collect();
            let count = seen.samples.len() as u64;
            write!(text, "\n{}\n", table::render_cells("as they are read", &columns, seen.samples.iter().cloned(), count, None))?;
        }
        for reason in seen.reasons.iter().take(REASONS_MAX) {
            writeln!(text, "  refused {}, first in line {}: {}", reason.records, reason.line, table::shown_value(&reason.reason))?;
        }
        if seen.reasons.len() > REASONS_MAX {
            writeln!(text, "  and {}", counted((seen.reasons.len() - REASONS_MAX) as u64, "other reason"))?;
        }
        writeln!(text)
    };
    // Writing to a string can't fail.
    write().ok();
    text
}
