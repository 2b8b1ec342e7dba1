//! Why processes could not be connected.

use super::shared::Sight;
use std::io;
use std::net::SocketAddr;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why the processes could not be connected.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MeshError {
    /// The process can't listen on its own address.
    #[error("could not listen on {address:?}: {why}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        why: String,
    },
    /// The system gives no thread or no random numbers.
    #[error("could not begin to connect: {0}")]
    System(String),
    /// Another process can't be reached.
    #[error("could not reach process {process} at {address:?} within {seconds} s: {why}")]
    Unreachable {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// How long it was tried, in seconds.
        seconds: u64,
        /// Why not.
        why: String,
    },
    /// Other processes did not come.
    #[error("waited {seconds} s in vain for {awaited} to connect{came}")]
    Absent {
        /// Their numbers and addresses.
        awaited: String,
        /// How long, in seconds.
        seconds: u64,
        /// Who came instead, and why others may not have come, each after a semicolon.
        came: String,
    },
    /// Another process closes the connection when it has seen the proof of this one.
    #[error("process {process} at {address:?} does not take this process for one of its cluster: it has another secret, or none")]
    Secret {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
    },
    /// Another process is one of another version.
    #[error("process {process} is retally {theirs}, and this one {VERSION}")]
    Version {
        /// Its number.
        process: usize,
        /// Its version.
        theirs: String,
    },
    /// Another process runs something else.
    #[error("process {process} was started with other arguments: it has {theirs}, this one {ours}")]
    Mismatch {
        /// Its number.
        process: usize,
        /// What it has.
        theirs: String,
        /// What this process has.
        ours: String,
    },
    /// Another process does not see what process 0 shows.
    #[error("process {process} does not see {}: {why}", .sight.missing())]
    Unseen {
        /// Its number.
        process: usize,
        /// What it does not see.
        sight: Sight,
        /// What is there instead, and on which host.
        why: String,
    },
    /// Process 0 can't show the others what they must see.
    #[error("could not show other processes the state {name}: {why}")]
    Unshown {
        /// What they must see.
        name: String,
        /// Why not.
        why: String,
    },
    /// The number of this process is that of another one.
    #[error("process {by} at {address:?} is connected with another process {process}")]
    Taken {
        /// The number of this process.
        process: usize,
        /// Who says so.
        by: usize,
        /// Its address.
        address: String,
    },
    /// The number of this process is none that connects to the other one.
    #[error("process {by} at {address:?} awaits no process {process}")]
    OutOfRange {
        /// The number of this process.
        process: usize,
        /// Who says so.
        by: usize,
        /// Its address.
        address: String,
    },
    /// All processes are there already, and at work.
    #[error("process {by} at {address:?} is at work with all its processes, and takes no further process {process}")]
    Late {
        /// The number of this process.
        process: usize,
        /// Who says so.
        by: usize,
        /// Its address.
        address: String,
    },
    /// This process belongs to a start that is over.
    #[error("process {process} is of generation {theirs}, and this one of {ours}, which is over")]
    Older {
        /// The number of the other process.
        process: usize,
        /// Its generation.
        theirs: String,
        /// That of this process.
        ours: String,
    },
}

impl MeshError {
    /// As an error of the system.
    pub fn system(error: &io::Error) -> MeshError {
        MeshError::System(error.to_string())
    }

    /// Says why others may not have come: this process listens at a loopback address, where its own name leads.
    #[must_use]
    pub fn hidden(self, address: &str, listens_at: SocketAddr) -> MeshError {
        let MeshError::Absent { awaited, seconds, came } = self else { return self };
        let hidden = format!("; at {address:?} this process listens on {} only, which other hosts can't reach", listens_at.ip());
        MeshError::Absent { awaited, seconds, came: came + &hidden }
    }

    /// Whether the processes must all be started again, and nothing else is wrong.
    pub fn is_start_again(&self) -> bool {
        matches!(self, MeshError::Taken { .. } | MeshError::Late { .. } | MeshError::Older { .. })
    }
}
