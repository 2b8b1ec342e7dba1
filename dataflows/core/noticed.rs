//! What is noticed while records are read, for people to know of: it changes no record.

use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// The keys of so many objects of a split are looked at for names that are not known.
const OBJECTS_MAX: u32 = 1_000;
/// So many names are kept.
const KEYS_MAX: usize = 64;
/// Of so many bytes each.
const KEY_BYTES_MAX: usize = 64;

/// What is noticed, until it is taken.
#[derive(Clone, Debug, Default)]
pub struct Noticed {
    local_times: Cell<bool>,
    objects: Cell<u32>,
    fields: Cell<u64>,
    keys: RefCell<BTreeSet<String>>,
}

/// What was noticed in a split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Whether a time without an offset was read in the dataflow's zone.
    pub local_times: bool,
    /// Whether there were JSON objects.
    pub objects: bool,
    /// The fields that an object named, by place: bit 0 is the first one.
    pub fields: u64,
    /// Keys that name no field, some of them.
    pub keys: BTreeSet<String>,
}

impl Notice {
    /// Adds what was noticed in another split.
    pub fn add(&mut self, other: &Notice) {
        self.local_times |= other.local_times;
        self.objects |= other.objects;
        self.fields |= other.fields;
        let room = KEYS_MAX.saturating_sub(self.keys.len());
        self.keys.extend(other.keys.iter().take(room).cloned());
    }
}

impl Noticed {
    /// A time without an offset was read.
    pub fn local_time(&self) {
        self.local_times.set(true);
    }

    /// An object was read that names these fields.
    pub(crate) fn object(&self, fields: u64) {
        self.fields.set(self.fields.get() | fields);
        self.objects.set(self.objects.get().saturating_add(1));
    }

    /// A key that names no field.
    pub(crate) fn key(&self, key: &str) {
        if self.objects.get() < OBJECTS_MAX && key.len() <= KEY_BYTES_MAX {
            let mut keys = self.keys.borrow_mut();
            if keys.len() < KEYS_MAX && !keys.contains(key) {
                keys.insert(key.into());
            }
        }
    }

    /// Takes what was noticed since the last time.
    pub fn take(&self) -> Notice {
        Notice {
            local_times: self.local_times.take(),
            objects: self.objects.take() > 0,
            fields: self.fields.take(),
            keys: self.keys.take(),
        }
    }
}
