//! `retally rejected replay`: refused records, delivered once more by a service.

use super::client::Server;
use super::error::{CliError, unless_broken_pipe};
use super::feed::shown_answer;
use clap::ArgMatches;
use indicatif::HumanCount;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use uuid::Uuid;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let dataflow = text("dataflow").unwrap_or_default();
    let ids: Vec<&String> = matches.get_many("ids").into_iter().flatten().collect();
    let which = text("reason").map_or_else(|| json!({"ids": ids}), |reason| json!({"reason": reason}));
    let (wait, key) = (text("wait").unwrap_or("visible"), Uuid::new_v4().to_string());
    let path = format!("/v1/{dataflow}/rejected/replay");
    let answer = Server::of(matches)?.post(&path, &[("wait", wait)], &[("idempotency-key", &key)], &which)?;
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut shown = format!("delivered {} refused records once more\n", HumanCount(number("replayed")));
    if number("left") > 0 {
        shown += &format!("  {} can't be: `retally rejected replay {dataflow} ID` says why\n", HumanCount(number("left")));
    }
    shown += &shown_answer(&answer);
    unless_broken_pipe(stdout().write_all(shown.as_bytes()))
}
