//! A file of which nothing could be read: one of another kind, or with other names.

/// A file that has records, of which none could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not read any of the {records} records of {path:?}: {}", reasons.join("; "))]
pub struct Unread {
    /// The file, as given.
    pub path: String,
    /// How many records it has.
    pub records: u64,
    /// Why they were refused, the first reasons.
    pub reasons: Vec<String>,
    /// The flags to start from, where some fields stand nowhere.
    pub hint: Option<String>,
}
