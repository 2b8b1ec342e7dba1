//! A field of an input's records, as its dataflow declares it.

use std::borrow::Cow;

/// A field of an input record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in headers and JSON objects.
    pub name: &'static str,
    /// What it holds, in a few words.
    pub about: &'static str,
    /// Other names in JSON objects, where the ones before are not there or hold nothing: keys, or paths of keys.
    pub aliases: &'static [&'static str],
    /// Which records have it.
    pub presence: Presence,
    /// Whether its value in JSON is an object or a list, and not a single value.
    pub nested: bool,
    /// What it holds, where a mapping can say how that is written.
    pub holds: Holds,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A time, which has a format.
    Time,
    /// A truth value, for which there are words.
    Truth,
    /// A text that names something by itself: `017` is another one than `17`, whatever ids are.
    Text,
    /// Anything else.
    Other,
}

/// Which records have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// All.
    Always,
    /// Those that know it. That none does is more likely a name that is not known.
    Optional,
    /// Those of some kinds: none in a batch of others.
    OfSome,
}

impl Field {
    /// A field that every record has.
    pub const fn new(name: &'static str, about: &'static str) -> Field {
        Field { name, about, aliases: &[], presence: Presence::Always, nested: false, holds: Holds::Other }
    }

    /// A record may do without it; where none has it, people are told.
    #[must_use]
    pub const fn optional(self) -> Field {
        Field { presence: Presence::Optional, ..self }
    }

    /// Records of some kinds have it.
    #[must_use]
    pub const fn of_some(self) -> Field {
        Field { presence: Presence::OfSome, ..self }
    }

    /// It may stand under these names, too.
    #[must_use]
    pub const fn or(self, aliases: &'static [&'static str]) -> Field {
        Field { aliases, ..self }
    }

    /// It holds a time.
    #[must_use]
    pub const fn time(self) -> Field {
        Field { holds: Holds::Time, ..self }
    }

    /// It holds a text that names something by itself.
    #[must_use]
    pub const fn text(self) -> Field {
        Field { holds: Holds::Text, ..self }
    }

    /// It holds a truth value.
    #[must_use]
    pub const fn truth(self) -> Field {
        Field { holds: Holds::Truth, ..self }
    }

    /// Its value in JSON is an object or a list.
    #[must_use]
    pub const fn nested(self) -> Field {
        Field { nested: true, ..self }
    }
}

/// Why a record was refused: the text of the column `reason` of the table `rejected`.
pub type Refusal = Cow<'static, str>;
