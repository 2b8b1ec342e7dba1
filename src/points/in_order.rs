//! The lines of a file of points by their series, whoever wrote them.
//!
//! Workers write the points of a series one after the other, and series in any order. Here all lines of a series are brought together, and
//! series put in the order of their bytes: so the file is the same on any number of workers and processes. The lines of a series stay in
//! their order, in which a later one counts more than an earlier one.
//!
//! What is moved is runs of lines, as they lie in the file: a file of which all are in their places already is left as it is. Of each run
//! 24 bytes are in memory, and of each series its name and tags.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};

/// So much is read at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// Lines of one series that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: u64,
    bytes: u64,
}

/// Writes the lines of a file to another one in order. Returns whether they were in order already: then nothing was written.
pub fn write(from: &File, to: impl FnOnce() -> io::Result<File>) -> io::Result<Option<File>> {
    let Some(runs) = out_of_order(from)? else { return Ok(None) };
    let mut to = to()?;
    let mut source = from;
    for Run { from, bytes } in runs {
        source.seek(SeekFrom::Start(from))?;
        let copied = io::copy(&mut io::Read::take(source, bytes), &mut to)?;
        if copied < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    to.flush()?;
    Ok(Some(to))
}

/// The runs of a file in their order, unless they lie in it.
fn out_of_order(mut file: &File) -> io::Result<Option<Vec<Run>>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(BLOCK_BYTES, file);
    let (mut runs, mut cut) = (Runs::default(), Vec::new());
    loop {
        let block = reader.fill_buf()?;
        let (length, mut rest) = (block.len(), block);
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(newline + 1);
            rest = behind;
            if cut.is_empty() {
                runs.add(line);
            } else {
                cut.extend_from_slice(line);
                runs.add(&std::mem::take(&mut cut));
            }
        }
        cut.extend_from_slice(rest);
        if length == 0 {
            return Ok(runs.end(&cut));
        }
        reader.consume(length);
    }
}

/// The runs that were found so far.
#[derive(Default)]
struct Runs {
    series: BTreeMap<Vec<u8>, Vec<Run>>,
    /// The last one, and the series that it is of.
    last: Option<Run>,
    head: Vec<u8>,
    /// Series came again, or behind a later one.
    out_of_order: bool,
}

impl Runs {
    fn add(&mut self, line: &[u8]) {
        let bytes = line.len() as u64;
        match &mut self.last {
            Some(run) if line.starts_with(&self.head) => run.bytes += bytes,
            _ => {
                let from = self.finish();
                self.last = Some(Run { from, bytes });
                self.head.extend_from_slice(line.get(..head_bytes(line)).unwrap_or(line));
            }
        }
    }

    /// Finishes the last run. Returns where it ends.
    fn finish(&mut self) -> u64 {
        let Some(run) = self.last.take() else { return 0 };
        self.out_of_order |= self.series.last_key_value().is_some_and(|(last, _)| *last >= self.head);
        self.series.entry(std::mem::take(&mut self.head)).or_default().push(run);
        run.from + run.bytes
    }

    /// Takes what stands behind the last newline, and returns the runs in their order, unless they lie in it.
    fn end(mut self, rest: &[u8]) -> Option<Vec<Run>> {
        if !rest.is_empty() {
            self.add(rest);
        }
        self.finish();
        self.out_of_order.then(|| self.series.into_values().flatten().collect())
    }
}

/// The length of a line's measurement and tags, with the space behind them. One that is escaped is a part of them.
fn head_bytes(line: &[u8]) -> usize {
    let spaces = memchr::memchr_iter(b' ', line);
    let is_end = |space: &usize| !line.get(..*space).is_some_and(|before| before.ends_with(b"\\"));
    spaces.into_iter().find(is_end).map_or(line.len(), |space| space + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn ordered(text: &str) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut to = write(&file, tempfile::tempfile).unwrap()?;
        let mut found = String::new();
        to.seek(SeekFrom::Start(0)).unwrap();
        to.read_to_string(&mut found).unwrap();
        Some(found)
    }

    #[test]
    fn lines_of_a_series_come_together_in_their_order() {
        assert_eq!(
            ordered("m,a=2 x=1 5\nm,a=2 x=2 6\nm,a=1 x=1 9\nm,a=1 x=1 3\nm,a=2 x=3 1\nm,a=10 x=1 1\n").unwrap(),
            "m,a=1 x=1 9\nm,a=1 x=1 3\nm,a=10 x=1 1\nm,a=2 x=1 5\nm,a=2 x=2 6\nm,a=2 x=3 1\n"
        );
        assert_eq!(ordered("m,a=b\\ c x=1 5\nm,a=b x=2 6\nm,a=b\\ c x=2 6\n").unwrap(), "m,a=b x=2 6\nm,a=b\\ c x=1 5\nm,a=b\\ c x=2 6\n");
    }

    #[test]
    fn what_is_in_order_stays() {
        for text in ["", "m x=1 1\n", "m,a=1 x=1 9\nm,a=1 x=2 3\nm,a=2 x=1 1\n"] {
            assert_eq!(ordered(text), None, "{text}");
        }
    }

    /// Whatever the order in which they were written, and in how many pieces.
    #[test]
    fn any_order_of_series_gives_the_same() {
        let lines: Vec<Vec<String>> =
            (0..40).map(|series| (0..(series + 1) * 60).map(|time| format!("m,a={series} x=1 {time}\n")).collect()).collect();
        let mut written: Vec<String> = Vec::new();
        for step in [1, 7, 13] {
            let mut rest: Vec<_> = lines.iter().map(|lines| lines.iter()).collect();
            let mut text = String::new();
            for turn in 0.. {
                let taken = rest[turn * step % 40].by_ref().take(turn % 5 + 1).fold(String::new(), |text, line| text + line);
                text += &taken;
                if rest.iter().all(|rest| rest.len() == 0) {
                    break;
                }
            }
            written.push(ordered(&text).unwrap());
        }
        assert!(written.iter().all(|text| *text == written[0] && text.lines().count() == lines.concat().len()));
    }
}
