//! `retally query` of points of a store.
//!
//! Columns are the time, the tags and the fields; rows are sorted by time, then by tags. A range is from its first time on, and up to its
//! last without it: ranges that follow one another share no point. Names that are not there are answered by those that are most like them.

use super::error::{CliError, say, unless_broken_pipe};
use super::suggest::nearest;
use super::{show, table};
use crate::points::Destination;
use crate::points::store::merge::{FieldValue, StoredPoint};
use crate::points::store::series::{StoredMeasurement, StoredSeries};
use crate::points::store::{Store, StoreError};
use crate::registry;
use clap::ArgMatches;
use retally_core::calendar::Calendar;
use retally_core::time::{Moment, SECOND};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write, stdout};
use std::ops::RangeInclusive;

/// More series are not read together: each has a block in memory.
const SERIES_MAX: usize = 1_000;
/// What is asked for.
struct Question {
    measurement: StoredMeasurement,
    series: Vec<StoredSeries>,
    range_ns: RangeInclusive<i64>,
}

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    if text("order").is_some() {
        return Err(CliError::usage("points are in the order of time, and have no other").hint("leave --order out"));
    }
    let range_ns = range(matches)?;
    let dir = match text("points").unwrap_or_default().parse() {
        Ok(Destination::Store(dir)) => dir,
        _ => return Err(CliError::usage("--points names no store").hint("give the folder that a run wrote points to: --points store:DIR")),
    };
    let name = text("measurement").unwrap_or_default();
    let Some((dataflow, measurement)) = name.split_once('.') else {
        return Err(CliError::usage(format!("{name:?} is not DATAFLOW.MEASUREMENT")));
    };
    let dataflows: Vec<&str> = registry::dataflows().iter().map(|dataflow| dataflow.definition().name).collect();
    if !dataflows.contains(&dataflow) {
        return Err(CliError::usage(format!("there is no dataflow {dataflow:?}")).hint(nearest("dataflow", dataflow, &dataflows)));
    }
    let store = Store::open(&dir)?;
    if !store.was_closed() {
        say("warning: the last process that had this store open did not close it: what it had not settled is not there");
    }
    let question = question(&store, measurement, matches, range_ns)?;
    let limit = matches.get_one::<u64>("limit").copied();
    let points = store.points(&question.measurement, &question.series, question.range_ns.clone())?;
    let limited = |default: usize| limit.map_or(default, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    match text("format") {
        Some("csv") => print(&question, points.take(limited(usize::MAX)), csv_line),
        Some("json") => print(&question, points.take(limited(usize::MAX)), json_line),
        _ => print_table(&store, &question, name, points.take(limited(show::ROWS_MAX))),
    }
}

/// What the words ask for, in this store.
fn question(store: &Store, name: &str, matches: &ArgMatches, range_ns: RangeInclusive<i64>) -> Result<Question, CliError> {
    let Some(measurement) = store.measurement(name)? else {
        let names: Vec<String> = store.measurements()?.into_iter().map(|measurement| measurement.name).collect();
        return Err(CliError::usage(format!("the store has no measurement {name:?}")).hint(nearest("measurement", name, &names)));
    };
    let mut tags = BTreeMap::new();
    for given in matches.get_many::<String>("tags").into_iter().flatten() {
        let Some((tag, value)) = given.split_once('=') else {
            return Err(CliError::usage(format!("{given:?} is not TAG=VALUE")).hint(nearest("tag", given, &measurement.tags)));
        };
        if !measurement.tags.iter().any(|known| known == tag) {
            return Err(CliError::usage(format!("{name:?} has no tag {tag:?}")).hint(nearest("tag", tag, &measurement.tags)));
        }
        tags.insert(tag.to_string(), value.to_string());
    }
    let mut series = store.series(name, &tags)?;
    if series.is_empty() {
        return Err(no_series(store, name, &tags)?);
    }
    if series.len() > SERIES_MAX {
        let free: Vec<&str> = measurement.tags.iter().filter(|tag| !tags.contains_key(*tag)).map(String::as_str).collect();
        return Err(CliError::usage(format!(
            "{} series of {name:?} have these tags, and at most {SERIES_MAX} are read together",
            series.len()
        ))
        .hint(format!("say more tags: {}", free.join(", "))));
    }
    let values = |series: &StoredSeries| measurement.tags.iter().map(|tag| series.tags.get(tag).cloned()).collect::<Vec<_>>();
    series.sort_by_key(values);
    Ok(Question { measurement, series, range_ns })
}

/// Which of the tags is the one that no series has, and what comes near to it.
fn no_series(store: &Store, name: &str, tags: &BTreeMap<String, String>) -> Result<CliError, StoreError> {
    for (tag, value) in tags {
        let others: BTreeSet<String> =
            store.series(name, &BTreeMap::new())?.into_iter().filter_map(|mut series| series.tags.remove(tag)).collect();
        if !others.contains(value) && !value.is_empty() {
            let others: Vec<String> = others.into_iter().collect();
            return Ok(CliError::failed(format!("no points of {name:?} have {tag}={value:?}")).hint(nearest("value", value, &others)));
        }
    }
    Ok(CliError::failed(format!("no points of {name:?} have all of these tags")).hint("leave one out"))
}

fn range(matches: &ArgMatches) -> Result<RangeInclusive<i64>, CliError> {
    let zone = matches.get_one::<String>("timezone").map_or("UTC", String::as_str);
    let calendar = Calendar::named(zone).map_err(|_| {
        CliError::usage(format!("--timezone {zone:?} is neither an IANA time zone such as Europe/Berlin nor an offset such as +02:00"))
    })?;
    let time = |name: &str| {
        let Some(text) = matches.get_one::<String>(name) else { return Ok(None) };
        let parsed = parse_time(text, &calendar).map_err(|error| CliError::usage(format!("--{name} {text:?} {error}")));
        parsed.map(Some)
    };
    let (from, to) = (time("from")?, time("to")?);
    Ok(from.unwrap_or(i64::MIN)..=to.map_or(i64::MAX, |to| to.saturating_sub(1)))
}

/// Nanoseconds of a time, or of the beginning of a day.
fn parse_time(text: &str, calendar: &Calendar) -> Result<i64, retally_core::time::TimeError> {
    let day = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00") } else { text.to_string() };
    let moment = calendar.parse(day.as_bytes())?;
    // What comes behind microseconds is cut there, and counts here.
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).map(|digit| i64::from(digit - b'0')).skip(6);
    let nanos = digits.chain(std::iter::repeat(0)).take(3).fold(0, |nanos, digit| nanos * 10 + digit);
    Ok(moment.0 * 1_000 + nanos)
}

/// A time as tables have it, with nine digits where six are not enough.
fn time_text(time_ns: i64) -> String {
    let (micros, nanos) = (time_ns.div_euclid(1_000), time_ns.rem_euclid(1_000));
    if nanos == 0 {
        return Moment(micros).to_string();
    }
    let whole = Moment(micros - micros.rem_euclid(SECOND)).to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), time_ns.rem_euclid(1_000_000_000))
}

impl Question {
    /// The names of the columns, and whether they have numbers.
    fn columns(&self) -> Vec<(&str, bool)> {
        let tags = self.measurement.tags.iter().map(|tag| (tag.as_str(), false));
        let fields = self.measurement.fields.iter().map(|field| (field.name.as_str(), true));
        std::iter::once(("time", false)).chain(tags).chain(fields).collect()
    }

    /// The tags of a point, in the order of the columns.
    fn tags(&self, point: &StoredPoint) -> impl Iterator<Item = Option<&str>> {
        let series = self.series.get(point.series);
        self.measurement.tags.iter().map(move |tag| series.and_then(|series| series.tags.get(tag)).map(String::as_str))
    }

    /// A point as texts, empty where there is nothing.
    fn texts(&self, point: &StoredPoint) -> Vec<String> {
        let tags = self.tags(point).map(|tag| tag.unwrap_or_default().to_string());
        let fields = point.fields.iter().map(|field| match field {
            None => String::new(),
            Some(FieldValue::Int(number)) => number.to_string(),
            Some(FieldValue::Float(number)) => number.to_string(),
        });
        std::iter::once(time_text(point.time_ns)).chain(tags).chain(fields).collect()
    }
}

type Points<'a> = std::iter::Take<crate::points::store::merge::Merged<'a>>;
/// Writes a point, or the line before all points, where there is one.
type Line = fn(&Question, Option<&StoredPoint>, &mut dyn Write) -> io::Result<()>;

fn print(question: &Question, points: Points, line: Line) -> Result<(), CliError> {
    let mut out = BufWriter::new(stdout().lock());
    let mut write = |point: Option<&StoredPoint>| match line(question, point, &mut out) {
        Ok(()) => Ok(true),
        Err(error) => unless_broken_pipe(Err(error)).map(|()| false),
    };
    let mut more = write(None)?;
    for point in points {
        if !more {
            return Ok(());
        }
        more = write(Some(&point?))?;
    }
    unless_broken_pipe(out.flush())
}

fn csv_line(question: &Question, point: Option<&StoredPoint>, out: &mut dyn Write) -> io::Result<()> {
    let cells = match point {
        None => question.columns().into_iter().map(|(name, _)| name.to_string()).collect(),
        Some(point) => question.texts(point),
    };
    let mut line = csv::Writer::from_writer(Vec::new());
    line.write_record(&cells)?;
    out.write_all(&line.into_inner().map_err(|error| error.into_error())?)
}

fn json_line(question: &Question, point: Option<&StoredPoint>, out: &mut dyn Write) -> io::Result<()> {
    let Some(point) = point else { return Ok(()) };
    let mut text = String::from("{");
    let tags = question.tags(point).map(|tag| tag.map_or(Value::Null, Value::from).to_string());
    let fields = point.fields.iter().map(|field| match field {
        None => "null".to_string(),
        Some(FieldValue::Int(number)) => number.to_string(),
        Some(FieldValue::Float(number)) => number.to_string(),
    });
    let time = Value::from(time_text(point.time_ns)).to_string();
    for ((name, _), value) in question.columns().into_iter().zip(std::iter::once(time).chain(tags).chain(fields)) {
        let comma = if text.len() > 1 { "," } else { "" };
        text += &format!("{comma}{}:{value}", Value::from(name));
    }
    writeln!(out, "{text}}}")
}

fn print_table(store: &Store, question: &Question, name: &str, points: Points) -> Result<(), CliError> {
    let shown = points.collect::<Result<Vec<_>, _>>()?;
    let mut rows = 0;
    for series in &question.series {
        rows += store.scan(&question.measurement, series.number, question.range_ns.clone())?.count()?;
    }
    let text = table::render_cells(name, &question.columns(), shown.iter().map(|point| question.texts(point)), rows, None);
    unless_broken_pipe(stdout().write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_where_they_need_them() {
        for (time_ns, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_500_000, "1970-01-01T00:00:00.001500Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(time_text(time_ns), text);
        }
    }

    #[test]
    fn times_and_days_are_read_in_a_zone_down_to_nanoseconds() {
        let berlin = Calendar::named("Europe/Berlin").unwrap();
        let read = |text: &str| parse_time(text, &berlin).map(time_text).map_err(|error| error.to_string());
        assert_eq!(read("2026-07-01").unwrap(), "2026-06-30T22:00:00Z");
        assert_eq!(read("2026-07-01 00:00:01").unwrap(), "2026-06-30T22:00:01Z");
        assert_eq!(read("2023-11-14T22:13:20.123456789Z").unwrap(), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(read("2023-11-14T22:13:20.12345678+01").unwrap(), "2023-11-14T21:13:20.123456780Z");
        assert_eq!(read("2023-11-14T22:13:20.12Z").unwrap(), "2023-11-14T22:13:20.120000Z");
        assert!(read("2026-07-99").is_err() && read("yesterday").is_err());
    }
}
