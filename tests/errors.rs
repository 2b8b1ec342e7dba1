//! What is wrong is said in a line, with the place and what to do; and nothing is half done.

use crate::program::{Folder, text};

const EVENT: &str = "2026-01-01T00:00:00Z,1,1,1,true\n";

/// The error is one line, and at most one more with a hint.
fn assert_said(said: &str, parts: &[&str]) {
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("hint: ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{said}");
    parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in {said}"));
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let folder = Folder::new();
    folder.write("events.csv", EVENT);
    folder.write("events.txt", EVENT);
    let run = |arguments: &[&str], code| folder.fails(&[&["run", "online"], arguments].concat(), code);
    assert_said(&run(&["evnts=events.csv"], 2), &["no input \"evnts\"", "events, servers"]);
    assert_said(&run(&["events.csv"], 2), &["\"events.csv\" is not INPUT=PATH"]);
    assert_said(&run(&["servers=events.csv"], 2), &["online needs events=PATH"]);
    assert_said(&run(&["events=events.csv", "--tables", "online_dally"], 2), &["\"online_dally\"", "online_daily"]);
    assert_said(&run(&["events=events.csv", "--fleet-sizes", "2-3"], 2), &["--fleet-sizes \"2-3\"", "a range from 1"]);
    assert_said(&run(&["events=events.csv", "--timezone", "Europe/Berln"], 2), &["Europe/Berln", "IANA"]);
    assert_said(&run(&["events=events.csv", "--as-of", "yesterday"], 2), &["--as-of \"yesterday\""]);
    assert_said(&run(&["events=events.csv", "--out", "sqlite:x"], 2), &["not supported yet"]);
    assert_said(&run(&["events=events.csv", "-n", "2", "-p", "2"], 2), &["process 2 of 2"]);
    assert_said(&run(&["events=none.csv"], 1), &["no file for \"none.csv\""]);
    assert_said(&run(&["events=*.json"], 1), &["no file for \"*.json\""]);
    assert_said(&run(&["events=events.txt"], 1), &["format of \"events.txt\"", ".csv"]);
    assert_said(&run(&["events=s3://bucket/x"], 1), &["object-store"]);
    assert_said(&run(&["events=events.csv", "--out", "events.txt", "-q"], 1), &["events.txt"]);
    assert_said(&folder.fails(&["run", "active", "events=events.csv"], 1), &["format of \"events.csv\"", ".jsonl"]);
    for unknown in [&["run", "offline", "events=x"][..], &["--frobnicate"], &["run", "online", "--frob"]] {
        assert!(folder.fails(unknown, 2).starts_with("error: "));
    }
}

#[test]
fn garbage_is_counted_and_kept() {
    let folder = Folder::new();
    let mut bytes = EVENT.as_bytes().to_vec();
    bytes.extend_from_slice(b"\n2026-01-01T00:00:00Z,1,\xff\xfe,1,true\n2026-01-01T00:00:00Z,1,1\n2026-01-01T00:00:00Z,1,1,1,true,9\n");
    bytes.extend_from_slice(b"2026-13-01T00:00:00Z,1,1,1,true\n2026-01-01T00:00:00Z,-1,1,1,true\n1969-12-31T23:59:59Z,1,1,1,true\n2199-01-01T00:00:00Z,1,1,1,true\n");
    folder.write("events.csv", bytes);
    folder.write("empty.csv", "");
    folder.write("random.csv", (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>());
    let output = folder.ok(&["run", "online", "events=events.csv", "--out", "out"]);
    assert!(text(&output.stderr).contains("batch 1: 1 record, 0 late, 7 rejected"), "{}", text(&output.stderr));
    let rejected = folder.read("out/rejected.csv");
    let lines: Vec<&str> = rejected.lines().skip(1).collect();
    for (line, (number, reason)) in lines.iter().zip([
        (3, "is no unsigned 64-bit integer"),
        (4, "server_id is missing"),
        (5, "more columns than are expected"),
        (6, "is not a time that exists"),
        (7, "is no unsigned 64-bit integer"),
        (8, "lies outside the years 1970 to 2200"),
        (9, "more than a day ahead of the clock"),
    ]) {
        assert!(line.starts_with(&format!("events,events.csv,{number},")) && line.contains(reason), "{line}");
    }
    folder.ok(&["run", "online", "events=empty.csv", "--out", "none", "-q"]);
    assert_eq!(folder.read("none/online_daily.csv"), "day,fleet_size,devices\n");
    let output = folder.ok(&["run", "online", "events=random.csv", "--out", "random"]);
    assert!(text(&output.stderr).contains("batch 1: 0 records, 0 late, "), "{}", text(&output.stderr));
    assert!(folder.read("random/rejected.csv").len() > 10_000);
}

#[test]
fn a_limit_on_refusals_fails_before_anything_is_written() {
    let folder = Folder::new();
    folder.write("good.csv", EVENT);
    folder.write("bad.csv", format!("{EVENT}x\ny\n"));
    let limit = ["--then", "events=bad.csv", "--out", "out", "--changes", "changes", "-q", "--max-rejected"];
    let said = folder.fails(&[&["run", "online", "events=good.csv"], &limit[..], &["1"]].concat(), 1);
    assert_said(&said, &["--max-rejected 1", "bad.csv:2: timestamp \"x\""]);
    assert!(!folder.has("out") && !folder.has("changes"));
    folder.ok(&[&["run", "online", "events=good.csv"], &limit[..], &["2"]].concat());
    assert!(folder.has("out/online_daily.csv") && folder.has("changes"));
}

#[test]
fn files_that_break_off_fail_the_run() {
    let folder = Folder::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, (0..5_000).map(|n| EVENT.replace(",1,1,", &format!(",{n},1,"))).collect::<String>().as_bytes())
        .unwrap();
    let packed = packed.finish().unwrap();
    folder.write("cut.csv.gz", &packed[..packed.len() / 2]);
    folder.write("wrong.csv.gz", "this is not gzip");
    folder.write("wrong.csv.zst", "this is not zstd");
    for file in ["cut.csv.gz", "wrong.csv.gz", "wrong.csv.zst"] {
        let said = folder.fails(&["run", "online", &format!("events={file}"), "--out", "out", "-q"], 1);
        assert_said(&said, &["could not", file]);
        assert!(!folder.has("out"));
    }
    folder.write("long.csv", [EVENT.as_bytes(), &vec![b'7'; 70 << 20], b"\n", EVENT.replace(",1,1,1", ",2,1,1").as_bytes()].concat());
    let output = folder.ok(&["run", "online", "events=long.csv", "--tables", "online_daily", "--out", "long"]);
    assert!(text(&output.stderr).contains("batch 1: 2 records, 0 late, 1 rejected"), "{}", text(&output.stderr));
}
