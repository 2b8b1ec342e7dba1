//! `/v1/{dataflow}/tables/{table}/why`: how a row became what it is, the last change first.

use super::error::ApiError;
use super::{Query, Shared, blocking, readable, table};
use crate::serve::why;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

/// So many changes are told.
const CHANGES_MAX: u64 = 1_000;

/// `/v1/{dataflow}/tables/{table}/why`
pub async fn why(
    State(service): Shared,
    Path((dataflow, name)): Path<(String, String)>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let served = readable(&service, &dataflow)?;
        let table = table(served, &name)?;
        service.readers.read(|snapshot| {
            let mut history = snapshot.history(table, served.name(), &asked, CHANGES_MAX)?;
            why::count(&mut history, &asked, table, &*served.job.graph, &served.plain, &service.files)?;
            let (epoch, from) = (snapshot.epoch(served.name())?, snapshot.changes_from(served.name())?);
            Ok(Json(json!({"dataflow": dataflow, "table": name, "epoch": epoch, "changes_from": from, "changes": history})))
        })
    })
    .await
}
