//! `retally.json`: which files of a folder are whole, and whose they are.
//!
//! It is replaced twice by a run: before the first table takes its name, with all that the run writes as *pending*, and after the last one,
//! with their sizes and checksums. So where nothing is pending and the sizes are right, each table is that of the run that it names; and
//! whoever ends in between leaves a folder that says so. Tables that a run does not write stay as they are listed, or pending.
//!
//! Points that a run writes into the folder (`points.lp`) take their name in between, and are pending until then. They are not listed:
//! their order is another each time, and they may be large.
//!
//! The same tables give the same bytes: a run is called by a checksum of what it wrote.
//!
//! # Limits
//! Whether points that a run does not write fit its tables is not known: `points.lp` of an earlier run is left alone.

use super::relational::Reached;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The file's name.
pub(crate) const NAME: &str = "retally.json";
/// What it is like. A file of another version is not read, and replaced.
const VERSION: u32 = 1;

/// What a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// Nothing is pending.
    complete: bool,
    /// The run that wrote last.
    run: String,
    dataflow: String,
    epoch: u64,
    fingerprint: String,
    /// Files that a run was about to replace, and did not say that it has.
    pending: BTreeSet<String>,
    files: BTreeMap<String, Written>,
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) size: u64,
    /// CRC-32, as of gzip.
    pub(super) crc32: String,
    /// The run that wrote it.
    #[serde(default)]
    run: String,
    #[serde(default)]
    dataflow: String,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    fingerprint: String,
}

impl Written {
    pub(super) fn new(rows: u64, size: u64, crc32: u32) -> Written {
        let none = String::new;
        Written { rows, size, crc32: format!("{crc32:08x}"), run: none(), dataflow: none(), epoch: 0, fingerprint: none() }
    }
}

impl Manifest {
    /// What a folder says of itself; nothing, where it says nothing that can be read.
    pub(super) fn read(dir: &Path) -> Option<Manifest> {
        let manifest: Manifest = serde_json::from_slice(&std::fs::read(dir.join(NAME)).ok()?).ok()?;
        (manifest.version == VERSION).then_some(manifest)
    }

    /// What its tables of a dataflow have been brought to, the last of them.
    pub(super) fn epoch_of(&self, dataflow: &str) -> Option<u64> {
        self.files.values().filter(|written| written.dataflow == dataflow).map(|written| written.epoch).max()
    }

    /// Whether it names this file as one of a dataflow. (What is pending may be of any run, and is looked at.)
    pub(super) fn has(&self, name: &str, dataflow: &str) -> bool {
        self.pending.contains(name) || self.files.get(name).is_some_and(|written| written.dataflow == dataflow)
    }

    /// What is there of it: files that are gone are left out, and those of another size are pending. Returns the names of all that are
    /// pending.
    pub(super) fn look_at(&mut self, dir: &Path) -> Vec<String> {
        let size = |name: &String| std::fs::metadata(dir.join(name)).ok().map(|metadata| metadata.len());
        self.pending.retain(|name| size(name).is_some());
        self.files.retain(|name, written| match size(name) {
            Some(size) if size == written.size => true,
            Some(_) => {
                self.pending.insert(name.clone());
                false
            }
            None => false,
        });
        self.pending.iter().cloned().collect()
    }

    /// As it is while these files are replaced.
    pub(super) fn replacing<'n>(&self, names: impl Iterator<Item = &'n String>) -> Manifest {
        let mut manifest = self.clone();
        for name in names {
            manifest.files.remove(name);
            manifest.pending.insert(name.clone());
        }
        manifest.closed()
    }

    /// As it is when a run has replaced these files, and others that are not listed.
    pub(super) fn replaced(&self, files: BTreeMap<String, Written>, others: &[String], reached: &Reached) -> Manifest {
        let mut manifest = self.clone();
        manifest.pending.retain(|name| !others.contains(name));
        let Reached { dataflow, epoch, fingerprint } = reached;
        let mut sum = crc32fast::Hasher::new();
        sum.update(format!("{dataflow}\n{epoch}\n{fingerprint}\n").as_bytes());
        files.iter().for_each(|(name, written)| sum.update(format!("{name}\n{}\n{}\n", written.size, written.crc32).as_bytes()));
        manifest.run = format!("{:08x}", sum.finalize());
        (manifest.dataflow, manifest.epoch, manifest.fingerprint) = (dataflow.clone(), *epoch, fingerprint.clone());
        for (name, written) in files {
            manifest.pending.remove(&name);
            let (run, dataflow, fingerprint) = (manifest.run.clone(), dataflow.clone(), fingerprint.clone());
            manifest.files.insert(name, Written { run, dataflow, epoch: *epoch, fingerprint, ..written });
        }
        manifest.closed()
    }

    fn closed(mut self) -> Manifest {
        self.version = VERSION;
        self.complete = self.pending.is_empty();
        self
    }

    /// Its text.
    pub(super) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_stays_so_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a.csv", "b.csv"].map(String::from);
        names.iter().for_each(|name| std::fs::write(dir.path().join(name), "four").unwrap());
        let reached = |epoch| Reached { dataflow: "sample".into(), epoch, fingerprint: "x".into() };
        let written = |names: &[String]| names.iter().map(|name| (name.clone(), Written::new(1, 4, 7))).collect();
        let save = |manifest: &Manifest| std::fs::write(dir.path().join(NAME), manifest.to_bytes().unwrap()).unwrap();
        let read = || Manifest::read(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()), None);

        let first = Manifest::default().replaced(written(&names), &[], &reached(1));
        save(&first);
        assert!(read() == first && first.complete && read().look_at(dir.path()).is_empty());
        // A run that is killed between two renames, and one after it that writes a part.
        save(&read().replacing(names.iter()));
        assert!(!read().complete && read().files.is_empty());
        assert_eq!(read().look_at(dir.path()), names);
        let part = read().replaced(written(&names[..1]), &[], &reached(2));
        assert!(!part.complete && part.pending.iter().eq(&names[1..]) && part.files["a.csv"].epoch == 2);
        let whole = part.replaced(written(&names[1..]), &[], &reached(3));
        assert!(whole.complete && whole.files["a.csv"].epoch == 2 && whole.files["b.csv"].epoch == 3);
        assert_ne!(whole.files["a.csv"].run, whole.files["b.csv"].run);
        // Points are pending until they are replaced, and are not listed.
        let points = ["points.lp".to_string()];
        let during = whole.replacing(points.iter());
        assert!(!during.complete && during.pending.iter().eq(&points) && during.files == whole.files);
        assert_eq!(during.replaced(written(&names[1..]), &points, &reached(3)), whole);
        save(&whole);
        // Another file in its place, and one that is gone.
        std::fs::write(dir.path().join("a.csv"), "longer").unwrap();
        std::fs::remove_file(dir.path().join("b.csv")).unwrap();
        let mut looked_at = read();
        assert_eq!(looked_at.look_at(dir.path()), ["a.csv"]);
        assert!(looked_at.files.is_empty());
        std::fs::write(dir.path().join(NAME), "{").unwrap();
        assert_eq!(Manifest::read(dir.path()), None);
    }
}
