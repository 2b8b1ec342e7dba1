//! A broker of a test's own that speaks as Kafka does: `noida-db`, in a temporary folder, on a free port, gone when the test is over.
//!
//! It keeps what it has when it is ended in order. What came since it last began is lost where it is killed.

use super::broker;
use super::service::free_port;
use std::process::Child;
use tempfile::TempDir;

/// How long it may take to start, and to end.
const SECONDS_MAX: u64 = 60;

/// A broker.
pub struct KafkaBroker {
    folder: TempDir,
    process: Option<Child>,
    pub port: u16,
}

impl KafkaBroker {
    pub fn start() -> KafkaBroker {
        let mut broker = KafkaBroker { folder: TempDir::new().unwrap(), process: None, port: free_port() };
        broker.run();
        broker
    }

    /// Starts its process.
    pub fn run(&mut self) {
        let data = self.folder.path().join("data").display().to_string();
        let port = self.port.to_string();
        let words = ["start", "--only", "kafka", "--kafka-port", &port, "--data-dir", &data].map(String::from);
        self.process = Some(broker::started("noida-db", &words, self.folder.path(), self.port, SECONDS_MAX));
    }

    /// Ends its process in order.
    pub fn end(&mut self) {
        broker::end(&mut self.process.take().unwrap(), SECONDS_MAX);
    }

    /// Ends its process as a loss of power would.
    pub fn kill(&mut self) {
        broker::kill(&mut self.process);
    }

    /// A URL of it.
    pub fn url(&self, rest: &str) -> String {
        format!("kafka://127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        self.kill();
    }
}
