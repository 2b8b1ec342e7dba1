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
pub mod terminal;

use crate::ingest::pages;
use crate::points::store::{self, StoreError};
use crate::shown;
use error::CliError;
use std::borrow::Cow;
use std::process::ExitCode;

/// A file or a store at which a library panics is damaged: that is said as any other error is. No table has been written yet.
fn tell_of_damaged_files() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match damaged(panic) {
        Some(error) => {
            error.report();
            std::process::exit(1)
        }
        None => others(panic),
    }));
}

/// What is damaged, where a panic tells that.
fn damaged(panic: &std::panic::PanicHookInfo) -> Option<CliError> {
    if let Some(path) = pages::damaged() {
        let error = CliError::failed(format!("could not read {:?}: it is damaged", shown::location(&path)));
        return Some(error.hint("nothing was written; write the file again"));
    }
    let dir = store::damaged_at(panic.location()?.file())?;
    Some(StoreError::Damaged { dir, what: "its tree can't be read".into() }.into())
}

/// What the parser says: help and versions, which are answers, and errors, which repeat what was given.
fn refused(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let is_plain = !shown::text(&text).contains(|character| character != '\n' && terminal::steers(character));
    if error.use_stderr() && (!is_plain || matches!(shown::text(&text), Cow::Owned(_))) {
        text.trim_end().lines().for_each(error::say);
        return code;
    }
    // In colours, where there is a terminal.
    error.print().ok();
    code
}

/// Runs the command line.
pub fn main() -> ExitCode {
    tell_of_damaged_files();
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
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
