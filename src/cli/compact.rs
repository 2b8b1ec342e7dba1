//! `retally compact`: folds the batches of a state into what they come to.

use super::args;
use super::error::{CliError, listen_to_signals, unless_broken_pipe};
use super::show;
use crate::numbers::grouped;
use crate::registry;
use crate::sinks::live;
use crate::state::{Compacted, Folded, State};
use clap::ArgMatches;
use indicatif::HumanBytes;
use retally_core::contract::Dataflow;
use std::io::{Write, stdout};

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(home) = args::home_of(matches)? else { return Ok(()) };
    State::look_for(&home)?;
    listen_to_signals()?;
    let plain = |name: &str| registry::dataflow(name).map(Dataflow::definition);
    let Compacted { folded: Folded { batches, erased, holding, gone }, before, after } = State::open(&home)?.compact(&plain)?;
    live::forget_rejected(&State::tables(home.local()), &gone)?;
    let line = format!("{}: {} before, {} now", show::batches(batches), HumanBytes(before), HumanBytes(after));
    unless_broken_pipe(writeln!(stdout(), "{line}"))?;
    if erased > 0 {
        let line = format!("what was forgotten is not in {} files any more, which were written anew", grouped(&erased.to_string()));
        unless_broken_pipe(writeln!(stdout(), "{line}"))?;
    }
    match holding.first() {
        None => Ok(()),
        Some(first) => {
            let message = format!("what was forgotten is still in {} files, {first:?} the first", holding.len());
            Err(CliError::failed(message).hint("they are no text, or were delivered again: take them back, and deliver them without it"))
        }
    }
}
