//! Many processes as one: who takes part, and the connections between them.

pub mod mesh;

/// The workers and processes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Workers of each process.
    pub workers: usize,
    /// The number of this process.
    pub process: usize,
    /// The address of each process; empty when there is one process.
    pub addresses: Vec<String>,
}

impl Cluster {
    /// One process.
    pub fn local(workers: usize) -> Cluster {
        Cluster { workers, process: 0, addresses: Vec::new() }
    }

    /// The number of processes.
    pub fn processes(&self) -> usize {
        self.addresses.len().max(1)
    }
}
