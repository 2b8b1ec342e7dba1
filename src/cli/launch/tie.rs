//! The tie to a process: its standard input, on which it hears who it is, that `launch` is there, and that it is to end.
//!
//! A thread of its own writes it, since a process that is suspended does not read.

use crate::cluster::launched::{KILL, Launched, SIGN_EVERY};
use std::io::{self, Write};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long a request to end at once waits until it is written.
const KILL_WAIT: Duration = Duration::from_millis(100);

/// The tie to a process. It is asked to end when this is dropped.
pub struct Tie {
    kill: Sender<()>,
    cut: Receiver<()>,
}

impl Tie {
    /// Tells a process who it is, and gives signs of life from then on.
    pub fn new(stdin: ChildStdin, launched: &Launched) -> io::Result<Tie> {
        let (line, (kill, killed), (ends, cut)) = (launched.line(), channel(), channel::<()>());
        let run = move || {
            let _ends = ends;
            // It may have ended already, which is noticed.
            keep(stdin, &line, SIGN_EVERY, &killed).ok();
        };
        std::thread::Builder::new().name("tie".into()).spawn(run)?;
        Ok(Tie { kill, cut })
    }

    /// Asks the process to end at once, and waits for a moment until that is said.
    pub fn kill(self) {
        self.kill.send(()).ok();
        self.cut.recv_timeout(KILL_WAIT).ok();
    }
}

/// Writes a line, a sign of life from time to time, and a last word where one is asked for.
fn keep(mut to: impl Write, line: &str, every: Duration, killed: &Receiver<()>) -> io::Result<()> {
    to.write_all(line.as_bytes())?;
    to.flush()?;
    loop {
        match killed.recv_timeout(every) {
            Err(RecvTimeoutError::Timeout) => to.write_all(b"\n")?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(()) => return to.write_all(format!("{KILL}\n").as_bytes()),
        }
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, pipe};

    #[test]
    fn a_process_hears_who_it_is_signs_of_life_and_its_end() {
        for is_killed in [true, false] {
            let (reader, writer) = pipe().unwrap();
            let (kill, killed) = channel();
            let keeping = std::thread::spawn(move || keep(writer, "who\n", Duration::from_millis(1), &killed));
            let mut lines = BufReader::new(reader).lines().map(|line| line.unwrap());
            assert_eq!(lines.next().unwrap(), "who");
            assert!(lines.by_ref().take(3).all(|line| line.is_empty()));
            if is_killed {
                kill.send(()).unwrap();
            }
            drop(kill);
            let last = lines.last();
            assert_eq!(last.as_deref() == Some(KILL), is_killed, "{last:?}");
            keeping.join().unwrap().unwrap();
        }
    }
}
