//! `/v1/{dataflow}/tables/{table}/why`: how a row became what it is, the last change first.

use super::error::ApiError;
use super::{Shared, blocking, served, table};
use axum::Json;
use axum::extract::{Path, Query, State};
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
        let (place, served) = served(&service, &dataflow)?;
        super::tables::recovered(&service, place)?;
        let table = table(served, &name)?;
        let key: Vec<&str> = table.columns.iter().take(table.key_columns).map(|column| column.name).collect();
        let is_key = asked.len() == key.len() && key.iter().all(|column| asked.iter().any(|(given, _)| given == column));
        if !is_key {
            let error = ApiError::bad("not_a_key", format!("a row of {name} is told by {}", key.join(", ")));
            return Err(error.hint("give a value for each of them, and for nothing else"));
        }
        let values: Vec<&str> =
            key.iter().filter_map(|column| asked.iter().find(|(given, _)| given == column).map(|(_, value)| value.as_str())).collect();
        service.readers.read(|snapshot| {
            let history = snapshot.history(table, served.name(), &values, CHANGES_MAX)?;
            let (epoch, from) = (snapshot.epoch(served.name())?, snapshot.changes_from(served.name())?);
            Ok(Json(json!({"dataflow": dataflow, "table": name, "epoch": epoch, "changes_from": from, "changes": history})))
        })
    })
    .await
}
