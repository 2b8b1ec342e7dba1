//! The input: analytics events, reduced to what counts.
//!
//! An exported event has some 2,400 bytes, of which a user, a time, a name, an offset and two parameters matter. The rest is
//! skipped by the parser and never looked at. Both names of a user are read, since decoding knows no settings; the graph keeps one.

use retally_core::objects;
use retally_core::record::{Context, Field, Fields, Record, Refusal};
use retally_core::time::{Moment, SECOND};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An analytics event.
///
/// Records order by time, and then by the fields in order; packed users and the name that matters come before other texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Moment,
    /// Whose it is, by `user_pseudo_id`.
    pub user: User,
    /// What happened.
    pub name: Name,
    /// The parameter `engagement_time_msec`, where it can be read.
    pub engagement: Option<Engagement>,
    /// Whether a parameter's key ends in `_event`.
    pub valuable: bool,
    /// By how many seconds the user's clock was ahead of UTC, where the event says so.
    pub offset_seconds: Option<i32>,
    /// Whose it is, by `user_id`.
    pub user_id: User,
}

/// Who a user is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum User {
    /// 32 lower-case hexadecimal digits, by halves: what the SDK of apps makes up. Two words, so that nothing is aligned to 16 bytes.
    Digits(u64, u64),
    /// Any other text.
    Text(Box<str>),
    /// The event names no user. Such events can be most of all, and are no key of one worker: the number follows from their time.
    Nobody(u8),
}

/// The name of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Name {
    /// `user_engagement`.
    UserEngagement,
    /// Any other.
    Other(Box<str>),
}

/// How long a user was engaged, in microseconds; fractions beyond them are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Engagement(pub i64);

const USER_ID: Field = Field::new("user_id", "the user with --user-field user_id").text();

/// The fields of events where `user_id` names the user: a file without it is not understood.
pub const FIELDS_BY_USER_ID: &[Field] = &fields(USER_ID.optional());

const fn fields(user_id: Field) -> [Field; 8] {
    [
        Field::new("user_pseudo_id", "the user; null: an issue").text().optional(),
        Field::new(
            "event_timestamp",
            "when it happened, in microseconds since 1970-01-01T00:00:00Z, as number or text; or 2024-03-01 12:00:00 UTC",
        )
        .time(),
        Field::new("event_name", "what happened"),
        Field::new("event_params", "a list of {key, value: {string_value | int_value | float_value | double_value}}").nested().of_some(),
        Field::new(
            "time_zone_offset_seconds",
            "how far the user's clock was ahead of UTC, here or in device; matters with --timezone event",
        )
        .of_some()
        .or(&["device.time_zone_offset_seconds"]),
        user_id,
        Field::new("engagement_time_msec", "the parameter of this name, where parameters are columns").of_some(),
        Field::new("engaged_session_event", "likewise: with any value, the event is valuable").of_some(),
    ]
}

impl Record for Event {
    const FIELDS: &'static [Field] = &fields(USER_ID.of_some());

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        let time = event_time(&fields, context)?;
        let name = fields.required_text(2)?;
        let (engagement, valuable) = parameters(fields.text(3)).map_err(|_| fields.refusal(3, "is no list of parameters"))?;
        let column = || milliseconds(std::str::from_utf8(fields.text(6)).ok()?).map(Engagement);
        let engagement = engagement.or_else(column);
        let valuable = valuable || !fields.text(7).is_empty();
        let offset_seconds = offset_seconds(fields.text(4));
        let (user, user_id) = (user(&fields, 0, time)?, user(&fields, 5, time)?);
        Ok(Event { time, user, name: Name::new(name), engagement, valuable, offset_seconds, user_id })
    }

    fn time(&self) -> Option<Moment> {
        Some(self.time)
    }
}

impl User {
    /// Nobody, for an event at this time.
    pub fn nobody(time: Moment) -> User {
        let [part, ..] = (time.0 / SECOND).to_le_bytes();
        User::Nobody(part)
    }

    /// The user of this name.
    pub fn new(text: &str) -> User {
        let half = |half: &[u8]| {
            half.iter().try_fold(0, |number: u64, digit| match digit {
                b'0'..=b'9' => Some(number << 4 | u64::from(digit - b'0')),
                b'a'..=b'f' => Some(number << 4 | u64::from(digit - b'a' + 10)),
                _ => None,
            })
        };
        match text.as_bytes().split_at_checked(16) {
            Some((high, low)) if low.len() == 16 => match (half(high), half(low)) {
                (Some(high), Some(low)) => User::Digits(high, low),
                _ => User::Text(text.into()),
            },
            _ => User::Text(text.into()),
        }
    }
}

impl Name {
    /// This name.
    pub fn new(text: &str) -> Name {
        if text == "user_engagement" { Name::UserEngagement } else { Name::Other(text.into()) }
    }
}

/// The time of an event: in the format that it was given, or in microseconds, or as a day and a time.
fn event_time(fields: &Fields<'_>, context: &Context) -> Result<Moment, Refusal> {
    let text = fields.text(1);
    let is_written_out = text.get(4) == Some(&b'-') && text.contains(&b':');
    if is_written_out || context.mapping.rule(1).is_some_and(|rule| rule.time.is_some()) {
        return fields.time(1, context);
    }
    let micros = whole_number(text).ok_or_else(|| fields.refusal(1, "is no number of microseconds"))?;
    Moment::checked(micros).map_err(|error| fields.refusal(1, error))
}

/// The user that a field names.
fn user(fields: &Fields<'_>, place: usize, time: Moment) -> Result<User, Refusal> {
    if fields.text(place).is_empty() { Ok(User::nobody(time)) } else { fields.id_text(place).map(User::new) }
}

/// An integer; exports by way of data frames write it as a float.
fn whole_number(text: &[u8]) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then(|| cut(number))
}

/// A float without its fraction; beyond the range of integers, the nearest one.
#[expect(clippy::cast_possible_truncation, reason = "callers check the range")]
fn cut(number: f64) -> i64 {
    number.floor() as i64
}

/// An offset within a day of UTC; others are nobody's.
fn offset_seconds(text: &[u8]) -> Option<i32> {
    const DAY_SECONDS: u32 = 86_400;
    let seconds = i32::try_from(whole_number(text)?).ok()?;
    (seconds.unsigned_abs() < DAY_SECONDS).then_some(seconds)
}

#[derive(Deserialize)]
struct Parameter<'a> {
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    string_value: Option<&'a RawValue>,
    #[serde(borrow)]
    int_value: Option<&'a RawValue>,
    #[serde(borrow)]
    float_value: Option<&'a RawValue>,
    #[serde(borrow)]
    double_value: Option<&'a RawValue>,
}

/// What is read from a list of parameters: the first engagement that can be read, and whether the event is valuable.
fn parameters(list: &[u8]) -> Result<(Option<Engagement>, bool), serde_json::Error> {
    if list.is_empty() {
        return Ok((None, false));
    }
    let parameters: Vec<Parameter<'_>> = serde_json::from_slice(list)?;
    let mut engagement = None;
    for value in parameters.iter().filter(|parameter| parameter.key == "engagement_time_msec").filter_map(|parameter| parameter.value) {
        engagement = engagement.or(engagement_of(value)?);
    }
    Ok((engagement, parameters.iter().any(|parameter| parameter.key.ends_with("_event"))))
}

/// The first of a value's kinds that is a number of milliseconds. What is no object has none; one with a kind twice is an error.
fn engagement_of(value: &RawValue) -> Result<Option<Engagement>, serde_json::Error> {
    if !value.get().starts_with('{') {
        return Ok(None);
    }
    let value: Value<'_> = serde_json::from_str(value.get())?;
    let kinds = [value.string_value, value.int_value, value.float_value, value.double_value];
    Ok(kinds.into_iter().flatten().find_map(|kind| milliseconds(objects::plain_text(kind.get()).trim_ascii())).map(Engagement))
}

/// Milliseconds as microseconds; `None` beyond 292,000 years.
fn milliseconds(text: &str) -> Option<i64> {
    const MICROS_MAX: f64 = 9.2e18;
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(1_000);
    }
    let micros = text.parse::<f64>().ok()? * 1_000.0;
    (micros.abs() <= MICROS_MAX).then(|| cut(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::calendar::Calendar;
    use serde_json::json;

    fn read(line: &str) -> Result<Event, String> {
        let context = Context::new(Calendar::utc(), Event::FIELDS);
        Event::decode_json(line.as_bytes(), &context).map_err(Cow::into_owned)
    }

    /// The engagement under this value, and whether the event is valuable.
    fn micros_of(value: serde_json::Value) -> Option<i64> {
        let parameters = json!([{"key": "other", "value": 1}, {"key": "engagement_time_msec", "value": value}]);
        let line = json!({"event_name": "x", "event_timestamp": 1, "user_pseudo_id": "ann", "event_params": parameters}).to_string();
        read(&line).unwrap().engagement.map(|engagement| engagement.0)
    }

    #[test]
    fn an_exported_event() {
        let line = r#"{"event_date":"20191230","event_timestamp":"1577740515306005","event_name":"user_engagement","event_params":[
            {"key":"engaged_session_event","value":{"int_value":"1"}},{"key":"engagement_time_msec","value":{"int_value":"25622"}}],
            "user_pseudo_id":"0741d2813527501f6c9fd2c66bd59c0e","time_zone_offset_seconds":"-18000","version":"11.3.1"}"#;
        let event = Event {
            time: Moment(1_577_740_515_306_005),
            user: User::Digits(0x0741_d281_3527_501f, 0x6c9f_d2c6_6bd5_9c0e),
            name: Name::UserEngagement,
            engagement: Some(Engagement(25_622_000)),
            valuable: true,
            offset_seconds: Some(-18_000),
            user_id: User::Nobody(227),
        };
        assert_eq!(read(line), Ok(event));
    }

    #[test]
    fn engagement_comes_in_many_forms() {
        for (value, micros) in [
            (json!({"int_value": "3000"}), Some(3_000_000)),
            (json!({"int_value": 3000}), Some(3_000_000)),
            (json!({"string_value": " 3000 "}), Some(3_000_000)),
            (json!({"float_value": "2999.9999"}), Some(2_999_999)),
            (json!({"double_value": 3e3}), Some(3_000_000)),
            (json!({"double_value": -0.0015}), Some(-2)),
            (json!({"string_value": null, "int_value": null, "float_value": null, "double_value": 7.0}), Some(7_000)),
            (json!({"int_value": 5, "string_value": "4"}), Some(4_000)),
            (json!({"int_value": 5, "string_value": "much"}), Some(5_000)),
            (json!({"int_value": {"n": 5}}), None),
            (json!({"double_value": "NaN"}), None),
            (json!({"double_value": "inf"}), None),
            (json!({"int_value": "9223372036854775807"}), None),
            (json!({}), None),
            (json!(null), None),
            (json!(3000), None),
        ] {
            assert_eq!(micros_of(value.clone()), micros, "{value}");
        }
    }

    #[test]
    fn only_what_matters_is_read_and_its_absence_is_refused() {
        let read = |rest: &str| read(&format!(r#"{{"user_properties":[[["\ud800"]]],"items":null{rest}}}"#));
        let all = r#","event_name":"x","event_timestamp":1.5e15,"user_pseudo_id":"\u0061nn","time_zone_offset_seconds":"86400""#;
        let event = read(all).unwrap();
        assert_eq!((event.user, event.time, event.offset_seconds), (User::Text("ann".into()), Moment(1_500_000_000_000_000), None));
        for (rest, reason) in [
            (r#","event_name":"x","user_pseudo_id":"ann""#, "event_timestamp is missing"),
            (r#","event_timestamp":1,"event_name":null,"user_pseudo_id":"ann""#, "event_name is missing"),
            (
                r#","event_name":"x","event_timestamp":"2019-12-29","user_pseudo_id":"ann""#,
                "event_timestamp \"2019-12-29\" is no number of microseconds",
            ),
            (r#","event_name":"x","event_timestamp":1.5,"user_pseudo_id":"ann""#, "event_timestamp \"1.5\" is no number of microseconds"),
            (
                r#","event_name":"x","event_timestamp":-1,"user_pseudo_id":"ann""#,
                "event_timestamp \"-1\" lies outside the years 1970 to 2200",
            ),
            (
                r#","event_name":"x","event_timestamp":1,"user_pseudo_id":"ann","event_params":{"key":1}"#,
                "event_params \"{\\\"key\\\":1}\" is no list of parameters",
            ),
            (
                r#","event_name":"x","event_timestamp":1,"event_params":[{"key":"engagement_time_msec","value":{"int_value":1,"int_value":2}}]"#,
                "event_params \"[{\\\"key\\\":\\\"engagement_time_msec\\\",\\\"value\\\":{\\\"int_value\\\":1,\\\"int_v\"… is no list of parameters",
            ),
        ] {
            assert_eq!(read(rest), Err(reason.to_string()));
        }
    }

    #[test]
    fn users_and_offsets_have_two_places() {
        let read = |rest: &str| {
            let event = read(&format!(r#"{{"event_name":"x","event_timestamp":2000000{rest}}}"#)).unwrap();
            (event.user, event.user_id, event.offset_seconds)
        };
        let (nobody, ann, bob) = (User::Nobody(2), User::Text("ann".into()), User::Text("bob".into()));
        for (rest, expected) in [
            ("", (nobody.clone(), nobody.clone(), None)),
            (r#","user_pseudo_id":null,"user_id":"bob""#, (nobody.clone(), bob.clone(), None)),
            (r#","user_pseudo_id":"ann","user_id":" ""#, (ann.clone(), nobody.clone(), None)),
            (r#","user_pseudo_id":"ann","user_id":"bob""#, (ann.clone(), bob, None)),
            // As data frames write integers of a column with holes.
            (r#","user_pseudo_id":"7.0","user_id":7.0"#, (User::Text("7".into()), User::Text("7".into()), None)),
            (r#","user_pseudo_id":"07.0","user_id":"7.5""#, (User::Text("07.0".into()), User::Text("7.5".into()), None)),
            (r#","device":{"category":"mobile","time_zone_offset_seconds":"-18000"}"#, (nobody.clone(), nobody.clone(), Some(-18_000))),
            (
                r#","device":{"time_zone_offset_seconds":60},"time_zone_offset_seconds":"3600""#,
                (nobody.clone(), nobody.clone(), Some(3_600)),
            ),
            (r#","device":{"time_zone_offset_seconds":60},"time_zone_offset_seconds":null"#, (nobody.clone(), nobody.clone(), Some(60))),
            (r#","device":{"time_zone_offset_seconds":null}"#, (nobody.clone(), nobody.clone(), None)),
            (r#","device":"mobile""#, (nobody.clone(), nobody.clone(), None)),
        ] {
            assert_eq!(read(rest), expected, "{rest}");
        }
    }

    #[test]
    fn packed_users_are_told_from_all_others() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(User::new(digits), User::Digits(0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef));
        for other in [&digits[1..], &digits.to_uppercase(), "é123456789abcdef0123456789abcde", "0123456789abcdeg0123456789abcdef", ""] {
            assert_eq!(User::new(other), User::Text(other.into()));
        }
    }
}
