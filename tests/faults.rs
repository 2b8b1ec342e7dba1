//! The disk fails at the k-th write, sync, rename or create, for every k: what was said to be there is there, and the next run puts right
//! what was not.
//!
//! The calls are those of the real program.

use crate::support::injected::{self, was_hit};
use crate::support::known::{EVENTS, table};
use crate::support::program::{Place, Ran, Started};
use crate::support::service::Asker;
use std::collections::BTreeMap;
use std::process::Command;

/// More calls than any of these runs makes in a thread.
const CALLS_MAX: usize = 400;

/// The program, of whose calls the k-th of each thread fails. `files` are those that count, or all where there are none.
fn failing(place: &Place, calls: &str, error: &str, k: usize, files: &[&str], words: &str) -> Started {
    injected::start(place, calls, &format!("error={error}"), k, files, words)
}

/// A place with the same folders as another.
fn copy(place: &Place, folders: &[&str]) -> Place {
    let copy = Place::new();
    let copied = Command::new("cp").arg("-a").args(folders).arg(copy.path(".")).current_dir(place.path(".")).status();
    assert!(copied.unwrap().success());
    copy
}

fn line(number: usize) -> String {
    format!("2023-01-{:02} 0{}:00:00,{},{},3,true", number % 28 + 1, number % 10, number % 5 + 1, number % 3 + 1)
}

/// The tables of a run over some lines.
fn tables_of(lines: &[String]) -> BTreeMap<String, Vec<u8>> {
    let place = Place::new();
    place.write("all.csv", table(&EVENTS, lines));
    place.run("run online events=all.csv --out out -w 1").succeeds();
    place.tables("out")
}

/// What it says where it fails, and that it does not panic.
#[track_caller]
fn ended(ran: &Ran, what: &str) -> bool {
    let code = ran.code.unwrap_or_else(|| panic!("{what}: it was ended by a signal: {}", ran.stderr));
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
    // It may be the error itself that could not be written.
    assert!(code == 0 || code <= 6, "{what}: {code}: {}", ran.stderr);
    code == 0
}

#[test]
fn whichever_call_of_a_run_fails_nothing_is_lost() {
    let (first, second): (Vec<String>, Vec<String>) = ((0..20).map(line).collect(), (20..30).map(line).collect());
    let both = tables_of(&[first.clone(), second.clone()].concat());
    let base = Place::new();
    base.write("first.csv", table(&EVENTS, &first));
    base.run("run online --state state events=first.csv --out out -w 1").succeeds();
    let mut hits = 0;
    for (calls, error) in [
        ("write,pwrite64", "ENOSPC"),
        ("fsync,fdatasync", "EIO"),
        ("rename,renameat,renameat2", "EIO"),
        ("ftruncate,unlink,unlinkat", "EIO"),
    ] {
        for k in 1..CALLS_MAX {
            let what = format!("{calls} {error} {k}");
            let place = copy(&base, &["state", "out"]);
            place.write("second.csv", table(&EVENTS, &second));
            let words = "run online --state state events=second.csv --out out -w 1";
            let ran = failing(&place, calls, error, k, &[], words).finish();
            if !was_hit(&place) {
                ran.succeeds();
                break;
            }
            hits += 1;
            let is_done = ended(&ran, &what);
            let status = place.run("status --state state").succeeds().stdout;
            let is_there = status.starts_with("online: epoch 2, ");
            assert!(is_there || (!is_done && status.starts_with("online: epoch 1, ")), "{what}: {status}");
            place.run(if is_there { "run online --state state --out out -w 1" } else { words }).succeeds();
            assert!(place.tables("out") == both, "{what}");
            place.run("verify --state state -w 1").succeeds();
            let left: Vec<String> = place.names("state/blobs").into_iter().filter(|name| name.starts_with('.')).collect();
            assert!(left.is_empty(), "{what}: {left:?}");
        }
    }
    assert!(hits > 40, "{hits}");
}

#[test]
fn whichever_call_of_a_service_fails_what_was_answered_is_there() {
    let batches: Vec<Vec<String>> = (0..5).map(|batch| (batch * 4..batch * 4 + 4).map(line).collect()).collect();
    let expected = tables_of(&batches.concat());
    let journal = "state/journal/00000001.log";
    // `strace` knows files that are there when it starts.
    let base = Place::new();
    crate::support::service::Service::start(&base, "online -w 1").end();
    for (calls, error, files) in [
        ("write", "ENOSPC", &[journal][..]),
        ("fsync,fdatasync", "EIO", &[journal]),
        // SQLite's.
        ("pwrite64", "ENOSPC", &[]),
    ] {
        let mut hits = 0;
        for k in (1..CALLS_MAX).step_by(if files.is_empty() { 7 } else { 1 }) {
            let what = format!("{calls} {error} {k} {files:?}");
            let place = copy(&base, &["state"]);
            let started = failing(&place, calls, error, k, files, "serve online -w 1 --state state --listen 127.0.0.1:0");
            let key = |number: usize| number.to_string();
            let mut answered = Vec::new();
            let feed = |asker: &Asker, number: usize, lines: &[String]| {
                asker.try_post(
                    "/v1/online/events",
                    &[("content-type", "text/csv"), ("idempotency-key", &key(number))],
                    table(&EVENTS, lines).as_bytes(),
                )
            };
            // It may fail before it listens.
            let line = started.first_line();
            if let Some(address) = line.as_deref().and_then(|line| line.strip_prefix("listening on ")) {
                let asker = Asker::new(address.into());
                if asker.gets_ready() {
                    for (number, lines) in batches.iter().enumerate() {
                        answered.extend(feed(&asker, number, lines).filter(|answer| answer.status == 200).map(|_| number));
                    }
                }
                // `strace` hands it on; it may have ended.
                Command::new("pkill").args(["-TERM", "-P", &started.id().to_string()]).status().unwrap();
            }
            let ran = started.finish();
            ended(&ran, &what);
            if !was_hit(&place) {
                break;
            }
            hits += 1;
            let service = crate::support::service::Service::start(&place, "online -w 1");
            for (number, lines) in batches.iter().enumerate() {
                let answer = feed(&service, number, lines).unwrap().ok().json();
                assert!(answer["duplicate"] == true || !answered.contains(&number), "{what}: {number} of {answered:?}");
            }
            for (name, bytes) in &expected {
                let (name, text) = (name.strip_suffix(".csv").unwrap(), String::from_utf8_lossy(bytes));
                if name != "rejected" {
                    assert_eq!(service.get(&format!("/v1/online/tables/{name}?format=csv")).ok().text, text, "{what}: {name}");
                }
            }
            service.end();
        }
        assert!(hits > 0, "{calls} of {files:?} never failed");
    }
}
