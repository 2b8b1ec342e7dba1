//! Reading and decoding alone, as the workers do it: splits, the program's own readers, and no graph.

use crate::Result;
use crate::options::Measured;
use crate::workload::Workload;
use retally::ingest::batch::Arrival;
use retally::ingest::plan;
use retally::ingest::read::FileOpener;
use retally_core::calendar::Calendar;
use retally_core::contract;
use retally_core::record::{Context, Record};
use retally_core::split::{Opener, Split, SplitError};
use retally_core::time::Moment;
use std::time::Instant;

/// What was read, and in what time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    /// Records.
    pub accepted: u64,
    /// Lines that are none.
    pub rejected: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// From the look at the files to the last record.
    pub wall_s: f64,
}

/// Reads the events of a workload on several threads.
pub fn read(workload: &Workload, workers: usize) -> Result<Read> {
    match workload.dataflow {
        Measured::Online => read_as::<retally_online::records::Event>(workload, workers),
        Measured::Active => read_as::<retally_active::records::Event>(workload, workers),
        Measured::Usage => read_as::<retally_usage::records::Event>(workload, workers),
        Measured::Sensors => read_as::<retally_sensors::records::Measurement>(workload, workers),
    }
}

/// The first records of a workload.
pub fn first<R: Record>(workload: &Workload, count: usize) -> Result<Vec<R>> {
    let mut records = Vec::new();
    let mut splits = splits(workload)?.0.into_iter();
    while let (true, Some(split)) = (records.len() < count, splits.next()) {
        decode::<R>(&split, |record| records.extend(record))?;
    }
    records.truncate(count);
    Ok(records)
}

/// The splits of the events, and their bytes.
fn splits(workload: &Workload) -> Result<(Vec<Split>, u64)> {
    let arrival = Arrival { accept_from: Moment::FIRST, accept_until: Moment::LAST };
    let mut batch = workload.batch();
    batch.parts.truncate(1);
    let plan = plan::plan(&workload.dataflow.dataflow()?.definition(), &batch, arrival)?;
    Ok((plan.splits, plan.bytes))
}

fn read_as<R: Record>(workload: &Workload, workers: usize) -> Result<Read> {
    let started = Instant::now();
    let (splits, bytes) = splits(workload)?;
    let mut read = Read { bytes, ..Read::default() };
    let worker = |index: usize| {
        let (mut accepted, mut rejected) = (0, 0);
        for split in splits.iter().skip(index).step_by(workers) {
            decode::<R>(split, |record| match record {
                // What is decoded must not be optimised away.
                Some(record) => accepted += u64::from(std::hint::black_box(&record).time().is_some()),
                None => rejected += 1,
            })?;
        }
        Ok::<_, SplitError>((accepted, rejected))
    };
    let counts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|index| scope.spawn(move || worker(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(String::from("a reader panicked").into()))).collect()
    });
    for count in counts {
        let (accepted, rejected) = count?;
        read.accepted += accepted;
        read.rejected += rejected;
    }
    read.wall_s = started.elapsed().as_secs_f64();
    Ok(read)
}

fn decode<R: Record>(split: &Split, mut each: impl FnMut(Option<R>)) -> std::result::Result<(), SplitError> {
    let context = Context::new(Calendar::utc(), R::FIELDS);
    let mut reader = FileOpener::default().open(split, &contract::Input::records::<R>("events", ""))?;
    let mut more = true;
    while more {
        more = reader.read(&mut |line| {
            each(line.record.ok().and_then(|raw| R::decode_raw(raw, &context).ok()));
        })?;
    }
    Ok(())
}
