//! The process of a broker of a test's own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts a program with the file `config` of a folder; what it says goes to `log` there.
pub fn spawn(program: &str, folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("config")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"))
}

/// What it has said.
pub fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
