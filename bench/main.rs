//! Benchmarks: seeded workloads, one JSON line per run.
//!
//! Every bench makes its input with the dataflows' own generators (kept in a cache folder), measures, and appends a line that
//! says when, on what commit and on which machine. `report` turns the lines into tables. Whole processes are measured by running
//! this very program as `retally` ([`process`]), so what is measured is what was just built.
//!
//! # Limits
//! Linux only: memory is read from `/proc`.

mod anomaly;
mod brokers;
#[allow(clippy::unwrap_used, clippy::indexing_slicing, dead_code, reason = "that of the tests, which panics where it does not get on")]
#[path = "../tests/support/browser.rs"]
mod browser;
mod brushing;
mod columns;
mod exchange;
mod formats;
mod hosted;
mod late;
mod load;
mod machine;
mod memory;
mod numbers;
mod operators;
mod options;
mod page;
mod pairs;
mod parse;
mod points;
mod process;
mod report;
mod results;
mod scaling;
mod serve;
mod service;
mod sinks;
mod sources;
mod stream;
mod sweep;
mod varied;
mod wire;
mod workload;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

// As the program itself: the allocator is part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What any step of a bench returns. A bench that fails says why, and ends.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// retally's benchmarks.
#[derive(Parser)]
#[command(name = "retally-bench")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// A whole run of the program, from text to tables; with --parse-only the reading alone
    Load(load::LoadOptions),
    /// How long a late event, or a batch of 10,000, takes from its arrival until its changes are there
    Late(late::LateOptions),
    /// Batches of one event each in a second, with 1, 4 and 16 in flight
    Stream(stream::StreamOptions),
    /// The same number of events in many shapes, and how far the worst is from the best
    Sweep(sweep::SweepOptions),
    /// Memory per event
    Memory(memory::MemoryOptions),
    /// The same load on 1 worker, 2 workers, and 2 processes
    Scaling(scaling::ScalingOptions),
    /// What one of two processes sends to the other: of a load, and of late events
    Exchange(exchange::ExchangeOptions),
    /// The operator for neighbours against two made of reduce, and the wire format of records
    Operators(operators::OperatorOptions),
    /// Datasets into points: a large one, and many small ones
    Brushing(brushing::BrushingOptions),
    /// Tables into databases: all rows, the same again, some changed, an epoch
    Sinks(sinks::SinksOptions),
    /// A service over HTTP: a load, single late events, clients side by side, a restart
    Serve(serve::ServeOptions),
    /// Messages of brokers: many that wait, and single ones until their change is on the event stream
    Sources(sources::SourcesOptions),
    /// The page of a service in Chromium: its first view, a large table, and how soon a change is on it
    Page(page::PageOptions),
    /// Points into each destination, and from the store
    Points(points::PointsOptions),
    /// Precision and recall of anomalies on generated sensors, and NAB's scores
    Anomaly(anomaly::AnomalyOptions),
    /// Tables in Markdown from result lines
    Report(report::ReportOptions),
    /// Loads a workload and says how much memory this process holds
    #[command(hide = true)]
    Hold(memory::HoldOptions),
}

fn main() -> ExitCode {
    nix::sys::prctl::set_thp_disable(true).ok();
    if let Some(usage) = process::as_retally() {
        return usage;
    }
    let result = match Cli::parse().bench {
        Bench::Load(options) => load::main(&options),
        Bench::Late(options) => late::main(&options),
        Bench::Stream(options) => stream::main(&options),
        Bench::Sweep(options) => sweep::main(&options),
        Bench::Memory(options) => memory::main(&options),
        Bench::Scaling(options) => scaling::main(&options),
        Bench::Exchange(options) => exchange::main(&options),
        Bench::Operators(options) => operators::main(&options),
        Bench::Brushing(options) => brushing::main(&options),
        Bench::Sinks(options) => sinks::main(&options),
        Bench::Serve(options) => serve::main(&options),
        Bench::Sources(options) => sources::main(&options),
        Bench::Page(options) => page::main(&options),
        Bench::Points(options) => points::main(&options),
        Bench::Anomaly(options) => anomaly::main(&options),
        Bench::Report(options) => report::main(&options),
        Bench::Hold(options) => memory::hold(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            results::complain(&*error);
            ExitCode::FAILURE
        }
    }
}
