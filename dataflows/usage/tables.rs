//! The outputs: tables with their columns, charts, and how rows are written.

use crate::assignment::Assignment;
use crate::logs::Session;
use crate::minutes::DayOfDevice;
use crate::records::Id;
use retally_core::chart::{Chart, Layer, Mark, Series};
use retally_core::contract::Table;
use retally_core::ids::Ids;
use retally_core::operators::quantile::Distribution;
use retally_core::row::{Column, ColumnType, Row};
use retally_core::time::Moment;

/// Devices with a session.
pub const DEVICES: &str = "usage_devices";
/// Sessions.
pub const SESSIONS: &str = "usage_sessions";
/// Minutes by device and day.
pub const HISTORY: &str = "usage_history";
/// Schools.
pub const SCHOOLS: &str = "usage_schools";
/// The whole in numbers.
pub const STATISTICS: &str = "usage_statistics";
/// What is not as it should be.
pub const ISSUES: &str = "usage_issues";

/// All tables.
pub fn tables(ids: Ids) -> Vec<Table> {
    use ColumnType::{Day, Float, Text, Time, UInt};
    vec![
        Table::new(
            DEVICES,
            "devices with a session",
            1,
            vec![
                Column::new("device_id", ids.uuid(), "the device"),
                Column::new("first_session_start", Time, "when its first session started"),
            ],
        ),
        Table::new(
            SESSIONS,
            "sessions, with the school that their device belonged to when they started",
            2,
            vec![
                Column::new("session_id", ids.uuid(), "the session"),
                Column::new("device_id", ids.uuid(), "its device"),
                Column::new("start_time", Time, "when it started"),
                Column::nullable("end_time", Time, "when it ended, if it was completed"),
                Column::nullable("school_id", ids.uuid(), "the device's school at its start"),
                Column::nullable("school_name", Text, "the school's name"),
            ],
        ),
        Table::new(
            HISTORY,
            "minutes of use by device, for each day from its first session to the day of as-of",
            2,
            vec![
                Column::new("device_id", ids.uuid(), "the device"),
                Column::new("date", Day, "the day"),
                Column::new("usage_minutes", Float, "minutes of completed sessions on that day"),
                Column::new("avg_usage_minutes_7d", Float, "the mean over the seven days that end with it, fewer at the beginning"),
            ],
        ),
        Table::new(
            SCHOOLS,
            "schools, with their devices and completed sessions",
            1,
            vec![
                Column::new("school_id", ids.uuid(), "the school"),
                Column::nullable("name", Text, "its name"),
                Column::new("device_count", UInt, "devices whose school it is at the end"),
                Column::nullable("median_session_length", Float, "minutes"),
                Column::nullable("mean_session_length", Float, "minutes"),
            ],
        ),
        Table::new(
            STATISTICS,
            "the whole in numbers",
            1,
            vec![Column::new("metric", Text, "what is counted"), Column::new("value", Text, "a number, or a time")],
        ),
        Table::new(
            ISSUES,
            "what is not as it should be",
            1,
            vec![Column::new("issue", Text, "what is wrong"), Column::new("events", UInt, "how many events, logs, schools or sessions")],
        ),
    ]
}

/// All charts.
pub fn charts() -> Vec<Chart> {
    let minutes =
        Layer { table: HISTORY, x: "date", mark: Mark::Bars("usage_minutes"), series: Series::One("all devices"), days_before: None };
    let sessions = Layer { table: SESSIONS, x: "school_name", mark: Mark::Count, series: Series::One("sessions"), days_before: None };
    vec![
        Chart {
            name: "usage_minutes",
            title: "Minutes of use per day, over all devices",
            y_label: "minutes",
            layers: vec![minutes],
            today: None,
        },
        Chart { name: "usage_sessions", title: "Sessions per school", y_label: "sessions", layers: vec![sessions], today: None },
    ]
}

/// Microseconds of a minute.
const MINUTE: f64 = 60e6;

/// Microseconds as minutes.
pub fn minutes(micros: i128) -> f64 {
    micros as f64 / MINUTE
}

/// A row of [`DEVICES`].
pub fn device_row(device: Id, first_start: Moment) -> Row {
    Row::with_capacity(24).uuid(device.number()).time(first_start)
}

/// A row of [`SESSIONS`].
pub fn session_row(device: Id, session: &Session, assignment: Option<&Assignment>) -> Row {
    let name = assignment.and_then(|assignment| assignment.name.as_deref());
    // Ids and start; the others with a byte before them, and two behind a text.
    let bytes = 40 + 3 + 8 + assignment.map_or(0, |_| 16) + name.map_or(0, |name| name.len() + 2);
    let row =
        Row::with_capacity(bytes).uuid(session.id.number()).uuid(device.number()).time(session.start).optional(session.end, Row::time);
    row.optional(assignment, |row, assignment| row.uuid(assignment.school.number())).optional(name, Row::text)
}

/// A row of [`HISTORY`].
pub fn history_row(day: &DayOfDevice) -> Row {
    let mean = day.week_micros as f64 / (MINUTE * f64::from(day.week_days));
    Row::with_capacity(36).uuid(day.device.number()).day(day.day).float(minutes(day.micros.into())).float(mean)
}

/// A row of [`SCHOOLS`].
pub fn school_row(school: Id, name: Option<&str>, devices: u64, lengths: Option<&Distribution>) -> Row {
    let row = Row::with_capacity(64).uuid(school.number()).optional(name, Row::text).uint(devices);
    let median = lengths.map(|lengths| (i128::from(lengths.lower) + i128::from(lengths.upper)) as f64 / (2.0 * MINUTE));
    let mean = lengths.map(|lengths| lengths.sum as f64 / (lengths.count as f64 * MINUTE));
    row.optional(median, Row::float).optional(mean, Row::float)
}

/// A row of [`STATISTICS`].
pub fn statistics_row(metric: &str, value: &str) -> Row {
    Row::with_capacity(metric.len() + value.len() + 4).text(metric).text(value)
}

/// A row of [`ISSUES`].
pub fn issue_row(issue: &str, events: isize) -> Row {
    Row::with_capacity(40).text(issue).uint(events.unsigned_abs() as u64)
}
