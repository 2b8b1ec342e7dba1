//! Which worker reads which dataset.

use retally_core::split::{Location, Split};
use std::collections::BTreeMap;

/// Routes of datasets. The worker that read a dataset knows what it was, so a dataset stays with its worker; new ones go around.
#[derive(Debug, Default)]
pub struct Routes {
    known: BTreeMap<Vec<String>, u64>,
}

impl Routes {
    /// Routes a split, where it is a dataset. Other splits go by their epoch and number.
    pub fn assign(&mut self, split: &mut Split) {
        if let Location::Dataset(dataset) = &mut split.location {
            let next = self.known.len() as u64;
            dataset.route = *self.known.entry(dataset.key.clone()).or_insert(next);
        }
    }
}
