//! Consecutive hours of a sensor as arrays: whole days of UTC, with what is known of each hour.
//!
//! Everything that is said of an hour comes from hours before it, 28 days at most. So a window that starts that long before a day, and
//! holds what was found there, is enough to find what there is to say of the day ([`crate::forecast`], [`crate::scale`],
//! [`crate::contrast`]).
//!
//! # Sums that change by what changed
//! Sums over the hours before an hour are put together from sums over days of UTC: the end of the first day, the days between, the
//! beginning of the last ([`DaySums`]). Days are the same wherever a window starts, so these sums are the same bits in a window of
//! the whole history and in one about a late measurement.

use crate::baseline::{Baseline, Forecast, MODELS};
use crate::leaf::{self, Hour};
use crate::means::DayMeans;
use crate::seen::{DAY, DAY_HOURS, Seen};
use crate::size::Size;
use crate::sums::{DaySums, Sums};
use retally_core::calendar::Calendar;
use retally_core::time::HOUR;
use std::ops::RangeInclusive;

/// How many days a window has to start before the first day that something is to be found of.
pub const DAYS_BEFORE: Hour = 29;
/// The level and the spread, each with and without the pattern of the day.
pub const CONTRASTS: usize = 4;

/// What was found of an hour, and is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Found {
    /// The mean squared error of each model's forecast.
    pub errors: [Size; MODELS],
    /// How far the level and the spread are from those of the day before.
    pub contrasts: [Size; CONTRASTS],
    /// The forecast.
    pub baseline: Option<Baseline>,
}

/// Days from `first_day` on.
#[derive(Debug, Default)]
pub struct Window {
    first_day: Hour,
    seen: Vec<Seen>,
    /// The clock on the wall at each hour's start, in whole hours.
    local: Vec<i32>,
    pub(crate) found: Vec<Found>,
    sums: Vec<Option<Box<DaySums>>>,
    /// By day and hour: the sums over the week before.
    pub(crate) recent: Vec<Option<Box<[Sums; DAY]>>>,
    /// The forecasts of the day that they were last asked for of.
    pub(crate) forecasts: Option<Box<(usize, [[Forecast; MODELS]; DAY])>>,
    /// By day: D's forecasts.
    pub(crate) patterns: Vec<Option<Box<[f64; DAY]>>>,
    pub(crate) weekly_means: DayMeans<1>,
    pub(crate) error_means: DayMeans<MODELS>,
    pub(crate) contrast_means: DayMeans<CONTRASTS>,
}

impl Window {
    /// An empty window of the days from `first_day` until `end_day`.
    pub fn new(first_day: Hour, end_day: Hour, calendar: &Calendar) -> Window {
        let days = usize::try_from(end_day - first_day).unwrap_or(0);
        let mut window =
            Window { first_day, seen: vec![Seen::default(); days * DAY], found: vec![Found::default(); days * DAY], ..Window::default() };
        window.sums.resize_with(days, || None);
        window.recent.resize_with(days, || None);
        window.patterns.resize_with(days, || None);
        window.weekly_means = DayMeans::new(days);
        window.error_means = DayMeans::new(days);
        window.contrast_means = DayMeans::new(days);
        // Whole hours: a zone may be some minutes from them.
        let wall = |hour: Hour| i32::try_from(calendar.wall(leaf::start(hour)).div_euclid(HOUR)).unwrap_or(i32::MAX);
        window.local.reserve(days * DAY);
        for day in first_day..end_day {
            let (start, next) = (wall(day * DAY_HOURS), wall((day + 1) * DAY_HOURS));
            // Clocks are not changed twice a day.
            match next - start == DAY_HOURS {
                true => window.local.extend((0..DAY_HOURS).map(|hour| start + hour)),
                false => window.local.extend((0..DAY_HOURS).map(|hour| wall(day * DAY_HOURS + hour))),
            }
        }
        window
    }

    /// Describes an hour: what its measurements say, and what was found of it.
    pub fn set(&mut self, hour: Hour, seen: Seen, found: Found) {
        let place = self.place(hour);
        if let Some(slot) = self.seen.get_mut(place) {
            *slot = seen;
        }
        if let Some(slot) = self.found.get_mut(place) {
            *slot = found;
        }
    }

    /// What was found of an hour.
    pub fn found(&self, hour: Hour) -> Found {
        self.found_at(self.place(hour))
    }

    /// The place of an hour.
    fn place(&self, hour: Hour) -> usize {
        usize::try_from(hour - self.first_day * DAY_HOURS).unwrap_or(usize::MAX)
    }

    /// The place of a day.
    pub(crate) fn day_place(&self, day: Hour) -> usize {
        usize::try_from(day - self.first_day).unwrap_or(usize::MAX)
    }

    /// The hour at a place.
    pub(crate) fn hour_at(&self, place: usize) -> Hour {
        self.first_day * DAY_HOURS + Hour::try_from(place).unwrap_or(0)
    }

    /// What the measurements of the hour at a place say; nothing outside of the window.
    pub(crate) fn at(&self, place: usize) -> Seen {
        self.seen.get(place).copied().unwrap_or_default()
    }

    pub(crate) fn found_at(&self, place: usize) -> Found {
        self.found.get(place).copied().unwrap_or_default()
    }

    /// The mean of the hour at a place, NaN where it has no measurements.
    pub(crate) fn mean(&self, place: usize) -> f64 {
        let seen = self.at(place);
        if seen.rows > 0.0 { seen.mean } else { f64::NAN }
    }

    /// The places of the hours that the clock showed as it does at `place`, 1 to `COUNT` periods before; those that there are.
    pub(crate) fn same_hours<const COUNT: usize>(&self, place: usize, period: usize) -> impl Iterator<Item = usize> {
        let reference = self.local.get(place).copied();
        (1..=COUNT).filter_map(move |back| {
            let wanted = reference? - i32::try_from(period * back).unwrap_or(0);
            let near = place.checked_sub(period * back)?;
            // Where clocks changed in between, it is an hour earlier or later.
            let off = wanted - self.local.get(near)?;
            let same = near.checked_add_signed(off as isize)?;
            (same < place && self.local.get(same) == Some(&wanted)).then_some(same)
        })
    }

    /// Sums up days, as far as they are not.
    pub(crate) fn sum_up(&mut self, days: RangeInclusive<usize>) {
        for day in days {
            let first = self.hour_at(day * DAY);
            let hours = self.seen.get(day * DAY..(day + 1) * DAY).unwrap_or_default();
            if let Some(slot @ None) = self.sums.get_mut(day) {
                *slot = Some(Box::new(DaySums::of(first, hours)));
            }
        }
    }

    /// The sums over a day that was summed up.
    pub(crate) fn day_sums(&self, day: Option<usize>) -> &DaySums {
        day.and_then(|day| self.sums.get(day)?.as_deref()).unwrap_or(crate::sums::NOTHING)
    }
}
