//! A row's values as they lie in its bytes, and their text, without an allocation per value.
//!
//! [`retally_core::row::values`] and the `Display` of its values say what is right; this says the same several times
//! faster, which is what a table of millions of rows is worth. The tests hold one against the other.

use retally_core::calendar::Day;
use retally_core::row::{Column, ColumnType};
use retally_core::time::{Moment, SECOND};
use std::borrow::Cow;
use std::io::Write;
use uuid::Uuid;

/// A value in its row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Day(Day),
    Time(Moment),
    UInt(u64),
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(Cow<'a, str>),
    Uuid(Uuid),
}

/// Whether a time shows its microseconds when they are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fraction {
    /// No: the text of tables.
    WhenThere,
    /// Yes: texts of the same length, which sort as the times do.
    Always,
}

const SIGN: u64 = 1 << 63;

/// Takes the value of `column` from the front of what is left of a row.
///
/// # Panics
/// When the bytes are not a row of this table.
pub(super) fn take<'a>(column: &'a Column, rest: &mut &'a [u8]) -> Cell<'a> {
    if column.nullable && fixed::<1>(rest) == [0] {
        return Cell::Null;
    }
    match &column.kind {
        ColumnType::Day => Cell::Day(Day((u32::from_be_bytes(fixed(rest)) ^ (1 << 31)).cast_signed())),
        ColumnType::Time => Cell::Time(Moment((u64::from_be_bytes(fixed(rest)) ^ SIGN).cast_signed())),
        ColumnType::UInt | ColumnType::Id => Cell::UInt(u64::from_be_bytes(fixed(rest))),
        ColumnType::Int => Cell::Int((u64::from_be_bytes(fixed(rest)) ^ SIGN).cast_signed()),
        ColumnType::Float => {
            let bits = u64::from_be_bytes(fixed(rest));
            Cell::Float(f64::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN }))
        }
        ColumnType::Bool => Cell::Bool(fixed::<1>(rest) == [1]),
        ColumnType::Text | ColumnType::TextId(_) => Cell::Text(text(rest)),
        ColumnType::Uuid => Cell::Uuid(Uuid::from_bytes(fixed(rest))),
        ColumnType::Label(labels) => {
            let place = usize::from(u16::from_be_bytes(fixed(rest)));
            Cell::Text(Cow::Borrowed(labels.get(place).map_or("", String::as_str)))
        }
    }
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((head, tail)) = rest.split_first_chunk::<N>() else {
        panic!("a row ends {N} bytes into a column, at {rest:02x?}");
    };
    *rest = tail;
    *head
}

/// A text up to its two zero bytes; one that holds zero bytes itself is put together again.
fn text<'a>(rest: &mut &'a [u8]) -> Cow<'a, str> {
    let mut whole: Option<Vec<u8>> = None;
    loop {
        let piece = rest.iter().position(|byte| *byte == 0).and_then(|zero| rest.split_at_checked(zero));
        let Some((piece, [0, after, tail @ ..])) = piece else { panic!("a row ends within a text, at {rest:02x?}") };
        *rest = tail;
        match (after, whole.as_mut()) {
            (0, None) => return Cow::Borrowed(utf8(piece)),
            (0, Some(before)) => {
                before.extend_from_slice(piece);
                return Cow::Owned(utf8(before).into());
            }
            _ => {
                let whole = whole.get_or_insert_default();
                whole.extend_from_slice(piece);
                whole.push(0);
            }
        }
    }
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("a row holds text that is no UTF-8: {error}"))
}

impl Cell<'_> {
    /// Appends the value's text, as its `Display`.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Null => {}
            Cell::Day(day) => append_day(out, *day),
            Cell::Time(moment) => append_time(out, *moment, Fraction::WhenThere),
            Cell::UInt(number) => append_uint(out, *number),
            Cell::Int(number) => append_int(out, *number),
            Cell::Float(number) => append_float(out, *number),
            Cell::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
            Cell::Text(text) => out.extend_from_slice(text.as_bytes()),
            Cell::Uuid(uuid) => out.extend_from_slice(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes()),
        }
    }
}

/// `00` to `99`.
const PAIRS: &[[u8; 2]] = b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"
    .as_chunks()
    .0;

/// The last two digits of a number.
fn pair(number: u64) -> [u8; 2] {
    usize::try_from(number % 100).ok().and_then(|number| PAIRS.get(number)).copied().unwrap_or(*b"00")
}

pub(super) fn append_uint(out: &mut Vec<u8>, mut number: u64) {
    // As many as the largest number has.
    let mut digits = [0u8; 20];
    let mut left = digits.len();
    while left > 0 {
        left -= 2;
        if let Some(place) = digits.get_mut(left..left + 2) {
            place.copy_from_slice(&pair(number));
        }
        number /= 100;
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(left..).unwrap_or_default();
    out.extend_from_slice(digits.strip_prefix(b"0").unwrap_or(digits));
}

pub(super) fn append_int(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    append_uint(out, number.unsigned_abs());
}

/// The shortest text that reads back the same, never in exponent form.
fn append_float(out: &mut Vec<u8>, number: f64) {
    // Most floats of tables are averages of few digits; whole ones need no search for the shortest text.
    if number.fract() == 0.0 && number.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and of less than 53 bits")]
        append_int(out, number as i64);
    } else {
        // Writing to memory cannot fail.
        let _ = write!(out, "{number}");
    }
}

/// The text of a day in a year of four digits.
fn date(day: Day) -> Option<[u8; 10]> {
    let (year, month, day) = day.civil();
    let year = u64::try_from(year).ok().filter(|year| *year < 10_000)?;
    let ([y0, y1], [y2, y3]) = (pair(year / 100), pair(year));
    let ([m0, m1], [d0, d1]) = (pair(month.unsigned_abs()), pair(day.unsigned_abs()));
    Some([y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1])
}

pub(super) fn append_day(out: &mut Vec<u8>, day: Day) {
    match date(day) {
        Some(text) => out.extend_from_slice(&text),
        None => {
            let _ = write!(out, "{day}");
        }
    }
}

pub(super) fn append_time(out: &mut Vec<u8>, moment: Moment, fraction: Fraction) {
    let (seconds, micros) = (moment.0.div_euclid(SECOND), moment.0.rem_euclid(SECOND).unsigned_abs());
    let second = seconds.rem_euclid(86_400).unsigned_abs();
    let Some([y0, y1, y2, y3, _, m0, m1, _, d0, d1]) = i32::try_from(seconds.div_euclid(86_400)).ok().and_then(|day| date(Day(day))) else {
        let _ = write!(out, "{moment}");
        return;
    };
    let ([h0, h1], [i0, i1], [s0, s1]) = (pair(second / 3600), pair(second / 60 % 60), pair(second % 60));
    out.extend_from_slice(&[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1]);
    if micros != 0 || fraction == Fraction::Always {
        let ([f0, f1], [f2, f3], [f4, f5]) = (pair(micros / 10_000), pair(micros / 100), pair(micros));
        out.extend_from_slice(&[b'.', f0, f1, f2, f3, f4, f5]);
    }
    out.push(b'Z');
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tables::TableState;
    use proptest::prelude::*;
    use retally_core::contract::Table;
    use retally_core::row::{Row, Value, batches, values};
    use std::sync::Arc;

    /// A column of each type, and one of them nullable.
    pub(in crate::sinks) fn columns() -> Vec<Column> {
        let labels = Arc::from(["1-2", "a,b", "1000+"].map(String::from));
        vec![
            Column::new("day", ColumnType::Day, ""),
            Column::nullable("time", ColumnType::Time, ""),
            Column::new("uint", ColumnType::UInt, ""),
            Column::nullable("int", ColumnType::Int, ""),
            Column::new("float", ColumnType::Float, ""),
            Column::new("bool", ColumnType::Bool, ""),
            Column::nullable("text", ColumnType::Text, ""),
            Column::new("label", ColumnType::Label(labels), ""),
            Column::nullable("uuid", ColumnType::Uuid, ""),
        ]
    }

    pub(in crate::sinks) type Tuple = (i32, Option<i64>, u64, Option<i64>, f64, bool, Option<String>, u16, Option<u128>);

    pub(in crate::sinks) fn tuple() -> impl Strategy<Value = Tuple> {
        let days = prop_oneof![-10i32..90_000, any::<i32>()];
        let times = prop_oneof![(0..7_000_000_000i64).prop_map(|seconds| seconds * SECOND), any::<i64>()];
        let floats =
            prop_oneof![any::<f64>().prop_filter("finite", |float| float.is_finite()), (-1000i32..1000).prop_map(f64::from), -1e4..1e4];
        let numbers = prop_oneof![any::<u64>(), 0u64..1000, (0u32..64).prop_map(|bits| 1 << bits)];
        let texts = "[a\0,\"\n\r\\\\\té日\u{1f600} ]{0,6}";
        use proptest::option::of;
        (days, of(times), numbers, of(any::<i64>()), floats, any::<bool>(), of(texts), 0u16..3, of(any::<u128>()))
    }

    pub(in crate::sinks) fn encode((day, time, uint, int, float, bool, text, label, uuid): &Tuple) -> Row {
        let row = Row::default().day(Day(*day)).optional(*time, |row, time| row.time(Moment(time))).uint(*uint);
        let row = row.optional(*int, Row::int).float(*float).bool(*bool);
        row.optional(text.as_ref(), |row, text| row.text(text)).label(*label).optional(*uuid, Row::uuid)
    }

    pub(in crate::sinks) fn state(columns: Vec<Column>, rows: impl IntoIterator<Item = Row>) -> TableState {
        let mut state = TableState::new(Table::new("sample", "", 1, columns));
        let mut rows: Vec<Row> = rows.into_iter().collect();
        rows.sort();
        rows.dedup();
        state.apply(batches(rows.into_iter().map(|row| (row, 1)).collect()));
        state
    }

    pub(in crate::sinks) fn sample() -> TableState {
        let day = Day::from_civil(2026, 3, 1).0;
        let rows: [Tuple; 3] = [
            (
                day,
                Some(1_772_323_200_000_000),
                7,
                Some(-3),
                12.5,
                true,
                Some("plain".into()),
                0,
                Some(0xc0ff_ee00_0000_4000_8000_0000_0000_00ab),
            ),
            (day + 1, None, u64::MAX, None, 1e21, false, None, 1, None),
            (day + 2, Some(1_772_323_200_000_001), 0, Some(i64::MIN), -0.000_000_1, true, Some("a \"b\", é\0\n日".into()), 2, Some(0)),
        ];
        state(columns(), rows.iter().map(encode))
    }

    fn owned(cell: Cell<'_>) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Day(day) => Value::Day(day),
            Cell::Time(moment) => Value::Time(moment),
            Cell::UInt(number) => Value::UInt(number),
            Cell::Int(number) => Value::Int(number),
            Cell::Float(number) => Value::Float(number),
            Cell::Bool(truth) => Value::Bool(truth),
            Cell::Text(text) => Value::Text(text.into()),
            Cell::Uuid(uuid) => Value::Text(uuid.hyphenated().to_string()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn cells_and_their_texts_are_those_of_values(tuple in tuple()) {
            let (columns, row) = (columns(), encode(&tuple));
            let mut rest = row.0.as_slice();
            for (column, value) in columns.iter().zip(values(&columns, &row.0)) {
                let cell = take(column, &mut rest);
                let mut text = Vec::new();
                cell.append(&mut text);
                prop_assert_eq!(String::from_utf8(text).unwrap(), value.to_string());
                prop_assert_eq!(owned(cell), value);
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn numbers_of_all_lengths() {
        for number in (0..20).flat_map(|power| [10u64.pow(power), 10u64.pow(power) - 1]).chain([u64::MAX]) {
            let mut text = Vec::new();
            append_uint(&mut text, number);
            assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}
