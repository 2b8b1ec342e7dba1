//! How good are anomalies? Scores of detections against labels: NAB's, and precision and recall.
//!
//! The rules of the Numenta Anomaly Benchmark as published (Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms – the
//! Numenta Anomaly Benchmark", 2015): of each labelled window the earliest detection earns σ(position) / σ(-1), where σ(y) = 2 / (1 +
//! e^(5y)) - 1 and the position runs from -1 at the window's start to 0 at its end; a window without one costs the weight of a miss; any
//! other detection costs its weight, the more the later it comes after the window before it. Rows of the probationary start are not scored.
//! A score is placed between that of a silent detector, 0, and that of a perfect one, 100, over all series together.

/// What things are worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// A detection in a window.
    pub hit: f64,
    /// A detection outside of windows.
    pub false_alarm: f64,
    /// A window without detection.
    pub miss: f64,
}

/// NAB's profiles.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", hit: 1.0, false_alarm: 0.11, miss: 1.0 },
    Profile { name: "reward_low_FP_rate", hit: 1.0, false_alarm: 0.22, miss: 1.0 },
    Profile { name: "reward_low_FN_rate", hit: 1.0, false_alarm: 0.11, miss: 2.0 },
];

/// A labelled series with detections: places of rows.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// How many rows it has.
    pub rows: usize,
    /// Labelled windows: first and last row, in order.
    pub windows: Vec<(usize, usize)>,
    /// Rows that were reported as anomalies, in order.
    pub detections: Vec<usize>,
}

impl Labelled {
    /// The rows that are not scored: 15 %, at most 750.
    pub fn probation(&self) -> usize {
        (self.rows * 15 / 100).min(750)
    }

    /// The sum of what detections earn and cost.
    fn raw(&self, profile: &Profile) -> f64 {
        let mut score = 0.0;
        let mut hit = vec![false; self.windows.len()];
        for &row in self.detections.iter().filter(|row| **row >= self.probation()) {
            let inside = self.windows.iter().position(|(first, last)| (*first..=*last).contains(&row));
            if let Some(window) = inside {
                if let (Some(hit), Some((first, last))) = (hit.get_mut(window), self.windows.get(window))
                    && !*hit
                {
                    *hit = true;
                    let position = -((last - row + 1) as f64) / (last - first + 1) as f64;
                    score += profile.hit * sigmoid(position) / sigmoid(-1.0);
                }
                continue;
            }
            let before = self.windows.iter().rev().find(|(_, last)| *last < row);
            let cost = before.map_or(-1.0, |(first, last)| sigmoid((row - last) as f64 / (last - first).max(1) as f64));
            score += profile.false_alarm * cost;
        }
        score - profile.miss * hit.iter().filter(|hit| !**hit).count() as f64
    }
}

fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// The score over all series: 0 for a silent detector, 100 for a perfect one.
pub fn nab(series: &[Labelled], profile: &Profile) -> f64 {
    let windows: f64 = series.iter().map(|one| one.windows.len() as f64).sum();
    let raw: f64 = series.iter().map(|one| one.raw(profile)).sum();
    100.0 * (raw + profile.miss * windows) / (windows * (profile.hit + profile.miss))
}

/// Hits and misses of labelled stretches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Labelled stretches with a detection.
    pub found: usize,
    /// Labelled stretches without one.
    pub missed: usize,
    /// Detections outside of labelled stretches.
    pub false_alarms: usize,
}

impl Tally {
    /// Detections that are right.
    pub fn precision(&self) -> f64 {
        share(self.found, self.false_alarms)
    }

    /// Stretches that are found.
    pub fn recall(&self) -> f64 {
        share(self.found, self.missed)
    }

    /// The harmonic mean of both.
    pub fn f1(&self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
    }

    /// Both tallies together.
    #[must_use]
    pub fn plus(self, other: Tally) -> Tally {
        Tally { found: self.found + other.found, missed: self.missed + other.missed, false_alarms: self.false_alarms + other.false_alarms }
    }
}

fn share(part: usize, rest: usize) -> f64 {
    if part + rest == 0 { 1.0 } else { part as f64 / (part + rest) as f64 }
}

/// Tallies detections against labelled stretches, both as (start, end), inclusive. A detection is right when it overlaps a stretch.
pub fn tally(labels: &[(i64, i64)], detections: &[(i64, i64)]) -> Tally {
    let overlap = |(a, b): (i64, i64), (c, d): (i64, i64)| a <= d && c <= b;
    let found = labels.iter().filter(|label| detections.iter().any(|one| overlap(**label, *one))).count();
    let false_alarms = detections.iter().filter(|one| !labels.iter().any(|label| overlap(*label, **one))).count();
    Tally { found, missed: labels.len() - found, false_alarms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(detections: &[usize]) -> Vec<Labelled> {
        vec![Labelled { rows: 1000, windows: vec![(300, 399), (600, 699)], detections: detections.to_vec() }]
    }

    #[test]
    fn silent_and_perfect_detectors() {
        for profile in &PROFILES {
            assert_eq!(nab(&series(&[]), profile), 0.0);
            assert!((nab(&series(&[300, 600]), profile) - 100.0).abs() < 1e-9);
            // The second detection in a window neither earns nor costs.
            assert!((nab(&series(&[300, 350, 600]), profile) - 100.0).abs() < 1e-9);
        }
    }

    #[test]
    fn late_hits_earn_less_and_false_alarms_cost() {
        let [standard, low_fp, _] = &PROFILES;
        let last = nab(&series(&[399, 699]), standard);
        assert!(last > 50.0 && last < 52.0, "{last}");
        let (near, far) = (nab(&series(&[300, 401, 600]), standard), nab(&series(&[300, 599, 600]), standard));
        assert!(near > far && near < 100.0, "{near} {far}");
        // One false alarm far from any window costs 0.11 of four points.
        assert!((nab(&series(&[200, 300, 600]), standard) - (100.0 - 11.0 / 4.0)).abs() < 1e-9);
        assert!((nab(&series(&[200, 300, 600]), low_fp) - (100.0 - 22.0 / 4.0)).abs() < 1e-9);
        // The first 150 rows are not scored.
        assert!((nab(&series(&[0, 149, 300, 600]), standard) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn tallies() {
        let tally = tally(&[(10, 20), (50, 60)], &[(15, 15), (18, 30), (40, 45)]);
        assert_eq!(tally, Tally { found: 1, missed: 1, false_alarms: 1 });
        assert_eq!((tally.precision(), tally.recall(), tally.f1()), (0.5, 0.5, 0.5));
        assert_eq!(Tally::default().f1(), 1.0);
    }
}
