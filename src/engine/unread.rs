//! A file of which nothing could be read: one of another kind, or with other names; or datasets, of none of which anything could.

/// A file that has records, of which none could be read; or datasets likewise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not read any of the {records} {what} of {path:?}: {}", reasons.join("; "))]
pub struct Unread {
    /// The file, as given, or the first folder or file of datasets.
    pub path: String,
    /// What it has of: records or datasets.
    pub what: &'static str,
    /// How many records it has.
    pub records: u64,
    /// Why they were refused, the first reasons.
    pub reasons: Vec<String>,
    /// The flags to start from, where some fields stand nowhere.
    pub hint: Option<String>,
}
