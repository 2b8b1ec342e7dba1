//! The graph: from measurements to facts about each sensor, and names at the end.
//!
//! One operator by sensor holds the measurements and looks at them ([`crate::sensor`]); its changes are the differences
//! between the rows that it would write before and after. The rows wait, without names, in one arrangement by sensor, and are joined
//! with the names: a change of the mapping rewrites the sensor's rows, and looks at no measurement.
//!
//! # Example
//! A sensor's value is 20 ± 0.1 for weeks, and 25 at noon: a row of `sensor_anomalies`, one of `sensor_incidents`. The 25 is retracted and
//! 20.05 comes: both rows go, and the forecasts of the following weeks are as if it had never been there.

use crate::changes;
use crate::fact::{Fact, Issue, Peak, Wanted};
use crate::names;
use crate::picture;
use crate::points::{self, Moved, Shelf, Titles};
use crate::records::{Measurement, Name, Reading, Sensor};
use crate::sensor::{History, Rules, Whole, Work};
use crate::tables::{self, NamedBy};
use differential_dataflow::operators::CountTotal;
use retally_core::Collection;
use retally_core::calendar::Calendar;
use retally_core::chart::Chart;
use retally_core::contract::{AsOf, Graph, Table};
use retally_core::decode::Inputs;
use retally_core::ids::Ids;
use retally_core::key_chart::KeyChart;
use retally_core::operators::by_key::{Each, Emitter, State, by_key, exchange};
use retally_core::operators::horizon::up_to;
use retally_core::publish::Outputs;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The dataflow with its settings.
#[derive(Clone, Debug)]
pub struct Sensors {
    /// The zone, and the threshold.
    pub rules: Rules,
    /// What sensors are named by.
    pub named_by: NamedBy,
    /// Measurements after this are left out.
    pub as_of: AsOf,
    /// The sensors that charts are asked for of, by name or UUID.
    pub charted: Vec<String>,
}

/// A sensor, and the facts that were emitted about it.
#[derive(Default)]
struct Known {
    /// Shared with what writes points.
    history: Rc<RefCell<History>>,
    /// What its rows were made of.
    whole: Whole,
    measurements: u64,
    peak: Option<Peak>,
}

impl State for Known {
    fn is_empty(&self) -> bool {
        self.history.borrow().is_empty()
    }
}

impl Known {
    fn change(&mut self, changes: &mut Vec<(Reading, isize)>, rules: &Rules, unusual: bool, mut give: impl FnMut(Fact, isize)) {
        let toggled = self.history.borrow_mut().change(changes, rules, &mut Work::default());
        if self.measurements == 0 {
            give(Fact::Moved(Moved::All), 1);
        } else {
            toggled.into_iter().for_each(|(reading, _)| give(Fact::Moved(Moved::One(reading)), 1));
        }
        let whole = self.history.borrow().whole(rules, unusual);
        changes::changes(&self.whole, &whole, |tail, diff| give(Fact::Row(tail.clone()), diff));
        let issues = [Issue::ConflictingValue, Issue::AmbiguousTime, Issue::MissingTime];
        for ((issue, before), after) in issues.into_iter().zip(self.whole.issues).zip(whole.issues) {
            give_change(before, after, |diff| give(Fact::Issue(issue), diff));
        }
        let measurements = whole.summary.map_or(0, |summary| summary.measurements);
        give_change(self.measurements, measurements, |diff| give(Fact::Measured, diff));
        self.measurements = measurements;
        let peak = (measurements > 0).then(|| Peak::of(&whole.incidents));
        if peak != self.peak {
            peak.into_iter().for_each(|peak| give(Fact::Peak(peak), 1));
            self.peak.into_iter().for_each(|peak| give(Fact::Peak(peak), -1));
            self.peak = peak;
        }
        self.whole = whole;
        give(Fact::Touched, 1);
    }
}

fn give_change(before: u64, after: u64, give: impl FnOnce(isize)) {
    let diff = isize::try_from(after).unwrap_or(isize::MAX) - isize::try_from(before).unwrap_or(isize::MAX);
    if diff != 0 {
        give(diff);
    }
}

impl Graph for Sensors {
    fn tables(&self) -> Vec<Table> {
        tables::tables(self.named_by)
    }

    /// None of all sensors together.
    fn charts(&self) -> Vec<Chart> {
        Vec::new()
    }

    fn key_charts(&self) -> Vec<KeyChart> {
        vec![picture::chart(self.named_by, self.charted.clone(), self.rules.threshold)]
    }

    fn measurements(&self) -> Vec<retally_core::points::Measurement> {
        vec![tables::measurement()]
    }

    fn calendar(&self) -> Calendar {
        self.rules.calendar.clone()
    }

    fn ids(&self) -> Ids {
        self.named_by.ids
    }

    fn key_fields(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &[("sensor_uuid", "data", "sensor_uuid")]
    }

    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
        let named_by = self.named_by;
        let (lines, readings) = (inputs.records::<Name>("mapping"), self.readings(inputs));
        let names = names::resolve(inputs.awaiting_texts(lines), inputs.texts().map(Arc::clone));
        outputs.table(tables::MAPPING, names.named.clone().map(move |(sensor, name)| named_by.mapping_row(&name, sensor)));

        let (points, charts) = (inputs.points().wanted(), outputs.wants(picture::PIECES));
        if !points && !charts && !outputs.wants(tables::ISSUES) && !outputs.wants_any(&tables::OF_SENSORS) {
            return;
        }
        let shelf = Shelf::default();
        let facts = self.facts(readings, Wanted { unusual: outputs.wants(tables::UNUSUAL), points, charts }, &shelf);
        if points {
            let moved = facts.clone().flat_map(|(sensor, fact)| if let Fact::Moved(moved) = fact { Some((sensor, moved)) } else { None });
            let titles = Titles { by_id: named_by.by_id, texts: inputs.texts().map(Arc::clone) };
            let named = inputs.awaiting_texts(names.named.clone());
            inputs.add_reports(points::write(moved, named, Rc::clone(&shelf), titles, Arc::clone(inputs.points())));
        }
        let rows = facts.clone().flat_map(|(sensor, fact)| if let Fact::Row(tail) = fact { Some((sensor, tail)) } else { None });
        let measured = facts.clone().flat_map(|(sensor, fact)| matches!(fact, Fact::Measured).then_some(sensor));
        // Every sensor has a name, be it an empty one.
        let names_of = |sensors: Collection<'s, Sensor>, named: Collection<'s, (Sensor, String)>| {
            let candidates = sensors.map(|sensor| (sensor, None)).concat(named.map(|(sensor, name)| (sensor, Some(name))));
            candidates.reduce_named("name of a sensor", |_, names, output| {
                let there = || names.iter().filter(|(_, count)| *count > 0);
                let name = there().find_map(|(name, _)| name.as_ref());
                let has_data = there().any(|(name, _)| name.is_none());
                output.push(((name.cloned(), has_data), 1));
            })
        };
        let known = names_of(measured.clone(), names.named);
        if outputs.wants_any(&tables::OF_SENSORS) {
            let names = known.clone().map(|(sensor, (name, _))| (sensor, name.unwrap_or_default()));
            let wanted: Vec<bool> = tables::OF_SENSORS.iter().map(|table| outputs.wants(table)).collect();
            let rows = rows.filter(move |(_, tail)| wanted.get(usize::from(tail.table)).copied().unwrap_or(false));
            let rows = rows.join_map(names, move |sensor, tail, name| (tail.table, tail.row(named_by, name, *sensor)));
            for (place, table) in tables::OF_SENSORS.iter().enumerate() {
                outputs.table(table, rows.clone().flat_map(move |(table, row)| (usize::from(table) == place).then_some(row)));
            }
        }
        if charts {
            let texts = inputs.texts().map(Arc::clone);
            let chosen = picture::chosen(&facts, inputs.awaiting_texts(known.clone()), texts, &self.charted);
            let mut pieces = picture::pieces(chosen, &facts, &self.rules, shelf);
            if !self.charted.is_empty() {
                pieces = pieces.concat(picture::names(known.clone()));
            }
            outputs.table(picture::PIECES, pieces);
        }
        if outputs.wants(tables::ISSUES) {
            let unmapped = known.clone().flat_map(move |(sensor, (name, _))| (name.is_none() && !named_by.by_id).then_some((sensor, ())));
            let unmapped = measured.map(|sensor| (sensor, ())).join_map(unmapped, |_, (), ()| Issue::Unmapped);
            let without = known.flat_map(|(_, (name, has_data))| (name.is_some() && !has_data).then_some(Issue::WithoutData));
            let conflicts = names.conflicts.map(|()| Issue::MappingConflict);
            let found = facts.flat_map(|(_, fact)| if let Fact::Issue(issue) = fact { Some(issue) } else { None });
            let issues = found.concat(unmapped).concat(without).concat(conflicts).count_total();
            outputs.table(tables::ISSUES, issues.map(|(issue, rows)| tables::issue_row(issue.name(), rows)));
        }
    }
}

impl Sensors {
    /// The readings by sensor, up to as-of.
    fn readings<'s>(&self, inputs: &Inputs<'s>) -> Collection<'s, (Sensor, Reading)> {
        let measurements = up_to(inputs.records::<Measurement>("data"), self.as_of, |measurement| measurement.reading.time());
        measurements.map(|measurement| (measurement.sensor, measurement.reading))
    }

    /// Facts about sensors. Their histories are put on the shelf where points or charts are wanted.
    pub(crate) fn facts<'s>(
        &self,
        readings: Collection<'s, (Sensor, Reading)>,
        wanted: Wanted,
        shelf: &Shelf,
    ) -> Collection<'s, (Sensor, Fact)> {
        let rules = self.rules.clone();
        let shelf = (wanted.points || wanted.charts).then(|| Rc::clone(shelf));
        by_key(readings, exchange(), "sensors", move |sensor, changes, known: &mut Known, emitter: &mut Each<(Sensor, Fact)>| {
            known.change(changes, &rules, wanted.unusual, |fact, diff| {
                if wanted.has(&fact) {
                    emitter.give((*sensor, fact), diff);
                }
            });
            if let Some(shelf) = &shelf {
                let mut shelf = shelf.borrow_mut();
                if known.is_empty() {
                    shelf.remove(sensor);
                } else {
                    shelf.entry(*sensor).or_insert_with(|| Rc::clone(&known.history));
                }
            }
        })
    }
}
