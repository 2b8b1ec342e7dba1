//! A process that `launch` has started: it hears who it is on its standard input, and there it is asked to end.

use super::error::{CliError, say};
use crate::cluster::launched::{KILL, LINE_BYTES_MAX, Launched, MET, STDIN, VARIABLE};
use crate::interrupt;
use std::io::{BufRead, BufReader, Read, stdin};
use std::sync::mpsc;
use std::time::Duration;

/// How long the first line is awaited.
const TOLD_MAX: Duration = Duration::from_secs(30);
/// The exit code of one that was killed.
const KILLED: i32 = 137;

/// What `launch` tells this process; nothing where it was started otherwise. To be called once: from then on it ends with `launch`.
pub fn told() -> Result<Option<Launched>, CliError> {
    match std::env::var(VARIABLE) {
        Err(_) => return Ok(None),
        Ok(place) if place == STDIN => {}
        Ok(place) => {
            let error = CliError::usage(format!("{VARIABLE} is {place:?}, and can only be {STDIN:?}"));
            return Err(error.hint("it is set by `retally launch`, and by nobody else"));
        }
    }
    let (sender, receiver) = mpsc::channel();
    let hear = move || {
        let mut input = BufReader::new(stdin());
        let launched = line(&mut input).and_then(|line| Launched::parse(&line));
        let timeout = launched.as_ref().map_or(Duration::ZERO, |launched| Duration::from_millis(launched.stop_timeout_ms));
        // Whoever waited for it may have given up.
        if sender.send(launched).is_err() {
            return;
        }
        while let Some(line) = line(&mut input) {
            if line == KILL {
                std::process::exit(KILLED);
            }
        }
        interrupt::raise();
        std::thread::sleep(timeout);
        // What has not ended by now is ended.
        interrupt::raise();
    };
    let failed = |why: String| CliError::failed(format!("could not hear what `retally launch` says: {why}"));
    std::thread::Builder::new().name("launched".into()).spawn(hear).map_err(|error| failed(error.to_string()))?;
    match receiver.recv_timeout(TOLD_MAX) {
        Ok(Some(launched)) => Ok(Some(launched)),
        Ok(None) => Err(failed("it has another version, or was ended".into())),
        Err(_) => Err(failed(format!("it said nothing within {} s", TOLD_MAX.as_secs()))),
    }
}

/// The next line, where there is one.
fn line(input: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&bytes).trim_end().to_string())
}

/// Tells `launch` that all processes are connected.
pub fn met() {
    say(&format!("note: {MET}"));
}
