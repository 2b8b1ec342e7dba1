//! A service on a state of which a file is not what was written: it names the file, lets the tables be read, and takes no batch.

use crate::launch::{processes, until};
use crate::support::known::{EVENTS, ONLINE, SERVERS, table};
use crate::support::program::Place;
use crate::support::service::{Asker, Service};
use std::fs;
use std::time::{Duration, Instant};

/// A place with a state of two batches, the first of them in a blob.
fn place() -> Place {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    let lines = std::iter::repeat_n(&ONLINE.lines, 8).flatten().cloned().collect::<Vec<_>>();
    let large = table(&EVENTS, &lines);
    service.csv("/v1/online/events", &large).ok();
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    service.end();
    place
}

/// A service that names a file as damaged, answers reads, and refuses batches.
#[track_caller]
fn serves_what_is_left(place: &Place, file: &str, what: &str) {
    let service = Service::begin(place, &format!("online {} -w 2", ONLINE.set()));
    let until = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let status = service.get("/v1/status").ok().json();
        if status["phase"] == "damaged" {
            break status;
        }
        assert!(Instant::now() < until && status["phase"] == "recovering", "{what}: {status}");
        std::thread::sleep(Duration::from_millis(5));
    };
    let why = status["error"].as_str().unwrap();
    assert!(why.contains(file), "{what}: {why}");
    assert_eq!(service.get("/readyz").status, 503, "{what}");
    service.same(&ONLINE);
    let message = service.csv("/v1/online/events", table(&EVENTS, &ONLINE.lines[..1])).refused(503, "damaged");
    assert_eq!(message, why, "{what}");
    place.run("compact --state state").fails().names(&["has it open"]);
    service.started.signal("TERM");
    let ran = service.started.finish();
    assert_eq!(ran.code, Some(1), "{what}: {}", ran.stderr);
    assert!(ran.stderr.contains(file) && ran.stderr.contains("no batch is taken"), "{what}: {}", ran.stderr);
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_read() {
    let place = place();
    let blob = format!("state/blobs/{}", place.names("state/blobs").into_iter().next().unwrap());
    let journal = "state/journal/00000001.log".to_string();
    for file in [&blob, &journal] {
        let whole = fs::read(place.path(file)).unwrap();
        let mut flipped = whole.clone();
        flipped[if *file == blob { whole.len() / 2 } else { 20 }] ^= 1;
        place.write(file, &flipped);
        serves_what_is_left(&place, file, "a flipped bit");
        if *file == blob {
            fs::remove_file(place.path(file)).unwrap();
            serves_what_is_left(&place, file, "a missing file");
        } else {
            // The tables know batches that it does not.
            place.write(file, b"");
            serves_what_is_left(&place, "state/journal", "an empty file");
        }
        // Nothing was mended or removed: with the file as it was, all is as it was.
        place.write(file, &whole);
        let service = Service::of(&place, &ONLINE, "-w 1");
        service.same(&ONLINE);
        service.end();
    }
}

/// Of several processes the first remains, whether the others had come or wait for it in vain.
#[test]
fn of_several_processes_the_first_lets_what_is_left_be_read() {
    let place = place();
    let blob = format!("state/blobs/{}", place.names("state/blobs").into_iter().next().unwrap());
    for (file, byte) in [("state/journal/00000001.log", 20), (blob.as_str(), 2_000)] {
        let whole = fs::read(place.path(file)).unwrap();
        let mut flipped = whole.clone();
        flipped[byte] ^= 1;
        place.write(file, &flipped);
        let serve = format!("serve online {} --join-timeout 2s --listen 127.0.0.1:0 --state state", ONLINE.set());
        let started = place.start(&format!("launch -n 2 -w 1 -- {serve}"));
        let address = started.line().strip_prefix("[0] listening on ").unwrap().to_string();
        let service = Service { started, asker: Asker::new(address) };
        until("damage", || service.get("/v1/status").ok().json()["phase"] == "damaged");
        until("only the first is there", || processes(&place).len() == 1);
        // Longer than anybody waits for others, and than those are given that are to end.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(11) {
            service.same(&ONLINE);
            std::thread::sleep(Duration::from_millis(200));
        }
        service.started.signal("TERM");
        let ran = service.started.finish();
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(file) && !ran.stderr.contains("start again"), "{}", ran.stderr);
        place.write(file, &whole);
    }
}

/// It is looked at when it is planned, where there is no more of it than is looked at.
#[test]
fn a_small_blob_that_is_damaged_is_named_too() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 1");
    let packed = zstd::encode_all(table(&EVENTS, &ONLINE.lines[..50]).as_bytes(), 3).unwrap();
    service.post("/v1/online/events", &[("content-type", "text/csv"), ("content-encoding", "zstd")], packed).ok();
    service.end();
    let blob = format!("state/blobs/{}", place.names("state/blobs").into_iter().next().unwrap());
    let whole = fs::read(place.path(&blob)).unwrap();
    // Without a checksum of its own, other text may be read of it.
    for at in [5, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        place.write(&blob, &flipped);
        let service = Service::begin(&place, &format!("online {} -w 2", ONLINE.set()));
        let damaged = || service.get("/v1/status").ok().json();
        let until = Instant::now() + Duration::from_secs(60);
        while damaged()["phase"] != "damaged" {
            assert!(Instant::now() < until, "byte {at}: {}", damaged());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(damaged()["error"].as_str().unwrap().contains(&blob), "byte {at}: {}", damaged());
        service.get("/v1/online/tables/online_intervals").ok();
        service.started.signal("TERM");
        assert_eq!(service.started.finish().code, Some(1));
    }
}

#[test]
fn where_nothing_can_be_read_a_damaged_state_is_refused() {
    let place = place();
    let journal = "state/journal/00000001.log";
    let mut flipped = fs::read(place.path(journal)).unwrap();
    flipped[20] ^= 1;
    place.write(journal, &flipped);
    // Of other settings: the tables are not those that are asked for.
    let start = |settings: &str| place.run(&format!("serve online {settings} --state state --listen 127.0.0.1:0"));
    start("--set online.timezone=Asia/Tokyo").fails().names(&[journal, "is damaged"]);
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    start(&ONLINE.set()).fails().names(&[journal, "is damaged"]);
}
