//! The journal of a service is folded while it takes batches, whatever ends it meanwhile.

use crate::support::known::{EVENTS, ONLINE, SERVERS, shuffled, table};
use crate::support::program::Place;
use crate::support::service::Service;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::time::Duration;

const CSV: (&str, &str) = ("content-type", "text/csv");

/// The bytes of a folder's files.
fn bytes(place: &Place, folder: &str) -> u64 {
    place.names(folder).iter().map(|name| fs::metadata(place.path(&format!("{folder}/{name}"))).unwrap().len()).sum()
}

#[test]
fn the_journal_is_folded_while_batches_come_and_whoever_is_killed_loses_nothing() {
    let place = Place::new();
    let words = "-w 2 --compact-after 16KiB";
    let lines = shuffled(&ONLINE.lines);
    let wrong: Vec<String> = (0..40).map(|number| format!("2023-02-01 00:00:{number:02},77{number},7,7,true")).collect();
    let service = Service::of(&place, &ONLINE, words);
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    service.end();
    let chunks: Vec<&[String]> = lines.chunks(lines.len().div_ceil(60)).collect();
    for (seed, chunks) in chunks.chunks(20).enumerate() {
        let service = Service::of(&place, &ONLINE, words);
        for (number, chunk) in chunks.iter().enumerate() {
            let key = format!("{seed}-{number}");
            let keyed = [CSV, ("idempotency-key", key.as_str())];
            service.post("/v1/online/events", &keyed, table(&EVENTS, chunk)).ok();
            // Something wrong, which is taken back.
            service.csv("/v1/online/events", table(&EVENTS, &wrong)).ok();
            service.csv("/v1/online/events?retract=true", table(&EVENTS, &wrong)).ok();
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        service.kill();
    }
    // What was answered is known, folded or not.
    let service = Service::of(&place, &ONLINE, words);
    let again = service.post("/v1/online/events", &[CSV, ("idempotency-key", "0-0")], table(&EVENTS, chunks[0])).ok().json();
    assert_eq!((&again["duplicate"], &again["epoch"]), (&true.into(), &2.into()));
    let epoch = again["epoch"].as_u64().unwrap();
    assert!(epoch < 181, "{epoch}");
    service.same(&ONLINE);
    let text = service.get("/metrics").text;
    assert!(text.contains("retally_journal_folds_total"), "{text}");
    let ran = service.end();
    assert_eq!(place.names("state/snapshot").len(), 1, "{}", ran.stderr);
    let (journal, snapshot) = (bytes(&place, "state/journal"), bytes(&place, "state/snapshot"));
    let all: usize = chunks.len() * 2 * table(&EVENTS, &wrong).len();
    assert!(((journal + snapshot) as usize) < all, "{journal} and {snapshot} of more than {all}");
    place.run("verify --state state").succeeds();
    // The tables are lost, and rebuilt of what was folded.
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    let service = Service::of(&place, &ONLINE, words);
    service.same(&ONLINE);
    let next = service.csv("/v1/online/events", table(&EVENTS, chunks[0])).ok().json();
    assert_eq!(next["epoch"], 182);
    service.same(&ONLINE);
    service.end();
}

/// Refused lines are of a delivery: when it is folded away, they go, wherever they are.
#[test]
fn what_was_refused_leaves_with_its_file() {
    let place = Place::new();
    let line = |second: u32, device: &str| format!("2026-03-02 08:00:{second:02},{device},7,1,true");
    place.write("bad.csv", table(&EVENTS, &[line(0, "17"), line(1, "x"), line(2, "y")]));
    place.write("other.csv", table(&EVENTS, &[line(3, "18"), line(4, "z")]));
    place.write("drop/bad.csv", table(&EVENTS, &[line(5, "19"), line(6, "v")]));
    let rejected = |from: &str| {
        let listed = place.run(&format!("rejected list online --format csv {from}")).succeeds().stdout;
        listed.lines().skip(1).map(String::from).collect::<Vec<_>>()
    };
    let words = "online -w 1 --out sqlite:out.db --watch online.events=drop --settle 10ms";
    let service = Service::start(&place, words);
    let server = format!("--server {}", service.address);
    while rejected(&server).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    place.run(&format!("feed online events=bad.csv events-=bad.csv {server}")).succeeds();
    place.run(&format!("feed online events=other.csv {server}")).succeeds();
    fs::remove_file(place.path("drop/bad.csv")).unwrap();
    while rejected(&server).len() < 7 {
        std::thread::sleep(Duration::from_millis(10));
    }
    service.end();
    place.run("verify --state state --out sqlite:out.db").succeeds();
    place.run("compact --state state").succeeds();
    let left = rejected("--state state");
    assert!(matches!(left.as_slice(), [row] if row.contains(",z,")), "{left:?}");
    place.run("verify --state state").succeeds();
    // While it runs, it looks after the other places as well.
    let service = Service::start(&place, &format!("{words} --compact-after 1KiB"));
    let server = format!("--server {}", service.address);
    place.run(&format!("feed online events=bad.csv events-=bad.csv {server}")).succeeds();
    for number in 0..200 {
        service.csv("/v1/online/events", table(&EVENTS, &[line(10, &number.to_string())])).ok();
        if number > 20 && rejected(&server).len() == 1 {
            break;
        }
    }
    assert_eq!(rejected(&server).len(), 1);
    service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &[line(11, "20")])).ok();
    service.end();
    place.run("verify --state state --out sqlite:out.db").succeeds();
    let database = rusqlite::Connection::open(place.path("out.db")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM rejected", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}
