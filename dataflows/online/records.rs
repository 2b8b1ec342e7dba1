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

    /// In time order; ties by user, server, connected, where ids are compared as `by_id` says.
    pub fn compare(&self, other: &Status, by_id: impl Fn(u64, u64) -> Ordering) -> Ordering {
        let by_time = (self.time_and_connected >> 1).cmp(&(other.time_and_connected >> 1));
        let by_ids = || by_id(self.user, other.user).then_with(|| by_id(self.server, other.server));
        by_time.then_with(by_ids).then_with(|| self.connected().cmp(&other.connected()))
    }
}

/// In time order; ties by user, server, connected. Those of text ids are compared by [`Status::compare`].
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
        // Some write the first or the last day that they know for one that they do not know. What is destroyed after all events is as good
        // as alive.
        let (id, created) = (fields.id(0, context)?, fields.time_up_to(Moment::FIRST, 1, context)?);
        let until = if fields.is_null(2) { Until::Alive } else { Until::Destroyed(fields.time_up_to(Moment::LAST, 2, context)?) };
        Ok(Server { id, lifetime: Lifetime { until, created } })
    }

    /// Its times may lie in the future: a server is not an event.
    fn time(&self) -> Option<Moment> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::calendar::Calendar;

    fn lifetime(created: &str, destroyed: &str) -> Result<Lifetime, String> {
        let context = Context::new(Calendar::named("Europe/Berlin").unwrap(), Server::FIELDS);
        let cells = [b"7".as_slice(), created.as_bytes(), destroyed.as_bytes()];
        Server::decode(Fields::new(Server::FIELDS, &cells), &context).map(|server| server.lifetime).map_err(|refusal| refusal.into_owned())
    }

    #[test]
    fn days_that_stand_for_none_are_the_first_or_the_last() {
        let created = |text: &str| lifetime(text, "").map(|lifetime| lifetime.created);
        // The first of them lies an hour before the first moment.
        for text in ["1970-01-01", "1900-01-01", "0001-01-01T00:00:00Z", "-62135596800"] {
            assert_eq!(created(text), Ok(Moment::FIRST), "{text}");
        }
        let until = |text: &str| lifetime("2024-01-01", text).map(|lifetime| lifetime.until);
        let last = Ok(Until::Destroyed(Moment::LAST));
        assert_eq!(["", "null", "9999-12-31", "9999-12-31T23:59:59Z"].map(until), [Ok(Until::Alive), Ok(Until::Alive), last.clone(), last]);
        // It would have been destroyed before all that is counted.
        for text in ["1970-01-01", "0001-01-01", "-62135596800"] {
            assert!(until(text).unwrap_err().contains("lies outside the years 1970 to 2200"), "{text}");
        }
        assert!(created("9999-12-31").unwrap_err().contains("lies outside the years 1970 to 2200"));
    }
}
