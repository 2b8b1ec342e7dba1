//! Known records: generated once, with the tables that one file, one batch and one worker make of them.

use super::program::Place;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

/// Records, and the tables that they make: what is in the files, by name.
pub struct Known {
    run: &'static str,
    /// Lines of `events`: CSV without header, or JSON objects.
    pub lines: Vec<String>,
    /// Lines of `servers`, where the dataflow has them.
    pub servers: Vec<String>,
    tables: BTreeMap<String, Vec<u8>>,
}

/// The columns of `events`.
pub const EVENTS: [&str; 5] = ["timestamp", "device_id", "user_id", "server_id", "connected"];
/// The columns of `servers`.
pub const SERVERS: [&str; 3] = ["id", "created_at", "destroyed_at"];

/// Fleets of very different sizes, across a change of the clock.
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

/// The same fleets, with text for ids.
pub static TEXT_IDS: LazyLock<Known> = LazyLock::new(|| {
    let text = |line: &String, ids: std::ops::Range<usize>| {
        let cells =
            line.split(',').enumerate().map(|(place, cell)| if ids.contains(&place) { format!("dév {cell}/x") } else { cell.into() });
        cells.collect::<Vec<_>>().join(",")
    };
    let events = ONLINE.lines.iter().map(|line| text(line, 1..4)).collect();
    let servers = ONLINE.servers.iter().map(|line| text(line, 0..1)).collect();
    Known::of("run online --timezone Europe/Berlin --fleet-sizes 1,2-3,4-9 --ids text", events, servers)
});

/// Events of an app.
pub static ACTIVE: LazyLock<Known> = LazyLock::new(|| {
    let place = Place::new();
    place.run("generate active --out in --users 60 --days 25 --events-per-day 25 --mess 0.2 --seed 7 --late 0").succeeds();
    // Broken lines break an array; what becomes of them is no matter here.
    let whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    Known::of("run active", place.read("in/events.jsonl").lines().filter(whole).map(String::from).collect(), Vec::new())
});

/// Logs of schools and devices.
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
        NOT_COMPARED.iter().for_each(|name| drop(known.tables.remove(*name)));
        let large = known.tables.values().filter(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count() > 10).count();
        assert!(large >= 2, "there should be something to compare");
        known
    }

    /// The beginning of a command line, with the settings.
    pub fn run(&self) -> &'static str {
        self.run
    }

    /// The dataflow.
    pub fn dataflow(&self) -> &'static str {
        self.run.split(' ').nth(1).unwrap()
    }

    /// The settings, as a service takes them.
    pub fn set(&self) -> String {
        let words: Vec<&str> = self.run.split(' ').skip(2).collect();
        let set = |pair: &[&str]| format!("--set {}.{}={}", self.dataflow(), pair[0].trim_start_matches("--"), pair[1]);
        words.chunks(2).map(set).collect::<Vec<_>>().join(" ")
    }

    /// The tables by name, as CSV.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.tables.iter().map(|(file, bytes)| (file.strip_suffix(".csv").unwrap(), bytes.as_slice()))
    }

    /// Writes `FOLDER/events.csv` and `FOLDER/servers.csv`.
    pub fn write_csv(&self, place: &Place, folder: &str) {
        place.write(&format!("{folder}/events.csv"), table(&EVENTS, &self.lines));
        place.write(&format!("{folder}/servers.csv"), table(&SERVERS, &self.servers));
    }

    /// Writes the records in parts, each with a share of every input; returns the inputs of each, the last part first.
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

/// What is of deliveries and of the run, and not of the set of records.
const NOT_COMPARED: [&str; 2] = ["rejected.csv", "retally.json"];

/// The tables in a folder are those that are known.
#[track_caller]
pub fn same(place: &Place, folder: &str, known: &Known) {
    let mut tables = place.files(folder);
    NOT_COMPARED.iter().for_each(|name| drop(tables.remove(*name)));
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

/// Lines under a header.
pub fn table(header: &[&str], lines: &[String]) -> String {
    format!("{}\n{}", header.join(","), rows(lines))
}

/// Lines without a header.
pub fn rows(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// In an order that has nothing to do with time.
pub fn shuffled(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = lines.to_vec();
    lines.sort_by_cached_key(|line| {
        line.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    lines
}
