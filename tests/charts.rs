//! Charts of single sensors: which are drawn, that their bytes are the same however the work is spread, and what is said when one is
//! not there.

use crate::processes::hosts;
use crate::support::program::{Failure, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Seven sensors for 16 days at every half hour: one of each shape, with what goes wrong.
fn sensors() -> Place {
    let place = Place::new();
    place.run("generate sensors --out in --sensors 7 --days 16 --interval 1800 --mess 0.05 --seed 5").succeeds();
    place
}

const RUN: &str = "run sensors mapping=in/mapping.csv --quiet";

/// The documents in a folder.
fn documents(place: &Place, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = place.files(folder);
    files.retain(|name, _| name.ends_with(".svg"));
    files
}

/// The lines of a file in parts, each with the header, and each line in one of them.
fn parts(place: &Place, count: usize) -> Vec<String> {
    let text = place.read("in/data.csv");
    let (header, lines) = text.split_once('\n').unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    // An order that has nothing to do with time.
    lines.sort_by_key(|line| {
        line.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    let part = |part: usize| {
        let name = format!("part{part}.csv");
        let lines: Vec<&str> = lines.iter().skip(part).step_by(count).copied().collect();
        place.write(&name, format!("{header}\n{}\n", lines.join("\n")));
        name
    };
    (0..count).map(part).collect()
}

#[test]
fn the_five_with_the_highest_peaks_are_drawn_in_the_same_bytes_on_any_workers() {
    let place = sensors();
    place.run(&format!("{RUN} data=in/data.csv --charts one -w 1 --out out")).succeeds();
    let known = documents(&place, "one");
    assert_eq!(known.len(), 5, "{:?}", known.keys());
    let summary = place.read("out/sensor_incidents.csv");
    let peak = |line: &str| line.split(',').nth(5).and_then(|score| score.parse::<f64>().ok());
    let mut peaks: BTreeMap<String, f64> = BTreeMap::new();
    for line in summary.lines().skip(1) {
        let highest = peaks.entry(format!("{}.svg", line.split(',').next().unwrap())).or_default();
        *highest = highest.max(peak(line).unwrap());
    }
    let least = known.keys().map(|name| peaks[name]).fold(f64::INFINITY, f64::min);
    assert!(peaks.iter().all(|(name, peak)| known.contains_key(name) || *peak <= least), "{peaks:?}");
    let texts: String = known.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert!(["incidents", "segments", "expected ± 5 σ", "times in Europe/Berlin"].iter().all(|text| texts.contains(text)));

    let parts = parts(&place, 3);
    let [a, b, c] = [0, 1, 2].map(|part| format!("data={}", parts[part]));
    for (number, words) in [
        "data=in/data.csv -w 2".to_string(),
        format!("{c} {a} {b} -w 2"),
        format!("{b} --then '{c}' --then '{a} data-={}' --then {b} -w 3", parts[1]),
        format!("{a} {b} {c} -w 2 --tables sensor_mapping"),
    ]
    .iter()
    .enumerate()
    {
        place.run(&format!("{RUN} {words} --charts other{number}")).succeeds();
        assert!(documents(&place, &format!("other{number}")) == known, "{words}");
    }
}

#[test]
fn two_processes_draw_the_bytes_of_one() {
    let place = sensors();
    let words = format!("{RUN} data=in/data.csv --chart-sensor sensor_00001,sensor_00005 --charts");
    place.run(&format!("{words} one -w 1")).succeeds();
    hosts(&place);
    let start = |process: usize| place.start(&format!("{words} two -w 1 -n 2 -p {process} --hosts hosts"));
    let (second, first) = (start(1), start(0));
    first.finish().succeeds();
    second.finish().succeeds();
    assert_eq!(documents(&place, "one").len(), 2);
    assert!(documents(&place, "one") == documents(&place, "two"));
}

/// The commands of the pages of dataflows, and the charts that they show: as they are drawn, and as they are called there.
#[test]
fn charts_of_the_pages_are_drawn_by_their_commands() {
    let pages: [(&str, [&str; 2], &[&str]); 4] = [
        (
            "online",
            [
                "generate online --out fleet --devices 500 --days 120",
                "run online events=fleet/events.csv servers=fleet/servers.csv --out tables --charts charts",
            ],
            &["daily", "rolling_28d", "projection"],
        ),
        (
            "active",
            ["generate active --out app --users 300 --days 60 --events-per-day 200", "run active events=app --out tables --charts charts"],
            &["users"],
        ),
        (
            "usage",
            ["generate usage --out school --devices 40 --days 60", "run usage events=school --out tables --charts charts"],
            &["minutes", "sessions"],
        ),
        (
            "brushing",
            [
                "generate brushing --out brushes --toothbrushes 2 --datasets 20",
                "run brushing datasets=brushes --tables brushing_daily --points store:points --charts charts",
            ],
            &["minutes", "loss"],
        ),
    ];
    for (dataflow, commands, charts) in pages {
        let (place, folder) = (Place::new(), Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows").join(dataflow));
        let page = fs::read_to_string(folder.join("README.md")).unwrap();
        for command in commands {
            assert!(page.contains(&format!("retally {command}\n")), "{command}");
            place.run(command).succeeds();
        }
        for chart in charts {
            let shown = fs::read_to_string(folder.join(format!("charts/{chart}.svg"))).unwrap();
            let drawn = place.read(&format!("charts/{dataflow}_{chart}.svg"));
            assert!(drawn == shown, "{dataflow}/charts/{chart}.svg is not what its commands draw");
        }
    }
}

#[test]
fn sensors_are_asked_for_by_name_or_uuid() {
    let place = sensors();
    let mapping = place.read("in/mapping.csv");
    let uuid = mapping.lines().find_map(|line| line.strip_prefix("sensor_00002,")).unwrap();
    place.run(&format!("{RUN} data=in/data.csv --charts charts --chart-sensor 'sensor_00004, {}'", uuid.to_uppercase())).succeeds();
    assert_eq!(place.names("charts"), ["sensor_00002.png", "sensor_00002.svg", "sensor_00004.png", "sensor_00004.svg"]);
    assert!(place.read("charts/sensor_00002.svg").contains(uuid));
}

#[test]
fn an_unknown_sensor_costs_no_tables_and_no_other_chart() {
    let place = sensors();
    let run = |words: &str| place.run(&format!("{RUN} data=in/data.csv --charts charts --out out {words}"));
    let Failure { error, hint } = run("--chart-sensor sensr_00004,sensor_00001").fails();
    assert_eq!(error, "drew no chart of sensor \"sensr_00004\": it is not there; all else is done");
    assert!(hint.unwrap().starts_with("the nearest: \"sensor_00004\", "));
    assert_eq!(place.names("charts"), ["sensor_00001.png", "sensor_00001.svg"]);
    assert!(place.read("out/sensor_summary.csv").lines().count() == 8);
    run("--chart-sensor nobody,no,none").fails().names(&["\"nobody\", and not 2 others"]);
}

#[test]
fn sensors_that_are_named_want_a_place_for_charts() {
    let failure = sensors().run(&format!("{RUN} data=in/data.csv --chart-sensor sensor_00004")).fails_as_wrong_usage();
    assert!(failure.names(&["--chart-sensor without --charts"]).hint.is_some_and(|hint| hint.contains("--charts DIR")));
}

/// What charts are made of is no table: it is not written, and no change of it is told.
#[test]
fn charts_leave_tables_as_they_are() {
    let place = sensors();
    let run = |words: &str, out: &str| {
        place.run(&format!("{RUN} data=in/data.csv --then data=in/data.csv --out {out} --changes {out}.jsonl {words}")).succeeds();
        let mut files = place.files(out);
        // Points come in the order in which workers write them.
        let points = String::from_utf8(files.remove("points.lp").unwrap()).unwrap();
        let points: BTreeSet<String> = points.lines().map(String::from).collect();
        (files, points, place.read(&format!("{out}.jsonl")))
    };
    assert!(run("", "without") == run("--charts charts --chart-sensor sensor_00000", "with"));
    let (mapping, data) = ("sensor_name,sensor_uuid\n", "timestamp,sensor_uuid,sensor_value\n");
    place.write("in/mapping.csv", mapping);
    place.write("in/data.csv", data);
    place.run(&format!("{RUN} data=in/data.csv --charts empty")).succeeds();
    assert!(!place.has("empty") || place.names("empty").is_empty(), "without sensors there is no chart");
}
