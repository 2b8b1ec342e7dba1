//! The machine's clock as as-of: a batch without records each minute, in which what depends on as-of goes on.
//!
//! It goes the way of all batches, so what the tables were at a time can be told from the journal alone. Where it is not taken, since the
//! disk is full or the service is stuck, the next minute's will do.

use super::service::{Incoming, Service, Wait};
use crate::engine;
use crate::ingest::plan::Plan;
use retally_core::time::MINUTE;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Moves as-of of all dataflows on with the clock, until the service ends.
pub fn run(service: &Service) {
    loop {
        for (dataflow, _) in service.dataflows.iter().enumerate().filter(|(_, served)| served.is_of_clock()) {
            // Nobody waits for what comes of it.
            let (reply, _) = oneshot::channel();
            let (arrived, began) = (engine::now(), Instant::now());
            let (parts, plan, positions) = (Vec::new(), Plan::default(), Vec::new());
            let batch = Incoming { dataflow, parts, plan, positions, key: None, arrived, began, wait: Wait::Durable, reply };
            if service.take_in_turn(batch).is_err() {
                return;
            }
        }
        let left = MINUTE - engine::now().0.rem_euclid(MINUTE);
        std::thread::sleep(Duration::from_micros(left.unsigned_abs()));
    }
}
