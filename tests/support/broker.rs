//! The process of a broker of a test's own.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a program with the file `config` of a folder; what it says goes to `log` there.
pub fn spawn(program: &str, folder: &Path) -> Child {
    spawn_with(program, &configured(folder), folder)
}

/// The words that name the file `config` of a folder.
pub fn configured(folder: &Path) -> [String; 2] {
    ["-c".into(), folder.join("config").display().to_string()]
}

/// Starts a program with these words, and waits until its port is open.
pub fn started(program: &str, words: &[String], folder: &Path, port: u16, seconds_max: u64) -> Child {
    let mut process = spawn_with(program, words, folder);
    let until = Instant::now() + Duration::from_secs(seconds_max);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(process.try_wait().unwrap().is_none() && Instant::now() < until, "{program} does not start: {}", log(folder));
        std::thread::sleep(Duration::from_millis(5));
    }
    process
}

/// Starts a program with these words; what it says goes to `log` in the folder.
fn spawn_with(program: &str, words: &[String], folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"))
}

/// Ends a process in order, and waits until it has ended.
pub fn end(process: &mut Child, seconds_max: u64) {
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    let until = Instant::now() + Duration::from_secs(seconds_max);
    while process.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the broker does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends a process, where there is one, as a loss of power would.
pub fn kill(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        process.kill().ok();
        process.wait().ok();
    }
}

/// What it has said.
pub fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
