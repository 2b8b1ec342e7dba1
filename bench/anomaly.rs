//! `anomaly`: are the anomalies of `sensors` those that people would name?
//!
//! On generated sensors, whose faults are known: precision, recall and F1 of incidents, by shape. On a folder in the layout of the Numenta
//! Anomaly Benchmark (`data/**.csv`, `labels/combined_windows.json`), with `--nab DIR`: its scores, with one threshold for all series, and
//! the rows that start an incident as detections. The data is not part of this project; nothing here is tuned to a series of it.

use crate::Result;
use crate::options::Common;
use crate::results::Line;
use clap::Args;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use retally_core::calendar::{Calendar, Naming};
use retally_core::time::{HOUR, Moment, SECOND};
use retally_sensors::evaluate::{Labelled, PROFILES, Tally, nab, tally};
use retally_sensors::generate;
use retally_sensors::records::{Reading, Value};
use retally_sensors::sensor::{History, Rules, Whole, Work};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `anomaly`.
#[derive(Args)]
pub struct AnomalyOptions {
    #[command(flatten)]
    common: Common,
    /// A folder in NAB's layout
    #[arg(long)]
    nab: Option<PathBuf>,
    /// How many standard deviations are an anomaly
    #[arg(long, default_value_t = 5.0)]
    threshold: f64,
    /// How many generated sensors
    #[arg(long, default_value_t = 140)]
    sensors: u64,
    /// Fails when the F1 of generated sensors is below this
    #[arg(long, default_value_t = 0.75)]
    gate: f64,
}

const DAYS: u64 = 42;
const SEED: u64 = 7;

/// Runs the bench.
pub fn main(options: &AnomalyOptions) -> Result<()> {
    let rules = Rules { calendar: Calendar::utc(), threshold: options.threshold };
    generated(options, &rules)?;
    options.nab.as_ref().map_or(Ok(()), |folder| on_nab(options, folder, &rules))
}

fn whole(mut readings: Vec<(Reading, isize)>, rules: &Rules) -> Whole {
    differential_dataflow::consolidation::consolidate(&mut readings);
    let mut history = History::default();
    history.change(&mut readings, rules, &mut Work::default());
    history.whole(rules, false)
}

fn generated(options: &AnomalyOptions, rules: &Rules) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut by_shape: BTreeMap<String, Tally> = BTreeMap::new();
    let sensors = if options.common.smoke { 7 } else { options.sensors };
    for number in 0..sensors {
        let made = generate::made(number, DAYS, &mut random);
        let measurements = made.measurements(DAYS, 300 * SECOND, &mut random);
        let reading = |(time, value)| Some((Reading::new(time, Naming::Unique, Value::new(value)?), 1));
        let incidents = whole(measurements.into_iter().filter_map(reading).collect(), rules).incidents;
        // What happened is seen with the next measurement, or by the end of the next hour.
        let labels: Vec<(i64, i64)> = made.labels.iter().map(|label| (label.start.0, label.end.0 + HOUR)).collect();
        let found: Vec<(i64, i64)> = incidents.iter().map(|incident| (incident.start.0, incident.end.0)).collect();
        let sum = by_shape.entry(format!("{:?}", made.shape)).or_default();
        *sum = sum.plus(tally(&labels, &found));
    }
    let total = by_shape.values().fold(Tally::default(), |sum, one| sum.plus(*one));
    for (shape, tally) in by_shape.iter().map(|(shape, tally)| (shape.as_str(), tally)).chain([("all", &total)]) {
        Line::new("anomaly", "sensors")
            .with("on", "generated")
            .with("shape", shape)
            .with("sensors", sensors)
            .with("threshold", options.threshold)
            .with("found", tally.found)
            .with("missed", tally.missed)
            .with("false_alarms", tally.false_alarms)
            .measured("precision", tally.precision())
            .measured("recall", tally.recall())
            .measured("f1", tally.f1())
            .publish(&options.common)?;
    }
    if total.f1() < options.gate {
        return Err(format!("the F1 of generated sensors is {}, below {}", total.f1(), options.gate).into());
    }
    Ok(())
}

fn on_nab(options: &AnomalyOptions, folder: &Path, rules: &Rules) -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("could not read {path:?}: {error}"));
    let labels: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&read(&folder.join("labels/combined_windows.json"))?)?;
    let mut series = Vec::new();
    for (name, windows) in &labels {
        let path = folder.join("data").join(name);
        if path.exists() {
            series.push(labelled(&read(&path)?, windows, rules).map_err(|error| format!("{path:?}: {error}"))?);
        }
    }
    let mut line = Line::new("anomaly", "sensors").with("on", "nab").with("series", series.len()).with("threshold", options.threshold);
    for profile in &PROFILES {
        line = line.measured(profile.name, nab(&series, profile));
    }
    line.publish(&options.common)
}

/// A series with what is found in it.
fn labelled(text: &str, windows: &[(String, String)], rules: &Rules) -> Result<Labelled> {
    let time = |text: &str| rules.calendar.parse(text.as_bytes());
    let mut rows: Vec<Reading> = Vec::new();
    for line in text.lines().skip(1) {
        let (at, value) = line.split_once(',').ok_or("a line without comma")?;
        let value = Value::new(value.trim().parse()?).ok_or("a value out of range")?;
        rows.push(Reading::new(time(at)?, Naming::Unique, value));
    }
    let anomalies = whole(rows.iter().map(|reading| (*reading, 1)).collect(), rules).anomalies;
    let starts: Vec<Moment> =
        anomalies.iter().filter(|anomaly| anomaly.alarm.is_some()).map(|anomaly| anomaly.scored.reading.time()).collect();
    let mut detections: Vec<usize> = starts.iter().filter_map(|start| rows.iter().position(|row| row.time() == *start)).collect();
    detections.sort_unstable();
    detections.dedup();
    let mut places = Vec::new();
    for (first, last) in windows {
        let (first, last) = (time(first)?, time(last)?);
        let places_of = (rows.iter().position(|row| row.time() >= first), rows.iter().rposition(|row| row.time() <= last));
        if let (Some(first), Some(last)) = places_of {
            places.push((first, last));
        }
    }
    Ok(Labelled { rows: rows.len(), windows: places, detections })
}
