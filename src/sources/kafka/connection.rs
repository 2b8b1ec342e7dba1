//! A connection to a broker: one question at a time, each with its answer.
//!
//! # Limits
//! An answer has [`ANSWER_BYTES_MAX`] bytes at most, and a broker that is silent for longer than [`SILENT_MAX`] is lost.

use super::api::{self, Api, code};
use super::scram::{Hash, Scram};
use super::wire::{Fields, Malformed, Writer};
use crate::sources::lost::Lost;
use crate::sources::sasl::Mechanism;
use crate::sources::tls;
use crate::sources::url::Url;
use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a connection may take to be there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a broker may be silent while it is asked, beyond what it is told to wait.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// An answer has so many bytes at most: 100 MiB. A message has fewer, and comes in a batch of its own where it is long.
pub const ANSWER_BYTES_MAX: usize = 100 << 20;
/// What this side is called in the logs of a broker.
const CLIENT: &str = "retally";
/// The bytes of a nonce.
const NONCE_BYTES: usize = 24;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// The number of the next question.
    next: i32,
    /// A question has no answer yet.
    is_asking: bool,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
}

/// Why a connection is not there.
enum NoLogin {
    Lost(Lost),
    /// The broker has these ways of login, and not the one that was tried.
    Other(Vec<String>),
}

impl From<Lost> for NoLogin {
    fn from(lost: Lost) -> NoLogin {
        NoLogin::Lost(lost)
    }
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Lost {
        Lost::before(error)
    }
}

impl Connection {
    /// Connects to a broker, and shows who reads where the URL says so.
    pub async fn open(url: &Url, host: &str, port: u16) -> Result<Connection, Lost> {
        let first = url.sasl.unwrap_or(Mechanism::Scram512);
        let offered = match Connection::login(url, host, port, first).await {
            Ok(connection) => return Ok(connection),
            Err(NoLogin::Lost(lost)) => return Err(lost),
            Err(NoLogin::Other(offered)) => offered,
        };
        let none = || Lost::before(format!("the broker has other ways of login than {}: {}", first.name(), offered.join(", ")));
        if url.sasl.is_some() {
            return Err(none());
        }
        let best = Mechanism::best(&offered, url.tls).map_err(Lost::before)?;
        Connection::login(url, host, port, best).await.map_err(|why| match why {
            NoLogin::Lost(lost) => lost,
            NoLogin::Other(_) => none(),
        })
    }

    async fn login(url: &Url, host: &str, port: u16, mechanism: Mechanism) -> Result<Connection, NoLogin> {
        let stream = timeout(CONNECT_MAX, connect(url, host, port)).await.map_err(|_| Lost::before("the broker does not answer"))??;
        let mut connection = Connection { stream, next: 0, is_asking: false, versions: BTreeMap::new() };
        connection.versions =
            api::versions(&mut connection.ask(Api::Versions, 0, &Writer::fixed(), SILENT_MAX).await?).map_err(Lost::from)?;
        if let Some(user) = &url.user {
            connection.authenticate(mechanism, user, url.password.as_deref().unwrap_or_default()).await?;
        }
        Ok(connection)
    }

    async fn authenticate(&mut self, mechanism: Mechanism, user: &str, password: &str) -> Result<(), NoLogin> {
        let mut body = Writer::fixed();
        body.text(mechanism.name());
        let mut answer = self.ask(Api::Handshake, 1, &body, SILENT_MAX).await?;
        let (code, offered) = (answer.i16().map_err(Lost::from)?, answer.all(Fields::text).map_err(Lost::from)?);
        match code {
            code::NONE => {}
            code::NO_MECHANISM => return Err(NoLogin::Other(offered)),
            _ => return Err(Lost::before(format!("the broker takes no login: error {code}")).into()),
        }
        let hash = match mechanism {
            Mechanism::Plain => {
                self.step(format!("\0{user}\0{password}").as_bytes()).await?;
                return Ok(());
            }
            Mechanism::Scram256 => Hash::Sha256,
            Mechanism::Scram512 => Hash::Sha512,
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(Lost::before)?;
        let scram = Scram::new(hash, user, password, &nonce);
        let said = self.step(scram.first().as_bytes()).await?;
        let proof = scram.proof(&said).map_err(|why| Lost::before(format!("the broker's login can't be followed: {why}")))?;
        let said = self.step(proof.last.as_bytes()).await?;
        if proof.is_met(&said) { Ok(()) } else { Err(Lost::before("the broker does not know the password itself").into()) }
    }

    /// A step of a login, and what the broker says to it.
    async fn step(&mut self, words: &[u8]) -> Result<String, Lost> {
        let mut body = Writer::fixed();
        body.blob(words);
        let mut answer = self.ask(Api::Authenticate, 0, &body, SILENT_MAX).await?;
        let (code, why, said) = (answer.i16()?, answer.text()?, answer.blob()?);
        match code {
            code::NONE => String::from_utf8(said.to_vec()).map_err(|_| Malformed.into()),
            code::LOGIN_REFUSED => Err(Lost::before(format!("the broker refuses the user or the password: {}", crate::shown::text(&why)))),
            _ => Err(Lost::before(format!("the broker takes no login: error {code}"))),
        }
    }

    /// Whether the broker knows a version of a request.
    pub fn has(&self, api: Api, version: i16) -> bool {
        self.versions.get(&api.key()).is_some_and(|range| range.contains(&version))
    }

    /// Whether the answer to a question was not waited for: nothing can be asked any more.
    pub fn is_left(&self) -> bool {
        self.is_asking
    }

    /// Asks, and returns the answer. The broker may wait for so long before it has one.
    pub async fn ask(&mut self, api: Api, version: i16, body: &Writer, wait: Duration) -> Result<Fields, Lost> {
        self.is_asking = true;
        let mut head = Writer::fixed();
        head.i16(api.key()).i16(version).i32(self.next).text(CLIENT);
        if body.is_flexible() {
            head.raw(&[0]);
        }
        let length = i32::try_from(head.bytes().len() + body.bytes().len()).map_err(Lost::before)?;
        let mut sent = BytesMut::new();
        for part in [&length.to_be_bytes()[..], head.bytes(), body.bytes()] {
            sent.extend_from_slice(part);
        }
        self.stream.write_all(&sent).await.map_err(|error| broken(&error))?;
        self.stream.flush().await.map_err(|error| broken(&error))?;
        let mut answer = Fields::new(self.answer(SILENT_MAX + wait).await?, body.is_flexible());
        if answer.i32()? != self.next {
            return Err(Malformed.into());
        }
        self.next = self.next.wrapping_add(1);
        self.is_asking = false;
        if body.is_flexible() {
            answer.end()?;
        }
        Ok(answer)
    }

    async fn answer(&mut self, wait: Duration) -> Result<Bytes, Lost> {
        let silent = |_| Lost::since("the broker does not answer");
        let length = timeout(wait, self.stream.read_i32()).await.map_err(silent)?.map_err(|error| broken(&error))?;
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        if length > ANSWER_BYTES_MAX {
            let mib = ANSWER_BYTES_MAX >> 20;
            return Err(Lost::before(format!("the broker's answer is longer than {mib} MiB, or none of Kafka's: is it encrypted?")));
        }
        let mut bytes = BytesMut::with_capacity(length.min(1 << 20));
        while bytes.len() < length {
            let mut rest = (&mut self.stream).take((length - bytes.len()) as u64);
            let read = timeout(SILENT_MAX, rest.read_buf(&mut bytes)).await.map_err(silent)?.map_err(|error| broken(&error))?;
            if read == 0 {
                return Err(broken(&io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(bytes.freeze())
    }
}

async fn connect(url: &Url, host: &str, port: u16) -> Result<Box<dyn Stream>, Lost> {
    let away = |error: &io::Error| Lost::before(format!("the broker can't be reached: {}", crate::staged::why(error)));
    let stream = TcpStream::connect((host, port)).await.map_err(|error| away(&error))?;
    stream.set_nodelay(true).map_err(|error| away(&error))?;
    if !url.tls {
        return Ok(Box::new(stream));
    }
    let config = tls::config(url.ca.as_deref()).map_err(Lost::before)?;
    let name = ServerName::try_from(host.to_string()).map_err(Lost::before)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => Lost::before(format!("the broker can't be told by its certificate: {error}")),
        Some(error) => Lost::before(format!("the connection can't be encrypted: {error}")),
        None => away(&error),
    })?;
    Ok(Box::new(stream))
}

fn broken(error: &io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Lost::since("the broker has ended the connection"),
        _ => Lost::since(format!("the connection is lost: {}", crate::staged::why(error))),
    }
}
