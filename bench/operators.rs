//! `operators`: a load and single late changes, by the number of events per key, for each way of finding neighbours.

use crate::numbers::{Sorted, micros};
use crate::options::Common;
use crate::pairs::{Shape, Value};
use crate::results::Line;
use crate::{Result, wire};
use clap::Args;
use differential_dataflow::AsCollection;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::time::DAY;
use std::time::{Duration, Instant};
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};

/// Options of `operators`.
#[derive(Args)]
pub struct OperatorOptions {
    #[command(flatten)]
    common: Common,
    /// How many events (default: 1,000,000)
    #[arg(long)]
    events: Option<u64>,
    /// How many single late changes
    #[arg(long, default_value_t = 100)]
    late: usize,
}

const DAYS: u64 = 1_095;
const SEED: u64 = 7;

/// What a way of finding neighbours took.
struct Took {
    load: Duration,
    late: Vec<Duration>,
    changes: u64,
}

/// Runs the bench.
pub fn main(options: &OperatorOptions) -> Result<()> {
    let common = &options.common;
    let events = options.events.unwrap_or(if common.smoke { 10_000 } else { 1_000_000 });
    let densities: &[u64] = if common.smoke { &[100] } else { &[100, 10_000, 1_000_000] };
    for per_key in densities.iter().map(|density| (*density).min(events)) {
        for shape in Shape::ALL {
            let line = Line::new("operators", "online");
            let late = options.late;
            let took = timely::execute_directly(move |worker| run(worker, shape, events, per_key, late));
            let latencies = Sorted::new(took.late.iter().map(|latency| micros(*latency)).collect());
            line.with("operator", shape.name())
                .with("events", events)
                .with("events_per_key", per_key)
                .with("workers", 1)
                .measured("load_s", took.load.as_secs_f64())
                .with("late_changes", late)
                .measured("late_p50_us", latencies.median())
                .measured("late_max_us", latencies.max())
                .measured("late_outputs", took.changes as f64 / late.max(1) as f64)
                .publish(common)?;
        }
    }
    wire::main(common)
}

fn run(worker: &mut timely::worker::Worker, shape: Shape, events: u64, per_key: u64, late: usize) -> Took {
    let changes = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = std::rc::Rc::clone(&changes);
    let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
        let (input, stream) = scope.new_input::<((u64, Value), u64, isize)>();
        let pairs = shape.build(stream.as_collection());
        let (probe, _) = pairs.inner.inspect(move |_| counted.set(counted.get() + 1)).probe();
        (input, probe)
    });
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let (keys, span) = (events / per_key, DAYS * DAY.unsigned_abs());
    let mut record = |key| ((key, (random.random_range(0..span), 0)), 1);
    let load: Vec<((u64, Value), isize)> = (0..events).map(|place| record(place % keys)).collect();
    let late: Vec<((u64, Value), isize)> = (0..late as u64).map(|place| record(place * 7_919 % keys)).collect();

    let started = Instant::now();
    input.advance_to(1);
    load.into_iter().for_each(|(record, diff)| input.send((record, 1, diff)));
    input.advance_to(2);
    input.flush();
    worker.step_or_park_while(None, || probe.less_than(&2));
    let load = started.elapsed();
    changes.set(0);
    let mut latencies = Vec::new();
    for ((record, diff), epoch) in late.into_iter().zip(2..) {
        let started = Instant::now();
        input.send((record, epoch, diff));
        input.advance_to(epoch + 1);
        input.flush();
        worker.step_or_park_while(None, || probe.less_than(&(epoch + 1)));
        latencies.push(started.elapsed());
    }
    Took { load, late: latencies, changes: changes.get() }
}
