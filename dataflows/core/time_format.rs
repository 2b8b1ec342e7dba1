//! The format of a field's times, where it is declared: a UNIX time of one unit, or a pattern.

use crate::time::{self, DAY, SECOND, TimeError, Unit, Written};
use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Timelike};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the times of a field are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TimeFormat {
    text: String,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Unix(Unit),
    Pattern {
        items: Vec<Item<'static>>,
        /// Its end says that its times are of UTC.
        utc: bool,
    },
}

/// A text that is no format of times.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no format of times: {why}")]
pub struct TimeFormatError {
    text: String,
    why: &'static str,
}

const KNOWN: &str = "they are unix_s, unix_ms, unix_us, unix_ns, or a strftime pattern of a date, such as %d.%m.%Y %H:%M";
const FRACTION: &str = "%f alone may count microseconds or nanoseconds; .%f is a fraction of a second, and %3f, %6f and %9f are one of so many \
                        digits without a point";
const ZONE: &str =
    "%Z is a zone's name, which does not say how far it is from UTC; %z is an offset, and UTC, GMT or Z at the end stands for itself";

/// `unix_s`, `unix_ms`, `unix_us`, `unix_ns`, or a strftime pattern that holds a whole date.
///
/// `UTC`, `GMT` or `Z` at its end says that its times are of UTC.
impl FromStr for TimeFormat {
    type Err = TimeFormatError;

    fn from_str(text: &str) -> Result<TimeFormat, TimeFormatError> {
        let error = |why| TimeFormatError { text: text.into(), why };
        let form = match text {
            "unix_s" => Form::Unix(Unit::Seconds),
            "unix_ms" => Form::Unix(Unit::Milliseconds),
            "unix_us" => Form::Unix(Unit::Microseconds),
            "unix_ns" => Form::Unix(Unit::Nanoseconds),
            _ => {
                let items = StrftimeItems::new(text).parse_to_owned().map_err(|_| error(KNOWN))?;
                let items = with_fractions(items);
                if items.iter().any(|item| matches!(item, Item::Numeric(Numeric::Nanosecond, _))) {
                    return Err(error(FRACTION));
                }
                if items.contains(&Item::Fixed(Fixed::TimezoneName)) {
                    return Err(error(ZONE));
                }
                let utc = items.last().and_then(literal).is_some_and(|end| ["UTC", "GMT", "Z"].contains(&end));
                Form::Pattern { items, utc }
            }
        };
        let format = TimeFormat { text: text.into(), form };
        // What it writes of a time must be enough to read its day back.
        if let Form::Pattern { items, .. } = &format.form {
            let sample = DateTime::from_timestamp(1_709_280_309, 0).unwrap_or_default().fixed_offset();
            let mut shown = String::new();
            let written = fmt::Write::write_fmt(&mut shown, format_args!("{}", sample.format_with_items(items.iter())));
            let read = written.ok().and_then(|()| format.parse(shown.as_bytes()).ok());
            if read.is_none_or(|read| read.wall.div_euclid(DAY) != sample.timestamp() * SECOND / DAY) {
                return Err(error(KNOWN));
            }
        }
        Ok(format)
    }
}

impl TryFrom<String> for TimeFormat {
    type Error = TimeFormatError;

    fn try_from(text: String) -> Result<TimeFormat, TimeFormatError> {
        text.parse()
    }
}

impl From<TimeFormat> for String {
    fn from(format: TimeFormat) -> String {
        format.text
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TimeFormat {
    /// Reads a time. A date alone is its midnight.
    pub fn parse(&self, text: &[u8]) -> Result<Written, TimeError> {
        match &self.form {
            Form::Unix(unit) => time::unix(text, *unit).map_err(|error| match error {
                TimeError::Malformed => TimeError::OtherFormat,
                other => other,
            }),
            Form::Pattern { items, utc } => {
                let text = std::str::from_utf8(text).map_err(|_| TimeError::OtherFormat)?;
                let written = pattern(items, text).or_else(|| next_midnight(items, text)).ok_or(TimeError::OtherFormat)?;
                Ok(Written { offset: written.offset.or(utc.then_some(0)), ..written })
            }
        }
    }
}

fn literal<'i>(item: &'i Item<'_>) -> Option<&'i str> {
    match item {
        Item::Literal(text) => Some(text),
        Item::OwnedLiteral(text) => Some(text),
        _ => None,
    }
}

/// A point and `%f` are a fraction of a second, as Python and Java write it; chrono would count nanoseconds.
fn with_fractions(items: Vec<Item<'static>>) -> Vec<Item<'static>> {
    let mut whole: Vec<Item<'static>> = Vec::with_capacity(items.len());
    for item in items {
        let before = whole.last().and_then(literal).and_then(|text| text.strip_suffix('.')).map(Box::from);
        match (&item, before) {
            (Item::Numeric(Numeric::Nanosecond, _), Some(before)) => {
                whole.pop();
                whole.extend([Item::OwnedLiteral(before), Item::Fixed(Fixed::Nanosecond)]);
            }
            _ => whole.push(item),
        }
    }
    whole
}

/// 24:00, which is the next day's midnight.
#[cold]
fn next_midnight(items: &[Item<'static>], text: &str) -> Option<Written> {
    let midnights = text.match_indices("24:00").filter_map(|(place, _)| {
        let (before, after) = (text.get(..place)?, text.get(place + 2..)?);
        pattern(items, &format!("{before}00{after}"))
    });
    let midnight = midnights.filter(|written| written.wall.rem_euclid(DAY) == 0).last()?;
    Some(Written { wall: midnight.wall + DAY, ..midnight })
}

fn pattern(items: &[Item<'static>], text: &str) -> Option<Written> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
    let offset = parsed.offset().map(i64::from);
    let local: NaiveDateTime = match parsed.to_naive_datetime_with_offset(parsed.offset().unwrap_or(0)) {
        Ok(local) => local,
        // A date alone, or with hours alone.
        Err(_) if parsed.minute().is_none() => {
            let date: NaiveDate = parsed.to_naive_date().ok()?;
            let half = parsed.hour_div_12().unwrap_or(0);
            date.and_hms_opt(half * 12 + parsed.hour_mod_12().unwrap_or(0), 0, 0)?
        }
        Err(_) => return None,
    };
    // A leap second is the last microsecond before it. They end an hour of UTC, and zones differ from it by quarters of hours.
    let local = match local.nanosecond() {
        1_000_000_000.. if local.second() == 59 && matches!(local.minute(), 14 | 29 | 44 | 59) => local.with_nanosecond(999_999_999)?,
        1_000_000_000.. => return None,
        _ => local,
    };
    // Seconds since 1970 are of UTC whatever else stands there.
    let offset = if parsed.timestamp().is_some() { Some(offset.unwrap_or(0)) } else { offset };
    Some(Written { wall: local.and_utc().timestamp_micros(), offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;

    fn read(format: &str, text: &str) -> Result<String, String> {
        let format: TimeFormat = format.parse().map_err(|error: TimeFormatError| error.to_string())?;
        let written = format.parse(text.as_bytes()).map_err(|error| error.to_string())?;
        Calendar::named("+01:00").unwrap().moment(written).map(|moment| moment.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn units_and_patterns() {
        for (format, text, expected) in [
            ("unix_s", "12", "1970-01-01T00:00:12Z"),
            ("unix_ms", "1709280000123", "2024-03-01T08:00:00.123000Z"),
            ("unix_ms", "1709280000", "1970-01-20T18:48:00Z"),
            ("unix_us", "1709280000123456", "2024-03-01T08:00:00.123456Z"),
            ("unix_ns", "1709280000123456789", "2024-03-01T08:00:00.123456Z"),
            ("unix_ns", "999", "1970-01-01T00:00:00Z"),
            ("%d.%m.%Y %H:%M", "01.03.2024 08:05", "2024-03-01T07:05:00Z"),
            ("%d/%m/%Y %H:%M:%S", "1/3/2024 8:00:00", "2024-03-01T07:00:00Z"),
            ("%m/%d/%Y %I:%M:%S %p", "03/01/2024 8:00:00 AM", "2024-03-01T07:00:00Z"),
            ("%Y%m%d", "20240301", "2024-02-29T23:00:00Z"),
            ("%Y%m%dT%H%M%S%.f", "20240301T080000.25", "2024-03-01T07:00:00.250000Z"),
            ("%Y-%m-%dT%H:%M:%S%z", "2024-03-01T08:00:00-0500", "2024-03-01T13:00:00Z"),
            ("%a, %d %b %Y %H:%M:%S GMT", "Fri, 01 Mar 2024 08:00:00 GMT", "2024-03-01T08:00:00Z"),
            ("%Y-%m-%dT%H:%M:%SZ", "2024-03-01T08:00:00Z", "2024-03-01T08:00:00Z"),
            ("%Y-%m-%d %H:%M:%S UTC", "2024-03-01 08:00:00 UTC", "2024-03-01T08:00:00Z"),
            ("%Y-%m-%d %H:%M:%S.%f", "2024-03-01 08:00:00.500000", "2024-03-01T07:00:00.500000Z"),
            ("%Y-%m-%d %H:%M:%S.%f", "2024-03-01 08:00:00", "2024-03-01T07:00:00Z"),
            ("%d.%m.%Y.%f", "01.03.2024.25", "2024-02-29T23:00:00Z"),
            ("%Y%m%d%H%M%S%3f", "20240301080000250", "2024-03-01T07:00:00.250000Z"),
            ("%d.%m.%Y %H Uhr", "01.03.2024 08 Uhr", "2024-03-01T07:00:00Z"),
            ("%s", "1709280000", "2024-03-01T08:00:00Z"),
            ("%d.%m.%Y %H:%M", "01.03.2024 24:00", "2024-03-01T23:00:00Z"),
            ("%H:%M:%S %d.%m.%Y", "24:00:00 01.03.2024", "2024-03-01T23:00:00Z"),
            ("%Y%m%d%H%M%S%.f", "20240301125960.5", "2024-03-01T11:59:59.999999Z"),
        ] {
            assert_eq!(read(format, text), Ok(expected.into()), "{format} of {text}");
        }
        for (format, text) in [
            ("unix_s", "yesterday"),
            ("%d.%m.%Y", "32.03.2024"),
            ("%d.%m.%Y", "01.03.2024 08:00"),
            ("%Y-%m-%d", "\u{1}"),
            ("%d.%m.%Y %H:%M", "01.03.2024 24:01"),
            ("%d.%m.%Y %H:%M:%S", "01.03.2024 12:24:00x"),
            ("%Y%m%d%H%M%S", "20240301123060"),
        ] {
            assert_eq!(read(format, text), Err("is not a time of the format of its field".into()), "{format} of {text}");
        }
        assert_eq!(read("unix_s", "99999999999"), Err("lies outside the years 1970 to 2200".into()));
    }

    #[test]
    fn what_holds_no_date_is_no_format() {
        let why = |pattern: &str| pattern.parse::<TimeFormat>().unwrap_err().why;
        assert_eq!((why("%Y%m%d %H%M%S%f"), why("%Y-%m-%d %H:%M:%S %Z")), (FRACTION, ZONE));
        for wrong in ["", "unix", "%H:%M", "%d.%m. %H:%M", "%Q", "timestamp", "%y"] {
            assert!(wrong.parse::<TimeFormat>().is_err(), "{wrong}");
        }
    }
}
