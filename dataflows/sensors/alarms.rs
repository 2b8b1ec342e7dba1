//! All that stands out in a sensor's measurements together: alarms, anomalies and incidents.
//!
//! - **Unusual** is a reading that is 1 or more times its bound: the larger of 0.8 · threshold · σ and the sensor's habit
//!   ([`crate::habit`]); or a flat line or gap from the threshold on; or an hour by its level or spread ([`crate::contrast`]), which then
//!   is what its last reading is.
//! - **Alarm** (`incident_start`): an unusual reading, flat line or gap that is at least twice all of the 12 hours before. Levels and
//!   spreads alarm by the same rule among themselves, and only where no reading has alarmed in the 12 hours before.
//! - **Anomaly**, a row: every reading whose score is the threshold or more, and every alarm. The score of a reading is in σ; that of a
//!   level or a spread that alarms is half the threshold times what it is over its bound. **Severity** = 1 + floor(log2(score /
//!   threshold)), 0 of an alarm below.
//! - **Incident**: unusual readings and alarms with no more than 24 hours between one and the next, where the highest score is 0.9 times
//!   the threshold at least. Its kind is that of its peak. So an alarm may be the beginning of nothing, and an incident starts with one.
//!   What is below a quarter of its peak belongs to it for 3 days: until forecasts have learnt what a jump has changed.
//! - **Kind**: a level that alarms is a `level_shift`, a spread `collective`. A point becomes `collective` in a stretch that the piecewise
//!   regression absorbs, and else `level_shift` from where it jumps on: from an hour before the first line of the incident that starts
//!   `threshold` s away from where the line before leads, until the end of the incident. Segments name anomalies, and make none.

use crate::anomalies::{Kind, Scored};
use crate::contrast::{BESIDE, Beside, Distance};
use crate::leaf::{self, Hour};
use crate::segments::Pieces;
use retally_core::time::{DAY, HOUR, Moment};
use std::collections::VecDeque;

/// How long an alarm is quiet, but for what is worse.
const QUIET: i64 = 12 * HOUR;
/// How much worse.
const WORSE: f64 = 2.0;
/// The largest unusualness.
const UNUSUAL_MAX: f64 = (1 << 20) as f64;
/// How long what is so much less than an incident's peak belongs to it.
const ECHO: i64 = 3 * DAY;
const ECHO_SHARE: f64 = 0.25;
/// The part of the threshold that an incident's peak reaches.
const PEAK_SHARE: f64 = 0.9;

/// What stands out in an hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standout {
    /// Readings that may be unusual, and the hour's last where its level or spread may be.
    pub rows: Vec<Scored>,
    /// The level and the spread, where they may be unusual.
    pub beside: [Option<Distance>; 2],
    /// The habit of readings.
    pub habit: f64,
    /// The habits of the level and the spread.
    pub habits: [f64; 2],
}

/// By what a reading alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// By itself.
    Reading,
    /// By the level of its hours.
    Level,
    /// By their spread.
    Spread,
}

/// An anomaly among the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anomaly {
    /// The measurement and its score; `kind` is final.
    pub scored: Scored,
    /// 1 from the threshold on, and 1 more with each doubling; 0 below.
    pub severity: u32,
    /// By what it alarms, where it does.
    pub alarm: Option<Channel>,
}

/// Anomalies that belong together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incident {
    /// The time of its first alarm.
    pub start: Moment,
    /// The time of its last unusual reading.
    pub end: Moment,
    /// How many anomalies there are from its start to its end.
    pub anomalies: u64,
    /// The highest score of its unusual readings and alarms. A reading that is habitual has a score too, and does not count here.
    pub peak_score: f64,
    /// The kind of the anomaly with it; of equal ones the first.
    pub kind: Kind,
}

/// How many times its bound something is.
fn over(size: f64, bound: f64) -> f64 {
    if size > 0.0 { (size / bound).min(UNUSUAL_MAX) } else { 0.0 }
}

/// What is as bad as this, and not half as bad as something that was there just before.
#[derive(Default)]
struct Rising {
    /// What is unusual, of the hours before; what is less than something later is left out.
    before: VecDeque<(Moment, f64)>,
}

impl Rising {
    /// Whether this alarms.
    fn alarms(&mut self, time: Moment, unusual: f64) -> bool {
        if unusual < 1.0 {
            return false;
        }
        while self.before.front().is_some_and(|(before, _)| time.0 - before.0 > QUIET) {
            self.before.pop_front();
        }
        let alarms = self.before.front().is_none_or(|(_, most)| unusual >= WORSE * most);
        while self.before.back().is_some_and(|(_, less)| *less <= unusual) {
            self.before.pop_back();
        }
        self.before.push_back((time, unusual));
        alarms
    }
}

/// The incident that is open.
struct OpenIncident {
    incident: Incident,
    /// Anomalies after its end so far.
    pending: u64,
}

impl OpenIncident {
    /// Whether something belongs to it.
    fn takes(&self, time: Moment, score: f64) -> bool {
        let after = time.0 - self.incident.end.0;
        after <= DAY || after <= ECHO && score < ECHO_SHARE * self.incident.peak_score
    }
}

/// The anomalies of a sensor, in the order of its measurements, and its incidents.
pub fn together<'a>(hours: impl Iterator<Item = &'a Standout>, pieces: &Pieces, threshold: f64) -> (Vec<Anomaly>, Vec<Incident>) {
    let mut anomalies: Vec<Anomaly> = Vec::new();
    let mut incidents: Vec<Incident> = Vec::new();
    let mut open: Option<OpenIncident> = None;
    let (mut readings, mut besides, mut last_alarm) = (Rising::default(), Rising::default(), None);
    let jumps: Vec<Moment> = jumps(pieces, threshold);
    let mut absorbed = pieces.absorbed.clone();
    absorbed.sort_unstable();
    let mut close = |open: Option<OpenIncident>| {
        incidents.extend(open.map(|open| open.incident).filter(|incident| incident.peak_score >= PEAK_SHARE * threshold));
    };
    for hour in hours {
        let count = hour.rows.len();
        for (place, row) in hour.rows.iter().enumerate() {
            let mut scored = *row;
            let time = scored.reading.time();
            let unusual = over(scored.distance(), scored.bound.max(hour.habit)).max(scored.rhythm / threshold);
            let beside = if place + 1 == count { farthest(hour) } else { None };
            let mut alarm = readings.alarms(time, unusual).then_some(Channel::Reading);
            if alarm.is_some() {
                last_alarm = Some(time);
            }
            if let Some((channel, beside)) = beside
                && besides.alarms(time, beside)
                && last_alarm.is_none_or(|last: Moment| time.0 - last.0 > QUIET)
            {
                alarm = Some(channel);
                let score = beside * threshold / 2.0;
                if score > scored.score {
                    scored.score = score;
                    scored.kind = if channel == Channel::Level { Kind::LevelShift } else { Kind::Collective };
                }
            }
            let is_member = unusual >= 1.0 || alarm.is_some();
            let goes_on = open.as_ref().is_some_and(|open| open.takes(time, scored.score));
            if is_member && !goes_on {
                close(open.take());
            }
            let start = open.as_ref().filter(|_| goes_on).map_or(time, |open| open.incident.start);
            if scored.kind == Kind::Point {
                scored.kind = named(time, start, &jumps, &absorbed);
            }
            let listed = alarm.is_some() || scored.score >= threshold;
            if listed {
                anomalies.push(Anomaly { scored, severity: severity(scored.score, threshold), alarm });
            }
            if is_member {
                let open = open.get_or_insert(OpenIncident {
                    incident: Incident { start: time, end: time, anomalies: 0, peak_score: 0.0, kind: scored.kind },
                    pending: 0,
                });
                open.incident.end = time;
                open.incident.anomalies += open.pending + u64::from(listed);
                open.pending = 0;
                if scored.score > open.incident.peak_score {
                    (open.incident.peak_score, open.incident.kind) = (scored.score, scored.kind);
                }
            } else if let Some(open) = open.as_mut() {
                open.pending += u64::from(listed);
            }
        }
    }
    close(open);
    (anomalies, incidents)
}

/// The more unusual of level and spread, and how much it is so.
fn farthest(hour: &Standout) -> Option<(Channel, f64)> {
    let there = BESIDE.into_iter().zip(hour.beside).zip(hour.habits);
    let over = there.filter_map(|((beside, distance), habit)| {
        let distance = distance?;
        let channel = if beside == Beside::Level { Channel::Level } else { Channel::Spread };
        Some((channel, over(distance.size, distance.bound.max(habit))))
    });
    over.reduce(|one, other| if other.1 > one.1 { other } else { one })
}

/// 1 + floor(log2(score / threshold)), 0 below the threshold.
fn severity(score: f64, threshold: f64) -> u32 {
    // By doubling, so that it is exact at powers of two.
    let (mut severity, mut bound) = (0, threshold);
    while score >= bound {
        severity += 1;
        bound *= 2.0;
    }
    severity
}

/// Where lines jump, in order.
fn jumps(pieces: &Pieces, threshold: f64) -> Vec<Moment> {
    let pairs = pieces.segments.iter().zip(pieces.segments.iter().skip(1));
    pairs.filter(|(line, next)| line.jump_to(next) >= threshold).map(|(_, next)| next.times.0).collect()
}

/// The kind of a point at `time` in an incident from `start` on.
fn named(time: Moment, start: Moment, jumps: &[Moment], absorbed: &[(Hour, Hour)]) -> Kind {
    let hour = leaf::hour(time);
    let from = absorbed.partition_point(|(first, _)| *first <= hour);
    // Absorbed stretches don't overlap unless one took another in.
    if absorbed.get(..from).unwrap_or_default().iter().rev().take(2).any(|(_, last)| hour <= *last) {
        return Kind::Collective;
    }
    let jump = jumps.partition_point(|jump| jump.0 < start.0 - HOUR);
    if jumps.get(jump).is_some_and(|jump| jump.0 <= time.0 + HOUR) { Kind::LevelShift } else { Kind::Point }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Model;
    use crate::records::{Reading, Value};
    use retally_core::calendar::Naming;
    use retally_core::time::SECOND;

    /// A reading with a score, under a σ of 1.
    fn row(minutes: i64, score: f64) -> Scored {
        let reading = Reading::new(Moment(minutes * 60 * SECOND), Naming::Unique, Value::new(score).unwrap());
        Scored { reading, expected: 0.0, score, kind: Kind::Point, model: Model::Level, bound: 4.0, rhythm: 0.0 }
    }

    fn standouts(rows: &[(i64, f64)]) -> Vec<Standout> {
        rows.iter().map(|(minutes, score)| Standout { rows: vec![row(*minutes, *score)], ..Standout::default() }).collect()
    }

    fn found(hours: &[Standout]) -> (Vec<(i64, u32, Option<Channel>)>, Vec<(i64, i64, u64)>) {
        let minutes = |time: Moment| time.0 / 60 / SECOND;
        let (anomalies, incidents) = together(hours.iter(), &Pieces::default(), 5.0);
        let anomalies = anomalies.iter().map(|one| (minutes(one.scored.reading.time()), one.severity, one.alarm));
        (anomalies.collect(), incidents.iter().map(|one| (minutes(one.start), minutes(one.end), one.anomalies)).collect())
    }

    #[test]
    fn severities_double() {
        assert_eq!([4.9, 5.0, 9.9, 10.0, 19.9, 20.0, 40.0].map(|score| severity(score, 5.0)), [0, 1, 1, 2, 2, 3, 4]);
        assert_eq!(severity(f64::MAX, 5.0), 1022);
    }

    #[test]
    fn what_is_twice_as_bad_alarms_and_what_goes_on_does_not() {
        let alarm = Some(Channel::Reading);
        let rows = [(0, 5.0), (10, 9.0), (20, 18.0), (30, 6.0), (740, 35.0), (741, 36.0), (1470, 5.0), (6000, 5.0)];
        let (anomalies, incidents) = found(&standouts(&rows));
        // At 740 the 18 of minute 20 is 12 hours ago exactly, and counts; at 741 it is gone, but not the 35.
        let expected = [
            (0, 1, alarm),
            (10, 1, None),
            (20, 2, alarm),
            (30, 1, None),
            (740, 3, None),
            (741, 3, None),
            (1470, 1, alarm),
            (6000, 1, alarm),
        ];
        assert_eq!(anomalies, expected);
        assert_eq!(incidents, [(0, 1470, 7), (6000, 6000, 1)]);
    }

    #[test]
    fn an_alarm_below_the_threshold_is_a_row_and_no_incident() {
        let alarm = Some(Channel::Reading);
        assert_eq!(found(&standouts(&[(0, 4.4), (10, 4.4)])), (vec![(0, 0, alarm)], vec![]));
        let (anomalies, incidents) = found(&standouts(&[(0, 4.4), (10, 4.4), (20, 5.0), (30, 4.2)]));
        assert_eq!(anomalies, [(0, 0, alarm), (20, 1, None)]);
        assert_eq!(incidents, [(0, 30, 2)], "it lasts as long as what is unusual");
        assert_eq!(found(&standouts(&[(0, 3.9)])), (vec![], vec![]));
    }

    #[test]
    fn the_echo_of_an_incident_belongs_to_it() {
        assert_eq!(found(&standouts(&[(0, 30.0), (3000, 7.0), (9000, 7.0)])).1, [(0, 3000, 2), (9000, 9000, 1)]);
        assert_eq!(found(&standouts(&[(0, 30.0), (3000, 8.0)])).1, [(0, 0, 1), (3000, 3000, 1)], "this is something else");
    }

    #[test]
    fn a_habit_makes_rows_and_neither_alarms_nor_incidents() {
        let mut hours = standouts(&[(0, 9.0), (600, 21.0), (1300, 9.0)]);
        hours.iter_mut().for_each(|hour| hour.habit = 20.0);
        let (anomalies, incidents) = found(&hours);
        assert_eq!(anomalies, [(0, 1, None), (600, 3, Some(Channel::Reading)), (1300, 1, None)]);
        assert_eq!(incidents, [(600, 600, 1)]);
    }

    #[test]
    fn levels_and_spreads_alarm_where_readings_did_not() {
        let distance = |size| Some(Distance { contrast: 0, size, bound: 1.0 });
        let hour = |minutes, score, beside: [Option<Distance>; 2]| Standout {
            rows: vec![row(minutes, 0.5), row(minutes + 1, score)],
            beside,
            ..Standout::default()
        };
        let hours = [
            hour(0, 0.5, [distance(2.0), distance(1.5)]),
            hour(60, 0.5, [distance(3.0), distance(4.0)]),
            hour(2000, 6.0, [distance(9.0), None]),
            hour(4000, 0.5, [None, distance(1.2)]),
        ];
        let (anomalies, incidents) = found(&hours);
        let [reading, level, spread] = [Channel::Reading, Channel::Level, Channel::Spread].map(Some);
        assert_eq!(anomalies, [(1, 1, level), (61, 2, spread), (2001, 1, reading), (4001, 0, spread)]);
        assert_eq!(incidents, [(1, 61, 2), (2001, 2001, 1)], "a spread a little over its bound is no incident");
        let (anomalies, _) = together(hours.iter(), &Pieces::default(), 5.0);
        assert_eq!(
            anomalies.iter().map(|one| (one.scored.kind, one.scored.score)).collect::<Vec<_>>(),
            [(Kind::LevelShift, 5.0), (Kind::Collective, 10.0), (Kind::Point, 6.0), (Kind::Collective, 3.0)]
        );
    }
}
