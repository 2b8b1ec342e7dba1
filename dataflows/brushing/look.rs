//! A look at a dataset before anything is built of it: the beginnings of its streams, by the rules of a run.

use crate::machine::{Machine, Out, Step};
use crate::read::{accepted_times, opened};
use crate::settings::Rules;
use crate::tables;
use retally_core::contract::LookedAt;
use retally_core::points::{PointBatch, Series, Standing};
use retally_core::split::{Dataset, Opener, Split};
use std::sync::Arc;

/// So much is read of a dataset, packed as it is: 1 MiB, and what a step reads besides.
const BYTES_MAX: u64 = 1 << 20;

/// Looks at a dataset. `wait` is called while a stream has nothing to give.
pub fn look(rules: &Rules, split: &Split, dataset: &Dataset, opener: &dyn Opener, wait: &mut dyn FnMut()) -> LookedAt {
    let [brushing, settings] = opened(dataset, opener, 0);
    let mut machine = Machine::new(rules, accepted_times(split), brushing, settings);
    let mut batches = tables::measurements().into_iter().map(|measurement| {
        let series = Series { measurement: Arc::new(measurement), tags: dataset.key.clone() };
        PointBatch::new(Arc::new(series), Standing::Fresh)
    });
    let (Some(brushing), Some(settings)) = (batches.next(), batches.next()) else { return LookedAt::default() };
    let mut out = Out { brushing, settings };
    loop {
        match machine.step(&mut out) {
            Ok(Step::Done(outcome)) => {
                let error = Some(outcome.error).filter(|error| !error.is_empty());
                return LookedAt { error, skipped_lines: outcome.skipped_lines, more: false };
            }
            Ok(Step::More) if machine.bytes_read() >= BYTES_MAX => {
                return LookedAt { error: machine.error_so_far(), skipped_lines: machine.skipped_count(), more: true };
            }
            Ok(Step::More) => {}
            Ok(Step::Wait) => wait(),
            Err(error) => return LookedAt { error: Some(error.to_string()), skipped_lines: 0, more: false },
        }
        out.brushing.clear();
        out.settings.clear();
    }
}
