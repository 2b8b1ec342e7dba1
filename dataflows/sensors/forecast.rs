//! The forecasts of an hour from the hours before it, one by each model, and what they miss.
//!
//! A model sees the means of hours. R are the 168 hours before:
//!
//! | model | forecast | needs |
//! |---|---|---|
//! | L, level | the mean of R's measurements | 20 of them |
//! | T, trend | the line of least squares through R | R spans 2 days |
//! | D, daily | the mean of the same local hour of the 7 days before | 2 of these hours |
//! | W, weekly | the median of the same local hour and weekday of the 4 weeks before | 2 of these hours |
//! | E, daily moved | D, and the mean of what D missed in the last 24 hours | 6 of these hours |
//! | M, recent trend | the line through the last 24 hours | 12 of them |
//! | S, last hours | the line through the last 6 hours | 3 of them |
//!
//! The error of a forecast is the mean squared distance of the hour's measurements from it, where the slope within the hour is left out.
//! Which model is believed, and how far, follows from the errors before ([`crate::scale`]).
//!
//! W is a median because a week that went wrong would else be expected again a week later.
//!
//! No constant has a unit. Measurements times a power of two have the same forecasts times that power, bit for bit; in another unit, σ may
//! be rounded otherwise.
//!
//! # What makes it incremental
//! The result is rounded ([`crate::baseline::Baseline`]): σ to 20ths of a doubling, level and slope to 32nds of σ. So most late
//! measurements change no baseline but those of the hours beside them, and only where one changed are measurements scored again.

use crate::baseline::{Forecast, MODELS, Model};
use crate::seen::DAY;
use crate::size::Size;
use crate::sums::Sums;
use crate::window::Window;
use std::ops::RangeInclusive;

/// The days of R.
const RECENT_DAYS: usize = 7;
/// The hours of S.
const LAST: usize = 6;

impl Window {
    /// Finds the errors of the forecasts of a day's hours.
    pub fn renew_errors(&mut self, day: usize) {
        let forecasts = self.forecasts(day);
        for (place, forecasts) in (day * DAY..).zip(forecasts) {
            let seen = self.at(place);
            let error = |forecast: Forecast| {
                let off = seen.mean - forecast.level;
                Size::of(seen.inner + off * off)
            };
            if let Some(found) = self.found.get_mut(place).filter(|_| seen.rows > 0.0) {
                found.errors = forecasts.map(error);
            }
        }
    }

    /// Finds the errors of W alone. Returns whether one is another one now.
    pub fn renew_weekly_errors(&mut self, day: usize) -> bool {
        let mut is_changed = false;
        for place in day * DAY..(day + 1) * DAY {
            let seen = self.at(place);
            if seen.rows > 0.0 {
                let off = seen.mean - self.weekly(place);
                if let Some(error) = self.found.get_mut(place).and_then(|found| found.errors.get_mut(Model::Weekly as usize)) {
                    let known = std::mem::replace(error, Size::of(seen.inner + off * off));
                    is_changed |= known != *error;
                }
            }
        }
        is_changed
    }

    /// The forecasts of a day's hours by each model. Those of hours without measurements are not made.
    pub fn forecasts(&mut self, day: usize) -> [[Forecast; MODELS]; DAY] {
        if let Some((_, known)) = self.forecasts.as_deref().filter(|(known, _)| *known == day) {
            return *known;
        }
        let found = self.new_forecasts(day);
        self.forecasts = Some(Box::new((day, found)));
        found
    }

    fn new_forecasts(&mut self, day: usize) -> [[Forecast; MODELS]; DAY] {
        let recent = self.recent(day);
        self.find_patterns(day.saturating_sub(1)..=day);
        let missed = self.missed(day);
        std::array::from_fn(|hour| {
            let place = day * DAY + hour;
            if self.at(place).rows == 0.0 {
                return [Forecast::NONE; MODELS];
            }
            let of_day = self.day_sums(Some(day)).before(hour);
            let recent = recent.get(hour).copied().unwrap_or_default();
            let last_day = self.day_sums(day.checked_sub(1)).after(hour).with(of_day);
            let number = self.hour_at(place);
            let line = |sums: &Sums, enough: bool| match enough {
                true => {
                    let (level, slope) = sums.line_at(number);
                    Forecast { level, slope }
                }
                false => Forecast::NONE,
            };
            let flat = |level: f64| Forecast { level, slope: 0.0 };
            let pattern = self.pattern(place);
            let missed = missed.get(hour).copied().unwrap_or(f64::NAN);
            [
                flat(if recent.rows >= 20.0 { recent.mean } else { f64::NAN }),
                line(&recent, recent.rows >= 20.0 && number - recent.first >= 48 && recent.hours >= 2.0),
                flat(pattern),
                flat(self.weekly(place)),
                flat(pattern + missed),
                line(&last_day, last_day.hours >= 12.0),
                self.last_hours(place),
            ]
        })
    }

    /// D of an hour of a day that was prepared.
    pub(crate) fn pattern(&self, place: usize) -> f64 {
        let of_day = self.patterns.get(place / DAY).and_then(Option::as_deref);
        of_day.and_then(|hours| hours.get(place % DAY)).copied().unwrap_or(f64::NAN)
    }

    /// Prepares the patterns of days.
    pub(crate) fn find_patterns(&mut self, days: RangeInclusive<usize>) {
        for day in days {
            if self.patterns.get(day).is_some_and(Option::is_none) {
                let pattern = std::array::from_fn(|hour| self.mean_of_days(day * DAY + hour));
                if let Some(slot) = self.patterns.get_mut(day) {
                    *slot = Some(Box::new(pattern));
                }
            }
        }
    }

    /// D: the mean of the same hour of the 7 days before, NaN where there are fewer than two.
    fn mean_of_days(&self, place: usize) -> f64 {
        let (mut hours, mut sum) = (0.0, 0.0);
        // About the first, so that equal ones have exactly their mean.
        let mut first = f64::NAN;
        for mean in self.same_hours::<7>(place, DAY).map(|same| self.mean(same)).filter(|mean| !mean.is_nan()) {
            if first.is_nan() {
                first = mean;
            }
            hours += 1.0;
            sum += mean - first;
        }
        if hours >= 2.0 { first + sum / hours } else { f64::NAN }
    }

    /// W: the median of the same hour of the 4 weeks before, NaN where there are fewer than two.
    fn weekly(&self, place: usize) -> f64 {
        let mut means = [f64::INFINITY; 4];
        let mut hours = 0usize;
        let there = self.same_hours::<4>(place, 7 * DAY).map(|same| self.mean(same)).filter(|mean| !mean.is_nan());
        for (slot, mean) in means.iter_mut().zip(there) {
            *slot = mean;
            hours += 1;
        }
        means.sort_unstable_by(f64::total_cmp);
        let [least, second, third, _] = means;
        match hours {
            0 | 1 => f64::NAN,
            2 => 0.5 * (least + second),
            3 => second,
            _ => 0.5 * (second + third),
        }
    }

    /// By hour of a day: the mean of what D missed in the 24 hours before, NaN where it is known of fewer than 6.
    fn missed(&self, day: usize) -> [f64; DAY] {
        let miss = |place: usize| {
            let mean = self.mean(place);
            if mean.is_nan() { f64::NAN } else { mean - self.pattern(place) }
        };
        let add = |(count, sum): (f64, f64), miss: f64| if miss.is_nan() { (count, sum) } else { (count + 1.0, sum + miss) };
        let mut missed = [(0.0, 0.0); DAY];
        if let Some(before) = day.checked_sub(1) {
            let mut all = (0.0, 0.0);
            for (slot, place) in missed.iter_mut().zip(before * DAY..day * DAY).rev() {
                all = add(all, miss(place));
                *slot = all;
            }
        }
        let mut all = (0.0, 0.0);
        std::array::from_fn(|hour| {
            let (count, sum) = missed.get(hour).copied().unwrap_or_default();
            let (count, sum) = (count + all.0, sum + all.1);
            all = add(all, miss(day * DAY + hour));
            if count >= 6.0 { sum / count } else { f64::NAN }
        })
    }

    /// S: the line through the last 6 hours.
    fn last_hours(&self, place: usize) -> Forecast {
        let hours = place.saturating_sub(LAST)..place;
        let sums = hours.fold(Sums::default(), |all, place| all.with(&Sums::of(self.hour_at(place), &self.at(place))));
        if sums.hours < 3.0 {
            return Forecast::NONE;
        }
        let (level, slope) = sums.line_at(self.hour_at(place));
        Forecast { level, slope }
    }

    /// By hour of a day: the sums over the 168 hours before.
    pub(crate) fn recent(&mut self, day: usize) -> [Sums; DAY] {
        if let Some(known) = self.recent.get(day).and_then(Option::as_deref) {
            return *known;
        }
        self.sum_up(day.saturating_sub(RECENT_DAYS)..=day);
        let between = (day.saturating_sub(RECENT_DAYS - 1)..day).fold(Sums::default(), |all, day| all.with(self.day_sums(Some(day)).all()));
        let first = self.day_sums(day.checked_sub(RECENT_DAYS));
        let of_day = self.day_sums(Some(day));
        let recent = std::array::from_fn(|hour| first.after(hour).with(&between).with(of_day.before(hour)));
        if let Some(slot) = self.recent.get_mut(day) {
            *slot = Some(Box::new(recent));
        }
        recent
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::baseline::Baseline;
    use crate::contrast::spread;
    use crate::leaf;
    use crate::leaf::Hour;
    use crate::records::{Reading, Value};
    use crate::seen::{DAY_HOURS, Seen, day_of};
    use crate::window::Found;
    use retally_core::calendar::{Calendar, Naming};
    use retally_core::time::{HOUR, Moment};

    /// The first hour: a Monday.
    pub const FIRST: Hour = 19_723 * 24;
    const BY_HOUR: usize = 4;

    /// Readings, four an hour, of a function of the hours since the first one.
    fn readings(hours: usize, value: impl Fn(f64) -> f64) -> Vec<Reading> {
        let reading = |n: usize| {
            let time = Moment(i64::from(FIRST) * HOUR + n as i64 * HOUR / BY_HOUR as i64);
            Reading::new(time, Naming::Unique, Value::new(value(n as f64 / BY_HOUR as f64)).unwrap())
        };
        (0..hours * BY_HOUR).map(reading).collect()
    }

    /// The window of readings from the first hour on, with all that is found in it.
    pub fn window(readings: &[Reading], zone: &str) -> Window {
        let last = leaf::hour(readings[readings.len() - 1].time());
        let mut window = Window::new(FIRST / DAY_HOURS, day_of(last) + 1, &Calendar::named(zone).unwrap());
        for hour in readings.chunk_by(|a, b| leaf::hour(a.time()) == leaf::hour(b.time())) {
            let number = leaf::hour(hour[0].time());
            let largest = hour.iter().map(|reading| reading.value.summed().abs()).fold(0.0, f64::max);
            let moments = leaf::moments(number, hour.iter());
            let (rows, inner) = (moments.n, moments.yy / moments.n);
            let seen = Seen { rows, mean: moments.y, inner, largest, spread: spread(rows, inner, largest), ..Seen::default() };
            window.set(number, seen, Found::default());
        }
        for day in 0..usize::try_from(day_of(last) + 1 - FIRST / DAY_HOURS).unwrap() {
            window.renew_errors(day);
            window.renew_contrasts(day);
            window.renew_baselines(day, true);
        }
        window
    }

    /// The forecasts by hour since the first one.
    fn forecasts(readings: &[Reading], zone: &str) -> Vec<Option<Baseline>> {
        let last = leaf::hour(readings[readings.len() - 1].time());
        let window = window(readings, zone);
        (FIRST..=last).map(|hour| window.found(hour).baseline).collect()
    }

    /// Between -1 and 1, always the same, about uniform.
    fn noise(hours: f64) -> f64 {
        let mixed = (hours.to_bits() ^ 0x1234_5678).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }

    /// That the forecast of an hour is this model's, and how far it is from `value` in the middle of the hour, in σ.
    fn check(found: &[Option<Baseline>], hour: usize, model: Model, value: f64) -> f64 {
        let baseline = found[hour].unwrap();
        assert_eq!(baseline.model, model, "{baseline:?} at {hour}");
        (baseline.expected(0.5) - value).abs() / baseline.sigma()
    }

    #[test]
    fn too_little_is_no_forecast() {
        let found = forecasts(&readings(12, |_| 1.0), "UTC");
        // Four an hour: 20 after five hours, and four of these hours make a day.
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [[false; 9].as_slice(), &[true; 3]].concat());
    }

    #[test]
    fn constants_have_a_sigma() {
        for value in [7.5, -1e6, 6e10, 1e-7, -1e-100, 1e100] {
            let found = forecasts(&readings(400, |_| value), "UTC");
            assert!(check(&found, 399, Model::Level, value) <= 1.0 / 64.0);
            let expected = 1e-6 * value.abs();
            let sigma = found[399].unwrap().sigma();
            assert!(sigma / expected < 1.05 && expected / sigma < 1.05, "{sigma} {expected}");
        }
    }

    #[test]
    fn the_largest_magnitude_of_a_week_counts() {
        let mut window = window(&readings(400, |hours| if hours == 100.0 { -1e9 } else { 7.0 }), "UTC");
        let mut before = |hour: usize| window.recent(hour / DAY)[hour % DAY].largest;
        assert_eq!([0, 1, 100, 101, 268, 269].map(&mut before), [0.0, 7.0, 7.0, 1e9, 1e9, 7.0]);
    }

    #[test]
    fn zeros_have_none() {
        // The last week is 0, and an hour with less than a number is 0 too.
        let value = |hours: f64| {
            if hours < 200.0 {
                7.5
            } else if hours < 210.0 {
                1e-200
            } else {
                0.0
            }
        };
        let found = forecasts(&readings(500, value), "UTC");
        let baseline = found[499].unwrap();
        assert_eq!((baseline.expected(0.5), baseline.sigma()), (0.0, 0.0));
        assert!(found[300].unwrap().sigma() > 0.0);
    }

    #[test]
    fn noise_is_forecast_by_its_mean_and_the_median_of_its_days() {
        let all = readings(300, |hours| 3.0 + noise(hours));
        let found = forecasts(&all, "UTC");
        for hour in [168usize, 250, 299] {
            // As one computes it: over the measurements themselves.
            let until = hour * BY_HOUR;
            let recent: Vec<f64> = all[until.saturating_sub(168 * BY_HOUR)..until].iter().map(|r| r.value.get()).collect();
            let mean = recent.iter().sum::<f64>() / recent.len() as f64;
            let mut days: Vec<f64> =
                recent.rchunks(24 * BY_HOUR).map(|day| day.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / day.len() as f64).collect();
            days.sort_by(f64::total_cmp);
            assert!(check(&found, hour, Model::Level, mean) <= 1.0 / 63.0, "{hour}");
            let ratio = found[hour].unwrap().sigma() / days[3].sqrt();
            assert!((0.9..1.1).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn lines_are_followed() {
        let found = forecasts(&readings(300, |hours| 100.0 + 0.7 * hours + 0.01 * noise(hours)), "UTC");
        for hour in [60usize, 200, 299] {
            // The line through R, or that through the last day.
            let baseline = found[hour].unwrap();
            assert!(matches!(baseline.model, Model::Trend | Model::RecentTrend), "{baseline:?}");
            for x in [0.5, 0.75] {
                // The mean of an hour's measurements stands at its middle, an eighth of an hour behind theirs.
                let off = (baseline.expected(x) - (100.0 + 0.7 * (hour as f64 + x - 0.125))).abs();
                assert!(off < 0.05, "{hour} {x} {off}");
            }
        }
    }

    #[test]
    fn parabolas_are_followed_by_the_last_day() {
        let found = forecasts(&readings(500, |hours| 0.01 * hours * hours + noise(hours)), "UTC");
        assert!(check(&found, 499, Model::RecentTrend, 0.01 * 499.5 * 499.5) < 3.0);
    }

    #[test]
    fn days_and_weeks_repeat() {
        let daily = |hours: f64| 50.0 + 20.0 * ((hours % 24.0).floor() / 24.0 * std::f64::consts::TAU).sin();
        let found = forecasts(&readings(400, |hours| daily(hours) + noise(hours)), "UTC");
        assert!(check(&found, 399, Model::Daily, daily(399.0)) < 1.5);
        // With a trend the day before tells how much to add.
        let rising = |hours: f64| daily(hours) + 0.6 * hours;
        let found = forecasts(&readings(400, |hours| rising(hours) + 0.1 * noise(hours)), "UTC");
        assert!(check(&found, 399, Model::DailyMoved, rising(399.5)) < 3.0);
        // Every hour of the week has its own level.
        let weekly = |hours: f64| 30.0 * noise((hours % 168.0).floor());
        let found = forecasts(&readings(1200, |hours| weekly(hours) + noise(hours)), "UTC");
        assert!(check(&found, 1199, Model::Weekly, weekly(1199.0)) < 1.5);
    }

    #[test]
    fn a_week_that_went_wrong_is_not_expected_again() {
        let weekly = |hours: f64| 30.0 * noise((hours % 168.0).floor());
        let found = forecasts(
            &readings(1200, |hours| weekly(hours) + noise(hours) + if (1000.0..1004.0).contains(&hours) { 500.0 } else { 0.0 }),
            "UTC",
        );
        assert!(check(&found, 1169, Model::Weekly, weekly(1001.0)) < 1.5);
    }

    #[test]
    fn days_follow_the_clock_on_the_wall() {
        // What happens at nine in Berlin happens at eight in UTC until 2024-03-31, and at seven from then on.
        let berlin = Calendar::named("Europe/Berlin").unwrap();
        let at_nine = |hours: f64| {
            #[allow(clippy::cast_possible_truncation)]
            let hour = FIRST + hours.floor() as Hour;
            if berlin.wall(leaf::start(hour)).div_euclid(HOUR).rem_euclid(24) == 9 { 100.0 } else { 0.0 }
        };
        let all = readings(24 * 100, |hours| at_nine(hours) + noise(hours));
        // 2024-04-01 at nine.
        let hour = 24 * 91 + 7;
        let expected = |zone| forecasts(&all, zone)[hour].unwrap().expected(0.5);
        assert!((expected("Europe/Berlin") - 100.0).abs() < 3.0);
        assert!(expected("UTC") < 50.0, "in UTC nothing happens at seven");
    }

    #[test]
    fn after_a_jump_the_band_is_narrow_again() {
        let found = forecasts(&readings(600, |hours| noise(hours) + if hours < 400.0 { 0.0 } else { 40.0 }), "UTC");
        let usual = found[399].unwrap().sigma();
        for (hour, baseline) in found.iter().enumerate().skip(412) {
            let baseline = baseline.unwrap();
            assert!(baseline.sigma() < 2.0 * usual, "{baseline:?} at {hour}");
            assert!((baseline.expected(0.5) - 40.0).abs() < 4.0 * usual, "{baseline:?} at {hour}");
        }
    }

    #[test]
    fn values_beyond_the_limits_are_at_them() {
        for (size, summed) in [(1e300, crate::records::SUMMED_MAX), (1e-119, 1e-119), (1e100, 1e100)] {
            let found = forecasts(&readings(700, |hours| size * noise(hours)), "UTC");
            let baseline = found[699].unwrap();
            let sigma = baseline.sigma() / summed;
            assert!(sigma > 0.4 && sigma < 1.1 && baseline.expected(0.5).abs() < summed, "{size}: {sigma}");
        }
    }
}
