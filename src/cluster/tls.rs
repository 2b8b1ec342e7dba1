//! Mutual TLS 1.3 between processes: below all that is said on a connection, and known to nobody above.
//!
//! Both ends show a certificate of the same authority, and who connects sees to it that the other's is that of the host in the hosts file.
//! timely wants a socket that can be cloned, which a TLS session can't be. So the session is on the outer connection, and two threads carry
//! its bytes to an inner one on this host, whose other end is what the mesh and timely have.
//!
//! # Limits
//! Who connects may be any holder of a certificate of the authority: which process it is, it proves by the secret.

use super::securing::{Securing, flush, is_alert};
use crate::certificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Connection, IoState, ServerConfig, ServerConnection};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What is carried at a time.
const BLOCK_BYTES: usize = 16 << 10;
/// So many connections to the inner listener are tried: others may come to it by chance.
const TRIES_MAX: usize = 64;

/// How long one waits to hear why a connection has ended.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);

/// What a process proves itself with, and whom it believes.
#[derive(Clone)]
pub struct Tls {
    accepts: Arc<ServerConfig>,
    connects: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// From files in PEM: the certificates of this process, their key, and the authorities that others are believed by. An error names the
    /// file.
    pub fn read(certificates: &Path, key: &Path, authorities: &Path) -> Result<Tls, String> {
        let chain = read(certificates)?;
        let key_of = || PrivateKeyDer::from_pem_file(key).map_err(|error| format!("could not read a key from {key:?}: {error}"));
        let unusable = |error| format!("could not use the authorities in {authorities:?}: {error}");
        let roots = certificates::roots(read(authorities)?).map_err(unusable)?;
        let (roots, provider) = (Arc::new(roots), Arc::new(rustls::crypto::ring::default_provider()));
        let failed = |error: &dyn fmt::Display| format!("could not use {certificates:?} with {key:?} and {authorities:?}: {error}");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| failed(&error))?;
        let accepts = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key_of()?)
            .map_err(|error| failed(&error))?;
        let connects = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key_of()?)
            .map_err(|error| failed(&error))?;
        Ok(Tls { accepts: Arc::new(accepts), connects: Arc::new(connects) })
    }

    /// Secures a connection that this process has made to an address, within some time. Returns what stands for it from then on, and what
    /// tells whether the other end refuses it afterwards.
    pub fn connect(&self, stream: TcpStream, address: &str, wait: Duration) -> io::Result<(TcpStream, Refusal)> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(&self.connects), name).map_err(io::Error::other)?;
        let refusal = Refusal::default();
        let stream = secured(Securing::new(Connection::Client(session), stream), wait, &refusal)?;
        Ok((stream, refusal))
    }

    /// Begins to secure a connection that was made to this process. What is agreed on is [`carry`]'s to be carried.
    pub fn accept(&self, stream: TcpStream) -> io::Result<Securing> {
        let session = ServerConnection::new(Arc::clone(&self.accepts)).map_err(io::Error::other)?;
        Ok(Securing::new(Connection::Server(session), stream))
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates::read(path)?;
    if found.is_empty() { Err(format!("there are no certificates in {path:?}")) } else { Ok(found) }
}

/// Why the other end refuses a connection that this one takes for secured: it has looked at the certificate of this process by then.
#[derive(Clone, Debug, Default)]
pub struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    /// Waits for a moment until it is known, since it comes with the end of the connection.
    pub fn wait(&self) -> Option<&str> {
        let deadline = Instant::now() + REFUSAL_WAIT;
        while self.0.get().is_none() && Instant::now() < deadline {
            std::thread::sleep(REFUSAL_WAIT / 10);
        }
        self.0.get().map(String::as_str)
    }

    fn look(&self, error: &io::Error) {
        if is_alert(error) {
            self.0.set(format!("it refuses the certificate of this process: {error}")).ok();
        }
    }
}

/// Waits until both ends have agreed.
fn secured(mut securing: Securing, wait: Duration, refusal: &Refusal) -> io::Result<TcpStream> {
    let deadline = Instant::now() + wait;
    securing.stream().set_write_timeout(Some(wait))?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        securing.stream().set_read_timeout(Some(left))?;
        if securing.step()? {
            return carry(securing, refusal.clone());
        }
    }
}

/// The outer connection with its session.
struct Outer {
    session: Mutex<Connection>,
    /// Held while bytes of the session are sent, so that they go in their order.
    stream: Mutex<TcpStream>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outer {
    /// Sends what the session has to send, once it was given something.
    fn send(&self, tell: impl FnOnce(&mut Connection) -> io::Result<()>) -> io::Result<()> {
        let mut stream = locked(&self.stream);
        let mut bytes = Vec::new();
        {
            let mut session = locked(&self.session);
            tell(&mut session)?;
            flush(&mut session, &mut bytes)?;
        }
        stream.write_all(&bytes)
    }

    /// Takes what has come, and appends what it says.
    fn take(&self, mut come: &[u8], said: &mut Vec<u8>) -> io::Result<Taken> {
        let mut session = locked(&self.session);
        let mut state = decrypt(&mut session, said)?;
        while !come.is_empty() {
            session.read_tls(&mut come)?;
            state = decrypt(&mut session, said)?;
        }
        Ok(Taken { is_over: state.peer_has_closed(), has_answer: session.wants_write() })
    }
}

struct Taken {
    is_over: bool,
    has_answer: bool,
}

/// Decrypts what has come, and appends it.
fn decrypt(session: &mut Connection, said: &mut Vec<u8>) -> io::Result<IoState> {
    let state = session.process_new_packets().map_err(io::Error::other)?;
    let from = said.len();
    said.resize(from + state.plaintext_bytes_to_read(), 0);
    session.reader().read_exact(said.get_mut(from..).unwrap_or_default())?;
    Ok(state)
}

/// Carries bytes between a session that both ends have agreed on and an inner connection, in two threads. Returns the other end of that,
/// which stands for the secured connection from then on. Where the other end refuses it, `refusal` reports why.
pub fn carry(securing: Securing, refusal: Refusal) -> io::Result<TcpStream> {
    let (session, stream) = securing.into_parts();
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    stream.set_nodelay(true)?;
    let (inner, ours) = pair()?;
    let (mut inner, mut coming, mut going) = (inner.try_clone()?, stream.try_clone()?, inner);
    let outer = Arc::new(Outer { session: Mutex::new(session), stream: Mutex::new(stream) });
    let sends = Arc::clone(&outer);
    std::thread::Builder::new().name("tls-out".into()).spawn(move || {
        let mut block = vec![0; BLOCK_BYTES];
        while let Ok(read @ 1..) = going.read(&mut block) {
            if sends.send(|session| session.writer().write_all(block.get(..read).unwrap_or_default())).is_err() {
                going.shutdown(Shutdown::Both).ok();
                return;
            }
        }
        // It has said all. The other end may be gone.
        let end = |session: &mut Connection| {
            session.send_close_notify();
            Ok(())
        };
        sends.send(end).ok();
        locked(&sends.stream).shutdown(Shutdown::Write).ok();
    })?;
    std::thread::Builder::new().name("tls-in".into()).spawn(move || {
        let mut receive = || -> io::Result<()> {
            let (mut block, mut read) = (vec![0; BLOCK_BYTES], 0);
            loop {
                let mut said = Vec::new();
                // At first, what came with the end of the handshake.
                let taken = outer.take(block.get(..read).unwrap_or_default(), &mut said)?;
                inner.write_all(&said)?;
                if taken.has_answer {
                    outer.send(|_| Ok(()))?;
                }
                if taken.is_over {
                    return inner.shutdown(Shutdown::Write);
                }
                read = match coming.read(&mut block) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read?,
                };
            }
        };
        if let Err(error) = receive() {
            refusal.look(&error);
            // What is cut off is no end: nobody is left to talk to.
            inner.shutdown(Shutdown::Both).ok();
            coming.shutdown(Shutdown::Both).ok();
        }
    })?;
    Ok(ours)
}

/// Two ends of a connection within this host, which nobody else has.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let own = one.local_addr()?;
    for _ in 0..TRIES_MAX {
        let (other, from) = listener.accept()?;
        if from == own {
            one.set_nodelay(true)?;
            other.set_nodelay(true)?;
            return Ok((one, other));
        }
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
