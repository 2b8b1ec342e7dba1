//! `retally forget`: takes back all records of a device, a user or a sensor.

use super::args;
use super::client::Server;
use super::error::{CliError, unless_broken_pipe};
use super::feed::shown_answer;
use super::rows;
use crate::engine;
use crate::ingest::nearest::there_are;
use crate::registry;
use crate::state::forget::{ForgetError, Forgetting, NOT_THERE};
use crate::state::frame::{Answer, Only};
use crate::state::home::Home;
use crate::state::{Of, State};
use clap::ArgMatches;
use indicatif::HumanCount;
use retally_core::contract::Definition;
use retally_core::ids::Ids;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use uuid::Uuid;

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let (dataflow, input, which) = (text("dataflow"), text("input"), text("which"));
    let (field, value) = which.split_once('=').ok_or_else(|| CliError::usage(format!("{which:?} is not FIELD=VALUE")))?;
    let exact = matches.get_flag("exact");
    let shown = match args::home_of(matches)? {
        Some(home) => of_state(&home, dataflow, input, Only { field: field.into(), value: value.into(), exact })?,
        None => {
            let (wait, key) = (text("wait"), Uuid::new_v4().to_string());
            let which =
                if exact { json!({"field": field, "value": value, "exact": true}) } else { json!({"field": field, "value": value}) };
            let path = format!("/v1/{dataflow}/{input}/forget");
            let answer = Server::of(matches)?.post(&path, &[("wait", wait)], &[("idempotency-key", &key)], &which)?;
            let records = answer.get("accepted").and_then(Value::as_u64);
            let records = records.map_or(String::new(), |records| format!("took back {} records\n", HumanCount(records)));
            records + &shown_answer(&answer) + "what they were in is written anew when the service next folds its journal\n"
        }
    };
    unless_broken_pipe(stdout().write_all(shown.as_bytes()))
}

/// Adds the batch to a state that nobody has open. Tables follow when it is next taken up.
fn of_state(home: &Home, dataflow: &str, input: &str, only: Only) -> Result<String, CliError> {
    State::look_for(home)?;
    let Some(known) = registry::dataflow(dataflow) else { return Ok(String::new()) };
    let plain = known.definition();
    let inputs: Vec<&str> = plain.inputs.iter().map(|input| input.name).collect();
    let declared = plain.inputs.iter().find(|declared| declared.name == input);
    let declared = declared.ok_or_else(|| CliError::usage(format!("{dataflow} has no input {input:?}, but {}", inputs.join(" and "))))?;
    super::error::listen_to_signals()?;
    let mut state = State::open(home)?;
    let only = Only { exact: only.exact || ids_are_texts(home, &plain, &only.value)?, ..only };
    let Forgetting { parts, records } = state.files().forget(Of { plain: &plain, definition: &plain }, declared, &only)?;
    let files = parts.len() as u64;
    let answer = Answer { accepted: records, ..Answer::default() };
    let epoch = state.append(dataflow, parts, engine::now(), answer)?;
    Ok(format!(
        "batch {epoch}: took back {} records, in {} files\nthe tables follow with the next run or service on this state, and `retally compact` writes the files anew\n",
        HumanCount(records),
        HumanCount(files)
    ))
}

/// Whether ids of a state's tables are texts, as a service knows of itself. Where that can't be known, a value that can be written otherwise is
/// refused: it could stand for other ids.
fn ids_are_texts(home: &Home, plain: &Definition, value: &str) -> Result<bool, CliError> {
    if !plain.settings.iter().any(|setting| setting.name == Ids::SETTING) {
        return Ok(false);
    }
    let kept = rows::open_state(home.local()).ok().and_then(|mut reader| reader.snapshot().ok()?.settings(plain.name).ok()?);
    match kept {
        Some(kept) => Ok(kept.get(Ids::SETTING).is_some_and(|ids| ids == "text")),
        None if value.parse::<f64>().is_err() && Uuid::try_parse(value).is_err() => Ok(false),
        None => {
            let message = format!("the state has no tables of {}, which would say whether its ids are texts", plain.name);
            Err(CliError::failed(message).hint("`retally run` with --state makes them; or take back what holds this very text: --exact"))
        }
    }
}

impl From<ForgetError> for CliError {
    fn from(error: ForgetError) -> CliError {
        match error {
            ForgetError::State(error) => error.into(),
            ForgetError::Field { ref field, ref known, .. } => CliError::usage(error.to_string()).hint(there_are(field, known)),
            ForgetError::None { .. } => CliError::failed(error.to_string()).hint(NOT_THERE),
        }
    }
}
