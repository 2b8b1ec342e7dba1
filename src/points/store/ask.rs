//! What is asked of a store: points of a measurement with some tags, within a range of time.
//!
//! A range is from its first time on, and up to its last without it: ranges that follow one another share no point.

use super::series::{StoredMeasurement, StoredSeries};
use super::{Store, StoreError};
use retally_core::calendar::Calendar;
use retally_core::time::{Moment, SECOND, TimeError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// More series are not read together: each has a block in memory.
pub const SERIES_MAX: usize = 1_000;

/// What is asked for.
pub struct Question {
    /// The measurement.
    pub measurement: StoredMeasurement,
    /// The series that have the tags, in the order of their tags.
    pub series: Vec<StoredSeries>,
    /// From the first to the last nanosecond.
    pub range_ns: RangeInclusive<i64>,
}

/// What can't be asked of a store.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such measurement.
    #[error("the store has no measurement {name:?}")]
    Measurement {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such tag.
    #[error("{measurement:?} has no tag {tag:?}")]
    Tag {
        /// The measurement.
        measurement: String,
        /// What was asked for.
        tag: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No series has this value.
    #[error("no points of {measurement:?} have {tag}={value:?}")]
    Value {
        /// The measurement.
        measurement: String,
        /// The tag.
        tag: String,
        /// What was asked for.
        value: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No series has all of the tags.
    #[error("no points of {0:?} have all of these tags")]
    Together(String),
    /// Too many have them.
    #[error("{series} series of {measurement:?} have these tags, and at most {SERIES_MAX} are read together")]
    Series {
        /// The measurement.
        measurement: String,
        /// How many.
        series: usize,
        /// Tags that nothing was said of.
        free: Vec<String>,
    },
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// What these words ask for.
    pub fn question(&self, name: &str, tags: &BTreeMap<String, String>, range_ns: RangeInclusive<i64>) -> Result<Question, AskError> {
        let Some(measurement) = self.measurement(name)? else {
            let known = self.measurements()?.into_iter().map(|measurement| measurement.name).collect();
            return Err(AskError::Measurement { name: name.into(), known });
        };
        if let Some(tag) = tags.keys().find(|tag| !measurement.tags.contains(tag)) {
            return Err(AskError::Tag { measurement: name.into(), tag: tag.clone(), known: measurement.tags });
        }
        let mut series = self.series(name, tags)?;
        if series.is_empty() {
            return Err(self.no_series(name, tags)?);
        }
        if series.len() > SERIES_MAX {
            let free = measurement.tags.into_iter().filter(|tag| !tags.contains_key(tag)).collect();
            return Err(AskError::Series { measurement: name.into(), series: series.len(), free });
        }
        let values = |series: &StoredSeries| measurement.tags.iter().map(|tag| series.tags.get(tag).cloned()).collect::<Vec<_>>();
        series.sort_by_key(values);
        Ok(Question { measurement, series, range_ns })
    }

    /// Which of the tags is the one that no series has.
    fn no_series(&self, name: &str, tags: &BTreeMap<String, String>) -> Result<AskError, StoreError> {
        for (tag, value) in tags {
            let others: BTreeSet<String> =
                self.series(name, &BTreeMap::new())?.into_iter().filter_map(|mut series| series.tags.remove(tag)).collect();
            if !others.contains(value) && !value.is_empty() {
                let known = others.into_iter().collect();
                return Ok(AskError::Value { measurement: name.into(), tag: tag.clone(), value: value.clone(), known });
            }
        }
        Ok(AskError::Together(name.into()))
    }
}

/// A range of these times; without one, it has no end there.
pub fn range(from: Option<i64>, to: Option<i64>) -> RangeInclusive<i64> {
    from.unwrap_or(i64::MIN)..=to.map_or(i64::MAX, |to| to.saturating_sub(1))
}

/// Nanoseconds of a time, or of the beginning of a day.
pub fn parse_time(text: &str, calendar: &Calendar) -> Result<i64, TimeError> {
    let day = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00") } else { text.to_string() };
    let moment = calendar.parse(day.as_bytes())?;
    // What comes behind microseconds is cut there, and counts here.
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).map(|digit| i64::from(digit - b'0')).skip(6);
    let nanos = digits.chain(std::iter::repeat(0)).take(3).fold(0, |nanos, digit| nanos * 10 + digit);
    Ok(moment.0 * 1_000 + nanos)
}

/// A time as tables have it, with nine digits where six are not enough.
pub fn time_text(time_ns: i64) -> String {
    let (micros, nanos) = (time_ns.div_euclid(1_000), time_ns.rem_euclid(1_000));
    if nanos == 0 {
        return Moment(micros).to_string();
    }
    let whole = Moment(micros - micros.rem_euclid(SECOND)).to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), time_ns.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_where_they_need_them() {
        for (time_ns, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_500_000, "1970-01-01T00:00:00.001500Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(time_text(time_ns), text);
        }
    }

    #[test]
    fn times_and_days_are_read_in_a_zone_down_to_nanoseconds() {
        let berlin = Calendar::named("Europe/Berlin").unwrap();
        let read = |text: &str| parse_time(text, &berlin).map(time_text).map_err(|error| error.to_string());
        assert_eq!(read("2026-07-01").unwrap(), "2026-06-30T22:00:00Z");
        assert_eq!(read("2026-07-01 00:00:01").unwrap(), "2026-06-30T22:00:01Z");
        assert_eq!(read("2023-11-14T22:13:20.123456789Z").unwrap(), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(read("2023-11-14T22:13:20.12345678+01").unwrap(), "2023-11-14T21:13:20.123456780Z");
        assert_eq!(read("2023-11-14T22:13:20.12Z").unwrap(), "2023-11-14T22:13:20.120000Z");
        assert!(read("2026-07-99").is_err() && read("yesterday").is_err());
    }
}
