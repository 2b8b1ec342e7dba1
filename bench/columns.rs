//! Events of `online` as Parquet, as other programs write them: times in microseconds, whole numbers, Snappy, some 100,000 rows to a group.

use crate::Result;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use retally_core::calendar::Calendar;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

const SCHEMA: &str = "message events {
    required int64 timestamp (TIMESTAMP(MICROS,true));
    required int64 device_id (INTEGER(64,false));
    required int64 user_id (INTEGER(64,false));
    required int64 server_id (INTEGER(64,false));
    required boolean connected;
}";
const GROUP_ROWS: usize = 131_072;

/// Writes the events of a file of CSV.
pub fn write(from: &Path, to: &Path) -> Result<()> {
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let file = BufWriter::new(File::create(to)?);
    let mut writer = SerializedFileWriter::new(file, Arc::new(parse_message_type(SCHEMA)?), properties)?;
    let mut lines = BufReader::new(File::open(from)?).lines().skip(1);
    loop {
        let (mut numbers, mut connected) = ([const { Vec::new() }; 4], Vec::new());
        for line in lines.by_ref().take(GROUP_ROWS) {
            let line = line?;
            let [time, device, user, server, on] = line.split(',').collect::<Vec<_>>()[..] else { return Err(line.into()) };
            let time = Calendar::utc().parse(time.as_bytes()).map_err(|_| line.clone())?;
            numbers[0].push(time.0);
            for (column, id) in numbers.iter_mut().skip(1).zip([device, user, server]) {
                column.push(id.parse::<u64>()?.cast_signed());
            }
            connected.push(on.parse()?);
        }
        if connected.is_empty() {
            break;
        }
        let mut group = writer.next_row_group()?;
        for column in &numbers {
            append::<Int64Type>(&mut group, column)?;
        }
        append::<BoolType>(&mut group, &connected)?;
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn append<T: parquet::data_type::DataType>(group: &mut SerializedRowGroupWriter<'_, BufWriter<File>>, values: &[T::T]) -> Result<()> {
    let mut column = group.next_column()?.ok_or("the schema has fewer columns")?;
    column.typed::<T>().write_batch(values, None, None)?;
    Ok(column.close()?)
}
