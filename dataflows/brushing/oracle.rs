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
    /// Streams (0 for brushing) and lines, from 0: settings first, in order.
    pub skipped: Vec<(usize, usize)>,
    pub teeth: BTreeMap<u32, (u64, f64)>,
}

const FS: f64 = 1e15;

/// What a settings line says.
#[derive(Clone, Debug)]
struct Event {
    line: usize,
    tick: i128,
    time_ns: i128,
    battery: Option<f64>,
    interval: Option<f64>,
}

/// An event that counts, with all its values.
#[derive(Clone, Debug)]
struct Full {
    line: usize,
    tick: i128,
    time_ns: i128,
    battery: f64,
    interval: f64,
}

impl Full {
    /// How far a line's time lies from where its tick should be.
    fn off_fs(&self, event: &Event) -> i128 {
        ((event.time_ns - self.time_ns) * 1_000_000 - (event.tick - self.tick) * fs(self.interval)).abs()
    }

    fn then(&self, event: &Event) -> Full {
        let Event { line, tick, time_ns, battery, interval } = *event;
        Full { line, tick, time_ns, battery: battery.unwrap_or(self.battery), interval: interval.unwrap_or(self.interval) }
    }
}

/// Which of the readable settings count, from the first that has both values on.
fn timeline(readable: &[Event], gap_fs: i128) -> Vec<Full> {
    let mut full: Vec<Full> = Vec::new();
    for (at, event) in readable.iter().enumerate() {
        let Some(last) = full.last() else {
            if let (Some(battery), Some(interval)) = (event.battery, event.interval) {
                full.push(Full { line: event.line, tick: event.tick, time_ns: event.time_ns, battery, interval });
            }
            continue;
        };
        if event.tick <= last.tick || event.time_ns < last.time_ns {
            continue;
        }
        let taken = last.then(event);
        // How long ticks are, the earlier of two lines says.
        let ahead_fs = |from: &Full, to: &Event| (to.tick - from.tick) * fs(from.interval);
        let tick_is_far = ahead_fs(last, event) > gap_fs;
        let time_is_far = last.off_fs(event) > gap_fs;
        let confirmed = || {
            readable.get(at + 1).filter(|next| next.tick > event.tick).is_some_and(|next| {
                let tick_goes_on = ahead_fs(&taken, next) <= gap_fs;
                let time_agrees = next.time_ns >= event.time_ns && taken.off_fs(next) <= gap_fs;
                (tick_goes_on || !tick_is_far) && (time_agrees || !time_is_far)
            })
        };
        if (!tick_is_far && !time_is_far) || confirmed() {
            full.push(taken);
        }
    }
    full
}

/// Which of the readable records count; the rest is garbage.
fn accepted<R: Clone>(records: &[R], tick: impl Fn(&R) -> i128, too_far: impl Fn(i128, i128) -> bool) -> Vec<R> {
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
        if too_far(tick(&last), tick(record)) {
            let confirmed = records.get(at).is_some_and(|next| tick(next) > tick(record) && !too_far(tick(record), tick(next)));
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

fn settings_record(line: usize, text: &str) -> Option<Event> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
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
    let event =
        Event { line, tick, time_ns: (time * 1e3).round() as i128 * 1_000_000, battery: battery.flatten(), interval: interval.flatten() };
    good.then_some(event)
}

fn tick_record(line: &str) -> Option<(i128, u32, f64)> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let fields = fields.strip_suffix(&[""]).unwrap_or(&fields);
    let [tick, tooth, percent] = fields else { return None };
    let tick: u64 = tick.parse().ok().filter(|_| !tick.starts_with('+'))?;
    let tooth: u32 = tooth.parse().ok().filter(|_| !tooth.starts_with('+'))?;
    let percent: f64 = percent.parse().ok()?;
    (tick <= i64::MAX as u64 && tooth < 32 && (0.0..=1.0).contains(&percent)).then_some((tick.into(), tooth, percent))
}

/// All lines that are not blank, with their numbers; those that are no text stay no records.
fn lines(bytes: &[u8]) -> Vec<(usize, String)> {
    let text = bytes.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).enumerate();
    text.filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// The numbers of lines that are not among those that count.
fn without(stream: usize, lines: &[(usize, String)], good: &[usize]) -> Vec<(usize, usize)> {
    lines.iter().map(|(number, _)| *number).filter(|number| !good.contains(number)).map(|number| (stream, number)).collect()
}

/// Reads a dataset. `gap_seconds` is `--max-gap`.
pub fn read(brushing: &[u8], settings: &[u8], gap_seconds: f64) -> Found {
    let mut found = Found::default();
    let settings_lines = lines(settings);
    let readable: Vec<Event> = settings_lines.iter().filter_map(|(number, line)| settings_record(*number, line)).collect();
    let full = timeline(&readable, fs(gap_seconds));
    found.skipped = without(1, &settings_lines, &full.iter().map(|event| event.line).collect::<Vec<_>>());
    if full.is_empty() {
        return found;
    }
    found.salvageable = true;
    for Full { line, tick, time_ns, .. } in &full {
        let said = readable.iter().find(|event| event.line == *line).unwrap();
        found.points.push(("settings", *time_ns, format!("{tick} {:?} {:?}", said.battery, said.interval)));
    }
    let full: Vec<(i128, i128, f64, f64)> = full.iter().map(|event| (event.tick, event.time_ns, event.battery, event.interval)).collect();
    let force = |tick: i128| *full.iter().rev().find(|event| event.0 <= tick).unwrap_or(&full[0]);
    let time = |tick: i128| {
        let (from, time_ns, _, interval) = force(tick);
        time_ns + ((tick - from) * fs(interval)).div_euclid(1_000_000)
    };
    let mut brushing_lines = lines(brushing);
    let before = brushing_lines.iter().take_while(|(_, line)| line.starts_with('#') || line.to_lowercase().starts_with("sep=")).count();
    brushing_lines.drain(..before);
    let header = brushing_lines
        .first()
        .is_some_and(|(_, line)| line.split(',').any(|name| ["tick", "tooth", "percent_clean"].contains(&name.trim())));
    if header {
        brushing_lines.remove(0);
    }
    let readable =
        brushing_lines.iter().filter_map(|(number, line)| tick_record(line).map(|(tick, tooth, percent)| (tick, tooth, percent, *number)));
    let readable: Vec<(i128, u32, f64, usize)> = readable.collect();
    // Times by the event in force at the tick itself.
    let time_fs = |tick: i128| {
        let (from, time_ns, _, interval) = force(tick);
        time_ns * 1_000_000 + (tick - from) * fs(interval)
    };
    let in_time = |tick: i128| (0..7_289_654_400_000_000_000).contains(&time(tick));
    let readable: Vec<_> = readable.into_iter().filter(|tick| in_time(tick.0)).collect();
    let ticks = accepted(&readable, |tick| tick.0, |from, tick| time_fs(tick) - time_fs(from) > fs(gap_seconds));
    let mut next = 0;
    let mut lost = 0;
    for (tick, tooth, percent, _) in &ticks {
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
    found.skipped.extend(without(0, &brushing_lines, &ticks.iter().map(|tick| tick.3).collect::<Vec<_>>()));
    if ticks.is_empty() && !brushing_lines.is_empty() {
        found.salvageable = false;
        return found;
    }
    found.lost_fs = lost;
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
