//! Every way in which a handshake can go wrong, as tables.

use super::*;
use crate::cluster::claims::tests::claims;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

fn right() -> Secret {
    secret("the secret of a cluster")
}

fn ours() -> Claims {
    Claims { process: 0, ..claims() }
}

/// Who heard a message that it refused, and which of the six.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    message: usize,
    why: Refused,
}

/// A whole handshake, in which each message may be changed on its way. Returns what was sent, and how it ended.
fn converse(secrets: [Secret; 2], nonces: [u8; 2], mut change: impl FnMut(usize, &mut Vec<u8>)) -> (Vec<Vec<u8>>, Result<Verdict, Failed>) {
    let [first, second] = secrets;
    let (mut dialer, mut message) = Dialer::new(first, [nonces[0]; NONCE_BYTES]);
    let mut listener = Listener::new(second, [nonces[1]; NONCE_BYTES]);
    let mut sent = Vec::new();
    for number in 1..=6 {
        sent.push(message.clone());
        change(number, &mut message);
        let heard = if number % 2 == 1 { listener.hear(&message) } else { dialer.hear(&message) };
        let heard = match heard {
            Ok(heard) => heard,
            Err(why) => return (sent, Err(Failed { message: number, why })),
        };
        message = match heard {
            Heard::Reply(reply) => reply,
            Heard::Proved => listener.claim(&ours()).unwrap(),
            Heard::Claims(theirs) if number == 4 => {
                assert_eq!(*theirs, ours());
                dialer.claim(&claims()).unwrap()
            }
            Heard::Claims(theirs) => {
                assert_eq!(*theirs, claims());
                listener.judge(Verdict::Welcome).unwrap()
            }
            Heard::Verdict(verdict) => return (sent, Ok(verdict)),
        };
    }
    unreachable!("the sixth message is the last");
}

fn honest(nonces: [u8; 2]) -> Vec<Vec<u8>> {
    let (sent, end) = converse([right(), right()], nonces, |_, _| {});
    assert_eq!(end, Ok(Verdict::Welcome));
    sent
}

#[test]
fn both_ends_hear_the_claims_of_the_other_and_each_verdict() {
    assert_eq!(honest([1, 2]).len(), 6);
    // Without a secret too, as on one host.
    assert_eq!(converse([Secret::none(), Secret::none()], [1, 2], |_, _| {}).1, Ok(Verdict::Welcome));
    for verdict in Verdict::ALL {
        assert_eq!(Verdict::ALL[usize::from(verdict.to_byte())], verdict);
    }
}

#[test]
fn who_has_another_secret_or_none_is_refused_before_anything_is_claimed() {
    for [first, second] in [
        [right(), secret("the secret of another")],
        [secret("the secret of another"), right()],
        [right(), Secret::none()],
        [Secret::none(), right()],
    ] {
        let (sent, end) = converse([first, second], [1, 2], |_, _| {});
        assert_eq!(end, Err(Failed { message: 3, why: Refused::Unproved }));
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [GREETING_BYTES, GREETING_BYTES, PROOF_BYTES]);
    }
}

/// Any change of any byte is refused, where it is heard or, for nonces, by the first proof that has them.
#[test]
fn each_byte_that_is_changed_is_refused() {
    let lengths: Vec<usize> = honest([1, 2]).iter().map(Vec::len).collect();
    for (at, length) in lengths.iter().enumerate() {
        let number = at + 1;
        // Each byte of what is short and of all fields; of the zeros behind terms some.
        for byte in (0..*length).filter(|byte| *byte < 200 || *byte > length - 40 || byte % 97 == 0) {
            for bit in [1, 0x80] {
                let (_, end) = converse([right(), right()], [1, 2], |message, bytes| {
                    if message == number {
                        bytes[byte] ^= bit;
                    }
                });
                let failed = match (number, byte) {
                    (1 | 2, byte) if byte < NAME.len() => Failed { message: number, why: Refused::Stranger },
                    (1 | 2, byte) if byte == NAME.len() => Failed { message: number, why: Refused::OtherProtocol },
                    (1 | 2, _) => Failed { message: 3, why: Refused::Unproved },
                    _ => Failed { message: number, why: Refused::Unproved },
                };
                assert_eq!(end, Err(failed), "byte {byte} of message {number}");
            }
        }
    }
}

#[test]
fn what_is_cut_or_longer_is_refused() {
    for number in 1..=6 {
        let change = |change: fn(&mut Vec<u8>)| {
            converse([right(), right()], [1, 2], |message, bytes| {
                if message == number {
                    change(bytes);
                }
            })
            .1
        };
        let refused = Err(Failed { message: number, why: Refused::Stranger });
        assert_eq!(change(|bytes| bytes.truncate(bytes.len() - 1)), refused);
        assert_eq!(change(|bytes| bytes.push(0)), refused);
        assert_eq!(change(Vec::clear), refused);
    }
}

/// What was said on one connection is worth nothing on another one, whichever nonce is the same.
#[test]
fn what_is_said_again_on_another_connection_is_refused() {
    let old = honest([1, 2]);
    for nonces in [[1, 4], [3, 2], [3, 4]] {
        for number in 3..=6 {
            let (_, end) = converse([right(), right()], nonces, |message, bytes| {
                if message == number {
                    bytes.clone_from(&old[number - 1]);
                }
            });
            assert_eq!(end, Err(Failed { message: number, why: Refused::Unproved }), "{nonces:?}");
        }
        // A whole connection, said again by one end alone.
        let mut listener = Listener::new(right(), [nonces[1]; NONCE_BYTES]);
        if nonces[1] != 2 {
            listener.hear(&old[0]).unwrap();
            assert_eq!(listener.hear(&old[2]), Err(Refused::Unproved));
        }
        let (mut dialer, _) = Dialer::new(right(), [nonces[0]; NONCE_BYTES]);
        if nonces[0] != 1 {
            dialer.hear(&old[1]).unwrap();
            assert_eq!(dialer.hear(&old[3]), Err(Refused::Unproved));
        }
    }
}

/// A mirror has no secret, and sends back what it hears, here or from another connection to the same process.
#[test]
fn what_is_reflected_is_refused() {
    let (mut dialer, hello) = Dialer::new(right(), [1; NONCE_BYTES]);
    assert_eq!(dialer.hear(&hello), Err(Refused::Stranger), "its own nonce");
    // To who connects: the words of another process that connects.
    let (mut dialer, hello) = Dialer::new(right(), [1; NONCE_BYTES]);
    let (mut other, other_hello) = Dialer::new(right(), [2; NONCE_BYTES]);
    let Ok(Heard::Reply(proof)) = other.hear(&hello) else { panic!("a greeting is one") };
    dialer.hear(&other_hello).unwrap();
    let mut padded = proof;
    padded.resize(CLAIMS_BYTES + PROOF_BYTES, 0);
    assert_eq!(dialer.hear(&padded), Err(Refused::Unproved));
    // To who listens: its own words.
    let mut listener = Listener::new(right(), [3; NONCE_BYTES]);
    let Ok(Heard::Reply(challenge)) = listener.hear(&greeting(&[1; NONCE_BYTES])) else { panic!("a greeting is one") };
    assert_eq!(Listener::new(right(), [3; NONCE_BYTES]).hear(&challenge), Err(Refused::Stranger), "its own nonce");
    assert_eq!(listener.hear(&challenge[..PROOF_BYTES]), Err(Refused::Unproved));
    // Its claims, as those of who connects.
    let sent = honest([1, 2]);
    let (_, end) = converse([right(), right()], [1, 2], |message, bytes| {
        if message == 5 {
            bytes.clone_from(&sent[3]);
        }
    });
    assert_eq!(end, Err(Failed { message: 5, why: Refused::Unproved }));
}

/// Every message at every other place, for both ends.
#[test]
fn what_comes_in_another_order_is_refused() {
    let sent = honest([1, 2]);
    for number in 1..=6 {
        for other in (1..=6).filter(|other| *other != number) {
            let (_, end) = converse([right(), right()], [1, 2], |message, bytes| {
                if message == number {
                    bytes.clone_from(&sent[other - 1]);
                }
            });
            let Failed { message, .. } = end.expect_err("another message");
            assert!(message == number || message == 3, "message {other} for {number}");
        }
    }
}

#[test]
fn an_end_speaks_only_in_its_turn_and_hears_nothing_after_an_error() {
    let sent = honest([1, 2]);
    let mut listener = Listener::new(right(), [2; NONCE_BYTES]);
    assert_eq!((listener.claim(&ours()), listener.judge(Verdict::Welcome)), (None, None));
    assert!(!listener.is_greeted());
    listener.hear(&sent[0]).unwrap();
    assert!(listener.is_greeted());
    assert_eq!((listener.claim(&ours()), listener.judge(Verdict::Welcome)), (None, None));
    assert!(!listener.is_proved());
    listener.hear(&sent[2]).unwrap();
    assert_eq!((listener.judge(Verdict::Welcome), listener.length(), listener.is_proved()), (None, None, true));
    let mut other = Listener::new(right(), [2; NONCE_BYTES]);
    other.hear(&sent[0]).unwrap();
    assert_eq!(other.hear(&[0; PROOF_BYTES]), Err(Refused::Unproved));
    assert_eq!((other.hear(&sent[2]), other.length(), other.claim(&ours())), (Err(Refused::Stranger), None, None));
    let (mut dialer, _) = Dialer::new(right(), [1; NONCE_BYTES]);
    assert_eq!(dialer.claim(&claims()), None);
    dialer.hear(&sent[1]).unwrap();
    assert_eq!(dialer.claim(&claims()), None);
}

#[test]
fn strangers_are_known_by_their_first_bytes() {
    let listener = Listener::new(right(), [2; NONCE_BYTES]);
    let (dialer, _) = Dialer::new(right(), [1; NONCE_BYTES]);
    for (begun, looks) in [
        (&b""[..], Ok(())),
        (b"r", Ok(())),
        (b"retally", Ok(())),
        (b"retally\x05", Ok(())),
        (b"retally\x02", Err(Refused::OtherProtocol)),
        (b"retally\x06more", Err(Refused::OtherProtocol)),
        (b"G", Err(Refused::Stranger)),
        (b"GET / HTTP/1.1", Err(Refused::Stranger)),
        (b"\x16\x03\x01", Err(Refused::Stranger)),
        (b"retalli\x05", Err(Refused::Stranger)),
    ] {
        assert_eq!((listener.look(begun), dialer.look(begun)), (looks, looks), "{begun:?}");
    }
}

/// Who holds the secret, and says what has no meaning.
#[test]
fn claims_without_a_meaning_are_refused() {
    let garbled = |number: usize, label: &'static str| {
        let sent = honest([1, 2]);
        let said: Vec<u8> = sent[..number - 1].concat();
        let mut talk = Talk { secret: right(), said };
        let (_, end) = converse([right(), right()], [1, 2], |message, bytes| {
            if message == number {
                let length = bytes.len() - PROOF_BYTES;
                *bytes = talk.prove(label, &vec![0xff; length]);
            }
        });
        assert_eq!(end, Err(Failed { message: number, why: Refused::Garbled }));
    };
    garbled(4, LISTENER_CLAIMS);
    garbled(5, DIALER_CLAIMS);
    garbled(6, JUDGES);
}
