//! From splits to typed collections: the dataflow's way in.
//!
//! Each worker reads the splits that fall to it, one after the other, a block per activation, and holds the
//! epoch's capability until done. What is far away is asked for ahead of time, and while a
//! reader would wait for it, others work. So reading and parsing scale with the workers, and the epoch is complete
//! exactly when every split of it has been read.

use crate::calendar::Calendar;
use crate::condition::all_hold;
use crate::definition::{Input, Shape};
use crate::gather::gather;
use crate::points::Points;
use crate::record::{Context, Record, Refusal};
use crate::split::{Done, Late, Line, Opener, RAW_BYTES_MAX, REJECTED_BYTES_MAX, Rejected, Report, Split, SplitError, SplitReader};
use crate::texts::{Interner, Texts};
use crate::time::Moment;
use crate::{Collection, Epoch, VecStream};
use differential_dataflow::{AsCollection, Data};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::{Filter, Map};
use timely::dataflow::operators::{Capability, Concatenate};

/// The inputs of a dataflow under construction.
pub struct Inputs<'s> {
    splits: VecStream<'s, Split>,
    declared: Vec<Input>,
    opener: Rc<dyn Opener>,
    calendar: Calendar,
    points: Arc<dyn Points>,
    reports: RefCell<Vec<VecStream<'s, (Epoch, Report)>>>,
    /// Where ids are texts.
    texts: Option<Arc<Texts>>,
    /// For which epochs the texts are there that other processes read.
    heard: RefCell<Vec<VecStream<'s, (Epoch, Report)>>>,
    /// The machine's clock, where that is as-of.
    clock: Option<Collection<'s, Moment>>,
}

impl<'s> Inputs<'s> {
    /// Inputs that are read from `splits` through `opener`; local times are those of `calendar`. Points go to `points`.
    pub fn new(
        splits: VecStream<'s, Split>,
        declared: Vec<Input>,
        opener: Rc<dyn Opener>,
        calendar: Calendar,
        points: Arc<dyn Points>,
    ) -> Inputs<'s> {
        let (reports, heard) = (RefCell::default(), RefCell::default());
        Inputs { splits, declared, opener, calendar, points, reports, texts: None, heard, clock: None }
    }

    /// As-of is not before what this clock shows: at each epoch one time, or none.
    #[must_use]
    pub fn of_clock(self, clock: Option<Collection<'s, Moment>>) -> Inputs<'s> {
        Inputs { clock, ..self }
    }

    /// What the clock shows, where as-of is not before it.
    pub fn clock(&self) -> Option<Collection<'s, Moment>> {
        self.clock.clone()
    }

    /// Times, of which the latest is as-of: those of events, and the clock's where that counts.
    pub fn with_clock(&self, times: Collection<'s, Moment>) -> Collection<'s, Moment> {
        match self.clock() {
            Some(clock) => times.concat(clock),
            None => times,
        }
    }

    /// Ids are texts, which are added to these.
    #[must_use]
    pub fn with_texts(self, texts: Option<Arc<Texts>>) -> Inputs<'s> {
        Inputs { texts, ..self }
    }

    /// The texts of ids, where ids are texts. Those of an epoch are all there when it is complete in a collection that was
    /// [`Self::awaiting_texts`].
    pub fn texts(&self) -> Option<&Arc<Texts>> {
        self.texts.as_ref()
    }

    /// The same collection, whose epochs are complete when the texts of their ids are there too. All inputs must have been asked for their
    /// records.
    pub fn awaiting_texts<D: Data>(&self, collection: Collection<'s, D>) -> Collection<'s, D> {
        let heard = self.heard.borrow().clone();
        if heard.is_empty() {
            return collection;
        }
        collection.concat(self.scope().concatenate(heard).flat_map(|_| None).as_collection())
    }

    /// The scope of the dataflow.
    pub fn scope(&self) -> Scope<'s, Epoch> {
        self.splits.scope()
    }

    /// The records of an input: delivered once more than retracted, +1; and so on. A multiset; see
    /// [`crate::operators::neighbors`] for the set.
    ///
    /// # Panics
    /// When the dataflow declares no input of this name.
    pub fn records<R: Record>(&self, name: &str) -> Collection<'s, R> {
        let Some((place, input)) = self.declared.iter().enumerate().find(|(_, input)| input.name == name) else {
            panic!("the dataflow declares no input {name:?}");
        };
        let splits = self.splits.clone().filter(move |split| split.input == place);
        let others = self.texts.as_ref().map_or(Vec::new(), |texts| texts.others(self.scope().index(), self.scope().peers()));
        let are_told = !others.is_empty();
        let (calendar, texts) = (self.calendar.clone(), self.texts.clone());
        let context = move |input: &Input| {
            let ids = texts.as_ref().map(|texts| Interner::new(Arc::clone(texts), are_told));
            Context { ids, ..input.context(calendar.clone()) }
        };
        let (records, reports, news) = decode::<R>(splits, Shapes::new(input.clone(), context), Rc::clone(&self.opener), others);
        self.reports.borrow_mut().push(reports);
        if let Some(texts) = self.texts.as_ref().filter(|_| are_told) {
            let heard = hear(news, Arc::clone(texts));
            self.reports.borrow_mut().push(heard.clone());
            self.heard.borrow_mut().push(heard);
        }
        records
    }

    /// The datasets of an input, each split on the worker that is to read it. That worker opens the streams through [`Self::opener`] and
    /// reports how it went through [`Self::add_reports`].
    ///
    /// # Panics
    /// When the dataflow declares no input of this name.
    pub fn datasets(&self, name: &str) -> VecStream<'s, Split> {
        let Some(input) = self.declared.iter().position(|input| input.name == name) else {
            panic!("the dataflow declares no input {name:?}");
        };
        self.splits.clone().filter(move |split| split.input == input)
    }

    /// What opens splits and streams.
    pub fn opener(&self) -> Rc<dyn Opener> {
        Rc::clone(&self.opener)
    }

    /// What a reader of datasets reports about its splits, each with its epoch.
    pub fn add_reports(&self, reports: VecStream<'s, (Epoch, Report)>) {
        self.reports.borrow_mut().push(reports);
    }

    /// Where points go.
    pub fn points(&self) -> &Arc<dyn Points> {
        &self.points
    }

    /// Gathers what the readers report, once all inputs are built: see [`gather`].
    pub fn gather_reports(self, take: impl FnMut(&mut Vec<(Epoch, Report)>) + 'static) -> VecStream<'s, ()> {
        let reports = self.reports.take();
        gather(self.splits.scope().concatenate(reports), "gather reports", take)
    }
}

/// How many splits are asked for ahead of the one that is read.
const ANNOUNCED_MAX: usize = 16;
/// An activation reads at least so many bytes, if they are there: small batches that wait go through the graph together, which costs little
/// more than one.
const ACTIVATION_BYTES: u64 = 64 << 10;
/// A split counts for so many bytes at least: opening it takes time, too.
const SPLIT_BYTES_LEAST: u64 = 1 << 10;
/// When a reader would wait, others work, and it is asked again after this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

type Update<R> = (R, Epoch, isize);

/// A split that waits or is being read, with what it needs to send.
struct Pending {
    split: Split,
    records: Capability<Epoch>,
    reports: Capability<Epoch>,
    news: Capability<Epoch>,
}

/// The text of an id that a reader has seen for the first time, on its way to another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct News {
    /// A worker of that process.
    worker: u64,
    /// The epoch of its batch.
    epoch: Epoch,
    /// The split's place in its batch.
    sequence: u64,
    id: u64,
    text: Box<str>,
}

/// Adds the texts that other processes read. Reports those that can't be told from one that is there.
fn hear<'s>(news: VecStream<'s, News>, texts: Arc<Texts>) -> VecStream<'s, (Epoch, Report)> {
    news.unary::<CapacityContainerBuilder<Vec<(Epoch, Report)>>, _, _, _>(
        Exchange::new(|news: &News| news.worker),
        "hear of ids",
        |_, _| {
            move |input, output| {
                input.for_each(|capability, news| {
                    for News { epoch, sequence, id, text, .. } in news.drain(..) {
                        if let Err(same) = texts.add(id, &text) {
                            let failed = Report::Failed { sequence, error: format!("of two ids, {same}").into() };
                            output.session(&capability).give((epoch, failed));
                        }
                    }
                });
            }
        },
    )
}

fn decode<'s, R: Record>(
    splits: VecStream<'s, Split>,
    mut shapes: Shapes<impl Fn(&Input) -> Context + 'static>,
    opener: Rc<dyn Opener>,
    others: Vec<u64>,
) -> (Collection<'s, R>, VecStream<'s, (Epoch, Report)>, VecStream<'s, News>) {
    let scope = splits.scope();
    let mut builder = OperatorBuilder::new(format!("decode {}", shapes.declared.0.name), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut input = builder.new_input(splits, Exchange::new(Split::route));
    let (records, record_stream) = builder.new_output();
    let (reports, report_stream) = builder.new_output();
    let (news, news_stream) = builder.new_output();
    let mut records = OutputBuilder::<_, CapacityContainerBuilder<Vec<Update<R>>>>::from(records);
    let mut reports = OutputBuilder::<_, CapacityContainerBuilder<Vec<(Epoch, Report)>>>::from(reports);
    let mut news = OutputBuilder::<_, CapacityContainerBuilder<Vec<News>>>::from(news);

    builder.build(move |capabilities| {
        drop(capabilities);
        let mut queue: VecDeque<Pending> = VecDeque::new();
        let mut current: Option<CurrentSplit> = None;
        let mut reported = Reported::default();
        move |_frontiers| {
            input.for_each(|capability, splits| {
                for split in splits.drain(..) {
                    let held = |output| capability.delayed(&split.epoch, output);
                    let (records, reports, news) = (held(0), held(1), held(2));
                    queue.push_back(Pending { split, records, reports, news });
                }
            });
            // What is read in an activation goes together, as of the first epoch in it.
            let Some(first) = current.as_ref().map(|split| &split.pending).or_else(|| queue.front()) else { return };
            let (first_records, first_reports, first_news) = (first.records.clone(), first.reports.clone(), first.news.clone());
            let (mut records, mut reports, mut news) = (records.activate(), reports.activate(), news.activate());
            let (mut records, mut reports, mut news) =
                (records.session(&first_records), reports.session(&first_reports), news.session(&first_news));
            let (mut send, mut report) = (|record| records.give(record), |of| reports.give(of));
            let mut left = ACTIVATION_BYTES;
            while left > 0 {
                if current.is_none() {
                    current = queue.pop_front().map(|pending| {
                        let (input, _) = shapes.add(&pending.split);
                        CurrentSplit::open(pending, &*opener, input)
                    });
                    queue.iter().take(ANNOUNCED_MAX).for_each(|pending| opener.announce(&pending.split));
                }
                let Some(split) = &mut current else { return };
                if !split.is_ready() {
                    activator.activate_after(LOOK_AGAIN_AFTER);
                    return;
                }
                let (_, context) = shapes.of(&split.pending.split);
                let (more, bytes) = split.step::<R>(context, &mut reported, &mut send, &mut report);
                if !others.is_empty() {
                    split.tell(context, &others, &mut |new| news.give(new));
                }
                if !more {
                    current = None;
                }
                left = left.saturating_sub(bytes.max(SPLIT_BYTES_LEAST));
            }
            if current.is_some() || !queue.is_empty() {
                activator.activate();
            }
        }
    });
    (record_stream.as_collection(), report_stream, news_stream)
}

/// What the files of an input are read with, by their shape: few have another one than the input of the job.
struct Shapes<C> {
    declared: (Input, Context),
    others: Vec<(Arc<Shape>, (Input, Context))>,
    context: C,
}

impl<C: Fn(&Input) -> Context> Shapes<C> {
    fn new(input: Input, context: C) -> Shapes<C> {
        let own = context(&input);
        Shapes { declared: (input, own), others: Vec::new(), context }
    }

    /// Those of a split whose shape was added.
    fn of(&self, split: &Split) -> &(Input, Context) {
        let known = split.shape.as_ref().and_then(|shape| self.others.iter().find(|(known, _)| known == shape));
        known.map_or(&self.declared, |(_, known)| known)
    }

    /// Those of a split, whose shape is added where it is new.
    fn add(&mut self, split: &Split) -> &(Input, Context) {
        if let Some(shape) = split.shape.as_ref().filter(|shape| self.others.iter().all(|(known, _)| known != *shape)) {
            let input = self.declared.0.shaped(shape);
            let context = (self.context)(&input);
            self.others.push((Arc::clone(shape), (input, context)));
        }
        self.of(split)
    }
}

/// The split being read.
struct CurrentSplit {
    pending: Pending,
    reader: Result<Box<dyn SplitReader>, SplitError>,
    done: Done,
    at: At,
    bytes_reported: u64,
    accepted_reported: u64,
    refused_reported: u64,
}

/// Where the last record stood that was read.
#[derive(Default)]
pub struct At {
    member: Option<String>,
    line: Option<u64>,
    /// Its number in the line, from 0.
    nth: u64,
    /// How many records were accepted and refused before this file of an archive.
    before: (u64, u64),
}

impl At {
    /// Goes on to the next record. Returns whether it counts.
    pub fn counts(&mut self, line: &Line<'_>, split: &Split) -> bool {
        if self.is_elsewhere(line) {
            self.enter(line.member);
        }
        self.nth = if self.line == Some(line.number) { self.nth + 1 } else { 0 };
        self.line = Some(line.number);
        split.counts(line, self.nth)
    }

    /// Whether a line is of another file of the archive.
    fn is_elsewhere(&self, line: &Line<'_>) -> bool {
        self.member.as_deref() != line.member
    }

    fn enter(&mut self, member: Option<&str>) {
        (self.member, self.line) = (member.map(String::from), None);
    }

    /// Leaves a file of an archive: of the first one of which nothing could be read, `done` reports it.
    #[cold]
    fn leave(&mut self, done: &mut Done) {
        let (accepted, rejected) = (done.accepted - self.before.0, done.rejected - self.before.1);
        self.before = (done.accepted, done.rejected);
        if let Some(member) = self.member.take().filter(|_| accepted == 0 && rejected > 0 && done.unread_member.is_none()) {
            done.unread_member = Some((member, rejected));
        }
    }
}

/// What a worker has reported one by one of the refused records of an epoch.
///
/// The first records of a batch are kept, by the order of its splits. A worker reads its splits in that order: what it reports after as
/// many as are kept would be counted and no more, and takes memory on its way.
#[derive(Default)]
struct Reported {
    epoch: Epoch,
    records: u64,
    bytes: u64,
}

impl Reported {
    /// Whether another one is reported.
    fn has_room(&mut self, epoch: Epoch, split: &Split) -> bool {
        if self.epoch != epoch {
            *self = Reported { epoch, ..Reported::default() };
        }
        self.records < split.rejected_kept && self.bytes < REJECTED_BYTES_MAX
    }

    fn add(&mut self, rejected: &Rejected) {
        self.records += 1;
        self.bytes += rejected.bytes();
    }
}

impl CurrentSplit {
    fn open(pending: Pending, opener: &dyn Opener, input: &Input) -> CurrentSplit {
        let reader = opener.open(&pending.split, input);
        let done = Done { sequence: pending.split.sequence, ..Done::default() };
        CurrentSplit { pending, reader, done, at: At::default(), bytes_reported: 0, accepted_reported: 0, refused_reported: 0 }
    }

    fn is_ready(&self) -> bool {
        self.reader.as_ref().map_or(true, |reader| reader.is_ready())
    }

    /// Tells other processes of the ids that were new in the last block.
    fn tell(&self, context: &Context, others: &[u64], send: &mut impl FnMut(News)) {
        let new = context.ids.as_ref().map(Interner::take_new).unwrap_or_default();
        let (epoch, sequence) = (self.pending.split.epoch, self.pending.split.sequence);
        for (id, text) in new {
            others.iter().for_each(|worker| send(News { worker: *worker, epoch, sequence, id, text: text.clone() }));
        }
    }

    /// Reads a block. Returns whether there is more, and the bytes that it read.
    fn step<R: Record>(
        &mut self,
        context: &Context,
        reported: &mut Reported,
        send: &mut impl FnMut(Update<R>),
        report: &mut impl FnMut((Epoch, Report)),
    ) -> (bool, u64) {
        let split = &self.pending.split;
        let (epoch, sign) = (split.epoch, split.sign);
        let mut report = |of: Report| report((epoch, of));
        let (done, at) = (&mut self.done, &mut self.at);
        let more = match &mut self.reader {
            Err(error) => Err(error.clone()),
            Ok(reader) => {
                reader.read(&mut |line: Line<'_>| {
                    if at.is_elsewhere(&line) {
                        at.leave(done);
                    }
                    match at.counts(&line, split).then(|| read_record::<R>(line, split, context)) {
                        None => {}
                        // What was refused is no record, and can't be meant.
                        Some(read) if !split.conditions.is_empty() && (read.is_err() || !is_meant::<R>(line, split, context)) => {}
                        Some(Ok(record)) => {
                            done.accepted += 1;
                            if let Some(time) = record.time().filter(|_| sign > 0) {
                                if time < split.late.before() {
                                    done.late += 1;
                                } else if matches!(split.late, Late::Undecided(_)) {
                                    done.undecided.push(time);
                                }
                                done.latest = done.latest.max(Some(time));
                            }
                            send((record, epoch, sign));
                        }
                        Some(Err(reason)) => {
                            done.rejected += 1;
                            if reported.has_room(epoch, split) {
                                let rejected = rejected(line, at.nth, split, &reason);
                                reported.add(&rejected);
                                report(Report::Rejected(rejected));
                            } else {
                                done.reasons.add(&reason);
                            }
                        }
                    }
                })
            }
        };
        let before = self.bytes_reported;
        if let Ok(reader) = &mut self.reader {
            let bytes = reader.bytes_read();
            let refused = done.reasons.total();
            let progress = Report::Progress {
                bytes: bytes - self.bytes_reported,
                records: done.accepted - self.accepted_reported,
                refused: refused - self.refused_reported,
            };
            self.bytes_reported = bytes;
            self.accepted_reported = done.accepted;
            self.refused_reported = refused;
            done.lines = reader.lines_read();
            (done.members, done.second_header) = (reader.members_read(), reader.second_header());
            report(progress);
            let members = reader.passed_over();
            if !members.is_empty() {
                report(Report::PassedOver { sequence: split.sequence, members });
            }
        }
        let bytes = self.bytes_reported - before;
        match more {
            Ok(true) => return (true, bytes),
            Ok(false) => {
                at.leave(done);
                done.notice = context.noticed.take();
                report(Report::Done(std::mem::take(done)));
            }
            Err(error) => report(Report::Failed { sequence: split.sequence, error }),
        }
        (false, bytes)
    }
}

/// Whether a line is one of the records that a split is of, where it is not of all.
fn is_meant<R: Record>(line: Line<'_>, split: &Split, context: &Context) -> bool {
    line.record.is_ok_and(|raw| all_hold(&split.conditions, raw, R::FIELDS, context))
}

fn read_record<R: Record>(line: Line<'_>, split: &Split, context: &Context) -> Result<R, Refusal> {
    let record = R::decode_raw(line.record.map_err(|why| Refusal::from(why.to_string()))?, context)?;
    match record.time() {
        Some(time) => split.accepts(time).map(|()| record),
        None => Ok(record),
    }
}

#[cold]
fn rejected(line: Line<'_>, nth: u64, split: &Split, reason: &str) -> Rejected {
    let text = line.text();
    let raw = text.get(..RAW_BYTES_MAX).unwrap_or(&text).to_vec();
    Rejected { sequence: split.sequence, member: line.member.map(String::from), line: line.number, nth, reason: reason.into(), raw }
}
