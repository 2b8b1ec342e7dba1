//! From workers to the threads of a process that write: line protocol in buffers, over a bounded queue for each thread.
//!
//! Workers fill a buffer each and hand it over when it is full, always to the same thread: their order is kept. A queue holds a few; when
//! it is full, a worker keeps its buffer and is *behind*, so all that waits is bounded by [`BUFFER_BYTES`] times (threads ·
//! ([`QUEUE_BUFFERS`] + 1) + workers), whatever the destination does. A thread reports by a counter for each worker which buffers are
//! written. When one fails for good, every writer hears of it.

use super::line_protocol::{Encoder, Replaced};
use super::{Dropped, Outlet, PointsError};
use retally_core::points::{Offered, PointBatch, PointWriter, Points};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// A buffer is handed over when it is this long.
pub const BUFFER_BYTES: usize = 256 << 10;
/// How many buffers wait for a thread.
pub const QUEUE_BUFFERS: usize = 8;
/// Room for the line that makes a buffer full.
const BUFFER_SLACK_BYTES: usize = 4 << 10;

/// Writes buffers of whole lines, on the thread. It may wait and try again as long as it likes; an error is for good.
pub trait Drain: Send + 'static {
    /// Writes a buffer.
    fn write(&mut self, lines: &[u8]) -> Result<(), String>;

    /// Makes sure that all is written. Returns what the destination refused.
    fn finish(&mut self) -> Result<Dropped, String> {
        Ok(Dropped::default())
    }
}

/// What goes to the thread.
enum Message {
    /// A full buffer, and how many buffers of its writer are not written yet.
    Lines(Vec<u8>, Arc<AtomicU64>),
    /// There is no more.
    End,
}

/// What writers and threads share.
#[derive(Default)]
struct Shared {
    /// Buffers that can be used again.
    empty: Mutex<Vec<Vec<u8>>>,
    failure: OnceLock<String>,
    /// What the protocol has no form for.
    replaced: Mutex<Replaced>,
    /// How many writers there were.
    writers: AtomicUsize,
}

/// The queues, to be given to workers.
#[derive(Clone)]
struct Queues {
    senders: Vec<SyncSender<Message>>,
    shared: Arc<Shared>,
}

/// A destination behind queues.
pub struct Queued {
    queues: Queues,
    threads: Vec<JoinHandle<Dropped>>,
}

/// Starts a thread for each of `drains`, of which there is one at least.
pub fn start(drains: Vec<impl Drain>) -> Queued {
    let mut queues = Queues { senders: Vec::new(), shared: Arc::default() };
    let mut threads = Vec::new();
    for mut drain in drains {
        let (sender, receiver) = sync_channel(QUEUE_BUFFERS);
        let shared = Arc::clone(&queues.shared);
        queues.senders.push(sender);
        threads.push(std::thread::spawn(move || {
            drain_all(&receiver, &mut drain, &shared).unwrap_or_else(|error| {
                // Set before the receiver goes: who finds nobody at the other end finds the reason.
                shared.failure.set(error).ok();
                Dropped::default()
            })
        }));
    }
    Queued { queues, threads }
}

fn drain_all(receiver: &Receiver<Message>, drain: &mut impl Drain, shared: &Shared) -> Result<Dropped, String> {
    while let Ok(Message::Lines(lines, unwritten)) = receiver.recv() {
        drain.write(&lines)?;
        unwritten.fetch_sub(1, Ordering::Release);
        shared.recycle(lines);
    }
    drain.finish()
}

impl Shared {
    fn recycle(&self, mut buffer: Vec<u8>) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() < QUEUE_BUFFERS {
            buffer.clear();
            empty.push(buffer);
        }
    }

    fn buffer(&self) -> Vec<u8> {
        let recycled = self.empty.lock().unwrap_or_else(PoisonError::into_inner).pop();
        recycled.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES + BUFFER_SLACK_BYTES))
    }

    fn failure(&self) -> String {
        self.failure.get().cloned().unwrap_or_else(|| "could not write points: the thread that writes them is gone".into())
    }
}

impl Outlet for Queued {
    fn points(&self) -> Arc<dyn Points> {
        Arc::new(self.queues.clone())
    }

    fn finish(self: Box<Self>) -> Result<Dropped, PointsError> {
        let Queued { queues, threads } = *self;
        // A thread that is gone has said why, or has panicked.
        queues.senders.iter().for_each(|sender| drop(sender.send(Message::End)));
        let ended: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
        if queues.shared.failure.get().is_some() {
            return Err(PointsError::Write(queues.shared.failure()));
        }
        let replaced = std::mem::take(&mut *queues.shared.replaced.lock().unwrap_or_else(PoisonError::into_inner));
        let mut dropped = Dropped { replaced, ..Dropped::default() };
        for ended in ended {
            dropped.join(ended.map_err(|_| PointsError::Write(queues.shared.failure()))?);
        }
        Ok(dropped)
    }
}

impl Points for Queues {
    fn wanted(&self) -> bool {
        true
    }

    fn writer(&self) -> Box<dyn PointWriter> {
        let number = self.shared.writers.fetch_add(1, Ordering::Relaxed);
        let sender = self.senders.iter().cycle().nth(number % self.senders.len().max(1)).cloned();
        let shared = Arc::clone(&self.shared);
        Box::new(Writer { sender, shared, encoder: Encoder::default(), lines: Vec::new(), encoded: 0, unwritten: Arc::default() })
    }
}

/// A worker's end of a queue.
struct Writer {
    /// There always is one.
    sender: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
    encoder: Encoder,
    /// The buffer being filled.
    lines: Vec<u8>,
    /// Points of the batch that is offered which are in buffers already: it was behind in the middle of it.
    encoded: usize,
    unwritten: Arc<AtomicU64>,
}

impl Writer {
    /// Hands the buffer over. Returns whether there was room for it.
    fn hand_over(&mut self) -> Result<bool, String> {
        if self.lines.is_empty() {
            return Ok(true);
        }
        // Counted before it is sent: the thread may be done with it before this function is.
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        let Some(sender) = &self.sender else { return Err(self.shared.failure()) };
        match sender.try_send(Message::Lines(std::mem::take(&mut self.lines), Arc::clone(&self.unwritten))) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(Message::Lines(lines, _))) => {
                self.unwritten.fetch_sub(1, Ordering::Relaxed);
                self.lines = lines;
                Ok(false)
            }
            Err(_) => Err(self.shared.failure()),
        }
    }
}

impl PointWriter for Writer {
    fn offer(&mut self, batch: &mut PointBatch) -> Result<Offered, String> {
        loop {
            if self.lines.len() >= BUFFER_BYTES && !self.hand_over()? {
                return Ok(Offered::Behind);
            }
            if self.encoded >= batch.len() {
                break;
            }
            if self.lines.capacity() == 0 {
                self.lines = self.shared.buffer();
            }
            self.encoded = self.encoder.encode(batch, self.encoded, BUFFER_BYTES, &mut self.lines);
        }
        let replaced = self.encoder.take_replaced();
        if replaced.points > 0 {
            self.shared.replaced.lock().unwrap_or_else(PoisonError::into_inner).join(replaced);
        }
        self.encoded = 0;
        batch.clear();
        Ok(Offered::Taken)
    }

    fn flush(&mut self) -> Result<bool, String> {
        let handed_over = self.hand_over()?;
        if let Some(error) = self.shared.failure.get() {
            return Err(error.clone());
        }
        Ok(handed_over && self.unwritten.load(Ordering::Acquire) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::points::{FieldKind, Measurement, PointField, Series, Standing, Values};
    use std::sync::mpsc::{Sender, channel};
    use std::time::{Duration, Instant};

    /// Writes a buffer whenever it is told to.
    struct Told {
        go: Receiver<Result<(), String>>,
        written: Sender<String>,
    }

    impl Drain for Told {
        fn write(&mut self, lines: &[u8]) -> Result<(), String> {
            self.go.recv().unwrap()?;
            self.written.send(String::from_utf8(lines.to_vec()).unwrap()).unwrap();
            Ok(())
        }
    }

    fn batch(from: i64, points: i64) -> PointBatch {
        let fields = vec![PointField { name: "n", kind: FieldKind::Int, about: "" }];
        let measurement = Arc::new(Measurement { name: "m", about: "", tags: Vec::new(), fields });
        let mut batch = PointBatch::new(Arc::new(Series { measurement, tags: Vec::new() }), Standing::Fresh);
        batch.times_ns = (from..from + points).collect();
        batch.columns[0].values = Values::Int(batch.times_ns.clone());
        batch
    }

    fn queue() -> (Queued, Sender<Result<(), String>>, Receiver<String>) {
        let ((go, told), (written, read)) = (channel(), channel());
        (start(vec![Told { go: told, written }]), go, read)
    }

    fn until(mut done: impl FnMut() -> bool) {
        let started = Instant::now();
        while !done() {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not happen");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_slow_destination_holds_up_the_writer_and_every_point_is_written_once() {
        let (queued, go, written) = queue();
        let mut writer = queued.points().writer();
        let mut offered = 0;
        // Nothing is written yet: it takes what the queue holds, and then no more.
        let mut waiting = loop {
            let mut next = batch(offered, 4_096);
            offered += 4_096;
            if writer.offer(&mut next).unwrap() == Offered::Behind {
                break next;
            }
            assert!(next.is_empty());
            assert!(offered < 1_000_000, "it takes without bound");
        };
        assert_eq!(waiting.len(), 4_096, "a batch that was not taken is as it was");
        assert_eq!(writer.flush(), Ok(false));
        (0..100).for_each(|_| go.send(Ok(())).unwrap());
        until(|| writer.offer(&mut waiting).unwrap() == Offered::Taken);
        until(|| writer.flush().unwrap());
        drop(writer);
        Box::new(queued).finish().unwrap();
        let text: String = written.try_iter().collect();
        let expected: String = (0..offered)
            .map(|n| {
                format!(
                    "m n={n}i {n}
"
                )
            })
            .collect();
        assert!(text == expected, "points are lost, doubled or out of order");
    }

    #[test]
    fn what_was_taken_is_not_flushed_before_it_is_written() {
        let (queued, go, written) = queue();
        let mut writer = queued.points().writer();
        assert_eq!(writer.flush(), Ok(true));
        assert_eq!(writer.offer(&mut batch(0, 1)), Ok(Offered::Taken));
        assert_eq!(writer.flush(), Ok(false));
        go.send(Ok(())).unwrap();
        until(|| writer.flush().unwrap());
        assert_eq!(written.try_recv().as_deref(), Ok("m n=0i 0\n"));
        Box::new(queued).finish().unwrap();
    }

    #[test]
    fn a_destination_that_fails_for_good_says_so_to_all_writers() {
        let (queued, go, _written) = queue();
        let (mut one, mut other) = (queued.points().writer(), queued.points().writer());
        assert_eq!(one.offer(&mut batch(0, 1)), Ok(Offered::Taken));
        assert_eq!(one.flush(), Ok(false));
        go.send(Err("could not write points to x: it is full".into())).unwrap();
        until(|| one.flush().is_err());
        assert_eq!(one.flush(), Err("could not write points to x: it is full".into()));
        assert_eq!(other.offer(&mut batch(0, 1)), Ok(Offered::Taken));
        assert_eq!(other.flush(), Err("could not write points to x: it is full".into()));
        assert_eq!(Box::new(queued).finish().unwrap_err().to_string(), "could not write points to x: it is full");
    }
}
