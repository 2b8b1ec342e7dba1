//! `sensors`: what is normal for each sensor, and which measurements are not?
//!
//! Sensors send measurements, late, twice, wrong, or not at all. For each there are lines that describe it piece by piece, a forecast
//! for each hour from the hours before, the measurements that are far from it, and what these make together. All of it stays right as
//! measurements come in any order, and costs little by change ([`sensor`]).
//!
//! # Example
//! A thermometer shows 20 ± 0.1 every five minutes for three weeks, and once, on the 15th at noon, 25. The forecast of that hour is 20 with
//! a σ of 0.1, the score of the 25 is 50, its severity 4: a row of `sensor_anomalies`, and an incident. The lines don't see it: one
//! measurement far from its hour is left out of the fit. Then a late batch retracts it, and brings 20.05: both rows go.
//!
//! # What its state costs
//! 16 bytes for each measurement, and some 200 for each hour of a sensor that has measurements: ([`sensor`]). A late measurement has the
//! forecasts of some ten days rebuilt, and the measurements of some hours scored again.
//!
//! # Decided here, where the contract is silent
//! - **Sums** are floats, made from an hour's readings in the order of time and value whenever one of these changes: so they are the same
//!   bits in whatever order the readings came. The graph keeps the readings anyway, and no sums beside them.
//! - **Units**: no constant of the method has one. The same measurements times a power of two give the same scores, lines and incidents;
//!   times another factor, scores differ by the rounding of σ ([`forecast`]). A sensor that has shown nothing but 0 has no σ: the score of
//!   what is not 0 is then the greatest number there is, about 1.8e308.
//! - **Very large and small values**: a value is kept exactly, and its `minimum`, `maximum`, `mean`, `value` and point are exact. Lines,
//!   forecasts and scores see what is beyond 2^400 (2.6e120) as 2^400, and what is nearer to 0 than 2^-400 as 0: squares are numbers then.
//! - **`score`** is |residual| / σ for points. A flat line and a gap count in standard deviations too, by how probable they are
//!   ([`anomalies`]); there `expected` and `residual` are those of the measurement, and the score is the greatest of what applies.
//! - **Flat line**: a value that comes again and again, for an hour at least, from a sensor that seldom repeats itself. **Gap**: the first
//!   measurement after a silence. Both need an hour with a forecast. An anomaly is always a measurement.
//! - **Alarms and incidents** are what is rare for a sensor ([`alarms`]). An alarm is listed whatever its score is, with severity 0 below
//!   the threshold. An **incident** is what is unusual with no more than 24 hours from one to the next; below 0.9 of the threshold it is
//!   none. A level or spread alarms with the last measurement of its hour.
//! - **`collective` and `level_shift`** are names for anomalies that lie where the piecewise regression absorbs a stretch, or jumps; and
//!   for alarms by the spread and by the level.
//! - **Charts** are of the five sensors with the highest peak score (those without anomalies have 0), of equal ones the first by name, then
//!   by UUID. A sensor of the mapping without measurements can be asked for; its chart states that there are none ([`picture`]).
//! - **Ids as text** are compared byte by byte. **Without the input `mapping`** a sensor's name is its id, and no measurement is
//!   `unmapped_sensor`. Of **wide** files each cell that is not empty is a record; they take no mapping.
//! - **As-of**: measurements after `--as-of` are left out.

pub mod alarms;
pub mod anomalies;
pub mod baseline;
#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod cases;
mod changes;
pub mod contrast;
mod differences;
mod doubling;
pub mod evaluate;
mod fact;
pub mod forecast;
pub mod generate;
pub mod graph;
mod habit;
pub mod leaf;
mod means;
pub mod names;
#[cfg(test)]
mod oracle;
pub mod outliers;
pub mod picture;
#[cfg(test)]
mod plain;
pub mod points;
pub mod records;
mod scale;
pub mod seen;
pub mod segments;
pub mod sensor;
pub mod size;
mod sums;
pub mod tables;
#[cfg(test)]
mod tests;
mod totals;
pub mod unusual;
pub mod window;

use records::{Measurement, Name};
use retally_core::contract::{Dataflow, Definition, Files, GenerateError, Graph, Input, Setting, SettingError, Settings};
use retally_core::ids::Ids;

const MAPPING: &str = "mapping";
const DATA: &str = "data";
const LAYOUT: &str = "layout";
const NAMES: &str = "names";

/// The dataflow.
#[derive(Clone, Copy, Debug)]
pub struct Sensors;

impl Dataflow for Sensors {
    fn definition(&self) -> Definition {
        let setting = |name, value, default, about| Setting { name, value, default: Some(default), about };
        Definition {
            name: "sensors",
            about: "piecewise regressions and anomalies of sensors, from their measurements",
            inputs: vec![
                Input::records::<Name>(MAPPING, "the names of sensors").optional(),
                Input::records::<Measurement>(DATA, "measurements, in any number of files")
                    .or_with("if it has a column for each sensor, say so: --layout wide"),
            ],
            settings: vec![
                setting("timezone", "IANA", "Europe/Berlin", "the zone of times without an offset, and of local hours and weeks"),
                Ids::UUIDS,
                setting(
                    LAYOUT,
                    "LAYOUT",
                    "long",
                    "long: a measurement a line; wide: a column for each sensor, whose id is its header, beside one with times",
                ),
                Setting {
                    name: NAMES,
                    value: "FROM",
                    default: None,
                    about: "mapping: a sensor's name is that of the mapping; ids: it is its id [default: mapping where that input is given]",
                },
                setting("threshold", "X", "5", "how many standard deviations from what is expected are an anomaly"),
                Setting {
                    name: picture::SETTING,
                    value: "SENSORS",
                    default: None,
                    about: "which sensors --charts draws: names or UUIDs, separated by commas; a name with a comma by its UUID [default: the five with the highest peak score]",
                },
            ],
            generator: generate::settings(),
        }
    }

    fn settle(&self, definition: &mut Definition, settings: Settings, given: &[String]) -> Result<Settings, SettingError> {
        let has_mapping = given.iter().any(|input| input == MAPPING);
        let settings = match settings.text(LAYOUT) {
            "long" => settings,
            "wide" if has_mapping => return Err(settings.error(LAYOUT, "has the ids of sensors in the header, and takes no mapping")),
            "wide" => {
                let data = definition.inputs.iter_mut().filter(|input| input.name == DATA);
                data.for_each(|input| input.files.wide = Some(records::WIDE));
                settings.with(Ids::SETTING, "text")
            }
            _ => return Err(settings.error(LAYOUT, "is neither long nor wide")),
        };
        let names = if has_mapping { "mapping" } else { "ids" };
        Ok(if settings.text(NAMES).is_empty() { settings.with(NAMES, names) } else { settings })
    }

    fn graph(&self, settings: &Settings) -> Result<Box<dyn Graph>, SettingError> {
        let threshold = settings.text("threshold").parse().ok().filter(|threshold| (0.1..=1e6).contains(threshold));
        let threshold = threshold.ok_or_else(|| settings.error("threshold", "is not from 0.1 to 1000000"))?;
        let rules = sensor::Rules { calendar: settings.calendar()?, threshold };
        let by_id = match settings.text(NAMES) {
            "" | "mapping" => false,
            "ids" => true,
            _ => return Err(settings.error(NAMES, "is neither mapping nor ids")),
        };
        let named_by = tables::NamedBy { ids: Ids::of(settings, &Ids::UUIDS)?, by_id };
        let charted = picture::asked(settings.text(picture::SETTING));
        Ok(Box::new(graph::Sensors { rules, named_by, as_of: settings.as_of(), charted }))
    }

    fn generate(&self, options: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
        generate::generate(options, files)
    }
}
