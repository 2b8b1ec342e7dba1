//! A time during which a device was online: what the rules make of events, and the rest of the graph counts.

use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

/// A time during which a device was online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The device.
    pub device: u64,
    /// Its user.
    pub user: u64,
    /// Its server.
    pub server: u64,
    /// From when.
    pub from: Moment,
    /// Until when; `None` when it is not over.
    pub until: Option<Moment>,
    /// Why it ended.
    pub reason: EndReason,
}

/// Why an interval ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// The device reported that it went offline.
    Offline,
    /// The device came online again.
    Reconnected,
    /// Its server was destroyed.
    ServerDestroyed,
    /// It does not: it is cut at as-of.
    StillOnline,
}

impl EndReason {
    /// As in the column `end_reason`.
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Offline => "offline",
            EndReason::Reconnected => "reconnected",
            EndReason::ServerDestroyed => "server_destroyed",
            EndReason::StillOnline => "still_online",
        }
    }
}
