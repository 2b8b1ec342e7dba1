//! `scaling`: the same load on 1 worker, on 2 workers of a process, and on 2 processes with a worker each.

use crate::Result;
use crate::load::{measured, run_arguments, sized, tables};
use crate::numbers::Sorted;
use crate::options::{Common, Input, Size};
use crate::process::{self, Usage};
use crate::results::Line;
use crate::workload::Workload;
use clap::Args;
use retally::cluster::loopback::free_addresses;
use std::path::Path;

/// Options of `scaling`.
#[derive(Args)]
pub struct ScalingOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// The tables that are built (default: two)
    #[arg(long)]
    tables: Option<String>,
}

/// Processes, and workers of each.
const LAYOUTS: [(usize, usize); 3] = [(1, 1), (1, 2), (2, 1)];

/// Runs the bench.
pub fn main(options: &ScalingOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let workload = Workload::generated(common, dataflow, Size::of_load(&options.input, common))?;
    let tables = tables(dataflow, options.tables.as_deref());
    let line = || sized(Line::new("scaling", dataflow.name()), &workload).with("tables", tables.as_str());
    let lines = LAYOUTS.map(|_| line());
    let mut usages: [Vec<Usage>; LAYOUTS.len()] = Default::default();
    // One after the other in each round, so that what else the machine does meets all of them alike.
    for _ in 0..common.repeat.max(1) {
        for ((processes, workers), usages) in LAYOUTS.into_iter().zip(&mut usages) {
            usages.push(run(&workload, &tables, processes, workers)?);
        }
    }
    let mut alone_s = None;
    for ((line, (processes, workers)), usages) in lines.into_iter().zip(LAYOUTS).zip(usages) {
        let wall = Sorted::new(usages.iter().map(|usage| usage.wall_s).collect());
        let alone_s = *alone_s.get_or_insert(wall.median());
        measured(line.with("processes", processes).with("workers", workers).with("repeats", usages.len()), &usages)
            .measured("wall_min_s", wall.min())
            .measured("wall_max_s", wall.max())
            .measured("events_per_s", workload.size.events as f64 / wall.median())
            .measured("speed_up", alone_s / wall.median())
            .publish(common)?;
    }
    Ok(())
}

fn run(workload: &Workload, tables: &str, processes: usize, workers: usize) -> Result<Usage> {
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, free_addresses(processes)?.join("\n"))?;
    let arguments = |process: usize| {
        let out = folder.path().join(format!("out-{process}"));
        let mut arguments = run_arguments(workload, tables);
        let text = |path: &Path| path.display().to_string();
        arguments.extend(["-w".into(), workers.to_string(), "--out".into(), text(&out)]);
        if processes > 1 {
            arguments.extend(["-n".into(), processes.to_string(), "-p".into(), process.to_string(), "--hosts".into(), text(&hosts)]);
        }
        arguments
    };
    process::retally(&(0..processes).map(arguments).collect::<Vec<_>>())
}
