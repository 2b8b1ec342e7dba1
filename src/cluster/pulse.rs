//! The connection for signs of life with another process: what is said on it, and what has come.
//!
//! Each message has a kind and a number. A sign of life reports how many bytes have been read of the connection of workers, so that the
//! other end knows what has arrived ([`super::traffic`]).

use super::traffic::{Delivery, Traffic};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sign of life, with how many bytes have come from workers, or [`NOT_YET`].
pub const BEAT: u8 = 1;
/// The work is done: what ends now is no loss.
pub const BYE: u8 = 2;
/// A process is lost, and which.
pub const LOST: u8 = 3;
/// A kind, and a number.
pub const MESSAGE_BYTES: usize = 9;
/// Nobody reads what comes from workers yet.
pub const NOT_YET: u64 = u64::MAX;

/// What a connection says whose other end is gone.
pub const ENDED: &str = "its connection ended";

/// Why a connection is broken. A process that is killed resets those on which it has not read all.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ENDED.into(),
        _ => error.to_string(),
    }
}

/// A message as it is sent.
pub fn message(kind: u8, number: u64) -> [u8; MESSAGE_BYTES] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [kind, a, b, c, d, e, f, g, h]
}

/// What has come from another process.
pub enum Said {
    /// Signs of life, or nothing.
    Nothing,
    /// That this process is lost.
    Lost(usize),
    /// No more, and why.
    Ended(String),
}

/// Another process, as the watch sees it.
pub struct Pulse {
    /// Its number.
    pub process: usize,
    /// When it was heard last.
    pub heard: Instant,
    /// Its work is done.
    pub is_over: bool,
    /// The bytes of the connection of workers, once there is one.
    pub traffic: Option<Arc<Traffic>>,
    /// What is known of those that were written to it.
    pub delivery: Delivery,
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Why nothing could be said to it.
    broken: Option<String>,
}

impl Pulse {
    /// That of a process at the other end of this connection.
    pub fn new(process: usize, stream: TcpStream, now: Instant) -> io::Result<Pulse> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let delivery = Delivery::new(now);
        Ok(Pulse { process, heard: now, is_over: false, traffic: None, delivery, stream, bytes: Vec::new(), broken: None })
    }

    /// Reads all that has come, in order. Silence that is longer than `usual` interrupts all that is under way.
    pub fn hear(&mut self, now: Instant, usual: Duration) -> Said {
        let mut block = [0; 256];
        while !self.is_over {
            let read = match self.stream.read(&mut block) {
                Ok(0) => return Said::Ended(ENDED.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Said::Ended(why(&error)),
            };
            let silent = now.saturating_duration_since(std::mem::replace(&mut self.heard, now));
            if silent > usual {
                self.delivery = Delivery::new(now);
            }
            self.bytes.extend_from_slice(block.get(..read).unwrap_or_default());
            while let Some((message, rest)) = self.bytes.split_first_chunk::<MESSAGE_BYTES>() {
                let [kind, number @ ..] = *message;
                let number = u64::from_le_bytes(number);
                self.bytes = rest.to_vec();
                match kind {
                    BEAT => self.delivery.hear((number != NOT_YET).then_some(number), now),
                    BYE => self.is_over = true,
                    LOST => return Said::Lost(usize::try_from(number).unwrap_or(usize::MAX)),
                    _ => return Said::Ended("it says what has no meaning".into()),
                }
            }
        }
        match self.broken.take() {
            Some(why) if !self.is_over => Said::Ended(why),
            _ => Said::Nothing,
        }
    }

    /// How long nothing has arrived of what was written to it.
    pub fn stalled(&mut self, now: Instant) -> Duration {
        self.traffic.as_ref().map_or(Duration::ZERO, |traffic| self.delivery.stalled(traffic.written(), now))
    }

    /// Gives a sign of life.
    pub fn beat(&mut self) {
        let read = self.traffic.as_ref().and_then(|traffic| traffic.read());
        self.say(BEAT, read.unwrap_or(NOT_YET));
    }

    /// Says something. What can't be said is noticed when it is heard next.
    pub fn say(&mut self, kind: u8, number: u64) {
        match self.stream.write(&message(kind, number)) {
            Ok(MESSAGE_BYTES) => {}
            Ok(_) => self.broken = Some("its connection takes no more".into()),
            // It does not read, and will be silent too.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => self.broken = Some(why(&error)),
        }
    }
}
