//! Hours online per day: the union of each device's intervals, cut at midnights, and the table `online_summary`.
//!
//! A stretch of time is a part of its first day, a part of its last, and all of the days between. Whole days are counted
//! as range ends, parts as microseconds. A stretch that is not over counts to the end of each day to come; what as-of's day
//! has too much by that, (its end - as-of) for each device that is online at as-of, is taken off when the row is made. So
//! as-of can move without touching any device.

use crate::interval::Interval;
use crate::series::{Hours, Series};
use differential_dataflow::AsCollection;
use retally_core::Collection;
use retally_core::calendar::{Calendar, Day};
use retally_core::operators::by_key::{DaySums, Each, Emitter, State, Timing, WithHorizon, by_key_timed, by_key_with_horizon, exchange};
use retally_core::operators::steps::Steps;
use retally_core::row::Row;
use retally_core::time::{HOUR, Moment};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::Map;

/// The parts of hours as range ends, and the devices that are still online; intervals come on the worker of their device.
pub fn hours<'s>(intervals: Collection<'s, Interval>, calendar: &Calendar) -> (Collection<'s, (Hours, Day)>, Collection<'s, ()>) {
    let calendar = calendar.clone();
    let ends = intervals.inner.flat_map(|(interval, epoch, diff)| {
        let end = interval.until.map(|until| ((interval.device, until), epoch, -diff));
        [((interval.device, interval.from), epoch, diff)].into_iter().chain(end)
    });
    let change = move |_: &u64, changes: &mut Vec<_>, steps: &mut Steps<Moment>, emitter: &mut DaySums<_>| {
        steps.add(changes, |(from, until, old, new)| {
            let sign = i64::from(new > 0) - i64::from(old > 0);
            if sign != 0 {
                stretch(&calendar, from, until, |part, day, amount| emitter.give((part, day), difference(sign * amount)));
            }
        });
    };
    let parts = by_key_timed(ends.as_collection(), Pipeline, "hours by device", Timing::AsTheyCome, change);
    (parts.clone().filter(|(part, _)| *part != Hours::Open), parts.filter(|(part, _)| *part == Hours::Open).map(|_| ()))
}

/// Microseconds as a difference. A day's are far below the limit of any machine that this runs on.
fn difference(amount: i64) -> isize {
    isize::try_from(amount).unwrap_or_else(|_| panic!("{amount} microseconds are no difference on this machine"))
}

/// Cuts a stretch of time into parts, as range ends.
fn stretch(calendar: &Calendar, from: Moment, until: Option<Moment>, mut give: impl FnMut(Hours, Day, i64)) {
    let mut part = |day: Day, micros: i64| {
        give(Hours::Parts, day, micros);
        give(Hours::Parts, day.plus(1), -micros);
    };
    let first = calendar.day_spanning(from);
    let Some(until) = until else {
        part(first, calendar.end(first).0 - from.0);
        give(Hours::WholeDays, first.plus(1), 1);
        give(Hours::Open, first, 1);
        return;
    };
    let last = calendar.day_spanning(until.plus(-1));
    if first == last {
        part(first, until.0 - from.0);
        return;
    }
    part(first, calendar.end(first).0 - from.0);
    part(last, until.0 - calendar.start(last).0);
    give(Hours::WholeDays, first.plus(1), 1);
    give(Hours::WholeDays, last, -1);
}

/// What is known of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum OfDay {
    Count(Series),
    /// Microseconds behind as-of that were counted for devices that are still online.
    TooMuch,
}

/// How many devices are online at as-of and on.
#[derive(Default)]
struct StillOnline(i64);

impl State for StillOnline {
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

/// States what as-of's day has too much.
struct TooMuch {
    calendar: Calendar,
}

impl TooMuch {
    fn state(&self, open: &StillOnline, as_of: Option<&Moment>, diff: isize, emitter: &mut impl Emitter<(Day, (OfDay, i64))>) {
        if let Some(as_of) = as_of.filter(|_| open.0 != 0) {
            let day = self.calendar.day_spanning(*as_of);
            emitter.give((day, (OfDay::TooMuch, open.0 * (self.calendar.end(day).0 - as_of.0))), diff);
        }
    }
}

impl WithHorizon<(), (), StillOnline, (Day, (OfDay, i64))> for TooMuch {
    type Horizon = Moment;

    fn apply(
        &mut self,
        _key: &(),
        changes: &mut Vec<((), isize)>,
        open: &mut StillOnline,
        as_of: Option<&Moment>,
        emitter: &mut impl Emitter<(Day, (OfDay, i64))>,
    ) {
        self.state(open, as_of, -1, emitter);
        open.0 += changes.drain(..).map(|((), diff)| diff as i64).sum::<i64>();
        self.state(open, as_of, 1, emitter);
    }

    fn moved(
        &mut self,
        _key: &(),
        open: &mut StillOnline,
        from: Option<&Moment>,
        to: Option<&Moment>,
        emitter: &mut impl Emitter<(Day, (OfDay, i64))>,
    ) {
        self.state(open, from, -1, emitter);
        self.state(open, to, 1, emitter);
    }
}

/// The rows of `online_summary`, from counts by day and the devices that are still online.
pub fn summary<'s>(
    counts: Collection<'s, (Series, Day, i64)>,
    open: Collection<'s, ()>,
    as_of: Collection<'s, Moment>,
    calendar: &Calendar,
) -> Collection<'s, Row> {
    let counted = counts.flat_map(|(series, day, value)| match series {
        Series::Fleet(..) => None,
        _ => Some((day, (OfDay::Count(series), value))),
    });
    let too_much = TooMuch { calendar: calendar.clone() };
    let too_much =
        by_key_with_horizon::<_, _, _, _, Each<_>, _, _>(open.map(|()| ((), ())), as_of, exchange(), "hours behind as-of", too_much);
    let calendar = calendar.clone();
    counted
        .concat(too_much)
        .reduce_named("summary of the day", move |day, known, output| {
            let get = |of| known.iter().find(|((what, _), _)| *what == of).map(|((_, value), _)| *value);
            let count = |series| get(OfDay::Count(series)).unwrap_or(0);
            let devices = count(Series::Devices);
            if devices == 0 {
                return;
            }
            let (start, end) = (calendar.start(*day), calendar.end(*day));
            let whole = count(Series::Hours(Hours::WholeDays)) * (end.0 - start.0);
            let micros = whole + count(Series::Hours(Hours::Parts)) - get(OfDay::TooMuch).unwrap_or(0);
            output.push(((devices, count(Series::Users), micros, count(Series::NewDevices)), 1));
        })
        .map(|(day, (devices, users, micros, new_devices))| {
            let row = Row::with_capacity(40).day(day).uint(devices.unsigned_abs()).uint(users.unsigned_abs());
            row.float(micros as f64 / HOUR as f64).uint(new_devices.unsigned_abs())
        })
}
