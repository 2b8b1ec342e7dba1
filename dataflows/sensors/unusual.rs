//! The most unusual stretches of a sensor: a rank, not a test.
//!
//! For buckets of 1, 4 and 24 hours of UTC: the bucket's mean squared error about the mean of its two neighbours, over the mean of the same
//! by measurement (rounded to 20ths of a doubling). The score of an hour is the sum of that over the three buckets that it lies in; the
//! stretch that is shown for it is the bucket with the largest part, of equal ones the widest, with the score of its highest hour.

use crate::doubling::{self, PARTS};
use crate::leaf::Hour;
use retally_core::operators::regression::Moments;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The widths of buckets, in hours.
const WIDTHS: [i32; 3] = [1, 4, 24];
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

/// The ratios of the buckets of a width, by number of the bucket.
fn ratios(hours: &[(Hour, Moments)], width: i32) -> Vec<(i32, f64)> {
    let mut buckets: Vec<(i32, Moments)> = Vec::new();
    for (hour, moments) in hours {
        let bucket = hour.div_euclid(width);
        match buckets.last_mut() {
            Some((last, all)) if *last == bucket => *all = all.with(moments),
            _ => buckets.push((bucket, *moments)),
        }
    }
    let neighbour = |place: Option<usize>, number: i32| {
        place.and_then(|place| buckets.get(place)).filter(|(other, _)| *other == number).map(|(_, moments)| *moments).unwrap_or_default()
    };
    let mut errors = Vec::with_capacity(buckets.len());
    let (mut n, mut sum) = (0.0, 0.0);
    for (place, (number, moments)) in buckets.iter().enumerate() {
        let around = neighbour(place.checked_sub(1), number - 1).with(&neighbour(Some(place + 1), number + 1));
        if around.n > 0.0 {
            let off = moments.y - around.y;
            let error = moments.yy / moments.n + off * off;
            n += moments.n;
            sum += moments.n * error;
            errors.push((*number, error));
        }
    }
    // Rounded, so that a late measurement changes the scores of few.
    let usual = if sum > 0.0 { doubling::size(doubling::rounded(sum / n, PARTS)) } else { f64::INFINITY };
    errors.iter_mut().for_each(|(_, error)| *error /= usual);
    errors
}

/// The most unusual stretches, from the most unusual on.
pub fn stretches(hours: &[(Hour, Moments)]) -> Vec<Stretch> {
    let by_width = WIDTHS.map(|width| (width, ratios(hours, width)));
    let mut found: BTreeMap<(Hour, i32), f64> = BTreeMap::new();
    let mut places = [0usize; WIDTHS.len()];
    for (hour, _) in hours {
        let (mut score, mut largest) = (0.0, (f64::NEG_INFINITY, 0));
        for ((width, ratios), place) in by_width.iter().zip(&mut places) {
            let bucket = hour.div_euclid(*width);
            while ratios.get(*place).is_some_and(|(number, _)| *number < bucket) {
                *place += 1;
            }
            if let Some((_, ratio)) = ratios.get(*place).filter(|(number, _)| *number == bucket) {
                score += ratio;
                if *ratio >= largest.0 {
                    largest = (*ratio, *width);
                }
            }
        }
        if score > 0.0 {
            let width = largest.1;
            let best = found.entry((hour.div_euclid(width) * width, width)).or_insert(score);
            *best = best.max(score);
        }
    }
    let mut found: Vec<Stretch> = found.into_iter().map(|((start, width), score)| Stretch { start, width, score }).collect();
    let order =
        |a: &Stretch, b: &Stretch| -> Ordering { b.score.total_cmp(&a.score).then(a.start.cmp(&b.start)).then(a.width.cmp(&b.width)) };
    if found.len() > SHOWN {
        found.select_nth_unstable_by(SHOWN, order);
        found.truncate(SHOWN);
    }
    found.sort_by(order);
    found
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
