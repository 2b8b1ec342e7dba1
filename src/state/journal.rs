//! The journal: frames that are appended to files, `journal/00000001.log` and so on, and synced.
//!
//! A frame is its mark, the length of its payload, a checksum (xxh3 of length and payload), and the payload. What was appended and not
//! synced when the machine stopped may be there in part: such a torn end is cut off. It is one only where nothing that is whole comes
//! behind it, and in the last file; anything else is damage, which is named and never passed over.
//!
//! In a bucket nothing is appended to a file, so each run of frames is a file of its own ([`super::objects`]). Its first frame says which
//! process wrote it. A torn end is not cut off there: the next process says in its first file that it has left it out.
//!
//! # Limits
//! A frame has at most [`FRAME_BYTES_MAX`] bytes. Damage to the last frame looks like a torn end; whoever knows an epoch that was reached
//! compares it ([`super::State::check_reached`]).

use super::StateError;
use super::frame::{Entry, Frame, Writer};
use super::shelf::{Shelf, numbered};
use super::tail::{JOURNAL, Tail, file_name};
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// What a frame begins with.
const MARK: &[u8; 4] = b"RtF1";
/// The mark, the length and the checksum.
const HEAD_BYTES: usize = 4 + 4 + 8;
/// The largest payload: 256 MiB.
pub const FRAME_BYTES_MAX: u32 = 256 << 20;

/// The journal of a state, at its end.
#[derive(Debug)]
pub struct Journal {
    tail: Box<dyn Tail>,
}

/// What was found in a journal.
#[derive(Debug)]
pub struct Opened {
    /// The journal, to be appended to.
    pub journal: Journal,
    /// The bytes of a torn end, which were cut off.
    pub torn: u64,
}

/// Reads a journal that another process may be appending to: of the files behind the one up to which a snapshot stands for them, those up
/// to another. Adds its frames to those of the snapshot, and returns the bytes of a torn end.
pub fn look(shelf: &dyn Shelf, folded: u64, until: u64, frames: &mut Vec<Frame>) -> Result<u64, StateError> {
    let Found { torn, .. } = find(shelf, folded, until, frames)?;
    Ok(torn.map_or(0, |(bytes, _)| bytes))
}

/// Hands each batch of a journal that another process or thread may be appending to, behind the files that a snapshot stands for, in order.
/// What came of batches is not known of those. Few files are in memory at a time.
pub fn each(shelf: &dyn Shelf, folded: u64, mut each: impl FnMut(&Frame)) -> Result<(), StateError> {
    let names: Vec<String> = numbers(shelf)?.into_iter().filter(|number| *number > folded).map(name).collect();
    shelf.each(&names, &mut |name, bytes| {
        let mut read = Read::default();
        read.file(&shelf.path(name), &bytes)?;
        read.frames.iter().for_each(&mut each);
        Ok(())
    })
}

/// What is in a journal.
#[derive(Debug, Default)]
pub struct Found {
    /// The number of the last file; 0 where there is none.
    pub last: u64,
    /// The bytes of a torn end, and where it begins in the last file.
    pub torn: Option<(u64, u64)>,
    /// The files with which processes began to write, in a bucket.
    pub begun: Vec<u64>,
}

/// Reads a journal: of the files behind the one up to which a snapshot stands for them, those up to another. Adds its frames to those of
/// the snapshot.
pub fn find(shelf: &dyn Shelf, folded: u64, until: u64, frames: &mut Vec<Frame>) -> Result<Found, StateError> {
    let numbers: Vec<u64> = numbers(shelf)?.into_iter().filter(|number| *number > folded && *number <= until).collect();
    if let Some((missing, number)) = (folded + 1..).zip(&numbers).find(|(expected, number)| expected != *number) {
        let why = format!("the file before it, {}, is missing", file_name(missing));
        return Err(StateError::damaged(&shelf.path(&name(*number)), why));
    }
    let mut found = Found { last: numbers.last().copied().unwrap_or(0), ..Found::default() };
    let names: Vec<String> = numbers.into_iter().map(name).collect();
    let (mut read, mut number) = (Read { frames: std::mem::take(frames), writer: None }, folded);
    let mut torn_before: Option<(String, u64)> = None;
    shelf.each(&names, &mut |name, bytes| {
        number += 1;
        let path = shelf.path(name);
        read.writer = None;
        let whole = read.file(&path, &bytes)?;
        let writer = read.writer.as_ref();
        if let Some((torn, whole)) = torn_before.take()
            && writer.is_none_or(|writer| writer.left_out != Some(number - 1))
        {
            let why = format!("it ends within a frame at byte {whole}, and others follow it");
            return Err(StateError::damaged(&shelf.path(&torn), why));
        }
        if writer.is_some_and(|writer| writer.begins.is_some()) {
            found.begun.push(number);
        }
        // An object that is empty was not written in whole.
        let is_torn = whole < bytes.len() || bytes.is_empty() && shelf.is_bucket();
        found.torn = is_torn.then_some(((bytes.len() - whole) as u64, whole as u64));
        torn_before = found.torn.map(|(_, whole)| (name.into(), whole));
        Ok(())
    })?;
    *frames = read.frames;
    Ok(found)
}

impl Journal {
    /// Opens the journal of a state at its end, or begins one. A snapshot stands for the files up to one, which are removed; 0 where there
    /// is none. The frames behind it are added to those that it has.
    pub fn open(shelf: &dyn Shelf, folded: u64, begun: &[u64], frames: &mut Vec<Frame>) -> Result<Opened, StateError> {
        let Found { last, torn, .. } = find(shelf, folded, u64::MAX, frames)?;
        remove(shelf, folded, begun)?;
        let last = if last > 0 { last } else { folded + 1 };
        let tail = shelf.tail(last, torn.map(|(_, whole)| whole), folded)?;
        Ok(Opened { journal: Journal { tail }, torn: torn.map_or(0, |(bytes, _)| bytes) })
    }

    /// Goes on in a new file. Returns the number of the last one, to which nothing is added any more.
    pub fn seal(&mut self) -> Result<u64, StateError> {
        self.tail.seal()
    }

    /// Whether it has so many files that they should be folded.
    pub fn is_long(&self) -> bool {
        self.tail.is_long()
    }

    /// Writes frames one after the other. Where the disk does not take them, it is as it was before, and others may be written later.
    pub fn write(&mut self, entries: &[Entry]) -> Result<(), StateError> {
        let mut bytes = Vec::new();
        let encoded = entries.iter().try_for_each(|entry| encode(entry, &mut bytes));
        encoded.map_err(StateError::io("write", Path::new(JOURNAL)))?;
        self.tail.write(&bytes)
    }

    /// Waits until what was written is there for good; `away` is told why that takes longer than usual. After an error nothing more is
    /// written: what is there is not known, and the next who opens the journal looks.
    pub fn sync(&mut self, away: &mut dyn FnMut(&str)) -> Result<(), StateError> {
        self.tail.sync(away)
    }
}

/// Removes the files up to one, for which a snapshot stands, but those with which processes began to write.
pub fn remove(shelf: &dyn Shelf, folded: u64, begun: &[u64]) -> Result<(), StateError> {
    let is_folded = |number: &u64| *number <= folded && !begun.contains(number);
    let names: Vec<String> = numbers(shelf)?.into_iter().filter(is_folded).map(name).collect();
    shelf.remove(&names)
}

/// The numbers of its files, in order.
pub fn numbers(shelf: &dyn Shelf) -> Result<Vec<u64>, StateError> {
    numbered(shelf, JOURNAL, ".log")
}

/// The name of a file in its state.
pub fn name(number: u64) -> String {
    format!("{JOURNAL}/{}", file_name(number))
}

/// Writes a frame behind others.
pub fn encode(entry: &Entry, bytes: &mut Vec<u8>) -> io::Result<()> {
    let payload = serde_json::to_vec(entry)?;
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("the batch has too many files for one: give fewer at a time"))?.to_le_bytes();
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(length, &payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    Ok(())
}

/// Of the length too, so that no length is taken for another.
fn checksum(length: [u8; 4], payload: &[u8]) -> u64 {
    xxh3_64(payload) ^ xxh3_64(&length)
}

/// The payload at the beginning of some bytes, where a whole frame is.
fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let bytes_all = u32::from_le_bytes(*length);
    let payload = rest.get(..usize::try_from(bytes_all).ok()?)?;
    (bytes_all <= FRAME_BYTES_MAX && checksum(*length, payload) == u64::from_le_bytes(*sum)).then_some(payload)
}

/// Files of a journal as they are read.
#[derive(Default)]
pub struct Read {
    /// The batches.
    frames: Vec<Frame>,
    /// Who wrote a file, where the file names it.
    pub writer: Option<Writer>,
}

impl Read {
    /// Reads the frames of a file up to a torn end, and returns where that begins.
    pub fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<usize, StateError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(payload) = payload(rest) else {
                return match next_frame(rest) {
                    Some(_) => {
                        Err(StateError::damaged(path, format!("the frame at byte {at} is not what was written, and others follow it")))
                    }
                    None => Ok(at),
                };
            };
            let entry = serde_json::from_slice(payload);
            match entry.map_err(|error| StateError::damaged(path, format!("the frame at byte {at} can't be read: {error}")))? {
                Entry::Batch(frame) => self.frames.push(frame),
                Entry::Answered(answered) => {
                    let is_it = |frame: &&mut Frame| frame.epoch == answered.epoch && frame.dataflow == answered.dataflow;
                    if let Some(frame) = self.frames.iter_mut().rev().find(is_it) {
                        frame.answer = Some(answered.answer);
                    }
                }
                Entry::Writer(writer) => self.writer = Some(writer),
            }
            at += HEAD_BYTES + payload.len();
        }
        Ok(at)
    }
}

/// Where the next whole frame begins behind one that is not.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, MARK).filter(|at| *at > 0).find(|at| bytes.get(*at..).and_then(payload).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::frame::Answer;
    use crate::state::shelf::Folder;
    use std::path::PathBuf;

    fn frame(epoch: u64) -> Frame {
        let (dataflow, arrived, answer) = ("online".into(), 7, Some(Answer { accepted: epoch, ..Answer::default() }));
        Frame { dataflow, epoch, arrived, parts: Vec::new(), key: None, answer, positions: Vec::new() }
    }

    fn open(dir: &Path, frames: &mut Vec<Frame>) -> Result<Opened, StateError> {
        std::fs::create_dir_all(dir.join(JOURNAL)).unwrap();
        Journal::open(&Folder::new(dir), 0, &[], frames)
    }

    fn file(dir: &Path, number: u64) -> PathBuf {
        dir.join(name(number))
    }

    fn append(journal: &mut Journal, frame: Frame) {
        journal.write(&[Entry::Batch(frame)]).unwrap();
        journal.sync(&mut |_| {}).unwrap();
    }

    fn epochs(dir: &Path) -> Result<(Vec<u64>, u64), String> {
        let mut frames = Vec::new();
        let opened = open(dir, &mut frames).map_err(|error| error.to_string())?;
        Ok((frames.iter().map(|frame| frame.epoch).collect(), opened.torn))
    }

    fn written(dir: &Path, until: u64) -> PathBuf {
        let mut journal = open(dir, &mut Vec::new()).unwrap().journal;
        (1..=until).for_each(|epoch| append(&mut journal, frame(epoch)));
        file(dir, 1)
    }

    /// A file of three frames, its bytes, and where the third begins.
    fn three(dir: &Path) -> (PathBuf, Vec<u8>, usize) {
        let path = written(dir, 3);
        let whole = std::fs::read(&path).unwrap();
        let mut last = Vec::new();
        encode(&Entry::Batch(frame(3)), &mut last).unwrap();
        let third = whole.len() - last.len();
        (path, whole, third)
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(epochs(dir.path()), Ok((vec![], 0)));
        written(dir.path(), 2);
        let mut frames = Vec::new();
        let mut opened = open(dir.path(), &mut frames).unwrap();
        assert_eq!(frames, [frame(1), frame(2)]);
        append(&mut opened.journal, frame(3));
        assert_eq!(epochs(dir.path()), Ok((vec![1, 2, 3], 0)));
    }

    #[test]
    fn wherever_the_last_frame_was_cut_off_it_is_gone_and_the_others_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole, third) = three(dir.path());
        for cut in third..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(epochs(dir.path()), Ok((vec![1, 2], (cut - third) as u64)), "{cut}");
            assert_eq!(std::fs::read(&path).unwrap().len(), third, "the torn end is cut off");
            // The file may have grown before what is in it was written.
            let mut zeros = whole[..cut].to_vec();
            zeros.resize(whole.len(), 0);
            std::fs::write(&path, &zeros).unwrap();
            assert_eq!(epochs(dir.path()).unwrap().0, [1, 2], "{cut}");
        }
    }

    #[test]
    fn any_flipped_bit_before_the_last_frame_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole, third) = three(dir.path());
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << (place % 8);
            std::fs::write(&path, &flipped).unwrap();
            match epochs(dir.path()) {
                Err(error) => assert!(error.contains("is damaged: the frame at byte ") && place < third, "{place}: {error}"),
                Ok(found) => assert!(place >= third && found.0 == [1, 2], "{place}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 1);
        std::fs::write(file(dir.path(), 2), "").unwrap();
        std::fs::remove_file(file(dir.path(), 1)).unwrap();
        let error = epochs(dir.path()).unwrap_err();
        assert!(error.ends_with("is damaged: the file before it, 00000001.log, is missing"), "{error}");
    }

    #[test]
    fn a_torn_end_with_others_behind_it_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 2);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        std::fs::write(file(dir.path(), 2), "").unwrap();
        let error = epochs(dir.path()).unwrap_err();
        assert!(error.contains("it ends within a frame"), "{error}");
    }
}
