//! Minutes of use by device and day, with the mean of the last seven days, up to the day of as-of.
//!
//! A completed session is cut at midnights, and each day gets its share. A device's days are kept with what was used, and only days on
//! which anything was; rows are made of them for every day from the first session on. A change on a day rewrites that day's row, and
//! those of the six days after it, whose means it is part of.
//!
//! State: 16 bytes for each day of a device on which it was used. Cost of a change: O(log n) and seven rows; of another day of as-of:
//! a row for each device.

use crate::logs::Session;
use crate::records::Id;
use differential_dataflow::AsCollection;
use retally_core::Collection;
use retally_core::calendar::{Calendar, Day};
use retally_core::operators::by_key::{Each, Emitter, State, WithHorizon, by_key_with_horizon};
use retally_core::operators::ordered::OrderedList;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::rc::Rc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::Map;

/// The values of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DayOfDevice {
    /// The device.
    pub device: Id,
    /// The day.
    pub day: Day,
    /// How long it was used.
    pub micros: i64,
    /// How long it was used on this day and those before it that the mean is of.
    pub week_micros: i64,
    /// How many days these are.
    pub week_days: i32,
}

/// The days of a mean.
const WEEK_DAYS: i32 = 7;

/// A part of a device's days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Part {
    /// The day of the first session.
    First(Day),
    /// A microsecond on a day.
    Used(Day),
}

/// The rows of all devices, which are where their sessions are.
pub fn minutes<'s>(
    sessions: Collection<'s, (Id, Session)>,
    first_starts: Collection<'s, (Id, Moment)>,
    today: Collection<'s, Day>,
    calendar: &Calendar,
) -> Collection<'s, DayOfDevice> {
    let zone = calendar.clone();
    let firsts = first_starts.map(move |(device, start)| (device, Part::First(zone.day_spanning(start))));
    let zone = Rc::new(calendar.clone());
    let used = sessions.inner.flat_map(move |((device, session), epoch, diff)| {
        let parts = days(&zone, session.start, session.end.unwrap_or(session.start));
        parts.map(move |(day, micros)| ((device, Part::Used(day)), epoch, diff * isize::try_from(micros).unwrap_or(isize::MAX)))
    });
    let parts = firsts.concat(used.as_collection());
    by_key_with_horizon::<_, _, Days, _, Each<_>, _, _>(parts, today, Pipeline, "minutes by device and day", Minutes)
}

/// A stretch of time by days: the microseconds that lie on each.
fn days(calendar: &Rc<Calendar>, from: Moment, until: Moment) -> impl Iterator<Item = (Day, i64)> + use<> {
    let mut day = calendar.day_spanning(from);
    let (calendar, mut from) = (Rc::clone(calendar), from);
    std::iter::from_fn(move || {
        let end = if from < until { calendar.end(day).min(until) } else { return None };
        let part = (day, end.0 - from.0);
        (from, day) = (end, day.plus(1));
        Some(part)
    })
}

/// The days of a device.
#[derive(Default)]
struct Days {
    first: Option<Day>,
    /// Days with what was used on them, which is not 0.
    used: OrderedList<(Day, i64)>,
}

impl State for Days {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.used.is_empty()
    }
}

impl Days {
    /// States the rows of some days, as far as there are any.
    fn say(&self, device: Id, days: RangeInclusive<i32>, horizon: Option<&Day>, diff: isize, emitter: &mut impl Emitter<DayOfDevice>) {
        let (Some(first), Some(horizon)) = (self.first, horizon) else { return };
        let (low, high) = (first.0.max(*days.start()), horizon.0.min(*days.end()));
        let week_before = self.used.lower_bound(|(day, _)| day.0.cmp(&(low - WEEK_DAYS + 1)));
        let (mut coming, mut going) = (self.used.from(week_before).peekable(), self.used.from(week_before).peekable());
        let mut week_micros = 0;
        for day in low..=high {
            let mut micros = 0;
            while let Some((of, used)) = coming.next_if(|(other, _)| other.0 <= day) {
                week_micros += used;
                micros = if of.0 == day { *used } else { 0 };
            }
            while let Some((_, used)) = going.next_if(|(other, _)| other.0 <= day - WEEK_DAYS) {
                week_micros -= used;
            }
            let week_days = WEEK_DAYS.min(day - first.0 + 1);
            emitter.give(DayOfDevice { device, day: Day(day), micros, week_micros, week_days }, diff);
        }
    }

    fn add(&mut self, changes: &[(Day, i64)]) {
        if self.used.is_empty() {
            self.used = OrderedList::from_sorted(changes.to_vec());
            return;
        }
        for (day, diff) in changes {
            let place = self.used.lower_bound(|(other, _)| other.cmp(day));
            let before = self.used.get(place).filter(|(other, _)| other == day).map(|(_, micros)| *micros);
            if before.is_some() {
                self.used.remove(place);
            }
            let after = before.unwrap_or(0) + diff;
            if after != 0 {
                let place = self.used.lower_bound(|(other, _)| other.cmp(day));
                self.used.insert(place, (*day, after));
            }
        }
    }
}

/// Adds to a list of ranges that are in order of their beginnings; those that touch become one.
fn extend(ranges: &mut Vec<(i32, i32)>, from: i32, until: i32) {
    match ranges.last_mut() {
        Some((_, last)) if from <= last.saturating_add(1) => *last = until.max(*last),
        _ => ranges.push((from, until)),
    }
}

/// The days whose rows may change, in order, when the first day and what was used on these days do.
fn touched(from: Option<Day>, to: Option<Day>, used: &[(Day, i64)]) -> Vec<(i32, i32)> {
    let mut ranges = Vec::new();
    let mut firsts = None;
    if from != to {
        let (low, high) = (from.min(to), from.max(to));
        // Where there was no first day, or is none any more, all rows come or go.
        firsts = Some(match (low, high) {
            (Some(low), Some(high)) => (low.0, high.0 + WEEK_DAYS - 1),
            _ => (i32::MIN, i32::MAX),
        });
    }
    for (day, _) in used {
        if let Some((low, high)) = firsts.take_if(|(low, _)| *low <= day.0) {
            extend(&mut ranges, low, high);
        }
        extend(&mut ranges, day.0, day.0 + WEEK_DAYS - 1);
    }
    firsts.into_iter().for_each(|(low, high)| extend(&mut ranges, low, high));
    ranges
}

struct Minutes;

impl WithHorizon<Id, Part, Days, DayOfDevice> for Minutes {
    type Horizon = Day;

    fn apply(
        &mut self,
        device: &Id,
        changes: &mut Vec<(Part, isize)>,
        state: &mut Days,
        horizon: Option<&Day>,
        emitter: &mut impl Emitter<DayOfDevice>,
    ) {
        let mut first = state.first;
        let mut used = Vec::with_capacity(changes.len());
        for (part, diff) in changes.drain(..) {
            match part {
                Part::First(day) if diff > 0 => first = Some(day),
                Part::First(day) => first = first.filter(|first| *first != day),
                Part::Used(day) => used.push((day, diff as i64)),
            }
        }
        let touched = touched(state.first, first, &used);
        touched.iter().for_each(|(low, high)| state.say(*device, *low..=*high, horizon, -1, emitter));
        state.add(&used);
        state.first = first;
        touched.iter().for_each(|(low, high)| state.say(*device, *low..=*high, horizon, 1, emitter));
    }

    fn moved(&mut self, device: &Id, state: &mut Days, from: Option<&Day>, to: Option<&Day>, emitter: &mut impl Emitter<DayOfDevice>) {
        let behind = |horizon: Option<&Day>| horizon.map_or(i32::MIN, |day| day.0 + 1);
        state.say(*device, behind(to)..=i32::MAX, from, -1, emitter);
        state.say(*device, behind(from)..=i32::MAX, to, 1, emitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_cut_at_midnights_of_the_zone() {
        let berlin = Rc::new(Calendar::named("Europe/Berlin").unwrap());
        let at = |text: &str| berlin.parse(text.as_bytes()).unwrap();
        let hours = |from, until| -> Vec<(String, i64)> {
            days(&berlin, at(from), at(until)).map(|(day, micros)| (day.to_string(), micros / 3_600_000_000)).collect()
        };
        let expected = [("2024-03-30", 1), ("2024-03-31", 23), ("2024-04-01", 2)].map(|(day, hours)| (day.to_string(), hours));
        assert_eq!(hours("2024-03-30 23:00:00", "2024-04-01 02:00:00"), expected);
        assert_eq!(hours("2024-10-27 00:00:00", "2024-10-28 00:00:00"), [("2024-10-27".to_string(), 25)]);
        assert_eq!(hours("2024-10-27 00:00:00", "2024-10-27 00:00:00"), []);
    }

    #[test]
    fn what_touches_is_one() {
        let day = |day| Some(Day(day));
        assert_eq!(touched(day(5), day(5), &[(Day(5), 1), (Day(12), 1), (Day(20), 1)]), [(5, 18), (20, 26)]);
        assert_eq!(touched(day(9), day(3), &[(Day(1), 1), (Day(30), 1)]), [(1, 15), (30, 36)]);
        assert_eq!(touched(None, day(3), &[(Day(3), 1)]), [(i32::MIN, i32::MAX)]);
        assert_eq!(touched(day(3), day(4), &[]), [(3, 10)]);
    }
}
