//! What is shown of locations: paths and URLs without the secrets that are in them.
//!
//! Who asks (a user and a password before a host) and what stands behind the name of a web server's file (tokens, signatures) are written
//! nowhere: not into messages, and not into tables. Whoever puts a location into a text takes [`location`]. [`text`] masks the URLs in the
//! words of others: what a server or a library says, a line of a file of jobs, and all that is printed on stderr.
//!
//! Hints have URLs too: those that are made of words in capitals alone (`http://HOST:PORT/PATH`) are shown as they are.
//!
//! What could be a secret is taken for one. Where a URL can be read in two ways, or can't be read and has something like a password, all
//! behind its scheme is left out.
//!
//! # Limits
//! A secret in the path of a URL, as of some webhooks, looks like any other name, and is shown.

use reqwest::Url;
use std::borrow::Cow;
use std::path::Path;

/// What stands for that which is left out.
pub const HIDDEN: &str = "…";

/// Names of parameters whose values are secrets.
const SECRET_NAMES: [&str; 17] = [
    "access_token",
    "api_key",
    "apikey",
    "authorization",
    "aws_secret_access_key",
    "aws_session_token",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "pgpassword",
    "pwd",
    "secret",
    "sig",
    "signature",
    "sslpassword",
    "token",
];

/// What stands for the parts of a URL where messages and hints show how one looks; it begins with one of the first two.
const PLACEHOLDERS: [&str; 16] = [
    "HOST", "USER", "PORT", "PATH", "PASSWORD", "DATABASE", "DATAFLOW", "TABLE", "COLUMN", "VALUE", "TOPIC", "FILTER", "STREAM",
    "SUBJECTS", "FIELD", "TIME",
];

/// A path or URL, as it may be shown.
pub fn location(given: &str) -> Cow<'_, str> {
    masked(given).map_or(Cow::Borrowed(given), Cow::Owned)
}

/// Whether a path or URL has something that may be a secret.
pub fn has_secret(given: &str) -> bool {
    masked(given).is_some()
}

/// A text, with the URLs in it as they may be shown.
pub fn text(given: &str) -> Cow<'_, str> {
    // Most texts have nothing of the kind.
    if !given.contains([':', '=', '@']) {
        return Cow::Borrowed(given);
    }
    let mut shown = String::new();
    let mut changed = false;
    for piece in given.split_inclusive(ends_word) {
        let word = piece.trim_end_matches(ends_word).trim_end_matches(['.', ',', ':', ';', ')', ']', '}']);
        match masked(word) {
            None => shown.push_str(piece),
            Some(masked) => {
                changed = true;
                shown.push_str(&masked);
                shown.push_str(piece.strip_prefix(word).unwrap_or_default());
            }
        }
    }
    if changed { Cow::Owned(shown) } else { Cow::Borrowed(given) }
}

/// Whether a character can't be in a URL, as it stands in a text.
fn ends_word(character: char) -> bool {
    character.is_whitespace() || character.is_control() || matches!(character, '"' | '\'' | '`' | '<' | '>')
}

/// A location without its secrets; `None` where it has none.
fn masked(given: &str) -> Option<String> {
    match split_scheme(given) {
        Some(parts) => masked_url(parts),
        // A file that is there has a name of its own, whatever it looks like.
        None => masked_name(given).filter(|_| !Path::new(given).exists()),
    }
}

/// A URL in parts. What stands before it (`events=`, `file:`) belongs to the head.
struct Parts<'u> {
    /// Up to its scheme, its colon and its slashes.
    head: &'u str,
    scheme: &'u str,
    rest: &'u str,
}

/// `https:\/\/` is how some write it into JSON, and one slash a slip.
fn split_scheme(given: &str) -> Option<Parts<'_>> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    given.match_indices(':').find_map(|(colon, _)| {
        let (before, behind) = given.split_at(colon);
        let rest = behind.get(1..)?.trim_start_matches(['/', '\\']);
        let scheme = before.get(before.trim_end_matches(is_letter).len()..)?;
        let slashes = behind.len() - 1 - rest.len();
        let is_scheme = scheme.len() > 1 && slashes > 0 && scheme.contains(|letter: char| letter.is_ascii_alphabetic());
        is_scheme.then(|| Parts { head: given.get(..given.len() - rest.len()).unwrap_or_default(), scheme, rest })
    })
}

/// Whether a URL is that of a hint: each word of it is one of [`PLACEHOLDERS`], so nothing in it is what somebody gave.
fn is_placeholder(rest: &str) -> bool {
    let is_between = |character: char| "/:@#?.=,&-|…".contains(character);
    let is_begun = PLACEHOLDERS.iter().take(2).any(|word| rest.starts_with(word));
    is_begun && rest.split(is_between).all(|word| word.is_empty() || PLACEHOLDERS.contains(&word))
}

fn masked_url(Parts { head, scheme, rest }: Parts) -> Option<String> {
    if is_placeholder(rest) {
        return None;
    }
    let web = !["file", "s3", "s3a", "gs", "postgres", "postgresql"].contains(&scheme.to_ascii_lowercase().as_str());
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    // In a filter of topics, # stands for all further levels.
    let has_fragment = web && !scheme.to_ascii_lowercase().starts_with("mqtt");
    let name = if has_fragment { rest.split(['?', '#']).next() } else { rest.split('?').next() }.unwrap_or_default();
    let behind = rest.get(name.len()..).unwrap_or_default();
    // The keys of objects may have question marks, and globs do.
    let asks = if web { !behind.is_empty() } else { behind.contains('=') && scheme != "file" };
    let signed_in = authority.contains('@');
    // Who uses a database is named, where no password is.
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if scheme.starts_with("postgres") && signed_in && !asks && !user.contains([':', '@']) && rest.matches('@').count() == 1 {
        return None;
    }
    // `u:12/3@host`: a port and a path, or a password with a slash.
    let before = rest.rsplit_once('@').map_or("", |(before, _)| before);
    let suspect = if web || scheme.starts_with("postgres") { before } else { authority };
    let doubtful = rest.contains('@') && if signed_in { behind.contains('@') } else { suspect.contains(':') };
    let is_url = || Url::parse(&format!("{scheme}://{rest}")).is_ok_and(|url| url.has_host() || scheme == "file");
    if doubtful || ((signed_in || asks || authority.contains(':')) && !is_url()) {
        return Some(format!("{head}{HIDDEN}"));
    }
    if !signed_in && !asks {
        return None;
    }
    let name = if asks { name } else { rest };
    let host = if signed_in { name.rsplit_once('@').map_or(name, |(_, host)| host) } else { name };
    Some(format!("{head}{host}"))
}

/// What is no URL, and has something like the secrets of one: `me:secret@host/db`, `host/file?sig=secret`, `password=secret`.
fn masked_name(given: &str) -> Option<String> {
    if let Some((before, host)) = given.rsplit_once('@')
        && before.split_once(':').is_some_and(|(_, secret)| !secret.is_empty())
    {
        return Some(format!("{HIDDEN}@{host}"));
    }
    // From the first secret on nothing is shown: it may have any character in it.
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    given.match_indices('=').find_map(|(place, _)| {
        let (before, value) = given.split_at(place);
        let name = before.get(before.trim_end_matches(is_name).len()..)?.trim_start_matches('-');
        (is_secret(name) && value.len() > 1).then(|| format!("{before}={HIDDEN}"))
    })
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str()) || name.starts_with("x-amz-") || name.starts_with("x-goog-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_secret_is_shown_as_it_is() {
        for given in [
            "a/b.csv",
            "day=2024-03-01/12:30.csv",
            "a@b.csv",
            "s3://bucket/day-?.{csv,json}",
            "s3://bucket/me@host/a b#c.csv",
            "https://host:8443/a/b.csv",
            "http://[::1]:4000/scope/b",
            "http://host/@scope/b",
            "file:///data/a?b=c@d.csv",
            "http://",
            "C:\\data",
            "postgres://host:5433/db",
            "mqtt://host:1883/devices/+/#",
            "postgres://me@host:5433/db",
            "",
        ] {
            assert_eq!(location(given), given);
        }
        assert_eq!(
            text("waited 60 s for http://127.0.0.1:8428: refused (b@c, x=y)"),
            "waited 60 s for http://127.0.0.1:8428: refused (b@c, x=y)"
        );
    }

    #[test]
    fn who_asks_and_what_is_asked_is_not_shown() {
        for (given, shown) in [
            ("https://user:secret@host/a/b.csv?token=x", "https://host/a/b.csv"),
            ("https://secret@host:1/a/@b", "https://b"),
            ("https://host/a.csv?secret", "https://host/a.csv"),
            ("https://host/a.csv#secret", "https://host/a.csv"),
            ("https:\\/\\/u:secret@host\\/a?sig=secret", "https:\\/\\/host\\/a"),
            ("s3://key:secret@bucket/a", "s3://bucket/a"),
            ("s3://bucket/a?X-Amz-Signature=secret", "s3://bucket/a"),
            ("events=abfss://secret@account.net/a?sv=1&sig=secret", "events=abfss://account.net/a"),
            ("postgres:/me:secret@host/db", "postgres:/host/db"),
            ("mqtts://me:secret@host/a/#?password=secret", "mqtts://host/a/#"),
            ("me:secret@host/db", "…@host/db"),
            ("postgres//me:secret@host/db", "…@host/db"),
            ("bucket.host/a?x=1&X-Amz-Signature=secret", "bucket.host/a?x=1&X-Amz-Signature=…"),
            ("password=secret host=db", "password=…"),
        ] {
            assert_eq!(location(given), shown);
            assert!(has_secret(given));
        }
    }

    #[test]
    fn urls_of_hints_are_shown() {
        for hint in [
            "give webhook:https://HOST/PATH#DATAFLOW.TABLE?COLUMN=VALUE",
            "http://HOST:PORT",
            "the URL of a server that takes line protocol: http://HOST:PORT/PATH",
            "give postgres://USER:PASSWORD@HOST:PORT/DATABASE, where a password's @ is %40, / is %2F and % is %25",
            "give mqtt://HOST/TOPIC-FILTER, mqtts://, nats://HOST/STREAM, tls://, kafka://HOST/TOPIC, or kafkas://",
        ] {
            assert_eq!(text(hint), hint);
        }
        for given in [
            "https://HOST/PATH?secret",
            "https://HOST/PATH?VALUE=secret",
            "http://USER:secret@HOST",
            "http://USER:SECRET@HOST:PORT",
            "http://HOST:secret",
            "https://hooks/PATH#VALUE?secret",
            "webhook:https://HOST/PATH#secret",
            "http://PASSWORD@HOST",
        ] {
            assert!(has_secret(given), "{given}");
        }
    }

    /// A character of a URL in a password that was not encoded.
    #[test]
    fn what_can_be_read_in_two_ways_is_hidden() {
        for secret in
            ["se/cret", "se?cret", "se#cret", "se@cret", "12/cret", "12?cret", "12#cret", "se\\cret", "se cret", "@/cret", "se:cret"]
        {
            for rest in ["host/a.csv", "host", "host/a.csv?sig=cret", "host/@a"] {
                let shown = location(&format!("http://user:{secret}@{rest}")).into_owned();
                assert!(!shown.contains("cret") && !shown.contains("se") && !shown.contains("12"), "{secret} {rest}: {shown}");
            }
        }
        for given in [
            "http://user:secret",
            "https://host:1x/secret?a",
            "postgres://me:secret@a,b:1/db?x=1",
            "http://:secret@",
            "postgres://a/me:secret@host",
            "http://a/me:secret@host",
        ] {
            assert!(!location(given).contains("secret"), "{given}: {}", location(given));
        }
    }

    #[test]
    fn urls_in_texts_are_masked_where_they_stand() {
        for (given, shown) in [
            ("GET http://u:secret@host:1/a?b=c: refused", "GET http://host:1/a: refused"),
            (
                "{\"a\":\"https://h/x?sig=secret\",\"b\":\"https:\\/\\/h\\/y?token=secret\",",
                "{\"a\":\"https://h/x\",\"b\":\"https:\\/\\/h\\/y\",",
            ),
            ("found 'me:secret@host/db' and \"http://h/?secret\"", "found '…@host/db' and \"http://h/\""),
            ("connect with password=secret, now", "connect with password=…, now"),
        ] {
            assert_eq!(text(given), shown);
        }
    }

    #[test]
    fn a_file_that_is_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("12:30@north.csv");
        let path = path.to_str().unwrap();
        assert_ne!(location(path), path);
        std::fs::write(path, "").unwrap();
        assert_eq!(location(path), path);
    }
}
