//! Which name a sensor has.
//!
//! Of the UUIDs that a name is given to, the smallest has it; of the names that a UUID then has, the smallest. All other lines
//! of the mapping are conflicts. Ids that are any text are compared as texts, byte by byte: their hashes would choose at random.

use crate::records::{Name, Sensor};
use retally_core::Collection;
use retally_core::texts::Texts;
use std::sync::Arc;

/// The mapping: the names that count, and the lines that don't.
pub struct Names<'s> {
    /// Each sensor that has a name, with it.
    pub named: Collection<'s, (Sensor, String)>,
    /// The lines that are in conflict with one that counts.
    pub conflicts: Collection<'s, ()>,
}

/// Resolves a mapping. Where ids are `texts`, the epochs of its lines are complete when their texts are there too.
pub fn resolve(lines: Collection<'_, Name>, texts: Option<Arc<Texts>>) -> Names<'_> {
    let order = move |sensor: &Sensor| (texts.as_ref().map(|texts| texts.text(sensor.0)), *sensor);
    let by_name = lines.map(|line| (line.name, line.sensor)).reduce_named("sensors of a name", move |_, sensors, output| {
        pick(sensors, &order, output);
    });
    let (kept, more) = split(by_name);
    let by_sensor = kept.map(|(name, sensor)| (sensor, name)).reduce_named("names of a sensor", |_, names, output| {
        pick(names, String::clone, output);
    });
    let (named, conflicts) = split(by_sensor);
    Names { named, conflicts: conflicts.map(|_| ()).concat(more.map(|_| ())) }
}

/// The smallest of those that are there counts.
fn pick<V: Clone + PartialEq, O: Ord>(values: &[(&V, isize)], order: impl Fn(&V) -> O, output: &mut Vec<((V, bool), isize)>) {
    let there = || values.iter().filter(|(_, count)| *count > 0).map(|(value, _)| *value);
    let smallest = there().min_by_key(|value| order(value));
    output.extend(there().map(|value| ((value.clone(), Some(value) == smallest), 1)));
}

/// Those that count, and the others.
fn split<K, V>(picked: Collection<'_, (K, (V, bool))>) -> (Collection<'_, (K, V)>, Collection<'_, (K, V)>)
where
    K: differential_dataflow::Data,
    V: differential_dataflow::Data,
{
    let chosen = picked.clone().flat_map(|(key, (value, counts))| counts.then_some((key, value)));
    let others = picked.flat_map(|(key, (value, counts))| (!counts).then_some((key, value)));
    (chosen, others)
}
