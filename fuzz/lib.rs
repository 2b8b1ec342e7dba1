//! What libFuzzer's targets do with bytes: they become a file, which is read.

#[path = "../tests/support/whole_file.rs"]
mod whole_file;

use std::fs;
pub use whole_file::KINDS;

thread_local! {
    /// Where the file lies.
    static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
}

/// Reads bytes as a file of this name. Returns how many records were accepted, when it was not refused as a whole.
pub fn read(dataflow: &str, input: &str, name: &str, bytes: &[u8]) -> Result<u64, String> {
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        whole_file::read(dataflow, input, &path)
    })
}
