//! The command line: parsing and printing only.

pub mod args;
pub mod changes;
mod check;
pub mod demo;
pub mod error;
pub mod generate;
pub mod job;
mod mapping;
pub mod progress;
pub mod query;
pub mod run;
pub mod shell;
pub mod show;
pub mod table;

use std::process::ExitCode;

/// Runs the command line.
pub fn main() -> ExitCode {
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        // Help and versions are answers, not errors; clap knows which is which.
        Err(error) => error.exit(),
    };
    let result = match matches.subcommand() {
        Some(("run", matches)) => run::main(matches),
        Some(("check", matches)) => check::main(matches),
        Some(("demo", matches)) => demo::main(matches),
        Some(("generate", matches)) => generate::main(matches),
        Some(("query", matches)) => query::main(matches),
        Some(("completions", matches)) => shell::completions(matches),
        Some(("man", _)) => shell::man(),
        _ => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
