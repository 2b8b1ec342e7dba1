//! What a service may be asked for at a time.

use retally_core::time::DAY;

/// A body of up to so many bytes stands in the journal itself; a larger one is a file.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// What a service may be asked for at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body, as it comes.
    pub body: u64,
    /// Bytes of a body when it is unpacked.
    pub unpacked: u64,
    /// Bytes delivered after which the journal is folded; and half of what it had then.
    pub fold_after: u64,
    /// Batches that wait for the journal.
    pub waiting: usize,
    /// Streams of changes.
    pub streams: usize,
    /// Connections.
    pub connections: usize,
    /// How long changes are kept, in microseconds.
    pub changes_kept: i64,
    /// Bytes of changes that are kept of a dataflow.
    pub changes_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body: 256 << 20,
            unpacked: 4 << 30,
            fold_after: 64 << 20,
            waiting: 1_024,
            streams: 10_000,
            connections: 12_000,
            changes_kept: 30 * DAY,
            changes_bytes: 10 << 30,
        }
    }
}
