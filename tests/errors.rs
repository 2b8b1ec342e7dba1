//! What is wrong is said in a line, with the place and what to do; nothing is half done, and bad records stop nothing.

use crate::support::packed::{gzip, zstd};
use crate::support::program::{Failure, Place};
use std::time::SystemTime;

const EVENT: &str = "2026-01-01T00:00:00Z,1,1,1,true\n";

fn place() -> Place {
    let place = Place::new();
    place.write("events.csv", EVENT);
    place
}

/// The rows of a `rejected.csv` as (line, reason, raw).
fn rejected(place: &Place, file: &str) -> Vec<(u64, String, Vec<u8>)> {
    let mut reader = csv::Reader::from_path(place.path(file)).unwrap();
    reader
        .byte_records()
        .map(Result::unwrap)
        .map(|row| {
            let text = |place: usize| String::from_utf8(row[place].to_vec()).unwrap();
            (text(2).parse().unwrap(), text(3), row[4].to_vec())
        })
        .collect()
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let place = place();
    place.write("hosts", "");
    let run = |words: &str, error: &[&str], hint: &str| {
        let said = place.run(&format!("run online {words}")).fails_as_wrong_usage().names(error).hint.unwrap_or_default();
        assert!(said.contains(hint), "{said:?} does not name {hint:?}");
    };
    run("evnts=events.csv", &["online has no input \"evnts\""], "events, servers");
    run("events.csv", &["\"events.csv\" is not INPUT=PATH"], "events, servers");
    run("servers=events.csv", &["online needs events=PATH"], "");
    run("events=events.csv --then events.csv", &["\"events.csv\" is not INPUT=PATH"], "");
    run("events=events.csv --tables online_dally", &["\"online_dally\""], "online_daily, ");
    run("events=events.csv --fleet-sizes 2-3", &["--fleet-sizes \"2-3\"", "a range from 1"], "");
    run("events=events.csv --timezone Europe/Berln", &["--timezone \"Europe/Berln\"", "IANA"], "");
    run("events=events.csv --as-of yesterday", &["--as-of \"yesterday\""], "");
    run("events=events.csv --out sqlite:", &["\"sqlite:\"", "path is missing"], "sqlite:PATH");
    run("events=events.csv --out mysql://me:secret@host/db", &["\"mysql://…\"", "no such kind of destination"], "postgres://");
    run("events=events.csv --out postgres://me:secret@host:port/db", &["no URL of PostgreSQL"], "%40");
    run("events=events.csv --out 'postgres://me:secret@host/db?sslmode=verify'", &["no such sslmode"], "verify-full");
    run("events=events.csv --out 'postgres://me:secret@host/db?sslcert=x'", &["client certificates"], "sslmode is ");
    run("events=events.csv --out sqlite:x --format csv", &["--format is of files"], "leave --format out");
    run("events=events.csv --out postgres://me@host/db --format json", &["--format is of files"], "leave --format out");
    run("events=events.csv -n 2 -p 2", &["process 2 of 2"], "the first process is 0");
    run("events=events.csv -n 2 --hosts hosts", &["\"hosts\"", "0 addresses for 2 processes"], "");
    let run = |words: &str| place.run(words).fails_as_wrong_usage();
    run("run active events=events.jsonl --min-engagement 3").names(&["--min-engagement \"3\"", "500ms"]);
    run("run active events=events.jsonl --valuable-events a,,b").names(&["--valuable-events \"a,,b\""]);
    run("generate online --out new --devices 0").names(&["--devices \"0\""]);
    run("generate online --out new --days many").names(&["--days \"many\""]);
    run("generate active --out new --mess 2").names(&["--mess \"2\""]);
    assert!(!place.has("new"));
}

#[test]
fn what_the_parser_refuses() {
    let place = place();
    for (words, named) in [
        ("frobnicate", "frobnicate"),
        ("run offline events=events.csv", "offline"),
        ("run online --frob events=events.csv", "--frob"),
        ("run online events=events.csv --format xml", "xml"),
        ("run online events=events.csv -w many", "many"),
        ("run online events=events.csv --max-rejected -1", "-1"),
        ("run online events=events.csv --out", "--out"),
        ("generate online", "--out"),
        ("demo offline", "offline"),
        ("completions tcsh", "tcsh"),
    ] {
        let said = place.run(words).fails_in_the_parser();
        assert!(said.contains(named), "{words}: {said}");
    }
}

#[test]
fn files_that_are_not_there() {
    let place = place();
    place.write("in/a.log", "");
    let fails = |words: &str| place.run(&format!("run online {words} --out out --changes changes")).fails();
    let Failure { hint, .. } = fails("events=none.csv").names(&["no file for \"none.csv\""]);
    assert!(hint.is_some_and(|hint| hint.contains("check the path")));
    fails("'events=*.json'").names(&["no file for \"*.json\""]);
    fails("events=in").names(&["no file for \"in\""]);
    place.write("parts/xaa", "");
    for path in ["'events=parts/x*'", "events=parts", "events=parts --input-format csv"] {
        let Failure { hint, .. } = fails(path).names(&["no file for \"parts", "says what it holds", "passed over \"parts/xaa\""]);
        assert!(hint.is_some_and(|hint| hint.contains("ending") && hint.contains("--input-format")), "{path}");
    }
    std::fs::remove_dir_all(place.path("parts")).unwrap();
    fails("events=events.csv/a.csv").names(&["events.csv/a.csv"]);
    fails("'events=[a.csv'").names(&["\"[a.csv\" as a glob"]);
    fails("events=gs://bucket/x").names(&["\"gs://bucket/x\"", "s3://BUCKET/KEY"]);
    fails("events=events.csv servers=none.csv").names(&["\"none.csv\""]);
    // The batches before it were fine, and are not written all the same.
    let ran = place.run("run online events=events.csv --then events=none.csv --out out --changes changes");
    assert!(ran.stderr.starts_with("batch 1: 1 record"), "{}", ran.stderr);
    ran.fails().names(&["\"none.csv\""]);
    assert_eq!(place.names("."), ["events.csv", "in"]);
}

/// The name is there when the folder is listed, and the file is not.
#[test]
fn a_file_that_has_vanished() {
    let place = place();
    place.write("in/a.csv", EVENT);
    std::os::unix::fs::symlink("gone.csv", place.path("in/b.csv")).unwrap();
    place.run("run online events=in --out out").fails().names(&["in/b.csv"]);
    place.run("run online events=in/b.csv --out out").fails().names(&["\"in/b.csv\""]);
    assert!(!place.has("out"));
}

#[test]
fn names_that_do_not_say_what_is_in_them() {
    let place = place();
    for name in ["events.log", "events", "events.csv.lz4", "events.gz", "csv"] {
        place.write(name, EVENT);
        let Failure { hint, .. } =
            place.run(&format!("run online events={name}")).fails().names(&[&format!("{name:?}"), ".csv, .tsv", ".gz, .zst"]);
        assert!(hint.is_some_and(|hint| hint.contains("--input-format csv")));
    }
    place.run("run online events=events --input-format csv").succeeds();
}

#[test]
fn places_that_can_not_be_written() {
    let place = place();
    place.write("taken", "");
    place.write("blocked/online_daily.csv/x", "");
    let fails = |words: &str| place.run(&format!("run online events=events.csv {words}")).fails();
    fails("--out taken --changes changes").names(&["\"taken\"", "a file stands where a directory is needed"]);
    fails("--out taken/below --changes changes").names(&["\"taken/below\""]);
    // Nobody may create a folder there, not even root.
    fails("--out /sys/retally --changes changes").names(&["could not create directory \"/sys/retally\""]);
    fails("--out blocked --changes changes").names(&["could not write table \"blocked/online_daily.csv\"", "it is a directory"]);
    fails("--charts taken --changes changes").names(&["taken"]);
    fails("--changes none/changes --out out").names(&["could not write changes to \"none/changes\""]);
    fails("--changes taken/changes --out out").names(&["could not write changes to \"taken/changes\""]);
    fails("--changes blocked --out out").names(&["could not write changes to \"blocked\""]);
    fails("--changes /dev/full --out out").names(&["could not write changes to \"/dev/full\"", "no space is left"]);
    place.run("generate online --out taken --days 2").fails().names(&["\"taken\""]);
    place.run("demo --out taken").fails().names(&["taken"]);
    assert_eq!(place.names("blocked"), ["online_daily.csv"]);
    assert_eq!(place.read("taken"), "");
    assert!(!place.has("changes"));
}

/// Numbers of errors are for programs.
#[test]
fn what_the_system_says_is_said_in_words() {
    let place = place();
    for words in [
        "run online events=events.csv --changes none/x",
        "run online events=events.csv --config none",
        "run online events=events.csv -n 2 -p 0 --hosts none",
        "status --token-file none",
        "serve online --state state --tokens none",
        "serve online --state state --webhook-secret-file none",
    ] {
        let ran = place.run(words);
        assert!(ran.stderr.contains("no such file or directory") && !ran.stderr.contains("os error"), "{words}: {}", ran.stderr);
    }
    std::os::unix::fs::symlink(place.path("loop.csv"), place.path("loop.csv")).unwrap();
    let asked = "status --server http://127.0.0.1:1";
    for words in ["run online events=loop.csv", "check online events=loop.csv", "run brushing datasets=loop.csv", asked] {
        let ran = place.run(words);
        assert!(ran.stderr.starts_with("error: could not ") && !ran.stderr.contains("os error"), "{words}: {}", ran.stderr);
    }
}

/// A flag that does nothing is a mistake.
#[test]
fn flags_that_would_do_nothing_are_refused() {
    let place = place();
    for (words, why) in [
        ("run online events=events.csv --format json", "--format is of table files"),
        ("run online events=events.csv --state state --format csv", "--format is of table files"),
        ("run online events=events.csv --replace", "--replace is of a database"),
        ("run online events=events.csv --csv-safe", "--csv-safe is of CSV files"),
        ("generate brushing --out new --toothbrushes 0", "--toothbrushes \"0\""),
        ("generate brushing --out new --datasets 0", "--datasets \"0\""),
    ] {
        place.run(words).fails_as_wrong_usage().names(&[why]);
    }
    assert!(!place.has("new"));
}

/// Each dataflow declares one kind of ids.
#[test]
fn ids_are_as_the_inputs_declare_them_or_text() {
    let place = place();
    let failure = place.run("run online events=events.csv --ids uuid").fails_as_wrong_usage();
    failure.names(&["--ids \"uuid\" is neither number, as the inputs declare ids, nor text"]);
    place.run("run usage events=events.jsonl --ids number").fails_as_wrong_usage().names(&["--ids \"number\" is neither uuid"]);
    place.run("run online events=events.csv --ids number -q").succeeds();
}

#[test]
fn a_path_that_is_missing_is_wrong_usage() {
    let place = place();
    for words in [
        "run online events=events.csv --out ''",
        "run online events=events.csv --changes ''",
        "run online events=events.csv --charts ''",
        "run online events=events.csv --state ''",
        "generate online --out ''",
        "serve online --state state --listen 127.0.0.1:0 --out csv:",
        "serve online --state state --listen 127.0.0.1:0 --out json:",
        "serve online --state state --listen 127.0.0.1:0 --out parquet:",
    ] {
        place.run(words).fails_as_wrong_usage().names(&["the path is missing"]);
    }
    assert_eq!(place.names("."), ["events.csv"]);
}

/// One line says what is wrong, and one what to do about it.
#[test]
fn what_fails_says_what_to_do() {
    let place = place();
    place.write("taken", "");
    place.write("folder/x", "");
    place.run("run online events=events.csv --state state").succeeds();
    for words in [
        "run online events=events.csv --changes none/x",
        "run online events=events.csv --changes folder",
        "run online events=events.csv --charts taken",
        "run online events=events.csv --out /dev/null/x",
        "run online events=events.csv --out taken",
        "run online events=events.csv --out /sys/x",
        "demo --out taken",
        "generate online --out taken",
        "serve online --state other --listen 127.0.0.1:0 --watch online.events=nodir",
        "forget online events device_id=7 --state state",
    ] {
        let failure = place.run(words).fails();
        assert!(failure.hint.is_some_and(|hint| hint.len() > 10), "{words}: {}", failure.error);
    }
    for (words, hint) in [
        ("query online.online_daily fleetsize=1 --state state", "perhaps fleet_size; there are day, fleet_size, devices"),
        ("query online.online_daily --order daz --state state", "perhaps day; there are "),
        ("query online.online_daily day=x --state state", "give a day, such as 2026-03-01"),
        ("forget online events device=1 --state state", "perhaps device_id; there are "),
    ] {
        let failure = place.run(words).fails_as_wrong_usage();
        assert!(failure.hint.as_ref().is_some_and(|found| found.starts_with(hint)), "{words}: {:?}", failure.hint);
    }
}

/// Of a run that fails, no temporary file is left.
#[test]
fn nothing_is_left_behind() {
    let place = place();
    place.write("taken", "");
    place.run("run online events=events.csv --out taken --changes changes").fails();
    place.run("run online events=events.csv events=none.csv --out out --changes changes").fails();
    assert_eq!(place.names("."), ["events.csv", "taken"]);
    place.run("run online events=events.csv --out out --changes changes").succeeds();
    assert_eq!(place.names("."), ["changes", "events.csv", "out", "taken"]);
}

#[test]
fn garbage_is_counted_and_kept() {
    let place = Place::new();
    let lines: [(&[u8], &str); 14] = [
        (
            b"2026-01-01T00:00:00Z,1,\xff\xfe,1,true",
            "user_id \"\u{fffd}\u{fffd}\" is no unsigned 64-bit integer (--ids text takes any text)",
        ),
        (b"2026-01-01T00:00:00Z,1,1", "server_id is missing"),
        (b"2026-01-01T00:00:00Z,1,1,1,", "connected is missing"),
        (b"2026-01-01T00:00:00Z,1,1,1,true,9", "the line has more columns than are expected"),
        (b"2026-01-01T00:00:00Z,1,1,1,maybe", "connected \"maybe\" is neither true nor false"),
        (b"2026-13-01T00:00:00Z,1,1,1,true", "timestamp \"2026-13-01T00:00:00Z\" is not a time that exists"),
        (b"01/01/2026,1,1,1,true", "timestamp \"01/01/2026\" is not a time like 2026-01-31T12:34:56Z"),
        (b"2026-01-01T00:00:00Z,-1,1,1,true", "device_id \"-1\" is no unsigned 64-bit integer (--ids text takes any text)"),
        (
            b"2026-01-01T00:00:00Z,18446744073709551616,1,1,true",
            "device_id \"18446744073709551616\" is no unsigned 64-bit integer (--ids text takes any text)",
        ),
        (b"2026-01-01T00:00:00Z,1.5,1,1,true", "device_id \"1.5\" is no unsigned 64-bit integer (--ids text takes any text)"),
        (b"1969-12-31T23:59:59Z,1,1,1,true", "timestamp \"1969-12-31T23:59:59Z\" lies outside the years 1970 to 2200"),
        (b"2201-01-01T00:00:00Z,1,1,1,true", "timestamp \"2201-01-01T00:00:00Z\" lies outside the years 1970 to 2200"),
        (b"2199-01-01T00:00:00Z,1,1,1,true", "the event's time 2199-01-01T00:00:00Z is more than a day ahead of the clock"),
        (b"\0\x01\x02", "timestamp \"\\0\\u{1}\\u{2}\" is not a time like 2026-01-31T12:34:56Z"),
    ];
    // Between a good line, a blank one, and a good one again.
    let mut text = EVENT.as_bytes().to_vec();
    text.extend_from_slice(b" \r\n");
    lines.iter().for_each(|(line, _)| text.extend([line, b"\n".as_slice()].concat()));
    text.extend_from_slice(EVENT.replace(",1,1,", ",2,1,").as_bytes());
    place.write("events.csv", &text);
    place.write(
        "servers.csv",
        "id,created_at,destroyed_at\n1,2026-01-01T00:00:00Z,soon\n2,,\n3,2026-01-01T00:00:00Z\n4,2026-01-01T00:00:00Z,\n",
    );
    let ran = place.run("run online events=events.csv servers=servers.csv --out out").succeeds();
    assert!(ran.stderr.starts_with("batch 1: 3 records, 0 late, 17 rejected, from 2 files"), "{}", ran.stderr);
    let rows = rejected(&place, "out/rejected.csv");
    for (number, (line, reason)) in (0..).zip(lines) {
        let raw = String::from_utf8_lossy(line).into_owned().into_bytes();
        assert_eq!(rows[number], (number as u64 + 3, reason.into(), raw));
    }
    assert_eq!(rows[14].1, "destroyed_at \"soon\" is not a time like 2026-01-31T12:34:56Z");
    assert_eq!(rows[15].1, "created_at is missing");
    assert_eq!(rows[16].1, "the line has fewer columns than the header");
    assert!(place.read("out/rejected.csv").contains("\nservers,servers.csv,2,"));
    assert_eq!(place.read("out/online_daily.csv"), "day,fleet_size,devices\n2026-01-01,1-2,2\n");
}

#[test]
fn garbage_among_json() {
    let place = Place::new();
    let good = r#"{"user_pseudo_id":"ann","event_timestamp":1577718000000000,"event_name":"user_engagement"}"#;
    let lines = [
        good,
        "",
        "no json",
        "[1]",
        "{\"user_pseudo_id\":\"ann\"}",
        "{} {}",
        &good.replace("1577718000000000", "\"soon\""),
        &good.replace("user_engagement", "\\ud800"),
    ]
    .join("\n");
    place.write(
        "events.jsonl",
        [lines.as_bytes(), b"\n{\"user_pseudo_id\":\"\xff\",\"event_timestamp\":1577718000000000,\"event_name\":\"x\"}\n{\"user"].concat(),
    );
    let ran = place.run("run active events=events.jsonl --out out").succeeds();
    assert!(ran.stderr.starts_with("batch 1: 1 record, 0 late, 8 rejected"), "{}", ran.stderr);
    let rows = rejected(&place, "out/rejected.csv");
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(rows[0].1, "no JSON object: expected ident (column 2)");
    assert!(rows.iter().all(|row| !row.1.is_empty() && !row.2.is_empty()));
    place.write("array.json", format!("[\n{good},\n7, {{}}\n,\n{good}\n"));
    place.run("run active events=array.json --out array").succeeds();
    assert_eq!(
        rejected(&place, "array/rejected.csv").iter().map(|row| row.0).collect::<Vec<_>>(),
        [3, 3, 6],
        "a number, an empty object, no end"
    );
}

/// Of many refused lines the first are kept, and all are counted.
#[test]
fn refused_lines_are_kept_up_to_a_limit() {
    let place = Place::new();
    place.write("events.csv", format!("{EVENT}{}", "x,1,1,1,true\n".repeat(50)));
    let said = place.run("run online events=events.csv --keep-rejected 20 --out out").succeeds().stderr;
    assert!(said.contains(" 50 rejected") && said.contains("of 50 rejected records, 20 are in the table rejected"), "{said}");
    assert_eq!(rejected(&place, "out/rejected.csv").len(), 20);
    place.run("run online events=events.csv --keep-rejected 1 --max-rejected 49").fails().names(&["--max-rejected 49"]);
}

/// Bytes of any kind, under every name: there is an answer, and every line of it is in the file.
#[test]
fn bytes_of_any_kind() {
    let place = Place::new();
    for seed in 1..4u64 {
        let mut state = seed;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(300_000)
        .collect();
        // A first line of text alone would be a header that names nothing.
        let bytes = [EVENT.as_bytes(), &bytes].concat();
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        for name in ["random.csv", "random.json", "random.jsonl"] {
            place.write(name, &bytes);
            let ran = place.run(&format!("run online events={name} --max-rejected 300000 --out out")).succeeds();
            let records = if name == "random.csv" { "1 record" } else { "0 records" };
            assert!(ran.stderr.starts_with(&format!("batch 1: {records}, 0 late, ")), "seed {seed}: {}", ran.stderr);
            let rows = rejected(&place, "out/rejected.csv");
            assert!(rows.len() > 100 && rows.iter().all(|(line, _, _)| (1..=lines).contains(line)), "seed {seed}, {name}");
        }
        // Without quotes, every line is one.
        let plain: Vec<u8> = bytes.iter().map(|byte| if *byte == b'"' { b'\'' } else { *byte }).collect();
        place.write("plain.csv", &plain);
        place.run("run online events=plain.csv --out out").succeeds();
        let expected: Vec<u64> = (1..)
            .zip(plain.split(|byte| *byte == b'\n'))
            .skip(1)
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(line, _)| line)
            .collect();
        assert_eq!(rejected(&place, "out/rejected.csv").iter().map(|row| row.0).collect::<Vec<_>>(), expected, "seed {seed}");
        for name in ["random.csv.gz", "random.csv.zst", "random.json.gz"] {
            place.write(name, &bytes);
            place.run(&format!("run online events={name} --out out")).fails().names(&["could not", name]);
        }
    }
}

#[test]
fn empty_files_are_empty_input() {
    let place = Place::new();
    let header = "timestamp,device_id,user_id,server_id,connected";
    for (name, text) in [
        ("none.csv", ""),
        ("none.jsonl", ""),
        ("blank.csv", "\n \n\r\n"),
        ("mark.csv", "\u{feff}"),
        ("header.csv", header),
        ("array.json", "[]"),
        ("lines.csv", "\n\n"),
    ] {
        place.write(name, text);
        let ran = place.run(&format!("run online events={name} --out out --charts charts")).succeeds();
        assert!(ran.stderr.starts_with("batch 1: 0 records, 0 late, 0 rejected"), "{name}: {}", ran.stderr);
        assert_eq!(place.read("out/online_daily.csv"), "day,fleet_size,devices\n");
        assert_eq!(place.read("out/rejected.csv"), "input,source,line,reason,raw\n");
    }
    for (name, bytes) in [("none.csv.gz", gzip("")), ("none.csv.zst", zstd(""))] {
        place.write(name, bytes);
        place.run(&format!("run online events={name} --out out")).succeeds();
    }
}

#[test]
fn files_that_break_off_fail_the_run() {
    let place = Place::new();
    let text: String = (0..20_000).map(|device| EVENT.replace(",1,1,", &format!(",{device},1,"))).collect();
    let gzip = gzip(&text);
    let zstd = zstd(&text);
    place.write("cut.csv.gz", &gzip[..gzip.len() / 2]);
    place.write("cut.csv.zst", &zstd[..zstd.len() / 2]);
    place.write("almost.csv.gz", &gzip[..gzip.len() - 1]);
    let mut damaged = gzip.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 16].fill(0xa5);
    place.write("damaged.csv.gz", damaged);
    place.write("wrong.csv.gz", &text);
    place.write("wrong.csv.zst", &text);
    place.write("good.csv", EVENT);
    for file in ["cut.csv.gz", "cut.csv.zst", "almost.csv.gz", "damaged.csv.gz", "wrong.csv.gz", "wrong.csv.zst"] {
        for words in [format!("events={file}"), format!("events=good.csv --then 'events=good.csv events={file}'")] {
            place.run(&format!("run online {words} --out out --changes changes -w 2")).fails().names(&["could not read", file]);
            assert!(!place.has("out") && !place.has("changes"));
        }
    }
}

/// 70 MiB without a newline are refused as a line, and reading goes on behind it.
#[test]
fn a_line_without_an_end() {
    let place = Place::new();
    let long = vec![b'7'; 70 << 20];
    let other = EVENT.replace(",1,1,", ",2,1,");
    place.write("long.csv", [EVENT.as_bytes(), b"\n", &long, b"\n", other.as_bytes(), b"x\n"].concat());
    let object = |device: u8| {
        format!("{{\"timestamp\":\"2026-01-01T00:00:00Z\",\"device_id\":{device},\"user_id\":1,\"server_id\":1,\"connected\":true}}\n")
    };
    place.write("long.jsonl", [object(1).as_bytes(), b"\n", &long, b"\n", object(2).as_bytes(), b"x\n"].concat());
    for file in ["long.csv", "long.jsonl"] {
        let ran = place.run(&format!("run online events={file} --tables online_daily --out out -w 2")).succeeds();
        assert!(ran.stderr.starts_with("batch 1: 2 records, 0 late, 2 rejected"), "{}", ran.stderr);
        let rows = rejected(&place, "out/rejected.csv");
        assert_eq!(rows[0], (3, "the line is longer than 64 MiB".into(), vec![b'7'; 1024]), "{file}");
        assert_eq!((rows[1].0, rows[1].2.as_slice()), (5, b"x".as_slice()), "{file}");
    }
}

/// A quote that is opened and never closed costs its line, and not the rest of the file.
#[test]
fn a_quote_without_an_end() {
    let place = Place::new();
    let lines: String = (0..60_000).map(|device| EVENT.replace(",1,1,", &format!(",{device},1,"))).collect();
    place.write("events.csv", format!("{EVENT}\"2026{lines}"));
    let ran = place.run("run online events=events.csv --tables online_daily --out out").succeeds();
    assert!(ran.stderr.starts_with("batch 1: 60,000 records, 0 late, 1 rejected"), "{}", ran.stderr);
    assert_eq!(rejected(&place, "out/rejected.csv")[0].0, 2);
}

/// What some programs call CSV has carriage returns alone: to us it would be a header without rows.
#[test]
fn lines_that_end_in_carriage_returns_alone() {
    let place = Place::new();
    place.write("events.csv", format!("timestamp,device_id,user_id,server_id,connected\n{EVENT}").replace('\n', "\r"));
    place.run("run online events=events.csv --out out").fails().names(&["\"events.csv\"", "carriage returns alone"]);
    assert!(!place.has("out"));
}

/// A wrong clock of one device does not move as-of for all.
#[test]
fn events_ahead_of_the_clock() {
    let place = Place::new();
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let event = |hours: i64, device: u8| format!("{},{device},1,1,true\n", retally_core::time::Moment(now + hours * 3_600_000_000));
    place.write("events.csv", [event(-1, 1), event(25, 2), event(23, 3), event(24 * 365, 4)].concat());
    // A server may be destroyed at any time to come.
    place.write("servers.csv", "1,2024-01-01T00:00:00Z,2199-01-01T00:00:00Z\n");
    let ran = place.run("run online events=events.csv servers=servers.csv --tables online_intervals --out out").succeeds();
    assert!(ran.stderr.starts_with("batch 1: 3 records, 0 late, 2 rejected"), "{}", ran.stderr);
    let rows = rejected(&place, "out/rejected.csv");
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [2, 4]);
    assert!(rows.iter().all(|row| row.1.ends_with(" is more than a day ahead of the clock")), "{rows:?}");
    let table = place.read("out/online_intervals.csv");
    let devices: Vec<&str> = table.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(devices, ["1", "3"]);
}

#[test]
fn a_limit_on_refusals_fails_before_anything_is_written() {
    let place = place();
    place.write("bad.csv", format!("{EVENT}x\ny\n"));
    let words = |limit: u32| {
        format!("run online events=events.csv --then events=bad.csv --out out --changes changes --charts charts --max-rejected {limit}")
    };
    for limit in [0, 1] {
        let Failure { hint, .. } =
            place.run(&words(limit)).fails().names(&[&format!("more than --max-rejected {limit} "), "bad.csv:2: timestamp \"x\""]);
        assert!(hint.is_some_and(|hint| hint.contains("nothing was written")));
        assert_eq!(place.names("."), ["bad.csv", "events.csv"]);
    }
    place.run(&words(2)).succeeds();
    assert!(place.has("out/online_daily.csv") && place.has("changes") && place.has("charts"));
    // It is the sum over all batches.
    place.run("run online events=bad.csv --then events=bad.csv --out other --max-rejected 3").fails();
    place.run("run online events=bad.csv --then events=bad.csv --out other --max-rejected 4").succeeds();
    // A run that retracts refuses as well.
    place.run("run online events=events.csv events-=bad.csv --out third --max-rejected 1").fails();
    assert!(!place.has("third"));
}

/// Lines that are no records, packed small: as many rows are kept as is asked for, the first ones, and all lines are counted by reason.
#[test]
fn refused_lines_beyond_the_limit_are_counted_by_reason() {
    let place = Place::new();
    let line = |number: usize| {
        if number % 4 == 3 { format!("2026-01-01T00:00:00Z,{number}\n") } else { format!("soon-{number},1,1,1,{}\n", "x".repeat(200)) }
    };
    let garbage: String = (0..200_000).map(line).collect();
    let packed = zstd(&garbage);
    assert!(packed.len() * 20 < garbage.len());
    for folder in ["one", "three"] {
        place.write(&format!("{folder}/a.csv"), format!("{EVENT}no record\n"));
    }
    place.write("one/b.csv.zst", &packed);
    for part in 0..3 {
        let lines: String = (0..200_000).skip(part * 70_000).take(70_000).map(line).collect();
        place.write(&format!("three/b{part}.csv.zst"), zstd(&lines));
    }
    for (folder, words) in [("one", "-w 1"), ("one", "-w 3"), ("three", "-w 3")] {
        for kept in [1, 1_000] {
            let ran =
                place.run(&format!("run online events={folder} --keep-rejected {kept} --max-rejected 300000 --out out {words}")).succeeds();
            assert!(ran.stderr.starts_with("batch 1: 1 record, 0 late, 200,001 rejected, from "), "{}", ran.stderr);
            for said in [
                "  rejected 150,001: timestamp \"…\" is not a time like 2026-01-31T12:34:56Z\n",
                &format!("  of 200001 rejected records, {kept} are in the table rejected (--keep-rejected)\n"),
            ] {
                assert!(ran.stderr.contains(said), "{said:?} is not in {}", ran.stderr);
            }
            let rows = rejected(&place, "out/rejected.csv");
            assert_eq!(rows.len(), kept, "{folder} {words}");
            if let [first, .., last] = rows.as_slice() {
                assert_eq!((first.0, last.0), (2, 999), "the first lines, by file and line");
            }
        }
    }
    let failure = place.run("run online events=one --max-rejected 150000 --keep-rejected 10 --out no").fails();
    failure.names(&["refused more than --max-rejected 150000 records", "one/a.csv:2: "]);
}

/// More than may be kept is not kept, whatever the number.
#[test]
fn refused_lines_are_bounded_by_their_bytes() {
    let place = Place::new();
    let long = format!("{}\n", "x".repeat(1_500));
    place.write("garbage.csv.zst", zstd(&(EVENT.to_string() + &long.repeat(150_000))));
    place.write("events.csv", EVENT);
    let ran = place.run("run online events=events.csv events=garbage.csv.zst --max-rejected 1000000 --out out -w 2").succeeds();
    let kept = place.read("out/rejected.csv").lines().count() - 1;
    let note = format!("of 150000 rejected records, {kept} are in the table rejected (more would be over 128 MiB)");
    assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    assert!((100_000..131_072).contains(&kept), "{kept} rows of 1,024 bytes and a reason");
}

#[test]
fn too_many_open_files_say_what_to_do() {
    let place = place();
    for number in 0..60 {
        place.write(&format!("in/{number}.csv"), EVENT);
    }
    let failure =
        place.start_within("ulimit -n 40", "run online events=in -w 1 --out out").finish().fails().names(&["could not open \"in/"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("ulimit -n")));
    assert!(!place.has("out"));
}

/// When addresses are used up, there is no memory left to say so.
#[test]
fn a_limit_on_addresses_is_named_at_the_start() {
    let place = Place::new();
    place.write("events.csv", EVENT);
    let ran = place.start_within("ulimit -v 16000000", "run online events=events.csv -w 1 --out out").finish().succeeds();
    assert!(ran.stderr.contains("note: this process may take 15.26 GiB of addresses (ulimit -v)"), "{}", ran.stderr);
    assert!(!place.run("run online events=events.csv -w 1 --out out").succeeds().stderr.contains("ulimit"));
}

/// Files that may not become larger, whatever writes them: an error with what to do, and nothing that is left half-way.
#[test]
fn files_that_are_too_large_say_what_to_do() {
    let place = Place::new();
    place.run("generate online --out in --devices 400 --days 20 --seed 5").succeeds();
    let run = "run online events=in/events.csv servers=in/servers.csv -w 1 --quiet --as-of 2026-01-01";
    let limited = |words: &str| place.start_within("ulimit -f 4", words).finish();
    for to in ["--out out", "--changes changes.ndjson", "--out sqlite:tables.sqlite"] {
        let failure = limited(&format!("{run} {to}")).fails();
        assert!(failure.hint.is_some(), "{to}: {}", failure.error);
        assert_eq!(place.names(""), ["in"], "{to}");
    }
    let failure = limited(&format!("{run} --out out")).fails();
    assert!(failure.hint.is_some_and(|hint| hint.contains("ulimit -f")));
    limited(&format!("{run} --state state")).fails();
    limited("generate online --out more --devices 400 --days 20").fails();
    // What was kept of a state is no batch.
    place.run(&format!("{run} --state state --out out")).succeeds();
}
