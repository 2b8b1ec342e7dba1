//! Small histories as text: `cases/*.txt`, batches in, changes out. `UPDATE=1` rewrites the changes.
//!
//! A file holds `settings: name=value …`, where some are not the defaults, and batches. A line of a batch is `+` (delivered) or `-`
//! (retracted) with a JSON object, or for short `user time event [engagement] [valuable] [offset=seconds]`. What
//! follows `changes` is what the batch did to the tables. `#` starts a comment.

use crate::settings::Zone;
use crate::tests::{check, defaults};
use retally_core::contract::{AsOf, Settings};
use retally_core::record::Record;
use retally_core::testing::{Config, Delivery, Tables};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn cases() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    assert!(!paths.is_empty(), "there are no cases in {folder}");
    paths.sort();
    for (number, path) in paths.iter().enumerate() {
        let text = fs::read_to_string(path).unwrap();
        let found = run(&text, Config::choose(number));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path, &found).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), found, "{} (UPDATE=1 rewrites it)", path.display());
    }
}

/// The case with the changes that its batches make.
fn run(text: &str, config: Config) -> String {
    let mut settings = defaults();
    let mut batches: Vec<Vec<Delivery>> = Vec::new();
    for line in text.lines() {
        if let Some(pairs) = line.strip_prefix("settings:") {
            settings = pairs.split_whitespace().fold(settings, set);
        } else if line == "batch" {
            batches.push(Vec::new());
        } else if let (Some(delivery), Some(batch)) = (delivery(line), batches.last_mut()) {
            batch.push(delivery);
        }
    }
    let least = crate::records::Engagement::read(&settings).unwrap().0;
    let mut tables = check(config, &settings, least, &batches).into_iter();
    let mut before = Tables::new();
    let mut out = String::new();
    for line in text.lines().filter(|line| change(line).is_none()) {
        out += line;
        out += "\n";
        if line == "changes" {
            let after = tables.next().unwrap();
            changes(&before, &after).iter().for_each(|change| out += &format!("{change}\n"));
            before = after;
        }
    }
    assert_eq!(tables.next(), None, "a batch has no line 'changes'");
    out
}

fn set(settings: Settings, pair: &str) -> Settings {
    let (name, value) = pair.split_once('=').unwrap();
    match name {
        "as-of" => {
            let moment = Zone::read(&settings).unwrap().calendar.parse(value.as_bytes()).unwrap();
            settings.with_as_of(AsOf::At(moment))
        }
        _ => settings.with(name, value),
    }
}

/// Lines of changes start with the sign and a table's name.
fn change(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("+ ").or(line.strip_prefix("- "))?;
    rest.starts_with("active_").then_some(rest)
}

fn delivery(line: &str) -> Option<Delivery> {
    if change(line).is_some() {
        return None;
    }
    let (sign, rest) = match line.split_at_checked(2)? {
        ("+ ", rest) => (1, rest),
        ("- ", rest) => (-1, rest),
        _ => return None,
    };
    let line = if rest.starts_with('{') { rest.to_string() } else { expanded(rest) };
    let context = retally_core::record::Context { calendar: retally_core::calendar::Calendar::utc() };
    crate::records::Event::decode_json(line.as_bytes(), &context).unwrap();
    Some(Delivery { input: 0, sign, line })
}

fn expanded(short: &str) -> String {
    let mut words = short.split_whitespace();
    let (user, time, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let micros = retally_core::calendar::Calendar::utc().parse(time.as_bytes()).unwrap().0;
    let mut parameters = Vec::new();
    let mut object = json!({"user_pseudo_id": user, "event_timestamp": micros, "event_name": name});
    for word in words {
        match word.strip_prefix("offset=") {
            Some(offset) => object["time_zone_offset_seconds"] = json!(offset),
            None if word == "valuable" => parameters.push(json!({"key": "engaged_session_event", "value": {"int_value": "1"}})),
            None => parameters.push(json!({"key": "engagement_time_msec", "value": {"string_value": word}})),
        }
    }
    object["event_params"] = parameters.into();
    object.to_string()
}

/// The rows that went and came, table by table, by the first column and then numbers by value.
fn changes(before: &Tables, after: &Tables) -> Vec<String> {
    let mut changes = Vec::new();
    for (table, rows) in after {
        let set = |rows: &[Vec<String>]| -> BTreeSet<(String, Vec<u64>)> {
            let numbers = |row: &Vec<String>| row[1..].iter().map(|cell| cell.parse().unwrap()).collect();
            rows.iter().map(|row| (row[0].clone(), numbers(row))).collect()
        };
        let (old, new) = (set(before.get(table).map_or(&[], Vec::as_slice)), set(rows));
        for row in old.symmetric_difference(&new) {
            let numbers: Vec<String> = row.1.iter().map(u64::to_string).collect();
            let sign = if new.contains(row) { '+' } else { '-' };
            changes.push(format!("{sign} {table} {},{}", row.0, numbers.join(",")));
        }
    }
    changes
}
