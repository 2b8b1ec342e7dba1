//! Numbers as people read them.

/// Digits in groups of three: `12345` is `12,345`.
pub(crate) fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(&number.to_string()), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups_of_three() {
        for (digits, expected) in [("", ""), ("1", "1"), ("123", "123"), ("1234", "1,234"), ("123456", "123,456"), ("1234567", "1,234,567")]
        {
            assert_eq!(super::grouped(digits), expected);
        }
        for (number, expected) in [(0, "0 rows"), (1, "1 row"), (1234, "1,234 rows")] {
            assert_eq!(super::counted(number, "row"), expected);
        }
    }
}
