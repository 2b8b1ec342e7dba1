//! N-day windows from ranges, without N copies.
//!
//! "On any of the last N days" turns a set of days into one whose ranges all end N - 1 days later: a gap shorter than N
//! disappears. So the windows of all days are again a few ranges, and
//! they are found from the gaps: from a gap `[from, until)` of the days themselves remains `[from + N - 1, until)`, if anything.

use crate::calendar::Day;

/// How many days a window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Window {
    /// The last N days, from 1.
    Days(u16),
    /// All days so far: the key has been seen.
    Ever,
}

/// A gap of a set of days: from (`None`: the beginning of time) and until (`None`: for ever).
pub type Gap = (Option<Day>, Option<Day>);

/// The ends that remain of a gap within `window`: -1 where coverage ends, +1 where it starts again.
pub fn gap_ends(window: Window, (from, until): Gap, mut give: impl FnMut(Day, isize)) {
    let from = match (from, window) {
        (None, _) => None,
        (Some(_), Window::Ever) => return,
        (Some(day), Window::Days(days)) => Some(day.plus(i32::from(days) - 1)),
    };
    if let (Some(from), Some(until)) = (from, until)
        && until <= from
    {
        return;
    }
    if let Some(from) = from {
        give(from, -1);
    }
    if let Some(until) = until {
        give(until, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        #[test]
        fn equals_looking_back_from_every_day(days in proptest::collection::btree_set(0i32..60, 0..20), window in 1u16..10, ever in any::<bool>()) {
            let days: Vec<i32> = days.into_iter().collect();
            let mut gaps: Vec<Gap> = Vec::new();
            let mut from = None;
            for day in &days {
                if from != Some(Day(*day)) { gaps.push((from, Some(Day(*day)))); }
                from = Some(Day(day + 1));
            }
            gaps.push((from, None));
            let window = if ever { Window::Ever } else { Window::Days(window) };
            let mut ends = Vec::new();
            gaps.into_iter().for_each(|gap| gap_ends(window, gap, |day, diff| ends.push((day.0, diff))));
            let set: BTreeSet<i32> = days.into_iter().collect();
            for day in -5..90 {
                let covered: isize = ends.iter().filter(|(end, _)| *end <= day).map(|(_, diff)| diff).sum();
                let first = match window { Window::Days(days) => day - i32::from(days) + 1, Window::Ever => i32::MIN };
                prop_assert_eq!(covered, isize::from(set.range(first..=day).next().is_some()));
            }
        }
    }
}
