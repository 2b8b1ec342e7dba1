//! What follows from the events of a log: sessions and assignments of a device, a school and its name, and what is wrong.
//!
//! A log's events are kept as sets, those of sessions in the order of (session, start or end, time), so that a session's are
//! side by side. A change of a session's events retracts the facts of that session and emits its new ones. What holds of the log
//! as a whole (its type, name, first start) is emitted again when it changes; only another type touches all facts of the log.
//!
//! State: 24 bytes for each event. Cost of an event: O(log n), and the events of its session.
//!
//! # Limits
//! The first and the last event are remembered, not indexed: to retract one of them reads the log's events once.

use crate::facts::{Count, Counted, WithCounts};
use crate::records::{Event, Id, LogType, What};
use retally_core::Collection;
use retally_core::operators::as_of::At;
use retally_core::operators::by_key::{Emitter, State, by_key, exchange};
use retally_core::operators::history::History;
use retally_core::operators::order::{Order, OwnOrder};
use retally_core::time::{Moment, SECOND};
use serde::{Deserialize, Serialize};

/// A fact that follows from the events of a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fact {
    /// A session of a device.
    Session(Id, Session),
    /// A device is assigned to a school, from a time on.
    Assigned(Id, Moment, Id),
    /// A device's school at the end.
    Current(Id),
    /// A school and its name.
    School(Id, Option<Box<str>>),
    /// When a device's first session started.
    FirstStart(Id, Moment),
    /// A log's first event.
    First(Moment),
    /// A log's last event.
    Last(Moment),
    /// One more of a kind.
    Count(Count),
}

/// A session that started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session {
    /// When it started.
    pub start: Moment,
    /// The session.
    pub id: Id,
    /// When it ended; `None` when it was abandoned.
    pub end: Option<Moment>,
}

impl At for Session {
    fn at(&self) -> Moment {
        self.start
    }
}

impl Session {
    /// How long it was, when it was completed.
    pub fn micros(&self) -> Option<i64> {
        self.end.map(|end| end.0 - self.start.0)
    }
}

impl From<Count> for Fact {
    fn from(count: Count) -> Fact {
        Fact::Count(count)
    }
}

impl Counted for Fact {
    fn count(&self) -> Option<Count> {
        if let Fact::Count(count) = self { Some(*count) } else { None }
    }
}

/// An event of a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Entry {
    Type(Moment, LogType),
    Name(Moment, Box<str>),
    Assigned(Moment, Id),
    Mark(Mark),
}

/// A start or an end of a session. Starts come before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Mark {
    session: Id,
    /// The time in microseconds, and in the highest bit whether it is an end.
    time_and_end: u64,
}

const END: u64 = 1 << 63;

impl Mark {
    fn start(session: Id, time: Moment) -> Mark {
        Mark { session, time_and_end: time.0.cast_unsigned() }
    }

    fn end(session: Id, time: Moment) -> Mark {
        Mark { session, time_and_end: time.0.cast_unsigned() | END }
    }

    fn time(&self) -> Moment {
        Moment((self.time_and_end & !END).cast_signed())
    }

    fn is_end(&self) -> bool {
        self.time_and_end & END != 0
    }
}

/// An assignment of a device: from when on, and to which school.
pub type Assigned = (Moment, Id);

/// The facts that follow from the events under these rules, of which one is the order of a device's assignments.
pub fn facts<'s>(events: Collection<'s, Event>, order: impl Order<Assigned>, max_session_micros: Option<i64>) -> Collection<'s, Fact> {
    let entries = events.map(|event| {
        let entry = match event.what {
            What::SetLogType(kind) => Entry::Type(event.time, kind),
            What::SetName(name) => Entry::Name(event.time, name),
            What::AssignToSchool(school) => Entry::Assigned(event.time, school),
            What::StartSession(session) => Entry::Mark(Mark::start(session, event.time)),
            What::EndSession(session) => Entry::Mark(Mark::end(session, event.time)),
        };
        (event.log, entry)
    });
    by_key(entries, exchange(), "events by log", move |id, changes, log: &mut Log, emitter: &mut WithCounts<Fact>| {
        log.change(*id, changes, &order, &mut Say { max_session_micros, emitter, sign: 1 });
    })
}

/// The events of a log.
#[derive(Default)]
struct Log {
    types: History<(Moment, LogType)>,
    names: History<(Moment, Box<str>)>,
    assigned: History<Assigned>,
    marks: History<Mark>,
    extremes: Extremes,
}

/// The ends of what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extremes {
    first: Option<Moment>,
    last: Option<Moment>,
    first_start: Option<Moment>,
}

impl Extremes {
    fn extend(&mut self, time: Moment, is_start: bool) {
        let earlier = |other: Option<Moment>| Some(other.map_or(time, |other| other.min(time)));
        self.first = earlier(self.first);
        self.last = self.last.max(Some(time));
        if is_start {
            self.first_start = earlier(self.first_start);
        }
    }

    fn has(&self, time: Moment) -> bool {
        [self.first, self.last, self.first_start].contains(&Some(time))
    }
}

/// The changes of a log's sets, by kind.
struct Toggled {
    types: Vec<(Moment, LogType)>,
    names: Vec<(Moment, Box<str>)>,
    assigned: Vec<Assigned>,
    marks: Vec<Mark>,
}

impl State for Log {
    fn is_empty(&self) -> bool {
        self.types.is_empty() && self.names.is_empty() && self.assigned.is_empty() && self.marks.is_empty()
    }
}

/// Where a log's facts go, each with a sign.
struct Say<'a> {
    max_session_micros: Option<i64>,
    emitter: &'a mut WithCounts<Fact>,
    sign: isize,
}

impl Log {
    /// Applies changes: retracts the facts that no longer hold, and emits those that hold now.
    fn change(&mut self, id: Id, changes: &mut Vec<(Entry, isize)>, order: &impl Order<Assigned>, say: &mut Say<'_>) {
        let toggled = self.count(changes, order);
        say.sign = -1;
        self.whole(id, say);
        let took = self.takes_sessions();
        self.types.toggle(&toggled.types);
        self.names.toggle(&toggled.names);
        let takes = self.takes_sessions();
        let any = !self.assigned.present().is_empty() || !self.marks.present().is_empty();
        let only = (any && took == takes).then_some(&toggled);
        if took {
            self.items(id, only, order, say);
        }
        self.assigned.toggle_by(order, &toggled.assigned);
        self.marks.toggle(&toggled.marks);
        say.sign = 1;
        if takes {
            self.items(id, only, order, say);
        }
        self.update_extremes(&toggled, order);
        self.whole(id, say);
    }

    fn count(&mut self, changes: &mut Vec<(Entry, isize)>, order: &impl Order<Assigned>) -> Toggled {
        let (mut types, mut names, mut assigned) = (Vec::new(), Vec::new(), Vec::new());
        let mut marks = Vec::with_capacity(changes.len());
        for (entry, diff) in changes.drain(..) {
            match entry {
                Entry::Type(time, kind) => types.push(((time, kind), diff)),
                Entry::Name(time, name) => names.push(((time, name), diff)),
                Entry::Assigned(time, school) => assigned.push(((time, school), diff)),
                Entry::Mark(mark) => marks.push((mark, diff)),
            }
        }
        Toggled {
            types: self.types.count(types),
            names: self.names.count(names),
            assigned: self.assigned.count_by(order, assigned),
            marks: self.marks.count(marks),
        }
    }

    fn log_type(&self) -> Option<LogType> {
        self.types.present().last().map(|(_, kind)| *kind)
    }

    /// Whether events of devices count. A log without a type takes all events.
    fn takes_sessions(&self) -> bool {
        self.log_type() != Some(LogType::School)
    }

    /// What holds of the log as a whole.
    fn whole(&self, id: Id, say: &mut Say<'_>) {
        let (Some(first), Some(last)) = (self.extremes.first, self.extremes.last) else { return };
        say.fact(Fact::First(first));
        say.fact(Fact::Last(last));
        let of_device = self.assigned.present().len() + self.marks.present().len();
        let kind = self.log_type();
        match kind {
            Some(LogType::School) => {
                let name = self.names.present().last().map(|(_, name)| name.clone());
                say.count(Count::UnnamedSchool, usize::from(name.is_none()));
                say.count(Count::Schools, 1);
                say.count(Count::WrongLogType, of_device);
                say.fact(Fact::School(id, name));
                return;
            }
            Some(LogType::Device) => say.count(Count::WrongLogType, self.names.present().len()),
            None => say.count(Count::MissingLogType, 1),
        }
        say.count(Count::Devices, usize::from(kind.is_some() || of_device > 0));
        if let Some((_, school)) = self.assigned.present().last() {
            say.fact(Fact::Current(*school));
        }
        if let Some(start) = self.extremes.first_start {
            say.fact(Fact::FirstStart(id, start));
        }
    }

    /// The facts of assignments and sessions: of those that `only` touches, or of all.
    fn items(&self, id: Id, only: Option<&Toggled>, order: &impl Order<Assigned>, say: &mut Say<'_>) {
        let (assigned, marks) = (self.assigned.present(), self.marks.present());
        let Some(only) = only else {
            assigned.iter().for_each(|(time, school)| say.fact(Fact::Assigned(id, *time, *school)));
            return say.sessions(id, marks.iter());
        };
        for assignment in &only.assigned {
            if is_there(&self.assigned, order, assignment) {
                say.fact(Fact::Assigned(id, assignment.0, assignment.1));
            }
        }
        for same in only.marks.chunk_by(|a, b| a.session == b.session) {
            let Some(Mark { session, .. }) = same.first() else { continue };
            let first = marks.place_of(&Mark { session: *session, time_and_end: 0 });
            say.sessions(id, marks.from(first).take_while(|mark| mark.session == *session));
        }
    }

    fn update_extremes(&mut self, toggled: &Toggled, order: &impl Order<Assigned>) {
        let Toggled { types, names, assigned, marks } = toggled;
        let changes = types.iter().map(|it| (is_there(&self.types, &OwnOrder, it), it.0, false));
        let changes = changes.chain(names.iter().map(|it| (is_there(&self.names, &OwnOrder, it), it.0, false)));
        let changes = changes.chain(assigned.iter().map(|it| (is_there(&self.assigned, order, it), it.0, false)));
        let changes = changes.chain(marks.iter().map(|it| (is_there(&self.marks, &OwnOrder, it), it.time(), !it.is_end())));
        let mut extremes = self.extremes;
        for (came, time, is_start) in changes {
            if came {
                extremes.extend(time, is_start);
            } else if self.extremes.has(time) {
                self.extremes = self.all_extremes();
                return;
            }
        }
        self.extremes = extremes;
    }

    /// The extremes, by a look at every event.
    fn all_extremes(&self) -> Extremes {
        let mut extremes = Extremes::default();
        self.types.present().iter().for_each(|(time, _)| extremes.extend(*time, false));
        self.names.present().iter().for_each(|(time, _)| extremes.extend(*time, false));
        self.assigned.present().iter().for_each(|(time, _)| extremes.extend(*time, false));
        self.marks.present().iter().for_each(|mark| extremes.extend(mark.time(), !mark.is_end()));
        extremes
    }
}

fn is_there<V: Ord + Clone>(history: &History<V>, order: &impl Order<V>, record: &V) -> bool {
    let list = history.present();
    list.get(list.place_by(order, record)) == Some(record)
}

/// The events of a session, counted.
#[derive(Default)]
struct Seen {
    start: Option<Moment>,
    end: Option<Moment>,
    starts: usize,
    ends: usize,
    ends_before_start: usize,
    ends_without_start: usize,
}

impl Seen {
    /// One more event, in order: all starts come before all ends.
    fn add(&mut self, mark: &Mark) {
        let time = mark.time();
        match self.start {
            _ if !mark.is_end() => {
                self.start.get_or_insert(time);
                self.starts += 1;
            }
            None => self.ends_without_start += 1,
            Some(start) if time < start => self.ends_before_start += 1,
            Some(_) => {
                self.end.get_or_insert(time);
                self.ends += 1;
            }
        }
    }
}

impl Say<'_> {
    fn fact(&mut self, fact: Fact) {
        self.emitter.give(fact, self.sign);
    }

    fn count(&mut self, count: Count, number: usize) {
        self.emitter.give(Fact::Count(count), self.sign * number.cast_signed());
    }

    /// The sessions of a device, from their events in order.
    fn sessions<'m>(&mut self, device: Id, marks: impl Iterator<Item = &'m Mark>) {
        let mut marks = marks.peekable();
        while let Some(first) = marks.next() {
            let mut seen = Seen::default();
            seen.add(first);
            while let Some(mark) = marks.next_if(|mark| mark.session == first.session) {
                seen.add(mark);
            }
            self.session(device, first.session, &seen);
        }
    }

    fn session(&mut self, device: Id, id: Id, seen: &Seen) {
        let Some(start) = seen.start else { return self.count(Count::EndWithoutStart, seen.ends_without_start) };
        self.count(Count::Sessions, 1);
        self.count(Count::DuplicateStart, seen.starts - 1);
        self.count(Count::EndBeforeStart, seen.ends_before_start);
        self.count(Count::DuplicateEnd, seen.ends.saturating_sub(1));
        let mut session = Session { start, id, end: seen.end };
        if let Some(micros) = session.micros() {
            if self.max_session_micros.is_some_and(|most| micros > most) {
                self.count(Count::SessionTooLong, 1);
                session.end = None;
            } else {
                let micros = micros.unsigned_abs();
                self.count(Count::Completed, 1);
                self.count(Count::Seconds, usize::try_from(micros / SECOND.unsigned_abs()).unwrap_or(usize::MAX));
                self.count(Count::Micros, usize::try_from(micros % SECOND.unsigned_abs()).unwrap_or(usize::MAX));
            }
        }
        self.fact(Fact::Session(device, session));
    }
}
