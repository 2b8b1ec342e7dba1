//! `retally why`: how a row became what it is.

use super::asked::Asked;
use super::client::Server;
use super::error::{CliError, unless_broken_pipe};
use super::rows::{check_held, open_state};
use crate::numbers::{counted, grouped};
use crate::registry;
use crate::serve::why;
use crate::state::files::Files;
use crate::state::home::Home;
use clap::ArgMatches;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Write, stdout};
use std::path::Path;

/// So many changes are shown.
const CHANGES_MAX: u64 = 20;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let asked = Asked::of(matches)?;
    let conditions = asked.conditions()?;
    let changes = match matches.get_one::<String>("state") {
        Some(dir) => of_state(&asked, Path::new(dir), &conditions)?,
        None => of_server(&asked, &Server::of(matches)?, &conditions)?,
    };
    let row: Vec<String> = conditions.iter().map(|(column, value)| format!("{column}={value}")).collect();
    let mut text = format!("{}.{} {}: {}\n", asked.dataflow, asked.table, row.join(" "), counted(changes.len() as u64, "change"));
    for change in changes.iter().take(usize::try_from(CHANGES_MAX).unwrap_or(usize::MAX)) {
        // Writing to a text can't fail.
        append(&mut text, change, &conditions).ok();
    }
    unless_broken_pipe(stdout().write_all(text.as_bytes()))
}

fn append(text: &mut String, change: &Value, conditions: &[(String, String)]) -> std::fmt::Result {
    let said = |value: &Value| match value {
        Value::String(text) => super::terminal::escaped(text).to_string(),
        Value::Null => "-".into(),
        other => other.to_string(),
    };
    let at = |name: &str| said(change.get(name).unwrap_or(&Value::Null));
    let batch = |name: &str| said(change.get("batch").and_then(|batch| batch.get(name)).unwrap_or(&Value::Null));
    let late = if change.get("late").and_then(Value::as_bool) == Some(true) { ", with late records" } else { "" };
    let records = match change.get("records").and_then(Value::as_u64) {
        Some(records) => format!(", {} of its records with this key", grouped(&records.to_string())),
        None => String::new(),
    };
    writeln!(text, "batch {} ({}), {}{late}{records}", at("epoch"), batch("name"), at("arrived"))?;
    let values = |side: &str| -> Option<Vec<(String, String)>> {
        let row = change.get(side)?.as_object()?;
        let shown = row.iter().filter(|(column, _)| conditions.iter().all(|(given, _)| given != *column));
        Some(shown.map(|(column, value)| (column.clone(), said(value))).collect())
    };
    let row = |values: &[(String, String)]| values.iter().map(|(column, value)| format!("{column}={value}")).collect::<Vec<_>>().join(" ");
    match (values("old"), values("new")) {
        (None, Some(new)) => writeln!(text, "  it came: {}", row(&new)),
        (Some(old), None) => writeln!(text, "  it went: {}", row(&old)),
        (Some(old), Some(new)) => {
            for ((column, before), (_, after)) in old.iter().zip(&new).filter(|(old, new)| old != new) {
                writeln!(text, "  {column}: {before} → {after}")?;
            }
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

fn of_state(asked: &Asked<'_>, dir: &Path, conditions: &[(String, String)]) -> Result<Vec<Value>, CliError> {
    let mut reader = open_state(dir)?;
    let snapshot = reader.snapshot()?;
    if !snapshot.keeps_changes()? {
        let error = CliError::failed(format!("the state {dir:?} has no changes of {}", asked.dataflow));
        return Err(error.hint("a service keeps them: retally serve"));
    }
    let settings = snapshot.settings(asked.dataflow)?;
    let graph = asked.graph(settings.as_ref())?;
    let table = asked.table(&*graph, settings.is_some())?;
    check_held(&snapshot, asked, &*graph, dir)?;
    let mut history = snapshot.history(&table, asked.dataflow, conditions, CHANGES_MAX)?;
    // Of a state in a bucket, the folder has tables alone.
    if let Some(dataflow) = registry::dataflow(asked.dataflow).filter(|_| dir.join("format").is_file()) {
        let files = Files::of(&Home::Folder(dir.to_path_buf()))?;
        why::count(&mut history, conditions, &table, &*graph, &dataflow.definition(), &files)?;
    }
    Ok(history)
}

fn of_server(asked: &Asked<'_>, server: &Server, conditions: &[(String, String)]) -> Result<Vec<Value>, CliError> {
    let path = format!("/v1/{}/tables/{}/why", asked.dataflow, asked.table);
    let answer = server.json(&path, conditions)?;
    Ok(answer.get("changes").and_then(Value::as_array).cloned().unwrap_or_default())
}
