//! Result lines: what was measured, under which parameters, when and where.

use crate::numbers::rounded;
use crate::options::Common;
use crate::{Result, machine};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// A result line. Its fields stay in order.
pub struct Line {
    fields: Vec<(String, Value)>,
}

impl Line {
    /// The beginning of a line. The load average is that before the measurement.
    pub fn new(bench: &str, dataflow: &str) -> Line {
        let line = Line { fields: Vec::new() };
        line.with("date", machine::date())
            .with("commit", machine::commit())
            .with("machine", machine::machine())
            .with("load_average", machine::load_average())
            .with("bench", bench)
            .with("dataflow", dataflow)
    }

    /// With a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Line {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With a measurement, whose name ends in its unit.
    #[must_use]
    pub fn measured(self, name: &str, value: f64) -> Line {
        self.with(name, json!(rounded(value)))
    }

    /// Prints the line, and appends it to the results.
    #[allow(clippy::print_stdout, reason = "the one place where results are printed")]
    pub fn publish(&self, common: &Common) -> Result<()> {
        let line = serde_json::to_string(self)?;
        println!("{line}");
        let path = match &common.results {
            Some(path) => path.clone(),
            None if common.smoke => return Ok(()),
            None => PathBuf::from(format!("bench/results/{}.jsonl", machine::date().get(..10).unwrap_or("undated"))),
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{line}").map_err(|error| format!("could not append to {path:?}: {error}").into())
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Prints text that another process reads.
#[allow(clippy::print_stdout, reason = "the one place where results are printed")]
pub fn say(text: &str) {
    println!("{text}");
}

/// Says what a reader of the lines should know.
#[allow(clippy::print_stderr, reason = "the one place where notes are printed")]
pub fn note(text: &str) {
    eprintln!("note: {text}");
}

/// Says why a bench failed.
#[allow(clippy::print_stderr, reason = "the one place where failures are printed")]
pub fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
}
