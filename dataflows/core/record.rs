//! Input records: from the fields of a line to a typed value, or to the reason why not.

use crate::objects;
use crate::time::Moment;
use std::fmt::Debug;

pub use crate::context::Context;
pub use crate::field::{Field, Holds, Presence, Refusal};
pub use crate::fields::Fields;

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

    /// The record's own time, when it is an event.
    fn time(&self) -> Option<Moment>;

    /// Reads a record from a JSON object.
    fn decode_json(object: &[u8], context: &Context) -> Result<Self, Refusal> {
        objects::decode(object, Self::FIELDS, context, |fields| Self::decode(fields, context))
    }

    /// Reads a record, whatever it comes from.
    fn decode_raw(raw: Raw<'_>, context: &Context) -> Result<Self, Refusal> {
        match raw {
            Raw::Fields(fields) => Self::decode(fields, context),
            Raw::Json(object) => Self::decode_json(object, context),
        }
    }
}

/// The texts of a record's fields, in their order, to be shown; nothing where it is none.
pub fn texts(raw: Raw<'_>, declared: &'static [Field], context: &Context) -> Option<Vec<String>> {
    let texts = |fields: Fields<'_>| {
        let text = |place| String::from_utf8_lossy(fields.text(place)).into_owned();
        Ok((0..declared.len()).map(text).collect())
    };
    match raw {
        Raw::Fields(fields) => texts(fields).ok(),
        Raw::Json(object) => objects::decode(object, declared, context, texts).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use serde::{Deserialize, Serialize};
    use std::borrow::Cow;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Sample(u64, Option<Moment>, bool);

    impl Record for Sample {
        const FIELDS: &'static [Field] = &[Field::new("id", ""), Field::new("at", "").optional(), Field::new("on", "")];

        fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
            Ok(Sample(fields.uint(0)?, if fields.is_null(1) { None } else { Some(fields.time(1, context)?) }, fields.bool(2, context)?))
        }

        fn time(&self) -> Option<Moment> {
            self.1
        }
    }

    fn csv(slots: &[&[u8]]) -> Result<Sample, String> {
        let context = Context::new(Calendar::utc(), Sample::FIELDS);
        Sample::decode(Fields::new(Sample::FIELDS, slots), &context).map_err(Cow::into_owned)
    }

    #[test]
    fn fields_are_read_and_refusals_say_what_and_why() {
        assert_eq!(csv(&[b" 7 ", b"\\N", b"T"]), Ok(Sample(7, None, true)));
        assert_eq!(csv(&[b"18446744073709551615", b"null", b"FALSE"]), Ok(Sample(u64::MAX, None, false)));
        assert_eq!(csv(&[b"7", b"1970-01-01 00:00:01", b"0"]), Ok(Sample(7, Some(Moment(1_000_000)), false)));
        for word in ["yes", "ON", "online", "Connected", "1.0", "True"] {
            assert_eq!(csv(&[b"7", b"", word.as_bytes()]), Ok(Sample(7, None, true)), "{word}");
        }
        for word in ["no", "Off", "OFFLINE", "disconnected", "0.0"] {
            assert_eq!(csv(&[b"7", b"", word.as_bytes()]), Ok(Sample(7, None, false)), "{word}");
        }
        for (slots, reason) in [
            (&[b"".as_slice(), b"", b"1"], "id is missing"),
            (&[b"18446744073709551616", b"", b"1"], "id \"18446744073709551616\" is no unsigned 64-bit integer"),
            (&[b"-1", b"", b"1"], "id \"-1\" is no unsigned 64-bit integer"),
            (&[b"+1", b"", b"1"], "id \"+1\" is no unsigned 64-bit integer"),
            (&[b"1.5", b"", b"1"], "id \"1.5\" is no unsigned 64-bit integer"),
            (&[b"1", b"yesterday", b"1"], "at \"yesterday\" is not a time like 2026-01-31T12:34:56Z"),
            (&[b"1", b"", b"maybe"], "on \"maybe\" is neither true nor false"),
            (&[b"1", b"", b"\xff\x00"], "on \"\u{fffd}\\0\" is neither true nor false"),
        ] {
            assert_eq!(csv(slots), Err(reason.to_string()));
        }
    }

    #[test]
    fn flat_json_is_read_as_fields() {
        let context = Context::new(Calendar::utc(), Sample::FIELDS);
        let object = |text: &str| Sample::decode_json(text.as_bytes(), &context).map_err(Cow::into_owned);
        assert_eq!(object(r#"{"extra":{"id":[1]},"on":true,"id":7,"at":null}"#), Ok(Sample(7, None, true)));
        assert_eq!(object(r#"{"id":"\u0037","ON":"t"}"#), Ok(Sample(7, None, true)));
        assert_eq!(object(r#"{"id":7}"#), Err("on is missing".into()));
        assert_eq!(object(r#"{"id":[7],"on":1}"#), Err("id holds a list and no single value (column 9)".into()));
        assert!(object("[1]").unwrap_err().starts_with("no JSON object: "));
        assert!(object(r#"{"id":7,"on":1} x"#).unwrap_err().starts_with("no JSON object: "));
        assert!(object("\u{0}").is_err());
    }
}
