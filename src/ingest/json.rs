//! JSON records: objects by line, or one after the other, in arrays or not.
//!
//! Where objects end is found by counting brackets outside of strings; whether one is valid JSON is the record's business.

use super::RECORD_BYTES_MAX;
use super::blocks::Blocks;
use memchr::memchr;
use memchr::memmem::Finder;
use retally_core::record::Raw;
use retally_core::split::Line;
use std::io::{self, Read};

const TOO_LONG: &str = "the object is longer than 64 MiB";

/// Reads objects each of which lies within a line. A line may hold several, without anything between them, or an array of them.
pub struct JsonLines<R> {
    blocks: Blocks<R>,
    until: u64,
    lines: u64,
    /// Between two objects of a line.
    between: Finder<'static>,
}

impl<R: Read> JsonLines<R> {
    /// Reads from `stream`, which starts at a line, up to the end of the last line that starts before byte `until` of it.
    pub fn new(stream: R, until: u64) -> JsonLines<R> {
        JsonLines { blocks: Blocks::new(stream), until, lines: 0, between: Finder::new(b"}{") }
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        self.lines
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
            // A flat object ends with its first brace; of others, few lines need a second look.
            let flat = memchr(b'}', line).is_some_and(|end| end + 1 == line.len());
            if line.starts_with(b"[") || (!flat && self.between.find(line).is_some()) {
                several(line, self.lines, each);
            } else if !line.is_empty() {
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
            // Behind its end, a split has no line that begins.
            if end.is_some() || self.blocks.ended() || self.blocks.consumed() >= self.until {
                return Ok(());
            }
            self.blocks.fill()?;
        }
    }
}

/// Gives the objects of a line that may hold several.
fn several(line: &[u8], number: u64, each: &mut dyn FnMut(Line<'_>)) {
    let mut values = Values::new(line, None);
    // A line is all there: nothing can fail, and nothing is left.
    while let Ok(true) = values.read(&mut |found| each(Line { number, ..found })) {}
}

/// Reads objects one after the other, and those of arrays: what stands between them may be any space.
///
/// With a wrapper, objects are no records themselves: each holds an array of them under that key, beside other keys that are passed over.
/// What is neither object nor array is refused, up to the end of its line. An object whose brackets or quotes don't match would take others
/// with it: it is refused up to the next line that begins with one, no further to the right than it.
pub struct Values<R> {
    blocks: Blocks<R>,
    wrapper: Option<String>,
    state: State,
    lines: u64,
    /// The byte of the stream at which the line begins.
    line_from: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside of everything.
    Root,
    /// In an array, which may stand in a wrapper that has shown it.
    Array { wrapped: bool },
    /// Between the keys of a wrapper: whether the array was there.
    Wrapper { found: bool },
}

impl<R: Read> Values<R> {
    /// Reads from the beginning of a stream.
    pub fn new(stream: R, wrapper: Option<String>) -> Values<R> {
        Values { blocks: Blocks::new(stream), wrapper, state: State::Root, lines: 0, line_from: 0 }
    }

    /// Lines begun.
    pub fn lines(&self) -> u64 {
        self.lines + 1
    }

    /// Reads a block. Returns whether there is more.
    pub fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        self.blocks.fill()?;
        while let Some(&first) = self.blocks.bytes().first() {
            match (self.state, first) {
                (_, b'\n') => {
                    self.lines += 1;
                    self.blocks.consume(1);
                    self.line_from = self.blocks.consumed();
                }
                (_, first) if first.is_ascii_whitespace() => self.blocks.consume(1),
                (State::Root, b'[') => self.go(State::Array { wrapped: false }),
                (State::Root, b'{') if self.wrapper.is_some() => self.go(State::Wrapper { found: false }),
                (State::Array { .. } | State::Wrapper { .. }, b',') => self.blocks.consume(1),
                (State::Array { wrapped: false }, b']') => self.go(State::Root),
                (State::Array { wrapped: true }, b']') => self.go(State::Wrapper { found: true }),
                (State::Wrapper { found: true }, b'}') => self.go(State::Root),
                (State::Wrapper { found: false }, b'}') => {
                    each(self.refused(b"}", "the object does not hold the array that others hold"));
                    self.go(State::Root);
                }
                (State::Wrapper { found }, b'"') => match self.key(found) {
                    Some(()) => {}
                    None if self.is_stuck() => self.give_up(each),
                    None => return Ok(true),
                },
                (State::Array { .. }, _) | (State::Root, b'{') => match element(self.blocks.bytes()) {
                    Some(length) => self.give(length, each),
                    None if self.is_stuck() => self.give_up(each),
                    None => return Ok(true),
                },
                (State::Root | State::Wrapper { .. }, _) => {
                    let length = memchr(b'\n', self.blocks.bytes()).unwrap_or(self.blocks.bytes().len());
                    each(
                        self.refused(self.blocks.bytes().get(..length).unwrap_or_default(), "there is something beside objects and arrays"),
                    );
                    self.blocks.consume(length);
                }
            }
        }
        if self.blocks.ended() && self.state != State::Root {
            each(self.refused(b"", "the array or the object around it is not closed"));
        }
        Ok(!self.blocks.ended())
    }

    /// Whether what is there will never be a whole value.
    fn is_stuck(&self) -> bool {
        self.blocks.ended() || self.blocks.bytes().len() >= RECORD_BYTES_MAX
    }

    fn give_up(&mut self, each: &mut dyn FnMut(Line<'_>)) {
        let why = if self.blocks.ended() { "the input ends within an object" } else { TOO_LONG };
        match self.next_object(self.blocks.bytes()) {
            Some(length) => self.give_whole(length, each),
            None => {
                each(self.refused(self.blocks.bytes(), why));
                self.used(self.blocks.bytes().len());
            }
        }
    }

    fn go(&mut self, state: State) {
        self.state = state;
        self.blocks.consume(1);
    }

    fn refused<'b>(&self, bytes: &'b [u8], why: &'static str) -> Line<'b> {
        Line { member: None, number: self.lines, bytes: bytes.trim_ascii_end(), record: Err(why) }
    }

    fn give(&mut self, length: usize, each: &mut dyn FnMut(Line<'_>)) {
        let element = self.blocks.bytes().get(..length).unwrap_or_default();
        let next = self.next_object(element).filter(|_| serde_json::from_slice::<serde::de::IgnoredAny>(element).is_err());
        self.give_whole(next.unwrap_or(length), each);
    }

    /// Where, in what begins with an object, the next one may begin: at a line, no further to the right.
    fn next_object(&self, bytes: &[u8]) -> Option<usize> {
        let column = usize::try_from(self.blocks.consumed() - self.line_from).unwrap_or(usize::MAX);
        let mut newlines = memchr::memchr_iter(b'\n', bytes);
        newlines.find_map(|newline| {
            let line = bytes.get(newline + 1..)?;
            let text = line.trim_ascii_start();
            let text_of_next = text.strip_prefix(b",").filter(|_| self.state != State::Root).map_or(text, <[u8]>::trim_ascii_start);
            let begins = text_of_next.starts_with(b"{");
            (begins && line.len() - text.len() <= column).then_some(newline + 1)
        })
    }

    fn give_whole(&mut self, length: usize, each: &mut dyn FnMut(Line<'_>)) {
        let element = self.blocks.bytes().get(..length).unwrap_or_default().trim_ascii_end();
        each(Line { member: None, number: self.lines, bytes: element, record: Ok(Raw::Json(element)) });
        self.used(length);
    }

    fn used(&mut self, length: usize) {
        let bytes = self.blocks.bytes().get(..length).unwrap_or_default();
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        let line = memchr::memrchr(b'\n', bytes).map(|newline| self.blocks.consumed() + newline as u64 + 1);
        self.line_from = line.unwrap_or(self.line_from);
        self.blocks.consume(length);
    }

    /// Goes behind a key of the wrapper and the value that is passed over, or into the array that is not. `None` where they are not all
    /// there.
    fn key(&mut self, found: bool) -> Option<()> {
        let bytes = self.blocks.bytes();
        let (key, value) = key(bytes)?;
        let rest = bytes.get(value..)?;
        if *rest.first()? == b'[' && !found && self.wrapper.as_deref() == Some(&*key) {
            self.used(value + 1);
            self.state = State::Array { wrapped: true };
        } else {
            let length = element(rest)?;
            self.used(value + length);
        }
        Some(())
    }
}

/// The key at the beginning, and where its value begins. `None` where they are not all there.
fn key(bytes: &[u8]) -> Option<(String, usize)> {
    let end = string_end(bytes)?;
    // A key with escapes is none that is looked for.
    let key = String::from_utf8_lossy(bytes.get(1..end - 1)?).into_owned();
    let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
    let value = end + bytes.get(end..)?.iter().position(|byte| !is_between(byte))?;
    Some((key, value))
}

/// The key of the only array of objects in the object that some text begins with, where no key of that object is `known`. The object may go
/// on behind the text. An object that holds nothing but an empty array wraps none: nothing came in this hour.
pub fn wrapper(text: &[u8], known: impl Fn(&str) -> bool) -> Option<String> {
    let mut rest = text.trim_ascii_start().strip_prefix(b"{")?;
    let (mut found, mut empty, mut keys) = (None, None, 0);
    loop {
        rest = rest.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        if !rest.starts_with(b"\"") {
            // The end of the object, or of the text.
            return found.or(empty.filter(|_| keys == 1));
        }
        let Some((key, value)) = key(rest) else { return found };
        if known(&key) {
            return None;
        }
        rest = rest.get(value..)?;
        keys += 1;
        let first = rest.strip_prefix(b"[").and_then(|list| list.trim_ascii_start().first());
        if first == Some(&b']') {
            empty = Some(key);
        } else if first == Some(&b'{') && found.replace(key).is_some() {
            return None;
        }
        match element(rest) {
            Some(length) => rest = rest.get(length..)?,
            None => return found,
        }
    }
}

/// The length of the value at the beginning, when it ends within `bytes`.
pub fn element(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at += string_end(bytes.get(at..)?)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            // A value without brackets ends before what comes next.
            b',' | b']' | b'}' if depth == 0 => return Some(at.max(1)),
            _ => {}
        }
        at += 1;
    }
}

/// The length of the string at the beginning, with its quotes.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
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

    fn lines(text: &str) -> Vec<String> {
        let mut shown = Vec::new();
        let mut reader = JsonLines::new(text.as_bytes(), u64::MAX);
        while reader.read(&mut |line| shown.push(show(line))).unwrap() {}
        shown
    }

    fn values(text: &str) -> Vec<String> {
        wrapped(text, None)
    }

    fn wrapped(text: &str, wrapper: Option<&str>) -> Vec<String> {
        let mut shown = Vec::new();
        let mut reader = Values::new(text.as_bytes(), wrapper.map(String::from));
        while reader.read(&mut |line| shown.push(show(line))).unwrap() {}
        shown
    }

    #[test]
    fn lines_of_objects() {
        assert_eq!(lines("{\"a\":1}\r\n\n  {\"b\":2}\nx"), [r#"0 {"a":1}"#, r#"2 {"b":2}"#, "3 x"]);
        assert_eq!(
            lines("{\"a\":1}{\"b\":2} {}\n[{},{\"c\":\"}{\"}]\n"),
            [r#"0 {"a":1}"#, r#"0 {"b":2}"#, "0 {}", "1 {}", r#"1 {"c":"}{"}"#]
        );
        assert_eq!(lines("{} 5\n"), ["0 {} 5"], "refused by whoever reads it");
        assert_eq!(lines("{}{}5\n{}"), ["0 {}", "0 {}", "0 there is something beside objects and arrays: 5", "1 {}"]);
    }

    #[test]
    fn values_one_after_the_other() {
        assert_eq!(values("[]"), [""; 0]);
        assert_eq!(values(" [\n {\"a\": [1, {}]},\n{\n\"b\":\"]}\\\"\"} ]\n"), [r#"1 {"a": [1, {}]}"#, "2 {\n\"b\":\"]}\\\"\"}"]);
        assert_eq!(values("[1, [2], {}, \"x,y\"]"), ["0 1", "0 [2]", "0 {}", "0 \"x,y\""]);
        assert_eq!(values("[{}]\n[{\"a\":1}] {\n}{}"), ["0 {}", r#"1 {"a":1}"#, "1 {\n}", "2 {}"]);
        assert_eq!(
            values("[{},{\"a\""),
            ["0 {}", "0 the input ends within an object: {\"a\"", "0 the array or the object around it is not closed: "]
        );
        assert_eq!(values("[{}"), ["0 {}", "0 the array or the object around it is not closed: "]);
        assert_eq!(values("[{}]\nx, y\n{}\n"), ["0 {}", "1 there is something beside objects and arrays: x, y", "2 {}"]);
        assert_eq!(values("[}{}]"), ["0 }", "0 {}"]);
        assert_eq!(values("{\"a\":"), ["0 the input ends within an object: {\"a\":"]);
    }

    #[test]
    fn a_wrapper_is_an_object_with_one_array_of_objects() {
        let of = |text: &str| wrapper(text.as_bytes(), |key| key == "id");
        assert_eq!(of(r#"{"Records":[{"id":1}]}"#).as_deref(), Some("Records"));
        assert_eq!(of(" {\n \"count\": 2, \"tags\": [1], \"meta\": {\"x\": [{}]},\n \"items\" : [ {").as_deref(), Some("items"), "cut off");
        for other in [
            r#"{"id":1,"parameters":[{"key":1}]}"#,
            r#"{"a":[{}],"b":[{}]}"#,
            r#"{"a":[1,2]}"#,
            "{}",
            "[{}]",
            "",
            "{\"a",
            r#"{"a":[{}],"id":1}"#,
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn the_array_in_a_wrapper_is_read_and_all_else_is_not() {
        let text = "{\"n\":[{}],\"Records\":[{\"a\":1},\n{\"b\":2}],\"more\":{\"Records\":[3]},\"x\":null}\n{\"Records\":[]}{\"n\":1}";
        let expected = [r#"0 {"a":1}"#, r#"1 {"b":2}"#, "2 the object does not hold the array that others hold: }"];
        assert_eq!(wrapped(text, Some("Records")), expected);
        assert_eq!(wrapped("{\"Records\":[{}]", Some("Records")), ["0 {}", "0 the array or the object around it is not closed: "]);
        assert_eq!(
            wrapped("{x}", Some("Records")),
            ["0 there is something beside objects and arrays: x}", "0 the array or the object around it is not closed: "]
        );
    }

    #[test]
    fn an_object_that_does_not_end_takes_no_other_with_it() {
        let count = |text: &str| {
            let all = values(text);
            let good =
                all.iter().filter(|shown| serde_json::from_str::<serde_json::Value>(shown.split_once(' ').unwrap().1).is_ok()).count();
            (good, all.len() - good)
        };
        for (between, first) in [(",\n", "{"), ("\n,", "{"), (",\n\n  ", "{\n    \"a\": [\n      {},\n      {}\n    ],\n    "), ("\n", "{")]
        {
            let object = |number: usize, rest: &str| format!("{first}\"id\":{number}{rest}");
            for bad in [",\"x\":\"a\"b\"}", "", ",\"x\":\"a}", ",\"x\":{}"] {
                let objects: Vec<String> = (0..20).map(|number| object(number, if number == 4 { bad } else { "}" })).collect();
                for (open, close) in [("[\n", "\n]"), ("", "")] {
                    if open.is_empty() && between.contains(',') {
                        continue;
                    }
                    let indent = if first.len() > 1 { "  " } else { "" };
                    let text = format!("{open}{indent}{}{close}", objects.join(between));
                    assert_eq!(count(&text), (19, 1), "{text}");
                }
            }
            let last = format!(
                "[{}",
                (0..20).map(|number| object(number, if number == 19 { ",\"x\":" } else { "}" })).collect::<Vec<_>>().join(between)
            );
            assert_eq!(count(&last).0, 19, "{last}");
        }
        // Brackets in a row are no beginning of another object.
        assert_eq!(values("{\"a\":[\n{\"b\":1},\n{}]}"), ["0 {\"a\":[\n{\"b\":1},\n{}]}"]);
    }

    /// Whatever stands where: nothing is read twice or passed over without a word, and reading ends.
    #[test]
    fn blocks_of_any_size_give_the_same() {
        struct Bytewise<'a>(&'a [u8]);
        impl Read for Bytewise<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.0.len().min(buffer.len()).min(1);
                buffer[..length].copy_from_slice(&self.0[..length]);
                self.0 = &self.0[length..];
                Ok(length)
            }
        }
        for text in ["{\"Records\":[{\"a\":\"\\\"\"},{}],\"y\":1}\n{\"Records\" : [ {} ] }", "[{\"a\":1}]\n {} x\n"] {
            for wrapper in [None, Some("Records")] {
                let mut shown = Vec::new();
                let mut reader = Values::new(Bytewise(text.as_bytes()), wrapper.map(String::from));
                while reader.read(&mut |line| shown.push(show(line))).unwrap() {}
                assert_eq!(shown, wrapped(text, wrapper), "{text}");
            }
        }
    }
}
