//! Sums over hours of a day: from its start up to an hour, and from an hour to its end.
//!
//! So the sums over any number of whole days' hours before an hour are those of an end of a day, of whole days, and of a beginning: a few
//! additions by hour, of the same parts wherever one starts to compute.

use crate::leaf::Hour;
use crate::seen::{DAY, Seen};

/// Sums over hours with measurements: a line through their means, and their measurements.
///
/// Sets are united by the formulas of Chan, Golub and LeVeque, as in [`retally_core::operators::regression`].
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// How many hours.
    pub hours: f64,
    /// Their mean time, in hours since 1970-01-01T00:00:00Z.
    x: f64,
    /// The mean of their means.
    y: f64,
    xx: f64,
    xy: f64,
    /// The first of them.
    pub first: Hour,
    /// How many measurements.
    pub rows: f64,
    /// Their mean.
    pub mean: f64,
    /// How many measurements have the value of the one before.
    pub repeats: u32,
    /// The longest time between two, in seconds.
    pub longest_seconds: f32,
    /// The largest magnitude.
    pub largest: f64,
}

const EMPTY: Sums =
    Sums { hours: 0.0, x: 0.0, y: 0.0, xx: 0.0, xy: 0.0, first: 0, rows: 0.0, mean: 0.0, repeats: 0, longest_seconds: 0.0, largest: 0.0 };

impl Default for Sums {
    fn default() -> Self {
        EMPTY
    }
}

impl Sums {
    /// Those of one hour.
    pub fn of(hour: Hour, seen: &Seen) -> Sums {
        if seen.rows == 0.0 {
            return EMPTY;
        }
        Sums {
            hours: 1.0,
            x: f64::from(hour),
            y: seen.mean,
            xx: 0.0,
            xy: 0.0,
            first: hour,
            rows: seen.rows,
            mean: seen.mean,
            repeats: seen.rhythm.repeats,
            longest_seconds: seen.rhythm.longest_seconds,
            largest: seen.largest,
        }
    }

    /// Those of these hours and later ones.
    #[must_use]
    pub fn with(&self, later: &Sums) -> Sums {
        if self.hours == 0.0 {
            return *later;
        }
        if later.hours == 0.0 {
            return *self;
        }
        let (hours, rows) = (self.hours + later.hours, self.rows + later.rows);
        let (dx, dy, share) = (later.x - self.x, later.y - self.y, later.hours / hours);
        let weight = self.hours * share;
        Sums {
            hours,
            x: self.x + dx * share,
            y: self.y + dy * share,
            xx: self.xx + later.xx + dx * dx * weight,
            xy: self.xy + later.xy + dx * dy * weight,
            first: self.first,
            rows,
            mean: self.mean + (later.mean - self.mean) * (later.rows / rows),
            repeats: self.repeats.saturating_add(later.repeats),
            longest_seconds: self.longest_seconds.max(later.longest_seconds),
            largest: self.largest.max(later.largest),
        }
    }

    /// The value at an hour of the line of least squares through the hours' means, and its slope by hour.
    pub fn line_at(&self, hour: Hour) -> (f64, f64) {
        let slope = if self.xx > 0.0 { self.xy / self.xx } else { 0.0 };
        (self.y + slope * (f64::from(hour) - self.x), slope)
    }
}

/// Sums over hours of a day.
#[derive(Clone, Debug)]
pub struct DaySums {
    /// By hour: over the hours before it.
    before: [Sums; DAY],
    /// By hour: over it and the hours after it.
    after: [Sums; DAY],
}

/// Those of a day without measurements.
pub const NOTHING: &DaySums = &DaySums { before: [EMPTY; DAY], after: [EMPTY; DAY] };

impl DaySums {
    /// Those of a day that starts with the hour `first`.
    pub fn of(first: Hour, hours: &[Seen]) -> DaySums {
        let mut sums = NOTHING.clone();
        let each: Vec<Sums> = (first..).zip(hours).map(|(hour, seen)| Sums::of(hour, seen)).collect();
        let mut all = EMPTY;
        for (slot, hour) in sums.before.iter_mut().zip(&each) {
            *slot = all;
            all = all.with(hour);
        }
        let mut all = EMPTY;
        for (slot, hour) in sums.after.iter_mut().zip(&each).rev() {
            all = hour.with(&all);
            *slot = all;
        }
        sums
    }

    /// Over the hours before the one at a place of the day.
    pub fn before(&self, place: usize) -> &Sums {
        self.before.get(place).unwrap_or(&EMPTY)
    }

    /// Over the hour at a place of the day and those after it.
    pub fn after(&self, place: usize) -> &Sums {
        self.after.get(place).unwrap_or(&EMPTY)
    }

    /// Over all hours of the day.
    pub fn all(&self) -> &Sums {
        self.after(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_days_are_the_sums_over_their_hours() {
        let seen = |hour: usize| Seen {
            rows: if hour % 5 == 3 { 0.0 } else { 1.0 + (hour % 4) as f64 },
            mean: (hour * hour % 17) as f64,
            largest: (hour % 7) as f64,
            ..Seen::default()
        };
        let number = |hour: usize| Hour::try_from(hour).unwrap();
        let hours: Vec<Seen> = (0..3 * DAY).map(seen).collect();
        let days: Vec<DaySums> = (0..3).map(|day| DaySums::of(number(day * DAY), &hours[day * DAY..(day + 1) * DAY])).collect();
        for place in 0..DAY {
            // 48 hours before an hour of the last day.
            let parts = days[0].after(place).with(days[1].all()).with(days[2].before(place));
            let until = 2 * DAY + place;
            let there: Vec<(f64, Seen)> =
                (until - 48..until).map(|hour| (hour as f64, hours[hour])).filter(|(_, seen)| seen.rows > 0.0).collect();
            let first = number((until - 48..until).find(|hour| hours[*hour].rows > 0.0).unwrap());
            let n = there.len() as f64;
            let mean = |of: &dyn Fn(&(f64, Seen)) -> f64| there.iter().map(of).sum::<f64>() / n;
            let (x, y) = (mean(&|one| one.0), mean(&|one| one.1.mean));
            let slope = mean(&|one| (one.0 - x) * (one.1.mean - y)) / mean(&|one| (one.0 - x).powi(2));
            let rows: f64 = there.iter().map(|one| one.1.rows).sum();
            let of_rows = there.iter().map(|one| one.1.rows * one.1.mean).sum::<f64>() / rows;
            assert_eq!((parts.hours, parts.rows, parts.first), (n, rows, first));
            let (value, found) = parts.line_at(number(until));
            assert!((found - slope).abs() < 1e-9 && (value - y - slope * (until as f64 - x)).abs() < 1e-9, "{place}");
            assert!((parts.mean - of_rows).abs() < 1e-9 && parts.largest == 6.0);
        }
    }
}
