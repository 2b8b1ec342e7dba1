//! From workers to the thread that writes the store.
//!
//! When a worker wants its points flushed, it says so behind them in the [queue](super::queue); the thread writes and syncs once for all
//! that wait for it, and reports to each up to which message it is done.

use super::queue::{Message, Queue, Shared, queue};
use super::write::Writer;
use super::{Store, StoreError};
use crate::points::{Dropped, Outlet, PointsError};
use retally_core::points::Points;
use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The thread syncs after so many messages, though more are there.
const SYNC_AFTER: usize = 256;

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
        let (queue, receiver) = queue();
        let shared = Arc::clone(queue.shared());
        let thread = std::thread::spawn(move || {
            if let Err(error) = write_all(&receiver, &mut writer, &shared) {
                // Set before the receiver goes: who finds nobody at the other end finds the reason.
                shared.fail(error.to_string());
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
            false if since >= SYNC_AFTER => Err(TryRecvError::Empty),
            false => receiver.try_recv(),
        };
        match next {
            Ok(Message::Points(batch)) => {
                writer.write(&batch)?;
                shared.taken(batch.len());
            }
            Ok(Message::Delete(series)) => writer.delete(&series)?,
            Ok(Message::Flush(number, flushed)) => asking.push((number, flushed)),
            Ok(Message::End) => return writer.sync(),
            Err(TryRecvError::Empty) => {
                writer.sync()?;
                asking.drain(..).for_each(|(number, flushed)| flushed.store(number, Ordering::Release));
            }
            // Nobody is left who could want more: the run has failed.
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        since = if asking.is_empty() { 0 } else { since + 1 };
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
        // What others wrote was flushed with their epochs.
        let last = if ending.outlets == 0 { ending.thread.take() } else { None };
        let ended = last.is_none_or(|thread| open.queue.end() && thread.join().is_ok());
        match open.queue.shared().failed() {
            None if ended => Ok(Dropped::default()),
            _ => Err(PointsError::Write(open.queue.shared().failure())),
        }
    }
}
