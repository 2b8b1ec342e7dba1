//! An input for tests: records of a time and an id.

use retally_core::contract::{Definition, Input};
use retally_core::record::{Context, Field, Fields, Record, Refusal};
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sample {
    time: Moment,
    id: u64,
}

impl Record for Sample {
    const FIELDS: &'static [Field] = &[Field::new("time", ""), Field::new("id", "")];

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        Ok(Sample { time: fields.time(0, context)?, id: fields.uint(1)? })
    }

    fn time(&self) -> Option<Moment> {
        Some(self.time)
    }
}

pub fn input() -> Input {
    Input::records::<Sample>("events", "")
}

pub fn definition() -> Definition {
    Definition { name: "sample", about: "", inputs: vec![input()], settings: Vec::new(), generator: Vec::new() }
}
