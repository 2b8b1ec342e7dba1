//! The one worker loop: feed, step, gather, commit.
//!
//! Worker 0 of process 0 drives: it takes batches from a [`Driver`], sends their splits into the dataflow, steps until the
//! epoch is complete, and hands the changes back to the driver to commit. All other workers just step. A worker without work
//! parks.

pub mod summary;
pub mod table;

use crate::cluster::{Cluster, mesh};
use crate::ingest::IngestError;
use crate::ingest::batch::{Arrival, Batch};
use crate::ingest::plan::{self, Plan, Routes};
use crate::ingest::read::FileOpener;
use crate::ingest::rejected::Refused;
use crate::points::staged::{self, StagedPoints};
use crate::points::{Destination, Dropped, Outlet, PointsError};
use retally_core::Epoch;
use retally_core::contract::{AsOf, Definition, Graph, Settings};
use retally_core::decode::{Inputs, VecStream};
use retally_core::points::Points;
use retally_core::publish::{Outputs, Published};
use retally_core::record::Context;
use retally_core::row::RowBatch;
use retally_core::split::{Done, Report, Split};
use retally_core::time::{DAY, Moment};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use summary::{Progress, Summary};
use timely::WorkerConfig;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandleVec;
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::worker::Worker;

/// What is run.
#[derive(Clone)]
pub struct Job {
    /// The dataflow.
    pub definition: Definition,
    /// Its graph.
    pub graph: Arc<dyn Graph>,
    /// The settings, which all processes must share.
    pub settings: Settings,
    /// The tables that are built, those of charts of single keys among them.
    pub tables: BTreeSet<String>,
    /// The run fails when more records are refused.
    pub rejected_max: Option<u64>,
    /// Where points go.
    pub points: Destination,
}

impl Job {
    /// A text for what tables are computed with, the same in every build: two jobs that differ in the dataflow, its settings, as-of or the
    /// columns of its tables have different ones. Settings that choose charts are none of tables.
    pub fn fingerprint(&self) -> String {
        let charts: Vec<&str> = self.graph.key_charts().iter().map(|chart| chart.setting).collect();
        let settings = self.definition.settings.iter().filter(|setting| !charts.contains(&setting.name));
        let settings = settings.map(|setting| format!("{}={}", setting.name, self.settings.text(setting.name)));
        let as_of = match self.settings.as_of() {
            AsOf::Latest => "latest".to_string(),
            AsOf::At(moment) => moment.0.to_string(),
        };
        let tables = self.graph.tables().into_iter().map(|table| {
            let columns = table.columns.iter().map(|column| format!("{} {:?} {}", column.name, column.kind, column.nullable));
            format!("{} {} {}", table.name, table.key_columns, columns.collect::<Vec<_>>().join(","))
        });
        let parts = [self.definition.name.to_string(), as_of].into_iter().chain(settings).chain(tables);
        // FNV-1a (Fowler, Noll, Vo), of 64 bits. A zero byte, which no part holds, ends each.
        let bytes = parts.flat_map(|part| part.into_bytes().into_iter().chain([0]));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        format!("{hash:016x}")
    }
}

/// Where batches come from and changes go to.
pub trait Driver: Send + 'static {
    /// The next batch; `None` ends the run.
    fn next(&mut self) -> Option<Batch>;

    /// Called now and then while a batch is under way.
    fn progress(&mut self, progress: Progress);

    /// An epoch is complete. An error ends the run.
    fn commit(&mut self, commit: Commit) -> Result<(), String>;

    /// All batches are committed, and on all processes all points are written, but for those that the destination refused. What came out is to be
    /// brought to where it belongs, a file of points too. An error fails the run on all processes.
    fn finish(&mut self, _dropped: &Dropped, points: Option<StagedPoints>) -> Result<(), Unfinished> {
        publish(points)
    }
}

/// Puts a file of points in its place.
pub fn publish(points: Option<StagedPoints>) -> Result<(), Unfinished> {
    points.map_or(Ok(()), |points| points.publish().map_err(|error| Unfinished { message: error.to_string(), hint: None }))
}

/// Why a driver could not finish.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unfinished {
    /// What was tried, on what, and why not.
    pub message: String,
    /// What one can do about it.
    pub hint: Option<String>,
}

/// The changes of an epoch.
#[derive(Debug)]
pub struct Commit {
    /// What the batch was, and did.
    pub summary: Summary,
    /// The changes by table, each table's in sorted batches that may have rows in common.
    pub changes: BTreeMap<String, Vec<RowBatch>>,
    /// Rows that the table `rejected` gets, sorted.
    pub rejected: Vec<RowBatch>,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Input could not be found, planned or opened.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Input could not be read.
    #[error("{0}")]
    Read(String),
    /// More records were refused than may be.
    #[error("refused more than --max-rejected {limit} records; the first: {first}")]
    Rejected {
        /// How many may be.
        limit: u64,
        /// The first of them, with its place and the reason.
        first: String,
    },
    /// The driver could not commit.
    #[error("{0}")]
    Commit(String),
    /// The driver could not finish.
    #[error(transparent)]
    Finish(#[from] Unfinished),
    /// Points could not be written.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// The processes could not be connected.
    #[error(transparent)]
    Mesh(#[from] mesh::MeshError),
    /// The workers could not be started.
    #[error("could not start the workers: {0}")]
    Start(String),
    /// The process that drives has failed, and this one with it.
    #[error("process 0 failed: {0}")]
    Elsewhere(String),
}

/// How long an idle worker looks for work before it parks: waking up takes longer than an epoch's steps are apart.
const IDLE_SPIN: Duration = Duration::from_micros(50);
/// How often the driver hears of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Runs a job to its end, on this process's workers. Answers the driver on process 0, and nothing on others.
pub fn run<D: Driver>(job: &Job, cluster: &Cluster, driver: D) -> Result<Option<D>, EngineError> {
    let hooks = Hooks::default;
    // Process 0 makes the destination new, before the others can write to it.
    let (destination, staged) = staged::stage(&job.points, cluster.process)?;
    let outlet = destination.open(cluster.process)?;
    let points = outlet.points();
    let (builders, guard): (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>) = if cluster.processes() > 1 {
        let sockets = mesh::connect(cluster, fingerprint(job))?;
        let threads = ProcessBuilder::new_typed_vector(cluster.workers, hooks().refill, None);
        let (builders, guard) = initialize_networking_from_sockets(threads, sockets, cluster.process, cluster.workers, hooks())
            .map_err(|error| EngineError::Start(error.to_string()))?;
        (builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard))
    } else {
        timely::CommunicationConfig::Process(cluster.workers).try_build().map_err(EngineError::Start)?
    };
    let driver = Arc::new(Mutex::new(Some(driver)));
    let staged = Mutex::new(staged);
    let opener = FileOpener::default();
    let process = Process { outlet: Arc::new(Mutex::new(Some(outlet))), failure: Failure::default() };
    let failure = Arc::clone(&process.failure);
    let work = {
        let (job, driver) = (job.clone(), Arc::clone(&driver));
        move |worker: &mut Worker| -> Result<(), EngineError> {
            let mut engine = Engine::build(worker, &job, &opener, &points, &process);
            if worker.index() != 0 {
                return Ok(());
            }
            let Some(mut mine) = taken(&driver) else { return Ok(()) };
            let result = engine.drive(worker, &job, &mut mine).and_then(|()| {
                let dropped = engine.settle(worker)?;
                Ok(mine.finish(&dropped, taken(&staged))?)
            });
            if let Err(error) = &result {
                opener.cancel();
                engine.orders.send(Order::Stop(error.to_string()));
            }
            *driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(mine);
            result
        }
    };
    let config = WorkerConfig::default().idle_spin(IDLE_SPIN);
    let guards = timely::execute::execute_from(builders, guard, config, work).map_err(EngineError::Start)?;
    for result in guards.join() {
        result.map_err(EngineError::Start)??;
    }
    if let Some(why) = failure.get() {
        return Err(EngineError::Elsewhere(why.clone()));
    }
    Ok(taken(&driver).filter(|_| cluster.process == 0))
}

fn taken<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A number for what all processes must agree on. Not persistent: it holds between processes of one build.
fn fingerprint(job: &Job) -> u64 {
    let (tables, settings) = (format!("{:?}", job.graph.tables()), format!("{:?}", job.settings));
    retally_core::operators::by_key::hash(&(job.definition.name, &job.tables, tables, settings))
}

/// Why process 0 failed, once the workers of a process have heard of it.
type Failure = Arc<OnceLock<String>>;

/// What the workers of a process share.
struct Process {
    /// Where its points go, until that is finished.
    outlet: Arc<Mutex<Option<Box<dyn Outlet>>>>,
    failure: Failure,
}

/// What worker 0 of process 0 tells the workers of all processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// There are no more points: see to it that all are written for good.
    Settle,
    /// The run has failed, and why.
    Stop(String),
}

/// What came of a process's points.
type Settled = Result<Dropped, String>;

/// A worker's end of the dataflow.
struct Engine {
    splits: InputHandleVec<Epoch, Split>,
    /// At time 0 until all is settled, then at 1.
    orders: InputHandleVec<Epoch, Order>,
    probe: ProbeHandle<Epoch>,
    /// Whether all processes have followed the orders.
    followed: ProbeHandle<Epoch>,
    tables: Vec<String>,
    gathered: Rc<RefCell<Gathered>>,
    epoch: Epoch,
    latest: Option<Moment>,
    /// Records refused in the epochs before.
    rejected: u64,
    routes: Routes,
}

/// What has arrived at worker 0 and not been taken.
#[derive(Default)]
struct Gathered {
    changes: Vec<Published>,
    reports: Vec<Report>,
    settled: Vec<Settled>,
}

impl Engine {
    fn build(worker: &mut Worker, job: &Job, opener: &FileOpener, points: &Arc<dyn Points>, process: &Process) -> Engine {
        worker.dataflow_named::<Epoch, _, _>(job.definition.name, |scope| {
            let gathered = Rc::new(RefCell::new(Gathered::default()));
            let followed = ProbeHandle::new();
            let (orders, told) = scope.new_input::<Order>();
            let settled = follow(told.broadcast(), opener.clone(), process);
            let arrived = Rc::clone(&gathered);
            let settled = settled.unary(Exchange::new(|_: &Settled| 0), "gather what settled", |_, _| {
                move |input, output| {
                    input.for_each(|capability, settled| {
                        arrived.borrow_mut().settled.append(settled);
                        output.session(&capability).give_container(&mut Vec::<()>::new());
                    });
                }
            });
            settled.probe_with(&followed);
            let (splits, stream) = scope.new_input::<Split>();
            let context = Context { calendar: job.graph.calendar() };
            let inputs = Inputs::new(stream, job.definition.inputs.clone(), Rc::new(opener.clone()), context, Arc::clone(points));
            let mut outputs = Outputs::new(job.tables.clone());
            job.graph.build(&inputs, &mut outputs);
            let probe = ProbeHandle::new();
            let (tables, changes) = outputs.gathered(scope);
            let arrived = Rc::clone(&gathered);
            let changes = changes.unary(Pipeline, "take changes", |_, _| {
                move |input, output| {
                    input.for_each(|capability, changes| {
                        arrived.borrow_mut().changes.append(changes);
                        output.session(&capability).give_container(&mut Vec::<()>::new());
                    });
                }
            });
            changes.probe_with(&probe);
            let arrived = Rc::clone(&gathered);
            let reports = inputs.into_reports().unary(Exchange::new(|_: &Report| 0), "gather reports", |_, _| {
                move |input, output| {
                    input.for_each(|capability, reports| {
                        arrived.borrow_mut().reports.append(reports);
                        output.session(&capability).give_container(&mut Vec::<()>::new());
                    });
                }
            });
            reports.probe_with(&probe);
            Engine { splits, orders, probe, followed, tables, gathered, epoch: 0, latest: None, rejected: 0, routes: Routes::default() }
        })
    }

    fn drive(&mut self, worker: &mut Worker, job: &Job, driver: &mut impl Driver) -> Result<(), EngineError> {
        while let Some(batch) = driver.next() {
            let commit = self.apply(worker, job, &batch, driver)?;
            driver.commit(commit).map_err(EngineError::Commit)?;
        }
        Ok(())
    }

    /// Has all processes write the last of their points.
    fn settle(&mut self, worker: &mut Worker) -> Result<Dropped, EngineError> {
        self.orders.send(Order::Settle);
        self.orders.advance_to(1);
        self.orders.flush();
        while self.followed.less_than(&1) {
            worker.step_or_park(Some(PROGRESS_EVERY));
        }
        let mut dropped = Dropped::default();
        for settled in std::mem::take(&mut self.gathered.borrow_mut().settled) {
            dropped.join(settled.map_err(PointsError::Write)?);
        }
        Ok(dropped)
    }

    /// Brings a batch through the dataflow.
    fn apply(&mut self, worker: &mut Worker, job: &Job, batch: &Batch, driver: &mut impl Driver) -> Result<Commit, EngineError> {
        let started = Instant::now();
        let arrival = Arrival { accept_until: now().plus(DAY), late_before: self.latest.unwrap_or(Moment::FIRST) };
        let plan = plan::plan(&job.definition, batch, arrival, &mut self.routes)?;
        self.epoch += 1;
        self.splits.advance_to(self.epoch);
        plan.splits.iter().for_each(|split| self.splits.send(split.clone()));
        self.splits.advance_to(self.epoch + 1);
        self.splits.flush();

        let mut reading = Reading::default();
        let mut told = Instant::now();
        while self.probe.less_than(&(self.epoch + 1)) {
            worker.step_or_park(Some(PROGRESS_EVERY));
            reading.take(&mut self.gathered.borrow_mut().reports)?;
            self.limit(job, &plan, &reading)?;
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                driver.progress(Progress { epoch: self.epoch, bytes: reading.bytes, bytes_all: plan.bytes, records: reading.records });
            }
        }
        reading.take(&mut self.gathered.borrow_mut().reports)?;
        self.limit(job, &plan, &reading)?;
        self.rejected += reading.rejected.len();
        self.latest = reading.done.iter().filter_map(|done| done.latest).chain(self.latest).max();

        let mut changes: BTreeMap<String, Vec<RowBatch>> = BTreeMap::new();
        for change in std::mem::take(&mut self.gathered.borrow_mut().changes) {
            if let Some(name) = self.tables.get(change.table) {
                changes.entry(name.clone()).or_default().push(change.rows);
            }
        }
        let mut summary = Summary::new(self.epoch, &plan, &reading.done, started.elapsed());
        reading.notes.sort_unstable();
        summary.notes = reading.notes;
        summary.passed_over.append(&mut reading.passed_over);
        summary.passed_over.sort_unstable();
        let rejected = reading.rejected.rows(&job.definition, &plan, &reading.done);
        Ok(Commit { summary, changes, rejected })
    }

    /// Ends a run as soon as it has refused too much, and not when it has read all the rest.
    fn limit(&self, job: &Job, plan: &Plan, reading: &Reading) -> Result<(), EngineError> {
        match job.rejected_max {
            Some(limit) if self.rejected + reading.rejected.len() > limit => {
                let first = reading.rejected.first(plan).unwrap_or_default();
                Err(EngineError::Rejected { limit, first })
            }
            _ => Ok(()),
        }
    }
}

/// Follows orders on a worker. The first of its process that is told to settle does so for all of them.
fn follow<'s>(told: VecStream<'s, Order>, reading: FileOpener, process: &Process) -> VecStream<'s, Settled> {
    let (outlet, failure) = (Arc::clone(&process.outlet), Arc::clone(&process.failure));
    told.unary::<CapacityContainerBuilder<Vec<Settled>>, _, _, _>(Pipeline, "follow orders", |_, _| {
        move |input, output| {
            input.for_each(|capability, orders| {
                let mut session = output.session(&capability);
                for order in orders.drain(..) {
                    match order {
                        Order::Settle => {
                            if let Some(outlet) = taken(&outlet) {
                                session.give(outlet.finish().map_err(|error| error.to_string()));
                            }
                        }
                        Order::Stop(why) => {
                            reading.cancel();
                            failure.set(why).ok();
                        }
                    }
                }
            });
        }
    })
}

/// What readers have reported of an epoch.
#[derive(Default)]
struct Reading {
    bytes: u64,
    records: u64,
    done: Vec<Done>,
    rejected: Refused,
    /// Files of archives that were passed over.
    passed_over: Vec<String>,
    notes: Vec<String>,
}

impl Reading {
    fn take(&mut self, reports: &mut Vec<Report>) -> Result<(), EngineError> {
        for report in reports.drain(..) {
            match report {
                Report::Progress { bytes, records } => {
                    self.bytes += bytes;
                    self.records += records;
                }
                Report::Rejected(rejected) => self.rejected.push(&rejected),
                Report::PassedOver { members, .. } => self.passed_over.extend(members),
                Report::Done(done) => self.done.push(done),
                Report::Failed { error, .. } => return Err(EngineError::Read(error)),
                Report::Note(note) => self.notes.push(note),
                Report::PointsFailed(error) => return Err(PointsError::Write(error).into()),
            }
        }
        Ok(())
    }
}

/// The machine's clock.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
