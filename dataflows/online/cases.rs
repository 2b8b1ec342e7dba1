//! Cases as text: the rules of the product, row by row, with values that were worked out by hand.
//!
//! A line of a batch is `time device user server online|offline`, or `server id created [destroyed]`.

use crate::Online;
use retally_core::contract::Dataflow;
use retally_core::testing::Delivery;
use retally_core::testing::cases::{Language, check_cases};

#[test]
fn cases() {
    check_cases(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"), &Lines);
}

struct Lines;

impl Language for Lines {
    fn dataflow(&self) -> &dyn Dataflow {
        &Online
    }

    fn delivery(&self, line: &str, sign: isize) -> Delivery {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (input, line) = match words.as_slice() {
            ["server", id, created] => (1, format!("{id},{created},")),
            ["server", id, created, destroyed] => (1, format!("{id},{created},{destroyed}")),
            [time, device, user, server, "online"] => (0, format!("{time},{device},{user},{server},true")),
            [time, device, user, server, "offline"] => (0, format!("{time},{device},{user},{server},false")),
            _ => panic!("neither an event nor a server: {line:?}"),
        };
        Delivery { input, sign, line }
    }
}
