//! Measurements as points: what comes and goes, written under the sensor's name.
//!
//! The points are not kept: a sensor's readings are in its [`History`], on the same worker, and this operator reads them there when the
//! sensor is new to it or has another name. Else it gets the readings that came or went. Points of another name are another series: the old
//! one is deleted, where the destination can, and its points are retracted one by one where it can't.
//!
//! The epoch's capability is held until its points are written.
//!
//! # Limits
//! Two values at the same time are one point: the greater one is written. When a reading goes that shared its time with another, the other
//! one is written again. A history may be an epoch ahead of the name: points are then written twice, which is once.

use crate::records::{Reading, Sensor};
use crate::sensor::History;
use crate::tables;
use retally_core::VecStream;
use retally_core::points::{BATCH_POINTS, Offered, PointBatch, PointWriter, Points, RETRY_AFTER, Series, Standing, Values};
use retally_core::split::Report;
use retally_core::texts::Texts;
use retally_core::time::Moment;
use retally_core::{Collection, Epoch};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// The histories of a worker's sensors.
pub type Shelf = Rc<RefCell<BTreeMap<Sensor, Rc<RefCell<History>>>>>;

/// Which points of a sensor are to be written or retracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Moved {
    /// It had none before: all.
    All,
    /// This reading came or went.
    One(Reading),
}

/// What an epoch brought.
#[derive(Default)]
struct Epochs {
    moved: BTreeMap<Sensor, BTreeSet<Moved>>,
    names: Vec<(Sensor, String, isize)>,
}

/// Something to be done with the destination, in order.
enum Task {
    Delete(Arc<Series>, Vec<i64>),
    Write(PointBatch),
}

/// What the points of sensors are called.
#[derive(Clone, Debug, Default)]
pub struct Titles {
    /// Whether a sensor's name is its id.
    pub by_id: bool,
    /// The texts of ids, where ids are text.
    pub texts: Option<Arc<Texts>>,
}

impl Titles {
    /// The tags of a sensor: its name, and its id.
    fn tags(&self, name: String, sensor: Sensor) -> Vec<String> {
        let id = self.texts.as_ref().map_or_else(|| sensor.to_string(), |texts| texts.text(sensor.0));
        vec![if self.by_id { id.clone() } else { name }, id]
    }
}

/// Writes points; returns reports of what went wrong.
pub fn write<'s>(
    moved: Collection<'s, (Sensor, Moved)>,
    names: Collection<'s, (Sensor, String)>,
    shelf: Shelf,
    titles: Titles,
    points: Arc<dyn Points>,
) -> VecStream<'s, (Epoch, Report)> {
    let scope = moved.scope();
    // To the worker that has the sensor.
    let route = Exchange::new(|((sensor, _), _, _): &((Sensor, String), Epoch, isize)| retally_core::hash::hash(sensor));
    moved.inner.binary_frontier::<_, CapacityContainerBuilder<Vec<(Epoch, Report)>>, _, _, _, _>(
        names.inner,
        Pipeline,
        route,
        "write points",
        move |_, info| {
            let activator = scope.activator_for(info.address);
            let mut waiting: BTreeMap<Epoch, (Capability<Epoch>, Epochs)> = BTreeMap::new();
            let mut desk = Desk::new(shelf, titles, points.writer());
            // Whose points are on their way.
            let mut held: Vec<Capability<Epoch>> = Vec::new();
            move |(moved, moved_frontier), (names, names_frontier), output| {
                moved.for_each(|capability, data| {
                    for ((sensor, moved), epoch, _) in data.drain(..) {
                        let (_, epochs) = waiting.entry(epoch).or_insert_with(|| (capability.delayed(&epoch, 0), Epochs::default()));
                        epochs.moved.entry(sensor).or_default().insert(moved);
                    }
                });
                names.for_each(|capability, data| {
                    for ((sensor, name), epoch, diff) in data.drain(..) {
                        let (_, epochs) = waiting.entry(epoch).or_insert_with(|| (capability.delayed(&epoch, 0), Epochs::default()));
                        epochs.names.push((sensor, name, diff));
                    }
                });
                let complete = |epoch: &Epoch| !moved_frontier.frontier().less_equal(epoch) && !names_frontier.frontier().less_equal(epoch);
                let outcome = loop {
                    match desk.work() {
                        Ok(true) => {}
                        other => break other,
                    }
                    // The tasks of an epoch are made when those of the one before are done: they may be many.
                    let Some(entry) = waiting.first_entry().filter(|entry| complete(entry.key())) else { break desk.flush() };
                    let (capability, epochs) = entry.remove();
                    held.push(capability);
                    desk.begin(epochs);
                };
                match outcome {
                    Ok(true) => held.clear(),
                    Ok(false) => activator.activate_after(RETRY_AFTER),
                    Err(error) => {
                        if let Some(capability) = held.first() {
                            output.session(capability).give((*capability.time(), Report::PointsFailed(error)));
                        }
                        desk.give_up();
                        held.clear();
                    }
                }
            }
        },
    )
}

/// Where points are written.
struct Desk {
    shelf: Shelf,
    titles: Titles,
    writer: Box<dyn PointWriter>,
    /// The series that a sensor's points are in.
    series: BTreeMap<Sensor, Arc<Series>>,
    names: BTreeMap<Sensor, String>,
    /// Sensors whose measurements went, all of them.
    gone: BTreeSet<Sensor>,
    measurement: Arc<retally_core::points::Measurement>,
    /// What is to be looked at, before it becomes tasks: a sensor at a time.
    sensors: VecDeque<(Sensor, BTreeSet<Moved>)>,
    tasks: VecDeque<Task>,
    failed: bool,
}

impl Desk {
    fn new(shelf: Shelf, titles: Titles, writer: Box<dyn PointWriter>) -> Desk {
        Desk {
            shelf,
            titles,
            writer,
            series: BTreeMap::new(),
            names: BTreeMap::new(),
            gone: BTreeSet::new(),
            measurement: Arc::new(tables::measurement()),
            sensors: VecDeque::new(),
            tasks: VecDeque::new(),
            failed: false,
        }
    }

    fn give_up(&mut self) {
        self.sensors.clear();
        self.tasks.clear();
        self.failed = true;
    }

    /// Takes an epoch's changes.
    fn begin(&mut self, mut epochs: Epochs) {
        // Names that went, and then those that came.
        epochs.names.sort_by_key(|(_, _, diff)| *diff);
        for (sensor, name, diff) in epochs.names {
            if diff > 0 {
                self.names.insert(sensor, name);
            } else if self.names.get(&sensor) == Some(&name) {
                self.names.remove(&sensor);
            }
            epochs.moved.entry(sensor).or_default();
        }
        if !self.failed {
            self.sensors.extend(epochs.moved);
        }
    }

    /// Does a part of the work. Returns whether all of it is done.
    fn work(&mut self) -> Result<bool, String> {
        loop {
            while let Some(task) = self.tasks.front_mut() {
                match task {
                    Task::Write(batch) => {
                        if self.writer.offer(batch)? == Offered::Behind {
                            return Ok(false);
                        }
                        self.tasks.pop_front();
                    }
                    Task::Delete(series, times) => {
                        let deleted = self.writer.delete_series(series)?;
                        let (series, times) = (Arc::clone(series), std::mem::take(times));
                        self.tasks.pop_front();
                        if !deleted {
                            for times in times.chunks(BATCH_POINTS).rev() {
                                let mut batch = PointBatch::new(Arc::clone(&series), Standing::Retracted);
                                batch.times_ns.extend_from_slice(times);
                                self.tasks.push_front(Task::Write(batch));
                            }
                        }
                    }
                }
            }
            let Some((sensor, moved)) = self.sensors.pop_front() else { return Ok(true) };
            self.plan(sensor, &moved);
        }
    }

    fn flush(&mut self) -> Result<bool, String> {
        if self.failed { Ok(true) } else { self.writer.flush() }
    }

    /// Makes tasks of what happened to a sensor.
    fn plan(&mut self, sensor: Sensor, moved: &BTreeSet<Moved>) {
        let history = self.shelf.borrow().get(&sensor).map(Rc::clone);
        let known = self.series.get(&sensor).map(Arc::clone);
        let name = self.names.get(&sensor).cloned().unwrap_or_default();
        let Some(history) = history.filter(|history| history.borrow().measurements() > 0 || known.is_some()) else {
            // All of its measurements went.
            if let Some(series) = self.series.remove(&sensor) {
                self.tasks.push_back(Task::Delete(series, times_of(moved)));
                self.gone.insert(sensor);
            }
            return;
        };
        let history = history.borrow();
        let tags = self.titles.tags(name, sensor);
        let renamed = known.as_ref().is_some_and(|series| series.tags != tags);
        if let Some(old) = known.filter(|_| renamed) {
            let mut times: Vec<i64> = history.readings().map(|reading| nanoseconds(reading.time())).collect();
            times.extend(times_of(moved));
            times.sort_unstable();
            times.dedup();
            self.tasks.push_back(Task::Delete(old, times));
        }
        let all = renamed || !self.series.contains_key(&sensor);
        if all {
            self.series.insert(sensor, Arc::new(Series { measurement: Arc::clone(&self.measurement), tags }));
        }
        let Some(series) = self.series.get(&sensor).map(Arc::clone) else { return };
        let mut tasks = Tasks { series, tasks: &mut self.tasks };
        if all || moved.contains(&Moved::All) {
            let standing = if renamed || self.gone.contains(&sensor) { Standing::Restored } else { Standing::Fresh };
            tasks.write(standing, history.readings());
            return;
        }
        let times: BTreeSet<Moment> =
            moved.iter().filter_map(|moved| if let Moved::One(reading) = moved { Some(reading.time()) } else { None }).collect();
        let there: Vec<Reading> = times.iter().filter_map(|time| history.greatest_at(*time)).collect();
        let gone: Vec<i64> = times.iter().filter(|time| history.greatest_at(**time).is_none()).map(|time| nanoseconds(*time)).collect();
        for times in gone.chunks(BATCH_POINTS) {
            let mut batch = PointBatch::new(Arc::clone(&tasks.series), Standing::Retracted);
            batch.times_ns.extend_from_slice(times);
            tasks.tasks.push_back(Task::Write(batch));
        }
        // They may have been retracted before.
        tasks.write(Standing::Restored, there.iter());
    }
}

struct Tasks<'a> {
    series: Arc<Series>,
    tasks: &'a mut VecDeque<Task>,
}

impl Tasks<'_> {
    /// Writes readings, which are in order: of those at the same time the last.
    fn write<'r>(&mut self, standing: Standing, readings: impl Iterator<Item = &'r Reading>) {
        let mut batch = PointBatch::new(Arc::clone(&self.series), standing);
        let mut readings = readings.peekable();
        while let Some(reading) = readings.next() {
            if readings.peek().is_some_and(|next| next.time() == reading.time()) {
                continue;
            }
            batch.times_ns.push(nanoseconds(reading.time()));
            if let Some(Values::Float(values)) = batch.columns.first_mut().map(|column| &mut column.values) {
                values.push(reading.value.get());
            }
            if batch.len() >= BATCH_POINTS {
                let full = std::mem::replace(&mut batch, PointBatch::new(Arc::clone(&self.series), standing));
                self.tasks.push_back(Task::Write(full));
            }
        }
        if !batch.is_empty() {
            self.tasks.push_back(Task::Write(batch));
        }
    }
}

fn times_of(moved: &BTreeSet<Moved>) -> Vec<i64> {
    let time = |moved: &Moved| if let Moved::One(reading) = moved { Some(nanoseconds(reading.time())) } else { None };
    moved.iter().filter_map(time).collect()
}

/// Times of the accepted years fit: 2200 is 7.3e18.
fn nanoseconds(time: Moment) -> i64 {
    time.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Fact, Wanted};
    use crate::graph::Sensors;
    use crate::records::Value;
    use crate::sensor::Rules;
    use differential_dataflow::input::InputSession;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use retally_core::calendar::{Calendar, Naming};
    use retally_core::contract::AsOf;
    use retally_core::time::SECOND;
    use std::sync::Mutex;
    use timely::dataflow::operators::Probe;

    /// Values by series and time.
    type Stored = BTreeMap<Vec<String>, BTreeMap<i64, String>>;

    /// A destination that takes every other batch, and may be able to delete.
    struct Store {
        stored: Arc<Mutex<Stored>>,
        deletes: bool,
    }

    struct Slow {
        stored: Arc<Mutex<Stored>>,
        deletes: bool,
        asked: u32,
    }

    impl Points for Store {
        fn wanted(&self) -> bool {
            true
        }

        fn writer(&self) -> Box<dyn PointWriter> {
            Box::new(Slow { stored: Arc::clone(&self.stored), deletes: self.deletes, asked: 0 })
        }
    }

    impl PointWriter for Slow {
        fn offer(&mut self, batch: &mut PointBatch) -> Result<Offered, String> {
            self.asked += 1;
            if self.asked % 2 == 1 {
                return Ok(Offered::Behind);
            }
            let mut stored = self.stored.lock().unwrap();
            let series = stored.entry(batch.series.tags.clone()).or_default();
            for (place, time) in batch.times_ns.iter().enumerate() {
                match (&batch.standing, &batch.columns[0].values) {
                    (Standing::Retracted, _) => series.remove(time),
                    (_, Values::Float(values)) => series.insert(*time, values[place].to_string()),
                    _ => panic!("the field is a float"),
                };
            }
            batch.clear();
            Ok(Offered::Taken)
        }

        fn flush(&mut self) -> Result<bool, String> {
            self.asked += 1;
            Ok(self.asked.is_multiple_of(3))
        }

        fn delete_series(&mut self, series: &Arc<Series>) -> Result<bool, String> {
            if self.deletes {
                self.stored.lock().unwrap().remove(&series.tags);
            }
            Ok(self.deletes)
        }
    }

    #[test]
    fn the_destination_holds_what_is_true_under_the_names_that_count() {
        for seed in 0..12 {
            let (stored, deletes) = (Arc::new(Mutex::new(Stored::new())), seed % 2 == 0);
            let points: Arc<dyn Points> = Arc::new(Store { stored: Arc::clone(&stored), deletes });
            timely::execute_directly(move |worker| {
                let rules = Rules { calendar: Calendar::utc(), threshold: 5.0 };
                let graph = Sensors { rules, named_by: tables::NamedBy::default(), as_of: AsOf::Latest, charted: Vec::new() };
                let (mut readings, mut names, probe) = worker.dataflow::<Epoch, _, _>(|scope| {
                    let (mut readings, mut names) = (InputSession::<Epoch, (Sensor, Reading), isize>::new(), InputSession::new());
                    let shelf = Shelf::default();
                    let wanted = Wanted { points: true, ..Wanted::default() };
                    let facts = graph.facts(readings.to_collection(scope), wanted, &shelf);
                    let moved = facts.flat_map(|(sensor, fact)| if let Fact::Moved(moved) = fact { Some((sensor, moved)) } else { None });
                    let (probe, _) = write(moved, names.to_collection(scope), shelf, Titles::default(), points).probe();
                    (readings, names, probe)
                });
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut there: BTreeMap<(Sensor, Reading), isize> = BTreeMap::new();
                let mut named: BTreeMap<Sensor, String> = BTreeMap::new();
                for epoch in 1..40 {
                    readings.advance_to(epoch);
                    names.advance_to(epoch);
                    for _ in 0..random.random_range(0..6) {
                        let sensor = Sensor(random.random_range(0..3));
                        let value = Value::new(f64::from(random.random_range(0..3))).unwrap();
                        let time = Moment(random.random_range(0..4) * 1_000 * SECOND);
                        let record = (sensor, Reading::new(time, Naming::Unique, value));
                        let diff = if random.random_bool(0.5) { 1 } else { -1 };
                        readings.update(record, diff);
                        *there.entry(record).or_default() += diff;
                    }
                    if random.random_bool(0.3) {
                        let sensor = Sensor(random.random_range(0..3));
                        let name = format!("name {}", random.random_range(0..2));
                        if let Some(old) = named.insert(sensor, name.clone()) {
                            names.update((sensor, old), -1);
                        }
                        names.update((sensor, name), 1);
                    }
                    readings.advance_to(epoch + 1);
                    names.advance_to(epoch + 1);
                    readings.flush();
                    names.flush();
                    worker.step_while(|| probe.less_than(&(epoch + 1)));

                    let mut expected = Stored::new();
                    for ((sensor, reading), _) in there.iter().filter(|(_, count)| **count > 0) {
                        let tags = vec![named.get(sensor).cloned().unwrap_or_default(), sensor.to_string()];
                        // In order: the greatest value at a time is the last.
                        expected.entry(tags).or_default().insert(nanoseconds(reading.time()), reading.value.get().to_string());
                    }
                    stored.lock().unwrap().retain(|_, points| !points.is_empty());
                    assert_eq!(*stored.lock().unwrap(), expected, "seed {seed}, epoch {epoch}");
                }
            });
        }
    }
}
