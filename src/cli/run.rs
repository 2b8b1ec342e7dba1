//! `retally run`: batches in, tables out.

use super::args;
use super::changes::ChangesFile;
use super::cluster;
use super::error::{self, CliError, say, unless_broken_pipe};
use super::job;
use super::outputs;
use super::progress::ProgressShown;
use super::show;
use super::stored::Stored;
use super::suggest::nearest;
use crate::charts;
use crate::engine::summary::{Progress, Summary};
use crate::engine::{self, Commit, CommitError, Driver, EngineError, Job, Next};
use crate::ingest::batch::Batch;
use crate::memory;
use crate::points::staged::StagedPoints;
use crate::points::{Destination, Dropped};
use crate::registry;
use crate::sinks::{Deletions, Reached, Sink};
use crate::tables::{Run, Tables};
use clap::ArgMatches;
use retally_core::Epoch;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Write, stdout};
use std::path::PathBuf;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let text = |name: &str| matches.get_one::<String>(name);
    let job = job::job(dataflow, matches)?;
    let mut cluster = cluster::cluster(matches)?;
    let home = args::home_of(matches)?;
    cluster.membership.shared = cluster::shared(home.as_ref());
    cluster::check_processes(&cluster, matches)?;
    let batches = job::batches(&job.definition, matches)?;
    error::listen_to_signals()?;
    memory::watch(|warning| say(&format!("note: {warning}")));
    let outputs = if cluster.process == 0 { outputs::check(&job, &batches, matches) } else { Ok(()) };
    let mut driver = RunDriver::silent(&job, batches);
    match outputs {
        // The others are waiting, and are to hear of it.
        Err(error) if cluster.processes() > 1 => driver.refused = Some(error),
        outputs => outputs?,
    }
    if cluster.process == 0 && driver.refused.is_none() {
        driver.changes = text("changes").map(|path| ChangesFile::create(&args::written("changes", path)?)).transpose()?;
        driver.quiet = matches.get_flag("quiet");
        driver.progress = ProgressShown::new(driver.quiet);
        let mut opened = Vec::new();
        if let Some(home) = home {
            let (stored, tables) = Stored::open(&home, dataflow.definition(), &job, matches)?;
            driver.stored = Some(stored);
            // What is there follows from the state, whatever is in this input.
            opened.push((tables, Deletions::Any));
        }
        let sink = job::sink(&job, matches);
        let sink = match sink {
            // The others are waiting, and are to hear of it.
            Err(error) if cluster.processes() > 1 && error.is_failure() => {
                driver.refused = Some(error);
                None
            }
            sink => sink?,
        };
        let deletions = if matches.get_flag("replace") { Deletions::Any } else { Deletions::Guarded };
        let charts = text("charts").map(|path| args::written("charts", path)).transpose()?;
        opened.extend(sink.map(|sink| (sink, deletions)));
        driver.ending = Some(Ending { sinks: opened, charts, job: job.clone() });
    }
    let driver = engine::run(&job, &cluster, driver)?;
    // The process ends. The system takes all its memory back at once, sooner than millions of rows are given back.
    std::mem::forget(driver.map(|driver| driver.tables));
    Ok(())
}

/// Where what came out goes.
struct Ending {
    job: Job,
    /// With how much may be deleted there. Without any, tables are printed.
    sinks: Vec<(Box<dyn Sink>, Deletions)>,
    charts: Option<PathBuf>,
}

/// Holds the tables of a run.
pub struct RunDriver {
    batches: VecDeque<Batch>,
    /// What was there before, and to what batches are added.
    stored: Option<Stored>,
    /// The last epoch that is complete.
    epoch: Epoch,
    /// The tables after the batches that are committed.
    pub tables: Tables,
    changes: Option<ChangesFile>,
    progress: ProgressShown,
    quiet: bool,
    /// Why tables can't be written.
    refused: Option<CliError>,
    /// What is done when all batches are committed.
    ending: Option<Ending>,
    /// What each batch was and did.
    pub summaries: Vec<Summary>,
    /// The changes of the last batch, by table; not those of the first.
    pub last_changes: BTreeMap<&'static str, Run>,
}

impl RunDriver {
    /// A driver that only holds tables.
    pub fn silent(job: &Job, batches: Vec<Batch>) -> RunDriver {
        RunDriver {
            batches: batches.into(),
            stored: None,
            epoch: 0,
            tables: Tables::new(&*job.graph, &job.tables),
            changes: None,
            progress: ProgressShown::new(true),
            quiet: true,
            refused: None,
            ending: None,
            summaries: Vec::new(),
            last_changes: BTreeMap::new(),
        }
    }

    /// An error where keys that were asked for are not there, with those that come near to the first.
    fn check_keys(&self, job: &Job) -> Result<(), CliError> {
        for chart in job.graph.key_charts() {
            let Some(pieces) = self.tables.pieces_of(&chart) else { continue };
            let (missing, known) = charts::missing_keys(&chart, pieces);
            if let Some(first) = missing.first() {
                let others = if missing.len() > 1 { format!(", and not {} others", missing.len() - 1) } else { String::new() };
                let message = format!("drew no chart of {} {first:?}{others}: it is not there; all else is done", chart.noun);
                return Err(CliError::failed(message).hint(nearest(chart.noun, first, &known)));
            }
        }
        Ok(())
    }

    /// Writes or prints what came out.
    fn end(&mut self, ending: Ending, mut points: Vec<StagedPoints>) -> Result<(), CliError> {
        let Ending { job, mut sinks, charts } = ending;
        let reached = Reached { dataflow: job.definition.name.into(), epoch: self.epoch, fingerprint: job.fingerprint() };
        let mut written = Vec::new();
        for (sink, deletions) in &mut sinks {
            points = points.into_iter().filter_map(|points| sink.take_points(points)).collect();
            written.extend(sink.bring(&self.tables.all(), &reached, *deletions)?);
            // Said even when all is to be quiet: it is about what was there before.
            sink.remarks().iter().for_each(|remark| say(&format!("note: {remark}")));
        }
        let is_shown = sinks.is_empty();
        // Each has its destination locked.
        drop(sinks);
        self.stored.iter().try_for_each(|stored| stored.keep_settings(&job))?;
        engine::publish(points).map_err(EngineError::Commit)?;
        if let Destination::File(path) = &job.points {
            written.push(path.display().to_string());
        }
        if let Some(dir) = charts {
            written.extend(charts::draw_all(&*job.graph, &self.tables, &dir)?.iter().map(|path| path.display().to_string()));
        }
        if let Some(changes) = self.changes.take() {
            written.push(changes.path.display().to_string());
            changes.keep()?;
        }
        if !self.quiet {
            written.iter().for_each(|what| say(&format!("wrote {what}")));
        }
        if is_shown {
            let shown = self.tables.all().into_iter().filter(|state| state.table().name != "rejected" || !state.is_empty());
            let text: Vec<String> = shown.map(show::table).collect();
            unless_broken_pipe(stdout().write_all(text.join("\n").as_bytes()))?;
        }
        self.check_keys(&job)
    }
}

impl Driver for RunDriver {
    fn begin(&mut self) -> Result<(), CommitError> {
        self.refused.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn next(&mut self) -> Result<Option<Next>, EngineError> {
        let Some(stored) = &mut self.stored else { return Ok(self.batches.pop_front().map(Next::Batch)) };
        stored.next(&mut self.batches).map_err(|error| EngineError::Commit(error.into()))
    }

    fn progress(&mut self, progress: Progress) {
        self.progress.show(progress);
    }

    fn commit(&mut self, commit: Commit) -> Result<(), CommitError> {
        self.progress.done();
        let Commit { mut summary, changes, rejected, is_replay, .. } = commit;
        let applied = self.tables.apply(changes, rejected);
        self.epoch = summary.epoch;
        if is_replay {
            self.stored.iter().for_each(|stored| stored.taken_up(&summary));
            return Ok(());
        }
        for (name, batches) in &applied {
            summary.changed.insert((*name).into(), batches.iter().map(|batch| batch.len() as u64).sum());
            let (Some(file), Some(state)) = (&mut self.changes, self.tables.get(name)) else { continue };
            for (row, diff) in batches.iter().flat_map(|batch| batch.iter()) {
                file.write(state.table(), summary.epoch, row, diff)?;
            }
        }
        if let Some(stored) = &mut self.stored {
            stored.commit(&summary)?;
        }
        self.last_changes = if summary.epoch > 1 { applied } else { BTreeMap::new() };
        if !self.quiet {
            show::summary(&summary).lines().for_each(say);
        }
        self.summaries.push(summary);
        Ok(())
    }

    fn finish(&mut self, dropped: &Dropped, points: Vec<StagedPoints>) -> Result<(), CommitError> {
        // Said even when all is to be quiet: something is missing where the points are.
        if let Some(first) = &dropped.first {
            say(&show::dropped(dropped.points, first));
        }
        if let (Some(first), false) = (&dropped.replaced.first, self.quiet) {
            say(&show::replaced(dropped.replaced.points, first));
        }
        match self.ending.take() {
            Some(ending) => Ok(self.end(ending, points)?),
            None => Ok(engine::publish(points)?),
        }
    }
}
