//! A way to an S3 server on which requests for objects of a journal come to grief: a request at a time, by plan.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of a request to write an object of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out, and the connection breaks before the answer.
    AnswerLost,
    /// The connection breaks before the server hears of it.
    RequestLost,
    /// It is not carried out: another one is said to be under way.
    Conflict,
    /// It is carried out, and then once more.
    Repeated,
    /// It is not carried out, for no reason of its own.
    Unavailable,
}

/// The way.
pub struct FaultyWay {
    pub address: SocketAddr,
    planned: Arc<Mutex<VecDeque<Fault>>>,
    away: Arc<AtomicBool>,
    /// Whether what exists is said to have been created.
    careless: Arc<AtomicBool>,
    happened: Arc<AtomicU64>,
}

impl FaultyWay {
    /// One to this server. It ends with the test.
    pub fn to(server: SocketAddr) -> FaultyWay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let way = FaultyWay { address, planned: Arc::default(), away: Arc::default(), careless: Arc::default(), happened: Arc::default() };
        let (planned, away, careless, happened) =
            (Arc::clone(&way.planned), Arc::clone(&way.away), Arc::clone(&way.careless), Arc::clone(&way.happened));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (planned, away, careless, happened) =
                    (Arc::clone(&planned), Arc::clone(&away), Arc::clone(&careless), Arc::clone(&happened));
                std::thread::spawn(move || {
                    let Some(request) = request(&client) else { return };
                    if away.load(Ordering::Acquire) {
                        return;
                    }
                    let is_write = request.starts_with(b"PUT ") && line(&request).contains("/journal/");
                    let fault = if is_write { planned.lock().unwrap().pop_front() } else { None };
                    happened.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
                    let answer = match fault {
                        Some(Fault::RequestLost) => return,
                        Some(Fault::AnswerLost) => return drop(ask(server, &request)),
                        Some(Fault::Conflict) => answer("409 Conflict", "ConditionalRequestConflict"),
                        Some(Fault::Unavailable) => answer("503 Service Unavailable", "SlowDown"),
                        Some(Fault::Repeated) => {
                            ask(server, &request);
                            ask(server, &request)
                        }
                        None => ask(server, &request),
                    };
                    let is_refused = answer.starts_with(b"HTTP/1.1 412 ");
                    let is_untrue = is_write && is_refused && careless.load(Ordering::Acquire);
                    let granted = b"HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    (&client).write_all(if is_untrue { granted } else { &answer }).ok();
                    client.shutdown(Shutdown::Both).ok();
                });
            }
        });
        way
    }

    /// This becomes of the next requests to write.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.planned.lock().unwrap().extend(faults);
    }

    /// What has not become of a request yet does not.
    pub fn forget(&self) {
        self.planned.lock().unwrap().clear();
    }

    /// To how many requests something has happened.
    pub fn happened(&self) -> u64 {
        self.happened.load(Ordering::Relaxed)
    }

    /// Whether the server can be reached.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// What exists is said to have been created.
    pub fn be_careless(&self) {
        self.careless.store(true, Ordering::Release);
    }
}

fn line(request: &[u8]) -> String {
    String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned()
}

/// A request, with its body.
fn request(mut client: &TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut block) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
            while bytes.len() < end + 4 + length {
                match client.read(&mut block) {
                    Ok(read @ 1..) => bytes.extend(&block[..read]),
                    _ => return None,
                }
            }
            return Some(bytes);
        }
        match client.read(&mut block) {
            Ok(read @ 1..) => bytes.extend(&block[..read]),
            _ => return None,
        }
    }
}

/// What a server answers. It is asked for one thing on each connection.
fn ask(server: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut upstream = TcpStream::connect(server).unwrap();
    let end = request.windows(2).position(|part| part == b"\r\n").unwrap();
    let mut said = request[..end].to_vec();
    said.extend(b"\r\nconnection: close");
    said.extend(&request[end..]);
    upstream.write_all(&said).unwrap();
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).unwrap();
    answer
}

fn answer(status: &str, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    format!("HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        .into()
}
