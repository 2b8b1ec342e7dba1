//! A host of one or of several processes. The others are threads of this program here, and are connected as they would be elsewhere: by
//! sockets, after a handshake, with signs of life.

use crate::Result;
use retally::cluster::loopback::free_addresses;
use retally::cluster::traffic::Totals;
use retally::cluster::{Cluster, Membership};
use retally::engine::host::{self, Completed, Host};
use retally::engine::{Job, Passing};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A host, and the processes that give workers to it.
pub struct Hosted {
    /// Process 0.
    pub host: Host,
    /// What is complete on it.
    pub completed: Completed,
    /// What process 0 sends to the others, and hears from them.
    pub traffic: Arc<Totals>,
    others: Vec<JoinHandle<std::result::Result<(), String>>>,
}

impl Hosted {
    /// Starts so many processes with so many workers each, and waits until they are connected.
    pub fn start(jobs: &[Job], processes: usize, workers: usize) -> Result<Hosted> {
        let addresses = if processes > 1 { free_addresses(processes)? } else { Vec::new() };
        let cluster = |process: usize| {
            let membership = Membership { lost: |lost| panic!("{lost}"), ..Membership::default() };
            Cluster { workers, process, addresses: addresses.clone(), membership }
        };
        let others = (1..processes)
            .map(|process| {
                let (jobs, cluster) = (jobs.to_vec(), cluster(process));
                std::thread::spawn(move || host::follow(&jobs, &cluster).map_err(|error| error.to_string()))
            })
            .collect();
        let first = cluster(0);
        let traffic = Arc::clone(&first.membership.traffic);
        let (host, completed) = host::start(jobs.to_vec(), first, Passing::Values)?;
        Ok(Hosted { host: host.joined()?, completed, traffic, others })
    }

    /// Ends all of them.
    pub fn close(self) -> Result<()> {
        let Hosted { host, completed, others, .. } = self;
        drop(completed);
        host.close()?;
        for other in others {
            other.join().map_err(|_| "a process has panicked")??;
        }
        Ok(())
    }
}
