//! How long a server may be silent before it is taken for gone: one setting of the process, for all servers that it reads from and writes
//! to.
//!
//! Each kind of server has a time that suits it; what people set counts instead of all of them.

use std::sync::OnceLock;
use std::time::Duration;

static SET: OnceLock<Duration> = OnceLock::new();

/// From now on this counts.
pub fn set(silence_max: Duration) {
    // A process is asked to do one thing.
    SET.set(silence_max).ok();
}

/// What counts: as it was set, or as is usual for the kind of server.
pub fn silence_max(usual: Duration) -> Duration {
    SET.get().copied().unwrap_or(usual)
}
