//! The seal of a store: what its files are while nobody has it open.
//!
//! The tree takes what is missing at the end of its journal for what a crash has left, as it must: what a disk has lost of a store that was
//! closed would go without a word. And at some bytes that are not what it wrote it panics. So whoever closes a store writes down the length
//! and the checksum of each file; whoever opens it looks at them first, and breaks the seal. A store without a seal is one whose last
//! process was killed, or still runs: the tree finds what was synced.
//!
//! # Limits
//! Of tables longer than [`WHOLE_BYTES_MAX`], which never change, only the length and both ends are looked at: their blocks have checksums
//! of their own, which the tree looks at as it reads them.

use super::{FORMAT_FILE, StoreError, TREE};
use flate2::Crc;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The file.
pub const SEAL_FILE: &str = "SEAL";
/// It is written under this name.
const NEW_SEAL_FILE: &str = "SEAL.new";
const HEAD: &str = "retally seal 1";
/// The tree's own lock.
const TREE_LOCK: &str = "lock";
/// The endings of journals, which are written in place.
const JOURNAL: &str = "jnl";
/// Longer files that are no journals are looked at in part.
const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// So much of each end.
const END_BYTES: u64 = 64 << 10;

/// A file, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    bytes: u64,
    crc: u32,
}

/// A seal that is broken while the store is open, and made again when this is dropped: after all else of the store.
pub struct Seal {
    dir: PathBuf,
    was_sealed: bool,
    /// Files as they were.
    known: BTreeMap<String, Print>,
}

impl Seal {
    /// Compares the files of a store with its seal, and breaks that.
    pub fn open(dir: &Path) -> Result<Seal, StoreError> {
        let failed = |source| StoreError::Failed { what: "read", dir: dir.into(), source };
        let damaged = |what: String| StoreError::Damaged { dir: dir.into(), what };
        let text = match fs::read(dir.join(SEAL_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Seal { dir: dir.into(), was_sealed: false, known: BTreeMap::new() });
            }
            Err(error) => return Err(failed(error)),
        };
        let known = parsed(&text).ok_or_else(|| damaged(format!("{SEAL_FILE} is not what was written")))?;
        for (name, print) in &known {
            let found = match print_of(&dir.join(name)) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(format!("{name} is missing"))),
                Err(error) => return Err(failed(error)),
            };
            if found.bytes != print.bytes {
                return Err(damaged(format!("{name} has {} bytes, and had {}", found.bytes, print.bytes)));
            }
            if found.crc != print.crc {
                return Err(damaged(format!("{name} is not what was written")));
            }
        }
        fs::remove_file(dir.join(SEAL_FILE)).and_then(|()| File::open(dir)?.sync_all()).map_err(failed)?;
        Ok(Seal { dir: dir.into(), was_sealed: true, known })
    }

    /// Whether the store had been closed.
    pub fn was_sealed(&self) -> bool {
        self.was_sealed
    }

    fn close(&self) -> io::Result<()> {
        let mut text = format!("{HEAD}\n");
        for (name, print) in self.prints()? {
            text += &format!("{:08x} {} {name}\n", print.crc, print.bytes);
        }
        text += &format!("{:08x} end\n", crc_of(text.as_bytes()));
        let path = self.dir.join(NEW_SEAL_FILE);
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&path, self.dir.join(SEAL_FILE))?;
        File::open(&self.dir)?.sync_all()
    }

    /// All files of the store. Tables never change: those that were looked at are not read again.
    fn prints(&self) -> io::Result<BTreeMap<String, Print>> {
        let mut prints = BTreeMap::from([(FORMAT_FILE.to_string(), print_of(&self.dir.join(FORMAT_FILE))?)]);
        for entry in WalkDir::new(self.dir.join(TREE)) {
            let entry = entry.map_err(io::Error::from)?;
            let name = entry.path().strip_prefix(&self.dir).unwrap_or(entry.path()).to_string_lossy().into_owned();
            if !entry.file_type().is_file() || entry.file_name() == TREE_LOCK {
                continue;
            }
            // What the tree has not synced may be lost yet, and the seal would say that it was there.
            if entry.path().extension().is_some_and(|ending| ending == JOURNAL) {
                File::open(entry.path())?.sync_all()?;
            }
            let is_table = entry.path().parent().is_some_and(|parent| parent.ends_with("tables"));
            let known = self.known.get(&name).filter(|known| is_table && entry.metadata().is_ok_and(|found| found.len() == known.bytes));
            let print = known.map_or_else(|| print_of(entry.path()), |known| Ok(*known))?;
            prints.insert(name, print);
        }
        Ok(prints)
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        // Without a seal the store is as one that was not closed: all that was synced is there.
        if !std::thread::panicking() {
            self.close().ok();
        }
    }
}

fn parsed(text: &[u8]) -> Option<BTreeMap<String, Print>> {
    let text = std::str::from_utf8(text).ok()?;
    let end = text.strip_suffix(" end\n")?.rfind('\n')? + 1;
    let (lines, last) = text.split_at(end);
    let crc = u32::from_str_radix(last.strip_suffix(" end\n")?, 16).ok()?;
    if crc != crc_of(lines.as_bytes()) {
        return None;
    }
    let mut lines = lines.lines();
    lines.next().filter(|head| *head == HEAD)?;
    let print = |line: &str| {
        let (crc, rest) = line.split_once(' ')?;
        let (bytes, name) = rest.split_once(' ')?;
        Some((name.to_string(), Print { bytes: bytes.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? }))
    };
    lines.map(print).collect()
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn print_of(path: &Path) -> io::Result<Print> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut crc = Crc::new();
    if bytes <= WHOLE_BYTES_MAX || path.extension().is_some_and(|ending| ending == JOURNAL) {
        add(&mut crc, file)?;
    } else {
        add(&mut crc, (&file).take(END_BYTES))?;
        file.seek(SeekFrom::Start(bytes - END_BYTES))?;
        add(&mut crc, file)?;
    }
    Ok(Print { bytes, crc: crc.sum() })
}

fn add(crc: &mut Crc, mut bytes: impl Read) -> io::Result<()> {
    let mut block = vec![0; 256 << 10];
    loop {
        match bytes.read(&mut block)? {
            0 => return Ok(()),
            length => crc.update(block.get(..length).unwrap_or_default()),
        }
    }
}
