//! `load`: the program as a whole, from text files to tables in files; or the reading alone.

use crate::numbers::Sorted;
use crate::options::{Common, Input, Measured, Size};
use crate::process::{self, Usage};
use crate::results::Line;
use crate::workload::Workload;
use crate::{Result, parse};
use clap::Args;

/// Options of `load`.
#[derive(Args)]
pub struct LoadOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Workers
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// The tables that are built (default: two; all: all)
    #[arg(long)]
    tables: Option<String>,
    /// Only read and decode: no graph
    #[arg(long)]
    parse_only: bool,
    /// What ids are: as they are generated, or UUIDs that are read as text (online alone)
    #[arg(long, value_parser = ["number", "text"], default_value = "number")]
    ids: String,
    /// How the events are written: as they are generated, or as Parquet (online alone)
    #[arg(long, value_parser = ["text", "parquet"], default_value = "text")]
    files: String,
}

/// Runs the bench.
pub fn main(options: &LoadOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let workload = Workload::generated(common, dataflow, Size::of_load(&options.input, common))?;
    let text_ids = options.ids == "text";
    let workload = if text_ids { workload.with_text_ids()? } else { workload };
    let is_parquet = options.files == "parquet";
    let workload = if is_parquet { workload.as_parquet()? } else { workload };
    let line = sized(Line::new(if options.parse_only { "parse" } else { "load" }, dataflow.name()), &workload);
    let line = if text_ids { line.with("ids", "text") } else { line };
    let line = if is_parquet { line.with("files", "parquet") } else { line };
    if options.parse_only {
        return parse_only(options, &workload, line);
    }
    let tables = tables(dataflow, options.tables.as_deref());
    let out = tempfile::tempdir()?;
    let mut arguments = run_arguments(&workload, &tables);
    arguments.extend(text_ids.then(|| ["--ids".to_string(), "text".into()]).into_iter().flatten());
    arguments.extend(["-w".into(), options.workers.to_string(), "--out".into(), out.path().display().to_string()]);
    let usages: Vec<Usage> = (0..common.repeat.max(1)).map(|_| process::retally(&[arguments.clone()])).collect::<Result<_>>()?;
    let wall = Sorted::new(usages.iter().map(|usage| usage.wall_s).collect());
    let line = line.with("workers", options.workers).with("tables", tables).with("repeats", usages.len());
    measured(line, &usages)
        .measured("wall_min_s", wall.min())
        .measured("wall_max_s", wall.max())
        .measured("events_per_s", workload.size.events as f64 / wall.median())
        .publish(common)
}

/// The tables under an option.
pub fn tables(dataflow: Measured, given: Option<&str>) -> String {
    given.unwrap_or(dataflow.two_tables()).to_string()
}

/// The beginning of a command line.
pub fn run_arguments(workload: &Workload, tables: &str) -> Vec<String> {
    let mut arguments = vec!["run".to_string(), workload.dataflow.name().to_string()];
    arguments.extend(workload.inputs());
    arguments.push("--quiet".into());
    if tables != "all" {
        arguments.extend(["--tables".into(), tables.into()]);
    }
    arguments
}

/// With the medians of several runs.
pub fn measured(line: Line, usages: &[Usage]) -> Line {
    let median = |value: fn(&Usage) -> f64| Sorted::new(usages.iter().map(value).collect()).median();
    line.measured("wall_s", median(|usage| usage.wall_s))
        .measured("user_s", median(|usage| usage.user_s))
        .measured("sys_s", median(|usage| usage.sys_s))
        .measured("peak_rss_bytes", median(|usage| usage.peak_rss_bytes as f64))
}

/// With the size of a workload.
pub fn sized(line: Line, workload: &Workload) -> Line {
    let size = workload.size;
    line.with(workload.dataflow.keys(), size.keys).with("days", size.days).with("events", size.events)
}

fn parse_only(options: &LoadOptions, workload: &Workload, line: Line) -> Result<()> {
    let common = &options.common;
    let line = line.with("workers", options.workers);
    let runs: Vec<parse::Read> = (0..common.repeat.max(1)).map(|_| parse::read(workload, options.workers)).collect::<Result<_>>()?;
    let wall = Sorted::new(runs.iter().map(|run| run.wall_s).collect()).median();
    let Some(read) = runs.first() else { return Ok(()) };
    line.with("repeats", runs.len())
        .with("accepted", read.accepted)
        .with("rejected", read.rejected)
        .with("input_bytes", read.bytes)
        .measured("wall_s", wall)
        .measured("events_per_s", read.accepted as f64 / wall)
        .measured("input_bytes_per_s", read.bytes as f64 / wall)
        .publish(common)
}
