//! Long series as short ones that look the same: a picture has so many columns, and of what falls into one it shows no more than how it
//! comes in, how it leaves, and how far it goes.
//!
//! All are functions of the series alone, so that a picture is the same whichever way its values came.
//!
//! # Limits
//! A series keeps at most [`VALUES_MAX`] values: four for each of [`COLUMNS`].

use crate::time::Moment;

/// The columns of a picture: about as many as its plot has points.
pub const COLUMNS: i64 = 1_000;
/// Series of more values are reduced.
pub const VALUES_MAX: usize = 4_000;

/// The columns of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    first: i64,
    span: i128,
}

impl Columns {
    /// From the first time to the last, both in it.
    pub fn of(first: Moment, last: Moment) -> Columns {
        Columns { first: first.0, span: i128::from(last.0) - i128::from(first.0) + 1 }
    }

    /// The column of a time, from 0.
    pub fn place(&self, time: Moment) -> i64 {
        let place = (i128::from(time.0) - i128::from(self.first)) * i128::from(COLUMNS) / self.span;
        i64::try_from(place).unwrap_or(i64::MAX)
    }

    /// How long a column is.
    pub fn width_micros(&self) -> i64 {
        i64::try_from(self.span / i128::from(COLUMNS)).unwrap_or(i64::MAX)
    }
}

/// How long there must be nothing for a line to be broken: three times what all but a tenth of the intervals are at most, and what can be
/// seen. Times are in order.
pub fn silence_micros(times: impl Iterator<Item = Moment>) -> i64 {
    let (mut intervals, mut before, mut first) = (Vec::new(), None, None);
    for time in times {
        intervals.extend(before.map(|before: Moment| time.0.saturating_sub(before.0)));
        first = first.or(Some(time));
        before = Some(time);
    }
    let Some(((first, last), most)) = first.zip(before).zip(intervals.len().checked_sub(1)) else { return 0 };
    let (_, usual, _) = intervals.select_nth_unstable(most * 9 / 10);
    usual.saturating_mul(3).max(4 * Columns::of(first, last).width_micros())
}

/// A value as it is drawn: its time, itself, and whether the line to it is broken.
pub type Drawn = (Moment, f64, bool);

/// The values, or of long series the first, least, greatest and last of each column. Values are in order of time, and of equal times in
/// any that depends on nothing else.
pub fn reduced(values: impl Iterator<Item = (Moment, f64)> + Clone, silence_micros: i64) -> Vec<Drawn> {
    let mut before: Option<Moment> = None;
    let drawn = values.clone().map(move |(time, value)| {
        let breaks = before.is_some_and(|before| time.0.saturating_sub(before.0) > silence_micros);
        before = Some(time);
        (time, value, breaks)
    });
    let (Some(first), count) = (values.clone().next(), values.clone().count()) else { return Vec::new() };
    if count <= VALUES_MAX {
        return drawn.collect();
    }
    let columns = Columns::of(first.0, values.last().unwrap_or(first).0);
    let mut kept = Vec::new();
    let mut open: Option<(i64, Column)> = None;
    for value in drawn {
        let place = columns.place(value.0);
        match &mut open {
            Some((of, column)) if *of == place => column.take(value),
            _ => {
                let done = open.replace((place, Column::of(value)));
                done.into_iter().for_each(|(_, column)| column.keep(&mut kept));
            }
        }
    }
    open.into_iter().for_each(|(_, column)| column.keep(&mut kept));
    kept
}

/// What a band covers at a time: from, up to, and whether it is broken before.
pub type Covered = (Moment, f64, f64, bool);

/// The band, or of a long one all that it covers in each column, at the first time in it.
pub fn enveloped(band: Vec<Covered>) -> Vec<Covered> {
    let (Some(first), Some(last)) = (band.first(), band.last()) else { return band };
    if band.len() <= VALUES_MAX {
        return band;
    }
    let columns = Columns::of(first.0, last.0);
    let union = |part: &[Covered]| {
        let (first, rest) = part.split_first()?;
        Some(rest.iter().fold(*first, |all, next| (all.0, all.1.min(next.1), all.2.max(next.2), all.3)))
    };
    band.chunk_by(|one, next| columns.place(one.0) == columns.place(next.0)).filter_map(union).collect()
}

/// What is kept of a column: places among its values, and these.
struct Column {
    count: usize,
    first: Drawn,
    least: (usize, Drawn),
    greatest: (usize, Drawn),
    last: Drawn,
}

impl Column {
    fn of(value: Drawn) -> Column {
        Column { count: 1, first: value, least: (0, value), greatest: (0, value), last: value }
    }

    fn take(&mut self, value: Drawn) {
        // A break within a column can't be seen.
        let value = (value.0, value.1, false);
        if value.1 < self.least.1.1 {
            self.least = (self.count, value);
        }
        if value.1 > self.greatest.1.1 {
            self.greatest = (self.count, value);
        }
        self.last = value;
        self.count += 1;
    }

    fn keep(&self, kept: &mut Vec<Drawn>) {
        let mut all = vec![(0, self.first), self.least, self.greatest, (self.count - 1, self.last)];
        all.sort_by_key(|(place, _)| *place);
        all.dedup_by_key(|(place, _)| *place);
        kept.extend(all.into_iter().map(|(_, value)| value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_million_values_become_four_thousand_that_look_alike() {
        let value = |n: i64| (n as f64 / 3e4).sin() + if n == 700_003 { 50.0 } else { 0.0 };
        let values = (0..1_000_000).map(|n| (Moment(n * 300), value(n)));
        let kept = reduced(values.clone(), silence_micros(values.clone().map(|(time, _)| time)));
        assert!(kept.len() <= VALUES_MAX && kept.len() > 1_000, "{}", kept.len());
        assert!(kept.is_sorted_by_key(|(time, _, _)| *time) && kept.iter().all(|(_, _, breaks)| !breaks));
        assert!(kept.contains(&(Moment(700_003 * 300), value(700_003), false)), "what stands out is kept");
        let columns = Columns::of(Moment(0), Moment(999_999 * 300));
        for place in [0, 1, 499, 999] {
            let of = |values: &mut dyn Iterator<Item = (Moment, f64)>| {
                values
                    .filter(|(time, _)| columns.place(*time) == place)
                    .map(|(_, value)| value)
                    .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
            };
            let mut thin = kept.iter().map(|(time, value, _)| (*time, *value));
            assert_eq!(of(&mut thin), of(&mut values.clone()), "column {place}");
        }
    }

    #[test]
    fn a_long_band_keeps_what_it_covers() {
        let band: Vec<Covered> = (0..100_000).map(|n| (Moment(n * 10), -(n % 500) as f64, (n % 700) as f64, n == 50_000)).collect();
        let kept = enveloped(band.clone());
        assert_eq!((kept.len(), kept[0]), (1_000, (Moment(0), -99.0, 99.0, false)));
        assert_eq!(kept.iter().filter(|(_, _, _, breaks)| *breaks).count(), 1);
        assert_eq!(enveloped(band[..4_000].to_vec()), band[..4_000]);
    }

    #[test]
    fn lines_break_where_there_is_nothing_for_long() {
        let breaks = |times: &[i64]| -> Vec<i64> {
            let times: Vec<Moment> = times.iter().map(|time| Moment(time * 1_000)).collect();
            let kept = reduced(times.iter().map(|time| (*time, 0.0)), silence_micros(times.iter().copied()));
            kept.iter().filter(|(_, _, breaks)| *breaks).map(|(time, _, _)| time.0 / 1_000).collect()
        };
        let regular: Vec<i64> = (0..500).map(|n| n * 60).collect();
        assert_eq!(breaks(&regular), Vec::<i64>::new());
        let gap: Vec<i64> = regular.iter().copied().filter(|time| !(6_000..9_000).contains(time)).collect();
        assert_eq!(breaks(&gap), [9_000]);
        let nights: Vec<i64> = (0..10).flat_map(|day| (0..20).map(move |n| day * 86_400 + n * 600)).collect();
        assert_eq!(breaks(&nights), (1..10).map(|day| day * 86_400).collect::<Vec<_>>());
        assert_eq!((breaks(&[]), breaks(&[5]), breaks(&[5, 5]), breaks(&[0, 900_000])), (vec![], vec![], vec![], vec![]));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_of_the_series(gaps in proptest::collection::vec(0i64..50_000, 0..9_000), seed in 0i64..1_000) {
            let mut time = 0;
            let values: Vec<(Moment, f64)> = gaps.iter().enumerate().map(|(n, gap)| {
                time += gap;
                (Moment(time), ((n as i64 * 7919 + seed) % 1009) as f64)
            }).collect();
            let kept = reduced(values.iter().copied(), silence_micros(values.iter().map(|(time, _)| *time)));
            prop_assert!(kept.len() <= VALUES_MAX);
            let there: std::collections::BTreeSet<(Moment, u64)> = values.iter().map(|(time, value)| (*time, value.to_bits())).collect();
            prop_assert!(kept.iter().all(|(time, value, _)| there.contains(&(*time, value.to_bits()))));
            prop_assert_eq!(kept.first().map(|kept| (kept.0, kept.1)), values.first().copied());
            prop_assert_eq!(kept.last().map(|kept| (kept.0, kept.1)), values.last().copied());
            prop_assert_eq!(kept.len() == values.len() || values.len() > VALUES_MAX, true);
        }
    }
}
