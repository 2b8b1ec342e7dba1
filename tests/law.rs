//! The same records give the same bytes, however they are written, split, repeated and spread.
//!
//! The tables of one file, one batch and one worker are what all others are held against. (That these are right is what
//! the dataflows' own tests show.)

use crate::program::Place;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::LazyLock;

/// Records, and the tables that they make: what is in the files, by name.
pub struct Known {
    run: &'static str,
    /// Lines of `events`: CSV without header, or JSON objects.
    pub lines: Vec<String>,
    /// Lines of `servers`, where the dataflow has them.
    servers: Vec<String>,
    tables: BTreeMap<String, Vec<u8>>,
}

const EVENTS: [&str; 5] = ["timestamp", "device_id", "user_id", "server_id", "connected"];
const SERVERS: [&str; 3] = ["id", "created_at", "destroyed_at"];

pub static ONLINE: LazyLock<Known> = LazyLock::new(|| {
    let place = Place::new();
    place.run("generate online --out in --devices 60 --days 150 --events-per-day 0.4 --mess 0.2 --seed 7").succeeds();
    let lines = |name| place.read(name).lines().skip(1).map(String::from).collect();
    let mut servers: Vec<String> = lines("in/servers.csv");
    // A row that another one of its server outlives.
    servers.push("0,2022-06-01T00:00:00Z,2022-07-01T00:00:00Z".into());
    // Across the changes of the clock in March.
    let run = "run online --timezone Europe/Berlin --fleet-sizes 1,2-3,4-9";
    Known::of(run, lines("in/events.csv"), servers)
});

pub static ACTIVE: LazyLock<Known> = LazyLock::new(|| {
    let place = Place::new();
    place.run("generate active --out in --users 60 --days 25 --events-per-day 25 --mess 0.2 --seed 7 --late 0").succeeds();
    // Broken lines break an array; what becomes of them is no matter here.
    let whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    Known::of("run active", place.read("in/events.jsonl").lines().filter(whole).map(String::from).collect(), Vec::new())
});

pub static USAGE: LazyLock<Known> = LazyLock::new(|| {
    let place = Place::new();
    place.run("generate usage --out in --devices 12 --schools 4 --days 40 --mess 0.2 --seed 7 --late 0").succeeds();
    let whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    let run = "run usage --timezone America/Chicago --max-session 90m";
    Known::of(run, place.read("in/events.jsonl").lines().filter(whole).map(String::from).collect(), Vec::new())
});

impl Known {
    fn of(run: &'static str, lines: Vec<String>, servers: Vec<String>) -> Known {
        let mut known = Known { run, lines, servers, tables: BTreeMap::new() };
        let place = Place::new();
        place.write("servers.csv", table(&SERVERS, &known.servers));
        place.write("events.csv", table(&EVENTS, &known.lines));
        place.write("events.jsonl", known.lines.join("\n"));
        let inputs = if known.servers.is_empty() { "events=events.jsonl" } else { "events=events.csv servers=servers.csv" };
        place.run(&format!("{run} {inputs} -w 1 --out out")).succeeds();
        known.tables = place.files("out");
        known.tables.remove("rejected.csv");
        let large = known.tables.values().filter(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count() > 10).count();
        assert!(large >= 2, "there should be something to compare");
        known
    }

    /// The beginning of a command line, with the settings.
    pub fn run(&self) -> &'static str {
        self.run
    }

    /// Writes `FOLDER/events.csv` and `FOLDER/servers.csv`.
    pub fn write_csv(&self, place: &Place, folder: &str) {
        place.write(&format!("{folder}/events.csv"), table(&EVENTS, &self.lines));
        place.write(&format!("{folder}/servers.csv"), table(&SERVERS, &self.servers));
    }

    /// Writes the records in parts, each with a share of every input; answers the inputs of each, the last part first.
    pub fn write_parts(&self, place: &Place, parts: usize) -> Vec<String> {
        (0..parts)
            .rev()
            .map(|part| {
                let share = |lines: &[String]| lines.iter().skip(part).step_by(parts).cloned().collect::<Vec<_>>();
                place.write(&format!("part{part}/events.csv"), table(&EVENTS, &share(&self.lines)));
                place.write(&format!("part{part}/servers.csv"), table(&SERVERS, &share(&self.servers)));
                format!("events=part{part}/events.csv servers=part{part}/servers.csv")
            })
            .collect()
    }

    /// Runs, and compares what comes out.
    #[track_caller]
    pub fn check(&self, place: &Place, words: &str) {
        fs::remove_dir_all(place.path("out")).ok();
        let words = format!("{} {words} --out out", self.run);
        let words = if words.contains("-w ") { words } else { format!("{words} -w 2") };
        place.run(&words).succeeds();
        same(place, "out", self);
    }
}

/// The tables in a folder are those that are known.
#[track_caller]
pub fn same(place: &Place, folder: &str, known: &Known) {
    let mut tables = place.files(folder);
    tables.remove("rejected.csv");
    assert!(tables.keys().eq(known.tables.keys()), "the tables are {:?}", tables.keys());
    for (name, bytes) in &tables {
        let texts = [bytes, &known.tables[name]].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let [found, expected] = texts.each_ref().map(|text| text.lines().collect::<Vec<_>>());
        let line = (0..).find(|line| found.get(*line) != expected.get(*line) || found.get(*line).is_none()).unwrap();
        assert!(
            bytes == &known.tables[name],
            "{name} differs in line {}: {:?} should be {:?}",
            line + 1,
            found.get(line),
            expected.get(line)
        );
    }
}

fn table(header: &[&str], lines: &[String]) -> String {
    format!("{}\n{}", header.join(","), rows(lines))
}

fn rows(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Each line by its fields.
fn each(lines: &[String], line: impl Fn(&[&str]) -> String) -> String {
    lines.iter().map(|fields| line(&fields.split(',').collect::<Vec<_>>())).collect()
}

/// In an order that has nothing to do with time.
pub fn shuffled(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = lines.to_vec();
    lines.sort_by_cached_key(|line| {
        line.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    lines
}

fn gzip(bytes: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn zstd(bytes: &str) -> Vec<u8> {
    zstd::encode_all(bytes.as_bytes(), 1).unwrap()
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
        place.write(&name, if number % 3 == 0 { rows(lines) } else { table(&EVENTS, lines) });
    }
    place.write("in/deep/_SUCCESS", "");
    place.write("in/.hidden.csv", "2023-01-05T10:00:00Z,100001,1,1,true\n");
    ONLINE.check(&place, &format!("events=in {SERVERS_GIVEN}"));
    ONLINE.check(&place, &format!("'events=in/**/*.[cC][sS][vV]' {SERVERS_GIVEN}"));
    ONLINE.check(&place, &format!("'events=./in/{{*.csv,deep/er/*.CSV}}' {SERVERS_GIVEN}"));
    let files = ["in/4.csv", "in/2.csv", "in/deep/er", "in/0.csv", "in/6.csv", "in/2.csv"].map(|file| format!("events={file}"));
    ONLINE.check(&place, &format!("{SERVERS_GIVEN} {}", files.join(" ")));
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
    place.write("joined.csv.gz", parts.each_ref().map(|part| gzip(part)).concat());
    place.write("joined.CSV.ZST", parts.each_ref().map(|part| zstd(part)).concat());
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
    place.write("shuffled.csv", rows(&shuffled(&ONLINE.lines)));
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
    place.write("other.csv", each(&ONLINE.lines, other));
    place.write("gone.csv", "0,2022-01-01T00:00:00Z,2023-01-20T00:00:00Z\n1,2022-01-01T00:00:00Z,\n");
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
    for (name, bytes) in place.files("out") {
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
        let mut files = place.files(folder);
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
    place.write("in/notes.csv", "not read, because the input takes JSON alone");
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
    let [large, whole] = ["large", "whole"].map(|folder| place.files(folder));
    let [large, whole] =
        [large, whole].map(|files| files.into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())));
    for ((name, large), (_, whole)) in large.zip(whole) {
        assert!(name != "rejected.csv" || large.lines().count() > 10, "some lines are broken");
        assert!(large.replace("in/events.jsonl", "whole.jsonl.zst") == whole, "{name} differs");
    }
}
