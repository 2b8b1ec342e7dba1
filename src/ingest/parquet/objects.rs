//! Rows as JSON objects.

use super::cells::{Cell, whole_text};
use parquet::record::{Field as Value, Row};
use retally_core::time::Moment;

/// A column of times: its path, and how its values become text.
pub type Times<'p> = (&'p [String], Cell);

/// Appends a row, in which these columns have times.
pub fn append_row(row: &Row, times: &[Times<'_>], out: &mut String) {
    out.push('{');
    for (place, (name, value)) in row.get_column_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        append_text(name, out);
        out.push(':');
        let times: Vec<_> = times
            .iter()
            .filter_map(|(path, cell)| {
                let (first, rest) = path.split_first()?;
                (first == name).then_some((rest, *cell))
            })
            .collect();
        match (value, times.iter().find(|(path, _)| path.is_empty())) {
            // The value itself says neither that it is local nor, of nanoseconds, that it is a time.
            (Value::TimestampMillis(units) | Value::TimestampMicros(units) | Value::Long(units), Some((_, cell))) => {
                append_text(&whole_text(*cell, *units), out);
            }
            (Value::Group(row), _) => append_row(row, &times, out),
            _ => append_value(value, out),
        }
    }
    out.push('}');
}

fn append_text(text: &str, out: &mut String) {
    // A text is always written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn append_value(value: &Value, out: &mut String) {
    let list = |out: &mut String, values: &[Value]| {
        out.push('[');
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            append_value(value, out);
        }
        out.push(']');
    };
    match value {
        Value::Null => out.push_str("null"),
        Value::Group(row) => append_row(row, &[], out),
        Value::ListInternal(values) => list(out, values.elements()),
        Value::MapInternal(map) => {
            out.push('{');
            for (place, (key, value)) in map.entries().iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                append_text(key.to_string().trim_matches('"'), out);
                out.push(':');
                append_value(value, out);
            }
            out.push('}');
        }
        Value::Str(text) => append_text(text, out),
        Value::Bytes(bytes) => append_text(&String::from_utf8_lossy(bytes.data()), out),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Byte(_) | Value::Short(_) | Value::Int(_) | Value::Long(_) => out.push_str(&value.to_string()),
        Value::UByte(_) | Value::UShort(_) | Value::UInt(_) | Value::ULong(_) => out.push_str(&value.to_string()),
        Value::Float(number) if number.is_finite() => out.push_str(&number.to_string()),
        Value::Double(number) if number.is_finite() => out.push_str(&number.to_string()),
        Value::TimestampMillis(millis) => append_text(&Moment(millis.saturating_mul(1_000)).to_string(), out),
        Value::TimestampMicros(micros) => append_text(&Moment(*micros).to_string(), out),
        Value::Float(_) | Value::Double(_) => out.push_str("null"),
        Value::Decimal(_) | Value::Float16(_) | Value::Date(_) | Value::TimeMillis(_) | Value::TimeMicros(_) => {
            append_text(&value.to_string(), out);
        }
    }
}
