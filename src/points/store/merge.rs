//! The points of several series as rows, in the order of time.
//!
//! Each series is read a block at a time, so what is in memory is a block for each; a heap decides which has the next point.

use super::block::Block;
use super::read::Scan;
use super::series::{StoredMeasurement, StoredSeries};
use super::{Store, StoreError};
use retally_core::points::Values;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;

/// A value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldValue {
    /// Of a field of integers.
    Int(i64),
    /// Of a field of floats.
    Float(f64),
}

/// A point.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPoint {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub time_ns: i64,
    /// The place of its series in the list that was asked for.
    pub series: usize,
    /// A value for each field of the measurement that it has.
    pub fields: Vec<Option<FieldValue>>,
}

/// The points of some series; those of the same time in the order of the series.
pub struct Merged<'a> {
    series: Vec<SeriesCursor<'a>>,
    /// The time of each series' next point, and the series' place.
    next: BinaryHeap<Reverse<(i64, usize)>>,
    failed: bool,
}

/// How far a series is read.
struct SeriesCursor<'a> {
    scan: Scan<'a>,
    block: Block,
    place: usize,
}

impl Store {
    /// The points of series within a range.
    pub fn points(
        &self,
        measurement: &StoredMeasurement,
        series: &[StoredSeries],
        range_ns: RangeInclusive<i64>,
    ) -> Result<Merged<'_>, StoreError> {
        let mut merged = Merged { series: Vec::new(), next: BinaryHeap::new(), failed: false };
        for (place, series) in series.iter().enumerate() {
            let scan = self.scan(measurement, series.number, range_ns.clone())?;
            let mut cursor = SeriesCursor { scan, block: Block::default(), place: 0 };
            merged.next.extend(cursor.next_ns()?.map(|time_ns| Reverse((time_ns, place))));
            merged.series.push(cursor);
        }
        Ok(merged)
    }
}

impl SeriesCursor<'_> {
    /// The time of the next point.
    fn next_ns(&mut self) -> Result<Option<i64>, StoreError> {
        if self.place >= self.block.times_ns.len() {
            self.block = self.scan.next().transpose()?.unwrap_or_default();
            self.place = 0;
        }
        Ok(self.block.times_ns.get(self.place).copied())
    }

    fn fields(&self) -> Vec<Option<FieldValue>> {
        let value = |values: &Values| match values {
            Values::Int(values) => values.get(self.place).copied().map(FieldValue::Int),
            Values::Float(values) => values.get(self.place).copied().map(FieldValue::Float),
        };
        self.block.columns.iter().map(|column| value(&column.values).filter(|_| column.is_present(self.place))).collect()
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<StoredPoint, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let Reverse((time_ns, place)) = self.next.pop()?;
        let cursor = self.series.get_mut(place)?;
        let point = StoredPoint { time_ns, series: place, fields: cursor.fields() };
        cursor.place += 1;
        match cursor.next_ns() {
            Ok(next) => self.next.extend(next.map(|time_ns| Reverse((time_ns, place)))),
            Err(error) => {
                self.failed = true;
                return Some(Err(error));
            }
        }
        Some(Ok(point))
    }
}
