//! Cuts a batch into splits.
//!
//! The beginning of each file tells which delimiter it has, whether there is a header, whether it is lines or an array. A large
//! plain file becomes several splits, so that all workers read it; a CSV file in which a quote occurs anywhere does not,
//! because a quoted field may hold newlines, and only a reader that comes from the beginning knows. To know that there is
//! none, a plain CSV file that is larger than a split is read once here, by several threads, before its splits are.

use super::IngestError;
use super::SPLIT_BYTES;
use super::archive::Members;
use super::batch::{Arrival, Batch, Part, Source};
use super::body::{self, UNPACKED_BYTES_MAX};
use super::cuts;
use super::file::{InputFile, size};
use super::format::{self, Content, ENDINGS, Kind};
use super::header::{Headers, Purpose, SeenHeaders};
use super::jobs::{self, BadDatasetJob, DatasetJob, JobQueue};
use super::look::{self, Looker};
use super::members;
use super::messages::Messages;
use super::parquet::{self, parts::Parts};
use super::paths::{self, Found};
use super::pipes::{self, Waiting};
use super::quotes::must_be_whole;
use super::read::FileOpener;
use super::streams;
use super::unpack::{Broken, unpacked};
use super::version::Changed;
use super::within::Within;
use crate::shown;
use retally_core::Epoch;
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::definition::{Shape, TextFormat};
use retally_core::split::{
    Archive, Dataset, Format, Late, Lines, Location, Opener, Packing, RefusedJob, SourceFile, Split, SplitError, Version,
};
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

/// What stands for standard input.
pub const STDIN: &str = "-";
/// So many files are opened at once to look at them.
const LOOKED_MAX: usize = 64;

/// A file of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// The input's place.
    pub input: usize,
    /// Its name, as in the column `source` of the table `rejected`.
    pub name: String,
    /// Its splits are those from this number on, up to those of the next file.
    pub first_split: u64,
    /// Which messages its lines are, where they came as such.
    pub messages: Option<Arc<Messages>>,
}

/// Which part of which batch something came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The batch; 0 for the one that is planned.
    pub batch: Epoch,
    /// The part's number in it, from 1.
    pub part: u64,
}

/// A part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedPart {
    /// Its splits are those from this number on, up to those of the next part.
    pub first_split: u64,
    /// Where its records come from, in the table `rejected`.
    pub origin: Origin,
    /// Its records were refused before, and what is refused of them now leaves `rejected`.
    pub undone: bool,
    /// So many refused records of its batch are kept as rows, where that is known of the batch.
    pub rejected_kept: Option<u64>,
}

/// What becomes of a batch.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The splits.
    pub splits: Vec<Split>,
    /// The parts, in order.
    pub parts: Vec<PlannedPart>,
    /// The files, in order.
    pub files: Vec<PlannedFile>,
    /// Files in folders that were passed over.
    pub passed_over: Vec<String>,
    /// The bytes of all files.
    pub bytes: u64,
    /// What people should know of.
    pub notes: Vec<String>,
    /// The headers of its files.
    pub headers: SeenHeaders,
    /// It is of folders that are the tables of inputs.
    pub is_of_folder: bool,
    /// When it arrived, where as-of may depend on that.
    pub arrived: Option<Moment>,
}

impl Plan {
    /// Reads all packed files, archives and Parquet to their ends, up to so many bytes each as they unpack, and keeps nothing of them: what
    /// is cut off or broken is refused before any of it reaches a dataflow, and so are archives whose files don't agree. A run does
    /// without, since it would read all files twice. The definition is that of the batch.
    pub fn check_packed(&self, definition: &Definition, unpacked_bytes_max: u64) -> Result<(), IngestError> {
        // A packed file is one split; of a zip, each split is a limit's worth.
        let is_packed = |split: &Split| split.packing != Packing::Plain || matches!(split.format, Format::Archive(_) | Format::Parquet);
        let mut archives: BTreeMap<&str, Members> = BTreeMap::new();
        for split in self.splits.iter().filter(|split| is_packed(split)) {
            let Location::File(file) = &split.location else { continue };
            let Some(input) = input_of(definition, split) else { continue };
            if matches!(split.format, Format::Parquet) {
                let broken = |error: SplitError| IngestError::Body { name: self.name_of(split).into(), why: error.to_string() };
                let mut reader = FileOpener::default().open(split, &input).map_err(broken)?;
                while reader.read(&mut |_| {}).map_err(broken)? {}
                continue;
            }
            let mut members = body::check_split(split, file, &input, unpacked_bytes_max).map_err(|error| match error {
                IngestError::Body { why, .. } => IngestError::Body { name: self.name_of(split).into(), why },
                error => error,
            })?;
            let all = archives.entry(&file.location).or_default();
            all.read += members.read;
            all.passed_over.append(&mut members.passed_over);
        }
        match archives.into_iter().find(|(_, members)| members.read == 0 && !members.passed_over.is_empty()) {
            Some((path, members)) => Err(IngestError::NoMember { path: path.into(), passed_over: members.passed_over }),
            None => Ok(()),
        }
    }

    /// What the file of a split is called: what was kept has a name of its own.
    fn name_of(&self, split: &Split) -> &str {
        let next = self.files.partition_point(|file| file.first_split <= split.sequence);
        next.checked_sub(1).and_then(|place| self.files.get(place)).map_or("", |file| &file.name)
    }

    /// Adds the splits of another plan behind its own.
    pub fn append(&mut self, mut other: Plan) {
        let first = self.splits.len() as u64;
        other.splits.iter_mut().for_each(|split| split.sequence += first);
        other.files.iter_mut().for_each(|file| file.first_split += first);
        other.parts.iter_mut().for_each(|part| part.first_split += first);
        self.splits.append(&mut other.splits);
        self.parts.append(&mut other.parts);
        self.files.append(&mut other.files);
        self.passed_over.append(&mut other.passed_over);
        self.notes.append(&mut other.notes);
        self.bytes += other.bytes;
        self.arrived = self.arrived.max(other.arrived);
        self.headers.add(&other.headers);
        self.is_of_folder |= other.is_of_folder;
    }

    /// The part that a split is of.
    pub fn part_of(&self, sequence: u64) -> Option<&PlannedPart> {
        let behind = self.parts.partition_point(|part| part.first_split <= sequence);
        self.parts.get(behind.checked_sub(1)?)
    }

    /// The lines of its `nth` part, from 0, are messages: each line is a record, whatever the first of them looks like.
    pub fn of_messages(&mut self, nth: usize, messages: Arc<Messages>) {
        let Some(first) = self.parts.get(nth).map(|part| part.first_split) else { return };
        let end = self.parts.get(nth + 1).map_or(u64::MAX, |next| next.first_split);
        for split in self.splits.iter_mut().filter(|split| (first..end).contains(&split.sequence)) {
            match &mut split.format {
                Format::Json { .. } => split.format = Format::JsonLines,
                Format::Csv(columns) => columns.lines_only = true,
                Format::JsonLines | Format::Parquet | Format::Archive(_) => {}
            }
        }
        self.files
            .iter_mut()
            .filter(|file| (first..end).contains(&file.first_split))
            .for_each(|file| file.messages = Some(Arc::clone(&messages)));
    }

    /// So many parts of the batch come before those of this plan.
    pub fn number_behind(&mut self, parts: usize) {
        let own = self.parts.iter_mut().filter(|part| part.origin.batch == 0);
        own.for_each(|part| part.origin.part += parts as u64);
    }

    /// Only these lines of its file count. It is read as a whole: which line is which is known from its beginning.
    pub fn only(&mut self, lines: Lines) {
        self.splits.truncate(1);
        let only = Some(Arc::new(lines));
        self.splits.iter_mut().for_each(|split| (split.range, split.only) = ((0, u64::MAX), only.clone()));
    }

    /// Says how the files of inputs become records where that is not as a job has it. The plan was made for these inputs.
    pub fn shape(&mut self, planned: &[Input], job: &[Input]) {
        let other = |(planned, job): (&Input, &Input)| Some(planned.shape()).filter(|shape| *shape != job.shape()).map(Arc::new);
        let shapes: Vec<Option<Arc<Shape>>> = planned.iter().zip(job).map(other).collect();
        self.splits.iter_mut().for_each(|split| split.shape = shapes.get(split.input).cloned().flatten());
    }

    /// A dataset of an input with what its streams are now. Their bytes are some of the batch's.
    fn dataset(&mut self, input: &Input, mut dataset: Dataset) -> Location {
        dataset.encoding.clone_from(&input.files.encoding);
        dataset.versions = dataset.streams.iter().map(|stream| streams::file(stream)).collect();
        self.bytes += dataset.versions.iter().flatten().map(|version| version.bytes).sum::<u64>();
        Location::Dataset(dataset)
    }

    /// Keeps of each file what other processes, which may have copies, can tell it by. A run of one process does without.
    pub fn identify_for_others(&mut self) -> Result<(), IngestError> {
        let mut last: Option<(Arc<SourceFile>, Arc<SourceFile>)> = None;
        for split in &mut self.splits {
            let file = match &mut split.location {
                Location::File(file) => file,
                Location::Dataset(dataset) => {
                    identify_dataset(dataset)?;
                    continue;
                }
                Location::Stream { .. } | Location::Inline(_) | Location::Refused(_) => continue,
            };
            let identified = match &last {
                Some((before, after)) if Arc::ptr_eq(before, file) => Arc::clone(after),
                _ => Arc::new(identified(file)?),
            };
            let before = std::mem::replace(file, Arc::clone(&identified));
            last = Some((before, identified));
        }
        Ok(())
    }
}

fn identify_dataset(dataset: &mut Dataset) -> Result<(), IngestError> {
    for (location, version) in dataset.streams.iter().zip(&mut dataset.versions) {
        let Some(planned) = version else { continue };
        let file = SourceFile { location: location.clone(), version: Version::File(*planned) };
        match identified(&file) {
            Ok(SourceFile { version: Version::File(identified), .. }) => *version = Some(identified),
            // A file that can't be read fails its dataset alone, when it is read.
            Err(IngestError::Io { source, .. }) if Changed::of(&source).is_none() => {}
            identified => drop(identified?),
        }
    }
    Ok(())
}

fn identified(file: &SourceFile) -> Result<SourceFile, IngestError> {
    let mut identified = file.clone();
    if let Version::File(version) = &mut identified.version {
        let ends = || InputFile::look_planned(file)?.guard().map(|guard| guard.ends()).transpose();
        version.ends = ends().map_err(|source| IngestError::Io { what: "read", path: file.location.clone(), source })?;
    }
    Ok(identified)
}

/// Plans a batch. Any thread may: what a plan leaves open (its epoch, which events are late, who reads which dataset) is filled in when it
/// is fed.
pub fn plan(definition: &Definition, batch: &Batch, arrival: Arrival) -> Result<Plan, IngestError> {
    plan_behind(definition, batch, arrival, Purpose::Run, &SeenHeaders::default())
}

/// Plans a batch that comes after others, in which some headers were seen.
pub fn plan_behind(
    definition: &Definition,
    batch: &Batch,
    arrival: Arrival,
    purpose: Purpose,
    seen: &SeenHeaders,
) -> Result<Plan, IngestError> {
    let mut plan = Plan::default();
    let mut headers: BTreeMap<usize, Headers> = BTreeMap::new();
    for (part, number) in batch.parts.iter().zip(1..) {
        let Some(input) = definition.inputs.get(part.input) else { continue };
        let origin = Origin { batch: 0, part: number };
        plan.parts.push(PlannedPart { first_split: plan.splits.len() as u64, origin, undone: false, rejected_kept: None });
        if let (InputKind::Datasets(files), Source::Path(path)) = (input.kind, &part.source) {
            for mut queue in jobs::open(path, files)? {
                add_jobs(&mut plan, part, input, &mut *queue, arrival)?;
            }
            continue;
        }
        let looker = Looker::new(input);
        let headers = headers.entry(part.input).or_insert_with(|| Headers::new(purpose, seen.of(part.input)));
        let mut add = |plan: &mut Plan, name: &str, mut looked: Looked| -> Result<(), IngestError> {
            headers.add(name, &mut looked.format, input, part.sign)?;
            add(plan, part, name, looked, arrival);
            Ok(())
        };
        match &part.source {
            Source::Path(path) if is_pipe(path) => add(&mut plan, path, look_at_pipe(path, &looker)?)?,
            Source::Path(path) => {
                let found = paths::find(path, |_| true)?;
                plan.notes.extend(unnamed_note(&found));
                plan.passed_over.extend(found.passed_over);
                // Those far away are asked together.
                for files in found.files.chunks(LOOKED_MAX) {
                    let sources: Vec<io::Result<InputFile>> = files.iter().map(|file| InputFile::look(file)).collect();
                    for (file, source) in files.iter().zip(sources) {
                        add(&mut plan, file, look(file, file, source, input, &looker)?)?;
                    }
                }
            }
            Source::Kept { name, path } => {
                let mut looked = look(name, path, InputFile::look(path), input, &looker)?;
                looked.cut_kept().map_err(|source| IngestError::Io { what: "read", path: path.clone(), source })?;
                add(&mut plan, name, looked)?;
            }
            Source::Dataset { name, dataset } => {
                let location = plan.dataset(input, dataset.clone());
                add_job(&mut plan, part, name, location, arrival);
            }
            Source::Refused { name, job } => add_job(&mut plan, part, name, Location::Refused(job.clone()), arrival),
            Source::Bytes(bytes) => {
                let body::Looked { format, bytes: all, cuts } = body::look(bytes, &looker, UNPACKED_BYTES_MAX)?;
                let bytes_all = all.len() as u64;
                let packing = Packing::Plain;
                let looked = Looked { location: Location::Inline(all), format, packing, encoding: None, bytes: bytes_all, cuts };
                add(&mut plan, &bytes.name, looked)?;
            }
        }
    }
    headers.iter().for_each(|(input, headers)| plan.headers.add_of(*input, headers));
    Ok(plan)
}

/// What people should know of the objects that can't be asked for.
pub fn unnamed_note(found: &Found) -> Option<String> {
    let (first, count) = (found.unnamed.first()?, found.unnamed.len());
    let objects = if count == 1 { "object whose key has" } else { "objects whose keys have" };
    let them = if count == 1 { "it" } else { "them" };
    Some(format!("not read: {count} {objects} an empty part, . or .. in {them}, {first:?} the first"))
}

/// Adds a dataset or a refused job that was kept; those of one name follow one another.
fn add_job(plan: &mut Plan, part: &Part, name: &str, location: Location, arrival: Arrival) {
    let (name, first_split) = (shown::location(name).into_owned(), plan.splits.len() as u64);
    if plan.files.last().is_none_or(|last| (last.input, &last.name) != (part.input, &name)) {
        plan.files.push(PlannedFile { input: part.input, name, first_split, messages: None });
    }
    plan.splits.push(split(part, first_split, location, arrival));
}

/// Adds the datasets of a queue; of several deliveries of one in a batch the last counts.
fn add_jobs(plan: &mut Plan, part: &Part, input: &Input, queue: &mut dyn JobQueue, arrival: Arrival) -> Result<(), IngestError> {
    plan.files.push(PlannedFile {
        input: part.input,
        name: shown::location(queue.name()).into_owned(),
        first_split: plan.splits.len() as u64,
        messages: None,
    });
    while let Some(job) = queue.next()? {
        let location = match job {
            Ok(DatasetJob { key, streams }) => plan.dataset(input, Dataset::new(key, streams)),
            Err(BadDatasetJob { line, reason, raw }) => Location::Refused(RefusedJob { line, reason, raw }),
        };
        plan.splits.push(split(part, plan.splits.len() as u64, location, arrival));
    }
    plan.passed_over.extend(queue.passed_over());
    Ok(())
}

/// What a look at a file tells.
struct Looked {
    location: Location,
    format: Format,
    packing: Packing,
    encoding: Option<String>,
    bytes: u64,
    /// Where it can be cut, in order, in what the range of a split counts. Without any, it is read as a whole.
    cuts: Vec<u64>,
}

impl Looked {
    /// Cuts a file that was packed so that it can be.
    fn cut_kept(&mut self) -> io::Result<()> {
        let Location::File(file) = &self.location else { return Ok(()) };
        if self.packing == Packing::Zstd && self.encoding.is_none() && matches!(self.format, Format::Csv(_) | Format::JsonLines) {
            self.cuts = cuts::read(&mut InputFile::open_planned(file, 0, None)?, self.bytes)?;
        }
        Ok(())
    }
}

fn add(plan: &mut Plan, part: &Part, name: &str, looked: Looked, arrival: Arrival) {
    let first_split = plan.splits.len() as u64;
    plan.files.push(PlannedFile { input: part.input, name: shown::location(name).into_owned(), first_split, messages: None });
    plan.bytes += looked.bytes;
    let from = std::iter::once(0).chain(looked.cuts.iter().copied());
    // The last split goes to the end, wherever that is by then.
    let until = looked.cuts.iter().copied().chain([u64::MAX]);
    for (sequence, range) in (first_split..).zip(from.zip(until)) {
        plan.splits.push(Split {
            range,
            format: looked.format.clone(),
            packing: looked.packing,
            encoding: looked.encoding.clone(),
            ..split(part, sequence, part_of(&looked.location, range), arrival)
        });
    }
}

/// A split of a part that is read as a whole, as JSON lines.
fn split(part: &Part, sequence: u64, location: Location, arrival: Arrival) -> Split {
    Split {
        input: part.input,
        epoch: 0,
        sequence,
        sign: part.sign,
        location,
        range: (0, u64::MAX),
        format: Format::JsonLines,
        packing: Packing::Plain,
        encoding: None,
        shape: None,
        conditions: Vec::new(),
        accept_from: arrival.accept_from,
        accept_until: arrival.accept_until,
        late: Late::Before(Moment::FIRST),
        alone: false,
        rejected_kept: u64::MAX,
        only: None,
    }
}

/// The part of a location that a range needs: of bytes in memory a part, which shares them.
fn part_of(location: &Location, (from, until): (u64, u64)) -> Location {
    let Location::Inline(bytes) = location else { return location.clone() };
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
    Location::Inline(bytes.slice(at(from)..at(until)))
}

/// Looks at the file at a path, which errors call by a name.
fn look(name: &str, path: &str, source: io::Result<InputFile>, input: &Input, looker: &Looker) -> Result<Looked, IngestError> {
    let kind = format::kind_with(path, input.files.format);
    let io = |what| move |source| IngestError::Io { what, path: name.into(), source };
    let mut source = source.map_err(io("open"))?;
    let version = source.version().map_err(io("open"))?;
    let bytes = size(&version);
    let file = Arc::new(SourceFile { location: path.into(), version });
    let location = Location::File(Arc::clone(&file));
    if is_parquet(name, kind, &mut source)? {
        let cuts = (1..parquet::row_groups(name, &Parts::Planned(file), input)?).collect();
        return Ok(Looked { location, format: Format::Parquet, packing: Packing::Plain, encoding: None, bytes, cuts });
    }
    if kind.is_none() && input.files.format.is_none() {
        return Err(IngestError::UnknownFormat { path: name.into(), expected: ENDINGS });
    }
    let packing = match kind {
        Some(kind) => kind.packing,
        // A name that says nothing; its first bytes may.
        None => look::packing(name, &mut source)?,
    };
    if let Some(Kind { content: Content::Archive(archive), .. }) = kind {
        let cuts = if archive == Archive::Zip { members::zip_cuts(source).map_err(io("read"))? } else { Vec::new() };
        return Ok(Looked { location, format: Format::Archive(archive), packing, encoding: None, bytes, cuts });
    }
    if packing != Packing::Plain {
        look::check_packing(name, packing, &mut source)?;
    }
    let stream = unpacked(source, packing).map_err(io("read"))?;
    let looked = looker.look(name, kind.map(|kind| kind.content), stream);
    let (found, _) = looked.map_err(|error| damaged(&file, packing).map(io("read")).unwrap_or(error))?;
    let plain = packing == Packing::Plain && found.encoding.is_none() && !matches!(found.format, Format::Json { .. });
    let cut = plain && bytes > SPLIT_BYTES;
    let whole = match &found.format {
        _ if !cut => true,
        Format::Csv(columns) => must_be_whole(&file, Within::new(columns, input).as_ref()).map_err(io("read"))?,
        _ => false,
    };
    let cuts = if whole { Vec::new() } else { (1..bytes.div_ceil(SPLIT_BYTES)).map(|index| index * SPLIT_BYTES).collect() };
    Ok(Looked { location, format: found.format, packing, encoding: found.encoding, bytes, cuts })
}

/// What is wrong with a packed file in whose text nothing can be made out: a damaged block shows at its end, and what it holds is no text.
fn damaged(file: &SourceFile, packing: Packing) -> Option<io::Error> {
    let unpacked = InputFile::open_planned(file, 0, None).and_then(|packed| unpacked(packed, packing)).ok()?;
    let error = io::copy(&mut unpacked.take(look::LOOKED_BYTES_MAX), &mut io::sink()).err()?;
    Broken::of(&error).is_some().then_some(error)
}

/// Whether a file is one of Parquet: by its name, or where that says nothing, by its first bytes.
fn is_parquet(path: &str, kind: Option<Kind>, source: &mut InputFile) -> Result<bool, IngestError> {
    match kind {
        Some(kind) => Ok(kind.content == Content::Parquet),
        None => look::begins_with(path, format::PARQUET, source),
    }
}

/// The input of a split as its file is read; the split was planned for these inputs.
pub fn input_of(definition: &Definition, split: &Split) -> Option<Input> {
    let input = definition.inputs.get(split.input)?;
    Some(split.shape.as_ref().map_or_else(|| input.clone(), |shape| input.shaped(shape)))
}

/// Whether a path is standard input, or something else that can be read once.
pub fn is_pipe(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_stream = |kind: std::fs::FileType| kind.is_fifo() || kind.is_char_device() || kind.is_socket();
    path == STDIN || std::fs::metadata(path).is_ok_and(|metadata| is_stream(metadata.file_type()))
}

/// Opens a stream that can be read once. Returns its first bytes, and the rest.
fn open_pipe(path: &str) -> Result<(Vec<u8>, Box<dyn Read + Send>), IngestError> {
    let io = |what| move |source| IngestError::Io { what, path: path.into(), source };
    let mut stream: Box<dyn Read + Send> = match path {
        STDIN => Box::new(io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(io("open"))?),
    };
    let mut first = Vec::new();
    stream.by_ref().take(look::LOOKED_BYTES_MAX).read_to_end(&mut first).map_err(io("read"))?;
    Ok((first, stream))
}

/// Looks at the first bytes of a stream that can be read once. Of what is packed, the end may not be there yet: what can't be read is not
/// looked at. Where all is there, it is an error.
fn look_at_beginning(path: &str, first: &[u8], content: Option<Content>, looker: &Looker) -> Result<(look::Found, Packing), IngestError> {
    let packing = look::packing(path, &mut Cursor::new(first))?;
    let is_all = (first.len() as u64) < look::LOOKED_BYTES_MAX;
    let beginning = unpacked(Cursor::new(first.to_vec()), packing).and_then(|stream| {
        if !is_all {
            return Ok(look::beginning(stream));
        }
        let mut bytes = Vec::new();
        stream.take(look::LOOKED_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    });
    let beginning = beginning.map_err(|source| IngestError::Io { what: "read", path: path.into(), source })?;
    let (found, _) = looker.look(path, content, Box::new(Cursor::new(beginning)))?;
    Ok((found, packing))
}

/// A stream that can be read once, and an input that says what it holds: where neither its name nor the input does, its first bytes tell.
pub fn pipe(path: &str, input: &Input) -> Result<(Input, impl Read + Send), IngestError> {
    let (first, stream) = open_pipe(path)?;
    let mut input = input.clone();
    if format::kind(path).is_none() && input.files.format.is_none() && !first.starts_with(format::PARQUET) {
        let (found, _) = look_at_beginning(path, &first, None, &Looker::new(&input))?;
        let is_csv = matches!(found.format, Format::Csv(_));
        input.files.format = Some(if is_csv { TextFormat::Csv } else { TextFormat::Json });
    }
    Ok((input, Cursor::new(first).chain(stream)))
}

/// Looks at a stream that can be read once, and keeps it with what was read of it.
fn look_at_pipe(path: &str, looker: &Looker) -> Result<Looked, IngestError> {
    let io = |what| move |source| IngestError::Io { what, path: path.into(), source };
    let (first, stream) = open_pipe(path)?;
    let format = looker.input().files.format;
    let content = format::kind_with(path, format).map(|kind| kind.content).or(format.map(Content::from));
    if content == Some(Content::Parquet) || (content.is_none() && first.starts_with(format::PARQUET)) {
        let (file, bytes) = pipes::copy(Cursor::new(first).chain(stream)).map_err(io("read"))?;
        parquet::row_groups(path, &Parts::Copied(Arc::clone(&file), bytes), looker.input())?;
        let location = Location::Stream { id: pipes::keep(Waiting::Copy(file, bytes)), name: path.into() };
        return Ok(Looked { location, format: Format::Parquet, packing: Packing::Plain, encoding: None, bytes, cuts: Vec::new() });
    }
    let (found, packing) = look_at_beginning(path, &first, content, looker)?;
    let id = pipes::keep(Waiting::Stream(Box::new(Cursor::new(first).chain(stream))));
    let location = Location::Stream { id, name: path.into() };
    Ok(Looked { location, format: found.format, packing, encoding: found.encoding, bytes: 0, cuts: Vec::new() })
}
