//! How a process connects to one before it, which may not be up yet, or may be something else.

use super::claims::{Claims, Purpose};
use super::error::MeshError;
use super::generation::Generation;
use super::handshake::{Dialer, Heard, Refused, Verdict};
use super::nonce;
use super::roll::Roll;
use super::secret::Secret;
use super::shared::{Sight, Unseen};
use super::tls::Tls;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long to connect may take, and to send a message.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// How often one looks whether there is a reason to give up, while an answer is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// After a proof was not accepted: where the other end had too many guests, it may be another time.
const UNPROVED_PAUSE: Duration = Duration::from_millis(300);
/// After so many proofs in a row that were not accepted, the other end has another secret.
const UNPROVED_MAX: u32 = 5;

/// What a process connects with.
pub struct Dial<'d> {
    /// What it says of itself, and learns from process 0.
    pub roll: &'d Roll,
    /// Of the cluster.
    pub secret: &'d Secret,
    /// What secures connections.
    pub tls: Option<&'d Tls>,
    /// When it gives up, and how long that is from its start.
    pub deadline: Instant,
    /// How long it tries.
    pub timeout: Duration,
    /// Looks for what process 0 shows.
    pub sees: &'d dyn Fn(u64) -> Result<(), Unseen>,
    /// The address of this process.
    pub own: &'d str,
}

/// What becomes of an attempt.
enum Attempt {
    Joined(TcpStream),
    /// Another attempt would be the same.
    Over(MeshError),
    Again(Why),
    /// The other end did not answer the proof.
    Unproved,
}

/// Why an attempt was in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Why {
    telling: Telling,
    text: String,
}

/// How much the reason of an attempt tells of what is wrong: where the other end gives up first, the last ones say only that it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// Nobody is there.
    Nobody,
    /// Somebody is there, and sends nothing.
    Silence,
    /// Something else is there, or who is there refuses this process.
    Refusal,
}

impl Why {
    fn new(telling: Telling, text: impl Into<String>) -> Why {
        Why { telling, text: text.into() }
    }

    /// The reason that tells more, or else the later one.
    fn or_later(self, later: Why) -> Why {
        if later.telling >= self.telling { later } else { self }
    }
}

impl From<io::Error> for Attempt {
    fn from(error: io::Error) -> Attempt {
        let telling = match error.kind() {
            // Of TLS: what was said has another meaning, or is not believed.
            io::ErrorKind::InvalidData => Telling::Refusal,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                Telling::Silence
            }
            _ => Telling::Nobody,
        };
        Attempt::Again(Why::new(telling, error.to_string()))
    }
}

impl Dial<'_> {
    /// Connects to a process that comes before this one.
    pub fn reach(&self, process: usize, address: &str, purpose: Purpose) -> Result<TcpStream, MeshError> {
        let mut unproved = 0;
        let mut known = Why::new(Telling::Nobody, "");
        loop {
            let attempt = self.attempt(process, address, purpose).unwrap_or_else(|attempt| attempt);
            if let Some(failure) = self.roll.lock().failure() {
                return Err(failure);
            }
            let (why, pause) = match attempt {
                Attempt::Joined(stream) => return Ok(stream),
                Attempt::Over(error) => return Err(error),
                Attempt::Again(why) => {
                    unproved = 0;
                    (why, RETRY_PAUSE)
                }
                Attempt::Unproved if unproved + 1 == UNPROVED_MAX => return Err(MeshError::Secret { process, address: address.into() }),
                Attempt::Unproved => {
                    unproved += 1;
                    (Why::new(Telling::Silence, "it does not answer the proof of the secret"), UNPROVED_PAUSE)
                }
            };
            known = known.or_later(why);
            if Instant::now() > self.deadline {
                let (address, seconds) = (address.into(), self.timeout.as_secs());
                return Err(MeshError::Unreachable { process, address, seconds, why: known.text });
            }
            std::thread::sleep(pause);
        }
    }

    fn attempt(&self, process: usize, address: &str, purpose: Purpose) -> Result<Attempt, Attempt> {
        let stream = dial(address)?;
        stream.set_nodelay(true)?;
        let Some(tls) = self.tls else { return self.introduce(stream, process, address, purpose) };
        let (stream, refusal) = tls.connect(stream, address, DIAL_MAX)?;
        self.introduce(stream, process, address, purpose).map_err(|attempt| match (attempt, refusal.wait()) {
            (Attempt::Again(_) | Attempt::Unproved, Some(text)) => Attempt::Again(Why::new(Telling::Refusal, text)),
            (attempt, _) => attempt,
        })
    }

    /// Says who this process is on a connection, and hears who the other is.
    fn introduce(&self, mut stream: TcpStream, process: usize, address: &str, purpose: Purpose) -> Result<Attempt, Attempt> {
        stream.set_write_timeout(Some(DIAL_MAX))?;
        let (mut dialer, hello) = Dialer::new(self.secret.clone(), nonce()?);
        stream.write_all(&hello)?;
        let Heard::Reply(proof) = self.hear(&mut stream, &mut dialer)? else { return Err(nonsense()) };
        stream.write_all(&proof)?;
        let theirs = match self.hear(&mut stream, &mut dialer) {
            Ok(Heard::Claims(theirs)) => theirs,
            Err(Attempt::Again(_)) if Instant::now() < self.deadline => return Err(Attempt::Unproved),
            Err(attempt) => return Err(attempt),
            Ok(_) => return Err(nonsense()),
        };
        if theirs.place() != process {
            return Err(Attempt::Again(Why::new(Telling::Refusal, format!("process {} answers there", theirs.process))));
        }
        let known = self.roll.lock().ours().clone();
        let generation = if process == 0 && known.generation == Generation::UNKNOWN { theirs.generation } else { known.generation };
        let unseen = if process > 0 || theirs.shown == 0 { None } else { (self.sees)(theirs.shown).err() };
        let sight = unseen.as_ref().map_or(Sight::All, |unseen| unseen.sight);
        let ours = Claims { generation, sight, purpose, ..known };
        let claims = dialer.claim(&ours).ok_or_else(nonsense)?;
        stream.write_all(&claims)?;
        // Both ends learn of a difference: this one has answered before it judges.
        judge(&ours, &theirs)?;
        if let Some(Unseen { sight, why }) = unseen {
            let why = format!("on {:?}, {why}", self.own);
            return Err(Attempt::Over(MeshError::Unseen { process: ours.place(), sight, why }));
        }
        let Heard::Verdict(verdict) = self.hear(&mut stream, &mut dialer)? else { return Err(nonsense()) };
        let (own, by, address) = (ours.place(), process, address.to_string());
        match verdict {
            Verdict::Welcome => {}
            Verdict::Taken => return Err(Attempt::Over(MeshError::Taken { process: own, by, address })),
            Verdict::OutOfRange => return Err(Attempt::Over(MeshError::OutOfRange { process: own, by, address })),
            Verdict::Late => return Err(Attempt::Over(MeshError::Late { process: own, by, address })),
            Verdict::Disagrees | Verdict::Older | Verdict::Newer => {
                return Err(Attempt::Again(Why::new(Telling::Refusal, "it takes no part in this start")));
            }
        }
        if process == 0 {
            self.roll.lock().learn(generation, theirs.shown);
        }
        Ok(Attempt::Joined(stream))
    }

    /// Hears a message, as long as there is time: the other end may be suspended, or not know yet what to say.
    fn hear(&self, stream: &mut TcpStream, dialer: &mut Dialer) -> Result<Heard, Attempt> {
        let length = dialer.length().ok_or_else(nonsense)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let now = Instant::now();
            if now > self.deadline {
                return Err(Attempt::Again(Why::new(Telling::Silence, "it does not answer")));
            }
            if let Some(failure) = self.roll.lock().failure() {
                return Err(Attempt::Over(failure));
            }
            stream.set_read_timeout(Some(LOOK_PAUSE))?;
            match stream.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(Attempt::Again(Why::new(Telling::Silence, "it closed the connection"))),
                Ok(read) => filled += read,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
            dialer.look(bytes.get(..filled).unwrap_or_default()).map_err(refused)?;
        }
        dialer.hear(&bytes).map_err(refused)
    }
}

/// What one that listens is, whose words are refused.
fn refused(refused: Refused) -> Attempt {
    let text = match refused {
        Refused::OtherProtocol => "another version of retally answers there",
        Refused::Unproved => "what answers there does not hold the secret",
        Refused::Stranger | Refused::Garbled => "something else answers there",
    };
    Attempt::Again(Why::new(Telling::Refusal, text))
}

fn nonsense() -> Attempt {
    Attempt::Again(Why::new(Telling::Refusal, "something else answers there"))
}

/// What this process finds of itself and the other.
fn judge(ours: &Claims, theirs: &Claims) -> Result<(), Attempt> {
    ours.agree(theirs).map_err(Attempt::Over)?;
    if ours.generation < theirs.generation {
        let (theirs, ours, process) = (theirs.generation.to_string(), ours.generation.to_string(), theirs.place());
        return Err(Attempt::Over(MeshError::Older { process, theirs, ours }));
    }
    if theirs.generation == Generation::UNKNOWN {
        return Err(nonsense());
    }
    Ok(())
}

fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DIAL_MAX) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_that_tells_most_is_kept_and_of_those_the_latest() {
        let why = |telling, text: &str| Why::new(telling, text);
        let refused = why(Telling::Nobody, "Connection refused");
        let certificate = why(Telling::Refusal, "invalid peer certificate");
        let silent = why(Telling::Silence, "it does not answer");
        let told = |all: &[&Why]| all.iter().copied().cloned().reduce(Why::or_later).unwrap().text;
        assert_eq!(told(&[&refused, &certificate, &silent, &refused]), "invalid peer certificate");
        assert_eq!(told(&[&refused, &silent, &refused]), "it does not answer");
        assert_eq!(told(&[&certificate, &why(Telling::Refusal, "process 2 answers there"), &refused]), "process 2 answers there");
        assert_eq!(told(&[&why(Telling::Nobody, "no such name"), &refused]), "Connection refused");
    }
}
