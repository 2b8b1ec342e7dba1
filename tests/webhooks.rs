//! Webhooks of a service, against a receiver that fails in every way.

use crate::further::{batches, send, sink, through_kills, until};
use crate::support::known::{ACTIVE, EVENTS, ONLINE, SERVERS, rows as lines, table};
use crate::support::program::Place;
use crate::support::receiver::{Receiver, Request, Says};
use crate::support::service::{Asker, Service};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Adds up what was taken, each id once.
#[track_caller]
fn added_up(requests: &[Request]) -> BTreeMap<String, i64> {
    let (mut sums, mut last) = (BTreeMap::new(), 0);
    let mut seen: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for request in requests {
        let body = request.json();
        assert_eq!(request.id(), format!("online.{}:{}", body["table"].as_str().unwrap(), body["epoch"]));
        if let Some(before) = seen.insert(request.id().into(), request.body.clone()) {
            assert!(before == request.body, "{} is another one when it comes again", request.id());
            continue;
        }
        assert!(request.epoch() > last, "epoch {} comes behind {last}", request.epoch());
        last = request.epoch();
        for change in body["changes"].as_array().unwrap() {
            *sums.entry(change["row"].to_string()).or_insert(0) += change["diff"].as_i64().unwrap();
        }
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

/// The rows of a table.
fn rows(asker: &Asker, asked: &str) -> BTreeMap<String, i64> {
    let rows = asker.get(&format!("/v1/online/tables/{asked}")).ok().json();
    rows.as_array().unwrap().iter().map(|row| (row.to_string(), 1)).collect()
}

fn is_done(asker: &Asker) -> bool {
    let sink = sink(asker);
    sink["dataflows"]["online"]["behind"] == 0 && sink["error"].is_null()
}

#[test]
fn each_change_is_told_in_order_however_the_receiver_fails() {
    let place = Place::new();
    place.write("secret", format!("{SECRET}\n"));
    let mut receiver = Receiver::start();
    let out = format!("webhook:{}#online.online_daily", receiver.url("/hook/h1dd3n?token=h1dd3n"));
    let words = format!("-w 2 --out '{out}' --webhook-secret-file secret --network-timeout 1s");
    let service = Service::of(&place, &ONLINE, &words);
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let ok = || Says::Status(200);
    receiver.say([
        Says::Status(500),
        Says::Status(502),
        ok(),
        Says::Later(429, "2".into()),
        ok(),
        Says::Slow(Duration::from_secs(3)),
        ok(),
    ]);
    receiver.say([Says::Elsewhere(receiver.url("/elsewhere")), ok(), Says::Status(404), ok(), Says::Later(503, "2".into()), ok()]);
    let batches = batches(&ONLINE, 80);
    let (first, rest) = batches.split_at(batches.len() / 2);
    first.iter().for_each(|batch| drop(service.csv("/v1/online/events", batch).ok()));
    until("the end", || is_done(&service));
    let requests = receiver.requests();
    for request in &requests {
        request.is_signed(SECRET);
        assert_eq!((request.path.as_str(), request.headers["content-type"].as_bytes()), ("/hook/h1dd3n", b"application/json".as_slice()));
    }
    assert_eq!(requests.iter().filter(|request| request.status != 200).count(), 7);
    // What was not taken comes again, the same, and nothing before it; one that asks for time gets it.
    for (request, next) in requests.iter().zip(&requests[1..]) {
        if request.status != 200 {
            assert!(request.id() == next.id() && request.body == next.body, "{} {}", request.id(), next.id());
        }
        let pause_min = [(429, 2_000), (503, 2_000)].into_iter().find(|(status, _)| *status == request.status).map_or(0, |(_, min)| min);
        assert!(next.at - request.at >= Duration::from_millis(pause_min), "{} {:?}", request.status, next.at - request.at);
    }
    assert!(added_up(&receiver.taken()) == rows(&service, "online_daily"));
    // Nobody listens for a while: the service goes on, and says so.
    receiver.stop();
    rest.iter().for_each(|batch| drop(service.csv("/v1/online/events", batch).ok()));
    until("an error", || sink(&service)["error"].is_string());
    let shown = sink(&service);
    assert!(shown["dataflows"]["online"]["behind"].as_u64() > Some(0) && shown["failed"] == false, "{shown}");
    let place_shown = format!("webhook:http://127.0.0.1:{}/…#online.online_daily", receiver.port);
    assert_eq!(shown["place"], place_shown.as_str());
    assert!(shown["error"].as_str().unwrap().contains("could not send epoch "), "{shown}");
    let status = place.run(&format!("status --server {}", service.address)).succeeds().stdout;
    assert!(status.contains(&format!("sink {place_shown}: online behind by ")) && status.contains("could not send epoch "), "{status}");
    receiver.run();
    until("the end", || is_done(&service));
    let taken = receiver.taken();
    assert!(added_up(&taken) == rows(&service, "online_daily"));
    let ids: Vec<&str> = taken.iter().map(Request::id).collect();
    assert!(ids.iter().zip(&ids[1..]).all(|(id, next)| id != next), "none comes twice, where none was lost");
    let ended = service.end();
    for text in [shown.to_string(), ended.stderr, format!("{:?}", place.names("state/webhooks"))] {
        assert!(!text.contains("h1dd3n") && !text.contains(SECRET), "{text}");
    }
    // After a restart it goes on where it was, and nothing is told that was.
    let before = receiver.requests().len();
    let service = Service::of(&place, &ONLINE, &words);
    service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &["2023-01-20 00:00:00,1000,7,7,true".into()])).ok();
    let epoch: u64 = service.get("/v1/online/tables").ok().headers["retally-epoch"].to_str().unwrap().parse().unwrap();
    assert!(receiver.requests()[before..].iter().all(|request| request.epoch() == epoch));
    service.end();
}

#[test]
fn each_change_is_told_whenever_the_service_is_killed() {
    let place = Place::new();
    let receiver = Receiver::start();
    let words = format!("--out 'webhook:{}#online_daily'", receiver.url("/"));
    let service = through_kills(&place, &words, &batches(&ONLINE, 25), 6);
    until("the end", || is_done(&service));
    let requests = receiver.requests();
    assert!(requests.len() > 20, "{}", requests.len());
    assert!(added_up(&requests) == rows(&service, "online_daily"));
    assert!(requests.iter().all(|request| !request.headers.contains_key("retally-signature")), "without a secret there is no signature");
    service.end();
}

#[test]
fn a_receiver_that_never_takes_it_is_given_up_and_asked_again_at_the_next_start() {
    let place = Place::new();
    let receiver = Receiver::start();
    let words = format!("-w 1 --out 'webhook:{}#online_daily' --webhook-retry 1s", receiver.url("/"));
    let service = Service::of(&place, &ONLINE, &words);
    let batches = batches(&ONLINE, 200);
    send(&service, "first", &batches[0], "sinks");
    receiver.say_always(500);
    send(&service, "second", &batches[1], "visible");
    until("its end", || sink(&service)["failed"] == true);
    let asked = receiver.requests().len();
    assert!(sink(&service)["error"].as_str().unwrap().ends_with("it answers 500"), "{}", sink(&service));
    send(&service, "third", &batches[2], "visible");
    receiver.say_always(200);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(receiver.requests().len(), asked, "nothing is sent any more");
    let ended = service.end();
    assert!(ended.stderr.contains("is given up; at the next start it goes on where it is"), "{}", ended.stderr);
    let service = Service::of(&place, &ONLINE, &words);
    until("the end", || is_done(&service));
    assert!(added_up(&receiver.taken()) == rows(&service, "online_daily"));
    // One that is gone for good is not asked twice.
    receiver.say_always(410);
    let asked = receiver.requests().len();
    send(&service, "fourth", &batches[3], "visible");
    until("its end", || sink(&service)["failed"] == true);
    assert_eq!(receiver.requests().len(), asked + 1);
    let late = table(&EVENTS, &["2023-01-20 00:00:00,1000,7,7,true".into()]);
    let said = service.csv("/v1/online/events?wait=sinks", late).refused(500, "sink");
    assert!(said.contains("does not get it: it is given up"), "{said}");
    // It ends when it is asked to, whatever is not taken.
    let began = Instant::now();
    service.end();
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_webhook_is_told_what_it_asks_for_and_nothing_from_before_it() {
    let place = Place::new();
    let receiver = Receiver::start();
    let service = Service::start(&place, "online active -w 2 --set online.fleet-sizes=1,2");
    let event = |time: &str, device: u32, on: bool| format!("2026-03-{time},{device},7,1,{on}");
    service.csv("/v1/online/events", table(&EVENTS, &[event("02 08:00:00", 1, true), event("04 18:00:00", 1, false)])).ok();
    service.end();
    let out = format!("--out 'webhook:{}#online.online_daily?fleet_size=2&day=2026-03-03&day=2026-03-04'", receiver.url("/alerts"));
    let start = |set: &str| Service::start(&place, &format!("online active -w 1 --set online.fleet-sizes={set} {out}"));
    let service = start("1,2");
    let feed = |service: &Service, line: String| drop(service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &[line])).ok());
    feed(&service, event("03 09:00:00", 2, true));
    feed(&service, event("03 17:00:00", 2, false));
    // What does not follow from it is nothing to wait for.
    let active = lines(&ACTIVE.lines[..1]);
    service.post("/v1/active/events?wait=sinks", &[("content-type", "application/x-ndjson")], active).ok();
    let told = |request: &Request| {
        let body = request.json();
        let changes = body["changes"].as_array().unwrap().iter();
        let changes = changes.map(|change| format!("{} {} {}", change["row"]["day"], change["row"]["devices"], change["diff"]));
        (body["epoch"].as_u64().unwrap(), changes.collect::<Vec<_>>())
    };
    let requests = receiver.requests();
    assert_eq!(told(&requests[0]).0, 2, "nothing from before");
    let all: Vec<String> = requests.iter().flat_map(|request| told(request).1).collect();
    assert!(!all.is_empty() && all.iter().all(|change| change.contains("03-03") || change.contains("03-04")), "{all:?}");
    assert!(
        requests
            .iter()
            .flat_map(|request| request.json()["changes"].as_array().unwrap().clone())
            .all(|change| change["row"]["fleet_size"] == "2")
    );
    // An alert that was wrong is taken back.
    let taken_back = table(&EVENTS, &[event("03 09:00:00", 2, true), event("03 17:00:00", 2, false)]);
    let before = receiver.requests().len();
    service.csv("/v1/online/events?retract=true&wait=sinks", taken_back).ok();
    let back: Vec<String> = receiver.requests()[before..].iter().flat_map(|request| told(request).1).collect();
    assert!(back.iter().any(|change| change.ends_with(" -1")), "{back:?}");
    let sums = added_up(&receiver.requests());
    assert!(sums == rows(&service, "online_daily?fleet_size=2&day=2026-03-03&day=2026-03-04"), "{sums:?}");
    service.end();
    // Other settings: what it knows is of others.
    let before = receiver.requests().len();
    let service = start("1,2,3");
    until("a request", || receiver.requests().len() > before);
    let body = receiver.requests()[before].json();
    let expected = serde_json::json!({"dataflow": "online", "epoch": 4, "table": "online_daily", "reset": true});
    assert_eq!(body, expected);
    assert_eq!(service.get("/v1/status").ok().json()["sinks"][0]["dataflows"]["active"], Value::Null);
    service.end();
    let refused = |out: &str| place.run(&format!("serve online --state other --out '{out}'")).fails_as_wrong_usage();
    refused("webhook:http://h/s3cret").names(&["webhook:…", "does not say of which table"]);
    refused("webhook:ftp://h/x#online_daily").names(&["not http:// or https://"]);
    refused("webhook:http://u:s3cret@h/x#online_daily").names(&["a user or a password"]);
    refused("webhook:http://h/x#online_dayly").names(&["there is no table \"online_dayly\""]);
    refused("webhook:http://h/x#active.active_rolling").names(&["there is no table \"active.active_rolling\""]);
    refused("webhook:http://h/x#online_daily?dayy=1").names(&["has no column \"dayy\""]);
    refused("webhook:http://h/x#online_daily?day=today").names(&["is no value of day"]);
    place.write("short", "abc\n");
    place
        .run("serve online --state other --out webhook:http://h/#online_daily --webhook-secret-file short")
        .fails_as_wrong_usage()
        .names(&["less than 16 bytes"]);
}
