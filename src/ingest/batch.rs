//! What is delivered: the parts of a batch, and when it arrived.

use bytes::Bytes;
pub use retally_core::definition::TextFormat;
use retally_core::split::{Dataset, Packing, RefusedJob};
use retally_core::time::Moment;

/// Input for one epoch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Its parts, applied together.
    pub parts: Vec<Part>,
}

impl Batch {
    /// The input and the path, where that is all: it delivers one.
    pub fn folder(&self) -> Option<(usize, String)> {
        match self.parts.as_slice() {
            [Part { input, sign: 1, source: Source::Path(path) }] => Some((*input, path.clone())),
            _ => None,
        }
    }
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
    /// A file that was kept of what was delivered under a name.
    Kept {
        /// What it is called in the column `source` of the table `rejected`.
        name: String,
        /// Where it is. The ending says what it is.
        path: String,
    },
    /// A dataset of which the streams were kept.
    Dataset {
        /// The folder or the file of jobs that named it.
        name: String,
        /// Its key, and where its streams are.
        dataset: Dataset,
    },
    /// A job that was refused.
    Refused {
        /// The file of jobs.
        name: String,
        /// The job.
        job: RefusedJob,
    },
    /// In memory.
    Bytes(Body),
}

/// Input in memory: what a file would hold.
#[derive(Clone, Debug)]
pub struct Body {
    /// What it is called in the column `source` of the table `rejected`.
    pub name: String,
    /// What it holds.
    pub format: TextFormat,
    /// How it is packed.
    pub packing: Packing,
    /// Its bytes, which are shared and never copied.
    pub bytes: Bytes,
}

impl Body {
    /// A body without a name, not packed.
    pub fn plain(format: TextFormat, bytes: impl Into<Bytes>) -> Body {
        Body { name: "-".into(), format, packing: Packing::Plain, bytes: bytes.into() }
    }
}

/// When a batch arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Events earlier than this are refused.
    pub accept_from: Moment,
    /// Events later than this are refused.
    pub accept_until: Moment,
}
