//! `retally follow`: changes of a service's tables as they come, a JSON object a line.
//!
//! Where a connection breaks off, it goes on behind the last epoch that was whole: lines are printed epoch by epoch, so that none is there
//! twice, and none is missing.

use super::client::Server;
use super::error::{CliError, say, unless_broken_pipe};
use super::terminal;
use crate::backoff::Backoff;
use clap::ArgMatches;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// The first pause before it is asked again, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let server = Server::of(matches)?;
    let tables: Vec<&String> = matches.get_many::<String>("tables").into_iter().flatten().collect();
    let tables = tables.into_iter().cloned().collect::<Vec<_>>().join(",");
    let mut position = matches.get_one::<String>("since").cloned();
    let mut epochs = matches.get_one::<u64>("epochs").copied();
    let (mut backoff, mut is_first) = (Backoff::new(PAUSE, PAUSE_MAX), true);
    loop {
        let mut asked = vec![("tables".to_string(), tables.clone())];
        asked.extend(position.clone().map(|since| ("since".to_string(), since)));
        match server.get("/v1/changes", &asked, &[("accept", "text/event-stream")]) {
            Ok(response) => {
                backoff.reset();
                is_first = false;
                if !follow(BufReader::new(response.into_body().into_reader()), &mut position, &mut epochs)? {
                    return Ok(());
                }
            }
            // What is wrong from the beginning does not get right.
            Err(error) if is_first => return Err(error),
            Err(error) => say(&format!("note: {error}; asking again")),
        }
        std::thread::sleep(backoff.pause());
    }
}

/// Prints what comes, until it breaks off. Not so, where nobody reads it any more, or all epochs were seen that were asked for.
fn follow(events: impl BufRead, position: &mut Option<String>, epochs: &mut Option<u64>) -> Result<bool, CliError> {
    let (mut lines, mut kind, mut data, mut id) = (String::new(), String::new(), String::new(), None);
    for line in events.lines() {
        let Ok(line) = line else { return Ok(true) };
        match line.split_once(':') {
            Some(("event", value)) => kind = value.trim_start().into(),
            Some(("data", value)) => data = value.trim_start().into(),
            Some(("id", value)) => id = Some(value.trim_start().to_string()),
            _ if !line.is_empty() => {}
            _ => {
                match std::mem::take(&mut kind).as_str() {
                    "change" => lines += &format!("{data}\n"),
                    "reset" => lines += &format!("{{\"reset\":true,{}\n", data.trim_start_matches('{')),
                    "progress" => {
                        let has_lines = !lines.is_empty();
                        let mut out = terminal::out();
                        let written = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
                        if written.is_err() {
                            return unless_broken_pipe(written).map(|()| false);
                        }
                        lines.clear();
                        *position = id.take().or(position.take());
                        if let Some(left) = epochs.as_mut().filter(|_| has_lines) {
                            *left = left.saturating_sub(1);
                        }
                        if *epochs == Some(0) {
                            return Ok(false);
                        }
                    }
                    _ => {}
                }
                data.clear();
            }
        }
    }
    Ok(true)
}
