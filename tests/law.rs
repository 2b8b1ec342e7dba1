//! The same records give the same bytes, however they are written, split, repeated and spread.
//!
//! The tables of one file, one batch and one worker are what all others are held against. (That these are right is what
//! the dataflows' own tests show.)

use crate::support::known::{ACTIVE, EVENTS, Known, ONLINE, SERVERS, USAGE, rows, shuffled, table};
use crate::support::packed::{gzip, zstd};
use crate::support::program::Place;
use serde_json::{Value, json};

/// Each line by its fields.
fn each(lines: &[String], line: impl Fn(&[&str]) -> String) -> String {
    lines.iter().map(|fields| line(&fields.split(',').collect::<Vec<_>>())).collect()
}

/// Events as JSON objects, with numbers as numbers and as text.
fn objects(known: &Known) -> Vec<Value> {
    let object = |line: &String| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |text: &str| text.parse::<u64>().unwrap();
        json!({"user_id": fields[2], "x": [{"timestamp": 1}], "timestamp": fields[0], "device_id": number(fields[1]),
            "server_id": number(fields[3]), "connected": fields[4] == "true"})
    };
    known.lines.iter().map(object).collect()
}

/// A place that has the servers.
fn with_servers(known: &Known) -> Place {
    let place = Place::new();
    place.write("servers.csv", table(&SERVERS, &known.servers));
    place
}

const SERVERS_GIVEN: &str = "servers=servers.csv";

#[test]
fn on_any_number_of_workers() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    for workers in 1..=4 {
        ONLINE.check(&place, &format!("events=in/events.csv servers=in/servers.csv -w {workers}"));
    }
}

#[test]
fn from_many_files() {
    let place = with_servers(&ONLINE);
    for (number, lines) in ONLINE.lines.chunks(ONLINE.lines.len() / 7).enumerate() {
        let name = if number % 2 == 0 { format!("in/{number}.csv") } else { format!("in/deep/er/{number}.CSV") };
        place.write(&name, table(&EVENTS, lines));
    }
    place.write("in/deep/_SUCCESS", "");
    place.write("in/.hidden.csv", "2023-01-05T10:00:00Z,100001,1,1,true\n");
    ONLINE.check(&place, &format!("events=in {SERVERS_GIVEN}"));
    ONLINE.check(&place, &format!("'events=in/**/*.[cC][sS][vV]' {SERVERS_GIVEN}"));
    ONLINE.check(&place, &format!("'events=./in/{{*.csv,deep/er/*.CSV}}' {SERVERS_GIVEN}"));
    let files = ["in/4.csv", "in/2.csv", "in/deep/er", "in/0.csv", "in/6.csv", "in/2.csv"].map(|file| format!("events={file}"));
    ONLINE.check(&place, &format!("{SERVERS_GIVEN} {}", files.join(" ")));
    // The parts of `split -l`: the first one has the header.
    let parts: Vec<String> = ONLINE
        .lines
        .chunks(ONLINE.lines.len() / 3)
        .enumerate()
        .map(|(number, lines)| {
            place.write(&format!("part-{number}.csv"), if number == 0 { table(&EVENTS, lines) } else { rows(lines) });
            format!("events=part-{number}.csv")
        })
        .collect();
    ONLINE.check(&place, &format!("{SERVERS_GIVEN} {} --header first", parts.join(" ")));
}

#[test]
fn in_any_order() {
    let place = with_servers(&ONLINE);
    place.write("shuffled.csv", rows(&shuffled(&ONLINE.lines)));
    let backwards: Vec<String> = ONLINE.lines.iter().rev().cloned().collect();
    place.write("backwards.csv", rows(&backwards));
    ONLINE.check(&place, &format!("events=shuffled.csv {SERVERS_GIVEN} -w 3"));
    ONLINE.check(&place, &format!("events=backwards.csv {SERVERS_GIVEN} -w 1"));
}

#[test]
fn in_any_dress_of_csv() {
    let place = with_servers(&ONLINE);
    let plain = table(&EVENTS, &ONLINE.lines);
    place.write("semicolon.csv", plain.replace(',', ";"));
    place.write("semicolon-servers.csv", rows(&ONLINE.servers).replace(',', ";"));
    place.write("tab.csv", plain.replace(',', "\t"));
    place.write("no-header.csv", rows(&ONLINE.lines));
    place.write("crlf-and-mark.csv", format!("\u{feff}{plain}").replace('\n', "\r\n"));
    place.write("mark-without-header.csv", format!("\u{feff}{}", rows(&ONLINE.lines)));
    place.write("no-last-newline.csv", plain.trim_end());
    place.write("blank-lines.csv", plain.replace('\n', "\n\n \n"));
    place.write("spaces.csv", plain.replace(',', " , "));
    place.write("capitals.csv", plain.to_uppercase().replace("TRUE", "T"));
    let columns = |fields: &[&str]| format!("{},x,{},{},,{},{}\n", fields[4], fields[3], fields[1], fields[0], fields[2]);
    place.write("reordered.csv", columns(&EVENTS) + &each(&ONLINE.lines, columns));
    let quoted = |fields: &[&str]| {
        format!("\"a \"\"note\"\",\nof two lines\",\"{}\",\"{}\"\r\n", fields[..3].join("\",\""), fields[3..].join("\",\""))
    };
    place.write("quoted.csv", format!("\"a note\",\"{}\"\r\n", EVENTS.join("\",\"")) + &each(&ONLINE.lines, quoted));
    let truth = |fields: &[&str]| format!("{},{}\n", fields[..4].join(","), if fields[4] == "true" { "1" } else { "F" });
    place.write("ones.csv", each(&ONLINE.lines, truth));
    ONLINE.check(&place, "events=semicolon.csv servers=semicolon-servers.csv");
    for name in [
        "tab",
        "no-header",
        "crlf-and-mark",
        "mark-without-header",
        "no-last-newline",
        "blank-lines",
        "spaces",
        "capitals",
        "reordered",
        "quoted",
        "ones",
    ] {
        ONLINE.check(&place, &format!("events={name}.csv {SERVERS_GIVEN}"));
    }
}

/// A local time is as good as one with an offset, but for the hour that comes twice, which there is none of in these.
#[test]
fn with_times_in_any_form() {
    let place = with_servers(&ONLINE);
    let time = |fields: &[&str]| fields[0].trim_end_matches('Z').replace('T', " ");
    let form = |suffix: &'static str| move |fields: &[&str]| format!("{}{suffix},{}\n", time(fields), fields[1..].join(","));
    place.write("utc.csv", each(&ONLINE.lines, form("+00:00")));
    place.write("short.csv", each(&ONLINE.lines, form("-00")));
    place.write(
        "digits.csv",
        each(&ONLINE.lines, |fields| {
            let time = time(fields);
            format!("{}{}999z,{}\n", time, if time.contains('.') { "000" } else { ".000000" }, fields[1..].join(","))
        }),
    );
    for name in ["utc", "short", "digits"] {
        ONLINE.check(&place, &format!("events={name}.csv {SERVERS_GIVEN}"));
    }
}

#[test]
fn in_any_dress_of_json() {
    let place = with_servers(&ONLINE);
    let objects = objects(&ONLINE);
    let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
    place.write("lines.jsonl", &lines);
    place.write("lines.JSONS", format!("\u{feff}{}", lines.replace('\n', "\r\n\r\n")));
    place.write("lines.jsonlines", lines.trim_end());
    place.write("array.json", Value::from(objects.clone()).to_string());
    place.write("pretty.ndjson", format!("\u{feff}\n  {:#}\n\n", Value::from(objects)));
    let server = |fields: &[&str]| {
        format!(
            "{{\"destroyed_at\": {}, \"id\": {}, \"created_at\": \"{}\"}}\n",
            if fields[2].is_empty() { "null".into() } else { format!("{:?}", fields[2]) },
            fields[0],
            fields[1]
        )
    };
    place.write("servers.json", each(&ONLINE.servers, server));
    for name in ["lines.jsonl", "lines.JSONS", "lines.jsonlines", "array.json", "pretty.ndjson"] {
        ONLINE.check(&place, &format!("events={name} servers=servers.json"));
    }
}

#[test]
fn packed() {
    let place = Place::new();
    let half = ONLINE.lines.len() / 2;
    let parts = [table(&EVENTS, &ONLINE.lines[..half]), rows(&ONLINE.lines[half..])];
    place.write("events.csv.gz", gzip(&parts.concat()));
    place.write("events.csv.zst", zstd(&parts.concat()));
    // As `cat a.gz b.gz` makes them.
    place.write("joined.csv.gz", parts.each_ref().map(gzip).concat());
    place.write("joined.CSV.ZST", parts.each_ref().map(zstd).concat());
    place.write("servers.csv.gz", gzip(&table(&SERVERS, &ONLINE.servers)));
    let array = Value::from(objects(&ONLINE)).to_string();
    place.write("array.json.gz", gzip(&array));
    place.write("array.jsons.zst", zstd(&array));
    for name in ["events.csv.gz", "events.csv.zst", "joined.csv.gz", "joined.CSV.ZST", "array.json.gz", "array.jsons.zst"] {
        ONLINE.check(&place, &format!("events={name} servers=servers.csv.gz"));
    }
}

#[test]
fn twice_and_three_times() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    place.write("shuffled.csv", table(&EVENTS, &shuffled(&ONLINE.lines)));
    let all = "events=in/events.csv servers=in/servers.csv";
    ONLINE.check(&place, &format!("{all} events=shuffled.csv servers=in/servers.csv"));
    ONLINE.check(&place, &format!("{all} --then '{all}' --then events=shuffled.csv"));
}

#[test]
fn in_batches_that_come_in_any_order() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 5);
    let then = |order: &[usize]| order.iter().map(|part| format!(" --then '{}'", parts[*part])).collect::<String>();
    for workers in [1, 3] {
        ONLINE.check(&place, &format!("{} {} -w {workers}", parts[0], then(&[1, 2, 3, 4])));
        ONLINE.check(&place, &format!("{} {} -w {workers}", parts[3], then(&[1, 4, 0, 2])));
    }
}

#[test]
fn with_records_that_come_and_go() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    // Other events of known devices, later ones among them, and servers that were destroyed otherwise.
    let other =
        |fields: &[&str]| format!("{},{},{},1,{}\n", fields[0].replace("2023-01", "2023-11"), fields[1], fields[2], fields[4] != "true");
    place.write("other.csv", format!("{}\n{}", EVENTS.join(","), each(&ONLINE.lines, other)));
    place.write("gone.csv", "id,created_at,destroyed_at\n0,2022-01-01T00:00:00Z,2023-01-20T00:00:00Z\n1,2022-01-01T00:00:00Z,\n");
    let (all, none) = ("events=in/events.csv servers=in/servers.csv", "events-=in/events.csv servers-=in/servers.csv");
    ONLINE.check(&place, &format!("{all} events=other.csv servers=gone.csv --then 'events-=other.csv servers-=gone.csv'"));
    ONLINE.check(&place, &format!("events-=other.csv servers-=gone.csv --then 'events=other.csv servers=gone.csv' --then '{all}' -w 3"));
    ONLINE.check(&place, &format!("{all} --then '{none}' --then '{all}'"));
    ONLINE.check(&place, &format!("{all} {all} --then '{none}'"));
    ONLINE.check(&place, &format!("{all} events=other.csv events-=other.csv"));
}

/// Whatever was there is gone, to the last row.
#[test]
fn nothing_is_left_of_what_is_retracted() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    place.run(&format!("{} events=in/events.csv --then events-=in/events.csv --out out", ONLINE.run())).succeeds();
    for (name, bytes) in place.tables("out") {
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "{name} has rows: {}", String::from_utf8_lossy(&bytes));
    }
}

/// A file of several splits, in each of which some lines are refused: the tables and the numbers of lines are those of one reader.
#[test]
fn large_files_are_read_in_parts() {
    let place = Place::new();
    place.run("generate online --out in --devices 3000 --days 40 --seed 3").succeeds();
    let events = place.read("in/events.csv");
    assert!(events.len() > 9 << 20, "there should be three splits of 4 MiB: {} bytes", events.len());
    let mut text = String::from("\u{feff}");
    let mut refused = Vec::new();
    for (number, line) in (1..).zip(events.lines()) {
        // Blank lines are lines, and no records.
        let garbage = ["rubbish\u{fffd},1", " ", "1,2,3,4,5,6"][number / 40_000 % 3];
        if number % 40_000 == 0 {
            text.push_str(garbage);
        } else {
            text.push_str(line);
        }
        if number % 40_000 == 0 && garbage != " " {
            refused.push(number.to_string());
        }
        text.push_str(if number % 1_000 == 0 { "\r\n" } else { "\n" });
    }
    place.write("large.csv", &text);
    place.write("whole.csv.zst", zstd(&text));
    let header = EVENTS.join(",");
    for (number, lines) in text.trim_start_matches('\u{feff}').lines().collect::<Vec<_>>().chunks(30_000).enumerate() {
        place.write(
            &format!("parts/{number}.csv"),
            format!("{}{}", if number > 0 { format!("{header}\n") } else { String::new() }, lines.join("\n")),
        );
    }
    let run =
        |events: &str, out: &str| place.run(&format!("run online events={events} servers=in/servers.csv -w 3 --out {out}")).succeeds();
    run("large.csv", "large");
    run("whole.csv.zst", "whole");
    run("parts", "parts-out");
    let rejected = place.read("large/rejected.csv");
    let lines: Vec<&str> = rejected.lines().skip(1).map(|row| row.split(',').nth(2).unwrap()).collect();
    assert_eq!(lines, refused);
    assert_eq!(rejected.replace("large.csv", "whole.csv.zst"), place.read("whole/rejected.csv"));
    let tables = |folder: &str| {
        let mut files = place.tables(folder);
        files.remove("rejected.csv");
        files
    };
    assert!(tables("large") == tables("whole"), "a large file in parts, and read as a whole");
    assert!(tables("large") == tables("parts-out"), "a large file, and the same in small ones");
}

#[test]
fn active_in_any_dress() {
    let place = Place::new();
    let lines = &ACTIVE.lines;
    place.write("events.jsonl", rows(lines));
    place.write("shuffled.ndjson", rows(&shuffled(lines)).replace('\n', "\r\n"));
    place.write("array.json", format!("\u{feff}[\n{}\n]\n", lines.join(",\n")));
    place.write("events.jsonl.gz", gzip(&rows(lines)));
    place.write("array.jsons.zst", zstd(&format!("[{}]", lines.join(","))));
    for (number, lines) in lines.chunks(lines.len() / 5).enumerate() {
        place.write(&format!("in/{number}.jsonlines"), lines.join("\n\n"));
    }
    place.write("in/notes.md", "not read");
    for events in ["events.jsonl", "shuffled.ndjson", "array.json", "events.jsonl.gz", "array.jsons.zst", "in", "in/*.jsonlines"] {
        ACTIVE.check(&place, &format!("'events={events}' -w 3"));
    }
}

#[test]
fn active_in_any_batches() {
    let place = Place::new();
    let lines = shuffled(&ACTIVE.lines);
    let third = lines.len() / 3;
    place.write("a.jsonl", rows(&lines[..third]));
    place.write("b.jsonl", rows(&lines[third..2 * third]));
    place.write("c.jsonl", rows(&lines[2 * third..]));
    for workers in 1..=3 {
        ACTIVE.check(&place, &format!("events=a.jsonl --then events=b.jsonl --then events=c.jsonl -w {workers}"));
    }
    ACTIVE.check(&place, "events=c.jsonl --then 'events=a.jsonl events=c.jsonl' --then events=b.jsonl");
    ACTIVE.check(&place, "events-=a.jsonl events=b.jsonl --then 'events=a.jsonl events=c.jsonl' --then events=a.jsonl");
}

#[test]
fn usage_in_any_dress_and_batches() {
    let place = Place::new();
    let lines = shuffled(&USAGE.lines);
    let half = lines.len() / 2;
    place.write("a.jsonl", rows(&lines[..half]));
    place.write("b.json", format!("[\n{}\n]\n", lines[half..].join(",\n")));
    place.write("all.jsons.gz", gzip(&rows(&lines)));
    for workers in 1..=3 {
        USAGE.check(&place, &format!("events=a.jsonl --then events=b.json -w {workers}"));
    }
    USAGE.check(&place, "events=all.jsons.gz");
    USAGE.check(&place, "events-=a.jsonl events=b.json --then events=all.jsons.gz --then events=a.jsonl");
}

/// More than a split of JSON lines.
#[test]
fn active_from_a_large_file() {
    let place = Place::new();
    place.run("generate active --out in --days 10 --events-per-day 450 --mess 0.2 --late 0").succeeds();
    let lines = place.read("in/events.jsonl");
    assert!(lines.len() > 8 << 20, "there should be three splits of 4 MiB: {} bytes", lines.len());
    place.write("whole.jsonl.zst", zstd(&lines));
    place.run("run active events=in/events.jsonl -w 3 --out large").succeeds();
    place.run("run active events=whole.jsonl.zst -w 1 --out whole").succeeds();
    let [large, whole] = ["large", "whole"].map(|folder| place.tables(folder));
    let [large, whole] =
        [large, whole].map(|files| files.into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())));
    for ((name, large), (_, whole)) in large.zip(whole) {
        assert!(name != "rejected.csv" || large.lines().count() > 10, "some lines are broken");
        assert!(large.replace("in/events.jsonl", "whole.jsonl.zst") == whole, "{name} differs");
    }
}
