//! Points as bytes, from one process of this version to another: a length, a kind, and what it is of.

use retally_core::points::{Measurement, PointBatch, PointColumn, Series, Standing, Values};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

/// No frame is longer.
const FRAME_BYTES_MAX: u32 = 256 << 20;
const POINTS: u8 = 1;
const DELETE: u8 = 2;
const FLUSH: u8 = 3;

/// The measurements of all dataflows, by name.
pub type Known = BTreeMap<&'static str, Arc<Measurement>>;

/// What a process is sent.
#[derive(Debug, PartialEq)]
pub enum Sent {
    /// Points of a series.
    Points(PointBatch),
    /// All points of a series are to be deleted.
    Delete(Arc<Series>),
    /// All that came before is to be flushed, and that is to be answered.
    Flush,
}

/// Appends a frame.
pub fn write(sent: &Sent, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    match sent {
        Sent::Points(batch) => {
            bytes.push(POINTS);
            series(&batch.series, bytes);
            bytes.push(match batch.standing {
                Standing::Fresh => 0,
                Standing::Restored => 1,
                Standing::Retracted => 2,
            });
            count(batch.times_ns.len(), bytes);
            batch.times_ns.iter().for_each(|time| bytes.extend(time.to_le_bytes()));
            for column in &batch.columns {
                match &column.values {
                    Values::Int(values) => {
                        count(values.len(), bytes);
                        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
                    }
                    Values::Float(values) => {
                        count(values.len(), bytes);
                        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
                    }
                }
                count(column.present.len(), bytes);
                bytes.extend(column.present.iter().map(|present| u8::from(*present)));
            }
        }
        Sent::Delete(of) => {
            bytes.push(DELETE);
            series(of, bytes);
        }
        Sent::Flush => bytes.push(FLUSH),
    }
    let length = u32::try_from(bytes.len() - start - 4).unwrap_or(u32::MAX).to_le_bytes();
    bytes.iter_mut().skip(start).zip(length).for_each(|(place, byte)| *place = byte);
}

fn count(count: usize, bytes: &mut Vec<u8>) {
    bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(text: &str, bytes: &mut Vec<u8>) {
    count(text.len(), bytes);
    bytes.extend(text.bytes());
}

fn series(series: &Series, bytes: &mut Vec<u8>) {
    text(series.measurement.name, bytes);
    series.tags.iter().for_each(|tag| text(tag, bytes));
}

/// Reads the next frame; nothing at the end of the stream.
pub fn read(stream: &mut impl Read, known: &Known) -> io::Result<Option<Sent>> {
    let mut length = [0; 4];
    match stream.read(&mut length)? {
        0 => return Ok(None),
        read => stream.read_exact(length.get_mut(read..).unwrap_or_default())?,
    }
    let length = u32::from_le_bytes(length);
    let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "it sends what has no meaning");
    if length > FRAME_BYTES_MAX {
        return Err(nonsense());
    }
    let mut bytes = Vec::new();
    if stream.take(length.into()).read_to_end(&mut bytes)? < usize::try_from(length).unwrap_or(usize::MAX) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut frame = Frame { rest: &bytes, known };
    let sent = frame.sent().filter(|_| frame.rest.is_empty());
    sent.map(Some).ok_or_else(nonsense)
}

/// What has not been read of a frame.
struct Frame<'f> {
    rest: &'f [u8],
    known: &'f Known,
}

impl<'f> Frame<'f> {
    fn sent(&mut self) -> Option<Sent> {
        match self.byte()? {
            POINTS => {
                let series = self.series()?;
                let standing = match self.byte()? {
                    0 => Standing::Fresh,
                    1 => Standing::Restored,
                    2 => Standing::Retracted,
                    _ => return None,
                };
                let mut batch = PointBatch::new(series, standing);
                batch.times_ns = self.numbers(i64::from_le_bytes)?;
                for PointColumn { values, present } in &mut batch.columns {
                    match values {
                        Values::Int(values) => *values = self.numbers(i64::from_le_bytes)?,
                        Values::Float(values) => *values = self.numbers(f64::from_le_bytes)?,
                    }
                    let count = self.count()?;
                    *present = self.bytes(count)?.iter().map(|byte| *byte == 1).collect();
                }
                Some(Sent::Points(batch))
            }
            DELETE => self.series().map(Sent::Delete),
            FLUSH => Some(Sent::Flush),
            _ => None,
        }
    }

    fn bytes(&mut self, count: usize) -> Option<&'f [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(*self.bytes(4)?.first_chunk()?)).ok()
    }

    fn numbers<T>(&mut self, number: fn([u8; 8]) -> T) -> Option<Vec<T>> {
        let count = self.count()?;
        let bytes = self.bytes(count.checked_mul(8)?)?;
        Some(bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect())
    }

    fn text(&mut self) -> Option<String> {
        let count = self.count()?;
        String::from_utf8(self.bytes(count)?.to_vec()).ok()
    }

    fn series(&mut self) -> Option<Arc<Series>> {
        let name = self.text()?;
        let measurement = Arc::clone(self.known.get(name.as_str())?);
        let tags = measurement.tags.iter().map(|_| self.text()).collect::<Option<Vec<String>>>()?;
        Some(Arc::new(Series { measurement, tags }))
    }
}

/// What tests of this folder share.
#[cfg(test)]
pub mod tests {
    use super::*;
    use retally_core::points::{FieldKind, PointField, Tag};

    /// A measurement with two fields.
    pub fn known() -> Known {
        let field = |name, kind| PointField { name, kind, about: "" };
        let measurement = Measurement {
            name: "m",
            about: "",
            tags: vec![Tag { name: "a", about: "" }],
            fields: vec![field("int", FieldKind::Int), field("float", FieldKind::Float)],
        };
        BTreeMap::from([("m", Arc::new(measurement))])
    }

    /// Points of a series of it.
    pub fn batch(tag: &str, times: std::ops::Range<i64>, standing: Standing) -> PointBatch {
        let mut batch = PointBatch::new(Arc::new(Series { measurement: Arc::clone(&known()["m"]), tags: vec![tag.into()] }), standing);
        batch.times_ns = times.clone().collect();
        batch.columns[0].values = Values::Int(times.clone().map(|time| -time).collect());
        batch.columns[1].values = Values::Float(times.clone().map(|time| time as f64 / 3.0).collect());
        batch.columns[1].present = times.map(|time| time % 2 == 0).collect();
        batch
    }

    #[test]
    fn what_is_sent_comes_back_and_what_is_cut_is_no_frame() {
        let known = known();
        let series = Arc::clone(&batch("é", 0..1, Standing::Fresh).series);
        let mut retracted = batch("x", 0..0, Standing::Retracted);
        retracted.times_ns = vec![1, 2];
        let sent = [
            Sent::Points(batch("a", -3..4, Standing::Fresh)),
            Sent::Flush,
            Sent::Delete(series),
            Sent::Points(batch("", 0..1, Standing::Restored)),
            Sent::Points(retracted),
        ];
        let mut bytes = Vec::new();
        sent.iter().for_each(|sent| write(sent, &mut bytes));
        let mut rest = bytes.as_slice();
        for sent in &sent {
            assert_eq!(read(&mut rest, &known).unwrap().as_ref(), Some(sent));
        }
        assert!(read(&mut rest, &known).unwrap().is_none());
        let mut first = Vec::new();
        write(&sent[0], &mut first);
        for length in 1..first.len() {
            assert!(read(&mut &first[..length], &known).is_err(), "{length}");
        }
        // A kind, a name and a length that are none.
        for (place, byte) in [(4, 9), (9, b'x'), (3, 0xff)] {
            let mut wrong = first.clone();
            wrong[place] = byte;
            assert!(read(&mut wrong.as_slice(), &known).is_err(), "{place}");
        }
    }
}
