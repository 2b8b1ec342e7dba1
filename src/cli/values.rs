//! What is understood by the values of flags: bytes and durations.

use retally_core::duration::number_and_unit;
use retally_core::time::{DAY, SECOND};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration in microseconds.
pub fn micros(text: &str) -> Option<i64> {
    number_and_unit(text).and_then(|(number, unit)| number.parse::<i64>().ok()?.checked_mul(unit))
}

/// What is within a range.
fn within(text: &str, range: RangeInclusive<i64>) -> Option<Duration> {
    let micros = micros(text).filter(|micros| range.contains(micros)).and_then(|micros| u64::try_from(micros).ok());
    micros.map(Duration::from_micros)
}

/// At least a second, and at most a day.
pub fn network_timeout(text: &str) -> Result<Duration, String> {
    within(text, SECOND..=DAY).ok_or_else(|| "give a duration from 1s to 1d, such as 90s or 5m".into())
}

/// Likewise.
pub fn join_timeout(text: &str) -> Result<Duration, String> {
    network_timeout(text)
}

/// At least a tenth of a second, and at most an hour.
pub fn heartbeat(text: &str) -> Result<Duration, String> {
    within(text, SECOND / 10..=DAY / 24).ok_or_else(|| "give a duration from 100ms to 1h, such as 500ms or 5s".into())
}

/// What is understood by a number of bytes: `64MiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("give a number of bytes, such as 64MiB or 4GiB".into()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|number| *number > 0);
    number.ok_or_else(|| "give a number of bytes, such as 64MiB or 4GiB".into())
}

/// None, or at most a minute.
pub fn batch_time(text: &str) -> Result<Duration, String> {
    let time = if text == "0" { Some(Duration::ZERO) } else { within(text, 0..=60 * SECOND) };
    time.ok_or_else(|| "give 0, or a duration up to 1m, such as 50ms".into())
}

/// What is understood by the time between exports: `15m`.
pub fn every(text: &str) -> Result<Duration, String> {
    time_kept(text).map(|micros| Duration::from_micros(micros.unsigned_abs()))
}

/// What is understood by a long time: `30d`.
pub fn time_kept(text: &str) -> Result<i64, String> {
    micros(text).filter(|micros| *micros > 0).ok_or_else(|| "give a duration, such as 12h or 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_cluster_have_ranges() {
        assert_eq!((heartbeat("100ms"), heartbeat("1h")), (Ok(Duration::from_millis(100)), Ok(Duration::from_secs(3600))));
        assert!(["99ms", "61m", "0s", "1"].into_iter().all(|wrong| heartbeat(wrong).is_err()));
        assert_eq!(join_timeout("1s"), Ok(Duration::from_secs(1)));
        assert!(["999ms", "25h"].into_iter().all(|wrong| join_timeout(wrong).is_err()));
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!((bytes("7"), bytes("64MiB"), bytes("2 GiB")), (Ok(7), Ok(64 << 20), Ok(2 << 30)));
        for wrong in ["", "0", "MiB", "1MB", "99999999999GiB", "-1"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
