//! The way of a batch behind the door: into the journal and the engine side by side, then into the tables, then to its answer.
//!
//! Two threads do it. [`journal`] takes what is waiting, numbers it, writes a frame each, offers all of it to the engine and waits for one
//! sync: what comes meanwhile is the next run. [`commit`] takes the epochs that are complete and on the disk, applies them in one
//! transaction, lets readers see them, and answers. No timer is in the way, and neither thread waits for a reader.
//!
//! A sync that fails ends the process: the engine has got what the disk may not have. A disk that is full is told before that, and refuses
//! the batches of the run.

use super::ServeError;
use super::folding::Folding;
use super::further::Changed;
use super::recent::EpochChanges;
use super::served::Served;
use super::service::{Incoming, KeyGuard, Phase, Refused, Reply, Service, Wait};
use crate::engine::host::{Completed, Host};
use crate::engine::{Commit, EngineError};
use crate::ingest::plan::Plan;
use crate::ingest::rejected::without_batches;
use crate::sinks::live::{BatchAnswer, BatchRow, Live, LiveEpoch};
use crate::sinks::{Reached, SinkError};
use crate::state::frame::{Answer, Answered, Frame, Part};
use crate::state::{State, StateError};
use crate::tables::{Run, Tables, consolidated};
use retally_core::Epoch;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use retally_core::time::Moment;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// So many names of a batch are written down.
const NAMES_MAX: usize = 10;
/// So many batches go into the journal with one sync.
const RUN_MAX: usize = 256;
/// So many are in the journal and not in the tables.
const UNDER_WAY_MAX: usize = 768;
/// How often the engine is asked whether it is still there.
const POLL: Duration = Duration::from_secs(1);
/// How long a commit that failed is put off.
const PUT_OFF: Duration = Duration::from_millis(500);
/// How often old changes are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// What both threads know.
#[derive(Debug, Default)]
pub struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    /// Batches in the journal and not in the tables.
    pending: BTreeMap<(usize, Epoch), Pending>,
    /// What came of batches, to be written with the next.
    answered: Vec<Answered>,
    /// Dataflows whose batches are being taken up.
    replaying: usize,
    /// The other thread has failed.
    failed: bool,
}

/// A batch in the journal.
#[derive(Debug)]
struct Pending {
    batch: BatchRow,
    began: Instant,
    /// The disk has it.
    durable: bool,
    reply: Option<(Wait, oneshot::Sender<Result<Reply, Refused>>)>,
    key: Option<KeyGuard>,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, mut is_so: impl FnMut(&mut Known) -> bool) -> MutexGuard<'_, Known> {
        let known = self.known();
        self.changed.wait_while(known, |known| !known.failed && !is_so(known)).unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing comes of what is under way any more.
    pub fn fail(&self) {
        self.known().failed = true;
        self.changed.notify_all();
    }

    /// A dataflow's batches are being taken up.
    pub fn replaying(&self) {
        self.known().replaying += 1;
    }

    /// Waits until all that is in the journal is in the tables. Not so, where something has failed.
    pub fn drained(&self) -> bool {
        !self.wait_until(|known| known.pending.is_empty() && known.replaying == 0).failed
    }

    /// Waits until the tables have the epochs of each dataflow up to these. Not so, where something has failed.
    pub fn applied(&self, until: &[Epoch]) -> bool {
        let is_behind = |(place, epoch): &(usize, Epoch)| until.get(*place).is_none_or(|until| epoch > until);
        !self.wait_until(|known| known.pending.keys().all(is_behind)).failed
    }

    fn add(&self, service: &Service, place: (usize, Epoch), pending: Pending) {
        let mut known = self.known();
        known.pending.insert(place, pending);
        service.metrics.under_way.set(i64::try_from(known.pending.len()).unwrap_or(i64::MAX));
    }

    /// How many more batches may be under way. Waits until there is one.
    fn room(&self) -> usize {
        UNDER_WAY_MAX.saturating_sub(self.wait_until(|known| known.pending.len() < UNDER_WAY_MAX).pending.len())
    }
}

/// A batch as it stands in the journal, for those who read what was fed.
pub fn batch_row(frame: &Frame) -> BatchRow {
    let answer = frame.answer.as_ref().map(|answer| batch_answer(answer, Duration::ZERO));
    BatchRow {
        epoch: frame.epoch,
        arrived: Moment(frame.arrived),
        parts: frame.parts.len() as u64,
        name: names(&frame.parts),
        key: frame.key.as_ref().map(|key| (key.key.clone(), key.body.clone())),
        answer,
    }
}

/// The names of what a batch is of: of many the first ones, and how many more there are.
fn names(parts: &[Part]) -> String {
    if parts.is_empty() {
        return "clock".into();
    }
    let mut names: Vec<&str> = Vec::new();
    for part in parts {
        if !names.contains(&part.name.as_str()) {
            names.push(&part.name);
        }
    }
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let first = names.join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

fn batch_answer(answer: &Answer, time: Duration) -> BatchAnswer {
    let Answer { accepted, late, rejected, changed } = answer;
    // Names and numbers.
    let changed = serde_json::to_string(changed).unwrap_or_default();
    BatchAnswer { accepted: *accepted, late: *late, rejected: *rejected, changed, ms: time.as_secs_f64() * 1_000.0 }
}

/// Offers the batches of the journal behind what the tables have reached, one by one.
pub fn catch_up(service: &Service, state: &State, host: &Host, shared: &Shared, reached: &[Epoch]) -> Result<(), ServeError> {
    for frame in state.all_frames() {
        let Some(place) = service.place(&frame.dataflow) else { continue };
        if reached.get(place).is_none_or(|reached| frame.epoch <= *reached) {
            continue;
        }
        let Some(served) = service.dataflows.get(place) else { continue };
        if shared.room() == 0 {
            return Ok(());
        }
        let parts: Vec<_> = frame.parts.iter().enumerate().map(|(place, part)| (frame.origin(place), part)).collect();
        let plan = Plan { arrived: Some(Moment(frame.arrived)), ..service.files.plan_again(served.of(), &parts)? };
        let pending = Pending { batch: batch_row(frame), began: Instant::now(), durable: true, reply: None, key: None };
        shared.add(service, (place, frame.epoch), pending);
        host.offer(place, plan, Instant::now())?;
    }
    Ok(())
}

/// Takes batches until nobody can offer any more.
pub fn journal(
    service: &Service,
    mut state: State,
    host: &Host,
    queue: &Receiver<Incoming>,
    shared: &Arc<Shared>,
) -> Result<(), ServeError> {
    let mut folding = Folding::default();
    while let Ok(first) = queue.recv() {
        let room = shared.room().min(RUN_MAX);
        if room == 0 {
            return Ok(());
        }
        let run: Vec<Incoming> = std::iter::once(first).chain(queue.try_iter()).take(room).collect();
        service.metrics.waiting.dec_by(i64::try_from(run.len()).unwrap_or(i64::MAX));
        append(service, &mut state, host, run, shared)?;
        let applied = Arc::clone(shared);
        folding.look(service, &mut state, move |until| applied.applied(until))?;
    }
    if shared.drained() {
        // What came of the last batches.
        let answered = std::mem::take(&mut shared.known().answered);
        state.write(Vec::new(), &answered)?;
        state.sync()?;
    }
    host.end();
    folding.end(service);
    Ok(())
}

/// Puts a run of batches into the journal and the engine.
fn append(service: &Service, state: &mut State, host: &Host, run: Vec<Incoming>, shared: &Shared) -> Result<(), ServeError> {
    let mut next: BTreeMap<usize, Epoch> = BTreeMap::new();
    let (mut frames, mut rest) = (Vec::new(), Vec::new());
    for mut incoming in run {
        let Some(served) = service.dataflows.get(incoming.dataflow) else { continue };
        let epoch = next.entry(incoming.dataflow).or_insert_with(|| state.epoch(served.name()));
        *epoch += 1;
        let parts = std::mem::take(&mut incoming.parts);
        let positions = std::mem::take(&mut incoming.positions);
        let key = incoming.key.as_ref().map(|(key, _)| key.clone());
        let frame =
            Frame { dataflow: served.name().into(), epoch: *epoch, arrived: incoming.arrived.0, parts, key, answer: None, positions };
        rest.push((incoming, batch_row(&frame)));
        frames.push(frame);
    }
    let answered = std::mem::take(&mut shared.known().answered);
    match state.write(frames, &answered) {
        Ok(()) => {}
        Err(error @ StateError::Unsynced { .. }) => return Err(error.into()),
        Err(error) => {
            shared.known().answered.splice(0..0, answered);
            rest.into_iter().for_each(|(incoming, _)| drop(incoming.reply.send(Err(Refused::Disk(error.to_string())))));
            return Ok(());
        }
    }
    let (mut written, mut later) = (Vec::new(), Vec::new());
    let offer = |(place, epoch): (usize, Epoch), plan, began| -> Result<(), ServeError> {
        let offered = host.offer(place, plan, began)?;
        assert_eq!(offered, epoch, "the engine and the journal number batches alike");
        Ok(())
    };
    for (incoming, batch) in rest {
        let Incoming { dataflow, plan, arrived, key, began, wait, reply, .. } = incoming;
        let plan = Plan { arrived: Some(arrived), ..plan };
        let place = (dataflow, batch.epoch);
        let pending = Pending { batch, began, durable: false, reply: Some((wait, reply)), key: key.map(|(_, guard)| guard) };
        shared.add(service, place, pending);
        if service.dataflows.get(dataflow).is_some_and(Served::writes_points) {
            // Points leave as they are computed, and none may be of a batch that is not there after all.
            later.push((place, plan, began));
        } else {
            offer(place, plan, began)?;
        }
        written.push(place);
    }
    let began = Instant::now();
    sync(service, state)?;
    service.metrics.sync.observe(began.elapsed().as_secs_f64());
    later.into_iter().try_for_each(|(place, plan, began)| offer(place, plan, began))?;
    let mut known = shared.known();
    for place in written {
        let Some(pending) = known.pending.get_mut(&place) else { continue };
        pending.durable = true;
        if let Some((Wait::Durable, reply)) = pending.reply.take_if(|(wait, _)| *wait == Wait::Durable) {
            reply.send(Ok(Reply { epoch: place.1, answer: None })).ok();
        }
    }
    drop(known);
    shared.changed.notify_all();
    Ok(())
}

/// Waits until the batches of a run are there for good. While the bucket of a state is away, no more are taken.
fn sync(service: &Service, state: &mut State) -> Result<(), ServeError> {
    let mut was_away = false;
    state.sync_or_tell(&mut |why| {
        if !was_away {
            service.tell(why);
        }
        was_away = true;
        service.enter(Phase::Stuck(why.into()));
    })?;
    if was_away {
        service.tell("the state is written again");
        service.enter(Phase::Ready);
    }
    Ok(())
}

/// An epoch that is to be applied.
struct Prepared<'s> {
    place: usize,
    served: &'s Served,
    changes: Vec<(&'s Table, Run)>,
    rejected: Vec<RowBatch>,
    batch: BatchRow,
    answer: Answer,
    as_of: Option<Moment>,
}

/// Applies what is complete until the engine has ended. `made` reports for each dataflow whether its tables are rebuilt.
pub fn commit(service: &Arc<Service>, mut live: Live, completed: &Completed, shared: &Shared, made: &[bool]) -> Result<(), ServeError> {
    let mut forgotten = Instant::now();
    loop {
        let commits = match completed.poll(POLL) {
            Ok(commits) => commits,
            Err(EngineError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (replays, commits): (Vec<Commit>, Vec<Commit>) = commits.into_iter().partition(|commit| commit.is_replay);
        for replay in replays {
            let is_made = made.get(replay.dataflow).copied().unwrap_or(true);
            take_up(service, &mut live, replay.dataflow, replay.summary.epoch, replay.changes, replay.rejected, is_made)?;
            service.dataflows.get(replay.dataflow).into_iter().for_each(|served| served.set_as_of(replay.as_of));
            shared.known().replaying -= 1;
            shared.changed.notify_all();
        }
        let places: Vec<(usize, Epoch)> = commits.iter().map(|commit| (commit.dataflow, commit.summary.epoch)).collect();
        let is_durable = |known: &Known| places.iter().all(|place| known.pending.get(place).is_none_or(|pending| pending.durable));
        if shared.wait_until(|known| is_durable(known)).failed {
            return Ok(());
        }
        let prepared: Vec<Prepared<'_>> = commits.into_iter().filter_map(|commit| prepare(service, shared, commit)).collect();
        if !prepared.is_empty() {
            apply(service, &mut live, &prepared, shared)?;
            answer(service, shared, prepared);
        }
        if forgotten.elapsed() >= FORGET_EVERY {
            forgotten = Instant::now();
            let before = crate::engine::now().plus(-service.limits.changes_kept);
            // What is not forgotten now is the next time.
            service.dataflows.iter().for_each(|served| drop(live.forget_changes(served.name(), before, service.limits.changes_bytes)));
        }
    }
}

fn prepare<'s>(service: &'s Service, shared: &Shared, commit: Commit) -> Option<Prepared<'s>> {
    let Commit { dataflow: place, summary, mut changes, rejected, as_of, .. } = commit;
    let served = service.dataflows.get(place)?;
    let changes: Vec<(&Table, Run)> = served
        .tables
        .iter()
        .filter_map(|table| {
            let run = consolidated(changes.remove(table.name)?);
            (!run.is_empty()).then_some((table, run))
        })
        .collect();
    let count = |run: &Run| run.iter().map(|batch| batch.len() as u64).sum();
    let changed = changes.iter().map(|(table, run)| (table.name.to_string(), count(run))).collect();
    let answer = Answer { accepted: summary.delivered + summary.retracted, late: summary.late, rejected: summary.rejected, changed };
    let known = shared.known();
    let mut batch = known.pending.get(&(place, summary.epoch))?.batch.clone();
    drop(known);
    batch.answer = Some(batch_answer(&answer, summary.time));
    Some(Prepared { place, served, changes, rejected, batch, answer, as_of })
}

/// Applies epochs in one transaction. Where the database does not take them, nothing more is taken until it does.
fn apply(service: &Service, live: &mut Live, prepared: &[Prepared<'_>], shared: &Shared) -> Result<(), ServeError> {
    let epochs: Vec<LiveEpoch<'_>> = prepared
        .iter()
        .map(|Prepared { served, changes, rejected, batch, .. }| LiveEpoch {
            dataflow: served.name(),
            changes: changes.iter().map(|(table, run)| (*table, run)).collect(),
            rejected,
            batch,
        })
        .collect();
    let began = Instant::now();
    loop {
        match live.apply(&epochs) {
            Ok(()) => break,
            // It was locked, or there is no space: that passes, or is mended by someone. What is in the journal is applied at the next
            // start.
            Err(error @ SinkError::Database { .. }) if service.phase() != Phase::Ending => {
                service.tell(&format!("the tables can't be written: {error}; trying again"));
                service.enter(Phase::Stuck(error.to_string()));
                std::thread::sleep(PUT_OFF);
                if shared.known().failed {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    service.metrics.commit.observe(began.elapsed().as_secs_f64());
    if matches!(service.phase(), Phase::Stuck(_)) {
        service.tell("the tables are written again");
        service.enter(Phase::Ready);
    }
    Ok(())
}

/// Lets readers see epochs, and answers.
fn answer(service: &Service, shared: &Shared, prepared: Vec<Prepared<'_>>) {
    let mut places = Vec::new();
    for Prepared { place, served, changes, batch, answer, as_of, .. } in &prepared {
        let name = served.name();
        served.advice(*as_of, answer).into_iter().for_each(|advice| service.tell(&advice));
        served.set_as_of(*as_of);
        served.recent.add(EpochChanges::new(batch.epoch, changes.iter().map(|(table, run)| (table.name, run))));
        places.push((*place, batch.epoch));
        service.metrics.add(name, batch.epoch, answer);
    }
    service.publish(&places);
    if !service.further.is_empty() {
        prepared.iter().for_each(|prepared| hand_on(service, prepared));
    }
    let mut known = shared.known();
    for Prepared { place, served, batch, answer, .. } in prepared {
        let Some(Pending { began, reply, key, .. }) = known.pending.remove(&(place, batch.epoch)) else { continue };
        known.answered.push(Answered { dataflow: served.name().into(), epoch: batch.epoch, answer: answer.clone() });
        service.metrics.visible.observe(began.elapsed().as_secs_f64());
        // Whoever is answered may send it again at once.
        drop(key);
        if let Some((_, reply)) = reply {
            // Whoever asked may have gone.
            reply.send(Ok(Reply { epoch: batch.epoch, answer: Some(answer) })).ok();
        }
    }
    service.metrics.under_way.set(i64::try_from(known.pending.len()).unwrap_or(i64::MAX));
    drop(known);
    shared.changed.notify_all();
}

/// Hands an epoch to the further sinks.
fn hand_on(service: &Service, prepared: &Prepared<'_>) {
    let tables = prepared.changes.iter().map(|(table, run)| (table.name.to_string(), run.clone())).collect();
    let changed = Arc::new(Changed { epoch: prepared.batch.epoch, tables, rejected: without_batches(&prepared.rejected) });
    service.further.iter().for_each(|further| further.push(prepared.place, &changed));
}

/// The tables of a dataflow as of what was taken up: compared, and brought to it where they are others.
pub fn take_up(
    service: &Service,
    live: &mut Live,
    place: usize,
    epoch: Epoch,
    changes: BTreeMap<String, Vec<RowBatch>>,
    rejected: Vec<RowBatch>,
    is_made: bool,
) -> Result<(), ServeError> {
    let Some(served) = service.dataflows.get(place) else { return Ok(()) };
    let mut tables = Tables::new(&*served.job.graph, &served.job.tables);
    tables.apply(changes, Vec::new());
    let reached = Reached { dataflow: served.name().into(), epoch, fingerprint: served.fingerprint.clone() };
    let is_other = !is_made && !live.holds(&tables.all(), &reached)?;
    if is_other {
        service.tell(&format!("the tables of {} are not those of batch {epoch}: they are rebuilt", served.name()));
    }
    if is_made || is_other {
        live.bring(&tables.all(), &rejected, &reached)?;
    } else {
        live.bring_rejected(served.name(), &rejected)?;
    }
    served.has_points.store(true, Ordering::Release);
    service.publish(&[(place, epoch)]);
    service.metrics.reached(served.name(), epoch);
    Ok(())
}
