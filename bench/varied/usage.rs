//! Workloads of `usage`: how many sessions and assignments a device has, how many logs say what they are, and how many schools there are.

use super::{Drawn, File, Order, START, Shape, held_back};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::time::{DAY, HOUR, Moment, SECOND};
use uuid::Uuid;

/// What a workload is like.
#[derive(Clone, Copy, Debug)]
struct Variation {
    name: &'static str,
    sessions_per_device: u64,
    assignments_per_device: u64,
    /// The share of devices that never say that they are one.
    untyped: f64,
    schools: u64,
    order: Order,
}

const ORDINARY: Variation =
    Variation { name: "ordinary", sessions_per_device: 50, assignments_per_device: 2, untyped: 0.03, schools: 100, order: Order::Sorted };

const VARIATIONS: [Variation; 13] = [
    ORDINARY,
    Variation { name: "1 session per device", sessions_per_device: 1, ..ORDINARY },
    Variation { name: "10 sessions per device", sessions_per_device: 10, ..ORDINARY },
    Variation { name: "10000 sessions per device", sessions_per_device: 10_000, ..ORDINARY },
    Variation { name: "1000000 sessions per device", sessions_per_device: 1_000_000, ..ORDINARY },
    Variation { name: "20 assignments per device", assignments_per_device: 20, ..ORDINARY },
    Variation { name: "1000 assignments per device", assignments_per_device: 1_000, ..ORDINARY },
    Variation { name: "no log without type", untyped: 0.0, ..ORDINARY },
    Variation { name: "all logs without type", untyped: 1.0, ..ORDINARY },
    Variation { name: "1 school", schools: 1, ..ORDINARY },
    Variation { name: "10000 schools", schools: 10_000, ..ORDINARY },
    Variation { name: "shuffled", order: Order::Shuffled, ..ORDINARY },
    Variation { name: "reversed", order: Order::Reversed, ..ORDINARY },
];

/// Over how many days sessions are spread: a device has a row for each day.
const DAYS: i64 = 30;

/// All workloads.
pub fn shapes() -> Vec<Shape> {
    VARIATIONS.into_iter().map(|variation| Shape::new(variation.name, move |events, late| variation.draw(events, late))).collect()
}

/// An id that looks drawn.
fn id(kind: u64, number: u64) -> Uuid {
    Uuid::from_u64_pair(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ kind, number)
}

const SCHOOL: u64 = 1;
const DEVICE: u64 = 2;
const SESSION: u64 = 3;

fn line(time: i64, log: Uuid, kind: &str, more: &str) -> (i64, String) {
    (time, format!("{{\"time\":\"{}\",\"logId\":\"{log}\",\"type\":\"{kind}\",{more}}}", Moment(time)))
}

impl Variation {
    fn draw(&self, events: u64, late: u64) -> Drawn {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let per_device = 2 * self.sessions_per_device + self.assignments_per_device + 1;
        let devices = ((events + late).saturating_sub(2 * self.schools) / per_device).max(1);
        let before = START - DAY;
        let mut lines: Vec<(i64, String)> = Vec::new();
        for school in 0..self.schools {
            lines.push(line(before, id(SCHOOL, school), "SetLogType", "\"logType\":\"School\""));
            lines.push(line(before, id(SCHOOL, school), "SetName", &format!("\"name\":\"school {school}\"")));
        }
        let sessions_max = (events + late) / 2;
        let mut session = 0;
        for device in 0..devices {
            let log = id(DEVICE, device);
            if !random.random_bool(self.untyped) {
                lines.push(line(before, log, "SetLogType", "\"logType\":\"Device\""));
            }
            for number in 0..self.assignments_per_device {
                let time = if number == 0 { before } else { START + random.random_range(0..DAYS * DAY) / SECOND * SECOND };
                let school = id(SCHOOL, random.random_range(0..self.schools));
                lines.push(line(time, log, "AssignToSchool", &format!("\"schoolId\":\"{school}\"")));
            }
            for _ in 0..self.sessions_per_device.min(sessions_max) {
                session += 1;
                let start = START + random.random_range(0..DAYS * DAY) / SECOND * SECOND;
                let end = start + random.random_range(SECOND..2 * HOUR) / SECOND * SECOND;
                let of = format!("\"sessionId\":\"{}\"", id(SESSION, session));
                lines.extend([line(start, log, "StartSession", &of), line(end, log, "EndSession", &of)]);
            }
        }
        lines.sort_unstable();
        let lines = lines.into_iter().map(|(_, line)| line).collect();
        let (lines, late) = held_back(lines, late, self.order, &mut random);
        Drawn { files: vec![File { input: 0, name: "events.jsonl", header: None, lines }], late, further: Vec::new() }
    }
}
