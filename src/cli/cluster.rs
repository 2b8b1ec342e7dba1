//! From flags to who takes part: the workers, the processes, and the secret that they share.

use super::error::{self, CliError};
use super::launched;
use crate::cluster::generation::Generation;
use crate::cluster::launched::Launched;
use crate::cluster::secret::{BadSecret, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret};
use crate::cluster::shared::Shared;
use crate::cluster::tls::Tls;
use crate::cluster::{self, Cluster, Membership};
use crate::failure;
use crate::shown;
use crate::staged::why;
use crate::state::home::Home;
use crate::state::meeting::Meeting;
use clap::ArgMatches;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first port of processes on one host, as timely has it.
const FIRST_PORT: usize = 2101;
/// The variable that holds the secret of a cluster, where no file is given.
const SECRET_VARIABLE: &str = "RETALLY_CLUSTER_SECRET";

/// Refuses what several processes of a run can't agree on, or would not do as it was meant.
pub fn check_processes(cluster: &Cluster, matches: &ArgMatches) -> Result<(), CliError> {
    let is_given = |name: &str| matches.get_one::<String>(name).is_some();
    // Those of a service are for HTTPS as well.
    if cluster.processes() > 1 && is_given("tls-cert") && !is_given("tls-ca") {
        return Err(CliError::usage("--tls-cert without --tls-ca would secure no connection between processes")
            .hint("say which authority the certificates of others are of: --tls-ca FILE; or leave out --tls-cert and --tls-key"));
    }
    if cluster.processes() > 1 && matches.get_one::<String>("as-of").is_some_and(|as_of| as_of == "now") {
        return Err(CliError::usage("--as-of now is another time on each process").hint("give all processes the same time"));
    }
    Ok(())
}

static MET: AtomicBool = AtomicBool::new(false);

/// Whether all processes are connected, or were.
pub fn have_met() -> bool {
    MET.load(Ordering::Acquire)
}

fn met() {
    MET.store(true, Ordering::Release);
}

fn met_and_told() {
    met();
    launched::met();
}

/// The workers and processes of a command line, or of what `launch` says. To be called once.
pub fn cluster(matches: &ArgMatches) -> Result<Cluster, CliError> {
    let duration = |name: &str, default| matches.get_one::<Duration>(name).copied().unwrap_or(default);
    let membership = Membership {
        join_timeout: duration("join-timeout", cluster::JOIN_TIMEOUT),
        heartbeat: duration("heartbeat", cluster::HEARTBEAT),
        tls: tls(matches)?,
        met,
        lost: error::lost,
        ..Membership::default()
    };
    match launched::told()? {
        Some(launched) => of_launch(matches, launched, membership),
        None => by_hand(matches, membership),
    }
}

/// What `launch` says.
fn of_launch(matches: &ArgMatches, launched: Launched, membership: Membership) -> Result<Cluster, CliError> {
    let secret = launched.secret().map_err(|why| CliError::failed(format!("the secret of `retally launch` {why}")))?;
    let membership = Membership { secret, generation: Some(Generation(launched.generation)), met: met_and_told, ..membership };
    let workers = workers(launched.workers.or(number(matches, "workers")))?;
    let Launched { process, addresses, .. } = launched;
    let addresses = if addresses.len() > 1 { addresses } else { Vec::new() };
    Ok(Cluster { workers, process, addresses, membership })
}

/// What all processes must see of a state.
pub fn shared(home: Option<&Home>) -> Option<Arc<dyn Shared>> {
    home.map(|home| Arc::new(Meeting::at(home)) as Arc<dyn Shared>)
}

/// So many workers, or as many as there are cores.
pub fn workers(given: Option<usize>) -> Result<usize, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = given.unwrap_or(cores);
    if (1..=1024).contains(&workers) {
        return Ok(workers);
    }
    Err(CliError::usage(format!("can't have {workers} workers")).hint("from 1 to 1024"))
}

/// A number that was given.
pub fn number(matches: &ArgMatches, name: &str) -> Option<usize> {
    matches.get_one::<u64>(name).map(|number| usize::try_from(*number).unwrap_or(usize::MAX))
}

/// What flags give, one command for each process.
fn by_hand(matches: &ArgMatches, membership: Membership) -> Result<Cluster, CliError> {
    let workers = workers(number(matches, "workers"))?;
    let (processes, process) = (number(matches, "processes").unwrap_or(1), number(matches, "process").unwrap_or(0));
    if !(1..=1024).contains(&processes) || process >= processes {
        return Err(CliError::usage(format!("can't be process {process} of {processes} with {workers} workers"))
            .hint("from 1 to 1024 workers and processes; the first process is 0"));
    }
    if processes == 1 && matches.get_one::<String>("hosts").is_some() {
        return Err(CliError::usage("--hosts without --processes would run alone").hint("say how many of the hosts take part: -n N"));
    }
    let addresses = match matches.get_one::<String>("hosts") {
        None if processes == 1 => Vec::new(),
        None => (0..processes).map(|process| format!("localhost:{}", FIRST_PORT + process)).collect(),
        Some(path) => hosts(path, Some(processes))?,
    };
    // One process alone needs none.
    let secret = if processes > 1 { secret(matches)? } else { None };
    if let Some(open) = addresses.iter().find(|address| !is_loopback(address)).filter(|_| secret.is_none()) {
        let error = CliError::usage(format!("processes on other hosts ({open}) need a secret"));
        return Err(error
            .hint(format!("give all of them the same: --secret-file FILE, of at least {SECRET_BYTES_MIN} bytes; or {SECRET_VARIABLE}")));
    }
    let membership = Membership { secret: secret.unwrap_or(Secret::none()), ..membership };
    Ok(Cluster { workers, process, addresses, membership })
}

/// The first lines of a file of hosts, or all of them.
pub fn hosts(path: &str, processes: Option<usize>) -> Result<Vec<String>, CliError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| CliError::usage(format!("could not read --hosts {path:?}: {}", why(&error))))?;
    let mut lines: Vec<String> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let bad = |why: &str| {
            let error = CliError::usage(format!("--hosts {path:?} has {:?} in line {number}, which {why}", shown::location(line)));
            error.hint("HOST:PORT, a line for each process: others reach it there")
        };
        let port = line.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return Err(bad("is not HOST:PORT"));
        }
        if lines.iter().any(|known| known == line) {
            return Err(bad("stands there before"));
        }
        lines.push(line.into());
    }
    let processes = processes.unwrap_or(lines.len());
    if lines.is_empty() || lines.len() < processes {
        return Err(CliError::usage(format!("--hosts {path:?} has {} addresses for {processes} processes", lines.len())));
    }
    Ok(lines.into_iter().take(processes).collect())
}

/// What secures connections between processes, where certificates of others are to be believed.
fn tls(matches: &ArgMatches) -> Result<Option<Tls>, CliError> {
    let path = |name: &str| matches.get_one::<String>(name).map(Path::new);
    match (path("tls-cert"), path("tls-key"), path("tls-ca")) {
        (Some(certificates), Some(key), Some(authorities)) => Ok(Some(Tls::read(certificates, key, authorities).map_err(CliError::usage)?)),
        _ => Ok(None),
    }
}

/// The secret of a cluster, from its file, or from the environment.
fn secret(matches: &ArgMatches) -> Result<Option<Secret>, CliError> {
    let bad = |what: String| {
        let hint = format!("write one with: head -c 32 /dev/urandom | base64 > FILE (from {SECRET_BYTES_MIN} bytes on)");
        move |why: BadSecret| CliError::usage(format!("the secret in {what} {why}")).hint(hint)
    };
    if let Some(path) = matches.get_one::<String>("secret-file") {
        let mut bytes = Vec::new();
        // No more than shows that it is too long, with its newline.
        let limit = SECRET_BYTES_MAX as u64 + 3;
        let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
        read.map_err(|error| {
            let hint = failure::hint(&error).unwrap_or("see that it is there, and that you may read it");
            CliError::usage(format!("could not read --secret-file {path:?}: {}", why(&error))).hint(hint)
        })?;
        return Secret::new(&bytes).map(Some).map_err(bad(format!("--secret-file {path:?}")));
    }
    let given = std::env::var_os(SECRET_VARIABLE);
    given.map(|text| Secret::new(text.as_encoded_bytes()).map_err(bad(SECRET_VARIABLE.into()))).transpose()
}

/// Whether only processes of this host can connect to an address. Names are not looked up: of them, localhost alone is one.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_can_not_reach() {
        for own in ["localhost:2101", "LOCALHOST:1", "127.0.0.1:2101", "127.3.2.1:0", "[::1]:2101", "::1:2101"] {
            assert!(is_loopback(own), "{own}");
        }
        for open in ["0.0.0.0:2101", "[::]:2101", "192.168.1.2:2101", "db.localhost.example:1", "a:1", "127.0.0.1.example:1", ""] {
            assert!(!is_loopback(open), "{open}");
        }
    }
}
