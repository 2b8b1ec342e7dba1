//! Processes that are threads here, and strangers among them.

use super::*;
use crate::cluster::handshake::{Dialer, Heard, Verdict};
use crate::cluster::secret::Secret;
use crate::cluster::{HEARTBEAT, Membership};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const SECRET: &[u8] = b"the secret of a cluster";

fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// A process, before it is started.
struct Process {
    addresses: Vec<String>,
    process: usize,
    fingerprint: u64,
    shown: u64,
    secret: Secret,
    join_timeout: Duration,
}

/// A process on a thread, and what it is told of others that are lost.
struct Started(JoinHandle<Result<Mesh, MeshError>>, Receiver<Lost>);

impl Process {
    fn start(self) -> Started {
        let Process { addresses, process, fingerprint, shown, secret, join_timeout } = self;
        let membership = Membership { secret, join_timeout, heartbeat: HEARTBEAT, ..Membership::default() };
        let cluster = Cluster { workers: 2, process, addresses, membership };
        let (sender, receiver) = channel();
        let meet = move || {
            let meeting = Meeting {
                fingerprint,
                terms: format!("number={fingerprint}\n"),
                shown,
                relays: false,
                sees: &|shown| if shown < 100 { Ok(()) } else { Err(Unseen { sight: Sight::NotState, why: "it is not there".into() }) },
            };
            connect(&cluster, &meeting, move |lost| drop(sender.send(lost)))
        };
        Started(std::thread::spawn(meet), receiver)
    }
}

impl Started {
    #[track_caller]
    fn joins(self) -> Mesh {
        self.0.join().unwrap().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn fails(self) -> MeshError {
        self.0.join().unwrap().map(|_| ()).unwrap_err()
    }
}

fn process(addresses: &[String], process: usize) -> Process {
    let secret = Secret::new(SECRET).unwrap();
    Process { addresses: addresses.to_vec(), process, fingerprint: 7, shown: 0, secret, join_timeout: Duration::from_secs(60) }
}

fn knock(address: &str) -> TcpStream {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "nobody listens: {error}"),
        }
    }
}

/// All that someone says until it closes the connection, and when.
fn heard(stream: &mut TcpStream) -> (Vec<u8>, Duration) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut bytes, began, mut block) = (Vec::new(), Instant::now(), [0; 4096]);
    loop {
        match stream.read(&mut block) {
            Ok(0) => return (bytes, began.elapsed()),
            Ok(read) => bytes.extend(&block[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return (bytes, began.elapsed()),
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}

fn meet(first: Started, second: Started) {
    let (mut first, mut second) = (first.joins(), second.joins());
    let (to, from) = (first.links[1].as_mut().unwrap(), second.links[0].as_mut().unwrap());
    to.write_all(b"x").unwrap();
    let mut byte = [0];
    from.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x", "the ends of one connection");
}

#[test]
fn three_processes_meet_among_strangers() {
    let addresses = free_addresses(3);
    let first = process(&addresses, 0).start();
    // A stranger that speaks and one that is silent.
    knock(&addresses[0]).write_all(&[b'x'; 100]).unwrap();
    let _silent = knock(&addresses[0]);
    let third = process(&addresses, 2).start();
    let second = process(&addresses, 1).start();
    let meshes = [first, second, third].map(Started::joins);
    let connected = |mesh: &Mesh| mesh.links.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(meshes.iter().map(connected).collect::<Vec<_>>(), [[false, true, true], [true, false, true], [true, true, false]]);
}

#[test]
fn other_arguments_are_refused_and_named_on_both_sides() {
    let addresses = free_addresses(2);
    let (first, second) = (process(&addresses, 0).start(), Process { fingerprint: 8, ..process(&addresses, 1) }.start());
    let said = [first, second].map(|process| process.fails().to_string());
    let heading = "was started with other arguments: it has number=";
    assert_eq!(said, [format!("process 1 {heading}8, this one number=7"), format!("process 0 {heading}7, this one number=8")]);
}

#[test]
fn another_secret_is_refused_by_who_connects_and_who_listens_waits_on() {
    let addresses = free_addresses(2);
    let first = Process { join_timeout: Duration::from_secs(8), ..process(&addresses, 0) }.start();
    let second = Process { secret: Secret::new(b"the secret of others").unwrap(), ..process(&addresses, 1) }.start();
    let said = second.fails().to_string();
    assert!(said.starts_with("process 0 at ") && said.ends_with("it has another secret, or none"), "{said}");
    let said = first.fails().to_string();
    let waited = format!("waited 8 s in vain for process 1 ({}) to connect; a process with another secret came", addresses[1]);
    assert_eq!(said, waited);
}

#[test]
fn who_does_not_see_what_is_shown_is_refused_by_both() {
    let start = |shown: u64| {
        let addresses = free_addresses(2);
        [Process { shown, ..process(&addresses, 0) }.start(), process(&addresses, 1).start()]
    };
    assert_eq!(start(99).map(|process| process.joins().shown), [99, 99]);
    let [first, second] = start(100).map(|process| process.fails().to_string());
    let heading = "process 1 does not see the state of process 0: on \"127.0.0.1:";
    assert!(first.starts_with(heading) && first.ends_with("is another one, or can't be read"), "{first}");
    assert!(second.starts_with(heading) && second.ends_with("it is not there"), "{second}");
}

/// Requests, bytes by chance, silence, and one byte after the other: all are dropped within 5 s, and told nothing.
#[test]
fn strangers_are_dropped_in_time_and_hold_up_nobody() {
    let addresses = free_addresses(2);
    let first = process(&addresses, 0).start();
    let (_, hello) = Dialer::new(Secret::none(), [1; 32]);
    let said: [&[u8]; 7] =
        [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", &[7; 5000], b"", b"ret", b"retally\x02 older", &hello[..20]];
    let mut strangers = said.map(|said| {
        let mut stranger = knock(&addresses[0]);
        stranger.write_all(said).ok();
        stranger
    });
    let mut slow = knock(&addresses[0]);
    let slow = std::thread::spawn(move || {
        let began = Instant::now();
        for byte in hello.iter().cycle() {
            if slow.write_all(&[*byte]).is_err() {
                return began.elapsed();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        unreachable!("a cycle has no end");
    });
    for stranger in &mut strangers {
        let (bytes, after) = heard(stranger);
        assert!(bytes.is_empty() && after < Duration::from_secs(5), "{bytes:?} {after:?}");
    }
    let after = slow.join().unwrap();
    assert!(after < Duration::from_secs(6), "one that is closed is noticed by the second byte behind: {after:?}");
    let _crowd: Vec<TcpStream> = (0..200).map(|_| knock(&addresses[0])).collect();
    meet(first, process(&addresses, 1).start());
}

/// Who knows the protocol and not the secret gets numbers by chance, and no word of what is run.
#[test]
fn who_only_knows_the_protocol_is_told_nothing() {
    let addresses = free_addresses(2);
    let _first = Process { join_timeout: Duration::from_secs(5), ..process(&addresses, 0) }.start();
    let mut liar = knock(&addresses[0]);
    let (mut dialer, hello) = Dialer::new(Secret::new(b"some other secret").unwrap(), [1; 32]);
    liar.write_all(&hello).unwrap();
    let mut challenge = vec![0; dialer.length().unwrap()];
    liar.read_exact(&mut challenge).unwrap();
    let Ok(Heard::Reply(proof)) = dialer.hear(&challenge) else { panic!("a challenge is one") };
    liar.write_all(&proof).unwrap();
    assert_eq!(heard(&mut liar).0, b"");
}

/// Says all that a process says. Returns what it hears in the end.
fn speak(address: &str, claims: impl Fn(Claims) -> Claims) -> (TcpStream, Verdict) {
    let mut stream = knock(address);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut dialer, hello) = Dialer::new(Secret::new(SECRET).unwrap(), nonce().unwrap());
    stream.write_all(&hello).unwrap();
    loop {
        let mut bytes = vec![0; dialer.length().unwrap()];
        stream.read_exact(&mut bytes).unwrap();
        match dialer.hear(&bytes).unwrap() {
            Heard::Reply(proof) => stream.write_all(&proof).unwrap(),
            Heard::Claims(theirs) => {
                let ours = claims(Claims { process: 1, incarnation: 5, ..*theirs });
                stream.write_all(&dialer.claim(&ours).unwrap()).unwrap();
            }
            Heard::Verdict(verdict) => return (stream, verdict),
            Heard::Proved => unreachable!("said by who listens alone"),
        }
    }
}

#[test]
fn while_all_work_one_that_comes_late_is_told_so_and_strangers_nothing() {
    let addresses = free_addresses(2);
    let (first, second) = (process(&addresses, 0).start(), process(&addresses, 1).start());
    let meshes = [first, second].map(Started::joins);
    let late = process(&[addresses[0].clone(), free_addresses(1).remove(0)], 1).start();
    let error = late.fails();
    assert!(matches!(error, MeshError::Late { process: 1, by: 0, .. }) && error.is_start_again(), "{error}");
    for (claims, verdict) in [
        ((|claims| Claims { generation: Generation(1), ..claims }) as fn(Claims) -> Claims, Verdict::Older),
        (|claims| Claims { generation: Generation(u64::MAX), ..claims }, Verdict::Newer),
        (|claims| Claims { workers: 9, ..claims }, Verdict::Disagrees),
        (|claims| Claims { process: 2, ..claims }, Verdict::OutOfRange),
    ] {
        assert_eq!(speak(&addresses[0], claims).1, verdict);
    }
    let mut stranger = knock(&addresses[0]);
    stranger.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(heard(&mut stranger).0, b"");
    meshes.into_iter().for_each(|mesh| mesh.ties.finish());
}

#[test]
fn two_of_one_number_are_told_apart_and_one_of_another_start_too() {
    let addresses = free_addresses(2);
    let first = process(&addresses, 0).start();
    let (mut one, verdict) = speak(&addresses[0], |claims| claims);
    assert_eq!(verdict, Verdict::Welcome);
    let error = process(&addresses, 1).start().fails();
    assert!(matches!(error, MeshError::Taken { process: 1, by: 0, .. }) && error.is_start_again(), "{error}");
    assert_eq!(speak(&addresses[0], |claims| Claims { generation: Generation(1), ..claims }).1, Verdict::Older);
    // The one that is connected ends while others are awaited.
    one.write_all(&[1, 1, 0]).unwrap();
    drop(one);
    let lost = first.1.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(lost, Lost::Ended { process: 1, .. }), "{lost}");
}

/// Process 1 learns the generation from process 0, and may not be asked for it before.
#[test]
fn one_that_waits_for_process_0_lets_others_wait() {
    let addresses = free_addresses(3);
    let second = process(&addresses, 1).start();
    let asks = addresses[1].clone();
    let third = std::thread::spawn(move || speak(&asks, |claims| Claims { process: 2, ..claims }));
    let first = process(&addresses, 0).start();
    let (_, verdict) = third.join().unwrap();
    assert_eq!(verdict, Verdict::Welcome);
    drop((first, second));
}

#[test]
fn who_is_awaited_is_named() {
    let addresses = free_addresses(3);
    let waits = |process: Process| Process { join_timeout: Duration::from_secs(2), ..process }.start().fails().to_string();
    let said = waits(process(&addresses, 0));
    assert_eq!(said, format!("waited 2 s in vain for process 1 ({}), process 2 ({}) to connect", addresses[1], addresses[2]));
    let said = waits(process(&addresses, 1));
    assert!(said.starts_with(&format!("could not reach process 0 at {:?} within 2 s: ", addresses[0])), "{said}");
}

/// How often its name is looked up until a process listens, or gives up.
fn looked_up(address: &str, led_to: &[Option<&str>]) -> (usize, Result<(), String>) {
    let (count, timeout) = (std::cell::Cell::new(0), Duration::from_secs(1));
    let resolve = |_: &str| {
        let now = count.replace(count.get() + 1).min(led_to.len() - 1);
        match led_to[now] {
            Some(found) => Ok(vec![found.parse().unwrap()]),
            None => Err(io::Error::other("no such name")),
        }
    };
    let listened = listen(address.into(), timeout, Instant::now() + timeout, resolve);
    (count.get(), listened.map(drop).map_err(|error| error.to_string()))
}

/// 192.0.2.0/24 is of nobody.
#[test]
fn a_name_that_does_not_lead_here_yet_is_looked_up_again() {
    let elsewhere = Some("192.0.2.1:0");
    assert_eq!(looked_up("a.example:1", &[None, elsewhere, Some("127.0.0.1:0")]), (3, Ok(())));
    let (count, said) = looked_up("a.example:1", &[None]);
    assert!(count > 3);
    assert_eq!(said, Err("could not listen on \"a.example:1\": no such name (tried for 1 s)".into()));
    let (count, said) = looked_up("a.example:1", &[elsewhere]);
    assert!(count > 3 && said.is_err_and(|said| said.ends_with("(tried for 1 s)")));
    // What will not pass.
    let (count, said) = looked_up("192.0.2.1:1", &[elsewhere]);
    assert!(count == 1 && said.is_err());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (count, said) = looked_up("a.example:1", &[Some(&taken.local_addr().unwrap().to_string())]);
    assert!(count == 1 && said.is_err());
}

/// As Debian writes names of hosts into /etc/hosts.
#[test]
fn a_process_that_listens_where_others_can_not_reach_it_says_so() {
    let resolve = |address: &str| match address {
        "a.example:1" => vec!["127.0.1.1:1".parse().unwrap()],
        "b.example:1" => vec!["192.0.2.1:1".parse().unwrap()],
        "localhost:2" => vec!["[::1]:2".parse().unwrap(), "127.0.0.1:2".parse().unwrap()],
        _ => Vec::new(),
    };
    let [here, open] = ["127.0.1.1:1", "192.0.2.9:1"].map(|address| address.parse::<SocketAddr>().unwrap());
    let hidden =
        |listens_at, others: &[&str]| is_hidden(listens_at, &others.iter().map(|other| (*other).into()).collect::<Vec<_>>(), resolve);
    assert!(hidden(here, &["a.example:1", "b.example:1"]) && hidden(here, &["a.example:1", "unknown:1"]));
    assert!(!hidden(here, &["a.example:1", "localhost:2"]) && !hidden(open, &["a.example:1", "b.example:1"]));
    let absent = MeshError::Absent { awaited: "process 1 (b.example:1)".into(), seconds: 4, came: String::new() };
    let said = "waited 4 s in vain for process 1 (b.example:1) to connect; at \"a.example:1\" this process listens on 127.0.1.1 only, \
                which other hosts can't reach";
    assert_eq!(absent.hidden("a.example:1", here).to_string(), said);
}
