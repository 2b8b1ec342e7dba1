//! The tables by a plain computation: events in a list, every question answered by a look at all of them.

use chrono::{DateTime, NaiveDate, TimeDelta, TimeZone};
use retally_core::testing::Tables;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The settings that the oracle knows.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub zone: chrono_tz::Tz,
    pub max_session_micros: Option<i64>,
    pub as_of_micros: Option<i64>,
}

/// Time in microseconds, log, type without `Event`, and the content.
type Event = (i64, String, String, String);

#[derive(Clone, Debug)]
struct Session {
    device: String,
    id: String,
    start: i64,
    end: Option<i64>,
    school: Option<String>,
}

fn event(line: &str) -> Event {
    let object: Value = serde_json::from_str(line).unwrap();
    let text = |key: &str| object[key].as_str().map(String::from);
    let kind = ["type", "eventType", "event", "@type"].into_iter().find_map(text).unwrap();
    let kind = kind.strip_suffix("Event").unwrap_or(&kind).to_string();
    let said = ["logType", "name", "schoolId", "sessionId"].into_iter().find_map(text).unwrap();
    let said = if kind == "SetName" || kind == "SetLogType" { said } else { said.to_lowercase() };
    let time = DateTime::parse_from_rfc3339(&text("time").unwrap()).unwrap().timestamp_micros();
    (time, text("logId").unwrap().to_lowercase(), kind, said)
}

fn utc(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap();
    let form = if micros % 1_000_000 == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" };
    time.format(form).to_string()
}

fn minutes(micros: i64) -> String {
    (micros as f64 / 60e6).to_string()
}

impl Oracle {
    /// The tables of a set of lines.
    pub fn tables(&self, lines: &BTreeSet<(usize, String)>) -> Tables {
        let events: BTreeSet<Event> = lines.iter().map(|(_, line)| event(line)).collect();
        let events: Vec<Event> = events.into_iter().filter(|event| self.as_of_micros.is_none_or(|as_of| event.0 <= as_of)).collect();
        let mut tables = Tables::new();
        let Some(last) = events.iter().map(|event| event.0).max() else { return tables };
        let first = events.iter().map(|event| event.0).min().unwrap();
        let mut issues: BTreeMap<&str, usize> = BTreeMap::new();
        let mut issue = |name: &'static str, count: usize| *issues.entry(name).or_default() += count;

        // Types, names, and what is left out.
        let logs: BTreeSet<&String> = events.iter().map(|event| &event.1).collect();
        let of = |log: &str, kind: &str| -> Vec<&Event> { events.iter().filter(|event| event.1 == log && event.2 == kind).collect() };
        let type_of =
            |log: &str| of(log, "SetLogType").into_iter().map(|event| (event.0, event.3 == "School")).max().map(|(_, school)| school);
        let is_school = |log: &str| type_of(log) == Some(true);
        let name_of = |log: &str| {
            let latest = of(log, "SetName").into_iter().map(|event| (event.0, event.3.clone())).max();
            latest.filter(|_| is_school(log)).map(|(_, name)| name)
        };
        let mut devices = BTreeSet::new();
        for log in &logs {
            let of_device = ["AssignToSchool", "StartSession", "EndSession"].map(|kind| of(log, kind).len()).iter().sum::<usize>();
            match type_of(log) {
                None => issue("missing_log_type", 1),
                Some(true) => issue("wrong_log_type", of_device),
                Some(false) => issue("wrong_log_type", of(log, "SetName").len()),
            }
            if is_school(log) && name_of(log).is_none() {
                issue("unnamed_school", 1);
            }
            if type_of(log) == Some(false) || (type_of(log).is_none() && of_device > 0) {
                devices.insert((*log).clone());
            }
        }
        let school_at = |device: &str, time: i64| {
            let latest =
                of(device, "AssignToSchool").into_iter().filter(|event| event.0 <= time).map(|event| (event.0, event.3.clone())).max();
            latest.map(|(_, school)| school)
        };

        let mut sessions = Vec::new();
        for device in &devices {
            issue("unknown_school", of(device, "AssignToSchool").into_iter().filter(|event| !is_school(&event.3)).count());
            let (starts, ends) = (of(device, "StartSession"), of(device, "EndSession"));
            let ids: BTreeSet<&String> = starts.iter().chain(&ends).map(|event| &event.3).collect();
            for id in ids {
                let times = |events: &[&Event]| -> Vec<i64> { events.iter().filter(|event| event.3 == *id).map(|event| event.0).collect() };
                let (starts, ends) = (times(&starts), times(&ends));
                let Some(start) = starts.iter().copied().min() else {
                    issue("end_without_start", ends.len());
                    continue;
                };
                let (before, after): (Vec<i64>, Vec<i64>) = ends.into_iter().partition(|end| *end < start);
                issue("duplicate_start", starts.len() - 1);
                issue("end_before_start", before.len());
                issue("duplicate_end", after.len().saturating_sub(1));
                let mut end = after.into_iter().min();
                if end.is_some_and(|end| self.max_session_micros.is_some_and(|most| end - start > most)) {
                    issue("session_too_long", 1);
                    end = None;
                }
                let school = school_at(device, start);
                issue("unassigned_session", usize::from(school.is_none()));
                sessions.push(Session { device: device.clone(), id: id.clone(), start, end, school });
            }
        }
        sessions.sort_by(|a, b| (&a.id, &a.device).cmp(&(&b.id, &b.device)));

        let length = |session: &Session| session.end.map(|end| end - session.start);
        let completed = sessions.iter().filter_map(length).count();
        let schools: Vec<&String> = logs.iter().copied().filter(|log| is_school(log)).collect();
        tables.insert(
            "usage_sessions".into(),
            sessions
                .iter()
                .map(|session| {
                    let name = session.school.as_deref().and_then(name_of).unwrap_or_default();
                    let end = session.end.map(utc).unwrap_or_default();
                    let school = session.school.clone().unwrap_or_default();
                    vec![session.id.clone(), session.device.clone(), utc(session.start), end, school, name]
                })
                .collect(),
        );
        let school_row = |school: &String| {
            let count = devices.iter().filter(|device| school_at(device, i64::MAX).as_ref() == Some(school)).count();
            let mut lengths: Vec<i64> =
                sessions.iter().filter(|session| session.school.as_ref() == Some(school)).filter_map(length).collect();
            lengths.sort_unstable();
            let (mut median, mut mean) = (String::new(), String::new());
            if !lengths.is_empty() {
                let middle = lengths.len() / 2;
                let two = if lengths.len() % 2 == 1 { 2 * lengths[middle] } else { lengths[middle - 1] + lengths[middle] };
                median = (two as f64 / 120e6).to_string();
                mean = (lengths.iter().sum::<i64>() as f64 / lengths.len() as f64 / 60e6).to_string();
            }
            vec![school.clone(), name_of(school).unwrap_or_default(), count.to_string(), median, mean]
        };
        tables.insert("usage_schools".into(), schools.iter().map(|school| school_row(school)).collect());
        let (device_rows, history) = self.devices(&sessions, self.as_of_micros.unwrap_or(last));
        tables.insert("usage_devices".into(), device_rows);
        tables.insert("usage_history".into(), history);
        let statistics = [
            ("abandoned_sessions", (sessions.len() - completed).to_string()),
            ("completed_sessions", completed.to_string()),
            ("devices", devices.len().to_string()),
            ("first_event", utc(first)),
            ("last_event", utc(last)),
            ("schools", schools.len().to_string()),
            ("sessions", sessions.len().to_string()),
            ("usage_minutes", minutes(sessions.iter().filter_map(length).sum())),
        ];
        tables.insert("usage_statistics".into(), statistics.map(|(metric, value)| vec![metric.into(), value]).into());
        let issues = issues.into_iter().filter(|(_, count)| *count > 0);
        tables.insert("usage_issues".into(), issues.map(|(issue, count)| vec![issue.into(), count.to_string()]).collect());
        tables
    }

    /// Rows of devices, and of their days.
    fn devices(&self, sessions: &[Session], as_of: i64) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
        let (mut devices, mut history) = (Vec::new(), Vec::new());
        let ids: BTreeSet<&String> = sessions.iter().map(|session| &session.device).collect();
        for device in ids {
            let mine = || sessions.iter().filter(|session| session.device == *device);
            let first = mine().map(|session| session.start).min().unwrap();
            devices.push(vec![device.clone(), utc(first)]);
            let mut days = Vec::new();
            let mut date = self.date(first);
            while self.midnight(date) <= as_of {
                let (from, until) = (self.midnight(date), self.midnight(date.succ_opt().unwrap()));
                let part = |session: &Session| session.end.map_or(0, |end| (end.min(until) - session.start.max(from)).max(0));
                days.push((date, mine().map(part).sum::<i64>()));
                date = date.succ_opt().unwrap();
            }
            for (place, (date, micros)) in days.iter().enumerate() {
                let week = &days[place.saturating_sub(6)..=place];
                let mean = week.iter().map(|(_, micros)| micros).sum::<i64>() as f64 / week.len() as f64 / 60e6;
                history.push(vec![device.clone(), date.to_string(), minutes(*micros), mean.to_string()]);
            }
        }
        (devices, history)
    }

    /// The first moment of a date.
    fn midnight(&self, date: NaiveDate) -> i64 {
        let mut local = date.and_hms_opt(0, 0, 0).unwrap();
        loop {
            // The clocks may go forward at midnight.
            match self.zone.from_local_datetime(&local).earliest() {
                Some(time) => return time.timestamp_micros(),
                None => local += TimeDelta::minutes(15),
            }
        }
    }

    /// The date whose span a moment lies in.
    fn date(&self, micros: i64) -> NaiveDate {
        let mut date = DateTime::from_timestamp_micros(micros).unwrap().date_naive() - TimeDelta::days(2);
        while self.midnight(date.succ_opt().unwrap()) <= micros {
            date = date.succ_opt().unwrap();
        }
        date
    }
}
