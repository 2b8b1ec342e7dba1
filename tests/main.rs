//! The program as a user has it: files in, tables out, and what it says when something is wrong.
//!
//! One binary for all, because each has to be linked with everything.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod brushing;
mod cli;
mod errors;
mod formats;
mod help;
mod law;
mod processes;
mod program;
