//! The door to the terminal: what stands in a text of others can't steer it, nor tell secrets.
//!
//! Names of files in archives, ids, and what servers say hold whatever somebody put there. All that is printed, but for CSV and JSON, goes
//! through here: control characters, those that change the order or the look of others, and line feeds where one line is meant are
//! written as escapes, and [`shown`] masks URLs.

use crate::shown;
use std::borrow::Cow;

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
    }
}
