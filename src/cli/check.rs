//! `retally check`: what is understood of some files, and what would be refused, before anything is built.

use super::error::{CliError, unless_broken_pipe};
use super::job::{self, Reading};
use super::{table, terminal};
use crate::engine::{EngineError, now};
use crate::ingest::batch::Arrival;
use crate::ingest::format::packing_name;
use crate::ingest::plan::{self, Plan, PlannedFile};
use crate::ingest::read::FileOpener;
use crate::registry;
use clap::ArgMatches;
use retally_core::calendar::Calendar;
use retally_core::contract::{Input, InputKind};
use retally_core::ids::Ids;
use retally_core::mapping::{Origin, Rule};
use retally_core::record::{Context, Refusal, texts};
use retally_core::split::{Archive, Format, Line, Location, Opener, Split};
use retally_core::texts::Texts;
use retally_core::time::DAY;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Write as _, stdout};

/// So many records of each file are read.
const RECORDS_MAX: u64 = 1_000;
/// So many are shown as they are read.
const SAMPLES_MAX: usize = 5;
/// So many reasons are shown.
const REASONS_MAX: usize = 10;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let Reading { definition, settings, accept_from } = job::reading(dataflow, matches)?;
    let graph = dataflow.graph(&settings).map_err(|error| CliError::usage(error.to_string()))?;
    let calendar = graph.calendar();
    let context = |input: &Input| match graph.ids() {
        Ids::Declared => input.context(calendar.clone()),
        Ids::Text => input.context(calendar.clone()).with_text_ids(Texts::of_workers(1)),
    };
    let inputs: Vec<String> = matches.get_many("inputs").into_iter().flatten().cloned().collect();
    let arrival = Arrival { accept_from, accept_until: now().plus(DAY) };
    let mut unread = 0;
    for given in inputs {
        let batch = job::batch(&definition, &[given])?;
        let plan = plan::plan(&definition, &batch, arrival).map_err(EngineError::Ingest)?;
        for (place, file) in plan.files.iter().enumerate() {
            let Some(input) = definition.inputs.get(file.input) else { continue };
            let seen = Seen::read(&context(input), &plan, input, place)?;
            unread += u64::from(seen.accepted == 0 && seen.refused > 0);
            unless_broken_pipe(stdout().write_all(report(&calendar, input, &plan, file, &seen).as_bytes()))?;
        }
        for note in &plan.notes {
            unless_broken_pipe(writeln!(stdout(), "{note}"))?;
        }
        for file in &plan.passed_over {
            unless_broken_pipe(writeln!(stdout(), "passed over {file}"))?;
        }
    }
    match unread {
        0 => Ok(()),
        _ => {
            Err(CliError::failed(format!("nothing could be read of {unread} files")).hint("a run would refuse them; see the reasons above"))
        }
    }
}

/// What was seen of a file.
#[derive(Default)]
struct Seen {
    accepted: u64,
    refused: u64,
    /// Whether there is more behind what was read.
    more: bool,
    samples: Vec<Vec<String>>,
    /// How often, and where first.
    reasons: BTreeMap<String, (u64, u64)>,
    local_times: bool,
}

impl Seen {
    fn read(context: &Context, plan: &Plan, input: &Input, place: usize) -> Result<Seen, CliError> {
        let mut seen = Seen::default();
        let first = |place: usize| plan.files.get(place).and_then(|file| usize::try_from(file.first_split).ok());
        let splits = first(place).unwrap_or(0)..first(place + 1).unwrap_or(plan.splits.len());
        // Line numbers are those of the first split alone; the others are read only where that one is short.
        let Some(split) = plan.splits.get(splits).and_then(<[Split]>::first) else { return Ok(seen) };
        if matches!(input.kind, InputKind::Datasets(_)) {
            return Ok(seen);
        }
        let mut reader = FileOpener::default().open(split, input).map_err(EngineError::Read)?;
        loop {
            let more = reader.read(&mut |line| seen.add(&line, split, input, context)).map_err(EngineError::Read)?;
            if !more || seen.more {
                seen.local_times = context.noticed.take().local_times;
                return Ok(seen);
            }
        }
    }

    fn add(&mut self, line: &Line<'_>, split: &Split, input: &Input, context: &Context) {
        if self.accepted + self.refused >= RECORDS_MAX {
            self.more = true;
            return;
        }
        let record = line.record.map_err(Refusal::from).and_then(|raw| {
            let time = (input.read)(raw, context)?;
            time.map_or(Ok(()), |time| split.accepts(time))?;
            Ok(raw)
        });
        match record {
            Ok(raw) => {
                self.accepted += 1;
                if self.samples.len() < SAMPLES_MAX {
                    self.samples.extend(texts(raw, input.fields, context));
                }
            }
            Err(reason) => {
                self.refused += 1;
                self.reasons.entry(reason.into_owned()).or_insert((0, line.number + 1)).0 += 1;
            }
        }
    }
}

fn report(calendar: &Calendar, input: &Input, plan: &Plan, file: &PlannedFile, seen: &Seen) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        let split = usize::try_from(file.first_split).ok().and_then(|place| plan.splits.get(place));
        let Some(split) = split else { return Ok(()) };
        let name = terminal::line(&file.name);
        if matches!(input.kind, InputKind::Datasets(_)) {
            let datasets = plan.splits.iter().filter(|split| matches!(split.location, Location::Dataset(_))).count();
            return writeln!(text, "{} {name}: {datasets} datasets, which are read as a whole", input.name);
        }
        writeln!(text, "{} {name}: {}", input.name, terminal::line(&format(split)))?;
        for (place, field) in input.fields.iter().enumerate() {
            writeln!(text, "  {:<26} {}", field.name, terminal::line(&origin(input, place, split)))?;
        }
        let all = if seen.more { "the first " } else { "" };
        writeln!(text, "  {all}{} records: {} can be read, {} are refused", seen.accepted + seen.refused, seen.accepted, seen.refused)?;
        if seen.local_times {
            writeln!(text, "  times without an offset are read in {}", calendar.name())?;
        }
        if !seen.samples.is_empty() {
            let columns: Vec<(&str, bool)> = input.fields.iter().map(|field| (field.name, false)).collect();
            let count = seen.samples.len() as u64;
            write!(text, "\n{}\n", table::render_cells("as they are read", &columns, seen.samples.iter().cloned(), count, None))?;
        }
        let mut reasons: Vec<_> = seen.reasons.iter().map(|(reason, (count, line))| (*line, *count, reason)).collect();
        reasons.sort_unstable();
        for (line, count, reason) in reasons.iter().take(REASONS_MAX) {
            writeln!(text, "  refused {count}, first in line {line}: {}", table::shown_value(reason))?;
        }
        if reasons.len() > REASONS_MAX {
            writeln!(text, "  and {} other reasons", reasons.len() - REASONS_MAX)?;
        }
        writeln!(text)
    };
    // Writing to a string can't fail.
    write().ok();
    text
}

/// What a file is, in words.
fn format(split: &Split) -> String {
    let format = match &split.format {
        Format::Csv(columns) => {
            let delimiter = match columns.delimiter {
                b'\t' => "tabs".into(),
                other => format!("{:?}", char::from(other)),
            };
            let header = match columns.head_lines {
                _ if !columns.header => "without a header".to_string(),
                line => format!("with a header that ends in line {line}"),
            };
            format!("CSV, {} columns between {delimiter}, {header}", columns.places.len())
        }
        Format::JsonLines => "JSON objects by line".into(),
        Format::Json { wrapper: None } => "JSON objects, one after the other or in arrays".into(),
        Format::Json { wrapper: Some(key) } => format!("JSON objects in the array {key:?} of others"),
        Format::Parquet => "Parquet".into(),
        Format::Archive(Archive::Zip) => "a zip archive".into(),
        Format::Archive(Archive::Tar) => "a tar archive".into(),
    };
    let packing = packing_name(split.packing).map(|name| format!(", packed with {name}")).unwrap_or_default();
    let encoding = split.encoding.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    format!("{format}{packing}{encoding}")
}

/// Where a field's values come from, in words.
fn origin(input: &Input, place: usize, split: &Split) -> String {
    let Rule { origin, time, truth } = input.mapping.rule(place).cloned().unwrap_or_default();
    let name = input.fields.get(place).map_or("", |field| input.mapping.name(place, field));
    let mut text = match (&origin, &split.format) {
        (Origin::Constant(value), _) => format!("is always {value:?}"),
        (Origin::Absent, _) => "is not there".into(),
        (_, Format::Csv(columns)) => {
            let from = columns.copies.iter().find(|(_, to)| *to == place).map_or(place, |(from, _)| *from);
            match columns.places.iter().position(|column| *column == Some(from)) {
                Some(column) if columns.header => format!("is column {}, {name:?}", column + 1),
                Some(column) => format!("is column {}", column + 1),
                None => "is not there".into(),
            }
        }
        _ => format!("is under {name:?}"),
    };
    if let Some(format) = time {
        write!(text, ", a time as {format}").ok();
    }
    if let Some(truth) = truth {
        write!(text, ", true as {}, false as {}", truth.yes.join(" or "), truth.no.join(" or ")).ok();
    }
    text
}
