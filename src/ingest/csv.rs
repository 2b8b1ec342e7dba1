//! CSV records. Blocks without quotes, which is nearly all there are, are cut at newlines and delimiters; the
//! rest is `csv-core`'s.
//!
//! A quoted field may hold newlines. One whose quote never ends would swallow the rest of the file: when a record with
//! quotes reaches [`QUOTED_BYTES_MAX`] or the end, its first line is refused, and reading goes on with the next one. So it
//! does where text follows behind the quote that ends a field: that quote may well have begun another one, lines below.

use super::RECORD_BYTES_MAX;
use super::blocks::Blocks;
use super::within::Within;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use memchr::memchr;
use retally_core::contract::Input;
use retally_core::mapping::Mapping;
use retally_core::record::{Field, Fields, Raw};
use retally_core::split::{Columns, Line, WideColumns};
use std::io::{self, Read};

/// A record with quotes that does not end within this is refused: 1 MiB.
pub const QUOTED_BYTES_MAX: usize = 1 << 20;

const TOO_LONG: &str = "the line is longer than 64 MiB";
const TOO_FEW: &str = "the line has fewer columns than the header";
const TOO_MANY: &str = "the line has more columns than are expected";
const NEVER_ENDS: &str = "a quote in this line never ends";
const TEXT_BEHIND_QUOTE: &str = "text follows behind the quote that ends a field; a quote within one is written twice";
const SECOND_HEADER: &str = "the line is a second header, with other columns than the file's";
const BEHIND_HEADER: &str = "the line stands behind a second header, and its columns are not known";

/// Reads CSV.
pub struct Csv<R> {
    blocks: Blocks<R>,
    shape: Shape,
    /// Lines before this byte of the stream belong to the split.
    until: u64,
    lines: u64,
    /// What is still to come of what stands before the first record.
    head_bytes: u64,
    /// Cuts records with quotes, where there have been any: to make it takes as long as reading a small batch.
    quoting: Option<Reader>,
    /// Tells headers among the lines.
    within: Option<Within>,
    /// The line that is one, with other columns. From there on, all are refused.
    second_header: Option<u64>,
}

/// How columns become fields.
pub(super) struct Shape {
    columns: Columns,
    declared: &'static [Field],
    mapping: Mapping,
}

impl<R: Read> Csv<R> {
    /// Reads from `stream`, which starts at a line, up to the end of the last line that starts before byte `until` of it.
    pub fn new(stream: R, until: u64, columns: Columns, input: &Input, at_file_start: bool) -> Csv<R> {
        // Whoever planned the split has read what stands before the first record; its lines are lines all the same.
        let (head_bytes, lines) = if at_file_start { (columns.head_bytes, columns.head_lines) } else { (0, 0) };
        let within = Within::new(&columns, input);
        let shape = Shape::new(columns, input);
        Csv { blocks: Blocks::new(stream), shape, until, lines, head_bytes, quoting: None, within, second_header: None }
    }

    /// The first second header: its line, and the one in which the file's own ends, from 1; 0 where it has none.
    pub fn second_header(&self) -> Option<(u64, u64)> {
        let Columns { header, head_lines, .. } = self.shape.columns;
        Some((self.second_header?, if header { head_lines } else { 0 }))
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes used up.
    pub fn bytes(&self) -> u64 {
        self.blocks.consumed()
    }

    /// Reads a block. Returns whether there is more.
    pub fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        self.blocks.fill()?;
        if self.head_bytes > 0 {
            let passed_over = usize::try_from(self.head_bytes).unwrap_or(usize::MAX).min(self.blocks.bytes().len());
            self.blocks.consume(passed_over);
            self.head_bytes -= passed_over as u64;
            if self.head_bytes > 0 {
                return Ok(!self.blocks.ended());
            }
        }
        if memchr(b'"', self.blocks.bytes()).is_some() {
            self.quoted(each)?;
        } else {
            self.plain(each)?;
        }
        let over = self.blocks.consumed() >= self.until || (self.blocks.ended() && self.blocks.bytes().is_empty());
        Ok(!over)
    }

    /// Whole lines without quotes.
    fn plain(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
        let bytes = self.blocks.bytes();
        let left = usize::try_from(self.until - self.blocks.consumed().min(self.until)).unwrap_or(usize::MAX);
        let mut used = 0;
        let mut slots: Vec<&[u8]> = Vec::with_capacity(self.shape.declared.len());
        while used < left {
            let rest = bytes.get(used..).unwrap_or_default();
            let (line, length) = match memchr(b'\n', rest) {
                Some(end) => (rest.get(..end).unwrap_or_default(), end + 1),
                None if self.blocks.ended() && !rest.is_empty() => (rest, rest.len()),
                None => break,
            };
            used += length;
            let number = self.lines;
            self.lines += 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() {
                continue;
            }
            if self.second_header.is_none() && self.within.as_ref().is_some_and(|within| within.is_other(line)) {
                self.second_header = Some(number);
            }
            match refused_by(self.second_header, number) {
                Some(why) => each(Line { member: None, number, bytes: line, record: Err(why) }),
                None => self.shape.split(line, &mut slots, |record| each(Line { member: None, number, bytes: line, record })),
            }
        }
        if used == 0 && bytes.len() >= RECORD_BYTES_MAX {
            return self.refuse_line(TOO_LONG, each);
        }
        self.blocks.consume(used);
        Ok(())
    }

    /// Records with quotes, until the block is used up.
    fn quoted(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
        let mut fields = vec![0; 1 << 10];
        let mut ends = vec![0; 64];
        let delimiter = self.shape.columns.delimiter;
        // A carriage return is the end of a line with the newline behind it, and of nothing without: fields are trimmed.
        let quoting = || ReaderBuilder::new().delimiter(delimiter).terminator(Terminator::Any(b'\n')).build();
        loop {
            let left = self.until.saturating_sub(self.blocks.consumed());
            if left == 0 || self.blocks.bytes().is_empty() {
                return Ok(());
            }
            match self.blocks.bytes() {
                [b'\n', ..] => {
                    self.lines += 1;
                    self.blocks.consume(1);
                    continue;
                }
                [b'\r', b'\n', ..] => {
                    self.lines += 1;
                    self.blocks.consume(2);
                    continue;
                }
                _ => {}
            }
            let quoting = self.quoting.get_or_insert_with(quoting);
            match record(quoting, self.blocks.bytes(), self.blocks.ended(), &mut fields, &mut ends) {
                Cut::Record { length, columns } => {
                    let raw = self.blocks.bytes().get(..length).unwrap_or_default();
                    if has_text_behind_quote(raw, delimiter) {
                        self.refuse_line(TEXT_BEHIND_QUOTE, each)?;
                        continue;
                    }
                    let number = self.lines;
                    self.lines += memchr::memchr_iter(b'\n', raw).count() as u64 + u64::from(!raw.ends_with(b"\n"));
                    let columns: Vec<&[u8]> = slices(&fields, ends.get(..columns).unwrap_or_default());
                    let line = raw.trim_ascii_end();
                    if self.second_header.is_none() && self.within.as_ref().is_some_and(|within| within.are_other(&columns)) {
                        self.second_header = Some(number);
                    }
                    let mut each = |record: Result<Raw<'_>, &str>| each(Line { member: None, number, bytes: line, record });
                    match refused_by(self.second_header, number) {
                        _ if line.is_empty() => {}
                        Some(why) => each(Err(why)),
                        None => self.shape.arrange(columns.into_iter(), &mut Vec::new(), each),
                    }
                    self.blocks.consume(length);
                }
                Cut::NeverEnds => self.refuse_line(NEVER_ENDS, each)?,
                Cut::TooLong => self.refuse_line(TOO_LONG, each)?,
                Cut::NeedsMore => return Ok(()),
            }
        }
    }

    /// Refuses the line that the stream stands at, however long it is.
    fn refuse_line(&mut self, why: &'static str, each: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
        each(Line {
            member: None,
            number: self.lines,
            bytes: self.blocks.bytes().split(|byte| *byte == b'\n').next().unwrap_or_default(),
            record: Err(why),
        });
        self.lines += 1;
        loop {
            let bytes = self.blocks.bytes();
            if let Some(end) = memchr(b'\n', bytes) {
                self.blocks.consume(end + 1);
                return Ok(());
            }
            let length = bytes.len();
            self.blocks.consume(length);
            // Behind its end, a split has no line that begins.
            if self.blocks.ended() || self.blocks.consumed() >= self.until {
                return Ok(());
            }
            self.blocks.fill()?;
        }
    }
}

/// Why a line is refused, where a second header stands before it, or is it.
fn refused_by(second_header: Option<u64>, number: u64) -> Option<&'static str> {
    second_header.map(|second| if second == number { SECOND_HEADER } else { BEHIND_HEADER })
}

/// What can be cut from the beginning of a buffer.
enum Cut {
    Record { length: usize, columns: usize },
    NeverEnds,
    TooLong,
    NeedsMore,
}

impl Shape {
    pub(super) fn new(columns: Columns, input: &Input) -> Shape {
        Shape { columns, declared: input.fields, mapping: input.mapping.clone() }
    }

    /// Cuts a line without quotes, and gives its fields in their declared order.
    fn split<'a>(&'a self, line: &'a [u8], slots: &mut Vec<&'a [u8]>, give: impl FnMut(Result<Raw<'_>, &'static str>)) {
        let delimiter = self.columns.delimiter;
        self.arrange(line.split(move |byte| *byte == delimiter), slots, give);
    }

    /// Gives the fields of a line's columns in their declared order, or why there are none.
    pub(super) fn arrange<'a>(
        &'a self,
        mut columns: impl Iterator<Item = &'a [u8]>,
        slots: &mut Vec<&'a [u8]>,
        mut give: impl FnMut(Result<Raw<'_>, &'static str>),
    ) {
        if let Some(wide) = &self.columns.wide {
            return self.arrange_cells(wide, &columns.collect::<Vec<_>>(), slots, give);
        }
        slots.clear();
        slots.resize(self.declared.len(), &[]);
        let mut places = self.columns.places.iter();
        // While there are both; in this order, so that no column is taken without a place.
        while let Some(place) = places.as_slice().first()
            && let Some(column) = columns.next()
        {
            places.next();
            place.and_then(|place| slots.get_mut(place)).into_iter().for_each(|slot| *slot = column);
        }
        if self.columns.header && places.len() > 0 {
            return give(Err(TOO_FEW));
        }
        // An empty column too many is a delimiter at the end of the line.
        if let Some(superfluous) = columns.next()
            && (!superfluous.trim_ascii().is_empty() || columns.next().is_some())
        {
            return give(Err(TOO_MANY));
        }
        self.mapping.fill(slots);
        for (from, to) in &self.columns.copies {
            let column = slots.get(*from).copied().unwrap_or_default();
            slots.get_mut(*to).into_iter().for_each(|slot| *slot = column);
        }
        give(Ok(self.fields(slots)))
    }

    /// Gives each cell of a wide line as the fields of a record. An empty one is none.
    fn arrange_cells<'a>(
        &'a self,
        wide: &'a WideColumns,
        cells: &[&'a [u8]],
        slots: &mut Vec<&'a [u8]>,
        mut give: impl FnMut(Result<Raw<'_>, &'static str>),
    ) {
        let Some(more) = cells.get(wide.names.len()..) else { return give(Err(TOO_FEW)) };
        if more.len() > 1 || more.iter().any(|cell| !cell.trim_ascii().is_empty()) {
            return give(Err(TOO_MANY));
        }
        let shared = cells.get(wide.shared).copied().unwrap_or_default();
        slots.clear();
        slots.resize(self.declared.len(), &[]);
        self.mapping.fill(slots);
        for (column, (name, cell)) in wide.names.iter().zip(cells).enumerate() {
            if column == wide.shared || cell.trim_ascii().is_empty() {
                continue;
            }
            for (place, text) in [(wide.fields.line, shared), (wide.fields.column, name.as_bytes()), (wide.fields.cell, cell)] {
                slots.get_mut(place).into_iter().for_each(|slot| *slot = text);
            }
            give(Ok(self.fields(slots)));
        }
    }

    fn fields<'a>(&self, slots: &'a [&'a [u8]]) -> Raw<'a> {
        Raw::Fields(Fields::new(self.declared, slots).with_decimal_comma(self.columns.delimiter == b';'))
    }
}

/// Cuts a record, which may have quotes.
fn record(reader: &mut Reader, bytes: &[u8], ended: bool, fields: &mut Vec<u8>, ends: &mut Vec<usize>) -> Cut {
    reader.reset();
    let (mut used, mut written, mut columns) = (0, 0, 0);
    loop {
        let input = bytes.get(used..).unwrap_or_default();
        let (result, read, wrote, ended_columns) =
            reader.read_record(input, fields.get_mut(written..).unwrap_or_default(), ends.get_mut(columns..).unwrap_or_default());
        used += read;
        written += wrote;
        columns += ended_columns;
        match result {
            ReadRecordResult::OutputFull => fields.resize(fields.len() * 2, 0),
            ReadRecordResult::OutputEndsFull => ends.resize(ends.len() * 2, 0),
            ReadRecordResult::Record => return Cut::Record { length: used, columns },
            ReadRecordResult::End => return Cut::Record { length: bytes.len(), columns: 0 },
            // At the end, and where a record has become long, a newline tells whether it stands within quotes.
            ReadRecordResult::InputEmpty if ended || bytes.len() >= QUOTED_BYTES_MAX => {
                let mut space = (vec![0; 8], vec![0; 2]);
                let (ending, _, wrote, ended_columns) = reader.read_record(b"\n", &mut space.0, &mut space.1);
                let unquoted = matches!(ending, ReadRecordResult::Record);
                if unquoted && ended {
                    fields.truncate(written);
                    fields.extend(space.0.iter().take(wrote));
                    ends.truncate(columns);
                    ends.extend(space.1.iter().take(ended_columns));
                    return Cut::Record { length: used, columns: columns + ended_columns };
                }
                return match bytes.len() >= RECORD_BYTES_MAX {
                    _ if !unquoted => Cut::NeverEnds,
                    true => Cut::TooLong,
                    false => Cut::NeedsMore,
                };
            }
            ReadRecordResult::InputEmpty => return Cut::NeedsMore,
        }
    }
}

/// Whether in a record anything but blanks stands between the quote that ends a field and the end of that field.
fn has_text_behind_quote(record: &[u8], delimiter: u8) -> bool {
    let mut rest = record;
    loop {
        if let [b'"', quoted @ ..] = rest {
            let mut behind = quoted;
            while let Some(quote) = memchr(b'"', behind) {
                behind = behind.get(quote + 1..).unwrap_or_default();
                let [b'"', more @ ..] = behind else { break };
                behind = more;
            }
            let end = memchr::memchr2(delimiter, b'\n', behind).unwrap_or(behind.len());
            if !behind.get(..end).unwrap_or_default().trim_ascii().is_empty() {
                return true;
            }
            rest = behind;
        }
        match memchr(delimiter, rest) {
            Some(end) => rest = rest.get(end + 1..).unwrap_or_default(),
            None => return false,
        }
    }
}

/// The columns of a record, from where each ends.
fn slices<'a>(fields: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let mut start = 0;
    ends.iter().map(|end| fields.get(std::mem::replace(&mut start, *end)..*end).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;

    /// Reads with blocks of any size, and shows what was read.
    fn read(text: &[u8], columns: &Columns) -> Vec<String> {
        let mut shown: Vec<Vec<String>> = Vec::new();
        for chunk in [1, 7, 1 << 20] {
            let mut lines = Vec::new();
            let stream = Chunks { rest: text, chunk };
            let mut csv = Csv::new(stream, u64::MAX, columns.clone(), &sample::input(), true);
            while csv.read(&mut |line| lines.push(show(line))).unwrap() {}
            shown.push(lines);
        }
        assert_eq!(shown[0], shown[2]);
        assert_eq!(shown[1], shown[2]);
        shown.remove(0)
    }

    fn by_place() -> Columns {
        Columns::by_place(b',', &[0, 1])
    }

    struct Chunks<'a> {
        rest: &'a [u8],
        chunk: usize,
    }

    impl Read for Chunks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.chunk.min(self.rest.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.rest[..length]);
            self.rest = &self.rest[length..];
            Ok(length)
        }
    }

    fn show(line: Line<'_>) -> String {
        match line.record {
            Ok(Raw::Fields(fields)) => {
                let text = |place| String::from_utf8_lossy(fields.text(place)).into_owned();
                format!("{} {}|{}", line.number, text(0), text(1))
            }
            Ok(Raw::Json(_)) => unreachable!(),
            Err(why) => format!("{} {why}: {}", line.number, String::from_utf8_lossy(line.bytes)),
        }
    }

    #[test]
    fn lines_blank_lines_and_line_ends() {
        assert_eq!(read(b"1,2\n\n3,4\r\n \n5,6", &by_place()), ["0 1|2", "2 3|4", "4 5|6"]);
        assert_eq!(read(b"", &by_place()), [""; 0]);
        assert_eq!(read(b"1\n1,2,3\n", &by_place()), ["0 1|", "1 the line has more columns than are expected: 1,2,3"]);
    }

    #[test]
    fn headers_reorder_and_ignore() {
        let columns = Columns { places: vec![Some(1), None, Some(0)], header: true, head_bytes: 6, head_lines: 1, ..by_place() };
        assert_eq!(
            read(b"b,x,a\n1,2,3\n4,5\n6,7,8,9\n6,7,8,\n6,7,8,,\n", &columns),
            [
                "1 3|1",
                "2 the line has fewer columns than the header: 4,5",
                "3 the line has more columns than are expected: 6,7,8,9",
                "4 8|6",
                "5 the line has more columns than are expected: 6,7,8,,"
            ]
        );
        let copied = Columns { copies: vec![(0, 1)], places: vec![Some(0)], ..by_place() };
        assert_eq!(read(b"5\n", &copied), ["0 5|5"]);
    }

    #[test]
    fn quotes_hold_delimiters_and_newlines() {
        assert_eq!(read(b"1,\"2,\n\"\"x\"\"\"\n3,4\n\"5\",6\r\n7,8", &by_place()), ["0 1|2,\n\"x\"", "2 3|4", "3 5|6", "4 7|8"]);
    }

    /// With a quote somewhere and without: what is a line does not depend on what else is in the block.
    #[test]
    fn a_carriage_return_alone_ends_no_line() {
        assert_eq!(read(b"1\r2,3\r\n\r\n4\r,5\n6,7\r", &by_place()), ["0 1\r2|3", "2 4|5", "3 6|7"]);
        assert_eq!(read(b"1\r2,3\r\n\r\n4\r,5\n\"6\",\"7\"\r", &by_place()), ["0 1\r2|3", "2 4|5", "3 6|7"]);
        assert_eq!(read(b"\"1\r2\",\"3\"\r\n4,5\r\r\n", &by_place()), ["0 1\r2|3", "1 4|5"]);
    }

    #[test]
    fn a_quote_that_never_ends_costs_one_line() {
        assert_eq!(read(b"1,2\n\"3,4\n5,6\n", &by_place()), ["0 1|2", "1 a quote in this line never ends: \"3,4", "2 5|6"]);
    }

    /// The quote that was forgotten would end where the next one begins, and take what stands between them.
    #[test]
    fn text_behind_the_quote_that_ends_a_field_costs_one_line() {
        let refused = |line: &str| format!("{TEXT_BEHIND_QUOTE}: {line}");
        assert_eq!(
            read(b"\"1\"2,3\n4,5\n\"abc,6\n7,8\n\"def\",9\n\"1\" ,\"\"\n", &by_place()),
            [
                format!("0 {}", refused("\"1\"2,3")),
                "1 4|5".into(),
                format!("2 {}", refused("\"abc,6")),
                "3 7|8".into(),
                "4 def|9".into(),
                "5 1|".into()
            ]
        );
        assert_eq!(read(br#""a \"b\" c",2"#, &by_place()), [format!("0 {}", refused(r#""a \"b\" c",2"#))]);
        assert_eq!(read(b"1,\"\"\"x\"\"\"\r\n\"a\n,b\"\"\",\"c\"\r\n", &by_place()), ["0 1|\"x\"", "1 a\n,b\"|c"]);
    }

    /// A quote within a field that does not begin with one is a character like others.
    #[test]
    fn a_literal_quote_opens_nothing() {
        assert_eq!(read(b"1,5\" disk\n3,6\" disk", &by_place()), ["0 1|5\" disk", "1 3|6\" disk"]);
        assert_eq!(read(b"1,2\n\"3\",\"4\"", &by_place()), ["0 1|2", "1 3|4"]);
        assert_eq!(read(b"1,2\n3,\"4", &by_place()), ["0 1|2", "1 a quote in this line never ends: 3,\"4"]);
    }

    #[test]
    fn a_long_line_without_quotes_is_one_record_beside_lines_with_quotes() {
        let long = "x".repeat(QUOTED_BYTES_MAX + 5);
        let text = format!("\"1\",2\n{long},4\n5,6\n");
        let mut lines = Vec::new();
        let mut csv = Csv::new(text.as_bytes(), u64::MAX, by_place(), &sample::input(), true);
        while csv.read(&mut |line| lines.push(show(line))).unwrap() {}
        assert_eq!(lines, ["0 1|2".to_string(), format!("1 {long}|4"), "2 5|6".to_string()]);
    }

    #[test]
    fn splits_meet_at_lines() {
        let text = b"1,2\n3,4\n5,6\n";
        for until in 0..13u64 {
            let mut lines = Vec::new();
            let mut csv = Csv::new(&text[..], until, by_place(), &sample::input(), true);
            while csv.read(&mut |line| lines.push(show(line))).unwrap() {}
            assert_eq!(lines.len() as u64, until.div_ceil(4), "lines that start before byte {until}");
        }
    }
}
