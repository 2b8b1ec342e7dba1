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
    // The tables are lost, and made anew of what was folded.
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    let service = Service::of(&place, &ONLINE, words);
    service.same(&ONLINE);
    let next = service.csv("/v1/online/events", table(&EVENTS, chunks[0])).ok().json();
    assert_eq!(next["epoch"], 182);
    service.same(&ONLINE);
    service.end();
}
