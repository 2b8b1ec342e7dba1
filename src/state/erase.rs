//! Rewriting a file of a state, without the records that were forgotten.
//!
//! What is left is left as it was, line by line, and so are lines that were refused, unless the value stands in them. Where a line was, an
//! empty one is: rows of `rejected` name their lines by number.
//!
//! # Limits
//! Of JSON that is not by line, the objects get a line each, and other numbers.
//!
//! Text alone: CSV and JSON, packed or not. Archives, Parquet, wide CSV and text that is not UTF-8 are left as they are, and named.

use super::Of;
use super::StateError;
use super::files::Files;
use super::frame::{Content, Only, Part};
use crate::ingest::plan::{self, Origin};
use crate::ingest::read::FileOpener;
use crate::staged::Staged;
use memchr::memmem;
use retally_core::calendar::Calendar;
use retally_core::condition::{Condition, all_hold};
use retally_core::contract::{Definition, Input};
use retally_core::record::{Context, Raw};
use retally_core::split::{Format, Line, Location, Opener, Split, SplitError};
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

/// The input of a split as its file is read; the split was planned for these inputs. With it, what its fields are read with.
pub fn input_of(plain: &Definition, split: &Split) -> Option<(Input, Context)> {
    let input = plan::input_of(plain, split)?;
    let context = input.context(Calendar::utc());
    Some((input, context))
}

/// A file without the records of which one of these holds: nothing where it is not one of text. Where no record is left, there is no file.
pub fn erased(files: &Files, plain: &Definition, part: &Part, forgotten: &[Only]) -> Result<Option<Option<Content>>, StateError> {
    let plan = files.plan_again(Of { plain, definition: plain }, &[(Origin::default(), part)])?;
    let Some(first) = plan.splits.first() else { return Ok(None) };
    let Some((input, context)) = input_of(plain, first) else { return Ok(None) };
    let name = match &first.format {
        Format::Csv(columns) if columns.wide.is_none() => "erased.csv",
        Format::JsonLines | Format::Json { wrapper: None } => "erased.jsonl",
        Format::Csv(_) | Format::Json { .. } | Format::Parquet | Format::Archive(_) => return Ok(None),
    };
    let conditions: Option<Vec<Condition>> = forgotten.iter().map(|only| only.condition(&input)).collect();
    let Some(conditions) = conditions.filter(|_| first.encoding.is_none()) else { return Ok(None) };
    let is_forgotten = |line: &Line<'_>| {
        let stands_in = |condition: &Condition| memmem::find(line.bytes, condition.value.as_bytes()).is_some();
        conditions.iter().any(|condition| match line.record {
            Ok(raw) => all_hold(std::slice::from_ref(condition), raw, input.fields, &context),
            Err(_) => stands_in(condition),
        })
    };
    let path = files.dir().join("blobs").join("erased");
    let failed = StateError::io("write", &path);
    let mut staged = Staged::create(&path).map_err(StateError::io("write", &path))?;
    let mut written = BufWriter::new(staged.file());
    let mut left = 0_u64;
    // The lines of a split that are written.
    let mut lines = 0;
    if let Format::Csv(columns) = &first.format {
        let head = FileOpener::default().head(first, columns.head_bytes).map_err(|error| unreadable(first, &error))?;
        written.write_all(&head).map_err(StateError::io("write", &path))?;
        lines = newlines(&head);
    }
    for split in &plan.splits {
        let all = each_line(split, &input, &mut |line| {
            if is_forgotten(&line) {
                return Ok(());
            }
            left += 1;
            let text = if let Ok(Raw::Json(object)) = line.record { object } else { line.bytes };
            pad(&mut written, &mut lines, line.number)?;
            lines += newlines(text) + 1;
            written.write_all(text).and_then(|()| written.write_all(b"\n"))
        })?;
        pad(&mut written, &mut lines, all).map_err(StateError::io("write", &path))?;
        lines = 0;
    }
    let file = written.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.rewind().map(|()| file));
    let file = file.map_err(failed)?;
    Ok(Some(if left == 0 { None } else { Some(Content::Blob(files.keep_stream(name, file)?)) }))
}

fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// Writes empty lines in the place of those that are not there any more.
fn pad(out: &mut impl Write, lines: &mut u64, until: u64) -> io::Result<()> {
    (*lines..until).try_for_each(|_| out.write_all(b"\n"))?;
    *lines = until.max(*lines);
    Ok(())
}

/// Gives out the lines of a split. Returns how many it has, empty ones too.
pub fn each_line(split: &Split, input: &Input, each: &mut dyn FnMut(Line<'_>) -> io::Result<()>) -> Result<u64, StateError> {
    let mut reader = FileOpener::default().open(split, input).map_err(|error| unreadable(split, &error))?;
    let mut written = Ok(());
    loop {
        let more = reader.read(&mut |line| {
            if written.is_ok() {
                written = each(line);
            }
        });
        std::mem::replace(&mut written, Ok(())).map_err(StateError::io("write", Path::new("blobs")))?;
        if !more.map_err(|error| unreadable(split, &error))? {
            return Ok(reader.lines_read());
        }
    }
}

fn unreadable(split: &Split, error: &SplitError) -> StateError {
    let file = if let Location::File(file) = &split.location { &file.location } else { "journal" };
    StateError::damaged(Path::new(file), error.to_string())
}
