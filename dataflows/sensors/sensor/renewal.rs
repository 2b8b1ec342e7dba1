//! What hours that changed make of the hours after them: errors of forecasts, contrasts, baselines, and habits.
//!
//! Days are looked at in their order, and only those that something reaches:
//!
//! | what changes with an hour | reaches |
//! |---|---|
//! | forecasts and their errors, contrasts, tempo | its day and 9 days; the same hour 2, 3 and 4 weeks later |
//! | scales, and so baselines and distances | 7 days more: 36 in all |
//! | habits, of hours that may stand out alone | 28 days more: 64 in all |
//!
//! A window holds 29 days before the first day that is looked at, and what was found there ([`crate::window`]).

use super::{History, Leaf, Rules, Work};
use crate::anomalies::Tempo;
use crate::contrast::{Beside, Distance};
use crate::habit::{self, HABIT_DAYS};
use crate::leaf::Hour;
use crate::seen::{DAY, DAY_HOURS, day_of};
use crate::size::Size;
use crate::sums::Sums;
use crate::window::{CONTRASTS, DAYS_BEFORE, Window};
use std::collections::{BTreeMap, BTreeSet};

/// How many days are looked at in one window.
const DAYS_MAX: Hour = 64;
/// The days whose forecasts see an hour.
const FORECAST_DAYS: Hour = 9;
/// The weeks after which weekly forecasts see an hour, beyond those days.
const WEEKS: [Hour; 3] = [2, 3, 4];
/// The days whose scales see a day.
const SCALE_DAYS: Hour = 7;
/// How many days after an hour something may change with it, but for habits.
pub const REACH_DAYS: Hour = 29 + SCALE_DAYS;
/// How many hours after an hour a habit may change with it.
const HABIT_HOURS: Hour = 28 * DAY_HOURS;

/// What is done on a day.
const FORECASTS: u8 = 1;
const CONTRASTED: u8 = 2;
const SCALES: u8 = 4;
/// Nothing but forecasts of the same hour of weeks before, and scales of these.
const WEEKLY: u8 = 8;
const WEEKLY_SCALES: u8 = 16;

/// Hours to look at again.
#[derive(Default)]
pub(super) struct Renewed {
    /// Hours to score.
    pub stale: BTreeSet<Hour>,
    /// Hours whose contrasts are other ones.
    pub moved: BTreeSet<Hour>,
    /// The last day whose scales see an error of weekly forecasts that is another one.
    weekly_until: Hour,
}

/// The days to look at.
struct Days {
    first: Hour,
    tasks: Vec<u8>,
}

impl Days {
    /// Those that hours reach, as far as the last hour with measurements.
    fn of(changed: &BTreeSet<Hour>, last: Hour) -> Option<Days> {
        let (first, end) = (day_of(*changed.first()?), day_of(*changed.last()?) + REACH_DAYS + 1);
        let end = end.min(day_of(last) + 1);
        let mut days = Days { first, tasks: vec![0; usize::try_from(end - first).unwrap_or(0)] };
        let mut seen = None;
        for &hour in changed {
            let day = day_of(hour);
            if seen.replace(day) != Some(day) {
                days.add(day, FORECAST_DAYS + SCALE_DAYS, SCALES);
                days.add(day, FORECAST_DAYS, FORECASTS | CONTRASTED);
            }
            for weeks in WEEKS {
                // Where clocks changed, it is an hour earlier or later.
                let same = hour + weeks * 7 * DAY_HOURS;
                let (from, to) = (day_of(same - 1), day_of(same + 1));
                days.add(from, to - from, WEEKLY);
                days.add(from, to - from + SCALE_DAYS, WEEKLY_SCALES);
            }
        }
        Some(days)
    }

    /// What is to be done on a day and on so many after it.
    fn add(&mut self, day: Hour, more: Hour, tasks: u8) {
        let from = usize::try_from(day - self.first).unwrap_or(0);
        let until = usize::try_from(day + more + 1 - self.first).unwrap_or(0).min(self.tasks.len());
        self.tasks.get_mut(from..until).unwrap_or_default().iter_mut().for_each(|slot| *slot |= tasks);
    }

    fn tasks(&self, day: Hour) -> u8 {
        usize::try_from(day - self.first).ok().and_then(|place| self.tasks.get(place)).copied().unwrap_or(0)
    }

    /// The first day from `day` on with something to do.
    fn next(&self, day: Hour) -> Option<Hour> {
        let from = usize::try_from(day - self.first).unwrap_or(0);
        let more = self.tasks.get(from..)?.iter().position(|tasks| *tasks != 0)?;
        Some(self.first + Hour::try_from(from + more).ok()?)
    }
}

impl History {
    /// Renews what depends on the leaves of `changed`, but for scores and habits.
    pub(super) fn renew_days(&mut self, changed: &BTreeSet<Hour>, rules: &Rules, work: &mut Work) -> Renewed {
        let mut renewed = Renewed::default();
        // Where the last leaf went, what was found after it goes too.
        let last = self.leaves.last().map_or(Hour::MIN, |leaf| leaf.hour);
        for hour in changed {
            if self.leaf(*hour).is_none() {
                self.distant.remove(hour);
            }
        }
        let Some(days) = Days::of(changed, last) else { return renewed };
        let mut day = days.first;
        while let Some(next) = days.next(day) {
            // Days without measurements are passed over.
            let Some(there) = self.leaves.get(self.leaf_place(next * DAY_HOURS)).map(|leaf| day_of(leaf.hour)) else { break };
            if there > next {
                day = there;
                continue;
            }
            day = (next + DAYS_MAX).min(days.first + Hour::try_from(days.tasks.len()).unwrap_or(0));
            self.renew_window(next, day, &days, rules, work, &mut renewed);
        }
        renewed
    }

    /// Renews the days from `first` until `end`.
    fn renew_window(&mut self, first: Hour, end: Hour, days: &Days, rules: &Rules, work: &mut Work, renewed: &mut Renewed) {
        let start = first - DAYS_BEFORE;
        let mut window = Window::new(start, end, &rules.calendar);
        let leaves = self.leaves.from(self.leaf_place(start * DAY_HOURS)).take_while(|leaf| leaf.hour < end * DAY_HOURS);
        leaves.for_each(|leaf| window.set(leaf.hour, leaf.seen(), leaf.found));
        let mut distant: BTreeMap<Hour, [Option<Distance>; 2]> = BTreeMap::new();
        for day in first..end {
            let (tasks, place) = (days.tasks(day), window.day_place(day));
            if tasks == 0 {
                continue;
            }
            if tasks & FORECASTS != 0 {
                window.renew_errors(place);
                work.forecasts += DAY as u64;
            } else if tasks & WEEKLY != 0 && window.renew_weekly_errors(place) {
                renewed.weekly_until = day + SCALE_DAYS;
            }
            if tasks & CONTRASTED != 0 {
                window.renew_contrasts(place);
            }
            if tasks & SCALES == 0 {
                if tasks & WEEKLY != 0 || day <= renewed.weekly_until {
                    window.renew_weekly_baselines(place, tasks & WEEKLY != 0);
                }
            } else {
                window.renew_baselines(place, tasks & (FORECASTS | WEEKLY) != 0);
                let hours = window.hour_at(place * DAY);
                window.distant(place, alarm_threshold(rules), |at, beside, distance| {
                    let hour = hours + Hour::try_from(at - place * DAY).unwrap_or(0);
                    if let Some(slot) = distant.entry(hour).or_default().get_mut(usize::from(beside == Beside::Spread)) {
                        *slot = Some(distance);
                    }
                });
            }
        }
        self.keep(&mut window, first, end, days, renewed);
        self.keep_distant(distant, first, end, days, renewed);
    }

    /// Keeps what was found in the leaves.
    fn keep(&mut self, window: &mut Window, first: Hour, end: Hour, days: &Days, renewed: &mut Renewed) {
        let mut place = self.leaf_place(first * DAY_HOURS);
        let (mut recent_day, mut recent) = (None, [Sums::default(); DAY]);
        while let Some(leaf) = self.leaves.get_mut(place).filter(|leaf| leaf.hour < end * DAY_HOURS) {
            let (hour, found) = (leaf.hour, window.found(leaf.hour));
            if leaf.found != found {
                if leaf.found.contrasts != found.contrasts {
                    renewed.moved.insert(hour);
                }
                if leaf.found.baseline != found.baseline {
                    renewed.stale.insert(hour);
                }
                leaf.found = found;
            }
            let day = day_of(hour);
            if days.tasks(day) & CONTRASTED != 0 {
                if recent_day.replace(day) != Some(day) {
                    recent = window.recent(window.day_place(day));
                }
                let before = recent.get(usize::try_from(hour.rem_euclid(DAY_HOURS)).unwrap_or(0)).copied().unwrap_or_default();
                let hours = if before.hours > 0.0 { hour - before.first } else { 0 };
                let tempo = Tempo::new(before.rows, before.repeats, hours, before.longest_seconds);
                if leaf.tempo != tempo {
                    if leaf.tempo.matters(&tempo, &leaf.rhythm) {
                        renewed.stale.insert(hour);
                    }
                    leaf.tempo = tempo;
                }
            }
            place = self.leaves.after(place);
        }
    }

    /// Keeps which hours may be unusual by their level or spread.
    fn keep_distant(&mut self, found: BTreeMap<Hour, [Option<Distance>; 2]>, first: Hour, end: Hour, days: &Days, renewed: &mut Renewed) {
        let known: Vec<Hour> = self.distant.range(first * DAY_HOURS..end * DAY_HOURS).map(|(hour, _)| *hour).collect();
        for hour in known.into_iter().filter(|hour| days.tasks(day_of(*hour)) & SCALES != 0 && !found.contains_key(hour)) {
            self.distant.remove(&hour);
            renewed.stale.insert(hour);
        }
        for (hour, distances) in found {
            match self.distant.insert(hour, distances) {
                Some(known) if known == distances => {}
                // It is there, with its last reading: only how far it is has changed.
                Some(_) => {
                    if let Some(standout) = self.standouts.get_mut(&hour) {
                        standout.beside = distances;
                    }
                    renewed.moved.insert(hour);
                }
                None => {
                    renewed.stale.insert(hour);
                }
            }
        }
    }

    /// Renews the habits of hours that may stand out, where they depend on the hours of `moved`.
    pub(super) fn renew_habits(&mut self, moved: &BTreeSet<Hour>) {
        let mut reached: Vec<Hour> = Vec::new();
        let mut from = Hour::MIN;
        for &hour in moved {
            let (first, end) = (from.max(hour), hour + HABIT_HOURS + 1);
            if first < end {
                reached.extend(self.standouts.range(first..end).map(|(hour, _)| *hour));
            }
            from = from.max(end);
        }
        for near in reached.chunk_by(|one, next| next - one < HABIT_HOURS) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            let start = first - HABIT_HOURS;
            let sizes = Sizes::of(start, *last, self.leaves.from(self.leaf_place(start)));
            for hour in near {
                let Some(standout) = self.standouts.get_mut(hour) else { continue };
                standout.habit = sizes.habit(*hour, &sizes.farthest);
                for (habit, distance) in standout.habits.iter_mut().zip(standout.beside) {
                    let of = |distance: Distance| sizes.contrasts.get(distance.contrast).map_or(0.0, |column| sizes.habit(*hour, column));
                    *habit = distance.map_or(0.0, of);
                }
            }
        }
    }
}

/// The threshold from which on something may alarm.
fn alarm_threshold(rules: &Rules) -> f64 {
    crate::anomalies::ALARM_SHARE * rules.threshold
}

/// The sizes of hours that habits are found from.
struct Sizes {
    first: Hour,
    farthest: Vec<Size>,
    contrasts: [Vec<Size>; CONTRASTS],
}

impl Sizes {
    fn of<'a>(first: Hour, end: Hour, leaves: impl Iterator<Item = &'a Leaf>) -> Sizes {
        let column = || vec![Size::NONE; usize::try_from(end - first).unwrap_or(0)];
        let mut sizes = Sizes { first, farthest: column(), contrasts: std::array::from_fn(|_| column()) };
        for leaf in leaves.take_while(|leaf| leaf.hour < end) {
            let place = usize::try_from(leaf.hour - first).unwrap_or(usize::MAX);
            let columns = std::iter::once(&mut sizes.farthest).chain(&mut sizes.contrasts);
            for (column, size) in columns.zip(std::iter::once(leaf.farthest).chain(leaf.found.contrasts)) {
                if let Some(slot) = column.get_mut(place) {
                    *slot = size;
                }
            }
        }
        sizes
    }

    /// The habit of an hour, by the sizes in a column.
    fn habit(&self, hour: Hour, column: &[Size]) -> f64 {
        let end = usize::try_from(hour - self.first).unwrap_or(0);
        let before = column.get(end.saturating_sub(HABIT_DAYS * DAY)..end).unwrap_or_default();
        habit::habit(before.rchunks(DAY).map(Size::largest))
    }
}
