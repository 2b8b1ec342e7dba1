//! What a record costs between processes: bytes, and the time to write and to read it, in the format of this program and in others.
//!
//! timely's channels of vectors write messages with bincode 1. Before, they used abomonation, which copies memory as it lies: it is unsound
//! by construction, so it is here only, behind a feature (`cargo run --release -p retally-bench --features abomonation -- operators`).
//! Columns (`columnar`) are for containers that are made of them, which those of this project are not: to write, records are taken apart,
//! and to read, put together again, as a graph would have to do.

use crate::Result;
use crate::formats::{self, Format};
use crate::numbers::Sorted;
use crate::options::{Common, Measured, Size};
use crate::parse;
use crate::results::Line;
use crate::workload::Workload;
use retally_active::records::{Engagement, Event, Name, User};
use retally_core::record::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hint::black_box;
use std::time::Instant;

/// Updates of a message, as timely's buffers hold them.
const MESSAGE: usize = 1_024;
const ROUNDS: usize = 9;

/// An update of a graph.
type Update<R> = (R, u64, i64);
/// A device and its status, as numbers.
type Status = (u64, (i64, u64, u64, bool));
/// A user: digits, or nobody.
type Digits = Option<(u64, u64)>;
/// An analytics event, likewise: time, user, name, engagement, whether it is valuable, offset, user by the other id.
type Analytics = (i64, Digits, Option<String>, Option<i64>, bool, Option<i32>, Digits);

/// Measures the updates of both dataflows.
pub fn main(common: &Common) -> Result<()> {
    let events = if common.smoke { 5_000 } else { 100_000 };
    let size = Size { events, keys: events / 50, days: 50, late: 0 };
    let workload = |dataflow| Workload::generated(common, dataflow, size);
    let online = parse::first::<retally_online::records::Event>(&workload(Measured::Online)?, 100_000)?;
    let active: Vec<Event> = parse::first(&workload(Measured::Active)?, 100_000)?;
    debug_assert!(active.iter().all(|event| event.time().is_some()));
    let numbers: Vec<Status> = online
        .iter()
        .map(|event| (event.device, event.status))
        .map(|(device, status)| (device, (status.time().0, status.user, status.server, status.connected())))
        .collect();
    let online = online.into_iter().map(|event| (event.device, event.status)).collect();
    measure(common, "online", "(device, status)", online, &[formats::bincode()])?;
    measure(common, "online", "(device, status) as numbers", numbers, &all())?;
    let taken_apart = active.iter().map(apart).collect::<Option<Vec<Analytics>>>().ok_or("a user of a generated event is a text")?;
    measure(common, "active", "event", active, &[formats::bincode()])?;
    measure(common, "active", "event as a tuple", taken_apart, &all())
}

#[cfg(not(feature = "abomonation"))]
fn all<R: Serialize + DeserializeOwned + columnar::Columnar>() -> Vec<Format<R>> {
    vec![formats::bincode(), formats::columns()]
}

#[cfg(feature = "abomonation")]
fn all<R: Serialize + DeserializeOwned + columnar::Columnar + abomonation::Abomonation + Clone>() -> Vec<Format<R>> {
    vec![formats::bincode(), formats::columns(), formats::memory()]
}

/// An event of types that every format knows.
fn apart(event: &Event) -> Option<Analytics> {
    let digits = |user: &User| match user {
        User::Digits(high, low) => Some(Some((*high, *low))),
        User::Nobody(_) => Some(None),
        User::Text(_) => None,
    };
    let name = match &event.name {
        Name::UserEngagement => None,
        Name::Other(name) => Some(name.to_string()),
    };
    let engagement = event.engagement.map(|Engagement(micros)| micros);
    Some((event.time.0, digits(&event.user)?, name, engagement, event.valuable, event.offset_seconds, digits(&event.user_id)?))
}

fn measure<D: Clone>(common: &Common, dataflow: &str, record: &str, records: Vec<D>, formats: &[Format<Update<D>>]) -> Result<()> {
    let count = records.len();
    let updates: Vec<Update<D>> = records.into_iter().map(|record| (record, 1, 1)).collect();
    for Format { name, write, read } in formats {
        let (mut write_ns, mut read_ns, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let written = updates.chunks(MESSAGE).map(write).collect::<Result<Vec<Vec<u8>>>>()?;
            write_ns.push(started.elapsed().as_secs_f64() * 1e9 / count as f64);
            bytes = written.iter().map(Vec::len).sum();
            let started = Instant::now();
            for buffer in written {
                black_box(read(buffer)?);
            }
            read_ns.push(started.elapsed().as_secs_f64() * 1e9 / count as f64);
        }
        Line::new("wire", dataflow)
            .with("record", record)
            .with("format", *name)
            .with("events", count)
            .with("in_memory_bytes", size_of::<Update<D>>())
            .measured("wire_bytes", bytes as f64 / count as f64)
            .measured("write_ns", Sorted::new(write_ns).median())
            .measured("read_ns", Sorted::new(read_ns).median())
            .publish(common)?;
    }
    Ok(())
}
