//! When intervals end whose end depends on their server: at its destruction, at the next event, or not yet.
//!
//! Servers are few and change seldom; intervals are many. So every worker knows all destructions and the as-of time, and keeps the
//! intervals of its devices that depend on a server, by server and by their end without it. An interval is stated once, right; a server's
//! change corrects those that end behind it; and as-of passing a destruction is a server's change as well.
//!
//! State: 32 bytes for each interval that depends on a server, and up to a half of it again where it grows. Cost of an interval: O(1);
//! of a server's change: the intervals that it moves, and merging what came last; of as-of's: the servers that it passes, and where
//! something is said of as-of itself, all open intervals.

use crate::interval::{EndReason, Interval};
use crate::rules;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use retally_core::Collection;
use retally_core::calendar::{Calendar, Day};
use retally_core::operators::beside::{Beside, beside, latest};
use retally_core::operators::merged::MergedList;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound;

/// What all workers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Known {
    /// A server was destroyed, and when; at most once for each server.
    Destroyed(u64, Moment),
    /// Up to when open facts are counted; at most one.
    AsOf(Moment),
}

/// What is said of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Said {
    /// The interval, with its end; without one where it is not over.
    Interval(Interval),
    /// It is not over at as-of, which is the start of this day; the interval began before.
    Midnight(Interval, Day),
    /// It is not over, and as-of is its end for the time being.
    UntilAsOf(Interval),
}

/// Which of it is said, beside the intervals.
#[derive(Clone, Debug)]
pub struct About {
    /// Where given, [`Said::Midnight`], by this calendar.
    pub midnight: Option<Calendar>,
    /// [`Said::UntilAsOf`].
    pub until_as_of: bool,
}

/// States intervals that depend on their servers, on the worker that they are on; `known` must be the same on all workers.
pub fn endings<'s>(by_server: Collection<'s, Interval>, known: Collection<'s, Known>, about: About) -> Collection<'s, Said> {
    let as_of = AsOf { is_said: about.until_as_of, ..AsOf::default() };
    let endings = Endings { about, as_of, next_as_of: Vec::new(), servers: HashMap::default(), destroyed: BTreeSet::new() };
    beside(by_server, known, "intervals by server", endings)
}

/// An interval without its server: the order is that of ends, open ones last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dependent {
    /// The next event's time; [`OPEN`] where there is none that ends it.
    until: Moment,
    from: Moment,
    device: u64,
    user: u64,
}

/// Behind all times.
const OPEN: Moment = Moment(i64::MAX);

impl Dependent {
    fn new(interval: &Interval) -> Dependent {
        Dependent { until: interval.until.unwrap_or(OPEN), from: interval.from, device: interval.device, user: interval.user }
    }

    fn is_open(&self) -> bool {
        self.until == OPEN
    }

    /// The interval, ended by a destruction where that comes first.
    fn interval(&self, server: u64, destruction: Option<Moment>) -> Interval {
        let (until, reason) = if self.is_open() { (None, EndReason::StillOnline) } else { (Some(self.until), EndReason::Reconnected) };
        let interval = Interval { device: self.device, user: self.user, server, from: self.from, until, reason };
        destruction.and_then(|moment| rules::destroyed(&interval, moment)).unwrap_or(interval)
    }
}

/// What is known of a server.
#[derive(Default)]
struct Server {
    destroyed: Option<Moment>,
    intervals: MergedList<Dependent>,
}

impl Server {
    fn is_empty(&self) -> bool {
        self.destroyed.is_none() && self.intervals.is_empty()
    }

    /// The intervals that end behind a time.
    fn behind(&mut self, moment: Moment) -> &[Dependent] {
        let intervals = self.intervals.sorted();
        intervals.get(intervals.partition_point(|dependent| dependent.until <= moment)..).unwrap_or_default()
    }

    /// The intervals that nothing but the server ends.
    fn open(&mut self) -> &[Dependent] {
        self.behind(Moment(OPEN.0 - 1))
    }

    /// Its destruction, if that ends open intervals at as-of. Without an as-of time all do: nearly all are in the past, and the
    /// others are corrected when there is one.
    fn reached(&self, as_of: Option<Moment>) -> Option<Moment> {
        self.destroyed.filter(|moment| as_of.is_none_or(|as_of| *moment <= as_of))
    }
}

/// As-of, and what is said of it.
#[derive(Clone, Copy, Debug, Default)]
struct AsOf {
    moment: Option<Moment>,
    /// Where it is the start of a day, and that matters.
    midnight: Option<(Moment, Day)>,
    /// Whether it is said to be an end.
    is_said: bool,
}

impl AsOf {
    /// What is said of an interval that is not over.
    fn say(&self, open: &Interval, sign: isize, give: &mut impl FnMut(Said, isize)) {
        if let Some((_, day)) = self.midnight.filter(|(moment, _)| open.from < *moment) {
            give(Said::Midnight(*open, day), sign);
        }
        if let Some(moment) = self.moment.filter(|_| self.is_said) {
            give(Said::UntilAsOf(Interval { until: Some(moment), ..*open }), sign);
        }
    }

    /// Whether anything may be said.
    fn is_mentioned(&self) -> bool {
        self.is_said || self.midnight.is_some()
    }
}

struct Endings {
    about: About,
    as_of: AsOf,
    /// Changes of as-of, which count when the epoch is complete.
    next_as_of: Vec<(Moment, isize)>,
    servers: HashMap<u64, Server, FixedState>,
    /// Servers by their destruction.
    destroyed: BTreeSet<(Moment, u64)>,
}

impl Endings {
    fn change_server(&mut self, id: u64, destroyed: Option<Moment>, give: &mut impl FnMut(Said, isize)) {
        let server = self.servers.entry(id).or_default();
        let (old, old_reached) = (server.destroyed, server.reached(self.as_of.moment));
        server.destroyed = destroyed;
        let reached = server.reached(self.as_of.moment);
        // What ends before both ends as it did.
        if let Some(earlier) = old.into_iter().chain(destroyed).min() {
            for dependent in server.behind(earlier) {
                let (before, after) = if dependent.is_open() { (old_reached, reached) } else { (old, destroyed) };
                let (before, after) = (dependent.interval(id, before), dependent.interval(id, after));
                if before != after {
                    say(&before, &self.as_of, -1, give);
                    say(&after, &self.as_of, 1, give);
                }
            }
        }
        if server.is_empty() {
            self.servers.remove(&id);
        }
        if let Some(moment) = old {
            self.destroyed.remove(&(moment, id));
        }
        self.destroyed.extend(destroyed.map(|moment| (moment, id)));
    }

    fn change_as_of(&mut self, moment: Option<Moment>, give: &mut impl FnMut(Said, isize)) {
        let midnight = moment.zip(self.about.midnight.as_ref()).and_then(|(moment, calendar)| {
            let day = calendar.day_spanning(moment);
            (calendar.start(day) == moment).then_some((moment, day))
        });
        let (before, after) = (self.as_of, AsOf { moment, midnight, ..self.as_of });
        self.as_of = after;
        if before.is_mentioned() || after.is_mentioned() {
            for (id, server) in &mut self.servers {
                let (old, new) = (server.reached(before.moment), server.reached(moment));
                for dependent in server.open() {
                    say(&dependent.interval(*id, old), &before, -1, give);
                    say(&dependent.interval(*id, new), &after, 1, give);
                }
            }
            return;
        }
        // Only servers whose destruction as-of passes matter; no as-of is one behind all.
        let of = |moment: Option<Moment>| moment.unwrap_or(Moment(i64::MAX));
        let (low, high) = (of(before.moment).min(of(moment)), of(before.moment).max(of(moment)));
        for (_, id) in self.destroyed.range((Bound::Excluded((low, u64::MAX)), Bound::Included((high, u64::MAX)))) {
            let Some(server) = self.servers.get_mut(id) else { continue };
            let (old, new) = (server.reached(before.moment), server.reached(moment));
            for dependent in server.open() {
                give(Said::Interval(dependent.interval(*id, old)), -1);
                give(Said::Interval(dependent.interval(*id, new)), 1);
            }
        }
    }
}

/// States an interval, and what is said of as-of where it is not over.
fn say(interval: &Interval, as_of: &AsOf, sign: isize, give: &mut impl FnMut(Said, isize)) {
    give(Said::Interval(*interval), sign);
    if interval.until.is_none() {
        as_of.say(interval, sign, give);
    }
}

impl Beside<Interval, Known, Said> for Endings {
    fn learn(&mut self, facts: Vec<(Known, isize)>, give: &mut impl FnMut(Said, isize)) {
        let mut servers = Vec::new();
        for (fact, diff) in facts {
            match fact {
                Known::AsOf(moment) => self.next_as_of.push((moment, diff)),
                Known::Destroyed(server, moment) => servers.push(((server, moment), diff)),
            }
        }
        latest(servers).into_iter().for_each(|(id, destroyed)| self.change_server(id, destroyed, give));
    }

    fn apply(&mut self, records: Vec<(Interval, isize)>, give: &mut impl FnMut(Said, isize)) {
        for (interval, diff) in records {
            let dependent = Dependent::new(&interval);
            let server = self.servers.entry(interval.server).or_default();
            server.intervals.change(dependent, diff);
            let destruction = if dependent.is_open() { server.reached(self.as_of.moment) } else { server.destroyed };
            if server.is_empty() {
                self.servers.remove(&interval.server);
            }
            say(&dependent.interval(interval.server, destruction), &self.as_of, diff, give);
        }
    }

    fn end(&mut self, give: &mut impl FnMut(Said, isize)) {
        let mut changes = std::mem::take(&mut self.next_as_of);
        differential_dataflow::consolidation::consolidate(&mut changes);
        if !changes.is_empty() {
            let as_of = changes.into_iter().find(|(_, diff)| *diff > 0).map(|(moment, _)| moment);
            self.change_as_of(as_of, give);
        }
    }
}
