//! A process of a service that is not its first: it gives workers, and nothing else.
//!
//! Process 0 has the state, the tables and the door, and sends what is to be read. When it ends, all end; when one of them is lost, all the
//! others end with it, and what was acknowledged is in the journal of process 0.

use super::ServeError;
use super::served::Served;
use crate::cluster::Cluster;
use crate::engine::{Job, host};
use crate::interrupt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long one that is asked to end waits for process 0, which may not be asked to: then it leaves.
const LEAVE_AFTER: Duration = Duration::from_secs(20);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether a signal has asked this process to end.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Acquire)
}

/// Gives workers until process 0 ends. `have_met` reports whether all processes are connected.
pub fn run(dataflows: &[Served], cluster: &Cluster, have_met: fn() -> bool, told: fn(&str)) -> Result<(), ServeError> {
    interrupt::listen_and_ask(move || {
        ASKED.store(true, Ordering::Release);
        if !have_met() {
            interrupt::exit(0);
        }
        told("ending when process 0 does");
        std::thread::spawn(|| {
            std::thread::sleep(LEAVE_AFTER);
            interrupt::exit(0);
        });
    })?;
    let jobs: Vec<Job> = dataflows.iter().map(|served| served.job.clone()).collect();
    Ok(host::follow(&jobs, cluster)?)
}
