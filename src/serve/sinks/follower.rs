//! What further sinks of every kind have in common: each is brought to what can be read, step by step.

use super::super::further::Further;
use crate::sinks::SinkError;
use retally_core::Epoch;
use std::time::Duration;

/// Something that is brought to what can be read.
pub(super) trait Follower {
    /// Whether there is something to do, where these epochs can be read.
    fn is_behind(&self, readable: &[Option<Epoch>]) -> bool;

    /// Brings it to what can be read now. What it has by then it has, also where that fails in the middle.
    fn step(&mut self) -> Result<(), Trouble>;

    /// Lets go of whatever is open: something has failed.
    fn close(&mut self);
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// In words, without secrets.
    pub why: String,
    /// It is not tried again before.
    pub pause_min: Duration,
    /// It is not tried again at all.
    pub is_final: bool,
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Trouble {
        Trouble { why: error.to_string(), pause_min: Duration::ZERO, is_final: false }
    }
}

/// Whether any of these epochs that it is told of is not there yet.
pub(super) fn any_behind(further: &Further, readable: &[Option<Epoch>], has: impl Fn(usize) -> Option<Epoch>) -> bool {
    readable.iter().enumerate().any(|(place, readable)| further.wanted().follows(place) && *readable > has(place))
}
