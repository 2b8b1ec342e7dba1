//! Tables as files of a directory.
//!
//! All tables are written and synced under temporary names first, and only then renamed one after the other. So the
//! likely failures, a full disk above all, change nothing; and what remains between two renames is a moment.
//!
//! Tables are written at the same time, each by a thread that makes its text and one that brings it to the disk.

use super::{Applied, Deletions, Format, Reached, Sink, SinkError, csv, json, parquet};
use crate::staged::Staged;
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};

/// So many buffers wait to be written at most.
const PIECES_AHEAD: usize = 4;

/// A directory with a file for each table.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    format: Format,
}

impl Directory {
    /// The directory at `path`, which is created when it is written to.
    pub fn new(path: impl Into<PathBuf>, format: Format) -> Directory {
        Directory { path: path.into(), format }
    }
}

impl Sink for Directory {
    fn reached(&mut self, _: &str) -> Result<Option<Reached>, SinkError> {
        Ok(None)
    }

    /// A file is replaced as a whole.
    fn apply(&mut self, _: &[Table], _: &BTreeMap<String, Vec<RowBatch>>, _: &Reached) -> Result<Applied, SinkError> {
        Ok(Applied::MustBring)
    }

    fn bring(&mut self, tables: &[&TableState], _: &Reached, _: Deletions) -> Result<Vec<String>, SinkError> {
        let paths = write_directory(&self.path, self.format, tables)?;
        Ok(paths.into_iter().map(|path| path.display().to_string()).collect())
    }
}

/// Writes `dir/<table>.<format>` for each table, instead of files of that name. Returns their paths.
fn write_directory(dir: &Path, format: Format, tables: &[&TableState]) -> Result<Vec<PathBuf>, SinkError> {
    std::fs::create_dir_all(dir).map_err(|cause| SinkError::CreateDirectory { path: dir.into(), cause })?;
    let path = |table: &TableState| dir.join(format!("{}.{}", table.table().name, format.extension()));
    let stage = |table: &&TableState| stage(table, format, &path(table)).map_err(|cause| SinkError::Write { path: path(table), cause });
    // Each table by a thread of its own: what they wait for is mostly the disk.
    let staged: Vec<Result<Staged, SinkError>> = std::thread::scope(|scope| {
        let writing: Vec<_> = tables.iter().map(|table| scope.spawn(|| stage(table))).collect();
        writing.into_iter().map(|table| table.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let staged: Vec<Staged> = staged.into_iter().collect::<Result<_, _>>()?;
    staged.into_iter().map(publish).collect()
}

fn stage(table: &TableState, format: Format, path: &Path) -> io::Result<Staged> {
    let mut staged = Staged::create(path)?;
    in_background(staged.file(), |out| match format {
        Format::Csv => csv::write(table, out),
        Format::CsvSafe => csv::write_safe(table, out),
        Format::Json => json::write(table, out),
        Format::Parquet => parquet::write(table, out),
    })?;
    staged.sync()?;
    Ok(staged)
}

/// Has what `make` writes brought to `out` by another thread, while the next is made.
fn in_background(out: &mut (impl Write + Send), make: impl FnOnce(&mut Background) -> io::Result<()>) -> io::Result<()> {
    std::thread::scope(|scope| {
        let (pieces, coming) = mpsc::sync_channel::<Vec<u8>>(PIECES_AHEAD);
        let writing = scope.spawn(move || coming.into_iter().try_for_each(|piece| out.write_all(&piece)));
        let mut background = Background(pieces);
        let made = make(&mut background);
        drop(background);
        // When writing failed, making did only because of that.
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(made)
    })
}

/// Hands what is written to the thread that writes it. Formats write large pieces.
struct Background(SyncSender<Vec<u8>>);

impl Write for Background {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn publish(staged: Staged) -> Result<PathBuf, SinkError> {
    let path = staged.path().to_path_buf();
    staged.publish().map_err(|cause| SinkError::Publish { path, cause })
}

#[cfg(test)]
mod tests {
    use super::super::buffer::TextBuffer;
    use super::super::cells::tests::{sample, state};
    use super::*;

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
        for _ in 0..2 {
            for format in [Format::Csv, Format::Json, Format::Parquet] {
                let paths = write_directory(&out, format, &[&full, &empty]).unwrap();
                let extension = format.extension();
                assert_eq!(paths, [out.join(format!("sample.{extension}")), out.join(format!("rejected.{extension}"))]);
            }
        }
        assert_eq!(names(&out), ["rejected.csv", "rejected.json", "rejected.parquet", "sample.csv", "sample.json", "sample.parquet"]);
        let fewer = state(sample().table().columns.clone(), []);
        let reached = Reached { dataflow: "sample".into(), epoch: 1, fingerprint: String::new() };
        let written = Directory::new(&out, Format::Csv).bring(&[&fewer], &reached, Deletions::Any).unwrap();
        assert_eq!(written, [out.join("sample.csv").display().to_string()]);
        assert_eq!(std::fs::read_to_string(out.join("sample.csv")).unwrap().lines().count(), 1, "the old rows are gone");
    }

    #[test]
    fn a_failure_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (full, empty) = (sample(), TableState::new(Table::rejected()));
        std::fs::write(dir.path().join("sample.csv"), "old").unwrap();
        std::fs::create_dir(dir.path().join("rejected.csv")).unwrap();
        let error = write_directory(dir.path(), Format::Csv, &[&full, &empty]).unwrap_err();
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
            let error = write_directory(&path, Format::Json, &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("could not create directory {path:?}: a file stands where a directory is needed"));
        }
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
        let write = |format, out: &mut Faulty| match format {
            Format::Csv => csv::write(&table, out),
            Format::CsvSafe => csv::write_safe(&table, out),
            Format::Json => json::write(&table, out),
            Format::Parquet => parquet::write(&table, out),
        };
        for format in [Format::Csv, Format::Json, Format::Parquet] {
            let mut failures = 0;
            while let Err(error) = write(format, &mut Faulty(failures)) {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{format:?}, write {failures}: {error}");
                failures += 1;
            }
            assert!((2..100).contains(&failures), "{format:?} took {failures} writes");
        }
    }

    #[test]
    fn what_is_written_in_the_background_arrives_or_its_failure_does() {
        let mut out = Vec::new();
        let numbers = |out: &mut Background| {
            let mut pieces = TextBuffer::new(out);
            (0..300_000).try_for_each(|number| pieces.add(|text| text.extend(format!("{number}\n").bytes())))?;
            pieces.flush()
        };
        in_background(&mut out, numbers).unwrap();
        assert!(String::from_utf8(out).unwrap().lines().map(|line| line.parse::<u32>().unwrap()).eq(0..300_000));
        assert_eq!(in_background(&mut Faulty(7), numbers).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let failed = in_background(&mut Vec::new(), |_| Err(io::ErrorKind::InvalidData.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_rename_that_fails_leaves_old_and_new_tables_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a.csv", "b.csv", "c.csv"].map(|name| dir.path().join(name));
        std::fs::write(&paths[2], "old").unwrap();
        let staged: Vec<Staged> = paths.iter().map(|path| stage(&sample(), Format::Csv, path).unwrap()).collect();
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
        for write in [csv::write, json::write] {
            let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let error = write(&table, &mut full).unwrap_err();
            assert_eq!(crate::staged::why(&error), "no space is left on the disk");
        }
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = parquet::write(&table, &mut full).unwrap_err();
        assert_eq!(crate::staged::why(&error), "no space is left on the disk");
    }
}
