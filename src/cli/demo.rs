//! `retally demo`: generates input, runs it, feeds a late batch, and shows what that changed, and how fast.

use super::args;
use super::error::{CliError, listen_to_signals, unless_broken_pipe};
use super::generate::{OTHERS_HINT, Others, into_folder};
use super::job;
use super::run::RunDriver;
use super::show;
use crate::charts;
use crate::cluster::Cluster;
use crate::engine::summary::Progress;
use crate::engine::{self, Commit, CommitError, Driver, EngineError, Job, Next};
use crate::points::Dropped;
use crate::points::staged::StagedPoints;
use crate::registry;
use crate::staged::why;
use clap::ArgMatches;
use indicatif::HumanCount;
use retally_core::contract::{Dataflow, Input, InputKind, Settings};
use retally_core::row::values;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

/// How many events or datasets are kept back for the late batch.
const LATE_EVENTS: &str = "5";
/// The folder of what comes late, in that of generated input.
pub const LATE: &str = "late";
/// How many changed rows of a table are shown.
const CHANGES_MAX: usize = 8;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let name = matches.get_one::<String>("dataflow").map_or("online", String::as_str);
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let root = matches.get_one::<String>("out").map_or_else(|| new_folder(name), |out| args::written("out", out))?;
    let mut steps = Steps { number: 0 };
    listen_to_signals()?;

    let definition = dataflow.definition();
    let options = Settings::defaults(&definition.generator).with("late", LATE_EVENTS);
    let (input, charts) = (root.join("input"), root.join("charts"));
    if charts.exists() && !input.exists() && Others::of(matches) == Others::Kept {
        let message = format!("would draw charts into {:?}, which is of no demo", charts.display().to_string());
        return Err(CliError::failed(message).hint(OTHERS_HINT));
    }
    steps.say(&format!("Generate input into {}", input.display()))?;
    let files = into_folder(dataflow, &options, &input, Others::of(matches))?;
    let inputs = inputs(dataflow, &input, &files);
    let late: Vec<String> = inputs.iter().filter_map(|given| late_part(given, &input)).collect();

    let (first, then) = (inputs.join(" "), late.join(" "));
    steps.say(&format!("retally run {name} {first} --then {then:?} --charts {}", charts.display()))?;
    let settings = Settings::defaults(&definition.settings);
    let graph = dataflow.graph(&settings).map_err(|error| CliError::failed(error.to_string()))?;
    let pieces = graph.key_charts().into_iter().map(|chart| chart.table);
    let tables = graph.tables().iter().map(|table| table.name).chain(pieces).map(String::from).collect();
    let job = Job::new(definition, graph, settings, tables);
    let batches = vec![job::batch(&job.definition, &inputs)?, job::batch(&job.definition, &late)?];
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let driver = Shown { run: RunDriver::silent(&job, batches), first: Vec::new() };
    let Some(Shown { run: driver, first: tables }) = engine::run(&job, &Cluster::local(workers), driver)? else { return Ok(()) };
    let [first, second] = driver.summaries.as_slice() else { return Ok(()) };
    print(&show::summary(first))?;
    print("\n")?;
    for table in tables {
        print(&format!("{table}\n"))?;
    }

    let number = |number: u64, of: &str| format!("{} {of} come late. What do they change?", HumanCount(number));
    steps.say(&second.datasets.map_or_else(|| number(second.delivered, "events"), |datasets| number(datasets as u64, "datasets")))?;
    print(&changes(&driver))?;
    print(&format!("\n{}", show::summary(second)))?;

    steps.say("Charts")?;
    for file in charts::draw_all(&*job.graph, &driver.tables, &charts)? {
        print(&format!("{}\n", file.display()))?;
    }
    steps.say(&format!("Next: retally run {name} --help"))
}

/// A folder of its own below the system's temporary one, which stays: it has the charts.
fn new_folder(name: &str) -> Result<PathBuf, CliError> {
    let made = tempfile::Builder::new().prefix(&format!("retally-demo-{name}-")).tempdir();
    made.map(tempfile::TempDir::keep).map_err(|error| {
        let temporary = std::env::temp_dir().display().to_string();
        CliError::failed(format!("could not create a folder in {temporary:?}: {}", why(&error))).hint("say where it goes: --out DIR")
    })
}

/// A run that keeps what its tables show after the first batch.
struct Shown {
    run: RunDriver,
    first: Vec<String>,
}

impl Driver for Shown {
    fn next(&mut self) -> Result<Option<Next>, EngineError> {
        self.run.next()
    }

    fn progress(&mut self, progress: Progress) {
        self.run.progress(progress);
    }

    fn commit(&mut self, commit: Commit) -> Result<(), CommitError> {
        self.run.commit(commit)?;
        if self.run.summaries.len() == 1 {
            self.first = self.run.tables.all().into_iter().map(show::table).collect();
        }
        Ok(())
    }

    fn finish(&mut self, dropped: &Dropped, points: Vec<StagedPoints>) -> Result<(), CommitError> {
        self.run.finish(dropped, points)
    }
}

struct Steps {
    number: u32,
}

impl Steps {
    fn say(&mut self, text: &str) -> Result<(), CliError> {
        self.number += 1;
        let before = if self.number == 1 { "" } else { "\n" };
        print(&format!("{before}--- {}. {text}\n", self.number))
    }
}

fn print(text: &str) -> Result<(), CliError> {
    unless_broken_pipe(stdout().write_all(text.as_bytes()))
}

/// `INPUT=PATH` for each generated file that bears the name of an input; of datasets, for each folder of them that comes first.
fn inputs(dataflow: &dyn Dataflow, folder: &Path, files: &[PathBuf]) -> Vec<String> {
    let named = |name: &str| files.iter().find(|file| file.parent() == Some(folder) && file.file_stem().is_some_and(|stem| stem == name));
    let folders: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| file.strip_prefix(folder).ok()?.components().next())
        .filter(|first| first.as_os_str() != LATE)
        .map(|first| folder.join(first))
        .collect();
    let paths = |input: &Input| match input.kind {
        InputKind::Records => named(input.name).cloned().into_iter().collect(),
        InputKind::Datasets(_) => folders.iter().cloned().collect::<Vec<_>>(),
    };
    let given = |input: &Input| paths(input).into_iter().map(|path| format!("{}={}", input.name, path.display())).collect::<Vec<_>>();
    dataflow.definition().inputs.iter().flat_map(given).collect()
}

/// The late part of an input, when there is one: the file or folder of the same name in the folder `late`.
fn late_part(given: &str, folder: &Path) -> Option<String> {
    let (input, path) = given.split_once('=')?;
    let late = folder.join(LATE).join(Path::new(path).file_name()?);
    late.exists().then(|| format!("{input}={}", late.display()))
}

/// The rows that the last batch changed.
fn changes(driver: &RunDriver) -> String {
    let mut text = String::new();
    for state in driver.tables.all() {
        let batches = driver.last_changes.get(state.table().name).map(Vec::as_slice).unwrap_or_default();
        let count: usize = batches.iter().map(|batch| batch.len()).sum();
        if count == 0 {
            continue;
        }
        writeln!(text, "{}", state.table().name).ok();
        for (row, diff) in batches.iter().flat_map(|batch| batch.iter()).take(CHANGES_MAX) {
            let cells: Vec<String> = values(&state.table().columns, row).map(|value| value.to_string()).collect();
            writeln!(text, "  {} {}", if diff > 0 { "+" } else { "-" }, cells.join("  ")).ok();
        }
        if count > CHANGES_MAX {
            writeln!(text, "  … {} more", count - CHANGES_MAX).ok();
        }
    }
    text
}
