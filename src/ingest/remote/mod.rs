//! Files that are elsewhere: objects of S3 buckets (`s3://BUCKET/KEY`), and what a web server has (`http://…`, `https://…`).
//!
//! A [`RemoteReader`] is a file to the rest of [`ingest`](super): it is read and sought in. What it reads comes through a bounded channel
//! from a task on the threads of [`runtime`], so that a worker can see whether it would wait, and many can be asked at once.
//!
//! Requests that fail for want of a connection or a server's strength are tried again, with pauses that double; a connection that
//! is cut in the middle of an object goes on where it was, as long as the object is the same.
//!
//! # Limits
//! Of web servers files are read from their beginning, and not listed. Keys with empty parts (`a//b`) are not read, and named.

mod bucket;
mod listing;
mod prefix;
mod reader;

pub use bucket::{Listed, Object, list, object, size, version};
pub use prefix::{Created, Prefix};
pub use reader::{Ready, RemoteReader};

use crate::shown;
use reqwest::Url;
use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A server that does not go on for this long has failed.
const SILENCE: Duration = Duration::from_secs(30);
/// To connect may take this long.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The threads that speak with servers.
const THREADS: usize = 2;

/// What a path or URL means.
pub enum Resolved<'p> {
    /// A path of this machine.
    Local(Cow<'p, Path>),
    /// Something elsewhere.
    Remote(Remote),
    /// A URL of another kind.
    Unknown,
}

/// Something elsewhere.
#[derive(Clone, Debug)]
pub enum Remote {
    /// An object in a bucket.
    Object(Object),
    /// A file of a web server.
    Web(Url),
}

/// Returns what a path or URL means.
pub fn resolve(location: &str) -> io::Result<Resolved<'_>> {
    let Some((scheme, rest)) = location.split_once("://") else { return Ok(Resolved::Local(Path::new(location).into())) };
    let not_valid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            let url = Url::parse(location).map_err(|error| not_valid(error.to_string()))?;
            let path = url.to_file_path().map_err(|()| not_valid("it names no file of this machine".into()))?;
            Ok(Resolved::Local(path.into()))
        }
        "s3" | "s3a" => Ok(Resolved::Remote(Remote::Object(object(location, rest)?))),
        "http" | "https" => {
            Url::parse(location).map(|url| Resolved::Remote(Remote::Web(url))).map_err(|error| not_valid(error.to_string()))
        }
        _ => Ok(Resolved::Unknown),
    }
}

/// The location of a path: the path itself, or where it is no UTF-8, its URL, in which every byte can be written.
pub fn location(path: &Path) -> io::Result<String> {
    if let Some(text) = path.to_str() {
        return Ok(text.into());
    }
    let url = Url::from_file_path(std::path::absolute(path)?);
    url.map(String::from).map_err(|()| io::Error::new(io::ErrorKind::InvalidInput, "it has no URL"))
}

/// What runs the requests of this process.
pub fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
        // Another part of the program may have chosen the same before.
        rustls::crypto::ring::default_provider().install_default().ok();
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("remote").enable_all().build()
    });
    RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// What went wrong, with its causes, on one line. Libraries name the URLs of servers and proxies, with all that is in them.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    shown::text(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}
