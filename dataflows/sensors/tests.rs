//! The law: whatever the batches, orders, duplicates, retractions and workers, the tables are those of the set of records.

use crate::alarms::Incident;
use crate::generate;
use crate::oracle::Oracle;
use crate::records::{Reading, Value};
use crate::sensor::{History, Rules, Whole, Work};
use crate::tables;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use retally_core::calendar::{Calendar, Naming};
use retally_core::contract::{AsOf, Dataflow, Graph, Settings};
use retally_core::row::TextId;
use retally_core::testing::only::Only;
use retally_core::testing::text_ids::Renamed;
use retally_core::testing::{Config, Delivery, check_law, run_graph};
use retally_core::time::{DAY, HOUR, Moment, SECOND};
use std::collections::BTreeMap;
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..proptests() })]

    #[test]
    fn text_ids_have_the_tables_of_uuids(batches in batches(), names in prop_oneof![Just("mapping"), Just("ids")], config in 0..Config::ALL.len()) {
        let of = |ids| {
            let settings = Settings::defaults(&crate::Sensors.definition().settings).with("names", names).with("ids", ids);
            Arc::from(crate::Sensors.graph(&settings).unwrap())
        };
        let (declared, text) = (of("uuid"), of("text"));
        let ids: Vec<String> = (0..5).map(uuid).collect();
        let inputs = crate::Sensors.definition().inputs;
        let renamed = Renamed { declared: &declared, text: &text, inputs: &inputs, ids: ids.clone(), width: TextId::Uuid };
        renamed.check(Config::choose(config), &batches, |delivery, text| {
            ids.iter().fold(delivery.line.clone(), |line, id| line.replace(id.as_str(), &text(id)))
        });
    }
}

/// The hashes of these texts are in another order. Each worker is a process, and reads what it reads.
#[test]
fn of_text_ids_the_smallest_text_counts() {
    let settings = Settings::defaults(&crate::Sensors.definition().settings).with("ids", "text");
    let graph: Arc<dyn Graph> = Arc::from(crate::Sensors.graph(&settings).unwrap());
    let line = |sign, line: &str| Delivery { input: 0, sign, line: line.into() };
    let lines = ["b,sensor-0002", "b,sensor-0001", "c,zz", "c,aa", "d,longer-than-16-bytes-zzzzzz", "d,longer-than-16-bytes-aaaaaa"];
    let batches = [lines.iter().map(|text| line(1, text)).collect(), vec![line(-1, "c,aa"), line(1, "b,sensor-0000")], Vec::new()];
    for config in 0..Config::ALL.len() {
        let found = run_graph(Config::choose(config), &graph, &crate::Sensors.definition().inputs, &batches);
        let of = |batch: usize| found[batch][tables::MAPPING].iter().map(|row| row.join(",")).collect::<Vec<_>>();
        assert_eq!(of(0), ["b,sensor-0001", "c,aa", "d,longer-than-16-bytes-aaaaaa"]);
        assert_eq!(of(1), ["b,sensor-0000", "c,zz", "d,longer-than-16-bytes-aaaaaa"]);
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

/// What is found in a sensor's values times a factor.
fn whole(values: &[(Moment, f64)], factor: f64) -> Whole {
    let rules = Rules { calendar: Calendar::named("Europe/Berlin").unwrap(), threshold: 5.0 };
    let reading = |(time, value): &(Moment, f64)| (Reading::new(*time, Naming::Unique, Value::new(value * factor).unwrap()), 1);
    let mut changes: Vec<(Reading, isize)> = values.iter().map(reading).collect();
    differential_dataflow::consolidation::consolidate(&mut changes);
    let mut history = History::default();
    history.change(&mut changes, &rules, &mut Work::default());
    history.whole(&rules, true)
}

/// Sensors of all shapes with their faults, and some that are made by hand.
fn samples(days: u64) -> Vec<Vec<(Moment, f64)>> {
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let made = (0..14).map(|number| generate::made(number, days, &mut random));
    let made: Vec<generate::Made> = made.collect();
    let mut samples: Vec<_> = made.iter().map(|made| made.measurements(days, 1_800 * SECOND, &mut random)).collect();
    let mut by_hand = |value: &dyn Fn(i64) -> f64| {
        samples.push((0..700).map(|n| (Moment(START + n * HOUR / 2), value(n))).collect());
    };
    // Constants with a spike; zeros with something; whole numbers; two values; a line; something small beside something large.
    by_hand(&|n| if n == 500 { 0.2 } else { 0.1 });
    by_hand(&|n| if n == 600 { 1e-3 } else { 0.0 });
    by_hand(&|n| if n % 50 == 7 { 3.0 } else { 0.0 });
    by_hand(&|n| (n * n % 7) as f64 + if n == 650 { 100.0 } else { 0.0 });
    by_hand(&|n| if n < 400 { 5.0 } else { -5.0 });
    by_hand(&|n| 0.3 * n as f64 - 90.0);
    by_hand(&|n| 1e6 + (n * n % 11) as f64 * 1e-3 + if n == 650 { 1.0 } else { 0.0 });
    samples
}

/// Asserts that one is the other in a unit that is `factor` times smaller.
fn assert_same_in_another_unit(plain: &Whole, scaled: &Whole, factor: f64) {
    let (one, other) = (plain.summary.unwrap(), scaled.summary.unwrap());
    assert_eq!((one.times, one.measurements, one.scored), (other.times, other.measurements, other.scored));
    assert_eq!((one.extremes.0.get() * factor, one.mean * factor), (other.extremes.0.get(), other.mean));
    let moments = |mut segment: crate::segments::Segment| {
        let (n, y) = (segment.moments, factor);
        segment.moments = retally_core::operators::regression::Moments { y: n.y * y, xy: n.xy * y, yy: n.yy * y * y, ..n };
        segment.noise *= factor * factor;
        segment
    };
    assert_eq!(plain.segments.iter().copied().map(moments).collect::<Vec<_>>(), scaled.segments);
    let times_and_r2 = |whole: &Whole| {
        let columns: Vec<_> = tables::tables(tables::NamedBy::default())
            .into_iter()
            .find(|table| table.name == tables::SEGMENTS)
            .unwrap()
            .columns
            .split_off(2);
        let tails = tables::tails(whole).into_iter().filter(|tail| tail.table == 1);
        let row = |tail: tables::Tail| retally_core::row::values(&columns, &tail.rest.0).map(|value| value.to_string()).collect::<Vec<_>>();
        tails.map(row).map(|row| (row[0].clone(), row[1].clone(), row[2].clone(), row[5].clone())).collect::<Vec<_>>()
    };
    assert_eq!(times_and_r2(plain), times_and_r2(scaled));
    let found = |whole: &Whole, factor: f64| {
        let one = |anomaly: &crate::alarms::Anomaly| {
            let scored = &anomaly.scored;
            let numbers = (scored.reading.value.get() * factor, scored.expected * factor, scored.score);
            (scored.reading.time(), numbers, scored.kind, scored.model, anomaly.severity, anomaly.alarm)
        };
        whole.anomalies.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(found(plain, factor), found(scaled, 1.0));
    assert_eq!((&plain.incidents, &plain.unusual), (&scaled.incidents, &scaled.unusual));
}

#[test]
fn a_power_of_two_changes_no_score() {
    for (number, values) in samples(36).iter().enumerate() {
        let plain = whole(values, 1.0);
        assert!(plain.summary.unwrap().scored > 500, "sample {number}");
        // All of them over all samples; the largest and the smallest for each.
        let some = (-40..=40).filter(|power: &i32| power.abs() == 40 || power.unsigned_abs() as usize % 7 == number % 7);
        for power in some {
            let factor = 2f64.powi(power);
            assert_same_in_another_unit(&plain, &whole(values, factor), factor);
        }
    }
}

/// Scores differ by the rounding of σ and of levels alone, and nothing is found in one unit only but what is at the threshold.
fn assert_alike_in_another_unit(plain: &Whole, scaled: &Whole) {
    let alike = |one: f64, other: f64| one <= other * 1.05 && other <= one * 1.05;
    let scores = |whole: &Whole| -> BTreeMap<Moment, f64> {
        whole.anomalies.iter().map(|anomaly| (anomaly.scored.reading.time(), anomaly.scored.score)).collect()
    };
    let (one, other) = (scores(plain), scores(scaled));
    for (time, score) in one.iter().chain(&other) {
        match one.get(time).zip(other.get(time)) {
            Some((one, other)) => assert!(alike(*one, *other), "{one} and {other} at {time}"),
            None => assert!(*score < 5.0 * 1.05, "{score} at {time} in one unit only"),
        }
    }
    let certain = |whole: &Whole| whole.incidents.iter().filter(|incident| incident.peak_score >= 5.0 * 1.05).copied().collect::<Vec<_>>();
    let found_in = |one: &Incident, other: &Whole| {
        let overlap = other.incidents.iter().filter(|other| other.start <= one.end && one.start <= other.end);
        overlap.map(|other| other.peak_score).any(|peak| alike(one.peak_score, peak))
    };
    assert!(certain(plain).iter().all(|one| found_in(one, scaled)) && certain(scaled).iter().all(|one| found_in(one, plain)));
    let (one, other) = (plain.summary.unwrap(), scaled.summary.unwrap());
    assert_eq!((one.measurements, one.scored), (other.measurements, other.scored));
    let unusual = |whole: &Whole| whole.unusual.first().map_or(0.0, |stretch| stretch.score);
    assert!(alike(unusual(plain), unusual(scaled)), "{} and {}", unusual(plain), unusual(scaled));
    let borders = |whole: &Whole| whole.segments.iter().map(|segment| segment.times).collect::<Vec<_>>();
    assert_eq!(borders(plain), borders(scaled));
}

#[test]
fn another_unit_changes_scores_by_less_than_a_twentieth() {
    for (number, values) in samples(36).iter().enumerate() {
        let plain = whole(values, 1.0);
        for power in (-12..=12).filter(|power: &i32| power.abs() == 12 || power.unsigned_abs() as usize % 4 == number % 4) {
            assert_alike_in_another_unit(&plain, &whole(values, 10f64.powi(power)));
        }
    }
}

/// Any double: the greatest and the least there are, what is too small for all digits, and what is large and small at once.
fn any_value() -> impl Strategy<Value = f64> {
    let limits = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, 0.0, 1.0, 1e154, -1e154, 1e-154, 1e121, 1e-121, 2e-121, 1e-7];
    let of_a_size = (-1.0f64..1.0, -1074i32..1024).prop_map(|(digits, power)| digits * 2f64.powi(power));
    prop_oneof![proptest::sample::select(limits.to_vec()), of_a_size]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..proptests() })]

    /// Nothing panics, everything is a number, and sums are the same bits in whatever order measurements come.
    #[test]
    fn any_double_is_measured_and_the_order_makes_no_difference(
        values in proptest::collection::vec(any_value(), 1..6),
        usual in any_value(),
        rows in proptest::collection::vec((0usize..1_000, 0usize..6), 2..250),
        every_minutes in prop_oneof![Just(7i64), Just(20), Just(60)],
        count in 30i64..600,
        config in 0..Config::ALL.len(),
    ) {
        let line = |n: i64, value: f64| {
            let time = Moment(START + n * every_minutes * 60 * SECOND);
            Delivery { input: 1, sign: 1, line: format!("{time},{},{value}", uuid(1)) }
        };
        let mut sorted: Vec<Delivery> = (0..count).map(|n| line(n, usual * (1.0 - (n * n % 5) as f64 / 8.0))).collect();
        sorted.extend(rows.iter().map(|(n, value)| line(*n as i64, values[value % values.len()])));
        let mut mixed = sorted.clone();
        mixed.sort_by_key(|one| one.line.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)) >> 7);
        let (graph, _) = settings("UTC", "3", AsOf::Latest);
        let inputs = crate::Sensors.definition().inputs;
        let together = run_graph(Config::default(), &graph, &inputs, &[sorted]).pop().unwrap();
        let batches: Vec<Vec<Delivery>> = mixed.chunks(mixed.len() / 4 + 1).map(<[Delivery]>::to_vec).collect();
        let apart = run_graph(Config::choose(config), &graph, &inputs, &batches).pop().unwrap();
        prop_assert_eq!(&together, &apart);
        let cells = together.values().flatten().flatten();
        prop_assert!(cells.filter_map(|cell| cell.parse::<f64>().ok()).all(f64::is_finite));
        let summary = &together["sensor_summary"][0];
        let [least, most, mean] = [6, 7, 8].map(|place| summary[place].parse::<f64>().unwrap());
        prop_assert!(least <= mean && mean <= most, "{:?}", summary);
    }
}
