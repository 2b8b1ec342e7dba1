//! Medians and percentiles, and numbers as they are reported.

use std::time::Duration;

/// Measurements in order.
pub struct Sorted(Vec<f64>);

impl Sorted {
    /// Puts measurements in order.
    pub fn new(mut values: Vec<f64>) -> Sorted {
        values.sort_by(f64::total_cmp);
        Sorted(values)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The least measurement that at least `percent` of them do not exceed; 0 when there are none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// The middle.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    /// The greatest.
    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }
}

/// With as many digits as mean something.
pub fn rounded(value: f64) -> f64 {
    let digits = if value.abs() >= 100.0 { 10.0 } else { 1_000.0 };
    (value * digits).round() / digits
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
