//! Objects of S3 buckets: of Amazon's, or of a server that speaks as it does.
//!
//! The usual variables of the environment say who asks, and where: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
//! `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_SKIP_SIGNATURE` and the others of `object_store`. A machine in Amazon's cloud needs none.

use super::listing::{Connector, Unnamed};
use super::{CONNECT_MAX, SILENCE, causes, runtime};
use crate::silence::silence_max;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, Error, ObjectStoreExt, RetryConfig};
use reqwest::Url;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request is tried again so often, with pauses that double from a tenth of a second.
const RETRIES_MAX: usize = 6;
/// And not after this.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A listing of more objects is refused, and so is one of more pages.
const LISTED_MAX: usize = 10_000_000;

/// An object, or a prefix of objects' keys.
#[derive(Clone, Debug)]
pub struct Object {
    /// As given.
    pub url: String,
    pub(super) store: Arc<AmazonS3>,
    pub(super) key: Path,
}

/// The object of a URL, of which `rest` is what follows its scheme.
pub fn object(url: &str, rest: &str) -> io::Result<Object> {
    let not_valid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(not_valid("it names no bucket".into()));
    }
    let key = Path::parse(key).map_err(|error| not_valid(error.to_string()))?;
    Ok(Object { url: url.into(), store: of(bucket, &BUCKETS, Tries::Many)?, key })
}

/// The stores of buckets, by their names: connections are kept.
pub(super) type Stores = Mutex<BTreeMap<String, Arc<AmazonS3>>>;

/// The usual ones.
static BUCKETS: Stores = Mutex::new(BTreeMap::new());
/// Those of which nothing is asked twice.
pub(super) static ONCE: Stores = Mutex::new(BTreeMap::new());

/// How often a request is tried that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tries {
    /// As often as makes sense.
    Many,
    /// Once: whoever asks looks what came of it.
    One,
}

/// One store for each bucket.
pub(super) fn of(name: &str, stores: &Stores, tries: Tries) -> io::Result<Arc<AmazonS3>> {
    let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = stores.get(name) {
        return Ok(Arc::clone(store));
    }
    check_endpoints()?;
    // The store is made where it runs: it chooses the cryptography there.
    runtime()?;
    let store = Arc::new(configured(name, tries).build().map_err(explained)?);
    stores.insert(name.into(), Arc::clone(&store));
    Ok(store)
}

/// The library panics at an address that is none. What it is may have a password in it.
fn check_endpoints() -> io::Result<()> {
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_ENDPOINT")) {
        let is_url = Url::parse(&value).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let is_server = is_url && value.parse::<ureq::http::Uri>().is_ok();
        if !is_server && !value.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no URL of a server: http://HOST:PORT")));
        }
    }
    Ok(())
}

/// The environment's settings, over ours.
fn configured(name: &str, tries: Tries) -> AmazonS3Builder {
    // A response may take as long as its reader does; silence may not.
    let client = ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_MAX).with_read_timeout(silence_max(SILENCE));
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    let max_retries = if tries == Tries::Many { RETRIES_MAX } else { 0 };
    let retry = RetryConfig { backoff, max_retries, retry_timeout: silence_max(RETRY_MAX) };
    let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry).with_http_connector(Connector);
    for (name, value) in std::env::vars() {
        if !name.starts_with("AWS_") {
            continue;
        }
        if name.starts_with("AWS_ENDPOINT") && value.starts_with("http://") {
            // Said plainly enough. Who needs no certificates must not fail for want of them.
            builder = builder
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true")
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::NoSystemCertificates), "true");
        }
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_bucket_name(name)
}

/// The size of an object; `None` where there is none.
pub fn size(object: &Object) -> io::Result<Option<u64>> {
    match runtime()?.block_on(object.store.head(&object.key)) {
        Ok(found) => Ok(Some(found.size)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(explained(error)),
    }
}

/// What tells whether an object is still what it was.
pub fn version(object: &Object) -> io::Result<Option<String>> {
    let found = runtime()?.block_on(object.store.head(&object.key)).map_err(explained)?;
    Ok(found.e_tag)
}

/// What is below a prefix, in order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The URLs of objects.
    pub urls: Vec<String>,
    /// Those of objects that can't be asked for: their keys have an empty part, or one that is `.` or `..`.
    pub unnamed: Vec<String>,
}

/// Lists all objects below a prefix.
pub fn list(prefix: &Object) -> io::Result<Listed> {
    let mut listed = runtime()?.block_on(all_pages(prefix))?;
    for keys in [&mut listed.urls, &mut listed.unnamed] {
        keys.sort_unstable();
        keys.iter_mut().for_each(|key| *key = format!("{}/{key}", prefix.bucket()));
    }
    Ok(listed)
}

/// The keys of all pages of a listing.
async fn all_pages(prefix: &Object) -> io::Result<Listed> {
    let endless = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let below = format!("{}/", prefix.key);
    let below = (!prefix.key.as_ref().is_empty()).then_some(below.as_str());
    let mut listed = Listed::default();
    let mut page_token: Option<String> = None;
    for _ in 0..LISTED_MAX {
        let options = PaginatedListOptions { page_token: page_token.clone(), ..PaginatedListOptions::default() };
        let page = prefix.store.list_paginated(below, options).await.map_err(explained)?;
        listed.urls.extend(page.result.objects.into_iter().map(|found| found.location.to_string()));
        if let Some(Unnamed(keys)) = page.result.extensions.get() {
            listed.unnamed.extend(keys.iter().cloned());
        }
        if listed.urls.len() + listed.unnamed.len() > LISTED_MAX {
            break;
        }
        match page.page_token {
            None => return Ok(listed),
            next if next == page_token => return endless("the server's listing does not go on: a page leads to itself".into()),
            next => page_token = next,
        }
    }
    endless(format!("it has more than {LISTED_MAX} objects; give a longer prefix"))
}

impl Object {
    /// The URL of its bucket, without a slash at the end.
    pub fn bucket(&self) -> &str {
        let name = self.url.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.url.get(name..).and_then(|rest| rest.find('/')).map_or(self.url.len(), |slash| name + slash);
        self.url.get(..end).unwrap_or(&self.url)
    }

    /// Its key.
    pub fn key(&self) -> &str {
        self.key.as_ref()
    }
}

/// What a store says, in the terms of files. S3 answers in XML.
pub(super) fn explained(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::Precondition { .. } => return io::Error::new(io::ErrorKind::InvalidData, "it changed while it was read"),
        _ => io::ErrorKind::Other,
    };
    let text = causes(&error);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(inner, _)| inner.to_string())
    };
    let said = match (element("Code"), element("Message")) {
        // Asked last, when nothing else says who we are.
        _ if text.contains("/latest/api/token") => "there are no credentials, in the environment or of this machine".into(),
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => match kind {
            io::ErrorKind::NotFound => "there is no such object".into(),
            io::ErrorKind::PermissionDenied => "the server does not allow it".into(),
            _ => text,
        },
    };
    io::Error::new(kind, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_bucket_and_a_key() {
        let parts = |url: &str| {
            let (_, rest) = url.split_once("://").unwrap();
            object(url, rest).map(|object| (object.bucket().to_string(), object.key().to_string())).map_err(|error| error.to_string())
        };
        assert_eq!(parts("s3://b/x/y z.csv"), Ok(("s3://b".into(), "x/y z.csv".into())));
        assert_eq!(parts("s3://b"), Ok(("s3://b".into(), String::new())));
        assert_eq!(parts("s3://b/x/"), Ok(("s3://b".into(), "x".into())));
        assert_eq!(parts("s3:///x"), Err("it names no bucket".into()));
        assert!(parts("s3://b/x//y").is_err(), "a key with an empty part");
    }

    #[test]
    fn what_a_server_says_is_short() {
        let body = "Server returned non-2xx status code: 404 Not Found: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The\nbucket does not exist</Message></Error>";
        let error = explained(Error::NotFound { path: "x".into(), source: body.into() });
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::NotFound, "NoSuchBucket: The bucket does not exist".into()));
        let error = explained(Error::PermissionDenied { path: "x".into(), source: "403 Forbidden: ".into() });
        assert_eq!(error.to_string(), "the server does not allow it");
        let text = "Error performing PUT http://169.254.169.254/latest/api/token in 1s: connection refused";
        let error = explained(Error::Generic { store: "S3", source: text.into() });
        assert_eq!(error.to_string(), "there are no credentials, in the environment or of this machine");
    }
}
