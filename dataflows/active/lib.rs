//! `active`: how many users were active on a day, and on any of the last 7 and 28 days?
//!
//! Apps send events; some report for how long the user was engaged. A user is active on a local day with an engagement that is long
//! enough and valuable: by default the engagement carries a parameter whose key ends in `_event`; with `--valuable-events` an event
//! of one of these names occurs on the same day. Engagements are the events among `--engagement-events`. The graph ([`graph`]) keeps that
//! right as events come in any order.
//!
//! # Example
//! Ann is engaged for 25 s on Sunday at 23:30 in Chicago, and for 2 s on Monday. Sunday counts one active user, and so do the windows of
//! 7 days from Sunday to Saturday. The 2 s are an issue, `below_threshold`. Then a late event says that she was engaged
//! for 10 s on Monday: Monday counts one too, and the windows reach to Sunday.
//!
//! # What its state costs
//! Some 130 bytes for each event, with seven events a user: 48 for the event, 32 for its name, and the rest for what is
//! kept by user. With `--valuable-events` another 50 for each user and day with an engagement or a valuable event.
//!
//! # Decided here, where the contract is silent
//! - **Offsets.** With a zone, `time_zone_offset_seconds` is not part of a record. With `--timezone event` the local day that it leads to
//!   is, and whether there is one: events that differ in nothing but their offsets are one record where they lie on the same day. An
//!   offset that can't be read, or lies a day or more from UTC, is none. One beside the event's name counts before one in `device`.
//! - **`offset_missing`** is counted with `--timezone event` alone, where the day depends on it: each event of a user, whatever its name
//!   and its other issues, since each has a day.
//! - **`no_user`** is each event without a user, whatever its name; it has no other issue. Two such events of the same time, name,
//!   engagement and value are one record. They count for the day of the latest event.
//! - **`--engagement-events any`**: an event carries an engagement time when it can be read, so that none is `engagement_missing`.
//! - **`--user-field`** is `user_pseudo_id` or `user_id`. Both are read of each event, and the graph keeps one.
//! - **The day of the latest event** is the latest local day of any event: with `--timezone event` that may be another event than the
//!   latest one. With `--as-of` it is the day of that time (with `--timezone event`: in UTC), if that is later.
//! - **Engagement** is kept in microseconds, fractions of them cut. Of several values, or several parameters of that key, the first that
//!   can be read counts. More than 292,000 years can't be.
//! - **`not_valuable`** with `--valuable-events` is an engagement of a user and day without any of these events; when one
//!   comes, it is an issue no longer. The engagement needs no `_event` parameter then.
//! - A list of parameters that is missing or `null` is empty. One that is anything else refuses the record, as do a time or name that are
//!   missing or empty.

#[cfg(test)]
mod cases;
pub mod export;
pub mod generate;
pub mod graph;
#[cfg(any(test, feature = "testing"))]
pub mod oracle;
pub mod records;
pub mod settings;
pub mod tables;
#[cfg(test)]
mod tests;

use records::{Engagement, Event};
use retally_core::contract::{Dataflow, Definition, Files, GenerateError, Graph, Input, Setting, SettingError, Settings};
use settings::{EngagementEvents, UserField, Valuable, Zone};

/// The dataflow.
#[derive(Clone, Copy, Debug)]
pub struct Active;

impl Dataflow for Active {
    fn definition(&self) -> Definition {
        Definition {
            name: "active",
            about: "active users per day, and running uniques, from app analytics events",
            inputs: vec![Input::records::<Event>("events", "analytics events as BigQuery exports them, one a line")],
            settings: vec![
                Setting {
                    name: "timezone",
                    value: "IANA|event",
                    default: Some("America/Chicago"),
                    about: "the zone of days; event: each event's own time_zone_offset_seconds, UTC where it has none",
                },
                Setting {
                    name: "user-field",
                    value: "FIELD",
                    default: Some("user_pseudo_id"),
                    about: "which field names the user: user_pseudo_id or user_id; events without one are an issue",
                },
                Setting {
                    name: "engagement-events",
                    value: "NAMES|any",
                    default: Some("user_engagement"),
                    about: "which events are engagements; any: every event with an engagement time, as web streams have them",
                },
                Setting {
                    name: "min-engagement",
                    value: "DURATION",
                    default: Some("3s"),
                    about: "how long an engagement must be to count: 500ms, 3s, 1m",
                },
                Setting {
                    name: "valuable-events",
                    value: "NAMES",
                    default: None,
                    about: "an engagement counts on days with one of these events of the user (default: when it has a parameter *_event)",
                },
            ],
            generator: generate::settings(),
        }
    }

    fn settle(&self, definition: &mut Definition, settings: Settings, _given: &[String]) -> Result<Settings, SettingError> {
        if UserField::read(&settings)? == UserField::Id {
            definition.inputs.iter_mut().for_each(|input| input.fields = records::FIELDS_BY_USER_ID);
        }
        Ok(settings)
    }

    fn graph(&self, settings: &Settings) -> Result<Box<dyn Graph>, SettingError> {
        Ok(Box::new(graph::Active {
            zone: Zone::read(settings)?,
            user_field: UserField::read(settings)?,
            engagement_events: EngagementEvents::read(settings)?,
            min_engagement: Engagement::read(settings)?,
            valuable: Valuable::read(settings)?,
            as_of: settings.as_of(),
        }))
    }

    fn generate(&self, options: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
        generate::generate(options, files)
    }
}
