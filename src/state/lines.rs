//! What small batches come to, line by line: a few files in the place of thousands of frames.
//!
//! A line that was delivered and taken back is gone. That is known of a batch whose records were all taken, each a line: then no row of
//! `rejected` names a place in it, and from and until when it was accepted makes no difference any more.

use super::StateError;
use super::frame::{Blob, Content, Frame, Inline, InlineFormat, KeptShape, Part};
use retally_core::definition::FileOptions;
use retally_core::time::Moment;
use std::collections::BTreeMap;

/// A file of so many bytes gets no further lines.
const FILE_BYTES: usize = 64 << 20;

/// Of what lines come together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'f> {
    input: &'f str,
    /// Nothing for JSON.
    header: Option<&'f str>,
}

/// Lines, by how often they were delivered more than taken back.
#[derive(Default)]
pub struct Lines<'f> {
    kinds: Vec<(Kind<'f>, &'f Option<KeptShape>, BTreeMap<&'f str, i64>)>,
}

impl<'f> Lines<'f> {
    /// Adds the lines of a batch; not so, where it is not one of lines alone, or something of it was refused.
    pub fn add(&mut self, frame: &'f Frame) -> bool {
        let Some(answer) = frame.answer.as_ref().filter(|answer| answer.rejected == 0) else { return false };
        let parts: Option<Vec<_>> = frame.parts.iter().map(lines).collect();
        let Some(parts) = parts.filter(|parts| !parts.is_empty()) else { return false };
        // Each line is a record, and none is anything else.
        if parts.iter().map(|(_, lines)| lines.len() as u64).sum::<u64>() != answer.accepted {
            return false;
        }
        for (part, (kind, lines)) in frame.parts.iter().zip(parts) {
            let known = self.kinds.iter().position(|(other, shape, _)| *other == kind && *shape == &part.shape);
            let place = known.unwrap_or_else(|| {
                self.kinds.push((kind, &part.shape, BTreeMap::new()));
                self.kinds.len() - 1
            });
            let Some((_, _, counts)) = self.kinds.get_mut(place) else { continue };
            lines.into_iter().for_each(|line| *counts.entry(line).or_default() += i64::from(part.sign));
        }
        true
    }

    /// What they come to, as files that are kept under a name.
    pub fn parts(self, keep: &mut impl FnMut(&str, &str) -> Result<Blob, StateError>) -> Result<Vec<Part>, StateError> {
        let mut parts = Vec::new();
        for (kind, shape, counts) in self.kinds {
            for sign in [1, -1] {
                let mut file = Filling { kind, shape, sign, text: String::new(), parts: &mut parts };
                for (line, count) in counts.iter().filter(|(_, count)| count.signum() == i64::from(sign)) {
                    (0..count.unsigned_abs()).try_for_each(|_| file.add(line, keep))?;
                }
                file.end(keep)?;
            }
        }
        Ok(parts)
    }
}

/// A file that gets lines.
struct Filling<'f, 'p> {
    kind: Kind<'f>,
    shape: &'f Option<KeptShape>,
    sign: i8,
    text: String,
    parts: &'p mut Vec<Part>,
}

impl Filling<'_, '_> {
    fn add(&mut self, line: &str, keep: &mut impl FnMut(&str, &str) -> Result<Blob, StateError>) -> Result<(), StateError> {
        if let Some(header) = self.kind.header.filter(|_| self.text.is_empty()) {
            self.text.extend([header, "\n"]);
        }
        self.text.extend([line, "\n"]);
        if self.text.len() >= FILE_BYTES { self.end(keep) } else { Ok(()) }
    }

    fn end(&mut self, keep: &mut impl FnMut(&str, &str) -> Result<Blob, StateError>) -> Result<(), StateError> {
        if self.text.is_empty() {
            return Ok(());
        }
        let name = if self.kind.header.is_some() { "folded.csv" } else { "folded.jsonl" };
        let content = Content::Blob(keep(name, &self.text)?);
        self.parts.push(Part {
            input: self.kind.input.into(),
            sign: self.sign,
            name: name.into(),
            content,
            // All of them were accepted.
            accept_from: Moment::FIRST.0,
            accept_until: Moment::LAST.0,
            shape: self.shape.clone(),
            folder: None,
            only: Vec::new(),
            again: None,
            messages: None,
            origin: None,
            rejected_kept: None,
        });
        self.text.clear();
        Ok(())
    }
}

/// The records of a part, each a line; nothing where that is not sure.
fn lines(part: &Part) -> Option<(Kind<'_>, Vec<&str>)> {
    let Content::Inline(Inline { format, text }) = &part.content else { return None };
    let plain = FileOptions { format: None, ..FileOptions::default() };
    let is_plain = part.shape.as_ref().is_none_or(|shape| FileOptions { format: None, ..shape.files.clone() } == plain);
    if !is_plain || part.folder.is_some() || !part.only.is_empty() || part.again.is_some() || text.starts_with('\u{feff}') {
        return None;
    }
    let mut lines: Vec<&str> = text.lines().collect();
    let header = match format {
        // In quotes there may be more lines.
        InlineFormat::Csv if text.contains('"') || lines.is_empty() => return None,
        InlineFormat::Csv => Some(lines.remove(0)),
        InlineFormat::Json => None,
    };
    let is_record = |line: &&str| header.is_some() || (line.starts_with('{') && line.ends_with('}'));
    lines.iter().all(is_record).then_some((Kind { input: &part.input, header }, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::frame::Answer;

    fn part(input: &str, sign: i8, format: InlineFormat, text: &str) -> Part {
        let content = Content::Inline(Inline { format, text: text.into() });
        Part {
            input: input.into(),
            sign,
            name: "x".into(),
            content,
            accept_from: 0,
            accept_until: 9,
            shape: None,
            folder: None,
            only: Vec::new(),
            again: None,
            messages: None,
            origin: None,
            rejected_kept: None,
        }
    }

    fn frame(accepted: u64, rejected: u64, parts: Vec<Part>) -> Frame {
        let answer = Some(Answer { accepted, rejected, ..Answer::default() });
        Frame { dataflow: "a".into(), epoch: 1, arrived: 0, parts, key: None, answer, positions: Vec::new() }
    }

    #[test]
    fn lines_are_added_up_and_those_that_are_not_sure_are_left() {
        let csv = |sign, text: &str| part("events", sign, InlineFormat::Csv, text);
        let json = |text: &str| part("other", 1, InlineFormat::Json, text);
        let taken = [
            frame(2, 0, vec![csv(1, "id,t\n2,b\n1,a\n")]),
            frame(2, 0, vec![csv(-1, "id,t\r\n2,b\r\n"), json("{\"id\":1}")]),
            frame(3, 0, vec![csv(1, "id,t\n1,a\n"), csv(-1, "id,t\n3,c\n"), csv(1, "t,id\na,1\n")]),
        ];
        let left = [
            frame(1, 1, vec![csv(1, "id,t\n1,a\n2,\n")]),
            frame(1, 0, vec![csv(1, "# made by hand\nid,t\n1,a\n")]),
            frame(1, 0, vec![csv(1, "id,t\n1,\"a\"\n")]),
            frame(2, 0, vec![json("[{\"id\":1},\n{\"id\":2}]")]),
            frame(0, 0, vec![]),
            Frame { answer: None, ..frame(1, 0, vec![csv(1, "id,t\n1,a\n")]) },
        ];
        let mut lines = Lines::default();
        for (place, frame) in taken.iter().enumerate() {
            assert!(lines.add(frame), "{place}");
        }
        for (place, frame) in left.iter().enumerate() {
            assert!(!lines.add(frame), "{place}");
        }
        let mut kept = Vec::new();
        let parts = lines.parts(&mut |name, text| {
            kept.push((name.to_string(), text.to_string()));
            Ok(Blob { file: kept.len().to_string(), bytes: 1 })
        });
        let signs: Vec<(String, i8)> = parts.unwrap().into_iter().map(|part| (part.input, part.sign)).collect();
        assert_eq!(signs, [("events".into(), 1), ("events".into(), -1), ("other".into(), 1), ("events".into(), 1)]);
        let texts: Vec<&str> = kept.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["id,t\n1,a\n1,a\n", "id,t\n3,c\n", "{\"id\":1}\n", "t,id\na,1\n"]);
    }
}
