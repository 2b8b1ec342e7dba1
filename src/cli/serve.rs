//! `retally serve`: dataflows that are kept right for as long as they are left alone.

use super::error::{self, CliError, say, say_object, unless_broken_pipe};
use super::{cluster, job, mapping, serve_demo, serve_sources};
use crate::cluster::Cluster;
use crate::cluster::watch::Lost;
use crate::engine;
use crate::interrupt;
use crate::memory;
use crate::registry;
use crate::serve::further::Wanted;
use crate::serve::http::auth::Tokens;
use crate::serve::http::server::tls;
use crate::serve::limits::Limits;
use crate::serve::out::{Out, Webhook};
use crate::serve::served::Served;
use crate::serve::{self, Options, member};
use crate::shown;
use crate::silence::silence_max;
use crate::sinks::Destination;
use crate::staged::why;
use crate::state::folders::Folder;
use crate::state::home::Home;
use clap::ArgMatches;
use retally_core::contract::InputKind;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where it listens, unless told otherwise.
pub const LISTEN: &str = "127.0.0.1:7878";

/// How long a file of a watched folder must have stayed the same, unless told otherwise.
const SETTLE: Duration = Duration::from_secs(2);
/// How often files are written, unless told otherwise.
const EXPORT_EVERY: Duration = Duration::from_secs(3_600);
/// How long a webhook is tried again, unless told otherwise.
const WEBHOOK_RETRY: Duration = Duration::from_secs(86_400);
/// A secret has as many bytes at least.
const SECRET_BYTES_MIN: usize = 16;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let seed = matches.get_one::<u64>("demo").copied();
    let given = matches.get_many::<String>("dataflows").into_iter().flatten().cloned();
    let mut names: Vec<String> = given.collect();
    if names.is_empty() {
        names = registry::DEMO.map(String::from).to_vec();
    }
    let names: Vec<&String> = names.iter().collect();
    if let Some(twice) = names.iter().enumerate().find(|(place, name)| names.iter().skip(place + 1).any(|other| other == *name)) {
        return Err(CliError::usage(format!("{} is named twice", twice.1)));
    }
    for (flag, form) in [("set", "DATAFLOW.NAME=VALUE"), ("map", "DATAFLOW.NAME=VALUE"), ("tables", "DATAFLOW.TABLE")] {
        let given = matches.get_many::<String>(flag).into_iter().flatten();
        let is_ours = |given: &&String| names.iter().any(|name| given.split_once('.').is_some_and(|(of, _)| of == *name));
        if let Some(unknown) = given.into_iter().find(|given| !is_ours(given)) {
            return Err(CliError::usage(format!("--{flag} {unknown:?} is of no dataflow that is served")).hint(form));
        }
    }
    let dataflows = names.iter().filter_map(|name| registry::dataflow(name));
    // Where nobody says where, what a demonstration is given is gone with it.
    let folder =
        seed.map(|_| tempfile::tempdir().map_err(|error| CliError::failed(format!("could not create a folder: {error}")))).transpose()?;
    let state = match &folder {
        Some(folder) if !matches.contains_id("state") && mapping::read(matches)?.state.is_none() => {
            Home::Folder(folder.path().join("state"))
        }
        _ => job::state_of(matches)?,
    };
    let dataflows = dataflows.map(|dataflow| job::served(dataflow, matches, state.local())).collect::<Result<Vec<_>, _>>()?;
    if let Some((first, second)) = two_in_a_file(&dataflows) {
        let error = CliError::usage(format!("--points would hold the points of {first} and {second} in one file"));
        return Err(error.hint("serve them apart, or give a store or a server"));
    }
    let text = |name: &str| matches.get_one::<String>(name);
    let told: fn(&str) = if text("log-format").is_some_and(|format| format == "json") { told_json } else { told };
    memory::watch(told);
    let mut cluster = cluster_of(matches)?;
    cluster.membership.shared = cluster::shared(Some(&state));
    if cluster.process > 0 {
        return Ok(member::run(&dataflows, &cluster, cluster::have_met, told)?);
    }
    let listen = text("listen").cloned().or(mapping::read(matches)?.listen).unwrap_or_else(|| LISTEN.into());
    let tokens = text("tokens").map(|path| Tokens::read(Path::new(path))).transpose();
    let tokens = tokens.map_err(|why| CliError::usage(format!("--tokens {why}")))?;
    let tls = match (text("tls-cert"), text("tls-key")) {
        (Some(certificates), Some(key)) => Some(tls(Path::new(certificates), Path::new(key)).map_err(CliError::usage)?),
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let limits = limits(matches);
    let settle = matches.get_one::<Duration>("settle").copied().unwrap_or(SETTLE);
    let (sinks, watched) = (sinks(matches, &names, &dataflows)?, watched(matches, &names, &dataflows)?);
    let sources = serve_sources::sources(matches, &names, &dataflows)?;
    let demo = match (seed, &folder) {
        (Some(seed), Some(folder)) => serve_demo::generate(&names, seed, folder.path())?,
        _ => Vec::new(),
    };
    let options = Options { listen, state, cluster, limits, sinks, watched, sources, demo, settle, tokens, tls, told };
    let listening = |address: SocketAddr| {
        if seed.is_some() {
            told(&format!(
                "open {scheme}://{address} in a browser: generated data arrives for half an hour, corrections for longer; Ctrl-C ends it"
            ));
        }
        // Whoever waits for it has all that is said at the beginning. Nobody has to read it.
        unless_broken_pipe(writeln!(stdout(), "listening on {scheme}://{address}").and_then(|()| stdout().flush())).ok();
    };
    Ok(serve::run(dataflows, options, listening)?)
}

/// The workers and processes, where what is served can be of several.
fn cluster_of(matches: &ArgMatches) -> Result<Cluster, CliError> {
    let mut cluster = cluster::cluster(matches)?;
    if cluster.processes() > 1 && matches.contains_id("demo") && !matches.contains_id("state") {
        return Err(CliError::usage("--demo of several processes needs a folder that all of them see").hint("say which: --state DIR"));
    }
    if cluster.process > 0 {
        cluster.membership.lost = lost_by_member;
    }
    Ok(cluster)
}

/// One that was asked to end waits for process 0, and that it is gone is what was waited for.
fn lost_by_member(lost: Lost) {
    if member::is_asked() {
        interrupt::exit(0);
    }
    error::lost(lost);
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
        let (place, served, input) = serve_sources::served_input(of, dataflows, wrong)?;
        let definition = &served.job.definition;
        let batch = job::batch(definition, &[format!("{input}={folder}")])?;
        let (input, path) = batch.folder().ok_or_else(wrong)?;
        if definition.inputs.get(input).is_some_and(|input| input.kind != InputKind::Records) {
            let error = CliError::usage("--watch is of folders with files of records");
            return Err(error.hint("deliver a folder of datasets by a run with the same state"));
        }
        let path = path.trim_end_matches('/').to_string();
        if !Path::new(&path).is_dir() {
            let error = CliError::failed(format!("--watch {of}: there is no folder {:?}", shown::location(&path)));
            return Err(error.hint("create it first: a folder that is not there yet may be one that is not mounted"));
        }
        watched.push((place, Folder { input, path }));
    }
    Ok(watched)
}

/// Where tables go besides, by flags and by the configuration file.
fn sinks(matches: &ArgMatches, names: &[&String], dataflows: &[Served]) -> Result<Vec<Wanted>, CliError> {
    let all = || (0..dataflows.len()).collect::<Vec<usize>>();
    let mut given: Vec<(String, Vec<usize>)> =
        matches.get_many::<String>("out").into_iter().flatten().map(|text| (text.clone(), all())).collect();
    if given.is_empty() {
        given = mapping::read(matches)?.out(names);
    }
    let duration = |name: &str, usual: Duration| matches.get_one::<Duration>(name).copied().unwrap_or(usual);
    let secret = secret(matches)?;
    let mut sinks: Vec<Wanted> = Vec::new();
    for (text, of) in given {
        let (out, shown) = out(&text, of.len(), dataflows)?;
        if sinks.iter().any(|sink| sink.out.is_same(&out)) {
            return Err(CliError::usage(format!("--out {shown:?} is given twice")).hint(match out {
                Out::Webhook(_) => "of one table a server can't tell them apart: give its URL another query, such as ?n=2",
                _ => "give it once",
            }));
        }
        let is_webhook = matches!(out, Out::Webhook(_));
        sinks.push(Wanted {
            out,
            of,
            shown,
            every: duration("export-every", EXPORT_EVERY),
            replace: matches.get_flag("replace"),
            silence_max: silence_max(job::NETWORK_TIMEOUT),
            patience: is_webhook.then(|| duration("webhook-retry", WEBHOOK_RETRY)),
            secret: secret.clone().filter(|_| is_webhook),
        });
    }
    Ok(sinks)
}

/// Where something goes, and how that is shown.
fn out(text: &str, count: usize, dataflows: &[Served]) -> Result<(Out, String), CliError> {
    match text.split_once(':') {
        Some(("changes", "")) => return Err(CliError::usage("--out changes: does not name a file").hint("give changes:FILE")),
        Some(("changes", path)) if shown::has_secret(path) => {
            return Err(CliError::usage("--out changes: names no file of this machine").hint("give changes:FILE"));
        }
        Some(("changes", path)) => return Ok((Out::Changes(path.into()), text.into())),
        Some(("webhook", given)) => {
            let webhook = Webhook::parse(given, dataflows).map_err(|error| CliError::usage(error.to_string()).hint(error.hint))?;
            let shown = webhook.shown();
            return Ok((Out::Webhook(Box::new(webhook)), shown));
        }
        _ => {}
    }
    let (destination, format) = Destination::with_format(text)?;
    if destination.has_files() && count > 1 {
        let error = CliError::usage(format!("--out {text:?} would hold the files of several dataflows"));
        return Err(error.hint("a folder is of one dataflow: say which in its section of --config (out = [...]), or give a database"));
    }
    Ok((Out::Tables(destination, format), shown::location(text).into_owned()))
}

/// What requests are signed with.
fn secret(matches: &ArgMatches) -> Result<Option<Arc<[u8]>>, CliError> {
    let Some(path) = matches.get_one::<String>("webhook-secret-file") else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| CliError::usage(format!("could not read --webhook-secret-file {path:?}: {}", why(&error))))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.len() < SECRET_BYTES_MIN {
        return Err(CliError::usage(format!("--webhook-secret-file {path:?} has less than {SECRET_BYTES_MIN} bytes"))
            .hint("openssl rand -hex 32 makes a secret"));
    }
    Ok(Some(secret.as_bytes().into()))
}

fn told(what: &str) {
    say(&format!("note: {what}"));
}

/// For those who collect logs: an object a line.
fn told_json(what: &str) {
    say_object(&serde_json::json!({"time": engine::now().to_string(), "level": "info", "message": what}));
}

fn limits(matches: &ArgMatches) -> Limits {
    let usual = Limits::default();
    let number = |name: &str, usual: u64| matches.get_one::<u64>(name).copied().unwrap_or(usual);
    let count = |name: &str, usual: usize| usize::try_from(number(name, usual as u64)).unwrap_or(usize::MAX);
    let streams = count("max-streams", usual.streams);
    Limits {
        body: number("max-body", usual.body),
        unpacked: number("max-unpacked", usual.unpacked),
        fold_after: number("compact-after", usual.fold_after),
        waiting: usual.waiting,
        streams,
        connections: streams.saturating_add(usual.connections - usual.streams),
        changes_kept: matches.get_one::<i64>("keep-changes").copied().unwrap_or(usual.changes_kept),
        changes_bytes: usual.changes_bytes,
    }
}
