//! Refused records that are delivered once more by a service.

use crate::support::known::{EVENTS, table};
use crate::support::packed::gzip;
use crate::support::program::Place;
use crate::support::service::{Asker, Service};
use retally_core::time::Moment;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const CSV: (&str, &str) = ("content-type", "text/csv");
const JSON: (&str, &str) = ("content-type", "application/json");
const REPLAY: &str = "/v1/online/rejected/replay";

/// A device's event, as a device management has it: its columns are the time, the IMEI, the serial number and the rest.
struct Event {
    minute: u32,
    imei: Option<u32>,
    serial: u32,
}

impl Event {
    /// Every third has no IMEI.
    fn all(from: u32, until: u32) -> Vec<Event> {
        let event =
            |number: u32| Event { minute: number * 37, imei: (!number.is_multiple_of(3)).then_some(number % 7), serial: 100 + number % 5 };
        (from..until).map(event).collect()
    }

    fn time(&self) -> String {
        let minute = self.minute;
        format!("2026-03-{:02} {:02}:{:02}:00", 1 + minute / 1_440, minute / 60 % 24, minute % 60)
    }

    fn imei_text(&self) -> String {
        self.imei.map_or("n/a".into(), |imei| imei.to_string())
    }

    /// With a note, which is of two lines now and then.
    fn csv(&self) -> String {
        let note = if self.minute.is_multiple_of(2) { "\"two\nlines\"" } else { "one" };
        let connected = self.minute.is_multiple_of(3);
        format!("{},{note},{},{},1,1,{connected}", self.time(), self.imei_text(), self.serial)
    }

    fn json(&self) -> Value {
        let connected = self.minute.is_multiple_of(3);
        json!({"timestamp": self.time(), "imei": self.imei_text(), "serial": self.serial, "user_id": 1, "server_id": 1, "connected": connected})
    }

    /// As it should be read: by its IMEI, and by its serial number where it has none.
    fn known(&self) -> String {
        format!("{},{},1,1,{}", self.time(), self.imei.unwrap_or(self.serial), self.minute.is_multiple_of(3))
    }
}

fn csv(events: &[Event]) -> String {
    table(&["timestamp", "note", "imei", "serial", "user_id", "server_id", "connected"], &events.iter().map(Event::csv).collect::<Vec<_>>())
}

/// The tables of a service are those of one run over these records.
#[track_caller]
fn same(place: &Place, service: &Asker, records: &[String]) {
    place.write("known.csv", table(&EVENTS, records));
    place.run("run online events=known.csv --out known -w 1 --quiet").succeeds();
    let tables = service.get("/v1/online/tables").ok().json();
    for about in tables["tables"].as_array().unwrap() {
        let name = about["name"].as_str().unwrap();
        let found = service.get(&format!("/v1/online/tables/{name}?format=csv")).ok().text;
        assert!(found == place.read(&format!("known/{name}.csv")), "{name} differs:\n{found}");
    }
}

fn rejected(service: &Asker) -> Vec<Value> {
    service.get("/v1/online/rejected").ok().json().as_array().unwrap().clone()
}

/// Why what is no id was refused, without the value.
#[track_caller]
fn no_id(service: &Asker) -> String {
    let reason = rejected(service)[0]["reason"].as_str().unwrap().to_string();
    assert!(reason.starts_with("device_id \"n/a\" "), "{reason}");
    reason.replace("n/a", "…")
}

fn ids(service: &Asker) -> BTreeSet<String> {
    rejected(service).iter().map(|row| row["id"].as_str().unwrap().to_string()).collect()
}

#[track_caller]
fn replay(service: &Asker, which: Value) -> Value {
    service.post(REPLAY, &[JSON], which.to_string()).ok().json()
}

#[track_caller]
fn nothing_differs(place: &Place) {
    let verified = place.run("verify --state state -w 2").succeeds().stdout;
    assert!(verified.ends_with("nothing differs\n"), "{verified}");
}

#[test]
fn records_that_are_good_under_a_mended_mapping_leave() {
    let place = Place::new();
    let (first, packed, array) = (Event::all(0, 40), Event::all(40, 90), Event::all(90, 110));
    // Two that are taken back: one that came, and one that did not.
    let back = [Event::all(3, 4), Event::all(300, 301)];
    let by = |column: &str, workers: u32| Service::start(&place, &format!("online -w {workers} --map online.events.device_id={column}"));
    let service = by("imei", 2);
    service.post("/v1/online/events?name=first", &[CSV], csv(&first)).ok();
    service.post("/v1/online/events", &[CSV, ("content-encoding", "gzip")], gzip(&csv(&packed))).ok();
    let body = json!(array.iter().map(Event::json).collect::<Vec<_>>()).to_string();
    service.post("/v1/online/events", &[JSON], body).ok();
    for back in &back {
        service.post("/v1/online/events?retract=true", &[CSV], csv(back)).ok();
    }
    let is_bad = |event: &&Event| event.imei.is_none();
    let all = || first.iter().chain(&packed).chain(&array);
    let bad = all().filter(is_bad).count();
    let before: Vec<String> = all().filter(|event| !is_bad(event)).map(Event::known).collect();
    same(&place, &service, &before);
    let rows = rejected(&service);
    assert_eq!(rows.len(), bad + 2);
    let of_first = rows.iter().filter(|row| row["source"] == "first").map(|row| (&row["batch"], row["line"].as_u64().unwrap(), &row["id"]));
    assert!(of_first.clone().all(|(batch, line, id)| *batch == 1 && *id == format!("1.1.{line}").as_str()), "{rows:?}");
    // Of no use yet: they stay, each once, in the batch that refused them last.
    let reason = no_id(&service);
    let answer = replay(&service, json!({"reason": reason}));
    assert_eq!((&answer["accepted"], answer["rejected"].as_u64()), (&0.into(), Some(bad as u64 + 2)), "{answer}");
    let again = rejected(&service);
    assert!(again.len() == bad + 2 && again.iter().all(|row| row["batch"] == answer["epoch"]), "{again:?}");
    same(&place, &service, &before);
    service.kill();
    // The column is another one; what was read before stays as it was.
    let service = by("serial", 1);
    assert_eq!(ids(&service).len(), bad + 2, "also in an array of one line, each record has its id");
    let of_first = rejected(&service).into_iter().find(|row| row["source"] == "first").unwrap();
    let one = of_first["id"].as_str().unwrap();
    let key = [JSON, ("idempotency-key", "once")];
    let which = json!({"ids": [one]}).to_string();
    let answer = service.post(REPLAY, &key, &which).ok().json();
    let counts = ["accepted", "rejected", "replayed", "left"].map(|name| answer[name].as_u64().unwrap());
    assert_eq!((counts, &answer["duplicate"]), ([1, 0, 1, 0], &false.into()), "{answer}");
    let repeated = service.post(REPLAY, &key, &which).ok().json();
    assert_eq!((&repeated["epoch"], &repeated["duplicate"]), (&answer["epoch"], &true.into()));
    service.post(REPLAY, &[JSON], &which).refused(404, "unknown_record");
    assert_eq!(rejected(&service).len(), bad + 1);
    let said = place.run(&format!("rejected replay online --reason '{reason}' --server {}", service.address)).succeeds().stdout;
    assert!(said.starts_with(&format!("delivered {} refused records once more\nbatch ", bad + 1)), "{said}");
    assert_eq!(rejected(&service), Vec::<Value>::new());
    // Those that were taken back are not there.
    let taken_back = back[0][0].known();
    let known: Vec<String> = all().map(Event::known).filter(|record| *record != taken_back).collect();
    assert!(known.len() + 1 == all().count() && known.len() > before.len());
    same(&place, &service, &known);
    service.end();
    nothing_differs(&place);
    // However it is taken up.
    for round in 0..3 {
        let service = by("serial", 1 + round);
        same(&place, &service, &known);
        assert_eq!(rejected(&service), Vec::<Value>::new());
        // What was delivered before it was taken back is a record again; and the other way round.
        if round == 2 {
            service.post("/v1/online/events?retract=true", &[CSV], csv(&Event::all(6, 7))).ok();
            let gone = Event::all(6, 7)[0].known();
            same(&place, &service, &known.iter().filter(|record| **record != gone).cloned().collect::<Vec<_>>());
        }
        service.end();
        nothing_differs(&place);
        if round == 0 {
            place.run("compact --state state").succeeds();
            nothing_differs(&place);
            std::fs::remove_file(place.path("state/tables.sqlite")).unwrap();
        }
    }
}

#[test]
fn ids_stay_when_batches_are_folded() {
    let place = Place::new();
    let by = |column: &str| Service::start(&place, &format!("online -w 1 --map online.events.device_id={column}"));
    let service = by("imei");
    let body = csv(&Event::all(0, 10));
    // The same twice, and once taken back: what is refused of it is refused each time.
    for path in ["/v1/online/events", "/v1/online/events", "/v1/online/events?retract=true"] {
        service.post(path, &[CSV], &body).ok();
    }
    let before = ids(&service);
    service.end();
    place.run("compact --state state").succeeds();
    std::fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    let service = by("serial");
    assert_eq!(ids(&service), before);
    assert!(before.len() == 12 && before.contains("1.1.2") && before.contains("3.1.2"), "{before:?}");
    assert_eq!(replay(&service, json!({"ids": ["1.1.2", "2.1.2"]}))["accepted"], 2);
    service.end();
    place.run("compact --state state").succeeds();
    nothing_differs(&place);
    let service = by("serial");
    let reason = no_id(&service);
    assert_eq!(replay(&service, json!({"reason": reason}))["accepted"], 10);
    same(&place, &service, &Event::all(0, 10).iter().map(Event::known).collect::<Vec<_>>());
    service.end();
    nothing_differs(&place);
}

#[test]
fn an_event_that_was_ahead_of_the_clock_is_taken_when_its_time_has_come() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 2");
    let ahead = in_so_long(Duration::from_secs(24 * 3_600 + 4));
    let line = |time: &str| format!("{time},1,1,1,true");
    let far = "2199-01-01T00:00:00Z";
    service.csv("/v1/online/events", table(&EVENTS, &[line("2026-03-01 08:00:00"), line(&ahead), line(far)])).ok();
    assert_eq!(ids(&service), ["1.1.3", "1.1.4"].map(String::from).into());
    let reason = json!({"reason": "the event's time … is more than a day ahead of the clock"});
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = replay(&service, reason.clone());
        assert_eq!(answer["replayed"], rejected(&service).len() as u64 + answer["accepted"].as_u64().unwrap(), "{answer}");
        if answer["accepted"] == 1 {
            break;
        }
        assert!(Instant::now() < until, "it is refused for ever: {answer}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let left = rejected(&service);
    assert!(left.len() == 1 && left[0]["raw"].as_str().unwrap().starts_with(far), "{left:?}");
    let tables = service.get("/v1/online/tables/online_daily?format=csv").ok().text;
    service.kill();
    nothing_differs(&place);
    let service = Service::start(&place, "online -w 1");
    assert_eq!(service.get("/v1/online/tables/online_daily?format=csv").ok().text, tables);
    assert_eq!(rejected(&service), left);
    service.end();
}

/// The time in so long, as text.
fn in_so_long(ahead: Duration) -> String {
    let time = std::time::SystemTime::now() + ahead;
    let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    Moment(seconds * 1_000_000).to_string()
}

#[test]
fn what_can_not_be_replayed_is_named() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    service.csv("/v1/online/events", table(&EVENTS, &["x,1,1,1,true".into(), "2026-03-01,1,1,1,true".into()])).ok();
    let post = |body: &str| service.post(REPLAY, &[JSON], body);
    for body in ["", "{}", "[]", "{\"ids\":[]}", "{\"reason\":\"\"}", "{\"ids\":[\"1.1.2\"],\"reason\":\"x\"}", "{\"id\":1}"] {
        post(body).refused(400, "bad_body");
    }
    post(&format!("{{\"reason\":\"{}\"}}", "x".repeat(2 << 20))).refused(400, "bad_body");
    for id in ["1.1", "1.1.2.3.4", "1.1.2.0", "a.b.c", "0.1.2", ""] {
        post(&json!({"ids": [id]}).to_string()).refused(400, "bad_value");
    }
    post("{\"ids\":[\"1.1.2\",\"1.1.3\"]}").refused(404, "unknown_record");
    post("{\"reason\":\"x\"}").refused(404, "unknown_reason");
    service.post("/v1/onlin/rejected/replay", &[JSON], "{}").refused(404, "unknown_dataflow");
    let epoch = service.get("/v1/online/tables").ok().headers["retally-epoch"].clone();
    assert_eq!(epoch, "1", "nothing came of it");
    let server = service.address.clone();
    place.run(&format!("rejected replay online 7.1.1 --server {server}")).fails().names(&["no record 7.1.1 of online is refused"]);
    let said = place.run(&format!("rejected replay online --server {server}")).fails_in_the_parser();
    assert!(said.contains("--reason"), "{said}");
    service.end();
}

#[test]
fn lines_of_a_watched_file_go_with_it() {
    let place = Place::new();
    let events = Event::all(0, 30);
    let by = |column: &str| {
        Service::start(&place, &format!("online -w 2 --map online.events.device_id={column} --watch online.events=drop --settle 100ms"))
    };
    place.write("drop/a.csv", csv(&events[..20]));
    place.write("drop/b.csv", csv(&events[20..]));
    let counts = |service: &Service, records: u64, refused: usize| {
        let until = Instant::now() + Duration::from_secs(30);
        let now = || {
            let batches = service.get("/v1/online/batches").ok().json();
            let accepted = batches["batches"].as_array().unwrap().iter().map(|batch| batch["accepted"].as_u64().unwrap_or(0)).sum::<u64>();
            (accepted, rejected(service).len())
        };
        while now() != (records, refused) {
            assert!(Instant::now() < until, "there are {:?}", now());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let service = by("imei");
    let good = events.iter().filter(|event| event.imei.is_some()).count() as u64;
    counts(&service, good, 10);
    service.end();
    let service = by("serial");
    let reason = no_id(&service);
    replay(&service, json!({"reason": reason}));
    let known: Vec<String> = events.iter().map(Event::known).collect();
    same(&place, &service, &known);
    // The file goes while the service that delivered its lines watches, and another one after a restart.
    std::fs::remove_file(place.path("drop/a.csv")).unwrap();
    // What can't be read of a file that is taken back is refused once more, as it was when it came.
    counts(&service, good + 10 + 20, 14);
    same(&place, &service, &known[20..]);
    service.kill();
    nothing_differs(&place);
    let service = by("serial");
    // What is refused of a file that is gone is of no use.
    let id = ids(&service).into_iter().next().unwrap();
    service.post(REPLAY, &[JSON], json!({"ids": [id]}).to_string()).refused(422, "not_replayable");
    place.write("drop/b.csv", csv(&events[25..]));
    let until = Instant::now() + Duration::from_secs(30);
    let epoch =
        |service: &Service| service.get("/v1/online/tables").ok().headers["retally-epoch"].to_str().unwrap().parse::<u64>().unwrap();
    let before = epoch(&service);
    while epoch(&service) == before {
        assert!(Instant::now() < until, "nobody takes the file");
        std::thread::sleep(Duration::from_millis(20));
    }
    // By their serial numbers, all of them are read.
    let by_serial = |event: &Event| format!("{},{},1,1,{}", event.time(), event.serial, event.minute.is_multiple_of(3));
    same(&place, &service, &events[25..].iter().map(by_serial).collect::<Vec<_>>());
    service.end();
    nothing_differs(&place);
    place.run("compact --state state").succeeds();
    let service = by("serial");
    same(&place, &service, &events[25..].iter().map(by_serial).collect::<Vec<_>>());
    service.end();
}

/// Files with a header and without, each in a batch of its own, are taken up together.
#[test]
fn batches_with_a_header_and_without_are_folded_and_taken_up() {
    let place = Place::new();
    let lines: Vec<String> = (1..9).map(|day| format!("2026-03-{day:02} 08:00:00,{day},1,1,true")).collect();
    let service = Service::start(&place, "online -w 1");
    service.csv("/v1/online/events", table(&EVENTS, &lines[..4])).ok();
    service.csv("/v1/online/events", lines[4..].join("\n")).ok();
    let part = |name: &str, body: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"events\"; filename=\"{name}.csv\"\r\n\r\n{body}\r\n")
    };
    let body = part("a", &table(&EVENTS, &lines[..1])) + &part("b", &lines[1]) + "--b--\r\n";
    service.post("/v1/online/batches", &[("content-type", "multipart/form-data; boundary=b")], body).ok();
    same(&place, &service, &lines);
    service.kill();
    let service = Service::start(&place, "online -w 2");
    same(&place, &service, &lines);
    service.end();
    place.run("compact --state state").succeeds();
    nothing_differs(&place);
    let service = Service::start(&place, "online -w 1");
    same(&place, &service, &lines);
    service.end();
}
