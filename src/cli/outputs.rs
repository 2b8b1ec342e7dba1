//! What a run is to write, looked at before anything is read: no output may be one of the inputs, and none may be in the way of another.
//!
//! Either would show at the end, when some outputs are written, or not at all.
//!
//! # Limits
//! Charts of single keys are named after what is read, and are not looked at.

use super::args;
use super::error::CliError;
use super::job;
use crate::engine::Job;
use crate::ingest::batch::Batch;
use crate::ingest::overlap::overlap;
use crate::points::Destination;
use crate::shown;
use crate::sinks::{self, Format};
use crate::staged::why;
use clap::ArgMatches;
use retally_core::contract::Table;
use std::io;
use std::path::{Path, PathBuf};

/// A file or folder that is written.
struct Output {
    /// What says so.
    flag: &'static str,
    path: PathBuf,
    is_folder: bool,
}

/// Refuses outputs that are inputs or in each other's way, and charts that have no folder to go to.
pub fn check(job: &Job, batches: &[Batch], matches: &ArgMatches) -> Result<(), CliError> {
    let outputs = outputs(job, matches)?;
    let folders = || outputs.iter().filter(|output| output.is_folder);
    let files = || outputs.iter().filter(|output| !output.is_folder && !is_special(&output.path));
    for file in files() {
        let is_in_the_way = |other: &&Output| other.flag != file.flag && is_below(&other.path, &file.path);
        if let Some(other) = folders().chain(files()).find(is_in_the_way) {
            let message = format!("{} {} and {} {} are in each other's way", file.flag, named(&file.path), other.flag, named(&other.path));
            return Err(CliError::usage(message).hint("give each a place of its own"));
        }
    }
    if let Some(charts) = folders().find(|folder| folder.flag == "--charts" && is_in_a_file(&folder.path)) {
        let message = format!("could not write charts into {}: {}", named(&charts.path), why(&io::ErrorKind::NotADirectory.into()));
        return Err(CliError::failed(message).hint("nothing was written; give a folder, or the name of a new one"));
    }
    let synced = matches.get_many::<String>("sync").into_iter().flatten();
    let synced = synced.map(|given| job::batch(&job.definition, std::slice::from_ref(given))).collect::<Result<Vec<_>, _>>()?;
    let paths: Vec<PathBuf> = files().map(|file| file.path.clone()).collect();
    let read = overlap(&job.definition, batches, &paths).or_else(|| overlap(&job.definition, &synced, &paths));
    let Some((input, file)) = read.and_then(|(input, place)| Some((input, files().nth(place)?))) else { return Ok(()) };
    let message = format!("{} would write {} over the input {:?}", file.flag, named(&file.path), shown::location(&input));
    Err(CliError::usage(message).hint("nothing was written; give another place"))
}

/// All that is written, as far as names tell.
fn outputs(job: &Job, matches: &ArgMatches) -> Result<Vec<Output>, CliError> {
    let text = |name: &str| matches.get_one::<String>(name);
    let file = |flag, path| Output { flag, path, is_folder: false };
    let folder = |flag, path| Output { flag, path, is_folder: true };
    let mut outputs = Vec::new();
    if let Some(path) = text("changes") {
        outputs.push(file("--changes", args::written("changes", path)?));
    }
    if let Some(dir) = text("charts") {
        let dir = args::written("charts", dir)?;
        let names = job.graph.charts().into_iter().flat_map(|chart| ["svg", "png"].map(|ending| format!("{}.{ending}", chart.name)));
        outputs.extend(names.map(|name| file("--charts", dir.join(name))));
        outputs.push(folder("--charts", dir));
    }
    match text("out").map(|out| sinks::Destination::parse(out)).transpose()? {
        Some(sinks::Destination::Directory(dir)) => {
            let ending = text("format").and_then(|name| Format::named(name)).unwrap_or_default().extension();
            let tables = job.divided().0.into_iter().chain([Table::rejected()]).map(|table| format!("{}.{ending}", table.name));
            outputs.extend(tables.chain([sinks::MANIFEST.into()]).map(|name| file("--out", dir.join(name))));
            outputs.push(folder("--out", dir));
        }
        Some(sinks::Destination::Sqlite(path)) => outputs.push(file("--out", path)),
        Some(sinks::Destination::Postgres(_)) | None => {}
    }
    // Without the flag, they go to the folder of --out or of --state.
    let is_given = matches.try_get_one::<String>("points").ok().flatten().is_some();
    match &job.points {
        Destination::File(path) => outputs.push(file(if is_given { "--points" } else { "--out" }, path.clone())),
        Destination::Store(dir) if is_given => outputs.push(folder("--points", dir.clone())),
        _ => {}
    }
    if let Some(home) = args::home_of(matches)? {
        outputs.push(folder("--state", home.local().into()));
    }
    Ok(outputs)
}

/// As messages have it.
fn named(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Whether it is a pipe or a device: any number of outputs may go there.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Whether a path is the other one, or in the folder of that name.
fn is_below(path: &Path, other: &Path) -> bool {
    let [path, other] = [path, other].map(|path| std::path::absolute(path).unwrap_or_else(|_| path.into()));
    path.starts_with(other)
}

/// Whether there is a file where a folder is needed.
fn is_in_a_file(path: &Path) -> bool {
    path.ancestors().find_map(|path| std::fs::metadata(path).ok()).is_some_and(|there| !there.is_dir())
}
