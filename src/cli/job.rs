//! From flags to what is run: the job, its batches, the workers of one process, and where tables and points go.

use super::args;
use super::cluster;
use super::error::CliError;
use super::files::{self, Given};
use super::mapping::{self, Section};
use crate::engine::Job;
use crate::ingest::batch::{Batch, Part, Source};
use crate::ingest::plan::STDIN;
use crate::ingest::rejected::KEPT_MAX;
use crate::points::{Destination, PointsError};
use crate::serve::served::Served;
use crate::shown;
use crate::silence::silence_max;
use crate::sinks::{self, Format, Sink};
use crate::state::State;
use crate::state::home::Home;
use clap::ArgMatches;
use clap::parser::ValueSource;
use retally_core::contract::{Dataflow, Definition, Graph, SettingError, Settings, Table};
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SAFE_OF_CSV: &str = "--csv-safe is of CSV files, and none are written";
/// How long a server of a database may be silent.
pub const NETWORK_TIMEOUT: Duration = Duration::from_secs(60);

const THEN_HINT: &str = "separate inputs by spaces; quote a path that has some: --then \"events='late events.csv'\"";

/// What is read, and how.
pub struct InputConfig {
    /// The dataflow, with the mappings of its inputs.
    pub definition: Definition,
    /// Its settings.
    pub settings: Settings,
    /// What a configuration file sets.
    section: Section,
    /// Events before this are refused.
    pub accept_from: Moment,
}

/// What a command line and its configuration file set for the input.
pub fn input_config(dataflow: &dyn Dataflow, matches: &ArgMatches) -> Result<InputConfig, CliError> {
    let mut definition = dataflow.definition();
    let section = mapping::section(&definition, matches)?;
    section.map(&mut definition)?;
    mapping::map(&mut definition, matches.get_many::<String>("map").into_iter().flatten())?;
    let files = files::options(|option| files::by_flag(matches, option).or_else(|| section.option(definition.name, option)))?;
    definition.inputs.iter_mut().for_each(|input| input.files = files.clone());
    let settings = args::settings(&definition.settings, section.settings(), matches);
    let settings = dataflow.settle(&mut definition, settings, &given(matches));
    let settings = settings.map_err(|error| unusable(&error, definition.name, &section, &[], matches))?;
    let accept_from = accept_from(matches, &settings)?;
    Ok(InputConfig { definition, settings, section, accept_from })
}

/// An error about a setting, which names what said it: a flag, `--set`, or the section of the configuration file.
fn unusable(error: &SettingError, dataflow: &str, section: &Section, set: &[String], matches: &ArgMatches) -> CliError {
    let SettingError { name, value, why } = error;
    if set.iter().any(|given| given.split_once('=').is_some_and(|(known, _)| known == name)) {
        return CliError::usage(format!("--set {dataflow}.{name} {value:?} {why}"));
    }
    // Not every command takes all of them as flags.
    let is_flag = matches.try_contains_id(name).unwrap_or(false) && matches.value_source(name) == Some(ValueSource::CommandLine);
    if is_flag || !section.has(name) {
        return CliError::usage(error.to_string());
    }
    section.within(CliError::usage(format!("[{dataflow}] {name} {value:?} {why}")))
}

/// What was given as as-of.
fn as_of_given<'m>(section: &'m Section, matches: &'m ArgMatches) -> Option<&'m String> {
    matches.get_one::<String>("as-of").or(section.as_of())
}

/// An error about as-of, likewise.
fn unusable_as_of(error: &str, dataflow: &str, section: &Section, matches: &ArgMatches) -> CliError {
    if matches.contains_id("as-of") {
        return CliError::usage(error);
    }
    section.within(CliError::usage(format!("[{dataflow}] {}", error.trim_start_matches("--"))))
}

/// From when on events are accepted.
fn accept_from(matches: &ArgMatches, settings: &Settings) -> Result<Moment, CliError> {
    let not_before = matches.get_one::<String>("not-before");
    not_before.map_or(Ok(Moment::NOT_BEFORE), |text| args::not_before(text, settings)).map_err(CliError::usage)
}

/// The job of a command line.
pub fn job(dataflow: &dyn Dataflow, matches: &ArgMatches) -> Result<Job, CliError> {
    let InputConfig { definition, settings, section, accept_from } = input_config(dataflow, matches)?;
    let as_of = args::as_of(as_of_given(&section, matches), &settings);
    let as_of = as_of.map_err(|error| unusable_as_of(&error, definition.name, &section, matches))?;
    let settings = settings.with_as_of(as_of);
    let graph = dataflow.graph(&settings).map_err(|error| unusable(&error, definition.name, &section, &[], matches))?;
    // As a service has it, the dataflow may stand before the table.
    let own = |table: &String| table.strip_prefix(definition.name).and_then(|table| table.strip_prefix('.')).unwrap_or(table).to_string();
    let wanted = matches.get_many::<String>("tables").map(|wanted| wanted.map(own).collect::<Vec<_>>());
    let tables = built(definition.name, &*graph, wanted.as_deref(), &section)?;
    let tables = with_pieces(&*graph, tables, matches.contains_id("charts"))?;
    let rejected_max = matches.get_one::<u64>("max-rejected").copied();
    let rejected_kept = matches.get_one::<u64>("keep-rejected").copied().unwrap_or(KEPT_MAX);
    let points = points(&*graph, matches)?;
    Ok(Job {
        definition,
        graph: Arc::from(graph),
        settings,
        tables,
        accept_from,
        rejected_kept,
        rejected_by_batch: false,
        rejected_max,
        points,
        given: delivered(matches),
    })
}

/// The tables that are built: those that flags name, or the section of the configuration file, or all.
fn built(dataflow: &str, graph: &dyn Graph, by_flags: Option<&[String]>, section: &Section) -> Result<BTreeSet<String>, CliError> {
    let all = graph.tables();
    let Some(wanted) = by_flags.or(section.tables()) else { return Ok(all.iter().map(|table| table.name.into()).collect()) };
    if let Some(unknown) = wanted.iter().find(|name| !all.iter().any(|table| table.name == name.as_str())) {
        let names: Vec<&str> = all.iter().map(|table| table.name).collect();
        let error = |of: &str| CliError::usage(format!("{of} names {unknown:?}, which {dataflow} does not have"));
        let error = if by_flags.is_some() { error("--tables") } else { section.within(error(&format!("[{dataflow}] tables"))) };
        return Err(error.hint(format!("its tables are {}", names.join(", "))));
    }
    Ok(wanted.iter().cloned().collect())
}

/// A dataflow of a service whose points are in `dir`, with the settings of a configuration file and of `--set`.
pub fn served(dataflow: &dyn Dataflow, matches: &ArgMatches, dir: &Path) -> Result<Served, CliError> {
    let plain = dataflow.definition();
    let mut definition = plain.clone();
    let own = |flag: &str| -> Vec<String> {
        let given = matches.get_many::<String>(flag).into_iter().flatten();
        given.filter_map(|given| Some(given.strip_prefix(plain.name)?.strip_prefix('.')?.to_string())).collect()
    };
    let section = mapping::section(&definition, matches)?;
    section.map(&mut definition)?;
    mapping::map(&mut definition, &own("map"))?;
    let mut settings = args::settings(&definition.settings, section.settings(), matches);
    let mut of_files: BTreeMap<String, String> = BTreeMap::new();
    let set = own("set");
    for given in &set {
        let known: Vec<&str> = definition.settings.iter().map(|setting| setting.name).collect();
        match given.split_once('=') {
            Some((name, value)) if known.contains(&name) => settings = settings.with(name, value),
            Some((name, value)) if files::OF_SERVICE.contains(&name) => drop(of_files.insert(name.into(), value.into())),
            _ => {
                let error = CliError::usage(format!("--set {}.{given} is no setting", plain.name));
                let hint = format!("{}.SETTING=VALUE; its settings are {}", plain.name, known.join(", "));
                return Err(error.hint(format!("{hint}; how its files are read: {}", files::OF_SERVICE.join(", "))));
            }
        }
    }
    if section.option(plain.name, "header").is_some() {
        let error = CliError::usage(format!("[{}] header: a service reads each file by its own", plain.name));
        return Err(error.hint("leave it out, and say what the columns are called: --map"));
    }
    let by_set = |option: &str| Some(Given { of: format!("--set {}.{option}", plain.name), value: of_files.get(option)?.clone() });
    let files = files::options(|option| by_set(option).or_else(|| section.option(plain.name, option)))?;
    definition.inputs.iter_mut().for_each(|input| input.files = files.clone());
    let inputs: Vec<String> = definition.inputs.iter().map(|input| input.name.to_string()).collect();
    let is_wide = settings.text("layout") == "wide";
    // All of them may come, but for those that a layout does without.
    let given = if is_wide { &[][..] } else { &inputs };
    let of_setting = |error: SettingError| unusable(&error, plain.name, &section, &set, matches);
    let settings = dataflow.settle(&mut definition, settings, given).map_err(of_setting)?;
    let as_of = args::as_of_service(as_of_given(&section, matches), &settings);
    let as_of = as_of.map_err(|error| unusable_as_of(&error, plain.name, &section, matches))?;
    let settings = settings.with_as_of(as_of);
    let accept_from = accept_from(matches, &settings)?;
    let graph = dataflow.graph(&settings).map_err(of_setting)?;
    let wanted = own("tables");
    let tables = built(plain.name, &*graph, Some(wanted.as_slice()).filter(|wanted| !wanted.is_empty()), &section)?;
    let points = match matches.get_one::<String>("points") {
        _ if graph.measurements().is_empty() => Destination::Nowhere,
        Some(given) => destination(given)?,
        None => Destination::Store(State::points(dir)),
    };
    let job =
        Job { accept_from, rejected_kept: KEPT_MAX, rejected_by_batch: true, points, ..Job::new(definition, graph, settings, tables) };
    Ok(Served::new(plain, job))
}

/// Where a service's state is: by its flags, or by the configuration file.
pub fn state_of(matches: &ArgMatches) -> Result<Home, CliError> {
    let file = mapping::read(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    match (text("state"), file.state) {
        // A folder that a flag names needs nothing of what the file says of a bucket.
        (Some(state), _) if !Home::is_bucket(&state) => args::home(&state, text("scratch").as_ref()),
        (Some(state), _) | (None, Some(state)) => args::home(&state, text("scratch").or(file.scratch).as_ref()),
        (None, None) => Err(CliError::usage("a service needs a folder for what it is given").hint("say which: --state DIR")),
    }
}

/// What a command line delivers, word by word: process 0 alone looks at it, and the others are to mean the same.
fn delivered(matches: &ArgMatches) -> Vec<String> {
    // Not every command takes all of them.
    let values = |name: &str| matches.try_get_many::<String>(name).ok().flatten().into_iter().flatten().cloned();
    let first = values("inputs").collect::<Vec<_>>().join(" ");
    let first = (!first.is_empty()).then(|| format!("inputs={first}"));
    let then = values("then").zip(2..).map(|(then, number)| format!("batch-{number}={then}"));
    let sync = values("sync").zip(1..).map(|(sync, number)| format!("sync-{number}={sync}"));
    first.into_iter().chain(then).chain(sync).collect()
}

/// The inputs that a command line names, as far as they can be told.
fn given(matches: &ArgMatches) -> Vec<String> {
    let first = matches.get_many::<String>("inputs").into_iter().flatten().cloned();
    // Not every command takes later batches.
    let then = matches.try_get_many::<String>("then").ok().flatten().into_iter().flatten();
    let words = first.chain(then.filter_map(|then| shlex::split(then)).flatten());
    let name = |given: String| given.split_once('=').map(|(name, _)| name.strip_suffix('-').unwrap_or(name).to_string());
    words.filter_map(name).collect()
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

fn destination(given: &str) -> Result<Destination, CliError> {
    given.parse().map_err(|error: PointsError| {
        CliError::usage(error.to_string())
            .hint("give store:DIR, file:PATH, or the URL of a server that takes line protocol: http://HOST:PORT/PATH")
    })
}

/// Where points go: as given; otherwise into the folder of the tables.
fn points(graph: &dyn Graph, matches: &ArgMatches) -> Result<Destination, CliError> {
    if graph.measurements().is_empty() {
        return Ok(Destination::Nowhere);
    }
    let text = |name: &str| matches.get_one::<String>(name);
    match (text("points"), text("out")) {
        (Some(given), _) => destination(given),
        (None, Some(out)) => match sinks::Destination::parse(out) {
            Ok(sinks::Destination::Directory(dir)) => Ok(Destination::File(dir.join("points.lp"))),
            _ => Ok(Destination::Nowhere),
        },
        (None, None) => Ok(args::home_of(matches)?.map_or(Destination::Nowhere, |home| Destination::Store(State::points(home.local())))),
    }
}

/// The workers of a command line, where there is one process.
pub fn cluster_of_one(matches: &ArgMatches) -> Result<usize, CliError> {
    cluster::workers(cluster::number(matches, "workers"))
}

/// The batches: the positional inputs, and each `--then`.
pub fn batches(definition: &Definition, matches: &ArgMatches) -> Result<Vec<Batch>, CliError> {
    let first: Vec<String> = matches.get_many("inputs").into_iter().flatten().cloned().collect();
    let mut batches = vec![first];
    for then in matches.get_many::<String>("then").into_iter().flatten() {
        let words = shlex::split(then).filter(|words| !words.is_empty());
        batches.push(
            words.ok_or_else(|| CliError::usage(format!("--then {:?} is no list of INPUT=PATH", shown::location(then))).hint(THEN_HINT))?,
        );
    }
    let mut parsed: Vec<Batch> = batches.iter().map(|inputs| batch(definition, inputs)).collect::<Result<_, _>>()?;
    let is_stdin = |part: &&Part| matches!(&part.source, Source::Path(path) if path == STDIN);
    if parsed.iter().flat_map(|batch| &batch.parts).filter(is_stdin).count() > 1 {
        let hint = "write it to a file first, or give a pipe to each: INPUT=<(COMMAND)";
        return Err(CliError::usage("standard input (-) is given more than once, and can be read once").hint(hint));
    }
    if matches.contains_id("state") {
        // What is required may be there already.
        parsed.retain(|batch| !batch.parts.is_empty());
        return Ok(parsed);
    }
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
            return Err(CliError::usage(format!("{:?} is not INPUT=PATH", shown::location(given))).hint(format!(
                "the inputs of {} are {}",
                definition.name,
                names()
            )));
        };
        let (name, sign) = name.strip_suffix('-').map_or((name, 1), |name| (name, -1));
        let Some(input) = definition.inputs.iter().position(|input| input.name == name) else {
            return Err(CliError::usage(format!("{} has no input {:?}", definition.name, shown::location(name)))
                .hint(format!("its inputs are {}", names())));
        };
        parts.push(Part { input, sign, source: Source::Path(path.into()) });
    }
    Ok(Batch { parts })
}

/// The destination of `--out`, opened for the tables that are built.
pub fn sink(job: &Job, matches: &ArgMatches) -> Result<Option<Box<dyn Sink>>, CliError> {
    let safe = matches.get_flag("csv-safe");
    let Some(out) = matches.get_one::<String>("out") else {
        let (format, replace) = (matches.value_source("format"), matches.get_flag("replace"));
        return match (safe, format) {
            (true, _) => Err(CliError::usage(SAFE_OF_CSV).hint("give a folder: --out DIR")),
            (_, Some(ValueSource::CommandLine)) => {
                Err(CliError::usage("--format is of table files, and none are written").hint("give a folder: --out DIR"))
            }
            // Of a folder that is synced, it says that all files may go.
            _ if replace && !matches.contains_id("sync") => {
                let error = CliError::usage("--replace is of a database or a folder of --sync, and there is none");
                Err(error.hint("leave it out, or give --out sqlite:PATH or postgres://USER@HOST/DATABASE"))
            }
            _ => Ok(None),
        };
    };
    let destination = sinks::Destination::parse(out)?;
    if !destination.has_files() && matches.value_source("format") == Some(ValueSource::CommandLine) {
        return Err(CliError::usage("--format is of files, and --out is a database").hint("leave --format out, or give a folder"));
    }
    let format = match (matches.get_one::<String>("format").and_then(|name| Format::named(name)).unwrap_or_default(), safe) {
        (Format::Csv, true) if destination.has_files() => Format::CsvSafe,
        (_, true) => return Err(CliError::usage(SAFE_OF_CSV).hint("leave --csv-safe out, or --format")),
        (format, false) => format,
    };
    let (mut tables, left_out) = job.divided();
    tables.push(Table::rejected());
    let mut sink = destination.open(format, tables.iter(), silence_max(NETWORK_TIMEOUT))?;
    sink.check_left_out(&left_out, job.definition.name, &job.fingerprint())?;
    Ok(Some(sink))
}
