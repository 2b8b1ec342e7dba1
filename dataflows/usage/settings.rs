//! What the settings mean.

use retally_core::contract::{SettingError, Settings};
use retally_core::duration;

/// The setting `max-session`, in microseconds: a whole number and a unit, or nothing.
pub fn max_session_micros(settings: &Settings) -> Result<Option<i64>, SettingError> {
    if settings.text("max-session").trim().is_empty() {
        return Ok(None);
    }
    duration::setting_micros(settings, "max-session", "90m, 12h or 2d").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::time::{DAY, SECOND};

    #[test]
    fn durations_have_a_unit() {
        let read = |text: &str| max_session_micros(&Settings::default().with("max-session", text)).map_err(|error| error.to_string());
        for (text, micros) in
            [("", None), ("0s", Some(0)), ("90m", Some(5_400 * SECOND)), (" 2 d ", Some(2 * DAY)), ("1500ms", Some(1_500_000))]
        {
            assert_eq!(read(text), Ok(micros));
        }
        for text in ["12", "h", "-1h", "1.5h", "1w", "99999999999999999999d", "9223372036854775807d"] {
            assert_eq!(read(text), Err(format!("--max-session {text:?} is no duration such as 90m, 12h or 2d")));
        }
    }
}
