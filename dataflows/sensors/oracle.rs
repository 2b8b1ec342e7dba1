//! The same tables by a plain computation over the whole set of lines: everything from the start, and nothing remembered.
//!
//! It shares the arithmetic of one day, one week and one list with the graph (moments, forecasts, lines, scores), which have tests of
//! their own against known answers and a plain version of the method; not what decides which of them to repeat, and not how readings are
//! kept, counted and named.

use crate::alarms::{self, Standout};
use crate::anomalies::{self, Tempo};
use crate::contrast;
use crate::habit;
use crate::leaf::{self, Hour, Rhythm};
use crate::outliers;
use crate::records::{Reading, Sensor, Value};
use crate::seen::{Seen, day_of};
use crate::segments::{self, Part};
use crate::size::Size;
use crate::tables::{self, Tail};
use crate::unusual;
use crate::window::{self, Found, Window};
use retally_core::calendar::{Calendar, Naming};
use retally_core::contract::AsOf;
use retally_core::row::{Column, values};
use retally_core::testing::Tables;
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// The settings that the oracle knows.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub calendar: Calendar,
    pub threshold: f64,
    pub as_of: AsOf,
}

impl Oracle {
    /// The tables of a set of lines: input 0 is the mapping, input 1 are measurements.
    pub fn tables(&self, lines: &BTreeSet<(usize, String)>) -> Tables {
        let mut names: BTreeSet<(String, u128)> = BTreeSet::new();
        let mut sensors: BTreeMap<u128, BTreeSet<(Moment, Value)>> = BTreeMap::new();
        let mut issues: BTreeMap<&str, usize> = BTreeMap::new();
        let mut written: BTreeSet<(u128, Moment, Value, &str)> = BTreeSet::new();
        for (input, line) in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let sensor = fields[1].replace('-', "");
            let sensor = u128::from_str_radix(&sensor, 16).unwrap();
            if *input == 0 {
                names.insert((fields[0].into(), sensor));
                continue;
            }
            let (time, naming) = self.calendar.parse_naming(fields[0].as_bytes()).unwrap();
            if matches!(self.as_of, AsOf::At(moment) if time > moment) {
                continue;
            }
            let value = Value::new(fields[2].parse().unwrap()).unwrap();
            sensors.entry(sensor).or_default().insert((time, value));
            match naming {
                Naming::Unique => false,
                Naming::Ambiguous => written.insert((sensor, time, value, "ambiguous_local_time")),
                Naming::Missing => written.insert((sensor, time, value, "missing_local_time")),
            };
        }
        written.iter().for_each(|(.., issue)| *issues.entry(issue).or_default() += 1);

        // Names: the smallest UUID of each, then the smallest name of each UUID.
        let mut first: BTreeMap<&str, u128> = BTreeMap::new();
        for (name, sensor) in &names {
            first.entry(name).or_insert(*sensor);
        }
        let mut named: BTreeMap<u128, &str> = BTreeMap::new();
        for (name, sensor) in &first {
            named.entry(*sensor).or_insert(name);
        }
        *issues.entry("mapping_conflict").or_default() += names.len() - named.len();

        let declared: BTreeMap<&str, Vec<Column>> =
            tables::tables(tables::NamedBy::default()).into_iter().map(|table| (table.name, table.columns)).collect();
        let text = |table: &str, row: &[u8]| values(&declared[table], row).map(|value| value.to_string()).collect::<Vec<String>>();
        let mut found: Tables = declared.keys().map(|table| (table.to_string(), Vec::new())).collect();
        let mut push = |table: &str, row: Vec<String>| found.get_mut(table).unwrap().push(row);
        for (sensor, name) in &named {
            push(tables::MAPPING, text(tables::MAPPING, &tables::NamedBy::default().mapping_row(name, Sensor(*sensor)).0));
            *issues.entry("sensor_without_data").or_default() += usize::from(!sensors.contains_key(sensor));
        }
        for (sensor, readings) in &sensors {
            let name = named.get(sensor).copied().unwrap_or_default();
            let mut at: BTreeMap<Moment, usize> = BTreeMap::new();
            readings.iter().for_each(|(time, _)| *at.entry(*time).or_default() += 1);
            *issues.entry("conflicting_value").or_default() += at.values().filter(|count| **count > 1).sum::<usize>();
            if name.is_empty() {
                *issues.entry("unmapped_sensor").or_default() += readings.len();
            }
            let readings: Vec<Reading> = readings.iter().map(|(time, value)| Reading::new(*time, Naming::Unique, *value)).collect();
            for Tail { table, rest } in self.tails(&readings) {
                let table = tables::OF_SENSORS[usize::from(table)];
                push(table, text(table, &Tail { table: 0, rest }.row(tables::NamedBy::default(), name, Sensor(*sensor)).0));
            }
        }
        for (issue, rows) in issues.into_iter().filter(|(_, rows)| *rows > 0) {
            push(tables::ISSUES, vec![issue.into(), rows.to_string()]);
        }
        // As rows sort: numbers and times by value; here by the bytes of the row, which are tested in the core.
        for (table, rows) in &mut found {
            let numeric = |column: usize| {
                use retally_core::row::ColumnType::{Float, UInt};
                matches!(declared[table.as_str()][column].kind, Float | UInt)
            };
            rows.sort_by(|a, b| {
                let cells = (0..a.len()).map(|column| match numeric(column) {
                    true => a[column].parse::<f64>().unwrap().total_cmp(&b[column].parse::<f64>().unwrap()),
                    // A time with a fraction sorts behind one without.
                    false => a[column].trim_end_matches('Z').cmp(b[column].trim_end_matches('Z')),
                });
                cells.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            });
        }
        found
    }

    /// The whole result for a sensor.
    pub fn tails(&self, readings: &[Reading]) -> Vec<Tail> {
        let mut hours: BTreeMap<Hour, Vec<Reading>> = BTreeMap::new();
        readings.iter().for_each(|reading| hours.entry(leaf::hour(reading.time())).or_default().push(*reading));
        let (first, last) = (*hours.keys().next().unwrap(), *hours.keys().next_back().unwrap());

        // All days in one go.
        let (start, end) = (day_of(first) - window::DAYS_BEFORE, day_of(last) + 1);
        let mut window = Window::new(start, end, &self.calendar);
        let moments: BTreeMap<Hour, _> = hours.iter().map(|(hour, readings)| (*hour, leaf::moments(*hour, readings.iter()))).collect();
        let mut rhythms: BTreeMap<Hour, (usize, Rhythm)> = BTreeMap::new();
        let mut before: Option<Reading> = None;
        for (hour, readings) in &hours {
            rhythms.insert(*hour, (readings.len(), Rhythm::of(before, readings.iter())));
            before = readings.last().copied();
        }
        for (hour, of_hour) in &moments {
            let largest = hours[hour].iter().map(|reading| reading.value.summed().abs()).fold(0.0, f64::max);
            let inner = of_hour.yy / of_hour.n;
            let spread = contrast::spread(of_hour.n, inner, largest);
            let seen = Seen { rows: of_hour.n, mean: of_hour.y, inner, largest, spread, rhythm: rhythms[hour].1 };
            window.set(*hour, seen, Found::default());
        }
        let mut distant: BTreeMap<Hour, [Option<contrast::Distance>; 2]> = BTreeMap::new();
        for place in 0..usize::try_from(end - start).unwrap() {
            window.renew_errors(place);
            window.renew_contrasts(place);
            window.renew_baselines(place, true);
            window.distant(place, 0.8 * self.threshold, |at, beside, distance| {
                let hour = start * 24 + Hour::try_from(at).unwrap();
                distant.entry(hour).or_default()[usize::from(beside == contrast::Beside::Spread)] = Some(distance);
            });
        }
        let baselines: BTreeMap<Hour, _> = hours.keys().map(|hour| (*hour, window.found(*hour).baseline)).collect();

        let mut before: Vec<Reading> = Vec::new();
        let mut farthest: BTreeMap<Hour, Size> = BTreeMap::new();
        let mut standouts: BTreeMap<Hour, Standout> = BTreeMap::new();
        for (hour, readings) in &hours {
            if let Some(baseline) = &baselines[hour] {
                let recent: Vec<_> = rhythms.range(hour - 168..*hour).collect();
                let n: usize = recent.iter().map(|(_, (n, _))| n).sum();
                let repeats = recent.iter().map(|(_, (_, rhythm))| rhythm.repeats).sum();
                let longest = recent.iter().map(|(_, (_, rhythm))| rhythm.longest_seconds).fold(0.0, f32::max);
                let since = recent.first().map_or(0, |(first, _)| hour - **first);
                let tempo = Tempo::new(n as f64, repeats, since, longest);
                let beside = distant.get(hour).copied().unwrap_or_default();
                let with_last = beside != [None; 2];
                let earlier = before.iter().rev();
                let (rows, far) = anomalies::score(*hour, readings.iter(), earlier, baseline, &tempo, self.threshold, with_last);
                farthest.insert(*hour, far);
                if !rows.is_empty() {
                    standouts.insert(*hour, Standout { rows, beside, ..Standout::default() });
                }
            }
            before.extend(readings);
        }
        // The largest of each of 28 days of 24 hours before an hour, one by one.
        let habit =
            |hour: Hour, size: &dyn Fn(Hour) -> Size| {
                habit::habit((0..28).map(|day| {
                    (1..=24).map(|back| size(hour - 24 * day - back)).filter(|size| size.is_known()).max().unwrap_or(Size::NONE)
                }))
            };
        for (hour, standout) in &mut standouts {
            standout.habit = habit(*hour, &|hour| farthest.get(&hour).copied().unwrap_or(Size::NONE));
            for (slot, distance) in standout.habits.iter_mut().zip(standout.beside) {
                let of = |distance: contrast::Distance| {
                    habit(*hour, &|hour| {
                        if hours.contains_key(&hour) { window.found(hour).contrasts[distance.contrast] } else { Size::NONE }
                    })
                };
                *slot = distance.map_or(0.0, of);
            }
        }

        let mut weeks: BTreeMap<i32, Vec<Part>> = BTreeMap::new();
        for (hour, of_hour) in &hours {
            let around: Vec<Reading> = hours.range(hour - 1..=hour + 1).flat_map(|(_, readings)| readings).copied().collect();
            let moments = outliers::cleaned(*hour, of_hour.iter(), around.iter()).unwrap_or(moments[hour]);
            let part = Part { hour: *hour, moments, measurements: u32::try_from(of_hour.len()).unwrap() };
            let day = self.calendar.day_spanning(leaf::start(*hour));
            // Monday, 1970-01-05, is day 4.
            weeks.entry((day.0 - 4).div_euclid(7)).or_default().push(part);
        }
        let times = |first: Hour, last: Hour| Some((hours[&first].first()?.time(), hours[&last].last()?.time()));
        let lines: Vec<_> = weeks.values().map(|parts| segments::of_week(parts, times)).collect();
        let pieces = segments::merged(lines.iter().map(Vec::as_slice));
        let (anomalies, incidents) = alarms::together(standouts.values(), &pieces, self.threshold);
        let mean_by = |first: f64, then: f64| readings.iter().map(|reading| reading.value.get() / first).sum::<f64>() / then;
        let mean = mean_by(1.0, readings.len() as f64);
        let mean = if mean.is_finite() { mean } else { mean_by(readings.len() as f64, 1.0) };
        let by_value = |least: bool| readings.iter().map(|reading| reading.value).reduce(|a, b| if least { a.min(b) } else { a.max(b) });
        let summary = crate::sensor::Summary {
            times: (readings[0].time(), readings[readings.len() - 1].time()),
            measurements: readings.len() as u64,
            scored: readings.iter().filter(|reading| baselines[&leaf::hour(reading.time())].is_some()).count() as u64,
            extremes: (by_value(true).unwrap(), by_value(false).unwrap()),
            mean,
        };
        let all: Vec<_> = moments.into_iter().collect();
        let unusual = unusual::stretches(&all);
        let whole =
            crate::sensor::Whole { summary: Some(summary), segments: pieces.segments, anomalies, incidents, unusual, issues: [0; 3] };
        tables::tails(&whole)
    }
}
