//! Why records were refused, counted by kind: a reason without the values that stand in it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many kinds are told apart.
const KINDS_MAX: usize = 200;

/// How often records were refused, by the kind of the reason.
///
/// # Limits
/// The first 200 kinds are told apart, all others are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasons {
    kinds: BTreeMap<String, u64>,
    others: u64,
}

impl Reasons {
    /// Counts a refusal.
    pub fn add(&mut self, reason: &str) {
        self.add_kind(kind(reason), 1);
    }

    /// Counts refusals that others have counted.
    pub fn join(&mut self, others: Reasons) {
        others.kinds.into_iter().for_each(|(kind, count)| self.add_kind(kind, count));
        self.others += others.others;
    }

    fn add_kind(&mut self, kind: String, count: u64) {
        let is_full = self.kinds.len() >= KINDS_MAX;
        match self.kinds.get_mut(&kind) {
            Some(known) => *known += count,
            None if is_full => self.others += count,
            None => drop(self.kinds.insert(kind, count)),
        }
    }

    /// How many refusals have been counted.
    pub fn total(&self) -> u64 {
        self.kinds.values().sum::<u64>() + self.others
    }

    /// The most frequent kinds, so many, with how often each was met.
    pub fn most_frequent(&self, kinds_max: usize) -> Vec<(String, u64)> {
        let mut kinds: Vec<_> = self.kinds.iter().map(|(kind, count)| (kind.clone(), *count)).collect();
        // By their texts where they are as frequent.
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        kinds.truncate(kinds_max);
        kinds
    }
}

/// A reason without the values in it: texts in quotes, times (but for one that is an example), and places in a line.
pub fn kind(reason: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let unquoted = without_quoted(reason);
    for word in unquoted.split(' ') {
        let shortened = match words.last() {
            Some(before) if *before != "like" && begins_with_day(word) => "…",
            Some(&"(column") => "…)",
            _ => word,
        };
        words.push(shortened);
    }
    words.join(" ")
}

fn begins_with_day(word: &str) -> bool {
    matches!(word.as_bytes(), [a, b, c, d, b'-', ..] if [a, b, c, d].into_iter().all(u8::is_ascii_digit))
}

/// A text in which `"…"` stands for what is quoted.
fn without_quoted(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, quoted)) = rest.split_once('"') {
        kept.push_str(before);
        kept.push_str("\"…\"");
        let mut is_escaped = false;
        let end = quoted.find(|character| {
            let ends = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            ends
        });
        rest = end.and_then(|end| quoted.get(end + 1..)).unwrap_or_default();
        // Where the value was shortened.
        rest = rest.strip_prefix('…').unwrap_or(rest);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_no_values() {
        for (reason, expected) in [
            ("user_id is missing", "user_id is missing"),
            ("id \"a\\\"b\\\\\"… is no unsigned 64-bit integer", "id \"…\" is no unsigned 64-bit integer"),
            ("timestamp \"bad\" is not a time like 2026-01-31T12:34:56Z", "timestamp \"…\" is not a time like 2026-01-31T12:34:56Z"),
            (
                "the event's time 2199-01-01T00:00:00Z is more than a day ahead of the clock",
                "the event's time … is more than a day ahead of the clock",
            ),
            ("no JSON object: expected ident (column 2)", "no JSON object: expected ident (column …)"),
            ("it ends \"within", "it ends \"…\""),
            ("", ""),
        ] {
            assert_eq!(kind(reason), expected);
        }
    }

    #[test]
    fn kinds_are_counted_and_bounded() {
        let mut reasons = Reasons::default();
        for number in 0..1_000 {
            reasons.add(&format!("reason {number}"));
        }
        let mut more = Reasons::default();
        (0..5).for_each(|_| more.add("reason 7"));
        more.add("another");
        reasons.join(more);
        assert_eq!((reasons.kinds.len(), reasons.total()), (KINDS_MAX, 1_006));
        assert_eq!(reasons.most_frequent(2), [("reason 7".to_string(), 6), ("reason 0".to_string(), 1)]);
    }
}
