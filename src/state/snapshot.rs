//! What a journal comes to: the batches that it had, without the files that were taken back or came again for nothing.
//!
//! A snapshot stands for all files of the journal up to one: `snapshot/00000003.json.zst` for the first three. It is complete or not there;
//! what it stands for is removed after it is on the disk, and what a process that was killed left of that is removed by the next.
//!
//! # Limits
//! What is folded are files, not records: a file that was delivered and taken back under the same bounds of the clock is gone. Of a dataset
//! that came several times the last delivery remains.

use super::StateError;
use super::frame::{Frame, Part};
use super::journal::numbered;
use crate::ingest::plan::Origin;
use crate::staged::{Staged, sweep};
use retally_core::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

/// How much a snapshot is packed.
const PACKING_LEVEL: i32 = 3;
/// What the names of snapshots end in.
const ENDING: &str = ".json.zst";

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last file of the journal that it stands for.
    pub segment: u64,
    /// The batches of all dataflows, in order. What they come to is in the last one of each dataflow, and nothing in the others.
    pub frames: Vec<Frame>,
}

impl Snapshot {
    /// The newest in a folder; an empty one where there is none.
    pub fn read(dir: &Path) -> Result<Snapshot, StateError> {
        let Some(number) = numbers(dir)?.into_iter().next_back() else { return Ok(Snapshot::default()) };
        let path = path(dir, number);
        let damaged = |why: String| StateError::damaged(&path, why);
        let packed = std::fs::File::open(&path).map_err(StateError::io("open", &path))?;
        let unpacked = zstd::stream::read::Decoder::new(io::BufReader::new(packed)).map_err(StateError::io("read", &path))?;
        let snapshot: Snapshot =
            serde_json::from_reader(io::BufReader::new(unpacked)).map_err(|error| damaged(format!("it can't be read: {error}")))?;
        if snapshot.segment == number { Ok(snapshot) } else { Err(damaged("it stands for other files than its name says".into())) }
    }

    /// What some batches come to, which are all that there are.
    pub fn of(segment: u64, frames: &[Frame]) -> Snapshot {
        let mut net: BTreeMap<&str, Net<'_>> = BTreeMap::new();
        for frame in frames {
            let net = net.entry(&frame.dataflow).or_default();
            frame.parts.iter().enumerate().for_each(|(place, part)| net.add(part, frame.origin(place)));
        }
        let last: BTreeMap<&str, Epoch> = frames.iter().map(|frame| (frame.dataflow.as_str(), frame.epoch)).collect();
        let folded = |frame: &Frame| {
            let is_last = last.get(frame.dataflow.as_str()) == Some(&frame.epoch);
            let parts = net.get(frame.dataflow.as_str()).filter(|_| is_last).into_iter().flat_map(|net| net.parts.iter().flatten());
            let own = |(part, origin): &(&Part, Origin)| Part { origin: Some(*origin), ..(*part).clone() };
            Frame { parts: parts.map(own).collect(), ..frame.clone() }
        };
        Snapshot { segment, frames: frames.iter().map(folded).collect() }
    }

    /// Writes it. When this returns, the disk has it.
    pub fn write(&self, dir: &Path) -> Result<(), StateError> {
        let path = path(dir, self.segment);
        let write = || {
            std::fs::create_dir_all(dir)?;
            sweep(dir);
            let mut staged = Staged::create(&path)?;
            let mut packer = zstd::stream::write::Encoder::new(staged.file(), PACKING_LEVEL)?;
            packer.include_checksum(true)?;
            serde_json::to_writer(&mut packer, self)?;
            packer.finish()?;
            staged.sync()?;
            staged.publish()
        };
        write().map_err(StateError::io("write", &path)).map(drop)
    }
}

/// Removes all but the newest.
pub fn remove_older(dir: &Path) -> Result<(), StateError> {
    let mut numbers = numbers(dir)?;
    numbers.pop();
    numbers
        .into_iter()
        .map(|number| path(dir, number))
        .try_for_each(|path| std::fs::remove_file(&path).map_err(StateError::io("remove", &path)))
}

/// What the parts of a dataflow come to.
#[derive(Default)]
struct Net<'f> {
    /// Those that are the same together, as often as they were delivered more than taken back or the other way round; in the order in which
    /// they came first.
    parts: Vec<Vec<(&'f Part, Origin)>>,
    /// Where they are, by what makes them the same.
    places: HashMap<String, usize>,
}

impl<'f> Net<'f> {
    fn add(&mut self, part: &'f Part, origin: Origin) {
        let place = *self.places.entry(identity(part)).or_insert(self.parts.len());
        let Some(same) = self.parts.get_mut(place) else { return self.parts.push(vec![(part, origin)]) };
        if part.dataset().is_some() {
            // The last delivery counts.
            same.clear();
            same.extend((part.sign > 0).then_some((part, origin)));
        } else if same.last().is_some_and(|(last, _)| last.sign != part.sign) {
            same.pop();
        } else {
            same.push((part, origin));
        }
    }
}

/// What makes parts the same, whatever they are called: what they hold, how that is read, and their place in a folder that is a table, by
/// which they are taken back; of a dataset its key.
fn identity(part: &Part) -> String {
    let text = match part.dataset() {
        Some((input, key)) => serde_json::to_string(&(input, key)),
        None => {
            let place = part.folder.as_ref().map(|folder| (&folder.path, &folder.file));
            let lines = part.again.as_ref().map(|again| &again.lines);
            serde_json::to_string(&(&part.input, &part.content, &part.shape, part.accept_from, part.accept_until, place, lines))
        }
    };
    // Texts and numbers are written without fail.
    text.unwrap_or_default()
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}{ENDING}"))
}

/// Those that are there, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, StateError> {
    if dir.try_exists().map_err(StateError::io("list", dir))? { numbered(dir, ENDING) } else { Ok(Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::frame::{Blob, Content, InFolder};

    fn part(file: &str, sign: i8, until: i64) -> Part {
        let content = Content::Blob(Blob { file: file.into(), bytes: 1 });
        let name = format!("{file}.csv");
        Part {
            input: "events".into(),
            sign,
            name,
            content,
            accept_from: 0,
            accept_until: until,
            shape: None,
            folder: None,
            again: None,
            origin: None,
        }
    }

    fn frame(dataflow: &str, epoch: Epoch, parts: Vec<Part>) -> Frame {
        Frame { dataflow: dataflow.into(), epoch, arrived: 0, parts, key: None, answer: None }
    }

    #[test]
    fn what_was_taken_back_is_gone_and_the_rest_is_in_the_last_batch() {
        let frames = [
            frame("a", 1, vec![part("x", 1, 1), part("y", 1, 1)]),
            frame("b", 1, vec![part("x", 1, 1)]),
            frame("a", 2, vec![part("x", -1, 1), part("z", 1, 2), part("y", 1, 1)]),
            // Under other bounds of the clock, other records may have been refused.
            frame("a", 3, vec![part("z", -1, 3), part("w", -1, 1)]),
        ];
        let folded = Snapshot::of(7, &frames);
        let signs = |frame: &Frame| frame.parts.iter().map(|part| (part.name.clone(), part.sign)).collect::<Vec<_>>();
        let of = |file: &str, sign| (format!("{file}.csv"), sign);
        assert_eq!(folded.frames.iter().map(|frame| frame.epoch).collect::<Vec<_>>(), [1, 1, 2, 3]);
        assert_eq!(signs(&folded.frames[0]), []);
        assert_eq!(signs(&folded.frames[1]), [of("x", 1)]);
        assert_eq!(signs(&folded.frames[3]), [of("y", 1), of("y", 1), of("z", 1), of("z", -1), of("w", -1)]);
        // What it comes to comes to itself, and more can be added.
        assert_eq!(Snapshot::of(7, &folded.frames), folded);
        let mut more = folded.frames.clone();
        more.push(frame("a", 4, vec![part("w", 1, 1), part("y", -1, 1)]));
        assert_eq!(signs(Snapshot::of(8, &more).frames.last().unwrap()), [of("y", 1), of("z", 1), of("z", -1)]);
    }

    /// Two files of a folder that hold the same: each is taken back by its own name.
    #[test]
    fn files_of_a_folder_are_told_by_their_places() {
        let of = |file: &str, sign, modified| {
            let folder = Some(InFolder { path: "drop".into(), file: file.into(), modified_ns: Some(modified) });
            Part { folder, ..part("x", sign, 1) }
        };
        let files = |frames: &[Frame]| -> Vec<(String, i8)> {
            let last = Snapshot::of(1, frames).frames.pop().unwrap();
            last.parts.into_iter().map(|part| (part.folder.unwrap().file, part.sign)).collect()
        };
        let both = frame("a", 1, vec![of("one", 1, 7), of("two", 1, 7)]);
        assert_eq!(files(std::slice::from_ref(&both)), [("one".into(), 1), ("two".into(), 1)]);
        // One was touched, and then taken away.
        assert_eq!(files(&[both, frame("a", 2, vec![of("one", -1, 9)])]), [("two".into(), 1)]);
    }

    #[test]
    fn the_newest_is_read_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("snapshot");
        assert_eq!(Snapshot::read(&dir).unwrap(), Snapshot::default());
        let old = Snapshot::of(2, &[frame("a", 1, vec![part("x", 1, 1)])]);
        let new = Snapshot::of(5, &[frame("a", 1, vec![part("y", 1, 1)])]);
        old.write(&dir).unwrap();
        new.write(&dir).unwrap();
        assert_eq!(Snapshot::read(&dir).unwrap(), new);
        remove_older(&dir).unwrap();
        assert_eq!(numbers(&dir).unwrap(), [5]);
        let path = path(&dir, 5);
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 4;
            std::fs::write(&path, &flipped).unwrap();
            // Some bits of a packed file mean nothing.
            assert!(Snapshot::read(&dir).map_or(true, |read| read == new), "{place}");
        }
    }
}
