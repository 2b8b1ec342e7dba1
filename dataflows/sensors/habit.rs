//! What a sensor does now and then: the bound that unusual is measured by, beside the scale.
//!
//! Of the 28 days that end with an hour, 24 hours before, and so on, the largest size of each; and of these the k-th largest, where k is 2
//! and one more by each ten days that are known: 4 of 28. What happens every week is so no news.
//!
//! It is at most three times the median of the same days: where true spikes come every few days, they are found all the same.

use crate::size::Size;

/// The days that are looked at.
pub(crate) const HABIT_DAYS: usize = 28;
/// k of the first days, and the days for which it grows by one.
const LEAST: usize = 2;
const GROWS: usize = 10;
/// How many times the median of days.
const USUAL: f64 = 3.0;

/// The habit from the largest sizes of days; 0 where nothing is known.
pub(crate) fn habit(days: impl Iterator<Item = Size>) -> f64 {
    let mut largest = [Size::NONE; HABIT_DAYS];
    let mut known = 0;
    for (slot, size) in largest.iter_mut().zip(days.filter(|size| size.is_known())) {
        *slot = size;
        known += 1;
    }
    let Some(largest) = largest.get_mut(..known) else { return 0.0 };
    largest.sort_unstable();
    let at = |place: usize| largest.get(place).map_or(0.0, |size| size.get());
    if known == 0 {
        return 0.0;
    }
    at(known.saturating_sub(LEAST + known / GROWS)).min(USUAL * at((known - 1) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(days: &[f64]) -> f64 {
        // Digits enough for small whole numbers.
        habit(days.iter().map(|size| Size::of(*size)))
    }

    #[test]
    fn what_happens_every_week_is_a_habit() {
        let mut days = vec![2.0; 28];
        assert_eq!(of(&days), 2.0);
        (0..3).for_each(|week| days[week * 7] = 5.0);
        assert_eq!(of(&days), 2.0, "three of 28 are no habit");
        days[21] = 5.0;
        assert_eq!(of(&days), 5.0, "four are");
        days.iter_mut().filter(|size| **size == 5.0).for_each(|size| *size = 50.0);
        assert_eq!(of(&days), 6.0, "three times what is usual at most");
    }

    #[test]
    fn few_days_and_none() {
        assert_eq!(of(&[]), 0.0);
        assert_eq!(of(&[f64::NAN; 28]), 0.0);
        assert_eq!(of(&[7.0]), 7.0);
        assert_eq!(of(&[7.0, 3.0]), 3.0);
        assert_eq!(of(&[7.0, 6.0, 3.0, f64::NAN, 3.0]), 6.0, "the second");
        assert_eq!(of(&[9.0, 8.0, 7.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]), 7.0, "of ten the third");
    }
}
