//! A mesh that strangers can't enter or stop, and what becomes of a process that loses another one.

use crate::processes::hosts;
use crate::support::known::{ONLINE, same};
use crate::support::program::{Failure, Place, Ran, Started, Unread};
use crate::support::service::Service;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub const SECRET: &str = "the secret of a cluster";
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Starts a process of two, with a secret and a file of addresses.
pub fn start(place: &Place, process: usize, words: &str, secret: Option<&str>) -> Started {
    let words = format!("{words} -n 2 -p {process}");
    let mut command = place.command(&words);
    command.stdin(Stdio::piped());
    if let Some(secret) = secret {
        command.env("RETALLY_CLUSTER_SECRET", secret);
    }
    Started::new(command, &words)
}

/// Both processes on the known records, which process 0 reads from its standard input: so they work until all is given.
pub const WAITING: &str = "events=- servers=all/servers.csv --input-format csv -w 1 --out out --hosts hosts";

/// Two processes that are at work, and wait for what process 0 is given.
pub fn at_work(place: &Place, words: &str) -> [Started; 2] {
    ONLINE.write_csv(place, "all");
    hosts(place);
    let words = format!("{} {WAITING} {words}", ONLINE.run());
    let mut both = [0, 1].map(|process| start(place, process, &words, Some(SECRET)));
    for process in &mut both {
        let id = process.id();
        process.until("its connection of workers", || has_thread(id, "timely:recv"));
    }
    both
}

/// Whether a process has a thread whose name begins so, by what Linux says of it.
pub fn has_thread(id: u32, name: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return false };
    let names = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("comm")).unwrap_or_default());
    names.into_iter().any(|thread| thread.starts_with(name))
}

/// Gives process 0 all events, and waits for the end of both.
pub fn complete(place: &Place, [mut first, second]: [Started; 2]) {
    first.give(&place.read("all/events.csv"));
    first.finish().succeeds();
    second.finish().succeeds();
    same(place, "out", &ONLINE);
}

/// Connects to a process that is about to listen, or listens.
pub fn knock(address: &str) -> TcpStream {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{address} does not listen: {error}"),
        }
    }
}

/// Waits until a connection is closed. Returns how long that took; nothing may be said on it.
fn dropped(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Ok(_) => panic!("a stranger is told something"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection stays open"),
    }
    began.elapsed()
}

/// Every kind of stranger at once, and each is dropped within 5 s.
fn strangers(address: &str) {
    let said: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        &[7; 65536],
        b"",
        b"retally",
        b"retally\x02 of an older version",
    ];
    let knocked = said.map(|said| {
        let mut stranger = knock(address);
        // It may be closed while more is said.
        stranger.write_all(said).ok();
        stranger
    });
    let mut slow = knock(address);
    let slow = std::thread::spawn(move || {
        let began = Instant::now();
        while slow.write_all(b"r").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(30), "one that is slow is heard for ever");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    for stranger in knocked {
        assert!(dropped(stranger) < Duration::from_secs(5));
    }
    slow.join().unwrap();
}

#[test]
fn strangers_at_the_start_and_at_work_change_nothing() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let addresses = hosts(&place);
    let words = format!("{} {WAITING}", ONLINE.run());
    let first = start(&place, 0, &words, Some(SECRET));
    strangers(&addresses[0]);
    let mut second = start(&place, 1, &words, Some(SECRET));
    let id = second.id();
    second.until("its connection of workers", || has_thread(id, "timely:recv"));
    addresses.iter().for_each(|address| strangers(address));
    complete(&place, [first, second]);
}

/// Starts both, and returns what they say in the end.
fn both(place: &Place, words: [&str; 2], secrets: [Option<&str>; 2]) -> [Ran; 2] {
    hosts(place);
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    let start = |process: usize| {
        let words = format!("run online events=events.csv -w 1 --out out --hosts hosts {}", words[process]);
        start(place, process, &words, secrets[process])
    };
    let (second, first) = (start(1), start(0));
    [first.finish(), second.finish()]
}

#[test]
fn another_secret_on_one_side_is_refused_and_shown_nowhere() {
    for secrets in [[Some(SECRET), Some("another secret than that")], [Some(SECRET), None], [None, Some(SECRET)]] {
        let place = Place::new();
        let [first, second] = both(&place, ["--join-timeout 4s", ""], secrets);
        for ran in [&first, &second] {
            assert!(!ran.stderr.contains(SECRET) && !ran.stderr.contains("another secret than"), "{}", ran.stderr);
        }
        first.fails().names(&["waited 4 s in vain for process 1 (127.", "a process with another secret came"]);
        let Failure { hint, .. } = second.fails().names(&["process 0 at \"127.", "it has another secret, or none"]);
        assert!(hint.is_some_and(|hint| hint.contains("--secret-file") && hint.contains("RETALLY_CLUSTER_SECRET")));
        assert!(!place.has("out"));
    }
}

#[test]
fn a_secret_comes_from_a_file_or_a_variable() {
    let place = Place::new();
    place.write("secret", format!("{SECRET}\n"));
    let ran = both(&place, ["--secret-file secret", ""], [None, Some(SECRET)]);
    ran.into_iter().for_each(|ran| drop(ran.succeeds()));
    assert!(place.has("out/online_daily.csv"));
}

#[test]
fn secrets_that_are_none_and_addresses_that_need_one() {
    let place = Place::new();
    place.write("events.csv", "");
    place.write("short", "fifteen letters\n");
    place.write("empty", "");
    place.write("long", "x".repeat(5000));
    place.write("open", "127.0.0.1:1\n0.0.0.0:2\n");
    place.write("named", "localhost:1\nhost.example:2\n");
    let run = |words: &str| place.run(&format!("run online events=events.csv -n 2 {words}"));
    run("--secret-file short").fails_as_wrong_usage().names(&["\"short\" has 15 bytes, and needs 16"]);
    run("--secret-file empty").fails_as_wrong_usage().names(&["\"empty\" has 0 bytes, and needs 16"]);
    run("--secret-file long").fails_as_wrong_usage().names(&["\"long\" has more than 4096 bytes"]);
    run("--secret-file none").fails_as_wrong_usage().names(&["could not read --secret-file \"none\""]);
    for (text, named) in [
        ("# mine\n127.0.0.1:2101\n127.0.0.1\n", "\"127.0.0.1\" in line 3, which is not HOST:PORT"),
        ("127.0.0.1:2101\n\n127.0.0.1:99999\n", "\"127.0.0.1:99999\" in line 3, which is not HOST:PORT"),
        ("127.0.0.1:0\n127.0.0.1:1\n", "\"127.0.0.1:0\" in line 1, which is not HOST:PORT"),
        ("127.0.0.1:2101\n127.0.0.1:2101\n", "\"127.0.0.1:2101\" in line 2, which stands there before"),
    ] {
        place.write("wrong", text);
        run("--hosts wrong").fails_as_wrong_usage().names(&["--hosts \"wrong\" has", named]);
    }
    for (hosts, open) in [("open", "0.0.0.0:2"), ("named", "host.example:2")] {
        let failure = run(&format!("--hosts {hosts}")).fails_as_wrong_usage().names(&["other hosts", open, "need a secret"]);
        assert!(failure.hint.is_some_and(|hint| hint.contains("--secret-file") && hint.contains("RETALLY_CLUSTER_SECRET")));
    }
    let words = "run online events=events.csv -n 2 -p 0";
    let short = start(&place, 0, "run online events=events.csv", Some("short"));
    let failure = short.finish().fails_as_wrong_usage().names(&["RETALLY_CLUSTER_SECRET has 5 bytes, and needs 16"]);
    assert!(failure.hint.is_some_and(|hint| !hint.contains("short")));
    for wrong in ["--heartbeat 1ms", "--heartbeat 2h", "--join-timeout 0s", "--join-timeout never"] {
        place.run(&format!("{words} {wrong}")).fails_in_the_parser();
    }
}

#[test]
fn settings_that_differ_are_named_with_both_values() {
    let place = Place::new();
    for (first, second, values) in [
        ("", "--timezone Europe/Berlin", ["timezone=UTC", "timezone=Europe/Berlin"]),
        ("--tables online_daily", "--tables online_issues", ["tables=online_daily", "tables=online_issues"]),
        ("--heartbeat 2s", "", ["heartbeat=2000 ms", "heartbeat=1000 ms"]),
        ("", "--not-before 2001-01-01", ["not-before=2000-01-01", "not-before=2001-01-01"]),
        ("", "--max-rejected 1", ["no max-rejected", "max-rejected=1"]),
        ("--header first", "", ["events.header=first", "no events.header"]),
        ("--map events.device_id=imei", "--map events.device_id=serial", ["events.device_id=imei", "events.device_id=serial"]),
        ("--then events=a.csv", "--then events=b.csv", ["batch-2=events=a.csv", "batch-2=events=b.csv"]),
    ] {
        for ran in both(&place, [first, second], [Some(SECRET), Some(SECRET)]) {
            ran.fails().names(&["was started with other arguments", values[0], values[1]]);
        }
    }
}

/// A second process 1 has an address of its own, and a hosts file of its own.
#[test]
fn two_processes_of_one_number_and_one_that_is_late() {
    let place = Place::new();
    let work = at_work(&place, "");
    let addresses = place.read("hosts");
    hosts(&place);
    let other = place.read("hosts");
    place.write("other", format!("{}\n{}\n", addresses.lines().next().unwrap(), other.lines().nth(1).unwrap()));
    place.write("hosts", addresses);
    let words = format!("{} {}", ONLINE.run(), WAITING.replace("--hosts hosts", "--hosts other"));
    let Failure { hint, .. } = start(&place, 1, &words, Some(SECRET))
        .finish()
        .must_start_again()
        .names(&["is at work with all its processes", "no further process 1"]);
    assert!(hint.is_some_and(|hint| hint.contains("-p") && hint.contains("start all again")));
    // The same number at the same address.
    start(&place, 1, &format!("{} {WAITING}", ONLINE.run()), Some(SECRET)).finish().fails().names(&["could not listen on \"127."]);
    complete(&place, work);
}

/// An address at which a process of another number answers.
#[test]
fn hosts_in_another_order_are_noticed() {
    let place = Place::new();
    place.write("events.csv", "");
    let addresses = hosts(&place);
    hosts(&place);
    let own = place.read("hosts");
    place.write("hosts", format!("{}\n{}\n", own.lines().next().unwrap(), addresses[1]));
    place.write("swapped", format!("{}\n{}\n", addresses[1], own.lines().nth(1).unwrap()));
    let words = "run online events=events.csv -w 1 --join-timeout 3s --hosts";
    let first = start(&place, 1, &format!("{words} hosts"), Some(SECRET));
    let second = start(&place, 1, &format!("{words} swapped"), Some(SECRET));
    second.finish().fails().names(&["could not reach process 0", "within 3 s"]);
    first.finish().fails().names(&["could not reach process 0", "within 3 s"]);
}

/// Ends one of two that are at work, and looks how the other one ends: in time, with one line that names the first.
fn loses(signal: &str, lost: usize, why: &str) {
    let place = Place::new();
    let work = at_work(&place, "--changes changes");
    let began = Instant::now();
    work[lost].signal(signal);
    let [first, second] = work;
    let (gone, left) = if lost == 0 { (first, second) } else { (second, first) };
    let Failure { error, hint } = left.finish().must_start_again();
    let took = began.elapsed();
    assert!(error.starts_with(&format!("lost process {lost} at \"127.")) && error.contains(why), "{error}");
    assert!(hint.is_some_and(|hint| hint.contains("start all processes again")));
    assert!(took < HEARTBEAT * 3 + HEARTBEAT / 2, "{took:?}, with the time that a busy machine takes to end a process");
    if signal == "STOP" {
        gone.signal("CONT");
        gone.finish().must_start_again().names(&["took this process for lost"]);
    } else {
        assert_eq!(gone.finish().code, None, "it was killed");
    }
    if (signal, lost) != ("KILL", 0) {
        assert_eq!(place.names("."), ["all", "hosts"], "nothing is left of what was begun");
    }
}

#[test]
fn a_process_that_is_killed_is_noticed() {
    for lost in [0, 1] {
        loses("KILL", lost, "its connection ended");
    }
}

#[test]
fn a_process_that_is_suspended_is_noticed_and_hears_of_it() {
    for lost in [0, 1] {
        loses("STOP", lost, "no sign of life for 2");
    }
}

/// What it would say of it waits for ever in a pipe that is full.
#[test]
fn a_process_that_nobody_reads_ends_all_the_same_when_another_is_lost() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    hosts(&place);
    let words = format!("{} {WAITING}", ONLINE.run());
    let unread = Unread::new();
    let mut command = place.command(&format!("{words} -n 2 -p 0"));
    command.stdin(Stdio::piped()).stderr(unread.end()).env("RETALLY_CLUSTER_SECRET", SECRET);
    let mut both = [Started::new(command, &words), start(&place, 1, &words, Some(SECRET))];
    for process in &mut both {
        let id = process.id();
        process.until("its connection of workers", || has_thread(id, "timely:recv"));
    }
    unread.fill();
    let [first, second] = both;
    let began = Instant::now();
    second.signal("KILL");
    assert_eq!(first.finish().code, Some(5));
    assert!(began.elapsed() < HEARTBEAT * 5, "{:?}", began.elapsed());
}

/// The third is suspended; both others name it, whoever notices it first.
#[test]
fn all_others_name_the_first_that_was_lost() {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    let addresses = hosts(&place);
    hosts(&place);
    let third = place.read("hosts").lines().next().unwrap().to_string();
    place.write("hosts", format!("{}\n{third}\n", addresses.join("\n")));
    for signal in ["KILL", "STOP"] {
        let mut all = [0, 1, 2].map(|process| {
            let words = format!("run online events=- --input-format csv -w 1 --heartbeat 500ms --hosts hosts -n 3 -p {process}");
            let mut command = place.command(&words);
            command.stdin(Stdio::piped());
            Started::new(command, &words)
        });
        for process in &mut all {
            let id = process.id();
            process.until("its connections of workers", || has_thread(id, "timely:recv"));
        }
        let [first, second, last] = all;
        last.signal(signal);
        for process in [first, second] {
            process.finish().must_start_again().names(&["lost process 2 at \"127."]);
        }
    }
}

/// Who asks for no more than that the disk has a batch is not sent away while others are awaited.
#[test]
fn a_durable_batch_waits_until_all_processes_are_there() {
    let place = Place::new();
    hosts(&place);
    let words = |process: usize| format!("online -w 1 --hosts hosts -n 2 -p {process}");
    let service = Service::begin(&place, &words(0));
    let line = "2024-03-01 08:00:00,1,7,1,true";
    service.csv("/v1/online/events", line).refused(503, "recovering");
    let asker = service.asker.clone();
    let waiting = std::thread::spawn(move || asker.csv("/v1/online/events?wait=durable", line));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    let second = place.start(&format!("serve {} --state state", words(1)));
    assert_eq!(waiting.join().unwrap().ok().json()["epoch"], 1);
    service.until_ready();
    service.started.signal("TERM");
    service.started.finish().succeeds();
    second.finish().succeeds();
}

/// Writes an authority, and a certificate of it for a host with its key.
pub fn certify(place: &Place, folder: &str, host: &str) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    place.write(&format!("{folder}/cert"), CertificateParams::new([host.to_string()]).unwrap().signed_by(&key, &authority).unwrap().pem());
    place.write(&format!("{folder}/key"), key.serialize_pem());
    place.write(&format!("{folder}/ca"), authority.pem());
}

pub fn tls(folder: &str) -> String {
    format!("--tls-cert {folder}/cert --tls-key {folder}/key --tls-ca {folder}/ca")
}

#[test]
fn processes_that_are_secured_give_the_same_bytes_and_notice_who_is_lost() {
    let place = Place::new();
    let host = hosts(&place)[0].rsplit_once(':').unwrap().0.to_string();
    certify(&place, "tls", &host);
    ONLINE.write_csv(&place, "all");
    let words = format!("{} {WAITING} {}", ONLINE.run(), tls("tls"));
    for signal in [None, Some("KILL"), Some("STOP")] {
        let addresses = place.read("hosts");
        let mut both = [0, 1].map(|process| start(&place, process, &words, Some(SECRET)));
        for process in &mut both {
            let id = process.id();
            process.until("its connection of workers", || has_thread(id, "timely:recv"));
        }
        let Some(signal) = signal else {
            addresses.lines().for_each(strangers);
            complete(&place, both);
            continue;
        };
        let [first, second] = both;
        let began = Instant::now();
        second.signal(signal);
        first.finish().must_start_again().names(&["lost process 1 at \"127."]);
        assert!(began.elapsed() < HEARTBEAT * 4, "{:?}", began.elapsed());
    }
}

#[test]
fn certificates_that_are_not_believed_are_refused() {
    let place = Place::new();
    let host = hosts(&place)[0].rsplit_once(':').unwrap().0.to_string();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    certify(&place, "ours", &host);
    certify(&place, "theirs", &host);
    certify(&place, "elsewhere", "b.example");
    let (ours, elsewhere) = (tls("ours"), tls("elsewhere"));
    let theirs = format!("{} --tls-ca ours/ca", tls("theirs").replace(" --tls-ca theirs/ca", ""));
    let here = place.read("hosts");
    for (words, first_says, second_says) in [
        // Of another authority, which only the first refuses.
        (
            [ours.as_str(), theirs.as_str()],
            "someone without a certificate that is believed came",
            "it refuses the certificate of this process: ",
        ),
        ([theirs.as_str(), ours.as_str()], "someone who does not believe the certificate of this process came", "invalid peer certificate"),
        // For another host.
        ([elsewhere.as_str(), elsewhere.as_str()], "waited 3 s in vain for process 1", "not valid for name"),
        // One of them without.
        ([ours.as_str(), ""], "waited 3 s in vain for process 1", "could not reach process 0"),
        (["", ours.as_str()], "waited 3 s in vain for process 1", "could not reach process 0"),
    ] {
        place.write("hosts", &here);
        let start = |process: usize| {
            // Both give up at the same time, whoever ends first: what they have heard before counts.
            let words = format!("run online events=events.csv -w 1 --out out --hosts hosts --join-timeout 3s {}", words[process]);
            start(&place, process, &words, Some(SECRET))
        };
        let (first, second) = (start(0), start(1));
        first.finish().fails().names(&[first_says]);
        second.finish().fails().names(&[second_says]);
        assert!(!place.has("out"));
    }
    let failure =
        place.run("run online events=events.csv -n 2 --tls-cert ours/cert --tls-key ours/key --tls-ca events.csv").fails_as_wrong_usage();
    failure.names(&["there are no certificates in \"events.csv\""]);
    place.run("run online events=events.csv -n 2 --tls-ca ours/ca").fails_in_the_parser();
    let without = place.run("run online events=events.csv -n 2 --tls-cert ours/cert --tls-key ours/key").fails_as_wrong_usage();
    assert!(without.names(&["--tls-cert without --tls-ca"]).hint.is_some_and(|hint| hint.contains("--tls-ca FILE")));
}
