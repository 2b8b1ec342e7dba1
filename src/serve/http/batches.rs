//! Batches in: bodies are kept and planned before they are taken. What can't be read is refused, and nothing else notices.

use super::error::ApiError;
use super::{Query, Shared, blocking, served};
use crate::engine;
use crate::hex::hex;
use crate::ingest::batch::{Arrival, Batch, Part as Delivered, Source};
use crate::ingest::jobs;
use crate::ingest::nearest::there_are;
use crate::ingest::plan::Plan;
use crate::serve::further::Further;
use crate::serve::limits::INLINE_BYTES_MAX;
use crate::serve::served::Served;
use crate::serve::service::{Incoming, KeyGuard, Phase, Reply, Service, Wait};
use crate::state::StateError;
use crate::state::frame::{Answer, Blob, Content, Inline, InlineFormat, Key, Part};
use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::{MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use retally_core::Epoch;
use retally_core::contract::{DatasetFiles, InputKind};
use retally_core::split::Format;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::path::Path as FilePath;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// So many chunks of a body wait to be written.
const CHUNKS: usize = 16;
/// Who sends nothing of a body for so long is dropped.
const CHUNK_MAX: Duration = Duration::from_secs(60);
/// What comes of a body that is refused is read for so long before that is answered.
const PASSED_OVER_MAX: Duration = Duration::from_secs(5);
/// The longest key.
const KEY_BYTES_MAX: usize = 255;
/// A batch has so many parts at most.
const PARTS_MAX: usize = 1_000;
/// So many batches are listed.
const LISTED: u64 = 100;

/// What stands behind `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    #[serde(default)]
    retract: bool,
    name: Option<String>,
    wait: Option<String>,
}

/// What a body is, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The ending of a file that holds it.
    pub(super) ending: &'static str,
    /// What it holds, where it is text.
    format: Option<InlineFormat>,
    pub(super) packing: &'static str,
}

/// `POST /v1/{dataflow}/{input}`
pub async fn one(
    State(service): Shared,
    Path((dataflow, input)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = Lent::new(body, &headers);
    or_pass_over(body.clone(), take_one(&service, &dataflow, &input, &asked, &headers, body)).await
}

async fn take_one(
    service: &Arc<Service>,
    dataflow: &str,
    input: &str,
    asked: &Asked,
    headers: &HeaderMap,
    body: Lent,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let (mut taking, wait) = Taking::begin(service, dataflow, headers, asked.wait.as_deref()).await?;
    let place = input_named(taking.served(), input)?;
    let kind = kind(headers.get(CONTENT_TYPE), headers.get(CONTENT_ENCODING))?;
    let said = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|bytes| bytes > service.limits.body) {
        return Err(too_large(service.limits.body));
    }
    let chunks = body.map(|chunk| chunk.map_err(|error| error.to_string())).boxed();
    let sign = if asked.retract { -1 } else { 1 };
    taking.add(place, sign, asked.name.as_deref().unwrap_or("-"), kind, chunks).await?;
    taking.finish(began, wait).await
}

/// `POST /v1/{dataflow}/batches`
pub async fn several(
    State(service): Shared,
    Path(dataflow): Path<String>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let body = Lent::new(body, &head.headers);
    let request = Request::from_parts(head, Body::from_stream(body.clone()));
    or_pass_over(body, take_several(&service, &dataflow, &asked, request)).await
}

async fn take_several(service: &Arc<Service>, dataflow: &str, asked: &Asked, request: Request) -> Result<Response, ApiError> {
    let began = Instant::now();
    let headers = request.headers().clone();
    let (mut taking, wait) = Taking::begin(service, dataflow, &headers, asked.wait.as_deref()).await?;
    let bad = |error: MultipartError| ApiError::bad("bad_body", error.body_text());
    let refused = |error: MultipartRejection| ApiError::bad("bad_body", error.body_text());
    let mut parts = Multipart::from_request(request, &()).await.map_err(refused)?;
    let mut count = 0;
    while let Some(field) = parts.next_field().await.map_err(bad)? {
        count += 1;
        if count > PARTS_MAX {
            return Err(ApiError::bad("parts", format!("a batch has at most {PARTS_MAX} parts")));
        }
        let given = field.name().unwrap_or_default().to_string();
        let (name, sign) = given.strip_suffix('-').map_or((given.as_str(), 1), |name| (name, -1));
        let place = input_named(taking.served(), name)?;
        let file = field.file_name().map(String::from);
        let kind = kind_of_part(field.headers(), file.as_deref())?;
        let chunks = field.map(|chunk| chunk.map_err(|error| error.body_text())).boxed();
        taking.add(place, sign, file.as_deref().unwrap_or("-"), kind, chunks).await?;
    }
    taking.finish(began, wait).await
}

/// A body that is passed over where its batch is refused.
#[derive(Clone)]
pub(super) struct Lent(Arc<Mutex<Reading>>);

struct Reading {
    body: BodyDataStream,
    /// Its sender waits until it is asked for.
    is_held_back: bool,
}

impl Lent {
    /// A body, by the headers before it.
    pub(super) fn new(body: Body, headers: &HeaderMap) -> Lent {
        let is_held_back = headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Lent(Arc::new(Mutex::new(Reading { body: body.into_data_stream(), is_held_back })))
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut reading = self.reading();
        reading.is_held_back = false;
        reading.body.poll_next_unpin(context)
    }
}

/// Where a batch is refused, reads what still comes of its body, for some time: who is still sending does not hear an answer. What its
/// sender holds back until it is asked for is not asked for.
pub(super) async fn or_pass_over(mut body: Lent, taken: impl Future<Output = Result<Response, ApiError>>) -> Result<Response, ApiError> {
    let taken = taken.await;
    if taken.is_err() && !body.reading().is_held_back {
        let read = async { while let Some(Ok(_)) = body.next().await {} };
        // Whoever takes longer is not waited for.
        tokio::time::timeout(PASSED_OVER_MAX, read).await.ok();
    }
    taken
}

/// `GET /v1/{dataflow}/batches`
pub async fn list(State(service): Shared, Path(dataflow): Path<String>, Query(asked): Query<Listed>) -> Result<Json<Value>, ApiError> {
    let (_, served) = served(&service, &dataflow)?;
    let (name, limit) = (served.name(), asked.limit.unwrap_or(LISTED));
    let batches = blocking(move || service.readers.read(|snapshot| Ok(snapshot.batches(name, limit)?))).await?;
    Ok(Json(json!({"dataflow": name, "batches": batches})))
}

/// How many batches are listed.
#[derive(Debug, Deserialize)]
pub struct Listed {
    limit: Option<u64>,
}

/// The place of the input of this name.
pub(super) fn input_named(served: &Served, name: &str) -> Result<usize, ApiError> {
    let inputs = &served.job.definition.inputs;
    inputs.iter().position(|input| input.name == name).ok_or_else(|| {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        ApiError::missing("unknown_input", format!("{} has no input {name:?}", served.name())).hint(there_are(name, &names))
    })
}

type Header<'h> = Option<&'h axum::http::HeaderValue>;

/// What a body is.
pub(super) fn kind(content: Header<'_>, encoding: Header<'_>) -> Result<Kind, ApiError> {
    let unsupported = |what: &str| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", what.to_string());
    let text = |header: Header<'_>| header.and_then(|header| header.to_str().ok()).unwrap_or_default().trim().to_ascii_lowercase();
    let packing = match text(encoding).as_str() {
        "" | "identity" => "",
        "gzip" | "x-gzip" => ".gz",
        "zstd" => ".zst",
        other => return Err(unsupported(&format!("Content-Encoding {other:?} is neither gzip nor zstd"))),
    };
    let content = text(content);
    let (ending, format) = match content.split(';').next().unwrap_or_default().trim() {
        "text/csv" => (".csv", Some(InlineFormat::Csv)),
        "application/x-ndjson" | "application/jsonl" | "application/ndjson" => (".jsonl", Some(InlineFormat::Json)),
        "application/json" => (".json", Some(InlineFormat::Json)),
        "application/vnd.apache.parquet" if packing.is_empty() => (".parquet", None),
        "" => return Err(unsupported("there is no Content-Type").hint(super::BODIES.join(", "))),
        other => return Err(unsupported(&format!("Content-Type {other:?} is not read")).hint(super::BODIES.join(", "))),
    };
    Ok(Kind { ending, format, packing })
}

/// What a part is: by its own headers, or by the name of its file.
fn kind_of_part(headers: &HeaderMap, file: Option<&str>) -> Result<Kind, ApiError> {
    let content = headers.get(CONTENT_TYPE).filter(|kind| !kind.as_bytes().starts_with(b"application/octet-stream"));
    let Some(name) = file.filter(|_| content.is_none()).map(str::to_ascii_lowercase) else {
        return kind(content, headers.get(CONTENT_ENCODING));
    };
    let (name, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(name), _) => (name, ".gz"),
        (_, Some(name)) => (name, ".zst"),
        _ => (name.as_str(), ""),
    };
    let (ending, format) = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("csv" | "tsv" | "txt") => (".csv", Some(InlineFormat::Csv)),
        Some("jsonl" | "ndjson") => (".jsonl", Some(InlineFormat::Json)),
        Some("json") => (".json", Some(InlineFormat::Json)),
        Some("parquet") if packing.is_empty() => (".parquet", None),
        _ => return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", format!("{name:?} is not read"))),
    };
    Ok(Kind { ending, format, packing })
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("a body has at most {limit} bytes"))
        .hint("send it in parts, or packed")
}

/// A batch that is being received.
pub(super) struct Taking {
    service: Arc<Service>,
    place: usize,
    key: Option<(String, KeyGuard)>,
    arrived: Moment,
    arrival: Arrival,
    parts: Vec<Part>,
    plan: Plan,
    /// Their files, until the batch is taken.
    unclaimed: Vec<Unclaimed>,
    /// The hash of all that was sent.
    hash: Sha256,
    /// Bytes received.
    bytes: u64,
}

impl Taking {
    pub(super) async fn begin(
        service: &Arc<Service>,
        dataflow: &str,
        headers: &HeaderMap,
        wait: Option<&str>,
    ) -> Result<(Taking, Wait), ApiError> {
        let (place, served) = served(service, dataflow)?;
        let wait = match wait {
            Some("durable") => Wait::Durable,
            None | Some("visible") => Wait::Visible,
            Some("sinks") => Wait::Sinks,
            Some(other) => {
                let error = ApiError::bad("bad_value", format!("wait={other:?} is none of durable, visible and sinks"));
                return Err(error.hint("leave it out: it is visible then"));
            }
        };
        // Who wants no more than that the disk has it waits until the service has taken up what was there; there is no hurry to read it.
        let phase = if wait == Wait::Durable { service.recovered().await } else { service.phase() };
        if phase != Phase::Ready {
            return Err(phase.into());
        }
        let key = headers.get("idempotency-key").map(|key| {
            let text = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
            let text = text.ok_or_else(|| ApiError::bad("bad_key", format!("a key is of 1 to {KEY_BYTES_MAX} visible characters")))?;
            let guard = service.reserve(place, text).ok_or_else(|| {
                ApiError::new(StatusCode::CONFLICT, "under_way", "a batch with this key is under way").hint("send it again in a moment")
            })?;
            Ok::<_, ApiError>((text.to_string(), guard))
        });
        let arrival = engine::arrival(served.job.accept_from);
        let taking = Taking {
            service: Arc::clone(service),
            place,
            key: key.transpose()?,
            arrived: engine::now(),
            arrival,
            parts: Vec::new(),
            plan: Plan::default(),
            unclaimed: Vec::new(),
            hash: Sha256::new(),
            bytes: 0,
        };
        Ok((taking, wait))
    }

    pub(super) fn served(&self) -> &Served {
        // Its place was found there.
        self.service.dataflows.get(self.place).unwrap_or_else(|| unreachable!("dataflow {} is served", self.place))
    }

    /// Receives a part.
    async fn add(
        &mut self,
        place: usize,
        sign: isize,
        name: &str,
        kind: Kind,
        stream: BoxStream<'_, Result<Bytes, String>>,
    ) -> Result<(), ApiError> {
        let mut body = Chunks { stream, bytes: self.bytes, limit: self.service.limits.body };
        let mut small = Vec::new();
        let mut more = None;
        while let Some(chunk) = body.next().await? {
            if small.len() + chunk.len() > INLINE_BYTES_MAX {
                more = Some(chunk);
                break;
            }
            small.extend_from_slice(&chunk);
        }
        let service = Arc::clone(&self.service);
        let served = service.dataflows.get(self.place).ok_or_else(|| ApiError::failed("the dataflow is gone"))?;
        let input = served.job.definition.inputs.get(place).ok_or_else(|| ApiError::failed("the input is gone"))?;
        let is_small = more.is_none() && kind.packing.is_empty() && matches!(input.kind, InputKind::Records);
        let (parts, plan, sent) = match (kind.format.filter(|_| is_small), String::from_utf8(small)) {
            (Some(format), Ok(text)) => {
                self.hash.update(&text);
                let part = service.files.part(served.of(), input, sign, name, Content::Inline(Inline { format, text }), self.arrival);
                let plan = service.files.plan(served.of(), &[&part])?;
                (vec![part], plan, None)
            }
            (_, small) => {
                let small = small.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
                let (chunks, received) = mpsc::channel::<Bytes>(CHUNKS);
                let (service, of_place, arrival, name) = (Arc::clone(&self.service), self.place, self.arrival, name.to_string());
                let keeping = tokio::task::spawn_blocking(move || {
                    let body = Received { chunk: Bytes::new(), chunks: received, is_whole: false };
                    let gone = || ApiError::failed("the dataflow is gone");
                    keep(&service, service.dataflows.get(of_place).ok_or_else(gone)?, (place, sign), &name, kind, body, arrival)
                });
                let first = [Bytes::from(small)].into_iter().chain(more).filter(|chunk| !chunk.is_empty());
                let sent = body.send(first, chunks).await;
                let kept = keeping.await.unwrap_or_else(|error| Err(ApiError::failed(error.to_string())));
                sent?;
                let (parts, plan, unclaimed) = kept?;
                self.unclaimed.push(unclaimed);
                let hashes = parts.iter().flat_map(|part| part.blobs()).map(|blob| blob.file.clone()).collect::<Vec<_>>().join(" ");
                (parts, plan, Some(hashes))
            }
        };
        self.hash.update(format!("\n{} {sign} {}\n", input.name, sent.unwrap_or_default()));
        self.bytes = body.bytes;
        self.add_planned(parts, plan);
        Ok(())
    }

    /// Hands it on, and waits until it is as far as was asked for.
    async fn finish(mut self, began: Instant, wait: Wait) -> Result<Response, ApiError> {
        if self.bytes == 0 {
            return Err(ApiError::bad("empty", "the body is empty").hint("send the records as the body: curl --data-binary @FILE"));
        }
        let key = match self.look_up_key().await? {
            Keyed::Known(answer) => return Ok(*answer),
            Keyed::New(key) => key,
        };
        let reply = self.hand_on(key, began, wait).await?;
        Ok(answered(&reply, None, false, began.elapsed().as_secs_f64() * 1_000.0))
    }

    /// Adds to what distinguishes the batch from another under the same key.
    pub(super) fn hash(&mut self, sent: &[u8]) {
        self.hash.update(sent);
    }

    /// Adds parts that are kept, with their plan.
    pub(super) fn add_planned(&mut self, parts: Vec<Part>, mut plan: Plan) {
        plan.number_behind(self.parts.len());
        self.parts.extend(parts);
        self.plan.append(plan);
    }

    /// When it arrived, for what is accepted.
    pub(super) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// The dataflow's place.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Looks whether the batch came before under its key, when all of it has been received.
    pub(super) async fn look_up_key(&mut self) -> Result<Keyed, ApiError> {
        let Some((key, guard)) = self.key.take() else { return Ok(Keyed::New(None)) };
        let body = hex(&std::mem::take(&mut self.hash).finalize());
        match known(&self.service, self.place, &key, &body).await? {
            Some(answer) => Ok(Keyed::Known(Box::new(answer))),
            None => Ok(Keyed::New(Some((Key { key, body }, guard)))),
        }
    }

    /// Hands it on, and waits until it is as far as was asked for.
    pub(super) async fn hand_on(self, key: Option<(Key, KeyGuard)>, began: Instant, wait: Wait) -> Result<Reply, ApiError> {
        let Taking { service, place, arrived, parts, plan, unclaimed, .. } = self;
        let (reply, answer) = oneshot::channel();
        service.take(Incoming { dataflow: place, parts, plan, positions: Vec::new(), key, arrived, began, wait, reply })?;
        unclaimed.into_iter().for_each(Unclaimed::claim);
        let reply = tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| ApiError::from(Phase::Ending))??,
            // It is in the journal, or about to be, and is applied in the end: nobody waits here until then.
            stuck = service.stuck(), if wait != Wait::Durable => return Err(stuck.into()),
        };
        if wait == Wait::Sinks {
            // All at once: each writes what it has as soon as somebody waits for it.
            let has = async |further: &Further| match further.has(place, reply.epoch).await {
                true => Ok(()),
                false => {
                    let why = format!("batch {} can be read, and {} does not get it: it is given up", reply.epoch, further.wanted().shown);
                    let hint = "/v1/status says why; it goes on where it is when the service is started again";
                    Err(ApiError::not_passed_on(why).hint(hint))
                }
            };
            try_join_all(service.further.iter().map(has)).await?;
        }
        Ok(reply)
    }
}

/// Whether a batch came before under its key.
pub(super) enum Keyed {
    /// It did: its answer.
    Known(Box<Response>),
    /// It did not, or has none.
    New(Option<(Key, KeyGuard)>),
}

/// What a batch is answered with.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    epoch: Epoch,
    #[serde(flatten)]
    answer: Option<&'a Answer>,
    /// In place of what came of it, where that was not waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
    #[serde(flatten)]
    again: Option<Again>,
    duplicate: bool,
    ms: f64,
}

/// How many records were delivered once more, and how many could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Again {
    pub(super) replayed: u64,
    pub(super) left: u64,
}

pub(super) fn answered(reply: &Reply, again: Option<Again>, duplicate: bool, ms: f64) -> Response {
    let answer = reply.answer.as_ref();
    let durable = answer.is_none().then_some(true);
    Json(Answered { epoch: reply.epoch, answer, durable, again, duplicate, ms: (ms * 100.0).round() / 100.0 }).into_response()
}

/// The answer to a batch that came before under the same key.
async fn known(service: &Arc<Service>, place: usize, key: &str, body: &str) -> Result<Option<Response>, ApiError> {
    let (service, key) = (Arc::clone(service), key.to_string());
    let found = blocking(move || {
        let Some(served) = service.dataflows.get(place) else { return Ok(None) };
        let since = service.keys_since();
        service.readers.read(|snapshot| Ok(snapshot.batch_of_key(served.name(), &key, since)?))
    });
    let Some(found) = found.await? else { return Ok(None) };
    if found.body != body {
        let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "other_body", "another batch came under this key");
        return Err(error.hint("a key is of one batch: give each its own"));
    }
    let answer = found.answer;
    let changed = serde_json::from_str(&answer.changed).unwrap_or_default();
    let (accepted, late, rejected) = (answer.accepted, answer.late, answer.rejected);
    let reply = Reply { epoch: found.epoch, answer: Some(Answer { accepted, late, rejected, changed }) };
    Ok(Some(answered(&reply, None, true, answer.ms)))
}

/// Keeps a body as a file, and plans it.
fn keep(
    service: &Arc<Service>,
    served: &Served,
    (input, sign): (usize, isize),
    name: &str,
    kind: Kind,
    body: Received,
    arrival: Arrival,
) -> Result<(Vec<Part>, Plan, Unclaimed), ApiError> {
    let of = served.of();
    let declared = served.job.definition.inputs.get(input).ok_or_else(|| ApiError::failed("the input is gone"))?;
    let file = format!("body{}{}", kind.ending, kind.packing);
    let parts = match declared.kind {
        InputKind::Records => {
            let blob = service.files.keep_stream(&file, body)?;
            vec![service.files.part(of, declared, sign, name, Content::Blob(blob), arrival)]
        }
        InputKind::Datasets(files) => {
            if !matches!(kind.ending, ".json" | ".jsonl") {
                let error =
                    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_type", "datasets are named by jobs, and these are JSON");
                return Err(error.hint("application/x-ndjson: a job a line, with the files of a dataset"));
            }
            // Jobs name the files of datasets, which are kept with them.
            let folder = tempfile::tempdir().map_err(|error| ApiError::later("disk", error.to_string()))?;
            let path = folder.path().join(&file);
            let mut body = body;
            std::fs::File::create(&path)
                .and_then(|mut to| io::copy(&mut body, &mut to))
                .map_err(|error| ApiError::bad("bad_body", error.to_string()))?;
            let path = path.display().to_string();
            check_jobs(&path, folder.path(), files)?;
            let batch = Batch { parts: vec![Delivered { input, sign, source: Source::Path(path) }] };
            let mut kept = service.files.keep(of, &batch, arrival)?;
            kept.parts.iter_mut().for_each(|part| part.name = name.into());
            kept.parts
        }
    };
    let unclaimed = Unclaimed { service: Arc::clone(service), blobs: parts.iter().flat_map(Part::blobs).cloned().collect() };
    let plan = service.files.plan(of, &parts.iter().collect::<Vec<_>>())?;
    if !kind.packing.is_empty() || plan.splits.iter().any(|split| matches!(split.format, Format::Parquet)) {
        plan.check_packed(of.definition, service.limits.unpacked).map_err(StateError::from)?;
    }
    Ok((parts, plan, unclaimed))
}

/// Files that were kept for a batch. They go with it where it is refused.
struct Unclaimed {
    service: Arc<Service>,
    blobs: Vec<Blob>,
}

impl Unclaimed {
    /// The batch is taken.
    fn claim(mut self) {
        self.blobs.clear();
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        self.service.files.withdraw(&self.blobs);
    }
}

/// Refuses jobs that name files by relative paths: they came without a folder that these could be below.
fn check_jobs(path: &str, folder: &FilePath, files: &'static DatasetFiles) -> Result<(), ApiError> {
    for mut queue in jobs::open(path, files).map_err(StateError::from)? {
        while let Some(job) = queue.next().map_err(StateError::from)? {
            let streams = job.iter().flat_map(|job| &job.streams);
            let relative = streams.filter_map(|stream| FilePath::new(stream).strip_prefix(folder).ok()).next();
            if let Some(relative) = relative {
                let error =
                    ApiError::bad("bad_body", format!("a job names {:?}, which is neither a whole path nor a URL", relative.display()));
                return Err(error.hint("name files from / on, as the service finds them, or by https:// or s3://"));
            }
        }
    }
    Ok(())
}

/// A body as it comes.
struct Chunks<'s> {
    stream: BoxStream<'s, Result<Bytes, String>>,
    /// Bytes of the batch so far.
    bytes: u64,
    limit: u64,
}

impl Chunks<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let timeout = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "nothing of the body came for a minute");
        let Some(chunk) = tokio::time::timeout(CHUNK_MAX, self.stream.next()).await.map_err(timeout)? else { return Ok(None) };
        let chunk = chunk.map_err(|why| ApiError::bad("bad_body", format!("the body was cut off: {why}")))?;
        self.bytes += chunk.len() as u64;
        if self.bytes > self.limit { Err(too_large(self.limit)) } else { Ok(Some(chunk)) }
    }

    /// Hands it on: what was received of it, the rest, and an empty chunk, without which it was cut off.
    async fn send(&mut self, first: impl Iterator<Item = Bytes> + Send, to: mpsc::Sender<Bytes>) -> Result<(), ApiError> {
        let mut first: Vec<Bytes> = first.collect();
        first.reverse();
        loop {
            let chunk = match first.pop() {
                Some(chunk) => Some(chunk),
                None => self.next().await?,
            };
            // Who keeps it says why it does not go on.
            let is_last = chunk.is_none();
            if to.send(chunk.unwrap_or_default()).await.is_err() || is_last {
                return Ok(());
            }
        }
    }
}

/// A body as it is received.
struct Received {
    chunk: Bytes,
    chunks: mpsc::Receiver<Bytes>,
    is_whole: bool,
}

impl Read for Received {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !self.is_whole {
            self.chunk = self.chunks.blocking_recv().ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut off"))?;
            self.is_whole = self.chunk.is_empty();
        }
        let length = self.chunk.len().min(to.len());
        let read = self.chunk.split_to(length);
        to.get_mut(..length).unwrap_or_default().copy_from_slice(&read);
        Ok(length)
    }
}
