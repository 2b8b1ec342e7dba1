//! The columns of a wide CSV file: one with times, and one for each name in the header.
//!
//! The column with times is the one that names or is mapped to their field, and otherwise the first in which the first line behind the
//! header has a time; one that is a number, which may be a value as well, counts only where no other column has a time. Every other column
//! needs a name of its own.
//!
//! A first line with a time in the column of times is a line like others, and no header: names of columns are not made of it.

use super::IngestError;
use super::header::{FirstLine, Found, Start, without_lines};
use super::names::names;
use csv::ByteRecord;
use retally_core::calendar::Calendar;
use retally_core::contract::Input;
use retally_core::definition::Wide;
use retally_core::mapping::Origin;
use retally_core::split::{Columns, WideColumns};
use std::collections::BTreeSet;

/// Looks at the beginning of a file's text, without a byte order mark. `None` where more of it must be seen.
pub fn columns(name: &str, text: &[u8], is_all: bool, input: &Input, wide: Wide) -> Option<Found> {
    let Some(start) = Start::find(text, is_all, 0)? else { return Some(Ok(without_lines(text))) };
    let header = start.first_lines(text, is_all)?.into_iter().rev().max_by_key(|header| header.cells.len())?;
    // What stands below the header and is no record, such as units.
    let (mut bytes, mut lines) = (start.bytes + usize::try_from(header.bytes).ok()?, start.lines + header.lines);
    for _ in 0..input.files.skip_rows {
        let rest = text.get(bytes..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest);
        if end.is_none() && !is_all {
            return None;
        }
        bytes += end.map_or(rest.len(), |end| end + 1);
        lines += u64::from(!rest.is_empty());
    }
    let first = match text.get(bytes..).unwrap_or_default() {
        [] if !is_all => return None,
        [] => None,
        rest => Some(FirstLine::read(rest, is_all, header.delimiter)?),
    };
    if is_line(&header, first.as_ref(), input, wide) {
        let nameless = WideColumns { fields: wide, shared: 0, names: Vec::new() };
        let columns = Columns::by_place(header.delimiter, &[wide.line]);
        // No line stands above or below a header that is not there.
        return Some(Ok(Columns { head_bytes: start.bytes as u64, head_lines: start.lines, wide: Some(nameless), ..columns }));
    }
    Some(
        cells(&header, first.as_ref(), input, wide)
            .map_err(|(why, hint)| IngestError::Header { path: name.into(), why, columns: header.shown(), hint })
            .map(|wide| Columns {
                delimiter: header.delimiter,
                places: vec![None; wide.names.len()],
                copies: Vec::new(),
                header: true,
                head_bytes: bytes as u64,
                head_lines: lines,
                wide: Some(wide),
                lines_only: false,
            }),
    )
}

/// Whether a cell is a time, as the field of times is written.
fn is_time(cell: &[u8], input: &Input, wide: Wide) -> bool {
    let format = input.mapping.rule(wide.line).and_then(|rule| rule.time.as_ref());
    format.map_or_else(|| Calendar::utc().parse(cell).is_ok(), |format| format.parse(cell).is_ok())
}

fn is_number(cell: &[u8]) -> bool {
    std::str::from_utf8(cell.trim_ascii()).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// Whether the first line is one of values: it has a time where the next line has one, or anywhere where there is no next line. One that
/// names the field of times is none.
fn is_line(header: &FirstLine, next: Option<&FirstLine>, input: &Input, wide: Wide) -> bool {
    let is_time = |cell: &[u8]| is_time(cell, input, wide);
    if header.cells.iter().any(|cell| names(input, wide.line, cell).is_some()) {
        return false;
    }
    match next.and_then(|next| next.cells.iter().position(is_time)) {
        Some(column) => header.cells.get(column).is_some_and(is_time),
        None => header.cells.iter().any(is_time),
    }
}

/// The columns, or why they can't be used and what to do.
fn cells(header: &FirstLine, first: Option<&FirstLine>, input: &Input, wide: Wide) -> Result<WideColumns, (String, String)> {
    let mut named: Vec<String> = Vec::with_capacity(header.cells.len());
    for (cell, column) in header.cells.iter().zip(1..) {
        let Ok(name) = std::str::from_utf8(cell.trim_ascii()) else {
            return Err((
                format!("the name of column {column} is no UTF-8"),
                "--encoding windows-1252, or another, says which it is".into(),
            ));
        };
        named.push(name.into());
    }
    let field = input.fields.get(wide.line).map_or("time", |field| field.name);
    let is_named = |place: usize| header.cells.iter().any(|cell| names(input, place, cell).is_some());
    if wide.column != wide.cell && is_named(wide.column) && is_named(wide.cell) {
        return Err(("it has a column of names and one of values, and not one for each name".into(), "leave out --layout wide".into()));
    }
    let is_shared = |cell: &[u8]| names(input, wide.line, cell) == Some(0);
    let has_time = |column: usize| is_time(first.and_then(|first| first.cells.get(column)).unwrap_or_default(), input, wide);
    let mut shared = header.cells.iter().position(is_shared);
    if shared.is_none() && matches!(input.mapping.origin(wide.line), Origin::Own) {
        // Nothing is read of a file that ends with its header.
        let columns = || (0..named.len()).filter(|column| has_time(*column));
        let is_number = |column: &usize| first.and_then(|first| first.cells.get(*column)).is_some_and(is_number);
        shared = if first.is_some() { columns().find(|column| !is_number(column)).or_else(|| columns().next()) } else { Some(0) };
    }
    let Some(shared) = shared else {
        let hint = format!("--map {}.{field}=COLUMN says which", input.name);
        return Err((format!("none of its columns has a {field} in the first line"), hint));
    };
    if let Some(clock) = first.and_then(|first| beside_days(&first.cells, shared)) {
        let name = |column: usize| named.get(column).map_or("", String::as_str);
        let why = format!("its column {:?} has days, and {:?} the times of day", name(shared), name(clock));
        return Err((why, "put both into one column, such as 2024-03-01 12:00".into()));
    }
    // A trailing delimiter.
    if named.last().is_some_and(String::is_empty) && named.len() > shared + 1 {
        named.pop();
    }
    let mut seen = BTreeSet::new();
    for (column, name) in named.iter().enumerate().filter(|(column, _)| *column != shared) {
        if name.is_empty() {
            return Err((format!("column {} has no name", column + 1), String::new()));
        }
        if !seen.insert(name) {
            return Err((format!("it names {name} twice"), String::new()));
        }
    }
    Ok(WideColumns { fields: wide, shared, names: named })
}

/// The column with the times of day, where that of times has nothing but days: all lines of a day would be of its midnight.
fn beside_days(cells: &ByteRecord, shared: usize) -> Option<usize> {
    let is_of_day = |cell: &[u8]| {
        let hours = cell.trim_ascii().split(|byte| *byte == b':').next().unwrap_or_default();
        cell.contains(&b':') && matches!(hours.len(), 1..=2) && hours.iter().all(u8::is_ascii_digit)
    };
    let has_days_alone = !cells.get(shared)?.contains(&b':');
    cells.iter().position(is_of_day).filter(|_| has_days_alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;
    use retally_core::definition::FileOptions;

    const WIDE: Wide = Wide { line: 0, column: 1, cell: 1 };

    fn look(text: &str, skip_rows: u64) -> Result<(char, usize, Vec<String>, u64), String> {
        let files = FileOptions { skip_rows, wide: Some(WIDE), ..FileOptions::default() };
        let found = columns("x.csv", text.as_bytes(), true, &Input { files, ..sample::input() }, WIDE).unwrap();
        let found = found.map_err(|error| error.to_string())?;
        let wide = found.wide.unwrap();
        Ok((found.delimiter as char, wide.shared, wide.names, found.head_lines))
    }

    #[test]
    fn times_and_names() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(look("ts,a,b\n2026-01-01,1,2\n", 0), Ok((',', 0, names(&["ts", "a", "b"]), 1)));
        assert_eq!(look(";a;b;\n2026-01-01;1;2;\n", 0), Ok((';', 0, names(&["", "a", "b"]), 1)), "a delimiter at the end");
        assert_eq!(look("no,x,a\n1,2026-01-01 10:00,2\n", 0), Ok((',', 1, names(&["no", "x", "a"]), 1)), "the first with a time");
        assert_eq!(look("serial,x,a\n1767261600,2026-01-01 10:00,2\n", 0), Ok((',', 1, names(&["serial", "x", "a"]), 1)), "no number");
        assert_eq!(look("x,a\n1767261600,2\n", 0), Ok((',', 0, names(&["x", "a"]), 1)), "where there is no other");
        assert_eq!(look("a,TIME\n2026-01-01,2026-01-01\n", 0), Ok((',', 1, names(&["a", "TIME"]), 1)), "the one that is called so");
        assert_eq!(look("# x\nts,a\ns,bar\n2026-01-01,1\n", 1), Ok((',', 0, names(&["ts", "a"]), 3)), "units below the header");
        assert_eq!(look("ts,a\n", 0), Ok((',', 0, names(&["ts", "a"]), 1)));
        for (text, why) in [
            ("ts,a\n1,2\n", "none of its columns has a time in the first line"),
            ("Date,Clock,T1\n2026-01-01,12:00,1.5\n", "its column \"Date\" has days, and \"Clock\" the times of day"),
            ("Clock,T1,Date\n7:30:00,x,2026-01-01\n", "its column \"Date\" has days, and \"Clock\" the times of day"),
            ("ts,a,,b\n2026-01-01,1,2,3\n", "column 3 has no name"),
            ("ts,a,b,a\n2026-01-01,1,2,3\n", "it names a twice"),
        ] {
            let error = look(text, 0).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
