//! The lines of the two streams: what they hold, or that they hold nothing.

use crate::decimal::scaled;
use crate::settings::Rules;
use crate::skipped::Reason;
use retally_core::fields::number_with_comma;
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

/// Which times are accepted: nanoseconds, the ends too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    from_ns: i64,
    until_ns: i64,
}

impl Accepted {
    /// Those of both moments and between them, in the years that a moment can be in.
    pub fn new(from: Moment, until: Moment) -> Accepted {
        let ns = |moment: Moment| moment.0.saturating_mul(1_000);
        Accepted { from_ns: ns(from.max(Moment::FIRST)), until_ns: ns(until.min(Moment::LAST)).saturating_add(999) }
    }

    /// Whether a time is accepted.
    #[inline]
    pub fn has(&self, time_ns: i64) -> bool {
        (self.from_ns..=self.until_ns).contains(&time_ns)
    }
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
    /// How many a line has.
    count: usize,
}

/// The fields, as a header names them.
pub const TICK_FIELDS: [&str; 3] = ["tick", "tooth", "percent_clean"];
/// What may stand between columns, the usual one first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// What an error shows of a header.
const COLUMNS_SHOWN_MAX: usize = 40;
const COLUMN_CHARS_SHOWN_MAX: usize = 60;

impl Default for Columns {
    fn default() -> Self {
        Columns { delimiter: b',', places: [Some(0), Some(1), Some(2)], count: TICK_FIELDS.len() }
    }
}

impl Columns {
    /// Looks at the first line: the columns, and whether it is a header, which any of their names makes it, and so do as many other names.
    /// The delimiter is the one under which it names the fields, or makes the most columns. A field that is named twice has no place.
    pub fn seen(first: &[u8]) -> (Columns, bool) {
        let count = |delimiter: u8| memchr::memchr_iter(delimiter, first).count();
        let named = |delimiter: u8| TICK_FIELDS.iter().filter(|name| places_of(name, first, delimiter).next().is_some()).count();
        let best = DELIMITERS.into_iter().rev().max_by_key(|delimiter| (named(*delimiter), count(*delimiter)));
        let delimiter = best.unwrap_or(b',');
        let mut columns = first.split(|byte| *byte == delimiter);
        let count_of_header = columns.clone().count();
        if named(delimiter) == 0 {
            return match count_of_header >= TICK_FIELDS.len() && columns.all(is_name) {
                true => (Columns { delimiter, places: [None; 3], count: count_of_header }, true),
                false => (Columns { delimiter, ..Columns::default() }, false),
            };
        }
        let only = |name| {
            let mut places = places_of(name, first, delimiter);
            places.next().filter(|_| places.next().is_none())
        };
        (Columns { delimiter, places: TICK_FIELDS.map(only), count: count_of_header }, true)
    }

    /// Why no line can be read below this header, where that is so: what it lacks, and the columns that may be meant.
    pub fn fault(&self, header: &[u8]) -> Option<String> {
        let columns: Vec<String> = header
            .split(|byte| *byte == self.delimiter)
            .map(|column| String::from_utf8_lossy(unquoted(column)).chars().take(COLUMN_CHARS_SHOWN_MAX).collect())
            .collect();
        let is_field = |column: &&String| TICK_FIELDS.iter().any(|name| name.eq_ignore_ascii_case(column));
        let free: Vec<&String> = columns.iter().filter(|column| !is_field(column)).collect();
        let mut faults = Vec::new();
        for (name, _) in TICK_FIELDS.iter().zip(self.places).filter(|(_, place)| place.is_none()) {
            if places_of(name, header, self.delimiter).next().is_some() {
                faults.push(format!("names {name} twice"));
                continue;
            }
            let meant = free.iter().find(|column| is_like(name, column)).map(|column| format!(" (perhaps {column:?} is meant)"));
            faults.push(format!("does not name {name}{}", meant.unwrap_or_default()));
        }
        if faults.is_empty() {
            return None;
        }
        let mut shown = columns.iter().take(COLUMNS_SHOWN_MAX).map(|column| format!("{column:?}")).collect::<Vec<_>>().join(", ");
        if columns.len() > COLUMNS_SHOWN_MAX {
            shown.push_str(", …");
        }
        Some(format!("the header {} ({shown})", faults.join(" and ")))
    }

    /// Whether lines may be looked at by [`plain_tick`].
    pub fn are_plain(&self) -> bool {
        *self == Columns::default()
    }

    /// The record of a line, or why it is none.
    pub fn read(&self, line: &[u8], rules: &Rules) -> Result<Tick, Reason> {
        if self.places.contains(&None) {
            return Err(Reason::NoColumns);
        }
        let mut fields = [None; 3];
        let mut columns = 0;
        for (column, text) in line.split(|byte| *byte == self.delimiter).enumerate() {
            // An empty one too many is a delimiter at the end of the line.
            if column > self.count || (column == self.count && !text.trim_ascii().is_empty()) {
                return Err(Reason::TooManyColumns);
            }
            columns = column + 1;
            for (field, place) in fields.iter_mut().zip(self.places) {
                if place == Some(column) {
                    *field = Some(unquoted(text));
                }
            }
        }
        let [Some(tick), Some(tooth), Some(percent)] = fields else { return Err(Reason::NoColumns) };
        if columns < self.count {
            return Err(Reason::TooFewColumns);
        }
        let tick = whole(tick).ok_or(Reason::Tick)?;
        let tooth = whole(tooth).and_then(|tooth| u32::try_from(tooth).ok()).filter(|tooth| *tooth < rules.teeth).ok_or(Reason::Tooth)?;
        let percent_clean = std::str::from_utf8(percent).ok().and_then(share);
        let with_comma = || number_with_comma(percent).filter(|_| self.delimiter == b';').and_then(in_share);
        let percent_clean = percent_clean.or_else(with_comma).ok_or(Reason::PercentClean)?;
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

/// The columns of a header that name a field.
fn places_of<'h>(name: &'h str, header: &'h [u8], delimiter: u8) -> impl Iterator<Item = usize> + 'h {
    let columns = header.split(move |byte| *byte == delimiter).map(unquoted).enumerate();
    columns.filter(|(_, column)| column.eq_ignore_ascii_case(name.as_bytes())).map(|(place, _)| place)
}

/// Whether a cell can be the name of a column, and no value.
fn is_name(cell: &[u8]) -> bool {
    let Ok(cell) = std::str::from_utf8(unquoted(cell)) else { return false };
    cell.starts_with(char::is_alphabetic) && cell.parse::<f64>().is_err()
}

/// Whether a column may be one that is called otherwise: `percent` for `percent_clean`, `Tooth-ID` for `tooth`.
fn is_like(name: &str, column: &str) -> bool {
    const CHARS_LEAST: usize = 3;
    let bare = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase();
    let (name, column) = (bare(name), bare(column));
    column.len() >= CHARS_LEAST && (name.contains(&column) || column.contains(&name))
}

/// A number from 0 to 1.
fn share(text: &str) -> Option<f64> {
    in_share(text.parse().ok()?)
}

/// A value from 0 to 1. Zero loses its sign.
fn in_share(value: f64) -> Option<f64> {
    (0.0..=1.0).contains(&value).then_some(value + 0.0)
}

impl Setting {
    /// The record of a line, or why it is none.
    pub fn read(line: &[u8], rules: &Rules, accepted: &Accepted) -> Result<Setting, Reason> {
        let [time, tick, battery, interval] = texts(line)?;
        let time_ns = time.and_then(|time| i64::try_from(scaled(time.as_bytes(), 9)?).ok());
        let time_ns = time_ns.filter(|time_ns| (Moment::FIRST.0..=accepted.until_ns).contains(time_ns)).ok_or(Reason::Time)?;
        if !accepted.has(time_ns) {
            return Err(Reason::TimeTooEarly);
        }
        let tick = tick.and_then(|tick| whole(tick.as_bytes())).ok_or(Reason::Tick)?;
        // What is given must be good, and something must be given.
        let battery = battery.map(|text| json_number(text).and_then(share).ok_or(Reason::Battery)).transpose()?;
        let interval = interval.map(|text| Interval::read(text, rules).ok_or(Reason::TickInterval)).transpose()?;
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

/// The keys of the values that matter, by value; of several, the first counts.
const KEYS: [&[&str]; 4] = [&["time", "timestamp", "unix_time"], &["tick"], &["battery", "battery_level"], &["tick_interval", "interval"]];

/// The values of an object under these keys as text, when a line is one.
fn texts(line: &[u8]) -> Result<[Option<&str>; KEYS.len()], Reason> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let found = (&mut deserializer).deserialize_map(Found::default()).map_err(|_| Reason::NoObject)?;
    deserializer.end().map_err(|_| Reason::NoObject)?;
    if found.any_twice { Err(Reason::KeyTwice) } else { Ok(found.texts.map(|text| text.map(|(_, text)| text))) }
}

/// What was found of an object.
#[derive(Default)]
struct Found<'a> {
    /// The texts, each with the rank of its key.
    texts: [Option<(usize, &'a str)>; KEYS.len()],
    /// The keys that were there, a bit each.
    seen: [u8; KEYS.len()],
    any_twice: bool,
}

impl<'de> Visitor<'de> for Found<'de> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let slots = self.texts.iter_mut().zip(&mut self.seen).zip(KEYS);
            let mut known = slots.filter_map(|(slot, names)| Some((slot, names.iter().position(|name| *name == key)?)));
            let Some(((slot, seen), rank)) = known.next() else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.any_twice |= *seen >> rank & 1 == 1;
            *seen |= 1 << rank;
            let text = map.next_value::<&'de RawValue>()?.get();
            if text != "null" && slot.is_none_or(|(known, _)| rank < known) {
                *slot = Some((rank, text));
            }
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

    const ALL: Accepted = Accepted { from_ns: 0, until_ns: 7_289_654_400_000_000_000 - 1 };

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
        assert_eq!(tick("1,1,0.5,"), Some((1, 1, 0.5)));
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
            "1,1,0,5",
            "1,1,0.5,,",
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

    #[test]
    fn a_line_has_as_many_columns_as_the_header() {
        let read = |first: &str, line: &str| Columns::seen(first.as_bytes()).0.read(line.as_bytes(), rules()).map(|tick| tick.tick);
        for (line, expected) in [
            ("7,3,0.5,x", Ok(7)),
            ("7,3,0.5,", Ok(7)),
            ("7,3,0.5,x,", Ok(7)),
            ("7,3,0.5", Err(Reason::TooFewColumns)),
            ("7,3,0.5,x,y", Err(Reason::TooManyColumns)),
            ("7,3,0,5,x", Err(Reason::TooManyColumns)),
            ("7,3", Err(Reason::NoColumns)),
        ] {
            assert_eq!(read("tick,tooth,percent_clean,note", line), expected, "{line}");
        }
        assert_eq!(read("0,3,0.5", "8,3,0,5"), Err(Reason::TooManyColumns), "a decimal comma");
    }

    /// Lines are not read by place below names that are not known.
    #[test]
    fn other_names_are_a_header_too() {
        for (first, header) in [
            ("zahn,zeit,sauber", true),
            ("\"a\";b 2;c_3", true),
            ("garbage", false),
            ("x,y", false),
            ("a,b,1", false),
            ("nan,inf,x", false),
            ("a,,b", false),
        ] {
            let (columns, found) = Columns::seen(first.as_bytes());
            assert_eq!(found, header, "{first}");
            assert_eq!(columns.fault(first.as_bytes()).is_some(), header, "{first}");
        }
    }

    #[test]
    fn a_header_that_lacks_a_column_says_which_and_what_may_be_meant() {
        let fault = |header: &str| Columns::seen(header.as_bytes()).0.fault(header.as_bytes());
        assert_eq!(fault("tick,tooth,percent_clean"), None);
        assert_eq!(
            fault("tick,tooth,percent").unwrap(),
            "the header does not name percent_clean (perhaps \"percent\" is meant) (\"tick\", \"tooth\", \"percent\")"
        );
        assert_eq!(fault("tick;zahn").unwrap(), "the header does not name tooth and does not name percent_clean (\"tick\", \"zahn\")");
        let twice = "tick,tooth,tooth,percent_clean";
        assert!(fault(twice).unwrap().starts_with("the header names tooth twice ("));
        assert_eq!(Columns::seen(twice.as_bytes()).0.read(b"1,1,2,0.5", rules()), Err(Reason::NoColumns));
        assert!(fault(&"tick,".repeat(500)).unwrap().len() < 1_000);
    }

    #[test]
    fn a_comma_is_a_point_where_semicolons_stand_between_columns() {
        let read = |first: &str, line: &str| {
            let read = Columns::seen(first.as_bytes()).0.read(line.as_bytes(), rules());
            read.map(|tick| (tick.tick, tick.percent_clean, tick.percent_steps))
        };
        for first in ["0;3;0,5", "tick;tooth;percent_clean", "a,b,c,d;tick;tooth;percent_clean"] {
            let line = if first.starts_with('a') { "x;7;3;0,25" } else { "7;3;0,25" };
            assert_eq!(read(first, line), Ok((7, 0.25, 250_000_000)), "{first}");
        }
        assert_eq!(read("0;3;0,5", "7;3;1,5"), Err(Reason::PercentClean));
        assert_eq!(read("0|3|0.5", "7|3|0.5"), Ok((7, 0.5, 500_000_000)));
        assert_eq!(read("0\t3\t0.5", "7\t3\t0,5"), Err(Reason::PercentClean), "with tabs it may be anything");
    }

    fn setting(line: &str) -> Option<(i64, i64, Option<f64>, Option<f64>)> {
        let read = Setting::read(line.as_bytes(), rules(), &ALL);
        read.ok().map(|setting| (setting.tick, setting.time_ns, setting.battery, setting.interval.map(|interval| interval.seconds)))
    }

    #[test]
    fn settings_lines() {
        let full = Some((3, 1_500_000_000, Some(0.5), Some(0.1)));
        assert_eq!(setting(r#"{"time":1.5,"tick":3,"battery":0.5,"tick_interval":0.1}"#), full);
        assert_eq!(setting(r#" {"timestamp":1.5,"tick":3,"battery_level":0.5,"interval":0.1,"x":{"tick":[9]}} "#), full);
        assert_eq!(setting(r#"{"unix_time":15e-1,"tick":3,"battery":0.5,"interval":1e-1}"#), full);
        assert_eq!(setting(r#"{"unix_time":9,"time":1.5,"timestamp":7,"tick":3,"battery":0.5,"interval":9,"tick_interval":0.1}"#), full);
        assert_eq!(setting(r#"{"unix_time":1.5,"time":null,"tick":3,"battery":0.5,"interval":0.1}"#), full);
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
            (r#"{"time":1,"tick":3,"battery":0.5,"tick":4}"#, Reason::KeyTwice),
            (r#"{"tick":3,"battery":0.5}"#, Reason::Time),
            (r#"{"time":-1,"tick":3,"battery":0.5}"#, Reason::Time),
            (r#"{"time":1,"tick":3.5,"battery":0.5}"#, Reason::Tick),
            (r#"{"time":1,"tick":3,"battery":1.5}"#, Reason::Battery),
            (r#"{"time":1,"tick":3,"interval":61}"#, Reason::TickInterval),
            (r#"{"time":1,"tick":3}"#, Reason::NoValues),
        ] {
            assert_eq!(Setting::read(line.as_bytes(), rules(), &ALL), Err(reason), "{line}");
        }
    }

    #[test]
    fn times_ahead_of_the_clock_are_out_of_range() {
        let read = |until| Setting::read(br#"{"time":10,"tick":3,"battery":0.5}"#, rules(), &Accepted::new(Moment::FIRST, Moment(until)));
        assert!(read(10_000_000).is_ok() && read(9_999_999) == Err(Reason::Time));
    }

    #[test]
    fn times_of_a_clock_that_was_never_set_are_refused() {
        let read = |time: &str, from| {
            let line = format!(r#"{{"time":{time},"tick":3,"battery":0.5}}"#);
            Setting::read(line.as_bytes(), rules(), &Accepted::new(from, Moment::LAST)).map(|setting| setting.time_ns)
        };
        let first = Moment::NOT_BEFORE;
        assert_eq!(read("946684800", first), Ok(946_684_800_000_000_000));
        assert_eq!(read("946684799.999999999", first), Err(Reason::TimeTooEarly));
        assert_eq!(read("12", first), Err(Reason::TimeTooEarly));
        assert_eq!(read("12", Moment::FIRST), Ok(12_000_000_000));
        assert_eq!(read("-12", Moment(-20_000_000)), Err(Reason::Time));
    }
}
