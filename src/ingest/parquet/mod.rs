//! Parquet: row groups as splits, and of them the columns that hold a field.
//!
//! Columns of single values become the texts that CSV would hold, batch by batch. Where a field is an object or a list (the parameters of
//! exported analytics events), rows become JSON objects of the columns that hold fields, and are read as such.

mod cells;
mod objects;
pub mod pages;
pub mod parts;
mod sought;

use super::IngestError;
use super::could_not;
use super::file::InputFile;
use cells::{Cell, Cells};
use pages::{SoundGroup, blamed_on};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::schema::types::{SchemaDescriptor, Type};
use parts::{Parts, Reader, failed, open};
use retally_core::contract::Input;
use retally_core::record::{Fields, Raw};
use retally_core::split::{Line, SplitError, SplitReader};
use sought::{Nested, Sought};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many rows are read at a time.
const BATCH_ROWS: usize = 4_096;

/// How many row groups a file has, when its columns can be used.
///
/// Errors call it by this name.
pub fn row_groups(name: &str, parts: &Parts, input: &Input) -> Result<u64, IngestError> {
    if input.files.wide.is_some() {
        return Err(IngestError::NotWide { path: name.into() });
    }
    let reader = open(name, parts).map_err(|source| IngestError::Io { what: "read", path: name.into(), source })?;
    let metadata = reader.metadata();
    Sought::find(name, metadata.file_metadata().schema_descr(), input)?;
    Ok(metadata.num_row_groups() as u64)
}

/// Reads row groups.
pub struct ParquetReader {
    parts: Parts,
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

impl ParquetReader {
    /// Reads the row groups of these numbers. Errors name the file as `name`.
    pub fn open(parts: Parts, name: String, range: (u64, u64), input: &Input, cancelled: Arc<AtomicBool>) -> io::Result<ParquetReader> {
        let reader = open(&name, &parts)?;
        let sought = Sought::find(&name, reader.metadata().file_metadata().schema_descr(), input)?;
        let number = |group: u64| usize::try_from(group).unwrap_or(usize::MAX).min(reader.metadata().num_row_groups());
        let groups = number(range.0)..number(range.1);
        Ok(ParquetReader { parts, name, input: input.clone(), reader, sought, groups, group: None, rows: 0, bytes: 0, cancelled })
    }

    fn begin(&mut self, number: usize) -> ParquetResult<Group> {
        let group = SoundGroup(self.reader.get_row_group(number)?);
        self.bytes += u64::try_from(group.metadata().compressed_size()).unwrap_or(0);
        if let Some(Nested { roots, .. }) = &self.sought.nested {
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
            Ok(Cells::new(*place, reader, cell, &descriptor))
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
        let mut slots: Vec<&[u8]> = vec![&[]; self.input.fields.len()];
        self.input.mapping.fill(&mut slots);
        for row in 0..rows {
            for cells in &*cells {
                slots.get_mut(cells.place).into_iter().for_each(|slot| *slot = cells.text(row));
            }
            let record = Ok(Raw::Fields(Fields::new(self.input.fields, &slots).with_typed_times(self.sought.times)));
            each(Line { member: None, number: self.rows + row as u64, bytes: &[], record });
        }
        Ok(rows)
    }

    fn objects(&self, rows: &mut ReaderIter, each: &mut dyn FnMut(Line<'_>)) -> ParquetResult<usize> {
        let mut count = 0;
        let mut object = String::new();
        let nested = self.sought.nested.iter();
        let times: Vec<_> = nested.flat_map(|nested| &nested.times).map(|(path, cell)| (path.as_slice(), *cell)).collect();
        for row in rows.take(BATCH_ROWS) {
            object.clear();
            objects::append_row(&row?, &times, &mut object);
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
        let name = self.name.clone();
        let read = blamed_on(&name, || self.step(each)).map_err(failed);
        // Each part was opened, and compared, by itself: what changed since then shows in another look.
        let read = read.and_then(|more| match &self.parts {
            Parts::Planned(file) if !more => InputFile::look_planned(file).map(|_| more),
            Parts::Planned(_) | Parts::Copied(..) => Ok(more),
        });
        read.map_err(|error| could_not(&format!("read {} after row {}", self.name, self.rows), &error))
    }

    fn bytes_read(&self) -> u64 {
        self.bytes
    }

    fn lines_read(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{pipes, sample};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// A file of one row, whose numbers are all the same; of an int64 and an int32 each.
    fn file(columns: &str, number: i64) -> Parts {
        let schema = Arc::new(parse_message_type(&format!("message rows {{ {columns} }}")).unwrap());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::builder().build())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                parquet::column::writer::ColumnWriter::Int64ColumnWriter(writer) => writer.write_batch(&[number], None, None).unwrap(),
                parquet::column::writer::ColumnWriter::Int32ColumnWriter(writer) => writer.write_batch(&[7], None, None).unwrap(),
                _ => unreachable!(),
            };
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let (file, bytes) = pipes::copy(bytes.as_slice()).unwrap();
        Parts::Copied(file, bytes)
    }

    fn read(columns: &str, number: i64) -> Result<String, String> {
        let (input, parts) = (sample::input(), file(columns, number));
        row_groups("x.parquet", &parts, &input).map_err(|error| error.to_string())?;
        let mut reader = ParquetReader::open(parts, "x.parquet".into(), (0, 1), &input, Arc::default()).unwrap();
        let mut shown = String::new();
        let mut each = |line: Line<'_>| match line.record.unwrap() {
            Raw::Json(object) => shown.push_str(std::str::from_utf8(object).unwrap()),
            Raw::Fields(fields) => {
                shown = [0, 1].map(|place| String::from_utf8_lossy(fields.text(place)).into_owned()).join(",");
            }
        };
        while reader.read(&mut each).unwrap() {}
        Ok(shown)
    }

    #[test]
    fn times_are_the_same_beside_nested_columns() {
        let nanos = 1_767_261_600_123_456_789;
        for (kind, number, text) in [
            ("(TIMESTAMP(NANOS,false))", nanos, "2026-01-01 10:00:00.123456"),
            ("(TIMESTAMP(NANOS,true))", nanos, "2026-01-01 10:00:00.123456Z"),
            ("(TIMESTAMP(MICROS,false))", nanos / 1_000, "2026-01-01 10:00:00.123456"),
            ("(TIMESTAMP(MILLIS,true))", nanos / 1_000_000, "2026-01-01 10:00:00.123000Z"),
            ("(INTEGER(64,true))", 5, "5"),
        ] {
            let column = format!("required int64 time {kind};");
            assert_eq!(read(&format!("{column} required int32 id;"), number), Ok(format!("{text},7")));
            let quoted = if number == 5 { text.into() } else { format!("{text:?}") };
            let nested = read(&format!("{column} required group id {{ required int32 a; required int64 time; }}"), number);
            assert_eq!(nested, Ok(format!("{{\"time\":{quoted},\"id\":{{\"a\":7,\"time\":{number}}}}}")));
        }
    }

    /// What may be meant is named with its path, wherever it is.
    #[test]
    fn the_nearest_column_may_be_within_others() {
        let hint = |columns: &str| {
            let error = row_groups("x.parquet", &file(columns, 1), &sample::input()).unwrap_err();
            error.hint().unwrap_or_default().to_string()
        };
        let nested = "required int64 x; required group payload { required int64 Zeit; required group at { required int64 Time; } }";
        let time = hint(&format!("{nested} required int32 id;"));
        assert!(time.starts_with("start from --map ") && time.ends_with(".time=payload.at.Time"), "{time}");
        let id = hint("required int64 time; required group device { required int32 ident; } required int32 unit;");
        assert!(id.ends_with(".id=device.ident"), "{id}");
        // What stands in a row is preferred, and a name with a dot is one.
        let time = hint("required group a { required int64 times; } required int64 times; required int32 id;");
        assert!(time.ends_with(".time=times"), "{time}");
        let time = hint("required group a { required int32 b; } required int32 id;");
        assert!(time.ends_with(".time=COLUMN"), "{time}");
    }

    /// Of columns that differ in case alone, the one that is called as the field counts.
    #[test]
    fn a_name_of_several_columns_is_none() {
        for columns in [
            "required int64 Time; required int64 TIME; required int32 id;",
            "required int64 time; required int32 ID; required group Id { required int32 a; }",
        ] {
            let error = read(columns, 1).unwrap_err();
            assert!(error.contains(" twice; its columns are"), "{error}");
        }
        assert_eq!(read("required int64 time; required int64 TIME; required int32 id; required int32 Id;", 3), Ok("3,7".into()));
    }
}
