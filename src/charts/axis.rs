//! Where axes are marked, and with what.

use crate::numbers::grouped;
use retally_core::calendar::Day;

/// The vertical axis: its ends, and its marks from below.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) marks: Vec<(f64, String)>,
}

/// Marks at round values, five or so, that enclose all values from `low` to `high`. Counts are marked at whole numbers.
pub(super) fn values(low: f64, high: f64, counts: bool) -> Values {
    // The ends of what floats can hold leave no room for marks around them, nor for marks between.
    let within = |end: f64| if end.abs() < SMALLEST { 0.0 } else { end.clamp(-LARGEST, LARGEST) };
    let (low, high) = (within(low), within(high));
    // Values that hardly differ get room around them: marks between them could not be told apart, by floats either.
    let differ = high - low > 1e-6 * high.abs().max(low.abs());
    let room = 0.1 * low.abs();
    let (low, high) = match differ {
        true => (low, high),
        false if counts => (low - if low == 0.0 { 0.0 } else { room.max(1.0) }, high + room.max(1.0)),
        false => (low - room, high + if low == 0.0 { 1.0 } else { room }),
    };
    let step = step((high - low) / 5.0, counts);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    let unit = Unit::of(step, (first * step).abs().max((last * step).abs()));
    let mut marks = Vec::new();
    let mut place = first;
    while place <= last {
        marks.push((place * step, unit.text(place * step)));
        place += 1.0;
    }
    Values { low: first * step, high: last * step, marks }
}

/// Axes end here at the latest.
const LARGEST: f64 = 1e300;
/// Nearer to 0 is 0.
const SMALLEST: f64 = 1e-290;

/// The next of 1, 2, 2.5, 5 and 10 times a power of ten.
fn step(least: f64, counts: bool) -> f64 {
    if counts && least <= 1.0 {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    // A little less than the least is enough: logarithms are not exact.
    steps.into_iter().find(|step| *step >= least * 0.999_999 && (!counts || step.fract() == 0.0)).unwrap_or(power * 10.0)
}

/// How the numbers of an axis are written, all alike.
struct Unit {
    size: f64,
    suffix: String,
    decimals: usize,
}

impl Unit {
    fn of(step: f64, largest: f64) -> Unit {
        let (size, suffix) = match largest {
            // Too long to be read, or to have room.
            x if !(1e-4..1e21).contains(&x) => exponent(x),
            x if x >= 1e9 => (1e9, "bn".into()),
            x if x >= 1e6 => (1e6, "M".into()),
            // 2,500 reads better than 2.5k does.
            x if x >= 1e4 && step % 1e3 == 0.0 => (1e3, "k".into()),
            _ => (1.0, String::new()),
        };
        let mut scaled = step / size;
        let mut decimals = 0;
        while decimals < 9 && (scaled - scaled.round()).abs() > 1e-6 * scaled {
            scaled *= 10.0;
            decimals += 1;
        }
        Unit { size, suffix, decimals }
    }

    fn text(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        let digits = format!("{:.*}", self.decimals, (value / self.size).abs());
        let (whole, fraction) = digits.split_once('.').map_or((digits.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
        let sign = if value < 0.0 { "−" } else { "" };
        let point = if fraction.is_some() { "." } else { "" };
        format!("{sign}{}{point}{}{}", grouped(whole), fraction.unwrap_or(""), self.suffix)
    }
}

/// The power of a thousand that a number is a small multiple of.
fn exponent(number: f64) -> (f64, String) {
    #[allow(clippy::cast_possible_truncation, reason = "a finite number above 0")]
    let power = 3 * (number.log10() / 3.0).floor() as i32;
    (10f64.powi(power), format!("e{power}").replace('-', "−"))
}

/// How far apart the marks of the horizontal axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// This many days, from the first day on.
    Days(i32),
    /// Mondays, this many weeks apart.
    Weeks(i32),
    /// First days of months.
    Months(i64),
    /// First days of years.
    Years(i64),
}

impl Spacing {
    /// How far apart marks are, about.
    pub(super) fn days(self) -> i32 {
        match self {
            Spacing::Days(days) => days,
            Spacing::Weeks(weeks) => weeks * 7,
            Spacing::Months(months) => i32::try_from(months).unwrap_or(i32::MAX / 31) * 30,
            Spacing::Years(years) => i32::try_from(years).unwrap_or(i32::MAX / 366) * 365,
        }
    }
}

pub(super) const SPACINGS: [Spacing; 17] = [
    Spacing::Days(1),
    Spacing::Days(2),
    Spacing::Days(3),
    Spacing::Weeks(1),
    Spacing::Weeks(2),
    Spacing::Months(1),
    Spacing::Months(2),
    Spacing::Months(3),
    Spacing::Months(6),
    Spacing::Years(1),
    Spacing::Years(2),
    Spacing::Years(5),
    Spacing::Years(10),
    Spacing::Years(20),
    Spacing::Years(50),
    Spacing::Years(100),
    Spacing::Years(1000),
];

/// The marks of an axis of days, both ends included: the closest spacing whose texts have room. `widest` returns how
/// much room the longest of some texts takes.
pub(super) fn days(first: Day, last: Day, room: f64, widest: impl Fn(&[(Day, String)]) -> f64) -> Vec<(Day, String)> {
    let marks =
        |spacing| -> Vec<(Day, String)> { marked(first, last, spacing).into_iter().map(|day| (day, label(day, spacing))).collect() };
    let fits = |spacing| {
        let marks = marks(spacing);
        marks.len() as f64 * widest(&marks) <= room
    };
    let months = marked(first, last, Spacing::Months(1)).len();
    // Fortnights say less than months do where there are some.
    let good = |spacing: &Spacing| fits(*spacing) && !(*spacing == Spacing::Weeks(2) && months >= 4 && fits(Spacing::Months(1)));
    marks(SPACINGS.into_iter().find(good).unwrap_or(Spacing::Years(1000)))
}

/// Short names of months.
pub(super) const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn label(day: Day, spacing: Spacing) -> String {
    let (year, month, _) = day.civil();
    let name = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).copied().unwrap_or_default();
    match spacing {
        Spacing::Days(_) | Spacing::Weeks(_) => day.to_string(),
        Spacing::Months(_) => format!("{name} {year}"),
        Spacing::Years(_) => year.to_string(),
    }
}

/// The days of an axis that are marked.
pub(super) fn marked(first: Day, last: Day, spacing: Spacing) -> Vec<Day> {
    let (year, month, _) = first.civil();
    match spacing {
        Spacing::Days(step) => every(first, last, step),
        // Day 4 was a Monday.
        Spacing::Weeks(step) => every(first.plus((4 - first.0).rem_euclid(7 * step)), last, 7 * step),
        Spacing::Months(step) => {
            let from = year * 12 + (month - 1).div_euclid(step) * step;
            starts(first, last, (0..).map(|index| from + index * step))
        }
        Spacing::Years(step) => {
            let from = year.div_euclid(step) * step;
            starts(first, last, (0..).map(|index| (from + index * step) * 12))
        }
    }
}

fn every(first: Day, last: Day, step: i32) -> Vec<Day> {
    std::iter::successors(Some(first), |day| Some(day.plus(step))).take_while(|day| *day <= last).collect()
}

/// The first days of these months (counted from year 0) that lie within the axis.
fn starts(first: Day, last: Day, months: impl Iterator<Item = i64>) -> Vec<Day> {
    let days = months.map(|month| Day::from_civil(month.div_euclid(12), month.rem_euclid(12) + 1, 1));
    days.skip_while(|day| *day < first).take_while(|day| *day <= last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, counts: bool) -> String {
        let axis = values(low, high, counts);
        assert!(axis.low <= low && axis.high >= high, "{axis:?}");
        axis.marks.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn values_are_marked_at_round_numbers() {
        assert_eq!(labels(0.0, 0.0, true), "0 1");
        assert_eq!(labels(7.0, 7.0, true), "6 7 8");
        assert_eq!(labels(1e17, 1e17 + 16.0, true), "90,000,000bn 95,000,000bn 100,000,000bn 105,000,000bn 110,000,000bn 115,000,000bn");
        assert_eq!(labels(0.0, 3.0, true), "0 1 2 3");
        assert_eq!(labels(0.0, 12.0, true), "0 5 10 15");
        assert_eq!(labels(0.0, 1.0, false), "0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(labels(0.0, 4_800.0, true), "0 1,000 2,000 3,000 4,000 5,000");
        assert_eq!(labels(0.0, 61_234.0, true), "0 20k 40k 60k 80k");
        assert_eq!(labels(0.0, 12_000.0, true), "0 2,500 5,000 7,500 10,000 12,500");
        assert_eq!(labels(0.0, 1_100_000.0, true), "0 0.25M 0.50M 0.75M 1.00M 1.25M");
        assert_eq!(labels(0.0, 5e12, true), "0 1,000bn 2,000bn 3,000bn 4,000bn 5,000bn");
        assert_eq!(labels(-12.0, 3.0, false), "−15 −10 −5 0 5");
    }

    #[test]
    fn small_and_large_values_are_marked_as_others_are() {
        assert_eq!(labels(1.1e-7, 3.2e-7, false), "100e−9 150e−9 200e−9 250e−9 300e−9 350e−9");
        assert_eq!(labels(-2e-15, 2e-15, false), "−2e−15 −1e−15 0 1e−15 2e−15");
        assert_eq!(labels(0.001, 0.003, false), "0.0010 0.0015 0.0020 0.0025 0.0030");
        assert_eq!(labels(0.0, 3.5e25, false), "0 10e24 20e24 30e24 40e24");
        assert_eq!(labels(1.2e-7, 1.2e-7, false), "105e−9 110e−9 115e−9 120e−9 125e−9 130e−9 135e−9");
        assert_eq!(labels(0.0, 0.0, false), "0 0.2 0.4 0.6 0.8 1.0");
        for (low, high) in
            [(f64::MIN, f64::MAX), (0.0, 5e-324), (-5e-324, 1e-300), (f64::MAX, f64::MAX), (-1e-280, 1e300), (1e-290, 2e-290)]
        {
            let axis = values(low, high, false);
            assert!(axis.low < axis.high && (axis.high - axis.low).is_finite() && (2..12).contains(&axis.marks.len()), "{axis:?}");
            assert!(axis.marks.iter().all(|(_, text)| text.chars().count() < 12), "{axis:?}");
        }
    }

    fn dates(first: (i64, i64, i64), days_long: i32) -> String {
        let first = Day::from_civil(first.0, first.1, first.2);
        let marks = days(first, first.plus(days_long - 1), 100.0, |marks| marks.first().map_or(0.0, |(_, text)| text.len() as f64));
        marks.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn days_are_marked_from_single_days_to_centuries() {
        assert_eq!(dates((2026, 2, 27), 1), "2026-02-27");
        assert_eq!(dates((2026, 2, 27), 3), "2026-02-27 2026-02-28 2026-03-01");
        assert_eq!(dates((2026, 3, 1), 11), "2026-03-01 2026-03-03 2026-03-05 2026-03-07 2026-03-09 2026-03-11");
        assert_eq!(dates((2026, 3, 1), 40), "2026-03-02 2026-03-09 2026-03-16 2026-03-23 2026-03-30 2026-04-06");
        assert_eq!(dates((2026, 3, 1), 100), "Mar 2026 Apr 2026 May 2026 Jun 2026");
        assert_eq!(
            dates((2023, 5, 17), 3 * 365),
            "Jul 2023 Oct 2023 Jan 2024 Apr 2024 Jul 2024 Oct 2024 Jan 2025 Apr 2025 Jul 2025 Oct 2025 Jan 2026 Apr 2026"
        );
        assert_eq!(dates((2016, 1, 1), 3653), "2016 2017 2018 2019 2020 2021 2022 2023 2024 2025");
        assert_eq!(dates((1970, 1, 1), 84_000), (1970..2200).step_by(10).map(|year| year.to_string()).collect::<Vec<_>>().join(" "));
    }
}
