//! How a source is: what it has taken, how far, and whether its broker is there.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a source is.
#[derive(Debug)]
pub struct Status {
    /// Where it is, without secrets.
    pub shown: String,
    /// The input: `DATAFLOW.INPUT`.
    pub of: String,
    /// Messages in the journal.
    pub messages: AtomicU64,
    /// Of these, those that could not be read as text.
    pub unreadable: AtomicU64,
    /// Batches in the journal.
    pub batches: AtomicU64,
    /// Messages that have arrived, and are not in the journal.
    pub waiting: AtomicU64,
    /// How often the broker was lost.
    pub lost: AtomicU64,
    /// Messages that the broker had removed before they were read.
    pub removed: AtomicU64,
    connected: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    error: Option<String>,
    /// The number of the last message in the journal, by partition.
    positions: BTreeMap<i32, u64>,
    /// Messages that the broker has behind the last that arrived, where it reports that.
    lag: Option<u64>,
}

impl Status {
    /// Of a source that has not begun.
    pub fn new(shown: String, of: String) -> Status {
        Status {
            shown,
            of,
            messages: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker is there, and sends messages. Returns whether that is new after an error.
    pub fn connected(&self) -> bool {
        self.connected.store(true, Ordering::Relaxed);
        self.known().error.take().is_some()
    }

    /// The broker is not there: why. Returns whether that is new.
    pub fn disconnected(&self, why: &str) -> bool {
        if self.connected.swap(false, Ordering::Relaxed) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        let before = self.known().error.replace(why.into());
        before.as_deref() != Some(why)
    }

    /// The service does not take a batch: why.
    pub fn held_up(&self, why: &str) {
        self.known().error = Some(format!("a batch is not taken: {why}"));
    }

    /// The broker is there, and something is missing: what.
    pub fn wanting(&self, what: &str) {
        self.known().error = Some(what.into());
    }

    /// The broker has removed so many messages before they were read.
    pub fn removed(&self, messages: u64) {
        self.removed.fetch_add(messages, Ordering::Relaxed);
    }

    /// Whether the broker is there.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// The journal has a batch of so many messages, up to these numbers.
    pub fn taken(&self, messages: u64, unreadable: u64, positions: &BTreeMap<(Arc<str>, i32), u64>) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.unreadable.fetch_add(unreadable, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(messages, Ordering::Relaxed);
        let mut known = self.known();
        let parts = positions.iter().filter(|((_, partition), _)| *partition >= 0);
        known.positions.extend(parts.map(|((_, partition), last)| (*partition, *last)));
        if self.is_connected() {
            known.error = None;
        }
    }

    /// It goes on behind this message.
    pub fn begun(&self, partition: i32, last: u64) {
        self.known().positions.entry(partition).or_insert(last);
    }

    /// So many messages are at the broker, behind the last that arrived.
    pub fn set_lag(&self, messages: u64) {
        self.known().lag = Some(messages);
    }

    /// How many messages are at the broker, behind the last that arrived, where it reports that.
    pub fn lag(&self) -> Option<u64> {
        self.known().lag
    }

    /// As JSON.
    pub fn value(&self) -> Value {
        let known = self.known();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let positions: Vec<Value> = known.positions.iter().map(|(partition, last)| json!({"partition": partition, "last": last})).collect();
        json!({
            "source": self.shown, "input": self.of, "connected": self.is_connected(), "error": known.error,
            "messages": count(&self.messages), "unreadable": count(&self.unreadable), "batches": count(&self.batches),
            "waiting": count(&self.waiting), "lost": count(&self.lost), "removed": count(&self.removed),
            "positions": positions, "lag": known.lag,
        })
    }
}
