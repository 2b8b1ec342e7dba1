//! A service of the program, and how tests ask it.

use super::known::Known;
use super::program::{Place, Ran, Started};
use serde_json::Value;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use ureq::Agent;

/// How long a service may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// A service that runs.
pub struct Service {
    pub started: Started,
    pub asker: Asker,
}

/// Asks a service, from any thread.
#[derive(Clone)]
pub struct Asker {
    pub address: String,
    agent: Agent,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    /// As JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// It did what it was asked for.
    #[track_caller]
    pub fn ok(self) -> Answer {
        assert_eq!(self.status, 200, "{}", self.text);
        self
    }

    /// It was refused, with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> String {
        let error = self.json()["error"].clone();
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{}", self.text);
        let message = error["message"].as_str().unwrap().to_string();
        assert!(!message.is_empty() && !message.ends_with('.'), "{message}");
        let is_hinted = ["unknown_column", "bad_value", "empty", "bad_position", "unknown_field"];
        assert!(error["hint"].is_string() || !is_hinted.contains(&code), "{code} has no hint: {message}");
        message
    }
}

/// A port that nobody listens on, of those that no connection is given by the system: it is free again after a restart. Tests of one
/// process look in different places.
pub fn free_port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let first = 20_000 + std::process::id() % 10_000 + ASKED.fetch_add(1, Ordering::Relaxed) * 97;
    let mut ports = (first..).map(|port| u16::try_from(port % 12_000 + 20_000).unwrap());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Service {
    /// Starts a service in `state`, and waits until it takes batches.
    #[track_caller]
    pub fn start(place: &Place, words: &str) -> Service {
        let service = Service::begin(place, words);
        service.asker.until_ready();
        service
    }

    /// The same with the settings of known records.
    #[track_caller]
    pub fn of(place: &Place, known: &Known, words: &str) -> Service {
        Service::start(place, &format!("{} {} {words}", known.dataflow(), known.set()))
    }

    /// Starts a service, which may not take batches yet.
    #[track_caller]
    pub fn begin(place: &Place, words: &str) -> Service {
        Service::begin_as(place, &format!("{words} --state state"), |command| command)
    }

    /// The same, whose command is told more: where its state is, too.
    #[track_caller]
    pub fn begin_as(place: &Place, words: &str, told: impl FnOnce(Command) -> Command) -> Service {
        let listen = if words.contains("--listen") { "" } else { "--listen 127.0.0.1:0" };
        let words = format!("serve {words} {listen}");
        let started = Started::new(told(place.command(&words)), &words);
        let line = started.line();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("it says {line:?}")).to_string();
        Service { started, asker: Asker::new(address) }
    }

    /// Starts a service of several processes by `launch`, and waits until it takes batches.
    #[track_caller]
    pub fn launched(place: &Place, launch: &str, words: &str) -> Service {
        let started = place.start(&format!("launch {launch} -- serve {words} --state state"));
        let line = started.line();
        let address = line.strip_prefix("[0] listening on ").unwrap_or_else(|| panic!("it says {line:?}")).to_string();
        let service = Service { started, asker: Asker::new(address) };
        service.asker.until_ready();
        service
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub fn end(self) -> Ran {
        self.started.signal("TERM");
        self.started.finish().succeeds()
    }

    /// Kills it.
    pub fn kill(self) {
        self.started.signal("KILL");
        self.started.finish();
    }
}

impl std::ops::Deref for Service {
    type Target = Asker;

    fn deref(&self) -> &Asker {
        &self.asker
    }
}

impl Asker {
    pub fn new(address: String) -> Asker {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(READY_MAX)).proxy(None);
        Asker { address, agent: config.build().new_agent() }
    }

    /// Whether it takes batches in the end: it does not where it ends before.
    pub fn gets_ready(&self) -> bool {
        let until = Instant::now() + READY_MAX;
        loop {
            assert!(Instant::now() < until, "the service does not get ready");
            match self.try_get("/readyz", &[]) {
                None => return false,
                Some(answer) if answer.status == 200 => return true,
                Some(answer) if answer.text == "damaged" => return false,
                Some(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    #[track_caller]
    pub fn until_ready(&self) {
        let until = Instant::now() + READY_MAX;
        while self.try_get("/readyz", &[]).is_none_or(|answer| answer.status != 200) {
            assert!(Instant::now() < until, "the service does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Option<Answer> {
        let mut response = response.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Some(Answer { status, headers, text: response.body_mut().read_to_string().ok()? })
    }

    /// Gets a path; nothing where it can't be asked.
    pub fn try_get(&self, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Asker::answer(request.call())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path, &[]).unwrap_or_else(|| panic!("{path} is not answered"))
    }

    /// Posts a body; nothing where it can't be asked, or is not answered.
    pub fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let mut request = self.agent.post(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Asker::answer(request.send(body))
    }

    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.try_post(path, headers, body.as_ref()).unwrap_or_else(|| panic!("{path} is not answered"))
    }

    /// Posts CSV.
    #[track_caller]
    pub fn csv(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post(path, &[("content-type", "text/csv")], body)
    }

    /// The tables are those that are known.
    #[track_caller]
    pub fn same(&self, known: &Known) {
        for (name, expected) in known.tables() {
            let found = self.get(&format!("/v1/{}/tables/{name}?format=csv", known.dataflow())).ok().text;
            let expected = String::from_utf8_lossy(expected);
            let [found, expected] = [found.as_str(), &expected].map(|text| text.lines().collect::<Vec<_>>());
            let line = (0..).find(|line| found.get(*line) != expected.get(*line) || found.get(*line).is_none()).unwrap();
            let [found_line, expected_line] = [found.get(line), expected.get(line)];
            assert!(found == expected, "{name} differs in line {}: {found_line:?} should be {expected_line:?}", line + 1);
        }
    }
}
