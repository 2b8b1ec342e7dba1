//! The outputs: measurements, tables with their columns, the chart, and how rows are written.

use crate::outcome::{Outcome, quotient, seconds};
use crate::records::PERCENT_STEPS;
use retally_core::calendar::Day;
use retally_core::chart::{Chart, Layer, Mark, Series};
use retally_core::contract::Table;
use retally_core::points::{FieldKind, Measurement, PointField, Tag};
use retally_core::row::{Column, ColumnType, Row};

/// The table of datasets.
pub const JOBS: &str = "brushing_jobs";
/// The table of days.
pub const DAILY: &str = "brushing_daily";
/// The table of teeth.
pub const TEETH: &str = "brushing_teeth";

/// What identifies a dataset.
pub const KEYS: [&str; 2] = ["toothbrush_id", "dataset_id"];

/// All measurements: `brushing`, `settings`.
pub fn measurements() -> Vec<Measurement> {
    let tags = vec![Tag { name: "toothbrush_id", about: "the toothbrush" }, Tag { name: "dataset_id", about: "the dataset" }];
    let int = |name, about| PointField { name, kind: FieldKind::Int, about };
    let float = |name, about| PointField { name, kind: FieldKind::Float, about };
    vec![
        Measurement {
            name: "brushing",
            about: "ticks of brushing, each with its time",
            tags: tags.clone(),
            fields: vec![
                int("tick", "the tick"),
                int("tooth", "the tooth that was brushed"),
                float("percent_clean", "how clean it was: 0 to 1"),
                float("battery", "the battery as of the tick: 0 to 1"),
                float("tick_interval", "the tick interval as of the tick, in seconds"),
            ],
        },
        Measurement {
            name: "settings",
            about: "changes of settings",
            tags,
            fields: vec![
                int("tick", "the tick"),
                float("battery", "the battery, where the line gave it"),
                float("tick_interval", "the tick interval in seconds, where the line gave it"),
            ],
        },
    ]
}

/// All tables.
pub fn tables() -> Vec<Table> {
    use ColumnType::{Day, Float, Text, Time, UInt};
    let toothbrush = || Column::new("toothbrush_id", Text, "the toothbrush");
    vec![
        Table::new(
            JOBS,
            "datasets, and what came of them",
            2,
            vec![
                toothbrush(),
                Column::new("dataset_id", Text, "the dataset"),
                Column::new("status", Text, "done, unsalvageable (no good line of a stream) or failed (it could not be read)"),
                Column::nullable("start_time", Time, "the first event of either stream"),
                Column::nullable("end_time", Time, "one tick after the last event of either stream"),
                Column::nullable("seconds_lost", Float, "the time of the ticks that are missing, where it is known"),
                Column::new("brushing_points", UInt, "points of brushing"),
                Column::new("settings_points", UInt, "points of settings"),
                Column::new("skipped_lines", UInt, "lines that are no record, out of range or out of order; the first 100 are in rejected"),
                Column::nullable("error", Text, "why it failed, or why no line is good"),
            ],
        ),
        Table::new(
            DAILY,
            "brushing by toothbrush and day",
            2,
            vec![
                toothbrush(),
                Column::new("day", Day, "the day of the datasets' start"),
                Column::new("datasets", UInt, "how many datasets"),
                Column::new("minutes", Float, "how long they are"),
                Column::new("seconds_lost", Float, "the time of the ticks that are missing"),
            ],
        ),
        Table::new(
            TEETH,
            "brushing by toothbrush and tooth",
            2,
            vec![
                toothbrush(),
                Column::new("tooth", UInt, "the tooth"),
                Column::new("points", UInt, "how many ticks"),
                Column::new("mean_percent_clean", Float, "how clean it was on average: 0 to 1"),
            ],
        ),
    ]
}

/// The charts: minutes, and loss, a bar a day, over all toothbrushes.
pub fn charts() -> Vec<Chart> {
    let layer =
        |column, name| vec![Layer { table: DAILY, x: "day", mark: Mark::Bars(column), series: Series::One(name), days_before: None }];
    vec![
        Chart {
            name: "brushing_minutes",
            title: "Brushing per day",
            y_label: "minutes",
            layers: layer("minutes", "minutes of brushing"),
            today: None,
        },
        Chart {
            name: "brushing_loss",
            title: "Data lost per day",
            y_label: "seconds",
            layers: layer("seconds_lost", "seconds lost"),
            today: None,
        },
    ]
}

/// A row of [`JOBS`].
pub fn job_row(key: &[String], outcome: &Outcome) -> Row {
    let row = key.iter().fold(Row::with_capacity(128), |row, part| row.text(part)).text(outcome.status.name());
    let span = outcome.span();
    let row = row.optional(span.map(|span| span.0), Row::time).optional(span.map(|span| span.1), Row::time);
    let row = row.optional(span.map(|_| seconds(outcome.lost_fs)), Row::float);
    let row = row.uint(outcome.brushing_points).uint(outcome.settings_points).uint(outcome.skipped_lines);
    row.optional(Some(outcome.error.as_str()).filter(|error| !error.is_empty()), Row::text)
}

/// A row of [`DAILY`].
pub fn daily_row(toothbrush: &str, day: Day, datasets: u64, minutes: f64, seconds_lost: f64) -> Row {
    Row::with_capacity(64).text(toothbrush).day(day).uint(datasets).float(minutes).float(seconds_lost)
}

/// A row of [`TEETH`].
pub fn tooth_row(toothbrush: &str, tooth: u32, points: u64, percent_steps: u128) -> Row {
    let mean = quotient(percent_steps, u128::from(points) * u128::from(PERCENT_STEPS));
    Row::with_capacity(64).text(toothbrush).uint(tooth.into()).uint(points).float(mean)
}
