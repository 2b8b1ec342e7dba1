//! The input: events of logs, as JSON objects.
//!
//! Ids become numbers, also those that are text; nothing is kept as text but a school's name.

use retally_core::record::{Context, Field, Fields, Record, Refusal};
use retally_core::time::Moment;
use std::fmt;
use uuid::Uuid;

/// A UUID by halves: two words, so that nothing is aligned to 16 bytes. Its order is that of its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Id(pub u64, pub u64);

impl Id {
    /// The least id.
    pub const FIRST: Id = Id(0, 0);

    /// As a number.
    pub fn number(self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

/// In lower case, with hyphens.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.number()).hyphenated().fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a log is the log of. (Of two that are said at the same time the greater counts.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum LogType {
    /// A device.
    Device,
    /// A school.
    School,
}

/// An event of a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// When.
    pub time: Moment,
    /// Of which log.
    pub log: Id,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum What {
    /// The log's type.
    SetLogType(LogType),
    /// A school's name.
    SetName(Box<str>),
    /// A device is assigned to a school.
    AssignToSchool(Id),
    /// A session starts on a device.
    StartSession(Id),
    /// A session ends.
    EndSession(Id),
}

/// The indices of fields in [`Event::FIELDS`].
mod index {
    pub const TIME: usize = 0;
    pub const LOG_ID: usize = 1;
    pub const TYPE: usize = 2;
    pub const LOG_TYPE: usize = 3;
    pub const NAME: usize = 4;
    pub const SCHOOL_ID: usize = 5;
    pub const SESSION_ID: usize = 6;
}

impl Record for Event {
    const FIELDS: &'static [Field] = &[
        Field::new("time", "when it happened").time(),
        Field::new("logId", "the log that it belongs to, a UUID (or any text: --ids text)"),
        Field::new(
            "type",
            "SetLogType, SetName, AssignToSchool, StartSession or EndSession, with or without Event at the end; \
             or under eventType, event or @type",
        )
        .or(&["eventType", "event", "@type"]),
        Field::new("logType", "of SetLogType: School or Device").of_some(),
        Field::new("name", "of SetName: the school's name").of_some(),
        Field::new("schoolId", "of AssignToSchool: the school's log, likewise").of_some(),
        Field::new("sessionId", "of StartSession and EndSession: the session, likewise").of_some(),
    ];

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        let id = |index| fields.uuid(index, context).map(halves);
        let time = fields.time(index::TIME, context)?;
        let log = id(index::LOG_ID)?;
        let name = fields.text(index::TYPE);
        let what = match name.strip_suffix(b"Event").unwrap_or(name) {
            b"StartSession" => What::StartSession(id(index::SESSION_ID)?),
            b"EndSession" => What::EndSession(id(index::SESSION_ID)?),
            b"AssignToSchool" => What::AssignToSchool(id(index::SCHOOL_ID)?),
            b"SetName" => What::SetName(fields.required_text(index::NAME)?.into()),
            b"SetLogType" => What::SetLogType(match fields.text(index::LOG_TYPE) {
                b"School" => LogType::School,
                b"Device" => LogType::Device,
                _ => return Err(fields.refusal(index::LOG_TYPE, "is neither School nor Device")),
            }),
            _ => {
                let why = "is none of SetLogType, SetName, AssignToSchool, StartSession and EndSession";
                return Err(fields.refusal(index::TYPE, why));
            }
        };
        Ok(Event { time, log, what })
    }

    fn time(&self) -> Option<Moment> {
        Some(self.time)
    }
}

fn halves(id: u128) -> Id {
    let (high, low) = Uuid::from_u128(id).as_u64_pair();
    Id(high, low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::calendar::Calendar;

    const LOG: &str = "00000000-0000-4000-8000-0000000000AB";
    const OTHER: &str = "123e4567-e89b-12d3-a456-426614174000";

    fn read(line: &str) -> Result<Event, String> {
        let context = Context::new(Calendar::utc(), Event::FIELDS);
        Event::decode_json(line.as_bytes(), &context).map_err(std::borrow::Cow::into_owned)
    }

    /// An event of [`LOG`] at one second, with these fields beside.
    fn event(rest: &str) -> Result<What, String> {
        let event = read(&format!(r#"{{"time":"1970-01-01T00:00:01Z","x":[{{"type":"y"}}],"logId":"{LOG}",{rest}}}"#))?;
        assert_eq!((event.time, event.log), (Moment(1_000_000), Id(0x4000, 0x8000_0000_0000_00ab)));
        Ok(event.what)
    }

    #[test]
    fn every_type_under_every_name() {
        let other = Id(0x123e_4567_e89b_12d3, 0xa456_4266_1417_4000);
        for (name, rest, what) in [
            ("SetLogType", r#""logType":"School""#.to_string(), What::SetLogType(LogType::School)),
            ("SetLogType", r#""logType":"Device""#.to_string(), What::SetLogType(LogType::Device)),
            ("SetName", r#""name":"\u00c9cole \"A\"""#.to_string(), What::SetName("École \"A\"".into())),
            ("AssignToSchool", format!(r#""schoolId":"{OTHER}""#), What::AssignToSchool(other)),
            ("StartSession", format!(r#""sessionId":"{OTHER}""#), What::StartSession(other)),
            ("EndSession", format!(r#""sessionId":"{}""#, OTHER.replace('-', "").to_uppercase()), What::EndSession(other)),
        ] {
            for key in ["type", "eventType", "event", "@type"] {
                assert_eq!(event(&format!(r#""{key}":"{name}",{rest}"#)).as_ref(), Ok(&what));
                assert_eq!(event(&format!(r#"{rest},"{key}":"{name}Event""#)).as_ref(), Ok(&what));
            }
        }
    }

    #[test]
    fn the_first_name_of_the_type_that_holds_anything_counts() {
        let start = Ok(What::StartSession(Id(0x123e_4567_e89b_12d3, 0xa456_4266_1417_4000)));
        let with = |rest: &str| event(&format!(r#""sessionId":"{OTHER}",{rest}"#));
        assert_eq!(with(r#""@type":"x","event":{"a":1},"type":"StartSession","eventType":"EndSession""#), start);
        assert_eq!(with(r#""@type":"StartSession","event":"","type":null"#), start);
    }

    #[test]
    fn refusals_say_what_and_why() {
        for (rest, reason) in [
            (r#""a":1"#, "type is missing"),
            (r#""type":"Event""#, "type \"Event\" is none of SetLogType, SetName, AssignToSchool, StartSession and EndSession"),
            (
                r#""type":"startSession""#,
                "type \"startSession\" is none of SetLogType, SetName, AssignToSchool, StartSession and EndSession",
            ),
            (r#""type":"SetLogType""#, "logType is missing"),
            (r#""type":"SetLogType","logType":"school""#, "logType \"school\" is neither School nor Device"),
            (r#""type":"SetName","name":"""#, "name is missing"),
            (r#""type":"AssignToSchool","schoolId":null"#, "schoolId is missing"),
            (r#""type":"AssignToSchool","schoolId":7"#, "schoolId \"7\" is no UUID (--ids text takes any text)"),
            (r#""type":"StartSession","sessionId":["a"]"#, "sessionId holds a list and no single value (column 137)"),
            (
                r#""type":"EndSession","sessionId":"123e4567-e89b-12d3-a456-42661417400""#,
                "sessionId \"123e4567-e89b-12d3-a456-42661417400\" is no UUID (--ids text takes any text)",
            ),
        ] {
            assert_eq!(event(rest), Err(reason.into()));
        }
        for (line, reason) in [
            ("{}", "time is missing"),
            (r#"{"time":1}"#, "time \"1\" is too small for a UNIX time: give its format, such as unix_s or %Y%m%d"),
            (r#"{"time":"1969-12-31T23:59:59Z"}"#, "time \"1969-12-31T23:59:59Z\" lies outside the years 1970 to 2200"),
            (r#"{"time":"2026-01-31T12:34:56Z"}"#, "logId is missing"),
            (r#"{"time":"2026-01-31T12:34:56Z","logId":"x"}"#, "logId \"x\" is no UUID (--ids text takes any text)"),
        ] {
            assert_eq!(read(line), Err(reason.into()));
        }
        for line in ["[]", "", "{", r#"{"time":"2026-01-31T12:34:56Z"} x"#, "\u{0}"] {
            assert!(read(line).unwrap_err().starts_with("no JSON object: "), "{line}");
        }
    }

    #[test]
    fn ids_print_in_lower_case_and_sort_as_their_text() {
        let ids = [LOG, OTHER, "ffffffff-0000-0000-0000-000000000000"].map(|text| halves(Uuid::try_parse(text).unwrap().as_u128()));
        assert!(ids.is_sorted());
        assert_eq!(ids.map(|id| id.to_string()), [LOG.to_lowercase(), OTHER.into(), "ffffffff-0000-0000-0000-000000000000".into()]);
    }
}
