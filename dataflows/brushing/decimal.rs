//! Decimal numbers as text, exactly: `1700000000.25` seconds are 1,700,000,000,250,000,000 nanoseconds, with no float in between.

/// The number in `text` times 10 to the power of `digits`; what is left behind the point is cut.
///
/// The grammar is that of JSON numbers. `None` for anything else, and for what is too large.
pub fn scaled(text: &[u8], digits: i32) -> Option<i128> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let (number, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (text.get(..at)?, exponent(text.get(at + 1..)?)?),
        None => (text, 0),
    };
    let (whole, fraction) = match number.iter().position(|byte| *byte == b'.') {
        Some(at) => (number.get(..at)?, Some(number.get(at + 1..)?)),
        None => (number, None),
    };
    if whole.is_empty() || fraction.is_some_and(<[u8]>::is_empty) {
        return None;
    }
    let mut value: i128 = 0;
    // How many digits of the text, from the first, make the integer that is asked for.
    let wanted = i64::try_from(whole.len()).ok()? + i64::from(digits) + i64::from(exponent);
    let mut taken: i64 = 0;
    for byte in whole.iter().chain(fraction.unwrap_or_default()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        if taken < wanted {
            value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
            taken += 1;
        }
    }
    while value != 0 && taken < wanted {
        value = value.checked_mul(10)?;
        taken += 1;
    }
    Some(if negative { -value } else { value })
}

fn exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().try_fold(0i32, |value, digit| value.checked_mul(10)?.checked_add(i32::from(digit - b'0')))?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_cut() {
        let scaled = |text: &str, digits| scaled(text.as_bytes(), digits);
        assert_eq!(scaled("1700000000.25", 9), Some(1_700_000_000_250_000_000));
        assert_eq!(scaled("0.1", 15), Some(100_000_000_000_000));
        assert_eq!(scaled("-1.5", 0), Some(-1));
        assert_eq!(scaled("1.7e9", 9), Some(1_700_000_000_000_000_000));
        assert_eq!(scaled("12e-1", 3), Some(1_200));
        assert_eq!(scaled("1e-400", 9), Some(0));
        assert_eq!(scaled("0e400", 9), Some(0));
        assert_eq!(scaled("0.0000000019", 9), Some(1));
        assert_eq!(scaled("1234567890123456789.123456789123456789999", 15), Some(1_234_567_890_123_456_789_123_456_789_123_456));
        for text in ["", "-", ".5", "5.", "1e", "1e+", "1.2.3", "NaN", "inf", "1e400", "0x1", "1 ", "+1", "1e99999999999"] {
            assert_eq!(scaled(text, 9), None, "{text}");
        }
    }
}
