//! What a dataflow knows from one run to the next: the batches that it was given.
//!
//! A state is a folder:
//!
//! - `format` says how it is written; another version is refused
//! - `lock` is held by the one process that has it open
//! - `journal/` ([`journal`]) has a frame ([`frame`]) for each batch, in order
//! - `blobs/` ([`blobs`]) has the files that were delivered
//! - `tables.sqlite` has the tables, and `points/` the points; both can be made anew from the rest
//!
//! A batch is first kept: its files are copied, so what is read later is what was delivered. Then it is applied, and last it is appended to
//! the journal: from then on it is there, however the process ends. Tables follow from the set of records alone, so the batches of
//! a state are applied as one epoch when it is taken up ([`State::replay`]).
//!
//! # Limits
//! Nothing is removed: a journal grows with what is delivered. A state holds any number of dataflows, and one process at a time has it open.

mod blobs;
pub mod folders;
pub mod frame;
mod journal;

use crate::ingest::batch::{self, Arrival, Batch, Source};
use crate::ingest::jobs::{self, BadJob, Job};
use crate::ingest::plan::{self, Plan, STDIN, is_pipe};
use crate::ingest::{IngestError, paths, streams};
use crate::lock::{Lock, LockError};
use crate::shown;
use crate::staged::{Staged, is_temporary, why};
use blobs::Blobs;
use frame::{Answer, Blob, Content, Frame, KeptShape, Part};
use journal::{Journal, Opened};
use retally_core::Epoch;
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::split::{Dataset, RefusedJob};
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What stands in `format`.
const FORMAT: &str = "retally 1\n";
/// The blob of a stream that could not be read: there is none of this name.
const MISSING: &str = "missing";

/// An open state.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    journal: Journal,
    blobs: Blobs,
    /// Those of all dataflows, in order.
    frames: Vec<Frame>,
    torn: u64,
    _lock: Lock,
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
    /// A folder that holds something else.
    #[error("{0:?} is no state: it holds other files")]
    NoState(PathBuf),
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

impl Kept {
    /// Adds those of another.
    pub fn append(&mut self, mut other: Kept) {
        self.parts.append(&mut other.parts);
        self.passed_over.append(&mut other.passed_over);
        self.notes.append(&mut other.notes);
    }
}

impl State {
    /// Opens a state; a folder that is not there, or empty, becomes one.
    pub fn open(dir: &Path) -> Result<State, StateError> {
        std::fs::create_dir_all(dir).map_err(StateError::io("create", dir))?;
        check_format(dir)?;
        let lock = Lock::take(&dir.join("lock")).map_err(|error| match error {
            LockError::Held(holder) => StateError::InUse { dir: dir.into(), holder },
            LockError::Io(cause) => StateError::Io { what: "lock", path: dir.into(), cause },
        })?;
        // Another process may have begun it meanwhile.
        if !check_format(dir)? {
            let format = dir.join("format");
            let staged = Staged::of(&format, FORMAT.as_bytes()).and_then(Staged::publish);
            staged.map_err(StateError::io("write", &format))?;
        }
        let Opened { journal, frames, torn } = Journal::open(&dir.join("journal"))?;
        let state = State { dir: dir.into(), journal, blobs: Blobs::open(&dir.join("blobs"))?, frames, torn, _lock: lock };
        state.check_epochs()?;
        Ok(state)
    }

    /// The batches of a state, in order, and the bytes of one that is not whole. Another process may have it open.
    pub fn look(dir: &Path) -> Result<(Vec<Frame>, u64), StateError> {
        if !dir.is_dir() || !check_format(dir)? {
            return Err(StateError::Missing(dir.into()));
        }
        journal::look(&dir.join("journal"))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
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

    /// The batches of a dataflow, in order.
    pub fn frames(&self, dataflow: &str) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(move |frame| frame.dataflow == dataflow)
    }

    /// The epoch of the last batch of a dataflow; 0 before the first.
    pub fn epoch(&self, dataflow: &str) -> Epoch {
        self.frames(dataflow).last().map_or(0, |frame| frame.epoch)
    }

    /// An error where tables have an epoch that the journal does not know: its end is missing.
    pub fn check_reached(&self, dataflow: &str, reached: Epoch) -> Result<(), StateError> {
        let epoch = self.epoch(dataflow);
        if reached <= epoch {
            return Ok(());
        }
        let why = format!("its last batch of {dataflow} is number {epoch}, and the tables of the state are those of number {reached}");
        Err(StateError::damaged(&self.dir.join("journal"), why))
    }

    /// Copies the files of a batch, which is accepted as of `arrival`. When this returns, the disk has them.
    pub fn keep(&self, of: Of<'_>, batch: &Batch, arrival: Arrival) -> Result<Kept, StateError> {
        let Of { plain, definition } = of;
        let mut kept = Kept::default();
        for part in &batch.parts {
            let Some(input) = definition.inputs.get(part.input) else { continue };
            let shape = shape(plain, input);
            let add = |kept: &mut Kept, name: &str, content: Content| {
                kept.parts.push(made(input, part.sign, name, content, shape.clone(), arrival));
            };
            match (&part.source, input.kind) {
                (Source::Path(path), InputKind::Datasets(files)) => {
                    for mut queue in jobs::open(path, files)? {
                        while let Some(job) = queue.next()? {
                            let content = self.keep_job(job)?;
                            add(&mut kept, queue.name(), content);
                        }
                        kept.passed_over.extend(queue.passed_over());
                    }
                }
                (Source::Path(path), InputKind::Records) if is_pipe(path) => {
                    let blob = match path.as_str() {
                        STDIN => self.blobs.keep_stream(path, io::stdin())?,
                        _ => self.blobs.keep_file(path)?,
                    };
                    add(&mut kept, path, Content::Blob(blob));
                }
                (Source::Path(path), InputKind::Records) => {
                    let found = paths::find(path, |_| true)?;
                    kept.passed_over.extend(found.passed_over.iter().cloned());
                    kept.notes.extend(plan::unnamed_note(&found));
                    for file in &found.files {
                        add(&mut kept, file, Content::Blob(self.blobs.keep_file(file)?));
                    }
                }
                (Source::Bytes(body), _) => add(&mut kept, &body.name, Content::Blob(self.blobs.keep_stream(&body.name, &*body.bytes)?)),
                // What was kept is kept.
                (Source::Kept { .. } | Source::Dataset { .. } | Source::Refused { .. }, _) => {}
            }
        }
        Ok(kept)
    }

    fn keep_job(&self, job: Result<Job, BadJob>) -> Result<Content, StateError> {
        match job {
            Ok(Job { key, streams }) => {
                let streams = streams.iter().map(|stream| self.keep_stream_of_dataset(stream)).collect::<Result<_, _>>()?;
                Ok(Content::Dataset { key, streams })
            }
            Err(BadJob { line, reason, raw }) => Ok(Content::Refused { line, reason, raw }),
        }
    }

    /// A stream that can't be read is missing: its dataset is failed, as it would be without a state.
    fn keep_stream_of_dataset(&self, location: &str) -> Result<Blob, StateError> {
        let mut attempt = 0;
        loop {
            match self.blobs.keep_file(location) {
                Err(StateError::Input { cause, .. }) if cause.kind() == io::ErrorKind::NotFound || attempt + 1 >= streams::ATTEMPTS_MAX => {
                    return Ok(Blob { file: MISSING.into(), bytes: 0 });
                }
                Err(StateError::Input { .. }) => {
                    attempt += 1;
                    std::thread::sleep(streams::pause(attempt));
                }
                kept => return kept,
            }
        }
    }

    /// Plans parts that were kept.
    pub fn plan(&self, of: Of<'_>, parts: &[&Part]) -> Result<Plan, StateError> {
        let mut plan = Plan::default();
        let mut rest = parts;
        while let Some(first) = rest.first() {
            // What is accepted, and how the files of an input become records, is said for a whole plan.
            let mut shapes: BTreeMap<&str, &Option<KeptShape>> = BTreeMap::new();
            let mut count = 0;
            for part in rest {
                if part.accepts() != first.accepts() || *shapes.entry(&part.input).or_insert(&part.shape) != &part.shape {
                    break;
                }
                count += 1;
            }
            let (parts, others) = rest.split_at(count);
            rest = others;
            let mut shaped = of.plain.clone();
            for input in &mut shaped.inputs {
                if let Some(Some(shape)) = shapes.get(input.name) {
                    let unknown =
                        |field| format!("a batch of {} names the field {field:?}, which {} does not have", of.plain.name, input.name);
                    *input = shape.shaped(input).map_err(|field| StateError::damaged(&self.dir.join("journal"), unknown(field)))?;
                }
            }
            let (accept_from, accept_until) = first.accepts();
            let batch = Batch { parts: parts.iter().filter_map(|part| self.source(&shaped, part)).collect() };
            let mut planned = plan::plan(&shaped, &batch, Arrival { accept_from, accept_until })?;
            planned.shape(&shaped.inputs, &of.definition.inputs);
            plan.append(planned);
        }
        Ok(plan)
    }

    fn source(&self, definition: &Definition, part: &Part) -> Option<batch::Part> {
        let input = definition.inputs.iter().position(|input| input.name == part.input)?;
        let name = part.name.clone();
        let source = match &part.content {
            Content::Blob(blob) => Source::Kept { name, path: self.blobs.path(blob) },
            Content::Dataset { key, streams } => {
                let streams = streams.iter().map(|blob| self.blobs.path(blob)).collect();
                Source::Dataset { name, dataset: Dataset { key: key.clone(), streams, route: 0 } }
            }
            Content::Refused { line, reason, raw } => {
                Source::Refused { name, job: RefusedJob { line: *line, reason: reason.clone(), raw: raw.clone() } }
            }
        };
        Some(batch::Part { input, sign: part.sign.into(), source })
    }

    /// All batches of a dataflow as one, which has the epoch of the last; nothing where there is none.
    pub fn replay(&self, of: Of<'_>) -> Result<Option<(Epoch, Plan)>, StateError> {
        // Of several deliveries of a dataset the last counts; what came before would be written and taken back.
        let parts = || self.frames(of.plain.name).flat_map(|frame| &frame.parts);
        let last: BTreeMap<_, &Part> = parts().filter_map(|part| Some((part.dataset()?, part))).collect();
        let counts =
            |part: &&Part| part.dataset().is_none_or(|key| part.sign > 0 && last.get(&key).is_some_and(|last| std::ptr::eq(*last, *part)));
        let mut replay = Plan::default();
        for frame in self.frames(of.plain.name) {
            let parts: Vec<&Part> = frame.parts.iter().filter(counts).collect();
            replay.append(self.plan(of, &parts)?);
        }
        let epoch = self.epoch(of.plain.name);
        Ok((epoch > 0).then_some((epoch, replay)))
    }

    /// Appends a batch that was applied: from now on it is there. Its epoch is the next of its dataflow.
    pub fn append(&mut self, dataflow: &str, parts: Vec<Part>, arrived: Moment, answer: Answer) -> Result<Epoch, StateError> {
        let epoch = self.epoch(dataflow) + 1;
        let frame = Frame { dataflow: dataflow.into(), epoch, arrived: arrived.0, parts, answer };
        self.journal.append(&frame)?;
        self.frames.push(frame);
        Ok(epoch)
    }

    /// Reads all files of the state to their ends.
    pub fn check(&self) -> Result<(), StateError> {
        let blobs = self.frames.iter().flat_map(|frame| &frame.parts).flat_map(|part| part.blobs());
        let blobs: BTreeSet<&Blob> = blobs.filter(|blob| blob.file != MISSING).collect();
        blobs.into_iter().try_for_each(|blob| self.blobs.check(blob))
    }

    /// An error where the epochs of a dataflow do not follow one another.
    fn check_epochs(&self) -> Result<(), StateError> {
        let mut last = BTreeMap::new();
        for frame in &self.frames {
            let before = last.insert(frame.dataflow.as_str(), frame.epoch).unwrap_or(0);
            if frame.epoch != before + 1 {
                let why = format!("batch {} of {} follows batch {before}", frame.epoch, frame.dataflow);
                return Err(StateError::damaged(&self.dir.join("journal"), why));
            }
        }
        Ok(())
    }
}

/// Whether a folder is a state; an error where it is something else.
fn check_format(dir: &Path) -> Result<bool, StateError> {
    let path = dir.join("format");
    match std::fs::read_to_string(&path) {
        Ok(found) if found == FORMAT => Ok(true),
        Ok(found) => Err(StateError::Format { dir: dir.into(), found: found.trim().chars().take(40).collect(), expected: FORMAT.trim() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What a process leaves that was killed while it began one.
            let is_ours = |name: &std::ffi::OsStr| name == "lock" || is_temporary(name);
            let entries = std::fs::read_dir(dir).map_err(StateError::io("list", dir))?;
            let others = entries.filter_map(Result::ok).any(|entry| !is_ours(&entry.file_name()));
            if others { Err(StateError::NoState(dir.into())) } else { Ok(false) }
        }
        Err(cause) => Err(StateError::Io { what: "read", path, cause }),
    }
}

/// How the files of an input become records, where that is not as the dataflow has it.
fn shape(plain: &Definition, input: &Input) -> Option<KeptShape> {
    let own = plain.inputs.iter().find(|own| own.name == input.name).map(KeptShape::of).unwrap_or_default();
    Some(KeptShape::of(input)).filter(|shape| *shape != own)
}

fn made(input: &Input, sign: isize, name: &str, content: Content, shape: Option<KeptShape>, arrival: Arrival) -> Part {
    Part {
        input: input.name.into(),
        sign: if sign < 0 { -1 } else { 1 },
        // Queries and passwords of URLs are kept nowhere.
        name: shown::location(name).into_owned(),
        content,
        accept_from: arrival.accept_from.0,
        accept_until: arrival.accept_until.0,
        shape,
        folder: None,
    }
}
