//! A PostgreSQL server of a test's own: a cluster in a temporary folder, on a free port, gone when the test is over.
//!
//! PostgreSQL refuses to run as root, so that a test that does gives the server to `nobody`. The server is told to end when the thread that
//! started it does, so none is left behind, whatever becomes of the test.

use crate::databases::{Database, Log};
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use retally::sinks::{Applied, Postgres, Sink};
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to start: far more than one does on a busy machine.
const START_SECONDS_MAX: u64 = 60;
/// And to end.
const STOP_SECONDS_MAX: u64 = 10;
/// What a URL has to write otherwise, and messages must not show.
pub const PASSWORD: &str = "s3cret@/:?#%";
pub const PASSWORD_IN_URL: &str = "s3cret%40%2F%3A%3F%23%25";
const USER: &str = "keeper";

/// A running server, with an empty database.
pub struct Server {
    folder: TempDir,
    process: Option<Child>,
    port: u16,
    /// What it is started with besides: `name=value`.
    pub settings: Vec<String>,
}

impl Server {
    pub fn start() -> Server {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in [("data", None), ("password", Some(PASSWORD))] {
            let path = folder.path().join(name);
            text.map_or_else(|| fs::create_dir(&path), |text| fs::write(&path, text)).unwrap();
            if let Some(owner) = owner() {
                chown(&path, Some(owner), Some(owner)).unwrap();
            }
        }
        let mut server = Server { folder, process: None, port: 0, settings: Vec::new() };
        let mut command = server.command("initdb");
        command.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--username", USER, "--pwfile"]);
        let made = command.arg(server.folder.path().join("password")).arg("-D").arg(server.data()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        // Someone else may take a free port before the server does.
        let started = (0..5).any(|_| {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            server.run()
        });
        assert!(started, "the server does not start: {}", server.log());
        server.client("postgres").batch_execute("CREATE DATABASE tables").unwrap();
        server
    }

    /// Starts the process on its port. Answers whether it takes connections.
    pub fn run(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while !self.begin() {
            // Children of one that was killed may take a moment to notice.
            if Instant::now() >= until || !self.log().contains("is still in use") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn begin(&mut self) -> bool {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=20"]);
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < until {
            if self.config("postgres").connect(NoTls).is_ok() {
                return true;
            }
            if self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_some()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends the process, and starts it with other settings.
    pub fn restart(&mut self, settings: &[&str]) {
        self.kill();
        self.settings = settings.iter().map(ToString::to_string).collect();
        assert!(self.run(), "the server does not start: {}", self.log());
    }

    /// What it has said since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Writes a file among its own, which nobody else may read.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(owner) = owner() {
            chown(&path, Some(owner), Some(owner)).unwrap();
        }
    }

    /// Ends the process as a loss of power would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    pub fn client(&self, database: &str) -> Client {
        self.config(database).connect(NoTls).unwrap()
    }

    /// A URL of this server, with these credentials.
    pub fn url(&self, credentials: &str, database: &str) -> String {
        format!("postgres://{credentials}@127.0.0.1:{}/{database}", self.port)
    }

    /// The number of its first process.
    pub fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(USER).password(PASSWORD).dbname(database).options("-c timezone=UTC");
        config
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of PostgreSQL's programs, under a user that it accepts.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if let Some(owner) = owner() {
            command.args(["--reuid", &owner.to_string(), "--regid", &owner.to_string(), "--clear-groups"]);
        }
        // The folder that we are in may be closed to that user.
        command.arg("--").arg(program(name)).current_dir(self.folder.path());
        command
    }
}

impl Drop for Server {
    /// Ends it at once, but by a signal that lets it give back what the system has lent it.
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            Command::new("kill").args(["-QUIT", &process.id().to_string()]).status().ok();
            let until = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
            while Instant::now() < until && process.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill();
    }
}

/// Who the server runs as, where it can't be us.
fn owner() -> Option<u32> {
    let id = Command::new("id").arg("-u").output().unwrap();
    const NOBODY: u32 = 65_534;
    (id.stdout == b"0\n").then_some(NOBODY)
}

/// Where a program of PostgreSQL is: Debian keeps them out of the path, by version.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut versions: Vec<PathBuf> = versions.collect();
    versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let folders = versions.iter().rev().map(|version| version.join("bin")).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|path| Path::is_file(path));
    found.unwrap_or_else(|| panic!("{name} is missing: install PostgreSQL's server (scripts/test does)"))
}

impl Database for Server {
    fn out(&self) -> String {
        self.url(&format!("{USER}:{PASSWORD_IN_URL}"), "tables")
    }

    fn execute(&self, statements: &str) {
        self.client("tables").batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let messages = self.client("tables").simple_query(query).unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|place| as_in_csv(row.get(place).unwrap_or_default())).collect()),
            _ => None,
        });
        rows.collect()
    }

    fn tables(&self) -> Vec<String> {
        self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").into_iter().flatten().collect()
    }

    fn truths(&self) -> [&'static str; 2] {
        ["t", "f"]
    }

    fn watch(&self, table: &str) {
        let body = "BEGIN INSERT INTO written VALUES (TG_TABLE_NAME, TG_OP); RETURN NULL; END";
        self.execute(&format!(
            "CREATE TABLE IF NOT EXISTS written (place TEXT, kind TEXT);
             CREATE OR REPLACE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS '{body}';
             CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION watch()"
        ));
    }

    fn take_log(&self) -> Log {
        let rows = self.rows("SELECT place, kind, count(*) FROM written GROUP BY 1, 2");
        self.execute("DELETE FROM written");
        rows.into_iter().map(|row| ((row[0].clone(), row[1].clone()), row[2].parse().unwrap())).collect()
    }

    fn sink(&self, tables: &[Table]) -> Box<dyn Sink> {
        Box::new(Postgres::open(&self.out(), tables.iter()).unwrap())
    }

    fn apply(&self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&retally::sinks::Reached; 2]) {
        let applied = Postgres::open(&self.out(), tables.iter()).unwrap().apply(tables, changes, reached).unwrap();
        assert_eq!(applied, Applied::Done);
    }
}

/// A value as PostgreSQL shows it, as CSV has it: times are written otherwise, and floats that are very small or large.
fn as_in_csv(value: &str) -> String {
    if value.contains("e-") || value.contains("e+") {
        return value.parse::<f64>().map_or_else(|_| value.into(), |number| number.to_string());
    }
    let Some((day, time)) = value.strip_suffix("+00").and_then(|value| value.split_once(' ')) else { return value.into() };
    match time.split_once('.') {
        Some((time, fraction)) => format!("{day}T{time}.{fraction:0<6}Z"),
        None => format!("{day}T{time}Z"),
    }
}
