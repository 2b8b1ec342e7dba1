//! Cases as text, with values that were worked out by hand.
//!
//! A line of a batch is `time log what`, and what is one of `is TYPE`, `named NAME`, `joins SCHOOL`, `starts SESSION` and
//! `ends SESSION`. Logs and sessions are hexadecimal numbers: `d1` is the log 00000000-0000-0000-0000-0000000000d1. In the rows,
//! ids are short again. What is no such number is the id itself, where ids are texts.

use crate::Usage;
use retally_core::contract::{Dataflow, Graph, Settings};
use retally_core::testing::cases::{Language, check_cases};
use retally_core::testing::{Config, Delivery, Tables, run_graph};
use serde_json::{Value, json};
use std::sync::Arc;

#[test]
fn cases() {
    check_cases(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"), &Lines);
}

struct Lines;

/// What the short id of a row stands behind.
const ZEROS: &str = "00000000-0000-0000-0000-";

fn id(short: &str) -> Value {
    let is_number = short.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { json!(format!("{ZEROS}{short:0>12}")) } else { json!(short) }
}

impl Language for Lines {
    fn dataflow(&self) -> &dyn Dataflow {
        &Usage
    }

    fn delivery(&self, line: &str, sign: isize) -> Delivery {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [time, log, what, of] = words.as_slice() else { panic!("no event: {line:?}") };
        let (kind, key, value) = match *what {
            "is" => ("SetLogType", "logType", json!(of)),
            "named" => ("SetName", "name", json!(of)),
            "joins" => ("AssignToSchool", "schoolId", id(of)),
            "starts" => ("StartSession", "sessionId", id(of)),
            "ends" => ("EndSession", "sessionId", id(of)),
            other => panic!("what is {other:?}, in {line:?}?"),
        };
        Delivery { input: 0, sign, line: json!({"time": time, "logId": id(log), "type": kind, key: value}).to_string() }
    }

    fn tables(&self, config: Config, settings: &Settings, batches: &[Vec<Delivery>]) -> Vec<Tables> {
        let graph: Arc<dyn Graph> = Usage.graph(settings).unwrap().into();
        let mut tables = run_graph(config, &graph, &Usage.definition().inputs, batches);
        let cells = tables.iter_mut().flat_map(|tables| tables.values_mut()).flatten().flatten();
        for cell in cells {
            if let Some(short) = cell.strip_prefix(ZEROS) {
                *cell = short.trim_start_matches('0').into();
            }
        }
        tables
    }
}
