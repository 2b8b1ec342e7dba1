//! In front of a Kafka broker: asks who comes (SASL), and encrypts, where a test says so. What the broker says of itself leads here.

use super::service::free_port;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use kafka_protocol::messages::{
    ApiKey, MetadataResponse, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes, decode_request_header_from_buffer};
use rustls::ServerConfig;
use sha2::{Digest, Sha512};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// Who may come, and how.
#[derive(Clone)]
pub struct Login {
    pub mechanism: &'static str,
    pub user: &'static str,
    pub password: &'static str,
}

/// A front, gone when the test is.
pub struct KafkaFront {
    pub port: u16,
    _runtime: Runtime,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl KafkaFront {
    /// In front of the broker at a port of this machine, which has to be called `localhost` where it is encrypted.
    pub fn start(broker: u16, login: Option<Login>, tls: Option<Arc<ServerConfig>>) -> KafkaFront {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = free_port();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (login, tls) = (login.clone(), tls.clone());
                tokio::spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        Some(config) => Box::new(TlsAcceptor::from(config).accept(client).await?),
                        None => Box::new(client),
                    };
                    pass(stream, TcpStream::connect(("127.0.0.1", broker)).await?, login, port).await
                });
            }
        });
        KafkaFront { port, _runtime: runtime }
    }
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut bytes = vec![0; from.read_u32().await? as usize];
    from.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_u32(u32::try_from(bytes.len()).unwrap()).await?;
    to.write_all(bytes).await?;
    to.flush().await
}

fn answer<R: Encodable + HeaderVersion>(header: &RequestHeader, response: &R) -> BytesMut {
    let mut bytes = BytesMut::new();
    let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
    head.encode(&mut bytes, R::header_version(header.request_api_version)).unwrap();
    response.encode(&mut bytes, header.request_api_version).unwrap();
    bytes
}

/// Passes questions and answers on, one at a time, from a client that has logged in.
async fn pass(mut client: Box<dyn Stream>, mut broker: TcpStream, login: Option<Login>, port: u16) -> io::Result<()> {
    let (mut said, mut is_in) = (Vec::new(), login.is_none());
    loop {
        let question = frame(&mut client).await?;
        let mut rest = question.clone();
        let header = decode_request_header_from_buffer(&mut rest).map_err(io::Error::other)?;
        let (key, version) = (ApiKey::try_from(header.request_api_key).unwrap(), header.request_api_version);
        match (key, &login) {
            (ApiKey::SaslHandshake, Some(login)) => {
                let asked = SaslHandshakeRequest::decode(&mut rest, version).unwrap().mechanism;
                let code = if asked == *login.mechanism { 0 } else { 33 };
                let offered = vec![StrBytes::from_static_str(login.mechanism)];
                let response = SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(offered);
                send(&mut client, &answer(&header, &response)).await?;
            }
            (ApiKey::SaslAuthenticate, Some(login)) => {
                let words = SaslAuthenticateRequest::decode(&mut rest, version).unwrap().auth_bytes;
                said.push(String::from_utf8(words.to_vec()).unwrap());
                let response = match reply(login, &said) {
                    Some((words, done)) => {
                        is_in = done;
                        SaslAuthenticateResponse::default().with_auth_bytes(words.into())
                    }
                    None => {
                        let why = StrBytes::from_static_str("Authentication failed: Invalid username or password");
                        SaslAuthenticateResponse::default().with_error_code(58).with_error_message(Some(why))
                    }
                };
                send(&mut client, &answer(&header, &response)).await?;
            }
            _ if !is_in && key != ApiKey::ApiVersions => return Ok(()),
            _ => {
                send(&mut broker, &question).await?;
                let mut found = frame(&mut broker).await?;
                if key == ApiKey::Metadata {
                    ResponseHeader::decode(&mut found, MetadataResponse::header_version(version)).unwrap();
                    let mut response = MetadataResponse::decode(&mut found, version).unwrap();
                    for broker in &mut response.brokers {
                        (broker.host, broker.port) = (StrBytes::from_static_str("localhost"), i32::from(port));
                    }
                    found = answer(&header, &response).freeze();
                }
                send(&mut client, &found).await?;
            }
        }
    }
}

/// What is replied to what a client has said so far, and whether it is in; nothing where it is refused.
fn reply(login: &Login, said: &[String]) -> Option<(Vec<u8>, bool)> {
    const SALT: &[u8] = b"some salt of a test";
    const ITERATIONS: u32 = 4_096;
    if login.mechanism == "PLAIN" {
        return (said == [format!("\0{}\0{}", login.user, login.password)]).then(|| (Vec::new(), true));
    }
    let first = said[0].strip_prefix("n,,")?;
    let nonce = first.strip_prefix(&format!("n={},r=", login.user))?;
    let server = format!("r={nonce}and more,s={},i={ITERATIONS}", BASE64.encode(SALT));
    let Some(last) = said.get(1) else { return Some((server.into_bytes(), false)) };
    let (without_proof, proof) = last.split_once(",p=")?;
    let hmac = |key: &[u8], text: &[u8]| Hmac::<Sha512>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec();
    let xor = |one: &[u8], two: &[u8]| one.iter().zip(two).map(|(one, two)| one ^ two).collect::<Vec<u8>>();
    let mut last = hmac(login.password.as_bytes(), &[SALT, &[0, 0, 0, 1]].concat());
    let mut salted = last.clone();
    for _ in 1..ITERATIONS {
        last = hmac(login.password.as_bytes(), &last);
        salted = xor(&salted, &last);
    }
    let all = format!("{first},{server},{without_proof}");
    let stored = Sha512::digest(hmac(&salted, b"Client Key")).to_vec();
    // The client's key follows from what it has proven.
    let key = xor(&BASE64.decode(proof).ok()?, &hmac(&stored, all.as_bytes()));
    if Sha512::digest(&key).to_vec() != stored {
        return None;
    }
    let signature = BASE64.encode(hmac(&hmac(&salted, b"Server Key"), all.as_bytes()));
    Some((format!("v={signature}").into_bytes(), true))
}
