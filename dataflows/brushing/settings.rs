//! What the settings of the dataflow mean.

use retally_core::calendar::Calendar;
use retally_core::contract::{Setting, SettingError, Settings};
use retally_core::duration::number_and_unit;
use retally_core::time::SECOND;

/// A second in femtoseconds, the unit of tick intervals: a decimal of up to 15 places is exact.
pub const SECOND_FS: i128 = 1_000_000_000_000_000;
/// A femtosecond's share of a nanosecond.
pub const NANOSECOND_FS: i64 = 1_000_000;
/// No tick interval and no gap is longer than 100 days, whatever the settings.
const DURATION_SECONDS_MAX: i128 = 100 * 86_400;
/// Nobody has more teeth.
const TEETH_MAX: u32 = 65_536;

/// The rules of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Teeth are numbered from 0 up to this, exclusive.
    pub teeth: u32,
    /// No tick interval is longer: femtoseconds.
    pub tick_interval_max_fs: i128,
    /// What lies further ahead has to be confirmed by the next line: femtoseconds.
    pub gap_max_fs: i128,
    /// The zone of days.
    pub calendar: Calendar,
}

/// The settings, as declared.
pub fn settings() -> Vec<Setting> {
    let setting = |name, value, default, about| Setting { name, value, default: Some(default), about };
    vec![
        setting("timezone", "IANA", "UTC", "the zone of days"),
        setting("teeth", "N", "32", "teeth are numbered from 0 to N - 1"),
        setting("max-tick-interval", "DURATION", "60s", "a longer tick interval is out of range: 500ms, 60s, 5m"),
        setting(
            "max-gap",
            "DURATION",
            "1h",
            "a tick further ahead, or a time further from its tick, counts only if the next line goes on from it",
        ),
    ]
}

impl Rules {
    /// The rules under these settings.
    pub fn read(settings: &Settings) -> Result<Rules, SettingError> {
        let teeth: u32 = settings.parsed("teeth")?;
        if !(1..=TEETH_MAX).contains(&teeth) {
            return Err(settings.error("teeth", format!("is no number of teeth from 1 to {TEETH_MAX}")));
        }
        Ok(Rules {
            teeth,
            tick_interval_max_fs: duration_fs(settings, "max-tick-interval")?,
            gap_max_fs: duration_fs(settings, "max-gap")?,
            calendar: settings.calendar()?,
        })
    }
}

/// A duration in femtoseconds: a decimal number and a unit.
fn duration_fs(settings: &Settings, name: &str) -> Result<i128, SettingError> {
    let fs = number_and_unit(settings.text(name)).and_then(|(number, unit_micros)| {
        let fs_per_unit = crate::decimal::scaled(number.as_bytes(), 15)?.checked_mul(unit_micros.into())?;
        Some(fs_per_unit / i128::from(SECOND))
    });
    fs.filter(|fs| (1..=DURATION_SECONDS_MAX * SECOND_FS).contains(fs))
        .ok_or_else(|| settings.error(name, "is no duration such as 500ms, 60s or 1h, of 100 days at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_limit() {
        let read = |text: &str| duration_fs(&Settings::default().with("max-gap", text), "max-gap").map(|fs| fs / (SECOND_FS / 1_000)).ok();
        assert_eq!(["500ms", "1.5s", "2 m", "1h", "100d"].map(read), [500, 1_500, 120_000, 3_600_000, 8_640_000_000].map(Some));
        for text in ["", "5", "s", "-1s", "0s", "101d", "1.s", "1e3s", "1 week"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn there_are_teeth() {
        let read = |teeth: &str| Rules::read(&Settings::defaults(&settings()).with("teeth", teeth)).map(|rules| rules.teeth).ok();
        assert_eq!(["32", "1", "65536", "0", "65537", "-1", ""].map(read), [Some(32), Some(1), Some(65_536), None, None, None, None]);
    }
}
