//! A dataflow on a worker, and on worker 0 what is under way in it.
//!
//! Batches are fed in the order in which they were offered, an epoch each; epochs are complete in that order too. Any number of epochs may
//! be in flight. Which events are late depends on the epochs before: where those have not been read yet, a small batch is fed all the same,
//! and its late events are counted when it is complete; a large one waits until they have been read.
//!
//! # Limits
//! A batch of more than [`OPEN_BYTES_MAX`] bytes, or a packed one, is not read while an earlier one is being read.

use super::clock::Clock;
use super::errors::EngineError;
use super::gather::{EpochReports, Gathered};
use super::job::Job;
use super::notices::{Notices, unusable};
use super::routes::Routes;
use super::summary::{Progress, Summary};
use super::unread::Unread;
use crate::ingest::IngestError;
use crate::ingest::plan::Plan;
use crate::ingest::read::FileOpener;
use crate::ingest::rejected::{self, there};
use retally_core::Epoch;
use retally_core::contract::{AsOf, Table};
use retally_core::decode::Inputs;
use retally_core::key_chart::KeyChart;
use retally_core::points::Points;
use retally_core::publish::Outputs;
use retally_core::row::RowBatch;
use retally_core::split::{Late, Location, Packing, Split};
use retally_core::texts::Texts;
use retally_core::time::Moment;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::worker::Worker;

/// A batch of up to so many bytes is read while earlier ones are: the times of its events are kept until then, and take about as much.
pub const OPEN_BYTES_MAX: u64 = 1 << 20;

/// The changes of an epoch.
#[derive(Debug)]
pub struct Commit {
    /// The dataflow's place among the jobs.
    pub dataflow: usize,
    /// What the batch was, and did.
    pub summary: Summary,
    /// The changes by table, each table's in sorted batches that may have rows in common.
    pub changes: BTreeMap<String, Vec<RowBatch>>,
    /// Rows that the table `rejected` gets or loses, sorted; with their batches, where the job wants them.
    pub rejected: Vec<RowBatch>,
    /// A file that has records of which none could be read, where there is one.
    pub unread: Option<Unread>,
    /// Why a file can't be used, where that showed when it was read.
    pub unusable: Option<IngestError>,
    /// The time of as-of. Where it is the latest event, that of all epochs up to this one: one that was taken back counts.
    pub as_of: Option<Moment>,
    /// It was applied before, by another run.
    pub is_replay: bool,
}

/// A planned batch with its epoch.
#[derive(Debug)]
pub struct Offer {
    /// The epoch: one more than that of the offer before.
    pub epoch: Epoch,
    /// Its splits.
    pub plan: Plan,
    /// When the batch arrived, for the time in its summary.
    pub arrived: Instant,
    /// It was applied before: what is refused of it does not count.
    pub is_replay: bool,
}

/// A dataflow on a worker.
pub struct Hosted {
    job: Job,
    /// The dataflow's place among the jobs.
    place: usize,
    splits: InputHandleVec<Epoch, Split>,
    /// Where it is as-of.
    clock: Option<Clock>,
    probe: ProbeHandle<Epoch>,
    tables: Vec<String>,
    gathered: Rc<RefCell<Gathered>>,
    waiting: VecDeque<Offer>,
    flights: VecDeque<Flight>,
    routes: Routes,
    /// The latest event of the epochs that are complete.
    latest: Option<Moment>,
    /// Records refused in the epochs that are complete.
    rejected: u64,
}

/// An epoch in flight.
struct Flight {
    offer: Offer,
    reports: EpochReports,
    /// What the clock shows, where that is as-of.
    now: Option<Moment>,
}

impl Flight {
    fn is_read(&self) -> bool {
        self.reports.done.len() == self.offer.plan.splits.len()
    }
}

impl Hosted {
    /// Builds the dataflow of a job on a worker.
    pub fn build(
        worker: &mut Worker,
        place: usize,
        job: &Job,
        opener: &FileOpener,
        points: &Arc<dyn Points>,
        texts: Option<Arc<Texts>>,
    ) -> Hosted {
        worker.dataflow_named::<Epoch, _, _>(job.definition.name, |scope| {
            let gathered = Rc::new(RefCell::new(Gathered::default()));
            let (splits, stream) = scope.new_input::<Split>();
            let inputs =
                Inputs::new(stream, job.definition.inputs.clone(), Rc::new(opener.clone()), job.graph.calendar(), Arc::clone(points));
            let (clock, shown) = (job.settings.as_of() == AsOf::Now).then(|| Clock::new(scope)).unzip();
            let inputs = inputs.with_texts(texts).of_clock(shown);
            let mut outputs = Outputs::new(job.tables.clone());
            job.graph.build(&inputs, &mut outputs);
            let probe = ProbeHandle::new();
            let tables = outputs.names();
            let arrived = Rc::clone(&gathered);
            let published: Vec<Table> = job.graph.tables().into_iter().chain(job.graph.key_charts().iter().map(KeyChart::pieces)).collect();
            let changes = outputs.gather(&inputs, &published, move |changes| arrived.borrow_mut().add_changes(changes));
            changes.probe_with(&probe);
            let arrived = Rc::clone(&gathered);
            let reports = inputs.gather_reports(move |reports| arrived.borrow_mut().reports.append(reports));
            reports.probe_with(&probe);
            Hosted {
                job: job.clone(),
                place,
                splits,
                clock,
                probe,
                tables,
                gathered,
                waiting: VecDeque::new(),
                flights: VecDeque::new(),
                routes: Routes::default(),
                latest: None,
                rejected: 0,
            }
        })
    }

    /// Takes a batch, which is fed with the next ones.
    pub fn offer(&mut self, offer: Offer) {
        self.waiting.push_back(offer);
    }

    /// Feeds what waits, as far as it need not wait for what is being read. Batches that are fed together are sent as of the first of them,
    /// and go through the graph together: what comes of each is told by the epochs of its splits.
    pub fn feed(&mut self) {
        let mut last = None;
        while let Some(offer) = self.waiting.pop_front() {
            let known = self.flights.iter().filter_map(|flight| flight.reports.latest()).chain(self.latest).max().unwrap_or(Moment::FIRST);
            let late = if self.flights.iter().all(Flight::is_read) { Late::Before(known) } else { Late::Undecided(known) };
            if matches!(late, Late::Undecided(_)) && !is_small(&offer.plan) {
                self.waiting.push_front(offer);
                break;
            }
            if last.is_none() {
                self.splits.advance_to(offer.epoch);
                self.clock.iter_mut().for_each(|clock| clock.advance_to(offer.epoch));
            }
            last = Some(offer.epoch);
            let now = self.clock.as_mut().and_then(|clock| clock.show(offer.epoch, offer.plan.arrived));
            // Handing a few lines to another worker and waiting for it takes longer than reading them.
            let alone = self.flights.is_empty() && offer.plan.splits.len() == 1 && is_small(&offer.plan);
            let limits = rejected::limits(&offer.plan, self.job.rejected_kept);
            // A worker reports the refused records of an epoch in the order of its splits: as many as are kept up to this one.
            let (mut rejected_kept, mut next) = (0u64, limits.iter().peekable());
            for split in &offer.plan.splits {
                while let Some((_, kept)) = next.next_if(|(first, _)| *first <= split.sequence) {
                    rejected_kept = rejected_kept.saturating_add(*kept);
                }
                let mut split = Split { epoch: offer.epoch, late, alone, rejected_kept, ..split.clone() };
                self.routes.assign(&mut split);
                self.splits.send(split);
            }
            self.flights.push_back(Flight { offer, reports: EpochReports::new(&limits), now });
        }
        if let Some(last) = last {
            self.splits.advance_to(last + 1);
            self.splits.flush();
            self.clock.iter_mut().for_each(|clock| clock.advance_to(last + 1));
        }
    }

    /// Takes what has arrived, and moves the epochs that are complete to `complete`, in order.
    pub fn poll(&mut self, complete: &mut Vec<Commit>) -> Result<(), EngineError> {
        let Some(first) = self.flights.front().map(|flight| flight.offer.epoch) else { return Ok(()) };
        let reports = std::mem::take(&mut self.gathered.borrow_mut().reports);
        if !reports.is_empty() {
            for (epoch, report) in reports {
                let flight = usize::try_from(epoch.saturating_sub(first)).ok().and_then(|place| self.flights.get_mut(place));
                flight.map_or(Ok(()), |flight| flight.reports.add(report, &flight.offer.plan))?;
            }
            self.check_rejected()?;
            self.feed();
        }
        while self.flights.front().is_some_and(|flight| !self.probe.less_than(&(flight.offer.epoch + 1))) {
            complete.extend(self.flights.pop_front().map(|flight| self.complete(flight)));
        }
        Ok(())
    }

    fn complete(&mut self, flight: Flight) -> Commit {
        let Flight { offer: Offer { epoch, plan, arrived, is_replay }, mut reports, now } = flight;
        reports.decide_late(self.latest.unwrap_or(Moment::FIRST));
        self.latest = reports.latest().into_iter().chain(self.latest).max();
        let as_of = match self.job.settings.as_of() {
            AsOf::Latest => self.latest,
            AsOf::At(moment) => Some(moment),
            AsOf::Now => now.max(self.latest).map(Moment::end_of_minute),
        };
        if !is_replay {
            self.rejected += reports.rejected_count();
        }
        let changes = self.gathered.borrow_mut().take_changes(epoch, &self.tables);
        let mut summary = Summary::new(epoch, &plan, &reports.done, arrived.elapsed());
        if reports.undone_accepted > 0 {
            summary.leave_out(reports.undone_accepted);
        }
        let notices = Notices::new(&self.job, &plan, &reports.done);
        summary.reasons = reports.rejected.reasons_counted().clone();
        summary.notes.append(&mut reports.notes);
        summary.notes.extend(notices.notes());
        if reports.rejected.not_kept() > 0 {
            let (kept, all) = (reports.rejected.kept(), reports.rejected.len());
            // More would take too much memory.
            let limit = if kept < self.job.rejected_kept { "more would be over 128 MiB" } else { "--keep-rejected" };
            summary.notes.push(format!("of {all} rejected records, {kept} are in the table rejected ({limit})"));
        }
        summary.notes.sort_unstable();
        summary.passed_over.append(&mut reports.passed_over);
        summary.passed_over.sort_unstable();
        let batch = self.job.rejected_by_batch.then_some(epoch);
        let rejected = reports.rejected.rows(&reports.undone, &self.job.definition, &plan, &reports.done, batch);
        // Of batches that are applied as one, what left again was never there.
        let rejected = if is_replay { there(rejected) } else { rejected };
        let unread = notices.unread(&reports);
        let unusable = unusable(&plan, &reports.done, &summary.passed_over);
        Commit { dataflow: self.place, summary, changes, rejected, unread, unusable, as_of, is_replay }
    }

    /// An error as soon as more is refused than may be, and not when all the rest has been read.
    fn check_rejected(&self) -> Result<(), EngineError> {
        let Some(limit) = self.job.rejected_max else { return Ok(()) };
        let mut rejected = self.rejected;
        for Flight { offer, reports, .. } in self.flights.iter().filter(|flight| !flight.offer.is_replay) {
            rejected += reports.rejected_count();
            if rejected > limit {
                let first = reports.rejected.first(&offer.plan).unwrap_or_default();
                return Err(EngineError::Rejected { limit, first });
            }
        }
        Ok(())
    }

    /// Whether any batch is under way.
    pub fn is_busy(&self) -> bool {
        !self.flights.is_empty() || !self.waiting.is_empty()
    }

    /// How far the first epoch in flight is.
    pub fn progress(&self) -> Option<Progress> {
        let Flight { offer, reports, .. } = self.flights.front()?;
        Some(Progress { epoch: offer.epoch, bytes: reports.bytes, bytes_all: offer.plan.bytes, records: reports.records })
    }
}

/// Whether the times of a batch's events can be kept.
fn is_small(plan: &Plan) -> bool {
    // A dataset has no times that could be late, and what it has of bytes is not known.
    let plain = |split: &Split| split.packing == Packing::Plain && matches!(split.location, Location::Inline(_) | Location::File(_));
    plan.bytes <= OPEN_BYTES_MAX && plan.splits.iter().all(plain)
}
