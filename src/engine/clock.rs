//! The machine's clock, as a dataflow knows it whose as-of it is.
//!
//! What it shows at an epoch is when the batch of that epoch arrived, to the minute, so that the same batches give the same tables whenever
//! they are applied. A service offers an empty batch where none comes.

use differential_dataflow::AsCollection;
use retally_core::time::{MINUTE, Moment};
use retally_core::{Collection, Epoch};
use timely::dataflow::operators::vec::Input;
use timely::dataflow::{InputHandleVec, Scope};

/// The clock of a dataflow on a worker.
pub struct Clock {
    input: InputHandleVec<Epoch, (Moment, Epoch, isize)>,
    now: Option<Moment>,
}

impl Clock {
    /// A clock, and the one time that it shows.
    pub fn new(scope: Scope<'_, Epoch>) -> (Clock, Collection<'_, Moment>) {
        let (input, shown) = scope.new_input();
        (Clock { input, now: None }, shown.as_collection())
    }

    /// From now on, nothing changes before this epoch.
    pub fn advance_to(&mut self, epoch: Epoch) {
        self.input.advance_to(epoch);
        self.input.flush();
    }

    /// Shows from an epoch on when its batch arrived, where that is later than what it shows: it never goes back. Returns what it shows
    /// then.
    pub fn show(&mut self, epoch: Epoch, arrived: Option<Moment>) -> Option<Moment> {
        if let Some(minute) = arrived.map(minute).filter(|minute| Some(*minute) > self.now) {
            if let Some(before) = self.now.replace(minute) {
                self.input.send((before, epoch, -1));
            }
            self.input.send((minute, epoch, 1));
        }
        self.now
    }
}

/// The beginning of the minute of a time.
fn minute(moment: Moment) -> Moment {
    Moment(moment.0 - moment.0.rem_euclid(MINUTE))
}
