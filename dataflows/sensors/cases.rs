//! Cases as text, with measurements of sensors.
//!
//! A line of a batch is `TIME SENSOR VALUE` (a time without offset as `2024-03-31_02:30:00`), `name SENSOR NAME`, or many measurements at
//! once: `series FROM COUNT MINUTES SENSOR level=X slope=X noise=X`, where the slope is by hour. Sensors are numbers.

use crate::oracle::Oracle;
use crate::tests::uuid;
use retally_core::calendar::Calendar;
use retally_core::contract::{Dataflow, Graph, Settings};
use retally_core::testing::cases::{Language, check_cases};
use retally_core::testing::{Config, Delivery, Tables, check_law, run_graph};
use retally_core::time::{Moment, SECOND};
use std::sync::Arc;

#[test]
fn cases() {
    check_cases(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"), &Lines);
}

struct Lines;

impl Language for Lines {
    fn dataflow(&self) -> &dyn Dataflow {
        &crate::Sensors
    }

    /// The line as it is: one may be many.
    fn delivery(&self, line: &str, sign: isize) -> Delivery {
        Delivery { input: 1, sign, line: line.into() }
    }

    fn tables(&self, config: Config, settings: &Settings, batches: &[Vec<Delivery>]) -> Vec<Tables> {
        let batches: Vec<Vec<Delivery>> = batches.iter().map(|batch| batch.iter().flat_map(expanded).collect()).collect();
        let graph: Arc<dyn Graph> = Arc::from(crate::Sensors.graph(settings).unwrap());
        let inputs = crate::Sensors.definition().inputs;
        let threshold = settings.parsed("threshold").unwrap();
        let oracle = Oracle { calendar: settings.calendar().unwrap(), threshold, as_of: settings.as_of() };
        check_law(config, &graph, &inputs, &batches, |lines| oracle.tables(lines));
        run_graph(config, &graph, &inputs, &batches)
    }
}

fn expanded(short: &Delivery) -> Vec<Delivery> {
    let words: Vec<&str> = short.line.split_whitespace().collect();
    let delivery = |input, line| Delivery { input, sign: short.sign, line };
    let sensor = |word: &str| uuid(word.parse().unwrap());
    match words.as_slice() {
        ["name", number, name] => vec![delivery(0, format!("{name},{}", sensor(number)))],
        ["series", from, count, minutes, number, shape @ ..] => {
            let from = Calendar::utc().parse(from.as_bytes()).unwrap();
            let (count, minutes): (i64, i64) = (count.parse().unwrap(), minutes.parse().unwrap());
            let of =
                |name: &str| shape.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok()).unwrap_or(0.0);
            let value = |n: i64| {
                let noise = (n.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as f64 / 1024.0 - 1.0;
                of("level") + of("slope") * (n * minutes) as f64 / 60.0 + of("noise") * noise
            };
            let line = |n: i64| format!("{},{},{}", Moment(from.0 + n * minutes * 60 * SECOND), sensor(number), value(n));
            (0..count).map(|n| delivery(1, line(n))).collect()
        }
        [time, number, value] => vec![delivery(1, format!("{},{},{value}", time.replace('_', " "), sensor(number)))],
        _ => panic!("no line of a case: {:?}", short.line),
    }
}
