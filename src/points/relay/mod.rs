//! A store of points for several processes: process 0 writes it, and the others send it their points.
//!
//! Each of them has a connection to process 0 for that alone. Workers fill the same queue as those of process 0 do
//! ([`super::store::queue`]), and a thread sends what is in it; process 0 has a thread for each of the others, which hands on to the queue
//! of the store. Each flush that was asked for is answered, in order, so an epoch is complete when its points are on the disk of
//! process 0, whoever computed them. A store that is slow slows its senders down: a connection holds little.
//!
//! # Limits
//! A process whose connection ends is lost, and so is the store that can't be written: both end the run.

pub mod wire;

use super::store::queue::{Message, Queue, Shared, queue};
use super::{Dropped, Outlet, PointsError};
use retally_core::points::{Offered, PointWriter, Points, RETRY_AFTER};
use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use wire::{Known, Sent};

/// What is sent is gathered up to so many bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// How long the reason of a failure may be.
const WHY_BYTES_MAX: usize = 4 << 10;
const FLUSHED: u8 = 1;
const FAILED: u8 = 2;

/// The way to the store of process 0, for all dataflows of another one.
#[derive(Clone)]
pub struct Relay {
    queue: Queue,
    /// How many outlets have not ended, and the thread.
    ending: Arc<(AtomicUsize, Mutex<Option<JoinHandle<()>>>)>,
}

/// Questions that were sent, and not answered.
type Asked = Arc<Mutex<VecDeque<(u64, Arc<AtomicU64>)>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// Sends over this connection from now on.
    pub fn start(stream: TcpStream) -> io::Result<Relay> {
        let (queue, receiver) = queue();
        let asked = Asked::default();
        let answers = stream.try_clone()?;
        let (shared, open) = (Arc::clone(queue.shared()), Arc::clone(&asked));
        std::thread::Builder::new().name("points-heard".into()).spawn(move || hear(answers, &open, &shared))?;
        let shared = Arc::clone(queue.shared());
        let send = move || {
            if let Err(error) = send(&receiver, stream, &asked, &shared) {
                shared.fail(format!("could not send points to process 0: {error}"));
            }
        };
        let thread = std::thread::Builder::new().name("points-sent".into()).spawn(send)?;
        Ok(Relay { queue, ending: Arc::new((AtomicUsize::new(0), Mutex::new(Some(thread)))) })
    }

    /// For a dataflow.
    pub fn outlet(&self) -> Relayed {
        self.ending.0.fetch_add(1, Ordering::AcqRel);
        Relayed(self.clone())
    }
}

/// The store of process 0 as one dataflow of another process writes it.
pub struct Relayed(Relay);

impl Outlet for Relayed {
    fn points(&self) -> Arc<dyn Points> {
        Arc::new(self.0.queue.clone())
    }

    fn finish(self: Box<Self>) -> Result<Dropped, PointsError> {
        let Relayed(relay) = *self;
        let (outlets, thread) = &*relay.ending;
        // What others wrote was flushed with their epochs.
        let last = if outlets.fetch_sub(1, Ordering::AcqRel) == 1 { locked(thread).take() } else { None };
        let ended = last.is_none_or(|thread| relay.queue.end() && thread.join().is_ok());
        match relay.queue.shared().failed() {
            None if ended => Ok(Dropped::default()),
            _ => Err(PointsError::Write(relay.queue.shared().failure())),
        }
    }
}

/// Sends what is in the queue, until there is no more.
fn send(receiver: &Receiver<Message>, mut stream: TcpStream, asked: &Asked, shared: &Shared) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let next = match bytes.is_empty() {
            true => receiver.recv().map_err(|_| TryRecvError::Disconnected),
            false if bytes.len() >= BUFFER_BYTES => Err(TryRecvError::Empty),
            false => receiver.try_recv(),
        };
        match next {
            Ok(Message::Points(batch)) => {
                let points = batch.len();
                wire::write(&Sent::Points(batch), &mut bytes);
                shared.taken(points);
            }
            Ok(Message::Delete(series)) => wire::write(&Sent::Delete(series), &mut bytes),
            Ok(Message::Flush(number, flushed)) => {
                locked(asked).push_back((number, flushed));
                wire::write(&Sent::Flush, &mut bytes);
            }
            Ok(Message::End) | Err(TryRecvError::Disconnected) => return stream.write_all(&bytes),
            Err(TryRecvError::Empty) => {
                stream.write_all(&bytes)?;
                bytes.clear();
            }
        }
    }
}

/// Hears what was flushed. Ends with the connection.
fn hear(mut stream: TcpStream, asked: &Asked, shared: &Shared) {
    let mut kind = [0];
    while stream.read_exact(&mut kind).is_ok() {
        match (kind, locked(asked).pop_front()) {
            ([FLUSHED], Some((number, flushed))) => flushed.store(number, Ordering::Release),
            _ => {
                let mut why = Vec::new();
                stream.take(WHY_BYTES_MAX as u64).read_to_end(&mut why).ok();
                return shared.fail(String::from_utf8_lossy(&why).into_owned());
            }
        }
    }
    shared.fail("could not send points to process 0: the connection has ended".into());
}

/// On process 0, hands on to a store what another process sends, in a thread of its own, until that ends.
pub fn receive(stream: TcpStream, points: &Arc<dyn Points>, known: Known) -> io::Result<()> {
    let points = Arc::clone(points);
    std::thread::Builder::new().name("points-taken".into()).spawn(move || {
        let mut answers = match stream.try_clone() {
            Ok(answers) => answers,
            Err(_) => return,
        };
        let mut writer = points.writer();
        if let Err(why) = hand_on(stream, &mut answers, &mut *writer, &known) {
            let why = why.as_bytes();
            // Where it is gone, it needs no reason.
            answers.write_all(&[FAILED]).and_then(|()| answers.write_all(why.get(..WHY_BYTES_MAX).unwrap_or(why))).ok();
            answers.shutdown(std::net::Shutdown::Both).ok();
        }
    })?;
    Ok(())
}

fn hand_on(stream: TcpStream, answers: &mut TcpStream, writer: &mut dyn PointWriter, known: &Known) -> Result<(), String> {
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let failed = |error: io::Error| format!("could not take points of another process: {error}");
    while let Some(sent) = wire::read(&mut stream, known).map_err(failed)? {
        match sent {
            Sent::Points(mut batch) => {
                while writer.offer(&mut batch)? == Offered::Behind {
                    std::thread::sleep(RETRY_AFTER);
                }
            }
            Sent::Delete(series) => drop(writer.delete_series(&series)?),
            Sent::Flush => {
                while !writer.flush()? {
                    std::thread::sleep(RETRY_AFTER);
                }
                answers.write_all(&[FLUSHED]).map_err(failed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::wire::tests::{batch, known};
    use super::*;
    use crate::points::store::outlet::OpenStore;
    use retally_core::points::Standing;
    use std::collections::BTreeMap;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (far, listener.accept().unwrap().0)
    }

    fn until(mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn offer(writer: &mut dyn PointWriter, tag: &str, times: std::ops::Range<i64>) {
        let mut batch = batch(tag, times, Standing::Fresh);
        until(|| writer.offer(&mut batch).unwrap() == Offered::Taken);
    }

    #[test]
    fn points_of_others_are_in_the_store_when_they_are_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenStore::open(&folder.path().join("store")).unwrap();
        let own = open.outlet();
        let (far, near) = connection();
        receive(near, &own.points(), known()).unwrap();
        let relay = Relay::start(far).unwrap();
        let (first, second) = (Box::new(relay.outlet()), Box::new(relay.outlet()));
        let mut writers = [first.points().writer(), first.points().writer(), second.points().writer()];
        for (number, writer) in writers.iter_mut().enumerate() {
            for from in (0..50_000).step_by(1000) {
                offer(&mut **writer, &format!("tag{number}"), from..from + 1000);
            }
        }
        for writer in &mut writers {
            until(|| writer.flush().unwrap());
        }
        let series = Arc::clone(&batch("tag0", 0..1, Standing::Fresh).series);
        assert!(writers[0].delete_series(&series).unwrap());
        offer(&mut *writers[0], "tag0", 7..9);
        until(|| writers[0].flush().unwrap());
        let count = |tag: &str| {
            let (store, measurement) = (open.store(), open.store().measurement("m").unwrap().unwrap());
            let found = store.series("m", &BTreeMap::from([("a".to_string(), tag.to_string())])).unwrap();
            found.first().map_or(0, |series| store.scan(&measurement, series.number, i64::MIN..=i64::MAX).unwrap().count().unwrap())
        };
        assert_eq!(["tag0", "tag1", "tag2"].map(count), [2, 50_000, 50_000]);
        drop(writers);
        first.finish().unwrap();
        second.finish().unwrap();
        Box::new(own).finish().unwrap();
    }

    #[test]
    fn a_connection_that_ends_and_nonsense_fail_the_writers() {
        let (far, near) = connection();
        let relay = Relay::start(far).unwrap();
        let outlet = Box::new(relay.outlet());
        let mut writer = outlet.points().writer();
        drop(near);
        offer(&mut *writer, "a", 0..5);
        until(|| writer.flush().is_err());
        assert!(writer.flush().unwrap_err().contains("process 0"));
        drop(writer);
        assert!(outlet.finish().is_err());
    }
}
