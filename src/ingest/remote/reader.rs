//! A file that is elsewhere, as something to read and to seek in.
//!
//! A task asks for a range of bytes and hands over what comes, no more than [`CHUNKS_MAX`] chunks ahead of the reader. A reader that wants
//! more than was asked for asks again, for a range twice as long.

use super::bucket::{self, explained};
use super::{CONNECT_MAX, Remote, SILENCE, causes, runtime};
use crate::ingest::version::Changed;
use crate::silence::silence_max;
use bytes::{Buf, Bytes};
use futures_util::TryStreamExt;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use reqwest::{Client, Url};
use retally_core::split::Version;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks that wait for the reader; a chunk is what comes at once, some ten KiB.
const CHUNKS_MAX: usize = 32;
/// After a seek, so much is asked for at first.
const FIRST_RANGE_BYTES: u64 = 64 << 10;
/// And never more than this at once: 64 MiB.
const RANGE_BYTES_MAX: u64 = 64 << 20;

/// How a server answers that there are no such bytes.
const RANGE_NOT_SATISFIABLE: &str = "416 Range Not Satisfiable";

/// Whether a reader would wait: how much there is for it, counting an end as one.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicU64>);

impl Ready {
    /// Whether a read would not wait.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Release);
    }

    fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// What the first answer tells.
#[derive(Clone, Debug)]
struct Known {
    /// The size of the whole; unknown until its end of what web servers send chunk by chunk.
    bytes: Option<u64>,
    /// What must not change while it is read.
    tag: Option<String>,
}

/// Reads something elsewhere.
#[derive(Debug)]
pub struct RemoteReader {
    remote: Remote,
    /// The next byte.
    at: u64,
    /// How much is asked for next.
    range_bytes: u64,
    known: Arc<OnceLock<Known>>,
    ready: Ready,
    asked: Option<Asked>,
    /// A web server's file is over.
    over: bool,
}

/// An answer on its way.
#[derive(Debug)]
struct Asked {
    chunks: Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    /// Whether anything has come.
    any: bool,
}

/// What a task asks for.
struct Ask {
    from: u64,
    until: Option<u64>,
    known: Arc<OnceLock<Known>>,
}

impl RemoteReader {
    /// Asks for the bytes from `from` up to `until`, or to the end. Whatever is wrong shows when it is read: an object that is not what
    /// was planned, too.
    pub fn open(remote: Remote, from: u64, until: Option<u64>, planned: Option<&Version>) -> io::Result<RemoteReader> {
        let known = match planned {
            Some(Version::Object { bytes, tag }) => OnceLock::from(Known { bytes: Some(*bytes), tag: tag.clone() }),
            _ => OnceLock::new(),
        };
        let mut reader = RemoteReader {
            remote,
            at: from,
            range_bytes: FIRST_RANGE_BYTES,
            known: Arc::new(known),
            ready: Ready::default(),
            asked: None,
            over: false,
        };
        reader.ask(until)?;
        Ok(reader)
    }

    /// Whether it would wait.
    pub fn ready(&self) -> Ready {
        self.ready.clone()
    }

    /// The size of the whole. Waits for the first answer.
    fn size(&mut self) -> io::Result<u64> {
        if self.known.get().is_none() {
            self.fill()?;
        }
        Ok(self.known.get().and_then(|known| known.bytes).unwrap_or(0))
    }

    /// What distinguishes it from another one at the same place. Waits for the first answer.
    pub fn version(&mut self) -> io::Result<Version> {
        let bytes = self.size()?;
        Ok(Version::Object { bytes, tag: self.known.get().and_then(|known| known.tag.clone()) })
    }

    fn ask(&mut self, until: Option<u64>) -> io::Result<()> {
        let (sender, chunks) = channel(CHUNKS_MAX);
        let ask = Ask { from: self.at, until, known: Arc::clone(&self.known) };
        runtime()?.spawn(fetch(self.remote.clone(), ask, sender, self.ready.clone()));
        self.asked = Some(Asked { chunks, chunk: Bytes::new(), any: false });
        Ok(())
    }

    /// Waits for bytes, unless there are some. Returns whether there are.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            let end = self.known.get().and_then(|known| known.bytes);
            if self.over || end.is_some_and(|end| self.at >= end) {
                return Ok(false);
            }
            let Some(asked) = &mut self.asked else {
                let until = self.at + self.range_bytes;
                self.range_bytes = (self.range_bytes * 2).min(RANGE_BYTES_MAX);
                self.ask(Some(until))?;
                continue;
            };
            if !asked.chunk.is_empty() {
                return Ok(true);
            }
            match asked.chunks.blocking_recv() {
                Some(Ok(chunk)) => {
                    asked.any = true;
                    asked.chunk = chunk;
                }
                Some(Err(error)) => {
                    self.asked = None;
                    return Err(error);
                }
                None if matches!(self.remote, Remote::Web(_)) => self.over = true,
                None if end == Some(0) => return Ok(false),
                None if !asked.any => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server sent nothing")),
                // All that was asked for has come: more is wanted.
                None => {
                    self.ready.subtract(1);
                    self.asked = None;
                }
            }
        }
    }
}

impl Read for RemoteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let Some(Asked { chunk, .. }) = &mut self.asked else { return Ok(0) };
        let length = chunk.len().min(buffer.len());
        let (to, _) = buffer.split_at_mut(length);
        chunk.copy_to_slice(to);
        self.at += length as u64;
        self.ready.subtract(length as u64);
        Ok(length)
    }
}

impl Seek for RemoteReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size()?.checked_add_signed(by),
        };
        let target = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "that is before its beginning"))?;
        if target != self.at {
            if matches!(self.remote, Remote::Web(_)) {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "a web server's file is read from its beginning"));
            }
            // What was on its way still counts as there: the next read may wait, then.
            self.asked = None;
            self.at = target;
            self.range_bytes = FIRST_RANGE_BYTES;
        }
        Ok(target)
    }
}

async fn fetch(remote: Remote, ask: Ask, chunks: Sender<io::Result<Bytes>>, ready: Ready) {
    let fetched = match &remote {
        Remote::Object(object) => fetch_object(object, &ask, &chunks, &ready).await,
        Remote::Web(url) => fetch_web(url, &ask, &chunks, &ready).await,
    };
    if let Err(error) = fetched {
        chunks.send(Err(error)).await.ok();
    }
    ready.add(1);
}

/// Hands over a chunk. Returns whether someone reads on.
async fn hand_over(chunk: Bytes, chunks: &Sender<io::Result<Bytes>>, ready: &Ready) -> bool {
    ready.add(chunk.len() as u64);
    chunk.is_empty() || chunks.send(Ok(chunk)).await.is_ok()
}

async fn fetch_object(object: &bucket::Object, ask: &Ask, chunks: &Sender<io::Result<Bytes>>, ready: &Ready) -> io::Result<()> {
    let range = match ask.until {
        Some(until) => Some(GetRange::Bounded(ask.from..until)),
        None if ask.from > 0 => Some(GetRange::Offset(ask.from)),
        None => None,
    };
    let planned = ask.known.get();
    let if_match = planned.and_then(|known| known.tag.clone());
    let options = GetOptions { range, if_match, ..GetOptions::default() };
    let found = match object.store.get_opts(&object.key, options).await {
        Ok(found) => found,
        // Of an empty object no range can be had, not even from its beginning.
        Err(error) if ask.from == 0 && causes(&error).contains(RANGE_NOT_SATISFIABLE) => {
            return same(ask.known.get_or_init(|| Known { bytes: Some(0), tag: None }), &Known { bytes: Some(0), tag: None });
        }
        Err(error @ Error::Precondition { .. }) => {
            let now = object.store.head(&object.key).await.map_err(explained)?;
            let (now, planned) = (Known { bytes: Some(now.size), tag: now.e_tag }, planned.cloned());
            return Err(planned.map_or_else(|| explained(error), |planned| changed(&planned, &now)));
        }
        Err(error) => return Err(explained(error)),
    };
    let now = Known { bytes: Some(found.meta.size), tag: found.meta.e_tag.clone() };
    same(ask.known.get_or_init(|| now.clone()), &now)?;
    let mut stream = found.into_stream();
    while let Some(chunk) = stream.try_next().await.map_err(explained)? {
        if !hand_over(chunk, chunks, ready).await {
            break;
        }
    }
    Ok(())
}

/// An error where an object is not what it was.
fn same(planned: &Known, now: &Known) -> io::Result<()> {
    let tags_differ = planned.tag.is_some() && now.tag.is_some() && planned.tag != now.tag;
    if planned.bytes == now.bytes && !tags_differ { Ok(()) } else { Err(changed(planned, now)) }
}

fn changed(planned: &Known, now: &Known) -> io::Error {
    let shown = |known: &Known| {
        let tag = known.tag.as_ref().map_or(String::new(), |tag| format!(" with ETag {tag}"));
        format!("{} bytes{tag}", known.bytes.unwrap_or(0))
    };
    Changed::Since { planned: shown(planned), found: shown(now) }.into()
}

async fn fetch_web(url: &Url, ask: &Ask, chunks: &Sender<io::Result<Bytes>>, ready: &Ready) -> io::Result<()> {
    static CLIENT: LazyLock<reqwest::Result<Client>> =
        LazyLock::new(|| Client::builder().connect_timeout(CONNECT_MAX).read_timeout(silence_max(SILENCE)).build());
    let failed = |error: reqwest::Error| io::Error::other(causes(&error.without_url()));
    let client = CLIENT.as_ref().map_err(|error| io::Error::other(causes(error)))?;
    let response = client.get(url.clone()).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(io::Error::other(format!("the server answers {}", response.status())));
    }
    let mut response = response;
    ask.known.set(Known { bytes: response.content_length(), tag: None }).ok();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if !hand_over(chunk, chunks, ready).await {
            break;
        }
    }
    Ok(())
}
