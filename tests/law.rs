//! The same records give the same bytes, however they are written, split, repeated and spread.

use crate::program::{Folder, text};
use std::io::Write;
use std::net::TcpListener;

const HEADER: &str = "timestamp,device_id,user_id,server_id,connected";

/// Generated input: the lines of events, and the servers beside them.
fn input(folder: &Folder) -> Vec<String> {
    folder.ok(&["generate", "online", "--out", "in", "--devices", "60", "--days", "40", "--mess", "0.1"]);
    folder.read("in/events.csv").lines().skip(1).map(String::from).collect()
}

fn check(folder: &Folder, expected: &str, what: &str, arguments: &[&str]) {
    let mut all = vec!["run", "online", "servers=in/servers.csv", "--out", "other", "-q"];
    all.extend(arguments);
    folder.ok(&all);
    assert_eq!(folder.tables("other"), expected, "{what}");
}

#[test]
fn one_set_of_records_is_one_set_of_tables() {
    let folder = Folder::new();
    let lines = input(&folder);
    folder.ok(&["run", "online", "servers=in/servers.csv", "events=in/events.csv", "--out", "out", "-q", "-w", "1"]);
    let expected = folder.tables("out");
    let all = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let json = |line: &String| {
        let fields: Vec<&str> = line.split(',').collect();
        let [time, device, user, server, connected] = fields[..] else { panic!("{line}") };
        format!(
            r#"{{"timestamp":"{time}","device_id":{device},"user_id":"{user}","server_id":{server},"connected":{connected},"x":[1,{{}}]}}"#
        )
    };

    let half = lines.len() / 2;
    let mut shuffled = lines.clone();
    shuffled.sort_by_key(|line| line.bytes().rev().collect::<Vec<u8>>());
    folder.write("shuffled.csv", all(&shuffled));
    folder.write("parts/a.csv", all(&lines[..half]));
    folder.write("parts/deep/b.csv", format!("{HEADER}\n{}", all(&lines[half / 2..])));
    folder.write("parts/_SUCCESS", "");
    folder.write("semicolon.csv", format!("\u{feff}{}", all(&lines).replace(',', ";").replace('\n', "\r\n")));
    folder.write("tabs.csv", format!("{HEADER}\n{}", all(&lines)).replace(',', "\t"));
    let reordered = lines.iter().map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        format!("{},\"a \"\"note\"\",\nof two lines\",{},{},{},{}\n", fields[4], fields[3], fields[1], fields[0], fields[2])
    });
    folder.write("reordered.csv", format!("connected,note,SERVER_ID,device_id,timestamp,user_id\n{}", reordered.collect::<String>()));
    folder.write("lines.jsonl", lines.iter().map(|line| json(line) + "\n\n").collect::<String>());
    folder.write("array.json", format!("[\n{}\n]\n", lines.iter().map(json).collect::<Vec<_>>().join(",\n")));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(all(&lines).as_bytes()).unwrap();
    folder.write("packed.csv.gz", gzip.finish().unwrap());
    folder.write("packed.csv.zst", zstd::encode_all(all(&lines).as_bytes(), 1).unwrap());
    folder.write("more.csv", "2023-01-05T10:00:00Z,100001,1,1,true\n2023-01-06T10:00:00Z,100002,1,1,false\n");

    for workers in ["1", "2", "3"] {
        check(&folder, &expected, "as it was", &["events=in/events.csv", "-w", workers]);
        check(&folder, &expected, "in another order", &["events=shuffled.csv", "-w", workers]);
    }
    for (what, path) in [
        ("a folder, with lines that are in two files", "events=parts"),
        ("a glob", "events=./parts/**/*.csv"),
        ("semicolons, CRLF and a byte order mark", "events=semicolon.csv"),
        ("tabs", "events=tabs.csv"),
        ("other columns in another order, with quotes and newlines", "events=reordered.csv"),
        ("JSON lines", "events=lines.jsonl"),
        ("a JSON array", "events=array.json"),
        ("gzip", "events=packed.csv.gz"),
        ("zstd", "events=packed.csv.zst"),
    ] {
        check(&folder, &expected, what, &[path]);
    }
    check(&folder, &expected, "twice", &["events=in/events.csv", "--then", "events=shuffled.csv"]);
    check(&folder, &expected, "in batches", &["events=parts/deep/b.csv", "--then", "events=parts/a.csv"]);
    let there_and_gone = &["events=more.csv", "--then", "events=in/events.csv", "--then", "events-=more.csv"];
    check(&folder, &expected, "with records that are retracted", there_and_gone);
    check(
        &folder,
        &expected,
        "retracted before they are delivered",
        &["events-=more.csv", "events=in/events.csv", "--then", "events=more.csv"],
    );
}

/// A file of several splits, some lines of which are refused: the tables and the numbers of lines are those of one reader.
#[test]
fn large_files_are_read_in_parts() {
    let folder = Folder::new();
    folder.ok(&["generate", "online", "--out", "in", "--devices", "3000", "--days", "40", "--events-per-day", "2"]);
    let events = folder.read("in/events.csv");
    assert!(events.len() > 9 << 20, "more than two splits: {}", events.len());
    let mut text = String::from("\u{feff}");
    let mut garbage = Vec::new();
    for (number, line) in (1..).zip(events.lines()) {
        if number % 50_000 == 0 {
            garbage.push(number);
            text.push_str("rubbish\u{fffd},1\n");
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    folder.write("large.csv", &text);
    folder.write("whole.csv.zst", zstd::encode_all(text.as_bytes(), 1).unwrap());
    folder.ok(&["run", "online", "events=whole.csv.zst", "--tables", "online_intervals", "--out", "whole", "-q"]);
    folder.ok(&["run", "online", "events=large.csv", "--tables", "online_intervals", "--out", "large", "-q", "-w", "3"]);
    assert_eq!(folder.tables("large"), folder.tables("whole"));
    let rejected = folder.read("large/rejected.csv");
    let numbers: Vec<i32> = rejected.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, garbage);
    assert_eq!(rejected, folder.read("whole/rejected.csv").replace("whole.csv.zst", "large.csv"));
}

#[test]
fn two_processes_are_one_program() {
    let folder = Folder::new();
    input(&folder);
    let run = ["run", "online", "events=in/events.csv", "servers=in/servers.csv", "-w", "2", "-q"];
    folder.ok(&[&run[..], &["--out", "one"]].concat());
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let hosts = listeners.each_ref().map(|listener| format!("{}\n", listener.local_addr().unwrap()));
    drop(listeners);
    folder.write("hosts", hosts.concat());
    let start = |process| {
        let together = ["-n", "2", "-p", process, "--hosts", "hosts", "--out", "two"];
        folder.command(&[&run[..], &together].concat()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    for child in [start("0"), start("1")] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(folder.tables("two"), folder.tables("one"));
}

#[test]
fn active_users_are_the_same_from_any_split() {
    let folder = Folder::new();
    folder.ok(&["generate", "active", "--out", "in"]);
    let lines: Vec<String> = folder.read("in/events.jsonl").lines().map(String::from).collect();
    folder.write("a.jsonl", lines[..lines.len() / 3].join("\n"));
    folder.write("b.ndjson", lines[lines.len() / 4..].join("\n"));
    folder.ok(&["run", "active", "events=in/events.jsonl", "--out", "one", "-q", "-w", "1"]);
    folder.ok(&["run", "active", "events=b.ndjson", "--then", "events=a.jsonl", "--out", "two", "-q", "-w", "3"]);
    assert_eq!(folder.tables("two"), folder.tables("one"));
    assert!(folder.read("one/active_user_table.csv").lines().count() > 2);
}
