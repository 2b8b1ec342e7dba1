//! How the two ends of a connection prove to each other that they hold the secret, before either says anything of itself.
//!
//! | | from | what |
//! |---|---|---|
//! | 1 | who connects | name, protocol, a nonce |
//! | 2 | who listens | name, protocol, a nonce |
//! | 3 | who connects | a proof |
//! | 4 | who listens | its [`Claims`], with a proof |
//! | 5 | who connects | its claims, with a proof |
//! | 6 | who listens | its [`Verdict`], with a proof |
//!
//! A proof is the HMAC-SHA256, by the secret, of what it is for and of all that both ends have said so far on this connection, up to the
//! proof. So no message can be changed, left out, said in another place or by the other end, or said again on another connection, whose
//! nonces differ. A stranger that listens gets message 1 and 3, one that connects gets message 2: numbers by chance and a proof of them.
//!
//! Here are messages alone: sockets and clocks are in `door.rs` and `dial.rs`. Each message has a fixed length.
//!
//! # Limits
//! What is sent afterwards is neither signed nor hidden: who can change packets on their way is kept out by the network.

use super::claims::{CLAIMS_BYTES, Claims};
use super::secret::{PROOF_BYTES, Secret};

/// What both ends of a connection say first, and all versions of this program.
const NAME: [u8; 7] = *b"retally";
/// The messages of this module and of the heartbeat. What changes them gets another number.
const PROTOCOL: u8 = 5;
/// The bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
const GREETING_BYTES: usize = NAME.len() + 1 + NONCE_BYTES;
const VERDICT_BYTES: usize = 1;

const PROVES: &str = "who connects proves";
const LISTENER_CLAIMS: &str = "who listens claims";
const DIALER_CLAIMS: &str = "who connects claims";
const JUDGES: &str = "who listens judges";

/// A number that is used once.
pub type Nonce = [u8; NONCE_BYTES];

/// Why a handshake ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no process of this program.
    Stranger,
    /// It is one of another version, which says other messages.
    OtherProtocol,
    /// It does not hold the secret.
    Unproved,
    /// It holds the secret, and what it says has no meaning.
    Garbled,
}

/// What the listener sends at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection counts.
    Welcome,
    /// The claims differ in what must be the same.
    Disagrees,
    /// Another process has this number.
    Taken,
    /// No process of this number is awaited.
    OutOfRange,
    /// All processes are there, and at work.
    Late,
    /// Who connects is of an older generation.
    Older,
    /// Who listens is of an older generation.
    Newer,
}

impl Verdict {
    const ALL: [Verdict; 7] =
        [Verdict::Welcome, Verdict::Disagrees, Verdict::Taken, Verdict::OutOfRange, Verdict::Late, Verdict::Older, Verdict::Newer];

    fn to_byte(self) -> u8 {
        Verdict::ALL.iter().zip(0..).find_map(|(verdict, byte)| (*verdict == self).then_some(byte)).unwrap_or_default()
    }
}

/// The first message of both.
fn greeting(nonce: &Nonce) -> Vec<u8> {
    NAME.into_iter().chain([PROTOCOL]).chain(*nonce).collect()
}

/// Whether what has come of a first message can become one.
fn look(begun: &[u8]) -> Result<(), Refused> {
    let named = begun.iter().zip(NAME).all(|(byte, letter)| *byte == letter);
    match begun.get(NAME.len()) {
        _ if !named => Err(Refused::Stranger),
        Some(protocol) if *protocol != PROTOCOL => Err(Refused::OtherProtocol),
        _ => Ok(()),
    }
}

/// What was said on a connection.
struct Talk {
    secret: Secret,
    said: Vec<u8>,
}

impl Talk {
    /// A message with its proof.
    fn prove(&mut self, label: &str, body: &[u8]) -> Vec<u8> {
        self.said.extend(body);
        let proof = self.secret.proof(label, &self.said);
        self.said.extend(proof);
        [body, &proof].concat()
    }

    /// The message, when its proof is right.
    fn check<'m>(&mut self, label: &str, message: &'m [u8], length: usize) -> Result<&'m [u8], Refused> {
        let parts = message.split_at_checked(length).filter(|(_, proof)| proof.len() == PROOF_BYTES);
        let (body, proof) = parts.ok_or(Refused::Unproved)?;
        self.said.extend(body);
        if !self.secret.is_proof(proof, label, &self.said) {
            return Err(Refused::Unproved);
        }
        self.said.extend(proof);
        Ok(body)
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Greeting,
    Proof,
    /// This end is to claim, and then hears the other.
    ToClaim,
    Claims,
    /// This end is to judge.
    ToJudge,
    Verdict,
    Over,
}

impl Turn {
    /// The length of the message that is awaited; none, where it is this end's turn.
    fn length(self) -> Option<usize> {
        match self {
            Turn::Greeting => Some(GREETING_BYTES),
            Turn::Proof => Some(PROOF_BYTES),
            Turn::Claims => Some(CLAIMS_BYTES + PROOF_BYTES),
            Turn::Verdict => Some(VERDICT_BYTES + PROOF_BYTES),
            Turn::ToClaim | Turn::ToJudge | Turn::Over => None,
        }
    }

    /// Whether a message of which this has come can be one.
    fn look(self, begun: &[u8]) -> Result<(), Refused> {
        if self == Turn::Greeting { look(begun) } else { Ok(()) }
    }

    /// Whose turn it was, where the message has the length that is awaited. What comes next is set by who takes the message.
    fn take(&mut self, message: &[u8]) -> Result<Turn, Refused> {
        let turn = std::mem::replace(self, Turn::Over);
        if turn.length() == Some(message.len()) { Ok(turn) } else { Err(Refused::Stranger) }
    }
}

/// This end's greeting, where the other's is one.
fn answered(nonce: &Nonce, message: &[u8]) -> Result<Vec<u8>, Refused> {
    look(message)?;
    let ours = greeting(nonce);
    // Someone may send back what it hears.
    if ours == message { Err(Refused::Stranger) } else { Ok(ours) }
}

/// What an end has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This is to be said.
    Reply(Vec<u8>),
    /// The other end holds the secret: this end is to claim.
    Proved,
    /// What the other end says of itself. Who connects claims then, who listens judges.
    Claims(Box<Claims>),
    /// What the listener sends in the end.
    Verdict(Verdict),
}

/// The end that listens.
pub struct Listener {
    talk: Talk,
    nonce: Nonce,
    turn: Turn,
}

impl Listener {
    /// A new connection. The nonce must be new too.
    pub fn new(secret: Secret, nonce: Nonce) -> Listener {
        Listener { talk: Talk { secret, said: Vec::new() }, nonce, turn: Turn::Greeting }
    }

    /// The length of the message that is awaited.
    pub fn length(&self) -> Option<usize> {
        self.turn.length()
    }

    /// Whether the other end has said its first message.
    pub fn is_greeted(&self) -> bool {
        self.turn != Turn::Greeting
    }

    /// Whether the other end has proved that it holds the secret.
    pub fn is_proved(&self) -> bool {
        matches!(self.turn, Turn::ToClaim | Turn::Claims | Turn::ToJudge)
    }

    /// Whether a message of which this has come can be one.
    pub fn look(&self, begun: &[u8]) -> Result<(), Refused> {
        self.turn.look(begun)
    }

    /// Takes a message of the length that is awaited. After an error, nothing more is heard.
    pub fn hear(&mut self, message: &[u8]) -> Result<Heard, Refused> {
        let turn = self.turn.take(message)?;
        let heard = match turn {
            Turn::Greeting => {
                let ours = answered(&self.nonce, message)?;
                self.talk.said = [message, &ours].concat();
                self.turn = Turn::Proof;
                Heard::Reply(ours)
            }
            Turn::Proof => {
                self.talk.check(PROVES, message, 0)?;
                self.turn = Turn::ToClaim;
                Heard::Proved
            }
            Turn::Claims => {
                let body = self.talk.check(DIALER_CLAIMS, message, CLAIMS_BYTES)?;
                let claims = Claims::from_bytes(body).ok_or(Refused::Garbled)?;
                self.turn = Turn::ToJudge;
                Heard::Claims(Box::new(claims))
            }
            _ => return Err(Refused::Stranger),
        };
        Ok(heard)
    }

    /// What this end says of itself, once the other has proved that it holds the secret; nothing before.
    pub fn claim(&mut self, ours: &Claims) -> Option<Vec<u8>> {
        (self.turn == Turn::ToClaim).then(|| {
            self.turn = Turn::Claims;
            self.talk.prove(LISTENER_CLAIMS, &ours.to_bytes())
        })
    }

    /// What this end says in the end, once it has heard the other's claims.
    pub fn judge(&mut self, verdict: Verdict) -> Option<Vec<u8>> {
        (self.turn == Turn::ToJudge).then(|| {
            self.turn = Turn::Over;
            self.talk.prove(JUDGES, &[verdict.to_byte()])
        })
    }
}

/// The end that connects.
pub struct Dialer {
    talk: Talk,
    nonce: Nonce,
    turn: Turn,
}

impl Dialer {
    /// A new connection, and what is said first. The nonce must be new too.
    pub fn new(secret: Secret, nonce: Nonce) -> (Dialer, Vec<u8>) {
        (Dialer { talk: Talk { secret, said: Vec::new() }, nonce, turn: Turn::Greeting }, greeting(&nonce))
    }

    /// The length of the message that is awaited.
    pub fn length(&self) -> Option<usize> {
        self.turn.length()
    }

    /// Whether a message of which this has come can be one.
    pub fn look(&self, begun: &[u8]) -> Result<(), Refused> {
        self.turn.look(begun)
    }

    /// Takes a message of the length that is awaited. After an error, nothing more is heard.
    pub fn hear(&mut self, message: &[u8]) -> Result<Heard, Refused> {
        let turn = self.turn.take(message)?;
        let heard = match turn {
            Turn::Greeting => {
                let ours = answered(&self.nonce, message)?;
                self.talk.said = [&ours, message].concat();
                self.turn = Turn::Claims;
                Heard::Reply(self.talk.prove(PROVES, b""))
            }
            Turn::Claims => {
                let body = self.talk.check(LISTENER_CLAIMS, message, CLAIMS_BYTES)?;
                let claims = Claims::from_bytes(body).ok_or(Refused::Garbled)?;
                self.turn = Turn::ToClaim;
                Heard::Claims(Box::new(claims))
            }
            Turn::Verdict => {
                let body = self.talk.check(JUDGES, message, VERDICT_BYTES)?;
                let byte = body.first().copied().unwrap_or_default();
                Heard::Verdict(Verdict::ALL.get(usize::from(byte)).copied().ok_or(Refused::Garbled)?)
            }
            _ => return Err(Refused::Stranger),
        };
        Ok(heard)
    }

    /// What this end says of itself, once the other has proved that it holds the secret; nothing before.
    pub fn claim(&mut self, ours: &Claims) -> Option<Vec<u8>> {
        (self.turn == Turn::ToClaim).then(|| {
            self.turn = Turn::Verdict;
            self.talk.prove(DIALER_CLAIMS, &ours.to_bytes())
        })
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
