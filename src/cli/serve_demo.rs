//! `retally serve --demo`: what is generated for it.

use super::demo::LATE;
use super::error::CliError;
use super::generate::{Others, into_folder};
use crate::registry;
use crate::serve::demo::{Demo, Stream};
use retally_core::contract::{Dataflow, InputKind, Settings};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Generates what the dataflows of these names are fed with, into a folder.
pub fn generate(names: &[&String], seed: u64, folder: &Path) -> Result<Vec<Demo>, CliError> {
    let demo = |(place, name): (usize, &&String)| registry::dataflow(name).map(|dataflow| demo(place, dataflow, seed, &folder.join(name)));
    names.iter().enumerate().filter_map(demo).collect()
}

fn demo(place: usize, dataflow: &dyn Dataflow, seed: u64, folder: &Path) -> Result<Demo, CliError> {
    let definition = dataflow.definition();
    let options = Settings::defaults(&definition.generator).with("seed", &seed.to_string());
    let options = registry::demo_options(definition.name).iter().fold(options, |options, (name, value)| options.with(name, value));
    let files = into_folder(dataflow, &options, folder, Others::Kept)?;
    let mut demo = Demo { place, whole: Vec::new(), streams: Vec::new() };
    for (input, declared) in definition.inputs.iter().enumerate() {
        if matches!(declared.kind, InputKind::Datasets(_)) {
            let (late, now) = datasets(&files).into_iter().partition::<Vec<_>, _>(|path| path.starts_with(folder.join(LATE)));
            demo.streams.push(Stream::datasets(input, &now, &late));
            continue;
        }
        let is_named = |file: &&PathBuf| file.parent() == Some(folder) && file.file_stem().is_some_and(|stem| stem == declared.name);
        let Some(file) = files.iter().find(is_named) else { continue };
        let late = file.file_name().map(|name| folder.join(LATE).join(name)).filter(|late| late.exists());
        match late {
            Some(late) => demo.streams.push(Stream::lines(input, file, &late).map_err(|error| CliError::failed(error.to_string()))?),
            None => demo.whole.push((input, file.clone())),
        }
    }
    Ok(demo)
}

/// The folders that hold files, in order.
fn datasets(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    files.iter().filter_map(|file| file.parent()).map(Path::to_path_buf).collect()
}
