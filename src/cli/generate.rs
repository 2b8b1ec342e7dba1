//! `retally generate`.

use super::args;
use super::error::{CliError, say};
use crate::registry;
use clap::ArgMatches;
use retally_core::contract::{Dataflow, Files, GenerateError, Settings};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Files below a folder.
pub struct Folder {
    root: PathBuf,
    /// What has been created.
    pub created: Vec<PathBuf>,
}

impl Files for Folder {
    fn create(&mut self, path: &str) -> io::Result<Box<dyn Write>> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = fs::File::create(&path)?;
        self.created.push(path);
        Ok(Box::new(BufWriter::with_capacity(1 << 20, file)))
    }
}

/// Generates input into a folder. Returns the files.
pub fn into_folder(dataflow: &dyn Dataflow, options: &Settings, root: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Folder { root: root.into(), created: Vec::new() };
    dataflow.generate(options, &mut files).map_err(|error| match error {
        GenerateError::Setting(error) => CliError::usage(error.to_string()),
        GenerateError::Write(error) => {
            CliError::failed(format!("could not write generated input into {:?}: {error}", root.display().to_string()))
        }
    })?;
    Ok(files.created)
}

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let options = args::settings(&dataflow.definition().generator, std::iter::empty(), matches);
    let root = args::written("out", matches.get_one::<String>("out").map_or("", String::as_str))?;
    for file in into_folder(dataflow, &options, &root)? {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        say(&format!("wrote {} ({})", file.display(), indicatif::HumanBytes(bytes)));
    }
    Ok(())
}
