//! By hour: means of the 24 hours before, and their medians over seven days, which are what scales are made of.

use crate::seen::DAY;
use crate::size::{self, Size};

/// The days of a scale.
const SCALE_DAYS: usize = 7;
/// The hours of a day that must be known.
const DAY_LEAST: f64 = 4.0;

/// The means of each day of a window, found when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct DayMeans<const COLUMNS: usize> {
    days: Vec<Option<Box<[[Size; COLUMNS]; DAY]>>>,
}

impl<const COLUMNS: usize> DayMeans<COLUMNS> {
    /// Of so many days.
    pub(crate) fn new(days: usize) -> Self {
        DayMeans { days: vec![None; days] }
    }

    /// By hour of a day: the medians of the means of seven days, the last of which it is. `squares` are what means are of, by place.
    pub(crate) fn scales(&mut self, day: usize, squares: impl Fn(usize) -> [f64; COLUMNS]) -> [[f64; COLUMNS]; DAY] {
        let first = day.saturating_sub(SCALE_DAYS - 1);
        for (slot, day) in self.days.iter_mut().zip(0..).take(day + 1).skip(first) {
            slot.get_or_insert_with(|| Box::new(day_means(day, &squares)));
        }
        medians(std::array::from_fn(|back| self.days.get(day.checked_sub(back)?)?.as_deref()))
    }
}

/// By hour of a day: the means over the 24 hours before of what `squares` returns of a place, NaN where it is known of fewer than four.
fn day_means<const COLUMNS: usize>(day: usize, squares: impl Fn(usize) -> [f64; COLUMNS]) -> [[Size; COLUMNS]; DAY] {
    let add = |counts: &mut [f64; COLUMNS], sums: &mut [f64; COLUMNS], place: usize| {
        for ((count, sum), square) in counts.iter_mut().zip(sums).zip(squares(place)) {
            let known = !square.is_nan();
            *count += if known { 1.0 } else { 0.0 };
            *sum += if known { square } else { 0.0 };
        }
    };
    let mut ends = [([0.0; COLUMNS], [0.0; COLUMNS]); DAY];
    if let Some(before) = day.checked_sub(1) {
        let (mut counts, mut sums) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        for (slot, place) in ends.iter_mut().zip(before * DAY..day * DAY).rev() {
            add(&mut counts, &mut sums, place);
            *slot = (counts, sums);
        }
    }
    let (mut counts, mut sums) = ([0.0; COLUMNS], [0.0; COLUMNS]);
    let mut means = [[Size::NONE; COLUMNS]; DAY];
    for ((slot, (end_counts, end_sums)), place) in means.iter_mut().zip(ends).zip(day * DAY..) {
        for (((slot, end_count), end_sum), (count, sum)) in slot.iter_mut().zip(end_counts).zip(end_sums).zip(counts.iter().zip(sums)) {
            let count = end_count + count;
            if count >= DAY_LEAST {
                *slot = Size::of((end_sum + sum) / count);
            }
        }
        add(&mut counts, &mut sums, place);
    }
    means
}

/// By hour of a day: the medians of the means of seven days.
fn medians<const COLUMNS: usize>(days: [Option<&[[Size; COLUMNS]; DAY]>; SCALE_DAYS]) -> [[f64; COLUMNS]; DAY] {
    let days = days.map(|day| day.unwrap_or(&[[Size::NONE; COLUMNS]; DAY]).as_flattened().as_chunks::<DAY>().0);
    let mut medians = [[f64::NAN; COLUMNS]; DAY];
    for (place, slots) in medians.as_flattened_mut().as_chunks_mut::<DAY>().0.iter_mut().enumerate() {
        *slots = size::medians_of_7(days.map(|day| day.get(place).unwrap_or(&[Size::NONE; DAY])));
    }
    medians
}
