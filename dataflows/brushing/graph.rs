//! The graph: datasets are read, and what came of them is summed up by day and by tooth.

use crate::look::look;
use crate::outcome::{DatasetOutcome, Tooth, minutes, seconds};
use crate::read::datasets;
use crate::settings::{NANOSECOND_FS, Rules};
use crate::tables;
use retally_core::Collection;
use retally_core::calendar::{Calendar, Day};
use retally_core::chart::Chart;
use retally_core::contract::{Graph, LookedAt, Table};
use retally_core::decode::Inputs;
use retally_core::operators::by_key::{Each, Emitter, State, by_key, exchange};
use retally_core::points::Measurement;
use retally_core::publish::Outputs;
use retally_core::row::Row;
use retally_core::split::{Location, Opener, Split};

/// The dataflow with its settings.
#[derive(Clone, Debug)]
pub struct Brushing {
    /// The rules of a dataset.
    pub rules: Rules,
}

impl Graph for Brushing {
    fn tables(&self) -> Vec<Table> {
        tables::tables()
    }

    fn charts(&self) -> Vec<Chart> {
        tables::charts()
    }

    fn measurements(&self) -> Vec<Measurement> {
        tables::measurements()
    }

    fn calendar(&self) -> Calendar {
        self.rules.calendar.clone()
    }

    fn look(&self, split: &Split, opener: &dyn Opener, wait: &mut dyn FnMut()) -> Option<LookedAt> {
        match &split.location {
            Location::Dataset(dataset) => Some(look(&self.rules, split, dataset, opener, wait)),
            _ => None,
        }
    }

    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>) {
        let jobs = datasets(inputs, "datasets", &self.rules);
        outputs.table(tables::JOBS, jobs.clone().map(|(key, outcome)| tables::job_row(&key, &outcome)));
        if outputs.wants(tables::DAILY) {
            outputs.table(tables::DAILY, self.daily(jobs.clone()));
        }
        if outputs.wants(tables::TEETH) {
            outputs.table(tables::TEETH, teeth(jobs));
        }
    }
}

impl Brushing {
    fn daily<'s>(&self, jobs: Collection<'s, DatasetOutcome>) -> Collection<'s, Row> {
        let calendar = self.rules.calendar.clone();
        let spans = jobs.flat_map(move |(key, outcome)| {
            let (toothbrush, (start, _)) = key.into_iter().next().zip(outcome.span())?;
            let (start_ns, end_ns) = outcome.span_ns?;
            let length_fs = i128::from(end_ns - start_ns) * i128::from(NANOSECOND_FS);
            Some(((toothbrush, calendar.day(start)), [length_fs, outcome.lost_fs]))
        });
        sums(spans, "days of toothbrushes", |(toothbrush, day): &(String, Day), datasets, [length_fs, lost_fs]| {
            tables::daily_row(toothbrush, *day, datasets, minutes(length_fs), seconds(lost_fs))
        })
    }
}

fn teeth(jobs: Collection<'_, DatasetOutcome>) -> Collection<'_, Row> {
    let teeth = jobs.flat_map(|(key, outcome)| {
        let toothbrush = key.into_iter().next().unwrap_or_default();
        let sums = |tooth: Tooth| [i128::from(tooth.points), i128::try_from(tooth.percent_steps).unwrap_or(i128::MAX)];
        outcome.teeth.into_iter().map(move |tooth| ((toothbrush.clone(), tooth.tooth), sums(tooth)))
    });
    sums(teeth, "teeth of toothbrushes", |(toothbrush, tooth): &(String, u32), _, [points, steps]| {
        tables::tooth_row(toothbrush, *tooth, u64::try_from(points).unwrap_or(0), u128::try_from(steps).unwrap_or(0))
    })
}

/// How many values a key has, and their sums.
#[derive(Default)]
struct Sums {
    count: i64,
    sums: [i128; 2],
}

impl State for Sums {
    fn is_empty(&self) -> bool {
        self.count == 0 && self.sums == [0, 0]
    }
}

/// A row for each key that has values, from how many there are and their sums.
fn sums<'s, K: differential_dataflow::ExchangeData + std::hash::Hash>(
    values: Collection<'s, (K, [i128; 2])>,
    name: &str,
    row: impl Fn(&K, u64, [i128; 2]) -> Row + 'static,
) -> Collection<'s, Row> {
    by_key(values, exchange(), name, move |key: &K, changes, state: &mut Sums, emitter: &mut Each<Row>| {
        let mut say = |state: &Sums, diff| {
            if let Ok(count @ 1..) = u64::try_from(state.count) {
                emitter.give(row(key, count, state.sums), diff);
            }
        };
        say(state, -1);
        for (values, diff) in changes.drain(..) {
            let times = i64::try_from(diff).unwrap_or(0);
            state.count += times;
            for (sum, value) in state.sums.iter_mut().zip(values) {
                *sum = sum.saturating_add(value.saturating_mul(i128::from(times)));
            }
        }
        say(state, 1);
    })
}
