//! What tests ask a service of its live sources.

use super::known::Known;
use super::known::ONLINE;
use super::service::{Asker, Service};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long messages may take to be counted: far more than they do on a busy machine.
const SECONDS_MAX: u64 = 100;

/// How often broker or service are ended while messages flow: six times, or a tenth of `KILL_RUNS`.
pub fn rounds() -> u64 {
    let runs = std::env::var("KILL_RUNS").ok().and_then(|text| text.parse::<u64>().ok());
    runs.map_or(6, |runs| runs.div_ceil(10))
}

/// Ends the broker and the service at random moments, and starts them again: `restart` is of the broker, which rests so long in between.
/// Returns the service that is there at the end.
pub fn struck(seed: u64, mut service: Service, start: impl Fn() -> Service, mut restart: impl FnMut(Duration)) -> Service {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for round in 0..rounds() {
        std::thread::sleep(Duration::from_millis(random.random_range(0..150)));
        if round % 3 != 1 {
            restart(Duration::from_millis(random.random_range(0..100)));
        }
        if round % 3 != 0 {
            service.kill();
            service = start();
        }
    }
    service
}

/// Each message was taken once: what was counted and what was refused are as many as there were, and servers beside them.
#[track_caller]
pub fn taken_once(service: &Asker, messages: usize) {
    let refused = rejected(service, "online").len() as u64;
    let records = service.get("/v1/status").ok().json()["dataflows"]["online"]["records"].as_u64().unwrap();
    assert_eq!(records + refused, (messages + ONLINE.servers.len()) as u64);
}

/// How the source at a place is.
pub fn status(service: &Asker, number: usize) -> Value {
    service.get("/v1/status").ok().json()["sources"][number].clone()
}

/// Waits until something is so of the status of the first source.
#[track_caller]
pub fn until(service: &Asker, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(SECONDS_MAX);
    loop {
        let status = status(service, 0);
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < until, "{what} does not come: {status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something is so of the status of the first source, and all that is in the journal can be read in the tables.
#[track_caller]
pub fn until_readable(service: &Asker, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let found = until(service, what, is_so);
    let until = Instant::now() + Duration::from_secs(SECONDS_MAX);
    loop {
        let status = service.get("/v1/status").ok().json();
        if status["batches_waiting"] == 0 && status["batches_under_way"] == 0 {
            return found;
        }
        assert!(Instant::now() < until, "{what}: the tables do not come: {status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the source's broker is there.
#[track_caller]
pub fn until_connected(service: &Asker) {
    until(service, "the broker", |status| status["connected"] == true);
}

/// Waits until the tables are those of known records, all of which were published.
#[track_caller]
pub fn until_same(service: &Asker, known: &Known) {
    let until = Instant::now() + Duration::from_secs(SECONDS_MAX);
    let is_same = |(name, expected): (&str, &[u8])| {
        service.get(&format!("/v1/{}/tables/{name}?format=csv", known.dataflow())).ok().text.as_bytes() == expected
    };
    while !known.tables().all(is_same) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    service.same(known);
}

/// The rows of `rejected`: source, line and reason, in order.
pub fn rejected(service: &Asker, dataflow: &str) -> Vec<(String, u64, String)> {
    let rows = service.get(&format!("/v1/{dataflow}/rejected?limit=1000")).ok().json();
    let row = |row: &Value| (row["source"].as_str().unwrap().into(), row["line"].as_u64().unwrap(), row["reason"].as_str().unwrap().into());
    let mut rows: Vec<_> = rows.as_array().unwrap_or_else(|| panic!("{rows}")).iter().map(row).collect();
    rows.sort();
    rows
}
