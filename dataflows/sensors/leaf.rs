//! A leaf: the measurements of a sensor in an hour of UTC, summed up.
//!
//! It is a function of the measurements in their order, which is that of time and value however they came: so its sums
//! ([`retally_core::operators::regression`]) are the same bits. x is in hours since the hour's start, y in the value's unit.

use crate::records::Reading;
use retally_core::operators::regression::Moments;
use retally_core::time::{HOUR, Moment};

/// An hour of UTC: hours since 1970-01-01T00:00:00Z.
pub type Hour = i32;

/// Milliseconds as hours.
const MILLISECOND: f64 = 1.0 / 3_600_000.0;

/// The hour of a time.
pub fn hour(time: Moment) -> Hour {
    Hour::try_from(time.0.div_euclid(HOUR)).unwrap_or(Hour::MAX)
}

/// The start of an hour.
pub fn start(hour: Hour) -> Moment {
    Moment(i64::from(hour) * HOUR)
}

/// A time as hours since the start of `hour`.
pub fn within(hour: Hour, time: Moment) -> f64 {
    (time.0 - start(hour).0) as f64 / HOUR as f64
}

/// The moments of readings of an hour, in their order.
pub fn moments<'a>(hour: Hour, readings: impl Iterator<Item = &'a Reading> + Clone) -> Moments {
    let start = start(hour).0;
    Moments::of(readings.map(|reading| ((reading.time().0 - start) / 1_000, reading.value.summed())), MILLISECOND)
}

/// How the readings of an hour follow one another: what flat lines and gaps are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rhythm {
    /// How many readings have the value of the one before, which may lie in an earlier hour.
    pub repeats: u32,
    /// The longest time between a reading and the one before, in seconds.
    pub longest_seconds: f32,
}

impl Rhythm {
    /// The rhythm of readings that follow `before`.
    pub fn of<'a>(mut before: Option<Reading>, readings: impl Iterator<Item = &'a Reading>) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for reading in readings {
            if let Some(before) = before {
                rhythm.repeats += u32::from(before.value == reading.value);
                rhythm.longest_seconds = rhythm.longest_seconds.max(seconds(&before, reading));
            }
            before = Some(*reading);
        }
        rhythm
    }
}

/// The time from one reading to another. A float of 32 bits: it is compared with multiples of others.
pub fn seconds(from: &Reading, to: &Reading) -> f32 {
    // Tens of years in seconds lose some seconds, which is nothing beside them.
    #[allow(clippy::cast_possible_truncation)]
    let seconds = ((to.time().0 - from.time().0) as f64 / 1e6) as f32;
    seconds
}
