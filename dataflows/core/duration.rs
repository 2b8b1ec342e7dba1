//! Durations as settings have them: a number and a unit, `500ms`, `90m`, `12h`, `2d`.

use crate::definition::{SettingError, Settings};
use crate::time::{DAY, HOUR, SECOND};

/// The number, as text, and the unit in microseconds.
pub fn number_and_unit(text: &str) -> Option<(&str, i64)> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count());
    let unit = match unit.trim_start() {
        "ms" => 1_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    Some((number, unit))
}

/// A setting of a whole number and a unit, in microseconds. `like` is what the error has for examples: `500ms, 3s or 1m`.
pub fn setting_micros(settings: &Settings, name: &str, like: &str) -> Result<i64, SettingError> {
    let micros = number_and_unit(settings.text(name)).and_then(|(number, unit)| number.parse::<i64>().ok()?.checked_mul(unit));
    micros.ok_or_else(|| settings.error(name, format!("is no duration such as {like}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let read = |text: &str| setting_micros(&Settings::default().with("wait", text), "wait", "1s or 2m");
        for (text, micros) in
            [("0s", 0), ("3s", 3 * SECOND), ("90m", 5_400 * SECOND), (" 2 d ", 2 * DAY), ("1500ms", 1_500_000), ("2 h", 2 * HOUR)]
        {
            assert_eq!(read(text), Ok(micros));
        }
        for text in ["", "12", "h", "-1h", "1.5h", "1w", "3 sec", "99999999999999999999d", "9223372036854775807d"] {
            assert_eq!(read(text).unwrap_err().to_string(), format!("--wait {text:?} is no duration such as 1s or 2m"));
        }
    }

    #[test]
    fn a_number_may_have_a_fraction_where_one_is_wanted() {
        assert_eq!(number_and_unit("1.5 s"), Some(("1.5", SECOND)));
        assert_eq!(number_and_unit("s"), Some(("", SECOND)));
        assert_eq!(number_and_unit("1e3s"), None);
    }
}
