//! Times in microseconds since the UNIX epoch: parsing and printing, without zones.
//!
//! The usual form is `YYYY-MM-DD[T ]HH:MM:SS[.fraction][Z|±HH[:MM]]`. It is read by hand because it
//! stands on the path of every record: a general parser takes longer than all other fields together.
//! The tests hold it against `chrono`. Other forms that name one time alone are read behind it:
//!
//! - without seconds, and a date alone, which is its midnight
//! - a comma before the fraction, spaces before the offset, and a trailing `UTC`
//! - `24:00:00`, which is the next day's midnight, and `:60`, a leap second, which is the last microsecond before it
//! - numbers, which are UNIX times: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds
//!
//! # Limits
//! A number of fewer than nine digits before its point is not read: it may be a date (20240301), a year, or a count of something else.
//! [`TimeFormat`](crate::time_format::TimeFormat) says what it is.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in a day of 24 hours.
pub const DAY: i64 = 24 * HOUR;

/// A point in time: microseconds since the UNIX epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub i64);

impl Moment {
    /// 1970-01-01T00:00:00Z, the first time that is accepted.
    pub const FIRST: Moment = Moment(0);
    /// 2200-12-31T23:59:59.999999Z, the last time that is accepted.
    pub const LAST: Moment = Moment(7_289_654_400 * SECOND - 1);
    /// 2000-01-01T00:00:00Z. Events before it are refused unless a setting allows them: their clock was never set.
    pub const NOT_BEFORE: Moment = Moment(946_684_800 * SECOND);

    /// The moment of `micros`, when it lies in the accepted years.
    pub fn checked(micros: i64) -> Result<Moment, TimeError> {
        let moment = Moment(micros);
        if (Moment::FIRST..=Moment::LAST).contains(&moment) { Ok(moment) } else { Err(TimeError::OutOfRange) }
    }

    /// `self` moved by `micros`, which may leave the accepted years.
    #[must_use]
    pub fn plus(self, micros: i64) -> Moment {
        Moment(self.0.saturating_add(micros))
    }

    /// The last moment of its minute.
    #[must_use]
    pub fn end_of_minute(self) -> Moment {
        self.plus(MINUTE - 1 - self.0.rem_euclid(MINUTE))
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, with `.ffffff` before the `Z` only when microseconds are not zero.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text does not follow the grammar.
    #[error("is not a time like 2026-01-31T12:34:56Z")]
    Malformed,
    /// A field is too large (month 13, 30 February, 24:01).
    #[error("is not a time that exists")]
    NoSuchTime,
    /// The year is outside 1970–2200.
    #[error("lies outside the years 1970 to 2200")]
    OutOfRange,
    /// A number that may be anything.
    #[error("is too small for a UNIX time: give its format, such as unix_s or %Y%m%d")]
    ShortNumber,
    /// The text does not follow the format that its field was given.
    #[error("is not a time of the format of its field")]
    OtherFormat,
}

/// A time as written: with an offset it is a [`Moment`], without one it is local to a zone not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Microseconds since 1970-01-01T00:00:00 by the clock on the wall.
    pub wall: i64,
    /// The offset from UTC in seconds, where the text gives one.
    pub offset: Option<i64>,
}

impl Written {
    /// Of one that lies outside the accepted years: whether it lies before them. No clock on a wall is a day ahead of UTC.
    pub fn is_early(self) -> bool {
        self.wall < DAY
    }
}

/// Reads a time.
///
/// Fractions beyond microseconds are cut. Years are checked by [`Moment::checked`], not here.
pub fn parse(text: &[u8]) -> Result<Written, TimeError> {
    let Some((&[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't' | b' ', h0, h1, b':', i0, i1, b':', s0, s1], rest)) =
        text.split_first_chunk::<19>()
    else {
        return parse_shorter(text);
    };
    let date = date([y0, y1, y2, y3], [m0, m1], [d0, d1])?;
    let (hour, minute, second) = (two(h0, h1)?, two(i0, i1)?, two(s0, s1)?);
    let mut wall = (date * 86_400 + hour * 3600 + minute * 60 + second) * SECOND;
    let mut rest = rest;
    if let Some((b'.' | b',', fraction)) = rest.split_first() {
        let micros;
        (micros, rest) = parse_fraction(fraction)?;
        wall += micros;
    }
    if hour > 23 || minute > 59 || second > 59 {
        wall = unusual_clock(date, hour, minute, second, wall)?;
    }
    Ok(Written { wall, offset: parse_offset(rest)? })
}

/// The seconds' fraction in microseconds, and what follows it.
fn parse_fraction(text: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Err(TimeError::Malformed);
    }
    let (fraction, rest) = text.split_at(digits);
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    Ok((padded.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')), rest))
}

/// 24:00:00, and seconds that are leap seconds. They end an hour of UTC, and zones differ from it by quarters of hours.
#[cold]
fn unusual_clock(date: i64, hour: i64, minute: i64, second: i64, wall: i64) -> Result<i64, TimeError> {
    let next_day = (date + 1) * 86_400 * SECOND;
    match (hour, minute, second) {
        (24, 0, 0) if wall == next_day => Ok(wall),
        (0..=23, 14 | 29 | 44 | 59, 60) => Ok((date * 86_400 + hour * 3600 + minute * 60 + 60) * SECOND - 1),
        _ => Err(TimeError::NoSuchTime),
    }
}

/// What is no date with hours, minutes and seconds: without seconds, a date alone, or a number.
#[cold]
fn parse_shorter(text: &[u8]) -> Result<Written, TimeError> {
    match *text {
        [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, ref rest @ ..] => {
            let date = date([y0, y1, y2, y3], [m0, m1], [d0, d1])?;
            match *rest {
                [] => Ok(Written { wall: date * 86_400 * SECOND, offset: None }),
                [b'T' | b't' | b' ', h0, h1, b':', i0, i1, ref rest @ ..] => {
                    let (hour, minute) = (two(h0, h1)?, two(i0, i1)?);
                    let mut wall = (date * 86_400 + hour * 3600 + minute * 60) * SECOND;
                    if hour > 23 || minute > 59 {
                        wall = unusual_clock(date, hour, minute, 0, wall)?;
                    }
                    Ok(Written { wall, offset: parse_offset(rest)? })
                }
                _ => Err(TimeError::Malformed),
            }
        }
        [b'0'..=b'9' | b'-', ..] => parse_number(text),
        _ => Err(TimeError::Malformed),
    }
}

/// A UNIX time, whose magnitude says its unit.
fn parse_number(text: &[u8]) -> Result<Written, TimeError> {
    const DIGITS_MIN: usize = 9;
    let number = Decimal::parse(text)?;
    if number.negative {
        return Err(TimeError::OutOfRange);
    }
    // With an exponent, the number of digits says nothing.
    let whole = number.digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole < DIGITS_MIN && !number.has_exponent() || number.magnitude < 1e8 {
        return Err(TimeError::ShortNumber);
    }
    number.as_unix(match number.magnitude {
        ..1e11 => Unit::Seconds,
        ..1e14 => Unit::Milliseconds,
        ..1e17 => Unit::Microseconds,
        _ => Unit::Nanoseconds,
    })
}

/// The unit of a UNIX time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds, cut to microseconds.
    Nanoseconds,
}

/// Reads a UNIX time of this unit. Digits are exact; a number with an exponent is as exact as a float.
pub fn unix(text: &[u8], unit: Unit) -> Result<Written, TimeError> {
    Decimal::parse(text)?.as_unix(unit)
}

/// A number: digits, perhaps a sign before them, a point with more, an exponent.
struct Decimal<'a> {
    /// Without the sign.
    digits: &'a [u8],
    negative: bool,
    /// The digits as a float.
    magnitude: f64,
}

impl Decimal<'_> {
    fn parse(text: &[u8]) -> Result<Decimal<'_>, TimeError> {
        let (digits, negative) = match text.strip_prefix(b"-") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let plain = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
        let starts = digits.first().is_some_and(u8::is_ascii_digit);
        let magnitude = std::str::from_utf8(digits).ok().filter(|_| plain && starts).and_then(|digits| digits.parse().ok());
        let magnitude = magnitude.filter(|number: &f64| number.is_finite()).ok_or(TimeError::Malformed)?;
        Ok(Decimal { digits, negative, magnitude })
    }

    fn has_exponent(&self) -> bool {
        self.digits.iter().any(|byte| byte.eq_ignore_ascii_case(&b'e'))
    }

    fn as_unix(&self, unit: Unit) -> Result<Written, TimeError> {
        // By how many digits the point moves to give microseconds.
        let moved: i32 = match unit {
            Unit::Seconds => 6,
            Unit::Milliseconds => 3,
            Unit::Microseconds => 0,
            Unit::Nanoseconds => -3,
        };
        let micros = if self.has_exponent() {
            let micros = self.magnitude * 10f64.powi(moved);
            // Beyond all accepted years, whatever it is exactly.
            if micros > 1e18 {
                return Err(TimeError::OutOfRange);
            }
            #[expect(clippy::cast_possible_truncation, reason = "in range, and fractions of microseconds are cut")]
            let micros = micros as i64;
            micros
        } else {
            let (whole, fraction) = match self.digits.iter().position(|byte| *byte == b'.') {
                Some(point) => (self.digits.get(..point).unwrap_or_default(), self.digits.get(point + 1..).unwrap_or_default()),
                None => (self.digits, &[][..]),
            };
            let wanted = usize::try_from(i32::try_from(whole.len()).unwrap_or(i32::MAX).saturating_add(moved)).unwrap_or(0);
            let padded = whole.iter().chain(fraction).copied().chain(std::iter::repeat(b'0')).take(wanted);
            let add = |sum: i64, digit: u8| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0'));
            padded.into_iter().try_fold(0, add).ok_or(TimeError::OutOfRange)?
        };
        Ok(Written { wall: if self.negative { -micros } else { micros }, offset: Some(0) })
    }
}

/// `Z`, `±HH`, `±HHMM`, `±HH:MM`, `UTC`, each with spaces before it or without, or nothing.
fn parse_offset(text: &[u8]) -> Result<Option<i64>, TimeError> {
    let (sign, hours, minutes) = match *text {
        [] => return Ok(None),
        [b'Z' | b'z'] => return Ok(Some(0)),
        [sign, h0, h1] if sign != b' ' => (sign, two(h0, h1)?, 0),
        [sign, h0, h1, m0, m1] | [sign, h0, h1, b':', m0, m1] if sign != b' ' => (sign, two(h0, h1)?, two(m0, m1)?),
        [b' ', ref rest @ ..] => match rest.trim_ascii_start() {
            rest if rest.eq_ignore_ascii_case(b"UTC") => return Ok(Some(0)),
            [] => return Ok(None),
            rest => return parse_offset(rest),
        },
        _ => return Err(TimeError::Malformed),
    };
    if hours > 23 || minutes > 59 {
        return Err(TimeError::NoSuchTime);
    }
    match sign {
        b'+' => Ok(Some(hours * 3600 + minutes * 60)),
        b'-' => Ok(Some(-(hours * 3600 + minutes * 60))),
        _ => Err(TimeError::Malformed),
    }
}

/// The seconds by which a clock is ahead of UTC that is given as `±HH`, `±HHMM` or `±HH:MM`.
pub fn offset_seconds(text: &[u8]) -> Option<i64> {
    matches!(text, [b'+' | b'-', ..]).then(|| parse_offset(text).ok().flatten()).flatten()
}

/// Days since 1970-01-01 of a date that exists.
#[inline]
fn date([y0, y1, y2, y3]: [u8; 4], [m0, m1]: [u8; 2], [d0, d1]: [u8; 2]) -> Result<i64, TimeError> {
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(TimeError::NoSuchTime);
    }
    Ok(days_from_civil(year, month, day))
}

fn two(tens: u8, ones: u8) -> Result<i64, TimeError> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(TimeError::Malformed) } else { Ok(i64::from(tens) * 10 + i64::from(ones)) }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
///
/// The algorithm is Howard Hinnant's `days_from_civil` (`chrono`-compatible low-level date algorithms, 2013).
#[inline]
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`]: (year, month, day).
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDateTime};
    use proptest::prelude::*;

    fn utc(text: &str) -> Result<String, TimeError> {
        let written = parse(text.as_bytes())?;
        Moment::checked(written.wall - written.offset.unwrap_or(0) * SECOND).map(|m| m.to_string())
    }

    #[test]
    fn the_grammar_and_its_edges() {
        for (text, expected) in [
            ("2026-01-31T12:34:56Z", "2026-01-31T12:34:56Z"),
            ("2026-01-31 12:34:56", "2026-01-31T12:34:56Z"),
            ("2026-01-31 12:34:56.5", "2026-01-31T12:34:56.500000Z"),
            ("2026-01-31 12:34:56.1234569Z", "2026-01-31T12:34:56.123456Z"),
            ("2026-01-31T12:34:56+02", "2026-01-31T10:34:56Z"),
            ("2026-01-31T12:34:56-0530", "2026-01-31T18:04:56Z"),
            ("2026-01-31T12:34:56.25-05:30", "2026-01-31T18:04:56.250000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2200-12-31T23:59:59.999999Z", "2200-12-31T23:59:59.999999Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("2024-03-01 08:00:00 UTC", "2024-03-01T08:00:00Z"),
            ("2024-03-01 08:00:00.5 utc", "2024-03-01T08:00:00.500000Z"),
            ("2024-03-01 08:00:00,123", "2024-03-01T08:00:00.123000Z"),
            ("2024-03-01 08:00", "2024-03-01T08:00:00Z"),
            ("2024-03-01T08:00Z", "2024-03-01T08:00:00Z"),
            ("2024-03-01t08:00 +0530", "2024-03-01T02:30:00Z"),
            ("2024-03-01", "2024-03-01T00:00:00Z"),
            ("2024-03-01T08:00:00  Z", "2024-03-01T08:00:00Z"),
            ("2024-02-28T24:00:00Z", "2024-02-29T00:00:00Z"),
            ("2024-02-29 24:00", "2024-03-01T00:00:00Z"),
            ("2016-12-31T23:59:60.75Z", "2016-12-31T23:59:59.999999Z"),
            ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59.999999Z"),
            ("1709280000", "2024-03-01T08:00:00Z"),
            ("1709280000.1234567", "2024-03-01T08:00:00.123456Z"),
            ("1709280000123", "2024-03-01T08:00:00.123000Z"),
            ("1709280000123.4", "2024-03-01T08:00:00.123400Z"),
            ("1709280000123456", "2024-03-01T08:00:00.123456Z"),
            ("1709280000123456789", "2024-03-01T08:00:00.123456Z"),
            ("1.70928E9", "2024-03-01T08:00:00Z"),
            ("1.709280000123e+12", "2024-03-01T08:00:00.123000Z"),
        ] {
            assert_eq!(utc(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, error) in [
            ("", TimeError::Malformed),
            ("2026-01-31X12:34:56", TimeError::Malformed),
            ("2026-01-31T12:34:56.", TimeError::Malformed),
            ("2026-01-31T12:34:56+2", TimeError::Malformed),
            ("2026-13-01T00:00:00", TimeError::NoSuchTime),
            ("2026-02-29T00:00:00", TimeError::NoSuchTime),
            ("2026-02-01T24:00:01", TimeError::NoSuchTime),
            ("2026-02-01T24:00:00.5", TimeError::NoSuchTime),
            ("2026-02-01T25:00:00", TimeError::NoSuchTime),
            ("2026-02-01T12:17:60", TimeError::NoSuchTime),
            ("2026-02-01T00:00:00+24:00", TimeError::NoSuchTime),
            ("1969-12-31T23:59:59Z", TimeError::OutOfRange),
            ("2201-01-01T00:00:00Z", TimeError::OutOfRange),
            ("1970-01-01T00:00:00+01:00", TimeError::OutOfRange),
            ("20240301", TimeError::ShortNumber),
            ("0", TimeError::ShortNumber),
            ("1e3", TimeError::ShortNumber),
            ("-1709280000", TimeError::OutOfRange),
            ("99999999999", TimeError::OutOfRange),
            ("1709280000 UTC", TimeError::Malformed),
            ("1709280000x", TimeError::Malformed),
            ("1709280000..5", TimeError::Malformed),
            ("1e999", TimeError::Malformed),
            ("99999999999999999999", TimeError::OutOfRange),
            ("2024/03/01 08:00:00", TimeError::Malformed),
            ("01/03/2024 08:00:00", TimeError::Malformed),
            ("2024-3-1 8:00:00", TimeError::Malformed),
            ("2024-03-01T08:00:00+5:30", TimeError::Malformed),
            ("2024-03-01 08:00:00 AM", TimeError::Malformed),
            ("2024-03-01 08:00:00 Europe/Berlin", TimeError::Malformed),
        ] {
            assert_eq!(utc(text), Err(error), "{text}");
        }
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn agrees_with_chrono(micros in 0..=Moment::LAST.0, offset_minutes in -1439i64..1440) {
            let zoned = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(utc(&zoned.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()).unwrap(), Moment(micros).to_string());
            let offset = chrono::FixedOffset::east_opt(i32::try_from(offset_minutes * 60).unwrap()).unwrap();
            let text = zoned.with_timezone(&offset).format("%Y-%m-%d %H:%M:%S%.6f%:z").to_string();
            prop_assert_eq!(utc(&text).unwrap(), Moment(micros).to_string());
            let naive = NaiveDateTime::parse_from_str(&text[..26], "%Y-%m-%d %H:%M:%S%.6f").unwrap();
            prop_assert_eq!(parse(&text.as_bytes()[..26]).unwrap().wall, naive.and_utc().timestamp_micros());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
