//! The partitions that one broker leads: their messages are fetched by one connection, and handed over in the order of their offsets.

use super::api::{self, Api, At, Fetched, Wish, code};
use super::batch::{Aborted, BadBatch, Batch, Record};
use super::behind::Behind;
use super::connection::Connection;
use super::{Ack, Ended, TopicSession};
use crate::sources::inlet::{Closed, Message};
use crate::sources::lost::Lost;
use bytes::Bytes;
use retally_core::time::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long a broker waits for a message where it has none.
const WAIT: Duration = Duration::from_millis(500);
/// So many bytes are fetched at a time, of all partitions and of one: 16 MiB, and 4.
const FETCHED_BYTES: (i32, i32) = (16 << 20, 4 << 20);
/// How long a broker is left alone that has nothing, and answers that at once.
const IDLE: Duration = Duration::from_millis(5);
/// How long a partition is left alone that has no next message for now.
const PAUSE: Duration = Duration::from_millis(200);

/// A broker, and the partitions that it leads.
pub struct Leader {
    /// The connection to it.
    pub connection: Connection,
    /// The next offset of each of its partitions.
    pub next: BTreeMap<i32, Arc<AtomicI64>>,
}

impl Leader {
    /// The offsets of a time, of partitions that it leads; -1 where there is none.
    pub async fn offsets(&mut self, session: &TopicSession<'_>, partitions: &[i32], at: At) -> Result<BTreeMap<i32, i64>, Lost> {
        let body = api::ask_offsets(&session.url.path, partitions, at);
        let found = api::offsets(&mut self.connection.ask(Api::Offsets, api::OFFSETS, &body, WAIT).await?)?;
        found
            .into_iter()
            .map(|(partition, code, offset)| if code == code::NONE { Ok((partition, offset)) } else { Err(refused(partition, code)) })
            .collect()
    }

    /// Hands over messages until nobody takes them, or another broker leads.
    pub async fn read(&mut self, session: &TopicSession<'_>) -> Result<Ended, Lost> {
        let version =
            if session.topic.id.is_some() && self.connection.has(Api::Fetch, api::FETCH_BY_ID) { api::FETCH_BY_ID } else { api::FETCH };
        let mut order: Vec<i32> = self.next.keys().copied().collect();
        loop {
            let from = order.iter().filter_map(|partition| Some((*partition, self.next.get(partition)?.load(Ordering::Relaxed))));
            let wish = Wish {
                topic: &session.url.path,
                id: session.topic.id,
                from: from.collect(),
                wait_ms: i32::try_from(WAIT.as_millis()).unwrap_or(i32::MAX),
                bytes: FETCHED_BYTES,
            };
            let asked = Instant::now();
            let mut answer = self.connection.ask(Api::Fetch, version, &api::ask_messages(&wish, version), WAIT).await?;
            let mut is_idle = true;
            for fetched in api::messages(&mut answer, version)? {
                is_idle &= fetched.batches.is_empty();
                match fetched.code {
                    code::NONE => {
                        if take(session, &self.next, fetched).await?.is_err() {
                            return Ok(Ended::Closed);
                        }
                    }
                    code::OUT_OF_RANGE => self.go_on(session, fetched.partition).await?,
                    moved if code::is_moved(moved) => return Ok(Ended::Moved),
                    other => return Err(refused(fetched.partition, other)),
                }
            }
            // A broker that does not wait is not asked again at once.
            if is_idle && asked.elapsed() < IDLE {
                tokio::time::sleep(IDLE).await;
            }
            // Where there is more than is fetched at a time, each partition is the first in turn.
            if !order.is_empty() {
                order.rotate_left(1);
            }
        }
    }

    /// Goes on with what the broker has, where it does not have the message that comes next.
    async fn go_on(&mut self, session: &TopicSession<'_>, partition: i32) -> Result<(), Lost> {
        let one = |found: BTreeMap<i32, i64>| found.get(&partition).copied().unwrap_or_default();
        let earliest = one(self.offsets(session, &[partition], At::Earliest).await?);
        let latest = one(self.offsets(session, &[partition], At::Latest).await?);
        let Some(place) = self.next.get(&partition) else { return Ok(()) };
        let next = place.load(Ordering::Relaxed);
        match Behind::of(next, earliest, latest) {
            Behind::There => tokio::time::sleep(PAUSE).await,
            Behind::Removed(count) => {
                session.status.removed(count);
                session.tell(&format!("partition {partition}: messages {next} to {} are gone from the topic", earliest - 1));
                place.store(earliest, Ordering::Relaxed);
            }
            Behind::Shortened => {
                let last = next - 1;
                session.tell(&format!("partition {partition} ends before message {latest}, and {last} was read before: all is read again"));
                place.store(earliest, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Hands over what was fetched of a partition.
async fn take(session: &TopicSession<'_>, next: &BTreeMap<i32, Arc<AtomicI64>>, fetched: Fetched) -> Result<Result<(), Closed>, Lost> {
    let Some(next) = next.get(&fetched.partition) else { return Ok(Ok(())) };
    let (mut bytes, mut aborted) = (fetched.batches, Aborted::new(&fetched.aborted));
    while let Some(batch) =
        Batch::next(&mut bytes).map_err(|error: BadBatch| Lost::before(format!("partition {}: {error}", fetched.partition)))?
    {
        if aborted.counts(&batch) && batch.last >= next.load(Ordering::Relaxed) {
            match batch.records() {
                Ok(records) => {
                    // The batch that holds an offset comes whole.
                    for record in records.into_iter().filter(|record| record.offset >= next.load(Ordering::Relaxed)) {
                        let offset = record.offset;
                        if session.inlet.send(message(session, fetched.partition, record), Ack(None)).await.is_err() {
                            return Ok(Err(Closed));
                        }
                        // From here on it is on its way, and is not asked for again by this process.
                        next.store(offset + 1, Ordering::Relaxed);
                    }
                }
                Err(why) => {
                    let record = Record { offset: batch.last, time_ms: 0, ..Record::default() };
                    let broken = Message { unreadable: Some(why.into()), ..message(session, fetched.partition, record) };
                    if session.inlet.send(broken, Ack(None)).await.is_err() {
                        return Ok(Err(Closed));
                    }
                }
            }
        }
        next.fetch_max(batch.last + 1, Ordering::Relaxed);
    }
    session.set_lag(fetched.partition, fetched.end - next.load(Ordering::Relaxed));
    Ok(Ok(()))
}

fn message(session: &TopicSession<'_>, partition: i32, record: Record) -> Message {
    Message {
        of: Arc::clone(&session.of),
        topic: Bytes::clone(&session.name),
        partition,
        number: u64::try_from(record.offset).ok(),
        time: Moment(record.time_ms.saturating_mul(1_000)),
        key: record.key.unwrap_or_default(),
        payload: record.value.unwrap_or_default(),
        ..Message::default()
    }
}

/// Why a partition can't be read.
pub fn refused(partition: i32, code: i16) -> Lost {
    Lost::before(match code {
        code::TOPIC_REFUSED => "the user may not read the topic".into(),
        _ => format!("partition {partition} can't be read: error {code}"),
    })
}
