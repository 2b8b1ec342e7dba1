//! What distinguishes a file from another one at the same place: what is read must be what was planned.
//!
//! A file that is cut off, written to, or replaced while a run reads it would be counted in part, and nobody would notice. So whoever plans
//! a batch keeps what each file was, those of datasets too, and readers compare: when they open it, and when they have read their part.
//!
//! # Limits
//! A file of the same size, time and inode is taken to be the same. Another process may read a copy: there, size and ends are compared. A
//! file of a dataset that was not there when it was planned is read as it is found.

use retally_core::split::FileVersion;
use retally_core::time::Moment;
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, LazyLock};

/// So much of a file's beginning and end is compared between processes.
const END_BYTES: u64 = 64 << 10;

/// What is at a place is not what was planned.
#[derive(Debug, thiserror::Error)]
pub enum Changed {
    /// It is another file, or the file has changed.
    #[error("it changed while the run was reading: it was {planned}, and is {found}")]
    Since {
        /// What was planned.
        planned: String,
        /// What is there.
        found: String,
    },
    /// Process 0 has another file under this path.
    #[error("it is another file than that of process 0: there it is {planned}, and here {found}")]
    Elsewhere {
        /// What was planned.
        planned: String,
        /// What is there.
        found: String,
    },
}

impl Changed {
    /// The change that an error is about.
    pub fn of(error: &io::Error) -> Option<&Changed> {
        error.get_ref()?.downcast_ref()
    }

    /// What is found instead of a file that was planned, in words.
    pub fn between(planned: &FileVersion, found: &str) -> Changed {
        match planned.seen_by == this_process() {
            true => Changed::Since { planned: shown_here(planned), found: found.into() },
            false => Changed::Elsewhere { planned: shown_elsewhere(planned), found: found.into() },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Changed::Since { .. } => {
                "nothing was written; give a copy of it that nobody writes to, or what it holds now as a pipe: INPUT=-"
            }
            Changed::Elsewhere { .. } => "nothing was written; every process must have the same files under the same paths",
        }
    }
}

impl From<Changed> for io::Error {
    fn from(changed: Changed) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, changed)
    }
}

/// What distinguishes this process from others, on this host and elsewhere.
fn this_process() -> u64 {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    *PROCESS
}

/// What a file of this process is.
pub fn seen(metadata: &Metadata) -> FileVersion {
    let modified_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    FileVersion { bytes: metadata.len(), modified_ns, inode: metadata.ino(), seen_by: this_process(), ends: None }
}

/// A file that was opened, and must be the same when it has been read.
#[derive(Clone, Debug)]
pub struct Guard {
    file: Arc<File>,
    opened: FileVersion,
}

impl Guard {
    /// Guards an open file. Pipes and devices have no version, and no guard.
    pub fn new(file: &Arc<File>) -> io::Result<Option<Guard>> {
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then(|| Guard { file: Arc::clone(file), opened: seen(&metadata) }))
    }

    /// What the file was when it was opened.
    pub fn version(&self) -> FileVersion {
        self.opened
    }

    /// An error where the file is not what was planned.
    pub fn check_planned(&self, planned: &FileVersion) -> io::Result<()> {
        if planned.seen_by == this_process() {
            return same(planned, &self.opened);
        }
        let ends = planned.ends.map(|_| self.ends()).transpose()?;
        let found = FileVersion { ends, ..self.opened };
        if (planned.bytes, planned.ends) == (found.bytes, found.ends) {
            return Ok(());
        }
        Err(Changed::between(planned, &shown_elsewhere(&found)).into())
    }

    /// An error where the file is not what it was when it was opened.
    pub fn check(&self) -> io::Result<()> {
        same(&self.opened, &seen(&self.file.metadata()?))
    }

    /// A hash of the file's size and its first and last bytes. All processes of a run are of one build, and hash alike.
    pub fn ends(&self) -> io::Result<u64> {
        let mut hasher = DefaultHasher::new();
        self.opened.bytes.hash(&mut hasher);
        let mut end = vec![0; usize::try_from(END_BYTES.min(self.opened.bytes)).unwrap_or(0)];
        for from in [0, self.opened.bytes - end.len() as u64] {
            self.file.read_exact_at(&mut end, from)?;
            end.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }
}

/// What reading gave, of a file that must not have changed when it is over. A change is also why reading fails.
pub fn guarded(guard: Option<&Guard>, read: io::Result<bool>) -> io::Result<bool> {
    match (guard, read) {
        (None, read) | (_, read @ Ok(true)) => read,
        (Some(guard), read) => guard.check().and(read),
    }
}

fn same(planned: &FileVersion, found: &FileVersion) -> io::Result<()> {
    let told = |version: &FileVersion| (version.bytes, version.modified_ns, version.inode);
    if told(planned) == told(found) {
        return Ok(());
    }
    Err(Changed::between(planned, &shown_here(found)).into())
}

fn shown_here(version: &FileVersion) -> String {
    format!("{} bytes of {} (inode {})", version.bytes, Moment(version.modified_ns.div_euclid(1_000)), version.inode)
}

fn shown_elsewhere(version: &FileVersion) -> String {
    match version.ends {
        Some(ends) => format!("{} bytes with ends of hash {ends:016x}", version.bytes),
        None => format!("{} bytes", version.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(path: &std::path::Path) -> Guard {
        Guard::new(&Arc::new(File::open(path).unwrap())).unwrap().unwrap()
    }

    #[test]
    fn a_copy_is_the_same_file_to_another_process_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut text = vec![b'x'; 300_000];
        std::fs::write(path("a"), &text).unwrap();
        std::fs::copy(path("a"), path("copy")).unwrap();
        let planned = guard(&path("a"));
        let here = planned.version();
        let elsewhere = FileVersion { seen_by: here.seen_by.wrapping_add(1), ends: Some(planned.ends().unwrap()), ..here };
        assert!(guard(&path("a")).check_planned(&here).is_ok());
        let error = guard(&path("copy")).check_planned(&here).unwrap_err();
        assert!(error.to_string().starts_with("it changed while the run was reading: it was 300000 bytes of "), "{error}");
        assert!(guard(&path("copy")).check_planned(&elsewhere).is_ok(), "a copy has another inode, and another time");
        for place in [0, 299_999] {
            text[place] = b'y';
            std::fs::write(path("other"), &text).unwrap();
            let error = guard(&path("other")).check_planned(&elsewhere).unwrap_err();
            assert!(error.to_string().starts_with("it is another file than that of process 0: "), "{error}");
            text[place] = b'x';
        }
        std::fs::write(path("other"), &text[1..]).unwrap();
        let error = guard(&path("other")).check_planned(&elsewhere).unwrap_err();
        assert!(error.to_string().contains("300000 bytes") && error.to_string().contains("299999 bytes"), "{error}");
        std::fs::write(path("empty"), "").unwrap();
        assert!(guard(&path("empty")).ends().is_ok());
    }

    #[test]
    fn a_pipe_has_no_version() {
        assert!(Guard::new(&Arc::new(File::open("/dev/null").unwrap())).unwrap().is_none());
    }
}
