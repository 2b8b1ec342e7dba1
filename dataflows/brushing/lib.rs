//! `brushing`: two tick streams into one time line.
//!
//! A toothbrush records datasets: what was brushed when, by its own ticks, and now and then what time it is, how long a tick is, and how
//! full the battery is. The graph ([`graph`]) reads each dataset once, in bounded memory ([`machine`]), writes each event as a point with
//! its time to a time-series database ([`read`]), and keeps in tables what came of each dataset.
//!
//! # Example
//! `settings.jsonlines` says `{"time":1700000000,"tick":0,"battery":0.9,"tick_interval":0.5}`, and `brushing.csv` has the lines `0,3,0.1`
//! and `4,3,0.2`. They are points at 1700000000 s and 1700000002 s. The dataset ends at 1700000002.5 s, and 1.5 s are lost: ticks 1, 2 and
//! 3. When the dataset comes again with `2,3,0.15` between the two, a point is added, and 1 s is lost.
//!
//! # What its state costs
//! A kilobyte for each dataset, whatever its length; half a megabyte for one that is being read.
//!
//! # Decided here, where the contract is silent
//! - A job's `dataset_id` is a field of its own where it has one, and else its `job_id`. Within a batch, the last delivery of a dataset
//!   counts.
//! - Blank lines are no lines. A header is no skipped line. The delimiter is seen in the first line that is a header or can be read.
//! - Of settings lines, `time` and `tick` must be numbers, `tick` a whole one; a value that is `null` is left out.
//! - `first` and `last` events are those of a stream in its order, whatever its clock says; a dataset goes from the earlier of the first
//!   ones to the later of the last ones.
//! - A first tick may be any: the rule of gaps speaks of the last accepted one.
//! - A dataset whose files are missing is `failed`, and so is one with a stream that breaks off. Points that were written of it remain, and
//!   are counted in `brushing_points` and `settings_points`; it counts in no other table.
//! - A dataset without a good settings line counts its settings lines as skipped; its brushing lines are not read. One with brushing lines
//!   of which none is good has its settings as points, and no start, end or loss: it counts in no other table.
//! - The last delivery of a dataset counts, also when it can't be read: then the summary reports it. A dataset that is failed is refused
//!   itself; of one that is unsalvageable, its lines are, or itself where it has none.
//! - In `rejected`, the source of a skipped line is the path of the input, and behind it toothbrush, dataset and stream, as files in
//!   archives are named. Of datasets that are delivered, the lines count; of those taken away they do not.
//! - More in [`machine`] (gaps, times) and [`read`] (what is taken back).

mod decimal;
pub mod generate;
pub mod graph;
mod lines;
mod look;
pub mod machine;
#[cfg(test)]
mod oracle;
pub mod outcome;
mod phase;
pub mod read;
pub mod records;
pub mod settings;
pub mod skipped;
pub mod tables;
#[cfg(test)]
mod tests;

use retally_core::contract::{Dataflow, DatasetFiles, Definition, Files, GenerateError, Graph, Input, SettingError, Settings};
use retally_core::record::Field;

/// The dataflow.
#[derive(Clone, Copy, Debug)]
pub struct Brushing;

/// How datasets lie in folders, and what jobs name.
const FILES: DatasetFiles =
    DatasetFiles { keys: &tables::KEYS, streams: &[("brushing", "brushing.csv"), ("settings", "settings.jsonlines")] };

/// The fields of a job.
const JOB_FIELDS: &[Field] = &[
    Field::new("job_id", "the job; the dataset too, where there is no dataset_id"),
    Field::new("toothbrush_id", "the toothbrush"),
    Field::new("dataset_id", "the dataset"),
    Field::new("brushing", "path or URL of brushing.csv: tick, tooth, percent_clean"),
    Field::new("settings", "path or URL of settings.jsonlines: time, tick, battery, tick_interval"),
];

impl Dataflow for Brushing {
    fn definition(&self) -> Definition {
        Definition {
            name: "brushing",
            about: "tick streams of toothbrushes as points with their times, and what was lost",
            inputs: vec![Input::datasets(
                "datasets",
                "folders TOOTHBRUSH/DATASET with brushing.csv and settings.jsonlines, or a file of jobs",
                JOB_FIELDS,
                &FILES,
            )],
            settings: settings::settings(),
            generator: generate::settings(),
        }
    }

    fn graph(&self, settings: &Settings) -> Result<Box<dyn Graph>, SettingError> {
        Ok(Box::new(graph::Brushing { rules: settings::Rules::read(settings)? }))
    }

    fn generate(&self, options: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
        generate::generate(options, files)
    }
}
