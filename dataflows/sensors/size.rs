//! Sizes that are kept for every hour: the upper half of a float, four bytes for eight.
//!
//! Sign, exponent and the first 20 digits: a size is less than a millionth below what it was made of, and twice a number is exactly twice
//! its size. So what is compared, sorted and summed up as sizes has no unit. As whole numbers they sort as the floats do.
//!
//! Medians are found by a sorting network over rows of sizes side by side: the same few comparisons whatever the sizes are.

/// The size of something that is not negative, or [`Size::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(i32);

impl Default for Size {
    fn default() -> Self {
        Size::NONE
    }
}

impl Size {
    /// Not known. Sorts behind all others.
    pub const NONE: Size = Size(i32::MAX);

    /// The size of a number that is not negative; of NaN, none.
    pub fn of(number: f64) -> Size {
        // A float that is not negative has no sign bit, so its upper half is a positive number.
        #[allow(clippy::cast_possible_truncation)]
        let upper = (number.to_bits() >> 32) as i32;
        if number >= 0.0 { Size(upper) } else { Size::NONE }
    }

    /// As a float; NaN where it is not known.
    pub fn get(self) -> f64 {
        // The upper half of i32::MAX is that of a NaN.
        f64::from_bits(u64::from(self.0.cast_unsigned()) << 32)
    }

    /// Whether it is known.
    pub fn is_known(self) -> bool {
        self != Size::NONE
    }
}

/// A sorting network: pairs of places to be put in order, one after the other.
const OF_7: [(usize, usize); 16] =
    [(0, 6), (2, 3), (4, 5), (0, 2), (1, 4), (3, 6), (0, 1), (2, 5), (3, 4), (1, 2), (4, 6), (2, 3), (4, 5), (1, 2), (3, 4), (5, 6)];

/// The medians of columns of 7 sizes each, of those that are known; NaN where none is.
pub fn medians_of_7<const COLUMNS: usize>(mut rows: [[Size; COLUMNS]; 7]) -> [f64; COLUMNS] {
    for (low, high) in OF_7 {
        // The places of a network are below its number of rows.
        let Ok([low, high]) = rows.get_disjoint_mut([low, high]) else { continue };
        for (low, high) in low.iter_mut().zip(high) {
            (*low, *high) = ((*low).min(*high), (*low).max(*high));
        }
    }
    let mut medians = [f64::NAN; COLUMNS];
    for (column, median) in medians.iter_mut().enumerate() {
        let at = |place: usize| rows.get(place).and_then(|row| row.get(column)).map_or(f64::NAN, |size| size.get());
        // Those that are not known are the last.
        let known = rows.iter().filter(|row| row.get(column).is_some_and(|size| size.is_known())).count();
        *median = match known {
            0 => f64::NAN,
            _ if known % 2 == 1 => at(known / 2),
            _ => 0.5 * (at(known / 2 - 1) + at(known / 2)),
        };
    }
    medians
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_sort_as_numbers_and_double_exactly() {
        let numbers = [0.0, 1e-240, 3.7e-12, 0.1, 1.0, 1.0000012, 7.5, 1e100, 1e240];
        for pair in numbers.windows(2) {
            assert!(Size::of(pair[0]) < Size::of(pair[1]), "{pair:?}");
        }
        for number in numbers {
            let size = Size::of(number).get();
            assert!(size <= number && size >= number * (1.0 - 1e-6), "{number} {size}");
            for power in [-40, 1, 40] {
                assert_eq!(Size::of(number * 2f64.powi(power)).get(), size * 2f64.powi(power));
            }
        }
        assert!(!Size::of(f64::NAN).is_known() && Size::NONE.get().is_nan() && Size::of(1e300) < Size::NONE);
    }

    /// A network that sorts all columns of zeros and ones sorts everything.
    #[test]
    fn the_network_sorts() {
        fn check<const ROWS: usize>(network: &[(usize, usize)]) {
            for bits in 0..1u32 << ROWS {
                let mut rows: Vec<u32> = (0..ROWS).map(|row| bits >> row & 1).collect();
                for &(low, high) in network {
                    (rows[low], rows[high]) = (rows[low].min(rows[high]), rows[low].max(rows[high]));
                }
                assert!(rows.is_sorted(), "{bits:b}");
            }
        }
        check::<7>(&OF_7);
    }

    #[test]
    fn medians_of_those_that_are_known() {
        let rows = |column: [f64; 7]| column.map(|number| [Size::of(number), Size::NONE]);
        let none = f64::NAN;
        assert_eq!(medians_of_7(rows([5.0, 1.0, 4.0, 2.0, 3.0, 7.0, 6.0]))[0], 4.0);
        assert_eq!(medians_of_7(rows([none, 1.0, 4.0, none, none, none, none]))[0], 2.5);
        assert!(medians_of_7(rows([none; 7])).iter().all(|median| median.is_nan()));
    }
}
