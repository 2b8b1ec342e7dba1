//! The law, for datasets: tables and points are those of the versions that were delivered last, whatever is in the streams, however they
//! break, and whoever reads them.

#![allow(clippy::cast_possible_truncation)]

use crate::oracle::{self, Found};
use crate::outcome::seconds;
use crate::{Brushing, records::PERCENT_STEPS};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use retally_core::contract::{Dataflow, Graph, Settings};
use retally_core::decode::Inputs;
use retally_core::points::{FieldKind, Offered, PointBatch, PointWriter, Points, Standing, Values};
use retally_core::publish::Outputs;
use retally_core::row;
use retally_core::split::{
    ByteStream, Chunk, Dataset, Format, Late, Location, Opener, Packing, Rejected, Report, Split, SplitError, SplitReader, StreamError,
};
use retally_core::testing::Config;
use retally_core::time::Moment;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::vec::Input;

/// Streams in memory. A version of a stream is never changed: it gets another name.
#[derive(Clone, Default)]
struct Memory {
    streams: BTreeMap<String, Vec<u8>>,
    /// From the n-th read on, of all reads of a stream's attempts together, so many fail.
    fails: Option<(String, u64, u64)>,
    /// What fails is found to be another file.
    is_changed: bool,
    reads: Arc<Mutex<BTreeMap<String, u64>>>,
    chunk: usize,
    /// Streams of which it is not known what they were.
    changed: Vec<String>,
    attempts_max: u32,
}

struct MemoryStream {
    bytes: Option<Vec<u8>>,
    at: usize,
    name: String,
    memory: Memory,
    waits: bool,
}

impl Opener for Memory {
    fn open(&self, _split: &Split, _input: &retally_core::contract::Input) -> Result<Box<dyn SplitReader>, SplitError> {
        Err("there are no records".to_string().into())
    }

    fn stream(&self, dataset: &Dataset, place: usize, attempt: u32) -> Box<dyn ByteStream> {
        let name = dataset.streams[place].clone();
        let bytes = self.streams.get(&name).cloned();
        Box::new(MemoryStream { bytes, at: 0, name, memory: self.clone(), waits: attempt > 0 })
    }

    fn attempts_max(&self) -> u32 {
        self.attempts_max
    }

    fn version(&self, location: &str) -> Option<String> {
        (!self.changed.contains(&location.to_string())).then(|| location.to_string())
    }
}

impl ByteStream for MemoryStream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, StreamError> {
        if std::mem::take(&mut self.waits) {
            return Ok(Chunk::Wait);
        }
        let mut reads = self.memory.reads.lock().unwrap();
        let read = reads.entry(self.name.clone()).or_default();
        *read += 1;
        if let Some((name, from, count)) = &self.memory.fails
            && *name == self.name
            && (*from..from + count).contains(read)
        {
            return Err(match self.memory.is_changed {
                true => StreamError::Changed(format!("could not read {name:?}: it changed").into()),
                false => StreamError::Broken(format!("could not read {name:?}: it broke off")),
            });
        }
        let missing = || StreamError::Broken(format!("could not open {:?}: it is not there", self.name));
        let bytes = self.bytes.as_ref().ok_or_else(missing)?;
        let length = bytes.len().saturating_sub(self.at).min(self.memory.chunk.max(1)).min(buffer.len());
        if length == 0 {
            return Ok(Chunk::End);
        }
        buffer[..length].copy_from_slice(&bytes[self.at..self.at + length]);
        self.at += length;
        Ok(Chunk::Bytes(length))
    }

    fn bytes_read(&self) -> u64 {
        self.at as u64
    }
}

type Key = (String, String, String, i64);

/// A destination that stores the calls it gets, in order, and is behind every other time.
#[derive(Clone, Default)]
struct Store {
    told: Arc<Mutex<Vec<(Key, Option<String>)>>>,
    deletes: bool,
}

struct StoreWriter {
    store: Store,
    behind: bool,
    unflushed: u8,
}

impl Points for Store {
    fn wanted(&self) -> bool {
        true
    }

    fn writer(&self) -> Box<dyn PointWriter> {
        Box::new(StoreWriter { store: self.clone(), behind: false, unflushed: 0 })
    }
}

impl PointWriter for StoreWriter {
    fn offer(&mut self, batch: &mut PointBatch) -> Result<Offered, String> {
        self.behind = !self.behind;
        if self.behind {
            return Ok(Offered::Behind);
        }
        self.unflushed = 3;
        let mut told = self.store.told.lock().unwrap();
        let tags = &batch.series.tags;
        for (place, time) in batch.times_ns.iter().enumerate() {
            let key = (batch.series.measurement.name.to_string(), tags[0].clone(), tags[1].clone(), *time);
            told.push((key, (batch.standing != Standing::Retracted).then(|| fields(batch, place))));
        }
        batch.clear();
        Ok(Offered::Taken)
    }

    fn flush(&mut self) -> Result<bool, String> {
        self.unflushed = self.unflushed.saturating_sub(1);
        Ok(self.unflushed == 0)
    }

    fn delete_series(&mut self, series: &Arc<retally_core::points::Series>) -> Result<bool, String> {
        if self.store.deletes {
            let mine = |key: &Key| key.0 == series.measurement.name && key.1 == series.tags[0] && key.2 == series.tags[1];
            self.store.told.lock().unwrap().retain(|(key, _)| !mine(key));
        }
        Ok(self.store.deletes)
    }
}

/// As the oracle writes them.
fn fields(batch: &PointBatch, place: usize) -> String {
    let optional = batch.series.measurement.name == "settings";
    let text = |(column, declared): (&retally_core::points::PointColumn, &retally_core::points::PointField)| match &column.values {
        Values::Int(values) => values[place].to_string(),
        Values::Float(values) if optional => format!("{:?}", column.is_present(place).then(|| values[place])),
        Values::Float(values) => {
            assert_eq!(declared.kind, FieldKind::Float);
            format!("{:?}", values[place])
        }
    };
    batch.columns.iter().zip(&batch.series.measurement.fields).map(text).collect::<Vec<_>>().join(" ")
}

/// A dataset delivered or taken away: toothbrush, dataset, name of its streams.
#[derive(Clone, Debug)]
struct Delivery {
    sign: isize,
    key: [&'static str; 2],
    streams: String,
}

#[derive(Debug, Default, PartialEq)]
struct Ran {
    /// After each batch, the rows of each table.
    tables: Vec<BTreeMap<String, Vec<Vec<String>>>>,
    told: Vec<(Key, Option<String>)>,
    notes: Vec<String>,
    /// Skipped lines that are kept, sorted: the stream's name, the line from 0, the reason and the line.
    rejected: Vec<(String, u64, String, String)>,
    /// How many there are.
    rejected_count: u64,
    /// Why the run would have ended.
    failed: Vec<String>,
}

impl Ran {
    /// The points that remain at the end.
    fn points(&self) -> BTreeMap<Key, String> {
        let mut points = BTreeMap::new();
        for (key, value) in &self.told {
            match value {
                Some(value) => points.insert(key.clone(), value.clone()),
                None => points.remove(key),
            };
        }
        points
    }

    fn jobs(&self) -> &[Vec<String>] {
        &self.tables.last().unwrap()["brushing_jobs"]
    }
}

fn run(config: Config, settings: &Settings, memory: &Memory, store: &Store, batches: &[Vec<Delivery>]) -> Ran {
    let graph: Arc<dyn Graph> = Arc::from(Brushing.graph(settings).unwrap());
    let found: Arc<Mutex<Vec<(u64, String, row::RowBatch)>>> = Arc::default();
    let reported: Arc<Mutex<Vec<Report>>> = Arc::default();
    let shared = (Arc::clone(&graph), memory.clone(), store.clone(), batches.to_vec(), Arc::clone(&found), Arc::clone(&reported));
    config.execute(move |worker| {
        let (graph, memory, store, batches, found, reported) = &shared;
        let (found, reported) = (Arc::clone(found), Arc::clone(reported));
        let (mut splits, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (handle, stream) = scope.new_input::<Split>();
            let inputs =
                Inputs::new(stream, Brushing.definition().inputs, Rc::new(memory.clone()), graph.calendar(), Arc::new(store.clone()));
            let mut outputs = Outputs::new(graph.tables().iter().map(|table| table.name.to_string()).collect());
            graph.build(&inputs, &mut outputs);
            let names = outputs.names();
            let rows = outputs.gather(&inputs, &graph.tables(), move |changes| {
                let named = changes.drain(..).map(|change| (change.epoch, names[change.table].clone(), change.rows));
                found.lock().unwrap().extend(named);
            });
            inputs.gather_reports(move |reports| reported.lock().unwrap().extend(reports.drain(..).map(|(_, report)| report)));
            (handle, rows.probe().0)
        });
        if worker.index() != 0 {
            return;
        }
        for (epoch, batch) in (1..).zip(batches) {
            splits.advance_to(epoch);
            for (delivery, sequence) in batch.iter().zip(0..) {
                splits.send(Split { epoch, ..split(delivery, sequence) });
            }
            if epoch % 2 == 0 {
                splits.advance_to(epoch + 1);
                splits.flush();
                worker.step_or_park_while(None, || probe.less_than(&(epoch + 1)));
            }
        }
    });
    let found = found.lock().unwrap();
    let mut rows: BTreeMap<String, BTreeMap<Vec<u8>, i64>> = BTreeMap::new();
    let mut tables = Vec::new();
    for epoch in 1..=batches.len() as u64 {
        for (_, table, batch) in found.iter().filter(|(at, _, _)| *at == epoch) {
            for (row, diff) in batch.iter() {
                *rows.entry(table.clone()).or_default().entry(row.to_vec()).or_default() += diff;
            }
        }
        let text = |table: &retally_core::contract::Table| {
            let rows = rows.get(table.name).into_iter().flatten().filter(|(_, count)| **count != 0);
            let rows = rows.map(|(row, count)| {
                assert_eq!(*count, 1, "{} at epoch {epoch}", table.name);
                row::values(&table.columns, row).map(|value| value.to_string()).collect()
            });
            (table.name.to_string(), rows.collect())
        };
        tables.push(graph.tables().iter().map(text).collect());
    }
    let told = std::mem::take(&mut *store.told.lock().unwrap());
    let mut ran = Ran { tables, told, ..Ran::default() };
    for report in reported.lock().unwrap().drain(..) {
        match report {
            Report::Note(note) => ran.notes.push(note),
            Report::Rejected(Rejected { member, line, reason, raw, .. }) => {
                ran.rejected.push((member.unwrap(), line, reason, String::from_utf8_lossy(&raw).into_owned()));
            }
            Report::Done(done) => ran.rejected_count += done.rejected,
            Report::Failed { error, .. } => ran.failed.push(error.message),
            Report::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    ran.notes.sort();
    ran.rejected.sort();
    ran
}

fn split(delivery: &Delivery, sequence: u64) -> Split {
    let key: Vec<String> = delivery.key.iter().map(ToString::to_string).collect();
    // As the plan does: the same for the same dataset.
    let route = key.concat().bytes().map(u64::from).sum();
    let streams = vec![format!("{}/brushing", delivery.streams), format!("{}/settings", delivery.streams)];
    Split {
        input: 0,
        epoch: 0,
        sequence,
        sign: delivery.sign,
        location: Location::Dataset(Dataset { route, ..Dataset::new(key, streams) }),
        range: (0, u64::MAX),
        format: Format::JsonLines,
        packing: Packing::Plain,
        encoding: None,
        shape: None,
        conditions: Vec::new(),
        accept_from: Moment::FIRST,
        accept_until: Moment::LAST,
        late: Late::Before(Moment::FIRST),
        alone: false,
        rejected_kept: u64::MAX,
        only: None,
    }
}

fn defaults() -> Settings {
    Settings::defaults(&Brushing.definition().settings)
}

fn memory(streams: &[(&str, &str, &str)]) -> Memory {
    let named = streams.iter().flat_map(|(name, brushing, settings)| {
        [(format!("{name}/brushing"), brushing.as_bytes().to_vec()), (format!("{name}/settings"), settings.as_bytes().to_vec())]
    });
    Memory { streams: named.collect(), chunk: 7, attempts_max: 3, ..Memory::default() }
}

fn delivered(streams: &str) -> Delivery {
    Delivery { sign: 1, key: ["t", "d"], streams: streams.into() }
}

/// One dataset: its row of `brushing_jobs` without its key, and its points.
fn one(brushing: &str, settings: &str) -> (String, Vec<String>) {
    let ran =
        run(Config::default(), &defaults(), &memory(&[("x", brushing, settings)]), &Store::default(), &[vec![delivered("x")], vec![]]);
    let points = ran.points().into_iter().map(|((name, _, _, time), fields)| format!("{name} {time}: {fields}")).collect();
    (ran.jobs()[0][2..].join(","), points)
}

const S0: &str = "{\"time\":100,\"tick\":0,\"battery\":0.9,\"tick_interval\":0.5}\n";

#[test]
fn a_tick_is_timed_by_the_settings_in_force_and_before_the_first_by_the_first() {
    let settings = "{\"time\":100,\"tick\":4,\"battery\":0.9,\"tick_interval\":0.5}\n{\"time\":105,\"tick\":8,\"tick_interval\":1}\n{\"time\":110,\"tick\":10,\"battery\":0.8}\n";
    let (row, points) = one("0,1,0.1\n4,1,0.2\n7,1,0.3\n8,1,0.4\n11,2,1\n", settings);
    assert_eq!(
        points,
        [
            "brushing 98000000000: 0 1 0.1 0.9 0.5",
            "brushing 100000000000: 4 1 0.2 0.9 0.5",
            "brushing 101500000000: 7 1 0.3 0.9 0.5",
            "brushing 105000000000: 8 1 0.4 0.9 1.0",
            "brushing 111000000000: 11 2 1.0 0.8 1.0",
            "settings 100000000000: 4 Some(0.9) Some(0.5)",
            "settings 105000000000: 8 None Some(1.0)",
            "settings 110000000000: 10 Some(0.8) None",
        ]
    );
    // Lost: 1, 2, 3, 5, 6 at 0.5 s, 9 and 10 at 1 s.
    assert_eq!(row, "done,1970-01-01T00:01:38Z,1970-01-01T00:01:52Z,4.5,5,3,0,");
}

#[test]
fn what_is_no_record_out_of_range_or_out_of_order_is_skipped_and_counted() {
    let (row, points) =
        one("tick,tooth,percent_clean\n0,0,0\n\nx\n2,0,0.5\n2,1,0.5\n1,0,0.5\n3,32,0.5\n3,0,1.5\n3,0,NaN\n-4,0,0.5\n5,0,0.5\n", S0);
    assert_eq!((row.as_str(), points.len()), ("done,1970-01-01T00:01:40Z,1970-01-01T00:01:43Z,1.5,3,1,7,", 4));
    let settings = format!(
        "nonsense\n{{\"time\":1,\"tick\":0,\"battery\":0.5}}\n{S0}{S0}{{\"time\":101,\"tick\":2}}\n{{\"time\":101,\"tick\":2,\"interval\":61}}\n"
    );
    let (row, _) = one("0,0,0\n", &settings);
    assert_eq!(row, "done,1970-01-01T00:01:40Z,1970-01-01T00:01:40.500000Z,0,1,1,5,");
}

#[test]
fn a_tick_too_far_ahead_is_taken_only_if_the_next_readable_line_goes_on_from_it() {
    // An hour is 7,200 ticks.
    let row = |brushing: &str| one(brushing, S0).0;
    assert!(row("0,0,0\n7200,0,0\n").contains(",2,1,0,"), "just within");
    assert!(row("0,0,0\n7201,0,0\n").contains(",1,1,1,"), "nothing follows");
    assert!(row("0,0,0\n9000,0,0\n9001,0,0\n").contains(",3,1,0,"));
    assert!(row("0,0,0\n9000,0,0\ngarbage\n\n9001,0,0\n").contains(",3,1,1,"), "the next readable line");
    assert!(row("0,0,0\n9000,0,0\n1,0,0\n").contains(",2,1,1,"), "what follows is taken as if it had not been");
    assert!(row("0,0,0\n9000,0,0\n9000,0,0\n").contains(",1,1,2,"), "the same is not greater");
    assert!(row("0,0,0\n9000,0,0\n99999,0,0\n100000,0,0\n").contains(",3,1,1,"), "one garbage after the other");
    let far = "{\"time\":200,\"tick\":1000000,\"battery\":0.1}\n";
    let next = "{\"time\":101,\"tick\":2,\"battery\":0.8}\n";
    assert!(one("0,0,0\n2,0,0\n", &format!("{S0}{far}{next}")).1.contains(&"brushing 101000000000: 2 0 0.0 0.8 0.5".to_string()));
    assert!(one("0,0,0\n", &format!("{S0}{far}{{\"time\":201,\"tick\":1000002,\"battery\":0.1}}\n")).0.contains(",1,3,0,"));
}

/// Ticks take 0.1 s, and from 20 on a minute; an hour is the gap.
#[test]
fn how_far_ahead_a_tick_is_the_events_in_force_at_both_ticks_say() {
    let slower = "{\"time\":102,\"tick\":20,\"tick_interval\":60}\n";
    let taken = |ticks: &[i64]| {
        let brushing: String = ticks.iter().map(|tick| format!("{tick},5,0.5\n")).collect();
        let (_, points) = one(&brushing, &format!("{}{slower}", S0.replace("\"tick_interval\":0.5", "\"tick_interval\":0.1")));
        let ticks = points.iter().filter(|point| point.starts_with("brushing")).map(|point| point.split_whitespace().nth(2).unwrap());
        ticks.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(taken(&[0, 1, 10_000]), "0 1", "a week ahead, and the last line");
    assert_eq!(taken(&[0, 1, 80, 81]), "0 1 80 81", "60 minutes by the later event");
    assert_eq!(taken(&[0, 1, 81]), "0 1", "61 minutes");
    assert_eq!(taken(&[0, 1, 10_000, 10_060]), "0 1 10000 10060", "the next goes on from it");
    assert_eq!(taken(&[0, 1, 10_000, 10_061]), "0 1", "61 minutes ahead of the one in doubt");
    assert_eq!(taken(&[0, 1, 10_000, 10_001, 10_062]), "0 1 10000 10001", "and of one that confirmed another");
    assert_eq!(taken(&[0, 1, 10_000, 2, 19, 21]), "0 1 2 19 21", "garbage changes nothing for those between");
}

/// The first line lies in 1972 by the first event, and after 2200 by its own.
#[test]
fn a_tick_out_of_range_moves_nothing() {
    let slower = "{\"time\":101,\"tick\":10,\"tick_interval\":60}\n";
    let (row, points) = one("900000000,5,0.25\n1,5,0.5\n2,5,0.5\n3,5,0.5\n", &format!("{S0}{slower}"));
    assert_eq!(row, "done,1970-01-01T00:01:40Z,1970-01-01T00:02:41Z,0.5,3,2,1,");
    assert_eq!(points[0], "brushing 100500000000: 1 5 0.5 0.9 0.5");
    let (row, _) = one("0,5,0.5\n900000000,5,0.25\n1,5,0.5\n", &format!("{S0}{slower}"));
    assert!(row.ends_with(",2,2,1,"), "{row}");
}

/// More events than are kept lie before garbage: each tick has its own all the same.
#[test]
fn garbage_far_ahead_of_many_events_changes_no_time() {
    let settings: String =
        (0..20_000).map(|tick| format!("{{\"time\":{}.{},\"tick\":{tick},\"interval\":0.5}}\n", 100 + tick / 2, tick % 2 * 5)).collect();
    let of = |garbage: &str| {
        let brushing: String = (0..20_000).map(|tick| format!("{tick},5,0.5\n{}", if tick % 5_000 == 7 { garbage } else { "" })).collect();
        one(&brushing, &format!("{S0}{settings}"))
    };
    let (clean, with) = (of(""), of("5000000,1,0.5\n"));
    assert_eq!((clean.0.replace(",20000,1,", ",20000,5,"), clean.1), with);
}

#[test]
fn without_a_good_settings_line_a_dataset_is_unsalvageable() {
    let error = |settings: &str| one("0,0,0\n", settings).0.split_once("settings.jsonlines").unwrap().1.to_string();
    assert_eq!(error("\n"), " has no line");
    let lines = "{\"time\":1}\n\ngarbage\nmore\n{\"time\":1,\"tick\":0,\"battery\":0.5}\n";
    assert_eq!(error(lines), " is good: the line is no JSON object (2 of 4 lines, line 3 the first)");
    for settings in ["", "\n\n", "garbage\n", "0,1,0.5\n1,1,0.5\n", "{\"time\":1,\"tick\":0,\"battery\":0.5}\n"] {
        let skipped = settings.lines().filter(|line| !line.is_empty()).count();
        let (row, points) = one("0,0,0\n", settings);
        assert!(row.starts_with(&format!("unsalvageable,,,,0,0,{skipped},")) && points.is_empty(), "{row}");
    }
}

/// Percentages of 10, 20, 30 are none. (The first line is a header.)
#[test]
fn with_brushing_lines_and_no_good_one_a_dataset_is_unsalvageable() {
    let (row, points) = one("tick,tooth,percent_clean\n0,3,10\n1,3,20\n2,32,30\n", S0);
    let error = "no line of brushing.csv is good: percent_clean is no number from 0 to 1 (2 of 3 lines, line 2 the first)";
    assert_eq!(row, format!("unsalvageable,,,,0,1,3,{error}"));
    assert_eq!(points, ["settings 100000000000: 0 Some(0.9) Some(0.5)"]);
    let tables =
        run(Config::default(), &defaults(), &memory(&[("x", "0,3,10\n", S0)]), &Store::default(), &[vec![delivered("x")], vec![]]).tables;
    assert_eq!((tables[0]["brushing_daily"].len(), tables[0]["brushing_teeth"].len()), (0, 0));
    assert!(one("tick,tooth,percent_clean\n\n", S0).0.starts_with("done,"), "no lines, and none is wrong");
}

/// An hour is the gap; a tick takes 0.5 s.
#[test]
fn a_settings_line_whose_time_does_not_fit_its_tick_is_skipped_unless_the_next_agrees() {
    let line = |time: &str, tick: u32| format!("{{\"time\":{time},\"tick\":{tick},\"battery\":0.5}}\n");
    let settings = |lines: &[(&str, u32)]| {
        let lines: String = lines.iter().map(|(time, tick)| line(time, *tick)).collect();
        let (row, points) = one("0,1,0.5\n", &format!("{{\"time\":100000,\"tick\":0,\"battery\":1,\"interval\":0.5}}\n{lines}"));
        assert!(row.starts_with("done,1970-01-02T03:46:40Z,1970-01-0"), "{row}");
        let ticks: Vec<String> = points[1..].iter().map(|point| point.split_whitespace().nth(2).unwrap().to_string()).collect();
        ticks[1..].join(" ")
    };
    assert_eq!(settings(&[("10008.0", 16)]), "", "a lost digit");
    assert_eq!(settings(&[("99999.999", 16), ("99999.999", 17), ("100008", 18)]), "18", "before the last one: agreement does not help");
    assert_eq!(settings(&[("100000.001", 16)]), "16", "not before it");
    assert_eq!(settings(&[("103608", 16)]), "16", "just within");
    assert_eq!(settings(&[("103608.001", 16)]), "", "and just not");
    assert_eq!(settings(&[("103608.001", 16), ("103616.001", 32)]), "16 32", "the next agrees");
    assert_eq!(settings(&[("200000", 16), ("100016", 32), ("100024", 48)]), "32 48", "it does not");
    assert_eq!(settings(&[("200000", 16), ("199999", 32), ("100024", 48)]), "48", "before the one in doubt");
    assert_eq!(settings(&[("200000", 16), ("nonsense", 32), ("200008", 48)]), "16 48", "the next readable one");
    assert_eq!(settings(&[("200000", 16), ("203000", 9_000)]), "16", "the next is judged by the one that it confirms");
    assert_eq!(
        settings(&[("104500", 9_000), ("200000", 9_001), ("104501", 9_002)]),
        "9000 9002",
        "a tick in doubt takes a tick to confirm it"
    );
}

/// Between a line in doubt and the next, ticks are as long as the line in doubt says.
#[test]
fn a_settings_line_after_a_gap_is_confirmed_by_its_own_interval() {
    let settings = |gap: &str, lines: &[(i64, i64, f64)]| {
        let lines: String = lines
            .iter()
            .map(|(time, tick, interval)| format!("{{\"time\":{time},\"tick\":{tick},\"battery\":1,\"interval\":{interval}}}\n"))
            .collect();
        let memory = memory(&[("x", "0,1,0.5\n", &lines)]);
        let ran = run(Config::default(), &defaults().with("max-gap", gap), &memory, &Store::default(), &[vec![delivered("x")], vec![]]);
        ran.jobs()[0][7].clone()
    };
    let hours = [(1_000, 0, 10.0), (37_000, 3_600, 0.05), (37_150, 6_600, 0.05), (37_300, 9_600, 0.05)];
    assert_eq!(settings("1h", &hours), "4", "ten hours, and then lines 150 s apart");
    let seconds = [(1_000, 0, 0.1), (1_020, 200, 1.0), (1_080, 260, 1.0)];
    assert_eq!(settings("10s", &seconds), "1", "20 s, and the next 60 s on");
}

/// The second line lost a digit of its time.
#[test]
fn a_clock_that_goes_back_does_not_move_a_session() {
    let brushing: String = (0..=20).map(|tick| format!("{tick},3,0.5\n")).collect();
    let settings = "{\"time\": 1595896877.5, \"tick\": 0, \"battery\": 0.9, \"tick_interval\": 0.25}\n{\"time\": 159589688.5, \"tick\": 16, \"battery\": 0.8}\n";
    assert_eq!(one(&brushing, settings).0, "done,2020-07-28T00:41:17.500000Z,2020-07-28T00:41:22.750000Z,0,21,1,1,");
}

#[test]
fn skipped_lines_are_rejected_and_beyond_a_hundred_they_are_counted() {
    let memory = memory(&[
        ("x", "tick,tooth,percent_clean\n0,0,0\n\nx\n9000,0,0.5\n1,0,2\n2,0,0\n", &format!("no\n{S0}{S0}")),
        ("y", &"0,0,9\n".repeat(150), &format!("{S0}no\n")),
    ]);
    let run = |batches: &[Vec<Delivery>]| run(Config::default(), &defaults(), &memory, &Store::default(), batches);
    let ran = run(&[vec![delivered("x")], vec![]]);
    let rows: Vec<String> = ran.rejected.iter().map(|(name, line, reason, raw)| format!("{name}:{line}: {reason}: {raw}")).collect();
    assert_eq!(
        rows,
        [
            "t/d/brushing.csv:3: the line has no tick, tooth and percent_clean: x".to_string(),
            "t/d/brushing.csv:4: tick is more than --max-gap ahead, and the next line does not go on from it: 9000,0,0.5".into(),
            "t/d/brushing.csv:5: percent_clean is no number from 0 to 1: 1,0,2".into(),
            "t/d/settings.jsonlines:0: the line is no JSON object: no".into(),
            format!("t/d/settings.jsonlines:2: tick is not above the last one: {}", S0.trim()),
        ]
    );
    assert_eq!(ran.rejected_count, 5);
    let ran = run(&[vec![delivered("y")], vec![]]);
    assert_eq!((ran.rejected.len(), ran.rejected_count), (100, 151));
    assert_eq!((ran.rejected[98].1, ran.rejected[99].0.as_str()), (98, "t/d/settings.jsonlines"), "settings are among them");
    // What replaces another is reported once; what is taken away, or comes again as it was, is not.
    let away = Delivery { sign: -1, ..delivered("x") };
    assert_eq!(run(&[vec![delivered("y")], vec![delivered("x")]]).rejected_count, 156);
    assert_eq!(run(&[vec![delivered("x")], vec![delivered("x")]]).rejected_count, 5);
    assert_eq!(run(&[vec![delivered("x")], vec![away]]).rejected_count, 5);
}

#[test]
fn empty_swapped_and_binary_streams() {
    assert_eq!(one("", S0).0, "done,1970-01-01T00:01:40Z,1970-01-01T00:01:40.500000Z,0,0,1,0,");
    assert!(one(S0, S0).0.starts_with("unsalvageable,,,,0,1,1,no line of brushing.csv is good: "));
    assert!(one(S0, "0,1,0.5\n").0.starts_with("unsalvageable,,,,0,0,1,no line of settings.jsonlines is good: "));
    let long = "9".repeat(300_000);
    assert!(one(&format!("{long}\n0,1,0.5\n{long}"), &format!("{long}\n{S0}{long}\n")).0.ends_with(",1,1,4,"));
    assert!(one("\u{feff}0,1,0.5\r\n\0\0\n1,1,0.5", &format!("\u{feff}{S0}")).0.ends_with(",2,1,1,"));
}

#[test]
fn enormous_ticks_and_times_are_no_panic() {
    let max = i64::MAX;
    let settings = format!("{{\"time\":7289654399,\"tick\":{max},\"battery\":1,\"tick_interval\":60}}\n");
    assert!(one(&format!("0,1,0.5\n{max},1,0.5\n"), &settings).0.contains(",1,"));
    let (row, points) = one(&format!("{max},1,0.5\n1,1,1\n"), S0);
    assert_eq!((row.as_str(), points.len()), ("done,1970-01-01T00:01:40Z,1970-01-01T00:01:41Z,0.5,1,1,1,", 2));
    assert!(one("0,1,0.5\n", "{\"time\":0,\"tick\":9,\"battery\":1,\"tick_interval\":1e-15}\n").0.starts_with("unsalvageable,,,,0,1,1,"));
}

#[test]
fn a_missing_stream_fails_the_dataset_and_the_next_is_taken() {
    let mut memory = memory(&[("x", "0,0,0\n", S0), ("y", "0,0,0\n", S0)]);
    memory.streams.remove("x/brushing");
    let other = Delivery { key: ["t", "e"], ..delivered("y") };
    let ran = run(Config::default(), &defaults(), &memory, &Store::default(), &[vec![delivered("x"), other], vec![]]);
    let rows: Vec<String> = ran.jobs().iter().map(|row| row.join(",")).collect();
    assert!(rows[0].starts_with("t,d,failed,,,,0,1,0,could not open \"x/brushing\""), "{rows:?}");
    assert!(rows[1].starts_with("t,e,done,"), "{rows:?}");
    let refused = ("t/d".to_string(), 0, "could not open \"x/brushing\": it is not there".to_string(), String::new());
    assert_eq!((ran.rejected, ran.rejected_count), (vec![refused], 1), "it is refused as a whole");
}

#[test]
fn a_stream_that_fails_anywhere_is_tried_again_and_nothing_is_written_twice() {
    let brushing: String = (0..30).map(|tick| format!("{},{},0.5\n", tick * 2, tick % 5)).collect();
    let settings: String = (0..6)
        .map(|event| format!("{{\"time\":{},\"tick\":{},\"battery\":0.5,\"interval\":0.5}}\n", 100 + event * 5, event * 10))
        .collect();
    let memory = Memory { chunk: 20, ..memory(&[("x", &brushing, &settings)]) };
    let batches = [vec![delivered("x")], vec![]];
    let calm = run(Config::default(), &defaults(), &memory, &Store::default(), &batches);
    assert_eq!(calm.told.len(), 36);
    let mut failed = 0;
    for stream in ["x/brushing", "x/settings"] {
        for read in 1..40 {
            // Once, twice in a row, and always.
            for count in [1, 2, 1_000] {
                let memory = Memory { fails: Some((stream.into(), read, count)), reads: Arc::default(), ..memory.clone() };
                let ran = run(Config::default(), &defaults(), &memory, &Store::default(), &batches);
                let mut keys: Vec<&Key> = ran.told.iter().map(|(key, _)| key).collect();
                keys.sort();
                keys.dedup();
                assert_eq!(keys.len(), ran.told.len(), "{stream} {read} {count}: a point is written twice");
                if ran.jobs()[0][2] == "failed" {
                    failed += 1;
                    assert!(ran.jobs()[0][9].contains("it broke off") && count == 1_000);
                    assert_eq!(
                        ran.jobs()[0][6..8],
                        [
                            ran.told.iter().filter(|(key, _)| key.0 == "brushing").count().to_string(),
                            ran.told.iter().filter(|(key, _)| key.0 == "settings").count().to_string()
                        ]
                    );
                    assert!(ran.points().iter().all(|(key, value)| calm.points().get(key) == Some(value)));
                } else {
                    assert_eq!((ran.tables.as_slice(), ran.points()), (calm.tables.as_slice(), calm.points()), "{stream} {read} {count}");
                    let of = |ran: &Ran, name: &str| ran.told.iter().filter(|(key, _)| key.0 == name).cloned().collect::<Vec<_>>();
                    for name in ["brushing", "settings"] {
                        assert_eq!(of(&ran, name), of(&calm, name), "{stream} {read} {count}: in another order");
                    }
                }
            }
        }
    }
    assert!(failed > 20, "the fault is not met: {failed}");
}

/// Another attempt would read something else than what was planned.
#[test]
fn a_stream_that_is_not_what_was_planned_ends_the_run_and_is_not_tried_again() {
    let brushing: String = (0..30).map(|tick| format!("{tick},1,0.5\n")).collect();
    let memory = Memory { chunk: 20, is_changed: true, ..memory(&[("x", &brushing, S0), ("y", &brushing, S0)]) };
    let later = Delivery { key: ["t", "e"], ..delivered("y") };
    let batches = [vec![delivered("x"), later], vec![]];
    for stream in ["x/brushing", "x/settings"] {
        for read in 1..3 {
            let fails = Some((stream.to_string(), read, 1));
            let memory = Memory { fails, reads: Arc::default(), ..memory.clone() };
            let ran = run(Config::default(), &defaults(), &memory, &Store::default(), &batches);
            assert_eq!(ran.failed, [format!("could not read {stream:?}: it changed")], "{read}");
            assert_eq!(memory.reads.lock().unwrap()[stream], read, "it was tried again");
            assert!(ran.jobs().is_empty() && ran.notes.is_empty(), "{:?}", ran.jobs());
        }
    }
}

/// What the old version's points were is not known any more. The new one is read all the same.
#[test]
fn an_old_version_that_is_not_what_it_was_is_a_note() {
    let memory = memory(&[("x", "0,1,0.5\n1,1,0.5\n", S0), ("y", "0,1,0.5\n2,1,0.5\n", S0)]);
    // Read to its end once, and met when it is read again.
    let reads = |memory: &Memory| memory.reads.lock().unwrap()["x/brushing"];
    let batches = [vec![delivered("x")], vec![delivered("y")], vec![]];
    run(Config::default(), &defaults(), &memory, &Store::default(), &batches[..1]);
    let met = reads(&memory) + 1;
    let memory = Memory { fails: Some(("x/brushing".into(), met, 1)), is_changed: true, reads: Arc::default(), ..memory };
    let ran = run(Config::default(), &defaults(), &memory, &Store::default(), &batches);
    assert!(ran.failed.is_empty(), "{:?}", ran.failed);
    assert_eq!(reads(&memory), met, "it was tried again");
    assert_eq!(ran.notes, ["points of dataset \"t/d\" as it was before may remain: could not read \"x/brushing\": it changed"]);
    assert_eq!(ran.jobs()[0][2], "done");
}

#[test]
fn a_dataset_that_comes_again_changes_points_by_the_difference() {
    let lines = |ticks: &[i64]| ticks.iter().map(|tick| format!("{tick},1,0.5\n")).collect::<String>();
    let memory = memory(&[
        ("x", &lines(&[0, 1, 2, 4]), S0),
        ("y", &lines(&[0, 2, 3, 4]), S0),
        ("z", &lines(&[0, 2, 3, 4]), &S0.replace("0.9", "0.8")),
    ]);
    let told = |batches: &[Vec<Delivery>]| {
        let ran = run(Config::default(), &defaults(), &memory, &Store::default(), batches);
        assert_eq!(ran.notes, [""; 0]);
        ran.told
            .iter()
            .map(|((name, _, _, time), value)| format!("{}{} {time}", if value.is_some() { '+' } else { '-' }, &name[..1]))
            .collect::<Vec<_>>()
    };
    let first = ["+b 100000000000", "+b 100500000000", "+b 101000000000", "+b 102000000000", "+s 100000000000"];
    assert_eq!(told(&[vec![delivered("x")], vec![]]), first);
    assert_eq!(told(&[vec![delivered("x")], vec![delivered("x")]]), first);
    assert_eq!(told(&[vec![delivered("x")], vec![delivered("y")]])[5..], ["+b 101500000000", "-b 100500000000"]);
    let battery = told(&[vec![delivered("y")], vec![delivered("z")]]);
    assert_eq!(battery[5..], ["+b 100000000000", "+b 101000000000", "+b 101500000000", "+b 102000000000", "+s 100000000000"]);
    let away = Delivery { sign: -1, ..delivered("x") };
    assert_eq!(told(&[vec![delivered("x")], vec![away.clone()]])[5..], first.map(|point| point.replace('+', "-")));
    assert_eq!(told(&[vec![away], vec![delivered("x")]]), first);
}

#[test]
fn what_can_not_be_taken_back_is_said() {
    let streams = [("x", "0,1,0.5\n1,1,0.5\n", S0), ("y", "0,1,0.5\n", S0)];
    let changed = Memory { changed: vec!["x/brushing".into()], ..memory(&streams) };
    let batches = [vec![delivered("x")], vec![delivered("y")]];
    let ran = run(Config::default(), &defaults(), &changed, &Store::default(), &batches);
    assert_eq!(ran.notes, ["points of dataset \"t/d\" as it was before may remain: its files are not what they were"]);
    assert_eq!(ran.points().len(), 3, "the old point remains");
    assert!(ran.jobs()[0].join(",").contains(",1,1,0,"));
    let store = Store { deletes: true, ..Store::default() };
    let ran = run(Config::default(), &defaults(), &changed, &store, &batches);
    assert_eq!((ran.notes.len(), ran.points().len()), (0, 2));
}

/// The oracle's result for one dataset, as a row of `brushing_jobs` without its key and its error.
fn row(found: &Found) -> String {
    let micros = |ns: i128| Moment(ns.div_euclid(1_000) as i64).to_string();
    let count = |name: &str| found.points.iter().filter(|point| point.0 == name).count();
    let points = format!("{},{},{}", count("brushing"), count("settings"), found.skipped.len());
    match found.span_ns {
        Some((start, end)) if found.salvageable => {
            format!("done,{},{},{},{points}", micros(start), micros(end), seconds(found.lost_fs))
        }
        _ => format!("unsalvageable,,,,{points}"),
    }
}

fn brushing_line() -> impl Strategy<Value = String> {
    let good = |jump: i64| {
        (0..3i64, 0..3u32, 0..=10u32)
            .prop_map(move |(step, tooth, tenths)| format!("+{},{tooth},{}", step + jump, f64::from(tenths) / 10.0))
    };
    prop_oneof![
        20 => good(1),
        2 => good(-4),
        2 => good(30),
        2 => good(300),
        1 => Just("1,99,0.5".to_string()),
        1 => Just("garbage".to_string()),
        1 => Just(String::new()),
        1 => Just("99999999999,1,0.5".to_string()),
        1 => Just("7,1,NaN".to_string()),
        1 => Just("tick,tooth,percent_clean".to_string()),
    ]
}

fn settings_line() -> impl Strategy<Value = String> {
    let values = prop_oneof![
        3 => Just("\"battery\":0.5,\"tick_interval\":0.25"),
        2 => Just("\"battery_level\":0.75"),
        2 => Just("\"interval\":0.5"),
        1 => Just("\"interval\":2"),
        1 => Just("\"interval\":0"),
        1 => Just("\"battery\":null"),
    ];
    // The clock goes on for some seconds; it is set, forward and back; or the time of a line is wrong, by little, by much, or by a digit.
    let seconds = prop_oneof![
        16 => (1_000..3_000i64).prop_map(|millis| format!("{}.{:03}", millis / 1_000, millis % 1_000)),
        1 => Just("60".to_string()),
        1 => Just("-60".to_string()),
        1 => prop::sample::select(vec!["@-5", "@15", "@100", "@-1530000000", "@100000000"]).prop_map(str::to_string),
    ];
    let event = (prop_oneof![12 => 1..12i64, 1 => -3..1i64, 1 => 100..600i64], values, seconds)
        .prop_map(|(step, values, seconds)| format!("+{step},{seconds},{values}"));
    prop_oneof![10 => event, 1 => Just("garbage".to_string()), 1 => Just("[1]".to_string()), 1 => Just(String::new())]
}

/// Lines that begin with `+step` get a tick from those before, and settings a time; one that begins with `@` is of that line alone.
fn streams(brushing: &[String], settings: &[String]) -> (String, String) {
    let mut tick = 0i64;
    let brushing = brushing.iter().map(|line| match line.strip_prefix('+').and_then(|line| line.split_once(',')) {
        Some((step, rest)) => {
            let now = (tick + step.parse::<i64>().unwrap()).max(0);
            tick = if step.len() < 3 { now } else { tick };
            format!("{now},{rest}\n")
        }
        None => format!("{line}\n"),
    });
    let brushing: String = brushing.collect();
    let (mut tick, mut millis) = (-1i64, 1_700_000_000_000i64);
    let settings = settings.iter().map(|line| {
        let mut parts = line.splitn(3, ',');
        match (line.strip_prefix('+'), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(step), Some(seconds), Some(values)) => {
                let step: i64 = step.trim_start_matches('+').parse().unwrap();
                let now = (tick + step).max(0);
                tick = if step < 100 { now } else { tick };
                let change = (seconds.trim_start_matches('@').parse::<f64>().unwrap() * 1_000.0).round() as i64;
                let time = millis + change;
                millis = if seconds.starts_with('@') { millis } else { time };
                format!("{{\"time\":{}.{:03},\"tick\":{now},{values}}}\n", time / 1_000, time % 1_000)
            }
            _ => format!("{line}\n"),
        }
    });
    (brushing, settings.collect())
}

fn dataset() -> impl Strategy<Value = (String, String)> {
    (prop::collection::vec(brushing_line(), 0..60), prop::collection::vec(settings_line(), 0..12))
        .prop_map(|(brushing, settings)| streams(&brushing, &settings))
}

fn config(cases: u32) -> ProptestConfig {
    let kept = FileFailurePersistence::SourceParallel("brushing/proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(48))]

    /// A dataset is what a plain computation over its whole files finds.
    #[test]
    fn a_dataset_is_what_the_oracle_finds((brushing, settings) in dataset(), chunk in 1..200usize) {
        let memory = Memory { chunk, ..memory(&[("x", &brushing, &settings)]) };
        let given = defaults().with("max-gap", "20s");
        let ran = run(Config::default(), &given, &memory, &Store::default(), &[vec![delivered("x")], vec![]]);
        let found = oracle::read(brushing.as_bytes(), settings.as_bytes(), 20.0);
        prop_assert_eq!(ran.jobs()[0][2..9].join(","), row(&found), "\n{}\n{}", brushing, settings);
        prop_assert_eq!(ran.jobs()[0][9].is_empty(), found.salvageable);
        let names = ["t/d/brushing.csv", "t/d/settings.jsonlines"];
        let mut skipped: Vec<_> = found.skipped.iter().map(|(stream, line)| (names[*stream], *line as u64)).collect();
        // What has no line that could be refused is refused itself.
        if !found.salvageable && skipped.is_empty() {
            skipped.push(("t/d", 0));
        }
        prop_assert_eq!(ran.rejected_count, skipped.len() as u64);
        skipped.sort();
        prop_assert_eq!(ran.rejected.iter().map(|(name, line, ..)| (name.as_str(), *line)).collect::<Vec<_>>(), skipped);
        let mut told: Vec<_> = ran.told.iter().map(|(key, value)| (key.0.as_str(), i128::from(key.3), value.clone().unwrap())).collect();
        let mut expected = found.points.clone();
        told.sort();
        expected.sort();
        prop_assert_eq!(told, expected);
        let teeth: Vec<String> = ran.tables[0]["brushing_teeth"].iter().map(|row| row[1..3].join(" ")).collect();
        prop_assert_eq!(teeth, found.teeth.iter().map(|(tooth, (points, _))| format!("{tooth} {points}")).collect::<Vec<_>>());
        for (row, (points, sum)) in ran.tables[0]["brushing_teeth"].iter().zip(found.teeth.values()) {
            prop_assert!((row[3].parse::<f64>().unwrap() - sum / *points as f64).abs() < 1.0 / PERCENT_STEPS as f64);
        }
    }

    /// After every batch, tables are those of the last versions; and in the end, so are points.
    #[test]
    fn tables_and_points_are_those_of_the_last_versions(
        versions in prop::collection::vec(dataset(), 3),
        batches in prop::collection::vec(prop::collection::vec((0..3usize, 0..3usize, prop::bool::weighted(0.2)), 0..3), 1..5),
        config in 0..Config::ALL.len(),
        deletes in prop::bool::weighted(0.2),
    ) {
        let names = ["v0", "v1", "v2"];
        let keys = [["t", "d"], ["t", "e"], ["u", "d"]];
        let streams: Vec<_> = names.iter().zip(&versions).map(|(name, (brushing, settings))| (*name, brushing.as_str(), settings.as_str())).collect();
        let memory = Memory { chunk: 50, ..memory(&streams) };
        let deliver = |(key, version, away): &(usize, usize, bool)| Delivery { sign: if *away { -1 } else { 1 }, key: keys[*key], streams: names[*version].into() };
        let mut deliveries: Vec<Vec<Delivery>> = batches.iter().map(|batch| batch.iter().map(deliver).collect()).collect();
        deliveries.push(Vec::new());
        let given = defaults().with("max-gap", "20s");
        let ran = run(Config::choose(config), &given, &memory, &Store { deletes, ..Store::default() }, &deliveries);
        let mut last: BTreeMap<[&str; 2], usize> = BTreeMap::new();
        for (batch, tables) in batches.iter().zip(&ran.tables) {
            for (key, version, away) in batch {
                if *away { last.remove(&keys[*key]); } else { last.insert(keys[*key], *version); }
            }
            // What one run over the last versions says.
            let fresh: Vec<Delivery> = last.iter().map(|(key, version)| Delivery { sign: 1, key: *key, streams: names[*version].into() }).collect();
            let alone = run(Config::default(), &given, &memory, &Store::default(), &[fresh, Vec::new()]);
            prop_assert_eq!(tables, &alone.tables[0]);
        }
        let expected = last.iter().flat_map(|(key, version)| {
            let (brushing, settings) = &versions[*version];
            let found = oracle::read(brushing.as_bytes(), settings.as_bytes(), 20.0);
            let mut points = BTreeMap::new();
            for (name, time, fields) in found.points {
                points.insert((name.to_string(), key[0].to_string(), key[1].to_string(), time as i64), fields);
            }
            points
        });
        let expected: BTreeMap<Key, String> = expected.collect();
        prop_assert_eq!(ran.points(), expected);
        prop_assert!(ran.notes.is_empty(), "{:?}", ran.notes);
    }
}
