//! Points of a service: in its store, which it answers from, through corrections, restarts and kills.

use crate::launch::{again, processes, signal};
use crate::support::program::Place;
use crate::support::service::{Asker, Service, free_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CSV: (&str, &str) = ("content-type", "text/csv");
const ALL: &str = "/v1/sensors/points/measurements?limit=100000";

/// Measurements of some sensors: a header, and lines.
struct Measured {
    place: Place,
    header: String,
    lines: Vec<String>,
}

impl Measured {
    fn new() -> Measured {
        let place = Place::new();
        place.run("generate sensors --out in --sensors 4 --days 4 --seed 3").succeeds();
        let data = place.read("in/data.csv");
        let (header, lines) = data.split_once('\n').unwrap();
        // Those that can't be read are no points.
        let lines = lines.lines().map(String::from).collect();
        Measured { place, header: header.into(), lines }
    }

    fn csv(&self, lines: &[String]) -> String {
        format!("{}\n{}\n", self.header, lines.join("\n"))
    }

    fn begin(&self, words: &str) -> Service {
        let service = Service::start(&self.place, &format!("sensors {words}"));
        service.post("/v1/sensors/mapping", &[CSV, ("idempotency-key", "mapping")], self.place.read("in/mapping.csv")).ok();
        service
    }

    /// The points of a run over these lines: by time and tags.
    fn of_run(&self, lines: &[String]) -> BTreeMap<String, Value> {
        self.place.write("known.csv", self.csv(lines));
        std::fs::remove_dir_all(self.place.path("known")).ok();
        self.place.run("run sensors data=known.csv mapping=in/mapping.csv -w 1 --quiet --out out --points store:known").succeeds();
        let said = self.place.run("query sensors.measurements --points store:known --format json").succeeds().stdout;
        said.lines().map(|line| place_of(&serde_json::from_str(line).unwrap())).collect()
    }
}

/// A point as `query` prints it: what identifies it, and its value.
fn place_of(point: &Value) -> (String, Value) {
    (format!("{} {} {}", point["time"], point["sensor_name"], point["sensor_uuid"]), point["value"].clone())
}

/// The same of one that a service gives.
fn flat(point: &Value) -> (String, Value) {
    let (time, tags) = (&point["time"], &point["tags"]);
    (format!("{time} {} {}", tags["sensor_name"], tags["sensor_uuid"]), point["fields"]["value"].clone())
}

fn points(service: &Asker) -> BTreeMap<String, Value> {
    let answer = service.get(ALL).ok().json();
    assert_eq!(answer["more"], false);
    let points = answer["points"].as_array().unwrap();
    assert!(points.is_sorted_by_key(|point| point["time"].as_str().unwrap().to_string()), "they are in the order of time");
    points.iter().map(flat).collect()
}

#[track_caller]
fn same(measured: &Measured, service: &Asker, lines: &[String]) {
    let (found, known) = (points(service), measured.of_run(lines));
    assert!(known.len() > 100 || lines.len() < 200, "there should be something to compare");
    let first = known.iter().find(|(place, value)| found.get(*place) != Some(value));
    let other = found.keys().find(|place| !known.contains_key(*place));
    assert!(found == known, "{} points for {}: {first:?} is missing or differs, {other:?} is too much", found.len(), known.len());
}

/// Process 0 has the store; the points of the others come to it, through kills of any of them, and with other numbers of processes.
#[test]
fn points_of_several_processes_come_together() {
    let measured = Measured::new();
    let (first, second) = measured.lines.split_at(measured.lines.len() / 2);
    let words = format!("sensors --listen 127.0.0.1:{} --heartbeat 300ms", free_port());
    let service = Service::launched(&measured.place, "-n 2 -w 2", &words);
    service.post("/v1/sensors/mapping", &[CSV, ("idempotency-key", "mapping")], measured.place.read("in/mapping.csv")).ok();
    service.csv("/v1/sensors/data", measured.csv(first)).ok();
    same(&measured, &service, first);
    for (which, name) in [(1, "KILL"), (0, "KILL"), (1, "STOP")] {
        let before = processes(&measured.place);
        signal(before[which], name);
        again(&measured.place, &service, &before, 2);
        same(&measured, &service, first);
    }
    service.csv("/v1/sensors/data", measured.csv(second)).ok();
    service.csv("/v1/sensors/data?retract=true", measured.csv(&first[10..60])).ok();
    let rest: Vec<String> = first[..10].iter().chain(&first[60..]).chain(second).cloned().collect();
    same(&measured, &service, &rest);
    service.end();
    let service = Service::launched(&measured.place, "-n 3 -w 1", &words);
    same(&measured, &service, &rest);
    service.end();
}

#[test]
fn points_follow_corrections_and_restarts() {
    let measured = Measured::new();
    let (first, second) = measured.lines.split_at(measured.lines.len() / 2);
    let service = measured.begin("-w 2");
    service.csv("/v1/sensors/data", measured.csv(first)).ok();
    same(&measured, &service, first);
    service.csv("/v1/sensors/data", measured.csv(second)).ok();
    same(&measured, &service, &measured.lines);
    // Some are taken back.
    service.csv("/v1/sensors/data?retract=true", measured.csv(&first[10..60])).ok();
    let rest: Vec<String> = first[..10].iter().chain(&first[60..]).chain(second).cloned().collect();
    same(&measured, &service, &rest);
    // What is asked for is what comes.
    let all = service.get(ALL).ok().json()["points"].as_array().unwrap().clone();
    let name = all[0]["tags"]["sensor_name"].as_str().unwrap().to_string();
    let time = |place: usize| all[place]["time"].as_str().unwrap().to_string();
    let (from, to) = (time(all.len() / 3), time(all.len() / 2));
    let got = |asked: &str| {
        let answer = service.get(&format!("/v1/sensors/points/measurements?{asked}")).ok().json();
        (answer["points"].as_array().unwrap().clone(), answer["more"].as_bool().unwrap())
    };
    let only = |is_so: &dyn Fn(&Value) -> bool| all.iter().filter(|point| is_so(point)).cloned().collect::<Vec<_>>();
    let within = |point: &Value| (from.as_str()..to.as_str()).contains(&point["time"].as_str().unwrap());
    assert_eq!(got(&format!("from={from}&to={to}&limit=100000")), (only(&within), false));
    let named = only(&|point| point["tags"]["sensor_name"] == name.as_str() && within(point));
    assert_eq!(got(&format!("sensor_name={}&from={from}&to={to}", name.replace(' ', "%20"))), (named, false));
    assert_eq!(got("limit=3"), (all[..3].to_vec(), true));
    assert_eq!(got("limit=0"), (Vec::new(), true));
    assert_eq!(got("sensor_name=nobody"), (Vec::new(), false));
    assert!(got("").0.len() <= 1_000);
    for (asked, status, code) in [
        ("measurement", 404, "unknown_measurement"),
        ("measurements?sensor=x", 400, "unknown_tag"),
        ("measurements?from=yesterday", 400, "bad_value"),
        ("measurements?limit=-1", 400, "bad_value"),
        ("measurements?limit=1000000", 400, "bad_value"),
    ] {
        service.get(&format!("/v1/sensors/points/{asked}")).refused(status, code);
    }
    service.end();
    let service = measured.begin("-w 1");
    same(&measured, &service, &rest);
    service.kill();
    let service = measured.begin("-w 3");
    same(&measured, &service, &rest);
    service.end();
    // By the shell they are asked for likewise, of a service and of a state.
    let ask = |words: &str| measured.place.run(&format!("query sensors.measurements {words}")).succeeds().stdout;
    for words in ["--format csv", "--format json", "", "--format csv --limit 3"] {
        let of_state = ask(&format!("--state state {words}"));
        assert!(of_state == ask(&format!("--points store:state/points {words}")) && !of_state.is_empty(), "{words}");
        let service = measured.begin("-w 1");
        assert_eq!(ask(&format!("--server {} {words}", service.address)), of_state, "{words}");
        measured.place.run("query sensors.measurements --state state").fails().names(&["in use"]);
        service.end();
    }
    measured.place.run("query sensors.measurements --state state --order time").fails_as_wrong_usage().names(&["in the order of time"]);
    // The store was closed, and a run goes on with it.
    let ran = measured.place.run("query sensors.measurements --points store:state/points --format csv").succeeds();
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 1 + all.len());
}

/// Killed wherever it is: of what was delivered and taken back under keys, each counts once, in points as in tables.
#[test]
fn whenever_it_is_killed_points_are_those_of_the_records() {
    let measured = Measured::new();
    let steps: Vec<(String, bool, String)> = measured
        .lines
        .chunks(40)
        .enumerate()
        .flat_map(|(number, lines)| {
            let step = |name: &str, retract| (format!("{number} {name}"), retract, measured.csv(lines));
            // Every third is taken back in the end.
            if number % 3 == 0 { vec![step("first", false), step("back", true)] } else { vec![step("once", false)] }
        })
        .collect();
    let left: Vec<String> =
        measured.lines.chunks(40).enumerate().filter(|(number, _)| number % 3 != 0).flat_map(|(_, lines)| lines.to_vec()).collect();
    let listen = format!("-w 2 --listen 127.0.0.1:{}", crate::support::service::free_port());
    let mut service = measured.begin(&listen);
    let is_over = Arc::new(AtomicBool::new(false));
    let sending = {
        let (asker, is_over, steps) = (service.asker.clone(), Arc::clone(&is_over), steps);
        std::thread::spawn(move || {
            for (key, retract, body) in &steps {
                let path = format!("/v1/sensors/data?retract={retract}");
                // While it is away, it is asked again.
                while asker.try_post(&path, &[CSV, ("idempotency-key", key)], body.as_bytes()).is_none_or(|answer| answer.status != 200) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            is_over.store(true, Ordering::Relaxed);
        })
    };
    let mut kills = 0;
    while !is_over.load(Ordering::Relaxed) && kills < 12 {
        std::thread::sleep(Duration::from_millis(20 + 17 * kills));
        service.kill();
        service = measured.begin(&listen);
        kills += 1;
    }
    sending.join().unwrap();
    assert!(kills >= 3, "it should be killed while it works");
    same(&measured, &service, &left);
    service.kill();
    let service = measured.begin(&listen);
    same(&measured, &service, &left);
    service.end();
}

#[test]
fn points_go_where_they_are_wanted() {
    let measured = Measured::new();
    // Two dataflows share the store.
    let service = Service::start(&measured.place, "sensors brushing -w 1 --points store:elsewhere");
    service.csv("/v1/sensors/data", measured.csv(&measured.lines)).ok();
    assert!(!points(&service).is_empty());
    assert_eq!(service.get("/v1/brushing/points/brushing").ok().json()["points"].as_array().unwrap().len(), 0);
    let s0 = measured.place.path("set");
    std::fs::create_dir(&s0).unwrap();
    std::fs::write(s0.join("b.csv"), "0,1,0.5\n1,1,0.75\n").unwrap();
    std::fs::write(s0.join("s.jsonlines"), "{\"time\":1700000000,\"tick\":0,\"battery\":0.9,\"tick_interval\":0.5}\n").unwrap();
    let job = serde_json::json!({"job_id": "j", "toothbrush_id": "t", "brushing": s0.join("b.csv"), "settings": s0.join("s.jsonlines")});
    service.post("/v1/brushing/datasets", &[("content-type", "application/x-ndjson")], job.to_string()).ok();
    let brushed = service.get("/v1/brushing/points/brushing?dataset_id=j").ok().json();
    let jobs = service.get("/v1/brushing/tables/brushing_jobs").ok().text;
    assert_eq!(brushed["points"].as_array().unwrap().len(), 2, "{brushed} {jobs}");
    service.end();
    // A file has all of them in the end.
    let service = Service::start(&measured.place, "sensors -w 1 --points file:points.lp");
    service.get(ALL).refused(404, "no_store");
    service.end();
    assert!(measured.place.read("points.lp").lines().count() > 100);
    measured.place.run("serve sensors brushing --state state --points file:p.lp --listen 127.0.0.1:0").fails_as_wrong_usage();
}

/// Whoever draws a line needs its outline, and no more points than there is room for.
#[test]
fn points_are_thinned_to_their_outline() {
    let place = Place::new();
    let service = Service::start(&place, "sensors -w 2");
    let id = "15a4c814-5cd1-4b30-432e-429ad517812c";
    let value = |minute: u64| {
        if minute == 777 {
            1_000.0
        } else if minute == 778 {
            -1_000.0
        } else {
            (minute % 60) as f64
        }
    };
    let time = |minute: u64| retally_core::time::Moment(1_767_225_600_000_000 + i64::try_from(minute).unwrap() * 60_000_000).to_string();
    let lines: String = (0..2_000).map(|minute| format!("{},{id},{}\n", time(minute), value(minute))).collect();
    service.post("/v1/sensors/data", &[CSV], format!("timestamp,sensor_uuid,sensor_value\n{lines}")).ok();
    let asked = |words: &str| service.get(&format!("/v1/sensors/points/measurements?sensor_uuid={id}&{words}")).ok().json();
    let values = |answer: &Value| -> Vec<f64> {
        answer["points"].as_array().unwrap().iter().map(|point| point["fields"]["value"].as_f64().unwrap()).collect()
    };
    let thinned = asked("thinned=20");
    let found = values(&thinned);
    assert!((18..=20).contains(&found.len()), "{found:?}");
    assert_eq!(thinned["more"], false);
    assert!(found.contains(&1_000.0) && found.contains(&-1_000.0), "{found:?}");
    assert!(
        found.iter().filter(|value| **value == 0.0).count() >= 8 && found.iter().filter(|value| **value == 59.0).count() >= 8,
        "{found:?}"
    );
    assert!(thinned["points"].as_array().unwrap().is_sorted_by_key(|point| point["time"].as_str().unwrap().to_string()));
    // Those of a range, each where they are few enough.
    let range = format!("from={}&to={}", time(770), time(790));
    let few = asked(&format!("{range}&thinned=20"));
    assert_eq!(values(&few), (770..790).map(value).collect::<Vec<_>>());
    assert_eq!(values(&asked(&format!("{range}&thinned=2"))), [1_000.0, -1_000.0]);
    let more = asked("thinned=20&limit=5");
    assert_eq!((values(&more).len(), &more["more"]), (5, &true.into()));
    assert_eq!(values(&asked("from=2030-01-01&thinned=20")), [0.0; 0]);
    for wrong in ["1", "0", "many", "100001"] {
        service.get(&format!("/v1/sensors/points/measurements?thinned={wrong}")).refused(400, "bad_value");
    }
    service.end();
}
