//! `retally run`: batches in, tables out.

use super::args;
use super::error::{CliError, say, unless_broken_pipe};
use super::progress::ProgressShown;
use super::query::nearest;
use super::show;
use crate::charts;
use crate::cluster::Cluster;
use crate::engine::summary::{Progress, Summary};
use crate::engine::{self, Commit, CommitError, Driver, EngineError, Job};
use crate::ingest::batch::{Batch, Part, Source};
use crate::points::staged::StagedPoints;
use crate::points::{Destination, Dropped, PointsError};
use crate::registry;
use crate::sinks::changes::ChangesWriter;
use crate::sinks::{self, Format, Reached, Sink};
use crate::staged::{Staged, why};
use crate::tables::{Run, Tables};
use clap::ArgMatches;
use clap::parser::ValueSource;
use retally_core::contract::{Dataflow, Definition, Graph, Table};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first port of processes on one host, as timely has it.
const FIRST_PORT: usize = 2101;

const THEN_HINT: &str = "separate inputs by spaces; quote a path that has some: --then \"events='late events.csv'\"";

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let definition = dataflow.definition();
    let text = |name: &str| matches.get_one::<String>(name);
    let job = job(dataflow, matches)?;
    let cluster = cluster(matches)?;
    if cluster.processes() > 1 && text("as-of").is_some_and(|as_of| as_of == "now") {
        return Err(CliError::usage("--as-of now is another time on each process").hint("give all processes the same time"));
    }
    if cluster.processes() > 1 && matches!(job.points, Destination::Store(_)) {
        return Err(CliError::usage("--points store:DIR is for one process alone")
            .hint("let one process have more workers: -w N; or give a server or file:PATH"));
    }
    let batches = batches(&definition, matches)?;
    let mut driver = RunDriver::silent(&job, batches);
    if cluster.process == 0 {
        driver.changes = text("changes").map(|path| ChangesFile::create(Path::new(path))).transpose()?;
        driver.quiet = matches.get_flag("quiet");
        driver.progress = ProgressShown::new(driver.quiet);
        driver.ending = Some(Ending { sink: sink(&job, matches)?, charts: text("charts").map(PathBuf::from), job: job.clone() });
    }
    engine::run(&job, &cluster, driver)?;
    Ok(())
}

fn job(dataflow: &dyn Dataflow, matches: &ArgMatches) -> Result<Job, CliError> {
    let definition = dataflow.definition();
    let settings = args::settings(&definition.settings, matches);
    let as_of = args::as_of(matches.get_one::<String>("as-of"), &settings).map_err(CliError::usage)?;
    let settings = settings.with_as_of(as_of);
    let graph = dataflow.graph(&settings).map_err(|error| CliError::usage(error.to_string()))?;
    let all: Vec<&str> = graph.tables().iter().map(|table| table.name).collect();
    let tables = match matches.get_many::<String>("tables") {
        None => all.iter().map(ToString::to_string).collect(),
        Some(wanted) => {
            let wanted: Vec<&String> = wanted.collect();
            if let Some(unknown) = wanted.iter().find(|name| !all.contains(&name.as_str())) {
                let message = format!("--tables names {unknown:?}, which {} does not have", definition.name);
                return Err(CliError::usage(message).hint(format!("its tables are {}", all.join(", "))));
            }
            wanted.into_iter().cloned().collect()
        }
    };
    let tables = with_pieces(&*graph, tables, matches.contains_id("charts"))?;
    let rejected_max = matches.get_one::<u64>("max-rejected").copied();
    let points = points(&*graph, matches)?;
    Ok(Job { definition, graph: Arc::from(graph), settings, tables, rejected_max, points })
}

/// The tables, with those that charts of single keys need when charts are drawn.
fn with_pieces(graph: &dyn Graph, mut tables: BTreeSet<String>, charts: bool) -> Result<BTreeSet<String>, CliError> {
    let key_charts = graph.key_charts();
    if charts {
        tables.extend(key_charts.iter().map(|chart| chart.table.to_string()));
    } else if let Some(chart) = key_charts.iter().find(|chart| !chart.asked.is_empty()) {
        let message = format!("--{} without --charts would draw nothing", chart.setting);
        return Err(CliError::usage(message).hint("say where charts go: --charts DIR"));
    }
    Ok(tables)
}

/// Where points go: as given; otherwise into the folder of the tables.
fn points(graph: &dyn Graph, matches: &ArgMatches) -> Result<Destination, CliError> {
    if graph.measurements().is_empty() {
        return Ok(Destination::Nowhere);
    }
    let text = |name: &str| matches.get_one::<String>(name);
    match (text("points"), text("out")) {
        (Some(dest), _) => dest.parse().map_err(|error: PointsError| {
            CliError::usage(error.to_string())
                .hint("give store:DIR, file:PATH, or the URL of a server that takes line protocol: http://HOST:PORT/PATH")
        }),
        (None, Some(out)) => match sinks::Destination::parse(out) {
            Ok(sinks::Destination::Directory(dir)) => Ok(Destination::File(dir.join("points.lp"))),
            _ => Ok(Destination::Nowhere),
        },
        (None, None) => Ok(Destination::Nowhere),
    }
}

fn cluster(matches: &ArgMatches) -> Result<Cluster, CliError> {
    let number = |name: &str| matches.get_one::<u64>(name).map(|number| usize::try_from(*number).unwrap_or(usize::MAX));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (workers, processes, process) =
        (number("workers").unwrap_or(cores), number("processes").unwrap_or(1), number("process").unwrap_or(0));
    if !(1..=1024).contains(&workers) || !(1..=1024).contains(&processes) || process >= processes {
        return Err(CliError::usage(format!("can't be process {process} of {processes} with {workers} workers"))
            .hint("from 1 to 1024 workers and processes; the first process is 0"));
    }
    if processes == 1 && matches.get_one::<String>("hosts").is_some() {
        return Err(CliError::usage("--hosts without --processes would run alone").hint("say how many of the hosts take part: -n N"));
    }
    let addresses = match matches.get_one::<String>("hosts") {
        None if processes == 1 => Vec::new(),
        None => (0..processes).map(|process| format!("localhost:{}", FIRST_PORT + process)).collect(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| CliError::usage(format!("could not read --hosts {path:?}: {error}")))?;
            let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
            if lines.len() < processes {
                return Err(CliError::usage(format!("--hosts {path:?} has {} addresses for {processes} processes", lines.len())));
            }
            lines.into_iter().take(processes).collect()
        }
    };
    Ok(Cluster { workers, process, addresses })
}

/// The batches: the positional inputs, and each `--then`.
fn batches(definition: &Definition, matches: &ArgMatches) -> Result<Vec<Batch>, CliError> {
    let first: Vec<String> = matches.get_many("inputs").into_iter().flatten().cloned().collect();
    let mut batches = vec![first];
    for then in matches.get_many::<String>("then").into_iter().flatten() {
        let words = shlex::split(then).filter(|words| !words.is_empty());
        batches.push(words.ok_or_else(|| CliError::usage(format!("--then {then:?} is no list of INPUT=PATH")).hint(THEN_HINT))?);
    }
    let parsed: Vec<Batch> = batches.iter().map(|inputs| batch(definition, inputs)).collect::<Result<_, _>>()?;
    let named: Vec<usize> = parsed.iter().flat_map(|batch| batch.parts.iter().map(|part| part.input)).collect();
    for (place, input) in definition.inputs.iter().enumerate() {
        if input.required && !named.contains(&place) {
            return Err(CliError::usage(format!("{} needs {}=PATH", definition.name, input.name)).hint(input.about));
        }
    }
    Ok(parsed)
}

/// A batch from `INPUT=PATH` and `INPUT-=PATH`.
pub fn batch(definition: &Definition, inputs: &[String]) -> Result<Batch, CliError> {
    let names = || definition.inputs.iter().map(|input| input.name).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    for given in inputs {
        let Some((name, path)) = given.split_once('=') else {
            return Err(CliError::usage(format!("{given:?} is not INPUT=PATH")).hint(format!(
                "the inputs of {} are {}",
                definition.name,
                names()
            )));
        };
        let (name, sign) = name.strip_suffix('-').map_or((name, 1), |name| (name, -1));
        let Some(input) = definition.inputs.iter().position(|input| input.name == name) else {
            return Err(CliError::usage(format!("{} has no input {name:?}", definition.name)).hint(format!("its inputs are {}", names())));
        };
        parts.push(Part { input, sign, source: Source::Path(path.into()) });
    }
    Ok(Batch { parts })
}

/// The destination of `--out`, opened for the tables that are built.
fn sink(job: &Job, matches: &ArgMatches) -> Result<Option<Box<dyn Sink>>, CliError> {
    let Some(out) = matches.get_one::<String>("out") else { return Ok(None) };
    let destination = sinks::Destination::parse(out).map_err(|error| CliError::usage(error.to_string()).hint(error.hint))?;
    if !destination.has_files() && matches.value_source("format") == Some(ValueSource::CommandLine) {
        return Err(CliError::usage("--format is of files, and --out is a database").hint("leave --format out, or give a folder"));
    }
    let format = matches.get_one::<Format>("format").copied().unwrap_or_default();
    let mut tables = job.graph.tables();
    tables.retain(|table| job.tables.contains(table.name));
    tables.push(Table::rejected());
    Ok(Some(destination.open(format, tables.iter())?))
}

/// The file of `--changes`: written beside its place, and put there when all is done.
struct ChangesFile {
    path: PathBuf,
    writer: ChangesWriter<Target>,
}

/// A pipe or a device can't be replaced: it is written as changes come.
enum Target {
    Staged(Staged),
    Direct(File),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Staged(staged) => staged.file().write(bytes),
            // The reader of a pipe that has seen enough is no error.
            Target::Direct(file) => match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
                written => written,
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Staged(staged) => staged.file().flush(),
            Target::Direct(file) => file.flush(),
        }
    }
}

impl ChangesFile {
    fn create(path: &Path) -> Result<ChangesFile, CliError> {
        let special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let target =
            if special { File::options().write(true).open(path).map(Target::Direct) } else { Staged::create(path).map(Target::Staged) };
        let writer = ChangesWriter::new(target.map_err(|error| CliError::failed(failed(path, &error)))?);
        Ok(ChangesFile { path: path.into(), writer })
    }

    fn write(&mut self, table: &Table, epoch: u64, row: &[u8], diff: i64) -> Result<(), CliError> {
        let written = self.writer.write(table, epoch, row, diff).map_err(|error| CliError::failed(failed(&self.path, &error)));
        written.map_err(|error| error.hint("see that there is space, and that you may write there; then run again"))
    }

    fn keep(self) -> Result<(), CliError> {
        let ChangesFile { path, writer } = self;
        let published = writer.finish().and_then(|target| match target {
            Target::Staged(staged) => staged.sync().and_then(|()| staged.publish().map(drop)),
            Target::Direct(_) => Ok(()),
        });
        published.map_err(|error| CliError::failed(failed(&path, &error)))
    }
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("could not write changes to {:?}: {}", path.display().to_string(), why(error))
}

/// Where what came out goes.
struct Ending {
    job: Job,
    /// Without one, tables are printed.
    sink: Option<Box<dyn Sink>>,
    charts: Option<PathBuf>,
}

/// Holds the tables of a run.
pub struct RunDriver {
    batches: VecDeque<Batch>,
    /// The tables after the batches that are committed.
    pub tables: Tables,
    changes: Option<ChangesFile>,
    progress: ProgressShown,
    quiet: bool,
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
            tables: Tables::new(&*job.graph, &job.tables),
            changes: None,
            progress: ProgressShown::new(true),
            quiet: true,
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
    fn end(&mut self, ending: Ending, points: Vec<StagedPoints>) -> Result<(), CliError> {
        let Ending { job, mut sink, charts } = ending;
        let epoch = self.summaries.last().map_or(0, |summary| summary.epoch);
        let reached = Reached { dataflow: job.definition.name.into(), epoch, fingerprint: job.fingerprint() };
        let mut written = match &mut sink {
            Some(sink) => sink.bring(&self.tables.all(), &reached)?,
            None => Vec::new(),
        };
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
        if sink.is_none() {
            let shown = self.tables.all().into_iter().filter(|state| state.table().name != "rejected" || !state.is_empty());
            let text: Vec<String> = shown.map(show::table).collect();
            unless_broken_pipe(stdout().write_all(text.join("\n").as_bytes()))?;
        }
        self.check_keys(&job)
    }
}

impl Driver for RunDriver {
    fn next(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    fn progress(&mut self, progress: Progress) {
        self.progress.show(progress);
    }

    fn commit(&mut self, commit: Commit) -> Result<(), CommitError> {
        self.progress.done();
        let Commit { mut summary, changes, rejected, .. } = commit;
        let applied = self.tables.apply(changes, rejected);
        for (name, batches) in &applied {
            summary.changed.insert((*name).into(), batches.iter().map(|batch| batch.len() as u64).sum());
            let (Some(file), Some(state)) = (&mut self.changes, self.tables.get(name)) else { continue };
            for (row, diff) in batches.iter().flat_map(|batch| batch.iter()) {
                file.write(state.table(), summary.epoch, row, diff)?;
            }
        }
        self.last_changes = if summary.epoch > 1 { applied } else { BTreeMap::new() };
        if !self.quiet {
            say(show::summary(&summary).trim_end());
        }
        self.summaries.push(summary);
        Ok(())
    }

    fn finish(&mut self, dropped: &Dropped, points: Vec<StagedPoints>) -> Result<(), CommitError> {
        // Said even when all is to be quiet: something is missing where the points are.
        if let Some(first) = &dropped.first {
            say(&show::dropped(dropped.points, first));
        }
        match self.ending.take() {
            Some(ending) => Ok(self.end(ending, points)?),
            None => Ok(engine::publish(points)?),
        }
    }
}
