//! What `--source` says of a broker: `mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC-FILTER[?NAME=VALUE&…]`, or `nats://…/STREAM`.
//!
//! A filter may have `#` in it, so that is no fragment here; `%` begins an encoded byte. What stands behind `?`:
//!
//! | name | of | what |
//! |---|---|---|
//! | `format` | all | `jsonl` (the default), `json` or `csv` |
//! | `columns` | all | what the columns of CSV are called, in order |
//! | `topic` | MQTT, NATS | fields of topics: `devices/{device_id}/status` |
//! | `password-file` | all | the first line of this file is the password |
//! | `ca` | with TLS | the certificates that are trusted, instead of those that the system trusts |
//! | `subject` | NATS | the subjects of the stream that are read |
//! | `client` | MQTT | the name of the session, instead of one that follows from state, input and filter |
//!
//! # Limits
//! A URL with a password is shown nowhere; [`Url::shown`] is what messages call it.

use super::topic::Pattern;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::PathBuf;

/// What broker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MQTT 5.
    Mqtt,
    /// NATS with JetStream.
    Nats,
}

/// What messages hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    #[default]
    JsonLines,
    /// A JSON object, or an array of them.
    Json,
    /// Values between commas, without a header.
    Csv,
}

/// A source.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// What broker it is.
    pub kind: Kind,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The broker's host.
    pub host: String,
    /// And port.
    pub port: u16,
    /// Who reads.
    pub user: Option<String>,
    /// Their password.
    pub password: Option<String>,
    /// The filter of topics, or the name of the stream.
    pub path: String,
    /// Which certificates are trusted.
    pub ca: Option<PathBuf>,
    /// The name of the session.
    pub client: Option<String>,
    /// Which subjects of a stream.
    pub subject: Option<String>,
    /// What messages hold.
    pub format: Format,
    /// The columns of CSV.
    pub columns: Option<Vec<String>>,
    /// Fields of topics.
    pub pattern: Option<Pattern>,
}

/// The text is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't read messages from {shown:?}: {why}")]
pub struct NotSource {
    /// The text, without secrets.
    shown: String,
    why: String,
    /// What would be right.
    pub hint: String,
}

/// For errors and tests: without the password.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

const KINDS: &str = "give mqtt://HOST/TOPIC-FILTER, mqtts://, nats://HOST/STREAM, or tls://";

impl Kind {
    fn schemes(self) -> [&'static str; 2] {
        match self {
            Kind::Mqtt => ["mqtt", "mqtts"],
            Kind::Nats => ["nats", "tls"],
        }
    }

    fn port(self, tls: bool) -> u16 {
        match (self, tls) {
            (Kind::Mqtt, false) => 1_883,
            (Kind::Mqtt, true) => 8_883,
            (Kind::Nats, _) => 4_222,
        }
    }

    /// The names that may stand behind `?`.
    fn names(self) -> &'static [&'static str] {
        match self {
            Kind::Mqtt => &["format", "columns", "topic", "password-file", "ca", "client"],
            Kind::Nats => &["format", "columns", "topic", "password-file", "ca", "subject"],
        }
    }
}

impl Url {
    /// Reads a URL, and the file with the password where it names one.
    pub fn parse(given: &str) -> Result<Url, NotSource> {
        let (before, query) = given.split_once('?').unwrap_or((given, ""));
        // Before it is known where a password ends, nothing is shown.
        let hidden = |why: &str| NotSource { shown: scheme_only(given), why: why.into(), hint: KINDS.into() };
        let (scheme, rest) = before.split_once("://").ok_or_else(|| hidden("it is no URL"))?;
        let kinds = [Kind::Mqtt, Kind::Nats];
        let kind = kinds.into_iter().find(|kind| kind.schemes().contains(&scheme)).ok_or_else(|| hidden("its scheme is not known"))?;
        let tls = kind.schemes().last() == Some(&scheme);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        if login.is_none() && place.contains(':') && (path.contains('@') || query.contains('@')) {
            return Err(hidden("it can be read in two ways: a password's / is %2F and its ? is %3F, and a topic's @ is %40"));
        }
        let (host, port) = host_and_port(place).map_err(hidden)?;
        let (user, password) = match login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (Some(decoded(user)), Some(decoded(password))),
                None => (Some(decoded(login)), None),
            },
        };
        let (port, path) = (port.unwrap_or(kind.port(tls)), decoded(path));
        let mut url = Url {
            kind,
            tls,
            host,
            port,
            user,
            password,
            path,
            ca: None,
            client: None,
            subject: None,
            format: Format::default(),
            columns: None,
            pattern: None,
        };
        url.query(query).map_err(|(why, hint)| NotSource { shown: url.shown(), why, hint })?;
        url.check().map_err(|(why, hint)| NotSource { shown: url.shown(), why: why.into(), hint: hint.into() })?;
        Ok(url)
    }

    fn query(&mut self, query: &str) -> Result<(), (String, String)> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let names = self.kind.names();
            if !names.contains(&name) {
                return Err((format!("there is no ?{name}="), format!("there are {}", names.join(", "))));
            }
            let value = decoded(value);
            let wrong = |why: String| (format!("?{name}= {why}"), String::from("see `retally serve --help`"));
            match name {
                "format" => {
                    self.format = match value.as_str() {
                        "jsonl" => Format::JsonLines,
                        "json" => Format::Json,
                        "csv" => Format::Csv,
                        _ => return Err(wrong(format!("{value:?} is none of jsonl, json and csv"))),
                    }
                }
                "columns" => self.columns = Some(value.split(',').map(|name| name.trim().to_string()).collect()),
                "topic" => {
                    let separator = if self.kind == Kind::Nats { '.' } else { '/' };
                    self.pattern = Some(Pattern::parse(&value, separator).map_err(|why| wrong(format!("{value:?}: {why}")))?);
                }
                "password-file" => {
                    let text = std::fs::read_to_string(&value).map_err(|error| wrong(format!("{value:?}: {error}")))?;
                    self.password = text.lines().next().map(String::from);
                }
                "ca" => self.ca = Some(value.into()),
                "client" => self.client = Some(value),
                "subject" => self.subject = Some(value),
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.path.is_empty() {
            return Err(("it names no topic", KINDS));
        }
        if self.columns.is_some() && self.format != Format::Csv {
            return Err(("?columns= is of CSV", "add format=csv"));
        }
        if self.ca.is_some() && !self.tls {
            return Err(("?ca= is of encrypted connections", "give mqtts:// or tls://"));
        }
        if self.password.is_some() && self.user.is_none() {
            return Err(("it has a password and no user", "give USER@HOST"));
        }
        if self.kind == Kind::Mqtt {
            return check_filter(&self.path);
        }
        Ok(())
    }

    /// What messages call it: all but who reads, and what stands behind the filter.
    pub fn shown(&self) -> String {
        let [plain, encrypted] = self.kind.schemes();
        let scheme = if self.tls { encrypted } else { plain };
        format!("{scheme}://{}/{}", self.place(), self.path)
    }

    /// The broker: HOST:PORT.
    pub fn place(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// What a message is called, in front of its topic.
    pub fn prefix(&self) -> String {
        match self.kind {
            Kind::Mqtt => "mqtt:".into(),
            Kind::Nats => format!("nats:{}/", self.path),
        }
    }
}

/// What can be shown of a text that is no URL.
fn scheme_only(given: &str) -> String {
    given
        .split_once("://")
        .map_or_else(|| crate::shown::location(given).into_owned(), |(scheme, _)| format!("{scheme}://{}", crate::shown::HIDDEN))
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("its port is no number")).transpose()?;
    if host.is_empty() { Err("it names no host") } else { Ok((decoded(host), port)) }
}

/// `#` stands at the end, and wildcards are whole levels.
fn check_filter(filter: &str) -> Result<(), (&'static str, &'static str)> {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_whole = |level: &&str| level.len() == 1 || !level.contains(['+', '#']);
    let is_last = levels.iter().rev().skip(1).all(|level| *level != "#");
    if levels.iter().all(is_whole) && is_last && !filter.contains('\0') && filter.len() <= usize::from(u16::MAX) {
        return Ok(());
    }
    Err(("its topic filter is none", "+ stands for a level, and # at the end for all further ones"))
}

/// A text as it was before its bytes were encoded.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_what() {
        let url = Url::parse("mqtt://me:s%40e%2Fcret@broker/devices/+/#?topic=devices/{id}/%23&format=csv&columns=a,b&client=x").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls, url.path.as_str()), ("broker", 1_883, false, "devices/+/#"));
        assert_eq!((url.user.as_deref(), url.password.as_deref(), url.client.as_deref()), (Some("me"), Some("s@e/cret"), Some("x")));
        assert_eq!((url.format, url.columns.as_deref()), (Format::Csv, Some(&["a".to_string(), "b".into()][..])));
        assert_eq!(url.pattern.as_ref().map(|pattern| pattern.fields().count()), Some(1));
        assert_eq!((url.shown(), format!("{url:?}")), ("mqtt://broker:1883/devices/+/#".into(), "mqtt://broker:1883/devices/+/#".into()));
        let url = Url::parse("mqtts://[::1]:8884/a").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls, url.shown()), ("::1", 8_884, true, "mqtts://[::1]:8884/a".into()));
    }

    #[test]
    fn a_password_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\n").unwrap();
        let url = Url::parse(&format!("mqtt://me@h/x?password-file={}", file.display())).unwrap();
        assert_eq!(url.password.as_deref(), Some("secret"));
        let error = Url::parse("mqtt://me@h/x?password-file=none").unwrap_err().to_string();
        assert!(error.contains("?password-file= \"none\": No such file"), "{error}");
    }

    #[test]
    fn what_is_no_source_says_why_and_shows_no_password() {
        for (given, why) in [
            ("amqp://me:secret@h/x", "its scheme is not known"),
            ("me:secret@h/x", "it is no URL"),
            ("mqtt://me:secret@h:port/x", "its port is no number"),
            ("mqtt://me:sec/ret@h/x", "it can be read in two ways"),
            ("mqtt://me:12/secret@h/x", "it can be read in two ways"),
            ("mqtt://me:12?secret@h/x", "it can be read in two ways"),
            ("mqtt://me:secret@/x", "it names no host"),
            ("mqtt://me:secret@h", "it names no topic"),
            ("mqtt://me:secret@h/a/#/b", "its topic filter is none"),
            ("mqtt://me:secret@h/a+/b", "its topic filter is none"),
            ("mqtt://me:secret@h/a?qos=1", "there is no ?qos="),
            ("mqtt://me:secret@h/a?format=xml", "?format= \"xml\" is none of"),
            ("mqtt://me:secret@h/a?topic=a", "?topic= \"a\": it names no field"),
            ("mqtt://me:secret@h/a?columns=x", "?columns= is of CSV"),
            ("mqtt://me:secret@h/a?ca=x", "?ca= is of encrypted"),
        ] {
            let error = Url::parse(given).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(why) && !text.contains("sec") && !text.contains("ret@"), "{given}: {text}");
        }
    }
}
