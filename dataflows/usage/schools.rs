//! Schools: what their name is, which assignments name them, and their rows.

use crate::assignment::Assignment;
use crate::facts::{Count, Counted, WithCounts};
use crate::records::Id;
use crate::tables;
use retally_core::Collection;
use retally_core::operators::by_key::{Emitter, State, by_key, exchange};
use retally_core::operators::history::History;
use retally_core::operators::quantile::Distribution;
use retally_core::row::Row;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

/// A device's assignment, or a count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Named {
    /// An assignment of a device.
    Assigned(Id, Assignment),
    /// One more of a kind.
    Count(Count),
}

impl From<Count> for Named {
    fn from(count: Count) -> Named {
        Named::Count(count)
    }
}

impl Counted for Named {
    fn count(&self) -> Option<Count> {
        if let Named::Count(count) = self { Some(*count) } else { None }
    }
}

/// A fact about a school.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Said {
    /// It is one, and what its name is.
    Is(Option<Box<str>>),
    /// A device is assigned to it.
    Assigned(Id, Moment),
}

/// What is known of a school.
#[derive(Default)]
struct School {
    /// Its name, if it is a school.
    is: Option<Option<Box<str>>>,
    assigned: History<(Id, Moment)>,
}

impl State for School {
    fn is_empty(&self) -> bool {
        self.is.is_none() && State::is_empty(&self.assigned)
    }
}

impl School {
    fn say(&self, school: Id, assigned: &(Id, Moment), sign: isize, emitter: &mut WithCounts<Named>) {
        let (device, from) = *assigned;
        if self.is.is_none() {
            emitter.give(Named::Count(Count::UnknownSchool), sign);
        }
        emitter.give(Named::Assigned(device, Assignment { from, school, name: self.is.clone().flatten() }), sign);
    }
}

/// Assignments with the names of their schools. Another name touches all assignments to its school, and another assignment itself alone.
pub fn named<'s>(assigned: Collection<'s, (Id, Moment, Id)>, schools: Collection<'s, (Id, Option<Box<str>>)>) -> Collection<'s, Named> {
    let said = assigned.map(|(device, from, school)| (school, Said::Assigned(device, from)));
    let said = said.concat(schools.map(|(school, name)| (school, Said::Is(name))));
    by_key(said, exchange(), "assignments by school", |id, changes, school: &mut School, emitter: &mut WithCounts<Named>| {
        let mut is = school.is.clone();
        let mut assigned = Vec::with_capacity(changes.len());
        for (said, diff) in changes.drain(..) {
            match said {
                // A name goes and another one comes, in any order.
                Said::Is(name) if diff > 0 => is = Some(name),
                Said::Is(name) => is = is.filter(|is| *is != name),
                Said::Assigned(device, from) => assigned.push(((device, from), diff)),
            }
        }
        let toggled = school.assigned.count(assigned);
        let there = |school: &School, record| school.assigned.present().get(school.assigned.present().place_of(record)) == Some(record);
        if is == school.is {
            toggled.iter().filter(|record| there(school, record)).for_each(|record| school.say(*id, record, -1, emitter));
            school.assigned.toggle(&toggled);
            toggled.iter().filter(|record| there(school, record)).for_each(|record| school.say(*id, record, 1, emitter));
            return;
        }
        school.assigned.present().iter().for_each(|record| school.say(*id, record, -1, emitter));
        school.assigned.toggle(&toggled);
        school.is = is;
        school.assigned.present().iter().for_each(|record| school.say(*id, record, 1, emitter));
    })
}

/// A part of a school's row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Part {
    Name(Option<Box<str>>),
    Device,
    Lengths(Distribution),
}

/// The rows of schools. Facts about logs that are no schools are left out.
pub fn rows<'s>(
    schools: Collection<'s, (Id, Option<Box<str>>)>,
    devices: Collection<'s, Id>,
    lengths: Collection<'s, (Id, Distribution)>,
) -> Collection<'s, Row> {
    let parts = schools.map(|(school, name)| (school, Part::Name(name)));
    let parts = parts.concat(devices.map(|school| (school, Part::Device)));
    let parts = parts.concat(lengths.map(|(school, lengths)| (school, Part::Lengths(lengths))));
    let rows = parts.reduce_named("rows of schools", |school, parts, output| {
        let (mut is, mut devices, mut lengths) = (None, 0, None);
        for (part, count) in parts.iter().filter(|(_, count)| *count > 0) {
            match part {
                Part::Name(name) => is = Some(name.as_deref()),
                Part::Device => devices = count.unsigned_abs() as u64,
                Part::Lengths(distribution) => lengths = Some(distribution),
            }
        }
        if let Some(name) = is {
            output.push((tables::school_row(*school, name, devices, lengths), 1));
        }
    });
    rows.map(|(_, row)| row)
}
