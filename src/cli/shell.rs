//! Shell completions and the man page.

use super::args;
use super::error::{CliError, unless_broken_pipe};
use clap::ArgMatches;
use std::io::{Write, stdout};

/// Prints the completions of a shell.
pub fn completions(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") else { return Ok(()) };
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut args::command(), "retally", &mut text);
    unless_broken_pipe(stdout().write_all(&text))
}

/// Prints the man page: of the program, and of each of its commands.
pub fn man() -> Result<(), CliError> {
    let mut text = Vec::new();
    let mut command = args::command();
    command.build();
    render(&command, &mut text).map_err(|error| CliError::failed(format!("could not make the man page: {error}")))?;
    unless_broken_pipe(stdout().write_all(&text))
}

fn render(command: &clap::Command, text: &mut Vec<u8>) -> std::io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(text)?;
    command.get_subcommands().filter(|command| command.get_name() != "help").try_for_each(|command| render(command, text))
}
