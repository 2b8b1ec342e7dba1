//! Realistic, messy input of any size: the logs of schools and their devices.
use retally_core::contract::{Files, GenerateError, Setting, Settings};
pub fn settings() -> Vec<Setting> {
    vec![]
}
pub fn generate(_: &Settings, _: &mut dyn Files) -> Result<(), GenerateError> {
    Ok(())
}
