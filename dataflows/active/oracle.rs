//! The same tables by a plain computation: read every line, keep the set, and look at every user, day and window.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use chrono::{DateTime, NaiveDate, TimeDelta, TimeZone};
use retally_core::contract::{AsOf, Settings};
use retally_core::testing::{Delivery, Tables};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// Without one, nobody's.
    user: Option<String>,
    micros: i64,
    name: String,
    engagement_micros: Option<i64>,
    valuable: bool,
    day: i32,
    /// Its day is that of UTC, because it has no offset.
    without_offset: bool,
}

/// The tables over all deliveries. `min_engagement_micros` is given beside the settings, to be independent of how they are read.
pub fn tables(settings: &Settings, min_engagement_micros: i64, deliveries: &[Delivery]) -> Tables {
    let mut counts: BTreeMap<Event, i64> = BTreeMap::new();
    for delivery in deliveries {
        *counts.entry(event(settings, &delivery.line)).or_default() += delivery.sign as i64;
    }
    let as_of = match settings.as_of() {
        AsOf::Latest => i64::MAX,
        AsOf::At(moment) => moment.0,
        AsOf::Now => panic!("an oracle has no clock"),
    };
    let events: Vec<Event> =
        counts.into_iter().filter(|(event, count)| *count > 0 && event.micros <= as_of).map(|(event, _)| event).collect();

    let names: Vec<&str> = settings.text("valuable-events").split(',').filter(|name| !name.is_empty()).collect();
    let mut active: BTreeSet<(i32, &str)> = BTreeSet::new();
    let mut issues: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events.iter() {
        if event.user.is_none() {
            *issues.entry("no_user").or_default() += 1;
        } else if event.without_offset {
            *issues.entry("offset_missing").or_default() += 1;
        }
    }
    let engagement = |event: &&Event| match settings.text("engagement-events") {
        "any" => event.engagement_micros.is_some(),
        names => names.split(',').any(|name| name == event.name),
    };
    for event in events.iter().filter(engagement) {
        let Some(user) = event.user.as_deref() else { continue };
        let of_that_day = |other: &&Event| other.user == event.user && other.day == event.day && names.contains(&other.name.as_str());
        let valuable = if names.is_empty() { event.valuable } else { events.iter().find(of_that_day).is_some() };
        match event.engagement_micros {
            None => *issues.entry("engagement_missing").or_default() += 1,
            Some(micros) if micros < min_engagement_micros => *issues.entry("below_threshold").or_default() += 1,
            Some(_) if !valuable => *issues.entry("not_valuable").or_default() += 1,
            Some(_) => drop(active.insert((event.day, user))),
        }
    }

    let first = active.iter().map(|(day, _)| *day).min().unwrap_or(i32::MAX);
    let latest = events.iter().map(|event| event.day).max();
    let day_of_as_of = match settings.as_of() {
        AsOf::Latest | AsOf::Now => None,
        AsOf::At(moment) => Some(local_day(settings, moment.0, 0)),
    };
    let last = latest.max(day_of_as_of).unwrap_or(i32::MIN);
    let users = |from: i32, to: i32| {
        active.iter().filter(|(day, _)| (from..=to).contains(day)).map(|(_, user)| user).collect::<BTreeSet<_>>().len()
    };

    let mut daily = Vec::new();
    let mut rolling = Vec::new();
    for day in first..=last {
        let on_that_day = users(day, day);
        if on_that_day > 0 {
            daily.push(vec![date(day), on_that_day.to_string()]);
        }
        for window in [7, 28] {
            let in_window = users(day - window + 1, day);
            if in_window > 0 {
                rolling.push(vec![date(day), window.to_string(), in_window.to_string()]);
            }
        }
    }
    let issues = issues.into_iter().map(|(issue, events)| vec![issue.to_string(), events.to_string()]).collect();
    [("active_user_table", daily), ("active_rolling", rolling), ("active_issues", issues)]
        .map(|(name, rows)| (name.to_string(), rows))
        .into()
}

fn date(day: i32) -> String {
    DateTime::from_timestamp(i64::from(day) * 86_400, 0).unwrap().format("%Y-%m-%d").to_string()
}

fn event(settings: &Settings, line: &str) -> Event {
    let object: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_string);
    let micros: i64 = text(&object["event_timestamp"]).parse().unwrap();
    let offset = |place: &Value| text(&place["time_zone_offset_seconds"]).parse().ok().filter(|offset: &i64| offset.abs() < 86_400);
    let offset_seconds = offset(&object).or(offset(&object["device"]));
    let parameters = object["event_params"].as_array().cloned().unwrap_or_default();
    let engagement = |parameter: &Value| {
        let kinds = ["string_value", "int_value", "float_value", "double_value"];
        let milliseconds = kinds.iter().find_map(|kind| text(&parameter["value"][kind]).parse::<f64>().ok())?;
        (milliseconds * 1000.0).floor().to_string().parse().ok()
    };
    Event {
        user: object[settings.text("user-field")].as_str().filter(|user| !user.is_empty()).map(str::to_string),
        micros,
        name: object["event_name"].as_str().unwrap().into(),
        engagement_micros: parameters.iter().filter(|parameter| parameter["key"] == "engagement_time_msec").find_map(engagement),
        valuable: parameters.iter().any(|parameter| parameter["key"].as_str().unwrap().ends_with("_event")),
        day: local_day(settings, micros, offset_seconds.unwrap_or(0)),
        without_offset: settings.text("timezone") == "event" && offset_seconds.is_none(),
    }
}

fn local_day(settings: &Settings, micros: i64, offset_seconds: i64) -> i32 {
    let utc = DateTime::from_timestamp_micros(micros).unwrap().naive_utc();
    let local = match settings.text("timezone") {
        "event" => utc + TimeDelta::seconds(offset_seconds),
        zone => zone.parse::<chrono_tz::Tz>().unwrap().from_utc_datetime(&utc).naive_local(),
    };
    i32::try_from((local.date() - NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()).num_days()).unwrap()
}
