//! `/v1/{dataflow}/charts/{chart}.svg|png|json`: a chart of the tables as they are now, as a picture or as numbers.

use super::error::ApiError;
use super::first::First;
use super::{Query, Shared, blocking, is_known, marks, readable};
use crate::charts;
use crate::charts::Numbers;
use crate::ingest::nearest::there_are;
use crate::serve::served::Served;
use crate::serve::service::Service;
use crate::sinks::live::read::{Question, Snapshot};
use crate::tables::TableState;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use retally_core::Epoch;
use retally_core::chart::{Chart, Mark};
use retally_core::contract::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One picture is drawn at a time: it takes a processor and the rows of its tables.
static DRAWING: Mutex<()> = Mutex::new(());

/// What may be asked of a chart.
pub const PARAMETERS: &[(&str, &str)] =
    &[("first", "true: of CHART.json, also the values that each day had when it was over, before late events moved them")];

/// What stands behind `?`.
#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    first: bool,
}

/// A chart as numbers.
#[derive(Debug, Serialize)]
struct Answered {
    epoch: Epoch,
    #[serde(flatten)]
    now: Numbers,
    /// The same with the values that each day had first.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Numbers>,
    /// From which epoch on changes are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes_from: Option<Epoch>,
}

/// `/v1/{dataflow}/charts/{chart}`
pub async fn chart(
    State(service): Shared,
    Path((dataflow, file)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Others wait: each holds the rows of its tables.
    let _permit = Arc::clone(&service.reads).acquire_owned().await;
    blocking(move || {
        let served = readable(&service, &dataflow)?;
        let (chart, ending) = named(served, &file)?;
        if ending == "json" {
            return numbers(&service, served, &chart, asked.first, &headers);
        }
        let (epoch, bytes) = drawn(&service, served, &chart, &file)?;
        let kind = if ending == "png" { "image/png" } else { "image/svg+xml" };
        Ok(([("retally-epoch", epoch.to_string())], [(CONTENT_TYPE, kind)], bytes).into_response())
    })
    .await
}

/// The chart that a file is of, and the file's ending.
fn named<'f>(served: &Served, file: &'f str) -> Result<(Chart, &'f str), ApiError> {
    let charts = served.charts();
    let found = file.rsplit_once('.').filter(|(_, ending)| matches!(*ending, "svg" | "png" | "json"));
    if let Some((name, ending)) = found
        && let Some(chart) = charts.iter().find(|chart| chart.name == name)
    {
        return Ok((chart.clone(), ending));
    }
    let names: Vec<String> = charts.iter().map(|chart| format!("{}.svg", chart.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = ApiError::missing("unknown_chart", format!("{} has no chart {file:?}", served.name()));
    Err(error.hint(format!("{}, and the same as .png and .json", there_are(file, &names))))
}

/// The tables of a chart.
fn tables_of<'s>(served: &'s Served, chart: &Chart) -> impl Iterator<Item = &'s Table> {
    let is_of = |table: &&Table| chart.today == Some(table.name) || chart.layers.iter().any(|layer| layer.table == table.name);
    served.tables.iter().filter(is_of)
}

type States = BTreeMap<&'static str, TableState>;

fn states(snapshot: &Snapshot<'_>, served: &Served, chart: &Chart) -> Result<States, ApiError> {
    let state = |table: &Table| Ok((table.name, snapshot.state(table, served.name(), &Question::default())?));
    tables_of(served, chart).map(state).collect()
}

fn drawn(service: &Service, served: &Served, chart: &Chart, file: &str) -> Result<(Epoch, Vec<u8>), ApiError> {
    let read = service.readers.read(|snapshot| Ok::<_, ApiError>((snapshot.epoch(served.name())?, states(snapshot, served, chart)?)));
    let (epoch, tables) = read?;
    let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |error: std::io::Error| ApiError::failed(error.to_string());
    let folder = tempfile::tempdir().map_err(failed)?;
    charts::draw(chart, &|name| tables.get(name), folder.path()).map_err(|error| ApiError::failed(error.to_string()))?;
    Ok((epoch, std::fs::read(folder.path().join(file)).map_err(failed)?))
}

fn numbers(service: &Service, served: &Served, chart: &Chart, with_first: bool, headers: &HeaderMap) -> Result<Response, ApiError> {
    service.readers.read(|snapshot| {
        let epoch = snapshot.epoch(served.name())?;
        let marks = marks(served, epoch);
        let [_, (_, tag)] = &marks;
        if is_known(headers, tag) {
            return Ok((StatusCode::NOT_MODIFIED, marks).into_response());
        }
        let failed = |error: charts::ChartError| ApiError::failed(error.to_string());
        let now = states(snapshot, served, chart)?;
        let mut answered =
            Answered { epoch, now: charts::numbers(chart, &|name| now.get(name)).map_err(failed)?, first: None, changes_from: None };
        if with_first {
            let first = first(snapshot, served, chart, now)?;
            answered.first = Some(charts::numbers(chart, &|name| first.get(name)).map_err(failed)?);
            answered.changes_from = Some(snapshot.changes_from(served.name())?);
        }
        Ok((marks, Json(answered)).into_response())
    })
}

/// The tables of a chart with the rows that each day had first.
fn first(snapshot: &Snapshot<'_>, served: &Served, chart: &Chart, mut now: States) -> Result<States, ApiError> {
    for table in tables_of(served, chart) {
        // Of one that is there for the day of as-of alone, the rows as they are will do.
        let layer = chart.layers.iter().find(|layer| layer.table == table.name && layer.mark != Mark::Count);
        let Some((mut first, state)) = layer.and_then(|layer| Some((First::new(table, layer.x)?, now.get(table.name)?))) else { continue };
        snapshot.changes(served.name(), &[table], (0, Epoch::MAX), |epoch, _, change| first.take(epoch, change))?;
        let mut rows = TableState::new(table.clone());
        rows.apply(first.finish(state.rows()));
        now.insert(table.name, rows);
    }
    Ok(now)
}
