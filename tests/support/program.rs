//! The program in a folder of its own: the door that all tests here go through.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a run may take: far more than any does on a busy machine, so what takes longer hangs.
const RUN_SECONDS_MAX: u64 = 120;
/// What a run says where the machine has little memory left.
const OF_MEMORY: &str = "note: memory is running out";

/// A folder in which the program runs, and which is gone when the test is over.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("could not read {name:?}: {error}"))
    }

    /// The files of a folder with what is in them, by name.
    pub fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let paths = self.names(folder).into_iter().map(|name| (self.path(folder).join(&name), name));
        paths.filter(|(path, _)| path.is_file()).map(|(path, name)| (name, fs::read(path).unwrap())).collect()
    }

    /// The same without what says which of them are whole.
    pub fn tables(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files(folder);
        files.remove("retally.json");
        files
    }

    /// The names in a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap_or_else(|error| panic!("could not list {folder:?}: {error}"));
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs the program to its end. Words are separated by spaces, but for those within `'`.
    pub fn run(&self, words: &str) -> Ran {
        self.start(words).finish()
    }

    /// Starts the program.
    pub fn start(&self, words: &str) -> Started {
        Started::new(self.command(words), words)
    }

    /// Starts the program under a limit of bash, such as `ulimit -n 40`; sizes of files are in blocks of 1,024 bytes.
    pub fn start_within(&self, limit: &str, words: &str) -> Started {
        let program = self.command(words);
        let mut limited = Command::new("bash");
        limited.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(program.get_program()).args(program.get_args());
        limited.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Started::new(limited, words)
    }

    /// The program in this folder, where nothing of the world outside changes what it says.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retally"));
        command.current_dir(self.folder.path()).env("COLUMNS", "100").env_remove("RUST_BACKTRACE");
        for (number, part) in words.split('\'').enumerate() {
            if number % 2 == 1 {
                command.arg(part)
            } else {
                command.args(part.split_whitespace())
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A process that is killed when the test ends before it does.
pub struct Started {
    words: String,
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Started {
    pub fn new(mut command: Command, words: &str) -> Started {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Started { words: words.into(), child, stdout: received(stdout), stderr: received(stderr) }
    }

    /// The next line that it prints.
    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.stdout.recv_timeout(Duration::from_secs(RUN_SECONDS_MAX));
        let line = line.unwrap_or_else(|_| panic!("`retally {}` prints nothing (more)", self.words));
        String::from_utf8(line).unwrap().trim_end().to_string()
    }

    /// The first line that it prints, where it prints any before it ends.
    pub fn first_line(&self) -> Option<String> {
        let line = self.stdout.recv_timeout(Duration::from_secs(RUN_SECONDS_MAX)).ok()?;
        Some(String::from_utf8(line).unwrap().trim_end().to_string())
    }

    /// The lines that it has printed since.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.try_iter().map(|line| String::from_utf8(line).unwrap().trim_end().to_string()).collect()
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by the name without SIG.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name} {}", self.id());
    }

    /// Writes the rest of its standard input, which was a pipe.
    pub fn give(&mut self, bytes: &str) {
        self.child.stdin.take().unwrap().write_all(bytes.as_bytes()).unwrap();
    }

    /// Waits until something is so, while it runs.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(RUN_SECONDS_MAX);
        while !is_so() {
            assert!(self.child.try_wait().unwrap().is_none(), "`retally {}` ends before {what}", self.words);
            assert!(Instant::now() < until, "`retally {}`: {what} does not come", self.words);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Ran {
        let until = Instant::now() + Duration::from_secs(RUN_SECONDS_MAX);
        let all = |stream: &Receiver<Vec<u8>>| {
            let mut bytes = Vec::new();
            loop {
                match stream.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(line) => bytes.extend(line),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return String::from_utf8_lossy(&bytes).into_owned(),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        let said = String::from_utf8_lossy(&bytes).into_owned();
                        panic!("`retally {}` goes on after {RUN_SECONDS_MAX} s, and said {said:?}", self.words)
                    }
                }
            }
        };
        let (stdout, mut stderr) = (all(&self.stdout), all(&self.stderr));
        // Of the machine, and not of the run.
        if stderr.contains(OF_MEMORY) {
            stderr = stderr.split_inclusive('\n').filter(|line| !line.contains(OF_MEMORY)).collect();
        }
        // Both streams are closed: it has ended, or is about to.
        let code = self.child.wait().unwrap().code();
        Ran { words: std::mem::take(&mut self.words), code, stdout, stderr }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It has ended already, or has no business any more.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A pipe that nobody reads, for what a process says.
pub struct Unread {
    _reader: PipeReader,
    writer: PipeWriter,
}

impl Unread {
    pub fn new() -> Unread {
        let (reader, writer) = std::io::pipe().unwrap();
        Unread { _reader: reader, writer }
    }

    /// The end that a process writes to.
    pub fn end(&self) -> Stdio {
        self.writer.try_clone().unwrap().into()
    }

    /// Fills it: what is written from now on waits for ever.
    pub fn fill(&self) {
        let mut writer = self.writer.try_clone().unwrap();
        let (sender, filled) = channel();
        // It ends when the test does, which closes the pipe.
        std::thread::spawn(move || while writer.write_all(&[b'x'; 4096]).is_ok() && sender.send(()).is_ok() {});
        while filled.recv_timeout(Duration::from_millis(200)).is_ok() {}
    }
}

/// What comes from a stream, line by line; disconnected at its end, or at once where it is not a pipe.
fn received(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) && sender.send(std::mem::take(&mut line)).is_ok() {}
        });
    }
    receiver
}

/// What a run said.
pub struct Ran {
    words: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// It did what it was asked for.
    #[track_caller]
    pub fn succeeds(self) -> Ran {
        self.keeps_calm();
        assert_eq!(self.code, Some(0), "`retally {}` says\n{}", self.words, self.stderr);
        self
    }

    /// It failed, exit code 1: with one line that says why, and perhaps one that says what to do about it.
    #[track_caller]
    pub fn fails(self) -> Failure {
        self.fails_with(1)
    }

    /// It failed, after it had printed something with this in it.
    #[track_caller]
    pub fn fails_after(mut self, printed: &str) -> Failure {
        assert!(self.stdout.contains(printed), "`retally {}` prints\n{}", self.words, self.stdout);
        self.stdout.clear();
        self.fails_with(1)
    }

    /// It was asked for wrongly: exit code 2, and the same lines.
    #[track_caller]
    pub fn fails_as_wrong_usage(self) -> Failure {
        self.fails_with(2)
    }

    /// It lost another process of its cluster, or came too late: exit code 5.
    #[track_caller]
    pub fn must_start_again(self) -> Failure {
        self.fails_with(5)
    }

    #[track_caller]
    pub fn fails_with(self, code: i32) -> Failure {
        self.keeps_calm();
        assert_eq!(self.code, Some(code), "`retally {}` says\n{}", self.words, self.stderr);
        // What a demo shows, it shows as it goes.
        assert!(
            self.stdout.is_empty() || self.words.starts_with("demo"),
            "`retally {}` fails, and has an answer: {}",
            self.words,
            self.stdout
        );
        let lines: Vec<&str> = self.stderr.lines().collect();
        let (error, hint) = match lines.as_slice() {
            [.., error, hint] if hint.starts_with("hint: ") => (*error, Some(*hint)),
            [.., error] => (*error, None),
            [] => panic!("`retally {}` fails without a word", self.words),
        };
        let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        let ours = error.starts_with("error: ") && count("error: ") == 1 && count("hint: ") == usize::from(hint.is_some());
        assert!(ours, "`retally {}` should end in one line of error and one of hint at most, and says\n{}", self.words, self.stderr);
        let end = |line: &str, start: &str| {
            assert!(!line.ends_with('.'), "a full stop: {line:?}");
            line.strip_prefix(start).unwrap_or(line).to_string()
        };
        Failure { error: end(error, "error: "), hint: hint.map(|hint| end(hint, "hint: ")) }
    }

    /// A signal ended it: with this exit code, a line that names the signal and one that says what was written.
    #[track_caller]
    pub fn ends_by_signal(self, code: i32) -> Failure {
        self.fails_with(code)
    }

    /// The parser of the command line refused: exit code 2, one line of error, and how to use it.
    #[track_caller]
    pub fn fails_in_the_parser(self) -> String {
        self.keeps_calm();
        assert_eq!(self.code, Some(2), "`retally {}` says\n{}", self.words, self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "`retally {}` says\n{}", self.words, self.stderr);
        assert!(self.stderr.contains("--help"), "`retally {}` says\n{}", self.words, self.stderr);
        self.stderr
    }

    #[track_caller]
    fn keeps_calm(&self) {
        assert!(!self.stderr.contains("panicked"), "`retally {}` says\n{}", self.words, self.stderr);
    }
}

/// What a run that failed said of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub error: String,
    pub hint: Option<String>,
}

impl Failure {
    /// The error has all of these in it.
    #[track_caller]
    pub fn names(self, parts: &[&str]) -> Failure {
        for part in parts {
            assert!(self.error.contains(part), "{:?} does not name {part:?}", self.error);
        }
        self
    }
}
