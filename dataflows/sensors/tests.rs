//! The law: whatever the batches, orders, duplicates, retractions and workers, the tables are those of the set of records.

use crate::oracle::Oracle;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use retally_core::calendar::Calendar;
use retally_core::contract::{AsOf, Dataflow, Graph, Settings};
use retally_core::testing::only::Only;
use retally_core::testing::{Config, Delivery, check_law, run_graph};
use retally_core::time::{DAY, HOUR, Moment, SECOND};
use std::sync::Arc;

/// 2024-03-28T00:00:00Z: the clocks of Europe change three days later.
const START: i64 = 1_711_584_000_000_000;

fn settings(zone: &str, threshold: &str, as_of: AsOf) -> (Arc<dyn Graph>, Oracle) {
    let defaults = Settings::defaults(&crate::Sensors.definition().settings);
    let settings = defaults.with("timezone", zone).with("threshold", threshold).with_as_of(as_of);
    let graph = crate::Sensors.graph(&settings).unwrap();
    (Arc::from(graph), Oracle { calendar: Calendar::named(zone).unwrap(), threshold: threshold.parse().unwrap(), as_of })
}

pub fn uuid(number: u64) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}

/// A stretch of measurements, delivered or retracted together: small enough for many, long enough for forecasts.
#[derive(Clone, Debug)]
struct Stretch {
    sensor: u64,
    from_hours: i64,
    hours: i64,
    every_minutes: i64,
    shape: u8,
    level: f64,
}

impl Stretch {
    fn lines(&self) -> Vec<String> {
        let count = self.hours * 60 / self.every_minutes;
        let line = |n: i64| {
            let minutes = self.from_hours * 60 + n * self.every_minutes;
            let mixed = (n.unsigned_abs() + 7 * self.sensor).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
            let noise = mixed as f64 / 16.0;
            let hours = minutes as f64 / 60.0;
            let value = match self.shape {
                0 => self.level,
                1 => self.level + noise,
                2 => self.level + noise + 10.0 * (hours / 24.0 * std::f64::consts::TAU).sin(),
                3 => self.level + 0.3 * hours + noise,
                _ => (self.level + noise).round(),
            };
            format!("{},{},{value}", Moment(START + minutes * 60 * SECOND), uuid(self.sensor))
        };
        (0..count).map(line).collect()
    }
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let every = prop_oneof![Just(20i64), Just(30), Just(60), Just(240)];
    let hours = prop_oneof![3 => 1i64..30, 2 => 100i64..400];
    let from = prop_oneof![3 => 0i64..500, 1 => 500i64..1500];
    (0u64..3, from, hours, every, 0u8..5, prop_oneof![Just(5.0), Just(8.0), Just(-40.0)]).prop_map(
        |(sensor, from_hours, hours, every_minutes, shape, level)| Stretch { sensor, from_hours, hours, every_minutes, shape, level },
    )
}

/// Single lines: late ones, conflicts, local times around clock changes, and names.
fn single() -> impl Strategy<Value = Delivery> {
    let aware = (0i64..1500, 0i64..4, 0u64..4, prop_oneof![Just(5.0), Just(7.5), Just(100.0), Just(-0.0)]).prop_map(
        |(hours, quarter, sensor, value)| {
            let time = Moment(START + hours * HOUR + quarter * HOUR / 4);
            Delivery { input: 1, sign: 1, line: format!("{time},{},{value}", uuid(sensor)) }
        },
    );
    let days = prop_oneof![Just("2024-03-31"), Just("2024-10-27"), Just("2024-04-07")];
    let naive = (days, 0u32..5, 0u32..2, 0u64..3).prop_map(|(day, hour, half, sensor)| {
        // A value for each hour, and none that a line with an offset has: a record is written in one way only.
        let value = 6.25 + f64::from(hour);
        Delivery { input: 1, sign: 1, line: format!("{day} {hour:02}:{:02}:01,{},{value}", half * 30, uuid(sensor)) }
    });
    let name = (0u8..3, 0u64..5).prop_map(|(name, sensor)| Delivery { input: 0, sign: 1, line: format!("name {name},{}", uuid(sensor)) });
    prop_oneof![3 => aware, 1 => naive, 2 => name]
}

#[derive(Clone, Debug)]
enum Item {
    Many(Stretch),
    One(Delivery),
}

pub fn batches() -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    let item = prop_oneof![1 => stretch().prop_map(Item::Many), 3 => single().prop_map(Item::One)];
    proptest::collection::vec(item, 1..10).prop_flat_map(|pool| {
        let delivery = (0..pool.len(), prop_oneof![4 => Just(1isize), 1 => Just(-1)]).prop_map(move |(place, sign)| match &pool[place] {
            Item::One(delivery) => vec![Delivery { sign, ..delivery.clone() }],
            Item::Many(stretch) => stretch.lines().into_iter().map(|line| Delivery { input: 1, sign, line }).collect(),
        });
        proptest::collection::vec(proptest::collection::vec(delivery, 0..6).prop_map(|parts| parts.concat()), 1..5)
    })
}

/// Failures are kept in this crate's folder. (By default they are in the folder above a `lib.rs`, which is that of all crates.)
pub fn proptests() -> ProptestConfig {
    let kept = FileFailurePersistence::SourceParallel("sensors/proptest-regressions");
    ProptestConfig { cases: 80, max_shrink_iters: 2_000, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(proptests())]

    #[test]
    fn the_tables_depend_on_the_set_of_records_alone(
        batches in batches(),
        zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("Australia/Lord_Howe"), Just("America/Santiago")],
        threshold in prop_oneof![Just("5"), Just("2")],
        as_of in prop_oneof![4 => Just(AsOf::Latest), 1 => (0i64..60).prop_map(|day| AsOf::At(Moment(START + day * DAY)))],
        config in 0..Config::ALL.len(),
    ) {
        let (graph, oracle) = settings(zone, threshold, as_of);
        check_law(Config::choose(config), &graph, &crate::Sensors.definition().inputs, &batches, |lines| oracle.tables(lines));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..proptests() })]

    #[test]
    fn a_table_is_the_same_without_the_others(batches in batches()) {
        let inputs = crate::Sensors.definition().inputs;
        let (graph, _) = settings("UTC", "2", AsOf::Latest);
        let all = run_graph(Config::default(), &graph, &inputs, &batches);
        for table in graph.tables() {
            let only: Arc<dyn Graph> = Arc::new(Only(table.name, Arc::clone(&graph)));
            for (all, alone) in all.iter().zip(run_graph(Config::default(), &only, &inputs, &batches)) {
                prop_assert_eq!(&all[table.name], &alone[table.name]);
            }
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let defaults = Settings::defaults(&crate::Sensors.definition().settings);
    for (name, value) in [("threshold", "0"), ("threshold", "NaN"), ("threshold", "five"), ("timezone", "Europe/Berln")] {
        let error = crate::Sensors.graph(&defaults.clone().with(name, value)).err().unwrap();
        assert_eq!(error.name, name, "{error}");
    }
}

/// The law must be able to fail: histories of the kind that it is tried on have something of everything.
#[test]
fn histories_have_something_of_everything() {
    let (graph, _) = settings("UTC", "2", AsOf::Latest);
    let many = |sensor, from_hours, shape| Stretch { sensor, from_hours, hours: 300, every_minutes: 30, shape, level: 5.0 }.lines();
    let lines = [many(0, 0, 1), many(0, 340, 1), many(1, 0, 2), many(2, 0, 4), many(2, 300, 0)].concat();
    let mut batch: Vec<Delivery> = lines.into_iter().map(|line| Delivery { input: 1, sign: 1, line }).collect();
    let late = format!("{},{},100", Moment(START + 200 * HOUR + 1), uuid(0));
    batch.push(Delivery { input: 1, sign: 1, line: late });
    let tables = run_graph(Config::default(), &graph, &crate::Sensors.definition().inputs, &[batch]).remove(0);
    let column = |place: usize| tables["sensor_anomalies"].iter().map(|row| row[place].as_str()).collect::<std::collections::BTreeSet<_>>();
    assert!(column(8).contains("point") && column(8).contains("gap"), "{:?}", column(8));
    assert!(column(9).len() >= 2, "{:?}", column(9));
    assert!(tables["sensor_segments"].len() > 5 && tables["sensor_unusual"].len() > 5 && tables["sensor_incidents"].len() > 1);
}

/// The same set in one batch and in many, on all kinds of workers.
#[test]
fn every_kind_of_worker() {
    let (graph, oracle) = settings("Europe/Berlin", "3", AsOf::Latest);
    let mut lines: Vec<String> = Vec::new();
    for (sensor, shape) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
        lines.extend(Stretch { sensor, from_hours: 0, hours: 250, every_minutes: 30, shape, level: 5.0 }.lines());
    }
    // A mixed order, the same each time.
    lines.sort_by_key(|line| line.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)) >> 7);
    let data = |line: &String| Delivery { input: 1, sign: 1, line: line.clone() };
    let names = ["a", "b"].iter().zip(0..).map(|(name, n)| Delivery { input: 0, sign: 1, line: format!("{name},{}", uuid(n)) });
    let names: Vec<Delivery> = names.collect();
    for config in Config::ALL {
        for size in [5_000, 777] {
            let mut batches: Vec<Vec<Delivery>> = lines.chunks(size).map(|chunk| chunk.iter().map(data).collect()).collect();
            batches.insert(1, names.clone());
            check_law(config, &graph, &crate::Sensors.definition().inputs, &batches, |lines| oracle.tables(lines));
        }
    }
}
