//! Rows of tables, from SQLite, as of one epoch. They are sent as they are read.

use super::error::ApiError;
use super::{Query, Shared, blocking, is_known, marks, readable, table};
use crate::serve::service::Service;
use crate::sinks;
use crate::sinks::live::read::{Question, Text, kind};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use retally_core::Epoch;
use retally_core::contract::Table;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// So many bytes are sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// So many chunks wait for who reads them.
const CHUNKS: usize = 4;

/// What may be asked of a table.
pub const PARAMETERS: &[(&str, &str)] = &[
    ("format", "json, csv or parquet [json]"),
    ("COLUMN", "Only rows with this value in the column; given more than once, with any of them"),
    ("from", "From this time or day on, by the first column of times or days"),
    ("to", "Up to this time or day, without it"),
    ("limit", "At most so many rows"),
    ("offset", "So many are passed over"),
    ("order", "The column that comes first; -COLUMN: its greatest first"),
];

/// `/v1/{dataflow}/tables`
pub async fn list(State(service): Shared, Path(name): Path<String>) -> Result<Response, ApiError> {
    blocking(move || {
        let served = readable(&service, &name)?;
        let (epoch, counts) = service.readers.read(|snapshot| Ok::<_, ApiError>((snapshot.epoch(&name)?, snapshot.row_counts(&name)?)))?;
        let about = |table: &Table| {
            let columns: Vec<Value> = (0..)
                .zip(&table.columns)
                .map(|(place, column)| {
                    let is_key = place < table.key_columns;
                    json!({"name": column.name, "holds": kind(&column.kind), "nullable": column.nullable, "key": is_key, "about": column.about})
                })
                .collect();
            json!({"name": table.name, "about": table.about, "rows": counts.get(table.name), "columns": columns})
        };
        let tables: Vec<Value> = served.tables.iter().map(about).collect();
        Ok(([("retally-epoch", epoch.to_string())], Json(json!({"dataflow": name, "epoch": epoch, "tables": tables}))).into_response())
    })
    .await
}

/// `/v1/{dataflow}/tables/{table}`
pub async fn rows(
    State(service): Shared,
    Path((dataflow, name)): Path<(String, String)>,
    Query(asked): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let served = readable(&service, &dataflow)?;
    let table = table(served, &name)?.clone();
    answer(service, dataflow, table, &asked, &headers).await
}

/// `/v1/{dataflow}/rejected`
pub async fn rejected(
    State(service): Shared,
    Path(dataflow): Path<String>,
    Query(asked): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    readable(&service, &dataflow)?;
    answer(service, dataflow, Table::rejected_by_batch(), &asked, &headers).await
}

/// `/v1/{dataflow}/rejected/reasons`
pub async fn reasons(State(service): Shared, Path(dataflow): Path<String>) -> Result<Json<Value>, ApiError> {
    let _permit = Arc::clone(&service.reads).acquire_owned().await;
    blocking(move || {
        let served = readable(&service, &dataflow)?;
        let reasons = service.readers.read(|snapshot| snapshot.reasons(served.name()).map_err(ApiError::from))?;
        let records: u64 = reasons.iter().map(|refused| refused.records).sum();
        Ok(Json(json!({"records": records, "reasons": reasons})))
    })
    .await
}

/// What is asked of a table.
fn question(table: &Table, asked: &[(String, String)]) -> Result<(Question, Form), ApiError> {
    let (mut question, mut form) = (Question::default(), Form::Text(Text::Json));
    let number = |name: &str, value: &str| {
        value
            .parse::<u64>()
            .map_err(|_| ApiError::bad("bad_value", format!("{name}={value:?} is no number of rows")).hint("give a number from 0 on"))
    };
    let mut conditions = Vec::new();
    let (mut from, mut to) = (None, None);
    for (name, value) in asked {
        match name.as_str() {
            "format" => {
                form = match value.as_str() {
                    "json" => Form::Text(Text::Json),
                    "csv" => Form::Text(Text::Csv),
                    "parquet" => Form::Parquet,
                    _ => {
                        let error = ApiError::bad("bad_value", format!("format={value:?} is none of json, csv and parquet"));
                        return Err(error.hint("leave it out: it is json then"));
                    }
                }
            }
            "limit" => question.limit = Some(number(name, value)?),
            "offset" => question.offset = number(name, value)?,
            "order" => question.order(table, value)?,
            "from" => from = Some(value.as_str()),
            "to" => to = Some(value.as_str()),
            column => conditions.push((column, value.as_str())),
        }
    }
    question.conditions(table, conditions.into_iter())?;
    question.range(table, from, to)?;
    Ok((question, form))
}

async fn answer(
    service: Arc<Service>,
    dataflow: String,
    table: Table,
    asked: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let (question, form) = question(&table, asked)?;
    let Form::Text(text) = form else { return parquet(service, dataflow, table, question).await };
    let (chunks, sent) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS);
    let (began, epoch) = oneshot::channel();
    // Others wait, so that slow ones do not keep all threads.
    let permit = Arc::clone(&service.reads).acquire_owned().await;
    let (readers, name) = (Arc::clone(&service), dataflow.clone());
    // It ends when all is read, or when nobody wants it any more.
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read(&readers, &name, &table, &question, text, began, &chunks)
    });
    let Ok(epoch) = epoch.await else {
        return Err(match reading.await {
            Ok(Err(Ended::Failed(error))) => error,
            _ => ApiError::failed("the tables could not be read"),
        });
    };
    let marks = marks(readable(&service, &dataflow)?, epoch);
    let [_, (_, tag)] = &marks;
    if is_known(headers, tag) {
        return Ok((StatusCode::NOT_MODIFIED, marks).into_response());
    }
    let kind = match text {
        Text::Csv => "text/csv; charset=utf-8",
        Text::Json => "application/json",
    };
    let chunks = stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
    Ok((marks, [(CONTENT_TYPE, kind)], Body::from_stream(chunks)).into_response())
}

/// The rows as a file. Its columns are collected before they are written, so they are in memory; they are in the order of files.
async fn parquet(service: Arc<Service>, dataflow: String, table: Table, question: Question) -> Result<Response, ApiError> {
    let _permit = Arc::clone(&service.reads).acquire_owned().await;
    blocking(move || {
        let (epoch, state) = service
            .readers
            .read(|snapshot| Ok::<_, ApiError>((snapshot.epoch(&dataflow)?, snapshot.state(&table, &dataflow, &question)?)))?;
        let file = sinks::parquet(&state).map_err(|error| ApiError::failed(error.to_string()))?;
        let marks = marks(readable(&service, &dataflow)?, epoch);
        Ok((marks, [(CONTENT_TYPE, "application/vnd.apache.parquet")], file).into_response())
    })
    .await
}

/// How rows are sent.
enum Form {
    Text(Text),
    Parquet,
}

/// Why rows are not read any further.
enum Ended {
    Failed(ApiError),
    /// Nobody wants more.
    Gone,
}

impl From<crate::sinks::SinkError> for Ended {
    fn from(error: crate::sinks::SinkError) -> Ended {
        Ended::Failed(error.into())
    }
}

fn read(
    service: &Service,
    dataflow: &str,
    table: &Table,
    question: &Question,
    text: Text,
    began: oneshot::Sender<Epoch>,
    chunks: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<(), Ended> {
    let send = |bytes: &mut Vec<u8>| chunks.blocking_send(Ok(std::mem::take(bytes).into())).map_err(|_| Ended::Gone);
    service.readers.read(|snapshot| {
        let (mut began, mut is_first, mut bytes) = (Some((began, snapshot.epoch(dataflow)?)), true, Vec::new());
        let mut begin = || began.take().map_or(Ok(()), |(began, epoch)| began.send(epoch).map_err(|_| Ended::Gone));
        text.begin(table, &mut bytes);
        let read = snapshot.rows(table, dataflow, question, |row| {
            begin()?;
            text.row(table, row, is_first, &mut bytes);
            is_first = false;
            if bytes.len() >= CHUNK_BYTES { send(&mut bytes) } else { Ok(()) }
        });
        if let (Err(Ended::Failed(error)), false) = (&read, is_first) {
            service.tell(&format!("rows of {dataflow}.{} were sent in part, and no more: {error}", table.name));
            // What was sent is not whole, and must not look so.
            chunks.blocking_send(Err(std::io::Error::other("the tables could not be read"))).ok();
        }
        read?;
        begin()?;
        text.end(&mut bytes);
        send(&mut bytes)
    })
}
