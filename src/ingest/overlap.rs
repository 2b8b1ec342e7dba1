//! Whether a file that is to be written is one of those that are read.
//!
//! Files are told by device and inode, so that links and other names of them count. Only what is there already can be read, so nothing is
//! looked for where no file is to be replaced.
//!
//! # Limits
//! Of this machine alone: what is read from buckets and web servers is not written here. A file that appears later is not seen.

use super::batch::{Batch, Part, Source};
use super::jobs;
use super::paths;
use super::plan::is_pipe;
use super::remote::{self, Resolved};
use retally_core::contract::{Definition, InputKind};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns the first file of the batches that is one of the files to be written, as it was found, and the place of that one in `written`.
///
/// What can't be found or read is passed over: whoever reads it reports more of that.
pub fn overlap(definition: &Definition, batches: &[Batch], written: &[PathBuf]) -> Option<(String, usize)> {
    let there: BTreeMap<(u64, u64), usize> = written.iter().zip(0..).filter_map(|(path, place)| Some((file(path)?, place))).collect();
    if there.is_empty() {
        return None;
    }
    let find = |location: &str| {
        let Ok(Resolved::Local(path)) = remote::resolve(location) else { return None };
        Some((location.to_string(), *there.get(&file(&path)?)?))
    };
    let of_part = |part: &Part| {
        let (input, Source::Path(path)) = (definition.inputs.get(part.input)?, &part.source) else { return None };
        if is_pipe(path) || !matches!(remote::resolve(path), Ok(Resolved::Local(_))) {
            return None;
        }
        let InputKind::Datasets(files) = input.kind else {
            return paths::find(path, |_| true).ok()?.files.iter().find_map(|file| find(file));
        };
        let in_queue = |mut queue: Box<dyn jobs::JobQueue>| {
            let file_of_jobs = find(queue.name());
            let of_job = std::iter::from_fn(|| queue.next().ok().flatten()).filter_map(Result::ok);
            file_of_jobs.or_else(|| of_job.flat_map(|job| job.streams).find_map(|stream| find(&stream)))
        };
        jobs::open(path, files).ok()?.into_iter().find_map(in_queue)
    };
    batches.iter().flat_map(|batch| &batch.parts).find_map(of_part)
}

/// What distinguishes a file from another one; nothing of a folder or a device, which is not replaced.
fn file(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().filter(|there| there.is_file()).map(|there| (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::contract::Dataflow;

    fn check(dataflow: &dyn Dataflow, read: &str, written: &Path) -> bool {
        let parts = vec![Part { input: 0, sign: 1, source: Source::Path(read.into()) }];
        overlap(&dataflow.definition(), &[Batch { parts }], &["/none".into(), written.into()]).is_some_and(|(_, place)| place == 1)
    }

    #[test]
    fn files_are_found_by_whatever_name() {
        let dir = tempfile::tempdir().unwrap();
        let [file, other, link, hard] = ["in/a.csv", "in/.b.csv", "link.csv", "hard.csv"].map(|name| dir.path().join(name));
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(&file, "x").unwrap();
        std::fs::write(&other, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::hard_link(&file, &hard).unwrap();
        let online = crate::registry::dataflow("online").unwrap();
        let root = dir.path().display();
        for read in [format!("{root}/in/a.csv"), format!("{root}/in"), format!("{root}/in/*.csv"), format!("file://{root}/link.csv")] {
            for written in [&file, &link, &hard] {
                assert!(check(online, &read, written), "{read} {written:?}");
            }
            // Hidden files are not read.
            assert!(!check(online, &read, &other), "{read}");
        }
        for read in ["-", "s3://bucket/a.csv", "/none", "/dev/null"] {
            assert!(!check(online, read, &file), "{read}");
        }
    }

    #[test]
    fn streams_of_datasets_are_files() {
        let dir = tempfile::tempdir().unwrap();
        let stream = dir.path().join("t/d/brushing.csv");
        std::fs::create_dir_all(stream.parent().unwrap()).unwrap();
        std::fs::write(&stream, "x").unwrap();
        let beside = dir.path().join("t/brushing_daily.csv");
        std::fs::write(&beside, "x").unwrap();
        let brushing = crate::registry::dataflow("brushing").unwrap();
        let folder = dir.path().display().to_string();
        assert!(check(brushing, &folder, &stream));
        assert!(!check(brushing, &folder, &beside), "a table in the folder is no dataset");
    }
}
