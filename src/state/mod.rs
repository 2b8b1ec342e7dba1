//! What a dataflow knows from one run to the next: the batches that it was given.
//!
//! A state is a folder, or what is below a prefix of a bucket ([`home`]); all that is asked of either is in [`shelf`] and [`tail`]:
//!
//! - `format` says how it is written; another version is refused
//! - `lock` is held by the one process that has it open, and `id` is a name that brokers know it by
//! - `meeting` ([`meeting`]) is what several processes know the folder by
//! - `journal/` ([`journal`]) has a frame ([`frame`]) for each batch, in order; `snapshot/` ([`snapshot`]) what those before come to
//! - `blobs/` ([`blobs`]) has the files that were delivered
//! - `tables.sqlite` has the tables, and `points/` the points; both can be rebuilt from the rest, and are in a folder of this machine
//!
//! A batch is first kept: its files are copied, so what is read later is what was delivered. Then it is applied, and last it is appended to
//! the journal: from then on it is there, however the process ends. Tables follow from the set of records alone, so the batches of
//! a state are applied as one epoch when it is taken up ([`State::replay`]).
//!
//! # Limits
//! Nothing is removed but what a snapshot stands for ([`State::compact`], [`State::seal`]). A state holds any number of dataflows, and one
//! process at a time has it open.

pub mod again;
mod blobs;
mod bucket;
pub mod counts;
mod erase;
pub mod files;
pub mod folders;
pub mod forget;
pub mod frame;
pub mod home;
mod journal;
mod lines;
pub mod meeting;
mod objects;
mod scratch;
mod shelf;
mod snapshot;
mod tail;

use crate::ingest::IngestError;
use crate::ingest::plan::{Origin, Plan};
use crate::lock::{Lock, LockError};
use crate::shown;
use crate::sinks::live::Forgotten;
use crate::staged::why;
pub use blobs::GRACE;
use files::{Files, MISSING};
use frame::{Answer, Answered, Blob, Content, Entry, Frame, Only, Part};
use home::Home;
use journal::{Journal, Opened};
use retally_core::Epoch;
use retally_core::contract::Definition;
use retally_core::time::Moment;
use shelf::Shelf;
use snapshot::{SNAPSHOT, Snapshot, Tools};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tail::JOURNAL;

/// What stands in `format`.
const FORMAT: &str = "retally 1\n";
/// The file that identifies the state.
const ID: &str = "id";
/// The file by which several processes see that they have the same folder.
const MEETING: &str = "meeting";

/// What a part takes in a journal, besides what was delivered: about so many bytes.
const FRAME_BYTES: u64 = 200;

/// What came of folding the batches of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// What was folded.
    pub folded: Folded,
    /// The bytes of what is kept, before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

/// What came of folding a part of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How many batches there were.
    pub batches: u64,
    /// Files that were rewritten, without what was forgotten.
    pub erased: u64,
    /// The names of files that can't be, and still hold what was forgotten.
    pub holding: Vec<String>,
    /// Lines that were refused, and are gone: their rows of `rejected` have to go, too.
    pub gone: Vec<Forgotten>,
}

/// An open state.
#[derive(Debug)]
pub struct State {
    home: Home,
    files: Files,
    journal: Journal,
    /// Those of all dataflows that were there when it was opened, in order.
    frames: Vec<Frame>,
    /// The epoch of each dataflow's last batch.
    epochs: BTreeMap<String, Epoch>,
    /// Likewise of those that a snapshot stands for.
    folded: BTreeMap<String, Epoch>,
    torn: u64,
    /// Its scratch folder was that of another one.
    is_scratch_new: bool,
    /// Bytes that were delivered, as far as a snapshot has them.
    folded_bytes: u64,
    /// And behind it.
    behind_bytes: u64,
    _lock: Lock,
}

/// What was found when a state was opened.
struct Batches {
    journal: Journal,
    frames: Vec<Frame>,
    torn: u64,
    /// Of how many batches a snapshot tells.
    batches: usize,
}

/// A dataflow, for which batches are kept and planned.
#[derive(Clone, Copy, Debug)]
pub struct Of<'d> {
    /// The dataflow's definition without what people say of their files: each batch in the journal says that itself.
    pub plain: &'d Definition,
    /// That of the job.
    pub definition: &'d Definition,
}

/// A batch whose files are kept, and which has not been applied.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Its parts.
    pub parts: Vec<Part>,
    /// Files in folders that were passed over.
    pub passed_over: Vec<String>,
    /// What people should know of.
    pub notes: Vec<String>,
}

/// Why a state can't be used, or a batch not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it open.
    #[error("could not open the state {dir:?}: {holder} has it open")]
    InUse {
        /// The state.
        dir: PathBuf,
        /// Which process, in words.
        holder: String,
    },
    /// Another process has begun to write it since this one has.
    #[error("another process writes the state {state:?}, and this one does not any more: {holder} began after it")]
    Fenced {
        /// The state.
        state: String,
        /// Which process, in words.
        holder: String,
    },
    /// A bucket in which two could write, and none would know.
    #[error("the server of {0:?} writes over what should only be created: it does not heed If-None-Match")]
    Unconditional(String),
    /// A scratch folder that holds something else.
    #[error("{0:?} is no scratch folder: it holds other files")]
    NoScratch(PathBuf),
    /// A folder that holds something else.
    #[error("{0:?} is no state: it holds other files")]
    NoState(PathBuf),
    /// Likewise, where a state is read, and none is made.
    #[error("{0:?} is no state: it holds other files")]
    Other(PathBuf),
    /// There is none.
    #[error("there is no state {0:?}")]
    Missing(PathBuf),
    /// It is of another version of the program.
    #[error("the state {dir:?} has the format {found:?}, and this program reads and writes {expected:?}")]
    Format {
        /// The state.
        dir: PathBuf,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A file is not what was written.
    #[error("{file:?} is damaged: {why}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How that shows.
        why: String,
    },
    /// The system failed.
    #[error("could not {what} {path:?}: {}", why(cause))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// What was appended may be on the disk or not. Nothing more is written.
    #[error("could not write {path:?} for good: {}", why(cause))]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// A file of a batch could not be read.
    #[error("could not keep {:?}: {}", shown::location(path), why(cause))]
    Input {
        /// As given.
        path: String,
        /// Why it failed.
        cause: io::Error,
    },
    /// The files of a batch could not be found or planned.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl StateError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError + use<> {
        let path = path.to_path_buf();
        move |cause| StateError::Io { what, path, cause }
    }

    fn damaged(file: &Path, why: String) -> StateError {
        StateError::Damaged { file: file.into(), why }
    }
}

/// The part of a journal to which nothing is added any more. A process does one thing with it at a time.
#[derive(Debug)]
pub struct Sealed {
    files: Files,
    segment: u64,
}

impl Sealed {
    /// Folds its batches into what they come to, and removes what is not needed any more, but no files that were kept within the `grace`.
    /// Whoever is killed meanwhile leaves the rest to the next.
    pub fn fold(self, grace: Duration, plain: &dyn Fn(&str) -> Option<Definition>) -> Result<Folded, StateError> {
        let Sealed { files, segment } = self;
        let shelf = files.shelf();
        let Snapshot { segment: folded, mut begun, mut frames } = Snapshot::read(shelf)?;
        if folded >= segment {
            // Nothing came, or another process has folded more.
            return Ok(Folded::default());
        }
        begun.extend(journal::find(shelf, folded, segment, &mut frames)?.begun);
        let (snapshot, erased) = Snapshot::of(segment, begun, &frames, &mut Writing { files: &files, plain })?;
        drop(frames);
        snapshot.write(shelf)?;
        // From here on, what it stands for is not needed.
        journal::remove(shelf, segment, &snapshot.begun)?;
        snapshot::remove_older(shelf)?;
        let Snapshot { mut frames, .. } = snapshot;
        let batches = frames.len() as u64;
        // Those that came meanwhile need theirs.
        journal::look(shelf, segment, u64::MAX, &mut frames)?;
        let blobs = frames.iter().flat_map(|frame| &frame.parts).flat_map(|part| part.blobs());
        files.blobs().retain(&blobs.map(|blob| blob.file.as_str()).collect(), grace)?;
        Ok(Folded { batches, erased: erased.files, holding: erased.holding, gone: erased.gone })
    }
}

/// Writes files while a state is folded.
struct Writing<'f> {
    files: &'f Files,
    plain: &'f dyn Fn(&str) -> Option<Definition>,
}

impl Tools for Writing<'_> {
    fn keep(&mut self, name: &str, text: &str) -> Result<Blob, StateError> {
        self.files.keep_stream(name, text.as_bytes())
    }

    fn erase(&mut self, dataflow: &str, part: &Part, forgotten: &[Only]) -> Result<Option<Option<Content>>, StateError> {
        let Some(plain) = (self.plain)(dataflow) else { return Ok(None) };
        erase::erased(self.files, &plain, part, forgotten)
    }
}

impl Kept {
    /// Adds those of another.
    pub fn append(&mut self, mut other: Kept) {
        self.parts.append(&mut other.parts);
        self.passed_over.append(&mut other.passed_over);
        self.notes.append(&mut other.notes);
    }
}

impl State {
    /// Opens a state; a folder that is not there, or empty, becomes one, and so does a prefix without objects. Of a bucket, who had it open
    /// before does not write any more.
    pub fn open(home: &Home) -> Result<State, StateError> {
        State::opened(home, true)
    }

    /// Opens a state to read what is in it. Of a bucket, another process may be writing it; a folder is locked.
    pub fn open_to_read(home: &Home) -> Result<State, StateError> {
        State::opened(home, matches!(home, Home::Folder(_)))
    }

    fn opened(home: &Home, is_written: bool) -> Result<State, StateError> {
        let dir = home.local();
        std::fs::create_dir_all(dir).map_err(StateError::io("create", dir))?;
        let shelf = home.shelf()?;
        home.check_format(&*shelf)?;
        let lock = State::lock(home)?;
        // Another process may have begun it meanwhile.
        let is_new = !home.check_format(&*shelf)?;
        match is_new {
            true if !is_written => return Err(StateError::Missing(home.path())),
            true => shelf.create("format", FORMAT)?,
            false => {}
        }
        let is_scratch_new = match home {
            Home::Folder(_) => false,
            Home::Bucket { scratch, .. } => scratch::take(scratch, &identity(&*shelf)?)?,
        };
        let left_out = if is_written { shelf.begin()? } else { 0 };
        let files = Files::open(dir, shelf)?;
        if is_new {
            // A folder is on the disk once the one that it is in is.
            for folder in [dir, crate::staged::parent(dir)] {
                std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(StateError::io("sync", folder))?;
            }
        }
        let Batches { journal, frames, torn, batches } = Snapshot::with_newest(files.shelf(), |snapshot| {
            let Snapshot { segment, begun, mut frames } = snapshot;
            let batches = frames.len();
            let Opened { journal, torn } = Journal::open(files.shelf(), segment, &begun, &mut frames)?;
            // What is read is here before anything is folded away that it needs.
            files.shelf().fetch_blobs(&blobs_of(&frames).map(|blob| blob.file.as_str()).collect::<Vec<_>>())?;
            Ok(Batches { journal, frames, torn, batches })
        })?;
        let (folded, behind) = frames.split_at_checked(batches).unwrap_or_default();
        let (folded_bytes, behind_bytes) = (delivered(folded), delivered(behind));
        let (folded, epochs) = (last_epochs(folded), epochs(files.shelf(), &frames)?);
        let (home, torn) = (home.clone(), torn + left_out);
        Ok(State { home, files, journal, frames, epochs, folded, torn, is_scratch_new, folded_bytes, behind_bytes, _lock: lock })
    }

    /// Keeps other processes from having a state open; of one in a bucket, its scratch folder.
    pub fn lock(home: &Home) -> Result<Lock, StateError> {
        let dir = home.local();
        Lock::take(&dir.join("lock")).map_err(|error| match error {
            LockError::Held(holder) => StateError::InUse { dir: dir.into(), holder },
            LockError::Io(cause) => StateError::Io { what: "lock", path: dir.into(), cause },
        })
    }

    /// An error where there is no such state, for whoever only reads it or mends it: an empty folder may be one that is not mounted.
    pub fn look_for(home: &Home) -> Result<(), StateError> {
        let is_missing = matches!(home, Home::Folder(dir) if !dir.is_dir());
        let is_there = !is_missing
            && home.check_format(&*home.shelf()?).map_err(|error| match error {
                StateError::NoState(path) => StateError::Other(path),
                error => error,
            })?;
        if is_there { Ok(()) } else { Err(StateError::Missing(home.path())) }
    }

    /// The batches of a state, in order, and the bytes of one that is not whole. Another process may have it open.
    pub fn look(home: &Home) -> Result<(Vec<Frame>, u64), StateError> {
        State::look_for(home)?;
        State::look_at(&*home.shelf()?)
    }

    fn look_at(shelf: &dyn Shelf) -> Result<(Vec<Frame>, u64), StateError> {
        Snapshot::with_newest(shelf, |Snapshot { segment, mut frames, .. }| {
            let torn = journal::look(shelf, segment, u64::MAX, &mut frames)?;
            Ok((frames, torn))
        })
    }

    /// Where it is, as it is shown.
    pub fn path(&self) -> PathBuf {
        self.home.path()
    }

    /// Whether its scratch folder was that of another state, and has been rebuilt.
    pub fn is_scratch_new(&self) -> bool {
        self.is_scratch_new
    }

    /// The files that were delivered.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// A name that no other state has, to which others that know it can refer: brokers, which keep sessions.
    pub fn identity(&self) -> Result<String, StateError> {
        identity(self.files.shelf())
    }

    /// The bytes of a batch that was not there yet when the process that wrote it ended. They were cut off.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Where the tables of a state are.
    pub fn tables(dir: &Path) -> PathBuf {
        dir.join("tables.sqlite")
    }

    /// Where the points of a state are.
    pub fn points(dir: &Path) -> PathBuf {
        dir.join("points")
    }

    /// The batches of a dataflow that were there when the state was opened, in order.
    pub fn frames(&self, dataflow: &str) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(move |frame| frame.dataflow == dataflow)
    }

    /// The batches of all dataflows that were there when the state was opened, in order.
    pub fn all_frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The epoch of the last batch of a dataflow; 0 before the first.
    pub fn epoch(&self, dataflow: &str) -> Epoch {
        self.epochs.get(dataflow).copied().unwrap_or(0)
    }

    /// The epoch up to which the batches of a dataflow are known as one, and not one by one; 0 where each is.
    pub fn folded(&self, dataflow: &str) -> Epoch {
        self.folded.get(dataflow).copied().unwrap_or(0)
    }

    /// Folds the batches into what they come to, and removes all that is not needed any more. `plain` knows dataflows by their names.
    pub fn compact(mut self, plain: &dyn Fn(&str) -> Option<Definition>) -> Result<Compacted, StateError> {
        let before = self.size()?;
        let folded = self.seal()?.fold(Duration::ZERO, plain)?;
        Ok(Compacted { folded, before, after: self.size()? })
    }

    /// Whether so much has been delivered since it was folded that it is worth doing again: as much as this, and half of what there was
    /// then; or into so many files.
    pub fn is_due(&self, least: u64) -> bool {
        self.behind_bytes >= least.max(self.folded_bytes / 2) || self.journal.is_long()
    }

    /// Ends the last file of the journal: all up to it can be folded, while batches are appended to the next.
    pub fn seal(&mut self) -> Result<Sealed, StateError> {
        let segment = self.journal.seal()?;
        self.folded_bytes += std::mem::take(&mut self.behind_bytes);
        Ok(Sealed { files: self.files.clone(), segment })
    }

    /// The bytes of the journal, the snapshot and the blobs.
    fn size(&self) -> Result<u64, StateError> {
        [JOURNAL, SNAPSHOT, "blobs"].iter().map(|folder| self.files.shelf().bytes(folder)).sum()
    }

    /// An error where tables have an epoch that the journal does not know: its end is missing.
    pub fn check_reached(&self, dataflow: &str, reached: Epoch) -> Result<(), StateError> {
        let epoch = self.epoch(dataflow);
        if reached <= epoch {
            return Ok(());
        }
        let why = format!("its last batch of {dataflow} is number {epoch}, and the tables of the state are those of number {reached}");
        Err(StateError::damaged(&self.files.shelf().path(JOURNAL), why))
    }

    /// The batches of a dataflow up to an epoch as one, which has the epoch of the last; nothing where there is none.
    pub fn replay(&self, of: Of<'_>, until: Epoch) -> Result<Option<(Epoch, Plan)>, StateError> {
        // Of several deliveries of a dataset the last counts; what came before would be written and taken back.
        let frames = || self.frames(of.plain.name).take_while(|frame| frame.epoch <= until);
        let parts = || frames().flat_map(|frame| &frame.parts);
        let last: BTreeMap<_, &Part> = parts().filter_map(|part| Some((part.dataset()?, part))).collect();
        let counts =
            |part: &&Part| part.dataset().is_none_or(|key| part.sign > 0 && last.get(&key).is_some_and(|last| std::ptr::eq(*last, *part)));
        let mut replay = Plan::default();
        for frame in frames() {
            let parts = frame.parts.iter().enumerate().map(|(place, part)| (frame.origin(place), part));
            let parts: Vec<(Origin, &Part)> = parts.filter(|(_, part)| counts(part)).collect();
            replay.append(self.files.plan_again(of, &parts)?);
            replay.arrived = replay.arrived.max(Some(Moment(frame.arrived)));
        }
        let epoch = frames().last().map_or(0, |frame| frame.epoch);
        Ok((epoch > 0).then_some((epoch, replay)))
    }

    /// Appends a batch that was applied: from now on it is there. Its epoch is the next of its dataflow.
    pub fn append(&mut self, dataflow: &str, parts: Vec<Part>, arrived: Moment, answer: Answer) -> Result<Epoch, StateError> {
        let epoch = self.epoch(dataflow) + 1;
        let answer = Some(answer);
        self.write(
            vec![Frame { dataflow: dataflow.into(), epoch, arrived: arrived.0, parts, key: None, answer, positions: Vec::new() }],
            &[],
        )?;
        self.sync()?;
        Ok(epoch)
    }

    /// Writes batches, whose epochs follow those before, and what came of earlier ones. They are there when [`State::sync`] has returned.
    /// After [`StateError::Io`] the journal is as it was before.
    pub fn write(&mut self, frames: Vec<Frame>, answered: &[Answered]) -> Result<(), StateError> {
        let bytes = delivered(&frames);
        let last: Vec<(String, Epoch)> = frames.iter().map(|frame| (frame.dataflow.clone(), frame.epoch)).collect();
        let entries: Vec<Entry> = frames.into_iter().map(Entry::Batch).chain(answered.iter().cloned().map(Entry::Answered)).collect();
        self.journal.write(&entries)?;
        self.behind_bytes += bytes;
        self.epochs.extend(last);
        Ok(())
    }

    /// Waits until the disk or the bucket has what was written. After an error that is not known, and nothing more is written.
    pub fn sync(&mut self) -> Result<(), StateError> {
        self.sync_or_tell(&mut |_| {})
    }

    /// The same; `away` is told why it takes longer than usual, each time that it is tried again.
    pub fn sync_or_tell(&mut self, away: &mut dyn FnMut(&str)) -> Result<(), StateError> {
        self.journal.sync(away)
    }

    /// Forgets the batches that were there when the state was opened.
    pub fn forget_frames(&mut self) {
        self.frames = Vec::new();
    }

    /// Reads all files of the state to their ends.
    pub fn check(&self) -> Result<(), StateError> {
        let blobs: BTreeSet<&Blob> = blobs_of(&self.frames).collect();
        blobs.into_iter().try_for_each(|blob| self.files.blobs().check(blob))
    }
}

/// The files of batches, as often as they are in them.
fn blobs_of(frames: &[Frame]) -> impl Iterator<Item = &Blob> {
    let blobs = frames.iter().flat_map(|frame| &frame.parts).flat_map(|part| part.blobs());
    blobs.filter(|blob| blob.file != MISSING)
}

/// A name that no other state has.
fn identity(shelf: &dyn Shelf) -> Result<String, StateError> {
    if let Some(id) = shelf::text(shelf, ID)? {
        return Ok(id.trim().into());
    }
    shelf.create(ID, &format!("{}\n", uuid::Uuid::new_v4().simple()))?;
    // Another process may have given it one.
    let id = shelf::text(shelf, ID)?.ok_or_else(|| StateError::Missing(shelf.path(ID)))?;
    Ok(id.trim().into())
}

/// The last epoch of each dataflow; an error where they do not follow one another.
fn epochs(shelf: &dyn Shelf, frames: &[Frame]) -> Result<BTreeMap<String, Epoch>, StateError> {
    let mut last: BTreeMap<String, Epoch> = BTreeMap::new();
    for frame in frames {
        let before = last.get_mut(frame.dataflow.as_str());
        let epoch = before.as_ref().map_or(0, |epoch| **epoch);
        if frame.epoch != epoch + 1 {
            let why = format!("batch {} of {} follows batch {epoch}", frame.epoch, frame.dataflow);
            return Err(StateError::damaged(&shelf.path(JOURNAL), why));
        }
        match before {
            Some(before) => *before = frame.epoch,
            None => drop(last.insert(frame.dataflow.clone(), frame.epoch)),
        }
    }
    Ok(last)
}

/// Bytes that were delivered with some batches. What a frame says besides counts a little.
fn delivered(frames: &[Frame]) -> u64 {
    frames.iter().flat_map(|frame| &frame.parts).map(|part| FRAME_BYTES + part.bytes()).sum()
}

/// The last epoch of each dataflow among some batches.
fn last_epochs(frames: &[Frame]) -> BTreeMap<String, Epoch> {
    frames.iter().map(|frame| (frame.dataflow.clone(), frame.epoch)).collect()
}
