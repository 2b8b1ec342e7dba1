//! `retally status`: how a service is, or what is in a state.

use super::args;
use super::client::Server;
use super::error::{CliError, say, unless_broken_pipe};
use super::show;
use super::table;
use crate::numbers::{counted, grouped};
use crate::state::State;
use crate::state::frame::{Answer, Frame};
use crate::state::home::Home;
use clap::ArgMatches;
use retally_core::time::Moment;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};

/// So many batches of each dataflow are shown, the last ones.
const BATCHES_SHOWN: usize = 10;
/// What is shown of each, and whether it is a number.
const COLUMNS: [(&str, bool); 7] =
    [("epoch", true), ("arrived", false), ("parts", true), ("accepted", true), ("late", true), ("rejected", true), ("changed", true)];

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(given) = matches.get_one::<String>("state") else { return of_service(&Server::of(matches)?) };
    // Of a bucket, nothing is kept here.
    let scratch = std::env::temp_dir().display().to_string();
    let (frames, torn) = State::look(&args::home(given, Home::is_bucket(given).then_some(&scratch))?)?;
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

/// How a service is, and its last batches.
fn of_service(server: &Server) -> Result<(), CliError> {
    let status = server.json("/v1/status", &[])?;
    let said = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => grouped(&number.to_string()),
        _ => "-".into(),
    };
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (workers, streams) = (counted(number("workers"), "worker"), counted(number("streams"), "stream"));
    let mut text = format!("{}, for {} s, with {workers}", said(&status, "phase"), said(&status, "uptime_s"));
    text += &format!(", {} under way, {streams}\n", show::batches(number("batches_under_way")));
    if let Some(bytes) = status.get("memory_bytes").and_then(Value::as_u64) {
        text += &format!("memory: {}\n", indicatif::HumanBytes(bytes));
    }
    if let Some(error) = status.get("error").and_then(Value::as_str) {
        text += &format!("error: {error}\n");
    }
    let dataflows = status.get("dataflows").and_then(Value::as_object);
    for (name, about) in dataflows.into_iter().flatten() {
        let of = |what: &str| said(about, what);
        let records = counted(about.get("records").and_then(Value::as_u64).unwrap_or(0), "record");
        let (epoch, late, rejected) = (of("epoch"), of("late"), of("rejected"));
        text += &format!("{name}: epoch {epoch}, {records} accepted, {late} late, {rejected} rejected, as of {}\n", of("as_of"));
    }
    let sinks = status.get("sinks").and_then(Value::as_array);
    sinks.into_iter().flatten().for_each(|about| text += &sink(about));
    let sources = status.get("sources").and_then(Value::as_array);
    sources.into_iter().flatten().for_each(|about| text += &source(about));
    let folders = status.get("folders").and_then(Value::as_array);
    folders.into_iter().flatten().for_each(|about| text += &folder(about));
    for (name, _) in dataflows.into_iter().flatten() {
        let batches = server.json(&format!("/v1/{name}/batches"), &[("limit".into(), BATCHES_SHOWN.to_string())])?;
        let batches = batches.get("batches").and_then(Value::as_array).cloned().unwrap_or_default();
        let row = |batch: &Value| {
            let changed: u64 =
                batch.get("changed").and_then(Value::as_object).into_iter().flatten().filter_map(|(_, rows)| rows.as_u64()).sum();
            let arrived = said(batch, "arrived");
            // Seconds are enough here.
            let arrived = arrived.split_once('.').map_or(arrived.clone(), |(seconds, _)| format!("{seconds}Z"));
            let [parts, accepted, late, rejected] = ["parts", "accepted", "late", "rejected"].map(|name| said(batch, name));
            vec![said(batch, "epoch"), arrived, parts, accepted, late, rejected, grouped(&changed.to_string())]
        };
        let shown: Vec<Vec<String>> = batches.iter().rev().map(row).collect();
        let count = shown.len() as u64;
        text += &format!("\n{}", table::render_cells(&format!("last batches of {name}"), &COLUMNS, shown.into_iter(), count, None));
    }
    unless_broken_pipe(stdout().write_all(text.as_bytes()))
}

/// A further sink in a line, and what is wrong with it in another one.
fn sink(about: &Value) -> String {
    let dataflows = about.get("dataflows").and_then(Value::as_object);
    let behind = |(name, of): (&String, &Value)| match of.get("behind").and_then(Value::as_u64) {
        Some(0) => format!("{name} has all"),
        behind => format!("{name} behind by {}", counted(behind.unwrap_or(0), "epoch")),
    };
    let all: Vec<String> = dataflows.into_iter().flatten().map(behind).collect();
    let place = about.get("place").and_then(Value::as_str).unwrap_or_default();
    let given_up = if about.get("failed").and_then(Value::as_bool) == Some(true) { ", given up" } else { "" };
    let error = about.get("error").and_then(Value::as_str).map(|error| format!("  {error}\n")).unwrap_or_default();
    format!("sink {place}: {}{given_up}\n{error}", all.join(", "))
}

/// A live source in a line, and what is wrong with it in another one.
fn source(about: &Value) -> String {
    let text = |name: &str| about.get(name).and_then(Value::as_str).unwrap_or_default();
    let count = |name: &str| about.get(name).and_then(Value::as_u64).unwrap_or(0);
    let connected = if about.get("connected").and_then(Value::as_bool) == Some(true) { "connected" } else { "not connected" };
    let error = about.get("error").and_then(Value::as_str).map(|error| format!("  {error}\n")).unwrap_or_default();
    let (messages, waiting) = (counted(count("messages"), "message"), grouped(&count("waiting").to_string()));
    format!("source {} of {}: {connected}, {messages}, {waiting} waiting\n{error}", text("source"), text("input"))
}

/// A watched folder in a line, and what is wrong with it in another one.
fn folder(about: &Value) -> String {
    let error = about.get("error").and_then(Value::as_str).map(|error| format!("  {error}\n")).unwrap_or_default();
    let folder = about.get("folder").and_then(Value::as_str).unwrap_or_default();
    let files = counted(about.get("files").and_then(Value::as_u64).unwrap_or(0), "file");
    let refused = grouped(&about.get("refused").and_then(Value::as_u64).unwrap_or(0).to_string());
    format!("folder {folder}: {files}, {refused} that can't be read\n{error}")
}

/// A dataflow in a line.
fn summary(name: &str, frames: &[&Frame]) -> String {
    let blobs: BTreeSet<_> = frames.iter().flat_map(|frame| &frame.parts).flat_map(|part| part.blobs()).collect();
    let bytes = indicatif::HumanBytes(blobs.iter().map(|blob| blob.bytes).sum());
    let last = frames.last().map_or(0, |frame| frame.epoch);
    let of = |count: fn(&Answer) -> u64| frames.iter().filter_map(|frame| frame.answer.as_ref()).map(count).sum::<u64>();
    let (accepted, rejected) = (counted(of(|answer| answer.accepted), "record"), grouped(&of(|answer| answer.rejected).to_string()));
    let is_unknown = frames.iter().any(|frame| frame.answer.is_none());
    let unknown = if is_unknown { " (not of the last batch, which the journal says with the next one)" } else { "" };
    format!("{name}: epoch {last}, {accepted} accepted, {rejected} rejected{unknown}, {} ({bytes})\n", counted(blobs.len() as u64, "file"))
}

/// The last batches of a dataflow.
fn batches(name: &str, frames: &[&Frame]) -> String {
    let row = |frame: &&Frame| {
        // What came of a batch is said with a later one; that of the last may be known to the tables alone.
        let known =
            |count: fn(&Answer) -> u64| frame.answer.as_ref().map_or_else(|| "?".into(), |answer| grouped(&count(answer).to_string()));
        let numbers = [
            grouped(&frame.parts.len().to_string()),
            known(|answer| answer.accepted),
            known(|answer| answer.late),
            known(|answer| answer.rejected),
            known(|answer| answer.changed.values().sum()),
        ];
        // Seconds are enough here.
        let arrived = Moment(frame.arrived.div_euclid(1_000_000).saturating_mul(1_000_000)).to_string();
        [frame.epoch.to_string(), arrived].into_iter().chain(numbers).collect()
    };
    let first = frames.len().saturating_sub(BATCHES_SHOWN);
    let shown: Vec<Vec<String>> = frames.iter().skip(first).map(row).collect();
    let count = shown.len() as u64;
    format!("\n{}", table::render_cells(&format!("last batches of {name}"), &COLUMNS, shown.into_iter(), count, None))
}
