//! What a generator writes, in memory.

use crate::contract::Files;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Files in memory.
#[derive(Default)]
pub struct Memory(BTreeMap<String, Arc<Mutex<Vec<u8>>>>);

struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// What is in the files, by path.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
        self.0.iter().map(|(path, bytes)| (path.clone(), text(bytes))).collect()
    }
}

impl Files for Memory {
    fn create(&mut self, path: &str) -> io::Result<Box<dyn Write>> {
        Ok(Box::new(MemoryFile(Arc::clone(self.0.entry(path.into()).or_default()))))
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
