//! Realistic, messy input of any size: the events of an app's users, as they are exported.
//!
//! Users get push messages and open the app; few do so often. Lines come in the order of time, but for those that mess delays. Where events
//! are withheld, they are engagements that make a user active who was not engaged otherwise that day, as far as there are such. Under the
//! same options every byte is the same.

use crate::export::{Kind, Oddity, Person, pick};
use crate::records::Event;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use retally_core::calendar::Calendar;
use retally_core::contract::{Files, GenerateError, Setting, SettingError, Settings};
use retally_core::generate::{option, share};
use retally_core::late_lines::LateLines;
use retally_core::record::{Context, Record};
use retally_core::time::{DAY, HOUR, SECOND};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

/// Monday, 2024-10-14, in Chicago. Three weeks later the clocks change.
const START: i64 = 1_728_882_000 * SECOND;
/// Delayed lines are at most this many lines late.
const DELAY_LINES_MAX: u64 = 3_000;
/// As many users are kept as they were built, 2 kB each.
const PERSONS_KEPT_MAX: usize = 20_000;

/// The options of the generator.
pub fn settings() -> Vec<Setting> {
    vec![
        option("users", "N", "500", "how many users"),
        option("days", "N", "35", "how many days, from 2024-10-14 on"),
        option("events-per-day", "N", "500", "how many events a day, of some 2,400 bytes each"),
        option("mess", "SHARE", "0.02", "the share of events that are doubled, delayed, broken or written otherwise"),
        option("late", "N", "200", "how many of the events are withheld, and written to late/events.jsonl"),
        option("seed", "N", "1", "the start of all chance"),
    ]
}

struct Options {
    users: u32,
    days: u32,
    events_per_day: u32,
    mess: f64,
    late: u64,
    seed: u64,
}

impl Options {
    fn read(settings: &Settings) -> Result<Options, SettingError> {
        let options = Options {
            users: settings.parsed("users")?,
            days: settings.parsed("days")?,
            events_per_day: settings.parsed("events-per-day")?,
            mess: share(settings, "mess")?,
            late: settings.parsed("late")?,
            seed: settings.parsed("seed")?,
        };
        if options.users == 0 {
            return Err(settings.error("users", "is no number of users: there must be one at least"));
        }
        if options.days > 20_000 {
            return Err(settings.error("days", "is more than 20,000: years end at 2200"));
        }
        if options.late > options.events() {
            return Err(settings.error("late", format!("is more than the {} events that there are", options.events())));
        }
        Ok(options)
    }

    fn events(&self) -> u64 {
        u64::from(self.days) * u64::from(self.events_per_day)
    }
}

/// An event before it is written.
struct Planned {
    micros: i64,
    user: u32,
    kind: Kind,
}

/// What is wrong with an event.
enum Mess {
    /// It is written in another way.
    Odd(Oddity),
    /// It comes twice, the second time later.
    Twice,
    /// It comes later.
    Delayed,
    /// Its line is cut.
    Broken,
}

/// Writes `events.jsonl`, and `late/events.jsonl` where events are withheld.
pub fn generate(settings: &Settings, files: &mut dyn Files) -> Result<(), GenerateError> {
    let options = Options::read(settings)?;
    let mut output = LateLines::new(files.create("events.jsonl")?);
    let mut late = if options.late > 0 { Some(BufWriter::new(files.create("late/events.jsonl")?)) } else { None };
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut persons = BTreeMap::new();
    let mut line = String::with_capacity(4_096);
    let mut withholding = Withholding { late: options.late, events: options.events(), number: 0, withheld: 0 };
    for day in 0..options.days {
        let events = plan(&options, day, &mut random);
        let mut engagements: BTreeMap<u32, u32> = BTreeMap::new();
        for event in events.iter().filter(|event| event.kind == Kind::UserEngagement) {
            *engagements.entry(event.user).or_default() += 1;
        }
        for event in events {
            if persons.len() >= PERSONS_KEPT_MAX {
                persons.clear();
            }
            let person = persons.entry(event.user).or_insert_with(|| Person::new(options.seed, event.user));
            let mess = mess(options.mess, &mut random);
            let oddity = if let Some(Mess::Odd(oddity)) = mess { Some(oddity) } else { None };
            line.clear();
            person.write_line(&mut line, event.micros, event.kind, oddity, &mut random);
            let only = event.kind == Kind::UserEngagement && engagements.get(&event.user) == Some(&1);
            match &mut late {
                Some(late) if withholding.takes(|| only && makes_active(&line)) => writeln!(late, "{line}")?,
                _ => write(&mut output, &line, mess.as_ref(), &mut random)?,
            }
        }
    }
    output.finish()?;
    late.map_or(Ok(()), |mut late| late.flush())?;
    Ok(())
}

/// Which events are withheld: one of each of as many equal parts of all events.
struct Withholding {
    late: u64,
    events: u64,
    /// Events so far.
    number: u64,
    withheld: u64,
}

impl Withholding {
    /// Whether the next event is withheld: the first of its part that is telling, else the last of the part.
    fn takes(&mut self, telling: impl FnOnce() -> bool) -> bool {
        let part = |number: u64| u128::from(number) * u128::from(self.late) / u128::from(self.events.max(1));
        let (this, next) = (part(self.number), part(self.number + 1));
        self.number += 1;
        let takes = u128::from(self.withheld) <= this && self.withheld < self.late && (next > this || telling());
        self.withheld += u64::from(takes);
        takes
    }
}

/// Whether the line makes its user active, with the settings' defaults.
fn makes_active(line: &str) -> bool {
    let event = Event::decode_json(line.as_bytes(), &Context::new(Calendar::utc(), Event::FIELDS));
    event.is_ok_and(|event| event.valuable && event.engagement.is_some_and(|engagement| engagement.0 >= 3 * SECOND))
}

/// The events of a day, in order.
fn plan(options: &Options, day: u32, random: &mut ChaCha8Rng) -> Vec<Planned> {
    let count = options.events_per_day as usize;
    let start = START + i64::from(day) * DAY;
    let mut events = Vec::with_capacity(count);
    while events.len() < count {
        // Few users make most events; and most events are in the middle of the day.
        let below = random.random_range(0..options.users);
        let user = random.random_range(0..=below);
        // What begins two hours before midnight is over by then.
        const BEGIN_MAX: i64 = DAY - 2 * HOUR;
        let mut micros = start + (random.random_range(0..BEGIN_MAX) + random.random_range(0..BEGIN_MAX)) / 2;
        let mut next = |kind, seconds_max: i64, random: &mut ChaCha8Rng| {
            events.push(Planned { micros, user, kind });
            micros += random.random_range(SECOND..seconds_max * SECOND);
        };
        if random.random_ratio(3, 5) {
            next(Kind::PushReceived, HOUR / SECOND, random);
            if random.random_ratio(9, 10) {
                continue;
            }
            next(Kind::PushClicked, 2, random);
        }
        next(Kind::SessionStart, 2, random);
        for _ in 0..random.random_range(1..5u32) {
            next(Kind::ScreenView, 60, random);
            if random.random_ratio(1, 2) {
                next(Kind::StoryRead, 90, random);
            }
            if random.random_ratio(1, 12) {
                next(Kind::StoryShared, 20, random);
            }
            next(Kind::UserEngagement, 30, random);
        }
    }
    events.truncate(count);
    events.sort_by_key(|event| event.micros);
    events
}

fn mess(share: f64, random: &mut ChaCha8Rng) -> Option<Mess> {
    const ODDITIES: [Oddity; 9] = [
        Oddity::BareNumbers,
        Oddity::BareNumbers,
        Oddity::NoOffset,
        Oddity::FloatEngagement,
        Oddity::FloatEngagement,
        Oddity::NoEngagement,
        Oddity::NullKinds,
        Oddity::NoUser,
        Oddity::WrongClock,
    ];
    if !random.random_bool(share) {
        return None;
    }
    Some(match random.random_range(0..10u32) {
        0..3 => Mess::Delayed,
        3..5 => Mess::Twice,
        5 => Mess::Broken,
        _ => Mess::Odd(pick(random, &ODDITIES)),
    })
}

/// Writes a line, with what is wrong with it.
fn write(output: &mut LateLines, line: &str, mess: Option<&Mess>, random: &mut ChaCha8Rng) -> io::Result<()> {
    let late = |output: &mut LateLines, random: &mut ChaCha8Rng| {
        let turn = output.written();
        output.delay(line, random.random_range(1..=DELAY_LINES_MAX), turn);
    };
    match mess {
        Some(Mess::Delayed) => late(output, random),
        Some(Mess::Broken) => {
            let end = u32::try_from(line.len()).map_or(1, |length| random.random_range(1..length));
            output.write(line.get(..end as usize).unwrap_or("{"))?;
        }
        Some(Mess::Twice) => {
            output.write(line)?;
            late(output, random);
        }
        Some(Mess::Odd(_)) | None => output.write(line)?,
    }
    output.write_due()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Active;
    use crate::records::Name;
    use retally_core::testing::generated::{generated, json_records, refused};
    use std::collections::BTreeSet;

    #[test]
    fn without_mess_all_lines_are_records_in_order() {
        let files = generated(&Active, &[("mess", "0"), ("late", "35"), ("events-per-day", "100")]);
        let (events, refused) = json_records::<Event>(&files["events.jsonl"]);
        let (late, refused_late) = json_records::<Event>(&files["late/events.jsonl"]);
        assert_eq!((events.len(), refused, late.len(), refused_late), (3_465, 0, 35, 0));
        assert!(events.is_sorted_by_key(|event| event.time) && late.is_sorted_by_key(|event| event.time));
        assert!(events.iter().filter(|event| event.name == Name::UserEngagement).all(|event| event.engagement.is_some()));
        let bytes_per_line = files["events.jsonl"].len() / events.len();
        assert!((2_000..2_800).contains(&bytes_per_line), "{bytes_per_line} bytes a line");
        let users: BTreeSet<_> = events.iter().map(|event| &event.user).collect();
        assert!((300..=500).contains(&users.len()), "{} users", users.len());
    }

    #[test]
    fn what_comes_late_makes_users_active() {
        let files = generated(&Active, &[("mess", "0"), ("late", "5")]);
        let (events, _) = json_records::<Event>(&files["events.jsonl"]);
        let late: Vec<&str> = files["late/events.jsonl"].lines().collect();
        assert_eq!((events.len(), late.len()), (17_495, 5));
        assert!(late.iter().all(|line| makes_active(line)), "{late:?}");
    }

    #[test]
    fn with_mess_there_is_some_of_everything() {
        let (events, refused) = json_records::<Event>(&generated(&Active, &[("mess", "0.5"), ("late", "0")])["events.jsonl"]);
        let set: BTreeSet<_> = events.iter().collect();
        assert!(refused > 500, "{refused} refused");
        assert!(events.len() - set.len() > 500, "{} of {} differ", set.len(), events.len());
        assert!(!events.is_sorted_by_key(|event| event.time));
        let engagements = || events.iter().filter(|event| event.name == Name::UserEngagement);
        assert!(engagements().any(|event| event.engagement.is_none()));
        assert!(engagements().any(|event| event.engagement.is_some_and(|engagement| engagement.0 % 1_000 == 250)));
        assert!(engagements().any(|event| event.valuable) && engagements().any(|event| !event.valuable));
    }

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let options = [("users", "50"), ("days", "3"), ("late", "10")];
        assert_eq!(generated(&Active, &options), generated(&Active, &options));
        assert_ne!(generated(&Active, &options), generated(&Active, &[options.as_slice(), &[("seed", "2")]].concat()));
        assert_eq!(generated(&Active, &[("days", "0"), ("late", "0")])["events.jsonl"], "");
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (name, value, why) in [
            ("users", "0", "one at least"),
            ("users", "many", "can't be used"),
            ("mess", "1.5", "no share"),
            ("mess", "NaN", "no share"),
            ("late", "17501", "more than the 17500 events"),
        ] {
            let error = refused(&Active, &[(name, value)]);
            assert!(error.contains(why), "{error}");
        }
    }
}
