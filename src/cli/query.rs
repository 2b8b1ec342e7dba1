//! `retally query` of points of a store.
//!
//! Columns are the time, the tags and the fields; rows are sorted by time, then by tags. A range is from its first time on, and up to its
//! last without it: ranges that follow one another share no point. Names that are not there are answered by those that are most like them.

use super::error::{CliError, say, unless_broken_pipe};
use super::suggest::nearest;
use super::{show, table, terminal};
use crate::points::Destination;
use crate::points::store::Store;
use crate::points::store::ask::{self, AskError, Question, parse_time, time_text};
use crate::points::store::merge::{FieldValue, StoredPoint};
use crate::registry;
use clap::ArgMatches;
use retally_core::calendar::Calendar;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write, stdout};
use std::ops::RangeInclusive;
use std::path::Path;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    match matches.get_one::<String>("points").map_or("", String::as_str).parse() {
        Ok(Destination::Store(dir)) => of_store(&dir, matches),
        _ => Err(CliError::usage("--points names no store").hint("give the folder that a run wrote points to: --points store:DIR")),
    }
}

/// An error where an order is asked for that points do not have.
pub fn check_order(matches: &ArgMatches) -> Result<(), CliError> {
    if matches.contains_id("order") {
        return Err(CliError::usage("points are in the order of time, and have no other").hint("leave --order out"));
    }
    Ok(())
}

/// Prints points of the store in this folder.
pub fn of_store(dir: &Path, matches: &ArgMatches) -> Result<(), CliError> {
    check_order(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let range_ns = range(matches)?;
    let name = text("measurement").unwrap_or_default();
    let Some((dataflow, measurement)) = name.split_once('.') else {
        return Err(CliError::usage(format!("{name:?} is not DATAFLOW.MEASUREMENT")));
    };
    let dataflows: Vec<&str> = registry::dataflows().iter().map(|dataflow| dataflow.definition().name).collect();
    if !dataflows.contains(&dataflow) {
        return Err(CliError::usage(format!("there is no dataflow {dataflow:?}")).hint(nearest("dataflow", dataflow, &dataflows)));
    }
    let store = Store::open(dir)?;
    if !store.was_closed() {
        say("warning: the last process that had this store open did not close it: what it had not synced is not there");
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
    let mut tags = BTreeMap::new();
    for given in matches.get_many::<String>("tags").into_iter().flatten() {
        let Some((tag, value)) = given.split_once('=') else {
            let known = store.measurement(name)?.map(|measurement| measurement.tags).unwrap_or_default();
            return Err(CliError::usage(format!("{given:?} is not TAG=VALUE")).hint(nearest("tag", given, &known)));
        };
        tags.insert(tag.to_string(), value.to_string());
    }
    store.question(name, &tags, range_ns).map_err(|error| {
        let said = error.to_string();
        match error {
            AskError::Measurement { name, known } => CliError::usage(said).hint(nearest("measurement", &name, &known)),
            AskError::Tag { tag, known, .. } => CliError::usage(said).hint(nearest("tag", &tag, &known)),
            AskError::Series { free, .. } => CliError::usage(said).hint(format!("say more tags: {}", free.join(", "))),
            AskError::Value { value, known, .. } => CliError::failed(said).hint(nearest("value", &value, &known)),
            AskError::Together(_) => CliError::failed(said).hint("leave one out"),
            AskError::Store(error) => error.into(),
        }
    })
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
    Ok(ask::range(time("from")?, time("to")?))
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
    let mut out = terminal::out();
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
    out.write_all(csv_of(&cells)?.as_bytes())
}

/// A line of CSV.
pub fn csv_of(cells: &[String]) -> io::Result<String> {
    let mut line = csv::Writer::from_writer(Vec::new());
    line.write_record(cells)?;
    let line = line.into_inner().map_err(|error| error.into_error())?;
    String::from_utf8(line).map_err(io::Error::other)
}

/// A line with a JSON object, of values that are written as they are.
pub fn json_of<'n>(names: impl Iterator<Item = &'n str>, values: impl Iterator<Item = String>) -> String {
    let pairs: Vec<String> = names.zip(values).map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    format!("{{{}}}\n", pairs.join(","))
}

fn json_line(question: &Question, point: Option<&StoredPoint>, out: &mut dyn Write) -> io::Result<()> {
    let Some(point) = point else { return Ok(()) };
    let tags = question.tags(point).map(|tag| tag.map_or(Value::Null, Value::from).to_string());
    let fields = point.fields.iter().map(|field| match field {
        None => "null".to_string(),
        Some(FieldValue::Int(number)) => number.to_string(),
        Some(FieldValue::Float(number)) => number.to_string(),
    });
    let time = Value::from(time_text(point.time_ns)).to_string();
    let names = question.columns().into_iter().map(|(name, _)| name);
    out.write_all(json_of(names, std::iter::once(time).chain(tags).chain(fields)).as_bytes())
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
