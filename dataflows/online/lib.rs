//! `online`: how many devices were online on a day, and how large was the fleet of their user?
//!
//! Devices report when they go online and offline, and some of that is lost, late, doubled or wrong. From every event and the
//! next one of its device follows how long the device was online ([`rules`]); the graph ([`graph`]) keeps that right as events
//! come in any order, and counts devices by day and by the number of devices that their user had online.
//!
//! # Example
//! User 7 has the devices 1 and 2. Device 1 is online from Monday to Wednesday, device 2 on Tuesday; so on Monday and on
//! Wednesday one device is in the fleet size `1`, and on Tuesday two devices are in `2` (with `--fleet-sizes 1,2`). Then a late event says
//! that device 1 went offline on Monday: Tuesday becomes one device in `1`, and Wednesday disappears.
//!
//! # What its state costs
//! 24 bytes for each event; 32 for each interval whose end depends on its server (all that are open, and those that another server's event
//! follows); 8 for each day on which a device's coverage changes, and 8 for each on which a user's fleet does, per window.
//! `online_summary` keeps another 16 for each end of an interval, `online_issues` 8 for each event. Every worker knows all servers.
//! `bench/` measures it.
//!
//! # Decided here, where the contract is silent
//! - Of two rows of a server that were destroyed at the same time, the one created later counts.
//! - `online_summary` has a row for each day on which a device was online. It is about devices, whoever their users: where a device changed
//!   its user, `online_daily` counts it once for each of them, and its rows of a day add up to more than `devices`.
//! - `same_time` counts each event once, however many of the other kind share its time; the event counts under other issues too.
//! - An interval that is not over and starts before as-of does not reach into the day that starts at as-of exactly.

#[cfg(test)]
mod cases;
mod endings;
pub mod fleet;
pub mod generate;
pub mod graph;
mod hours;
pub mod interval;
mod lifetimes;
#[cfg(any(test, feature = "testing"))]
pub mod oracle;
mod projection;
pub mod records;
pub mod rules;
mod series;
mod tables;
#[cfg(test)]
mod tests;

use fleet::FleetSizes;
use records::{Event, Server};
use retally_core::contract::{Dataflow, Definition, Files, GenerateError, Graph, Input, Setting, SettingError, Settings};
use retally_core::ids::Ids;

/// The dataflow.
#[derive(Clone, Copy, Debug)]
pub struct Online;

impl Dataflow for Online {
    fn definition(&self) -> Definition {
        Definition {
            name: "online",
            about: "unique online devices per day by fleet size, from connectivity events with holes",
            inputs: vec![
                Input::records::<Event>("events", "devices that went online or offline"),
                Input::records::<Server>("servers", "servers with their lifetimes; of two rows of a server the one destroyed later counts")
                    .optional(),
            ],
            settings: vec![
                Setting {
                    name: "timezone",
                    value: "IANA",
                    default: Some("UTC"),
                    about: "the zone of days, and of times without an offset",
                },
                Ids::NUMBERS,
                Setting {
                    name: "fleet-sizes",
                    value: "RANGES",
                    default: Some("1-2,3-9,10-99,100-999"),
                    about: "the fleet sizes that are counted together; larger ones are one more",
                },
            ],
            generator: generate::settings(),
        }
    }

    fn graph(&self, settings: &Settings) -> Result<Box<dyn Graph>, SettingError> {
        let sizes = FleetSizes::parse(settings.text("fleet-sizes")).map_err(|why| settings.error("fleet-sizes", why))?;
        Ok(Box::new(graph::Online {
            calendar: settings.calendar()?,
            ids: Ids::of(settings, &Ids::NUMBERS)?,
            sizes,
            as_of: settings.as_of(),
        }))
    }

    fn generate(&self, options: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
        generate::generate(options, files)
    }
}
