//! Signs of life: how a process notices that another one is lost, and says which was the first.
//!
//! Two processes have a connection for this alone, so that a full one between workers is not taken for a dead process. Both say [`BEAT`]
//! twice within a heartbeat. A process is lost when its connection ends without [`BYE`], or when it is silent for almost three heartbeats:
//! it has died, hangs, is suspended, or the network between the two is cut. Who notices it tells the others [`LOST`] before it ends. So all
//! name the one that was lost first, and not one that ended because of it.
//!
//! One thread does it for all other processes. What it tells is the end of this process: there is no way back into a computation that has
//! lost a part.
//!
//! # Limits
//! A connection of workers that stands still while signs of life come is not noticed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A sign of life.
const BEAT: u8 = 1;
/// The work is done: what ends now is no loss.
const BYE: u8 = 2;
/// A process is lost, and which.
const LOST: u8 = 3;
/// Its kind, and the number of a process.
const MESSAGE_BYTES: usize = 3;
/// So often within a heartbeat a sign of life is given.
const BEATS: u32 = 2;
/// A process is lost after so many quarters of a heartbeat without one: less than three, so that it is told by then.
const SILENT_QUARTERS: u32 = 11;
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

    /// A connection of workers is broken.
    pub fn cut(&self, process: usize, why: String) {
        self.0.lock().cut.get_or_insert((process, why, Instant::now()));
        self.0.changed.notify_all();
    }
}

/// Another process, as the watch sees it.
struct Pulse {
    process: usize,
    stream: TcpStream,
    bytes: Vec<u8>,
    heard: Instant,
    /// Why nothing could be said to it.
    broken: Option<String>,
    /// Its work is done.
    is_over: bool,
}

/// What a connection says whose other end is gone.
pub const ENDED: &str = "its connection ended";

/// Why a connection is broken. A process that is killed resets those on which it has not read all.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ENDED.into(),
        _ => error.to_string(),
    }
}

/// What has come from another process.
enum Said {
    Nothing,
    Lost(usize),
    Ended(String),
}

impl Pulse {
    /// Reads all that has come, in order.
    fn hear(&mut self, now: Instant) -> Said {
        let mut block = [0; 256];
        while !self.is_over {
            let read = match self.stream.read(&mut block) {
                Ok(0) => return Said::Ended(ENDED.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Said::Ended(why(&error)),
            };
            self.heard = now;
            self.bytes.extend_from_slice(block.get(..read).unwrap_or_default());
            while let Some((message, rest)) = self.bytes.split_first_chunk::<MESSAGE_BYTES>() {
                let [kind, low, high] = *message;
                self.bytes = rest.to_vec();
                match kind {
                    BEAT => {}
                    BYE => self.is_over = true,
                    LOST => return Said::Lost(usize::from(u16::from_le_bytes([low, high]))),
                    _ => return Said::Ended("it says what has no meaning".into()),
                }
            }
        }
        match self.broken.take() {
            Some(why) if !self.is_over => Said::Ended(why),
            _ => Said::Nothing,
        }
    }

    fn say(&mut self, kind: u8, process: usize) {
        let [low, high] = u16::try_from(process).unwrap_or(u16::MAX).to_le_bytes();
        match self.stream.write(&[kind, low, high]) {
            Ok(MESSAGE_BYTES) => {}
            Ok(_) => self.broken = Some("its connection takes no more".into()),
            // It does not read, and will be silent too.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => self.broken = Some(why(&error)),
        }
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
            let (added, cut, ending) = (std::mem::take(&mut inbox.added), inbox.cut.clone(), inbox.ending);
            drop(inbox);
            let now = Instant::now();
            for (process, stream) in added {
                if let Err(error) = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)) {
                    return Some(Lost::Ended { process, address: self.address(process), why: error.to_string() });
                }
                self.pulses.push(Pulse { process, stream, bytes: Vec::new(), heard: now, broken: None, is_over: false });
            }
            match ending {
                Some(Ending::Done) => {
                    let process = self.watched.process;
                    self.pulses.iter_mut().for_each(|pulse| pulse.say(BYE, process));
                    return None;
                }
                Some(Ending::Failed) => return None,
                None => {}
            }
            if let Some((process, lost)) = self.look(now, cut) {
                self.pulses.iter_mut().for_each(|pulse| pulse.say(LOST, process));
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
            self.pulses.iter_mut().for_each(|pulse| pulse.heard += gap);
        }
        let said: Vec<(usize, Said)> = self.pulses.iter_mut().map(|pulse| (pulse.process, pulse.hear(now))).collect();
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
        if let Some((process, why, _)) = cut.filter(|(.., since)| now.duration_since(*since) > GRACE_MAX.min(heartbeat)) {
            return Some((process, Lost::Ended { process, address: self.address(process), why }));
        }
        if self.beaten.is_none_or(|beaten| now.duration_since(beaten) >= heartbeat / BEATS) {
            self.beaten = Some(now);
            self.pulses.iter_mut().filter(|pulse| !pulse.is_over).for_each(|pulse| pulse.say(BEAT, own));
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
