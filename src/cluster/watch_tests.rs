//! Processes that live, end, are silent, or say what they should not.

use super::*;
use crate::cluster::messages::Passed;
use crate::cluster::pulse::{BEAT, MESSAGE_BYTES, NOT_YET, message};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

const HEARTBEAT: Duration = Duration::from_millis(400);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream, listener.accept().unwrap().0)
}

fn watch(process: usize) -> (Watch, Receiver<Lost>) {
    let (sender, receiver) = channel();
    let addresses = ["a:1", "b:2", "c:3"].map(String::from).to_vec();
    let told = move |lost| drop(sender.send(lost));
    (Watch::start(Watched { process, addresses, heartbeat: HEARTBEAT, totals: Arc::default() }, told).unwrap(), receiver)
}

fn told(receiver: &Receiver<Lost>) -> String {
    receiver.recv_timeout(HEARTBEAT * 3 + Duration::from_secs(10)).unwrap().to_string()
}

/// A process that is watched by hand.
fn beat_until_told(other: &mut TcpStream, receiver: &Receiver<Lost>) -> Lost {
    loop {
        other.write_all(&message(BEAT, NOT_YET)).unwrap();
        if let Ok(lost) = receiver.recv_timeout(HEARTBEAT / 4) {
            return lost;
        }
    }
}

#[test]
fn two_that_live_are_content_and_part_without_a_loss() {
    let ((first, first_told), (second, second_told)) = (watch(0), watch(1));
    let (to, from) = pair();
    first.alarm().add(1, to);
    second.alarm().add(0, from);
    assert!(first_told.recv_timeout(HEARTBEAT * 5).is_err());
    first.finish();
    assert!(second_told.recv_timeout(HEARTBEAT * 5).is_err(), "the first has said that its work is done");
    second.finish();
    assert!(first_told.try_recv().is_err() && second_told.try_recv().is_err());
}

#[test]
fn who_ends_without_a_word_is_lost_at_once() {
    let ((first, _), (second, told_second)) = (watch(0), watch(1));
    let (to, from) = pair();
    first.alarm().add(1, to);
    second.alarm().add(0, from);
    drop(first);
    assert_eq!(told(&told_second), "lost process 0 at \"a:1\": its connection ended");
}

#[test]
fn who_is_silent_is_lost_within_three_heartbeats_and_the_others_are_told() {
    let (first, told_first) = watch(0);
    let ((silent, _kept), (to, mut other)) = (pair(), pair());
    let began = Instant::now();
    first.alarm().add(1, silent);
    first.alarm().add(2, to);
    let lost = beat_until_told(&mut other, &told_first);
    assert!(matches!(lost, Lost::Silent { process: 1, .. }), "{lost}");
    assert!(began.elapsed() > HEARTBEAT * 2);
    let mut said = Vec::new();
    other.read_to_end(&mut said).unwrap();
    assert_eq!(said[said.len() - MESSAGE_BYTES..], message(LOST, 1));
}

/// The one that was lost first is named, though another has ended since.
#[test]
fn who_was_lost_first_is_named() {
    let (first, told_first) = watch(0);
    let ((to, mut other), (gone, end)) = (pair(), pair());
    other.write_all(&[message(BEAT, 0), message(LOST, 2)].concat()).unwrap();
    drop((other, end));
    first.alarm().add(1, to);
    first.alarm().add(2, gone);
    assert_eq!(told(&told_first), "lost process 2 at \"c:3\": process 1 noticed it");
    let (second, told_second) = watch(2);
    let (to, mut other) = pair();
    other.write_all(&message(LOST, 2)).unwrap();
    second.alarm().add(0, to);
    assert_eq!(told(&told_second), "process 0 at \"a:1\" took this process for lost: it was suspended, or cut off");
}

#[test]
fn a_connection_of_workers_that_breaks_waits_for_what_signs_of_life_say() {
    let (first, told_first) = watch(0);
    let (to, mut other) = pair();
    first.alarm().add(1, to);
    first.alarm().cut(1, "reset".into());
    assert_eq!(beat_until_told(&mut other, &told_first).to_string(), "lost process 1 at \"b:2\": reset");
    let (first, told_first) = watch(0);
    let (to, mut other) = pair();
    first.alarm().add(1, to);
    first.alarm().cut(1, "reset".into());
    other.write_all(&message(LOST, 2)).unwrap();
    assert_eq!(told(&told_first), "lost process 2 at \"c:3\": process 1 noticed it");
}

#[test]
fn what_has_no_meaning_is_a_loss() {
    let (first, told_first) = watch(0);
    let (to, mut other) = pair();
    other.write_all(b"GET / HTTP").unwrap();
    first.alarm().add(1, to);
    assert_eq!(told(&told_first), "lost process 1 at \"b:2\": it says what has no meaning");
}

/// A process that gives signs of life, and reports how much of 100 bytes has arrived.
fn says(arrived: impl Fn(u32) -> u64) -> Option<Lost> {
    let (first, told_first) = watch(0);
    let (to, mut other) = pair();
    let traffic = Arc::new(Traffic::default());
    first.alarm().add(1, to);
    first.alarm().carries(1, Arc::clone(&traffic));
    traffic.wrote(100, Passed::default());
    let began = Instant::now();
    for beat in 0.. {
        // It may have ended the connection by then.
        other.write_all(&message(BEAT, arrived(beat))).ok();
        match told_first.recv_timeout(HEARTBEAT / 4) {
            Ok(lost) => return Some(lost),
            Err(_) if began.elapsed() > STALLED_MIN * 2 => break,
            Err(_) => {}
        }
    }
    first.finish();
    None
}

#[test]
fn a_connection_of_workers_that_stands_still_is_a_loss_and_a_slow_one_is_not() {
    let lost = says(|_| 99).unwrap();
    assert!(lost.to_string().starts_with("lost process 1 at \"b:2\": nothing of what was sent to it has arrived for 2"), "{lost}");
    for arrived in [(|beat| u64::from(beat / 10)) as fn(u32) -> u64, |_| 100, |_| NOT_YET] {
        assert_eq!(says(arrived), None);
    }
}
