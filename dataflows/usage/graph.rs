//! The graph: from the events of logs to sessions, from sessions to the schools of their devices, to days, and to numbers.
//!
//! What follows from the events of a log is found log by log ([`crate::logs`]): sessions, assignments, schools, and what is wrong.
//! Assignments get the names of their schools ([`crate::schools`]); a session's school is the device's as of its start
//! ([`as_of`](retally_core::operators::as_of)). The lengths of a school's sessions have a median
//! ([`quantile`](retally_core::operators::quantile)), and days of devices their minutes ([`crate::minutes`]).
//!
//! Rows go up to the day of as-of. When that moves to the next day, a row of that day appears for each device, and nothing else is
//! looked at.

use crate::assignment::Assignment;
use crate::facts::Count;
use crate::logs::{self, Assigned, Fact, Session};
use crate::records::{Event, Id};
use crate::schools::{self, Named};
use crate::{minutes, statistics, tables};
use differential_dataflow::AsCollection;
use differential_dataflow::operators::CountTotal;
use retally_core::Collection;
use retally_core::calendar::Calendar;
use retally_core::chart::Chart;
use retally_core::contract::{AsOf, Graph, Table};
use retally_core::decode::Inputs;
use retally_core::ids::Ids;
use retally_core::operators::as_of::{Entry, as_of};
use retally_core::operators::by_key::exchange;
use retally_core::operators::horizon::{self, latest};
use retally_core::operators::order::{Order, OrderBy, OwnOrder};
use retally_core::operators::quantile::distributions;
use retally_core::publish::Outputs;
use retally_core::row::Row;
use retally_core::texts::Texts;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;
use timely::dataflow::operators::vec::Partition;

/// The dataflow with its settings.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The zone of days.
    pub calendar: Calendar,
    /// What logs and sessions are named by.
    pub ids: Ids,
    /// Longer sessions are out of range.
    pub max_session_micros: Option<i64>,
    /// Up to when events count.
    pub as_of: AsOf,
}

/// What follows from a session once its school is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Said {
    /// Its row.
    Row(Row),
    /// A completed session of a school was this long.
    Length(Id, i64),
    /// It has no school.
    Unassigned,
}

impl Graph for Usage {
    fn tables(&self) -> Vec<Table> {
        tables::tables(self.ids)
    }

    fn charts(&self) -> Vec<Chart> {
        tables::charts()
    }

    fn calendar(&self) -> Calendar {
        self.calendar.clone()
    }

    fn ids(&self) -> Ids {
        self.ids
    }

    fn key_fields(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &[("device_id", "events", "logId"), ("session_id", "events", "sessionId")]
    }

    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
        let (events, texts) = (inputs.awaiting_texts(self.events(inputs)), inputs.texts());
        // Where ids are texts, the order of assignments is that of texts.
        let facts = by_kind(match texts.map(by_text) {
            None => logs::facts(events, OwnOrder, self.max_session_micros),
            Some(by_id) => {
                let order = move |left: &Assigned, right: &Assigned| left.0.cmp(&right.0).then_with(|| by_id(left.1, right.1));
                logs::facts(events, OrderBy::new(order), self.max_session_micros)
            }
        });
        let mut issues = facts.counts.clone();

        outputs.table(tables::DEVICES, facts.first_starts.clone().map(|(device, start)| tables::device_row(device, start)));
        if outputs.wants_any(&[tables::SESSIONS, tables::SCHOOLS, tables::ISSUES]) {
            let named = schools::named(facts.assigned, facts.schools.clone());
            let (assignments, unknown) = assignments(named);
            let sessions = facts.sessions.clone();
            let said = match texts.map(by_text) {
                None => with_schools(sessions, assignments, OwnOrder, outputs),
                Some(by_id) => {
                    let order = move |left: &Assignment, right: &Assignment| left.compare(right, &by_id);
                    with_schools(sessions, assignments, OrderBy::new(order), outputs)
                }
            };
            issues = issues.concat(unknown).concat(said.unassigned);
            outputs.table(tables::SESSIONS, said.rows);
            if outputs.wants(tables::SCHOOLS) {
                let lengths = distributions(said.lengths, exchange(), "session lengths by school");
                outputs.table(tables::SCHOOLS, schools::rows(facts.schools, facts.current, lengths));
            }
        }
        if outputs.wants(tables::ISSUES) {
            let counted = issues.count_total();
            let rows = counted.flat_map(|(count, events)| Some(tables::issue_row(count.issue()?, events)));
            outputs.table(tables::ISSUES, rows);
        }
        if outputs.wants(tables::HISTORY) {
            let calendar = self.calendar.clone();
            let times = inputs.with_clock(facts.last.clone());
            let today = horizon::as_of(times, self.as_of, "as-of").map(move |moment| calendar.day_spanning(moment));
            let days = minutes::minutes(facts.sessions, facts.first_starts, today, &self.calendar);
            outputs.table(tables::HISTORY, days.map(|day| tables::history_row(&day)));
        }
        if outputs.wants(tables::STATISTICS) {
            // The earliest time is the latest of the times counted backwards.
            let backwards = |moment: Moment| Moment(-moment.0);
            let first = latest(facts.first.map(backwards), "first event").map(backwards);
            let last = latest(facts.last, "last event");
            outputs.table(tables::STATISTICS, statistics::rows(facts.counts, first, last));
        }
    }
}

impl Usage {
    /// The events up to as-of.
    fn events<'s>(&self, inputs: &Inputs<'s>) -> Collection<'s, Event> {
        horizon::up_to(inputs.records::<Event>("events"), self.as_of, |event| event.time)
    }
}

/// How two ids stand that are texts.
fn by_text(texts: &Arc<Texts>) -> impl Fn(Id, Id) -> Ordering + use<> {
    let texts = Arc::clone(texts);
    move |left, right| texts.compare(left.number(), right.number())
}

/// The facts by kind.
struct Facts<'s> {
    sessions: Collection<'s, (Id, Session)>,
    assigned: Collection<'s, (Id, Moment, Id)>,
    current: Collection<'s, Id>,
    schools: Collection<'s, (Id, Option<Box<str>>)>,
    first_starts: Collection<'s, (Id, Moment)>,
    first: Collection<'s, Moment>,
    last: Collection<'s, Moment>,
    counts: Collection<'s, Count>,
}

fn by_kind(facts: Collection<'_, Fact>) -> Facts<'_> {
    let kinds = facts.inner.partition(8, |(fact, epoch, diff)| {
        let kind = match fact {
            Fact::Session(..) => 0,
            Fact::Assigned(..) => 1,
            Fact::Current(_) => 2,
            Fact::School(..) => 3,
            Fact::FirstStart(..) => 4,
            Fact::First(_) => 5,
            Fact::Last(_) => 6,
            Fact::Count(_) => 7,
        };
        (kind, (fact, epoch, diff))
    });
    let mut kinds = kinds.into_iter();
    let mut next = || kinds.next().unwrap_or_else(|| panic!("partition makes as many streams as it is asked for")).as_collection();
    Facts {
        sessions: next().flat_map(|fact| if let Fact::Session(device, session) = fact { Some((device, session)) } else { None }),
        assigned: next().flat_map(|fact| if let Fact::Assigned(device, from, school) = fact { Some((device, from, school)) } else { None }),
        current: next().flat_map(|fact| if let Fact::Current(school) = fact { Some(school) } else { None }),
        schools: next().flat_map(|fact| if let Fact::School(school, name) = fact { Some((school, name)) } else { None }),
        first_starts: next().flat_map(|fact| if let Fact::FirstStart(device, start) = fact { Some((device, start)) } else { None }),
        first: next().flat_map(|fact| if let Fact::First(moment) = fact { Some(moment) } else { None }),
        last: next().flat_map(|fact| if let Fact::Last(moment) = fact { Some(moment) } else { None }),
        counts: next().flat_map(|fact| if let Fact::Count(count) = fact { Some(count) } else { None }),
    }
}

/// Assignments by device, and how many name no school.
fn assignments(named: Collection<'_, Named>) -> (Collection<'_, (Id, Assignment)>, Collection<'_, Count>) {
    let counts = named.clone().flat_map(|named| if let Named::Count(count) = named { Some(count) } else { None });
    let assignments =
        named.flat_map(|named| if let Named::Assigned(device, assignment) = named { Some((device, assignment)) } else { None });
    (assignments, counts)
}

/// What follows from sessions, by kind.
struct Sessions<'s> {
    rows: Collection<'s, Row>,
    lengths: Collection<'s, (Id, i64)>,
    unassigned: Collection<'s, Count>,
}

/// Sessions with the schools that their devices belonged to at their start. The order is that of a device's assignments.
fn with_schools<'s>(
    sessions: Collection<'s, (Id, Session)>,
    assignments: Collection<'s, (Id, Assignment)>,
    order: impl Order<Assignment>,
    outputs: &Outputs<'s>,
) -> Sessions<'s> {
    let entries = sessions.map(|(device, session)| (device, Entry::Point(session)));
    let entries = entries.concat(assignments.map(|(device, assignment)| (device, Entry::Step(assignment))));
    let wants = [tables::SESSIONS, tables::SCHOOLS, tables::ISSUES].map(|table| outputs.wants(table));
    let [rows, schools, issues] = wants;
    let said = as_of(
        entries,
        exchange(),
        "schools of sessions",
        order,
        move |device, session: &Session, assignment: Option<&Assignment>, give| {
            if rows {
                give(Said::Row(tables::session_row(*device, session, assignment)));
            }
            match (assignment, session.micros()) {
                (None, _) if issues => give(Said::Unassigned),
                (Some(assignment), Some(micros)) if schools => give(Said::Length(assignment.school, micros)),
                _ => {}
            }
        },
    );
    let kinds = said.inner.partition(3, |(said, epoch, diff)| {
        let kind = match said {
            Said::Row(_) => 0,
            Said::Length(..) => 1,
            Said::Unassigned => 2,
        };
        (kind, (said, epoch, diff))
    });
    let mut kinds = kinds.into_iter();
    let mut next = || kinds.next().unwrap_or_else(|| panic!("partition makes as many streams as it is asked for")).as_collection();
    Sessions {
        rows: next().flat_map(|said| if let Said::Row(row) = said { Some(row) } else { None }),
        lengths: next().flat_map(|said| if let Said::Length(school, micros) = said { Some((school, micros)) } else { None }),
        unassigned: next().flat_map(|said| if let Said::Unassigned = said { Some(Count::UnassignedSession) } else { None }),
    }
}
