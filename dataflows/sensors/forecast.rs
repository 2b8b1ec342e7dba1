//! The forecast of an hour from the hours before it: the simplest model that clearly explains more.
//!
//! R are the 168 hours before. Each model gives a level at the hour's middle, a slope, and a variance v of what it leaves unexplained:
//!
//! | model | forecast | v | needs |
//! |---|---|---|---|
//! | L, level | the mean of R | Syy / (n - 1) | n ≥ 20 |
//! | T, trend | the line of least squares through R | SSE / (n - 2) | R spans 2 days |
//! | D, daily | the mean of the same local hour of the 7 days before | what is left of R about the means by hour of day, / (n - slots) | 2 of these hours, R spans 3 days |
//! | W, weekly | the mean of the same local hour and weekday of the 4 weeks before | likewise by hour of week over 672 hours | 2 of these hours, n > 2 slots |
//! | E, daily moved | D, and the mean of what D missed in the last 24 hours | the mean over R of its mean squared error by hour, without the largest 3 % | 12 hours with errors |
//! | M, recent trend | the line through the last 24 hours | likewise | n ≥ 12, 12 hours with errors |
//!
//! L is where it starts. T, D, W in this order replace what is there when their v is below half of it; then the better of E and M does when
//! its v is below a quarter. To each v is added (1e-6 · m)², where m is the largest magnitude in R, so that constant sensors have a σ and
//! what floats leave of exact values decides nothing. σ² is the v of what was chosen; where all of R is 0, it is 0.
//!
//! No constant has a unit. Measurements times a power of two have the same forecasts times that power, bit for bit; in another unit, σ may
//! be rounded otherwise.
//!
//! # What makes it incremental
//! The result is rounded ([`Baseline`]): σ to 20ths of a doubling, level and slope to 32nds of σ. So most late
//! measurements change no baseline but those of the hours beside them, and only where one changed are measurements scored again.
//!
//! # Limits
//! An hour's forecast depends on [`REACH`] hours before it and on nothing else.

use crate::doubling::{self, PARTS};
use crate::leaf::Hour;
use retally_core::calendar::Calendar;
use retally_core::operators::regression::{Line, Moments};
use std::collections::VecDeque;

/// The hours of R.
const RECENT: usize = 168;
/// The hours of D and W's variance, and how far any forecast looks back.
pub const REACH: usize = 672;
/// The same, as hours are counted.
pub const REACH_HOURS: Hour = 672;
/// The hours of M, and of E's correction.
const LAST: usize = 24;

/// Which model a baseline comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// L.
    Level,
    /// T.
    Trend,
    /// D.
    Daily,
    /// W.
    Weekly,
    /// E.
    DailyMoved,
    /// M.
    RecentTrend,
}

impl Model {
    /// As in the column `model`.
    pub fn name(self) -> &'static str {
        match self {
            Model::Level => "level",
            Model::Trend => "trend",
            Model::Daily => "daily",
            Model::Weekly => "weekly",
            Model::DailyMoved => "daily_moved",
            Model::RecentTrend => "recent_trend",
        }
    }
}

/// The forecast of an hour, rounded: whole numbers, so that it either is the same or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Baseline {
    /// The level at the hour's middle, in 32nds of σ.
    level: i64,
    /// The slope by hour, in 32nds of σ.
    slope: i32,
    /// log2 σ in [`PARTS`]; [`NO_SIGMA`] where σ is 0.
    sigma: i16,
    /// Where it comes from.
    pub model: Model,
}

/// In place of the logarithm of a σ of 0.
const NO_SIGMA: i16 = i16::MIN;

impl Baseline {
    /// Rounds a forecast of a level at the hour's middle and a slope by hour. Without variance, the level is taken as 0.
    pub fn of(level: f64, slope: f64, variance: f64, model: Model) -> Baseline {
        if variance <= 0.0 {
            return Baseline { level: 0, slope: 0, sigma: NO_SIGMA, model };
        }
        // log2 of the variance is that of σ twice.
        let sigma = doubling::rounded(variance, PARTS / 2);
        let unit = unit(sigma);
        // Levels are below σ · 1e6. A slope may be steeper where measurements lie close together: then it is the steepest there is.
        #[allow(clippy::cast_possible_truncation)]
        let (level, slope) = ((level / unit).round() as i64, (slope / unit).round() as i32);
        Baseline { level, slope, sigma, model }
    }

    /// The standard deviation that is expected.
    pub fn sigma(&self) -> f64 {
        unit(self.sigma) * 32.0
    }

    /// The value expected at `x` hours after the hour's start.
    pub fn expected(&self, x: f64) -> f64 {
        (self.level as f64 + self.slope as f64 * (x - 0.5)) * unit(self.sigma)
    }
}

/// A 32nd of σ.
fn unit(sigma: i16) -> f64 {
    if sigma == NO_SIGMA { 0.0 } else { doubling::size(sigma) / 32.0 }
}

/// Consecutive hours of a sensor.
#[derive(Clone, Debug, Default)]
pub struct Window {
    first: Hour,
    /// By hour; n is 0 where there is nothing. x is in hours since the window's start.
    hours: Vec<Moments>,
    /// By hour: the largest magnitude in it.
    largest: Vec<f64>,
    /// By hour: the largest magnitude in R.
    largest_before: Vec<f64>,
    /// By hour: the clock on the wall at its start, in whole hours.
    local: Vec<i32>,
    /// By hour: the mean of the same local hour of the 7 days before; NaN where there is none.
    daily: Vec<f64>,
    /// By hour: the mean squared errors of E and M; NaN where there is none.
    errors: [Vec<f64>; 2],
}

/// The hours that have to be in a window in which hours from `hour` on are forecast.
pub fn history(hour: Hour) -> Hour {
    hour - REACH_HOURS
}

impl Window {
    /// Empties the window; it will hold the hours from `first` until `until`.
    pub fn reset(&mut self, first: Hour, until: Hour, calendar: &Calendar) {
        let len = usize::try_from(until - first).unwrap_or(0);
        self.first = first;
        self.hours.clear();
        self.hours.resize(len, Moments::default());
        self.largest.clear();
        self.largest.resize(len, 0.0);
        self.local.clear();
        let wall = |hour: Hour| calendar.wall(crate::leaf::start(hour)).div_euclid(retally_core::time::HOUR);
        self.local.extend((first..until).map(|hour| i32::try_from(wall(hour)).unwrap_or(i32::MAX)));
    }

    /// Describes what is in an hour: its moments, whose x is in hours since the hour's start, and the largest magnitude.
    pub fn set(&mut self, hour: Hour, moments: &Moments, largest: f64) {
        let place = usize::try_from(hour - self.first).unwrap_or(usize::MAX);
        if let Some((known, known_largest)) = self.hours.get_mut(place).zip(self.largest.get_mut(place)) {
            (*known, *known_largest) = (moments.moved(place as f64), largest);
        }
    }

    /// The forecasts of hours that have something in them, from `from` on.
    pub fn forecast(&mut self, from: Hour, mut each: impl FnMut(Hour, Option<Baseline>)) {
        let first = usize::try_from(from - self.first).unwrap_or(0);
        self.prepare(first);
        for (place, hour) in (first..self.hours.len()).zip(from..) {
            if self.hours.get(place).is_some_and(|hour| hour.n > 0.0) {
                each(hour, self.baseline(place));
            }
        }
    }

    /// Computes what the forecasts from `first` on need of single hours: D's means, and the errors of E and M.
    fn prepare(&mut self, first: usize) {
        let (errors_from, len) = (first.saturating_sub(RECENT), self.hours.len());
        let daily_from = errors_from.saturating_sub(LAST);
        self.daily.clear();
        self.daily.resize(daily_from, f64::NAN);
        for place in daily_from..len {
            let daily = self.same_hours(place, 24, 7).unwrap_or(f64::NAN);
            self.daily.push(daily);
        }
        let [mut moved, mut trend] = std::mem::take(&mut self.errors);
        for errors in [&mut moved, &mut trend] {
            errors.clear();
            errors.resize(errors_from, f64::NAN);
        }
        for place in errors_from..len {
            let hour = self.hours.get(place).copied().unwrap_or_default();
            let error = |line: Option<Line>| match line {
                Some(line) if hour.n > 0.0 => hour.residual_of(&line) / hour.n,
                _ => f64::NAN,
            };
            moved.push(error(self.daily_moved(place)));
            trend.push(error(self.recent_trend(place)));
        }
        self.errors = [moved, trend];
        self.prepare_largest();
    }

    /// The largest magnitudes, each in one step on average: an hour is passed over for good when a later one is no smaller.
    fn prepare_largest(&mut self) {
        self.largest_before.clear();
        let mut falling: VecDeque<(usize, f64)> = VecDeque::new();
        for (place, &largest) in self.largest.iter().enumerate() {
            while falling.front().is_some_and(|(first, _)| first + RECENT < place) {
                falling.pop_front();
            }
            self.largest_before.push(falling.front().map_or(0.0, |(_, most)| *most));
            while falling.back().is_some_and(|(_, smaller)| *smaller <= largest) {
                falling.pop_back();
            }
            falling.push_back((place, largest));
        }
    }

    fn hour(&self, place: usize) -> Moments {
        self.hours.get(place).copied().unwrap_or_default()
    }

    /// The hours from `from` until `until`, those with something in them.
    fn between(&self, from: usize, until: usize) -> impl Iterator<Item = &Moments> + Clone {
        self.hours.get(from..until).unwrap_or_default().iter().filter(|hour| hour.n > 0.0)
    }

    /// The mean of the hours that the clock showed as it does at `place`, 1 to `count` periods before; of two at least.
    fn same_hours(&self, place: usize, period: usize, count: usize) -> Option<f64> {
        let (mut n, mut sum, mut hours) = (0.0, 0.0, 0);
        let reference = self.local.get(place)?;
        for back in 1..=count {
            let wanted = reference - i32::try_from(period * back).unwrap_or(0);
            // Where clocks changed in between, it is an hour earlier or later.
            let Some(near) = place.checked_sub(period * back) else { break };
            let off = wanted - self.local.get(near)?;
            let Some(same) = near.checked_add_signed(off as isize) else { continue };
            if same >= place || same + REACH < place || self.local.get(same) != Some(&wanted) {
                continue;
            }
            let hour = self.hour(same);
            if hour.n > 0.0 {
                n += hour.n;
                sum += hour.n * hour.y;
                hours += 1;
            }
        }
        (hours >= 2).then(|| sum / n)
    }

    /// E's forecast.
    fn daily_moved(&self, place: usize) -> Option<Line> {
        let daily = *self.daily.get(place).filter(|daily| !daily.is_nan())?;
        let from = place.saturating_sub(LAST);
        let (mut n, mut missed) = (0.0, 0.0);
        for (hour, daily) in self.hours.get(from..place)?.iter().zip(self.daily.get(from..place)?) {
            if hour.n > 0.0 && !daily.is_nan() {
                n += hour.n;
                missed += hour.n * (hour.y - daily);
            }
        }
        (n > 0.0).then(|| Line { x: place as f64 + 0.5, y: daily + missed / n, slope: 0.0 })
    }

    /// M's forecast.
    fn recent_trend(&self, place: usize) -> Option<Line> {
        let moments = united(self.between(place.saturating_sub(LAST), place));
        (moments.n >= 12.0).then(|| moments.line())
    }

    /// The forecast of an hour.
    fn baseline(&self, place: usize) -> Option<Baseline> {
        let from = place.saturating_sub(RECENT);
        let recent = self.between(from, place);
        let moments = united(recent.clone());
        if moments.n < 20.0 {
            return None;
        }
        let middle = place as f64 + 0.5;
        let (mut level, mut slope, mut model) = (moments.y, 0.0, Model::Level);
        // What floats leave of values that a model explains is less than this, and decides nothing.
        let floor = 1e-6 * self.largest_before.get(place)?;
        let floored = |v: f64| v + floor * floor;
        let mut variance = floored(moments.yy / (moments.n - 1.0));
        let span = recent.clone().last().map_or(0.0, |hour| hour.x.floor()) - recent.clone().next().map_or(0.0, |hour| hour.x.floor());
        if span >= 48.0 {
            let line = moments.line();
            let v = floored(recent.map(|hour| hour.residual_of(&line)).sum::<f64>() / (moments.n - 2.0));
            if v < 0.5 * variance {
                (level, slope, model, variance) = (line.at(middle), line.slope, Model::Trend, v);
            }
        }
        let daily = self.daily.get(place).copied().filter(|daily| !daily.is_nan() && span >= 72.0);
        if let Some(daily) = daily
            && let Some(v) = self.left_by_slot::<24>(from, place, 24, 1.0).map(floored)
            && v < 0.5 * variance
        {
            (level, slope, model, variance) = (daily, 0.0, Model::Daily, v);
        }
        if let Some(weekly) = self.same_hours(place, 168, 4)
            && let Some(v) = self.left_by_slot::<168>(place.saturating_sub(REACH), place, 168, 2.0).map(floored)
            && v < 0.5 * variance
        {
            (level, slope, model, variance) = (weekly, 0.0, Model::Weekly, v);
        }
        let [moved_errors, trend_errors] = &self.errors;
        let moved = daily.and_then(|_| self.daily_moved(place)).zip(trimmed_mean(moved_errors.get(from..place)?));
        let trend = self.recent_trend(place).zip(trimmed_mean(trend_errors.get(from..place)?));
        let mut bound = 0.25 * variance;
        for (forecast, name) in [(moved, Model::DailyMoved), (trend, Model::RecentTrend)] {
            if let Some((line, v)) = forecast.map(|(line, v)| (line, floored(v)))
                && v < bound
            {
                bound = v;
                (level, slope, model, variance) = (line.at(middle), line.slope, name, v);
            }
        }
        Some(Baseline::of(level, slope, variance, model))
    }

    /// What is left of the variance about the means of the hours that the clock shows alike, `SLOTS` of them in a period of as many hours;
    /// where there are more than `by_slot` measurements by slot.
    fn left_by_slot<const SLOTS: usize>(&self, from: usize, until: usize, period: i32, by_slot: f64) -> Option<f64> {
        let mut sums = [(0.0f64, 0.0f64); SLOTS];
        let slot = |local: i32| local.rem_euclid(period).unsigned_abs() as usize;
        let hours = || self.hours.get(from..until).unwrap_or_default().iter().zip(self.local.get(from..until).unwrap_or_default());
        // About a value nearby, so that sums are small.
        let centre = self.between(from, until).next()?.y;
        for (hour, local) in hours() {
            if let Some((n, sum)) = sums.get_mut(slot(*local)) {
                *n += hour.n;
                *sum += hour.n * (hour.y - centre);
            }
        }
        let (mut n, mut slots) = (0.0, 0.0);
        for (count, sum) in &mut sums {
            if *count > 0.0 {
                n += *count;
                slots += 1.0;
                *sum = *sum / *count + centre;
            }
        }
        if n <= by_slot * slots {
            return None;
        }
        let left = |(hour, local): (&Moments, &i32)| {
            let off = hour.y - sums.get(slot(*local)).map_or(0.0, |(_, mean)| *mean);
            hour.yy + hour.n * off * off
        };
        Some(hours().filter(|(hour, _)| hour.n > 0.0).map(left).sum::<f64>() / (n - slots))
    }
}

/// The moments of all hours: two passes, so that nothing large is subtracted from something large.
fn united<'a>(hours: impl Iterator<Item = &'a Moments> + Clone) -> Moments {
    let Some(centre) = hours.clone().next() else { return Moments::default() };
    let (mut n, mut x, mut y) = (0.0, 0.0, 0.0);
    for hour in hours.clone() {
        n += hour.n;
        x += hour.n * (hour.x - centre.x);
        y += hour.n * (hour.y - centre.y);
    }
    let mut all = Moments { n, x: centre.x + x / n, y: centre.y + y / n, ..Moments::default() };
    for hour in hours {
        let (dx, dy) = (hour.x - all.x, hour.y - all.y);
        all.xx += hour.xx + hour.n * dx * dx;
        all.xy += hour.xy + hour.n * dx * dy;
        all.yy += hour.yy + hour.n * dy * dy;
    }
    all
}

/// The mean without the largest 3 %; of 12 at least.
fn trimmed_mean(errors: &[f64]) -> Option<f64> {
    // 3 % of 168 are 5.
    let mut largest = [0.0f64; RECENT * 3 / 100];
    let (mut count, mut sum) = (0usize, 0.0);
    for &error in errors.iter().filter(|error| !error.is_nan()) {
        count += 1;
        sum += error;
        let mut error = error;
        for place in &mut largest {
            if error > *place {
                std::mem::swap(place, &mut error);
            }
        }
    }
    if count < 12 {
        return None;
    }
    let cut = count * 3 / 100;
    // Those that are cut are summed up apart: taking them off the sum would leave the dirt of large numbers.
    if cut == 0 {
        return Some(sum / count as f64);
    }
    let bound = largest.get(cut - 1).copied().unwrap_or(0.0);
    let mut kept = 0.0;
    let mut above = 0usize;
    for &error in errors.iter().filter(|error| !error.is_nan()) {
        if error > bound {
            above += 1;
        } else {
            kept += error;
        }
    }
    // Of equal ones at the bound as many are cut as it takes.
    kept -= bound * (cut - above.min(cut)) as f64;
    Some((kept / (count - cut) as f64).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf;
    use crate::records::{Reading, Value};
    use retally_core::calendar::Naming;
    use retally_core::time::{HOUR, Moment};

    /// The first hour: a Monday.
    const FIRST: Hour = 19_723 * 24;
    const BY_HOUR: usize = 4;

    /// Readings, four an hour, of a function of the hours since the first one.
    fn readings(hours: usize, value: impl Fn(f64) -> f64) -> Vec<Reading> {
        let reading = |n: usize| {
            let time = Moment(i64::from(FIRST) * HOUR + n as i64 * HOUR / BY_HOUR as i64);
            Reading::new(time, Naming::Unique, Value::new(value(n as f64 / BY_HOUR as f64)).unwrap())
        };
        (0..hours * BY_HOUR).map(reading).collect()
    }

    /// The forecasts by hour since the first one.
    fn forecasts(readings: &[Reading], zone: &str) -> Vec<Option<Baseline>> {
        let last = leaf::hour(readings[readings.len() - 1].time());
        let mut window = Window::default();
        window.reset(history(FIRST), last + 1, &Calendar::named(zone).unwrap());
        for hour in readings.chunk_by(|a, b| leaf::hour(a.time()) == leaf::hour(b.time())) {
            let number = leaf::hour(hour[0].time());
            let largest = hour.iter().map(|reading| reading.value.summed().abs()).fold(0.0, f64::max);
            window.set(number, &leaf::moments(number, hour.iter()), largest);
        }
        let mut found = Vec::new();
        window.forecast(FIRST, |_, baseline| found.push(baseline));
        found
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
        let found = forecasts(&readings(10, |_| 1.0), "UTC");
        // Four an hour: 20 after five hours.
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [[false; 5], [true; 5]].concat());
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
        let all = readings(400, |hours| if hours == 100.0 { -1e9 } else { 7.0 });
        let mut window = Window::default();
        window.reset(history(FIRST), FIRST + 400, &Calendar::named("UTC").unwrap());
        for (hour, of_hour) in (FIRST..).zip(all.chunks(BY_HOUR)) {
            let largest = of_hour.iter().map(|reading| reading.value.get().abs()).fold(0.0, f64::max);
            window.set(hour, &leaf::moments(hour, of_hour.iter()), largest);
        }
        window.prepare_largest();
        let before = &window.largest_before[REACH..];
        assert_eq!((before[0], before[1], before[100], before[101], before[268], before[269]), (0.0, 7.0, 7.0, 1e9, 1e9, 7.0));
    }

    #[test]
    fn zeros_have_none() {
        // The last week is 0, and an hour with less than a number is 0 too.
        let found = forecasts(
            &readings(400, |hours| {
                if hours < 200.0 {
                    7.5
                } else if hours < 210.0 {
                    1e-200
                } else {
                    0.0
                }
            }),
            "UTC",
        );
        let baseline = found[399].unwrap();
        assert_eq!((baseline.expected(0.5), baseline.sigma()), (0.0, 0.0));
        assert!(found[300].unwrap().sigma() > 0.0);
    }

    #[test]
    fn noise_is_forecast_by_its_mean_and_variance_over_168_hours() {
        let all = readings(300, |hours| 3.0 + noise(hours));
        let found = forecasts(&all, "UTC");
        for hour in [100usize, 168, 250, 299] {
            // As one computes it: over the measurements themselves.
            let until = hour * BY_HOUR;
            let recent: Vec<f64> = all[until.saturating_sub(168 * BY_HOUR)..until].iter().map(|r| r.value.get()).collect();
            let mean = recent.iter().sum::<f64>() / recent.len() as f64;
            let variance = recent.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (recent.len() - 1) as f64;
            assert!(check(&found, hour, Model::Level, mean) <= 1.0 / 63.0, "{hour}");
            let ratio = found[hour].unwrap().sigma() / variance.sqrt();
            assert!((0.95..1.05).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn lines_are_followed() {
        let found = forecasts(&readings(300, |hours| 100.0 + 0.7 * hours), "UTC");
        for hour in [60usize, 200, 299] {
            // The line through R, or that through the last day: both are exact.
            let baseline = found[hour].unwrap();
            assert!(matches!(baseline.model, Model::Trend | Model::RecentTrend), "{baseline:?}");
            for x in [0.0, 0.5, 0.75] {
                let off = (baseline.expected(x) - (100.0 + 0.7 * (hour as f64 + x))).abs();
                assert!(off < 1e-4, "{hour} {x} {off}");
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
    fn the_largest_errors_are_left_out() {
        assert_eq!(trimmed_mean(&[1.0; 11]), None);
        assert_eq!(trimmed_mean(&[f64::NAN; 30]), None);
        assert_eq!(trimmed_mean(&[2.0; 20]), Some(2.0), "3 % of 20 are none");
        let mut errors = vec![1.0; 100];
        errors[3] = 1e9;
        errors[50] = 1e12;
        errors[99] = 1e6;
        assert_eq!(trimmed_mean(&errors), Some(1.0));
        errors[0] = 98.0;
        assert_eq!(trimmed_mean(&errors), Some(2.0));
        assert_eq!(trimmed_mean(&[3.0; 168]), Some(3.0), "of equal ones as many as it takes");
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
