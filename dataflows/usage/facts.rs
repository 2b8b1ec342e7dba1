//! What is counted, and how counts leave an operator that emits other facts as well.

use retally_core::operators::by_key::{Each, Emitter};
use serde::{Deserialize, Serialize};

/// What is counted: issues, and parts of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Count {
    /// Logs without a type.
    MissingLogType,
    /// Events that logs of this type don't have.
    WrongLogType,
    /// Assignments to a log that is no school.
    UnknownSchool,
    /// Schools without a name.
    UnnamedSchool,
    /// Ends of sessions that never started.
    EndWithoutStart,
    /// Ends before the session's start.
    EndBeforeStart,
    /// Starts of a session beyond the first.
    DuplicateStart,
    /// Ends of a session, not before its start, beyond the first.
    DuplicateEnd,
    /// Sessions with an end that is too late.
    SessionTooLong,
    /// Sessions that start while their device has no school.
    UnassignedSession,
    /// Logs of schools.
    Schools,
    /// Logs of devices.
    Devices,
    /// Sessions.
    Sessions,
    /// Sessions with an end.
    Completed,
    /// Whole seconds of completed sessions. (Microseconds alone would be too many to count for some thousands of sessions of decades.)
    Seconds,
    /// Microseconds beyond whole seconds.
    Micros,
}

impl Count {
    /// All of them, in order.
    const ALL: [Count; 16] = [
        Count::MissingLogType,
        Count::WrongLogType,
        Count::UnknownSchool,
        Count::UnnamedSchool,
        Count::EndWithoutStart,
        Count::EndBeforeStart,
        Count::DuplicateStart,
        Count::DuplicateEnd,
        Count::SessionTooLong,
        Count::UnassignedSession,
        Count::Schools,
        Count::Devices,
        Count::Sessions,
        Count::Completed,
        Count::Seconds,
        Count::Micros,
    ];

    /// As in the column `issue`, where it is one.
    pub fn issue(self) -> Option<&'static str> {
        match self {
            Count::MissingLogType => Some("missing_log_type"),
            Count::WrongLogType => Some("wrong_log_type"),
            Count::UnknownSchool => Some("unknown_school"),
            Count::UnnamedSchool => Some("unnamed_school"),
            Count::EndWithoutStart => Some("end_without_start"),
            Count::EndBeforeStart => Some("end_before_start"),
            Count::DuplicateStart => Some("duplicate_start"),
            Count::DuplicateEnd => Some("duplicate_end"),
            Count::SessionTooLong => Some("session_too_long"),
            Count::UnassignedSession => Some("unassigned_session"),
            Count::Schools | Count::Devices | Count::Sessions | Count::Completed | Count::Seconds | Count::Micros => None,
        }
    }
}

/// Counts of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([isize; Count::ALL.len()]);

impl Counts {
    /// How many of a kind.
    pub fn get(&self, count: Count) -> isize {
        self.0.get(count as usize).copied().unwrap_or(0)
    }

    /// So many more of a kind.
    pub fn add(&mut self, count: Count, number: isize) {
        if let Some(sum) = self.0.get_mut(count as usize) {
            *sum += number;
        }
    }

    /// Those that are not 0.
    pub fn iter(&self) -> impl Iterator<Item = (Count, isize)> {
        Count::ALL.into_iter().zip(self.0).filter(|(_, number)| *number != 0)
    }
}

/// What may be a count.
pub trait Counted: Ord + From<Count> + 'static {
    /// The count that it is.
    fn count(&self) -> Option<Count>;
}

/// Emits counts summed up over all keys of an epoch, and the rest key by key.
pub struct WithCounts<O> {
    rest: Each<O>,
    counts: Counts,
}

impl<O> Default for WithCounts<O> {
    fn default() -> Self {
        WithCounts { rest: Each::default(), counts: Counts::default() }
    }
}

impl<O: Counted> Emitter<O> for WithCounts<O> {
    fn give(&mut self, data: O, diff: isize) {
        match data.count() {
            Some(count) => self.counts.add(count, diff),
            None => self.rest.give(data, diff),
        }
    }

    fn end_key(&mut self, known: bool) {
        self.rest.end_key(known);
    }

    fn drain(&mut self, end_of_epoch: bool, mut send: impl FnMut(O, isize)) {
        self.rest.drain(end_of_epoch, &mut send);
        if end_of_epoch {
            let counts = std::mem::take(&mut self.counts);
            counts.iter().for_each(|(count, number)| send(count.into(), number));
        }
    }
}
