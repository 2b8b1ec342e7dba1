//! What is said of a service by flags and by its file: which tables it builds, how its files are read, and as of when they are.

use crate::launch::until;
use crate::support::known::{EVENTS, table};
use crate::support::program::Place;
use crate::support::service::Service;
use retally_core::time::Moment;
use serde_json::Value;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const DEVICE: &str = "d0000000-0000-4000-8000-000000000001";
const UUID: &str = "15a4c814-5cd1-4b30-432e-429ad517812c";

/// What stands under this name in each of some objects.
fn names(list: &Value, name: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().into()).collect()
}

#[test]
fn a_service_builds_some_tables_only() {
    let place = Place::new();
    let day = |day: u32, device: u32| format!("2026-03-{day:02} 08:00:00,{device},1,1,true");
    let events = table(&EVENTS, &[day(5, 1), day(6, 2)]);
    place.write("events.csv", &events);
    place.run("run online events=events.csv --out out -w 1").succeeds();
    let rows = |service: &Service, name: &str| service.get(&format!("/v1/online/tables/{name}?format=csv"));

    let some = "online active -w 1 --tables online.online_daily,online.online_summary";
    let service = Service::start(&place, some);
    service.csv("/v1/online/events", &events).ok();
    let served = service.get("/v1/dataflows").ok().json();
    let [online, active] = served["dataflows"].as_array().unwrap().as_slice() else { panic!("{served}") };
    assert_eq!(names(&online["tables"], "name"), ["online_daily", "online_summary"]);
    assert_eq!(names(&online["charts"], "name"), ["online_daily"]);
    assert_eq!(names(&active["tables"], "name"), ["active_user_table", "active_rolling", "active_issues"]);
    assert_eq!(rows(&service, "online_daily").ok().text, place.read("out/online_daily.csv"));
    service.get("/v1/online/tables/online_intervals").refused(404, "unknown_table");
    service.get("/v1/online/charts/online_projection.json").refused(404, "unknown_chart");
    service.get("/v1/online/charts/online_daily.svg").ok();
    service.end();
    place.run("verify --state state").succeeds();
    // All of them, and some again.
    let service = Service::start(&place, "online active -w 2");
    for name in ["online_daily", "online_intervals", "online_issues"] {
        assert_eq!(rows(&service, name).ok().text, place.read(&format!("out/{name}.csv")), "{name}");
    }
    service.end();
    place.run("verify --state state").succeeds();
    place.write("retally.toml", "[online]\ntables = [\"online_daily\"]\n");
    let service = Service::start(&place, "online active -w 1 --config retally.toml");
    service.csv("/v1/online/events?retract=true", &events).ok();
    assert_eq!(rows(&service, "online_daily").ok().text.lines().count(), 1);
    rows(&service, "online_summary").refused(404, "unknown_table");
    service.end();
    place.run("verify --state state").succeeds();
    let service = Service::start(&place, "online active -w 1");
    assert_eq!(rows(&service, "online_summary").ok().text.lines().count(), 1, "what was not built has moved too");
    service.end();

    for (words, named) in [
        ("--tables online.daily", "\"daily\", which online does not have"),
        ("--tables sensors.sensor_summary", "is of no dataflow that is served"),
        ("--tables online_daily", "is of no dataflow that is served"),
    ] {
        place.run(&format!("serve online --state state {words}")).fails_as_wrong_usage().names(&[named]);
    }
}

#[test]
fn files_of_a_service_are_read_as_it_is_said() {
    let place = Place::new();
    let mapping = [b"exported by hand\nsensor_name;sensor_uuid\nAu\xdfen;", UUID.as_bytes(), b"\n"].concat();
    let data = format!("exported by hand\ntimestamp;sensor_uuid;sensor_value\n2024-03-01 08:00:00;{UUID};12,5\n");
    place.write("drop/data.csv", &data);
    place.write("mapping.csv", &mapping);
    let words = "sensors -w 1 --watch sensors.data=drop --settle 10ms";
    let said = "--set sensors.encoding=windows-1252 --set sensors.skip-rows=1";
    let service = Service::start(&place, &format!("{words} {said}"));
    service.csv("/v1/sensors/mapping", &mapping).ok();
    let summary = |service: &Service| {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = service.get("/v1/sensors/tables/sensor_summary?format=csv").ok().text;
            if text.contains("Außen") && text.contains("12.5") {
                return text;
            }
            assert!(Instant::now() < until, "{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let first = summary(&service);
    service.end();
    // What was taken is read as it came, whatever is said later.
    let service = Service::start(&place, "sensors -w 2");
    assert_eq!(summary(&service), first);
    service.csv("/v1/sensors/mapping", &mapping).refused(400, "bad_body");
    service.end();
    place.run("verify --state state").succeeds();
    // The file says it for services and for runs.
    place.write("retally.toml", "[sensors]\nencoding = \"windows-1252\"\nskip-rows = 1\n");
    let run = "run sensors mapping=mapping.csv data=drop/data.csv --config retally.toml --out out";
    place.run(run).succeeds();
    assert_eq!(place.read("out/sensor_summary.csv"), first);
    place.run(&format!("{run} --skip-rows 0")).fails().names(&["mapping.csv", "names none of the fields"]);

    for (said, named) in [
        ("--set sensors.encoding=latin", "--set sensors.encoding \"latin\" is no encoding of text"),
        ("--set sensors.header=first", "--set sensors.header=first is no setting"),
        ("--set sensors.skip-rows=some", "--set sensors.skip-rows is \"some\""),
        ("--set sensors.color=red", "--set sensors.color=red is no setting"),
    ] {
        place.run(&format!("serve sensors --state state {said}")).fails_as_wrong_usage().names(&[named]);
    }
}

#[test]
fn the_status_says_as_of_when_tables_are() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    let as_of = |service: &Service| service.get("/v1/status").ok().json()["dataflows"]["online"]["as_of"].clone();
    assert_eq!(as_of(&service), Value::Null);
    let batch = |time: &str| table(&EVENTS, &[format!("{time},1,1,1,true")]);
    service.csv("/v1/online/events", batch("2026-03-05 08:00:00.5")).ok();
    assert_eq!(as_of(&service), "2026-03-05T08:00:00.500000Z");
    service.csv("/v1/online/events", batch("2026-03-04 08:00:00")).ok();
    assert_eq!(as_of(&service), "2026-03-05T08:00:00.500000Z", "late ones do not move it");
    let shown = place.run(&format!("status --server {}", service.address)).succeeds().stdout;
    assert!(shown.contains(", as of 2026-03-05T08:00:00.500000Z\n"), "{shown}");
    service.end();
    let service = Service::start(&place, "online -w 2");
    assert_eq!(as_of(&service), "2026-03-05T08:00:00.500000Z", "after a start");
    service.end();
}

fn differs_nowhere(place: &Place) {
    let said = place.run("verify --state state").succeeds().stdout;
    assert!(said.ends_with("nothing differs\n"), "{said}");
}

#[test]
fn as_of_of_a_service_goes_on_with_the_clock() {
    let place = Place::new();
    // A school device that is used no more, one that is online, and a user who was active: all long ago.
    let log = |time: &str, what: &str| {
        format!("{{\"time\":\"2026-03-05T{time}Z\",\"logId\":\"{DEVICE}\",\"type\":\"{what}\",\"sessionId\":\"{UUID}\"}}\n")
    };
    let usage = log("08:00:00", "StartSession") + &log("08:30:00", "EndSession");
    let online = table(&EVENTS, &["2026-03-05 08:00:00,1,1,1,true".to_string()]);
    let service = Service::start(&place, "online usage active -w 1");
    service.csv("/v1/online/events", &online).ok();
    service.post("/v1/usage/events", &[("content-type", "application/x-ndjson")], usage).ok();
    let last = |service: &Service, table: &str, column: usize| {
        let text = service.get(table).ok().text;
        text.lines().last().unwrap().split(',').nth(column).unwrap().to_string()
    };
    let intervals = "/v1/online/tables/online_intervals?format=csv";
    let history = "/v1/usage/tables/usage_history?format=csv";
    assert_eq!(last(&service, intervals, 4), "2026-03-05T08:00:00Z");
    assert_eq!(last(&service, history, 1), "2026-03-05");
    service.end();

    let now = || Moment(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap());
    // It need not be fed: the clock goes on by itself.
    let before = now().end_of_minute().to_string();
    let service = Service::start(&place, "online usage active -w 2 --as-of now");
    let as_of = |service: &Service, name: &str| service.get("/v1/status").ok().json()["dataflows"][name]["as_of"].clone();
    let until = Instant::now() + Duration::from_secs(20);
    let is_now = |as_of: &Value| as_of.as_str().is_some_and(|as_of| *before <= *as_of && *as_of <= *now().end_of_minute().to_string());
    while !["online", "usage", "active"].iter().all(|name| is_now(&as_of(&service, name))) {
        assert!(Instant::now() < until, "{}", as_of(&service, "online"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let open = last(&service, intervals, 4);
    assert!(before <= open && open <= now().end_of_minute().to_string(), "{open}");
    assert!(*last(&service, history, 1) >= before[..10], "days without use are counted up to now");
    let batches = service.get("/v1/online/batches").ok().json();
    assert_eq!(names(&batches["batches"], "name").first().map(String::as_str), Some("clock"));
    assert_eq!(batches["batches"][0]["accepted"], 0);
    // What comes is late as ever, and the clock does not make it so.
    let next = service.csv("/v1/online/events", table(&EVENTS, &["2026-03-06 08:00:00,1,1,1,false".to_string()])).ok().json();
    assert_eq!((&next["accepted"], &next["late"]), (&1.into(), &0.into()));
    let rows = |service: &Service| service.get(intervals).ok().text;
    let offline = rows(&service);
    assert!(offline.contains("2026-03-05T08:00:00Z,2026-03-06T08:00:00Z,offline"), "{offline}");
    // An event of this minute changes what it is about, and nothing else that is open.
    let begins = |device: u32| service.csv("/v1/online/events", table(&EVENTS, &[format!("{},{device},2,1,true", now())])).ok().json();
    let minute = now().end_of_minute();
    begins(2);
    let changed = begins(3)["changed"].clone();
    assert!(changed["online_intervals"] == 1 || now().end_of_minute() != minute, "{changed}");
    service.end();
    // The journal says when each batch came, so the tables follow from it alone; also when it is folded.
    differs_nowhere(&place);
    place.run("compact --state state").succeeds();
    differs_nowhere(&place);
    // With another as-of they are rebuilt.
    let service = Service::start(&place, "online usage active -w 1 --as-of 2026-03-05T09:00:00Z");
    assert_eq!(last(&service, intervals, 4), "2026-03-05T09:00:00Z");
    assert_eq!(as_of(&service, "online"), "2026-03-05T09:00:00Z");
    service.end();
    place.write("retally.toml", "[online]\nas-of = \"2026-03-05T10:00:00Z\"\n");
    let service = Service::start(&place, "online usage active -w 1 --config retally.toml");
    assert_eq!(last(&service, intervals, 4), "2026-03-05T10:00:00Z");
    service.end();
    differs_nowhere(&place);
    place.run("serve online --state state --as-of soon").fails_as_wrong_usage().names(&["--as-of \"soon\""]);
}

#[test]
fn a_service_says_once_that_each_later_event_changes_all_that_is_open() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    let event = |second: usize, device: usize| format!("2026-03-05 08:00:{second:02},{device},1,1,true");
    let all: Vec<String> = (0..5_000).map(|device| event(0, device)).collect();
    service.csv("/v1/online/events", table(&EVENTS, &all)).ok();
    for second in 1..4 {
        let answer = service.csv("/v1/online/events", table(&EVENTS, &[event(second, 1)])).ok().json();
        assert!(answer["changed"]["online_intervals"].as_u64().unwrap() >= 10_000, "{answer}");
    }
    let said = service.end().stderr;
    let advice = "online: a batch of 1 record changed 10,001 rows of online_intervals: what is open ends at the latest event, and changes with \
                  each later one; with --as-of now it changes once a minute";
    assert_eq!(said.matches(advice).count(), 1, "{said}");
    let service = Service::start(&place, "online -w 1 --as-of 2026-03-06T00:00:00Z");
    let answer = service.csv("/v1/online/events", table(&EVENTS, &[event(5, 1)])).ok().json();
    assert_eq!(answer["changed"]["online_intervals"], 3);
    assert!(!service.end().stderr.contains("--as-of now"));
}

/// What can be read once is sent as often as it takes, and what HTTP has no name for is packed otherwise.
#[test]
fn files_of_every_packing_and_pipes_are_sent() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    let lines: Vec<String> = (0..40).map(|number| format!("2026-03-05 08:00:{number:02},{number},1,1,true")).collect();
    place.write("events.csv", table(&EVENTS, &lines));
    place.write(
        "events.jsonl",
        "{\"timestamp\":\"2026-03-05 09:00:00\",\"device_id\":1,\"user_id\":1,\"server_id\":1,\"connected\":true}\n",
    );
    let program = env!("CARGO_BIN_EXE_retally");
    for (script, records) in [
        ("bzip2 -k events.csv && retally feed online events=events.csv.bz2", 40),
        ("xz -k events.csv && retally feed online events=events.csv.xz", 40),
        ("cat events.csv | retally feed online events=-", 40),
        ("xz -c events.jsonl | retally feed online events=-", 1),
        ("mkfifo pipe; cat events.csv > pipe & retally feed online events=pipe events-=events.csv", 80),
    ] {
        let script = format!("{} --server {}", script.replace("retally", program), service.address);
        let ran = std::process::Command::new("bash").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(
            said.contains(&format!(": {records} record")) && said.contains(" late, 0 rejected, in "),
            "{script}: {said} {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    place.run(&format!("feed online events=events.csv.tar --server {}", service.address)).fails();
    service.end();
}

#[test]
fn a_range_of_days_begins_with_the_next_midnight() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    service
        .csv("/v1/online/events", table(&EVENTS, &["2026-03-02 08:00:00,1,1,1,true".into(), "2026-03-05 08:00:00,1,1,1,false".into()]))
        .ok();
    let days = |asked: &str| {
        let text = service.get(&format!("/v1/online/tables/online_summary?format=csv&{asked}")).ok().text;
        text.lines().skip(1).map(|row| row[8..10].to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(days(""), "02 03 04 05");
    for (asked, expected) in [
        ("from=2026-03-03", "03 04 05"),
        ("from=2026-03-03T00:00:00Z", "03 04 05"),
        ("from=2026-03-03T12:00:00Z", "04 05"),
        ("to=2026-03-04", "02 03"),
        ("to=2026-03-04T12:00:00Z", "02 03 04"),
        ("from=2026-03-02T23:59:59.999999Z&to=2026-03-03T00:00:00.000001Z", "03"),
    ] {
        assert_eq!(days(asked), expected, "{asked}");
    }
    service.end();
}

#[test]
fn jobs_that_are_sent_name_whole_paths() {
    let place = Place::new();
    place.write("in/b/d/brushing.csv", "0,3,0.5\n1,3,0.5\n");
    place.write("in/b/d/settings.jsonlines", "{\"time\":1700000000,\"tick\":0,\"battery\":1,\"tick_interval\":1}\n");
    let service = Service::start(&place, "brushing -w 1");
    let job = |folder: &str| {
        format!(
            "{{\"toothbrush_id\":\"b\",\"dataset_id\":\"d\",\"brushing\":\"{folder}/brushing.csv\",\"settings\":\"{folder}/settings.jsonlines\"}}\n"
        )
    };
    let json = [("content-type", "application/x-ndjson")];
    let said = service.post("/v1/brushing/datasets", &json, job("in/b/d")).refused(400, "bad_body");
    assert!(said.contains("\"in/b/d/brushing.csv\"") && !said.contains("tmp"), "{said}");
    service.csv("/v1/brushing/datasets", "job_id\n1\n").refused(415, "unknown_type");
    let whole = place.path("in/b/d");
    let answer = service.post("/v1/brushing/datasets", &json, job(whole.to_str().unwrap())).ok().json();
    assert_eq!(answer["epoch"], 1, "what was refused has no epoch");
    let jobs = service.get("/v1/brushing/tables/brushing_jobs?format=csv").ok().text;
    assert!(jobs.contains("b,d,done,"), "{jobs}");
    service.end();
}

/// As units of systemd with `Type=notify` want it.
#[test]
fn who_supervises_it_is_told_when_it_is_ready_and_when_it_ends() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut block = [0; 256];
        let length = socket.recv(&mut block).unwrap();
        String::from_utf8_lossy(&block[..length]).into_owned()
    };
    let path = place.path("notify");
    let with_socket = |mut command: Command| {
        command.env("NOTIFY_SOCKET", path);
        command
    };
    let service = Service::begin_as(&place, "online -w 1 --state state", with_socket);
    assert!(told().lines().any(|line| line == "READY=1"));
    assert_eq!(service.get("/readyz").status, 200, "it is told no sooner");
    service.started.signal("TERM");
    assert!(told().lines().any(|line| line == "STOPPING=1"));
    service.started.finish().succeeds();
}

#[test]
fn files_of_a_folder_are_written_as_often_as_asked() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1 --out csv:out --export-every 1s");
    for day in ["2026-03-01", "2026-03-02"] {
        service.csv("/v1/online/events", table(&EVENTS, &[format!("{day} 00:00:00,7,7,7,true")])).ok();
        // Nobody asks for it, and the service does not end.
        until("the day in the file", || place.has("out/online_daily.csv") && place.read("out/online_daily.csv").contains(day));
    }
    service.end();
}
