//! From a start of all processes to their end, and to the next start.
//!
//! The first that fails is the one that is named, and its exit code is that of all. What it was decides what comes next: a service whose
//! process is lost is started again, all of it; what was asked for wrongly is not, nor what fails before all processes have met, unless
//! they had met before.
//!
//! # Limits
//! Whoever is to end and does not is killed after some time; on another host its connection is cut, and it ends itself.

use super::member::{End, Member, START_AGAIN, Start};
use super::output::Output;
use crate::cli::error::CliError;
use crate::cluster::launched::Launched;
use crate::cluster::loopback::free_addresses;
use crate::cluster::restarts::Restarts;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often processes are looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// After a failure: one that is suspended is let go on, so that it hears that it was taken for lost.
const RESUME_AFTER: Duration = Duration::from_millis(500);
/// Those that have not noticed it are asked to end.
const STOP_AFTER: Duration = Duration::from_secs(4);
/// And those that have not ended by then are killed.
const KILL_AFTER: Duration = Duration::from_secs(10);

/// What a process says first that ends because process 0 has failed.
const OF_PROCESS_0: &str = "process 0 failed: ";

/// What is supervised.
pub struct Supervised {
    /// What is started.
    pub start: Start,
    /// What the processes are told.
    pub launched: Launched,
    /// Whether each start gets addresses of this host that are free then.
    pub finds_addresses: bool,
    /// Whether it is started again when a process is lost.
    pub is_service: bool,
    /// How often that may be.
    pub restarts: Restarts,
    /// How long processes may take to end when they are asked to.
    pub stop_timeout: Duration,
}

/// The signals that have come.
#[derive(Clone, Default)]
pub struct Signals(Arc<Mutex<Come>>);

#[derive(Default)]
struct Come {
    count: usize,
    first: Option<(i32, &'static str)>,
}

impl Signals {
    /// One more has come.
    pub fn add(&self, signal: i32, name: &'static str) {
        let mut come = self.come();
        come.count += 1;
        come.first.get_or_insert((signal, name));
    }

    fn come(&self) -> MutexGuard<'_, Come> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have come.
    pub fn count(&self) -> usize {
        self.come().count
    }
}

/// The first failure of a start.
#[derive(Clone, Debug)]
struct Failure {
    process: usize,
    address: String,
    end: End,
    /// For how long all processes had been connected, where they had met.
    met_for: Option<Duration>,
    /// What it said.
    error: Option<String>,
}

impl Failure {
    /// Whether it ended because another one did, and says so.
    fn is_of_another(&self) -> bool {
        let is_told = self.error.as_ref().is_some_and(|error| error.starts_with(OF_PROCESS_0));
        self.end == End::Code(START_AGAIN) || is_told
    }

    fn said(&self) -> String {
        let Failure { process, address, end, error, .. } = self;
        let why = error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        format!("process {process} ({address}) {end}{why}")
    }

    fn as_error(&self) -> CliError {
        CliError::failed(self.said()).code(self.end.code())
    }
}

/// What became of a start.
enum Outcome {
    Done,
    Asked(Option<End>),
    Failed(Failure),
}

/// Runs until all is done, a signal has ended it, or it has failed for good.
pub fn run(mut supervised: Supervised, output: &Output, signals: &Signals) -> Result<(), CliError> {
    // Whether all processes have met once.
    let mut have_met = false;
    loop {
        let mut members = start(&supervised, output)?;
        let failure = match watch(&mut members, signals, supervised.stop_timeout) {
            Outcome::Done => return Ok(()),
            Outcome::Asked(end) => return asked(end, signals, supervised.is_service),
            Outcome::Failed(failure) => failure,
        };
        drop(members);
        have_met |= failure.met_for.is_some();
        if !supervised.is_service || !is_passing(&failure, have_met) {
            return Err(failure.as_error());
        }
        let now = Instant::now();
        let Some(pause) = supervised.restarts.next(now, failure.met_for.unwrap_or_default()) else {
            let error = CliError::failed(format!("gave up after {} restarts: {}", supervised.restarts.count(), failure.said()));
            return Err(error.code(failure.end.code()).hint(
                "look at what was said before; --max-restarts and --restart-window say how often it is tried; nothing that was acknowledged is lost",
            ));
        };
        let (count, pause_ms) = (supervised.restarts.count(), pause.as_millis());
        output.note(&format!("{}; all start again in {pause_ms} ms (restart {count})", failure.said()));
        while now.elapsed() < pause && signals.count() == 0 {
            std::thread::sleep(LOOK_PAUSE);
        }
        if signals.count() > 0 {
            return asked(Some(End::Code(0)), signals, true);
        }
        supervised.launched = again(supervised.launched, supervised.finds_addresses)?;
    }
}

/// Whether the same may go well the next time.
fn is_passing(failure: &Failure, have_met: bool) -> bool {
    !failure.end.is_for_good() && (failure.end.is_loss() || have_met)
}

fn asked(end: Option<End>, signals: &Signals, is_service: bool) -> Result<(), CliError> {
    let (number, name) = signals.come().first.unwrap_or((0, "a signal"));
    match end {
        // A service has ended in order; a run has done all in spite of it.
        Some(end) if end.is_success() => Ok(()),
        Some(end) if is_service => Err(CliError::failed(format!("interrupted by {name}: process 0 {end}")).code(end.code())),
        _ => Err(CliError::failed(format!("interrupted by {name}")).code(End::Signal(number).code())),
    }
}

fn again(launched: Launched, finds_addresses: bool) -> Result<Launched, CliError> {
    let failed = |error: std::io::Error| CliError::failed(format!("could not start the processes again: {error}"));
    let mut launched = launched.again().map_err(failed)?;
    if finds_addresses {
        launched.addresses = free_addresses(launched.addresses.len()).map_err(failed)?;
    }
    Ok(launched)
}

/// Starts all processes, or none.
fn start(supervised: &Supervised, output: &Output) -> Result<Vec<Member>, CliError> {
    let Supervised { start, launched, .. } = supervised;
    // Those that have been started are killed when they are dropped.
    (0..launched.addresses.len()).map(|process| Member::start(start, &launched.of_process(process), output)).collect()
}

/// Waits until all processes have ended, and makes them end when one has failed or a signal has come.
fn watch(members: &mut [Member], signals: &Signals, stop_timeout: Duration) -> Outcome {
    let mut failure: Option<Failure> = None;
    // Since when all are connected.
    let mut met = None::<Instant>;
    // Since when they are to end.
    let (mut asked, mut failed, mut done) = (None::<Instant>, None::<Instant>, None::<Instant>);
    let mut was_alone = false;
    loop {
        let now = Instant::now();
        let ended: Vec<(usize, End)> = members.iter_mut().filter_map(|member| Some((member.process, member.look()?))).collect();
        // Of several that have ended since, the one that did not end because of another.
        if members.iter().any(Member::has_met) {
            met.get_or_insert(now);
        }
        let met_for = met.map(|met| now.duration_since(met));
        // Without the others process 0 lets its tables be read: that these end is no failure then.
        let is_alone = members.first().is_some_and(Member::goes_on_alone);
        if is_alone && !was_alone {
            members.iter_mut().skip(1).for_each(Member::stop);
            (failure, failed) = (failure.filter(|failure| failure.process == 0), None);
        }
        was_alone = is_alone;
        let counts = |process: usize, end: End| !(end.is_success() || is_alone && process > 0);
        let failures = ended.iter().filter(|(process, end)| counts(*process, *end)).filter_map(|(process, end)| {
            let member = members.get(*process)?;
            Some(Failure { process: *process, address: member.address.clone(), end: *end, met_for, error: member.error() })
        });
        if let Some(first) = failures.min_by_key(|failure| (failure.is_of_another(), failure.process))
            && asked.is_none()
        {
            // Those that end because of another one may end before it; those that are made to end do so later.
            let is_cause = failure.as_ref().is_none_or(|known| known.is_of_another() && !first.is_of_another());
            if is_cause && failed.is_none_or(|failed| now.duration_since(failed) < STOP_AFTER) {
                failure = Some(first);
            }
            failed.get_or_insert(now);
        }
        if members.iter().all(|member| member.end.is_some()) {
            return match failure {
                _ if asked.is_some() => Outcome::Asked(members.first().and_then(|member| member.end)),
                Some(failure) => Outcome::Failed(failure),
                None => Outcome::Done,
            };
        }
        if done.is_none() && members.first().is_some_and(|member| member.end.is_some()) {
            done = Some(now);
        }
        let come = signals.count();
        if come > 0 && asked.is_none() && failed.is_none() {
            asked = Some(now);
            members.iter_mut().for_each(Member::stop);
        }
        let is_since = |since: Option<Instant>, wait: Duration| since.is_some_and(|since| now.duration_since(since) >= wait);
        if is_since(failed, RESUME_AFTER) {
            members.iter().for_each(Member::resume);
        }
        if is_since(failed, STOP_AFTER) {
            members.iter_mut().for_each(Member::stop);
        }
        // A second signal, or one after a failure, is for those that have no patience.
        let is_urgent = come > usize::from(failed.is_none());
        if is_urgent || is_since(asked, stop_timeout) || is_since(failed.or(done), KILL_AFTER) {
            members.iter_mut().for_each(Member::kill);
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again() {
        let failure = |end| Failure { process: 1, address: "a:1".into(), end, met_for: None, error: None };
        for (end, before, after) in [
            (End::Signal(9), true, true),
            (End::Code(5), true, true),
            (End::Code(137), true, true),
            // A host that does not come up, a port that is taken, an ssh that is refused: wrong at first, and passing later.
            (End::Code(1), false, true),
            (End::Code(255), false, true),
            // Wrong usage, a state of another version.
            (End::Code(2), false, false),
            (End::Code(4), false, false),
        ] {
            assert_eq!((is_passing(&failure(end), false), is_passing(&failure(end), true)), (before, after), "{end:?}");
        }
    }
}
