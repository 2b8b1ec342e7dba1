//! The store against a map of maps; what is on disk when it is gone without a goodbye; folders that are no store.

use super::read::Scan;
use super::write::Writer;
use super::{BLOCK_POINTS_MAX, FORMAT_FILE, Store, StoreError, outlet};
use crate::points::Outlet;
use proptest::prelude::*;
use retally_core::points::{FieldKind, Measurement, Offered, PointBatch, PointField, Series, Standing, Tag, Values};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Row = (i64, Option<i64>, Option<f64>);
type Rows = BTreeMap<i64, (Option<i64>, Option<f64>)>;

fn measurement(name: &'static str, fields: &[(&'static str, FieldKind)]) -> Arc<Measurement> {
    let tags = vec![Tag { name: "sensor", about: "" }, Tag { name: "place", about: "" }];
    let fields = fields.iter().map(|(name, kind)| PointField { name, kind: *kind, about: "" }).collect();
    Arc::new(Measurement { name, about: "", tags, fields })
}

fn readings() -> Arc<Measurement> {
    measurement("readings", &[("n", FieldKind::Int), ("value", FieldKind::Float)])
}

fn series(measurement: &Arc<Measurement>, sensor: &str) -> Arc<Series> {
    Arc::new(Series { measurement: Arc::clone(measurement), tags: vec![sensor.into(), String::new()] })
}

fn batch(series: &Arc<Series>, standing: Standing, rows: &[Row]) -> PointBatch {
    let mut batch = PointBatch::new(Arc::clone(series), standing);
    batch.times_ns = rows.iter().map(|row| row.0).collect();
    if standing == Standing::Retracted {
        return batch;
    }
    let present = |is: Vec<bool>| if is.contains(&false) { is } else { Vec::new() };
    batch.columns[0].values = Values::Int(rows.iter().map(|row| row.1.unwrap_or(-1)).collect());
    batch.columns[0].present = present(rows.iter().map(|row| row.1.is_some()).collect());
    batch.columns[1].values = Values::Float(rows.iter().map(|row| row.2.unwrap_or(-1.0)).collect());
    batch.columns[1].present = present(rows.iter().map(|row| row.2.is_some()).collect());
    batch
}

fn rows(scan: Scan) -> Rows {
    let mut rows = Rows::new();
    let mut last = None;
    for block in scan {
        let block = block.unwrap();
        assert!(block.times_ns.len() <= BLOCK_POINTS_MAX);
        for (place, time) in block.times_ns.iter().enumerate() {
            assert!(last < Some(*time), "points are not in the order of time");
            last = Some(*time);
            let (Values::Int(ints), Values::Float(floats)) = (&block.columns[0].values, &block.columns[1].values) else { panic!() };
            let there = |column: usize| block.columns[column].is_present(place);
            rows.insert(*time, (there(0).then(|| ints[place]), there(1).then(|| floats[place])));
        }
    }
    rows
}

fn read(store: &Store, sensor: &str, from: i64, to: i64) -> Rows {
    let Some(measurement) = store.measurement("readings").unwrap() else { return Rows::new() };
    let found = store.series("readings", &BTreeMap::from([("sensor".into(), sensor.into())])).unwrap();
    assert!(found.len() < 2, "a series is stored twice");
    found.first().map_or(Rows::new(), |series| rows(store.scan(&measurement, series.number, from..=to).unwrap()))
}

#[derive(Clone, Debug)]
enum Step {
    /// So many points, from this time on, so far apart.
    Write {
        sensor: usize,
        standing: Standing,
        from: i64,
        every: i64,
        points: i64,
        value: i64,
    },
    Delete {
        sensor: usize,
    },
    Sync,
    /// Ends the process without a word.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let standing = prop_oneof![3 => Just(Standing::Fresh), 1 => Just(Standing::Restored), 2 => Just(Standing::Retracted)];
    let points = prop_oneof![3 => 1..20_i64, 2 => 1_000..6_000_i64];
    let write = (0..2_usize, standing, -9_000..9_000_i64, prop_oneof![Just(1_i64), Just(-1), Just(3), Just(7)], points, 0..1_000_i64)
        .prop_map(|(sensor, standing, from, every, points, value)| Step::Write { sensor, standing, from, every, points, value });
    prop_oneof![12 => write, 1 => (0..2_usize).prop_map(|sensor| Step::Delete { sensor }), 3 => Just(Step::Sync), 1 => Just(Step::Reopen)]
}

fn writer(dir: &Path) -> Writer {
    Writer::new(Store::create(dir).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_holds_what_a_map_holds(steps in prop::collection::vec(step(), 1..24), range in (-12_000..40_000_i64, -12_000..40_000_i64)) {
        let dir = tempfile::tempdir().unwrap();
        let measurement = readings();
        let sensors = ["a", "b"];
        let mut model: [Rows; 2] = Default::default();
        let mut writing = writer(dir.path());
        for step in steps.into_iter().chain([Step::Sync]) {
            match step {
                Step::Write { sensor, standing, from, every, points, value } => {
                    let row = |n: i64| (from + n * every, (n % 5 != 1).then_some(value + n), (n % 7 != 2).then_some((value * n) as f64 / 8.0));
                    let rows: Vec<Row> = (0..points).map(row).collect();
                    for (time, n, value) in &rows {
                        match standing {
                            Standing::Retracted => drop(model[sensor].remove(time)),
                            _ => drop(model[sensor].insert(*time, (*n, *value))),
                        }
                    }
                    // A series need not be the same one to be the same.
                    writing.write(&batch(&series(&measurement, sensors[sensor]), standing, &rows)).unwrap();
                }
                Step::Delete { sensor } => {
                    model[sensor].clear();
                    writing.delete(&series(&measurement, sensors[sensor])).unwrap();
                }
                Step::Sync | Step::Reopen => {
                    writing.sync().unwrap();
                    if matches!(step, Step::Reopen) {
                        drop(writing);
                        writing = writer(dir.path());
                    }
                    for (sensor, model) in sensors.iter().zip(&model) {
                        let store = writing.store();
                        prop_assert!(read(store, sensor, i64::MIN, i64::MAX) == *model, "series {sensor} is another");
                        let part = model.iter().filter(|(time, _)| (range.0..=range.1).contains(time));
                        let part: Rows = part.map(|(time, row)| (*time, *row)).collect();
                        prop_assert!(read(store, sensor, range.0, range.1) == part, "a range of series {sensor} is another");
                    }
                }
            }
        }
    }
}

#[test]
fn a_late_point_changes_one_block_and_a_range_is_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let series = series(&readings(), "a");
    let mut writing = writer(dir.path());
    for start in (0..200_000).step_by(4_000) {
        let rows: Vec<Row> = (start..start + 4_000).map(|n| (n * 10, Some(n), Some(0.5))).collect();
        writing.write(&batch(&series, Standing::Fresh, &rows)).unwrap();
    }
    writing.sync().unwrap();
    let keys = |store: &Store| {
        store
            .blocks
            .iter()
            .map(|entry| entry.into_inner().unwrap())
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect::<BTreeMap<_, _>>()
    };
    let before = keys(writing.store());
    assert!((190..=205).contains(&before.len()), "{} blocks", before.len());
    writing.write(&batch(&series, Standing::Fresh, &[(777_777, None, Some(1.5))])).unwrap();
    writing.sync().unwrap();
    let after = keys(writing.store());
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).count();
    assert_eq!((after.len(), changed), (before.len(), 1));
    let around = read(writing.store(), "a", 777_770, 777_780);
    assert_eq!(
        around,
        Rows::from([(777_770, (Some(77_777), Some(0.5))), (777_777, (None, Some(1.5))), (777_780, (Some(77_778), Some(0.5)))])
    );
}

#[test]
fn the_first_and_the_last_time_are_times_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let series = series(&readings(), "a");
    let mut writing = writer(dir.path());
    let all: Vec<Row> = [i64::MIN, -1, 0, i64::MAX].iter().map(|time| (*time, Some(1), None)).collect();
    for row in &all {
        writing.write(&batch(&series, Standing::Fresh, &[*row])).unwrap();
        writing.sync().unwrap();
    }
    assert_eq!(read(writing.store(), "a", i64::MIN, i64::MAX).len(), 4);
    assert_eq!(read(writing.store(), "a", i64::MIN, -1).len(), 2);
    assert_eq!(read(writing.store(), "a", i64::MAX, i64::MAX).len(), 1);
    writing.write(&batch(&series, Standing::Retracted, &all)).unwrap();
    writing.sync().unwrap();
    assert!(read(writing.store(), "a", i64::MIN, i64::MAX).is_empty());
    assert_eq!(writing.store().blocks.iter().count(), 0, "a block without points is left");
}

#[test]
fn fields_that_come_later_are_added_and_others_keep_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let few = measurement("readings", &[("n", FieldKind::Int)]);
    let mut writing = writer(dir.path());
    let one = |measurement: &Arc<Measurement>, time: i64| {
        let mut batch = PointBatch::new(series(measurement, "a"), Standing::Fresh);
        batch.times_ns = vec![time];
        batch.columns[0].values = Values::Int(vec![time]);
        if let Some(column) = batch.columns.get_mut(1) {
            column.values = Values::Float(vec![0.5]);
        }
        batch
    };
    // In memory, in the store, and with a batch that still knows less.
    for (measurement, time) in [(&few, 1), (&readings(), 2)] {
        writing.write(&one(measurement, time)).unwrap();
    }
    writing.sync().unwrap();
    writing.write(&one(&few, 3)).unwrap();
    writing.sync().unwrap();
    let expected = Rows::from([(1, (Some(1), None)), (2, (Some(2), Some(0.5))), (3, (Some(3), None))]);
    assert_eq!(read(writing.store(), "a", 0, 9), expected);
    let other = measurement("readings", &[("n", FieldKind::Float)]);
    let error = writing.write(&PointBatch::new(series(&other, "a"), Standing::Fresh)).unwrap_err();
    assert_eq!(error.to_string(), "field \"n\" of \"readings\" is stored as integers, and comes as floats");
    let long = series(&few, &"x".repeat(70_000));
    assert!(matches!(writing.write(&PointBatch::new(long, Standing::Fresh)), Err(StoreError::TagsTooLong { .. })));
}

#[test]
fn series_are_found_by_any_of_their_tags() {
    let dir = tempfile::tempdir().unwrap();
    let (readings, others) = (readings(), measurement("readings2", &[("n", FieldKind::Int)]));
    let mut writing = writer(dir.path());
    for (measurement, sensor, place) in [(&readings, "a\"b", "x"), (&readings, "c", "x"), (&readings, "c", ""), (&others, "c", "x")] {
        let series = Arc::new(Series { measurement: Arc::clone(measurement), tags: vec![sensor.into(), place.into()] });
        writing.write(&PointBatch::new(series, Standing::Fresh)).unwrap();
    }
    let count = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(tag, value)| (tag.to_string(), value.to_string())).collect();
        writing.store().series("readings", &tags).unwrap().len()
    };
    assert_eq!((count(&[]), count(&[("place", "x")]), count(&[("sensor", "c")]), count(&[("place", "")])), (3, 2, 2, 1));
    assert_eq!((count(&[("sensor", "a\"b")]), count(&[("sensor", "z")]), count(&[("sensor", "c"), ("place", "x")])), (1, 0, 1));
    let names: Vec<_> = writing.store().measurements().unwrap().into_iter().map(|stored| stored.name).collect();
    assert_eq!(names, ["readings", "readings2"]);
}

#[test]
fn what_was_synced_is_there_after_a_crash_and_workers_need_not_know_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let opened = outlet::open(dir.path()).unwrap();
    let points = opened.points();
    let workers: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|sensor| {
            let points = Arc::clone(&points);
            std::thread::spawn(move || {
                let series = series(&readings(), sensor);
                let mut writer = points.writer();
                assert_eq!(writer.flush(), Ok(true));
                let offer = |writer: &mut Box<dyn retally_core::points::PointWriter>, start: i64, standing: Standing| {
                    let rows: Vec<Row> = (start..start + 1_000).map(|n| (n, Some(n), None)).collect();
                    let mut batch = batch(&series, standing, &rows);
                    let started = Instant::now();
                    while writer.offer(&mut batch).unwrap() == Offered::Behind {
                        assert!(started.elapsed() < Duration::from_secs(60), "it never takes the batch");
                    }
                    assert!(batch.is_empty());
                };
                (0..300).for_each(|n| offer(&mut writer, n * 1_000, Standing::Fresh));
                assert_eq!(writer.delete_series(&series), Ok(true));
                (0..100).for_each(|n| offer(&mut writer, n * 1_000, Standing::Fresh));
                offer(&mut writer, 5_000, Standing::Retracted);
                let started = Instant::now();
                while !writer.flush().unwrap() {
                    assert!(started.elapsed() < Duration::from_secs(60), "it is never flushed");
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    // What the disk has now is what is there after a crash: nothing is closed.
    let copy = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(dir.path()).min_depth(1).into_iter().map(Result::unwrap) {
        let to = copy.path().join(entry.path().strip_prefix(dir.path()).unwrap());
        match entry.file_type().is_dir() {
            true => std::fs::create_dir(to).unwrap(),
            false => assert!(std::fs::copy(entry.path(), to).is_ok()),
        }
    }
    let store = Store::open(copy.path()).unwrap();
    let expected: Rows = (0..100_000).filter(|n| !(5_000..6_000).contains(n)).map(|n| (n, (Some(n), None))).collect();
    for sensor in ["a", "b"] {
        assert!(read(&store, sensor, i64::MIN, i64::MAX) == expected, "series {sensor} is another");
    }
    assert!(
        matches!(outlet::open(dir.path()).map(drop), Err(StoreError::InUse { holder: Some(holder), .. }) if holder == std::process::id())
    );
    drop(points);
    Box::new(opened).finish().unwrap();
    assert!(Store::open(dir.path()).is_ok(), "it is still locked");
}

/// Whatever a run that was killed, or found no more space, had made of a store when it began one.
#[test]
fn a_store_whose_making_was_cut_short_is_made_again() {
    let made = tempfile::tempdir().unwrap();
    drop(Store::create(made.path()).unwrap());
    let format = std::fs::read_to_string(made.path().join(FORMAT_FILE)).unwrap();
    let begin = |format: Option<&str>, tree: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        format.iter().for_each(|text| std::fs::write(dir.path().join(FORMAT_FILE), text).unwrap());
        for name in tree {
            let path = dir.path().join("tree").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    };
    let halves: [(Option<&str>, &[&str]); 7] = [
        (None, &[]),
        (Some(""), &[]),
        (Some("retally po"), &[]),
        (Some(&format), &[]),
        (Some(&format), &["lock"]),
        (Some(&format), &["lock", "0.jnl"]),
        (Some(&format), &["lock", "0.jnl", "keyspaces/0/manifest", "keyspaces/0/v0"]),
    ];
    for (format, tree) in halves {
        let dir = begin(format, tree);
        assert!(matches!(Store::open(dir.path()), Err(StoreError::NoStore(_))), "{format:?} {tree:?}");
        let mut writer = Writer::new(Store::create(dir.path()).unwrap()).unwrap();
        writer.write(&batch(&series(&readings(), "a"), Standing::Fresh, &[(1, Some(1), None)])).unwrap();
        writer.sync().unwrap();
        drop(writer);
        let store = Store::open(dir.path()).unwrap();
        assert!(store.was_closed());
        assert_eq!(read(&store, "a", 0, 9), Rows::from([(1, (Some(1), None))]));
    }
    // What has points is not begun.
    let dir = begin(Some(&format), &["keyspaces/3/tables/7"]);
    assert!(matches!(Store::create(dir.path()), Err(StoreError::Damaged { .. })));
    assert!(dir.path().join("tree/keyspaces/3/tables/7").exists());
}

#[test]
fn a_store_says_whether_it_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::create(dir.path()).unwrap());
    let store = Store::open(dir.path()).unwrap();
    assert!(store.was_closed());
    assert!(!dir.path().join("SEAL").exists(), "while it is open there is no seal");
    drop(store);
    std::fs::remove_file(dir.path().join("SEAL")).unwrap();
    assert!(!Store::open(dir.path()).unwrap().was_closed());
    assert!(Store::open(dir.path()).unwrap().was_closed());
}

#[test]
fn folders_that_are_no_store_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(&dir.path().join("none")), Err(StoreError::NoStore(_))));
    assert!(!dir.path().join("none").exists());
    std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    assert!(matches!(Store::create(dir.path()), Err(StoreError::NoStore(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = Store::create(&dir.path().join("letter.txt")).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("could not make the store") && error.contains("letter.txt"), "{error}");
}

#[test]
fn a_store_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::create(dir.path()).unwrap());
    std::fs::write(dir.path().join(FORMAT_FILE), "retally points, format 2\n").unwrap();
    let error = Store::create(dir.path()).map(drop).unwrap_err();
    assert!(error.to_string().ends_with("has format \"2\", and not \"1\""), "{error}");
    std::fs::write(dir.path().join(FORMAT_FILE), "something").unwrap();
    assert!(matches!(Store::create(dir.path()), Err(StoreError::NoStore(_))));
}
