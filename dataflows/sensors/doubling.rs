//! Sizes rounded to parts of a doubling: what is rounded so is the same in every unit that is a power of two of another.
//!
//! The exponent of a float is a whole number beside its digits, and only the digits go through a logarithm. So twice the size is
//! exactly one doubling more, which the logarithm of the whole would not promise.

use crate::records::power_of_two;

/// `parts` · log2 of a normal number above 0, rounded.
pub(crate) fn rounded(size: f64, parts: i16) -> i16 {
    let bits = size.to_bits();
    // A normal number above 0 has no sign, and 11 bits of exponent; its digits are those of a number from 1 to 2.
    #[allow(clippy::cast_possible_truncation)]
    let exponent = (bits >> 52) as i16 - 1023;
    let digits = f64::from_bits(bits & ((1 << 52) - 1) | 1.0f64.to_bits());
    #[allow(clippy::cast_possible_truncation)]
    let rest = (f64::from(parts) * digits.log2()).round() as i16;
    exponent * parts + rest
}

/// 2^(`count` / `parts`).
pub(crate) fn size(count: i16, parts: i16) -> f64 {
    (f64::from(count.rem_euclid(parts)) / f64::from(parts)).exp2() * power_of_two(count.div_euclid(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubling_is_exactly_one() {
        for (n, parts) in (0..1_000).zip([8, 20].into_iter().cycle()) {
            let plain = 1.0 + f64::from(n) / 1e3;
            for power in [-800, -41, -1, 1, 40, 900] {
                assert_eq!(rounded(plain * power_of_two(power), parts), rounded(plain, parts) + parts * power);
                assert_eq!(size(rounded(plain, parts) + parts * power, parts), size(rounded(plain, parts), parts) * power_of_two(power));
            }
        }
    }

    #[test]
    fn what_is_rounded_is_near() {
        for plain in [1.0, 1.04, 1.05, 1.9999, 0.3, 1e-100, 1e100, 12.5] {
            let ratio = size(rounded(plain, 8), 8) / plain;
            assert!((ratio.log2()).abs() <= 1.0 / 16.0 + 1e-12, "{plain} {ratio}");
            assert_eq!(rounded(plain * plain, 4), rounded(plain, 8), "{plain}");
        }
        assert_eq!((size(0, 8), size(8, 8), size(-60, 20)), (1.0, 2.0, 0.125));
    }
}
