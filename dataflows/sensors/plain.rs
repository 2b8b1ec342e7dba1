//! The method as one would write it down, over plain lists of hours: what the alarms of a sensor are, row by row.
//!
//! Nothing of it is shared with what computes the tables but readings, flat lines and gaps: no sums over days, no sizes, no networks, no
//! windows. Floats are added up in other orders, so it is compared on measurements that no rounding decides.

use crate::records::Reading;
use retally_core::time::{HOUR, Moment};

const NAN: f64 = f64::NAN;

fn median(values: &[f64]) -> f64 {
    let mut known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    known.sort_by(f64::total_cmp);
    if known.is_empty() { NAN } else { 0.5 * (known[known.len() / 2] + known[(known.len() - 1) / 2]) }
}

fn mean(values: &[f64], least: usize) -> f64 {
    let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    if known.len() >= least.max(1) { known.iter().sum::<f64>() / known.len() as f64 } else { NAN }
}

/// The values of `count` hours before.
fn before(list: &[f64], hour: usize, count: usize) -> &[f64] {
    &list[hour.saturating_sub(count)..hour]
}

fn same(list: &[f64], hour: usize, period: usize, count: usize) -> Vec<f64> {
    (1..=count).filter_map(|back| hour.checked_sub(period * back)).map(|hour| list[hour]).collect()
}

fn eighths(number: f64) -> f64 {
    if number > 0.0 { ((number.log2() * 20.0).round() / 20.0).exp2() } else { number }
}

/// The line through values of hours before, at the hour, and its slope.
fn line(list: &[f64], hour: usize, count: usize, least: usize) -> (f64, f64) {
    let first = hour.saturating_sub(count);
    let points: Vec<(f64, f64)> = (first..hour).filter(|at| !list[*at].is_nan()).map(|at| (at as f64 - hour as f64, list[at])).collect();
    if points.len() < least {
        return (NAN, 0.0);
    }
    let n = points.len() as f64;
    let (x, y) = (points.iter().map(|point| point.0).sum::<f64>() / n, points.iter().map(|point| point.1).sum::<f64>() / n);
    let xx: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let xy: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    (y - slope * x, slope)
}

/// The median of seven days' means.
fn scale(list: &[f64], hour: usize) -> f64 {
    let days: Vec<f64> = (0..7).filter_map(|day| hour.checked_sub(24 * day)).map(|end| mean(before(list, end, 24), 4)).collect();
    median(&days)
}

fn habit(list: &[f64], hour: usize) -> f64 {
    let largest = |end: usize| before(list, end, 24).iter().copied().filter(|size| !size.is_nan()).fold(NAN, f64::max);
    let mut days: Vec<f64> = (0..28).filter_map(|day| hour.checked_sub(24 * day)).map(largest).filter(|size| !size.is_nan()).collect();
    days.sort_by(f64::total_cmp);
    let known = days.len();
    if known == 0 { 0.0 } else { days[known.saturating_sub(2 + known / 10)].min(3.0 * days[(known - 1) / 2]) }
}

fn over(size: f64, bound: f64) -> f64 {
    if size > 0.0 && !bound.is_nan() { (size / bound).min((1 << 20) as f64) } else { 0.0 }
}

/// By hour how unusual a channel beside the readings is.
fn channel(list: &[f64], floor: impl Fn(usize) -> f64) -> Vec<f64> {
    let hours = list.len();
    let pattern: Vec<f64> = (0..hours).map(|hour| mean(&same(list, hour, 24, 7), 2)).collect();
    let contrasts = |list: &[f64]| -> Vec<f64> {
        let of = |hour: usize| {
            let now = &list[(hour + 1).saturating_sub(4)..=hour];
            let earlier = before(list, (hour + 1).saturating_sub(4), 24);
            if list[hour].is_nan() { NAN } else { (mean(now, 2) - mean(earlier, 8)).abs() }
        };
        (0..hours).map(of).collect()
    };
    let moved: Vec<f64> = list.iter().zip(&pattern).map(|(value, pattern)| value - pattern).collect();
    let both = [contrasts(list), contrasts(&moved)];
    let squares: Vec<Vec<f64>> = both.iter().map(|list| list.iter().map(|size| size * size).collect()).collect();
    let of = |hour: usize| {
        let [plain, daily] = [0, 1].map(|which| eighths(scale(&squares[which], hour).sqrt()));
        let (which, scale) = if daily < 0.7 * plain { (1, daily) } else { (0, plain) };
        let bound = (4.0 * scale).max(habit(&both[which], hour)).max(floor(hour));
        if scale.is_nan() { 0.0 } else { over(both[which][hour], bound) }
    };
    (0..hours).map(of).collect()
}

fn rising(times: &[i64], unusual: &[f64]) -> Vec<bool> {
    let of = |at: usize| {
        let most =
            (0..at).filter(|earlier| times[at] - times[*earlier] <= 12 * HOUR && unusual[*earlier] >= 1.0).map(|earlier| unusual[earlier]);
        unusual[at] >= 1.0 && unusual[at] >= 2.0 * most.fold(0.0, f64::max)
    };
    (0..times.len()).map(of).collect()
}

/// The times of alarms of readings at a threshold of 5, in UTC and without flat lines and gaps; and how unusual each reading is.
pub fn alarms(readings: &[Reading]) -> (Vec<Moment>, Vec<f64>) {
    let hour_of = |reading: &Reading| reading.time().0.div_euclid(HOUR);
    // Days of UTC, so that nothing depends on where it starts.
    let start = hour_of(&readings[0]).div_euclid(24) * 24;
    let hours = usize::try_from(hour_of(&readings[readings.len() - 1]) - start).unwrap() + 1;
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); hours];
    let place = |reading: &Reading| usize::try_from(hour_of(reading) - start).unwrap();
    readings.iter().for_each(|reading| values[place(reading)].push(reading.value.get()));
    let of = |what: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
        values.iter().map(|values| if values.is_empty() { NAN } else { what(values) }).collect()
    };
    let rows: Vec<f64> = values.iter().map(|values| values.len() as f64).collect();
    let means = of(&|values| values.iter().sum::<f64>() / values.len() as f64);
    let inner: Vec<f64> = values
        .iter()
        .zip(&means)
        .map(|(values, mean)| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
        .collect();
    let largest = of(&|values| values.iter().fold(0.0, |most: f64, value| most.max(value.abs())));
    let largest_before = |hour: usize| before(&largest, hour, 168).iter().copied().filter(|size| !size.is_nan()).fold(0.0, f64::max);

    let pattern: Vec<f64> = (0..hours).map(|hour| mean(&same(&means, hour, 24, 7), 2)).collect();
    let missed: Vec<f64> = means.iter().zip(&pattern).map(|(mean, pattern)| mean - pattern).collect();
    let forecast = |hour: usize| -> [(f64, f64); 7] {
        let first = hour.saturating_sub(168);
        let count: f64 = rows[first..hour].iter().sum();
        let sum: f64 = (first..hour).filter(|at| rows[*at] > 0.0).map(|at| rows[at] * means[at]).sum();
        let oldest = (first..hour).find(|at| rows[*at] > 0.0).unwrap_or(hour);
        let weeks = same(&means, hour, 168, 4);
        let known = weeks.iter().filter(|mean| !mean.is_nan()).count();
        let enough = |least: bool, forecast: (f64, f64)| if least { forecast } else { (NAN, 0.0) };
        [
            enough(count >= 20.0, (sum / count, 0.0)),
            enough(count >= 20.0 && hour - oldest >= 48, line(&means, hour, 168, 2)),
            (pattern[hour], 0.0),
            enough(known >= 2, (median(&weeks), 0.0)),
            (pattern[hour] + mean(before(&missed, hour, 24), 6), 0.0),
            line(&means, hour, 24, 12),
            line(&means, hour, 6, 3),
        ]
    };
    let forecasts: Vec<[(f64, f64); 7]> = (0..hours).map(forecast).collect();
    let errors: Vec<Vec<f64>> =
        (0..7).map(|model| (0..hours).map(|hour| inner[hour] + (means[hour] - forecasts[hour][model].0).powi(2)).collect()).collect();

    // Level and slope at the hour's middle, and sigma.
    let mut baselines: Vec<Option<(f64, f64, f64)>> = vec![None; hours];
    for hour in (0..hours).filter(|hour| rows[*hour] > 0.0) {
        let scales: Vec<f64> = (0..7).map(|model| scale(&errors[model], hour)).collect();
        let penalties = [1.0, 2.0, 2.0, 4.0, 4.0, 4.0];
        let there = |model: usize| !forecasts[hour][model].0.is_nan() && !scales[model].is_nan();
        let best = (0..6)
            .filter(|model| there(*model))
            .min_by(|one, other| (scales[*one] * penalties[*one]).total_cmp(&(scales[*other] * penalties[*other])));
        let Some(mut best) = best else { continue };
        let just_now = |model: usize| {
            let last = before(&errors[model], hour, 12);
            if last.iter().filter(|error| !error.is_nan()).count() >= 3 { median(last) } else { NAN }
        };
        let mut limit = 0.5 * just_now(best);
        for model in 4..7 {
            if there(model) && just_now(model) < limit {
                (best, limit) = (model, just_now(model));
            }
        }
        let sigma = eighths((scales[best] + (1e-6 * largest_before(hour)).powi(2)).sqrt());
        let rounded = |value: f64| (value / sigma * 32.0).round() * sigma / 32.0;
        let (level, slope) = forecasts[hour][best];
        baselines[hour] = Some((rounded(level), rounded(slope), sigma));
    }
    let mut farthest = vec![NAN; hours];
    let distance = |reading: &Reading| {
        let (level, slope, _) = baselines[place(reading)]?;
        let within = (reading.time().0 as f64 / HOUR as f64).rem_euclid(1.0);
        Some((reading.value.get() - level - slope * (within - 0.5)).abs())
    };
    for reading in readings {
        let hour = place(reading);
        farthest[hour] = farthest[hour].max(distance(reading).unwrap_or(NAN));
    }
    let habits: Vec<f64> = (0..hours).map(|hour| habit(&farthest, hour)).collect();
    let unusual: Vec<f64> = readings
        .iter()
        .map(|reading| {
            let hour = place(reading);
            let bound = baselines[hour].map_or(NAN, |(_, _, sigma)| (4.0 * sigma).max(habits[hour]));
            over(distance(reading).unwrap_or(0.0), bound)
        })
        .collect();
    let spreads: Vec<f64> = (0..hours)
        .map(|hour| {
            let floor = 1e-6 * largest[hour];
            if rows[hour] < 2.0 || floor == 0.0 {
                NAN
            } else {
                0.5 * (inner[hour] * rows[hour] / (rows[hour] - 1.0) + floor * floor).log2()
            }
        })
        .collect();
    let levels = channel(&means, |hour| 1e-5 * largest_before(hour).max(largest[hour]));
    let spreads = channel(&spreads, |_| 0.5);
    let beside: Vec<f64> = readings
        .iter()
        .enumerate()
        .map(|(at, reading)| {
            let hour = place(reading);
            let is_last = readings.get(at + 1).is_none_or(|next| place(next) != hour);
            if is_last && baselines[hour].is_some() { levels[hour].max(spreads[hour]) } else { 0.0 }
        })
        .collect();

    let times: Vec<i64> = readings.iter().map(|reading| reading.time().0).collect();
    let (own, others) = (rising(&times, &unusual), rising(&times, &beside));
    let mut alarms = Vec::new();
    let mut last = None;
    for (at, time) in times.iter().enumerate() {
        if own[at] {
            last = Some(*time);
        }
        if own[at] || (others[at] && last.is_none_or(|last| time - last > 12 * HOUR)) {
            alarms.push(Moment(*time));
        }
    }
    (alarms, unusual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, Fault};
    use crate::records::Value;
    use crate::sensor::{History, Rules, Work};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use retally_core::calendar::{Calendar, Naming};
    use retally_core::time::SECOND;

    /// Sensors of all shapes with spikes, bursts and jumps: the same alarms by both.
    #[test]
    fn alarms_are_those_of_the_method_as_it_is_written_down() {
        let mut random = ChaCha8Rng::seed_from_u64(23);
        let rules = Rules { calendar: Calendar::utc(), threshold: 5.0 };
        let mut total = 0;
        for number in 0..14 {
            let mut made = generate::made(number, 40, &mut random);
            // Flat lines and gaps have rules of their own.
            made.labels.retain(|label| !matches!(label.fault, Fault::Flat | Fault::Gap));
            let measurements = made.measurements(40, 1_200 * SECOND, &mut random);
            let readings: Vec<Reading> =
                measurements.iter().map(|(time, value)| Reading::new(*time, Naming::Unique, Value::new(*value).unwrap())).collect();
            let mut history = History::default();
            history.change(&mut readings.iter().map(|reading| (*reading, 1)).collect(), &rules, &mut Work::default());
            let found = history.whole(&rules, false);
            let found: Vec<Moment> =
                found.anomalies.iter().filter(|one| one.alarm.is_some()).map(|one| one.scored.reading.time()).collect();
            let (expected, _) = alarms(&readings);
            assert_eq!(found, expected, "sensor {number}, {:?}", made.labels);
            total += found.len();
        }
        assert!(total >= 30, "{total} alarms");
    }
}
