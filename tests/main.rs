//! The program as a user has it: files in, tables out, and what it says when something is wrong.
//!
//! One binary for all, because each has to be linked with everything.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod again;
mod archives;
mod blows;
mod brushing;
mod bucket_state;
mod charts;
mod cli;
mod cluster;
mod crowds;
mod damage;
mod databases;
mod databases_refuse;
mod destinations;
mod errors;
mod faults;
mod files;
mod folding;
mod forget;
mod formats;
mod further;
mod fuzz;
mod help;
mod histories;
mod kafka;
mod kills;
mod launch;
mod law;
mod links;
mod mqtt;
mod nats;
mod objects;
mod own_data;
mod page;
mod points;
mod power;
mod processes;
mod remote;
mod replay;
mod secrets;
mod secured;
mod sensors;
mod serve;
mod serve_settings;
mod service_points;
mod states;
mod support;
mod terminal;
mod text_ids;
mod webhooks;
