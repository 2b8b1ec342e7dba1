//! `retally launch`: a run or a service as several processes, on this host or by ssh on others.
//!
//! Each process gets the same words, and hears on its standard input who it is ([`crate::cluster::launched`]).

mod member;
mod output;
mod supervise;
mod tie;
mod writer;

use super::args;
use super::cluster;
use super::error::CliError;
use crate::cluster::launched::Launched;
use crate::cluster::loopback::free_addresses;
use crate::cluster::restarts::Restarts;
use crate::interrupt;
use clap::ArgMatches;
use clap::parser::ValueSource;
use member::{Start, Where};
use output::Output;
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervise::{Signals, Supervised};

/// How often all processes are started again within the window, unless told otherwise.
const RESTARTS_MAX: u64 = 10;
/// The window, likewise.
const RESTART_WINDOW: Duration = Duration::from_secs(600);
/// How long processes may take to end, likewise.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The names of standard input, on which processes hear `launch`.
const STDIN: [&str; 5] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0"];
/// What each process is told, and the command line must not say.
const OF_EACH: [&str; 4] = ["processes", "process", "hosts", "secret-file"];

/// The words of the command that is launched, without `retally` before them.
fn words(matches: &ArgMatches) -> Vec<String> {
    matches.get_many::<String>("command").into_iter().flatten().cloned().collect()
}

/// What the parser says of the command that is launched.
pub fn command(matches: &ArgMatches) -> Result<ArgMatches, clap::Error> {
    args::command().try_get_matches_from(["retally".to_string()].into_iter().chain(words(matches)))
}

/// Runs the command. `command` is what was parsed of the one that is launched. An error has been said.
pub fn main(matches: &ArgMatches, command: &ArgMatches) -> Result<(), CliError> {
    let is_json = matches.get_one::<String>("log-format").is_some_and(|format| format == "json");
    let output = Output::start(is_json).map_err(|error| CliError::failed(format!("could not begin to print: {error}")))?;
    let signals = Signals::default();
    output.end(run(matches, command, &output, &signals), || signals.count() > 0)
}

fn run(matches: &ArgMatches, command: &ArgMatches, output: &Output, signals: &Signals) -> Result<(), CliError> {
    let (is_service, inner) = match command.subcommand() {
        Some(("serve", inner)) => (true, inner),
        Some(("run", inner)) => (false, inner.subcommand().map_or(inner, |(_, inner)| inner)),
        other => {
            let name = other.map_or_else(String::new, |(name, _)| name.to_string());
            return Err(CliError::usage(format!("launch starts run and serve, and not {name:?}"))
                .hint("retally launch -n 2 -- serve online --state DIR"));
        }
    };
    check(matches, inner)?;
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let count = |name: &str| number(name).map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let duration = |name: &str, usual: Duration| matches.get_one::<Duration>(name).copied().unwrap_or(usual);
    let failed = |what: &str, error: std::io::Error| CliError::failed(format!("could not {what}: {error}"));
    let (addresses, targets, finds_addresses) = match matches.get_one::<String>("hosts") {
        Some(path) => {
            let (addresses, targets) = cluster::hosts(path, count("processes"))?.into_iter().map(|line| target(&line)).unzip();
            (addresses, targets, false)
        }
        None => {
            let processes = count("processes").unwrap_or(1);
            (free_addresses(processes).map_err(|error| failed("find free ports", error))?, Vec::new(), true)
        }
    };
    let stop_timeout = duration("stop-timeout", STOP_TIMEOUT);
    let place = match matches.get_one::<String>("ssh") {
        Some(ssh) => match shlex::split(ssh).filter(|command| !command.is_empty()) {
            Some(command) => Where::Ssh { command, targets },
            None => return Err(CliError::usage(format!("--ssh {ssh:?} is no command")).hint("--ssh='ssh -i KEY'")),
        },
        None => Where::Here,
    };
    let program = match matches.get_one::<String>("program") {
        Some(program) => PathBuf::from(program),
        None => std::env::current_exe().map_err(|error| failed("find this program", error))?,
    };
    let dir = std::env::current_dir().map_err(|error| failed("find this folder", error))?;
    let launched = Launched::new(addresses, count("workers"), stop_timeout).map_err(|error| failed("make up a secret", error))?;
    let supervised = Supervised {
        start: Start { place, program, dir, words: words(matches) },
        launched,
        finds_addresses,
        is_service,
        restarts: Restarts::new(
            usize::try_from(number("max-restarts").unwrap_or(RESTARTS_MAX)).unwrap_or(usize::MAX),
            duration("restart-window", RESTART_WINDOW),
        ),
        stop_timeout,
    };
    let come = signals.clone();
    interrupt::listen_and_tell(move |signal, name| come.add(signal, name)).map_err(|error| failed("listen to signals", error))?;
    supervise::run(supervised, output, signals)
}

/// The address of a line of hosts, and where ssh goes: `USER@` is for ssh alone.
fn target(line: &str) -> (String, String) {
    let address = line.rsplit_once('@').map_or(line, |(_, address)| address);
    let target = line.rsplit_once(':').map_or(line, |(target, _)| target);
    (address.to_string(), target.replace(['[', ']'], ""))
}

/// Whether a path is standard input, by one of its names. What else leads there, as a link, is not looked at.
fn is_stdin(path: &str) -> bool {
    let path = path.strip_prefix("file://").unwrap_or(path);
    // Without what says nothing, such as `//` and `/./`.
    let plain: PathBuf = Path::new(path).components().collect();
    STDIN.iter().any(|name| plain == Path::new(name))
}

/// Refuses what launched processes can't have.
fn check(matches: &ArgMatches, inner: &ArgMatches) -> Result<(), CliError> {
    let is_given = |matches: &ArgMatches, name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    if let Some(name) = OF_EACH.into_iter().find(|name| is_given(inner, name)) {
        let hint = if name == "secret-file" { "leave it out: launch makes one up" } else { "give -n and --hosts before --" };
        return Err(CliError::usage(format!("--{name} is what launch says to each process")).hint(hint));
    }
    if is_given(matches, "workers") && is_given(inner, "workers") {
        return Err(CliError::usage("--workers is given twice").hint("give it before --, or behind it"));
    }
    let is_found = !is_given(matches, "hosts") && matches.get_one::<u64>("processes").is_some_and(|processes| *processes > 1);
    if is_found && is_given(inner, "tls-ca") {
        return Err(CliError::usage("--tls-ca needs --hosts: launch finds addresses by itself, which stand in no certificate").hint(
            "give --hosts FILE with names of the certificate, a line for each process; or leave out --tls-ca: all are on this host",
        ));
    }
    // Not every command takes all of them.
    let values = |name: &str| inner.try_get_many::<String>(name).ok().flatten().into_iter().flatten();
    let then = values("then").filter_map(|then| shlex::split(then)).flatten();
    let is_stdin = |given: String| given.split_once('=').is_some_and(|(_, path)| is_stdin(path));
    if values("inputs").cloned().chain(then).any(is_stdin) {
        return Err(CliError::usage("standard input can't be read by processes that are launched").hint("give the path of a file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_has_several_names() {
        for name in ["-", "/dev/stdin", "//dev/./stdin", "/dev/fd/0", "/proc/self/fd/0", "file:///dev/stdin"] {
            assert!(is_stdin(name), "{name}");
        }
        for other in ["./-", "a", "/dev/fd/10", "/dev/stdin/a", "dev/stdin", "-a", "file:///data/-"] {
            assert!(!is_stdin(other), "{other}");
        }
    }

    #[test]
    fn where_ssh_goes() {
        let table = [
            ("a.example:2101", "a.example:2101", "a.example"),
            ("me@a.example:2101", "a.example:2101", "me@a.example"),
            ("127.0.0.1:2101", "127.0.0.1:2101", "127.0.0.1"),
            ("me@[::1]:2101", "[::1]:2101", "me@::1"),
        ];
        for (line, address, ssh) in table {
            assert_eq!(target(line), (address.into(), ssh.into()));
        }
    }
}
