//! retally: event metrics that stay right when events arrive late, twice, or wrong.
//!
//! The library behind the program. Dataflows live in crates of their own (`dataflows/`); here is what runs them.

mod backoff;
mod certificates;
pub mod charts;
pub mod cli;
mod client;
pub mod cluster;
pub mod engine;
pub mod failure;
mod hex;
pub mod ingest;
pub mod interrupt;
mod lock;
mod memory;
pub mod numbers;
pub mod points;
pub mod registry;
pub mod serve;
pub mod shown;
pub mod silence;
pub mod sinks;
pub mod sources;
pub mod staged;
pub mod state;
pub mod tables;
