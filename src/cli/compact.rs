//! `retally compact`: folds the batches of a state into what they come to.

use super::args;
use super::error::{CliError, listen_to_signals, unless_broken_pipe};
use crate::numbers::grouped;
use crate::state::{Compacted, State, StateError};
use clap::ArgMatches;
use indicatif::HumanBytes;
use std::io::{Write, stdout};

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(dir) = args::state_dir(matches)? else { return Ok(()) };
    if !dir.is_dir() {
        return Err(StateError::Missing(dir).into());
    }
    listen_to_signals()?;
    let Compacted { batches, before, after } = State::open(&dir)?.compact()?;
    let line = format!("{} batches: {} before, {} now", grouped(&batches.to_string()), HumanBytes(before), HumanBytes(after));
    unless_broken_pipe(writeln!(stdout(), "{line}"))
}
