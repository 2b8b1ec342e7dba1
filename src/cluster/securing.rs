//! A connection that is about to be secured: the handshake of TLS, one step at a time, so that who listens waits for nobody.

use rustls::Connection;
use std::io::{self, Write};
use std::net::TcpStream;

/// A connection, and how far its handshake is.
pub struct Securing {
    session: Connection,
    stream: TcpStream,
    /// Whether the other end speaks TLS at all: strangers are told nothing.
    is_understood: bool,
}

impl Securing {
    /// Begins with a connection.
    pub fn new(session: Connection, stream: TcpStream) -> Securing {
        Securing { session, stream, is_understood: false }
    }

    /// Sends what there is to be sent, and reads once, for as long as the connection waits for it. Returns whether both ends have agreed.
    ///
    /// # Errors
    /// `InvalidData` where the other end is not believed, or speaks something else.
    pub fn step(&mut self) -> io::Result<bool> {
        self.send()?;
        if !self.is_done() {
            match self.session.read_tls(&mut self.stream) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.process()?,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            self.send()?;
        }
        Ok(self.is_done())
    }

    fn is_done(&self) -> bool {
        !self.session.is_handshaking() && !self.session.wants_write()
    }

    fn process(&mut self) -> io::Result<()> {
        match self.session.process_new_packets() {
            Ok(_) => {
                self.is_understood |= self.session.protocol_version().is_some() || self.session.wants_write();
                Ok(())
            }
            Err(error) => {
                // Who connects may not believe the first that it hears.
                self.is_understood |= self.session.protocol_version().is_some();
                if self.is_understood {
                    // It may be gone.
                    self.send().ok();
                }
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        match flush(&mut self.session, &mut self.stream) {
            Err(error) if is_passing(&error) => Ok(()),
            sent => sent,
        }
    }

    /// Whether the other end speaks TLS.
    pub fn is_understood(&self) -> bool {
        self.is_understood
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What both ends have agreed on, and the connection.
    pub fn into_parts(self) -> (Connection, TcpStream) {
        (self.session, self.stream)
    }
}

/// Whether the other end has refused the connection, and says so.
pub fn is_alert(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::AlertReceived(_)))
}

/// Whether there is only nothing to be done now.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Writes all that a session has to send.
pub fn flush(session: &mut Connection, into: &mut impl Write) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(into)?;
    }
    Ok(())
}
