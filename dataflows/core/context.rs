//! What the records of an input are read with.

use crate::calendar::Calendar;
use crate::field::Field;
use crate::keys::Keys;
use crate::mapping::Mapping;
use crate::noticed::Noticed;
use crate::texts::{Interner, Texts};
use std::sync::Arc;

/// What the records of an input are read with.
#[derive(Clone, Debug)]
pub struct Context {
    /// Local times are of this zone.
    pub calendar: Calendar,
    /// How fields are called and written.
    pub mapping: Mapping,
    /// What people should know of that was read.
    pub noticed: Noticed,
    pub(crate) keys: Keys,
    /// What makes ids of texts, where ids are texts.
    pub(crate) ids: Option<Interner>,
}

impl Context {
    /// For records of these fields, under their own names.
    pub fn new(calendar: Calendar, fields: &'static [Field]) -> Context {
        Context::mapped(calendar, fields, Mapping::default())
    }

    /// Whether a key of a JSON object names a field, or leads to one.
    pub fn knows(&self, key: &str) -> bool {
        self.keys.find(key).is_some()
    }

    /// For records of these fields, which are mapped.
    pub fn mapped(calendar: Calendar, fields: &'static [Field], mapping: Mapping) -> Context {
        let keys = Keys::new(fields, &mapping);
        Context { calendar, mapping, noticed: Noticed::default(), keys, ids: None }
    }

    /// Ids are any text, which is added to these.
    #[must_use]
    pub fn with_text_ids(self, texts: Arc<Texts>) -> Context {
        Context { ids: Some(Interner::new(texts, false)), ..self }
    }
}
