//! Sizes rounded to parts of a doubling: what is rounded so is the same in every unit that is a power of two of another.
//!
//! The exponent of a float is a whole number beside its digits, and only the digits go through a logarithm. So twice the size is
//! exactly one doubling more, which the logarithm of the whole would not promise.

use crate::records::power_of_two;

/// The parts of a doubling that sizes of noise are rounded to. In two units they differ by one of them at most, which is 3.5 %.
///
/// With eighths it would be 9 %, and a late measurement would have a tenth fewer scored again.
pub(crate) const PARTS: i16 = 20;

/// `parts` · log2 of a normal number above 0, rounded.
fn in_parts(size: f64, parts: i32) -> i32 {
    let bits = size.to_bits();
    // A normal number above 0 has no sign, and 11 bits of exponent; its digits are those of a number from 1 to 2.
    #[allow(clippy::cast_possible_truncation)]
    let exponent = (bits >> 52) as i32 - 1023;
    let digits = f64::from_bits(bits & ((1 << 52) - 1) | 1.0f64.to_bits());
    #[allow(clippy::cast_possible_truncation)]
    let rest = (f64::from(parts) * digits.log2()).round() as i32;
    exponent * parts + rest
}

/// `parts` · log2 of a normal number above 0, rounded: some thousand at most.
pub(crate) fn rounded(size: f64, parts: i16) -> i16 {
    #[allow(clippy::cast_possible_truncation)]
    let rounded = in_parts(size, parts.into()) as i16;
    rounded
}

/// log2 of the root of a normal number above 0, in 1024ths, rounded.
pub(crate) fn fine(square: f64) -> i32 {
    in_parts(square, 512)
}

/// The size of so many [`PARTS`].
pub(crate) fn size(count: i16) -> f64 {
    (f64::from(count.rem_euclid(PARTS)) / f64::from(PARTS)).exp2() * power_of_two(count.div_euclid(PARTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubling_is_exactly_one() {
        for n in 0..1_000 {
            let plain = 1.0 + f64::from(n) / 1e3;
            for power in [-800, -41, -1, 1, 40, 900] {
                let count = rounded(plain, PARTS) + PARTS * power;
                assert_eq!(rounded(plain * power_of_two(power), PARTS), count);
                assert_eq!(size(count), size(rounded(plain, PARTS)) * power_of_two(power));
            }
        }
    }

    #[test]
    fn a_root_is_measured_finely() {
        assert_eq!([1.0, 4.0, 16.0, 0.25, 2.0].map(fine), [0, 1024, 2048, -1024, 512]);
        assert_eq!(fine(1.7 * power_of_two(80)), fine(1.7) + 40 * 1024);
        assert!((f64::from(fine(10.0)) / 1024.0 - 10f64.sqrt().log2()).abs() < 1e-3);
    }

    #[test]
    fn what_is_rounded_is_near() {
        for plain in [1.0, 1.04, 1.05, 1.9999, 0.3, 1e-100, 1e100, 12.5] {
            let ratio = size(rounded(plain, PARTS)) / plain;
            assert!((ratio.log2()).abs() <= 0.5 / f64::from(PARTS) + 1e-12, "{plain} {ratio}");
            assert_eq!(rounded(plain * plain, PARTS / 2), rounded(plain, PARTS), "{plain}");
        }
        assert_eq!((size(0), size(PARTS), size(-3 * PARTS)), (1.0, 2.0, 0.125));
    }
}
