//! A table as JSON: an object a line, with the columns in order.
//!
//! Days and times are text, a missing value is null, and numbers are never in exponent form. Integers are written in
//! full: readers that keep numbers as floats lose digits beyond 2^53.

use super::cells::{self, Cell};
use super::lines;
use crate::tables::TableState;
use retally_core::contract::Table;
use std::io::{self, Write};

/// Writes the table.
pub(super) fn write(state: &TableState, out: &mut dyn Write) -> io::Result<()> {
    lines::write(state, out, |out, row| {
        append_row(out, state.table(), row);
        out.push(b'\n');
    })
}

/// Appends a row as an object.
pub(super) fn append_row<'a>(out: &mut Vec<u8>, table: &'a Table, mut row: &'a [u8]) {
    out.push(b'{');
    for (place, column) in table.columns.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        append_text(out, column.name);
        out.push(b':');
        append_cell(out, &cells::take(column, &mut row));
    }
    out.push(b'}');
}

fn append_cell(out: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Day(_) | Cell::Time(_) | Cell::Uuid(_) => {
            out.push(b'"');
            cell.append(out);
            out.push(b'"');
        }
        Cell::UInt(_) | Cell::Int(_) | Cell::Float(_) | Cell::Bool(_) => cell.append(out),
        Cell::Text(text) => append_text(out, text),
    }
}

/// Appends a text with its quotes and escapes.
pub(super) fn append_text(out: &mut Vec<u8>, text: &str) {
    // Neither writing to memory nor a text can fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::{columns, encode, sample, state, tuple};
    use super::*;
    use proptest::prelude::*;
    use retally_core::row::{Value, values};
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    fn text(state: &TableState) -> String {
        let mut out = Vec::new();
        write(state, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_format() {
        let expected = concat!(
            r#"{"day":"2026-03-01","time":"2026-03-01T00:00:00Z","uint":7,"int":-3,"float":12.5,"bool":true,"text":"plain","label":"1-2","uuid":"c0ffee00-0000-4000-8000-0000000000ab"}"#,
            "\n",
            r#"{"day":"2026-03-02","time":null,"uint":18446744073709551615,"int":null,"float":1000000000000000000000,"bool":false,"text":null,"label":"a,b","uuid":null}"#,
            "\n",
            r#"{"day":"2026-03-03","time":"2026-03-01T00:00:00.000001Z","uint":0,"int":-9223372036854775808,"float":-0.0000001,"bool":true,"text":"a \"b\", é\u0000\n日","label":"1000+","uuid":"00000000-0000-0000-0000-000000000000"}"#,
            "\n",
        );
        assert_eq!(text(&sample()), expected);
    }

    proptest! {
        #[test]
        fn reads_back(tuple in tuple()) {
            let state = state(columns(), [encode(&tuple)]);
            let text = text(&state);
            prop_assert_eq!((text.lines().count(), text.as_bytes().last()), (1, Some(&b'\n')));
            let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
            let digits: BTreeMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
            for (column, value) in columns().iter().zip(values(&columns(), state.rows().next().unwrap())) {
                let got = &read[column.name];
                match value {
                    Value::Null => prop_assert!(got.is_null()),
                    Value::UInt(number) => prop_assert_eq!(got.as_u64(), Some(number)),
                    Value::Int(number) => prop_assert_eq!(got.as_i64(), Some(number)),
                    Value::Bool(truth) => prop_assert_eq!(got.as_bool(), Some(truth)),
                    // serde_json's own floats are the nearest but for a unit in the last place, and more near 0: its digits are not.
                    Value::Float(number) => prop_assert_eq!(digits[column.name].get().parse(), Ok(number)),
                    other => prop_assert_eq!(got.as_str().map(String::from), Some(other.to_string())),
                }
            }
        }
    }
}
