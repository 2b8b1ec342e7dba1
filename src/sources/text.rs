//! Messages as a text of records: lines of CSV with a header, or a JSON object a line.
//!
//! What stands beside a message (`@time`, `@key`, `@topic`, fields of its topic) becomes columns or keys, where a mapping asks for it: so
//! mappings read messages as they read files.
//!
//! # Limits
//! A message that is not a record for sure is refused by itself, so that it harms no other: a quote that is not closed in CSV, something
//! else than objects in JSON. A JSON object with a key that its topic has too is refused by who reads it, since keys stand once.

use super::inlet::Message;
use super::kind::Kind;
use super::payload;
use super::topic::Pattern;
use super::url::{Format, Url};
use crate::ingest::IngestError;
use crate::ingest::batch::{Arrival, Batch, Body, Part, Source, TextFormat};
use crate::ingest::messages::Messages;
use crate::ingest::plan::plan;
use bytes::Bytes;
use retally_core::contract::{Definition, Input};
use retally_core::definition::FileOptions;
use retally_core::time::Moment;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The pseudo columns.
const PSEUDO: [(&str, Beside); 3] = [("@time", Beside::Time), ("@key", Beside::Key), ("@topic", Beside::Topic)];

/// What is kept of a message that can't be read.
const RAW_BYTES_MAX: usize = retally_core::split::RAW_BYTES_MAX;

/// What stands beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Time,
    Key,
    Topic,
    /// The field of the topic at this place.
    Field(usize),
}

/// How messages become lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFormat {
    format: Format,
    /// What messages of a source are called, in front of their topics.
    prefix: String,
    /// Whether topics have partitions, which stand behind them.
    has_partitions: bool,
    pattern: Option<Pattern>,
    beside: Vec<(String, Beside)>,
    /// The first line, of CSV.
    header: String,
}

impl MessageFormat {
    /// How messages of a source become records of an input.
    pub fn new(url: &Url, input: &Input) -> MessageFormat {
        let mut columns: Vec<&str> = Vec::new();
        for (place, field) in input.fields.iter().enumerate().filter(|(place, _)| input.mapping.is_sought(*place)) {
            let name = input.mapping.name(place, field);
            // Two fields may stand in one column.
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
        let asked = |name: &str| columns.contains(&name);
        let mut beside: Vec<(String, Beside)> =
            PSEUDO.iter().filter(|(name, _)| asked(name)).map(|(name, what)| (name.to_string(), *what)).collect();
        beside.extend(url.key.iter().map(|name| (name.clone(), Beside::Key)));
        let fields = url.pattern.iter().flat_map(Pattern::fields).enumerate();
        beside.extend(fields.map(|(place, name)| (name.to_string(), Beside::Field(place))));
        let own: Vec<&str> = match &url.columns {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => columns.into_iter().filter(|name| !beside.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))).collect(),
        };
        let mut header = String::new();
        if url.format == Format::Csv {
            for (place, name) in beside.iter().map(|(name, _)| name.as_str()).chain(own).enumerate() {
                if place > 0 {
                    header.push(',');
                }
                push_cell(&mut header, name);
            }
            header.push('\n');
        }
        MessageFormat {
            format: url.format,
            prefix: url.kind.prefix(&url.path),
            has_partitions: url.kind == Kind::Kafka,
            pattern: url.pattern.clone(),
            beside,
            header,
        }
    }

    /// Whether the columns are those that the input needs; an error names those that are not.
    pub fn check(&self, name: &str, definition: &Definition, input: usize) -> Result<(), IngestError> {
        if !self.is_csv() {
            return Ok(());
        }
        let mut definition = definition.clone();
        definition.inputs.iter_mut().for_each(|input| input.files = FileOptions::default());
        let body = Body { name: name.into(), ..Body::plain(TextFormat::Csv, self.header.clone()) };
        let arrival = Arrival { accept_from: Moment::FIRST, accept_until: Moment::LAST };
        plan(&definition, &Batch { parts: vec![Part { input, sign: 1, source: Source::Bytes(body) }] }, arrival).map(drop)
    }

    /// Whether it is CSV.
    pub fn is_csv(&self) -> bool {
        self.format == Format::Csv
    }
}

/// A message that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which one.
    pub message: String,
    /// Why.
    pub reason: String,
    /// Its first bytes.
    pub raw: Vec<u8>,
}

/// Messages as a text.
#[derive(Debug, Default)]
pub struct Text {
    /// The lines.
    pub lines: String,
    /// Which messages they are.
    pub messages: Messages,
    /// Those that can't be read.
    pub unreadable: Vec<Unreadable>,
    /// The number of the last message, by what is counted and its partition.
    pub positions: BTreeMap<(Arc<str>, i32), u64>,
    /// How many messages there are, with those that can't be read.
    pub count: u64,
    /// The number of the next line, from 1.
    next_line: u64,
    topics: HashMap<(Bytes, i32), usize>,
}

impl Text {
    /// Adds a message.
    pub fn add(&mut self, format: &MessageFormat, message: &Message) {
        if let Some(number) = message.number {
            self.positions.insert((Arc::clone(&message.of), message.partition), number);
        }
        if message.is_place {
            return;
        }
        self.count += 1;
        if self.lines.is_empty() {
            self.lines.push_str(&format.header);
            self.next_line = 1 + u64::from(!format.header.is_empty());
        }
        let start = self.lines.len();
        match self.append(format, message) {
            Ok(0) => {}
            Ok(lines) => {
                let place = (message.topic.clone(), message.partition);
                let messages = &mut self.messages;
                let topic = *self.topics.entry(place).or_insert_with(|| messages.topic(&name(format, message)));
                self.messages.add(self.next_line, topic, lines, message.number);
                self.next_line += lines;
            }
            Err(reason) => {
                self.lines.truncate(start);
                let mut called = name(format, message);
                message.number.iter().for_each(|number| called += &format!("#{number}"));
                let raw = message.payload.get(..RAW_BYTES_MAX).unwrap_or(&message.payload).to_vec();
                self.unreadable.push(Unreadable { message: called, reason, raw });
            }
        }
    }

    /// Appends the lines of a message, and returns how many there are.
    fn append(&mut self, format: &MessageFormat, message: &Message) -> Result<u64, String> {
        if let Some(why) = &message.unreadable {
            return Err(why.to_string());
        }
        let text = payload::text(&message.payload)?;
        let topic = String::from_utf8_lossy(&message.topic);
        let mut fields = Vec::new();
        if let Some(pattern) = &format.pattern
            && !pattern.take(&topic, &mut fields)
        {
            return Err("the topic is not of the form that ?topic= says".into());
        }
        let mut before = String::new();
        for (name, what) in &format.beside {
            let value: Cow<'_, str> = match what {
                Beside::Time => message.time.to_string().into(),
                Beside::Key => std::str::from_utf8(&message.key).map_err(|_| "the key of the message is not UTF-8")?.into(),
                Beside::Topic => Cow::Borrowed(&topic),
                Beside::Field(place) => fields.get(*place).copied().unwrap_or_default().into(),
            };
            if format.is_csv() {
                push_cell(&mut before, &value);
            } else {
                push_json(&mut before, name);
                before.push(':');
                push_json(&mut before, &value);
            }
            before.push(',');
        }
        match format.format {
            Format::Csv => self.csv(&text, &before),
            Format::JsonLines => text.lines().try_fold(0, |count, line| Ok(count + self.object(line.trim(), &before)?)),
            Format::Json => match text.trim().strip_prefix('[') {
                None => self.object(&one_line(text.trim()), &before),
                Some(_) => {
                    let objects: Vec<&RawValue> =
                        serde_json::from_str(text.trim()).map_err(|error| format!("the message is no JSON array: {error}"))?;
                    objects.iter().try_fold(0, |count, object| Ok(count + self.object(&one_line(object.get()), &before)?))
                }
            },
        }
    }

    fn csv(&mut self, text: &str, before: &str) -> Result<u64, String> {
        if memchr::memchr_iter(b'"', text.as_bytes()).count() % 2 == 1 {
            return Err("a quote in the message is not closed".into());
        }
        let mut count = 0;
        let mut in_quotes = false;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if line.trim().is_empty() && !in_quotes {
                continue;
            }
            if !in_quotes {
                self.lines.push_str(before);
            }
            self.lines.push_str(line);
            self.lines.push('\n');
            in_quotes ^= memchr::memchr_iter(b'"', line.as_bytes()).count() % 2 == 1;
            count += 1;
        }
        Ok(count)
    }

    /// Appends an object that stands on one line; none where there is nothing.
    fn object(&mut self, line: &str, before: &str) -> Result<u64, String> {
        if line.is_empty() {
            return Ok(0);
        }
        let rest = line.strip_prefix('{').filter(|_| line.ends_with('}')).ok_or("the message is no JSON object")?;
        self.lines.push('{');
        self.lines.push_str(if rest.trim_start() == "}" { before.trim_end_matches(',') } else { before });
        self.lines.push_str(rest);
        self.lines.push('\n');
        Ok(1)
    }
}

/// What a message's topic is called.
fn name(format: &MessageFormat, message: &Message) -> String {
    let topic = String::from_utf8_lossy(&message.topic);
    let partition = if format.has_partitions { format!("/{}", message.partition) } else { String::new() };
    format!("{}{topic}{partition}", format.prefix)
}

/// JSON on one line: in its strings there are no line ends.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

fn push_cell(to: &mut String, cell: &str) {
    if cell.contains([',', '"', '\n', '\r']) || cell.starts_with(['#', ' ']) {
        to.push('"');
        to.push_str(&cell.replace('"', "\"\"").replace(['\n', '\r'], " "));
        to.push('"');
    } else {
        to.push_str(cell);
    }
}

fn push_json(to: &mut String, text: &str) {
    // Texts are written without fail.
    to.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;
    use retally_core::mapping::{Column, Origin, Rule};

    fn format(url: &str, maps: &[(usize, &str)]) -> MessageFormat {
        let mut input = registry::dataflow("online").unwrap().definition().inputs.remove(0);
        for (place, column) in maps {
            let rule = Rule { origin: Origin::Column(Column::parse(column)), ..Rule::default() };
            input.mapping = input.mapping.with(input.fields, *place, rule);
        }
        MessageFormat::new(&Url::parse(url).unwrap(), &input)
    }

    fn read(format: &MessageFormat, messages: &[(&'static str, &'static str)]) -> Text {
        let mut text = Text::default();
        for (topic, payload) in messages {
            let (topic, payload) = (Bytes::from_static(topic.as_bytes()), Bytes::from_static(payload.as_bytes()));
            text.add(format, &Message { topic, payload, time: Moment(1_700_000_000_000_000), ..Message::default() });
        }
        text
    }

    #[test]
    fn csv_has_a_header_of_its_own() {
        let plain = format("mqtt://h/x?format=csv", &[]);
        let text = read(&plain, &[("x", "2024-01-01,1,2,3,true"), ("x", "a,b\r\n\nc,\"d\ne\"\n"), ("x", "f")]);
        assert_eq!(text.lines, "timestamp,device_id,user_id,server_id,connected\n2024-01-01,1,2,3,true\na,b\nc,\"d\ne\"\nf\n");
        assert_eq!(
            (text.count, text.messages.message_at(3), text.messages.message_at(5)),
            (3, Some(("mqtt:x".into(), 1)), Some(("mqtt:x".into(), 3)))
        );
        let topics = format("mqtt://h/d/+/s?format=csv&topic=d/{device_id}/s&columns=state", &[(0, "@time"), (4, "state")]);
        let text = read(&topics, &[("d/7/s", "up"), ("d/a,\"b\"/s", "down"), ("d/7", "up")]);
        assert_eq!(text.lines, "@time,device_id,state\n2023-11-14T22:13:20Z,7,up\n2023-11-14T22:13:20Z,\"a,\"\"b\"\"\",down\n");
        assert_eq!(text.unreadable.len(), 1);
        assert_eq!(text.unreadable[0].message, "mqtt:d/7");
        let own = format("mqtt://h/d/+?format=csv&topic=d/{device_id}", &[(2, ""), (3, "@topic")]);
        assert_eq!(own.header, "@topic,device_id,timestamp,,connected\n");
    }

    #[test]
    fn json_gets_keys_for_what_stands_beside() {
        let plain = format("nats://h/S", &[]);
        let text = read(&plain, &[("a", "{\"id\":1}\n\n{\"id\":2}"), ("b", " {} ")]);
        assert_eq!(text.lines, "{\"id\":1}\n{\"id\":2}\n{}\n");
        assert_eq!(text.messages.message_at(3), Some(("nats:S/b".into(), 1)));
        let beside = format("mqtt://h/#?format=json&topic=+/{device_id}", &[(0, "@time")]);
        let text = read(&beside, &[("d/7", "[{\"a\":\n1},{}]"), ("d/\"8", "{\n\"b\":2\n}")]);
        let at = "{\"@time\":\"2023-11-14T22:13:20Z\",\"device_id\"";
        assert_eq!(text.lines, format!("{at}:\"7\",\"a\": 1}}\n{at}:\"7\"}}\n{at}:\"\\\"8\", \"b\":2 }}\n"));
    }

    #[test]
    fn what_is_no_record_for_sure_harms_no_other() {
        let json = format("mqtt://h/x", &[]);
        let text = read(&json, &[("x", "{\"id\":1"), ("x", ""), ("x", "[1]"), ("x", "hello"), ("x", "{\"id\":2}"), ("x", "{}\n{\"id\":")]);
        assert_eq!((text.lines.as_str(), text.count), ("{\"id\":2}\n", 6));
        let reasons: Vec<&str> = text.unreadable.iter().map(|found| found.reason.as_str()).collect();
        let no_object = "the message is no JSON object";
        assert_eq!(reasons, [no_object, "the message is empty", no_object, no_object, no_object]);
        let csv = format("mqtt://h/x?format=csv", &[]);
        let text = read(&csv, &[("x", "a,\"b"), ("x", "d")]);
        assert_eq!((text.lines.lines().last(), text.unreadable.len()), (Some("d"), 1));
    }
}
