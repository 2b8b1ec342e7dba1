//! A connection of workers, as timely reads and writes it.
//!
//! timely ends a thread by a panic when a connection breaks. Here that thread tells the [`Alarm`] instead, and stands still until the
//! process ends. Only a connection whose last message says that it is the last may end: messages are counted for that, and not changed.
//! Bytes are counted, so that one that stands still is noticed ([`Traffic`]).

use super::messages::Messages;
use super::pace::Pace;
use super::pulse::{ENDED, why};
use super::traffic::{Totals, Traffic};
use super::watch::Alarm;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;
use timely::communication::allocator::zero_copy::stream::Stream;

/// A connection to another process.
pub struct Link {
    stream: TcpStream,
    process: usize,
    alarm: Alarm,
    /// Those that are read, or of a clone those that are written.
    messages: Messages,
    traffic: Arc<Traffic>,
    pace: Pace,
}

/// From now on, who reads and writes on a connection waits.
pub fn make_blocking(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)
}

impl Link {
    /// A connection that waits for what is to be read and written, for as long as the process at its other end is watched.
    pub fn new(stream: TcpStream, process: usize, alarm: Alarm, totals: &Arc<Totals>) -> io::Result<Link> {
        make_blocking(&stream)?;
        let traffic = Arc::new(Traffic::of(totals));
        alarm.carries(process, Arc::clone(&traffic));
        Ok(Link { stream, process, alarm, messages: Messages::default(), traffic, pace: Pace::default() })
    }

    /// Tells that the connection is broken. The watch ends the process.
    fn broken(&self, why: String) -> ! {
        self.alarm.cut(self.process, why);
        loop {
            std::thread::park();
        }
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.traffic.reads();
        loop {
            match self.stream.read(into) {
                Ok(0) if self.messages.is_over() || into.is_empty() => return Ok(0),
                Ok(0) => self.broken(ENDED.into()),
                Ok(read) => {
                    self.traffic.has_read(read);
                    self.messages.pass(into.get(..read).unwrap_or_default());
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Both ends have said all.
                Err(_) if self.messages.is_over() => return Ok(0),
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
                Ok(written) => {
                    let passed = self.messages.pass(bytes.get(..written).unwrap_or_default());
                    self.traffic.wrote(written, passed);
                    let wait = self.pace.after(written, Instant::now());
                    if !wait.is_zero() {
                        std::thread::sleep(wait);
                    }
                    return Ok(written);
                }
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
        let (stream, traffic) = (self.stream.try_clone()?, Arc::clone(&self.traffic));
        Ok(Link { stream, process: self.process, alarm: self.alarm.clone(), messages: Messages::default(), traffic, pace: Pace::default() })
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
