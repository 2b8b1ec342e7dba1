//! Table rows as bytes whose order is the order of the rows.
//!
//! A row is written once, by the worker that computed it, in a form that sorts by its columns in order
//! (numbers by value, times by time, text by bytes, missing values first). From there on all tables are
//! one type: sorting, consolidating, gathering and merging compare bytes and know no table. Sinks read
//! rows back through the table's columns.
//!
//! The form, column by column: an integer, day or time is big-endian with the sign bit flipped; a float is its IEEE bits, flipped so that
//! they sort; a text ends with two zero bytes, and a zero byte within it is followed by 0xff; a UUID is its 16 bytes, whose order is that
//! of its text; a label is its place in the list of labels; a nullable column has a byte before it, 0 where the value is missing.

use crate::calendar::Day;
use crate::texts::{Texts, lower};
use crate::time::Moment;
use differential_dataflow::difference::Semigroup;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// A local day.
    Day,
    /// A moment in time.
    Time,
    /// An unsigned 64-bit integer that counts or measures: less than 2^63, so that any database's integers hold it.
    UInt,
    /// An unsigned 64-bit integer that names something, and may be any.
    Id,
    /// A signed 64-bit integer.
    Int,
    /// A finite 64-bit float.
    Float,
    /// `true` or `false`.
    Bool,
    /// Text.
    Text,
    /// A UUID: 16 bytes in a row, a text everywhere else.
    Uuid,
    /// A text that names something. A graph writes the hash that stands for it ([`crate::texts`]); in rows that leave it, it is a text.
    TextId(TextId),
    /// One of few texts; rows sort by its place in the list, not by its letters.
    Label(Arc<[String]>),
}

/// How a graph writes the hash of a text id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextId {
    /// As a number ([`Row::uint`]).
    Number,
    /// As a UUID ([`Row::uuid`]).
    Uuid,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, as in the header of a CSV file.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnType,
    /// Whether values may be missing.
    pub nullable: bool,
    /// What it means, in a few words; with the unit, where there is one.
    pub about: &'static str,
}

impl Column {
    /// A column without missing values.
    pub fn new(name: &'static str, kind: ColumnType, about: &'static str) -> Column {
        Column { name, kind, nullable: false, about }
    }

    /// A column whose values may be missing.
    pub fn nullable(name: &'static str, kind: ColumnType, about: &'static str) -> Column {
        Column { name, kind, nullable: true, about }
    }
}

/// A row in the ordered form.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row(pub Vec<u8>);

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row ")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value, as sinks see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Missing.
    Null,
    /// A local day.
    Day(Day),
    /// A moment.
    Time(Moment),
    /// An unsigned integer.
    UInt(u64),
    /// A signed integer.
    Int(i64),
    /// A float, never NaN or infinite.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text or a label.
    Text(String),
}

/// As in CSV: a missing value is empty, a float is the shortest text that reads back the same.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Day(day) => day.fmt(f),
            Value::Time(moment) => moment.fmt(f),
            Value::UInt(number) => number.fmt(f),
            Value::Int(number) => number.fmt(f),
            Value::Float(number) => number.fmt(f),
            Value::Bool(truth) => truth.fmt(f),
            Value::Text(text) => f.write_str(text),
        }
    }
}

const SIGN: u64 = 1 << 63;

impl Row {
    /// An empty row with space for `bytes`.
    pub fn with_capacity(bytes: usize) -> Row {
        Row(Vec::with_capacity(bytes))
    }

    /// Appends a day.
    #[must_use]
    pub fn day(mut self, day: Day) -> Row {
        self.0.extend_from_slice(&(day.0.cast_unsigned() ^ (1 << 31)).to_be_bytes());
        self
    }

    /// Appends a time.
    #[must_use]
    pub fn time(self, moment: Moment) -> Row {
        self.int(moment.0)
    }

    /// Appends an unsigned integer.
    #[must_use]
    pub fn uint(mut self, number: u64) -> Row {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a signed integer.
    #[must_use]
    pub fn int(self, number: i64) -> Row {
        self.uint(number.cast_unsigned() ^ SIGN)
    }

    /// Appends a float. Zero loses its sign.
    ///
    /// # Panics
    /// On NaN and infinities: a table has no place for them, and who computes must have decided.
    #[must_use]
    pub fn float(self, number: f64) -> Row {
        assert!(number.is_finite(), "a row can't hold the float {number}");
        let bits = if number == 0.0 { 0 } else { number.to_bits() };
        self.uint(if bits & SIGN == 0 { bits ^ SIGN } else { !bits })
    }

    /// Appends a truth value.
    #[must_use]
    pub fn bool(mut self, truth: bool) -> Row {
        self.0.push(u8::from(truth));
        self
    }

    /// Appends a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Row {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    /// Appends a UUID.
    #[must_use]
    pub fn uuid(mut self, uuid: u128) -> Row {
        self.0.extend_from_slice(&uuid.to_be_bytes());
        self
    }

    /// Appends a label by its place in the column's list.
    #[must_use]
    pub fn label(mut self, place: u16) -> Row {
        self.0.extend_from_slice(&place.to_be_bytes());
        self
    }

    /// Appends a value to a nullable column, by `write` where there is one.
    #[must_use]
    pub fn optional<T>(mut self, value: Option<T>, write: impl FnOnce(Row, T) -> Row) -> Row {
        self.0.push(u8::from(value.is_some()));
        match value {
            Some(value) => write(self, value),
            None => self,
        }
    }
}

/// Reads the values of a row.
///
/// # Panics
/// When the bytes are not a row of these columns: rows come from the graph beside the columns, so that is a bug.
pub fn values<'a>(columns: &'a [Column], row: &'a [u8]) -> impl Iterator<Item = Value> + 'a {
    let mut rest = row;
    columns.iter().map(move |column| {
        if column.nullable && take::<1>(&mut rest) == [0] {
            return Value::Null;
        }
        match &column.kind {
            ColumnType::Day => Value::Day(Day((u32::from_be_bytes(take(&mut rest)) ^ (1 << 31)).cast_signed())),
            ColumnType::Time => Value::Time(Moment(take_int(&mut rest))),
            ColumnType::UInt | ColumnType::Id => Value::UInt(u64::from_be_bytes(take(&mut rest))),
            ColumnType::Int => Value::Int(take_int(&mut rest)),
            ColumnType::Float => {
                let bits = u64::from_be_bytes(take(&mut rest));
                Value::Float(f64::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN }))
            }
            ColumnType::Bool => Value::Bool(take::<1>(&mut rest) == [1]),
            ColumnType::Text | ColumnType::TextId(_) => Value::Text(take_text(&mut rest)),
            ColumnType::Uuid => Value::Text(Uuid::from_u128(u128::from_be_bytes(take(&mut rest))).hyphenated().to_string()),
            ColumnType::Label(labels) => {
                let place = usize::from(u16::from_be_bytes(take(&mut rest)));
                Value::Text(labels.get(place).cloned().unwrap_or_default())
            }
        }
    })
}

/// Puts the texts of ids in the place of their hashes: from a row as a graph writes it to one that leaves it.
///
/// # Panics
/// When the bytes are not a row of these columns, or nobody read an id.
pub fn with_texts(columns: &[Column], row: &Row, texts: &Texts) -> Row {
    let mut written = Row::with_capacity(row.0.len() + 64);
    let mut rest = row.0.as_slice();
    for column in columns {
        if column.nullable {
            let [there] = take::<1>(&mut rest);
            written.0.push(there);
            if there == 0 {
                continue;
            }
        }
        let value = rest;
        let id = match &column.kind {
            ColumnType::TextId(TextId::Number) => u64::from_be_bytes(take(&mut rest)),
            ColumnType::TextId(TextId::Uuid) => lower(u128::from_be_bytes(take(&mut rest))),
            kind => {
                pass(kind, &mut rest);
                written.0.extend_from_slice(value.get(..value.len() - rest.len()).unwrap_or_default());
                continue;
            }
        };
        written = texts.read(id, |text| written.text(text));
    }
    written
}

/// Passes over a value.
fn pass(kind: &ColumnType, rest: &mut &[u8]) {
    match kind {
        ColumnType::Bool => drop(take::<1>(rest)),
        ColumnType::Label(_) => drop(take::<2>(rest)),
        ColumnType::Day => drop(take::<4>(rest)),
        ColumnType::Time | ColumnType::UInt | ColumnType::Id | ColumnType::Int | ColumnType::Float => drop(take::<8>(rest)),
        ColumnType::Uuid => drop(take::<16>(rest)),
        ColumnType::Text | ColumnType::TextId(_) => while take::<1>(rest) != [0] || take::<1>(rest) != [0] {},
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((head, tail)) = rest.split_first_chunk::<N>() else {
        panic!("a row ends {N} bytes into a column, at {rest:02x?}");
    };
    *rest = tail;
    *head
}

fn take_int(rest: &mut &[u8]) -> i64 {
    (u64::from_be_bytes(take(rest)) ^ SIGN).cast_signed()
}

fn take_text(rest: &mut &[u8]) -> String {
    let mut text = Vec::new();
    loop {
        match take::<1>(rest) {
            [0] if take::<1>(rest) == [0] => break,
            [byte] => text.push(byte),
        }
    }
    String::from_utf8(text).unwrap_or_else(|error| panic!("a row holds text that is no UTF-8: {error}"))
}

/// Rows with their differences, sorted and consolidated, in one piece of memory.
///
/// Tables of millions of rows are held, sent and merged in this form, so a row costs its bytes and no allocation. Where rows end is kept
/// only where they are not all as long, 4 bytes for each; their differences only where they are not all 1, 8 bytes for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowBatch {
    bytes: Vec<u8>,
    rows: usize,
    /// The bytes of the first row.
    width: usize,
    /// Where each row ends; empty where all are as long as the first.
    ends: Vec<u32>,
    /// Empty where all are 1.
    diffs: Vec<i64>,
}

impl RowBatch {
    /// A batch holds no more row bytes than this, unless a single row is larger.
    pub const BYTES_MAX: usize = 1 << 20;

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The bytes of its rows.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a row of `bytes` more should go into a new batch.
    pub fn is_full_for(&self, bytes: usize) -> bool {
        !self.is_empty() && self.bytes.len() + bytes > Self::BYTES_MAX
    }

    /// Appends a row that sorts behind all others here.
    pub fn push(&mut self, row: &[u8], diff: i64) {
        if self.is_empty() {
            self.width = row.len();
        } else if self.ends.is_empty() && row.len() != self.width {
            self.ends = (1..=self.rows).map(|rows| end(rows * self.width)).collect();
        }
        if self.diffs.is_empty() && diff != 1 {
            self.diffs = vec![1; self.rows];
        }
        self.bytes.extend_from_slice(row);
        if row.len() != self.width || !self.ends.is_empty() {
            self.ends.push(end(self.bytes.len()));
        }
        if diff != 1 || !self.diffs.is_empty() {
            self.diffs.push(diff);
        }
        self.rows += 1;
    }

    /// The row at `index` and its difference.
    pub fn get(&self, index: usize) -> Option<(&[u8], i64)> {
        if index >= self.rows {
            return None;
        }
        let end = |rows: usize| match rows.checked_sub(1).and_then(|last| self.ends.get(last)) {
            Some(end) => *end as usize,
            None => rows * self.width,
        };
        Some((self.bytes.get(end(index)..end(index + 1))?, self.diffs.get(index).copied().unwrap_or(1)))
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Gives back what was allocated beyond need.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.diffs.shrink_to_fit();
    }
}

fn end(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or_else(|_| panic!("a row batch grew to {bytes} bytes"))
}

/// Sorts and consolidates rows, and cuts them into batches.
pub fn batches(mut rows: Vec<(Row, isize)>) -> Vec<RowBatch> {
    rows.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut packed = Packed::default();
    let mut rows = rows.into_iter().peekable();
    while let Some((row, mut diff)) = rows.next() {
        while let Some((_, more)) = rows.next_if(|(next, _)| *next == row) {
            diff.plus_equals(&more);
        }
        if diff != 0 {
            packed.push(&row.0, diff as i64);
        }
    }
    packed.finish()
}

/// Packs rows that come in order into batches, as many into each as it may have.
#[derive(Default)]
pub struct Packed {
    full: Vec<RowBatch>,
    batch: RowBatch,
}

impl Packed {
    /// Appends a row that sorts behind all others.
    pub fn push(&mut self, row: &[u8], diff: i64) {
        if self.batch.is_full_for(row.len()) {
            self.end();
        }
        self.batch.push(row, diff);
    }

    fn end(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.shrink();
        self.full.push(batch);
    }

    /// The batches, none of them empty.
    pub fn finish(mut self) -> Vec<RowBatch> {
        if !self.batch.is_empty() {
            self.end();
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns() -> Vec<Column> {
        let labels = Arc::from(["small".to_string(), "big".to_string()]);
        vec![
            Column::new("day", ColumnType::Day, ""),
            Column::nullable("time", ColumnType::Time, ""),
            Column::new("uint", ColumnType::UInt, ""),
            Column::new("float", ColumnType::Float, ""),
            Column::new("bool", ColumnType::Bool, ""),
            Column::new("text", ColumnType::Text, ""),
            Column::new("label", ColumnType::Label(labels), ""),
            Column::new("uuid", ColumnType::Uuid, ""),
        ]
    }

    type Tuple = (i32, Option<i64>, u64, f64, bool, String, u16, u128);

    fn tuple() -> impl Strategy<Value = Tuple> {
        let float = any::<f64>().prop_filter("finite", |f| f.is_finite());
        (
            -2..2,
            proptest::option::of(-2i64..2),
            0u64..2,
            prop_oneof![float, Just(0.0)],
            any::<bool>(),
            "[a\0]{0,3}",
            0u16..2,
            prop_oneof![any::<u128>(), 0u128..2],
        )
    }

    fn encode((day, time, uint, float, bool, text, label, uuid): &Tuple) -> Row {
        let row = Row::default().day(Day(*day)).optional(*time, |row, t| row.time(Moment(t)));
        row.uint(*uint).float(*float).bool(*bool).text(text).label(*label).uuid(*uuid)
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn bytes_sort_as_values_and_read_back(a in tuple(), b in tuple()) {
            let by_value = (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2))
                .then(a.3.partial_cmp(&b.3).unwrap())
                .then((a.4, &a.5, a.6).cmp(&(b.4, &b.5, b.6)));
            let uuid = |uuid| Uuid::from_u128(uuid).hyphenated().to_string();
            let by_value = by_value.then(uuid(a.7).cmp(&uuid(b.7)));
            let (row_a, row_b) = (encode(&a), encode(&b));
            prop_assert_eq!(row_a.cmp(&row_b), by_value);
            let read: Vec<Value> = values(&columns(), &row_a.0).collect();
            let float = if a.3 == 0.0 { 0.0 } else { a.3 };
            let label = ["small", "big"][usize::from(a.6)];
            prop_assert_eq!(read, vec![
                Value::Day(Day(a.0)), a.1.map_or(Value::Null, |t| Value::Time(Moment(t))), Value::UInt(a.2),
                Value::Float(float), Value::Bool(a.4), Value::Text(a.5), Value::Text(label.into()),
                Value::Text(uuid(a.7)),
            ]);
        }
    }

    proptest! {
        #[test]
        fn a_batch_holds_rows_of_any_lengths_and_differences(rows in proptest::collection::vec(("a{0,2}|aaa", prop_oneof![3 => Just(1), 1 => -2i64..3]), 0..12)) {
            let mut batch = RowBatch::default();
            rows.iter().for_each(|(row, diff)| batch.push(row.as_bytes(), *diff));
            let read: Vec<_> = batch.iter().map(|(row, diff)| (String::from_utf8(row.to_vec()).unwrap(), diff)).collect();
            prop_assert_eq!((batch.len(), batch.get(batch.len())), (rows.len(), None));
            prop_assert_eq!(read, rows);
        }
    }

    #[test]
    fn rows_that_are_there_once_and_all_as_long_cost_their_bytes() {
        let mut batch = RowBatch::default();
        (0..100u64).for_each(|number| batch.push(&Row::default().uint(number).0, 1));
        assert_eq!((batch.bytes.len(), batch.ends.len(), batch.diffs.len()), (800, 0, 0));
    }

    #[test]
    fn floats_print_short_and_never_in_exponent_form() {
        for (float, text) in [(12.5, "12.5"), (0.0, "0"), (-0.0, "0"), (1e21, "1000000000000000000000"), (1e-7, "0.0000001")] {
            let row = Row::default().float(float);
            let columns = [Column::new("x", ColumnType::Float, "")];
            assert_eq!(values(&columns, &row.0).next().unwrap().to_string(), text);
        }
    }

    #[test]
    fn batches_consolidate_and_keep_the_order() {
        let row = |n| Row::default().uint(n);
        let rows = vec![(row(3), 1), (row(1), 1), (row(2), 1), (row(3), 1), (row(2), -1)];
        let batches = batches(rows);
        let got: Vec<_> = batches.iter().flat_map(RowBatch::iter).map(|(row, diff)| (Row(row.to_vec()), diff)).collect();
        assert_eq!(got, [(row(1), 1), (row(3), 2)]);
    }
}
