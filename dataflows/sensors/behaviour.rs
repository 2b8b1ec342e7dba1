//! What alarms and what does not, of sensors as there are: whole histories, and what is said of them.

use crate::alarms::Channel;
use crate::anomalies::Kind;
use crate::records::{Reading, Value};
use crate::sensor::{History, Rules, Whole, Work};
use retally_core::calendar::{Calendar, Naming};
use retally_core::time::{DAY, HOUR, Moment};

/// 2024-03-04T00:00:00Z, a Monday.
const START: i64 = 1_709_510_400_000_000;
/// Readings an hour.
const BY_HOUR: i64 = 6;

/// Between 0 and 1, always the same, about uniform.
fn uniform(n: i64, salt: u64) -> f64 {
    let mixed = (n.unsigned_abs() ^ salt << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 53) as f64
}

/// About normal, with a standard deviation of 1.
fn noise(n: i64) -> f64 {
    (0..12).map(|salt| uniform(n, salt)).sum::<f64>() - 6.0
}

/// What is found in days of readings of a function of their number and the hours since the first one.
fn found(days: i64, value: impl Fn(i64, f64) -> f64) -> Whole {
    let reading = |n: i64| {
        let time = Moment(START + n * HOUR / BY_HOUR);
        (Reading::new(time, Naming::Unique, Value::new(value(n, n as f64 / BY_HOUR as f64)).unwrap()), 1)
    };
    let rules = Rules { calendar: Calendar::utc(), threshold: 5.0 };
    let mut history = History::default();
    history.change(&mut (0..days * 24 * BY_HOUR).map(reading).collect(), &rules, &mut Work::default());
    history.whole(&rules, false)
}

/// The hours since the first reading, the kinds and the channels of alarms.
fn alarms(whole: &Whole) -> Vec<(i64, Kind, Channel)> {
    let hour = |time: Moment| (time.0 - START) / HOUR;
    whole.anomalies.iter().filter_map(|one| Some((hour(one.scored.reading.time()), one.scored.kind, one.alarm?))).collect()
}

#[test]
fn quiet_sensors_are_quiet() {
    let whole = found(60, |n, _| 20.0 + noise(n));
    assert!(whole.incidents.is_empty(), "{:?}", whole.incidents);
}

#[test]
fn a_jump_is_one_incident_from_its_first_reading_on() {
    let whole = found(40, |n, hours| noise(n) + if hours < 600.0 { 20.0 } else { 50.0 });
    let [incident] = whole.incidents.as_slice() else { panic!("{:?}", whole.incidents) };
    assert_eq!((incident.start, incident.kind), (Moment(START + 600 * HOUR), Kind::LevelShift));
    assert!(incident.end.0 - incident.start.0 < DAY, "{incident:?}");
    let first = whole.anomalies.iter().position(|one| one.scored.reading.time() == incident.start).unwrap();
    assert_eq!(whole.anomalies[first].alarm, Some(Channel::Reading));
}

#[test]
fn a_burst_is_one_incident_and_not_expected_the_day_after() {
    let burst = |hours: f64| if (520.0..530.0).contains(&hours) { 25.0 } else { 0.0 };
    let whole = found(40, |n, hours| 20.0 + noise(n) + burst(hours));
    let [incident] = whole.incidents.as_slice() else { panic!("{:?}", whole.incidents) };
    assert_eq!((incident.start, incident.kind), (Moment(START + 520 * HOUR), Kind::Collective));
    assert!(whole.segments.len() == 1 && incident.anomalies >= 20, "{incident:?}");
}

#[test]
fn a_level_that_moves_a_little_alarms_by_the_level() {
    // A little more than a standard deviation: no reading is far, but all of them are.
    let whole = found(40, |n, hours| 20.0 + 0.3 * noise(n).clamp(-2.0, 2.0) + if hours < 600.0 { 0.0 } else { 0.4 });
    let found: Vec<_> = alarms(&whole).into_iter().filter(|(_, _, channel)| *channel != Channel::Spread).collect();
    assert!(
        found.iter().any(|(hour, kind, channel)| (600..606).contains(hour) && *kind == Kind::LevelShift && *channel == Channel::Level),
        "{found:?}"
    );
    assert!(found.iter().all(|(hour, ..)| *hour >= 600), "{found:?}");
}

#[test]
fn noise_that_dies_alarms_by_the_spread() {
    let whole = found(40, |n, hours| 20.0 + noise(n) * if hours < 600.0 { 1.0 } else { 0.02 });
    let found = alarms(&whole);
    assert!(found.iter().any(|(hour, _, channel)| (600..610).contains(hour) && *channel == Channel::Spread), "{found:?}");
}

#[test]
fn what_happens_every_week_is_no_news() {
    // A spike every Monday at the same time.
    let spike = |n: i64, hours: f64| if n % BY_HOUR == 0 && hours % 168.0 == 9.0 { 30.0 } else { 0.0 };
    let whole = found(70, |n, hours| 20.0 + noise(n) + spike(n, hours));
    let weeks = |of: &dyn Fn(i64) -> bool| alarms(&whole).iter().filter(|(hour, ..)| hour % 168 == 9 && of(hour / 168)).count();
    assert_eq!(weeks(&|week| week == 1), 1, "the second one is news");
    assert!(weeks(&|week| week >= 5) <= 5, "{:?}", alarms(&whole));
}

#[test]
fn counts_with_heavy_tails_alarm_seldom() {
    // How often a name is mentioned: a few times, and now and then a hundred times as often.
    let count = |n: i64| (1.0 / (uniform(n, 3) + 1e-4)).powf(0.9).floor();
    let whole = found(60, |n, _| count(n));
    let rows = whole.anomalies.len();
    let alarms = alarms(&whole).into_iter().filter(|(hour, ..)| *hour > 14 * 24).count();
    assert!(rows > 60, "{rows} rows are far from what is expected");
    assert!(alarms * 3 < rows, "{alarms} alarms of {rows} rows");
}
