//! Which messages of a live source the lines of a text are, so that a refused record names its message and not a line of a batch.
//!
//! Messages are kept as runs: those that follow one another in the text, of one topic, with consecutive numbers and as many lines each.

use serde::{Deserialize, Serialize};

/// The messages of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// What they are called, each name once: the kind of source and the topic, with its partition where it has several.
    topics: Vec<String>,
    /// In the order of their lines.
    runs: Vec<Run>,
}

/// Messages that follow one another: the first line of the first one, from 1; the topic's place; how many lines each has; and the number of
/// the first one, where messages are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run(u64, usize, u64, Option<u64>);

impl Messages {
    /// Adds a topic, and returns its place.
    pub fn topic(&mut self, name: &str) -> usize {
        self.topics.push(name.into());
        self.topics.len() - 1
    }

    /// Adds a message of a topic that begins at a line, behind those before.
    pub fn add(&mut self, line: u64, topic: usize, lines: u64, number: Option<u64>) {
        if let Some(&Run(first, of, each, begun)) = self.runs.last()
            && (of, each) == (topic, lines)
            && let Some(nth) = (line - first).checked_div(each).filter(|nth| first + nth * each == line)
            && number == begun.map(|begun| begun + nth)
        {
            return;
        }
        self.runs.push(Run(line, topic, lines, number));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The message that a line of the text is of, and the line in it, from 1. Nothing for what stands before the first message.
    pub fn message_at(&self, line: u64) -> Option<(String, u64)> {
        let behind = self.runs.partition_point(|run| run.0 <= line);
        let Run(first, topic, lines, number) = *self.runs.get(behind.checked_sub(1)?)?;
        let topic = self.topics.get(topic)?;
        let (nth, within) = ((line - first) / lines.max(1), (line - first) % lines.max(1));
        Some((number.map_or_else(|| topic.clone(), |number| format!("{topic}#{}", number + nth)), within + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_leads_to_its_message() {
        let mut messages = Messages::default();
        let (one, two) = (messages.topic("kafka:a/0"), messages.topic("kafka:a/1"));
        // Behind a header: two of a line each, one of three lines, two after a gap, and others of another partition.
        for (line, topic, lines, number) in
            [(2, one, 1, 7), (3, one, 1, 8), (4, one, 3, 9), (7, one, 1, 20), (8, one, 1, 22), (9, two, 2, 1), (11, two, 2, 2)]
        {
            messages.add(line, topic, lines, Some(number));
        }
        assert_eq!(messages.runs.len(), 5);
        let place = |line| messages.message_at(line);
        assert_eq!(place(1), None);
        for (line, message, within) in [
            (2, "kafka:a/0#7", 1),
            (3, "kafka:a/0#8", 1),
            (4, "kafka:a/0#9", 1),
            (6, "kafka:a/0#9", 3),
            (7, "kafka:a/0#20", 1),
            (8, "kafka:a/0#22", 1),
            (10, "kafka:a/1#1", 2),
            (12, "kafka:a/1#2", 2),
        ] {
            assert_eq!(place(line), Some((message.to_string(), within)), "{line}");
        }
    }

    #[test]
    fn messages_without_numbers_of_one_topic_are_one_run() {
        let mut messages = Messages::default();
        let topic = messages.topic("mqtt:devices/7");
        (1..100).for_each(|line| messages.add(line, topic, 1, None));
        assert_eq!((messages.runs.len(), messages.message_at(55)), (1, Some(("mqtt:devices/7".into(), 1))));
        let kept = serde_json::to_string(&messages).unwrap();
        assert_eq!(kept, r#"{"topics":["mqtt:devices/7"],"runs":[[1,0,1,null]]}"#);
        assert_eq!(serde_json::from_str::<Messages>(&kept).unwrap(), messages);
    }
}
