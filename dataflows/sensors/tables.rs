//! The outputs: tables with their columns, and how rows are written.
//!
//! All but the issues start with the sensor's name and UUID. What follows them is written where the sensor is looked at, as the
//! [`Tail`] of a row; the names come last.

use crate::alarms::{Anomaly, Incident};
use crate::leaf;
use crate::records::Sensor;
use crate::segments::Segment;
use crate::sensor::{Summary, Whole};
use crate::unusual::Stretch;
use retally_core::contract::Table;
use retally_core::ids::Ids;
use retally_core::points::{FieldKind, Measurement, PointField, Tag};
use retally_core::row::{Column, ColumnType, Row};
use serde::{Deserialize, Serialize};

/// The table of names.
pub const MAPPING: &str = "sensor_mapping";
/// The table of sensors.
pub const SUMMARY: &str = "sensor_summary";
/// The table of lines.
pub const SEGMENTS: &str = "sensor_segments";
/// The table of anomalies.
pub const ANOMALIES: &str = "sensor_anomalies";
/// The table of incidents.
pub const INCIDENTS: &str = "sensor_incidents";
/// The table of unusual stretches.
pub const UNUSUAL: &str = "sensor_unusual";
/// The table of issues.
pub const ISSUES: &str = "sensor_issues";

/// Tables whose rows are about one sensor; a [`Tail`] names one by its place.
pub const OF_SENSORS: [&str; 5] = [SUMMARY, SEGMENTS, ANOMALIES, INCIDENTS, UNUSUAL];

/// How rows name a sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamedBy {
    /// What its id is.
    pub ids: Ids,
    /// Whether its name is its id, and not what the mapping says.
    pub by_id: bool,
}

/// All tables.
pub fn tables(named_by: NamedBy) -> Vec<Table> {
    use ColumnType::{Bool, Float, Text, Time, UInt};
    let column = Column::new;
    let table = |name, about, key, rest: Vec<Column>| {
        let ids = [
            column("sensor_name", named_by.column(), "its name; empty where the mapping has none, its id where there is no mapping"),
            column("sensor_uuid", named_by.ids.uuid(), "its UUID, or its id as it was given"),
        ];
        Table::new(name, about, key, ids.into_iter().chain(rest).collect())
    };
    vec![
        table(MAPPING, "the names of sensors", 2, Vec::new()),
        table(
            SUMMARY,
            "each sensor with measurements, in numbers",
            2,
            vec![
                column("first_time", Time, "when it was measured first"),
                column("last_time", Time, "when it was measured last"),
                column("measurements", UInt, "how many measurements"),
                column("scored", UInt, "how many of them had a forecast to be compared with"),
                column("minimum", Float, "the least value"),
                column("maximum", Float, "the greatest value"),
                column("mean", Float, "the mean of all values"),
                column("segments", UInt, "how many lines describe it"),
                column("anomalies", UInt, "how many measurements are anomalies"),
                column("incidents", UInt, "how many incidents they make"),
            ],
        ),
        table(
            SEGMENTS,
            "the piecewise regression: lines over consecutive stretches of time",
            3,
            vec![
                column("start_time", Time, "the first measurement of the stretch"),
                column("end_time", Time, "the last one"),
                column("measurements", UInt, "how many it has"),
                column("intercept", Float, "the line at start_time"),
                column("slope_per_hour", Float, "its slope"),
                column("r2", Float, "the share of the variance that it explains; 1 where there is none"),
                column("sigma", Float, "the standard deviation about it"),
            ],
        ),
        table(
            ANOMALIES,
            "measurements from the threshold on, and alarms",
            4,
            vec![
                column("timestamp", Time, "when it was measured"),
                column("value", Float, "what was measured"),
                column("expected", Float, "what was expected"),
                column("residual", Float, "value less expected"),
                column("score", Float, "how far from normal, in standard deviations"),
                column("severity", UInt, "1 from the threshold on, 1 more with each doubling; 0: below it"),
                column("kind", Text, "point, level_shift, collective, flatline or gap"),
                column("model", Text, "what the expectation comes from"),
                column("incident_start", Bool, "whether it alarms: twice as unusual as all of the 12 hours before"),
            ],
        ),
        table(
            INCIDENTS,
            "what is unusual for a sensor, with no more than 24 hours between",
            3,
            vec![
                column("start_time", Time, "the first alarm"),
                column("end_time", Time, "the last unusual measurement"),
                column("anomalies", UInt, "how many anomalies from one to the other"),
                column("peak_score", Float, "the highest score among its unusual readings and alarms"),
                column("kind", Text, "the kind of the anomaly with it"),
            ],
        ),
        table(
            UNUSUAL,
            "the 10 most unusual stretches of each sensor: a rank, not a test",
            4,
            vec![
                column("start_time", Time, "when it starts"),
                column("width_hours", UInt, "how long it is"),
                column("score", Float, "how unusual; 3 is usual"),
            ],
        ),
        Table::new(
            ISSUES,
            "measurements and names that are not as they should be",
            1,
            vec![column("issue", Text, "what is wrong"), column("rows", UInt, "how many rows")],
        ),
    ]
}

/// The kind of points.
pub fn measurement() -> Measurement {
    Measurement {
        name: "measurements",
        about: "what sensors measured",
        tags: vec![
            Tag { name: "sensor_name", about: "the sensor's name" },
            Tag { name: "sensor_uuid", about: "its UUID, or its id as it was given" },
        ],
        fields: vec![PointField { name: "value", kind: FieldKind::Float, about: "what was measured" }],
    }
}

/// A row of a sensor, without name and UUID. Sorts by table and row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tail {
    /// The table's place in [`OF_SENSORS`].
    pub table: u8,
    /// The other columns.
    pub rest: Row,
}

impl Tail {
    /// The row of a sensor.
    pub fn row(&self, named_by: NamedBy, name: &str, sensor: Sensor) -> Row {
        let mut row = named_by.row(name, sensor, self.rest.0.len());
        row.0.extend_from_slice(&self.rest.0);
        row
    }
}

impl NamedBy {
    /// The type of the column with names.
    fn column(self) -> ColumnType {
        match self.ids {
            Ids::Text if self.by_id => self.ids.uuid(),
            _ => ColumnType::Text,
        }
    }

    /// The beginning of a row of a sensor, which has a name when the mapping gives it one.
    fn row(self, name: &str, sensor: Sensor, more: usize) -> Row {
        let row = Row::with_capacity(name.len() + 18 + more);
        let row = match self.ids {
            _ if !self.by_id => row.text(name),
            Ids::Declared => row.text(&sensor.to_string()),
            Ids::Text => row.uuid(sensor.0),
        };
        row.uuid(sensor.0)
    }

    /// A row of [`MAPPING`].
    pub fn mapping_row(self, name: &str, sensor: Sensor) -> Row {
        self.row(name, sensor, 0)
    }
}

/// A row of [`ISSUES`].
pub fn issue_row(issue: &str, rows: isize) -> Row {
    Row::with_capacity(32).text(issue).uint(rows.unsigned_abs() as u64)
}

/// The rows of a sensor as a whole, in order.
pub fn tails(whole: &Whole) -> Vec<Tail> {
    let mut tails: Vec<Tail> = summary_row(whole).into_iter().collect();
    tails.extend(whole.segments.iter().map(segment_row));
    tails.extend(whole.anomalies.iter().map(anomaly_row));
    tails.extend(whole.incidents.iter().map(incident_row));
    tails.extend(whole.unusual.iter().map(stretch_row));
    tails.sort_unstable();
    tails
}

/// The row of [`SUMMARY`].
pub(crate) fn summary_row(whole: &Whole) -> Option<Tail> {
    whole.summary.as_ref().map(|summary| Tail { table: 0, rest: summary_tail(summary, whole) })
}

/// A row of [`SEGMENTS`].
pub(crate) fn segment_row(segment: &Segment) -> Tail {
    Tail { table: 1, rest: segment_tail(segment) }
}

/// A row of [`ANOMALIES`].
pub(crate) fn anomaly_row(anomaly: &Anomaly) -> Tail {
    Tail { table: 2, rest: anomaly_tail(anomaly) }
}

/// A row of [`INCIDENTS`].
pub(crate) fn incident_row(incident: &Incident) -> Tail {
    Tail { table: 3, rest: incident_tail(incident) }
}

/// A row of [`UNUSUAL`].
pub(crate) fn stretch_row(stretch: &Stretch) -> Tail {
    Tail { table: 4, rest: stretch_tail(stretch) }
}

fn summary_tail(summary: &Summary, whole: &Whole) -> Row {
    let count = |count: usize| count as u64;
    let row = Row::with_capacity(80).time(summary.times.0).time(summary.times.1).uint(summary.measurements).uint(summary.scored);
    let row = row.float(summary.extremes.0.get()).float(summary.extremes.1.get()).float(summary.mean);
    row.uint(count(whole.segments.len())).uint(count(whole.anomalies.len())).uint(count(whole.incidents.len()))
}

fn segment_tail(segment: &Segment) -> Row {
    let (moments, line) = (segment.moments, segment.moments.line());
    let left = moments.residual();
    let r2 = if moments.yy > 0.0 { 1.0 - left / moments.yy } else { 1.0 };
    let sigma = if moments.n > 2.0 { (left / (moments.n - 2.0)).sqrt() } else { 0.0 };
    let row = Row::with_capacity(56).time(segment.times.0).time(segment.times.1).uint(segment.measurements);
    row.float(segment.at(segment.times.0)).float(line.slope).float(r2).float(sigma)
}

fn anomaly_tail(anomaly: &Anomaly) -> Row {
    let scored = &anomaly.scored;
    let value = scored.reading.value.get();
    let row = Row::with_capacity(80).time(scored.reading.time()).float(value).float(scored.expected).float(value - scored.expected);
    let row = row.float(scored.score).uint(anomaly.severity.into());
    row.text(scored.kind.name()).text(scored.model.name()).bool(anomaly.alarm.is_some())
}

fn incident_tail(incident: &Incident) -> Row {
    let row = Row::with_capacity(48).time(incident.start).time(incident.end).uint(incident.anomalies);
    row.float(incident.peak_score).text(incident.kind.name())
}

fn stretch_tail(stretch: &Stretch) -> Row {
    Row::with_capacity(24).time(leaf::start(stretch.start)).uint(stretch.width.unsigned_abs().into()).float(stretch.score)
}
