//! The program under `strace`, which makes its calls fail, or ends it at one of them. It counts calls by thread.

use super::program::{Place, Started};
use std::process::{Command, Stdio};

/// Starts the program, of whose calls the k-th of each thread meets a fault (`error=EIO`, `signal=KILL`). `files` are those that count, or
/// all where there are none.
pub fn start(place: &Place, calls: &str, fault: &str, k: usize, files: &[&str], words: &str) -> Started {
    let program = place.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "trace", "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}:when={k}")]);
    for file in files {
        command.args(["-P", file]);
    }
    command.arg(program.get_program()).args(program.get_args()).current_dir(program.get_current_dir().unwrap());
    command.env("COLUMNS", "100").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Started::new(command, words)
}

/// Whether the call of the last run under `strace` in a place was met.
pub fn was_hit(place: &Place) -> bool {
    place.read("trace").contains("(INJECTED)")
}
