//! Parquet: row groups as splits, and of them the columns that hold a field.
//!
//! Columns of single values become the texts that CSV would hold, batch by batch. Where a field is an object or a list (the parameters of
//! exported analytics events), rows become JSON objects of the columns that hold fields, and are read as such.
//!
//! # Limits
//! A local time in a file with nested fields is refused: which column it is gets lost on the way.

use super::IngestError;
use super::could_not;
use super::file::{InputFile, size};
use super::nearest::{map_flag, nearest};
use super::pages::{SoundGroup, reading};
use bytes::Bytes;
use parquet::basic::{LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, FileReader, Length, RowGroupReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field as Value, Row};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};
use retally_core::contract::Input;
use retally_core::mapping::Origin;
use retally_core::record::{Fields, Presence, Raw};
use retally_core::split::{Line, SourceFile, SplitError, SplitReader};
use retally_core::time::{DAY, Moment};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many rows are read at a time.
const BATCH_ROWS: usize = 4_096;

/// A file in parts, each of which must be of what was planned.
struct Parts(SourceFile);

impl Length for Parts {
    fn len(&self) -> u64 {
        size(&self.0.version)
    }
}

impl ChunkReader for Parts {
    type T = BufReader<InputFile>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(InputFile::open_planned(&self.0, start, None)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let until = start.saturating_add(length as u64);
        let mut bytes = Vec::with_capacity(length);
        InputFile::open_planned(&self.0, start, Some(until))?.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("it ends at byte {}", start + bytes.len() as u64)));
        }
        Ok(bytes.into())
    }
}

type Reader = SerializedFileReader<Parts>;

fn open(file: &SourceFile) -> io::Result<Reader> {
    let reader = reading(&file.location, || SerializedFileReader::new(Parts(file.clone()))).map_err(failed)?;
    let size = size(&file.version);
    // The library takes for granted that what a file says of its parts is true.
    let within = |offset: i64| u64::try_from(offset).is_ok_and(|offset| offset <= size);
    for group in reader.metadata().row_groups() {
        let sound = group.num_rows() >= 0
            && group.columns().iter().all(|column| {
                let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
                let (length, values) = (column.compressed_size(), column.num_values());
                values >= 0 && within(column.data_page_offset()) && within(start) && within(length) && within(start.saturating_add(length))
            });
        if !sound {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what it says of its row groups can't be"));
        }
    }
    Ok(reader)
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::new(io::ErrorKind::InvalidData, cause.to_string()),
        },
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

/// How many row groups a file has, when its columns can be used.
pub fn row_groups(file: &SourceFile, input: &Input) -> Result<u64, IngestError> {
    let reader = open(file).map_err(|source| IngestError::Io { what: "read", path: file.location.clone(), source })?;
    let metadata = reader.metadata();
    Sought::find(&file.location, metadata.file_metadata().schema_descr(), input)?;
    Ok(metadata.num_row_groups() as u64)
}

/// Where the fields of an input are in a file.
struct Sought {
    /// Fields of single values: their places, and the columns.
    columns: Vec<(usize, usize)>,
    /// The roots of columns that hold fields, where some field is no single value.
    nested: Option<Vec<String>>,
}

impl Sought {
    fn find(name: &str, schema: &SchemaDescriptor, input: &Input) -> Result<Sought, IngestError> {
        let error = |why: String, hint: String| IngestError::Header { path: name.into(), why, columns: shown(schema), hint };
        let (mut columns, mut roots, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut nested = false;
        for (place, field) in input.fields.iter().enumerate() {
            if !input.mapping.is_sought(place) {
                continue;
            }
            let (mut paths, any_case) = input.mapping.paths(place, field);
            if let Origin::Column(column) = input.mapping.origin(place) {
                // A column may have a dot in its name.
                paths.insert(0, vec![column.name.clone()]);
            }
            let found = paths.iter().find_map(|path| Place::find(schema, path, any_case));
            match found {
                None if field.presence == Presence::OfSome => {}
                None => missing.push((place, field)),
                Some(Place::Column(column)) => {
                    let descriptor = schema.column(column);
                    roots.extend(descriptor.path().parts().first().cloned());
                    if Cell::of(&descriptor).is_none() {
                        let why = format!("its column {:?} holds values that are not read", descriptor.path().string());
                        return Err(error(why, String::new()));
                    }
                    columns.push((place, column));
                }
                Some(Place::Within(root)) => {
                    nested = true;
                    roots.push(root);
                }
            }
        }
        if !missing.is_empty() {
            let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|field| field.name()).collect();
            let lacking = missing.iter().map(|(place, field)| input.mapping.name(*place, field)).collect::<Vec<_>>().join(", ");
            let column = |place, field| nearest(input.mapping.name(place, field), &names).unwrap_or("COLUMN");
            let flags = missing.iter().map(|(place, field)| map_flag(input, field, column(*place, field))).collect::<Vec<_>>().join(" ");
            return Err(error(format!("it has no column {lacking}"), format!("start from {flags}")));
        }
        roots.dedup();
        let local = |(_, column): &(usize, usize)| matches!(Cell::of(&schema.column(*column)), Some(Cell::Time { utc: false, .. }));
        if nested && columns.iter().any(local) {
            return Err(error("it has local times beside nested columns".into(), "write times in UTC".into()));
        }
        Ok(Sought { columns, nested: nested.then_some(roots) })
    }
}

fn shown(schema: &SchemaDescriptor) -> String {
    schema.root_schema().get_fields().iter().map(|field| format!("{:?}", field.name())).collect::<Vec<_>>().join(", ")
}

/// Where a path of names leads.
enum Place {
    /// A column of single values.
    Column(usize),
    /// Something else within this root.
    Within(String),
}

impl Place {
    fn find(schema: &SchemaDescriptor, path: &[String], any_case: bool) -> Option<Place> {
        let same = |a: &str, b: &str| a == b || (any_case && a.eq_ignore_ascii_case(b));
        let leads = |column: &ColumnDescriptor| {
            let parts = column.path().parts();
            parts.len() >= path.len() && parts.iter().zip(path).all(|(part, name)| same(part, name))
        };
        let (place, column) = schema.columns().iter().enumerate().find(|(_, column)| leads(column))?;
        let single = column.max_rep_level() == 0 && column.path().parts().len() == path.len();
        if single { Some(Place::Column(place)) } else { Some(Place::Within(column.path().parts().first()?.clone())) }
    }
}

/// How a column's values become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
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
    fn of(column: &ColumnDescriptor) -> Option<Cell> {
        use parquet::basic::ConvertedType as Converted;
        let time = |micros, per_micro, utc| Some(Cell::Time { micros, per_micro, utc });
        if column.converted_type() == Converted::DECIMAL || matches!(column.logical_type_ref(), Some(LogicalType::Decimal(_))) {
            return Some(Cell::Decimal { scale: usize::try_from(column.type_scale()).unwrap_or(0) });
        }
        match (column.physical_type(), column.logical_type_ref(), column.converted_type()) {
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

/// Reads row groups.
pub struct ParquetReader {
    file: SourceFile,
    name: String,
    input: Input,
    reader: Reader,
    sought: Sought,
    groups: Range<usize>,
    group: Option<Group>,
    rows: u64,
    bytes: u64,
    cancelled: Arc<AtomicBool>,
}

/// A row group that is being read.
enum Group {
    Columns(Vec<Cells>),
    Rows(ReaderIter),
}

/// A column, and the texts of a batch of its values.
struct Cells {
    place: usize,
    reader: ColumnReader,
    cell: Cell,
    levels_max: i16,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl ParquetReader {
    /// Reads the row groups of these numbers. Errors name the file as `name`.
    pub fn open(
        file: &SourceFile,
        name: String,
        range: (u64, u64),
        input: &Input,
        cancelled: Arc<AtomicBool>,
    ) -> io::Result<ParquetReader> {
        let reader = open(file)?;
        let sought = Sought::find(&file.location, reader.metadata().file_metadata().schema_descr(), input)?;
        let number = |group: u64| usize::try_from(group).unwrap_or(usize::MAX).min(reader.metadata().num_row_groups());
        let groups = number(range.0)..number(range.1);
        Ok(ParquetReader {
            file: file.clone(),
            name,
            input: input.clone(),
            reader,
            sought,
            groups,
            group: None,
            rows: 0,
            bytes: 0,
            cancelled,
        })
    }

    fn begin(&mut self, number: usize) -> ParquetResult<Group> {
        let group = SoundGroup(self.reader.get_row_group(number)?);
        self.bytes += u64::try_from(group.metadata().compressed_size()).unwrap_or(0);
        if let Some(roots) = &self.sought.nested {
            let schema = self.reader.metadata().file_metadata().schema();
            let fields = schema.get_fields().iter().filter(|field| roots.iter().any(|root| root == field.name())).cloned().collect();
            let projection = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
            let descriptor = Arc::new(SchemaDescriptor::new(Arc::new(projection)));
            return TreeBuilder::new().as_iter(descriptor, &group).map(Group::Rows);
        }
        let cells = self.sought.columns.iter().map(|(place, column)| {
            let descriptor = group.metadata().column(*column).column_descr_ptr();
            let cell = Cell::of(&descriptor).ok_or_else(|| ParquetError::General("a column that is not read".into()))?;
            let reader = group.get_column_reader(*column)?;
            Ok(Cells { place: *place, reader, cell, levels_max: descriptor.max_def_level(), text: Vec::new(), ends: Vec::new() })
        });
        cells.collect::<ParquetResult<_>>().map(Group::Columns)
    }

    fn step(&mut self, each: &mut dyn FnMut(Line<'_>)) -> ParquetResult<bool> {
        let Some(mut group) = self.group.take() else {
            let Some(number) = self.groups.next() else { return Ok(false) };
            self.group = Some(self.begin(number)?);
            return Ok(true);
        };
        let rows = match &mut group {
            Group::Columns(cells) => self.columns(cells, each)?,
            Group::Rows(rows) => self.objects(rows, each)?,
        };
        self.rows += rows as u64;
        self.group = (rows > 0).then_some(group);
        Ok(true)
    }

    fn columns(&self, cells: &mut [Cells], each: &mut dyn FnMut(Line<'_>)) -> ParquetResult<usize> {
        let mut rows = None;
        for cells in &mut *cells {
            let read = cells.fill(BATCH_ROWS)?;
            if *rows.get_or_insert(read) != read {
                return Err(ParquetError::General("its columns have different numbers of rows".into()));
            }
        }
        let rows = rows.unwrap_or(0);
        let mut line = Vec::new();
        let mut slots: Vec<&[u8]> = vec![&[]; self.input.fields.len()];
        self.input.mapping.fill(&mut slots);
        for row in 0..rows {
            for cells in &*cells {
                slots.get_mut(cells.place).into_iter().for_each(|slot| *slot = cells.text(row));
            }
            line.clear();
            for slot in &slots {
                line.extend_from_slice(slot);
                line.push(b',');
            }
            line.pop();
            let record = Ok(Raw::Fields(Fields::new(self.input.fields, &slots)));
            each(Line { member: None, number: self.rows + row as u64, bytes: &line, record });
        }
        Ok(rows)
    }

    fn objects(&self, rows: &mut ReaderIter, each: &mut dyn FnMut(Line<'_>)) -> ParquetResult<usize> {
        let mut count = 0;
        let mut object = String::new();
        for row in rows.take(BATCH_ROWS) {
            object.clear();
            append_row(&row?, &mut object);
            let bytes = object.as_bytes();
            each(Line { member: None, number: self.rows + count as u64, bytes, record: Ok(Raw::Json(bytes)) });
            count += 1;
        }
        Ok(count)
    }
}

impl SplitReader for ParquetReader {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, SplitError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let location = self.file.location.clone();
        let read = reading(&location, || self.step(each)).map_err(failed);
        // Each part was opened, and compared, by itself: what changed since then shows in another look.
        let read = read.and_then(|more| if more { Ok(more) } else { InputFile::look_planned(&self.file).map(|_| more) });
        read.map_err(|error| could_not(&format!("read {} after row {}", self.name, self.rows), &error))
    }

    fn bytes_read(&self) -> u64 {
        self.bytes
    }

    fn lines_read(&self) -> u64 {
        self.rows
    }
}

impl Cells {
    fn text(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(row).and_then(|end| self.text.get(start..*end)).unwrap_or_default()
    }

    /// Reads the texts of up to so many rows. Returns of how many.
    fn fill(&mut self, rows: usize) -> ParquetResult<usize> {
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
                text.extend_from_slice(value.to_string().as_bytes());
            }),
            ColumnReader::DoubleColumnReader(reader) => values(reader, levels_max, rows, ends, text, |value, text| {
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
    let mut two = |number: i64, behind: u8| {
        let digit = |number: i64| b'0' + u8::try_from(number % 10).unwrap_or(0);
        text.extend_from_slice(&[digit(number / 10), digit(number)]);
        if behind != 0 {
            text.push(behind);
        }
    };
    two(year / 100, 0);
    two(year % 100, b'-');
    two(month, b'-');
    two(day, b' ');
    two(seconds / 3_600, b':');
    two(seconds / 60 % 60, b':');
    two(seconds % 60, 0);
    if fraction > 0 {
        text.push(b'.');
        let digits = 1_000_000 + fraction;
        text.extend_from_slice(itoa::Buffer::new().format(digits).as_bytes().get(1..).unwrap_or_default());
    }
    if utc {
        text.push(b'Z');
    }
}

fn append_row(row: &Row, out: &mut String) {
    out.push('{');
    for (place, (name, value)) in row.get_column_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        append_text(name, out);
        out.push(':');
        append_value(value, out);
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
        Value::Group(row) => append_row(row, out),
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
