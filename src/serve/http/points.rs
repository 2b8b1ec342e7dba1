//! `/v1/{dataflow}/points/{measurement}`: points of the embedded store, in the order of time.
//!
//! The store is written while batches are computed, so a read may see points of a batch before its changes are in the tables.

use super::error::ApiError;
use super::{Query, Shared, blocking, readable};
use crate::ingest::nearest::there_are;
use crate::points::store::StoreError;
use crate::points::store::ask::{AskError, Question, parse_time, range, time_text};
use crate::points::store::merge::{FieldValue, StoredPoint};
use crate::points::store::thinned::thinned;
use crate::serve::served::PointsOf;
use crate::serve::service::Service;
use axum::Json;
use axum::extract::{Path, State};
use retally_core::calendar::Calendar;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many points are told, and so many at most.
const POINTS: usize = 1_000;
const POINTS_MAX: usize = 100_000;

/// What may stand behind `?`.
pub const PARAMETERS: &[(&str, &str)] = &[
    ("TAG", "Only points whose tag has this value"),
    ("from", "From this day or time on"),
    ("to", "Up to this day or time, without it"),
    ("limit", "At most so many points (1,000; 100,000 at most)"),
    (
        "thinned",
        "Of more points than this, those of the least and the greatest first field of each of half as many equal stretches of time",
    ),
];

/// What is asked for.
#[derive(Default)]
struct Asked {
    tags: BTreeMap<String, String>,
    from: Option<i64>,
    to: Option<i64>,
    limit: Option<usize>,
    thinned: Option<usize>,
}

/// `/v1/{dataflow}/points/{measurement}`
pub async fn points(
    State(service): Shared,
    Path((dataflow, measurement)): Path<(String, String)>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    // Others wait, as for tables.
    let _permit = Arc::clone(&service.reads).acquire_owned().await;
    blocking(move || {
        let asked = read(&asked)?;
        let (points, more) = found(&service, &dataflow, &measurement, &asked)?;
        Ok(Json(json!({"dataflow": dataflow, "measurement": measurement, "points": points, "more": more})))
    })
    .await
}

fn read(given: &[(String, String)]) -> Result<Asked, ApiError> {
    let mut asked = Asked::default();
    let hint = "times are as in from=2026-03-01T12:00:00Z, numbers as in limit=100";
    let bad = |name: &str, value: &str, why: &str| ApiError::bad("bad_value", format!("{name}={value:?} {why}")).hint(hint);
    let time =
        |name: &str, value: &str| parse_time(value, &Calendar::utc()).map(Some).map_err(|error| bad(name, value, &error.to_string()));
    for (name, value) in given {
        match name.as_str() {
            "from" => asked.from = time(name, value)?,
            "to" => asked.to = time(name, value)?,
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit <= POINTS_MAX);
                asked.limit = Some(limit.ok_or_else(|| bad(name, value, &format!("is no number of points up to {POINTS_MAX}")))?);
            }
            "thinned" => {
                let thinned = value.parse().ok().filter(|thinned| (2..=POINTS_MAX).contains(thinned));
                asked.thinned = Some(thinned.ok_or_else(|| bad(name, value, &format!("is no number of points from 2 to {POINTS_MAX}")))?);
            }
            tag => drop(asked.tags.insert(tag.into(), value.clone())),
        }
    }
    Ok(asked)
}

/// The points, and whether there are more.
fn found(service: &Service, dataflow: &str, name: &str, asked: &Asked) -> Result<(Vec<Value>, bool), ApiError> {
    let served = readable(service, dataflow)?;
    let measurements = served.job.graph.measurements();
    let Some(measurement) = measurements.iter().find(|measurement| measurement.name == name) else {
        let names: Vec<&str> = measurements.iter().map(|measurement| measurement.name).collect();
        let error = ApiError::missing("unknown_measurement", format!("{dataflow} has no measurement {name:?}"));
        return Err(if names.is_empty() { error.hint(format!("{dataflow} has no points")) } else { error.hint(there_are(name, &names)) });
    };
    if let Some(tag) = asked.tags.keys().find(|tag| measurement.tags.iter().all(|known| known.name != tag.as_str())) {
        let names: Vec<&str> = measurement.tags.iter().map(|tag| tag.name).collect();
        return Err(ApiError::bad("unknown_tag", format!("{name} has no tag {tag:?}")).hint(there_are(tag, &names)));
    }
    let store = match service.points_of(dataflow) {
        PointsOf::Store(store) => store,
        PointsOf::Elsewhere => return Err(ApiError::missing("no_store", format!("the points of {dataflow} go elsewhere: --points"))),
        PointsOf::Later => return Err(ApiError::recovering()),
    };
    let question = match store.question(name, &asked.tags, range(asked.from, asked.to)) {
        Ok(question) => question,
        // There may be some tomorrow.
        Err(AskError::Measurement { .. } | AskError::Value { .. } | AskError::Together(_)) => return Ok((Vec::new(), false)),
        Err(error @ AskError::Series { .. }) => return Err(ApiError::bad("too_many_series", error.to_string()).hint("give more tags")),
        Err(error @ AskError::Tag { .. }) => return Err(ApiError::bad("unknown_tag", error.to_string())),
        Err(AskError::Store(error)) => return Err(failed(&error)),
    };
    let limit = asked.limit.unwrap_or(if asked.thinned.is_some() { POINTS_MAX } else { POINTS });
    let read = || store.points(&question.measurement, &question.series, question.range_ns.clone());
    let told = limit.saturating_add(1);
    let points = match asked.thinned {
        Some(points_max) => thinned(read, points_max),
        None => read().and_then(|points| points.take(told).collect()),
    };
    let points = points.map_err(|error| failed(&error))?;
    let mut points: Vec<Value> = points.iter().take(told).map(|point| shown(&question, point)).collect();
    let more = points.len() > limit;
    points.truncate(limit);
    Ok((points, more))
}

fn failed(error: &StoreError) -> ApiError {
    ApiError::failed(error.to_string())
}

fn shown(question: &Question, point: &StoredPoint) -> Value {
    let tags = question.series.get(point.series).map(|series| &series.tags);
    let value = |field: &FieldValue| match field {
        FieldValue::Int(number) => Value::from(*number),
        FieldValue::Float(number) => Value::from(*number),
    };
    let named = question.measurement.fields.iter().zip(&point.fields);
    let fields: Map<String, Value> = named.filter_map(|(field, found)| Some((field.name.clone(), value(found.as_ref()?)))).collect();
    json!({"time": time_text(point.time_ns), "tags": tags, "fields": fields})
}
