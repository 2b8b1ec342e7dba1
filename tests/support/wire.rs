//! A way between two processes that can be slow, cut, or stand still for one of its connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One block in so many is lost on a bad way, and sent again.
const LOST_IN: u64 = 50;
/// How long it takes until that is noticed, as by TCP.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How often one looks whether what is held may pass.
const LOOK_PAUSE: Duration = Duration::from_millis(2);
const NONE: usize = usize::MAX;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To who listens.
    Listener,
    /// To who connects.
    Dialer,
}

/// What befalls bytes.
struct Fate {
    delay_ms: AtomicU64,
    is_cut: AtomicBool,
    /// The number of the connection that stands still, and towards whom.
    still: Mutex<(usize, Towards)>,
    passed: AtomicU64,
    connections: AtomicUsize,
}

/// A way to an address. It ends with the test.
pub struct Wire {
    /// Who connects here comes to that address.
    pub address: String,
    fate: Arc<Fate>,
}

impl Wire {
    /// Leads to an address, from a port of the same host.
    pub fn to(target: &str) -> Wire {
        let listener = TcpListener::bind((target.rsplit_once(':').unwrap().0, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fate = Arc::new(Fate {
            delay_ms: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            still: Mutex::new((NONE, Towards::Dialer)),
            passed: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        });
        let (target, shared) = (target.to_string(), Arc::clone(&fate));
        std::thread::spawn(move || {
            for dialer in listener.incoming().map_while(Result::ok) {
                // Where nobody listens, it is closed.
                let Ok(listens) = TcpStream::connect(&target) else { continue };
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                for (from, to, towards) in [(&dialer, &listens, Towards::Listener), (&listens, &dialer, Towards::Dialer)] {
                    to.set_nodelay(true).unwrap();
                    let (from, to, fate) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&shared));
                    let (sender, receiver) = channel();
                    std::thread::spawn(move || take(from, &sender));
                    std::thread::spawn(move || pass(&receiver, to, number, towards, &fate));
                }
            }
        });
        Wire { address, fate }
    }

    /// From now on, all takes so long, and some of it is lost and sent again.
    pub fn slow(&self, delay: Duration) {
        self.fate.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// From now on, nothing passes.
    pub fn cut(&self) {
        self.fate.is_cut.store(true, Ordering::Relaxed);
    }

    /// All passes again.
    pub fn heal(&self) {
        self.fate.is_cut.store(false, Ordering::Relaxed);
        *self.fate.still.lock().unwrap() = (NONE, Towards::Dialer);
    }

    /// From now on, nothing passes on one connection in one direction, and all passes on the others. Connections are counted from the
    /// first.
    pub fn hold(&self, connection: usize, towards: Towards) {
        *self.fate.still.lock().unwrap() = (connection, towards);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.fate.connections.load(Ordering::Relaxed)
    }

    /// How many bytes have passed.
    pub fn passed(&self) -> u64 {
        self.fate.passed.load(Ordering::Relaxed)
    }
}

fn take(mut from: TcpStream, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut block = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut block) {
        if sender.send((Instant::now(), block[..read].to_vec())).is_err() {
            return;
        }
    }
}

fn pass(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, number: usize, towards: Towards, fate: &Fate) {
    for (count, (came, block)) in (1..).zip(receiver) {
        let delay = Duration::from_millis(fate.delay_ms.load(Ordering::Relaxed));
        let again = if count % LOST_IN == 0 && !delay.is_zero() { SENT_AGAIN_AFTER } else { Duration::ZERO };
        std::thread::sleep((delay + again).saturating_sub(came.elapsed()));
        while fate.is_cut.load(Ordering::Relaxed) || *fate.still.lock().unwrap() == (number, towards) {
            std::thread::sleep(LOOK_PAUSE);
        }
        if to.write_all(&block).is_err() {
            break;
        }
        fate.passed.fetch_add(block.len() as u64, Ordering::Relaxed);
    }
    to.shutdown(Shutdown::Write).ok();
}
