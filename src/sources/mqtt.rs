//! MQTT 5: a persistent session with QoS 1. A message is acknowledged when the journal has it, so a broker sends again what a service that
//! was killed has not kept; that a record comes twice changes no table.
//!
//! The session keeps what is published while the service is away, for [`SESSION_SECONDS`]. Each connection is a client of its own: what an
//! earlier connection has not acknowledged is not acknowledged on a later one, where the same packet number is another message.
//!
//! # Limits
//! Messages that are published with QoS 0 are lost while the connection is. A broker is told not to send messages of more than
//! [`PACKET_BYTES_MAX`] bytes, and drops them.

use super::gather::Acknowledge;
use super::inlet::{Inlet, Message};
use super::lost::{Lost, Tries};
use super::status::Status;
use super::tls;
use super::url::Url;
use crate::engine;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{ConnectReturnCode, Packet, RetainForwardRule, SubscribeFilter, SubscribeReasonCode};
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, IncomingPacketSizeLimit, MqttOptions, PersistedAckMode, PersistedSession,
    SessionStore, SessionStoreError, SessionStoreKey, TlsConfiguration, Transport,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A broker keeps a session for so long without a connection: seven days.
pub const SESSION_SECONDS: u32 = 7 * 86_400;
/// The longest packet: a message may be as long, and its topic.
pub const PACKET_BYTES_MAX: u32 = 80 << 20;
/// A broker that is silent for so long is asked whether it is there.
const KEEP_ALIVE_SECONDS: u16 = 30;
/// What a broker sends that is not acknowledged, at most. Some send more than they are told, and numbers of messages come again after
/// 65,535: so no more than this is read, and as much may be on its way to be acknowledged.
const UNACKNOWLEDGED_MAX: u16 = 24_000;
/// How long a connection may take to be there.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Acknowledges a message on the connection that it came by.
#[derive(Debug)]
pub struct Ack {
    client: Arc<AsyncClient>,
    /// Nothing with QoS 0.
    ack: Option<rumqttc::ManualAck>,
    /// Until it is acknowledged, there is room for one less.
    _room: Option<OwnedSemaphorePermit>,
}

impl Acknowledge for Ack {
    fn acknowledge(self) {
        // Where the connection is gone, the broker sends the message again.
        self.ack.into_iter().for_each(|ack| drop(self.client.try_manual_ack(ack)));
    }
}

type Kept<'s, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 's>>;

/// What this side keeps of a session for its next connection: nothing, since it publishes nothing.
#[derive(Debug)]
struct NothingKept(PersistedSession);

impl SessionStore for NothingKept {
    fn load<'s>(&'s self, _: &'s SessionStoreKey) -> Kept<'s, Option<PersistedSession>> {
        Box::pin(async { Ok(Some(self.0.clone())) })
    }

    fn save<'s>(&'s self, _: &'s SessionStoreKey, _: &'s PersistedSession) -> Kept<'s, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'s>(&'s self, _: &'s SessionStoreKey) -> Kept<'s, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Reads messages until nobody takes them. `told` is called when the broker is lost and when it is there again.
pub async fn run(url: &Url, client_id: &str, inlet: &Inlet<Ack>, status: &Status, told: impl Fn(&str)) {
    let mut tries = Tries::new(url);
    while let Err(lost) = session(url, client_id, inlet, status, &told).await {
        tries.wait(lost, status, &told).await;
    }
}

/// Reads messages by one connection. Ends well only where nobody takes them any more.
async fn session(url: &Url, client_id: &str, inlet: &Inlet<Ack>, status: &Status, told: &impl Fn(&str)) -> Result<(), Lost> {
    let mut was_there = false;
    let (client, mut events) = client(url, client_id).map_err(|why| Lost { why, was_there })?;
    let client = Arc::new(client);
    let mut filter = SubscribeFilter::new(url.path.clone(), QoS::AtLeastOnce);
    // What is retained comes with the subscription, and not again with each connection.
    filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
    let room = Arc::new(Semaphore::new(usize::from(UNACKNOWLEDGED_MAX)));
    client.try_subscribe_many([filter]).map_err(|error| Lost { why: error.to_string(), was_there })?;
    loop {
        let event = events.poll().await.map_err(|error| Lost { why: why(&error), was_there })?;
        match event {
            Event::Incoming(Packet::SubAck(ack)) => {
                if let Some(refused) = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_))) {
                    return Err(Lost { why: format!("the broker refuses the subscription: {}", words(refused)), was_there });
                }
                was_there = true;
                if status.connected() {
                    told(&format!("{}: connected", url.shown()));
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                let ack = client.prepare_ack(&publish);
                // It ends with this connection.
                let room = if ack.is_some() { Arc::clone(&room).acquire_owned().await.ok() } else { None };
                let ack = Ack { client: Arc::clone(&client), ack, _room: room };
                let message = Message { topic: publish.topic, time: engine::now(), payload: publish.payload, ..Message::default() };
                if inlet.send(message, ack).await.is_err() {
                    return Ok(());
                }
            }
            Event::Incoming(Packet::Disconnect(ended)) => {
                return Err(Lost { why: format!("the broker has ended the connection: {}", words(&ended.reason_code)), was_there });
            }
            _ => {}
        }
    }
}

fn client(url: &Url, client_id: &str) -> Result<(AsyncClient, EventLoop), String> {
    let mut options = MqttOptions::new(client_id, (url.host.clone(), url.port));
    options.set_keep_alive(KEEP_ALIVE_SECONDS);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(SESSION_SECONDS));
    options.set_outgoing_inflight_upper_limit(1);
    options.set_session_store(NothingKept(PersistedSession {
        format_version: 1,
        client_id: client_id.into(),
        clean_start: false,
        session_expiry_interval: Some(SESSION_SECONDS),
        outgoing_inflight_upper_limit: Some(1),
        ack_mode: PersistedAckMode::Manual,
        last_pkid: 0,
        last_puback: 0,
        replay: Vec::new(),
        incoming_qos2: Vec::new(),
    }));
    options.set_receive_maximum(Some(UNACKNOWLEDGED_MAX));
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(PACKET_BYTES_MAX));
    options.set_ack_mode(AckMode::Manual);
    options.set_connect_timeout(CONNECT_MAX);
    // Room for an acknowledgement of each message, and for what else is asked.
    options.set_request_channel_capacity(usize::from(UNACKNOWLEDGED_MAX) + 64);
    if let Some(user) = &url.user {
        options.set_credentials(user.clone(), url.password.clone().unwrap_or_default());
    }
    if url.tls {
        let config = tls::config(url.ca.as_deref())?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
    }
    let capacity = options.request_channel_capacity();
    AsyncClient::builder(options).capacity(capacity).try_build().map_err(|error| error.to_string())
}

/// Why a connection is not there.
fn why(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code @ (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized)) => {
            format!("the broker refuses the user or the password: {}", words(code))
        }
        ConnectionError::ConnectionRefused(code) => format!("the broker refuses the connection: {}", words(code)),
        ConnectionError::Io(error) => format!("the broker can't be reached: {}", crate::staged::why(error)),
        ConnectionError::Timeout(_) => "the broker does not answer".into(),
        other => format!("the connection is lost: {}", crate::shown::text(&other.to_string())),
    }
}

/// A code in words: `NotAuthorized` is "not authorized".
fn words(code: &impl std::fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}
