//! The engine: dataflows on timely's workers, fed with batches, and asked for epochs that are complete.
//!
//! - [`run`] applies the batches of a [`Driver`] one after the other, on worker 0's own thread: the way of `retally run`
//! - [`host`] takes batches of any number of dataflows from other threads, any number of them in flight: the way of a service
//! - [`workers`] starts and connects the workers, which both share; [`hosted`] is one dataflow on them
//! - [`clock`] is the machine's clock, where that is as-of
//! - [`gather`] keeps what workers send to worker 0 by epoch; [`routes`] decides who reads which dataset
//! - [`job`] is what is run; [`summary`] is what a batch was and did; [`errors`] is why a run failed

mod clock;
pub mod errors;
mod gather;
pub mod host;
#[cfg(test)]
mod host_tests;
mod hosted;
pub mod job;
pub mod notices;
mod routes;
pub mod summary;
pub mod unread;
mod workers;

pub use errors::{CommitError, EngineError};
pub use hosted::Commit;
pub use job::Job;
pub use workers::Passing;

use crate::cluster::Cluster;
use crate::ingest::batch::{Arrival, Batch};
use crate::ingest::header::{Purpose, SeenHeaders};
use crate::ingest::plan::{self, Plan};
use crate::interrupt;
use crate::points::Dropped;
use crate::points::staged::StagedPoints;
use hosted::Offer;
use retally_core::Epoch;
use retally_core::time::{DAY, Moment};
use std::time::{Instant, SystemTime};
use summary::Progress;
use workers::{Core, PROGRESS_EVERY, on_workers};

/// What a driver has applied next.
#[derive(Debug)]
pub enum Next {
    /// A batch, which is planned when its turn comes.
    Batch(Batch),
    /// A batch that was planned.
    Planned(Plan),
    /// The batches of a state up to an epoch, as one. Whatever is refused of them was refused before.
    Replay(Epoch, Plan),
}

/// Where batches come from and changes go to.
pub trait Driver: Send + 'static {
    /// All processes are connected. An error ends the run on all of them.
    fn begin(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    /// What is next; `None` ends the run. An error ends it too.
    fn next(&mut self) -> Result<Option<Next>, EngineError>;

    /// Called now and then while a batch is under way.
    fn progress(&mut self, progress: Progress);

    /// An epoch is complete. An error ends the run.
    fn commit(&mut self, commit: Commit) -> Result<(), CommitError>;

    /// All batches are committed, and on all processes all points are written, but for those that the destination refused. What came out is
    /// to be brought to where it belongs, a file of points too. An error fails the run on all processes.
    fn finish(&mut self, _dropped: &Dropped, points: Vec<StagedPoints>) -> Result<(), CommitError> {
        publish(points)
    }
}

/// Puts files of points in their places.
pub fn publish(points: Vec<StagedPoints>) -> Result<(), CommitError> {
    points.into_iter().try_for_each(|points| Ok(points.publish()?))
}

/// Runs a job to its end, on this process's workers. Returns the driver on process 0, and nothing on others.
///
/// A batch is refused when one of its files has records and none of them can be read, unless the job allows a number of refused records.
pub fn run<D: Driver>(job: &Job, cluster: &Cluster, mut driver: D) -> Result<Option<D>, EngineError> {
    let (definition, accept_from, any_may_be_refused) = (job.definition.clone(), job.accept_from, job.rejected_max.is_some());
    let processes = cluster.processes();
    on_workers(std::slice::from_ref(job), cluster, Passing::Values, move |worker, core: &mut Core| {
        let mut complete = Vec::new();
        let mut epoch = 0;
        let mut headers = SeenHeaders::default();
        driver.begin()?;
        while let Some(next) = driver.next()? {
            let arrived = Instant::now();
            epoch += 1;
            let (mut plan, is_replay) = match next {
                Next::Batch(batch) => {
                    let plan = plan::plan_behind(&definition, &batch, arrival(accept_from), Purpose::Run, &headers)?;
                    headers.add(&plan.headers);
                    (plan, false)
                }
                Next::Planned(plan) => (plan, false),
                Next::Replay(until, plan) => {
                    epoch = until;
                    (plan, true)
                }
            };
            if processes > 1 {
                plan.identify_for_others()?;
            }
            core.offer(0, Offer { epoch, plan, arrived, is_replay });
            let mut told = Instant::now();
            while core.is_busy() {
                core.step(worker, Some(PROGRESS_EVERY), &mut complete)?;
                go_on()?;
                if told.elapsed() >= PROGRESS_EVERY {
                    told = Instant::now();
                    core.progress(0).into_iter().for_each(|progress| driver.progress(progress));
                }
            }
            for mut commit in complete.drain(..) {
                if let Some(error) = commit.unusable.take().filter(|_| !is_replay) {
                    return Err(error.into());
                }
                match commit.unread.take() {
                    Some(unread) if !any_may_be_refused && !is_replay => return Err(EngineError::Unread(unread)),
                    _ => driver.commit(commit)?,
                }
            }
        }
        go_on()?;
        let (dropped, points) = core.finish_points(worker)?;
        driver.finish(&dropped, points)?;
        Ok(driver)
    })
}

/// A batch that arrives now: events up to a day ahead of the clock are accepted.
pub fn arrival(accept_from: Moment) -> Arrival {
    Arrival { accept_from, accept_until: now().plus(DAY) }
}

/// An error, when a signal asks the process to end.
fn go_on() -> Result<(), EngineError> {
    interrupt::requested().map_or(Ok(()), |signal| Err(EngineError::Interrupted(signal)))
}

/// The machine's clock.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
