//! Columns of single values, as the texts that CSV would hold.

use parquet::basic::{LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::Result as ParquetResult;
use parquet::schema::types::ColumnDescriptor;
use retally_core::time::{DAY, Moment};

/// How a column's values become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Bool,
    Int,
    UInt,
    /// So many of its units make a microsecond, or so many microseconds its unit.
    Time {
        micros: i64,
        per_micro: i64,
        utc: bool,
    },
    Date,
    /// A whole number of units, of which so many powers of ten make one.
    Decimal {
        scale: usize,
    },
    Float,
    Text,
    Uuid,
}

impl Cell {
    /// `None` where its values are not read.
    pub fn of(column: &ColumnDescriptor) -> Option<Cell> {
        use parquet::basic::ConvertedType as Converted;
        let time = |micros, per_micro, utc| Some(Cell::Time { micros, per_micro, utc });
        if column.converted_type() == Converted::DECIMAL || matches!(column.logical_type_ref(), Some(LogicalType::Decimal(_))) {
            return Some(Cell::Decimal { scale: usize::try_from(column.type_scale()).unwrap_or(0) });
        }
        match (column.physical_type(), column.logical_type_ref(), column.converted_type()) {
            // No value is there.
            (_, Some(LogicalType::Unknown), _) => Some(Cell::Text),
            (Physical::BOOLEAN, _, _) => Some(Cell::Bool),
            (Physical::FLOAT | Physical::DOUBLE, _, _) => Some(Cell::Float),
            (Physical::INT96, _, _) => time(1, 1, true),
            (Physical::INT64, Some(LogicalType::Timestamp(stamp)), _) => match stamp.unit {
                TimeUnit::MILLIS => time(1_000, 1, stamp.is_adjusted_to_u_t_c),
                TimeUnit::MICROS => time(1, 1, stamp.is_adjusted_to_u_t_c),
                TimeUnit::NANOS => time(1, 1_000, stamp.is_adjusted_to_u_t_c),
            },
            (Physical::INT64, None, Converted::TIMESTAMP_MILLIS) => time(1_000, 1, true),
            (Physical::INT64, None, Converted::TIMESTAMP_MICROS) => time(1, 1, true),
            (Physical::INT32, Some(LogicalType::Date), _) | (Physical::INT32, None, Converted::DATE) => Some(Cell::Date),
            (Physical::INT32 | Physical::INT64, Some(LogicalType::Integer(integer)), _) => {
                Some(if integer.is_signed { Cell::Int } else { Cell::UInt })
            }
            (Physical::INT32 | Physical::INT64, None, converted) => match converted {
                Converted::UINT_8 | Converted::UINT_16 | Converted::UINT_32 | Converted::UINT_64 => Some(Cell::UInt),
                Converted::NONE | Converted::INT_8 | Converted::INT_16 | Converted::INT_32 | Converted::INT_64 => Some(Cell::Int),
                _ => None,
            },
            (Physical::BYTE_ARRAY, None | Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _) => Some(Cell::Text),
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), _) => Some(Cell::Uuid),
            _ => None,
        }
    }
}

/// The text of a whole number, which a value is.
pub fn whole_text(cell: Cell, value: i64) -> String {
    let mut text = Vec::new();
    append_whole(cell, value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A column, and the texts of a batch of its values.
pub struct Cells {
    pub place: usize,
    reader: ColumnReader,
    cell: Cell,
    levels_max: i16,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    /// A column of a row group, for the field at a place.
    pub fn new(place: usize, reader: ColumnReader, cell: Cell, column: &ColumnDescriptor) -> Cells {
        Cells { place, reader, cell, levels_max: column.max_def_level(), text: Vec::new(), ends: Vec::new() }
    }

    /// The text of a row.
    pub fn text(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(row).and_then(|end| self.text.get(start..*end)).unwrap_or_default()
    }

    /// Reads the texts of up to so many rows. Returns of how many.
    pub fn fill(&mut self, rows: usize) -> ParquetResult<usize> {
        self.text.clear();
        self.ends.clear();
        let (cell, levels_max, text, ends) = (self.cell, self.levels_max, &mut self.text, &mut self.ends);
        let whole = |value: i64, text: &mut Vec<u8>| append_whole(cell, value, text);
        match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
                text.extend_from_slice(if *value { b"true" } else { b"false" });
            }),
            ColumnReader::Int32ColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
                let value = if cell == Cell::UInt { i64::from(value.cast_unsigned()) } else { i64::from(*value) };
                whole(value, text);
            }),
            ColumnReader::Int64ColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| whole(*value, text)),
            ColumnReader::Int96ColumnReader(reader) => {
                values(reader, levels_max, rows, ends, text, |value, text| whole(value.to_micros(), text))
            }
            ColumnReader::FloatColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
                // As data frames have what is missing.
                if value.is_nan() {
                    return;
                }
                text.extend_from_slice(value.to_string().as_bytes());
            }),
            ColumnReader::DoubleColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
                if value.is_nan() {
                    return;
                }
                let mut digits = zmij::Buffer::new();
                let digits = digits.format(*value);
                // A whole number is one: data frames write integers so where a column has holes.
                text.extend_from_slice(digits.strip_suffix(".0").unwrap_or(digits).as_bytes());
            }),
            ColumnReader::ByteArrayColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
                append_bytes(cell, value.data(), text);
            }),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
                append_bytes(cell, value.data(), text);
            }),
        }
    }
}

/// Reads up to so many values, and appends the text and the end of each; nothing for those that are missing.
fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels_max: i16,
    rows: usize,
    ends: &mut Vec<usize>,
    text: &mut Vec<u8>,
    append: impl Fn(&T::T, &mut Vec<u8>),
) -> ParquetResult<usize> {
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    let mut values = values.iter();
    for row in 0..read {
        if levels_max == 0 || levels.get(row) == Some(&levels_max) {
            values.next().into_iter().for_each(|value| append(value, text));
        }
        ends.push(text.len());
    }
    Ok(read)
}

fn append_whole(cell: Cell, value: i64, text: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    match cell {
        Cell::UInt => text.extend_from_slice(digits.format(value.cast_unsigned()).as_bytes()),
        Cell::Time { micros, per_micro, utc } => append_time(value.saturating_mul(micros).div_euclid(per_micro), utc, text),
        Cell::Decimal { scale } => append_decimal(value.into(), scale, text),
        Cell::Date => append_time(value.saturating_mul(DAY), false, text),
        _ => text.extend_from_slice(digits.format(value).as_bytes()),
    }
}

fn append_bytes(cell: Cell, bytes: &[u8], text: &mut Vec<u8>) {
    match cell {
        Cell::Decimal { scale } => {
            // Two's complement, the highest byte first.
            let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
            let Some(zeros) = 16usize.checked_sub(bytes.len()) else {
                // It is refused, and shown.
                return text.extend_from_slice(format!("a decimal of {} bytes", bytes.len()).as_bytes());
            };
            let mut number = [sign; 16];
            number.iter_mut().skip(zeros).zip(bytes).for_each(|(to, from)| *to = *from);
            append_decimal(i128::from_be_bytes(number), scale, text);
        }
        Cell::Uuid => {
            let uuid = uuid::Uuid::from_slice(bytes).unwrap_or_default();
            text.extend_from_slice(uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
        }
        _ => text.extend_from_slice(bytes),
    }
}

/// Units as a number with so many digits behind the point.
fn append_decimal(units: i128, scale: usize, text: &mut Vec<u8>) {
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if units < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(whole.as_bytes());
    if scale > 0 {
        text.push(b'.');
        text.extend_from_slice(fraction.as_bytes());
    }
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`, with a Z where it is of UTC.
fn append_time(micros: i64, utc: bool, text: &mut Vec<u8>) {
    if !(Moment(0)..=Moment::LAST).contains(&Moment(micros)) {
        // It is refused, and shown.
        text.extend_from_slice(Moment(micros.clamp(-62_135_596_800_000_000, 253_402_300_799_000_000)).to_string().as_bytes());
        return;
    }
    let (days, within) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = retally_core::calendar::Day(i32::try_from(days).unwrap_or(i32::MAX)).civil();
    let (seconds, fraction) = (within / 1_000_000, within % 1_000_000);
    let [[c0, c1], [y0, y1], [m0, m1], [d0, d1]] = [year / 100, year % 100, month, day].map(two_digits);
    let [[hour0, hour1], [min0, min1], [sec0, sec1]] = [seconds / 3_600, seconds / 60 % 60, seconds % 60].map(two_digits);
    text.extend_from_slice(&[c0, c1, y0, y1, b'-', m0, m1, b'-', d0, d1, b' ', hour0, hour1, b':', min0, min1, b':', sec0, sec1]);
    if fraction > 0 {
        text.push(b'.');
        let digits = 1_000_000 + fraction;
        text.extend_from_slice(itoa::Buffer::new().format(digits).as_bytes().get(1..).unwrap_or_default());
    }
    if utc {
        text.push(b'Z');
    }
}

fn two_digits(number: i64) -> [u8; 2] {
    let digit = |number: i64| b'0' + (number % 10) as u8;
    [digit(number / 10), digit(number)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_any_width() {
        let text = |bytes: &[u8], scale| {
            let mut text = Vec::new();
            append_bytes(Cell::Decimal { scale }, bytes, &mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(text(&[0x04, 0xd2], 2), "12.34");
        assert_eq!(text(&[0xff, 0xff, 0xfb], 3), "-0.005");
        assert_eq!(text(&[0x07], 0), "7");
        assert_eq!(text(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 38), "-1.70141183460469231731687303715884105728");
        assert_eq!(text(&[], 1), "0.0");
        assert_eq!(text(&[1; 17], 1), "a decimal of 17 bytes");
    }
}
