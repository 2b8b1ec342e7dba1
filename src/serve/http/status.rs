//! How the service is: for people, for who looks after it, and for Prometheus.

use super::error::ApiError;
use super::{Shared, blocking};
use crate::serve::further::WatchStatus;
use crate::serve::metrics::plain;
use crate::serve::served::Served;
use crate::serve::service::Phase;
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The format of metrics that Prometheus asks for first.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// How a phase is called.
fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Recovering => "recovering",
        Phase::Ready => "ready",
        Phase::Stuck(_) => "stuck",
        Phase::Damaged(_) => "damaged",
        Phase::Ending => "ending",
    }
}

/// `/v1/status`
pub async fn status(State(service): Shared) -> Result<Json<Value>, ApiError> {
    let (phase, uptime, workers) = (service.phase(), service.uptime().as_secs(), service.workers);
    let reading = Arc::clone(&service);
    let dataflows = blocking(move || {
        let epochs = reading.readable().borrow().clone();
        reading.readers.read(|snapshot| {
            let mut dataflows = Map::new();
            for (served, readable) in reading.dataflows.iter().zip(epochs) {
                let fed = snapshot.fed(served.name())?;
                let tables = snapshot.row_counts(served.name())?;
                let about = json!({
                    "epoch": readable, "batches": fed.batches, "records": fed.accepted, "late": fed.late, "rejected": fed.rejected,
                    "as_of": served.as_of().map(|as_of| as_of.to_string()),
                    "last_batch": fed.last, "changes_from": snapshot.changes_from(served.name())?, "tables": tables,
                });
                dataflows.insert(served.name().into(), about);
            }
            Ok::<_, ApiError>(dataflows)
        })
    })
    .await?;
    let metrics = &service.metrics;
    let (names, readable) = (|| service.dataflows.iter().map(Served::name), service.readable().borrow().clone());
    let sinks: Vec<Value> = service.further.iter().map(|further| further.status(names(), &readable)).collect();
    let error = match &phase {
        Phase::Stuck(why) | Phase::Damaged(why) => Some(why.clone()),
        Phase::Recovering | Phase::Ready | Phase::Ending => None,
    };
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": name(&phase),
        "error": error,
        "uptime_s": uptime,
        "memory_bytes": memory(),
        "workers": workers,
        "processes": service.processes,
        "batches_waiting": metrics.waiting.get(),
        "batches_under_way": metrics.under_way.get(),
        "streams": metrics.streams.get(),
        "dataflows": dataflows,
        "sinks": sinks,
        "sources": service.sources.iter().map(|source| source.value()).collect::<Vec<_>>(),
        "folders": service.watched.iter().map(WatchStatus::value).collect::<Vec<_>>(),
    })))
}

/// The memory that the process holds, where the system reports it.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? << 10)
}

/// `/healthz`
pub async fn alive() -> &'static str {
    "alive\n"
}

/// `/readyz`
pub async fn ready(State(service): Shared) -> (StatusCode, &'static str) {
    let phase = service.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, name(&phase))
}

/// `/metrics`
pub async fn metrics(State(service): Shared, headers: HeaderMap) -> impl IntoResponse {
    let readable = service.readable().borrow().clone();
    let names = || service.dataflows.iter().map(Served::name);
    service.further.iter().for_each(|further| further.count(&service.metrics, names(), &readable));
    service.sources.iter().for_each(|source| service.metrics.source(source));
    service.metrics.mesh(service.processes, &service.traffic);
    if let Some(bytes) = memory() {
        service.metrics.memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    let text = service.metrics.text();
    let wants_open = headers.get_all(ACCEPT).iter().any(|accepted| accepted.to_str().is_ok_and(|accepted| accepted.contains(OPEN_METRICS)));
    match wants_open {
        true => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text),
        false => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], plain(&text)),
    }
}
