//! Points: what leaves a dataflow for a time-series database, beside its tables.
//!
//! A point is a measurement, tags, a time and fields; measurement, tags and time identify it. A dataflow that
//! reads more than memory holds gives its points away as it reads, in [`PointBatch`]es of one series: columns, so that a
//! point costs its numbers and nothing else. Destinations belong to the runtime, which gives each worker a [`PointWriter`].
//!
//! An operator never waits for a destination. Where [`PointWriter::offer`] reports that it is behind, the operator comes back
//! after a while, and holds the epoch's capability until [`PointWriter::flush`]: so an epoch is complete only when its points
//! are written, and a slow destination slows the reader down.
//!
//! A point that is no longer true is retracted: deleted where the destination can, and marked there where it can't.

use std::sync::Arc;

/// A kind of points that a dataflow declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Its name.
    pub name: &'static str,
    /// What a point holds.
    pub about: &'static str,
    /// The tags: texts that, together with the measurement, name a series.
    pub tags: Vec<Tag>,
    /// The fields of a point.
    pub fields: Vec<PointField>,
}

/// A tag of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
}

/// A field of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointField {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// What it means.
    pub about: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A signed 64-bit integer.
    Int,
    /// A 64-bit float, never NaN or infinite.
    Float,
}

/// A series: a measurement and the values of its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The measurement.
    pub measurement: Arc<Measurement>,
    /// The values of its tags, in the order in which it declares them.
    pub tags: Vec<String>,
}

/// How the points of a batch stand to what the destination may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// They are true, and none of them was ever retracted.
    #[default]
    Fresh,
    /// They are true, and some of them may have been retracted before: a mark that says so is to be taken away.
    Restored,
    /// They are no longer true. Their fields are of no interest, and may be missing.
    Retracted,
}

/// Some thousand points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct PointBatch {
    /// The series.
    pub series: Arc<Series>,
    /// Whether the points are true.
    pub standing: Standing,
    /// When: nanoseconds since 1970-01-01T00:00:00Z.
    pub times_ns: Vec<i64>,
    /// The fields, in the order in which the measurement declares them; each as long as `times_ns`, unless points are retracted.
    pub columns: Vec<PointColumn>,
}

/// The values of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct PointColumn {
    /// A value for each point; any where there is none.
    pub values: Values,
    /// Which of them are there; empty: all.
    pub present: Vec<bool>,
}

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of a field of integers.
    Int(Vec<i64>),
    /// Of a field of floats.
    Float(Vec<f64>),
}

/// Whether a destination took a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// It did; the batch is empty.
    Taken,
    /// It has enough to do; the batch is as it was. Come back after [`RETRY_AFTER`].
    Behind,
}

/// How long an operator waits before it asks a destination again.
pub const RETRY_AFTER: std::time::Duration = std::time::Duration::from_micros(200);
/// How many points a batch has, about: enough to make its overhead vanish, little enough to stay in the cache.
pub const BATCH_POINTS: usize = 4_096;

/// Where the points of a dataflow go. The runtime's side.
pub trait Points: Send + Sync {
    /// Whether points go anywhere at all. Where not, a dataflow need not make them.
    fn wanted(&self) -> bool;

    /// A worker's way to the destination. Points of a series must all go through one writer at a time: their order is kept.
    fn writer(&self) -> Box<dyn PointWriter>;
}

/// A worker's way to the destination. None of its functions waits.
///
/// An error reports what was tried, on what, and why it failed for good: it ends the run. (What can be tried again, the destination
/// tries again by itself.)
pub trait PointWriter {
    /// Takes the points of a batch, and leaves it empty; or leaves it as it is, and then it has to be offered again before any other.
    fn offer(&mut self, batch: &mut PointBatch) -> Result<Offered, String>;

    /// Sees to it that what was taken gets written, and returns whether all of it is. Does not wait, so it is called until then.
    fn flush(&mut self) -> Result<bool, String>;

    /// Deletes all points of a series that were ever written, before those that are offered from now on. Returns whether the destination
    /// can: where it can't, the operator has to retract points one by one.
    fn delete_series(&mut self, _series: &Arc<Series>) -> Result<bool, String> {
        Ok(false)
    }
}

/// Takes all points, and forgets them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Points for Nowhere {
    fn wanted(&self) -> bool {
        false
    }

    fn writer(&self) -> Box<dyn PointWriter> {
        Box::new(Nowhere)
    }
}

impl PointWriter for Nowhere {
    fn offer(&mut self, batch: &mut PointBatch) -> Result<Offered, String> {
        batch.clear();
        Ok(Offered::Taken)
    }

    fn flush(&mut self) -> Result<bool, String> {
        Ok(true)
    }

    fn delete_series(&mut self, _series: &Arc<Series>) -> Result<bool, String> {
        Ok(true)
    }
}

impl PointBatch {
    /// An empty batch.
    pub fn new(series: Arc<Series>, standing: Standing) -> PointBatch {
        let column = |field: &PointField| PointColumn {
            values: match field.kind {
                FieldKind::Int => Values::Int(Vec::new()),
                FieldKind::Float => Values::Float(Vec::new()),
            },
            present: Vec::new(),
        };
        let columns = series.measurement.fields.iter().map(column).collect();
        PointBatch { series, standing, times_ns: Vec::new(), columns }
    }

    /// How many points it has.
    pub fn len(&self) -> usize {
        self.times_ns.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.times_ns.is_empty()
    }

    /// Drops the points, and keeps the memory.
    pub fn clear(&mut self) {
        self.times_ns.clear();
        for column in &mut self.columns {
            column.present.clear();
            match &mut column.values {
                Values::Int(values) => values.clear(),
                Values::Float(values) => values.clear(),
            }
        }
    }
}

impl PointBatch {
    /// Drops the first points.
    pub fn drop_first(&mut self, points: usize) {
        fn drop_first<T>(values: &mut Vec<T>, count: usize) {
            values.drain(..count.min(values.len()));
        }
        drop_first(&mut self.times_ns, points);
        for column in &mut self.columns {
            drop_first(&mut column.present, points);
            match &mut column.values {
                Values::Int(values) => drop_first(values, points),
                Values::Float(values) => drop_first(values, points),
            }
        }
    }

    /// Appends a point of another batch of the same measurement; of a retracted one, its time is enough.
    pub fn push_from(&mut self, other: &PointBatch, place: usize) {
        self.times_ns.extend(other.times_ns.get(place));
        if self.standing == Standing::Retracted {
            return;
        }
        for (column, other) in self.columns.iter_mut().zip(&other.columns) {
            match (&mut column.values, &other.values) {
                (Values::Int(values), Values::Int(others)) => values.extend(others.get(place)),
                (Values::Float(values), Values::Float(others)) => values.extend(others.get(place)),
                (values, others) => panic!("columns of one measurement differ in kind: {values:?} and {others:?}"),
            }
            column.present.extend(other.present.get(place));
        }
    }

    /// Whether a point has the same fields as one of another batch of the same measurement.
    pub fn same_fields(&self, place: usize, other: &PointBatch, other_place: usize) -> bool {
        self.columns.iter().zip(&other.columns).all(|(column, other)| {
            let present = column.is_present(place);
            let equal = match (&column.values, &other.values) {
                (Values::Int(values), Values::Int(others)) => values.get(place) == others.get(other_place),
                (Values::Float(values), Values::Float(others)) => {
                    values.get(place).map(|value| value.to_bits()) == others.get(other_place).map(|value| value.to_bits())
                }
                _ => false,
            };
            present == other.is_present(other_place) && (equal || !present)
        })
    }
}

impl PointColumn {
    /// Whether the value of a point is there.
    pub fn is_present(&self, place: usize) -> bool {
        self.present.get(place).copied().unwrap_or(self.present.is_empty())
    }
}
