//! The whole in numbers: `usage_statistics`.
//!
//! Each worker sums up what its logs count; one adds up the sums, which are few, and writes the rows.

use crate::facts::{Count, Counts};
use crate::tables;
use retally_core::Collection;
use retally_core::operators::by_key::{Each, Emitter, State, by_key, exchange};
use retally_core::row::Row;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

/// A part of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Part {
    Count(Count),
    First(Moment),
    Last(Moment),
}

#[derive(Clone, Copy, Default)]
struct Statistics {
    counts: Counts,
    first: Option<Moment>,
    last: Option<Moment>,
}

impl State for Statistics {
    fn is_empty(&self) -> bool {
        self.counts == Counts::default() && self.first.is_none() && self.last.is_none()
    }
}

/// The rows: all of them, or none where there is no event.
pub fn rows<'s>(counts: Collection<'s, Count>, first: Collection<'s, Moment>, last: Collection<'s, Moment>) -> Collection<'s, Row> {
    let parts = counts.map(|count| ((), Part::Count(count)));
    let parts = parts.concat(first.map(|moment| ((), Part::First(moment)))).concat(last.map(|moment| ((), Part::Last(moment))));
    by_key(parts, exchange(), "statistics", |(), changes, statistics: &mut Statistics, emitter: &mut Each<Row>| {
        statistics.say(-1, emitter);
        for (part, diff) in changes.drain(..) {
            match part {
                Part::Count(count) => statistics.counts.add(count, diff),
                Part::First(moment) => replace(&mut statistics.first, moment, diff),
                Part::Last(moment) => replace(&mut statistics.last, moment, diff),
            }
        }
        statistics.say(1, emitter);
    })
}

/// A moment goes or comes, in any order, as often as there are workers.
fn replace(place: &mut Option<Moment>, moment: Moment, diff: isize) {
    if diff > 0 {
        *place = Some(moment);
    } else if *place == Some(moment) {
        *place = None;
    }
}

impl Statistics {
    fn say(&self, sign: isize, emitter: &mut Each<Row>) {
        let (Some(first), Some(last)) = (self.first, self.last) else { return };
        let count = |count| self.counts.get(count);
        let (sessions, completed) = (count(Count::Sessions), count(Count::Completed));
        let micros = count(Count::Seconds) as i128 * 1_000_000 + count(Count::Micros) as i128;
        for (metric, value) in [
            ("schools", count(Count::Schools).to_string()),
            ("devices", count(Count::Devices).to_string()),
            ("sessions", sessions.to_string()),
            ("completed_sessions", completed.to_string()),
            ("abandoned_sessions", (sessions - completed).to_string()),
            ("usage_minutes", tables::minutes(micros).to_string()),
            ("first_event", first.to_string()),
            ("last_event", last.to_string()),
        ] {
            emitter.give(tables::statistics_row(metric, &value), sign);
        }
    }
}
