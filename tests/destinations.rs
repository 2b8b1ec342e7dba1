//! Places where tables go: one writer at a time, signals in the middle, and what a replaced file keeps.

use crate::databases::Database;
use crate::support::program::{Failure, Place, Started};
use crate::support::sqlite_file::SqliteFile;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

const EVENTS: &str = "timestamp,device_id,user_id,server_id,connected\n2024-03-01T08:00:00Z,1,7,3,true\n2024-03-02T08:00:00Z,1,7,3,false\n";

fn place() -> Place {
    let place = Place::new();
    place.write("events.csv", EVENTS);
    place
}

/// A run that reads its input until it is given.
fn waiting(place: &Place, words: &str) -> Started {
    let words = format!("run online events=- --input-format csv -w 1 {words}");
    let mut command = place.command(&words);
    command.stdin(Stdio::piped());
    Started::new(command, &words)
}

/// The second run is refused before it reads anything, and told who writes; the first one is not disturbed.
fn one_writer(place: &Place, out: &str, lock: &str) {
    let mut first = waiting(place, &format!("--out {out}"));
    first.until("its lock", || place.has(lock));
    let id = format!("process {} on ", first.id());
    let Failure { hint, .. } = place.run(&format!("run online events=events.csv --out {out}")).fails().names(&[
        out,
        &id,
        "retally run online",
        "is writing there",
    ]);
    assert!(hint.is_some_and(|hint| hint.contains("nothing was written") && hint.contains("when it is done")));
    first.give(EVENTS);
    first.finish().succeeds();
    assert!(!place.has(lock));
    // A lock ends with its process, however that ends.
    let mut killed = waiting(place, &format!("--out {out}"));
    killed.until("its lock", || place.has(lock));
    killed.signal("KILL");
    assert_eq!(killed.finish().code, None);
    assert!(place.has(lock));
    place.run(&format!("run online events=events.csv --out {out}")).succeeds();
    assert!(!place.has(lock));
}

/// What is read is not written over, whatever it is called.
#[test]
fn no_output_is_one_of_the_inputs() {
    let place = place();
    place.run("generate brushing --out q --toothbrushes 1 --datasets 1 --minutes 0.2").succeeds();
    let stream = fs::read_dir(place.path("q")).unwrap().next().unwrap().unwrap().path();
    let stream = fs::read_dir(stream).unwrap().next().unwrap().unwrap().path().join("brushing.csv");
    let ticks = fs::read(&stream).unwrap();
    fs::copy(place.path("events.csv"), place.path("online_daily.csv")).unwrap();
    symlink("events.csv", place.path("link.csv")).unwrap();
    let refused = |words: &str, names: &[&str]| {
        let failure = place.run(words).fails_as_wrong_usage().names(names);
        assert!(failure.hint.is_some_and(|hint| hint.contains("give another place")), "{words}");
    };
    refused("run online events=events.csv --changes events.csv", &["--changes", "over the input \"events.csv\""]);
    refused("run online events=events.csv --changes link.csv", &["\"link.csv\" over the input \"events.csv\""]);
    refused("run online events=events.csv --then events=link.csv --changes events.csv", &["over the input"]);
    refused("run online events=*s.csv --out sqlite:./events.csv", &["--out"]);
    refused("run online events=online_daily.csv --out . --tables online_daily", &["--out would write \"./online_daily.csv\""]);
    refused("run online --state state --sync events=. --changes ./online_daily.csv", &["over the input"]);
    refused(&format!("run brushing datasets=q --points file:{}", stream.display()), &["--points", "brushing.csv"]);
    // Of two processes the second hears of it, and the first has made nothing by then.
    let run =
        |process: usize| place.start(&format!("run online events=events.csv -w 1 --out sqlite:events.csv -n 2 -p {process} --hosts hosts"));
    crate::processes::hosts(&place);
    let (second, first) = (run(1), run(0));
    first.finish().fails_as_wrong_usage().names(&["--out would write", "over the input \"events.csv\""]);
    assert_ne!(second.finish().code, Some(0));
    fs::remove_file(place.path("hosts")).unwrap();
    assert_eq!((place.read("events.csv"), place.read("online_daily.csv")), (EVENTS.to_string(), EVENTS.to_string()));
    assert!(fs::read(&stream).unwrap() == ticks && !place.has("state"));
    assert_eq!(place.names("."), ["events.csv", "link.csv", "online_daily.csv", "q"]);
    // Beside the inputs there is place.
    place.run("run brushing datasets=q --out q").succeeds();
    place.run("run brushing datasets=q --out q").succeeds();
}

#[test]
fn outputs_that_are_in_each_others_way_are_refused_before_anything_is_read() {
    let place = place();
    for (words, names) in [
        ("--out o --changes o", ["--changes \"o\"", "--out \"o\""]),
        ("--out o --changes ./o/online_daily.csv", ["--changes", "--out \"o/online_daily.csv\""]),
        ("--charts o/charts --changes o", ["--changes \"o\"", "--charts \"o/charts\""]),
        ("--state o --changes o", ["--changes \"o\"", "--state \"o\""]),
    ] {
        let failure = place.run(&format!("run online events=none.csv {words}")).fails_as_wrong_usage().names(&names);
        assert_eq!(failure.hint.as_deref(), Some("give each a place of its own"));
    }
    for charts in ["events.csv", "events.csv/below"] {
        let failure = place.run(&format!("run online events=none.csv --out o --charts {charts}")).fails();
        assert!(failure.names(&["could not write charts into \"events.csv"]).hint.is_some_and(|hint| hint.contains("give a folder")));
    }
    assert_eq!(place.names("."), ["events.csv"]);
    fs::create_dir(place.path("o")).unwrap();
    place.run("run online events=events.csv --out o --charts o --changes o/changes.ndjson -q").succeeds();
}

#[test]
fn a_folder_has_one_writer() {
    let place = place();
    one_writer(&place, "a/out", "a/out/.retally.lock");
    place.run("run online events=events.csv --out expected").succeeds();
    assert!(place.files("a/out") == place.files("expected") && place.has("expected/retally.json"));
    symlink("a/out", place.path("link")).unwrap();
    one_writer(&place, "link", "a/out/.retally.lock");
}

#[test]
fn an_sqlite_file_has_one_writer() {
    let place = place();
    one_writer(&place, "sqlite:new.sqlite", "new.sqlite.lock");
    assert_eq!(SqliteFile::new(&place, "new.sqlite").table("online_intervals").len(), 1);
    symlink("new.sqlite", place.path("link")).unwrap();
    one_writer(&place, "sqlite:link", "new.sqlite.lock");
    assert_eq!(place.names("."), ["events.csv", "link", "new.sqlite"]);
}

/// Nothing is left of a run that a signal ends, wherever it was, and what was there is as it was.
#[test]
fn signals_end_a_run_in_order() {
    let place = place();
    for old in [false, true] {
        for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            let before = place.names(".");
            let files = old.then(|| place.files("out"));
            let mut run = waiting(&place, "--out out --changes changes");
            run.until("its lock", || place.has("out/.retally.lock") && place.names(".").len() > before.len());
            run.signal(signal);
            let failure = run.finish().ends_by_signal(code).names(&[&format!("interrupted by SIG{signal}")]);
            assert!(failure.hint.is_some_and(|hint| hint.contains("no table was written")));
            assert_eq!(place.names("."), before);
            assert!(files == old.then(|| place.files("out")));
        }
        place.run("run online events=events.csv --out out").succeeds();
    }
}

/// A second signal does not wait. What it leaves, the next run removes.
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let place = place();
    let mut run = waiting(&place, "--out out --changes changes");
    run.until("its lock", || place.has("out/.retally.lock") && place.names(".").len() > 2);
    run.signal("TERM");
    run.signal("INT");
    let code = run.finish().code;
    assert!([Some(130), Some(143)].contains(&code), "{code:?}");
    place.run("run online events=events.csv --out out --changes changes").succeeds();
    assert_eq!(place.names("."), ["changes", "events.csv", "out"]);
    assert!(place.names("out").iter().all(|name| !name.starts_with('.')), "{:?}", place.names("out"));
}

/// What a killed run left is recognised by its lock, and not by its age.
#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let place = place();
    let mut run = waiting(&place, "--out out --changes changes");
    run.until("its lock", || place.has("out/.retally.lock") && place.names(".").len() > 2);
    let living = place.names(".");
    // Another run leaves alone what this one is writing.
    place.run("run online events=events.csv --changes others").succeeds();
    assert!(living.iter().all(|name| place.has(name)));
    run.signal("KILL");
    run.finish();
    assert!(living.iter().all(|name| place.has(name)));
    place.run("run online events=events.csv --out out --changes changes").succeeds();
    assert_eq!(place.names("."), ["changes", "events.csv", "others", "out"]);
}

/// A transaction that a signal meets is rolled back, and of a new file nothing is left.
#[test]
fn a_signal_in_a_transaction_rolls_it_back() {
    let place = Place::new();
    place.run("generate online --out in --devices 3000 --days 40").succeeds();
    let words = "run online events=in/events.csv servers=in/servers.csv -w 2 --out sqlite:tables.sqlite";
    let mut interrupted = 0;
    while interrupted == 0 {
        let mut run = place.start(words);
        run.until("its transaction", || place.has("tables.sqlite-journal"));
        run.signal("TERM");
        let ran = run.finish();
        if ran.stderr.contains("no table was written") {
            ran.ends_by_signal(143);
            interrupted += 1;
            assert_eq!(place.names("."), ["in"]);
        } else {
            // It was faster.
            fs::remove_file(place.path("tables.sqlite")).unwrap();
        }
    }
    place.run(words).succeeds();
    let mut run = place.start(&format!("{words} --as-of 2024-01-10T00:00:00Z --replace"));
    let before = SqliteFile::new(&place, "tables.sqlite").table("online_daily");
    run.until("its transaction", || place.has("tables.sqlite-journal"));
    run.signal("INT");
    let ran = run.finish();
    if ran.stderr.contains("no table was written") {
        assert_eq!(SqliteFile::new(&place, "tables.sqlite").table("online_daily"), before);
    }
    assert_eq!(place.names("."), ["in", "tables.sqlite"]);
}

/// Whether a process has a handler for SIGINT, by what Linux says of it.
fn catches_interrupts(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    caught.is_some_and(|caught| caught >> 1 & 1 == 1)
}

/// Who gets the signal ends by it; the other processes are told, or hear it themselves.
#[test]
fn signals_end_all_processes() {
    let place = place();
    for both in [false, true] {
        crate::processes::hosts(&place);
        let words = "--out out --changes changes -n 2 --hosts hosts";
        let mut second = waiting(&place, &format!("{words} -p 1"));
        let mut first = waiting(&place, &format!("{words} -p 0"));
        let before = ["events.csv", "hosts"];
        // Before it does, a signal ends it as it ends any program.
        let id = second.id();
        second.until("it listens to signals", || catches_interrupts(id));
        first.until("its lock", || place.has("out/.retally.lock") && place.names(".").len() > 3);
        first.signal("INT");
        if both {
            second.signal("INT");
        }
        first.finish().ends_by_signal(130).names(&["interrupted by SIGINT"]);
        let ran = second.finish();
        match both {
            true => drop(ran.ends_by_signal(130)),
            // It hears of it from process 0, or that process 0 is gone.
            false if ran.code == Some(5) => drop(ran.must_start_again().names(&["lost process 0"])),
            false => drop(ran.fails().names(&["process 0 failed"])),
        }
        assert_eq!(place.names("."), before);
    }
}

/// A process that is killed is missed by the others, which clean up behind themselves.
#[test]
fn a_process_that_is_killed_fails_the_others() {
    let place = place();
    crate::processes::hosts(&place);
    let words = "--out out --changes changes -n 2 --hosts hosts";
    let second = waiting(&place, &format!("{words} -p 1"));
    let mut first = waiting(&place, &format!("{words} -p 0"));
    // It reads when all are connected.
    first.until("its lock", || place.has("out/.retally.lock") && place.names(".").len() > 3);
    let id = first.id();
    first.until("its connection of workers", || crate::cluster::has_thread(id, "timely:recv"));
    second.signal("KILL");
    second.finish();
    first.finish().must_start_again().names(&["lost process 1"]);
    assert_eq!(place.names("."), ["events.csv", "hosts"]);
}

/// A table in a folder and the file of changes keep their modes, and links to them stay links.
#[test]
fn replaced_files_keep_mode_and_link() {
    let place = place();
    let words = "run online events=events.csv --out out --changes changes --charts charts";
    place.run(words).succeeds();
    fs::create_dir(place.path("elsewhere")).unwrap();
    for (number, file) in ["out/online_daily.csv", "out/retally.json", "changes", "charts/online_daily.svg"].iter().enumerate() {
        let target = place.path(&format!("elsewhere/{number}"));
        fs::rename(place.path(file), &target).unwrap();
        symlink(&target, place.path(file)).unwrap();
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    }
    fs::set_permissions(place.path("out/online_summary.csv"), fs::Permissions::from_mode(0o604)).unwrap();
    place.run(words).succeeds();
    let mode = |path: &str| fs::metadata(place.path(path)).unwrap().permissions().mode() & 0o777;
    for file in ["out/online_daily.csv", "out/retally.json", "changes", "charts/online_daily.svg"] {
        assert!(fs::symlink_metadata(place.path(file)).unwrap().is_symlink(), "{file}");
        assert!(mode(file) == 0o640 && place.read(file).len() > 10, "{file}");
    }
    assert_eq!(mode("out/online_summary.csv"), 0o604);
}

/// So do points, in the folder of the tables and elsewhere, and whichever processes write them.
#[test]
fn replaced_points_keep_mode_and_link() {
    let place = Place::new();
    for number in 0..4 {
        place.write(&format!("{number}.csv"), format!("2024-03-01T0{number}:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n"));
    }
    let run = "run sensors data=0.csv data=1.csv data=2.csv data=3.csv -w 1";
    for (flag, file) in [("--out out", "out/points.lp"), ("--points file:p.lp", "p.lp")] {
        let words = format!("{run} {flag}");
        place.run(&words).succeeds();
        let new = place.read(file);
        assert!(new.lines().count() >= 4);
        place.write("elsewhere/points", "old");
        fs::remove_file(place.path(file)).unwrap();
        symlink(place.path("elsewhere/points"), place.path(file)).unwrap();
        for mode in [0o640, 0o604, 0o440] {
            for processes in [1, 2] {
                place.write("old", "old");
                fs::set_permissions(place.path("old"), fs::Permissions::from_mode(mode)).unwrap();
                fs::rename(place.path("old"), place.path("elsewhere/points")).unwrap();
                if processes == 1 {
                    place.run(&words).succeeds();
                } else {
                    crate::processes::run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
                }
                let what = format!("{file}, {mode:o}, {processes} processes");
                assert!(fs::symlink_metadata(place.path(file)).unwrap().is_symlink(), "{what}");
                let found = fs::metadata(place.path("elsewhere/points")).unwrap().permissions().mode() & 0o777;
                assert_eq!((found, place.names("elsewhere")), (mode, vec!["points".to_string()]), "{what}");
                assert_eq!(crate::brushing::sorted(&place.read("elsewhere/points")), crate::brushing::sorted(&new), "{what}");
            }
        }
    }
}
