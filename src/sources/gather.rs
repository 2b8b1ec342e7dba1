//! Gathers messages into batches: what has come within a time, and no more than so many. While one batch is on its way into the journal,
//! the next one waits where its messages came in.

use super::inlet::Waiting;
use super::status::Status;
use super::text::{MessageFormat, Text};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// A batch gets no further messages when it has so many bytes: 8 MiB.
const BATCH_BYTES: usize = 8 << 20;
/// Or so many messages that can't be read: each is a part of its own.
const UNREADABLE_MAX: usize = 256;

/// When a batch is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It has so many messages.
    pub messages: u64,
    /// Or its first message has waited for so long.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { messages: 10_000, time: Duration::from_millis(50) }
    }
}

/// Acknowledges a message to its broker.
pub trait Acknowledge {
    /// The journal has it.
    fn acknowledge(self);
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The journal has it.
    Durable,
    /// The service ends, and nothing of it is there.
    Ending,
}

/// Gathers until nobody hands over messages any more, or the service ends. `deliver` puts a batch into the journal, and waits until it is
/// there.
pub fn gather<A: Acknowledge>(
    messages: &Receiver<Waiting<A>>,
    format: &MessageFormat,
    limits: Limits,
    status: &Status,
    mut deliver: impl FnMut(&Text) -> Delivered,
) {
    while let Ok(first) = messages.recv() {
        let (text, waited) = batch(first, messages, format, limits);
        if deliver(&text) == Delivered::Ending {
            return;
        }
        status.taken(text.count, text.unreadable.len() as u64, &text.positions);
        // Who waits for room goes on when their messages are dropped, which is here.
        waited.into_iter().for_each(|waiting| waiting.acknowledge.acknowledge());
    }
}

/// A batch that begins with a message.
fn batch<A>(first: Waiting<A>, messages: &Receiver<Waiting<A>>, format: &MessageFormat, limits: Limits) -> (Text, Vec<Waiting<A>>) {
    let deadline = Instant::now() + limits.time;
    let (mut text, mut waited) = (Text::default(), Vec::new());
    let mut next = Some(first);
    while let Some(waiting) = next {
        text.add(format, &waiting.message);
        waited.push(waiting);
        if text.count >= limits.messages || text.lines.len() >= BATCH_BYTES || text.unreadable.len() >= UNREADABLE_MAX {
            break;
        }
        // None in time, or none any more.
        next = messages.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    }
    (text, waited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;
    use crate::sources::inlet::{Message, inlet};
    use crate::sources::url::Url;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    struct Count(Arc<AtomicU64>);

    impl Acknowledge for Count {
        fn acknowledge(self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What batches come of messages that are all there, and how many were acknowledged when each was delivered.
    fn batches(limits: Limits, messages: u64, refuse: Option<usize>) -> (Vec<(u64, u64)>, u64) {
        let input = registry::dataflow("online").unwrap().definition().inputs.remove(0);
        let format = MessageFormat::new(&Url::parse("mqtt://h/x").unwrap(), &input);
        let status = Arc::new(Status::new("x".into(), "y".into()));
        let (inlet, receiver) = inlet(&status);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in 1..=messages {
            let message = Message { payload: "{}".into(), number: Some(number), ..Message::default() };
            runtime.block_on(inlet.send(message, Count(Arc::clone(&acknowledged)))).unwrap();
        }
        drop(inlet);
        let seen = Mutex::new(Vec::new());
        gather(&receiver, &format, limits, &status, |text| {
            let mut seen = seen.lock().unwrap();
            if refuse == Some(seen.len()) {
                return Delivered::Ending;
            }
            assert_eq!(text.positions.values().max(), Some(&(seen.iter().map(|(count, _)| count).sum::<u64>() + text.count)));
            seen.push((text.count, acknowledged.load(Ordering::Relaxed)));
            Delivered::Durable
        });
        (seen.into_inner().unwrap(), acknowledged.load(Ordering::Relaxed))
    }

    #[test]
    fn a_batch_has_so_many_messages_at_most_and_is_acknowledged_when_it_is_there() {
        let limits = |messages, ms| Limits { messages, time: Duration::from_millis(ms) };
        assert_eq!(batches(limits(4, 10_000), 10, None), (vec![(4, 0), (4, 4), (2, 8)], 10));
        assert_eq!(batches(limits(100, 0), 10, None).0.iter().map(|(count, _)| count).sum::<u64>(), 10);
        assert_eq!(batches(limits(4, 0), 10, Some(1)), (vec![(4, 0)], 4), "what is not there is not acknowledged");
    }
}
