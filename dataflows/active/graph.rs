//! The graph: from events to the days on which a user was active, from days to users by day and window.
//!
//! The records become a set, by user; each event of it gives facts by itself. With `--valuable-events`
//! it takes two events to make a day active, and they are tallied by user and day. The days of a user are
//! united, and the ends of that union within windows of 1, 7 and 28 days are summed up over users.
//!
//! A window that is open at the end of the data covers days to come, and tables are cut at the day of the latest event. So when
//! that moves to the next day, its rows appear, and no user is looked at.

use crate::records::{Engagement, Event, Name, User};
use crate::settings::{EngagementEvents, UserField, Valuable, Zone};
use crate::tables;
use differential_dataflow::AsCollection;
use differential_dataflow::operators::CountTotal;
use retally_core::Collection;
use retally_core::calendar::{Calendar, Day};
use retally_core::chart::Chart;
use retally_core::contract::{AsOf, Graph, Table};
use retally_core::decode::Inputs;
use retally_core::operators::by_key::{Each, Emitter, State, by_key, exchange};
use retally_core::operators::counts::daily;
use retally_core::operators::day_ranges::summed_day_ranges;
use retally_core::operators::horizon::{as_of, latest, up_to};
use retally_core::operators::neighbors::neighbors;
use retally_core::operators::rolling::Window;
use retally_core::publish::Outputs;
use retally_core::time::{DAY, Moment};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::{Map, Partition};

/// The dataflow with its settings.
#[derive(Clone, Debug)]
pub struct Active {
    /// The zone of days.
    pub zone: Zone,
    /// Who a user is.
    pub user_field: UserField,
    /// Which events are engagements.
    pub engagement_events: EngagementEvents,
    /// How long an engagement must be to count.
    pub min_engagement: Engagement,
    /// What makes an engaged user active.
    pub valuable: Valuable,
    /// Events after this are left out.
    pub as_of: AsOf,
}

/// An event of a user. The day comes first, so that the last of a user's events lies on the latest of their days, whatever the clocks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Occurrence {
    day: Day,
    time: Moment,
    name: Name,
    engagement: Option<Engagement>,
    valuable: bool,
    /// It has no offset, where the day takes one.
    lacks_offset: bool,
}

/// Why an engagement makes nobody active, and what an event lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Issue {
    EngagementMissing,
    BelowThreshold,
    NotValuable,
    NoUser,
    OffsetMissing,
}

impl Issue {
    /// As in the column `issue`.
    fn name(self) -> &'static str {
        match self {
            Issue::EngagementMissing => "engagement_missing",
            Issue::BelowThreshold => "below_threshold",
            Issue::NotValuable => "not_valuable",
            Issue::NoUser => "no_user",
            Issue::OffsetMissing => "offset_missing",
        }
    }
}

/// Half of what makes a day active, where it takes two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Half {
    /// The user was engaged for long enough.
    Engaged,
    /// Something valuable occurred.
    Valuable,
}

/// The window of [`tables::DAILY`].
const DAILY: Window = Window::Days(1);
/// The windows of [`tables::ROLLING`].
const ROLLING: [Window; 2] = [Window::Days(7), Window::Days(28)];

/// A fact that follows from events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Fact {
    /// The user was active on the day. It holds, whether it is emitted once or several times.
    Active(User, Day),
    /// The day has half of what it takes.
    Half(User, Day, Half),
    /// An event does not count, or lacks something.
    Issue(Issue),
    /// No event of the user lies on a later day.
    LastDay(Day),
}

impl Graph for Active {
    fn tables(&self) -> Vec<Table> {
        tables::tables()
    }

    fn charts(&self) -> Vec<Chart> {
        tables::charts()
    }

    fn calendar(&self) -> Calendar {
        self.zone.calendar.clone()
    }

    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
        let Facts { active, halves, issues, last_days } = by_kind(self.said(self.occurrences(inputs)));
        let tallied = by_kind(by_key(halves, Pipeline, "halves by user and day", Tally::change));
        let (active, issues) = (active.concat(tallied.active), issues.concat(tallied.issues));

        if outputs.wants(tables::ISSUES) {
            outputs.table(tables::ISSUES, issues.count_total().map(|(issue, events)| tables::issue_row(issue.name(), events)));
        }
        let windows = windows(outputs);
        if windows.is_empty() {
            return;
        }
        let ends = summed_day_ranges(range_ends(active), Pipeline, "active days by user", windows, |_, window| window);
        let users = daily(ends, self.latest_day(last_days, inputs), "users by day and window");
        outputs
            .table(tables::DAILY, users.clone().flat_map(|(window, day, users)| (window == DAILY).then(|| tables::daily_row(day, users))));
        outputs.table(
            tables::ROLLING,
            users.flat_map(|(window, day, users)| match window {
                Window::Days(days) if window != DAILY => Some(tables::rolling_row(day, days, users)),
                _ => None,
            }),
        );
    }
}

impl Active {
    /// The events by user, up to as-of.
    fn occurrences<'s>(&self, inputs: &Inputs<'s>) -> Collection<'s, (User, Occurrence)> {
        let events = up_to(inputs.records::<Event>("events"), self.as_of, |event| event.time);
        let (zone, user_field) = (self.zone.clone(), self.user_field);
        events.map(move |mut event| {
            let (day, lacks_offset, user) = (zone.day(&event), zone.lacks_offset(&event), user_field.of(&mut event));
            let Event { time, name, engagement, valuable, .. } = event;
            (user, Occurrence { day, time, name, engagement, valuable, lacks_offset })
        })
    }

    /// The facts of the set of events, event by event.
    fn said<'s>(&self, events: Collection<'s, (User, Occurrence)>) -> Collection<'s, Fact> {
        let rules = self.clone();
        neighbors(events, exchange(), "events by user", move |user, event, next, give| {
            rules.say(user, event, give);
            if next.is_none() {
                give(Fact::LastDay(event.day));
            }
        })
    }

    /// The facts that follow from an event alone.
    fn say(&self, user: &User, event: &Occurrence, give: &mut dyn FnMut(Fact)) {
        if let User::Nobody(_) = user {
            give(Fact::Issue(Issue::NoUser));
            return;
        }
        if event.lacks_offset {
            give(Fact::Issue(Issue::OffsetMissing));
        }
        if matches!(&self.valuable, Valuable::Events(names) if names.contains(&event.name)) {
            give(Fact::Half(user.clone(), event.day, Half::Valuable));
        }
        if !self.engagement_events.contain(&event.name, event.engagement) {
            return;
        }
        give(match (event.engagement, &self.valuable) {
            (None, _) => Fact::Issue(Issue::EngagementMissing),
            (Some(engagement), _) if engagement < self.min_engagement => Fact::Issue(Issue::BelowThreshold),
            (Some(_), Valuable::Events(_)) => Fact::Half(user.clone(), event.day, Half::Engaged),
            (Some(_), Valuable::Parameter) if event.valuable => Fact::Active(user.clone(), event.day),
            (Some(_), Valuable::Parameter) => Fact::Issue(Issue::NotValuable),
        });
    }

    /// The day up to which windows are counted: that of the latest event, and not before that of as-of where it is set.
    fn latest_day<'s>(&self, last_days: Collection<'s, Day>, inputs: &Inputs<'s>) -> Collection<'s, Day> {
        let midnight = |day: Day| Moment(i64::from(day.0) * DAY);
        let mut days = last_days.map(midnight);
        if let AsOf::At(moment) = self.as_of {
            let day_of_as_of = as_of(days.clone(), AsOf::At(midnight(self.zone.calendar.day(moment))), "as-of");
            days = days.concat(day_of_as_of);
        }
        if let Some(clock) = inputs.clock() {
            let calendar = self.zone.calendar.clone();
            days = days.concat(clock.map(move |moment| midnight(calendar.day(moment))));
        }
        let utc = Calendar::utc();
        latest(days, "latest day").map(move |midnight| utc.day(midnight))
    }
}

/// The windows that wanted tables need.
fn windows(outputs: &Outputs<'_>) -> Vec<Window> {
    let daily = outputs.wants(tables::DAILY).then_some(DAILY);
    let rolling = outputs.wants(tables::ROLLING).then_some(ROLLING);
    daily.into_iter().chain(rolling.into_iter().flatten()).collect()
}

/// Days as ranges of one day.
fn range_ends(days: Collection<'_, (User, Day)>) -> Collection<'_, (User, Day)> {
    let ends = days.inner.flat_map(|((user, day), epoch, diff)| [((user.clone(), day), epoch, diff), ((user, day.plus(1)), epoch, -diff)]);
    ends.as_collection()
}

/// The facts by kind.
struct Facts<'s> {
    active: Collection<'s, (User, Day)>,
    halves: Collection<'s, ((User, Day), Half)>,
    issues: Collection<'s, Issue>,
    last_days: Collection<'s, Day>,
}

fn by_kind(facts: Collection<'_, Fact>) -> Facts<'_> {
    let kinds = facts.inner.partition(4, |(fact, epoch, diff)| {
        let kind = match fact {
            Fact::Active(..) => 0,
            Fact::Half(..) => 1,
            Fact::Issue(_) => 2,
            Fact::LastDay(_) => 3,
        };
        (kind, (fact, epoch, diff))
    });
    let mut kinds = kinds.into_iter();
    let mut next = || kinds.next().unwrap_or_else(|| panic!("partition makes as many streams as it is asked for")).as_collection();
    Facts {
        active: next().flat_map(|fact| if let Fact::Active(user, day) = fact { Some((user, day)) } else { None }),
        halves: next().flat_map(|fact| if let Fact::Half(user, day, half) = fact { Some(((user, day), half)) } else { None }),
        issues: next().flat_map(|fact| if let Fact::Issue(issue) = fact { Some(issue) } else { None }),
        last_days: next().flat_map(|fact| if let Fact::LastDay(day) = fact { Some(day) } else { None }),
    }
}

/// How often the halves of a user's day are there.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    engaged: isize,
    valuable: isize,
}

impl State for Tally {
    fn is_empty(&self) -> bool {
        self.engaged == 0 && self.valuable == 0
    }
}

impl Tally {
    /// Counts changes, and emits what follows from the counts.
    fn change((user, day): &(User, Day), changes: &mut Vec<(Half, isize)>, tally: &mut Tally, emitter: &mut Each<Fact>) {
        tally.say(user, *day, -1, emitter);
        for (half, diff) in changes.drain(..) {
            match half {
                Half::Engaged => tally.engaged += diff,
                Half::Valuable => tally.valuable += diff,
            }
        }
        tally.say(user, *day, 1, emitter);
    }

    /// With both halves the user was active; with the one, its engagements are in vain.
    fn say(self, user: &User, day: Day, sign: isize, emitter: &mut Each<Fact>) {
        match (self.engaged, self.valuable) {
            (0, _) => {}
            (engaged, 0) => emitter.give(Fact::Issue(Issue::NotValuable), sign * engaged),
            _ => emitter.give(Fact::Active(user.clone(), day), sign),
        }
    }
}
