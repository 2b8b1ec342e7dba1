//! `points`: points per second into each destination, and what is read from the store.
//!
//! Workers are threads that make points and give them away as an operator would. Two shapes: `long`, few series of five fields that come in
//! order, as `brushing` writes them; `wide`, a thousand series of one field, some points of each in turn, as `sensors` does. A line per
//! destination and shape; for the store one more with ranges of 10,000 points, read from the store as it was opened anew, and with single
//! late points, from offer to flush.

use crate::numbers::{Sorted, micros};
use crate::options::Common;
use crate::results::Line;
use crate::{Result, machine};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally::points::Destination;
use retally::points::store::Store;
use retally_core::points::{BATCH_POINTS, FieldKind, Measurement, Offered, PointBatch, PointColumn, PointField, PointWriter, RETRY_AFTER};
use retally_core::points::{Series, Standing, Tag, Values};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 2026-03-01T00:00:00Z.
const START_NS: i64 = 1_772_323_200_000_000_000;
/// Series of the wide shape get so many points at a time.
const WIDE_POINTS: usize = 16;
/// A server may take so long to start.
const SERVER_SECONDS_MAX: u64 = 60;

/// Options of `points`.
#[derive(Args)]
pub struct PointsOptions {
    #[command(flatten)]
    common: Common,
    /// Points (default: 20 million; 2 million for a server)
    #[arg(long)]
    points: Option<usize>,
    /// Threads that make points
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// Destinations, separated by commas: null, store, server (a VictoriaMetrics that is started)
    #[arg(long, value_delimiter = ',', default_value = "null,store,server")]
    to: Vec<String>,
    /// Shapes, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "long,wide")]
    shapes: Vec<String>,
}

/// Runs the bench.
pub fn main(options: &PointsOptions) -> Result<()> {
    for to in &options.to {
        for shape in &options.shapes {
            run(options, to, shape)?;
        }
    }
    Ok(())
}

fn run(options: &PointsOptions, to: &str, shape: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    let mut server = None;
    let destination: Destination = match to {
        "null" => "file:/dev/null".parse()?,
        "store" => Destination::Store(store.clone()),
        "server" => {
            let started = Server::start(folder.path())?;
            let destination = format!("http://{}", started.address).parse()?;
            server = Some(started);
            destination
        }
        _ => return Err(format!("there is no destination {to:?}").into()),
    };
    let points = match (options.points, to, options.common.smoke) {
        (Some(points), ..) => points,
        (None, _, true) => 100_000,
        (None, "server", false) => 2_000_000,
        (None, ..) => 20_000_000,
    };
    let workload = Workload::new(shape, options.workers.max(1), points)?;
    let line =
        Line::new("points", "-").with("to", to).with("shape", shape).with("workers", workload.workers).with("series", workload.series);
    let started = Instant::now();
    let outlet = destination.open(0)?;
    let writers = outlet.points();
    let written: std::result::Result<Vec<usize>, String> = std::thread::scope(|scope| {
        let write = |worker: usize| {
            let (workload, writers) = (&workload, &writers);
            scope.spawn(move || workload.write(worker, writers.writer()))
        };
        let threads: Vec<_> = (0..workload.workers).map(write).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a worker panicked".into()))).collect()
    });
    let written: usize = written?.into_iter().sum();
    let dropped = outlet.finish()?;
    let wall_s = started.elapsed().as_secs_f64();
    if let Some(first) = dropped.first {
        return Err(format!("the server refused {} points: {first}", dropped.points).into());
    }
    drop(server);
    let line = line.with("points", written).measured("wall_s", wall_s).measured("points_per_s", written as f64 / wall_s);
    let line = line.with("peak_rss_bytes", machine::status_bytes("VmHWM"));
    if to != "store" {
        return line.publish(&options.common);
    }
    line.with("store_bytes", bytes_below(&store)?).publish(&options.common)?;
    read(options, &workload, &store)?;
    late(options, &workload, &store)
}

/// What is written.
struct Workload {
    measurement: Arc<Measurement>,
    wide: bool,
    workers: usize,
    series: usize,
    points: usize,
}

impl Workload {
    fn new(shape: &str, workers: usize, points: usize) -> Result<Workload> {
        let field = |name, kind| PointField { name, kind, about: "" };
        let (wide, series, fields) = match shape {
            "long" => {
                let floats = ["percent_clean", "battery", "tick_interval"].map(|name| field(name, FieldKind::Float));
                (false, 2 * workers, [field("tick", FieldKind::Int), field("tooth", FieldKind::Int)].into_iter().chain(floats).collect())
            }
            "wide" => (true, 1_000, vec![field("value", FieldKind::Float)]),
            _ => return Err(format!("there is no shape {shape:?}").into()),
        };
        let measurement = Measurement { name: "points", about: "", tags: vec![Tag { name: "name", about: "" }], fields };
        Ok(Workload { measurement: Arc::new(measurement), wide, workers, series, points })
    }

    fn name(series: usize) -> String {
        format!("series_{series:05}")
    }

    fn series(&self, number: usize) -> Arc<Series> {
        Arc::new(Series { measurement: Arc::clone(&self.measurement), tags: vec![Workload::name(number)] })
    }

    /// How far points of a series are apart.
    fn every_ns(&self) -> i64 {
        if self.wide { 60_000_000_000 } else { 33_333_333 }
    }

    fn points_per_series(&self) -> usize {
        self.points / self.series
    }

    /// Writes the series of a worker. Returns how many points there were.
    fn write(&self, worker: usize, mut writer: Box<dyn PointWriter>) -> std::result::Result<usize, String> {
        let mine: Vec<Arc<Series>> = (worker..self.series).step_by(self.workers).map(|number| self.series(number)).collect();
        let mut random = ChaCha8Rng::seed_from_u64(worker as u64);
        let (at_once, all) = (if self.wide { WIDE_POINTS } else { BATCH_POINTS }, self.points_per_series());
        let mut written = 0;
        // A wide load comes in the order of time, a long one series after series.
        let parts: Vec<usize> = (0..all).step_by(at_once).collect();
        let mut write = |series: &Arc<Series>, from: usize| {
            let mut batch = self.batch(series, from, at_once.min(all - from), &mut random);
            written += batch.len();
            offer(&mut *writer, &mut batch)
        };
        if self.wide {
            parts.iter().try_for_each(|from| mine.iter().try_for_each(|series| write(series, *from)))?;
        } else {
            mine.iter().try_for_each(|series| parts.iter().try_for_each(|from| write(series, *from)))?;
        }
        flush(&mut *writer)?;
        Ok(written)
    }

    fn batch(&self, series: &Arc<Series>, from: usize, points: usize, random: &mut ChaCha8Rng) -> PointBatch {
        let mut batch = PointBatch::new(Arc::clone(series), Standing::Fresh);
        let numbers = from as i64..(from + points) as i64;
        batch.times_ns = numbers.clone().map(|number| START_NS + number * self.every_ns()).collect();
        let all = |values| PointColumn { values, present: Vec::new() };
        batch.columns = if self.wide {
            vec![all(Values::Float(numbers.map(|_| f64::from(random.random_range(1_900..2_300)) / 100.0).collect()))]
        } else {
            vec![
                all(Values::Int(numbers.clone().collect())),
                all(Values::Int(numbers.clone().map(|number| number / 60 % 32).collect())),
                all(Values::Float(numbers.map(|_| f64::from(random.random_range(0..100)) / 100.0).collect())),
                all(Values::Float(vec![0.8; points])),
                all(Values::Float(vec![1.0 / 30.0; points])),
            ]
        };
        batch
    }
}

fn offer(writer: &mut dyn PointWriter, batch: &mut PointBatch) -> std::result::Result<(), String> {
    while writer.offer(batch)? == Offered::Behind {
        std::thread::sleep(RETRY_AFTER);
    }
    Ok(())
}

fn flush(writer: &mut dyn PointWriter) -> std::result::Result<(), String> {
    while !writer.flush()? {
        std::thread::sleep(RETRY_AFTER);
    }
    Ok(())
}

/// Ranges of 10,000 points, each of another series.
fn read(options: &PointsOptions, workload: &Workload, dir: &Path) -> Result<()> {
    let opening = Instant::now();
    let store = Store::open(dir)?;
    let open_ms = opening.elapsed().as_secs_f64() * 1e3;
    let stored = store.measurement("points")?.ok_or("the store has no points")?;
    let all = workload.points_per_series();
    let range = all.min(10_000);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let reads = if options.common.smoke { 5 } else { 200 };
    let mut times_ms = Vec::new();
    for _ in 0..reads {
        let name = Workload::name(random.random_range(0..workload.series));
        let from = START_NS + random.random_range(0..=all - range) as i64 * workload.every_ns();
        let until = from + (range as i64 - 1) * workload.every_ns();
        let started = Instant::now();
        let series = store.series("points", &BTreeMap::from([("name".to_string(), name)]))?;
        let points = store.points(&stored, &series, from..=until)?.try_fold(0, |count, point| point.map(|_| count + 1))?;
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
        if points != range {
            return Err(format!("a range of {range} points has {points}").into());
        }
    }
    let first_ms = times_ms.first().copied().unwrap_or_default();
    let times = Sorted::new(times_ms);
    Line::new("point ranges", "-")
        .with("series", workload.series)
        .with("points", workload.series * all)
        .with("points_read", range)
        .with("reads", reads)
        .measured("open_ms", open_ms)
        .measured("first_ms", first_ms)
        .measured("p50_ms", times.median())
        .measured("p99_ms", times.percentile(99))
        .measured("max_ms", times.max())
        .publish(&options.common)
}

/// Single points that come late, each flushed before the next.
fn late(options: &PointsOptions, workload: &Workload, dir: &Path) -> Result<()> {
    let outlet = Destination::Store(dir.to_path_buf()).open(0)?;
    let mut writer = outlet.points().writer();
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let points = if options.common.smoke { 5 } else { 500 };
    let mut times_us = Vec::new();
    for _ in 0..points {
        let series = workload.series(random.random_range(0..workload.series));
        let place = random.random_range(0..workload.points_per_series());
        let mut batch = workload.batch(&series, place, 1, &mut random);
        batch.times_ns.iter_mut().for_each(|time_ns| *time_ns += 1);
        let started = Instant::now();
        offer(&mut *writer, &mut batch)?;
        while !writer.flush()? {
            std::thread::yield_now();
        }
        times_us.push(micros(started.elapsed()));
    }
    outlet.finish()?;
    let times = Sorted::new(times_us);
    Line::new("late points", "-")
        .with("series", workload.series)
        .with("points", workload.series * workload.points_per_series())
        .with("late", points)
        .measured("p50_us", times.median())
        .measured("p99_us", times.percentile(99))
        .measured("max_us", times.max())
        .publish(&options.common)
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// A VictoriaMetrics, killed when it is dropped.
struct Server {
    address: String,
    process: Child,
}

impl Server {
    fn start(folder: &Path) -> Result<Server> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let process = Command::new("victoria-metrics")
            .arg(format!("-httpListenAddr={address}"))
            .arg(format!("-storageDataPath={}", folder.join("server").display()))
            .arg("-retentionPeriod=100y")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("could not start victoria-metrics (scripts/test installs it): {error}"))?;
        let server = Server { address, process };
        let started = Instant::now();
        while std::net::TcpStream::connect(&server.address).is_err() {
            if started.elapsed() > Duration::from_secs(SERVER_SECONDS_MAX) {
                return Err("victoria-metrics does not start".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
