//! `exchange`: what process 0 of two sends to the other: of a load per event, and of late events per epoch.
//!
//! Messages about progress go to all workers of a process at once, and records to one: so they are told apart where a process has two
//! workers. What the other process sends is much the same. How long a late event takes on two processes is measured by `stream`.

use crate::Result;
use crate::hosted::Hosted;
use crate::late::job;
use crate::load::{sized, tables};
use crate::options::{Common, Input, Size};
use crate::results::Line;
use crate::stream::Stream;
use crate::workload::Workload;
use clap::Args;
use retally::cluster::traffic::Sent;
use retally::ingest::batch::Batch;

/// Options of `exchange`.
#[derive(Args)]
pub struct ExchangeOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Processes
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// Workers of each: two or more, so that progress is told from records
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// The tables that are built (default: two; all: all)
    #[arg(long)]
    tables: Option<String>,
    /// How many late events, one after the other
    #[arg(long, default_value_t = 2_000)]
    singles: usize,
}

/// Runs the bench.
pub fn main(options: &ExchangeOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let singles = if common.smoke { 50 } else { options.singles };
    let load = Size::of_load(&options.input, common);
    let events = options.input.events.unwrap_or(if common.smoke { load.events } else { 1_000_000 });
    let keys = options.input.keys.unwrap_or((load.keys * events / load.events.max(1)).max(1));
    let late = singles as u64;
    let workload = Workload::generated(common, dataflow, Size { events: events + late, keys, late, ..load })?;
    let tables = tables(dataflow, options.tables.as_deref());
    let hosted = Hosted::start(&[job(dataflow, &tables)?], options.processes, options.workers)?;
    let begun = hosted.traffic.sent();
    let mut stream = Stream::into(dataflow, &hosted)?;
    stream.run(&[workload.batch()], 1)?;
    let loaded = hosted.traffic.sent();
    let lines = workload.late_lines()?;
    let batches: Vec<Batch> = lines.iter().map(|line| workload.lines_batch(std::slice::from_ref(line))).collect();
    stream.run(&batches, 1)?;
    let added = hosted.traffic.sent();
    drop(stream);
    for (what, before, after, count) in [("load", begun, loaded, events), ("late events", loaded, added, batches.len() as u64)] {
        let per = |value: fn(Sent) -> u64| (value(after) - value(before)) as f64 / count.max(1) as f64;
        sized(Line::new("exchange", dataflow.name()), &workload)
            .with("what", what)
            .with("processes", options.processes)
            .with("workers", options.workers)
            .with("tables", tables.as_str())
            .measured("sent_bytes_per_event", per(|sent| sent.bytes))
            .measured("messages_per_event", per(|sent| sent.messages))
            .measured("progress_per_event", per(|sent| sent.progress))
            .measured("progress_bytes_per_event", per(|sent| sent.progress_bytes))
            .measured("writes_per_event", per(|sent| sent.writes))
            .publish(common)?;
    }
    hosted.close()
}
