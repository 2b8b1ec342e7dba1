//! One of the processes: how it is started, here or on another host, and how it ends.

use super::output::{DRAIN_MAX, Output, Pump, Stream, pump};
use super::tie::Tie;
use crate::cli::error::CliError;
use crate::cluster::launched::{GOES_ON_ALONE, Launched, MET, STDIN, VARIABLE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How ssh is to behave: ask nobody, and notice when the other host is gone.
const SSH_OPTIONS: [&str; 4] = ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"];
/// So much of a last line is a part of an error.
const LINE_CHARS_MAX: usize = 400;
/// A process of this exit code must be started again, since another one was lost.
pub const START_AGAIN: i32 = 5;

/// Where processes are started.
#[derive(Clone, Debug)]
pub enum Where {
    /// On this host.
    Here,
    /// By a command such as `ssh`, on the host of each process.
    Ssh {
        /// The command and its arguments.
        command: Vec<String>,
        /// By process, a host and perhaps its user.
        targets: Vec<String>,
    },
}

/// What is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where.
    pub place: Where,
    /// The program.
    pub program: PathBuf,
    /// The folder in which it works.
    pub dir: PathBuf,
    /// Its arguments.
    pub words: Vec<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl End {
    fn of(status: ExitStatus) -> End {
        status.signal().map_or(End::Code(status.code().unwrap_or(1)), End::Signal)
    }

    /// Whether it did what it was to do.
    pub fn is_success(self) -> bool {
        self == End::Code(0)
    }

    /// The exit code, as a shell has it.
    pub fn code(self) -> u8 {
        u8::try_from(match self {
            End::Code(code) => code,
            End::Signal(signal) => 128 + signal,
        })
        .unwrap_or(1)
    }

    /// Whether it was asked for wrongly, or the state is of another version: it would end so again.
    pub fn is_for_good(self) -> bool {
        matches!(self, End::Code(2 | 4))
    }

    /// Whether it was lost, and did not say why it ends.
    pub fn is_loss(self) -> bool {
        matches!(self, End::Signal(_) | End::Code(START_AGAIN | 101 | 128..=254))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "ended with exit code {code}"),
            End::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "was ended by {signal}"),
                Err(_) => write!(f, "was ended by signal {signal}"),
            },
        }
    }
}

/// What a process has said.
#[derive(Default)]
struct Said {
    /// It is connected with all others.
    met: AtomicBool,
    /// It does what it can without the others.
    goes_on_alone: AtomicBool,
    /// What it said last.
    last: Mutex<Last>,
}

/// The last words of a process.
#[derive(Default)]
struct Last {
    /// Its last error.
    error: Option<String>,
    /// Its last line, which may be one of ssh, or of a shell.
    line: Option<String>,
}

/// One of the processes.
pub struct Member {
    /// Its number.
    pub process: usize,
    /// Its address.
    pub address: String,
    /// How it ended, once it has.
    pub end: Option<End>,
    child: Child,
    /// Until it is asked to end.
    tie: Option<Tie>,
    /// What reads what it says of itself.
    pump: Option<Pump>,
    said: Arc<Said>,
    is_here: bool,
}

impl Member {
    /// Starts it.
    pub fn start(start: &Start, launched: &Launched, output: &Output) -> Result<Member, CliError> {
        let process = launched.process;
        let (mut command, is_here) = command(start, process)?;
        let failed = |what: &dyn fmt::Display| CliError::failed(format!("could not start process {process}: {what}"));
        // Signals of a terminal are for the one that launches, and it tells all others.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&format!("{:?}: {error}", command.get_program().to_string_lossy())))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let address = launched.addresses.get(process).cloned().unwrap_or_default();
        let said = Arc::new(Said::default());
        let mut member = Member { process, address, end: None, child, tie: None, pump: None, said, is_here };
        if let Some(stream) = stdout {
            output.print_all(process, stream).map_err(|error| failed(&error))?;
        }
        let (heard, output) = (Arc::clone(&member.said), output.clone());
        let err = stderr.map(|stream| pump(stream, move |line| heard.hear(process, &output, line)));
        member.pump = err.transpose().map_err(|error| failed(&error))?;
        member.tie = stdin.map(|stdin| Tie::new(stdin, launched)).transpose().map_err(|error| failed(&error))?;
        Ok(member)
    }

    /// Whether it is connected with all others, or was.
    pub fn has_met(&self) -> bool {
        self.said.met.load(Ordering::Acquire)
    }

    /// Whether it does what it can without the others.
    pub fn goes_on_alone(&self) -> bool {
        self.said.goes_on_alone.load(Ordering::Acquire)
    }

    /// The last error that it told; where it ended with an exit code and without an error, its last line.
    pub fn error(&self) -> Option<String> {
        let last = self.said.last.lock().unwrap_or_else(PoisonError::into_inner);
        let says_more = self.end.is_some_and(|end| matches!(end, End::Code(_)));
        last.error.clone().or_else(|| last.line.clone().filter(|_| says_more))
    }

    /// Looks whether it has ended. Returns how, the first time.
    pub fn look(&mut self) -> Option<End> {
        if self.end.is_some() {
            return None;
        }
        // One that can't be asked for is gone.
        self.end = match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(End::of(status)),
            Err(_) => Some(End::Code(1)),
        };
        if self.end.is_some() {
            // Its last error is a part of how it ended.
            self.pump.as_ref().map(|pump| pump.drain(DRAIN_MAX));
        }
        self.end
    }

    /// Asks it to end.
    pub fn stop(&mut self) {
        self.tie.take();
    }

    /// Lets it go on, where it was suspended: then it hears that the others took it for lost.
    pub fn resume(&self) {
        if self.is_here && self.end.is_none() {
            self.signal(Signal::SIGCONT);
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if self.end.is_some() {
            return;
        }
        // What is on another host hears of it only so.
        if let Some(tie) = self.tie.take().filter(|_| !self.is_here) {
            tie.kill();
        }
        self.child.kill().ok();
    }

    fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // It has not been waited for, so that the number is its own.
            kill(Pid::from_raw(id), signal).ok();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        self.child.wait().ok();
    }
}

impl Said {
    fn hear(&self, process: usize, output: &Output, line: &str) {
        if line.ends_with(MET) {
            self.met.store(true, Ordering::Release);
            return;
        }
        // Logs may be objects, in which more follows.
        if process == 0 && line.contains(GOES_ON_ALONE) {
            self.goes_on_alone.store(true, Ordering::Release);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = line.strip_prefix("error: ") {
            last.error = Some(error.into());
        } else if !line.trim().is_empty() {
            last.line = Some(line.trim().chars().take(LINE_CHARS_MAX).collect());
        }
        drop(last);
        output.print(process, Stream::Err, line);
    }
}

/// What starts a process, and whether it is one of this host.
fn command(start: &Start, process: usize) -> Result<(Command, bool), CliError> {
    let Where::Ssh { command, targets } = &start.place else {
        let mut command = Command::new(&start.program);
        command.args(&start.words).current_dir(&start.dir).env(VARIABLE, STDIN);
        return Ok((command, true));
    };
    let (Some((ssh, options)), Some(target)) = (command.split_first(), targets.get(process)) else {
        return Err(CliError::usage("--ssh names no command"));
    };
    let mut command = Command::new(ssh);
    command.args(options).args(SSH_OPTIONS.iter().flat_map(|option| ["-o", option])).args(["-T", "--", target]).arg(remote(start)?);
    Ok((command, false))
}

/// What the shell of another host is told.
fn remote(start: &Start) -> Result<String, CliError> {
    let quoted = |word: &str| match shlex::try_quote(word) {
        Ok(word) => Ok(word.into_owned()),
        Err(_) => Err(CliError::usage(format!("{word:?} can't be said to a shell"))),
    };
    let words = [start.program.to_string_lossy().into_owned()].into_iter().chain(start.words.iter().cloned());
    let words: Vec<String> = words.map(|word| quoted(&word)).collect::<Result<_, _>>()?;
    Ok(format!("cd {} && exec env {VARIABLE}={STDIN} {}", quoted(&start.dir.to_string_lossy())?, words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_a_shell_is_quoted() {
        let words = ["run", "online", "events=a b.csv", "--set", "x='$(y)'"].map(String::from).to_vec();
        let start = Start { place: Where::Here, program: "/opt/re tally".into(), dir: "/data/it's".into(), words };
        let said = remote(&start).unwrap();
        let expected = ["cd", "/data/it's", "&&", "exec", "env", "RETALLY_LAUNCHED=stdin", "/opt/re tally", "run", "online"];
        let split = shlex::split(&said).unwrap();
        assert_eq!((&split[..9], &split[9..]), (&expected.map(String::from)[..], &start.words[2..]), "{said}");
        assert!(remote(&Start { words: vec!["a\0b".into()], ..start }).is_err());
    }

    #[test]
    fn ends_have_codes_as_shells_have_them() {
        let table = [
            (End::Code(0), 0, false, "ended with exit code 0"),
            (End::Code(5), 5, true, "ended with exit code 5"),
            (End::Code(1), 1, false, "ended with exit code 1"),
            (End::Signal(9), 137, true, "was ended by SIGKILL"),
            (End::Code(255), 255, false, "ended with exit code 255"),
            (End::Code(137), 137, true, "ended with exit code 137"),
        ];
        for (end, code, is_loss, said) in table {
            assert_eq!((end.code(), end.is_loss(), end.to_string().as_str()), (code, is_loss, said));
        }
    }
}
