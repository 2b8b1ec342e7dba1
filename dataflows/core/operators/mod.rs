//! The reusable incremental pieces, one file each.
//!
//! They answer questions about order (what came next, which days are covered, how many at a time) at a cost
//! per change that does not grow with the history of the key. `reduce` reads a key's whole history at each
//! change; these keep a key's records in an ordered index, apply the changes of an epoch to it, and emit
//! the differences around each change. That is simple because epochs are totally ordered: an epoch's
//! changes are applied when it is complete, and never again.
//!
//! | operator | state per key | cost of a change (n: what the key holds) |
//! |---|---|---|
//! | [`neighbors`] | its records | O(log n), and moving at most 512 records |
//! | [`day_ranges`] | the days where its count changes | O(log n) and the days under the changed range |
//! | [`counts`] | the same | the same |
//! | [`as_of`] | its points and steps | O(log n), and the points whose state changes |
//! | [`quantile`] | its distinct values, with counts | O(log n), and adding up n / 512 counts |
//! | [`horizon`] | the latest times by worker | O(log n) |
//! | [`beside`] | what the caller keeps | O(1); of a fact, the records that depend on it |
//! | [`first`](mod@first) | its records | O(log n), and as many as are asked for |
//!
//! [`ordered`], [`order`], [`merged`], [`history`], [`steps`] and [`by_key`] are what they are made of; [`regression`] is arithmetic.

pub mod as_of;
pub mod beside;
pub mod by_key;
pub mod counts;
pub mod day_ranges;
pub mod first;
pub mod history;
pub mod horizon;
pub mod merged;
pub mod neighbors;
pub mod order;
pub mod ordered;
pub mod quantile;
pub mod regression;
pub mod rolling;
pub mod steps;
