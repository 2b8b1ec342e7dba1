//! The refused records of a batch, as rows of the table `rejected`.
//!
//! Of a large file that is no input at all, every line is refused: lines are packed as they come, so that keeping them
//! costs some tens of bytes beside their own, and no more than [`REJECTED_BYTES_MAX`] of them are kept.
//!
//! The first lines are kept, by the order of splits and of lines in them: which ones does not depend on who came first.

use super::plan::{Origin, Plan, PlannedFile};
use retally_core::Epoch;
use retally_core::contract::{Definition, Table};
use retally_core::reasons::Reasons;
use retally_core::row::{Column, ColumnType, Row, RowBatch, batches};
use retally_core::split::{Dataset, Done, Location, RAW_BYTES_MAX, REJECTED_BYTES_MAX, Rejected};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// The bytes of a page of packed lines.
const PAGE_BYTES: usize = 1 << 20;

/// So many refused lines of a batch are kept by default.
pub const KEPT_MAX: u64 = 1_000_000;

/// Lines that were refused, as they came.
#[derive(Debug)]
pub struct Refused {
    /// Those that are kept, by split.
    splits: BTreeMap<u64, Pages>,
    kept: u64,
    bytes: u64,
    bytes_max: u64,
    /// Of this split and of later ones nothing more is kept: a line of it was too much.
    full_from: u64,
    /// How many lines are kept of each batch; the others are counted.
    limits: Vec<Limit>,
    /// All of them.
    count: u64,
    reasons: Reasons,
    /// Some of them stand in archives.
    members: bool,
}

/// How many lines of a batch are kept.
#[derive(Debug)]
struct Limit {
    /// Its splits are those from this number on, up to those of the next limit.
    first_split: u64,
    kept_max: u64,
    kept: u64,
    /// Of this split and of later ones of the batch nothing more is kept.
    full_from: u64,
}

/// How many refused lines are kept of each batch of a plan, by its first split: as many as its parts say, or else `kept_max`.
pub fn limits(plan: &Plan, kept_max: u64) -> Vec<(u64, u64)> {
    let mut limits: Vec<(u64, u64)> = Vec::new();
    let mut last = None;
    for part in &plan.parts {
        if last.replace(part.origin.batch) != Some(part.origin.batch) {
            limits.push((part.first_split, part.rejected_kept.unwrap_or(kept_max)));
        }
    }
    if limits.is_empty() { vec![(0, kept_max)] } else { limits }
}

/// Lines of one split, in their order.
type Pages = Vec<Page>;

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
    nth: u64,
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
        Refused::within(&[(0, kept_max)])
    }

    /// Keeps the first lines of each batch: so many, from this split on. Those of the batches are in order.
    pub fn within(limits: &[(u64, u64)]) -> Refused {
        let limit =
            |(first_split, kept_max): &(u64, u64)| Limit { first_split: *first_split, kept_max: *kept_max, kept: 0, full_from: u64::MAX };
        Refused {
            splits: BTreeMap::new(),
            kept: 0,
            bytes: 0,
            bytes_max: REJECTED_BYTES_MAX,
            full_from: u64::MAX,
            limits: limits.iter().map(limit).collect(),
            count: 0,
            reasons: Reasons::default(),
            members: false,
        }
    }

    /// How many lines are kept.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// How many lines are not kept.
    pub fn not_kept(&self) -> u64 {
        self.count - self.kept
    }

    /// Counts lines that come after those of their splits that are kept.
    pub fn add_count(&mut self, lines: u64) {
        self.count += lines;
    }

    /// Counts the reasons of such lines.
    pub fn add_reasons(&mut self, reasons: Reasons) {
        self.reasons.join(reasons);
    }

    /// Why lines were refused, by kind.
    pub fn reasons_counted(&self) -> &Reasons {
        &self.reasons
    }

    /// Counts a line, and keeps it where it is among the first. Lines of a split come in their order, and splits in any.
    pub fn push(&mut self, rejected: &Rejected) {
        self.count += 1;
        self.reasons.add(&rejected.reason);
        let next = self.limits.partition_point(|limit| limit.first_split <= rejected.sequence);
        let before = self.limits.get(next).map_or(u64::MAX, |limit| limit.first_split);
        let Some(limit) = next.checked_sub(1).and_then(|place| self.limits.get_mut(place)) else { return };
        if rejected.sequence >= self.full_from.min(limit.full_from) {
            return;
        }
        limit.kept += 1;
        let is_too_many = limit.kept > limit.kept_max;
        self.keep(rejected);
        if is_too_many && let Some(last) = self.drop_last(before) {
            self.limit_of(last).into_iter().for_each(|limit| limit.full_from = last);
        }
        while self.bytes > self.bytes_max
            && let Some(last) = self.drop_last(u64::MAX)
        {
            self.full_from = last;
        }
    }

    /// The limit of the batch of a split.
    fn limit_of(&mut self, sequence: u64) -> Option<&mut Limit> {
        let next = self.limits.partition_point(|limit| limit.first_split <= sequence);
        self.limits.get_mut(next.checked_sub(1)?)
    }

    /// Drops the last line of the last split before this one. Returns the split.
    fn drop_last(&mut self, before: u64) -> Option<u64> {
        let (sequence, pages) = self.splits.range_mut(..before).next_back()?;
        let sequence = *sequence;
        let mut dropped = 0;
        if let Some(page) = pages.last_mut()
            && let Some(line) = page.lines.pop()
        {
            page.bytes.truncate(line.start);
            self.kept -= 1;
            self.bytes -= (line.end - line.start) as u64;
            dropped = 1;
        }
        if pages.last().is_some_and(|page| page.lines.is_empty()) {
            pages.pop();
        }
        if pages.is_empty() {
            self.splits.remove(&sequence);
        }
        self.limit_of(sequence).into_iter().for_each(|limit| limit.kept -= dropped);
        Some(sequence)
    }

    fn keep(&mut self, rejected: &Rejected) {
        let pages = self.splits.entry(rejected.sequence).or_default();
        let member = rejected.member.as_deref().unwrap_or_default().as_bytes();
        let (reason, raw) = (rejected.reason.as_bytes(), rejected.raw.as_slice());
        self.members |= !member.is_empty();
        if pages.last().is_none_or(|page| page.bytes.len() + member.len() + reason.len() + raw.len() > PAGE_BYTES) {
            pages.push(Page::default());
        }
        let Some(page) = pages.last_mut() else { return };
        let start = page.bytes.len();
        page.bytes.extend_from_slice(member);
        let member_end = page.bytes.len();
        page.bytes.extend_from_slice(reason);
        let reason_end = page.bytes.len();
        page.bytes.extend_from_slice(raw);
        let (sequence, line, nth, end) = (rejected.sequence, rejected.line, rejected.nth, page.bytes.len());
        page.lines.push(Packed { sequence, line, nth, start, member_end, reason_end, end });
        self.kept += 1;
        self.bytes += rejected.bytes();
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
        self.splits.values().flatten().flat_map(|page| {
            page.lines.iter().map(|packed| Kept {
                sequence: packed.sequence,
                line: packed.line,
                nth: packed.nth,
                member: page.bytes.get(packed.start..packed.member_end).unwrap_or_default(),
                reason: page.bytes.get(packed.member_end..packed.reason_end).unwrap_or_default(),
                raw: page.bytes.get(packed.reason_end..packed.end).unwrap_or_default(),
            })
        })
    }

    /// Why records of these splits were refused, of an archive those of one file: each reason once, in the order of its first line.
    pub fn reasons(&self, splits: &std::ops::Range<u64>, member: Option<&str>, reasons_max: usize) -> Vec<String> {
        let mut first: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
        let is_meant = |kept_member: &[u8]| member.is_none_or(|member| kept_member == member.as_bytes());
        for kept in self.lines().filter(|kept| splits.contains(&kept.sequence) && is_meant(kept.member)) {
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
        Some(format!(
            "{}{line}: {}",
            source(&file.name, first.member, dataset_of(plan, first.sequence)),
            String::from_utf8_lossy(first.reason)
        ))
    }

    /// The rows, when all splits have been read: a reader knows the line in its split, and now it is known in the file. Those that are
    /// `undone` leave. With a `batch` they are those of [`retally_core::contract::Table::rejected_by_batch`], of this batch where no other
    /// is known.
    pub fn rows(&self, undone: &Refused, definition: &Definition, plan: &Plan, done: &[Done], batch: Option<Epoch>) -> Vec<RowBatch> {
        let positions = LinePositions::new(definition, plan, done);
        let are_messages = plan.files.iter().any(|file| file.messages.is_some());
        if self.members || undone.kept > 0 || batch.is_some() || are_messages {
            let rows = |refused: &Refused, diff: isize| {
                refused.lines().filter_map(|kept| Some((positions.row(&kept, batch)?, diff))).collect::<Vec<(Row, isize)>>()
            };
            return batches([rows(self, 1), rows(undone, -1)].concat());
        }
        let mut lines: Vec<(LinePosition, &[u8], &[u8])> = Vec::with_capacity(usize::try_from(self.kept).unwrap_or(0));
        lines.extend(self.lines().filter_map(|kept| Some((positions.of(&kept)?, kept.reason, kept.raw))));
        lines.sort_unstable();
        let mut rows = Vec::new();
        let mut batch = RowBatch::default();
        let mut lines = lines.into_iter().peekable();
        while let Some(line) = lines.next() {
            let mut times = 1;
            while lines.next_if_eq(&line).is_some() {
                times += 1;
            }
            let (LinePosition { file, line }, reason, raw) = line;
            let Some((input, name)) = positions.names.get(file) else { continue };
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

/// Which refused record: the part that it came with, its line, and the file of an archive that it stands in, or nothing.
///
/// As a text it is `BATCH.PART.LINE`, for others of the same line `BATCH.PART.LINE.2` and so on, and `:FILE` behind that for one of an
/// archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The part.
    pub origin: Origin,
    /// The line, from 1.
    pub line: u64,
    /// Its number in the line, from 0.
    pub nth: u64,
    /// The file of an archive.
    pub member: String,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordId { origin: Origin { batch, part }, line, nth, member } = self;
        write!(f, "{batch}.{part}.{line}")?;
        if *nth > 0 {
            write!(f, ".{}", nth + 1)?;
        }
        if member.is_empty() { Ok(()) } else { write!(f, ":{member}") }
    }
}

impl FromStr for RecordId {
    type Err = String;

    fn from_str(text: &str) -> Result<RecordId, String> {
        let read = || {
            let (numbers, member) = text.split_once(':').unwrap_or((text, ""));
            let mut numbers = numbers.split('.').map(|number| number.parse::<u64>().ok().filter(|number| *number > 0));
            let (batch, part, line) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let nth = numbers.next().unwrap_or(Some(1))? - 1;
            numbers.next().is_none().then(|| RecordId { origin: Origin { batch, part }, line, nth, member: member.into() })
        };
        read().ok_or_else(|| format!("{text:?} is no id of a record: BATCH.PART.LINE"))
    }
}

/// Rows of the table `rejected` without their batches and ids.
pub fn without_batches(rows: &[RowBatch]) -> Vec<RowBatch> {
    let columns = Table::rejected().columns;
    let mut plain: Vec<(Row, isize)> = Vec::new();
    for (row, diff) in rows.iter().flat_map(RowBatch::iter) {
        plain.push((Row(row.get(..width(&columns, row)).unwrap_or(row).to_vec()), isize::try_from(diff).unwrap_or(isize::MAX)));
    }
    batches(plain)
}

/// The bytes of a row that these columns take up, of which none is nullable.
fn width(columns: &[Column], row: &[u8]) -> usize {
    columns.iter().fold(0, |start, column| match column.kind {
        ColumnType::UInt => start + 8,
        _ => {
            // A text ends with two zero bytes; one within it is followed by another byte.
            let rest = row.get(start..).unwrap_or_default();
            start + memchr::memmem::find(rest, &[0, 0]).map_or(rest.len(), |end| end + 2)
        }
    })
}

/// The rows that are there, of those that came and of those that left: none is there less than never.
pub fn there(rows: Vec<RowBatch>) -> Vec<RowBatch> {
    if rows.iter().flat_map(RowBatch::iter).all(|(_, diff)| diff > 0) {
        return rows;
    }
    let there = rows.iter().flat_map(RowBatch::iter).filter(|(_, diff)| *diff > 0);
    batches(there.map(|(row, diff)| (Row(row.to_vec()), isize::try_from(diff).unwrap_or(isize::MAX))).collect())
}

/// A refused line.
struct Kept<'a> {
    sequence: u64,
    line: u64,
    nth: u64,
    member: &'a [u8],
    reason: &'a [u8],
    raw: &'a [u8],
}

/// Where a line stands: the file by the order of names, and the line in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LinePosition {
    file: usize,
    line: u64,
}

/// Where the lines of each split stand.
struct LinePositions<'a> {
    /// Inputs and files by name.
    names: Vec<(&'a str, &'a str)>,
    /// For each split its file, and the line of the file that it begins with.
    splits: Vec<LinePosition>,
    plan: &'a Plan,
}

impl<'a> LinePositions<'a> {
    fn new(definition: &'a Definition, plan: &'a Plan, done: &[Done]) -> LinePositions<'a> {
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
            let position = LinePosition { file: file.unwrap_or(usize::MAX), line };
            line += lines;
            position
        });
        let splits = splits.collect();
        LinePositions { names, splits, plan }
    }

    /// The row of a line that may stand in an archive, where lines are counted by file; with its batch and id, where it came with one.
    fn row(&self, kept: &Kept, batch: Option<Epoch>) -> Option<Row> {
        let position = self.of(kept)?;
        let (input, name) = self.names.get(position.file)?;
        let line = if kept.member.is_empty() { position.line } else { kept.line + 1 };
        let message = || file_of(self.plan, kept.sequence)?.messages.as_ref()?.message_at(line);
        let row = match message() {
            Some((message, line)) => row(input, &message, line, kept.reason, kept.raw),
            None => row(input, &source(name, kept.member, dataset_of(self.plan, kept.sequence)), line, kept.reason, kept.raw),
        };
        let Some(batch) = batch else { return Some(row) };
        let Origin { batch: known, part } = self.plan.part_of(kept.sequence)?.origin;
        let batch = if known > 0 { known } else { batch };
        let id =
            RecordId { origin: Origin { batch, part }, line, nth: kept.nth, member: String::from_utf8_lossy(kept.member).into_owned() };
        Some(row.optional(Some(batch), Row::uint).optional(Some(id.to_string()), |row, id| row.text(&id)))
    }

    fn of(&self, kept: &Kept) -> Option<LinePosition> {
        let start = self.splits.get(usize::try_from(kept.sequence).ok()?)?;
        Some(LinePosition { line: start.line + kept.line, ..*start })
    }
}

fn row(input: &str, source: &str, line: u64, reason: &[u8], raw: &[u8]) -> Row {
    let row = Row::with_capacity(64 + raw.len()).text(input).text(source).uint(line);
    row.text(&String::from_utf8_lossy(reason)).text(&raw_text(raw))
}

/// How a file is named in the table: by the path that was given, and what lies below it.
fn source<'a>(name: &'a str, member: &[u8], dataset: Option<&Dataset>) -> Cow<'a, str> {
    if member.is_empty() {
        return name.into();
    }
    let member = String::from_utf8_lossy(member);
    let found = dataset.and_then(|dataset| found_below(name, &member, dataset));
    found.unwrap_or_else(|| format!("{name}/{member}")).into()
}

/// Where a dataset's folder or file was found below the path that was given. As a member it is called by the key of the dataset, whose
/// names may be among those of the path. `None` where its files lie elsewhere, as those of jobs do.
fn found_below(name: &str, member: &str, dataset: &Dataset) -> Option<String> {
    let file = member.strip_prefix(&dataset.key.join("/"))?.trim_start_matches('/');
    let files = if dataset.names.is_empty() { &dataset.streams } else { &dataset.names };
    let mut places = files.iter().filter_map(|place| {
        let below = place.strip_prefix(name.trim_end_matches('/'))?;
        below.starts_with('/').then(|| place.rsplit_once('/'))?
    });
    // What a file is called is as declared, in any case, with the ending of what packed it.
    let (folder, found) = places.find(|(_, found)| found.to_ascii_lowercase().starts_with(file))?;
    Some(if file.is_empty() { folder.into() } else { format!("{folder}/{found}") })
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

/// The dataset that a split is.
fn dataset_of(plan: &Plan, sequence: u64) -> Option<&Dataset> {
    match &plan.splits.get(usize::try_from(sequence).ok()?)?.location {
        Location::Dataset(dataset) => Some(dataset),
        Location::File(_) | Location::Stream { .. } | Location::Inline(_) | Location::Refused(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sequence: u64, line: u64, raw: usize) -> Rejected {
        Rejected { sequence, member: None, line, nth: 0, reason: format!("id \"{line}\" is none"), raw: vec![b'x'; raw] }
    }

    /// However the lines of several splits come: the first are kept, by their number and by their bytes.
    #[test]
    fn which_lines_are_kept_does_not_depend_on_who_comes_first() {
        let lines: Vec<Vec<Rejected>> =
            (0..4).map(|split| (0..50).map(|line| refused(split, line, usize::try_from(line % 7).unwrap() * 100)).collect()).collect();
        let all: Vec<&Rejected> = lines.iter().flatten().collect();
        for (kept_max, bytes_max) in [(0, 1 << 20), (70, 1 << 20), (1_000, 30_000), (1_000, 0), (1_000, 1 << 20), (120, 31_234)] {
            let mut bytes = 0;
            let fits = |(place, line): &(usize, &&Rejected)| {
                bytes += line.bytes();
                (*place as u64) < kept_max && bytes <= bytes_max
            };
            let expected: Vec<(u64, u64)> = all.iter().enumerate().take_while(fits).map(|(_, line)| (line.sequence, line.line)).collect();
            for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
                for together in [1, 7, 50] {
                    let mut refused = Refused { bytes_max, ..Refused::new(kept_max) };
                    // So many lines of each split in turn.
                    for turn in 0..50usize.div_ceil(together) {
                        for split in order {
                            lines[split].iter().skip(turn * together).take(together).for_each(|line| refused.push(line));
                        }
                    }
                    let kept: Vec<(u64, u64)> = refused.lines().map(|kept| (kept.sequence, kept.line)).collect();
                    assert_eq!(kept, expected, "{kept_max} lines and {bytes_max} bytes, {order:?} by {together}");
                    assert_eq!((refused.kept(), refused.not_kept()), (kept.len() as u64, 200 - kept.len() as u64));
                    assert_eq!(refused.reasons_counted().most_frequent(9), [("id \"…\" is none".to_string(), 200)]);
                }
            }
        }
    }

    /// Batches that are applied as one, in whatever order their lines come.
    #[test]
    fn of_each_batch_its_own_number_of_lines_is_kept() {
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
            // Of splits 0 and 1 three lines, of split 2 none, of the others all.
            let mut kept = Refused::within(&[(0, 3), (2, 0), (3, 1_000)]);
            for split in order {
                (0..2).for_each(|line| kept.push(&refused(split, line, 10)));
            }
            let lines: Vec<(u64, u64)> = kept.lines().map(|kept| (kept.sequence, kept.line)).collect();
            assert_eq!(lines, [(0, 0), (0, 1), (1, 0), (3, 0), (3, 1), (4, 0), (4, 1)], "{order:?}");
            assert_eq!((kept.kept(), kept.not_kept()), (7, 3));
        }
    }

    #[test]
    fn what_is_refused_of_a_dataset_is_named_by_where_it_was_found() {
        let dataset = |streams: [&str; 2]| Dataset::new(vec!["t".into(), "d".into()], streams.map(String::from).to_vec());
        let named = |name: &str, streams: [&str; 2], member: &str| source(name, member.as_bytes(), Some(&dataset(streams))).into_owned();
        let found = ["in/x/t/d/a.csv.gz", "in/x/t/d/B.jsonlines"];
        for name in ["in", "in/", "in/x", "in/x/t", "in/x/t/d"] {
            assert_eq!(named(name, found, "t/d/a.csv"), "in/x/t/d/a.csv.gz", "{name}");
            assert_eq!(named(name, found, "t/d/b.jsonlines"), "in/x/t/d/B.jsonlines", "{name}");
            assert_eq!(named(name, found, "t/d"), "in/x/t/d", "{name}");
        }
        assert_eq!(named("s3://b/p/t", ["s3://b/p/t/d/a.csv", "s3://b/p/t/d/b.jsonlines"], "t/d/a.csv"), "s3://b/p/t/d/a.csv");
        assert_eq!(named("t", ["t/t/d/a.csv", "t/t/d/b.jsonlines"], "t/d/a.csv"), "t/t/d/a.csv", "a folder called like a toothbrush");
        assert_eq!(named("jobs/jobs.jsonl", ["jobs/a.csv", "jobs/b.jsonlines"], "t/d/a.csv"), "jobs/jobs.jsonl/t/d/a.csv");
        // A copy that a state has is called what it was.
        let kept = Dataset { names: dataset(found).streams, ..dataset(["state/1.blob", "state/2.blob"]) };
        assert_eq!(source("in/x/t", b"t/d/a.csv", Some(&kept)), "in/x/t/d/a.csv.gz");
        assert_eq!(source("in/a.zip", b"t/d/a.csv", None), "in/a.zip/t/d/a.csv");
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let cut = [vec![b'a'; RAW_BYTES_MAX - 1], vec![0xc3]].concat();
        assert_eq!(raw_text(&cut), "a".repeat(RAW_BYTES_MAX - 1));
        assert_eq!(raw_text(b"a\xc3"), "a\u{fffd}", "the line itself ends within a character");
        assert_eq!(raw_text(b"\xff\xc3\xa4"), "\u{fffd}ä");
    }
}
