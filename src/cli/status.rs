//! `retally status`: what is in a state.

use super::args;
use super::error::{CliError, say, unless_broken_pipe};
use super::table;
use crate::numbers::grouped;
use crate::state::State;
use crate::state::frame::Frame;
use clap::ArgMatches;
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};
use std::path::PathBuf;

/// So many batches of each dataflow are shown, the last ones.
const BATCHES_SHOWN: usize = 10;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let dir: PathBuf = args::written("state", matches.get_one::<String>("state").map_or("", String::as_str))?;
    let (frames, torn) = State::look(&dir)?;
    if torn > 0 {
        say("note: a batch is being written, or its process ended while it was: it is not there");
    }
    let mut by_dataflow: BTreeMap<&str, Vec<&Frame>> = BTreeMap::new();
    frames.iter().for_each(|frame| by_dataflow.entry(&frame.dataflow).or_default().push(frame));
    let mut text: Vec<String> = by_dataflow.iter().map(|(name, frames)| summary(name, frames)).collect();
    text.extend(by_dataflow.iter().map(|(name, frames)| batches(name, frames)));
    if text.is_empty() {
        text.push("no batches\n".into());
    }
    unless_broken_pipe(stdout().write_all(text.concat().as_bytes()))
}

/// A dataflow in a line.
fn summary(name: &str, frames: &[&Frame]) -> String {
    let sum = |count: fn(&Frame) -> u64| grouped(&frames.iter().map(|frame| count(frame)).sum::<u64>().to_string());
    let blobs: BTreeSet<_> = frames.iter().flat_map(|frame| &frame.parts).flat_map(|part| part.blobs()).collect();
    let bytes = indicatif::HumanBytes(blobs.iter().map(|blob| blob.bytes).sum());
    let last = frames.last().map_or(0, |frame| frame.epoch);
    let (accepted, rejected) = (sum(|frame| frame.answer.accepted), sum(|frame| frame.answer.rejected));
    format!(
        "{name}: epoch {last}, {accepted} records accepted, {rejected} rejected, {} files ({bytes})\n",
        grouped(&blobs.len().to_string())
    )
}

/// The last batches of a dataflow.
fn batches(name: &str, frames: &[&Frame]) -> String {
    let columns =
        [("epoch", true), ("arrived", false), ("parts", true), ("accepted", true), ("late", true), ("rejected", true), ("changed", true)];
    let row = |frame: &&Frame| {
        let answer = &frame.answer;
        let changed: u64 = answer.changed.values().sum();
        let numbers = [frame.parts.len() as u64, answer.accepted, answer.late, answer.rejected, changed];
        let numbers = numbers.map(|number| grouped(&number.to_string()));
        // Seconds are enough here.
        let arrived = Moment(frame.arrived.div_euclid(1_000_000).saturating_mul(1_000_000)).to_string();
        [frame.epoch.to_string(), arrived].into_iter().chain(numbers).collect()
    };
    let first = frames.len().saturating_sub(BATCHES_SHOWN);
    let shown: Vec<Vec<String>> = frames.iter().skip(first).map(row).collect();
    let count = shown.len() as u64;
    format!("\n{}", table::render_cells(&format!("last batches of {name}"), &columns, shown.into_iter(), count, None))
}
