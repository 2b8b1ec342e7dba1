//! `POST /v1/{dataflow}/{input}/check`: what is understood of a body, and what would be refused. Nothing of it is kept.

use super::batches::{input_named, kind};
use super::error::ApiError;
use super::{Query, Shared, blocking, served};
use crate::engine;
use crate::ingest::batch::{Batch, Part, Source};
use crate::ingest::check::check;
use crate::ingest::plan::plan;
use crate::state::StateError;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// The largest body, which is in memory: its first records are looked at.
const BYTES_MAX: usize = 32 << 20;

/// What stands behind `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    name: Option<String>,
}

/// `POST /v1/{dataflow}/{input}/check`
pub async fn one(
    State(service): Shared,
    Path((dataflow, input)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (_, found) = served(&service, &dataflow)?;
    let place = input_named(found, &input)?;
    let kind = kind(headers.get(CONTENT_TYPE), headers.get(CONTENT_ENCODING))?;
    let bytes = to_bytes(body, BYTES_MAX).await.map_err(|_| {
        let error =
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("a body that is looked at has at most {BYTES_MAX} bytes"));
        error.hint("send its beginning, or look at it with retally check")
    })?;
    if bytes.is_empty() {
        return Err(ApiError::bad("empty", "the body is empty").hint("send the beginning of the file as the body"));
    }
    blocking(move || {
        let (_, served) = served(&service, &dataflow)?;
        let failed = |error: std::io::Error| ApiError::later("disk", error.to_string());
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join(format!("body{}{}", kind.ending, kind.packing));
        std::fs::write(&path, &bytes).map_err(failed)?;
        let (name, path) = (asked.name.unwrap_or_else(|| "-".into()), path.display().to_string());
        let batch = Batch { parts: vec![Part { input: place, sign: 1, source: Source::Kept { name, path } }] };
        let arrival = engine::arrival(served.job.accept_from);
        let plan = plan(&served.job.definition, &batch, arrival).map_err(StateError::from)?;
        let mut files = Vec::new();
        for (number, file) in plan.files.iter().enumerate() {
            let Some(input) = served.job.definition.inputs.get(file.input) else { continue };
            let checked = check(&*served.job.graph, input, &plan, number);
            files.push(checked.map_err(|error| ApiError::bad("bad_body", error.to_string()))?);
        }
        Ok(Json(json!({"files": files, "notes": plan.notes, "passed_over": plan.passed_over})))
    })
    .await
}
