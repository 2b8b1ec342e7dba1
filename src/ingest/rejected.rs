//! The refused records of a batch, as rows of the table `rejected`.
//!
//! Of a large file that is no input at all, every line is refused: lines are packed as they come, so that keeping them
//! costs some tens of bytes beside their own.

use super::plan::{Plan, PlannedFile};
use retally_core::contract::Definition;
use retally_core::row::{Row, RowBatch};
use retally_core::split::{Done, RAW_BYTES_MAX, Rejected};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The bytes of a page of packed lines.
const PAGE_BYTES: usize = 1 << 20;

/// So many refused lines of a batch are kept, unless somebody says otherwise.
pub const KEPT_MAX: u64 = 1_000_000;

/// Lines that were refused, as they came.
#[derive(Debug)]
pub struct Refused {
    pages: Vec<Page>,
    count: u64,
    /// So many are kept; the others are counted.
    kept_max: u64,
    /// Some of them stand in archives.
    members: bool,
}

/// Lines in one piece of memory.
#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    lines: Vec<Packed>,
}

/// A refused line: the archive's file, its reason and what is kept of it stand in the page one behind the other, up to these bytes.
#[derive(Debug)]
struct Packed {
    sequence: u64,
    line: u64,
    start: usize,
    member_end: usize,
    reason_end: usize,
    end: usize,
}

impl Default for Refused {
    fn default() -> Refused {
        Refused::new(KEPT_MAX)
    }
}

impl Refused {
    /// Keeps the first lines, so many.
    pub fn new(kept_max: u64) -> Refused {
        Refused { pages: Vec::new(), count: 0, kept_max, members: false }
    }

    /// How many lines are not kept.
    pub fn not_kept(&self) -> u64 {
        self.count.saturating_sub(self.kept_max)
    }

    /// Keeps a line, or counts it.
    pub fn push(&mut self, rejected: &Rejected) {
        if self.count >= self.kept_max {
            self.count += 1;
            return;
        }
        let member = rejected.member.as_deref().unwrap_or_default().as_bytes();
        let (reason, raw) = (rejected.reason.as_bytes(), rejected.raw.as_slice());
        self.members |= !member.is_empty();
        if self.pages.last().is_none_or(|page| page.bytes.len() + member.len() + reason.len() + raw.len() > PAGE_BYTES) {
            self.pages.push(Page::default());
        }
        let Some(page) = self.pages.last_mut() else { return };
        let start = page.bytes.len();
        page.bytes.extend_from_slice(member);
        let member_end = page.bytes.len();
        page.bytes.extend_from_slice(reason);
        let reason_end = page.bytes.len();
        page.bytes.extend_from_slice(raw);
        let (sequence, line, end) = (rejected.sequence, rejected.line, page.bytes.len());
        page.lines.push(Packed { sequence, line, start, member_end, reason_end, end });
        self.count += 1;
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn lines(&self) -> impl Iterator<Item = Kept<'_>> {
        self.pages.iter().flat_map(|page| {
            page.lines.iter().map(|packed| Kept {
                sequence: packed.sequence,
                line: packed.line,
                member: page.bytes.get(packed.start..packed.member_end).unwrap_or_default(),
                reason: page.bytes.get(packed.member_end..packed.reason_end).unwrap_or_default(),
                raw: page.bytes.get(packed.reason_end..packed.end).unwrap_or_default(),
            })
        })
    }

    /// Why records of these splits were refused: each reason once, in the order of its first line.
    pub fn reasons(&self, splits: &std::ops::Range<u64>, reasons_max: usize) -> Vec<String> {
        let mut first: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
        for kept in self.lines().filter(|kept| splits.contains(&kept.sequence)) {
            let place = (kept.sequence, kept.line);
            first.entry(kept.reason).and_modify(|known| *known = place.min(*known)).or_insert(place);
        }
        let mut reasons: Vec<_> = first.into_iter().map(|(reason, place)| (place, reason)).collect();
        reasons.sort_unstable();
        reasons.into_iter().take(reasons_max).map(|(_, reason)| String::from_utf8_lossy(reason).into_owned()).collect()
    }

    /// The first of them so far: its file, its line where that is known already, and the reason.
    pub fn first(&self, plan: &Plan) -> Option<String> {
        let first = self.lines().min_by_key(|kept| (kept.sequence, kept.line))?;
        let file = file_of(plan, first.sequence)?;
        let known = file.first_split == first.sequence || !first.member.is_empty();
        let line = if known { format!(":{}", first.line + 1) } else { String::new() };
        Some(format!("{}{line}: {}", source(&file.name, first.member), String::from_utf8_lossy(first.reason)))
    }

    /// The rows, when all splits have been read: a reader knows the line in its split, and now it is known in the file.
    pub fn rows(&self, definition: &Definition, plan: &Plan, done: &[Done]) -> Vec<RowBatch> {
        let places = Places::new(definition, plan, done);
        if self.members {
            return retally_core::row::batches(self.lines().filter_map(|kept| places.row(&kept)).collect());
        }
        let mut lines: Vec<(Place, &[u8], &[u8])> = Vec::with_capacity(usize::try_from(self.count.min(self.kept_max)).unwrap_or(0));
        lines.extend(self.lines().filter_map(|kept| Some((places.of(&kept)?, kept.reason, kept.raw))));
        lines.sort_unstable();
        let mut rows = Vec::new();
        let mut batch = RowBatch::default();
        let mut lines = lines.into_iter().peekable();
        while let Some(line) = lines.next() {
            let mut times = 1;
            while lines.next_if_eq(&line).is_some() {
                times += 1;
            }
            let (Place { file, line }, reason, raw) = line;
            let Some((input, name)) = places.names.get(file) else { continue };
            let row = row(input, name, line, reason, raw);
            if batch.is_full_for(row.0.len()) {
                rows.push(std::mem::take(&mut batch));
            }
            batch.push(&row.0, times);
        }
        rows.push(batch);
        rows.retain(|batch| !batch.is_empty());
        rows
    }
}

/// A refused line.
struct Kept<'a> {
    sequence: u64,
    line: u64,
    member: &'a [u8],
    reason: &'a [u8],
    raw: &'a [u8],
}

/// Where a line stands: the file by the order of names, and the line in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: usize,
    line: u64,
}

/// Where the lines of each split stand.
struct Places<'a> {
    /// Inputs and files by name.
    names: Vec<(&'a str, &'a str)>,
    /// For each split its file, and the line of the file that it begins with.
    splits: Vec<Place>,
}

impl<'a> Places<'a> {
    fn new(definition: &'a Definition, plan: &'a Plan, done: &[Done]) -> Places<'a> {
        let mut lines = vec![0u64; plan.splits.len()];
        for done in done {
            usize::try_from(done.sequence).ok().and_then(|place| lines.get_mut(place)).into_iter().for_each(|lines| *lines = done.lines);
        }
        let name = |file: &'a PlannedFile| Some((definition.inputs.get(file.input)?.name, file.name.as_str()));
        let names: Vec<_> = plan.files.iter().filter_map(name).collect::<BTreeSet<_>>().into_iter().collect();
        let mut line = 1;
        let splits = plan.splits.iter().zip(lines).map(|(split, lines)| {
            if split.range.0 == 0 {
                line = 1;
            }
            let file = file_of(plan, split.sequence).and_then(name).and_then(|name| names.binary_search(&name).ok());
            let place = Place { file: file.unwrap_or(usize::MAX), line };
            line += lines;
            place
        });
        let splits = splits.collect();
        Places { names, splits }
    }

    /// The row of a line that may stand in an archive, where lines are counted by file.
    fn row(&self, kept: &Kept) -> Option<(Row, isize)> {
        let place = self.of(kept)?;
        let (input, name) = self.names.get(place.file)?;
        let line = if kept.member.is_empty() { place.line } else { kept.line + 1 };
        Some((row(input, &source(name, kept.member), line, kept.reason, kept.raw), 1))
    }

    fn of(&self, kept: &Kept) -> Option<Place> {
        let start = self.splits.get(usize::try_from(kept.sequence).ok()?)?;
        Some(Place { line: start.line + kept.line, ..*start })
    }
}

fn row(input: &str, source: &str, line: u64, reason: &[u8], raw: &[u8]) -> Row {
    let row = Row::with_capacity(64 + raw.len()).text(input).text(source).uint(line);
    row.text(&String::from_utf8_lossy(reason)).text(&raw_text(raw))
}

/// How a file is named in the table.
fn source<'a>(name: &'a str, member: &[u8]) -> Cow<'a, str> {
    if member.is_empty() { name.into() } else { format!("{name}/{}", String::from_utf8_lossy(member)).into() }
}

/// What is kept of a line, as text; a character that was cut in two is left out.
fn raw_text(raw: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(raw) {
        Err(error) if error.error_len().is_none() && raw.len() == RAW_BYTES_MAX => {
            String::from_utf8_lossy(raw.get(..error.valid_up_to()).unwrap_or(raw))
        }
        _ => String::from_utf8_lossy(raw),
    }
}

/// The file that a split is of.
pub fn file_of(plan: &Plan, sequence: u64) -> Option<&PlannedFile> {
    let behind = plan.files.partition_point(|file| file.first_split <= sequence);
    plan.files.get(behind.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        let cut = [vec![b'a'; RAW_BYTES_MAX - 1], vec![0xc3]].concat();
        assert_eq!(raw_text(&cut), "a".repeat(RAW_BYTES_MAX - 1));
        assert_eq!(raw_text(b"a\xc3"), "a\u{fffd}", "the line itself ends within a character");
        assert_eq!(raw_text(b"\xff\xc3\xa4"), "\u{fffd}ä");
    }
}
