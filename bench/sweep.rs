//! `sweep`: the same number of events, spread and wrong in many ways, so that no shape of the data is a surprise.
//!
//! Each workload ([`crate::varied`]) is loaded in a process of its own, which then takes late events one by one, and of `online` the
//! destruction of servers. The last line says how far the worst of a measurement is from the best.

use crate::late::{Timed, job};
use crate::load::tables;
use crate::options::{Common, Measured};
use crate::results::Line;
use crate::varied::{self, Drawn, File, Further, Shape};
use crate::{Result, machine};
use clap::Args;
use retally::cluster::Cluster;
use retally::engine::summary::Progress;
use retally::engine::{self, Commit, Driver, EngineError, Next};
use retally::ingest::batch::{Batch, Body, Part, Source, TextFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Options of `sweep`.
#[derive(Args)]
pub struct SweepOptions {
    #[command(flatten)]
    common: Common,
    /// The dataflow: online, usage or active
    #[arg(long, value_enum, default_value = "online")]
    dataflow: Measured,
    /// How many events are loaded
    #[arg(long)]
    events: Option<u64>,
    /// Workers
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// The tables that are built (default: two; all: all)
    #[arg(long)]
    tables: Option<String>,
    /// Only workloads whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// Measures one workload, in this process
    #[arg(long, hide = true)]
    one: Option<String>,
    /// Where its files are
    #[arg(long, hide = true)]
    from: Option<PathBuf>,
}

/// What the measuring process is told, beside the files.
const TOLD_FILE: &str = "told.json";
const EVENTS: u64 = 2_000_000;
const SINGLES: usize = 1_000;
/// Batches without effect after the load, and the pause before each: an allocator gives pages back a little later.
const AFTER_BATCHES: usize = 10;
const AFTER_PAUSE: Duration = Duration::from_millis(50);
/// What is compared over all workloads.
const COMPARED: [&str; 4] = ["load_s", "peak_per_event_bytes", "loaded_per_event_bytes", "single_p50_us"];

/// What the measuring process is told.
#[derive(Serialize, Deserialize)]
struct Told {
    /// Files of the first batch: their inputs and names.
    files: Vec<(usize, String)>,
    late: Vec<String>,
    further: Vec<Further>,
}

/// Runs the bench.
pub fn main(options: &SweepOptions) -> Result<()> {
    if let Some(name) = &options.one {
        return measure(options, name, options.from.as_deref().ok_or("nothing says where its files are")?);
    }
    let wanted = |shape: &Shape| options.only.as_deref().is_none_or(|part| shape.name.contains(part));
    let mut spans: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for shape in varied::shapes(options.dataflow)?.into_iter().filter(wanted) {
        let line = measured_apart(options, &shape)?;
        for name in COMPARED {
            let value = line.get(name).and_then(Value::as_f64).unwrap_or_default();
            let (best, worst) = spans.entry(name).or_insert((value, value));
            (*best, *worst) = (best.min(value), worst.max(value));
        }
    }
    let line = Line::new("sweep", options.dataflow.name()).with("shape", "worst / best");
    let line = line.with("events", events(options)).with("workers", options.workers);
    let ratios = spans.into_iter().fold(line, |line, (name, (best, worst))| line.measured(name, worst / best.max(f64::MIN_POSITIVE)));
    ratios.publish(&options.common)
}

fn events(options: &SweepOptions) -> u64 {
    options.events.unwrap_or(if options.common.smoke { 5_000 } else { EVENTS })
}

fn singles(options: &SweepOptions) -> usize {
    if options.common.smoke { 20 } else { SINGLES }
}

/// Measures a workload in a process of its own, which has nothing else in its memory, and returns its line.
fn measured_apart(options: &SweepOptions, shape: &Shape) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    {
        let Drawn { files, late, further } = shape.draw(events(options), singles(options) as u64);
        files.iter().try_for_each(|file| file.write(folder.path()))?;
        let files = files.iter().map(|File { input, name, .. }| (*input, (*name).to_string())).collect();
        std::fs::write(folder.path().join(TOLD_FILE), serde_json::to_vec(&Told { files, late, further })?)?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sweep", "--dataflow", options.dataflow.name(), "--one", shape.name]);
    command.args(["--events", &events(options).to_string(), "--workers", &options.workers.to_string()]);
    command.arg("--from").arg(folder.path());
    command.args(options.tables.iter().flat_map(|tables| ["--tables", tables]));
    command.args(options.common.smoke.then_some("--smoke"));
    if let Some(results) = &options.common.results {
        command.arg("--results").arg(results);
    }
    let output = command.output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("the workload {:?} ended with {}: {why}", shape.name, output.status).into());
    }
    crate::results::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn measure(options: &SweepOptions, name: &str, folder: &Path) -> Result<()> {
    let dataflow = options.dataflow;
    let tables = tables(dataflow, options.tables.as_deref());
    let Told { files, late, further } = serde_json::from_slice(&std::fs::read(folder.join(TOLD_FILE))?)?;
    let format = if dataflow == Measured::Online { TextFormat::Csv } else { TextFormat::Json };
    let path =
        |(input, name): &(usize, String)| Part { input: *input, sign: 1, source: Source::Path(folder.join(name).display().to_string()) };
    let text = |input, sign, line: &str| Part { input, sign, source: Source::Bytes(Body::plain(format, line.as_bytes().to_vec())) };
    let mut batches = VecDeque::from([Batch { parts: files.iter().map(path).collect() }]);
    batches.extend((0..AFTER_BATCHES).map(|_| Batch { parts: vec![text(0, 1, "")] }));
    batches.extend(late.iter().map(|line| Batch { parts: vec![text(0, 1, line)] }));
    let batch = |parts: &Further| Batch { parts: parts.iter().map(|(input, sign, line)| text(*input, *sign, line)).collect() };
    batches.extend(further.iter().map(batch));
    let before = machine::status_bytes("VmRSS");
    let holding = Loading { timed: Timed::new(batches), peak: 0, after: 0 };
    let done = engine::run(&job(dataflow, &tables)?, &Cluster::local(options.workers), holding)?;
    let done = done.ok_or("the engine did not hand back its driver")?;

    let commits = &done.timed.commits;
    let latencies = |from, until| done.timed.latencies(from, until);
    let (first, behind) = (1 + AFTER_BATCHES, 1 + AFTER_BATCHES + late.len());
    let (load, one) = (latencies(0, 1), latencies(first, behind));
    let accepted = commits.first().map_or(1, |commit| commit.accepted.max(1)) as f64;
    let per_event = |bytes: u64| bytes.saturating_sub(before) as f64 / accepted;
    let line = Line::new("sweep", dataflow.name())
        .with("shape", name)
        .with("events", events(options))
        .with("workers", options.workers)
        .with("tables", tables)
        .measured("load_s", load.median() / 1e6)
        .measured("peak_per_event_bytes", per_event(done.peak))
        .measured("loaded_per_event_bytes", per_event(done.after))
        .measured("single_p50_us", one.median())
        .measured("single_p99_us", one.percentile(99));
    if further.is_empty() {
        return line.publish(&options.common);
    }
    let servers = latencies(behind, usize::MAX);
    line.with("servers_destroyed", further.len())
        .measured("server_p50_ms", servers.median() / 1e3)
        .measured("server_max_ms", servers.max() / 1e3)
        .publish(&options.common)
}

/// Looks at the memory when the load is done and some batches have followed.
struct Loading {
    timed: Timed,
    peak: u64,
    after: u64,
}

impl Driver for Loading {
    fn next(&mut self) -> std::result::Result<Option<Next>, EngineError> {
        if (1..=AFTER_BATCHES).contains(&self.timed.commits.len()) {
            std::thread::sleep(AFTER_PAUSE);
            (self.peak, self.after) = (machine::status_bytes("VmHWM"), machine::status_bytes("VmRSS"));
        }
        self.timed.next()
    }

    fn progress(&mut self, _: Progress) {}

    fn commit(&mut self, commit: Commit) -> std::result::Result<(), engine::CommitError> {
        self.timed.commit(commit)
    }
}
