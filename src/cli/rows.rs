//! `retally query` of tables: those of a service, or of the state of one.

use super::asked::Asked;
use super::client::Server;
use super::error::{CliError, unless_broken_pipe};
use super::{points, query, replay, show, table, terminal};
use crate::sinks::SinkError;
use crate::sinks::live::read::{Question, Reader, Snapshot, Text};
use crate::state::State;
use crate::state::home::Home;
use clap::ArgMatches;
use retally_core::contract::{Graph, Table};
use std::io::{self, Read, Write, stdout};
use std::path::Path;

/// The table of refused records.
const REJECTED: &str = "rejected";

/// Prints rows of a table, or points.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let asked = Asked::of(matches)?;
    match (points::measurement(&asked), matches.get_one::<String>("state")) {
        (None, _) => print(&asked, matches),
        (Some(_), Some(dir)) => query::of_store(&State::points(Path::new(dir)), matches),
        (Some(measurement), None) => points::print(&asked, &measurement),
    }
}

/// Prints the records that were refused.
pub fn rejected(matches: &ArgMatches) -> Result<(), CliError> {
    let matches = match matches.subcommand() {
        Some(("list", matches)) => matches,
        Some(("replay", matches)) => return replay::main(matches),
        _ => return Ok(()),
    };
    let dataflow = matches.get_one::<String>("dataflow").map_or("", String::as_str);
    print(&Asked { dataflow, table: REJECTED, matches }, matches)
}

fn print(asked: &Asked<'_>, matches: &ArgMatches) -> Result<(), CliError> {
    let state = matches.get_one::<String>("state");
    match matches.get_one::<String>("format").map(String::as_str) {
        Some("table") | None => {
            let mut text = Vec::new();
            rows(asked, state, Text::Csv, &mut text)?;
            print_table(&format!("{}.{}", asked.dataflow, asked.table), &text)
        }
        Some(format) => {
            let format = if format == "csv" { Text::Csv } else { Text::Json };
            let mut out = terminal::out();
            match rows(asked, state, format, &mut out) {
                Err(Failed::Written(error)) => unless_broken_pipe(Err(error)),
                Err(error) => Err(error.into()),
                Ok(()) => unless_broken_pipe(out.flush()),
            }
        }
    }
}

enum Failed {
    Written(io::Error),
    Cli(CliError),
}

impl From<Failed> for CliError {
    fn from(failed: Failed) -> CliError {
        match failed {
            Failed::Cli(error) => error,
            Failed::Written(error) => CliError::failed(format!("could not print: {error}")),
        }
    }
}

impl From<CliError> for Failed {
    fn from(error: CliError) -> Failed {
        Failed::Cli(error)
    }
}

impl From<SinkError> for Failed {
    fn from(error: SinkError) -> Failed {
        Failed::Cli(error.into())
    }
}

/// Opens the tables of a state.
pub fn open_state(dir: &Path) -> Result<Reader, CliError> {
    if dir.to_str().is_some_and(Home::is_bucket) {
        let error = CliError::usage(format!("the tables of {dir:?} are not in the bucket, but in the scratch folder of its service"));
        return Err(error.hint("give that folder: --state SCRATCH"));
    }
    let path = State::tables(dir);
    if !path.is_file() {
        let error = CliError::failed(format!("the state {dir:?} has no tables"));
        return Err(error.hint("`retally run DATAFLOW ... --state DIR` and `retally serve` make them"));
    }
    Ok(Reader::open(&path)?)
}

/// The tables of a dataflow that a state holds.
pub fn held(snapshot: &Snapshot<'_>, graph: &dyn Graph) -> Result<Vec<&'static str>, SinkError> {
    let held = |table: Table| snapshot.has(table.name).map(|is_held| is_held.then_some(table.name)).transpose();
    graph.tables().into_iter().filter_map(held).collect()
}

/// Refuses a table that a state does not hold, and names those that it has.
pub fn check_held(snapshot: &Snapshot<'_>, asked: &Asked<'_>, graph: &dyn Graph, dir: &Path) -> Result<(), CliError> {
    if snapshot.has(asked.table)? {
        return Ok(());
    }
    let dataflow = asked.dataflow;
    let dataflows = snapshot.dataflows()?;
    if !dataflows.iter().any(|known| known == dataflow) {
        let error = CliError::failed(format!("the state {dir:?} has no tables of {dataflow}"));
        return Err(error.hint(match dataflows.as_slice() {
            [] => format!("`retally run {dataflow} ... --state DIR` and `retally serve {dataflow}` make them"),
            known => format!("it has those of {}", known.join(", ")),
        }));
    }
    let names = held(snapshot, graph)?;
    let error = CliError::failed(format!("the state {dir:?} has no table {dataflow}.{}: it was not built", asked.table));
    Err(error.hint(format!("it has {}; a run or a service without --tables builds all", names.join(", "))))
}

fn rows(asked: &Asked<'_>, state: Option<&String>, format: Text, out: &mut dyn Write) -> Result<(), Failed> {
    match state {
        Some(dir) => rows_of_state(asked, Path::new(dir), format, out),
        None => rows_of_server(asked, format, out),
    }
}

fn rows_of_server(asked: &Asked<'_>, format: Text, out: &mut dyn Write) -> Result<(), Failed> {
    let server = Server::of(asked.matches)?;
    let mut parameters = asked.conditions()?;
    let format = if format == Text::Csv { "csv" } else { "json" };
    parameters.push(("format".into(), format.into()));
    for name in ["from", "to", "order"] {
        parameters.extend(asked.text(name).map(|value| (name.to_string(), value.to_string())));
    }
    parameters.extend(asked.matches.get_one::<u64>("limit").map(|limit| ("limit".to_string(), limit.to_string())));
    let path = if asked.table == REJECTED { REJECTED.into() } else { format!("tables/{}", asked.table) };
    let response = server.get(&format!("/v1/{}/{path}", asked.dataflow), &parameters, &[])?;
    let mut body = response.into_body().into_reader();
    let mut block = vec![0; 64 << 10];
    loop {
        let length = body.read(&mut block).map_err(|error| CliError::failed(format!("the answer was cut off: {error}")))?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        out.write_all(bytes).map_err(Failed::Written)?;
    }
}

fn rows_of_state(asked: &Asked<'_>, dir: &Path, format: Text, out: &mut dyn Write) -> Result<(), Failed> {
    let mut reader = open_state(dir)?;
    let snapshot = reader.snapshot()?;
    let settings = snapshot.settings(asked.dataflow)?;
    let graph = asked.graph(settings.as_ref())?;
    let mut table = asked.table(&*graph, settings.is_some())?;
    check_held(&snapshot, asked, &*graph, dir)?;
    if asked.table == REJECTED && snapshot.has_batches_of_rejected()? {
        table = Table::rejected_by_batch();
    }
    let (mut question, conditions) = (Question::default(), asked.conditions()?);
    question.limit = asked.matches.get_one::<u64>("limit").copied();
    let mut ask = || {
        question.conditions(&table, conditions.iter().map(|(column, value)| (column.as_str(), value.as_str())))?;
        question.range(&table, asked.text("from"), asked.text("to"))?;
        asked.text("order").map_or(Ok(()), |order| question.order(&table, order))
    };
    ask().map_err(CliError::from)?;
    let mut bytes = Vec::new();
    let mut write = |bytes: &mut Vec<u8>| {
        let written = out.write_all(bytes).map_err(Failed::Written);
        bytes.clear();
        written
    };
    format.begin(&table, &mut bytes);
    let mut is_first = true;
    snapshot.rows(&table, asked.dataflow, &question, |row| {
        format.row(&table, row, is_first, &mut bytes);
        is_first = false;
        write(&mut bytes)
    })?;
    format.end(&mut bytes);
    write(&mut bytes)
}

/// Prints a head of rows, and how many there are.
fn print_table(name: &str, text: &[u8]) -> Result<(), CliError> {
    let failed = |error: csv::Error| CliError::failed(format!("the rows can't be read: {error}"));
    let mut records = csv::Reader::from_reader(text);
    let header: Vec<String> = records.headers().map_err(failed)?.iter().map(String::from).collect();
    let (mut shown, mut count, mut numbers) = (Vec::new(), 0, vec![true; header.len()]);
    for record in records.records() {
        count += 1;
        if shown.len() < show::ROWS_MAX {
            let cells: Vec<String> = record.map_err(failed)?.iter().map(String::from).collect();
            numbers.iter_mut().zip(&cells).for_each(|(is_number, cell)| *is_number &= cell.is_empty() || cell.parse::<f64>().is_ok());
            shown.push(cells);
        }
    }
    let columns: Vec<(&str, bool)> = header.iter().map(String::as_str).zip(numbers).collect();
    let text = table::render_cells(name, &columns, shown.into_iter(), count, None);
    unless_broken_pipe(stdout().write_all(text.as_bytes()))
}
