//! The next 28 days: a least-squares line through the last 28 full days, with the 95 % prediction interval of a single day.
//!
//! For n days x = 0 … n-1 with counts y: slope b = Sxy / Sxx, level a = ȳ - b x̄, s² = Σ(y - a - b x)² / (n - 2), and for a day x₀ to come
//! a + b x₀ ± t(0.975, n - 2) · s · sqrt(1 + 1/n + (x₀ - x̄)² / Sxx). (Any textbook of regression; e.g. Draper & Smith,
//! Applied Regression Analysis, 3rd ed., section 3.1.) Sums are integers; floats come last.

use retally_core::Collection;
use retally_core::calendar::Day;
use retally_core::operators::by_key::{Each, Emitter, State, WithHorizon, by_key_with_horizon, exchange};
use retally_core::row::Row;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::BTreeMap;

/// How many days are looked at, and how many follow.
const DAYS: i32 = 28;
/// With fewer full days there is no line.
const DAYS_MIN: i32 = 7;

/// The first online day, and the day of as-of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Span {
    first: Day,
    today: Day,
}

/// The counts of a bucket, and the rows that follow from them.
#[derive(Default)]
struct Bucket {
    counts: BTreeMap<Day, i64>,
    rows: Vec<Row>,
}

impl State for Bucket {
    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.rows.is_empty()
    }
}

/// The rows of `online_projection`, from (bucket, (day, devices)); `first` and `today` are known to all workers.
pub fn rows<'s>(fleets: Collection<'s, (u16, (Day, i64))>, first: Collection<'s, Day>, today: Collection<'s, Day>) -> Collection<'s, Row> {
    // Both are days; as a horizon they are one thing.
    let today = today.map(|day| Moment(i64::from(day.0)));
    let span = retally_core::operators::horizon::under(
        first,
        today,
        "days to look at",
        |day| day,
        |first, today| Span { first: *first, today: Day(i32::try_from(today.0).unwrap_or(i32::MAX)) },
    );
    by_key_with_horizon::<_, _, Bucket, _, Each<Row>, _, _>(fleets, span, exchange(), "projection", Projection)
}

struct Projection;

impl Projection {
    fn restate(bucket: u16, state: &mut Bucket, span: Option<&Span>, emitter: &mut impl Emitter<Row>) {
        let rows = span.map(|span| project(bucket, &state.counts, span)).unwrap_or_default();
        let old = std::mem::replace(&mut state.rows, rows);
        old.into_iter().for_each(|row| emitter.give(row, -1));
        state.rows.iter().for_each(|row| emitter.give(row.clone(), 1));
    }
}

impl WithHorizon<u16, (Day, i64), Bucket, Row> for Projection {
    type Horizon = Span;

    fn apply(
        &mut self,
        bucket: &u16,
        changes: &mut Vec<((Day, i64), isize)>,
        state: &mut Bucket,
        span: Option<&Span>,
        emitter: &mut impl Emitter<Row>,
    ) {
        for ((day, count), diff) in changes.drain(..) {
            let sum = state.counts.entry(day).or_default();
            *sum += count * diff as i64;
            if *sum == 0 {
                state.counts.remove(&day);
            }
        }
        Self::restate(*bucket, state, span, emitter);
    }

    fn moved(&mut self, bucket: &u16, state: &mut Bucket, _from: Option<&Span>, to: Option<&Span>, emitter: &mut impl Emitter<Row>) {
        Self::restate(*bucket, state, to, emitter);
    }
}

fn project(bucket: u16, counts: &BTreeMap<Day, i64>, span: &Span) -> Vec<Row> {
    let from = span.today.plus(-DAYS).max(span.first);
    let days = span.today.0 - from.0;
    let known = || counts.range(from..span.today);
    if days < DAYS_MIN || known().next().is_none() {
        return Vec::new();
    }
    let line = Line::fit(i64::from(days), known().map(|(day, count)| (i64::from(day.0 - from.0), *count)));
    (1..=DAYS)
        .map(|ahead| {
            let day = span.today.plus(ahead);
            let (middle, margin) = line.at(f64::from(day.0 - from.0));
            let held = |value: f64| value.max(0.0);
            Row::with_capacity(32).day(day).label(bucket).float(held(middle)).float(held(middle - margin)).float(held(middle + margin))
        })
        .collect()
}

/// A line through n points, x = 0 … n-1.
struct Line {
    n: f64,
    mean_x: f64,
    mean_y: f64,
    sxx: f64,
    slope: f64,
    sigma: f64,
    quantile: f64,
}

impl Line {
    /// Fits `points`; those of the n that are not among them are 0.
    fn fit(n: i64, points: impl Iterator<Item = (i64, i64)> + Clone) -> Line {
        // n · Sxx, n · Sxy and n · Syy are integers, far below the limits of i128.
        let (mut sum_y, mut sum_xy, mut sum_yy) = (0i128, 0i128, 0i128);
        for (x, y) in points {
            let (x, y) = (i128::from(x), i128::from(y));
            sum_y += y;
            sum_xy += x * y;
            sum_yy += y * y;
        }
        let count = i128::from(n);
        let sum_x = count * (count - 1) / 2;
        let sum_xx = (count - 1) * count * (2 * count - 1) / 6;
        let (nsxx, nsxy, nsyy) = (count * sum_xx - sum_x * sum_x, count * sum_xy - sum_x * sum_y, count * sum_yy - sum_y * sum_y);
        // SSE = Syy - Sxy² / Sxx, as one integer over one integer: no digits are lost where it is 0.
        let sse = (nsyy * nsxx - nsxy * nsxy) as f64 / (nsxx * count) as f64;
        let freedom = (n - 2) as f64;
        Line {
            n: n as f64,
            mean_x: sum_x as f64 / n as f64,
            mean_y: sum_y as f64 / n as f64,
            sxx: nsxx as f64 / n as f64,
            slope: nsxy as f64 / nsxx as f64,
            sigma: (sse / freedom).sqrt(),
            quantile: quantile(freedom),
        }
    }

    /// The value at x, and half the width of its prediction interval.
    fn at(&self, x: f64) -> (f64, f64) {
        let away = x - self.mean_x;
        let spread = (1.0 + 1.0 / self.n + away * away / self.sxx).sqrt();
        (self.mean_y + self.slope * away, self.quantile * self.sigma * spread)
    }
}

/// The 0.975 quantile of Student's t, to some nine digits.
fn quantile(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |student| student.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn a_line_is_continued_without_margin() {
        let line = Line::fit(10, (0..10).map(|x| (x, 5 + 3 * x)));
        let (value, margin) = line.at(20.0);
        near(value, 65.0);
        near(margin, 0.0);
    }

    #[test]
    fn quantiles_are_those_of_any_table() {
        for (freedom, value) in [(5.0, 2.570_581_835_636_314), (10.0, 2.228_138_851_964_938_5), (26.0, 2.055_529_438_642_871_7)] {
            assert!((quantile(freedom) - value).abs() < 1e-8, "{}", quantile(freedom));
        }
    }

    /// The formula again, in floats and with means taken off first, and the quantile from a table.
    #[test]
    fn a_noisy_line_has_the_textbook_interval() {
        let y = [1i64, 3, 2, 5, 4, 6, 5];
        let line = Line::fit(7, (0..7).zip(y));
        let n = 7.0;
        let mean = y.iter().sum::<i64>() as f64 / n;
        let sxy: f64 = (0..7).zip(y).map(|(x, y)| (f64::from(x) - 3.0) * (y as f64 - mean)).sum();
        let slope = sxy / 28.0;
        let sse: f64 = (0..7).zip(y).map(|(x, y)| (y as f64 - mean - slope * (f64::from(x) - 3.0)).powi(2)).sum();
        let (value, margin) = line.at(8.0);
        near(value, mean + slope * 5.0);
        // t(0.975, 5) = 2.570582, from any table.
        near(margin, 2.570_581_836 * (sse / 5.0).sqrt() * (1.0 + 1.0 / 7.0 + 25.0 / 28.0_f64).sqrt());
    }
}
