//! The school of a device, from a moment on: a step of the device's history, which sessions and rows look up.

use crate::records::Id;
use retally_core::operators::as_of::At;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// From when on a device belongs to a school. Of two at the same time the greater school counts: of text ids, by [`Assignment::compare`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// From when on.
    pub from: Moment,
    /// To which school.
    pub school: Id,
    /// The school's name; `None` when it has none, or is none.
    pub name: Option<Box<str>>,
}

impl Assignment {
    /// In time order; ties by school, where ids are compared as `by_id` says.
    pub fn compare(&self, other: &Assignment, by_id: impl Fn(Id, Id) -> Ordering) -> Ordering {
        self.from.cmp(&other.from).then_with(|| by_id(self.school, other.school)).then_with(|| self.name.cmp(&other.name))
    }
}

impl At for Assignment {
    fn at(&self) -> Moment {
        self.from
    }
}
