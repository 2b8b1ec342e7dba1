//! Anomalies: which measurements of an hour are not as expected.
//!
//! Three things make a measurement stand out, each in an hour that has a forecast. All are counted in standard deviations, against one
//! threshold:
//!
//! - **point**: it is far from what is expected: |residual| / σ. Where σ is 0, because all of R is, the score of what is not 0 is the
//!   greatest number there is.
//! - **flatline**: with it, the same value has been there k + 1 times in a row, for an hour at least, from a sensor whose values seldom
//!   repeat. Where a value repeats with probability p, a run has the probability p^k = e^(-z²/2), as far out as z = √(2 k ln 1/p) standard
//!   deviations, about; repeats come in clumps, so half of that counts: √(k/2 · ln 1/p). p is (repeats + 1) / (n + 2) over the 168 hours
//!   before (Laplace's rule). Only the measurement that completes the run is an anomaly.
//! - **gap**: it is the first after a silence of g hours from a sensor that else sends λ an hour: e^(-λg) = e^(-z²/2), and half of z is
//!   √(λg / 2). The silence must be three times as long as any of the 168 hours before.
//!
//! What they make together is in [`crate::alarms`].
//!
//! # Limits
//! A flat line makes repeats less strange while it lasts. So in the next hour it may take more of them, and the line is found there once
//! more.
//!
//! After a silence of a week there is no forecast, and so no gap.

use crate::baseline::{Baseline, Model};
use crate::leaf::{self, Hour, Rhythm};
use crate::records::Reading;
use crate::size::Size;
use retally_core::time::{HOUR, Moment};

/// The part of the threshold from which on a reading may alarm.
pub const ALARM_SHARE: f64 = 0.8;

/// A run longer than this is no flat line but what the sensor does.
pub const REPEATS_MAX: u32 = 1_000;
/// A silence is strange when it is so many times as long as any before.
const LONGER: f32 = 3.0;

/// What is normal for a sensor's rhythm in an hour, rounded as a [`Baseline`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tempo {
    /// ln 1/p, in eighths.
    repeat: u8,
    /// 8 · log2 of λ.
    rate: i16,
    /// 8 · log2 of the longest silence in seconds.
    longest: i16,
}

impl Tempo {
    /// From sums over the 168 hours before: of `hours` hours since their first measurement `n` measurements, `repeats` of them equal to the
    /// one before, and none more than `longest_seconds` after it.
    pub fn new(n: f64, repeats: u32, hours: i32, longest_seconds: f32) -> Tempo {
        // The logarithms of finite numbers above 0.
        #[allow(clippy::cast_possible_truncation)]
        let eighths = |log2: f64| (8.0 * log2).round() as i16;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let repeat = (8.0 * ((n + 2.0) / (f64::from(repeats) + 1.0)).ln()).floor().clamp(0.0, 255.0) as u8;
        Tempo {
            repeat,
            rate: eighths((n / f64::from(hours.max(1))).max(1e-9).log2()),
            longest: eighths(f64::from(longest_seconds.max(1e-3)).log2()),
        }
    }

    /// How many repeats in a row are a flat line.
    pub fn repeats(&self, threshold: f64) -> Option<u32> {
        let each = f64::from(self.repeat) / 16.0;
        let needed = (threshold * threshold / each).ceil().max(2.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let repeats = (needed <= f64::from(REPEATS_MAX)).then_some(needed as u32);
        repeats
    }

    /// Whether an hour of this rhythm may be scored otherwise under the other tempo. Most hours have no repeats and no silence, and
    /// nothing in them depends on the tempo.
    pub fn matters(&self, other: &Tempo, rhythm: &Rhythm) -> bool {
        let silent = |tempo: &Tempo| tempo.silence(rhythm.longest_seconds) > 0.0;
        let repeats = self.repeat != other.repeat && rhythm.repeats > 0;
        repeats || (self != other && (silent(self) || silent(other)))
    }

    fn flatness(&self, repeats: u32) -> f64 {
        (f64::from(repeats) * f64::from(self.repeat) / 16.0).sqrt()
    }

    /// The score of a silence, where it is strange.
    fn silence(&self, seconds: f32) -> f64 {
        let longest = (f64::from(self.longest) / 8.0).exp2();
        if f64::from(seconds) < longest * f64::from(LONGER) {
            return 0.0;
        }
        ((f64::from(self.rate) / 8.0).exp2() * f64::from(seconds) / 7200.0).sqrt()
    }
}

/// Why a measurement is an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By itself.
    Point,
    /// The level has moved.
    LevelShift,
    /// It is part of a stretch that is not as what is before and after it.
    Collective,
    /// The sensor shows the same again and again.
    Flatline,
    /// The sensor was silent.
    Gap,
}

/// All kinds.
pub const KINDS: [Kind; 5] = [Kind::Point, Kind::LevelShift, Kind::Collective, Kind::Flatline, Kind::Gap];

impl Kind {
    /// As in the column `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Point => "point",
            Kind::LevelShift => "level_shift",
            Kind::Collective => "collective",
            Kind::Flatline => "flatline",
            Kind::Gap => "gap",
        }
    }
}

/// A measurement with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The measurement.
    pub reading: Reading,
    /// What was expected.
    pub expected: f64,
    /// How far from normal, in standard deviations.
    pub score: f64,
    /// Why: a point, a flat line or a gap.
    pub kind: Kind,
    /// What the expectation comes from.
    pub model: Model,
    /// How far from what is expected is unusual, but for what is a habit.
    pub bound: f64,
    /// Of a flat line or a gap that is an anomaly the score; else 0.
    pub rhythm: f64,
}

impl Scored {
    /// How far it is from what was expected.
    pub fn distance(&self) -> f64 {
        (self.reading.value.summed() - self.expected).abs()
    }
}

/// Finds what may alarm among the readings of an hour, and the largest distance from what is expected. `before` are the readings before
/// it, backwards. `with_last`: the last reading is wanted in any case.
pub(crate) fn score<'a>(
    hour: Hour,
    readings: impl Iterator<Item = &'a Reading>,
    before: impl Iterator<Item = &'a Reading> + Clone,
    baseline: &Baseline,
    tempo: &Tempo,
    threshold: f64,
    with_last: bool,
) -> (Vec<Scored>, Size) {
    let (sigma, repeats) = (baseline.sigma(), tempo.repeats(threshold));
    let bound = bound(sigma, threshold);
    let mut found = Vec::new();
    let mut farthest = 0.0f64;
    let mut last = None;
    let mut previous = before.clone().next();
    let mut run = repeats.zip(previous).map(|(needed, _)| Run::before(before, needed)).unwrap_or_default();
    for reading in readings {
        let expected = baseline.expected(leaf::within(hour, reading.time()));
        let residual = reading.value.summed() - expected;
        farthest = farthest.max(residual.abs());
        let mut score = distance(residual, sigma);
        let (mut kind, mut rhythm) = (Kind::Point, 0.0f64);
        if let Some(previous) = previous {
            let silence = tempo.silence(leaf::seconds(previous, reading));
            if silence >= threshold {
                rhythm = silence;
                if silence > score {
                    (score, kind) = (silence, Kind::Gap);
                }
            }
            if let Some(needed) = repeats
                && run.goes_on(previous, reading, needed)
            {
                let flatness = tempo.flatness(run.repeats);
                rhythm = rhythm.max(flatness);
                if flatness > score {
                    (score, kind) = (flatness, Kind::Flatline);
                }
            }
        }
        let scored = Scored { reading: *reading, expected, score, kind, model: baseline.model, bound, rhythm };
        last = None;
        // Of scores, not of distances: floats agree with themselves.
        if score >= threshold || rhythm > 0.0 || (residual != 0.0 && residual.abs() >= bound) {
            found.push(scored);
        } else {
            last = Some(scored);
        }
        previous = Some(reading);
    }
    found.extend(last.filter(|_| with_last));
    (found, Size::of(farthest))
}

/// How many σ a residual is.
fn distance(residual: f64, sigma: f64) -> f64 {
    match sigma > 0.0 {
        true => (residual / sigma).abs().min(f64::MAX),
        false if residual == 0.0 => 0.0,
        false => f64::MAX,
    }
}

/// A run of equal values.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    start: Option<Moment>,
    repeats: u32,
    complete: bool,
}

impl Run {
    /// The run that the last reading before an hour belongs to; no farther back than it takes to be complete.
    fn before<'a>(before: impl Iterator<Item = &'a Reading>, needed: u32) -> Run {
        let mut run = Run::default();
        let mut last: Option<&Reading> = None;
        for reading in before {
            match last {
                None => last = Some(reading),
                Some(last) if last.value == reading.value => run.repeats += 1,
                Some(_) => break,
            }
            run.start = Some(reading.time());
            run.complete = run.is_complete(last.map_or(reading.time(), Reading::time), needed);
            if run.complete {
                break;
            }
        }
        run
    }

    fn is_complete(&self, now: Moment, needed: u32) -> bool {
        self.repeats >= needed && self.start.is_some_and(|start| now.0 - start.0 >= HOUR)
    }

    /// Whether this reading completes the run.
    fn goes_on(&mut self, previous: &Reading, reading: &Reading, needed: u32) -> bool {
        if previous.value != reading.value {
            *self = Run::default();
            return false;
        }
        self.start = self.start.or(Some(previous.time()));
        self.repeats = self.repeats.saturating_add(1);
        let completes = !self.complete && self.is_complete(reading.time(), needed);
        self.complete |= completes;
        completes
    }
}

/// The bound of a reading under a σ, but for its habit.
fn bound(sigma: f64, threshold: f64) -> f64 {
    ALARM_SHARE * threshold * sigma
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Value;
    use retally_core::calendar::Naming;
    use retally_core::time::SECOND;

    fn reading(minutes: i64, value: f64) -> Reading {
        Reading::new(Moment(minutes * 60 * SECOND), Naming::Unique, Value::new(value).unwrap())
    }

    #[test]
    fn what_is_not_zero_is_far_from_zeros() {
        let zeros = Baseline::of(0.0, 0.0, 0.0, Model::Level);
        let readings = [reading(24 * 60, 0.0), reading(24 * 60 + 5, 1e-200), reading(24 * 60 + 10, -1e-7), reading(24 * 60 + 15, 1e300)];
        let (found, farthest) = score(24, readings.iter(), [].iter(), &zeros, &Tempo::default(), 5.0, false);
        let scores: Vec<(f64, f64)> = found.iter().map(|one| (one.reading.value.get(), one.score)).collect();
        assert_eq!(scores, [(-1e-7, f64::MAX), (1e300, f64::MAX)], "what is as good as 0 is 0");
        assert_eq!(farthest, Size::of(crate::records::SUMMED_MAX));
    }

    fn kinds(readings: &[Reading], before: &[Reading], tempo: Tempo) -> Vec<(i64, Kind)> {
        let baseline = Baseline::of(0.0, 0.0, 1e6, Model::Level);
        let (found, _) = score(24, readings.iter(), before.iter().rev(), &baseline, &tempo, 5.0, false);
        found.iter().map(|one| (one.reading.time().0 / 60 / SECOND - 24 * 60, one.kind)).collect()
    }

    #[test]
    fn a_flat_line_is_found_once_and_over_the_hour() {
        let tempo = Tempo::new(2000.0, 0, 168, 300.0);
        assert_eq!(tempo.repeats(5.0), Some(7));
        let start = 24 * 60;
        let before: Vec<Reading> = (0..6).map(|n| reading(start - 30 + n * 5, if n < 3 { n as f64 } else { 7.0 })).collect();
        let flat: Vec<Reading> = (0..12).map(|n| reading(start + n * 5, 7.0)).collect();
        assert_eq!(kinds(&flat, &before, tempo), [(45, Kind::Flatline)], "an hour after it began, at -15");
        assert_eq!(kinds(&flat[..9], &before, tempo), [], "not yet an hour");
        let long: Vec<Reading> = (0..30).map(|n| reading(start - 150 + n * 5, 7.0)).collect();
        assert_eq!(kinds(&flat, &long, tempo), [], "it was found before");
        let often = Tempo::new(2000.0, 1990, 168, 300.0);
        assert_eq!(kinds(&flat, &before, often), [], "this sensor's values repeat");
    }

    #[test]
    fn a_gap_is_found_where_silence_is_strange() {
        let tempo = Tempo::new(2016.0, 0, 168, 300.0);
        let start = 24 * 60;
        let (after, quiet) = ([reading(start + 5, 1.0), reading(start + 10, 2.0)], |minutes: i64| [reading(start - minutes, 3.0)]);
        assert_eq!(kinds(&after, &quiet(300), tempo), [(5, Kind::Gap)]);
        assert_eq!(kinds(&after, &quiet(200), tempo), []);
        let nightly = Tempo::new(2016.0, 0, 168, 6.0 * 3600.0);
        assert_eq!(kinds(&after, &quiet(300), nightly), []);
        assert_eq!(kinds(&after, &[], tempo), [], "nothing is before the first");
    }
}
