//! What a broker is asked, and what it answers: which versions it has, topics, offsets and messages.
//!
//! Of each request two versions are known at most: one that each broker since Kafka 0.11 has, and one that knows topics by their ids, which
//! a topic that is created again under its name does not share.

use super::wire::{Fields, Malformed, Writer};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Messages.
    Fetch,
    /// Offsets of a time.
    Offsets,
    /// Brokers, and the partitions of a topic.
    Metadata,
    /// Which way of login is meant.
    Handshake,
    /// Which versions there are.
    Versions,
    /// A step of a login.
    Authenticate,
}

impl Api {
    /// Its number.
    pub fn key(self) -> i16 {
        match self {
            Api::Fetch => 1,
            Api::Offsets => 2,
            Api::Metadata => 3,
            Api::Handshake => 17,
            Api::Versions => 18,
            Api::Authenticate => 36,
        }
    }
}

/// Errors that are told apart.
pub mod code {
    /// There is none.
    pub const NONE: i16 = 0;
    /// No message is at this offset.
    pub const OUT_OF_RANGE: i16 = 1;
    /// The topic or the partition is not there.
    pub const UNKNOWN_TOPIC: i16 = 3;
    /// Nobody leads a partition.
    pub const NO_LEADER: i16 = 5;
    /// The topic may not be read.
    pub const TOPIC_REFUSED: i16 = 29;
    /// The way of login is not there.
    pub const NO_MECHANISM: i16 = 33;
    /// The login is refused.
    pub const LOGIN_REFUSED: i16 = 58;

    /// Whether it says that another broker, or another topic, is meant by now: of partitions that moved, and topics that are created again.
    pub fn is_moved(code: i16) -> bool {
        matches!(code, UNKNOWN_TOPIC | NO_LEADER | 6 | 9 | 74 | 75 | 76 | 100 | 103)
    }
}

/// The number of a topic that no other one has.
pub type TopicId = [u8; 16];

/// The versions of a broker, by the number of the request.
pub fn versions(fields: &mut Fields) -> Result<BTreeMap<i16, RangeInclusive<i16>>, Malformed> {
    let code = fields.i16()?;
    let ranges = fields.all(|fields| Ok((fields.i16()?, fields.i16()?..=fields.i16()?)))?;
    if code == code::NONE { Ok(ranges.into_iter().collect()) } else { Err(Malformed) }
}

/// A topic, and where its partitions are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Why it can't be read, where it can't.
    pub code: i16,
    /// What it is called with its number, where brokers give numbers to topics.
    pub id: Option<TopicId>,
    /// What its cluster is called.
    pub cluster: String,
    /// Who leads each partition; -1 where nobody does.
    pub leaders: BTreeMap<i32, i32>,
    /// Host and port of each broker.
    pub brokers: BTreeMap<i32, (String, u16)>,
}

/// The version of metadata that has ids of topics.
pub const METADATA_WITH_IDS: i16 = 10;
/// And one that all brokers have.
pub const METADATA: i16 = 4;

/// Asks for a topic.
pub fn ask_topic(name: &str, version: i16) -> Writer {
    let mut writer = if version == METADATA_WITH_IDS { Writer::flexible() } else { Writer::fixed() };
    writer.list(1);
    if version == METADATA_WITH_IDS {
        writer.raw(&[0; 16]);
    }
    // The topic; and none is to be made where there is none.
    writer.text(name).end().i8(0);
    if version == METADATA_WITH_IDS {
        // Nor who may do what.
        writer.i8(0).i8(0);
    }
    writer.end();
    writer
}

/// Reads a topic.
pub fn topic(fields: &mut Fields, version: i16) -> Result<Topic, Malformed> {
    let has_ids = version == METADATA_WITH_IDS;
    fields.i32()?;
    let brokers = fields.all(|fields| {
        let (node, host, port) = (fields.i32()?, fields.text()?, fields.i32()?);
        fields.text()?;
        fields.end()?;
        Ok((node, (host, u16::try_from(port).map_err(|_| Malformed)?)))
    })?;
    let cluster = fields.text()?;
    fields.i32()?;
    let mut topics = fields.all(|fields| {
        let code = fields.i16()?;
        fields.text()?;
        let id = if has_ids { Some(fields.take(16)?) } else { None };
        fields.i8()?;
        let partitions = fields.all(|fields| {
            let (_code, partition, leader) = (fields.i16()?, fields.i32()?, fields.i32()?);
            if has_ids {
                fields.i32()?;
            }
            for _ in 0..if has_ids { 3 } else { 2 } {
                fields.all(Fields::i32)?;
            }
            fields.end()?;
            Ok((partition, leader))
        })?;
        if has_ids {
            fields.i32()?;
        }
        fields.end()?;
        let id = id.and_then(|id| TopicId::try_from(&id[..]).ok()).filter(|id| *id != [0; 16]);
        Ok(Topic { code, id, leaders: partitions.into_iter().collect(), ..Topic::default() })
    })?;
    let topic = topics.pop().ok_or(Malformed)?;
    Ok(Topic { cluster, brokers: brokers.into_iter().collect(), ..topic })
}

/// Of which time an offset is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// That of the first message that is there.
    Earliest,
    /// Behind the last one.
    Latest,
    /// The first message of this time, in milliseconds since 1970, or a later one.
    Millis(i64),
}

/// The version of offsets that knows transactions.
pub const OFFSETS: i16 = 2;

/// Asks for offsets of partitions.
pub fn ask_offsets(topic: &str, partitions: &[i32], at: At) -> Writer {
    let mut writer = Writer::fixed();
    writer.i32(-1).i8(READ_COMMITTED).list(1).text(topic).list(partitions.len());
    for partition in partitions {
        let time = match at {
            At::Latest => -1,
            At::Earliest => -2,
            At::Millis(time) => time.max(0),
        };
        writer.i32(*partition).i64(time);
    }
    writer
}

/// Reads offsets: of each partition its error and its offset, which is -1 where there is none.
pub fn offsets(fields: &mut Fields) -> Result<Vec<(i32, i16, i64)>, Malformed> {
    fields.i32()?;
    let topics = fields.all(|fields| {
        fields.text()?;
        fields.all(|fields| {
            let (partition, code) = (fields.i32()?, fields.i16()?);
            fields.i64()?;
            Ok((partition, code, fields.i64()?))
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

/// Messages of transactions count when these are done.
const READ_COMMITTED: i8 = 1;
/// The version of a fetch that names topics by their ids.
pub const FETCH_BY_ID: i16 = 13;
/// And the one that names them by their names.
pub const FETCH: i16 = 4;

/// What is fetched.
#[derive(Clone, Debug)]
pub struct Wish<'w> {
    /// The topic.
    pub topic: &'w str,
    /// Its id, where it has one.
    pub id: Option<TopicId>,
    /// From which offset on, of each partition.
    pub from: Vec<(i32, i64)>,
    /// How long the broker may wait for a message where there is none.
    pub wait_ms: i32,
    /// So many bytes of all, and of a partition: a message that is longer comes all the same.
    pub bytes: (i32, i32),
}

/// Asks for messages, in the version that is given.
pub fn ask_messages(wish: &Wish<'_>, version: i16) -> Writer {
    let by_id = version == FETCH_BY_ID;
    let mut writer = if by_id { Writer::flexible() } else { Writer::fixed() };
    writer.i32(-1).i32(wish.wait_ms).i32(1).i32(wish.bytes.0).i8(READ_COMMITTED);
    if by_id {
        // No session.
        writer.i32(0).i32(-1);
    }
    writer.list(1);
    if by_id {
        writer.raw(&wish.id.unwrap_or_default());
    } else {
        writer.text(wish.topic);
    }
    writer.list(wish.from.len());
    for (partition, offset) in &wish.from {
        writer.i32(*partition);
        if by_id {
            writer.i32(-1).i64(*offset).i32(-1).i64(-1);
        } else {
            writer.i64(*offset);
        }
        writer.i32(wish.bytes.1).end();
    }
    writer.end();
    if by_id {
        // Nothing is forgotten, and no rack is nearer.
        writer.list(0).text("");
    }
    writer.end();
    writer
}

/// Messages of a partition.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The partition.
    pub partition: i32,
    /// Why there are none, where that is an error.
    pub code: i16,
    /// Behind the last message that may be read; -1 where the broker does not report it.
    pub end: i64,
    /// Transactions that came to nothing: their producers, and from which offset on.
    pub aborted: Vec<(i64, i64)>,
    /// Batches, the last of which may be cut short.
    pub batches: Bytes,
}

/// Reads messages.
pub fn messages(fields: &mut Fields, version: i16) -> Result<Vec<Fetched>, Malformed> {
    let by_id = version == FETCH_BY_ID;
    fields.i32()?;
    if by_id {
        let code = fields.i16()?;
        if code != code::NONE {
            return Ok(vec![Fetched { code, ..Fetched::default() }]);
        }
        fields.i32()?;
    }
    let topics = fields.all(|fields| {
        if by_id {
            fields.take(16)?;
        } else {
            fields.text()?;
        }
        let partitions = fields.all(|fields| {
            let (partition, code, _high, end) = (fields.i32()?, fields.i16()?, fields.i64()?, fields.i64()?);
            if by_id {
                fields.i64()?;
            }
            let aborted = fields.all(|fields| {
                let aborted = (fields.i64()?, fields.i64()?);
                fields.end()?;
                Ok(aborted)
            })?;
            if by_id {
                fields.i32()?;
            }
            let batches = fields.blob()?;
            fields.end()?;
            Ok(Fetched { partition, code, end, aborted, batches })
        })?;
        fields.end()?;
        Ok(partitions)
    })?;
    Ok(topics.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
