//! `POST /v1/{dataflow}/rejected/replay`: records that were refused, delivered once more as files are read today.
//!
//! Those that are good now leave `rejected` in the epoch of the batch; those that are not are refused again, and stay there once, with the
//! id that they have in this batch. One replay of a service goes on at a time, so that each record is delivered once.

use super::batches::{Again, Keyed, Lent, Taking, answered, or_pass_over};
use super::error::ApiError;
use super::{Query, Shared, blocking};
use crate::ingest::batch::Arrival;
use crate::ingest::plan::{Origin, Plan};
use crate::ingest::rejected::RecordId;
use crate::serve::served::Served;
use crate::serve::service::{Phase, Service, Wait};
use crate::state::again::Delivered;
use crate::state::frame::{Content, Part};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest body, and how long it may take.
const BODY_BYTES_MAX: usize = 1 << 20;
const BODY_MAX: Duration = Duration::from_secs(60);
/// So many records at a time, from so many parts, with so many bytes of those that stand in the journal itself.
const RECORDS_MAX: usize = 1_000_000;
const PARTS_MAX: usize = 10_000;
const INLINE_BYTES_MAX: usize = 32 << 20;

/// What stands behind `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub(super) wait: Option<String>,
}

/// Which records, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    ids: Option<Vec<String>>,
    reason: Option<String>,
}

/// Which records.
#[derive(Debug)]
enum Chosen {
    Ids(BTreeSet<RecordId>),
    Reason(String),
}

/// `POST /v1/{dataflow}/rejected/replay`
pub async fn replay(
    State(service): Shared,
    Path(dataflow): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = Lent::new(body, &headers);
    or_pass_over(body.clone(), take(service, dataflow, asked, headers, Body::from_stream(body))).await
}

async fn take(service: Arc<Service>, dataflow: String, asked: Asked, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let began = Instant::now();
    let (mut taking, wait) = Taking::begin(&service, &dataflow, &headers, asked.wait.as_deref()).await?;
    let body = small_body(body).await?;
    let chosen = chosen(&body)?;
    taking.hash(b"replay ");
    taking.hash(&body);
    // Whoever asked may go away: what has begun is finished.
    let finishing = tokio::spawn(finish(service, taking, chosen, began, wait));
    finishing.await.unwrap_or_else(|error| Err(ApiError::failed(error.to_string())))
}

/// A body that says which records are meant.
pub async fn small_body(body: Body) -> Result<Bytes, ApiError> {
    let body = tokio::time::timeout(BODY_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
    let body = body.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come within a minute"))?;
    let cut = |error| ApiError::bad("bad_body", format!("the body was cut off, or has more than {BODY_BYTES_MAX} bytes: {error}"));
    body.map_err(cut)
}

fn chosen(body: &[u8]) -> Result<Chosen, ApiError> {
    let hint = "{\"ids\": [\"7.1.12\"]}, or {\"reason\": \"…\"}: a reason, or one without its values, as summaries have it";
    let bad = |why: String| ApiError::bad("bad_body", why).hint(hint);
    let which: Which = serde_json::from_slice(body).map_err(|error| bad(format!("the body does not say which records: {error}")))?;
    match which {
        Which { ids: Some(ids), reason: None } if !ids.is_empty() => {
            let ids = ids.iter().map(|id| id.parse()).collect::<Result<BTreeSet<RecordId>, String>>();
            Ok(Chosen::Ids(ids.map_err(|why| ApiError::bad("bad_value", why).hint("ids are those of the column id of rejected: 7.1.12"))?))
        }
        Which { ids: None, reason: Some(reason) } if !reason.is_empty() => Ok(Chosen::Reason(reason)),
        _ => Err(bad("the body says neither ids nor a reason, or both".into())),
    }
}

async fn finish(service: Arc<Service>, mut taking: Taking, chosen: Chosen, began: Instant, wait: Wait) -> Result<Response, ApiError> {
    // What was asked before under the same key is not there any more.
    let key = match taking.look_up_key().await? {
        Keyed::Known(answer) => return Ok(*answer),
        Keyed::New(key) => key,
    };
    let (place, arrival) = (taking.place(), taking.arrival());
    // Until its changes can be read, the records look as if nobody had asked for them.
    let _one = service.looking_back.lock().await;
    if service.phase() != Phase::Ready {
        return Err(service.phase().into());
    }
    let mut folders = Vec::new();
    for watched in service.watched.iter().filter(|watched| watched.dataflow == place) {
        folders.push(watched.hold().await);
    }
    let at = Arc::clone(&service);
    let Planned { parts, plan, again } = blocking(move || {
        let found = found(&at, place, &chosen)?;
        planned(&at, place, &chosen, &found, arrival)
    })
    .await?;
    let of_folders: Vec<Part> = parts.iter().filter(|part| part.folder.is_some()).cloned().collect();
    taking.add_planned(parts, plan);
    let wait = if wait == Wait::Durable { Wait::Visible } else { wait };
    let reply = taking.hand_on(key, began, wait).await;
    // Where the tables can't be written, it is in the journal, or about to be.
    if reply.is_ok() || matches!(service.phase(), Phase::Stuck(_)) {
        folders.iter_mut().for_each(|folder| folder.extend(of_folders.iter().cloned()));
    }
    Ok(answered(&reply?, Some(again), false, began.elapsed().as_secs_f64() * 1_000.0))
}

/// The records that are meant, by the parts that they came with.
fn found(service: &Service, place: usize, chosen: &Chosen) -> Result<BTreeMap<Origin, Vec<RecordId>>, ApiError> {
    let Some(served) = service.dataflows.get(place) else { return Ok(BTreeMap::new()) };
    let ids = service.readers.read(|snapshot| match chosen {
        Chosen::Ids(ids) => {
            for id in ids {
                if !snapshot.is_rejected(served.name(), id)? {
                    let error = ApiError::missing("unknown_record", format!("no record {id} of {} is refused", served.name()));
                    return Err(error.hint("`retally rejected list DATAFLOW`, or GET /v1/DATAFLOW/rejected, has the ids of those that are"));
                }
            }
            Ok(ids.clone())
        }
        Chosen::Reason(reason) => {
            let ids = snapshot.rejected_for(served.name(), reason, RECORDS_MAX + 1)?;
            if ids.is_empty() {
                let error =
                    ApiError::missing("unknown_reason", format!("no record of {} is refused for the reason {reason:?}", served.name()));
                return Err(error
                    .hint("`retally rejected list DATAFLOW`, or GET /v1/DATAFLOW/rejected, has the reasons; … stands for a value in one"));
            }
            Ok(ids)
        }
    })?;
    if ids.len() > RECORDS_MAX {
        return Err(too_many(format!("over {RECORDS_MAX} records")));
    }
    let mut found: BTreeMap<Origin, Vec<RecordId>> = BTreeMap::new();
    ids.into_iter().for_each(|id| found.entry(id.origin).or_default().push(id));
    Ok(found)
}

/// What delivers records once more.
struct Planned {
    parts: Vec<Part>,
    plan: Plan,
    again: Again,
}

/// What delivers them once more. Of those with a reason, the ones that can't be are left.
fn planned(
    service: &Service,
    place: usize,
    chosen: &Chosen,
    found: &BTreeMap<Origin, Vec<RecordId>>,
    arrival: Arrival,
) -> Result<Planned, ApiError> {
    let Some(served) = service.dataflows.get(place) else { return Err(ApiError::failed("the dataflow is gone")) };
    if found.len() > PARTS_MAX {
        return Err(too_many(format!("records of {} parts of batches", found.len())));
    }
    let delivered = service.files.delivered(served.name(), &found.keys().copied().collect())?;
    let inline = |delivered: &Delivered| match &delivered.part.content {
        Content::Inline(inline) => inline.text.len(),
        _ => 0,
    };
    if delivered.values().map(inline).sum::<usize>() > INLINE_BYTES_MAX {
        return Err(too_many(format!("records of parts with over {INLINE_BYTES_MAX} bytes")));
    }
    let mut all = Planned { parts: Vec::new(), plan: Plan::default(), again: Again { replayed: 0, left: 0 } };
    let mut refused = None;
    for (origin, ids) in found {
        let count = ids.len() as u64;
        match planned_part(service, served, delivered.get(origin), ids, arrival) {
            Ok((parts, mut plan)) => {
                plan.number_behind(all.parts.len());
                all.parts.extend(parts);
                all.plan.append(plan);
                all.again.replayed += count;
            }
            Err(error) if matches!(chosen, Chosen::Ids(_)) => return Err(error),
            Err(error) => {
                refused.get_or_insert(error);
                all.again.left += count;
            }
        }
    }
    match refused {
        Some(error) if all.parts.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// What delivers records of a part once more, and its splits.
fn planned_part(
    service: &Service,
    served: &Served,
    delivered: Option<&Delivered>,
    ids: &[RecordId],
    arrival: Arrival,
) -> Result<([Part; 2], Plan), ApiError> {
    let not = |why: &dyn fmt::Display| {
        let first = ids.first().map(ToString::to_string).unwrap_or_default();
        let message = format!("record {first} can't be delivered once more: {why}");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "not_replayable", message).hint("deliver it anew, as a batch")
    };
    let delivered = delivered.ok_or_else(|| not(&"the journal does not have its part any more"))?;
    let parts = service.files.again(served.of(), delivered, ids, arrival).map_err(|why| not(&why))?;
    let plan = service.files.plan(served.of(), &parts.iter().collect::<Vec<_>>())?;
    Ok((parts, plan))
}

fn too_many(what: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many", format!("{what} are too many at a time")).hint("give ids, some at a time")
}
