//! `late`: how long it takes until the tables are right again after an event that should have come before.
//!
//! A history is loaded in one batch; then come single late events, one batch each, and then batches of 10,000. The
//! time is that from the moment at which the engine is handed a batch to the moment at which it hands back the changes: parsing,
//! planning and the exchange between workers are in it, sinks are not.
//!
//! Histories differ in size by a factor of 100, and in events per device by factors of 100: latency should follow neither.
//!
//! # Limits
//! A device with ten or more events a day is online on every day, whatever comes late: at high densities no row changes, and what
//! is measured is the way of an event through the graph. `single_rows_changed` says so.

use crate::load::tables;
use crate::numbers::{Sorted, micros};
use crate::options::{Common, Input, Measured, Size};
use crate::results::Line;
use crate::workload::Workload;
use crate::{Result, machine};
use clap::Args;
use retally::cluster::Cluster;
use retally::engine::summary::Progress;
use retally::engine::{self, Commit, Driver, EngineError, Job, Next};
use retally::ingest::batch::Batch;
use retally_core::contract::{Definition, Settings};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Options of `late`.
#[derive(Args)]
pub struct LateOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Workers (default: 1, and then 2)
    #[arg(long, short)]
    workers: Option<usize>,
    /// The tables that are built (default: two)
    #[arg(long)]
    tables: Option<String>,
    /// How many single late events
    #[arg(long, default_value_t = 2_000)]
    singles: usize,
    /// How many batches of 10,000 late events
    #[arg(long, default_value_t = 5)]
    batches: usize,
    /// Only histories of this shape: sizes or densities
    #[arg(long, value_parser = ["sizes", "densities"])]
    only: Option<String>,
}

/// Events of a large batch.
const BATCH: usize = 10_000;
/// The first batches find cold caches, and are not counted.
const WARM_UP: usize = 50;

/// Runs the bench.
pub fn main(options: &LateOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let wants = |shape: &str| options.only.as_deref().is_none_or(|only| only == shape);
    let mut workloads = Vec::new();
    if wants("sizes") {
        for size in sizes(options) {
            workloads.push(("sizes", Workload::generated(common, dataflow, size)?));
        }
    }
    if wants("densities") && dataflow == Measured::Online {
        for size in densities(options) {
            workloads.push(("densities", Workload::even(common, size)?));
        }
    }
    for (shape, workload) in workloads {
        for workers in options.workers.map_or(vec![1, 2], |workers| vec![workers]) {
            measure(options, shape, &workload, workers)?;
        }
    }
    Ok(())
}

/// Events that are kept back for the measurement.
fn late_events(options: &LateOptions) -> u64 {
    let (singles, batches, batch) = counts(options);
    (singles + WARM_UP + batches * batch) as u64
}

/// Singles, batches, and the size of a batch.
fn counts(options: &LateOptions) -> (usize, usize, usize) {
    if options.common.smoke { (50, 2, 100) } else { (options.singles, options.batches, BATCH) }
}

/// Histories of the same kind, one 100 times the other.
fn sizes(options: &LateOptions) -> Vec<Size> {
    let (common, late) = (&options.common, late_events(options));
    let load = Size::of_load(&options.input, common);
    let small = if common.smoke { 20 } else { 100 };
    // What is kept back comes on top, so that what is loaded differs by the factor.
    let history = |factor: u64| Size { events: load.events / factor + late, keys: (load.keys / factor).max(1), late, ..load };
    vec![history(small), history(1)]
}

/// Histories of about the same size, with ever fewer devices.
fn densities(options: &LateOptions) -> Vec<Size> {
    let late = late_events(options);
    if options.common.smoke {
        return vec![Size { events: 10_000, keys: 10, days: 50, late }];
    }
    [20_000, 200, 2].map(|keys| Size { events: 2_000_000, keys, days: 1_095, late }).into()
}

fn measure(options: &LateOptions, shape: &str, workload: &Workload, workers: usize) -> Result<()> {
    let (common, (singles, _, batch)) = (&options.common, counts(options));
    let line = Line::new("late", workload.dataflow.name());
    let tables = tables(workload.dataflow, options.tables.as_deref());
    let lines = workload.late_lines()?;
    let (single, large) = lines.split_at((singles + WARM_UP).min(lines.len()));
    let mut queue = VecDeque::from([workload.batch()]);
    let measured = Measurable::of(lines.len(), counts(options))?;
    queue.extend(single.iter().map(|line| workload.lines_batch(std::slice::from_ref(line))));
    queue.extend(large.chunks_exact(batch).take(measured.batches).map(|lines| workload.lines_batch(lines)));

    let job = job(workload.dataflow, &tables)?;
    let driver = engine::run(&job, &Cluster::local(workers), Timed::new(queue))?;
    let driver = driver.ok_or("the engine did not hand back its driver")?;
    let latency = |from, until| driver.latencies(from, until);
    let first_batch = 1 + single.len();
    let (load, one, many) = (latency(0, 1), latency(1 + WARM_UP, first_batch), latency(first_batch, usize::MAX));
    let history = driver.commits.first().map_or(0, |commit| commit.accepted);
    let changed = driver.commits.iter().skip(1 + WARM_UP).take(measured.singles).map(|commit| commit.rows).sum::<usize>();
    let line = line
        .with("shape", shape)
        .with("events", history)
        .with(workload.dataflow.keys(), workload.size.keys)
        .with("events_per_key", history / workload.size.keys)
        .with("days", workload.size.days)
        .with("workers", workers)
        .with("tables", tables)
        .measured("load_s", load.median() / 1e6)
        .with("singles", measured.singles)
        .measured("single_p50_us", one.median())
        .measured("single_p99_us", one.percentile(99))
        .measured("single_max_us", one.max())
        .measured("single_rows_changed", changed as f64 / measured.singles as f64)
        .with("batches", measured.batches)
        .with("batch_events", batch);
    // What was not asked for has no median.
    let line = if measured.batches == 0 {
        line
    } else {
        line.measured("batch_p50_ms", many.median() / 1e3).measured("batch_max_ms", many.max() / 1e3)
    };
    line.measured("rss_bytes", machine::status_bytes("VmRSS") as f64).publish(common)
}

/// How much there are late events for: a workload may have fewer than were asked for.
#[derive(Debug, PartialEq, Eq)]
struct Measurable {
    singles: usize,
    batches: usize,
}

impl Measurable {
    /// With so many late events. None for a kind of batch that was asked for is an error.
    fn of(late: usize, (singles, batches, batch): (usize, usize, usize)) -> Result<Measurable> {
        let measured = Measurable {
            singles: late.saturating_sub(WARM_UP).min(singles),
            batches: (late.saturating_sub(WARM_UP + singles) / batch).min(batches),
        };
        if singles == 0 {
            return Err("could not measure single late events: --singles is 0".into());
        }
        if measured.singles == 0 || (batches > 0 && measured.batches == 0) {
            let needed = WARM_UP + singles + if batches > 0 { batch } else { 0 };
            return Err(format!("could not measure late events: there are {late}, and it takes {needed} (--events, --singles)").into());
        }
        Ok(measured)
    }
}

/// A dataflow under its defaults, with some of its tables.
pub fn job(dataflow: Measured, tables: &str) -> Result<Job> {
    let dataflow = dataflow.dataflow()?;
    let definition: Definition = dataflow.definition();
    let settings = Settings::defaults(&definition.settings);
    let graph = dataflow.graph(&settings)?;
    let names: Vec<String> = graph.tables().iter().map(|table| table.name.to_string()).collect();
    let tables = if tables == "all" { names } else { tables.split(',').map(String::from).collect() };
    // Of single events some are refused, as of any other batch.
    Ok(Job { rejected_max: Some(u64::MAX), ..Job::new(definition, graph, settings, tables.into_iter().collect()) })
}

/// Feeds batches one after the other, and takes the time of each.
pub struct Timed {
    batches: VecDeque<Batch>,
    handed: Instant,
    /// What came of each batch.
    pub commits: Vec<Committed>,
}

/// What came of a batch.
pub struct Committed {
    /// From the batch's handing out to its commit.
    pub latency: Duration,
    /// Records accepted.
    pub accepted: u64,
    /// Rows that came or went.
    pub rows: usize,
}

impl Timed {
    /// A driver of these batches.
    pub fn new(batches: VecDeque<Batch>) -> Timed {
        Timed { batches, handed: Instant::now(), commits: Vec::new() }
    }

    /// What batches took, from one to before another, in microseconds.
    pub fn latencies(&self, from: usize, until: usize) -> Sorted {
        let commits = self.commits.get(from..until.min(self.commits.len())).unwrap_or_default();
        Sorted::new(commits.iter().map(|commit| micros(commit.latency)).collect())
    }
}

impl Driver for Timed {
    fn next(&mut self) -> std::result::Result<Option<Next>, EngineError> {
        let batch = self.batches.pop_front();
        self.handed = Instant::now();
        Ok(batch.map(Next::Batch))
    }

    fn progress(&mut self, _: Progress) {}

    fn commit(&mut self, commit: Commit) -> std::result::Result<(), engine::CommitError> {
        let latency = self.handed.elapsed();
        let rows = commit.changes.values().flatten().map(retally_core::row::RowBatch::len).sum();
        self.commits.push(Committed { latency, accepted: commit.summary.delivered, rows });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reported_is_what_there_were_late_events_for() {
        let of = |late| Measurable::of(late, (100, 5, 1_000)).map(|measured| (measured.singles, measured.batches)).ok();
        assert_eq!([WARM_UP + 5_100, WARM_UP + 9_999].map(of), [Some((100, 5)); 2]);
        assert_eq!(of(WARM_UP + 3_099), Some((100, 2)), "a batch that is not full is not measured");
        assert_eq!([WARM_UP + 1_099, WARM_UP + 1, WARM_UP, 0].map(of), [None; 4], "none would have no median");
        let singles = |late| Measurable::of(late, (100, 0, 1_000)).map(|measured| (measured.singles, measured.batches)).ok();
        assert_eq!([WARM_UP + 7, WARM_UP].map(singles), [Some((7, 0)), None], "batches were not asked for");
    }
}
