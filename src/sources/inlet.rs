//! Where a connector hands over messages. What waits is bounded: who finds no room waits, and reads no more of its broker meanwhile.

use super::status::Status;
use bytes::Bytes;
use retally_core::time::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Messages of a source wait in so many bytes at most: 64 MiB. A message counts as so many KiB as it begins.
const ROOM_KIB: u32 = 64 << 10;

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What its number counts: nothing else is ever called so. Empty where messages are not numbered.
    pub of: Arc<str>,
    /// Its topic.
    pub topic: Bytes,
    /// The part of a topic that has numbers of its own; 0 where there are no parts.
    pub partition: i32,
    /// Its number, where messages are numbered.
    pub number: Option<u64>,
    /// When it was sent, or where that is not known, when it came.
    pub time: Moment,
    /// Its key, where it has one.
    pub key: Bytes,
    /// What it holds.
    pub payload: Bytes,
    /// Why it can't be read, where its connector knows.
    pub unreadable: Option<Arc<str>>,
    /// There is no message, but its number: all up to it has been read, or is not to be.
    pub is_place: bool,
}

/// A message that waits.
#[derive(Debug)]
pub struct Waiting<A> {
    /// The message.
    pub message: Message,
    /// What acknowledges it.
    pub acknowledge: A,
    /// The room that it takes up, until this is dropped.
    pub room: OwnedSemaphorePermit,
}

/// Where messages are handed over.
#[derive(Debug)]
pub struct Inlet<A> {
    sender: Sender<Waiting<A>>,
    room: Arc<Semaphore>,
    status: Arc<Status>,
}

/// Nobody takes messages any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// An inlet, and where its messages come out.
pub fn inlet<A>(status: &Arc<Status>) -> (Inlet<A>, Receiver<Waiting<A>>) {
    let (sender, receiver) = channel();
    (Inlet { sender, room: Arc::new(Semaphore::new(ROOM_KIB as usize)), status: Arc::clone(status) }, receiver)
}

impl<A> Inlet<A> {
    /// Hands over a message, as soon as there is room.
    pub async fn send(&self, message: Message, acknowledge: A) -> Result<(), Closed> {
        let kib = u32::try_from(message.payload.len() >> 10).unwrap_or(u32::MAX).saturating_add(1).min(ROOM_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Closed)?;
        self.status.waiting.fetch_add(u64::from(!message.is_place), Ordering::Relaxed);
        self.sender.send(Waiting { message, acknowledge, room }).map_err(|_| Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn who_finds_no_room_waits() {
        let status = Arc::new(Status::new("x".into(), "y".into()));
        let (inlet, receiver) = inlet(&status);
        let large = || Message { payload: vec![0; 40 << 20].into(), ..Message::default() };
        inlet.send(large(), ()).await.unwrap();
        let more = inlet.send(large(), ());
        tokio::pin!(more);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut more).await.is_err());
        drop(receiver.recv().unwrap());
        more.await.unwrap();
        assert_eq!(status.waiting.load(Ordering::Relaxed), 2, "until the journal has them");
        drop(receiver);
        assert_eq!(inlet.send(Message::default(), ()).await, Err(Closed));
    }
}
