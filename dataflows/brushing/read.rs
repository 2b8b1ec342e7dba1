//! The operator that reads datasets: one worker reads one dataset, both streams together, and gives its points away as it goes.
//!
//! Each worker reads the datasets that fall to it, some blocks per activation, and holds the epoch's capability until their points are
//! written: a destination that is behind slows the reading down. When a stream has nothing to give (a connection that is slow, or a failed
//! one that is left alone for a while), the next dataset is begun meanwhile, up to [`OPEN_MAX`] of them.
//!
//! A worker remembers of each of its datasets where it was read and what came of it; so a dataset that comes again replaces what it was, in
//! tables and points, and can be taken away.
//!
//! The lines that are skipped of a version that is delivered are reported once: not when the dataset is taken away, and not when the same
//! files come again, which are not read again. A version that can't be read to its end reports none, since the next attempt may read
//! another, and is refused itself. Of a version of which nothing could be read, the report states it, and whether it replaces one that was.
//!
//! A delivered stream that is not what was planned ends the run: what was read of it is in points already, and another attempt would read
//! something else.
//!
//! # Limits
//! Points of an old version can be taken back one by one only as long as its streams are what they were, because they are read once more.
//! Where they are not, and the destination can't delete a series, the points that the new version lacks remain, and a note reports it.

use crate::machine::Machine;
use crate::outcome::{DatasetOutcome, Outcome, Status};
use crate::phase::{Ending, Phase, ReadError, Reader, SeriesPair, Went};
use crate::records::Accepted;
use crate::settings::Rules;
use crate::skipped::SkippedLine;
use crate::tables;
use differential_dataflow::AsCollection;
use retally_core::VecStream;
use retally_core::decode::Inputs;
use retally_core::points::{Measurement, PointWriter, RETRY_AFTER, Series, Standing};
use retally_core::split::{
    ByteStream, Chunk, Dataset, Done, Location, Opener, Rejected, Report, Split, SplitError, StreamError, UnreadDataset,
};
use retally_core::{Collection, Epoch};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// How many datasets a worker has open at a time, when they have to be waited for.
pub const OPEN_MAX: usize = 4;

/// The datasets of an input, each with what came of it.
pub fn datasets<'s>(inputs: &Inputs<'s>, name: &str, rules: &Rules) -> Collection<'s, DatasetOutcome> {
    let splits: VecStream<'s, Split> = inputs.datasets(name);
    let scope = splits.scope();
    let mut builder = OperatorBuilder::new(format!("read {name}"), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut input = builder.new_input(splits, Exchange::new(Split::route));
    let (jobs, job_stream) = builder.new_output();
    let (reports, report_stream) = builder.new_output();
    let mut jobs = OutputBuilder::<_, CapacityContainerBuilder<Vec<(DatasetOutcome, Epoch, isize)>>>::from(jobs);
    let mut reports = OutputBuilder::<_, CapacityContainerBuilder<Vec<(Epoch, Report)>>>::from(reports);
    let (opener, points, rules) = (inputs.opener(), Arc::clone(inputs.points()), rules.clone());
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut worker = Worker::new(rules, opener, points.writer());
        move |_frontiers| {
            input.for_each(|capability, splits| {
                for split in splits.drain(..) {
                    let (jobs, reports) = (capability.delayed(&split.epoch, 0), capability.delayed(&split.epoch, 1));
                    worker.queue.push_back(Pending { split, held: Held { jobs, reports } });
                }
            });
            let next = worker.step();
            let (mut jobs, mut reports) = (jobs.activate(), reports.activate());
            for said in worker.said.drain(..) {
                let epoch = *said.held.jobs.time();
                jobs.session(&said.held.jobs).give_iterator(said.jobs.into_iter().map(|(job, diff)| (job, epoch, diff)));
                reports.session(&said.held.reports).give_iterator(said.reports.into_iter().map(|report| (epoch, report)));
            }
            match next {
                Activity::Busy => activator.activate(),
                Activity::Waiting => activator.activate_after(RETRY_AFTER),
                Activity::Idle => {}
            }
        }
    });
    inputs.add_reports(report_stream);
    job_stream.as_collection()
}

/// The capabilities of an epoch.
#[derive(Clone)]
struct Held {
    jobs: Capability<Epoch>,
    reports: Capability<Epoch>,
}

impl Held {
    fn epoch(&self) -> Epoch {
        *self.jobs.time()
    }
}

struct Pending {
    split: Split,
    held: Held,
}

/// Changes and reports to be sent.
struct Said {
    held: Held,
    jobs: Vec<(DatasetOutcome, isize)>,
    reports: Vec<Report>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    Busy,
    Waiting,
    Idle,
}

/// What is remembered of a dataset.
#[derive(Clone)]
struct Known {
    /// Where its streams are, what told their bytes, and which times the batch accepted.
    dataset: Dataset,
    versions: Option<Vec<String>>,
    accepted_times: Accepted,
    /// What came of it; `None` once it has been taken away.
    outcome: Option<Outcome>,
}

/// A dataset that is being worked on.
struct OpenDataset {
    dataset: Dataset,
    split: Split,
    held: Held,
    versions: Option<Vec<String>>,
    /// What is done, and what has to be done after it.
    phase: Phase,
    doing: Doing,
    then: VecDeque<Doing>,
    attempt: u32,
    /// A stream had nothing to give, when it was asked last.
    waits: bool,
    bytes_reported: u64,
    points_reported: u64,
    outcome: Option<Outcome>,
    /// The first skipped lines of what is delivered, with the places of their streams.
    skipped: Vec<(usize, SkippedLine)>,
    notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Write all points.
    Write(Standing),
    /// Retract the points of the old version.
    Retract,
    /// Write and retract what makes the difference to the old version, of this measurement.
    Replace(usize),
}

/// Why the run ends.
enum Fatal {
    /// Points can't be written.
    Points(String),
    /// A stream of the first open dataset is not what was planned.
    Changed(SplitError),
}

/// As destinations of points say it.
impl From<String> for Fatal {
    fn from(why: String) -> Fatal {
        Fatal::Points(why)
    }
}

/// A worker's datasets.
struct Worker {
    rules: Rules,
    opener: Rc<dyn Opener>,
    writer: Box<dyn PointWriter>,
    measurements: Vec<Arc<Measurement>>,
    queue: VecDeque<Pending>,
    open: VecDeque<OpenDataset>,
    known: BTreeMap<Vec<String>, Known>,
    /// Epochs whose points are not all written.
    unflushed: BTreeMap<Epoch, Held>,
    said: Vec<Said>,
    failed: bool,
}

impl Worker {
    fn new(rules: Rules, opener: Rc<dyn Opener>, writer: Box<dyn PointWriter>) -> Worker {
        let measurements = tables::measurements().into_iter().map(Arc::new).collect();
        Worker {
            rules,
            opener,
            writer,
            measurements,
            queue: VecDeque::new(),
            open: VecDeque::new(),
            known: BTreeMap::new(),
            unflushed: BTreeMap::new(),
            said: Vec::new(),
            failed: false,
        }
    }

    /// Does a part of what there is to do.
    fn step(&mut self) -> Activity {
        if self.failed {
            self.queue.clear();
            return Activity::Idle;
        }
        match self.work() {
            Ok(activity) => activity,
            Err(error) => {
                self.failed = true;
                let held = self.open.front().map(|open| open.held.clone()).or(self.unflushed.values().next().cloned());
                let sequence = self.open.front().map_or(0, |open| open.split.sequence);
                let report = match error {
                    Fatal::Points(why) => Report::PointsFailed(why),
                    Fatal::Changed(error) => Report::Failed { sequence, error },
                };
                self.said.extend(held.map(|held| Said { held, jobs: Vec::new(), reports: vec![report] }));
                // Nothing is waited for any more: the run ends.
                self.open.clear();
                self.queue.clear();
                self.unflushed.clear();
                Activity::Idle
            }
        }
    }

    fn work(&mut self) -> Result<Activity, Fatal> {
        // Those that wait go to the back; when all do, another is begun.
        for _ in 0..OPEN_MAX {
            if self.open.len() < OPEN_MAX && self.open.iter().all(|open| open.waits) {
                self.begin()?;
            }
            let Some(open) = self.open.front_mut() else { break };
            match open.phase.step(&mut *self.writer)? {
                Went::Wait => {
                    open.waits = true;
                    self.open.rotate_left(1);
                }
                Went::Behind => {
                    // It stays the first: its batch has to be offered again before any other.
                    open.waits = false;
                    return Ok(Activity::Waiting);
                }
                Went::On => {
                    open.waits = false;
                    self.progress();
                    return Ok(Activity::Busy);
                }
                Went::End(end) => {
                    self.progress();
                    if let Some(open) = self.open.pop_front() {
                        self.end_phase(open, end)?;
                    }
                    return Ok(Activity::Busy);
                }
            }
        }
        if !self.open.is_empty() {
            return Ok(Activity::Waiting);
        }
        if !self.queue.is_empty() {
            return Ok(Activity::Busy);
        }
        if !self.unflushed.is_empty() && !self.writer.flush()? {
            return Ok(Activity::Waiting);
        }
        self.unflushed.clear();
        Ok(Activity::Idle)
    }

    /// Reports how far the first open dataset is read.
    fn progress(&mut self) {
        let Some(open) = self.open.front_mut() else { return };
        let (bytes, points) = (open.phase.bytes_read(), open.phase.handed_over.iter().sum::<u64>());
        // A phase after the first, or an attempt, reads bytes that were counted before.
        if bytes > open.bytes_reported || points > open.points_reported {
            let bytes_more = bytes.saturating_sub(open.bytes_reported);
            let report = Report::Progress { bytes: bytes_more, records: points.saturating_sub(open.points_reported), refused: 0 };
            open.bytes_reported = open.bytes_reported.max(bytes);
            open.points_reported = open.points_reported.max(points);
            self.said.push(Said { held: open.held.clone(), jobs: Vec::new(), reports: vec![report] });
        }
    }

    /// Begins with the next dataset, unless it has to wait for another.
    fn begin(&mut self) -> Result<(), String> {
        let Some(Pending { split, held }) = self.queue.front() else { return Ok(()) };
        let dataset = match &split.location {
            Location::Dataset(dataset) => dataset,
            Location::Refused(job) => {
                let rejected = Rejected {
                    sequence: split.sequence,
                    member: None,
                    line: job.line,
                    nth: 0,
                    reason: job.reason.clone(),
                    raw: job.raw.clone(),
                };
                let done = Done { sequence: split.sequence, rejected: 1, ..Done::default() };
                let reports = vec![Report::Rejected(rejected), Report::Done(done)];
                self.said.push(Said { held: held.clone(), jobs: Vec::new(), reports });
                self.queue.pop_front();
                return Ok(());
            }
            Location::File(_) | Location::Stream { .. } | Location::Inline(_) => {
                let error = "an input of datasets got a file of records".to_string().into();
                let reports = vec![Report::Failed { sequence: split.sequence, error }];
                self.said.push(Said { held: held.clone(), jobs: Vec::new(), reports });
                self.queue.pop_front();
                return Ok(());
            }
        };
        // Epochs are taken one after the other, and versions of a dataset too.
        if self.open.iter().any(|open| open.held.epoch() != held.epoch() || open.dataset.key == dataset.key) {
            return Ok(());
        }
        let dataset = dataset.clone();
        let Some(Pending { split, held }) = self.queue.pop_front() else { return Ok(()) };
        let mut notes = Vec::new();
        let mut then: VecDeque<Doing> = self.plan(&dataset, split.sign < 0, &mut notes)?.into();
        let Some(doing) = then.pop_front() else {
            let known = self.known.get(&dataset.key).filter(|_| split.sign > 0);
            let (versions, outcome) = known.map_or((None, None), |known| (known.versions.clone(), known.outcome.clone()));
            // Its lines were reported when it was read.
            let done = Done { rejected: 0, ..done(&split, outcome.as_ref(), outcome.as_ref()) };
            self.said.push(said(&held, &notes, Vec::new(), done));
            self.end(&dataset, &split, &held, versions, outcome);
            return Ok(());
        };
        let versions = self.versions(&dataset);
        let phase = self.phase(doing, &dataset, accepted_times(&split), 0);
        let open = OpenDataset {
            dataset,
            split,
            held,
            versions,
            phase,
            doing,
            then,
            attempt: 0,
            waits: false,
            bytes_reported: 0,
            points_reported: 0,
            outcome: None,
            skipped: Vec::new(),
            notes,
        };
        self.open.push_front(open);
        Ok(())
    }

    /// What has to be done for a delivery.
    fn plan(&mut self, dataset: &Dataset, taken_away: bool, notes: &mut Vec<String>) -> Result<Vec<Doing>, String> {
        let write = |standing| if taken_away { Vec::new() } else { vec![Doing::Write(standing)] };
        let Some(known) = self.known.get(&dataset.key).cloned() else { return Ok(write(Standing::Fresh)) };
        let Some(old) = known.outcome else { return Ok(write(Standing::Restored)) };
        let unchanged = known.versions.is_some() && known.versions == self.versions(&known.dataset);
        // What process 0 planned may be another file, while a copy on this one is what it was.
        let same = (&known.dataset.streams, &known.dataset.versions) == (&dataset.streams, &dataset.versions);
        if !taken_away && unchanged && old.status != Status::Failed && same {
            return Ok(Vec::new());
        }
        if old.brushing_points + old.settings_points == 0 {
            return Ok(write(Standing::Restored));
        }
        let mut deleted = true;
        for series in self.series(&dataset.key) {
            deleted &= self.writer.delete_series(&series)?;
        }
        if deleted {
            return Ok(write(Standing::Fresh));
        }
        if !unchanged {
            notes.push(not_taken_back(&dataset.key, "its files are not what they were"));
            return Ok(write(Standing::Restored));
        }
        if taken_away {
            return Ok(vec![Doing::Retract]);
        }
        // What lies between times that go back can't be compared.
        if old.unordered {
            return Ok(vec![Doing::Retract, Doing::Write(Standing::Restored)]);
        }
        Ok(vec![Doing::Replace(0), Doing::Replace(1)])
    }

    fn versions(&self, dataset: &Dataset) -> Option<Vec<String>> {
        dataset.streams.iter().map(|stream| self.opener.version(stream)).collect()
    }

    fn series(&self, key: &[String]) -> Vec<Arc<Series>> {
        let series = |measurement: &Arc<Measurement>| Arc::new(Series { measurement: Arc::clone(measurement), tags: key.to_vec() });
        self.measurements.iter().map(series).collect()
    }

    fn phase(&self, doing: Doing, dataset: &Dataset, accepted_times: Accepted, attempt: u32) -> Phase {
        let series: SeriesPair = match self.series(&dataset.key).try_into() {
            Ok(pair) => pair,
            Err(series) => panic!("a dataset has two series, and these are {series:?}"),
        };
        let reader = |dataset: &Dataset, accepted_times, standing, fails| {
            let [brushing, settings] = opened(dataset, &*self.opener, attempt);
            Reader::new(Machine::new(&self.rules, accepted_times, brushing, settings), &series, standing, fails)
        };
        let old = |standing| {
            let known = self.known.get(&dataset.key).unwrap_or_else(|| panic!("there is no old version of {:?}", dataset.key));
            let failed = known.outcome.as_ref().is_some_and(|outcome| outcome.status == Status::Failed);
            reader(&known.dataset, known.accepted_times, standing, failed)
        };
        match doing {
            Doing::Write(standing) => Phase::all(reader(dataset, accepted_times, standing, false)),
            Doing::Retract => Phase::all(old(Standing::Retracted)),
            Doing::Replace(measurement) => {
                let new = reader(dataset, accepted_times, Standing::Restored, false);
                Phase::difference(measurement, &series, old(Standing::Retracted), new)
            }
        }
    }

    /// A phase of a dataset has ended. An error ends the run; the dataset is the first open one then.
    fn end_phase(&mut self, mut open: OpenDataset, end: Result<Ending, ReadError>) -> Result<(), Fatal> {
        let reading_old = open.doing == Doing::Retract;
        match end {
            Ok(Ending { outcome, skipped }) => {
                if !reading_old && open.outcome.is_none() {
                    if outcome.unordered && matches!(open.doing, Doing::Replace(_)) {
                        open.then.push_back(Doing::Write(Standing::Restored));
                    }
                    open.outcome = Some(outcome);
                    open.skipped = skipped;
                }
            }
            Err(ReadError { old: false, why: StreamError::Changed(error) }) if !reading_old => {
                self.open.push_front(open);
                return Err(Fatal::Changed(error));
            }
            Err(ReadError { why: StreamError::Broken(_), .. }) if open.attempt + 1 < self.opener.attempts_max() => {
                open.attempt += 1;
                let handed_over = open.phase.handed_over;
                open.phase = self.phase(open.doing, &open.dataset, accepted_times(&open.split), open.attempt).after(handed_over);
                self.open.push_back(open);
                return Ok(());
            }
            Err(error) if reading_old || error.old => {
                open.notes.push(not_taken_back(&open.dataset.key, &error.why.to_string()));
                if !reading_old {
                    open.then = VecDeque::from([Doing::Write(Standing::Restored)]);
                }
            }
            Err(error) => {
                if matches!(open.doing, Doing::Replace(_)) {
                    open.notes.push(not_taken_back(&open.dataset.key, "its new version could not be read to the end"));
                }
                let points =
                    if open.doing == Doing::Replace(0) || open.doing == Doing::Replace(1) { [0, 0] } else { open.phase.handed_over };
                open.outcome = Some(Outcome::failed(error.why.to_string(), points));
                open.skipped.clear();
                open.then.clear();
            }
        }
        if let Some(doing) = open.then.pop_front() {
            open.doing = doing;
            open.attempt = 0;
            open.phase = self.phase(doing, &open.dataset, accepted_times(&open.split), 0);
            self.open.push_front(open);
            return Ok(());
        }
        let key = &open.dataset.key;
        let old = self.known.get(key).and_then(|known| known.outcome.as_ref());
        let done = done(&open.split, open.outcome.as_ref(), old);
        let mut rejected: Vec<Rejected> = open.skipped.drain(..).map(|(stream, line)| rejected(&open.split, key, stream, line)).collect();
        if let Some(unread) = done.unread.as_ref().filter(|_| rejected.is_empty()) {
            rejected.push(rejected_whole(&open.split, key, &unread.why));
        }
        self.said.push(said(&open.held, &open.notes, rejected, done));
        let versions = open.versions.filter(|versions| self.versions(&open.dataset).as_ref() == Some(versions));
        self.end(&open.dataset, &open.split, &open.held, versions, open.outcome);
        Ok(())
    }

    /// A delivery has been dealt with.
    fn end(&mut self, dataset: &Dataset, split: &Split, held: &Held, versions: Option<Vec<String>>, outcome: Option<Outcome>) {
        let outcome = outcome.filter(|_| split.sign > 0);
        let old = self.known.get(&dataset.key);
        let job = |outcome: Outcome| (dataset.key.clone(), outcome);
        let gone = old.and_then(|known| known.outcome.clone()).map(|outcome| (job(outcome), -1));
        let jobs = gone.into_iter().chain(outcome.clone().map(|outcome| (job(outcome), 1))).collect();
        self.said.push(Said { held: held.clone(), jobs, reports: Vec::new() });
        if old.is_some() || split.sign > 0 {
            let known = Known { dataset: dataset.clone(), versions, accepted_times: accepted_times(split), outcome };
            self.known.insert(dataset.key.clone(), known);
        }
        self.unflushed.insert(held.epoch(), held.clone());
    }
}

/// The times that the batch of a split accepts.
pub fn accepted_times(split: &Split) -> Accepted {
    Accepted::new(split.accept_from, split.accept_until)
}

/// The two streams of a dataset.
pub fn opened(dataset: &Dataset, opener: &dyn Opener, attempt: u32) -> [Box<dyn ByteStream>; 2] {
    let stream = |place: usize| -> Box<dyn ByteStream> {
        match &dataset.missing {
            Some(why) => Box::new(Missing(why.clone())),
            None => opener.stream(dataset, place, attempt),
        }
    };
    let streams: Vec<_> = (0..dataset.streams.len()).map(stream).collect();
    streams.try_into().unwrap_or_else(|_| panic!("a dataset has two streams, and these are {:?}", dataset.streams))
}

/// A stream that could not be had when its dataset was delivered.
struct Missing(String);

impl ByteStream for Missing {
    fn read(&mut self, _buffer: &mut [u8]) -> Result<Chunk, StreamError> {
        Err(StreamError::Broken(self.0.clone()))
    }

    fn bytes_read(&self) -> u64 {
        0
    }
}

/// What is reported of a delivery that came to this, where it was `old` before. A dataset that failed is refused itself; of one that is
/// unsalvageable its lines are, or itself where it has none.
fn done(split: &Split, outcome: Option<&Outcome>, old: Option<&Outcome>) -> Done {
    let done = Done { sequence: split.sequence, lines: 1, accepted: 1, ..Done::default() };
    let Some(outcome) = outcome.filter(|_| split.sign > 0) else { return done };
    let unread = (outcome.status != Status::Done)
        .then(|| UnreadDataset { why: outcome.error.clone(), replaces: old.is_some_and(|old| old.status == Status::Done) });
    Done {
        accepted: u64::from(outcome.status != Status::Failed),
        rejected: outcome.skipped_lines.max(u64::from(unread.is_some())),
        unread,
        ..done
    }
}

/// A dataset as a refused record.
fn rejected_whole(split: &Split, key: &[String], why: &str) -> Rejected {
    Rejected { sequence: split.sequence, member: Some(key.join("/")), line: 0, nth: 0, reason: why.into(), raw: Vec::new() }
}

/// What is reported of a delivery; the first of its refused lines are `rejected`.
fn said(held: &Held, notes: &[String], rejected: Vec<Rejected>, done: Done) -> Said {
    let reports = rejected.into_iter().map(Report::Rejected).chain(notes.iter().cloned().map(Report::Note));
    Said { held: held.clone(), jobs: Vec::new(), reports: reports.chain([Report::Done(done)]).collect() }
}

/// A skipped line as a refused record. Its stream is named by the dataset's key and the stream's usual name: URLs may hold secrets.
fn rejected(split: &Split, key: &[String], stream: usize, skipped: SkippedLine) -> Rejected {
    let name = crate::FILES.streams.get(stream).map_or("", |(_, file)| *file);
    let member = Some(format!("{}/{name}", key.join("/")));
    Rejected { sequence: split.sequence, member, line: skipped.line, nth: 0, reason: skipped.reason.text().into(), raw: skipped.raw }
}

fn not_taken_back(key: &[String], why: &str) -> String {
    format!("points of dataset {:?} as it was before may remain: {why}", key.join("/"))
}
