//! Headers within a file: `cat *.csv` puts the header of each file between the lines of others.
//!
//! One that says the same of the columns as the file's own is a line that is no record, and nothing else. Behind one that says something
//! else, nobody knows which column is which: those lines are refused, and a run fails. A line is such a header when its cells name every
//! field that a header must name; of a wide file, when its cells are names of columns, or one of them is that of the times.
//!
//! A file with one is not cut into splits: only who comes from its beginning knows.

use super::names::{names, sought};
use memchr::{memchr, memchr_iter};
use retally_core::contract::Input;
use retally_core::record::Presence;
use retally_core::split::{Columns, WideColumns};
use std::collections::BTreeSet;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The field of each column, and fields that share a column with another: the other, and their own.
type Named = (Vec<Option<usize>>, Vec<(usize, usize)>);

/// Tells headers within a file.
pub(super) struct Within {
    columns: Columns,
    input: Input,
    /// The names of a wide file's columns.
    own: BTreeSet<Vec<u8>>,
    /// Some name begins as numbers and times do.
    has_number: bool,
}

impl Within {
    /// Of a file with these columns; nothing where each of its lines is a record.
    pub fn new(columns: &Columns, input: &Input) -> Option<Within> {
        let is_nameless = columns.wide.as_ref().is_some_and(|wide| wide.names.is_empty());
        if columns.lines_only || columns.places.is_empty() || is_nameless {
            return None;
        }
        let own: BTreeSet<Vec<u8>> = columns.wide.iter().flat_map(|wide| &wide.names).map(|name| name.clone().into_bytes()).collect();
        let mapped = input.fields.iter().enumerate().map(|(place, field)| input.mapping.name(place, field).as_bytes());
        let has_number = own.iter().map(Vec::as_slice).chain(mapped).any(begins_as_number);
        Some(Within { columns: columns.clone(), input: input.clone(), own, has_number })
    }

    /// Whether a line without quotes is another header. Of nearly every line, the first byte says that it is none.
    #[inline]
    pub fn is_other(&self, line: &[u8]) -> bool {
        !self.is_none_at_once(line.first()) && self.may_be(line) && self.are_other(&self.cells(line))
    }

    #[inline]
    fn is_none_at_once(&self, first: Option<&u8>) -> bool {
        !self.has_number && first.is_some_and(begins_number)
    }

    /// Whether the cells of a line are another header.
    pub fn are_other(&self, cells: &[&[u8]]) -> bool {
        if let Some((first, rest)) = cells.split_first()
            && let Some(first) = first.strip_prefix(BOM)
        {
            // Behind the mark, quotes are characters.
            let first = first.strip_prefix(b"\"").and_then(|first| first.strip_suffix(b"\"")).unwrap_or(first);
            return self.are_other(&[&[first], rest].concat());
        }
        if !self.has_number && cells.iter().any(|cell| begins_as_number(cell)) {
            return false;
        }
        match &self.columns.wide {
            Some(wide) => self.are_other_names(wide, cells),
            None => self.header(cells).is_some_and(|found| self.differ(&found)),
        }
    }

    /// Whether a text of whole lines without quotes has a line that keeps its file from being cut.
    pub fn is_in(&self, text: &[u8]) -> bool {
        let mut start = 0;
        memchr_iter(b'\n', text).chain([text.len()]).any(|end| {
            let line = std::mem::replace(&mut start, end + 1)..end;
            if self.is_none_at_once(text.get(line.start)) {
                return false;
            }
            let line = text.get(line).unwrap_or_default();
            self.may_be(line) && self.is_suspect(&self.cells(line))
        })
    }

    /// A file without a header may get that of another one later: any within it may be another one then.
    fn is_suspect(&self, cells: &[&[u8]]) -> bool {
        if self.columns.header { self.are_other(cells) } else { self.header(cells).is_some() }
    }

    fn may_be(&self, line: &[u8]) -> bool {
        self.has_number || !line.split(|byte| *byte == self.columns.delimiter).any(begins_as_number)
    }

    fn cells<'l>(&self, line: &'l [u8]) -> Vec<&'l [u8]> {
        let line = line.strip_prefix(BOM).unwrap_or(line);
        line.split(|byte| *byte == self.columns.delimiter).collect()
    }

    /// The fields that the cells name, by their columns, and those that share one with another, where the cells are a header.
    fn header(&self, cells: &[&[u8]]) -> Option<Named> {
        let is_needed = |place: &usize| self.input.fields.get(*place).is_some_and(|field| field.presence != Presence::OfSome);
        let is_named = |place: usize| cells.iter().any(|cell| names(&self.input, place, cell).is_some());
        let mut needed = sought(&self.input).into_iter().filter(is_needed).peekable();
        needed.peek()?;
        if !needed.all(is_named) {
            return None;
        }
        let (mut places, mut copies) = (vec![None; cells.len()], Vec::new());
        for place in sought(&self.input) {
            let named = |(column, cell): (usize, &&[u8])| Some((names(&self.input, place, cell)?, column));
            let Some((_, column)) = cells.iter().enumerate().filter_map(named).min() else { continue };
            match places.get_mut(column) {
                Some(Some(other)) => copies.push((*other, place)),
                Some(free) => *free = Some(place),
                None => {}
            }
        }
        Some((places, copies))
    }

    fn differ(&self, (places, copies): &Named) -> bool {
        let (own, other) = (named(&self.columns.places), named(places));
        let is_same = if self.columns.header { own == other } else { own.starts_with(other) };
        !is_same || *copies != self.columns.copies
    }

    fn are_other_names(&self, wide: &WideColumns, cells: &[&[u8]]) -> bool {
        let cells: Vec<&[u8]> = cells.iter().map(|cell| cell.trim_ascii()).collect();
        let end = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        let cells = cells.get(..end).unwrap_or_default();
        let mut are_own = true;
        for cell in cells.iter().filter(|cell| !cell.is_empty()) {
            if self.own.contains(*cell) {
                continue;
            }
            if begins_as_number(cell) {
                return false;
            }
            are_own = false;
        }
        let is_of_times = |cell: &&[u8]| {
            let shared = wide.names.get(wide.shared).filter(|name| !name.is_empty());
            shared.is_some_and(|name| cell.eq_ignore_ascii_case(name.as_bytes())) || names(&self.input, wide.fields.line, cell).is_some()
        };
        let is_header = if are_own { cells.len() > 1 } else { cells.iter().any(is_of_times) };
        is_header && !cells.iter().copied().eq(wide.names.iter().map(|name| name.as_bytes()))
    }
}

/// The places up to the last one with a field.
fn named(places: &[Option<usize>]) -> &[Option<usize>] {
    let end = places.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    places.get(..end).unwrap_or_default()
}

/// Whether a text begins as numbers and times do, and hardly any name.
pub fn begins_as_number(text: &[u8]) -> bool {
    text.trim_ascii_start().first().is_some_and(begins_number)
}

fn begins_number(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.')
}

/// Tells lines that may be headers within a text, before it is known what its columns are.
#[derive(Default)]
pub struct Suspects {
    /// The first line, and the names in it where it may be a header; none where it is a line like others.
    first: Option<(Vec<u8>, BTreeSet<Vec<u8>>)>,
}

impl Suspects {
    /// Looks at the next lines of a text. Returns whether one of them may be a header, without the first one.
    pub fn look(&mut self, lines: &[u8]) -> bool {
        let mut rest = lines;
        let mut found = false;
        while !rest.is_empty() && !found {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            found = self.is_suspect(rest.get(..end).unwrap_or_default());
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        found
    }

    fn is_suspect(&mut self, line: &[u8]) -> bool {
        if self.first.is_some() && begins_as_number(line) {
            return false;
        }
        let line = line.strip_prefix(BOM).unwrap_or(line).trim_ascii();
        let is_of_delimiters = line.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case(b"sep="));
        if line.is_empty() || line.starts_with(b"#") || is_of_delimiters {
            return false;
        }
        let mut cells = line.split(|byte| matches!(byte, b',' | b';' | b'\t' | b'|')).map(<[u8]>::trim_ascii);
        let may_be_header = !cells.clone().any(begins_as_number);
        match &self.first {
            // The same header again says nothing new.
            Some((first, names)) if may_be_header && first != line => {
                names.is_empty() || cells.any(|cell| names.contains(&cell.to_ascii_lowercase()))
            }
            Some(_) => false,
            None => {
                let names = cells.filter(|cell| !cell.is_empty()).map(<[u8]>::to_ascii_lowercase);
                self.first = Some((line.to_vec(), if may_be_header { names.collect() } else { BTreeSet::new() }));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{header, sample, wide};
    use retally_core::calendar::Calendar;
    use retally_core::definition::{FileOptions, Wide};

    fn within(text: &str) -> Within {
        let input = sample::input();
        let columns = header::columns("x", text.as_bytes(), true, &input, &input.context(Calendar::utc()), 0).unwrap().unwrap();
        Within::new(&columns, &input).unwrap()
    }

    #[test]
    fn another_header_names_all_fields_in_other_columns() {
        let own = within("x,time,id\n1,2026-01-01,1\n");
        for other in ["id,time", "time,id,x", "x,ID, Time", "\u{feff}time,id", "x,y,time,id"] {
            assert!(own.is_other(other.as_bytes()), "{other}");
        }
        for line in ["x,time,id", "y,Time,ID,", "time,x", "a,b,c", "x,time,7", "7,time,id", "", "x,2026-01-01,1"] {
            assert!(!own.is_other(line.as_bytes()), "{line}");
        }
        assert!(own.is_in(b"1,2026-01-01,1\nid,time\n") && !own.is_in(b"1,2026-01-01,1\nx,time,id\n"));
        let own = within("2026-01-01,1\n");
        assert!(own.is_other(b"id,time") && !own.is_other(b"time,id"));
        assert!(own.is_in(b"2026-01-01,1\ntime,id"), "it may get the header of another file");
    }

    #[test]
    fn another_header_of_a_wide_file_has_names_and_no_values() {
        let fields = Wide { line: 0, column: 1, cell: 1 };
        let input = Input { files: FileOptions { wide: Some(fields), ..FileOptions::default() }, ..sample::input() };
        let within = |text: &str| {
            let columns = wide::columns("x", text.as_bytes(), true, &input, fields).unwrap().unwrap();
            Within::new(&columns, &input).unwrap()
        };
        let own = within("when,a,b\n2026-01-01,1,2\n");
        for other in ["when,b,a", "a,b,when", "when,a", "when,c,d", "WHEN,a,b", "time,a,b"] {
            assert!(own.is_other(other.as_bytes()), "{other}");
        }
        for line in ["when,a,b", "when,a,b,", "soon,1,", "2026-01-01,1,2", "s,bar,bar", "a", "when,5,a", ",,"] {
            assert!(!own.is_other(line.as_bytes()), "{line}");
        }
        let own = within("when,1,2\n2026-01-01,5,6\n");
        assert!(own.is_other(b"when,2,1") && !own.is_other(b"when,1,2") && !own.is_other(b"2026-01-02,1,2"));
    }

    #[test]
    fn suspects_are_lines_without_values() {
        let look = |text: &[u8]| Suspects::default().look(text);
        assert!(look(b"#x\na,b\n1,2\nb,a\n") && look(b"a,b\n1,2\na,c\n") && look(b"1,x\nid,time\n"));
        assert!(
            !look(b"a,b\n1,2\na,b\n3,4\n")
                && !look(b"a,b\n1,2\nx,3\ns,bar\n")
                && !look(b"1,x\n2,y\n")
                && !look(b"sep=;\na;b\n")
                && !look(b"")
        );
    }
}
