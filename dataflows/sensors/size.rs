//! Sizes that are kept for every hour: the upper half of a float, four bytes for eight.
//!
//! Sign, exponent and the first 20 digits: a size is less than a millionth below what it was made of, and twice a number is exactly twice
//! its size. So what is compared, sorted and summed up as sizes has no unit. As whole numbers they sort as the floats do.
//!
//! Medians are found by a sorting network over columns of sizes side by side: the same few comparisons whatever the sizes are.

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

    /// The largest of those that are known.
    pub fn largest(sizes: &[Size]) -> Size {
        // After the greatest number comes the least: so what is not known is less than all others, and each step is the same.
        Size(sizes.iter().fold(i32::MIN, |most, size| most.max(size.0.wrapping_add(1))).wrapping_sub(1))
    }

    /// Whether it is known.
    pub fn is_known(self) -> bool {
        self != Size::NONE
    }
}

/// Sorts 7 by a network: the same comparisons whatever they are.
fn sorted_7<T: Copy + Ord>([mut a, mut b, mut c, mut d, mut e, mut f, mut g]: [T; 7]) -> [T; 7] {
    let order = |low: &mut T, high: &mut T| (*low, *high) = ((*low).min(*high), (*low).max(*high));
    order(&mut a, &mut g);
    order(&mut c, &mut d);
    order(&mut e, &mut f);
    order(&mut a, &mut c);
    order(&mut b, &mut e);
    order(&mut d, &mut g);
    order(&mut a, &mut b);
    order(&mut c, &mut f);
    order(&mut d, &mut e);
    order(&mut b, &mut c);
    order(&mut e, &mut g);
    order(&mut c, &mut d);
    order(&mut e, &mut f);
    order(&mut b, &mut c);
    order(&mut d, &mut e);
    order(&mut f, &mut g);
    [a, b, c, d, e, f, g]
}

/// The median of those of 7 sizes that are known; NaN where none is.
fn median_of_7(sizes: [Size; 7]) -> f64 {
    // Those that are not known are the last; of an even number that are, the median lies between two.
    let [first, second, third, fourth, fifth, sixth, seventh] = sorted_7(sizes);
    let choose = |size: Size, if_known: Size, otherwise: Size| if size.is_known() { if_known } else { otherwise };
    let lower = choose(seventh, fourth, choose(fifth, third, choose(third, second, first)));
    let upper = choose(sixth, fourth, choose(fourth, third, choose(second, second, first)));
    0.5 * (lower.get() + upper.get())
}

/// The medians of columns of 7 sizes each. The same steps for each column, so that processors do some at once.
pub fn medians_of_7<const COLUMNS: usize>(rows: [&[Size; COLUMNS]; 7]) -> [f64; COLUMNS] {
    let mut medians = [f64::NAN; COLUMNS];
    for (column, median) in medians.iter_mut().enumerate() {
        *median = median_of_7(rows.map(|row| row.get(column).copied().unwrap_or_default()));
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

    #[test]
    fn the_largest_of_those_that_are_known() {
        assert_eq!(Size::largest(&[Size::NONE, Size::of(1.0), Size::of(3.0), Size::of(0.0)]), Size::of(3.0));
        assert_eq!([Size::largest(&[Size::NONE; 24]), Size::largest(&[])], [Size::NONE; 2]);
    }

    /// A network that sorts all columns of zeros and ones sorts everything.
    #[test]
    fn the_network_sorts() {
        for bits in 0..1u32 << 7 {
            assert!(sorted_7([0, 1, 2, 3, 4, 5, 6].map(|row| bits >> row & 1)).is_sorted(), "{bits:b}");
        }
    }

    #[test]
    fn medians_of_those_that_are_known() {
        let none = f64::NAN;
        let median = |sizes: [f64; 7]| median_of_7(sizes.map(Size::of));
        assert_eq!(median([5.0, 1.0, 4.0, 2.0, 3.0, 7.0, 6.0]), 4.0);
        assert_eq!(median([5.0, 1.0, none, 2.0, 3.0, 7.0, 6.0]), 4.0);
        assert_eq!(median([5.0, 1.0, none, 2.0, none, 7.0, 6.0]), 5.0);
        assert_eq!(median([none, 1.0, 4.0, none, none, none, none]), 2.5);
        assert_eq!(median([none, none, none, none, none, 3.0, none]), 3.0);
        assert!(median([none; 7]).is_nan());
        let rows: [[Size; 2]; 7] = std::array::from_fn(|row| [Size::of(row as f64), Size::NONE]);
        assert!(matches!(medians_of_7(rows.each_ref()), [3.0, other] if other.is_nan()));
    }
}
