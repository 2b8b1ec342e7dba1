//! What the settings mean: the zone of days, how long is engaged, and what is valuable.

use crate::records::{Engagement, Event, Name};
use retally_core::calendar::{Calendar, Day};
use retally_core::contract::{SettingError, Settings};
use retally_core::duration;
use retally_core::time::SECOND;
use std::collections::BTreeSet;

/// Where a day begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone; UTC where events bring their own clock.
    pub calendar: Calendar,
    of_event: bool,
}

/// What makes an engaged user active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Valuable {
    /// That the engagement itself has a parameter whose key ends in `_event`.
    Parameter,
    /// That an event of one of these names occurs on the same day.
    Events(BTreeSet<Name>),
}

impl Zone {
    /// The setting `timezone`: a zone, or `event`.
    pub fn read(settings: &Settings) -> Result<Zone, SettingError> {
        match settings.text("timezone") {
            "event" => Ok(Zone { calendar: Calendar::utc(), of_event: true }),
            _ => match settings.calendar() {
                Ok(calendar) => Ok(Zone { calendar, of_event: false }),
                Err(_) => Err(settings
                    .error("timezone", "is neither `event` nor an IANA time zone such as Europe/Berlin nor an offset such as +02:00")),
            },
        }
    }

    /// The local day of an event.
    pub fn day(&self, event: &Event) -> Day {
        let ahead = if self.of_event { i64::from(event.offset_seconds) * SECOND } else { 0 };
        self.calendar.day(event.time.plus(ahead))
    }
}

impl Engagement {
    /// The setting `min-engagement`: a whole number and a unit.
    pub fn read(settings: &Settings) -> Result<Engagement, SettingError> {
        duration::setting_micros(settings, "min-engagement", "500ms, 3s or 1m").map(Engagement)
    }
}

impl Valuable {
    /// The setting `valuable-events`: names between commas, or nothing.
    pub fn read(settings: &Settings) -> Result<Valuable, SettingError> {
        let text = settings.text("valuable-events").trim();
        if text.is_empty() {
            return Ok(Valuable::Parameter);
        }
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        if names.contains(&"") {
            return Err(settings.error("valuable-events", "holds an empty name; names are separated by single commas"));
        }
        Ok(Valuable::Events(names.into_iter().map(Name::new).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Active;
    use retally_core::contract::Dataflow;

    fn settings(name: &str, value: &str) -> Settings {
        Settings::defaults(&Active.definition().settings).with(name, value)
    }

    #[test]
    fn durations_have_a_unit() {
        let read = |text: &str| Engagement::read(&settings("min-engagement", text)).map(|engagement| engagement.0).ok();
        assert_eq!(["3s", "500ms", "1m", "2 h", "0s"].map(read), [3_000_000, 500_000, 60_000_000, 7_200_000_000, 0].map(Some));
        for text in ["", "3", "s", "-3s", "1.5s", "3 sec", "9223372036854775807s"] {
            let error = Engagement::read(&settings("min-engagement", text)).unwrap_err();
            assert_eq!(error.to_string(), format!("--min-engagement {text:?} is no duration such as 500ms, 3s or 1m"));
        }
    }

    #[test]
    fn names_are_separated_by_commas() {
        let read = |text: &str| Valuable::read(&settings("valuable-events", text));
        assert_eq!(read(" "), Ok(Valuable::Parameter));
        assert_eq!(read("read, share,read"), Ok(Valuable::Events(["read", "share"].map(Name::new).into())));
        assert!(read("read,,share").unwrap_err().to_string().contains("holds an empty name"));
    }

    #[test]
    fn the_zone_is_a_name_or_the_events_own() {
        let utc = Zone::read(&settings("timezone", "event")).unwrap().calendar;
        assert_eq!(utc, Calendar::utc());
        assert!(Zone::read(&settings("timezone", "Events")).unwrap_err().to_string().contains("neither `event` nor an IANA time zone"));
    }
}
