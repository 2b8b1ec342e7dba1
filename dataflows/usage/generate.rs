//! Realistic, messy input of any size: the logs of schools and their devices, day by day.
//!
//! Schools open with their names, devices are assigned and now and then move on; sessions are held mostly in the morning, few run over
//! midnight, and some are never ended. Lines come in the order of time, but for those that mess delays. Under the same options every byte
//! is the same.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use retally_core::contract::{Files, GenerateError, Setting, SettingError, Settings};
use retally_core::generate::{option, share};
use retally_core::late_lines::LateLines;
use retally_core::time::{DAY, HOUR, Moment, SECOND};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use uuid::{Builder, Uuid};

/// Monday, 2024-01-01.
const START: i64 = 19_723 * DAY;
/// Delayed lines are at most this many lines late.
const DELAY_LINES_MAX: u64 = 3_000;
const MINUTE: i64 = 60 * SECOND;

/// The options of the generator.
pub fn settings() -> Vec<Setting> {
    vec![
        option("devices", "N", "300", "how many devices"),
        option("days", "N", "90", "how many days, from 2024-01-01 on"),
        option("schools", "N", "12", "how many schools"),
        option("sessions-per-day", "X", "1.4", "sessions of a device a day, on average; each has a start and an end"),
        option("mess", "SHARE", "0.03", "the share of events that are doubled, delayed, lost, broken or wrong"),
        option("late", "N", "200", "how many of the events are withheld, and written to late/events.jsonl"),
        option("seed", "N", "1", "the start of all chance"),
    ]
}

struct Options {
    devices: u32,
    days: u32,
    schools: u32,
    sessions_per_day: f64,
    mess: f64,
    late: u64,
    seed: u64,
}

impl Options {
    fn read(settings: &Settings) -> Result<Options, SettingError> {
        let options = Options {
            devices: settings.parsed("devices")?,
            days: settings.parsed("days")?,
            schools: settings.parsed("schools")?,
            sessions_per_day: settings.parsed("sessions-per-day")?,
            mess: share(settings, "mess")?,
            late: settings.parsed("late")?,
            seed: settings.parsed("seed")?,
        };
        if options.schools == 0 {
            return Err(settings.error("schools", "is no number of schools: there must be one at least"));
        }
        if options.days > 20_000 {
            return Err(settings.error("days", "is more than 20,000: years end at 2200"));
        }
        if !(0.0..=1_000.0).contains(&options.sessions_per_day) {
            return Err(settings.error("sessions-per-day", "is no number from 0 to 1000"));
        }
        if options.late as f64 > options.events() {
            return Err(settings.error("late", format!("is more than the {:.0} events or so that there are", options.events())));
        }
        Ok(options)
    }

    /// Events of sessions, about.
    fn events(&self) -> f64 {
        2.0 * self.sessions_per_day * f64::from(self.devices) * f64::from(self.days)
    }
}

/// The content of an event, beside its time and log.
enum Said {
    Type(&'static str),
    Name(String),
    School(Uuid),
    Start(Uuid),
    End(Uuid),
}

/// Writes `events.jsonl`, and `late/events.jsonl` where events are withheld.
pub fn generate(settings: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
    let options = Options::read(settings)?;
    let output = LateLines::new(files.create("events.jsonl")?);
    let late = if options.late > 0 { Some(BufWriter::new(files.create("late/events.jsonl")?)) } else { None };
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut ids = |count: u32| -> Vec<Uuid> { (0..count).map(|_| uuid(&mut random)).collect() };
    let (schools, devices) = (ids(options.schools), ids(options.devices));
    let mut world = World { options, schools, devices, random, output, late, written: 0, line: String::new(), coming: BTreeMap::new() };
    world.open()?;
    for day in 0..world.options.days {
        world.day(START + i64::from(day) * DAY)?;
    }
    Ok(world.finish()?)
}

fn uuid(random: &mut ChaCha8Rng) -> Uuid {
    Builder::from_random_bytes(random.random()).into_uuid()
}

/// Schools and devices, and what comes of them.
struct World {
    options: Options,
    schools: Vec<Uuid>,
    devices: Vec<Uuid>,
    random: ChaCha8Rng,
    output: LateLines,
    late: Option<BufWriter<Box<dyn Write>>>,
    /// Events of sessions so far.
    written: u64,
    line: String,
    /// What happens next, by time and a number of its own.
    coming: BTreeMap<(i64, u64), (Uuid, Said)>,
}

impl World {
    fn messy(&mut self) -> bool {
        self.random.random_bool(self.options.mess)
    }

    fn plan(&mut self, micros: i64, log: Uuid, said: Said) {
        let number = self.random.random();
        self.coming.insert((micros, number), (log, said));
    }

    fn any_school(&mut self) -> Uuid {
        let place = self.random.random_range(0..self.schools.len());
        self.schools.get(place).copied().unwrap_or_default()
    }

    /// Types, names, and first assignments. A few are missing.
    fn open(&mut self) -> io::Result<()> {
        for (number, school) in (1u32..).zip(self.schools.clone()) {
            let at = START + i64::from(number % 600) * SECOND;
            if !self.messy() {
                self.plan(at, school, Said::Type("School"));
            }
            if !self.messy() {
                self.plan(at + SECOND, school, Said::Name(format!("School {number}")));
            }
        }
        for (number, device) in (0u32..).zip(self.devices.clone()) {
            let at = START + HOUR + i64::from(number) % 3_600 * SECOND;
            if !self.messy() {
                self.plan(at, device, Said::Type("Device"));
            }
            if !self.messy() {
                let school = self.any_school();
                self.plan(at + SECOND, device, Said::School(school));
            }
        }
        self.write_until(START + 3 * HOUR)
    }

    fn day(&mut self, midnight: i64) -> io::Result<()> {
        // A school is renamed every two years or so, and a device moves on.
        for school in self.schools.clone() {
            if self.random.random_ratio(1, 730) {
                let at = midnight + self.random.random_range(0..DAY);
                let name = format!("School {}", self.random.random_range(100..1_000u32));
                self.plan(at, school, Said::Name(name));
            }
        }
        for device in self.devices.clone() {
            if self.random.random_ratio(1, 365) {
                let at = midnight + self.random.random_range(0..DAY);
                let school = if self.messy() { uuid(&mut self.random) } else { self.any_school() };
                self.plan(at, device, Said::School(school));
            }
            let whole = self.options.sessions_per_day.floor();
            let one_more = self.random.random_bool(self.options.sessions_per_day - whole);
            let mut left = whole + f64::from(u8::from(one_more));
            while left > 0.0 {
                left -= 1.0;
                self.session(midnight, device);
            }
        }
        self.write_until(midnight + DAY)
    }

    fn session(&mut self, midnight: i64, device: Uuid) {
        // Two draws in the middle of the day, and one in ten at any time.
        let school_hours = 7 * HOUR + (self.random.random_range(0..9 * HOUR) + self.random.random_range(0..9 * HOUR)) / 2;
        let at = if self.random.random_ratio(1, 10) { self.random.random_range(0..DAY) } else { school_hours };
        let start = midnight + at / 1_000 * 1_000;
        let end = start + self.random.random_range(MINUTE..20 * MINUTE) * self.random.random_range(1..=6) / 1_000 * 1_000;
        let session = uuid(&mut self.random);
        let (mut start_log, mut end_time) = (device, Some(end));
        if self.messy() {
            match self.random.random_range(0..6u32) {
                0 | 1 => end_time = None,
                2 => start_log = self.any_school(),
                3 => end_time = Some(start - MINUTE),
                4 => self.plan(start + SECOND, device, Said::Start(session)),
                _ => self.plan(end + SECOND, device, Said::End(session)),
            }
        }
        self.plan(start, start_log, Said::Start(session));
        if let Some(end) = end_time {
            self.plan(end, device, Said::End(session));
        }
    }

    fn write_until(&mut self, until: i64) -> io::Result<()> {
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 < until) {
            let ((micros, _), (log, said)) = entry.remove_entry();
            self.write(micros, log, &said)?;
        }
        Ok(())
    }

    fn write(&mut self, micros: i64, log: Uuid, said: &Said) -> io::Result<()> {
        // Some write it otherwise.
        let key = ["type", "type", "eventType", "event", "@type"].get(self.random.random_range(0..5usize)).copied().unwrap_or("type");
        let ending = if self.random.random_ratio(1, 4) { "Event" } else { "" };
        let (kind, field) = match said {
            Said::Type(kind) => ("SetLogType", format!(r#""logType":"{kind}""#)),
            Said::Name(name) => ("SetName", format!(r#""name":"{name}""#)),
            Said::School(school) => ("AssignToSchool", format!(r#""schoolId":"{school}""#)),
            Said::Start(session) => ("StartSession", format!(r#""sessionId":"{session}""#)),
            Said::End(session) => ("EndSession", format!(r#""sessionId":"{session}""#)),
        };
        use std::fmt::Write;
        self.line.clear();
        // Writing to memory can't fail.
        let _ = write!(self.line, r#"{{"time":"{}","logId":"{log}","{key}":"{kind}{ending}",{field}}}"#, Moment(micros));
        // The withheld ones are spread evenly over sessions and later assignments.
        let before = self.withheld();
        self.written += u64::from(matches!(said, Said::Start(_) | Said::End(_) | Said::School(_)) && micros >= START + 3 * HOUR);
        if self.withheld() > before
            && let Some(late) = &mut self.late
        {
            return std::io::Write::write_fmt(late, format_args!("{}\n", self.line));
        }
        let mess = self.messy().then(|| self.random.random_range(0..5u32));
        write(&mut self.output, &self.line, mess, &mut self.random)
    }

    /// How many events should have been withheld so far.
    fn withheld(&self) -> u64 {
        // Fewer than expected may come, so the last ones are not waited for.
        let every = (self.options.events() * 0.9 / self.options.late.max(1) as f64).max(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of events")]
        let share = (self.written as f64 / every) as u64;
        share.min(self.options.late)
    }

    fn finish(mut self) -> io::Result<()> {
        self.write_until(i64::MAX)?;
        self.output.finish()?;
        self.late.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

/// Writes a line, with what is wrong with it.
fn write(output: &mut LateLines, line: &str, mess: Option<u32>, random: &mut ChaCha8Rng) -> io::Result<()> {
    let late = |output: &mut LateLines, random: &mut ChaCha8Rng| {
        output.delay(line, random.random_range(1..=DELAY_LINES_MAX), random.random());
    };
    match mess {
        None => output.write(line)?,
        Some(0) => {
            let end = random.random_range(1..line.len());
            output.write(line.get(..end).unwrap_or("{"))?;
        }
        Some(1 | 2) => {
            output.write(line)?;
            late(output, random);
        }
        Some(_) => late(output, random),
    }
    output.write_due()
}

#[cfg(test)]
mod tests {
    use crate::Usage;
    use crate::records::{Event, What};
    use retally_core::testing::generated::{generated, json_records, refused};
    use std::collections::BTreeSet;

    #[test]
    fn without_mess_all_lines_are_records_in_order() {
        let files = generated(&Usage, &[("mess", "0"), ("late", "300"), ("devices", "50"), ("days", "60")]);
        let (events, refused) = json_records::<Event>(&files["events.jsonl"]);
        let (late, refused_late) = json_records::<Event>(&files["late/events.jsonl"]);
        assert_eq!((refused, late.len(), refused_late), (0, 300, 0));
        assert!((8_000..9_000).contains(&events.len()), "{} events", events.len());
        assert!(events.is_sorted_by_key(|event| event.time) && late.is_sorted_by_key(|event| event.time));
        let sessions = |events: &[Event], start: bool| -> BTreeSet<_> {
            let id = |event: &Event| match event.what {
                What::StartSession(id) if start => Some((event.log, id)),
                What::EndSession(id) if !start => Some((event.log, id)),
                _ => None,
            };
            events.iter().filter_map(id).collect()
        };
        let all = [events, late].concat();
        assert_eq!(sessions(&all, true), sessions(&all, false));
    }

    #[test]
    fn with_mess_there_is_some_of_everything() {
        let (events, refused) = json_records::<Event>(&generated(&Usage, &[("mess", "0.3"), ("late", "0")])["events.jsonl"]);
        let set: BTreeSet<_> = events.iter().collect();
        assert!(refused > 500, "{refused} refused");
        assert!(events.len() - set.len() > 500, "{} of {} differ", set.len(), events.len());
        assert!(!events.is_sorted_by_key(|event| event.time));
    }

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let options = [("devices", "20"), ("days", "9"), ("late", "10")];
        assert_eq!(generated(&Usage, &options), generated(&Usage, &options));
        assert_ne!(generated(&Usage, &options), generated(&Usage, &[options.as_slice(), &[("seed", "2")]].concat()));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (name, value, why) in [
            ("schools", "0", "one at least"),
            ("devices", "many", "can't be used"),
            ("mess", "1.5", "no share"),
            ("mess", "NaN", "no share"),
            ("sessions-per-day", "-1", "no number from 0"),
            ("late", "10000000", "more than the 75600 events"),
        ] {
            let error = refused(&Usage, &[(name, value)]);
            assert!(error.contains(why), "{error}");
        }
    }
}
