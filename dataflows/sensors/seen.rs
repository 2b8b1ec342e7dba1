//! What the measurements of an hour say, and where it lies among days of UTC.

use crate::leaf::{Hour, Rhythm};

/// The hours of a day of UTC.
pub const DAY: usize = 24;
/// The same, as hours are counted.
pub const DAY_HOURS: Hour = 24;
/// What the measurements of an hour say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// How many there are; 0: the rest means nothing.
    pub rows: f64,
    /// Their mean.
    pub mean: f64,
    /// Their mean squared distance from it.
    pub inner: f64,
    /// The largest magnitude.
    pub largest: f64,
    /// The spread, where there is one ([`crate::contrast::spread`]).
    pub spread: Option<i32>,
    /// How they follow one another.
    pub rhythm: Rhythm,
}

/// The day of UTC of an hour: days since 1970-01-01.
pub fn day_of(hour: Hour) -> Hour {
    hour.div_euclid(DAY_HOURS)
}
