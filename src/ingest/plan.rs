//! Cuts a batch into splits.
//!
//! Each file is looked at once, at its beginning: which delimiter, is there a header, is it lines or an array. A large plain
//! file becomes several splits, so that all workers read it; a CSV file in which a quote occurs anywhere does not, because
//! a quoted field may hold newlines, and only a reader that comes from the beginning knows.

use super::IngestError;
use super::jobs::{self, BadJob, Job, JobQueue};
use super::paths::{self, Kind};
use super::read::without_bom;
use flate2::read::MultiGzDecoder;
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::record::Field;
use retally_core::split::{Dataset, Format, Location, Packing, RefusedJob, Split};
use retally_core::time::Moment;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

/// Large files are cut into splits of this size: 4 MiB.
pub const SPLIT_BYTES: u64 = 4 << 20;
/// How much of a file is looked at for its first line.
const FIRST_LINE_BYTES_MAX: u64 = 1 << 20;

/// Input for one epoch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Its parts, applied together.
    pub parts: Vec<Part>,
}

/// Records of one input that are delivered or retracted.
#[derive(Clone, Debug)]
pub struct Part {
    /// The input's place among those of the dataflow.
    pub input: usize,
    /// 1 when they are delivered, -1 when they are retracted.
    pub sign: isize,
    /// Where they are.
    pub source: Source,
}

/// Where records are.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, a folder or a glob.
    Path(String),
    /// CSV lines in memory, without header.
    Csv(Vec<u8>),
    /// JSON lines in memory.
    JsonLines(Vec<u8>),
}

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

/// When a batch arrives, and what has been seen before.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Events later than this are refused.
    pub accept_until: Moment,
    /// Events earlier than this are late.
    pub late_before: Moment,
}

/// Which worker reads which dataset. The one that read it knows what it was, so a dataset stays with its worker; new ones go around.
#[derive(Debug, Default)]
pub struct Routes {
    known: BTreeMap<Vec<String>, u64>,
}

impl Routes {
    fn of(&mut self, key: &[String]) -> u64 {
        let next = self.known.len() as u64;
        *self.known.entry(key.to_vec()).or_insert(next)
    }
}

/// Plans a batch.
pub fn plan(definition: &Definition, batch: &Batch, arrival: Arrival, routes: &mut Routes) -> Result<Plan, IngestError> {
    let mut plan = Plan::default();
    for part in &batch.parts {
        let Some(input) = definition.inputs.get(part.input) else { continue };
        if let (InputKind::Datasets(files), Source::Path(path)) = (input.kind, &part.source) {
            for mut queue in jobs::open(path, files)? {
                add_jobs(&mut plan, part, &mut *queue, arrival, routes)?;
            }
            continue;
        }
        let add = |plan: &mut Plan, name: &str, location: &Location, looked: Looked| add(plan, part, name, location, looked, arrival);
        match &part.source {
            Source::Path(path) => {
                let found = paths::find(path, |kind| kind.json || input.csv)?;
                plan.passed_over.extend(found.passed_over);
                for file in found.files {
                    let looked = look(&file, input)?;
                    add(&mut plan, &file, &Location::File(file.clone()), looked);
                }
            }
            Source::Csv(bytes) => {
                let format = Format::Csv { delimiter: b',', header: None };
                add(
                    &mut plan,
                    "-",
                    &Location::Inline(bytes.clone()),
                    Looked { format, packing: Packing::Plain, bytes: bytes.len() as u64, whole: true },
                );
            }
            Source::JsonLines(bytes) => {
                let looked = Looked { format: Format::JsonLines, packing: Packing::Plain, bytes: bytes.len() as u64, whole: true };
                add(&mut plan, "-", &Location::Inline(bytes.clone()), looked);
            }
        }
    }
    Ok(plan)
}

/// Adds the datasets of a queue; of several deliveries of one in a batch the last counts.
fn add_jobs(plan: &mut Plan, part: &Part, queue: &mut dyn JobQueue, arrival: Arrival, routes: &mut Routes) -> Result<(), IngestError> {
    plan.files.push(PlannedFile { input: part.input, name: queue.name().into(), first_split: plan.splits.len() as u64 });
    while let Some(job) = queue.next()? {
        let location = match job {
            Ok(Job { key, streams }) => {
                plan.bytes +=
                    streams.iter().filter_map(|stream| std::fs::metadata(stream).ok()).map(|metadata| metadata.len()).sum::<u64>();
                let route = routes.of(&key);
                Location::Dataset(Dataset { key, streams, route })
            }
            Err(BadJob { line, reason, raw }) => Location::Refused(RefusedJob { line, reason, raw }),
        };
        plan.splits.push(Split {
            input: part.input,
            sequence: plan.splits.len() as u64,
            sign: part.sign,
            location,
            range: (0, u64::MAX),
            format: Format::JsonLines,
            packing: Packing::Plain,
            accept_until: arrival.accept_until,
            late_before: arrival.late_before,
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
    /// It must be read as a whole.
    whole: bool,
}

fn add(plan: &mut Plan, part: &Part, name: &str, location: &Location, looked: Looked, arrival: Arrival) {
    let first_split = plan.splits.len() as u64;
    plan.files.push(PlannedFile { input: part.input, name: name.into(), first_split });
    plan.bytes += looked.bytes;
    let count = if looked.whole { 1 } else { looked.bytes.div_ceil(SPLIT_BYTES).max(1) };
    for index in 0..count {
        // The last split goes to the end, wherever that is by then.
        let until = if index + 1 == count { u64::MAX } else { (index + 1) * SPLIT_BYTES };
        plan.splits.push(Split {
            input: part.input,
            sequence: first_split + index,
            sign: part.sign,
            location: location.clone(),
            range: (index * SPLIT_BYTES, until),
            format: looked.format.clone(),
            packing: looked.packing,
            accept_until: arrival.accept_until,
            late_before: arrival.late_before,
        });
    }
}

fn look(path: &str, input: &Input) -> Result<Looked, IngestError> {
    let expected =
        if input.csv { ".csv, .json, .jsonl, .ndjson, .jsons or .jsonlines" } else { ".json, .jsonl, .ndjson, .jsons or .jsonlines" };
    let kind = paths::kind(path).filter(|kind| kind.json || input.csv);
    let kind = kind.ok_or_else(|| IngestError::UnknownFormat { path: path.into(), expected })?;
    let io = |what| move |source| IngestError::Io { what, path: path.into(), source };
    let file = File::open(path).map_err(io("open"))?;
    let metadata = file.metadata().map_err(io("look at"))?;
    if !metadata.is_file() && kind.packing == Packing::Plain {
        // A pipe can be read once, so it can't be looked at.
        return Err(io("read")(io::Error::new(io::ErrorKind::Unsupported, "is no regular file")));
    }
    let first = first_line(file, kind).map_err(io("read"))?;
    let format = match kind.json {
        true if first.trim_ascii_start().starts_with(b"[") => Format::JsonArray,
        true => Format::JsonLines,
        false => csv_format(&first, input.fields),
    };
    let bytes = metadata.len();
    let mut whole = kind.packing != Packing::Plain || format == Format::JsonArray || bytes <= SPLIT_BYTES;
    if !whole && !kind.json {
        whole = has_quote(path).map_err(io("read"))?;
    }
    Ok(Looked { format, packing: kind.packing, bytes, whole })
}

/// The first line that is not blank.
fn first_line(file: File, kind: Kind) -> io::Result<Vec<u8>> {
    let unpacked: Box<dyn Read> = match kind.packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
    };
    let mut stream = without_bom(unpacked)?.1.take(FIRST_LINE_BYTES_MAX);
    let mut line = Vec::new();
    let mut block = vec![0; 4 << 10];
    loop {
        let length = stream.read(&mut block)?;
        line.extend_from_slice(block.get(..length).unwrap_or_default());
        let blank = line.len() - line.trim_ascii_start().len();
        let end = line.get(blank..).and_then(|rest| memchr::memchr(b'\n', rest));
        if let Some(end) = end {
            line.truncate(blank + end);
        }
        if end.is_some() || length == 0 {
            return Ok(line);
        }
    }
}

/// The delimiter that the first line has most of; and the header, when the first line names a field.
fn csv_format(first: &[u8], fields: &'static [Field]) -> Format {
    // A header stands in the very first line.
    let leads = !first.starts_with(b"\n") && !first.starts_with(b"\r");
    let count = |delimiter: u8| memchr::memchr_iter(delimiter, first).count();
    let delimiter = [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(first);
    let columns = reader.byte_records().next().and_then(Result::ok).unwrap_or_default();
    let place = |column: &[u8]| fields.iter().position(|field| column.trim_ascii().eq_ignore_ascii_case(field.name.as_bytes()));
    let places: Vec<Option<usize>> = columns.iter().map(place).collect();
    // Lines that end in a carriage return alone would all be in that header, and none be missed: they are refused instead.
    let whole = memchr::memchr(b'\r', first.strip_suffix(b"\r").unwrap_or(first)).is_none();
    let header = (leads && whole && places.iter().any(Option::is_some)).then_some(places);
    Format::Csv { delimiter, header }
}

fn has_quote(path: &str) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut block)?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(false) };
        if memchr::memchr(b'"', bytes).is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[Field { name: "time", about: "" }, Field { name: "id", about: "" }];

    #[test]
    fn delimiters_and_headers() {
        let format = |first: &str| match csv_format(first.as_bytes(), FIELDS) {
            Format::Csv { delimiter, header } => (delimiter as char, header),
            other => panic!("{other:?}"),
        };
        assert_eq!(format("2026-01-01 00:00:00,1"), (',', None));
        assert_eq!(format("time,id"), (',', Some(vec![Some(0), Some(1)])));
        assert_eq!(format("x;\"ID\"; Time"), (';', Some(vec![None, Some(1), Some(0)])));
        assert_eq!(format("id\tx\r"), ('\t', Some(vec![Some(1), None])));
        assert_eq!(format(""), (',', None));
        assert_eq!(format("\n\ntime,id"), (',', None));
        assert_eq!(format("time,id\r2026-01-01 00:00:00,1"), (',', None));
    }
}
