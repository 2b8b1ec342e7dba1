//! Files in archives: `.zip`, and `.tar`, plain or packed.
//!
//! An archive is read as a stream, and nothing of it is unpacked to disk: a thread takes one file after the other out of it, and hands over
//! pieces, no more than [`PIECES_MAX`] ahead of the worker. Each file is read after its name; hidden ones and those of other
//! names are passed over, as in folders.
//!
//! The files of a zip are listed and packed one by one: a large zip is cut between them, so that all workers read it. A tar is
//! read from its beginning to its end by one.

use super::SPLIT_BYTES;
use super::file::InputFile;
use super::format::{self, Content, Kind};
use super::header::Headers;
use super::lexer::Lexer;
use super::look::Looker;
use super::unpack::{Counted, unpacked};
use retally_core::contract::Input;
use retally_core::split::{Archive, Line, Packing, SplitReader};
use std::cell::RefCell;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use zip::ZipArchive;

/// Bytes handed over at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the worker.
const PIECES_MAX: usize = 4;

/// Where a zip can be cut: numbers of files, so that about [`SPLIT_BYTES`] lie between two.
pub fn zip_cuts(file: impl Read + Seek) -> io::Result<Vec<u64>> {
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
    Ok(cuts)
}

/// A step through an archive.
enum Piece {
    /// A file begins.
    Begin(String, Kind),
    /// The file goes on.
    Bytes(Vec<u8>),
    /// The file is over.
    End,
    /// A file is passed over.
    PassedOver(String),
}

type Pieces = Receiver<io::Result<Piece>>;

/// Reads the files of an archive, one after the other.
pub struct ArchiveReader {
    path: String,
    looker: Looker,
    /// The first files with a header and without one.
    headers: Headers,
    pieces: Rc<RefCell<Pieces>>,
    read: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
    /// The file that is being read.
    member: Option<Member>,
    /// Lines of the files before it.
    lines: u64,
    passed_over: Vec<String>,
}

struct Member {
    name: String,
    lexer: Lexer,
}

impl ArchiveReader {
    /// Starts reading an archive: of a zip the files of these numbers.
    pub fn open(
        path: &str,
        archive: Archive,
        packing: Packing,
        range: (u64, u64),
        input: &Input,
        cancelled: Arc<AtomicBool>,
    ) -> io::Result<ArchiveReader> {
        let read = Arc::new(AtomicU64::new(0));
        let file = Counted {
            stream: if archive == Archive::Zip { InputFile::look(path) } else { InputFile::open(path) }?,
            read: Arc::clone(&read),
        };
        let (sender, pieces) = sync_channel(PIECES_MAX);
        let walk = move || {
            let walked = match archive {
                Archive::Zip => walk_zip(file, range, &sender),
                Archive::Tar => walk_tar(file, packing, &sender),
            };
            if let Err(Stop::Failed(error)) = walked {
                sender.send(Err(error)).ok();
            }
        };
        std::thread::Builder::new().name("archive".into()).spawn(walk)?;
        let pieces = Rc::new(RefCell::new(pieces));
        let (looker, headers) = (Looker::new(input), Headers::default());
        Ok(ArchiveReader { path: path.into(), looker, headers, pieces, read, cancelled, member: None, lines: 0, passed_over: Vec::new() })
    }

    /// Goes on to the next file, or reads a block of the one at hand. Returns whether there is more.
    fn step(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        if let Some(Member { name, lexer }) = &mut self.member {
            let more = lexer.read(&mut |line| each(Line { member: Some(name), ..line }))?;
            if !more {
                self.lines += lexer.lines();
                self.member = None;
            }
            return Ok(true);
        }
        let piece = self.pieces.borrow().recv();
        match piece {
            // Bytes and the end of a file that was not read to its end.
            Ok(Ok(Piece::Bytes(_) | Piece::End)) => {}
            Ok(Ok(Piece::PassedOver(name))) => self.passed_over.push(format!("{}/{name}", self.path)),
            Ok(Ok(Piece::Begin(name, kind))) => {
                let stream = MemberStream { pieces: Rc::clone(&self.pieces), piece: Cursor::new(Vec::new()), over: false };
                let (mut found, stream) = self.looker.look(&name, Some(kind.content), unpacked(stream, kind.packing)?)?;
                self.headers.add(&name, &mut found.format, self.looker.input().files.first_header)?;
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
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, String> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.step(each).map_err(|error| {
            let member = self.member.as_ref().map(|member| format!("/{}", member.name)).unwrap_or_default();
            format!("could not read {:?} after byte {}: {error}", format!("{}{member}", self.path), self.read.load(Ordering::Relaxed))
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
}

/// The bytes of one file.
struct MemberStream {
    pieces: Rc<RefCell<Pieces>>,
    piece: Cursor<Vec<u8>>,
    over: bool,
}

impl Read for MemberStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.piece.read(buffer)?;
            if length > 0 || self.over || buffer.is_empty() {
                return Ok(length);
            }
            match self.pieces.borrow().recv() {
                Ok(Ok(Piece::Bytes(bytes))) => self.piece = Cursor::new(bytes),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => self.over = true,
            }
        }
    }
}

/// Why a walk ends early.
enum Stop {
    Failed(io::Error),
    /// Nobody reads on.
    Dropped,
}

impl<E: Into<io::Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

type Pipe = SyncSender<io::Result<Piece>>;

fn walk_zip(file: Counted<InputFile>, range: (u64, u64), pipe: &Pipe) -> Result<(), Stop> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(archive.len());
    for index in place(range.0)..place(range.1) {
        let member = archive.by_index(index)?;
        let (name, is_file) = (member.name()?.into_owned(), member.is_file());
        hand_over(name, is_file, member, pipe)?;
    }
    Ok(())
}

fn walk_tar(file: Counted<InputFile>, packing: Packing, pipe: &Pipe) -> Result<(), Stop> {
    let mut archive = tar::Archive::new(unpacked(BufReader::new(file), packing)?);
    for member in archive.entries()? {
        let member = member?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let is_file = member.header().entry_type().is_file();
        hand_over(name, is_file, member, pipe)?;
    }
    Ok(())
}

fn hand_over(name: String, is_file: bool, mut member: impl Read, pipe: &Pipe) -> Result<(), Stop> {
    let give = |piece| pipe.send(Ok(piece)).map_err(|_| Stop::Dropped);
    let hidden = name.split('/').any(|part| part.starts_with('.') && part != "." && part != ".." || part == "__MACOSX");
    if !is_file || hidden {
        return Ok(());
    }
    let kind = format::kind(&name).filter(|kind| matches!(kind.content, Content::Csv | Content::Json));
    let Some(kind) = kind else { return give(Piece::PassedOver(name)) };
    give(Piece::Begin(name, kind))?;
    loop {
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        member.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return give(Piece::End);
        }
        give(Piece::Bytes(bytes))?;
    }
}
