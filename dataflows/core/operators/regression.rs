//! Least squares from moments: what a set of points determines of the line through it, in six numbers.
//!
//! The moments of a set are sums about its means ([`Moments::of`]). Sets are united by the formulas of Chan, Golub and LeVeque ("Updating
//! formulae and a pairwise algorithm for computing sample variances", 1979), extended to two variables: sums of squares about the mean are
//! never taken as a difference of large numbers.
//!
//! Floats round, so the same points must be summed and the same sets united in the same order: the caller's, by key.
//!
//! Nothing here has a unit: y times a power of two gives the same moments and lines times that power, bit for bit, as long as squares
//! neither overflow nor vanish.
//!
//! # Limits
//! x below 2^31 and 2^32 points. Squares of y are finite below 2^480 or so, and keep their precision above 2^-480.

use serde::{Deserialize, Serialize};

/// The moments of a set of points (x, y): their number, means, and sums of squares and products about the means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many points; 0: the other numbers mean nothing.
    pub n: f64,
    /// Mean of x.
    pub x: f64,
    /// Mean of y.
    pub y: f64,
    /// Σ(x - mean)².
    pub xx: f64,
    /// Σ(x - mean)(y - mean).
    pub xy: f64,
    /// Σ(y - mean)².
    pub yy: f64,
}

/// A line: a point on it, and its slope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Where it is known.
    pub x: f64,
    /// Its value there.
    pub y: f64,
    /// Its slope.
    pub slope: f64,
}

impl Line {
    /// Its value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.y + self.slope * (x - self.x)
    }
}

impl Moments {
    /// The moments of points in their order. One unit of x is `x_unit`.
    ///
    /// Two passes: the means come first, from distances to the first point, so that equal values have no variance at all.
    pub fn of(points: impl Iterator<Item = (i64, f64)> + Clone, x_unit: f64) -> Moments {
        let Some((_, first)) = points.clone().next() else { return Moments::default() };
        let (mut n, mut x, mut y) = (0.0, 0.0, 0.0);
        for (px, py) in points.clone() {
            n += 1.0;
            // Whole numbers: exact.
            x += px as f64;
            y += py - first;
        }
        let (x, y) = (x / n, y / n);
        let mut moments = Moments { n, x: x * x_unit, y: first + y, ..Moments::default() };
        for (px, py) in points {
            let (dx, dy) = ((px as f64 - x) * x_unit, (py - first) - y);
            moments.xx += dx * dx;
            moments.xy += dx * dy;
            moments.yy += dy * dy;
        }
        moments
    }

    /// The moments of this set and another one that has no point in common with it.
    #[must_use]
    pub fn with(&self, other: &Moments) -> Moments {
        if self.n == 0.0 {
            return *other;
        }
        if other.n == 0.0 {
            return *self;
        }
        let n = self.n + other.n;
        let (dx, dy, share) = (other.x - self.x, other.y - self.y, other.n / n);
        let weight = self.n * share;
        Moments {
            n,
            x: self.x + dx * share,
            y: self.y + dy * share,
            xx: self.xx + other.xx + dx * dx * weight,
            xy: self.xy + other.xy + dx * dy * weight,
            yy: self.yy + other.yy + dy * dy * weight,
        }
    }

    /// The same set, moved along x.
    #[must_use]
    pub fn moved(&self, by: f64) -> Moments {
        Moments { x: self.x + by, ..*self }
    }

    /// The line of least squares: level where all x are the same.
    pub fn line(&self) -> Line {
        let slope = if self.xx > 0.0 { self.xy / self.xx } else { 0.0 };
        Line { x: self.x, y: self.y, slope }
    }

    /// Σ(y - line)² of the line of least squares.
    pub fn residual(&self) -> f64 {
        if self.xx > 0.0 { (self.yy - self.xy / self.xx * self.xy).max(0.0) } else { self.yy }
    }

    /// Σ(y - line)² of any line.
    pub fn residual_of(&self, line: &Line) -> f64 {
        let off = self.y - line.at(self.x);
        let within = self.yy - 2.0 * line.slope * self.xy + line.slope * line.slope * self.xx;
        within.max(0.0) + self.n * off * off
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-9 * scale.max(1e-300)
    }

    /// Mean and sums as one learns them at school.
    fn naive(points: &[(i64, f64)]) -> Moments {
        let n = points.len() as f64;
        let mean = |of: &dyn Fn(&(i64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(&|p| p.0 as f64), mean(&|p| p.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|p| of(p.0 as f64 - x, p.1 - y)).sum::<f64>();
        Moments { n, x, y, xx: sum(&|x, _| x * x), xy: sum(&|x, y| x * y), yy: sum(&|_, y| y * y) }
    }

    fn assert_same(a: &Moments, b: &Moments) {
        let scale = b.xx.max(b.yy).max(1.0);
        assert!(a.n == b.n && close(a.x, b.x, b.x.abs().max(1.0)) && close(a.y, b.y, b.y.abs().max(1.0)), "{a:?} {b:?}");
        assert!(close(a.xx, b.xx, scale) && close(a.xy, b.xy, scale) && close(a.yy, b.yy, scale), "{a:?} {b:?}");
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn as_a_plain_computation(points in proptest::collection::vec((-1000i64..1000, -1000f64..1000.0), 1..40), cut in 0usize..40) {
            let all = Moments::of(points.iter().copied(), 1.0);
            assert_same(&all, &naive(&points));
            let (left, right) = points.split_at(cut.min(points.len()));
            let united = Moments::of(left.iter().copied(), 1.0).with(&Moments::of(right.iter().copied(), 1.0));
            assert_same(&united, &all);
            // No line is better than that of least squares, and its residual is the sum over the points.
            let line = all.line();
            let sum: f64 = points.iter().map(|(x, y)| (*y - line.at(*x as f64)).powi(2)).sum();
            prop_assert!(close(all.residual(), sum, all.yy.max(1.0)));
            prop_assert!(close(all.residual_of(&line), sum, all.yy.max(1.0)));
            let other = Line { slope: line.slope + 0.1, ..line };
            prop_assert!(all.residual_of(&other) >= all.residual() - 1e-9 * all.yy.max(1.0));
        }

        #[test]
        fn a_power_of_two_is_a_factor_and_nothing_else(points in proptest::collection::vec((0i64..3_600_000, -1e3f64..1e3), 1..40), power in -300i32..300) {
            let factor = 2f64.powi(power);
            let times = |moments: Moments| Moments {
                y: moments.y * factor,
                xy: moments.xy * factor,
                yy: moments.yy * factor * factor,
                ..moments
            };
            let (left, right) = points.split_at(points.len() / 2);
            let scaled = |part: &[(i64, f64)]| Moments::of(part.iter().map(|(x, y)| (*x, y * factor)), 0.1);
            let plain = |part: &[(i64, f64)]| Moments::of(part.iter().copied(), 0.1);
            prop_assert_eq!(scaled(&points), times(plain(&points)));
            prop_assert_eq!(scaled(left).with(&scaled(right)), times(plain(left).with(&plain(right))));
            let (line, residual) = (plain(&points).line(), plain(&points).residual());
            prop_assert_eq!(scaled(&points).line(), Line { y: line.y * factor, slope: line.slope * factor, ..line });
            prop_assert_eq!(scaled(&points).residual(), residual * factor * factor);
        }
    }

    #[test]
    fn an_exact_line_far_from_zero_has_no_residual() {
        let points = (0..1000i64).map(|x| (x, (3 * x + (1 << 50)) as f64));
        let moments = Moments::of(points, 1.0);
        assert_eq!(moments.line().slope, 3.0);
        assert_eq!(moments.residual(), 0.0);
        assert_eq!(moments.moved(5.0).line().at(5.0), (1i64 << 50) as f64);
    }

    #[test]
    fn one_point_and_none() {
        assert_eq!(Moments::of(std::iter::empty(), 1.0), Moments::default());
        let one = Moments::of(std::iter::once((7, 9.0)), 1.0);
        assert_eq!((one.line(), one.residual()), (Line { x: 7.0, y: 9.0, slope: 0.0 }, 0.0));
        assert_eq!(one.with(&Moments::default()), one);
        assert_eq!(Moments::default().with(&one), one);
    }

    #[test]
    fn equal_values_have_no_variance() {
        let tenth = Moments::of((0..100i64).map(|x| (x, 0.1)), 1.0);
        assert_eq!((tenth.y, tenth.yy, tenth.xy), (0.1, 0.0, 0.0));
        let twice = tenth.with(&tenth.moved(100.0));
        assert_eq!((twice.y, twice.yy, twice.xy), (0.1, 0.0, 0.0));
    }

    #[test]
    fn values_at_the_limits() {
        for size in [2f64.powi(480), 2f64.powi(-480)] {
            let points = (0..100_000i64).map(|x| (x, if x % 2 == 0 { size } else { -size }));
            let moments = Moments::of(points, 1.0);
            assert_eq!(moments.yy, 100_000.0 * size * size);
            assert!(moments.residual().is_finite());
        }
    }
}
