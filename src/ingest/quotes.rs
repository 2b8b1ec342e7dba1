//! Looks for quotes in a large CSV file: where there is none, every newline ends a record, and the file can be cut.

use super::blocks::BLOCK_BYTES;
use super::file::InputFile;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Quotes are looked for in parts of this size: 16 MiB.
const SEARCHED_BYTES: u64 = 16 << 20;
/// So many look for quotes in what is far away.
const SEARCHERS_AFAR: usize = 8;

/// Whether a file of so many bytes has a quote anywhere. Several look at once: at parts in turn, until one is found.
pub fn has_quote(path: &str, bytes: u64) -> io::Result<bool> {
    // Of what is far away, several parts come faster than one; here, the cores are what there is.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if path.contains("://") { SEARCHERS_AFAR } else { cores };
    let parts = bytes.div_ceil(SEARCHED_BYTES);
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let search = || -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        while !found.load(Ordering::Relaxed) {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            let (from, until) = (part * SEARCHED_BYTES, (part + 1) * SEARCHED_BYTES);
            let mut stream = InputFile::open_range(path, from, Some(until))?.take(SEARCHED_BYTES);
            loop {
                let length = stream.read(&mut block)?;
                let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
                if memchr::memchr(b'"', bytes).is_some() {
                    found.store(true, Ordering::Relaxed);
                    return Ok(());
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x").display().to_string();
        let part = usize::try_from(SEARCHED_BYTES).unwrap();
        let mut text = vec![b'x'; 3 * part + 5];
        std::fs::write(&path, &text).unwrap();
        assert!(!has_quote(&path, text.len() as u64).unwrap());
        for place in [0, part - 1, part, 3 * part + 4] {
            text[place] = b'"';
            std::fs::write(&path, &text).unwrap();
            assert!(has_quote(&path, text.len() as u64).unwrap(), "{place}");
            text[place] = b'x';
        }
        assert!(has_quote("none", 1).is_err());
    }
}
