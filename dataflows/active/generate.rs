//! Realistic, messy input.
use retally_core::contract::*;
/// s
pub fn settings() -> Vec<Setting> {
    vec![]
}
/// g
pub fn generate(_: &Settings, _: &mut dyn Files) -> Result<(), GenerateError> {
    Ok(())
}
