//! `/v1/changes`: rows as they come and go, as server-sent events.
//!
//! A stream has a position: the last epoch of each of its dataflows whose changes it was sent. Only `progress` carries it as its id, so a
//! stream that was cut goes on behind the last epoch that was whole. Changes come from memory, or from the database for those who are
//! behind; who is behind what is kept there is told to read the tables anew.
//!
//! A stream is asked for more when what it was sent is on its way: a slow one holds up nobody, and needs no memory.

use super::error::ApiError;
use super::{Query, Shared, blocking, served, table};
use crate::serve::recent::{change, reset};
use crate::serve::served::Served;
use crate::serve::service::{Phase, Service};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use retally_core::Epoch;
use retally_core::contract::Table;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// So often something is sent, so that nobody between takes a connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// So many epochs are sent at a time.
const EPOCHS_MAX: usize = 256;

/// What is asked for.
#[derive(Debug, Deserialize)]
pub struct Asked {
    tables: String,
    since: Option<String>,
}

/// A dataflow that is followed.
#[derive(Clone, Debug)]
struct Followed {
    place: usize,
    name: &'static str,
    tables: BTreeSet<&'static str>,
    /// The last epoch whose changes were sent.
    position: Epoch,
    /// What was sent up to there may be of other settings.
    is_doubtful: bool,
}

impl Followed {
    /// Its tables, in the order of the dataflow.
    fn tables<'s>(&self, served: &'s Served) -> impl Iterator<Item = &'s Table> {
        served.tables.iter().filter(|table| self.tables.contains(table.name))
    }
}

/// A stream of changes.
struct Stream {
    service: Arc<Service>,
    followed: Vec<Followed>,
    readable: watch::Receiver<Vec<Option<Epoch>>>,
    ending: watch::Receiver<Phase>,
    is_new: bool,
}

/// `/v1/changes`
pub async fn stream(State(service): Shared, Query(asked): Query<Asked>, headers: HeaderMap) -> Result<Response, ApiError> {
    let mut followed = followed(&service, &asked.tables)?;
    let since = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(String::from).or(asked.since);
    let mut readable = service.readable();
    let now = readable.borrow_and_update().clone();
    for dataflow in &mut followed {
        let last = now.get(dataflow.place).copied().flatten();
        dataflow.position = last.ok_or_else(ApiError::recovering)?;
    }
    if let Some(since) = since {
        go_back(&mut followed, &since)?;
    }
    let open = service.metrics.streams.inc();
    if usize::try_from(open).unwrap_or(0) >= service.limits.streams {
        service.metrics.streams.dec();
        return Err(ApiError::later("streams", format!("{} streams are open", service.limits.streams)).hint("ask again later"));
    }
    let ending = service.phases();
    let state = Stream { service, followed, readable, ending, is_new: true };
    let chunks = stream::unfold(state, |mut state| async move { Some((state.next().await?, state)) });
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], Body::from_stream(chunks)).into_response())
}

/// The dataflows and tables of `DATAFLOW.TABLE,…`.
fn followed(service: &Service, tables: &str) -> Result<Vec<Followed>, ApiError> {
    let mut followed: Vec<Followed> = Vec::new();
    for given in tables.split(',').map(str::trim) {
        let Some((dataflow, name)) = given.split_once('.') else {
            let error = ApiError::bad("bad_value", format!("{given:?} is not DATAFLOW.TABLE"));
            return Err(error.hint("name tables as in ?tables=online.online_daily,online.online_summary"));
        };
        let (place, served) = served(service, dataflow)?;
        let name = table(served, name)?.name;
        match followed.iter_mut().find(|known| known.place == place) {
            Some(known) => drop(known.tables.insert(name)),
            None => followed.push(Followed { place, name: served.name(), tables: [name].into(), position: 0, is_doubtful: false }),
        }
    }
    Ok(followed)
}

/// Sets the positions to those of `EPOCH`, or `DATAFLOW:EPOCH,…`.
fn go_back(followed: &mut [Followed], since: &str) -> Result<(), ApiError> {
    let hint = "give the id of the last progress that came; without since, changes come from now on";
    let bad = |why: String| ApiError::bad("bad_position", why).hint(hint);
    let set = |dataflow: &mut Followed, text: &str| {
        let epoch: Epoch = text.parse().map_err(|_| bad(format!("since={since:?} is neither EPOCH nor DATAFLOW:EPOCH")))?;
        if epoch > dataflow.position {
            return Err(bad(format!("{} has not reached epoch {epoch}: it is at {}", dataflow.name, dataflow.position)));
        }
        dataflow.position = epoch;
        dataflow.is_doubtful = true;
        Ok(())
    };
    if !since.contains(':') {
        return match followed {
            [dataflow] => set(dataflow, since),
            _ => Err(bad("of several dataflows, since is DATAFLOW:EPOCH,…".into())),
        };
    }
    for part in since.split(',') {
        let (name, epoch) = part.split_once(':').unwrap_or((part, ""));
        match followed.iter_mut().find(|dataflow| dataflow.name == name) {
            Some(dataflow) => set(dataflow, epoch)?,
            None => return Err(bad(format!("since names {name:?}, of which no table is asked for"))),
        }
    }
    Ok(())
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.service.metrics.streams.dec();
    }
}

impl Stream {
    /// What is sent next; nothing when the service ends.
    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let mut text = String::new();
        if std::mem::replace(&mut self.is_new, false) {
            self.progress(&mut text);
            return Some(Ok(text.into()));
        }
        loop {
            if *self.ending.borrow() == Phase::Ending {
                return None;
            }
            let now = self.readable.borrow_and_update().clone();
            for at in 0..self.followed.len() {
                let Some(dataflow) = self.followed.get(at) else { continue };
                let is_new = |last: &Epoch| *last > dataflow.position || dataflow.is_doubtful;
                let Some(last) = now.get(dataflow.place).copied().flatten().filter(is_new) else { continue };
                let sent = match self.kept(dataflow, last) {
                    Some(sent) => Ok(sent),
                    None => read(Arc::clone(&self.service), dataflow.clone(), last).await,
                };
                match sent {
                    Ok((events, position)) => {
                        text.push_str(&events);
                        let is_moved = position > dataflow.position || !events.is_empty();
                        if let Some(dataflow) = self.followed.get_mut(at) {
                            (dataflow.position, dataflow.is_doubtful) = (position, false);
                        }
                        if is_moved {
                            self.progress(&mut text);
                        }
                    }
                    // Who follows asks again from where it was.
                    Err(_) => return Some(Err(BrokenOff)),
                }
            }
            if !text.is_empty() {
                return Some(Ok(text.into()));
            }
            tokio::select! {
                changed = self.readable.changed() => if changed.is_err() { return None },
                changed = self.ending.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep(HEARTBEAT) => return Some(Ok(":\n\n".into())),
            }
        }
    }

    /// What has been sent is whole up to here.
    fn progress(&self, text: &mut String) {
        let id: Vec<String> = self.followed.iter().map(|dataflow| format!("{}:{}", dataflow.name, dataflow.position)).collect();
        let data: Vec<String> = self.followed.iter().map(|dataflow| format!("\"{}\":{}", dataflow.name, dataflow.position)).collect();
        *text += &format!("event: progress\nid: {}\ndata: {{{}}}\n\n", id.join(","), data.join(","));
    }

    fn kept(&self, dataflow: &Followed, last: Epoch) -> Option<(String, Epoch)> {
        let served = self.service.dataflows.get(dataflow.place).filter(|_| !dataflow.is_doubtful)?;
        let epochs = served.recent.after(dataflow.position, last, EPOCHS_MAX)?;
        let (mut text, mut position) = (String::new(), dataflow.position);
        for epoch in epochs {
            let wanted = dataflow.tables(served);
            let events = wanted.filter_map(|table| epoch.events(dataflow.name, table));
            events.for_each(|events| text.push_str(&String::from_utf8_lossy(&events)));
            position = epoch.epoch;
        }
        (position > dataflow.position).then_some((text, position))
    }
}

/// Changes behind a position, from the database; or that the tables must be read again.
async fn read(service: Arc<Service>, dataflow: Followed, last: Epoch) -> Result<(String, Epoch), ApiError> {
    let read = move || {
        service.readers.read(|snapshot| {
            let mut text = String::new();
            let Followed { name, tables, position, is_doubtful, .. } = &dataflow;
            let is_other = *is_doubtful && snapshot.remade(name)? == Some(*position);
            if is_other || *position < snapshot.changes_from(name)? {
                let now = snapshot.epoch(name)?;
                tables.iter().for_each(|table| reset(&mut text, name, now, table));
                return Ok((text, now));
            }
            let until = last.min(position + EPOCHS_MAX as u64);
            let followed: Vec<&Table> =
                service.dataflows.get(dataflow.place).into_iter().flat_map(|served| dataflow.tables(served)).collect();
            snapshot.changes(name, &followed, (*position, until), |epoch, table, changed| match changed {
                Some((diff, row)) => change(&mut text, name, epoch, table, diff, row),
                None => reset(&mut text, name, epoch, table.name),
            })?;
            Ok((text, until))
        })
    };
    blocking(read).await
}

/// A stream that breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the changes could not be read")]
struct BrokenOff;
