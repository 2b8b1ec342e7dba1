//! Reading: the points of a series within a range of time, block by block.

use super::block::{self, Block};
use super::series::StoredMeasurement;
use super::{Store, StoreError, block_key, first_of};
use fjall::Readable;
use retally_core::points::{FieldKind, PointColumn, Values};
use std::ops::RangeInclusive;

/// The points of a series, in the order of time.
pub struct Scan<'a> {
    store: &'a Store,
    blocks: fjall::Iter,
    kinds: Vec<FieldKind>,
    range_ns: RangeInclusive<i64>,
}

impl Store {
    /// The points of a series within a range, as of now.
    pub fn scan(&self, measurement: &StoredMeasurement, series: u64, range_ns: RangeInclusive<i64>) -> Result<Scan<'_>, StoreError> {
        let (from, to) = (block_key(series, *range_ns.start()), block_key(series, *range_ns.end()));
        let snapshot = self.tree.snapshot();
        // The first points may be in the block that begins before them.
        let before = match snapshot.range(&self.blocks, block_key(series, i64::MIN)..=from).next_back() {
            Some(entry) => entry.key().map_err(self.failed("read"))?.to_vec(),
            None => from.to_vec(),
        };
        let blocks = if from <= to { snapshot.range(&self.blocks, before..=to.to_vec()) } else { snapshot.range(&self.blocks, to..to) };
        Ok(Scan { store: self, blocks, kinds: measurement.kinds(), range_ns })
    }
}

impl Scan<'_> {
    /// How many points there are. Only blocks at the ends of the range are read for what is in them.
    pub fn count(self) -> Result<u64, StoreError> {
        let mut points = 0;
        for entry in self.blocks {
            let (key, bytes) = entry.into_inner().map_err(self.store.failed("read"))?;
            let damaged = || self.store.damaged("a block of points");
            let first = first_of(&key).ok_or_else(damaged)?;
            let head = block::head(first, &bytes).ok_or_else(damaged)?;
            if self.range_ns.contains(&first) && self.range_ns.contains(&head.last_ns) {
                points += head.points as u64;
            } else {
                let mut block = block::decode(first, &bytes, &self.kinds).ok_or_else(damaged)?;
                trim(&mut block, &self.range_ns);
                points += block.times_ns.len() as u64;
            }
        }
        Ok(points)
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Block, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.blocks.next()?.into_inner() {
                Err(error) => return Some(Err(self.store.failed("read")(error))),
                Ok((key, bytes)) => {
                    let Some(mut block) = first_of(&key).and_then(|first| block::decode(first, &bytes, &self.kinds)) else {
                        return Some(Err(self.store.damaged("a block of points")));
                    };
                    trim(&mut block, &self.range_ns);
                    if !block.times_ns.is_empty() {
                        return Some(Ok(block));
                    }
                }
            }
        }
    }
}

/// Drops the points outside of a range.
fn trim(block: &mut Block, range_ns: &RangeInclusive<i64>) {
    let from = block.times_ns.partition_point(|time| time < range_ns.start());
    let to = block.times_ns.partition_point(|time| time <= range_ns.end()).max(from);
    fn cut<T>(values: &mut Vec<T>, from: usize, to: usize) {
        values.truncate(to);
        values.drain(..from.min(values.len()));
    }
    if (from, to) == (0, block.times_ns.len()) {
        return;
    }
    cut(&mut block.times_ns, from, to);
    for PointColumn { values, present } in &mut block.columns {
        cut(present, from, to);
        match values {
            Values::Int(values) => cut(values, from, to),
            Values::Float(values) => cut(values, from, to),
        }
    }
}
