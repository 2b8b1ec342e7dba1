//! What the settings mean: the zone of days, who a user is, what is an engagement, how long it must be, and what is valuable.

use crate::records::{Engagement, Event, Name, User};
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

/// Which field names the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserField {
    /// `user_pseudo_id`: an installation of the app, or a browser.
    PseudoId,
    /// `user_id`: whom the app knows.
    Id,
}

/// Which events are engagements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngagementEvents {
    /// Those of these names.
    Named(BTreeSet<Name>),
    /// Those with an engagement time.
    Any,
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
        let ahead = event.offset_seconds.filter(|_| self.of_event).unwrap_or(0);
        self.calendar.day(event.time.plus(i64::from(ahead) * SECOND))
    }

    /// Whether the day of an event would take an offset that the event does not have.
    pub fn lacks_offset(&self, event: &Event) -> bool {
        self.of_event && event.offset_seconds.is_none()
    }
}

impl UserField {
    /// The setting `user-field`: one of two names.
    pub fn read(settings: &Settings) -> Result<UserField, SettingError> {
        match settings.text("user-field") {
            "user_pseudo_id" => Ok(UserField::PseudoId),
            "user_id" => Ok(UserField::Id),
            _ => Err(settings.error("user-field", "is neither user_pseudo_id nor user_id")),
        }
    }

    /// The user of an event.
    pub fn of(self, event: &mut Event) -> User {
        let nobody = User::nobody(event.time);
        std::mem::replace(if self == UserField::PseudoId { &mut event.user } else { &mut event.user_id }, nobody)
    }
}

impl Engagement {
    /// The setting `min-engagement`: a whole number and a unit.
    pub fn read(settings: &Settings) -> Result<Engagement, SettingError> {
        duration::setting_micros(settings, "min-engagement", "500ms, 3s or 1m").map(Engagement)
    }
}

impl EngagementEvents {
    /// The setting `engagement-events`: names between commas, or `any`.
    pub fn read(settings: &Settings) -> Result<EngagementEvents, SettingError> {
        let names = names(settings, "engagement-events")?;
        let any = names.contains(&Name::new("any"));
        match names.len() {
            1 if any => Ok(EngagementEvents::Any),
            _ if any => Err(settings.error("engagement-events", "holds `any` beside names; it stands alone")),
            _ => Ok(EngagementEvents::Named(names)),
        }
    }

    /// Whether an event of this name and engagement is one of them.
    pub fn contain(&self, name: &Name, engagement: Option<Engagement>) -> bool {
        match self {
            EngagementEvents::Named(names) => names.contains(name),
            EngagementEvents::Any => engagement.is_some(),
        }
    }
}

impl Valuable {
    /// The setting `valuable-events`: names between commas, or nothing.
    pub fn read(settings: &Settings) -> Result<Valuable, SettingError> {
        if settings.text("valuable-events").trim().is_empty() {
            return Ok(Valuable::Parameter);
        }
        names(settings, "valuable-events").map(Valuable::Events)
    }
}

/// Names between commas, one at least.
fn names(settings: &Settings, setting: &'static str) -> Result<BTreeSet<Name>, SettingError> {
    let names: Vec<&str> = settings.text(setting).split(',').map(str::trim).collect();
    if names.contains(&"") {
        return Err(settings.error(setting, "holds an empty name; names are separated by single commas"));
    }
    Ok(names.into_iter().map(Name::new).collect())
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
    fn engagements_have_names_or_are_any() {
        let read = |text: &str| EngagementEvents::read(&settings("engagement-events", text));
        assert_eq!(read("user_engagement"), Ok(EngagementEvents::Named([Name::UserEngagement].into())));
        assert_eq!(read("scroll, page_view"), Ok(EngagementEvents::Named(["page_view", "scroll"].map(Name::new).into())));
        assert_eq!(read(" any "), Ok(EngagementEvents::Any));
        assert!(read("").unwrap_err().to_string().contains("holds an empty name"));
        assert!(read("any,scroll").unwrap_err().to_string().contains("it stands alone"));
    }

    #[test]
    fn users_have_two_names() {
        let read = |text: &str| UserField::read(&settings("user-field", text));
        assert_eq!(["user_pseudo_id", "user_id"].map(read), [UserField::PseudoId, UserField::Id].map(Ok));
        assert!(read("account").unwrap_err().to_string().contains("neither user_pseudo_id nor user_id"));
    }

    #[test]
    fn the_zone_is_a_name_or_the_events_own() {
        let utc = Zone::read(&settings("timezone", "event")).unwrap().calendar;
        assert_eq!(utc, Calendar::utc());
        assert!(Zone::read(&settings("timezone", "Events")).unwrap_err().to_string().contains("neither `event` nor an IANA time zone"));
    }
}
