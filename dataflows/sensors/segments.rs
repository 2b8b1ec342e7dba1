//! The piecewise regression: lines over consecutive stretches of time.
//!
//! Within a local week from Monday, the optimal partition of the hours into lines: that of the least Σ SSE/s² + 50 by line, found by
//! dynamic programming over all partitions (Bellman, "On the approximation of curves by line segments using dynamic programming", 1961; the
//! penalized form is Jackson et al., "An algorithm for optimal partitioning of data on an interval", 2005). A line covers 6 hours at least.
//! s² is the median over the week's hours of SSE/(n - 2) about the hour's own line; where hours have fewer than three measurements, half of
//! the squared normal scale (1.4826 · MAD) of the steps between hours. s is a millionth of the usual size of values at least, and 0 only
//! where all of them are.
//!
//! Weeks are then merged from the first to the last: a week's first line with the line before it, when both together cost less than a
//! line more. And a line of at most 24 hours between two that agree is absorbed by them.
//!
//! # Limits
//! Lines are not merged over more than [`HOLE_HOURS_MAX`] hours without measurements. Of weeks a long history has few: merging goes over
//! all lines of a sensor, at each change.

use crate::leaf::{self, Hour};
use crate::outliers::{median, usual_size};
use retally_core::operators::regression::Moments;
use retally_core::time::Moment;

/// What a line costs, in units of s².
const PENALTY: f64 = 50.0;
/// The hours that a line covers at least, within its week.
const HOURS_MIN: usize = 6;
/// A line of so many hours may be absorbed.
const ABSORBED_HOURS_MAX: u32 = 24;
/// Lines are not merged over more hours without measurements.
pub const HOLE_HOURS_MAX: i32 = 24;

/// An hour, as lines see it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which hour.
    pub hour: Hour,
    /// The moments of the measurements that are no outliers; x in hours since the hour's start.
    pub moments: Moments,
    /// All measurements, outliers too.
    pub measurements: u32,
}

/// A line over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// The first and last hour.
    pub hours: (Hour, Hour),
    /// How many hours have measurements.
    pub parts: u32,
    /// The moments of what is fitted; x in hours since 1970-01-01T00:00:00Z.
    pub moments: Moments,
    /// All measurements.
    pub measurements: u64,
    /// The times of the first and the last.
    pub times: (Moment, Moment),
    /// s².
    pub noise: f64,
}

/// The lines of a sensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pieces {
    /// The lines in order.
    pub segments: Vec<Segment>,
    /// Stretches that were absorbed, in order of their ends: first and last hour.
    pub absorbed: Vec<(Hour, Hour)>,
}

impl Segment {
    fn of(parts: &[Part], noise: f64, times: impl Fn(Hour, Hour) -> Option<(Moment, Moment)>) -> Option<Segment> {
        let (first, last) = (parts.first()?.hour, parts.last()?.hour);
        Some(Segment {
            hours: (first, last),
            parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            moments: parts.iter().fold(Moments::default(), |all, part| all.with(&absolute(part))),
            measurements: parts.iter().map(|part| u64::from(part.measurements)).sum(),
            times: times(first, last)?,
            noise,
        })
    }

    /// Both as one line, when that costs no more than a line more.
    fn joined(&self, next: &Segment) -> Option<Segment> {
        let moments = self.moments.with(&next.moments);
        let noise = (self.noise * self.moments.n + next.noise * next.moments.n) / moments.n;
        let more = moments.residual() - self.moments.residual() - next.moments.residual();
        let together = Segment {
            hours: (self.hours.0, next.hours.1),
            parts: self.parts + next.parts,
            moments,
            measurements: self.measurements + next.measurements,
            times: (self.times.0, next.times.1),
            noise,
        };
        (next.hours.0 - self.hours.1 <= HOLE_HOURS_MAX && more <= PENALTY * noise).then_some(together)
    }

    /// The line at a time.
    pub fn at(&self, time: Moment) -> f64 {
        let hour = leaf::hour(time);
        self.moments.line().at(f64::from(hour) + leaf::within(hour, time))
    }

    /// How far the next line starts from where this one leads, in standard deviations.
    pub fn jump_to(&self, next: &Segment) -> f64 {
        let x = f64::from(next.hours.0);
        let noise = (self.noise * self.moments.n + next.noise * next.moments.n) / (self.moments.n + next.moments.n);
        let step = (next.moments.line().at(x) - self.moments.line().at(x)).abs();
        // Without noise, both are 0.
        if noise > 0.0 { step / noise.sqrt() } else { 0.0 }
    }
}

fn absolute(part: &Part) -> Moments {
    part.moments.moved(f64::from(part.hour))
}

/// Lines from each hour of a week to the same last hour, side by side: their moments as [`Moments`] has them, in columns.
#[derive(Default)]
struct Lines {
    n: Vec<f64>,
    x: Vec<f64>,
    y: Vec<f64>,
    xx: Vec<f64>,
    xy: Vec<f64>,
    yy: Vec<f64>,
    residuals: Vec<f64>,
}

impl Lines {
    /// All of them one hour longer, and one that starts with it. The same steps for each line, so that processors do some at once.
    fn longer(&mut self, hour: &Moments) {
        let columns = self.n.iter_mut().zip(&mut self.x).zip(&mut self.y).zip(&mut self.xx).zip(&mut self.xy).zip(&mut self.yy);
        for ((((((n, x), y), xx), xy), yy), left) in columns.zip(&mut self.residuals) {
            let together = *n + hour.n;
            let (dx, dy, share) = (hour.x - *x, hour.y - *y, hour.n / together);
            let weight = *n * share;
            *n = together;
            *x += dx * share;
            *y += dy * share;
            *xx += hour.xx + dx * dx * weight;
            *xy += hour.xy + dx * dy * weight;
            *yy += hour.yy + dy * dy * weight;
            // Where all x are the same, xy is 0 too.
            let explained = *xy / if *xx > 0.0 { *xx } else { 1.0 } * *xy;
            *left = (*yy - explained).max(0.0);
        }
        for (column, start) in [&mut self.n, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy, &mut self.yy]
            .into_iter()
            .zip([hour.n, hour.x, hour.y, hour.xx, hour.xy, hour.yy])
        {
            column.push(start);
        }
        self.residuals.push(hour.residual());
    }
}

/// The lines of a week. `times` returns the times of the first measurement of an hour and the last one of another.
pub fn of_week(parts: &[Part], times: impl Fn(Hour, Hour) -> Option<(Moment, Moment)>) -> Vec<Segment> {
    let noise = noise(parts);
    // Without noise, nothing is left to pay for.
    let price = if noise > 0.0 { noise.recip() } else { 0.0 };
    // By number of hours covered: the least cost, and where the last line starts.
    let mut best: Vec<(f64, usize)> = vec![(0.0, 0)];
    let mut lines = Lines::default();
    for (end, part) in (1..).zip(parts) {
        lines.longer(&absolute(part));
        let mut least = (f64::INFINITY, 0);
        // A line covers some hours, but the week as a whole may be shorter; and no line ends where the first one is too short.
        if end == parts.len() || end >= HOURS_MIN {
            let starts = lines.residuals.iter().zip(&best).enumerate();
            for (start, (residual, (before, _))) in starts.take((end + 1).saturating_sub(HOURS_MIN).max(1)) {
                let cost = before + residual * price + PENALTY;
                // Of equal ones the latest start.
                if cost <= least.0 && before.is_finite() {
                    least = (cost, start);
                }
            }
        }
        best.push(least);
    }
    let mut segments = Vec::new();
    let mut end = parts.len();
    while end > 0 {
        let start = best.get(end).map_or(0, |(_, start)| *start);
        segments.extend(parts.get(start..end).and_then(|parts| Segment::of(parts, noise, &times)));
        end = start;
    }
    segments.reverse();
    segments
}

/// s².
fn noise(parts: &[Part]) -> f64 {
    let with_line = parts.iter().filter(|part| part.moments.n >= 3.0);
    let mut variances: Vec<f64> = with_line.map(|part| part.moments.residual() / (part.moments.n - 2.0)).collect();
    // The root of the mean square, so that values about 0 have a size.
    let sizes = parts.iter().map(|Part { moments: Moments { n, y, yy, .. }, .. }| (y * y + yy / n).sqrt());
    let variance = median(&mut variances).unwrap_or_else(|| {
        let pairs = parts.iter().zip(parts.iter().skip(1));
        let mut steps: Vec<f64> = pairs.map(|(part, next)| (next.moments.y - part.moments.y).abs()).collect();
        let scale = 1.4826 * median(&mut steps).unwrap_or(0.0);
        scale * scale / 2.0
    });
    let floor = 1e-6 * usual_size(sizes);
    variance.max(floor * floor)
}

/// The lines of a sensor from those of its weeks.
pub fn merged<'a>(weeks: impl Iterator<Item = &'a [Segment]>) -> Pieces {
    let mut pieces = Pieces::default();
    for week in weeks {
        let mut first = true;
        for segment in week {
            let mut segment = *segment;
            if first && let Some(together) = pieces.segments.last().and_then(|last| last.joined(&segment)) {
                pieces.segments.pop();
                segment = together;
            }
            first = false;
            absorb(&mut pieces, &mut segment);
            pieces.segments.push(segment);
        }
    }
    pieces
}

/// Absorbs short lines between `segment` and one before that it agrees with.
fn absorb(pieces: &mut Pieces, segment: &mut Segment) {
    while let [.., before, short] = pieces.segments.as_slice() {
        // A hole may lie beside the short line.
        let reach = Segment { hours: (before.hours.0, short.hours.1), ..*before };
        let near = short.hours.0 - before.hours.1 <= HOLE_HOURS_MAX;
        if short.parts > ABSORBED_HOURS_MAX || !near {
            return;
        }
        let Some(together) = reach.joined(segment) else { return };
        *segment = Segment { parts: together.parts + short.parts, measurements: together.measurements + short.measurements, ..together };
        pieces.absorbed.push(short.hours);
        pieces.segments.truncate(pieces.segments.len() - 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::time::HOUR;

    /// Six measurements an hour of a function of the hour, with a little noise.
    fn parts(hours: std::ops::Range<i32>, value: impl Fn(f64) -> f64) -> Vec<Part> {
        let point = |hour: i32, n: i64| {
            let x = f64::from(hour) + n as f64 / 6.0;
            let noise = [0.05, -0.03, -0.04, 0.02][usize::try_from((i64::from(hour) * 5 + n * 7) % 4).unwrap()];
            (n * 600_000, value(x) + noise)
        };
        hours.map(|hour| Part { hour, moments: Moments::of((0..6).map(|n| point(hour, n)), 1.0 / 3_600_000.0), measurements: 6 }).collect()
    }

    fn times(first: Hour, last: Hour) -> Option<(Moment, Moment)> {
        Some((Moment(i64::from(first) * HOUR), Moment(i64::from(last) * HOUR + HOUR * 5 / 6)))
    }

    fn of_week(parts: &[Part]) -> Vec<Segment> {
        super::of_week(parts, times)
    }

    fn borders(segments: &[Segment]) -> Vec<(Hour, Hour)> {
        segments.iter().map(|segment| segment.hours).collect()
    }

    #[test]
    fn a_line_is_one_segment_and_a_jump_makes_two() {
        assert_eq!(borders(&of_week(&parts(0..168, |x| 0.3 * x + 5.0))), [(0, 167)]);
        let jump = of_week(&parts(0..168, |x| if x < 100.0 { 5.0 } else { 6.0 }));
        assert_eq!(borders(&jump), [(0, 99), (100, 167)]);
        assert!((jump[0].jump_to(&jump[1]) * jump[0].noise.sqrt() - 1.0).abs() < 0.1);
        let kink = of_week(&parts(0..168, |x| if x < 60.0 { x } else { 120.0 - x }));
        assert_eq!(kink.len(), 2);
        assert!((kink[0].hours.1 - 59).abs() <= 1, "{kink:?}");
        assert!((kink[1].moments.line().slope + 1.0).abs() < 0.01);
    }

    #[test]
    fn short_weeks_and_empty_ones() {
        assert!(of_week(&[]).is_empty());
        assert_eq!(borders(&of_week(&parts(3..4, |x| x))), [(3, 3)]);
        // Too short for two lines of six hours.
        assert_eq!(borders(&of_week(&parts(0..11, |x| if x < 5.0 { 0.0 } else { 100.0 }))), [(0, 10)]);
        assert_eq!(borders(&of_week(&parts(0..12, |x| if x < 6.0 { 0.0 } else { 100.0 }))), [(0, 5), (6, 11)]);
    }

    #[test]
    fn the_optimal_partition_is_found() {
        // Against all partitions, one by one.
        let parts = parts(0..15, |x| if x < 7.0 { 0.1 * x } else { 1.0 - 0.05 * x });
        let noise = noise(&parts);
        let cost = |cuts: &[usize]| -> f64 {
            cuts.windows(2)
                .map(|ends| Segment::of(&parts[ends[0]..ends[1]], noise, times).unwrap().moments.residual() / noise + PENALTY)
                .sum()
        };
        let mut least = cost(&[0, 15]);
        for cut in 6..=9 {
            least = least.min(cost(&[0, cut, 15]));
        }
        let found = of_week(&parts);
        let total: f64 = found.iter().map(|segment| segment.moments.residual() / noise + PENALTY).sum();
        assert!((total - least).abs() < 1e-6 * least, "{total} {least}");
    }

    #[test]
    fn weeks_merge_and_a_burst_is_absorbed() {
        let line = |x: f64| 0.01 * x;
        let burst = |x: f64| line(x) + if (250.0..258.0).contains(&x) { 3.0 } else { 0.0 };
        let all = parts(0..504, burst);
        let weeks: Vec<Vec<Segment>> = all.chunks(168).map(of_week).collect();
        let pieces = merged(weeks.iter().map(Vec::as_slice));
        assert_eq!(borders(&pieces.segments), [(0, 503)]);
        assert_eq!(pieces.absorbed, [(250, 257)]);
        assert_eq!(pieces.segments[0].measurements, 504 * 6, "what is absorbed is counted");
        assert_eq!(pieces.segments[0].moments.n, 496.0 * 6.0, "and not fitted");
    }

    #[test]
    fn zeros_are_one_line_and_what_is_not_zero_another() {
        let at = |hour: i32, value: f64| Part {
            hour,
            moments: Moments { n: 3.0, x: 0.5, y: value, xx: 0.2, ..Moments::default() },
            measurements: 3,
        };
        let lines = |value: fn(i32) -> f64| {
            let all: Vec<Part> = (0..336).map(|hour| at(hour, value(hour))).collect();
            let weeks: Vec<Vec<Segment>> = all.chunks(168).map(of_week).collect();
            borders(&merged(weeks.iter().map(Vec::as_slice)).segments)
        };
        assert_eq!(lines(|_| 0.0), [(0, 335)]);
        // Where most are 0, s is a millionth of what is not.
        assert_eq!(lines(|hour| if hour >= 329 { 1e-9 } else { 0.0 }), [(0, 328), (329, 335)]);
    }

    #[test]
    fn holes_keep_lines_apart() {
        let weeks: Vec<Vec<Segment>> = [0..100, 168..300].map(|hours| of_week(&parts(hours, |x| 0.01 * x))).into();
        assert_eq!(borders(&merged(weeks.iter().map(Vec::as_slice)).segments), [(0, 99), (168, 299)]);
    }
}
