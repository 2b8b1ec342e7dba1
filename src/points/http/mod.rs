//! A server that takes line protocol over HTTP: the destination `http://HOST:PORT/…`.
//!
//! Two threads of a process send buffers of lines, packed with gzip; a worker's buffers go over one of them, in their order. What can be
//! tried again is: broken connections, silence, 408, 425, 429 and 5xx, with pauses that double, a bit of chance, and not before
//! `Retry-After` (in seconds). A buffer is given up when that has gone on for [`Patience::limit`], or for [`Patience::first_limit`] when no
//! connection ever came about: the run fails, and reports why. A buffer that is sent again may have been written before: the same points
//! are the same.
//!
//! When a server refuses a buffer for what is in it, it is halved until the bad points are alone: they are counted, the first is named, and
//! the others get written. A server that refuses everything, or too much, fails the run.
//!
//! What may send is said by a user and a password in the URL, or by [`AUTHORIZATION`].
//!
//! # Limits
//! No server can delete a point by this way, and no series: retracted points get a mark. The names of points that a server drops without
//! saying so, as VictoriaMetrics does with lines that it can't read, are not known.

pub mod answer;
pub mod url;

use super::queue::{self, Drain, Queued};
use super::{Dropped, PointsError};
use crate::client;
use crate::shown::{self, HIDDEN};
use crate::silence::silence_max;
use answer::Verdict;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION as AUTHORIZATION_HEADER, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use url::Target;

/// The variable of the environment with the value of the header `Authorization`, such as `Token …` or `Bearer …`.
pub const AUTHORIZATION: &str = "RETALLY_POINTS_AUTHORIZATION";
/// How many threads send.
const SENDERS: usize = 2;
/// More points are not looked for one by one, in one thread.
const ALONE_MAX: u64 = 1_000;
/// A server that has refused so many points and taken none takes none.
const ALONE_MAX_BEFORE_ANY: u64 = 16;
/// Of an answer, this is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Of a point that is refused, this is shown.
const POINT_CHARS_MAX: usize = 200;

/// How long the destination tries.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For an answer, and for sending what it is to answer.
    pub answer: Duration,
    /// For a buffer, when no connection to the server ever came about: its address may be wrong.
    pub first_limit: Duration,
    /// For a buffer.
    pub limit: Duration,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause that is not asked for by the server.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            answer: silence_max(Duration::from_secs(60)),
            first_limit: silence_max(Duration::from_secs(30)),
            limit: silence_max(Duration::from_secs(300)),
            pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
        }
    }
}

/// Starts to send to a server.
pub fn open(target: &Target, patience: Patience) -> Result<Queued, PointsError> {
    let agent = agent(target, patience)?;
    let authorization = std::env::var(AUTHORIZATION).ok().filter(|value| !value.is_empty());
    let server = Arc::new(Server {
        target: target.clone(),
        secrets: secrets(target, authorization.as_deref()),
        authorization,
        agent,
        patience,
        reached: AtomicBool::new(false),
        took: AtomicBool::new(false),
    });
    Ok(queue::start((0..SENDERS).map(|_| Sender::new(&server)).collect()))
}

fn agent(target: &Target, patience: Patience) -> Result<Agent, PointsError> {
    let config = Agent::config_builder()
        .timeout_connect(Some(patience.connect))
        .timeout_send_body(Some(patience.answer))
        .timeout_recv_response(Some(patience.answer))
        .timeout_recv_body(Some(patience.answer));
    client::agent(config, target.is_local(), target.is_secure()).ok_or_else(|| PointsError::NoCertificates(target.to_string()))
}

/// What the threads share.
struct Server {
    target: Target,
    authorization: Option<String>,
    /// What must not be shown, though the server may repeat it.
    secrets: Vec<String>,
    agent: Agent,
    patience: Patience,
    /// It answered, whatever it was.
    reached: AtomicBool,
    /// It took points.
    took: AtomicBool,
}

impl Server {
    /// A server's text without the secrets that it was told.
    fn hidden(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }
}

/// What must not be shown: the secrets of a URL, and all words of an authorization. The longest come first: they may have others in them.
fn secrets(target: &Target, authorization: Option<&str>) -> Vec<String> {
    let mut secrets = target.secrets();
    secrets.extend(authorization.map(String::from));
    secrets.extend(authorization.into_iter().flat_map(str::split_whitespace).skip(1).map(String::from));
    // What is shorter stands in any text.
    secrets.retain(|secret| secret.chars().count() > 3);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Sends buffers, on a thread.
struct Sender {
    server: Arc<Server>,
    gzip: bool,
    packed: Vec<u8>,
    dropped: Dropped,
    /// Of these, so many were found by halving.
    alone: u64,
    chance: RandomState,
}

impl Drain for Sender {
    fn write(&mut self, lines: &[u8]) -> Result<(), String> {
        // The first half of what is halved is sent first: points of a series keep their order.
        let mut parts = vec![lines];
        while let Some(part) = parts.pop() {
            match self.send(part)? {
                Sent::All => {}
                Sent::AllBut(points, why) => self.dropped.add(points, || why),
                Sent::Nothing(why) => match halves(part) {
                    Some((first, second)) => parts.extend([second, first]),
                    None => self.refuse(part, &why)?,
                },
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Dropped, String> {
        match &self.dropped.first {
            Some(why) if !self.server.took.load(Ordering::Relaxed) => Err(self.failed(&format!("it refuses all points: {why}"))),
            _ => Ok(std::mem::take(&mut self.dropped)),
        }
    }
}

/// What came of a buffer that the server has decided on.
enum Sent {
    All,
    AllBut(u64, String),
    Nothing(String),
}

impl Sender {
    fn new(server: &Arc<Server>) -> Sender {
        let server = Arc::clone(server);
        Sender { server, gzip: true, packed: Vec::new(), dropped: Dropped::default(), alone: 0, chance: RandomState::new() }
    }

    /// Sends lines until the server decides.
    fn send(&mut self, lines: &[u8]) -> Result<Sent, String> {
        let mut pauses = Pauses::new(self.server.patience);
        loop {
            let verdict = self.post(lines);
            if matches!(verdict, Verdict::Written | Verdict::Partly(..)) {
                self.server.took.store(true, Ordering::Relaxed);
            }
            match verdict {
                Verdict::Written => return Ok(Sent::All),
                Verdict::Partly(points, why) => return Ok(Sent::AllBut(points, why)),
                Verdict::Split(why) => return Ok(Sent::Nothing(why)),
                Verdict::Plain(_) if self.gzip => self.gzip = false,
                Verdict::Plain(why) | Verdict::Never(why) => return Err(self.failed(&why)),
                Verdict::Again(after, why) => {
                    let reached = self.server.reached.load(Ordering::Relaxed);
                    let chance = self.chance.hash_one(pauses.count);
                    match pauses.next(reached, after, chance) {
                        Some(pause) => std::thread::sleep(pause),
                        None => {
                            return Err(self.failed(&format!(
                                "{why} (tried {} times in {:.1?})",
                                pauses.count + 1,
                                pauses.started.elapsed()
                            )));
                        }
                    }
                }
            }
        }
    }

    /// One request.
    fn post(&mut self, lines: &[u8]) -> Verdict {
        let server = Arc::clone(&self.server);
        let mut request = server.agent.post(server.target.uri()).header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if let Some(value) = &server.authorization {
            request = request.header(AUTHORIZATION_HEADER, value);
        }
        let body = if self.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
            self.pack(lines)
        } else {
            lines
        };
        let mut answer = match request.send(body) {
            Ok(answer) => answer,
            Err(error) => return not_answered(&error),
        };
        server.reached.store(true, Ordering::Relaxed);
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string().unwrap_or_default();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        answer::judge(answer.status().as_u16(), retry_after, &server.hidden(&text))
    }

    fn pack(&mut self, lines: &[u8]) -> &[u8] {
        self.packed.clear();
        let mut encoder = GzEncoder::new(&mut self.packed, Compression::fast());
        // Writing to memory can't fail.
        encoder.write_all(lines).and_then(|()| encoder.finish().map(drop)).ok();
        &self.packed
    }

    /// Counts a point that is refused alone.
    fn refuse(&mut self, line: &[u8], why: &str) -> Result<(), String> {
        self.alone += 1;
        self.dropped.add(1, || {
            let line: String = String::from_utf8_lossy(line).trim_end().chars().take(POINT_CHARS_MAX).collect();
            format!("{why}, of {line:?}")
        });
        let most = if self.server.took.load(Ordering::Relaxed) { ALONE_MAX } else { ALONE_MAX_BEFORE_ANY };
        let first = self.dropped.first.as_deref().unwrap_or_default();
        if self.alone >= most { Err(self.failed(&format!("it refuses too many points, the first with {first}"))) } else { Ok(()) }
    }

    fn failed(&self, why: &str) -> String {
        format!("could not write points to {:?}: {why}", self.server.target.to_string())
    }
}

/// What it means that there is no answer.
fn not_answered(error: &ureq::Error) -> Verdict {
    use ureq::Error as E;
    // The URL may have a password.
    let why = client::no_answer(error).unwrap_or_else(|| shown::text(&error.to_string()).into_owned());
    match error {
        E::Tls(_) | E::Rustls(_) => Verdict::Never(why),
        E::BadUri(_) => Verdict::Never("it is no URL".into()),
        E::Http(_) => Verdict::Never(format!("{AUTHORIZATION} is no value of a header")),
        _ => Verdict::Again(None, why),
    }
}

/// Lines in two halves of whole lines; nothing, where there is but one.
fn halves(lines: &[u8]) -> Option<(&[u8], &[u8])> {
    let middle = lines.len() / 2;
    let (before, behind) = lines.split_at(middle);
    let end = match memchr::memchr(b'\n', behind) {
        Some(end) if middle + end + 1 < lines.len() => middle + end + 1,
        // The last line is longer than all others together.
        _ => memchr::memrchr(b'\n', before)? + 1,
    };
    Some(lines.split_at(end))
}

/// The pauses between tries of a buffer.
struct Pauses {
    patience: Patience,
    started: Instant,
    count: u32,
}

impl Pauses {
    fn new(patience: Patience) -> Pauses {
        Pauses { patience, started: Instant::now(), count: 0 }
    }

    /// The next pause: from half of its length to all of it, by chance. `None`: it is time to give up.
    fn next(&mut self, reached: bool, at_least: Option<Duration>, chance: u64) -> Option<Duration> {
        let Patience { first_limit, limit, pause, pause_max, .. } = self.patience;
        let longest = pause.saturating_mul(1 << self.count.min(20)).min(pause_max);
        self.count += 1;
        let part = 0.5 + 0.5 * (chance >> 11) as f64 / (1_u64 << 53) as f64;
        let pause = longest.mul_f64(part).max(at_least.unwrap_or_default());
        let limit = if reached { limit } else { first_limit };
        (self.started.elapsed() + pause <= limit).then_some(pause)
    }
}

#[cfg(test)]
mod tests;
