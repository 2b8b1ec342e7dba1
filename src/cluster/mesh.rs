//! The connections between the processes of a cluster.
//!
//! Process I listens on line I of the hosts file, connects to the processes before it, and is connected to by those after it: once for
//! signs of life, and then once for what workers send; and process 0 once more for points, where it has their store. A connection counts
//! once both ends have proved that they hold the secret, and agree on what they run (`handshake.rs`). A stranger is dropped whatever it
//! says, and does no harm; only a peer that holds the secret can disagree about the job. Process 0 mints the generation, and all others
//! learn it from process 0, before they tell it to one another; or whoever started them has told it to all.
//!
//! timely's own mesh does none of this, and prints to stdout.
//!
//! # Limits
//! A name of a host is looked up for as long as the system takes for it. Without TLS, what workers send is neither signed nor hidden.

use super::claims::{self, Claims, Purpose};
use super::dial::Dial;
use super::door::Door;
pub use super::error::MeshError;
use super::generation::Generation;
use super::link::{self, Link};
use super::roll::Roll;
use super::shared::{Sight, Unseen};
use super::watch::{Lost, Watch, Watched};
use super::{Cluster, nonce};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after a name of this host led nowhere it is looked up again.
const LOOK_UP_PAUSE: Duration = Duration::from_millis(200);

/// What processes bring to a meeting.
pub struct Meeting<'m> {
    /// A number for all that must be the same on all processes: dataflow, settings, tables.
    pub fingerprint: u64,
    /// What that is, for people: `NAME=VALUE`, a line each.
    pub terms: String,
    /// What process 0 shows the others; 0 where there is nothing to be seen.
    pub shown: u64,
    /// Whether other processes send points to process 0.
    pub relays: bool,
    /// Looks for what process 0 shows, on another process.
    pub sees: &'m dyn Fn(u64) -> Result<(), Unseen>,
}

/// The connections of a process.
pub struct Mesh {
    /// One for each other process, none for this one.
    pub links: Vec<Option<Link>>,
    /// For points: of process 0 one from each other process, of those one to process 0; none where there are no points to be sent.
    pub relays: Vec<TcpStream>,
    /// What process 0 shows.
    pub shown: u64,
    /// What keeps the processes together.
    pub ties: Ties,
}

/// What keeps the processes together while they work. When this is dropped before it is finished, the others take this process for lost.
pub struct Ties {
    watch: Watch,
    _door: Door,
}

impl Ties {
    /// The work is done, and all connections of workers are closed.
    pub fn finish(self) {
        self.watch.finish();
    }
}

/// Connects to all other processes. `lost` is called when one of them is lost, from then on or later.
pub fn connect(cluster: &Cluster, meeting: &Meeting, lost: impl FnOnce(Lost) + Send + 'static) -> Result<Mesh, MeshError> {
    let membership = &cluster.membership;
    let timeout = membership.join_timeout;
    let deadline = Instant::now() + timeout;
    let address = cluster.addresses.get(cluster.process).cloned().unwrap_or_default();
    let listener = listen(address.clone(), timeout, deadline, |address| Ok(address.to_socket_addrs()?.collect()))?;
    let chance = || nonce().map(u64::from_le_bytes).map_err(|error| MeshError::system(&error));
    let ours = Claims {
        version: claims::version(),
        process: cluster.process as u64,
        processes: cluster.processes() as u64,
        workers: cluster.workers as u64,
        heartbeat: u64::try_from(membership.heartbeat.as_micros()).unwrap_or(u64::MAX),
        cluster: 0,
        generation: match membership.generation {
            Some(generation) => generation,
            None if cluster.process == 0 => Generation::mint(chance()?),
            None => Generation::UNKNOWN,
        },
        incarnation: chance()?,
        fingerprint: meeting.fingerprint,
        shown: meeting.shown,
        purpose: Purpose::Heartbeat,
        sight: Sight::All,
        terms: claims::fitting(&meeting.terms),
    };
    let listens_at = listener.local_addr().map_err(|error| MeshError::system(&error))?;
    let roll = Arc::new(Roll::new(ours, meeting.relays));
    let watched = Watched {
        process: cluster.process,
        addresses: cluster.addresses.clone(),
        heartbeat: membership.heartbeat,
        totals: Arc::clone(&membership.traffic),
    };
    let watch = Watch::start(watched, lost).map_err(|error| MeshError::system(&error))?;
    let alarm = watch.alarm();
    let door = Door::open(listener, Arc::clone(&roll), membership, alarm.clone()).map_err(|error| MeshError::system(&error))?;
    let dial = Dial {
        roll: &roll,
        secret: &membership.secret,
        tls: membership.tls.as_ref(),
        deadline,
        timeout,
        sees: meeting.sees,
        own: &address,
    };
    let (mut streams, mut relays) = (Vec::new(), Vec::new());
    for (process, address) in cluster.addresses.iter().enumerate().take(cluster.process) {
        alarm.add(process, dial.reach(process, address, Purpose::Heartbeat)?);
        streams.push((process, dial.reach(process, address, Purpose::Data)?));
        if meeting.relays && process == 0 {
            relays.push(dial.reach(process, address, Purpose::Points)?);
        }
    }
    let others = roll.await_others(timeout, deadline, &cluster.addresses);
    streams.extend(others.map_err(|error| explained(error, cluster, listens_at))?);
    relays.extend(roll.relays());
    for relay in &relays {
        link::make_blocking(relay).map_err(|error| MeshError::system(&error))?;
    }
    let mut links: Vec<Option<Link>> = (0..cluster.processes()).map(|_| None).collect();
    for (process, stream) in streams {
        let link = Link::new(stream, process, alarm.clone(), &membership.traffic).map_err(|error| MeshError::system(&error))?;
        if let Some(place) = links.get_mut(process) {
            *place = Some(link);
        }
    }
    let shown = roll.lock().ours().shown;
    Ok(Mesh { links, relays, shown, ties: Ties { watch, _door: door } })
}

/// With what this process knows of why the others could not be awaited.
fn explained(error: MeshError, cluster: &Cluster, listens_at: SocketAddr) -> MeshError {
    let resolve = |address: &str| address.to_socket_addrs().map_or_else(|_| Vec::new(), Iterator::collect);
    let address = |process: usize| cluster.addresses.get(process).map_or("", String::as_str);
    match error {
        MeshError::Absent { .. } if is_hidden(listens_at, &cluster.addresses, resolve) => {
            error.hidden(address(cluster.process), listens_at)
        }
        MeshError::Unseen { process, sight, .. } => {
            let name = cluster.membership.shared.as_ref().filter(|_| sight == Sight::NotState).map_or("it".into(), |shared| shared.name());
            let why = format!("on {:?}, {name} is another one, or can't be read", address(process));
            MeshError::Unseen { process, sight, why }
        }
        error => error,
    }
}

/// Whether a process listens where other hosts can't reach it, since its host's name leads to 127.0.1.1 there, while others are elsewhere.
fn is_hidden(listens_at: SocketAddr, addresses: &[String], resolve: impl Fn(&str) -> Vec<SocketAddr>) -> bool {
    let is_here = |address: &String| resolve(address).iter().any(|found| found.ip().is_loopback());
    listens_at.ip().is_loopback() && !addresses.iter().all(is_here)
}

/// Listens at the address of this process. Its name may not lead anywhere yet, or to where this host was before, as that of a pod that was
/// created again: then it is looked up again, for as long as others are awaited.
fn listen(
    address: String,
    timeout: Duration,
    deadline: Instant,
    resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>>,
) -> Result<TcpListener, MeshError> {
    let is_name = address.parse::<SocketAddr>().is_err();
    loop {
        let (error, may_pass) = match resolve(&address) {
            Err(error) => (error, is_name),
            Ok(found) => match TcpListener::bind(found.as_slice()) {
                Ok(listener) => return Ok(listener),
                Err(error) => {
                    let is_elsewhere = error.kind() == io::ErrorKind::AddrNotAvailable;
                    (error, is_name && is_elsewhere)
                }
            },
        };
        if !may_pass {
            return Err(MeshError::Listen { address, why: error.to_string() });
        }
        if Instant::now() >= deadline {
            return Err(MeshError::Listen { address, why: format!("{error} (tried for {} s)", timeout.as_secs()) });
        }
        std::thread::sleep(LOOK_UP_PAUSE);
    }
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
