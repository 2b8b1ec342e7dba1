//! A table as Parquet, for warehouses and notebooks.
//!
//! Days are DATE, times TIMESTAMP in microseconds of UTC, numbers UINT_64, INT_64 and DOUBLE, texts, UUIDs and labels UTF8. Columns are
//! optional where values may be missing, and compressed with zstd.
//!
//! # Limits
//! A row group, which is held in memory while it is written, has at most [`GROUP_ROWS_MAX`] rows and about [`GROUP_BYTES_MAX`] bytes.

use super::cells::{self, Cell};
use crate::tables::TableState;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType};
use std::io::{self, Write};
use std::sync::Arc;

/// Rows in a row group.
const GROUP_ROWS_MAX: usize = 1 << 18;
/// Bytes in a row group before compression.
const GROUP_BYTES_MAX: usize = 64 << 20;

/// Writes the table.
pub(super) fn write<W: Write + Send>(state: &TableState, out: W) -> io::Result<()> {
    write_groups(state, out, GROUP_ROWS_MAX).map_err(io_error)
}

fn write_groups<W: Write + Send>(state: &TableState, out: W, rows_max: usize) -> Result<(), ParquetError> {
    let columns = &state.table().columns;
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(zstd).set_created_by("retally".into()).build();
    let mut writer = SerializedFileWriter::new(out, schema(state.table())?, Arc::new(properties))?;
    let mut group: Vec<Collected> = columns.iter().map(Collected::new).collect();
    let (mut rows, mut bytes) = (0, 0);
    for row in state.rows() {
        let mut rest = row;
        for (column, collected) in columns.iter().zip(&mut group) {
            collected.push(cells::take(column, &mut rest));
        }
        rows += 1;
        bytes += row.len();
        if rows >= rows_max || bytes >= GROUP_BYTES_MAX {
            write_group(&mut writer, &mut group)?;
            (rows, bytes) = (0, 0);
        }
    }
    if rows > 0 {
        write_group(&mut writer, &mut group)?;
    }
    writer.close()?;
    Ok(())
}

fn schema(table: &Table) -> Result<TypePtr, ParquetError> {
    let fields = table.columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            ColumnType::Day => (PhysicalType::INT32, Some(LogicalType::Date)),
            ColumnType::Time => (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            ColumnType::UInt | ColumnType::Id => (PhysicalType::INT64, Some(LogicalType::integer(64, false))),
            ColumnType::Int => (PhysicalType::INT64, Some(LogicalType::integer(64, true))),
            ColumnType::Float => (PhysicalType::DOUBLE, None),
            ColumnType::Bool => (PhysicalType::BOOLEAN, None),
            ColumnType::Text | ColumnType::TextId(_) | ColumnType::Uuid | ColumnType::Label(_) => {
                (PhysicalType::BYTE_ARRAY, Some(LogicalType::String))
            }
        };
        let repetition = if column.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let field = Type::primitive_type_builder(column.name, physical).with_repetition(repetition).with_logical_type(logical);
        Ok(Arc::new(field.build()?))
    });
    let fields = fields.collect::<Result<Vec<_>, ParquetError>>()?;
    Ok(Arc::new(Type::group_type_builder(table.name).with_fields(fields).build()?))
}

/// What is collected of a column: its values, and for each row of a nullable one whether there is one.
struct Collected {
    values: Values,
    present: Option<Vec<i16>>,
}

enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
    Bytes(Vec<ByteArray>),
}

impl Collected {
    fn new(column: &Column) -> Collected {
        let values = match column.kind {
            ColumnType::Day => Values::Int32(Vec::new()),
            ColumnType::Time | ColumnType::UInt | ColumnType::Id | ColumnType::Int => Values::Int64(Vec::new()),
            ColumnType::Float => Values::Double(Vec::new()),
            ColumnType::Bool => Values::Bool(Vec::new()),
            ColumnType::Text | ColumnType::TextId(_) | ColumnType::Uuid | ColumnType::Label(_) => Values::Bytes(Vec::new()),
        };
        Collected { values, present: column.nullable.then(Vec::new) }
    }

    fn push(&mut self, cell: Cell<'_>) {
        if let Some(present) = &mut self.present {
            present.push(i16::from(cell != Cell::Null));
        }
        match (&mut self.values, cell) {
            (_, Cell::Null) => {}
            (Values::Int32(values), Cell::Day(day)) => values.push(day.0),
            (Values::Int64(values), Cell::Time(moment)) => values.push(moment.0),
            // The format keeps unsigned numbers in the bits of signed ones.
            (Values::Int64(values), Cell::UInt(number)) => values.push(number.cast_signed()),
            (Values::Int64(values), Cell::Int(number)) => values.push(number),
            (Values::Double(values), Cell::Float(number)) => values.push(number),
            (Values::Bool(values), Cell::Bool(truth)) => values.push(truth),
            (Values::Bytes(values), Cell::Text(text)) => values.push(ByteArray::from(text.into_owned().into_bytes())),
            (Values::Bytes(values), cell @ Cell::Uuid(_)) => {
                let mut text = Vec::new();
                cell.append(&mut text);
                values.push(ByteArray::from(text));
            }
            (_, cell) => unreachable!("a column holds a {cell:?} of another type"),
        }
    }

    fn write<W: Write + Send>(&mut self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        let present = self.present.as_deref();
        match &mut self.values {
            Values::Int32(values) => write_column::<Int32Type, W>(group, values, present),
            Values::Int64(values) => write_column::<Int64Type, W>(group, values, present),
            Values::Double(values) => write_column::<DoubleType, W>(group, values, present),
            Values::Bool(values) => write_column::<BoolType, W>(group, values, present),
            Values::Bytes(values) => write_column::<ByteArrayType, W>(group, values, present),
        }?;
        self.present.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

fn write_group<W: Write + Send>(writer: &mut SerializedFileWriter<W>, group: &mut [Collected]) -> Result<(), ParquetError> {
    let mut out = writer.next_row_group()?;
    group.iter_mut().try_for_each(|column| column.write(&mut out))?;
    out.close()?;
    Ok(())
}

/// Writes what was collected of the next column, and forgets it.
fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &mut Vec<T::T>,
    present: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has fewer columns than the table".into()));
    };
    column.typed::<T>().write_batch(values, present, None)?;
    column.close()?;
    values.clear();
    Ok(())
}

/// An error of the file comes back as it was, so that a full disk is called that.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::{Tuple, columns, encode, state, tuple};
    use super::*;
    use parquet::column::reader::get_typed_column_reader;
    use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
    use proptest::prelude::*;
    use retally_core::row::{Value, values};

    /// A column as the low-level reader gives it.
    fn column<T: DataType>(group: &dyn RowGroupReader, place: usize, nullable: bool) -> Vec<Option<T::T>> {
        let rows = usize::try_from(group.metadata().num_rows()).unwrap();
        let mut reader = get_typed_column_reader::<T>(group.get_column_reader(place).unwrap());
        let (mut present, mut values) = (Vec::new(), Vec::new());
        reader.read_records(rows, nullable.then_some(&mut present), None, &mut values).unwrap();
        let mut values = values.into_iter();
        (0..rows).map(|row| if nullable && present[row] == 0 { None } else { values.next() }).collect()
    }

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn read(bytes: Vec<u8>) -> Vec<Vec<Value>> {
        use retally_core::calendar::Day;
        use retally_core::time::Moment;
        fn to_values<T>(column: Vec<Option<T>>, value: impl Fn(T) -> Value) -> Vec<Value> {
            column.into_iter().map(|cell| cell.map_or(Value::Null, &value)).collect()
        }
        let text = |bytes: ByteArray| Value::Text(String::from_utf8(bytes.data().to_vec()).unwrap());
        let reader = SerializedFileReader::new(file(&bytes)).unwrap();
        let mut rows = Vec::new();
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).unwrap();
            let group = group.as_ref();
            let read = [
                to_values(column::<Int32Type>(group, 0, false), |day| Value::Day(Day(day))),
                to_values(column::<Int64Type>(group, 1, true), |time| Value::Time(Moment(time))),
                to_values(column::<Int64Type>(group, 2, false), |number| Value::UInt(number.cast_unsigned())),
                to_values(column::<Int64Type>(group, 3, true), Value::Int),
                to_values(column::<DoubleType>(group, 4, false), Value::Float),
                to_values(column::<BoolType>(group, 5, false), Value::Bool),
                to_values(column::<ByteArrayType>(group, 6, true), text),
                to_values(column::<ByteArrayType>(group, 7, false), text),
                to_values(column::<ByteArrayType>(group, 8, true), text),
            ];
            rows.extend((0..read[0].len()).map(|row| read.iter().map(|column| column[row].clone()).collect::<Vec<_>>()));
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn round_trip(tuples in proptest::collection::vec(tuple(), 0..30), rows_max in 1usize..12) {
            let state = state(columns(), tuples.iter().map(encode));
            let mut bytes = Vec::new();
            write_groups(&state, &mut bytes, rows_max).unwrap();
            let expected: Vec<Vec<Value>> = state.rows().map(|row| values(&columns(), row).collect()).collect();
            prop_assert_eq!(read(bytes), expected);
        }
    }

    #[test]
    fn the_schema() {
        let tuple: Tuple = (0, None, 0, None, 0.0, false, None, 0, None);
        let mut bytes = Vec::new();
        write(&state(columns(), [encode(&tuple)]), &mut bytes).unwrap();
        let reader = SerializedFileReader::new(file(&bytes)).unwrap();
        let mut text = Vec::new();
        parquet::schema::printer::print_schema(&mut text, reader.metadata().file_metadata().schema());
        let expected = "message sample {\n  \
            REQUIRED INT32 day (DATE);\n  \
            OPTIONAL INT64 time (TIMESTAMP(MICROS,true));\n  \
            REQUIRED INT64 uint (INTEGER(64,false));\n  \
            OPTIONAL INT64 int (INTEGER(64,true));\n  \
            REQUIRED DOUBLE float;\n  \
            REQUIRED BOOLEAN bool;\n  \
            OPTIONAL BYTE_ARRAY text (STRING);\n  \
            REQUIRED BYTE_ARRAY label (STRING);\n  \
            OPTIONAL BYTE_ARRAY uuid (STRING);\n}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
