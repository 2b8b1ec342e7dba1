//! How an event looks in an export: a line of some 2,400 bytes, most of which repeat who the user is.
//!
//! Lines are put together as text: a tree of values for each would take longer than all else.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use retally_core::calendar::Calendar;
use retally_core::time::{Moment, SECOND};
use std::fmt::Write;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A push message arrived.
    PushReceived,
    /// It was opened.
    PushClicked,
    /// A session began.
    SessionStart,
    /// A screen was shown.
    ScreenView,
    /// A story was read.
    StoryRead,
    /// A story was shared.
    StoryShared,
    /// The user was engaged.
    UserEngagement,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::PushReceived => "push_received",
            Kind::PushClicked => "push_clicked",
            Kind::SessionStart => "session_start",
            Kind::ScreenView => "screen_view",
            Kind::StoryRead => "story_read",
            Kind::StoryShared => "story_shared",
            Kind::UserEngagement => "user_engagement",
        }
    }
}

/// In which way a line is not as it should be, though it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Numbers are numbers, not text.
    BareNumbers,
    /// There is no offset.
    NoOffset,
    /// The engagement is a float.
    FloatEngagement,
    /// The engagement can't be read.
    NoEngagement,
    /// A value has all its kinds, and all but one are `null`.
    NullKinds,
    /// The user is `null`, which makes the event an issue.
    NoUser,
    /// The clock of the device is a century ahead.
    WrongClock,
}

/// A user, with all that is the same in each of their lines.
#[derive(Clone, Debug)]
pub struct Person {
    id: String,
    /// From `user_properties` to before the offset.
    constant: String,
    offset_seconds: i64,
    version: String,
    /// Of 100 engagements, how many are valuable.
    valuable_percent: u32,
    calendar: Calendar,
}

const MODELS: [&str; 8] = ["SM-G960U", "SM-A102U", "Pixel 3a", "moto g(7)", "LM-X420", "iPhone11,8", "U683CL", "Nokia 6.1"];
const LANGUAGES: [&str; 5] = ["en-us", "en-us", "en-us", "es-us", "en-gb"];
const OFFSETS: [i64; 8] = [-18_000, -18_000, -21_600, -21_600, -25_200, -28_800, 0, 3_600];
const SCREENS: [&str; 4] = ["HomeActivity", "StoryActivity", "SettingsActivity", "SearchActivity"];
const TOPICS: [&str; 6] = ["general", "sports", "weather", "politics", "local", "breaking"];
/// A century, in microseconds.
const CENTURY: i64 = 100 * 365 * 86_400 * SECOND;

impl Person {
    /// The user with this number, always the same under the same seed.
    pub fn new(seed: u64, number: u32) -> Person {
        let mut random = ChaCha8Rng::seed_from_u64(seed.rotate_left(32) ^ u64::from(number));
        let installed = 1_640_000_000_000_000 + random.random_range(0..60_000_000i64) * SECOND;
        let (model, language) = (pick(&mut random, &MODELS), pick(&mut random, &LANGUAGES));
        let mut constant = String::with_capacity(2_048);
        constant.push_str("\"user_properties\":[");
        let mut property = |key: &str, value: &str, set: i64| {
            let comma = if constant.ends_with('[') { "" } else { "," };
            let _ = write!(
                constant,
                "{comma}{{\"key\":\"{key}\",\"value\":{{\"string_value\":\"{value}\",\"set_timestamp_micros\":\"{set}\"}}}}"
            );
        };
        property("account_id", &hexadecimal(random.random(), 16), installed);
        property("config_hash", &long_id(&mut random), installed + 7_000_000);
        for topic in TOPICS {
            let on = if random.random_ratio(3, 4) { "true" } else { "false" };
            property(&format!("subscribed_{topic}"), on, installed + random.random_range(0..9_000_000));
            property(&format!("notification_{topic}"), on, installed + random.random_range(0..9_000_000));
        }
        property("notifications_enabled", "true", installed);
        property("device_model", model, installed);
        property("test_group", &random.random_range(0..10u32).to_string(), installed);
        property("first_open_time", &(installed / 1_000).to_string(), installed);
        let _ = write!(
            constant,
            "],\"user_first_touch_timestamp\":\"{installed}\",\"mobile_os_hardware_model\":\"{model}\",\"language\":\"{language}\""
        );
        Person {
            id: long_id(&mut random),
            constant,
            offset_seconds: pick(&mut random, &OFFSETS),
            version: format!("11.{}.{}", random.random_range(0..4u32), random.random_range(0..10u32)),
            valuable_percent: random.random_range(60..100),
            calendar: Calendar::utc(),
        }
    }

    /// Writes the line of an event, without a newline.
    pub fn write_line(&self, line: &mut String, micros: i64, kind: Kind, oddity: Option<Oddity>, random: &mut ChaCha8Rng) {
        let quote = if oddity == Some(Oddity::BareNumbers) { "" } else { "\"" };
        let micros = if oddity == Some(Oddity::WrongClock) { micros + CENTURY } else { micros };
        let (year, month, day) = self.calendar.day(Moment(micros + self.offset_seconds * SECOND)).civil();
        let delay = random.random_range(200_000..9_000_000u32);
        let _ = write!(
            line,
            "{{\"event_date\":\"{year:04}{month:02}{day:02}\",\"event_timestamp\":{quote}{micros}{quote},\"event_name\":\"{}\",\"event_params\":[",
            kind.name(),
        );
        self.write_parameters(line, micros, kind, oddity, random);
        let _ = write!(line, "],\"event_server_timestamp_offset\":\"{delay}\",\"user_pseudo_id\":");
        match oddity {
            Some(Oddity::NoUser) => line.push_str("null"),
            _ => drop(write!(line, "\"{}\"", self.id)),
        }
        line.push(',');
        line.push_str(&self.constant);
        if oddity != Some(Oddity::NoOffset) {
            let _ = write!(line, ",\"time_zone_offset_seconds\":{quote}{}{quote}", self.offset_seconds);
        }
        let _ = write!(line, ",\"version\":\"{}\"}}", self.version);
    }

    fn write_parameters(&self, line: &mut String, micros: i64, kind: Kind, oddity: Option<Oddity>, random: &mut ChaCha8Rng) {
        let origin = if kind == Kind::UserEngagement { "auto" } else { "app" };
        text(line, "firebase_event_origin", origin);
        let session = micros / SECOND / 1_800 * 1_800;
        match kind {
            Kind::PushReceived | Kind::PushClicked => {
                text(line, ",campaign_id", "sponsored.morning");
                text(line, ",layout_type", pick(random, &TOPICS));
                text(line, ",id", &long_id(random));
                text(line, ",content_type", "source=partner;placement=Sponsored Morning Push");
            }
            Kind::SessionStart | Kind::ScreenView | Kind::StoryRead | Kind::StoryShared => {
                whole(line, ",ga_session_id", session, oddity);
                text(line, ",firebase_screen_class", pick(random, &SCREENS));
                text(line, ",story_id", &long_id(random));
            }
            Kind::UserEngagement => {
                whole(line, ",ga_session_id", session, oddity);
                text(line, ",firebase_screen_class", pick(random, &SCREENS));
                whole(line, ",firebase_screen_id", random.random_range(i64::MIN..0), None);
                if random.random_ratio(self.valuable_percent, 100) {
                    whole(line, ",engaged_session_event", 1, oddity);
                }
                self.write_engagement(line, oddity, random);
            }
        }
    }

    /// From a tenth of a second to minutes, shorter ones more often.
    fn write_engagement(&self, line: &mut String, oddity: Option<Oddity>, random: &mut ChaCha8Rng) {
        let magnitude = 10i64.pow(random.random_range(2..6));
        let milliseconds = random.random_range(magnitude..magnitude * 10);
        match oddity {
            Some(Oddity::NoEngagement) => text(line, ",engagement_time_msec", "n/a"),
            Some(Oddity::FloatEngagement) => {
                let _ = write!(line, ",{{\"key\":\"engagement_time_msec\",\"value\":{{\"double_value\":{milliseconds}.25}}}}");
            }
            _ => whole(line, ",engagement_time_msec", milliseconds, oddity),
        }
    }
}

/// A parameter that is a text; a comma before its key goes before all of it.
fn text(line: &mut String, key: &str, value: &str) {
    let (comma, key) = comma(key);
    let _ = write!(line, "{comma}{{\"key\":\"{key}\",\"value\":{{\"string_value\":\"{value}\"}}}}");
}

/// A parameter that is a whole number.
fn whole(line: &mut String, key: &str, value: i64, oddity: Option<Oddity>) {
    let (comma, key) = comma(key);
    let _ = match oddity {
        Some(Oddity::BareNumbers) => write!(line, "{comma}{{\"key\":\"{key}\",\"value\":{{\"int_value\":{value}}}}}"),
        Some(Oddity::NullKinds) => write!(
            line,
            "{comma}{{\"key\":\"{key}\",\"value\":{{\"string_value\":null,\"int_value\":\"{value}\",\"float_value\":null,\"double_value\":null}}}}"
        ),
        _ => write!(line, "{comma}{{\"key\":\"{key}\",\"value\":{{\"int_value\":\"{value}\"}}}}"),
    };
}

fn comma(key: &str) -> (&'static str, &str) {
    match key.strip_prefix(',') {
        Some(key) => (",", key),
        None => ("", key),
    }
}

/// One of a list that is not empty.
pub fn pick<T: Copy, const N: usize>(random: &mut ChaCha8Rng, list: &[T; N]) -> T {
    *list.choose(random).unwrap_or_else(|| panic!("nothing is picked from an empty list"))
}

fn long_id(random: &mut ChaCha8Rng) -> String {
    hexadecimal(random.random(), 32)
}

fn hexadecimal(number: u128, digits: usize) -> String {
    format!("{:0digits$x}", number >> (128 - 4 * digits))
}
