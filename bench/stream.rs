//! `stream`: how many batches of one late event each the engine takes in a second, with 1, 4 and 16 of them in flight.
//!
//! A history is loaded in one batch through the host, as a service would; then come the events that were kept back. One thread plans and
//! offers, and takes what is complete. Planning, decoding, the graph and the way between threads are in it, and that between processes
//! where there are several; tables and sinks are not.

use crate::hosted::Hosted;
use crate::late::job;
use crate::load::{sized, tables};
use crate::numbers::{Sorted, micros};
use crate::options::{Common, Input, Measured, Size};
use crate::results::Line;
use crate::workload::Workload;
use crate::{Result, machine};
use clap::Args;
use retally::ingest::batch::{Arrival, Batch};
use retally::ingest::plan;
use retally_core::contract::Definition;
use retally_core::time::Moment;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Options of `stream`.
#[derive(Args)]
pub struct StreamOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Processes
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Workers of each
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// The tables that are built (default: two; all: all)
    #[arg(long)]
    tables: Option<String>,
    /// How many batches for each number of them in flight
    #[arg(long, default_value_t = 20_000)]
    singles: usize,
}

/// How many batches are in flight.
const IN_FLIGHT: [usize; 3] = [1, 4, 16];
/// The first batches find cold caches, and are not counted.
const WARM_UP: usize = 200;
/// Longer than any batch takes: what takes longer has stopped.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Runs the bench.
pub fn main(options: &StreamOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let singles = if common.smoke { 50 } else { options.singles };
    let load = Size::of_load(&options.input, common);
    let events = options.input.events.unwrap_or(if common.smoke { load.events } else { 1_000_000 });
    let late = (WARM_UP + singles * IN_FLIGHT.len()) as u64;
    let keys = options.input.keys.unwrap_or((load.keys * events / load.events.max(1)).max(1));
    let workload = Workload::generated(common, dataflow, Size { events: events + late, keys, late, ..load })?;
    let tables = tables(dataflow, options.tables.as_deref());
    let lines = workload.late_lines()?;
    let hosted = Hosted::start(&[job(dataflow, &tables)?], options.processes, options.workers)?;
    let mut stream = Stream::into(dataflow, &hosted)?;
    stream.run(&[workload.batch()], 1)?;
    let batches: Vec<Batch> = lines.iter().map(|line| workload.lines_batch(std::slice::from_ref(line))).collect();
    let (warm_up, counted) = batches.split_at(WARM_UP.min(batches.len()));
    stream.run(warm_up, 1)?;
    for (in_flight, batches) in IN_FLIGHT.into_iter().zip(counted.chunks(singles.max(1))) {
        let started = Instant::now();
        let latencies = Sorted::new(stream.run(batches, in_flight)?);
        let wall = started.elapsed().as_secs_f64();
        let line = sized(Line::new("stream", dataflow.name()), &workload);
        let line = if options.processes > 1 { line.with("processes", options.processes) } else { line };
        line.with("workers", options.workers)
            .with("tables", tables.as_str())
            .with("in_flight", in_flight)
            .with("batches", batches.len())
            .measured("batches_per_s", batches.len() as f64 / wall)
            .measured("p50_us", latencies.median())
            .measured("p99_us", latencies.percentile(99))
            .measured("rss_bytes", machine::status_bytes("VmRSS") as f64)
            .publish(common)?;
    }
    drop(stream);
    hosted.close()
}

/// A stream of batches into a host.
pub struct Stream<'h> {
    definition: Definition,
    hosted: &'h Hosted,
    /// When those that are in flight were offered.
    arrivals: VecDeque<Instant>,
}

impl Stream<'_> {
    /// One into the host of a dataflow.
    pub fn into(dataflow: Measured, hosted: &Hosted) -> Result<Stream<'_>> {
        Ok(Stream { definition: dataflow.dataflow()?.definition(), hosted, arrivals: VecDeque::new() })
    }

    /// Offers batches, so many in flight at most. Returns how long each took, in microseconds.
    pub fn run(&mut self, batches: &[Batch], in_flight: usize) -> Result<Vec<f64>> {
        let mut latencies = Vec::with_capacity(batches.len());
        let mut batches = batches.iter();
        while latencies.len() < latencies.capacity() {
            while self.arrivals.len() < in_flight
                && let Some(batch) = batches.next()
            {
                let arrived = Instant::now();
                self.arrivals.push_back(arrived);
                let plan = plan::plan(&self.definition, batch, Arrival { accept_from: Moment::FIRST, accept_until: Moment::LAST })?;
                self.hosted.host.offer(0, plan, arrived)?;
            }
            let run = self.hosted.completed.poll(WAIT_MAX)?;
            if run.is_empty() {
                return Err("no batch is complete".into());
            }
            latencies.extend(run.iter().filter_map(|_| self.arrivals.pop_front()).map(|arrived| micros(arrived.elapsed())));
        }
        Ok(latencies)
    }
}
