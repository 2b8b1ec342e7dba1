//! Realistic, messy input of any size: datasets of toothbrushes, as they come from the devices.
//!
//! A tick every 40 ms or so; a tooth is brushed for some seconds, and gets cleaner. Now and then the device reports what time it is and how
//! full its battery is. With mess, ticks get lost, alone or for a while, and lines are doubled, late or broken. Under the same options
//! every byte is the same. Datasets that come late are there twice: broken off in the middle, as an upload that failed, and whole in the
//! folder `late`.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use retally_core::contract::{Files, GenerateError, Setting, SettingError, Settings};
use retally_core::generate::share;
use std::io::{self, Write};

/// Monday, 2024-01-01.
const START_SECONDS: u64 = 1_704_067_200;
/// Toothbrushes are used every 12 hours.
const EVERY_SECONDS: u64 = 12 * 3_600;
/// A settings line every so many ticks, about.
const SETTINGS_EVERY_TICKS: u64 = 1_500;
/// Bytes of a brushing line, about.
const LINE_BYTES: u64 = 15;
/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// The options of the generator.
pub fn settings() -> Vec<Setting> {
    let setting = |name, value, default, about| Setting { name, value, default, about };
    vec![
        setting("toothbrushes", "N", Some("5"), "how many toothbrushes"),
        setting("datasets", "N", Some("14"), "how many datasets of each, two a day from 2024-01-01 on"),
        setting("minutes", "X", Some("2.5"), "how long a dataset is, about"),
        setting("bytes", "N", None, "how large a brushing.csv is, about; instead of --minutes"),
        setting("mess", "SHARE", Some("0.03"), "the share of ticks that are lost, and of lines that are doubled, late or broken"),
        setting("seed", "N", Some("1"), "the start of all chance"),
        setting("late", "N", Some("0"), "how many datasets break off in the middle, and come whole in the folder late"),
    ]
}

struct Options {
    toothbrushes: u64,
    datasets: u64,
    minutes: f64,
    bytes: Option<u64>,
    mess: f64,
    seed: u64,
    late: u64,
}

impl Options {
    fn read(settings: &Settings) -> Result<Options, SettingError> {
        let options = Options {
            toothbrushes: settings.parsed("toothbrushes")?,
            datasets: settings.parsed("datasets")?,
            minutes: settings.parsed("minutes")?,
            bytes: Some(settings.text("bytes")).filter(|text| !text.is_empty()).map(|_| settings.parsed("bytes")).transpose()?,
            mess: share(settings, "mess")?,
            seed: settings.parsed("seed")?,
            late: settings.parsed("late")?,
        };
        for (name, number) in [("toothbrushes", options.toothbrushes), ("datasets", options.datasets)] {
            if number == 0 {
                return Err(settings.error(name, format!("is no number of {name}: there must be one at least")));
            }
        }
        if !(0.0..=1e7).contains(&options.minutes) {
            return Err(settings.error("minutes", "is no number of minutes from 0 to 10,000,000"));
        }
        if options.datasets > 100_000 {
            return Err(settings.error("datasets", "is more than 100,000: years end at 2200"));
        }
        let all = options.toothbrushes.saturating_mul(options.datasets);
        if options.late > all {
            return Err(settings.error("late", format!("is more than the {all} datasets that there are")));
        }
        Ok(options)
    }

    /// Whether a dataset comes late: the last one of each toothbrush first, then the ones before.
    fn is_late(&self, toothbrush: u64, dataset: u64) -> bool {
        (self.datasets - 1 - dataset).saturating_mul(self.toothbrushes).saturating_add(toothbrush) < self.late
    }
}

/// Writes the input.
pub fn generate(settings: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
    let options = Options::read(settings)?;
    for toothbrush in 0..options.toothbrushes {
        for dataset in 0..options.datasets {
            let number = toothbrush.wrapping_mul(1_000_003).wrapping_add(dataset);
            let mut writer = Dataset {
                random: ChaCha8Rng::seed_from_u64(options.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                mess: options.mess,
                lines: Vec::with_capacity(BUFFER_BYTES + 1_024),
            };
            let folder = format!("brush-{toothbrush:04}/set-{dataset:05}");
            let start = START_SECONDS + dataset * EVERY_SECONDS + toothbrush % 600;
            let (interval_millis, ticks) = writer.size(&options);
            let late = options.is_late(toothbrush, dataset);
            let mut create = |name: &str, half: u64| -> io::Result<Box<dyn Write>> {
                let path = format!("{folder}/{name}");
                let file = files.create(&path)?;
                if !late {
                    return Ok(file);
                }
                Ok(Box::new(BrokenOff { whole: files.create(&format!("late/{path}"))?, broken_off: file, lines_left: half }))
            };
            writer.brushing(&mut *create("brushing.csv", ticks / 2)?, ticks)?;
            let half = (ticks / SETTINGS_EVERY_TICKS / 2).max(1);
            writer.settings(&mut *create("settings.jsonlines", half)?, start, interval_millis, ticks)?;
        }
    }
    Ok(())
}

/// A stream that is written twice: whole, and as far as it came before it broke off.
struct BrokenOff {
    whole: Box<dyn Write>,
    broken_off: Box<dyn Write>,
    /// How many lines there are until it breaks off.
    lines_left: u64,
}

impl Write for BrokenOff {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_all(lines)?;
        Ok(lines.len())
    }

    /// Takes whole lines.
    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.lines_left == 0 {
                break;
            }
            self.lines_left -= 1;
            self.broken_off.write_all(line)?;
        }
        self.whole.write_all(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.broken_off.flush()?;
        self.whole.flush()
    }
}

struct Dataset {
    random: ChaCha8Rng,
    mess: f64,
    lines: Vec<u8>,
}

impl Dataset {
    /// The tick interval, and how many ticks there are.
    fn size(&mut self, options: &Options) -> (u64, u64) {
        let interval_millis = self.random.random_range(35..=45);
        let minutes = options.minutes * self.random.random_range(0.7..1.3);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some millions of minutes")]
        let ticks = (minutes * 60_000.0) as u64 / interval_millis;
        (interval_millis, options.bytes.map_or(ticks, |bytes| bytes / LINE_BYTES))
    }

    fn is_messy(&mut self) -> bool {
        self.mess > 0.0 && self.random.random_bool(self.mess)
    }

    fn flush(&mut self, file: &mut dyn Write, bytes_max: usize) -> io::Result<()> {
        if self.lines.len() > bytes_max {
            file.write_all(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }

    fn brushing(&mut self, file: &mut dyn Write, ticks: u64) -> io::Result<()> {
        if self.random.random_bool(0.5) {
            self.lines.extend_from_slice(b"tick,tooth,percent_clean\n");
        }
        let (mut tick, mut tooth, mut tooth_until, mut permille) = (0, 0, 0, 0);
        while tick < ticks {
            if tick >= tooth_until {
                tooth = self.random.random_range(0..32);
                tooth_until = tick + self.random.random_range(50..200);
                permille = self.random.random_range(0..300);
            }
            permille = (permille + u64::from(tick % 7 == 0)).min(1_000);
            if !self.is_messy() {
                self.tick(tick, tooth, permille);
            } else {
                match self.random.random_range(0..10) {
                    // Lost: a tick, or some seconds.
                    0..6 => {}
                    6 => tick += self.random.random_range(1..100),
                    7 => {
                        self.tick(tick, tooth, permille);
                        self.tick(tick, tooth, permille);
                    }
                    8 => {
                        let late = self.random.random_range(1..50);
                        self.tick(tick.saturating_sub(late), tooth, permille);
                    }
                    _ => self.broken_tick(tick),
                }
            }
            tick += 1;
            self.flush(file, BUFFER_BYTES)?;
        }
        self.flush(file, 0)?;
        file.flush()
    }

    fn tick(&mut self, tick: u64, tooth: u64, permille: u64) {
        push_number(&mut self.lines, tick);
        self.lines.push(b',');
        push_number(&mut self.lines, tooth);
        self.lines.extend_from_slice(if permille >= 1_000 { b",1." } else { b",0." });
        let digits = [permille / 100 % 10, permille / 10 % 10, permille % 10];
        self.lines.extend(digits.iter().filter_map(|digit| u8::try_from(*digit).ok()).map(|digit| b'0' + digit));
        self.lines.push(b'\n');
    }

    fn broken_tick(&mut self, tick: u64) {
        let line: Vec<u8> = match self.random.random_range(0..8) {
            0 => format!("{tick},99,0.5\n").into(),
            1 => format!("{tick},3,1.7\n").into(),
            2 => format!("{tick},3,NaN\n").into(),
            3 => format!("-{tick},3,0.5\n").into(),
            4 => format!("{},3,0.5\n", tick + 1_000_000_000_000).into(),
            5 => format!("{tick},3\n").into(),
            6 => b"\xff\xfe\x00\x01garbage\n".to_vec(),
            _ => b"\n".to_vec(),
        };
        self.lines.extend_from_slice(&line);
    }

    fn settings(&mut self, file: &mut dyn Write, start_seconds: u64, interval_millis: u64, ticks: u64) -> io::Result<()> {
        let (mut tick, mut millis, mut interval_millis, mut battery) = (0, start_seconds * 1_000, interval_millis, 1_000u64);
        let mut first = true;
        while first || tick < ticks {
            let (seconds, battery_text) = (format!("{}.{:03}", millis / 1_000, millis % 1_000), format!("0.{:03}", battery.min(999)));
            let interval = format!("0.{interval_millis:03}");
            let values = match self.random.random_range(0..4) {
                _ if first => format!(r#""battery":{battery_text},"tick_interval":{interval}"#),
                0 => format!(r#""battery_level":{battery_text},"interval":{interval}"#),
                1 => format!(r#""tick_interval":{interval}"#),
                _ => format!(r#""battery":{battery_text}"#),
            };
            let time = ["time", "timestamp", "unix_time"].get(self.random.random_range(0..3)).copied().unwrap_or("time");
            let line = format!("{{\"{time}\":{seconds},\"tick\":{tick},{values}}}\n");
            if !first && self.is_messy() {
                let broken = match self.random.random_range(0..5) {
                    0 => line.repeat(2),
                    1 => line.get(..line.len() / 2).unwrap_or_default().to_string() + "\n",
                    2 => format!("{{\"{time}\":{seconds},\"tick\":{},\"battery\":0.5}}\n", tick + 10_000_000_000),
                    3 => format!("{{\"{time}\":{seconds},\"tick\":{tick},\"tick_interval\":0}}\n"),
                    _ => "not json at all\n".into(),
                };
                self.lines.extend_from_slice(broken.as_bytes());
            } else {
                self.lines.extend_from_slice(line.as_bytes());
            }
            first = false;
            let step = self.random.random_range(SETTINGS_EVERY_TICKS / 2..SETTINGS_EVERY_TICKS * 3 / 2);
            tick += step;
            millis += step * interval_millis;
            battery = battery.saturating_sub(u64::from(self.random.random_bool(0.3)));
            if self.random.random_bool(0.05) {
                interval_millis = self.random.random_range(35..=45);
            }
            self.flush(file, BUFFER_BYTES)?;
        }
        self.flush(file, 0)?;
        file.flush()
    }
}

/// Decimal digits, faster than by a format.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        out.extend(u8::try_from(number % 10).map(|digit| b'0' + digit));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.get_mut(start..).unwrap_or_default().reverse();
}

#[cfg(test)]
mod tests {
    use crate::Brushing;
    use retally_core::testing::generated::{generated, refused};

    /// Without mess: that writes bytes that are no text.
    const SMALL: [(&str, &str); 4] = [("toothbrushes", "2"), ("datasets", "3"), ("minutes", "6"), ("mess", "0")];

    #[test]
    fn what_comes_late_is_whole_and_was_broken_off() {
        let whole = generated(&Brushing, &SMALL);
        let files = generated(&Brushing, &[SMALL.as_slice(), &[("late", "3")]].concat());
        assert_eq!((whole.len(), files.len()), (12, 18));
        let late = |path: &str| files.get(&format!("late/{path}"));
        for (path, text) in &whole {
            match late(path) {
                None => assert_eq!(files[path], *text, "{path}"),
                Some(late) => {
                    assert_eq!(late, text, "{path}");
                    let lines = files[path].lines().count();
                    assert!(text.starts_with(&files[path]) && lines > 0 && lines < text.lines().count(), "{path}");
                }
            }
        }
        let last = ["brush-0000/set-00002", "brush-0001/set-00002", "brush-0000/set-00001"];
        assert!(last.iter().all(|dataset| late(&format!("{dataset}/brushing.csv")).is_some()));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (name, value, why) in [
            ("mess", "1.5", "no share"),
            ("minutes", "-1", "no number"),
            ("late", "71", "more than the 70 datasets"),
            ("toothbrushes", "0", "one at least"),
            ("datasets", "0", "one at least"),
        ] {
            let error = refused(&Brushing, &[(name, value)]);
            assert!(error.contains(why), "{error}");
        }
    }
}
