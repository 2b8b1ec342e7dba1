//! Who may ask: a token with each request, or for a browser a session that a token has begun.
//!
//! A session's cookie can't be read by scripts (`HttpOnly`), and is not sent for pages of others (`SameSite=Strict`). What changes
//! something is refused where a browser says that a page of another origin asks for it; by a session it is done only where the browser says
//! that the page is ours. Sessions are in memory: after a restart people log in again.

use super::auth::{Access, Tokens};
use super::error::ApiError;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a session is kept.
const KEPT: Duration = Duration::from_secs(12 * 3_600);
/// So many sessions are kept; the oldest is ended for another one.
const SESSIONS_MAX: usize = 1_000;
/// The largest body of a login.
const LOGIN_BYTES_MAX: usize = 4 << 10;
const COOKIE_NAME: &str = "retally_session";

/// Who may ask, and who has logged in.
#[derive(Debug, Default)]
pub struct Guard {
    /// Nothing where all may ask.
    tokens: Option<Tokens>,
    /// Whether cookies go by HTTPS alone.
    secure: bool,
    sessions: Mutex<VecDeque<Session>>,
}

#[derive(Debug)]
struct Session {
    hash: [u8; 32],
    access: Access,
    until: Instant,
}

/// What a request is let in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// All may ask.
    Anyone,
    /// A token comes with it.
    Token(Access),
    /// A browser has logged in.
    Session(Access),
    /// Nothing.
    Unknown,
}

impl Guard {
    /// With these tokens, where there are any; `secure` where it answers by HTTPS.
    pub fn new(tokens: Option<Tokens>, secure: bool) -> Guard {
        Guard { tokens, secure, sessions: Mutex::default() }
    }

    fn admission(&self, headers: &HeaderMap) -> Admission {
        let Some(tokens) = &self.tokens else { return Admission::Anyone };
        if let Some(header) = headers.get(AUTHORIZATION) {
            return tokens.access(header.as_bytes()).map_or(Admission::Unknown, Admission::Token);
        }
        cookie(headers).and_then(|id| self.session(id)).map_or(Admission::Unknown, Admission::Session)
    }

    /// Lets a request in, or refuses it.
    pub fn check(&self, headers: &HeaderMap, needed: Access) -> Result<(), ApiError> {
        let hint = |error: ApiError| error.hint("open the page of the service itself, or send a token: Authorization: Bearer SECRET");
        let admission = self.admission(headers);
        if needed == Access::Write && !matches!(admission, Admission::Token(_)) {
            check_origin(headers).map_err(hint)?;
        }
        match admission {
            // A name of others may be made to lead here, and then their page is one of ours.
            Admission::Anyone if needed == Access::Write && origin(headers).is_some() && !is_local(headers) => {
                let error = foreign("a page asks for it under a name that is not this machine's");
                Err(error.hint("open it as http://localhost or by its address; or say who may ask: --tokens"))
            }
            Admission::Anyone => Ok(()),
            Admission::Token(given) | Admission::Session(given) if given < needed => {
                let error = ApiError::new(StatusCode::FORBIDDEN, "read_only", "this token may only read");
                Err(error.hint("send one whose line of --tokens says write"))
            }
            Admission::Session(_) if needed == Access::Write && origin(headers).is_none() => {
                Err(hint(foreign("nothing says which page asks for it")))
            }
            Admission::Token(_) | Admission::Session(_) => Ok(()),
            Admission::Unknown => {
                let message =
                    if headers.contains_key(AUTHORIZATION) { "the token is not one of this service" } else { "a token is needed" };
                let error = ApiError::new(StatusCode::UNAUTHORIZED, "token", message);
                Err(error.hint("Authorization: Bearer SECRET, the last word of a line of --tokens; in a browser, log in"))
            }
        }
    }

    /// Begins a session. Returns its id.
    fn begin(&self, access: Access) -> String {
        let id = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        while sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(Session { hash: hash(&id), access, until: Instant::now() + KEPT });
        id
    }

    fn session(&self, id: &str) -> Option<Access> {
        let (hash, now) = (hash(id), Instant::now());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.until > now);
        sessions.iter().find(|session| session.hash == hash).map(|session| session.access)
    }

    fn end(&self, id: &str) {
        let hash = hash(id);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|session| session.hash != hash);
    }

    fn set_cookie(&self, id: &str, seconds: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{COOKIE_NAME}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }
}

/// Ids are kept as hashes: how long a comparison takes tells nothing of them.
fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok()).flat_map(|header| header.split(';'));
    cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('=')).next()
}

/// Whether a browser says that one of our pages asks; nothing where it says nothing, or it is no browser.
fn origin(headers: &HeaderMap) -> Option<bool> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site".parse::<axum::http::HeaderName>().ok()?) {
        return Some(matches!(site, "same-origin" | "none"));
    }
    let host = text(HOST).unwrap_or_default();
    headers.get(ORIGIN).map(|origin| origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(|(_, of)| of == host))
}

/// Whether this machine is asked by an address, or as `localhost`.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = if host.ends_with(']') { host } else { host.rsplit_once(':').map_or(host, |(name, _)| name) };
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

fn foreign(why: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "other_origin", why)
}

/// An error where a browser says that a page of another origin asks.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    if origin(headers) == Some(false) { Err(foreign("a page of another origin asks for it")) } else { Ok(()) }
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

/// `POST /v1/login`
pub async fn login(Extension(guard): Extension<Arc<Guard>>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    check_origin(&headers)?;
    let Some(tokens) = &guard.tokens else { return Err(ApiError::bad("no_tokens", "all may ask: there is nothing to log in to")) };
    let bytes = to_bytes(body, LOGIN_BYTES_MAX).await.map_err(|error| ApiError::bad("bad_body", error.to_string()))?;
    let bad = |_| ApiError::bad("bad_body", "the body is not {\"token\":\"SECRET\"}");
    let Login { token } = serde_json::from_slice(&bytes).map_err(bad)?;
    let access = tokens.access(format!("Bearer {}", token.trim()).as_bytes());
    let access = access.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "token", "there is no such token"))?;
    let cookie = guard.set_cookie(&guard.begin(access), KEPT.as_secs());
    Ok(([(SET_COOKIE, cookie)], about(&guard, Some(access))).into_response())
}

/// `POST /v1/logout`
pub async fn logout(Extension(guard): Extension<Arc<Guard>>, headers: HeaderMap) -> Result<Response, ApiError> {
    check_origin(&headers)?;
    if let Some(id) = cookie(&headers) {
        guard.end(id);
    }
    Ok(([(SET_COOKIE, guard.set_cookie("", 0))], about(&guard, None)).into_response())
}

/// `GET /v1/session`
pub async fn session(Extension(guard): Extension<Arc<Guard>>, headers: HeaderMap) -> Response {
    let access = match guard.admission(&headers) {
        Admission::Anyone => Some(Access::Write),
        Admission::Token(access) | Admission::Session(access) => Some(access),
        Admission::Unknown => None,
    };
    about(&guard, access).into_response()
}

fn about(guard: &Guard, access: Option<Access>) -> impl IntoResponse {
    let access = access.map(|access| if access == Access::Write { "write" } else { "read" });
    ([(CACHE_CONTROL, "no-store")], Json(json!({"tokens": guard.tokens.is_some(), "access": access})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn who_may_ask() {
        use Access::{Read, Write};
        let tokens = Tokens::parse("a read 0123456789abcdef\nb write fedcba9876543210").unwrap();
        let guard = Guard::new(Some(tokens), false);
        let (reads, writes) = (guard.begin(Read), guard.begin(Write));
        let (reads, writes) = (format!("x=1; retally_session={reads}"), format!("retally_session={writes}"));
        let ours = ("sec-fetch-site", "same-origin");
        for (given, read, write) in [
            (vec![], 401, 401),
            (vec![("cookie", "retally_session=")], 401, 401),
            (vec![("authorization", "Bearer 0123456789abcdef")], 0, 403),
            (vec![("authorization", "Bearer fedcba9876543210")], 0, 0),
            // A token that is wrong is not made good by a session.
            (vec![("authorization", "Bearer x"), ("cookie", &writes)], 401, 401),
            (vec![("cookie", &reads), ours], 0, 403),
            (vec![("cookie", &writes), ours], 0, 0),
            (vec![("cookie", &writes)], 0, 403),
            (vec![("cookie", &writes), ("sec-fetch-site", "cross-site")], 0, 403),
            (vec![("cookie", &writes), ("sec-fetch-site", "same-site")], 0, 403),
            (vec![("cookie", &writes), ("host", "h:1"), ("origin", "http://h:1")], 0, 0),
            (vec![("cookie", &writes), ("host", "h:1"), ("origin", "http://h:2")], 0, 403),
            (vec![("cookie", &writes), ("host", "h:1"), ("origin", "null")], 0, 403),
        ] {
            let status =
                |needed| guard.check(&headers(&given), needed).map_or_else(|error| error.into_response().status().as_u16(), |()| 0);
            assert_eq!((status(Read), status(Write)), (read, write), "{given:?}");
        }
        // Without tokens all may ask, but for pages of others.
        let open = Guard::default();
        assert!(open.check(&headers(&[("host", "metrics.example")]), Write).is_ok(), "no page asks");
        for (host, may_write) in [
            ("localhost", true),
            ("LOCALHOST:7878", true),
            ("a.localhost:7878", true),
            ("127.0.0.1:7878", true),
            ("[::1]:7878", true),
            ("[::1]", true),
            ("evil.example:7878", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            let given = headers(&[ours, ("host", host)]);
            assert_eq!((open.check(&given, Read).is_ok(), open.check(&given, Write).is_ok()), (true, may_write), "{host}");
        }
        assert!(open.check(&headers(&[("origin", "http://evil"), ("host", "h")]), Write).is_err());
    }

    #[test]
    fn sessions_end_and_are_bounded() {
        let guard = Guard::default();
        let first = guard.begin(Access::Read);
        assert_eq!(guard.session(&first), Some(Access::Read));
        guard.end(&first);
        assert_eq!(guard.session(&first), None);
        let second = guard.begin(Access::Write);
        (0..SESSIONS_MAX).for_each(|_| drop(guard.begin(Access::Read)));
        assert_eq!(guard.session(&second), None);
        assert_eq!(guard.sessions.lock().unwrap().len(), SESSIONS_MAX);
        assert!(Guard::new(None, true).set_cookie("a", 1).ends_with("HttpOnly; SameSite=Strict; Secure"));
    }
}
