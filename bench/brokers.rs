//! Brokers of a bench's own, each a process in a temporary folder, and what publishes to them.

use crate::Result;
use async_nats::jetstream::stream::Config;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, IncomingPacketSizeLimit, MqttOptions, PublishOptions};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// So many messages are on their way at a time.
const UNDER_WAY_MAX: usize = 1_000;
/// Longer than a broker takes to start, or to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A kind of broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mqtt,
    Nats,
}

impl Kind {
    /// What it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mqtt => "MQTT",
            Kind::Nats => "NATS",
        }
    }
}

/// A broker.
pub struct Broker {
    kind: Kind,
    process: Child,
    port: u16,
    runtime: Runtime,
    _folder: TempDir,
}

impl Broker {
    /// Starts one.
    pub fn start(kind: Kind, within: &Path) -> Result<Broker> {
        let folder = tempfile::tempdir_in(within)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let dir = folder.path().display();
        let (program, config) = match kind {
            Kind::Mqtt => (
                "mosquitto",
                format!(
                    "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\npersistence true\npersistence_location {dir}/\n"
                ),
            ),
            Kind::Nats => ("nats-server", format!("listen: 127.0.0.1:{port}\njetstream: {{ store_dir: \"{dir}/store\" }}\n")),
        };
        let path = folder.path().join("config");
        fs::write(&path, config)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("could not start {program}: {error}; scripts/test installs it"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let broker = Broker { kind, process, port, runtime, _folder: folder };
        let until = Instant::now() + ANSWER_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err(format!("{program} does not start").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if kind == Kind::Nats {
            let stream = Config { name: "events".into(), subjects: vec!["events".into()], ..Config::default() };
            broker.runtime.block_on(async {
                context(port).await?.create_stream(stream).await?;
                Ok::<_, Box<dyn std::error::Error>>(())
            })?;
        }
        Ok(broker)
    }

    /// Where a service finds its messages.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Mqtt => format!("mqtt://127.0.0.1:{}/events?format=csv", self.port),
            Kind::Nats => format!("nats://127.0.0.1:{}/events?format=csv", self.port),
        }
    }

    /// Publishes messages until each is acknowledged.
    pub fn publish(&self, messages: &[String]) -> Result<()> {
        match self.kind {
            Kind::Mqtt => self.runtime.block_on(publish_mqtt(self.port, messages)),
            Kind::Nats => self.runtime.block_on(publish_nats(self.port, messages)),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // What is gone can't be ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn publish_mqtt(port: u16, messages: &[String]) -> Result<()> {
    let mut options = MqttOptions::new("publisher", ("127.0.0.1", port));
    options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Unlimited);
    let (client, mut events) = AsyncClient::builder(options).capacity(UNDER_WAY_MAX + 8).try_build()?;
    for portion in messages.chunks(UNDER_WAY_MAX) {
        for message in portion {
            client.try_publish("events", message.clone(), PublishOptions::new(QoS::AtLeastOnce))?;
        }
        let mut acknowledged = 0;
        while acknowledged < portion.len() {
            if let Event::Incoming(Packet::PubAck(_)) = tokio::time::timeout(ANSWER_MAX, events.poll()).await?? {
                acknowledged += 1;
            }
        }
    }
    client.disconnect().await?;
    while events.poll().await.is_ok() {}
    Ok(())
}

async fn context(port: u16) -> Result<async_nats::jetstream::Context> {
    Ok(async_nats::jetstream::new(async_nats::connect(format!("nats://127.0.0.1:{port}")).await?))
}

async fn publish_nats(port: u16, messages: &[String]) -> Result<()> {
    let context = context(port).await?;
    for portion in messages.chunks(UNDER_WAY_MAX) {
        let mut acknowledged = Vec::new();
        for message in portion {
            acknowledged.push(context.publish("events", message.clone().into()).await?);
        }
        for one in acknowledged {
            one.await?;
        }
    }
    Ok(())
}
