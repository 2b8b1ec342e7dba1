//! Days, and the clock of a zone: which day a moment lies on, and which moment a local time names.
//!
//! `chrono-tz` knows the zones; a [`Calendar`] asks it once for all changes of the clock between
//! 1970 and 2200 and keeps them as a sorted list, so that a conversion is a search among a few hundred
//! numbers , not a walk through rules.

use crate::time::{self, DAY, Moment, SECOND, TimeError, Written};
use chrono::{Offset, TimeZone};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A local day: days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(pub i32);

impl Day {
    /// The day `days` later.
    #[must_use]
    pub fn plus(self, days: i32) -> Day {
        Day(self.0.saturating_add(days))
    }

    /// Year, month and day of the month.
    pub fn civil(self) -> (i64, i64, i64) {
        time::civil_from_days(i64::from(self.0))
    }

    /// The day of a date that exists.
    pub fn from_civil(year: i64, month: i64, day: i64) -> Day {
        Day(narrow(time::days_from_civil(year, month, day)))
    }
}

/// `YYYY-MM-DD`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// A zone's clock between 1970 and 2200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    name: String,
    /// From this moment on (microseconds), the offset from UTC (microseconds); the first entry starts before all times.
    changes: Vec<(i64, i64)>,
}

/// How a written time names its moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Naming {
    /// It names this moment and no other.
    #[default]
    Unique,
    /// A local time that occurs twice: the first occurrence is meant.
    Ambiguous,
    /// A local time that does not exist: moved forward by the gap.
    Missing,
}

/// The zone is not in the IANA database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither an IANA time zone such as Europe/Berlin nor an offset such as +02:00")]
pub struct UnknownZone(pub String);

/// The zones that were asked for: to look through one takes longer than all else that a start does.
static ZONES: Mutex<BTreeMap<&'static str, Vec<(i64, i64)>>> = Mutex::new(BTreeMap::new());

/// All changes of the clock of a zone, as a calendar has them.
fn changes(zone: chrono_tz::Tz) -> Vec<(i64, i64)> {
    if zone == chrono_tz::UTC {
        return Calendar::utc().changes;
    }
    let offset_at = |seconds: i64| -> i64 {
        let utc = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc();
        i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    };
    // No zone changes its clock twice within six hours, so a step of that length meets each change once.
    const STEP: i64 = 6 * 3600;
    let first = -2 * 86_400;
    let last = Moment::LAST.0 / SECOND + 2 * 86_400;
    let mut changes = vec![(i64::MIN, offset_at(first) * SECOND)];
    let mut offset = offset_at(first);
    let mut from = first;
    while from < last {
        let until = from + STEP;
        let next = offset_at(until);
        if next != offset {
            let (mut before, mut after) = (from, until);
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if offset_at(middle) == offset { before = middle } else { after = middle }
            }
            changes.push((after * SECOND, next * SECOND));
            offset = next;
        }
        from = until;
    }
    changes
}

impl Calendar {
    /// UTC, which never changes.
    pub fn utc() -> Calendar {
        Calendar { name: "UTC".into(), changes: vec![(i64::MIN, 0)] }
    }

    /// A clock that is always `seconds` ahead of UTC.
    pub fn fixed(seconds: i64) -> Calendar {
        Calendar { name: format!("UTC{seconds:+}s"), changes: vec![(i64::MIN, seconds * SECOND)] }
    }

    /// The zone named `name` in the IANA database, or a fixed offset such as `+02:00`.
    pub fn named(name: &str) -> Result<Calendar, UnknownZone> {
        if let Some(seconds) = time::offset_seconds(name.as_bytes()) {
            return Ok(Calendar { name: name.into(), ..Calendar::fixed(seconds) });
        }
        let zone: chrono_tz::Tz = name.parse().map_err(|_| UnknownZone(name.into()))?;
        let mut zones = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = zones.entry(zone.name()).or_insert_with(|| changes(zone)).clone();
        Ok(Calendar { name: name.into(), changes })
    }

    /// The name that the zone was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn offset(&self, moment: Moment) -> i64 {
        let after = self.changes.partition_point(|(from, _)| *from <= moment.0);
        self.changes.get(after.saturating_sub(1)).map_or(0, |(_, offset)| *offset)
    }

    /// The clock on the wall at a moment: microseconds since 1970-01-01T00:00:00 by it.
    pub fn wall(&self, moment: Moment) -> i64 {
        moment.0 + self.offset(moment)
    }

    /// The local day of a moment.
    pub fn day(&self, moment: Moment) -> Day {
        Day(narrow((moment.0 + self.offset(moment)).div_euclid(DAY)))
    }

    /// The day whose span, from its start to its end, a moment lies in. That is its local day, but for the zones that put their
    /// clocks back just after midnight: the minutes that are shown once more belong to the day that has begun.
    pub fn day_spanning(&self, moment: Moment) -> Day {
        let day = self.day(moment);
        if self.changes.len() > 1 && self.end(day) <= moment { day.plus(1) } else { day }
    }

    /// The first moment of a local day (of a day that starts with a gap: the end of the gap).
    pub fn start(&self, day: Day) -> Moment {
        self.resolve(i64::from(day.0) * DAY)
    }

    /// The first moment of the day after.
    pub fn end(&self, day: Day) -> Moment {
        self.start(day.plus(1))
    }

    /// The moment of a local time, given as microseconds by the clock on the wall.
    ///
    /// A time that occurs twice is its first occurrence; one that does not exist is moved forward by the gap.
    pub fn resolve(&self, wall: i64) -> Moment {
        // The candidates are the offsets in force around that time; clocks are never a day away from UTC, and no gap is longer.
        let low = self.changes.partition_point(|(from, _)| *from <= wall - 2 * DAY).saturating_sub(1);
        let mut before = None;
        for (index, (from, offset)) in self.changes.iter().enumerate().skip(low) {
            let candidate = wall - offset;
            let until = self.changes.get(index + 1).map_or(i64::MAX, |(until, _)| *until);
            if candidate < *from {
                // Past the end of the period before and not yet in this one: a gap. The offset before it
                // names a moment after the change, which is the local time moved forward by the gap.
                return Moment(wall - before.unwrap_or(*offset));
            }
            if candidate < until {
                return Moment(candidate);
            }
            before = Some(*offset);
        }
        Moment(wall - before.unwrap_or(0))
    }

    /// Reads a time; one without an offset is local to this calendar.
    pub fn parse(&self, text: &[u8]) -> Result<Moment, TimeError> {
        self.moment(time::parse(text)?)
    }

    /// The moment of a time as written.
    pub fn moment(&self, written: Written) -> Result<Moment, TimeError> {
        match written.offset {
            Some(offset) => Moment::checked(written.wall - offset * SECOND),
            None => Moment::checked(self.resolve(written.wall).0),
        }
    }

    /// As [`Calendar::parse`]; reports too whether the text names that moment alone.
    pub fn parse_naming(&self, text: &[u8]) -> Result<(Moment, Naming), TimeError> {
        self.moment_naming(time::parse(text)?)
    }

    /// As [`Calendar::moment`]; reports too whether what is written names that moment alone.
    pub fn moment_naming(&self, written: Written) -> Result<(Moment, Naming), TimeError> {
        match written.offset {
            Some(offset) => Ok((Moment::checked(written.wall - offset * SECOND)?, Naming::Unique)),
            None => {
                let moment = Moment::checked(self.resolve(written.wall).0)?;
                Ok((moment, self.naming(written.wall, moment)))
            }
        }
    }

    /// Whether the local time `wall`, which was resolved to `moment`, names it alone.
    fn naming(&self, wall: i64, moment: Moment) -> Naming {
        if self.wall(moment) != wall {
            return Naming::Missing;
        }
        // It occurs again when the clock, after its next change, shows it after that change.
        let next = self.changes.partition_point(|(from, _)| *from <= moment.0);
        match self.changes.get(next) {
            Some((from, offset)) if wall - offset >= *from => Naming::Ambiguous,
            _ => Naming::Unique,
        }
    }
}

/// Days of the accepted years fit in 32 bits; what lies outside them is held at the edge.
fn narrow(days: i64) -> i32 {
    i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{LocalResult, NaiveDate};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    const ZONES: [&str; 9] = [
        "UTC",
        "Europe/Berlin",
        "America/Chicago",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "America/Sao_Paulo",
        "Pacific/Apia",
        "Africa/Casablanca",
        "America/St_Johns",
    ];

    #[test]
    fn clock_changes_of_berlin() {
        let berlin = Calendar::named("Europe/Berlin").unwrap();
        let parse = |text: &str| berlin.parse(text.as_bytes()).unwrap().to_string();
        assert_eq!(parse("2024-03-31 01:59:59"), "2024-03-31T00:59:59Z");
        assert_eq!(parse("2024-03-31 02:30:00"), "2024-03-31T01:30:00Z", "does not exist: moved forward by the gap");
        assert_eq!(parse("2024-03-31 03:00:00"), "2024-03-31T01:00:00Z");
        assert_eq!(parse("2024-10-27 02:30:00"), "2024-10-27T00:30:00Z", "occurs twice: the first");
        assert_eq!(parse("2024-10-27 03:00:00"), "2024-10-27T02:00:00Z");
        assert_eq!(parse("2024-10-27 02:30:00+01:00"), "2024-10-27T01:30:00Z");
        let naming = |text: &str| berlin.parse_naming(text.as_bytes()).unwrap().1;
        let of = |texts: [&str; 4]| texts.map(naming);
        let spring = ["2024-03-31 01:59:59", "2024-03-31 02:00:00", "2024-03-31 02:59:59", "2024-03-31 03:00:00"];
        assert_eq!(of(spring), [Naming::Unique, Naming::Missing, Naming::Missing, Naming::Unique]);
        let autumn = ["2024-10-27 01:59:59", "2024-10-27 02:00:00", "2024-10-27 02:59:59", "2024-10-27 03:00:00"];
        assert_eq!(of(autumn), [Naming::Unique, Naming::Ambiguous, Naming::Ambiguous, Naming::Unique]);
        assert_eq!(naming("2024-10-27 02:30:00+01:00"), Naming::Unique, "with an offset nothing is open");
        let day = Day::from_civil(2024, 3, 31);
        assert_eq!(berlin.end(day).0 - berlin.start(day).0, 23 * time::HOUR);
        assert!(Calendar::named("Europe/Berln").is_err());
    }

    #[test]
    fn an_offset_is_a_zone_whose_clock_never_changes() {
        let calendar = Calendar::named("+05:30").unwrap();
        assert_eq!(calendar.parse(b"2024-03-01 08:00").unwrap().to_string(), "2024-03-01T02:30:00Z");
        assert_eq!(calendar.name(), "+05:30");
        assert_eq!(Calendar::named("-0330").unwrap().day(Moment(0)), Day(-1));
        for wrong in ["+25:00", "+1", "02:00", "+", "Z", "+02:00 "] {
            assert!(Calendar::named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_day_that_starts_with_a_gap_starts_at_its_end() {
        // Clocks in São Paulo went forward at midnight of 2017-10-15.
        let calendar = Calendar::named("America/Sao_Paulo").unwrap();
        let day = Day::from_civil(2017, 10, 15);
        assert_eq!(calendar.start(day).to_string(), "2017-10-15T03:00:00Z");
        assert_eq!(calendar.day(calendar.start(day)), day);
        assert_eq!(calendar.day(calendar.start(day).plus(-1)), day.plus(-1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..crate::testing::proptests() })]
        #[test]
        fn agrees_with_chrono_tz(zone in 0..ZONES.len(), seconds in 0i64..5_000_000_000) {
            static CALENDARS: LazyLock<Vec<Calendar>> = LazyLock::new(|| ZONES.iter().map(|zone| Calendar::named(zone).unwrap()).collect());
            let calendar = &CALENDARS[zone];
            let tz: chrono_tz::Tz = ZONES[zone].parse().unwrap();
            let utc = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
            let local = utc.with_timezone(&tz).naive_local();
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            prop_assert_eq!(i64::from(calendar.day(Moment(seconds * SECOND)).0), (local.date() - epoch).num_days());
            // The same number read as a local time.
            let wall = utc.naive_utc();
            let expected = match tz.from_local_datetime(&wall) {
                LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => t.timestamp(),
                LocalResult::None => {
                    let before = tz.from_local_datetime(&(wall - chrono::TimeDelta::hours(30))).earliest().unwrap();
                    seconds - i64::from(before.offset().fix().local_minus_utc())
                }
            };
            prop_assert_eq!(calendar.resolve(seconds * SECOND).0, expected * SECOND);
            let naming = match tz.from_local_datetime(&wall) {
                LocalResult::Single(_) => Naming::Unique,
                LocalResult::Ambiguous(..) => Naming::Ambiguous,
                LocalResult::None => Naming::Missing,
            };
            prop_assert_eq!(calendar.naming(seconds * SECOND, Moment(expected * SECOND)), naming);
            let local = local.and_utc().timestamp();
            prop_assert_eq!(calendar.wall(Moment(seconds * SECOND)), local * SECOND);
        }
    }
}
