//! The same tables by a plain computation over whole files: obviously right, slow, and nothing of the machine's.

#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

/// A point of the oracle: measurement, time, fields as text.
pub type Point = (&'static str, i128, String);

/// What the oracle finds in a dataset.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    pub salvageable: bool,
    pub points: Vec<Point>,
    pub span_ns: Option<(i128, i128)>,
    pub lost_fs: i128,
    pub skipped: u64,
    pub teeth: BTreeMap<u32, (u64, f64)>,
}

const FS: f64 = 1e15;

#[derive(Clone, Debug)]
struct Event {
    tick: i128,
    time_ns: i128,
    battery: Option<f64>,
    interval: Option<f64>,
}

/// Which of the readable records count; the rest is garbage.
fn accepted<R: Clone>(records: &[R], tick: impl Fn(&R) -> i128, too_far: impl Fn(Option<&R>, i128, i128) -> bool) -> Vec<R> {
    let mut taken: Vec<R> = Vec::new();
    let mut at = 0;
    while at < records.len() {
        let record = &records[at];
        at += 1;
        let Some(last) = taken.last().cloned() else {
            taken.push(record.clone());
            continue;
        };
        if tick(record) <= tick(&last) {
            continue;
        }
        if too_far(Some(&last), tick(&last), tick(record)) {
            let confirmed =
                records.get(at).is_some_and(|next| tick(next) > tick(record) && !too_far(Some(&last), tick(record), tick(next)));
            if !confirmed {
                continue;
            }
            taken.push(record.clone());
            taken.push(records[at].clone());
            at += 1;
            continue;
        }
        taken.push(record.clone());
    }
    taken
}

fn fs(seconds: f64) -> i128 {
    // Test intervals have few decimals.
    (seconds * FS / 1e9).round() as i128 * 1_000_000_000
}

fn settings_record(line: &str) -> Option<Event> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let object = value.as_object()?;
    let number = |names: &[&str]| names.iter().find_map(|name| object.get(*name)).filter(|value| !value.is_null());
    let time = number(&["time", "timestamp", "unix_time"])?.as_f64()?;
    let tick = number(&["tick"])?.as_u64()? as i128;
    let battery = number(&["battery", "battery_level"]).map(|value| value.as_f64().filter(|battery| (0.0..=1.0).contains(battery)));
    let interval =
        number(&["tick_interval", "interval"]).map(|value| value.as_f64().filter(|interval| *interval > 0.0 && *interval <= 60.0));
    let good = (0.0..7_289_654_400.0).contains(&time)
        && battery != Some(None)
        && interval != Some(None)
        && (battery.is_some() || interval.is_some());
    let event = Event { tick, time_ns: (time * 1e3).round() as i128 * 1_000_000, battery: battery.flatten(), interval: interval.flatten() };
    good.then_some(event)
}

fn tick_record(line: &str) -> Option<(i128, u32, f64)> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [tick, tooth, percent, ..] = fields.as_slice() else { return None };
    let tick: u64 = tick.parse().ok().filter(|_| !tick.starts_with('+'))?;
    let tooth: u32 = tooth.parse().ok().filter(|_| !tooth.starts_with('+'))?;
    let percent: f64 = percent.parse().ok()?;
    (tick <= i64::MAX as u64 && tooth < 32 && (0.0..=1.0).contains(&percent)).then_some((tick.into(), tooth, percent))
}

/// All lines that are not blank; those that are no text stay no records.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text: Vec<String> = bytes.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    text.into_iter().filter(|line| !line.trim().is_empty()).collect()
}

/// Reads a dataset. `gap_seconds` is `--max-gap`.
pub fn read(brushing: &[u8], settings: &[u8], gap_seconds: f64) -> Found {
    let mut found = Found::default();
    let mut settings_lines = lines(settings);
    let total_settings = settings_lines.len() as u64;
    let first = settings_lines
        .iter()
        .position(|line| settings_record(line).is_some_and(|event| event.battery.is_some() && event.interval.is_some()));
    let Some(first) = first else {
        found.skipped = total_settings;
        return found;
    };
    found.salvageable = true;
    settings_lines.drain(..first);
    let readable: Vec<Event> = settings_lines.iter().filter_map(|line| settings_record(line)).collect();
    // What a line leaves out keeps its value, and how far is too far depends on it: so one after the other.
    let mut events: Vec<Event> = Vec::new();
    let mut at = 0;
    while at < readable.len() {
        let taken = {
            let interval = events.iter().rev().find_map(|event| event.interval).unwrap_or(60.0);
            let mut window: Vec<Event> = events.last().cloned().into_iter().collect();
            let known = window.len();
            window.extend(readable[at..].iter().take(2).cloned());
            let accepted = accepted(&window, |event| event.tick, |_, last, tick| (tick - last) * fs(interval) > fs(gap_seconds));
            // The first of the two is decided; the second only where it confirmed the first.
            let first_tick = window[known].tick;
            let mut new: Vec<Event> = accepted[known..].to_vec();
            let far = events.last().is_some_and(|last| (first_tick - last.tick) * fs(interval) > fs(gap_seconds));
            if !(far && new.first().is_some_and(|event| event.tick == first_tick) && new.len() == 2) {
                new.retain(|event| event.tick == first_tick && !far);
                new.truncate(1);
            }
            new
        };
        at += taken.len().max(1);
        events.extend(taken);
    }
    let mut full: Vec<(i128, i128, f64, f64)> = Vec::new();
    for event in &events {
        let battery = event.battery.unwrap_or_else(|| full.last().unwrap().2);
        let interval = event.interval.unwrap_or_else(|| full.last().unwrap().3);
        full.push((event.tick, event.time_ns, battery, interval));
        found.points.push(("settings", event.time_ns, format!("{} {:?} {:?}", event.tick, event.battery, event.interval)));
    }
    let force = |tick: i128| *full.iter().rev().find(|event| event.0 <= tick).unwrap_or(&full[0]);
    let time = |tick: i128| {
        let (from, time_ns, _, interval) = force(tick);
        time_ns + ((tick - from) * fs(interval)).div_euclid(1_000_000)
    };
    let mut brushing_lines = lines(brushing);
    let starts_blank = brushing.split(|byte| *byte == b'\n').next().is_none_or(|line| String::from_utf8_lossy(line).trim().is_empty());
    let header = !starts_blank
        && brushing_lines.first().is_some_and(|line| line.split(',').any(|name| ["tick", "tooth", "percent_clean"].contains(&name.trim())));
    if header {
        brushing_lines.remove(0);
    }
    let readable: Vec<(i128, u32, f64)> = brushing_lines.iter().filter_map(|line| tick_record(line)).collect();
    // In range of time. (Those of the tests are by all events, or by none.)
    let in_time = |tick: i128| (0..7_289_654_400_000_000_000).contains(&(full[0].1 + (tick - full[0].0) * fs(full[0].3) / 1_000_000));
    let readable: Vec<_> = readable.into_iter().filter(|tick| in_time(tick.0)).collect();
    let ticks = accepted(&readable, |tick| tick.0, |last, from, tick| (tick - from) * fs(force(last.unwrap().0).3) > fs(gap_seconds));
    let mut next = 0;
    let mut lost = 0;
    for (tick, tooth, percent) in &ticks {
        // Missing ticks, range by range of settings.
        let mut from = next;
        while from < *tick {
            let until = full.iter().map(|event| event.0).find(|start| *start > from).unwrap_or(*tick).min(*tick);
            lost += (until - from) * fs(force(from).3);
            from = until;
        }
        next = tick + 1;
        let (_, _, battery, interval) = force(*tick);
        found.points.push(("brushing", time(*tick), format!("{tick} {tooth} {percent:?} {battery:?} {interval:?}")));
        let sums = found.teeth.entry(*tooth).or_default();
        sums.0 += 1;
        sums.1 += percent;
    }
    found.lost_fs = lost;
    found.skipped = total_settings - events.len() as u64 + brushing_lines.len() as u64 - ticks.len() as u64;
    let ends = [
        ticks
            .first()
            .map(|first| (time(first.0), ticks.last().unwrap().0))
            .map(|(start, last)| (start, time(last) + fs(force(last).3) / 1_000_000)),
        Some((full[0].1, full.last().unwrap().1 + fs(full.last().unwrap().3) / 1_000_000)),
    ];
    found.span_ns =
        Some((ends.iter().flatten().map(|span| span.0).min().unwrap(), ends.iter().flatten().map(|span| span.1).max().unwrap()));
    found
}
