//! What a record costs between processes: bytes, and the time to write and to read it.
//!
//! timely's channels of vectors write messages with bincode 1: fixed-width integers, lengths of 8 bytes. Before, they used abomonation,
//! which copies memory as it lies: faster, and as large as the record in memory, but unsound by construction. Its
//! place is taken by columns (`columnar`) for containers that are made of them, which those of this project are not.

use crate::Result;
use crate::numbers::Sorted;
use crate::options::{Common, Measured, Size};
use crate::parse;
use crate::results::Line;
use crate::workload::Workload;
use retally_core::record::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hint::black_box;
use std::time::Instant;

/// Updates of a message, as timely's buffers hold them.
const MESSAGE: usize = 1_024;
const ROUNDS: usize = 9;

/// Measures the updates of both dataflows.
pub fn main(common: &Common) -> Result<()> {
    let events = if common.smoke { 5_000 } else { 100_000 };
    let size = Size { events, keys: events / 50, days: 50, late: 0 };
    let workload = |dataflow| Workload::generated(common, dataflow, size);
    let online = parse::first::<retally_online::records::Event>(&workload(Measured::Online)?, 100_000)?;
    measure(common, "online", "(device, status)", online.into_iter().map(|event| (event.device, event.status)).collect())?;
    let active: Vec<retally_active::records::Event> = parse::first(&workload(Measured::Active)?, 100_000)?;
    debug_assert!(active.iter().all(|event| event.time().is_some()));
    measure(common, "active", "event", active)
}

fn measure<D: Serialize + DeserializeOwned + Clone>(common: &Common, dataflow: &str, record: &str, records: Vec<D>) -> Result<()> {
    let line = Line::new("wire", dataflow);
    let count = records.len();
    let updates: Vec<(D, u64, isize)> = records.into_iter().map(|record| (record, 1, 1)).collect();
    let messages: Vec<Vec<(D, u64, isize)>> = updates.chunks(MESSAGE).map(<[_]>::to_vec).collect();
    let (mut write_ns, mut read_ns, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let mut written = Vec::new();
        let started = Instant::now();
        for message in &messages {
            let mut buffer = Vec::with_capacity(usize::try_from(bincode::serialized_size(message)?)?);
            bincode::serialize_into(&mut buffer, message)?;
            written.push(buffer);
        }
        write_ns.push(started.elapsed().as_secs_f64() * 1e9 / count as f64);
        bytes = written.iter().map(Vec::len).sum();
        let started = Instant::now();
        for buffer in &written {
            black_box(bincode::deserialize::<Vec<(D, u64, isize)>>(buffer)?);
        }
        read_ns.push(started.elapsed().as_secs_f64() * 1e9 / count as f64);
    }
    line.with("record", record)
        .with("format", "bincode 1")
        .with("events", count)
        .with("in_memory_bytes", size_of::<(D, u64, isize)>())
        .measured("wire_bytes", bytes as f64 / count as f64)
        .measured("write_ns", Sorted::new(write_ns).median())
        .measured("read_ns", Sorted::new(read_ns).median())
        .publish(common)
}
