//! The HTTP interface: its routes, each with what it is about; `/openapi.json` comes from the same list.

pub mod auth;
mod batches;
mod changes;
mod charts;
mod check;
mod dataflows;
mod error;
mod first;
mod forget;
mod openapi;
mod page;
mod points;
mod replay;
pub mod server;
pub mod session;
mod status;
mod tables;
mod why;

use super::served::Served;
use super::service::Service;
use crate::ingest::nearest::there_are;
use auth::Access;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{IF_NONE_MATCH, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use error::ApiError;
use retally_core::Epoch;
use retally_core::contract::Table;
use serde::de::DeserializeOwned;
use session::Guard;
use std::sync::Arc;

/// The parts of a path of more than one.
type Shared = State<Arc<Service>>;

/// A call of the interface.
pub struct Route {
    /// `get` or `post`.
    pub method: &'static str,
    /// Its path, with parameters in braces.
    pub path: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What may stand behind `?`, with what it means; or in a header, whose name begins with a capital letter.
    pub parameters: &'static [(&'static str, &'static str)],
    /// What the body may be.
    pub takes: &'static [&'static str],
    /// What is answered.
    pub gives: &'static [&'static str],
    handler: fn() -> MethodRouter<Arc<Service>>,
}

const JSON: &str = "application/json";
const BODIES: &[&str] = &["text/csv", "application/x-ndjson", JSON, "application/vnd.apache.parquet"];
const OF_BATCHES: (&str, &str) = ("wait", "When it is answered: durable (the disk has it), visible (its changes can be read) or sinks");
const KEY: (&str, &str) = ("Idempotency-Key", "A text that makes a repetition of the batch harmless: it is answered as the first one was");
const PACKING: (&str, &str) = ("Content-Encoding", "How the body is packed: gzip or zstd");

/// All calls.
pub const ROUTES: &[Route] = &[
    Route {
        method: "post",
        path: "/v1/{dataflow}/{input}",
        about: "A batch for one input",
        parameters: &[
            ("retract", "true: the records are taken back"),
            ("name", "What the batch is called in `rejected`"),
            OF_BATCHES,
            KEY,
            PACKING,
        ],
        takes: BODIES,
        gives: &[JSON],
        handler: || post(batches::one),
    },
    Route {
        method: "post",
        path: "/v1/{dataflow}/{input}/forget",
        about: "Takes back all records of which a field holds a value, as a batch: {\"field\": \"device_id\", \"value\": \"17\"}; with \
                \"exact\": true only those that hold this text",
        parameters: &[OF_BATCHES, KEY],
        takes: &[JSON],
        gives: &[JSON],
        handler: || post(forget::forget),
    },
    Route {
        method: "post",
        path: "/v1/{dataflow}/{input}/check",
        about: "What is understood of a body, and what would be refused: its first records are read, and nothing is kept",
        parameters: &[("name", "What the body is called"), PACKING],
        takes: BODIES,
        gives: &[JSON],
        handler: || post(check::one),
    },
    Route {
        method: "post",
        path: "/v1/{dataflow}/batches",
        about: "A batch of several parts, all or nothing: each is named INPUT, or INPUT- where its records are taken back",
        parameters: &[OF_BATCHES, KEY],
        takes: &["multipart/form-data"],
        gives: &[JSON],
        handler: || post(batches::several),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/batches",
        about: "What was fed, the last first: when, and with what effect",
        parameters: &[("limit", "At most so many (100)")],
        takes: &[],
        gives: &[JSON],
        handler: || get(batches::list),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/tables",
        about: "The tables: columns with types and meanings, row counts, epoch",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || get(tables::list),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/tables/{table}",
        about: "Rows, sorted as in CSV, as of the epoch in the header Retally-Epoch",
        parameters: tables::PARAMETERS,
        takes: &[],
        gives: &[JSON, "text/csv", "application/vnd.apache.parquet"],
        handler: || get(tables::rows),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/tables/{table}/why",
        about: "How a row became what it is: each change of it with its batch, the last first",
        parameters: &[("COLUMN", "The value of each column of the table's key")],
        takes: &[],
        gives: &[JSON],
        handler: || get(why::why),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/charts/{chart}",
        about: "A chart of the tables as they are now: CHART.svg, CHART.png, or its numbers as CHART.json",
        parameters: charts::PARAMETERS,
        takes: &[],
        gives: &["image/svg+xml", "image/png", JSON],
        handler: || get(charts::chart),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/points/{measurement}",
        about: "Points of the embedded store, in the order of time",
        parameters: points::PARAMETERS,
        takes: &[],
        gives: &[JSON],
        handler: || get(points::points),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/rejected",
        about: "Records that were refused, with batch, place, reason and id",
        parameters: tables::PARAMETERS,
        takes: &[],
        gives: &[JSON, "text/csv"],
        handler: || get(tables::rejected),
    },
    Route {
        method: "get",
        path: "/v1/{dataflow}/rejected/reasons",
        about: "Why records were refused, the most frequent reason first: how many, and the first of them",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || get(tables::reasons),
    },
    Route {
        method: "post",
        path: "/v1/{dataflow}/rejected/replay",
        about: "Delivers refused records once more, as a batch, under the settings of now: {\"ids\": [\"7.1.12\"]}, or {\"reason\": \"…\"}",
        parameters: &[OF_BATCHES, KEY],
        takes: &[JSON],
        gives: &[JSON],
        handler: || post(replay::replay),
    },
    Route {
        method: "get",
        path: "/v1/changes",
        about: "Rows as they come and go, as server-sent events: change, progress when an epoch is complete, reset where a table must be read anew",
        parameters: &[
            ("tables", "DATAFLOW.TABLE, separated by commas"),
            ("since", "Changes behind this epoch; of several dataflows DATAFLOW:EPOCH, separated by commas [now]"),
            ("Last-Event-ID", "The last id that was received: goes on behind it, whatever `since` says"),
        ],
        takes: &[],
        gives: &["text/event-stream"],
        handler: || get(changes::stream),
    },
    Route {
        method: "get",
        path: "/v1/dataflows",
        about: "What is served: inputs, tables, charts and settings of each dataflow",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || get(dataflows::list),
    },
    Route {
        method: "post",
        path: "/v1/login",
        about: "Begins a session of a browser by a token, as {\"token\":\"SECRET\"}: a cookie",
        parameters: &[],
        takes: &[JSON],
        gives: &[JSON],
        handler: || post(session::login),
    },
    Route {
        method: "post",
        path: "/v1/logout",
        about: "Ends it",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || post(session::logout),
    },
    Route {
        method: "get",
        path: "/v1/session",
        about: "Whether tokens are needed, and what who asks may do: read, write or nothing",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || get(session::session),
    },
    Route {
        method: "get",
        path: "/v1/status",
        about: "What the service does: epochs, records, workers, uptime",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || get(status::status),
    },
    Route {
        method: "get",
        path: "/healthz",
        about: "Whether it is alive",
        parameters: &[],
        takes: &[],
        gives: &["text/plain"],
        handler: || get(status::alive),
    },
    Route {
        method: "get",
        path: "/readyz",
        about: "Whether it takes batches",
        parameters: &[],
        takes: &[],
        gives: &["text/plain"],
        handler: || get(status::ready),
    },
    Route {
        method: "get",
        path: "/metrics",
        about: "What it counts, for Prometheus",
        parameters: &[],
        takes: &[],
        gives: &["application/openmetrics-text", "text/plain"],
        handler: || get(status::metrics),
    },
    Route {
        method: "get",
        path: "/openapi.json",
        about: "This description",
        parameters: &[],
        takes: &[],
        gives: &[JSON],
        handler: || get(openapi::description),
    },
];

/// All routes.
pub fn router(service: Arc<Service>, guard: Guard) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, (route.handler)()));
    let guard = Arc::new(guard);
    router
        .merge(page::routes())
        .fallback(|| async { ApiError::missing("no_route", "there is nothing at this path").hint("GET /openapi.json says what there is") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path has no such method")
                .hint("GET /openapi.json says what there is")
        })
        // Ours are counted as they come.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state((Arc::clone(&service), Arc::clone(&guard)), guarded))
        .layer(Extension(guard))
        .with_state(service)
}

/// Whether everybody may ask: who looks after a service need not know what is in it, and who logs in has nothing yet.
fn is_open(path: &str) -> bool {
    page::is_of(path) || matches!(path, "/healthz" | "/readyz" | "/v1/session" | "/v1/login" | "/v1/logout")
}

/// Lets those in who may, and counts.
async fn guarded(State((service, guard)): State<(Arc<Service>, Arc<Guard>)>, request: Request, next: Next) -> Response {
    let needed = if request.method().is_safe() { Access::Read } else { Access::Write };
    let checked = if is_open(request.uri().path()) { Ok(()) } else { guard.check(request.headers(), needed) };
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    service.metrics.answered(response.status().as_u16());
    response
}

/// The dataflow of this name.
fn served<'s>(service: &'s Service, name: &str) -> Result<(usize, &'s Served), ApiError> {
    let found = service.place(name).and_then(|place| Some((place, service.dataflows.get(place)?)));
    found.ok_or_else(|| {
        let names: Vec<&str> = service.dataflows.iter().map(Served::name).collect();
        ApiError::missing("unknown_dataflow", format!("{name:?} is not served")).hint(there_are(name, &names))
    })
}

/// The dataflow of this name; not while its tables are those of other settings, or none.
fn readable<'s>(service: &'s Service, name: &str) -> Result<&'s Served, ApiError> {
    let (place, served) = served(service, name)?;
    let is_readable = service.readable().borrow().get(place).is_some_and(Option::is_some);
    if is_readable { Ok(served) } else { Err(ApiError::recovering()) }
}

/// A query, of which is told what is wrong with it as of all else.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, ApiError> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(query)| Query(query)).map_err(|rejection| {
            let said = rejection.body_text();
            let why = said.rsplit("query string: ").next().unwrap_or(&said);
            ApiError::bad("bad_value", format!("the query can't be read: {why}")).hint("GET /openapi.json says what may be asked")
        })
    }
}

/// As of which epoch something of a dataflow is. Under other settings the same epoch is something else.
fn marks(served: &Served, epoch: Epoch) -> [(&'static str, String); 2] {
    [("retally-epoch", epoch.to_string()), ("etag", format!("\"{epoch}-{}\"", served.fingerprint))]
}

/// Whether who asks has what is marked by a tag.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|known| known.to_str().ok()).flat_map(|known| known.split(','));
    known.map(|known| known.trim()).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// The table of this name.
fn table<'s>(served: &'s Served, name: &str) -> Result<&'s Table, ApiError> {
    served.tables.iter().find(|table| table.name == name).ok_or_else(|| {
        let names: Vec<&str> = served.tables.iter().map(|table| table.name).collect();
        ApiError::missing("unknown_table", format!("{} has no table {name:?}", served.name())).hint(there_are(name, &names))
    })
}

/// Work that may wait for a disk, on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ApiError::failed(error.to_string())))
}
