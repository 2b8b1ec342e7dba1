//! Objects below a prefix of a bucket that belong to this program: they are written, listed, read whole and removed.
//!
//! An object that is to be created only if it is not there is asked for once: whether it is there when no answer came is for the caller to
//! find out ([`Created`]). Whatever can be asked for twice without harm is tried again by the store.

use super::bucket::{self, ONCE, Object, Tries, explained, object};
use super::runtime;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// So many requests are under way at a time.
const AT_ONCE_MAX: usize = 16;
/// What is larger is written in parts of this size: 8 MiB.
const PART_BYTES: usize = 8 << 20;
/// So many parts are under way at a time.
const PARTS_MAX: usize = 2;
/// An answer to a small object takes no longer; a larger one may take a second more for each MiB.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// The objects below a prefix.
#[derive(Clone, Debug)]
pub struct Prefix {
    object: Object,
    /// The same bucket, of which nothing is asked twice.
    once: Arc<AmazonS3>,
}

/// What came of creating an object.
#[derive(Debug)]
pub enum Created {
    /// It was not there, and is now.
    Done,
    /// It is there, or another request for it is under way.
    Exists,
    /// It may be there or not: why.
    Unknown(io::Error),
}

/// An object below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// What follows the prefix.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Prefix {
    /// The objects below `s3://BUCKET/PREFIX`.
    pub fn new(url: &str) -> io::Result<Prefix> {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest).trim_end_matches('/');
        let name = rest.split('/').next().unwrap_or_default();
        let object = object(url, rest)?;
        Ok(Prefix { once: bucket::of(name, &ONCE, Tries::One)?, object })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        let key = self.object.key();
        if key.is_empty() { self.object.bucket().into() } else { format!("{}/{key}", self.object.bucket()) }
    }

    fn key(&self, name: &str) -> io::Result<Path> {
        let key = self.object.key();
        let key = if key.is_empty() { name.into() } else { format!("{key}/{name}") };
        Path::parse(key).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
    }

    /// All objects below a name, in any order.
    pub fn list(&self, below: &str) -> io::Result<Vec<Below>> {
        let folder = if below.is_empty() { self.object.key.clone() } else { self.key(below)? };
        let prefix = (!folder.as_ref().is_empty()).then_some(&folder);
        let listed = runtime()?.block_on(self.object.store.list(prefix).try_collect::<Vec<_>>()).map_err(explained)?;
        let skipped = if folder.as_ref().is_empty() { 0 } else { folder.as_ref().len() + 1 };
        let below =
            |found: object_store::ObjectMeta| Some(Below { name: found.location.as_ref().get(skipped..)?.into(), bytes: found.size });
        Ok(listed.into_iter().filter_map(below).collect())
    }

    /// What an object holds; an error of the kind `NotFound` where there is none.
    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(runtime()?.block_on(self.read(name))?.into())
    }

    async fn read(&self, name: &str) -> io::Result<Bytes> {
        let key = self.key(name)?;
        let bytes = async { self.object.store.get(&key).await?.bytes().await };
        bytes.await.map_err(explained)
    }

    /// The same, of which nothing is asked twice: whoever asks does so again.
    pub fn look(&self, name: &str) -> io::Result<Vec<u8>> {
        let key = self.key(name)?;
        let bytes = async { self.once.get(&key).await?.bytes().await };
        match runtime()?.block_on(async { tokio::time::timeout(ANSWER_MAX, bytes).await }) {
            Ok(bytes) => Ok(bytes.map_err(explained)?.into()),
            Err(_) => Err(silent()),
        }
    }

    /// Hands over what objects hold, in this order. Few of them are in memory at a time. `failed` makes an error of a name and what was
    /// wrong.
    pub fn each<E>(
        &self,
        names: &[String],
        failed: &dyn Fn(&str, io::Error) -> E,
        each: &mut dyn FnMut(&str, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let got = stream::iter(names).map(|name| async move { (name, self.read(name).await) });
        let mut got = std::pin::pin!(got.buffered(AT_ONCE_MAX));
        let runtime = runtime().map_err(|error| failed(&self.url(), error))?;
        while let Some((name, bytes)) = runtime.block_on(got.next()) {
            each(name, bytes.map_err(|error| failed(name, error))?.into())?;
        }
        Ok(())
    }

    /// Writes what an object holds to a file.
    pub fn download(&self, name: &str, to: &mut impl Write) -> io::Result<()> {
        let key = self.key(name)?;
        let runtime = runtime()?;
        let found = runtime.block_on(self.object.store.get(&key)).map_err(explained)?;
        let (bytes, mut stream, mut written) = (found.meta.size, found.into_stream(), 0);
        while let Some(chunk) = runtime.block_on(stream.try_next()).map_err(explained)? {
            to.write_all(&chunk)?;
            written += chunk.len() as u64;
        }
        if written == bytes { Ok(()) } else { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut off")) }
    }

    /// Writes an object of what a file holds from here on. It is there in whole, and for good, when this returns.
    pub fn upload(&self, name: &str, from: &mut impl Read) -> io::Result<()> {
        let (key, runtime, store) = (self.key(name)?, runtime()?, &self.object.store);
        let mut part = Vec::new();
        from.take(PART_BYTES as u64).read_to_end(&mut part)?;
        if part.len() < PART_BYTES {
            return runtime.block_on(store.put(&key, Bytes::from(part).into())).map(drop).map_err(explained);
        }
        let upload = runtime.block_on(store.put_multipart(&key)).map_err(explained)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        while !part.is_empty() {
            // Parts are sent by tasks of the runtime.
            let sent = runtime.block_on(async {
                parts.wait_for_capacity(PARTS_MAX).await?;
                parts.put(Bytes::from(std::mem::take(&mut part)));
                Ok(())
            });
            sent.map_err(explained)?;
            from.take(PART_BYTES as u64).read_to_end(&mut part)?;
        }
        runtime.block_on(parts.finish()).map(drop).map_err(explained)
    }

    /// Creates an object, unless it is there.
    pub fn create(&self, name: &str, bytes: Bytes) -> io::Result<Created> {
        let key = self.key(name)?;
        let within = ANSWER_MAX + Duration::from_secs(bytes.len() as u64 >> 20);
        let put = async { tokio::time::timeout(within, self.once.put_opts(&key, bytes.into(), PutMode::Create.into())).await };
        Ok(match runtime()?.block_on(put) {
            Ok(Ok(_)) => Created::Done,
            Ok(Err(Error::AlreadyExists { .. } | Error::Precondition { .. })) => Created::Exists,
            Ok(Err(error @ Error::NotImplemented { .. })) => return Err(io::Error::new(io::ErrorKind::Unsupported, error.to_string())),
            Ok(Err(error)) => Created::Unknown(explained(error)),
            Err(_) => Created::Unknown(silent()),
        })
    }

    /// Removes objects. One that is not there is removed.
    pub fn remove(&self, names: &[String]) -> io::Result<()> {
        let keys = names.iter().map(|name| self.key(name)).collect::<io::Result<Vec<_>>>()?;
        let removing = stream::iter(keys).map(|key| async move {
            match self.object.store.delete(&key).await {
                Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(explained(error)),
            }
        });
        runtime()?.block_on(removing.buffer_unordered(AT_ONCE_MAX).try_collect::<Vec<()>>()).map(drop)
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")
}
