//! Where an axis of continuous time is marked, and with what: from seconds to centuries, by the clock of a zone.
//!
//! A mark has a text, and some have another below it that says what the first leaves out: the date of an hour, the year of a
//! date. That stands below the first mark, and below those where it becomes another.

use super::axis::{MONTHS, SPACINGS, Spacing, marked};
use retally_core::calendar::{Calendar, Day};
use retally_core::time::{DAY, HOUR, Moment, SECOND};

/// A mark of the axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) time: Moment,
    pub(super) text: String,
    /// What the text leaves out, where it is another than at the mark before.
    pub(super) below: Option<String>,
}

/// How far apart marks are within a day.
const CLOCK: [i64; 17] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    2 * 60 * SECOND,
    5 * 60 * SECOND,
    10 * 60 * SECOND,
    15 * 60 * SECOND,
    30 * 60 * SECOND,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
];

/// No axis has more marks; it bounds what is tried.
const MARKS_MAX: i64 = 100;

/// The marks of an axis from `first` to `last`: the closest ones whose texts have room. `widest` returns how much room the longest of
/// some texts takes.
pub(super) fn marks(first: Moment, last: Moment, calendar: &Calendar, room: f64, widest: impl Fn(&[Mark]) -> f64) -> Vec<Mark> {
    let fits = |marks: &Vec<Mark>| marks.len() as f64 * widest(marks) <= room;
    let within_days = CLOCK.into_iter().filter(|step| (last.0 - first.0) / step <= MARKS_MAX);
    if let Some(marks) = within_days.map(|step| clock(first, last, calendar, step)).find(fits) {
        return marks;
    }
    let days = |spacing: Spacing| dates(first, last, calendar, spacing);
    let months = days(Spacing::Months(1));
    // Fortnights say less than months do where there are some.
    let good = |spacing: &Spacing| *spacing != Spacing::Weeks(2) || months.len() < 4 || !fits(&months);
    let spacings = SPACINGS.into_iter().filter(|spacing| i64::from(spacing.days()) * DAY * MARKS_MAX > last.0 - first.0);
    spacings.filter(good).map(days).find(fits).unwrap_or_else(|| days(Spacing::Years(1000)))
}

/// Marks at whole steps of the clock on the wall, none of them longer than a day.
fn clock(first: Moment, last: Moment, calendar: &Calendar, step: i64) -> Vec<Mark> {
    let start = calendar.wall(first).div_euclid(step) * step;
    let mut times: Vec<Moment> =
        (0..=(last.0 - first.0) / step + 2 + 2 * HOUR / step).map(|n| calendar.resolve(start + n * step)).collect();
    // Hours that the clock leaves out are those behind them.
    times.retain(|time| (first..=last).contains(time));
    times.dedup();
    let seconds = step < 60 * SECOND;
    let mut before = None;
    let text = |time: Moment| {
        let of_day = calendar.wall(time).rem_euclid(DAY) / SECOND;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        if seconds { format!("{hour:02}:{minute:02}:{second:02}") } else { format!("{hour:02}:{minute:02}") }
    };
    let mark = |time: Moment| {
        let day = calendar.day(time);
        let year =
            if before.is_none_or(|before: Day| before.civil().0 != day.civil().0) { format!(" {}", day.civil().0) } else { String::new() };
        let below = (before.replace(day) != Some(day)).then(|| format!("{} {}{year}", weekday(day), date(day)));
        Mark { time, text: text(time), below }
    };
    times.into_iter().map(mark).collect()
}

/// Marks at the beginnings of days.
fn dates(first: Moment, last: Moment, calendar: &Calendar, spacing: Spacing) -> Vec<Mark> {
    let mut year_before = None;
    let days = marked(calendar.day(first), calendar.day(last), spacing).into_iter().map(|day| (day, calendar.start(day)));
    let mark = |(day, time): (Day, Moment)| {
        let (year, month, _) = day.civil();
        let (text, below) = match spacing {
            Spacing::Days(_) | Spacing::Weeks(_) => (date(day), Some(year)),
            Spacing::Months(_) => (name(month).to_string(), Some(year)),
            Spacing::Years(_) => (year.to_string(), None),
        };
        let below = below.filter(|year| year_before.replace(*year) != Some(*year));
        Mark { time, text, below: below.map(|year| year.to_string()) }
    };
    days.filter(|(_, time)| (first..=last).contains(time)).map(mark).collect()
}

/// As `4 Mar`.
fn date(day: Day) -> String {
    let (_, month, of_month) = day.civil();
    format!("{of_month} {}", name(month))
}

fn name(month: i64) -> &'static str {
    usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).copied().unwrap_or_default()
}

fn weekday(day: Day) -> &'static str {
    // Day 0 was a Thursday.
    const NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    usize::try_from(day.0.rem_euclid(7)).ok().and_then(|place| NAMES.get(place)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of an axis on which a hundred letters have room, those below in brackets.
    fn axis(zone: &str, first: &str, last: &str) -> String {
        let calendar = Calendar::named(zone).unwrap();
        let time = |text: &str| calendar.parse(text.as_bytes()).unwrap();
        let widest = |marks: &[Mark]| marks.iter().map(|mark| mark.text.len()).max().map_or(0.0, |length| length as f64 + 2.0);
        let marks = marks(time(first), time(last), &calendar, 100.0, widest);
        assert!(marks.iter().is_sorted_by_key(|mark| mark.time));
        let text = |mark: Mark| mark.text + &mark.below.map(|below| format!(" ({below})")).unwrap_or_default();
        marks.into_iter().map(text).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn from_a_minute_to_centuries() {
        for (first, last, marks) in [
            (
                "2024-02-29T23:59:10Z",
                "2024-02-29T23:59:50Z",
                "23:59:10 (Thu 29 Feb 2024) | 23:59:15 | 23:59:20 | 23:59:25 | 23:59:30 | 23:59:35 | 23:59:40 | 23:59:45 | 23:59:50",
            ),
            (
                "2024-02-29T23:20:00Z",
                "2024-03-01T00:20:00Z",
                "23:20 (Thu 29 Feb 2024) | 23:25 | 23:30 | 23:35 | 23:40 | 23:45 | 23:50 | 23:55 | 00:00 (Fri 1 Mar) | 00:05 | 00:10 | 00:15 | 00:20",
            ),
            (
                "2024-12-31T08:11:00Z",
                "2025-01-02T02:00:00Z",
                "09:00 (Tue 31 Dec 2024) | 12:00 | 15:00 | 18:00 | 21:00 | 00:00 (Wed 1 Jan 2025) | 03:00 | 06:00 | 09:00 | 12:00 | 15:00 | 18:00 | 21:00 | 00:00 (Thu 2 Jan)",
            ),
            (
                "2024-03-01T08:11:00Z",
                "2024-03-05T12:00:00Z",
                "12:00 (Fri 1 Mar 2024) | 00:00 (Sat 2 Mar) | 12:00 | 00:00 (Sun 3 Mar) | 12:00 | 00:00 (Mon 4 Mar) | 12:00 | 00:00 (Tue 5 Mar) | 12:00",
            ),
            (
                "2024-12-25T08:11:00Z",
                "2025-01-05T12:00:00Z",
                "26 Dec (2024) | 27 Dec | 28 Dec | 29 Dec | 30 Dec | 31 Dec | 1 Jan (2025) | 2 Jan | 3 Jan | 4 Jan | 5 Jan",
            ),
            ("2024-03-01T00:00:00Z", "2024-04-12T00:00:00Z", "4 Mar (2024) | 11 Mar | 18 Mar | 25 Mar | 1 Apr | 8 Apr"),
            ("2024-08-10T00:00:00Z", "2025-04-12T00:00:00Z", "Sep (2024) | Oct | Nov | Dec | Jan (2025) | Feb | Mar | Apr"),
            (
                "1970-01-01T00:00:00Z",
                "2200-12-31T23:59:59Z",
                "1980 | 2000 | 2020 | 2040 | 2060 | 2080 | 2100 | 2120 | 2140 | 2160 | 2180 | 2200",
            ),
        ] {
            assert_eq!(axis("UTC", first, last), marks);
        }
    }

    #[test]
    fn by_the_clock_on_the_wall() {
        // 02:00 is left out in March, and comes twice in October.
        assert_eq!(
            axis("Europe/Berlin", "2024-03-31T00:30:00", "2024-03-31T10:00:00"),
            "01:00 (Sun 31 Mar 2024) | 03:00 | 04:00 | 05:00 | 06:00 | 07:00 | 08:00 | 09:00 | 10:00"
        );
        assert_eq!(axis("Europe/Berlin", "2024-10-26T00:00:00", "2024-10-27T12:00:00").matches("00:00").count(), 2);
        assert_eq!(axis("Asia/Kathmandu", "2024-10-26T00:00:00", "2024-10-26T04:00:00").split(" | ").count(), 9);
    }
}
