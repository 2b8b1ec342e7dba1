//! A process that `launch` has started: it hears who it is on its standard input, and there it is asked to end.

use super::error::{self, CliError, say};
use crate::cluster::launched::{KILL, LINE_BYTES_MAX, Launched, MET, STDIN, VARIABLE};
use crate::interrupt;
use std::io::{BufRead, BufReader, Read, stdin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

/// How long the first line is awaited.
const TOLD_MAX: Duration = Duration::from_secs(30);
/// How often one looks whether `launch` has given a sign of life, at most.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// And within the longest silence.
const LOOKS: u32 = 10;
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
        let silent_max = launched.as_ref().and_then(|launched| launched.silent_max_ms).map(Duration::from_millis);
        // Whoever waited for it may have given up.
        if sender.send(launched).is_err() {
            return;
        }
        let heard = Arc::new(AtomicU64::new(0));
        if let Some(silent_max) = silent_max {
            watch(&heard, silent_max);
        }
        while let Some(line) = line(&mut input) {
            if line == KILL {
                std::process::exit(KILLED);
            }
            heard.fetch_add(1, Ordering::Relaxed);
        }
        // It is not silent, but has said that this process is to end.
        drop(heard);
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

/// Ends this process when nothing is heard for so long, in a thread of its own.
fn watch(heard: &Arc<AtomicU64>, silent_max: Duration) {
    let heard = Arc::downgrade(heard);
    let run = move || {
        if is_silent(&heard, silent_max) {
            error::lost_launch(silent_max);
        }
    };
    // Where there is no thread for it, the end of the input is noticed all the same.
    std::thread::Builder::new().name("launch-watch".into()).spawn(run).ok();
}

/// Waits until nothing was heard for so long; returns no, when nobody hears any more.
///
/// Looks are counted, and no clock is read: where this process was suspended, `launch` was not silent meanwhile.
fn is_silent(heard: &Weak<AtomicU64>, silent_max: Duration) -> bool {
    let pause = (silent_max / LOOKS).min(LOOK_PAUSE);
    let (mut known, mut silent) = (0, Duration::ZERO);
    while silent < silent_max {
        std::thread::sleep(pause);
        let Some(heard) = heard.upgrade() else { return false };
        let now = heard.load(Ordering::Relaxed);
        silent = if now == known { silent + pause } else { Duration::ZERO };
        known = now;
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_from_signs_of_life_and_from_an_end() {
        let heard = Arc::new(AtomicU64::new(0));
        let (watched, silent_max) = (Arc::downgrade(&heard), Duration::from_millis(500));
        let watching = std::thread::spawn(move || is_silent(&watched, silent_max));
        for _ in 0..100 {
            heard.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!watching.is_finished());
        assert!(watching.join().unwrap());
        let watched = Arc::downgrade(&heard);
        drop(heard);
        assert!(!is_silent(&watched, silent_max));
    }
}
