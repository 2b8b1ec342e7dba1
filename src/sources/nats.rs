//! NATS JetStream: each message of a stream has a number, and the journal has the number of the last one with the batch. So each message is
//! taken exactly once, whatever ends the service or the server: reading goes on behind that number.
//!
//! What is read with is a consumer without a name that acknowledges nothing, and that the server removes when it is not used any more.
//!
//! # Limits
//! A stream that was created again under its name begins with number 1 again: it is told by the time of its creation, and read from its
//! beginning. What a stream has dropped before it was read is gone, and said so.

use super::gather::Acknowledge;
use super::inlet::{Inlet, Message};
use super::lost::{Lost, Tries};
use super::status::Status;
use super::tls;
use super::url::Url;
use async_nats::jetstream::consumer::pull::{Config, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt;
use retally_core::time::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// So many messages are asked for at a time.
const ASKED: usize = 4_000;
/// And for so long, where there are none.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// A server that is silent for twice as long while it is asked is lost.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A consumer that is not used for so long is removed.
const UNUSED_MAX: Duration = Duration::from_secs(120);
/// How long a connection may take to be there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The server's code of a stream that is not there.
const NO_STREAM: u64 = 10_059;

/// Nothing is acknowledged: the journal says how far it is.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Acknowledge for Nothing {
    fn acknowledge(self) {}
}

/// What is read.
pub struct Reader<'r> {
    /// Where it is.
    pub url: &'r Url,
    /// The numbers of the last messages of streams, by what [`Message::of`] calls them.
    pub last: BTreeMap<String, u64>,
    /// Where messages go.
    pub inlet: &'r Inlet<Nothing>,
    /// How it is.
    pub status: &'r Status,
}

impl Reader<'_> {
    /// Reads messages until nobody takes them. `told` is called when the server is lost and when it is there again.
    pub async fn run(mut self, told: impl Fn(&str)) {
        let mut tries = Tries::new(self.url);
        while let Err(lost) = self.session(&told).await {
            tries.wait(lost, self.status, &told).await;
        }
    }

    /// Reads messages by one connection. Ends well only where nobody takes them any more.
    async fn session(&mut self, told: &impl Fn(&str)) -> Result<(), Lost> {
        let (client, mut gone) = connect(self.url).await?;
        let context = async_nats::jetstream::new(client.clone());
        let stream = context.get_stream(&self.url.path).await.map_err(|error| {
            Lost::before(match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code().0 == NO_STREAM => {
                    format!("the server has no stream {:?}", self.url.path)
                }
                GetStreamErrorKind::Request => format!("the server has no JetStream, or does not answer: {error}"),
                _ => format!("the stream {:?} can't be read: {error}", self.url.path),
            })
        })?;
        let of: Arc<str> = identity(self.url, &stream).into();
        let last = self.last.get(&*of).copied().unwrap_or(0);
        let state = &stream.cached_info().state;
        if last > state.last_sequence {
            return Err(Lost::before(format!("the stream ends with message {}, and {last} was read before", state.last_sequence)));
        }
        if last > 0 && last + 1 < state.first_sequence {
            self.status.removed(state.first_sequence - 1 - last);
            told(&format!("{}: messages {} to {} are gone from the stream", self.url.shown(), last + 1, state.first_sequence - 1));
        }
        if last > 0 {
            self.status.begun(0, last);
        }
        let mut messages = self.ask(&stream, last).await?;
        if self.status.connected() {
            told(&format!("{}: connected", self.url.shown()));
        }
        let mut expected = 1;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                _ = gone.changed() => return Err(Lost::since("the connection is lost")),
            };
            let message = next.ok_or_else(|| Lost::since("the server has ended the subscription"))?;
            let message = message.map_err(|error| Lost::since(format!("the connection is lost: {error}")))?;
            let (number, nth, pending, published) = {
                let info = message.info().map_err(|error| Lost::since(format!("the server sends something else: {error}")))?;
                (info.stream_sequence, info.consumer_sequence, info.pending, info.published.unix_timestamp_nanos())
            };
            if nth != expected {
                return Err(Lost::since("messages were lost on the way"));
            }
            expected += 1;
            self.status.set_lag(pending);
            let async_nats::Message { subject, payload, headers, .. } = message.message;
            let key = headers.as_ref().and_then(id).unwrap_or_default();
            let time = Moment(i64::try_from(published / 1_000).unwrap_or(i64::MAX));
            let message = Message {
                of: Arc::clone(&of),
                topic: Bytes::from(subject.into_string()),
                partition: 0,
                number: Some(number),
                time,
                key: key.into(),
                payload,
                ..Message::default()
            };
            if self.inlet.send(message, Nothing).await.is_err() {
                return Ok(());
            }
            // From here on it is on its way, and is not asked for again by this process.
            self.last.insert(of.to_string(), number);
        }
    }

    /// Asks for what stands behind a message.
    async fn ask(&self, stream: &Stream, last: u64) -> Result<Messages, Lost> {
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            ack_policy: AckPolicy::None,
            filter_subject: self.url.subject.clone().unwrap_or_default(),
            inactive_threshold: UNUSED_MAX,
            memory_storage: true,
            ..Config::default()
        };
        let failed = |error: String| Lost::before(format!("the stream {:?} can't be read: {error}", self.url.path));
        let consumer = stream.create_consumer(config).await.map_err(|error| failed(error.to_string()))?;
        self.status.set_lag(consumer.cached_info().num_pending);
        let asked = consumer.stream().max_messages_per_batch(ASKED).expires(ASKED_FOR).heartbeat(HEARTBEAT);
        asked.messages().await.map_err(|error| failed(error.to_string()))
    }
}

/// A stream, by what no other one has: its name and when it was created; and what is read of it.
fn identity(url: &Url, stream: &Stream) -> String {
    let created = stream.cached_info().created.unix_timestamp_nanos();
    let subject = url.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    format!("nats {} {created}{subject}", url.path)
}

/// What a publisher calls a message.
fn id(headers: &HeaderMap) -> Option<String> {
    headers.get("Nats-Msg-Id").map(|id| id.as_str().to_string())
}

/// Connects once. What it returns changes when the connection is lost.
async fn connect(url: &Url) -> Result<(Client, watch::Receiver<()>), Lost> {
    let (lost, gone) = watch::channel(());
    let lost = Arc::new(lost);
    let mut options = ConnectOptions::new().name("retally").connection_timeout(CONNECT_MAX).max_reconnects(1).ignore_discovered_servers();
    options = match (&url.user, &url.password) {
        (Some(user), Some(password)) => options.user_and_password(user.clone(), password.clone()),
        (Some(token), None) => options.token(token.clone()),
        _ => options,
    };
    if url.tls {
        options = options.require_tls(true).tls_client_config(tls::config(url.ca.as_deref()).map_err(Lost::before)?);
    }
    options = options.event_callback(move |event| {
        if matches!(event, Event::Disconnected | Event::Closed) {
            lost.send_replace(());
        }
        std::future::ready(())
    });
    let address: ServerAddr = format!("nats://{}", url.address()).parse().map_err(Lost::before)?;
    let client = options.connect(address).await.map_err(|error| Lost::before(why(&error)))?;
    Ok((client, gone))
}

/// Why a connection is not there.
fn why(error: &ConnectError) -> String {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            "the broker refuses the user or the password: not authorized".into()
        }
        ConnectErrorKind::TimedOut => "the broker does not answer".into(),
        ConnectErrorKind::Tls => format!("the broker can't be told by its certificate: {}", crate::shown::text(&error.to_string())),
        _ => format!("the broker can't be reached: {}", crate::shown::text(&error.to_string())),
    }
}
