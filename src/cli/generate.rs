//! `retally generate`.
//!
//! A file that is there already may be somebody's own. The same options give the same bytes, so what is generated is held against it:
//! where it is the same it stays, and where it is not, nothing of it is written over unless that is allowed.

use super::args;
use super::error::{CliError, say};
use crate::failure;
use crate::registry;
use crate::staged::why;
use clap::ArgMatches;
use retally_core::contract::{Dataflow, Files, GenerateError, Settings};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const BUFFER_BYTES: usize = 1 << 20;
/// What to do about files of others.
pub const OTHERS_HINT: &str = "give another folder, or say that its files may go: --replace";

/// What becomes of files that are there and differ from those that are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay, and nothing is generated.
    Kept,
    /// They are replaced.
    Replaced,
}

impl Others {
    /// As a command line says.
    pub fn of(matches: &ArgMatches) -> Others {
        if matches.get_flag("replace") { Others::Replaced } else { Others::Kept }
    }
}

/// Files below a folder.
struct Folder {
    root: PathBuf,
    others: Others,
    created: Vec<PathBuf>,
    /// Those of them that were not there.
    new: Vec<PathBuf>,
    /// Files that were there, and how many bytes of each are the same so far.
    compared: Vec<(PathBuf, Rc<Cell<u64>>)>,
}

/// A file that is there, and is not what is generated.
#[derive(Debug, thiserror::Error)]
#[error("{:?} is there, and is not what these options generate", _0.display().to_string())]
struct Differs(PathBuf);

impl Files for Folder {
    fn create(&mut self, path: &str) -> io::Result<Box<dyn Write>> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let is_there = fs::metadata(&path).is_ok_and(|there| there.is_file());
        self.created.push(path.clone());
        if !is_there {
            self.new.push(path.clone());
        }
        if is_there && self.others == Others::Kept {
            let there = BufReader::with_capacity(BUFFER_BYTES, File::open(&path)?);
            let same_bytes = Rc::new(Cell::new(0));
            self.compared.push((path.clone(), Rc::clone(&same_bytes)));
            return Ok(Box::new(Same { path, there, same_bytes, expected: Vec::new() }));
        }
        Ok(Box::new(BufWriter::with_capacity(BUFFER_BYTES, File::create(&path)?)))
    }
}

/// Takes what a file has, and nothing else.
struct Same {
    path: PathBuf,
    there: BufReader<File>,
    same_bytes: Rc<Cell<u64>>,
    expected: Vec<u8>,
}

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.expected.resize(bytes.len(), 0);
        match self.there.read_exact(&mut self.expected) {
            Ok(()) if self.expected == bytes => self.same_bytes.set(self.same_bytes.get() + bytes.len() as u64),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => return Err(io::Error::other(Differs(self.path.clone()))),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Generates input into a folder. Returns the files.
pub fn into_folder(dataflow: &dyn Dataflow, options: &Settings, root: &Path, others: Others) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Folder { root: root.into(), others, created: Vec::new(), new: Vec::new(), compared: Vec::new() };
    let generated = dataflow.generate(options, &mut files).map_err(|error| match error {
        GenerateError::Setting(error) => CliError::usage(error.to_string()),
        GenerateError::Write(error) => failed(root, &error),
    });
    let is_longer = |(path, same_bytes): &&(PathBuf, Rc<Cell<u64>>)| fs::metadata(path).is_ok_and(|there| there.len() != same_bytes.get());
    let generated = generated.and_then(|()| match files.compared.iter().find(is_longer) {
        Some((path, _)) => Err(failed(root, &io::Error::other(Differs(path.clone())))),
        None => Ok(()),
    });
    if generated.is_err() {
        // A half of it beside files of others would be taken for one of theirs.
        files.new.iter().for_each(|path| drop(fs::remove_file(path)));
    }
    generated.map(|()| files.created)
}

fn failed(root: &Path, error: &io::Error) -> CliError {
    let message = format!("could not write generated input into {:?}: {}", root.display().to_string(), why(error));
    match error.get_ref().is_some_and(|cause| cause.is::<Differs>()) {
        true => CliError::failed(message).hint(OTHERS_HINT),
        false => CliError::failed(message).hint(failure::hint_of_writing(error)),
    }
}

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let options = args::settings(&dataflow.definition().generator, std::iter::empty(), matches);
    let root = args::written("out", matches.get_one::<String>("out").map_or("", String::as_str))?;
    for file in into_folder(dataflow, &options, &root, Others::of(matches))? {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        say(&format!("wrote {} ({})", file.display(), indicatif::HumanBytes(bytes)));
    }
    Ok(())
}
