//! From workers to the thread that writes the store.
//!
//! Batches go as they are, over a queue that is bounded in messages and in points. When a worker wants its points settled, it says so
//! behind them in the queue; the thread writes and syncs once for all that wait for it, and says to each up to which message it is done.

use super::write::Writer;
use super::{Store, StoreError};
use crate::points::{Dropped, Outlet, PointsError};
use retally_core::points::{Offered, PointBatch, PointWriter, Points, Series};
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// How many messages wait for the thread.
const QUEUE_MESSAGES: usize = 1_024;
/// How many points wait for the thread.
const QUEUE_POINTS: usize = 64 << 10;
/// The thread settles after so many messages, though more are there.
const SETTLE_AFTER: usize = 256;

/// What goes to the thread.
enum Message {
    Points(PointBatch),
    Delete(Arc<Series>),
    /// A worker wants all up to its message of this number settled.
    Settle(u64, Arc<AtomicU64>),
    End,
}

#[derive(Default)]
struct Shared {
    /// Points in the queue.
    points: AtomicUsize,
    failure: OnceLock<String>,
}

#[derive(Clone)]
struct Queue {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// A store that this process writes: the workers of any number of dataflows, by a thread that it starts; and that it reads meanwhile.
#[derive(Clone)]
pub struct OpenStore {
    store: Arc<Store>,
    queue: Queue,
    ending: Arc<Mutex<Ending>>,
}

/// The thread, and how many outlets there are that have not ended.
struct Ending {
    outlets: usize,
    thread: Option<JoinHandle<()>>,
}

/// A store as one dataflow writes it.
pub struct Stored(OpenStore);

/// Opens the store in a folder, which is made where there is none.
pub fn open(dir: &Path) -> Result<Stored, StoreError> {
    Ok(OpenStore::open(dir)?.outlet())
}

impl OpenStore {
    /// Opens the store in a folder, which is made where there is none, and starts the thread that writes it.
    pub fn open(dir: &Path) -> Result<OpenStore, StoreError> {
        let store = Arc::new(Store::create(dir)?);
        let mut writer = Writer::new(Arc::clone(&store))?;
        let (sender, receiver) = sync_channel(QUEUE_MESSAGES);
        let queue = Queue { sender, shared: Arc::default() };
        let shared = Arc::clone(&queue.shared);
        let thread = std::thread::spawn(move || {
            if let Err(error) = write_all(&receiver, &mut writer, &shared) {
                // Set before the receiver goes: who finds nobody at the other end finds the reason.
                shared.failure.set(error.to_string()).ok();
            }
        });
        Ok(OpenStore { store, queue, ending: Arc::new(Mutex::new(Ending { outlets: 0, thread: Some(thread) })) })
    }

    /// The store, without the points that wait to be written.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// For a dataflow more. When all of them have ended, the thread ends.
    pub fn outlet(&self) -> Stored {
        self.ending().outlets += 1;
        Stored(self.clone())
    }

    fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OpenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenStore")
    }
}

impl PartialEq for OpenStore {
    fn eq(&self, other: &OpenStore) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
    }
}

impl Eq for OpenStore {}

fn write_all(receiver: &Receiver<Message>, writer: &mut Writer, shared: &Shared) -> Result<(), StoreError> {
    let mut asking = Vec::new();
    let mut since = 0;
    loop {
        let next = match asking.is_empty() {
            true => receiver.recv().map_err(|_| TryRecvError::Disconnected),
            false if since >= SETTLE_AFTER => Err(TryRecvError::Empty),
            false => receiver.try_recv(),
        };
        match next {
            Ok(Message::Points(batch)) => {
                writer.write(&batch)?;
                shared.points.fetch_sub(batch.len(), Ordering::Relaxed);
            }
            Ok(Message::Delete(series)) => writer.delete(&series)?,
            Ok(Message::Settle(number, settled)) => asking.push((number, settled)),
            Ok(Message::End) => return writer.settle(),
            Err(TryRecvError::Empty) => {
                writer.settle()?;
                asking.drain(..).for_each(|(number, settled)| settled.store(number, Ordering::Release));
            }
            // Nobody is left who could want more: the run has failed.
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        since = if asking.is_empty() { 0 } else { since + 1 };
    }
}

impl Shared {
    fn failure(&self) -> String {
        self.failure.get().cloned().unwrap_or_else(|| "could not write points: the thread that writes them is gone".into())
    }
}

impl Outlet for Stored {
    fn points(&self) -> Arc<dyn Points> {
        Arc::new(self.0.queue.clone())
    }

    fn finish(self: Box<Self>) -> Result<Dropped, PointsError> {
        let Stored(open) = *self;
        let mut ending = open.ending();
        ending.outlets -= 1;
        // What others wrote has settled with their epochs.
        let last = if ending.outlets == 0 { ending.thread.take() } else { None };
        let ended = last.is_none_or(|thread| open.queue.sender.send(Message::End).is_ok() && thread.join().is_ok());
        match open.queue.shared.failure.get() {
            None if ended => Ok(Dropped::default()),
            _ => Err(PointsError::Write(open.queue.shared.failure())),
        }
    }
}

impl Points for Queue {
    fn wanted(&self) -> bool {
        true
    }

    fn writer(&self) -> Box<dyn PointWriter> {
        Box::new(Worker { queue: self.clone(), deletions: VecDeque::new(), sent: 0, asked: 0, settled: Arc::default() })
    }
}

/// A worker's end of the queue.
struct Worker {
    queue: Queue,
    /// Deletions for which there was no room in the queue. They go before all else.
    deletions: VecDeque<Arc<Series>>,
    /// How many messages were sent.
    sent: u64,
    /// Up to which it was asked that they settle.
    asked: u64,
    /// Up to which they are.
    settled: Arc<AtomicU64>,
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

    fn settled(&mut self) -> Result<bool, String> {
        if let Some(error) = self.queue.shared.failure.get() {
            return Err(error.clone());
        }
        if !self.send_deletions()? {
            return Ok(false);
        }
        // The question is a message itself, the next one.
        if self.asked < self.sent && self.send(Message::Settle(self.sent + 1, Arc::clone(&self.settled)))?.is_none() {
            self.asked = self.sent;
        }
        Ok(self.settled.load(Ordering::Acquire) == self.sent)
    }

    fn delete_series(&mut self, series: &Arc<Series>) -> Result<bool, String> {
        self.deletions.push_back(Arc::clone(series));
        self.send_deletions()?;
        Ok(true)
    }
}
