//! Runs that are killed, at any moment: what they leave is the old tables, the new ones, or in a folder a mix that says so. The next run
//! repairs all, and nothing else is left.
//!
//! `KILL_RUNS` says how many; `scripts/kill-runs` runs many.

use crate::databases::{Database, ONLINE, online};
use crate::support::injected;
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
    // The shortest of some: on a busy machine one may take many times as long as another.
    let timed = || {
        let began = Instant::now();
        place.run(&run(0)).succeeds();
        began.elapsed()
    };
    let length = (0..3).map(|_| timed()).min().unwrap();
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

/// Tables in a folder, and what must be so of them.
struct InFolder<'p>(&'p Place);

impl InFolder<'_> {
    /// The tables, and points where there are some.
    fn tables(&self, folder: &str) -> Tables {
        self.0.files(folder).into_iter().filter(|(name, _)| name.ends_with(".csv") || name == "points.lp").collect()
    }

    fn manifest(&self) -> serde_json::Value {
        serde_json::from_str(&self.0.read("out/retally.json")).unwrap()
    }

    fn check(&self, killed: &str, [before, after]: [&str; 2]) {
        let (found, before, after) = (self.tables("out"), self.tables(before), self.tables(after));
        assert!(found.keys().eq(before.keys()), "{killed}: {:?}", found.keys());
        for (name, bytes) in &found {
            assert!(*bytes == before[name] || *bytes == after[name], "{killed}: {name} is neither old nor new");
        }
        let manifest = self.manifest();
        if manifest["complete"] == true {
            assert!(found == before || found == after, "{killed}: a mix that says it is none");
            for (name, bytes) in found.iter().filter(|(name, _)| name.ends_with(".csv")) {
                assert_eq!(manifest["files"][name]["crc32"], format!("{:08x}", crc32fast::hash(bytes)), "{killed}: {name}");
            }
        }
    }

    fn whole(&self, name: &str) {
        assert!(self.tables("out") == self.tables(name) && self.manifest()["complete"] == true);
        let is_left = |name: &String| name.starts_with('.') || name.contains(".partial");
        assert!(!self.0.names("out").iter().any(is_left), "{:?}", self.0.names("out"));
    }

    /// Kills runs that bring `out` from some tables to others, and back again, at each of these calls in turn. Returns how many it killed.
    fn kill_at_any_call(&self, calls: &[&str], names: [&str; 2], run: impl Fn(usize, &str) -> String) -> usize {
        let place = self.0;
        for (number, name) in names.into_iter().enumerate() {
            place.run(&run(number, name)).succeeds();
        }
        place.run(&run(0, "out")).succeeds();
        let mut kills = 0;
        for calls in calls {
            for k in 1.. {
                let next = k % 2;
                let code = injected::start(place, calls, "signal=KILL", k, &[], &run(next, "out")).finish().code;
                if !place.read("trace").contains("killed by SIGKILL") {
                    break;
                }
                kills += 1;
                self.check(&format!("killed at {calls} {k}, exit code {code:?}"), [names[1 - next], names[next]]);
                place.run(&run(next, "out")).succeeds();
                self.whole(names[next]);
            }
            // Whoever was met last may not have been killed.
            place.run(&run(0, "out")).succeeds();
        }
        kills
    }
}

#[test]
fn folders_are_old_or_new_or_say_that_they_are_a_mix() {
    let place = online();
    let folder = InFolder(&place);
    kill_runs(&place, "out", |killed, tables| folder.check(killed, tables), |name| folder.whole(name));
}

/// At each call that makes, syncs, replaces or removes a file, in turn.
#[test]
fn folders_of_runs_that_end_at_any_call() {
    let place = online();
    let folder = InFolder(&place);
    let run = |number: usize, out: &str| format!("{ONLINE}{} --out {out} --replace -w 1", ["", " events=in/late"][number]);
    let calls = ["rename,renameat,renameat2", "fsync,fdatasync", "unlink,unlinkat,ftruncate", "write,pwrite64"];
    let kills = folder.kill_at_any_call(&calls, ["yesterday", "today"], run);
    assert!(kills > 10, "only {kills} calls were met");
}

/// Points in the folder of the tables are of the same run, or the folder says that it is a mix.
#[test]
fn points_are_those_of_their_tables_or_the_folder_says_that_they_may_not_be() {
    let place = Place::new();
    let folder = InFolder(&place);
    for (name, seed) in [("first", 1), ("second", 2)] {
        place.run(&format!("generate brushing --out {name} --toothbrushes 1 --datasets 2 --minutes 0.2 --seed {seed}")).succeeds();
    }
    let run = |number: usize, out: &str| format!("run brushing datasets={} --out {out} -w 1", ["first", "second"][number]);
    let kills = folder.kill_at_any_call(&["rename,renameat,renameat2", "fsync,fdatasync"], ["yesterday", "today"], run);
    assert!(kills > 10, "only {kills} calls were met");
    let [yesterday, today] = ["yesterday", "today"].map(|name| folder.tables(name));
    assert!(yesterday["points.lp"] != today["points.lp"]);
    // Points alone take their name by this call, after the tables took theirs.
    injected::start(&place, "rename", "signal=KILL", 1, &[], &run(1, "out")).finish();
    let found = folder.tables("out");
    assert!(found["points.lp"] == yesterday["points.lp"] && found["brushing_jobs.csv"] == today["brushing_jobs.csv"]);
    let manifest = folder.manifest();
    assert!(manifest["complete"] == false && manifest["pending"].as_array().unwrap().contains(&"points.lp".into()), "{manifest}");
    let said = place.run(&run(1, "out")).succeeds().stderr;
    assert!(said.contains("note: repaired \"out\": "), "{said}");
    folder.whole("today");
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
