//! `retally verify`: whether what a state holds is what follows from its journal.
//!
//! All files are read and compared with their names, all batches are applied as one in a plain run, and each table is compared with what
//! stands in the state's database, and wherever else it was written, row by row. A place that another process writes to can't be compared.

use super::error::{CliError, say, unless_broken_pipe};
use super::run::RunDriver;
use super::{args, job, rows};
use crate::cluster::Cluster;
use crate::engine::{self, Commit, CommitError, Driver, EngineError, Job, Next};
use crate::numbers::{self, grouped};
use crate::registry;
use crate::shown;
use crate::sinks::live::read::{Question, Snapshot};
use crate::sinks::{Destination, Deviation, Format, Sink, SinkError};
use crate::state::{Of, State};
use crate::tables::TableState;
use clap::ArgMatches;
use retally_core::contract::{Dataflow, Table};
use retally_core::row::values;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};
use std::path::Path;

/// So many differences of a table are shown.
const SHOWN_MAX: usize = 5;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(home) = args::home_of(matches)? else { return Ok(()) };
    let mut places = matches
        .get_many::<String>("out")
        .unwrap_or_default()
        .map(|text| ComparedSink::parse(text))
        .collect::<Result<Vec<ComparedSink>, CliError>>()?;
    State::look_for(&home)?;
    let workers = job::cluster_of_one(matches)?;
    super::error::listen_to_signals()?;
    let state = State::open_to_read(&home)?;
    state.check()?;
    let names: BTreeSet<&str> = state.all_frames().iter().map(|frame| frame.dataflow.as_str()).collect();
    let mut differ = 0;
    for dataflow in names.iter().filter_map(|name| registry::dataflow(name)) {
        differ += verify(&state, dataflow, home.local(), workers, &mut places)?;
    }
    if let Some(place) = places.iter().find(|place| place.differ.is_none()) {
        return Err(CliError::failed(format!("{:?} holds no tables of {:?}", place.shown, home.path())).hint("look at what --out names"));
    }
    let failed = |differ: u64, place: String| {
        CliError::failed(format!("{} rows{place} differ from what follows from the journal", grouped(&differ.to_string())))
    };
    if differ > 0 {
        let hint = "delete tables.sqlite in that folder: it is rebuilt; and keep a copy for whoever looks into it";
        return Err(failed(differ, String::new()).hint(hint));
    }
    match places.iter().find(|place| place.differ != Some(0)) {
        Some(place) => Err(failed(place.differ.unwrap_or(0), format!(" of {:?}", place.shown))
            .hint("bring it to what it should hold: `retally run` with --state and --out, or the service that wrote it")),
        None => unless_broken_pipe(writeln!(stdout(), "nothing differs")),
    }
}

/// Compares the tables of a dataflow. Returns how many rows differ.
fn verify(state: &State, dataflow: &dyn Dataflow, dir: &Path, workers: usize, places: &mut [ComparedSink]) -> Result<u64, CliError> {
    let plain = dataflow.definition();
    let mut reader = rows::open_state(dir)?;
    let snapshot = reader.snapshot()?;
    let kept = snapshot.settings(plain.name)?;
    if kept.is_none() {
        let name = plain.name;
        say(&format!("note: nothing says with which settings the tables of {name} were computed: they are compared under the defaults"));
    }
    let kept = kept.unwrap_or_default();
    let (as_of, built) = (kept.get("as-of").cloned(), kept.get("tables").cloned());
    let settings = args::known_settings(&plain.settings, kept);
    let as_of = args::as_of_service(as_of.as_ref(), &settings).map_err(CliError::failed)?;
    let settings = settings.with_as_of(as_of);
    let mut definition = plain.clone();
    let failed = |error: retally_core::contract::SettingError| CliError::failed(error.to_string());
    let settings = dataflow.settle(&mut definition, settings, &[]).map_err(failed)?;
    let graph = dataflow.graph(&settings).map_err(failed)?;
    let built: BTreeSet<String> = match built {
        Some(built) => built.split(',').map(String::from).collect(),
        None => graph.tables().iter().map(|table| table.name.to_string()).collect(),
    };
    // What else is there is read by whoever asks, and has to be right as well.
    let mut tables = built.clone();
    tables.extend(rows::held(&snapshot, &*graph)?.into_iter().map(String::from));
    let job = Job { rejected_kept: crate::ingest::rejected::KEPT_MAX, ..Job::new(definition, graph, settings, tables) };
    let reached = snapshot.epoch(plain.name)?;
    state.check_reached(plain.name, reached)?;
    if reached < state.folded(plain.name) {
        let error = CliError::failed(format!(
            "the tables of {} are those of batch {reached}, and the batches before {} are known as one",
            plain.name,
            state.folded(plain.name)
        ));
        return Err(error.hint("bring them up to date first: a run with --state, or a service"));
    }
    let Some((epoch, plan)) = state.replay(Of { plain: &plain, definition: &job.definition }, reached)? else { return Ok(0) };
    // What could not be compared is refused before anything is computed.
    let of_sinks = Job { tables: built, ..job.clone() };
    let mut sinks = places.iter().map(|place| place.open(&of_sinks)).collect::<Result<Vec<_>, _>>()?;
    let driver = Verifying { next: Some(Next::Replay(epoch, plan)), run: RunDriver::silent(&job, Vec::new()) };
    let Some(Verifying { run, .. }) = engine::run(&job, &Cluster::local(workers), driver)? else { return Ok(0) };
    let (mut differ, mut text) = (0, format!("{} as of batch {}:\n", plain.name, grouped(&epoch.to_string())));
    for expected in run.tables.all() {
        let (deviation, shown) = compare(expected, &snapshot, plain.name)?;
        differ += counted(expected, deviation);
        text += &said(expected, deviation);
        text += &shown;
    }
    let rejected = Table::rejected().name;
    let is_of_sinks = |table: &&TableState| table.table().name == rejected || of_sinks.tables.contains(table.table().name);
    let of_sinks: Vec<&TableState> = run.tables.all().into_iter().filter(is_of_sinks).collect();
    for (place, sink) in places.iter_mut().zip(&mut sinks) {
        let Some(held) = sink.compare(&of_sinks, plain.name)? else { continue };
        text += &format!("{} as of batch {}:\n", place.shown, grouped(&held.epoch.to_string()));
        for (expected, deviation) in of_sinks.iter().zip(&held.deviations) {
            *place.differ.get_or_insert(0) += counted(expected, *deviation);
            text += &said(expected, *deviation);
            for (count, what) in [(deviation.missing, "missing"), (deviation.others, "too many")] {
                if count > 0 {
                    text += &format!("    {what}: {}\n", grouped(&count.to_string()));
                }
            }
        }
    }
    unless_broken_pipe(stdout().write_all(text.as_bytes()))?;
    Ok(differ)
}

/// A sink that is compared, besides the tables of the state.
struct ComparedSink {
    /// As it was given, without secrets.
    shown: String,
    destination: Destination,
    format: Format,
    /// How many rows are not as they should be; nothing, where it holds no tables of this state.
    differ: Option<u64>,
}

impl ComparedSink {
    fn parse(text: &str) -> Result<ComparedSink, CliError> {
        let (destination, format) = Destination::with_format(text)?;
        // To open it would make it.
        if let Destination::Directory(path) | Destination::Sqlite(path) = &destination
            && !path.exists()
        {
            return Err(CliError::failed(format!("there is no {path:?}")).hint("give a place that tables were written to"));
        }
        Ok(ComparedSink { shown: shown::location(text).into_owned(), destination, format, differ: None })
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Sink>, CliError> {
        let (tables, _) = job.divided();
        self.destination.open(self.format, tables.iter().chain([&Table::rejected()]), job::NETWORK_TIMEOUT).map_err(|error| match error {
            SinkError::InUse { place, holder } => CliError::failed(format!("can't compare {place:?}: {holder} is writing there"))
                .hint("compare when it is done: its lock ends with it"),
            error => error.into(),
        })
    }
}

/// How many rows differ. Rows of `rejected` may be of deliveries that were taken back, or replaced: of these the journal may know no more.
fn counted(expected: &TableState, deviation: Deviation) -> u64 {
    if is_rejected(expected) { deviation.missing } else { deviation.rows() }
}

fn is_rejected(expected: &TableState) -> bool {
    expected.table().name == Table::rejected().name
}

/// A line about a table.
fn said(expected: &TableState, deviation: Deviation) -> String {
    let (name, rows) = (expected.table().name, numbers::counted(expected.len(), "row"));
    let they = if expected.len() == 1 { "it" } else { "they" };
    match counted(expected, deviation) {
        0 if deviation.others > 0 => {
            format!(
                "  {name}: {rows}, as {they} should be, and {} of deliveries that are no more\n",
                grouped(&deviation.others.to_string())
            )
        }
        0 => format!("  {name}: {rows}, as {they} should be\n"),
        _ => format!("  {name}: {rows} should be there, and {} differ\n", grouped(&deviation.rows().to_string())),
    }
}

/// How many rows of a table are missing or too many, and the first of them.
fn compare(expected: &TableState, snapshot: &Snapshot<'_>, dataflow: &str) -> Result<(Deviation, String), CliError> {
    let table = expected.table();
    let mut counts: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    let found = snapshot.state(table, dataflow, &Question::default())?;
    let (mut rows, mut others) = (expected.rows().peekable(), found.rows().peekable());
    // Both are in order.
    loop {
        match (rows.peek(), others.peek()) {
            (None, None) => break,
            (Some(row), Some(other)) if row == other => drop((rows.next(), others.next())),
            (Some(row), other) if other.is_none_or(|other| row < other) => {
                *counts.entry(row.to_vec()).or_insert(0) += 1;
                rows.next();
            }
            (_, Some(other)) => {
                *counts.entry(other.to_vec()).or_insert(0) -= 1;
                others.next();
            }
            (Some(_), None) => break,
        }
    }
    let sum = |of: fn(&i64) -> bool| counts.values().filter(|count| of(count)).map(|count| count.unsigned_abs()).sum();
    let deviation = Deviation { missing: sum(|count| *count > 0), others: sum(|count| *count < 0) };
    let shown = counts.iter().filter(|(_, count)| **count != 0).take(SHOWN_MAX).map(|(row, count)| shown(table, row, *count)).collect();
    Ok((deviation, shown))
}

fn shown(table: &Table, row: &[u8], count: i64) -> String {
    let cells: Vec<String> = values(&table.columns, row).map(|value| super::table::shown_value(&value.to_string())).collect();
    format!("    {}: {}\n", if count > 0 { "missing" } else { "too many" }, cells.join(", "))
}

/// Applies what is there, once.
struct Verifying {
    next: Option<Next>,
    run: RunDriver,
}

impl Driver for Verifying {
    fn next(&mut self) -> Result<Option<Next>, EngineError> {
        Ok(self.next.take())
    }

    fn progress(&mut self, _: engine::summary::Progress) {}

    fn commit(&mut self, commit: Commit) -> Result<(), CommitError> {
        let Commit { changes, rejected, .. } = commit;
        self.run.tables.apply(changes, rejected);
        Ok(())
    }
}
