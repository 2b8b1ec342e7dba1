//! What is delivered: the parts of a batch, and when it arrived.

use retally_core::time::Moment;

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

/// When a batch arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Events later than this are refused.
    pub accept_until: Moment,
}
