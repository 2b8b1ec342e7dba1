//! Facts about a sensor: the operator by sensor emits them as differences, and tables, points and charts are made from them.

use crate::alarms::Incident;
use crate::points::Moved;
use crate::tables::Tail;
use serde::{Deserialize, Serialize};

/// Which facts are wanted beside those that are always emitted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) unusual: bool,
    pub(crate) points: bool,
    pub(crate) charts: bool,
}

impl Wanted {
    /// Whether a fact is wanted.
    pub(crate) fn has(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Moved(_) => self.points,
            Fact::Peak(_) | Fact::Touched => self.charts,
            Fact::Row(_) | Fact::Issue(_) | Fact::Measured => true,
        }
    }
}

/// A fact about a sensor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Fact {
    /// A row of it.
    Row(Tail),
    /// It has measurements with an issue; the multiplicity is how many.
    Issue(Issue),
    /// It has measurements; the multiplicity is how many.
    Measured,
    /// Points are to be written.
    Moved(Moved),
    /// It has measurements, and this is the highest score of its incidents.
    Peak(Peak),
    /// Something of it has changed.
    Touched,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Issue {
    Unmapped,
    ConflictingValue,
    MappingConflict,
    WithoutData,
    AmbiguousTime,
    MissingTime,
}

impl Issue {
    /// As in the column `issue`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Issue::Unmapped => "unmapped_sensor",
            Issue::ConflictingValue => "conflicting_value",
            Issue::MappingConflict => "mapping_conflict",
            Issue::WithoutData => "sensor_without_data",
            Issue::AmbiguousTime => "ambiguous_local_time",
            Issue::MissingTime => "missing_local_time",
        }
    }
}

/// The highest score of a sensor's incidents, as a number that sorts as it does: the bits of a float that is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peak(pub(crate) u64);

impl Peak {
    /// 0 where there are none.
    pub fn of(incidents: &[Incident]) -> Peak {
        Peak(incidents.iter().map(|incident| incident.peak_score.to_bits()).max().unwrap_or(0))
    }
}
