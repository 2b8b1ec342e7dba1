//! Workloads of `online` that differ in one thing at a time: how wrong the stream is, how it is spread over devices, users and servers,
//! and in which order it comes.

use super::{Drawn, File, Further, Order, START, Shape, held_back};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::time::{DAY, Moment, SECOND};
use std::fmt::Write as _;

/// What a workload is like.
#[derive(Clone, Copy, Debug)]
struct Variation {
    /// What differs from the ordinary, and how.
    name: &'static str,
    /// The share of events whose kind and server are drawn at random; the others go on and off at one server.
    mess: f64,
    /// Events of each device.
    events_per_device: u64,
    /// Devices of each user.
    devices_per_user: u64,
    /// Servers; two of three are destroyed at some time.
    servers: u64,
    /// The order of the lines.
    order: Order,
}

const ORDINARY: Variation =
    Variation { name: "ordinary", mess: 0.03, events_per_device: 100, devices_per_user: 4, servers: 200, order: Order::Sorted };

const VARIATIONS: [Variation; 16] = [
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

/// Over how many days events are spread.
const DAYS: i64 = 1_095;
/// So many servers are destroyed after the load, one by one.
const DESTROYED: usize = 10;

/// All workloads.
pub fn shapes() -> Vec<Shape> {
    VARIATIONS.into_iter().map(|variation| Shape::new(variation.name, move |events, late| variation.draw(events, late))).collect()
}

impl Variation {
    fn draw(&self, events: u64, late: u64) -> Drawn {
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
        let (lines, late) = held_back(lines, late, self.order, &mut random);
        let servers = (0..self.servers).map(|id| {
            let destroyed = Moment(START + random.random_range(0..DAYS) * DAY);
            let destroyed = if id % 3 == 0 { String::new() } else { destroyed.to_string() };
            format!("{id},{},{destroyed}", Moment(START - DAY))
        });
        let servers = servers.collect();
        let files = vec![
            File { input: 0, name: "events.csv", header: Some("timestamp,device_id,user_id,server_id,connected"), lines },
            File { input: 1, name: "servers.csv", header: Some("id,created_at,destroyed_at"), lines: servers },
        ];
        Drawn { files, late, further: self.destroyed() }
    }

    /// Servers that live are destroyed in the middle of the time.
    fn destroyed(&self) -> Vec<Further> {
        let (created, middle) = (Moment(START - DAY), Moment(START + DAYS / 2 * DAY));
        let living = (0..self.servers).filter(|id| id % 3 == 0).take(DESTROYED);
        living.map(|id| vec![(1, -1, format!("{id},{created},")), (1, 1, format!("{id},{created},{middle}"))]).collect()
    }
}
