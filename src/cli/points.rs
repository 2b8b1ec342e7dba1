//! `retally query` of points of a service.

use super::asked::Asked;
use super::client::Server;
use super::error::{CliError, say, unless_broken_pipe};
use super::{args, query, show, table};
use crate::registry;
use retally_core::points::Measurement;
use serde_json::Value;
use std::io::{self, Write, stdout};

/// A service tells so many points at a time.
const POINTS_MAX: u64 = 100_000;

/// The measurement that is asked for, where it is one.
pub fn measurement(asked: &Asked<'_>) -> Option<Measurement> {
    let dataflow = registry::dataflow(asked.dataflow)?;
    args::measurements(dataflow).into_iter().find(|measurement| measurement.name == asked.table)
}

/// Prints points.
pub fn print(asked: &Asked<'_>, measurement: &Measurement) -> Result<(), CliError> {
    query::check_order(asked.matches)?;
    let mut parameters = asked.conditions()?;
    for name in ["from", "to"] {
        parameters.extend(asked.text(name).map(|value| (name.to_string(), value.to_string())));
    }
    let limit = asked.matches.get_one::<u64>("limit").copied().unwrap_or(POINTS_MAX).min(POINTS_MAX);
    parameters.push(("limit".into(), limit.to_string()));
    let path = format!("/v1/{}/points/{}", asked.dataflow, measurement.name);
    let answer = Server::of(asked.matches)?.json(&path, &parameters)?;
    let points: Vec<&Value> = answer.get("points").and_then(Value::as_array).into_iter().flatten().collect();
    if answer.get("more").and_then(Value::as_bool) == Some(true) && limit == POINTS_MAX {
        say(&format!("note: there are more than {POINTS_MAX} points, and these are the first: --from and --to ask for others"));
    }
    let columns = columns(measurement);
    let text = match asked.text("format") {
        Some("csv") => {
            let header = columns.iter().map(|(name, _)| (*name).to_string()).collect();
            let lines = std::iter::once(header).chain(points.iter().map(|point| texts(&columns, point)));
            let text: io::Result<String> = lines.map(|cells| query::csv_of(&cells)).collect();
            text.map_err(|error| CliError::failed(format!("could not write CSV: {error}")))?
        }
        Some("json") => points.iter().map(|point| json_line(&columns, point)).collect(),
        _ => {
            let shown = points.iter().take(show::ROWS_MAX).map(|point| texts(&columns, point));
            let headers: Vec<(&str, bool)> = columns.iter().map(|(name, part)| (*name, *part == PointPart::Fields)).collect();
            let name = format!("{}.{}", asked.dataflow, asked.table);
            table::render_cells(&name, &headers, shown, points.len() as u64, None)
        }
    };
    unless_broken_pipe(stdout().write_all(text.as_bytes()))
}

/// The part of a point that a column is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PointPart {
    Time,
    Tags,
    Fields,
}

fn columns(measurement: &Measurement) -> Vec<(&str, PointPart)> {
    let tags = measurement.tags.iter().map(|tag| (tag.name, PointPart::Tags));
    let fields = measurement.fields.iter().map(|field| (field.name, PointPart::Fields));
    std::iter::once(("time", PointPart::Time)).chain(tags).chain(fields).collect()
}

fn value<'p>(point: &'p Value, (name, part): (&str, PointPart)) -> &'p Value {
    let found = match part {
        PointPart::Time => point.get(name),
        PointPart::Tags => point.get("tags").and_then(|tags| tags.get(name)),
        PointPart::Fields => point.get("fields").and_then(|fields| fields.get(name)),
    };
    found.unwrap_or(&Value::Null)
}

fn json_line(columns: &[(&str, PointPart)], point: &Value) -> String {
    let cells = columns.iter().zip(texts(columns, point)).map(|(column, text)| {
        let value = value(point, *column);
        if value.is_number() { text } else { value.to_string() }
    });
    query::json_of(columns.iter().map(|(name, _)| *name), cells)
}

/// A point as texts, empty where there is nothing.
fn texts(columns: &[(&str, PointPart)], point: &Value) -> Vec<String> {
    let text = |column: &(&str, PointPart)| match value(point, *column) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap_or(0.0).to_string(), |whole| whole.to_string()),
        other => other.to_string(),
    };
    columns.iter().map(text).collect()
}
