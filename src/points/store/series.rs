//! What is stored of measurements and series: their names, and the numbers that stand for them in the keys of blocks.
//!
//! A measurement is stored as JSON under its name. Its fields are numbered by their place; new ones are put behind those that are there.
//! A series is stored under `["measurement",{"tag":"value",…}]`, tags by name, so that all series of a measurement are together.
//! Tags without a value are left out, as in the line protocol.

use super::{SERIES_BYTES_MAX, Store, StoreError};
use fjall::Readable;
use retally_core::points::{FieldKind, Measurement, Series};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A measurement as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMeasurement {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// The names of its tags, in the order in which they were declared.
    pub tags: Vec<String>,
    /// Its fields, in the order of their numbers.
    pub fields: Vec<StoredField>,
}

/// A field as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredField {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: StoredKind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredKind {
    /// Integers.
    Int,
    /// Floats.
    Float,
}

/// A series as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSeries {
    /// Its number.
    pub number: u64,
    /// Its tags by name.
    pub tags: BTreeMap<String, String>,
}

impl From<FieldKind> for StoredKind {
    fn from(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Int => StoredKind::Int,
            FieldKind::Float => StoredKind::Float,
        }
    }
}

impl StoredKind {
    fn name(self) -> &'static str {
        match self {
            StoredKind::Int => "integers",
            StoredKind::Float => "floats",
        }
    }
}

impl StoredMeasurement {
    /// What its fields hold, in the order of their numbers.
    pub fn kinds(&self) -> Vec<FieldKind> {
        let kind = |field: &StoredField| match field.kind {
            StoredKind::Int => FieldKind::Int,
            StoredKind::Float => FieldKind::Float,
        };
        self.fields.iter().map(kind).collect()
    }

    /// Adds what a declared measurement has and this has not. Returns whether there was something.
    pub fn extend(&mut self, declared: &Measurement) -> Result<bool, StoreError> {
        let before = self.tags.len() + self.fields.len();
        for tag in &declared.tags {
            if !self.tags.iter().any(|known| known == tag.name) {
                self.tags.push(tag.name.into());
            }
        }
        for field in &declared.fields {
            let kind = StoredKind::from(field.kind);
            match self.fields.iter().find(|known| known.name == field.name) {
                None => self.fields.push(StoredField { name: field.name.into(), kind }),
                Some(known) if known.kind == kind => {}
                Some(known) => {
                    return Err(StoreError::OtherKind {
                        measurement: declared.name.into(),
                        field: field.name.into(),
                        stored: known.kind.name(),
                        given: kind.name(),
                    });
                }
            }
        }
        Ok(before < self.tags.len() + self.fields.len())
    }

    /// The number of a field.
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// The key of a series.
pub fn series_key(series: &Series) -> Result<Vec<u8>, StoreError> {
    let names = series.measurement.tags.iter().map(|tag| tag.name);
    let tags = names.zip(series.tags.iter().map(String::as_str)).filter(|(_, value)| !value.is_empty());
    let key = key(series.measurement.name, &tags.collect());
    if key.len() > SERIES_BYTES_MAX { Err(StoreError::TagsTooLong { measurement: series.measurement.name.into() }) } else { Ok(key) }
}

/// The key of a series that is stored.
pub(super) fn stored_key(measurement: &str, tags: &BTreeMap<String, String>) -> Vec<u8> {
    key(measurement, &tags.iter().map(|(tag, value)| (tag.as_str(), value.as_str())).collect())
}

fn key(measurement: &str, tags: &BTreeMap<&str, &str>) -> Vec<u8> {
    // Text and maps of text can always be written.
    serde_json::to_vec(&(measurement, tags)).unwrap_or_default()
}

/// What the keys of all series of a measurement begin with.
fn prefix(measurement: &str) -> Vec<u8> {
    let mut key = key(measurement, &BTreeMap::new());
    key.truncate(key.len().saturating_sub("{}]".len()));
    key
}

impl Store {
    /// All measurements, by name.
    pub fn measurements(&self) -> Result<Vec<StoredMeasurement>, StoreError> {
        let mut measurements = Vec::new();
        for entry in self.tree.snapshot().iter(&self.measurements) {
            let (name, stored) = entry.into_inner().map_err(self.failed("read"))?;
            measurements.push(self.read_measurement(&String::from_utf8_lossy(&name), &stored)?);
        }
        Ok(measurements)
    }

    /// A measurement.
    pub fn measurement(&self, name: &str) -> Result<Option<StoredMeasurement>, StoreError> {
        let stored = self.measurements.get(name).map_err(self.failed("read"))?;
        stored.map(|stored| self.read_measurement(name, &stored)).transpose()
    }

    fn read_measurement(&self, name: &str, stored: &[u8]) -> Result<StoredMeasurement, StoreError> {
        let read = serde_json::from_slice::<StoredMeasurement>(stored);
        let measurement = read.map_err(|error| self.damaged(format!("measurement {name:?}: {error}")))?;
        Ok(StoredMeasurement { name: name.into(), ..measurement })
    }

    /// The series of a measurement that have all of these tags, by their tags.
    pub fn series(&self, measurement: &str, tags: &BTreeMap<String, String>) -> Result<Vec<StoredSeries>, StoreError> {
        let mut found = Vec::new();
        for entry in self.tree.snapshot().prefix(&self.series, prefix(measurement)) {
            let (key, number) = entry.into_inner().map_err(self.failed("read"))?;
            let read = serde_json::from_slice::<(String, BTreeMap<String, String>)>(&key).ok().zip(number.first_chunk());
            let ((_, known), number) = read.ok_or_else(|| self.damaged("a series"))?;
            if tags.iter().all(|(tag, value)| known.get(tag).map_or("", String::as_str) == value) {
                found.push(StoredSeries { number: u64::from_be_bytes(*number), tags: known });
            }
        }
        Ok(found)
    }

    /// Stores what a measurement declares, where it is not stored yet, and returns what is.
    pub(super) fn declare(&self, declared: &Measurement) -> Result<StoredMeasurement, StoreError> {
        let stored = self.measurement(declared.name)?;
        let mut stored = stored.unwrap_or_else(|| StoredMeasurement { name: declared.name.into(), tags: Vec::new(), fields: Vec::new() });
        if stored.extend(declared)? {
            let text = serde_json::to_vec(&stored).unwrap_or_default();
            self.measurements.insert(declared.name, text).map_err(self.failed("write"))?;
        }
        Ok(stored)
    }

    /// The number of the series with this key, which gets one where it has none: the one behind `last`, which is then the last.
    pub(super) fn number(&self, key: Vec<u8>, last: &mut u64) -> Result<u64, StoreError> {
        if let Some(number) = self.series.get(&key).map_err(self.failed("read"))? {
            return number.first_chunk().map(|number| u64::from_be_bytes(*number)).ok_or_else(|| self.damaged("a series"));
        }
        let number = *last + 1;
        let mut batch = self.tree.batch();
        batch.insert(&self.series, key, number.to_be_bytes());
        batch.insert(&self.series, LAST_NUMBER, number.to_be_bytes());
        batch.commit().map_err(self.failed("write"))?;
        *last = number;
        Ok(number)
    }

    /// The greatest number that a series has.
    pub(super) fn last_number(&self) -> Result<u64, StoreError> {
        let stored = self.series.get(LAST_NUMBER).map_err(self.failed("read"))?;
        Ok(stored.and_then(|number| number.first_chunk().copied()).map_or(0, u64::from_be_bytes))
    }
}

/// Where the last number is kept: no key of a series begins like this.
const LAST_NUMBER: &[u8] = b"last";
