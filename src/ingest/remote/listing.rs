//! Pages of a bucket's listing, without the keys that no request can name.
//!
//! A key may have an empty part (`a//b`), or one that is `.` or `..`; `object_store` has no names for them, and refuses a whole page for
//! one. So pages are looked at before it reads them: such keys are taken out, and handed over beside the page.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector};
use object_store::path::Path;
use quick_xml::escape::unescape;
use quick_xml::events::Event;
use quick_xml::{Error, Reader};

/// The keys that were taken out of a page: an extension of its answer.
#[derive(Clone, Debug)]
pub(super) struct Unnamed(pub Vec<String>);

/// Connects as usual, and looks at listings.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Listings(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Listings(HttpClient);

#[async_trait]
impl HttpService for Listings {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let lists = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2"));
        let response = self.0.execute(request).await?;
        if !lists || !response.status().is_success() {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let page = body.bytes().await?;
        // What can't be read as a page is left to who asked for it, and says why.
        let page = match named(&page) {
            Ok((named, unnamed)) if !unnamed.is_empty() => {
                parts.extensions.insert(Unnamed(unnamed));
                named.into()
            }
            _ => page,
        };
        Ok(HttpResponse::from_parts(parts, page.into()))
    }
}

/// A page without the objects whose keys can't be named, and those keys.
fn named(page: &[u8]) -> Result<(Vec<u8>, Vec<String>), Error> {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let mut reader = Reader::from_reader(page);
    let (mut named, mut unnamed) = (Vec::new(), Vec::new());
    // The page up to here has been kept or left out.
    let mut done = 0;
    let (mut object, mut key) = (0, String::new());
    loop {
        let at = place(reader.buffer_position());
        match reader.read_event()? {
            Event::Start(tag) if tag.local_name().as_ref() == b"Contents" => (object, key) = (at, String::new()),
            Event::Start(tag) if tag.local_name().as_ref() == b"Key" => {
                let text = String::from_utf8_lossy(&reader.read_text(tag.name())?).into_owned();
                key = unescape(&text)?.into_owned();
            }
            Event::End(tag) if tag.local_name().as_ref() == b"Contents" && !has_name(&key) => {
                named.extend_from_slice(page.get(done..object).unwrap_or_default());
                done = place(reader.buffer_position());
                unnamed.push(std::mem::take(&mut key));
            }
            Event::Eof => {
                named.extend_from_slice(page.get(done..).unwrap_or_default());
                return Ok((named, unnamed));
            }
            _ => {}
        }
    }
}

/// Whether a key can be asked for as it is. A slash at its beginning or end would be left out.
fn has_name(key: &str) -> bool {
    Path::parse(key).is_ok_and(|path| path.as_ref() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_a_name_are_taken_out_of_a_page() {
        let object = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let page = |keys: &[&str]| {
            let objects: String = keys.iter().map(|key| object(key)).collect();
            format!(
                "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\"><Name>b</Name>{objects}<IsTruncated>false</IsTruncated></ListBucketResult>"
            )
        };
        let read = |keys: &[&str]| {
            let (named, unnamed) = named(page(keys).as_bytes()).unwrap();
            (String::from_utf8(named).unwrap(), unnamed)
        };
        let all = ["a//b.csv", "a/b &amp; c.csv", "/x.csv", "a/../b&#47;&lt;.csv", "d.csv", "e/"];
        let (kept, unnamed) = (["a/b &amp; c.csv", "d.csv"], ["a//b.csv", "/x.csv", "a/../b/<.csv", "e/"].map(String::from).to_vec());
        assert_eq!(read(&all), (page(&kept), unnamed));
        assert_eq!(read(&kept), (page(&kept), Vec::new()));
        assert!(named(b"<Contents><Key>a</Contents>").is_err());
    }
}
