//! `serve`: a service over HTTP on loopback, its state on this disk, with all tables: a load by `feed`, single late events, clients side by
//! side, and a restart.
//!
//! Clients send late events, from anywhere in the data, and then new ones: those that come last, to a service that has all others.
//!
//! Times are those of the client: from a request until its answer, with `wait=visible`. How much of a single event's time is that of the
//! disk and of SQLite comes from the service's own metrics.

use crate::load::sized;
use crate::numbers::{Sorted, micros};
use crate::options::{Common, Input, Size};
use crate::results::Line;
use crate::service::Service;
use crate::workload::Workload;
use crate::{Result, machine, process};
use clap::Args;
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::Instant;

/// Options of `serve`.
#[derive(Args)]
pub struct ServeOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Workers
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// How many single late events
    #[arg(long, default_value_t = 1_000)]
    singles: usize,
    /// How many batches of 10 events, for each number of clients
    #[arg(long, default_value_t = 20_000)]
    batches: usize,
}

/// Clients side by side.
const CLIENTS: [usize; 2] = [8, 64];
/// Events of a batch.
const BATCH: usize = 10;
/// The first requests find cold caches, and are not counted.
const WARM_UP: usize = 50;
/// Runs the bench.
pub fn main(options: &ServeOptions) -> Result<()> {
    let (common, dataflow) = (&options.common, options.input.dataflow);
    let (singles, batches) = if common.smoke { (20, 40) } else { (options.singles, options.batches) };
    let load = Size::of_load(&options.input, common);
    let late = (WARM_UP + singles + batches * BATCH * CLIENTS.len()) as u64;
    let workload = Workload::generated(common, dataflow, Size { events: load.events + late, late, ..load })?;
    let lines = workload.late_lines()?;
    let kind = if dataflow.name() == "online" { "text/csv" } else { "application/x-ndjson" };
    let folder = tempfile::tempdir_in(common.cache())?;
    let state = folder.path().join("state");
    let line = || sized(Line::new("serve", dataflow.name()), &workload).with("workers", options.workers);

    let service = Service::start(&state, dataflow.name(), options.workers, &[])?;
    service.until("/readyz")?;
    let began = Instant::now();
    feed(&service, dataflow.name(), workload.inputs())?;
    let feed_s = began.elapsed().as_secs_f64();
    line()
        .with("what", "feed")
        .measured("wall_s", feed_s)
        .measured("events_per_s", load.events as f64 / feed_s)
        .measured("rss_bytes", service.rss())
        .measured("rss_bytes_per_event", service.rss() / load.events as f64)
        .measured("kept_bytes_per_byte", bytes_below(&state, &["journal", "blobs"])? / bytes_of_inputs(&workload)?)
        .publish(common)?;

    let (one, rest) = lines.split_at((WARM_UP + singles).min(lines.len()));
    let mut times = Vec::new();
    let (mut sync, mut commit) = ((0.0, 0.0), (0.0, 0.0));
    for (number, event) in one.iter().enumerate() {
        if number == WARM_UP {
            (sync, commit) = (service.seconds("journal_sync")?, service.seconds("tables_commit")?);
        }
        times.push(micros(service.post(dataflow.name(), &format!("{event}\n"), kind)?));
    }
    let mean = |now: (f64, f64), before: (f64, f64)| (now.0 - before.0) / (now.1 - before.1).max(1.0) * 1e6;
    let (sync, commit) = (mean(service.seconds("journal_sync")?, sync), mean(service.seconds("tables_commit")?, commit));
    let times = Sorted::new(times.split_off(WARM_UP.min(times.len())));
    line()
        .with("what", "late event")
        .with("requests", singles)
        .measured("p50_us", times.median())
        .measured("p99_us", times.percentile(99))
        .measured("max_us", times.max())
        .measured("sync_mean_us", sync)
        .measured("tables_mean_us", commit)
        .publish(common)?;

    for (clients, lines) in CLIENTS.into_iter().zip(rest.chunks(batches * BATCH)) {
        let sent = send(&service, dataflow.name(), clients, lines, kind)?;
        sent.tell(line().with("what", "clients").with("clients", clients)).measured("rss_bytes", service.rss()).publish(common)?;
    }
    service.end(Signal::SIGKILL)?;

    let service = Service::start(&state, dataflow.name(), options.workers, &[])?;
    let reads_s = service.until(&format!("/v1/{}/tables", dataflow.name()))?;
    let ready_s = service.until("/readyz")?;
    line()
        .with("what", "restart")
        .measured("reads_s", reads_s)
        .measured("ready_s", ready_s)
        .measured("rss_bytes", service.rss())
        .measured("load_average", machine::load_average())
        .publish(common)?;
    service.end(Signal::SIGTERM)?;

    let folder = tempfile::tempdir_in(common.cache())?;
    let (inputs, lines) = workload.before_the_last(batches * BATCH * CLIENTS.len(), folder.path())?;
    // Under the clock, as-of would be the same for a minute; generated events end before it.
    let end = lines.iter().filter_map(|line| line.split(',').next()).max().filter(|_| dataflow.name() == "online");
    let as_of: Vec<&str> = end.into_iter().flat_map(|end| ["--as-of", end]).collect();
    let service = Service::start(&folder.path().join("state"), dataflow.name(), options.workers, &as_of)?;
    service.until("/readyz")?;
    feed(&service, dataflow.name(), inputs)?;
    for (clients, lines) in CLIENTS.into_iter().zip(lines.chunks(batches * BATCH)) {
        let sent = send(&service, dataflow.name(), clients, lines, kind)?;
        sent.tell(line().with("what", "new events").with("clients", clients)).measured("rss_bytes", service.rss()).publish(common)?;
    }
    service.end(Signal::SIGTERM)
}

fn feed(service: &Service, dataflow: &str, inputs: Vec<String>) -> Result<()> {
    let mut arguments = ["feed", dataflow, "--server", &service.address, "--quiet"].map(String::from).to_vec();
    arguments.extend(inputs);
    process::retally(&[arguments])?;
    Ok(())
}

/// What clients sent side by side.
struct Sent {
    batches: usize,
    wall_s: f64,
    times: Sorted,
}

impl Sent {
    fn tell(&self, line: Line) -> Line {
        line.with("batch_events", BATCH)
            .with("requests", self.batches)
            .measured("batches_per_s", self.batches as f64 / self.wall_s)
            .measured("p50_us", self.times.median())
            .measured("p99_us", self.times.percentile(99))
    }
}

/// Sends events in batches, by so many clients.
fn send(service: &Service, dataflow: &str, clients: usize, lines: &[String], kind: &str) -> Result<Sent> {
    let bodies: Vec<String> = lines.chunks(BATCH).map(|lines| lines.iter().map(|line| format!("{line}\n")).collect()).collect();
    let began = Instant::now();
    let times = std::thread::scope(|scope| {
        let send = |client: usize| {
            let own = bodies.iter().skip(client).step_by(clients);
            scope.spawn(move || own.map(|body| service.post(dataflow, body, kind).map(micros).map_err(|error| error.to_string())).collect())
        };
        let sent: Vec<_> = (0..clients).map(send).collect();
        let all: std::result::Result<Vec<Vec<f64>>, String> =
            sent.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into()))).collect();
        all
    })?;
    Ok(Sent { batches: bodies.len(), wall_s: began.elapsed().as_secs_f64(), times: Sorted::new(times.concat()) })
}

fn bytes_of_inputs(workload: &Workload) -> Result<f64> {
    let paths = workload.inputs();
    let bytes = paths.iter().filter_map(|input| std::fs::metadata(input.split_once('=')?.1).ok());
    Ok(bytes.map(|file| file.len()).sum::<u64>() as f64)
}

fn bytes_below(state: &Path, folders: &[&str]) -> Result<f64> {
    let mut bytes = 0;
    for folder in folders {
        for entry in std::fs::read_dir(state.join(folder))? {
            bytes += entry?.metadata()?.len();
        }
    }
    Ok(bytes as f64)
}
