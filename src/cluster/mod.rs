//! Many processes as one: who takes part, how they prove it, the connections between them, and what is lost.

pub mod claims;
pub mod dial;
pub mod door;
pub mod error;
pub mod generation;
pub mod handshake;
pub mod launched;
pub mod link;
pub mod loopback;
pub mod mesh;
pub mod messages;
pub mod pace;
pub mod pulse;
pub mod restarts;
pub mod roll;
pub mod secret;
pub mod securing;
pub mod shared;
pub mod tls;
pub mod traffic;
pub mod watch;

use generation::Generation;
use secret::Secret;
use shared::Shared;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;
use traffic::Totals;
use watch::Lost;

/// How long processes wait for one another, where nothing else is asked for.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between signs of life, likewise.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// The workers and processes of a run.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Workers of each process.
    pub workers: usize,
    /// The number of this process.
    pub process: usize,
    /// The address of each process; empty when there is one process.
    pub addresses: Vec<String>,
    /// How the processes come and stay together.
    pub membership: Membership,
}

/// How processes come and stay together.
#[derive(Clone, Debug)]
pub struct Membership {
    /// What proves that a process is one of them.
    pub secret: Secret,
    /// What secures connections, where they are.
    pub tls: Option<Tls>,
    /// How long they wait for one another.
    pub join_timeout: Duration,
    /// The time between signs of life. A process that gives none for three times as long is lost.
    pub heartbeat: Duration,
    /// The start that all processes belong to, where whoever started them has said it; otherwise process 0 mints one.
    pub generation: Option<Generation>,
    /// What all processes must see, as the folder of a state.
    pub shared: Option<Arc<dyn Shared>>,
    /// What is sent to the other processes for workers, and what is heard of them.
    pub traffic: Arc<Totals>,
    /// Called once, when all processes are connected.
    pub met: fn(),
    /// Called when a process is lost. This process ends by it.
    pub lost: fn(Lost),
}

impl Default for Membership {
    /// That of one process, which has nobody to meet.
    fn default() -> Membership {
        Membership {
            secret: Secret::none(),
            tls: None,
            join_timeout: JOIN_TIMEOUT,
            heartbeat: HEARTBEAT,
            generation: None,
            shared: None,
            traffic: Arc::default(),
            met: || {},
            lost: |_| {},
        }
    }
}

impl Cluster {
    /// One process.
    pub fn local(workers: usize) -> Cluster {
        Cluster { workers, process: 0, addresses: Vec::new(), membership: Membership::default() }
    }

    /// The number of processes.
    pub fn processes(&self) -> usize {
        self.addresses.len().max(1)
    }
}

/// Bytes by chance, from the system.
fn nonce<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
