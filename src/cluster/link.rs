//! A connection of workers, as timely reads and writes it.
//!
//! timely ends a thread by a panic when a connection breaks. Here that thread tells the [`Alarm`] instead, and stands still until the
//! process ends. Only a connection whose last message says that it is the last may end: messages are counted for that, and not changed.

use super::watch::{Alarm, ENDED, why};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use timely::communication::allocator::zero_copy::stream::Stream;

/// timely's header of a message: six numbers of 8 bytes, the greatest first.
const HEADER_BYTES: usize = 48;
/// Where in it the length of the message is. One without a length is the last.
const LENGTH_AT: usize = 32;

/// A connection to another process.
pub struct Link {
    stream: TcpStream,
    process: usize,
    alarm: Alarm,
    messages: Messages,
}

/// From now on, who reads and writes on a connection waits.
pub fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)
}

impl Link {
    /// A connection that waits for what is to be read and written, for as long as the process at its other end is watched.
    pub fn new(stream: TcpStream, process: usize, alarm: Alarm) -> io::Result<Link> {
        settle(&stream)?;
        Ok(Link { stream, process, alarm, messages: Messages::default() })
    }

    /// Tells that the connection is broken. The watch ends the process.
    fn broken(&self, why: String) -> ! {
        self.alarm.cut(self.process, why);
        loop {
            std::thread::park();
        }
    }
}

/// Where one is among the messages that are read.
struct Messages {
    header: [u8; HEADER_BYTES],
    /// So much of the header is there.
    filled: usize,
    /// So much of the message is to come.
    left: u64,
    is_over: bool,
}

impl Default for Messages {
    fn default() -> Messages {
        Messages { header: [0; HEADER_BYTES], filled: 0, left: 0, is_over: false }
    }
}

impl Messages {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= passed as u64;
            bytes = bytes.get(passed..).unwrap_or_default();
            for (byte, place) in bytes.iter().zip(self.header.iter_mut().skip(self.filled)) {
                *place = *byte;
            }
            let taken = bytes.len().min(HEADER_BYTES - self.filled);
            bytes = bytes.get(taken..).unwrap_or_default();
            self.filled += taken;
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                let length = self.header.get(LENGTH_AT..).and_then(<[u8]>::first_chunk).map_or(0, |length| u64::from_be_bytes(*length));
                self.left = length;
                self.is_over = length == 0;
            }
        }
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(into) {
                Ok(0) if self.messages.is_over || into.is_empty() => return Ok(0),
                Ok(0) => self.broken(ENDED.into()),
                Ok(read) => {
                    self.messages.pass(into.get(..read).unwrap_or_default());
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Both ends have said all.
                Err(_) if self.messages.is_over => return Ok(0),
                Err(error) => self.broken(why(&error)),
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Ok(0) if !bytes.is_empty() => self.broken("its connection takes no more".into()),
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.broken(why(&error)),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Link> {
        Ok(Link { stream: self.stream.try_clone()?, process: self.process, alarm: self.alarm.clone(), messages: Messages::default() })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.stream.shutdown(how) {
            // The other end has heard the last message, and is gone.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timely::communication::networking::MessageHeader;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        MessageHeader { channel: 1, source: 2, target_lower: 3, target_upper: 4, length, seqno: 5 }.write_to(&mut bytes).unwrap();
        bytes.resize(bytes.len() + length, 0);
        bytes
    }

    /// Zeros in a message are not taken for a header, however the bytes come.
    #[test]
    fn the_last_message_is_known_however_it_is_cut() {
        let bytes = [message(100), message(1), message(48), message(0)].concat();
        for step in 1..bytes.len() {
            let mut messages = Messages::default();
            for (number, piece) in bytes.chunks(step).enumerate() {
                assert!(!messages.is_over, "{step} {number}");
                messages.pass(piece);
            }
            assert!(messages.is_over, "{step}");
        }
    }
}
