//! Parquet files for tests.

use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use retally_core::calendar::Calendar;
use std::sync::Arc;

/// Events of `online` from lines of CSV, so many to a row group. Lines that are none are left out.
pub fn events(lines: &[String], group_rows: usize) -> Vec<u8> {
    let schema = "message events {
        required int64 Timestamp (TIMESTAMP(MICROS,true));
        required int64 device_id (UINT_64);
        optional double user_id;
        required binary server_id (UTF8);
        optional boolean connected;
        optional int32 unread;
    }";
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split(',').collect()).collect();
    let whole = |row: &&Vec<&str>| {
        row.len() == 5
            && Calendar::utc().parse(row[0].as_bytes()).is_ok()
            && row[1..4].iter().all(|id| id.parse::<u64>().is_ok_and(|id| id < 1 << 53))
            && ["true", "false"].contains(&row[4])
    };
    let rows: Vec<&Vec<&str>> = rows.iter().filter(whole).collect();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build());
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    for rows in rows.chunks(group_rows) {
        let mut group = file.next_row_group().unwrap();
        let present = vec![1; rows.len()];
        let mut place = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let texts = rows.iter().map(|row| row.get(place).copied().unwrap_or_default());
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(writer) if place == 0 => {
                    let values: Vec<i64> = texts.map(|text| Calendar::utc().parse(text.as_bytes()).unwrap().0).collect();
                    writer.write_batch(&values, None, None).unwrap();
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let values: Vec<i64> = texts.map(|text| text.parse().unwrap()).collect();
                    writer.write_batch(&values, None, None).unwrap();
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let values: Vec<f64> = texts.map(|text| text.parse().unwrap()).collect();
                    writer.write_batch(&values, Some(&present), None).unwrap();
                }
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let values: Vec<ByteArray> = texts.map(ByteArray::from).collect();
                    writer.write_batch(&values, None, None).unwrap();
                }
                ColumnWriter::BoolColumnWriter(writer) => {
                    let values: Vec<bool> = texts.map(|text| text == "true").collect();
                    writer.write_batch(&values, Some(&present), None).unwrap();
                }
                ColumnWriter::Int32ColumnWriter(writer) => {
                    writer.write_batch(&[], Some(&vec![0; rows.len()]), None).unwrap();
                }
                _ => panic!("a column that is not in the schema"),
            }
            column.close().unwrap();
            place += 1;
        }
        group.close().unwrap();
    }
    file.close().unwrap();
    bytes
}

/// Events as a data frame with holes has them: times by type, ids as floats.
pub fn frame(micros: &[i64], devices: &[f64], connected: &[bool]) -> Vec<u8> {
    let schema = "message events {
        required int64 timestamp (TIMESTAMP(MICROS,true));
        optional double device_id;
        required int64 user_id;
        required int64 server_id;
        required boolean connected;
    }";
    written(schema, |name, column| match column {
        ColumnWriter::Int64ColumnWriter(writer) => {
            let same = vec![if name == "user_id" { 1 } else { 7 }; micros.len()];
            writer.write_batch(if name == "timestamp" { micros } else { &same }, None, None).unwrap();
        }
        ColumnWriter::DoubleColumnWriter(writer) => drop(writer.write_batch(devices, Some(&vec![1; devices.len()]), None).unwrap()),
        ColumnWriter::BoolColumnWriter(writer) => drop(writer.write_batch(connected, None, None).unwrap()),
        _ => panic!("a column that is not in the schema"),
    })
}

/// Servers of which none was destroyed: that column has no type but that nothing is in it.
pub fn servers_alive(servers: &[(i64, i64)]) -> Vec<u8> {
    let schema = "message servers {
        required int64 id;
        required int64 created_at (TIMESTAMP(MICROS,true));
        optional int32 destroyed_at (UNKNOWN);
    }";
    let (ids, times): (Vec<i64>, Vec<i64>) = servers.iter().copied().unzip();
    written(schema, |name, column| match column {
        ColumnWriter::Int64ColumnWriter(writer) => drop(writer.write_batch(if name == "id" { &ids } else { &times }, None, None).unwrap()),
        ColumnWriter::Int32ColumnWriter(writer) => drop(writer.write_batch(&[], Some(&vec![0; ids.len()]), None).unwrap()),
        _ => panic!("a column that is not in the schema"),
    })
}

/// One row group, column by column.
fn written(schema: &str, mut write: impl FnMut(&str, &mut ColumnWriter<'_>)) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for name in names {
        let mut column = group.next_column().unwrap().unwrap();
        write(&name, column.untyped());
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

/// An event of an app.
pub struct AppEvent {
    pub user: String,
    pub micros: i64,
    pub valuable: bool,
    pub offset: i64,
}

/// Engagements of five seconds, with nested parameters as BigQuery exports them.
pub fn app_events(events: &[AppEvent]) -> Vec<u8> {
    let schema = "message events {
        required binary event_name (UTF8);
        required int64 event_timestamp;
        optional binary user_pseudo_id (UTF8);
        optional group event_params (LIST) {
            repeated group list {
                optional group element {
                    optional binary key (UTF8);
                    optional group value { optional binary string_value (UTF8); optional int64 int_value; }
                }
            }
        }
        optional group device { optional binary category (UTF8); optional int64 time_zone_offset_seconds; }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    // Each event has its engagement, and a second parameter when it is valuable.
    let repeats: Vec<i16> = events.iter().flat_map(|event| if event.valuable { vec![0, 1] } else { vec![0] }).collect();
    let mut place = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        let texts = |values: Vec<&str>| values.into_iter().map(ByteArray::from).collect::<Vec<_>>();
        match (column.untyped(), place) {
            (ColumnWriter::ByteArrayColumnWriter(writer), 0) => {
                writer.write_batch(&texts(vec!["user_engagement"; events.len()]), None, None).unwrap();
            }
            (ColumnWriter::Int64ColumnWriter(writer), 1) => {
                writer.write_batch(&events.iter().map(|event| event.micros).collect::<Vec<_>>(), None, None).unwrap();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), 2) => {
                let users = texts(events.iter().map(|event| event.user.as_str()).collect());
                writer.write_batch(&users, Some(&vec![1; events.len()]), None).unwrap();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), 3) => {
                let keys = repeats.iter().map(|repeat| if *repeat == 0 { "engagement_time_msec" } else { "engaged_session_event" });
                writer.write_batch(&texts(keys.collect()), Some(&vec![4; repeats.len()]), Some(&repeats)).unwrap();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), 4) => {
                writer.write_batch(&[], Some(&vec![4; repeats.len()]), Some(&repeats)).unwrap();
            }
            (ColumnWriter::Int64ColumnWriter(writer), 5) => {
                let values: Vec<i64> = repeats.iter().map(|repeat| if *repeat == 0 { 5_000 } else { 1 }).collect();
                writer.write_batch(&values, Some(&vec![5; repeats.len()]), Some(&repeats)).unwrap();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), 6) => {
                writer.write_batch(&[], Some(&vec![1; events.len()]), None).unwrap();
            }
            (ColumnWriter::Int64ColumnWriter(writer), 7) => {
                let offsets: Vec<i64> = events.iter().map(|event| event.offset).collect();
                writer.write_batch(&offsets, Some(&vec![2; events.len()]), None).unwrap();
            }
            _ => panic!("a column that is not in the schema"),
        }
        column.close().unwrap();
        place += 1;
    }
    group.close().unwrap();
    file.close().unwrap();
    bytes
}
