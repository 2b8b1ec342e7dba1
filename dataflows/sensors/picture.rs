//! What is drawn of a sensor: values, lines, what was expected, anomalies and incidents; and which sensors are drawn.
//!
//! Values and forecasts are in no table, and lie in the sensor's [`History`] alone. This operator reads them there, on the same worker, as what
//! writes points does, for the sensors that were chosen and no others. Whatever changes of such a sensor, all of its picture is made
//! anew, and the differences are said.
//!
//! State: the pieces of the chosen sensors, at most some 10,000 each. Cost of a change: the measurements of the chosen sensors that it touches.
//!
//! # Limits
//! A history may be an epoch ahead, where epochs are fed without waiting: a picture is then that of a later epoch, and is the right one at
//! the last.

use crate::anomalies::{Anomaly, Incident, KINDS};
use crate::graph::{Fact, Sensors, differences};
use crate::leaf;
use crate::points::Shelf;
use crate::records::Sensor;
use crate::segments::Segment;
use crate::sensor::{History, Rules};
use retally_core::Collection;
use retally_core::extremes::{self, Columns, Covered};
use retally_core::key_chart::{KeyChart, Piece};
use retally_core::operators::by_key::{Each, Emitter, State, by_key, exchange};
use retally_core::operators::first::first;
use retally_core::row::Row;
use retally_core::time::{HOUR, Moment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The table of pieces.
pub const PIECES: &str = "sensor_pieces";
/// The setting that names sensors.
pub const SETTING: &str = "chart-sensor";
/// How many sensors are drawn when none is asked for.
const CHARTS: usize = 5;
/// Of more lines the longest are drawn.
const LINES_MAX: usize = 2_000;
/// Of more anomalies the worst of each kind are drawn, in columns that are as wide as a mark.
const MARKS_MAX: usize = 1_000;
const MARK_COLUMNS: i64 = 5;

/// The highest score of a sensor's anomalies, as a number that sorts as it does: the bits of a float that is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peak(u64);

impl Peak {
    /// 0 where there are no anomalies.
    pub fn of(anomalies: &[Anomaly]) -> Peak {
        Peak(anomalies.iter().map(|anomaly| anomaly.scored.score.to_bits()).max().unwrap_or(0))
    }
}

/// The sensors that a setting names.
pub fn asked(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect()
}

/// What a chart looks like.
pub fn chart(asked: Vec<String>, threshold: f64) -> KeyChart {
    KeyChart {
        noun: "sensor",
        table: PIECES,
        setting: SETTING,
        asked,
        y_label: "value",
        values: "values".into(),
        band: format!("expected ± {threshold} σ"),
        lines: "segments".into(),
        stretches: "incidents".into(),
        marks: KINDS.iter().map(|kind| kind.name().to_string()).collect(),
    }
}

/// The sensors to draw, with their names and what asked for them.
pub(crate) fn chosen<'s>(
    facts: &Collection<'s, (Sensor, Fact)>,
    known: Collection<'s, (Sensor, (Option<String>, bool))>,
    asked: &[String],
) -> Collection<'s, (Sensor, String, String)> {
    if asked.is_empty() {
        let peaks = facts.clone().flat_map(|(sensor, fact)| if let Fact::Peak(peak) = fact { Some((sensor, peak)) } else { None });
        let names = known.map(|(sensor, (name, _))| (sensor, name.unwrap_or_default()));
        // The highest first, then by name.
        let ranked = peaks.join_map(names, |sensor, peak, name| (u64::MAX - peak.0, name.clone(), *sensor));
        return first(ranked, CHARTS, "sensors with the highest peaks").map(|(_, name, sensor)| (sensor, name, String::new()));
    }
    let asked: Vec<(String, Option<Sensor>)> = asked.iter().map(|text| (text.clone(), Sensor::parse(text.as_bytes()))).collect();
    known.flat_map(move |(sensor, (name, _))| {
        let name = name.unwrap_or_default();
        let fits = |(text, uuid): &&(String, Option<Sensor>)| *text == name || *uuid == Some(sensor);
        asked.iter().filter(fits).map(|(text, _)| (sensor, name.clone(), text.clone())).collect::<Vec<_>>()
    })
}

/// What has happened to a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Cue {
    Chosen,
    Touched,
}

/// A sensor, as far as it is drawn.
#[derive(Default)]
struct Drawing {
    chosen: isize,
    rows: Vec<Row>,
}

impl State for Drawing {
    fn is_empty(&self) -> bool {
        self.chosen == 0 && self.rows.is_empty()
    }
}

/// The rows of [`PIECES`].
pub(crate) fn pieces<'s>(
    chosen: Collection<'s, (Sensor, String, String)>,
    facts: &Collection<'s, (Sensor, Fact)>,
    known: Collection<'s, (Sensor, (Option<String>, bool))>,
    sensors: &Sensors,
    shelf: Shelf,
) -> Collection<'s, Row> {
    let cues = chosen.clone().map(|(sensor, _, _)| (sensor, Cue::Chosen));
    let cues = cues.concat(facts.clone().flat_map(|(sensor, fact)| matches!(fact, Fact::Touched).then_some((sensor, Cue::Touched))));
    let rules = sensors.rules.clone();
    let drawn = by_key(cues, exchange(), "pictures", move |sensor, cues, drawing: &mut Drawing, emitter: &mut Each<Row>| {
        drawing.chosen += cues.drain(..).filter(|(cue, _)| *cue == Cue::Chosen).map(|(_, diff)| diff).sum::<isize>();
        let history = shelf.borrow().get(sensor).filter(|_| drawing.chosen > 0).cloned();
        let id = sensor.to_string();
        let of = |history: &History| of_history(history, &rules).iter().map(|piece| piece.row(&id)).collect();
        let mut rows: Vec<Row> = history.map_or(Vec::new(), |history| of(&history.borrow()));
        rows.sort_unstable();
        differences(&drawing.rows, &rows, |row, diff| emitter.give(row.clone(), diff));
        drawing.rows = rows;
    });
    let titles = chosen.map(|(sensor, name, asked)| Piece::Drawn { name, asked }.row(&sensor.to_string()));
    let rows = drawn.concat(titles);
    if sensors.charted.is_empty() {
        return rows;
    }
    rows.concat(known.map(|(sensor, (name, _))| Piece::Known(name.unwrap_or_default()).row(&sensor.to_string())))
}

/// The pieces of a sensor's picture.
fn of_history(history: &History, rules: &Rules) -> Vec<Piece> {
    let values = history.readings().map(|reading| (reading.time(), reading.value.get()));
    let silence = extremes::silence_micros(values.clone().map(|(time, _)| time));
    let values = extremes::reduced(values, silence);
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return Vec::new() };
    let columns = Columns::of(first.0, last.0);
    let whole = history.whole(rules, false);
    let mut pieces: Vec<Piece> =
        values.iter().map(|(time, value, breaks)| Piece::Value { time: *time, value: *value, breaks: *breaks }).collect();
    let band = extremes::enveloped(band(history, rules.threshold, silence, last.0));
    pieces.extend(band.into_iter().map(|(time, low, high, breaks)| Piece::Band { time, low, high, breaks }));
    pieces.extend(lines(whole.segments));
    pieces.extend(stretches(&whole.incidents, &columns));
    pieces.extend(marks(&whole.anomalies, &columns));
    pieces
}

/// What was expected, from the start of each hour with a forecast to its end.
fn band(history: &History, threshold: f64, silence_micros: i64, last: Moment) -> Vec<Covered> {
    let mut band: Vec<Covered> = Vec::new();
    let mut open_until = None;
    for (hour, baseline) in history.forecasts() {
        let Some(baseline) = baseline else {
            open_until = None;
            continue;
        };
        let (start, reach) = (leaf::start(hour), threshold * baseline.sigma());
        // The next hour starts where this one ends, with its own forecast.
        let end = start.plus(HOUR - 1).min(last).max(start.plus(1));
        let breaks = open_until.is_none_or(|until: Moment| start.0 - until.0 > silence_micros);
        let at = |time, breaks| {
            let expected = baseline.expected(leaf::within(hour, time));
            (time, expected - reach, expected + reach, breaks)
        };
        band.extend([at(start, breaks), at(end, false)]);
        open_until = Some(end);
    }
    band
}

fn lines(mut segments: Vec<Segment>) -> impl Iterator<Item = Piece> {
    if segments.len() > LINES_MAX {
        segments.sort_by_key(|segment| (segment.times.0.0 - segment.times.1.0, segment.times.0));
        segments.truncate(LINES_MAX);
    }
    let end = |segment: &Segment, time| (time, segment.at(time));
    segments.into_iter().map(move |segment| Piece::Line { from: end(&segment, segment.times.0), until: end(&segment, segment.times.1) })
}

/// Incidents; those that no column lies between are one.
fn stretches(incidents: &[Incident], columns: &Columns) -> Vec<Piece> {
    let near = |one: &Incident, next: &Incident| next.start.0 - one.end.0 < columns.width_micros();
    let joined = |part: &[Incident]| Some(Piece::Stretch { from: part.first()?.start, until: part.last()?.end });
    incidents.chunk_by(near).filter_map(joined).collect()
}

/// Anomalies; of very many the worst.
fn marks(anomalies: &[Anomaly], columns: &Columns) -> Vec<Piece> {
    let piece = |anomaly: &Anomaly| {
        let (reading, kind) = (&anomaly.scored.reading, anomaly.scored.kind);
        let kind = KINDS.iter().position(|of| *of == kind).unwrap_or(0) as u64;
        Piece::Mark { time: reading.time(), value: reading.value.get(), kind, weight: anomaly.severity.into() }
    };
    if anomalies.len() <= MARKS_MAX {
        return anomalies.iter().map(piece).collect();
    }
    let mut worst: BTreeMap<(i64, &str), &Anomaly> = BTreeMap::new();
    for anomaly in anomalies {
        let place = columns.place(anomaly.scored.reading.time()) / MARK_COLUMNS;
        let known = worst.entry((place, anomaly.scored.kind.name())).or_insert(anomaly);
        if anomaly.scored.score > known.scored.score {
            *known = anomaly;
        }
    }
    worst.into_values().map(piece).collect()
}
