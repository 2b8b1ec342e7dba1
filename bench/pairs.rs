//! Every record with the next one of its key, in three ways: what the operator for neighbours is measured against.
//!
//! - [`Shape::Neighbors`]: the operator of this project, an ordered index by key
//! - [`Shape::Reduce`]: one differential `reduce` by key, which walks the key's records at each change
//! - [`Shape::Buckets`]: a `reduce` by key and day, and one over the first and last records of a key's days; a change
//!   walks a day, and the days of the key

use differential_dataflow::VecCollection;
use retally_core::operators::by_key::exchange;
use retally_core::operators::neighbors::neighbors;
use retally_core::time::DAY;

/// A record: its time in microseconds, and something else.
pub type Value = (u64, u64);

/// A key, the time of one of its records, and the time of the next.
pub type Pair = (u64, u64, Option<u64>);

type Collection<'s, D> = VecCollection<'s, u64, D, isize>;

/// A way to find pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The ordered index.
    Neighbors,
    /// `reduce` by key.
    Reduce,
    /// `reduce` by day, and over days.
    Buckets,
}

impl Shape {
    /// All ways.
    pub const ALL: [Shape; 3] = [Shape::Neighbors, Shape::Reduce, Shape::Buckets];

    /// What it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Neighbors => "neighbors",
            Shape::Reduce => "reduce",
            Shape::Buckets => "reduce_by_day",
        }
    }

    /// The graph.
    pub fn build<'s>(self, records: Collection<'s, (u64, Value)>) -> Collection<'s, Pair> {
        match self {
            Shape::Neighbors => neighbors(records, exchange(), "neighbors", |key, record: &Value, next, give| {
                give((*key, record.0, next.map(|next| next.0)));
            }),
            Shape::Reduce => by_key(records),
            Shape::Buckets => by_day(records),
        }
    }
}

fn by_key<'s>(records: Collection<'s, (u64, Value)>) -> Collection<'s, Pair> {
    let pairs = records.reduce_named("pairs by key", |_, input, output| {
        for (place, (record, _)) in input.iter().enumerate() {
            output.push(((record.0, input.get(place + 1).map(|(next, _)| next.0)), 1));
        }
    });
    pairs.map(|(key, (time, next))| (key, time, next))
}

fn by_day<'s>(records: Collection<'s, (u64, Value)>) -> Collection<'s, Pair> {
    let day = DAY.unsigned_abs();
    let within = records.map(move |(key, value)| ((key, value.0 / day), value)).reduce_named("pairs by day", |_, input, output| {
        for pair in input.windows(2) {
            if let [(record, _), (next, _)] = pair {
                output.push(((false, record.0, next.0), 1));
            }
        }
        // What other days need to know.
        if let (Some((first, _)), Some((last, _))) = (input.first(), input.last()) {
            output.push(((true, first.0, last.0), 1));
        }
    });
    let edges = within.clone().flat_map(|((key, _), (edge, first, last))| edge.then_some((key, (first, last))));
    let across = edges.reduce_named("pairs across days", |_, input, output| {
        for (place, (edge, _)) in input.iter().enumerate() {
            output.push(((edge.1, input.get(place + 1).map(|(next, _)| next.0)), 1));
        }
    });
    let within = within.flat_map(|((key, _), (edge, time, next))| (!edge).then_some((key, time, Some(next))));
    within.concat(across.map(|(key, (time, next))| (key, time, next)))
}
