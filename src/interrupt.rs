//! Signals that end a process in order: SIGINT, SIGTERM and SIGHUP.
//!
//! The first signal is a request: whoever works in steps asks [`requested`] between them and stops. What must not be left half-way is a
//! [`Section`]: it is awaited, and none is begun any more. Then files that are no one's yet ([`Temporary`]) are removed, and the process
//! exits with 128 and the signal's number. A second signal ends it at once.
//!
//! Signals are the process's, and so is what is kept here.
//!
//! # Limits
//! What does not stop by itself is given [`GRACE`], and then left where it is. A signal that was ignored when the process began (SIGHUP
//! under `nohup`) stays so, where the system tells it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// How long work that stops by itself is awaited.
const GRACE: Duration = Duration::from_secs(2);
/// How often work that is to stop is told so.
const TELL_EVERY: Duration = Duration::from_millis(50);

static STATE: Mutex<State> = Mutex::new(State {
    signal: None,
    next: 0,
    temporaries: BTreeMap::new(),
    sections: BTreeMap::new(),
    is_over: false,
    is_ending: false,
    is_published: false,
});
static CHANGED: Condvar = Condvar::new();

struct State {
    signal: Option<i32>,
    next: u64,
    temporaries: BTreeMap<u64, PathBuf>,
    sections: BTreeMap<u64, Option<Stop>>,
    /// The command has come to its end.
    is_over: bool,
    /// The process is about to exit.
    is_ending: bool,
    /// Something was put in its place.
    is_published: bool,
}

/// Makes work that is under way fail soon.
type Stop = Box<dyn Fn() + Send>;

/// What a process that is interrupted says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The signal's name.
    pub signal: &'static str,
    /// Whether something was put in its place before.
    pub is_published: bool,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Removes what is temporary.
    fn clear(&self) {
        // The latest first: a folder is empty when what was made in it is gone.
        self.temporaries.values().rev().for_each(|path| remove(path));
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A file that may not grow any more is an error of whoever writes it from now on, and not the end of the process.
pub fn outlive_full_files() {
    // Where that can't be, it is as it was.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).ok();
}

/// Listens to signals from now on. `tell` is called when one has ended the process, before it exits.
pub fn listen(tell: fn(Interrupted)) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(heard())?;
    let name = "signals".to_string();
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        for signal in signals.forever() {
            if state().signal.replace(signal).is_some() {
                signal_hook::low_level::exit(128 + signal);
            }
            let ending = std::thread::Builder::new().name("ending".into()).spawn(move || end(signal, tell));
            if ending.is_err() {
                signal_hook::low_level::exit(128 + signal);
            }
        }
    })?;
    Ok(())
}

/// Listens to signals from now on, for a service that ends by itself: the first one calls `ask`, a second one ends the process at once.
pub fn listen_and_ask(ask: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(heard())?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut ask = Some(ask);
        for signal in signals.forever() {
            match ask.take() {
                Some(ask) => ask(),
                None => signal_hook::low_level::exit(128 + signal),
            }
        }
    })?;
    Ok(())
}

/// Listens to signals from now on, and tells each of them, by its number and its name.
pub fn listen_and_tell(tell: impl Fn(i32, &'static str) + Send + 'static) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(heard())?;
    let run = move || signals.forever().for_each(|signal| tell(signal, name(signal)));
    std::thread::Builder::new().name("signals".into()).spawn(run).map(drop)
}

/// Has this process do what a signal would have it do: the request to end, and the second time the end.
pub fn raise() {
    // Where there is no way to ask, there is none to end in order.
    if signal_hook::low_level::raise(SIGTERM).is_err() {
        signal_hook::low_level::exit(128 + SIGTERM);
    }
}

/// The signals that are listened to.
fn heard() -> Vec<i32> {
    let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

/// The signals that this process ignores, a bit each, by what Linux says of it; none, where it does not say that.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn end(signal: i32, tell: fn(Interrupted)) {
    let began = Instant::now();
    let mut kept = state();
    while !kept.sections.is_empty() || !(kept.is_over || began.elapsed() >= GRACE) {
        kept.sections.values().flatten().for_each(|stop| stop());
        kept = CHANGED.wait_timeout(kept, TELL_EVERY).unwrap_or_else(PoisonError::into_inner).0;
    }
    kept.clear();
    tell(Interrupted { signal: name(signal), is_published: kept.is_published });
    signal_hook::low_level::exit(128 + signal)
}

/// Ends the process from a thread of its own, in the order of a signal: sections are awaited, and temporary files removed.
pub fn exit(code: i32) -> ! {
    let mut kept = state();
    kept.is_ending = true;
    while !kept.sections.is_empty() {
        kept = CHANGED.wait(kept).unwrap_or_else(PoisonError::into_inner);
    }
    kept.clear();
    signal_hook::low_level::exit(code)
}

/// Removes a file, or a folder that is empty. It may be gone already, and then there is nothing to do.
fn remove(path: &Path) {
    if std::fs::remove_file(path).is_err() {
        std::fs::remove_dir(path).ok();
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGHUP => "SIGHUP",
        _ => "SIGTERM",
    }
}

/// The name of the signal that asks this process to end, when there was one.
pub fn requested() -> Option<&'static str> {
    state().signal.map(name)
}

/// The command is over. When a signal came before, it has the last word: this does not return.
pub fn over() {
    let mut kept = state();
    kept.is_over = true;
    CHANGED.notify_all();
    drop(wait_for_the_end(kept));
}

/// Returns at once while the process goes on, and never when it ends.
fn wait_for_the_end(mut kept: MutexGuard<'_, State>) -> MutexGuard<'_, State> {
    if kept.signal.is_some() {
        // Nothing more is to come of this thread, and nobody need wait for it.
        kept.is_over = true;
        CHANGED.notify_all();
    }
    while kept.signal.is_some() || kept.is_ending {
        kept = CHANGED.wait(kept).unwrap_or_else(PoisonError::into_inner);
    }
    kept
}

/// A file or a folder that a signal removes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Temporary(u64);

impl Temporary {
    /// Makes something at a path that it returns. No signal ends the process between the two.
    pub(crate) fn make<T>(make: impl FnOnce() -> io::Result<(T, PathBuf)>) -> io::Result<(T, Temporary)> {
        let mut kept = wait_for_the_end(state());
        let (made, path) = make()?;
        let number = kept.number();
        kept.temporaries.insert(number, path);
        Ok((made, Temporary(number)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        state().temporaries.remove(&self.0);
    }
}

/// Work that is brought to its end before a signal ends the process. Within it, no other one and no [`Temporary`] may begin: they wait.
#[derive(Debug)]
pub(crate) struct Section(u64);

impl Section {
    /// Begins it. After a signal this does not return.
    pub(crate) fn begin() -> Section {
        let mut kept = wait_for_the_end(state());
        let number = kept.number();
        kept.sections.insert(number, None);
        Section(number)
    }

    /// A signal makes it fail by this.
    pub(crate) fn stopped_by(&self, stop: impl Fn() + Send + 'static) {
        state().sections.insert(self.0, Some(Box::new(stop)));
    }

    /// What it was about is in its place.
    pub(crate) fn published(self) {
        state().is_published = true;
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        state().sections.remove(&self.0);
        CHANGED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_signals_are_ignored() {
        let status = "Name:\tretally\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n";
        assert_eq!(ignored(status) >> (SIGHUP - 1) & 1, 1);
        assert_eq!(ignored(status) >> (SIGTERM - 1) & 1, 0);
        assert_eq!((ignored(""), ignored("SigIgn:\tno number")), (0, 0));
    }

    #[test]
    fn a_temporary_file_is_known_as_long_as_it_is_one() {
        let path = PathBuf::from("/nowhere/known");
        let ((), made) = Temporary::make(|| Ok(((), path.clone()))).unwrap();
        assert!(state().temporaries.values().any(|known| *known == path));
        drop(made);
        assert!(state().temporaries.values().all(|known| *known != path));
        assert!(Temporary::make(|| io::Result::<((), PathBuf)>::Err(io::ErrorKind::NotFound.into())).is_err());
    }
}
