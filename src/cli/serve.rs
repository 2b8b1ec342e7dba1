//! `retally serve`: dataflows that are kept right for as long as they are left alone.

use super::error::{CliError, say, unless_broken_pipe};
use super::{job, mapping};
use crate::engine;
use crate::registry;
use crate::serve::further::Wanted;
use crate::serve::http::auth::Tokens;
use crate::serve::http::server::tls;
use crate::serve::limits::Limits;
use crate::serve::service::Served;
use crate::serve::{self, Options};
use crate::shown;
use crate::sinks::{Destination, Format};
use crate::state::folders::Folder;
use clap::ArgMatches;
use retally_core::contract::InputKind;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Where it listens, unless told otherwise.
pub const LISTEN: &str = "127.0.0.1:7878";

/// How long a file of a watched folder must have stayed the same, unless told otherwise.
const SETTLE: Duration = Duration::from_secs(2);
/// How often files are written, unless told otherwise.
const EXPORT_EVERY: Duration = Duration::from_secs(3_600);

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
    if let Some((first, second)) = two_in_a_file(&dataflows) {
        let error = CliError::usage(format!("--points would hold the points of {first} and {second} in one file"));
        return Err(error.hint("serve them apart, or give a store or a server"));
    }
    let text = |name: &str| matches.get_one::<String>(name);
    let listen = text("listen").cloned().or(mapping::read(matches)?.listen).unwrap_or_else(|| LISTEN.into());
    let tokens = text("tokens").map(|path| Tokens::read(Path::new(path))).transpose();
    let tokens = tokens.map_err(|why| CliError::usage(format!("--tokens {why}")))?;
    let tls = match (text("tls-cert"), text("tls-key")) {
        (Some(certificates), Some(key)) => Some(tls(Path::new(certificates), Path::new(key)).map_err(CliError::usage)?),
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let told: fn(&str) = if text("log-format").is_some_and(|format| format == "json") { told_json } else { told };
    let (state, workers, limits) = (job::state_of(matches)?, job::cluster_of_one(matches)?, limits(matches));
    let settle = matches.get_one::<Duration>("settle").copied().unwrap_or(SETTLE);
    let (sinks, watched) = (sinks(matches, &names)?, watched(matches, &names, &dataflows)?);
    let options = Options { listen, state, workers, limits, sinks, watched, settle, tokens, tls, told };
    let listening = |address: SocketAddr| {
        // Nobody has to read it.
        unless_broken_pipe(writeln!(stdout(), "listening on {scheme}://{address}").and_then(|()| stdout().flush())).ok();
    };
    Ok(serve::run(dataflows, options, listening)?)
}

/// Two dataflows whose points would go to the same file, where there are two.
fn two_in_a_file(dataflows: &[Served]) -> Option<(&'static str, &'static str)> {
    let mut of_files = dataflows.iter().filter(|served| matches!(served.job.points, crate::points::Destination::File(_))).map(Served::name);
    of_files.next().zip(of_files.next())
}

/// The folders that are watched, by flags and by the configuration file.
fn watched(matches: &ArgMatches, names: &[&String], dataflows: &[Served]) -> Result<Vec<(usize, Folder)>, CliError> {
    let mut given: Vec<String> = matches.get_many::<String>("watch").into_iter().flatten().cloned().collect();
    if given.is_empty() {
        given = mapping::read(matches)?.watch(names);
    }
    let mut watched = Vec::new();
    for text in given {
        let wrong = || CliError::usage(format!("--watch {:?} is not DATAFLOW.INPUT=DIR", shown::location(&text)));
        let (of, folder) = text.split_once('=').ok_or_else(wrong)?;
        let (name, input) = of.split_once('.').ok_or_else(wrong)?;
        let place = dataflows.iter().position(|served| served.name() == name);
        let place = place.ok_or_else(|| wrong().hint(format!("{name:?} is not served")))?;
        let definition = dataflows.get(place).map(|served| &served.job.definition).ok_or_else(wrong)?;
        let batch = job::batch(definition, &[format!("{input}={folder}")])?;
        let (input, path) = batch.folder().ok_or_else(wrong)?;
        if definition.inputs.get(input).is_some_and(|input| input.kind != InputKind::Records) {
            let error = CliError::usage("--watch is of folders with files of records");
            return Err(error.hint("deliver a folder of datasets by a run with the same state"));
        }
        let path = path.trim_end_matches('/').to_string();
        if !Path::new(&path).is_dir() {
            return Err(CliError::failed(format!("--watch {of}: there is no folder {:?}", shown::location(&path))));
        }
        watched.push((place, Folder { input, path }));
    }
    Ok(watched)
}

/// Where tables go besides, by flags and by the configuration file.
fn sinks(matches: &ArgMatches, names: &[&String]) -> Result<Vec<Wanted>, CliError> {
    let mut given: Vec<String> = matches.get_many::<String>("out").into_iter().flatten().cloned().collect();
    if given.is_empty() {
        given = mapping::read(matches)?.out(names);
    }
    let duration = |name: &str, usual: Duration| matches.get_one::<Duration>(name).copied().unwrap_or(usual);
    let mut sinks: Vec<Wanted> = Vec::new();
    for text in given {
        let (path, format) = match text.split_once(':') {
            Some((kind, path)) if let Some(format) = Format::named(kind) => (path.to_string(), format),
            _ => (text.clone(), Format::default()),
        };
        let destination = Destination::parse(&path).map_err(|error| CliError::usage(error.to_string()).hint(error.hint))?;
        if destination.has_files() && names.len() > 1 {
            let error = CliError::usage(format!("--out {path:?} would hold the files of several dataflows"));
            return Err(error.hint("a folder is of one dataflow: serve them apart, or give a database"));
        }
        if sinks.iter().any(|sink| sink.destination == destination) {
            return Err(CliError::usage(format!("--out {:?} is given twice", shown::location(&path))));
        }
        sinks.push(Wanted {
            shown: shown::location(&text).into_owned(),
            destination,
            format,
            every: duration("export-every", EXPORT_EVERY),
            replace: matches.get_flag("replace"),
            silence_max: duration("network-timeout", job::NETWORK_TIMEOUT),
        });
    }
    Ok(sinks)
}

fn told(what: &str) {
    say(&format!("note: {what}"));
}

/// For those who collect logs: an object a line.
fn told_json(what: &str) {
    let line = serde_json::json!({"time": engine::now().to_string(), "level": "info", "message": what});
    say(&line.to_string());
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
