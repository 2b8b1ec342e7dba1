//! `POST /v1/{dataflow}/{input}/forget`: takes back all records of which a field holds a value.

use super::batches::{Keyed, Lent, Taking, answered, input_named, or_pass_over};
use super::error::ApiError;
use super::replay::{Asked, small_body};
use super::{Query, Shared, blocking};
use crate::ingest::nearest::there_are;
use crate::ingest::plan::Plan;
use crate::serve::service::{Phase, Service, Wait};
use crate::state::forget::{ForgetError, Forgetting, NOT_THERE};
use crate::state::frame::{Only, Part};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use retally_core::ids::Ids;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;

/// Which records, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    field: String,
    value: String,
    exact: Option<bool>,
}

/// `POST /v1/{dataflow}/{input}/forget`
pub async fn forget(
    State(service): Shared,
    Path((dataflow, input)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = Lent::new(body, &headers);
    or_pass_over(body.clone(), take(service, &dataflow, &input, asked, &headers, Body::from_stream(body))).await
}

async fn take(
    service: Arc<Service>,
    dataflow: &str,
    input: &str,
    asked: Asked,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let (mut taking, wait) = Taking::begin(&service, dataflow, headers, asked.wait.as_deref()).await?;
    let place = input_named(taking.served(), input)?;
    let body = small_body(body).await?;
    let hint = "{\"field\": \"device_id\", \"value\": \"17\"}";
    let which: Which = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad("bad_body", format!("the body does not say which records: {error}")).hint(hint))?;
    taking.hash(format!("forget {input} ").as_bytes());
    taking.hash(&body);
    // Whoever asked may go away: what has begun is finished.
    let finishing = tokio::spawn(finish(service, taking, place, which, began, wait));
    finishing.await.unwrap_or_else(|error| Err(ApiError::failed(error.to_string())))
}

async fn finish(
    service: Arc<Service>,
    mut taking: Taking,
    input: usize,
    which: Which,
    began: Instant,
    wait: Wait,
) -> Result<Response, ApiError> {
    let key = match taking.look_up_key().await? {
        Keyed::Known(answer) => return Ok(*answer),
        Keyed::New(key) => key,
    };
    // What is being taken back must not be taken back twice.
    let _one = service.looking_back.lock().await;
    if service.phase() != Phase::Ready {
        return Err(service.phase().into());
    }
    let (place, at) = (taking.place(), Arc::clone(&service));
    let (parts, plan) = blocking(move || found(&at, place, input, which)).await?;
    taking.add_planned(parts, plan);
    let reply = taking.hand_on(key, began, wait).await?;
    Ok(answered(&reply, None, false, began.elapsed().as_secs_f64() * 1_000.0))
}

fn found(service: &Service, place: usize, input: usize, which: Which) -> Result<(Vec<Part>, Plan), ApiError> {
    let gone = || ApiError::failed("the dataflow is gone");
    let served = service.dataflows.get(place).ok_or_else(gone)?;
    let input = served.plain.inputs.get(input).ok_or_else(gone)?;
    let exact = which.exact.unwrap_or(served.job.graph.ids() == Ids::Text);
    let only = Only { field: which.field, value: which.value, exact };
    let Forgetting { parts, .. } = service.files.forget(served.of(), input, &only).map_err(|error| match error {
        ForgetError::Field { ref field, ref known, .. } => ApiError::bad("unknown_field", error.to_string()).hint(there_are(field, known)),
        ForgetError::None { .. } => ApiError::missing("unknown_record", error.to_string()).hint(NOT_THERE),
        ForgetError::State(error) => error.into(),
    })?;
    let plan = service.files.plan(served.of(), &parts.iter().collect::<Vec<_>>())?;
    Ok((parts, plan))
}
