//! The contract of a dataflow: what its author declares once, and parser, `--help`, sinks and tests use.
//!
//! A dataflow is a value that implements [`Dataflow`]. Its definition holds the inputs with their fields and
//! the settings; with settings it becomes a [`Graph`], which knows its tables and charts and can be built in
//! a timely scope, on every worker alike. Both traits can be made into objects: the runtime sees nothing else.

use crate::calendar::Calendar;
use crate::chart::Chart;
use crate::decode::Inputs;
use crate::ids::Ids;
use crate::key_chart::KeyChart;
use crate::points::Measurement;
use crate::publish::Outputs;
use crate::split::{Opener, Split};
use std::io;

pub use crate::definition::{AsOf, DatasetFiles, Definition, Input, InputKind, Setting, SettingError, Settings, Table};

/// A ready-made family of metrics.
pub trait Dataflow: Sync {
    /// What it is called, and what it takes.
    fn definition(&self) -> Definition;

    /// Settles what depends on which inputs a run has (`given`), and how their files are read.
    fn settle(&self, _definition: &mut Definition, settings: Settings, _given: &[String]) -> Result<Settings, SettingError> {
        Ok(settings)
    }

    /// The graph under these settings.
    fn graph(&self, settings: &Settings) -> Result<Box<dyn Graph>, SettingError>;

    /// Writes realistic, messy input, the same for the same options.
    fn generate(&self, options: &Settings, files: &mut dyn Files) -> Result<(), GenerateError>;
}

/// A dataflow with its settings: what every worker builds.
pub trait Graph: Send + Sync {
    /// The tables, in the order in which they are shown.
    fn tables(&self) -> Vec<Table>;

    /// The charts.
    fn charts(&self) -> Vec<Chart>;

    /// The charts of single keys; most dataflows have none. Their tables of pieces are built, as if they were among
    /// [`Graph::tables`], when charts are asked for.
    fn key_charts(&self) -> Vec<KeyChart> {
        Vec::new()
    }

    /// The kinds of points that it gives to [`Inputs::points`]; most dataflows have none.
    fn measurements(&self) -> Vec<Measurement> {
        Vec::new()
    }

    /// The zone in which local times of the input are read.
    fn calendar(&self) -> Calendar;

    /// What the ids of its records are. Those that are text must stand in columns of [`Ids::number`] or [`Ids::uuid`].
    fn ids(&self) -> Ids {
        Ids::Declared
    }

    /// Which columns of its tables' keys are a field of an input's records: the column, the input and the field.
    fn key_fields(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &[]
    }

    /// Looks at the beginning of a dataset, where its inputs have any. `wait` is to be called while a stream has nothing to give.
    fn look(&self, _split: &Split, _opener: &dyn Opener, _wait: &mut dyn FnMut()) -> Option<LookedAt> {
        None
    }

    /// Builds the graph: takes records from `inputs`, and publishes each table that `outputs` wants.
    ///
    /// A graph does no I/O, reads no clock and cannot fail.
    fn build<'s>(&self, inputs: &Inputs<'s>, outputs: &mut Outputs<'s>);
}

/// What a look at the beginning of a dataset found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Why nothing of it can be read, where that is so.
    pub error: Option<String>,
    /// Lines that would be skipped.
    pub skipped_lines: u64,
    /// Whether there is more behind what was read.
    pub more: bool,
}

/// Why input could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// An option's value can't be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A file could not be written.
    #[error("could not write generated input: {0}")]
    Write(#[from] io::Error),
}

/// Where a generator writes.
pub trait Files {
    /// A new file at this path, relative to the output folder.
    fn create(&mut self, path: &str) -> io::Result<Box<dyn io::Write>>;
}
