//! Looks for quotes in a large CSV file: where there is none, every newline ends a record, and the file can be cut. So it can't where a
//! second header is among the lines.

use super::blocks::Blocks;
use super::file::{InputFile, size};
use super::within::Within;
use memchr::{memchr, memrchr};
use retally_core::split::SourceFile;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Quotes are looked for in parts of this size: 16 MiB.
const SEARCHED_BYTES: u64 = 16 << 20;
/// A part is read on by so much, for the line that begins in it: a header is not longer than this, 1 MiB.
const LINE_BYTES: u64 = 1 << 20;
/// So many look for quotes in what is far away.
const SEARCHERS_AFAR: usize = 8;

/// Whether a file has a quote anywhere, or a header `within`. Several look at once: at parts in turn, until something is found.
pub fn must_be_whole(file: &SourceFile, within: Option<&Within>) -> io::Result<bool> {
    // Of what is far away, several parts come faster than one; here, the cores are what there is.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if file.location.contains("://") { SEARCHERS_AFAR } else { cores };
    let parts = size(&file.version).div_ceil(SEARCHED_BYTES);
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let search = || -> io::Result<()> {
        while !found.load(Ordering::Relaxed) {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            let (from, until) = (part * SEARCHED_BYTES, (part + 1) * SEARCHED_BYTES + LINE_BYTES);
            let stream = InputFile::open_planned(file, from, Some(until))?.take(until - from);
            if hides_lines(stream, part == 0, within, &found)? {
                found.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> io::Result<()> {
        let searchers: Vec<_> = (1..threads.min(usize::try_from(parts).unwrap_or(threads))).map(|_| scope.spawn(search)).collect();
        let mine = search();
        for searcher in searchers {
            searcher.join().map_err(|_| io::Error::other("a search for quotes panicked"))??;
        }
        mine
    })?;
    Ok(found.into_inner())
}

/// Whether a part of a file has a quote, or a whole line that is a header. It begins within a line, but for the first one.
fn hides_lines(stream: impl Read, mut at_line: bool, within: Option<&Within>, found: &AtomicBool) -> io::Result<bool> {
    let mut blocks = Blocks::new(stream);
    while !found.load(Ordering::Relaxed) {
        blocks.fill()?;
        let bytes = blocks.bytes();
        if memchr(b'"', bytes).is_some() {
            return Ok(true);
        }
        let whole = match memrchr(b'\n', bytes) {
            Some(newline) if !blocks.ended() => newline + 1,
            None if !blocks.ended() && (bytes.len() as u64) < LINE_BYTES => 0,
            _ => bytes.len(),
        };
        let lines = bytes.get(..whole).unwrap_or_default();
        let from = if at_line { 0 } else { memchr(b'\n', lines).map_or(whole, |newline| newline + 1) };
        if within.is_some_and(|within| within.is_in(lines.get(from..).unwrap_or_default())) {
            return Ok(true);
        }
        at_line = if whole > 0 { lines.ends_with(b"\n") } else { at_line };
        blocks.consume(whole);
        if blocks.ended() {
            return Ok(false);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;
    use retally_core::split::Columns;

    #[test]
    fn a_quote_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x").display().to_string();
        let has_quote = |path: &str| -> io::Result<bool> {
            let version = InputFile::look(path)?.version()?;
            must_be_whole(&SourceFile { location: path.into(), version }, None)
        };
        let part = usize::try_from(SEARCHED_BYTES).unwrap();
        let mut text = vec![b'x'; 3 * part + 5];
        std::fs::write(&path, &text).unwrap();
        assert!(!has_quote(&path).unwrap());
        for place in [0, part - 1, part, 3 * part + 4] {
            text[place] = b'"';
            std::fs::write(&path, &text).unwrap();
            assert!(has_quote(&path).unwrap(), "{place}");
            text[place] = b'x';
        }
        assert!(has_quote("none").is_err());
    }

    #[test]
    fn a_header_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x").display().to_string();
        let input = sample::input();
        let columns = Columns { header: true, ..Columns::by_place(b',', &[0, 1]) };
        let within = Within::new(&columns, &input).unwrap();
        let must_be_whole = || {
            let version = InputFile::look(&path).unwrap().version().unwrap();
            must_be_whole(&SourceFile { location: path.clone(), version }, Some(&within)).unwrap()
        };
        let part = usize::try_from(SEARCHED_BYTES).unwrap();
        let line = b"2026-01-01T00:00:00Z,7\n";
        let mut text = b"time,id\n".to_vec();
        text.extend(line.repeat((2 * part + 5) / line.len()));
        std::fs::write(&path, &text).unwrap();
        assert!(!must_be_whole(), "its own header");
        for place in [8, 8 + (256 << 10) / line.len() * line.len(), 8 + part / line.len() * line.len(), text.len() - line.len()] {
            let mut other = text.clone();
            other.splice(place..place, *b"id,time\n");
            std::fs::write(&path, &other).unwrap();
            assert!(must_be_whole(), "{place}");
        }
    }
}
