//! What the processes print: line by line, each with the number of its process before it.

use crate::cli::error::{say, say_object};
use crate::cli::terminal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write, stdout};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A longer line is printed in parts.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Where a process said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What it is for.
    Out,
    /// What it says of itself.
    Err,
}

/// How it is printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// As JSON, an object a line, of what goes to stderr.
    pub is_json: bool,
}

impl Output {
    /// Prints what a process said.
    pub fn print(self, process: usize, stream: Stream, line: &str) {
        match stream {
            // Nobody has to read it.
            Stream::Out => {
                writeln!(stdout(), "[{process}] {}", terminal::escaped(line)).and_then(|()| stdout().flush()).ok();
            }
            Stream::Err if self.is_json => say_object(&of_process(process, line)),
            Stream::Err => say(&format!("[{process}] {line}")),
        }
    }

    /// Prints what `launch` says itself.
    pub fn note(self, what: &str) {
        match self.is_json {
            true => say_object(&message("info", what)),
            false => say(&format!("note: {what}")),
        }
    }
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
pub fn pump(stream: impl Read + Send + 'static, mut each: impl FnMut(&str) + Send + 'static) -> std::io::Result<Pump> {
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
    /// Waits until all has been read. Not for ever: a child of the process may keep its output open.
    pub fn drain(&self, wait: Duration) {
        self.0.recv_timeout(wait).ok();
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
        pump.drain(Duration::from_secs(60));
        assert_eq!(*lines.lock().unwrap(), ["one", "", "two \u{fffd}"]);
    }
}
