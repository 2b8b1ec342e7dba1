//! How the columns of a CSV file become fields: by its header, or by their places where it has none.
//!
//! Columns are never guessed. The first line that is not blank is a header when it names a field, or when it yields no record and none of
//! its cells is a number or a time. A header must name every field that all records have, each once; what can't be used is refused with the
//! columns that are there, the nearest ones, and the flags to start from.

use super::IngestError;
use super::csv::Shape;
use super::names::{names, sought};
use super::nearest::{map_flag, nearest};
use csv::{ByteRecord, ReaderBuilder, Terminator};
use retally_core::calendar::Calendar;
use retally_core::contract::Input;
use retally_core::mapping::Origin;
use retally_core::record::{Context, Presence};
use retally_core::split::{Columns, Format};
use std::collections::BTreeMap;

/// What may stand between columns, the usual one first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// What an error shows of a header.
const COLUMNS_SHOWN_MAX: usize = 40;
const CELL_CHARS_SHOWN_MAX: usize = 60;
/// What to do about a file without a header.
pub(super) const FIRST_HEADER_HINT: &str = "--header first says that the header of the first file counts for all";

/// What the files of an input are planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read once: a file may have the header of one that came earlier.
    Run,
    /// To be kept, and read again by itself.
    Keep,
    /// They were planned before, maybe together with others: what was taken then is taken now.
    Again,
}

/// What is known of the headers of an input's files that came with batches before.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The first file with a header, and its columns.
    first: Option<(String, Columns)>,
    /// The first one whose columns are not in the order of the fields.
    reordered: Option<String>,
    /// Some had no header, and their columns were in the order of the fields.
    any_without: bool,
}

impl Seen {
    /// Adds what was seen after it.
    pub fn add(&mut self, later: &Seen) {
        self.first = self.first.take().or_else(|| later.first.clone());
        self.reordered = self.reordered.take().or_else(|| later.reordered.clone());
        self.any_without |= later.any_without;
    }
}

/// The headers of the files of several inputs, by the inputs' places.
#[derive(Clone, Debug, Default)]
pub struct SeenHeaders(BTreeMap<usize, Seen>);

impl SeenHeaders {
    /// Adds what was seen after it.
    pub fn add(&mut self, later: &SeenHeaders) {
        later.0.iter().for_each(|(input, seen)| self.0.entry(*input).or_default().add(seen));
    }

    /// Likewise, of one input.
    pub fn add_of(&mut self, input: usize, headers: &Headers) {
        self.0.entry(input).or_default().add(&headers.own);
    }

    /// Those of an input.
    pub fn of(&self, input: usize) -> Seen {
        self.0.get(&input).cloned().unwrap_or_default()
    }
}

/// Whether the files of an input have a header: all or none.
#[derive(Debug)]
pub struct Headers {
    purpose: Purpose,
    before: Seen,
    own: Seen,
    without: Option<String>,
}

impl Headers {
    /// Of files that came after others.
    pub fn new(purpose: Purpose, before: Seen) -> Headers {
        Headers { purpose, before, own: Seen::default(), without: None }
    }

    /// Adds a file. Where the header of the first one counts for all, a file without one gets its columns.
    pub fn add(&mut self, name: &str, format: &mut Format, input: &Input, sign: isize) -> Result<(), IngestError> {
        let Format::Csv(columns) = format else { return Ok(()) };
        if columns.places.is_empty() {
            // It holds nothing.
            return Ok(());
        }
        if columns.header {
            self.own.first.get_or_insert_with(|| (name.into(), columns.clone()));
            if !is_in_order(columns, input) {
                self.own.reordered.get_or_insert_with(|| name.into());
            }
        } else {
            // What is kept must not need a file of another batch, which may be taken back.
            let before = self.before.first.as_ref().filter(|_| self.purpose == Purpose::Run);
            if let Some((_, first)) = self.own.first.as_ref().or(before).filter(|_| input.files.first_header) {
                *columns = Columns { head_bytes: columns.head_bytes, head_lines: columns.head_lines, ..first.clone() };
                return Ok(());
            }
            self.check_without(name, columns, sign)?;
            self.without.get_or_insert_with(|| name.into());
            self.own.any_without = true;
        }
        match (&self.own.first, &self.without) {
            (Some((with, _)), Some(without)) if self.purpose != Purpose::Again => {
                Err(IngestError::MixedHeaders { with: with.clone(), without: without.clone() })
            }
            _ => Ok(()),
        }
    }

    /// An error where a file needs a header, and none counts for it.
    fn check_without(&self, name: &str, columns: &Columns, sign: isize) -> Result<(), IngestError> {
        if self.purpose == Purpose::Again || self.own.first.is_some() {
            return Ok(());
        }
        // What is taken back was delivered in the order of the fields.
        let is_known = sign < 0 && self.before.any_without;
        if let Some(with) = self.before.reordered.as_ref().filter(|_| !is_known) {
            let hint = match self.purpose {
                Purpose::Keep => "give it that header, or deliver both in one batch with --header first",
                Purpose::Run | Purpose::Again => FIRST_HEADER_HINT,
            };
            return Err(IngestError::HeaderBefore { with: with.clone(), without: name.into(), hint });
        }
        if columns.wide.is_some() {
            let why = "its first line has a time, and is no header, which names the columns".into();
            let hint = "give it one, or say that the header of the first file counts for all: --header first".into();
            return Err(IngestError::Header { path: name.into(), why, columns: String::new(), hint });
        }
        Ok(())
    }
}

/// Whether a file without a header would have the same columns.
fn is_in_order(columns: &Columns, input: &Input) -> bool {
    let last = columns.places.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let named = columns.places.iter().take(last).copied();
    columns.wide.is_none() && columns.copies.is_empty() && named.eq(sought(input).into_iter().map(Some).take(last))
}

/// The columns of a file, or why they can't be used.
pub(super) type Found = Result<Columns, IngestError>;

/// Looks at the beginning of a file's text, without a byte order mark. `None` where more of it must be seen.
pub fn columns(name: &str, text: &[u8], is_all: bool, input: &Input, context: &Context, skip_rows: u64) -> Option<Found> {
    let Some(start) = Start::find(text, is_all, skip_rows)? else { return Some(Ok(without_lines(text))) };
    let lines = start.first_lines(text, is_all)?;
    Some(start.columns(name, text, &lines, input, context))
}

/// Of a text that is nothing but blank lines and comments.
pub(super) fn without_lines(text: &[u8]) -> Columns {
    Columns { head_bytes: text.len() as u64, ..Columns::by_place(b',', &[]) }
}

/// Where the first line that counts begins.
pub(super) struct Start {
    pub(super) bytes: usize,
    pub(super) lines: u64,
    /// What `sep=` says.
    delimiter: Option<u8>,
    /// Where the last comment before it is.
    comment: Option<(usize, usize)>,
}

impl Start {
    /// Goes behind rows that are to be skipped, blank lines, `sep=;` and comments. `None` where more must be seen; `Some(None)` at the end.
    #[expect(clippy::option_option, reason = "two reasons for none: not yet, and never")]
    pub(super) fn find(text: &[u8], is_all: bool, skip_rows: u64) -> Option<Option<Start>> {
        let mut start = Start { bytes: 0, lines: 0, delimiter: None, comment: None };
        loop {
            let rest = text.get(start.bytes..).unwrap_or_default();
            if rest.is_empty() {
                return is_all.then_some(None);
            }
            let end = memchr::memchr(b'\n', rest);
            if end.is_none() && !is_all {
                return None;
            }
            let whole = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let line = whole.trim_ascii();
            if start.lines < skip_rows || line.is_empty() {
                // Passed over.
            } else if line.starts_with(b"#") {
                start.comment = Some((start.bytes, start.bytes + whole.len()));
            } else if let Some(delimiter) = separator(whole) {
                start.delimiter = Some(delimiter);
            } else {
                return Some(Some(start));
            }
            start.bytes += end.map_or(rest.len(), |end| end + 1);
            start.lines += 1;
        }
    }

    /// The first line that counts, as each delimiter that may be the right one cuts it. `None` where more must be seen.
    pub(super) fn first_lines(&self, text: &[u8], is_all: bool) -> Option<Vec<FirstLine>> {
        let rest = text.get(self.bytes..).unwrap_or_default();
        let delimiters = self.delimiter.map_or(DELIMITERS.to_vec(), |delimiter| vec![delimiter]);
        delimiters.into_iter().map(|delimiter| FirstLine::read(rest, is_all, delimiter)).collect()
    }

    fn columns(&self, name: &str, text: &[u8], lines: &[FirstLine], input: &Input, context: &Context) -> Found {
        let Some(best) = lines.iter().rev().max_by_key(|line| (line.named(input), line.cells.len())) else {
            return Ok(without_header(input, b',', self.bytes as u64, self.lines));
        };
        if best.named(input) > 0 {
            if best.ends_in_carriage_returns() {
                let why = "its lines end in carriage returns alone, which are not read as line ends".into();
                return Err(IngestError::Header { path: name.into(), why, columns: String::new(), hint: String::new() });
            }
            return best.header(name, self, input);
        }
        // Without a header, the delimiter is the one that makes a record of the line.
        let record = lines.iter().find(|line| line.is_record(input, context));
        let is_text = |cell: &[u8]| !is_number_or_time(cell);
        if record.is_none() && best.cells.iter().any(|cell| !cell.trim_ascii().is_empty()) && best.cells.iter().all(is_text) {
            return best.header(name, self, input);
        }
        let mapped = input.fields.iter().enumerate().find(|(place, _)| matches!(input.mapping.origin(*place), Origin::Column(_)));
        if let Some((place, field)) = mapped {
            let why = format!("it has no header, and {} is mapped to the column {:?}", field.name, input.mapping.name(place, field));
            return Err(IngestError::Header { path: name.into(), why, columns: best.shown(), hint: String::new() });
        }
        let columns = without_header(input, record.unwrap_or(best).delimiter, self.bytes as u64, self.lines);
        let comment = self.comment.and_then(|(from, until)| text.get(from..until));
        match comment.and_then(|comment| named_otherwise(comment, &columns, input)) {
            None => Ok(columns),
            Some(shown) => {
                let why = "it has no header, and a comment before its first line names the columns in another order than the fields".into();
                let hint = "take the # away, so that it is the header".into();
                Err(IngestError::Header { path: name.into(), why, columns: shown, hint })
            }
        }
    }
}

/// The columns that a comment names, where that is two fields or more, and other columns than those by place.
fn named_otherwise(comment: &[u8], by_place: &Columns, input: &Input) -> Option<String> {
    let names = comment.trim_ascii_start().strip_prefix(b"#")?;
    let line = FirstLine::read(names, true, by_place.delimiter)?;
    let place_of = |cell: &[u8]| sought(input).into_iter().find(|place| self::names(input, *place, cell).is_some());
    let places: Vec<Option<usize>> = line.cells.iter().map(place_of).collect();
    let is_other = places.iter().zip(&by_place.places).any(|(named, by_place)| named.is_some() && named != by_place);
    (is_other && line.named(input) >= 2).then(|| line.shown())
}

/// What a line like `sep=;` says of a file: it may be a tab.
fn separator(line: &[u8]) -> Option<u8> {
    let (word, rest) = line.trim_ascii_start().split_at_checked(b"sep=".len())?;
    let (delimiter, blanks) = rest.split_first()?;
    let is_one = word.eq_ignore_ascii_case(b"sep=") && *delimiter != b'\r' && blanks.trim_ascii().is_empty();
    is_one.then_some(*delimiter)
}

fn without_header(input: &Input, delimiter: u8, head_bytes: u64, head_lines: u64) -> Columns {
    Columns { head_bytes, head_lines, ..Columns::by_place(delimiter, &sought(input)) }
}

fn is_number_or_time(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    let number = std::str::from_utf8(cell).is_ok_and(|text| text.replace(',', ".").parse::<f64>().is_ok());
    number || Calendar::utc().parse(cell).is_ok()
}

/// The first line, as one delimiter cuts it.
pub(super) struct FirstLine {
    pub(super) delimiter: u8,
    pub(super) cells: ByteRecord,
    pub(super) bytes: u64,
    pub(super) lines: u64,
}

impl FirstLine {
    /// `None` where more must be seen.
    pub(super) fn read(text: &[u8], is_all: bool, delimiter: u8) -> Option<FirstLine> {
        let end = memchr::memchr(b'\n', text);
        let line = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        if !line.contains(&b'"') {
            // Nearly every file: small batches are looked at often, and a reader of CSV has buffers.
            if end.is_none() && !is_all {
                return None;
            }
            let bytes = line.len() as u64 + u64::from(end.is_some());
            return Some(FirstLine { delimiter, cells: line.split(|byte| *byte == delimiter).collect(), bytes, lines: 1 });
        }
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(text);
        let mut cells = ByteRecord::new();
        reader.read_byte_record(&mut cells).ok()?;
        let bytes = reader.position().byte();
        let used = usize::try_from(bytes).ok().and_then(|bytes| text.get(..bytes)).unwrap_or(text);
        if !is_all && !used.ends_with(b"\n") {
            return None;
        }
        let lines = memchr::memchr_iter(b'\n', used).count() as u64 + u64::from(!used.ends_with(b"\n"));
        Some(FirstLine { delimiter, cells, bytes, lines })
    }

    /// How many fields it names.
    fn named(&self, input: &Input) -> usize {
        sought(input).into_iter().filter(|place| self.cells.iter().any(|cell| names(input, *place, cell).is_some())).count()
    }

    fn ends_in_carriage_returns(&self) -> bool {
        self.cells.iter().any(|cell| cell.strip_suffix(b"\r").unwrap_or(cell).contains(&b'\r'))
    }

    fn is_record(&self, input: &Input, context: &Context) -> bool {
        let shape = Shape::new(without_header(input, self.delimiter, 0, 0), input);
        let mut is_record = false;
        shape.arrange(self.cells.iter(), &mut Vec::new(), |record| is_record = record.is_ok_and(|raw| (input.read)(raw, context).is_ok()));
        is_record
    }

    fn header(&self, name: &str, start: &Start, input: &Input) -> Found {
        let mut places: Vec<Option<usize>> = vec![None; self.cells.len()];
        let (mut copies, mut missing) = (Vec::new(), Vec::new());
        for place in sought(input) {
            let Some(field) = input.fields.get(place) else { continue };
            let mut found: Vec<(u8, usize)> =
                self.cells.iter().enumerate().filter_map(|(column, cell)| Some((names(input, place, cell)?, column))).collect();
            found.sort_unstable();
            match *found {
                // Who has no record of the kind needs no column.
                [] if field.presence == Presence::OfSome => {}
                [] => missing.push(place),
                [(rank, _), (next, _), ..] if rank == next => {
                    let why = format!("it names {} twice", input.mapping.name(place, field));
                    let flag = map_flag(input, field, "COLUMN");
                    let hint = format!("{flag} says which column counts, by a name that stands there once");
                    return Err(IngestError::Header { path: name.into(), why, columns: self.shown(), hint });
                }
                [(_, column), ..] => match places.get_mut(column) {
                    Some(Some(other)) => copies.push((*other, place)),
                    Some(free) => *free = Some(place),
                    None => {}
                },
            }
        }
        if !missing.is_empty() {
            return Err(self.lacks(name, input, &missing));
        }
        Ok(Columns {
            delimiter: self.delimiter,
            places,
            copies,
            header: true,
            head_bytes: start.bytes as u64 + self.bytes,
            head_lines: start.lines + self.lines,
            wide: None,
            lines_only: false,
        })
    }

    fn lacks(&self, name: &str, input: &Input, missing: &[usize]) -> IngestError {
        let cells: Vec<String> = self.cells.iter().map(|cell| String::from_utf8_lossy(cell.trim_ascii()).into_owned()).collect();
        let taken = |cell: &String| (0..input.fields.len()).any(|place| names(input, place, cell.as_bytes()).is_some());
        let mut free: Vec<&str> = cells.iter().filter(|cell| !taken(cell) && !cell.is_empty()).map(String::as_str).collect();
        let missing = missing.iter().filter_map(|place| Some((*place, input.fields.get(*place)?)));
        let (mut lacking, mut flags) = (Vec::new(), Vec::new());
        for (place, field) in missing {
            let sought = input.mapping.name(place, field);
            lacking.push(if sought == field.name { sought.to_string() } else { format!("{sought:?}, which {} is mapped to", field.name) });
            let column = nearest(sought, &free);
            free.retain(|cell| Some(*cell) != column);
            flags.push(map_flag(input, field, column.unwrap_or("COLUMN")));
        }
        let why = match self.named(input) {
            0 => format!("its first line looks like a header and names none of the fields: {}", lacking.join(", ")),
            _ => format!("it does not name {}", lacking.join(", ")),
        };
        let hint = format!(
            "start from {} (=COLUMN names a column, ==VALUE is one value for all, = alone says that there is none)",
            flags.join(" ")
        );
        let hint = input.other_layout.map_or_else(|| hint.clone(), |other| format!("{other}; or {hint}"));
        IngestError::Header { path: name.into(), why, columns: self.shown(), hint }
    }

    pub(super) fn shown(&self) -> String {
        let shown = self.cells.iter().take(COLUMNS_SHOWN_MAX);
        let short = |cell: &[u8]| String::from_utf8_lossy(cell.trim_ascii()).chars().take(CELL_CHARS_SHOWN_MAX).collect::<String>();
        let mut text = shown.map(|cell| format!("{:?}", short(cell))).collect::<Vec<_>>().join(", ");
        if self.cells.len() > COLUMNS_SHOWN_MAX {
            text.push_str(", …");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;
    use retally_core::mapping::{Column, Rule};

    fn look(text: &str, input: &Input) -> Result<Columns, String> {
        let context = input.context(Calendar::utc());
        columns("x.csv", text.as_bytes(), true, input, &context, 0).unwrap().map_err(|error| error.to_string())
    }

    fn shape(text: &str) -> (char, Vec<Option<usize>>, bool, (u64, u64)) {
        let found = look(text, &sample::input()).unwrap();
        (found.delimiter as char, found.places, found.header, (found.head_bytes, found.head_lines))
    }

    #[test]
    fn headers_and_their_delimiters() {
        let by_place = vec![Some(0), Some(1)];
        assert_eq!(shape("2026-01-01 00:00:00,1"), (',', by_place.clone(), false, (0, 0)));
        assert_eq!(shape("2026-01-01 00:00:00|1\n"), ('|', by_place.clone(), false, (0, 0)));
        assert_eq!(shape("time,id\n1,2\n"), (',', by_place.clone(), true, (8, 1)));
        assert_eq!(shape("x;\"ID\"; Time\r\n"), (';', vec![None, Some(1), Some(0)], true, (14, 1)));
        assert_eq!(shape("id\ttime\ta,b,c,d\n"), ('\t', vec![Some(1), Some(0), None], true, (16, 1)), "under which it names the fields");
        assert_eq!(shape("\n \nid,time"), (',', vec![Some(1), Some(0)], true, (10, 3)), "blank lines before it");
        assert_eq!(shape("# by ops\nsep=;\nid;time\n"), (';', vec![Some(1), Some(0)], true, (23, 3)));
        assert_eq!(shape("SEP=\t\r\nid\ttime,x\ttime\r\n"), ('\t', vec![Some(1), None, Some(0)], true, (23, 2)));
        assert_eq!(shape("id,\"a\nb\",time\n"), (',', vec![Some(1), None, Some(0)], true, (14, 2)), "a newline in quotes");
        assert_eq!(shape("id,time,\n"), (',', vec![Some(1), Some(0), None], true, (9, 1)));
        assert_eq!(shape(""), (',', Vec::new(), false, (0, 0)));
        assert_eq!(shape("2026-01-01 00:00:00,x,y"), (',', by_place, false, (0, 0)), "refused as a record");
    }

    #[test]
    fn what_can_not_be_used_is_shown_with_the_flags_to_start_from() {
        let input = sample::input();
        assert_eq!(
            look("id,created\n1,2\n", &input).unwrap_err(),
            "could not use the header of \"x.csv\": it does not name time; its columns are \"id\", \"created\""
        );
        assert!(
            look("when,who\n2026-01-01,1\n", &input).unwrap_err().contains("looks like a header and names none of the fields: time, id")
        );
        assert!(look("id,time,ID\n", &input).unwrap_err().contains("it names id twice"));
        let comment = |line: &str| look(&format!("{line}\n2026-01-01 00:00:00,1\n"), &input);
        assert!(comment("# ID,time,x").unwrap_err().contains("a comment before its first line names the columns in another order"));
        assert!(comment("# time,id").is_ok() && comment("# id").is_ok() && comment("#x,y").is_ok());
        assert!(look("time,id\r2026-01-01 00:00:00,1", &input).unwrap_err().contains("carriage returns alone"));
        let IngestError::Header { hint, .. } =
            columns("x.csv", b"event_time,ident\n", true, &input, &input.context(Calendar::utc()), 0).unwrap().unwrap_err()
        else {
            panic!("no error of a header")
        };
        assert!(hint.starts_with("start from --map events.time=event_time --map events.id=ident "), "{hint}");
    }

    #[test]
    fn mapped_columns_need_a_header_that_has_them() {
        let rule = |origin| Rule { origin, ..Rule::default() };
        let mut input = sample::input();
        input.mapping = input.mapping.with(input.fields, 0, rule(Origin::Column(Column::parse("ts"))));
        assert_eq!(look("ts,id,time\n", &input).unwrap().places, [Some(0), Some(1), None]);
        assert!(look("time,id\n", &input).unwrap_err().contains("does not name \"ts\", which time is mapped to"));
        assert!(look("2026-01-01,1\n", &input).unwrap_err().contains("it has no header, and time is mapped to the column \"ts\""));
        input.mapping = input.mapping.with(input.fields, 1, rule(Origin::Column(Column::parse("ts"))));
        assert_eq!(look("ts\n", &input).unwrap().copies, [(0, 1)]);
        input.mapping = input.mapping.with(input.fields, 1, rule(Origin::Constant("5".into())));
        assert_eq!(look("ts\n", &input).unwrap().places, [Some(0)]);
        input.mapping = Input::clone(&sample::input()).mapping.with(input.fields, 0, rule(Origin::Constant("2026-01-01".into())));
        assert_eq!(look("7\n", &input).unwrap().places, [Some(1)], "what is left, by place");
    }

    #[test]
    fn more_is_asked_for_while_the_first_line_may_go_on() {
        let input = sample::input();
        let context = input.context(Calendar::utc());
        for text in ["", "\n\n", "time,id", "# x", "time,\"i"] {
            assert!(columns("x.csv", text.as_bytes(), false, &input, &context, 0).is_none(), "{text:?}");
        }
        assert!(columns("x.csv", b"time,id\n", false, &input, &context, 0).is_some());
        assert_eq!(
            columns("x.csv", b"a;b\nC;V\ntime,id\n1,2\n", true, &input, &context, 2).unwrap().unwrap().head_lines,
            3,
            "rows to skip"
        );
    }
}
