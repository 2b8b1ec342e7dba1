//! Takes the files out of an archive, one after the other.
//!
//! The files of a zip are listed and packed one by one: a large zip is cut between them, so that all workers read it. A tar is read from
//! its beginning to its end by one; several tars in one file are read one after the other.
//!
//! A link whose target is a file of the archive that is read needs no reading: its records are there. What would be input and is not read
//! is an error with its name: another link, two files of one name in a zip, a sparse file that is described by an extended header.

use super::SPLIT_BYTES;
use super::file::InputFile;
use super::format::{self, Content, Kind};
use super::unpack::{Counted, unpacked};
use retally_core::split::Packing;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use zip::ZipArchive;

/// Bytes handed over at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// The files of a tar are counted in blocks.
const BLOCK_BYTES: u64 = 512;
/// An archive with more links than this is refused.
const LINKS_MAX: usize = 1 << 20;
/// A link may lead to another, so often.
const HOPS_MAX: usize = 16;
/// A path is not longer than this.
const PATH_BYTES_MAX: u64 = 4 << 10;
/// With this the header of a file in a zip begins.
const FILE_HEADER: [u8; 4] = *b"PK\x03\x04";
/// A header of a zip's directory begins with this, and has so many bytes before the name.
const DIRECTORY_HEADER: (&[u8], usize) = (b"PK\x01\x02", 46);

/// A step through an archive.
pub(super) enum ArchiveEvent {
    /// A file begins.
    Begin(String, Kind),
    /// The file goes on.
    Bytes(Vec<u8>),
    /// The file is over.
    End,
    /// A file is passed over.
    PassedOver(String),
}

/// Why a walk ends early.
pub(super) enum Stop {
    Failed(io::Error),
    /// Nobody reads on.
    Dropped,
}

impl<E: Into<io::Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

type Pipe = SyncSender<io::Result<ArchiveEvent>>;

fn wrong(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Where a zip can be cut: numbers of files, so that about [`SPLIT_BYTES`] lie between two.
pub(super) fn zip_cuts(file: impl Read + Seek) -> io::Result<Vec<u64>> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let mut cuts = Vec::new();
    let mut bytes = 0;
    for index in 0..archive.len() {
        if bytes >= SPLIT_BYTES {
            cuts.push(index as u64);
            bytes = 0;
        }
        bytes += archive.by_index_raw(index)?.compressed_size();
    }
    let (directory, offset) = (archive.central_directory_start(), archive.offset());
    let mut reader = archive.into_inner();
    if offset > 0 {
        let mut begins = [0; FILE_HEADER.len()];
        reader.rewind()?;
        // What else may stand before a zip is a program that unpacks it.
        if reader.read_exact(&mut begins).is_ok() && begins == FILE_HEADER {
            return Err(wrong("another zip stands before it, whose files would not be read: give them apart".into()));
        }
    }
    reader.seek(SeekFrom::Start(directory))?;
    check_names(reader)?;
    Ok(cuts)
}

/// Refuses two input files of one name: of them, only the last can be found by it.
fn check_names(mut directory: impl BufRead) -> io::Result<()> {
    let (mark, bytes) = DIRECTORY_HEADER;
    let mut names = BTreeSet::new();
    loop {
        let mut header = Vec::with_capacity(bytes);
        directory.by_ref().take(bytes as u64).read_to_end(&mut header)?;
        if header.len() < bytes || !header.starts_with(mark) {
            return Ok(());
        }
        let length = |at: usize| match header.get(at..at + 2) {
            Some([low, high]) => u64::from(u16::from_le_bytes([*low, *high])),
            _ => 0,
        };
        let mut name = Vec::new();
        directory.by_ref().take(length(28)).read_to_end(&mut name)?;
        io::copy(&mut directory.by_ref().take(length(30) + length(32)), &mut io::sink())?;
        if input_kind(&shown(&name)).is_some() && !names.insert(name.clone()) {
            return Err(wrong(format!("it holds two files {:?}, of which one would not be read", shown(&name))));
        }
    }
}

/// Hands over the files of a zip with these numbers.
pub(super) fn walk_zip(file: Counted<InputFile>, range: (u64, u64), pipe: &Pipe) -> Result<(), Stop> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(archive.len());
    let mut links = Links::default();
    for index in place(range.0)..place(range.1) {
        let mut member = archive.by_index(index)?;
        let name = member.name().map(|name| name.into_owned()).unwrap_or_else(|_| shown(member.name_raw()));
        if member.is_symlink() {
            let mut target = Vec::new();
            member.by_ref().take(PATH_BYTES_MAX).read_to_end(&mut target)?;
            links.add(&name, &shown(&target))?;
        } else if member.is_file() {
            hand_over(name, member, pipe)?;
        }
    }
    // A file that a link leads to may be in another split.
    Ok(links.check(|target| archive.index_for_name(target).is_some() && input_kind(target).is_some())?)
}

/// Hands over the files of a tar.
pub(super) fn walk_tar(file: Counted<InputFile>, packing: Packing, pipe: &Pipe) -> Result<(), Stop> {
    let read = Arc::new(AtomicU64::new(0));
    let stream = Counted { stream: unpacked(BufReader::new(file), packing)?, read: Arc::clone(&read) };
    let mut archive = tar::Archive::new(stream);
    // The end of one may be followed by another.
    archive.set_ignore_zeros(true);
    let mut end = 0;
    let (mut links, mut names) = (Links::default(), BTreeSet::new());
    for member in archive.entries()? {
        let mut member = member?;
        let name = shown(&member.path_bytes());
        let kind = member.header().entry_type();
        let bytes = if kind.is_gnu_sparse() { member.header().entry_size()? } else { member.size() };
        end = member.raw_file_position().saturating_add(bytes.next_multiple_of(BLOCK_BYTES));
        let is_input = input_kind(&name).is_some();
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            if is_input && is_described_as_sparse(&mut member)? {
                return Err(wrong(format!("{name:?} in it is a sparse file of a kind that is not read")).into());
            }
            if is_input {
                names.insert(plain(&name));
            }
            hand_over(name, member, pipe)?;
        } else if kind.is_hard_link() || kind.is_symlink() {
            let target = member.link_name_bytes().map(|target| shown(&target)).unwrap_or_default();
            // A hard link names its target from the root of the archive.
            if kind.is_hard_link() { links.add_from_root(&name, &target)? } else { links.add(&name, &target)? }
        } else if is_input && !is_of_no_content(kind) {
            return Err(wrong(format!("{name:?} in it is of a kind that is not read")).into());
        }
    }
    let behind = read.load(Ordering::Relaxed).saturating_sub(end);
    if behind < BLOCK_BYTES {
        return Err(wrong("it ends without the mark of its end: it is cut off".into()).into());
    }
    Ok(links.check(|target| names.contains(target))?)
}

/// Folders, pipes, devices, and what is told about the members that follow.
fn is_of_no_content(kind: tar::EntryType) -> bool {
    kind.is_dir() || kind.is_fifo() || kind.is_block_special() || kind.is_character_special() || kind.is_pax_global_extensions()
}

fn is_described_as_sparse(member: &mut tar::Entry<'_, impl Read>) -> io::Result<bool> {
    let Some(extensions) = member.pax_extensions()? else { return Ok(false) };
    for extension in extensions {
        if extension?.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The kind of an input file in an archive; `None` for hidden ones, and for those that are passed over.
fn input_kind(name: &str) -> Option<Kind> {
    if is_hidden(name) {
        return None;
    }
    format::kind(name).filter(|kind| matches!(kind.content, Content::Csv | Content::Json))
}

fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') && part != "." && part != ".." || part == "__MACOSX")
}

/// Bytes of a name as text: what is no UTF-8 is escaped, so that two names do not become one.
fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

fn hand_over(name: String, mut member: impl Read, pipe: &Pipe) -> Result<(), Stop> {
    let give = |event| pipe.send(Ok(event)).map_err(|_| Stop::Dropped);
    if is_hidden(&name) {
        return Ok(());
    }
    let kind = match (input_kind(&name), format::kind(&name)) {
        (Some(kind), _) => kind,
        (None, None) => return give(ArchiveEvent::PassedOver(name)),
        // Parquet is read from both ends, and an archive may hold anything.
        (None, Some(_)) => return Err(wrong(format!("{name:?} in it is of a kind that is not read from archives; unpack it")).into()),
    };
    give(ArchiveEvent::Begin(name, kind))?;
    loop {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        member.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return give(ArchiveEvent::End);
        }
        give(ArchiveEvent::Bytes(bytes))?;
    }
}

/// The links of an archive that would be input, by their plain names, with the plain names of their targets.
#[derive(Default)]
struct Links(BTreeMap<String, String>);

impl Links {
    /// Adds a link whose target is named from its own folder.
    fn add(&mut self, name: &str, target: &str) -> io::Result<()> {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = if target.starts_with('/') { target.to_string() } else { format!("{folder}/{target}") };
        self.add_from_root(name, &target)
    }

    /// Adds a link whose target is named from the root.
    fn add_from_root(&mut self, name: &str, target: &str) -> io::Result<()> {
        if input_kind(name).is_none() {
            return Ok(());
        }
        if self.0.len() >= LINKS_MAX {
            return Err(wrong(format!("it holds more than {LINKS_MAX} links")));
        }
        self.0.insert(plain(name), plain(target));
        Ok(())
    }

    /// An error where a link leads to no file that is read.
    fn check(&self, is_read: impl Fn(&str) -> bool) -> io::Result<()> {
        for (name, target) in &self.0 {
            let mut at = target;
            let leads = (0..HOPS_MAX).any(|_| {
                let found = is_read(at);
                at = self.0.get(at).unwrap_or(at);
                found
            });
            if !leads {
                return Err(wrong(format!("{name:?} in it is a link to {target:?}, which is not read from it")));
            }
        }
        Ok(())
    }
}

/// A path without what leads nowhere.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_are_shown_differently() {
        assert_eq!(shown("ä.csv".as_bytes()), "ä.csv");
        assert_eq!((shown(b"a\xff.csv").as_str(), shown(b"a\xfe.csv").as_str()), ("a\\xff.csv", "a\\xfe.csv"));
    }

    #[test]
    fn links_lead_to_files_that_are_read() {
        let links = |links: &[(&str, &str)]| {
            let mut all = Links::default();
            links.iter().for_each(|(name, target)| all.add(name, target).unwrap());
            all.check(|target| target == "days/1.csv").map_err(|error| error.to_string())
        };
        assert_eq!(links(&[("./days/last.csv", "1.csv"), ("last.csv", "./days/last.csv"), ("x/y.csv", "../days/./1.csv")]), Ok(()));
        assert_eq!(links(&[("notes", "none"), (".hidden.csv", "none")]), Ok(()), "no input");
        for (name, target) in [("a.csv", "days/2.csv"), ("a.csv", "a.csv"), ("a.csv", "../days/1.csv"), ("days/1.csv", "/1.csv")] {
            let error = links(&[(name, target)]).unwrap_err();
            assert!(error.contains(&format!("{name:?} in it is a link to ")), "{error}");
        }
        assert!(links(&[("a.csv", "b.csv"), ("b.csv", "a.csv")]).is_err(), "around and around");
    }
}
