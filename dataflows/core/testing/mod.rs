//! How dataflows are tested: the graph equals a plain computation, at every epoch, on any number of workers.
//!
//! Workers are threads that pass values ([`Mode::Threads`]), threads that pass bytes ([`Mode::Bytes`]), or two groups
//! of threads that are connected like processes ([`Mode::Processes`]): what is only moved between threads is
//! serialised between processes, so a test on threads alone does not see a record that can't be.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod cases;
pub mod files;
pub mod generated;
pub mod only;
pub mod text_ids;

use crate::contract::Graph;
use crate::decode::Inputs;
use crate::ids::Ids;
use crate::points::Nowhere;
use crate::publish::Outputs;
use crate::record::{Field, Fields, Raw};
use crate::row::{self, Row, RowBatch};
use crate::split::{ByteStream, Columns, Dataset, Format, Late, Line, Location, Opener, Packing, Report, Split, SplitError, SplitReader};
use crate::texts::Texts;
use crate::time::Moment;
use crate::{Collection, Epoch};
use differential_dataflow::{AsCollection, Data, ExchangeData};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use timely::WorkerConfig;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks};
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

/// How the workers of a test are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Threads that pass values.
    Threads,
    /// Threads that pass bytes.
    Bytes,
    /// Two groups of threads, connected by sockets.
    Processes,
}

/// The workers of a test.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many workers, or workers per process.
    pub workers: usize,
    /// How they are connected.
    pub mode: Mode,
}

impl Default for Config {
    fn default() -> Self {
        Config { workers: 1, mode: Mode::Threads }
    }
}

impl Config {
    /// Every kind that is tested.
    pub const ALL: [Config; 6] = [
        Config { workers: 1, mode: Mode::Threads },
        Config { workers: 2, mode: Mode::Threads },
        Config { workers: 3, mode: Mode::Threads },
        Config { workers: 2, mode: Mode::Bytes },
        Config { workers: 3, mode: Mode::Bytes },
        Config { workers: 1, mode: Mode::Processes },
    ];

    /// The kind with this number, for a property test to choose.
    pub fn choose(number: usize) -> Config {
        Config::ALL[number % Config::ALL.len()]
    }

    /// Runs `work` on every worker.
    pub fn execute(self, work: impl Fn(&mut Worker) + Send + Sync + 'static) {
        let hooks = Hooks::default;
        let typed = |count| ProcessBuilder::new_typed_vector(count, hooks().refill, None);
        let work = Arc::new(work);
        let start = |builders: Vec<AllocatorBuilder>, guard: Box<dyn std::any::Any + Send>| {
            let work = Arc::clone(&work);
            timely::execute::execute_from(builders, guard, WorkerConfig::default(), move |worker| work(worker)).unwrap()
        };
        let guards = match self.mode {
            Mode::Threads | Mode::Bytes => {
                let config = match self.mode {
                    Mode::Bytes => timely::CommunicationConfig::ProcessBinary(self.workers),
                    _ => timely::CommunicationConfig::Process(self.workers),
                };
                let (builders, guard) = config.try_build().unwrap();
                vec![start(builders, guard)]
            }
            Mode::Processes => {
                let (left, right) = UnixStream::pair().unwrap();
                [vec![None, Some(left)], vec![Some(right), None]]
                    .into_iter()
                    .enumerate()
                    .map(|(index, sockets)| {
                        let (builders, guard) =
                            initialize_networking_from_sockets(typed(self.workers), sockets, index, self.workers, hooks()).unwrap();
                        start(builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard))
                    })
                    .collect()
            }
        };
        for guard in guards {
            guard.join().into_iter().for_each(|result| result.unwrap());
        }
    }
}

#[cfg(test)]
pub(crate) use strategies::{proptests, updates};

#[cfg(test)]
mod strategies {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    /// How property tests are run: failures are kept in this crate's folder. (By default they are in the folder above a
    /// `lib.rs`, which is that of all crates.)
    pub(crate) fn proptests() -> ProptestConfig {
        let kept = FileFailurePersistence::SourceParallel("core/proptest-regressions");
        ProptestConfig { failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
    }

    impl Config {
        /// Any kind.
        pub(crate) fn any() -> impl Strategy<Value = Config> {
            (0..Config::ALL.len()).prop_map(Config::choose)
        }
    }

    /// Up to `epochs` epochs of up to `size` updates each; deliveries, redeliveries and retractions.
    pub(crate) fn updates<D: Debug>(
        item: impl Strategy<Value = D>,
        epochs: usize,
        size: usize,
    ) -> impl Strategy<Value = Vec<Vec<(D, isize)>>> {
        let diff = prop_oneof![6 => Just(1isize), 1 => Just(2), 3 => Just(-1)];
        proptest::collection::vec(proptest::collection::vec((item, diff), 0..=size), 1..=epochs)
    }
}

/// Feeds `epochs` to an operator, the updates spread over the workers, and compares its output at every epoch
/// with `naive` of what was fed so far.
pub fn check_operator<D, O, B>(
    config: Config,
    epochs: Vec<Vec<(D, isize)>>,
    naive: impl Fn(&BTreeMap<D, isize>) -> BTreeMap<O, isize>,
    build: B,
) where
    D: ExchangeData + Sync,
    O: Data + Send,
    B: for<'s> Fn(Collection<'s, D>) -> Collection<'s, O> + Send + Sync + 'static,
{
    let found: Arc<Mutex<Vec<(O, Epoch, isize)>>> = Arc::default();
    let count = epochs.len() as Epoch;
    let shared = (Arc::new(epochs.clone()), Arc::clone(&found));
    config.execute(move |worker| {
        let (epochs, found) = (&shared.0, Arc::clone(&shared.1));
        let (index, peers) = (worker.index(), worker.peers());
        let (mut input, probe) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (input, stream) = scope.new_input::<(D, Epoch, isize)>();
            let output = build(stream.as_collection());
            let (probe, _) = output.inner.inspect(move |update| found.lock().unwrap().push(update.clone())).probe();
            (input, probe)
        });
        for (epoch, updates) in (1..).zip(epochs.iter()) {
            input.advance_to(epoch);
            for (place, (data, diff)) in updates.iter().enumerate() {
                if place % peers == index {
                    input.send((data.clone(), epoch, *diff));
                }
            }
            // Every other epoch is awaited, so that some are handled alone and some together.
            if epoch % 2 == 0 {
                input.advance_to(epoch + 1);
                input.flush();
                worker.step_or_park_while(None, || probe.less_than(&(epoch + 1)));
            }
        }
    });

    let mut fed = BTreeMap::new();
    let mut said = BTreeMap::new();
    let found = std::mem::take(&mut *found.lock().unwrap());
    assert!(found.iter().all(|(_, epoch, _)| *epoch <= count), "something was said after the last epoch");
    for epoch in 0..=count {
        let updates = (epoch as usize).checked_sub(1).map(|index| epochs[index].as_slice()).unwrap_or_default();
        updates.iter().for_each(|(data, diff)| add(&mut fed, data.clone(), *diff));
        found.iter().filter(|(_, time, _)| *time == epoch).for_each(|(data, _, diff)| add(&mut said, data.clone(), *diff));
        assert_eq!(said, naive(&fed), "at epoch {epoch}, {config:?}, after {fed:?}");
    }
}

fn add<D: Ord>(sums: &mut BTreeMap<D, isize>, data: D, diff: isize) {
    let sum = sums.entry(data).or_insert(0);
    *sum += diff;
    if *sum == 0 {
        sums.retain(|_, sum| *sum != 0);
    }
}

/// A line of an input, delivered or retracted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivery {
    /// The input's place among those of the dataflow.
    pub input: usize,
    /// 1 or -1.
    pub sign: isize,
    /// The line: CSV without header and quotes, or a JSON object.
    pub line: String,
}

/// The rows of tables as text, by table.
pub type Tables = BTreeMap<String, Vec<Vec<String>>>;

/// Runs a graph over batches of lines and returns its tables after each of them, rows in order.
///
/// # Panics
/// When a line is refused, a row is there more than once, or a difference is left for a row that is not there.
pub fn run_graph(config: Config, graph: &Arc<dyn Graph>, inputs: &[crate::contract::Input], batches: &[Vec<Delivery>]) -> Vec<Tables> {
    let found: Arc<Mutex<Vec<(Epoch, String, RowBatch)>>> = Arc::default();
    let shared = (Arc::clone(graph), inputs.to_vec(), batches.to_vec(), Arc::clone(&found));
    config.execute(move |worker| {
        let (graph, inputs, batches, found) = &shared;
        let found = Arc::clone(found);
        let (mut splits, probe) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (handle, stream) = scope.new_input::<Split>();
            let wanted = graph.tables().iter().map(|table| table.name.to_string()).collect();
            // Each worker is a process of its own, as far as texts are concerned.
            let texts = (graph.ids() == Ids::Text).then(|| Texts::of_workers(1));
            let inputs = Inputs::new(stream, inputs.clone(), Rc::new(Lines), graph.calendar(), Arc::new(Nowhere)).with_texts(texts);
            let mut outputs = Outputs::new(wanted);
            graph.build(&inputs, &mut outputs);
            let names = outputs.names();
            let rows = outputs.gather(&inputs, &graph.tables(), move |changes| {
                let named = changes.drain(..).map(|change| (change.epoch, names[change.table].clone(), change.rows));
                found.lock().unwrap().extend(named);
            });
            inputs.gather_reports(|reports| {
                for (_, report) in reports.drain(..) {
                    match report {
                        Report::Rejected(_) | Report::Failed { .. } | Report::Note(_) | Report::PointsFailed(_) => {
                            panic!("a line was refused: {report:?}")
                        }
                        Report::Progress { .. } | Report::PassedOver { .. } | Report::Done(_) => {}
                    }
                }
            });
            let (probe, _) = rows.probe();
            (handle, probe)
        });
        if worker.index() == 0 {
            for (epoch, batch) in (1..).zip(batches) {
                // Some batches are sent together, as of the first of them.
                if epoch % 4 != 2 {
                    splits.advance_to(epoch);
                }
                batch.iter().zip(0..).for_each(|(delivery, sequence)| splits.send(inline(delivery, epoch, sequence)));
                if epoch % 2 == 0 {
                    splits.advance_to(epoch + 1);
                    splits.flush();
                    worker.step_or_park_while(None, || probe.less_than(&(epoch + 1)));
                }
            }
        }
    });

    let found = std::mem::take(&mut *found.lock().unwrap());
    let mut rows: BTreeMap<String, BTreeMap<Row, isize>> = BTreeMap::new();
    (0..=batches.len() as Epoch)
        .map(|epoch| {
            for (_, table, batch) in found.iter().filter(|(at, _, _)| *at == epoch) {
                let rows = rows.entry(table.clone()).or_default();
                batch.iter().for_each(|(row, diff)| add(rows, Row(row.to_vec()), diff as isize));
            }
            graph
                .tables()
                .iter()
                .map(|table| {
                    let rows = rows.get(table.name).cloned().unwrap_or_default();
                    let text = rows
                        .into_iter()
                        .map(|(row, count)| {
                            let values: Vec<String> = row::values(&table.columns, &row.0).map(|value| value.to_string()).collect();
                            assert_eq!(count, 1, "row {values:?} of {} at epoch {epoch}, {config:?}", table.name);
                            values
                        })
                        .collect();
                    (table.name.to_string(), text)
                })
                .collect()
        })
        .skip(1)
        .collect()
}

/// The law, for one history: after every batch, and on these workers, the tables are those that `oracle` computes from the
/// set of lines that were delivered more often than retracted.
pub fn check_law(
    config: Config,
    graph: &Arc<dyn Graph>,
    inputs: &[crate::contract::Input],
    batches: &[Vec<Delivery>],
    oracle: impl Fn(&BTreeSet<(usize, String)>) -> Tables,
) {
    let mut counts = BTreeMap::new();
    for (index, tables) in run_graph(config, graph, inputs, batches).into_iter().enumerate() {
        batches[index].iter().for_each(|delivery| add(&mut counts, (delivery.input, delivery.line.clone()), delivery.sign));
        let present = counts.iter().filter(|(_, count)| **count > 0).map(|(line, _)| line.clone()).collect();
        let expected = oracle(&present);
        let same = compare(&tables, &expected);
        assert!(same.is_ok(), "{}\nafter batch {} of {batches:#?}, {config:?}", same.unwrap_err(), index + 1);
    }
}

/// Compares tables with those of an oracle. Returns what is different.
pub fn compare(tables: &Tables, expected: &Tables) -> Result<(), String> {
    for (table, rows) in tables {
        let expected = expected.get(table).map(Vec::as_slice).unwrap_or_default();
        if rows.len() != expected.len() || !rows.iter().zip(expected).all(|(row, expected)| same_row(row, expected)) {
            return Err(format!("{table} is\n{rows:#?}\nand should be\n{expected:#?}"));
        }
    }
    match expected.keys().find(|table| !tables.contains_key(*table)) {
        Some(table) => Err(format!("the oracle knows {table}, which is not built")),
        None => Ok(()),
    }
}

/// Texts are equal; floats may differ in the last digits, because the oracle computes them in another way.
fn same_row(row: &[String], expected: &[String]) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-7 * a.abs().max(b.abs()).max(1.0);
    let same = |(a, b): (&String, &String)| {
        let floats = || Some((a.parse::<f64>().ok()?, b.parse::<f64>().ok()?));
        a == b || ((a.contains('.') || b.contains('.')) && floats().is_some_and(|(a, b)| close(a, b)))
    };
    row.len() == expected.len() && row.iter().zip(expected).all(same)
}

fn inline(delivery: &Delivery, epoch: Epoch, sequence: u64) -> Split {
    let json = delivery.line.starts_with('{');
    Split {
        input: delivery.input,
        epoch,
        sequence,
        sign: delivery.sign,
        location: Location::Inline(delivery.line.clone().into_bytes().into()),
        range: (0, u64::MAX),
        format: if json { Format::JsonLines } else { Format::Csv(Columns::by_place(b',', &[])) },
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

/// Reads the one line of an inline split.
struct Lines;

struct OneLine {
    line: Vec<u8>,
    json: bool,
    fields: &'static [Field],
}

impl Opener for Lines {
    fn open(&self, split: &Split, input: &crate::contract::Input) -> Result<Box<dyn SplitReader>, SplitError> {
        let Location::Inline(line) = &split.location else { return Err("only inline splits are read in tests".to_string().into()) };
        Ok(Box::new(OneLine { line: line.to_vec(), json: split.format == Format::JsonLines, fields: input.fields }))
    }

    fn stream(&self, dataset: &Dataset, _place: usize, _attempt: u32) -> Box<dyn ByteStream> {
        panic!("lines have no streams: {dataset:?}");
    }

    fn attempts_max(&self) -> u32 {
        1
    }

    fn version(&self, _location: &str) -> Option<String> {
        None
    }
}

impl SplitReader for OneLine {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, SplitError> {
        let slots: Vec<&[u8]> = self.line.split(|byte| *byte == b',').collect();
        let record = if self.json { Raw::Json(&self.line) } else { Raw::Fields(Fields::new(self.fields, &slots)) };
        each(Line { member: None, number: 0, bytes: &self.line, record: Ok(record) });
        Ok(false)
    }

    fn bytes_read(&self) -> u64 {
        0
    }

    fn lines_read(&self) -> u64 {
        1
    }
}
