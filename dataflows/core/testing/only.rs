//! A graph of which one table is built: what it is must not depend on the others.

use crate::calendar::Calendar;
use crate::chart::Chart;
use crate::contract::{Graph, Table};
use crate::decode::Inputs;
use crate::publish::Outputs;
use std::sync::Arc;

/// A graph that has but the table of this name.
pub struct Only(pub &'static str, pub Arc<dyn Graph>);

impl Graph for Only {
    fn tables(&self) -> Vec<Table> {
        self.1.tables().into_iter().filter(|table| table.name == self.0).collect()
    }

    fn charts(&self) -> Vec<Chart> {
        self.1.charts()
    }

    fn ids(&self) -> crate::ids::Ids {
        self.1.ids()
    }

    fn calendar(&self) -> Calendar {
        self.1.calendar()
    }

    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
        self.1.build(inputs, outputs);
    }
}
