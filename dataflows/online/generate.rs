//! Realistic, messy input: fleets of very different sizes, devices that come and go, servers that are replaced,
//! and events that are lost, doubled, late or wrong.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::calendar::Day;
use retally_core::contract::{Files, GenerateError, Setting, Settings};
use retally_core::generate::{option, share};
use retally_core::time::{DAY, Moment, SECOND};
use std::io::{self, Write};

/// The first day: 2023-01-01.
const START: Day = Day(19_358);
/// A server lives for some months.
const SERVER_LIFE_DAYS: u64 = 120;

/// The generator's settings.
pub fn settings() -> Vec<Setting> {
    vec![
        option("devices", "N", "1000", "how many devices there are"),
        option("days", "N", "90", "how many days, from 2023-01-01"),
        option("events-per-day", "X", "2", "events per device and day, on average"),
        option("mess", "SHARE", "0.03", "the share of events that are lost, doubled, out of order or wrong; 0 to 1"),
        option("seed", "S", "1", "another seed, other input"),
        option("late", "N", "0", "how many events are kept back, for a late batch in late/events.csv"),
    ]
}

struct Options {
    devices: u64,
    days: u64,
    events_per_day: f64,
    mess: f64,
    seed: u64,
    late: usize,
}

impl Options {
    fn read(settings: &Settings) -> Result<Options, GenerateError> {
        let options = Options {
            devices: settings.parsed("devices")?,
            days: settings.parsed("days")?,
            events_per_day: settings.parsed("events-per-day")?,
            mess: share(settings, "mess")?,
            seed: settings.parsed("seed")?,
            late: settings.parsed("late")?,
        };
        let error = |name, why| Err(GenerateError::from(settings.error(name, why)));
        if !(1..=1 << 32).contains(&options.devices) {
            return error("devices", "is not from 1 to 4294967296");
        }
        if !(1..=36_500).contains(&options.days) {
            return error("days", "is not from 1 to 36500");
        }
        if !(options.events_per_day > 0.0 && options.events_per_day <= 10_000.0) {
            return error("events-per-day", "is not above 0 and at most 10000");
        }
        Ok(options)
    }
}

/// A device as it is, which its events show with holes.
struct Device {
    id: u64,
    user: u64,
    server: u64,
    online: bool,
    /// When something last happened to it.
    last: i64,
}

#[derive(Clone, Copy)]
struct Line {
    /// When it is written: late events come after others.
    written: i64,
    time: i64,
    device: u64,
    user: u64,
    server: u64,
    connected: bool,
}

/// Writes `events.csv` and `servers.csv`, and `late/events.csv` when events are kept back.
pub fn generate(settings: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
    let options = Options::read(settings)?;
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let servers = Servers::new(&options);
    servers.write(&options, files)?;

    let mut devices = devices(&options, &mut random);
    let mut events = files.create("events.csv")?;
    events.write_all(HEADER)?;
    let mut late = Vec::new();
    let total = options.devices as f64 * options.days as f64 * options.events_per_day;
    // Every so many lines one is kept back; a tenth more often, because some events are lost.
    let late_share = (options.late as f64 / total * 1.1).min(0.5);
    let mut late_due = 0.0;
    // The day's events, and those of days before that are written late.
    let mut lines: Vec<Line> = Vec::new();
    let mut due = 0.0;
    for day in 0..options.days {
        let midnight = (i64::from(START.0) + day as i64) * DAY;
        due += options.devices as f64 * options.events_per_day;
        while due >= 1.0 {
            due -= 1.0;
            let place = random.random_range(0..devices.len());
            if let Some(device) = devices.get_mut(place) {
                due -= happen(device, day, midnight, &servers, &options, &mut random, &mut lines);
            }
        }
        lines.sort_unstable_by_key(|line| (line.written, line.device, line.time));
        let now = lines.partition_point(|line| line.written < midnight + DAY);
        for line in lines.drain(..now) {
            late_due += late_share;
            if late.len() < options.late && late_due >= 1.0 {
                late_due -= 1.0;
                late.push(line);
            } else {
                write_line(&mut *events, &line)?;
            }
        }
    }
    lines.iter().try_for_each(|line| write_line(&mut *events, line))?;
    events.flush()?;
    if options.late > 0 {
        let mut file = files.create("late/events.csv")?;
        file.write_all(HEADER)?;
        late.iter().try_for_each(|line| write_line(&mut *file, line))?;
        file.flush()?;
    }
    Ok(())
}

const HEADER: &[u8] = b"timestamp,device_id,user_id,server_id,connected\n";

fn devices(options: &Options, random: &mut ChaCha8Rng) -> Vec<Device> {
    let mut devices = Vec::new();
    let mut user = 0;
    while (devices.len() as u64) < options.devices {
        // Most users have one or two devices, a few have hundreds: a power law.
        let share: f64 = random.random_range(0.0005..1.0);
        // From 1 to some 900: nothing is cut off that matters.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let fleet = (share.powf(-0.9) as u64).clamp(1, 2_000);
        user += random.random_range(1..4);
        for _ in 0..fleet.min(options.devices - devices.len() as u64) {
            devices.push(Device { id: 100_000 + devices.len() as u64, user, server: 0, online: false, last: 0 });
        }
    }
    devices
}

/// Servers are replaced one after the other: server `n` of a slot lives from one replacement to the next.
struct Servers {
    slots: u64,
    days: u64,
}

impl Servers {
    fn new(options: &Options) -> Servers {
        Servers { slots: (options.devices / 500).clamp(2, 10_000), days: options.days }
    }

    /// The server that a slot has on a day.
    fn at(&self, slot: u64, day: u64) -> u64 {
        slot + self.slots * ((day + self.phase(slot)) / SERVER_LIFE_DAYS)
    }

    /// Slots are not replaced on the same day.
    fn phase(&self, slot: u64) -> u64 {
        slot * 37 % SERVER_LIFE_DAYS
    }

    fn write(&self, options: &Options, files: &mut dyn Files) -> io::Result<()> {
        let mut file = files.create("servers.csv")?;
        file.write_all(b"id,created_at,destroyed_at\n")?;
        let moment = |day: i64, second: u64| Moment((i64::from(START.0) + day) * DAY + second as i64 * SECOND);
        for slot in 0..self.slots {
            let replacement = slot * 7919 % 86_400;
            let lives = (self.days + self.phase(slot)) / SERVER_LIFE_DAYS;
            for life in 0..=lives {
                let id = slot + self.slots * life;
                let from = (life * SERVER_LIFE_DAYS) as i64 - self.phase(slot) as i64;
                let destroyed = if life == lives { String::new() } else { moment(from + SERVER_LIFE_DAYS as i64, replacement).to_string() };
                // Some servers are missing from the list.
                if options.mess == 0.0 || id % 97 != 96 {
                    writeln!(file, "{id},{},{destroyed}", moment(from, replacement))?;
                }
            }
        }
        file.flush()
    }
}

/// A device goes online or offline. Returns how many lines more than one that made.
fn happen(
    device: &mut Device,
    day: u64,
    midnight: i64,
    servers: &Servers,
    options: &Options,
    random: &mut ChaCha8Rng,
    lines: &mut Vec<Line>,
) -> f64 {
    device.online = !device.online;
    if device.online {
        device.server = servers.at(random.random_range(0..servers.slots), day);
    }
    // More happens in the afternoon than at night.
    let second = (random.random_range(0..86_400u64) + random.random_range(0..86_400u64)) / 2;
    let drawn = midnight + second as i64 * SECOND + random.random_range(0..1_000) * 1_000;
    // One thing after the other, and not more of them than fit into the day.
    #[allow(clippy::cast_possible_truncation)]
    let pause_ms = (43_200_000.0 / options.events_per_day).clamp(2.0, 3_600_000.0) as i64;
    let time = if drawn > device.last { drawn } else { device.last + random.random_range(1..pause_ms) * 1_000 };
    device.last = time;
    let mut line = Line { written: time, time, device: device.id, user: device.user, server: device.server, connected: device.online };
    if random.random_bool(options.mess) {
        match random.random_range(0..6u32) {
            // Lost; the device's next event shows the hole.
            0 | 1 => return -1.0,
            // Doubled.
            2 => {
                lines.push(line);
                lines.push(line);
                return 1.0;
            }
            // Hours or days late.
            3 => line.written += (random.next_u64() % (10 * DAY as u64)) as i64,
            // Another server's offline.
            4 => line.server = servers.at(random.random_range(0..servers.slots), day),
            // The device has another owner from now on.
            _ => {
                device.user += 1;
                line.user = device.user;
            }
        }
    }
    lines.push(line);
    0.0
}

fn write_line(file: &mut dyn Write, line: &Line) -> io::Result<()> {
    let Line { device, user, server, .. } = line;
    let connected = if line.connected { "true" } else { "false" };
    writeln!(file, "{},{device},{user},{server},{connected}", Moment(line.time))
}
