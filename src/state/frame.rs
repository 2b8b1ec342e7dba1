//! What the journal holds of a batch: all that is needed to apply it once more, years later, to the same effect.
//!
//! Frames are JSON, so that whoever looks into a journal can read it. Nothing of a batch depends on a clock, on a name or on a setting that
//! is not in its frame: what counts as too early or too late is, how the files become records is, and so are the files, by the hash of
//! what they hold.

use crate::ingest::messages::Messages;
use crate::ingest::plan::Origin;
use retally_core::Epoch;
use retally_core::condition::Condition;
use retally_core::definition::{FileOptions, Input, Shape, TextFormat};
use retally_core::field::Field;
use retally_core::mapping::{Mapping, Rule};
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a frame of the journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// A batch.
    Batch(Frame),
    /// What came of a batch, which was not known when it was appended.
    Answered(Answered),
    /// Who wrote the frames of an object.
    Writer(Writer),
}

/// Who wrote an object of a bucket's journal: its first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// What no other process that opened the state is called, not even the same one at another time.
    pub writer: String,
    /// In its first object: which process it is, in words. From then on no other writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<String>,
    /// Likewise: the object before it, where that ends in the middle of a frame. What is torn there counts as not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// What came of a batch that was appended before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The dataflow.
    pub dataflow: String,
    /// The batch's epoch.
    pub epoch: Epoch,
    /// What came of it.
    pub answer: Answer,
}

/// A batch of a dataflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The dataflow.
    pub dataflow: String,
    /// Its epoch: one more than that of the frame before, of the same dataflow.
    pub epoch: Epoch,
    /// When it arrived, in microseconds since 1970.
    pub arrived: i64,
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// What its sender calls it, where it does: the same batch under the same key counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// What came of it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// How far live sources have been read with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Position>,
}

/// How far a live source has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The input that it is a source of.
    pub input: String,
    /// Which source: a name that another one never has.
    pub source: String,
    /// The part of it that has numbers of its own; 0 where it has no parts.
    #[serde(default)]
    pub partition: i32,
    /// The number of the last message of this batch.
    pub last: u64,
}

/// What a sender calls a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The key.
    pub key: String,
    /// The hash of what was sent under it.
    pub body: String,
}

/// What is delivered or retracted for an input under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The input.
    pub input: String,
    /// 1 when it is delivered, -1 when it is retracted.
    pub sign: i8,
    /// What it was called: the file, as given; of a dataset, the folder or the file that named it.
    pub name: String,
    /// What it is.
    pub content: Content,
    /// Events earlier than this are refused, in microseconds since 1970.
    pub accept_from: i64,
    /// Events later than this are refused, in microseconds since 1970.
    pub accept_until: i64,
    /// How it becomes records, where that is not as the dataflow has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<KeptShape>,
    /// The folder that it is a file of, where that folder is the table of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<InFolder>,
    /// Which of its records are meant: those of which all this holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Only>,
    /// It is about records that were refused before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
    /// Which messages its lines are, where they came from a live source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Arc<Messages>>,
    /// The batch and part that it was, where it is folded into another batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// So many refused records of its batch are rows of `rejected`, where that is not the usual number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_kept: Option<u64>,
}

/// Records of which a field holds a value. The field has its name here, whatever place it gets in later versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Only {
    /// The field.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// Whether that is the text itself, and not also the same number or UUID written otherwise.
    pub exact: bool,
}

impl Only {
    /// What it says of records of an input; nothing where that has no such field.
    pub fn condition(&self, input: &Input) -> Option<Condition> {
        let place = input.fields.iter().position(|known| known.name == self.field)?;
        Some(Condition { place, value: self.value.clone(), exact: self.exact })
    }
}

/// What of a part is delivered once more, or undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// These lines of it alone; all of it, where there are none.
    pub lines: Vec<LineOf>,
    /// The part that they came with: what is refused of them leaves the table `rejected`. Without it they are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Origin>,
}

fn is_first(nth: &u64) -> bool {
    *nth == 0
}

/// A record of a file, by where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineOf {
    /// Its number, from 1.
    pub line: u64,
    /// The record's number in it, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub nth: u64,
    /// The file of an archive that it stands in, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
}

/// How a file becomes records. Fields have their names here, whatever place they get in later versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptShape {
    /// How fields are called and written, of those of which anything is said.
    #[serde(default)]
    pub fields: BTreeMap<String, Rule>,
    /// How the file is read.
    pub files: FileOptions,
}

impl KeptShape {
    /// That of an input.
    pub fn of(input: &Input) -> KeptShape {
        let rule = |(place, field): (usize, &Field)| {
            let rule = input.mapping.rule(place).filter(|rule| **rule != Rule::default())?;
            Some((field.name.to_string(), rule.clone()))
        };
        KeptShape { fields: input.fields.iter().enumerate().filter_map(rule).collect(), files: input.files.clone() }
    }

    /// An input of this shape; or the name of a field that it does not have.
    pub fn shaped<'s>(&'s self, input: &Input) -> Result<Input, &'s str> {
        let mut mapping = Mapping::default();
        for (name, rule) in &self.fields {
            let place = input.fields.iter().position(|field| field.name == name).ok_or(name.as_str())?;
            mapping = mapping.with(input.fields, place, rule.clone());
        }
        Ok(input.shaped(&Shape { mapping, files: self.files.clone() }))
    }
}

/// A file of a folder that is the table of its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFolder {
    /// The folder.
    pub path: String,
    /// The file's place below it.
    pub file: String,
    /// When the file was modified, in nanoseconds since 1970, where that is known: one of the same size and time is taken to be the same.
    pub modified_ns: Option<i64>,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A file of records.
    Blob(Blob),
    /// A small one, which stands in the frame itself.
    Inline(Inline),
    /// A dataset: its key, and its streams.
    Dataset {
        /// What identifies it.
        key: Vec<String>,
        /// Its streams, in the order in which its input declares them.
        streams: Vec<Blob>,
        /// What they were called, likewise.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
        /// Why a stream could not be copied: then none is read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<String>,
    },
    /// A job that was refused.
    Refused {
        /// The line in its file, from 0.
        line: u64,
        /// Why.
        reason: String,
        /// Its first bytes.
        raw: Vec<u8>,
    },
}

/// A small file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inline {
    /// What it holds.
    pub format: InlineFormat,
    /// Its text.
    pub text: String,
}

/// What a small file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InlineFormat {
    /// Values between delimiters.
    Csv,
    /// JSON objects.
    Json,
}

impl From<InlineFormat> for TextFormat {
    fn from(format: InlineFormat) -> TextFormat {
        match format {
            InlineFormat::Csv => TextFormat::Csv,
            InlineFormat::Json => TextFormat::Json,
        }
    }
}

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blob {
    /// Its name among the blobs: the hash of what was delivered, and an ending that says what the file is.
    pub file: String,
    /// The bytes that were delivered.
    pub bytes: u64,
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Records accepted, delivered and retracted ones.
    pub accepted: u64,
    /// Of these, those that were late.
    pub late: u64,
    /// Records refused.
    pub rejected: u64,
    /// Rows changed, by table.
    pub changed: BTreeMap<String, u64>,
}

impl Part {
    /// The files that it needs.
    pub fn blobs(&self) -> &[Blob] {
        match &self.content {
            Content::Blob(blob) => std::slice::from_ref(blob),
            Content::Dataset { streams, .. } => streams,
            Content::Inline(_) | Content::Refused { .. } => &[],
        }
    }

    /// How much was delivered, in bytes.
    pub fn bytes(&self) -> u64 {
        match &self.content {
            Content::Inline(inline) => inline.text.len() as u64,
            Content::Refused { raw, .. } => raw.len() as u64,
            Content::Blob(_) | Content::Dataset { .. } => self.blobs().iter().map(|blob| blob.bytes).sum(),
        }
    }

    /// The input and the key of a dataset.
    pub fn dataset(&self) -> Option<(&str, &[String])> {
        match &self.content {
            Content::Dataset { key, .. } => Some((&self.input, key)),
            Content::Blob(_) | Content::Inline(_) | Content::Refused { .. } => None,
        }
    }

    /// From and until when events are accepted.
    pub fn accepts(&self) -> (Moment, Moment) {
        (Moment(self.accept_from), Moment(self.accept_until))
    }
}
