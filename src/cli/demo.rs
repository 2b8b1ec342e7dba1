//! demo
use super::error::CliError;
use clap::ArgMatches;
/// Runs the command.
pub fn main(_matches: &ArgMatches) -> Result<(), CliError> { Ok(()) }
