//! Splits: what enters a dataflow instead of records, and what readers report of them.
//!
//! A batch is cut into splits, small descriptors that are spread over all workers; the worker that gets
//! one reads it. Files are opened by the runtime, through [`Opener`]: this crate does no I/O.

use crate::Epoch;
use crate::condition::Condition;
use crate::definition::{Input, Shape, Wide};
use crate::noticed::Notice;
use crate::reasons::Reasons;
use crate::record::{Raw, Refusal};
use crate::time::Moment;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// A part of a batch, as small as a few lines or as large as a compressed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The input's place in the dataflow's list of inputs.
    pub input: usize,
    /// The epoch of its batch; 0 until it is fed.
    pub epoch: Epoch,
    /// The number of the split in its batch, from 0.
    pub sequence: u64,
    /// 1 when the records are delivered, -1 when they are retracted.
    pub sign: isize,
    /// Where the bytes are.
    pub location: Location,
    /// The first byte, and the byte after the last. A split that starts within a file starts after the first newline at or
    /// after `range.0 - 1`, and goes on to the end of the line that `range.1 - 1` lies in.
    pub range: (u64, u64),
    /// How the bytes become records.
    pub format: Format,
    /// How the bytes are packed.
    pub packing: Packing,
    /// The encoding of the text, where it is not UTF-8.
    pub encoding: Option<String>,
    /// How its file becomes records, where that is not as the input of the job says.
    pub shape: Option<Arc<Shape>>,
    /// Which of its records are meant: those of which all this holds.
    pub conditions: Vec<Condition>,
    /// Events earlier than this are refused: a clock that was never set.
    pub accept_from: Moment,
    /// Events later than this are refused: the batch's arrival and a day.
    pub accept_until: Moment,
    /// What tells late events.
    pub late: Late,
    /// Nothing else is being read: worker 0, which has the split, reads it itself.
    pub alone: bool,
    /// So many refused records of the batch are kept: no reader reports more of them one by one.
    pub rejected_kept: u64,
    /// Only these records count, where not all of them do.
    pub only: Option<Arc<Lines>>,
}

/// Records of a file, by where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines(Vec<(String, u64, u64)>);

impl Lines {
    /// Records by the file of an archive that they stand in (empty where there is none), their lines in it, and their numbers in the line,
    /// both from 0.
    pub fn new(records: impl Iterator<Item = (String, u64, u64)>) -> Lines {
        let mut lines: Vec<(String, u64, u64)> = records.collect();
        lines.sort_unstable();
        lines.dedup();
        Lines(lines)
    }

    /// Whether the record of this number in its line is among them.
    pub fn has(&self, line: &Line<'_>, nth: u64) -> bool {
        let sought = (line.member.unwrap_or_default(), line.number, nth);
        self.0.binary_search_by(|(member, number, nth)| (member.as_str(), *number, *nth).cmp(&sought)).is_ok()
    }
}

/// What tells late events: those that are earlier than the latest event of the epochs before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Late {
    /// The epochs before have been read: events earlier than this are late.
    Before(Moment),
    /// Epochs before are still being read: events earlier than this are late for sure; the times of the others are reported, and it is
    /// decided when all before have been read. For small batches alone.
    Undecided(Moment),
}

impl Late {
    /// The time before which events are late for sure.
    pub fn before(self) -> Moment {
        match self {
            Late::Before(moment) | Late::Undecided(moment) => moment,
        }
    }
}

/// Where a split's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// A file that every process can read. All splits of a file share it.
    File(Arc<SourceFile>),
    /// A stream that this process has open, and that is read once: by worker 0.
    Stream {
        /// Its number among the open streams.
        id: u64,
        /// Its name.
        name: String,
    },
    /// In the descriptor: the bytes of its range, which start at a line.
    Inline(Bytes),
    /// Several streams that are read together, by worker `route % workers`.
    Dataset(Dataset),
    /// Nowhere: a job that can't be read.
    Refused(RefusedJob),
}

/// A file, as it was when its batch was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path or URL.
    pub location: String,
    /// What a reader must find there.
    pub version: Version,
}

/// What distinguishes a file from another one at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Of a file system.
    File(FileVersion),
    /// Of a bucket.
    Object {
        /// Its size.
        bytes: u64,
        /// Its ETag, where the server gives one.
        tag: Option<String>,
    },
}

/// What distinguishes a file of a file system from another one at the same place.
///
/// Within the process that planned, size, time and inode must be the same. Other processes may have a copy of the file: there, size and
/// ends must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Its size.
    pub bytes: u64,
    /// When it was modified, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The number of its inode.
    pub inode: u64,
    /// The process that looked at it.
    pub seen_by: u64,
    /// A hash of its first and last bytes, where other processes read it too.
    pub ends: Option<u64>,
}

/// A dataset to be read, or to be taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// What identifies it, as its input declares.
    pub key: Vec<String>,
    /// Where its streams are, in the order in which its input declares them: paths or URLs, for [`Opener::stream`].
    pub streams: Vec<String>,
    /// What its streams were when the batch was planned, where they are files of a file system and were there.
    pub versions: Vec<Option<FileVersion>>,
    /// The same whenever the same dataset comes again: its worker knows what it was.
    pub route: u64,
    /// What its streams were called when it was delivered, where that is not where they are.
    pub names: Vec<String>,
    /// Why a stream of it could not be had when it was delivered: then none is read.
    pub missing: Option<String>,
    /// The encoding of its texts, where its input says one.
    pub encoding: Option<String>,
}

impl Dataset {
    /// A dataset whose streams are where they were delivered. What they are is not known yet.
    pub fn new(key: Vec<String>, streams: Vec<String>) -> Dataset {
        Dataset { key, streams, versions: Vec::new(), route: 0, names: Vec::new(), missing: None, encoding: None }
    }
}

/// A dataset of which nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadDataset {
    /// Why.
    pub why: String,
    /// It takes the place of a version that was read.
    pub replaces: bool,
}

/// A job that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedJob {
    /// The line in the file, from 0.
    pub line: u64,
    /// Why.
    pub reason: String,
    /// Its first bytes, at most [`RAW_BYTES_MAX`].
    pub raw: Vec<u8>,
}

impl Split {
    /// Whether an event of this time is accepted, or why not.
    pub fn accepts(&self, time: Moment) -> Result<(), Refusal> {
        if time > self.accept_until {
            Err(ahead_of_clock(time))
        } else if time < self.accept_from {
            Err(before_all_events(time, self.accept_from))
        } else {
            Ok(())
        }
    }

    /// Whether the record of this number in its line counts.
    pub fn counts(&self, line: &Line<'_>, nth: u64) -> bool {
        self.only.as_ref().is_none_or(|only| only.has(line, nth))
    }

    /// The number of the worker that reads it, modulo the number of workers. Batches of one split each go around the workers.
    pub fn route(&self) -> u64 {
        match &self.location {
            Location::Dataset(dataset) => dataset.route,
            _ if self.alone => 0,
            Location::Stream { .. } => 0,
            Location::File(_) | Location::Inline(_) | Location::Refused(_) => self.epoch.wrapping_add(self.sequence),
        }
    }
}

#[cold]
fn ahead_of_clock(time: Moment) -> Refusal {
    format!("the event's time {time} is more than a day ahead of the clock").into()
}

#[cold]
fn before_all_events(time: Moment, first: Moment) -> Refusal {
    format!("the event's time {time} is before {first}: a clock that was not set, or a time of another unit").into()
}

/// How bytes become records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Comma-separated values.
    Csv(Columns),
    /// JSON objects, each within a line.
    JsonLines,
    /// JSON objects and arrays of them, one after the other.
    Json {
        /// The key of the array that each object is about, where objects are not records themselves.
        wrapper: Option<String>,
    },
    /// Rows of columns. The range counts row groups, and not bytes.
    Parquet,
    /// Files in an archive, of which each is read after its name. Of a zip the range counts files, and not bytes.
    Archive(Archive),
}

/// How the columns of a CSV file become fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// What stands between columns: `,`, `;`, `|` or a tab.
    pub delimiter: u8,
    /// For each column, the place of its field among the declared ones.
    pub places: Vec<Option<usize>>,
    /// Fields that stand in the same column as another: the place of the other, and their own.
    pub copies: Vec<(usize, usize)>,
    /// Whether there is a header: then each line has as many columns.
    pub header: bool,
    /// What stands before the first record, the header with it: bytes of the text (without a byte order mark).
    pub head_bytes: u64,
    /// Likewise, in lines.
    pub head_lines: u64,
    /// Where each cell is a record.
    pub wide: Option<WideColumns>,
    /// Each line is a record, whatever it looks like: none is a second header.
    pub lines_only: bool,
}

/// The columns of a wide file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WideColumns {
    /// The fields of a cell.
    pub fields: Wide,
    /// The place of the column that the cells of a line share.
    pub shared: usize,
    /// The names of all columns.
    pub names: Vec<String>,
}

impl Columns {
    /// The columns of a file without a header: these fields, by their places.
    pub fn by_place(delimiter: u8, places: &[usize]) -> Columns {
        let places = places.iter().map(|place| Some(*place)).collect();
        Columns { delimiter, places, copies: Vec::new(), header: false, head_bytes: 0, head_lines: 0, wide: None, lines_only: false }
    }
}

/// How many files are put together in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Archive {
    /// `.zip`: files are packed one by one, and listed at the end.
    Zip,
    /// `.tar`: files one after the other; may be packed as a whole.
    Tar,
}

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// `.gz`, of any number of members.
    Gzip,
    /// `.zst`, of any number of frames.
    Zstd,
    /// `.bz2`, of any number of streams.
    Bzip2,
    /// `.xz`, of any number of streams.
    Xz,
}

/// Why a split could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitError {
    /// What was tried, on what, and why it failed.
    pub message: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl std::fmt::Display for SplitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SplitError {}

/// An error that nothing more can be said about.
impl From<String> for SplitError {
    fn from(message: String) -> SplitError {
        SplitError { message, hint: None }
    }
}

/// Opens splits. The runtime's side of reading.
pub trait Opener {
    /// A reader of `split`, which holds records of `input`.
    fn open(&self, split: &Split, input: &Input) -> Result<Box<dyn SplitReader>, SplitError>;

    /// Says that `split` will be opened soon: what is far away can be asked for.
    fn announce(&self, _split: &Split) {}

    /// The stream of a dataset at this place of its list, unpacked and as UTF-8; errors call it by its name, where there is one. Whatever
    /// is wrong with it shows when it is read. The first attempt has number 0; later ones give nothing for a while first, longer each time.
    fn stream(&self, dataset: &Dataset, place: usize, attempt: u32) -> Box<dyn ByteStream>;

    /// How often a dataset is tried before it has failed.
    fn attempts_max(&self) -> u32;

    /// What tells that a stream is still what it was, where that can be known: the same text as long as the bytes are the same.
    fn version(&self, location: &str) -> Option<String>;
}

/// The bytes of a stream, from its beginning. Reading does not wait long.
pub trait ByteStream {
    /// Reads into a buffer, which has room for one byte at least.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, StreamError>;

    /// How many bytes have been read, packed as they are, for progress.
    fn bytes_read(&self) -> u64;
}

/// Why a stream can't be read: what was tried, on what, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// It can't be opened, or broke off. Another attempt may read it.
    Broken(String),
    /// It is not what was planned: no attempt would read that, and the run ends.
    Changed(SplitError),
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StreamError::Broken(why) => f.write_str(why),
            StreamError::Changed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

/// What comes from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// So many bytes, one at least.
    Bytes(usize),
    /// Nothing yet.
    Wait,
    /// Nothing any more.
    End,
}

/// A record on its way from a reader to the graph.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The file of an archive that it stands in.
    pub member: Option<&'a str>,
    /// The line in the split, or in the archive's file, from 0.
    pub number: u64,
    /// Its first bytes, at most [`RAW_BYTES_MAX`] of which are kept when it is refused. Empty where fields stand in no line.
    pub bytes: &'a [u8],
    /// The record, or why there is none (a line that is too long, a quote that never ends, a message that can't be unpacked).
    pub record: Result<Raw<'a>, &'a str>,
}

impl<'a> Line<'a> {
    /// Its text, as it is shown.
    pub fn text(&self) -> Cow<'a, [u8]> {
        match self.record {
            Ok(Raw::Fields(fields)) if self.bytes.is_empty() => fields.joined().into(),
            _ => self.bytes.into(),
        }
    }
}

/// How much of a refused line is kept.
pub const RAW_BYTES_MAX: usize = 1_024;
/// How much is kept of all refused records of a batch, as [`Rejected::bytes`] counts it: 128 MiB.
pub const REJECTED_BYTES_MAX: u64 = 128 << 20;

/// Reads a split, a block at a time, so that a worker can do other things in between.
pub trait SplitReader {
    /// Reads about a block, and gives each record to `each`. Returns whether there is more.
    ///
    /// An error ends the run.
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<bool, SplitError>;

    /// Whether [`Self::read`] would not wait for what is far away.
    fn is_ready(&self) -> bool {
        true
    }

    /// How many bytes of the file have been read, for progress.
    fn bytes_read(&self) -> u64;

    /// How many lines have been read.
    fn lines_read(&self) -> u64;

    /// The files of an archive that were passed over, because their names do not say that they are input.
    fn passed_over(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Of an archive, how many of its files have been read.
    fn members_read(&self) -> Option<u64> {
        None
    }

    /// The first second header that was found.
    fn second_header(&self) -> Option<SecondHeader> {
        None
    }
}

/// A header within a file of CSV whose columns are others than those of the file. Lines behind it are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondHeader {
    /// The file of an archive that it stands in.
    pub member: Option<String>,
    /// Its line in the split, or in the archive's file, from 0.
    pub line: u64,
    /// The line, from 1, in which the file's own header ends; 0 where it has none.
    pub own_line: u64,
}

/// What readers report about splits; gathered by the worker that feeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Some of a split has been read; what has been since the last report.
    Progress {
        /// Bytes of the file.
        bytes: u64,
        /// Records accepted.
        records: u64,
        /// Records refused that are not reported one by one.
        refused: u64,
    },
    /// A record was refused.
    Rejected(Rejected),
    /// Files of an archive were passed over.
    PassedOver {
        /// The split's number.
        sequence: u64,
        /// Their names in the archive.
        members: Vec<String>,
    },
    /// A split has been read.
    Done(Done),
    /// A split could not be read.
    Failed {
        /// The split's number.
        sequence: u64,
        /// Why.
        error: SplitError,
    },
    /// Something that people should know of, and that ends nothing.
    Note(String),
    /// Points can't be written: what was tried, on what, and why it failed. It ends the run.
    PointsFailed(String),
}

/// A refused record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejected {
    /// The split's number.
    pub sequence: u64,
    /// The file of an archive that it stands in.
    pub member: Option<String>,
    /// The line in the split, or in the archive's file, from 0.
    pub line: u64,
    /// Its number in the line, from 0: objects of an array may share one.
    pub nth: u64,
    /// Why.
    pub reason: String,
    /// Its first bytes, at most [`RAW_BYTES_MAX`].
    pub raw: Vec<u8>,
}

impl Rejected {
    /// How many bytes it is, for limits.
    pub fn bytes(&self) -> u64 {
        (self.member.as_ref().map_or(0, String::len) + self.reason.len() + self.raw.len()) as u64
    }
}

/// What a split held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The split's number.
    pub sequence: u64,
    /// Lines, of any kind.
    pub lines: u64,
    /// Records accepted.
    pub accepted: u64,
    /// Of them, late ones; under [`Late::Undecided`] those that are late for sure.
    pub late: u64,
    /// Under [`Late::Undecided`] the times of the others that were delivered, in no order.
    pub undecided: Vec<Moment>,
    /// Records refused.
    pub rejected: u64,
    /// Why those were refused that are not reported one by one.
    pub reasons: Reasons,
    /// The latest event's time.
    pub latest: Option<Moment>,
    /// What people should know of.
    pub notice: Notice,
    /// Of a dataset that was delivered: that nothing of it could be read.
    pub unread: Option<UnreadDataset>,
    /// Of an archive, how many of its files were read.
    pub members: Option<u64>,
    /// The first of them that has records of which none could be read, and how many.
    pub unread_member: Option<(String, u64)>,
    /// The first second header, behind which lines were refused.
    pub second_header: Option<SecondHeader>,
}
