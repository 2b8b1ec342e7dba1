//! Which measurements of an hour are left out when lines are fitted: those far from the values of the hour and its neighbours.
//!
//! The line is that of Theil (1950) and Sen (1968): the median of the slopes between all pairs, through the median of what remains. Up to
//! 29 % of wrong measurements don't move it. Far is more than 5 · 1.4826 · MAD, the median of the distances from the line, which for
//! normal noise is 5 standard deviations (Rousseeuw and Croux, 1993); and more than a millionth of the usual size of values, which is more
//! than what floats leave of a line that is exact.
//!
//! # Limits
//! The line is found from at most [`SAMPLE_MAX`] measurements, evenly spaced in their order, so that an hour costs the same
//! however many measurements it has.

use crate::leaf::{self, Hour};
use crate::records::Reading;
use retally_core::operators::regression::Moments;

/// The measurements that a line is found from.
const SAMPLE_MAX: usize = 36;
/// With fewer there is no telling what is normal.
const SAMPLE_MIN: usize = 6;

/// The moments of the readings of an hour that are not outliers, where some are. `around` are the readings of the hour and of the
/// hours before and after it.
pub fn cleaned<'a>(
    hour: Hour,
    readings: impl Iterator<Item = &'a Reading> + Clone,
    around: impl Iterator<Item = &'a Reading> + Clone,
) -> Option<Moments> {
    let total = around.clone().count();
    if total < SAMPLE_MIN {
        return None;
    }
    let point = |reading: &Reading| (leaf::within(hour, reading.time()), reading.value.summed());
    let step = total.div_ceil(SAMPLE_MAX);
    let sample: Vec<(f64, f64)> = around.step_by(step).map(point).collect();
    let first = sample.first().map_or(0.0, |(_, y)| *y);
    if sample.iter().all(|(_, y)| *y == first) && readings.clone().all(|reading| reading.value.summed() == first) {
        return None;
    }
    let (slope, level) = theil_sen(&sample)?;
    let distance = |(x, y): (f64, f64)| (y - level - slope * x).abs();
    let mut distances: Vec<f64> = sample.iter().copied().map(distance).collect();
    let middle = median(&mut distances)?;
    let far = (5.0 * 1.4826 * middle).max(1e-6 * usual_size(sample.iter().map(|(_, y)| *y)));
    let near = |reading: &&Reading| distance(point(reading)) <= far;
    let all = readings.clone().count();
    let kept = readings.clone().filter(near).count();
    (kept > 0 && kept < all).then(|| leaf::moments(hour, readings.filter(near)))
}

/// Slope, and level at x = 0.
fn theil_sen(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (place, (x, y)) in points.iter().enumerate() {
        for (later_x, later_y) in points.get(place + 1..).unwrap_or_default() {
            if later_x > x {
                slopes.push((later_y - y) / (later_x - x));
            }
        }
    }
    let slope = median(&mut slopes).unwrap_or(0.0);
    let mut levels: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    Some((slope, median(&mut levels)?))
}

/// The median of the magnitudes that are not 0; 0 where all are.
pub fn usual_size(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sizes: Vec<f64> = numbers.map(f64::abs).filter(|size| *size > 0.0).collect();
    median(&mut sizes).unwrap_or(0.0)
}

/// The upper median.
pub fn median(numbers: &mut [f64]) -> Option<f64> {
    if numbers.is_empty() {
        return None;
    }
    let middle = numbers.len() / 2;
    Some(*numbers.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Value;
    use retally_core::calendar::Naming;
    use retally_core::time::{Moment, SECOND};

    fn readings(values: &[f64]) -> Vec<Reading> {
        let time = |place: usize| Moment(place as i64 * 100 * SECOND);
        values.iter().enumerate().map(|(n, value)| Reading::new(time(n), Naming::Unique, Value::new(*value).unwrap())).collect()
    }

    fn kept(values: &[f64]) -> Option<f64> {
        let readings = readings(values);
        cleaned(0, readings.iter(), readings.iter()).map(|moments| moments.n)
    }

    #[test]
    fn a_spike_on_a_line_is_left_out() {
        let mut line: Vec<f64> = (0..20).map(|n| 3.0 * f64::from(n) + [0.1, -0.2, 0.15][n as usize % 3]).collect();
        assert_eq!(kept(&line), None);
        line[7] += 10.0;
        assert_eq!(kept(&line), Some(19.0));
        line[8] -= 10.0;
        line[9] -= 10.0;
        assert_eq!(kept(&line), Some(17.0));
    }

    #[test]
    fn few_equal_and_exact_values_are_all_kept() {
        assert_eq!(kept(&[1.0, 1.0, 1.0, 1.0, 99.0]), None, "five are too few to tell");
        assert_eq!(kept(&[7.0; 30]), None);
        assert_eq!(kept(&(0..30).map(f64::from).collect::<Vec<_>>()), None);
        for unit in [1.0, 1e-9, 1e12, 1e-110, 1e110] {
            let values = |values: [f64; 6]| values.map(|value| value * unit);
            assert_eq!(kept(&values([7.0, 7.0, 7.0, 8.0, 7.0, 7.0])), Some(5.0), "what is not the constant is far from it");
            assert_eq!(kept(&values([0.0, 0.0, 0.0, 0.0, 1e-3, 0.0])), Some(5.0), "nor is what is not 0");
            assert_eq!(kept(&values([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])), None, "what floats leave is not far");
        }
    }

    #[test]
    fn the_median_and_the_usual_size() {
        assert_eq!(usual_size([0.0, -3.0, 0.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(usual_size([0.0, 0.0].into_iter()), 0.0);
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(3.0));
    }
}
