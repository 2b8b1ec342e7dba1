//! `retally serve`: dataflows that are kept right for as long as they are left alone.

use super::error::{CliError, say, unless_broken_pipe};
use super::{args, job, mapping};
use crate::registry;
use crate::serve::http::auth::Tokens;
use crate::serve::service::Limits;
use crate::serve::{self, Options};
use clap::ArgMatches;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::Path;

/// Where it listens, unless told otherwise.
pub const LISTEN: &str = "127.0.0.1:7878";

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let names: Vec<&String> = matches.get_many::<String>("dataflows").into_iter().flatten().collect();
    if let Some(twice) = names.iter().enumerate().find(|(place, name)| names.iter().skip(place + 1).any(|other| other == *name)) {
        return Err(CliError::usage(format!("{} is named twice", twice.1)));
    }
    for flag in ["set", "map"] {
        let given = matches.get_many::<String>(flag).into_iter().flatten();
        let is_ours = |given: &&String| names.iter().any(|name| given.split_once('.').is_some_and(|(of, _)| of == *name));
        if let Some(unknown) = given.into_iter().find(|given| !is_ours(given)) {
            return Err(CliError::usage(format!("--{flag} {unknown:?} is of no dataflow that is served")).hint("DATAFLOW.NAME=VALUE"));
        }
    }
    let dataflows = names.iter().filter_map(|name| registry::dataflow(name));
    let dataflows = dataflows.map(|dataflow| job::served(dataflow, matches)).collect::<Result<Vec<_>, _>>()?;
    let text = |name: &str| matches.get_one::<String>(name);
    let listen = text("listen").cloned().or(mapping::read(matches)?.listen).unwrap_or_else(|| LISTEN.into());
    let tokens = text("tokens").map(|path| Tokens::read(Path::new(path))).transpose();
    let tokens = tokens.map_err(|why| CliError::usage(format!("--tokens {why}")))?;
    let options =
        Options { listen, state: job::state_of(matches)?, workers: job::cluster_of_one(matches)?, limits: limits(matches), tokens, told };
    let listening = |address: SocketAddr| {
        // Nobody has to read it.
        unless_broken_pipe(writeln!(stdout(), "listening on http://{address}").and_then(|()| stdout().flush())).ok();
    };
    Ok(serve::run(dataflows, options, listening)?)
}

fn told(what: &str) {
    say(&format!("note: {what}"));
}

fn limits(matches: &ArgMatches) -> Limits {
    let usual = Limits::default();
    let number = |name: &str, usual: u64| matches.get_one::<u64>(name).copied().unwrap_or(usual);
    let count = |name: &str, usual: usize| usize::try_from(number(name, usual as u64)).unwrap_or(usize::MAX);
    let streams = count("max-streams", usual.streams);
    Limits {
        body: number("max-body", usual.body),
        unpacked: number("max-unpacked", usual.unpacked),
        waiting: usual.waiting,
        streams,
        connections: streams.saturating_add(usual.connections - usual.streams),
        changes_kept: matches.get_one::<i64>("keep-changes").copied().unwrap_or(usual.changes_kept),
        changes_bytes: usual.changes_bytes,
    }
}

/// What is understood by a number of bytes: `64MiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("give a number of bytes, such as 64MiB or 4GiB".into()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|number| *number > 0);
    number.ok_or_else(|| "give a number of bytes, such as 64MiB or 4GiB".into())
}

/// What is understood by a long time: `30d`.
pub fn time_kept(text: &str) -> Result<i64, String> {
    args::micros(text).filter(|micros| *micros > 0).ok_or_else(|| "give a duration, such as 12h or 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!((bytes("7"), bytes("64MiB"), bytes("2 GiB")), (Ok(7), Ok(64 << 20), Ok(2 << 30)));
        for wrong in ["", "0", "MiB", "1MB", "99999999999GiB", "-1"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
