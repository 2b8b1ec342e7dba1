//! The most unusual stretches of a sensor: a rank, not a test.
//!
//! For buckets of 1, 4 and 24 hours of UTC: the bucket's mean squared error about the mean of its two neighbours, over the mean of the same
//! by measurement (rounded to 20ths of a doubling). The score of an hour is the sum of that over the three buckets that it lies in; the
//! stretch that is shown for it is the bucket with the largest part, of equal ones the widest, with the score of its highest hour.
//!
//! Buckets lie within days of UTC. So an hour changes the errors of its day and of the days beside it, and days are ranked again where
//! these have changed, or all of them where the rounded mean has.

use crate::doubling::{self, PARTS};
use crate::leaf::Hour;
use crate::seen::{DAY, DAY_HOURS, day_of};
use retally_core::operators::regression::Moments;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The widths of buckets, in hours.
const WIDTHS: [usize; 3] = [1, 4, DAY];
/// How many stretches are shown.
const SHOWN: usize = 10;

/// An unusual stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Its first hour.
    pub start: Hour,
    /// How many hours.
    pub width: i32,
    /// How unusual; 3 is usual.
    pub score: f64,
}

impl Stretch {
    /// The most unusual first, of equal ones the first.
    fn order(&self, other: &Stretch) -> Ordering {
        other.score.total_cmp(&self.score).then(self.start.cmp(&other.start)).then(self.width.cmp(&other.width))
    }
}

/// The errors of a day's buckets.
#[derive(Clone, Debug, Default)]
struct Errors {
    /// By width and bucket; NaN where there is none.
    errors: [Vec<f64>; WIDTHS.len()],
    /// By width: measurements, and the sum of their squared errors.
    sums: [(f64, f64); WIDTHS.len()],
    /// Whether hours have measurements.
    there: [bool; DAY],
    /// The most unusual stretches of the day, in order.
    first: Vec<Stretch>,
}

/// What is usual for a sensor, and what is not.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    days: BTreeMap<Hour, Errors>,
    usual: [f64; WIDTHS.len()],
}

impl Ranks {
    /// Ranks again where hours have changed. `hours` returns those with measurements, from the first to before the second.
    pub fn renew<I: Iterator<Item = (Hour, Moments)>>(&mut self, changed: impl Iterator<Item = Hour>, hours: impl Fn(Hour, Hour) -> I) {
        let around: BTreeSet<Hour> = changed.map(day_of).flat_map(|day| [day - 1, day, day + 1]).collect();
        for &day in &around {
            // The day, and the days beside it.
            let first = (day - 1) * DAY_HOURS;
            let mut three = [Moments::default(); 3 * DAY];
            for (hour, moments) in hours(first, first + 3 * DAY_HOURS) {
                if let Some(slot) = usize::try_from(hour - first).ok().and_then(|place| three.get_mut(place)) {
                    *slot = moments;
                }
            }
            let there: [bool; DAY] = std::array::from_fn(|hour| three.get(DAY + hour).is_some_and(|hour| hour.n > 0.0));
            if there.contains(&true) {
                self.days.insert(day, Errors { there, ..errors(&three) });
            } else {
                self.days.remove(&day);
            }
        }
        let usual = self.usual();
        if usual != self.usual {
            self.usual = usual;
            self.days.iter_mut().for_each(|(day, errors)| errors.rank(*day, &usual));
        } else {
            for day in &around {
                if let Some(errors) = self.days.get_mut(day) {
                    errors.rank(*day, &usual);
                }
            }
        }
    }

    /// By width: the mean squared error by measurement, rounded, so that a late measurement changes the scores of few.
    fn usual(&self) -> [f64; WIDTHS.len()] {
        std::array::from_fn(|width| {
            let of_days = self.days.values().filter_map(|day| day.sums.get(width));
            let (n, sum) = of_days.fold((0.0, 0.0), |(n, sum), (more, square)| (n + more, sum + square));
            if sum > 0.0 { doubling::size(doubling::rounded(sum / n, PARTS)) } else { f64::INFINITY }
        })
    }

    /// The most unusual stretches, from the most unusual on.
    pub fn first(&self) -> Vec<Stretch> {
        let mut first: Vec<Stretch> = Vec::with_capacity(SHOWN + 1);
        for day in self.days.values() {
            for stretch in &day.first {
                if first.len() == SHOWN && first.last().is_some_and(|last| last.order(stretch).is_lt()) {
                    break;
                }
                let place = first.partition_point(|other| other.order(stretch).is_lt());
                first.insert(place, *stretch);
                first.truncate(SHOWN);
            }
        }
        first
    }
}

/// The errors of the day in the middle of three.
fn errors(hours: &[Moments; 3 * DAY]) -> Errors {
    let mut found = Errors::default();
    for ((errors, sums), width) in found.errors.iter_mut().zip(&mut found.sums).zip(WIDTHS) {
        let buckets: Vec<Moments> =
            hours.chunks(width).map(|hours| hours.iter().fold(Moments::default(), |all, hour| all.with(hour))).collect();
        let count = DAY / width;
        for three in buckets.windows(3).skip(count - 1).take(count) {
            let [before, bucket, after] = three else { continue };
            let around = before.with(after);
            if bucket.n == 0.0 || around.n == 0.0 {
                errors.push(f64::NAN);
                continue;
            }
            let off = bucket.y - around.y;
            let error = bucket.yy / bucket.n + off * off;
            sums.0 += bucket.n;
            sums.1 += bucket.n * error;
            errors.push(error);
        }
    }
    found
}

impl Errors {
    /// Ranks the day's stretches.
    fn rank(&mut self, day: Hour, usual: &[f64; WIDTHS.len()]) {
        let mut found: Vec<Stretch> = Vec::new();
        for hour in (0..DAY).filter(|hour| self.there.get(*hour) == Some(&true)) {
            let (mut score, mut largest) = (0.0, (f64::NEG_INFINITY, 1));
            for ((errors, usual), width) in self.errors.iter().zip(usual).zip(WIDTHS) {
                let error = errors.get(hour / width).copied().filter(|error| !error.is_nan());
                if let Some(ratio) = error.map(|error| error / usual) {
                    score += ratio;
                    if ratio >= largest.0 {
                        largest = (ratio, width);
                    }
                }
            }
            if score > 0.0 {
                let number = |count: usize| Hour::try_from(count).unwrap_or(0);
                let width = largest.1;
                let (start, width) = (day * DAY_HOURS + number(hour / width * width), number(width));
                match found.iter_mut().find(|one| (one.start, one.width) == (start, width)) {
                    Some(known) => known.score = known.score.max(score),
                    None => found.push(Stretch { start, width, score }),
                }
            }
        }
        found.sort_unstable_by(Stretch::order);
        found.truncate(SHOWN);
        found.shrink_to_fit();
        self.first = found;
    }
}

/// The most unusual stretches of hours, from the most unusual on.
#[cfg(test)]
pub fn stretches(hours: &[(Hour, Moments)]) -> Vec<Stretch> {
    let mut ranks = Ranks::default();
    let between = |first: Hour, end: Hour| hours.iter().copied().filter(move |(hour, _)| (first..end).contains(hour));
    ranks.renew(hours.iter().map(|(hour, _)| *hour), between);
    ranks.first()
}
#[cfg(test)]
mod tests {
    use super::*;

    fn hours(count: i32, value: impl Fn(i32) -> f64) -> Vec<(Hour, Moments)> {
        (0..count).map(|hour| (hour, Moments { n: 12.0, y: value(hour), yy: 12.0, ..Moments::default() })).collect()
    }

    #[test]
    fn an_odd_hour_and_an_odd_day_come_first() {
        let found = stretches(&hours(480, |hour| if hour == 100 { 9.0 } else { 0.0 }));
        assert_eq!((found[0].start, found[0].width), (100, 1));
        assert_eq!(found.len(), SHOWN);
        // A day that is restless as a whole.
        let mut restless = hours(480, |_| 0.0);
        restless[240..264].iter_mut().for_each(|(_, moments)| moments.yy *= 100.0);
        let found = stretches(&restless);
        assert_eq!((found[0].start, found[0].width), (240, 24), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    #[test]
    fn constants_and_lonely_hours_are_not_unusual() {
        assert!(stretches(&[]).is_empty());
        let constant = |hour| (hour, Moments { n: 3.0, y: 7.0, ..Moments::default() });
        assert!(stretches(&[constant(5)]).is_empty());
        assert!(stretches(&(0..100).map(constant).collect::<Vec<_>>()).is_empty());
    }
}
