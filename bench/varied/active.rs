//! Workloads of `active`: how many events a user has in a day, how many users there are, and what of the events counts.

use super::{Drawn, File, Order, START, Shape, held_back};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::time::{DAY, SECOND};

/// What a workload is like.
#[derive(Clone, Copy, Debug)]
struct Variation {
    name: &'static str,
    events_per_user_and_day: u64,
    days: u64,
    /// The share of events that don't count: of other names, or too short.
    mess: f64,
    order: Order,
}

const ORDINARY: Variation = Variation { name: "ordinary", events_per_user_and_day: 10, days: 100, mess: 0.3, order: Order::Sorted };

const VARIATIONS: [Variation; 10] = [
    ORDINARY,
    Variation { name: "1 event per user and day", events_per_user_and_day: 1, ..ORDINARY },
    Variation { name: "100 events per user and day", events_per_user_and_day: 100, ..ORDINARY },
    Variation { name: "10000 events per user and day", events_per_user_and_day: 10_000, ..ORDINARY },
    Variation { name: "1 day", days: 1, ..ORDINARY },
    Variation { name: "1000 days", days: 1_000, ..ORDINARY },
    Variation { name: "all events count", mess: 0.0, ..ORDINARY },
    Variation { name: "no event counts", mess: 1.0, ..ORDINARY },
    Variation { name: "shuffled", order: Order::Shuffled, ..ORDINARY },
    Variation { name: "reversed", order: Order::Reversed, ..ORDINARY },
];

/// All workloads.
pub fn shapes() -> Vec<Shape> {
    VARIATIONS.into_iter().map(|variation| Shape::new(variation.name, move |events, late| variation.draw(events, late))).collect()
}

impl Variation {
    fn draw(&self, events: u64, late: u64) -> Drawn {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let all = events + late;
        let users = (all / (self.events_per_user_and_day * self.days)).max(1);
        let seconds = i64::try_from(self.days).unwrap_or(i64::MAX).saturating_mul(DAY / SECOND);
        let mut drawn: Vec<(i64, u64)> = (0..all).map(|number| (random.random_range(0..seconds), number % users)).collect();
        drawn.sort_unstable();
        let mut line = |(second, user): (i64, u64)| {
            let micros = START + second * SECOND;
            let is_mess = random.random_bool(self.mess);
            let name = if is_mess && random.random_bool(0.5) { "screen_view" } else { "user_engagement" };
            let engagement = if is_mess { 400 } else { random.random_range(1_000..60_000) };
            format!(
                "{{\"event_name\":\"{name}\",\"event_timestamp\":\"{micros}\",\"user_pseudo_id\":\"{user:032x}\",\"event_params\":[\
                 {{\"key\":\"engagement_time_msec\",\"value\":{{\"int_value\":\"{engagement}\"}}}},{{\"key\":\"app_event\",\"value\":{{\"int_value\":\"1\"}}}}],\
                 \"device\":{{\"time_zone_offset_seconds\":3600}}}}"
            )
        };
        let lines = drawn.into_iter().map(&mut line).collect();
        let (lines, late) = held_back(lines, late, self.order, &mut random);
        Drawn { files: vec![File { input: 0, name: "events.jsonl", header: None, lines }], late, further: Vec::new() }
    }
}
