//! Workloads of `online` that differ in one thing at a time: how wrong the stream is, how it is spread over devices, users and servers,
//! and in which order it comes.

use crate::Result;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::time::{DAY, Moment, SECOND};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What a workload is like.
#[derive(Clone, Copy, Debug)]
pub struct Variation {
    /// What differs from the ordinary, and how.
    pub name: &'static str,
    /// The share of events whose kind and server are drawn at random; the others go on and off at one server.
    pub mess: f64,
    /// Events of each device.
    pub events_per_device: u64,
    /// Devices of each user.
    pub devices_per_user: u64,
    /// Servers; two of three are destroyed at some time.
    pub servers: u64,
    /// The order of the lines.
    pub order: Order,
}

/// The order of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By time.
    Sorted,
    /// At random.
    Shuffled,
    /// The latest first.
    Reversed,
}

const ORDINARY: Variation =
    Variation { name: "ordinary", mess: 0.03, events_per_device: 100, devices_per_user: 4, servers: 200, order: Order::Sorted };

/// All of them.
pub const VARIATIONS: [Variation; 16] = [
    ORDINARY,
    Variation { name: "mess 0", mess: 0.0, ..ORDINARY },
    Variation { name: "mess 0.3", mess: 0.3, ..ORDINARY },
    Variation { name: "mess 1", mess: 1.0, ..ORDINARY },
    Variation { name: "1 event per device", events_per_device: 1, ..ORDINARY },
    Variation { name: "10 events per device", events_per_device: 10, ..ORDINARY },
    Variation { name: "10000 events per device", events_per_device: 10_000, ..ORDINARY },
    Variation { name: "1000000 events per device", events_per_device: 1_000_000, ..ORDINARY },
    Variation { name: "1 device per user", devices_per_user: 1, ..ORDINARY },
    Variation { name: "1000 devices per user", devices_per_user: 1_000, ..ORDINARY },
    Variation { name: "1 server", servers: 1, ..ORDINARY },
    Variation { name: "2 servers and mess 1", servers: 2, mess: 1.0, ..ORDINARY },
    Variation { name: "10000 servers", servers: 10_000, ..ORDINARY },
    Variation { name: "1000000 servers", servers: 1_000_000, ..ORDINARY },
    Variation { name: "shuffled", order: Order::Shuffled, ..ORDINARY },
    Variation { name: "reversed", order: Order::Reversed, ..ORDINARY },
];

/// The first moment, and how many days there are.
const START: i64 = 19_358 * DAY;
const DAYS: i64 = 1_095;

/// Lines of a workload, without headers.
pub struct Lines {
    /// Of the input `events`.
    pub events: Vec<String>,
    /// Of the same, kept back.
    pub late: Vec<String>,
    /// Of the input `servers`.
    pub servers: Vec<String>,
}

impl Variation {
    /// Draws a workload, always the same.
    pub fn lines(&self, events: u64, late: u64) -> Lines {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let devices = (events / self.events_per_device).max(1);
        let mut drawn: Vec<(i64, u64)> =
            (0..events + late).map(|number| (random.random_range(0..DAYS * 86_400), number % devices)).collect();
        drawn.sort_unstable();
        let mut online = vec![false; usize::try_from(devices).unwrap_or_default()];
        let mut lines: Vec<String> = Vec::with_capacity(drawn.len());
        for (second, device) in drawn {
            let is_mess = random.random_bool(self.mess);
            let mut server = device % self.servers;
            let mut connected = false;
            if let Some(online) = usize::try_from(device).ok().and_then(|device| online.get_mut(device)) {
                *online = if is_mess { random.random_bool(0.5) } else { !*online };
                connected = *online;
            }
            if is_mess {
                server = random.random_range(0..self.servers);
            }
            let mut line = String::with_capacity(60);
            let time = Moment(START + second * SECOND);
            // Writing to a text can't fail.
            let _ = write!(line, "{time},{device},{},{server},{connected}", device / self.devices_per_user);
            lines.push(line);
        }
        let mut held = vec![false; lines.len()];
        for _ in 0..late {
            let place = random.random_range(0..held.len());
            if let Some(held) = held.get_mut(place) {
                *held = true;
            }
        }
        let mut places = held.iter();
        let (mut late, mut events): (Vec<String>, Vec<String>) = lines.into_iter().partition(|_| places.next().is_some_and(|held| *held));
        late.shuffle(&mut random);
        match self.order {
            Order::Sorted => {}
            Order::Shuffled => events.shuffle(&mut random),
            Order::Reversed => events.reverse(),
        }
        let servers = (0..self.servers).map(|id| {
            let destroyed = Moment(START + random.random_range(0..DAYS) * DAY);
            let destroyed = if id % 3 == 0 { String::new() } else { destroyed.to_string() };
            format!("{id},{},{destroyed}", Moment(START - DAY))
        });
        Lines { servers: servers.collect(), events, late }
    }

    /// Servers that live: the row of each, and one that says that it was destroyed in the middle of the time.
    pub fn destroyed(&self, count: usize) -> Vec<(String, String)> {
        let (created, middle) = (Moment(START - DAY), Moment(START + DAYS / 2 * DAY));
        let living = (0..self.servers).filter(|id| id % 3 == 0).take(count);
        living.map(|id| (format!("{id},{created},"), format!("{id},{created},{middle}"))).collect()
    }
}

/// Writes lines below a header.
pub fn write(path: &Path, header: &str, lines: &[String]) -> Result<()> {
    let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum::<usize>() + header.len() + 1);
    for line in std::iter::once(header).chain(lines.iter().map(String::as_str)) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(fs::write(path, text)?)
}
