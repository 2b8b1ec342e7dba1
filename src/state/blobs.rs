//! The files that were delivered, by the hash of what they hold: `blobs/HASH.csv.zst`.
//!
//! What is packed is kept as it came; text is packed, in parts that several workers can read. The ending says which, so that any tool reads
//! a blob, and so does a plan. A blob is on the disk, with its name, before a frame of the journal names it; what a process that was killed
//! left half-way is swept away.
//!
//! Of a state in a bucket, the files are in its scratch folder as well, and are read there. What is kept is in the bucket before it has its
//! name here.
//!
//! The hash (SHA-256) is of the bytes that were delivered: a file that comes again is there already.

use super::StateError;
use super::frame::Blob;
use super::shelf::Shelf;
use crate::hex::hex;
use crate::ingest::cuts::Packer;
use crate::ingest::file::InputFile;
use crate::ingest::format::{self, Content, Kind, Mark};
use crate::staged::{Staged, is_temporary, sweep};
use retally_core::split::{Archive, Packing};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Files that were kept within so long may be of batches that are not in the journal yet, or are being read.
pub const GRACE: Duration = Duration::from_secs(3_600);
/// After so many it is looked which of them are older.
const REMEMBERED_MAX: usize = 10_000;
/// So much is read at a time.
const BLOCK_BYTES: usize = 256 << 10;
/// So many first bytes say what a file is whose name doesn't.
const MARK_BYTES: u64 = 16;

/// The blobs of a state.
#[derive(Debug)]
pub struct Blobs {
    /// The folder of this machine in which they are read.
    dir: PathBuf,
    shelf: Arc<dyn Shelf>,
    /// Which were kept by this process, not long ago: whoever removes what nobody needs leaves them.
    kept: Mutex<HashMap<String, Lately>>,
}

/// What was kept not long ago.
#[derive(Clone, Copy, Debug)]
struct Lately {
    at: Instant,
    /// So many may need it.
    times: u64,
    /// It was not there before.
    is_new: bool,
}

impl Blobs {
    /// Those in a folder, which is created where it is missing.
    pub fn open(dir: &Path, shelf: Arc<dyn Shelf>) -> Result<Blobs, StateError> {
        std::fs::create_dir_all(dir).map_err(StateError::io("create", dir))?;
        sweep(dir);
        Ok(Blobs { dir: dir.into(), shelf, kept: Mutex::default() })
    }

    /// Where a blob is.
    pub fn path(&self, blob: &Blob) -> String {
        self.dir.join(&blob.file).display().to_string()
    }

    /// Keeps what is at a path or a URL, as a file of this name.
    pub fn keep_file(&self, location: &str) -> Result<Blob, StateError> {
        let failed = |cause| StateError::Input { path: location.into(), cause };
        let file = InputFile::open(location).map_err(failed)?;
        let guard = file.guard();
        let checked = || guard.map_or(Ok(()), |guard| guard.check());
        // Where it changed, that is why it can't be read.
        self.keep(location, file, checked)
    }

    /// Keeps what a stream holds, as a file of this name.
    pub fn keep_stream(&self, name: &str, stream: impl Read) -> Result<Blob, StateError> {
        self.keep(name, stream, || Ok(()))
    }

    fn keep(&self, name: &str, mut stream: impl Read, checked: impl FnOnce() -> io::Result<()>) -> Result<Blob, StateError> {
        let input = |cause| StateError::Input { path: name.into(), cause };
        let mut first = Vec::new();
        stream.by_ref().take(MARK_BYTES).read_to_end(&mut first).map_err(input)?;
        let (ending, how) = ending(name, &first);
        let failed = |cause| StateError::Io { what: "write", path: self.dir.clone(), cause };
        // It gets its name when all of it has been read.
        let mut staged = Staged::create(&self.dir.join("incoming")).map_err(failed)?;
        let mut hash = Sha256::new();
        let copied = copy(Cursor::new(first).chain(stream), staged.file(), &mut hash, how);
        let bytes = copied.map_err(|error| match error {
            CopyError::Read(cause) => input(cause),
            CopyError::Write(cause) => failed(cause),
        })?;
        checked().map_err(input)?;
        let blob = Blob { file: hex(&hash.finalize()) + &ending, bytes };
        let path = self.dir.join(&blob.file);
        self.remember(&blob);
        self.shelf.keep_blob(&blob.file, staged.file())?;
        // One that is there is not touched: it may be being read.
        if !path.exists() {
            staged.sync().and_then(|()| staged.publish_as(&path)).map_err(failed)?;
            self.kept().get_mut(&blob.file).into_iter().for_each(|lately| lately.is_new = true);
        }
        Ok(blob)
    }

    /// Removes blobs that were kept for a batch which is refused, but those that were there before or that another batch may need. In a
    /// bucket they stay until what nobody needs is removed: whether it had them before is not known here.
    pub fn withdraw(&self, blobs: &[Blob]) {
        if self.shelf.is_bucket() {
            return;
        }
        let mut kept = self.kept();
        for blob in blobs {
            let Some(lately) = kept.get_mut(&blob.file) else { continue };
            lately.times = lately.times.saturating_sub(1);
            if lately.times == 0 && std::mem::take(&mut lately.is_new) {
                // One that can't be removed now is when the journal is folded.
                std::fs::remove_file(self.path(blob)).ok();
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Lately>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, blob: &Blob) {
        let mut kept = self.kept();
        if kept.len() >= REMEMBERED_MAX {
            kept.retain(|_, lately| lately.at.elapsed() < GRACE);
        }
        let now = Lately { at: Instant::now(), times: 0, is_new: false };
        let lately = kept.entry(blob.file.clone()).or_insert(now);
        (lately.at, lately.times) = (now.at, lately.times + 1);
    }

    /// Removes all blobs but these, and those that were kept later than some time ago: they may be of batches that are on their way.
    pub fn retain(&self, needed: &BTreeSet<&str>, grace: Duration) -> Result<(), StateError> {
        let failed = StateError::io("list", &self.dir);
        self.kept().retain(|_, lately| lately.at.elapsed() < grace);
        // That may take long, and nobody who keeps a blob waits for it.
        self.shelf.retain_blobs(&|name| needed.contains(name) || self.kept().contains_key(name))?;
        let kept = self.kept();
        let names =
            std::fs::read_dir(&self.dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
        for name in names.map_err(failed)? {
            let path = self.dir.join(&name);
            // A part that is being written has no name of a blob yet.
            let is_temporary = !grace.is_zero() && is_temporary(&name);
            if !is_temporary && name.to_str().is_none_or(|name| !needed.contains(name) && !kept.contains_key(name)) {
                std::fs::remove_file(&path).map_err(StateError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// An error where a blob is not there as it was kept, if whoever reads it would not notice: what has no checksum in itself. It came so.
    pub fn check_unguarded(&self, blob: &Blob) -> Result<(), StateError> {
        let is_unguarded = match Path::new(&blob.file).extension().and_then(std::ffi::OsStr::to_str) {
            Some("parquet") => true,
            // Of a frame of zstd, a bit says whether it ends with a checksum. One that can't be opened is missed elsewhere.
            Some("zst") => self.shelf.open_blob(&blob.file).is_ok_and(|mut file| {
                let mut first = [0; 5];
                file.read_exact(&mut first).is_err() || first[4] & 1 << 2 == 0
            }),
            _ => false,
        };
        if is_unguarded { self.check(blob) } else { Ok(()) }
    }

    /// An error where a blob is not there as it was kept: it is read to its end.
    pub fn check(&self, blob: &Blob) -> Result<(), StateError> {
        let path = self.shelf.path(&format!("blobs/{}", blob.file));
        let read = |mut file: File| -> io::Result<(String, u64)> {
            let as_it_is = hash_of(&file)?;
            // What came packed is as it came; of what was packed here, the name is of the text.
            if !blob.file.ends_with(".zst") || as_it_is.0 == hash_named(blob) {
                return Ok(as_it_is);
            }
            file.rewind()?;
            hash_of(zstd::stream::read::Decoder::new(file)?)
        };
        match self.shelf.open_blob(&blob.file).and_then(read) {
            Ok((hash, bytes)) if (hash.as_str(), bytes) == (hash_named(blob), blob.bytes) => Ok(()),
            Ok(_) => Err(StateError::damaged(&path, "it does not hold what its name says".into())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(StateError::damaged(&path, "it is missing".into())),
            Err(cause) => Err(StateError::damaged(&path, cause.to_string())),
        }
    }
}

/// The hash in a blob's name.
fn hash_named(blob: &Blob) -> &str {
    blob.file.split('.').next().unwrap_or_default()
}

fn hash_of(mut stream: impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut stream, &mut Hashed(&mut hash))?;
    Ok((hex(&hash.finalize()), bytes))
}

struct Hashed<'h>(&'h mut Sha256);

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    AsItComes,
    /// Text, whose newlines may be in quotes.
    Packed {
        has_quotes: bool,
    },
}

/// The ending of a blob's name, and how it is kept.
fn ending(name: &str, first: &[u8]) -> (String, How) {
    let last = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    match format::kind(&last) {
        Some(Kind { content: Content::Parquet | Content::Archive(Archive::Zip), .. }) => (endings(&last, 1), How::AsItComes),
        Some(Kind { packing: Packing::Plain, content }) => {
            (endings(&last, 1) + ".zst", How::Packed { has_quotes: content != Content::Json })
        }
        // `.tgz` is one ending, `.csv.gz` two.
        Some(_) if format::kind(&format!("x{}", endings(&last, 1))).is_some() => (endings(&last, 1), How::AsItComes),
        Some(_) => (endings(&last, 2), How::AsItComes),
        // As a reader looks at it: by its mark.
        None => match format::mark(first) {
            Some(Mark::Packed(_) | Mark::Other(_)) => (String::new(), How::AsItComes),
            Some(Mark::Utf16(_)) | None => (".zst".into(), How::Packed { has_quotes: true }),
        },
    }
}

/// The last parts of a name, each with its dot.
fn endings(name: &str, count: usize) -> String {
    name.rmatch_indices('.').nth(count - 1).and_then(|(at, _)| name.get(at..)).unwrap_or_default().into()
}

/// A blob on its way to its file.
enum Target<'f> {
    AsItComes(&'f mut File),
    Packed(Packer<&'f mut File>),
}

impl<'f> Target<'f> {
    fn new(file: &'f mut File, kept: How) -> io::Result<Target<'f>> {
        match kept {
            How::AsItComes => Ok(Target::AsItComes(file)),
            How::Packed { has_quotes } => Ok(Target::Packed(Packer::new(file, has_quotes)?)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::AsItComes(file) => file.write_all(bytes),
            Target::Packed(packer) => packer.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Target::AsItComes(_) => Ok(()),
            Target::Packed(packer) => packer.finish(),
        }
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(mut from: impl Read, to: &mut File, hash: &mut Sha256, how: How) -> Result<u64, CopyError> {
    let mut target = Target::new(to, how).map_err(CopyError::Write)?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut all = 0;
    loop {
        let length = match from.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(CopyError::Read)?,
        };
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        all += length as u64;
        target.write(bytes).map_err(CopyError::Write)?;
    }
    target.finish().map_err(CopyError::Write)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::shelf::Folder;

    #[test]
    fn endings_say_what_a_blob_is() {
        let of = |name: &str, first: &[u8]| ending(name, first);
        for (name, expected, is_packed) in [
            ("drop/Events.CSV", ".csv.zst", true),
            ("a.b/events.v2.jsonl", ".jsonl.zst", true),
            ("events.csv.gz", ".csv.gz", false),
            ("events.tgz", ".tgz", false),
            ("events.tar.xz", ".tar.xz", false),
            ("events.tar", ".tar.zst", true),
            ("events.zip", ".zip", false),
            ("events.parquet", ".parquet", false),
            ("-", ".zst", true),
            ("events.data", ".zst", true),
        ] {
            let (found, packed) = of(name, b"id,t\n");
            assert_eq!((found.as_str(), packed != How::AsItComes), (expected, is_packed), "{name}");
            if expected != ".zst" {
                let (kept, given) = (format::kind(&format!("0{found}")), format::kind(name));
                assert_eq!(kept.map(|kind| kind.content), given.map(|kind| kind.content), "{name}");
            }
        }
        assert_eq!(of("-", b"\x1f\x8b\x08"), (String::new(), How::AsItComes));
        assert_eq!(of("x", b"PAR1"), (String::new(), How::AsItComes));
    }

    #[test]
    fn what_is_kept_is_checked_and_the_same_is_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), Arc::new(Folder::new(dir.path()))).unwrap();
        let text = "id,t\n".repeat(100_000);
        let kept = blobs.keep_stream("a.csv", text.as_bytes()).unwrap();
        assert_eq!(blobs.keep_stream("other.csv", text.as_bytes()).unwrap(), kept);
        let gzip = blobs.keep_stream("a.csv.gz", &b"\x1f\x8b no gzip, and kept all the same"[..]).unwrap();
        assert_eq!(std::fs::read_dir(&blobs.dir).unwrap().count(), 2);
        assert_eq!((kept.bytes, gzip.bytes), (text.len() as u64, 33));
        blobs.check(&kept).unwrap();
        blobs.check(&gzip).unwrap();
        for blob in [&kept, &gzip] {
            let path = blobs.path(blob);
            let whole = std::fs::read(&path).unwrap();
            let mut found = 0;
            for place in 0..whole.len().min(40) {
                let mut flipped = whole.clone();
                flipped[place] ^= 1;
                std::fs::write(&path, &flipped).unwrap();
                match blobs.check(blob) {
                    Err(error) => assert!(error.to_string().contains(" is damaged: "), "{place}: {error}"),
                    // Some bits of a packed file mean nothing.
                    Ok(()) => assert!(zstd::decode_all(&*flipped).unwrap() == text.as_bytes(), "{place}"),
                }
                found += usize::from(blobs.check(blob).is_err());
            }
            assert!(found > 30, "{found}");
            std::fs::remove_file(&path).unwrap();
            assert!(blobs.check(blob).unwrap_err().to_string().ends_with("is missing"));
        }
    }
}
