//! Cuts a batch into splits.
//!
//! The beginning of each file tells which delimiter it has, whether there is a header, whether it is lines or an array. A large
//! plain file becomes several splits, so that all workers read it; a CSV file in which a quote occurs anywhere does not,
//! because a quoted field may hold newlines, and only a reader that comes from the beginning knows. To know that there is
//! none, a plain CSV file that is larger than a split is read once here, by threads beside worker 0, before its splits are.

use super::IngestError;
use super::archive;
use super::blocks::BLOCK_BYTES;
use super::file::InputFile;
use super::jobs::{self, BadJob, Job, JobQueue};
use super::paths::{self, Content};
use super::read::{unpacked, without_bom};
use super::streams;
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::record::Field;
use retally_core::split::{Archive, Dataset, Format, Late, Location, Packing, RefusedJob, Split};
use retally_core::time::Moment;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Large files are cut into splits of this size: 4 MiB.
pub const SPLIT_BYTES: u64 = 4 << 20;
/// Quotes are looked for in parts of this size: 16 MiB.
const SEARCHED_BYTES: u64 = 16 << 20;
/// So many look for quotes in what is far away.
const SEARCHERS_AFAR: usize = 8;
/// So many files are opened at once to look at them.
const LOOKED_MAX: usize = 64;
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
    /// A file, a folder, a bucket's prefix, or a glob.
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

/// When a batch arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Events later than this are refused.
    pub accept_until: Moment,
}

/// Plans a batch. Any thread may: what a plan leaves open (its epoch, which events are late, who reads which dataset) is filled in when it is fed.
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
            Source::Csv(bytes) => {
                let format = Format::Csv { delimiter: b',', header: None };
                add(&mut plan, "-", &Location::Inline(bytes.clone()), Looked::whole(format, Packing::Plain, bytes.len() as u64));
            }
            Source::JsonLines(bytes) => {
                let looked = Looked::whole(Format::JsonLines, Packing::Plain, bytes.len() as u64);
                add(&mut plan, "-", &Location::Inline(bytes.clone()), looked);
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
            location: location.clone(),
            range,
            format: looked.format.clone(),
            packing: looked.packing,
            accept_until: arrival.accept_until,
            late: Late::Before(Moment::FIRST),
        });
    }
}

fn look(path: &str, source: io::Result<InputFile>, input: &Input) -> Result<Looked, IngestError> {
    let expected = if input.csv {
        ".csv, .json, .jsonl, .ndjson, .jsons, .jsonlines, .tar (each also with .gz or .zst) or .zip"
    } else {
        ".json, .jsonl, .ndjson, .jsons, .jsonlines, .tar (each also with .gz or .zst) or .zip"
    };
    let kind = paths::kind(path).filter(|kind| kind.content != Content::Csv || input.csv);
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

/// How a file's bytes become records, by its first line.
pub(super) fn format_of(content: Content, first_line: &[u8], fields: &'static [Field]) -> Format {
    match content {
        Content::Csv => csv_format(first_line, fields),
        _ if first_line.trim_ascii_start().starts_with(b"[") => Format::JsonArray,
        _ => Format::JsonLines,
    }
}

/// The beginning of a stream.
pub(super) struct FirstLine {
    /// The first line that is not blank, with the blank ones before it.
    pub line: Vec<u8>,
    /// All that was read of the stream.
    pub read: Vec<u8>,
}

/// Reads the first line that is not blank.
pub(super) fn first_line(stream: impl Read) -> io::Result<FirstLine> {
    let mut stream = stream.take(FIRST_LINE_BYTES_MAX);
    let mut read = Vec::new();
    let mut block = vec![0; 4 << 10];
    loop {
        let length = stream.read(&mut block)?;
        read.extend_from_slice(block.get(..length).unwrap_or_default());
        let blank = read.len() - read.trim_ascii_start().len();
        let end = read.get(blank..).and_then(|rest| memchr::memchr(b'\n', rest)).map(|end| blank + end);
        if end.is_some() || length == 0 {
            let line = read.get(..end.unwrap_or(read.len())).unwrap_or_default().to_vec();
            return Ok(FirstLine { line, read });
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

/// Whether a file of so many bytes has a quote anywhere. Several look at once: at parts in turn, until one is found.
fn has_quote(path: &str, bytes: u64) -> io::Result<bool> {
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

    const FIELDS: &[Field] = &[Field { name: "time", about: "" }, Field { name: "id", about: "" }];

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
