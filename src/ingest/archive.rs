//! Files in archives: `.zip`, and `.tar`, plain or packed.
//!
//! An archive is read as a stream, and nothing of it is unpacked to disk: a thread takes one file after the other out of it
//! ([`members`]), and hands over events, no more than [`EVENTS_MAX`] ahead of the worker. Each file is read after its name; hidden
//! ones and those of other names are passed over, as in folders.

use super::could_not;
use super::file::InputFile;
use super::header::{Headers, Purpose, Seen};
use super::lexer::Lexer;
use super::look::Looker;
use super::members::{self, ArchiveEvent, Stop};
use super::unpack::{Counted, too_large, unpacked};
use super::version::{Guard, guarded};
use crate::shown;
use retally_core::contract::Input;
use retally_core::split::{Archive, Line, Packing, SecondHeader, SourceFile, SplitError, SplitReader};
use std::cell::RefCell;
use std::io::{self, Cursor, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// Events that wait for the worker.
const EVENTS_MAX: usize = 4;

type ArchiveEvents = Receiver<io::Result<ArchiveEvent>>;

/// Reads the files of an archive, one after the other.
pub struct ArchiveReader {
    path: String,
    /// What errors call this process, where there are several.
    process: Option<Arc<str>>,
    guard: Option<Guard>,
    looker: Looker,
    /// The first files with a header and without one.
    headers: Headers,
    events: Rc<RefCell<ArchiveEvents>>,
    read: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
    /// The file that is being read.
    member: Option<Member>,
    /// Lines of the files before it.
    lines: u64,
    passed_over: Vec<String>,
    members_read: u64,
    second_header: Option<SecondHeader>,
}

struct Member {
    name: String,
    lexer: Lexer,
}

impl ArchiveReader {
    /// Starts reading an archive: of a zip the files of these numbers.
    pub fn open(
        source: &SourceFile,
        archive: Archive,
        packing: Packing,
        range: (u64, u64),
        input: &Input,
        process: Option<Arc<str>>,
        cancelled: Arc<AtomicBool>,
    ) -> io::Result<ArchiveReader> {
        let Walk { events, guard, read } = Walk::start(source, archive, packing, range)?;
        let (looker, headers) = (Looker::new(input), Headers::new(Purpose::Run, Seen::default()));
        let path = source.location.clone();
        Ok(ArchiveReader {
            path,
            process,
            guard,
            looker,
            headers,
            events,
            read,
            cancelled,
            member: None,
            lines: 0,
            passed_over: Vec::new(),
            members_read: 0,
            second_header: None,
        })
    }

    /// Goes on to the next file, or reads a block of the one at hand. Returns whether there is more.
    fn step(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        if let Some(Member { name, lexer }) = &mut self.member {
            let more = lexer.read(&mut |line| each(Line { member: Some(name), ..line }))?;
            if !more {
                self.lines += lexer.lines();
                if let Some((line, own_line)) = lexer.second_header().filter(|_| self.second_header.is_none()) {
                    self.second_header = Some(SecondHeader { member: Some(name.clone()), line, own_line });
                }
                self.member = None;
            }
            return Ok(true);
        }
        let event = self.events.borrow().recv();
        match event {
            // Bytes and the end of a file that was not read to its end.
            Ok(Ok(ArchiveEvent::Bytes(_) | ArchiveEvent::End)) => {}
            Ok(Ok(ArchiveEvent::PassedOver(name))) => self.passed_over.push(format!("{}/{name}", self.path)),
            Ok(Ok(ArchiveEvent::Begin(name, kind))) => {
                let stream = MemberStream::new(&self.events);
                let (mut found, stream) = self.looker.look(&name, Some(kind.content), unpacked(stream, kind.packing)?)?;
                self.headers.add(&name, &mut found.format, self.looker.input(), 1)?;
                self.members_read += 1;
                self.member = Some(Member { name, lexer: Lexer::new(stream, u64::MAX, &found.format, self.looker.input(), true) });
            }
            Ok(Err(error)) => return Err(error),
            // All has been said.
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

impl SplitReader for ArchiveReader {
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, SplitError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let read = self.step(each);
        guarded(self.guard.as_ref(), read).map_err(|error| {
            let member = self.member.as_ref().map(|member| format!("/{}", member.name)).unwrap_or_default();
            let at = self.read.load(Ordering::Relaxed);
            let process = self.process.as_ref().map_or(String::new(), |process| format!(" on {process}"));
            could_not(&format!("read {:?}{process} after byte {at}", format!("{}{member}", shown::location(&self.path))), &error)
        })
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn lines_read(&self) -> u64 {
        self.lines + self.member.as_ref().map_or(0, |member| member.lexer.lines())
    }

    fn passed_over(&mut self) -> Vec<String> {
        std::mem::take(&mut self.passed_over)
    }

    fn members_read(&self) -> Option<u64> {
        Some(self.members_read)
    }

    fn second_header(&self) -> Option<SecondHeader> {
        self.second_header.clone()
    }
}

/// A thread that takes the files out of an archive.
struct Walk {
    events: Rc<RefCell<ArchiveEvents>>,
    guard: Option<Guard>,
    /// Bytes read of the archive.
    read: Arc<AtomicU64>,
}

impl Walk {
    fn start(source: &SourceFile, archive: Archive, packing: Packing, range: (u64, u64)) -> io::Result<Walk> {
        let read = Arc::new(AtomicU64::new(0));
        let looks = archive == Archive::Zip;
        let stream = if looks { InputFile::look_planned(source) } else { InputFile::open_planned(source, 0, None) }?;
        let guard = stream.guard();
        let file = Counted { stream, read: Arc::clone(&read) };
        let (sender, events) = sync_channel(EVENTS_MAX);
        let walk = move || {
            let walked = match archive {
                Archive::Zip => members::walk_zip(file, range, &sender),
                Archive::Tar => members::walk_tar(file, packing, &sender),
            };
            if let Err(Stop::Failed(error)) = walked {
                sender.send(Err(error)).ok();
            }
        };
        std::thread::Builder::new().name("archive".into()).spawn(walk)?;
        Ok(Walk { events: Rc::new(RefCell::new(events)), guard, read })
    }
}

/// What a walk through an archive found.
#[derive(Debug, Default)]
pub struct Members {
    /// How many files are read.
    pub read: u64,
    /// The names of those that are passed over.
    pub passed_over: Vec<String>,
}

/// Unpacks the files of an archive, up to so many bytes of all together, and keeps nothing of them. What would fail when they are read
/// fails here: content that is not what a name says, and files with a header among others without.
pub fn check(
    source: &SourceFile,
    archive: Archive,
    packing: Packing,
    range: (u64, u64),
    input: &Input,
    bytes_max: u64,
) -> io::Result<Members> {
    let Walk { events, guard, .. } = Walk::start(source, archive, packing, range)?;
    let (looker, mut headers) = (Looker::new(input), Headers::new(Purpose::Run, Seen::default()));
    let mut left = bytes_max;
    let mut members = Members::default();
    loop {
        let event = events.borrow().recv();
        match event {
            Ok(Ok(ArchiveEvent::Begin(name, kind))) => {
                let stream = unpacked(MemberStream::new(&events), kind.packing)?;
                let (mut found, stream) = looker.look(&name, Some(kind.content), stream)?;
                headers.add(&name, &mut found.format, looker.input(), 1)?;
                let bytes = io::copy(&mut stream.take(left.saturating_add(1)), &mut io::sink())?;
                left = left.checked_sub(bytes).ok_or_else(|| too_large(bytes_max))?;
                members.read += 1;
            }
            Ok(Ok(ArchiveEvent::PassedOver(name))) => members.passed_over.push(name),
            Ok(Ok(ArchiveEvent::Bytes(_) | ArchiveEvent::End)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return guarded(guard.as_ref(), Ok(false)).map(|_| members),
        }
    }
}

/// The bytes of one file.
struct MemberStream {
    events: Rc<RefCell<ArchiveEvents>>,
    chunk: Cursor<Vec<u8>>,
    over: bool,
}

impl MemberStream {
    fn new(events: &Rc<RefCell<ArchiveEvents>>) -> MemberStream {
        MemberStream { events: Rc::clone(events), chunk: Cursor::new(Vec::new()), over: false }
    }
}

impl Read for MemberStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.chunk.read(buffer)?;
            if length > 0 || self.over || buffer.is_empty() {
                return Ok(length);
            }
            match self.events.borrow().recv() {
                Ok(Ok(ArchiveEvent::Bytes(bytes))) => self.chunk = Cursor::new(bytes),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => self.over = true,
            }
        }
    }
}
