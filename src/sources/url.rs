//! What `--source` says of a broker: `mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC-FILTER[?NAME=VALUE&…]`, `nats://…/STREAM`, or
//! `kafka://…/TOPIC`, which may name several brokers.
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
//! | `start` | Kafka | where a topic begins that was not read before: `earliest` (the default), `latest`, or a time |
//! | `key` | Kafka | the field that the key of a message is |
//! | `sasl` | Kafka | the way of login, instead of the best that the broker has |
//!
//! # Limits
//! A URL with a password is shown nowhere; [`Url::shown`] is what messages call it.

use super::kind::Kind;
use super::sasl::Mechanism;
use super::start::Start;
use super::topic::Pattern;
use crate::failure;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::PathBuf;

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
    /// Further brokers of the same cluster.
    pub others: Vec<(String, u16)>,
    /// Who reads.
    pub user: Option<String>,
    /// Their password.
    pub password: Option<String>,
    /// The filter of topics, or the name of the stream or topic.
    pub path: String,
    /// Which certificates are trusted.
    pub ca: Option<PathBuf>,
    /// The name of the session.
    pub client: Option<String>,
    /// Which subjects of a stream.
    pub subject: Option<String>,
    /// Where a topic begins.
    pub start: Start,
    /// The field that the key of a message is.
    pub key: Option<String>,
    /// The way of login.
    pub sasl: Option<Mechanism>,
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

const KINDS: &str = "give mqtt://HOST/TOPIC-FILTER, mqtts://, nats://HOST/STREAM, tls://, kafka://HOST/TOPIC, or kafkas://";

impl Url {
    /// Reads a URL, and the file with the password where it names one.
    pub fn parse(given: &str) -> Result<Url, NotSource> {
        let (before, query) = given.split_once('?').unwrap_or((given, ""));
        // Before it is known where a password ends, nothing is shown.
        let hidden = |why: &str| NotSource { shown: scheme_only(given), why: why.into(), hint: KINDS.into() };
        let (scheme, rest) = before.split_once("://").ok_or_else(|| hidden("it is no URL"))?;
        let (kind, tls) = Kind::of(scheme).ok_or_else(|| hidden("its scheme is not known"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        if login.is_none() && place.contains(':') && (path.contains('@') || query.contains('@')) {
            return Err(hidden("it can be read in two ways: a password's / is %2F and its ? is %3F, and a topic's @ is %40"));
        }
        let mut places = addresses(kind, tls, place).map_err(hidden)?;
        let (host, port) = places.remove(0);
        let (user, password) = match login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (Some(decoded(user)), Some(decoded(password))),
                None => (Some(decoded(login)), None),
            },
        };
        let mut url = Url {
            kind,
            tls,
            host,
            port,
            others: places,
            user,
            password,
            path: decoded(path),
            ca: None,
            client: None,
            subject: None,
            start: Start::default(),
            key: None,
            sasl: None,
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
                    let text = std::fs::read_to_string(&value).map_err(|error| wrong(format!("{value:?}: {}", failure::words(&error))))?;
                    self.password = text.lines().next().map(String::from);
                }
                "ca" => self.ca = Some(value.into()),
                "client" => self.client = Some(value),
                "subject" => self.subject = Some(value),
                "start" => self.start = Start::parse(&value).map_err(wrong)?,
                "key" if value.is_empty() => return Err(wrong("names no field".into())),
                "key" => self.key = Some(value),
                "sasl" => {
                    let names = || Mechanism::ALL.map(Mechanism::name).join(", ");
                    self.sasl = Some(Mechanism::named(&value).ok_or_else(|| wrong(format!("{value:?} is none of {}", names())))?);
                }
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
            return Err(("?ca= is of encrypted connections", "give mqtts://, tls:// or kafkas://"));
        }
        if self.password.is_some() && self.user.is_none() {
            return Err(("it has a password and no user", "give USER@HOST"));
        }
        self.kind.check(&self.path)?;
        match (&self.user, &self.password) {
            (Some(_), None) if self.kind == Kind::Kafka => {
                Err(("it has a user and no password", "give USER:PASSWORD@HOST, or ?password-file=FILE"))
            }
            (None, _) if self.sasl.is_some() => Err(("?sasl= is how a user logs in, and it has none", "give USER@HOST")),
            _ => Ok(()),
        }
    }

    /// What messages call it: all but who reads, and what stands behind the filter.
    pub fn shown(&self) -> String {
        let [plain, encrypted] = self.kind.schemes();
        let scheme = if self.tls { encrypted } else { plain };
        format!("{scheme}://{}/{}", self.address(), self.path)
    }

    /// The broker: HOST:PORT; several stand with commas between them.
    pub fn address(&self) -> String {
        let place = |(host, port): (&str, u16)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        self.brokers().map(place).collect::<Vec<_>>().join(",")
    }

    /// Host and port of each broker that it names.
    pub fn brokers(&self) -> impl Iterator<Item = (&str, u16)> {
        let others = self.others.iter().map(|(host, port)| (host.as_str(), *port));
        std::iter::once((self.host.as_str(), self.port)).chain(others)
    }
}

/// What can be shown of a text that is no URL.
fn scheme_only(given: &str) -> String {
    given
        .split_once("://")
        .map_or_else(|| crate::shown::location(given).into_owned(), |(scheme, _)| format!("{scheme}://{}", crate::shown::HIDDEN))
}

/// The brokers that a URL names: several only of Kafka.
fn addresses(kind: Kind, tls: bool, text: &str) -> Result<Vec<(String, u16)>, &'static str> {
    let place = |text| host_and_port(text).map(|(host, port)| (host, port.unwrap_or(kind.port(tls))));
    if kind == Kind::Kafka { text.split(',').map(place).collect() } else { Ok(vec![place(text)?]) }
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("its port is no number")).transpose()?;
    if host.is_empty() { Err("it names no host") } else { Ok((decoded(host), port)) }
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
    fn kafka_has_several_brokers() {
        let url = Url::parse("kafka://me:secret@one:1,[::1],three/device-events_2.x?key=id&start=latest&sasl=plain").unwrap();
        let brokers: Vec<(&str, u16)> = url.brokers().collect();
        assert_eq!(brokers, [("one", 1), ("::1", 9_092), ("three", 9_092)]);
        assert_eq!((url.key.as_deref(), url.start, url.sasl), (Some("id"), Start::Latest, Some(Mechanism::Plain)));
        assert_eq!(url.shown(), "kafka://one:1,[::1]:9092,three:9092/device-events_2.x");
        let url = Url::parse("kafkas://one/x").unwrap();
        assert_eq!((url.port, url.tls, url.start), (9_093, true, Start::Earliest));
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
            ("kafka://me:secret@one,:1/a", "it names no host"),
            ("kafka://me:secret@one,two:x/a", "its port is no number"),
            ("kafka://me:secret@h/a/b", "its topic is no name of one"),
            ("kafka://secret@h/a", "it has a user and no password"),
            ("kafka://h/a?sasl=plain", "?sasl= is how a user logs in"),
            ("kafka://me:secret@h/a?sasl=x", "?sasl= \"x\" is none of SCRAM-SHA-512"),
            ("kafka://me:secret@h/a?start=soon", "?start= \"soon\" is none of earliest, latest and a time"),
            ("kafka://me:secret@h/a?subject=x", "there is no ?subject="),
        ] {
            let error = Url::parse(given).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(why) && !text.contains("sec") && !text.contains("ret@"), "{given}: {text}");
        }
    }
}
