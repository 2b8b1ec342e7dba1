//! What ids are: as an input declares them, or any text ([`crate::texts`]).

use crate::definition::{Setting, SettingError, Settings};
use crate::row::{ColumnType, TextId};

/// What ids are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// What the input declares: unsigned integers, or UUIDs.
    #[default]
    Declared,
    /// Any text.
    Text,
}

impl Ids {
    /// The name of the setting.
    pub const SETTING: &'static str = "ids";

    /// The setting of a dataflow whose ids are declared as unsigned integers.
    pub const NUMBERS: Setting = Setting {
        name: Ids::SETTING,
        value: "KIND",
        default: Some("number"),
        about: "number: ids are unsigned 64-bit integers; text: they are any text, such as serial numbers",
    };

    /// The setting of a dataflow whose ids are declared as UUIDs.
    pub const UUIDS: Setting = Setting {
        name: Ids::SETTING,
        value: "KIND",
        default: Some("uuid"),
        about: "uuid: ids are UUIDs; text: they are any text, such as serial numbers",
    };

    /// What the settings give for ids that are declared as this setting has it: [`Ids::NUMBERS`] or [`Ids::UUIDS`].
    ///
    /// # Errors
    /// The value is neither what the inputs declare nor `text`.
    pub fn of(settings: &Settings, declared: &Setting) -> Result<Ids, SettingError> {
        let declared = declared.default.unwrap_or_default();
        match settings.text(Ids::SETTING) {
            "text" => Ok(Ids::Text),
            kind if kind.is_empty() || kind == declared => Ok(Ids::Declared),
            _ => Err(settings.error(Ids::SETTING, format!("is neither {declared}, as the inputs declare ids, nor text"))),
        }
    }

    /// The type of a column with ids that are declared as integers.
    pub fn number(self) -> ColumnType {
        match self {
            Ids::Declared => ColumnType::Id,
            Ids::Text => ColumnType::TextId(TextId::Number),
        }
    }

    /// The type of a column with ids that are declared as UUIDs.
    pub fn uuid(self) -> ColumnType {
        match self {
            Ids::Declared => ColumnType::Uuid,
            Ids::Text => ColumnType::TextId(TextId::Uuid),
        }
    }
}
