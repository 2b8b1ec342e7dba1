//! Crowds of strangers at the door of a process: they hold up nobody, with TLS or without.

use crate::cluster::{SECRET, WAITING, certify, complete, has_thread, knock, start, tls};
use crate::processes::hosts;
use crate::support::known::ONLINE;
use crate::support::program::Place;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// More than are heard side by side.
const CROWD: usize = 700;
/// How long one of the others may take to get through. A silent one is heard for 4 s.
const THROUGH_MAX: Duration = Duration::from_secs(3);

/// More than are heard side by side, and than the system's queue holds: all silent, before the second process and while both work.
#[test]
fn thousands_of_strangers_hold_up_nobody() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let addresses = hosts(&place);
    let words = format!("{} {WAITING}", ONLINE.run());
    let first = start(&place, 0, &words, Some(SECRET));
    let crowd = |address: &str, count: usize| (0..count).map_while(|_| TcpStream::connect(address).ok()).collect::<Vec<TcpStream>>();
    let _first = knock(&addresses[0]);
    let before = crowd(&addresses[0], 1500);
    let mut second = start(&place, 1, &words, Some(SECRET));
    let id = second.id();
    second.until("its connection of workers", || has_thread(id, "timely:recv"));
    drop(before);
    let _working = addresses.iter().map(|address| crowd(address, 1000)).collect::<Vec<_>>();
    complete(&place, [first, second]);
}

/// Strangers that say nothing, and come again as soon as they are dropped.
struct Crowd(Arc<AtomicBool>, JoinHandle<()>);

impl Crowd {
    /// It is there when this returns.
    fn gather(address: &str) -> Crowd {
        let is_over = Arc::new(AtomicBool::new(false));
        let come = || {
            let stranger = TcpStream::connect(address)?;
            stranger.set_nonblocking(true)?;
            std::io::Result::Ok(stranger)
        };
        let mut strangers: Vec<TcpStream> = (0..CROWD).map_while(|_| come().ok()).collect();
        let (ends, address) = (Arc::clone(&is_over), address.to_string());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let waits =
                    |stranger: &mut TcpStream| stranger.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                strangers.retain_mut(waits);
                while strangers.len() < CROWD
                    && let Ok(stranger) = TcpStream::connect(&address)
                    && stranger.set_nonblocking(true).is_ok()
                {
                    strangers.push(stranger);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Crowd(is_over, thread)
    }

    fn leave(self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().unwrap();
    }
}

/// A process gets through a crowd that is always larger than what is heard side by side, in less time than a silent one is heard.
fn gets_through(secured: &str) {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let addresses = hosts(&place);
    certify(&place, "tls", addresses[0].rsplit_once(':').unwrap().0);
    let words = format!("{} {WAITING} {secured}", ONLINE.run());
    let first = start(&place, 0, &words, Some(SECRET));
    drop(knock(&addresses[0]));
    let crowd = Crowd::gather(&addresses[0]);
    let mut second = start(&place, 1, &words, Some(SECRET));
    let id = second.id();
    // It listens before it connects.
    drop(knock(&addresses[1]));
    let began = Instant::now();
    second.until("its connection of workers", || has_thread(id, "timely:recv"));
    let took = began.elapsed();
    crowd.leave();
    assert!(took < THROUGH_MAX, "{took:?}");
    complete(&place, [first, second]);
}

#[test]
fn one_of_the_others_gets_through_a_crowd() {
    gets_through("");
}

#[test]
fn one_of_the_others_gets_through_a_crowd_with_tls() {
    gets_through(&tls("tls"));
}
