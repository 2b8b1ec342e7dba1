//! What came of a dataset: the one thing that is kept of it.

use crate::settings::SECOND_FS;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

/// How a dataset ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It was read.
    Done,
    /// It has no good settings line, or brushing lines and no good one.
    Unsalvageable,
    /// It could not be read.
    Failed,
}

impl Status {
    /// As in the column `status`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Done => "done",
            Status::Unsalvageable => "unsalvageable",
            Status::Failed => "failed",
        }
    }
}

/// What came of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// From the first event to one tick after the last.
    pub span_ns: Option<(i64, i64)>,
    /// The time of missing ticks, in femtoseconds.
    pub lost_fs: i128,
    /// Points of measurement `brushing`.
    pub brushing_points: u64,
    /// Points of measurement `settings`.
    pub settings_points: u64,
    /// Lines of both streams that were skipped.
    pub skipped_lines: u64,
    /// Why it failed or is unsalvageable; empty otherwise.
    pub error: String,
    /// By tooth, those that have points.
    pub teeth: Vec<Tooth>,
    /// The clock was put back: points are not in the order of their times.
    pub unordered: bool,
}

/// The key of a dataset, and what came of it.
pub type DatasetOutcome = (Vec<String>, Outcome);

/// A dataset's points of a tooth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tooth {
    /// Which.
    pub tooth: u32,
    /// How many.
    pub points: u64,
    /// The sum of their percentages, in steps.
    pub percent_steps: u128,
}

impl Outcome {
    /// Of a dataset that can't be read, of which so many points had been handed over.
    pub fn failed(error: String, points: [u64; 2]) -> Outcome {
        let [brushing_points, settings_points] = points;
        Outcome {
            status: Status::Failed,
            span_ns: None,
            lost_fs: 0,
            brushing_points,
            settings_points,
            skipped_lines: 0,
            error,
            teeth: Vec::new(),
            unordered: true,
        }
    }

    /// Its first moment and the one after its last, in whole microseconds.
    pub fn span(&self) -> Option<(Moment, Moment)> {
        self.span_ns.map(|(start, end)| (Moment(start.div_euclid(1_000)), Moment(end.div_euclid(1_000))))
    }
}

/// Femtoseconds in seconds: the float that is nearest. By way of the decimal, since a quotient of two rounded numbers need not be.
pub fn seconds(fs: i128) -> f64 {
    let (sign, fs) = (if fs < 0 { "-" } else { "" }, fs.unsigned_abs());
    let second = SECOND_FS.unsigned_abs();
    format!("{sign}{}.{:015}", fs / second, fs % second).parse().unwrap_or(0.0)
}

/// Femtoseconds, none below 0, in minutes: the float that is nearest.
pub fn minutes(fs: i128) -> f64 {
    quotient(fs.unsigned_abs(), 60 * SECOND_FS.unsigned_abs())
}

/// The float that is nearest to a quotient of whole numbers, of which the second is not 0 and below 2^72.
pub fn quotient(number: u128, by: u128) -> f64 {
    if number == 0 {
        return 0.0;
    }
    // So many bits of it that a float is rounded once; the last one stands for all that follow.
    let shift = number.leading_zeros();
    let shifted = number << shift;
    let bits = (shifted / by) | u128::from(!shifted.is_multiple_of(by));
    bits as f64 / 2f64.powi(i32::try_from(shift).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_the_nearest_float() {
        let of = |fs: i128| seconds(fs).to_string();
        assert_eq!(of(8_931 * SECOND_FS / 1_000), "8.931");
        assert_eq!(of(-SECOND_FS / 4), "-0.25");
        assert_eq!(of(0), "0");
        assert_eq!(of(123_456_789_012_345 * SECOND_FS / 1_000), "123456789012.345");
    }

    #[test]
    fn quotients_are_the_nearest_float() {
        let of = |millis: i128| minutes(millis * SECOND_FS / 1_000);
        assert_eq!([of(3_899_805), of(345_648), of(1), of(0)], [64.99675, 5.7608, 1.0 / 60_000.0, 0.0]);
        for (number, by) in [(1, 3), (2, 3), (10, 7), (1, 49), (9_007_199_254_740_991, 9_007_199_254_740_990)] {
            assert_eq!(quotient(number, by), number as f64 / by as f64, "both are whole floats");
        }
        assert_eq!(quotient(u128::MAX, 1), 2f64.powi(128));
        assert_eq!(quotient((1 << 53) + 1, 1), 2f64.powi(53), "half way: the even one");
        assert_eq!(quotient(((1 << 53) + 1) * 1_000 + 1, 1_000), 2f64.powi(53) + 2.0, "and just above");
    }
}
