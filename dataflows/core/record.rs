//! Input records: from the fields of a line to a typed value, or to the reason why not.

use crate::calendar::Calendar;
use crate::time::Moment;
use std::borrow::Cow;
use std::fmt::Debug;

/// A field of an input record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in headers and JSON objects.
    pub name: &'static str,
    /// What it holds, in a few words.
    pub about: &'static str,
}

/// Why a record was refused: the text of the column `reason` of the table `rejected`.
pub type Refusal = Cow<'static, str>;

/// What a record is read with.
#[derive(Clone, Debug)]
pub struct Context {
    /// Local times are of this zone.
    pub calendar: Calendar,
}

/// A record as it comes from a file.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    /// The fields of a CSV line.
    Fields(Fields<'a>),
    /// A JSON object, as text.
    Json(&'a [u8]),
}

/// A typed input record: what a dataflow's author declares for an input.
///
/// `Ord` is the order of records within their key: the time, then the fields in the order of the dataflow's page. What is
/// equal is one record.
pub trait Record: differential_dataflow::ExchangeData + std::hash::Hash {
    /// The fields, in the order of a file without header.
    const FIELDS: &'static [Field];

    /// Reads a record from its fields, which are in the order of [`Self::FIELDS`].
    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal>;

    /// Reads a record from a JSON object. Flat objects need nothing but [`Self::decode`].
    fn decode_json(object: &[u8], context: &Context) -> Result<Self, Refusal> {
        crate::record::json::decode_flat(object, context)
    }

    /// The record's own time, when it is an event.
    fn time(&self) -> Option<Moment>;
}

/// The fields of one record, by place in [`Record::FIELDS`]. A field that is not there is empty.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    declared: &'static [Field],
    slots: &'a [&'a [u8]],
}

impl<'a> Fields<'a> {
    /// Fields of a record that declares `declared`.
    pub fn new(declared: &'static [Field], slots: &'a [&'a [u8]]) -> Fields<'a> {
        Fields { declared, slots }
    }

    /// The text of a field, without the spaces around it.
    pub fn text(&self, place: usize) -> &'a [u8] {
        self.slots.get(place).copied().unwrap_or_default().trim_ascii()
    }

    /// An unsigned 64-bit integer.
    pub fn uint(&self, place: usize) -> Result<u64, Refusal> {
        let text = self.text(place);
        // The parser would take a sign that the grammar does not have.
        match text.first() {
            Some(first) if first.is_ascii_digit() => {
                atoi_simd::parse::<u64, false, false>(text).map_err(|_| self.refusal(place, "is no unsigned 64-bit integer"))
            }
            _ => Err(self.refusal(place, "is no unsigned 64-bit integer")),
        }
    }

    /// A time.
    pub fn time(&self, place: usize, context: &Context) -> Result<Moment, Refusal> {
        context.calendar.parse(self.text(place)).map_err(|error| self.refusal(place, error))
    }

    /// A time; `None` when the field is empty, `NULL` or `\N`.
    pub fn optional_time(&self, place: usize, context: &Context) -> Result<Option<Moment>, Refusal> {
        match self.text(place) {
            b"" | b"\\N" => Ok(None),
            text if text.eq_ignore_ascii_case(b"null") => Ok(None),
            _ => self.time(place, context).map(Some),
        }
    }

    /// `true/false/t/f/1/0`, in any case.
    pub fn bool(&self, place: usize) -> Result<bool, Refusal> {
        match self.text(place) {
            b"true" | b"t" | b"1" => Ok(true),
            b"false" | b"f" | b"0" => Ok(false),
            text if text.eq_ignore_ascii_case(b"true") || text == b"T" => Ok(true),
            text if text.eq_ignore_ascii_case(b"false") || text == b"F" => Ok(false),
            _ => Err(self.refusal(place, "is neither true nor false")),
        }
    }

    /// The refusal of a field: its name, what it holds (shortened), and what is wrong with it.
    pub fn refusal(&self, place: usize, why: impl std::fmt::Display) -> Refusal {
        const SHOWN_CHARS_MAX: usize = 60;
        let name = self.declared.get(place).map_or("field", |field| field.name);
        let text = self.text(place);
        if text.is_empty() {
            return format!("{name} is missing").into();
        }
        let text = String::from_utf8_lossy(text);
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        format!("{name} {shown:?}{more} {why}").into()
    }
}

/// Flat JSON objects as fields.
pub mod json {
    use super::{Context, Fields, Record, Refusal};
    use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
    use serde_json::value::RawValue;
    use std::borrow::Cow;
    use std::fmt;

    /// Reads a record from an object whose values are texts, numbers, truth values and nulls.
    pub fn decode_flat<R: Record>(object: &[u8], context: &Context) -> Result<R, Refusal> {
        let mut deserializer = serde_json::Deserializer::from_slice(object);
        let values = (&mut deserializer).deserialize_map(Flat { names: R::FIELDS }).map_err(|error| refusal(&error))?;
        deserializer.end().map_err(|error| refusal(&error))?;
        let slots: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        R::decode(Fields::new(R::FIELDS, &slots), context)
    }

    /// Why a text is no JSON object, without the place in the line that the parser adds.
    pub fn refusal(error: &serde_json::Error) -> Refusal {
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
        format!("no JSON object: {text} (column {})", error.column()).into()
    }

    struct Flat {
        names: &'static [super::Field],
    }

    impl<'de> Visitor<'de> for Flat {
        type Value = Vec<Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut slots = vec![Cow::Borrowed(""); self.names.len()];
            while let Some(place) = map.next_key_seed(Place { names: self.names })? {
                match place.and_then(|place| slots.get_mut(place)) {
                    Some(slot) => *slot = text_of(map.next_value::<&'de RawValue>()?.get()),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(slots)
        }
    }

    /// A key as its place among the fields.
    struct Place {
        names: &'static [super::Field],
    }

    impl<'de> DeserializeSeed<'de> for Place {
        type Value = Option<usize>;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_str(self)
        }
    }

    impl Visitor<'_> for Place {
        type Value = Option<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a key")
        }

        fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
            Ok(self.names.iter().position(|field| field.name == key))
        }
    }

    /// A JSON value as CSV would hold it: strings without quotes, `null` as nothing, the rest as written.
    pub fn text_of(raw: &str) -> Cow<'_, str> {
        if raw == "null" {
            return Cow::Borrowed("");
        }
        if !raw.starts_with('"') {
            return Cow::Borrowed(raw);
        }
        serde_json::from_str::<&str>(raw)
            .map(Cow::Borrowed)
            .or_else(|_| serde_json::from_str::<String>(raw).map(Cow::Owned))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Sample(u64, Option<Moment>, bool);

    impl Record for Sample {
        const FIELDS: &'static [Field] =
            &[Field { name: "id", about: "" }, Field { name: "at", about: "" }, Field { name: "on", about: "" }];

        fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
            Ok(Sample(fields.uint(0)?, fields.optional_time(1, context)?, fields.bool(2)?))
        }

        fn time(&self) -> Option<Moment> {
            self.1
        }
    }

    fn csv(slots: &[&[u8]]) -> Result<Sample, String> {
        let context = Context { calendar: Calendar::utc() };
        Sample::decode(Fields::new(Sample::FIELDS, slots), &context).map_err(Cow::into_owned)
    }

    fn object(text: &str) -> Result<Sample, String> {
        let context = Context { calendar: Calendar::utc() };
        Sample::decode_json(text.as_bytes(), &context).map_err(Cow::into_owned)
    }

    #[test]
    fn fields_are_read_and_refusals_say_what_and_why() {
        assert_eq!(csv(&[b" 7 ", b"\\N", b"T"]), Ok(Sample(7, None, true)));
        assert_eq!(csv(&[b"18446744073709551615", b"null", b"FALSE"]), Ok(Sample(u64::MAX, None, false)));
        assert_eq!(csv(&[b"7", b"1970-01-01 00:00:01", b"0"]), Ok(Sample(7, Some(Moment(1_000_000)), false)));
        for (slots, reason) in [
            (&[b"".as_slice(), b"", b"1"], "id is missing"),
            (&[b"18446744073709551616", b"", b"1"], "id \"18446744073709551616\" is no unsigned 64-bit integer"),
            (&[b"-1", b"", b"1"], "id \"-1\" is no unsigned 64-bit integer"),
            (&[b"+1", b"", b"1"], "id \"+1\" is no unsigned 64-bit integer"),
            (&[b"1.0", b"", b"1"], "id \"1.0\" is no unsigned 64-bit integer"),
            (&[b"1", b"yesterday", b"1"], "at \"yesterday\" is not a time like 2026-01-31T12:34:56Z"),
            (&[b"1", b"", b"yes"], "on \"yes\" is neither true nor false"),
            (&[b"1", b"", b"\xff\x00"], "on \"\u{fffd}\\0\" is neither true nor false"),
        ] {
            assert_eq!(csv(slots), Err(reason.to_string()));
        }
    }

    #[test]
    fn flat_json_is_read_as_fields() {
        assert_eq!(object(r#"{"extra":{"id":[1]},"on":true,"id":7,"at":null}"#), Ok(Sample(7, None, true)));
        assert_eq!(object(r#"{"id":"\u0037","on":"t"}"#), Ok(Sample(7, None, true)));
        assert_eq!(object(r#"{"id":7}"#), Err("on is missing".into()));
        assert_eq!(object(r#"{"id":[7],"on":1}"#), Err("id \"[7]\" is no unsigned 64-bit integer".into()));
        assert!(object("[1]").unwrap_err().starts_with("no JSON object: "));
        assert!(object(r#"{"id":7,"on":1} x"#).unwrap_err().starts_with("no JSON object: "));
        assert!(object("\u{0}").is_err());
    }
}
