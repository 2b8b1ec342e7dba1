//! The service: batches by HTTP, tables and changes out, through kills and restarts.

use crate::support::certificates::of_localhost;
use crate::support::known::{ACTIVE, EVENTS, Known, ONLINE, SERVERS, TEXT_IDS, USAGE, rows, shuffled, table};
use crate::support::packed::gzip;
use crate::support::program::Place;
use crate::support::service::{Asker, Service, free_port};
use crate::support::steps::{Clients, each_came_once};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CSV: (&str, &str) = ("content-type", "text/csv");
const JSONL: (&str, &str) = ("content-type", "application/x-ndjson");

/// Feeds all records of a dataflow, in batches of so many, from several threads: half of them twice, in no order.
fn feed(asker: &Asker, known: &Known, batch: usize) {
    let lines = shuffled(&known.lines);
    let path = format!("/v1/{}/events", known.dataflow());
    let is_csv = !known.servers.is_empty();
    let body = |lines: &[String]| if is_csv { table(&EVENTS, lines) } else { rows(lines) };
    let kind = if is_csv { CSV } else { JSONL };
    if is_csv {
        asker.csv(&format!("/v1/{}/servers", known.dataflow()), table(&SERVERS, &known.servers)).ok();
    }
    std::thread::scope(|scope| {
        for part in 0..3 {
            let (lines, path) = (&lines, &path);
            scope.spawn(move || {
                for (number, batch) in lines.chunks(batch).enumerate().filter(|(number, _)| number % 3 == part) {
                    asker.post(path, &[kind], body(batch)).ok();
                    if number % 2 == 0 {
                        // Packed, with other lines of its neighbour taken back and delivered again.
                        asker.post(path, &[kind, ("content-encoding", "gzip")], gzip(&body(batch))).ok();
                    }
                }
            });
        }
    });
}

#[test]
fn batches_of_several_clients_give_the_tables_of_one_run() {
    for (known, workers, batch) in [(&ONLINE, 2, 40), (&ACTIVE, 1, 300), (&USAGE, 3, 200), (&TEXT_IDS, 2, 200)] {
        let place = Place::new();
        let service = Service::of(&place, known, &format!("-w {workers}"));
        feed(&service, known, batch);
        service.same(known);
        let fed: u64 = service.get(&format!("/v1/{}/batches?limit=100000", known.dataflow())).ok().json()["batches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|batch| batch["accepted"].as_u64().unwrap() + batch["rejected"].as_u64().unwrap())
            .sum();
        assert!(fed >= (known.lines.len() + known.lines.len() / 3) as u64, "{fed} of {}", known.lines.len());
        service.end();
        // What it was given is there for a run, and for the next service.
        let ran = place.run(&format!("{} --state state --out out -w 1", known.run())).succeeds();
        assert!(ran.stderr.contains(" 0 inserted, 0 updated, 0 deleted"), "{}", ran.stderr);
        crate::support::known::same(&place, "out", known);
        let service = Service::of(&place, known, "-w 1");
        service.same(known);
        service.end();
    }
}

#[test]
fn a_batch_is_answered_with_what_it_did() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 2");
    let day = |day: u32, device: u32| format!("2026-03-{day:02} 08:00:00,{device},1,1,true");
    let answer = service.csv("/v1/online/events", table(&EVENTS, &[day(5, 1), day(6, 2), "rubbish".into()])).ok().json();
    assert_eq!((&answer["epoch"], &answer["accepted"], &answer["late"], &answer["rejected"]), (&1.into(), &2.into(), &0.into(), &1.into()));
    assert_eq!((&answer["duplicate"], answer["ms"].is_number()), (&false.into(), true));
    assert!(answer["changed"]["online_daily"].as_u64().unwrap() > 0, "{answer}");
    // Late, and under a key: the same once more changes nothing.
    let late = table(&EVENTS, &[day(3, 3)]);
    let keyed = [CSV, ("idempotency-key", "k-1")];
    let first = service.post("/v1/online/events", &keyed, &late).ok().json();
    assert_eq!((&first["epoch"], &first["late"]), (&2.into(), &1.into()), "{first}");
    let again = service.post("/v1/online/events", &keyed, &late).ok().json();
    assert_eq!(again["duplicate"], true);
    for name in ["epoch", "accepted", "late", "rejected", "changed"] {
        assert_eq!(first[name], again[name], "{name}");
    }
    service.post("/v1/online/events", &keyed, table(&EVENTS, &[day(4, 3)])).refused(422, "other_body");
    // A retraction under a key counts once, however often it comes; also after a restart.
    let retract = [CSV, ("idempotency-key", "k-2")];
    service.post("/v1/online/events?retract=true", &retract, &late).ok();
    let daily = service.get("/v1/online/tables/online_daily").ok();
    assert_eq!(daily.headers["retally-epoch"], "3");
    service.kill();
    let service = Service::start(&place, "online -w 1");
    let again = service.post("/v1/online/events?retract=true", &retract, &late).ok().json();
    assert_eq!((&again["duplicate"], &again["epoch"]), (&true.into(), &3.into()));
    assert_eq!(service.get("/v1/online/tables/online_daily").text, daily.text);
    let durable = service.csv("/v1/online/events?wait=durable", table(&EVENTS, &[day(7, 3)])).ok().json();
    assert_eq!((&durable["epoch"], &durable["durable"]), (&4.into(), &true.into()));
    // Refused records say where they came from.
    service.csv("/v1/online/events?name=gateway%207", "timestamp,device_id,user_id,server_id,connected\nx,1,1,1,true\n").ok();
    let rejected = service.get("/v1/online/rejected").ok().json();
    let sources: Vec<&str> = rejected.as_array().unwrap().iter().map(|row| row["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["-", "gateway 7"]);
    for from in [format!("--server {}", service.address), "--state state".into()] {
        let list = |words: &str| place.run(&format!("rejected list online {words} {from}")).succeeds().stdout;
        assert!(list("").starts_with("online.rejected: 2 rows\n"), "{}", list(""));
        let only = list("'source=gateway 7' --format csv");
        assert!(only.lines().count() == 2 && only.contains(",gateway 7,2,"), "{only}");
    }
    // Of many, each reason is told once, with the first of them; values don't make another one.
    let times: String = (0..10_500).map(|number| format!("x{number},1,1,1,true\n")).collect();
    let all = format!("timestamp,device_id,user_id,server_id,connected\n{times}2026-03-05 08:00:00,1,1,1,perhaps\n");
    service.csv("/v1/online/events?name=many", all).ok();
    let reasons = service.get("/v1/online/rejected/reasons").ok().json();
    assert_eq!(reasons["records"], 10_503);
    let told: Vec<(&str, u64)> = reasons["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| (reason["reason"].as_str().unwrap(), reason["records"].as_u64().unwrap()))
        .collect();
    assert!(told.len() == 3 && told[0].0.starts_with("timestamp \"…\"") && told[0].1 == 10_501, "{told:?}");
    assert!(told[1].0.contains("perhaps") && told[1].1 == 1, "where all are the same, it is told as it is: {told:?}");
    let samples = reasons["reasons"][0]["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    assert_eq!(
        (&reasons["reasons"][1]["samples"][0]["source"], &reasons["reasons"][1]["samples"][0]["line"]),
        (&"many".into(), &10_502.into())
    );
    service.get("/v1/nothing/rejected/reasons").refused(404, "unknown_dataflow");
    service.end();
}

#[test]
fn a_batch_of_parts_is_one_epoch() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    let (first, second) = ONLINE.lines.split_at(ONLINE.lines.len() / 2);
    let part = |name: &str, file: &str, body: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\n{body}\r\n")
    };
    let kind = ("content-type", "multipart/form-data; boundary=b");
    let wrong = table(&EVENTS, &["2026-03-01 00:00:00,77,77,77,true".into()]);
    let body = part("events", "a.csv", &table(&EVENTS, first)) + &part("servers", "s.csv", &table(&SERVERS, &ONLINE.servers));
    let body = body + &part("events", "wrong.csv", &wrong);
    let answer = service.post("/v1/online/batches", &[kind], body.clone() + "--b--\r\n").ok().json();
    assert_eq!(answer["epoch"], 1);
    // Without its end, it is none; nor with a part that can't be.
    service.post("/v1/online/batches", &[kind], &body).refused(400, "bad_body");
    service
        .post("/v1/online/batches", &[kind], body.replace("name=\"servers\"", "name=\"server\"") + "--b--\r\n")
        .refused(404, "unknown_input");
    let body = part("events", "b.csv", &table(&EVENTS, second)) + &part("events-", "wrong.csv", &wrong) + "--b--\r\n";
    assert_eq!(service.post("/v1/online/batches", &[kind], body).ok().json()["epoch"], 2);
    service.same(&ONLINE);
    service.end();
}

/// Bodies of several clients: columns that one has named are not guessed for another; nor is what stands behind a second header.
#[test]
fn columns_of_bodies_are_never_guessed() {
    let place = Place::new();
    let service = Service::start(&place, "online");
    let events = "/v1/online/events";
    let line = |user: u32, device: u32| format!("2026-03-01 00:00:00,{user},{device},1,true\n");
    let named = table(&EVENTS, &[]);
    let swapped = "timestamp,user_id,device_id,server_id,connected\n";
    let answer = service.csv(events, format!("{named}{}{swapped}{}", line(1, 7), line(7, 2))).ok().json();
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(1), Some(2)), "{answer}");
    service.csv(events, line(3, 7)).ok();
    service.csv(events, format!("{swapped}{}", line(7, 4))).ok();
    let says = |service: &Service| service.csv(events, line(5, 7)).refused(400, "bad_body");
    assert!(says(&service).contains("it has no header, and"), "{}", says(&service));
    service.end().succeeds();
    let service = Service::start(&place, "online");
    says(&service);
    service.csv(events, format!("{named}{}", line(5, 7))).ok();
}

#[test]
fn what_is_wrong_is_refused_by_name_and_harms_nothing() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2 --max-body 1MiB --max-unpacked 2MiB");
    feed(&service, &ONLINE, 500);
    let epoch = || service.get("/v1/online/tables").ok().headers["retally-epoch"].clone();
    let before = epoch();
    let one = table(&EVENTS, &["2026-03-01 00:00:00,77,77,77,true".into()]);
    let packed = gzip(&one);
    let bomb = gzip(&"2026-03-01 00:00:00,77,77,77,true\n".repeat(200_000));
    let long = "x".repeat(300);
    let events = "/v1/online/events";
    let cases: Vec<(&str, Vec<(&str, &str)>, Vec<u8>, u16, &str)> = vec![
        ("/v1/onlin/events", vec![CSV], one.clone().into(), 404, "unknown_dataflow"),
        ("/v1/online/event", vec![CSV], one.clone().into(), 404, "unknown_input"),
        (events, vec![], one.clone().into(), 415, "media_type"),
        (events, vec![("content-type", "text/plain")], one.clone().into(), 415, "media_type"),
        (events, vec![CSV, ("content-encoding", "br")], one.clone().into(), 415, "media_type"),
        (events, vec![CSV], vec![], 400, "empty"),
        (events, vec![CSV], "a,b,c\n1,2,3\n".into(), 400, "bad_body"),
        (events, vec![CSV], vec![b'x'; (1 << 20) + 1], 413, "too_large"),
        (events, vec![CSV, ("content-encoding", "gzip")], one.clone().into(), 400, "bad_body"),
        (events, vec![CSV, ("content-encoding", "gzip")], packed[..packed.len() - 5].into(), 400, "bad_body"),
        (events, vec![CSV, ("content-encoding", "zstd")], packed.clone(), 400, "bad_body"),
        (events, vec![CSV, ("content-encoding", "gzip")], bomb, 400, "bad_body"),
        (events, vec![("content-type", "application/vnd.apache.parquet")], one.clone().into(), 400, "bad_body"),
        (events, vec![CSV, ("idempotency-key", "")], one.clone().into(), 400, "bad_key"),
        (events, vec![CSV, ("idempotency-key", &long)], one.clone().into(), 400, "bad_key"),
        ("/v1/online/events?wait=soon", vec![CSV], one.clone().into(), 400, "bad_value"),
        ("/v1/online/batches", vec![CSV], one.clone().into(), 400, "bad_body"),
        ("/v1/nothing/at/all", vec![CSV], one.clone().into(), 404, "no_route"),
        ("/v1/status", vec![CSV], one.clone().into(), 405, "method"),
    ];
    for (path, headers, body, status, code) in &cases {
        let answer = service.try_post(path, headers, body).unwrap_or_else(|| panic!("{path} {headers:?} is not answered"));
        answer.refused(*status, code);
    }
    assert_eq!(service.post("/v1/online/events?retrct=true", &[CSV], &one).status, 400);
    for (path, status, code) in [
        ("/v1/online/tables/online_dayly", 404, "unknown_table"),
        ("/v1/online/tables/online_daily?dayy=2026-03-01", 400, "unknown_column"),
        ("/v1/online/tables/online_daily?day=today", 400, "bad_value"),
        ("/v1/online/tables/online_daily?fleet_size=7", 400, "bad_value"),
        ("/v1/online/tables/online_daily?limit=-1", 400, "bad_value"),
        ("/v1/online/tables/online_daily?format=xml", 400, "bad_value"),
        ("/v1/online/tables/online_daily?order=dai", 400, "unknown_column"),
        ("/v1/changes?tables=online", 400, "bad_value"),
        ("/v1/changes?tables=online.x", 404, "unknown_table"),
        ("/v1/changes?tables=online.online_daily&since=x", 400, "bad_position"),
        ("/v1/changes?tables=online.online_daily&since=999999", 400, "bad_position"),
        ("/v1/changes?tables=online.online_daily&since=active:1", 400, "bad_position"),
        ("/v2", 404, "no_route"),
    ] {
        service.get(path).refused(status, code);
    }
    // A body that stops in the middle, a request that is none, and headers without end.
    let address = service.address.strip_prefix("http://").unwrap().to_string();
    for request in [
        "POST /v1/online/events HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\ncontent-length: 500\r\n\r\n2026-03-01".to_string(),
        "POST /v1/online/events HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_string(),
        "rubbish\r\n\r\n".to_string(),
        format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        // It may have hung up before all was sent.
        stream.write_all(request.as_bytes()).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(epoch(), before);
    service.same(&ONLINE);
    service.end();
}

#[test]
fn rows_are_chosen_ordered_and_paged() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    feed(&service, &ONLINE, 2_000);
    let all: Vec<Value> = service.get("/v1/online/tables/online_daily").ok().json().as_array().unwrap().clone();
    let get = |asked: &str| service.get(&format!("/v1/online/tables/online_daily?{asked}")).ok().json().as_array().unwrap().clone();
    let only = |is_so: &dyn Fn(&Value) -> bool| all.iter().filter(|row| is_so(row)).cloned().collect::<Vec<_>>();
    let day = |row: &Value| row["day"].as_str().unwrap().to_string();
    let (first, last) = (day(&all[0]), day(all.last().unwrap()));
    let middle = day(&all[all.len() / 2]);
    assert_eq!(get("fleet_size=2-3"), only(&|row| row["fleet_size"] == "2-3"));
    assert_eq!(get("fleet_size=2-3&fleet_size=1"), only(&|row| row["fleet_size"] == "2-3" || row["fleet_size"] == "1"));
    assert_eq!(get(&format!("day={middle}&fleet_size=1")), only(&|row| day(row) == middle && row["fleet_size"] == "1"));
    assert_eq!(get(&format!("from={middle}")), only(&|row| day(row) >= middle));
    assert_eq!(get(&format!("from={first}&to={middle}")), only(&|row| day(row) < middle));
    assert_eq!(get(&format!("to={last}&limit=3&offset=2")), all[2..5]);
    let mut by_devices = all.clone();
    by_devices.sort_by_key(|row| std::cmp::Reverse(row["devices"].as_u64().unwrap()));
    assert_eq!(get("order=-devices"), by_devices);
    // As Parquet, which the program reads itself.
    let mut file = Vec::new();
    let mut response = ureq::get(format!("{}/v1/online/tables/online_daily?format=parquet&to={middle}", service.address)).call().unwrap();
    response.body_mut().as_reader().read_to_end(&mut file).unwrap();
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.parquet");
    let reader = parquet::file::reader::SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
    let rows = parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows();
    assert_eq!(rows as usize, only(&|row| day(row) < middle).len());
    // What is the same since need not be sent again.
    let path = "/v1/online/tables/online_daily";
    let tag = service.get(path).headers["etag"].to_str().unwrap().to_string();
    assert_eq!(service.try_get(path, &[("if-none-match", &tag)]).unwrap().status, 304);
    // The same by the command line, from the service and from its state.
    let server = service.address.clone();
    let expected = service.get(&format!("{path}?format=csv&from={middle}&fleet_size=1")).text;
    for from in [format!("--server {server}"), "--state state".into()] {
        let words = format!("query online.online_daily fleet_size=1 --from {middle} {from}");
        assert_eq!(place.run(&format!("{words} --format csv")).succeeds().stdout, expected);
        assert!(place.run(&words).succeeds().stdout.starts_with("online.online_daily: "));
        place.run(&format!("query online.online_daily fleet_siz=1 {from}")).code.filter(|code| *code != 0).unwrap();
    }
    service.end();
}

#[test]
fn rows_of_many_values_are_chosen() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    service.csv("/v1/online/events", "2024-03-01 08:00:00,1500,7,1,true\n2024-03-01 08:00:00,9000,7,1,true\n").ok();
    let asked = |count: u32| (1..=count).map(|number| format!("device_id={number}")).collect::<Vec<_>>().join("&");
    let rows = service.get(&format!("/v1/online/tables/online_intervals?{}", asked(2_000))).ok().json();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["device_id"]), (1, &1500.into()));
    service.end();
}

/// Whatever came before: what is refused leaves nothing, and takes nothing with it that others need.
#[test]
fn refused_bodies_leave_no_file() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    let large =
        |first: &str| (0..20_000).fold(first.to_string(), |text, number| text + &format!("2024-03-01 08:00:00,{number},7,1,true\n"));
    let blobs = || place.names("state/blobs").len();
    let good = large("");
    service.csv("/v1/online/events", &good).ok();
    assert_eq!(blobs(), 1);
    for number in 0..3 {
        service.csv("/v1/online/events", large(&format!("timestamp,device_id,other{number}\n"))).refused(400, "bad_body");
        let cut = &gzip(&large(&number.to_string()))[..50_000];
        service.post("/v1/online/events", &[("content-type", "text/csv"), ("content-encoding", "gzip")], cut).refused(400, "bad_body");
    }
    assert_eq!(blobs(), 1);
    // The same once more, beside a part that is refused.
    let boundary = "x";
    let part = |name: &str, text: &str| {
        format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"a.csv\"\r\n\r\n{text}\r\n")
    };
    let body = part("events", &good) + &part("events", &large("timestamp,device_id,other\n")) + &format!("--{boundary}--\r\n");
    service.post("/v1/online/batches", &[("content-type", "multipart/form-data; boundary=x")], body).refused(400, "bad_body");
    assert_eq!(blobs(), 1);
    service.end();
    place.run("verify --state state").succeeds();
}

#[test]
fn each_route_of_the_description_is_there() {
    let place = Place::new();
    let service = Service::start(&place, "active sensors -w 1");
    let document = service.get("/openapi.json").ok().json();
    for (path, calls) in document["paths"].as_object().unwrap() {
        let dataflow = if path.contains("{measurement}") { "sensors" } else { "active" };
        let filled = path
            .replace("{dataflow}", dataflow)
            .replace("{measurement}", "measurements")
            .replace("{table}", "active_rolling")
            .replace("{input}", "events")
            .replace("{chart}", "active_users.svg");
        for method in calls.as_object().unwrap().keys() {
            if filled == "/v1/changes" {
                continue;
            }
            let answer = if method == "post" { service.post(&filled, &[], "") } else { service.get(&filled) };
            assert!(!matches!(answer.status, 404 | 405 | 500), "{method} {path}: {} {}", answer.status, answer.text);
        }
    }
    let metrics = service.get("/metrics").ok();
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let metrics = metrics.text;
    // Lines of a name have no order among themselves.
    for line in ["# TYPE retally_epoch gauge", "retally_epoch{dataflow=\"active\"} 0", "retally_epoch{dataflow=\"sensors\"} 0"] {
        assert!(metrics.lines().any(|other| other == line), "{line}: {metrics}");
    }
    // As Prometheus asks.
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let open = service.try_get("/metrics", &[("accept", accept)]).unwrap().ok();
    assert!(open.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.text.ends_with("# EOF\n") && !metrics.contains("EOF"), "{metrics}");
    let memory = metrics.lines().find_map(|line| line.strip_prefix("retally_memory_bytes ")).and_then(|bytes| bytes.parse::<u64>().ok());
    assert!(memory > Some(1 << 20) && service.get("/v1/status").ok().json()["memory_bytes"].as_u64() > Some(1 << 20), "{memory:?}");
    service.end();
}

#[test]
fn only_those_come_in_who_may() {
    let place = Place::new();
    place.write("tokens", "grafana read 0123456789abcdef\ngateway write fedcba9876543210\n");
    place
        .run("serve online --state state --listen 0.0.0.0:0")
        .fails_as_wrong_usage()
        .names(&["would listen on", "without knowing who may ask"]);
    let service = Service::begin(&place, "online --tokens tokens --listen 0.0.0.0:0");
    let asker = Asker::new(service.address.replace("0.0.0.0", "127.0.0.1"));
    asker.until_ready();
    let (reads, writes) = (("authorization", "Bearer 0123456789abcdef"), ("authorization", "Bearer fedcba9876543210"));
    let one = table(&EVENTS, &["2026-03-01 00:00:00,77,77,77,true".into()]);
    asker.get("/v1/status").refused(401, "token");
    asker.csv("/v1/online/events", &one).refused(401, "token");
    let unknown = asker.try_get("/v1/status", &[("authorization", "Bearer 0123456789abcdeg")]).unwrap().refused(401, "token");
    assert_eq!(unknown, "the token is not one of this service");
    asker.try_get("/v1/status", &[reads]).unwrap().ok();
    asker.post("/v1/online/events", &[CSV, reads], &one).refused(403, "read_only");
    asker.post("/v1/online/events", &[CSV, writes], &one).ok();
    place.write("secret", "fedcba9876543210\n");
    place.write("late.csv", &one);
    let server = asker.address.clone();
    place.write("unknown", "fedcba9876543211\n");
    place.write("reads", "0123456789abcdef\n");
    for (words, why) in [
        ("", "a token is needed"),
        (" --token-file unknown", "the token is not one of this service"),
        (" --token-file reads", "this token may only read"),
    ] {
        let failure = place.run(&format!("feed online events=late.csv --server {server}{words}")).fails().names(&[why]);
        assert!(failure.hint.is_some_and(|hint| hint.contains("--token-file FILE")), "{why}");
    }
    place.run(&format!("feed online events=late.csv --server {server} --token-file secret")).succeeds();
    service.end();
}

/// Adds up changes by table and row.
fn add_up(lines: &[String], sums: &mut BTreeMap<(String, String), i64>) {
    for line in lines {
        let change: Value = serde_json::from_str(line).unwrap();
        assert!(change.get("reset").is_none(), "{line}");
        let key = (change["table"].as_str().unwrap().to_string(), change["row"].to_string());
        let sum = sums.entry(key.clone()).or_insert(0);
        *sum += change["diff"].as_i64().unwrap();
        if *sum == 0 {
            sums.remove(&key);
        }
    }
}

/// What was added up is what the tables are.
#[track_caller]
fn adds_up(asker: &Asker, dataflow: &str, tables: &[&str], sums: &BTreeMap<(String, String), i64>) {
    let mut expected = BTreeMap::new();
    for table in tables {
        for row in asker.get(&format!("/v1/{dataflow}/tables/{table}")).ok().json().as_array().unwrap() {
            *expected.entry((table.to_string(), row.to_string())).or_insert(0) += 1;
        }
    }
    assert!(*sums == expected, "{} rows by changes, {} in the tables", sums.len(), expected.len());
}

const FOLLOWED: [&str; 3] = ["online_daily", "online_intervals", "online_summary"];

#[test]
fn changes_add_up_to_the_tables_from_any_position() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    let tables = FOLLOWED.map(|table| format!("online.{table}")).join(" ");
    let server = service.address.clone();
    let follow = |words: &str| place.start(&format!("follow {tables} --server {server} {words}"));
    let followers = [follow("--since 0"), follow("--since online:0")];
    feed(&service, &ONLINE, 200);
    // From the beginning, when all is over; the last epochs come from memory, the first from the database.
    let late = follow("--since 0");
    let last = service.csv("/v1/online/events", table(&EVENTS, &["2023-02-01 00:00:00,1000,7,7,true".into()])).ok().json()["epoch"].clone();
    for follower in followers.into_iter().chain([late]) {
        let mut sums = BTreeMap::new();
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.contains(&format!("\"epoch\":{last},"))) {
            lines.push(follower.line());
        }
        std::thread::sleep(Duration::from_millis(200));
        lines.extend(follower.lines());
        add_up(&lines, &mut sums);
        adds_up(&service, "online", &FOLLOWED, &sums);
    }
    let raw = |path: &str, id: &str| {
        let mut stream = TcpStream::connect(service.address.strip_prefix("http://").unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n{id}\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let (mut text, mut block) = (String::new(), [0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut block) {
            text += &String::from_utf8_lossy(&block[..length]);
        }
        text
    };
    // A stream that was cut goes on behind its last id.
    let text = raw("/v1/changes?tables=online.online_daily", "last-event-id: online:1\r\n");
    assert!(text.contains("content-type: text/event-stream") && text.contains("event: progress\nid: online:1\n"), "{text}");
    assert!(text.contains("\"epoch\":2,") && !text.contains("\"epoch\":1,") && text.contains(&format!("id: online:{last}\n")), "{text}");
    service.end();
}

/// So often a service is killed, where nothing else is asked for.
const KILLS: u64 = 10;

#[test]
fn whenever_it_is_killed_each_batch_counts_once() {
    let kills = std::env::var("KILL_RUNS").ok().map_or(KILLS, |count| count.parse().unwrap());
    let place = Place::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let start = |seed: u64| Service::of(&place, &ONLINE, &format!("-w {} --listen {listen}", seed % 3 + 1));
    let mut service = start(0);
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let asker = service.asker.clone();
    let tables = FOLLOWED.map(|table| format!("online.{table}")).join(" ");
    let follower = place.start(&format!("follow {tables} --server {} --since 0", asker.address));
    while asker.get("/v1/status").ok().json()["streams"] != 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let clients = Clients::start(&asker, &ONLINE, 3, Duration::from_millis(3));
    for seed in 1..=kills {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        std::thread::sleep(Duration::from_millis(random.random_range(1..120)));
        service.kill();
        service = start(seed);
    }
    let sent = clients.finish();
    service.same(&ONLINE);
    // The last batch changes something that is followed.
    let last = service.csv("/v1/online/events", table(&EVENTS, &["2023-02-01 00:00:00,1000,7,7,true".into()])).ok().json();
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.contains(&format!("\"epoch\":{},", last["epoch"]))) {
        lines.push(follower.line());
    }
    std::thread::sleep(Duration::from_millis(200));
    lines.extend(follower.lines());
    let mut sums = BTreeMap::new();
    add_up(&lines, &mut sums);
    adds_up(&service, "online", &FOLLOWED, &sums);
    each_came_once(&service, "online", sent);
    service.end();
}

#[test]
fn tables_that_are_lost_or_changed_are_made_anew() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    feed(&service, &ONLINE, 1_000);
    service.end();
    for name in place.names("state").into_iter().filter(|name| name.starts_with("tables.sqlite")) {
        fs::remove_file(place.path(&format!("state/{name}"))).unwrap();
    }
    let service = Service::of(&place, &ONLINE, "-w 1");
    service.same(&ONLINE);
    let batches = service.get("/v1/online/batches").ok().json();
    assert!(batches["batches"].as_array().unwrap().iter().all(|batch| batch["accepted"].is_number()), "{batches}");
    service.end();
    // Somebody deletes a row, and somebody has other settings for a while.
    let database = rusqlite::Connection::open(place.path("state/tables.sqlite")).unwrap();
    database.execute("UPDATE retally_tables SET checksum = checksum + 1 WHERE \"table\" = 'online_daily'", []).unwrap();
    database.execute("DELETE FROM online_daily WHERE day = (SELECT min(day) FROM online_daily)", []).unwrap();
    drop(database);
    let service = Service::of(&place, &ONLINE, "-w 1");
    service.same(&ONLINE);
    let ended = service.end();
    assert!(ended.stderr.contains("they are rebuilt"), "{}", ended.stderr);
    let service = Service::start(&place, "online -w 1 --set online.fleet-sizes=1-9");
    assert!(service.get("/v1/online/tables/online_daily?fleet_size=1-9").ok().json().as_array().unwrap().len() > 10);
    service.end();
    let service = Service::of(&place, &ONLINE, "-w 3");
    service.same(&ONLINE);
    service.end();
}

#[test]
fn one_service_at_a_time_has_a_state() {
    let place = Place::new();
    let service = Service::start(&place, "online");
    place.run("serve online --state state --listen 127.0.0.1:0").fails().names(&["could not open the state", " has it open"]);
    place.run("run online --state state").fails().names(&["could not open the state", " has it open"]);
    let port = service.address.rsplit(':').next().unwrap().to_string();
    place.run(&format!("serve online --state other --listen 127.0.0.1:{port}")).fails().names(&["could not listen on"]);
    place.run("serve online --state other --set online.timezon=UTC").fails_as_wrong_usage().names(&["--set online.timezon=UTC"]);
    place.run("serve online --state other --set active.timezone=UTC").fails_as_wrong_usage().names(&["of no dataflow that is served"]);
    place.run("serve online").fails_as_wrong_usage().names(&["needs a folder"]);
    service.end();
}

#[test]
fn feed_and_status_show_what_a_batch_did() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 3);
    place.run("feed online events=part0/events.csv --server http://127.0.0.1:1 --quiet").code.filter(|code| *code == 1).unwrap();
    let service = Service::of(&place, &ONLINE, "-w 2");
    let server = service.address.clone();
    for part in &parts {
        let fed = place.run(&format!("feed online {part} --server {server}")).succeeds().stdout;
        assert!(fed.starts_with("batch ") && fed.contains("  online_daily: "), "{fed}");
    }
    service.same(&ONLINE);
    place.run(&format!("feed online {} --server {server} --wait durable", parts[0].replace('=', "-="))).succeeds();
    place.run(&format!("feed online {} --server {server} --quiet", parts[0])).succeeds();
    service.same(&ONLINE);
    let status = place.run(&format!("status --server {server}")).succeeds().stdout;
    assert!(status.starts_with("ready, for ") && status.contains("\nonline: epoch 5, "), "{status}");
    assert!(status.contains("last batches of online: 5 rows"), "{status}");
    place.run(&format!("feed online events=nothing.csv --server {server}")).fails().names(&["nothing.csv"]);
    place.run(&format!("feed active events=part0/events.csv --server {server}")).fails().names(&["\"active\" is not served"]);
    service.end();
}

/// Large bodies, of which the service wants nothing, or only the beginning: their sender is told why.
#[test]
fn large_bodies_that_are_refused_are_refused_in_words() {
    let place = Place::new();
    // Some 25 MB, when it is packed.
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut event = || format!("2026-03-05 08:00:00,{},{},1,true", random.random::<u64>(), random.random::<u64>());
    place.write("events.csv", table(&EVENTS, &(0..1_500_000).map(|_| event()).collect::<Vec<_>>()));
    let service = Service::start(&place, "online -w 1 --max-body 1MiB");
    let began = Instant::now();
    for (dataflow, why) in [("active", "\"active\" is not served"), ("online", "a body has at most 1048576 bytes")] {
        place.run(&format!("feed {dataflow} events=events.csv --server {}", service.address)).fails().names(&[why]);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "it was sent again");
    service.end();
}

#[test]
fn points_of_a_service_are_in_its_store() {
    let place = Place::new();
    place.run("generate sensors --out in --sensors 5 --days 3 --seed 3").succeeds();
    let service = Service::start(&place, "sensors -w 2");
    let server = service.address.clone();
    place.run(&format!("feed sensors data=in/data.csv mapping=in/mapping.csv --server {server}")).succeeds();
    let daily = service.get("/v1/sensors/tables/sensor_segments?format=csv").ok().text;
    service.end();
    place.run("run sensors data=in/data.csv mapping=in/mapping.csv --out out --points store:points -w 1").succeeds();
    assert_eq!(daily, place.read("out/sensor_segments.csv"));
    let points = |store: &str| place.run(&format!("query sensors.measurements --points store:{store} --format csv")).succeeds().stdout;
    assert!(points("points").lines().count() > 100);
    assert_eq!(points("state/points"), points("points"));
}

#[test]
fn why_tells_how_a_row_became_what_it_is() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 2 --set online.fleet-sizes=1,2");
    let server = service.address.clone();
    let event = |time: &str, device: u32, on: bool| format!("2026-03-{time},{device},7,1,{on}");
    let first =
        [event("02 08:00:00", 1, true), event("04 18:00:00", 1, false), event("03 09:00:00", 2, true), event("03 17:00:00", 2, false)];
    service.csv("/v1/online/events?name=first", table(&EVENTS, &first)).ok();
    service.csv("/v1/online/events?name=late", table(&EVENTS, &[event("02 20:00:00", 1, false)])).ok();
    let path = "/v1/online/tables/online_daily/why?day=2026-03-03&fleet_size=2";
    let changes = service.get(path).ok().json()["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 2, "{changes}");
    assert_eq!((&changes[0]["epoch"], &changes[0]["batch"]["name"], &changes[0]["late"]), (&2.into(), &"late".into(), &true.into()));
    assert_eq!((&changes[0]["old"]["devices"], &changes[0]["new"]), (&2.into(), &Value::Null));
    assert_eq!((&changes[1]["old"], &changes[1]["new"]["devices"]), (&Value::Null, &2.into()));
    assert_eq!(service.get("/v1/online/tables/online_daily/why?day=2026-04-03&fleet_size=2").ok().json()["changes"], serde_json::json!([]));
    service.get("/v1/online/tables/online_daily/why?day=2026-03-03").refused(400, "not_a_key");
    service.get("/v1/online/tables/online_daily/why?day=x&fleet_size=2").refused(400, "bad_value");
    for from in [format!("--server {server}"), "--state state".into()] {
        let said = place.run(&format!("why online.online_daily day=2026-03-03 fleet_size=2 {from}")).succeeds().stdout;
        assert!(said.starts_with("online.online_daily day=2026-03-03 fleet_size=2: 2 changes\nbatch 2 (late), 2"), "{said}");
        assert!(said.contains(", with late records\n  it went: devices=2\n") && said.contains("\n  it came: devices=2\n"), "{said}");
        place.run(&format!("why online.online_daily day=2026-03-03 {from}")).code.filter(|code| *code != 0).unwrap();
    }
    // Of a key with an id, so many records of each batch were.
    let of_device = [
        "device_id=1",
        "user_id=7",
        "server_id=1",
        "online_from=2026-03-02T08:00:00Z",
        "online_until=2026-03-04T18:00:00Z",
        "end_reason=offline",
    ];
    let records = |service: &Asker| {
        let answer = service.get(&format!("/v1/online/tables/online_intervals/why?{}", of_device.join("&"))).ok().json();
        answer["changes"].as_array().unwrap().iter().map(|change| change["records"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(records(&service), [1, 2]);
    assert_eq!(changes[0].get("records"), Some(&Value::Null), "no record is of a fleet size");
    for from in [format!("--server {server}"), "--state state".into()] {
        let said = place.run(&format!("why online.online_intervals {} {from}", of_device.join(" "))).succeeds().stdout;
        assert!(
            said.contains("with late records, 1 of its records with this key\n  it went") && said.contains("Z, 2 of its records"),
            "{said}"
        );
    }
    service.end();
    // What is folded is told as far as it is known.
    place.run("compact --state state").succeeds();
    let service = Service::start(&place, "online -w 1 --set online.fleet-sizes=1,2");
    assert_eq!(records(&service), [Value::Null, Value::Null]);
    service.end();
}

#[test]
fn charts_are_drawn_of_what_is_there() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    feed(&service, &ONLINE, 2_000);
    service.get("/v1/online/charts/online_dayly.svg").refused(404, "unknown_chart");
    let drawn = service.get("/v1/online/charts/online_daily.svg").ok();
    assert_eq!(drawn.headers["content-type"], "image/svg+xml");
    ONLINE.write_csv(&place, "in");
    place.run(&format!("{} events=in/events.csv servers=in/servers.csv --out out --charts charts", ONLINE.run())).succeeds();
    assert!(drawn.text == place.read("charts/online_daily.svg"), "the same as of a run");
    service.end();
}

#[test]
fn verify_finds_what_differs() {
    let place = Place::new();
    place.run("verify --state state").fails().names(&["there is no state"]);
    let service = Service::of(&place, &ONLINE, "-w 2");
    feed(&service, &ONLINE, 300);
    place.run("verify --state state").fails().names(&[" has it open"]);
    service.end();
    let verified = place.run("verify --state state -w 1").succeeds().stdout;
    assert!(verified.contains("  online_daily: ") && verified.ends_with("nothing differs\n"), "{verified}");
    let database = rusqlite::Connection::open(place.path("state/tables.sqlite")).unwrap();
    database.execute("UPDATE online_daily SET devices = devices + 1 WHERE day = (SELECT min(day) FROM online_daily)", []).unwrap();
    drop(database);
    place.run("verify --state state").fails_after("rows should be there, and ").names(&["rows differ from what follows from the journal"]);
    // A file that is not what it was.
    let blob = place.names("state/blobs").into_iter().next().unwrap();
    place.write(&format!("state/blobs/{blob}"), "rubbish");
    place.run("verify --state state").fails().names(&["is damaged", &blob]);
}

/// The database has what a run over the same records would write.
#[track_caller]
fn has_tables(place: &Place, known: &Known, out: &str) {
    known.write_csv(place, "known");
    let ran = place.run(&format!("{} events=known/events.csv servers=known/servers.csv --out '{out}' -w 1", known.run())).succeeds();
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("wrote ") && !line.contains("wrote rejected")).collect();
    assert!(lines.len() > 3 && lines.iter().all(|line| line.ends_with(": 0 inserted, 0 updated, 0 deleted")), "{}", ran.stderr);
}

#[test]
fn further_sinks_follow_through_failures() {
    let place = Place::new();
    let mut postgres = crate::support::postgres_server::Server::start();
    let url = postgres.url(&format!("keeper:{}", crate::support::postgres_server::PASSWORD_IN_URL), "tables");
    let service =
        Service::of(&place, &ONLINE, &format!("-w 2 --out '{url}' --out sqlite:other.sqlite --out csv:files --network-timeout 5s"));
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let batches: Vec<String> = shuffled(&ONLINE.lines).chunks(100).map(|lines| table(&EVENTS, lines)).collect();
    let (first, rest) = batches.split_at(batches.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let send = |batches: &[String]| batches.iter().for_each(|batch| drop(service.csv("/v1/online/events", batch).ok()));
    send(first);
    // One of them goes away: the others, and all who ask, notice nothing.
    postgres.kill();
    send(second);
    let sinks = || service.get("/v1/status").ok().json()["sinks"].as_array().unwrap().clone();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while sinks()[0]["error"].is_null() {
        assert!(std::time::Instant::now() < until, "nobody says that it is away");
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = sinks()[0].to_string();
    assert!(!text.contains(crate::support::postgres_server::PASSWORD_IN_URL), "{text}");
    assert!(postgres.run());
    send(third);
    let last = table(&EVENTS, &["rubbish".into()]);
    // Files are written at the end.
    assert_eq!(sinks()[1]["dataflows"]["online"]["behind"].as_u64().map(|behind| behind < 100), Some(true));
    let waits = std::thread::spawn({
        let asker = service.asker.clone();
        move || asker.csv("/v1/online/events?wait=sinks", last).status
    });
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while sinks().iter().take(2).any(|sink| sink["dataflows"]["online"]["behind"] != 0) {
        assert!(std::time::Instant::now() < until, "they do not catch up: {:?}", sinks());
        std::thread::sleep(Duration::from_millis(20));
    }
    service.end();
    drop(waits);
    // A run that compares them is another writer than this state.
    fs::copy(place.path("other.sqlite"), place.path("compared.sqlite")).unwrap();
    has_tables(&place, &ONLINE, "sqlite:compared.sqlite");
    has_tables(&place, &ONLINE, &url);
    crate::support::known::same(&place, "files", &ONLINE);
    // Other settings: they are brought to them by the difference.
    let service = Service::start(&place, "online -w 1 --out sqlite:other.sqlite");
    service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &["2023-02-01 00:00:00,1000,7,7,true".into()])).ok();
    let expected = service.get("/v1/online/tables/online_daily?format=csv").ok().text;
    service.end();
    let database = rusqlite::Connection::open(place.path("other.sqlite")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM online_daily", [], |row| row.get(0)).unwrap();
    assert_eq!(rows as usize, expected.lines().count() - 1);
}

#[test]
fn https_with_a_certificate_of_its_own() {
    let place = Place::new();
    let (cert, key) = of_localhost(false);
    place.write("cert.pem", &cert);
    place.write("key.pem", key);
    place
        .run("serve online --state state --listen 127.0.0.1:0 --tls-cert cert.pem --tls-key cert.pem")
        .fails_as_wrong_usage()
        .names(&["could not read a key"]);
    let started = place.start("serve online --state state --listen 127.0.0.1:0 --tls-cert cert.pem --tls-key key.pem");
    let line = started.line();
    let port: u16 = line.strip_prefix("listening on https://127.0.0.1:").unwrap().parse().unwrap();
    // Those who have the certificate are answered, and others are not.
    let ask = |trusted: bool| {
        let mut roots = rustls::RootCertStore::empty();
        if trusted {
            roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    assert!(ask(true).unwrap().ends_with("alive\n"));
    ask(false).unwrap_err();
    // Whoever feeds is told at once, and does not try for minutes.
    place.write("events.csv", table(&EVENTS, &["2026-03-01 08:00:00,1,1,1,true".into()]));
    let feed = |address: &str| place.run(&format!("feed online events=events.csv --server {address}")).fails();
    let hint = feed(&format!("https://localhost:{port}")).names(&["could not ask the service at https://localhost:"]).hint.unwrap();
    assert!(hint.contains("SSL_CERT_FILE=FILE"), "{hint}");
    started.signal("TERM");
    started.finish().succeeds();
    let plain = Service::start(&place, "online -w 1");
    let hint =
        feed(&plain.address.replace("http://", "https://")).names(&["could not ask the service at https://127.0.0.1:"]).hint.unwrap();
    assert!(hint.contains("does it answer by HTTPS?"), "{hint}");
    plain.end();
}

/// The number of files below a folder whose names say that they are CSV, and are not hidden.
fn walked(folder: &std::path::Path) -> usize {
    let is_hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| !is_hidden(entry));
    let count = |path: std::path::PathBuf| {
        if path.is_dir() { walked(&path) } else { usize::from(path.extension().is_some_and(|ending| ending == "csv")) }
    };
    entries.map(|entry| count(entry.path())).sum()
}

/// Waits until the tables are those of a run over what is in a folder.
#[track_caller]
fn follows(place: &Place, service: &Service, folder: &str) {
    let words = format!("{} events={folder} servers=servers.csv -w 1 --out expected --replace", ONLINE.run());
    let is_empty = place.names(folder).iter().all(|name| !name.ends_with(".csv"));
    if !is_empty {
        place.run(&words).succeeds();
    }
    let expected = if is_empty { "day,fleet_size,devices\n".into() } else { place.read("expected/online_daily.csv") };
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let files = walked(&place.path(folder));
    loop {
        let status = service.get("/v1/status").ok();
        let is_whole = status.json()["folders"][0]["files"] == files;
        if is_whole && service.get("/v1/online/tables/online_daily?format=csv").ok().text == expected {
            return;
        }
        let status = status.text;
        assert!(std::time::Instant::now() < until, "the tables do not become those of the folder: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_watched_folder_is_the_table() {
    let place = Place::new();
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    place.write("drop/.hidden.csv", "no,columns\n1,2\n");
    let file = |number: usize, from: usize, until: usize| {
        // It appears in whole.
        place.write(&format!("drop/{number}.tmp"), table(&EVENTS, &ONLINE.lines[from..until]));
        fs::rename(place.path(&format!("drop/{number}.tmp")), place.path(&format!("drop/{number}.csv"))).unwrap();
    };
    let start = |workers: u32| {
        let service = Service::of(&place, &ONLINE, &format!("-w {workers} --watch online.events=drop --settle 100ms"));
        service.csv("/v1/online/servers", place.read("servers.csv")).ok();
        service
    };
    file(0, 0, 400);
    let service = start(2);
    follows(&place, &service, "drop");
    // Some more, one within another folder, one that grows, one that is renamed over, one that is gone.
    file(1, 400, 800);
    file(2, 800, 1_200);
    place.write("drop/below/3.csv", table(&EVENTS, &ONLINE.lines[1_200..1_300]));
    follows(&place, &service, "drop");
    file(1, 500, 900);
    let grown = place.read("drop/2.csv") + &rows(&ONLINE.lines[1_300..1_400]);
    place.write("drop/2.csv", grown);
    fs::remove_file(place.path("drop/0.csv")).unwrap();
    follows(&place, &service, "drop");
    // What is no file of the input is told of, and harms nothing.
    place.write("drop/bad.csv", "no,columns\n1,2\n");
    fs::rename(place.path("drop/below/3.csv"), place.path("drop/4.csv")).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while service.get("/v1/status").ok().json()["folders"][0]["refused"] != 1 {
        assert!(std::time::Instant::now() < until, "nobody says that a file is refused");
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::remove_file(place.path("drop/bad.csv")).unwrap();
    follows(&place, &service, "drop");
    // While nobody watches, and many at once.
    service.kill();
    fs::remove_file(place.path("drop/4.csv")).unwrap();
    for (number, from) in (0..150).map(|number| (100 + number, number * 5)) {
        file(number, from, from + 5);
    }
    let service = start(3);
    follows(&place, &service, "drop");
    let epochs =
        |service: &Service| service.get("/v1/online/tables").ok().headers["retally-epoch"].to_str().unwrap().parse::<u64>().unwrap();
    // Touched, and the same: nothing comes of it.
    let before = epochs(&service);
    fs::File::options().append(true).open(place.path("drop/100.csv")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(epochs(&service), before);
    // All of them are gone; and a folder that is another one takes nothing back.
    let names: Vec<String> = place.names("drop").into_iter().filter(|name| name.ends_with(".csv") && !name.starts_with('.')).collect();
    names.iter().skip(1).for_each(|name| fs::remove_file(place.path(&format!("drop/{name}"))).unwrap());
    follows(&place, &service, "drop");
    let last = epochs(&service);
    fs::rename(place.path("drop"), place.path("away")).unwrap();
    fs::create_dir(place.path("drop")).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(90);
    while !service.get("/v1/status").ok().json()["folders"][0]["error"].to_string().contains("another folder") {
        assert!(std::time::Instant::now() < until, "nobody says that the folder is another one");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(epochs(&service), last);
    service.end();
    place.run("serve online --state state --listen 127.0.0.1:0 --watch online.events=nothing").fails().names(&["there is no folder"]);
    place
        .run("serve online --state state --listen 127.0.0.1:0 --watch active.events=away")
        .fails_as_wrong_usage()
        .names(&["is not DATAFLOW.INPUT=DIR"]);
}

/// A body that says where it is cut, and lies: each part is looked at as it would be read.
#[test]
fn cuts_of_a_body_are_checked() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 2");
    let line = |number: usize| format!("2026-03-{:02} 08:00:00,{number},7,1,true\n", number % 28 + 1);
    let text: String = "timestamp,device_id,user_id,server_id,connected\n".to_string() + &(0..300_000).map(line).collect::<String>();
    let mut packed = Vec::new();
    let mut packer = retally::ingest::cuts::Packer::new(&mut packed, true).unwrap();
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap();
    let headers = [CSV, ("content-encoding", "zstd")];
    // The list is at the end: entries of eight bytes, their number, and a mark of eight.
    let first = packed.len() - 12 - 8 * u32::from_le_bytes(packed[packed.len() - 12..packed.len() - 8].try_into().unwrap()) as usize;
    for shift in [1_u8, 3, 100] {
        let mut wrong = packed.clone();
        wrong[first] = wrong[first].wrapping_add(shift);
        service.post("/v1/online/events", &headers, wrong).refused(400, "bad_body");
    }
    // A frame that ends within a line.
    let (one, other) = text.split_at(text.len() / 2 + 5);
    let mut frames = zstd::encode_all(one.as_bytes(), 1).unwrap();
    let cut = frames.len() as u64;
    frames.extend(zstd::encode_all(other.as_bytes(), 1).unwrap());
    let list =
        [0x184d_2a57_u32.to_le_bytes().as_slice(), &20_u32.to_le_bytes(), &cut.to_le_bytes(), &1_u32.to_le_bytes(), b"RtCuts1\n"].concat();
    service.post("/v1/online/events", &headers, [frames.clone(), list].concat()).refused(400, "bad_body");
    assert_eq!(service.get("/v1/online/tables").ok().headers["retally-epoch"], "0");
    // Without a list it is read as a whole, and so is what was packed rightly.
    assert_eq!(service.post("/v1/online/events", &headers, frames).ok().json()["accepted"], 300_000);
    assert_eq!(service.post("/v1/online/events", &headers, packed).ok().json()["accepted"], 300_000);
    service.end();
}

/// A disk that takes no more: batches are refused, reads go on, and what was answered is there.
#[test]
fn a_full_disk_refuses_batches_and_loses_none() {
    let place = Place::new();
    let set = ONLINE.set();
    // Files may have so many blocks of 1,024 bytes; the journal is the first that has.
    let serve = format!("serve online {set} -w 2 --state state --listen 127.0.0.1:0");
    let batches: Vec<String> = shuffled(&ONLINE.lines).chunks(20).map(|lines| table(&EVENTS, lines)).collect();
    let mut taken = Vec::new();
    let mut refused = 0;
    for blocks in [300, 600] {
        let started = place.start_within(&format!("ulimit -f {blocks}"), &serve);
        let asker = Asker::new(started.line().strip_prefix("listening on ").unwrap().to_string());
        asker.until_ready();
        for (number, batch) in batches.iter().enumerate().skip(taken.len()).take(40) {
            let key = format!("{number}");
            match asker.try_post("/v1/online/events", &[CSV, ("idempotency-key", &key)], batch.as_bytes()) {
                Some(answer) if answer.status == 200 => taken.push(number),
                Some(answer) => {
                    answer.refused(503, "disk");
                    refused += 1;
                    break;
                }
                None => break,
            }
        }
        // Whoever reads is answered.
        asker.get("/v1/online/tables/online_daily").ok();
        started.signal("KILL");
        started.finish();
    }
    let service = Service::of(&place, &ONLINE, "-w 1");
    let epoch: u64 = service.get("/v1/online/tables").ok().headers["retally-epoch"].to_str().unwrap().parse().unwrap();
    assert!(epoch >= taken.len() as u64, "{epoch} of {}", taken.len());
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    for (number, batch) in batches.iter().enumerate() {
        let answer = service.post("/v1/online/events", &[CSV, ("idempotency-key", &number.to_string())], batch).ok().json();
        assert!(answer["duplicate"] == true || !taken.contains(&number), "batch {number} was answered, and is not there");
    }
    service.same(&ONLINE);
    service.end();
    assert!(refused > 0, "the disk was never full: {} batches were taken", taken.len());
}

/// As many as a service takes; of them, as the system allows.
const STREAMS: usize = 10_000;
/// A stream costs no more than this.
const STREAM_BYTES_MAX: u64 = 64 << 10;

/// The memory of a process, in bytes.
fn memory(id: u32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{id}/statm")).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[test]
fn ten_thousand_streams_hear_of_a_change_and_one_more_is_told_to_come_later() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // This process has an end of each, too.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let streams = STREAMS.min(usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(200));
    let place = Place::new();
    let service = Service::start(&place, &format!("online -w 2 --max-streams {streams}"));
    let address = service.address.strip_prefix("http://").unwrap().to_string();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    };
    let path = "/v1/changes?tables=online.online_daily";
    let until = |is_so: &dyn Fn() -> bool| {
        let until = std::time::Instant::now() + Duration::from_secs(120);
        while !is_so() {
            assert!(std::time::Instant::now() < until, "{}", service.get("/v1/status").text);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let event = |day: usize| table(&EVENTS, &[format!("2026-03-{day:02} 00:00:00,77,77,77,true")]);
    // What a service needs in any case is there.
    service.csv("/v1/online/events", event(1)).ok();
    let before = memory(service.started.id());
    let mut all: Vec<TcpStream> = (0..streams).map(|_| ask(path)).collect();
    until(&|| service.get("/v1/status").ok().json()["streams"] == streams);
    // One more is told to come later; reads and batches go on.
    let refused = service.try_get(path, &[]).unwrap();
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    refused.refused(503, "streams");
    assert_eq!(service.get("/v1/online/tables/online_daily").ok().headers["retally-epoch"], "1");
    let epoch = service.csv("/v1/online/events", event(2)).ok().json()["epoch"].clone();
    assert_eq!(epoch, 2);
    for stream in &mut all {
        let (mut text, mut block) = (String::new(), [0; 2048]);
        while !text.contains("id: online:2\n") {
            let length = stream.read(&mut block).unwrap();
            assert!(length > 0, "a stream ends: {text}");
            text += &String::from_utf8_lossy(&block[..length]);
        }
        assert!(text.contains("\"devices\":1"), "{text}");
    }
    let each = memory(service.started.id()).saturating_sub(before) / streams as u64;
    println!("{streams} streams of {each} bytes each");
    assert!(each < STREAM_BYTES_MAX, "a stream takes {each} bytes");
    // Whoever goes makes room for another.
    drop(all.pop());
    until(&|| {
        service.csv("/v1/online/events", event(3)).ok();
        service.get("/v1/status").ok().json()["streams"] == streams - 1
    });
    all.push(ask(path));
    until(&|| service.get("/v1/status").ok().json()["streams"] == streams);
    // Whoever goes is not counted any more.
    drop(all);
    until(&|| {
        service.csv("/v1/online/events", event(4)).ok();
        service.get("/v1/status").ok().json()["streams"] == 0
    });
    service.end();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}
