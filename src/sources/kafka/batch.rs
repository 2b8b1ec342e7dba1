//! Batches of messages, as brokers keep and send them: a head with a checksum, and messages, which may be packed.
//!
//! Producers write messages of a *transaction* before it is known what comes of it; a *control batch* says so later. The broker names
//! transactions that came to nothing, and their batches are left out here.

use super::unpack::unpacked;
use super::wire::{Fields, Malformed};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Offset and length of a batch.
const PREFIX_BYTES: usize = 12;
/// And all that stands before its messages.
const HEAD_BYTES: usize = 61;
/// The checksum is of what stands behind it.
const CHECKED_FROM: usize = 21;
/// The form of batches since Kafka 0.11.
const MAGIC: i8 = 2;

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset that its first message has, or had.
    pub first: i64,
    /// The offset of the last message that it had: some may be gone.
    pub last: i64,
    attributes: i16,
    first_ms: i64,
    last_ms: i64,
    producer: i64,
    count: i32,
    packed: Bytes,
}

/// A message of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// When it was sent, or where the broker notes that, when it came: in milliseconds since 1970.
    pub time_ms: i64,
    /// Its key, where it has one.
    pub key: Option<Bytes>,
    /// What it holds, where it holds something.
    pub value: Option<Bytes>,
}

/// Why the bytes of a partition are no batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// A broker before Kafka 0.11 wrote it, or a later one wrote it in that form.
    #[error("the messages at offset {0} are in a form from before Kafka 0.11, which is not read")]
    Old(i64),
    /// The checksum is another one.
    #[error("the messages at offset {0} came damaged: their checksum is another one")]
    Damaged(i64),
    /// Its head is none.
    #[error("the messages at offset {0} are no batch")]
    Malformed(i64),
}

impl Batch {
    /// Takes the next batch of what a broker sent. None where there is none, or it is cut short.
    pub fn next(bytes: &mut Bytes) -> Result<Option<Batch>, BadBatch> {
        let Ok((first, length)) = prefix(bytes) else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| BadBatch::Malformed(first))?.saturating_add(PREFIX_BYTES);
        if length > bytes.len() {
            return Ok(None);
        }
        let whole = bytes.split_to(length);
        let malformed = |_: Malformed| BadBatch::Malformed(first);
        let mut head = Fields::new(whole.clone(), false);
        head.take(PREFIX_BYTES + 4).map_err(malformed)?;
        if head.i8().map_err(malformed)? != MAGIC {
            return Err(BadBatch::Old(first));
        }
        let checksum = head.i32().map_err(malformed)?.cast_unsigned();
        if whole.get(CHECKED_FROM..).map(crc32c::crc32c) != Some(checksum) {
            return Err(BadBatch::Damaged(first));
        }
        Batch::read(first, &mut head, whole).map_err(malformed).map(Some)
    }

    fn read(first: i64, head: &mut Fields, whole: Bytes) -> Result<Batch, Malformed> {
        let (attributes, last) = (head.i16()?, first.checked_add(i64::from(head.i32()?)).ok_or(Malformed)?);
        let (first_ms, last_ms, producer) = (head.i64()?, head.i64()?, head.i64()?);
        head.i16()?;
        head.i32()?;
        let count = head.i32()?;
        if first < 0 || last < first {
            return Err(Malformed);
        }
        Ok(Batch { first, last, attributes, first_ms, last_ms, producer, count, packed: whole.slice(HEAD_BYTES..) })
    }

    /// Whether it says what came of a transaction, and holds no messages.
    pub fn is_control(&self) -> bool {
        self.attributes & (1 << 5) != 0
    }

    fn is_transactional(&self) -> bool {
        self.attributes & (1 << 4) != 0
    }

    /// The broker has noted the time of all messages.
    fn has_time_of_broker(&self) -> bool {
        self.attributes & (1 << 3) != 0
    }

    /// Its messages, or why they can't be read.
    pub fn records(&self) -> Result<Vec<Record>, String> {
        let codec = (self.attributes & 7) as u8;
        let mut fields = Fields::new(unpacked(codec, self.packed.clone())?, false);
        let malformed = |_: Malformed| String::from("its batch is cut short, or is none");
        let mut records = Vec::new();
        for _ in 0..self.count {
            records.push(self.record(&mut fields).map_err(malformed)?);
        }
        Ok(records)
    }

    fn record(&self, fields: &mut Fields) -> Result<Record, Malformed> {
        let length = usize::try_from(fields.signed()?).map_err(|_| Malformed)?;
        let mut fields = Fields::new(fields.take(length)?, false);
        fields.i8()?;
        let time_ms = self.first_ms.saturating_add(fields.signed()?);
        let offset =
            self.first.checked_add(fields.signed()?).filter(|offset| (self.first..=self.last).contains(offset)).ok_or(Malformed)?;
        let mut bytes = || match fields.signed()? {
            -1 => Ok(None),
            length => fields.take(usize::try_from(length).map_err(|_| Malformed)?).map(Some),
        };
        let (key, value) = (bytes()?, bytes()?);
        Ok(Record { offset, time_ms: if self.has_time_of_broker() { self.last_ms } else { time_ms }, key, value })
    }

    /// Whether a control batch ends a transaction without its messages.
    fn aborts(&self) -> bool {
        // The key: a version, and what it is.
        self.records().ok().and_then(|records| records.into_iter().next()?.key).is_some_and(|key| key.get(2..4) == Some(&[0, 0]))
    }
}

fn prefix(bytes: &Bytes) -> Result<(i64, i32), Malformed> {
    let mut fields = Fields::new(bytes.clone(), false);
    Ok((fields.i64()?, fields.i32()?))
}

/// The transactions of an answer that came to nothing.
#[derive(Clone, Debug, Default)]
pub struct Aborted {
    /// From which offset on, and of which producer: the next one last.
    later: Vec<(i64, i64)>,
    producers: BTreeSet<i64>,
}

impl Aborted {
    /// Of producers, with the first offsets of their transactions.
    pub fn new(aborted: &[(i64, i64)]) -> Aborted {
        let mut later: Vec<(i64, i64)> = aborted.iter().map(|(producer, first)| (*first, *producer)).collect();
        later.sort_unstable_by(|one, two| two.cmp(one));
        Aborted { later, producers: BTreeSet::new() }
    }

    /// Whether the messages of a batch count: batches come in their order, each once.
    pub fn counts(&mut self, batch: &Batch) -> bool {
        while let Some((_, producer)) = self.later.pop_if(|(first, _)| *first <= batch.last) {
            self.producers.insert(producer);
        }
        if batch.is_control() {
            if batch.aborts() {
                self.producers.remove(&batch.producer);
            }
            return false;
        }
        !(batch.is_transactional() && self.producers.contains(&batch.producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::records::{
        Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_SEQUENCE, Record as Written, RecordBatchEncoder, RecordEncodeOptions,
        TimestampType,
    };

    fn written(offset: i64, value: Option<&'static str>) -> Written {
        Written {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: 7,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: NO_SEQUENCE.wrapping_add(i32::try_from(offset).unwrap()),
            timestamp: 1_700_000_000_000 + offset,
            key: Some(Bytes::from(format!("key {offset}"))),
            value: value.map(Bytes::from),
            headers: [("a".to_string().into(), Some(Bytes::from("b")))].into_iter().collect(),
        }
    }

    fn encoded(records: &[Written], compression: Compression) -> Bytes {
        let (mut bytes, options) = (BytesMut::new(), RecordEncodeOptions { version: 2, compression });
        if compression == Compression::Zstd {
            let pack = |records: &mut BytesMut, to: &mut BytesMut, _| {
                to.extend_from_slice(&zstd::encode_all(&records[..], 1)?);
                Ok(())
            };
            RecordBatchEncoder::encode_with_custom_compression(&mut bytes, records, &options, Some(pack)).unwrap();
        } else {
            RecordBatchEncoder::encode(&mut bytes, records, &options).unwrap();
        }
        bytes.freeze()
    }

    #[test]
    fn batches_of_another_writer_are_read_however_they_are_packed() {
        let records: Vec<Written> = (40..90).map(|offset| written(offset, (offset % 7 > 0).then_some("some value"))).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let mut bytes = encoded(&records, compression);
            let batch = Batch::next(&mut bytes).unwrap().unwrap();
            assert_eq!((batch.first, batch.last, bytes.len()), (40, 89, 0));
            let found = batch.records().unwrap();
            let as_written = |record: &Written| Record {
                offset: record.offset,
                time_ms: record.timestamp,
                key: record.key.clone(),
                value: record.value.clone(),
            };
            assert_eq!(found, records.iter().map(as_written).collect::<Vec<_>>(), "{compression:?}");
        }
    }

    #[test]
    fn what_is_cut_or_damaged_is_told_apart() {
        let whole = encoded(&[written(0, Some("a")), written(1, Some("b"))], Compression::None);
        for length in 0..whole.len() {
            assert_eq!(Batch::next(&mut whole.slice(..length)), Ok(None), "{length}");
        }
        for place in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[place] ^= 0x55;
            // Offset and length, and who led the partition, are not under the checksum.
            match Batch::next(&mut bytes.into()) {
                Err(BadBatch::Damaged(_)) => assert!(place >= 8, "{place}"),
                Err(BadBatch::Old(_)) => assert_eq!(place, 16),
                Err(BadBatch::Malformed(_)) | Ok(None) => assert!(place < 12, "{place}"),
                Ok(Some(batch)) => assert!((..8).contains(&place) && batch.records().is_ok() || (12..16).contains(&place), "{place}"),
            }
        }
    }

    #[test]
    fn transactions_that_came_to_nothing_do_not_count() {
        let batch = |first, producer, attributes, packed: &[u8]| Batch {
            first,
            last: first,
            attributes,
            first_ms: 0,
            last_ms: 0,
            producer,
            count: 1,
            packed: Bytes::copy_from_slice(packed),
        };
        // A message with a key of a version and a kind: 0 for nothing, and 1 for something.
        let ended = |first, producer, kind| batch(first, producer, (1 << 4) | (1 << 5), &[20, 0, 0, 0, 8, 0, 0, 0, kind, 1, 0]);
        let of = |first, producer| batch(first, producer, 1 << 4, &[]);
        let mut aborted = Aborted::new(&[(7, 4), (5, 2), (7, 0)]);
        for (batch, counts) in [
            (of(0, 7), false),
            (of(1, 5), true),
            (of(2, 5), false),
            (batch(2, 7, 0, &[]), true),
            (ended(3, 7, 0), false),
            (of(4, 7), false),
            (ended(5, 7, 0), false),
            (of(6, 7), true),
            (ended(7, 5, 1), false),
            (of(8, 5), false),
        ] {
            assert_eq!(aborted.counts(&batch), counts, "{batch:?}");
        }
    }
}
