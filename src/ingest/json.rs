//! JSON records: an object a line, or the elements of one array.

use super::RECORD_BYTES_MAX;
use super::blocks::Blocks;
use memchr::memchr;
use retally_core::record::Raw;
use retally_core::split::Line;
use std::io::{self, Read};

/// Reads an object a line.
pub struct JsonLines<R> {
    blocks: Blocks<R>,
    until: u64,
    lines: u64,
}

impl<R: Read> JsonLines<R> {
    /// Reads from `stream`, which starts at a line, up to the end of the last line that starts before byte `until` of it.
    pub fn new(stream: R, until: u64) -> JsonLines<R> {
        JsonLines { blocks: Blocks::new(stream), until, lines: 0 }
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
        let bytes = self.blocks.bytes();
        let left = usize::try_from(self.until - self.blocks.consumed().min(self.until)).unwrap_or(usize::MAX);
        let mut used = 0;
        while used < left {
            let rest = bytes.get(used..).unwrap_or_default();
            let (line, length) = match memchr(b'\n', rest) {
                Some(end) => (rest.get(..end).unwrap_or_default(), end + 1),
                None if self.blocks.ended() && !rest.is_empty() => (rest, rest.len()),
                None => break,
            };
            used += length;
            let line = line.trim_ascii();
            if !line.is_empty() {
                each(Line { member: None, number: self.lines, bytes: line, record: Ok(Raw::Json(line)) });
            }
            self.lines += 1;
        }
        if used == 0 && bytes.len() >= RECORD_BYTES_MAX {
            self.refuse_long_line(each)?;
        } else {
            self.blocks.consume(used);
        }
        let over = self.blocks.consumed() >= self.until || (self.blocks.ended() && self.blocks.bytes().is_empty());
        Ok(!over)
    }

    fn refuse_long_line(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
        each(Line { member: None, number: self.lines, bytes: self.blocks.bytes(), record: Err("the line is longer than 64 MiB") });
        self.lines += 1;
        loop {
            let bytes = self.blocks.bytes();
            let end = memchr(b'\n', bytes);
            let length = end.map_or(bytes.len(), |end| end + 1);
            self.blocks.consume(length);
            if end.is_some() || self.blocks.ended() {
                return Ok(());
            }
            self.blocks.fill()?;
        }
    }
}

/// Reads the elements of an array.
///
/// Elements are found by counting brackets outside of strings; whether an element is valid JSON is the record's business.
/// What stands between elements and is no comma is refused as an element of its own.
pub struct JsonArray<R> {
    blocks: Blocks<R>,
    state: State,
    lines: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    After,
}

impl<R: Read> JsonArray<R> {
    /// Reads from `stream`, whose first character that is no space is `[`.
    pub fn new(stream: R) -> JsonArray<R> {
        JsonArray { blocks: Blocks::new(stream), state: State::Before, lines: 0 }
    }

    /// Lines begun.
    pub fn lines(&self) -> u64 {
        self.lines + 1
    }

    /// Bytes used up.
    pub fn bytes(&self) -> u64 {
        self.blocks.consumed()
    }

    /// Reads a block. Returns whether there is more.
    pub fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        self.blocks.fill()?;
        loop {
            let bytes = self.blocks.bytes();
            let Some(&first) = bytes.first() else { break };
            match (self.state, first) {
                (_, b'\n') => self.newline(),
                (_, first) if first.is_ascii_whitespace() => self.blocks.consume(1),
                (State::Before, b'[') => self.go(State::Within),
                (State::Within, b',') => self.blocks.consume(1),
                (State::Within, b']') => self.go(State::After),
                (State::Within, _) => match element(bytes) {
                    Some(length) => self.give(length, Ok(()), each),
                    None if self.blocks.ended() => self.give(bytes.len(), Err("the array ends within an element"), each),
                    None if bytes.len() >= RECORD_BYTES_MAX => self.give(bytes.len(), Err("the element is longer than 64 MiB"), each),
                    None => return Ok(true),
                },
                (State::Before | State::After, _) => {
                    let length = memchr(b'\n', bytes).unwrap_or(bytes.len());
                    self.give(length, Err("there is something beside the array"), each);
                }
            }
        }
        if self.blocks.ended() && self.state == State::Within {
            each(Line { member: None, number: self.lines, bytes: b"", record: Err("the array is not closed") });
        }
        Ok(!self.blocks.ended())
    }

    fn newline(&mut self) {
        self.lines += 1;
        self.blocks.consume(1);
    }

    fn go(&mut self, state: State) {
        self.state = state;
        self.blocks.consume(1);
    }

    fn give(&mut self, length: usize, found: Result<(), &'static str>, each: &mut dyn FnMut(Line<'_>)) {
        let bytes = self.blocks.bytes().get(..length).unwrap_or_default();
        let element = bytes.trim_ascii_end();
        each(Line { member: None, number: self.lines, bytes: element, record: found.map(|()| Raw::Json(element)) });
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.blocks.consume(length);
    }
}

/// The length of the element at the beginning, when it ends within `bytes`.
fn element(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut bytes = bytes.iter().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' if depth == 1 => return Some(index + 1),
            b']' if depth == 1 => return Some(index + 1),
            // An element without brackets ends before what comes next.
            b',' | b']' | b'}' if depth == 0 => return Some(index.max(1)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(line: Line<'_>) -> String {
        match line.record {
            Ok(Raw::Json(text)) => format!("{} {}", line.number, String::from_utf8_lossy(text)),
            Ok(Raw::Fields(_)) => unreachable!(),
            Err(why) => format!("{} {why}: {}", line.number, String::from_utf8_lossy(line.bytes)),
        }
    }

    fn array(text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut reader = JsonArray::new(text.as_bytes());
        while reader.read(&mut |line| lines.push(show(line))).unwrap() {}
        lines
    }

    #[test]
    fn lines_of_objects() {
        let mut lines = Vec::new();
        let mut reader = JsonLines::new(&b"{\"a\":1}\r\n\n  {\"b\":2}\nx"[..], u64::MAX);
        while reader.read(&mut |line| lines.push(show(line))).unwrap() {}
        assert_eq!(lines, [r#"0 {"a":1}"#, r#"2 {"b":2}"#, "3 x"]);
    }

    #[test]
    fn elements_of_an_array() {
        assert_eq!(array("[]"), [""; 0]);
        assert_eq!(array(" [\n {\"a\": [1, {}]},\n{\n\"b\":\"]}\\\"\"} ]\n"), [r#"1 {"a": [1, {}]}"#, "2 {\n\"b\":\"]}\\\"\"}"]);
        assert_eq!(array("[1, [2], {}]"), ["0 1", "0 [2]", "0 {}"]);
        assert_eq!(array("[{},{\"a\""), ["0 {}", "0 the array ends within an element: {\"a\"", "0 the array is not closed: "]);
        assert_eq!(array("[{}"), ["0 {}", "0 the array is not closed: "]);
        assert_eq!(array("[{}]\n{}\n"), ["0 {}", "1 there is something beside the array: {}"]);
        assert_eq!(array("[}{}]"), ["0 }", "0 {}"]);
    }
}
