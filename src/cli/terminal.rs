//! The door to the terminal: what stands in a text of others can't steer it, nor tell secrets.
//!
//! Names of files in archives, ids, and what servers say hold whatever somebody put there. All that is printed goes through here: control
//! characters, those that change the order or the look of others, and line feeds where one line is meant are written as escapes, and
//! [`shown`] masks URLs. CSV and JSON for a pipe or a file are as they are ([`out`]).

use crate::shown;
use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write, stdout};

/// Standard output for CSV and JSON: a program gets them as they are, and a terminal what it may.
pub fn out() -> Box<dyn Write> {
    let out = stdout().lock();
    if out.is_terminal() { Box::new(Escaping { out, line: Vec::new() }) } else { Box::new(BufWriter::new(out)) }
}

/// Escapes what steers, line by line.
struct Escaping<W: Write> {
    out: W,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl<W: Write> Escaping<W> {
    fn end_line(&mut self, end: &str) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        write!(self.out, "{}{end}", escaped(&String::from_utf8_lossy(&line)))
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            self.line.extend_from_slice(line);
            if lines.peek().is_some() {
                self.end_line("\n")?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_line("")?;
        self.out.flush()
    }
}

/// A text as one line that may be printed.
pub fn line(text: &str) -> String {
    escaped(&shown::text(text)).into_owned()
}

/// A text with escapes for all that is not seen.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for character in text.chars() {
        if steers(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    Cow::Owned(shown)
}

/// Whether a character is not seen, and changes how others are: controls, marks of direction, joiners, spaces without width.
pub fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let text = "a\u{1b}[2Jb\nerror: \u{202e}c\u{9b}31m \u{200b}süd 日本 …";
        assert_eq!(line(text), "a\\u{1b}[2Jb\\nerror: \\u{202e}c\\u{9b}31m \\u{200b}süd 日本 …");
        assert_eq!(line("http://u:secret@h\u{1b}"), "http://h\\u{1b}");
        let mut printed = Vec::new();
        let mut out = Escaping { out: &mut printed, line: Vec::new() };
        for byte in "a\u{1b}b,süd\n\u{202e},日本\r\nend".as_bytes() {
            out.write_all(&[*byte]).unwrap();
        }
        out.flush().unwrap();
        assert_eq!(String::from_utf8(printed).unwrap(), "a\\u{1b}b,süd\n\\u{202e},日本\\r\nend");
    }
}
