//! What the processes print: line by line, each with the number of its process before it.
//!
//! Nobody has to read it. What processes say of themselves is dropped then, and counted; what they are for is not: they wait for who reads
//! it. `launch` itself never waits, so that it goes on supervising, and obeys signals.

use super::writer::Writer;
use crate::cli::error::{CliError, LAST_WORDS_MAX};
use crate::cli::terminal;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, stderr, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A longer line is printed in parts.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// What was printed by a process that has ended is awaited for so long, where nothing more comes of it.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often one looks whether all is printed.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Where a process said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What it is for.
    Out,
    /// What it says of itself.
    Err,
}

/// How it is printed.
#[derive(Clone)]
pub struct Output {
    /// As JSON, an object a line, of what goes to stderr.
    is_json: bool,
    out: Writer,
    err: Writer,
    /// What reads from the standard output of processes.
    pumps: Arc<Mutex<Vec<Pump>>>,
}

impl Output {
    /// Begins to print.
    pub fn start(is_json: bool) -> io::Result<Output> {
        let tells_dropped = if is_json { dropped_json } else { dropped };
        let (out, err) = (Writer::start("stdout", stdout(), dropped)?, Writer::start("stderr", stderr(), tells_dropped)?);
        Ok(Output { is_json, out, err, pumps: Arc::default() })
    }

    /// Prints what a process said.
    pub fn print(&self, process: usize, stream: Stream, line: &str) {
        match stream {
            Stream::Out => self.out.put(format!("[{process}] {}", terminal::escaped(line))),
            Stream::Err if self.is_json => self.err.offer(terminal::line(&of_process(process, line).to_string())),
            Stream::Err => self.err.offer(terminal::line(&format!("[{process}] {line}"))),
        }
    }

    /// Prints what `launch` says itself.
    pub fn note(&self, what: &str) {
        self.err.offer(terminal::line(&match self.is_json {
            true => message("info", what).to_string(),
            false => format!("note: {what}"),
        }));
    }

    /// Prints what a process is for, which is awaited in the end.
    pub fn print_all(&self, process: usize, stream: impl Read + Send + 'static) -> io::Result<()> {
        let output = self.clone();
        let pump = pump(stream, move |line| output.print(process, Stream::Out, line))?;
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        pumps.retain(|pump| !pump.drain(Duration::ZERO));
        pumps.push(pump);
        Ok(())
    }

    /// Prints the last error, once all processes have ended. What is printed is awaited for as long as it is read; not for long where
    /// `is_hurried`, and nothing is where a child of a process keeps its output open.
    pub fn end(&self, ended: Result<(), CliError>, is_hurried: impl Fn() -> bool) -> Result<(), CliError> {
        let (mut hurried, mut busy) = (None::<Instant>, Instant::now());
        loop {
            let now = Instant::now();
            let is_read = self.pumps.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|pump| pump.drain(Duration::ZERO));
            // In this order: what has been read is in the queue.
            if !self.out.is_idle() {
                busy = now;
            } else if is_read || now.duration_since(busy) >= DRAIN_MAX {
                break;
            }
            if is_hurried() && now.duration_since(*hurried.get_or_insert(now)) >= LAST_WORDS_MAX {
                break;
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        let lines = ended.as_ref().err().map_or_else(Vec::new, |error| self.lines(error));
        self.err.end(lines.iter().map(|line| terminal::line(line)), LAST_WORDS_MAX);
        ended.map_err(CliError::told)
    }

    /// An error as it is printed.
    fn lines(&self, error: &CliError) -> Vec<String> {
        if !self.is_json {
            return error.lines();
        }
        let mut object = message("error", &error.to_string());
        if let (Some(object), Some(hint)) = (object.as_object_mut(), error.what_to_do()) {
            object.insert("hint".into(), hint.into());
        }
        vec![object.to_string()]
    }
}

/// What is said where lines were dropped.
fn dropped(count: u64) -> String {
    format!("note: {}", were_dropped(count))
}

fn dropped_json(count: u64) -> String {
    message("warning", &were_dropped(count)).to_string()
}

fn were_dropped(count: u64) -> String {
    let lines = if count == 1 { "line was" } else { "lines were" };
    format!("{count} {lines} not printed, since nobody read what stood before them")
}

fn message(level: &str, what: &str) -> Value {
    json!({"time": crate::engine::now().to_string(), "level": level, "message": what})
}

/// A line of a process as an object: its own, where it is one.
fn of_process(process: usize, line: &str) -> Value {
    let own = serde_json::from_str::<Value>(line).ok().filter(Value::is_object);
    let level = if line.starts_with("error: ") { "error" } else { "info" };
    let mut object = own.unwrap_or_else(|| message(level, line));
    if let Some(object) = object.as_object_mut() {
        object.insert("process".into(), process.into());
    }
    object
}

/// Reads lines until the other end is closed, in a thread of its own. `each` gets them without their ends.
pub fn pump(stream: impl Read + Send + 'static, mut each: impl FnMut(&str) + Send + 'static) -> io::Result<Pump> {
    let (sender, ended) = channel();
    let run = move || {
        let _ends: Sender<()> = sender;
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes);
            each(line.trim_end_matches(['\n', '\r']));
            bytes.clear();
        }
    };
    std::thread::Builder::new().name("output".into()).spawn(run)?;
    Ok(Pump(ended))
}

/// A thread that reads lines.
pub struct Pump(Receiver<()>);

impl Pump {
    /// Waits until all has been read, and returns whether it is. Not for ever: a child of the process may keep its output open.
    pub fn drain(&self, wait: Duration) -> bool {
        self.0.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn lines_become_objects_of_their_process() {
        let own = of_process(1, r#"{"level":"info","message":"a"}"#);
        assert_eq!(own, json!({"level": "info", "message": "a", "process": 1}));
        let plain = of_process(2, "error: no");
        assert_eq!((&plain["level"], &plain["message"], &plain["process"]), (&json!("error"), &json!("error: no"), &json!(2)));
        assert_eq!(of_process(0, "[1]")["message"], json!("[1]"));
    }

    #[test]
    fn a_stream_is_read_to_its_end() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let pump = pump(&b"one\r\n\ntwo \xff"[..], move |line| seen.lock().unwrap().push(line.to_string())).unwrap();
        assert!(pump.drain(Duration::from_secs(60)));
        assert_eq!(*lines.lock().unwrap(), ["one", "", "two \u{fffd}"]);
    }
}
