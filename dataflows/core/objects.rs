//! JSON objects as fields.
//!
//! An object is read in one pass: keys are compared where they stand, what names no field is skipped by the parser, and values become the
//! texts that CSV would hold: strings without quotes, `null` as nothing, numbers in the shortest form that reads back the same. A number so
//! large that a float can't tell it from its neighbours is taken as it is written: it may be an id.
//!
//! # Limits
//! A key that stands twice is refused where it names a field; others are not looked at. A record has [`FIELDS_MAX`] fields at most.

use crate::context::Context;
use crate::field::{Field, Holds, Refusal};
use crate::fields::Fields;
use crate::keys::{Keys, Target};
use crate::noticed::Noticed;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// So many fields a record may have.
const FIELDS_MAX: usize = 8;
/// From 2^53 on floats pass over integers.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
/// Floats keep so many digits of a number.
const EXACT_DIGITS: usize = 15;

/// The text of a field, and the rank of the key that it stood under.
#[derive(Clone)]
struct Slot<'a> {
    text: Cow<'a, str>,
    rank: u8,
}

/// Reads the fields of an object, and gives them to `decode`.
pub(crate) fn decode<T>(
    object: &[u8],
    declared: &'static [Field],
    context: &Context,
    decode: impl FnOnce(Fields<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let mut slots = [const { Slot { text: Cow::Borrowed(""), rank: u8::MAX } }; FIELDS_MAX];
    assert!(declared.len() <= FIELDS_MAX, "records have {FIELDS_MAX} fields at most, and not {}", declared.len());
    for (place, value) in context.mapping.constants() {
        slots.get_mut(place).into_iter().for_each(|slot| slot.text = Cow::Borrowed(value));
    }
    let (mut named, is_inexact) = (0, Cell::new(false));
    let mut read = fill(&mut slots, object, declared, context, &mut named, Numbers::Floats(&is_inexact));
    if is_inexact.get() {
        // Numbers that are written with more digits than a float has are rare: only then all is read once more.
        slots.iter_mut().for_each(|slot| slot.rank = u8::MAX);
        read = fill(&mut slots, object, declared, context, &mut named, Numbers::Exact);
    }
    context.noticed.object(named);
    read.map_err(|error| refusal(&error))?;
    let texts = slots.each_ref().map(|slot| slot.text.as_bytes());
    decode(Fields::new(declared, texts.get(..declared.len()).unwrap_or_default()))
}

/// Reads an object into the slots of its fields.
fn fill<'a>(
    slots: &mut [Slot<'a>],
    object: &'a [u8],
    declared: &'static [Field],
    context: &Context,
    named: &mut u64,
    numbers: Numbers<'_>,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    let reader = Reader { keys: &context.keys, declared, noticed: &context.noticed, slots, named, numbers };
    (&mut deserializer).deserialize_map(reader).and_then(|()| deserializer.end())
}

/// How numbers are read that are no integers of 64 bits.
#[derive(Clone, Copy)]
enum Numbers<'r> {
    /// As floats; it is noted where that loses digits.
    Floats(&'r Cell<bool>),
    /// As they are written, where a float would lose digits.
    Exact,
}

/// Why a text is no record's object, with the column where that shows.
pub fn refusal(error: &serde_json::Error) -> Refusal {
    let text = without_place(error);
    match error.classify() {
        // Ours, of an object that is one.
        Category::Data if !text.starts_with("invalid") => format!("{text} (column {})", error.column()).into(),
        _ => format!("no JSON object: {text} (column {})", error.column()).into(),
    }
}

/// What a parser says, without the place in the line that it adds.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head).to_string()
}

/// Reads the values of an object into their slots.
struct Reader<'r, 'de> {
    keys: &'r Keys,
    declared: &'static [Field],
    noticed: &'r Noticed,
    slots: &'r mut [Slot<'de>],
    named: &'r mut u64,
    numbers: Numbers<'r>,
}

impl<'de> Reader<'_, 'de> {
    /// Takes the value of a key for a field. The error is why the field can't hold it.
    #[inline]
    fn take(&mut self, target: Target, value: Result<Cow<'de, str>, Shape>) -> Result<(), String> {
        *self.named |= bit(target.place);
        match (value, self.slots.get_mut(target.place)) {
            (Ok(text), Some(slot)) if target.rank < slot.rank && !text.is_empty() => *slot = Slot { text, rank: target.rank },
            // Under another name than its own, an object or a list is something else.
            (Err(shape), _) if target.rank == 0 => return Err(shape.refusal(self.name(target))),
            _ => {}
        }
        Ok(())
    }

    fn name(&self, target: Target) -> &'static str {
        self.declared.get(target.place).map_or("", |field| field.name)
    }
}

/// The bit of a place in a set of them; none for a place beyond.
fn bit(place: usize) -> u64 {
    u32::try_from(place).ok().and_then(|place| 1u64.checked_shl(place)).unwrap_or(0)
}

impl<'de> Visitor<'de> for Reader<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = 0u64;
        // Keys come in the same order, mostly.
        let mut next = 0;
        while let Some(found) = map.next_key_seed(Key { keys: self.keys, next, noticed: self.noticed })? {
            let Some((place, entry)) = found.and_then(|place| Some((place, self.keys.entries.get(place)?))) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & bit(place) != 0 {
                return Err(A::Error::custom(format_args!("the key {:?} stands twice", entry.key)));
            }
            seen |= bit(place);
            next = place + 1;
            if let (false, Numbers::Floats(_)) = (entry.raw, self.numbers) {
                let value = map.next_value_seed(Scalar(self.numbers))?;
                let Some((last, others)) = entry.targets.split_last() else { continue };
                others.iter().try_for_each(|target| self.take(*target, value.clone())).map_err(A::Error::custom)?;
                self.take(*last, value).map_err(A::Error::custom)?;
                continue;
            }
            let raw = map.next_value::<&'de RawValue>()?.get();
            for target in &entry.targets {
                let holds = self.declared.get(target.place).map_or(Holds::Other, |field| field.holds);
                let value = match value_of(raw, holds) {
                    Ok(Err(_)) if target.nested => Ok(Cow::Borrowed(raw)),
                    Ok(value) => value,
                    Err(error) => {
                        let (name, why) = (self.name(*target), without_place(&error));
                        return Err(A::Error::custom(format_args!("{name} is no valid text: {why}")));
                    }
                };
                self.take(*target, value).map_err(A::Error::custom)?;
            }
            if !entry.inner.entries.is_empty() && raw.starts_with('{') {
                let mut inner = serde_json::Deserializer::from_str(raw);
                let reader = Reader {
                    keys: &entry.inner,
                    declared: self.declared,
                    noticed: self.noticed,
                    slots: self.slots,
                    named: self.named,
                    numbers: self.numbers,
                };
                inner.deserialize_map(reader).map_err(|error| A::Error::custom(format_args!("{:?}: {}", entry.key, refusal(&error))))?;
            }
        }
        Ok(())
    }
}

/// What stands where a single value belongs.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Object,
    List,
}

impl Shape {
    fn refusal(self, name: &str) -> String {
        match self {
            Shape::Object => format!("{name} holds an object and no single value"),
            Shape::List => format!("{name} holds a list and no single value"),
        }
    }
}

/// A single value as CSV would hold it, read without a copy where it can be; numbers in the shortest form that reads back the same.
struct Scalar<'r>(Numbers<'r>);

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = Result<Cow<'de, str>, Shape>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = Result<Cow<'de, str>, Shape>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Ok(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Ok(Cow::Owned(text.into())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Ok(Cow::Borrowed("")))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Ok(Cow::Borrowed(if truth { "true" } else { "false" })))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Ok(Cow::Owned(itoa::Buffer::new().format(number).into())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Ok(Cow::Owned(itoa::Buffer::new().format(number).into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        if let (Numbers::Floats(is_inexact), true) = (self.0, number.abs() >= EXACT_BELOW) {
            is_inexact.set(true);
        }
        Ok(Ok(Cow::Owned(number.to_string())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err(Shape::Object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err(Shape::List))
    }
}

/// A key as its place among those that are known.
struct Key<'r> {
    keys: &'r Keys,
    /// The place of the one that it may be.
    next: usize,
    noticed: &'r Noticed,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let found = self.keys.find_from(self.next, key);
        if found.is_none() {
            self.noticed.key(key);
        }
        Ok(found)
    }
}

/// A single JSON value as CSV would hold it; empty where it is none, or no valid text.
pub fn plain_text(raw: &str) -> Cow<'_, str> {
    value_of(raw, Holds::Other).ok().and_then(Result::ok).unwrap_or_default()
}

/// A value as it stands in JSON. What is nested is not looked into.
fn value_of(raw: &str, holds: Holds) -> serde_json::Result<Result<Cow<'_, str>, Shape>> {
    match raw.as_bytes().first() {
        Some(b'{') => Ok(Err(Shape::Object)),
        Some(b'[') => Ok(Err(Shape::List)),
        _ => {
            let read = Scalar(Numbers::Exact).deserialize(&mut serde_json::Deserializer::from_str(raw))?;
            Ok(read.map(|text| as_written(raw, holds).map_or(text, Cow::Borrowed)))
        }
    }
}

/// A number that a float would take for another one, as it is written, without a fraction of zeros. Nothing for any other value, nor for a
/// time with an exponent: what a float loses of it is less than a microsecond.
fn as_written(raw: &str, holds: Holds) -> Option<&str> {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, ""));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = !whole.is_empty() && [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number || raw.parse::<f64>().ok()?.abs() < EXACT_BELOW {
        return None;
    }
    if !exponent.is_empty() {
        let digits = whole.len() + fraction.trim_end_matches('0').len();
        return (digits > EXACT_DIGITS && holds != Holds::Time).then_some(raw);
    }
    let zeros = fraction.bytes().all(|digit| digit == b'0');
    raw.split_once('.').filter(|_| zeros).map_or(Some(raw), |(whole, _)| Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use crate::mapping::{Column, Mapping, Origin, Rule};

    const DECLARED: &[Field] =
        &[Field::new("id", ""), Field::new("kind", "").or(&["type", "device.kind"]), Field::new("more", "").nested().optional()];

    fn read_with(text: &str, context: &Context) -> Result<Vec<String>, String> {
        let texts = |fields: Fields<'_>| Ok((0..3).map(|place| String::from_utf8_lossy(fields.text(place)).into_owned()).collect());
        decode(text.as_bytes(), DECLARED, context, texts).map_err(Cow::into_owned)
    }

    fn read(text: &str) -> Result<Vec<String>, String> {
        read_with(text, &Context::new(Calendar::utc(), DECLARED))
    }

    #[test]
    fn values_are_texts() {
        assert_eq!(read(r#"{"id":"\u00e9","kind":1.50,"more":[1,{"x":2}]}"#).unwrap(), ["é", "1.5", "[1,{\"x\":2}]"]);
        assert_eq!(read(r#"{"id":18446744073709551615,"kind":null}"#).unwrap(), ["18446744073709551615", "", ""]);
        // Whatever a float is read as, it is the same one.
        for number in ["0.1", "1709280000.123456", "-0.00000012095", "5e-324", "1.7976931348623157e308"] {
            let text = read(&format!("{{\"id\":{number}}}")).unwrap().remove(0);
            assert_eq!(text.parse::<f64>().unwrap(), number.parse::<f64>().unwrap());
        }
        assert_eq!(read("{}").unwrap(), ["", "", ""]);
    }

    /// Ids that differ are not made one by a float between them.
    #[test]
    fn large_numbers_stay_as_they_are_written() {
        for (number, expected) in [
            ("123456789012345678901", "123456789012345678901"),
            ("-9223372036854775809", "-9223372036854775809"),
            ("9007199254740993.0", "9007199254740993"),
            ("9007199254740993.25", "9007199254740993.25"),
            ("1e20", "100000000000000000000"),
            ("1.23456789012345e18", "1234567890123450000"),
            ("9.007199254740993e15", "9.007199254740993e15"),
            ("1.2345678901234567E+18", "1.2345678901234567E+18"),
        ] {
            assert_eq!(read(&format!("{{\"kind\":\"x\",\"id\":{number}}}")).unwrap(), [expected, "x", ""]);
            assert_eq!(read(&format!("{{\"device\":{{\"kind\":{number}}}}}")).unwrap(), ["", expected, ""]);
        }
    }

    /// As Python writes a float of nanoseconds.
    #[test]
    fn times_with_an_exponent_are_times() {
        const TIMED: &[Field] = &[Field::new("at", "").time()];
        let context = Context::new(Calendar::utc(), TIMED);
        let time = |fields: Fields<'_>| fields.time(0, &context);
        let read = decode(br#"{"at":1.709283661500001e+18}"#, TIMED, &context, time);
        assert_eq!(read.unwrap().to_string(), "2024-03-01T09:01:01.500001Z");
    }

    #[test]
    fn of_several_names_the_first_that_holds_anything_counts() {
        assert_eq!(read(r#"{"device":{"kind":"c"},"type":"b","kind":"a"}"#).unwrap()[1], "a");
        assert_eq!(read(r#"{"device":{"kind":"c"},"type":"b","kind":null}"#).unwrap()[1], "b");
        assert_eq!(read(r#"{"Device":{"KIND":"c"},"type":""}"#).unwrap()[1], "c");
        assert_eq!(read(r#"{"device":"phone","type":"b"}"#).unwrap()[1], "b");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, reason) in [
            (r#"{"id":1,"id":2}"#, "the key \"id\" stands twice (column 12)"),
            (r#"{"id":1,"ID":1}"#, "the key \"id\" stands twice (column 12)"),
            (r#"{"id":{"en":"x"}}"#, "id holds an object and no single value (column 17)"),
            (r#"{"id":["x"]}"#, "id holds a list and no single value (column 12)"),
            (r#"{"id":"a\ud83c"}"#, "no JSON object: unexpected end of hex escape (column 15)"),
            (r#"{"id":NaN}"#, "no JSON object: expected value (column 7)"),
            (r#"{"id":1} {"id":2}"#, "no JSON object: trailing characters (column 10)"),
            (r#"{"id":1"#, "no JSON object: EOF while parsing an object (column 7)"),
            (r#"[]"#, "no JSON object: invalid type: sequence, expected an object (column 0)"),
        ] {
            assert_eq!(read(text), Err(reason.into()), "{text}");
        }
    }

    #[test]
    fn mapped_names_paths_and_constants() {
        let rule = |origin| Rule { origin, ..Rule::default() };
        let mapping = Mapping::default()
            .with(DECLARED, 0, rule(Origin::Column(Column::parse("payload.device.id"))))
            .with(DECLARED, 1, rule(Origin::Constant("x".into())))
            .with(DECLARED, 2, rule(Origin::Column(Column::parse("payload"))));
        let context = Context::mapped(Calendar::utc(), DECLARED, mapping);
        let object = r#"{"id":1,"kind":2,"payload":{"device":{"id":7}}}"#;
        assert_eq!(read_with(object, &context).unwrap(), ["7", "x", r#"{"device":{"id":7}}"#]);
        assert_eq!(read_with(r#"{"payload":{"device":7}}"#, &context).unwrap(), ["", "x", r#"{"device":7}"#]);
        let twice = r#"{"payload":{"device":{"id":7,"id":8}}}"#;
        assert!(read_with(twice, &context).unwrap_err().contains("the key \"id\" stands twice"));
        let notice = context.noticed.take();
        assert_eq!((notice.objects, notice.fields), (true, 0b101));
        assert_eq!(notice.keys.into_iter().collect::<Vec<_>>(), ["id", "kind"]);
        assert_eq!(context.noticed.take(), crate::noticed::Notice::default());
    }
}
