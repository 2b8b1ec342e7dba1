//! How people's own data becomes the fields of an input: under which name a field stands, or which value it always has, and how its
//! times and truth values are written.
//!
//! One mapping serves every format: a name is a column of CSV, or a path of keys through nested objects. What is not mapped stands under
//! its own name, in any case.

use crate::field::Field;
use crate::time_format::TimeFormat;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The mapping of an input's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mapping {
    /// By the place of the field; empty where nothing is mapped.
    rules: Arc<[Rule]>,
}

/// What is said of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where its values are.
    pub origin: Origin,
    /// How its times are written, where that is said.
    pub time: Option<TimeFormat>,
    /// What its truth values are called, where that is said.
    pub truth: Option<Truth>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Own => f.write_str("its own name")?,
            Origin::Column(column) => f.write_str(&column.name)?,
            Origin::Constant(value) => write!(f, "always {value:?}")?,
            Origin::Absent => f.write_str("absent")?,
        }
        if let Some(format) = &self.time {
            write!(f, " as {format}")?;
        }
        if let Some(Truth { yes, no }) = &self.truth {
            write!(f, " (true: {}; false: {})", yes.join(" "), no.join(" "))?;
        }
        Ok(())
    }
}

/// Where a field's values are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Under the field's own name, in any case.
    #[default]
    Own,
    /// Under this name: a column, or a path of keys.
    Column(Column),
    /// It always has this value.
    Constant(String),
    /// There are none.
    Absent,
}

/// A column of a file, or a path of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name of the column.
    pub name: String,
    /// The keys from the outermost object on.
    pub path: Vec<String>,
}

impl Column {
    /// Reads a name. Dots lead into nested objects; a name in quotes is one key, whatever it holds.
    pub fn parse(text: &str) -> Column {
        let mut path = Vec::new();
        let mut rest = text;
        loop {
            if let Some((quoted, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'))
                && (after.is_empty() || after.starts_with('.'))
            {
                path.push(quoted.to_string());
                match after.strip_prefix('.') {
                    Some(after) => rest = after,
                    None => break,
                }
            } else if let Some((key, after)) = rest.split_once('.') {
                path.push(key.to_string());
                rest = after;
            } else {
                path.push(rest.to_string());
                break;
            }
        }
        let name = match path.as_slice() {
            [only] => only.clone(),
            _ => text.into(),
        };
        Column { name, path }
    }
}

/// What truth values are called; in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// What is true.
    pub yes: Vec<String>,
    /// What is false.
    pub no: Vec<String>,
}

impl Truth {
    /// The truth of a word, when it is one of these.
    pub fn read(&self, word: &[u8]) -> Option<bool> {
        let among = |words: &[String]| words.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word));
        if among(&self.yes) {
            Some(true)
        } else if among(&self.no) {
            Some(false)
        } else {
            None
        }
    }
}

impl Mapping {
    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// With a rule for a field, by its place among `fields`.
    #[must_use]
    pub fn with(&self, fields: &[Field], place: usize, rule: Rule) -> Mapping {
        let mut rules: Vec<Rule> = self.rules.to_vec();
        rules.resize(fields.len(), Rule::default());
        if let Some(slot) = rules.get_mut(place) {
            *slot = rule;
        }
        Mapping { rules: rules.into() }
    }

    /// What is said of the field at a place.
    pub fn rule(&self, place: usize) -> Option<&Rule> {
        self.rules.get(place)
    }

    /// Where the values of the field at a place are.
    pub fn origin(&self, place: usize) -> &Origin {
        self.rule(place).map_or(&Origin::Own, |rule| &rule.origin)
    }

    /// Whether the field at a place is looked for in the data.
    pub fn is_sought(&self, place: usize) -> bool {
        matches!(self.origin(place), Origin::Own | Origin::Column(_))
    }

    /// The name under which a field at a place is looked for.
    pub fn name<'m>(&'m self, place: usize, field: &'m Field) -> &'m str {
        match self.origin(place) {
            Origin::Column(column) => &column.name,
            _ => field.name,
        }
    }

    /// The fields that always have a value: their places, and the values.
    pub fn constants(&self) -> impl Iterator<Item = (usize, &str)> {
        self.rules.iter().enumerate().filter_map(|(place, rule)| match &rule.origin {
            Origin::Constant(value) => Some((place, value.as_str())),
            _ => None,
        })
    }

    /// Gives the fields that always have a value that value.
    pub fn fill<'m>(&'m self, slots: &mut [&'m [u8]]) {
        for (place, value) in self.constants() {
            slots.get_mut(place).into_iter().for_each(|slot| *slot = value.as_bytes());
        }
    }

    /// The paths of keys that lead to the values of a field, the one that counts first; whether they are known in any case.
    pub fn paths(&self, place: usize, field: &Field) -> (Vec<Vec<String>>, bool) {
        match self.origin(place) {
            Origin::Own => {
                let aliases = field.aliases.iter().map(|alias| Column::parse(alias).path);
                ([vec![field.name.to_string()]].into_iter().chain(aliases).collect(), true)
            }
            Origin::Column(column) => (vec![column.path.clone()], false),
            Origin::Constant(_) | Origin::Absent => (Vec::new(), false),
        }
    }

    /// What is said of each field of which something is said, for people: its name, and where it is and how it is written.
    pub fn described<'m>(&'m self, fields: &'m [Field]) -> impl Iterator<Item = (&'static str, String)> + 'm {
        let said = self.rules.iter().zip(fields).filter(|(rule, _)| **rule != Rule::default());
        said.map(|(rule, field)| (field.name, rule.to_string()))
    }

    /// A text that is the same for equal mappings, and differs for others.
    pub fn fingerprint(&self) -> String {
        if self.is_empty() { String::new() } else { format!("{:?}", self.rules) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let path = |text: &str| Column::parse(text).path;
        assert_eq!(path("imei"), ["imei"]);
        assert_eq!(path("payload.device.id"), ["payload", "device", "id"]);
        assert_eq!(path("\"a.b\""), ["a.b"]);
        assert_eq!(path("x.\"a.b\".y"), ["x", "a.b", "y"]);
        assert_eq!(path("\"open"), ["\"open"]);
        assert_eq!((Column::parse("\"a.b\"").name, Column::parse("a.b").name), ("a.b".into(), "a.b".into()));
    }

    #[test]
    fn words_are_true_or_false_in_any_case() {
        let truth = Truth { yes: vec!["up".into()], no: vec!["Down".into(), "gone".into()] };
        assert_eq!(
            [b"UP".as_slice(), b"down", b"gone", b"true"].map(|word| truth.read(word)),
            [Some(true), Some(false), Some(false), None]
        );
    }
}
