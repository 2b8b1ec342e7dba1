//! The journal: frames that are appended to files, `journal/00000001.log` and so on, and synced.
//!
//! A frame is its mark, the length of its payload, a checksum (xxh3 of length and payload), and the payload. What was appended and not
//! synced when the machine stopped may be there in part: such a torn end is cut off. It is one only where nothing that is whole comes
//! behind it, and in the last file; anything else is damage, which is named and never passed over.
//!
//! # Limits
//! A frame has at most [`FRAME_BYTES_MAX`] bytes. Damage to the last frame looks like a torn end; whoever knows an epoch that was reached
//! compares it ([`super::State::check_reached`]).

use super::StateError;
use super::frame::{Entry, Frame};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// What a frame begins with.
const MARK: &[u8; 4] = b"RtF1";
/// The mark, the length and the checksum.
const HEAD_BYTES: usize = 4 + 4 + 8;
/// The largest payload: 256 MiB.
pub const FRAME_BYTES_MAX: u32 = 256 << 20;
/// A file of so many bytes gets no further frames.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The journal of a state, at its end.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// The number of the last file.
    segment: u64,
    file: File,
    bytes: u64,
    /// A write or a sync failed: what is on the disk is not known any more.
    failed: bool,
}

/// What was found in a journal.
#[derive(Debug)]
pub struct Opened {
    /// The journal, to be appended to.
    pub journal: Journal,
    /// The bytes of a torn end, which were cut off.
    pub torn: u64,
}

/// Reads a journal that another process may be appending to: of the files behind the one up to which a snapshot stands for them, those up to
/// another. Adds its frames to those of the snapshot, and returns the bytes of a torn end.
pub fn look(dir: &Path, folded: u64, until: u64, frames: &mut Vec<Frame>) -> Result<u64, StateError> {
    let Found { torn, .. } = find(dir, folded, until, frames)?;
    Ok(torn.map_or(0, |(bytes, _)| bytes))
}

/// Hands each batch of a journal that another process or thread may be appending to, behind the files that a snapshot stands for, in order.
/// What came of batches is not known of those. A file at a time is in memory.
pub fn each(dir: &Path, folded: u64, mut each: impl FnMut(&Frame)) -> Result<(), StateError> {
    for number in segments(dir)?.into_iter().filter(|number| *number > folded) {
        let path = path(dir, number);
        let bytes = std::fs::read(&path).map_err(StateError::io("read", &path))?;
        let mut frames = Vec::new();
        read(&path, &bytes, &mut frames)?;
        frames.iter().for_each(&mut each);
    }
    Ok(())
}

/// What is in a journal.
struct Found {
    segments: Vec<u64>,
    /// The bytes of a torn end, and where it begins in the last file.
    torn: Option<(u64, u64)>,
}

fn find(dir: &Path, folded: u64, until: u64, frames: &mut Vec<Frame>) -> Result<Found, StateError> {
    let segments: Vec<u64> = segments(dir)?.into_iter().filter(|number| *number > folded && *number <= until).collect();
    let mut torn = None;
    for (place, number) in segments.iter().enumerate() {
        let path = path(dir, *number);
        let expected = folded + place as u64 + 1;
        if *number != expected {
            return Err(StateError::damaged(&path, format!("the file before it, {expected:08}.log, is missing")));
        }
        let bytes = std::fs::read(&path).map_err(StateError::io("read", &path))?;
        let whole = read(&path, &bytes, frames)?;
        if whole < bytes.len() {
            if place + 1 < segments.len() {
                return Err(StateError::damaged(&path, format!("it ends within a frame at byte {whole}, and others follow it")));
            }
            torn = Some(((bytes.len() - whole) as u64, whole as u64));
        }
    }
    Ok(Found { segments, torn })
}

impl Journal {
    /// Opens the journal in a folder, or begins one. A snapshot stands for the files up to one, which are removed; 0 where there is none. The
    /// frames behind it are added to those that it has.
    pub fn open(dir: &Path, folded: u64, frames: &mut Vec<Frame>) -> Result<Opened, StateError> {
        std::fs::create_dir_all(dir).map_err(StateError::io("create", dir))?;
        let Found { segments, torn } = find(dir, folded, u64::MAX, frames)?;
        remove(dir, folded)?;
        let segment = segments.last().copied().unwrap_or(folded + 1);
        if let Some((_, whole)) = torn {
            let path = path(dir, segment);
            let file = OpenOptions::new().write(true).open(&path).map_err(StateError::io("open", &path))?;
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(StateError::io("cut", &path))?;
        }
        let torn = torn.map_or(0, |(bytes, _)| bytes);
        let (file, bytes) = begin(dir, segment)?;
        Ok(Opened { journal: Journal { dir: dir.into(), segment, file, bytes, failed: false }, torn })
    }

    /// Goes on in a new file. Returns the number of the last one, to which nothing is added any more.
    pub fn seal(&mut self) -> Result<u64, StateError> {
        let sealed = self.segment;
        (self.file, self.bytes) = begin(&self.dir, sealed + 1)?;
        self.segment = sealed + 1;
        Ok(sealed)
    }

    /// Writes frames one after the other. Where the disk does not take them, it is as it was before, and others may be written later.
    pub fn write(&mut self, entries: &[Entry]) -> Result<(), StateError> {
        let path = path(&self.dir, self.segment);
        if self.failed {
            return Err(StateError::Unsynced { path, cause: io::Error::other("a write before it failed") });
        }
        let mut bytes = Vec::new();
        entries.iter().try_for_each(|entry| encode(entry, &mut bytes)).map_err(StateError::io("write", &path))?;
        if let Err(cause) = self.file.write_all(&bytes) {
            let cut = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
            self.failed = cut.is_err();
            return Err(match cut {
                Ok(_) => StateError::Io { what: "write", path, cause },
                Err(_) => StateError::Unsynced { path, cause },
            });
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits until the disk has what was written. After an error nothing more is written: what the disk has is not known, and the next who
    /// opens the journal looks.
    pub fn sync(&mut self) -> Result<(), StateError> {
        let failed = |cause| StateError::Unsynced { path: path(&self.dir, self.segment), cause };
        if self.failed {
            return Err(failed(io::Error::other("a write before it failed")));
        }
        if let Err(cause) = self.file.sync_data() {
            self.failed = true;
            return Err(failed(cause));
        }
        if self.bytes >= SEGMENT_BYTES {
            self.seal()?;
        }
        Ok(())
    }
}

/// Removes the files up to one, for which a snapshot stands.
pub fn remove(dir: &Path, folded: u64) -> Result<(), StateError> {
    for number in segments(dir)?.into_iter().filter(|number| *number <= folded) {
        let path = path(dir, number);
        std::fs::remove_file(&path).map_err(StateError::io("remove", &path))?;
    }
    Ok(())
}

/// Opens a file of the journal at its end; it and its name are on the disk.
fn begin(dir: &Path, segment: u64) -> Result<(File, u64), StateError> {
    let path = path(dir, segment);
    let begin = || {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let bytes = file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok((file, bytes))
    };
    begin().map_err(StateError::io("open", &path))
}

fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:08}.log"))
}

/// The numbers of the files, in order.
fn segments(dir: &Path) -> Result<Vec<u64>, StateError> {
    numbered(dir, ".log")
}

/// The numbers of the files in a folder whose names are a number and this ending, in order.
pub fn numbered(dir: &Path, ending: &str) -> Result<Vec<u64>, StateError> {
    let names = std::fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
    let number = |name: std::ffi::OsString| name.to_str()?.strip_suffix(ending)?.parse().ok();
    let mut numbers: Vec<u64> = names.map_err(StateError::io("list", dir))?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn encode(entry: &Entry, bytes: &mut Vec<u8>) -> io::Result<()> {
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

/// Reads frames up to a torn end, and returns where that begins.
fn read(path: &Path, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<usize, StateError> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(payload) = payload(rest) else {
            return match next_frame(rest) {
                Some(_) => Err(StateError::damaged(path, format!("the frame at byte {at} is not what was written, and others follow it"))),
                None => Ok(at),
            };
        };
        let entry = serde_json::from_slice(payload);
        match entry.map_err(|error| StateError::damaged(path, format!("the frame at byte {at} can't be read: {error}")))? {
            Entry::Batch(frame) => frames.push(frame),
            Entry::Answered(answered) => {
                let is_it = |frame: &&mut Frame| frame.epoch == answered.epoch && frame.dataflow == answered.dataflow;
                if let Some(frame) = frames.iter_mut().rev().find(is_it) {
                    frame.answer = Some(answered.answer);
                }
            }
        }
        at += HEAD_BYTES + payload.len();
    }
    Ok(at)
}

/// Where the next whole frame begins behind one that is not.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, MARK).filter(|at| *at > 0).find(|at| bytes.get(*at..).and_then(payload).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::frame::Answer;

    fn frame(epoch: u64) -> Frame {
        let (dataflow, arrived, answer) = ("online".into(), 7, Some(Answer { accepted: epoch, ..Answer::default() }));
        Frame { dataflow, epoch, arrived, parts: Vec::new(), key: None, answer, positions: Vec::new() }
    }

    fn append(journal: &mut Journal, frame: Frame) {
        journal.write(&[Entry::Batch(frame)]).unwrap();
        journal.sync().unwrap();
    }

    fn epochs(dir: &Path) -> Result<(Vec<u64>, u64), String> {
        let mut frames = Vec::new();
        let opened = Journal::open(dir, 0, &mut frames).map_err(|error| error.to_string())?;
        Ok((frames.iter().map(|frame| frame.epoch).collect(), opened.torn))
    }

    fn written(dir: &Path, until: u64) -> PathBuf {
        let mut journal = Journal::open(dir, 0, &mut Vec::new()).unwrap().journal;
        (1..=until).for_each(|epoch| append(&mut journal, frame(epoch)));
        path(dir, 1)
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
        let mut opened = Journal::open(dir.path(), 0, &mut frames).unwrap();
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
        begin(dir.path(), 2).unwrap();
        std::fs::remove_file(path(dir.path(), 1)).unwrap();
        let error = epochs(dir.path()).unwrap_err();
        assert!(error.ends_with("is damaged: the file before it, 00000001.log, is missing"), "{error}");
    }

    #[test]
    fn a_torn_end_with_others_behind_it_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 2);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        begin(dir.path(), 2).unwrap();
        let error = epochs(dir.path()).unwrap_err();
        assert!(error.contains("it ends within a frame"), "{error}");
    }
}
