//! What the dataflows of retally share. No I/O and no clock: everything here is a function of the records.
//!
//! - [`definition`], [`contract`]: what an author of a dataflow declares and writes, and what the runtime sees of it
//! - [`split`], [`record`], [`row`]: the way in (bytes to typed records) and the way out (typed rows)
//! - [`time`], [`calendar`], [`duration`]: microsecond times, zones, days, durations
//! - [`ids`], [`texts`]: what ids are, and those that are any text
//! - [`points`]: what goes to a time-series database
//! - [`chart`], [`key_chart`], [`extremes`]: charts of tables, of single keys, and long series made short
//! - [`operators`]: the reusable incremental pieces
//! - [`generate`], [`late_lines`]: options and files of generators

pub mod calendar;
pub mod chart;
pub mod condition;
pub mod context;
pub mod contract;
pub mod decode;
pub mod definition;
pub mod duration;
pub mod extremes;
pub mod field;
pub mod fields;
pub mod gather;
pub mod generate;
pub mod hash;
pub mod ids;
pub mod key_chart;
mod keys;
pub mod late_lines;
pub mod mapping;
pub mod noticed;
pub mod objects;
pub mod operators;
pub mod points;
pub mod publish;
pub mod reasons;
pub mod record;
pub mod row;
mod row_sorter;
pub mod split;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod texts;
pub mod time;
pub mod time_format;

/// The number of a batch, from 1; the timely timestamp of its records.
///
/// Epochs are totally ordered, which is what lets the operators here keep plain ordered indices.
pub type Epoch = u64;

/// A collection of `D` that changes from epoch to epoch.
pub type Collection<'s, D, R = isize> = differential_dataflow::VecCollection<'s, Epoch, D, R>;

/// A stream of vectors of `D`.
pub type VecStream<'s, D> = timely::dataflow::Stream<'s, Epoch, Vec<D>>;
