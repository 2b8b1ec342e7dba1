//! `sweep`: the same number of events of `online`, spread and wrong in many ways, so that no shape of the data is a surprise.
//!
//! Each workload ([`crate::varied`]) is loaded in a process of its own, which then takes late events one by one and the destruction of
//! servers. The last line says how far the worst of a measurement is from the best.

use crate::late::{Timed, job};
use crate::load::tables;
use crate::options::{Common, Measured};
use crate::results::Line;
use crate::varied::{self, Lines, VARIATIONS, Variation};
use crate::{Result, machine};
use clap::Args;
use retally::cluster::Cluster;
use retally::engine::summary::Progress;
use retally::engine::{self, Commit, Driver, EngineError, Next};
use retally::ingest::batch::{Batch, Body, Part, Source, TextFormat};
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

const EVENTS_FILE: &str = "events.csv";
const SERVERS_FILE: &str = "servers.csv";
const LATE_FILE: &str = "late.csv";
const EVENTS: u64 = 2_000_000;
const SINGLES: usize = 1_000;
const SERVERS: usize = 10;
/// Batches without effect after the load, and the pause before each: an allocator gives pages back a little later.
const AFTER_BATCHES: usize = 10;
const AFTER_PAUSE: Duration = Duration::from_millis(50);
/// What is compared over all workloads.
const COMPARED: [&str; 4] = ["load_s", "peak_per_event_bytes", "loaded_per_event_bytes", "single_p50_us"];

/// Runs the bench.
pub fn main(options: &SweepOptions) -> Result<()> {
    if let Some(name) = &options.one {
        let variation = VARIATIONS.iter().find(|variation| variation.name == name).ok_or("there is no workload of this name")?;
        return measure(options, variation, options.from.as_deref().ok_or("nothing says where its files are")?);
    }
    let wanted = |variation: &&Variation| options.only.as_deref().is_none_or(|part| variation.name.contains(part));
    let mut spans: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for variation in VARIATIONS.iter().filter(wanted) {
        let line = measured_apart(options, variation)?;
        for name in COMPARED {
            let value = line.get(name).and_then(Value::as_f64).unwrap_or_default();
            let (best, worst) = spans.entry(name).or_insert((value, value));
            (*best, *worst) = (best.min(value), worst.max(value));
        }
    }
    let line = Line::new("sweep", "online").with("shape", "worst / best").with("events", events(options)).with("workers", options.workers);
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
fn measured_apart(options: &SweepOptions, variation: &Variation) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    {
        let Lines { events, late, servers } = variation.lines(events(options), singles(options) as u64);
        varied::write(&folder.path().join(EVENTS_FILE), "timestamp,device_id,user_id,server_id,connected", &events)?;
        varied::write(&folder.path().join(SERVERS_FILE), "id,created_at,destroyed_at", &servers)?;
        varied::write(&folder.path().join(LATE_FILE), "", &late)?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sweep", "--one", variation.name, "--events", &events(options).to_string(), "--workers", &options.workers.to_string()]);
    command.arg("--from").arg(folder.path());
    command.args(options.tables.iter().flat_map(|tables| ["--tables", tables]));
    command.args(options.common.smoke.then_some("--smoke"));
    if let Some(results) = &options.common.results {
        command.arg("--results").arg(results);
    }
    let output = command.output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("the workload {:?} ended with {}: {why}", variation.name, output.status).into());
    }
    crate::results::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn measure(options: &SweepOptions, variation: &Variation, folder: &Path) -> Result<()> {
    let tables = tables(Measured::Online, options.tables.as_deref());
    let late = std::fs::read_to_string(folder.join(LATE_FILE))?;
    let late: Vec<&str> = late.lines().skip(1).collect();
    let (events_path, servers_path) = (folder.join(EVENTS_FILE), folder.join(SERVERS_FILE));
    let path = |input, path: &Path| Part { input, sign: 1, source: Source::Path(path.display().to_string()) };
    let text =
        |input, sign, line: &str| Part { input, sign, source: Source::Bytes(Body::plain(TextFormat::Csv, line.as_bytes().to_vec())) };
    let mut batches = VecDeque::from([Batch { parts: vec![path(0, &events_path), path(1, &servers_path)] }]);
    batches.extend((0..AFTER_BATCHES).map(|_| Batch { parts: vec![text(0, 1, "")] }));
    batches.extend(late.iter().map(|line| Batch { parts: vec![text(0, 1, line)] }));
    let destroyed = variation.destroyed(SERVERS);
    batches.extend(destroyed.iter().map(|(old, new)| Batch { parts: vec![text(1, -1, old), text(1, 1, new)] }));
    let before = machine::status_bytes("VmRSS");
    let holding = Loading { timed: Timed::new(batches), peak: 0, after: 0 };
    let done = engine::run(&job(Measured::Online, &tables)?, &Cluster::local(options.workers), holding)?;
    let done = done.ok_or("the engine did not hand back its driver")?;

    let commits = &done.timed.commits;
    let latencies = |from, until| done.timed.latencies(from, until);
    let (first, behind) = (1 + AFTER_BATCHES, 1 + AFTER_BATCHES + late.len());
    let (load, one, servers) = (latencies(0, 1), latencies(first, behind), latencies(behind, usize::MAX));
    let accepted = commits.first().map_or(1, |commit| commit.accepted.max(1)) as f64;
    let per_event = |bytes: u64| bytes.saturating_sub(before) as f64 / accepted;
    Line::new("sweep", "online")
        .with("shape", variation.name)
        .with("events", events(options))
        .with("workers", options.workers)
        .with("tables", tables)
        .measured("load_s", load.median() / 1e6)
        .measured("peak_per_event_bytes", per_event(done.peak))
        .measured("loaded_per_event_bytes", per_event(done.after))
        .measured("single_p50_us", one.median())
        .measured("single_p99_us", one.percentile(99))
        .with("servers_destroyed", destroyed.len())
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
