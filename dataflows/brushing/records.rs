//! The lines of the two streams: what they hold, or that they hold nothing.

use crate::decimal::scaled;
use crate::settings::Rules;
use crate::skipped::Reason;
use retally_core::time::Moment;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Percentages are summed up in steps of this size.
pub const PERCENT_STEPS: u64 = 1_000_000_000;

/// A line of `brushing.csv`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// When, on the dataset's own clock.
    pub tick: i64,
    /// Which tooth.
    pub tooth: u32,
    /// How clean: 0 to 1.
    pub percent_clean: f64,
    /// The same in steps.
    pub percent_steps: u32,
}

/// A line of `settings.jsonlines`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// When, on the dataset's own clock.
    pub tick: i64,
    /// When, in nanoseconds since 1970-01-01T00:00:00Z.
    pub time_ns: i64,
    /// How full the battery is: 0 to 1.
    pub battery: Option<f64>,
    /// How long a tick is.
    pub interval: Option<Interval>,
}

/// How long a tick is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// In seconds, as it was given.
    pub seconds: f64,
    /// In femtoseconds.
    pub fs: i128,
}

/// A line that ends in a newline, as a device writes it: `12,3,0.25`. Returns the record and its length; `None` for everything else, which
/// is for [`Columns::read`] to look at.
pub fn plain_tick(bytes: &[u8], teeth: u32) -> Option<(Tick, usize)> {
    let (tick, at) = digits(bytes, 0, 18)?;
    let at = comma(bytes, at)?;
    let (tooth, at) = digits(bytes, at, 6)?;
    let tooth = u32::try_from(tooth).ok().filter(|tooth| *tooth < teeth)?;
    let at = comma(bytes, at)?;
    let (whole, at) = digits(bytes, at, 1)?;
    let (fraction, places, at) = match bytes.get(at)? {
        b'.' => {
            let (fraction, end) = digits(bytes, at + 1, 9)?;
            (fraction, end - at - 1, end)
        }
        _ => (0, 0, at),
    };
    let at = if bytes.get(at)? == &b'\r' { at + 1 } else { at };
    if bytes.get(at)? != &b'\n' {
        return None;
    }
    let scale = *TENS.get(places)?;
    let parts = whole * scale + fraction;
    if parts > scale {
        return None;
    }
    let percent_steps = u32::try_from(parts * (PERCENT_STEPS / scale)).ok()?;
    // Both are whole numbers that a float holds exactly, so the quotient is the float nearest to the decimal.
    let percent_clean = parts as f64 / scale as f64;
    Some((Tick { tick: tick.cast_signed(), tooth, percent_clean, percent_steps }, at + 1))
}

const TENS: [u64; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// The number of one to `max` digits at `from`, and where it ends.
#[inline]
fn digits(bytes: &[u8], from: usize, max: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut at = from;
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    // More digits than fit wrap around, and are refused here.
    (at > from && at - from <= max).then_some((value, at))
}

#[inline]
fn comma(bytes: &[u8], at: usize) -> Option<usize> {
    (bytes.get(at)? == &b',').then_some(at + 1)
}

/// The columns of `brushing.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    delimiter: u8,
    /// The places of tick, tooth and percentage.
    places: [Option<usize>; 3],
}

/// The fields, as a header names them.
pub const TICK_FIELDS: [&str; 3] = ["tick", "tooth", "percent_clean"];

impl Default for Columns {
    fn default() -> Self {
        Columns { delimiter: b',', places: [Some(0), Some(1), Some(2)] }
    }
}

impl Columns {
    /// Looks at the first line: the columns, and whether it is a header, which any of their names makes it.
    pub fn seen(first: &[u8]) -> (Columns, bool) {
        let count = |delimiter: u8| memchr::memchr_iter(delimiter, first).count();
        let delimiter = [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',');
        let named: Vec<&[u8]> = first.split(|byte| *byte == delimiter).map(unquoted).collect();
        let places = TICK_FIELDS.map(|name| named.iter().position(|column| column.eq_ignore_ascii_case(name.as_bytes())));
        let header = places.iter().any(Option::is_some);
        (if header { Columns { delimiter, places } } else { Columns { delimiter, ..Columns::default() } }, header)
    }

    /// Whether lines may be looked at by [`plain_tick`].
    pub fn are_plain(&self) -> bool {
        *self == Columns::default()
    }

    /// The record of a line, or why it is none.
    pub fn read(&self, line: &[u8], rules: &Rules) -> Result<Tick, Reason> {
        let mut fields = [None; 3];
        for (column, text) in line.split(|byte| *byte == self.delimiter).enumerate() {
            for (field, place) in fields.iter_mut().zip(self.places) {
                if place == Some(column) {
                    *field = Some(unquoted(text));
                }
            }
        }
        let [Some(tick), Some(tooth), Some(percent)] = fields else { return Err(Reason::NoColumns) };
        let tick = whole(tick).ok_or(Reason::Tick)?;
        let tooth = whole(tooth).and_then(|tooth| u32::try_from(tooth).ok()).filter(|tooth| *tooth < rules.teeth).ok_or(Reason::Tooth)?;
        let percent_clean = std::str::from_utf8(percent).ok().and_then(share).ok_or(Reason::PercentClean)?;
        Ok(Tick { tick, tooth, percent_clean, percent_steps: steps(percent_clean) })
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1,000,000,000")]
fn steps(share: f64) -> u32 {
    (share * PERCENT_STEPS as f64).round() as u32
}

/// Without the spaces and quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// A whole number from 0 that a point can hold.
fn whole(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0i64, |value, digit| value.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
}

/// A number from 0 to 1. Zero loses its sign.
fn share(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&value).then_some(value + 0.0)
}

impl Setting {
    /// The record of a line, or why it is none. `accept_until`: a later time is out of range.
    pub fn read(line: &[u8], rules: &Rules, accept_until: Moment) -> Result<Setting, Reason> {
        let texts = Texts::read(line).ok_or(Reason::NoObject)?;
        let time_ns = texts.time.and_then(|time| i64::try_from(scaled(time.as_bytes(), 9)?).ok());
        let in_range = |time_ns: &i64| *time_ns >= Moment::FIRST.0 && time_ns / 1_000 <= accept_until.0.min(Moment::LAST.0);
        let time_ns = time_ns.filter(in_range).ok_or(Reason::Time)?;
        let tick = texts.tick.and_then(|tick| whole(tick.as_bytes())).ok_or(Reason::Tick)?;
        // What is given must be good, and something must be given.
        let battery = texts.battery.map(|text| json_number(text).and_then(share).ok_or(Reason::Battery)).transpose()?;
        let interval = texts.interval.map(|text| Interval::read(text, rules).ok_or(Reason::TickInterval)).transpose()?;
        if battery.is_none() && interval.is_none() {
            return Err(Reason::NoValues);
        }
        Ok(Setting { tick, time_ns, battery, interval })
    }
}

impl Interval {
    fn read(text: &str, rules: &Rules) -> Option<Interval> {
        let fs = scaled(text.as_bytes(), 15).filter(|fs| (1..=rules.tick_interval_max_fs).contains(fs))?;
        let seconds: f64 = json_number(text)?.parse().ok()?;
        // The maximum itself is in range; the least bit above it is not.
        (seconds * 1e15 <= rules.tick_interval_max_fs as f64).then_some(Interval { seconds, fs })
    }
}

/// The text of a JSON value, when that is a number.
fn json_number(text: &str) -> Option<&str> {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(text)
}

/// The values that matter, as text.
#[derive(Default)]
struct Texts<'a> {
    time: Option<&'a str>,
    tick: Option<&'a str>,
    battery: Option<&'a str>,
    interval: Option<&'a str>,
}

impl<'a> Texts<'a> {
    /// The values of an object, when a line is one.
    fn read(line: &'a [u8]) -> Option<Texts<'a>> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let texts = (&mut deserializer).deserialize_map(Texts::default()).ok()?;
        deserializer.end().ok()?;
        Some(texts)
    }
}

impl<'de> Visitor<'de> for Texts<'de> {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let slot = match key.as_ref() {
                "time" | "timestamp" | "unix_time" => &mut self.time,
                "tick" => &mut self.tick,
                "battery" | "battery_level" => &mut self.battery,
                "tick_interval" | "interval" => &mut self.interval,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let text = map.next_value::<&'de RawValue>()?.get();
            *slot = Some(text).filter(|text| *text != "null");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::settings;
    use retally_core::contract::Settings;
    use std::sync::LazyLock;

    /// Made once: a calendar takes a while.
    fn rules() -> &'static Rules {
        static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::read(&Settings::defaults(&settings())).unwrap());
        &RULES
    }

    fn tick(line: &str) -> Option<(i64, u32, f64)> {
        let read = Columns::default().read(line.as_bytes(), rules());
        // The fast way is the same, or none.
        if let Some((plain, length)) = plain_tick(format!("{line}\n").as_bytes(), 32) {
            assert_eq!((Ok(plain), length), (read, line.len() + 1), "{line}");
        }
        read.ok().map(|tick| (tick.tick, tick.tooth, tick.percent_clean))
    }

    #[test]
    fn ticks() {
        assert_eq!(tick("0,0,0"), Some((0, 0, 0.0)));
        assert_eq!(tick("12,31,1.0"), Some((12, 31, 1.0)));
        assert_eq!(tick(" 12 , 31 , 0.123456789 "), Some((12, 31, 0.123_456_789)));
        assert_eq!(tick("9223372036854775807,1,1e-3"), Some((i64::MAX, 1, 0.001)));
        assert_eq!(tick("1,1,-0.0"), Some((1, 1, 0.0)));
        assert_eq!(tick("1,1,0.5,more"), Some((1, 1, 0.5)));
        assert_eq!(tick("\"1\",\"1\",\"0.5\""), Some((1, 1, 0.5)));
        for line in [
            "",
            "x",
            "1",
            "1,2",
            "1,,0.5",
            "-1,1,0.5",
            "1.0,1,0.5",
            "1,32,0.5",
            "1,-1,0.5",
            "1,1,1.1",
            "1,1,1.000000001",
            "1,1,-0.1",
            "1,1,NaN",
            "1,1,inf",
            "9223372036854775808,1,0.5",
            "99999999999999999999999,1,0.5",
            "1,99999999999,0.5",
            "+1,1,0.5",
            "1,1,2",
            "1;1;0.5",
            "1,1,0.5\u{fffd}",
            "{\"tick\":1}",
        ] {
            assert_eq!(tick(line), None, "{line}");
        }
        assert_eq!(Columns::default().read(b"1,1,0.\xff5", rules()), Err(Reason::PercentClean));
        for percent in 0..=10_000u32 {
            let text = format!("7,1,{}", f64::from(percent) / 10_000.0);
            assert_eq!(tick(&text), Some((7, 1, f64::from(percent) / 10_000.0)));
        }
    }

    #[test]
    fn headers_name_columns_in_any_order() {
        let (columns, header) = Columns::seen(b"x;Tooth;\"percent_clean\"; TICK");
        assert!(header && !columns.are_plain());
        assert_eq!(columns.read(b"a;3;0.5;7", rules()).map(|tick| (tick.tick, tick.tooth)), Ok((7, 3)));
        assert_eq!(Columns::seen(b"tick,tooth,percent_clean"), (Columns::default(), true));
        assert_eq!(Columns::seen(b"0,1,0.5"), (Columns::default(), false));
        let (columns, header) = Columns::seen(b"0\t1\t0.5");
        assert!(!header && columns.read(b"0\t1\t0.5", rules()).is_ok());
        assert_eq!(Columns::seen(b"tick,tooth").0.read(b"1,1,0.5", rules()), Err(Reason::NoColumns), "a header without a column");
    }

    fn setting(line: &str) -> Option<(i64, i64, Option<f64>, Option<f64>)> {
        let read = Setting::read(line.as_bytes(), rules(), Moment::LAST);
        read.ok().map(|setting| (setting.tick, setting.time_ns, setting.battery, setting.interval.map(|interval| interval.seconds)))
    }

    #[test]
    fn settings_lines() {
        let full = Some((3, 1_500_000_000, Some(0.5), Some(0.1)));
        assert_eq!(setting(r#"{"time":1.5,"tick":3,"battery":0.5,"tick_interval":0.1}"#), full);
        assert_eq!(setting(r#" {"timestamp":1.5,"tick":3,"battery_level":0.5,"interval":0.1,"x":{"tick":[9]}} "#), full);
        assert_eq!(setting(r#"{"unix_time":15e-1,"tick":3,"battery":0.5,"interval":1e-1}"#), full);
        assert_eq!(setting(r#"{"time":1,"tick":3,"battery":1}"#), Some((3, 1_000_000_000, Some(1.0), None)));
        assert_eq!(setting(r#"{"time":1,"tick":3,"battery":null,"interval":60}"#), Some((3, 1_000_000_000, None, Some(60.0))));
        for line in [
            "",
            "[]",
            "1",
            "null",
            "x",
            r#"{"time":1,"tick":3}"#,
            r#"{"tick":3,"battery":0.5}"#,
            r#"{"time":1,"battery":0.5}"#,
            r#"{"time":1,"tick":-3,"battery":0.5}"#,
            r#"{"time":1,"tick":3.5,"battery":0.5}"#,
            r#"{"time":1,"tick":"3","battery":0.5}"#,
            r#"{"time":"1","tick":3,"battery":0.5}"#,
            r#"{"time":1,"tick":3,"battery":1.5}"#,
            r#"{"time":1,"tick":3,"battery":"0.5"}"#,
            r#"{"time":1,"tick":3,"battery":NaN}"#,
            r#"{"time":1,"tick":3,"battery":true}"#,
            r#"{"time":1,"tick":3,"interval":0}"#,
            r#"{"time":1,"tick":3,"interval":-1}"#,
            r#"{"time":1,"tick":3,"interval":60.0001}"#,
            r#"{"time":1,"tick":3,"interval":1e999}"#,
            r#"{"time":-1,"tick":3,"battery":0.5}"#,
            r#"{"time":1e10,"tick":3,"battery":0.5}"#,
            r#"{"time":1e300,"tick":3,"battery":0.5}"#,
            r#"{"time":1,"tick":3,"battery":0.5} x"#,
            r#"{"time":1,"tick":3,"battery":0.5"#,
            r#"{"time":1,"tick":3,"battery":0.5,"interval":0}"#,
            r#"{"time":1,"tick":99999999999999999999,"battery":0.5}"#,
        ] {
            assert_eq!(setting(line), None, "{line}");
        }
    }

    #[test]
    fn lines_that_are_no_record_say_why() {
        for (line, reason) in [
            ("1,2", Reason::NoColumns),
            ("-1,1,0.5", Reason::Tick),
            ("1,32,0.5", Reason::Tooth),
            ("1,3,10", Reason::PercentClean),
            ("x,99,10", Reason::Tick),
        ] {
            assert_eq!(Columns::default().read(line.as_bytes(), rules()), Err(reason), "{line}");
        }
        for (line, reason) in [
            ("[]", Reason::NoObject),
            (r#"{"tick":3,"battery":0.5}"#, Reason::Time),
            (r#"{"time":-1,"tick":3,"battery":0.5}"#, Reason::Time),
            (r#"{"time":1,"tick":3.5,"battery":0.5}"#, Reason::Tick),
            (r#"{"time":1,"tick":3,"battery":1.5}"#, Reason::Battery),
            (r#"{"time":1,"tick":3,"interval":61}"#, Reason::TickInterval),
            (r#"{"time":1,"tick":3}"#, Reason::NoValues),
        ] {
            assert_eq!(Setting::read(line.as_bytes(), rules(), Moment::LAST), Err(reason), "{line}");
        }
    }

    #[test]
    fn times_ahead_of_the_clock_are_out_of_range() {
        let read = |until| Setting::read(br#"{"time":10,"tick":3,"battery":0.5}"#, rules(), Moment(until)).is_ok();
        assert!(read(10_000_000) && !read(9_999_999));
    }
}
