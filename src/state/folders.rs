//! Folders that are the table of an input: what is in them is what is counted. A file that appears is delivered, one that is gone is
//! retracted, and one that changed is both.
//!
//! What a file held is known from the journal, so it is retracted as it was delivered: the same bytes, read in the same way.
//!
//! # Limits
//! A file of the same size and modification time is taken to be the same, as `rsync` and `make` do.

use super::files::{Files, made, shape};
use super::frame::{Again, Content, Frame, InFolder, Part};
use super::{Kept, Of, State, StateError};
use crate::ingest::batch::Arrival;
use crate::ingest::file::{InputFile, size};
use crate::ingest::{IngestError, paths, plan, remote};
use crate::shown;
use retally_core::contract::{Input, InputKind};
use retally_core::split::Version;
use std::collections::BTreeMap;

/// What is the table of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The input's place.
    pub input: usize,
    /// The folder, as given.
    pub path: String,
}

/// How a folder differs from what was delivered of it.
#[derive(Debug, Default)]
pub struct Difference {
    /// What makes up for it.
    pub kept: Kept,
    /// Files that were delivered and are gone.
    pub gone: usize,
    /// Files that are there.
    pub there: usize,
}

impl State {
    /// Compares a folder with what was delivered of it, and keeps what is new.
    pub fn compare(&self, of: Of<'_>, folder: &Folder, arrival: Arrival) -> Result<Difference, StateError> {
        let mut difference = Difference::default();
        let Some(input) = of.definition.inputs.get(folder.input).filter(|input| input.kind == InputKind::Records) else {
            return Ok(difference);
        };
        let root = root(&folder.path)?;
        let mut known = known(self.frames(of.plain.name), input, &root);
        let found = find(&folder.path)?;
        difference.there = found.files.len();
        for file in &found.files {
            let seen = Seen::of(&root, file)?;
            let before = known.remove(&seen.below);
            difference.kept.parts.extend(self.files.compare(of, input, &root, &seen, before.as_ref(), arrival)?);
        }
        difference.kept.notes.extend(plan::unnamed_note(&found));
        difference.kept.passed_over = found.passed_over;
        difference.gone = known.len();
        difference.kept.parts.extend(known.values().flat_map(Known::retraction));
        Ok(difference)
    }
}

/// A file of a folder, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub file: String,
    /// Its place below the folder.
    pub below: String,
    /// Its size.
    pub bytes: u64,
    /// When it was modified, where that is known.
    pub modified_ns: Option<i64>,
}

impl Seen {
    /// Looks at a file of a folder.
    pub fn of(root: &str, file: &str) -> Result<Seen, StateError> {
        let (bytes, modified_ns) = seen(file)?;
        Ok(Seen { file: file.into(), below: below(root, file), bytes, modified_ns })
    }
}

impl Files {
    /// What makes up for the difference between a file of a folder and what was delivered of it: nothing, where there is none. What is new
    /// is kept.
    pub fn compare(
        &self,
        of: Of<'_>,
        input: &Input,
        root: &str,
        seen: &Seen,
        known: Option<&Known>,
        arrival: Arrival,
    ) -> Result<Vec<Part>, StateError> {
        let (shape, before) = (shape(of.plain, input), known.map(|known| &known.part));
        if before.is_some_and(|before| is_same(before, seen.bytes, seen.modified_ns) && before.shape == shape) {
            return Ok(Vec::new());
        }
        let content = Content::Blob(self.blobs().keep_file(&seen.file)?);
        if before.is_some_and(|before| before.content == content && before.shape == shape) {
            return Ok(Vec::new());
        }
        let folder = Some(InFolder { path: root.into(), file: seen.below.clone(), modified_ns: seen.modified_ns });
        let new = Part { folder, ..made(input, 1, &seen.file, content, shape, arrival) };
        Ok(known.map(Known::retraction).into_iter().flatten().chain([new]).collect())
    }
}

/// The files of a folder, which may be empty.
pub fn find(path: &str) -> Result<paths::Found, StateError> {
    match paths::find(path, |_| true) {
        Err(IngestError::NotFound { passed_over, .. }) if std::fs::metadata(path).is_ok_and(|folder| folder.is_dir()) => {
            Ok(paths::Found { passed_over, ..paths::Found::default() })
        }
        found => Ok(found?),
    }
}

/// The files of a folder that were delivered, by their places below it.
pub fn known<'f>(frames: impl Iterator<Item = &'f Frame>, input: &Input, root: &str) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for part in frames.flat_map(|frame| &frame.parts).filter(|part| part.input == input.name) {
        // What was forgotten of a file is no other file.
        let Some(folder) = part.folder.as_ref().filter(|folder| folder.path == root && part.only.is_empty()) else { continue };
        if part.again.is_some() {
            known.get_mut(folder.file.as_str()).into_iter().for_each(|known: &mut Known| known.again.push(part.clone()));
        } else if part.sign > 0 {
            known.insert(folder.file.clone(), Known::new(part.clone()));
        } else {
            known.remove(folder.file.as_str());
        }
    }
    known
}

/// A file of a folder as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The file.
    pub part: Part,
    /// Lines of it that were refused, and delivered once more.
    pub again: Vec<Part>,
}

impl Known {
    /// A file that was just delivered.
    pub fn new(part: Part) -> Known {
        Known { part, again: Vec::new() }
    }

    /// What takes it back.
    pub fn retraction(&self) -> Vec<Part> {
        let back = |part: &Part| {
            let again = part.again.as_ref().map(|again| Again { undoes: None, ..again.clone() });
            Part { sign: -part.sign, origin: None, rejected_kept: None, again, ..part.clone() }
        };
        self.again.iter().chain([&self.part]).map(back).collect()
    }
}

/// Whether a file of this size and time is taken to be what was delivered.
pub fn is_same(before: &Part, bytes: u64, modified_ns: Option<i64>) -> bool {
    let modified = before.folder.as_ref().and_then(|folder| folder.modified_ns);
    modified.is_some() && modified == modified_ns && before.blobs().iter().map(|blob| blob.bytes).sum::<u64>() == bytes
}

/// The size of a file, and when it was modified.
fn seen(file: &str) -> Result<(u64, Option<i64>), StateError> {
    let version = InputFile::look(file).and_then(|mut file| file.version());
    let version = version.map_err(|cause| StateError::Input { path: file.into(), cause })?;
    let modified_ns = match &version {
        Version::File(file) => Some(file.modified_ns),
        // An object has a tag, and no time that says as much.
        Version::Object { .. } => None,
    };
    Ok((size(&version), modified_ns))
}

/// The place of a file below a folder; of one that a link leads to elsewhere, where it is.
fn below(root: &str, file: &str) -> String {
    let whole = match remote::resolve(file) {
        Ok(remote::Resolved::Local(local)) => std::fs::canonicalize(&*local).and_then(|whole| remote::location(&whole)).ok(),
        _ => None,
    };
    let whole = whole.unwrap_or_else(|| file.into());
    let whole = shown::location(&whole).into_owned();
    whole.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).map(String::from).unwrap_or(whole)
}

/// A folder by a name that is the same from wherever it is looked at.
pub fn root(path: &str) -> Result<String, StateError> {
    let failed = |cause| StateError::Input { path: path.into(), cause };
    match remote::resolve(path).map_err(failed)? {
        remote::Resolved::Local(local) => {
            let whole = std::fs::canonicalize(&*local).map_err(failed)?;
            if !whole.is_dir() {
                return Err(failed(std::io::ErrorKind::NotADirectory.into()));
            }
            remote::location(&whole).map_err(failed)
        }
        remote::Resolved::Remote(_) | remote::Resolved::Unknown => Ok(shown::location(path.trim_end_matches('/')).into_owned()),
    }
}
