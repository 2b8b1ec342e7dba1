//! Datasets to be read, one after the other: a queue of jobs, from a directory of datasets or from a file of jobs.
//!
//! A [`JobQueue`] returns the next job until there is none. Here are the two that need nothing but files; a queue that lives elsewhere is
//! one more implementation, and a line in [`open`].

use super::IngestError;
use super::file::InputFile;
use super::format::{self, Content, Kind};
use super::paths;
use super::remote::{self, Remote, Resolved};
use super::unpack::{unpacked, without_bom};
use crate::shown;
use retally_core::contract::DatasetFiles;
use retally_core::split::{Packing, RAW_BYTES_MAX};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// A job of more bytes is refused: 1 MiB.
const JOB_BYTES_MAX: u64 = 1 << 20;
/// How the names of packed streams end.
const PACKED: [&str; 4] = [".gz", ".zst", ".bz2", ".xz"];

/// A dataset to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetJob {
    /// What identifies it.
    pub key: Vec<String>,
    /// Where its streams are.
    pub streams: Vec<String>,
}

/// A line of a file of jobs that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDatasetJob {
    /// The line in its file, from 0.
    pub line: u64,
    /// Why.
    pub reason: String,
    /// Its first bytes, without the secrets of URLs.
    pub raw: Vec<u8>,
}

/// Where jobs come from.
pub trait JobQueue {
    /// The next job, or why it is none; `Ok(None)` when there are no more.
    fn next(&mut self) -> Result<Option<Result<DatasetJob, BadDatasetJob>>, IngestError>;

    /// What the queue is called in summaries and in the table `rejected`.
    fn name(&self) -> &str;

    /// What was found and passed over.
    fn passed_over(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The queues of a path: a directory or a bucket's prefix of datasets, a file of jobs, or a glob of such files.
pub fn open(path: &str, files: &'static DatasetFiles) -> Result<Vec<Box<dyn JobQueue>>, IngestError> {
    let failed = |source| IngestError::Io { what: "find", path: path.into(), source };
    let folders = match remote::resolve(path).map_err(failed)? {
        Resolved::Local(path) => Path::new(&*path).is_dir(),
        Resolved::Remote(Remote::Object(object)) => {
            !path.contains(['*', '?', '[', '{']) && !remote::size(&object).is_ok_and(|size| size.is_some())
        }
        Resolved::Remote(Remote::Web(_)) | Resolved::Unknown => false,
    };
    if folders {
        return Ok(vec![Box::new(Folders::open(path, files)?)]);
    }
    let found = paths::find(path, |kind| kind.content == Content::Json)?;
    let queue = |file: &String| -> Result<Box<dyn JobQueue>, IngestError> { Ok(Box::new(JobsFile::open(file, files)?)) };
    found.files.iter().map(queue).collect()
}

/// A directory of datasets, in order of their names.
pub struct Folders {
    path: String,
    jobs: VecDeque<DatasetJob>,
    passed_over: Vec<String>,
}

impl Folders {
    /// Finds the datasets below `path`: folders that hold one of the streams at least. A stream that is not there is found missing when it
    /// is read.
    pub fn open(path: &str, files: &'static DatasetFiles) -> Result<Folders, IngestError> {
        let (files_below, unnamed) = all_below(path)?;
        let mut folders = Folders { path: path.into(), jobs: VecDeque::new(), passed_over: unnamed };
        // By their folders, which then come in order.
        let mut found: BTreeMap<PathBuf, Vec<Option<String>>> = BTreeMap::new();
        for file in files_below {
            let place = Path::new(&file);
            let name = place.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            let plain = PACKED.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
            let stream = files.streams.iter().position(|(_, file)| plain == *file);
            let parent = place.parent().unwrap_or(Path::new("")).to_path_buf();
            let slot = stream.and_then(|stream| found.entry(parent).or_insert_with(|| vec![None; files.streams.len()]).get_mut(stream));
            match slot {
                // Plain before packed: `brushing.csv` sorts before `brushing.csv.gz`.
                Some(slot @ None) => *slot = Some(file),
                _ => folders.passed_over.push(file),
            }
        }
        for (folder, streams) in found {
            let missing = |file: &str| folder.join(file).display().to_string();
            let key = names_of(&folder, files.keys.len())?;
            let streams = streams.into_iter().zip(files.streams).map(|(found, (_, file))| found.unwrap_or_else(|| missing(file)));
            folders.jobs.push_back(DatasetJob { key, streams: streams.collect() });
        }
        if folders.jobs.is_empty() {
            return Err(IngestError::NoDatasets {
                path: path.into(),
                expected: files.streams.iter().map(|(_, file)| *file).collect::<Vec<_>>().join(" and "),
            });
        }
        Ok(folders)
    }
}

/// All files below a folder or a prefix that are not hidden, in order; and objects whose keys can't be asked for.
fn all_below(path: &str) -> Result<(Vec<String>, Vec<String>), IngestError> {
    let failed = |what| move |source| IngestError::Io { what, path: path.into(), source };
    let path = match remote::resolve(path).map_err(failed("find"))? {
        Resolved::Local(path) => path.into_owned(),
        Resolved::Remote(Remote::Object(prefix)) => {
            let remote::Listed { urls, unnamed } = remote::list(&prefix).map_err(failed("list"))?;
            let below = |url: &String| url.get(path.trim_end_matches('/').len()..).unwrap_or_default().to_string();
            let files = urls.into_iter().filter(|url| !below(url).split('/').any(|part| part.starts_with('.'))).collect();
            return Ok((files, unnamed));
        }
        Resolved::Remote(Remote::Web(_)) | Resolved::Unknown => return Err(IngestError::UnsupportedUrl { path: path.into() }),
    };
    let shown = |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    let mut files = Vec::new();
    for entry in WalkDir::new(&path).follow_links(true).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(Path::new(&path)).display().to_string();
            IngestError::Io { what: "list", path, source: error.into() }
        })?;
        if !entry.file_type().is_dir() {
            let named = remote::location(entry.path());
            files.push(named.map_err(|source| IngestError::Io { what: "list", path: path.display().to_string(), source })?);
        }
    }
    Ok((files, Vec::new()))
}

/// The last names of a folder, which identify its dataset.
fn names_of(folder: &Path, names: usize) -> Result<Vec<String>, IngestError> {
    let named = if folder.to_string_lossy().contains("://") {
        folder.to_path_buf()
    } else {
        // `data/..` or `.` have names too.
        let path = folder.display().to_string();
        std::fs::canonicalize(folder).map_err(|source| IngestError::Io { what: "find", path, source })?
    };
    let mut last: Vec<String> = named.iter().rev().take(names).map(|name| name.to_string_lossy().into_owned()).collect();
    last.reverse();
    Ok(last)
}

impl JobQueue for Folders {
    fn next(&mut self) -> Result<Option<Result<DatasetJob, BadDatasetJob>>, IngestError> {
        Ok(self.jobs.pop_front().map(Ok))
    }

    fn name(&self) -> &str {
        &self.path
    }

    fn passed_over(&mut self) -> Vec<String> {
        std::mem::take(&mut self.passed_over)
    }
}

/// A file of jobs: a JSON object a line.
pub struct JobsFile {
    path: String,
    files: &'static DatasetFiles,
    lines: BufReader<Box<dyn Read>>,
    line: u64,
}

impl JobsFile {
    /// Opens a file of jobs.
    pub fn open(path: &str, files: &'static DatasetFiles) -> Result<JobsFile, IngestError> {
        let expected = ".json, .jsonl, .ndjson, .jsons or .jsonlines, or be a folder of datasets";
        let kind: Option<Kind> = format::kind(path).filter(|kind| kind.content == Content::Json);
        let packing: Packing = kind.ok_or_else(|| IngestError::UnknownFormat { path: path.into(), expected })?.packing;
        let io = |what| move |source| IngestError::Io { what, path: path.into(), source };
        let file = InputFile::open(path).map_err(io("open"))?;
        let (_, stream) = unpacked(file, packing).and_then(without_bom).map_err(io("read"))?;
        Ok(JobsFile { path: path.into(), files, lines: BufReader::new(Box::new(stream)), line: 0 })
    }

    fn job(&self, line: &[u8]) -> Result<DatasetJob, String> {
        let value: serde_json::Value = serde_json::from_slice(line).map_err(|_| "no JSON object".to_string())?;
        let object = value.as_object().ok_or("no JSON object")?;
        let text = |name: &str| match object.get(name) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let missing = |name: &&str| format!("{name} is missing");
        let (last, first) = self.files.keys.split_last().ok_or("datasets have no keys")?;
        let mut key: Vec<String> = first.iter().map(|name| text(name).ok_or_else(|| missing(name))).collect::<Result<_, _>>()?;
        key.push(text(last).or_else(|| text("job_id")).ok_or_else(|| missing(&"job_id"))?);
        let place = |(name, _): &(&str, &str)| text(name).map(|place| beside(&self.path, &place)).ok_or_else(|| missing(name));
        Ok(DatasetJob { key, streams: self.files.streams.iter().map(place).collect::<Result<_, _>>()? })
    }
}

/// What is kept of a line that is no job. Jobs name URLs, with what servers want to be told.
fn raw(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut kept = match shown::text(&text) {
        Cow::Borrowed(_) => line.to_vec(),
        Cow::Owned(masked) => masked.into_bytes(),
    };
    kept.truncate(RAW_BYTES_MAX);
    kept
}

/// A path in a file is relative to that file's folder, or to its object's prefix.
fn beside(file: &str, path: &str) -> String {
    if path.contains("://") {
        return path.into();
    }
    Path::new(file).parent().unwrap_or(Path::new("")).join(path).display().to_string()
}

impl JobQueue for JobsFile {
    fn next(&mut self) -> Result<Option<Result<DatasetJob, BadDatasetJob>>, IngestError> {
        loop {
            let mut line = Vec::new();
            let mut limited = self.lines.by_ref().take(JOB_BYTES_MAX);
            let read = limited.read_until(b'\n', &mut line).and_then(|_| {
                let too_long = line.len() as u64 == JOB_BYTES_MAX && !line.ends_with(b"\n");
                if too_long { self.lines.skip_until(b'\n').map(|_| true) } else { Ok(false) }
            });
            let too_long = read.map_err(|source| IngestError::Io { what: "read", path: self.path.clone(), source })?;
            if line.is_empty() {
                return Ok(None);
            }
            let number = self.line;
            self.line += 1;
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let job = if too_long { Err("a job is longer than 1 MiB".into()) } else { self.job(text) };
            return Ok(Some(job.map_err(|reason| BadDatasetJob { line: number, reason, raw: raw(text) })));
        }
    }

    fn name(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: DatasetFiles = DatasetFiles { keys: &["brush", "set"], streams: &[("a", "a.csv"), ("b", "b.jsonlines")] };

    fn jobs(queue: &mut dyn JobQueue) -> Vec<Result<(String, Vec<String>), (u64, String)>> {
        let job = |job: DatasetJob| (job.key.join("/"), job.streams);
        std::iter::from_fn(|| queue.next().unwrap()).map(|next| next.map(job).map_err(|bad| (bad.line, bad.reason))).collect()
    }

    #[test]
    fn datasets_lie_in_folders_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in [
            "x/t1/d2/a.csv",
            "x/t1/d2/b.jsonlines",
            "x/t1/d1/b.jsonlines.gz",
            "t2/d/a.csv",
            "t2/d/a.csv.gz",
            "t2/d/b.jsonlines",
            "t2/notes.txt",
            ".t/d/a.csv",
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut folders = Folders::open(root, &FILES).unwrap();
        let place = |names: [&str; 2]| names.map(|name| format!("{root}/{name}")).to_vec();
        let expected = [
            ("t2/d", place(["t2/d/a.csv", "t2/d/b.jsonlines"])),
            ("t1/d1", place(["x/t1/d1/a.csv", "x/t1/d1/b.jsonlines.gz"])),
            ("t1/d2", place(["x/t1/d2/a.csv", "x/t1/d2/b.jsonlines"])),
        ];
        assert_eq!(jobs(&mut folders), expected.map(|(key, streams)| Ok((key.to_string(), streams))));
        assert_eq!(folders.passed_over(), [format!("{root}/t2/d/a.csv.gz"), format!("{root}/t2/notes.txt")]);
        let mut one = Folders::open(&format!("{root}/x/t1/d2"), &FILES).unwrap();
        assert_eq!(jobs(&mut one), [Ok(("t1/d2".into(), place(["x/t1/d2/a.csv", "x/t1/d2/b.jsonlines"])))]);
        assert!(matches!(
            Folders::open(&format!("{root}/.t"), &DatasetFiles { keys: &[], streams: &[] }),
            Err(IngestError::NoDatasets { .. })
        ));
    }

    #[test]
    fn a_file_names_jobs_beside_it_or_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.jsonl");
        let lines = [
            r#"{"job_id":"j1","brush":"t","a":"x/a.csv","b":"/abs/b.jsonlines"}"#,
            "",
            r#"{"job_id":7,"brush":8,"set":9,"a":"http://h/a.csv","b":"file:///b"}"#,
            "garbage",
            r#"{"job_id":"j2","brush":"t","a":"x"}"#,
            r#"{"brush":"t","a":"x","b":"y"}"#,
            r#"["job_id"]"#,
        ];
        std::fs::write(&path, format!("\u{feff}{}", lines.join("\r\n"))).unwrap();
        let mut file = JobsFile::open(path.to_str().unwrap(), &FILES).unwrap();
        let beside = format!("{}/x/a.csv", folder.path().display());
        let refused = |line, reason: &str| Err((line, reason.to_string()));
        assert_eq!(
            jobs(&mut file),
            [
                Ok(("t/j1".into(), vec![beside, "/abs/b.jsonlines".into()])),
                Ok(("8/9".into(), vec!["http://h/a.csv".into(), "file:///b".into()])),
                refused(3, "no JSON object"),
                refused(4, "b is missing"),
                refused(5, "job_id is missing"),
                refused(6, "no JSON object"),
            ]
        );
    }
}
