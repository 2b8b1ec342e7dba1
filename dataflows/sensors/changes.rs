//! What has changed of a sensor's rows: only these are written as rows, and compared as such.
//!
//! A late measurement changes few of a long list, and these lie together: what is the same at both ends is left out.

use crate::alarms::{Anomaly, Incident};
use crate::differences::differences;
use crate::segments::Segment;
use crate::sensor::Whole;
use crate::tables::{self, Tail};
use crate::unusual::Stretch;

/// The rows that came (1) and went (-1).
pub(crate) fn changes(before: &Whole, after: &Whole, mut give: impl FnMut(&Tail, isize)) {
    let mut rows = [before, after].map(|whole| Vec::from_iter(tables::summary_row(whole)));
    add(&mut rows, &before.segments, &after.segments, segment, tables::segment_row);
    add(&mut rows, &before.anomalies, &after.anomalies, anomaly, tables::anomaly_row);
    add(&mut rows, &before.incidents, &after.incidents, incident, tables::incident_row);
    add(&mut rows, &before.unusual, &after.unusual, stretch, tables::stretch_row);
    rows.iter_mut().for_each(|rows| rows.sort_unstable());
    let [before, after] = &rows;
    differences(before, after, &mut give);
}

/// Adds the rows of what is between what is the same at both ends. `bits` returns all that a row is made of, as numbers: floats that are
/// equal may be written otherwise.
fn add<T, const BITS: usize>(rows: &mut [Vec<Tail>; 2], before: &[T], after: &[T], bits: fn(&T) -> [u64; BITS], row: fn(&T) -> Tail) {
    let same = |(one, other): &(&T, &T)| bits(one) == bits(other);
    let head = before.iter().zip(after).take_while(same).count();
    let (before, after) = (before.get(head..).unwrap_or_default(), after.get(head..).unwrap_or_default());
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
    for (rows, list) in rows.iter_mut().zip([before, after]) {
        rows.extend(list.iter().rev().skip(tail).map(row));
    }
}

fn segment(one: &Segment) -> [u64; 10] {
    let moments = &one.moments;
    let [n, x, y, xx, xy, yy] = [moments.n, moments.x, moments.y, moments.xx, moments.xy, moments.yy].map(f64::to_bits);
    let times = (one.times.0.0.cast_unsigned(), one.times.1.0.cast_unsigned());
    [n, x, y, xx, xy, yy, times.0, times.1, one.measurements, one.noise.to_bits()]
}

fn anomaly(one: &Anomaly) -> [u64; 6] {
    let scored = &one.scored;
    let kinds = u64::from(one.alarm.is_some()) | (scored.kind as u64) << 8 | (scored.model as u64) << 16;
    let time = scored.reading.time().0.cast_unsigned();
    let value = scored.reading.value.get().to_bits();
    [time, value, scored.expected.to_bits(), scored.score.to_bits(), one.severity.into(), kinds]
}

fn incident(one: &Incident) -> [u64; 5] {
    [one.start.0.cast_unsigned(), one.end.0.cast_unsigned(), one.anomalies, one.peak_score.to_bits(), one.kind as u64]
}

fn stretch(one: &Stretch) -> [u64; 3] {
    [u64::from(one.start.cast_unsigned()), u64::from(one.width.cast_unsigned()), one.score.to_bits()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomalies::Kind;
    use retally_core::time::Moment;

    #[test]
    fn the_rows_that_differ_come_and_go() {
        let incident = |start: i64| Incident { start: Moment(start), end: Moment(start), anomalies: 1, peak_score: 6.0, kind: Kind::Point };
        let whole = |starts: &[i64]| Whole { incidents: starts.iter().map(|start| incident(*start)).collect(), ..Whole::default() };
        for (before, after) in [
            (vec![], vec![1, 2]),
            (vec![1, 2, 3, 4], vec![1, 2, 9, 4]),
            (vec![1, 2, 3], vec![2, 3]),
            (vec![1, 1, 2], vec![1, 2]),
            (vec![5], vec![5]),
            (vec![1, 2], vec![]),
        ] {
            let (before, after) = (whole(&before), whole(&after));
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            changes(&before, &after, |tail, diff| found.push((tail.clone(), diff)));
            differences(&tables::tails(&before), &tables::tails(&after), |tail, diff| expected.push((tail.clone(), diff)));
            assert_eq!(found, expected);
        }
    }
}
