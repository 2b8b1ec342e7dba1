//! The same tables by a plain computation over the whole set of records: obviously right, and slow.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use retally_core::calendar::{Calendar, Day};
use retally_core::contract::AsOf;
use retally_core::testing::Tables;
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// The settings that the oracle knows.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Where days begin.
    pub calendar: Calendar,
    /// Label and upper bound of each bucket.
    pub sizes: Vec<(&'static str, usize)>,
    /// Up to when open intervals are counted.
    pub as_of: AsOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    device: u64,
    time: Moment,
    user: u64,
    server: u64,
    connected: bool,
}

type Interval = (u64, u64, u64, Moment, Moment, &'static str);

impl Oracle {
    /// The tables of a set of lines: input 0 are events, input 1 servers.
    pub fn tables(&self, lines: &BTreeSet<(usize, String)>) -> Tables {
        let mut events = BTreeSet::new();
        let mut servers: BTreeMap<u64, (Moment, Moment)> = BTreeMap::new();
        for (input, line) in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let moment = |text: &str| self.calendar.parse(text.as_bytes()).unwrap();
            let number = |text: &str| text.parse::<u64>().unwrap();
            if *input == 0 {
                let (device, user, server) = (number(fields[1]), number(fields[2]), number(fields[3]));
                events.insert(Event { device, time: moment(fields[0]), user, server, connected: fields[4] == "true" });
            } else {
                let destroyed = if fields[2].is_empty() { Moment(i64::MAX) } else { moment(fields[2]) };
                let row = (destroyed, moment(fields[1]));
                let best = servers.entry(number(fields[0])).or_insert(row);
                *best = (*best).max(row);
            }
        }
        let as_of = match self.as_of {
            AsOf::At(moment) => moment,
            AsOf::Latest => match events.iter().map(|event| event.time).max() {
                Some(moment) => moment,
                None => return Tables::new(),
            },
            AsOf::Now => panic!("an oracle has no clock"),
        };
        let events: Vec<Event> = events.into_iter().filter(|event| event.time <= as_of).collect();
        let intervals = intervals(&events, &servers, as_of);
        let today = self.calendar.day_spanning(as_of);

        let mut tables = Tables::new();
        tables.insert(
            "online_intervals".into(),
            intervals
                .iter()
                .map(|(device, user, server, from, until, reason)| {
                    vec![
                        device.to_string(),
                        user.to_string(),
                        server.to_string(),
                        from.to_string(),
                        until.to_string(),
                        (*reason).to_string(),
                    ]
                })
                .collect(),
        );
        tables.insert("online_issues".into(), issues(&events, &servers));
        let Some(first) = intervals.iter().map(|interval| self.calendar.day_spanning(interval.3)).min() else { return tables };
        let daily = self.fleets(&intervals, first, today, 1);
        tables.insert("online_rolling_28d".into(), self.fleet_rows(&self.fleets(&intervals, first, today, 28)));
        tables.insert("online_summary".into(), self.summary(&intervals, first, today));
        tables.insert("online_projection".into(), self.projection(&daily, first, today));
        tables.insert("online_daily".into(), self.fleet_rows(&daily));
        tables
    }

    fn covers(&self, interval: &Interval, day: Day) -> bool {
        let (from, until) = (interval.3, interval.4);
        let overlaps = from < self.calendar.end(day) && until > self.calendar.start(day);
        overlaps || self.calendar.day_spanning(from) == day
    }

    /// Devices by day and bucket, with windows of `window` days.
    fn fleets(&self, intervals: &[Interval], first: Day, today: Day, window: i32) -> BTreeMap<(Day, usize), usize> {
        let mut counts = BTreeMap::new();
        for day in (first.0..=today.0).map(Day) {
            let mut fleets: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            for interval in intervals {
                if (0..window).any(|back| self.covers(interval, day.plus(-back))) {
                    fleets.entry(interval.1).or_default().insert(interval.0);
                }
            }
            for devices in fleets.values() {
                let bucket = self.sizes.iter().position(|(_, upper)| devices.len() <= *upper).unwrap();
                *counts.entry((day, bucket)).or_insert(0) += devices.len();
            }
        }
        counts
    }

    fn fleet_rows(&self, counts: &BTreeMap<(Day, usize), usize>) -> Vec<Vec<String>> {
        counts.iter().map(|((day, bucket), count)| vec![day.to_string(), self.sizes[*bucket].0.into(), count.to_string()]).collect()
    }

    fn summary(&self, intervals: &[Interval], first: Day, today: Day) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for day in (first.0..=today.0).map(Day) {
            let there: Vec<&Interval> = intervals.iter().filter(|interval| self.covers(interval, day)).collect();
            if there.is_empty() {
                continue;
            }
            let users: BTreeSet<u64> = there.iter().map(|interval| interval.1).collect();
            let devices: BTreeSet<u64> = there.iter().map(|interval| interval.0).collect();
            let online = devices.len().to_string();
            let mut micros = 0;
            let mut new = 0;
            for device in devices {
                let mine = || intervals.iter().filter(|interval| interval.0 == device);
                let mut until = self.calendar.start(day);
                let mut sorted: Vec<(Moment, Moment)> = mine().map(|interval| (interval.3, interval.4)).collect();
                sorted.sort();
                for (start, end) in sorted {
                    let (start, end) = (start.max(until), end.min(self.calendar.end(day)));
                    if end > start {
                        micros += end.0 - start.0;
                        until = end;
                    }
                }
                new += u64::from(mine().map(|interval| self.calendar.day_spanning(interval.3)).min() == Some(day));
            }
            let hours = micros as f64 / 3.6e9;
            rows.push(vec![day.to_string(), online, users.len().to_string(), hours.to_string(), new.to_string()]);
        }
        rows
    }

    fn projection(&self, daily: &BTreeMap<(Day, usize), usize>, first: Day, today: Day) -> Vec<Vec<String>> {
        let from = first.max(today.plus(-28));
        let n = (today.0 - from.0) as usize;
        let mut rows = BTreeMap::new();
        for (bucket, (label, _)) in self.sizes.iter().enumerate() {
            let y: Vec<f64> = (from.0..today.0).map(|day| daily.get(&(Day(day), bucket)).copied().unwrap_or(0) as f64).collect();
            if n < 7 || y.iter().all(|y| *y == 0.0) {
                continue;
            }
            let count = n as f64;
            let (mean_x, mean_y) = ((count - 1.0) / 2.0, y.iter().sum::<f64>() / count);
            let sxx: f64 = (0..n).map(|x| (x as f64 - mean_x).powi(2)).sum();
            let slope = y.iter().enumerate().map(|(x, y)| (x as f64 - mean_x) * (y - mean_y)).sum::<f64>() / sxx;
            let sse: f64 = y.iter().enumerate().map(|(x, y)| (y - mean_y - slope * (x as f64 - mean_x)).powi(2)).sum();
            // Student's t, 0.975, for 5 to 26 degrees of freedom: from a table.
            const T: [f64; 22] = [
                2.5705818366,
                2.4469118511,
                2.3646242516,
                2.3060041352,
                2.2621571628,
                2.2281388520,
                2.2009851601,
                2.1788128297,
                2.1603686565,
                2.1447866879,
                2.1314495456,
                2.1199052992,
                2.1098155778,
                2.1009220402,
                2.0930240544,
                2.0859634473,
                2.0796138447,
                2.0738730679,
                2.0686576104,
                2.0638985616,
                2.0595385528,
                2.0555294386,
            ];
            for ahead in 1..=28 {
                let x = (n - 1) as f64 + f64::from(ahead) + 1.0;
                let value = mean_y + slope * (x - mean_x);
                let margin = T[n - 7] * (sse / (count - 2.0) * (1.0 + 1.0 / count + (x - mean_x).powi(2) / sxx)).sqrt();
                let held = |value: f64| value.max(0.0).to_string();
                let day = today.plus(ahead);
                rows.insert((day, bucket), vec![day.to_string(), (*label).into(), held(value), held(value - margin), held(value + margin)]);
            }
        }
        rows.into_values().collect()
    }
}

fn intervals(events: &[Event], servers: &BTreeMap<u64, (Moment, Moment)>, as_of: Moment) -> Vec<Interval> {
    let mut intervals = BTreeSet::new();
    for (index, current) in events.iter().enumerate() {
        let next = events.get(index + 1).filter(|next| next.device == current.device);
        let destroyed = servers.get(&current.server).map_or(Moment(i64::MAX), |row| row.0);
        // The table of rules, line by line.
        let (until, reason) = match (current.connected, next) {
            (true, Some(next)) if next.connected && next.server == current.server => (next.time, "reconnected"),
            (true, Some(next)) if next.connected && destroyed < next.time => (destroyed, "server_destroyed"),
            (true, Some(next)) if next.connected => (next.time, "reconnected"),
            (true, Some(next)) if next.server == current.server => (next.time, "offline"),
            (true, _) if destroyed <= as_of => (destroyed, "server_destroyed"),
            (true, _) => (as_of, "still_online"),
            (false, _) => continue,
        };
        intervals.insert((current.device, current.user, current.server, current.time, until.max(current.time), reason));
    }
    intervals.into_iter().collect()
}

fn issues(events: &[Event], servers: &BTreeMap<u64, (Moment, Moment)>) -> Vec<Vec<String>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, current) in events.iter().enumerate() {
        match servers.get(&current.server) {
            None => *counts.entry("unknown_server").or_default() += 1,
            Some((destroyed, created)) if current.time < *created || current.time > *destroyed => {
                *counts.entry("outside_server_lifetime").or_default() += 1;
            }
            Some(_) => {}
        }
        if events.iter().any(|other| (other.device, other.time, other.connected) == (current.device, current.time, !current.connected)) {
            *counts.entry("same_time").or_default() += 1;
        }
        if let Some(next) = events.get(index + 1).filter(|next| next.device == current.device) {
            match (current.connected, next.connected) {
                (true, true) => *counts.entry("missing_offline").or_default() += 1,
                (false, false) => *counts.entry("repeated_offline").or_default() += 1,
                (true, false) if current.server != next.server => *counts.entry("mismatched_offline").or_default() += 1,
                _ => {}
            }
        }
    }
    counts.into_iter().map(|(issue, count)| vec![issue.into(), count.to_string()]).collect()
}
