//! The graph: from events to intervals, from intervals to days, from days to counts.
//!
//! Every event and the next one of its device say whether and how long the device was online ([`crate::rules`]). Where
//! that depends on the end of a server's life, the interval is kept by server, beside the destructions, which all
//! workers know ([`crate::endings`]). A device is online on the days that the union
//! of its intervals covers; a user's fleet on a day is how many of its devices are; and the tables are sums over users, by size.
//!
//! What is open at the end of the data covers all days to come, and tables are cut at the day of as-of. So when as-of
//! moves to the next day, the rows of that day appear, and no device is looked at.

use crate::endings::{About, Known, Said, endings};
use crate::fleet::FleetSizes;
use crate::hours;
use crate::interval::Interval;
use crate::lifetimes;
use crate::projection;
use crate::records::{Event, Lifetime, Server, Status, Until};
use crate::rules::{self, Issue};
use crate::series::Series;
use crate::tables;
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, Data};
use retally_core::VecStream;
use retally_core::calendar::{Calendar, Day};
use retally_core::chart::Chart;
use retally_core::contract::{AsOf, Graph, Table};
use retally_core::decode::Inputs;
use retally_core::ids::Ids;
use retally_core::operators::by_key::exchange;
use retally_core::operators::counts::{count_steps, daily};
use retally_core::operators::day_ranges::{day_ranges, summed_day_ranges};
use retally_core::operators::horizon::{as_of, latest, up_to};
use retally_core::operators::neighbors::neighbors_and_ties;
use retally_core::operators::order::{Order, OrderBy, OwnOrder};
use retally_core::operators::rolling::Window;
use retally_core::publish::Outputs;
use retally_core::row::Row;
use retally_core::time::Moment;
use retally_core::{Collection, Epoch};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::vec::{Broadcast, Map};

/// The dataflow with its settings.
#[derive(Clone, Debug)]
pub struct Online {
    /// The zone of days.
    pub calendar: Calendar,
    /// What devices, users and servers are named by.
    pub ids: Ids,
    /// The buckets of fleet sizes.
    pub sizes: FleetSizes,
    /// Up to when open facts are counted.
    pub as_of: AsOf,
}

/// What follows from an event and the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Fact {
    /// An interval.
    Closed(Interval),
    /// An interval that a destruction of its server may end earlier.
    ByServer(Interval),
    /// The device's last event.
    Last(Moment),
    /// Something is wrong.
    Wrong(Issue),
    /// There was an event of this server.
    Seen(u64, Moment),
}

/// The window of `online_rolling_28d`.
const ROLLING: Window = Window::Days(28);
/// The window of `online_daily`.
const DAILY: Window = Window::Days(1);

impl Graph for Online {
    fn tables(&self) -> Vec<Table> {
        tables::tables(self.ids, &self.sizes)
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
        &[("device_id", "events", "device_id")]
    }

    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
        let events = self.events(inputs);
        let servers = latest_lifetimes(inputs);
        let issues = outputs.wants("online_issues");
        // Where ids are texts, the order of a device's events is that of texts.
        let facts = match inputs.texts().map(Arc::clone) {
            None => facts(events, OwnOrder, issues),
            Some(texts) => {
                let by_id = move |left: u64, right: u64| texts.compare(left.into(), right.into());
                let order = OrderBy::new(move |left: &Status, right: &Status| left.compare(right, &by_id));
                facts(inputs.awaiting_texts(events), order, issues)
            }
        };
        let as_of = as_of(inputs.with_clock(facts.last), self.as_of, "as-of");
        let today = {
            let calendar = self.calendar.clone();
            as_of.clone().map(move |moment| calendar.day_spanning(moment))
        };
        let days = ["online_daily", "online_rolling_28d", "online_summary", "online_projection"];
        let about =
            About { midnight: outputs.wants_any(&days).then(|| self.calendar.clone()), until_as_of: outputs.wants("online_intervals") };
        let intervals = intervals(facts.closed, facts.by_server, &servers, as_of.clone(), about);

        if outputs.wants("online_intervals") {
            outputs.table("online_intervals", interval_rows(intervals.clone()));
        }
        if outputs.wants("online_issues") {
            let found = facts.wrong.concat(lifetimes::issues(facts.seen, servers));
            outputs.table("online_issues", found.count_total().map(|(issue, events)| tables::issue_row(issue.name(), events)));
        }
        if !outputs.wants_any(&days) {
            return;
        }

        let mut series = self.fleets(intervals.clone(), outputs);
        let mut open = None;
        if outputs.wants("online_summary") {
            let (parts, still) = hours::hours(intervals.all.clone(), &self.calendar);
            let devices = self.devices(intervals);
            series = series.concat(devices).concat(parts.map(|(part, day)| (Series::Hours(part), day)));
            open = Some(still);
        }
        let counts = daily(series, today.clone(), "per day");
        outputs.table("online_daily", fleet_rows(counts.clone(), DAILY));
        outputs.table("online_rolling_28d", fleet_rows(counts.clone(), ROLLING));
        if let Some(open) = open {
            outputs.table("online_summary", hours::summary(counts.clone(), open, as_of, &self.calendar));
        }
        if outputs.wants("online_projection") {
            outputs.table("online_projection", projection_rows(counts, today));
        }
    }
}

impl Online {
    /// The events by device, up to as-of.
    fn events<'s>(&self, inputs: &Inputs<'s>) -> Collection<'s, (u64, Status)> {
        let events = up_to(inputs.records::<Event>("events"), self.as_of, |event| event.status.time());
        events.map(|event| (event.device, event.status))
    }

    /// The days that an interval covers, as range ends: at least the day of its start.
    fn day_ends(&self, interval: &Interval) -> (Day, Option<Day>) {
        let from = self.calendar.day_spanning(interval.from);
        let until = interval.until.map(|until| {
            let last = if until > interval.from { self.calendar.day_spanning(until.plus(-1)).max(from) } else { from };
            last.plus(1)
        });
        (from, until)
    }

    /// The ends of the days that intervals cover, by `key`.
    ///
    /// An open interval has no end, but for the one moment at which as-of is a day's start: it does not reach into that day.
    fn covered_days<'s, K: Data>(
        &self,
        intervals: Intervals<'s>,
        key: impl Fn(&Interval) -> K + Copy + 'static,
    ) -> Collection<'s, (K, Day)> {
        let ends = self.clone();
        let cut = intervals.midnight.map(move |(interval, day)| (key(&interval), day)).negate();
        let covered = intervals.all.inner.flat_map(move |(interval, epoch, diff)| {
            let (from, until) = ends.day_ends(&interval);
            let end = until.map(|until| ((key(&interval), until), epoch, -diff));
            [((key(&interval), from), epoch, diff)].into_iter().chain(end)
        });
        covered.as_collection().concat(cut)
    }

    /// How many devices are online, by the size of their user's fleet; and what else is counted by user.
    fn fleets<'s>(&self, intervals: Intervals<'s>, outputs: &Outputs<'s>) -> Collection<'s, (Series, Day)> {
        let covered = self.covered_days(intervals, |interval| (interval.device, interval.user));
        let mut windows = Vec::new();
        if outputs.wants_any(&["online_daily", "online_summary", "online_projection"]) {
            windows.push(DAILY);
        }
        if outputs.wants("online_rolling_28d") {
            windows.push(ROLLING);
        }
        let online = day_ranges(covered, Pipeline, "days by device and user", windows, |(_, user), window, day| (*user, (window, day)));
        let (sizes, summary) = (self.sizes.clone(), outputs.wants("online_summary"));
        count_steps(online, exchange(), "fleets by user", move |window, devices, give| {
            give(Series::Fleet(window, sizes.bucket(devices)), devices as isize);
            if summary && window == DAILY {
                give(Series::Users, 1);
            }
        })
    }

    /// The days of each device, and its first one, whoever its user: both from one index.
    fn devices<'s>(&self, intervals: Intervals<'s>) -> Collection<'s, (Series, Day)> {
        let covered = self.covered_days(intervals, |interval| interval.device);
        let series = |_: &u64, window| if window == DAILY { Series::Devices } else { Series::NewDevices };
        let ends = summed_day_ranges(covered, Pipeline, "days by device", vec![DAILY, Window::Ever], series);
        let first = ends.clone().filter(|(series, _)| *series == Series::NewDevices);
        ends.concat(first.map(|(new, day)| (new, day.plus(1))).negate())
    }
}

/// The row that counts of each server, known to all workers.
fn latest_lifetimes<'s>(inputs: &Inputs<'s>) -> Collection<'s, (u64, Lifetime)> {
    let latest = inputs.records::<Server>("servers").map(|server| (server.id, server.lifetime)).reduce_named(
        "latest lifetime",
        |_, rows, output| {
            // Sorted: the last of those that are there is the latest.
            if let Some((lifetime, _)) = rows.iter().rev().find(|(_, count)| *count > 0) {
                output.push((**lifetime, 1));
            }
        },
    );
    latest.inner.broadcast().as_collection()
}

/// What `take` takes out of a collection, and the others.
fn taken_out<'s, D: Data, T: Data>(
    all: Collection<'s, D>,
    take: impl Fn(D) -> Result<T, D> + 'static,
) -> (Collection<'s, T>, Collection<'s, D>) {
    let (taken, others) = all.inner.ok_err(move |(data, epoch, diff)| match take(data) {
        Ok(taken) => Ok((taken, epoch, diff)),
        Err(other) => Err((other, epoch, diff)),
    });
    let taken: VecStream<'_, (T, Epoch, isize)> = taken;
    let others: VecStream<'_, (D, Epoch, isize)> = others;
    (taken.as_collection(), others.as_collection())
}

/// The facts by kind.
struct Facts<'s> {
    closed: Collection<'s, Interval>,
    by_server: Collection<'s, Interval>,
    last: Collection<'s, Moment>,
    wrong: Collection<'s, Issue>,
    seen: Collection<'s, (u64, Moment)>,
}

/// What follows from the events of devices, in this order.
fn facts<'s>(events: Collection<'s, (u64, Status)>, order: impl Order<Status>, issues: bool) -> Facts<'s> {
    let rule = move |device: &u64, current: &Status, next: Option<&Status>, give: &mut dyn FnMut(Fact)| {
        if let Some((interval, by_server)) = rules::interval(*device, current, next) {
            give(if by_server { Fact::ByServer(interval) } else { Fact::Closed(interval) });
        }
        if next.is_none() {
            give(Fact::Last(current.time()));
        }
        if issues {
            give(Fact::Seen(current.server, current.time()));
            rules::issue(current, next).into_iter().for_each(|issue| give(Fact::Wrong(issue)));
        }
    };
    // Ties cost nothing where issues are not asked for.
    let run = move |status: &Status| issues.then(|| status.time());
    let tie = |events: &mut dyn Iterator<Item = &Status>| rules::same_time(events).map(|count| (Fact::Wrong(Issue::SameTime), count));
    let facts = neighbors_and_ties(events, exchange(), "next event of the device", order, rule, run, tie);
    // Nearly all facts of a load are intervals: they are taken out first, and copied no more.
    let (closed, others) = taken_out(facts, |fact| if let Fact::Closed(interval) = fact { Ok(interval) } else { Err(fact) });
    let (by_server, others) = taken_out(others, |fact| if let Fact::ByServer(interval) = fact { Ok(interval) } else { Err(fact) });
    Facts {
        closed,
        by_server,
        last: others.clone().flat_map(|fact| if let Fact::Last(moment) = fact { Some(moment) } else { None }),
        wrong: others.clone().flat_map(|fact| if let Fact::Wrong(issue) = fact { Some(issue) } else { None }),
        seen: others.flat_map(|fact| if let Fact::Seen(server, moment) = fact { Some((server, moment)) } else { None }),
    }
}

/// Intervals, on the worker of their device.
#[derive(Clone)]
struct Intervals<'s> {
    all: Collection<'s, Interval>,
    /// Those of `all` that are not over, where as-of is the start of a day, with this day.
    midnight: Collection<'s, (Interval, Day)>,
    /// Those of `all` that are not over, ended at as-of.
    until_as_of: Collection<'s, Interval>,
}

fn intervals<'s>(
    closed: Collection<'s, Interval>,
    by_server: Collection<'s, Interval>,
    servers: &Collection<'s, (u64, Lifetime)>,
    as_of: Collection<'s, Moment>,
    about: About,
) -> Intervals<'s> {
    let destructions = servers.clone().flat_map(|(server, lifetime)| match lifetime.until {
        Until::Destroyed(moment) => Some(Known::Destroyed(server, moment)),
        Until::Alive => None,
    });
    let said = endings(by_server, destructions.concat(as_of.map(Known::AsOf)), about);
    let (by_server, others) = taken_out(said, |said| if let Said::Interval(interval) = said { Ok(interval) } else { Err(said) });
    Intervals {
        all: closed.concat(by_server),
        midnight: others.clone().flat_map(|said| if let Said::Midnight(interval, day) = said { Some((interval, day)) } else { None }),
        until_as_of: others.flat_map(|said| if let Said::UntilAsOf(interval) = said { Some(interval) } else { None }),
    }
}

/// The rows of `online_intervals`; those that are not over end at as-of.
fn interval_rows(intervals: Intervals<'_>) -> Collection<'_, Row> {
    let rows = intervals.all.concat(intervals.until_as_of);
    rows.flat_map(|interval| interval.until.map(|until| tables::interval_row(&interval, until, interval.reason)))
}

/// The rows of the fleet tables.
fn fleet_rows<'s>(counts: Collection<'s, (Series, Day, i64)>, window: Window) -> Collection<'s, Row> {
    counts.flat_map(move |(series, day, devices)| match series {
        Series::Fleet(of, bucket) if of == window => Some(tables::fleet_row(day, bucket, devices)),
        _ => None,
    })
}

/// The rows of `online_projection`, from those of `online_daily`.
fn projection_rows<'s>(counts: Collection<'s, (Series, Day, i64)>, today: Collection<'s, Day>) -> Collection<'s, Row> {
    let fleets = counts.flat_map(|(series, day, devices)| match series {
        Series::Fleet(DAILY, bucket) => Some((bucket, (day, devices))),
        _ => None,
    });
    // The earliest day is the latest of the days counted backwards.
    let days = fleets.clone().map(|(_, (day, _))| Moment(-i64::from(day.0)));
    let first = latest(days, "first online day").map(|moment| Day(i32::try_from(-moment.0).unwrap_or(i32::MAX)));
    projection::rows(fleets, first, today)
}
