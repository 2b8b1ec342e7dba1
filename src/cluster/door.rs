//! Where a process listens to those behind it, among strangers, for as long as it runs.
//!
//! One thread hears all that come side by side, and waits for none of them. Who has not come to the end of the handshake within
//! [`HEARD_MAX`] is dropped, however slowly it speaks. Who holds the secret is heard for as long as this process itself does not know yet
//! what to claim. When all are there, the door stays open, so that one that comes late is told why it is not taken.
//!
//! Where too many come at a time, those go first that have said nothing, then those that have shown nothing. One of the others speaks as
//! soon as it is connected, and is heard before more are let in: so a crowd that is silent keeps nobody out, with TLS or without.

use super::Membership;
use super::claims::{Claims, Purpose};
use super::generation::Generation;
use super::handshake::{Heard, Listener, Refused, Verdict};
use super::nonce;
use super::roll::Roll;
use super::secret::Secret;
use super::securing::{Securing, is_alert};
use super::tls::{Refusal, Tls, carry};
use super::watch::Alarm;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a handshake may take.
pub const HEARD_MAX: Duration = Duration::from_secs(4);
/// So many connections are heard side by side; when more come, those go that have said or proved nothing, the oldest first.
const GUESTS_MAX: usize = 512;
/// How often one looks, while others are awaited and afterwards.
const LOOK_PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(25)];

/// The open door of a process. It closes when this is dropped.
pub struct Door {
    is_closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens it.
    pub fn open(listener: TcpListener, roll: Arc<Roll>, membership: &Membership, alarm: Alarm) -> io::Result<Door> {
        listener.set_nonblocking(true)?;
        let is_closed = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_closed);
        let mut reception =
            Reception { listener, roll, secret: membership.secret.clone(), tls: membership.tls.clone(), alarm, guests: Vec::new() };
        let thread = std::thread::Builder::new().name("door".into()).spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                // Who has said something is heard before those who come now may push it out.
                reception.hear();
                reception.accept();
                reception.hear();
                let [waiting, working] = LOOK_PAUSE;
                let is_complete = reception.roll.lock().is_complete();
                std::thread::sleep(if is_complete { working } else { waiting });
            }
        })?;
        Ok(Door { is_closed, thread: Some(thread) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// A connection that may be one of the others.
enum Guest {
    /// It is to be secured first.
    Securing(Box<Securing>, Instant),
    Talking(Talking),
}

impl Guest {
    /// How much is known of it: the less, the sooner it makes room for others. Nothing where it stays.
    fn standing(&self) -> Option<u8> {
        match self {
            Guest::Securing(securing, _) => Some(u8::from(securing.is_understood())),
            Guest::Talking(talking) if talking.talk.is_proved() => None,
            Guest::Talking(talking) => Some(u8::from(talking.talk.is_greeted()) + 2 * u8::from(talking.is_secured)),
        }
    }
}

/// One that speaks of secrets and claims.
struct Talking {
    stream: TcpStream,
    talk: Listener,
    /// Of the message that is read.
    bytes: Vec<u8>,
    since: Instant,
    is_secured: bool,
}

/// What becomes of a guest.
enum Fate {
    /// It has not said all.
    Stays,
    Goes,
    /// It is one of the others, and welcome.
    Enters(Box<Claims>),
}

struct Reception {
    listener: TcpListener,
    roll: Arc<Roll>,
    secret: Secret,
    /// Where connections are secured first.
    tls: Option<Tls>,
    alarm: Alarm,
    /// The oldest first.
    guests: Vec<Guest>,
}

impl Reception {
    fn accept(&mut self) {
        // No more at a time than may stay.
        for _ in 0..GUESTS_MAX {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It was closed before it was accepted; or there is no descriptor for it, until a guest has gone.
                Err(_) => {
                    self.drop_oldest();
                    return;
                }
            };
            if self.guests.len() >= GUESTS_MAX {
                self.drop_oldest();
            }
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok() {
                match &self.tls {
                    Some(tls) => self.guests.extend(tls.accept(stream).map(|securing| Guest::Securing(Box::new(securing), Instant::now()))),
                    None => self.guests.extend(talking(&self.secret, stream, Instant::now(), false).map(Guest::Talking)),
                }
            }
        }
    }

    /// Makes room: by one that has said nothing, or else by one that has proved nothing, and of those by the oldest.
    fn drop_oldest(&mut self) {
        let standings = self.guests.iter().enumerate().filter_map(|(place, guest)| Some((guest.standing()?, place)));
        standings.min().map(|(_, oldest)| self.guests.remove(oldest));
    }

    fn hear(&mut self) {
        for guest in std::mem::take(&mut self.guests) {
            let talking = match guest {
                Guest::Securing(securing, since) => self.secure(securing, since),
                Guest::Talking(talking) => Some(talking),
            };
            if let Some(mut talking) = talking {
                match talking.hear(&self.roll) {
                    Fate::Stays => self.guests.push(Guest::Talking(talking)),
                    Fate::Goes => {}
                    Fate::Enters(claims) => self.let_in(talking.stream, &claims),
                }
            }
        }
    }

    /// Goes on with a connection that is to be secured. Returns it once it is.
    fn secure(&mut self, mut securing: Box<Securing>, since: Instant) -> Option<Talking> {
        // Read before the time is looked at, as what is said then.
        let is_late = since.elapsed() > HEARD_MAX;
        match securing.step() {
            Ok(true) => talking(&self.secret, carry(*securing, Refusal::default()).ok()?, since, true),
            Ok(false) if is_late => None,
            Ok(false) => {
                self.guests.push(Guest::Securing(securing, since));
                None
            }
            Err(error) => {
                if is_alert(&error) {
                    self.roll.lock().note("someone who does not believe the certificate of this process");
                } else if error.kind() == io::ErrorKind::InvalidData {
                    self.roll.lock().note("someone without a certificate that is believed");
                }
                None
            }
        }
    }

    fn let_in(&mut self, stream: TcpStream, claims: &Claims) {
        match claims.purpose {
            Purpose::Heartbeat => self.alarm.add(claims.place(), stream),
            Purpose::Data | Purpose::Points => self.roll.enter(claims, stream),
        }
    }
}

/// One that has come. Where there is no number by chance for it, it is dropped, and comes again.
fn talking(secret: &Secret, stream: TcpStream, since: Instant, is_secured: bool) -> Option<Talking> {
    stream.set_nonblocking(true).ok()?;
    let talk = Listener::new(secret.clone(), nonce().ok()?);
    Some(Talking { stream, talk, bytes: Vec::new(), since, is_secured })
}

impl Talking {
    /// Hears what has come, and answers.
    fn hear(&mut self, roll: &Roll) -> Fate {
        loop {
            // Read before the time is looked at: what came while this process was suspended counts.
            let is_late = self.since.elapsed() > HEARD_MAX;
            let Some(length) = self.talk.length() else {
                // It has proved that it holds the secret, and this process is to say what it is, once it knows that.
                let ours = roll.lock().ours().clone();
                if ours.generation == Generation::UNKNOWN {
                    return Fate::Stays;
                }
                self.since = Instant::now();
                match self.talk.claim(&ours) {
                    Some(claims) if self.say(&claims) => continue,
                    _ => return Fate::Goes,
                }
            };
            match self.message(length) {
                Ok(true) => {}
                Ok(false) if self.talk.look(&self.bytes) == Err(Refused::OtherProtocol) => {
                    roll.lock().note("another version of retally");
                    return Fate::Goes;
                }
                Ok(false) if !is_late && self.talk.look(&self.bytes).is_ok() => return Fate::Stays,
                _ => return Fate::Goes,
            }
            match self.talk.hear(&std::mem::take(&mut self.bytes)) {
                Ok(Heard::Reply(reply)) if self.say(&reply) => {}
                Ok(Heard::Proved) => {}
                Ok(Heard::Claims(claims)) => return self.judge(roll, claims),
                Err(Refused::Unproved) => {
                    roll.lock().note("a process with another secret");
                    return Fate::Goes;
                }
                Err(Refused::OtherProtocol) => {
                    roll.lock().note("another version of retally");
                    return Fate::Goes;
                }
                _ => return Fate::Goes,
            }
        }
    }

    /// Says what becomes of one that holds the secret.
    fn judge(&mut self, roll: &Roll, claims: Box<Claims>) -> Fate {
        let verdict = roll.lock().admit(&claims);
        let said = self.talk.judge(verdict).is_some_and(|verdict| self.say(&verdict));
        roll.tell();
        match verdict {
            Verdict::Welcome if said => Fate::Enters(claims),
            Verdict::Welcome => {
                // It has not heard that it is welcome, and may come again.
                roll.lock().forget(&claims);
                Fate::Goes
            }
            _ => Fate::Goes,
        }
    }

    /// Whether a message of this length is there.
    fn message(&mut self, length: usize) -> io::Result<bool> {
        let mut block = [0; 1024];
        while self.bytes.len() < length {
            let (wanted, _) = block.split_at_mut((length - self.bytes.len()).min(1024));
            match self.stream.read(wanted) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.bytes.extend_from_slice(wanted.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether a message could be said. A connection that is new has room for all that is said on it.
    fn say(&mut self, message: &[u8]) -> bool {
        self.stream.write_all(message).is_ok()
    }
}
