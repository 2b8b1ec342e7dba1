//! Two processes with a way between them that is slow, cut and healed, or stands still: slower or started again, and never wrong.

use crate::launch::until;
use crate::processes::hosts;
use crate::support::known::{EVENTS, ONLINE, SERVERS, same, table};
use crate::support::program::{Place, Started};
use crate::support::service::{Asker, free_port};
use crate::support::wire::{Towards, Wire};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Process 1 connects for signs of life, and then for what workers send.
const DATA: usize = 1;
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Two processes, of which the second comes to the first by a way of its own.
struct Pair {
    place: Place,
    addresses: Vec<String>,
    port: u16,
}

impl Pair {
    fn new() -> Pair {
        let place = Place::new();
        let addresses = hosts(&place);
        Pair { place, addresses, port: free_port() }
    }

    /// Starts both with these words.
    fn start(&self, words: &str) -> ([Started; 2], Wire) {
        let wire = Wire::to(&self.addresses[0]);
        self.place.write("hosts-1", format!("{}\n{}\n", wire.address, self.addresses[1]));
        let first = self.place.start(&format!("{words} -n 2 -p 0 --hosts hosts"));
        // So that no connection of the second is in vain.
        until("process 0", || TcpStream::connect(&self.addresses[0]).is_ok());
        let second = self.place.start(&format!("{words} -n 2 -p 1 --hosts hosts-1"));
        ([first, second], wire)
    }

    /// Starts a service of both, and waits until it takes batches.
    fn serve(&self) -> ([Started; 2], Wire, Asker) {
        let words = format!("serve online {} --state state --listen 127.0.0.1:{} -w 1", ONLINE.set(), self.port);
        let (both, wire) = self.start(&words);
        let asker = Asker::new(both[0].line().strip_prefix("listening on ").unwrap().to_string());
        asker.until_ready();
        assert_eq!(wire.connections(), DATA + 1);
        (both, wire, asker)
    }
}

/// Sends all known events in parts under keys, from one of them on.
fn feed(asker: &Asker, from: usize) {
    for (part, lines) in ONLINE.lines.chunks(500).enumerate().skip(from) {
        let key = format!("part {part}");
        asker.post("/v1/online/events", &[("content-type", "text/csv"), ("idempotency-key", &key)], table(&EVENTS, lines)).ok();
    }
}

/// Whether a batch is not answered.
fn is_lost(asker: &Asker, part: usize) -> bool {
    let lines = ONLINE.lines.chunks(500).nth(part).unwrap();
    let key = format!("part {part}");
    let headers = [("content-type", "text/csv"), ("idempotency-key", key.as_str())];
    asker.try_post("/v1/online/events", &headers, table(&EVENTS, lines).as_bytes()).is_none_or(|answer| answer.status >= 500)
}

fn end([first, second]: [Started; 2]) {
    first.signal("TERM");
    first.finish().succeeds();
    second.finish().succeeds();
}

#[test]
fn a_slow_way_that_loses_some_changes_no_byte() {
    let pair = Pair::new();
    ONLINE.write_parts(&pair.place, 3);
    let part = |part: usize| format!("events=part{part}/events.csv servers=part{part}/servers.csv");
    let words = format!("{} {} --then '{}' --then '{}' -w 2 --out out", ONLINE.run(), part(2), part(1), part(0));
    let (both, wire) = pair.start(&words);
    wire.slow(Duration::from_millis(50));
    let began = Instant::now();
    both.into_iter().for_each(|process| drop(process.finish().succeeds()));
    same(&pair.place, "out", &ONLINE);
    assert!(began.elapsed() > Duration::from_millis(300), "three epochs there and back: {:?}", began.elapsed());
    assert!(wire.passed() > 10_000);
}

#[test]
fn a_way_that_is_cut_for_a_short_time_is_no_loss() {
    let pair = Pair::new();
    let (both, wire, asker) = pair.serve();
    asker.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let feeding = {
        let asker = asker.clone();
        std::thread::spawn(move || feed(&asker, 0))
    };
    for _ in 0..2 {
        wire.cut();
        std::thread::sleep(HEARTBEAT * 3 / 2);
        wire.heal();
        std::thread::sleep(HEARTBEAT / 2);
    }
    feeding.join().unwrap();
    asker.same(&ONLINE);
    end(both);
}

#[test]
fn after_a_way_was_cut_and_healed_both_start_again_and_nothing_is_lost() {
    let pair = Pair::new();
    let (both, wire, asker) = pair.serve();
    asker.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    is_lost(&asker, 0);
    wire.cut();
    let asked = asker.clone();
    let asking = std::thread::spawn(move || is_lost(&asked, 1));
    // Both have noticed it before it is healed.
    std::thread::sleep(HEARTBEAT * 3);
    wire.heal();
    for process in both {
        process.finish().must_start_again().names(&["it gave no sign of life for "]);
    }
    assert!(asking.join().unwrap(), "it can't have been computed");
    let (both, _wire, asker) = pair.serve();
    feed(&asker, 0);
    asker.same(&ONLINE);
    end(both);
    pair.place.run("verify --state state -w 1").succeeds();
}

/// Signs of life go on, and what workers send does not arrive.
#[test]
fn a_connection_of_workers_that_stands_still_is_noticed_and_nothing_is_lost() {
    for (towards, who) in [(Towards::Listener, 1), (Towards::Dialer, 0)] {
        let pair = Pair::new();
        let (both, wire, asker) = pair.serve();
        asker.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
        assert!(!is_lost(&asker, 0));
        // Where nothing is sent, nothing is missed. What workers say last is behind the answer.
        std::thread::sleep(HEARTBEAT / 2);
        wire.hold(DATA, towards);
        std::thread::sleep(HEARTBEAT * 4);
        wire.heal();
        assert!(!is_lost(&asker, 1));
        wire.hold(DATA, towards);
        let began = Instant::now();
        assert!(is_lost(&asker, 2));
        let errors = both.map(|process| process.finish().must_start_again().error);
        assert!(began.elapsed() < HEARTBEAT * 5, "{towards:?}: {:?}", began.elapsed());
        // Who has sent it names the other, and that one hears of it.
        let said = "nothing of what was sent to it has arrived for ";
        assert!(errors[who].contains(said) && errors[1 - who].contains("took this process for lost"), "{towards:?}: {errors:?}");
        let (both, _wire, asker) = pair.serve();
        feed(&asker, 0);
        asker.same(&ONLINE);
        end(both);
    }
}
