//! Which forecast is believed, and how far: the usual size of errors, and the model with the smallest.
//!
//! - **Scale**: the mean over the 24 hours before of an error squared, and of seven such days the median: the days that end with the hour,
//!   24 hours before, and so on. A day has one where four of its hours have. So one bad day, or three of seven, neither widen
//!   what is normal nor hide what comes.
//! - **Choice**: the model with the smallest v · penalty, where v is its scale: 1 for L, 2 for T and D, 4 for W, E and M. S follows
//!   everything, and is never usual.
//! - **Catching up**: where the median error of the last 12 hours of E, M or S is less than half of that of the chosen one, the smallest of
//!   them takes its place, with its own v. After a jump this takes some hours, and the band is narrow again. With
//!   a daily pattern it is not: there σ is about twice as wide for up to ten days.
//! - σ² is v and (1e-6 · m)², where m is the largest magnitude in R: so constant sensors have a σ, and what floats leave of exact values
//!   decides nothing. Where all of R is 0, σ is 0.

use crate::baseline::{ALL, Baseline, Forecast, MODELS};
use crate::seen::DAY;
use crate::size::Size;
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
/// What floats leave of exact values is less than this part of them.
const EXACT: f64 = 1e-6;

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

    /// The same of a day where nothing but W and its scale may have changed: most hours have another model, and W is no better now.
    pub(crate) fn renew_weekly_baselines(&mut self, day: usize, changed: bool) {
        let found = &self.found;
        let error = |place: usize| found.get(place).and_then(|found| found.errors.get(WEEKLY)).map_or(f64::NAN, |error| error.get());
        let weekly = self.weekly_means.scales(day, |place| [error(place)]);
        let is_same = |(place, [scale]): (usize, &[f64; 1])| {
            let Some(known) = self.found_at(place).baseline else { return self.at(place).rows == 0.0 };
            let penalty = PENALTIES.get(known.model as usize).copied().unwrap_or(f64::INFINITY);
            let sigma = known.sigma();
            // The variance that became σ² by rounding is less than 1.04 of it.
            (known.model as usize) < WEEKLY && (scale.is_nan() || scale * PENALTIES[WEEKLY] >= 1.04 * penalty * sigma * sigma)
        };
        if !(day * DAY..).zip(&weekly).all(is_same) {
            self.renew_baselines(day, changed);
        }
    }

    /// By hour of a day: v of each model.
    fn error_scales(&mut self, day: usize) -> [[f64; MODELS]; DAY] {
        let found = &self.found;
        self.error_means.scales(day, |place| found.get(place).copied().unwrap_or_default().errors.map(Size::get))
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
