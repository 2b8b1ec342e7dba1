//! An MQTT broker of a test's own: `mosquitto`, in a temporary folder, on a free port, gone when the test is over.

use super::broker;
use super::service::free_port;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, MqttOptions, PublishOptions};
use std::fs;
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to start, and to end.
const SECONDS_MAX: u64 = 120;
/// So many messages are on their way to it at a time.
const UNDER_WAY_MAX: usize = 1_000;

/// A broker.
pub struct Mosquitto {
    folder: TempDir,
    process: Option<Child>,
    pub port: u16,
}

impl Mosquitto {
    /// Starts one that takes all comers.
    pub fn start() -> Mosquitto {
        Mosquitto::with(&[], "allow_anonymous true\n")
    }

    /// Starts one with these files in its folder, and these settings, in which `DIR` is the folder.
    pub fn with(files: &[(&str, &str)], settings: &str) -> Mosquitto {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let dir = folder.path().display().to_string();
        let config =
            format!("user root\nlistener {port} 127.0.0.1\npersistence true\npersistence_location DIR/\nmax_queued_messages 0\n{settings}");
        fs::write(folder.path().join("config"), config.replace("DIR", &dir)).unwrap();
        let mut broker = Mosquitto { folder, process: None, port };
        broker.run();
        broker
    }

    /// Starts its process.
    pub fn run(&mut self) {
        let until = Instant::now() + Duration::from_secs(SECONDS_MAX);
        loop {
            let mut process = broker::spawn("mosquitto", self.folder.path());
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    self.process = Some(process);
                    return;
                }
                assert!(Instant::now() < until, "mosquitto does not start: {}", broker::log(self.folder.path()));
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(Instant::now() < until, "mosquitto ends: {}", broker::log(self.folder.path()));
        }
    }

    /// Ends its process in order: it writes down its sessions, which it loses where it is killed.
    pub fn end(&mut self) {
        broker::end(&mut self.process.take().unwrap(), SECONDS_MAX);
    }

    /// A URL of it.
    pub fn url(&self, rest: &str) -> String {
        format!("mqtt://127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        broker::kill(&mut self.process);
    }
}

/// A message to be published: topic, payload, and whether it is retained.
pub type Published = (String, Vec<u8>, bool);

/// Publishes messages until the broker at the port has acknowledged each; some may come twice where it is away meanwhile.
pub fn publish(port: u16, messages: &[Published]) {
    let until = Instant::now() + Duration::from_secs(SECONDS_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut left = messages.len();
    while left > 0 {
        assert!(Instant::now() < until, "{left} messages are not published");
        left = runtime.block_on(publish_some(port, &messages[messages.len() - left..]));
        if left > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Publishes messages in portions by one connection. Returns how many are left when that is lost.
async fn publish_some(port: u16, messages: &[Published]) -> usize {
    let mut options = MqttOptions::new(format!("publisher{}", free_port()), ("127.0.0.1", port));
    options.set_incoming_packet_size_limit(rumqttc::IncomingPacketSizeLimit::Unlimited);
    let (client, mut events) = AsyncClient::builder(options).capacity(UNDER_WAY_MAX + 8).try_build().unwrap();
    let mut left = messages.len();
    for portion in messages.chunks(UNDER_WAY_MAX) {
        for (topic, payload, is_retained) in portion {
            let options = PublishOptions::new(QoS::AtLeastOnce).retain(*is_retained);
            client.try_publish(topic.clone(), payload.clone(), options).unwrap();
        }
        let mut acknowledged = 0;
        while acknowledged < portion.len() {
            match tokio::time::timeout(Duration::from_secs(10), events.poll()).await {
                Ok(Ok(Event::Incoming(Packet::PubAck(_)))) => acknowledged += 1,
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return left,
            }
        }
        left -= portion.len();
    }
    client.disconnect().await.ok();
    while events.poll().await.is_ok() {}
    0
}
