//! What is kept of a sensor, and what follows when measurements come or go.
//!
//! One ordered list holds the readings, one the hours with their measurements summed up ([`Leaf`]). A change goes through these steps, each
//! of which touches what depends on it and nothing else:
//!
//! 1. deliveries are counted, and readings come or go;
//! 2. the leaves of their hours are rebuilt;
//! 3. forecasts, contrasts and scales of the days after them are rebuilt ([`renewal`]), and leaves whose rounded forecast changed are
//!    scored again;
//! 4. habits of hours that may stand out are found again, where an hour of the 28 days before has changed;
//! 5. lines of their weeks are fitted again;
//! 6. the result for the sensor as a whole (lines merged over weeks, what stands out together, ranks, extremes) is put together, and
//!    compared with the result before.
//!
//! No reading of other hours is looked at.
//!
//! # State
//! 16 bytes for each measurement, about 200 for each hour with measurements, 100 for each line, anomaly and day.

use crate::alarms::{self, Anomaly, Incident, Standout};
use crate::anomalies::{self, Tempo};
use crate::baseline::Baseline;
use crate::contrast::{self, Distance};
use crate::leaf::{self, Hour, Rhythm};
use crate::outliers;
use crate::records::{Reading, SUMMED_MAX, SUMMED_MIN, Value, power_of_two};
use crate::seen::Seen;
use crate::segments::{self, Part, Pieces, Segment};
use crate::size::Size;
use crate::totals::{Total, Totals};
use crate::unusual::{Ranks, Stretch};
use crate::window::Found;
use retally_core::calendar::{Calendar, Naming};
use retally_core::operators::by_key::State;
use retally_core::operators::ordered::{ListPosition, OrderedList};
use retally_core::operators::regression::Moments;
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};

mod renewal;

/// What may be left out of a mean, as a part of it.
const MEAN_DIGITS: f64 = power_of_two(-100);

/// An hour with measurements, summed up.
#[derive(Clone, Debug)]
struct Leaf {
    hour: Hour,
    measurements: u32,
    moments: Moments,
    /// Without outliers, where there are some.
    cleaned: Option<Box<Moments>>,
    rhythm: Rhythm,
    extremes: (Value, Value),
    spread: Option<i32>,
    tempo: Tempo,
    /// What was found of it in comparison with hours before.
    found: Found,
    /// The largest distance of a reading from what was expected.
    farthest: Size,
}

impl Leaf {
    /// What its measurements say.
    fn seen(&self) -> Seen {
        let (rows, inner) = (self.moments.n, self.moments.yy / self.moments.n);
        Seen { rows, mean: self.moments.y, inner, largest: largest(self.extremes), spread: self.spread, rhythm: self.rhythm }
    }

    /// What lines see of it.
    fn part(&self) -> Part {
        let moments = self.cleaned.as_deref().copied().unwrap_or(self.moments);
        Part { hour: self.hour, moments, measurements: self.measurements }
    }

    /// Its measurements in numbers.
    fn total(&self) -> Total {
        let measurements = u64::from(self.measurements);
        let scored = if self.found.baseline.is_some() { measurements } else { 0 };
        Total { measurements, scored, extremes: self.extremes, mean: self.moments.y }
    }
}

/// A sensor's measurements and what follows from them.
#[derive(Default)]
pub struct History {
    /// The readings that are there.
    readings: OrderedList<Reading>,
    /// How often, for readings delivered twice or more, and for those retracted more often than delivered.
    counts: BTreeMap<Reading, isize>,
    /// How often readings were delivered with a local time that is ambiguous or missing, by the reading as it was written.
    naming: BTreeMap<Reading, isize>,
    leaves: OrderedList<Leaf>,
    /// The lines of each local week with measurements.
    weeks: BTreeMap<i32, Vec<Segment>>,
    /// Hours whose level or spread may be unusual.
    distant: BTreeMap<Hour, [Option<Distance>; 2]>,
    /// What stands out in each hour where something may.
    standouts: BTreeMap<Hour, Standout>,
    /// Readings that share their time with another one.
    conflicting: u64,
    /// All measurements in numbers.
    totals: Totals,
    /// The most unusual stretches.
    ranks: Ranks,
}

impl State for History {
    fn is_empty(&self) -> bool {
        self.readings.is_empty() && self.counts.is_empty() && self.naming.is_empty()
    }
}

/// What a change did, for those who count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Forecasts made.
    pub forecasts: u64,
    /// Measurements scored.
    pub scored: u64,
}

/// How sensors are looked at.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The zone of local hours and weeks.
    pub calendar: Calendar,
    /// From which score on a measurement is an anomaly.
    pub threshold: f64,
}

/// A sensor as a whole.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// First and last time, and how many measurements; `None` without measurements.
    pub summary: Option<Summary>,
    /// The lines.
    pub segments: Vec<Segment>,
    /// The anomalies.
    pub anomalies: Vec<Anomaly>,
    /// The incidents.
    pub incidents: Vec<Incident>,
    /// The most unusual stretches.
    pub unusual: Vec<Stretch>,
    /// Measurements that share their time with another one; with an ambiguous local time; with a missing one.
    pub issues: [u64; 3],
}

/// A sensor's measurements in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The times of the first and the last measurement.
    pub times: (Moment, Moment),
    /// How many.
    pub measurements: u64,
    /// How many of them had a forecast to be compared with.
    pub scored: u64,
    /// The least and the greatest value.
    pub extremes: (Value, Value),
    /// The mean.
    pub mean: f64,
}

/// The local week of an hour's start, from Monday.
pub fn week(calendar: &Calendar, hour: Hour) -> i32 {
    // 1970-01-01 is a Thursday.
    calendar.day_spanning(leaf::start(hour)).plus(3).0.div_euclid(7)
}

impl History {
    /// Applies deliveries and retractions, sorted and consolidated. Returns the readings that came (`true`) or went, in order.
    pub fn change(&mut self, changes: &mut Vec<(Reading, isize)>, rules: &Rules, work: &mut Work) -> Vec<(Reading, bool)> {
        let toggled = self.count(changes);
        if toggled.is_empty() {
            return toggled;
        }
        self.conflicts(&toggled, -1);
        self.toggle(&toggled);
        self.conflicts(&toggled, 1);
        let mut hours: Vec<Hour> = toggled.iter().map(|(reading, _)| leaf::hour(reading.time())).collect();
        hours.dedup();
        let changed = self.renew_leaves(&hours);
        let renewed = self.renew_days(&changed, rules, work);
        self.renew_numbers(&hours, &renewed.stale);
        let mut moved = self.renew_scores(&hours, rules, renewed.stale, work);
        moved.extend(renewed.moved);
        moved.extend(&hours);
        self.renew_habits(&moved);
        self.renew_weeks(&hours, rules);
        toggled
    }

    /// Counts deliveries: by measurement, and those of local times that name no moment of their own.
    fn count(&mut self, changes: &mut Vec<(Reading, isize)>) -> Vec<(Reading, bool)> {
        let mut toggled = Vec::with_capacity(changes.len());
        let mut changes = changes.drain(..).map(|(reading, diff)| {
            if reading.naming() != Naming::Unique {
                add(&mut self.naming, reading, diff);
            }
            (reading.plain(), diff)
        });
        // A measurement that was written in two ways comes twice in a row, but for other values in between.
        let mut sums: Vec<(Reading, isize)> = Vec::with_capacity(changes.len());
        let mut sorted = true;
        for (reading, diff) in &mut changes {
            sorted &= sums.last().is_none_or(|(last, _)| *last < reading);
            sums.push((reading, diff));
        }
        drop(changes);
        if !sorted {
            differential_dataflow::consolidation::consolidate(&mut sums);
        }
        for (reading, diff) in sums {
            let exceptional = self.counts.get(&reading).copied();
            let before = exceptional.unwrap_or_else(|| isize::from(self.readings.get(self.place(&reading)) == Some(&reading)));
            let after = before + diff;
            if after == 0 || after == 1 {
                if exceptional.is_some() {
                    self.counts.remove(&reading);
                }
            } else {
                self.counts.insert(reading, after);
            }
            if (before > 0) != (after > 0) {
                toggled.push((reading, after > 0));
            }
        }
        toggled
    }

    /// How many readings there are.
    pub fn measurements(&self) -> usize {
        self.readings.len()
    }

    /// The readings in order.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> + Clone {
        self.readings.from((0, 0))
    }

    /// The hours with measurements in order, each with its forecast where it has one.
    pub fn forecasts(&self) -> impl Iterator<Item = (Hour, Option<Baseline>)> {
        self.leaves.iter().map(|leaf| (leaf.hour, leaf.found.baseline))
    }

    /// The reading with the greatest value at a time.
    pub fn greatest_at(&self, time: Moment) -> Option<Reading> {
        let after = self.readings.lower_bound(|reading| reading.time().cmp(&time.plus(1)));
        self.readings.item_before(after).filter(|reading| reading.time() == time).copied()
    }

    fn place(&self, reading: &Reading) -> ListPosition {
        self.readings.lower_bound(|other| other.cmp(reading))
    }

    /// The place of the first reading from the start of an hour on.
    fn place_of(&self, hour: Hour) -> ListPosition {
        let start = leaf::start(hour);
        self.readings.lower_bound(|reading| reading.time().cmp(&start))
    }

    /// The readings of hours from `first` to `last`.
    fn between(&self, first: Hour, last: Hour) -> impl Iterator<Item = &Reading> + Clone {
        let end = leaf::start(last + 1);
        self.readings.from(self.place_of(first)).take_while(move |reading| reading.time() < end)
    }

    /// The readings before an hour, backwards.
    fn before(&self, hour: Hour) -> impl Iterator<Item = &Reading> + Clone {
        let mut place = self.place_of(hour);
        std::iter::from_fn(move || {
            place = self.readings.before(place)?;
            self.readings.get(place)
        })
        .fuse()
    }

    /// How many readings at the times of those that come or go share it with others.
    fn conflicts(&mut self, toggled: &[(Reading, bool)], sign: i64) {
        let mut last = None;
        for (reading, _) in toggled {
            let time = reading.time();
            if last.replace(time) == Some(time) {
                continue;
            }
            let first = self.readings.lower_bound(|other| other.time().cmp(&time));
            let same = self.readings.from(first).take_while(|other| other.time() == time).count();
            if same > 1 {
                self.conflicting = self.conflicting.saturating_add_signed(sign * i64::try_from(same).unwrap_or(i64::MAX));
            }
        }
    }

    fn toggle(&mut self, toggled: &[(Reading, bool)]) {
        if self.readings.is_empty() {
            self.readings = OrderedList::from_sorted(toggled.iter().map(|(reading, _)| *reading).collect());
            return;
        }
        for (reading, came) in toggled {
            let place = self.place(reading);
            if *came {
                self.readings.insert(place, *reading);
            } else {
                self.readings.remove(place);
            }
        }
    }

    fn leaf_place(&self, hour: Hour) -> ListPosition {
        self.leaves.lower_bound(|leaf| leaf.hour.cmp(&hour))
    }

    fn leaf(&self, hour: Hour) -> Option<&Leaf> {
        self.leaves.get(self.leaf_place(hour)).filter(|leaf| leaf.hour == hour)
    }

    /// Rebuilds the leaves of hours. Returns them, and those whose rhythm depends on them.
    fn renew_leaves(&mut self, hours: &[Hour]) -> BTreeSet<Hour> {
        let mut changed: BTreeSet<Hour> = hours.iter().copied().collect();
        for &hour in hours {
            let leaf = self.new_leaf(hour);
            let place = self.leaf_place(hour);
            let known = self.leaves.get(place).filter(|known| known.hour == hour);
            let leaf = leaf.map(|leaf| match known {
                Some(known) => Leaf { tempo: known.tempo, found: known.found, farthest: known.farthest, ..leaf },
                None => leaf,
            });
            let end = if known.is_some() { self.leaves.after(place) } else { place };
            self.leaves.replace(place..end, leaf.into_iter().collect());
        }
        // The next hour's rhythm goes on from this one's last reading.
        for &hour in hours {
            let place = self.leaf_place(hour + 1);
            let Some(next) = self.leaves.get(place).map(|leaf| leaf.hour) else { continue };
            if !changed.contains(&next) {
                self.update(place, |history, leaf| leaf.rhythm = history.rhythm(next));
                changed.insert(next);
            }
        }
        let around: BTreeSet<Hour> = hours.iter().flat_map(|hour| [hour - 1, *hour, hour + 1]).collect();
        for hour in around {
            let place = self.leaf_place(hour);
            if self.leaves.get(place).is_some_and(|leaf| leaf.hour == hour) {
                self.update(place, |history, leaf| {
                    let readings = history.between(hour, hour);
                    leaf.cleaned = outliers::cleaned(hour, readings, history.between(hour - 1, hour + 1)).map(Box::new);
                });
            }
        }
        changed
    }

    /// Changes a leaf in its place.
    fn update(&mut self, place: ListPosition, change: impl FnOnce(&History, &mut Leaf)) {
        if let Some(mut leaf) = self.leaves.get(place).cloned() {
            change(self, &mut leaf);
            self.leaves.set(place, leaf);
        }
    }

    fn rhythm(&self, hour: Hour) -> Rhythm {
        Rhythm::of(self.before(hour).next().copied(), self.between(hour, hour))
    }

    fn new_leaf(&self, hour: Hour) -> Option<Leaf> {
        let readings = self.between(hour, hour);
        let first = readings.clone().next()?.value;
        let extremes = readings.clone().fold((first, first), |(least, most), reading| (least.min(reading.value), most.max(reading.value)));
        let moments = leaf::moments(hour, readings.clone());
        Some(Leaf {
            hour,
            measurements: u32::try_from(readings.count()).unwrap_or(u32::MAX),
            moments,
            spread: contrast::spread(moments.n, moments.yy / moments.n, largest(extremes)),
            cleaned: None,
            rhythm: self.rhythm(hour),
            extremes,
            tempo: Tempo::default(),
            found: Found::default(),
            farthest: Size::NONE,
        })
    }

    /// Scores the hours of `stale` and `hours` again, and those that flat lines and gaps go on in. Returns those whose farthest reading is
    /// another one, or that may stand out.
    fn renew_scores(&mut self, hours: &[Hour], rules: &Rules, mut stale: BTreeSet<Hour>, work: &mut Work) -> BTreeSet<Hour> {
        stale.extend(hours);
        for &hour in hours {
            self.followers(hour, rules, &mut stale);
        }
        let mut moved = BTreeSet::new();
        for hour in stale {
            let place = self.leaf_place(hour);
            let beside = self.distant.get(&hour).copied().unwrap_or_default();
            let with_last = beside.iter().any(Option::is_some);
            let leaf = self.leaves.get(place).filter(|leaf| leaf.hour == hour);
            let (rows, farthest) = match leaf {
                Some(Leaf { found: Found { baseline: Some(baseline), .. }, tempo, measurements, .. }) => {
                    work.scored += u64::from(*measurements);
                    anomalies::score(hour, self.between(hour, hour), self.before(hour), baseline, tempo, rules.threshold, with_last)
                }
                _ => (Vec::new(), Size::NONE),
            };
            if leaf.is_some_and(|leaf| leaf.farthest != farthest)
                && let Some(leaf) = self.leaves.get_mut(place)
            {
                leaf.farthest = farthest;
                moved.insert(hour);
            }
            if rows.is_empty() {
                self.standouts.remove(&hour);
            } else {
                self.standouts.insert(hour, Standout { rows, beside, ..Standout::default() });
                moved.insert(hour);
            }
        }
        moved
    }

    /// Sums up and ranks again where hours have changed, or where they may have a forecast now.
    fn renew_numbers(&mut self, hours: &[Hour], stale: &BTreeSet<Hour>) {
        let (leaves, of_leaf) = (&self.leaves, |hour: Hour| move |leaf: &Leaf| leaf.hour.cmp(&hour));
        let between = |first: Hour, end: Hour| leaves.from(leaves.lower_bound(of_leaf(first))).take_while(move |leaf| leaf.hour < end);
        let touched: BTreeSet<Hour> = hours.iter().chain(stale).copied().collect();
        self.totals.renew(touched.into_iter(), |first, end| between(first, end).map(Leaf::total));
        self.ranks.renew(hours.iter().copied(), |first, end| between(first, end).map(|leaf| (leaf.hour, leaf.moments)));
    }

    /// The hours after `hour` whose flat lines or gaps may begin in it or before.
    fn followers(&self, hour: Hour, rules: &Rules, stale: &mut BTreeSet<Hour>) {
        // The hours passed, all of one value, and their measurements.
        let mut passed: Option<(Hour, Hour, u32)> = None;
        for leaf in self.leaves.from(self.leaf_place(hour + 1)) {
            let behind = |needed: u32| passed.is_none_or(|(first, last, rows)| rows <= needed || last - first < 2);
            // The next hour's first measurement ends a silence; later ones look back for a run, as far as it takes to be complete.
            if passed.is_none() || leaf.tempo.repeats(rules.threshold).is_some_and(behind) {
                stale.insert(leaf.hour);
            }
            let constant = leaf.extremes.0 == leaf.extremes.1;
            if !constant || !behind(anomalies::REPEATS_MAX) {
                break;
            }
            let (first, _, rows) = passed.unwrap_or((leaf.hour, leaf.hour, 0));
            passed = Some((first, leaf.hour, rows.saturating_add(leaf.measurements)));
        }
    }

    /// Fits the lines of the weeks of hours again.
    fn renew_weeks(&mut self, hours: &[Hour], rules: &Rules) {
        // An hour's outliers depend on its neighbours.
        let weeks: BTreeSet<i32> =
            hours.iter().flat_map(|hour| [hour - 1, *hour, hour + 1]).map(|hour| week(&rules.calendar, hour)).collect();
        for number in weeks {
            let monday = |week: i32| retally_core::calendar::Day(week * 7 - 3);
            // Of a week that starts within an hour, the hour belongs to the week before.
            let first_hour = |week: i32| leaf::hour(rules.calendar.start(monday(week)).plus(retally_core::time::HOUR - 1));
            let (first, end) = (first_hour(number), first_hour(number + 1));
            let leaves = self.leaves.from(self.leaf_place(first)).take_while(|leaf| leaf.hour < end);
            let parts: Vec<Part> = leaves.map(Leaf::part).collect();
            if parts.is_empty() {
                self.weeks.remove(&number);
            } else {
                self.weeks.insert(number, segments::of_week(&parts, |first, last| self.times(first, last)));
            }
        }
    }

    /// The times of the first measurement from an hour on and of the last one until the end of another.
    fn times(&self, first: Hour, last: Hour) -> Option<(Moment, Moment)> {
        Some((self.readings.get(self.place_of(first))?.time(), self.readings.item_before(self.place_of(last + 1))?.time()))
    }

    /// The whole result for the sensor.
    pub fn whole(&self, rules: &Rules, unusual: bool) -> Whole {
        let pieces: Pieces = segments::merged(self.weeks.values().map(Vec::as_slice));
        let (anomalies, incidents) = alarms::together(self.standouts.values(), &pieces, rules.threshold);
        let written = |naming| {
            let written = self.naming.iter().filter(|(reading, count)| reading.naming() == naming && **count > 0);
            let there = written.filter(|(reading, _)| self.readings.get(self.place(&reading.plain())) == Some(&reading.plain()));
            there.count() as u64
        };
        Whole {
            summary: self.summary(),
            segments: pieces.segments,
            anomalies,
            incidents,
            unusual: if unusual { self.ranks.first() } else { Vec::new() },
            issues: [self.conflicting, written(Naming::Ambiguous), written(Naming::Missing)],
        }
    }

    fn summary(&self) -> Option<Summary> {
        let first = self.readings.get((0, 0))?.time();
        let last = self.readings.last()?.time();
        let Total { measurements, scored, extremes, mean } = self.totals.all()?;
        Some(Summary { times: (first, last), measurements, scored, extremes, mean: self.mean(extremes, mean) })
    }

    /// The mean of all values, of which these are the least and the greatest, and the mean as sums see it.
    fn mean(&self, extremes: (Value, Value), mean: f64) -> f64 {
        let mean = match (SUMMED_MIN / MEAN_DIGITS..SUMMED_MAX).contains(&largest(extremes)) {
            true => mean,
            false => self.mean_of_readings(),
        };
        // Sums round, and a mean lies between the values.
        mean.clamp(extremes.0.get(), extremes.1.get())
    }

    /// Where leaves don't see values as they are. The largest are made smaller, so that no sum is too large.
    fn mean_of_readings(&self) -> f64 {
        let large = self.readings().any(|reading| reading.value.get().abs() >= SUMMED_MAX);
        let factor = if large { MEAN_DIGITS } else { 1.0 };
        let sum: f64 = self.readings().map(|reading| reading.value.get() * factor).sum();
        sum / self.readings.len() as f64 / factor
    }
}

/// The largest magnitude of values as sums see them, of which these are the least and the greatest.
fn largest((least, most): (Value, Value)) -> f64 {
    least.summed().abs().max(most.summed().abs())
}

fn add(counts: &mut BTreeMap<Reading, isize>, reading: Reading, diff: isize) {
    let count = counts.entry(reading).or_insert(0);
    *count += diff;
    if *count == 0 {
        counts.remove(&reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Tally, tally};
    use crate::generate;
    use crate::generate::Fault;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use retally_core::time::{DAY, HOUR, SECOND};

    fn rules() -> Rules {
        Rules { calendar: Calendar::utc(), threshold: 5.0 }
    }

    fn reading(time: Moment, naming: Naming, value: f64) -> Reading {
        Reading::new(time, naming, Value::new(value).unwrap())
    }

    fn made(number: u64, random: &mut ChaCha8Rng) -> (generate::Made, Vec<(Reading, isize)>) {
        let made = generate::made(number, 42, random);
        let measurements = made.measurements(42, 300 * SECOND, random);
        let rows = measurements.into_iter().map(|(time, value)| (reading(time, Naming::Unique, value), 1)).collect();
        (made, rows)
    }

    #[test]
    fn a_measurement_is_one_however_its_time_is_written() {
        let mut history = History::default();
        let at = |naming| reading(Moment(HOUR), naming, 1.0);
        let mut change = |reading, diff| {
            history.change(&mut vec![(reading, diff)], &rules(), &mut Work::default());
            let whole = history.whole(&rules(), false);
            (whole.summary.map_or(0, |summary| summary.measurements), whole.issues)
        };
        assert_eq!(change(at(Naming::Ambiguous), 1), (1, [0, 1, 0]));
        assert_eq!(change(at(Naming::Unique), 1), (1, [0, 1, 0]));
        assert_eq!(change(at(Naming::Ambiguous), -1), (1, [0, 0, 0]));
        assert_eq!(change(at(Naming::Missing), -1), (0, [0, 0, 0]), "retracted as often as delivered");
        assert_eq!(change(at(Naming::Missing), 1), (1, [0, 0, 0]));
        assert_eq!(change(at(Naming::Unique), -1), (0, [0, 0, 0]));
        assert!(history.is_empty());
    }

    /// Flat lines and gaps reach over hours: single changes in and beside them, one after the other, against all at once.
    #[test]
    fn flat_lines_and_gaps_follow_single_changes() {
        let rules = Rules { threshold: 3.0, ..rules() };
        let at = |minutes: i64| Moment(19_723 * DAY + minutes * 60 * SECOND);
        let noise = |n: i64| (n.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as f64 / 1024.0;
        let value = |n: i64| if (700..760).contains(&n) { 0.5 } else { noise(n) };
        // Every half hour; silent for a day and a half from the 600th on, flat for 30 hours from the 700th on.
        let mut there: BTreeMap<Reading, isize> =
            (0..900).filter(|n| !(600..672).contains(n)).map(|n| (reading(at(n * 30), Naming::Unique, value(n)), 1)).collect();
        let mut history = History::default();
        history.change(&mut there.clone().into_iter().collect(), &rules, &mut Work::default());
        let mut kinds = BTreeSet::new();
        for step in 0..90i64 {
            // In the silence and before it, in the flat line and before and after it; the same value, and another; and away again.
            let n = if step % 3 == 0 { 597 + step } else { 690 + step };
            let late = reading(at(n * 30 + if step % 2 == 0 { 7 } else { 0 }), Naming::Unique, if step % 5 == 0 { 0.75 } else { value(n) });
            let diff = if there.remove(&late).is_some() { -1 } else { 1 };
            if diff > 0 {
                there.insert(late, 1);
            }
            history.change(&mut vec![(late, diff)], &rules, &mut Work::default());
            let mut anew = History::default();
            anew.change(&mut there.clone().into_iter().collect(), &rules, &mut Work::default());
            let (found, expected) = (history.whole(&rules, true), anew.whole(&rules, true));
            assert_eq!(found.anomalies, expected.anomalies, "step {step}: {late:?} {diff}");
            assert_eq!((found.segments, found.unusual), (expected.segments, expected.unusual), "step {step}");
            kinds.extend(found.anomalies.iter().map(|anomaly| anomaly.scored.kind.name()));
        }
        assert!(kinds.contains("gap") && kinds.contains("flatline"), "{kinds:?}");
    }

    /// The bound of the page: 42 days at every five minutes, one measurement late.
    #[test]
    fn a_late_measurement_has_few_scored_anew() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (mut scored, mut count) = (0, 0);
        for number in 0..14 {
            let (_, mut rows) = made(number, &mut random);
            let late: Vec<(Reading, isize)> = (1..6).map(|n| rows.remove(rows.len() * n / 6)).collect();
            let mut history = History::default();
            history.change(&mut rows, &rules(), &mut Work::default());
            for late in late {
                let mut work = Work::default();
                history.change(&mut vec![late], &rules(), &mut work);
                assert!(work.forecasts <= 17 * 24, "{work:?}");
                scored += work.scored;
                count += 1;
            }
        }
        assert!(scored <= 150 * count, "{} measurements scored anew on average", scored / count);
    }

    /// The gate: faults of generated sensors are found at the default threshold, and a jump is one incident at most.
    #[test]
    fn generated_faults_are_found() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let (mut total, mut jumps) = (Tally::default(), 0);
        for number in 0..35 {
            let (made, mut rows) = made(number, &mut random);
            let mut history = History::default();
            history.change(&mut rows, &rules(), &mut Work::default());
            let incidents = history.whole(&rules(), false).incidents;
            let labels: Vec<(i64, i64)> = made.labels.iter().map(|label| (label.start.0, label.end.0 + HOUR)).collect();
            let found: Vec<(i64, i64)> = incidents.iter().map(|incident| (incident.start.0, incident.end.0)).collect();
            total = total.plus(tally(&labels, &found));
            for (place, label) in made.labels.iter().enumerate().filter(|(_, label)| label.fault == Fault::Jump) {
                jumps += 1;
                let next = made.labels.get(place + 1).map_or(Moment::LAST, |next| next.start);
                let until = label.start.plus(10 * DAY).min(next);
                let after = incidents.iter().filter(|incident| label.start <= incident.start && incident.start < until).count();
                assert!(after <= 1, "{after} incidents after the jump of {} at {}: {incidents:?}", made.name, label.start);
            }
        }
        assert!(jumps >= 5, "{jumps} jumps");
        assert!(total.f1() >= 0.92, "F1 {} of {total:?}", total.f1());
    }
}
