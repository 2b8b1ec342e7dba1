//! What goes wrong on the command line: one line that says it, one with a hint, and an exit code.

use super::terminal;
use crate::charts::ChartError;
use crate::cluster::mesh::MeshError;
use crate::cluster::shared::Sight;
use crate::cluster::watch::Lost;
use crate::engine::{CommitError, EngineError};
use crate::failure;
use crate::ingest::IngestError;
use crate::ingest::unpack::Broken;
use crate::ingest::version::Changed;
use crate::interrupt::{self, Interrupted};
use crate::points::PointsError;
use crate::points::store::StoreError;
use crate::serve::ServeError;
use crate::sinks::live::read::{BadQuestion, HistoryError};
use crate::sinks::{SinkError, UnknownDestination};
use crate::state::StateError;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// How long last words wait for who reads them.
pub const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// A failure of a command.
#[derive(Debug)]
pub struct CliError {
    message: String,
    hint: Option<String>,
    code: u8,
    /// It has been said.
    is_told: bool,
}

impl CliError {
    /// It was asked for wrongly: exit code 2.
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError { message: message.into(), hint: None, code: 2, is_told: false }
    }

    /// It failed: exit code 1.
    pub fn failed(message: impl Into<String>) -> CliError {
        CliError { message: message.into(), hint: None, code: 1, is_told: false }
    }

    /// With a line that says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// With another exit code.
    #[must_use]
    pub fn code(mut self, code: u8) -> CliError {
        self.code = code;
        self
    }

    /// As a failure of something that is named before it.
    #[must_use]
    pub fn within(self, what: &str) -> CliError {
        CliError { message: format!("{what}: {}", self.message), ..self }
    }

    /// Whether it failed, and was asked for rightly.
    pub fn is_failure(&self) -> bool {
        self.code == 1
    }

    /// As one that has been said: it is not printed again.
    #[must_use]
    pub fn told(mut self) -> CliError {
        self.is_told = true;
        self
    }

    /// What to do about it, where that is known.
    pub fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The lines that say it.
    pub fn lines(&self) -> Vec<String> {
        let hint = self.hint.iter().map(|hint| format!("hint: {hint}"));
        std::iter::once(format!("error: {}", self.message)).chain(hint).collect()
    }

    /// Prints it.
    pub fn report(self) -> ExitCode {
        if !self.is_told {
            self.lines().iter().for_each(|line| say(line));
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        if let Some(hint) = failure::hint_of_causes(&error) {
            return CliError::failed(error.to_string()).hint(hint);
        }
        let hint = match &error {
            EngineError::Unread(unread) => {
                unread.hint.as_deref().unwrap_or("nothing was written; look at the file, or say how many may be refused: --max-rejected N")
            }
            EngineError::Ingest(error) if error.hint().is_some() => error.hint().unwrap_or_default(),
            EngineError::Commit(CommitError { message, hint, code }) => {
                return CliError { message: message.clone(), hint: hint.clone(), code: *code, is_told: false };
            }
            EngineError::Ingest(IngestError::NoDatasets { .. }) => "give a folder of datasets, or a file of jobs",
            EngineError::Ingest(IngestError::NotFound { .. }) => "check the path",
            EngineError::Rejected { .. } => "nothing was written; look at the input, or allow more",
            EngineError::Read(error) => error.hint.as_deref().unwrap_or("nothing was written; run again when the file can be read"),
            EngineError::Ingest(IngestError::Io { source, .. }) if let Some(changed) = Changed::of(source) => changed.hint(),
            EngineError::Ingest(IngestError::Io { source, .. }) if let Some(broken) = Broken::of(source) => broken.hint(),
            EngineError::Ingest(IngestError::Io { path, .. }) if path.starts_with("s3") => BUCKET_HINT,
            EngineError::Ingest(IngestError::Body { .. }) => "nothing was written; deliver it again, whole",
            EngineError::Ingest(IngestError::Io { .. }) => "nothing was written; see that the file is there and may be read",
            EngineError::Ingest(IngestError::BadGlob { .. }) => "put the characters * ? [ ] { } of a name in brackets: [*]",
            EngineError::Ingest(IngestError::UnsupportedUrl { .. }) => "copy the files to a folder or a bucket first",
            EngineError::Ingest(_) => "nothing was written",
            EngineError::Points(PointsError::Store(error)) => store_hint(error),
            EngineError::Points(PointsError::NoCertificates(_)) => "install them (Debian's package ca-certificates)",
            EngineError::Points(PointsError::NoFile(_)) => "give file:PATH of a folder that all processes share, or the URL of a server",
            EngineError::Points(_) => {
                "no table was written; points that a server or a store took are there, and are the same when written again"
            }
            EngineError::Start(_) => "see how many threads and open files a process may have (ulimit -a); or take fewer workers: -w N",
            EngineError::Interrupted(_) => "run again",
            EngineError::Elsewhere(_) => "process 0 says more",
            EngineError::Full { .. } => "try again in a moment",
            EngineError::Ended => "look at what was reported before",
            EngineError::Mesh(MeshError::Version { .. }) => "start all processes with the same version of the program",
            EngineError::Mesh(MeshError::Unseen { sight: Sight::NotState, .. }) => {
                "all processes must have the folder of the state (of a bucket, the scratch folder) under the same path: mount the same on all hosts"
            }
            EngineError::Mesh(MeshError::Unshown { .. }) => "see that this process may write there",
            EngineError::Mesh(MeshError::Unseen { .. }) => {
                "give --points, or the folder of --out, in a folder that all processes share; or the URL of a server"
            }
            EngineError::Mesh(error) if error.is_start_again() => {
                let hint = "see that no process of an earlier start is left, and that each has its own -p; then start all again, together";
                return CliError::failed(error.to_string()).hint(hint).code(START_AGAIN);
            }
            EngineError::Mesh(MeshError::Listen { .. }) => {
                "see that its line of the hosts file leads to this host, and that nobody listens there; each process has its own -p"
            }
            EngineError::Mesh(MeshError::Secret { .. }) => "give all processes the same --secret-file, or RETALLY_CLUSTER_SECRET",
            EngineError::Mesh(MeshError::Absent { .. }) => {
                "start all processes with the same arguments, hosts file and secret, each with its own -p; or give them more time: --join-timeout"
            }
            EngineError::Mesh(_) => "start all processes with the same arguments and hosts file, each with its own -p",
        };
        CliError::failed(error.to_string()).hint(hint)
    }
}

impl From<CliError> for CommitError {
    fn from(error: CliError) -> Self {
        CommitError { message: error.message, hint: error.hint, code: error.code }
    }
}

impl From<SinkError> for CliError {
    fn from(error: SinkError) -> Self {
        let failed = CliError::failed(error.to_string());
        match failure::hint_of_causes(&error).map(String::from).or(error.hint().map(String::from)) {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    }
}

impl From<UnknownDestination> for CliError {
    fn from(error: UnknownDestination) -> Self {
        CliError::usage(error.to_string()).hint(error.hint)
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let error = match error {
            StateError::Ingest(error) => return EngineError::Ingest(error).into(),
            error => error,
        };
        let code = match error {
            StateError::Format { .. } => OTHER_FORMAT,
            StateError::Unsynced { .. } => UNSYNCED,
            _ => 1,
        };
        let hint = match &error {
            StateError::Io { cause, .. } | StateError::Unsynced { cause, .. } | StateError::Input { cause, .. } => {
                failure::hint(cause).or_else(|| Some(Changed::of(cause)?.hint()))
            }
            _ => None,
        };
        let hint = hint.unwrap_or(match error {
            StateError::InUse { .. } => "nothing was written; run again when it is done: its lock ends with it",
            StateError::NoState(_) => "give a folder that is not there yet, or an empty one",
            StateError::Other(_) => "look at the path: the folder of a state has a file named format",
            StateError::NoScratch(_) => "give a folder that is not there yet, or an empty one: --scratch DIR",
            StateError::Fenced { .. } => "one process at a time writes a state: what this one has acknowledged is there; end one of them",
            StateError::Unconditional(_) => "take a server that does, such as Amazon's, Cloudflare's or MinIO's; or a folder",
            StateError::Missing(_) => "look at the path, and see that it is mounted; `retally run DATAFLOW ... --state DIR` makes a state",
            StateError::Format { .. } => "use the version of the program that wrote it, or deliver the files again into a new folder",
            StateError::Damaged { .. } => "nothing was written; restore the folder from a copy, or deliver the files again into a new one",
            StateError::Io { ref path, .. } if path.starts_with("s3:") || path.starts_with("s3a:") => BUCKET_HINT,
            StateError::Unsynced { .. } => "the batch may be there or not: run again, and what is there is taken up",
            StateError::Input { .. } => "nothing was written; see that the file is there and may be read",
            StateError::Io { .. } | StateError::Ingest(_) => "nothing was written; see that you may read and write there",
        });
        CliError::failed(error.to_string()).hint(hint).code(code)
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let hint = match error {
            ServeError::State(error) => return error.into(),
            ServeError::Sink(error) => return error.into(),
            ServeError::Engine(error) => return error.into(),
            ServeError::Listen { .. } => "give an address of this machine that nobody listens on: --listen 127.0.0.1:0 finds one",
            ServeError::Unprotected(_) => {
                let hint = "say who may: --tokens FILE, a line each: NAME read|write SECRET; or listen on 127.0.0.1";
                return CliError::usage(error.to_string()).hint(hint);
            }
            ServeError::System(_) => "see how many threads and open files a process may have (ulimit -a)",
        };
        CliError::failed(error.to_string()).hint(hint)
    }
}

impl From<BadQuestion> for CliError {
    fn from(error: BadQuestion) -> Self {
        CliError::usage(error.to_string()).hint(error.hint())
    }
}

impl From<HistoryError> for CliError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Bad(error) => error.into(),
            HistoryError::Sink(error) => error.into(),
        }
    }
}

impl From<ChartError> for CliError {
    fn from(error: ChartError) -> Self {
        let hint = match &error {
            ChartError::NoColumn { .. } => "leave --charts out, and report it: the dataflow is wrong",
            ChartError::Write { cause, .. } => failure::hint_of_writing(cause),
        };
        CliError::failed(error.to_string()).hint(hint)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        CliError::failed(error.to_string()).hint(failure::hint_of_causes(&error).unwrap_or(store_hint(&error)))
    }
}

/// The exit code where a state is of another format.
const OTHER_FORMAT: u8 = 4;
/// The exit code where it is not known what the disk has.
const UNSYNCED: u8 = 5;
/// The exit code where all processes of a cluster are to be started again, together.
const START_AGAIN: u8 = 5;

const BUCKET_HINT: &str =
    "nothing was written; look at the bucket's name, AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

fn store_hint(error: &StoreError) -> &'static str {
    match error {
        StoreError::NoStore(_) => "give the folder of a store, or to write, an empty one or a new one",
        StoreError::OtherFormat { .. } => "use the version of the program that wrote it, or write the points again into a new folder",
        StoreError::InUse { .. } => "wait until that process is done",
        StoreError::OtherKind { .. } => "write into a new folder",
        StoreError::TagsTooLong { .. } => "give shorter names",
        StoreError::Damaged { .. } => {
            "restore it from a copy; of a state (STATE/points), remove the folder: its points are rebuilt; or write them into a new one"
        }
        StoreError::Failed { .. } => "see that there is space, and that you may read and write there",
    }
}

/// From now on, signals end the process in order.
pub fn listen_to_signals() -> Result<(), CliError> {
    let tell = |interrupted: Interrupted| {
        let hint = match interrupted.is_published {
            true => "hint: tables are written, in whole; run again for what comes after them, as points, charts and changes",
            false => "hint: no table was written; run again",
        };
        last_words(vec![format!("error: interrupted by {}", interrupted.signal), hint.into()]);
    };
    interrupt::listen(tell).map_err(|error| CliError::failed(format!("could not listen to signals: {error}")))
}

/// Ends this process, since another one of its cluster is lost.
pub fn lost(lost: Lost) {
    // A signal may have come to all of them.
    interrupt::over();
    last_words(vec![format!("error: {lost}"), "hint: look at what it said, and start all processes again, together".into()]);
    interrupt::exit(START_AGAIN.into())
}

/// Ends this process, since the `launch` that started it gives no sign of life: its host is gone, or the way to it is cut.
pub fn lost_launch(silent: Duration) {
    interrupt::over();
    let error = format!("error: lost `retally launch`: it gave no sign of life for {} ms", silent.as_millis());
    last_words(vec![error, "hint: look at the host that it runs on, and at the way to it; where it is there, it starts all again".into()]);
    interrupt::exit(START_AGAIN.into())
}

/// Says the last lines of a process that is about to exit, in a thread of their own: it ends all the same where nobody reads them.
fn last_words(lines: Vec<String>) {
    let (said, is_said) = mpsc::channel::<()>();
    let speak = move || {
        lines.iter().for_each(|line| say(line));
        drop(said);
    };
    if std::thread::Builder::new().name("last-words".into()).spawn(speak).is_ok() {
        // It ends the wait by dropping its end.
        is_said.recv_timeout(LAST_WORDS_MAX).ok();
    }
}

/// Says something on stderr, on one line. Where nobody listens any more, nothing is lost by going on.
pub fn say(line: &str) {
    writeln!(io::stderr(), "{}", terminal::line(line)).ok();
}

/// Says an object on stderr, for those who collect logs: a line.
pub fn say_object(object: &serde_json::Value) {
    say(&object.to_string());
}

/// The reader of a pipe that has seen enough is no error.
pub fn unless_broken_pipe(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::failed(format!("could not print: {error}"))),
        _ => Ok(()),
    }
}
