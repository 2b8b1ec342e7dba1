//! The kinds of brokers: what their URLs begin with, and what may stand in these.

/// What broker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kafka.
    Kafka,
    /// MQTT 5.
    Mqtt,
    /// NATS with JetStream.
    Nats,
}

/// The longest name of a topic of Kafka.
const TOPIC_BYTES_MAX: usize = 249;

/// What is wrong, and what would be right.
type Wrong = (&'static str, &'static str);

impl Kind {
    const ALL: [Kind; 3] = [Kind::Kafka, Kind::Mqtt, Kind::Nats];

    /// That of a scheme, and whether its connections are encrypted.
    pub fn of(scheme: &str) -> Option<(Kind, bool)> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.schemes().contains(&scheme))?;
        Some((kind, kind.schemes().last() == Some(&scheme)))
    }

    /// Its scheme, and that of its encrypted connections.
    pub fn schemes(self) -> [&'static str; 2] {
        match self {
            Kind::Kafka => ["kafka", "kafkas"],
            Kind::Mqtt => ["mqtt", "mqtts"],
            Kind::Nats => ["nats", "tls"],
        }
    }

    /// The port where none is named.
    pub fn port(self, tls: bool) -> u16 {
        match (self, tls) {
            (Kind::Kafka, false) => 9_092,
            (Kind::Kafka, true) => 9_093,
            (Kind::Mqtt, false) => 1_883,
            (Kind::Mqtt, true) => 8_883,
            (Kind::Nats, _) => 4_222,
        }
    }

    /// The names that may stand behind `?`.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Kind::Kafka => &["format", "columns", "key", "start", "password-file", "ca", "sasl"],
            Kind::Mqtt => &["format", "columns", "topic", "password-file", "ca", "client"],
            Kind::Nats => &["format", "columns", "topic", "password-file", "ca", "subject"],
        }
    }

    /// What a message of this filter, stream or topic is called, in front of its topic.
    pub fn prefix(self, path: &str) -> String {
        match self {
            Kind::Kafka => "kafka:".into(),
            Kind::Mqtt => "mqtt:".into(),
            Kind::Nats => format!("nats:{path}/"),
        }
    }

    /// Whether the filter, stream or topic can be one.
    pub fn check(self, path: &str) -> Result<(), Wrong> {
        match self {
            Kind::Kafka => check_topic(path),
            Kind::Mqtt => check_filter(path),
            Kind::Nats => Ok(()),
        }
    }
}

/// A topic of Kafka.
fn check_topic(topic: &str) -> Result<(), Wrong> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if topic.chars().all(is_letter) && topic.len() <= TOPIC_BYTES_MAX {
        return Ok(());
    }
    Err(("its topic is no name of one", "a topic's name has letters, digits, dots, lines and hyphens"))
}

/// `#` stands at the end, and wildcards are whole levels.
fn check_filter(filter: &str) -> Result<(), Wrong> {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_whole = |level: &&str| level.len() == 1 || !level.contains(['+', '#']);
    let is_last = levels.iter().rev().skip(1).all(|level| *level != "#");
    if levels.iter().all(is_whole) && is_last && !filter.contains('\0') && filter.len() <= usize::from(u16::MAX) {
        return Ok(());
    }
    Err(("its topic filter is none", "+ stands for a level, and # at the end for all further ones"))
}
