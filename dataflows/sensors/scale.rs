//! Which forecast is believed, and how far: the usual size of errors, and the model with the smallest.
//!
//! - **Scale**: the mean over the 24 hours before of an error squared, and of seven such days the median: the days that end with the hour,
//!   24 hours before, and so on. A day has one where four of its hours have. So one bad day, or three of seven, neither widen
//!   what is normal nor hide what comes.
//! - **Choice**: the model with the smallest v · penalty, where v is its scale: 1 for L, 2 for T and D, 4 for W, E and M. S follows
//!   everything, and is never usual.
//! - **Catching up**: where the median error of the last 12 hours of E, M or S is less than half of that of the chosen one, the smallest of
//!   them takes its place, with its own v. After a jump this takes some hours, and the band is narrow again.
//! - σ² is v and (1e-6 · m)², where m is the largest magnitude in R: so constant sensors have a σ, and what floats leave of exact values
//!   decides nothing. Where all of R is 0, σ is 0.

use crate::baseline::{ALL, Baseline, MODELS};
use crate::forecast::Forecast;
use crate::seen::DAY;
use crate::size::{self, Size};
use crate::sums::Sums;
use crate::window::Window;

/// By model: what its v is multiplied by when models are compared.
const PENALTIES: [f64; MODELS] = [1.0, 2.0, 2.0, 4.0, 4.0, 4.0, f64::INFINITY];
/// The models that catch up: from this place on.
const CATCHING_UP: usize = 4;
/// The place of W.
const WEEKLY: usize = 3;
/// How much less they must miss.
const CLEARLY: f64 = 0.5;
/// The hours that are looked at for it, and how many of them must be known.
const JUST_NOW: usize = 12;
const JUST_NOW_LEAST: usize = 3;
/// The days of a scale.
pub(crate) const SCALE_DAYS: usize = 7;
/// The hours of a day that must be known.
const DAY_LEAST: f64 = 4.0;
/// What floats leave of exact values is less than this part of them.
const EXACT: f64 = 1e-6;

/// By hour of a day: the means over the 24 hours before of what `squares` returns of a place, NaN where it is known of fewer than four.
pub(crate) fn day_means<const COLUMNS: usize>(day: usize, squares: impl Fn(usize) -> [f64; COLUMNS]) -> [[Size; COLUMNS]; DAY] {
    let add = |counts: &mut [f64; COLUMNS], sums: &mut [f64; COLUMNS], place: usize| {
        for ((count, sum), square) in counts.iter_mut().zip(sums).zip(squares(place)) {
            let known = !square.is_nan();
            *count += if known { 1.0 } else { 0.0 };
            *sum += if known { square } else { 0.0 };
        }
    };
    let mut ends = [([0.0; COLUMNS], [0.0; COLUMNS]); DAY];
    if let Some(before) = day.checked_sub(1) {
        let (mut counts, mut sums) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        for (slot, place) in ends.iter_mut().zip(before * DAY..day * DAY).rev() {
            add(&mut counts, &mut sums, place);
            *slot = (counts, sums);
        }
    }
    let (mut counts, mut sums) = ([0.0; COLUMNS], [0.0; COLUMNS]);
    let mut means = [[Size::NONE; COLUMNS]; DAY];
    for ((slot, (end_counts, end_sums)), place) in means.iter_mut().zip(ends).zip(day * DAY..) {
        for (((slot, end_count), end_sum), (count, sum)) in slot.iter_mut().zip(end_counts).zip(end_sums).zip(counts.iter().zip(sums)) {
            let count = end_count + count;
            if count >= DAY_LEAST {
                *slot = Size::of((end_sum + sum) / count);
            }
        }
        add(&mut counts, &mut sums, place);
    }
    means
}

/// By hour of a day: the medians of the means of seven days.
pub(crate) fn scales<const COLUMNS: usize>(days: [Option<&[[Size; COLUMNS]; DAY]>; SCALE_DAYS]) -> [[f64; COLUMNS]; DAY] {
    std::array::from_fn(|hour| {
        let means = days.map(|day| day.and_then(|day| day.get(hour)).copied().unwrap_or([Size::NONE; COLUMNS]));
        size::medians_of_7(means)
    })
}

impl Window {
    /// Finds the baselines of a day's hours. `changed`: the forecasts of the day may be other ones than before.
    pub(crate) fn renew_baselines(&mut self, day: usize, changed: bool) {
        let hours: Vec<usize> = (day * DAY..(day + 1) * DAY).filter(|place| self.at(*place).rows > 0.0).collect();
        if hours.is_empty() {
            return;
        }
        let (scales, recent) = (self.error_scales(day), self.recent(day));
        let mut forecasts = None;
        for place in hours {
            let hour = place % DAY;
            let scales = scales.get(hour).copied().unwrap_or([f64::NAN; MODELS]);
            let largest = EXACT * recent.get(hour).map_or(0.0, |sums: &Sums| sums.largest);
            let known = self.found_at(place).baseline;
            // With what floats may leave of exact values, so that nothing else of it decides.
            let scales = scales.map(|scale| scale + largest * largest);
            let chosen = self.chosen(place, &scales, largest * largest);
            let variance = chosen.and_then(|chosen| scales.get(chosen)).copied().unwrap_or(f64::NAN);
            let model = chosen.and_then(|chosen| ALL.get(chosen).copied());
            let same = known.zip(model).is_some_and(|(known, model)| known.is_as_sure(variance, model));
            if same && !changed {
                continue;
            }
            let baseline = chosen.zip(model).and_then(|(chosen, model)| {
                let forecasts: &[[Forecast; MODELS]; DAY] = forecasts.get_or_insert_with(|| self.forecasts(day));
                let forecast = forecasts.get(hour)?.get(chosen)?;
                Some(Baseline::of(forecast.level, forecast.slope, variance, model))
            });
            if let Some(found) = self.found.get_mut(place) {
                found.baseline = baseline;
            }
        }
    }

    /// The same of a day where nothing but W's scale may have changed: most hours have another model, and W is no better now.
    pub(crate) fn renew_weekly_baselines(&mut self, day: usize) {
        let first = day.saturating_sub(SCALE_DAYS - 1);
        for day in first..=day {
            if self.weekly_means.get(day).is_some_and(Option::is_none) {
                let means = day_means(day, |place| [self.found_at(place).errors.get(WEEKLY).map_or(f64::NAN, |error| error.get())]);
                if let Some(slot) = self.weekly_means.get_mut(day) {
                    *slot = Some(Box::new(means));
                }
            }
        }
        let weekly = scales(std::array::from_fn(|back| self.weekly_means.get(day.checked_sub(back)?)?.as_deref()));
        let is_same = |(place, [scale]): (usize, &[f64; 1])| {
            let Some(known) = self.found_at(place).baseline else { return self.at(place).rows == 0.0 };
            let penalty = PENALTIES.get(known.model as usize).copied().unwrap_or(f64::INFINITY);
            let sigma = known.sigma();
            // The variance that became σ² by rounding is less than 1.04 of it.
            (known.model as usize) < WEEKLY && (scale.is_nan() || scale * PENALTIES[WEEKLY] >= 1.04 * penalty * sigma * sigma)
        };
        if !(day * DAY..).zip(&weekly).all(is_same) {
            self.renew_baselines(day, true);
        }
    }

    /// By hour of a day: v of each model.
    fn error_scales(&mut self, day: usize) -> [[f64; MODELS]; DAY] {
        let first = day.saturating_sub(SCALE_DAYS - 1);
        for day in first..=day {
            if self.error_means.get(day).is_some_and(Option::is_none) {
                let means = day_means(day, |place| self.found_at(place).errors.map(Size::get));
                if let Some(slot) = self.error_means.get_mut(day) {
                    *slot = Some(Box::new(means));
                }
            }
        }
        scales(std::array::from_fn(|back| self.error_means.get(day.checked_sub(back)?)?.as_deref()))
    }

    /// The place of the model that is believed. `least`: what floats may leave of exact values, squared.
    fn chosen(&self, place: usize, scales: &[f64; MODELS], least: f64) -> Option<usize> {
        let there: [bool; MODELS] = self.found_at(place).errors.map(Size::is_known);
        let mut best: Option<(usize, f64)> = None;
        for (model, ((there, scale), penalty)) in there.iter().zip(scales).zip(PENALTIES).enumerate() {
            let cost = scale * penalty;
            // Of equal ones the first.
            if *there && cost.is_finite() && best.is_none_or(|(_, known)| cost < known) {
                best = Some((model, cost));
            }
        }
        let (mut chosen, _) = best?;
        let errors: [[Size; MODELS]; JUST_NOW] = std::array::from_fn(|back| match place.checked_sub(back + 1) {
            Some(place) => self.found_at(place).errors,
            None => [Size::NONE; MODELS],
        });
        let just_now = |model: usize| errors.map(|errors| errors.get(model).copied().unwrap_or_default());
        let mut limit = CLEARLY * (median(just_now(chosen)) + least);
        for (model, (there, scale)) in there.iter().zip(scales).enumerate().skip(CATCHING_UP) {
            let missed = just_now(model);
            // Where most are not less, their median isn't.
            let (known, less) = missed
                .iter()
                .filter(|size| size.is_known())
                .fold((0, 0), |(known, less), size| (known + 1, less + usize::from(size.get() + least < limit)));
            if !*there || scale.is_nan() || 2 * less < known {
                continue;
            }
            let missed = median(missed) + least;
            if missed < limit {
                (chosen, limit) = (model, missed);
            }
        }
        Some(chosen)
    }
}

/// The median of those that are known; NaN where too few are.
fn median(mut sizes: [Size; JUST_NOW]) -> f64 {
    sizes.sort_unstable();
    let known = sizes.iter().filter(|size| size.is_known()).count();
    let at = |place: usize| sizes.get(place).map_or(f64::NAN, |size| size.get());
    if known >= JUST_NOW_LEAST { 0.5 * (at((known - 1) / 2) + at(known / 2)) } else { f64::NAN }
}
