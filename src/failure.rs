//! Kinds of failure: what whoever meets an error can do about it, whatever the error is about.

/// What became of a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it was before.
    NotDone,
    /// It may have been done, in whole or in part: ask what has been reached.
    MaybeDone,
}

/// What a failure means for what was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was given is wrong: it alone is refused, and all else goes on.
    BadInput,
    /// The same may succeed later: something is away, or a limit is reached for the moment.
    TryAgain,
    /// This process can't go on with what it holds: it ends, and starts again from what is stored.
    Lost,
}
