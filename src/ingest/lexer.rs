//! Cuts a stream into records, whatever its format.

use super::csv::Csv;
use super::json::{JsonArray, JsonLines};
use retally_core::record::Field;
use retally_core::split::{Format, Line};
use std::io::{self, Read};

/// Cuts a stream into records.
pub(super) enum Lexer {
    Csv(Box<Csv<Box<dyn Read>>>),
    JsonLines(JsonLines<Box<dyn Read>>),
    JsonArray(JsonArray<Box<dyn Read>>),
}

impl Lexer {
    /// Cuts a stream that starts at a line, up to the end of the last line that starts before byte `until` of it.
    pub fn new(stream: Box<dyn Read>, until: u64, format: &Format, fields: &'static [Field], at_file_start: bool) -> Lexer {
        match format {
            Format::Csv { delimiter, header } => {
                Lexer::Csv(Box::new(Csv::new(stream, until, *delimiter, fields, header.clone(), at_file_start)))
            }
            Format::JsonArray => Lexer::JsonArray(JsonArray::new(stream)),
            Format::JsonLines | Format::Archive { .. } => Lexer::JsonLines(JsonLines::new(stream, until)),
        }
    }

    /// Reads a block. Returns whether there is more.
    pub fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        match self {
            Lexer::Csv(csv) => csv.read(each),
            Lexer::JsonLines(lines) => lines.read(each),
            Lexer::JsonArray(array) => array.read(each),
        }
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        match self {
            Lexer::Csv(csv) => csv.lines(),
            Lexer::JsonLines(lines) => lines.lines(),
            Lexer::JsonArray(array) => array.lines(),
        }
    }
}
