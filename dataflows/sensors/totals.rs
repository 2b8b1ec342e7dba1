//! A sensor's measurements in numbers, by weeks: what is summed up once is not summed up again.

use crate::leaf::Hour;
use crate::records::Value;
use std::collections::BTreeMap;

/// The hours of a week.
const WEEK: Hour = 168;

/// The measurements of some hours in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// How many.
    pub measurements: u64,
    /// How many of them had a forecast to be compared with.
    pub scored: u64,
    /// The least and the greatest value.
    pub extremes: (Value, Value),
    /// The mean, as sums see values.
    pub mean: f64,
}

impl Total {
    /// Both together.
    #[must_use]
    pub fn with(&self, later: &Total) -> Total {
        let measurements = self.measurements + later.measurements;
        Total {
            measurements,
            scored: self.scored + later.scored,
            extremes: (self.extremes.0.min(later.extremes.0), self.extremes.1.max(later.extremes.1)),
            mean: self.mean + (later.mean - self.mean) * (later.measurements as f64 / measurements as f64),
        }
    }
}

/// By week the total.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    weeks: BTreeMap<Hour, Total>,
}

impl Totals {
    /// Sums up again the weeks of hours that have changed. `hours` returns the totals of hours, from the first to before the second.
    pub fn renew<I: Iterator<Item = Total>>(&mut self, changed: impl Iterator<Item = Hour>, hours: impl Fn(Hour, Hour) -> I) {
        let mut last = None;
        for week in changed.map(|hour| hour.div_euclid(WEEK)) {
            if last.replace(week) == Some(week) {
                continue;
            }
            match hours(week * WEEK, (week + 1) * WEEK).reduce(|all, hour| all.with(&hour)) {
                Some(total) => self.weeks.insert(week, total),
                None => self.weeks.remove(&week),
            };
        }
    }

    /// That of all.
    pub fn all(&self) -> Option<Total> {
        self.weeks.values().copied().reduce(|all, week| all.with(&week))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_summed_up_once_and_again_where_something_changes() {
        let hour = |hour: Hour| {
            let value = Value::new(f64::from(hour)).unwrap();
            Total { measurements: 2, scored: u64::from(hour >= 100), extremes: (value, value), mean: value.get() }
        };
        let mut totals = Totals::default();
        let until = |end: Hour| move |from: Hour, to: Hour| (from..to.min(end)).map(hour);
        totals.renew(0..400, until(400));
        let all = totals.all().unwrap();
        assert_eq!((all.measurements, all.scored, all.extremes.1.get()), (800, 300, 399.0));
        assert!((all.mean - 199.5).abs() < 1e-9);
        totals.renew(390..400, until(390));
        assert_eq!(totals.all().unwrap().measurements, 780);
        totals.renew(0..400, until(0));
        assert_eq!(totals.all(), None);
    }
}
