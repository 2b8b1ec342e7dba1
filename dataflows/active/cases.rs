//! Cases as text, with the events of an app.
//!
//! A line of a batch is a JSON object, or for short `user time event [engagement] [valuable] [offset=seconds] [device-offset=seconds]`. The
//! user `null` is none.

use crate::Active;
use crate::records::{Engagement, Event};
use crate::tests::check;
use retally_core::calendar::Calendar;
use retally_core::contract::{Dataflow, Settings};
use retally_core::record::{Context, Record};
use retally_core::testing::cases::{Language, check_cases};
use retally_core::testing::{Config, Delivery, Tables};
use serde_json::json;

#[test]
fn cases() {
    check_cases(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"), &Lines);
}

struct Lines;

impl Language for Lines {
    fn dataflow(&self) -> &dyn Dataflow {
        &Active
    }

    fn delivery(&self, line: &str, sign: isize) -> Delivery {
        let line = if line.starts_with('{') { line.to_string() } else { expanded(line) };
        let context = Context::new(Calendar::utc(), Event::FIELDS);
        Event::decode_json(line.as_bytes(), &context).unwrap();
        Delivery { input: 0, sign, line }
    }

    fn tables(&self, config: Config, settings: &Settings, batches: &[Vec<Delivery>]) -> Vec<Tables> {
        check(config, settings, Engagement::read(settings).unwrap().0, batches)
    }
}

fn expanded(short: &str) -> String {
    let mut words = short.split_whitespace();
    let (user, time, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let micros = retally_core::calendar::Calendar::utc().parse(time.as_bytes()).unwrap().0;
    let mut parameters = Vec::new();
    let user = if user == "null" { json!(null) } else { json!(user) };
    let mut object = json!({"user_pseudo_id": user, "event_timestamp": micros, "event_name": name});
    for word in words {
        match word.split_once('=') {
            Some(("offset", offset)) => object["time_zone_offset_seconds"] = json!(offset),
            Some(("device-offset", offset)) => object["device"] = json!({"category": "mobile", "time_zone_offset_seconds": offset}),
            Some(_) => panic!("neither an offset nor a device's: {word:?}"),
            None if word == "valuable" => parameters.push(json!({"key": "engaged_session_event", "value": {"int_value": "1"}})),
            None => parameters.push(json!({"key": "engagement_time_msec", "value": {"string_value": word}})),
        }
    }
    object["event_params"] = parameters.into();
    object.to_string()
}
