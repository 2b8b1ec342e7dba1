//! `usage`: how long are the devices of schools used, and where?
//!
//! Logs of schools and devices record what happened: types, names, assignments, starts and ends of sessions; some of it late, doubled, lost
//! or wrong. The graph ([`graph`]) keeps sessions, daily minutes and the numbers of schools right as events come in any order.
//!
//! # Example
//! Device D is assigned to school A on Monday. Its session on Tuesday from 23:50 to 00:20 is 10 minutes on Tuesday and 20 on Wednesday, and
//! one session of 30 minutes of A. Then a late event says that D was assigned to school B on Tuesday at noon: the session's row now names
//! B, the medians of A and B change, and no other row does.
//!
//! # What its state costs
//! 24 bytes for each event, 32 for each session once schools are asked for, and up to 16 for each length of a school's sessions;
//! 16 for each day of a device on which it was used. `bench/` measures it.
//!
//! # Decided here, where the contract is silent
//! - A session that is longer than `--max-session` has no `end_time`, like any abandoned one.
//! - Of the ends of a session, those before its start are `end_before_start`, those of a session that never started `end_without_start`,
//!   each of them; `duplicate_end` are the others beyond the first. So an end is one issue at most.
//! - An assignment to a log that is no school is an assignment: the session's `school_id` says what the event said, and `school_name` is
//!   empty. Only sessions before any assignment are `unassigned_session`.
//! - Events that are left out, because their log is of another type, are no other issue. A name of a log without a type is nobody's.
//! - A log with `SetLogType` `Device` alone is a device, and counts as one in `usage_statistics`; in `usage_schools` devices count with
//!   their last assignment, whether they have a session or not.
//! - `usage_statistics` has all its rows, zeros included, when there is any event up to as-of, and none otherwise. Issues have a row when
//!   there are any.
//! - A day is the span from its first moment to that of the next one. (In the zones that put their clocks back just after midnight, the
//!   minutes that are shown twice belong to the day that has begun.)
//! - An empty name is refused. Of several names of the type, the first of `type`, `eventType`, `event`, `@type` counts.

mod assignment;
#[cfg(test)]
mod cases;
mod facts;
pub mod generate;
pub mod graph;
mod logs;
mod minutes;
#[cfg(test)]
mod oracle;
pub mod records;
mod schools;
mod settings;
mod statistics;
mod tables;
#[cfg(test)]
mod tests;

use records::Event;
use retally_core::contract::{Dataflow, Definition, Files, GenerateError, Graph, Input, Setting, SettingError, Settings};
use retally_core::ids::Ids;

/// The dataflow.
#[derive(Clone, Copy, Debug)]
pub struct Usage;

impl Dataflow for Usage {
    fn definition(&self) -> Definition {
        Definition {
            name: "usage",
            about: "sessions of devices in schools, with daily minutes and school statistics, from event-sourced logs",
            inputs: vec![Input::records::<Event>("events", "events of the logs of schools and devices")],
            settings: vec![
                Setting {
                    name: "timezone",
                    value: "IANA",
                    default: Some("UTC"),
                    about: "the zone of days, and of times without an offset",
                },
                Ids::UUIDS,
                Setting {
                    name: "max-session",
                    value: "DURATION",
                    default: None,
                    about: "sessions longer than this, such as 12h, count as abandoned",
                },
            ],
            generator: generate::settings(),
        }
    }

    fn graph(&self, settings: &Settings) -> Result<Box<dyn Graph>, SettingError> {
        let max_session_micros = settings::max_session_micros(settings)?;
        Ok(Box::new(graph::Usage {
            calendar: settings.calendar()?,
            ids: Ids::of(settings, &Ids::UUIDS)?,
            max_session_micros,
            as_of: settings.as_of(),
        }))
    }

    fn generate(&self, options: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
        generate::generate(options, files)
    }
}
