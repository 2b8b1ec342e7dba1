//! The fields of a record: texts by place, and the values that they hold.

use crate::calendar::Naming;
use crate::context::Context;
use crate::field::{Field, Refusal};
use crate::texts::{self, Interner};
use crate::time::{self, Moment, TimeError, Written};
use crate::time_format::TimeFormat;
use uuid::Uuid;

/// The fields of one record, by place in [`Record::FIELDS`](crate::record::Record::FIELDS). A field that is not there is empty.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    declared: &'static [Field],
    slots: &'a [&'a [u8]],
    /// Whether a comma may stand for the point of a number.
    decimal_comma: bool,
    /// Which fields are times that are known as such, and no texts in a format of people's own: a bit for each place.
    typed_times: u64,
}

impl<'a> Fields<'a> {
    /// Fields of a record that declares `declared`.
    pub fn new(declared: &'static [Field], slots: &'a [&'a [u8]]) -> Fields<'a> {
        Fields { declared, slots, decimal_comma: false, typed_times: 0 }
    }

    /// Numbers may have a comma for a point.
    #[must_use]
    pub fn with_decimal_comma(self, decimal_comma: bool) -> Fields<'a> {
        Fields { decimal_comma, ..self }
    }

    /// The fields of these places, a bit for each, are times as they are usually written, whatever format is said of them.
    #[must_use]
    pub fn with_typed_times(self, typed_times: u64) -> Fields<'a> {
        Fields { typed_times, ..self }
    }

    /// Whether a comma may stand for the point of a number.
    pub fn has_decimal_comma(&self) -> bool {
        self.decimal_comma
    }

    /// The text of a field, without the spaces around it.
    pub fn text(&self, place: usize) -> &'a [u8] {
        self.slots.get(place).copied().unwrap_or_default().trim_ascii()
    }

    /// The texts of all fields with commas between, as a line of CSV has them.
    pub fn joined(&self) -> Vec<u8> {
        self.slots.join(&b',')
    }

    /// A text that must be there.
    pub fn required_text(&self, place: usize) -> Result<&'a str, Refusal> {
        match std::str::from_utf8(self.text(place)) {
            Ok("") => Err(self.refusal(place, "is missing")),
            Ok(text) => Ok(text),
            Err(_) => Err(self.refusal(place, "is no UTF-8 (--encoding names another encoding)")),
        }
    }

    /// An unsigned 64-bit integer. One whose fraction is zero is read too: data frames write integers so where a column has holes.
    pub fn uint(&self, place: usize) -> Result<u64, Refusal> {
        let text = self.text(place);
        unsigned(text)
            .or_else(|| unsigned(without_zero_fraction(text, self.decimal_comma)?))
            .ok_or_else(|| self.refusal(place, "is no unsigned 64-bit integer"))
    }

    /// An id that is declared as an unsigned 64-bit integer.
    #[inline]
    pub fn id(&self, place: usize, context: &Context) -> Result<u64, Refusal> {
        match &context.ids {
            None => self.uint(place).map_err(|refusal| self.or_as_text(place, refusal)),
            Some(ids) => self.text_id(place, ids).map(texts::lower),
        }
    }

    /// An id that is declared as a UUID: 32 hexadecimal digits in either case, with hyphens or without.
    #[inline]
    pub fn uuid(&self, place: usize, context: &Context) -> Result<u128, Refusal> {
        match &context.ids {
            None => match Uuid::try_parse_ascii(self.text(place)) {
                Ok(uuid) => Ok(uuid.as_u128()),
                Err(_) => Err(self.or_as_text(place, self.refusal(place, "is no UUID"))),
            },
            Some(ids) => self.text_id(place, ids),
        }
    }

    /// An id that is a text: a number with a fraction of zeros is that integer, as data frames write it.
    pub fn id_text(&self, place: usize) -> Result<&'a str, Refusal> {
        let text = self.required_text(place)?;
        Ok(text.get(..id_text(text.as_bytes(), self.decimal_comma).len()).unwrap_or(text))
    }

    fn text_id(&self, place: usize, ids: &Interner) -> Result<u128, Refusal> {
        match ids.known(id_text(self.text(place), self.decimal_comma)) {
            Some(id) => Ok(id),
            None => self.new_text_id(place, ids),
        }
    }

    #[cold]
    fn new_text_id(&self, place: usize, ids: &Interner) -> Result<u128, Refusal> {
        let text = self.id_text(place)?;
        if text.len() > texts::BYTES_MAX {
            return Err(self.refusal(place, format!("is longer than {} bytes", texts::BYTES_MAX)));
        }
        ids.add(text).map_err(|same| format!("{} {same}", self.name(place)).into())
    }

    #[cold]
    fn or_as_text(&self, place: usize, refusal: Refusal) -> Refusal {
        if self.text(place).is_empty() { refusal } else { format!("{refusal} (--ids text takes any text)").into() }
    }

    /// A number, as a float.
    pub fn float(&self, place: usize) -> Result<f64, Refusal> {
        let text = self.text(place);
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.or_else(|| self.decimal_comma.then(|| number_with_comma(text))?).ok_or_else(|| self.refusal(place, "is no number"))
    }

    /// A time.
    pub fn time(&self, place: usize, context: &Context) -> Result<Moment, Refusal> {
        self.written(place, context).and_then(|written| context.calendar.moment(written)).map_err(|error| self.refusal(place, error))
    }

    /// A time; reports too whether what is written names it alone.
    pub fn time_naming(&self, place: usize, context: &Context) -> Result<(Moment, Naming), Refusal> {
        self.written(place, context).and_then(|written| context.calendar.moment_naming(written)).map_err(|error| self.refusal(place, error))
    }

    #[inline]
    fn written(&self, place: usize, context: &Context) -> Result<Written, TimeError> {
        let text = self.text(place);
        let format = context.mapping.rule(place).and_then(|rule| rule.time.as_ref());
        let format = format.filter(|_| self.typed_times >> place & 1 == 0);
        let written = match format {
            None => time::parse(text),
            Some(format) => format.parse(text),
        };
        let written = written.or_else(|error| self.written_with_comma(place, format, error))?;
        if written.offset.is_none() {
            context.noticed.local_time();
        }
        Ok(written)
    }

    /// A UNIX time with a comma for its point.
    #[cold]
    fn written_with_comma(&self, place: usize, format: Option<&TimeFormat>, error: TimeError) -> Result<Written, TimeError> {
        let text = self.text(place);
        if !self.decimal_comma || !is_fraction(text) {
            return Err(error);
        }
        let text = with_point(text);
        format.map_or_else(|| time::parse(&text), |format| format.parse(&text))
    }

    /// A time of which only the order counts: beyond the first or last moment that is accepted, `end`, it is that one.
    pub fn time_up_to(&self, end: Moment, place: usize, context: &Context) -> Result<Moment, Refusal> {
        let (read, is_early) = match self.written(place, context) {
            Ok(written) => (context.calendar.moment(written), written.is_early()),
            Err(error) => (Err(error), self.text(place).starts_with(b"-")),
        };
        match read {
            Err(TimeError::OutOfRange) if is_early == (end == Moment::FIRST) => Ok(end),
            moment => moment.map_err(|error| self.refusal(place, error)),
        }
    }

    /// Whether the field is empty, `NULL` or `\\N`.
    pub fn is_null(&self, place: usize) -> bool {
        let text = self.text(place);
        text.is_empty() || text == b"\\N" || text.eq_ignore_ascii_case(b"null")
    }

    /// A truth value: by the words that the field was given, or one of the usual pairs, in any case.
    pub fn bool(&self, place: usize, context: &Context) -> Result<bool, Refusal> {
        let text = self.text(place);
        if let Some(truth) = context.mapping.rule(place).and_then(|rule| rule.truth.as_ref()) {
            return truth.read(text).ok_or_else(|| self.refusal(place, "is none of the words that it was given"));
        }
        match text {
            b"true" | b"t" | b"1" => Ok(true),
            b"false" | b"f" | b"0" => Ok(false),
            _ => {
                let word = if self.decimal_comma && is_fraction(text) { usual_word(&with_point(text)) } else { usual_word(text) };
                word.ok_or_else(|| self.refusal(place, "is neither true nor false"))
            }
        }
    }

    fn name(&self, place: usize) -> &'static str {
        self.declared.get(place).map_or("field", |field| field.name)
    }

    /// The refusal of a field: its name, what it holds (shortened), and what is wrong with it.
    pub fn refusal(&self, place: usize, why: impl std::fmt::Display) -> Refusal {
        const SHOWN_CHARS_MAX: usize = 60;
        let (name, text) = (self.name(place), self.text(place));
        if text.is_empty() {
            return format!("{name} is missing").into();
        }
        let text = String::from_utf8_lossy(text);
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        format!("{name} {shown:?}{more} {why}").into()
    }
}

/// The digits of the greatest number.
const DIGITS_MAX: usize = 20;

fn unsigned(text: &[u8]) -> Option<u64> {
    // The parser would take a sign that the grammar does not have.
    text.first().filter(|first| first.is_ascii_digit())?;
    // It counts digits before it looks at them.
    let zeros = if text.len() > DIGITS_MAX { text.iter().take_while(|digit| **digit == b'0').count() } else { 0 };
    let text = text.get(zeros.min(text.len() - 1)..)?;
    atoi_simd::parse::<u64, false, false>(text).ok()
}

/// The integer before a fraction of zeros, which may stand behind a comma.
fn without_zero_fraction(text: &[u8], decimal_comma: bool) -> Option<&[u8]> {
    let point = text.iter().position(|byte| *byte == b'.' || (decimal_comma && *byte == b','))?;
    let (whole, fraction) = (text.get(..point)?, text.get(point + 1..)?);
    // Where commas are before fractions, points may be between thousands.
    if decimal_comma && text.get(point) == Some(&b'.') && fraction.len() == 3 {
        return None;
    }
    (!fraction.is_empty() && fraction.iter().all(|digit| *digit == b'0')).then_some(whole)
}

/// An id that may be any text: a number with a fraction of zeros is that integer, as everywhere, where nothing but that is written so.
#[inline]
pub(crate) fn id_text(text: &[u8], decimal_comma: bool) -> &[u8] {
    if !text.ends_with(b"0") {
        return text;
    }
    let is_integer =
        |whole: &&[u8]| whole.iter().all(u8::is_ascii_digit) && !whole.is_empty() && (*whole == b"0" || !whole.starts_with(b"0"));
    without_zero_fraction(text, decimal_comma).filter(is_integer).unwrap_or(text)
}

/// Whether a text is digits with one comma between them, and perhaps a minus before them.
#[cold]
fn is_fraction(text: &[u8]) -> bool {
    let mut parts = text.strip_prefix(b"-").unwrap_or(text).split(|byte| *byte == b',');
    let mut digits = || parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    digits() && digits() && parts.next().is_none()
}

/// A text with points where it has commas.
#[cold]
fn with_point(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if *byte == b',' { b'.' } else { *byte }).collect()
}

/// A number with a comma for its point, and perhaps with points between groups of three digits: `12,5`, `-1.234,5`. What could be read
/// otherwise (`1,234,5`, `1.23,4`) is none.
#[cold]
pub fn number_with_comma(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once(',')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (sign, magnitude) = match whole.strip_prefix(['-', '+']) {
        Some(magnitude) => (whole.get(..1)?, magnitude),
        None => ("", whole),
    };
    let mut groups = magnitude.split('.');
    let first = groups.next()?;
    let grouped = digits(first) && (magnitude == first || first.len() <= 3) && groups.all(|group| digits(group) && group.len() == 3);
    let exponent = fraction.find(['e', 'E']).unwrap_or(fraction.len());
    if !grouped || !digits(fraction.get(..exponent)?) {
        return None;
    }
    format!("{sign}{}.{fraction}", magnitude.replace('.', "")).parse().ok()
}

#[cold]
fn usual_word(word: &[u8]) -> Option<bool> {
    const YES: [&str; 7] = ["true", "t", "yes", "on", "online", "connected", "1.0"];
    const NO: [&str; 7] = ["false", "f", "no", "off", "offline", "disconnected", "0.0"];
    let among = |words: &[&str]| words.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word));
    if among(&YES) {
        Some(true)
    } else if among(&NO) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Mapping, Rule};

    const DECLARED: &[Field] = &[Field::new("value", "")];

    #[test]
    fn numbers_with_a_comma() {
        let float = |text: &str, comma| Fields::new(DECLARED, &[text.as_bytes()]).with_decimal_comma(comma).float(0).ok();
        for (text, expected) in [
            ("12,5", Some(12.5)),
            ("-1.234,5", Some(-1234.5)),
            ("1.234.567,25", Some(1_234_567.25)),
            ("0,5e-3", Some(0.0005)),
            ("12.5", Some(12.5)),
            ("1.234", Some(1.234)),
            ("1,234,5", None),
            ("1.23,4", None),
            ("1234.567,8", None),
            (",5", None),
            ("5,", None),
            ("12,5 V", None),
        ] {
            assert_eq!(float(text, true), expected, "{text}");
        }
        assert_eq!(float("12,5", false), None, "where the comma is what stands between cells");
    }

    #[test]
    fn ids_truth_values_and_times_with_a_comma() {
        let calendar = crate::calendar::Calendar::utc();
        let context = Context::new(calendar.clone(), DECLARED);
        let read = |text: &str, comma| {
            let slots = [text.as_bytes()];
            let fields = Fields::new(DECLARED, &slots).with_decimal_comma(comma);
            (fields.uint(0).ok(), fields.bool(0, &context).ok(), fields.time(0, &context).ok())
        };
        let time = |micros| (None, None, Some(Moment(micros)));
        for (text, expected) in [
            ("7,0", (Some(7), None, None)),
            ("7,00", (Some(7), None, None)),
            ("1,0", (Some(1), Some(true), None)),
            ("0,0", (Some(0), Some(false), None)),
            ("1772438400,5", time(1_772_438_400_500_000)),
            ("1772438400,0", (Some(1_772_438_400), None, Some(Moment(1_772_438_400_000_000)))),
            ("2026-03-02 08:00:00,5", time(1_772_438_400_500_000)),
        ] {
            assert_eq!(read(text, true), expected, "{text}");
        }
        for text in ["7,5", "7,", ",0", "1,0,0", "1.0,0", "1.772.438.400,5", "12345,5", "1,1", "true,0"] {
            assert_eq!(read(text, true), (None, None, None), "{text}");
        }
        for text in ["7,0", "1,0", "0,0", "1772438400,5"] {
            assert_eq!(read(text, false), (None, None, None), "{text}: where the comma is what stands between cells");
        }
        let rule = Rule { time: Some("unix_s".parse().unwrap()), ..Rule::default() };
        let context = Context { mapping: Mapping::default().with(DECLARED, 0, rule), ..Context::new(calendar, DECLARED) };
        let slots = [b"12,5".as_slice()];
        let time = |comma| Fields::new(DECLARED, &slots).with_decimal_comma(comma).time(0, &context);
        assert_eq!((time(true), time(false).is_err()), (Ok(Moment(12_500_000)), true));
    }

    #[test]
    fn integers_as_data_frames_write_them() {
        let uint = |text: &str| Fields::new(DECLARED, &[text.as_bytes()]).uint(0).ok();
        assert_eq!(
            ["7", "7.0", "7.000", "7.", "7.5", ".0", "-7.0", "7e0"].map(uint),
            [Some(7), Some(7), Some(7), None, None, None, None, None]
        );
        let zeros = "0".repeat(30);
        assert_eq!([format!("{zeros}7"), zeros.clone(), format!("{zeros}+7")].map(|text| uint(&text)), [Some(7), Some(0), None]);
        // Where a comma is before fractions, 7.000 may be 7,000.
        let uint = |text: &str| Fields::new(DECLARED, &[text.as_bytes()]).with_decimal_comma(true).uint(0).ok();
        assert_eq!(["7", "7.0", "7,0", "7,000", "7.000", "1.7"].map(uint), [Some(7), Some(7), Some(7), Some(7), None, None]);
    }
}
