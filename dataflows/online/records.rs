//! The inputs: connectivity events, and the lifetimes of servers.

use retally_core::record::{Context, Field, Fields, Record, Refusal};
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A device went online or offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    /// The device.
    pub device: u64,
    /// What it reported, and when.
    pub status: Status,
}

/// What a device reported: 24 bytes, because the graph keeps one for every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Status {
    /// The time in microseconds, shifted by one bit, and in that bit whether the device is online.
    time_and_connected: u64,
    /// The device's user.
    pub user: u64,
    /// The server that it is connected to.
    pub server: u64,
}

impl Status {
    /// A status.
    pub fn new(time: Moment, user: u64, server: u64, connected: bool) -> Status {
        Status { time_and_connected: time.0.cast_unsigned() << 1 | u64::from(connected), user, server }
    }

    /// When.
    pub fn time(&self) -> Moment {
        Moment((self.time_and_connected >> 1).cast_signed())
    }

    /// Whether the device is online.
    pub fn connected(&self) -> bool {
        self.time_and_connected & 1 == 1
    }

    fn key(&self) -> (u64, u64, u64, bool) {
        (self.time_and_connected >> 1, self.user, self.server, self.connected())
    }
}

/// In time order; ties by user, server, connected.
impl Ord for Status {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Status {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Record for Event {
    const FIELDS: &'static [Field] = &[
        Field::new("timestamp", "when the device said so").time(),
        Field::new("device_id", "the device, an unsigned 64-bit integer (or any text: --ids text)"),
        Field::new("user_id", "its user, likewise"),
        Field::new("server_id", "the server that it is connected to, likewise"),
        Field::new(
            "connected",
            "whether it went online or offline: true/false, t/f, 1/0, yes/no, on/off, online/offline, connected/disconnected",
        )
        .truth(),
    ];

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        let (time, device, user, server) =
            (fields.time(0, context)?, fields.id(1, context)?, fields.id(2, context)?, fields.id(3, context)?);
        Ok(Event { device, status: Status::new(time, user, server, fields.bool(4, context)?) })
    }

    fn time(&self) -> Option<Moment> {
        Some(self.status.time())
    }
}

/// A server's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Server {
    /// The server.
    pub id: u64,
    /// From when until when it lived.
    pub lifetime: Lifetime,
}

/// From when until when a server lived. The greatest of a server's rows counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lifetime {
    /// When it was destroyed; alive is latest.
    pub until: Until,
    /// When it was created.
    pub created: Moment,
}

/// The end of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Until {
    /// It was destroyed.
    Destroyed(Moment),
    /// It is still alive.
    Alive,
}

impl Record for Server {
    const FIELDS: &'static [Field] = &[
        Field::new("id", "the server, likewise"),
        Field::new("created_at", "when it was created").time(),
        Field::new("destroyed_at", "when it was destroyed; empty, NULL or \\N: it is still alive").time().optional(),
    ];

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        let (id, created) = (fields.id(0, context)?, fields.time(1, context)?);
        let until = fields.optional_time(2, context)?.map_or(Until::Alive, Until::Destroyed);
        Ok(Server { id, lifetime: Lifetime { until, created } })
    }

    /// Its times may lie in the future: a server is not an event.
    fn time(&self) -> Option<Moment> {
        None
    }
}
