//! Cuts a batch into splits.
//!
//! The beginning of each file tells which delimiter it has, whether there is a header, whether it is lines or an array. A large
//! plain file becomes several splits, so that all workers read it; a CSV file in which a quote occurs anywhere does not,
//! because a quoted field may hold newlines, and only a reader that comes from the beginning knows. To know that there is
//! none, a plain CSV file that is larger than a split is read once here, by several threads, before its splits are.

use super::IngestError;
use super::SPLIT_BYTES;
use super::archive;
use super::batch::{Arrival, Batch, Part, Source};
use super::body::{self, UNPACKED_BYTES_MAX};
use super::file::InputFile;
use super::format::{self, Content, first_line, format_of};
use super::jobs::{self, BadJob, Job, JobQueue};
use super::paths;
use super::quotes::has_quote;
use super::streams;
use super::unpack::{unpacked, without_bom};
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::split::{Archive, Dataset, Format, Late, Location, Packing, RefusedJob, Split};
use retally_core::time::Moment;
use std::io;

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
}

/// What becomes of a batch.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The splits.
    pub splits: Vec<Split>,
    /// The files, in order.
    pub files: Vec<PlannedFile>,
    /// Files in folders that were passed over.
    pub passed_over: Vec<String>,
    /// The bytes of all files.
    pub bytes: u64,
}

impl Plan {
    /// Unpacks all packed files to their ends, up to so many bytes each, and keeps nothing of them: what is cut off or broken is refused
    /// before any of it reaches a dataflow. A run does without, since it would read all files twice.
    pub fn check_packed(&self, unpacked_bytes_max: u64) -> Result<(), IngestError> {
        // A packed file is one split.
        self.splits.iter().try_for_each(|split| match &split.location {
            Location::File(name) if split.packing != Packing::Plain => body::check_file(name, split.packing, unpacked_bytes_max),
            _ => Ok(()),
        })
    }
}

/// Plans a batch. Any thread may: what a plan leaves open (its epoch, which events are late, who reads which dataset) is filled in when it
/// is fed.
pub fn plan(definition: &Definition, batch: &Batch, arrival: Arrival) -> Result<Plan, IngestError> {
    let mut plan = Plan::default();
    for part in &batch.parts {
        let Some(input) = definition.inputs.get(part.input) else { continue };
        if let (InputKind::Datasets(files), Source::Path(path)) = (input.kind, &part.source) {
            for mut queue in jobs::open(path, files)? {
                add_jobs(&mut plan, part, &mut *queue, arrival)?;
            }
            continue;
        }
        let add = |plan: &mut Plan, name: &str, location: &Location, looked: Looked| add(plan, part, name, location, looked, arrival);
        match &part.source {
            Source::Path(path) => {
                let found = paths::find(path, |kind| kind.content != Content::Csv || input.csv)?;
                plan.passed_over.extend(found.passed_over);
                // Those far away are asked together.
                for files in found.files.chunks(LOOKED_MAX) {
                    let sources: Vec<io::Result<InputFile>> = files.iter().map(|file| InputFile::look(file)).collect();
                    for (file, source) in files.iter().zip(sources) {
                        let looked = look(file, source, input)?;
                        add(&mut plan, file, &Location::File(file.clone()), looked);
                    }
                }
            }
            Source::Bytes(bytes) => {
                let body::Looked { format, bytes: all, cuts } = body::look(bytes, input, UNPACKED_BYTES_MAX)?;
                let looked = Looked { format, packing: Packing::Plain, bytes: all.len() as u64, cuts };
                add(&mut plan, &bytes.name, &Location::Inline(all), looked);
            }
        }
    }
    Ok(plan)
}

/// Adds the datasets of a queue; of several deliveries of one in a batch the last counts.
fn add_jobs(plan: &mut Plan, part: &Part, queue: &mut dyn JobQueue, arrival: Arrival) -> Result<(), IngestError> {
    plan.files.push(PlannedFile { input: part.input, name: queue.name().into(), first_split: plan.splits.len() as u64 });
    while let Some(job) = queue.next()? {
        let location = match job {
            Ok(Job { key, streams }) => {
                plan.bytes += streams.iter().filter_map(|stream| streams::bytes(stream)).sum::<u64>();
                Location::Dataset(Dataset { key, streams, route: 0 })
            }
            Err(BadJob { line, reason, raw }) => Location::Refused(RefusedJob { line, reason, raw }),
        };
        plan.splits.push(Split {
            input: part.input,
            epoch: 0,
            sequence: plan.splits.len() as u64,
            sign: part.sign,
            location,
            range: (0, u64::MAX),
            format: Format::JsonLines,
            packing: Packing::Plain,
            accept_until: arrival.accept_until,
            late: Late::Before(Moment::FIRST),
        });
    }
    plan.passed_over.extend(queue.passed_over());
    Ok(())
}

/// What a look at a file tells.
struct Looked {
    format: Format,
    packing: Packing,
    bytes: u64,
    /// Where it can be cut, in order, in what the range of a split counts.
    cuts: Vec<u64>,
}

impl Looked {
    /// It must be read as a whole.
    fn whole(format: Format, packing: Packing, bytes: u64) -> Looked {
        Looked { format, packing, bytes, cuts: Vec::new() }
    }
}

fn add(plan: &mut Plan, part: &Part, name: &str, location: &Location, looked: Looked, arrival: Arrival) {
    let first_split = plan.splits.len() as u64;
    plan.files.push(PlannedFile { input: part.input, name: name.into(), first_split });
    plan.bytes += looked.bytes;
    let from = std::iter::once(0).chain(looked.cuts.iter().copied());
    // The last split goes to the end, wherever that is by then.
    let until = looked.cuts.iter().copied().chain([u64::MAX]);
    for (sequence, range) in (first_split..).zip(from.zip(until)) {
        plan.splits.push(Split {
            input: part.input,
            epoch: 0,
            sequence,
            sign: part.sign,
            location: part_of(location, range),
            range,
            format: looked.format.clone(),
            packing: looked.packing,
            accept_until: arrival.accept_until,
            late: Late::Before(Moment::FIRST),
        });
    }
}

/// The part of a location that a range needs: of bytes in memory a part, which shares them.
fn part_of(location: &Location, (from, until): (u64, u64)) -> Location {
    let Location::Inline(bytes) = location else { return location.clone() };
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
    Location::Inline(bytes.slice(at(from)..at(until)))
}

fn look(path: &str, source: io::Result<InputFile>, input: &Input) -> Result<Looked, IngestError> {
    let expected = if input.csv {
        ".csv, .json, .jsonl, .ndjson, .jsons, .jsonlines, .tar (each also with .gz or .zst) or .zip"
    } else {
        ".json, .jsonl, .ndjson, .jsons, .jsonlines, .tar (each also with .gz or .zst) or .zip"
    };
    let kind = format::kind(path).filter(|kind| kind.content != Content::Csv || input.csv);
    let kind = kind.ok_or_else(|| IngestError::UnknownFormat { path: path.into(), expected })?;
    let io = |what| move |source| IngestError::Io { what, path: path.into(), source };
    let mut source = source.map_err(io("open"))?;
    if !source.is_regular().map_err(io("look at"))? && (kind.packing == Packing::Plain || matches!(kind.content, Content::Archive(_))) {
        // A pipe can be read once, so it can't be looked at.
        return Err(io("read")(io::Error::new(io::ErrorKind::Unsupported, "is no regular file")));
    }
    let (packing, bytes) = (kind.packing, source.size().map_err(io("open"))?);
    if let Content::Archive(archive) = kind.content {
        let cuts = if archive == Archive::Zip { archive::zip_cuts(source).map_err(io("read"))? } else { Vec::new() };
        return Ok(Looked { format: Format::Archive { archive, csv: input.csv }, packing, bytes, cuts });
    }
    let (_, stream) = without_bom(unpacked(source, packing).map_err(io("read"))?).map_err(io("read"))?;
    let format = format_of(kind.content, &first_line(stream).map_err(io("read"))?.line, input.fields);
    let whole = packing != Packing::Plain || format == Format::JsonArray || bytes <= SPLIT_BYTES;
    if whole || (kind.content == Content::Csv && has_quote(path, bytes).map_err(io("read"))?) {
        return Ok(Looked::whole(format, packing, bytes));
    }
    let cuts = (1..bytes.div_ceil(SPLIT_BYTES)).map(|index| index * SPLIT_BYTES).collect();
    Ok(Looked { format, packing, bytes, cuts })
}
