//! A receiver of webhooks that answers as it is told to.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Says {
    /// With this status.
    Status(u16),
    /// And with this header `Retry-After`.
    Later(u16, String),
    /// With 200, after so long.
    Slow(Duration),
    /// Somewhere else.
    Elsewhere(String),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub at: Instant,
    /// How it was answered.
    pub status: u16,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn id(&self) -> &str {
        self.headers["retally-id"].to_str().unwrap()
    }

    pub fn epoch(&self) -> u64 {
        self.json()["epoch"].as_u64().unwrap()
    }

    /// Its signature is that of this secret, and of now.
    #[track_caller]
    pub fn is_signed(&self, secret: &str) {
        let header = self.headers["retally-signature"].to_str().unwrap();
        let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(now - time.parse::<u64>().unwrap() < 300, "{header}");
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(&[time.as_bytes(), b".", &self.body].concat());
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signature, expected);
    }
}

#[derive(Default)]
struct Kept {
    requests: Vec<Request>,
    says: VecDeque<Says>,
    /// What is said when nothing else is.
    otherwise: u16,
}

type Shared = Arc<Mutex<Kept>>;

/// The receiver.
pub struct Receiver {
    pub port: u16,
    kept: Shared,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// One that answers 200.
    pub fn start() -> Receiver {
        let kept = Shared::new(Mutex::new(Kept { otherwise: 200, ..Kept::default() }));
        let mut receiver = Receiver { port: super::service::free_port(), kept, runtime: None };
        receiver.run();
        receiver
    }

    /// Listens on its port.
    pub fn run(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router = Router::new().fallback(receive).with_state(Arc::clone(&self.kept));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", self.port))).unwrap();
        runtime.spawn(async move {
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                let connection = builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service).into_owned();
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        self.runtime = Some(runtime);
    }

    /// Nobody listens any more.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Answers the next requests so, one after the other.
    pub fn say(&self, says: impl IntoIterator<Item = Says>) {
        self.kept.lock().unwrap().says.extend(says);
    }

    /// Answers all others so.
    pub fn say_always(&self, status: u16) {
        self.kept.lock().unwrap().otherwise = status;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.kept.lock().unwrap().requests.clone()
    }

    /// Those that were taken.
    pub fn taken(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.status == 200).collect()
    }

    /// What is behind `webhook:` and before `#`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

async fn receive(State(kept): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (says, otherwise) = {
        let mut kept = kept.lock().unwrap();
        (kept.says.pop_front(), kept.otherwise)
    };
    let says = says.unwrap_or(Says::Status(otherwise));
    let status = match &says {
        Says::Status(status) | Says::Later(status, _) => *status,
        // Whoever sends it gives up before.
        Says::Slow(_) => 408,
        Says::Elsewhere(_) => 307,
    };
    let request = Request { path: uri.path().into(), headers, body: body.to_vec(), at: Instant::now(), status };
    kept.lock().unwrap().requests.push(request);
    let mut answer = StatusCode::from_u16(status).unwrap().into_response();
    match says {
        Says::Status(_) => {}
        Says::Later(_, after) => drop(answer.headers_mut().insert("retry-after", HeaderValue::from_str(&after).unwrap())),
        Says::Slow(time) => tokio::time::sleep(time).await,
        Says::Elsewhere(url) => drop(answer.headers_mut().insert("location", HeaderValue::from_str(&url).unwrap())),
    }
    answer
}
