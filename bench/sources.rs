//! `sources`: messages of brokers into a service with all tables: many that wait for it, and single ones until their change is on the
//! event stream.
//!
//! The rate is from the moment at which the service is ready until the last message is counted, and can be read: it is that of the broker,
//! the journal, the engine and SQLite on one machine.

use crate::Result;
use crate::brokers::{Broker, Kind};
use crate::numbers::{Sorted, micros};
use crate::options::{Common, Measured, Size};
use crate::results::Line;
use crate::service::Service;
use crate::workload::Workload;
use clap::Args;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Options of `sources`.
#[derive(Args)]
pub struct SourcesOptions {
    #[command(flatten)]
    common: Common,
    /// Workers
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// How many messages wait
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// How many single ones come then, for each time that a batch is gathered
    #[arg(long, default_value_t = 200)]
    singles: usize,
}

/// Times that a batch is gathered: as it is unless one says otherwise, and not at all.
const BATCH_TIMES: [&str; 2] = ["50ms", "0"];
/// Longer than anything takes.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Runs the bench.
pub fn main(options: &SourcesOptions) -> Result<()> {
    let common = &options.common;
    let (messages, singles) = if common.smoke { (2_000, 5) } else { (options.messages, options.singles) };
    let late = (singles * BATCH_TIMES.len()) as u64;
    let size = Size { events: messages, keys: (messages / 100).max(10), days: 100, late };
    let workload = Workload::generated(common, Measured::Online, size)?;
    let (lines, late) = (workload.lines()?, workload.late_lines()?);
    for kind in [Kind::Mqtt, Kind::Nats] {
        let folder = tempfile::tempdir_in(common.cache())?;
        let broker = Broker::start(kind, folder.path())?;
        let (state, source) = (folder.path().join("state"), format!("online.events={}", broker.url()));
        let start = |time: &str| {
            let service = Service::start(&state, "online", options.workers, &["--source", &source, "--batch-time", time])?;
            service.until("/readyz")?;
            Ok::<_, Box<dyn std::error::Error>>(service)
        };
        let line = || Line::new("sources", "online").with("broker", kind.name()).with("workers", options.workers);
        // A broker of MQTT keeps messages for a client that it knows.
        let service = start("50ms")?;
        until(&service, is_connected)?;
        service.end(Signal::SIGTERM)?;
        broker.publish(&lines)?;
        let service = start("50ms")?;
        let began = Instant::now();
        let status = until(&service, |status| count(status, "records") >= lines.len() as u64)?;
        let wall_s = began.elapsed().as_secs_f64();
        line()
            .with("what", "waiting")
            .with("messages", lines.len())
            .measured("wall_s", wall_s)
            .measured("messages_per_s", lines.len() as f64 / wall_s)
            .with("batches", count(&status, "epoch"))
            .with("records", count(&status, "records"))
            .measured("rss_bytes", service.rss())
            .publish(common)?;
        service.end(Signal::SIGTERM)?;

        for (time, late) in BATCH_TIMES.into_iter().zip(late.chunks(singles.max(1))) {
            let service = start(time)?;
            until(&service, is_connected)?;
            let times = Sorted::new(times(&service, &broker, late)?);
            line()
                .with("what", "single message")
                .with("batch_time", time)
                .with("messages", late.len())
                .measured("p50_us", times.median())
                .measured("p99_us", times.percentile(99))
                .measured("max_us", times.max())
                .publish(common)?;
            service.end(Signal::SIGTERM)?;
        }
    }
    Ok(())
}

fn is_connected(status: &Value) -> bool {
    status.pointer("/sources/0/connected") == Some(&Value::Bool(true))
}

/// A number that the status has of the dataflow.
fn count(status: &Value, name: &str) -> u64 {
    status.pointer(&format!("/dataflows/online/{name}")).and_then(Value::as_u64).unwrap_or(0)
}

/// Waits until something is so of the status.
fn until(service: &Service, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let status: Value = serde_json::from_str(&service.get("/v1/status")?.1)?;
        if is_so(&status) {
            return Ok(status);
        }
        if Instant::now() > until {
            return Err(format!("nothing more comes: {status}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Microseconds from the beginning of publishing a message until the stream of changes says that its batch is whole.
fn times(service: &Service, broker: &Broker, messages: &[String]) -> Result<Vec<f64>> {
    let (came, comes) = mpsc::channel();
    let stream = ureq::get(format!("{}/v1/changes?tables=online.online_intervals", service.address)).call()?;
    let lines = BufReader::new(stream.into_body().into_reader()).lines();
    std::thread::spawn(move || {
        // It ends with the service.
        for line in lines.map_while(std::io::Result::ok) {
            if line == "event: progress" && came.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    // That the stream is there.
    comes.recv_timeout(WAIT_MAX)?;
    let mut times = Vec::new();
    for message in messages {
        while comes.try_recv().is_ok() {}
        let began = Instant::now();
        broker.publish(std::slice::from_ref(message))?;
        times.push(micros(comes.recv_timeout(WAIT_MAX)?.saturating_duration_since(began)));
    }
    Ok(times)
}
