//! JSON objects as fields.
//!
//! An object is read in one pass: keys are compared where they stand, what names no field is skipped by the parser, and values become the
//! texts that CSV would hold: strings without quotes, `null` as nothing, numbers as they are written.
//!
//! # Limits
//! A key that stands twice is refused where it names a field; others are not looked at.

use crate::mapping::{Column, Mapping, Origin};
use crate::noticed::Noticed;
use crate::record::{Context, Field, Fields, Refusal};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The keys of objects that name fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    entries: Vec<Entry>,
}

/// A key at some depth.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    /// Whether it is known in any case: names that a mapping gives are not.
    any_case: bool,
    targets: Vec<Target>,
    inner: Keys,
}

/// A field whose value stands under a key.
#[derive(Clone, Copy, Debug)]
struct Target {
    place: usize,
    /// Of several keys of a field, the one with the least rank that holds anything counts.
    rank: u8,
    nested: bool,
}

impl Keys {
    pub(crate) fn new(fields: &'static [Field], mapping: &Mapping) -> Keys {
        let mut keys = Keys::default();
        for (place, field) in fields.iter().enumerate() {
            let target = |rank| Target { place, rank, nested: field.nested };
            match mapping.origin(place) {
                Origin::Own => {
                    keys.add(&[field.name.to_string()], true, target(0));
                    for (rank, alias) in (1..).zip(field.aliases) {
                        keys.add(&Column::parse(alias).path, true, target(rank));
                    }
                }
                Origin::Column(column) => keys.add(&column.path, false, target(0)),
                Origin::Constant(_) | Origin::Absent => {}
            }
        }
        keys
    }

    fn add(&mut self, path: &[String], any_case: bool, target: Target) {
        let Some((key, rest)) = path.split_first() else { return };
        let found = self.entries.iter().position(|entry| entry.key == *key && entry.any_case == any_case);
        let place = found.unwrap_or_else(|| {
            self.entries.push(Entry { key: key.clone(), any_case, targets: Vec::new(), inner: Keys::default() });
            self.entries.len() - 1
        });
        let Some(entry) = self.entries.get_mut(place) else { return };
        if rest.is_empty() { entry.targets.push(target) } else { entry.inner.add(rest, any_case, target) }
    }

    /// The place of a key: as it is, or else in another case.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        let exact = self.entries.iter().position(|entry| entry.key == key);
        exact.or_else(|| self.entries.iter().position(|entry| entry.any_case && entry.key.eq_ignore_ascii_case(key)))
    }
}

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
    let mut slots = vec![Slot { text: Cow::Borrowed(""), rank: u8::MAX }; declared.len()];
    for (place, value) in context.mapping.constants() {
        slots.get_mut(place).into_iter().for_each(|slot| slot.text = Cow::Borrowed(value));
    }
    let mut named = 0;
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    let reader = Reader { keys: &context.keys, declared, noticed: &context.noticed, slots: &mut slots, named: &mut named };
    let read = (&mut deserializer).deserialize_map(reader).and_then(|()| deserializer.end());
    context.noticed.object(named);
    read.map_err(|error| refusal(&error))?;
    let texts: Vec<&[u8]> = slots.iter().map(|slot| slot.text.as_bytes()).collect();
    decode(Fields::new(declared, &texts))
}

/// Why a text is no record's object, with the column where that shows.
pub fn refusal(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
    match error.classify() {
        // Ours, of an object that is one.
        Category::Data if !text.starts_with("invalid") => format!("{text} (column {})", error.column()).into(),
        _ => format!("no JSON object: {text} (column {})", error.column()).into(),
    }
}

/// Reads the values of an object into their slots.
struct Reader<'r, 'de> {
    keys: &'r Keys,
    declared: &'static [Field],
    noticed: &'r Noticed,
    slots: &'r mut [Slot<'de>],
    named: &'r mut u64,
}

impl<'de> Visitor<'de> for Reader<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = 0u64;
        while let Some(found) = map.next_key_seed(Key { keys: self.keys, noticed: self.noticed })? {
            let Some((place, entry)) = found.and_then(|place| Some((place, self.keys.entries.get(place)?))) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let bit = 1u64.checked_shl(u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or(0);
            if seen & bit != 0 {
                return Err(A::Error::custom(format_args!("the key {:?} stands twice", entry.key)));
            }
            seen |= bit;
            let raw = map.next_value::<&'de RawValue>()?.get();
            for target in &entry.targets {
                *self.named |= 1u64.checked_shl(u32::try_from(target.place).unwrap_or(u32::MAX)).unwrap_or(0);
                // Under another name than its own, an object or a list is something else.
                if target.rank > 0 && !target.nested && raw.starts_with(['{', '[']) {
                    continue;
                }
                let name = self.declared.get(target.place).map_or("", |field| field.name);
                let text = text_of(raw, target.nested, name).map_err(A::Error::custom)?;
                if let Some(slot) = self.slots.get_mut(target.place)
                    && target.rank < slot.rank
                    && !text.is_empty()
                {
                    *slot = Slot { text, rank: target.rank };
                }
            }
            if !entry.inner.entries.is_empty() && raw.starts_with('{') {
                let mut inner = serde_json::Deserializer::from_str(raw);
                let reader =
                    Reader { keys: &entry.inner, declared: self.declared, noticed: self.noticed, slots: self.slots, named: self.named };
                inner.deserialize_map(reader).map_err(|error| A::Error::custom(format_args!("{:?}: {}", entry.key, refusal(&error))))?;
            }
        }
        Ok(())
    }
}

/// A key as its place among those that are known.
struct Key<'r> {
    keys: &'r Keys,
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
        let found = self.keys.find(key);
        if found.is_none() {
            self.noticed.key(key);
        }
        Ok(found)
    }
}

/// A single JSON value as CSV would hold it; empty where it is none, or no valid text.
pub fn plain_text(raw: &str) -> Cow<'_, str> {
    text_of(raw, true, "").unwrap_or_default()
}

/// A JSON value as CSV would hold it. The error is why the field can't hold it.
fn text_of<'v>(raw: &'v str, nested: bool, name: &str) -> Result<Cow<'v, str>, String> {
    match raw.as_bytes().first() {
        Some(b'n') => Ok(Cow::Borrowed("")),
        Some(b'"') => match raw.get(1..raw.len() - 1) {
            Some(text) if !text.contains('\\') => Ok(Cow::Borrowed(text)),
            _ => serde_json::from_str::<String>(raw).map(Cow::Owned).map_err(|error| {
                let text = error.to_string();
                format!("{name} is no valid text: {}", text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head))
            }),
        },
        Some(b'{') if !nested => Err(format!("{name} holds an object and no single value")),
        Some(b'[') if !nested => Err(format!("{name} holds a list and no single value")),
        _ => Ok(Cow::Borrowed(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use crate::mapping::Rule;

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
        assert_eq!(read(r#"{"id":"\u00e9","kind":1.50,"more":[1,{"x":2}]}"#).unwrap(), ["é", "1.50", "[1,{\"x\":2}]"]);
        assert_eq!(read(r#"{"id":18446744073709551616,"kind":null}"#).unwrap(), ["18446744073709551616", "", ""]);
        assert_eq!(read("{}").unwrap(), ["", "", ""]);
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
            (r#"{"id":"a\ud83c"}"#, "id is no valid text: unexpected end of hex escape (column 16)"),
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
