//! Two more channels: how far the level and the spread of the last 4 hours are from those of the 24 hours before.
//!
//! - **Level**: the mean of hours. **Spread**: the logarithm of their standard deviation, in doublings.
//! - Each is looked at as it is, and less its pattern of the day (the mean of the same local hour of the 7 days before), which counts where
//!   its scale is less than 0.7 of the other's.
//! - **Score**: the distance over the largest of 0.8 · threshold scales, its habit ([`crate::habit`]), and a floor: a hundred-thousandth of
//!   the largest magnitude of the week for the level, half a doubling for the spread. A scale is the root of the median of daily
//!   mean squares, as that of errors ([`crate::scale`]), rounded to 20ths of a doubling. From 1 on, an hour is unusual.
//!
//! So a level that creeps away, and noise that grows or dies, are seen though no single reading is far from its forecast.
//!
//! The spread is a whole number of 1024ths of a doubling, and distances of spreads are exact: in a unit that is a power of two of another,
//! all logarithms are moved by the same whole number, and no distance is.

use crate::doubling::{self, PARTS};
use crate::seen::DAY;
use crate::size::Size;
use crate::window::Window;

/// The hours whose level and spread are compared with those before.
const NOW: usize = 4;
/// The hours before.
const BEFORE: usize = 24;
/// How many of them must be known.
const NOW_LEAST: usize = 2;
const BEFORE_LEAST: usize = 8;
/// How much smaller a scale must be for the pattern of the day to count.
const CLEARLY: f64 = 0.7;
/// The floor of levels, as a part of the largest magnitude.
const LEVEL_FLOOR: f64 = 1e-5;
/// The floor of spreads, in doublings.
const SPREAD_FLOOR: f64 = 0.5;
/// What floats leave of equal values is less than this part of them.
const EXACT: f64 = 1e-6;
/// The parts of a doubling that a spread is measured in.
const SPREAD_PARTS: f64 = 1024.0;
/// Sums of 2 to 7 whole numbers over how many they are, times this, are whole.
const COMMON: i64 = 420;

/// A channel beside the readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beside {
    /// The level.
    Level,
    /// The spread.
    Spread,
}

/// Both, by their place in what is kept.
pub const BESIDE: [Beside; 2] = [Beside::Level, Beside::Spread];

/// What an hour has to be more than to be unusual, but for its habit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// The place of the contrast among those of the hour.
    pub contrast: usize,
    /// How far it is.
    pub size: f64,
    /// The larger of its scale, as often as alarms take, and its floor.
    pub bound: f64,
}

/// The spread of an hour of some measurements, which have a mean squared distance `inner` from their mean; none of fewer than two, or where
/// all are 0.
pub fn spread(rows: f64, inner: f64, largest: f64) -> Option<i32> {
    let floor = EXACT * largest;
    let variance = inner * rows / (rows - 1.0) + floor * floor;
    (rows >= 2.0 && variance > 0.0).then(|| doubling::fine(variance))
}

/// The mean of the last four less that of those before, of the last 28 hours; NaN where too few are known.
fn contrast(hours: &[f64]) -> f64 {
    let split = hours.len().saturating_sub(NOW);
    let (before, now) = hours.split_at_checked(split).unwrap_or_default();
    if now.last().is_none_or(|last| last.is_nan()) {
        return f64::NAN;
    }
    let mean = |hours: &[f64], least: usize| {
        let there = || hours.iter().filter(|value| !value.is_nan());
        let count = there().count();
        if count >= least { there().sum::<f64>() / count as f64 } else { f64::NAN }
    };
    mean(now, NOW_LEAST) - mean(before, BEFORE_LEAST)
}

/// The same of whole numbers, `unit` of them in one; what is passed is added up exactly.
fn exact_contrast(hours: &[Option<i64>], unit: f64) -> f64 {
    let split = hours.len().saturating_sub(NOW);
    let (before, now) = hours.split_at_checked(split).unwrap_or_default();
    if now.last().is_none_or(Option::is_none) {
        return f64::NAN;
    }
    let sums = |hours: &[Option<i64>]| hours.iter().flatten().fold((0i64, 0i64), |(count, sum), value| (count + 1, sum + value));
    let ((count, sum), (count_before, sum_before)) = (sums(now), sums(before));
    if count < NOW_LEAST as i64 || count_before < BEFORE_LEAST as i64 {
        return f64::NAN;
    }
    (sum * count_before - sum_before * count) as f64 / (count * count_before) as f64 / unit
}

impl Window {
    /// Finds the contrasts of a day's hours.
    pub fn renew_contrasts(&mut self, day: usize) {
        self.find_patterns(day.saturating_sub(2)..=day);
        let first = (day * DAY).saturating_sub(NOW + BEFORE - 1);
        let places = first..(day + 1) * DAY;
        let levels: Vec<f64> = places.clone().map(|place| self.mean(place)).collect();
        let moved: Vec<f64> =
            places.clone().zip(&levels).map(|(place, level)| if level.is_nan() { *level } else { level - self.pattern(place) }).collect();
        let spread = |place: usize| Some(self.at(place)).filter(|seen| seen.rows > 0.0).and_then(|seen| seen.spread).map(i64::from);
        let spreads: Vec<Option<i64>> = places.clone().map(spread).collect();
        let pattern = |place: usize| {
            let (count, sum) =
                self.same_hours::<7>(place, DAY).filter_map(spread).fold((0i64, 0i64), |(count, sum), one| (count + 1, sum + one));
            (count >= 2).then(|| sum * (COMMON / count))
        };
        let moved_spreads: Vec<Option<i64>> =
            places.clone().zip(&spreads).map(|(place, spread)| Some((*spread)? * COMMON - pattern(place)?)).collect();
        for place in (day * DAY..(day + 1) * DAY).filter(|place| self.at(*place).rows > 0.0).collect::<Vec<_>>() {
            let until = place + 1 - first;
            let from = until.saturating_sub(NOW + BEFORE);
            let of = |values: &[f64]| contrast(values.get(from..until).unwrap_or_default()).abs();
            let exact = |values: &[Option<i64>], unit: f64| exact_contrast(values.get(from..until).unwrap_or_default(), unit).abs();
            let contrasts =
                [of(&levels), of(&moved), exact(&spreads, SPREAD_PARTS), exact(&moved_spreads, SPREAD_PARTS * COMMON as f64)].map(Size::of);
            if let Some(found) = self.found.get_mut(place) {
                found.contrasts = contrasts;
            }
        }
    }

    /// The hours of a day whose level or spread may be unusual: those as far off as alarms take, whatever the habit is.
    pub fn distant(&mut self, day: usize, threshold: f64, mut each: impl FnMut(usize, Beside, Distance)) {
        let found = &self.found;
        let square = |contrast: Size| contrast.get() * contrast.get();
        let scales = self.contrast_means.scales(day, |place| found.get(place).copied().unwrap_or_default().contrasts.map(square));
        let mut recent = None;
        for (place, scales) in (day * DAY..).zip(scales) {
            let sizes = self.found_at(place).contrasts.map(Size::get);
            // Most hours are near, however one looks at them; rounding moves a scale by less than 2 %.
            let least = |one: f64, other: f64| 0.96 * threshold * threshold * one.min(other);
            let [level, level_moved, spread, spread_moved] = sizes.map(|size| size * size);
            if level.max(level_moved) < least(scales[0], scales[1]) && spread.max(spread_moved) < least(scales[2], scales[3]) {
                continue;
            }
            let [level, level_moved, spread, spread_moved] = scales.map(rounded);
            let choices = [(Beside::Level, 0, level, level_moved), (Beside::Spread, 2, spread, spread_moved)];
            for (beside, plain, scale, moved_scale) in choices {
                let size = |contrast: usize| sizes.get(contrast).copied().unwrap_or(f64::NAN);
                let is_far = size(plain).max(size(plain + 1)) >= threshold * scale.min(moved_scale);
                if !is_far {
                    continue;
                }
                let floor = match beside {
                    Beside::Spread => SPREAD_FLOOR,
                    Beside::Level => {
                        let recent = recent.get_or_insert_with(|| self.recent(day));
                        let before = recent.get(place % DAY).map_or(0.0, |sums| sums.largest);
                        LEVEL_FLOOR * before.max(self.at(place).largest)
                    }
                };
                // Where a scale is not known, it is not less; and what is below the floor is all the same.
                let usual = |scale: f64| if scale.is_nan() { scale } else { scale.max(floor / threshold) };
                let is_moved = usual(moved_scale) < CLEARLY * usual(scale);
                let (contrast, scale) = if is_moved { (plain + 1, moved_scale) } else { (plain, scale) };
                let (size, bound) = (size(contrast), threshold * usual(scale));
                if size > 0.0 && size >= bound {
                    each(place, beside, Distance { contrast, size, bound });
                }
            }
        }
    }
}

/// The root of a mean square, rounded.
fn rounded(square: f64) -> f64 {
    if square > 0.0 { doubling::size(doubling::rounded(square, PARTS / 2)) } else { square }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_hours_against_a_day() {
        let mut hours = vec![1.0; 28];
        assert_eq!(contrast(&hours), 0.0);
        hours[24..].fill(3.0);
        assert_eq!(contrast(&hours), 2.0);
        hours[24..26].fill(f64::NAN);
        assert_eq!(contrast(&hours), 2.0, "two of four are enough");
        hours[26] = f64::NAN;
        assert!(contrast(&hours).is_nan());
        let mut hours = vec![1.0; 28];
        hours[..17].fill(f64::NAN);
        assert!(contrast(&hours).is_nan(), "seven before are too few");
        assert_eq!(contrast(&[[1.0; 8].as_slice(), &[2.0; 4]].concat()), 1.0);
        hours[27] = f64::NAN;
        assert!(contrast(&hours).is_nan());
    }

    #[test]
    fn spreads_are_the_same_in_units_that_are_powers_of_two() {
        let spreads = |factor: f64| -> Vec<Option<i64>> {
            let inner = |hour: i32| f64::from(3 + hour * hour % 7) * factor * factor;
            (0..28).map(|hour| spread(5.0, inner(hour), 100.0 * factor).map(i64::from)).collect()
        };
        let plain = exact_contrast(&spreads(1.0), SPREAD_PARTS);
        assert!(plain != 0.0 && plain.abs() < 1.0, "{plain}");
        for power in [-40, -1, 1, 40] {
            assert_eq!(exact_contrast(&spreads(2f64.powi(power)), SPREAD_PARTS), plain);
        }
        // Four times the standard deviation is two doublings.
        let mut grown = vec![spread(5.0, 1.0, 1.0).map(i64::from); 28];
        grown[24..].fill(spread(5.0, 16.0, 1.0).map(i64::from));
        assert!((exact_contrast(&grown, SPREAD_PARTS) - 2.0).abs() < 1e-3);
        assert_eq!((spread(1.0, 0.0, 1.0), spread(3.0, 0.0, 0.0)), (None, None), "one value, and zeros");
        assert!(spread(3.0, 0.0, 1.0).is_some(), "equal values have the spread of what floats leave of them");
    }
}
