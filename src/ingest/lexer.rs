//! Cuts a stream into records, whatever its format.

use super::csv::Csv;
use super::json::{JsonLines, Values};
use retally_core::contract::Input;
use retally_core::split::{Format, Line};
use std::io::{self, Read};

/// Cuts a stream into records.
pub(super) enum Lexer {
    Csv(Box<Csv<Box<dyn Read>>>),
    JsonLines(Box<JsonLines<Box<dyn Read>>>),
    Values(Values<Box<dyn Read>>),
}

impl Lexer {
    /// Cuts a stream that starts at a line, up to the end of the last line that starts before byte `until` of it.
    pub fn new(stream: Box<dyn Read>, until: u64, format: &Format, input: &Input, at_file_start: bool) -> Lexer {
        match format {
            Format::Csv(columns) => Lexer::Csv(Box::new(Csv::new(stream, until, columns.clone(), input, at_file_start))),
            Format::Json { wrapper } => Lexer::Values(Values::new(stream, wrapper.clone())),
            Format::JsonLines | Format::Parquet | Format::Archive(_) => Lexer::JsonLines(Box::new(JsonLines::new(stream, until))),
        }
    }

    /// Reads a block. Returns whether there is more.
    pub fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        match self {
            Lexer::Csv(csv) => csv.read(each),
            Lexer::JsonLines(lines) => lines.read(each),
            Lexer::Values(values) => values.read(each),
        }
    }

    /// The first second header: its line, and the one in which the file's own ends, from 1; 0 where it has none.
    pub fn second_header(&self) -> Option<(u64, u64)> {
        match self {
            Lexer::Csv(csv) => csv.second_header(),
            Lexer::JsonLines(_) | Lexer::Values(_) => None,
        }
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        match self {
            Lexer::Csv(csv) => csv.lines(),
            Lexer::JsonLines(lines) => lines.lines(),
            Lexer::Values(values) => values.lines(),
        }
    }
}
