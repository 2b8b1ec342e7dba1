//! Lines that were skipped: why, how many, and the first of them.
//!
//! Of each stream the counts by reason are kept, and the first [`KEPT_LINES_MAX`] lines: bounded, however much is garbage. What is kept
//! follows from the bytes of the streams alone, and not from the pieces in which they come.

use retally_core::split::RAW_BYTES_MAX;

/// So many skipped lines of a dataset are rows of the table `rejected`; all are counted.
pub const KEPT_LINES_MAX: usize = 100;

/// Why a line was skipped. Those of a line by itself come first, and then those that follow from the lines before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It does not fit into the buffer.
    TooLong,
    /// It is no object.
    NoObject,
    /// A key stands twice in it.
    KeyTwice,
    /// A column is missing.
    NoColumns,
    /// It has fewer columns than the header.
    TooFewColumns,
    /// It has more columns than the header, or than are expected.
    TooManyColumns,
    /// Its tick can't be used.
    Tick,
    /// Its tooth can't be used.
    Tooth,
    /// Its percentage can't be used.
    PercentClean,
    /// Its time can't be used, or is out of range.
    Time,
    /// Its time is before all that are accepted.
    TimeTooEarly,
    /// Its battery can't be used.
    Battery,
    /// Its tick interval can't be used.
    TickInterval,
    /// It gives neither a battery nor a tick interval.
    NoValues,
    /// It gives one of the two, and none before it gave the other.
    NotBoth,
    /// Its tick is out of range by the time that it would have.
    OutOfTime,
    /// Its tick is not above that of the last line taken.
    TickNotAbove,
    /// Its tick lies too far ahead, and no line goes on from it.
    TickTooFar,
    /// Its time is before that of the last line taken.
    TimeBefore,
    /// Its time is too far from where its tick says, and no line agrees with it.
    TimeTooFar,
}

impl Reason {
    /// The text of the column `reason` of `rejected`.
    pub fn text(self) -> &'static str {
        match self {
            Reason::TooLong => "the line is too long",
            Reason::NoObject => "the line is no JSON object",
            Reason::KeyTwice => "a key stands twice in the object",
            Reason::TooFewColumns => "the line has fewer columns than the header",
            Reason::TooManyColumns => "the line has more columns than are expected",
            Reason::NoColumns => "the line has no tick, tooth and percent_clean",
            Reason::Tick => "tick is no whole number from 0 on",
            Reason::Tooth => "tooth is no whole number below --teeth",
            Reason::PercentClean => "percent_clean is no number from 0 to 1",
            Reason::Time => "time is no number of UNIX seconds in range",
            Reason::TimeTooEarly => "time is before --not-before: a clock that was not set, or a time of another unit",
            Reason::Battery => "battery is no number from 0 to 1",
            Reason::TickInterval => "tick_interval is no number above 0 and up to --max-tick-interval",
            Reason::NoValues => "the line has neither battery nor tick_interval",
            Reason::NotBoth => "the first settings line must have battery and tick_interval",
            Reason::OutOfTime => "the time of the tick is out of range",
            Reason::TickNotAbove => "tick is not above the last one",
            Reason::TickTooFar => "tick is more than --max-gap ahead, and the next line does not go on from it",
            Reason::TimeBefore => "time is before the last one",
            Reason::TimeTooFar => "time is more than --max-gap from where its tick says, and the next line does not agree with it",
        }
    }
}

/// A skipped line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedLine {
    /// The line in its stream, from 0.
    pub line: u64,
    /// Why.
    pub reason: Reason,
    /// Its first bytes, at most [`RAW_BYTES_MAX`].
    pub raw: Vec<u8>,
}

impl SkippedLine {
    /// A line as far as it is kept.
    pub fn new(line: u64, reason: Reason, bytes: &[u8]) -> SkippedLine {
        SkippedLine { line, reason, raw: bytes.get(..RAW_BYTES_MAX).unwrap_or(bytes).to_vec() }
    }
}

/// How often a reason occurred in a stream.
#[derive(Clone, Copy, Debug)]
struct Occurrences {
    reason: Reason,
    count: u64,
    first_line: u64,
}

/// The skipped lines of a stream.
#[derive(Clone, Debug, Default)]
pub struct Skipped {
    count: u64,
    /// In the order of their first lines.
    by_reason: Vec<Occurrences>,
    kept: Vec<SkippedLine>,
}

impl Skipped {
    /// Counts a line, and keeps it if it is one of the first. Lines come in their order.
    pub fn add(&mut self, line: u64, reason: Reason, bytes: &[u8]) {
        self.count_reason(line, reason);
        if self.kept.len() < KEPT_LINES_MAX {
            self.kept.push(SkippedLine::new(line, reason, bytes));
        }
    }

    /// As [`Self::add`], a line that was kept until it was decided.
    pub fn add_line(&mut self, skipped: SkippedLine) {
        self.count_reason(skipped.line, skipped.reason);
        if self.kept.len() < KEPT_LINES_MAX {
            self.kept.push(skipped);
        }
    }

    fn count_reason(&mut self, line: u64, reason: Reason) {
        self.count += 1;
        match self.by_reason.iter_mut().find(|occurrences| occurrences.reason == reason) {
            Some(occurrences) => occurrences.count += 1,
            None => self.by_reason.push(Occurrences { reason, count: 1, first_line: line }),
        }
    }

    /// How many lines.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first lines.
    pub fn kept(&self) -> &[SkippedLine] {
        &self.kept
    }

    /// Why nothing of a stream is good: the reason that occurred most, with its first line. Of reasons that occurred equally often, that of
    /// the first line.
    pub fn error(&self, stream: &str) -> String {
        let most = self.by_reason.iter().rev().max_by_key(|occurrences| occurrences.count);
        most.map_or_else(
            || format!("{stream} has no line"),
            |most| {
                let (reason, first) = (most.reason.text(), most.first_line + 1);
                format!("no line of {stream} is good: {reason} ({} of {} lines, line {first} the first)", most.count, self.count)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_kept_and_all_are_counted() {
        let mut skipped = Skipped::default();
        (0..150).for_each(|line| skipped.add(line, Reason::Tick, &[b'x'; 2_000]));
        assert_eq!((skipped.count(), skipped.kept().len(), skipped.kept()[99].line), (150, 100, 99));
        assert!(skipped.kept().iter().all(|kept| kept.raw.len() == RAW_BYTES_MAX));
    }

    #[test]
    fn the_reason_that_occurred_most_is_named_with_its_first_line() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.error("a.csv"), "a.csv has no line");
        skipped.add(3, Reason::Tooth, b"");
        skipped.add(5, Reason::Tick, b"");
        let error = |skipped: &Skipped| skipped.error("a.csv");
        assert_eq!(error(&skipped), "no line of a.csv is good: tooth is no whole number below --teeth (1 of 2 lines, line 4 the first)");
        skipped.add(6, Reason::Tick, b"");
        assert_eq!(error(&skipped), "no line of a.csv is good: tick is no whole number from 0 on (2 of 3 lines, line 6 the first)");
    }
}
