//! `sensors` as a user has it: measurements in any dress, tables and points out, and what becomes of them when a late one comes.

use crate::formats::all_formats_say_the_same;
use crate::processes;
use crate::support::known::shuffled;
use crate::support::program::Place;
use retally_core::calendar::Calendar;
use retally_core::time::{HOUR, Moment};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const TABLES: [&str; 8] = [
    "rejected",
    "sensor_anomalies",
    "sensor_incidents",
    "sensor_issues",
    "sensor_mapping",
    "sensor_segments",
    "sensor_summary",
    "sensor_unusual",
];

/// A sensor that is not generated.
const OWN: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// Lines of both inputs, and what one worker makes of them.
struct Known {
    mapping: Vec<String>,
    data: Vec<String>,
    tables: BTreeMap<String, Vec<u8>>,
    points: String,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let place = Place::new();
    // Across the change of the clock on 2024-03-31.
    place.run("generate sensors --out in --sensors 8 --days 33 --interval 3600 --mess 0.02 --seed 7").succeeds();
    let lines = |name| -> Vec<String> { place.read(name).lines().skip(1).map(String::from).collect() };
    let (mut mapping, data) = (lines("in/mapping.csv"), lines("in/data.csv"));
    // A sensor without a name, one with two, a name without measurements.
    mapping.remove(3);
    let twice = mapping[0].replace("sensor_00000", "another");
    mapping.extend([twice, format!("silent,{OWN}")]);
    let mut known = Known { mapping, data, tables: BTreeMap::new(), points: String::new() };
    known.write(&place, "all", &known.mapping, &known.data);
    place.run("run sensors mapping=all/mapping.csv data=all/data.csv -w 1 --out out").succeeds();
    known.points = place.read("out/points.lp");
    known.tables = tables(&place);
    for (name, bytes) in &known.tables {
        let least = if name == "sensor_issues.csv" { 5 } else { 8 };
        assert!(bytes.iter().filter(|byte| **byte == b'\n').count() >= least, "{name} should have something to compare");
    }
    known
});

/// The tables in `out`, without `rejected`, which is about deliveries.
fn tables(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let files = place.files("out").into_iter();
    files.filter(|(name, _)| name.ends_with(".csv") && name != "rejected.csv").collect()
}

impl Known {
    fn write(&self, place: &Place, folder: &str, mapping: &[String], data: &[String]) {
        place.write(&format!("{folder}/mapping.csv"), format!("sensor_name,sensor_uuid\n{}\n", mapping.join("\n")));
        place.write(&format!("{folder}/data.csv"), format!("timestamp,sensor_uuid,sensor_value\n{}\n", data.join("\n")));
    }

    /// What came out in `out` are these tables.
    #[track_caller]
    fn same(&self, place: &Place, what: &str) {
        for (name, bytes) in tables(place) {
            let [found, expected] = [&bytes, &self.tables[&name]].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let differ = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
            assert!(found == expected, "{name} differs with {what}, first in {differ:?}");
        }
        assert!(tables(place).keys().eq(self.tables.keys()));
    }
}

#[test]
fn generated_input_in_every_format() {
    let place = Place::new();
    KNOWN.write(&place, "in", &KNOWN.mapping, &KNOWN.data);
    all_formats_say_the_same(&place, "run sensors mapping=in/mapping.csv data=in/data.csv --points file:/dev/null", &TABLES);
}

#[test]
fn the_same_bytes_and_points_on_any_workers_and_processes() {
    let place = Place::new();
    KNOWN.write(&place, "in", &KNOWN.mapping, &KNOWN.data);
    let words = "run sensors mapping=in/mapping.csv data=in/data.csv --out out";
    for workers in 1..=3 {
        place.run(&format!("{words} -w {workers}")).succeeds();
        KNOWN.same(&place, &format!("{workers} workers"));
        assert!(place.read("out/points.lp") == KNOWN.points, "points of {workers} workers");
    }
    std::fs::remove_dir_all(place.path("out")).unwrap();
    let words = format!("{words} -w 2");
    processes::run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
    KNOWN.same(&place, "two processes");
    assert!(place.read("out/points.lp") == KNOWN.points, "points of two processes");
}

#[test]
fn the_same_bytes_in_any_order_parts_and_batches() {
    let place = Place::new();
    let data = shuffled(&KNOWN.data);
    let mapping: Vec<String> = KNOWN.mapping.iter().rev().cloned().collect();
    KNOWN.write(&place, "all", &mapping, &data);
    for (number, part) in data.chunks(data.len() / 3 + 1).enumerate() {
        KNOWN.write(&place, &format!("part{number}"), &mapping[number * 3..mapping.len().min(number * 3 + 3)], part);
    }
    let part = |number: u32| format!("mapping=part{number}/mapping.csv data=part{number}/data.csv");
    let (all, gone) = ("mapping=all/mapping.csv data=all/data.csv", "mapping-=all/mapping.csv data-=all/data.csv");
    for words in [
        all.to_string(),
        format!("{} {} {}", part(1), part(2), part(0)),
        format!("{} --then '{}' --then '{}' -w 3", part(2), part(0), part(1)),
        // Names come when the measurements are there; parts come twice.
        format!(
            "data=part0/data.csv data=part1/data.csv --then '{} data=part0/data.csv' --then '{}' --then '{}'",
            part(2),
            part(0),
            part(1)
        ),
        format!("{all} --then '{gone}' --then '{all}'"),
        format!("{} --then '{gone}' --then '{all}' --then data-=part0/data.csv --then '{all}'", part(0)),
    ] {
        place.run(&format!("run sensors {words} --out out")).succeeds();
        KNOWN.same(&place, &words);
    }
}

/// Delimiters, columns that are nobody's, other orders of columns, times with an offset beside local ones.
#[test]
fn the_same_bytes_in_any_dress() {
    let place = Place::new();
    KNOWN.write(&place, "plain", &KNOWN.mapping, &KNOWN.data);
    let fields = |line: &String| -> Vec<String> { line.split(',').map(String::from).collect() };
    let berlin = |time: &str| -> String {
        let moment = Calendar::named("UTC").unwrap().parse(time.as_bytes()).unwrap();
        let summer = "2024-03-31T01:00:00Z";
        let local = moment.plus(if time < summer { HOUR } else { 2 * HOUR });
        local.to_string().replace('T', " ").trim_end_matches('Z').into()
    };
    let offset = |time: &str| {
        format!("{}-01:30", {
            let moment = Calendar::named("UTC").unwrap().parse(time.as_bytes()).unwrap();
            Moment(moment.0 - HOUR * 3 / 2).to_string().trim_end_matches('Z').to_string()
        })
    };
    let mut number = 0;
    let mut dressed = |line: &String| {
        let fields = fields(line);
        number += 1;
        let time = match number % 3 {
            0 => berlin(&fields[0]),
            1 => offset(&fields[0]),
            _ => fields[0].clone(),
        };
        format!("{};\"a; note\";{};{time};{number}", fields[2], fields[1].to_uppercase())
    };
    let data: Vec<String> = KNOWN.data.iter().map(&mut dressed).collect();
    place.write("semicolons.csv", format!("sensor_value;note;sensor_uuid;timestamp;n\n{}\n", data.join("\n")));
    let mapping: Vec<String> =
        KNOWN.mapping.iter().map(|line| format!("room,{}", fields(line).into_iter().rev().collect::<Vec<_>>().join(","))).collect();
    place.write("mapping.csv", format!("place,sensor_uuid,sensor_name\n{}\n", mapping.join("\n")).replace(',', ";"));
    for words in [
        "mapping=mapping.csv data=semicolons.csv",
        "mapping=plain/mapping.csv data=semicolons.csv",
        "mapping=mapping.csv data=plain/data.csv",
        // A measurement that is written in two ways is one.
        "mapping=mapping.csv mapping=plain/mapping.csv data=plain/data.csv data=semicolons.csv",
    ] {
        place.run(&format!("run sensors {words} --out out")).succeeds();
        KNOWN.same(&place, words);
    }
}

/// Both changes of the clock, conflicts, doubles, and what is no measurement.
#[test]
fn what_is_wrong_is_counted_or_refused_with_its_reason() {
    let place = Place::new();
    let lines = [
        // An hour that is not there, and the time that it is moved to.
        "2024-03-31 01:59:59|1",
        "2024-03-31 02:30:00|2",
        "2024-03-31T01:30:00Z|2",
        "2024-03-31 03:30:00|2.5",
        // An hour that is there twice: the first, unless an offset says more.
        "2024-10-27 02:30:00|3",
        "2024-10-27 02:30:00|3",
        "2024-10-27 02:30:00+01:00|4",
        "2024-10-27 02:45:00|5",
        "2024-10-27T00:45:00Z|6",
        "2024-10-27 03:00:00|7",
        // Nothing of this is a number.
        "2024-11-01T00:00:00Z|NaN",
        "2024-11-01T00:00:00Z|inf",
        "2024-11-01T00:00:00Z|-infinity",
        "2024-11-01T00:00:00Z|1e309",
        "2024-11-01T00:00:00Z|-1e999",
        "2024-11-01T00:00:00Z|",
        "2024-11-01T00:00:00Z|high",
        // It may be as large as doubles are.
        "2024-11-01T00:00:00Z|-6.5e30",
    ];
    for delimiter in [',', ';'] {
        let dressed = lines.map(|line| format!("x|{}", line.replace('|', &format!("|{OWN}|"))).replace('|', &delimiter.to_string()));
        place.write(
            "data.csv",
            format!("x|timestamp|sensor_uuid|sensor_value\n{}\n", dressed.join("\n")).replace('|', &delimiter.to_string()),
        );
        place.write("mapping.csv", format!("sensor_name|sensor_uuid\nown|{OWN}\n").replace('|', &delimiter.to_string()));
        let said = place.run("run sensors mapping=mapping.csv data=data.csv --out out").succeeds().stderr;
        assert!(said.contains("batch 1: 12 records, 0 late, 7 rejected"), "{said}");
        assert_eq!(place.read("out/sensor_issues.csv"), "issue,rows\nambiguous_local_time,2\nconflicting_value,4\nmissing_local_time,1\n");
        let summary = format!("own,{OWN},2024-03-31T00:59:59Z,2024-11-01T00:00:00Z,9,0,-6500000000000000000000000000000,7,");
        assert!(
            place.read("out/sensor_summary.csv").lines().nth(1).unwrap().starts_with(&summary),
            "{}",
            place.read("out/sensor_summary.csv")
        );
        let reasons: Vec<String> = csv::Reader::from_path(place.path("out/rejected.csv"))
            .unwrap()
            .records()
            .map(|row| {
                let row = row.unwrap();
                assert_eq!((&row[0], &row[1]), ("data", "data.csv"));
                format!("{} {}", &row[2], &row[3])
            })
            .collect();
        assert_eq!(
            reasons,
            [
                "12 sensor_value \"NaN\" is not finite",
                "13 sensor_value \"inf\" is not finite",
                "14 sensor_value \"-infinity\" is not finite",
                "15 sensor_value \"1e309\" is not finite",
                "16 sensor_value \"-1e999\" is not finite",
                "17 sensor_value is missing",
                "18 sensor_value \"high\" is no number",
            ]
        );
        let points = place.read("out/points.lp");
        // Of two values at one time the greater one is the point.
        for point in ["1711848600000000000", "1729989000000000000", "1729989900000000000", "1729992600000000000"] {
            assert_eq!(points.lines().filter(|line| line.ends_with(point)).count(), 1, "{points}");
        }
        assert!(points.contains(&format!("measurements,sensor_name=own,sensor_uuid={OWN} value=6 1729989900000000000\n")), "{points}");
    }
}

#[test]
fn measurements_are_found_by_name_or_uuid_and_range() {
    let place = Place::new();
    KNOWN.write(&place, "in", &KNOWN.mapping, &KNOWN.data);
    place.run("run sensors mapping=in/mapping.csv data=in/data.csv --tables sensor_mapping --points store:points").succeeds();
    let (name, uuid) = KNOWN.mapping[4].split_once(',').unwrap();
    let (from, to) = ("2024-03-09T00:00:00Z", "2024-03-11T12:00:00Z");
    // The values by their times: of several at one time, the greatest.
    let mut values: BTreeMap<&str, f64> = BTreeMap::new();
    for line in &KNOWN.data {
        let [time, sensor, value] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        if let (true, Ok(value)) = (sensor == uuid && from <= time && time < to, value.parse::<f64>())
            && value.is_finite()
        {
            values.entry(time).and_modify(|known| *known = known.max(value)).or_insert(value);
        }
    }
    let rows: String = values.iter().map(|(time, value)| format!("{time},{name},{uuid},{value}\n")).collect();
    assert!(values.len() > 50);
    let ask = |words: &str| place.run(&format!("query sensors.measurements {words} --points store:points")).succeeds().stdout;
    for tags in [format!("sensor_name={name}"), format!("sensor_uuid={uuid}"), format!("sensor_uuid={uuid} sensor_name={name}")] {
        let found = ask(&format!("{tags} --from {from} --to {to} --format csv"));
        assert_eq!(found, format!("time,sensor_name,sensor_uuid,value\n{rows}"));
    }
    // In local time; the end of a range is not in it.
    assert_eq!(
        ask(&format!("sensor_name={name} --from 2024-03-09T01:00:00 --to 2024-03-11T13:00:00 --timezone Europe/Berlin --format csv")),
        format!("time,sensor_name,sensor_uuid,value\n{rows}")
    );
    let table = ask(&format!("sensor_name={name} --from {from} --to {to} --limit 3"));
    assert!(table.starts_with(&format!("sensors.measurements: {} rows\n", values.len())), "{table}");
    // The sensor that the mapping has forgotten.
    let named: BTreeSet<&str> = KNOWN.mapping.iter().map(|line| line.split_once(',').unwrap().1).collect();
    let nameless = KNOWN.data.iter().map(|line| line.split(',').nth(1).unwrap()).find(|sensor| !named.contains(sensor)).unwrap();
    let found = ask(&format!("sensor_uuid={nameless} --limit 1 --format json"));
    let row: Value = serde_json::from_str(&found).unwrap();
    assert_eq!((row["sensor_name"].is_null(), row["sensor_uuid"].as_str()), (true, Some(nameless)));
    // One that is not there is answered by those that are near.
    let wrong = |tag: &str, near: &str| {
        let failure = place
            .run(&format!("query sensors.measurements {tag} --points store:points"))
            .fails()
            .names(&["no points of", tag.split_once('=').unwrap().1]);
        assert!(failure.hint.as_ref().is_some_and(|hint| hint.starts_with("the nearest: ") && hint.contains(near)), "{failure:?}");
    };
    wrong(&format!("sensor_name={}", name.replace("sensor", "sensr")), &format!("{name:?}"));
    wrong(&format!("sensor_uuid={}", uuid.replace(&uuid[..2], "zz")), &format!("{uuid:?}"));
}

/// A spike among quiet measurements, taken back by a late batch; and a silence that late measurements fill.
#[test]
fn a_late_measurement_makes_an_anomaly_go() {
    let place = Place::new();
    let line = |minute: i64, value: f64| format!("{},{OWN},{value}\n", Moment(1_709_251_200_000_000 + minute * 60_000_000));
    // Every half an hour for three weeks: 20, and some noise.
    let quiet =
        |steps: std::ops::Range<i64>| steps.map(|step| line(step * 30, 20.0 + (step * 7_919 % 13) as f64 / 100.0)).collect::<String>();
    place.write("mapping.csv", format!("thermometer,{OWN}\n"));
    place.write("whole.csv", quiet(0..1_000));
    place.write("first.csv", quiet(0..600));
    place.write("silent.csv", quiet(600..720));
    place.write("last.csv", quiet(720..1_000));
    let at = 12_007;
    place.write("wrong.csv", line(at, 25.0));
    place.write("right.csv", line(at, 20.05));
    let run = |words: &str, out: &str| {
        place.run(&format!("run sensors mapping=mapping.csv {words} --out {out} --changes {out}.jsonl")).succeeds()
    };
    // Of each table the rows that an epoch added and took away.
    let changed = |file: &str, epoch: u64, table: &str, diff: i64| -> Vec<String> {
        let lines: Vec<Value> = place.read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ours = lines.iter().filter(|line| line["epoch"] == epoch && line["table"] == table && line["diff"] == diff);
        ours.map(|line| line["row"].to_string()).collect()
    };
    let same = |left: &str, right: &str| {
        for name in TABLES.iter().map(|table| format!("{table}.csv")) {
            assert_eq!(place.read(&format!("{left}/{name}")), place.read(&format!("{right}/{name}")), "{name}");
        }
    };

    run("data=whole.csv data=wrong.csv --then 'data-=wrong.csv data=right.csv'", "corrected");
    run("data=whole.csv data=right.csv", "never");
    same("corrected", "never");
    for table in ["sensor_anomalies", "sensor_incidents"] {
        let (came, went) = (changed("corrected.jsonl", 1, table, 1), changed("corrected.jsonl", 2, table, -1));
        assert!(!came.is_empty() && came == went, "{table}: {came:?}, {went:?}");
        assert_eq!(place.read(&format!("corrected/{table}.csv")).lines().count(), 1);
    }
    let anomalies = changed("corrected.jsonl", 1, "sensor_anomalies", 1);
    let spike: Value = serde_json::from_str(&anomalies[0]).unwrap();
    assert_eq!(
        (spike["value"].as_f64(), spike["kind"].as_str(), spike["incident_start"].as_bool()),
        (Some(25.0), Some("point"), Some(true))
    );
    assert_eq!(spike["sensor_name"], "thermometer");

    run("data=first.csv data=last.csv --then data=silent.csv", "filled");
    run("data=whole.csv", "whole");
    same("filled", "whole");
    let gap: Vec<Value> = changed("filled.jsonl", 2, "sensor_anomalies", -1).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert!(gap.iter().any(|row| row["kind"] == "gap" && row["timestamp"] == "2024-03-16T00:00:00Z"), "{gap:?}");
    assert_eq!(place.read("filled/sensor_anomalies.csv").lines().count(), 1);
}
