//! The command line: parsing and printing only.

pub mod args;
mod asked;
pub mod changes;
mod check;
mod client;
pub mod cluster;
mod compact;
pub mod demo;
pub mod error;
mod feed;
mod files;
mod follow;
mod forget;
pub mod generate;
pub mod job;
mod launch;
mod launched;
mod mapping;
mod outputs;
mod points;
pub mod progress;
pub mod query;
mod replay;
mod rows;
pub mod run;
pub mod serve;
mod serve_demo;
mod serve_sources;
pub mod shell;
pub mod show;
mod status;
mod stored;
mod suggest;
pub mod table;
pub mod terminal;
mod values;
mod verify;
mod why;

use crate::ingest::parquet::pages;
use crate::interrupt;
use crate::points::store::{self, StoreError};
use crate::shown;
use crate::silence;
use error::CliError;
use std::borrow::Cow;
use std::process::ExitCode;

/// Where libraries panic because of a file that is damaged, before anything has been written, that is said as any other error is.
fn tell_of_panics() {
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
    tell_of_panics();
    interrupt::outlive_full_files();
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    // The flags of a command stand behind the last of its words.
    let flags = std::iter::successors(Some(&matches), |matches| matches.subcommand().map(|(_, matches)| matches)).last();
    if let Some(Ok(Some(silence_max))) = flags.map(|flags| flags.try_get_one("network-timeout")) {
        silence::set(*silence_max);
    }
    let result = match matches.subcommand() {
        Some(("run", matches)) => run::main(matches),
        Some(("check", matches)) => check::main(matches),
        Some(("demo", matches)) => demo::main(matches),
        Some(("generate", matches)) => generate::main(matches),
        Some(("query", matches)) if matches.contains_id("points") => query::main(matches),
        Some(("query", matches)) => rows::main(matches),
        Some(("serve", matches)) => serve::main(matches),
        Some(("launch", matches)) => match launch::command(matches) {
            Ok(command) => launch::main(matches, &command),
            Err(error) => return refused(&error),
        },
        Some(("feed", matches)) => feed::main(matches),
        Some(("follow", matches)) => follow::main(matches),
        Some(("rejected", matches)) => rows::rejected(matches),
        Some(("why", matches)) => why::main(matches),
        Some(("verify", matches)) => verify::main(matches),
        Some(("forget", matches)) => forget::main(matches),
        Some(("compact", matches)) => compact::main(matches),
        Some(("status", matches)) => status::main(matches),
        Some(("completions", matches)) => shell::completions(matches),
        Some(("man", _)) => shell::man(),
        _ => Ok(()),
    };
    // After a signal, that is how it ends.
    interrupt::over();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
