//! How a run is asked for, and what it tells of itself.

use crate::support::program::{Place, Started};
use std::process::Stdio;
use std::time::SystemTime;

fn place() -> Place {
    let place = Place::new();
    place.write("events.csv", "2024-03-02T08:00:00Z,1,7,3,true\n2024-03-02T12:00:00Z,1,7,3,false\n2024-03-04T00:00:00Z,2,8,3,true\n");
    place.write("late.csv", "2024-03-01T08:00:00Z,3,8,3,true\n2024-03-01T10:00:00Z,3,8,3,false\n2024-03-04T00:00:00Z,4,8,3,true\n");
    place
}

/// The summaries without the times that were taken.
fn summaries(stderr: &str) -> Vec<String> {
    stderr
        .lines()
        .filter(|line| !line.starts_with("wrote "))
        .map(|line| line.rsplit_once(" in ").map_or(line, |(head, _)| head).into())
        .collect()
}

#[test]
fn each_batch_is_summed_up() {
    let place = place();
    let then = "--then events=late.csv --then events=late.csv --then 'events-=events.csv events-=late.csv'";
    let ran = place.run(&format!("run online events=events.csv {then} --tables online_daily,online_issues --out out")).succeeds();
    let expected = [
        // 2024-03-02 and 2024-03-04, and three events of a server that is not known.
        "batch 1: 3 records, 0 late, 0 rejected, from 1 file (97 B)",
        "  online_daily: 2 rows changed",
        "  online_issues: 1 row changed",
        // Device 4 came at the latest time that was known: that is not late.
        "batch 2: 3 records, 2 late, 0 rejected, from 1 file (97 B)",
        "  online_daily: 3 rows changed",
        "  online_issues: 2 rows changed",
        "batch 3: 3 records, 2 late, 0 rejected, from 1 file (97 B)",
        "batch 4: 0 records, 6 retracted, 0 late, 0 rejected, from 2 files (194 B)",
        "  online_daily: 3 rows changed",
        "  online_issues: 2 rows changed",
    ];
    let said = summaries(&ran.stderr);
    assert_eq!(said, expected, "{}", ran.stderr);
    let wrote: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("wrote ")).collect();
    assert_eq!(wrote, ["wrote out/online_daily.csv", "wrote out/online_issues.csv", "wrote out/rejected.csv"]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn files_that_are_passed_over_are_named() {
    let place = Place::new();
    place.write("in/a.csv", "2024-03-02T08:00:00Z,1,7,3,true\n");
    place.write("in/README.md", "");
    place.write("in/deep/_SUCCESS", "");
    let said = place.run("run online events=in --out out").succeeds().stderr;
    assert!(said.contains("passed over 2 files whose names are not those of input, \"in/README.md\" the first"), "{said}");
}

#[test]
fn quiet_says_nothing() {
    let place = place();
    for option in ["-q", "--quiet"] {
        let ran = place.run(&format!("run online events=events.csv --out out {option}")).succeeds();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    }
    let ran = place.run("run online events=events.csv --tables online_issues -q").succeeds();
    assert_eq!((ran.stdout.lines().next(), ran.stderr.as_str()), (Some("online_issues: 1 row"), ""));
}

#[test]
fn as_of_cuts_and_leaves_out() {
    let place = place();
    let intervals = |options: &str| {
        place.run(&format!("run online events=events.csv --tables online_intervals --out out {options}")).succeeds();
        place.read("out/online_intervals.csv").lines().skip(1).map(String::from).collect::<Vec<_>>()
    };
    let still = |until: &str| format!("1,7,3,2024-03-02T08:00:00Z,{until},still_online");
    assert_eq!(intervals("--as-of 2024-03-02T09:00:00Z"), [still("2024-03-02T09:00:00Z")]);
    assert_eq!(intervals("'--as-of=2024-03-02 10:30:00+01'"), [still("2024-03-02T09:30:00Z")]);
    assert_eq!(
        intervals("--as-of 2024-03-02T09:00:00 --timezone America/New_York")[1..],
        ["2,8,3,2024-03-04T00:00:00Z,2024-03-04T00:00:00Z,still_online"; 0]
    );
    assert_eq!(intervals("--as-of 2024-03-02T04:30:00 --timezone America/New_York"), [still("2024-03-02T09:30:00Z")]);
    assert_eq!(intervals("--as-of 2024-03-01T00:00:00Z"), [""; 0]);
    let later = ["1,7,3,2024-03-02T08:00:00Z,2024-03-02T12:00:00Z,offline", "2,8,3,2024-03-04T00:00:00Z,2025-01-01T00:00:00Z,still_online"];
    assert_eq!(intervals("--as-of 2025-01-01T00:00:00Z"), later);
}

#[test]
fn as_of_now_is_the_clock() {
    let place = place();
    let micros = || i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let text = |micros| retally_core::time::Moment(micros).to_string();
    let from = text(micros() / 1_000_000 * 1_000_000 - 3_600_000_000);
    place.write("events.csv", format!("{from},1,7,3,true\n"));
    let before = text(micros());
    place.run("run online events=events.csv --as-of now --tables online_intervals --out out").succeeds();
    let table = place.read("out/online_intervals.csv");
    let until = table.lines().nth(1).unwrap().split(',').nth(4).unwrap();
    assert!(before.as_str() <= until && until <= text(micros()).as_str(), "{table}");
}

#[test]
fn days_are_those_of_the_zone() {
    let place = Place::new();
    place.write("events.csv", "2026-03-29 00:30:00,1,7,1,true\n2026-03-30 12:00:00,1,7,1,false\n2026-04-02 00:00:00,2,7,1,true\n");
    let summary = |options: &str| {
        place.run(&format!("run online events=events.csv --tables online_summary --out out {options}")).succeeds();
        place.read("out/online_summary.csv").lines().skip(1).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(summary(""), ["2026-03-29,1,1,23.5,1", "2026-03-30,1,1,12,0", "2026-04-02,1,1,0,1"]);
    assert_eq!(summary("'--as-of=2026-03-30 06:00:00'"), ["2026-03-29,1,1,23.5,1", "2026-03-30,1,1,6,0"]);
    // The clocks of Berlin go forward that night: the day has 23 hours.
    assert_eq!(summary("--timezone Europe/Berlin"), ["2026-03-29,1,1,22.5,1", "2026-03-30,1,1,12,0", "2026-04-02,1,1,0,1"]);
    assert_eq!(summary("--timezone -05:00"), summary("--timezone=-05:00"));
}

/// Whoever reads the answer may have seen enough; what else was asked for is done all the same.
#[test]
fn a_pipe_that_is_closed_is_no_failure() {
    let place = place();
    place.run("generate online --out in --devices 300 --days 60").succeeds();
    for words in [
        "run online events=in/events.csv servers=in/servers.csv --charts charts --changes changes.ndjson",
        "run online events=in/events.csv --changes /dev/stdout --out out",
        "completions bash",
        "man",
        "--help",
        "run online --help",
        "generate online --out again",
    ] {
        let mut command = place.command(words);
        command.stdout(closed_pipe());
        let ran = Started::new(command, words).finish().succeeds();
        assert!(!ran.stderr.contains("error"), "{words}: {}", ran.stderr);
        // Nobody listens to progress and summaries either.
        let mut command = place.command(words);
        command.stderr(closed_pipe());
        Started::new(command, words).finish().succeeds();
    }
    assert!(place.has("charts/online_daily.svg") && place.has("changes.ndjson") && place.has("again/events.csv"));
    let mut command = place.command("run online events=none.csv");
    command.stderr(closed_pipe());
    assert_eq!(Started::new(command, "run online events=none.csv").finish().code, Some(1), "the exit code says it still");
}

/// The end of a pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn generated_input_is_the_same_for_the_same_options() {
    let place = Place::new();
    for dataflow in ["online", "active", "usage"] {
        let generate = |out: &str, options: &str| {
            place.run(&format!("generate {dataflow} --days 5 --late 20 --out {dataflow}/{out} {options}")).succeeds();
            (place.files(&format!("{dataflow}/{out}")), place.files(&format!("{dataflow}/{out}/late")))
        };
        let first = generate("first", "");
        assert_eq!(first.1.len(), 1);
        assert!(first.0.values().chain(first.1.values()).all(|bytes| !bytes.is_empty()));
        assert!(generate("again", "") == first, "{dataflow}");
        assert!(generate("other", "--seed 2") != first, "{dataflow}");
    }
}

/// Somebody's own file has the name of a generated one.
#[test]
fn generated_input_replaces_no_file_of_others() {
    let place = Place::new();
    let generate = |words: &str| place.run(&format!("generate online --devices 5 --days 5 {words}"));
    place.write("mine/events.csv", "timestamp,device_id\n");
    let failure = generate("--out mine").fails().names(&["\"mine/events.csv\" is there, and is not what these options generate"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--replace")));
    assert_eq!(place.names("mine"), ["events.csv"]);
    assert_eq!(place.read("mine/events.csv"), "timestamp,device_id\n");
    generate("--out again").succeeds();
    generate("--out again").succeeds();
    let generated = place.files("again");
    generate("--out again --seed 2").fails().names(&["again/events.csv"]);
    // Longer, and shorter.
    place.write("again/servers.csv", place.read("again/servers.csv") + "1,2,3\n");
    generate("--out again").fails().names(&["again/servers.csv"]);
    place.write("again/servers.csv", "");
    generate("--out again").fails().names(&["again/servers.csv"]);
    generate("--out again --replace").succeeds();
    assert!(place.files("again") == generated);
    place.write("demo/input/events.csv", "mine");
    place.run("demo --out demo").fails().names(&["demo/input/events.csv"]);
    place.write("other/charts/online_daily.svg", "mine");
    place.run("demo --out other").fails().names(&["\"other/charts\", which is of no demo"]);
    assert_eq!(place.read("demo/input/events.csv") + &place.read("other/charts/online_daily.svg"), "minemine");
}

/// Two demos at once are not in each other's way.
#[test]
fn a_demo_has_a_new_folder() {
    let place = Place::new();
    std::fs::create_dir(place.path("temporary")).unwrap();
    let demo = || {
        let mut command = place.command("demo active");
        command.env("TMPDIR", place.path("temporary"));
        Started::new(command, "demo active")
    };
    let both = [demo(), demo()].map(|started| started.finish().succeeds().stdout);
    let folders = place.names("temporary");
    assert_eq!(folders.len(), 2, "{folders:?}");
    for folder in folders {
        assert!(folder.starts_with("retally-demo-active-") && both.iter().filter(|said| said.contains(&folder)).count() == 1, "{folder}");
        assert!(place.has(&format!("temporary/{folder}/charts")) && place.has(&format!("temporary/{folder}/input/late")));
    }
}

/// Each dataflow has a demo, and its late batch changes rows of the table that people look at.
#[test]
fn demo_shows_what_comes_late_and_what_it_changes() {
    let place = Place::new();
    for (dataflow, late, table) in [
        ("online", "5 events", "online_daily"),
        ("active", "5 events", "active_user_table"),
        ("usage", "5 events", "usage_history"),
        ("brushing", "5 datasets", "brushing_daily"),
        // Gaps leave fewer measurements than are counted on.
        ("sensors", "4 events", "sensor_summary"),
    ] {
        let said = place.run(&format!("demo {dataflow} --out {dataflow}")).succeeds().stdout;
        let (_, rest) = said.split_once(&format!("{late} come late. What do they change?\n")).unwrap_or_else(|| panic!("{said}"));
        let (changes, rest) = rest.split_once("\nbatch 2: ").unwrap_or_else(|| panic!("{said}"));
        let rows: Vec<&str> = changes.lines().skip_while(|line| *line != table).skip(1).take_while(|line| line.starts_with(' ')).collect();
        assert!(rows.iter().any(|row| row.starts_with("  + ")), "{dataflow} changes no {table}: {changes}");
        let records = late.replace("events", "records");
        assert!(dataflow == "brushing" || rest.starts_with(&format!("{records}, ")) && rest.contains(" 0 rejected"), "{said}");
        let charts = place.names(&format!("{dataflow}/charts"));
        assert!(!charts.is_empty() && charts.iter().all(|chart| said.contains(chart)), "{said}");
    }
    // What is shown first is without what comes late.
    let said = place.run("demo --out online").succeeds().stdout;
    let alone = place.run("run online events=online/input/events.csv servers=online/input/servers.csv").succeeds().stdout;
    let issues = alone.split("\n\n").find(|table| table.starts_with("online_issues: ")).unwrap();
    assert!(said.contains(issues.trim_end()), "{issues} is not in\n{said}");
}
