//! Folders that are the table of an input: what is in them is what is counted. A file that appears is delivered, one that is gone is
//! retracted, and one that changed is both.
//!
//! What a file held is known from the journal, so it is retracted as it was delivered: the same bytes, read in the same way.
//!
//! # Limits
//! A file of the same size and modification time is taken to be the same, as `rsync` and `make` do.

use super::files::{made, shape};
use super::frame::{Content, InFolder, Part};
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
        let mut known = self.known(of.plain.name, input, &root);
        let found = match paths::find(&folder.path, |_| true) {
            // A folder may be empty.
            Err(IngestError::NotFound { .. }) if std::fs::metadata(&folder.path).is_ok_and(|folder| folder.is_dir()) => {
                paths::Found::default()
            }
            found => found?,
        };
        difference.there = found.files.len();
        let kept = &mut difference.kept;
        kept.notes.extend(plan::unnamed_note(&found));
        kept.passed_over = found.passed_over;
        let shape = shape(of.plain, input);
        for file in &found.files {
            let (bytes, modified_ns) = seen(file)?;
            let below = below(&root, file);
            let before = known.remove(below.as_str());
            if before.is_some_and(|before| is_same(before, bytes, modified_ns) && before.shape == shape) {
                continue;
            }
            let blob = self.files.blobs().keep_file(file)?;
            let content = Content::Blob(blob);
            if before.is_some_and(|before| before.content == content && before.shape == shape) {
                continue;
            }
            kept.parts.extend(before.map(retraction));
            let folder = Some(InFolder { path: root.clone(), file: below, modified_ns });
            kept.parts.push(Part { folder, ..made(input, 1, file, content, shape.clone(), arrival) });
        }
        difference.gone = known.len();
        kept.parts.extend(known.into_values().map(retraction));
        Ok(difference)
    }

    /// The files of a folder that were delivered, by their places below it.
    fn known(&self, dataflow: &str, input: &Input, root: &str) -> BTreeMap<&str, &Part> {
        let mut known = BTreeMap::new();
        for part in self.frames(dataflow).flat_map(|frame| &frame.parts).filter(|part| part.input == input.name) {
            match part.folder.as_ref().filter(|folder| folder.path == root) {
                Some(folder) if part.sign > 0 => known.insert(folder.file.as_str(), part),
                Some(folder) => known.remove(folder.file.as_str()),
                None => None,
            };
        }
        known
    }
}

fn retraction(part: &Part) -> Part {
    Part { sign: -1, ..part.clone() }
}

fn is_same(before: &Part, bytes: u64, modified_ns: Option<i64>) -> bool {
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
    let whole = match remote::place(file) {
        Ok(remote::Place::Local(local)) => std::fs::canonicalize(&*local).and_then(|whole| remote::location(&whole)).ok(),
        _ => None,
    };
    let whole = whole.unwrap_or_else(|| file.into());
    let whole = shown::location(&whole).into_owned();
    whole.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).map(String::from).unwrap_or(whole)
}

/// A folder by a name that is the same from wherever it is looked at.
fn root(path: &str) -> Result<String, StateError> {
    let failed = |cause| StateError::Input { path: path.into(), cause };
    match remote::place(path).map_err(failed)? {
        remote::Place::Local(local) => {
            let whole = std::fs::canonicalize(&*local).map_err(failed)?;
            if !whole.is_dir() {
                return Err(failed(std::io::ErrorKind::NotADirectory.into()));
            }
            remote::location(&whole).map_err(failed)
        }
        remote::Place::Remote(_) | remote::Place::Unknown => Ok(shown::location(path.trim_end_matches('/')).into_owned()),
    }
}
