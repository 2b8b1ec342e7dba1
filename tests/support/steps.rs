//! Clients that feed known records through all that befalls a service: each batch under a key, again and again until it is answered.

use super::known::{EVENTS, Known, rows, shuffled, table};
use super::service::Asker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A batch, under a key of its own.
struct Step {
    key: String,
    retract: bool,
    body: String,
}

/// Sends a step to a dataflow, again and again until it is answered.
fn send(asker: &Asker, (dataflow, kind): (&str, &str), round: u64, Step { key, retract, body }: &Step) {
    let (path, key) = (format!("/v1/{dataflow}/events?retract={retract}"), format!("{round} {key}"));
    loop {
        match asker.try_post(&path, &[("content-type", kind), ("idempotency-key", &key)], body.as_bytes()) {
            Some(answer) if answer.status == 200 => return,
            Some(answer) => assert!(matches!(answer.status, 409 | 503), "{} {}", answer.status, answer.text),
            None => {}
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Clients that send all events of a dataflow, and go on until they are told that all is over.
pub struct Clients {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Clients {
    /// Starts so many, each of which waits for some time between two batches.
    pub fn start(asker: &Asker, known: &Known, count: usize, pause: Duration) -> Clients {
        let is_csv = !known.servers.is_empty();
        let target = (known.dataflow(), if is_csv { "text/csv" } else { "application/x-ndjson" });
        let body = |lines: &[String]| if is_csv { table(&EVENTS, lines) } else { rows(lines) };
        let steps: Vec<Step> = shuffled(&known.lines)
            .chunks(25)
            .enumerate()
            .flat_map(|(number, lines)| {
                let step = |name: &str, retract| Step { key: format!("{number} {name}"), retract, body: body(lines) };
                // Delivered, taken back, and delivered again: each counts once, or records are missing or too many.
                if number % 2 == 0 {
                    vec![step("once", false)]
                } else {
                    vec![step("first", false), step("back", true), step("again", false)]
                }
            })
            .collect();
        let (steps, is_over) = (Arc::new(steps), Arc::new(AtomicBool::new(false)));
        let threads = (0..count)
            .map(|client| {
                let (asker, steps, is_over) = (asker.clone(), Arc::clone(&steps), Arc::clone(&is_over));
                std::thread::spawn(move || {
                    let mut sent = 0;
                    // All of it once, and again as long as services are killed: what is there already stays the same.
                    for round in 0.. {
                        // What belongs together is of one client.
                        let own = |step: &&Step| step.key.split(' ').next().unwrap().parse::<usize>().unwrap() % count == client;
                        for step in steps.iter().filter(own) {
                            // Not within what belongs together.
                            if round > 0 && is_over.load(Ordering::Relaxed) && step.key.ends_with(['e', 't']) {
                                return sent;
                            }
                            send(&asker, target, round, step);
                            sent += 1;
                            // So that there is something to be killed in.
                            std::thread::sleep(pause);
                        }
                    }
                    sent
                })
            })
            .collect();
        Clients { is_over, threads }
    }

    /// Waits until all has been sent once at least. Returns how many batches were answered.
    pub fn finish(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|client| client.join().unwrap()).sum()
    }
}

/// Each batch of a dataflow came in once.
#[track_caller]
pub fn each_came_once(asker: &Asker, dataflow: &str, sent: usize) {
    let batches = asker.get(&format!("/v1/{dataflow}/batches?limit=10000000")).ok().json();
    let keys = batches["batches"].as_array().unwrap().iter().filter(|batch| batch["key"].is_string()).count();
    assert_eq!(keys, sent, "each key of {dataflow} came in once");
}
