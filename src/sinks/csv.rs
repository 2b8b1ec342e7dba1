//! A table as CSV: a header, commas, `\n`, quotes only where they are needed.
//!
//! A missing value is empty, and so is an empty text: CSV cannot tell them apart.

use super::cells::{self, Cell};
use super::lines;
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType};
use std::io::{self, Write};

/// Characters at which spreadsheets take a text for something to be run.
const RUN: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Writes the table.
pub(super) fn write(state: &TableState, out: &mut dyn Write) -> io::Result<()> {
    write_cells(state, out, |_, cell| cell)
}

/// Writes the table with a quote before each text that a spreadsheet would run. Numbers, times and labels of ours stay as they are.
pub(super) fn write_safe(state: &TableState, out: &mut dyn Write) -> io::Result<()> {
    write_cells(state, out, |column, cell| match cell {
        Cell::Text(text) if matches!(column.kind, ColumnType::Text | ColumnType::TextId(_)) && text.starts_with(RUN) => {
            Cell::Text(format!("'{text}").into())
        }
        cell => cell,
    })
}

fn write_cells(state: &TableState, out: &mut dyn Write, shown: impl for<'a> Fn(&Column, Cell<'a>) -> Cell<'a> + Sync) -> io::Result<()> {
    let columns = &state.table().columns;
    let mut header = Vec::new();
    append_header(&mut header, state.table());
    out.write_all(&header)?;
    lines::write(state, out, |out, row| line(out, cells_of(columns, row).map(|(column, cell)| shown(column, cell))))
}

/// Appends the header.
pub(super) fn append_header(out: &mut Vec<u8>, table: &Table) {
    line(out, table.columns.iter().map(|column| Cell::Text(column.name.into())));
}

/// Appends a row as a line.
pub(super) fn append_row(out: &mut Vec<u8>, table: &Table, row: &[u8]) {
    line(out, cells_of(&table.columns, row).map(|(_, cell)| cell));
}

fn cells_of<'a>(columns: &'a [Column], mut row: &'a [u8]) -> impl Iterator<Item = (&'a Column, Cell<'a>)> {
    columns.iter().map(move |column| (column, cells::take(column, &mut row)))
}

fn line<'a>(out: &mut Vec<u8>, cells: impl Iterator<Item = Cell<'a>>) {
    let start = out.len();
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        match &cell {
            Cell::Text(text) if text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) => quoted(out, text),
            cell => cell.append(out),
        }
    }
    // A line with nothing in it would be no record.
    if out.len() == start {
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::{columns, encode, sample, state, tuple};
    use super::*;
    use proptest::prelude::*;
    use retally_core::row::{Row, values};

    fn text(state: &TableState) -> String {
        let mut out = Vec::new();
        write(state, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_format() {
        let expected = "day,time,uint,int,float,bool,text,label,uuid\n\
            2026-03-01,2026-03-01T00:00:00Z,7,-3,12.5,true,plain,1-2,c0ffee00-0000-4000-8000-0000000000ab\n\
            2026-03-02,,18446744073709551615,,1000000000000000000000,false,,\"a,b\",\n\
            2026-03-03,2026-03-01T00:00:00.000001Z,0,-9223372036854775808,-0.0000001,true,\"a \"\"b\"\", é\0\n日\",1000+,00000000-0000-0000-0000-000000000000\n";
        assert_eq!(text(&sample()), expected);
    }

    #[test]
    fn texts_that_a_spreadsheet_would_run_get_a_quote() {
        let columns = vec![Column::new("text", ColumnType::Text, ""), Column::new("int", ColumnType::Int, "")];
        let texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "=a,b", "x=1", "", "'=1"];
        let mut rows: Vec<Row> = texts.iter().map(|text| Row::default().text(text).int(-7)).collect();
        rows.sort();
        let state = state(columns, rows);
        let mut out = Vec::new();
        write_safe(&state, &mut out).unwrap();
        let safe = String::from_utf8(out).unwrap();
        let cells: Vec<&str> =
            safe.split("\n").skip(1).filter(|line| !line.is_empty()).map(|line| line.strip_suffix(",-7").unwrap()).collect();
        assert_eq!(cells, ["", "'\tx", "\"'\rx\"", "'=1", "'+1", "'-1", "'=1+1", "\"'=a,b\"", "'@x", "x=1"]);
        assert!(text(&state).contains("\n=1+1,-7\n"), "only where it is asked for");
    }

    #[test]
    fn a_single_empty_value_is_still_a_record() {
        let one = state(vec![Column::new("text", ColumnType::Text, "")], [Row::default().text("")]);
        assert_eq!(text(&one), "text\n\"\"\n");
    }

    proptest! {
        #[test]
        fn the_same_as_the_csv_crate(tuples in proptest::collection::vec(tuple(), 0..20)) {
            let state = state(columns(), tuples.iter().map(encode));
            let mut writer = ::csv::Writer::from_writer(Vec::new());
            writer.write_record(columns().iter().map(|column| column.name)).unwrap();
            for row in state.rows() {
                writer.write_record(values(&columns(), row).map(|value| value.to_string())).unwrap();
            }
            prop_assert_eq!(text(&state).into_bytes(), writer.into_inner().unwrap());
        }
    }
}
