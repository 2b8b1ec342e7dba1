//! Tables as files of a directory.
//!
//! All tables are written and synced under temporary names first, and only then renamed one after the other. So the
//! likely failures, a full disk above all, change nothing; and what remains between two renames is a moment, in which [`manifest`] says
//! which tables are not to be trusted. Points that belong into the directory are complete by then, and are renamed after the tables.
//!
//! Tables are written at the same time, each by a thread that has its text made by all processors and brings it to the disk. One process
//! writes at a time: it holds a lock, `.retally.lock`, from the time that the directory is opened.

use super::compare::{self, Deviation, Summed};
use super::manifest::{self, Manifest, Written};
use super::{Applied, Deletions, Format, Held, Reached, Sink, SinkError};
use crate::interrupt::{Section, Temporary};
use crate::lock::{Lock, LockError};
use crate::points::staged::StagedPoints;
use crate::staged::{Staged, parent, sweep};
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The file that a writer locks.
const LOCK: &str = ".retally.lock";
/// How often a directory is created that others remove at the same time.
const TRIES_MAX: usize = 100;
/// So many files are named in a remark.
const NAMED_MAX: usize = 3;

/// A directory with a file for each table, and a lock on it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    format: Format,
    remarks: Vec<String>,
    /// Those that are to be put in their places with the tables, with their names.
    points: Vec<(String, StagedPoints)>,
    /// Given back before the folders that were created for it are looked at.
    _lock: Lock,
    _created: Created,
}

impl Directory {
    /// The directory at `path`, which is created where it is missing, and gone again when nothing comes to be in it.
    pub fn open(path: impl Into<PathBuf>, format: Format) -> Result<Directory, SinkError> {
        let path = path.into();
        let failed = |cause| SinkError::CreateDirectory { path: path.clone(), cause };
        for _ in 0..TRIES_MAX {
            let created = Created::create(&path).map_err(failed)?;
            let lock = match Lock::take(&path.join(LOCK)) {
                Ok(lock) => lock,
                Err(LockError::Held(holder)) => return Err(SinkError::InUse { place: path.display().to_string(), holder }),
                // Whoever had created the directory has removed it again.
                Err(LockError::Io(cause)) if cause.kind() == io::ErrorKind::NotFound => continue,
                Err(LockError::Io(cause)) => return Err(failed(cause)),
            };
            sweep(&path);
            return Ok(Directory { path, format, remarks: Vec::new(), points: Vec::new(), _lock: lock, _created: created });
        }
        Err(failed(io::ErrorKind::NotFound.into()))
    }

    /// What the directory says of itself; told where that is not true of all that is there.
    fn look(&mut self, names: &[String]) -> Manifest {
        let mut manifest = Manifest::read(&self.path).unwrap_or_default();
        let pending = manifest.look_at(&self.path);
        let (written, left): (Vec<String>, Vec<String>) = pending.into_iter().partition(|name| names.contains(name));
        let place = self.path.display().to_string();
        if !written.is_empty() {
            self.remarks.push(format!("repaired {place:?}: {} were not as a whole run had left them", named(&written)));
        }
        if !left.is_empty() {
            let files = named(&left);
            self.remarks.push(format!("{place:?} is not whole yet: {files} of an earlier run may not fit the others; write them too"));
        }
        manifest
    }
}

/// Some names, and how many others there are.
fn named(names: &[String]) -> String {
    let first = names.iter().take(NAMED_MAX).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first,
        others => format!("{first} and {others} others"),
    }
}

/// Folders that were created, each within the one before, and that are removed when they are empty.
#[derive(Debug)]
struct Created(Vec<(PathBuf, Temporary)>);

impl Created {
    fn create(path: &Path) -> io::Result<Created> {
        let mut created = Created(Vec::new());
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        for path in missing.into_iter().rev() {
            let made = Temporary::make(|| std::fs::create_dir(path).map(|()| ((), path.to_path_buf())));
            match made {
                Ok(((), temporary)) => created.0.push((path.into(), temporary)),
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        if path.is_dir() { Ok(created) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|(path, _)| drop(std::fs::remove_dir(path)));
    }
}

impl Sink for Directory {
    fn reached(&mut self, _: &str) -> Result<Option<Reached>, SinkError> {
        Ok(None)
    }

    /// A file is replaced as a whole.
    fn apply(&mut self, _: &[Table], _: &BTreeMap<String, Vec<RowBatch>>, _: [&Reached; 2]) -> Result<Applied, SinkError> {
        Ok(Applied::MustBring)
    }

    fn bring(&mut self, tables: &[&TableState], reached: &Reached, _: Deletions) -> Result<Vec<String>, SinkError> {
        let paths = self.write(tables, reached)?;
        Ok(paths.into_iter().map(|path| path.display().to_string()).collect())
    }

    fn compare(&mut self, tables: &[&TableState], dataflow: &str) -> Result<Option<Held>, SinkError> {
        let manifest = Manifest::read(&self.path).unwrap_or_default();
        let Some(epoch) = manifest.epoch_of(dataflow) else { return Ok(None) };
        let deviation = |table: &&TableState| {
            let name = |format: Format| format!("{}.{}", table.table().name, format.extension());
            let Some(format) = Format::ALL.into_iter().find(|format| manifest.has(&name(*format), dataflow)) else {
                return Ok(Deviation { missing: table.len(), others: 0 });
            };
            let path = self.path.join(name(format));
            compare::file(table, format, &path).map_err(|cause| SinkError::Read { path, cause })
        };
        Ok(Some(Held { epoch, deviations: tables.iter().map(deviation).collect::<Result<_, _>>()? }))
    }

    fn take_points(&mut self, points: StagedPoints) -> Option<StagedPoints> {
        let name = points.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let is_here = || std::fs::canonicalize(parent(points.path())).ok() == std::fs::canonicalize(&self.path).ok();
        match name.filter(|_| is_here()) {
            Some(name) => {
                self.points.push((name, points));
                None
            }
            None => Some(points),
        }
    }

    fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }
}

impl Directory {
    /// Writes `dir/<table>.<format>` for each table, instead of files of that name, and puts the points that belong to them in
    /// their places. Returns the paths of the tables.
    fn write(&mut self, tables: &[&TableState], reached: &Reached) -> Result<Vec<PathBuf>, SinkError> {
        let (dir, format) = (self.path.clone(), self.format);
        let name = |table: &TableState| format!("{}.{}", table.table().name, format.extension());
        let stage = |table: &&TableState| {
            let path = dir.join(name(table));
            stage(table, format, &path).map_err(|cause| SinkError::Write { path, cause })
        };
        // Each table by a thread of its own: what they wait for is mostly the disk.
        let staged: Vec<Result<(Staged, Written), SinkError>> = std::thread::scope(|scope| {
            let writing: Vec<_> = tables.iter().map(|table| scope.spawn(|| stage(table))).collect();
            writing.into_iter().map(|table| table.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let (staged, written): (Vec<Staged>, Vec<Written>) = staged.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let names: Vec<String> = tables.iter().map(|table| name(table)).collect();
        let (points, files): (Vec<String>, Vec<StagedPoints>) = std::mem::take(&mut self.points).into_iter().unzip();
        let all: Vec<String> = names.iter().chain(&points).cloned().collect();
        let before = self.look(&all);
        let during = stage_manifest(&dir, &before.replacing(all.iter()))?;
        let after = stage_manifest(&dir, &before.replaced(names.into_iter().zip(written).collect(), &points, reached))?;
        let section = Section::begin();
        publish(during)?;
        let paths = staged.into_iter().map(publish).collect::<Result<_, _>>()?;
        files.into_iter().try_for_each(StagedPoints::publish).map_err(SinkError::Points)?;
        publish(after)?;
        section.published();
        Ok(paths)
    }
}

fn stage_manifest(dir: &Path, manifest: &Manifest) -> Result<Staged, SinkError> {
    let path = dir.join(manifest::NAME);
    manifest.to_bytes().and_then(|bytes| Staged::of(&path, &bytes)).map_err(|cause| SinkError::Write { path, cause })
}

fn stage(table: &TableState, format: Format, path: &Path) -> io::Result<(Staged, Written)> {
    let mut staged = Staged::create(path)?;
    let mut summed = Summed::new(staged.file());
    format.write(table, &mut summed)?;
    let written = Written::new(table.len(), summed.size, summed.crc32());
    staged.sync()?;
    Ok((staged, written))
}

fn publish(staged: Staged) -> Result<PathBuf, SinkError> {
    let path = staged.path().to_path_buf();
    staged.publish().map_err(|cause| SinkError::Publish { path, cause })
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::{sample, state};
    use super::*;
    use std::io::Write;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn tables_are_replaced_in_every_format() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a/b");
        let (full, empty) = (sample(), TableState::new(Table::rejected()));
        let reached = Reached { dataflow: "sample".into(), epoch: 1, fingerprint: String::new() };
        for _ in 0..2 {
            for format in [Format::Csv, Format::Json, Format::Parquet] {
                let paths = Directory::open(&out, format).unwrap().write(&[&full, &empty], &reached).unwrap();
                let extension = format.extension();
                assert_eq!(paths, [out.join(format!("sample.{extension}")), out.join(format!("rejected.{extension}"))]);
            }
        }
        let files = ["rejected.csv", "rejected.json", "rejected.parquet", "retally.json", "sample.csv", "sample.json", "sample.parquet"];
        assert_eq!(names(&out), files);
        let fewer = state(sample().table().columns.clone(), []);
        let written = Directory::open(&out, Format::Csv).unwrap().bring(&[&fewer], &reached, Deletions::Any).unwrap();
        assert_eq!(written, [out.join("sample.csv").display().to_string()]);
        assert_eq!(std::fs::read_to_string(out.join("sample.csv")).unwrap().lines().count(), 1, "the old rows are gone");
    }

    #[test]
    fn a_failure_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (full, empty) = (sample(), TableState::new(Table::rejected()));
        std::fs::write(dir.path().join("sample.csv"), "old").unwrap();
        std::fs::create_dir(dir.path().join("rejected.csv")).unwrap();
        let reached = Reached { dataflow: "sample".into(), epoch: 1, fingerprint: String::new() };
        let error = Directory::open(dir.path(), Format::Csv).unwrap().write(&[&full, &empty], &reached).unwrap_err();
        assert_eq!(error.to_string(), format!("could not write table {:?}: it is a directory", dir.path().join("rejected.csv")));
        assert_eq!(names(dir.path()), ["rejected.csv", "sample.csv"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("sample.csv")).unwrap(), "old");
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = Directory::open(&path, Format::Json).unwrap_err();
            assert_eq!(error.to_string(), format!("could not create directory {path:?}: a file stands where a directory is needed"));
        }
    }

    #[test]
    fn a_directory_has_one_writer_and_is_gone_when_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a/b");
        let first = Directory::open(&out, Format::Csv).unwrap();
        let error = Directory::open(&out, Format::Csv).unwrap_err();
        assert!(error.to_string().starts_with(&format!("could not write tables to {:?}: process ", out.display().to_string())), "{error}");
        assert!(error.to_string().ends_with(" is writing there"), "{error}");
        drop(first);
        assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
    }

    #[test]
    fn a_directory_says_what_is_whole_and_the_next_run_repairs_it() {
        let dir = tempfile::tempdir().unwrap();
        let reached = Reached { dataflow: "sample".into(), epoch: 3, fingerprint: "f".into() };
        let (full, empty) = (sample(), TableState::new(Table::rejected()));
        let write = |tables: &[&TableState]| {
            let mut directory = Directory::open(dir.path(), Format::Csv).unwrap();
            directory.write(tables, &reached).unwrap();
            directory.remarks()
        };
        let json = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(dir.path().join("retally.json")).unwrap()).unwrap();
        assert_eq!(write(&[&full, &empty]), Vec::<String>::new());
        let whole = json();
        assert_eq!((&whole["complete"], &whole["epoch"], &whole["fingerprint"]), (&true.into(), &3.into(), &"f".into()));
        let bytes = std::fs::read(dir.path().join("sample.csv")).unwrap();
        let file = &whole["files"]["sample.csv"];
        assert_eq!((&file["rows"], &file["size"]), (&3.into(), &bytes.len().into()));
        assert_eq!(file["crc32"], format!("{:08x}", crc32fast::hash(&bytes)));
        // Killed between two renames.
        let manifest = Manifest::read(dir.path()).unwrap();
        publish(stage_manifest(dir.path(), &manifest.replacing(["sample.csv", "rejected.csv"].map(String::from).iter())).unwrap()).unwrap();
        std::fs::write(dir.path().join(".retally-dead.tmp"), "half").unwrap();
        let [repaired, left] = write(&[&full]).try_into().unwrap();
        assert!(repaired.contains("repaired") && repaired.contains("\"sample.csv\""), "{repaired}");
        assert!(left.contains("is not whole yet: \"rejected.csv\""), "{left}");
        assert_eq!(json()["complete"], false);
        assert_eq!(write(&[&full, &empty]).len(), 1);
        assert_eq!(json(), whole, "the same tables are the same run");
        assert_eq!(names(dir.path()), ["rejected.csv", "retally.json", "sample.csv"]);
    }

    /// Accepts so many writes and no more.
    struct Faulty(usize);

    impl Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            // In small pieces, so that there are many writes to fail.
            Ok(bytes.len().min(100))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whichever_write_fails_is_reported_as_it_was() {
        let table = sample();
        for format in [Format::Csv, Format::Json, Format::Parquet] {
            let mut failures = 0;
            while let Err(error) = format.write(&table, &mut Faulty(failures)) {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{format:?}, write {failures}: {error}");
                failures += 1;
            }
            assert!((2..100).contains(&failures), "{format:?} took {failures} writes");
        }
    }

    #[test]
    fn a_rename_that_fails_leaves_old_and_new_tables_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a.csv", "b.csv", "c.csv"].map(|name| dir.path().join(name));
        std::fs::write(&paths[2], "old").unwrap();
        let staged: Vec<Staged> = paths.iter().map(|path| stage(&sample(), Format::Csv, path).unwrap().0).collect();
        std::fs::create_dir(&paths[1]).unwrap();
        let error = staged.into_iter().map(publish).collect::<Result<Vec<_>, _>>().unwrap_err();
        assert_eq!(error.to_string(), format!("could not put the complete table in place at {:?}: it is a directory", paths[1]));
        assert_eq!(names(dir.path()), ["a.csv", "b.csv", "c.csv"]);
        assert!(std::fs::read_to_string(&paths[0]).unwrap().starts_with("day,"));
        assert_eq!(std::fs::read_to_string(&paths[2]).unwrap(), "old");
    }

    #[test]
    fn a_full_disk_is_an_error_of_every_format() {
        let table = sample();
        for format in Format::ALL {
            let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let error = format.write(&table, &mut full).unwrap_err();
            assert_eq!(crate::staged::why(&error), "no space is left on the disk");
        }
    }
}
