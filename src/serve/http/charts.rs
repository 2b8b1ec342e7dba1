//! `/v1/{dataflow}/charts/{chart}.svg|png`: a chart of the tables as they are now.

use super::error::ApiError;
use super::{Shared, blocking, readable, there_are};
use crate::charts;
use crate::serve::service::{Served, Service};
use crate::sinks::live::read::Question;
use crate::tables::TableState;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use retally_core::Epoch;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One chart is drawn at a time: it takes a processor and the rows of its tables.
static DRAWING: Mutex<()> = Mutex::new(());

/// `/v1/{dataflow}/charts/{chart}`
pub async fn chart(State(service): Shared, Path((dataflow, file)): Path<(String, String)>) -> Result<Response, ApiError> {
    blocking(move || {
        let served = readable(&service, &dataflow)?;
        let (epoch, bytes) = drawn(&service, served, &file)?;
        let kind = if file.ends_with(".png") { "image/png" } else { "image/svg+xml" };
        Ok(([("retally-epoch", epoch.to_string())], [(CONTENT_TYPE, kind)], bytes).into_response())
    })
    .await
}

fn drawn(service: &Service, served: &Served, file: &str) -> Result<(Epoch, Vec<u8>), ApiError> {
    let charts = served.job.graph.charts();
    let name = file.strip_suffix(".svg").or_else(|| file.strip_suffix(".png"));
    let Some(chart) = charts.iter().find(|chart| Some(chart.name) == name) else {
        let names: Vec<String> = charts.iter().map(|chart| format!("{}.svg", chart.name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let error = ApiError::missing("unknown_chart", format!("{} has no chart {file:?}", served.name()));
        return Err(error.hint(format!("{}, and the same as .png", there_are(file, &names))));
    };
    let (epoch, tables) = service.readers.read(|snapshot| {
        let mut tables: BTreeMap<&str, TableState> = BTreeMap::new();
        for table in &served.tables {
            if chart.today == Some(table.name) || chart.layers.iter().any(|layer| layer.table == table.name) {
                tables.insert(table.name, snapshot.state(table, served.name(), &Question::default())?);
            }
        }
        Ok::<_, ApiError>((snapshot.epoch(served.name())?, tables))
    })?;
    let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |error: std::io::Error| ApiError::failed(error.to_string());
    let folder = tempfile::tempdir().map_err(failed)?;
    charts::draw(chart, &|name| tables.get(name), folder.path()).map_err(|error| ApiError::failed(error.to_string()))?;
    Ok((epoch, std::fs::read(folder.path().join(file)).map_err(failed)?))
}
