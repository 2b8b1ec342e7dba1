//! An append-only file of changes: `changes:FILE` of a service, a JSON object a line.
//!
//! | line | what it says |
//! |---|---|
//! | `{"dataflow":"online","epoch":7,"table":"online_daily","row":{…},"diff":-1}` | a row that came or went |
//! | `{"reset":true,"dataflow":"online","epoch":7,"table":"online_daily"}` | lines about this table before count no more: its rows follow |
//! | `{"progress":{"online":7},"fingerprint":{"online":"…"}}` | all up to these epochs is whole |
//!
//! Adding up `diff` by table and row, from the last `reset` of a table on, gives the table as of each `progress`. The last `progress` is
//! what was reached, so that the file itself says where to go on: what stands behind it was being written when a process ended, and is cut
//! off. Each file begins with a `reset` of all tables.
//!
//! # Limits
//! One writer, which holds a lock beside the file. A file without a line of ours at its beginning is refused, and never cut.

use super::SinkError;
use super::cells::{append_int, append_uint};
use super::json;
use crate::lock::{Lock, LockError};
use crate::staged::{beside, is_at, parent, why};
use memchr::memmem;
use retally_core::Epoch;
use retally_core::contract::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 16;
/// The file is searched from its end in blocks of so many bytes.
const BLOCK_BYTES: u64 = 1 << 20;
/// A line of progress has less.
const PROGRESS_BYTES_MAX: u64 = 1 << 16;
/// What the first line begins with.
const FIRST: &[u8] = b"{\"reset\":true,\"dataflow\":";
/// What a line of progress begins with, behind the line before it.
const PROGRESS: &[u8] = b"\n{\"progress\":{";

/// What a dataflow has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its epoch.
    pub epoch: Epoch,
    /// What its tables were computed with.
    pub fingerprint: String,
}

/// A line of progress.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    progress: BTreeMap<String, Epoch>,
    fingerprint: BTreeMap<String, String>,
}

/// The file, at its end.
#[derive(Debug)]
pub struct ChangeLog {
    path: PathBuf,
    place: String,
    file: File,
    /// What was written to it, and was there.
    bytes: u64,
    lines: Vec<u8>,
    reached: Progress,
    _lock: Lock,
}

impl ChangeLog {
    /// Opens the file, which need not exist, and cuts off what is not whole.
    pub fn open(path: &Path) -> Result<ChangeLog, SinkError> {
        let place = format!("changes:{}", path.display());
        let refused = |why, hint| SinkError::Database { place: place.clone(), why, hint };
        let failed = |error: io::Error| refused(why(&error), "see that there is space, and that the file may be written");
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(refused("it is a directory".into(), "give the name of a file")),
            Ok(there) if !there.is_file() => return Err(refused("it is no regular file".into(), "give the name of a file")),
            Err(_) if !parent(path).is_dir() => {
                return Err(refused(format!("there is no folder {:?}", parent(path)), "create the folder first"));
            }
            Ok(_) | Err(_) => {}
        }
        let lock = Lock::take(&beside(path, ".lock")).map_err(|error| match error {
            LockError::Held(holder) => SinkError::InUse { place: place.clone(), holder },
            LockError::Io(error) => refused(why(&error), "look at who may write there: a file beside it is needed too"),
        })?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let (bytes, reached) = match last_progress(&mut file, length).map_err(failed)? {
            Some(found) => found,
            None if is_ours(&mut file).map_err(failed)? => (0, Progress::default()),
            None => return Err(refused("it has other lines than changes".into(), "give the name of another file")),
        };
        if bytes < length {
            file.set_len(bytes).map_err(failed)?;
        }
        // Its name is on the disk, too.
        file.sync_all().and_then(|()| File::open(parent(path))?.sync_all()).map_err(failed)?;
        Ok(ChangeLog { path: path.into(), place, file, bytes, lines: Vec::new(), reached, _lock: lock })
    }

    /// What it has of a dataflow; nothing where it has none of it.
    pub fn reached(&self, dataflow: &str) -> Option<Position> {
        let Progress { progress, fingerprint } = &self.reached;
        Some(Position { epoch: *progress.get(dataflow)?, fingerprint: fingerprint.get(dataflow)?.clone() })
    }

    /// Whether the file is still the one of its name, as it was written. It may have been put away, or cut, and another one be there.
    pub fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path) && self.file.metadata().is_ok_and(|there| there.len() == self.bytes)
    }

    /// Writes that a row came or went.
    pub fn change(&mut self, dataflow: &str, epoch: Epoch, table: &Table, row: &[u8], diff: i64) -> Result<(), SinkError> {
        let lines = &mut self.lines;
        append_head(lines, b"{\"dataflow\":", dataflow, epoch, table.name);
        lines.extend_from_slice(b",\"row\":");
        json::append_row(lines, table, row);
        lines.extend_from_slice(b",\"diff\":");
        append_int(lines, diff);
        self.end_line()
    }

    /// Writes that all rows of a table follow.
    pub fn reset(&mut self, dataflow: &str, epoch: Epoch, table: &str) -> Result<(), SinkError> {
        append_head(&mut self.lines, FIRST, dataflow, epoch, table);
        self.end_line()
    }

    /// Writes that a dataflow is whole up to here.
    pub fn progress(&mut self, dataflow: &str, position: &Position) -> Result<(), SinkError> {
        let Progress { progress, fingerprint } = &mut self.reached;
        progress.insert(dataflow.into(), position.epoch);
        fingerprint.insert(dataflow.into(), position.fingerprint.clone());
        let written = serde_json::to_writer(&mut self.lines, &self.reached);
        written.map_err(|error| self.failed(&error.into()))?;
        self.lines.push(b'\n');
        self.pass_on_if_many()
    }

    /// Waits until the disk has what was written.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        self.pass_on().and_then(|()| self.file.sync_data()).map_err(|error| self.failed(&error))
    }

    fn end_line(&mut self) -> Result<(), SinkError> {
        self.lines.extend_from_slice(b"}\n");
        self.pass_on_if_many()
    }

    fn pass_on_if_many(&mut self) -> Result<(), SinkError> {
        if self.lines.len() < BUFFER_BYTES { Ok(()) } else { self.pass_on().map_err(|error| self.failed(&error)) }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.file.write_all(&self.lines)?;
        self.bytes += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> SinkError {
        let hint = "see that there is space, and that the file may be written";
        SinkError::Database { place: self.place.clone(), why: why(error), hint }
    }
}

/// The beginning of a line, up to the name of a table.
fn append_head(lines: &mut Vec<u8>, begin: &[u8], dataflow: &str, epoch: Epoch, table: &str) {
    lines.extend_from_slice(begin);
    json::append_text(lines, dataflow);
    lines.extend_from_slice(b",\"epoch\":");
    append_uint(lines, epoch);
    lines.extend_from_slice(b",\"table\":");
    json::append_text(lines, table);
}

/// The last line of progress that is whole, and where it ends. Within a line there is no end of one, so its mark is found nowhere else.
fn last_progress(file: &mut File, length: u64) -> io::Result<Option<(u64, Progress)>> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        // A line that begins in this block may end in the next one.
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take((end - start + PROGRESS_BYTES_MAX).min(length - start)).read_to_end(&mut block)?;
        let mut until = block.len();
        while let Some(place) = memmem::rfind(block.get(..until).unwrap_or_default(), PROGRESS) {
            let line = block.get(place + 1..).unwrap_or_default();
            if let Some(line) = memchr::memchr(b'\n', line).and_then(|end| line.get(..=end))
                && let Ok(progress) = serde_json::from_slice(line)
            {
                return Ok(Some((start + (place + 1 + line.len()) as u64, progress)));
            }
            until = place;
        }
        end = start;
    }
    Ok(None)
}

/// Whether a file without progress is one of ours, or empty: it may end in the middle of its first line.
fn is_ours(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    Read::by_ref(file).take(FIRST.len() as u64).read_to_end(&mut first)?;
    Ok(FIRST.starts_with(&first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::row::Row;
    use tempfile::TempDir;

    fn position(epoch: Epoch) -> Position {
        Position { epoch, fingerprint: "f00".into() }
    }

    fn write(log: &mut ChangeLog, epochs: std::ops::RangeInclusive<Epoch>) {
        for epoch in epochs {
            let row = Row::default().text("events").text(&format!("a \"{epoch}\"\n{{\"progress\":{{")).uint(3).text("x").text("y");
            log.change("online", epoch, &Table::rejected(), &row.0, 1).unwrap();
            log.progress("online", &position(epoch)).unwrap();
        }
        log.sync().unwrap();
    }

    fn begun(dir: &TempDir) -> (PathBuf, ChangeLog) {
        let path = dir.path().join("changes.jsonl");
        let mut log = ChangeLog::open(&path).unwrap();
        assert_eq!(log.reached("online"), None);
        log.reset("online", 0, "rejected").unwrap();
        write(&mut log, 0..=3);
        (path, log)
    }

    #[test]
    fn the_format() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = begun(&dir);
        log.progress("active", &Position { epoch: 7, fingerprint: "ba5".into() }).unwrap();
        log.sync().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"{"reset":true,"dataflow":"online","epoch":0,"table":"rejected"}"#);
        let row = r#"{"input":"events","source":"a \"0\"\n{\"progress\":{","line":3,"reason":"x","raw":"y"}"#;
        assert_eq!(lines[1], format!(r#"{{"dataflow":"online","epoch":0,"table":"rejected","row":{row},"diff":1}}"#));
        assert_eq!(lines[2], r#"{"progress":{"online":0},"fingerprint":{"online":"f00"}}"#);
        assert_eq!(*lines.last().unwrap(), r#"{"progress":{"active":7,"online":3},"fingerprint":{"active":"ba5","online":"f00"}}"#);
        for line in lines {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    /// Wherever it ends, it goes on behind the last line of progress that is whole.
    #[test]
    fn a_torn_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = begun(&dir);
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = (1..=whole.len()).filter(|end| whole[..*end].ends_with(b"\"f00\"}}\n")).collect();
        assert_eq!(ends.len(), 4);
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut log = ChangeLog::open(&path).unwrap();
            let done = ends.iter().filter(|end| **end <= length).count() as u64;
            assert_eq!(log.reached("online"), done.checked_sub(1).map(position), "{length}");
            assert_eq!(
                std::fs::metadata(&path).unwrap().len(),
                ends.iter().filter(|end| **end <= length).max().map_or(0, |end| *end as u64)
            );
            if done > 0 {
                write(&mut log, done..=3);
                assert!(std::fs::read(&path).unwrap() == whole, "{length}");
            }
        }
    }

    /// A block of the search is not where lines end.
    #[test]
    fn a_long_torn_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = begun(&dir);
        let whole = log.bytes;
        let row = Row::default().text("events").text(&"x".repeat(1_000)).uint(3).text("x").text("y");
        for _ in 0..3_000 {
            log.change("online", 4, &Table::rejected(), &row.0, 1).unwrap();
        }
        log.sync().unwrap();
        assert!(log.bytes > 3 * BLOCK_BYTES);
        drop(log);
        let all = std::fs::read(&path).unwrap();
        for cut in [0, 1, 1_000, 1 << 20, (1 << 20) + 77, (2 << 20) - 40, all.len() - usize::try_from(whole).unwrap() - 1] {
            std::fs::write(&path, &all[..all.len() - cut]).unwrap();
            let log = ChangeLog::open(&path).unwrap();
            assert_eq!((log.reached("online"), log.bytes), (Some(position(3)), whole), "{cut}");
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        for text in ["a line\n", "{\"epoch\":1}\n", "\n"] {
            std::fs::write(&path, text).unwrap();
            let error = ChangeLog::open(&path).unwrap_err().to_string();
            assert!(error.ends_with("it has other lines than changes"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(ChangeLog::open(dir.path()).unwrap_err().to_string().ends_with("it is a directory"));
        assert!(ChangeLog::open(&dir.path().join("no/file")).unwrap_err().to_string().contains("there is no folder"));
        let (path, log) = begun(&dir);
        assert!(matches!(ChangeLog::open(&path), Err(SinkError::InUse { .. })), "one writer");
        assert!(log.is_in_place());
        std::fs::rename(&path, dir.path().join("changes.1")).unwrap();
        assert!(!log.is_in_place());
        std::fs::rename(dir.path().join("changes.1"), &path).unwrap();
        assert!(log.is_in_place());
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(!log.is_in_place(), "it was cut");
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut log) = begun(&dir);
        log.file = File::options().write(true).open("/dev/full").unwrap();
        log.progress("online", &position(4)).unwrap();
        assert!(log.sync().unwrap_err().to_string().ends_with("no space is left on the disk"));
    }
}
