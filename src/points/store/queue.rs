//! From workers to the thread that takes their points, of a process that writes the store or of one that sends to it.
//!
//! Batches go as they are, over a queue that is bounded in messages and in points. A worker that wants its points flushed says so behind
//! them, and hears up to which of its messages they are.

use retally_core::points::{Offered, PointBatch, PointWriter, Points, Series};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

/// How many messages wait for the thread.
const QUEUE_MESSAGES: usize = 1_024;
/// How many points wait for the thread.
const QUEUE_POINTS: usize = 64 << 10;
/// What goes to the thread.
pub enum Message {
    /// Points of a series.
    Points(PointBatch),
    /// All points of a series are to be deleted.
    Delete(Arc<Series>),
    /// A worker wants all up to its message of this number flushed.
    Flush(u64, Arc<AtomicU64>),
    /// There is no more.
    End,
}

/// What writers and the thread share.
#[derive(Default)]
pub struct Shared {
    /// Points in the queue.
    points: AtomicUsize,
    failure: OnceLock<String>,
}

/// A queue, for those who write to it.
#[derive(Clone)]
pub struct Queue {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// A queue, and the end of it that a thread reads.
pub fn queue() -> (Queue, Receiver<Message>) {
    let (sender, receiver) = sync_channel(QUEUE_MESSAGES);
    (Queue { sender, shared: Arc::default() }, receiver)
}

impl Queue {
    /// What writers and the thread share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Has the thread end when it has taken all. Whether it is there.
    pub fn end(&self) -> bool {
        self.sender.send(Message::End).is_ok()
    }
}

impl Shared {
    /// So many points have been taken out of the queue.
    pub fn taken(&self, points: usize) {
        self.points.fetch_sub(points, Ordering::Relaxed);
    }

    /// Nothing more is taken, and why. The first reason counts.
    pub fn fail(&self, why: String) {
        self.failure.set(why).ok();
    }

    /// Why nothing more is taken, where that is so.
    pub fn failed(&self) -> Option<&String> {
        self.failure.get()
    }

    /// Why the thread is gone.
    pub fn failure(&self) -> String {
        self.failure.get().cloned().unwrap_or_else(|| "could not write points: the thread that writes them is gone".into())
    }
}

impl Points for Queue {
    fn wanted(&self) -> bool {
        true
    }

    fn writer(&self) -> Box<dyn PointWriter> {
        Box::new(Worker { queue: self.clone(), deletions: VecDeque::new(), sent: 0, asked: 0, flushed: Arc::default() })
    }
}

/// A worker's end of the queue.
struct Worker {
    queue: Queue,
    /// Deletions for which there was no room in the queue. They go before all else.
    deletions: VecDeque<Arc<Series>>,
    /// How many messages were sent.
    sent: u64,
    /// Up to which it was asked that they be flushed.
    asked: u64,
    /// Up to which they are.
    flushed: Arc<AtomicU64>,
}

impl Worker {
    /// Sends a message, unless there are too many; then it returns it.
    fn send(&mut self, message: Message) -> Result<Option<Message>, String> {
        match self.queue.sender.try_send(message) {
            Ok(()) => {
                self.sent += 1;
                Ok(None)
            }
            Err(TrySendError::Full(message)) => Ok(Some(message)),
            Err(TrySendError::Disconnected(_)) => Err(self.queue.shared.failure()),
        }
    }

    /// Sends the deletions that wait, and returns whether all are sent.
    fn send_deletions(&mut self) -> Result<bool, String> {
        while let Some(series) = self.deletions.pop_front() {
            if let Some(Message::Delete(series)) = self.send(Message::Delete(series))? {
                self.deletions.push_front(series);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl PointWriter for Worker {
    fn offer(&mut self, batch: &mut PointBatch) -> Result<Offered, String> {
        if batch.is_empty() {
            return Ok(Offered::Taken);
        }
        if self.queue.shared.points.load(Ordering::Relaxed) >= QUEUE_POINTS || !self.send_deletions()? {
            return self.queue.shared.failure.get().map_or(Ok(Offered::Behind), |error| Err(error.clone()));
        }
        let empty = PointBatch::new(Arc::clone(&batch.series), batch.standing);
        let points = batch.len();
        // Counted before it is sent: the thread may be done with it before this function is.
        self.queue.shared.points.fetch_add(points, Ordering::Relaxed);
        match self.send(Message::Points(std::mem::replace(batch, empty)))? {
            Some(Message::Points(back)) => {
                self.queue.shared.points.fetch_sub(points, Ordering::Relaxed);
                *batch = back;
                Ok(Offered::Behind)
            }
            _ => Ok(Offered::Taken),
        }
    }

    fn flush(&mut self) -> Result<bool, String> {
        if let Some(error) = self.queue.shared.failure.get() {
            return Err(error.clone());
        }
        if !self.send_deletions()? {
            return Ok(false);
        }
        // The question is a message itself, the next one.
        if self.asked < self.sent && self.send(Message::Flush(self.sent + 1, Arc::clone(&self.flushed)))?.is_none() {
            self.asked = self.sent;
        }
        Ok(self.flushed.load(Ordering::Acquire) == self.sent)
    }

    fn delete_series(&mut self, series: &Arc<Series>) -> Result<bool, String> {
        self.deletions.push_back(Arc::clone(series));
        self.send_deletions()?;
        Ok(true)
    }
}
