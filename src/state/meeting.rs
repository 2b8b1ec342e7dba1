//! The file by which processes see that they have the folder of one state: process 0 writes a number by chance into it when it has opened
//! the state, and tells it to the others when they meet; each looks for it in the folder at its own path.
//!
//! It is in the folder of this machine, since there are the files that all processes read: of a state in a bucket, in the scratch folder.
//!
//! # Limits
//! The file stays: it says nothing once the processes have met. It proves that the folder is the same, and not that each file can be read.

use super::MEETING;
use super::home::Home;
use crate::cluster::shared::Shared;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// What stands before the number.
const MARK: &str = "retally meeting ";

/// The folder of a state that all processes must see.
#[derive(Clone, Debug)]
pub struct Meeting {
    dir: PathBuf,
}

impl Meeting {
    /// That of the state at a place.
    pub fn at(home: &Home) -> Meeting {
        Meeting { dir: home.local().into() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(MEETING)
    }

    fn found(&self, most: usize) -> io::Result<String> {
        let mut found = String::new();
        File::open(self.path())?.take(most as u64).read_to_string(&mut found)?;
        Ok(found)
    }
}

fn text(number: u64) -> String {
    format!("{MARK}{number:016x}\n")
}

impl Shared for Meeting {
    fn name(&self) -> String {
        format!("{:?}", self.dir)
    }

    fn show(&self, number: u64) -> io::Result<()> {
        // In its place, so that no file system remembers another file of this name.
        let mut file = File::create(self.path())?;
        file.write_all(text(number).as_bytes())?;
        file.sync_all()
    }

    fn sees(&self, number: u64) -> Result<(), String> {
        let sought = text(number);
        match self.found(sought.len() + 1) {
            Ok(found) if found == sought => Ok(()),
            Ok(_) => Err(format!("{:?} is another folder here: its file {MEETING:?} is not that of process 0", self.dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{:?} is another folder here, or none: it has no file {MEETING:?}", self.dir))
            }
            Err(error) => Err(format!("could not read {:?}: {error}", self.path())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_is_told_from_the_same_one() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [here, same, there] = [&one, &one, &other].map(|dir| Meeting::at(&Home::Folder(dir.path().into())));
        let error = same.sees(7).unwrap_err();
        assert!(error.contains("has no file \"meeting\""), "{error}");
        for number in [7, u64::MAX] {
            here.show(number).unwrap();
            same.sees(number).unwrap();
        }
        assert!(same.sees(7).unwrap_err().contains("is not that of process 0"));
        assert!(there.sees(u64::MAX).unwrap_err().contains("another folder here, or none"));
        // A state begins in a folder that has no more.
        assert!(!super::super::home::has_others(one.path()).unwrap());
        std::fs::remove_file(one.path().join(MEETING)).unwrap();
        std::fs::create_dir(one.path().join(MEETING)).unwrap();
        assert!(same.sees(7).unwrap_err().starts_with("could not read"));
        assert!(here.show(7).is_err());
    }
}
