//! A NATS server with JetStream of a test's own: `nats-server`, in a temporary folder, on a free port, gone when the test is over.

use super::broker;
use super::service::free_port;
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Config;
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long it may take to start, and a message to be there.
const SECONDS_MAX: u64 = 60;
/// So many messages are on their way to it at a time.
const UNDER_WAY_MAX: usize = 1_000;

/// A server.
pub struct NatsServer {
    folder: TempDir,
    process: Option<Child>,
    pub port: u16,
}

impl NatsServer {
    /// Starts one that takes all comers.
    pub fn start() -> NatsServer {
        NatsServer::with("")
    }

    /// Starts one with these settings.
    pub fn with(settings: &str) -> NatsServer {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let store = folder.path().join("store").display().to_string();
        let config = format!("listen: 127.0.0.1:{port}\njetstream: {{ store_dir: \"{store}\" }}\n{settings}\n");
        fs::write(folder.path().join("config"), config).unwrap();
        let mut server = NatsServer { folder, process: None, port };
        server.run();
        server
    }

    /// Starts its process.
    pub fn run(&mut self) {
        let folder = self.folder.path();
        self.process = Some(broker::started("nats-server", &broker::configured(folder), folder, self.port, SECONDS_MAX));
    }

    /// Ends its process as a loss of power would.
    pub fn kill(&mut self) {
        broker::kill(&mut self.process);
    }

    /// A URL of a stream.
    pub fn url(&self, rest: &str) -> String {
        format!("nats://127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes and fills streams, from outside.
pub struct Publisher {
    port: u16,
    runtime: Runtime,
}

impl Publisher {
    pub fn new(port: u16) -> Publisher {
        Publisher { port, runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap() }
    }

    async fn context(&self) -> Option<Context> {
        let connected = async_nats::ConnectOptions::new().connect(format!("nats://127.0.0.1:{}", self.port)).await;
        Some(async_nats::jetstream::new(connected.ok()?))
    }

    /// Makes a stream of all subjects that begin with a word.
    pub fn stream(&self, name: &str, word: &str) {
        let config = Config { name: name.into(), subjects: vec![format!("{word}.>")], ..Config::default() };
        self.runtime.block_on(async { self.context().await.unwrap().create_stream(config).await.unwrap() });
    }

    /// Removes one.
    pub fn remove(&self, name: &str) {
        self.runtime.block_on(async { self.context().await.unwrap().delete_stream(name).await.unwrap() });
    }

    /// Publishes messages until the server has said of each that it is there. Each has an id, so that it is there once.
    pub fn publish(&self, messages: &[(String, Vec<u8>)], first_id: usize) {
        let until = Instant::now() + Duration::from_secs(SECONDS_MAX);
        let portions = messages.chunks(UNDER_WAY_MAX).scan(first_id, |id, portion| {
            let first = *id;
            *id += portion.len();
            Some((first, portion))
        });
        for (first, portion) in portions {
            while self.runtime.block_on(async { self.portion(portion, first).await }).is_none() {
                assert!(Instant::now() < until, "{} messages are not published", portion.len());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    async fn portion(&self, messages: &[(String, Vec<u8>)], first_id: usize) -> Option<()> {
        let context = tokio::time::timeout(Duration::from_secs(5), self.context()).await.ok()??;
        let mut acknowledged = Vec::new();
        for ((subject, payload), id) in messages.iter().zip(first_id..) {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.to_string());
            acknowledged.push(context.publish_with_headers(subject.clone(), headers, payload.clone().into()).await.ok()?);
        }
        for one in acknowledged {
            tokio::time::timeout(Duration::from_secs(5), one.into_future()).await.ok()?.ok()?;
        }
        Some(())
    }
}
