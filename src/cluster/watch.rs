//! Signs of life: how a process notices that another one is lost, and reports which was the first.
//!
//! Two processes have a connection for this alone, so that a full one between workers is not taken for a dead process. Both say
//! [`BEAT`](super::pulse::BEAT) twice within a heartbeat. A process is lost when its connection ends without [`BYE`], or when it is silent
//! for almost three heartbeats: it has died, hangs, is suspended, or the network between the two is cut. Who notices it tells the others
//! [`LOST`] before it ends. So all name the one that was lost first, and not one that ended because of it.
//!
//! A connection of workers that breaks is a loss, too; and so is one that stands still while signs of life come ([`super::traffic`]).
//!
//! One thread does it for all other processes. What it tells is the end of this process: there is no way back into a computation that has
//! lost a part.
//!
//! # Limits
//! A connection for points that stands still while signs of life come is not noticed: a store may be slow.

use super::pulse::{BYE, LOST, Pulse, Said};
use super::traffic::{Totals, Traffic};
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So often within a heartbeat a sign of life is given.
const BEATS: u32 = 2;
/// A process is lost after so many quarters of a heartbeat without one: less than three, so that it is told by then.
const SILENT_QUARTERS: u32 = 11;
/// How long nothing of what was sent may arrive, at least: what is lost on a bad network is sent again after longer and longer pauses.
const STALLED_MIN: Duration = Duration::from_millis(2500);
/// How long a broken connection of workers waits for what signs of life say.
const GRACE_MAX: Duration = Duration::from_millis(300);

/// A process that is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Its connection ended.
    #[error("lost process {process} at {address:?}: {why}")]
    Ended {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// How it was noticed.
        why: String,
    },
    /// It gave no sign of life.
    #[error("lost process {process} at {address:?}: it gave no sign of life for {} ms", .silent.as_millis())]
    Silent {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// For how long.
        silent: Duration,
    },
    /// It gives signs of life, and what workers send does not reach it.
    #[error(
        "lost process {process} at {address:?}: nothing of what was sent to it has arrived for {} ms, though it gives signs of life",
        .stalled.as_millis()
    )]
    Stalled {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// For how long.
        stalled: Duration,
    },
    /// Another process has noticed it first.
    #[error("lost process {process} at {address:?}: process {by} noticed it")]
    Elsewhere {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// Who noticed it.
        by: usize,
    },
    /// This process was taken for lost.
    #[error("process {by} at {address:?} took this process for lost: it was suspended, or cut off")]
    This {
        /// By whom.
        by: usize,
        /// Its address.
        address: String,
    },
}

/// What other threads tell the one that watches.
#[derive(Default)]
struct Inbox {
    added: Vec<(usize, TcpStream)>,
    /// What counts the bytes of connections of workers.
    carried: Vec<(usize, Arc<Traffic>)>,
    /// A connection of workers that broke, and how.
    cut: Option<(usize, String, Instant)>,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    Failed,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watch over the other processes. When it is dropped before it is finished, they take this process for lost.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// For those who add connections, or find that one of workers is broken.
#[derive(Clone)]
pub struct Alarm(Arc<Shared>);

/// What a watch is about.
pub struct Watched {
    /// The number of this process.
    pub process: usize,
    /// The addresses of all.
    pub addresses: Vec<String>,
    /// The time between signs of life; a process that gives none for three times as long is lost.
    pub heartbeat: Duration,
    /// Who wants to know when each of the others was heard.
    pub totals: Arc<Totals>,
}

impl Watch {
    /// Begins it. `told` is called once, when a process is lost, and ends this process.
    pub fn start(watched: Watched, told: impl FnOnce(Lost) + Send + 'static) -> io::Result<Watch> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            if let Some(lost) = Watching::new(watched).run(&seen) {
                told(lost);
            }
        })?;
        Ok(Watch { shared, thread: Some(thread) })
    }

    /// For those who add connections.
    pub fn alarm(&self) -> Alarm {
        Alarm(Arc::clone(&self.shared))
    }

    /// Tells the others that the work is done.
    pub fn finish(mut self) {
        self.end(Ending::Done);
    }

    fn end(&mut self, ending: Ending) {
        self.shared.lock().ending.get_or_insert(ending);
        self.shared.changed.notify_all();
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Ending::Failed);
        }
    }
}

impl Alarm {
    /// From now on, the process at the other end of this connection is watched.
    pub fn add(&self, process: usize, stream: TcpStream) {
        self.0.lock().added.push((process, stream));
        self.0.changed.notify_all();
    }

    /// From now on, this counts what is written to a process that is watched, and read from it.
    pub fn carries(&self, process: usize, traffic: Arc<Traffic>) {
        self.0.lock().carried.push((process, traffic));
        self.0.changed.notify_all();
    }

    /// A connection of workers is broken.
    pub fn cut(&self, process: usize, why: String) {
        self.0.lock().cut.get_or_insert((process, why, Instant::now()));
        self.0.changed.notify_all();
    }
}

/// The thread that watches.
struct Watching {
    watched: Watched,
    pulses: Vec<Pulse>,
    looked: Instant,
    beaten: Option<Instant>,
}

impl Watching {
    fn new(watched: Watched) -> Watching {
        Watching { watched, pulses: Vec::new(), looked: Instant::now(), beaten: None }
    }

    /// Watches until the work is done, or a process is lost.
    fn run(mut self, shared: &Shared) -> Option<Lost> {
        let pause = (self.watched.heartbeat / 20).clamp(Duration::from_millis(2), Duration::from_millis(50));
        loop {
            let inbox = shared.lock();
            let mut inbox = match inbox.ending.is_some() || !inbox.added.is_empty() {
                true => inbox,
                false => shared.changed.wait_timeout(inbox, pause).unwrap_or_else(PoisonError::into_inner).0,
            };
            let (added, carried) = (std::mem::take(&mut inbox.added), std::mem::take(&mut inbox.carried));
            let (cut, ending) = (inbox.cut.clone(), inbox.ending);
            drop(inbox);
            let now = Instant::now();
            for (process, stream) in added {
                match Pulse::new(process, stream, now) {
                    Ok(pulse) => self.pulses.push(pulse),
                    Err(error) => return Some(Lost::Ended { process, address: self.address(process), why: error.to_string() }),
                }
            }
            for (process, traffic) in carried {
                if let Some(pulse) = self.pulses.iter_mut().find(|pulse| pulse.process == process) {
                    pulse.traffic = Some(traffic);
                }
            }
            match ending {
                Some(Ending::Done) => {
                    let process = self.watched.process as u64;
                    self.pulses.iter_mut().for_each(|pulse| pulse.say(BYE, process));
                    return None;
                }
                Some(Ending::Failed) => return None,
                None => {}
            }
            if let Some((process, lost)) = self.look(now, cut) {
                self.pulses.iter_mut().for_each(|pulse| pulse.say(LOST, process as u64));
                return Some(lost);
            }
        }
    }

    /// Whether a process is lost, and its number.
    fn look(&mut self, now: Instant, cut: Option<(usize, String, Instant)>) -> Option<(usize, Lost)> {
        let Watched { process: own, heartbeat, .. } = self.watched;
        // This process may have been suspended: the others were not silent meanwhile.
        let gap = now.duration_since(std::mem::replace(&mut self.looked, now));
        if gap > heartbeat / 2 {
            for pulse in &mut self.pulses {
                pulse.heard += gap;
                pulse.delivery.excuse(gap);
            }
        }
        let said: Vec<(usize, Said)> = self.pulses.iter_mut().map(|pulse| (pulse.process, pulse.hear(now, heartbeat))).collect();
        self.pulses.iter().for_each(|pulse| self.watched.totals.hear(pulse.process, pulse.heard));
        for (by, said) in &said {
            if let Said::Lost(process) = said {
                let (by, address) = (*by, self.address(*process));
                let lost = match *process == own {
                    true => Lost::This { by, address: self.address(by) },
                    false => Lost::Elsewhere { process: *process, address, by },
                };
                return Some((*process, lost));
            }
        }
        for (process, said) in said {
            if let Said::Ended(why) = said {
                return Some((process, Lost::Ended { process, address: self.address(process), why }));
            }
        }
        let silence = heartbeat * SILENT_QUARTERS / 4;
        let silent = |pulse: &&Pulse| !pulse.is_over && now.saturating_duration_since(pulse.heard) > silence;
        // The one that has been silent for the longest time.
        if let Some(pulse) = self.pulses.iter().filter(silent).min_by_key(|pulse| pulse.heard) {
            let (process, silent) = (pulse.process, now.duration_since(pulse.heard));
            return Some((process, Lost::Silent { process, address: self.address(process), silent }));
        }
        let stalled = self.pulses.iter_mut().filter(|pulse| !pulse.is_over).map(|pulse| (pulse.stalled(now), pulse.process)).max();
        if let Some((stalled, process)) = stalled.filter(|(stalled, _)| *stalled > silence.max(STALLED_MIN)) {
            return Some((process, Lost::Stalled { process, address: self.address(process), stalled }));
        }
        if let Some((process, why, _)) = cut.filter(|(.., since)| now.duration_since(*since) > GRACE_MAX.min(heartbeat)) {
            return Some((process, Lost::Ended { process, address: self.address(process), why }));
        }
        if self.beaten.is_none_or(|beaten| now.duration_since(beaten) >= heartbeat / BEATS) {
            self.beaten = Some(now);
            self.pulses.iter_mut().filter(|pulse| !pulse.is_over).for_each(Pulse::beat);
        }
        None
    }

    fn address(&self, process: usize) -> String {
        self.watched.addresses.get(process).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
