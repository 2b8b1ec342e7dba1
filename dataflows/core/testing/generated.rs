//! Generated input, read back: what the tests of generators share.

use super::files::Memory;
use crate::calendar::Calendar;
use crate::contract::{Dataflow, Settings};
use crate::record::{Context, Record};
use std::collections::BTreeMap;

/// Options by name.
pub type Options<'a> = &'a [(&'a str, &'a str)];

/// What a dataflow's generator writes with these options and its defaults for the others: texts by path.
pub fn generated(dataflow: &dyn Dataflow, options: Options<'_>) -> BTreeMap<String, String> {
    let mut memory = Memory::default();
    dataflow.generate(&settings(dataflow, options), &mut memory).unwrap();
    memory.texts()
}

/// Why a dataflow's generator refuses these options.
pub fn refused(dataflow: &dyn Dataflow, options: Options<'_>) -> String {
    dataflow.generate(&settings(dataflow, options), &mut Memory::default()).unwrap_err().to_string()
}

/// The records of JSON lines, and how many lines are none.
pub fn json_records<R: Record>(text: &str) -> (Vec<R>, usize) {
    let context = Context::new(Calendar::utc(), R::FIELDS);
    let mut records = Vec::new();
    let mut refused = 0;
    for line in text.lines() {
        match R::decode_json(line.as_bytes(), &context) {
            Ok(record) => records.push(record),
            Err(_) => refused += 1,
        }
    }
    (records, refused)
}

fn settings(dataflow: &dyn Dataflow, options: Options<'_>) -> Settings {
    let defaults = Settings::defaults(&dataflow.definition().generator);
    options.iter().fold(defaults, |settings, (name, value)| settings.with(name, value))
}
