//! Shell completions and the man page.

use super::args;
use super::error::{CliError, unless_broken_pipe};
use clap::ArgMatches;
use clap_mangen::roff::{Roff, bold, roman};
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
    let more = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    // What stands there in lines and columns would be filled as running text.
    let rest = command.clone().after_help(None::<&str>).after_long_help(None::<&str>);
    clap_mangen::Man::new(rest).render(text)?;
    more.iter().try_for_each(|more| sections(more).to_writer(text))?;
    command.get_subcommands().filter(|command| command.get_name() != "help").try_for_each(|command| render(command, text))
}

/// The texts behind a help, as sections of a page: a line without indentation is a heading, examples stand as they are, what is named
/// (`  NAME: about it`) is an entry, and so is each of its columns (`      NAME   about it`) below it.
fn sections(help: &str) -> Roff {
    const COLUMN_WIDTH: &str = "28";
    let mut page = Roff::new();
    let (mut is_example, mut is_within) = (false, false);
    for line in help.lines().filter(|line| !line.trim().is_empty()) {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        let column = line.split_once("  ").filter(|_| indent > 2 && !is_example);
        if is_within != column.is_some() {
            page.control(if is_within { "RE" } else { "RS" }, []);
            is_within = !is_within;
        }
        if let Some((name, about)) = column {
            page.control("TP", [COLUMN_WIDTH]).text([bold(name)]).text([roman(about.trim_start())]);
            continue;
        }
        if indent == 0 {
            if is_example {
                page.control("fi", []);
            }
            is_example = line.starts_with("Example");
            page.control("SH", [line.trim_end_matches(':').to_uppercase().as_str()]);
            if is_example {
                page.control("nf", []);
            }
            continue;
        }
        match line.split_once(": ").filter(|(name, _)| !is_example && !name.contains(' ')) {
            Some((name, about)) => page.control("TP", []).text([bold(name)]).text([roman(about)]),
            None if is_example => page.text([roman(line)]),
            None => page.control("PP", []).text([roman(line)]),
        };
    }
    if is_within {
        page.control("RE", []);
    }
    if is_example {
        page.control("fi", []);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_examples_of_a_help_stay_what_they_are_on_a_page() {
        let help = "Inputs:\n  events: what happened\n      time           when\n      id             who: 1 - 9\n  In buckets: as in folders\n\n\
                    Tables:\n  daily: by day\n\nExamples:\n  retally run x\n  retally run y --out 'z'\n";
        let page = sections(help).render();
        let lines: Vec<&str> = page.lines().collect();
        let expected = [
            ".SH INPUTS",
            ".TP",
            "\\fBevents\\fR",
            "what happened",
            ".RS",
            ".TP 28",
            "\\fBtime\\fR",
            "when",
            ".TP 28",
            "\\fBid\\fR",
            "who: 1 \\- 9",
            ".RE",
            ".PP",
            "In buckets: as in folders",
            ".SH TABLES",
            ".TP",
            "\\fBdaily\\fR",
            "by day",
            ".SH EXAMPLES",
            ".nf",
            "retally run x",
            "retally run y \\-\\-out \\*(Aqz\\*(Aq",
            ".fi",
        ];
        assert!(lines.ends_with(&expected), "{page}");
    }
}
