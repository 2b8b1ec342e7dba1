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

use crate::ingest::pages;
use std::process::ExitCode;

/// A file at which a library panics is damaged: that is said as any other error is. Nothing has been written yet.
fn tell_of_damaged_files() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match pages::damaged() {
        Some(path) => {
            error::say(&format!("error: could not read {path:?}: it is damaged"));
            error::say("hint: nothing was written; write the file again");
            std::process::exit(1)
        }
        None => others(panic),
    }));
}

/// Runs the command line.
pub fn main() -> ExitCode {
    tell_of_damaged_files();
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
