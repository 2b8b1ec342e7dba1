//! Looks for quotes in a large CSV file: where there is none, every newline ends a record, and the file can be cut.

use super::blocks::BLOCK_BYTES;
use super::file::{InputFile, size};
use retally_core::split::SourceFile;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Quotes are looked for in parts of this size: 16 MiB.
const SEARCHED_BYTES: u64 = 16 << 20;
/// So many look for quotes in what is far away.
const SEARCHERS_AFAR: usize = 8;

/// Whether a file has a quote anywhere. Several look at once: at parts in turn, until one is found.
pub fn has_quote(file: &SourceFile) -> io::Result<bool> {
    // Of what is far away, several parts come faster than one; here, the cores are what there is.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if file.location.contains("://") { SEARCHERS_AFAR } else { cores };
    let parts = size(&file.version).div_ceil(SEARCHED_BYTES);
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let search = || -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        while !found.load(Ordering::Relaxed) {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            let (from, until) = (part * SEARCHED_BYTES, (part + 1) * SEARCHED_BYTES);
            let mut stream = InputFile::open_planned(file, from, Some(until))?.take(SEARCHED_BYTES);
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
        let has_quote = |path: &str| -> io::Result<bool> {
            let version = InputFile::look(path)?.version()?;
            has_quote(&SourceFile { location: path.into(), version })
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
}
