//! What is drawn of a sensor: values, lines, what was expected, anomalies and incidents; and which sensors are drawn.
//!
//! Values and forecasts are in no table, and lie in the sensor's [`History`] alone. This operator reads them there, on the same worker, as
//! what writes points does, for the sensors that were chosen and no others. Whatever changes of such a sensor, all of its picture is
//! rebuilt, and the differences are emitted.
//!
//! State: the pieces of the chosen sensors, at most some 10,000 each. Cost of a change: the measurements of the chosen sensors that it
//! touches.
//!
//! # Limits
//! A history may be an epoch ahead, where epochs are fed without waiting: a picture is then that of a later epoch, and is the right one at
//! the last.

use crate::alarms::{Anomaly, Channel, Incident};
use crate::anomalies::KINDS;
use crate::differences::differences;
use crate::fact::Fact;
use crate::leaf;
use crate::points::Shelf;
use crate::records::Sensor;
use crate::segments::Segment;
use crate::sensor::{History, Rules};
use crate::tables::NamedBy;
use retally_core::Collection;
use retally_core::extremes::{self, Columns, Covered};
use retally_core::key_chart::{KeyChart, Piece};
use retally_core::operators::by_key::{Each, Emitter, State, by_key, exchange};
use retally_core::operators::first::first;
use retally_core::row::Row;
use retally_core::texts::{Texts, id_of};
use retally_core::time::{HOUR, Moment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// The sensors that a setting names.
pub fn asked(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect()
}

/// What a chart looks like.
pub fn chart(named_by: NamedBy, asked: Vec<String>, threshold: f64) -> KeyChart {
    KeyChart {
        noun: "sensor",
        table: PIECES,
        setting: SETTING,
        id: named_by.ids.uuid(),
        named_by_id: named_by.by_id,
        asked,
        y_label: "value",
        values: "values".into(),
        band: format!("expected ± {threshold} σ"),
        lines: "segments".into(),
        stretches: "incidents".into(),
        marks: KINDS.iter().map(|kind| kind.name()).chain(BESIDE).map(String::from).collect(),
    }
}

/// What is marked beside kinds: alarms of hours, whose readings may be as expected.
const BESIDE: [&str; 2] = ["alarm of the level", "alarm of the spread"];

/// The place among marks.
fn mark(anomaly: &Anomaly) -> usize {
    match anomaly.alarm {
        Some(Channel::Level) => KINDS.len(),
        Some(Channel::Spread) => KINDS.len() + 1,
        _ => KINDS.iter().position(|kind| *kind == anomaly.scored.kind).unwrap_or(0),
    }
}

/// The sensors to draw, with their names and what asked for them. Where ids are `texts`, the epochs of what is known are complete when
/// their texts are there too.
pub(crate) fn chosen<'s>(
    facts: &Collection<'s, (Sensor, Fact)>,
    known: Collection<'s, (Sensor, (Option<String>, bool))>,
    texts: Option<Arc<Texts>>,
    asked: &[String],
) -> Collection<'s, (Sensor, String, String)> {
    if asked.is_empty() {
        let peaks = facts.clone().flat_map(|(sensor, fact)| if let Fact::Peak(peak) = fact { Some((sensor, peak)) } else { None });
        let names = known.map(|(sensor, (name, _))| (sensor, name.unwrap_or_default()));
        // The highest first, then by name, then by id: an id that is a text by that.
        let ranked = peaks.join_map(names, move |sensor, peak, name| {
            let text = texts.as_ref().map(|texts| texts.text(sensor.0));
            (u64::MAX - peak.0, name.clone(), text, *sensor)
        });
        return first(ranked, CHARTS, "sensors with the highest peaks").map(|(_, name, _, sensor)| (sensor, name, String::new()));
    }
    let sensor = |text: &str| match &texts {
        None => Sensor::parse(text.as_bytes()),
        Some(_) => Some(Sensor(id_of(text))),
    };
    let asked: Vec<(String, Option<Sensor>)> = asked.iter().map(|text| (text.clone(), sensor(text))).collect();
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

/// The rows of [`PIECES`] that draw the chosen sensors.
pub(crate) fn pieces<'s>(
    chosen: Collection<'s, (Sensor, String, String)>,
    facts: &Collection<'s, (Sensor, Fact)>,
    rules: &Rules,
    shelf: Shelf,
) -> Collection<'s, Row> {
    let cues = chosen.clone().map(|(sensor, _, _)| (sensor, Cue::Chosen));
    let cues = cues.concat(facts.clone().flat_map(|(sensor, fact)| matches!(fact, Fact::Touched).then_some((sensor, Cue::Touched))));
    let rules = rules.clone();
    let drawn = by_key(cues, exchange(), "pictures", move |sensor, cues, drawing: &mut Drawing, emitter: &mut Each<Row>| {
        drawing.chosen += cues.drain(..).filter(|(cue, _)| *cue == Cue::Chosen).map(|(_, diff)| diff).sum::<isize>();
        let history = shelf.borrow().get(sensor).filter(|_| drawing.chosen > 0).cloned();
        let sensor = *sensor;
        let of = |history: &History| of_history(history, &rules).iter().map(|piece| piece_row(piece, sensor)).collect();
        let mut rows: Vec<Row> = history.map_or(Vec::new(), |history| of(&history.borrow()));
        rows.sort_unstable();
        differences(&drawing.rows, &rows, |row, diff| emitter.give(row.clone(), diff));
        drawing.rows = rows;
    });
    let titles = chosen.map(|(sensor, name, asked)| piece_row(&Piece::Drawn { name, asked }, sensor));
    drawn.concat(titles)
}

/// Rows of [`PIECES`] that name every sensor there is, for suggestions where a sensor was asked for that is not there.
pub(crate) fn names<'s>(known: Collection<'s, (Sensor, (Option<String>, bool))>) -> Collection<'s, Row> {
    known.map(|(sensor, (name, _))| piece_row(&Piece::Known(name.unwrap_or_default()), sensor))
}

fn piece_row(piece: &Piece, sensor: Sensor) -> Row {
    piece.row(|row| row.uuid(sensor.0))
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
        let reading = &anomaly.scored.reading;
        // An alarm below the threshold is as small as one at it.
        let weight = anomaly.severity.max(1).into();
        Piece::Mark { time: reading.time(), value: reading.value.get(), kind: mark(anomaly) as u64, weight }
    };
    if anomalies.len() <= MARKS_MAX {
        return anomalies.iter().map(piece).collect();
    }
    let mut worst: BTreeMap<(i64, usize), &Anomaly> = BTreeMap::new();
    for anomaly in anomalies {
        let place = columns.place(anomaly.scored.reading.time()) / MARK_COLUMNS;
        let known = worst.entry((place, mark(anomaly))).or_insert(anomaly);
        if anomaly.scored.score > known.scored.score {
            *known = anomaly;
        }
    }
    worst.into_values().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Sensors;
    use crate::records::{Reading, Value};
    use crate::sensor::Work;
    use crate::tests::{batches, proptests, uuid};
    use proptest::prelude::*;
    use retally_core::calendar::{Calendar, Naming};
    use retally_core::chart::Chart;
    use retally_core::contract::{AsOf, Dataflow, Graph, Table};
    use retally_core::decode::Inputs;
    use retally_core::ids::Ids;
    use retally_core::publish::Outputs;
    use retally_core::testing::{Config, Delivery, Tables, run_graph};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn rules() -> Rules {
        Rules { calendar: Calendar::named("Europe/Berlin").unwrap(), threshold: 2.0 }
    }

    /// The graph as it is built for charts.
    struct WithPieces(Sensors);

    impl Graph for WithPieces {
        fn tables(&self) -> Vec<Table> {
            self.0.tables().into_iter().chain(self.0.key_charts().iter().map(KeyChart::pieces)).collect()
        }

        fn charts(&self) -> Vec<Chart> {
            Vec::new()
        }

        fn calendar(&self) -> Calendar {
            self.0.calendar()
        }

        fn ids(&self) -> Ids {
            self.0.ids()
        }

        fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
            self.0.build(inputs, outputs);
        }
    }

    /// The tables after the last batch.
    fn run(config: Config, charted: &[&str], batches: &[Vec<Delivery>]) -> Tables {
        run_with(config, NamedBy::default(), charted, batches)
    }

    fn run_with(config: Config, named_by: NamedBy, charted: &[&str], batches: &[Vec<Delivery>]) -> Tables {
        let charted = charted.iter().map(ToString::to_string).collect();
        let graph: Arc<dyn Graph> = Arc::new(WithPieces(Sensors { rules: rules(), named_by, as_of: AsOf::Latest, charted }));
        run_graph(config, &graph, &crate::Sensors.definition().inputs, batches).pop().unwrap()
    }

    /// The pieces of a kind: their ids, and the last columns.
    fn of_kind(tables: &Tables, kind: &str) -> Vec<[String; 3]> {
        let rows = tables[PIECES].iter().filter(|row| row[1] == kind);
        rows.map(|row| [row[0].clone(), row[8].clone(), row[9].clone()]).collect()
    }

    /// The sensors that are drawn by default, from the tables.
    fn highest(tables: &Tables) -> BTreeSet<String> {
        let peak = |uuid: &String| {
            let incidents = tables["sensor_incidents"].iter().filter(|row| row[1] == *uuid);
            incidents.map(|row| row[5].parse::<f64>().unwrap()).fold(0.0, f64::max)
        };
        let mut sensors: Vec<(f64, &String, &String)> =
            tables["sensor_summary"].iter().map(|row| (-peak(&row[1]), &row[0], &row[1])).collect();
        sensors.sort_by(|one, other| one.partial_cmp(other).unwrap());
        sensors.into_iter().take(CHARTS).map(|(_, _, uuid)| uuid.clone()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..proptests() })]

        /// Whatever came before, and on whatever workers: the pieces are those of the set of records, of the sensors that are chosen.
        #[test]
        fn pictures_depend_on_the_set_of_records_alone(
            mut batches in batches(),
            config in 0..Config::ALL.len(),
            asked in prop_oneof![Just(vec![]), Just(vec!["name 1".to_string(), uuid(2), "nobody".to_string()])],
        ) {
            // Only awaited epochs are as they should be, and the second of each two is.
            if batches.len() % 2 == 1 {
                batches.push(Vec::new());
            }
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            let found = run(Config::choose(config), &asked, &batches);
            let mut counts: BTreeMap<(usize, String), isize> = BTreeMap::new();
            batches.iter().flatten().for_each(|one| *counts.entry((one.input, one.line.clone())).or_default() += one.sign);
            let there = counts.into_iter().filter(|(_, count)| *count > 0);
            let once: Vec<Delivery> = there.map(|((input, line), _)| Delivery { input, sign: 1, line }).collect();
            let expected = run(Config::default(), &asked, &[once]);
            prop_assert_eq!(&found[PIECES], &expected[PIECES]);
            let drawn: BTreeSet<String> = of_kind(&found, "1").into_iter().map(|[id, ..]| id).collect();
            if asked.is_empty() {
                prop_assert_eq!(drawn, highest(&found));
            } else {
                let wanted = |row: &&Vec<String>| row[0] == "name 1" || row[1] == uuid(2);
                let mut wanted: BTreeSet<String> = found["sensor_mapping"].iter().filter(wanted).map(|row| row[1].clone()).collect();
                wanted.extend(found["sensor_summary"].iter().filter(|row| row[1] == uuid(2)).map(|row| row[1].clone()));
                prop_assert_eq!(drawn, wanted);
            }
        }
    }

    fn lines(sensor: u64, values: impl Iterator<Item = f64>) -> Vec<Delivery> {
        let line = |(n, value): (i64, f64)| format!("{},{},{value}", Moment(1_700_000_000_000_000 + n * HOUR / 4), uuid(sensor));
        (0..).zip(values).map(|item| Delivery { input: 1, sign: 1, line: line(item) }).collect()
    }

    fn name(sensor: u64, name: &str) -> Delivery {
        Delivery { input: 0, sign: 1, line: format!("{name},{}", uuid(sensor)) }
    }

    #[test]
    fn the_highest_peaks_are_drawn_and_of_equal_ones_the_first_names() {
        let spike = |size: f64| (0..400).map(move |n| if n == 300 { size } else { f64::from(n % 5) });
        let mut batch: Vec<Delivery> = (0..4).flat_map(|sensor| lines(sensor, spike(3.0))).collect();
        batch.extend([lines(4, spike(200.0)), lines(5, spike(400.0)), lines(6, spike(3.0))].concat());
        batch.extend([name(3, "a"), name(2, "b"), name(1, "c"), name(0, "d"), name(6, "e"), name(4, "z")]);
        let ids = |tables: &Tables| of_kind(tables, "1").into_iter().map(|[id, ..]| id).collect::<Vec<_>>();
        // Sensor 5 has no name, which comes before all others.
        let first = run(Config::default(), &[], &[batch.clone()]);
        assert_eq!(ids(&first), [1, 2, 3, 4, 5].map(uuid));
        // Another one's peak rises above all, and later goes.
        let late = vec![Delivery { sign: 1, ..lines(6, std::iter::once(900.0)).remove(0) }];
        let late: Vec<Delivery> =
            late.into_iter().map(|one| Delivery { line: one.line.replace("2023-11-14", "2023-11-17"), ..one }).collect();
        let back = late.iter().map(|one| Delivery { sign: -1, ..one.clone() }).collect();
        let with = run(Config::choose(1), &[], &[batch.clone(), late.clone()]);
        assert_eq!(ids(&with), [2, 3, 4, 5, 6].map(uuid));
        assert_eq!(run(Config::choose(1), &[], &[batch, late, back, Vec::new()])[PIECES], first[PIECES]);
        assert!(of_kind(&first, "0").is_empty(), "names are known where some are asked for");
    }

    /// Sensors without names and without anomalies. The hashes of their ids are in another order.
    #[test]
    fn of_text_ids_alike_the_first_by_bytes_are_drawn() {
        let named_by = NamedBy { ids: Ids::Text, by_id: false };
        let all: Vec<String> = (0..40).map(|n| format!("pump {n}")).collect();
        let line = |id: &String| Delivery { input: 1, sign: 1, line: format!("2024-03-01,{id},5") };
        let mut sorted: Vec<String> = all.clone();
        sorted.sort();
        for config in Config::ALL {
            // The last batch adds nothing: only awaited epochs are as they should be.
            let batches = [all[20..].iter().map(line).collect(), Vec::new(), all[..20].iter().map(line).collect(), Vec::new()];
            let drawn: Vec<String> = of_kind(&run_with(config, named_by, &[], &batches), "1").into_iter().map(|[id, ..]| id).collect();
            assert_eq!(drawn, sorted[..CHARTS], "{config:?}");
        }
    }

    #[test]
    fn sensors_are_asked_for_by_name_or_uuid() {
        assert_eq!(asked(" a , ,b c,"), ["a", "b c"]);
        let batch = [lines(1, [1.0, 2.0].into_iter()), lines(2, [1.0].into_iter()), vec![name(1, "one"), name(3, "empty")]].concat();
        let upper = uuid(2).to_uppercase();
        let tables = run(Config::default(), &["one", &uuid(1), &upper, "empty", "on"], &[batch]);
        let drawn: Vec<[String; 3]> = vec![
            [uuid(1), "one".into(), uuid(1)],
            [uuid(1), "one".into(), "one".into()],
            [uuid(2), String::new(), upper],
            [uuid(3), "empty".into(), "empty".into()],
        ];
        assert_eq!(of_kind(&tables, "1"), drawn);
        assert_eq!(of_kind(&tables, "0").len(), 3, "all are known");
        let values: Vec<String> = of_kind(&tables, "2").into_iter().map(|[id, ..]| id).collect();
        assert_eq!(values, [1, 1, 2].map(uuid), "each value once, however often it was asked for");
    }

    fn pieces(values: &[(i64, f64)]) -> Vec<Piece> {
        let mut history = History::default();
        let reading =
            |(seconds, value): &(i64, f64)| (Reading::new(Moment(seconds * 1_000_000), Naming::Unique, Value::new(*value).unwrap()), 1);
        history.change(&mut values.iter().map(reading).collect(), &rules(), &mut Work::default());
        of_history(&history, &rules())
    }

    #[test]
    fn a_sensor_may_have_little_to_draw() {
        assert_eq!(pieces(&[]), []);
        let (time, value) = (Moment(7_000_000), 2.5);
        let one = [Piece::Value { time, value, breaks: false }, Piece::Line { from: (time, value), until: (time, value) }];
        assert_eq!(pieces(&[(7, 2.5)]), one);
        let constant: Vec<(i64, f64)> = (0..400).map(|n| (n * 900, 20.0)).collect();
        let found = pieces(&constant);
        let count = |fits: fn(&Piece) -> bool| found.iter().filter(|piece| fits(piece)).count();
        assert_eq!(count(|piece| matches!(piece, Piece::Value { value, .. } if *value == 20.0)), 400);
        assert_eq!(
            count(|piece| matches!(piece, Piece::Band { low, high, .. } if *low < 20.0 && 20.0 < *high && high - low < 1e-3)),
            2 * 91
        );
        assert_eq!(count(|piece| matches!(piece, Piece::Line { .. })), 1);
        assert_eq!(count(|piece| matches!(piece, Piece::Mark { .. } | Piece::Stretch { .. })), 0);
    }

    #[test]
    fn a_picture_is_bounded_however_much_there_is() {
        // A measurement a minute for half a year, every tenth of them far off.
        let noise = |n: i64| (n.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as f64 / 1024.0;
        let values: Vec<(i64, f64)> = (0..250_000).map(|n| (n * 60, if n % 997 < 9 { 100.0 * noise(n) } else { noise(n) })).collect();
        let found = pieces(&values);
        let count = |fits: fn(&Piece) -> bool| found.iter().filter(|piece| fits(piece)).count();
        let marks = count(|piece| matches!(piece, Piece::Mark { .. }));
        assert!((2..=1_250).contains(&marks), "{marks} marks");
        let values = count(|piece| matches!(piece, Piece::Value { .. }));
        assert!((1_000..=extremes::VALUES_MAX).contains(&values), "{values} values");
        assert!(found.len() <= 10_000, "{} pieces", found.len());
    }
}
