//! `/`: the page, and the files that it is made of. They are in the program, and nothing comes from elsewhere.

use crate::hex::hex;
use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::sync::LazyLock;

/// Nothing of others, no scripts or styles in the markup, and no page of others around ours.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_bytes!(concat!("../page/", $name)).as_slice())),*] };
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let files: &[(&str, &[u8])] = &files![
        "api.js",
        "base.css",
        "batches.js",
        "chart.css",
        "chart.js",
        "chartcard.js",
        "dataflow.js",
        "dom.js",
        "feed.js",
        "figure.js",
        "format.js",
        "icon.svg",
        "index.html",
        "live.js",
        "main.js",
        "names.js",
        "overview.js",
        "parts.css",
        "rejected.js",
        "scale.js",
        "sensors.js",
        "session.js",
        "shared.js",
        "stream.js",
        "switcher.js",
        "table.js",
        "theme.js",
        "url.js",
        "why.js",
    ];
    files.iter().map(|(name, bytes)| File::new(name, bytes)).collect()
});

/// A file of the page.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    /// The same, packed.
    packed: Vec<u8>,
    tag: String,
}

impl File {
    fn new(name: &'static str, bytes: &'static [u8]) -> File {
        let hash = Sha256::digest(bytes);
        let tag = hex(hash.get(..8).unwrap_or(&hash));
        // Writing to memory can't fail; where it did, the file would go as it is.
        File { name, bytes, packed: packed(bytes).unwrap_or_default(), tag }
    }

    fn kind(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        }
    }

    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let takes_packed = headers.get_all(ACCEPT_ENCODING).iter().any(|accepted| accepted.to_str().is_ok_and(takes_gzip));
        let is_packed = takes_packed && !self.packed.is_empty();
        let tag = format!("\"{}{}\"", self.tag, if is_packed { "-gzip" } else { "" });
        let about = [
            (ETAG, tag.clone()),
            (CACHE_CONTROL, "no-cache".into()),
            (VARY, "accept-encoding".into()),
            (CONTENT_SECURITY_POLICY, POLICY.into()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
            (REFERRER_POLICY, "no-referrer".into()),
        ];
        if super::is_known(headers, &tag) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        let kind = [(CONTENT_TYPE, self.kind())];
        if is_packed {
            return (about, kind, [(CONTENT_ENCODING, "gzip")], self.packed.as_slice()).into_response();
        }
        (about, kind, self.bytes).into_response()
    }
}

fn packed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Whether an `Accept-Encoding` takes gzip.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|way| {
        let mut parts = way.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0)))
    })
}

fn file(name: &str, headers: &HeaderMap) -> Option<Response> {
    FILES.iter().find(|file| file.name == name).map(|file| file.answer(headers))
}

/// Whether a path is one of the page, which everybody may have: there is nothing of the service in it.
pub fn is_of(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// Its routes. They are not in the description, which is of calls.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let missing = || super::ApiError::missing("no_route", "the page has no such file").into_response();
    let begin = move |headers: HeaderMap| async move { file("index.html", &headers).unwrap_or_else(missing) };
    let other = move |Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers).unwrap_or_else(missing) };
    Router::new().route("/", get(begin)).route("/page/{file}", get(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All files together, so that it opens at once on a slow line.
    const BYTES_MAX: usize = 400 << 10;

    #[test]
    fn the_page_is_small_and_whole() {
        assert!(FILES.iter().map(|file| file.bytes.len()).sum::<usize>() <= BYTES_MAX);
        for file in FILES.iter() {
            let text = std::str::from_utf8(file.bytes).unwrap();
            assert_ne!(file.kind(), "application/octet-stream", "{}", file.name);
            // But for the name of a language.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{} names an address elsewhere", file.name);
            // What a file asks for is there.
            for quoted in text.split(['"', '\'']).filter(|quoted| quoted.starts_with("./") || quoted.starts_with("/page/")) {
                let name = quoted.rsplit('/').next().unwrap();
                assert!(FILES.iter().any(|other| other.name == name), "{}: {quoted}", file.name);
            }
        }
        let written = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve/page")).unwrap();
        for name in written.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| !name.ends_with(".png")) {
            assert!(FILES.iter().any(|file| file.name == name), "{name} is not in the program");
        }
    }

    #[test]
    fn who_takes_gzip() {
        for (accepted, takes) in [("gzip", true), ("br, gzip;q=0.5", true), ("gzip;q=0", false), ("x-gzip", false), ("", false)] {
            assert_eq!(takes_gzip(accepted), takes, "{accepted}");
        }
    }
}
