//! What a server's answer means: the decision alone, without a connection.
//!
//! InfluxDB 1.x and 2.x answer 400 or 422 with `partial write: … dropped=N` when they wrote some points and dropped others; where they
//! could not read lines, N is 0 and each such line is named by `unable to parse`. InfluxDB 3 has a list of lines in `data`. A 400 without
//! such words says that nothing of the body was written, as with most servers; then the body is to be sent in parts.

use serde_json::Value;
use std::time::Duration;

/// Of a server's text, this is kept.
const TEXT_CHARS_MAX: usize = 300;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All points are written.
    Written,
    /// Some are, so many are not; and why.
    Partly(u64, String),
    /// Send it again, after this time at the earliest.
    Again(Option<Duration>, String),
    /// Something in it is not taken: find what.
    Split(String),
    /// The server does not read gzip.
    Plain(String),
    /// The server takes no points like this.
    Never(String),
}

/// Judges an answer.
pub fn judge(status: u16, retry_after: Option<&str>, body: &str) -> Verdict {
    let why = format!("{status}: {}", text(body));
    match status {
        200..300 => Verdict::Written,
        408 | 425 | 429 | 500..600 => {
            Verdict::Again(retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs), why)
        }
        400 | 422 => refused_in_part(body).map_or(Verdict::Split(why.clone()), |points| Verdict::Partly(points, why)),
        413 => Verdict::Split(why),
        415 => Verdict::Plain(why),
        _ => Verdict::Never(why),
    }
}

/// How many points were refused, where the others were written.
fn refused_in_part(body: &str) -> Option<u64> {
    if !body.contains("partial write") {
        return None;
    }
    let dropped = body.rsplit_once("dropped=").and_then(|(_, rest)| {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).map_or(rest, |end| rest.split_at(end).0);
        digits.parse().ok()
    });
    let named = body.matches("unable to parse").count();
    let listed = serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body.get("data")?.as_array()?.len())).unwrap_or(0);
    Some(dropped.unwrap_or(0).max(named.max(listed) as u64).max(1))
}

/// What the server says, on one line.
fn text(body: &str) -> String {
    let parsed = serde_json::from_str::<Value>(body).ok();
    let said = parsed.as_ref().and_then(|body| {
        let line = body.pointer("/data/0").map(|line| {
            let part = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
            format!("{} in {}", part("error_message"), part("original_line"))
        });
        line.or_else(|| ["error", "message"].iter().find_map(|name| Some(body.get(name)?.as_str()?.to_string())))
    });
    let said = said.unwrap_or_else(|| body.to_string());
    let words: Vec<&str> =
        said.split(|character: char| character.is_whitespace() || character.is_control()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "no reason is given".into() } else { words.join(" ").chars().take(TEXT_CHARS_MAX).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_servers() {
        let why = |status: u16, text: &str| format!("{status}: {text}");
        let dropped = r#"{"error":"partial write: field type conflict: input field \"f\" on measurement \"m\" is type float, already exists as type integer dropped=12"}"#;
        let unread =
            r#"{"error":"partial write: unable to parse 'm f=': missing field value\nunable to parse 'm': missing fields dropped=0"}"#;
        let three = r#"{"error":"partial write of line protocol occurred","data":[{"error_message":"invalid","line_number":2,"original_line":"m f"},{"error_message":"x"}]}"#;
        for (status, after, body, expected) in [
            (204, None, "", Verdict::Written),
            (200, None, "{}", Verdict::Written),
            (503, Some("7"), "busy", Verdict::Again(Some(Duration::from_secs(7)), why(503, "busy"))),
            (429, Some("Fri, 31 Dec 1999 23:59:59 GMT"), "", Verdict::Again(None, why(429, "no reason is given"))),
            (500, None, r#"{"error":"timeout"}"#, Verdict::Again(None, why(500, "timeout"))),
            (400, None, r#"{"code":"invalid","message":"bad\nline"}"#, Verdict::Split(why(400, "bad line"))),
            (413, None, "too large", Verdict::Split(why(413, "too large"))),
            (415, None, "gzip?", Verdict::Plain(why(415, "gzip?"))),
            (401, None, "who?", Verdict::Never(why(401, "who?"))),
            (404, None, r#"{"error":"database not found: \"x\""}"#, Verdict::Never(why(404, "database not found: \"x\""))),
            (301, None, "", Verdict::Never(why(301, "no reason is given"))),
            (400, None, three, Verdict::Partly(2, why(400, "invalid in m f"))),
        ] {
            assert_eq!(judge(status, after, body), expected);
        }
        assert!(matches!(judge(400, None, dropped), Verdict::Partly(12, why) if why.contains("already exists as type integer")));
        assert!(matches!(judge(422, None, dropped), Verdict::Partly(12, _)));
        assert!(matches!(judge(400, None, unread), Verdict::Partly(2, why) if why.contains("missing field value")));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let Verdict::Never(why) = judge(403, None, &"ä\n".repeat(5_000)) else { panic!() };
        assert_eq!(why.chars().count(), "403: ".len() + TEXT_CHARS_MAX);
    }
}
