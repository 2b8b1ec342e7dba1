//! Kafka: each message has an offset in its partition, and the journal has the offset of the last one of each partition with the batch. So
//! each message is taken exactly once, whatever ends the service or a broker: reading goes on behind these offsets.
//!
//! What is read with belongs to no group, and commits nothing to the broker. One connection asks which partitions there are and who leads
//! them, now and then; one to each leader fetches their messages. Messages of transactions count when these are done.
//!
//! # Limits
//! Where brokers give ids to topics (since Kafka 2.8), a topic that is created again under its name is another one, and read from its
//! beginning; where they give none, it is told by its offsets alone. Brokers before 0.11 are not read.

mod api;
mod batch;
mod behind;
mod connection;
mod leader;
mod scram;
mod unpack;
mod wire;

use super::gather::Acknowledge;
use super::inlet::{Inlet, Message};
use super::lost::{Lost, Tries};
use super::start::Start;
use super::status::Status;
use super::url::Url;
use api::{Api, At, Topic, code};
use bytes::Bytes;
use connection::Connection;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use leader::Leader;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How often is looked which partitions there are.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long is waited where a partition moves to another broker.
const MOVING: Duration = Duration::from_millis(200);
/// The partition whose position says that a start was decided: messages have none of this number.
const STARTED: i32 = -1;

/// What is told when the journal has a message. Nothing is acknowledged to the broker.
#[derive(Debug)]
pub struct Ack(Option<oneshot::Sender<()>>);

impl Acknowledge for Ack {
    fn acknowledge(self) {
        // Whoever waited for it may be gone.
        self.0.map(|sender| sender.send(()).ok());
    }
}

/// What is read.
pub struct Reader<'r> {
    /// Where it is.
    pub url: &'r Url,
    /// The offsets of the last messages, by what [`Message::of`] calls their topic, and their partition.
    pub last: BTreeMap<(String, i32), u64>,
    /// Where messages go.
    pub inlet: &'r Inlet<Ack>,
    /// How it is.
    pub status: &'r Status,
}

/// The next offset of each partition of a topic.
type Next = BTreeMap<(String, i32), Arc<AtomicI64>>;

/// Why fetching ends.
enum Ended {
    /// Nobody takes messages any more.
    Closed,
    /// Partitions are elsewhere, or others.
    Moved,
}

/// A topic that is read over a session with its brokers.
struct TopicSession<'r> {
    url: &'r Url,
    topic: Topic,
    /// What its offsets are of.
    of: Arc<str>,
    name: Bytes,
    inlet: &'r Inlet<Ack>,
    status: &'r Status,
    told: &'r (dyn Fn(&str) + Sync),
    /// Of each partition.
    lag: Mutex<BTreeMap<i32, u64>>,
}

impl TopicSession<'_> {
    fn tell(&self, what: &str) {
        (self.told)(&format!("{}: {what}", self.url.shown()));
    }

    fn set_lag(&self, partition: i32, messages: i64) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        lag.insert(partition, u64::try_from(messages).unwrap_or(0));
        self.status.set_lag(lag.values().sum());
    }
}

impl Reader<'_> {
    /// Reads messages until nobody takes them. `told` is called when the broker is lost and when it is there again.
    pub async fn run(self, told: impl Fn(&str) + Sync) {
        let mut tries = Tries::new(self.url);
        let place = |(of, last): (&(String, i32), &u64)| (of.clone(), Arc::new(AtomicI64::new(i64::try_from(*last).unwrap_or(0) + 1)));
        let mut next: Next = self.last.iter().map(place).collect();
        loop {
            let mut was_there = false;
            match self.session(&mut next, &mut was_there, &told).await {
                Ok(()) => return,
                Err(lost) => tries.wait(Lost { was_there: was_there && lost.was_there, ..lost }, self.status, &told).await,
            }
        }
    }

    /// Reads messages until a connection is lost. Ends well only where nobody takes them any more.
    async fn session(&self, next: &mut Next, was_there: &mut bool, told: &(impl Fn(&str) + Sync)) -> Result<(), Lost> {
        let mut control = self.any_broker().await?;
        loop {
            let topic = self.topic(&mut control).await?;
            let name = &self.url.path;
            let of = match topic.id {
                Some(id) => format!("kafka {name} {}", crate::hex::hex(&id)),
                None => format!("kafka {name} {}", topic.cluster),
            };
            let session = TopicSession {
                url: self.url,
                topic,
                of: of.into(),
                name: name.clone().into(),
                inlet: self.inlet,
                status: self.status,
                told,
                lag: Mutex::default(),
            };
            let Some(mut leaders) = self.leaders(&session, next).await? else { return Ok(()) };
            *was_there = true;
            if self.status.connected() {
                session.tell("connected");
            }
            let alone: Vec<i32> =
                session.topic.leaders.iter().filter(|(_, leader)| **leader < 0).map(|(partition, _)| *partition).collect();
            if !alone.is_empty() {
                self.status.wanting(&format!("no broker leads the partitions {alone:?}"));
            }
            if let Ended::Closed = self.read(&session, &mut leaders, &mut control).await? {
                return Ok(());
            }
            tokio::time::sleep(MOVING).await;
            if control.is_left() {
                control = self.any_broker().await?;
            }
        }
    }

    /// Connects to one of the brokers that the URL names.
    async fn any_broker(&self) -> Result<Connection, Lost> {
        let mut lost = None;
        for (host, port) in self.url.brokers() {
            match Connection::open(self.url, host, port).await {
                Ok(connection) => return Ok(connection),
                Err(error) => lost = Some(error),
            }
        }
        Err(lost.unwrap_or_else(|| Lost::before("no broker is named")))
    }

    /// The topic as it is now.
    async fn topic(&self, control: &mut Connection) -> Result<Topic, Lost> {
        let version = if control.has(Api::Metadata, api::METADATA_WITH_IDS) { api::METADATA_WITH_IDS } else { api::METADATA };
        let answer = control.ask(Api::Metadata, version, &api::ask_topic(&self.url.path, version), Duration::ZERO).await;
        let mut answer = answer.map_err(|lost| match &self.url.user {
            // Brokers that want a login end a connection without a word.
            None => Lost { why: format!("{}: it may want a user, or an encrypted connection", lost.why), ..lost },
            Some(_) => lost,
        })?;
        let topic = api::topic(&mut answer, version)?;
        match topic.code {
            code::NONE if !topic.leaders.is_empty() => Ok(topic),
            code::NONE | code::UNKNOWN_TOPIC | code::NO_LEADER => Err(Lost::before(format!("the broker has no topic {:?}", self.url.path))),
            code::TOPIC_REFUSED => Err(Lost::before("the user may not read the topic")),
            other => Err(Lost::before(format!("the topic {:?} can't be read: error {other}", self.url.path))),
        }
    }

    /// Connects to the leaders of all partitions, and decides where those begin that were not read before. None where nobody takes
    /// messages.
    async fn leaders(&self, session: &TopicSession<'_>, next: &mut Next) -> Result<Option<Vec<Leader>>, Lost> {
        let mut led: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (partition, leader) in &session.topic.leaders {
            led.entry(*leader).or_default().push(*partition);
        }
        // Only what was never read begins where it is said to.
        let known = format!("kafka {} ", self.url.path);
        let is_new = !next.keys().any(|(of, _)| of.starts_with(&known));
        let at = match self.url.start {
            Start::At(time) if is_new => At::Millis(time.0.div_euclid(1_000)),
            Start::Latest if is_new => At::Latest,
            _ => At::Earliest,
        };
        let (mut leaders, mut begun) = (Vec::new(), BTreeMap::new());
        for (node, partitions) in led {
            let Some((host, port)) = session.topic.brokers.get(&node) else { continue };
            let mut leader = Leader { connection: Connection::open(self.url, host, *port).await?, next: BTreeMap::new() };
            let unread = |partition: &i32| !next.contains_key(&(session.of.to_string(), *partition));
            let unread: Vec<i32> = partitions.iter().copied().filter(unread).collect();
            if !unread.is_empty() {
                let mut found = leader.offsets(session, &unread, at).await?;
                if found.values().any(|offset| *offset < 0) {
                    // Nothing is as late as that.
                    let latest = leader.offsets(session, &unread, At::Latest).await?;
                    found
                        .iter_mut()
                        .filter(|(_, offset)| **offset < 0)
                        .for_each(|(partition, offset)| *offset = latest.get(partition).copied().unwrap_or(0));
                }
                begun.extend(found);
            }
            leaders.push((leader, partitions));
        }
        if is_new && at != At::Earliest && !self.keep(session, &begun).await {
            return Ok(None);
        }
        if is_new && at != At::Earliest {
            next.insert((session.of.to_string(), STARTED), Arc::default());
        }
        next.extend(begun.iter().map(|(partition, offset)| ((session.of.to_string(), *partition), Arc::new(AtomicI64::new(*offset)))));
        for (leader, partitions) in &mut leaders {
            for partition in partitions {
                let Some(place) = next.get(&(session.of.to_string(), *partition)) else { continue };
                if let Ok(last @ 0..) = u64::try_from(place.load(Ordering::Relaxed) - 1) {
                    self.status.begun(*partition, last);
                }
                leader.next.insert(*partition, Arc::clone(place));
            }
        }
        Ok(Some(leaders.into_iter().map(|(leader, _)| leader).collect()))
    }

    /// Waits until the journal has where reading begins: what is sent from then on is not missed, whatever ends the service. Returns
    /// whether it has.
    async fn keep(&self, session: &TopicSession<'_>, begun: &BTreeMap<i32, i64>) -> bool {
        let place =
            |partition, last| Message { of: Arc::clone(&session.of), partition, number: Some(last), is_place: true, ..Message::default() };
        for (partition, offset) in begun {
            if let Ok(last) = u64::try_from(offset - 1)
                && self.inlet.send(place(*partition, last), Ack(None)).await.is_err()
            {
                return false;
            }
        }
        let (sender, kept) = oneshot::channel();
        self.inlet.send(place(STARTED, 0), Ack(Some(sender))).await.is_ok() && kept.await.is_ok()
    }

    /// Fetches from all leaders until one of them ends, or the topic is another one.
    async fn read(&self, session: &TopicSession<'_>, leaders: &mut [Leader], control: &mut Connection) -> Result<Ended, Lost> {
        let mut fetching: FuturesUnordered<_> = leaders.iter_mut().map(|leader| leader.read(session)).collect();
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if self.topic(control).await? != session.topic {
                    return Ok(Ended::Moved);
                }
            }
        };
        tokio::select! {
            Some(ended) = fetching.next() => ended,
            ended = looking => ended,
        }
    }
}
