//! Several processes as one: the law, and what goes wrong between them.

use crate::support::known::{ACTIVE, ONLINE, USAGE, same};
use crate::support::program::{Failure, Place, Ran, Started};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};

/// A hosts file for two processes, on addresses that no other test has.
///
/// All of 127.0.0.0/8 is this machine. An address of one's own can't have its port taken between now and the start.
pub fn hosts(place: &Place) -> Vec<String> {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let host =
        format!("127.{}.{}.{}", std::process::id() >> 8 & 0x7f | 0x80, std::process::id() & 0xff, TAKEN.fetch_add(1, Ordering::Relaxed));
    let listeners: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind((host.as_str(), 0)).unwrap()).collect();
    let addresses: Vec<String> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    place.write("hosts", addresses.join("\n") + "\n");
    addresses
}

/// Runs both processes to their ends.
pub fn run(place: &Place, words: [&str; 2]) -> [Ran; 2] {
    hosts(place);
    let start = |process: usize| place.start(&format!("{} -n 2 -p {process} --hosts hosts", words[process]));
    let (second, first) = (start(1), start(0));
    [first.finish(), second.finish()]
}

#[test]
fn two_processes_give_the_bytes_of_one() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let words = format!("{} events=all/events.csv servers=all/servers.csv -w 2 --out out", ONLINE.run());
    let [first, second] = run(&place, [&words, &words]).map(Ran::succeeds);
    same(&place, "out", &ONLINE);
    assert!(first.stderr.contains("batch 1: "), "{}", first.stderr);
    assert_eq!((second.stdout.as_str(), second.stderr.as_str()), ("", ""), "the first process speaks for all");
}

#[test]
fn two_processes_apply_batches_in_turn() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 4);
    let then: String = parts[1..].iter().map(|part| format!(" --then '{part}'")).collect();
    let words = format!("{} {} {then} -w 1 --out out", ONLINE.run(), parts[0]);
    run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
    same(&place, "out", &ONLINE);
}

#[test]
fn two_processes_of_active_and_usage_give_the_bytes_of_one() {
    for known in [&ACTIVE, &USAGE] {
        let place = Place::new();
        place.write("events.jsonl", known.lines.join("\n"));
        let words = format!("{} events=events.jsonl -w 1 --out out", known.run());
        run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
        same(&place, "out", known);
    }
}

/// Starts a process of two on the known records in `all`.
fn start(place: &Place, process: usize) -> Started {
    place.start(&format!("{} events=all/events.csv servers=all/servers.csv -w 1 --out out -n 2 -p {process} --hosts hosts", ONLINE.run()))
}

/// A stranger on the port says something, another says nothing; both are there before the second process is.
#[test]
fn strangers_do_no_harm() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let addresses = hosts(&place);
    let first = start(&place, 0);
    knock(&addresses[0]).write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").unwrap();
    let _silent = knock(&addresses[0]);
    let second = start(&place, 1);
    first.finish().succeeds();
    second.finish().succeeds();
    same(&place, "out", &ONLINE);
}

/// Connects to a process that is about to listen.
fn knock(address: &str) -> TcpStream {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(std::time::Instant::now() < until, "{address} does not listen: {error}"),
        }
    }
}

/// A process that is suspended while it waits hears all that came meanwhile, and takes nobody for another.
#[test]
fn a_process_that_is_suspended_and_a_crowd_of_strangers() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let addresses = hosts(&place);
    let first = start(&place, 0);
    let _first = knock(&addresses[0]);
    first.signal("STOP");
    let strangers: Vec<TcpStream> = (0..100).map(|_| knock(&addresses[0])).collect();
    let second = start(&place, 1);
    first.signal("CONT");
    let _more: Vec<TcpStream> = (0..300).map_while(|_| TcpStream::connect(&addresses[0]).ok()).collect();
    first.finish().succeeds();
    second.finish().succeeds();
    drop(strangers);
    same(&place, "out", &ONLINE);
}

fn refuse_one_another(place: &Place, words: [&str; 2]) {
    for ran in run(place, words) {
        let Failure { hint, .. } = ran.fails().names(&["was started with other arguments"]);
        assert!(hint.is_some_and(|hint| hint.contains("same arguments")));
    }
    assert!(!place.has("out"));
}

#[test]
fn other_arguments_are_refused_by_both() {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    let words = "run online events=events.csv --out out";
    for other in ["-w 1 --timezone Europe/Berlin", "-w 1 --tables online_daily", "-w 1 --fleet-sizes 1,2", "-w 2"] {
        refuse_one_another(&place, [&format!("{words} -w 1"), &format!("{words} {other}")]);
    }
}

#[test]
fn other_settings_that_tables_do_not_show_are_refused_too() {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    let words = "run online events=events.csv --out out -w 1";
    refuse_one_another(&place, [words, &format!("{words} --as-of 2024-02-01T00:00:00Z")]);
    place.write("events.jsonl", "");
    let words = "run active events=events.jsonl --out out -w 1";
    refuse_one_another(&place, [words, &format!("{words} --min-engagement 5s")]);
}

#[test]
fn processes_agree_on_where_points_go() {
    let place = Place::new();
    place.write("data.csv", "2024-03-01T08:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n");
    let words = "run sensors data=data.csv -w 1";
    for [first, second] in [
        ["--points file:points.lp", ""],
        ["", "--points file:points.lp"],
        ["--points file:points.lp", "--points http://127.0.0.1:1"],
        ["--points http://127.0.0.1:1?db=a", "--points http://127.0.0.1:1?db=b"],
    ] {
        refuse_one_another(&place, [&format!("{words} {first}"), &format!("{words} {second}")]);
        assert!(!place.has("points.lp"));
    }
    // Points go to the folder of tables, which a process that has none does not know.
    for ran in run(&place, [&format!("{words} --out out"), words]) {
        ran.fails().names(&["was started with other arguments"]);
    }
    assert!(!place.has("out"), "nothing is left of what was begun");
    for ran in run(&place, [&format!("{words} --points file:/dev/null"), &format!("{words} --points file:/dev/null")]) {
        ran.fails().names(&["several processes can't write points to \"/dev/null\": it is no regular file"]);
    }
}

/// Two hosts with folders of the same name, of which each has its own.
#[test]
fn points_that_can_not_be_brought_together_are_refused_before_anything_is_read() {
    let place = Place::new();
    for folder in ["here", "there"] {
        place.write(&format!("{folder}/data.csv"), "2024-03-01T08:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n");
    }
    for flag in ["--points file:new/points.lp", "--out out"] {
        hosts(&place);
        let start = |process: usize, folder: &str| {
            let words = format!("run sensors data=data.csv -w 1 {flag} -n 2 -p {process} --hosts ../hosts");
            let mut command = place.command(&words);
            command.current_dir(place.path(folder));
            crate::support::program::Started::new(command, &words)
        };
        let (second, first) = (start(1, "there"), start(0, "here"));
        for ran in [first, second] {
            let failure = ran.finish().fails().names(&["process 1 does not see the file that process 0 collects points in"]);
            assert!(failure.hint.is_some_and(|hint| hint.contains("share")));
        }
        assert_eq!(place.names("there"), ["data.csv"]);
        assert!(!place.has("here/new/points.lp") && !place.has("here/out/points.lp"));
    }
}

/// Process 0 has the store open, and the others send it their points: what they read, and what their operators make.
#[test]
fn two_processes_write_the_store_of_one() {
    for (generate, words, measurement) in [
        ("sensors --out in --sensors 4 --days 4 --seed 3", "run sensors data=in/data.csv mapping=in/mapping.csv", "sensors.measurements"),
        ("brushing --out in --toothbrushes 3 --datasets 12 --minutes 0.5 --seed 3", "run brushing datasets=in", "brushing.brushing"),
    ] {
        let place = Place::new();
        place.run(&format!("generate {generate}")).succeeds();
        place.run(&format!("{words} --out out -w 1 --points store:one")).succeeds();
        let words = format!("{words} --out out -w 2 --points store:two");
        run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
        let points = |store: &str| place.run(&format!("query {measurement} --format csv --points store:{store}")).succeeds().stdout;
        let [one, two] = ["one", "two"].map(points);
        assert!(one.lines().count() > 500 && one == two, "{measurement}: {} and {} lines", one.lines().count(), two.lines().count());
    }
}

/// The first process finds the file; the second, which is to read a part of it, has it not.
#[test]
fn a_file_that_one_process_does_not_have() {
    let place = Place::new();
    for name in ["a", "b", "c", "d"] {
        place.write(&format!("here/{name}.csv"), "2024-03-01T08:00:00Z,1,7,3,true\n");
    }
    fs::create_dir(place.path("there")).unwrap();
    hosts(&place);
    let start = |process: usize, folder: &str| {
        let words =
            format!("run online events=a.csv events=b.csv events=c.csv events=d.csv -w 1 --out out -n 2 -p {process} --hosts ../hosts");
        let mut command = place.command(&words);
        command.current_dir(place.path(folder));
        crate::support::program::Started::new(command, &words)
    };
    let (second, first) = (start(1, "there"), start(0, "here"));
    let failure = first.finish().fails().names(&["could not open", ".csv\"", "No such file"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("nothing was written")));
    let failure = second.finish().fails().names(&["process 0 failed: could not open", ".csv\"", "No such file"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("process 0 says more")));
    assert!(!place.has("here/out"));
}

/// What is written at the end is written by the first process alone; the others are not content before it is.
#[test]
fn tables_that_can_not_be_written_fail_all_processes() {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    place.write("file", "not a folder");
    for (words, why) in [
        ("--out file", "could not create directory \"file\": a file stands where a directory is needed"),
        ("--out file/deeper", "could not create directory \"file/deeper\": a file stands where a directory is needed"),
        ("--out out --charts file", "could not "),
        ("--out postgres://me@127.0.0.1:1/tables", "onnection refused"),
        ("--out sqlite:none/x.sqlite", "there is no folder \"none\""),
    ] {
        let words = format!("run online events=events.csv -w 1 {words}");
        let [first, second] = run(&place, [&words, &words]).map(Ran::fails);
        let first = first.names(&[why]);
        let second = second.names(&[&format!("process 0 failed: {}", first.error)]);
        assert!(second.hint.is_some_and(|hint| hint.contains("process 0 says more")));
    }
}

/// A file of points is new and complete, or the old one, whichever process fails.
#[test]
fn points_that_are_not_all_there_are_not_there() {
    let place = Place::new();
    for folder in ["here", "there"] {
        for number in 0..4 {
            place.write(&format!("{folder}/{number}.csv"), format!("2024-03-01T0{number}:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n"));
        }
    }
    let start = |process: usize, folder: &str| {
        let words = format!(
            "run sensors data=0.csv --then data=1.csv --then 'data=2.csv data=3.csv' -w 1 --points file:{}/points.lp -n 2 -p {process} --hosts ../hosts",
            place.path("here").display()
        );
        let mut command = place.command(&words);
        command.current_dir(place.path(folder));
        crate::support::program::Started::new(command, &words)
    };
    let points = || place.files("here").into_iter().filter(|(name, _)| name.starts_with("points")).collect::<Vec<_>>();
    // The second process has not got the last files.
    fs::remove_file(place.path("there/2.csv")).unwrap();
    fs::remove_file(place.path("there/3.csv")).unwrap();
    for old in [None, Some("old\n")] {
        old.iter().for_each(|old| place.write("here/points.lp", old));
        let before = points();
        hosts(&place);
        let (second, first) = (start(1, "there"), start(0, "here"));
        first.finish().fails().names(&["could not open"]);
        second.finish().fails().names(&["process 0 failed: "]);
        assert_eq!(points(), before);
    }
    hosts(&place);
    let (second, first) = (start(1, "here"), start(0, "here"));
    let said = first.finish().succeeds().stderr;
    second.finish().succeeds();
    assert!(said.contains("here/points.lp\n") && !said.contains("partial"), "{said}");
    assert_eq!(place.read("here/points.lp").lines().count(), 4);
    assert_eq!(points().len(), 1);
}

#[test]
fn addresses_that_can_not_be() {
    let place = Place::new();
    place.write("events.csv", "");
    place.write("hosts", "127.0.0.1:1\n");
    let run = |words: &str| place.run(&format!("run online events=events.csv {words}"));
    run("-n 2 -p 0 --hosts hosts").fails_as_wrong_usage().names(&["\"hosts\"", "1 addresses for 2 processes"]);
    run("-n 2 -p 0 --hosts none").fails_as_wrong_usage().names(&["could not read --hosts \"none\""]);
    run("--hosts hosts").fails_as_wrong_usage().names(&["--hosts without --processes"]);
    run("-n 2 -p 2").fails_as_wrong_usage().names(&["can't be process 2 of 2"]);
    run("-w 0").fails_as_wrong_usage().names(&["0 workers"]);
    place.write("hosts", "no.such.host.invalid:2101\n127.0.0.1:2101\n");
    place.write("secret", "the secret of a cluster");
    run("-n 2 -p 0 --hosts hosts --secret-file secret --join-timeout 1s")
        .fails()
        .names(&["could not listen on \"no.such.host.invalid:2101\""]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    place.write("hosts", format!("{}\n127.0.0.1:2101\n", taken.local_addr().unwrap()));
    run("-n 2 -p 0 --hosts hosts").fails().names(&["could not listen on \"127.0.0.1:"]);
}

/// Each process runs in a folder of its own. A copy is the same file; one that is cut off is not.
#[test]
fn processes_that_have_other_files_under_one_path_fail() {
    let (place, other) = (Place::new(), Place::new());
    ONLINE.write_csv(&place, "all");
    for name in ["all/events.csv", "all/servers.csv"] {
        other.write(name, place.read(name));
    }
    let both = || {
        hosts(&place);
        other.write("hosts", place.read("hosts"));
        let words = |process| {
            format!("{} events=all/events.csv servers=all/servers.csv -w 1 --out out -n 2 -p {process} --hosts hosts", ONLINE.run())
        };
        let (second, first) = (other.start(&words(1)), start(&place, 0));
        [first.finish(), second.finish()]
    };
    both().into_iter().for_each(|ran| drop(ran.succeeds()));
    same(&place, "out", &ONLINE);
    let servers = place.read("all/servers.csv");
    let half = servers.len() / 2;
    let cut = &servers[..servers[..half].rfind('\n').unwrap() + 1];
    other.write("all/servers.csv", cut);
    let events = place.read("all/events.csv");
    other.write("all/events.csv", &events[..events[..events.len() / 2].rfind('\n').unwrap() + 1]);
    let [first, second] = both();
    let failure = first.fails().names(&["could not open \"all/", "on process 1 (127.", "another file than that of process 0"]);
    assert_eq!(failure.hint.as_deref(), Some("nothing was written; every process must have the same files under the same paths"));
    second.fails();
}

/// The files of datasets likewise: those of a folder, and those that jobs name.
#[test]
fn processes_that_have_other_files_of_datasets_fail() {
    let (place, other) = (Place::new(), Place::new());
    let both = |words: &str| {
        hosts(&place);
        other.write("hosts", place.read("hosts"));
        let words = |process| format!("run brushing {words} -w 1 -n 2 -p {process} --hosts hosts");
        let (second, first) = (other.start(&words(1)), place.start(&words(0)));
        [first.finish(), second.finish()]
    };
    let (mut jobs, mut paths) = (String::new(), Vec::new());
    let settings = "{\"time\":1700000000,\"tick\":0,\"battery\":0.9,\"tick_interval\":0.5}\n";
    for number in 0..4 {
        let folder = format!("in/b/{number}");
        for name in ["brushing.csv", "settings.jsonlines"] {
            let text = if name == "brushing.csv" { "0,1,0.5\n1,1,0.5\n" } else { settings };
            [&place, &other].iter().for_each(|place| place.write(&format!("{folder}/{name}"), text));
        }
        let [brushing, settings] = ["brushing.csv", "settings.jsonlines"].map(|name| format!("{folder}/{name}"));
        jobs += &format!("{{\"toothbrush_id\":\"b\",\"job_id\":\"{number}\",\"brushing\":\"{brushing}\",\"settings\":\"{settings}\"}}\n");
        paths.push(brushing);
    }
    place.write("jobs.jsonl", jobs);
    for words in ["datasets=in", "datasets=jobs.jsonl"] {
        let [first, second] = both(words).map(Ran::succeeds);
        assert!(first.stderr.contains("batch 1: 4 records, 0 late, 0 rejected, from 4 datasets ("), "{}", first.stderr);
        assert_eq!(second.stderr, "");
    }
    for (text, found) in [(Some("0,1,0.5\n"), "and here 8 bytes with ends of hash "), (None, "and here missing")] {
        for path in &paths {
            match text {
                Some(text) => other.write(path, text),
                None => fs::remove_file(other.path(path)).unwrap(),
            }
        }
        for words in ["datasets=in", "datasets=jobs.jsonl"] {
            let [first, second] = both(words);
            let parts = [
                "could not open \"in/b/",
                "brushing.csv\" on process 1 (127.",
                "it is another file than that of process 0: there it is 16 bytes",
                found,
            ];
            let failure = first.fails().names(&parts);
            assert_eq!(failure.hint.as_deref(), Some("nothing was written; every process must have the same files under the same paths"));
            second.fails().names(&["process 0 failed: could not open"]);
        }
    }
}
