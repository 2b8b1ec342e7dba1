//! Runs the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of its own for a test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        name.into()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    /// The program, in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retally"));
        command.args(arguments).current_dir(self.path()).env("COLUMNS", "100");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(!text(&output.stderr).contains("panicked"), "{arguments:?}: {}", text(&output.stderr));
        output
    }

    /// Runs to success.
    pub fn ok(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output
    }

    /// Runs to a failure with this exit code; answers what it says: one line, and perhaps a hint.
    pub fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// All tables of a folder but `rejected`, as one text.
    pub fn tables(&self, folder: &str) -> String {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.path().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| !file.ends_with("rejected.csv"));
        files.sort();
        assert!(!files.is_empty());
        files.iter().map(|file| format!("{}\n{}", file.file_name().unwrap().display(), std::fs::read_to_string(file).unwrap())).collect()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
