//! Which records of a file are meant, where not all are.

use crate::context::Context;
use crate::field::Field;
use crate::fields::{Fields, id_text};
use crate::record::{Raw, texts};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Records of which a field holds a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The field's place among those of the input.
    pub place: usize,
    /// What it holds.
    pub value: String,
    /// Whether that is the text itself, as an id is one, and not also the same number or UUID written otherwise.
    pub exact: bool,
}

impl Condition {
    fn is(&self, text: &str, decimal_comma: bool) -> bool {
        let (text, value) = (text.trim(), self.value.trim());
        let number = |text: &str| Fields::new(&[], &[text.as_bytes()]).with_decimal_comma(decimal_comma).uint(0).ok();
        let same_number = || number(text).is_some_and(|found| number(value) == Some(found));
        let same_uuid = || Uuid::try_parse(text).is_ok_and(|found| Uuid::try_parse(value) == Ok(found));
        id_text(text.as_bytes(), decimal_comma) == id_text(value.as_bytes(), false) || (!self.exact && (same_number() || same_uuid()))
    }
}

/// Whether all conditions hold of a record as it comes from a file.
pub fn all_hold(conditions: &[Condition], raw: Raw<'_>, declared: &'static [Field], context: &Context) -> bool {
    let Some(texts) = texts(raw, declared, context) else { return false };
    let decimal_comma = matches!(raw, Raw::Fields(fields) if fields.has_decimal_comma());
    conditions.iter().all(|condition| texts.get(condition.place).is_some_and(|text| condition.is(text, decimal_comma)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;

    const FIELDS: &[Field] = &[Field::new("id", ""), Field::new("name", "")];

    #[test]
    fn values_are_the_same_as_records_have_them() {
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for (value, text, is, is_exactly) in [
            ("7", "7", true, true),
            ("7", " 7.0 ", true, true),
            ("7.0", "7", true, true),
            ("7", "007.0", true, false),
            ("007", "7", true, false),
            ("7", "8", false, false),
            ("7", "", false, false),
            ("", "", true, true),
            (uuid, "67E5504410B1426F9247BB680E5FE0C8", true, false),
            ("sn-1", "SN-1", false, false),
        ] {
            let condition = |exact| Condition { place: 0, value: value.into(), exact };
            let is_one = |exact| condition(exact).is(text, false);
            assert_eq!((is_one(false), is_one(true)), (is, is_exactly), "{value:?} {text:?}");
        }
        let seven = Condition { place: 0, value: "7".into(), exact: false };
        assert!(seven.is("7,0", true) && !seven.is("7,0", false) && !seven.is("7,5", true));
    }

    #[test]
    fn all_conditions_must_hold() {
        let context = Context::new(Calendar::utc(), FIELDS);
        let of = |place, value: &str| Condition { place, value: value.into(), exact: false };
        let csv: &[&[u8]] = &[b"7", b"x"];
        let json = br#"{"name":"x","id":7}"#;
        for raw in [Raw::Fields(Fields::new(FIELDS, csv)), Raw::Json(json)] {
            assert!(all_hold(&[], raw, FIELDS, &context));
            assert!(all_hold(&[of(0, "7"), of(1, "x")], raw, FIELDS, &context));
            assert!(!all_hold(&[of(0, "7"), of(1, "y")], raw, FIELDS, &context));
        }
        assert!(!all_hold(&[], Raw::Json(b"[7]"), FIELDS, &context));
    }
}
