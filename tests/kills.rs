//! Runs that are killed, at any moment: what they leave is the old tables, the new ones, or in a folder a mix that says so. The next run
//! repairs all, and nothing else is left.
//!
//! `KILL_RUNS` says how many; `scripts/kill-runs` runs many.

use crate::databases::{Database, ONLINE, online};
use crate::support::postgres_server::Server;
use crate::support::program::Place;
use crate::support::sqlite_file::SqliteFile;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many runs are killed, where nothing else is asked for.
const KILLS: u64 = 10;
/// A run must be met before its end so often, at least: one in so many.
const MET_IN: u64 = 10;

type Tables = BTreeMap<String, Vec<u8>>;

fn kills() -> u64 {
    std::env::var("KILL_RUNS").ok().map_or(KILLS, |count| count.parse().unwrap())
}

/// Kills runs that would bring a place from some tables to others, and back again. `check` looks at what is left: the tables before, and
/// those that were to come.
fn kill_runs(place: &Place, out: &str, check: impl Fn(&str, [&str; 2]), whole: impl Fn(&str)) {
    let runs = [ONLINE.to_string(), format!("{ONLINE} events=in/late")];
    let names = ["yesterday", "today"];
    for (run, name) in runs.iter().zip(names) {
        place.run(&format!("{run} --out {name}")).succeeds();
    }
    let run = |number: usize| format!("{} --out '{out}' --replace -w 1", runs[number]);
    place.run(&run(0)).succeeds();
    let began = Instant::now();
    place.run(&run(0)).succeeds();
    let length = began.elapsed();
    let mut met = 0;
    for seed in 0..kills() {
        let next = usize::from(seed % 2 == 0);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // Every other time near the end, where tables are replaced.
        let from = if random.random() { 0.0 } else { 0.7 };
        let delay = length.mul_f64(random.random_range(from..1.2));
        let started = place.start(&run(next));
        std::thread::sleep(delay);
        started.signal("KILL");
        let code = started.finish().code;
        met += u64::from(code.is_none());
        check(&format!("seed {seed}, killed after {delay:?} of {length:?}, exit code {code:?}"), [names[1 - next], names[next]]);
        place.run(&run(next)).succeeds();
        whole(names[next]);
    }
    assert!(met * MET_IN >= kills(), "of {} runs only {met} were met before their end", kills());
}

#[test]
fn folders_are_old_or_new_or_say_that_they_are_a_mix() {
    let place = online();
    let tables = |folder: &str| -> Tables { place.files(folder).into_iter().filter(|(name, _)| name.ends_with(".csv")).collect() };
    let manifest = || -> serde_json::Value { serde_json::from_str(&place.read("out/retally.json")).unwrap() };
    let check = |killed: &str, [before, after]: [&str; 2]| {
        let (found, before, after) = (tables("out"), tables(before), tables(after));
        assert!(found.keys().eq(before.keys()), "{killed}: {:?}", found.keys());
        for (name, bytes) in &found {
            assert!(*bytes == before[name] || *bytes == after[name], "{killed}: {name} is neither old nor new");
        }
        if manifest()["complete"] == true {
            assert!(found == before || found == after, "{killed}: a mix that says it is none");
            for (name, bytes) in &found {
                assert_eq!(manifest()["files"][name]["crc32"], format!("{:08x}", crc32fast::hash(bytes)), "{killed}: {name}");
            }
        }
    };
    let whole = |name: &str| {
        assert!(tables("out") == tables(name) && manifest()["complete"] == true);
        assert!(place.names("out").iter().all(|name| !name.starts_with('.')), "{:?}", place.names("out"));
    };
    kill_runs(&place, "out", check, whole);
}

/// A database has all of the old or all of the new.
fn databases_are_old_or_new(place: &Place, database: &dyn Database) {
    let fresh = |name: &str| {
        let other = SqliteFile::new(place, &format!("{name}.sqlite"));
        let late = if name == "today" { " events=in/late" } else { "" };
        place.run(&format!("{ONLINE}{late} --out '{}'", other.out())).succeeds();
        ["online_daily", "online_intervals", "online_summary", "online_issues"].map(|table| (table, other.table(table).len()))
    };
    let counts = ["yesterday", "today"].map(|name| (name, fresh(name)));
    assert_ne!(counts[0].1, counts[1].1);
    let count = || counts[0].1.map(|(table, _)| (table, database.table(table).len()));
    let of = |name: &str| counts.iter().find(|(known, _)| *known == name).unwrap().1;
    let check = |killed: &str, [before, after]: [&str; 2]| {
        let until = Instant::now() + Duration::from_secs(60);
        // A server may need a moment to notice.
        while ![of(before), of(after)].contains(&count()) {
            assert!(Instant::now() < until, "{killed}: {:?} is neither old nor new", count());
        }
    };
    kill_runs(place, &database.out(), check, |name| assert_eq!(count(), of(name)));
}

#[test]
fn sqlite_files_are_old_or_new() {
    let place = online();
    databases_are_old_or_new(&place, &SqliteFile::new(&place, "tables.sqlite"));
    assert_eq!(place.names("."), ["in", "tables.sqlite", "today", "today.sqlite", "yesterday", "yesterday.sqlite"]);
}

#[test]
fn postgres_databases_are_old_or_new() {
    databases_are_old_or_new(&online(), &Server::start());
}
