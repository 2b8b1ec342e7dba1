//! Sinks of a service that were put back to what they were, or have the tables of another state.

use crate::databases::Database;
use crate::further::{batches, sink, until};
use crate::support::known::{EVENTS, ONLINE, table};
use crate::support::program::Place;
use crate::support::service::{Asker, Service};
use crate::support::sqlite_file::SqliteFile;

const TABLES: [&str; 3] = ["online_daily", "online_intervals", "online_issues"];

/// Some lines of small batches.
fn small(from: u32, count: u32) -> Vec<String> {
    let line = |number: u32| format!("2024-03-01 {:02}:{:02}:00,{number},7,1,true", number / 60, number % 60);
    (from..from + count).map(|number| table(&EVENTS, &[line(number)])).collect()
}

fn feed(asker: &Asker, batches: &[String], wait: &str) {
    batches.iter().for_each(|batch| drop(asker.csv(&format!("/v1/online/events?wait={wait}"), batch).ok()));
}

/// A file has what a service has.
#[track_caller]
fn same(asker: &Asker, file: &SqliteFile) {
    for name in TABLES {
        let text = asker.get(&format!("/v1/online/tables/{name}?format=csv")).ok().text;
        let mut expected: Vec<Vec<String>> = text.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect();
        expected.sort();
        let found: Vec<Vec<String>> = file.table(name);
        assert!(found == expected, "{name}: {} rows there, {} here", found.len(), expected.len());
    }
}

fn follows(asker: &Asker) {
    until("the end", || sink(asker)["dataflows"]["online"]["behind"] == 0 && sink(asker)["error"].is_null());
}

/// As a database is after it was restored, or when a server takes over that was behind.
#[test]
fn a_sink_that_was_put_back_is_brought_to_the_truth() {
    let place = Place::new();
    let file = SqliteFile::new(&place, "two.sqlite");
    let service = Service::start(&place, "online -w 1 --out sqlite:two.sqlite");
    feed(&service, &small(1, 1), "sinks");
    file.execute(&format!("VACUUM INTO '{}'", place.path("old.sqlite").display()));
    feed(&service, &small(2, 2), "sinks");
    same(&service, &file);
    let mut back = format!("ATTACH '{}' AS old; BEGIN;", place.path("old.sqlite").display());
    for name in TABLES.iter().chain(&["retally_progress"]) {
        back += &format!("DELETE FROM main.{name}; INSERT INTO main.{name} SELECT * FROM old.{name};");
    }
    file.execute(&format!("{back} COMMIT"));
    assert_eq!(file.table("online_intervals").len(), 1);
    feed(&service, &small(4, 1), "sinks");
    same(&service, &file);
    service.end();
    place.run("verify --state state --out sqlite:two.sqlite").succeeds();
}

/// The same settings and a number that fits are not enough.
#[test]
fn tables_of_another_state_are_not_taken_for_ones_own() {
    let place = Place::new();
    let file = SqliteFile::new(&place, "there/two.sqlite");
    std::fs::create_dir(place.path("there")).unwrap();
    let service = Service::start(&place, "online -w 1 --out sqlite:there/two.sqlite");
    feed(&service, &small(1, 7), "sinks");
    service.end();
    // It is away when another state begins, and comes back when that has got further.
    std::fs::rename(place.path("there"), place.path("away")).unwrap();
    std::fs::rename(place.path("state"), place.path("first")).unwrap();
    let service = Service::start(&place, "online -w 1 --out sqlite:there/two.sqlite");
    feed(&service, &small(100, 9), "visible");
    until("an error", || !sink(&service)["error"].is_null());
    std::fs::rename(place.path("away"), place.path("there")).unwrap();
    follows(&service);
    same(&service, &file);
    feed(&service, &small(200, 2), "sinks");
    same(&service, &file);
    service.end();
    // A state that was restored from a backup goes on by itself, though the file knows more batches.
    std::fs::rename(place.path("state"), place.path("second")).unwrap();
    std::fs::rename(place.path("first"), place.path("state")).unwrap();
    let service = Service::start(&place, "online -w 1 --out sqlite:there/two.sqlite");
    feed(&service, &small(300, 1), "sinks");
    same(&service, &file);
    service.end();
}

/// However many batches it has itself.
#[test]
fn most_rows_of_another_state_are_not_deleted_in_silence() {
    let place = Place::new();
    let file = SqliteFile::new(&place, "two.sqlite");
    let service = Service::of(&place, &ONLINE, "-w 2 --out sqlite:two.sqlite");
    feed(&service, &batches(&ONLINE, 2_000), "sinks");
    let before = file.table("online_intervals");
    assert!(before.len() > 1_000);
    service.end();
    std::fs::rename(place.path("state"), place.path("first")).unwrap();
    let words = "-w 1 --out sqlite:two.sqlite";
    let service = Service::of(&place, &ONLINE, words);
    let is_refused = |service: &Service| {
        until("a refusal", || sink(service)["error"].as_str().is_some_and(|error| error.contains("would delete")));
    };
    is_refused(&service);
    feed(&service, &small(1, 12), "visible");
    is_refused(&service);
    assert!(file.table("online_intervals") == before);
    service.end();
    let service = Service::of(&place, &ONLINE, words);
    is_refused(&service);
    assert!(file.table("online_intervals") == before);
    service.end();
    let service = Service::of(&place, &ONLINE, &format!("{words} --replace"));
    follows(&service);
    same(&service, &file);
    service.end();
}

/// Files are written as soon as somebody waits for them, whatever the others do.
#[test]
fn who_waits_for_sinks_waits_for_all_of_them_at_once() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1 --out sqlite:gone/two.sqlite --out csv:out --export-every 1h");
    let asker = service.asker.clone();
    let waiting = std::thread::spawn(move || asker.csv("/v1/online/events?wait=sinks", &small(1, 1)[0]).ok());
    until("the file", || place.has("out/online_intervals.csv") && place.read("out/online_intervals.csv").lines().count() == 2);
    std::fs::create_dir(place.path("gone")).unwrap();
    waiting.join().unwrap();
    service.end();
}
