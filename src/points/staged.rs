//! Points in a file that appears complete or not at all.
//!
//! Process 0 collects the points of a run in a file beside the one that was asked for, `points.lp.partial`. It holds a lock on it, so that
//! no other run writes to it as well, and gives it its name when the run has done all else. A run that fails removes it. So the file that
//! was there before is the old one, or all of the new one. The new file has the mode of the old one. A symbolic link stays one: what it
//! leads to is replaced, and the partial file lies beside that.
//!
//! When all points are there, its lines are put in order ([`super::in_order`]), in a file of its own beside it.
//!
//! Each other process writes a part of its own beside it. File systems of several hosts do not append in turn, so no two processes write
//! to one file. When all have written the last of their points, process 0 appends the parts. That takes them to see the same folder, which
//! is proven before anything is read: process 0 writes a number that nobody can know into its file, and shows it to the others when they
//! meet; each looks for it in the file at its own path.
//!
//! # Limits
//! Only regular files: a device or a pipe is written as points come, by one process. A run that is killed leaves its files; the next one
//! begins a new partial file, and removes the parts.

use super::{Destination, PointsError, in_order};
use crate::interrupt::Temporary;
use crate::staged::{beside, is_at, lock, parent, target};
use std::fs::{File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How often the file is opened again, when others have put it in its place meanwhile.
const LOCK_TRIES_MAX: usize = 100;
/// What stands before the number in the partial file. As a line of the protocol it is a comment.
const MARK: &str = "# retally ";
/// What the name of the file ends with whose lines are in order.
const ORDERED: &str = ".ordered";
/// A file on its way can be written and read by its owner, whatever the mode of the one that it replaces.
const OWNER: u32 = 0o600;

/// Where the points of a run go in one process, before the processes have met.
#[derive(Debug)]
pub struct Staging {
    destination: Destination,
    process: usize,
    /// Where process 0 collects points that go to a file: beside what the path leads to.
    partial: PathBuf,
    /// The mode of the file that is replaced.
    mode: Option<u32>,
    /// What process 0 puts in its place.
    file: Option<StagedPoints>,
}

/// A file of points on its way, of process 0.
#[derive(Debug)]
pub struct StagedPoints {
    partial: PathBuf,
    /// As given, and where that leads to.
    path: PathBuf,
    target: PathBuf,
    /// That of the file that is replaced.
    mode: Option<u32>,
    parts: Vec<PathBuf>,
    /// Where its lines are in order, if not in itself.
    ordered: Option<(PathBuf, Temporary)>,
    published: bool,
    /// Its lock goes with it.
    locked: File,
    _temporary: Temporary,
}

/// The part of another process, which goes with it.
#[derive(Debug)]
pub struct Part(PathBuf);

/// What is opened on a process.
#[derive(Debug)]
pub struct Staged {
    /// Where it writes.
    pub destination: Destination,
    /// On process 0, what puts it in its place.
    pub file: Option<StagedPoints>,
    /// On others, their part.
    pub part: Option<Part>,
}

/// A number that no other run has, and that is not 0.
pub fn mark() -> u64 {
    RandomState::new().hash_one(std::process::id()) | 1
}

impl Staging {
    /// Begins to write points, in one of so many processes.
    pub fn begin(destination: &Destination, process: usize, processes: usize) -> Result<Staging, PointsError> {
        let mut staging = Staging { destination: destination.clone(), process, partial: PathBuf::new(), mode: None, file: None };
        let Destination::File(path) = destination else { return Ok(staging) };
        let failed = |source: io::Error| PointsError::NotOpened { name: path.display().to_string(), source };
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() && processes > 1 => return Err(PointsError::NoFile(path.display().to_string())),
            Ok(found) if !found.is_file() => return Ok(staging),
            Ok(found) => staging.mode = Some(found.permissions().mode()),
            Err(_) => {}
        }
        let target = target(path).map_err(failed)?;
        staging.partial = beside(&target, ".partial");
        if process == 0 {
            let (partial, path, mode) = (staging.partial.clone(), path.clone(), staging.mode);
            let (locked, temporary) = locked(&partial, mode).map_err(failed)?;
            remove_parts(&partial);
            let (parts, ordered) = (Vec::new(), None);
            staging.file =
                Some(StagedPoints { partial, path, target, mode, parts, ordered, published: false, locked, _temporary: temporary });
        }
        Ok(staging)
    }

    /// Writes the number that other processes are to find.
    pub fn show(&self, mark: u64) -> Result<(), PointsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let written = file.locked.set_len(0).and_then(|()| (&file.locked).write_all(format!("{MARK}{mark:016x}\n").as_bytes()));
        let synced = written.and_then(|()| file.locked.sync_all());
        synced.map_err(|source| PointsError::NotOpened { name: file.path.display().to_string(), source })
    }

    /// Whether this process sees what process 0 has written, where it must.
    pub fn sees(&self, mark: u64) -> bool {
        if !matches!(self.destination, Destination::File(_)) {
            return true;
        }
        let sought = format!("{MARK}{mark:016x}\n");
        let mut found = String::new();
        // That of a run that was killed may be long.
        let read = File::open(&self.partial).and_then(|file| file.take(2 * sought.len() as u64).read_to_string(&mut found));
        read.is_ok() && found == sought
    }

    /// Goes on, once the processes have met.
    pub fn meet(self, mark: u64, processes: usize) -> Staged {
        let Staging { destination, process, partial, mode, file } = self;
        match (&destination, file) {
            (Destination::File(_), Some(mut file)) => {
                file.parts = (1..processes).map(|process| part_of(&file.partial, mark, process)).collect();
                Staged { destination: Destination::File(file.partial.clone()), file: Some(file), part: None }
            }
            (Destination::File(_), None) if process > 0 => {
                let part = part_of(&partial, mark, process);
                // Where it can't be made, whoever opens it to write says so.
                mode.and_then(|mode| open(&part).and_then(|file| restrict(&file, mode)).ok());
                Staged { destination: Destination::File(part.clone()), file: None, part: Some(Part(part)) }
            }
            _ => Staged { destination, file: None, part: None },
        }
    }
}

fn part_of(partial: &Path, mark: u64, process: usize) -> PathBuf {
    beside(partial, &format!(".{mark:016x}.{process}"))
}

/// Removes what runs that were killed have left. Under the lock no other run has parts.
fn remove_parts(partial: &Path) {
    std::fs::remove_file(beside(partial, ORDERED)).ok();
    let Some(name) = partial.file_name() else { return };
    let name = name.to_string_lossy();
    let is_part = |other: &str| {
        let numbers = other.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.'));
        numbers.is_some_and(|(mark, process)| mark.len() == 16 && u64::from_str_radix(mark, 16).is_ok() && process.parse::<usize>().is_ok())
    };
    let found = std::fs::read_dir(parent(partial)).into_iter().flatten().flatten();
    for entry in found.filter(|entry| is_part(&entry.file_name().to_string_lossy())) {
        std::fs::remove_file(entry.path()).ok();
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Nobody else reads a file on its way than may read the one of this mode that it replaces.
fn restrict(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode | OWNER))
}

fn locked(partial: &Path, mode: Option<u32>) -> io::Result<(File, Temporary)> {
    if let Some(folder) = partial.parent() {
        std::fs::create_dir_all(folder)?;
    }
    for _ in 0..LOCK_TRIES_MAX {
        let (file, temporary) = Temporary::make(|| {
            let file = open(partial)?;
            if lock(&file) {
                mode.map_or(Ok(()), |mode| restrict(&file, mode))?;
                return Ok((file, partial.to_path_buf()));
            }
            let holder = holder(&file).map(|process| format!(": process {process}")).unwrap_or_default();
            Err(io::Error::other(format!("another run is writing it{holder}")))
        })?;
        // Another run may have put the file in its place before it was locked here.
        if is_at(&file, partial) {
            return Ok((file, temporary));
        }
    }
    Err(io::Error::other("others put it in place again and again"))
}

/// The process that has locked a file, where the system reports it.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    // `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF`
    std::fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == "FLOCK").then_some(())?;
        let (process, place) = (words.nth(2)?, words.next()?);
        place.rsplit(':').next().filter(|found| *found == inode)?;
        process.parse().ok().filter(|process| *process > 0)
    })
}

impl StagedPoints {
    /// Appends what other processes have written, and puts all lines in order. All that write must be done.
    pub fn collect(&mut self) -> Result<(), PointsError> {
        for part in &self.parts {
            let copied = File::open(part).and_then(|mut part| io::copy(&mut part, &mut &self.locked));
            copied.map_err(|source| PointsError::Collect { name: part.display().to_string(), source })?;
            // It is of no use any more; its process removes it, too.
            std::fs::remove_file(part).ok();
        }
        let put_in_order = || -> io::Result<Option<(PathBuf, Temporary)>> {
            let path = beside(&self.partial, ORDERED);
            let mut temporary = None;
            let file = in_order::write(&File::open(&self.partial)?, || {
                let (file, held) = Temporary::make(|| {
                    let file = File::create(&path)?;
                    self.mode.map_or(Ok(()), |mode| restrict(&file, mode))?;
                    Ok((file, path.clone()))
                })?;
                temporary = Some(held);
                Ok(file)
            })?;
            file.as_ref().unwrap_or(&self.locked).sync_all()?;
            Ok(temporary.map(|held| (path, held)))
        };
        self.ordered = put_in_order().map_err(|source| PointsError::Publish { name: self.path.display().to_string(), source })?;
        Ok(())
    }

    /// What it is to become, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name.
    pub fn publish(mut self) -> Result<(), PointsError> {
        let place = || {
            let whole = self.ordered.as_ref().map_or(&self.partial, |(ordered, _)| ordered);
            self.mode.map_or(Ok(()), |mode| std::fs::set_permissions(whole, Permissions::from_mode(mode)))?;
            std::fs::rename(whole, &self.target)?;
            // The new name is on the disk once the directory is.
            File::open(parent(&self.target))?.sync_all()
        };
        place().map_err(|source| PointsError::Publish { name: self.path.display().to_string(), source })?;
        self.published = self.ordered.is_none();
        Ok(())
    }
}

impl Drop for StagedPoints {
    fn drop(&mut self) {
        if !self.published {
            // It may be gone, and then there is nothing to remove.
            std::fs::remove_file(&self.partial).ok();
            self.ordered.iter().for_each(|(ordered, _)| drop(std::fs::remove_file(ordered)));
            // Those of processes that were killed.
            self.parts.iter().for_each(|part| drop(std::fs::remove_file(part)));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Process 0 has removed it, when all went well.
        std::fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn alone(destination: &Destination) -> Result<Staged, PointsError> {
        Staging::begin(destination, 0, 1).map(|staging| staging.meet(0, 1))
    }

    fn write(destination: &Destination, process: usize, line: &str) {
        let Destination::File(path) = destination else { panic!() };
        destination.open(process).unwrap().finish().unwrap();
        OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_appears_when_it_is_published_and_one_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/points.lp");
        let destination = Destination::File(path.clone());
        let staged = alone(&destination).unwrap();
        write(&staged.destination, 0, "a\n");
        assert_eq!(names(path.parent().unwrap()), ["points.lp.partial"]);
        let mut file = staged.file.unwrap();
        file.collect().unwrap();
        file.publish().unwrap();
        assert_eq!((names(path.parent().unwrap()), std::fs::read(&path).unwrap()), (vec!["points.lp".into()], b"a\n".to_vec()));
        drop(alone(&destination).unwrap());
        assert_eq!((names(path.parent().unwrap()), std::fs::read(&path).unwrap()), (vec!["points.lp".into()], b"a\n".to_vec()));
    }

    #[test]
    fn processes_write_parts_which_are_collected_or_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.lp");
        let destination = Destination::File(path.clone());
        let begin = |process: usize| Staging::begin(&destination, process, 3).unwrap();
        std::fs::write(folder.path().join("points.lp.partial.0123456789abcdef.1"), "of a run that was killed\n").unwrap();
        for fails in [true, false] {
            let (first, others) = (begin(0), [begin(1), begin(2)]);
            assert!(!others[0].sees(7), "it is not shown yet");
            first.show(7).unwrap();
            assert!(others[0].sees(7) && !others[1].sees(8));
            let mut staged: Vec<Staged> = std::iter::once(first).chain(others).map(|staging| staging.meet(7, 3)).collect();
            for (process, staged) in staged.iter().enumerate() {
                write(&staged.destination, process, &format!("{process}\n"));
            }
            assert_eq!(names(folder.path()).len(), 3);
            let mut file = staged[0].file.take().unwrap();
            if fails {
                std::fs::remove_file(folder.path().join("points.lp.partial.0000000000000007.2")).unwrap();
                let error = file.collect().unwrap_err().to_string();
                assert!(error.starts_with("could not collect points from"), "{error}");
                drop((staged, file));
                assert_eq!(names(folder.path()), [""; 0]);
            } else {
                file.collect().unwrap();
                file.publish().unwrap();
                drop(staged);
                assert_eq!((names(folder.path()), std::fs::read_to_string(&path).unwrap()), (vec!["points.lp".into()], "0\n1\n2\n".into()));
            }
        }
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| path(name).metadata().unwrap().permissions().mode() & 0o777;
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::fs::write(path("elsewhere/old"), "old").unwrap();
        std::fs::set_permissions(path("elsewhere/old"), Permissions::from_mode(0o440)).unwrap();
        std::os::unix::fs::symlink("elsewhere/old", path("points.lp")).unwrap();
        let destination = Destination::File(path("points.lp"));
        let [first, second] = [0, 1].map(|process| Staging::begin(&destination, process, 2).unwrap());
        first.show(7).unwrap();
        assert!(second.sees(7));
        let [mut first, second] = [first, second].map(|staging| staging.meet(7, 2));
        write(&first.destination, 0, "0\n");
        write(&second.destination, 1, "1\n");
        // Nobody else reads them in the meantime.
        assert_eq!(names(&path("elsewhere")), ["old", "old.partial", "old.partial.0000000000000007.1"]);
        assert_eq!(["elsewhere/old.partial", "elsewhere/old.partial.0000000000000007.1"].map(mode), [0o640, 0o640]);
        let mut file = first.file.take().unwrap();
        file.collect().unwrap();
        file.publish().unwrap();
        assert!(std::fs::symlink_metadata(path("points.lp")).unwrap().is_symlink());
        assert_eq!((names(&path("elsewhere")), mode("elsewhere/old")), (vec!["old".into()], 0o440));
        assert_eq!(std::fs::read_to_string(path("elsewhere/old")).unwrap(), "0\n1\n");
    }

    #[test]
    fn no_two_runs_write_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::File(folder.path().join("points.lp"));
        let staged = alone(&destination).unwrap();
        let error = alone(&destination).unwrap_err().to_string();
        let holder = format!("points.lp\" for points: another run is writing it: process {}", std::process::id());
        assert!(error.starts_with("could not open") && error.ends_with(&holder), "{error}");
        assert_eq!(names(folder.path()), ["points.lp.partial"], "it is left to the other");
        drop(staged);
        alone(&destination).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_written_as_it_is_by_one_process() {
        let device = Destination::File("/dev/null".into());
        let staged = alone(&device).unwrap();
        assert!(staged.destination == device && staged.file.is_none());
        let error = Staging::begin(&device, 1, 2).unwrap_err().to_string();
        assert_eq!(error, "several processes can't write points to \"/dev/null\": it is no regular file");
        let folder = tempfile::tempdir().unwrap();
        let error = alone(&Destination::File(folder.path().into())).unwrap_err().to_string();
        assert!(error.contains("could not open"), "{error}");
    }
}
