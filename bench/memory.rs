//! `memory`: what a process holds after a load, and what it held at most.
//!
//! The load is that of `load`, in a process of its own that keeps the graph and then looks at itself; tables are dropped as
//! they are made, so what is left is the graph's state, the allocator's slack, and the program.

use crate::late::{Timed, job};
use crate::load::sized;
use crate::numbers::Sorted;
use crate::options::{Common, Input, Size};
use crate::results::{self, Line};
use crate::workload::Workload;
use crate::{Result, machine};
use clap::Args;
use retally::cluster::Cluster;
use retally::engine::summary::Progress;
use retally::engine::{self, Commit, Driver, EngineError, Next};
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::time::Duration;

/// Batches after the load, and the pause before each.
const AFTER_BATCHES: usize = 40;
const AFTER_PAUSE: Duration = Duration::from_millis(50);

/// Options of `memory`.
#[derive(Args)]
pub struct MemoryOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Workers
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// The tables that are built (default: two, and then all)
    #[arg(long)]
    tables: Option<String>,
}

/// Options of the process that is looked at.
#[derive(Args)]
pub struct HoldOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    #[arg(long, short)]
    workers: usize,
    #[arg(long)]
    tables: String,
}

/// What a process says of itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Held {
    accepted: u64,
    before_bytes: u64,
    peak_bytes: u64,
    after_bytes: u64,
}

/// Runs the bench.
pub fn main(options: &MemoryOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let workload = Workload::generated(common, dataflow, Size::of_load(&options.input, common))?;
    let two = dataflow.two_tables();
    for tables in options.tables.as_deref().map_or(vec![two, "all"], |tables| vec![tables]) {
        let line = sized(Line::new("memory", dataflow.name()), &workload);
        let runs: Vec<Held> = (0..common.repeat.max(1)).map(|_| held(options, &workload, tables)).collect::<Result<_>>()?;
        let median = |value: fn(&Held) -> u64| Sorted::new(runs.iter().map(|run| value(run) as f64).collect()).median();
        let accepted = median(|run| run.accepted).max(1.0);
        line.with("workers", options.workers)
            .with("tables", tables)
            .with("repeats", runs.len())
            .measured("peak_rss_bytes", median(|run| run.peak_bytes))
            .measured("loaded_rss_bytes", median(|run| run.after_bytes))
            .measured("peak_per_event_bytes", median(|run| run.peak_bytes - run.before_bytes) / accepted)
            .measured("loaded_per_event_bytes", median(|run| run.after_bytes - run.before_bytes) / accepted)
            .publish(common)?;
    }
    Ok(())
}

fn held(options: &MemoryOptions, workload: &Workload, tables: &str) -> Result<Held> {
    let (common, size) = (&options.common, workload.size);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["hold", "--dataflow", options.input.dataflow.name(), "--tables", tables, "--workers", &options.workers.to_string()]);
    for (name, value) in [("--events", size.events), ("--keys", size.keys), ("--days", size.days)] {
        command.args([name, &value.to_string()]);
    }
    let output = command.arg("--cache").arg(common.cache()).output()?;
    if !output.status.success() {
        return Err(format!("the process that holds {tables} ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Loads a workload, and says how much memory this process holds.
pub fn hold(options: &HoldOptions) -> Result<()> {
    let dataflow = options.input.dataflow;
    let workload = Workload::generated(&options.common, dataflow, Size::of_load(&options.input, &options.common))?;
    let before_bytes = machine::status_bytes("VmRSS");
    // An allocator gives pages back when it is used again, a little later: so some batches without effect follow.
    let nothing = (0..AFTER_BATCHES).map(|_| workload.lines_batch(&[]));
    let batches = std::iter::once(workload.batch()).chain(nothing).collect();
    let holding = Holding { timed: Timed::new(batches), peak_bytes: 0, after_bytes: 0 };
    let done = engine::run(&job(dataflow, &options.tables)?, &Cluster::local(options.workers), holding)?;
    let done = done.ok_or("the engine did not hand back its driver")?;
    let accepted = done.timed.commits.first().map_or(0, |commit| commit.accepted);
    let held = Held { accepted, before_bytes, peak_bytes: done.peak_bytes, after_bytes: done.after_bytes };
    results::say(&serde_json::to_string(&held)?);
    Ok(())
}

/// Looks at the memory when there are no more batches, while the graph is still there.
struct Holding {
    timed: Timed,
    peak_bytes: u64,
    after_bytes: u64,
}

impl Driver for Holding {
    fn next(&mut self) -> std::result::Result<Option<Next>, EngineError> {
        self.peak_bytes = machine::status_bytes("VmHWM");
        self.after_bytes = machine::status_bytes("VmRSS");
        std::thread::sleep(AFTER_PAUSE);
        self.timed.next()
    }

    fn progress(&mut self, _: Progress) {}

    fn commit(&mut self, commit: Commit) -> std::result::Result<(), engine::CommitError> {
        self.timed.commit(commit)
    }
}
