//! A service of several processes and dataflows under blows: any of its processes, and `launch` itself, is killed or suspended at any
//! moment, while clients feed. Each batch that was acknowledged counts once, and the tables are those of a fresh run.
//!
//! `KILL_RUNS` says how many blows there are; `scripts/torture` strikes often.

use crate::launch::{KNOWN, again, processes, served, signal, until};
use crate::support::known::{ONLINE, SERVERS, table};
use crate::support::program::Place;
use crate::support::service::{Service, free_port};
use crate::support::steps::{Clients, each_came_once};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// What befalls a service, one after the other.
const BLOWS: [Blow; 8] =
    [Blow::Kill, Blow::Stop, Blow::Pause, Blow::KillAgain, Blow::KillAll, Blow::KillLaunch, Blow::PauseLaunch, Blow::Kill];

/// A blow to a process that is drawn by chance, where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    /// It is suspended, and nobody lets it go on but who launches.
    Stop,
    /// It is suspended for some time, which may be too short to be noticed.
    Pause,
    /// And another blow follows while all start again.
    KillAgain,
    KillAll,
    /// Its processes end by themselves, and somebody starts all again.
    KillLaunch,
    /// While it is suspended, one of its processes is killed.
    PauseLaunch,
}

/// A service of two processes, and what it has said on stderr.
struct Struck<'p> {
    place: &'p Place,
    words: String,
    service: Service,
    said: String,
}

impl Struck<'_> {
    fn launch(place: &Place, words: String) -> Struck<'_> {
        Struck { place, service: launched(place, &words), words, said: String::new() }
    }

    /// One of the processes that there are, once there is one.
    fn process(&self, random: &mut ChaCha8Rng) -> (u32, Vec<u32>) {
        let mut ids = Vec::new();
        until("a process", || {
            ids = processes(self.place);
            !ids.is_empty()
        });
        (ids[random.random_range(0..ids.len())], ids)
    }

    fn strike(mut self, blow: Blow, random: &mut ChaCha8Rng) -> Self {
        let some = |random: &mut ChaCha8Rng, most_ms| Duration::from_millis(random.random_range(1..most_ms));
        std::thread::sleep(some(random, 250));
        let (id, ids) = self.process(random);
        match blow {
            Blow::Kill => signal(id, "KILL"),
            Blow::Stop => signal(id, "STOP"),
            Blow::Pause => {
                signal(id, "STOP");
                std::thread::sleep(some(random, 1500));
                signal(id, "CONT");
            }
            Blow::KillAgain => {
                signal(id, "KILL");
                for _ in 0..2 {
                    std::thread::sleep(some(random, 700));
                    signal(self.process(random).0, "KILL");
                }
            }
            Blow::KillAll => ids.iter().for_each(|id| signal(*id, "KILL")),
            Blow::KillLaunch => {
                self.service.started.signal("KILL");
                self.said += &self.service.started.finish().stderr;
                until("the end of all processes", || processes(self.place).is_empty());
                self.service = launched(self.place, &self.words);
            }
            Blow::PauseLaunch => {
                self.service.started.signal("STOP");
                std::thread::sleep(some(random, 500));
                signal(id, "KILL");
                std::thread::sleep(some(random, 1500));
                self.service.started.signal("CONT");
            }
        }
        match blow {
            // It may have gone on as if nothing had been.
            Blow::Pause => self.service.until_ready(),
            // What is struck while it starts may be seen before or after.
            Blow::KillAgain => until("all processes", || processes(self.place).len() == 2),
            _ => {
                again(self.place, &self.service, &ids, 2);
            }
        }
        self
    }
}

fn launched(place: &Place, words: &str) -> Service {
    // Who is suspended before all have met is waited for so long.
    Service::launched(place, "-n 2 -w 1 --restart-window 1ms", &format!("{words} --join-timeout 10s"))
}

#[test]
fn whoever_is_struck_each_batch_counts_once() {
    let blows = std::env::var("KILL_RUNS").ok().map_or(BLOWS.len() as u64, |count| count.parse().unwrap());
    let place = Place::new();
    let mut struck = Struck::launch(&place, format!("{} --listen 127.0.0.1:{} --heartbeat 300ms", served(), free_port()));
    struck.service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let clients = KNOWN.map(|known| Clients::start(&struck.service.asker, known, 2, Duration::from_millis(15)));
    for (number, blow) in (1..=blows).zip(BLOWS.into_iter().cycle()) {
        eprintln!("blow {number}: {blow:?}");
        struck = struck.strike(blow, &mut ChaCha8Rng::seed_from_u64(number));
    }
    struck.service.until_ready();
    let sent = clients.map(Clients::finish);
    for (known, sent) in KNOWN.into_iter().zip(sent) {
        struck.service.same(known);
        each_came_once(&struck.service, known.dataflow(), sent);
        assert!(sent > 0);
    }
    let said = struck.said + &struck.service.end().stderr;
    let restarts = said.lines().filter(|line| line.contains("all start again in ")).count() as u64;
    eprintln!("{restarts} restarts, and {sent:?} batches");
    // One that is paused may not be noticed, and where `launch` is killed somebody else starts all again.
    assert!(restarts >= blows * 6 / 8, "{restarts} restarts: {said}");
    for expected in ["was ended by SIGKILL; all start again", "it gave no sign of life for "] {
        assert!(blows < 2 || said.contains(expected), "{said}");
    }
    place.run("verify --state state -w 2").succeeds();
}
