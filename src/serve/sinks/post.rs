//! A request of a webhook: what is sent, how it is signed, and what its answer means.
//!
//! The signature is that of Stripe: `Retally-Signature: t=TIME,v1=HEX`, where HEX is the HMAC-SHA256 of `TIME.BODY` under the secret, and
//! TIME is in seconds since 1970. A receiver computes the same, compares it in constant time, and refuses what is too old.
//!
//! # Limits
//! Redirects are not followed: changes go where they were sent to, and nowhere else.

use super::follower::Trouble;
use crate::client;
use crate::hex::hex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use ureq::Agent;
use ureq::http::header::{CONTENT_TYPE, RETRY_AFTER};

/// How long a receiver may take for each part of a request, where nothing less is asked for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A receiver that asks for more time is asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Of an answer, this is read, so that the connection can be used again.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The header with what tells a request from others: it is the same when it is sent again.
const ID: &str = "retally-id";
/// The header with the signature.
const SIGNATURE: &str = "retally-signature";

/// Sends requests to a server.
pub(super) struct Sender {
    agent: Agent,
    url: String,
    secret: Option<Arc<[u8]>>,
}

impl Sender {
    /// One whose receiver may be silent for so long. Nothing, where the machine has no certificates to tell a server by.
    pub(super) fn new(url: &str, is_local: bool, is_secure: bool, silence_max: Duration, secret: Option<Arc<[u8]>>) -> Option<Sender> {
        let wait = Some(silence_max.min(WAIT_MAX));
        let config =
            Agent::config_builder().timeout_connect(wait).timeout_send_body(wait).timeout_recv_response(wait).timeout_recv_body(wait);
        Some(Sender { agent: client::agent(config, is_local, is_secure)?, url: url.into(), secret })
    }

    /// Sends a body, once. It is there when that succeeds, and may be there when it does not.
    pub(super) fn send(&self, id: &str, body: &[u8]) -> Result<(), Trouble> {
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/json").header(ID, id);
        if let Some(secret) = &self.secret {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            request = request.header(SIGNATURE, signature(secret, now, body));
        }
        let mut answer = request.send(body).map_err(|error| not_answered(&error))?;
        answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().ok();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        judge(answer.status().as_u16(), retry_after)
    }
}

/// The value of the header with the signature.
fn signature(secret: &[u8], seconds: u64, body: &[u8]) -> String {
    // A key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex(&mac.finalize().into_bytes()))
}

/// What an answer means. A receiver that is being put in place answers anything: so all but 410, *gone*, is tried again.
fn judge(status: u16, retry_after: Option<&str>) -> Result<(), Trouble> {
    let pause_min = retry_after.and_then(pause).unwrap_or_default().min(RETRY_AFTER_MAX);
    let why = match status {
        200..300 => return Ok(()),
        300..400 => format!("it answers {status}, and redirects are not followed"),
        410 => "it answers 410: it is gone for good".into(),
        _ => format!("it answers {status}"),
    };
    Err(Trouble { why, pause_min, is_final: status == 410 })
}

/// `Retry-After`: a number of seconds, or a date.
fn pause(text: &str) -> Option<Duration> {
    let text = text.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    // What is over is now.
    seconds.or_else(|| Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default()))
}

/// What it means that there is no answer. A URL is in none of these texts.
fn not_answered(error: &ureq::Error) -> Trouble {
    let why = client::no_answer(error).unwrap_or_else(|| "the request failed".into());
    Trouble { why, pause_min: Duration::ZERO, is_final: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret` has it.
    #[test]
    fn a_signature_is_that_of_others() {
        let signed = signature(b"secret", 1_700_000_000, br#"{"a":1}"#);
        assert_eq!(signed, "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
    }

    #[test]
    fn answers_of_receivers() {
        let judged = |status, after| judge(status, after).map_err(|Trouble { pause_min, is_final, .. }| (pause_min.as_secs(), is_final));
        for status in [200, 201, 202, 204] {
            assert_eq!(judged(status, Some("7")), Ok(()));
        }
        for (status, after, pause) in
            [(500, None, 0), (503, Some("7"), 7), (429, Some(" 90 "), 90), (429, Some("999999"), 3_600), (404, None, 0), (301, None, 0)]
        {
            assert_eq!(judged(status, after), Err((pause, false)), "{status}");
        }
        assert_eq!(judged(410, None), Err((0, true)));
        assert_eq!(judged(429, Some("soon")), Err((0, false)));
        assert_eq!(judged(503, Some("Fri, 31 Dec 1999 23:59:59 GMT")), Err((0, false)));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let (pause, _) = judged(503, Some(&later)).unwrap_err();
        assert!((95..=100).contains(&pause), "{pause}");
    }
}
