//! What generators of input share: how their options are named and read.

use crate::definition::{Setting, SettingError, Settings};

/// An option of a generator with a default.
pub fn option(name: &'static str, value: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting { name, value, default: Some(default), about }
}

/// The value of an option that is a share.
///
/// # Errors
/// The value is not a number from 0 to 1.
pub fn share(options: &Settings, name: &str) -> Result<f64, SettingError> {
    let share = options.parsed(name)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(options.error(name, "is no share from 0 to 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_0_to_1() {
        let options = Settings::defaults(&[option("mess", "SHARE", "0.03", "the share of events that are wrong")]);
        assert_eq!(share(&options, "mess").ok(), Some(0.03));
        for (text, value) in [("0", Some(0.0)), ("1", Some(1.0)), ("1.1", None), ("-0.1", None), ("NaN", None), ("few", None)] {
            assert_eq!(share(&options.clone().with("mess", text), "mess").ok(), value, "{text}");
        }
    }
}
