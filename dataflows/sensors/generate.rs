//! Realistic, messy, labelled input: sensors of the kinds that there are, with what goes wrong with sensors.
//!
//! Written are `mapping.csv`, `data.csv`, and `labels.csv`: what was done to which sensor when, for those who score detections. Each sensor
//! has a shape (constant, line, kink, parabola, sine, sine with trend, weekly) with noise about it, and most have faults: a jump of the
//! level, spikes, a burst, a flat line, a gap. With `mess`, lines are doubled, out of order, broken, or corrected by another value.

use crate::records::Sensor;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally_core::contract::{Files, GenerateError, Setting, Settings};
use retally_core::generate::{option, share};
use retally_core::time::{DAY, HOUR, Moment, SECOND};
use std::io::{self, Write};

/// 2024-03-01T00:00:00Z, a Friday; the clocks of Europe change on the 31st.
const START: Moment = Moment(1_709_251_200 * SECOND);

/// The generator's settings.
pub fn settings() -> Vec<Setting> {
    vec![
        option("sensors", "N", "100", "how many sensors there are"),
        option("days", "N", "42", "how many days, from 2024-03-01"),
        option("interval", "SECONDS", "300", "the time between a sensor's measurements"),
        option("mess", "SHARE", "0.003", "the share of lines that are doubled, late, broken or in conflict; 0 to 1"),
        option("seed", "S", "1", "another seed, other input"),
        option("late", "N", "0", "how many measurements are kept back, for a late batch in late/data.csv"),
    ]
}

/// What the values of a sensor do, without faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The same, with noise.
    Constant,
    /// It rises or falls.
    Line,
    /// It rises, and from the middle on it falls.
    Kink,
    /// A parabola.
    Parabola,
    /// A day is like the day before.
    Sine,
    /// The same, and it rises.
    SineTrend,
    /// Weekends are other than weekdays.
    Weekly,
}

/// All shapes.
pub const SHAPES: [Shape; 7] = [Shape::Constant, Shape::Line, Shape::Kink, Shape::Parabola, Shape::Sine, Shape::SineTrend, Shape::Weekly];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// From then on the level is another one.
    Jump,
    /// One measurement is far off.
    Spike,
    /// Some hours are off.
    Burst,
    /// The same value for hours.
    Flat,
    /// Nothing for hours.
    Gap,
}

impl Fault {
    /// As in `labels.csv`.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Jump => "jump",
            Fault::Spike => "spike",
            Fault::Burst => "burst",
            Fault::Flat => "flat",
            Fault::Gap => "gap",
        }
    }
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// What.
    pub fault: Fault,
    /// From when.
    pub start: Moment,
    /// Until when. (Of a jump: the day after it.)
    pub end: Moment,
    /// How far off values are, in standard deviations of the noise.
    size: f64,
}

/// A sensor that is made up.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its UUID.
    pub sensor: Sensor,
    /// Its name.
    pub name: String,
    /// What it does.
    pub shape: Shape,
    /// What goes wrong with it, in order.
    pub labels: Vec<Label>,
    noise: f64,
    level: f64,
    /// How much the shape moves, in standard deviations of the noise.
    swing: f64,
    span: f64,
}

/// The sensor with this number.
pub fn made(number: u64, days: u64, random: &mut ChaCha8Rng) -> Made {
    let sensor = Sensor(u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()));
    let shape = SHAPES.get(usize::try_from(number).unwrap_or(0) % SHAPES.len()).copied().unwrap_or(Shape::Constant);
    let noise = 10f64.powf(random.random_range(-2.0..2.0));
    let swing = random.random_range(8.0..40.0);
    let level = noise * random.random_range(20.0..200.0);
    let span = (days as i64 * DAY) as f64;
    let mut labels = Vec::new();
    // A fault every ten days or so, and a week to learn before the first.
    let mut day = 9.0 + random.random_range(0.0..4.0);
    while day + 3.0 < days as f64 {
        let (fault, hours, size) = match random.random_range(0..6u32) {
            0 => (Fault::Jump, 24.0, random.random_range(15.0..40.0)),
            1 | 2 => (Fault::Spike, 0.0, random.random_range(12.0..40.0)),
            3 => (Fault::Burst, random.random_range(2.0..8.0), random.random_range(12.0..30.0)),
            4 => (Fault::Flat, random.random_range(3.0..12.0), 0.0),
            _ => (Fault::Gap, random.random_range(3.0..12.0), 0.0),
        };
        let sign = if random.random_bool(0.5) { 1.0 } else { -1.0 };
        #[allow(clippy::cast_possible_truncation)]
        let (from, hours) = ((day * 288.0) as i64 * 300 * SECOND, (hours * HOUR as f64) as i64);
        labels.push(Label { fault, start: START.plus(from), end: START.plus(from + hours), size: sign * size });
        day += random.random_range(7.0..14.0);
    }
    Made { sensor, name: format!("sensor_{number:05}"), shape, labels, noise, level, swing, span }
}

impl Made {
    /// What it shows at a time; `None` in a gap. `held` is what it showed when a flat line began.
    fn value(&self, time: Moment, held: &mut Option<f64>, random: &mut ChaCha8Rng) -> Option<f64> {
        let noise = normal(random);
        let share = (time.0 - START.0) as f64 / self.span;
        let hours = (time.0 - START.0) as f64 / HOUR as f64;
        let daily = (hours / 24.0 * std::f64::consts::TAU).sin();
        let shape = match self.shape {
            Shape::Constant => 0.0,
            Shape::Line => share,
            Shape::Kink => 0.5 - (share - 0.5).abs(),
            Shape::Parabola => 4.0 * (share - 0.5) * (share - 0.5),
            Shape::Sine => daily,
            Shape::SineTrend => daily + share,
            // The first day is a Friday.
            Shape::Weekly => daily * if (((hours / 24.0).floor() + 4.0) % 7.0) < 5.0 { 1.0 } else { 0.3 },
        };
        let mut value = self.level + self.noise * (noise + self.swing * shape);
        let mut flat = false;
        for label in &self.labels {
            let inside = label.start <= time && time <= label.end;
            match label.fault {
                Fault::Jump if time >= label.start => value += label.size * self.noise,
                Fault::Spike if time == label.start => value += label.size * self.noise,
                Fault::Burst if inside => value += label.size * self.noise,
                Fault::Flat if inside => flat = true,
                Fault::Gap if inside => return None,
                _ => {}
            }
        }
        if !flat {
            *held = None;
            return Some(value);
        }
        Some(*held.get_or_insert(value))
    }

    /// Its measurements at every `interval` over `days`, in order.
    pub fn measurements(&self, days: u64, interval: i64, random: &mut ChaCha8Rng) -> Vec<(Moment, f64)> {
        let mut held = None;
        let count = days as i64 * DAY / interval;
        let times = (0..count).map(|n| START.plus(n * interval));
        times.filter_map(|time| Some((time, self.value(time, &mut held, random)?))).collect()
    }
}

/// About normal: the sum of twelve uniform numbers.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| random.random_range(0.0..1.0)).sum::<f64>() - 6.0
}

/// Writes `mapping.csv`, `data.csv` and `labels.csv`, and `late/data.csv` when measurements are kept back.
pub fn generate(settings: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
    let (sensors, days, interval): (u64, u64, i64) = (settings.parsed("sensors")?, settings.parsed("days")?, settings.parsed("interval")?);
    let (mess, seed, late): (f64, u64, u64) = (share(settings, "mess")?, settings.parsed("seed")?, settings.parsed("late")?);
    let refuse = |name, why| Err(GenerateError::from(settings.error(name, why)));
    if !(1..=1_000_000).contains(&sensors) {
        return refuse("sensors", "is not from 1 to 1000000");
    }
    if !(1..=3_650).contains(&days) {
        return refuse("days", "is not from 1 to 3650");
    }
    if !(1..=86_400).contains(&interval) {
        return refuse("interval", "is not from 1 to 86400");
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut mapping = files.create("mapping.csv")?;
    let mut data = files.create("data.csv")?;
    let mut labels = files.create("labels.csv")?;
    writeln!(mapping, "sensor_name,sensor_uuid")?;
    writeln!(data, "{HEADER}")?;
    writeln!(labels, "sensor_name,sensor_uuid,shape,fault,start_time,end_time")?;
    let total = sensors * days * 86_400 / interval.unsigned_abs();
    let late_every = total.checked_div(late).map_or(u64::MAX, |every| every.max(1));
    let (mut kept_back, mut written) = (Vec::new(), 0u64);
    for number in 0..sensors {
        let made = made(number, days, &mut random);
        // Some sensors are missing from the mapping, as people forget them.
        if mess == 0.0 || number % 50 != 49 {
            writeln!(mapping, "{},{}", made.name, made.sensor)?;
        }
        for label in &made.labels {
            let shape = format!("{:?}", made.shape).to_lowercase();
            writeln!(labels, "{},{},{shape},{},{},{}", made.name, made.sensor, label.fault.name(), label.start, label.end)?;
        }
        let mut behind: Option<(Moment, f64)> = None;
        for (time, value) in made.measurements(days, interval * SECOND, &mut random) {
            written += 1;
            if written.is_multiple_of(late_every) && (kept_back.len() as u64) < late {
                kept_back.push((time, made.sensor, value));
                continue;
            }
            if mess > 0.0 && random.random_bool(mess) {
                match random.random_range(0..4u32) {
                    0 => line(&mut *data, time, made.sensor, value)?,
                    1 => writeln!(data, "{time},{},{}", made.sensor, if written.is_multiple_of(2) { "NaN" } else { "error" })?,
                    2 => line(&mut *data, time, made.sensor, value + made.noise)?,
                    _ => {
                        // Written some lines later.
                        if let Some((time, value)) = behind.replace((time, value)) {
                            line(&mut *data, time, made.sensor, value)?;
                        }
                        continue;
                    }
                }
            }
            line(&mut *data, time, made.sensor, value)?;
        }
        if let Some((time, value)) = behind {
            line(&mut *data, time, made.sensor, value)?;
        }
    }
    for file in [&mut mapping, &mut data, &mut labels] {
        file.flush()?;
    }
    if late > 0 {
        let mut file = files.create("late/data.csv")?;
        writeln!(file, "{HEADER}")?;
        kept_back.iter().try_for_each(|(time, sensor, value)| line(&mut *file, *time, *sensor, *value))?;
        file.flush()?;
    }
    Ok(())
}

const HEADER: &str = "timestamp,sensor_uuid,sensor_value";

fn line(file: &mut dyn Write, time: Moment, sensor: Sensor, value: f64) -> io::Result<()> {
    // Six digits, as sensors send them.
    writeln!(file, "{time},{sensor},{}", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use crate::Sensors;
    use crate::records::Measurement;
    use retally_core::calendar::Calendar;
    use retally_core::record::{Context, Fields, Record};
    use retally_core::testing::generated::{generated, refused};
    use std::collections::BTreeSet;

    /// What can be read, and how many lines can't.
    fn read(text: &str) -> (Vec<Measurement>, usize) {
        let context = Context::new(Calendar::utc(), Measurement::FIELDS);
        let decode = |line: &str| {
            let slots: Vec<&[u8]> = line.split(',').map(str::as_bytes).collect();
            Measurement::decode(Fields::new(Measurement::FIELDS, &slots), &context).ok()
        };
        let lines: Vec<Option<Measurement>> = text.lines().skip(1).map(decode).collect();
        let read: Vec<Measurement> = lines.iter().copied().flatten().collect();
        let refused = lines.len() - read.len();
        (read, refused)
    }

    #[test]
    fn without_mess_all_lines_are_measurements_in_order() {
        let files = generated(&Sensors, &[("mess", "0"), ("sensors", "3"), ("days", "2"), ("late", "7")]);
        let (data, refused) = read(&files["data.csv"]);
        assert_eq!((data.len(), refused, read(&files["late/data.csv"]).0.len()), (3 * 576 - 7, 0, 7));
        for sensor in data.chunk_by(|a, b| a.sensor == b.sensor) {
            assert!(sensor.is_sorted());
        }
        assert_eq!(files["mapping.csv"].lines().count(), 4);
    }

    #[test]
    fn with_mess_there_is_some_of_everything() {
        let files = generated(&Sensors, &[("mess", "0.1"), ("sensors", "60"), ("days", "30"), ("interval", "3600")]);
        let (data, refused) = read(&files["data.csv"]);
        let set: BTreeSet<_> = data.iter().collect();
        assert!(refused > 100 && data.len() - set.len() > 100, "{refused} {}", set.len());
        assert!(data.windows(2).any(|pair| pair[0].sensor == pair[1].sensor && pair[0] > pair[1]), "some are late");
        assert!(files["mapping.csv"].lines().count() < 61, "some sensors have no name");
        for fault in ["jump", "spike", "burst", "flat", "gap"] {
            assert!(files["labels.csv"].contains(&format!(",{fault},")), "no {fault}");
        }
    }

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let options = [("sensors", "5"), ("days", "3")];
        assert_eq!(generated(&Sensors, &options), generated(&Sensors, &options));
        assert_ne!(generated(&Sensors, &options), generated(&Sensors, &[options.as_slice(), &[("seed", "2")]].concat()));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (name, value) in [("sensors", "0"), ("days", "x"), ("interval", "0"), ("mess", "NaN"), ("mess", "2")] {
            let error = refused(&Sensors, &[(name, value)]);
            assert!(error.contains(&format!("--{name}")), "{error}");
        }
    }
}
