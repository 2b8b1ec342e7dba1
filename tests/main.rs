//! The program as a user has it: files in, tables out, and what it says when something is wrong.
//!
//! One binary for all, because each has to be linked with everything.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod archives;
mod brushing;
mod charts;
mod cli;
mod cluster;
mod damage;
mod databases;
mod databases_refuse;
mod destinations;
mod errors;
mod files;
mod formats;
mod fuzz;
mod help;
mod kills;
mod law;
mod objects;
mod own_data;
mod points;
mod processes;
mod secrets;
mod sensors;
mod serve;
mod states;
mod support;
mod terminal;
mod text_ids;
