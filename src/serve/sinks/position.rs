//! Which epoch a webhook was told last, in a file of its own: `STATE/webhooks/HASH.json`.
//!
//! It is replaced in whole, and on the disk before the next epoch is told. Its name is a hash of what was asked for, so that no part of a
//! URL is in it. A webhook that is changed is another one.

use crate::hex::hex;
use crate::sinks::SinkError;
use crate::staged::{Staged, why};
use retally_core::Epoch;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the hash that are in the name.
const NAME_BYTES: usize = 16;

/// What a webhook was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The last epoch.
    pub epoch: Epoch,
    /// What its tables were computed with.
    pub fingerprint: String,
}

/// The file.
#[derive(Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
}

impl PositionFile {
    /// That of a webhook in a state.
    pub(super) fn new(state: &Path, given: &str) -> PositionFile {
        let hash = Sha256::digest(given.as_bytes());
        let name = hex(hash.get(..NAME_BYTES).unwrap_or(&hash));
        PositionFile { path: state.join("webhooks").join(format!("{name}.json")) }
    }

    /// What the file holds; nothing where the webhook is new.
    pub(super) fn read(&self) -> Result<Option<Told>, SinkError> {
        match std::fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| self.failed(&error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Waits until the disk has it.
    pub(super) fn write(&self, told: &Told) -> Result<(), SinkError> {
        let write = || {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            Staged::of(&self.path, &serde_json::to_vec(told)?)?.publish().map(drop)
        };
        write().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> SinkError {
        let hint = "see that there is space, and that the file may be written";
        SinkError::Database { place: self.path.display().to_string(), why: why(error), hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_again_and_nothing_of_the_url() {
        let state = tempfile::tempdir().unwrap();
        let file = PositionFile::new(state.path(), "https://host/s3cret#t");
        assert_eq!(file.read().unwrap(), None);
        for epoch in [7, 8] {
            let told = Told { epoch, fingerprint: "f".into() };
            file.write(&told).unwrap();
            assert_eq!(PositionFile::new(state.path(), "https://host/s3cret#t").read().unwrap(), Some(told));
        }
        assert_eq!(PositionFile::new(state.path(), "https://host/s3cret#u").read().unwrap(), None);
        assert!(!format!("{file:?}").contains("s3cret"));
        std::fs::write(&file.path, "rubbish").unwrap();
        file.read().unwrap_err();
    }
}
