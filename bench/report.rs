//! `report`: result lines as tables in Markdown, one for each bench.
//!
//! Of each workload, which is what a line was measured under, the latest line is shown; the others stay in the files, as history. A table's
//! columns are the fields of its lines in their order. Numbers are written as people read them: bytes in MB or GB, large
//! numbers with commas; the lines keep them exact.
//!
//! # Limits
//! No plots: the charts of this project have an axis of days, and results have none.

use crate::Result;
use clap::Args;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `report`.
#[derive(Args)]
pub struct ReportOptions {
    /// The folder of result lines; the report becomes its README.md
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

/// What each bench is about, in the order of the report.
const BENCHES: [(&str, &str); 21] = [
    ("load", "The program as a whole, from text files to tables in files."),
    ("parse", "Reading and decoding alone, without a graph."),
    ("late", "From a late event's arrival until its changes are there: single events, and batches."),
    ("stream", "Batches of one record through a host, with so many in flight."),
    ("serve", "A service over HTTP with all tables: a load by `feed`, single late events, clients side by side, a restart."),
    ("page", "The page of a service in Chromium: its first view, a large table, and how soon a change is on it."),
    ("sources", "Messages of brokers into a service with all tables: many that wait, and single ones until their change is told."),
    ("sweep", "The same number of events in many shapes: how wrong, how spread, in which order. Last: the worst by the best."),
    ("memory", "Resident memory at its peak and after the load, and per event."),
    ("scaling", "The same load on 1 worker, 2 workers, and 2 processes with a worker each."),
    ("exchange", "What process 0 of two sends to the other, per event of a load and per late event."),
    ("operators", "Every record with the next one of its key, in three ways; single late changes."),
    ("wire", "A record between processes."),
    ("brushing", "Datasets of tick streams, as points."),
    ("anomaly", "What `sensors` finds of the faults that were put in, or how NAB scores it."),
    ("sinks", "Tables from memory into databases, until they are committed: all rows, the same again, one in 100 changed, an epoch."),
    ("points", "Points into each destination: few long series of five fields, and a thousand of one field."),
    ("point ranges", "Ranges of one series, read from the store."),
    ("late points", "A single point into the middle of a series, from its offer until it is synced."),
    ("peers", "The same tables from the same files by other programs."),
    ("build", "A release build from nothing, and the size of the program."),
];
/// Fields that are told above a table, or nowhere.
const NOT_COLUMNS: [&str; 3] = ["bench", "machine", "date"];
/// Fields that say what was measured. Lines that agree in them are of one workload.
const PARAMETERS: [&str; 37] = [
    "what",
    "view",
    "broker",
    "batch_time",
    "clients",
    "dataflow",
    "machine",
    "on",
    "program",
    "operator",
    "record",
    "format",
    "database",
    "table",
    "to",
    "shape",
    "ids",
    "devices",
    "users",
    "sensors",
    "datasets",
    "series",
    "days",
    "events",
    "events_per_key",
    "points",
    "points_read",
    "rows",
    "late",
    "batch_events",
    "threshold",
    "processes",
    "workers",
    "threads",
    "tables",
    "in_flight",
    "cores",
];

/// A result line's fields in their order.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn text(&self, name: &str) -> String {
        match self.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Fields, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a result line")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

/// Writes the report.
pub fn main(options: &ReportOptions) -> Result<()> {
    let lines = read(&options.results)?;
    let mut text = String::from(HEAD);
    for (bench, about) in BENCHES {
        let mut machines: BTreeMap<String, Vec<&Fields>> = BTreeMap::new();
        for line in latest(lines.iter().filter(|line| line.text("bench") == bench)) {
            machines.entry(machine(line)).or_default().push(line);
        }
        if machines.is_empty() {
            continue;
        }
        write!(text, "\n## {bench}\n\n{about}\n")?;
        for (machine, lines) in machines {
            write!(text, "\n{machine}\n\n{}", table(&lines))?;
        }
    }
    let path = options.results.join("README.md");
    fs::write(&path, text).map_err(|error| format!("could not write {path:?}: {error}").into())
}

const HEAD: &str = "# Results

Written by `cargo run --release -p retally-bench -- report` from the lines beside this page; do not edit. Of each workload the latest line
is here; the lines are the history.
A `load_average` beyond the bench's own threads says that the machine had other work: read such lines as upper bounds.
";

fn read(folder: &Path) -> Result<Vec<Fields>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        for (number, line) in fs::read_to_string(&path)?.lines().enumerate() {
            let fields = serde_json::from_str(line).map_err(|error| format!("could not read {path:?} line {}: {error}", number + 1))?;
            lines.push(fields);
        }
    }
    Ok(lines)
}

/// The latest line of each workload, in the order of the parameters. Lines are appended: the last is the latest.
fn latest<'l>(lines: impl Iterator<Item = &'l Fields>) -> impl Iterator<Item = &'l Fields> {
    let workload = |line: &Fields| PARAMETERS.map(|name| line.text(name));
    lines.map(|line| (workload(line), line)).collect::<BTreeMap<_, _>>().into_values()
}

fn machine(line: &Fields) -> String {
    let machine = line.get("machine").cloned().unwrap_or_default();
    let of = |name: &str| machine.get(name).cloned().unwrap_or_default();
    let memory = of("memory_bytes").as_f64().unwrap_or(0.0) / f64::from(1 << 30);
    format!("{}, {} cores, {memory:.0} GiB", of("cpu").as_str().unwrap_or("unknown processor"), of("cores"))
}

fn table(lines: &[&Fields]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for name in lines.iter().flat_map(|line| &line.0).map(|(name, _)| name.as_str()) {
        if !columns.contains(&name) && !NOT_COLUMNS.contains(&name) {
            columns.push(name);
        }
    }
    let titles: Vec<String> = columns.iter().map(|name| title(name)).collect();
    let mut text = format!("| date | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(columns.len()));
    for line in lines {
        let day = line.text("date").chars().take(10).collect();
        let cells: Vec<String> =
            [day].into_iter().chain(columns.iter().map(|name| line.get(name).map_or(String::new(), |value| cell(name, value)))).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

fn title(name: &str) -> String {
    name.replace('_', " ")
}

fn cell(name: &str, value: &Value) -> String {
    let Some(number) = value.as_f64() else { return value.as_str().map_or(value.to_string(), |text| text.replace(',', ", ")) };
    let bytes = name.ends_with("_bytes") || name.ends_with("_bytes_per_s");
    match number {
        number if bytes && number >= 1e9 => format!("{:.2} G", number / 1e9),
        number if bytes && number >= 1e6 => format!("{:.1} M", number / 1e6),
        number if number >= 1_000.0 => commas(&format!("{number:.0}")),
        number => format!("{number}"),
    }
}

/// A comma before every third digit from the end.
fn commas(digits: &str) -> String {
    let length = digits.len();
    let each = digits.chars().enumerate();
    each.flat_map(|(place, digit)| (place > 0 && (length - place).is_multiple_of(3)).then_some(',').into_iter().chain([digit])).collect()
}
