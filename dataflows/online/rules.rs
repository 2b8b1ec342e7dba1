//! The rules about a device's event and the next one: what follows from the pair for the time between them.
//!
//! | current | next | the device was online |
//! |---|---|---|
//! | online X | online X | from current until next |
//! | online X | online Y | from current until X's destruction or next, whichever is earlier |
//! | online X | offline X | from current until next |
//! | online X | offline Y | from current until X's destruction; the next event is ignored |
//! | online X | nothing | from current until X's destruction, or as-of |
//! | offline | anything | not online |

use crate::interval::{EndReason, Interval};
use crate::records::Status;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Issue {
    /// Online followed by online.
    MissingOffline,
    /// Online at one server, offline at another.
    MismatchedOffline,
    /// Offline followed by offline.
    RepeatedOffline,
    /// Online and offline at the same time: which came first is not known.
    SameTime,
    /// The event's server is in no row of `servers`.
    UnknownServer,
    /// The event is older than its server, or younger than its end.
    OutsideServerLifetime,
}

impl Issue {
    /// As in the column `issue`.
    pub fn name(self) -> &'static str {
        match self {
            Issue::MissingOffline => "missing_offline",
            Issue::MismatchedOffline => "mismatched_offline",
            Issue::RepeatedOffline => "repeated_offline",
            Issue::SameTime => "same_time",
            Issue::UnknownServer => "unknown_server",
            Issue::OutsideServerLifetime => "outside_server_lifetime",
        }
    }
}

/// The interval that a pair makes, and whether its end depends on the server's.
///
/// The end is that without a destruction: of the next event, or none yet.
pub fn interval(device: u64, current: &Status, next: Option<&Status>) -> Option<(Interval, bool)> {
    if !current.connected() {
        return None;
    }
    let same_server = next.is_some_and(|next| next.server == current.server);
    let (until, reason, by_server) = match next {
        Some(next) if next.connected() => (Some(next.time()), EndReason::Reconnected, !same_server),
        Some(next) if same_server => (Some(next.time()), EndReason::Offline, false),
        _ => (None, EndReason::StillOnline, true),
    };
    Some((Interval { device, user: current.user, server: current.server, from: current.time(), until, reason }, by_server))
}

/// The interval under the destruction of its server, where that ends it earlier.
pub fn destroyed(interval: &Interval, destruction: Moment) -> Option<Interval> {
    if interval.until.is_some_and(|until| until <= destruction) {
        return None;
    }
    let until = Some(destruction.max(interval.from));
    Some(Interval { until, reason: EndReason::ServerDestroyed, ..*interval })
}

/// What is wrong with a pair.
pub fn issue(current: &Status, next: Option<&Status>) -> Option<Issue> {
    let next = next?;
    match (current.connected(), next.connected()) {
        (true, true) => Some(Issue::MissingOffline),
        (true, false) if current.server != next.server => Some(Issue::MismatchedOffline),
        (false, false) => Some(Issue::RepeatedOffline),
        _ => None,
    }
}

/// How many events of one device at one time share it with one of the other kind: all of them, or none.
pub fn same_time(events: &mut dyn Iterator<Item = &Status>) -> Option<isize> {
    let (mut online, mut offline) = (0, 0);
    events.for_each(|event| *(if event.connected() { &mut online } else { &mut offline }) += 1);
    (online > 0 && offline > 0).then_some(online + offline)
}
