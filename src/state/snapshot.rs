//! What a journal comes to: the batches that it had, without the files that were taken back or came again for nothing.
//!
//! A snapshot stands for all files of the journal up to one: `snapshot/00000003.json.zst` for the first three. It is complete or not there;
//! what it stands for is removed after it is on the disk, and what a process that was killed left of that is removed by the next.
//!
//! # Limits
//! Of small batches lines are folded ([`super::lines`]), and otherwise files: a file that was delivered and taken back under the same
//! bounds of the clock is gone. Of a dataset that came several times the last delivery remains.

use super::StateError;
use super::frame::{Blob, Content, Frame, Only, Part};
use super::lines::Lines;
use super::shelf::{Shelf, numbered};
use crate::ingest::plan::Origin;
use crate::sinks::live::Forgotten;
use retally_core::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

/// How much a snapshot is packed.
const PACKING_LEVEL: i32 = 3;
/// A journal is not folded so often while it is read once.
const READ_TRIES: usize = 10;
/// The folder of snapshots.
pub const SNAPSHOT: &str = "snapshot";
/// What the names of snapshots end in.
const ENDING: &str = ".json.zst";

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last file of the journal that it stands for.
    pub segment: u64,
    /// Those of them with which processes began to write, in a bucket. They are never removed: a process that began before, and does not
    /// know it, would write what nobody reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<u64>,
    /// The batches of all dataflows, in order. What they come to is in the last one of each dataflow, and nothing in the others.
    pub frames: Vec<Frame>,
}

impl Snapshot {
    /// The newest of a state; an empty one where there is none.
    pub fn read(shelf: &dyn Shelf) -> Result<Snapshot, StateError> {
        let Some(number) = numbers(shelf)?.into_iter().next_back() else { return Ok(Snapshot::default()) };
        let (name, path) = (name(number), shelf.path(&name(number)));
        let damaged = |why: String| StateError::damaged(&path, why);
        let packed = shelf.open(&name)?;
        let unpacked = zstd::stream::read::Decoder::new(io::BufReader::new(packed)).map_err(StateError::io("read", &path))?;
        let snapshot: Snapshot =
            serde_json::from_reader(io::BufReader::new(unpacked)).map_err(|error| damaged(format!("it can't be read: {error}")))?;
        if snapshot.segment == number { Ok(snapshot) } else { Err(damaged("it stands for other files than its name says".into())) }
    }

    /// Hands the newest of a state to `read`, which reads what is behind it too. Another thread or process may fold the journal meanwhile,
    /// and remove files of it: then all is read once more, from the new one.
    pub fn with_newest<T>(shelf: &dyn Shelf, mut read: impl FnMut(Snapshot) -> Result<T, StateError>) -> Result<T, StateError> {
        let newest = || numbers(shelf).map(|numbers| numbers.into_iter().next_back());
        for _ in 1..READ_TRIES {
            let before = newest()?;
            let result = Snapshot::read(shelf).and_then(&mut read);
            if newest()? == before {
                return result;
            }
        }
        Snapshot::read(shelf).and_then(read)
    }

    /// What some batches come to, which are all that there are; and what came of what was forgotten.
    pub fn of(segment: u64, begun: Vec<u64>, frames: &[Frame], tools: &mut impl Tools) -> Result<(Snapshot, Erased), StateError> {
        let parts = frames.iter().flat_map(|frame| &frame.parts);
        let besides = parts.filter(|part| !part.only.is_empty() || part.again.is_some());
        let partly: HashSet<String> = besides.map(whole).collect();
        let is_whole = |frame: &Frame| partly.is_empty() || frame.parts.iter().all(|part| !partly.contains(&whole(part)));
        let mut small: BTreeMap<&str, Lines<'_>> = BTreeMap::new();
        let (mut large, mut new) = (Vec::new(), Vec::new());
        for frame in frames {
            if !is_whole(frame) || !small.entry(&frame.dataflow).or_default().add(frame) {
                large.push(frame);
            }
        }
        for (dataflow, lines) in small {
            let parts = lines.parts(&mut |name, text| tools.keep(name, text))?;
            new.extend(parts.into_iter().map(|part| (dataflow, part)));
        }
        let last: BTreeMap<&str, &Frame> = frames.iter().map(|frame| (frame.dataflow.as_str(), frame)).collect();
        let mut net: BTreeMap<&str, Net<'_>> = BTreeMap::new();
        for frame in large {
            let net = net.entry(&frame.dataflow).or_default();
            frame.parts.iter().enumerate().for_each(|(place, part)| net.add(part, frame.origin(place)));
        }
        for ((dataflow, part), number) in new.iter().zip(1..) {
            let origin = last.get(dataflow).map(|last| Origin { batch: last.epoch, part: last.parts.len() as u64 + number });
            net.entry(dataflow).or_default().add(part, origin.unwrap_or_default());
        }
        let mut erased = Erased::default();
        let mut left: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
        // What came of a batch may not be known yet.
        let refused = frames.iter().filter(|frame| frame.answer.as_ref().is_none_or(|answer| answer.rejected > 0));
        let refused: HashSet<(&str, Epoch)> = refused.map(|frame| (frame.dataflow.as_str(), frame.epoch)).collect();
        for (dataflow, mut net) in net {
            let dropped = std::mem::take(&mut net.dropped).into_iter().filter(|(_, origin)| refused.contains(&(dataflow, origin.batch)));
            erased.gone.extend(dropped.map(|(part, origin)| lines_of(dataflow, part, origin, Vec::new())));
            left.insert(dataflow, net.erase(dataflow, tools, &mut erased)?);
        }
        let folded = |frame: &Frame| {
            let is_last = last.get(frame.dataflow.as_str()).is_some_and(|last| last.epoch == frame.epoch);
            let parts = left.get(frame.dataflow.as_str()).filter(|_| is_last).cloned().unwrap_or_default();
            Frame { parts, ..frame.clone() }
        };
        Ok((Snapshot { segment, begun, frames: frames.iter().map(folded).collect() }, erased))
    }

    /// Writes it. When this returns, it is there for good.
    pub fn write(&self, shelf: &dyn Shelf) -> Result<(), StateError> {
        shelf.write(&name(self.segment), &mut |file| {
            let mut packer = zstd::stream::write::Encoder::new(file, PACKING_LEVEL)?;
            packer.include_checksum(true)?;
            serde_json::to_writer(&mut packer, self)?;
            packer.finish().map(drop)
        })
    }
}

/// What writes files of a state while it is folded.
pub trait Tools {
    /// Keeps a text as a file of this name.
    fn keep(&mut self, name: &str, text: &str) -> Result<Blob, StateError>;
    /// Rewrites a file of a dataflow without the records of which one of these holds. Nothing, where it can't; where none is left,
    /// there is no file.
    fn erase(&mut self, dataflow: &str, part: &Part, forgotten: &[Only]) -> Result<Option<Option<Content>>, StateError>;
}

/// What came of what was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many files were rewritten.
    pub files: u64,
    /// The names of those that still hold what was forgotten: they can't be rewritten.
    pub holding: Vec<String>,
    /// Lines that were refused, and left a file with what was forgotten, or left with their file.
    pub gone: Vec<Forgotten>,
}

/// Removes all but the newest.
pub fn remove_older(shelf: &dyn Shelf) -> Result<(), StateError> {
    let mut numbers = numbers(shelf)?;
    numbers.pop();
    let names: Vec<String> = numbers.into_iter().map(name).collect();
    shelf.remove(&names)
}

/// What the parts of a dataflow come to.
#[derive(Default)]
struct Net<'f> {
    /// Those that are the same together, as often as they were delivered more than taken back or the other way round; in the order in which
    /// they came first.
    parts: Vec<Vec<(&'f Part, Origin)>>,
    /// Where they are, by what makes them the same.
    places: HashMap<String, usize>,
    /// Those that came to nothing.
    dropped: Vec<(&'f Part, Origin)>,
}

impl<'f> Net<'f> {
    fn add(&mut self, part: &'f Part, origin: Origin) {
        let place = *self.places.entry(identity(part)).or_insert(self.parts.len());
        let Some(same) = self.parts.get_mut(place) else { return self.parts.push(vec![(part, origin)]) };
        if part.dataset().is_some() {
            // The last delivery counts.
            self.dropped.append(same);
            same.extend((part.sign > 0).then_some((part, origin)));
        } else if same.last().is_some_and(|(last, _)| last.sign != part.sign) {
            self.dropped.extend(same.pop());
            self.dropped.push((part, origin));
        } else {
            same.push((part, origin));
        }
    }

    /// Rewrites the files of which records were taken back because they were forgotten, and for good.
    fn erase(self, dataflow: &str, tools: &mut impl Tools, erased: &mut Erased) -> Result<Vec<Part>, StateError> {
        // With each file, what else is said of it: records of it that were forgotten, or lines that were delivered once more.
        let mut besides: BTreeMap<String, Vec<&[(&Part, Origin)]>> = BTreeMap::new();
        let is_besides = |part: &Part| !part.only.is_empty() || part.again.is_some();
        let mut files = Vec::new();
        for same in &self.parts {
            match same.first() {
                Some((part, _)) if is_besides(part) => besides.entry(whole(part)).or_default().push(same),
                Some((part, _)) => files.push((part, same)),
                None => {}
            }
        }
        let mut left = Vec::new();
        for (part, same) in files {
            let of = if besides.is_empty() { None } else { besides.remove(&whole(part)) };
            let forgotten = of.as_deref().and_then(|of| conditions(of, same));
            let content = match &forgotten {
                Some(forgotten) => tools.erase(dataflow, part, forgotten)?,
                None => None,
            };
            match content {
                Some(content) => {
                    erased.files += 1;
                    let values: Vec<String> = forgotten.into_iter().flatten().map(|only| only.value).collect();
                    erased.gone.extend(same.iter().map(|(part, origin)| lines_of(dataflow, part, *origin, values.clone())));
                    let content = content.as_ref();
                    left.extend(content.into_iter().flat_map(|content| same.iter().map(|of| Part { content: content.clone(), ..own(of) })));
                }
                None => {
                    let of = of.unwrap_or_default();
                    if of.iter().copied().flatten().any(|(part, _)| !part.only.is_empty()) {
                        erased.holding.push(part.name.clone());
                    }
                    left.extend(same.iter().chain(of.into_iter().flatten()).map(own));
                }
            }
        }
        left.extend(besides.into_values().flatten().flatten().map(own));
        Ok(left)
    }
}

/// The lines of a part in which one of these stands, or all of them.
fn lines_of(dataflow: &str, part: &Part, Origin { batch, part: number }: Origin, values: Vec<String>) -> Forgotten {
    Forgotten { dataflow: dataflow.into(), ids: format!("{batch}.{number}."), source: part.name.clone(), values }
}

/// A part, with where it comes from.
fn own((part, origin): &(&Part, Origin)) -> Part {
    Part { origin: Some(*origin), ..(*part).clone() }
}

/// What was forgotten of a file, where all of it was: each record that is meant by some of the conditions is not there any more. Nothing,
/// where the file has been delivered again since, or lines of it have.
fn conditions(of: &[&[(&Part, Origin)]], file: &[(&Part, Origin)]) -> Option<Vec<Only>> {
    let count = |same: &[(&Part, Origin)]| same.iter().map(|(part, _)| i64::from(part.sign)).sum::<i64>();
    let file = count(file);
    let mut conditions = Vec::new();
    for same in of {
        let (part, _) = same.first().filter(|(part, _)| part.again.is_none())?;
        // What two conditions have in common was taken back twice, and given back once; and so on.
        if count(same) != if part.only.len() % 2 == 0 { file } else { -file } {
            return None;
        }
        conditions.extend(part.only.first().filter(|_| part.only.len() == 1).cloned());
    }
    Some(conditions)
}

/// What makes parts the same, whatever they are called: what they hold, how that is read, and their place in a folder that is a table, by
/// which they are taken back; of a dataset its key.
fn identity(part: &Part) -> String {
    whole_lines(part) + &text(&part.only)
}

/// The same, whichever of its records are meant, of the same lines.
pub fn whole_lines(part: &Part) -> String {
    whole(part) + &text(&part.again.as_ref().map(|again| &again.lines))
}

/// The same, whichever of its records and lines are meant.
fn whole(part: &Part) -> String {
    match part.dataset() {
        Some(dataset) => text(&dataset),
        None => {
            let place = part.folder.as_ref().map(|folder| (&folder.path, &folder.file));
            text(&(&part.input, &part.content, &part.shape, part.accept_from, part.accept_until, place))
        }
    }
}

fn text(what: &impl Serialize) -> String {
    // Texts and numbers are written without fail.
    serde_json::to_string(what).unwrap_or_default()
}

fn name(number: u64) -> String {
    format!("{SNAPSHOT}/{number:08}{ENDING}")
}

/// Those that are there, in order.
pub fn numbers(shelf: &dyn Shelf) -> Result<Vec<u64>, StateError> {
    match numbered(shelf, SNAPSHOT, ENDING) {
        Err(StateError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        numbers => numbers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::frame::{Answer, Blob, Content, InFolder};
    use crate::state::shelf::Folder;

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
            only: Vec::new(),
            again: None,
            messages: None,
            origin: None,
            rejected_kept: None,
        }
    }

    fn frame(dataflow: &str, epoch: u64, parts: Vec<Part>) -> Frame {
        let answer = Some(Answer { accepted: 1, late: 0, rejected: 0, changed: BTreeMap::new() });
        Frame { dataflow: dataflow.into(), epoch, arrived: 0, parts, key: None, answer, positions: Vec::new() }
    }

    #[test]
    fn lines_that_were_refused_leave_with_their_file() {
        let refused = |mut frame: Frame, rejected: Option<u64>| {
            frame.answer = rejected.map(|rejected| Answer { accepted: 1, late: 0, rejected, changed: BTreeMap::new() });
            frame
        };
        let frames = [
            refused(frame("a", 1, vec![part("x", 1, 1), part("y", 1, 1)]), Some(2)),
            frame("a", 2, vec![part("z", 1, 1), part("z", -1, 1)]),
            refused(frame("a", 3, vec![part("x", -1, 1)]), None),
        ];
        let (_, erased) = Snapshot::of(1, Vec::new(), &frames, &mut Files).unwrap();
        let gone: Vec<_> = erased.gone.iter().map(|gone| (gone.ids.as_str(), gone.source.as_str(), gone.values.len())).collect();
        assert_eq!(gone, [("1.1.", "x.csv", 0), ("3.1.", "x.csv", 0)], "of what is there, and of batches without any, none");
    }

    fn of(segment: u64, frames: &[Frame]) -> Snapshot {
        let (snapshot, erased) = Snapshot::of(segment, Vec::new(), frames, &mut Files).unwrap();
        assert_eq!(erased, Erased::default());
        snapshot
    }

    /// Files that are rewritten have a name with what was forgotten; those named `stuck` can't be.
    struct Files;

    impl Tools for Files {
        fn keep(&mut self, name: &str, _: &str) -> Result<Blob, StateError> {
            panic!("{name} is made of files")
        }

        fn erase(&mut self, _: &str, part: &Part, forgotten: &[Only]) -> Result<Option<Option<Content>>, StateError> {
            let Content::Blob(blob) = &part.content else { panic!("{part:?}") };
            let values: Vec<&str> = forgotten.iter().map(|only| only.value.as_str()).collect();
            let file = format!("{}-{}", blob.file, values.join("-"));
            let is_empty = values.contains(&"all");
            Ok((blob.file != "stuck").then(|| (!is_empty).then_some(Content::Blob(Blob { file, bytes: 1 }))))
        }
    }

    /// A journal that is folded while it is read.
    #[test]
    fn what_is_folded_meanwhile_is_read_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Folder::new(dir.path());
        let [old, new] = [1, 2].map(|segment| Snapshot { segment, ..Snapshot::default() });
        old.write(&shelf).unwrap();
        let mut read = Vec::new();
        let told = Snapshot::with_newest(&shelf, |snapshot| {
            read.push(snapshot.segment);
            if snapshot == new {
                return Ok(snapshot.segment);
            }
            new.write(&shelf)?;
            remove_older(&shelf)?;
            Err(StateError::damaged(dir.path(), "a file of the journal is gone".into()))
        });
        assert_eq!((told.unwrap(), read), (2, vec![1, 2]));
        // What is wrong all the same is told.
        let failed = Snapshot::with_newest(&shelf, |_| Err::<(), _>(StateError::damaged(dir.path(), "it is damaged".into())));
        assert!(failed.is_err());
    }

    #[test]
    fn what_was_forgotten_is_erased_where_all_of_it_was() {
        let only = |value: &str| Only { field: "id".into(), value: value.into(), exact: false };
        let of = |file: &str, sign, values: &[&str]| Part { only: values.iter().map(|value| only(value)).collect(), ..part(file, sign, 1) };
        let frames = [
            frame(
                "a",
                1,
                vec![of("x", 1, &[]), of("y", 1, &[]), of("z", 1, &[]), of("stuck", 1, &[]), of("w", 1, &[]), of("gone", 1, &[])],
            ),
            frame("a", 2, vec![of("x", -1, &["7"]), of("z", -1, &["7"]), of("stuck", -1, &["7"]), of("w", -1, &["all"])]),
            // And another of the same, with what both have in common.
            frame("a", 3, vec![of("x", -1, &["8"]), of("x", 1, &["7", "8"]), of("gone", -1, &["8"])]),
            // Delivered again, and taken back as a whole.
            frame("a", 4, vec![of("z", 1, &[]), of("gone", -1, &[]), of("gone", 1, &["8"])]),
        ];
        let (snapshot, erased) = Snapshot::of(1, Vec::new(), &frames, &mut Files).unwrap();
        let file = |part: &Part| match &part.content {
            Content::Blob(blob) => (blob.file.clone(), part.sign, part.only.len()),
            _ => panic!("{part:?}"),
        };
        let left: Vec<_> = snapshot.frames.last().unwrap().parts.iter().map(file).collect();
        let is = |file: &str, sign, only| (file.to_string(), sign, only);
        let z = [is("z", 1, 0), is("z", 1, 0), is("z", -1, 1)];
        assert_eq!(left, [&[is("x-7-8", 1, 0), is("y", 1, 0)], &z[..], &[is("stuck", 1, 0), is("stuck", -1, 1)]].concat());
        assert_eq!((erased.files, erased.holding), (2, vec!["z.csv".to_string(), "stuck.csv".into()]));
        assert_eq!(erased.gone.len(), 2, "{:?}", erased.gone);
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
        let folded = of(7, &frames);
        let signs = |frame: &Frame| frame.parts.iter().map(|part| (part.name.clone(), part.sign)).collect::<Vec<_>>();
        let is = |file: &str, sign| (format!("{file}.csv"), sign);
        assert_eq!(folded.frames.iter().map(|frame| frame.epoch).collect::<Vec<_>>(), [1, 1, 2, 3]);
        assert_eq!(signs(&folded.frames[0]), []);
        assert_eq!(signs(&folded.frames[1]), [is("x", 1)]);
        assert_eq!(signs(&folded.frames[3]), [is("y", 1), is("y", 1), is("z", 1), is("z", -1), is("w", -1)]);
        // What it comes to comes to itself, and more can be added.
        assert_eq!(of(7, &folded.frames), folded);
        let mut more = folded.frames.clone();
        more.push(frame("a", 4, vec![part("w", 1, 1), part("y", -1, 1)]));
        assert_eq!(signs(of(8, &more).frames.last().unwrap()), [is("y", 1), is("z", 1), is("z", -1)]);
    }

    /// Two files of a folder that hold the same: each is taken back by its own name.
    #[test]
    fn files_of_a_folder_are_told_by_their_places() {
        let in_folder = |file: &str, sign, modified| {
            let folder = Some(InFolder { path: "drop".into(), file: file.into(), modified_ns: Some(modified) });
            Part { folder, ..part("x", sign, 1) }
        };
        let files = |frames: &[Frame]| -> Vec<(String, i8)> {
            let last = of(1, frames).frames.pop().unwrap();
            last.parts.into_iter().map(|part| (part.folder.unwrap().file, part.sign)).collect()
        };
        let both = frame("a", 1, vec![in_folder("one", 1, 7), in_folder("two", 1, 7)]);
        assert_eq!(files(std::slice::from_ref(&both)), [("one".into(), 1), ("two".into(), 1)]);
        // One was touched, and then taken away.
        assert_eq!(files(&[both, frame("a", 2, vec![in_folder("one", -1, 9)])]), [("two".into(), 1)]);
    }

    #[test]
    fn the_newest_is_read_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Folder::new(dir.path());
        assert_eq!(Snapshot::read(&shelf).unwrap(), Snapshot::default());
        let old = of(2, &[frame("a", 1, vec![part("x", 1, 1)])]);
        let new = of(5, &[frame("a", 1, vec![part("y", 1, 1)])]);
        old.write(&shelf).unwrap();
        new.write(&shelf).unwrap();
        assert_eq!(Snapshot::read(&shelf).unwrap(), new);
        remove_older(&shelf).unwrap();
        assert_eq!(numbers(&shelf).unwrap(), [5]);
        let path = shelf.path(&name(5));
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 4;
            std::fs::write(&path, &flipped).unwrap();
            // Some bits of a packed file mean nothing.
            assert!(Snapshot::read(&shelf).map_or(true, |read| read == new), "{place}");
        }
    }
}
