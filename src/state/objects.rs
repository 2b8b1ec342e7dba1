//! The end of a journal in a bucket: an object for each run of frames, numbered, and created only if it is not there.
//!
//! A process begins with an object of its own behind all that are there, which is never removed. Another one that was writing finds that
//! its next number is taken, and ends: what it was about to write is nowhere, and nobody was told otherwise. Its numbers are never free
//! again.
//!
//! A request may fail although it was carried out, and it may be refused although nothing is there. So what is there is read after each
//! that was not granted, and compared by the name of the process that is in every object ([`decide`]). One request is under way at a time.

use super::StateError;
use super::frame::{Entry, Writer};
use super::journal::{Read, encode, name};
use super::tail::Tail;
use crate::backoff::Backoff;
use crate::ingest::remote::{Created, Prefix};
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// After so many objects the journal is folded, however small they are.
const OBJECTS_MAX: u64 = 4_096;
/// How long a bucket may be away before the process ends.
const PATIENCE: Duration = Duration::from_secs(300);
/// What takes no longer is not told.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// The first pause before an object is asked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// And the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a request to create an object was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Granted.
    Created,
    /// Refused: it is there, or somebody else is asking for it.
    Refused,
    /// Nothing, or nothing that says whether it is there.
    Lost,
}

/// What is there under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// What this process wrote.
    Ours,
    /// What another one wrote.
    Others,
    /// Something that does not say who wrote it.
    Torn,
    /// That can't be read now.
    Unknown,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is there.
    Done,
    /// It is asked for again, in the same words.
    Again,
    /// Another process writes. Nothing of ours is there.
    Fenced,
    /// Nobody can say whether it is there.
    Unclear,
}

/// Decides what became of an object that was to be created. What is there was looked at after the answer.
pub fn decide(answered: Answered, there: There) -> Decision {
    match (answered, there) {
        (Answered::Created, _) | (_, There::Ours) => Decision::Done,
        (_, There::Others) => Decision::Fenced,
        (_, There::Torn) => Decision::Unclear,
        // Refused, and not there: two requests met, and neither was granted. Ours may be the other one, on its way for long.
        (_, There::Nothing | There::Unknown) => Decision::Again,
    }
}

/// An object that is to be created.
#[derive(Debug)]
pub struct Creating<'c> {
    /// The bucket.
    pub prefix: &'c Prefix,
    /// Its number.
    pub number: u64,
    /// What this process is called.
    pub writer: &'c str,
    /// How long the bucket may be away.
    pub patience: Duration,
}

impl Creating<'_> {
    fn path(&self) -> PathBuf {
        shown(self.prefix, self.number)
    }

    /// Creates it. Returns who wrote it, where that is another process. `away` is told why it takes long.
    pub fn create(&self, bytes: &Bytes, away: &mut dyn FnMut(&str)) -> Result<Option<Writer>, StateError> {
        let name = name(self.number);
        let (began, mut backoff) = (Instant::now(), Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
        let unsynced = |cause| StateError::Unsynced { path: self.path(), cause };
        loop {
            let created = self.prefix.create(&name, bytes.clone()).map_err(StateError::io("write", &self.path()))?;
            let (answered, mut why) = match created {
                Created::Done => (Answered::Created, None),
                Created::Exists => (Answered::Refused, None),
                Created::Unknown(error) => (Answered::Lost, Some(error)),
            };
            let (there, writer) = match answered {
                Answered::Created => (There::Unknown, None),
                Answered::Refused | Answered::Lost => self.there().unwrap_or_else(|error| {
                    why = Some(error);
                    (There::Unknown, None)
                }),
            };
            match decide(answered, there) {
                Decision::Done => return Ok(None),
                Decision::Fenced => return Ok(writer),
                Decision::Unclear => return Err(unsynced(io::Error::other("what is there ends in the middle of a frame"))),
                Decision::Again => {}
            }
            let why = why.unwrap_or_else(|| io::Error::other("it was refused, and is not there"));
            if began.elapsed() >= self.patience {
                return Err(unsynced(why));
            }
            if began.elapsed() >= TOLD_AFTER {
                away(&format!("could not write {:?}: {why}; trying again", self.path()));
            }
            std::thread::sleep(backoff.pause());
        }
    }

    /// What is there under its name, and who wrote it.
    fn there(&self) -> io::Result<(There, Option<Writer>)> {
        let bytes = match self.prefix.look(&name(self.number)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((There::Nothing, None)),
            Err(error) => return Err(error),
        };
        let mut read = Read::default();
        let whole = read.file(&self.path(), &bytes);
        Ok(match read.writer {
            // A server that lost its power may have a part of it.
            Some(writer) if writer.writer == self.writer && whole.is_ok_and(|whole| whole == bytes.len()) => (There::Ours, None),
            Some(writer) if writer.writer != self.writer => (There::Others, Some(writer)),
            _ => (There::Torn, None),
        })
    }
}

/// The first frame of an object.
pub fn first_frame(writer: Writer) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(&Entry::Writer(writer), &mut bytes)?;
    Ok(bytes)
}

/// Numbered objects, of which the next is written when it is synced.
#[derive(Debug)]
pub struct ObjectTail {
    prefix: Prefix,
    /// What this process is called.
    writer: String,
    /// The number of the next.
    next: u64,
    /// The last that was sealed.
    sealed: u64,
    /// What the next will hold, besides its first frame.
    frames: Vec<u8>,
    /// What is there is not known any more, or another process writes.
    failed: bool,
}

impl ObjectTail {
    /// The end behind the object with which this process has begun, of a journal that is folded up to another.
    pub fn new(prefix: Prefix, writer: String, begun: u64, folded: u64) -> ObjectTail {
        ObjectTail { prefix, writer, next: begun + 1, sealed: folded, frames: Vec::new(), failed: false }
    }

    fn path(&self) -> PathBuf {
        shown(&self.prefix, self.next)
    }
}

impl Tail for ObjectTail {
    fn write(&mut self, frames: &[u8]) -> Result<(), StateError> {
        if self.failed {
            return Err(StateError::Unsynced { path: self.path(), cause: io::Error::other("a write before it failed") });
        }
        self.frames.extend_from_slice(frames);
        Ok(())
    }

    fn sync(&mut self, away: &mut dyn FnMut(&str)) -> Result<(), StateError> {
        if self.failed {
            return Err(StateError::Unsynced { path: self.path(), cause: io::Error::other("a write before it failed") });
        }
        if self.frames.is_empty() {
            return Ok(());
        }
        // Until it is known to be there, it is not.
        self.failed = true;
        let first = first_frame(Writer { writer: self.writer.clone(), begins: None, left_out: None });
        let mut bytes = first.map_err(StateError::io("write", &self.path()))?;
        bytes.append(&mut self.frames);
        let creating = Creating { prefix: &self.prefix, number: self.next, writer: &self.writer, patience: PATIENCE };
        if let Some(other) = creating.create(&bytes.into(), away)? {
            return Err(fenced(&self.prefix, other));
        }
        self.next += 1;
        self.failed = false;
        Ok(())
    }

    fn seal(&mut self) -> Result<u64, StateError> {
        self.sealed = self.next - 1;
        Ok(self.sealed)
    }

    fn is_long(&self) -> bool {
        self.next - self.sealed > OBJECTS_MAX
    }
}

/// That another process writes.
pub fn fenced(prefix: &Prefix, writer: Writer) -> StateError {
    StateError::Fenced { state: prefix.url(), holder: writer.begins.unwrap_or_else(|| "another process".into()) }
}

/// A journal that is only read.
#[derive(Debug)]
pub struct ReadTail {
    /// Its last file.
    pub path: PathBuf,
}

impl Tail for ReadTail {
    fn write(&mut self, _: &[u8]) -> Result<(), StateError> {
        Err(StateError::Io { what: "write", path: self.path.clone(), cause: io::Error::other("the state is open to be read") })
    }

    fn sync(&mut self, _: &mut dyn FnMut(&str)) -> Result<(), StateError> {
        Ok(())
    }

    fn seal(&mut self) -> Result<u64, StateError> {
        Err(StateError::Io { what: "write", path: self.path.clone(), cause: io::Error::other("the state is open to be read") })
    }

    fn is_long(&self) -> bool {
        false
    }
}

/// An object of the journal, as it is shown.
pub fn shown(prefix: &Prefix, number: u64) -> PathBuf {
    Path::new(&prefix.url()).join(name(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_says_whose_it_is() {
        use Answered::{Created, Lost, Refused};
        for (answered, there, expected) in [
            (Created, There::Unknown, Decision::Done),
            (Created, There::Ours, Decision::Done),
            // A retry of what had been written before.
            (Refused, There::Ours, Decision::Done),
            (Lost, There::Ours, Decision::Done),
            (Refused, There::Others, Decision::Fenced),
            (Lost, There::Others, Decision::Fenced),
            // A conflict of two requests, of which neither was granted.
            (Refused, There::Nothing, Decision::Again),
            (Lost, There::Nothing, Decision::Again),
            (Refused, There::Unknown, Decision::Again),
            (Lost, There::Unknown, Decision::Again),
            (Refused, There::Torn, Decision::Unclear),
            (Lost, There::Torn, Decision::Unclear),
        ] {
            assert_eq!(decide(answered, there), expected, "{answered:?} {there:?}");
        }
    }
}
